//! The table of a sweep, and its picture.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::Point;
use crate::compare::conditions::Conditions;
use crate::compare::server::Kind;
use crate::compare::table::{Table, missing, number};
use crate::plot::{self, Axis, Curve};

const SERVERS: [Kind; 2] = [Kind::Holdfast, Kind::Etcd];

/// All that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    conditions: Conditions,
    /// Puts a second where latency was measured.
    rate: f64,
    points: Vec<Point>,
}

impl Report {
    /// Of one run each.
    pub(crate) fn new(conditions: Conditions, rate: f64, points: Vec<Point>) -> Report {
        Report {
            conditions,
            rate,
            points,
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
        format!(
            "{}\n\nWatchers of one prefix on up to 100 streams, and puts of 256 bytes: events delivered a second and \
             server CPU for each with 64 writers as fast as they go; latency from before a put is sent to the arrival of \
             its event at each watcher with {} puts a second.\n\n{table}",
            self.conditions.line(),
            self.rate
        )
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            "watchers",
            "holdfast events/s",
            "us",
            "p50 ms",
            "p99 ms",
            "etcd events/s",
            "us",
            "p50 ms",
            "p99 ms",
        ]);
        let mut counts: Vec<_> = self.points.iter().map(|point| point.watchers).collect();
        counts.dedup();
        for watchers in counts {
            let mut cells = vec![watchers.to_string()];
            for kind in SERVERS {
                let mut points = self.points_of(kind);
                let point = points.find(|point| point.watchers == watchers);
                let cell = |value: fn(&Point) -> Option<f64>| {
                    point.and_then(value).map_or_else(missing, number)
                };
                cells.extend([
                    cell(|point| Some(point.per_second)),
                    cell(|point| point.cpu_us),
                    cell(|point| Some(point.latency.p50_us / 1e3)),
                    cell(|point| Some(point.latency.p99_us / 1e3)),
                ]);
            }
            table.rows.push(cells);
        }
        table
    }

    /// Both figures over the number of watchers.
    pub(crate) fn draw(&self, file: &Path) -> Result<()> {
        let curves = |value: fn(&Point) -> f64| {
            let curves = SERVERS.map(|kind| Curve {
                name: kind.name(),
                points: self
                    .points_of(kind)
                    .map(|point| (point.watchers as f64, value(point)))
                    .collect(),
            });
            curves.into_iter().collect::<Vec<_>>()
        };
        plot::draw(
            file,
            "Watchers of one prefix",
            Axis::Powers("watchers"),
            &[
                (Axis::Linear("events/s"), curves(|point| point.per_second)),
                (
                    Axis::Powers("p99, ms"),
                    curves(|point| point.latency.p99_us / 1e3),
                ),
            ],
        )
    }

    fn points_of(&self, kind: Kind) -> impl Iterator<Item = &Point> {
        let points = self.points.iter();
        points.filter(move |point| point.server == kind.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Report;
    use crate::compare::conditions::Conditions;
    use crate::fanout::Point;
    use crate::histogram::Latency;

    #[test]
    fn each_number_of_watchers_has_a_row_with_both_servers_and_a_place_in_the_picture() {
        let points = [("holdfast", 10), ("etcd", 10), ("holdfast", 100)];
        let points = points.map(|(server, watchers)| Point {
            server,
            watchers,
            per_second: 1_000.0 * watchers as f64,
            cpu_us: Some(1.0),
            latency: Latency {
                p99_us: 2_000.0,
                ..Latency::default()
            },
        });
        let report = Report::new(Conditions::default(), 100.0, points.to_vec());
        let rows = report.table().rows;
        assert_eq!(rows[0][..5], ["10", "10,000", "1.00", "0.00", "2.00"]);
        assert_eq!(rows[1][0], "100");
        assert_eq!(rows[1][5..], ["-", "-", "-", "-"]);

        let file = tempfile::NamedTempFile::new().unwrap();
        report.draw(file.path()).unwrap();
        let picture = std::fs::read_to_string(file.path()).unwrap();
        assert!(picture.contains("holdfast") && picture.contains("p99, ms"));
    }
}
