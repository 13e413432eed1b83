//! Whether a run tested what it was to test.

use super::seconds;
use crate::cluster::conditions::Conditions;
use crate::cluster::history::{History, Outcome};
use crate::cluster::node::name;
use crate::cluster::watch::Said;

/// Of the operations that were asked for, the part that must have been answered.
const ANSWERED: f64 = 0.1;

pub(super) fn lacking(conditions: &Conditions, history: &History) -> Vec<String> {
    let mut lacking = Vec::new();
    for fault in history.faults.iter().filter(|fault| !fault.happened) {
        lacking.push(format!(
            "{} at {:.1} s did not really happen: {}",
            fault.kind,
            seconds(fault.begin),
            fault.proof
        ));
    }
    for wanted in &conditions.faults {
        if !history.faults.iter().any(|fault| fault.kind == *wanted) {
            lacking.push(format!(
                "{wanted} never had its turn: give the run more --seconds"
            ));
        }
    }
    let answered = history
        .operations
        .iter()
        .filter(|operation| operation.outcome == Outcome::Ok);
    let answered: Vec<usize> = answered.map(|operation| operation.node).collect();
    #[allow(clippy::cast_precision_loss, reason = "a rough bound")]
    let wanted = conditions.rate * conditions.seconds as f64 * ANSWERED;
    #[allow(clippy::cast_precision_loss, reason = "a rough bound")]
    if (answered.len() as f64) < wanted {
        lacking.push(format!("only {} operations were answered", answered.len()));
    }
    for node in 0..conditions.nodes {
        if !answered.contains(&node) {
            lacking.push(format!("{} answered nothing", name(node)));
        }
    }
    let record = &history.watch;
    let mut has_seen = vec![false; conditions.nodes];
    for delivery in &record.deliveries {
        let watcher = delivery
            .watcher
            .and_then(|number| record.watchers.get(number));
        if let Some(watcher) = watcher
            && let Some(seen) = has_seen.get_mut(watcher.node)
        {
            *seen |= delivery.said == Said::Events;
        }
    }
    for (node, _) in has_seen.iter().enumerate().filter(|(_, seen)| !**seen) {
        lacking.push(format!("the watchers on {} saw nothing", name(node)));
    }
    lacking
}
