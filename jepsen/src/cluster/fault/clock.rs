//! Wall clocks that jump: a small library inside the server's process adds what a file says. Its monotonic clock stays.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use rand::RngExt;

use super::{Nemesis, Struck, last};
use crate::cluster::node::name;
use crate::cluster::shell;

const LIBRARY: &str = include_str!("clock.c");
/// Of a jump, there or back.
const JUMP_NS: i64 = 3_600_000_000_000;
const JUMPS: u32 = 4;
/// Where the file says how often somebody was told a wrong time.
const COUNT_AT: u64 = 8;

/// Why it cannot be had, if it cannot.
pub(super) fn impossible(binary: &Path) -> Option<String> {
    if shell::run("cc --version").is_err() {
        return Some("install the package gcc".to_owned());
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

/// Makes the library and the file in a member's folder. Returns what the member must be started with.
pub(super) fn environment(folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let library = folder.join("clock.so");
    let line = format!("cc -shared -fPIC -O2 -x c - -o {}", library.display());
    shell::run_with_input(&line, LIBRARY)?;
    fs::write(file(folder), [0; 16])?;
    Ok(vec![
        ("LD_PRELOAD".to_owned(), library.display().to_string()),
        (
            "JEPSEN_CLOCK".to_owned(),
            file(folder).display().to_string(),
        ),
    ])
}

impl Nemesis {
    /// Each member gets a time of its own, some jumps one after the other.
    pub(super) async fn clock(&mut self, duration: Duration) -> anyhow::Result<Struck> {
        let members = self.world.members();
        let before = self.told(&members)?;
        let begin = self.begin("other times:", &members);
        let mut jumps = Vec::new();
        for _ in 0..JUMPS {
            for &node in &members {
                let offset = self.rng.random_range(-JUMP_NS..=JUMP_NS);
                self.set_clock(node, offset)?;
                jumps.push(format!("{:+} s", offset / 1_000_000_000));
            }
            last(duration / JUMPS).await;
        }
        let end = self.world.now();
        for &node in &members {
            self.set_clock(node, 0)?;
        }
        let after = self.told(&members)?;
        let told: Vec<u64> = after
            .iter()
            .zip(&before)
            .map(|(after, before)| after - before)
            .collect();
        let counts: Vec<String> = members
            .iter()
            .zip(&told)
            .map(|(&node, count)| format!("{} {count}", name(node)))
            .collect();
        Ok(Struck {
            begin,
            end,
            // A follower of Holdfast never asks for it; that the library is in its process was looked at.
            happened: told.iter().any(|&count| count > 0),
            proof: format!(
                "times that each was told a wrong time: {}; off by {}",
                counts.join(", "),
                jumps.join(", ")
            ),
            nodes: members,
            ..Struck::default()
        })
    }

    fn set_clock(&self, node: usize, offset: i64) -> anyhow::Result<()> {
        let path = file(&self.cluster.nodes[node].setup.folder);
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(file.write_all_at(&offset.to_ne_bytes(), 0)?)
    }

    /// How often each was told a wrong time so far.
    fn told(&self, members: &[usize]) -> anyhow::Result<Vec<u64>> {
        let count = |&node: &usize| {
            let folder = &self.cluster.nodes[node].setup.folder;
            let maps =
                fs::read_to_string(format!("/proc/{}/maps", self.cluster.nodes[node].pid()?))?;
            ensure!(
                maps.contains("/clock.so"),
                "{} runs without the library",
                name(node)
            );
            let mut bytes = [0; 8];
            let file = fs::File::open(file(folder)).context("a clock file")?;
            file.read_exact_at(&mut bytes, COUNT_AT)?;
            Ok(u64::from_ne_bytes(bytes))
        };
        members.iter().map(count).collect()
    }
}
