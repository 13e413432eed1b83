//! `HashKV` is etcd's, bit for bit: the same random commands to the real etcd and to the real binary.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::Client;
use node::Node;
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, HashKvRequest, HashRequest, PutRequest, RequestOp,
    TxnRequest,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Random commands of the comparison.
const STEPS: usize = 1_500;

/// A real etcd on a folder of its own; killed when dropped.
struct Etcd {
    endpoint: String,
    child: Child,
}

impl Etcd {
    async fn start(data_dir: &Path) -> (Self, Client) {
        let endpoint = format!("127.0.0.1:{}", node::free_port());
        let (url, peer) = (
            format!("http://{endpoint}"),
            format!("http://127.0.0.1:{}", node::free_port()),
        );
        let child = Command::new(node::etcdctl().with_file_name("etcd"))
            .arg("--data-dir")
            .arg(data_dir)
            .args([
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--unsafe-no-fsync", "--log-level", "fatal"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let etcd = Self { endpoint, child };
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Ok(client) = client::connect(etcd.endpoint.clone()).await
                && client.get("any").await.is_ok()
            {
                return (etcd, client);
            }
            assert!(Instant::now() < deadline, "etcd does not serve");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What both servers must agree on.
#[derive(Debug, PartialEq)]
enum Seen {
    Revision(i64),
    Hash {
        hash: u32,
        compact_revision: i64,
        hash_revision: i64,
        revision: i64,
    },
    Error(String),
}

/// A random change; a key is written once at most in each transaction.
#[derive(Clone)]
enum Step {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(i64),
    Hash(i64),
}

fn key(number: u32) -> bytes::Bytes {
    format!("key/{number:02}").into()
}

fn random_put(random: &mut StdRng, number: u32) -> PutRequest {
    let len = *[0, 1, 20, 127, 128, 300, 20_000]
        .get(random.random_range(0..7))
        .unwrap();
    PutRequest {
        key: key(number),
        value: vec![random.random(); len].into(),
        ..Default::default()
    }
}

fn random_delete(random: &mut StdRng, from: u32) -> DeleteRangeRequest {
    let range_end = match random.random_range(0..8) {
        0 => vec![0].into(),
        1 => key(from + random.random_range(1..6)),
        _ => bytes::Bytes::new(),
    };
    DeleteRangeRequest {
        key: key(from),
        range_end,
        ..Default::default()
    }
}

fn random_step(random: &mut StdRng, (compacted, current): (i64, i64)) -> Step {
    match random.random_range(0..100) {
        0..35 => {
            let number = random.random_range(0..20);
            Step::Put(random_put(random, number))
        }
        35..50 => {
            let from = random.random_range(0..20);
            Step::Delete(random_delete(random, from))
        }
        50..65 => {
            let mut success = Vec::new();
            for number in 0..20 {
                let request = match random.random_range(0..12) {
                    0 => Request::RequestPut(random_put(random, number)),
                    1 => Request::RequestDeleteRange(DeleteRangeRequest {
                        key: key(number),
                        ..Default::default()
                    }),
                    _ => continue,
                };
                success.push(RequestOp {
                    request: Some(request),
                });
            }
            Step::Txn(TxnRequest {
                success,
                ..Default::default()
            })
        }
        65..70 => Step::Compact(random.random_range(compacted.max(0)..=current + 1)),
        _ => Step::Hash(match random.random_range(0..6) {
            0 => 0,
            1 => -random.random_range(1..9),
            2 => current + random.random_range(0..2),
            _ => random.random_range(compacted.max(1) - 1..=current),
        }),
    }
}

async fn take(client: &Client, step: &Step) -> Seen {
    let seen = match step.clone() {
        Step::Put(request) => client
            .kv()
            .put(request)
            .await
            .map(|answer| answer.into_inner().header),
        Step::Delete(request) => client
            .kv()
            .delete_range(request)
            .await
            .map(|answer| answer.into_inner().header),
        Step::Txn(request) => client
            .kv()
            .txn(request)
            .await
            .map(|answer| answer.into_inner().header),
        Step::Compact(revision) => {
            let request = CompactionRequest {
                revision,
                physical: true,
            };
            client
                .kv()
                .compact(request)
                .await
                .map(|answer| answer.into_inner().header)
        }
        Step::Hash(revision) => match client
            .maintenance()
            .hash_kv(HashKvRequest { revision })
            .await
        {
            Ok(answer) => {
                let answer = answer.into_inner();
                return Seen::Hash {
                    hash: answer.hash,
                    compact_revision: answer.compact_revision,
                    hash_revision: answer.hash_revision,
                    revision: answer.header.unwrap().revision,
                };
            }
            Err(status) => Err(status),
        },
    };
    match seen {
        Ok(header) => Seen::Revision(header.unwrap().revision),
        Err(status) => Seen::Error(format!("{:?} {}", status.code(), status.message())),
    }
}

#[tokio::test]
async fn hash_kv_is_etcds_after_any_commands() {
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    eprintln!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("holdfast"));
    let ours = client::connect(node.endpoint.clone()).await.unwrap();
    let (etcd, theirs) = Etcd::start(&folder.path().join("etcd")).await;

    // etcd remembers the hashes that its compactions made, computed by the compaction before, and answers their
    // revisions with them until it restarts, even when they are compacted. Those revisions are compared afterwards.
    let mut remembered = Vec::new();
    let (mut compacted, mut current) = (-1, 1);
    let mut hashes = 0;
    for number in 0..STEPS {
        let step = random_step(&mut random, (compacted, current));
        if let Step::Hash(revision) = step
            && remembered.contains(&revision)
        {
            continue;
        }
        let (our, their) = (take(&ours, &step).await, take(&theirs, &step).await);
        assert_eq!(our, their, "step {number}, SEED={seed}");
        match (step, our) {
            (Step::Compact(revision), Seen::Revision(_)) => {
                compacted = revision;
                remembered.push(revision);
            }
            (_, Seen::Revision(revision)) => current = revision,
            (_, Seen::Hash { .. }) => hashes += 1,
            (_, Seen::Error(_)) => {}
        }
    }
    assert!(hashes > STEPS / 10, "{hashes} hashes were compared");

    drop(etcd);
    let (_etcd, theirs) = Etcd::start(&folder.path().join("etcd")).await;
    for revision in compacted.max(1) - 1..=current + 1 {
        let step = Step::Hash(revision);
        let (our, their) = (take(&ours, &step).await, take(&theirs, &step).await);
        assert_eq!(
            our, their,
            "revision {revision} after a restart, SEED={seed}"
        );
    }
}

#[tokio::test]
async fn a_store_without_live_keys_hashes_as_etcds_does() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("holdfast"));
    let ours = client::connect(node.endpoint.clone()).await.unwrap();
    let (_etcd, theirs) = Etcd::start(&folder.path().join("etcd")).await;
    let put = |number| {
        Step::Put(PutRequest {
            key: key(number),
            value: "value".into(),
            ..Default::default()
        })
    };
    let delete = |number, range_end: &'static [u8]| {
        Step::Delete(DeleteRangeRequest {
            key: key(number),
            range_end: range_end.into(),
            ..Default::default()
        })
    };
    let steps = [
        // Nothing at all, then 2, 3 and 4: a key, another one, and the first one's tombstone.
        put(1),
        put(2),
        delete(1, b""),
        Step::Compact(4),
        // 5: the other one's, so that nothing is live behind a version that a compaction kept.
        delete(2, b""),
        put(3),
        delete(0, b"\0"),
        Step::Compact(6),
    ];
    for (number, step) in steps.iter().enumerate() {
        for revision in 0..9 {
            // The rest etcd remembers from its compactions.
            if revision == 4 || revision == 6 {
                continue;
            }
            let step = Step::Hash(revision);
            let (our, their) = (take(&ours, &step).await, take(&theirs, &step).await);
            assert_eq!(our, their, "before step {number}, revision {revision}");
        }
        assert_eq!(
            take(&ours, step).await,
            take(&theirs, step).await,
            "step {number}"
        );
    }
}

#[tokio::test]
async fn hash_tells_states_apart_and_etcdctl_prints_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    let client = client::connect(node.endpoint.clone()).await.unwrap();
    let hash = async || {
        let answer = client.maintenance().hash(HashRequest {}).await.unwrap();
        answer.into_inner().hash
    };
    let empty = hash().await;
    assert_eq!(hash().await, empty);
    client.put("key", "value").await.unwrap();
    assert_ne!(hash().await, empty);

    let request = HashKvRequest { revision: 0 };
    let answer = client.maintenance().hash_kv(request).await.unwrap();
    let output = Command::new(node::etcdctl())
        .args(["--endpoints", &node.endpoint, "endpoint", "hashkv"])
        .output()
        .unwrap();
    let expected = format!("{}, {}, 2\n", node.endpoint, answer.into_inner().hash);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}
