//! Which entries the log holds and where each lies on disk.
//!
//! Recovery and the running log keep the same book, so that what is replayed cannot mean something else than
//! what was done. Invariants:
//! - entries `first..end` are there without a hole; `last` is the id of `end - 1`, or of the purged entry before
//!   `first` when there are none;
//! - everything up to `purged` is gone, so `first > purged`;
//! - places never go back: an entry lies in the same segment as the one before it or in a later one.

use std::collections::VecDeque;

use crate::entry::LogId;

/// Where an entry's frame begins. Eight bytes, since there is one for each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment; 0 is none: the entry is not written yet.
    pub(super) sequence: u32,
    pub(super) offset: u32,
}

impl Place {
    pub(super) const UNWRITTEN: Self = Self {
        sequence: 0,
        offset: 0,
    };
}

#[derive(Debug, Default)]
pub(super) struct Index {
    first: u64,
    places: VecDeque<Place>,
    last: Option<LogId>,
    purged: Option<LogId>,
}

/// A change that would tear a hole into the log or bring purged entries back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Impossible {
    #[error("entry {found} follows entry {last}")]
    Hole { found: u64, last: u64 },
    #[error("the log is truncated to before entry {to}, outside of what it holds")]
    Truncate { to: u64 },
}

impl Index {
    /// Starts behind what earlier segments held.
    pub(super) fn starting_after(last: Option<LogId>, purged: Option<LogId>) -> Self {
        let first = last.map_or(0, |last| last.index + 1);
        Self {
            first,
            places: VecDeque::new(),
            last,
            purged,
        }
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn end(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    pub(super) fn last(&self) -> Option<LogId> {
        self.last
    }

    pub(super) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    /// The place of an entry that is there.
    pub(super) fn place(&self, index: u64) -> Option<Place> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.places.get(at).copied()
    }

    /// Says where an entry was written; of an entry that is gone by now, nothing.
    pub(super) fn set_place(&mut self, index: u64, place: Place) {
        let at = index
            .checked_sub(self.first)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(slot) = at.and_then(|at| self.places.get_mut(at)) {
            *slot = place;
        }
    }

    /// An empty log takes any first index: where it starts is the caller's affair.
    pub(super) fn append(&mut self, id: LogId, place: Place) -> Result<(), Impossible> {
        match self.last {
            Some(last) if id.index != last.index + 1 => {
                return Err(Impossible::Hole {
                    found: id.index,
                    last: last.index,
                });
            }
            Some(_) => {}
            None => self.first = id.index,
        }
        self.places.push_back(place);
        self.last = Some(id);
        Ok(())
    }

    /// Removes everything behind `last`, and returns how many entries that were. Replay may truncate to before
    /// the first entry it has seen: into segments that are gone because all they held was purged later.
    pub(super) fn truncate(&mut self, last: Option<LogId>) -> Result<usize, Impossible> {
        let end = last.map_or(0, |last| last.index + 1);
        if end > self.end() || self.purged.is_some_and(|purged| end <= purged.index) {
            return Err(Impossible::Truncate { to: end });
        }
        let kept = usize::try_from(end.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let removed = self.places.len().saturating_sub(kept);
        self.places.truncate(kept);
        self.first = self.first.min(end);
        self.last = last;
        Ok(removed)
    }

    /// Forgets everything up to `to`, even beyond the last entry, and returns how many entries that were.
    pub(super) fn purge(&mut self, to: LogId) -> usize {
        if self.purged.is_some_and(|purged| purged.index >= to.index) {
            return 0;
        }
        self.purged = Some(to);
        let gone = usize::try_from((to.index + 1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        let removed = gone.min(self.places.len());
        self.places.drain(..removed);
        self.first = self.first.max(to.index + 1);
        if self.last.is_none_or(|last| last.index < to.index) {
            self.last = Some(to);
        }
        removed
    }

    /// The segment of the first entry, if that is written: earlier segments hold nothing that is needed.
    pub(super) fn first_place(&self) -> Option<Place> {
        self.places
            .front()
            .copied()
            .filter(|place| *place != Place::UNWRITTEN)
    }
}
