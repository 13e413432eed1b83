//! The most recent revisions in memory: what a watcher that lags a little reads instead of the store's history.

use std::collections::VecDeque;
use std::sync::Arc;

use store::ChangeSet;

/// Change sets without a gap, oldest first, bounded by bytes.
pub(super) struct Ring {
    sets: VecDeque<Arc<ChangeSet>>,
    bytes: usize,
    limit: usize,
}

impl Ring {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            sets: VecDeque::new(),
            bytes: 0,
            limit,
        }
    }

    /// Appends the next revision; the oldest make room.
    pub(super) fn push(&mut self, set: Arc<ChangeSet>) {
        self.bytes += weight(&set);
        self.sets.push_back(set);
        while self.bytes > self.limit {
            let Some(oldest) = self.sets.pop_front() else {
                break;
            };
            self.bytes -= weight(&oldest);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.sets.clear();
        self.bytes = 0;
    }

    /// What it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The oldest revision kept.
    pub(super) fn first(&self) -> Option<i64> {
        self.sets.front().map(|set| set.revision)
    }

    /// The revisions `(after, up_to]`; those that are not kept are left out.
    pub(super) fn range(&self, after: i64, up_to: i64) -> Vec<Arc<ChangeSet>> {
        let start = self.sets.partition_point(|set| set.revision <= after);
        let end = self.sets.partition_point(|set| set.revision <= up_to);
        self.sets.range(start..end.max(start)).cloned().collect()
    }
}

/// What keeping a change set costs: the records may have no other owner by now.
pub(super) fn weight(set: &ChangeSet) -> usize {
    const CHANGE: usize = 160;
    let changes = set.changes.iter().map(|change| {
        let previous = change
            .previous
            .as_ref()
            .and_then(|previous| previous.record.as_ref());
        CHANGE + change.record.encoded().len() + previous.map_or(0, |record| record.encoded().len())
    });
    64 + changes.sum::<usize>()
}
