//! What the handles and the worker share: one lock around what is in memory, never held over I/O.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::Done;
use super::index::{Index, Place};
use super::keeper::Keeper;
use crate::entry::{Entry, LogId, Payload, Vote};
use crate::fs::{WalFile, WalFs};

pub(super) struct Shared {
    pub(super) fs: Arc<dyn WalFs>,
    pub(super) state: Mutex<State>,
    /// The worker has something to do.
    pub(super) queued: Condvar,
    /// More entries are durable, or the log has failed.
    pub(super) synced: Condvar,
    pub(super) keeper: Keeper,
}

/// One change that waits for the worker. The queue is bounded by its callers, who wait for their callbacks: what
/// is in it is also in the tail.
pub(super) enum Op {
    Append(Vec<Entry>, Done),
    Vote(Vote, Done),
    Truncate(Option<LogId>, Done),
    Purge(LogId, Done),
}

impl Op {
    pub(super) fn into_done(self) -> Done {
        match self {
            Self::Append(_, done)
            | Self::Vote(_, done)
            | Self::Truncate(_, done)
            | Self::Purge(_, done) => done,
        }
    }
}

/// A segment that can be read.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) sequence: u32,
    pub(super) file: Arc<dyn WalFile>,
    /// Bytes of all segments before it since the log was opened: makes distances simple.
    pub(super) base: u64,
}

pub(super) struct State {
    pub(super) index: Index,
    /// The newest entries; always ends with the last.
    pub(super) tail: VecDeque<Entry>,
    pub(super) tail_bytes: usize,
    pub(super) tail_limit: usize,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    /// `committed` waits for the next write.
    pub(super) is_committed_queued: bool,
    pub(super) queue: Vec<Op>,
    /// Entries from here on are removed by a truncation in the queue. What the worker is writing right now does
    /// not make those durable that were appended at the same indexes later.
    pub(super) queued_cut: u64,
    /// Entries below are durable.
    pub(super) synced_end: u64,
    /// How often entries were removed from the end: a reader that let go of the lock must know.
    pub(super) truncations: u64,
    pub(super) segments: VecDeque<Segment>,
    /// One behind the last durable byte, counted as [`Segment::base`].
    pub(super) end: u64,
    pub(super) failure: Option<Failure>,
    pub(super) is_closed: bool,
    /// The worker sleeps without a time limit.
    pub(super) is_worker_parked: bool,
    /// Something was synced that no later header names yet.
    pub(super) is_unmarked: bool,
    /// How many batches were written: who waits for quiet sees that there was none.
    pub(super) batches: u64,
}

/// The first fault. Errors cannot be cloned, so it is kept as what is needed to tell it again.
#[derive(Clone)]
pub(super) struct Failure {
    kind: io::ErrorKind,
    text: Arc<str>,
}

impl Failure {
    pub(super) fn new(error: &io::Error) -> Self {
        Self {
            kind: error.kind(),
            text: error.to_string().into(),
        }
    }

    pub(super) fn to_error(&self) -> io::Error {
        io::Error::new(self.kind, &*self.text)
    }
}

impl State {
    pub(super) fn new(
        index: Index,
        vote: Option<Vote>,
        committed: Option<LogId>,
        tail_limit: usize,
    ) -> Self {
        Self {
            synced_end: index.end(),
            index,
            tail: VecDeque::new(),
            tail_bytes: 0,
            tail_limit,
            vote,
            committed,
            is_committed_queued: false,
            queue: Vec::new(),
            queued_cut: u64::MAX,
            truncations: 0,
            segments: VecDeque::new(),
            end: 0,
            failure: None,
            is_closed: false,
            is_worker_parked: false,
            is_unmarked: true,
            batches: 0,
        }
    }

    /// The index of the first entry in the tail.
    pub(super) fn tail_first(&self) -> u64 {
        self.index.end() - self.tail.len() as u64
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.tail_bytes += weight(&entry);
        self.tail.push_back(entry);
    }

    /// Keeps the tail in step with entries removed from the end.
    pub(super) fn pop_back(&mut self, count: usize) {
        for _ in 0..count.min(self.tail.len()) {
            if let Some(entry) = self.tail.pop_back() {
                self.tail_bytes -= weight(&entry);
            }
        }
    }

    /// Keeps the tail in step with entries removed from the start.
    pub(super) fn pop_purged(&mut self) {
        while self.tail.len() as u64 > self.index.end() - self.index.first() {
            self.pop_front();
        }
    }

    /// Brings the tail back to its limit. Entries that are not durable stay, whatever they weigh: they can be
    /// read from nowhere else.
    pub(super) fn evict(&mut self) {
        while self.tail_bytes > self.tail_limit
            && self.tail_first() < self.synced_end
            && !self.tail.is_empty()
        {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.tail.pop_front() {
            self.tail_bytes -= weight(&entry);
        }
    }

    pub(super) fn segment(&self, sequence: u32) -> Option<&Segment> {
        let first = self.segments.front()?.sequence;
        self.segments
            .get(usize::try_from(sequence.checked_sub(first)?).ok()?)
    }

    /// A place as a distance from the start of what was there when the log was opened.
    pub(super) fn position(&self, place: Place) -> Option<u64> {
        Some(self.segment(place.sequence)?.base + u64::from(place.offset))
    }
}

/// What an entry counts for in the tail: its payload and about what the slot around it takes.
pub(super) fn weight(entry: &Entry) -> usize {
    size_of::<Entry>() + payload_size(entry)
}

pub(super) fn payload_size(entry: &Entry) -> usize {
    match &entry.payload {
        Payload::Blank => 0,
        Payload::Commands(bytes) => bytes.len(),
        Payload::Membership(membership) => {
            8 * (membership.members.len()
                + membership
                    .voters
                    .iter()
                    .map(|voters| voters.len())
                    .sum::<usize>())
        }
    }
}
