//! A node with the resource API on fresh data: how soon it is ready, and what it takes while nobody asks it anything.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::Request;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use crate::compare::server::{Kind, PATIENCE, Server};
use crate::process::Usage;
use crate::wire;

/// Time between two questions whether it is ready.
const POLL: Duration = Duration::from_millis(2);
/// A server that is starting may accept a connection and be silent.
const SILENCE: Duration = Duration::from_secs(5);
/// Time that memory gets to settle.
const SETTLE: Duration = Duration::from_secs(3);

/// A server and its ports; killed when dropped.
pub(super) struct Node {
    server: Server,
    folder: PathBuf,
    api: SocketAddr,
    ready: Duration,
}

/// What a fresh node took before anybody used it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Idle {
    pub(crate) round: usize,
    /// From the start of the process until it says that it is ready.
    pub(crate) ready_ms: f64,
    /// A few seconds later.
    pub(crate) memory: Usage,
}

impl Node {
    /// Starts a node on fresh data in `folder` and waits until it is ready.
    pub(super) fn start(binary: &Path, folder: &Path) -> Result<Node> {
        // All are held until all are known, or one could be another again.
        let mut listeners = Vec::new();
        for _ in 0..4 {
            listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
        }
        let addresses = listeners.iter().map(TcpListener::local_addr);
        let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
        drop(listeners);
        let [client, peer, api, encrypted] = addresses[..] else {
            bail!("four ports are needed");
        };
        // As people start it, it makes certificates first, so it does here.
        let arguments = vec![format!(
            "--listen-api-urls=http://{api},https://{encrypted}"
        )];
        let begin = Instant::now();
        let server = Server::spawn(Kind::Holdfast, binary, folder, [client, peer], arguments)?;
        let mut node = Node {
            server,
            folder: folder.to_owned(),
            api,
            ready: Duration::ZERO,
        };
        node.wait_until_ready(begin)?;
        node.ready = begin.elapsed();
        // The etcd port answers no later, but this makes sure.
        node.server.wait_until_serving(None)?;
        Ok(node)
    }

    /// Where the resource API is.
    pub(super) fn api(&self) -> SocketAddr {
        self.api
    }

    /// Where clients of etcd connect.
    pub(super) fn etcd(&self) -> SocketAddr {
        self.server.endpoint()
    }

    /// The process.
    pub(super) fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// What the server said last.
    pub(super) fn last_words(&self) -> String {
        self.server.last_words()
    }

    /// Leaves it alone for a while.
    pub(super) fn idle(&self, round: usize) -> Result<Idle> {
        std::thread::sleep(SETTLE);
        Ok(Idle {
            round,
            ready_ms: self.ready.as_secs_f64() * 1e3,
            memory: Usage::of(self.pid())?,
        })
    }

    /// Ends it and removes its data.
    pub(super) fn end(self) -> Result<()> {
        let Node { server, folder, .. } = self;
        drop(server);
        fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))
    }

    fn wait_until_ready(&mut self, begin: Instant) -> Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        loop {
            let Err(error) = ask(&runtime, self.api) else {
                return Ok(());
            };
            let has_ended = self.server.has_ended()?;
            if has_ended || begin.elapsed() > PATIENCE {
                let words = self.server.last_words();
                return Err(error.context(if has_ended {
                    format!("the server has ended; its last words:\n{words}")
                } else {
                    format!(
                        "the API is not ready after {PATIENCE:?}; the server's last words:\n{words}"
                    )
                }));
            }
            std::thread::sleep(POLL);
        }
    }
}

fn ask(runtime: &Runtime, api: SocketAddr) -> Result<()> {
    runtime.block_on(async {
        let head = Request::get(format!("http://{api}/readyz")).body(())?;
        let asked = async { wire::connect(api).await?.ask(head, Bytes::new()).await };
        tokio::time::timeout(SILENCE, asked)
            .await
            .context("no answer")??;
        Ok(())
    })
}
