//! Sorting by value: the one order for which values have to be read, so what is held of them is bounded.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::room::{ANSWER_BYTES, KEY_BYTES};
use crate::record::{Record, Tip};

/// The first of a sort by value, as many as the limit wants of those met so far.
pub(super) struct First {
    /// On top the one that is the first to be left out.
    kept: BinaryHeap<Ranked>,
    limit: usize,
    descends: bool,
    /// What they weigh.
    bytes: u64,
}

/// One that a sort by value has met; of two the greater one comes later.
struct Ranked {
    /// As the range found it, which may be without the value.
    tip: Tip,
    record: Record,
    descends: bool,
}

impl First {
    pub(super) fn new(limit: usize, descends: bool) -> Self {
        Self {
            kept: BinaryHeap::new(),
            limit,
            descends,
            bytes: 0,
        }
    }

    /// Takes one more into account; false if what is kept weighs more than an answer may. `record` is all of `tip`.
    pub(super) fn add(&mut self, tip: Tip, record: Record) -> bool {
        self.bytes += weight(&record);
        self.kept.push(Ranked {
            tip,
            record,
            descends: self.descends,
        });
        if self.kept.len() > self.limit
            && let Some(last) = self.kept.pop()
        {
            self.bytes -= weight(&last.record);
        }
        self.bytes <= ANSWER_BYTES
    }

    /// All that are kept, in their order: each as it was found, and whole.
    pub(super) fn into_sorted(self) -> impl Iterator<Item = (Tip, Record)> {
        let mut kept = self.kept.into_vec();
        kept.sort_unstable();
        kept.into_iter().map(|ranked| (ranked.tip, ranked.record))
    }
}

fn weight(record: &Record) -> u64 {
    record.encoded().len() as u64 + KEY_BYTES
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_value = self.record.value().cmp(other.record.value());
        let by_value = if self.descends {
            by_value.reverse()
        } else {
            by_value
        };
        // Equal values stay in the order of keys.
        by_value.then_with(|| self.record.key().cmp(other.record.key()))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}
