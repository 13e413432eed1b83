//! The table of failovers, and what must be reached.

use std::fmt::Write as _;

use serde::Serialize;

use crate::compare::conditions::Conditions;
use crate::compare::server::Kind;
use crate::compare::table::{Figure, Table, met_text, missing, number};
use crate::failover::{Event, IDLE, Idle, Try};

/// The most that the median over the tries may be (ms).
fn gap_goal_ms(event: Event) -> f64 {
    match event {
        Event::Kill | Event::Stop => 1_000.0,
        Event::Terminate => 150.0,
    }
}

/// The most that any member of an idle cluster may use (% of a core).
const IDLE_GOAL_PERCENT: f64 = 1.0;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
struct Row {
    what: &'static str,
    unit: &'static str,
    holdfast: Option<Figure>,
    etcd: Option<Figure>,
    must: String,
    is_met: Option<bool>,
}

/// All that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    conditions: Conditions,
    rows: Vec<Row>,
    tries: Vec<Try>,
    idle: Vec<Idle>,
}

impl Report {
    /// Sums the tries up.
    pub(crate) fn new(conditions: Conditions, tries: Vec<Try>, idle: Vec<Idle>) -> Report {
        let mut rows = Vec::new();
        for event in Event::ALL {
            let gaps = |server: Kind| {
                let tries = tries
                    .iter()
                    .filter(|one| (one.event, one.server) == (event.name(), server.name()));
                Figure::of(tries.map(|one| one.gap_ms).collect())
            };
            let goal = gap_goal_ms(event);
            rows.push(row(
                (event.name(), "ms"),
                gaps,
                format!("median <= {} ms", number(goal)),
                |gap| gap.median <= goal,
            ));
        }
        let members = |server: Kind| {
            let idle = idle.iter().filter(|idle| idle.server == server.name());
            Figure::of(idle.flat_map(|idle| idle.percent.clone()).collect())
        };
        rows.push(row(
            (IDLE, "% of a core"),
            members,
            format!("most <= {} %", number(IDLE_GOAL_PERCENT)),
            |percent| percent.most <= IDLE_GOAL_PERCENT,
        ));
        rows.retain(|row| row.holdfast.is_some() || row.etcd.is_some());
        Report {
            conditions,
            rows,
            tries,
            idle,
        }
    }

    /// For a terminal.
    pub(crate) fn to_text(&self) -> String {
        self.render(&self.table().to_text())
    }

    /// For `docs/benchmarks.md`.
    pub(crate) fn to_markdown(&self) -> String {
        self.render(&self.table().to_markdown())
    }

    fn render(&self, table: &str) -> String {
        let mut text = format!("{}\n\n", self.conditions.line());
        let tries = self.tries.iter().map(|one| one.number).max().unwrap_or(0);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "Clusters of three members on this machine, default settings. Each event meets the leader; tries: {tries}. \
             Shown is the longest time without an acknowledged put through the other members; of `{IDLE}`, the CPU of \
             each member without clients.\n\n{table}",
        );
        let verdicts: Vec<bool> = self.rows.iter().filter_map(|row| row.is_met).collect();
        if !verdicts.is_empty() {
            let met = verdicts.iter().filter(|is_met| **is_met).count();
            let _ = writeln!(text, "{met} of {} goals met.", verdicts.len());
        }
        text
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            "event",
            "unit",
            "holdfast median",
            "least",
            "most",
            "etcd median",
            "least",
            "most",
            "must",
            "met",
        ]);
        for row in &self.rows {
            let mut cells = vec![row.what.to_owned(), row.unit.to_owned()];
            for figure in [row.holdfast, row.etcd] {
                match figure {
                    Some(figure) => {
                        cells.extend([figure.median, figure.least, figure.most].map(number));
                    }
                    None => cells.extend([missing(), missing(), missing()]),
                }
            }
            cells.extend([row.must.clone(), met_text(row.is_met)]);
            table.rows.push(cells);
        }
        table
    }
}

fn row(
    (what, unit): (&'static str, &'static str),
    figure: impl Fn(Kind) -> Option<Figure>,
    must: String,
    is_met: impl Fn(Figure) -> bool,
) -> Row {
    let (holdfast, etcd) = (figure(Kind::Holdfast), figure(Kind::Etcd));
    Row {
        what,
        unit,
        holdfast,
        etcd,
        must,
        is_met: holdfast.map(is_met),
    }
}

#[cfg(test)]
mod tests {
    use super::Report;
    use crate::compare::conditions::Conditions;
    use crate::compare::server::Kind;
    use crate::failover::{Event, Idle, Try};

    fn one(server: Kind, event: Event, number: usize, gap_ms: f64) -> Try {
        Try {
            server: server.name(),
            event: event.name(),
            number,
            gap_ms,
            healthy_again_ms: 0.0,
        }
    }

    #[test]
    fn goals_are_for_the_median_of_gaps_and_for_every_idle_member() {
        let tries = vec![
            one(Kind::Holdfast, Event::Kill, 1, 900.0),
            one(Kind::Holdfast, Event::Kill, 2, 1_300.0),
            one(Kind::Holdfast, Event::Kill, 3, 1_000.0),
            one(Kind::Etcd, Event::Kill, 1, 1_500.0),
            one(Kind::Holdfast, Event::Terminate, 1, 151.0),
        ];
        let idle = vec![Idle {
            server: Kind::Holdfast.name(),
            percent: vec![0.2, 1.1, 0.3],
        }];
        let report = Report::new(Conditions::default(), tries, idle);
        let verdicts: Vec<_> = report
            .rows
            .iter()
            .map(|row| (row.what, row.is_met))
            .collect();
        assert_eq!(
            verdicts,
            [
                ("SIGKILL", Some(true)),
                ("SIGTERM", Some(false)),
                ("idle", Some(false))
            ]
        );
        let text = report.to_markdown();
        assert!(text.contains("tries: 3"), "{text}");
        assert!(
            text.contains("| SIGKILL | ms | 1,000 | 900 | 1,300 | 1,500 | 1,500 | 1,500 |"),
            "{text}"
        );
        assert!(text.ends_with("1 of 3 goals met.\n"), "{text}");
    }
}
