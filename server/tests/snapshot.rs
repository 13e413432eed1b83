//! From etcd to Holdfast and back, by files: the same answers at every revision, the same hashes, the same events.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use client::{Client, Keys};
use node::Node;
use node::real::{Etcd, check_version, peer_url, says};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, HashKvRequest, PutRequest, RangeRequest, RequestOp,
    SnapshotRequest, TxnRequest,
};
use proto::etcd::mvccpb::{Event, KeyValue};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

fn seeded() -> StdRng {
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    eprintln!("SEED={seed}");
    StdRng::seed_from_u64(seed)
}

fn holdfast(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.arg("snapshot").args(arguments).output().unwrap()
}

/// It must have succeeded; what it said on both outputs.
fn succeeds(arguments: &[&str]) -> (String, String) {
    let output = holdfast(arguments);
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{arguments:?}: {err}");
    (out, err)
}

/// It must have failed; what it complained.
fn fails(arguments: &[&str]) -> String {
    let output = holdfast(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn random_key(random: &mut StdRng) -> Bytes {
    match random.random_range(0..30) {
        0 => vec![0].into(),
        1 => vec![0xff, 0, 0xff].into(),
        2 => vec![b'k', 0].into(),
        number => format!("k{number:02}").into(),
    }
}

fn random_put(random: &mut StdRng, key: Bytes) -> PutRequest {
    // The longest ones need many overflow pages.
    let longest = [1, 100, 100, 5_000, 60_000][random.random_range(0..5)];
    let len = random.random_range(0..longest);
    PutRequest {
        key,
        value: vec![random.random(); len].into(),
        ..PutRequest::default()
    }
}

/// Puts, overwrites, deletions and transactions at random, with a compaction in the middle of them.
async fn fill(client: &Client, random: &mut StdRng, steps: usize) {
    let mut kv = client.kv();
    let mut revision = 1;
    for step in 0..steps {
        let header = match random.random_range(0..10) {
            0..6 => {
                let key = random_key(random);
                kv.put(random_put(random, key))
                    .await
                    .unwrap()
                    .into_inner()
                    .header
            }
            6..8 => {
                let request = DeleteRangeRequest {
                    key: random_key(random),
                    range_end: if random.random_bool(0.2) {
                        random_key(random)
                    } else {
                        Bytes::new()
                    },
                    ..DeleteRangeRequest::default()
                };
                kv.delete_range(request).await.unwrap().into_inner().header
            }
            _ => {
                let mut keys: Vec<_> = (0..6).map(|_| random_key(random)).collect();
                keys.sort_unstable();
                keys.dedup();
                let ops = keys.into_iter().map(|key| match random.random_bool(0.7) {
                    true => Request::RequestPut(random_put(random, key)),
                    false => Request::RequestDeleteRange(DeleteRangeRequest {
                        key,
                        ..Default::default()
                    }),
                });
                let success = ops.map(|op| RequestOp { request: Some(op) }).collect();
                let request = TxnRequest {
                    success,
                    ..TxnRequest::default()
                };
                kv.txn(request).await.unwrap().into_inner().header
            }
        };
        revision = header.unwrap().revision;
        if step == steps / 2 {
            let request = CompactionRequest {
                revision: revision - revision / 3,
                physical: true,
            };
            kv.compact(request).await.unwrap();
        }
    }
    assert!(revision > 20);
}

/// Everything that a server can be asked about its keys, at and above its compacted revision.
#[derive(Debug, PartialEq)]
struct Answers {
    revision: i64,
    compacted: i64,
    states: Vec<Vec<KeyValue>>,
    hashes: Vec<u32>,
    events: Vec<Event>,
    /// The refusal just below.
    below: String,
}

async fn answers(client: &Client) -> Answers {
    let hash = async |revision| {
        let request = HashKvRequest { revision };
        client
            .maintenance()
            .hash_kv(request)
            .await
            .unwrap()
            .into_inner()
    };
    let newest = hash(0).await;
    let (revision, compacted) = (newest.hash_revision, newest.compact_revision);
    let all = |revision| RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        revision,
        ..RangeRequest::default()
    };
    let (mut states, mut hashes) = (Vec::new(), Vec::new());
    for at in compacted.max(1)..=revision {
        states.push(client.kv().range(all(at)).await.unwrap().into_inner().kvs);
        // The hash at the compacted revision is one that etcd may have kept from its compaction.
        if at > compacted {
            hashes.push(hash(at).await.hash);
        }
    }
    let below = match client.kv().range(all(compacted - 1)).await {
        Ok(_) => String::new(),
        Err(status) => status.message().to_owned(),
    };
    let mut watch = client
        .watch(Keys::all(), (compacted.max(0) + 1).into())
        .await
        .unwrap();
    let mut events = Vec::new();
    while events
        .last()
        .is_none_or(|event: &Event| event.kv.as_ref().unwrap().mod_revision < revision)
    {
        let next = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
        let batch = next.unwrap_or_else(|_| panic!("no events after {:?}", events.last()));
        events.extend(batch.unwrap().unwrap().events);
    }
    Answers {
        revision,
        compacted,
        states,
        hashes,
        events,
        below,
    }
}

fn save(endpoint: &str, file: &Path) {
    says(
        "etcdctl",
        &["--endpoints", endpoint, "snapshot", "save", text(file)],
    );
}

/// Both tools say the same of a file.
fn same_status(file: &Path) {
    for format in ["simple", "table", "json", "fields"] {
        let arguments = ["snapshot", "status", text(file), "-w", format];
        assert_eq!(succeeds(&arguments[1..]).0, says("etcdutl", &arguments));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_move_from_etcd_to_holdfast_and_back() {
    check_version();
    let mut random = seeded();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let peer = peer_url();
    let etcd = Etcd::start_on(&path("etcd"), &peer, &["--unsafe-no-fsync"]);
    let theirs = client::connect(etcd.endpoint.clone()).await.unwrap();
    fill(&theirs, &mut random, 150).await;
    let expected = answers(&theirs).await;
    save(&etcd.endpoint, &path("from-etcd.db"));
    same_status(&path("from-etcd.db"));
    drop(etcd);

    // Into Holdfast, by the snapshot and by the bare database of the stopped etcd.
    let (data, bare) = (path("holdfast"), path("bare"));
    let (_, said) = succeeds(&[
        "restore",
        text(&path("from-etcd.db")),
        "--data-dir",
        text(&data),
    ]);
    assert!(
        said.contains(&format!("at revision {}", expected.revision)),
        "{said}"
    );
    let database = path("etcd/member/snap/db");
    same_status(&database);
    let complaint = fails(&["restore", text(&database), "--data-dir", text(&bare)]);
    assert!(
        complaint.contains("--skip-hash-check") && !bare.exists(),
        "{complaint}"
    );
    succeeds(&[
        "restore",
        text(&database),
        "--data-dir",
        text(&bare),
        "--skip-hash-check",
    ]);
    for data in [&bare, &data] {
        let node = Node::start(data);
        let ours = client::connect(node.endpoint.clone()).await.unwrap();
        assert_eq!(answers(&ours).await, expected);
        assert!(node.terminate().success());
    }

    // It takes writes, and has them after a restart; a kill does not take back what was restored.
    let node = Node::start(&data);
    let ours = client::connect(node.endpoint.clone()).await.unwrap();
    assert_eq!(
        ours.put("moved", "in").await.unwrap(),
        expected.revision + 1
    );
    fill(&ours, &mut random, 40).await;
    node.kill();
    let node = Node::start(&data);
    let ours = client::connect(node.endpoint.clone()).await.unwrap();
    let expected = answers(&ours).await;

    // And back, into a new etcd that goes on from there.
    save(&node.endpoint, &path("from-holdfast.db"));
    let ours_saved = path("by-holdfast.db");
    succeeds(&["save", text(&ours_saved), "--endpoints", &node.endpoint]);
    for file in [path("from-holdfast.db"), ours_saved] {
        same_status(&file);
        let file = fs::read(file).unwrap();
        assert_eq!(file.len() % 512, 32);
        let (database, digest) = file.split_at(file.len() - 32);
        assert_eq!(Sha256::digest(database)[..], *digest);
    }
    let again = path("etcd-again");
    let member = format!("default={peer}");
    says(
        "etcdutl",
        &[
            "snapshot",
            "restore",
            text(&path("from-holdfast.db")),
            "--data-dir",
            text(&again),
            "--initial-cluster",
            &member,
            "--initial-advertise-peer-urls",
            &peer,
        ],
    );
    let etcd = Etcd::start_on(&again, &peer, &["--unsafe-no-fsync"]);
    let theirs = client::connect(etcd.endpoint.clone()).await.unwrap();
    assert_eq!(answers(&theirs).await, expected);
    assert_eq!(
        theirs.put("moved", "out").await.unwrap(),
        expected.revision + 1
    );
    // etcd frees and reuses pages of the file that we made.
    fill(&theirs, &mut random, 100).await;
    let expected = answers(&theirs).await;
    says("etcdctl", &["--endpoints", &etcd.endpoint, "defrag"]);
    save(&etcd.endpoint, &path("third.db"));
    says("etcdutl", &["snapshot", "status", text(&path("third.db"))]);
    drop(etcd);
    let etcd = Etcd::start_on(&again, &peer, &["--unsafe-no-fsync"]);
    let theirs = client::connect(etcd.endpoint.clone()).await.unwrap();
    assert_eq!(answers(&theirs).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_moves_between_nodes_and_a_raised_revision_hides_the_past() {
    let mut random = seeded();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let node = Node::start(&path("first"));
    let first = client::connect(node.endpoint.clone()).await.unwrap();
    fill(&first, &mut random, 100).await;
    let expected = answers(&first).await;
    let file = path("file.db");
    save(&node.endpoint, &file);
    drop(node);

    succeeds(&["restore", text(&file), "--data-dir", text(&path("second"))]);
    let node = Node::start(&path("second"));
    let second = client::connect(node.endpoint.clone()).await.unwrap();
    assert_eq!(answers(&second).await, expected);
    drop(node);

    let wal = path("log elsewhere");
    let raised = path("raised");
    succeeds(&[
        "restore",
        text(&file),
        "--data-dir",
        text(&raised),
        "--wal-dir",
        text(&wal),
        "--bump-revision",
        "1000000",
        "--mark-compacted",
        "--name",
        "m",
        "--initial-cluster",
        "m=http://10.0.0.1:2380",
        "--initial-advertise-peer-urls",
        "http://10.0.0.1:2380",
        "--initial-cluster-token",
        "other",
    ]);
    let node = Node::start_with(&raised, &["--wal-dir", text(&wal)]);
    let third = client::connect(node.endpoint.clone()).await.unwrap();
    let found = answers_at_raised(&third).await;
    assert_eq!(
        found,
        (
            expected.revision + 1_000_000,
            expected.states.last().unwrap().clone()
        )
    );
    let old = RangeRequest {
        key: "k".into(),
        revision: expected.revision,
        ..RangeRequest::default()
    };
    let refused = third.kv().range(old).await.unwrap_err();
    assert!(
        refused
            .message()
            .contains("required revision has been compacted")
    );
    assert_eq!(
        third.put("k", "v").await.unwrap(),
        expected.revision + 1_000_001
    );
}

/// Revision and newest state.
async fn answers_at_raised(client: &Client) -> (i64, Vec<KeyValue>) {
    let all = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..RangeRequest::default()
    };
    let answer = client.kv().range(all).await.unwrap().into_inner();
    (answer.header.unwrap().revision, answer.kvs)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_has_etcds_form() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    let client = client::connect(node.endpoint.clone()).await.unwrap();
    client.put("k", vec![b'v'; 200_000]).await.unwrap();
    let answer = client
        .maintenance()
        .snapshot(SnapshotRequest {})
        .await
        .unwrap();
    let mut stream = answer.into_inner();
    let (mut digest, mut messages) = (Sha256::new(), Vec::new());
    while let Some(message) = stream.message().await.unwrap() {
        assert_eq!((message.header, &*message.version), (None, "3.7.0"));
        messages.push((message.remaining_bytes, message.blob));
    }
    let (last, data) = messages.split_last().unwrap();
    let mut left: u64 = data.iter().map(|(_, blob)| blob.len() as u64).sum();
    assert!(left > 200_000 && left.is_multiple_of(4096));
    for (place, (remaining, blob)) in data.iter().enumerate() {
        assert!(blob.len() == 32 * 1024 || place + 1 == data.len());
        left -= blob.len() as u64;
        assert_eq!(*remaining, left);
        digest.update(blob);
    }
    assert_eq!(last, &(0, Bytes::copy_from_slice(&digest.finalize())));
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_bounded_end_with_their_client_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data);
    let client = client::connect(node.endpoint.clone()).await.unwrap();
    for number in 0..30 {
        client
            .put(format!("k{number}"), vec![number; 1 << 20])
            .await
            .unwrap();
    }
    let snapshot = async || client.maintenance().snapshot(SnapshotRequest {}).await;
    // Nobody reads these, so they stay where the connection's window ends.
    let mut first = snapshot().await.unwrap().into_inner();
    let second = snapshot().await.unwrap();
    let third = snapshot().await.unwrap_err();
    assert_eq!(third.message(), "etcdserver: too many requests");
    // A snapshot shows one moment, and writers do not wait for it.
    let revision = client.put("later", "than the snapshot").await.unwrap();
    assert_eq!(revision, 32);
    drop(second);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let fourth = loop {
        match snapshot().await {
            Ok(fourth) => break fourth,
            Err(_) => assert!(
                std::time::Instant::now() < deadline,
                "its place is never given back"
            ),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut file = Vec::new();
    while let Some(message) = first.message().await.unwrap() {
        file.extend_from_slice(&message.blob);
    }
    let path = folder.path().join("file.db");
    fs::write(&path, &file).unwrap();
    let (status, _) = succeeds(&["status", text(&path)]);
    assert!(status.contains(", 31, 30, "), "{status}");
    drop((first, fourth));
    let names: Vec<_> = fs::read_dir(data.join("member"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        names
            .iter()
            .all(|name| ["lock", "identity.json", "wal", "db", "ballast"]
                .iter()
                .any(|known| name == known)),
        "{names:?}"
    );
}

/// A snapshot that etcd 3.7.3 made, with roles, users and a lease.
fn of_etcd() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/files/etcd-3.7.3.snapshot")
}

#[test]
fn damaged_and_foreign_files_are_refused_in_words_and_leave_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("file.db"), folder.path().join("data"));
    let good = fs::read(of_etcd()).unwrap();
    let restore = |content: &[u8], more: &[&str]| {
        fs::write(&file, content).unwrap();
        let complaint =
            fails(&[&["restore", text(&file), "--data-dir", text(&data)], more].concat());
        assert!(!data.exists(), "{complaint}");
        complaint
    };
    let mut flipped = good.clone();
    flipped[5000] ^= 1;
    assert!(restore(&flipped, &[]).contains("is damaged: its SHA-256 is"));
    assert!(restore(&good[..good.len() - 512], &[]).contains("is damaged"));
    assert!(restore(&good[..good.len() - 1], &[]).contains("has no digest at its end"));
    let cut = &good[..good.len() - 8192 - 32];
    assert!(
        restore(cut, &["--skip-hash-check"])
            .contains("the file is cut off: it should have 36864 bytes and has 28672")
    );
    assert!(restore(b"", &["--skip-hash-check"]).contains("this is not an etcd database"));
    assert!(restore(&[7; 40_000], &["--skip-hash-check"]).contains("this is not an etcd database"));
    assert!(
        fails(&["restore", "/nowhere/file.db", "--data-dir", text(&data)])
            .contains("cannot open /nowhere/file.db")
    );
    fs::write(&file, &flipped).unwrap();
    assert!(fails(&["status", text(&file)]).contains("is damaged"));

    // A folder with anything in it is not touched.
    fs::create_dir(&data).unwrap();
    fs::write(data.join("mine"), "precious").unwrap();
    let complaint = fails(&["restore", text(&of_etcd()), "--data-dir", text(&data)]);
    assert!(complaint.contains("is not empty"), "{complaint}");
    assert_eq!(fs::read(data.join("mine")).unwrap(), b"precious");
}

#[test]
fn users_and_roles_are_not_dropped_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("file.db"), folder.path().join("data"));
    let mut database = fs::read(of_etcd()).unwrap();
    database.truncate(database.len() - 32);
    // The bucket that says so, inline in the root's page, of either transaction: authRevision becomes authEnabled, on.
    let mut found = 0;
    while let Some(at) = database
        .windows(12)
        .position(|part| part == b"authRevision")
    {
        database[at..at + 12].copy_from_slice(b"authEnabled\x01");
        // Its element: 12 bytes of key and 8 of value before, 11 and 1 now.
        let element = at - 16;
        assert_eq!(
            database[element + 8..element + 16],
            [12, 0, 0, 0, 8, 0, 0, 0]
        );
        database[element + 8..element + 16].copy_from_slice(&[11, 0, 0, 0, 1, 0, 0, 0]);
        found += 1;
    }
    assert!(found > 0);
    fs::write(&file, database).unwrap();
    let arguments = [
        "restore",
        text(&file),
        "--data-dir",
        text(&data),
        "--skip-hash-check",
    ];
    let complaint = fails(&arguments);
    assert!(
        complaint.contains("--without-auth") && !data.exists(),
        "{complaint}"
    );
    let (_, said) = succeeds(&[&arguments[..], &["--without-auth"]].concat());
    assert!(said.contains("1 items of lease are kept"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_leaves_nothing_that_serves_and_can_be_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let node = Node::start(&path("first"));
    let client = client::connect(node.endpoint.clone()).await.unwrap();
    for number in 0..40 {
        client
            .put(format!("k{number:02}"), vec![number; 500_000])
            .await
            .unwrap();
    }
    let file = path("file.db");
    save(&node.endpoint, &file);
    let expected = answers(&client).await;
    drop(node);

    let mut random = seeded();
    let data = path("data");
    let mut kills = 0;
    for _ in 0..40 {
        let mut restore = Command::new(env!("CARGO_BIN_EXE_holdfast"))
            .args([
                "snapshot",
                "restore",
                text(&file),
                "--data-dir",
                text(&data),
            ])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Most of the time goes into the digest; what comes after the folder appeared is worth a look.
        while !data.join("member/restoring").exists() && restore.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
        restore.kill().unwrap();
        let ended = restore.wait().unwrap();
        if ended.success() || data.join("member/identity.json").exists() {
            if kills > 0 {
                break;
            }
            // Too late this time, on a fast machine: once more from the start.
            fs::remove_dir_all(&data).unwrap();
            continue;
        }
        kills += 1;
        let (code, log) = Node::launch(&[], &data, &[]).wait();
        assert_eq!(code, Some(1));
        assert!(
            log.iter()
                .any(|line| line.contains("was not finished; run it again")),
            "{log:?}"
        );
    }
    assert!(kills > 0, "no restore was killed in time");
    if !data.join("member/identity.json").exists() {
        succeeds(&["restore", text(&file), "--data-dir", text(&data)]);
    }
    let node = Node::start(&data);
    let client = client::connect(node.endpoint.clone()).await.unwrap();
    assert_eq!(answers(&client).await, expected);
}
