//! The cluster itself: all members with their network and disks, made, started and looked after.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::fault::{self, Kind};
use super::network::Network;
use super::node::{Membership, Node, Setup, name};
use super::world::World;
use crate::power::{CACHED_LOG, Disk};

/// An image is sparse: only what is written takes space.
const DISK_BYTES: u64 = 700 << 20;

/// How a cluster is made.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) binary: PathBuf,
    pub(crate) folder: PathBuf,
    /// What is going to be broken.
    pub(crate) faults: Vec<&'static Kind>,
    /// Members at first.
    pub(crate) members: usize,
    /// Places for members that join later.
    pub(crate) spares: usize,
    /// Whether each has a network namespace of its own.
    pub(crate) has_network: bool,
    /// Whether the data of each is on a file system of its own.
    pub(crate) has_disks: bool,
    pub(crate) flags: Vec<String>,
    /// For one answer.
    pub(crate) timeout: Duration,
}

/// A stretch of a member's log, in bytes, during which it may have ended by itself with whatever last words.
#[derive(Clone, Copy, Debug)]
struct Forgiven {
    node: usize,
    from: u64,
    /// Until now, if there is no end.
    to: Option<u64>,
}

/// All of it is taken down when dropped: processes first, then what they ran on.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    disks: Vec<Disk>,
    network: Option<Network>,
    forgiven: Vec<Forgiven>,
    /// What went wrong that is nobody's intent.
    pub(crate) alarming: Vec<String>,
    first: Membership,
    /// Of those that joined later.
    joined: BTreeMap<usize, Membership>,
}

impl Cluster {
    /// Makes folders, network and disks; starts nothing.
    pub(crate) fn new(shape: &Shape) -> anyhow::Result<(Cluster, Arc<World>)> {
        let places = shape.members + shape.spares;
        let network = match shape.has_network {
            true => Some(Network::new(places)?),
            false => None,
        };
        let urls = (0..places)
            .map(|node| urls(network.as_ref(), node))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let endpoints = urls.iter().map(|(client, _)| client.clone()).collect();
        let world = World::new(endpoints, shape.members, shape.timeout);
        let (mut nodes, mut disks) = (Vec::new(), Vec::new());
        for (index, (client_url, peer_url)) in urls.into_iter().enumerate() {
            let folder = shape.folder.join(name(index));
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            let mut data_dir = folder.join("data");
            if shape.has_disks {
                let disk = Disk::new(&folder, &folder.join("disk"), DISK_BYTES);
                disks.push(disk.context("cannot make a disk of its own for a member")?);
                // Not the mount itself, which holds `lost+found` and cannot be removed.
                data_dir = folder.join("disk/data");
            }
            let mut environment = fault::environment(&shape.faults, &folder)?;
            // Each cut of all meets both ways to write a log; where syncs lie, only this one loses anything.
            if index % 2 == 1 || shape.faults.iter().any(|kind| kind.is_control) {
                let (name, value) = CACHED_LOG;
                environment.push((name.to_owned(), value.to_owned()));
            }
            let setup = Setup {
                binary: shape.binary.clone(),
                folder,
                data_dir,
                namespace: network.as_ref().map(|network| network.namespace(index)),
                client_url,
                peer_url,
                flags: shape.flags.clone(),
                environment,
            };
            nodes.push(Node::new(index, setup, Arc::clone(&world.lives[index])));
        }
        let mut cluster = Cluster {
            nodes,
            disks,
            network,
            forgiven: Vec::new(),
            alarming: Vec::new(),
            first: Membership {
                initial_cluster: String::new(),
                state: "new",
            },
            joined: BTreeMap::new(),
        };
        let all: Vec<usize> = (0..shape.members).collect();
        cluster.first.initial_cluster = cluster.initial_cluster(&all);
        Ok((cluster, world))
    }

    /// `n1=http://..,n2=..` of these.
    pub(crate) fn initial_cluster(&self, nodes: &[usize]) -> String {
        let pairs: Vec<String> = nodes
            .iter()
            .map(|&node| format!("{}={}", name(node), self.nodes[node].setup.peer_url))
            .collect();
        pairs.join(",")
    }

    /// Starts a member as what it became last. What is in its data folder counts for more.
    pub(crate) fn start(&mut self, node: usize) -> anyhow::Result<()> {
        let joined = self.joined.get(&node).unwrap_or(&self.first).clone();
        self.nodes[node].start(&joined)
    }

    /// From now on it starts as one that joins a cluster of these.
    pub(crate) fn joins(&mut self, node: usize, members: &[usize]) {
        let membership = Membership {
            initial_cluster: self.initial_cluster(members),
            state: "existing",
        };
        self.joined.insert(node, membership);
    }

    /// The network, for faults that need one.
    pub(crate) fn network(&self) -> anyhow::Result<&Network> {
        self.network
            .as_ref()
            .context("without a network of its own nothing can be cut: run as root")
    }

    pub(crate) fn disk(&mut self, node: usize) -> anyhow::Result<&mut Disk> {
        self.disks
            .get_mut(node)
            .context("without a disk of its own nothing can be cut")
    }

    /// Starts those of `members` that do not run, and notes those that ended without being asked to.
    pub(crate) fn restart(&mut self, members: &[usize]) -> anyhow::Result<()> {
        for &index in members {
            let mut forgiven = self.forgiven.iter();
            let is_forgiven = forgiven.any(|stretch| stretch.node == index && stretch.to.is_none());
            let node = &mut self.nodes[index];
            if let Some(how) = node.exited()?
                && !is_forgiven
            {
                let tail = node.log_tail();
                let last: Vec<&str> = tail.lines().rev().take(3).collect();
                self.alarming
                    .push(format!("{how}, without being killed: {}", last.join(" / ")));
            }
            if !node.is_running() {
                self.start(index)?;
            }
        }
        Ok(())
    }

    /// From now on that member may end by itself: something was done to it that it need not bear.
    pub(crate) fn forgive(&mut self, node: usize) {
        let from = self.nodes[node].log_bytes();
        self.forgiven.push(Forgiven {
            node,
            from,
            to: None,
        });
    }

    /// From now on nobody may.
    pub(crate) fn forgive_no_more(&mut self) {
        for stretch in self
            .forgiven
            .iter_mut()
            .filter(|stretch| stretch.to.is_none())
        {
            stretch.to = Some(self.nodes[stretch.node].log_bytes());
        }
    }

    /// Lines of the logs that tell of a defect and are not forgiven.
    pub(crate) fn alarming_lines(&self) -> Vec<String> {
        const MARKS: [&str; 5] = [
            "panic:",
            "panicked at",
            "\"level\":\"panic\"",
            "\"level\":\"fatal\"",
            "data inconsistency",
        ];
        let mut found = Vec::new();
        for node in &self.nodes {
            let log = std::fs::read(node.log_path()).unwrap_or_default();
            let mut at = 0;
            for line in log.split_inclusive(|&byte| byte == b'\n') {
                let forgiven = self.forgiven.iter().any(|stretch| {
                    stretch.node == node.index
                        && at >= stretch.from
                        && stretch.to.is_none_or(|to| at < to)
                });
                at += line.len() as u64;
                let line = String::from_utf8_lossy(line);
                if !forgiven && MARKS.iter().any(|mark| line.contains(mark)) {
                    let shown: String = line.trim_end().chars().take(400).collect();
                    found.push(format!("{} wrote: {shown}", node.name()));
                }
            }
        }
        found
    }
}

fn urls(network: Option<&Network>, node: usize) -> anyhow::Result<(String, String)> {
    if let Some(network) = network {
        let address = network.address(node);
        return Ok((
            format!("http://{address}:2379"),
            format!("http://{address}:2380"),
        ));
    }
    // Held at the same time, so that they differ.
    let first = TcpListener::bind(("127.0.0.1", 0))?;
    let second = TcpListener::bind(("127.0.0.1", 0))?;
    Ok((
        format!("http://{}", first.local_addr()?),
        format!("http://{}", second.local_addr()?),
    ))
}

/// What the binary says of itself.
pub(crate) fn version(binary: &Path) -> anyhow::Result<String> {
    let output = std::process::Command::new(binary)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {}: build it first", binary.display()))?;
    ensure!(
        output.status.success(),
        "{} --version failed",
        binary.display()
    );
    let said = String::from_utf8_lossy(&output.stdout);
    match said.lines().next() {
        Some(line) if !line.trim().is_empty() => Ok(line.trim().to_owned()),
        _ => bail!("{} --version says nothing", binary.display()),
    }
}
