//! Elections: one leader for a term, and terms that do not fall.
//!
//! What members say of themselves is taken with care. etcd tells the term of the newest entry that it has applied, so a new
//! leader may name its predecessor's term for a moment, and a member that starts again goes through old terms. Hence two
//! leaders count only if both stand by it for long and at the same time, and terms are compared within one life.

use std::collections::BTreeMap;

use super::{Findings, seconds};
use crate::cluster::conditions::Conditions;
use crate::cluster::history::{History, Status};
use crate::cluster::node::name;

/// From the first to the last time that somebody said that it leads a term.
struct Reign {
    member: u64,
    node: usize,
    from: u64,
    to: u64,
}

pub(super) fn check(conditions: &Conditions, history: &History, findings: &mut Findings) {
    let mut statuses = history.statuses.clone();
    statuses.sort_by_key(|status| status.time);
    one_leader(conditions, &statuses, findings);
    // A member that replaces another in its place starts anew.
    let mut terms: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for status in &statuses {
        let term = terms.entry((status.member, status.life)).or_insert(0);
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

fn one_leader(conditions: &Conditions, statuses: &[Status], findings: &mut Findings) {
    let mut terms: BTreeMap<u64, Vec<Reign>> = BTreeMap::new();
    for status in statuses.iter().filter(|status| status.leads()) {
        let reigns = terms.entry(status.term).or_default();
        match reigns
            .iter_mut()
            .find(|reign| reign.member == status.member)
        {
            Some(reign) => reign.to = status.time,
            None => reigns.push(Reign {
                member: status.member,
                node: status.node,
                from: status.time,
                to: status.time,
            }),
        }
    }
    let long = 2 * conditions.election_timeout_ms * 1_000_000;
    for (term, reigns) in terms {
        for (place, one) in reigns.iter().enumerate() {
            for other in &reigns[place + 1..] {
                let (from, to) = (one.from.max(other.from), one.to.min(other.to));
                if to > from + long {
                    findings.add(
                        "election",
                        format!(
                            "{} and {} both led in term {term}, from {:.3} to {:.3} s",
                            name(one.node),
                            name(other.node),
                            seconds(from),
                            seconds(to)
                        ),
                    );
                }
            }
        }
    }
}
