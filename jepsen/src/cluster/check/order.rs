//! Real time: what had been told before an operation began, and what had begun before it ended.

use std::collections::BTreeMap;

use super::replay::Replay;
use super::{Findings, describe, seconds};
use crate::cluster::history::{History, Outcome};

/// The newest revision that anybody had been told when each operation began, by the place of the operation.
pub(super) struct Floors {
    /// By anyone: answers of any kind and events. Whatever was shown is committed.
    pub(super) anyone: Vec<i64>,
    /// By serializable reads on the same member in the same life.
    pub(super) same_life: Vec<i64>,
}

enum Moment {
    Invoke(usize),
    Return(usize),
    Event(i64),
}

/// Goes through the run in the order of time. At one instant beginnings come first: such a pair counts as concurrent.
pub(super) fn floors(history: &History) -> Floors {
    let operations = &history.operations;
    let mut moments: Vec<(u64, u8, Moment)> = Vec::with_capacity(operations.len() * 2);
    for (place, operation) in operations.iter().enumerate() {
        moments.push((operation.invoke, 0, Moment::Invoke(place)));
        if operation.outcome == Outcome::Ok {
            moments.push((operation.returned, 1, Moment::Return(place)));
        }
    }
    for batch in &history.batches {
        if let Some(change) = batch.changes.last() {
            moments.push((batch.time, 1, Moment::Event(change.revision)));
        }
    }
    moments.sort_by_key(|(time, order, _)| (*time, *order));
    let mut floors = Floors {
        anyone: vec![0; operations.len()],
        same_life: vec![0; operations.len()],
    };
    let mut newest = 0;
    let mut by_life: BTreeMap<(usize, u64), i64> = BTreeMap::new();
    for (_, _, moment) in moments {
        match moment {
            Moment::Invoke(place) => {
                let operation = &operations[place];
                floors.anyone[place] = newest;
                let life = (operation.node, operation.life.0);
                floors.same_life[place] = by_life.get(&life).copied().unwrap_or(0);
            }
            Moment::Return(place) => {
                let operation = &operations[place];
                newest = newest.max(operation.revision);
                if operation.life.0 == operation.life.1 && !operation.op.is_linearizable() {
                    let floor = by_life
                        .entry((operation.node, operation.life.0))
                        .or_default();
                    *floor = (*floor).max(operation.revision);
                }
            }
            Moment::Event(revision) => newest = newest.max(revision),
        }
    }
    floors
}

pub(super) fn check(history: &History, floors: &Floors, replay: &Replay, findings: &mut Findings) {
    for (place, operation) in history.operations.iter().enumerate() {
        let floor = floors.anyone[place];
        let effect = replay.effects[place];
        if let Some(revision) = effect
            && revision <= floor
        {
            let what = describe(operation);
            findings.add(
                "order",
                format!("took effect at revision {revision} although {floor} was known when it began: {what}"),
            );
        }
        if operation.outcome != Outcome::Ok {
            continue;
        }
        let revision = operation.revision;
        if operation.op.is_linearizable() {
            if effect.is_none() && revision < floor {
                let what = describe(operation);
                findings.add(
                    "order",
                    format!("stale: answered at revision {revision} although {floor} was known when it began: {what}"),
                );
            }
        } else if operation.life.0 == operation.life.1 && revision < floors.same_life[place] {
            let before = floors.same_life[place];
            let what = describe(operation);
            findings.add(
                "serializable",
                format!(
                    "went back to revision {revision}; the same process had shown {before}: {what}"
                ),
            );
        }
        let cause = replay.cause(revision);
        if operation.returned < cause {
            let what = describe(operation);
            findings.add(
                "order",
                format!(
                    "answered at revision {revision}, part of which was only asked for at {:.3} s: {what}",
                    seconds(cause)
                ),
            );
        }
    }
    for batch in &history.batches {
        let Some(change) = batch.changes.last() else {
            continue;
        };
        let cause = replay.cause(change.revision);
        if batch.time < cause {
            findings.add(
                "order",
                format!(
                    "watcher {} saw revision {} at {:.3} s, before it was asked for",
                    batch.watcher,
                    change.revision,
                    seconds(batch.time)
                ),
            );
        }
    }
}
