//! A disk that refuses reads, writes and syncs, or takes its time.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use client::{Client, ListOptions, Options};

use crate::node::Node;
use crate::template::{ADVICE, FLAGS, Outcome, Template, connect, name_of, named, outcome};

/// strace on a running node, which makes some of its calls on some files fail or last.
struct Fault(Child);

impl Fault {
    fn new(node: &Node, files: &[&Path], calls: &str, what: &str) -> Fault {
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-p", &node.pid().to_string()]);
        for file in files {
            command.arg("-P").arg(file);
        }
        command.args(["-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:{what}")]);
        let child = command.stderr(Stdio::null()).spawn();
        let fault = Fault(child.expect("strace is missing: run `make packages` once"));
        // It is there once every thread has a tracer.
        let tasks = format!("/proc/{}/task", node.pid());
        let is_traced = || {
            std::fs::read_dir(&tasks).unwrap().all(|task| {
                let status = task.unwrap().path().join("status");
                let status = std::fs::read_to_string(status).unwrap_or_default();
                !status.contains("TracerPid:\t0\n")
            })
        };
        for _ in 0..1000 {
            if is_traced() {
                return fault;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("strace cannot attach: this needs root, or kernel.yama.ptrace_scope=0");
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        // The node goes on untraced.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Puts until the node is gone; gives what was acknowledged.
async fn put_until_it_stops(client: &Client, prefix: &str, bytes: usize) -> Vec<(String, i64)> {
    let mut acknowledged = Vec::new();
    for number in 0..200 {
        let key = format!("{prefix}/{number}");
        match client.put(key.clone(), "v".repeat(bytes)).await {
            Ok(revision) => acknowledged.push((key, revision)),
            Err(_) => return acknowledged,
        }
    }
    panic!("the node never stopped");
}

/// Waits for the end of a node that must end by itself; gives the reason.
fn reason(node: Node) -> String {
    let (code, log) = node.wait();
    let text = log.join("\n");
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    let stop = log.iter().find(|line| line.contains("the node stops"));
    let stop = stop.unwrap_or_else(|| panic!("no reason in: {text}"));
    assert!(has_advice(stop), "no advice in: {stop}");
    stop.clone()
}

fn has_advice(text: &str) -> bool {
    let text = text.to_lowercase();
    ADVICE.iter().any(|advice| text.contains(advice))
}

async fn assert_there(data: &Path, acknowledged: &[(String, i64)]) {
    let node = Node::start_with(data, &FLAGS);
    let client = connect(&node).await;
    for (key, revision) in acknowledged {
        let found = client.get(key.clone()).await.unwrap();
        assert_eq!(found.map(|kv| kv.mod_revision), Some(*revision), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_read_is_named() {
    let template = Template::new().await;
    for part in [".wal", ".sst", "MANIFEST"] {
        let copy = template.copy();
        // The first table is one of the large family, and the first segment one with entries.
        let file = named(copy.path(), part).remove(0);
        let path = file.display().to_string();
        let wrapper = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", &path];
        let inject = [
            "-e",
            "trace=pread64,read",
            "-e",
            "inject=pread64,read:error=EIO",
        ];
        let (code, log) =
            Node::launch(&[&wrapper[..], &inject[..]].concat(), copy.path(), &FLAGS).wait();
        let text = log.join("\n");
        assert_eq!(code, Some(1), "{part}: {text}");
        assert!(!text.contains("panicked"), "{text}");
        assert!(text.contains(&name_of(&file)), "{part}: {text}");
        assert!(has_advice(&text), "{part}: {text}");
        assert!(
            text.to_lowercase().contains("input/output error"),
            "{part}: {text}"
        );
        let found = outcome(copy.path(), &template.expected).await;
        assert!(matches!(found, Outcome::Harmless), "{part}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_fails_under_a_running_node_stops_it() {
    let template = Template::new().await;
    let copy = template.copy();
    let tables = named(copy.path(), ".sst");
    let node = Node::start_with(copy.path(), &FLAGS);
    let client = connect(&node).await;
    let tables: Vec<&Path> = tables.iter().map(AsRef::as_ref).collect();
    let fault = Fault::new(&node, &tables, "pread64", "error=EIO");
    let past = ListOptions {
        revision: 30,
        ..ListOptions::default()
    };
    let error = client.list(client::Keys::prefix("large"), past).await;
    // At that revision there is none of them yet, which needs no table; later there is.
    let error = match error {
        Ok(list) => {
            assert!(list.kvs.is_empty());
            let past = ListOptions {
                revision: 66,
                ..ListOptions::default()
            };
            client
                .list(client::Keys::prefix("large"), past)
                .await
                .map(|_| ())
        }
        Err(error) => Err(error),
    };
    assert!(error.is_err(), "a list without its table");
    let text = tokio::task::block_in_place(|| reason(node));
    assert!(
        text.contains(".sst") && text.contains("Input/output error"),
        "{text}"
    );
    drop(fault);
    let found = outcome(copy.path(), &template.expected).await;
    assert!(matches!(found, Outcome::Harmless), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_stops_the_node_and_nothing_acknowledged_is_lost() {
    // Of the log: the second segment, so that a change of segments lies before it.
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    assert!(Node::start_with(&data, &FLAGS).terminate().success());
    let node = Node::start_with(&data, &FLAGS);
    let client = connect(&node).await;
    let second = data.join("member/wal/0000000002.wal");
    let fault = Fault::new(&node, &[&second], "pwrite64", "error=EIO");
    let acknowledged = put_until_it_stops(&client, "log", 400_000).await;
    assert!(!acknowledged.is_empty());
    let text = tokio::task::block_in_place(|| reason(node));
    assert!(
        text.contains("the raft log cannot be written") && text.contains("os error 5"),
        "{text}"
    );
    drop(fault);
    assert_there(&data, &acknowledged).await;

    // Of the database: the sync of its folder behind a flush.
    let node = Node::start_with(&data, &FLAGS);
    let client = connect(&node).await;
    let database = data.join("member/db");
    let fault = Fault::new(&node, &[&database], "fsync,fdatasync", "error=EIO");
    let more = put_until_it_stops(&client, "state", 1_000_000).await;
    assert!(!more.is_empty());
    let text = tokio::task::block_in_place(|| reason(node));
    assert!(
        text.contains("IO error") && text.contains("Input/output error"),
        "{text}"
    );
    drop(fault);
    let acknowledged = [acknowledged, more].concat();
    assert_there(&data, &acknowledged).await;

    // And what a flush writes into its new tables, whose names go up.
    let node = Node::start_with(&data, &FLAGS);
    let client = connect(&node).await;
    let number = |file: &Path| name_of(file)[..6].parse::<u32>().unwrap();
    let newest = named(&data, ".sst").iter().map(|file| number(file)).max();
    let next = newest.unwrap()..newest.unwrap() + 60;
    let tables: Vec<_> = next
        .map(|number| database.join(format!("{:06}.sst", number + 1)))
        .collect();
    let tables: Vec<&Path> = tables.iter().map(AsRef::as_ref).collect();
    let fault = Fault::new(&node, &tables, "write,pwrite64", "error=EIO");
    let more = put_until_it_stops(&client, "table", 1_000_000).await;
    assert!(!more.is_empty());
    let text = tokio::task::block_in_place(|| reason(node));
    assert!(
        text.contains(".sst") && text.contains("Input/output error"),
        "{text}"
    );
    drop(fault);
    assert_there(&data, &[acknowledged, more].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_slow_disk_writes_wait_reads_do_not_and_a_late_write_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start_with(&data, &FLAGS);
    let client = connect(&node).await;
    client.put("key", "before").await.unwrap();
    // Longer than a request may take (7 s).
    let fault = Fault::new(&node, &[], "fdatasync", "delay_enter=9s:when=1");
    let patient = Options {
        request_timeout: Duration::from_secs(30),
        ..Options::default()
    };
    let writer = patient.connect(node.endpoint.clone()).await.unwrap();
    let late = tokio::spawn(async move { writer.put("key", "late").await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..20 {
        let found = client.get("key").await.unwrap().unwrap();
        assert_eq!(found.value, "before", "a write is seen before it is synced");
    }
    assert!(!late.is_finished(), "the write does not wait for the disk");
    let error = late.await.unwrap().unwrap_err();
    assert!(
        matches!(&error, client::Error::Unknown { source } if source.message() == "etcdserver: request timed out"),
        "{error}"
    );
    drop(fault);
    // It goes on by itself; what timed out may happen, and here it does.
    let revision = client.put("other", "after").await.unwrap();
    let late = client.get("key").await.unwrap().unwrap();
    assert_eq!((&late.value[..], revision), (&b"late"[..], 4));
    node.kill();
    assert_there(&data, &[("key".to_owned(), 3), ("other".to_owned(), 4)]).await;
}
