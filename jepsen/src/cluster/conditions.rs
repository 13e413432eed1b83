//! What a run is: everything that is needed to make it again.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::fault::Site;
use super::members::version;

/// What a run is. Written beside its history, and enough to repeat it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Everything random follows from it: operations, order, length and targets of faults. Not the machine's timing.
    pub seed: u64,
    /// The server's binary; takes etcd's flags.
    pub binary: PathBuf,
    /// What it says of itself.
    pub version: String,
    /// Members of the cluster.
    pub nodes: usize,
    /// How long clients ask.
    pub seconds: u64,
    /// What they ask for.
    pub workload: String,
    /// Names of the faults.
    pub faults: Vec<String>,
    /// Operations a second that all clients together ask for.
    pub rate: f64,
    /// Clients of each member.
    pub clients: usize,
    /// How long a client waits for an answer.
    pub timeout_ms: u64,
    /// Of the servers; only measured against, not set.
    pub election_timeout_ms: u64,
    /// From the end of a fault to one hash on all members, at most. For Holdfast five seconds, its promise; etcd has none,
    /// and waits seven before it tries again to announce a member.
    pub converge_ms: u64,
    /// Whether members have a network of their own.
    pub has_network: bool,
    /// More flags for the servers.
    pub flags: Vec<String>,
    /// Seconds since 1970 when it began.
    pub started: u64,
    /// Of the kernel.
    pub kernel: String,
}

impl Conditions {
    /// Three members, and everything else at its default.
    pub fn new(binary: &Path, seed: u64) -> anyhow::Result<Conditions> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(Conditions {
            seed,
            binary: binary.to_owned(),
            version: version(binary)?,
            nodes: 3,
            seconds: 30,
            workload: "mixed".to_owned(),
            faults: Vec::new(),
            rate: 300.0,
            clients: 3,
            timeout_ms: 3_000,
            election_timeout_ms: if is_holdfast(binary) { 700 } else { 1_000 },
            converge_ms: if is_holdfast(binary) { 5_000 } else { 15_000 },
            has_network: super::network::impossible().is_none(),
            flags: Vec::new(),
            started,
            kernel: kernel(),
        })
    }

    /// Where faults are to happen.
    pub(crate) fn site(&self) -> Site<'_> {
        Site {
            binary: &self.binary,
            members: self.nodes,
            has_network: self.has_network,
        }
    }

    /// `mixed, part-leader` and so on.
    #[must_use]
    pub fn title(&self) -> String {
        let faults = if self.faults.is_empty() {
            "no faults".to_owned()
        } else {
            self.faults.join(" ")
        };
        format!("{}: {faults}", self.workload)
    }

    /// The name and version, without what follows.
    #[must_use]
    pub fn system(&self) -> String {
        let name = self
            .binary
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let number = self
            .version
            .split_whitespace()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        format!("{name} {}", number.unwrap_or("?"))
    }
}

fn is_holdfast(binary: &Path) -> bool {
    let name = binary.file_name().unwrap_or_default();
    name.to_string_lossy().contains("holdfast")
}

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map_or("?".to_owned(), |release| release.trim().to_owned())
}
