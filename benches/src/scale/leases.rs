//! Very many leases: what they take, what a restart does to them, and what it costs when many are over together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use proto::etcd::etcdserverpb::{LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::control::Control;
use super::parts::{fill, has_revision, puts};
use super::{Settings, ensure_keys};
use crate::compare::server::Server;
use crate::histogram::{Histogram, Latency};
use crate::load::drive::{self, Link, Place, Schedule, Signals};
use crate::load::flow::{self, Flow, Make};
use crate::load::unary::{self, PUT};
use crate::load::{Plan, Work, keep_alive};
use crate::process::Usage;
use crate::random::Random;
use crate::wire::{Answer, Channel, Method, framed};

const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";

const CONNECTIONS: usize = 16;
const IN_FLIGHT: usize = 8;

/// Longer than any run.
const LONG: i64 = 7_200;
/// Of the leases that end: long enough to grant all of them, and to see how puts go before.
const SHORT: i64 = 30;
/// Keys that others write to.
const KEYS: u64 = 100_000;
/// Where their keys are.
const RENTED: &str = "/rented/";

/// A million leases that stay, and some that are over all at once, each with a key, while others write.
pub(super) fn leases(settings: &Settings, server: &mut Server) -> Result<Value> {
    let count = settings.keys.unwrap_or(1_000_000);
    let ending = count / 20;
    let megabytes = |server: &Server| -> Result<f64> {
        Ok(Usage::of(server.pid())?.rss_kib as f64 * 1024.0 / 1e6)
    };
    fill(server, KEYS, 256)?;
    let before = megabytes(server)?;
    let granted = each(server, GRANT, count, |number| grant(number + 1, LONG))?;
    let after = megabytes(server)?;

    let kept = keep_alive::run(&Plan {
        pids: vec![server.pid()],
        ..Plan::new(Work::KeepAlive, vec![server.endpoint()])
    })?;
    let look = Flow {
        endpoint: server.endpoint(),
        connections: 4,
        in_flight: 8,
        rate: None,
        duration: Duration::from_secs(5),
        stretch: Duration::from_secs(5),
        path: TIME_TO_LIVE,
    };
    let looks = || -> Make {
        Box::new(move |_, random: &mut Random| {
            framed(&LeaseTimeToLiveRequest {
                id: random.below(count).cast_signed() + 1,
                keys: false,
            })
        })
    };
    let looked = flow::run(&look, looks, is_alive, |_| Ok(()))?;
    let (listed, listing) = Control::new(server.endpoint())?.leases()?;
    ensure_count(listed, count)?;

    let restart = server.restart(Signal::KILL)?;
    let (listed, _) = Control::new(server.endpoint())?.leases()?;
    ensure_count(listed, count)?;
    let restarted = megabytes(server)?;

    let begin = Instant::now();
    each(server, GRANT, ending, move |number| {
        grant(count + number + 1, SHORT)
    })?;
    each(server, PUT, ending, move |number| rented(count, number))?;
    let attached = begin.elapsed();
    let flow = Flow {
        endpoint: server.endpoint(),
        connections: 4,
        in_flight: 8,
        rate: Some(settings.rate.unwrap_or(2_000.0)),
        // etcd ends a thousand a second.
        duration: Duration::from_secs(SHORT.unsigned_abs() + ending / 1_000 + 20),
        stretch: Duration::from_secs(1),
        path: PUT,
    };
    let mut control = Control::new(server.endpoint())?;
    let (mut first, mut last) = (None, None);
    let flowed = flow::run(&flow, puts(KEYS, 256), has_revision, |at| {
        let left = match last {
            Some(_) => 0,
            None => control.count(RENTED, true)?.0,
        };
        if left < ending {
            first.get_or_insert(at);
        }
        if left == 0 {
            last.get_or_insert(at);
        }
        Ok(())
    })?;
    let (Some(first), Some(last)) = (first, last) else {
        anyhow::bail!(
            "not all of {ending} leases were over after {:?}",
            flow.duration
        );
    };
    ensure_keys(control.count(RENTED, false)?.0, 0)?;
    let p99 = |from: f64, to: f64| {
        let within = flowed
            .stretches
            .iter()
            .filter(|stretch| (from..to).contains(&stretch.at_seconds));
        let mut figures: Vec<f64> = within.map(|stretch| stretch.latency.p99_us).collect();
        figures.sort_by(f64::total_cmp);
        json!({
            "median_p99_us": figures.get(figures.len() / 2),
            "worst_p99_us": figures.last(),
        })
    };
    let took = last - first;
    Ok(json!({
        "leases": count,
        "granted_per_second": granted.0,
        "grant_latency": granted.1,
        "mb_before": before,
        "mb_after": after,
        "bytes_a_lease": (after - before) * 1e6 / count as f64,
        "keep_alive": { "per_second": kept.per_second, "latency": kept.latency },
        "time_to_live": { "per_second": looked.per_second, "latency": looked.latency },
        "seconds_to_list_all": listing.as_secs_f64(),
        "seconds_to_restart": restart.as_secs_f64(),
        "mb_after_restart": restarted,
        "over_together": {
            "leases": ending,
            "seconds_to_grant_and_put": attached.as_secs_f64(),
            "seconds_to_end_all": took.as_secs_f64(),
            "per_second": ending as f64 / took.as_secs_f64(),
            "puts_per_second": flow.rate,
            "puts_before": p99(1.0, first.as_secs_f64().floor()),
            "puts_meanwhile": p99(first.as_secs_f64().floor(), last.as_secs_f64()),
            "puts_after": p99(last.as_secs_f64().ceil(), flow.duration.as_secs_f64()),
        },
    }))
}

fn grant(id: u64, ttl: i64) -> Bytes {
    let id = id.cast_signed();
    framed(&LeaseGrantRequest { ttl, id })
}

/// A put of a key that goes with the lease of this number.
fn rented(count: u64, number: u64) -> Bytes {
    framed(&PutRequest {
        key: format!("{RENTED}{number:010}").into(),
        value: Bytes::from_static(&[b'x'; 64]),
        lease: (count + number + 1).cast_signed(),
        ..PutRequest::default()
    })
}

fn is_alive(answer: &Answer) -> Result<()> {
    let left = answer.numbers[3].cast_signed();
    ensure!(left > 0, "lease {} has {left} s left", answer.numbers[2]);
    Ok(())
}

fn ensure_count(found: u64, expected: u64) -> Result<()> {
    ensure!(found >= expected, "found {found} leases, not {expected}");
    Ok(())
}

/// One call for each number below `count`, as fast as they go: how many a second, and their latency.
fn each(
    server: &Server,
    path: &str,
    count: u64,
    request: impl Fn(u64) -> Bytes + Copy + Send + Sync + 'static,
) -> Result<(f64, Latency)> {
    let (next, latency) = (Arc::new(AtomicU64::new(0)), Arc::new(Histogram::new()));
    let method = Method::new(server.endpoint(), path)?;
    let links = Link::in_turn(
        &[server.endpoint()],
        std::iter::repeat_n(IN_FLIGHT, CONNECTIONS),
    );
    let worker = |_: Place, mut channel: Channel, signals: Signals| {
        let (next, latency, method) = (next.clone(), latency.clone(), method.clone());
        async move {
            signals.schedule().await?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                let begin = Instant::now();
                let answer = channel.call(&method, request(number)).await?;
                unary::check_revision(&answer)?;
                latency.record(unary::nanoseconds(begin.elapsed()));
            }
        }
    };
    let took = drive::drive(&links, 1, worker, |signals| {
        let start = Instant::now();
        signals.begin(Schedule { start, stop: start });
        signals.wait("calls", || (latency.count(), latency.count() == count))?;
        Ok(start.elapsed())
    })?;
    Ok((count as f64 / took.as_secs_f64(), latency.latency()))
}
