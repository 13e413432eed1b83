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
    /// When a newer revision than ever before was told, and which.
    news: Vec<(u64, i64)>,
}

impl Floors {
    /// When anybody was first told of a revision, or of a later one.
    pub(super) fn told(&self, revision: i64) -> Option<u64> {
        let first = self.news.partition_point(|(_, newest)| *newest < revision);
        self.news.get(first).map(|(time, _)| *time)
    }
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
    // They are in the order of time, so only the first who is told of a revision matters.
    let mut told = 0;
    for delivery in &history.watch.deliveries {
        if let Some(change) = history.watch.last(delivery)
            && change.revision > told
        {
            told = change.revision;
            moments.push((delivery.time, 1, Moment::Event(told)));
        }
    }
    moments.sort_by_key(|(time, order, _)| (*time, *order));
    let mut floors = Floors {
        anyone: vec![0; operations.len()],
        same_life: vec![0; operations.len()],
        news: Vec::new(),
    };
    let mut newest = 0;
    let mut by_life: BTreeMap<(usize, u64), i64> = BTreeMap::new();
    for (time, _, moment) in moments {
        let before = newest;
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
        if newest > before {
            floors.news.push((time, newest));
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
    for delivery in &history.watch.deliveries {
        let Some(change) = history.watch.last(delivery) else {
            continue;
        };
        let cause = replay.cause(change.revision);
        if delivery.time < cause {
            findings.add(
                "order",
                format!(
                    "a watcher saw revision {} at {:.3} s, before it was asked for",
                    change.revision,
                    seconds(delivery.time)
                ),
            );
        }
    }
}
