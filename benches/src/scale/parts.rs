//! The parts of a scale run, each on a fresh server.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::control::Control;
use super::{Settings, ensure_keys, folder_bytes};
use crate::compare::server::Server;
use crate::histogram::Histogram;
use crate::load::flow::{self, Flow, Flowed, Make};
use crate::load::unary::{self, PUT, RANGE};
use crate::load::{Plan, Work};
use crate::plot::{self, Axis, Curve};
use crate::process::Usage;
use crate::random::Random;
use crate::wire::{Answer, Request};

const MIB: f64 = (1 << 20) as f64;

fn plan(server: &Server, work: Work, keys: u64, value_size: usize) -> Plan {
    Plan {
        keys,
        value_size,
        pids: vec![server.pid()],
        prefix: Work::Fill.prefix(),
        ..Plan::new(work, vec![server.endpoint()])
    }
}

/// Fills the server with keys `0..keys`; one million of them when the command line does not say.
pub(super) fn fill(server: &Server, keys: u64, value_size: usize) -> Result<Value> {
    let (outcome, _) = unary::fill(&plan(server, Work::Fill, keys, value_size), Work::Fill)?;
    Ok(json!({
        "keys": keys,
        "value_bytes": value_size,
        "seconds": outcome.seconds,
        "per_second": outcome.per_second,
        "mib_per_second": keys as f64 * value_size as f64 / MIB / outcome.seconds,
        "latency": outcome.latency,
    }))
}

/// Puts to `keys` random keys under the prefix of the fill.
pub(super) fn puts(keys: u64, value_size: usize) -> impl Fn() -> Make + Sync {
    let request = Request::put(&Work::Fill.prefix(), value_size);
    move || {
        let mut request = request.clone();
        Box::new(move |_: u64, random: &mut Random| {
            let key = random.below(keys);
            request.fill(key, 0, random)
        })
    }
}

pub(super) fn has_revision(answer: &Answer) -> Result<()> {
    unary::check_revision(answer)
}

/// Counting a million keys, beside the shortest call that there is.
pub(super) fn count(settings: &Settings, server: &Server) -> Result<Value> {
    const CALLS: usize = 2000;
    let keys = settings.keys.unwrap_or(1_000_000);
    fill(server, keys, 16)?;
    let mut control = Control::new(server.endpoint())?;
    let (counts, local, nothing) = (Histogram::new(), Histogram::new(), Histogram::new());
    for _ in 0..CALLS {
        nothing.record(unary::nanoseconds(control.nothing()?));
        let (found, took) = control.count(&Work::Fill.prefix(), false)?;
        ensure_keys(found, keys)?;
        counts.record(unary::nanoseconds(took));
        local.record(unary::nanoseconds(
            control.count(&Work::Fill.prefix(), true)?.1,
        ));
    }
    Ok(json!({
        "keys": keys,
        "linearizable": counts.latency(),
        "serializable": local.latency(),
        "a_call_that_does_nothing": nothing.latency(),
    }))
}

/// HashKV of many keys, and what it does to writes beside it.
pub(super) fn hash(settings: &Settings, server: &Server) -> Result<Value> {
    let keys = settings.keys.unwrap_or(500_000);
    fill(server, keys, 256)?;
    let mut control = Control::new(server.endpoint())?;
    let (first, cold) = control.hash()?;
    let (second, idle) = control.hash()?;
    ensure!(
        first == second,
        "two hashes of one state: {first} and {second}"
    );
    let writes = Flow {
        endpoint: server.endpoint(),
        connections: 4,
        in_flight: 8,
        rate: Some(settings.rate.unwrap_or(5_000.0)),
        duration: Duration::from_secs(10),
        stretch: Duration::from_secs(1),
        path: PUT,
    };
    let alone = flow::run(&writes, puts(keys, 256), has_revision, |_| Ok(()))?;
    let mut hashes = Vec::new();
    let beside = std::thread::scope(|scope| {
        let hasher = scope.spawn(|| -> Result<()> {
            for _ in 0..4 {
                hashes.push(control.hash()?.1.as_secs_f64());
                std::thread::sleep(Duration::from_secs(1));
            }
            Ok(())
        });
        let flowed = flow::run(&writes, puts(keys, 256), has_revision, |_| Ok(()))?;
        hasher
            .join()
            .map_err(|_| anyhow::anyhow!("the hasher panicked"))??;
        Ok::<Flowed, anyhow::Error>(flowed)
    })?;
    Ok(json!({
        "keys": keys,
        "seconds_first": cold.as_secs_f64(),
        "seconds_again": idle.as_secs_f64(),
        "seconds_beside_writes": hashes,
        "writes_per_second": writes.rate,
        "write_latency_alone": alone.latency,
        "write_latency_beside_hashes": beside.latency,
    }))
}

/// A long range as a stream, and as one answer: what the server's memory does.
pub(super) fn stream(settings: &Settings, server: &mut Server) -> Result<Value> {
    let keys = settings.keys.unwrap_or(1_000_000);
    fill(server, keys, 1024)?;
    // A new process: what the fill left in the allocator does not hide what the answer takes.
    server.restart(Signal::TERM)?;
    let mut control = Control::new(server.endpoint())?;
    std::thread::sleep(Duration::from_secs(5));
    let before = Usage::of(server.pid())?;
    let mut passes = Vec::new();
    for _ in 0..3 {
        let streamed = control.stream(&Work::Fill.prefix())?;
        ensure_keys(streamed.keys, keys)?;
        let usage = Usage::of(server.pid())?;
        passes.push(json!({
            "seconds": streamed.took.as_secs_f64(),
            "messages": streamed.messages,
            "rss_after_mib": usage.rss_kib as f64 / 1024.0,
            "peak_rss_mib": usage.peak_rss_kib as f64 / 1024.0,
        }));
    }
    Ok(json!({
        "keys": keys,
        "answer_mib": keys as f64 * 1060.0 / MIB,
        "rss_before_mib": before.rss_kib as f64 / 1024.0,
        "passes": passes,
    }))
}

/// What the physical part of a compaction costs the writers.
pub(super) fn compaction(settings: &Settings, server: &Server) -> Result<Value> {
    let keys = settings.keys.unwrap_or(100_000);
    let shape = |rate, seconds| Flow {
        endpoint: server.endpoint(),
        connections: 16,
        in_flight: 8,
        rate,
        duration: Duration::from_secs(seconds),
        stretch: Duration::from_secs(1),
        path: PUT,
    };
    fill(server, keys, 256)?;
    let mut control = Control::new(server.endpoint())?;
    let mut rounds = Vec::new();
    for _ in 0..3 {
        // What it writes is what the compaction has to remove.
        let before = control.size()?.revision;
        let alone = flow::run(&shape(None, 12), puts(keys, 256), has_revision, |_| Ok(()))?;
        let revision = control.size()?.revision;
        let mut physical = Duration::ZERO;
        let beside = std::thread::scope(|scope| {
            let compacter = scope.spawn(|| control.compact(revision, true));
            let flowed = flow::run(&shape(None, 15), puts(keys, 256), has_revision, |_| Ok(()))?;
            physical = compacter
                .join()
                .map_err(|_| anyhow::anyhow!("the compacter panicked"))??;
            Ok::<Flowed, anyhow::Error>(flowed)
        })?;
        rounds.push(json!({
            "revisions_compacted": revision - before,
            "physical_seconds": physical.as_secs_f64(),
            "per_second_before": alone.per_second,
            "per_second_beside": beside.per_second,
            "ratio": beside.per_second / alone.per_second,
            "latency_before": alone.latency,
            "latency_beside": beside.latency,
        }));
    }
    Ok(json!({ "keys": keys, "rounds": rounds }))
}

/// One look at the server while time goes by.
struct Look {
    minutes: f64,
    folder_mib: f64,
    database_mib: f64,
    in_use_mib: f64,
    rss_mib: f64,
}

impl Look {
    fn take(at: Duration, server: &Server, control: &mut Control, folder: &Path) -> Result<Look> {
        let size = control.size()?;
        Ok(Look {
            minutes: at.as_secs_f64() / 60.0,
            folder_mib: folder_bytes(&folder.join("data")) as f64 / MIB,
            database_mib: size.total as f64 / MIB,
            in_use_mib: size.in_use as f64 / MIB,
            rss_mib: Usage::of(server.pid())?.rss_kib as f64 / 1024.0,
        })
    }
}

fn sizes(looks: &[Look]) -> Vec<Curve<'static>> {
    let curve = |name, figure: fn(&Look) -> f64| Curve {
        name,
        points: looks
            .iter()
            .map(|look| (look.minutes, figure(look)))
            .collect(),
    };
    vec![
        curve("data folder", |look| look.folder_mib),
        curve("dbSize", |look| look.database_mib),
        curve("dbSizeInUse", |look| look.in_use_mib),
        curve("resident memory", |look| look.rss_mib),
    ]
}

fn latencies(flowed: &Flowed) -> Vec<Curve<'static>> {
    let curve = |name, figure: fn(&crate::histogram::Latency) -> f64| Curve {
        name,
        points: flowed
            .stretches
            .iter()
            .map(|stretch| (stretch.at_seconds / 60.0, figure(&stretch.latency) / 1e3))
            .collect(),
    };
    vec![
        curve("p50", |latency| latency.p50_us),
        curve("p99", |latency| latency.p99_us),
        curve("p99.9", |latency| latency.p999_us),
    ]
}

/// Least, median and most of a figure over the stretches, leaving out the first tenth.
fn spread(flowed: &Flowed, figure: fn(&crate::histogram::Latency) -> f64) -> Value {
    let skip = flowed.stretches.len() / 10;
    let mut figures: Vec<f64> = flowed.stretches[skip..]
        .iter()
        .filter(|stretch| stretch.operations > 0)
        .map(|stretch| figure(&stretch.latency))
        .collect();
    figures.sort_by(f64::total_cmp);
    let quarter = |part: usize| figures.get(figures.len() * part / 4).copied();
    json!({
        "least_us": figures.first(),
        "first_quarter_us": quarter(1),
        "median_us": quarter(2),
        "last_quarter_us": quarter(3),
        "most_us": figures.last(),
    })
}

/// Mean of a latency over the first and the last third of the run: flat means equal.
fn thirds(flowed: &Flowed, figure: fn(&crate::histogram::Latency) -> f64) -> Value {
    let third = (flowed.stretches.len() / 3).max(1);
    let mean = |part: &[flow::Stretch]| {
        let sum: f64 = part.iter().map(|stretch| figure(&stretch.latency)).sum();
        sum / part.len().max(1) as f64
    };
    json!({
        "first_third_us": mean(&flowed.stretches[..third]),
        "last_third_us": mean(&flowed.stretches[flowed.stretches.len() - third..]),
    })
}

fn look_values(looks: &[Look]) -> Vec<Value> {
    let value = |look: &Look| {
        json!({
            "minutes": look.minutes,
            "folder_mib": look.folder_mib,
            "database_mib": look.database_mib,
            "in_use_mib": look.in_use_mib,
            "rss_mib": look.rss_mib,
        })
    };
    looks.iter().map(value).collect()
}

/// Keys under one prefix are made and deleted over and over, while the prefix is listed.
pub(super) fn churn(settings: &Settings, server: &Server, folder: &Path) -> Result<Value> {
    const PREFIX: &str = "/churn/";
    let keys = settings.keys.unwrap_or(2_000);
    let duration = settings.minutes(10.0);
    let mut control = Control::new(server.endpoint())?;
    let mut lister = Control::new(server.endpoint())?;
    let endpoint = server.endpoint();
    let (mut looks, mut next_look, mut next_compaction) =
        (Vec::new(), Duration::ZERO, Duration::from_secs(30));
    let mut deleted = 0;
    let lists = Flow {
        endpoint,
        connections: 1,
        in_flight: 1,
        rate: Some(20.0),
        duration,
        stretch: Duration::from_secs(5),
        path: RANGE,
    };
    let list = Request::list(PREFIX, 500);
    let make = || -> Make {
        let list = list.clone();
        Box::new(move |_, _| list.fixed())
    };
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let flowed = std::thread::scope(|scope| {
        let churner = scope.spawn(|| -> Result<u64> {
            let mut rounds = 0;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                let plan = Plan {
                    prefix: PREFIX.to_owned(),
                    connections: 4,
                    in_flight: 4,
                    ..plan(server, Work::Fill, keys, 512)
                };
                unary::fill(&plan, Work::Fill)?;
                let found = control.delete(PREFIX)?;
                ensure_keys(found, keys)?;
                rounds += 1;
            }
            Ok(rounds)
        });
        let flowed = flow::run(&lists, make, has_revision, |at| {
            if at >= next_compaction {
                // As Kubernetes does, only more often: history of half a minute.
                let revision = lister.size()?.revision;
                lister.compact(revision, false)?;
                next_compaction += Duration::from_secs(30);
            }
            if at >= next_look {
                looks.push(Look::take(at, server, &mut lister, folder)?);
                next_look += Duration::from_secs(5);
            }
            Ok(())
        });
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        let rounds = churner
            .join()
            .map_err(|_| anyhow::anyhow!("the churner panicked"))??;
        deleted = rounds * keys;
        flowed
    })?;
    let picture = settings
        .plots
        .join(format!("churn-{}.svg", settings.kind.name()));
    plot::draw(
        &picture,
        &format!(
            "{}: a prefix made and deleted over and over",
            settings.kind.name()
        ),
        Axis::Linear("minutes"),
        &[
            (Axis::Linear("list, ms"), latencies(&flowed)),
            (Axis::Linear("MiB"), sizes(&looks)),
        ],
    )?;
    Ok(json!({
        "minutes": duration.as_secs_f64() / 60.0,
        "keys_made_and_deleted": deleted,
        "list_p50": thirds(&flowed, |latency| latency.p50_us),
        "list_p99": thirds(&flowed, |latency| latency.p99_us),
        "list_p99_spread": spread(&flowed, |latency| latency.p99_us),
        "looks": look_values(&looks),
    }))
}

/// Much data with little memory: load, point reads, lists, restart.
pub(super) fn big(settings: &Settings, server: &mut Server, folder: &Path) -> Result<Value> {
    const VALUE: usize = 4096;
    let keys = settings.keys.unwrap_or(10 * (1 << 30) / VALUE as u64);
    let filled = fill(server, keys, VALUE)?;
    let usage =
        |server: &Server| Usage::of(server.pid()).map(|usage| usage.rss_kib as f64 / 1024.0);
    let after_fill = usage(server)?;
    let run = |server: &Server, work: Work, seconds: u64| {
        let plan = Plan {
            duration: Duration::from_secs(seconds),
            ..plan(server, work, keys, VALUE)
        };
        unary::run(&plan, &[])
    };
    let gets = run(server, Work::Get, 30)?;
    let lists = run(server, Work::ListPages, 30)?;
    let lone = Plan {
        connections: 1,
        in_flight: 1,
        duration: Duration::from_secs(15),
        ..plan(server, Work::Get, keys, VALUE)
    };
    let lone = unary::run(&lone, &[])?;
    let after_reads = usage(server)?;
    let killed = server.restart(Signal::KILL)?;
    let ended = server.restart(Signal::TERM)?;
    let after_restart = Usage::of(server.pid())?;
    let mut control = Control::new(server.endpoint())?;
    let (found, _) = control.count(&Work::Fill.prefix(), false)?;
    ensure_keys(found, keys)?;
    let gets_again = run(server, Work::Get, 30)?;
    Ok(json!({
        "memory_budget": settings.budget,
        "fill": filled,
        "folder_gib": folder_bytes(&folder.join("data")) as f64 / MIB / 1024.0,
        "gets": { "per_second": gets.per_second, "latency": gets.latency, "server_cpu_us": gets.server_cpu_us },
        "lone_get": lone.latency,
        "lists_of_500": { "per_second": lists.per_second, "latency": lists.latency, "server_cpu_us": lists.server_cpu_us },
        "gets_after_restart": { "per_second": gets_again.per_second, "latency": gets_again.latency },
        "rss_after_fill_mib": after_fill,
        "rss_after_reads_mib": after_reads,
        "rss_after_restart_mib": after_restart.rss_kib as f64 / 1024.0,
        "rss_at_the_end_mib": usage(server)?,
        "peak_rss_since_restart_mib": Usage::of(server.pid())?.peak_rss_kib as f64 / 1024.0,
        "restart_after_sigkill_seconds": killed.as_secs_f64(),
        "restart_after_sigterm_seconds": ended.as_secs_f64(),
    }))
}

/// Updates at a steady rate for long, with a compaction every five minutes, as Kubernetes makes them.
pub(super) fn steady(settings: &Settings, server: &Server, folder: &Path) -> Result<Value> {
    const VALUE: usize = 1024;
    let keys = settings.keys.unwrap_or(100_000);
    let duration = settings.minutes(60.0);
    fill(server, keys, VALUE)?;
    let mut control = Control::new(server.endpoint())?;
    let writes = Flow {
        endpoint: server.endpoint(),
        connections: 16,
        in_flight: 16,
        rate: Some(settings.rate.unwrap_or(5_000.0)),
        duration,
        stretch: Duration::from_secs(10),
        path: PUT,
    };
    let every = Duration::from_secs(300).min(duration / 4);
    let (mut looks, mut next_look, mut next_compaction) = (Vec::new(), Duration::ZERO, every);
    let mut compact_to = control.size()?.revision;
    let flowed = flow::run(&writes, puts(keys, VALUE), has_revision, |at| {
        if at >= next_compaction {
            // To the revision of the round before, so that five to ten minutes of history stay.
            control.compact(compact_to, false)?;
            compact_to = control.size()?.revision;
            next_compaction += every;
        }
        if at >= next_look {
            looks.push(Look::take(at, server, &mut control, folder)?);
            next_look += Duration::from_secs(10);
        }
        Ok(())
    })?;
    let picture = settings
        .plots
        .join(format!("steady-{}.svg", settings.kind.name()));
    plot::draw(
        &picture,
        &format!(
            "{}: {} puts a second of {VALUE} bytes, {keys} keys",
            settings.kind.name(),
            writes.rate.unwrap_or_default()
        ),
        Axis::Linear("minutes"),
        &[
            (Axis::Linear("put, ms"), latencies(&flowed)),
            (Axis::Linear("MiB"), sizes(&looks)),
        ],
    )?;
    Ok(json!({
        "minutes": duration.as_secs_f64() / 60.0,
        "rate": writes.rate,
        "per_second": flowed.per_second,
        "latency": flowed.latency,
        "p50": thirds(&flowed, |latency| latency.p50_us),
        "p99": thirds(&flowed, |latency| latency.p99_us),
        "p99_spread": spread(&flowed, |latency| latency.p99_us),
        "p999_spread": spread(&flowed, |latency| latency.p999_us),
        "max_spread": spread(&flowed, |latency| latency.max_us),
        "looks": look_values(&looks),
    }))
}
