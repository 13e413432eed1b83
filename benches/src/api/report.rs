//! The table of the resource API beside the etcd port, and what must be reached.

use std::fmt::Write as _;

use serde::Serialize;

use super::node::Idle;
use super::{Run, Side, Work};
use crate::compare::conditions::Conditions;
use crate::compare::table::{Figure, Table, median, met_text, number, ratio, ratio_text};

/// What a work must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Goal {
    /// The most CPU of the server for an operation (us).
    Cpu(f64),
    /// The most of the CPU that it takes through the etcd port.
    Ratio(f64),
}

/// The most memory of a node that nobody has asked anything (MB), and until it is ready (ms).
const MEMORY_GOAL_MB: f64 = 80.0;
const READY_GOAL_MS: f64 = 1_000.0;

impl Goal {
    fn of(work: Work) -> Option<Goal> {
        match work {
            Work::Create => None,
            Work::Get => Some(Goal::Cpu(40.0)),
            Work::List => Some(Goal::Cpu(10_000.0)),
            Work::Update => Some(Goal::Cpu(80.0)),
            Work::Watch => Some(Goal::Ratio(1.5)),
        }
    }

    fn words(self) -> String {
        match self {
            Goal::Cpu(limit) => format!("us <= {}", number(limit)),
            Goal::Ratio(limit) => format!("us <= {}", ratio_text(Some(limit))),
        }
    }

    fn is_met(self, cpu_us: Option<Figure>, ratio: Option<f64>) -> Option<bool> {
        match self {
            Goal::Cpu(limit) => Some(cpu_us?.median <= limit),
            Goal::Ratio(limit) => Some(ratio? <= limit),
        }
    }
}

/// One side of a line: medians and spread over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Figures {
    /// CPU of the server for an operation.
    cpu_us: Option<Figure>,
    per_second: Option<Figure>,
    p50_us: Option<Figure>,
    p99_us: Option<Figure>,
}

/// A work through both ports.
#[derive(Clone, Debug, Serialize)]
struct Row {
    work: &'static str,
    api: Figures,
    etcd: Figures,
    /// Of the CPU.
    ratio: Option<f64>,
    must: String,
    is_met: Option<bool>,
}

/// A figure of a node by itself.
#[derive(Clone, Debug, Serialize)]
struct NodeRow {
    what: &'static str,
    unit: &'static str,
    figure: Figure,
    must: f64,
    is_met: bool,
}

/// All that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    conditions: Conditions,
    is_quick: bool,
    rows: Vec<Row>,
    node: Vec<NodeRow>,
    runs: Vec<Run>,
    idle: Vec<Idle>,
}

impl Report {
    /// Sums the rounds up.
    pub(crate) fn new(
        conditions: Conditions,
        is_quick: bool,
        runs: Vec<Run>,
        idle: Vec<Idle>,
    ) -> Report {
        let is_there = |work: &Work| runs.iter().any(|run| run.work == work.name());
        let works = Work::ALL.into_iter().filter(is_there);
        let rows = works.map(|work| row(work, &runs)).collect();
        let node_row = |(what, unit, must), value: fn(&Idle) -> f64| {
            let figure = Figure::of(idle.iter().map(value).collect())?;
            Some(NodeRow {
                what,
                unit,
                figure,
                must,
                is_met: figure.median <= must,
            })
        };
        let memory = node_row(("idle memory", "MB", MEMORY_GOAL_MB), |idle| {
            idle.memory.rss_kib as f64 * 1024.0 / 1e6
        });
        let ready = node_row(("start to ready", "ms", READY_GOAL_MS), |idle| {
            idle.ready_ms
        });
        Report {
            conditions,
            is_quick,
            rows,
            node: memory.into_iter().chain(ready).collect(),
            runs,
            idle,
        }
    }

    /// For a terminal.
    pub(crate) fn to_text(&self) -> String {
        self.render(Table::to_text)
    }

    /// For `docs/benchmarks.md`.
    pub(crate) fn to_markdown(&self) -> String {
        self.render(Table::to_markdown)
    }

    fn render(&self, layout: fn(&Table) -> String) -> String {
        let mut text = format!("{}\n\n", self.conditions.line());
        if self.is_quick {
            text.push_str(
                "A quick run, to see that everything works: its figures mean nothing.\n\n",
            );
        }
        // Writing to a string does not fail.
        if !self.rows.is_empty() {
            let _ = writeln!(
                text,
                "One node, the same work through its resource API (JSON over HTTP/2) and through its etcd port (gRPC). \
                 Objects are ConfigMaps of 1 KiB as they are sent, values of keys have 1 KiB. `us` is CPU of the server \
                 for an operation, median over the rounds with least and most.{}\n\n{}",
                self.watch_words(),
                layout(&self.table())
            );
        }
        if !self.node.is_empty() {
            let _ = writeln!(
                text,
                "A fresh node with the API on, resident memory three seconds after it was ready. It makes its \
                 certificates in the time until it is.\n\n{}",
                layout(&self.node_table())
            );
        }
        let rows = self.rows.iter().filter_map(|row| row.is_met);
        let verdicts: Vec<bool> = rows.chain(self.node.iter().map(|row| row.is_met)).collect();
        if !verdicts.is_empty() {
            let met = verdicts.iter().filter(|is_met| **is_met).count();
            let _ = writeln!(text, "{met} of {} goals met.", verdicts.len());
        }
        text
    }

    /// What `watch` measured, if it did.
    fn watch_words(&self) -> String {
        let run = self.runs.iter().find(|run| run.work == Work::Watch.name());
        let Some((load, watch)) = run.and_then(|run| Some((&run.load, run.load.watch.as_ref()?)))
        else {
            return String::new();
        };
        format!(
            " Of `watch`, an operation is an event delivered to one of {} watchers, each on a stream of its own on one of \
             {} connections; {} writers do not wait for deliveries, and latencies are those of their writes.",
            watch.watchers,
            load.connections.min(watch.streams),
            load.in_flight
        )
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            "work",
            "API us",
            "ops/s",
            "p50 us",
            "p99 us",
            "etcd port us",
            "ops/s",
            "p50 us",
            "p99 us",
            "us ratio",
            "must",
            "met",
        ]);
        for row in &self.rows {
            let mut cells = vec![row.work.to_owned()];
            for side in [row.api, row.etcd] {
                let cpu_us = side.cpu_us;
                cells.push(cpu_us.map_or_else(|| median(None), Figure::with_spread));
                cells.extend([side.per_second, side.p50_us, side.p99_us].map(median));
            }
            let ratio = ratio_text(row.ratio);
            cells.extend([ratio, row.must.clone(), met_text(row.is_met)]);
            table.rows.push(cells);
        }
        table
    }

    fn node_table(&self) -> Table {
        let mut table = Table::new(&["figure", "unit", "median", "least", "most", "must", "met"]);
        for row in &self.node {
            let Figure {
                median,
                least,
                most,
            } = row.figure;
            let mut cells = vec![row.what.to_owned(), row.unit.to_owned()];
            cells.extend([median, least, most].map(number));
            cells.extend([
                format!("median <= {}", number(row.must)),
                met_text(Some(row.is_met)),
            ]);
            table.rows.push(cells);
        }
        table
    }
}

fn row(work: Work, runs: &[Run]) -> Row {
    let figures = |side: Side| {
        let runs = || {
            let runs = runs.iter();
            runs.filter(move |run| (run.work, run.side) == (work.name(), side.name()))
        };
        Figures {
            cpu_us: Figure::of(runs().filter_map(|run| run.load.server_cpu_us).collect()),
            per_second: Figure::of(runs().map(|run| run.load.per_second).collect()),
            p50_us: Figure::of(runs().map(|run| run.load.latency.p50_us).collect()),
            p99_us: Figure::of(runs().map(|run| run.load.latency.p99_us).collect()),
        }
    };
    let (api, etcd) = (figures(Side::Api), figures(Side::Etcd));
    let ratio = ratio(api.cpu_us, etcd.cpu_us);
    let goal = Goal::of(work);
    Row {
        work: work.name(),
        api,
        etcd,
        ratio,
        must: goal.map_or_else(String::new, Goal::words),
        is_met: goal.and_then(|goal| goal.is_met(api.cpu_us, ratio)),
    }
}

#[cfg(test)]
mod tests {
    use super::Report;
    use crate::api::node::Idle;
    use crate::api::{Run, Side, Work};
    use crate::compare::conditions::Conditions;
    use crate::histogram::Latency;
    use crate::load::{Fanout, Outcome};
    use crate::process::Usage;

    fn run(work: Work, side: Side, cpu_us: f64) -> Run {
        Run {
            round: 1,
            side: side.name(),
            work: work.name(),
            load: Outcome {
                work: work.name().to_owned(),
                connections: 100,
                in_flight: 64,
                keys: 1_000,
                value_size: 1_024,
                seconds: 10.0,
                operations: 1_000,
                per_second: 100.0,
                latency: Latency::default(),
                server_cpu_us: Some(cpu_us),
                server: None,
                generator_cpu_us: 1.0,
                watch: (work == Work::Watch).then_some(Fanout {
                    streams: 1_000,
                    watchers: 1_000,
                    puts: 1,
                    events_per_response: 1.0,
                }),
                idle: None,
                lag: None,
            },
        }
    }

    fn idle(ready_ms: f64, rss_kib: u64) -> Idle {
        Idle {
            round: 1,
            ready_ms,
            memory: Usage {
                rss_kib,
                ..Usage::default()
            },
        }
    }

    #[test]
    fn goals_are_for_the_median_of_the_api_or_for_its_ratio_to_the_etcd_port() {
        let runs = vec![
            run(Work::Create, Side::Api, 500.0),
            run(Work::Get, Side::Api, 30.0),
            run(Work::Get, Side::Api, 40.0),
            run(Work::Get, Side::Api, 90.0),
            run(Work::Update, Side::Api, 81.0),
            run(Work::Watch, Side::Api, 3.1),
            run(Work::Watch, Side::Etcd, 2.0),
        ];
        let report = Report::new(Conditions::default(), false, runs, Vec::new());
        let verdicts: Vec<_> = report
            .rows
            .iter()
            .map(|row| (row.work, row.is_met))
            .collect();
        assert_eq!(
            verdicts,
            [
                ("create", None),
                ("get", Some(true)),
                ("update", Some(false)),
                ("watch", Some(false)),
            ]
        );
        let text = report.to_markdown();
        let watch = "| watch | 3.10 | 100 | 0.00 | 0.00 | 2.00 | 100 | 0.00 | 0.00 | 1.55x | us <= 1.50x | NO |";
        assert!(text.contains(watch), "{text}");
        assert!(text.contains("| get | 40.0 (30.0-90.0) |"), "{text}");
        assert!(
            text.contains("1000 watchers, each on a stream of its own on one of 100 connections"),
            "{text}"
        );
        assert!(text.ends_with("1 of 3 goals met.\n"), "{text}");
        assert!(!text.contains("A fresh node"), "{text}");
    }

    #[test]
    fn a_ratio_without_the_other_side_is_no_verdict() {
        let runs = vec![run(Work::Watch, Side::Api, 1.0)];
        let report = Report::new(Conditions::default(), false, runs, Vec::new());
        assert_eq!(report.rows[0].is_met, None);
        assert!(!report.to_text().contains("goals met"));
    }

    #[test]
    fn a_fresh_node_is_held_to_its_memory_and_its_start() {
        // 80 MB are 78,125 KiB.
        let fresh = vec![idle(900.0, 78_125), idle(1_100.0, 78_126), idle(1_001.0, 1)];
        let report = Report::new(Conditions::default(), true, Vec::new(), fresh);
        let text = report.to_markdown();
        assert!(
            text.contains("| idle memory | MB | 80.0 | 0.00 | 80.0 | median <= 80.0 | yes |"),
            "{text}"
        );
        assert!(
            text.contains("| start to ready | ms | 1,001 | 900 | 1,100 | median <= 1,000 | NO |"),
            "{text}"
        );
        assert!(text.contains("its figures mean nothing"), "{text}");
    }
}
