//! The quota through gRPC: exceeded, the alarm raised, room made, the alarm cleared, and writes again.

mod node;

use client::{Client, Code, Status};
use node::Node;
use proto::etcd::etcdserverpb::alarm_request::AlarmAction;
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, DefragmentRequest, DeleteRangeRequest,
    PutRequest, RangeRequest, RequestOp, StatusRequest, StatusResponse, TxnRequest,
};

const QUOTA: i64 = 24 << 20;
const VALUE: usize = 512 << 10;

async fn start(quota: i64) -> (tempfile::TempDir, Node, Client) {
    let folder = tempfile::tempdir().expect("a folder");
    let quota = quota.to_string();
    let flags = ["--quota-backend-bytes", &quota];
    let node = Node::start_with(&folder.path().join("data"), &flags);
    let client = client::connect(node.endpoint.clone())
        .await
        .expect("the node serves");
    (folder, node, client)
}

/// A put of bytes that do not compress.
fn put(key: &str, bytes: usize) -> PutRequest {
    let value: Vec<u8> = (0..bytes).map(|_| rand::random()).collect();
    PutRequest {
        key: key.to_owned().into(),
        value: value.into(),
        ..Default::default()
    }
}

async fn status(client: &Client) -> StatusResponse {
    let status = client.maintenance().status(StatusRequest {}).await;
    status.expect("a status").into_inner()
}

async fn alarms(client: &Client) -> Vec<AlarmMember> {
    let answer = client.maintenance().alarm(AlarmRequest::default()).await;
    answer.expect("a list").into_inner().alarms
}

fn assert_no_space<T: std::fmt::Debug>(result: Result<T, Status>) {
    let status = result.expect_err("no space");
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded"
        )
    );
}

/// Puts until there is no space; how many were accepted.
async fn fill(client: &Client, keys: &str) -> i64 {
    for count in 0..1000 {
        match client
            .kv()
            .put(put(&format!("{keys}{}", count % 4), VALUE))
            .await
        {
            Ok(_) => {}
            refused => {
                assert_no_space(refused);
                return count;
            }
        }
    }
    panic!("the quota is not obeyed");
}

async fn disarm(client: &Client) {
    for alarm in alarms(client).await {
        let request = AlarmRequest {
            action: AlarmAction::Deactivate as i32,
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        let answer = client.maintenance().alarm(request).await;
        assert_eq!(answer.expect("cleared").into_inner().alarms, [alarm]);
    }
}

/// The size of a full database, about its quota: memtables that are being flushed count until their files do, and take
/// more than what is in them.
async fn settled(client: &Client) -> StatusResponse {
    let since = std::time::Instant::now();
    loop {
        let status = status(client).await;
        if status.db_size < QUOTA + QUOTA / 8 {
            return status;
        }
        assert!(since.elapsed().as_secs() < 20, "dbSize stays: {status:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_full_database_refuses_puts_until_room_is_made_and_the_alarm_cleared() {
    let (folder, node, client) = start(QUOTA).await;
    let empty = status(&client).await;
    assert_eq!(empty.db_size_quota, QUOTA);
    assert!(empty.db_size < QUOTA / 2, "{empty:?}");
    let accepted = fill(&client, "a").await;
    let full = settled(&client).await;
    eprintln!(
        "{accepted} puts of {VALUE} bytes: {} of {} bytes, {} in use",
        full.db_size, full.db_size_quota, full.db_size_in_use
    );
    // As much as fits, and not much more.
    let bytes = accepted * VALUE as i64;
    assert!((QUOTA / 2..=QUOTA).contains(&bytes), "{bytes}");
    assert!(full.db_size_in_use <= full.db_size);

    let member_id = full.header.as_ref().expect("a header").member_id;
    let raised = AlarmMember {
        member_id,
        alarm: AlarmType::Nospace as i32,
    };
    assert_eq!(alarms(&client).await, [raised], "raised by the refusal");
    assert_eq!(full.errors, [format!("memberID:{member_id} alarm:NOSPACE")]);

    // What adds is refused, however little; everything else works.
    let mut kv = client.kv();
    assert_no_space(kv.put(put("tiny", 1)).await);
    let op = |request| RequestOp {
        request: Some(request),
    };
    let branch = TxnRequest {
        success: vec![op(Request::RequestRange(RangeRequest {
            key: "a0".into(),
            ..Default::default()
        }))],
        failure: vec![op(Request::RequestPut(put("tiny", 1)))],
        ..Default::default()
    };
    assert_no_space(kv.txn(branch.clone()).await);
    let read_only = TxnRequest {
        failure: Vec::new(),
        ..branch
    };
    kv.txn(read_only).await.expect("reads");
    let delete = DeleteRangeRequest {
        key: "a0".into(),
        ..Default::default()
    };
    let deleted = kv.delete_range(delete).await.expect("deletes").into_inner();
    assert_eq!(deleted.deleted, 1);

    // etcd's way back: compact, defragment, disarm.
    let revision = deleted.header.expect("a header").revision;
    let compaction = CompactionRequest {
        revision,
        physical: true,
    };
    kv.compact(compaction).await.expect("compacts");
    let answer = client.maintenance().defragment(DefragmentRequest {}).await;
    assert_eq!(answer.expect("defragments").into_inner().header, None);
    let freed = status(&client).await;
    eprintln!("after defragmentation: {}", freed.db_size);
    assert!(freed.db_size < full.db_size / 2, "{freed:?}");
    assert_no_space(kv.put(put("tiny", 1)).await);
    assert_eq!(alarms(&client).await, [raised], "it never clears itself");
    disarm(&client).await;
    kv.put(put("tiny", 1)).await.expect("there is room again");

    // Again, and over a restart.
    fill(&client, "b").await;
    drop((client, kv));
    assert!(node.terminate().success());
    let quota = QUOTA.to_string();
    let flags = ["--quota-backend-bytes", &quota];
    let node = Node::start_with(&folder.path().join("data"), &flags);
    let client = client::connect(node.endpoint.clone())
        .await
        .expect("serves");
    assert_eq!(alarms(&client).await, [raised]);
    assert_no_space(client.kv().put(put("tiny", 1)).await);

    // A larger quota is the other way out.
    drop(client);
    assert!(node.terminate().success());
    let flags = ["--quota-backend-bytes", "1073741824"];
    let node = Node::start_with(&folder.path().join("data"), &flags);
    let client = client::connect(node.endpoint.clone())
        .await
        .expect("serves");
    assert_no_space(client.kv().put(put("tiny", 1)).await);
    disarm(&client).await;
    client.kv().put(put("tiny", 1)).await.expect("room");
}

#[tokio::test]
async fn disarming_a_database_that_is_still_full_only_raises_the_alarm_again() {
    let (_folder, _node, client) = start(QUOTA).await;
    fill(&client, "a").await;
    disarm(&client).await;
    assert_eq!(alarms(&client).await, []);
    assert_no_space(client.kv().put(put("b", VALUE)).await);
    assert_eq!(alarms(&client).await.len(), 1);
}

#[tokio::test]
async fn many_writers_at_once_do_not_run_past_the_quota() {
    let (_folder, mut node, client) = start(QUOTA).await;
    let writers = (0..16).map(|writer| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut accepted = 0;
            for count in 0..1000 {
                let result = client
                    .kv()
                    .put(put(&format!("{writer}/{count}"), 64 << 10))
                    .await;
                match result {
                    Ok(_) => accepted += 64 << 10,
                    refused => {
                        assert_no_space(refused);
                        break;
                    }
                }
            }
            accepted
        })
    });
    let mut accepted: i64 = 0;
    for writer in writers.collect::<Vec<_>>() {
        accepted += writer.await.expect("a writer");
    }
    eprintln!("{accepted} bytes of {QUOTA} accepted");
    assert!((QUOTA / 4..=QUOTA).contains(&accepted), "{accepted}");
    settled(&client).await;
    assert_eq!(alarms(&client).await.len(), 1);
    node.wait_for_log("the database has reached its quota");
    let told = node.logged("the database has reached its quota");
    assert_eq!(told.len(), 1, "once, whoever was refused: {told:#?}");
}

#[tokio::test]
async fn a_negative_quota_is_none() {
    let (_folder, _node, client) = start(-1).await;
    for count in 0..8 {
        let put = put(&format!("a{count}"), 1 << 20);
        client.kv().put(put).await.expect("no limit");
    }
    assert_eq!(status(&client).await.db_size_quota, -1);
    assert_eq!(alarms(&client).await, []);
}
