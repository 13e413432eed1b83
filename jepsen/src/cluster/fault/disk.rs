//! Disks that are full, fail or are slow, while the process and its machine live on.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rand::RngExt;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::{Pid, Signal, kill_process};

use super::{Nemesis, Struck, last};
use crate::cluster::node::name;
use crate::cluster::shell;

#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    Full,
    Error,
    Slow,
}

/// What counts as a sync.
const SYNCS: &str = "fsync,fdatasync,sync_file_range";
const SLOWER_US: u64 = 200_000;
/// How long strace may take to attach.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why system calls cannot be made to fail here, if they cannot.
pub(super) fn impossible() -> Option<String> {
    let is_there = shell::run("strace -V").is_ok();
    (!is_there).then(|| "install the package strace".to_owned())
}

impl Nemesis {
    pub(super) async fn disk(
        &mut self,
        trouble: Trouble,
        leader: usize,
        duration: Duration,
    ) -> anyhow::Result<Struck> {
        let members = self.world.members();
        // The leader half of the time: it is the one that matters most.
        let target = if self.rng.random() {
            leader
        } else {
            self.any(&members)?
        };
        // It may end with the reason, which is right.
        self.cluster.forgive(target);
        match trouble {
            Trouble::Full => self.fill(target, duration).await,
            Trouble::Error => self.inject(target, leader, "error=EIO", duration).await,
            Trouble::Slow => {
                let slower = format!("delay_enter={SLOWER_US}");
                self.inject(target, leader, &slower, duration).await
            }
        }
    }

    async fn fill(&mut self, target: usize, duration: Duration) -> anyhow::Result<Struck> {
        let folder = self.cluster.nodes[target].setup.folder.join("disk");
        let ballast = folder.join("ballast");
        let bytes = fill(&ballast)?;
        let begin = self.begin("disk full:", &[target]);
        last(duration).await;
        let refused = File::create(folder.join("one-more"))
            .and_then(|mut file| file.write_all(&[1; 65_536]))
            .err();
        let end = self.world.now();
        let ended = self.cluster.nodes[target].exited()?;
        fs::remove_file(&ballast)?;
        fs::remove_file(folder.join("one-more")).ok();
        let refused = refused.map_or("but it was accepted in the end".to_owned(), |error| {
            error.to_string()
        });
        Ok(Struck {
            nodes: vec![target],
            begin,
            end,
            happened: refused.contains("No space"),
            proof: format!(
                "{bytes} bytes taken; 64 KiB more on the disk of {}: {refused}; {}",
                name(target),
                ended.unwrap_or_else(|| "the process lived on".to_owned())
            ),
            ..Struck::default()
        })
    }

    async fn inject(
        &mut self,
        target: usize,
        leader: usize,
        what: &str,
        duration: Duration,
    ) -> anyhow::Result<Struck> {
        let node = &self.cluster.nodes[target];
        let trace = node
            .setup
            .folder
            .join(format!("strace-{}.log", self.world.now()));
        let mut strace = attach(node.pid()?, what, &trace)?;
        let begin = self.begin(what, &[target]);
        let survivors = self.others(&[target]);
        let has_majority = survivors.len() >= self.majority();
        let takes_leader = target == leader && what.starts_with("error") && has_majority;
        if takes_leader {
            self.probe(survivors);
        }
        last(duration).await;
        let end = self.world.now();
        let ended = self.cluster.nodes[target].exited()?;
        detach(&mut strace)?;
        let log = fs::read_to_string(&trace).unwrap_or_default();
        let injected = log
            .lines()
            .filter(|line| line.contains("INJECTED") || line.contains("DELAYED"))
            .count();
        let took_leader = takes_leader && ended.is_some();
        Ok(Struck {
            nodes: vec![target],
            begin,
            end,
            took_leader,
            happened: injected > 0,
            proof: format!(
                "strace made {injected} syncs of {} {what}; {}",
                name(target),
                ended.unwrap_or_else(|| "the process lived on".to_owned())
            ),
            ..Struck::default()
        })
    }
}

/// Takes all space of the file system below `path`; returns how much that was.
fn fill(path: &Path) -> anyhow::Result<u64> {
    let file = File::create(path)?;
    let mut taken = 0;
    let mut piece = 64 << 20;
    while piece >= 4_096 {
        match fallocate(&file, FallocateFlags::empty(), taken, piece) {
            Ok(()) => taken += piece,
            Err(_) => piece /= 2,
        }
    }
    Ok(taken)
}

/// Makes the syncs of a process that runs already end in another way.
pub(super) fn attach(pid: u32, what: &str, trace: &Path) -> anyhow::Result<Child> {
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-p", &pid.to_string()])
        .args(["-e", &format!("trace={SYNCS}")])
        .args(["-e", &format!("inject={SYNCS}:{what}")])
        .arg("-o")
        .arg(trace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run strace")?;
    let since = Instant::now();
    while !is_traced(pid)? {
        if let Some(status) = strace.try_wait()? {
            bail!("strace ended with {status}: it may not attach to processes here");
        }
        ensure!(since.elapsed() < PATIENCE, "strace does not attach");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(strace)
}

fn is_traced(pid: u32) -> anyhow::Result<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    Ok(tracer.is_some_and(|tracer| tracer.trim() != "0"))
}

/// Ends strace so that it lets go of what it traces.
pub(super) fn detach(strace: &mut Child) -> anyhow::Result<()> {
    if strace.try_wait()?.is_none()
        && let Some(pid) = Pid::from_raw(i32::try_from(strace.id())?)
    {
        kill_process(pid, Signal::TERM)?;
    }
    strace.wait()?;
    Ok(())
}
