//! Watchers: each gets the history itself, and nothing else.

use std::collections::{BTreeMap, HashMap};

use super::{Findings, seconds};
use crate::cluster::history::{Batch, History};
use crate::cluster::model::Change;
use crate::cluster::node::name;

pub(super) fn check(history: &History, findings: &mut Findings) {
    let Some(log) = history.logs.first() else {
        return;
    };
    let previous = previous_writes(log);
    let mut watchers: BTreeMap<usize, Vec<&Batch>> = BTreeMap::new();
    for batch in &history.batches {
        watchers.entry(batch.watcher).or_default().push(batch);
    }
    for (watcher, batches) in watchers {
        if let Err(text) = follow(log, &previous, &batches) {
            let on = batches.first().map_or(0, |batch| batch.node);
            findings.add(
                "watch",
                format!("watcher {watcher} on {}: {text}", name(on)),
            );
        }
    }
}

/// When each changed key had been written before, if it existed.
fn previous_writes(log: &[Change]) -> Vec<Option<i64>> {
    let mut newest: HashMap<&str, i64> = HashMap::new();
    let previous = log.iter().map(|change| match change.after {
        Some(_) => newest.insert(&change.key, change.revision),
        None => newest.remove(change.key.as_str()),
    });
    previous.collect()
}

fn follow(log: &[Change], previous: &[Option<i64>], batches: &[&Batch]) -> Result<(), String> {
    let mut next: usize = 0;
    for batch in batches {
        let when = format!("at {:.3} s", seconds(batch.time));
        if let (Some(first), Some(last)) = (batch.changes.first(), next.checked_sub(1))
            && first.revision == log[last].revision
        {
            return Err(format!(
                "revision {} came in two batches, {when}",
                first.revision
            ));
        }
        for change in &batch.changes {
            let Some(expected) = log.get(next) else {
                return Err(format!("{change:?} is not in the history, {when}"));
            };
            let got = (change.revision, &change.key, &change.after);
            if got != (expected.revision, &expected.key, &expected.after) {
                let kind = if change.revision > expected.revision {
                    "a gap"
                } else if change.revision < expected.revision {
                    "a repetition or a step back"
                } else {
                    "another change"
                };
                return Err(format!(
                    "{kind} {when}: got {change:?}, expected {expected:?}"
                ));
            }
            if change.previous != previous[next] {
                let before = previous[next];
                return Err(format!(
                    "{change:?} {when}: the write before it was {before:?}"
                ));
            }
            next += 1;
        }
        if batch.changes.is_empty()
            && let Some(missed) = log.get(next)
            && missed.revision <= batch.revision
        {
            return Err(format!(
                "told {when} that it had everything up to revision {}, but {} had not come",
                batch.revision, missed.revision
            ));
        }
    }
    match log.get(next) {
        Some(missed) => Err(format!(
            "never got revision {} and what follows, {} changes in all",
            missed.revision,
            log.len() - next
        )),
        None => Ok(()),
    }
}
