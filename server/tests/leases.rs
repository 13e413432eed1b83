//! Leases, locks and elections on one node: when leases end, and that `etcdctl` and the gateway see what etcd shows.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod node;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use node::http::{self, post};
use node::real::{self, Etcd};
use node::{Node, etcdctl};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

fn start() -> (tempfile::TempDir, Node) {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    (folder, node)
}

fn call(endpoint: &str, path: &str, request: &Value) -> Value {
    let answer = post(endpoint, &format!("/v3/{path}"), &request.to_string());
    assert_eq!(answer.status, 200, "{path} {request}: {answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn grant(endpoint: &str, id: i64, ttl: i64) {
    let granted = call(endpoint, "lease/grant", &json!({"ID": id, "TTL": ttl}));
    assert_eq!(granted["TTL"], ttl.to_string());
}

fn put(endpoint: &str, key: &str, lease: i64) {
    let request = json!({"key": base64(key), "lease": lease});
    call(endpoint, "kv/put", &request);
}

fn exists(endpoint: &str, key: &str) -> bool {
    call(endpoint, "kv/range", &json!({"key": base64(key)}))["count"] == "1"
}

/// Seconds that are left; -1 if there is no such lease.
fn left(endpoint: &str, id: i64) -> i64 {
    let answer = call(endpoint, "lease/timetolive", &json!({"ID": id}));
    let ttl = answer["TTL"].as_str().unwrap_or("0");
    ttl.parse().unwrap()
}

fn kept_alive(endpoint: &str, id: i64) -> String {
    let answer = call(endpoint, "lease/keepalive", &json!({"ID": id}));
    answer["result"]["TTL"].as_str().unwrap_or("0").to_owned()
}

fn run(endpoint: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(etcdctl())
        .args(["--endpoints", endpoint])
        .args(arguments)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.lines().filter(|line| !line.starts_with('{'));
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &complaint.collect::<Vec<_>>().join("\n");
    (output.status.code(), said.replace(endpoint, "ADDRESS"))
}

/// A command that goes on until it is dropped.
struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(endpoint: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(etcdctl())
            .args(["--endpoints", endpoint])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, node::Signal::INT).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_lease_ends_when_its_time_is_up_and_takes_its_keys_along() {
    let (_folder, node) = start();
    let endpoint = &node.endpoint;
    let granted = Instant::now();
    grant(endpoint, 7, 2);
    grant(endpoint, 8, 1_000);
    put(endpoint, "b", 7);
    put(endpoint, "a", 7);
    put(endpoint, "c", 8);
    assert!(left(endpoint, 7) <= 2);
    while exists(endpoint, "a") {
        assert!(granted.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(
        granted.elapsed() >= Duration::from_secs(2),
        "it ended early"
    );
    assert!(!exists(endpoint, "b") && exists(endpoint, "c"));
    // Three puts, and one revision for the end of both keys.
    let status = call(endpoint, "maintenance/status", &json!({}));
    assert_eq!(status["header"]["revision"], "5");
    assert_eq!(left(endpoint, 7), -1);
    assert_eq!(kept_alive(endpoint, 7), "0");
    assert_eq!(kept_alive(endpoint, 8), "1000");
    let metrics = http::get(endpoint, "/metrics").body;
    for (name, count) in [
        ("etcd_debugging_lease_granted_total", 2),
        ("etcd_debugging_lease_revoked_total", 1),
        ("etcd_debugging_lease_renewed_total", 1),
        ("etcd_debugging_server_lease_expired_total", 1),
    ] {
        let line = format!("\n{name} {count}\n");
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
}

#[test]
fn a_lease_that_is_kept_alive_lives_on_and_one_that_was_revoked_does_not() {
    let (_folder, node) = start();
    let endpoint = &node.endpoint;
    grant(endpoint, 0x1f, 2);
    put(endpoint, "a", 0x1f);
    let mut keeping = Running::start(endpoint, &["lease", "keep-alive", "1f"]);
    assert_eq!(
        keeping.line(),
        "lease 000000000000001f keepalived with TTL(2)"
    );
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        assert!(exists(endpoint, "a"));
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(keeping);
    let (code, said) = run(endpoint, &["lease", "revoke", "1f"]);
    assert_eq!(
        (code, said.as_str()),
        (Some(0), "lease 000000000000001f revoked\n")
    );
    assert!(!exists(endpoint, "a"));
}

#[test]
fn leases_outlive_a_restart() {
    let (folder, node) = start();
    grant(&node.endpoint, 7, 1_000);
    put(&node.endpoint, "a", 7);
    grant(&node.endpoint, 8, 2);
    put(&node.endpoint, "b", 8);
    node.kill();
    let node = Node::start(&folder.path().join("data"));
    let endpoint = &node.endpoint;
    let answer = call(
        endpoint,
        "lease/timetolive",
        &json!({"ID": 7, "keys": true}),
    );
    assert_eq!(
        (&answer["grantedTTL"], &answer["keys"]),
        (&json!("1000"), &json!([base64("a")]))
    );
    let deadline = Instant::now() + PATIENCE;
    while exists(endpoint, "b") {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(exists(endpoint, "a"));
}

#[test]
fn etcdctl_prints_the_same_about_leases_and_locks() {
    real::check_version();
    let (_folder, node) = start();
    let etcd = Etcd::start();
    for endpoint in [&node.endpoint, &etcd.endpoint] {
        grant(endpoint, 0x1f, 1_000);
        grant(endpoint, 0x2f, 10_000);
    }
    let commands: &[&[&str]] = &[
        &["lease", "list"],
        &["lease", "list", "-w", "json"],
        &["put", "a", "1", "--lease=1f"],
        &["put", "b", "1", "--lease=99"],
        &["get", "a", "-w", "fields"],
        &["lease", "timetolive", "99"],
        &["lease", "timetolive", "99", "-w", "json"],
        &["lease", "timetolive", "nonsense"],
        &["lease", "keep-alive", "--once", "1f"],
        &["lease", "keep-alive", "99"],
        &["lease", "revoke", "99"],
        &["lease", "grant", "9000000001"],
        &["lease", "grant", "nonsense"],
        &["lease", "revoke", "1f"],
        &["get", "a"],
        &["lock", "l", "--ttl=30", "echo", "held"],
        &["lock", "l", "false"],
        &["get", "--prefix", "l"],
    ];
    let normal = |said: (Option<i32>, String)| {
        // Ids of cluster and member, and the term.
        let text = said.1.lines().map(|line| {
            let is_header = ["\"ClusterID\"", "\"MemberID\"", "\"RaftTerm\""]
                .iter()
                .any(|name| line.starts_with(name));
            if is_header {
                return String::new();
            }
            match serde_json::from_str::<Value>(line) {
                Ok(mut value) if value.is_object() => {
                    for name in ["cluster_id", "member_id", "raft_term"] {
                        value.as_object_mut().unwrap().remove(name);
                        if let Some(header) = value["header"].as_object_mut() {
                            header.remove(name);
                        }
                    }
                    value.to_string()
                }
                _ => line.to_owned(),
            }
        });
        (said.0, text.collect::<Vec<_>>())
    };
    for command in commands {
        let ours = normal(run(&node.endpoint, command));
        let theirs = normal(run(&etcd.endpoint, command));
        assert_eq!(ours, theirs, "etcdctl {command:?}; Holdfast is left");
    }
}

#[test]
fn etcdctl_elects_and_observes() {
    let (_folder, node) = start();
    let endpoint = &node.endpoint;
    let mut observer = Running::start(endpoint, &["elect", "-l", "e"]);
    let mut first = Running::start(endpoint, &["elect", "e", "one"]);
    let key = first.line();
    assert!(key.starts_with("e/"), "{key}");
    assert_eq!(first.line(), "one");
    assert_eq!((observer.line(), observer.line()), (key, "one".to_owned()));
    let mut second = Running::start(endpoint, &["elect", "e", "two"]);
    // Told to end, it resigns.
    first.interrupt();
    let key = second.line();
    assert_eq!(second.line(), "two");
    assert_eq!((observer.line(), observer.line()), (key, "two".to_owned()));
}

#[test]
fn a_lock_is_held_by_one_at_a_time_and_who_gives_up_leaves_no_trace() {
    let (_folder, node) = start();
    let endpoint = node.endpoint.clone();
    for id in 1..=3 {
        grant(&endpoint, id, 1_000);
    }
    let name = base64("l");
    let lock = |lease: i64| {
        let endpoint = endpoint.clone();
        let request = json!({"name": name, "lease": lease});
        std::thread::spawn(move || call(&endpoint, "lock/lock", &request))
    };
    let first = lock(1).join().unwrap();
    assert_eq!(first["key"], base64("l/1"));
    // One that gives up before its turn.
    let request = json!({"name": name, "lease": 2}).to_string();
    let timeout = [("Grpc-Timeout", "500m")];
    let late = http::call(&endpoint, "POST", "/v3/lock/lock", &timeout, &request);
    assert_eq!(late.status, 504, "{late:?}");
    let third = lock(3);
    std::thread::sleep(Duration::from_millis(700));
    assert!(!third.is_finished(), "two hold one lock");
    call(&endpoint, "lock/unlock", &json!({"key": first["key"]}));
    assert_eq!(third.join().unwrap()["key"], base64("l/3"));
    let deadline = Instant::now() + PATIENCE;
    while exists(&endpoint, "l/2") {
        assert!(Instant::now() < deadline, "it waits for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn who_waits_for_a_lock_without_a_lease_any_more_does_not_get_it() {
    let (_folder, node) = start();
    let endpoint = node.endpoint.clone();
    for id in 1..=2 {
        grant(&endpoint, id, 1_000);
    }
    let name = base64("l");
    let first = call(&endpoint, "lock/lock", &json!({"name": name, "lease": 1}));
    let waiting = {
        let endpoint = endpoint.clone();
        let request = json!({"name": name, "lease": 2}).to_string();
        std::thread::spawn(move || post(&endpoint, "/v3/lock/lock", &request))
    };
    let deadline = Instant::now() + PATIENCE;
    while !exists(&endpoint, "l/2") {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    call(&endpoint, "lease/revoke", &json!({"ID": 2}));
    call(&endpoint, "lock/unlock", &json!({"key": first["key"]}));
    let refused = waiting.join().unwrap();
    assert_eq!(refused.status, 500);
    assert!(
        refused.body.contains("mutex: session is expired"),
        "{refused:?}"
    );
}
