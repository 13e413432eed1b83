//! The real binary on a folder and port of its own, for tests.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A started `holdfast`; killed when dropped.
pub struct Node {
    pub endpoint: String,
    pub data_dir: PathBuf,
    child: Child,
    log: Receiver<String>,
    seen: Vec<String>,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Node {
    /// Starts the binary and waits until it serves.
    pub fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    /// The same with more flags.
    pub fn start_with(data_dir: &Path, flags: &[&str]) -> Self {
        let endpoint = format!("127.0.0.1:{}", free_port());
        let url = format!("http://{endpoint}");
        let mut child = Command::new(env!("CARGO_BIN_EXE_holdfast"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url, "--data-dir"])
            .arg(data_dir)
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = channel();
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        let mut node = Self { endpoint, data_dir: data_dir.to_owned(), child, log, seen: Vec::new() };
        node.wait_for_log("ready to serve client requests");
        node
    }

    /// Waits for a log line that contains `text`.
    pub fn wait_for_log(&mut self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => {
                    let found = line.contains(text);
                    self.seen.push(line.clone());
                    if found {
                        return line;
                    }
                }
                Err(error) => panic!("no log line with {text:?} ({error}); the log so far:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// SIGTERM, then the exit status.
    pub fn terminate(mut self) -> ExitStatus {
        let pid = i32::try_from(self.child.id()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The real etcdctl, from where `make etcd` puts it.
pub fn etcdctl() -> PathBuf {
    let cache = std::env::var("HOLDFAST_CACHE")
        .unwrap_or_else(|_| format!("{}/.cache/holdfast", std::env::var("HOME").unwrap()));
    let path = PathBuf::from(cache).join("tools/bin/etcdctl");
    assert!(path.exists(), "{} is missing: run `make etcd` once", path.display());
    path
}
