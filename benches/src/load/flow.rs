//! Operations at a fixed rate, or as fast as they go, with their latencies by stretch of time.
//!
//! At a fixed rate a latency counts from the moment the operation was due, not from when it was sent: a server that
//! stands still for a second then shows a second, also for the operations that had to queue behind it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use serde::Serialize;

use crate::histogram::{Histogram, Latency};
use crate::load::drive::{self, Link, Place, Schedule, Signals};
use crate::load::unary::nanoseconds;
use crate::random::Random;
use crate::wire::{Answer, Channel, Method};

/// What to do and how often.
#[derive(Clone)]
pub(crate) struct Flow {
    /// Client port.
    pub(crate) endpoint: SocketAddr,
    /// Connections.
    pub(crate) connections: usize,
    /// Operations at once on each.
    pub(crate) in_flight: usize,
    /// Operations a second; none for as many as go.
    pub(crate) rate: Option<f64>,
    /// How long.
    pub(crate) duration: Duration,
    /// Length of a stretch.
    pub(crate) stretch: Duration,
    /// gRPC path.
    pub(crate) path: &'static str,
}

/// The operations that were due within a stretch.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Stretch {
    /// From the start of the flow to the stretch's.
    pub(crate) at_seconds: f64,
    /// How many.
    pub(crate) operations: u64,
    /// Their latency.
    pub(crate) latency: Latency,
}

/// All stretches, and all operations together.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Flowed {
    /// In their order.
    pub(crate) stretches: Vec<Stretch>,
    /// Of everything.
    pub(crate) latency: Latency,
    /// Operations a second.
    pub(crate) per_second: f64,
}

/// Makes the request of one operation, by its number.
pub(crate) type Make = Box<dyn FnMut(u64, &mut Random) -> Bytes + Send>;

/// Runs a flow; `beside` is called again and again on this thread, with the time since the start.
pub(crate) fn run(
    flow: &Flow,
    make: impl Fn() -> Make + Sync,
    check: fn(&Answer) -> Result<()>,
    mut beside: impl FnMut(Duration) -> Result<()>,
) -> Result<Flowed> {
    let count = flow.duration.div_duration_f64(flow.stretch).ceil().max(1.0);
    #[allow(clippy::cast_possible_truncation, reason = "a run has few stretches")]
    let histograms: Arc<Vec<Histogram>> =
        Arc::new((0..count as usize).map(|_| Histogram::new()).collect());
    let next = Arc::new(AtomicU64::new(0));
    let workers = std::iter::repeat_n(flow.in_flight, flow.connections);
    let links = Link::in_turn(&[flow.endpoint], workers);
    let method = Method::new(flow.endpoint, flow.path)?;
    let (rate, stretch) = (flow.rate, flow.stretch);
    let worker = |place: Place, mut channel: Channel, signals: Signals| {
        let (histograms, next, method) = (histograms.clone(), next.clone(), method.clone());
        let (mut make, mut random) = (make(), Random::new(place.worker as u64));
        async move {
            let Schedule { start, stop } = signals.schedule().await?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let due = match rate {
                    Some(rate) => start + Duration::from_secs_f64(number as f64 / rate),
                    None => Instant::now(),
                };
                if due >= stop {
                    return Ok(());
                }
                tokio::time::sleep_until(due.into()).await;
                check(&channel.call(&method, make(number, &mut random)).await?)?;
                let place = due.duration_since(start).div_duration_f64(stretch);
                #[allow(clippy::cast_possible_truncation, reason = "a run has few stretches")]
                #[allow(clippy::cast_sign_loss, reason = "a duration is not negative")]
                if let Some(histogram) = histograms.get(place as usize) {
                    histogram.record(nanoseconds(due.elapsed()));
                }
            }
        }
    };
    drive::drive(&links, 1, worker, |signals| {
        let start = Instant::now();
        let stop = start + flow.duration;
        signals.begin(Schedule { start, stop });
        while Instant::now() < stop {
            beside(start.elapsed())?;
            let pause = Instant::now() + Duration::from_millis(100);
            signals.sleep_until(pause.min(stop))?;
        }
        Ok(())
    })?;
    let all = Histogram::new();
    let stretches = histograms.iter().enumerate().map(|(place, histogram)| {
        all.merge(histogram);
        Stretch {
            at_seconds: place as f64 * flow.stretch.as_secs_f64(),
            operations: histogram.count(),
            latency: histogram.latency(),
        }
    });
    let stretches: Vec<_> = stretches.collect();
    ensure!(all.count() > 0, "no operation ended");
    Ok(Flowed {
        stretches,
        latency: all.latency(),
        per_second: all.count() as f64 / flow.duration.as_secs_f64(),
    })
}
