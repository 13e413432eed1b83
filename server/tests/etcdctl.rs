//! The real `etcdctl` against the real binary.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use node::Node;

fn etcdctl(node: &Node, arguments: &[&str]) -> Output {
    Command::new(node::etcdctl())
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &node.endpoint])
        .args(arguments)
        .output()
        .unwrap()
}

/// What it printed; it must have succeeded.
fn says(node: &Node, arguments: &[&str]) -> String {
    let output = etcdctl(node, arguments);
    assert!(
        output.status.success(),
        "etcdctl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What it complained; it must have failed.
fn fails(node: &Node, arguments: &[&str]) -> String {
    let output = etcdctl(node, arguments);
    assert!(!output.status.success(), "etcdctl {arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn etcdctl_puts_gets_and_deletes() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    assert_eq!(says(&node, &["put", "fruit/apple", "red"]), "OK\n");
    assert_eq!(says(&node, &["put", "fruit/pear", "green"]), "OK\n");
    assert_eq!(
        says(&node, &["put", "--prev-kv", "fruit/apple", "yellow"]),
        "OK\nfruit/apple\nred\n"
    );
    assert_eq!(
        says(&node, &["get", "fruit/apple"]),
        "fruit/apple\nyellow\n"
    );
    assert_eq!(
        says(&node, &["get", "--prefix", "fruit/"]),
        "fruit/apple\nyellow\nfruit/pear\ngreen\n"
    );
    assert_eq!(
        says(&node, &["get", "--prefix", "fruit/", "--keys-only"]),
        "fruit/apple\n\nfruit/pear\n\n"
    );
    assert_eq!(
        says(&node, &["get", "--prefix", "fruit/", "--limit", "1"]),
        "fruit/apple\nyellow\n"
    );
    assert_eq!(
        says(&node, &["get", "--rev", "2", "fruit/apple"]),
        "fruit/apple\nred\n"
    );
    assert_eq!(
        says(&node, &["get", "--consistency", "s", "fruit/pear"]),
        "fruit/pear\ngreen\n"
    );
    assert!(
        says(
            &node,
            &["get", "--prefix", "fruit/", "--count-only", "-w", "fields"]
        )
        .contains("\"Count\" : 2\n")
    );
    assert_eq!(says(&node, &["del", "--prefix", "fruit/"]), "2\n");
    assert_eq!(says(&node, &["get", "--prefix", "fruit/"]), "");
}

#[test]
fn etcdctl_runs_transactions() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    says(&node, &["put", "k", "1"]);
    let txn = |text: &str| {
        let mut child = Command::new(node::etcdctl())
            .args(["--endpoints", &node.endpoint, "txn"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let succeeded = txn("value(\"k\") = \"1\"\n\nput k 2\nget k\n\nput k lost\n\n");
    assert!(
        succeeded.starts_with("SUCCESS") && succeeded.ends_with("OK\n\nk\n2\n"),
        "{succeeded:?}"
    );
    let failed = txn("mod(\"k\") = \"1\"\n\nput k lost\n\nget k\n\n");
    assert!(
        failed.starts_with("FAILURE") && failed.ends_with("k\n2\n"),
        "{failed:?}"
    );
}

#[test]
fn etcdctl_watches_from_now_and_from_the_past() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    says(&node, &["put", "w/a", "1"]);
    let mut watch = Command::new(node::etcdctl())
        .args([
            "--endpoints",
            &node.endpoint,
            "watch",
            "--prefix",
            "--prev-kv",
            "--rev",
            "2",
            "w/",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let mut next = |count: usize| lines.by_ref().take(count).collect::<Vec<_>>();
    assert_eq!(next(3), ["PUT", "w/a", "1"]);
    says(&node, &["put", "w/a", "2"]);
    assert_eq!(next(5), ["PUT", "w/a", "1", "w/a", "2"]);
    says(&node, &["del", "w/a"]);
    assert_eq!(next(5), ["DELETE", "w/a", "2", "w/a", ""]);
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn etcdctl_compacts_and_is_told_what_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    for value in ["1", "2", "3"] {
        says(&node, &["put", "k", value]);
    }
    assert_eq!(says(&node, &["compaction", "3"]), "compacted revision 3\n");
    assert_eq!(says(&node, &["get", "--rev", "3", "k"]), "k\n2\n");
    assert!(
        fails(&node, &["get", "--rev", "2", "k"])
            .contains("etcdserver: mvcc: required revision has been compacted")
    );
    assert!(
        fails(&node, &["get", "--rev", "9", "k"])
            .contains("etcdserver: mvcc: required revision is a future revision")
    );
    assert!(
        fails(&node, &["compaction", "3"])
            .contains("etcdserver: mvcc: required revision has been compacted")
    );
    assert!(
        fails(&node, &["compaction", "9"])
            .contains("etcdserver: mvcc: required revision is a future revision")
    );
}

#[test]
fn etcdctl_reports_health_status_and_members() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    let health = etcdctl(&node, &["endpoint", "health"]);
    let text = String::from_utf8_lossy(&health.stdout).into_owned()
        + &String::from_utf8_lossy(&health.stderr);
    assert!(
        health.status.success() && text.contains("is healthy"),
        "{text}"
    );
    let status = says(&node, &["endpoint", "status", "-w", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let status = &status[0]["Status"];
    assert_eq!(status["leader"], status["header"]["member_id"]);
    assert!(
        status["dbSize"].as_u64().is_some_and(|size| size > 0),
        "{status}"
    );
    assert_eq!(says(&node, &["member", "list"]).lines().count(), 1);
}

#[test]
fn data_survives_a_clean_stop_and_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data);
    says(&node, &["put", "k", "1"]);
    assert!(node.terminate().success(), "SIGTERM ends it cleanly");
    let node = Node::start(&data);
    assert_eq!(says(&node, &["get", "k"]), "k\n1\n");
    says(&node, &["put", "k", "2"]);
    node.kill();
    let node = Node::start(&data);
    assert_eq!(says(&node, &["get", "k"]), "k\n2\n");
}
