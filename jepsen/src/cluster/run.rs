//! One run: a cluster, its users and the one who breaks it, under one seed; then what is left is looked at in peace.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, ensure};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::check::{self, Verdict};
use super::conditions::Conditions;
use super::connection::Connection;
use super::fault::{Kind, Need, Nemesis};
use super::finish::finish;
use super::history::{History, Outcome, read_json, write_json};
use super::members::{Cluster, Shape};
use super::model::Op;
use super::node::name;
use super::traffic;
use super::watch;
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
        flags: [kind.flags(), conditions.flags.clone()].concat(),
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
    let observers = traffic::start_observers(&world);
    let watchers = match kind {
        workload::Kind::Watch => watch::start_users(&world, &mut rng),
        _ => JoinSet::new(),
    };
    let mut clients = traffic::start_clients(
        &world,
        &workload,
        conditions.clients,
        conditions.rate,
        &mut rng,
    );
    if kind == workload::Kind::Watch {
        let rng = SimRng::seed_from_u64(rng.random());
        clients.spawn(watch::compactor(Arc::clone(&world), rng));
    }
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
    drop((observers, watchers));
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
