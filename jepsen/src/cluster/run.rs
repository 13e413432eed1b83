//! One run: a cluster, its users and the one who breaks it, under one seed; then what is left is looked at in peace.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::check::{self, Verdict};
use super::connection::Connection;
use super::convergence;
use super::fault::{Kind, Need, Nemesis, Site};
use super::history::{History, Outcome, read_json, write_json};
use super::members::{Cluster, Shape, version};
use super::model::Op;
use super::node::name;
use super::traffic;
use super::workload::{self, Workload};
use super::world::World;
use crate::sim::SimRng;

/// How long a fresh cluster may take until it serves.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Before the first fault, and at least after the last one.
const WARM_UP: Duration = Duration::from_millis(1_500);
const COOL_DOWN: Duration = Duration::from_millis(1_500);
/// What a fault takes, with its recovery and the pause after it.
const FAULT: Duration = Duration::from_millis(5_500);

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
            election_timeout_ms: 1_000,
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

/// Makes a run, keeps everything about it in `folder`, and checks it. `line` begins each line of progress.
pub fn run(conditions: &Conditions, folder: &Path, line: &str) -> anyhow::Result<Verdict> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    write_json(&folder.join(CONDITIONS), conditions)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()?;
    let history = runtime.block_on(async {
        tokio::select! {
            history = record(conditions, folder, line) => history,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    // Tasks that hold a connection end with it; nobody waits for a request that hangs.
    runtime.shutdown_timeout(Duration::from_secs(2));
    let history = history?;
    history.save(folder)?;
    let verdict = check::check(conditions, &history);
    write_json(&folder.join(VERDICT), &verdict)?;
    super::report::write_run(folder, conditions, &history, &verdict)?;
    if verdict.is_pass() {
        remove_data(folder)?;
    }
    Ok(verdict)
}

/// What the members stored is large, and tells nothing more once all is well; their logs stay.
fn remove_data(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let member = entry?.path();
        for name in ["data", "disk"] {
            if member.join(name).is_dir() {
                std::fs::remove_dir_all(member.join(name))?;
            }
        }
        if member.join("disk.img").exists() {
            std::fs::remove_file(member.join("disk.img"))?;
        }
    }
    Ok(())
}

/// Checks the stored history of a run once more, and writes its verdict and page again.
pub fn check_again(folder: &Path) -> anyhow::Result<(Conditions, Verdict)> {
    let conditions: Conditions = read_json(&folder.join(CONDITIONS))?;
    let history = History::load(folder)?;
    let verdict = check::check(&conditions, &history);
    write_json(&folder.join(VERDICT), &verdict)?;
    super::report::write_run(folder, &conditions, &history, &verdict)?;
    Ok((conditions, verdict))
}

/// The file of a run's [`Conditions`].
pub(crate) const CONDITIONS: &str = "run.json";
/// The file of its [`Verdict`].
pub(crate) const VERDICT: &str = "verdict.json";

async fn record(conditions: &Conditions, folder: &Path, line: &str) -> anyhow::Result<History> {
    let kinds = conditions.site().parse(&conditions.faults.join(","))?;
    let kind: workload::Kind = conditions.workload.parse().map_err(anyhow::Error::msg)?;
    let binary = std::fs::canonicalize(&conditions.binary)
        .with_context(|| format!("there is no {}", conditions.binary.display()))?;
    let shape = Shape {
        binary,
        folder: std::fs::canonicalize(folder)?,
        faults: kinds.clone(),
        members: conditions.nodes,
        spares: usize::from(kinds.iter().any(|kind| kind.needs.contains(&Need::Spare))),
        has_network: conditions.has_network,
        has_disks: kinds.iter().any(|kind| kind.needs.contains(&Need::Disk)),
        flags: conditions.flags.clone(),
        timeout: Duration::from_millis(conditions.timeout_ms),
    };
    let (mut cluster, world) = Cluster::new(&shape)?;
    cluster.restart(&world.members())?;
    await_service(&world, &mut cluster).await?;

    // Faults have their own source, so that their schedule does not depend on what clients drew.
    let mut rng = SimRng::seed_from_u64(conditions.seed);
    let nemesis_rng = SimRng::seed_from_u64(rng.random());
    let workload = Arc::new(Workload::new(kind));
    prepare(&world, &workload).await?;
    let watchers = traffic::start_watchers(&world);
    let mut clients = traffic::start_clients(
        &world,
        &workload,
        conditions.clients,
        conditions.rate,
        &mut rng,
    );
    let mut nemesis = Nemesis {
        cluster,
        world: Arc::clone(&world),
        rng: nemesis_rng,
    };
    let live = tokio::spawn(live_line(
        Arc::clone(&world),
        conditions.seconds,
        line.to_owned(),
    ));
    let outcome = harass(
        &mut nemesis,
        &kinds,
        Duration::from_secs(conditions.seconds),
    )
    .await;
    world.end();
    live.abort();
    outcome?;
    while clients.join_next().await.is_some() {}
    finish(&mut nemesis).await;
    drop(watchers);
    let mut history = std::mem::take(&mut *world.history.lock());
    history
        .ending
        .alarming
        .append(&mut nemesis.cluster.alarming);
    let lines = nemesis.cluster.alarming_lines();
    history.ending.alarming.extend(lines);
    Ok(history)
}

async fn await_service(world: &World, cluster: &mut Cluster) -> anyhow::Result<()> {
    let since = Instant::now();
    for node in world.members() {
        loop {
            let mut connection =
                Connection::new(world.endpoints[node].clone(), Duration::from_secs(1));
            let op = Op::Get {
                key: "ready".to_owned(),
                serializable: false,
            };
            if connection.call(&op).await.is_ok() {
                break;
            }
            let ended = cluster.nodes[node].exited()?;
            ensure!(
                ended.is_none() && since.elapsed() < START_PATIENCE,
                "{} does not serve ({}):\n{}",
                name(node),
                ended.unwrap_or_else(|| format!("after {:?}", since.elapsed())),
                cluster.nodes[node].log_tail()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// What the workload needs first; recorded like everything else.
async fn prepare(world: &World, workload: &Workload) -> anyhow::Result<()> {
    let mut connection = Connection::new(world.endpoints[0].clone(), world.timeout);
    for op in workload.preparations(|| world.unique()) {
        let process = world.new_process();
        let operation = world.ask(&mut connection, process, 0, op).await;
        let error = operation.error.unwrap_or_default();
        ensure!(operation.outcome == Outcome::Ok, "cannot prepare: {error}");
    }
    Ok(())
}

/// One fault after the other, in rounds of all kinds in random order, until the time is over and every kind had its turn.
async fn harass(
    nemesis: &mut Nemesis,
    kinds: &[&'static Kind],
    time: Duration,
) -> anyhow::Result<()> {
    let until = Instant::now() + time;
    tokio::time::sleep(WARM_UP.min(time)).await;
    let mut round: Vec<&Kind> = Vec::new();
    let mut rounds = 0;
    // In a run too short for its faults they are shorter, too.
    let shares = u32::try_from(kinds.len()).unwrap_or(1).max(1);
    let part = (time.div_duration_f64(FAULT * shares)).clamp(0.5, 1.0);
    while !kinds.is_empty() {
        if round.is_empty() {
            round = kinds.to_vec();
            round.shuffle(&mut nemesis.rng);
            rounds += 1;
        }
        let lasts = Duration::from_millis(nemesis.rng.random_range(1_500..4_000)).mul_f64(part);
        let pause = Duration::from_millis(nemesis.rng.random_range(300..2_000)).mul_f64(part);
        if rounds > 1 && Instant::now() + lasts + COOL_DOWN > until {
            break;
        }
        let Some(kind) = round.pop() else { break };
        nemesis.strike(kind, lasts).await?;
        tokio::time::sleep(pause).await;
    }
    tokio::time::sleep_until(until.max(Instant::now() + COOL_DOWN)).await;
    Ok(())
}

/// Nobody asks any more: what each member holds now.
async fn finish(nemesis: &mut Nemesis) {
    let world = Arc::clone(&nemesis.world);
    if let Err(error) = conclude(nemesis, &world).await {
        let text = format!("the final state could not be read: {error:#}");
        world.history.lock().ending.alarming.push(text);
    }
}

async fn conclude(nemesis: &mut Nemesis, world: &World) -> anyhow::Result<()> {
    let members = world.members();
    let recovery = nemesis.recover().await?;
    if let Some(damage) = recovery.damage {
        anyhow::bail!(damage);
    }
    let quiet = world.now();
    let until = Instant::now() + Duration::from_secs(10);
    // A request without an answer may still take effect for a while.
    let revisions = loop {
        let mut revisions = Vec::new();
        for &node in &members {
            let revision = nemesis.revision(node).await;
            revisions.push(revision.with_context(|| format!("{} does not answer", name(node)))?);
        }
        let is_settled = revisions.windows(2).all(|pair| pair[0] == pair[1]);
        if is_settled || Instant::now() > until {
            break revisions;
        }
    };
    let revision = revisions.iter().copied().max().unwrap_or(1);
    let hashes = convergence::wait(world, &members, revision).await?;
    let mut logs = Vec::new();
    for &node in &members {
        logs.push(convergence::log(world, node, revision).await?);
    }
    await_watchers(world, revision).await;
    let mut history = world.history.lock();
    history.ending.quiet = quiet;
    history.ending.revisions = revisions;
    history.ending.hashes = hashes;
    history.logs = logs;
    Ok(())
}

/// Watchers get so long to see the last change; whether they did is the checker's to say.
async fn await_watchers(world: &World, revision: i64) {
    let until = Instant::now() + Duration::from_secs(5);
    let count = world.members().len();
    while Instant::now() < until {
        let arrived = {
            let history = world.history.lock();
            let recent = history.batches.iter().rev().take(50 * count);
            let mut arrived: Vec<usize> = recent
                .filter(|batch| {
                    batch
                        .changes
                        .last()
                        .is_some_and(|last| last.revision >= revision)
                })
                .map(|batch| batch.watcher)
                .collect();
            arrived.sort_unstable();
            arrived.dedup();
            arrived.len()
        };
        if arrived >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Shows what goes on: in place on a terminal, a line every ten seconds elsewhere.
async fn live_line(world: Arc<World>, seconds: u64, line: String) {
    let is_terminal = std::io::stderr().is_terminal();
    let interval = Duration::from_millis(if is_terminal { 300 } else { 10_000 });
    let begin = world.elapsed();
    loop {
        tokio::time::sleep(interval).await;
        let counts = &world.counts;
        let elapsed = (world.elapsed() - begin).as_secs_f64();
        let ok = counts.ok.load(Ordering::Relaxed);
        let leader = world
            .rumoured_leader()
            .map_or("no leader".to_owned(), |(node, term)| {
                format!("{} leads term {term}", name(node))
            });
        let broken = world.broken.lock().clone();
        let text = format!(
            "{line}{elapsed:5.1}/{seconds} s  {ok} ok, {} definite, {} unknown  {leader}  {broken}",
            counts.definite.load(Ordering::Relaxed),
            counts.indefinite.load(Ordering::Relaxed),
        );
        let mut err = std::io::stderr();
        // Nobody is hurt by progress that cannot be shown.
        let _ = if is_terminal {
            write!(err, "\r\x1b[2K{text}")
        } else {
            writeln!(err, "{text}")
        };
    }
}

/// Takes the live line away.
pub(crate) fn clear_line() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[2K");
    }
}
