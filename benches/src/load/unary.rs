//! Workers that make one unary call after another.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::histogram::Histogram;
use crate::load::drive::{self, Place, Schedule, Signals};
use crate::load::{Outcome, PAGE, Plan, Sample, Work, measure, outcome};
use crate::random::Random;
use crate::wire::{Answer, Channel, KEY_DIGITS, Method, Request};

/// A day: longer than any run.
const NO_END: Duration = Duration::from_secs(24 * 60 * 60);

/// Something to do over and over.
pub(crate) trait Repeat: Send + 'static {
    /// One operation, and whether its answer is what it must be.
    fn operate(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// Runs the plan's work for its time. `revisions` has the modification revision of every key, if they exist.
pub(crate) fn run(plan: &Plan, revisions: &[i64]) -> Result<Outcome> {
    let total = plan.connections * plan.in_flight;
    ensure!(
        plan.work != Work::Update || plan.keys >= total as u64,
        "{} workers need a key each, there are {}",
        total,
        plan.keys
    );
    let template = Template::new(plan)?;
    repeat(plan, |number, channel| {
        Worker::new(plan, &template, number, revisions, channel)
    })
}

/// Has workers, which `start` makes by their numbers, repeat what they do for the plan's time.
pub(crate) fn repeat<W: Repeat>(
    plan: &Plan,
    start: impl Fn(usize, Channel) -> W + Sync,
) -> Result<Outcome> {
    let latencies: Vec<_> = (0..plan.threads)
        .map(|_| Arc::new(Histogram::new()))
        .collect();
    let start_worker = |place: Place, channel: Channel, signals: Signals| {
        let mut worker = start(place.worker, channel);
        let latencies = latencies[place.thread].clone();
        async move {
            let Schedule { start, stop } = signals.schedule().await?;
            let mut begin = Instant::now();
            while begin < stop {
                worker.operate().await?;
                let end = Instant::now();
                if end >= start && end <= stop {
                    latencies.record(nanoseconds(end - begin));
                }
                begin = end;
            }
            Ok(())
        }
    };
    let conduct = |signals: &Signals| measure(plan, signals);
    let samples = drive::drive(&plan.links(), plan.threads, start_worker, conduct)?;
    let latency = Histogram::new();
    for part in &latencies {
        latency.merge(part);
    }
    let operations = latency.count();
    ensure!(
        operations > 0,
        "no operation ended within {:?}",
        plan.duration
    );
    Ok(outcome(
        plan,
        plan.duration,
        operations,
        latency.latency(),
        samples,
    ))
}

/// Puts every key of `work` once; answers with the modification revisions.
pub(crate) fn fill(plan: &Plan, work: Work) -> Result<(Outcome, Vec<i64>)> {
    let shape = Plan::new(Work::Fill, plan.endpoints.clone());
    let plan = match plan.work {
        Work::Fill => plan.clone(),
        _ => Plan {
            work,
            connections: shape.connections,
            in_flight: shape.in_flight,
            ..plan.clone()
        },
    };
    let next = Arc::new(AtomicU64::new(0));
    let revisions: Arc<[AtomicI64]> = (0..plan.keys).map(|_| AtomicI64::new(0)).collect();
    let latency = Arc::new(Histogram::new());
    let method = Method::new(plan.endpoints[0], PUT)?;
    let request = Request::put(&plan.prefix, plan.value_size);
    let start_worker = |place: Place, mut channel: Channel, signals: Signals| {
        let (next, revisions, latency) = (next.clone(), revisions.clone(), latency.clone());
        let (mut request, method) = (request.clone(), method.clone());
        let mut random = Random::new(place.worker as u64);
        async move {
            let Schedule { stop, .. } = signals.schedule().await?;
            loop {
                let begin = Instant::now();
                let key = next.fetch_add(1, Ordering::Relaxed);
                let Some(revision) = usize::try_from(key).ok().and_then(|key| revisions.get(key))
                else {
                    return Ok(());
                };
                if begin > stop {
                    return Ok(());
                }
                let answer = channel
                    .call(&method, request.fill(key, 0, &mut random))
                    .await?;
                check_revision(&answer)?;
                revision.store(answer.revision, Ordering::Relaxed);
                latency.record(nanoseconds(begin.elapsed()));
            }
        }
    };
    let conduct = |signals: &Signals| {
        let start = Instant::now();
        let before = Sample::take(&plan)?;
        signals.begin(Schedule {
            start,
            stop: start + NO_END,
        });
        signals.wait("keys written", || {
            let written = latency.count();
            (written, written == plan.keys)
        })?;
        Ok((start, (before, Sample::take(&plan)?)))
    };
    let (start, samples) = drive::drive(&plan.links(), plan.threads, start_worker, conduct)?;
    let revisions = revisions
        .iter()
        .map(|revision| revision.load(Ordering::Relaxed))
        .collect();
    Ok((
        outcome(
            &plan,
            start.elapsed(),
            plan.keys,
            latency.latency(),
            samples,
        ),
        revisions,
    ))
}

pub(crate) const PUT: &str = "/etcdserverpb.KV/Put";
pub(crate) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(crate) const TXN: &str = "/etcdserverpb.KV/Txn";

/// A duration for the histogram; more than 500 years count as that.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn check_revision(answer: &Answer) -> Result<()> {
    ensure!(answer.revision > 0, "an answer without a revision");
    Ok(())
}

/// What the workers of a run have in common.
struct Template {
    method: Method,
    request: Request,
    /// For the pages after the first.
    next_page: Option<Request>,
}

impl Template {
    fn new(plan: &Plan) -> Result<Template> {
        let prefix = &plan.prefix;
        let limit = PAGE.cast_signed();
        let (path, request, next_page) = match plan.work {
            Work::Update => (TXN, Request::update(prefix, plan.value_size), None),
            Work::Get => (RANGE, Request::get(prefix, false), None),
            Work::GetSerializable => (RANGE, Request::get(prefix, true), None),
            Work::ListPages => (
                RANGE,
                Request::list(prefix, limit),
                Some(Request::next_page(prefix, limit)),
            ),
            Work::ListAll => (RANGE, Request::list(prefix, 0), None),
            _ => (PUT, Request::put(prefix, plan.value_size), None),
        };
        debug_assert!(
            plan.keys.to_string().len() <= KEY_DIGITS + 1,
            "keys must fit their digits"
        );
        Ok(Template {
            method: Method::new(plan.endpoints[0], path)?,
            request,
            next_page,
        })
    }
}

/// One client that waits for each answer before it asks again.
struct Worker {
    work: Work,
    channel: Channel,
    method: Method,
    request: Request,
    next_page: Option<Request>,
    random: Random,
    /// Keys that this worker uses: its own for updates, else all.
    keys: Range<u64>,
    /// `Update`: modification revision of each key of `keys`.
    revisions: Vec<i64>,
    /// `ListPages`: keys seen in this pass, and the revision it reads at.
    listed: u64,
    listed_at: i64,
}

impl Worker {
    fn new(
        plan: &Plan,
        template: &Template,
        number: usize,
        revisions: &[i64],
        channel: Channel,
    ) -> Worker {
        let workers = (plan.connections * plan.in_flight) as u64;
        let number = number as u64;
        let keys = match plan.work {
            Work::Update => plan.keys * number / workers..plan.keys * (number + 1) / workers,
            _ => 0..plan.keys,
        };
        let own = usize::try_from(keys.start)
            .ok()
            .zip(usize::try_from(keys.end).ok());
        let revisions = match own.and_then(|(start, end)| revisions.get(start..end)) {
            Some(revisions) if plan.work == Work::Update => revisions.to_vec(),
            _ => Vec::new(),
        };
        Worker {
            work: plan.work,
            channel,
            method: template.method.clone(),
            request: template.request.clone(),
            next_page: template.next_page.clone(),
            random: Random::new(number),
            keys,
            revisions,
            listed: 0,
            listed_at: 0,
        }
    }

    async fn list_page(&mut self) -> Result<()> {
        let request = match &mut self.next_page {
            Some(next_page) if self.listed > 0 => {
                next_page.fill(self.listed - 1, self.listed_at, &mut self.random)
            }
            _ => self.request.fixed(),
        };
        let answer = self.channel.call(&self.method, request).await?;
        check_revision(&answer)?;
        let expected = PAGE.min(self.keys.end - self.listed);
        let found = u64::from(answer.counts[2]);
        ensure!(
            found == expected,
            "a page after {} keys has {found} keys, not {expected}",
            self.listed
        );
        if self.listed == 0 {
            self.listed_at = answer.revision;
        }
        self.listed += found;
        if self.listed == self.keys.end {
            self.listed = 0;
        }
        Ok(())
    }
}

impl Repeat for Worker {
    async fn operate(&mut self) -> Result<()> {
        let offset = self.random.below(self.keys.end - self.keys.start);
        let key = self.keys.start + offset;
        match self.work {
            Work::Update => {
                let slot = &mut self.revisions[usize::try_from(offset)?];
                let request = self.request.fill(key, *slot, &mut self.random);
                let answer = self.channel.call(&self.method, request).await?;
                ensure!(
                    answer.numbers[2] == 1,
                    "an update of key {key} at revision {slot} met another writer"
                );
                *slot = answer.revision;
                check_revision(&answer)
            }
            Work::Get | Work::GetSerializable => {
                let request = self.request.fill(key, 0, &mut self.random);
                let found = self.channel.call(&self.method, request).await?.counts[2];
                ensure!(found == 1, "a get of key {key} found {found}");
                Ok(())
            }
            Work::ListPages => self.list_page().await,
            Work::ListAll => {
                let found = self
                    .channel
                    .call(&self.method, self.request.fixed())
                    .await?
                    .counts[2];
                ensure!(
                    u64::from(found) == self.keys.end,
                    "a list found {found} keys, not {}",
                    self.keys.end
                );
                Ok(())
            }
            _ => {
                let request = self.request.fill(key, 0, &mut self.random);
                check_revision(&self.channel.call(&self.method, request).await?)
            }
        }
    }
}
