//! The table of catch-ups, and what must be reached.

use std::fmt::Write as _;

use serde::Serialize;

use super::Caught;
use crate::compare::conditions::Conditions;
use crate::compare::server::Kind;
use crate::compare::table::{Table, met_text, missing, number};

/// A new member of a cluster with 1 GiB must have it within this (s).
const SECONDS: f64 = 60.0;
/// And this much of the rate of puts must stay.
const RATIO: f64 = 0.7;

/// All that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    conditions: Conditions,
    caught: Vec<Caught>,
}

impl Report {
    /// Of one run on each server.
    pub(crate) fn new(conditions: Conditions, caught: Vec<Caught>) -> Report {
        Report { conditions, caught }
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
        let mib = self.caught.first().map_or(0, |one| one.mib);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "A learner joins a cluster of three members on this machine that has {mib} MiB in values of 4 KiB, while 16 \
             connections put 256 bytes, 8 at a time each, as fast as they can. It has caught up when it has applied all \
             that the leader had when it was asked.\n\n{table}"
        );
        text
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["what", "unit", "holdfast", "etcd", "must", "met"]);
        type Of = fn(&Caught) -> f64;
        type Goal = (String, fn(f64) -> bool);
        let rows: [(&str, &str, Of, Option<Goal>); 6] = [
            (
                "caught up after",
                "s",
                |one| one.seconds,
                Some((format!("<= {} s", number(SECONDS)), |s| s <= SECONDS)),
            ),
            ("votes after", "s", |one| one.promoted_seconds, None),
            ("puts before", "1/s", |one| one.before_per_second, None),
            (
                "puts meanwhile",
                "1/s",
                |one| one.meanwhile_per_second,
                None,
            ),
            (
                "of the rate before",
                "%",
                |one| 100.0 * one.ratio,
                Some((format!(">= {} %", number(100.0 * RATIO)), |percent| {
                    percent >= 100.0 * RATIO
                })),
            ),
            (
                "worst p99 of half a second",
                "ms",
                |one| one.meanwhile_p99_us / 1e3,
                None,
            ),
        ];
        for (what, unit, of, goal) in rows {
            let figure = |kind: Kind| {
                let found = self.caught.iter().find(|one| one.server == kind.name());
                found.map(of)
            };
            let (ours, theirs) = (figure(Kind::Holdfast), figure(Kind::Etcd));
            let shown = |figure: Option<f64>| figure.map_or_else(missing, number);
            let is_met = goal.as_ref().and_then(|(_, is_met)| ours.map(is_met));
            table.rows.push(vec![
                what.to_owned(),
                unit.to_owned(),
                shown(ours),
                shown(theirs),
                goal.map_or_else(missing, |(must, _)| must),
                met_text(is_met),
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::{Caught, Report};
    use crate::compare::conditions::Conditions;
    use crate::histogram::Histogram;

    #[test]
    fn both_goals_are_judged() {
        let caught = Caught {
            server: "holdfast",
            mib: 1024,
            fill_seconds: 20.0,
            before_per_second: 10_000.0,
            before: Histogram::new().latency(),
            seconds: 61.0,
            promoted_seconds: 62.0,
            meanwhile_per_second: 8_000.0,
            meanwhile_p99_us: 40_000.0,
            ratio: 0.8,
        };
        let text = Report::new(Conditions::default(), vec![caught]).to_markdown();
        assert!(
            text.contains("| caught up after | s | 61.0 | - | <= 60.0 s | NO |"),
            "{text}"
        );
        assert!(
            text.contains("| of the rate before | % | 80.0 | - | >= 70.0 % | yes |"),
            "{text}"
        );
    }
}
