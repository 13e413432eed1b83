//! What it takes a cluster of three to go on without its leader, and what it takes to do nothing.

mod gap;
mod report;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde::Serialize;

use crate::args::Args;
use crate::compare::cluster::Cluster;
use crate::compare::server::Kind;
use crate::compare::sides::Sides;
use crate::failover::report::Report;
use crate::process::Usage;

/// Options of `bench failover`.
pub(crate) const OPTIONS: &[&str] = &[
    "tries", "events", "servers", "holdfast", "folder", "json", "markdown",
];

/// The event that is none.
const IDLE: &str = "idle";
/// How long an idle cluster is watched.
const IDLE_TIME: Duration = Duration::from_secs(20);
/// What a cluster gets to come to rest before it is watched, for the same reason as [`PAUSE`].
const IDLE_PAUSE: Duration = Duration::from_secs(5);
/// Between the last member's return and the next event: leaders seldom fail twice in a row.
const PAUSE: Duration = Duration::from_secs(1);

/// What happens to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// It ends at once.
    Kill,
    /// It stands still, with all its connections open.
    Stop,
    /// It is asked to end.
    Terminate,
}

impl Event {
    const ALL: [Event; 3] = [Event::Kill, Event::Stop, Event::Terminate];

    fn name(self) -> &'static str {
        match self {
            Event::Kill => "SIGKILL",
            Event::Stop => "SIGSTOP",
            Event::Terminate => "SIGTERM",
        }
    }

    fn signal(self) -> Signal {
        match self {
            Event::Kill => Signal::KILL,
            Event::Stop => Signal::STOP,
            Event::Terminate => Signal::TERM,
        }
    }
}

/// One event.
#[derive(Clone, Debug, Serialize)]
struct Try {
    server: &'static str,
    event: &'static str,
    number: usize,
    /// Longest time without an acknowledged put.
    gap_ms: f64,
    /// From the restart of the old leader until every member serves.
    healthy_again_ms: f64,
}

/// CPU of the members of an idle cluster.
#[derive(Clone, Debug, Serialize)]
struct Idle {
    server: &'static str,
    /// Of a core, the leader's first.
    percent: Vec<f64>,
}

/// `bench failover`.
pub(crate) fn main(args: &Args) -> Result<()> {
    let tries: usize = args.value("tries")?.unwrap_or(10);
    ensure!(tries > 0, "at least one try is needed");
    let [kill, stop, terminate] = Event::ALL.map(Event::name);
    let events = args.choice("events", &[kill, stop, terminate, IDLE])?;
    let Sides {
        servers,
        folder,
        conditions,
    } = Sides::of(args)?;

    let (mut all, mut idle) = (Vec::new(), Vec::new());
    // Both servers meet an event before the next one comes: a machine that slows down then slows down both.
    for name in events {
        for (kind, binary) in &servers {
            let path = folder.path.join("cluster");
            let mut cluster = Cluster::start(*kind, binary, &path, &[])?;
            let found = match Event::ALL.into_iter().find(|event| event.name() == name) {
                Some(event) => fail_over(&mut cluster, *kind, event, tries, &mut all),
                None => rest(&mut cluster, *kind).map(|rested| idle.push(rested)),
            };
            found.with_context(|| {
                format!(
                    "{name} on {}; the members' last words:\n{}",
                    kind.name(),
                    cluster.last_words()
                )
            })?;
            drop(cluster);
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    let report = Report::new(conditions, all, idle);
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

fn fail_over(
    cluster: &mut Cluster,
    kind: Kind,
    event: Event,
    tries: usize,
    all: &mut Vec<Try>,
) -> Result<()> {
    for number in 1..=tries {
        thread::sleep(PAUSE);
        let leader = cluster.wait_until_healthy()?;
        let others = cluster.endpoints(leader).split_off(1);
        let server = cluster.member(leader);
        let pid = server.pid();
        let gap = gap::measure(&others, server, event)?;
        let begin = Instant::now();
        match event {
            Event::Stop => server.signal(Signal::CONT)?,
            Event::Kill | Event::Terminate => server.spawn_again()?,
        }
        cluster.wait_until_healthy()?;
        let one = Try {
            server: kind.name(),
            event: event.name(),
            number,
            gap_ms: milliseconds(gap),
            healthy_again_ms: milliseconds(begin.elapsed()),
        };
        eprintln!(
            "[{number}/{tries}] {} on {} (process {pid}): {:.0} ms without a put, healthy {:.0} ms after its return",
            one.event, one.server, one.gap_ms, one.healthy_again_ms
        );
        all.push(one);
    }
    Ok(())
}

fn rest(cluster: &mut Cluster, kind: Kind) -> Result<Idle> {
    let leader = cluster.wait_until_healthy()?;
    thread::sleep(IDLE_PAUSE);
    let mut pids = cluster.pids();
    pids[..=leader].rotate_right(1);
    let usages = || {
        pids.iter()
            .map(|pid| Usage::of(*pid))
            .collect::<Result<Vec<_>>>()
    };
    let (begin, before) = (Instant::now(), usages()?);
    thread::sleep(IDLE_TIME);
    let (seconds, after) = (begin.elapsed().as_secs_f64(), usages()?);
    let percent = before.iter().zip(&after);
    let percent = percent.map(|(from, to)| 100.0 * (to.cpu_seconds - from.cpu_seconds) / seconds);
    let percent: Vec<_> = percent.collect();
    eprintln!("idle {}: {percent:.2?} % of a core", kind.name());
    Ok(Idle {
        server: kind.name(),
        percent,
    })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
