//! The same works on each server in turn, several rounds, every run on fresh data; then one table.
//!
//! Within a round all servers do a work before the next work begins, and the order of the servers changes with
//! each round: what slows the machine down for a while then hits all of them.

pub(crate) mod cluster;
pub(crate) mod conditions;
pub(crate) mod etcd;
mod goal;
mod report;
pub(crate) mod server;
pub(crate) mod sides;
pub(crate) mod table;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, test_kill_process};
use serde::Serialize;

use crate::args::{Args, Misuse};
use crate::compare::cluster::{Cluster, MEMBERS};
use crate::compare::conditions::Conditions;
use crate::compare::report::Report;
use crate::compare::server::{Kind, Server};
use crate::disk::{self, Syncs};
use crate::load::{self, Outcome, Plan, Work};
use crate::process::Usage;

/// Options of `bench compare`.
pub(crate) const OPTIONS: &[&str] = &[
    "nodes", "holdfast", "rounds", "works", "servers", "folder", "json", "markdown",
];
/// Options of `bench compare` without a value.
pub(crate) const SWITCHES: &[&str] = &["quick"];

/// Memory with many keys, and restarts on them.
const BULK: &str = "bulk";
/// [`Work::PutLone`] by a client of a follower; by itself that work talks to the leader.
const PUT_LONE_FOLLOWER: &str = "put-lone-follower";
/// Time that memory gets to settle after the last write.
const SETTLE: Duration = Duration::from_secs(3);

/// One work on one server in one round.
#[derive(Clone, Debug, Serialize)]
struct Run {
    round: usize,
    server: &'static str,
    work: &'static str,
    load: Outcome,
    bulk: Option<Bulk>,
    /// Of a cluster: whether the leader was the same after the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_leader_same: Option<bool>,
}

/// What a server with many keys needs.
#[derive(Clone, Debug, Serialize)]
struct Bulk {
    /// After the fill and a pause.
    memory: Usage,
    /// From the start of the process to a linearizable get.
    restart_after_sigkill_seconds: f64,
    /// The same after an end in order.
    restart_after_sigterm_seconds: f64,
}

/// What to measure, and for how long.
struct Scope {
    works: Vec<&'static str>,
    servers: Vec<Kind>,
    rounds: usize,
    nodes: usize,
    is_quick: bool,
}

impl Scope {
    /// The names of all works that servers of so many members are compared by.
    fn works(nodes: usize) -> Vec<&'static str> {
        let works = Work::ALL.into_iter().filter(|work| *work != Work::Fill);
        let mut works: Vec<_> = works.map(Work::name).collect();
        if nodes == 1 {
            works.push(BULK);
        } else {
            // A stream and what rests cost a member the same as a server alone.
            works
                .retain(|work| ![Work::WatchStreams.name(), Work::WatchIdle.name()].contains(work));
            let lone = works.iter().position(|work| *work == Work::PutLone.name());
            works.insert(lone.map_or(0, |place| place + 1), PUT_LONE_FOLLOWER);
        }
        works
    }

    /// The work of a name, or `Fill` for [`BULK`].
    fn work(name: &str) -> Work {
        if name == PUT_LONE_FOLLOWER {
            return Work::PutLone;
        }
        Work::ALL
            .into_iter()
            .find(|work| work.name() == name)
            .unwrap_or(Work::Fill)
    }

    /// The plan of a work on a server, or on all members of a cluster.
    fn plan(&self, work: &str, endpoints: Vec<SocketAddr>, pids: Vec<u32>) -> Plan {
        let mut plan = Plan::new(Scope::work(work), endpoints);
        plan.pids = pids;
        plan.duration = self.duration(work);
        if self.is_quick {
            plan.shorten();
        }
        plan
    }

    fn duration(&self, work: &str) -> Duration {
        Duration::from_secs(match Scope::work(work) {
            // Long enough to see compactions and snapshots.
            Work::Put => 60,
            Work::Update => 30,
            _ => 15,
        })
    }

    fn includes(server: Kind, work: &str) -> bool {
        server != Kind::Echo || Scope::work(work).is_echoed()
    }

    /// About how long all of it takes.
    fn estimate(&self) -> Duration {
        let mut seconds = 0;
        for server in &self.servers {
            for work in self
                .works
                .iter()
                .filter(|work| Scope::includes(*server, work))
            {
                // A start, the keys to read and the warm-up come on top; a bulk run is a fill and two restarts.
                seconds += match (Scope::work(work), self.is_quick) {
                    (Work::Fill, false) => 45,
                    (Work::WatchIdle, false) => 30,
                    (Work::WatchLag, false) => 2 * self.duration(work).as_secs() + 10,
                    (_, false) => self.duration(work).as_secs() + 4,
                    (_, true) => 3,
                };
            }
        }
        Duration::from_secs(seconds * self.rounds as u64)
    }
}

/// `bench compare`.
pub(crate) fn main(args: &Args) -> Result<()> {
    let nodes = args.value("nodes")?.unwrap_or(1);
    if ![1, MEMBERS].contains(&nodes) {
        return Err(Misuse(format!("--nodes: {nodes} is neither 1 nor {MEMBERS}")).into());
    }
    // A floor for a round trip says little about a cluster: most of what it does is between the members.
    let kinds = if nodes == 1 {
        &Kind::ALL[..]
    } else {
        &[Kind::Holdfast, Kind::Etcd]
    };
    let kinds: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    let servers = args.choice("servers", &kinds)?;
    let is_quick = args.is_set("quick");
    let scope = Scope {
        works: args.choice("works", &Scope::works(nodes))?,
        servers: Kind::ALL
            .into_iter()
            .filter(|kind| servers.contains(&kind.name()))
            .collect(),
        rounds: args
            .value("rounds")?
            .unwrap_or(if is_quick { 1 } else { 3 }),
        nodes,
        is_quick,
    };
    ensure!(scope.rounds > 0, "at least one round is needed");
    let holdfast = if scope.servers.contains(&Kind::Holdfast) {
        holdfast_binary(args)?
    } else {
        PathBuf::new()
    };
    let etcd = if scope.servers.contains(&Kind::Etcd) {
        Some(etcd::find()?)
    } else {
        None
    };
    let folder = Folder::new(Path::new(args.text("folder").unwrap_or("target/bench")))?;
    remove_on_signals(folder.path.clone())?;

    let conditions = Conditions::now(
        &folder.path,
        scope
            .servers
            .contains(&Kind::Holdfast)
            .then_some(holdfast.as_path()),
        etcd.as_deref(),
    );
    if conditions.file_system == "tmpfs" {
        eprintln!(
            "bench: {} is in memory, so syncs cost nothing; --folder names another",
            folder.path.display()
        );
    }
    let binary = |kind| match kind {
        Kind::Holdfast => Ok(holdfast.clone()),
        Kind::Etcd => etcd.clone().context("no etcd"),
        Kind::Echo => std::env::current_exe().context("finding this program"),
    };
    let (disk, runs) = measure(&scope, &folder.path, binary)?;
    let report = Report::new(conditions, nodes, is_quick, disk, runs);
    println!("{}", report.to_text());
    if let Some(path) = args.text("json") {
        fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("writing {path}"))?;
    }
    if let Some(path) = args.text("markdown") {
        fs::write(path, report.to_markdown()).with_context(|| format!("writing {path}"))?;
    }
    Ok(())
}

/// The binary that `--holdfast` names, or the one that `make bench` builds.
pub(crate) fn holdfast_binary(args: &Args) -> Result<PathBuf> {
    let binary = PathBuf::from(args.text("holdfast").unwrap_or("target/release/holdfast"));
    ensure!(
        binary.is_file(),
        "no binary at {}: build it (`make bench` does), or name one with --holdfast",
        binary.display()
    );
    Ok(binary)
}

fn measure(
    scope: &Scope,
    folder: &Path,
    binary: impl Fn(Kind) -> Result<PathBuf>,
) -> Result<(Vec<Syncs>, Vec<Run>)> {
    let begin = Instant::now();
    let count = scope.servers.iter().map(|server| {
        scope
            .works
            .iter()
            .filter(|work| Scope::includes(*server, work))
            .count()
    });
    let total = count.sum::<usize>() * scope.rounds;
    eprintln!(
        "bench: {total} runs, about {} s; data in {}",
        scope.estimate().as_secs(),
        folder.display()
    );
    let (mut disk, mut runs) = (Vec::new(), Vec::new());
    for round in 1..=scope.rounds {
        let syncs = disk::measure(
            folder,
            Duration::from_secs(if scope.is_quick { 1 } else { 5 }),
        )?;
        eprintln!(
            "round {round}: write and fdatasync p50 {:.0} us",
            syncs.latency.p50_us
        );
        disk.push(syncs);
        for work in &scope.works {
            let mut servers = scope.servers.clone();
            if round % 2 == 0 {
                servers.reverse();
            }
            for kind in servers
                .into_iter()
                .filter(|kind| Scope::includes(*kind, work))
            {
                let run_on = if scope.nodes == 1 {
                    run
                } else {
                    run_on_cluster
                };
                let run = run_on(
                    scope,
                    round,
                    work,
                    kind,
                    &binary(kind)?,
                    &folder.join("server"),
                )
                .with_context(|| format!("{work} on {}", kind.name()))?;
                runs.push(run);
                if let Some(run) = runs.last() {
                    let number = runs.len();
                    eprintln!(
                        "[{number}/{total}, {} s] {}",
                        begin.elapsed().as_secs(),
                        report::progress(run)
                    );
                }
            }
        }
    }
    Ok((disk, runs))
}

fn run(
    scope: &Scope,
    round: usize,
    work: &'static str,
    kind: Kind,
    binary: &Path,
    folder: &Path,
) -> Result<Run> {
    let mut server = Server::start(kind, binary, folder, &[])?;
    let plan = scope.plan(work, vec![server.endpoint()], vec![server.pid()]);
    let load = load::run(&plan);
    let load =
        load.with_context(|| format!("the server's last words:\n{}", server.last_words()))?;
    let bulk = if work == BULK {
        Some(bulk(&mut server, scope)?)
    } else {
        None
    };
    drop(server);
    fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    Ok(Run {
        round,
        server: kind.name(),
        work,
        load,
        bulk,
        is_leader_same: None,
    })
}

fn run_on_cluster(
    scope: &Scope,
    round: usize,
    work: &'static str,
    kind: Kind,
    binary: &Path,
    folder: &Path,
) -> Result<Run> {
    let mut cluster = Cluster::start(kind, binary, folder, &[])?;
    let leader = cluster.wait_until_healthy()?;
    let endpoints = asked(work, cluster.endpoints(leader));
    let load = load::run(&scope.plan(work, endpoints, cluster.pids()));
    let load =
        load.with_context(|| format!("the members' last words:\n{}", cluster.last_words()))?;
    let is_leader_same = cluster.leader() == Some(leader);
    drop(cluster);
    fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    Ok(Run {
        round,
        server: kind.name(),
        work,
        load,
        bulk: None,
        is_leader_same: Some(is_leader_same),
    })
}

/// The members that clients of a work talk to, out of all, of which the leader is the first.
fn asked(work: &str, endpoints: Vec<SocketAddr>) -> Vec<SocketAddr> {
    if work == Work::PutLone.name() {
        endpoints[..1].to_vec()
    } else if work == PUT_LONE_FOLLOWER {
        endpoints[1..2].to_vec()
    } else {
        endpoints
    }
}

fn bulk(server: &mut Server, scope: &Scope) -> Result<Bulk> {
    std::thread::sleep(if scope.is_quick {
        Duration::ZERO
    } else {
        SETTLE
    });
    let memory = Usage::of(server.pid())?;
    // The kill comes first: after an end in order there would be little left to replay.
    let after_kill = server.restart(Signal::KILL)?;
    let after_term = server.restart(Signal::TERM)?;
    Ok(Bulk {
        memory,
        restart_after_sigkill_seconds: after_kill.as_secs_f64(),
        restart_after_sigterm_seconds: after_term.as_secs_f64(),
    })
}

/// A folder of this process for data and logs, removed when dropped.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
}

impl Folder {
    /// Also removes what a process that was killed has left behind.
    fn new(parent: &Path) -> Result<Folder> {
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        for entry in fs::read_dir(parent)? {
            let entry = entry?;
            let name = entry.file_name();
            let owner = name
                .to_str()
                .and_then(|name| name.strip_prefix("run-")?.parse().ok());
            if owner
                .and_then(Pid::from_raw)
                .is_some_and(|pid| test_kill_process(pid).is_err())
            {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let path = parent
            .canonicalize()?
            .join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Folder { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The next comparison tries again.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// On Ctrl-C or SIGTERM, removes the data before this process ends. The kernel ends the server with it.
fn remove_on_signals(folder: PathBuf) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        // The server may still write: what it leaves, the next comparison removes.
        let _ = fs::remove_dir_all(&folder);
        eprintln!("bench: interrupted");
        std::process::exit(130);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{PUT_LONE_FOLLOWER, Scope, asked};
    use crate::load::Work;

    #[test]
    fn a_lone_client_talks_to_the_leader_or_to_a_follower_and_all_others_to_every_member() {
        let members: Vec<SocketAddr> = [1, 2, 3]
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .to_vec();
        assert_eq!(asked("put-lone", members.clone()), members[..1]);
        assert_eq!(asked("put-lone-follower", members.clone()), members[1..2]);
        assert_eq!(asked("get", members.clone()), members);
    }

    #[test]
    fn works_are_known_by_their_names() {
        assert_eq!(Scope::work(PUT_LONE_FOLLOWER), Work::PutLone);
        assert_eq!(Scope::work("bulk"), Work::Fill);
        for name in Scope::works(3).into_iter().chain(Scope::works(1)) {
            let found = Scope::work(name).name();
            assert!(found == name || [PUT_LONE_FOLLOWER, "bulk"].contains(&name));
        }
        assert!(!Scope::works(3).contains(&"bulk"));
        assert_eq!(Scope::works(3)[1..3], ["put-lone", PUT_LONE_FOLLOWER]);
    }
}
