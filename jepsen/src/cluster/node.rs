//! One member: a real process of a real binary, in its place in the network, with its data folder; killed, stopped, started.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// What of the log is shown when something went wrong.
const SHOWN_BYTES: u64 = 4 << 10;
/// How long a process may take to reach the state that a signal asks for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a member is started with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) binary: PathBuf,
    /// Where its log and, unless mounted elsewhere, its data are.
    pub(crate) folder: PathBuf,
    pub(crate) data_dir: PathBuf,
    /// To run in, if not in the harness's own.
    pub(crate) namespace: Option<String>,
    pub(crate) client_url: String,
    pub(crate) peer_url: String,
    /// More flags, the same for all.
    pub(crate) flags: Vec<String>,
    /// Variables of its environment.
    pub(crate) environment: Vec<(String, String)>,
}

/// A member, running or not. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) setup: Setup,
    /// How often it was started; shared with clients, who note it.
    lives: Arc<AtomicU64>,
    child: Option<Child>,
}

/// What a cluster looks like to the one who starts.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    /// `n1=http://..,n2=..`
    pub(crate) initial_cluster: String,
    /// `new`, or `existing` for one that joins.
    pub(crate) state: &'static str,
}

impl Node {
    pub(crate) fn new(index: usize, setup: Setup, lives: Arc<AtomicU64>) -> Node {
        Node {
            index,
            setup,
            lives,
            child: None,
        }
    }

    pub(crate) fn name(&self) -> String {
        name(self.index)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Starts the process and does not wait for it to serve.
    pub(crate) fn start(&mut self, membership: &Membership) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name());
        let setup = &self.setup;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut command = match &setup.namespace {
            // Not `ip netns exec`, which makes a mount namespace too: that would keep a dead file system alive.
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command
                    .arg(format!("--net=/run/netns/{namespace}"))
                    .arg("--")
                    .arg(&setup.binary);
                command
            }
            None => Command::new(&setup.binary),
        };
        command
            .args(["--name", &name(self.index)])
            .arg("--data-dir")
            .arg(&setup.data_dir)
            .args(["--listen-client-urls", &setup.client_url])
            .args(["--advertise-client-urls", &setup.client_url])
            .args(["--listen-peer-urls", &setup.peer_url])
            .args(["--initial-advertise-peer-urls", &setup.peer_url])
            .args(["--initial-cluster", &membership.initial_cluster])
            .args(["--initial-cluster-state", membership.state])
            .args(&setup.flags)
            .envs(setup.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", setup.binary.display()))?;
        self.child = Some(child);
        self.lives.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// SIGKILL, and waits until the process is gone. Returns what shows that it was this that ended it.
    pub(crate) fn kill(&mut self) -> anyhow::Result<String> {
        let mut child = self
            .child
            .take()
            .with_context(|| format!("{} does not run", name(self.index)))?;
        if let Some(status) = child.try_wait()? {
            bail!(
                "{} had ended by itself with {status}:\n{}",
                self.name(),
                self.log_tail()
            );
        }
        let pid = child.id();
        child.kill()?;
        let status = child.wait()?;
        ensure!(
            status.signal() == Some(9),
            "{} ended with {status}",
            self.name()
        );
        Ok(format!("{} (pid {pid}) ended by signal 9", self.name()))
    }

    /// The same for one that may have ended by itself; tells how.
    pub(crate) fn kill_or_reap(&mut self) -> anyhow::Result<String> {
        let Some(mut child) = self.child.take() else {
            return Ok(format!("{} did not run", self.name()));
        };
        if let Some(status) = child.try_wait()? {
            return Ok(format!("{} had ended with {status}", self.name()));
        }
        child.kill()?;
        child.wait()?;
        Ok(format!("{} killed", self.name()))
    }

    /// Whether it has ended by itself, and how.
    pub(crate) fn exited(&mut self) -> anyhow::Result<Option<String>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status.map(|status| format!("{} ended with {status}", name(self.index))))
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        let child = self.child.as_ref();
        let child = child.with_context(|| format!("{} does not run", self.name()))?;
        Ok(child.id())
    }

    /// SIGSTOP, and waits until the kernel shows the process as stopped.
    pub(crate) fn stop(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)?;
        self.wait_for_state(|state| state == 'T')
    }

    /// SIGCONT, and waits until it runs.
    pub(crate) fn go_on(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)?;
        self.wait_for_state(|state| state != 'T')
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()?).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.context("a process id")?, signal)?)
    }

    /// Of the process, as in `/proc/<pid>/stat`.
    pub(crate) fn state(&self) -> anyhow::Result<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        // pid (name, which may hold anything) state ..
        let after = stat.rsplit_once(") ").map(|(_, after)| after);
        after
            .and_then(|after| after.chars().next())
            .context("/proc/<pid>/stat has another form")
    }

    fn wait_for_state(&self, is_right: impl Fn(char) -> bool) -> anyhow::Result<()> {
        let since = Instant::now();
        while !is_right(self.state()?) {
            ensure!(
                since.elapsed() < PATIENCE,
                "{} does not follow the signal",
                self.name()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.setup.folder.join("server.log")
    }

    /// How much it has written.
    pub(crate) fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.log_path()).map_or(0, |log| log.len())
    }

    /// The end of what it wrote.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log_path()).unwrap_or_else(|error| format!("(no log: {error})"))
    }

    /// Forgets everything that it stored.
    pub(crate) fn wipe(&self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "{} runs", self.name());
        match std::fs::remove_dir_all(&self.setup.data_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Best effort: a run that failed must not leave a process behind.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// How members are called, here and on their command line.
pub(crate) fn name(index: usize) -> String {
    format!("n{}", index + 1)
}

/// `n1, n3`
pub(crate) fn names(nodes: &[usize]) -> String {
    let names: Vec<String> = nodes.iter().map(|&node| name(node)).collect();
    names.join(", ")
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut log = File::open(path)?;
    let size = log.metadata()?.len();
    log.seek(SeekFrom::Start(size.saturating_sub(SHOWN_BYTES)))?;
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
