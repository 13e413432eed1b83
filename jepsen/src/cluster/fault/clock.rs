//! Wall clocks that jump: libfaketime inside the server's process, told by a file. Its monotonic clock stays as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use rand::RngExt;

use super::{Nemesis, Struck, last};
use crate::cluster::node::name;

/// Of a jump, in seconds; the least one that counts as seen.
const JUMP_S: i64 = 3_600;
const LEAST_S: u64 = 30;

fn library() -> Option<PathBuf> {
    [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    ]
    .iter()
    .map(|folder| Path::new(folder).join("faketime/libfaketimeMT.so.1"))
    .find(|path| path.exists())
}

/// Why it cannot be had, if it cannot.
pub(super) fn impossible(binary: &Path) -> Option<String> {
    if library().is_none() {
        return Some("install the package faketime".to_owned());
    }
    let bytes = fs::read(binary).unwrap_or_default();
    // The name of the dynamic linker is near the beginning of every program that has one.
    let head = &bytes[..bytes.len().min(4_096)];
    let is_dynamic = head.windows(8).any(|word| word == b"ld-linux");
    (!is_dynamic)
        .then(|| "the server is linked statically: no library can change its clock".to_owned())
}

fn file(folder: &Path) -> PathBuf {
    folder.join("clock")
}

/// What a member must be started with.
pub(super) fn environment(folder: &Path) -> Vec<(String, String)> {
    let library = library().unwrap_or_default();
    [
        ("LD_PRELOAD", library.display().to_string()),
        (
            "FAKETIME_TIMESTAMP_FILE",
            file(folder).display().to_string(),
        ),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

impl Nemesis {
    /// Each member gets its own time, some jumps one after the other.
    pub(super) async fn clock(&mut self, duration: Duration) -> anyhow::Result<Struck> {
        const JUMPS: u32 = 4;
        let members = self.world.members();
        let begin = self.begin("other times:", &members);
        let mut proofs = Vec::new();
        let mut happened = true;
        for _ in 0..JUMPS {
            let mut offsets = Vec::new();
            for &node in &members {
                let offset = self.rng.random_range(-JUMP_S..=JUMP_S);
                fs::write(
                    file(&self.cluster.nodes[node].setup.folder),
                    format!("{offset:+}"),
                )?;
                offsets.push(offset);
            }
            last(duration / JUMPS).await;
            for (&node, &offset) in members.iter().zip(&offsets) {
                let seen = self.seen(node)?;
                // One that is nearly no jump shows nothing.
                happened &= offset.unsigned_abs() < LEAST_S || seen.unsigned_abs() >= LEAST_S;
                proofs.push(format!("{} {seen:+} s", name(node)));
            }
        }
        let end = self.world.now();
        for &node in &members {
            fs::remove_file(file(&self.cluster.nodes[node].setup.folder))?;
        }
        Ok(Struck {
            nodes: members,
            begin,
            end,
            happened,
            proof: format!(
                "with libfaketime mapped, clocks were off by {}",
                proofs.join(", ")
            ),
            ..Struck::default()
        })
    }

    /// How far a program under the same library and file is off, once the member itself has the library mapped.
    fn seen(&self, node: usize) -> anyhow::Result<i64> {
        let node = &self.cluster.nodes[node];
        let maps = fs::read_to_string(format!("/proc/{}/maps", node.pid()?))?;
        ensure!(
            maps.contains("libfaketime"),
            "{} does not have libfaketime mapped",
            node.name()
        );
        let output = Command::new("date")
            .arg("+%s")
            .envs(node.setup.environment.iter().cloned())
            .output()?;
        let theirs: i64 = String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .context("date tells no number")?;
        let ours = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(theirs - i64::try_from(ours)?)
    }
}
