//! Starts and ends the servers that are compared: same flags, loopback only, fresh data, no child left behind.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Builder;

use crate::guard;
use crate::load;

/// Longest time that a server may take to start or to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Time between two questions whether it serves yet; one costs the machine well under 1 %.
const POLL: Duration = Duration::from_millis(2);

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This project's server.
    Holdfast,
    /// The real etcd.
    Etcd,
    /// `bench echo`, the floor.
    Echo,
}

impl Kind {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Kind; 3] = [Kind::Holdfast, Kind::Etcd, Kind::Echo];

    /// The name on the command line and in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Holdfast => "holdfast",
            Kind::Etcd => "etcd",
            Kind::Echo => "echo",
        }
    }
}

/// A server on ports and a data folder of its own; killed when dropped.
pub(crate) struct Server {
    kind: Kind,
    binary: PathBuf,
    folder: PathBuf,
    client: SocketAddr,
    peer: SocketAddr,
    arguments: Vec<String>,
    child: Child,
}

impl Server {
    /// Starts a server on fresh data in `folder`, with more arguments, and waits until it answers.
    pub(crate) fn start(
        kind: Kind,
        binary: &Path,
        folder: &Path,
        arguments: &[String],
    ) -> Result<Server> {
        // Both are held until both are known, or the second could be the first again.
        let listeners = [
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
        ];
        let [client, peer] = [listeners[0].local_addr()?, listeners[1].local_addr()?];
        drop(listeners);
        let mut own = Vec::new();
        if kind == Kind::Etcd {
            own.push(format!("--initial-advertise-peer-urls=http://{peer}"));
            own.push(format!("--initial-cluster=default=http://{peer}"));
        }
        own.extend_from_slice(arguments);
        let mut server = Server::spawn(kind, binary, folder, [client, peer], own)?;
        server.wait_until_serving(None)?;
        Ok(server)
    }

    /// Starts a server on ports for clients and peers, and does not wait for it.
    pub(crate) fn spawn(
        kind: Kind,
        binary: &Path,
        folder: &Path,
        [client, peer]: [SocketAddr; 2],
        arguments: Vec<String>,
    ) -> Result<Server> {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let child = spawn(kind, binary, folder, client, peer, &arguments)?;
        Ok(Server {
            kind,
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            client,
            peer,
            arguments,
            child,
        })
    }

    /// Where clients connect.
    pub(crate) fn endpoint(&self) -> SocketAddr {
        self.client
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the server with `signal` and starts it again on its data. Answers with the time from the start of
    /// the process until a linearizable get finds the first key of a fill.
    pub(crate) fn restart(&mut self, signal: Signal) -> Result<Duration> {
        self.end(signal)?;
        let begin = Instant::now();
        self.spawn_again()?;
        self.wait_until_serving(Some(1))?;
        Ok(begin.elapsed())
    }

    /// Starts a server that has ended again on its data, and does not wait for it.
    pub(crate) fn spawn_again(&mut self) -> Result<()> {
        self.child = spawn(
            self.kind,
            &self.binary,
            &self.folder,
            self.client,
            self.peer,
            &self.arguments,
        )?;
        Ok(())
    }

    /// Sends a signal, and does not wait for its effect.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("signalling {}", self.kind.name()))
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        let patience = Instant::now() + PATIENCE;
        while !self.has_ended()? {
            ensure!(
                Instant::now() < patience,
                "{} does not end within {PATIENCE:?}",
                self.kind.name()
            );
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Returns when a linearizable get is answered; `expected` is how many keys it must find.
    pub(crate) fn wait_until_serving(&mut self, expected: Option<u32>) -> Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let patience = Instant::now() + PATIENCE;
        loop {
            let attempt = runtime.block_on(async {
                // A server that is starting may accept a connection and be silent.
                tokio::time::timeout(Duration::from_secs(5), load::probe(self.client))
                    .await
                    .context("no answer")?
            });
            let error = match attempt {
                Ok(found) if expected.is_none_or(|expected| expected == found) => return Ok(()),
                Ok(found) => bail!(
                    "{} lost keys over a restart: found {found}",
                    self.kind.name()
                ),
                Err(error) => error,
            };
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended with {status}; its last words:\n{}",
                    self.kind.name(),
                    self.last_words()
                );
            }
            if Instant::now() > patience {
                let words = self.last_words();
                return Err(error).with_context(|| {
                    format!(
                        "{} does not serve after {PATIENCE:?}; its last words:\n{words}",
                        self.kind.name()
                    )
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends with a message of what the server said last, for a run that failed on it.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read(log_path(&self.folder)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().rev().take(10).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data is thrown away, so there is nothing to end cleanly. Errors mean that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn spawn(
    kind: Kind,
    binary: &Path,
    folder: &Path,
    client: SocketAddr,
    peer: SocketAddr,
    arguments: &[String],
) -> Result<Child> {
    let mut command = guard::command(binary)?;
    let [client_url, peer_url] = [format!("http://{client}"), format!("http://{peer}")];
    match kind {
        Kind::Echo => {
            command.arg("echo").arg(format!("--listen={client}"));
        }
        Kind::Holdfast | Kind::Etcd => {
            command.arg("--data-dir").arg(folder.join("data"));
            command.arg(format!("--listen-client-urls={client_url}"));
            command.arg(format!("--advertise-client-urls={client_url}"));
            command.arg(format!("--listen-peer-urls={peer_url}"));
            command.arg("--log-level=error");
        }
    }
    if kind == Kind::Etcd {
        // A minute of puts exceeds the default of 2 GiB on a fast machine.
        command.arg("--quota-backend-bytes=8589934592");
    }
    command.args(arguments);
    without_settings(&mut command);
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_path(folder))
        .context("opening a server's log")?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command
        .spawn()
        .with_context(|| format!("starting {}", binary.display()))
}

/// Variables that configure a server must not reach only one of them.
fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["ETCD", "HOLDFAST", "GOGC", "GOMAXPROCS", "GODEBUG"]
            .iter()
            .any(|setting| text.starts_with(setting))
        {
            command.env_remove(&name);
        }
    }
}
