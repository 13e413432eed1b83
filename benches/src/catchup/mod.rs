//! How long a new member takes to get the data of a cluster that goes on taking puts, and what that costs the puts.

mod report;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use proto::etcd::etcdserverpb::{
    MemberPromoteRequest, MemberPromoteResponse, StatusRequest, StatusResponse,
};
use serde::Serialize;

use crate::args::Args;
use crate::compare::cluster::{Cluster, MEMBERS};
use crate::compare::server::Kind;
use crate::compare::sides::Sides;
use crate::histogram::Latency;
use crate::load::flow::{self, Flow, Flowed, Make};
use crate::load::unary::{self, PUT};
use crate::load::{Plan, Work};
use crate::random::Random;
use crate::wire::Request;

/// Options of `bench catchup`.
pub(crate) const OPTIONS: &[&str] = &[
    "mib", "seconds", "servers", "holdfast", "folder", "json", "markdown",
];

/// Of the data that is there before.
const VALUE_BYTES: usize = 4096;
/// Of the puts meanwhile, as in `bench compare`.
const PUT_BYTES: usize = 256;
/// Keys that these puts are to.
const PUT_KEYS: u64 = 10_000;
/// How long the rate is measured before the member joins. Both servers have done with the fill by then.
const BEFORE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_secs(10);
/// Rates are counted by stretches of this length.
const STRETCH: Duration = Duration::from_millis(500);

/// What was found on one server.
#[derive(Clone, Debug, Serialize)]
struct Caught {
    server: &'static str,
    mib: u64,
    fill_seconds: f64,
    /// Puts a second before it joins.
    before_per_second: f64,
    before: Latency,
    /// From the start of its process until it has applied all that was committed when it was asked.
    seconds: f64,
    /// Until it votes.
    promoted_seconds: f64,
    /// Puts a second meanwhile.
    meanwhile_per_second: f64,
    /// The longest p99 of half a second meanwhile.
    meanwhile_p99_us: f64,
    /// Of the rate before.
    ratio: f64,
}

/// `bench catchup`.
pub(crate) fn main(args: &Args) -> Result<()> {
    let mib: u64 = args.value("mib")?.unwrap_or(1024);
    let limit = Duration::from_secs(args.value("seconds")?.unwrap_or(90));
    let Sides {
        servers,
        folder,
        conditions,
    } = Sides::of(args)?;
    let mut all = Vec::new();
    for (kind, binary) in &servers {
        let path = folder.path.join("cluster");
        // Neither server may stop for its quota.
        let flags = ["--quota-backend-bytes=17179869184".to_owned()];
        let mut cluster = Cluster::start(*kind, binary, &path, &flags)?;
        let caught = catch_up(&mut cluster, *kind, mib, limit).with_context(|| {
            format!(
                "catching up on {}; the members' last words:\n{}",
                kind.name(),
                cluster.last_words()
            )
        })?;
        all.push(caught);
        drop(cluster);
        fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    let report = report::Report::new(conditions, all);
    println!("{}", report.to_text());
    if let Some(path) = args.text("json") {
        fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("writing {path}"))?;
    }
    if let Some(path) = args.text("markdown") {
        fs::write(path, report.to_markdown()).with_context(|| format!("writing {path}"))?;
    }
    Ok(())
}

fn catch_up(cluster: &mut Cluster, kind: Kind, mib: u64, limit: Duration) -> Result<Caught> {
    let leader = cluster.wait_until_healthy()?;
    let endpoint = cluster.member(leader).endpoint();
    let plan = Plan {
        keys: (mib << 20) / VALUE_BYTES as u64,
        value_size: VALUE_BYTES,
        prefix: Work::Fill.prefix(),
        ..Plan::new(Work::Fill, vec![endpoint])
    };
    eprintln!("bench: filling {} with {mib} MiB", kind.name());
    let (fill, _) = unary::fill(&plan, Work::Fill)?;
    thread::sleep(PAUSE);
    let mut puts = Flow {
        endpoint,
        connections: 16,
        in_flight: 8,
        rate: None,
        duration: BEFORE,
        stretch: STRETCH,
        path: PUT,
    };
    let before = flow::run(&puts, requests, unary::check_revision, |_| Ok(()))?;
    eprintln!(
        "bench: {:.0} puts a second; a member joins",
        before.per_second
    );

    puts.duration = limit;
    let (mut begun, mut joined, mut caught, mut promoted) = (None, None, None, None);
    let mut last_look = Instant::now();
    let meanwhile = flow::run(&puts, requests, unary::check_revision, |at| {
        let Some((id, begin)) = joined else {
            begun = Some(at);
            joined = Some((cluster.grow()?, Instant::now()));
            return Ok(());
        };
        if promoted.is_some() || last_look.elapsed() < Duration::from_millis(250) {
            return Ok(());
        }
        last_look = Instant::now();
        if caught.is_none() && is_near(cluster, leader) {
            caught = Some((at, begin.elapsed()));
        }
        if caught.is_some() {
            let request = MemberPromoteRequest { id };
            let path = "/etcdserverpb.Cluster/MemberPromote";
            let answer: Result<MemberPromoteResponse> = cluster.call(leader, path, &request);
            if answer.is_ok() {
                promoted = Some(begin.elapsed());
                eprintln!(
                    "bench: it votes after {:.1} s",
                    begin.elapsed().as_secs_f64()
                );
            }
        }
        Ok(())
    })?;
    let (end, seconds) = caught.context("it has not caught up within --seconds")?;
    let promoted = promoted.context("it cannot be promoted within --seconds")?;
    let begun = begun.unwrap_or_default();
    let (rate, p99) = rate_between(&meanwhile, begun, end)?;
    Ok(Caught {
        server: kind.name(),
        mib,
        fill_seconds: fill.seconds,
        before_per_second: before.per_second,
        before: before.latency,
        seconds: seconds.as_secs_f64(),
        promoted_seconds: promoted.as_secs_f64(),
        meanwhile_per_second: rate,
        meanwhile_p99_us: p99,
        ratio: rate / before.per_second,
    })
}

fn requests() -> Make {
    let mut request = Request::put(&Work::Put.prefix(), PUT_BYTES);
    Box::new(move |_: u64, random: &mut Random| {
        let key = random.below(PUT_KEYS);
        request.fill(key, 0, random)
    })
}

/// Whether the newest member has applied all that the leader had applied just before.
fn is_near(cluster: &Cluster, leader: usize) -> bool {
    let applied = |member| {
        let path = "/etcdserverpb.Maintenance/Status";
        let status: Result<StatusResponse> = cluster.call(member, path, &StatusRequest::default());
        status.ok().map(|status| status.raft_applied_index)
    };
    let Some(before) = applied(leader) else {
        return false;
    };
    applied(MEMBERS).is_some_and(|own| own >= before)
}

/// Operations a second and the longest p99 in the stretches from one time to another.
fn rate_between(flowed: &Flowed, from: Duration, to: Duration) -> Result<(f64, f64)> {
    let within: Vec<_> = flowed
        .stretches
        .iter()
        .filter(|stretch| {
            let at = Duration::from_secs_f64(stretch.at_seconds);
            at + STRETCH > from && at < to
        })
        .collect();
    ensure!(!within.is_empty(), "it has caught up in no time");
    let operations: u64 = within.iter().map(|stretch| stretch.operations).sum();
    let p99 = within.iter().map(|stretch| stretch.latency.p99_us);
    let seconds = within.len() as f64 * STRETCH.as_secs_f64();
    Ok((operations as f64 / seconds, p99.fold(0.0, f64::max)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::rate_between;
    use crate::histogram::Histogram;
    use crate::load::flow::{Flowed, Stretch};

    #[test]
    fn the_rate_is_of_the_stretches_between_two_times() {
        let latency = Histogram::new().latency();
        let stretches = (0..10).map(|number| Stretch {
            at_seconds: f64::from(number) * 0.5,
            operations: if (2..6).contains(&number) { 10 } else { 1_000 },
            latency: latency.clone(),
        });
        let flowed = Flowed {
            stretches: stretches.collect(),
            latency: latency.clone(),
            per_second: 0.0,
        };
        let (rate, _) =
            rate_between(&flowed, Duration::from_secs(1), Duration::from_secs(3)).unwrap();
        assert_eq!(rate, 20.0);
        assert!(rate_between(&flowed, Duration::from_secs(7), Duration::from_secs(8)).is_err());
    }
}
