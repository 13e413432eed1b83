//! Many watchers of one prefix, a few writers that do not wait for them, and a count that must come out even.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::histogram::Histogram;
use crate::load::drive::{self, PATIENCE, Place, Schedule, Signals};
use crate::load::unary::{PUT, check_revision, nanoseconds};
use crate::load::{Fanout, Outcome, Plan, Sample, outcome};
use crate::random::Random;
use crate::wire::{Answer, Channel, Method, Request};

const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// What the workers count.
#[derive(Default)]
struct Counts {
    /// Streams on which every watcher is open.
    open_streams: AtomicUsize,
    running_writers: AtomicUsize,
    /// Acknowledged puts: each one is an event for every watcher.
    puts: AtomicU64,
    responses: AtomicU64,
    /// Events by stream.
    events: Vec<AtomicU64>,
}

impl Counts {
    fn delivered(&self) -> u64 {
        self.events
            .iter()
            .map(|events| events.load(Ordering::Relaxed))
            .sum()
    }
}

/// Runs writers for the plan's time, then waits until every event has reached every watcher: the measured span
/// ends there, so that a server does not win by falling behind.
pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let share =
        |total: usize, parts: usize, part: usize| total * (part + 1) / parts - total * part / parts;
    let mut workers: Vec<_> = (0..plan.connections)
        .map(|part| share(plan.streams, plan.connections, part))
        .collect();
    // The writers have a connection of their own.
    workers.push(plan.in_flight);
    let counts = Arc::new(Counts {
        running_writers: AtomicUsize::new(plan.in_flight),
        events: (0..plan.streams).map(|_| AtomicU64::new(0)).collect(),
        ..Counts::default()
    });
    let latencies = Arc::new(Histogram::new());
    let watch = (
        Method::new(plan.endpoints[0], WATCH)?,
        Request::watch(&plan.prefix),
    );
    let put = (
        Method::new(plan.endpoints[0], PUT)?,
        Request::put(&plan.prefix, plan.value_size),
    );
    let (streams, watchers, keys) = (plan.streams, plan.watchers, plan.keys);
    let start_worker = |place: Place, channel: Channel, signals: Signals| {
        let (counts, latencies) = (counts.clone(), latencies.clone());
        let (watch, put) = (watch.clone(), put.clone());
        async move {
            if place.worker < streams {
                let watchers = share(watchers, streams, place.worker);
                tokio::select! {
                    ended = read(place.worker, watchers, channel, &watch, &counts) => ended,
                    () = signals.finished() => Ok(()),
                }
            } else {
                let schedule = signals.schedule().await?;
                let written = write(
                    place.worker,
                    keys,
                    channel,
                    put,
                    schedule,
                    &counts,
                    &latencies,
                )
                .await;
                counts.running_writers.fetch_sub(1, Ordering::Release);
                written
            }
        }
    };
    let conduct = |signals: &Signals| {
        let patience = Instant::now() + PATIENCE;
        while counts.open_streams.load(Ordering::Relaxed) < streams {
            ensure!(
                Instant::now() < patience,
                "not all watchers are open after {PATIENCE:?}"
            );
            signals.sleep_until(Instant::now() + Duration::from_millis(5))?;
        }
        let start = Instant::now();
        let stop = start + plan.duration;
        let before = Sample::take(plan)?;
        signals.begin(Schedule { start, stop });
        signals.sleep_until(stop)?;
        drain(watchers, &counts, signals)?;
        Ok((start.elapsed(), (before, Sample::take(plan)?)))
    };
    let (span, samples) = drive::drive(
        &plan.endpoints,
        plan.threads,
        &workers,
        start_worker,
        conduct,
    )?;
    let puts = counts.puts.load(Ordering::Relaxed);
    for (stream, events) in counts.events.iter().enumerate() {
        let (found, expected) = (
            events.load(Ordering::Relaxed),
            puts * share(watchers, streams, stream) as u64,
        );
        ensure!(
            found == expected,
            "stream {stream} got {found} events, not {expected}"
        );
    }
    let deliveries = counts.delivered();
    ensure!(deliveries > 0, "no event within {:?}", plan.duration);
    let responses = counts.responses.load(Ordering::Relaxed);
    let mut outcome = outcome(plan, span, deliveries, latencies.latency(), samples);
    outcome.watch = Some(Fanout {
        streams,
        watchers,
        puts,
        events_per_response: deliveries as f64 / responses.max(1) as f64,
    });
    Ok(outcome)
}

/// Waits for the writers' last answers and then for the last event.
fn drain(watchers: usize, counts: &Counts, signals: &Signals) -> Result<()> {
    let (mut last, mut patience) = (0, Instant::now() + PATIENCE);
    loop {
        let delivered = counts.delivered();
        if counts.running_writers.load(Ordering::Acquire) == 0 {
            let expected = counts.puts.load(Ordering::Relaxed) * watchers as u64;
            if delivered >= expected {
                return Ok(());
            }
            if Instant::now() > patience {
                bail!("{delivered} of {expected} events arrived, and none for {PATIENCE:?}");
            }
        }
        if delivered > last {
            (last, patience) = (delivered, Instant::now() + PATIENCE);
        }
        signals.sleep_until(Instant::now() + Duration::from_millis(5))?;
    }
}

/// Opens the watchers of one stream and counts what comes.
async fn read(
    stream_number: usize,
    watchers: usize,
    mut channel: Channel,
    (method, create): &(Method, Request),
    counts: &Counts,
) -> Result<()> {
    let mut stream = channel.stream(method, create.fixed()).await?;
    for _ in 1..watchers {
        stream.send(create.fixed())?;
    }
    let mut opened = 0;
    let events = &counts.events[stream_number];
    let mut note = |answer: &Answer| {
        ensure!(answer.numbers[4] == 0, "the server cancelled a watcher");
        if answer.numbers[3] == 1 {
            opened += 1;
            if opened == watchers {
                counts.open_streams.fetch_add(1, Ordering::Relaxed);
            }
        }
        if answer.counts[11] > 0 {
            counts.responses.fetch_add(1, Ordering::Relaxed);
            events.fetch_add(u64::from(answer.counts[11]), Ordering::Relaxed);
        }
        Ok(())
    };
    while stream.receive(&mut note).await? {}
    bail!("the server ended a watch stream")
}

/// Puts one after the other until the time is up.
async fn write(
    number: usize,
    keys: u64,
    mut channel: Channel,
    (method, mut request): (Method, Request),
    schedule: Schedule,
    counts: &Counts,
    latencies: &Histogram,
) -> Result<()> {
    let mut random = Random::new(number as u64);
    let mut begin = Instant::now();
    while begin < schedule.stop {
        let key = random.below(keys);
        let answer = channel
            .call(&method, request.fill(key, 0, &mut random))
            .await?;
        check_revision(&answer)?;
        counts.puts.fetch_add(1, Ordering::Relaxed);
        let end = Instant::now();
        latencies.record(nanoseconds(end - begin));
        begin = end;
    }
    Ok(())
}
