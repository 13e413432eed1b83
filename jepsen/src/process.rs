//! A real `holdfast` process: started on a data folder, killed at will, started again.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use client::Client;
use rustix::process::{Pid, Signal, kill_process};

/// How long a start or a clean stop may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the process is asked whether it is there yet.
const POLL: Duration = Duration::from_millis(5);
/// What of the log is shown when something went wrong.
const SHOWN_BYTES: u64 = 8 << 10;

/// The binary to test: `HOLDFAST_BIN`, or the one that cargo built next to the running test.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("HOLDFAST_BIN") {
        return Ok(PathBuf::from(path));
    }
    let test = std::env::current_exe()?;
    // target/<profile>/deps/<test> and target/<profile>/holdfast
    let beside = test
        .parent()
        .and_then(Path::parent)
        .map(|folder| folder.join("holdfast"));
    match beside {
        Some(path) if path.exists() => Ok(path),
        _ => bail!(
            "there is no holdfast binary next to {}: run `cargo build -p holdfast-server` first, or set HOLDFAST_BIN",
            test.display()
        ),
    }
}

/// A member on one data folder and one port, running or not.
#[derive(Debug)]
pub struct Server {
    binary: PathBuf,
    folder: PathBuf,
    port: u16,
    flags: Vec<String>,
    wrapper: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
    child: Option<Child>,
}

impl Server {
    /// A member that has not been started. Data and log go below `folder`.
    pub fn new(binary: PathBuf, folder: &Path) -> anyhow::Result<Server> {
        // Taken by the system for a moment, so that two tests do not choose the same.
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        Ok(Server {
            binary,
            folder: folder.to_owned(),
            port,
            flags: Vec::new(),
            wrapper: Vec::new(),
            environment: Vec::new(),
            child: None,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// More flags, from the next start on.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    }

    /// From the next start on the server is an argument of this program, which must become it.
    pub fn set_wrapper(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
    }

    /// From the next start on the server gets these variables.
    pub fn set_environment(&mut self, variables: &[(&'static str, &'static str)]) {
        self.environment = variables.to_vec();
    }

    /// Where its data is.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Starts the process and returns a client once it answers a read.
    pub async fn start(&mut self) -> anyhow::Result<Client> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let url = self.endpoint();
        let mut command = match self.wrapper.split_first() {
            None => Command::new(&self.binary),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&self.binary);
                command
            }
        };
        let child = command
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--name", "jepsen"])
            .args(["--listen-client-urls", &url])
            .args(["--advertise-client-urls", &url])
            .args(&self.flags)
            .envs(self.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.child = Some(child);
        let since = Instant::now();
        loop {
            if let Some(status) = self.exited()? {
                bail!(
                    "the server ended with {status} while starting:\n{}",
                    self.log_tail()
                );
            }
            if since.elapsed() > PATIENCE {
                bail!(
                    "the server does not serve after {PATIENCE:?}:\n{}",
                    self.log_tail()
                );
            }
            if let Ok(client) = client::connect(url.clone()).await
                && client.get("ready").await.is_ok()
            {
                return Ok(client);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the server does not run")?;
        if let Some(status) = child.try_wait()? {
            bail!(
                "the server ended by itself with {status}:\n{}",
                self.log_tail()
            );
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGKILL, unless it has ended by itself already, as it may after a fault; tells how it did.
    pub fn kill_or_reap(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let mut child = self.child.take().context("the server does not run")?;
        let ended = child.try_wait()?;
        if ended.is_none() {
            child.kill()?;
            child.wait()?;
        }
        Ok(ended)
    }

    /// SIGTERM, and waits for a clean end.
    pub async fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        let child = self.child.as_ref().context("the server does not run")?;
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("a process id")?;
        kill_process(pid, Signal::TERM)?;
        let since = Instant::now();
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            if since.elapsed() > PATIENCE {
                bail!(
                    "the server still runs {PATIENCE:?} after SIGTERM:\n{}",
                    self.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The end of what the server wrote.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut log = File::open(self.log_path())?;
            let size = log.metadata()?.len();
            log.seek(SeekFrom::Start(size.saturating_sub(SHOWN_BYTES)))?;
            let mut bytes = Vec::new();
            log.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|error| format!("(no log: {error})"))
    }

    /// What it wrote, over all of its lives.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let child = self.child.as_mut().context("the server does not run")?;
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Best effort: a test that failed must not leave a process behind.
            child.kill().ok();
            child.wait().ok();
        }
    }
}
