//! What must be reached: by a cluster ratios to etcd's in the same comparison, by one node some figures of its own.

use crate::compare::table::{number, ratio_text};

/// Which figure of a work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// CPU of all members per operation.
    Cpu,
    /// Operations per second.
    Rate,
    /// Median latency.
    P50,
    /// The latency that one in a hundred exceeds.
    P99,
}

/// Holdfast's figures of one work, or their ratios to etcd's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// CPU of all members per operation.
    pub(crate) cpu: Option<f64>,
    /// Operations per second.
    pub(crate) rate: Option<f64>,
    /// Median latency.
    pub(crate) p50: Option<f64>,
    /// The latency that one in a hundred exceeds.
    pub(crate) p99: Option<f64>,
}

/// The goals of each work; the limit of a rate is the least, the others are the most.
const CLUSTER: [(&str, &[(Measure, f64)]); 9] = [
    ("put", &[(Measure::Cpu, 0.40), (Measure::Rate, 2.3)]),
    ("put-lone", &[(Measure::P50, 0.65)]),
    ("update", &[(Measure::Cpu, 0.35)]),
    ("get", &[(Measure::Cpu, 0.50)]),
    ("watch", &[(Measure::Cpu, 0.40)]),
    ("watch-paced", &[(Measure::P99, 0.50)]),
    ("watch-connections", &[(Measure::Cpu, 0.45)]),
    ("watch-keys", &[(Measure::Cpu, 0.35)]),
    ("keep-alive", &[(Measure::Cpu, 0.50)]),
];

/// What one node must reach by itself, in microseconds.
const NODE: [(&str, &[(Measure, f64)]); 2] = [
    ("watch-streams", &[(Measure::Cpu, 1.2)]),
    ("watch-progress", &[(Measure::P99, 5_000.0)]),
];

/// What a cluster must reach by itself, in microseconds.
const CLUSTER_ALONE: [(&str, &[(Measure, f64)]); 1] =
    [("watch-progress", &[(Measure::P99, 5_000.0)])];

/// The goals of a work of a cluster in words, and whether all are met; none if it has no goals or a figure is missing.
/// Most are ratios to the other cluster, some are microseconds of its own.
pub(crate) fn of_cluster(work: &str, ratios: Figures, figures: Figures) -> (String, Option<bool>) {
    if CLUSTER_ALONE.iter().any(|(known, _)| *known == work) {
        return verdict(&CLUSTER_ALONE, work, figures, microseconds);
    }
    verdict(&CLUSTER, work, ratios, |limit| ratio_text(Some(limit)))
}

/// The same of one node, whose figures are microseconds.
pub(crate) fn of_node(work: &str, figures: Figures) -> (String, Option<bool>) {
    verdict(&NODE, work, figures, microseconds)
}

fn microseconds(limit: f64) -> String {
    format!("{} us", number(limit))
}

fn verdict(
    goals: &[(&str, &[(Measure, f64)])],
    work: &str,
    figures: Figures,
    text: fn(f64) -> String,
) -> (String, Option<bool>) {
    let goals = goals.iter().find(|(known, _)| *known == work);
    let Some((_, goals)) = goals else {
        return (String::new(), None);
    };
    let words = goals.iter().map(|(measure, limit)| {
        let limit = text(*limit);
        match measure {
            Measure::Cpu => format!("us <= {limit}"),
            Measure::Rate => format!("ops/s >= {limit}"),
            Measure::P50 => format!("p50 <= {limit}"),
            Measure::P99 => format!("p99 <= {limit}"),
        }
    });
    let verdicts = goals.iter().map(|(measure, limit)| match measure {
        Measure::Cpu => Some(figures.cpu? <= *limit),
        Measure::Rate => Some(figures.rate? >= *limit),
        Measure::P50 => Some(figures.p50? <= *limit),
        Measure::P99 => Some(figures.p99? <= *limit),
    });
    let verdicts: Option<Vec<bool>> = verdicts.collect();
    let is_met = verdicts.map(|verdicts| verdicts.into_iter().all(|is_met| is_met));
    (words.collect::<Vec<_>>().join(", "), is_met)
}

#[cfg(test)]
mod tests {
    use super::{Figures, of_cluster, of_node};

    #[test]
    fn every_goal_of_a_work_counts() {
        let verdict = |cpu, rate| {
            let ratios = Figures {
                cpu: Some(cpu),
                rate,
                ..Figures::default()
            };
            of_cluster("put", ratios, Figures::default()).1
        };
        assert_eq!(verdict(0.4, Some(2.3)), Some(true));
        assert_eq!(verdict(0.41, Some(2.3)), Some(false));
        assert_eq!(verdict(0.4, Some(2.2)), Some(false));
        assert_eq!(verdict(0.4, None), None);
    }

    #[test]
    fn goals_are_shown_as_ratios() {
        let words = |work| of_cluster(work, Figures::default(), Figures::default()).0;
        assert_eq!(words("put"), "us <= 0.40x, ops/s >= 2.30x");
        assert_eq!(words("put-lone"), "p50 <= 0.65x");
        assert_eq!(words("put-lone-follower"), "");
        assert_eq!(words("list-500"), "");
        assert_eq!(words("watch-paced"), "p99 <= 0.50x");
    }

    #[test]
    fn progress_of_a_cluster_is_held_to_microseconds() {
        let figures = Figures {
            p99: Some(4_999.0),
            ..Figures::default()
        };
        let verdict = of_cluster("watch-progress", Figures::default(), figures);
        assert_eq!(verdict, ("p99 <= 5,000 us".to_owned(), Some(true)));
    }

    #[test]
    fn one_node_is_held_to_microseconds() {
        let verdict = |p99_us| {
            let figures = Figures {
                p99: Some(p99_us),
                ..Figures::default()
            };
            of_node("watch-progress", figures)
        };
        let words = "p99 <= 5,000 us".to_owned();
        assert_eq!(verdict(5_000.0), (words.clone(), Some(true)));
        assert_eq!(verdict(5_001.0), (words, Some(false)));
        assert_eq!(of_node("put", Figures::default()), (String::new(), None));
    }
}
