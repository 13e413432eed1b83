//! A disk that fills up and gets room again, on a real ext4 of its own.

mod node;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use client::{Client, Code, Status};
use node::Node;
use proto::etcd::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    StatusRequest, TxnRequest, request_op::Request,
};
use rustix::process::Signal;
use tokio::task::JoinHandle;

const MIB: u64 = 1 << 20;
/// The smallest budget: 16 MiB of memtables. Everything is accepted while 2 segments and 2 times that fit: 160 MiB.
const FLAGS: [&str; 2] = ["--memory-budget", "64MiB"];

/// An ext4 image, mounted; gone when dropped.
struct Disk {
    folder: tempfile::TempDir,
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }
}

impl Disk {
    /// None where mounting is not allowed; says why.
    fn new(bytes: u64) -> Option<Self> {
        let disk = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        let image = disk.folder.path().join("image");
        let made = File::create(&image)
            .and_then(|file| file.set_len(bytes))
            .and_then(|()| std::fs::create_dir(disk.mount()))
            .map_err(|error| error.to_string());
        let mounted = made
            .and_then(|()| {
                // Nothing kept for root, so that what is free is free.
                run(Command::new("mkfs.ext4")
                    .args(["-q", "-m", "0", "-E", "lazy_itable_init=0"])
                    .arg(&image))
            })
            .and_then(|()| {
                run(Command::new("mount")
                    .args(["-t", "ext4", "-o", "loop"])
                    .arg(&image)
                    .arg(disk.mount()))
            });
        match mounted {
            Ok(()) => Some(disk),
            Err(reason) => {
                let is_root = rustix::process::geteuid().is_root();
                assert!(!is_root || std::env::var_os("CI").is_none(), "{reason}");
                eprintln!("SKIPPED: a full disk needs a loop mount of ext4 and root: {reason}");
                None
            }
        }
    }

    fn mount(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn data(&self) -> PathBuf {
        self.mount().join("data")
    }

    fn free(&self) -> u64 {
        let found = rustix::fs::statvfs(self.mount()).expect("a file system");
        found.f_bavail * found.f_frsize
    }

    /// Somebody else's file takes all but so many bytes.
    fn leave(&self, bytes: u64) {
        let mut count = 0;
        // Down to the last block, which takes more than one go.
        while self.free() > bytes && count < 20 {
            let file = self.mount().join(format!("filler{count}"));
            let take = (self.free() - bytes).max(4096);
            allocate(&file, take);
            count += 1;
        }
        if bytes == 0 {
            // What is left for metadata, too.
            let mut options = OpenOptions::new();
            let mut tail = options
                .append(true)
                .create(true)
                .open(self.mount().join("filler-tail"))
                .expect("a file");
            while std::io::Write::write(&mut tail, &[0; 4096]).is_ok() {}
            let _ = tail.sync_all();
        }
    }

    fn clear(&self) {
        for entry in std::fs::read_dir(self.mount()).expect("a folder").flatten() {
            if entry.file_name().to_string_lossy().starts_with("filler") {
                std::fs::remove_file(entry.path()).expect("a file of ours");
            }
        }
    }
}

fn allocate(path: &Path, bytes: u64) {
    let file = File::create(path).expect("a file");
    let flags = rustix::fs::FallocateFlags::empty();
    // A little less may be free than there seems to be.
    let mut bytes = bytes;
    while rustix::fs::fallocate(&file, flags, 0, bytes).is_err() && bytes > 4096 {
        bytes = bytes / 16 * 15;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Best effort: a test that failed must not leave a mount behind.
        run(Command::new("umount").arg("-l").arg(self.mount())).ok();
    }
}

async fn connect(node: &Node) -> Client {
    let client = client::connect(node.endpoint.clone()).await;
    client.expect("the node serves")
}

fn put(key: &str, bytes: usize) -> PutRequest {
    let value: Vec<u8> = (0..bytes).map(|_| rand::random()).collect();
    PutRequest {
        key: key.to_owned().into(),
        value: value.into(),
        ..Default::default()
    }
}

fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

fn is_no_space(status: &Status) -> bool {
    (status.code(), status.message())
        == (
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded",
        )
}

/// Repeats a call until it says yes or no as wanted; these two answers are allowed, and a write that
/// waited too long.
async fn until<T, F: Future<Output = Result<T, Status>>>(
    wanted: bool,
    mut call: impl FnMut() -> F,
) -> Duration {
    let since = Instant::now();
    loop {
        match call().await {
            Ok(_) if wanted => return since.elapsed(),
            Err(status) if !wanted && is_no_space(&status) => return since.elapsed(),
            Ok(_) => {}
            // Accepted, and then it waited for space longer than a request may take.
            Err(status) if status.code() == Code::Unavailable => {}
            Err(status) => assert!(is_no_space(&status), "{status:?}"),
        }
        assert!(since.elapsed() < Duration::from_secs(40), "not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A small put, as a call that owns what it needs.
fn write(client: &Client, key: &'static str) -> impl Future<Output = Result<(), Status>> + use<> {
    let client = client.clone();
    async move { client.kv().put(put(key, 1)).await.map(drop) }
}

async fn read(client: &Client, key: &str) -> Option<Vec<u8>> {
    let request = RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    };
    let answer = client.kv().range(request).await.expect("reads go on");
    let mut kvs = answer.into_inner().kvs;
    kvs.pop().map(|kv| kv.value.to_vec())
}

#[tokio::test]
async fn writes_are_refused_on_a_full_disk_and_come_back_by_themselves() {
    let Some(disk) = Disk::new(600 * MIB) else {
        return;
    };
    let mut node = Node::start_with(&disk.data(), &FLAGS);
    let client = connect(&node).await;
    let first = put("first", 1 << 20);
    client.kv().put(first.clone()).await.expect("room");
    client.kv().put(put("second", 10)).await.expect("room");
    // The keeper has made its segment when this is there.
    let segments = || {
        let found = std::fs::read_dir(disk.data().join("member/wal")).expect("the log");
        found
            .flatten()
            .filter(|file| file.file_name().to_string_lossy().ends_with(".wal"))
            .count()
    };
    while segments() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    // A little is left: what frees space is accepted.
    disk.leave(100 * MIB);
    until(false, || write(&client, "third")).await;
    let line = node.wait_for_log("the disk is nearly full");
    assert!(
        line.contains("free-bytes") && line.contains("member"),
        "{line}"
    );
    let mut kv = client.kv();
    let op = |request| RequestOp {
        request: Some(request),
    };
    let txn = |request| TxnRequest {
        success: vec![op(request)],
        ..Default::default()
    };
    let refused = kv.txn(txn(Request::RequestPut(put("third", 1)))).await;
    assert!(is_no_space(&refused.expect_err("no space")));
    kv.txn(txn(Request::RequestDeleteRange(delete("second"))))
        .await
        .expect("frees");
    kv.delete_range(delete("nothing")).await.expect("frees");
    // Physically, so that nothing of it is still under way when the last byte goes.
    let compaction = CompactionRequest {
        revision: 3,
        physical: true,
    };
    kv.compact(compaction).await.expect("frees");
    assert_eq!(read(&client, "first").await.expect("there"), first.value);
    assert_eq!(read(&client, "second").await, None);
    let status = client.maintenance().status(StatusRequest {}).await;
    let errors = status.expect("a status").into_inner().errors;
    assert!(
        errors.len() == 1 && errors[0].contains("the disk is full"),
        "{errors:?}"
    );
    let alarms = client.maintenance().alarm(AlarmRequest::default()).await;
    assert_eq!(
        alarms.expect("a list").into_inner().alarms,
        [],
        "not sticky"
    );

    // Nothing at all is left: nothing is accepted, and reads go on.
    disk.leave(0);
    let took = until(false, || {
        let client = client.clone();
        async move { client.kv().delete_range(delete("first")).await }
    })
    .await;
    eprintln!("deletes refused after {took:?}, {} bytes free", disk.free());
    node.wait_for_log("the disk is full: every write is refused");
    let value = read(&client, "first").await;

    // A restart without one free byte.
    drop((client, kv));
    let deleted = value.is_none();
    assert!(node.terminate().success());
    disk.leave(0);
    eprintln!("restart with {} bytes free", disk.free());
    let mut node = Node::start_with(&disk.data(), &FLAGS);
    let client = connect(&node).await;
    node.wait_for_log("the disk is full");
    assert_eq!(read(&client, "first").await.is_none(), deleted);
    let refused = client.kv().put(put("third", 1)).await;
    assert!(is_no_space(&refused.expect_err("no space")));

    // And killed, too.
    drop(client);
    node.kill();
    // With what is left of the ballast; it is made again when there is space.
    let mut node = Node::start_with(&disk.data(), &FLAGS);
    let client = connect(&node).await;
    assert_eq!(read(&client, "first").await.is_none(), deleted);

    disk.clear();
    let took = until(true, || write(&client, "third")).await;
    eprintln!("writes came back after {took:?}");
    node.wait_for_log("there is space on the disk again");
    assert_eq!(read(&client, "third").await.expect("there").len(), 1);
    // The ballast is there again for the next time.
    while !disk.data().join("member/ballast").exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Writes as fast as it goes until there is no space, or no answer; each tells what was acknowledged.
fn writers(client: &Client, round: u32) -> Vec<JoinHandle<Vec<String>>> {
    let writers = (0..4).map(|writer| {
        let client = client.clone();
        tokio::spawn(async move {
            let (mut kept, since) = (Vec::new(), Instant::now());
            for count in 0.. {
                let key = format!("{round}/{writer}/{count}");
                match client.kv().put(put(&key, 256 << 10)).await {
                    Ok(_) => kept.push(key),
                    Err(status) if is_no_space(&status) => break,
                    // Waited for space longer than a request may take, or for a node that stops: unknown.
                    Err(status) => {
                        let code = status.code();
                        assert!(
                            matches!(code, Code::Unavailable | Code::Cancelled),
                            "{status:?}"
                        );
                        break;
                    }
                }
                assert!(since.elapsed() < Duration::from_secs(30), "never full");
            }
            kept
        })
    });
    writers.collect()
}

async fn assert_there(client: &Client, keys: &[String]) {
    for key in keys {
        let value = read(client, key).await;
        assert_eq!(value.map(|value| value.len()), Some(256 << 10), "{key}");
    }
}

/// Others take the space while the node writes at full speed: whatever slips through the check is waited out, and
/// what was acknowledged is there after a kill.
#[tokio::test]
async fn what_slips_through_is_waited_out_and_nothing_is_lost() {
    // What is written in three rounds must leave room for the reserves, also by a fast machine.
    let Some(disk) = Disk::new(640 * MIB) else {
        return;
    };
    let mut node = Node::start_with(&disk.data(), &FLAGS);
    let client = connect(&node).await;
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let writers = writers(&client, round);
        tokio::time::sleep(Duration::from_millis(100)).await;
        // All at once, within one look at the disk.
        disk.leave(0);
        for writer in writers {
            acknowledged.extend(writer.await.expect("a writer"));
        }
        // What was acknowledged to nobody yet may wait for space, so only a local read is sure to be answered.
        let local = RangeRequest {
            key: "probe".into(),
            serializable: true,
            ..Default::default()
        };
        client.kv().range(local).await.expect("reads go on");
        disk.clear();
        let took = until(true, || write(&client, "probe")).await;
        eprintln!(
            "round {round}: {} acknowledged, writes came back after {took:?}",
            acknowledged.len()
        );
    }
    eprintln!(
        "writes that met the full disk: {} lines",
        node.logged("a write met a full disk").len()
    );
    drop(client);
    node.kill();
    let node = Node::start_with(&disk.data(), &FLAGS);
    let client = connect(&node).await;
    assert_there(&client, &acknowledged).await;
}

/// Whatever waits for space on the way: writes, the log, the flush of the end.
#[tokio::test]
async fn a_node_that_waits_for_space_ends_when_it_is_told_to() {
    let Some(disk) = Disk::new(640 * MIB) else {
        return;
    };
    let mut acknowledged = Vec::new();
    let mut waited = 0;
    for round in 0..4 {
        let mut node = Node::start_with(&disk.data(), &FLAGS);
        let client = connect(&node).await;
        assert_there(&client, &acknowledged).await;
        let writers = writers(&client, round);
        tokio::time::sleep(Duration::from_millis(100)).await;
        disk.leave(0);
        // At once, or when whoever waits has done so for a while.
        tokio::time::sleep(Duration::from_millis(700 * u64::from(round))).await;
        node.signal(Signal::TERM);
        let since = Instant::now();
        while !node.has_ended() {
            assert!(since.elapsed() < Duration::from_secs(20), "it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for writer in writers {
            acknowledged.extend(writer.await.expect("a writer"));
        }
        let took = since.elapsed();
        let (code, lines) = node.wait();
        assert_eq!(code, Some(0));
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!(count("cannot keep its promises"), 0, "{lines:#?}");
        let waits = count("waited for space on the disk until the node was stopped");
        waited += waits;
        eprintln!(
            "round {round}: {} acknowledged, {waits} waited, ended after {took:?}",
            acknowledged.len(),
        );
        disk.clear();
    }
    assert!(waited > 0, "nothing waited for space");
    let node = Node::start_with(&disk.data(), &FLAGS);
    assert_there(&connect(&node).await, &acknowledged).await;
}
