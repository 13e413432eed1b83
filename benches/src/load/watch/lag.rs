//! Watchers that stop reading for a while, beside others that go on: what that costs the server and the others, and
//! whether those that read again get every event exactly once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;

use crate::histogram::Histogram;
use crate::load::drive::{self, Link, Place, Schedule, Signals};
use crate::load::watch::readers::{Readers, Watched};
use crate::load::watch::writers::{Clock, Writers};
use crate::load::watch::{delay, reader_links, writer_links};
use crate::load::{Lag, Outcome, Plan, Sample, outcome};
use crate::process::Usage;
use crate::wire::{Answer, Channel, Event};

/// The others.
const OTHER_WATCHERS: usize = 100;
const OTHER_STREAMS: usize = 10;
const OTHER_CONNECTIONS: usize = 2;
/// Puts beside, of keys that nobody watches: so that what the lagging ones have missed is more than a server keeps at
/// hand.
const FILLER_RATE: f64 = 400.0;
const FILLER_BYTES: usize = 4096;
/// A stream's window before a client widens it: what a server can send to one that does not read.
const WINDOW: u32 = 64 * 1024 - 1;

/// What all workers of a run share.
struct Shared {
    lagging: Readers,
    others: Readers,
    writers: Writers,
    filler: Writers,
    clock: Clock,
    /// When the lagging ones stopped, and when they began again.
    stopped: AtomicU64,
    resumed: AtomicU64,
    /// Deliveries to the others of what was put before, and of what was put in between.
    before: Histogram,
    meanwhile: Histogram,
}

/// For the plan's time all watchers read; for the same time the plan's watchers do not; then they do again, while puts
/// go on for a fifth of the time.
pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    ensure!(plan.rate.is_some(), "lag is measured at a rate");
    let others = Plan {
        watchers: OTHER_WATCHERS,
        streams: OTHER_STREAMS,
        connections: OTHER_CONNECTIONS,
        ..plan.clone()
    };
    let filler = Plan {
        prefix: format!("/beside{}", plan.prefix),
        value_size: FILLER_BYTES,
        rate: Some(FILLER_RATE),
        ..plan.clone()
    };
    let clock = Clock::new();
    let shared = Arc::new(Shared {
        lagging: Readers::new(plan, Watched::Prefix)?,
        others: Readers::new(&others, Watched::Prefix)?,
        writers: Writers::new(plan, clock, 1)?,
        filler: Writers::new(&filler, clock, 1)?,
        clock,
        stopped: AtomicU64::new(u64::MAX),
        resumed: AtomicU64::new(u64::MAX),
        before: Histogram::new(),
        meanwhile: Histogram::new(),
    });
    let may_read = watch::Sender::new(true);
    let (lagging, readers) = (plan.streams, plan.streams + OTHER_STREAMS);
    let writers = readers + plan.in_flight;
    let start_worker = |place: Place, channel: Channel, signals: Signals| {
        let (shared, may_read) = (shared.clone(), may_read.subscribe());
        async move {
            let number = place.worker;
            if number < lagging {
                tokio::select! {
                    ended = read_with_pause(&shared.lagging, number, channel, may_read) => ended,
                    () = signals.finished() => Ok(()),
                }
            } else if number < readers {
                let on_event = |_: &Answer, event: &Event<'_>| shared.note_other(event);
                let others = &shared.others;
                others
                    .run(number - lagging, channel, signals, Some(on_event))
                    .await
            } else if number < writers {
                shared.writers.run(number, channel, signals).await
            } else {
                shared.filler.run(number, channel, signals).await
            }
        }
    };
    let conduct = |signals: &Signals| conduct(plan, &shared, &may_read, signals);
    let mut links = reader_links(plan);
    for link in &mut links {
        link.stream_window = WINDOW;
    }
    let links: Vec<Link> = [
        links,
        reader_links(&others),
        writer_links(plan),
        writer_links(&filler),
    ]
    .concat();
    let (span, lag, samples) = drive::drive(&links, plan.threads, start_worker, conduct)?;
    shared.lagging.check(&shared.writers)?;
    shared.others.check(&shared.writers)?;
    let deliveries = shared.lagging.delivered() + shared.others.delivered();
    let latency = shared.meanwhile.latency();
    let mut outcome = outcome(plan, span, deliveries, latency, samples);
    outcome.lag = Some(lag);
    Ok(outcome)
}

impl Shared {
    fn note_other(&self, event: &Event<'_>) -> Result<()> {
        let delay = delay(self.clock, event)?;
        let stamp = event.stamp().unwrap_or_default();
        if stamp < self.stopped.load(Ordering::Relaxed) {
            self.before.record(delay);
        } else if stamp < self.resumed.load(Ordering::Relaxed) {
            self.meanwhile.record(delay);
        }
        Ok(())
    }
}

fn conduct(
    plan: &Plan,
    shared: &Shared,
    may_read: &watch::Sender<bool>,
    signals: &Signals,
) -> Result<(Duration, Lag, (Sample, Sample))> {
    let rss_kib = || {
        let usage = Usage::of_all(&plan.pids)?;
        anyhow::Ok(usage.map_or(0, |usage| usage.rss_kib))
    };
    shared.lagging.wait_until_open(signals)?;
    shared.others.wait_until_open(signals)?;
    let start = Instant::now();
    let [stopped, resumed] = [1, 2].map(|times| start + times * plan.duration);
    let stop = resumed + plan.duration / 5;
    let sample = Sample::take(plan)?;
    signals.begin(Schedule { start, stop });
    signals.sleep_until(stopped)?;
    let rss_before = rss_kib()?;
    shared.stopped.store(shared.clock.now(), Ordering::Relaxed);
    may_read.send_replace(false);
    signals.sleep_until(resumed)?;
    let rss_after = rss_kib()?;
    shared.resumed.store(shared.clock.now(), Ordering::Relaxed);
    let missed = shared.writers.puts() * plan.watchers as u64;
    may_read.send_replace(true);
    let begin = Instant::now();
    signals.wait("events of lagging watchers", || {
        let delivered = shared.lagging.delivered();
        (delivered, delivered >= missed)
    })?;
    let caught_up = begin.elapsed();
    signals.sleep_until(stop)?;
    shared.lagging.drain(&shared.writers, signals)?;
    shared.others.drain(&shared.writers, signals)?;
    let lag = Lag {
        rss_growth_kib: rss_after.cast_signed() - rss_before.cast_signed(),
        caught_up_seconds: caught_up.as_secs_f64(),
        others_before: shared.before.latency(),
        others_meanwhile: shared.meanwhile.latency(),
    };
    Ok((start.elapsed(), lag, (sample, Sample::take(plan)?)))
}

/// One stream of watchers that wait while they may not read; what the server sends meanwhile fills the stream's window.
async fn read_with_pause(
    readers: &Readers,
    number: usize,
    channel: Channel,
    mut may_read: watch::Receiver<bool>,
) -> Result<()> {
    let mut stream = readers.open(number, channel).await?;
    let mut once = Once::default();
    loop {
        let waited = may_read.wait_for(|may_read| *may_read).await;
        waited.context("the run has ended")?;
        let mut on_event =
            |answer: &Answer, event: &Event<'_>| once.note(answer.numbers[2], event.revision);
        let note = |answer: &Answer| readers.note(number, answer);
        ensure!(
            stream.receive(Some(&mut on_event), note).await?,
            "the server ended a watch stream"
        );
    }
}

/// The last revision of each watcher of a stream. None comes twice if they ascend, and with as many as there were puts
/// none is missing.
#[derive(Default)]
struct Once(HashMap<u64, u64>);

impl Once {
    fn note(&mut self, watcher: u64, revision: u64) -> Result<()> {
        let last = self.0.insert(watcher, revision).unwrap_or(0);
        ensure!(
            revision > last,
            "watcher {watcher} got revision {revision} after {last}"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Once;

    #[test]
    fn an_event_that_comes_twice_or_late_is_noticed_for_each_watcher() {
        let mut once = Once::default();
        for (watcher, revision) in [(0, 5), (1, 5), (0, 6), (1, 7)] {
            once.note(watcher, revision).unwrap();
        }
        assert!(once.note(0, 6).is_err());
        let error = once.note(1, 6).unwrap_err().to_string();
        assert!(
            error.contains("watcher 1 got revision 6 after 7"),
            "{error}"
        );
    }
}
