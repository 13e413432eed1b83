//! Compaction through the real binary: `physical` waits for the disk, a killed node goes on where it was, and a node
//! that is told to compacts by itself.

#![cfg(feature = "rocksdb")]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod node;

use std::path::Path;
use std::time::{Duration, Instant};

use client::{Client, Code, Keys};
use node::{Node, http};
use proto::etcd::etcdserverpb::{CompactionRequest, RangeRequest};
use store::engine::rocks::{RocksEngine, RocksOptions};
use store::engine::{Family, StateEngine, Step};
use store::{layout, snapshot};
use tonic::Request;

async fn connect(node: &Node) -> Client {
    client::connect(format!("http://{}", node.endpoint))
        .await
        .unwrap()
}

/// Keys that are put, put again, deleted, and deleted and put again. Answers the newest revision.
async fn history(client: &Client) -> i64 {
    for round in 0..3 {
        for key in 0..20 {
            client
                .put(format!("k{key:02}"), format!("{round}"))
                .await
                .unwrap();
        }
        client.delete(Keys::prefix("k1")).await.unwrap();
    }
    client.put("last", "1").await.unwrap()
}

fn physical(revision: i64) -> CompactionRequest {
    CompactionRequest {
        revision,
        physical: true,
    }
}

/// What a stopped node has on its disk: tombstones and changes before a revision, and the revision it compacted to.
struct Disk {
    tombstones: usize,
    changes: usize,
    compacted: i64,
}

fn disk(data: &Path, before: i64) -> Disk {
    let engine = RocksEngine::open(&data.join("member/db"), &RocksOptions::default()).unwrap();
    let (mut tombstones, mut changes) = (0, 0);
    engine
        .scan(Family::Kv, &[], None, &mut |key, value, _| {
            let revision = layout::split_kv_key(key).unwrap().mod_revision;
            let is_delete = layout::kv_op(value).unwrap() == layout::Op::Delete;
            tombstones += usize::from(is_delete && revision < before);
            Step::Next
        })
        .unwrap();
    engine
        .scan(Family::Log, &[], None, &mut |key, _, _| {
            changes += usize::from(layout::log_key(key).unwrap().0 < before);
            Step::Next
        })
        .unwrap();
    let compacted = snapshot::durable(&engine)
        .unwrap()
        .unwrap()
        .compact_revision;
    Disk {
        tombstones,
        changes,
        compacted,
    }
}

async fn is_compacted(client: &Client, revision: i64) -> bool {
    let request = RangeRequest {
        key: "k00".into(),
        revision,
        ..RangeRequest::default()
    };
    let answer = client.kv().range(request).await;
    answer.is_err_and(|status| status.code() == Code::OutOfRange)
}

/// A metric without labels.
fn metric(node: &Node, name: &str) -> i64 {
    let text = http::get(&node.endpoint, "/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn what_was_compacted_physically_is_gone_from_the_disk_when_the_answer_comes() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(data.path());
    let client = connect(&node).await;
    let newest = history(&client).await;
    client.kv().compact(physical(newest - 1)).await.unwrap();
    assert_eq!(metric(&node, "holdfast_compaction_horizon"), newest - 1);
    assert_eq!(metric(&node, "holdfast_compaction_swept"), newest - 1);
    assert!(metric(&node, "etcd_debugging_mvcc_db_compaction_keys_total") > 30);
    // Nothing but what was durable by then.
    node.kill();
    let disk = disk(data.path(), newest - 1);
    assert_eq!((disk.tombstones, disk.changes), (0, 0));
    assert_eq!(disk.compacted, newest - 1);
}

#[tokio::test]
async fn a_killed_node_goes_on_with_the_sweep() {
    let data = tempfile::tempdir().unwrap();
    let slow = [
        "--compaction-batch-limit=1",
        "--compaction-sleep-interval=1s",
    ];
    let node = Node::start_with(data.path(), &slow);
    let client = connect(&node).await;
    let newest = history(&client).await;
    let mut kv = client.kv();
    let mut request = Request::new(physical(newest));
    request.set_timeout(Duration::from_millis(700));
    let late = kv.compact(request).await.unwrap_err();
    assert!(matches!(
        late.code(),
        Code::DeadlineExceeded | Code::Cancelled
    ));
    assert!(is_compacted(&client, newest - 1).await);
    // The horizon follows once the compaction is on the disk.
    let until = Instant::now() + Duration::from_secs(20);
    while metric(&node, "holdfast_compaction_horizon") < newest {
        assert!(Instant::now() < until, "the horizon does not follow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(metric(&node, "holdfast_compaction_swept") < newest);
    node.kill();
    assert!(disk(data.path(), newest).changes > 0);
    let node = Node::start(data.path());
    let until = Instant::now() + Duration::from_secs(20);
    while metric(&node, "holdfast_compaction_swept") < newest {
        assert!(Instant::now() < until, "the sweep does not go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let client = connect(&node).await;
    assert!(is_compacted(&client, newest - 1).await);
    assert!(!is_compacted(&client, newest).await);
    assert!(node.terminate().success());
    let disk = disk(data.path(), newest);
    assert_eq!((disk.tombstones, disk.changes), (0, 0));
}

#[tokio::test]
async fn a_node_compacts_by_itself_what_is_older_than_it_was_told_to_keep() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start_with(data.path(), &["--auto-compaction-retention=1s"]);
    let client = connect(&node).await;
    let began = Instant::now();
    let newest = history(&client).await;
    let until = began + Duration::from_secs(20);
    while !is_compacted(&client, newest - 1).await {
        assert!(Instant::now() < until, "nothing is compacted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert!(!is_compacted(&client, newest).await);
}
