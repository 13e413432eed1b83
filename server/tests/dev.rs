//! `holdfast dev` and `holdfast status` as a person sees them: a cluster with one command, and how it is.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use node::{Node, Signal};
use rustix::process::{Pid, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const HOLDFAST: &str = env!("CARGO_BIN_EXE_holdfast");

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A started `holdfast dev`; killed when dropped, which ends its nodes, too.
struct Dev {
    child: Child,
    folder: PathBuf,
    endpoints: Vec<String>,
    lines: Receiver<String>,
    seen: Vec<String>,
}

/// The first port of a block that nobody else in this process gets, and that was free a moment ago. The blocks lie
/// between those of `node::free_port` and those that the system gives to outgoing connections.
fn free_base_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 30_000;
    const BLOCK: u32 = 30;
    const BLOCKS: u32 = 90;
    loop {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let block = std::process::id().wrapping_mul(7).wrapping_add(turn) % BLOCKS;
        let base = u16::try_from(FIRST + BLOCK * block).unwrap();
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (base..base + 22).all(is_free) {
            return base;
        }
    }
}

impl Dev {
    fn start(folder: &Path, base_port: u16, more: &[&str]) -> Self {
        let mut child = Command::new(HOLDFAST)
            .args(["dev", "--base-port", &base_port.to_string(), "--data-dir"])
            .arg(folder)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let endpoint = |place: u16| format!("127.0.0.1:{}", base_port + 10 * place);
        Self {
            child,
            folder: folder.to_owned(),
            endpoints: (0..3).map(endpoint).collect(),
            lines,
            seen: Vec::new(),
        }
    }

    /// Reads on until a line contains a text.
    fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("no {text:?} ({error}) in\n{}", self.seen.join("\n")),
            }
        }
    }

    /// The process of a node, as its folder has it.
    fn pid(&self, name: &str) -> Pid {
        let lock = self.folder.join(name).join("member/lock");
        let text = std::fs::read_to_string(lock).unwrap();
        Pid::from_raw(text.trim().parse().unwrap()).unwrap()
    }

    fn pids(&self) -> Vec<Pid> {
        ["n1", "n2", "n3"].map(|name| self.pid(name)).to_vec()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGTERM; the exit code.
    fn terminate(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.child.wait().unwrap().code()
    }

    fn status(&self) -> (Option<i32>, Value) {
        let (code, text) = status(&["--json", "--endpoints", &self.endpoints.join(",")]);
        (code, serde_json::from_str(&text).unwrap())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn status(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = Command::new(HOLDFAST)
        .arg("status")
        .args(arguments)
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap())
}

fn refusal(folder: &Path, more: &[&str]) -> String {
    let Output { status, stderr, .. } = Command::new(HOLDFAST)
        .args(["dev", "--data-dir"])
        .arg(folder)
        .args(more)
        .output()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    String::from_utf8(stderr).unwrap()
}

fn roles(report: &Value) -> Vec<&str> {
    let mut roles: Vec<_> = report["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member["role"].as_str().unwrap())
        .collect();
    roles.sort_unstable();
    roles
}

/// A process that has ended may wait for whoever inherited it.
fn is_running(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn await_ended(pids: &[Pid]) {
    let deadline = Instant::now() + PATIENCE;
    while pids.iter().any(|pid| is_running(*pid)) {
        assert!(Instant::now() < deadline, "still running");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn three_nodes_come_up_one_dies_and_all_end_in_order() {
    let folder = TempDir::new().unwrap();
    let base_port = free_base_port();
    let mut dev = Dev::start(folder.path(), base_port, &[]);
    dev.wait_for("etcdctl --endpoints=127.0.0.1:");
    dev.wait_for("All nodes answer;");
    let (code, report) = dev.status();
    assert_eq!(roles(&report), ["follower", "follower", "leader"]);
    assert_eq!((code, &report["healthy"]), (Some(0), &Value::Bool(true)));

    // One endpoint is enough to find all of them.
    let (code, text) = status(&["--cluster", "--endpoints", &dev.endpoints[1]]);
    let names: Vec<_> = text.lines().skip(3).map(|line| &line[..2]).collect();
    assert_eq!((code, names), (Some(0), vec!["n1", "n2", "n3"]), "{text}");
    let peer_port = format!("127.0.0.1:{}", base_port + 1);
    let (code, text) = status(&["--endpoints", &peer_port]);
    assert!(text.contains("is it a peer port?"), "{text}");
    assert_eq!(code, Some(1));
    let (code, text) = status(&["--endpoints", &dev.endpoints[0]]);
    assert!(text.contains("Not asked: "), "{text}");
    assert_eq!(code, Some(0));

    let members = report["members"].as_array().unwrap();
    let leader = members.iter().find(|member| member["role"] == "leader");
    let leader = leader.unwrap()["name"].as_str().unwrap().to_owned();
    let pids = dev.pids();
    kill_process(dev.pid(&leader), Signal::KILL).unwrap();
    let line = dev.wait_for(&format!("{leader} has ended (signal: 9 (SIGKILL))"));
    assert!(line.contains("The last line of "), "{line}");
    assert!(line.contains("The other 2 go on;"), "{line}");
    dev.wait_for("is the leader now.");
    let (code, report) = dev.status();
    assert_eq!(roles(&report), ["follower", "leader", "no answer"]);
    assert_eq!((code, &report["healthy"]), (Some(1), &Value::Bool(false)));
    let members = report["members"].as_array().unwrap();
    let dead = members.iter().find(|member| member["name"] == *leader);
    let reason = dead.unwrap()["reason"].as_str().unwrap();
    assert!(reason.contains("nobody listens there"), "{reason}");

    assert_eq!(dev.terminate(), Some(0));
    assert!(pids.iter().all(|pid| !is_running(*pid)));

    // The next start goes on, with all of them.
    let mut dev = Dev::start(folder.path(), base_port, &[]);
    dev.wait_for("goes on");
    dev.wait_for("All nodes answer;");
    let text = refusal(folder.path(), &["--fresh"]);
    assert!(text.contains("another holdfast dev"), "{text}");
    assert_eq!(dev.terminate(), Some(0));
}

#[test]
fn nodes_do_not_outlive_the_program_that_started_them() {
    let folder = TempDir::new().unwrap();
    let mut dev = Dev::start(folder.path(), free_base_port(), &["--nodes=3"]);
    dev.wait_for("All nodes answer;");
    let pids = dev.pids();
    assert!(pids.iter().all(|pid| is_running(*pid)));
    dev.signal(Signal::KILL);
    await_ended(&pids);
    let log = std::fs::read_to_string(folder.path().join("n2.log")).unwrap();
    assert!(log.contains("end of standard input"), "{log}");
    assert!(log.ends_with("\"stopped\"}\n"), "{log}");
}

#[test]
fn fresh_begins_anew_and_one_node_is_enough() {
    let folder = TempDir::new().unwrap();
    let base_port = free_base_port();
    let mut dev = Dev::start(folder.path(), base_port, &["--nodes", "1"]);
    dev.wait_for("All nodes answer; n1 is the leader.");
    assert_eq!(dev.terminate(), Some(0));
    let text = refusal(folder.path(), &["--nodes", "3"]);
    assert!(text.contains("has a cluster with --nodes 1"), "{text}");
    let log = folder.path().join("n1.log");
    std::fs::write(&log, "old\n").unwrap();

    let mut dev = Dev::start(folder.path(), base_port, &["--nodes", "1", "--fresh"]);
    dev.wait_for("is new");
    dev.wait_for("All nodes answer;");
    assert!(!std::fs::read_to_string(&log).unwrap().contains("old\n"));
    let pid = dev.pid("n1");
    kill_process(pid, Signal::KILL).unwrap();
    dev.wait_for("It was the only one.");
    dev.wait_for("No node is left.");
    assert_eq!(dev.child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_is_begun() {
    let folder = TempDir::new().unwrap();
    let taken = Node::start(&folder.path().join("other"));
    let (_, port) = taken.endpoint.rsplit_once(':').unwrap();
    let dev = folder.path().join("dev");
    let text = refusal(&dev, &["--nodes=1", "--base-port", port]);
    assert!(
        text.contains(&format!("cannot use 127.0.0.1:{port} for n1")),
        "{text}"
    );
    let left: Vec<_> = std::fs::read_dir(&dev).unwrap().collect();
    // Another port is no contradiction.
    assert_eq!(left.len(), 1, "{left:?}");
    let mut dev = Dev::start(&dev, free_base_port(), &["--nodes=1"]);
    dev.wait_for("All nodes answer;");
    assert_eq!(dev.terminate(), Some(0));
}

#[test]
fn status_of_nobody_says_why_and_fails() {
    let endpoint = format!("127.0.0.1:{}", node::free_port());
    let (code, text) = status(&["--endpoints", &endpoint]);
    assert_eq!(code, Some(1));
    assert!(text.starts_with("It does not answer.\n"), "{text}");
    assert!(text.contains("nobody listens there"), "{text}");
}
