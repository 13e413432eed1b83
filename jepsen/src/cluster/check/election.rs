//! Elections: one leader for a term, and terms that do not fall.

use std::collections::BTreeMap;

use super::{Findings, seconds};
use crate::cluster::history::History;
use crate::cluster::node::name;

pub(super) fn check(history: &History, findings: &mut Findings) {
    let mut leaders: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
    let mut terms: BTreeMap<u64, u64> = BTreeMap::new();
    let mut statuses = history.statuses.clone();
    statuses.sort_by_key(|status| status.time);
    for status in &statuses {
        if status.leads() {
            let first = leaders
                .entry(status.term)
                .or_insert((status.member, status.node));
            if first.0 != status.member {
                findings.add(
                    "election",
                    format!(
                        "{} and {} both led in term {}",
                        name(first.1),
                        name(status.node),
                        status.term
                    ),
                );
            }
        }
        // By member, not by place: one that replaces another starts anew.
        let term = terms.entry(status.member).or_insert(0);
        if status.term < *term {
            let when = seconds(status.time);
            findings.add(
                "election",
                format!(
                    "{} went from term {term} back to {} at {when:.3} s",
                    name(status.node),
                    status.term
                ),
            );
        }
        *term = (*term).max(status.term);
    }
}
