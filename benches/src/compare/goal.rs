//! What a cluster must reach: ratios to etcd's cluster in the same comparison.

use crate::compare::table::ratio_text;

/// Which figure of a work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// CPU of all members per operation.
    Cpu,
    /// Operations per second.
    Rate,
    /// Median latency.
    P50,
}

/// Holdfast's figures of one work over etcd's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ratios {
    /// CPU of all members per operation.
    pub(crate) cpu: Option<f64>,
    /// Operations per second.
    pub(crate) rate: Option<f64>,
    /// Median latency.
    pub(crate) p50: Option<f64>,
}

/// The goals of each work; the limit of a rate is the least, the others are the most.
const CLUSTER: [(&str, &[(Measure, f64)]); 4] = [
    ("put", &[(Measure::Cpu, 0.40), (Measure::Rate, 2.3)]),
    ("put-lone", &[(Measure::P50, 0.65)]),
    ("update", &[(Measure::Cpu, 0.35)]),
    ("get", &[(Measure::Cpu, 0.50)]),
];

/// The goals of a work in words, and whether all are met; none if it has no goals or a figure is missing.
pub(crate) fn of_cluster(work: &str, ratios: Ratios) -> (String, Option<bool>) {
    let goals = CLUSTER.iter().find(|(known, _)| *known == work);
    let Some((_, goals)) = goals else {
        return (String::new(), None);
    };
    let words = goals.iter().map(|(measure, limit)| {
        let limit = ratio_text(Some(*limit));
        match measure {
            Measure::Cpu => format!("us <= {limit}"),
            Measure::Rate => format!("ops/s >= {limit}"),
            Measure::P50 => format!("p50 <= {limit}"),
        }
    });
    let verdicts = goals.iter().map(|(measure, limit)| match measure {
        Measure::Cpu => Some(ratios.cpu? <= *limit),
        Measure::Rate => Some(ratios.rate? >= *limit),
        Measure::P50 => Some(ratios.p50? <= *limit),
    });
    let verdicts: Option<Vec<bool>> = verdicts.collect();
    let is_met = verdicts.map(|verdicts| verdicts.into_iter().all(|is_met| is_met));
    (words.collect::<Vec<_>>().join(", "), is_met)
}

#[cfg(test)]
mod tests {
    use super::{Ratios, of_cluster};

    #[test]
    fn every_goal_of_a_work_counts() {
        let verdict = |cpu, rate| {
            let ratios = Ratios {
                cpu: Some(cpu),
                rate,
                p50: None,
            };
            of_cluster("put", ratios).1
        };
        assert_eq!(verdict(0.4, Some(2.3)), Some(true));
        assert_eq!(verdict(0.41, Some(2.3)), Some(false));
        assert_eq!(verdict(0.4, Some(2.2)), Some(false));
        assert_eq!(verdict(0.4, None), None);
    }

    #[test]
    fn goals_are_shown_as_ratios() {
        let words = |work| of_cluster(work, Ratios::default()).0;
        assert_eq!(words("put"), "us <= 0.40x, ops/s >= 2.30x");
        assert_eq!(words("put-lone"), "p50 <= 0.65x");
        assert_eq!(words("put-lone-follower"), "");
        assert_eq!(words("list-500"), "");
    }
}
