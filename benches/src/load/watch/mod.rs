//! Many watchers, a few writers that do not wait for them, and a count that must come out even.

pub(super) mod idle;
pub(super) mod lag;
pub(super) mod progress;
mod readers;
mod writers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::histogram::Histogram;
use crate::load::drive::{self, Link, Place, Schedule, Signals};
use crate::load::{Fanout, Outcome, Plan, Sample, Work, outcome, share};
use crate::wire::{Answer, Channel, Event};

use readers::{Readers, Watched};
use writers::{Clock, Writers};

/// What all workers of a run share.
struct Shared {
    readers: Readers,
    writers: Writers,
    clock: Clock,
    /// From before a put is sent until its event arrives, for each watcher; only at a rate, for without one it tells
    /// how long the queues are that the writers make.
    deliveries: Option<Histogram>,
}

/// Runs writers for the plan's time, then waits until every event has reached every watcher: the measured span
/// ends there, so that a server does not win by falling behind.
pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let (watched, groups) = if plan.work == Work::WatchKeys {
        ensure!(
            plan.keys == plan.watchers as u64,
            "every key has a watcher: there are {} keys and {} watchers",
            plan.keys,
            plan.watchers
        );
        (Watched::OwnKey, plan.streams)
    } else {
        (Watched::Prefix, 1)
    };
    let clock = Clock::new();
    let shared = Arc::new(Shared {
        readers: Readers::new(plan, watched)?,
        writers: Writers::new(plan, clock, groups)?,
        clock,
        deliveries: plan.rate.map(|_| Histogram::new()),
    });
    let streams = plan.streams;
    let start_worker = |place: Place, channel: Channel, signals: Signals| {
        let shared = shared.clone();
        async move {
            if place.worker >= streams {
                return shared.writers.run(place.worker, channel, signals).await;
            }
            let on_event = shared.deliveries.as_ref().map(|deliveries| {
                |_: &Answer, event: &Event<'_>| {
                    deliveries.record(delay(shared.clock, event)?);
                    Ok(())
                }
            });
            let readers = &shared.readers;
            readers.run(place.worker, channel, signals, on_event).await
        }
    };
    let conduct = |signals: &Signals| {
        shared.readers.wait_until_open(signals)?;
        let start = Instant::now();
        let stop = start + plan.duration;
        let before = Sample::take(plan)?;
        signals.begin(Schedule { start, stop });
        signals.sleep_until(stop)?;
        shared.readers.drain(&shared.writers, signals)?;
        Ok((start.elapsed(), (before, Sample::take(plan)?)))
    };
    let (span, samples) = drive::drive(&links(plan), plan.threads, start_worker, conduct)?;
    report(plan, &shared, span, samples)
}

fn report(
    plan: &Plan,
    shared: &Shared,
    span: Duration,
    samples: (Sample, Sample),
) -> Result<Outcome> {
    let Shared {
        readers, writers, ..
    } = shared;
    readers.check(writers)?;
    let (puts, deliveries) = (writers.puts(), readers.delivered());
    ensure!(deliveries > 0, "no event within {:?}", plan.duration);
    let operations = match plan.work {
        Work::WatchKeys => puts,
        _ => deliveries,
    };
    let latencies = shared.deliveries.as_ref().unwrap_or(writers.latencies());
    let mut outcome = outcome(plan, span, operations, latencies.latency(), samples);
    outcome.watch = Some(Fanout {
        streams: plan.streams,
        watchers: plan.watchers,
        puts,
        events_per_response: deliveries as f64 / readers.responses().max(1) as f64,
    });
    Ok(outcome)
}

/// The streams' connections, to each member in turn, and the writers' own to the first one, which leads.
pub(crate) fn links(plan: &Plan) -> Vec<Link> {
    let mut links = reader_links(plan);
    links.extend(writer_links(plan));
    links
}

fn reader_links(plan: &Plan) -> Vec<Link> {
    let connections = plan.connections.min(plan.streams);
    let streams = (0..connections).map(|part| share::of(plan.streams, connections, part).len());
    Link::in_turn(&plan.endpoints, streams)
}

fn writer_links(plan: &Plan) -> Vec<Link> {
    // Many watchers of one prefix are much work for a few writers' puts; otherwise the puts are the work, and their
    // clients are as many as those of `put`.
    let connections = match plan.work {
        Work::WatchKeys => 16.min(plan.in_flight),
        _ => 1,
    };
    let writers = (0..connections).map(|part| share::of(plan.in_flight, connections, part).len());
    Link::in_turn(&plan.endpoints[..1], writers)
}

/// How long an event has taken.
fn delay(clock: Clock, event: &Event<'_>) -> Result<u64> {
    let stamp = event.stamp().context("an event without a stamp")?;
    // Another run's puts may be stamped by another clock.
    let delay = clock.now().checked_sub(stamp);
    delay.context("an event that somebody else has put")
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::links;
    use crate::load::{Plan, Work};

    #[test]
    fn streams_are_spread_over_the_members_and_writers_talk_to_the_first() {
        let members = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut plan = Plan::new(Work::Watch, members.to_vec());
        (plan.connections, plan.streams, plan.in_flight) = (4, 10, 64);
        let links = links(&plan);
        let links = links
            .iter()
            .map(|link| (link.endpoint.port(), link.workers));
        assert_eq!(
            links.collect::<Vec<_>>(),
            [(1, 2), (2, 3), (3, 2), (1, 3), (1, 64)]
        );
    }

    #[test]
    fn there_are_no_more_connections_than_streams() {
        let mut plan = Plan::new(Work::WatchKeys, vec![SocketAddr::from(([127, 0, 0, 1], 1))]);
        (plan.connections, plan.streams, plan.in_flight) = (10, 2, 40);
        let workers: Vec<_> = links(&plan).iter().map(|link| link.workers).collect();
        assert_eq!(workers[..2], [1, 1]);
        assert_eq!((workers.len(), workers.iter().sum()), (18, 42));
    }
}
