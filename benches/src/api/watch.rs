//! Many watches of one namespace, and a few writers that do not wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request as Head;

use crate::api::objects::Requests;
use crate::api::scan::Lines;
use crate::api::unary::Updater;
use crate::histogram::Histogram;
use crate::load::drive::{self, Place, Schedule, Signals};
use crate::load::unary::{Repeat, nanoseconds};
use crate::load::{Fanout, Outcome, Plan, Sample, outcome, watch};
use crate::wire::Channel;

/// What all workers of a run share.
struct Shared {
    head: Head<()>,
    open: AtomicUsize,
    /// Events by watcher.
    events: Vec<AtomicU64>,
    pieces: AtomicU64,
    running: AtomicUsize,
    /// Acknowledged updates.
    updates: AtomicU64,
    /// Of updates, which do not wait for deliveries.
    latencies: Histogram,
}

/// Runs writers for the plan's time, then waits until every event has reached every watcher: the measured span ends
/// there, as it does on the etcd port.
pub(super) fn run(plan: &Plan, requests: &Requests, revisions: &[i64]) -> Result<Outcome> {
    let (watchers, writers) = (plan.watchers, plan.in_flight);
    ensure!(
        plan.streams == watchers,
        "a request is one watcher: there are {watchers} on {} streams",
        plan.streams
    );
    ensure!(
        revisions.len() >= writers,
        "{writers} writers need an object each, there are {}",
        revisions.len()
    );
    let last = revisions.iter().max().context("a watch needs objects")?;
    let shared = Arc::new(Shared {
        head: requests.watch(*last)?,
        open: AtomicUsize::new(0),
        events: (0..watchers).map(|_| AtomicU64::new(0)).collect(),
        pieces: AtomicU64::new(0),
        running: AtomicUsize::new(writers),
        updates: AtomicU64::new(0),
        latencies: Histogram::new(),
    });
    let start_worker = |place: Place, channel: Channel, signals: Signals| {
        let shared = shared.clone();
        let number = place.worker.checked_sub(watchers);
        let writer = number
            .map(|number| Updater::new((number, writers), channel.clone(), requests, revisions));
        async move {
            match writer {
                Some(writer) => shared.write(writer, signals).await,
                None => tokio::select! {
                    ended = shared.read(place.worker, channel) => ended,
                    () = signals.finished() => Ok(()),
                },
            }
        }
    };
    let conduct = |signals: &Signals| {
        signals.wait("watches opened", || {
            let open = shared.open.load(Ordering::Relaxed);
            (open as u64, open == watchers)
        })?;
        let start = Instant::now();
        let stop = start + plan.duration;
        let before = Sample::take(plan)?;
        signals.begin(Schedule { start, stop });
        signals.sleep_until(stop)?;
        signals.wait("events delivered", || {
            // In this order: the count of updates stands only when the writers have ended.
            let have_ended = shared.running.load(Ordering::Acquire) == 0;
            let (delivered, expected) = (shared.delivered(), shared.updates() * watchers as u64);
            (delivered, have_ended && delivered >= expected)
        })?;
        Ok((start.elapsed(), (before, Sample::take(plan)?)))
    };
    let links = watch::links(plan);
    let (span, samples) = drive::drive(&links, plan.threads, start_worker, conduct)?;
    shared.check()?;
    let deliveries = shared.delivered();
    ensure!(deliveries > 0, "no event within {:?}", plan.duration);
    let latency = shared.latencies.latency();
    let mut outcome = outcome(plan, span, deliveries, latency, samples);
    outcome.watch = Some(Fanout {
        streams: plan.streams,
        watchers,
        puts: shared.updates(),
        events_per_response: deliveries as f64
            / shared.pieces.load(Ordering::Relaxed).max(1) as f64,
    });
    Ok(outcome)
}

impl Shared {
    /// One watcher: opens its watch and counts what comes, to the end of the run.
    async fn read(&self, number: usize, mut channel: Channel) -> Result<()> {
        let mut answer = channel.ask(self.head.clone(), Bytes::new()).await?;
        self.open.fetch_add(1, Ordering::Relaxed);
        let mut lines = Lines::default();
        loop {
            let piece = answer.next().await?;
            let events = lines.feed(&piece.context("the server ended a watch")?)?;
            self.pieces.fetch_add(1, Ordering::Relaxed);
            self.events[number].fetch_add(events, Ordering::Relaxed);
        }
    }

    /// One writer: updates one object after the other until the time is up.
    async fn write(&self, writer: Updater, signals: Signals) -> Result<()> {
        let schedule = signals.schedule().await?;
        let written = self.update(writer, schedule).await;
        self.running.fetch_sub(1, Ordering::Release);
        written
    }

    async fn update(&self, mut writer: Updater, schedule: Schedule) -> Result<()> {
        let mut begin = Instant::now();
        while begin < schedule.stop {
            writer.operate().await?;
            self.updates.fetch_add(1, Ordering::Relaxed);
            let end = Instant::now();
            self.latencies.record(nanoseconds(end - begin));
            begin = end;
        }
        Ok(())
    }

    fn updates(&self) -> u64 {
        self.updates.load(Ordering::Relaxed)
    }

    fn delivered(&self) -> u64 {
        let events = self.events.iter();
        events.map(|events| events.load(Ordering::Relaxed)).sum()
    }

    /// Fails if a watcher has not exactly the events that it should have.
    fn check(&self) -> Result<()> {
        let expected = self.updates();
        for (watcher, events) in self.events.iter().enumerate() {
            let found = events.load(Ordering::Relaxed);
            ensure!(
                found == expected,
                "watcher {watcher} got {found} events, not {expected}"
            );
        }
        Ok(())
    }
}
