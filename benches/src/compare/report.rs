//! Medians, spreads and ratios of all runs, held against what must be reached, as text, Markdown and JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::compare::conditions::Conditions;
use crate::compare::goal::{self, Figures};
use crate::compare::server::Kind;
use crate::compare::table::{Figure, Table, median, met_text, missing, number, ratio, ratio_text};
use crate::compare::{BULK, Run, etcd};
use crate::disk::Syncs;
use crate::load::{Idle, Lag, Work};

/// One work on one server, over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Cell {
    cpu_us: Option<Figure>,
    per_second: Option<Figure>,
    p50_us: Option<Figure>,
    p99_us: Option<Figure>,
}

impl Cell {
    fn of(work: &str, runs: &[Run], server: Kind) -> Cell {
        let figure = |value: fn(&Run) -> f64| figure(runs, work, server, |run| Some(value(run)));
        let known = Work::ALL.into_iter().find(|known| known.name() == work);
        let has_latency = known.is_none_or(Work::has_latency);
        let latency = |value: fn(&Run) -> f64| has_latency.then(|| figure(value)).flatten();
        Cell {
            cpu_us: self::figure(runs, work, server, |run| run.load.server_cpu_us),
            per_second: figure(|run| run.load.per_second),
            p50_us: latency(|run| run.load.latency.p50_us),
            p99_us: latency(|run| run.load.latency.p99_us),
        }
    }

    fn texts(&self) -> [String; 4] {
        [
            self.cpu_us.map_or_else(missing, Figure::with_spread),
            median(self.per_second),
            median(self.p50_us),
            median(self.p99_us),
        ]
    }
}

/// One work, all servers.
#[derive(Clone, Debug, Serialize)]
struct Row {
    work: &'static str,
    holdfast: Cell,
    etcd: Cell,
    echo: Cell,
    cpu_ratio: Option<f64>,
    /// Only of clusters.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_ratio: Option<f64>,
    /// Only of clusters.
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_ratio: Option<f64>,
    /// Only of clusters.
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ratio: Option<f64>,
    must: String,
    is_met: Option<bool>,
}

/// A figure of a run that has no operations to divide by, of both servers.
#[derive(Clone, Debug, Serialize)]
struct FigureRow {
    figure: &'static str,
    holdfast: Option<Figure>,
    etcd: Option<Figure>,
    ratio: Option<f64>,
    must: String,
    is_met: Option<bool>,
}

/// Everything that a comparison found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    conditions: Conditions,
    /// Members of each server.
    #[serde(skip_serializing_if = "is_one")]
    nodes: usize,
    /// One short round: figures show only that everything works.
    is_quick: bool,
    rows: Vec<Row>,
    bulk: Vec<FigureRow>,
    /// Of watchers that rest or lag.
    watchers: Vec<FigureRow>,
    fdatasync_p50_us: Option<Figure>,
    fdatasync: Vec<Syncs>,
    runs: Vec<Run>,
}

/// The most server CPU per operation that holdfast may take, and what etcd 3.5.1 took when that was set (us).
/// Machines differ, so what counts is the ratio of the two.
fn cpu_goal(work: &str) -> Option<(f64, f64)> {
    let work = Work::ALL.into_iter().find(|known| known.name() == work)?;
    match work {
        Work::Put => Some((24.0, 49.0)),
        Work::Update => Some((29.0, 58.0)),
        Work::Get => Some((18.0, 27.0)),
        Work::GetSerializable => Some((16.0, 22.0)),
        Work::ListPages => Some((350.0, 1_080.0)),
        Work::ListAll => Some((6_000.0, 17_000.0)),
        Work::Watch => Some((0.45, 0.56)),
        _ => None,
    }
}

/// Times etcd's rate of puts.
const PUT_RATE_GOAL: f64 = 1.9;
/// What a lone put may take beyond a round trip and a sync.
const LONE_PUT_GOAL_US: f64 = 70.0;
/// Resident memory with 500,000 keys (MB). Not a ratio: memory does not depend on the speed of the machine, and
/// etcd's depends on when its garbage was last collected.
const MEMORY_GOAL_MB: f64 = 350.0;
const RESTART_AFTER_SIGTERM_GOAL: f64 = 0.7;
const RESTART_AFTER_SIGKILL_GOAL: f64 = 1.5;
const WATCHER_GOAL_KIB: f64 = 1.0;
const STREAM_GOAL_KIB: f64 = 32.0;

impl Report {
    /// Sums the runs up.
    pub(crate) fn new(
        conditions: Conditions,
        nodes: usize,
        is_quick: bool,
        fdatasync: Vec<Syncs>,
        runs: Vec<Run>,
    ) -> Report {
        let mut works: Vec<&'static str> = Vec::new();
        for run in &runs {
            if has_row(run.work) && !works.contains(&run.work) {
                works.push(run.work);
            }
        }
        let sync = Figure::of(fdatasync.iter().map(|syncs| syncs.latency.p50_us).collect());
        Report {
            conditions,
            nodes,
            is_quick,
            rows: works
                .into_iter()
                .map(|work| {
                    if nodes == 1 {
                        row(work, &runs, sync)
                    } else {
                        cluster_row(work, &runs)
                    }
                })
                .collect(),
            bulk: bulk_rows(&runs),
            watchers: watcher_rows(&runs),
            fdatasync_p50_us: sync,
            fdatasync,
            runs,
        }
    }

    /// For a terminal.
    pub(crate) fn to_text(&self) -> String {
        self.render(|table| table.to_text())
    }

    /// For `docs/benchmarks.md`.
    pub(crate) fn to_markdown(&self) -> String {
        self.render(|table| table.to_markdown())
    }

    fn render(&self, table: impl Fn(&Table) -> String) -> String {
        let mut text = String::new();
        let etcd = &self.conditions.etcd;
        let rounds = self.fdatasync.len();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{}\n\nMedians over rounds: {rounds} (least-most); `us` is server CPU per \
             operation.\n",
            self.conditions.line()
        );
        if self.is_quick {
            text.push_str("A quick run: its figures say only that everything works.\n\n");
        }
        if self.nodes > 1 {
            text.push_str(&self.about_cluster());
        } else if !etcd.is_empty() && !etcd.ends_with(etcd::VERSION) {
            let _ = writeln!(
                text,
                "The goals are ratios to etcd {}, and this is another one.\n",
                etcd::VERSION
            );
        }
        if !self.rows.is_empty() {
            text.push_str(&table(&if self.nodes == 1 {
                self.load_table()
            } else {
                self.cluster_table()
            }));
            text.push('\n');
        }
        let tables = [
            ("with many keys", &self.bulk),
            ("watchers that rest or lag", &self.watchers),
        ];
        for (name, rows) in tables.iter().filter(|(_, rows)| !rows.is_empty()) {
            text.push_str(&table(&figure_table(name, rows)));
            text.push('\n');
        }
        if let Some(sync) = self.fdatasync_p50_us {
            let _ = writeln!(
                text,
                "One write of 256 bytes with fdatasync: p50 {} us.",
                sync.with_spread()
            );
        }
        let verdicts = self
            .rows
            .iter()
            .map(|row| row.is_met)
            .chain(self.bulk.iter().map(|row| row.is_met))
            .chain(self.watchers.iter().map(|row| row.is_met));
        let verdicts: Vec<bool> = verdicts.flatten().collect();
        if !verdicts.is_empty() {
            let met = verdicts.iter().filter(|is_met| **is_met).count();
            let _ = writeln!(text, "{met} of {} goals met.", verdicts.len());
        }
        text
    }

    fn load_table(&self) -> Table {
        let mut table = Table::new(&[
            "work",
            "holdfast us",
            "ops/s",
            "p50 us",
            "p99 us",
            "etcd us",
            "ops/s",
            "p50 us",
            "p99 us",
            "echo us",
            "us ratio",
            "must",
            "met",
        ]);
        for row in &self.rows {
            let mut cells = vec![row.work.to_owned()];
            cells.extend(row.holdfast.texts());
            cells.extend(row.etcd.texts());
            cells.push(median(row.echo.cpu_us));
            cells.extend([
                ratio_text(row.cpu_ratio),
                row.must.clone(),
                met_text(row.is_met),
            ]);
            table.rows.push(cells);
        }
        table
    }

    fn about_cluster(&self) -> String {
        let mut text = format!(
            "Each server has {} members, all on this machine; `us` adds their CPU up. Connections go to each member in \
             turn, but the one of `put-lone` to the leader, and that of `put-lone-follower` to another. Goals are \
             ratios to etcd in this comparison.\n",
            self.nodes
        );
        let changed = self.runs.iter();
        let changed = changed.filter(|run| run.is_leader_same == Some(false));
        let names =
            changed.map(|run| format!("{} on {} (round {})", run.work, run.server, run.round));
        let names: Vec<_> = names.collect();
        if !names.is_empty() {
            let _ = writeln!(text, "The leader changed during: {}.", names.join(", "));
        }
        text.push('\n');
        text
    }

    fn cluster_table(&self) -> Table {
        let mut table = Table::new(&[
            "work",
            "holdfast us",
            "ops/s",
            "p50 us",
            "p99 us",
            "etcd us",
            "ops/s",
            "p50 us",
            "p99 us",
            "us ratio",
            "ops/s ratio",
            "p50 ratio",
            "p99 ratio",
            "must",
            "met",
        ]);
        for row in &self.rows {
            let mut cells = vec![row.work.to_owned()];
            cells.extend(row.holdfast.texts());
            cells.extend(row.etcd.texts());
            let ratios = [row.cpu_ratio, row.rate_ratio, row.p50_ratio, row.p99_ratio];
            cells.extend(ratios.map(ratio_text));
            cells.extend([row.must.clone(), met_text(row.is_met)]);
            table.rows.push(cells);
        }
        table
    }
}

fn figure_table(name: &str, rows: &[FigureRow]) -> Table {
    let mut table = Table::new(&[name, "holdfast", "etcd", "ratio", "must", "met"]);
    for row in rows {
        let spread = |figure: Option<Figure>| figure.map_or_else(missing, Figure::with_spread);
        table.rows.push(vec![
            row.figure.to_owned(),
            spread(row.holdfast),
            spread(row.etcd),
            ratio_text(row.ratio),
            row.must.clone(),
            met_text(row.is_met),
        ]);
    }
    table
}

/// A run in one line, as soon as it has ended.
pub(crate) fn progress(run: &Run) -> String {
    let (load, name) = (&run.load, format!("{} on {}", run.work, run.server));
    if let Some(idle) = &load.idle {
        let memory = [idle.bytes_per_watcher, idle.bytes_per_stream].map(number);
        return format!(
            "{name}: {} bytes a watcher, {} bytes a stream",
            memory[0], memory[1]
        );
    }
    if let Some(lag) = &load.lag {
        return format!(
            "{name}: p99 of the others {} us before, {} us meanwhile; {} KiB more memory; caught up after {} s",
            number(lag.others_before.p99_us),
            number(lag.others_meanwhile.p99_us),
            lag.rss_growth_kib,
            number(lag.caught_up_seconds)
        );
    }
    let cpu = load.server_cpu_us.map_or_else(missing, number);
    let (rate, p50) = (number(load.per_second), number(load.latency.p50_us));
    let mut line = format!("{name}: {cpu} us, {rate}/s, p50 {p50} us");
    if let Some(bulk) = &run.bulk {
        let _ = write!(
            line,
            "; {} MB, restart {} s after SIGKILL, {} s after SIGTERM",
            number(megabytes(bulk.memory.rss_kib)),
            number(bulk.restart_after_sigkill_seconds),
            number(bulk.restart_after_sigterm_seconds)
        );
    }
    line
}

fn figure(
    runs: &[Run],
    work: &str,
    server: Kind,
    value: impl Fn(&Run) -> Option<f64>,
) -> Option<Figure> {
    let wanted = runs
        .iter()
        .filter(|run| run.work == work && run.server == server.name());
    Figure::of(wanted.filter_map(value).collect())
}

fn row(work: &'static str, runs: &[Run], sync: Option<Figure>) -> Row {
    let cell = |server| Cell::of(work, runs, server);
    let (holdfast, etcd, echo) = (cell(Kind::Holdfast), cell(Kind::Etcd), cell(Kind::Echo));
    let cpu_ratio = ratio(holdfast.cpu_us, etcd.cpu_us);
    let (mut must, mut is_met) = goal::of_node(work, medians(&holdfast));
    if let Some((ours, theirs)) = cpu_goal(work) {
        must = format!("us <= {:.2}x", ours / theirs);
        is_met = cpu_ratio.map(|ratio| ratio <= ours / theirs);
    }
    if work == Work::Put.name() {
        let _ = write!(must, ", ops/s >= {PUT_RATE_GOAL}x");
        let is_fast =
            ratio(holdfast.per_second, etcd.per_second).map(|ratio| ratio >= PUT_RATE_GOAL);
        is_met = is_met
            .zip(is_fast)
            .map(|(is_lean, is_fast)| is_lean && is_fast);
    }
    if work == Work::PutLone.name() {
        let limit = echo
            .p50_us
            .zip(sync)
            .map(|(echo, sync)| echo.median + sync.median + LONE_PUT_GOAL_US);
        must = match limit {
            Some(limit) => format!("p50 <= {} us", number(limit)),
            None => format!("p50 <= echo + fdatasync + {LONE_PUT_GOAL_US} us"),
        };
        is_met = limit
            .zip(holdfast.p50_us)
            .map(|(limit, p50)| p50.median <= limit);
    }
    Row {
        work,
        holdfast,
        etcd,
        echo,
        cpu_ratio,
        rate_ratio: None,
        p50_ratio: None,
        p99_ratio: None,
        must,
        is_met,
    }
}

fn medians(cell: &Cell) -> Figures {
    let middle = |figure: Option<Figure>| figure.map(|figure| figure.median);
    Figures {
        cpu: middle(cell.cpu_us),
        rate: middle(cell.per_second),
        p50: middle(cell.p50_us),
        p99: middle(cell.p99_us),
    }
}

fn cluster_row(work: &'static str, runs: &[Run]) -> Row {
    let cell = |server| Cell::of(work, runs, server);
    let (holdfast, etcd, echo) = (cell(Kind::Holdfast), cell(Kind::Etcd), cell(Kind::Echo));
    let ratios = Figures {
        cpu: ratio(holdfast.cpu_us, etcd.cpu_us),
        rate: ratio(holdfast.per_second, etcd.per_second),
        p50: ratio(holdfast.p50_us, etcd.p50_us),
        p99: ratio(holdfast.p99_us, etcd.p99_us),
    };
    let (must, is_met) = goal::of_cluster(work, ratios, medians(&holdfast));
    Row {
        work,
        holdfast,
        etcd,
        echo,
        cpu_ratio: ratios.cpu,
        rate_ratio: ratios.rate,
        p50_ratio: ratios.p50,
        p99_ratio: ratios.p99,
        must,
        is_met,
    }
}

fn is_one(nodes: &usize) -> bool {
    *nodes == 1
}

/// Whether a work has operations, and so a row among the others.
fn has_row(work: &str) -> bool {
    ![BULK, Work::WatchIdle.name(), Work::WatchLag.name()].contains(&work)
}

fn bulk_rows(runs: &[Run]) -> Vec<FigureRow> {
    let row = |name, unit, limit, value: fn(&super::Bulk) -> f64| {
        figure_row(runs, BULK, (name, unit, Some(limit)), |run| {
            run.bulk.as_ref().map(value)
        })
    };
    let rows = [
        row("resident memory, MB", "MB", MEMORY_GOAL_MB, |bulk| {
            megabytes(bulk.memory.rss_kib)
        }),
        row(
            "restart after SIGTERM, s",
            "s",
            RESTART_AFTER_SIGTERM_GOAL,
            |bulk| bulk.restart_after_sigterm_seconds,
        ),
        row(
            "restart after SIGKILL, s",
            "s",
            RESTART_AFTER_SIGKILL_GOAL,
            |bulk| bulk.restart_after_sigkill_seconds,
        ),
    ];
    rows.into_iter().flatten().collect()
}

fn watcher_rows(runs: &[Run]) -> Vec<FigureRow> {
    let idle = |name, limit: Option<f64>, value: fn(&Idle) -> f64| {
        let figure = (name, "KiB", limit);
        figure_row(runs, Work::WatchIdle.name(), figure, |run| {
            run.load.idle.as_ref().map(value)
        })
    };
    let lag = |name, value: fn(&Lag) -> f64| {
        figure_row(runs, Work::WatchLag.name(), (name, "", None), |run| {
            run.load.lag.as_ref().map(value)
        })
    };
    let rows = [
        idle(
            "memory of an idle watcher, KiB",
            Some(WATCHER_GOAL_KIB),
            |idle| idle.bytes_per_watcher / 1024.0,
        ),
        idle(
            "memory of an idle stream, KiB",
            Some(STREAM_GOAL_KIB),
            |idle| idle.bytes_per_stream / 1024.0,
        ),
        idle("CPU without watchers, % of a core", None, |idle| {
            idle.cpu_percent_connected
        }),
        idle("CPU with idle watchers, % of a core", None, |idle| {
            idle.cpu_percent_with_watchers
        }),
        idle("CPU with idle streams, too, % of a core", None, |idle| {
            idle.cpu_percent_with_streams
        }),
        lag("memory added while many lag, MB", |lag| {
            lag.rss_growth_kib as f64 * 1024.0 / 1e6
        }),
        lag("p99 of the others before, ms", |lag| {
            lag.others_before.p99_us / 1e3
        }),
        lag("p99 of the others meanwhile, ms", |lag| {
            lag.others_meanwhile.p99_us / 1e3
        }),
        lag("lagging ones caught up after, s", |lag| {
            lag.caught_up_seconds
        }),
    ];
    rows.into_iter().flatten().collect()
}

/// A figure with its unit and the most that it may be; none if no run has it.
fn figure_row(
    runs: &[Run],
    work: &str,
    (name, unit, limit): (&'static str, &str, Option<f64>),
    value: impl Fn(&Run) -> Option<f64>,
) -> Option<FigureRow> {
    let figure = |server| figure(runs, work, server, &value);
    let (holdfast, etcd) = (figure(Kind::Holdfast), figure(Kind::Etcd));
    holdfast.or(etcd)?;
    let goal = holdfast.zip(limit);
    Some(FigureRow {
        figure: name,
        holdfast,
        etcd,
        ratio: ratio(holdfast, etcd),
        must: limit.map_or_else(String::new, |limit| format!("<= {limit} {unit}")),
        is_met: goal.map(|(holdfast, limit)| holdfast.median <= limit),
    })
}

fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}
