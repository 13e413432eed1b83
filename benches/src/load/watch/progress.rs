//! Progress requests beside puts: how soon they are answered, and whether the answers are true.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use proto::etcd::etcdserverpb::watch_request::RequestUnion;
use proto::etcd::etcdserverpb::{WatchProgressRequest, WatchRequest};

use crate::histogram::Histogram;
use crate::load::drive::{self, Place, Schedule, Signals};
use crate::load::unary::nanoseconds;
use crate::load::watch::links;
use crate::load::watch::readers::{Readers, Watched};
use crate::load::watch::writers::{Clock, Writers};
use crate::load::{Outcome, Plan, Sample, outcome};
use crate::wire::{Answer, Channel, Event, framed};

/// From an answer to the next request on the same stream.
const PAUSE: Duration = Duration::from_millis(10);
/// A server may leave a request unanswered when a watcher of the stream is behind; then the client asks again, and the
/// latency counts from the first time.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What all workers of a run share.
struct Shared {
    readers: Readers,
    writers: Writers,
    /// Requests, of which those sent again count once.
    asked: AtomicU64,
    /// From the request to the answer.
    latencies: Histogram,
    request: Bytes,
}

/// Runs writers at their rate, and asks for progress on every stream again and again.
pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let request = WatchRequest {
        request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})),
    };
    let shared = Arc::new(Shared {
        readers: Readers::new(plan, Watched::Prefix)?,
        writers: Writers::new(plan, Clock::new(), 1)?,
        asked: AtomicU64::new(0),
        latencies: Histogram::new(),
        request: framed(&request),
    });
    let streams = plan.streams;
    let start_worker = |place: Place, channel: Channel, signals: Signals| {
        let shared = shared.clone();
        async move {
            if place.worker >= streams {
                return shared.writers.run(place.worker, channel, signals).await;
            }
            tokio::select! {
                ended = ask(&shared, place.worker, channel, &signals) => ended,
                () = signals.finished() => Ok(()),
            }
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
        signals.wait("progress requests answered", || {
            let answered = shared.latencies.count();
            (answered, answered == shared.asked.load(Ordering::Relaxed))
        })?;
        Ok((start.elapsed(), (before, Sample::take(plan)?)))
    };
    let (span, samples) = drive::drive(&links(plan), plan.threads, start_worker, conduct)?;
    shared.readers.check(&shared.writers)?;
    let answers = shared.latencies.count();
    ensure!(answers > 0, "no progress within {:?}", plan.duration);
    let latency = shared.latencies.latency();
    let mut outcome = outcome(plan, span, answers, latency, samples);
    // Most of it went into the puts.
    outcome.server_cpu_us = None;
    Ok(outcome)
}

/// One stream: reads its events, and asks for progress whenever the answer before has come.
async fn ask(shared: &Shared, number: usize, channel: Channel, signals: &Signals) -> Result<()> {
    let mut stream = shared.readers.open(number, channel).await?;
    let order = Order::default();
    let begun = signals.schedule();
    tokio::pin!(begun);
    let mut schedule: Option<Schedule> = None;
    // When the open request was sent first, and when the next one is due, which may be the same once more.
    let (mut asked, mut due) = (None, Instant::now());
    loop {
        let may_ask = schedule.is_some_and(|schedule| asked.is_some() || due < schedule.stop);
        let mut is_answered = false;
        let mut on_event = |_: &Answer, event: &Event<'_>| order.note_event(event.revision);
        let note = |answer: &Answer| {
            if is_progress(answer) {
                is_answered = true;
                order.note_progress(answer.revision.cast_unsigned())?;
            }
            shared.readers.note(number, answer)
        };
        tokio::select! {
            more = stream.receive(Some(&mut on_event), note) => {
                ensure!(more?, "the server ended a watch stream");
            }
            begun = &mut begun, if schedule.is_none() => {
                let begun = begun?;
                (schedule, due) = (Some(begun), begun.start);
            }
            () = tokio::time::sleep_until(due.into()), if may_ask => {
                let now = Instant::now();
                if asked.is_none() {
                    asked = Some(now);
                    shared.asked.fetch_add(1, Ordering::Relaxed);
                }
                stream.send(shared.request.clone())?;
                due = now + ASK_AGAIN;
            }
        }
        if let (true, Some(first)) = (is_answered, asked) {
            let now = Instant::now();
            shared.latencies.record(nanoseconds(now - first));
            (asked, due) = (None, now + PAUSE);
        }
    }
}

fn is_progress(answer: &Answer) -> bool {
    // The id -1 stands for all watchers of the stream.
    answer.numbers[2] == u64::MAX && answer.numbers[3] == 0 && answer.counts[11] == 0
}

/// What has come on a stream, in which progress to a revision means: no event up to there will come any more.
#[derive(Default)]
struct Order {
    event: AtomicU64,
    progress: AtomicU64,
}

impl Order {
    fn note_event(&self, revision: u64) -> Result<()> {
        let progress = self.progress.load(Ordering::Relaxed);
        ensure!(
            revision > progress,
            "an event of revision {revision} came after progress to {progress}"
        );
        self.event.store(revision, Ordering::Relaxed);
        Ok(())
    }

    fn note_progress(&self, revision: u64) -> Result<()> {
        let event = self.event.load(Ordering::Relaxed);
        ensure!(
            revision >= event,
            "progress to {revision} came after an event of revision {event}"
        );
        self.progress.store(revision, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Order;

    #[test]
    fn no_event_may_come_after_progress_beyond_it() {
        let order = Order::default();
        order.note_event(5).unwrap();
        order.note_progress(5).unwrap();
        order.note_progress(8).unwrap();
        let late = order.note_event(8).unwrap_err().to_string();
        assert!(
            late.contains("revision 8 came after progress to 8"),
            "{late}"
        );
        order.note_event(9).unwrap();
        let early = order.note_progress(8).unwrap_err().to_string();
        assert!(early.contains("progress to 8 came after"), "{early}");
    }
}
