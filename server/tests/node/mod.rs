//! The real binary on a folder and port of its own, for tests.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses its own part, and fails by panicking"
)]

pub(crate) mod http;
pub(crate) mod real;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A started `holdfast`; killed when dropped.
pub(crate) struct Node {
    pub(crate) endpoint: String,
    pub(crate) data_dir: PathBuf,
    child: Child,
    log: Receiver<String>,
    seen: Vec<String>,
}

/// A port that was free a moment ago. Below those that the system gives to outgoing connections: one of them could be
/// taken by anybody before the node binds it.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 10_000;
    const PORTS: u32 = 20_000;
    loop {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        // Test binaries may run at the same time.
        let place = (std::process::id().wrapping_mul(7_919) + turn) % PORTS;
        let port = u16::try_from(FIRST + place).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Node {
    /// Starts the binary and waits until it serves.
    pub(crate) fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    /// The same with more flags.
    pub(crate) fn start_with(data_dir: &Path, flags: &[&str]) -> Self {
        Self::start_under(&[], data_dir, flags)
    }

    /// The same as an argument of another program, which becomes it.
    pub(crate) fn start_under(wrapper: &[&str], data_dir: &Path, flags: &[&str]) -> Self {
        let mut node = Self::launch(wrapper, data_dir, flags);
        node.wait_for_log("ready to serve client requests");
        node
    }

    /// Starts the binary, which may end by itself.
    pub(crate) fn launch(wrapper: &[&str], data_dir: &Path, flags: &[&str]) -> Self {
        let endpoint = format!("127.0.0.1:{}", free_port());
        let url = format!("http://{endpoint}");
        let holdfast = env!("CARGO_BIN_EXE_holdfast");
        let mut command = match wrapper {
            [] => Command::new(holdfast),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(holdfast);
                command
            }
        };
        let mut child = command
            .args([
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
                "--data-dir",
            ])
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
        Self {
            endpoint,
            data_dir: data_dir.to_owned(),
            child,
            log,
            seen: Vec::new(),
        }
    }

    /// Waits for a log line that contains `text`, if there was none yet.
    pub(crate) fn wait_for_log(&mut self, text: &str) -> String {
        if let Some(line) = self.seen.iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        let deadline = Instant::now() + PATIENCE;
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
                Err(error) => panic!(
                    "no log line with {text:?} ({error}); the log so far:\n{}",
                    self.seen.join("\n")
                ),
            }
        }
    }

    /// The log lines so far that contain `text`.
    pub(crate) fn logged(&mut self, text: &str) -> Vec<&String> {
        self.seen.extend(self.log.try_iter());
        let lines = self.seen.iter();
        lines.filter(|line| line.contains(text)).collect()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it serves (true) or has ended.
    pub(crate) fn serves(&mut self) -> bool {
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            let is_ready = line.contains("ready to serve client requests");
            self.seen.push(line);
            if is_ready {
                return true;
            }
        }
        false
    }

    /// Waits until it ends by itself; gives the exit code and all log lines.
    pub(crate) fn wait(mut self) -> (Option<i32>, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("it still runs; its log:\n{}", self.seen.join("\n"))
                }
            }
        }
        let code = self.child.wait().unwrap().code();
        (code, std::mem::take(&mut self.seen))
    }

    /// SIGTERM, then the exit status.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().unwrap()
    }

    /// Sends a signal. One that stops the node has stopped all of its threads on return: until the first of them has
    /// seen it, the others run on.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while signal == Signal::STOP && !self.is_stopped() {
            assert!(Instant::now() < deadline, "it did not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        threads.flatten().all(|thread| {
            // A thread that is gone runs no more.
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit_once(") ").map_or("T", |(_, rest)| &rest[..1]);
            state == "T"
        })
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
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

/// strace runs the node and makes some of its syncs fail or last. Its counters are of each thread, and only the
/// writer of the log syncs that often.
pub(crate) fn traced(inject: &str) -> Vec<&str> {
    let found = Command::new("strace").arg("--version").output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "strace is missing: run `make packages` once"
    );
    let mut wrapper = vec!["strace", "-D", "-f", "-qq", "-o", "/dev/null"];
    wrapper.extend(["-e", "trace=fdatasync", "-e", inject]);
    wrapper
}

/// The real etcdctl, from where `make etcd` puts it.
pub(crate) fn etcdctl() -> PathBuf {
    real::tool("etcdctl")
}
