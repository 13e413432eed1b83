//! Puts for watchers to see: as fast as they go or at a rate, stamped with the time, and counted by who watches them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::histogram::Histogram;
use crate::load::drive::{Schedule, Signals};
use crate::load::unary::{PUT, check_revision, nanoseconds};
use crate::load::{Plan, share};
use crate::random::Random;
use crate::wire::{Channel, Method, Request};

/// Stamps puts and reads the stamps of events: nanoseconds since it was made.
#[derive(Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn new() -> Clock {
        Clock(Instant::now())
    }

    pub(super) fn now(self) -> u64 {
        nanoseconds(self.0.elapsed())
    }
}

/// All writers of a prefix.
pub(super) struct Writers {
    method: Method,
    request: Request,
    keys: usize,
    rate: Option<f64>,
    clock: Clock,
    /// Number of the next put, by which it is due at a rate.
    next: AtomicU64,
    running: AtomicUsize,
    /// Acknowledged puts, by group of keys.
    puts: Vec<AtomicU64>,
    latencies: Histogram,
}

impl Writers {
    /// Those of a plan, with the keys in so many groups.
    pub(super) fn new(plan: &Plan, clock: Clock, groups: usize) -> Result<Writers> {
        Ok(Writers {
            method: Method::new(plan.endpoints[0], PUT)?,
            request: Request::put(&plan.prefix, plan.value_size),
            keys: usize::try_from(plan.keys)?,
            rate: plan.rate,
            clock,
            next: AtomicU64::new(0),
            running: AtomicUsize::new(plan.in_flight),
            puts: (0..groups).map(|_| AtomicU64::new(0)).collect(),
            latencies: Histogram::new(),
        })
    }

    /// One writer: puts one after the other until the time is up.
    pub(super) async fn run(
        &self,
        number: usize,
        channel: Channel,
        signals: Signals,
    ) -> Result<()> {
        let schedule = signals.schedule().await?;
        let written = self.write(number, channel, schedule).await;
        self.running.fetch_sub(1, Ordering::Release);
        written
    }

    async fn write(&self, number: usize, mut channel: Channel, schedule: Schedule) -> Result<()> {
        let (mut request, mut random) = (self.request.clone(), Random::new(number as u64));
        loop {
            let due = match self.rate {
                Some(rate) => {
                    let number = self.next.fetch_add(1, Ordering::Relaxed);
                    schedule.start + Duration::from_secs_f64(number as f64 / rate)
                }
                None => Instant::now(),
            };
            if due >= schedule.stop {
                return Ok(());
            }
            if self.rate.is_some() {
                tokio::time::sleep_until(due.into()).await;
            }
            let key = random.below(self.keys as u64);
            let begin = self.clock.now();
            let put = request.fill_stamped(key, begin, &mut random);
            check_revision(&channel.call(&self.method, put).await?)?;
            let group = share::holder(self.keys, self.puts.len(), usize::try_from(key)?);
            self.puts[group].fetch_add(1, Ordering::Relaxed);
            self.latencies.record(self.clock.now() - begin);
        }
    }

    /// Whether the last answer has come, after which the counts stand.
    pub(super) fn have_ended(&self) -> bool {
        self.running.load(Ordering::Acquire) == 0
    }

    /// Acknowledged puts.
    pub(super) fn puts(&self) -> u64 {
        (0..self.puts.len()).map(|group| self.puts_of(group)).sum()
    }

    /// Acknowledged puts of keys of a group.
    pub(super) fn puts_of(&self, group: usize) -> u64 {
        self.puts[group].load(Ordering::Relaxed)
    }

    /// Of puts, which do not wait for deliveries.
    pub(super) fn latencies(&self) -> &Histogram {
        &self.latencies
    }
}
