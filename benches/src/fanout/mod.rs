//! Deliveries and their latency over the number of watchers, holdfast beside etcd: a table and a picture.

mod report;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::args::Args;
use crate::compare::server::{Kind, Server};
use crate::compare::sides::Sides;
use crate::histogram::Latency;
use crate::load::{self, Outcome, Plan, Work};

use report::Report;

/// Options of `bench fanout`.
pub(crate) const OPTIONS: &[&str] = &[
    "watchers", "rate", "seconds", "servers", "holdfast", "folder", "plot", "json", "markdown",
];

/// What many watchers of one prefix got from a server.
#[derive(Clone, Debug, Serialize)]
struct Point {
    server: &'static str,
    watchers: usize,
    /// Deliveries a second, with puts as fast as they go.
    per_second: f64,
    /// CPU of the server for each of them.
    cpu_us: Option<f64>,
    /// Of deliveries, with puts at a rate.
    latency: Latency,
}

/// `bench fanout`.
pub(crate) fn main(args: &Args) -> Result<()> {
    let watchers: Vec<usize> = args
        .values("watchers")?
        .unwrap_or_else(|| vec![10, 100, 1_000, 10_000]);
    ensure!(
        watchers.iter().all(|watchers| *watchers > 0),
        "at least one watcher is needed"
    );
    let duration = load::seconds(args, "seconds")?.unwrap_or(Duration::from_secs(10));
    let rate = args.value("rate")?.unwrap_or(100.0);
    let Sides {
        servers,
        folder,
        conditions,
    } = Sides::of(args)?;

    let mut points = Vec::new();
    for watchers in watchers {
        for (kind, binary) in &servers {
            let run = |work, rate| {
                run(*kind, binary, &folder.path.join("server"), |endpoint| {
                    Plan {
                        duration,
                        watchers,
                        streams: watchers.min(100),
                        rate,
                        ..Plan::new(work, vec![endpoint])
                    }
                })
            };
            let (free, paced) = (run(Work::Watch, None)?, run(Work::WatchPaced, Some(rate))?);
            let point = Point {
                server: kind.name(),
                watchers,
                per_second: free.per_second,
                cpu_us: free.server_cpu_us,
                latency: paced.latency,
            };
            eprintln!(
                "{watchers} watchers on {}: {:.0} events/s, p99 {:.0} us",
                point.server, point.per_second, point.latency.p99_us
            );
            points.push(point);
        }
    }
    let report = Report::new(conditions, rate, points);
    report.draw(Path::new(args.text("plot").unwrap_or("target/fanout.svg")))?;
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

/// One plan on a fresh server.
fn run(
    kind: Kind,
    binary: &Path,
    folder: &Path,
    plan: impl FnOnce(SocketAddr) -> Plan,
) -> Result<Outcome> {
    let server = Server::start(kind, binary, folder, &[])?;
    let plan = Plan {
        pids: vec![server.pid()],
        ..plan(server.endpoint())
    };
    let outcome = load::run(&plan).with_context(|| {
        format!(
            "{} watchers on {}; its last words:\n{}",
            plan.watchers,
            kind.name(),
            server.last_words()
        )
    })?;
    drop(server);
    fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    Ok(outcome)
}
