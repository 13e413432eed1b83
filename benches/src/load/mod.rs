//! One closed-loop run against one server: what to do, how long, and what it cost.

pub(crate) mod drive;
pub(crate) mod flow;
pub(crate) mod keep_alive;
mod share;
pub(crate) mod unary;
pub(crate) mod watch;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;

use crate::args::{Args, Misuse};
use crate::histogram::Latency;
use crate::load::drive::{Link, Schedule, Signals};
use crate::process::Usage;
use crate::random::Random;
use crate::wire::{self, Method, Request};

/// Options of `bench load`.
pub(crate) const OPTIONS: &[&str] = &[
    "endpoint",
    "work",
    "pid",
    "connections",
    "in-flight",
    "keys",
    "value-size",
    "seconds",
    "warm-up",
    "threads",
    "streams",
    "watchers",
    "rate",
];

/// What every worker of a run does, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Puts to random keys.
    Put,
    /// The same by one client, one at a time.
    PutLone,
    /// Kubernetes' update transaction on keys that the worker alone writes.
    Update,
    /// Linearizable gets of random keys.
    Get,
    /// The same without a read barrier.
    GetSerializable,
    /// Kubernetes' paged list, 500 keys a page; an operation is a page.
    ListPages,
    /// All keys in one answer.
    ListAll,
    /// Watchers of one prefix while writers put as fast as they can; an operation is an event delivered to a
    /// watcher. With few writers every event is a response of its own; with 64 all servers get to batch.
    Watch,
    /// The same at a fixed rate: how late the events come.
    WatchPaced,
    /// One watcher on each stream.
    WatchStreams,
    /// One watcher and one stream on each connection.
    WatchConnections,
    /// Every watcher has a key of its own; an operation is a put.
    WatchKeys,
    /// Watchers to which nothing happens: what they take of memory and CPU, and the same of streams.
    WatchIdle,
    /// Progress requests on streams beside puts at a fixed rate.
    WatchProgress,
    /// Watchers that stop reading for a while, beside others that do not.
    WatchLag,
    /// Leases kept alive; an operation is one of them once.
    KeepAlive,
    /// Puts every key once, in order.
    Fill,
}

/// Keys of a page, as Kubernetes asks for them.
const PAGE: u64 = 500;

impl Work {
    /// All works, in the order of reports.
    pub(crate) const ALL: [Work; 17] = [
        Work::Put,
        Work::PutLone,
        Work::Update,
        Work::Get,
        Work::GetSerializable,
        Work::ListPages,
        Work::ListAll,
        Work::Watch,
        Work::WatchPaced,
        Work::WatchStreams,
        Work::WatchConnections,
        Work::WatchKeys,
        Work::WatchIdle,
        Work::WatchProgress,
        Work::WatchLag,
        Work::KeepAlive,
        Work::Fill,
    ];

    /// The name on the command line and in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Work::Put => "put",
            Work::PutLone => "put-lone",
            Work::Update => "update",
            Work::Get => "get",
            Work::GetSerializable => "get-serializable",
            Work::ListPages => "list-500",
            Work::ListAll => "list-10000",
            Work::Watch => "watch",
            Work::WatchPaced => "watch-paced",
            Work::WatchStreams => "watch-streams",
            Work::WatchConnections => "watch-connections",
            Work::WatchKeys => "watch-keys",
            Work::WatchIdle => "watch-idle",
            Work::WatchProgress => "watch-progress",
            Work::WatchLag => "watch-lag",
            Work::KeepAlive => "keep-alive",
            Work::Fill => "fill",
        }
    }

    /// Keys of different works do not mix, so that several can run on one server.
    pub(crate) fn prefix(self) -> String {
        format!("/bench/{}/", self.name())
    }

    /// Whether the keys must be there before.
    fn reads_keys(self) -> bool {
        matches!(
            self,
            Work::Update | Work::Get | Work::GetSerializable | Work::ListPages | Work::ListAll
        )
    }

    /// Whether latencies are of operations: the writers of most watch works do not wait for deliveries.
    pub(crate) fn has_latency(self) -> bool {
        !matches!(
            self,
            Work::Watch | Work::WatchStreams | Work::WatchConnections
        )
    }

    /// Whether a server without a store can do it.
    pub(crate) fn is_echoed(self) -> bool {
        self.reads_keys() || matches!(self, Work::Put | Work::PutLone)
    }
}

/// A run, to the last figure.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What to do.
    pub(crate) work: Work,
    /// The server, or all members of a cluster; connections go to each in turn.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// The processes to measure, as one.
    pub(crate) pids: Vec<u32>,
    /// Connections that share the work.
    pub(crate) connections: usize,
    /// Requests in flight on each; where there are watchers, the writers, on connections of their own.
    pub(crate) in_flight: usize,
    /// What all keys begin with.
    pub(crate) prefix: String,
    /// Different keys, or leases.
    pub(crate) keys: u64,
    /// Bytes of a value.
    pub(crate) value_size: usize,
    /// Unmeasured time before.
    pub(crate) warm_up: Duration,
    /// Measured time.
    pub(crate) duration: Duration,
    /// Threads of the generator.
    pub(crate) threads: usize,
    /// Watch streams, spread over the connections.
    pub(crate) streams: usize,
    /// Watchers, spread over the streams.
    pub(crate) watchers: usize,
    /// Puts a second beside watchers; none for as many as go.
    pub(crate) rate: Option<f64>,
}

impl Plan {
    /// The plan that a work has by itself.
    pub(crate) fn new(work: Work, endpoints: Vec<SocketAddr>) -> Plan {
        let (connections, in_flight, keys, value_size) = match work {
            Work::Put => (16, 8, 100_000, 256),
            Work::PutLone => (1, 1, 10_000, 256),
            Work::Update => (16, 8, 10_240, 1024),
            Work::Get => (16, 8, 10_000, 256),
            Work::GetSerializable => (64, 16, 10_000, 256),
            Work::ListPages => (8, 1, 10_000, 1024),
            Work::ListAll => (4, 1, 10_000, 1024),
            Work::Watch | Work::WatchStreams => (10, 64, 1_000, 256),
            Work::WatchPaced | Work::WatchLag => (10, 8, 1_000, 256),
            Work::WatchConnections => (100, 64, 1_000, 256),
            Work::WatchKeys => (10, 128, 10_000, 256),
            Work::WatchIdle => (10, 1, 1, 1),
            Work::WatchProgress => (2, 16, 1_000, 256),
            Work::KeepAlive => (16, 8, 10_000, 0),
            Work::Fill => (16, 8, 500_000, 256),
        };
        let (streams, watchers) = match work {
            Work::WatchStreams => (1_000, 1_000),
            Work::WatchConnections => (100, 100),
            Work::WatchKeys => (100, 10_000),
            Work::WatchIdle => (100, 100_000),
            Work::WatchProgress => (10, 10),
            _ => (100, 1_000),
        };
        let rate = match work {
            Work::WatchPaced => Some(100.0),
            Work::WatchProgress => Some(1_000.0),
            Work::WatchLag => Some(200.0),
            _ => None,
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Plan {
            work,
            endpoints,
            pids: Vec::new(),
            connections,
            in_flight,
            prefix: work.prefix(),
            keys,
            value_size,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            threads: (cores / 2).clamp(1, 4),
            streams,
            watchers,
            rate,
        }
    }

    /// The same for a second, and with less: enough to see that it works.
    pub(crate) fn shorten(&mut self) {
        // As many as the echo server lists.
        self.keys = self.keys.min(10_000);
        self.warm_up = Duration::from_millis(200);
        self.duration = Duration::from_secs(1);
        self.streams = self.streams.div_ceil(10);
        self.watchers = self.watchers.div_ceil(10);
        if self.work == Work::WatchKeys {
            self.keys = self.watchers as u64;
        }
    }

    /// The connections of works that share them evenly.
    fn links(&self) -> Vec<Link> {
        let workers = std::iter::repeat_n(self.in_flight, self.connections);
        Link::in_turn(&self.endpoints, workers)
    }
}

/// What a run found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Name of the work.
    pub(crate) work: String,
    /// As planned.
    pub(crate) connections: usize,
    /// As planned.
    pub(crate) in_flight: usize,
    /// As planned.
    pub(crate) keys: u64,
    /// As planned.
    pub(crate) value_size: usize,
    /// Length of the measured part.
    pub(crate) seconds: f64,
    /// Operations that ended in it; none failed, or there is no outcome.
    pub(crate) operations: u64,
    /// Operations per second.
    pub(crate) per_second: f64,
    /// Of operations; for `watch` and its like without a rate, of the writers' puts, which do not wait for delivery.
    pub(crate) latency: Latency,
    /// Server CPU per operation, if its process was given.
    pub(crate) server_cpu_us: Option<f64>,
    /// The server's memory at the end, or that of all members.
    pub(crate) server: Option<Usage>,
    /// The generator's own CPU per operation.
    pub(crate) generator_cpu_us: f64,
    /// Only with watchers.
    pub(crate) watch: Option<Fanout>,
    /// Only for `watch-idle`.
    pub(crate) idle: Option<Idle>,
    /// Only for `watch-lag`.
    pub(crate) lag: Option<Lag>,
}

/// How events reached the watchers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fanout {
    /// Watch streams.
    pub(crate) streams: usize,
    /// Watchers on all streams.
    pub(crate) watchers: usize,
    /// Revisions written.
    pub(crate) puts: u64,
    /// Mean number of events in a response.
    pub(crate) events_per_response: f64,
}

/// What watchers and streams take while nothing happens to them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Idle {
    /// On few streams.
    pub(crate) watchers: usize,
    /// Resident memory that they added, for each.
    pub(crate) bytes_per_watcher: f64,
    /// With a watcher each.
    pub(crate) streams: usize,
    /// Resident memory that they added, for each.
    pub(crate) bytes_per_stream: f64,
    /// CPU of the server with connections alone, of one core.
    pub(crate) cpu_percent_connected: f64,
    /// The same with the watchers.
    pub(crate) cpu_percent_with_watchers: f64,
    /// The same with the streams, too.
    pub(crate) cpu_percent_with_streams: f64,
}

/// What watchers that did not read for a while have cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lag {
    /// Resident memory of the server, from when they stopped until they read again.
    pub(crate) rss_growth_kib: i64,
    /// From when they read again until they had all that they had missed.
    pub(crate) caught_up_seconds: f64,
    /// Of deliveries to the other watchers before.
    pub(crate) others_before: Latency,
    /// The same in between.
    pub(crate) others_meanwhile: Latency,
}

/// `bench load`.
pub(crate) fn main(args: &Args) -> Result<()> {
    let name = args
        .text("work")
        .ok_or_else(|| Misuse("--work is needed".to_owned()))?;
    let found = Work::ALL.into_iter().find(|work| work.name() == name);
    let work = found.ok_or_else(|| Misuse(format!("--work: `{name}` is not a work")))?;
    let endpoints = args
        .values("endpoint")?
        .unwrap_or_else(|| vec![SocketAddr::from(([127, 0, 0, 1], 2379))]);
    let mut plan = Plan::new(work, endpoints);
    set(&mut plan.pids, args.values("pid")?);
    set(&mut plan.connections, args.value("connections")?);
    set(&mut plan.in_flight, args.value("in-flight")?);
    set(&mut plan.keys, args.value("keys")?);
    set(&mut plan.value_size, args.value("value-size")?);
    set(&mut plan.duration, seconds(args, "seconds")?);
    set(&mut plan.warm_up, seconds(args, "warm-up")?);
    set(&mut plan.threads, args.value("threads")?);
    set(&mut plan.streams, args.value("streams")?);
    set(&mut plan.watchers, args.value("watchers")?);
    if let Some(rate) = args.value::<f64>("rate")? {
        plan.rate = (rate > 0.0).then_some(rate);
    }
    let outcome = run(&plan)?;
    println!("{}", serde_json::to_string_pretty(&outcome)?);
    Ok(())
}

fn set<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

/// A number of seconds, possibly with a fraction.
pub(crate) fn seconds(args: &Args, name: &str) -> Result<Option<Duration>> {
    let Some(seconds) = args.value::<f64>(name)? else {
        return Ok(None);
    };
    let duration = Duration::try_from_secs_f64(seconds)
        .map_err(|error| Misuse(format!("--{name}: {error}")))?;
    Ok(Some(duration))
}

/// Carries a plan out. An error of any single operation fails the run.
pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let counts = [
        plan.connections,
        plan.in_flight,
        plan.threads,
        plan.streams,
        plan.watchers,
    ];
    ensure!(!plan.endpoints.is_empty(), "a run needs a server");
    ensure!(
        counts.iter().all(|count| *count > 0),
        "every count of a run must be at least 1"
    );
    ensure!(
        (1..=1 << 32).contains(&plan.keys),
        "a run needs between 1 and 2^32 keys"
    );
    match plan.work {
        Work::Fill => Ok(unary::fill(plan, Work::Fill)?.0),
        Work::Watch
        | Work::WatchPaced
        | Work::WatchStreams
        | Work::WatchConnections
        | Work::WatchKeys => watch::run(plan),
        Work::WatchIdle => watch::idle::run(plan),
        Work::WatchProgress => watch::progress::run(plan),
        Work::WatchLag => watch::lag::run(plan),
        Work::KeepAlive => keep_alive::run(plan),
        work if work.reads_keys() => {
            let (_, revisions) = unary::fill(plan, work)?;
            catch_up(&plan.endpoints)?;
            unary::run(plan, &revisions)
        }
        _ => unary::run(plan, &[]),
    }
}

/// Server and generator at one moment.
pub(crate) struct Sample {
    server: Option<Usage>,
    generator: Usage,
}

impl Sample {
    pub(crate) fn take(plan: &Plan) -> Result<Sample> {
        Ok(Sample {
            server: Usage::of_all(&plan.pids)?,
            generator: Usage::of_self()?,
        })
    }
}

/// Conductor: lets the workers work, and samples the plan's time of it.
fn measure(plan: &Plan, signals: &Signals) -> Result<(Sample, Sample)> {
    let start = Instant::now() + plan.warm_up;
    let stop = start + plan.duration;
    signals.begin(Schedule { start, stop });
    signals.sleep_until(start)?;
    let before = Sample::take(plan)?;
    signals.sleep_until(stop)?;
    Ok((before, Sample::take(plan)?))
}

/// Puts together what happened between two samples.
pub(crate) fn outcome(
    plan: &Plan,
    span: Duration,
    operations: u64,
    latency: Latency,
    samples: (Sample, Sample),
) -> Outcome {
    let (before, after) = samples;
    let per_operation = |from: &Usage, to: &Usage| {
        (to.cpu_seconds - from.cpu_seconds) * 1e6 / (operations.max(1) as f64)
    };
    let server_cpu_us = before
        .server
        .as_ref()
        .zip(after.server.as_ref())
        .map(|(from, to)| per_operation(from, to));
    Outcome {
        work: plan.work.name().to_owned(),
        connections: plan.connections,
        in_flight: plan.in_flight,
        keys: plan.keys,
        value_size: plan.value_size,
        seconds: span.as_secs_f64(),
        operations,
        per_second: operations as f64 / span.as_secs_f64(),
        latency,
        server_cpu_us,
        server: after.server,
        generator_cpu_us: per_operation(&before.generator, &after.generator),
        watch: None,
        idle: None,
        lag: None,
    }
}

/// Returns when every member has applied what was acknowledged before: a read without a barrier may then ask any.
fn catch_up(endpoints: &[SocketAddr]) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for endpoint in endpoints {
        runtime.block_on(probe(*endpoint))?;
    }
    Ok(())
}

/// Gets the first key of a fill, linearizably; answers with the number of keys found, 0 or 1.
pub(crate) async fn probe(endpoint: SocketAddr) -> Result<u32> {
    let mut channel = wire::connect(endpoint).await?;
    let method = Method::new(endpoint, unary::RANGE)?;
    let request = Request::get(&Work::Fill.prefix(), false).fill(0, 0, &mut Random::new(0));
    Ok(channel.call(&method, request).await?.counts[2])
}
