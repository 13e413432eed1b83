//! Watchers to which nothing happens: the memory of a watcher and of a stream, and the CPU that they take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;

use crate::histogram::Latency;
use crate::load::drive::{self, Link, Place, Signals};
use crate::load::watch::reader_links;
use crate::load::watch::readers::{Readers, Watched};
use crate::load::{Idle, Outcome, Plan, Sample, outcome};
use crate::process::Usage;
use crate::wire::{Channel, Event};

/// Time that memory gets to settle.
const SETTLE: Duration = Duration::from_secs(3);
/// Of the plan's time, the part in which each number of watchers rests.
const PARTS: u32 = 3;

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Only connections are open.
    Connected,
    /// Many watchers are on few streams.
    Watchers,
    /// As many streams more as a tenth of the watchers, with one each.
    Streams,
}

/// Opens the plan's watchers, then a stream for each tenth of them, and looks at the server in between. Every watcher
/// watches a key of its own, so that none is cheaper than those of real clients.
pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    ensure!(
        !plan.pids.is_empty(),
        "what rests is seen in the server's process: name it with --pid"
    );
    let streams = Plan {
        streams: plan.watchers.div_ceil(10),
        watchers: plan.watchers.div_ceil(10),
        prefix: format!("{}alone/", plan.prefix),
        ..plan.clone()
    };
    let readers = Arc::new([
        Readers::new(plan, Watched::OwnKey)?,
        Readers::new(&streams, Watched::OwnKey)?,
    ]);
    let stage = watch::Sender::new(Stage::Connected);
    let first = plan.streams;
    let start_worker = |place: Place, channel: Channel, signals: Signals| {
        let (readers, mut stage) = (readers.clone(), stage.subscribe());
        async move {
            let (readers, number, own) = if place.worker < first {
                (&readers[0], place.worker, Stage::Watchers)
            } else {
                (&readers[1], place.worker - first, Stage::Streams)
            };
            tokio::select! {
                reached = stage.wait_for(|reached| *reached >= own) => reached.is_ok(),
                () = signals.finished() => return Ok(()),
            };
            readers.run(number, channel, signals, ON_EVENT).await
        }
    };
    let begin = Instant::now();
    let conduct = |signals: &Signals| {
        let before = Sample::take(plan)?;
        let connected = rest(plan, signals)?;
        stage.send_replace(Stage::Watchers);
        readers[0].wait_until_open(signals)?;
        let with_watchers = rest(plan, signals)?;
        stage.send_replace(Stage::Streams);
        readers[1].wait_until_open(signals)?;
        let with_streams = rest(plan, signals)?;
        let idle = Idle {
            watchers: plan.watchers,
            bytes_per_watcher: growth(&connected, &with_watchers, plan.watchers),
            streams: streams.streams,
            bytes_per_stream: growth(&with_watchers, &with_streams, streams.streams),
            cpu_percent_connected: connected.cpu_percent,
            cpu_percent_with_watchers: with_watchers.cpu_percent,
            cpu_percent_with_streams: with_streams.cpu_percent,
        };
        Ok((idle, (before, Sample::take(plan)?)))
    };
    let links: Vec<Link> = [reader_links(plan), reader_links(&streams)].concat();
    let (idle, samples) = drive::drive(&links, plan.threads, start_worker, conduct)?;
    let opened = (plan.watchers + streams.watchers) as u64;
    let mut outcome = outcome(plan, begin.elapsed(), opened, Latency::default(), samples);
    outcome.idle = Some(idle);
    Ok(outcome)
}

/// No event comes, so nobody looks.
const ON_EVENT: Option<fn(&crate::wire::Answer, &Event<'_>) -> Result<()>> = None;

/// A server in which nothing happens.
struct Rest {
    rss_kib: u64,
    /// Of one core.
    cpu_percent: f64,
}

/// Conductor: lets the server settle, and watches it for a while.
fn rest(plan: &Plan, signals: &Signals) -> Result<Rest> {
    let duration = plan.duration / PARTS;
    signals.sleep_until(Instant::now() + SETTLE.min(plan.duration))?;
    let usage = || Usage::of_all(&plan.pids)?.context("no process");
    let (begin, before) = (Instant::now(), usage()?);
    signals.sleep_until(begin + duration)?;
    let after = usage()?;
    let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
    Ok(Rest {
        rss_kib: after.rss_kib,
        cpu_percent: 100.0 * cpu_seconds / begin.elapsed().as_secs_f64(),
    })
}

fn growth(from: &Rest, to: &Rest, count: usize) -> f64 {
    (to.rss_kib as f64 - from.rss_kib as f64) * 1024.0 / count as f64
}
