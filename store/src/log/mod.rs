//! The raft log: segments of typed, checksummed records, one write and one sync for everything that waits.
//!
//! Votes, entries, truncations and purges are records of one sequence, so that their order on disk is the order
//! of the calls, for free. [`Log`] handles change what is in memory at once and queue the rest; the [`Worker`], or
//! who waits for it, writes it, syncs, and runs the callbacks in order. Promises:
//! - a callback that got `Ok` means that everything up to it survives any crash;
//! - after a crash the log is a prefix of what was called, with at least everything that was acknowledged;
//! - a torn end is cut and reported, anything else that does not verify stops [`Log::open`] (see `recover.rs`);
//! - after a failed write or sync every call fails, and nothing is tried again.
//!
//! It never reads a clock. It knows nothing of consensus: what to append, truncate or purge is its caller's affair.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::entry::{Entry, LogId, Payload, Vote};
use crate::fs::{BLOCK, WalFs};

pub mod dump;
mod error;
mod frame;
mod index;
mod keeper;
mod read;
mod recover;
mod segment;
mod state;
mod verify;
mod worker;
mod writing;

pub use error::{LogError, TornTail};
pub use verify::{LogPlace, LogVerified};
pub use worker::Worker;

use parking_lot::{Condvar, Mutex};
use state::{Failure, Op, Segment, Shared, State};
use writing::Writing;

/// Told once the change it came with is durable, or cannot be. Runs on the thread that writes, so it must be quick;
/// on a log that has failed it runs on the caller's.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// How many bytes [`Log::append_left`] takes at most.
pub const LITTLE: usize = 8 << 10;

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The size of a segment.
    pub segment_bytes: u64,
    /// How much of the newest entries stays in memory.
    pub tail_bytes: usize,
    /// Whose log it is; checked when it is opened.
    pub cluster_id: u64,
    /// Whose log it is; checked when it is opened.
    pub member_id: u64,
    /// How long nothing must have been queued before [`Worker::run`] syncs what has no sync of its own (the
    /// committed id, and the mark that lets damage be told from a torn tail).
    pub quiet: Duration,
}

impl LogOptions {
    /// The usual sizes.
    pub fn new(cluster_id: u64, member_id: u64) -> Self {
        Self {
            segment_bytes: 64 << 20,
            tail_bytes: 16 << 20,
            cluster_id,
            member_id,
            quiet: worker::QUIET,
        }
    }
}

/// What [`Log::open`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last saved vote.
    pub vote: Option<Vote>,
    /// The last committed id that reached the disk; never beyond `last`.
    pub committed: Option<LogId>,
    /// Up to where entries were purged.
    pub last_purged: Option<LogId>,
    /// The last entry; the last purged one if there is none behind it.
    pub last: Option<LogId>,
    /// What a crash left unfinished.
    pub cut: Option<TornTail>,
}

/// A handle on the log. Clones share it; it is closed when the last one is dropped, or by [`Log::close`].
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    writing: Arc<Mutex<Writing>>,
    _closer: Arc<Closer>,
}

struct Closer(Arc<Shared>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Shared {
    fn close(&self) {
        self.state.lock().is_closed = true;
        self.queued.notify_all();
        self.keeper.hurry();
    }
}

impl Log {
    /// Reads everything back, cuts a torn tail and refuses damage. Returns when all that it found is durable.
    pub fn open(
        fs: Arc<dyn WalFs>,
        mut options: LogOptions,
    ) -> Result<(Self, Worker, Recovered), LogError> {
        // Places are 32 bits wide, and a segment must hold more than its own header, in whole blocks.
        let blocks = options.segment_bytes.clamp(1, 1 << 31);
        options.segment_bytes = blocks.next_multiple_of(BLOCK as u64);
        let found = recover::recover(&*fs, &options)?;
        let standing = found.standing;
        // Entries below the committed id may have been lost with the tail; those that are there are committed.
        // This is written down at once, or entries that follow would one day pass for committed.
        let end = standing.last.map_or(0, |last| last.index + 1);
        let committed = standing.committed.map(|id| {
            if id.index < end {
                Some(id)
            } else {
                standing.last
            }
        });
        let committed = committed.flatten();
        let recovered = Recovered {
            vote: standing.vote,
            committed,
            last_purged: standing.purged,
            last: standing.last,
            cut: found.cut,
        };
        let mut state = State::new(found.index, standing.vote, committed, options.tail_bytes);
        state.is_committed_queued = committed != standing.committed;
        for (sequence, file, end) in found.segments {
            state.segments.push_back(Segment {
                sequence,
                file,
                base: state.end,
            });
            state.end += end;
        }
        let shared = Arc::new(Shared {
            fs,
            state: Mutex::new(state),
            queued: Condvar::new(),
            synced: Condvar::new(),
            keeper: keeper::Keeper::default(),
        });
        if let Some(blank) = found.blank {
            shared.keeper.offer(blank);
        }
        shared.keeper.remove(found.leftover.into_iter());
        let quiet = options.quiet;
        let mut writing = Writing::new(Arc::clone(&shared), options, found.active, standing);
        // Names everything recovered as synced, and shows before anybody relies on it that the disk takes writes.
        writing.mark_opened()?;
        let writing = Arc::new(Mutex::new(writing));
        let worker = Worker::new(Arc::clone(&shared), Arc::clone(&writing), quiet);
        let log = Self {
            _closer: Arc::new(Closer(Arc::clone(&shared))),
            shared,
            writing,
        };
        Ok((log, worker, recovered))
    }

    /// Appends entries, which must follow the last one. They can be read on return.
    pub fn append(&self, entries: Vec<Entry>, done: Done) {
        if self.push(entries, done) {
            self.shared.queued.notify_one();
        }
    }

    /// Appends entries as [`Log::append`] does, but leaves the writing to who is about to call
    /// [`Log::make_durable`]: a thread that would have slept until the worker is done. Should nobody come, the worker
    /// writes them after a while.
    ///
    /// Gives them back if they are more than one entry of a few commands (see [`LITTLE`]), or if anything else waits.
    pub fn append_left(&self, entries: Vec<Entry>, done: Done) -> Result<(), Vec<Entry>> {
        let is_little = matches!(
            &entries[..],
            [Entry { payload: Payload::Commands(commands), .. }] if commands.len() <= LITTLE
        );
        let has_room = || {
            let writing = self.writing.try_lock();
            writing.is_some_and(|writing| writing.has_room_for_little())
        };
        let is_idle = || {
            let state = self.shared.state.lock();
            state.queue.is_empty() && state.failure.is_none() && !state.is_closed
        };
        if !(is_little && has_room() && is_idle()) {
            return Err(entries);
        }
        // A worker that sleeps for good would not look after them.
        if self.push(entries, done) && self.shared.state.lock().is_worker_parked {
            self.shared.queued.notify_one();
        }
        Ok(())
    }

    /// Whether anything is new in the queue.
    fn push(&self, entries: Vec<Entry>, done: Done) -> bool {
        self.enqueue(done, |state, done| {
            for entry in &entries {
                if let Err(error) = state.index.append(entry.id, index::Place::UNWRITTEN) {
                    return Err((error, done));
                }
                state.push(entry.clone());
            }
            Ok(Op::Append(entries, done))
        })
    }

    /// Saves the vote.
    pub fn save_vote(&self, vote: Vote, done: Done) {
        self.change(done, |state, done| {
            state.vote = Some(vote);
            Ok(Op::Vote(vote, done))
        });
    }

    /// Saves up to where entries are committed. Has no sync of its own: it reaches the disk with the next write,
    /// when the log is quiet, or when it is closed.
    pub fn save_committed(&self, committed: LogId) {
        let mut state = self.shared.state.lock();
        state.committed = Some(committed);
        state.is_committed_queued = true;
        if state.is_worker_parked {
            self.shared.queued.notify_one();
        }
    }

    /// Removes all entries behind `last`; `None` removes all there are.
    pub fn truncate_after(&self, last: Option<LogId>, done: Done) {
        self.change(done, |state, done| {
            let last = last.or(state.index.purged());
            let removed = match state.index.truncate(last) {
                Ok(removed) => removed,
                Err(error) => return Err((error, done)),
            };
            state.pop_back(removed);
            let end = state.index.end();
            state.truncations += 1;
            state.queued_cut = state.queued_cut.min(end);
            state.synced_end = state.synced_end.min(end);
            Ok(Op::Truncate(last, done))
        });
    }

    /// Forgets all entries up to `to`, also beyond the last one. Their segments are removed once that is durable.
    pub fn purge(&self, to: LogId, done: Done) {
        self.change(done, |state, done| {
            state.index.purge(to);
            state.pop_purged();
            state.synced_end = state.synced_end.max(state.index.first());
            Ok(Op::Purge(state.index.purged().unwrap_or(to), done))
        });
    }

    fn change(
        &self,
        done: Done,
        change: impl FnOnce(&mut State, Done) -> Result<Op, (index::Impossible, Done)>,
    ) {
        if self.enqueue(done, change) {
            self.shared.queued.notify_one();
        }
    }

    fn enqueue(
        &self,
        done: Done,
        change: impl FnOnce(&mut State, Done) -> Result<Op, (index::Impossible, Done)>,
    ) -> bool {
        let mut state = self.shared.state.lock();
        if let Some(failure) = &state.failure {
            let error = failure.to_error();
            drop(state);
            done(Err(error));
            return false;
        }
        match change(&mut state, done) {
            Ok(op) => {
                state.queue.push(op);
                true
            }
            Err((impossible, done)) => {
                // The caller's idea of the log is not this log: going on would only hide it.
                let failure =
                    Failure::new(&io::Error::new(io::ErrorKind::InvalidInput, impossible));
                state.failure = Some(failure.clone());
                drop(state);
                self.shared.synced.notify_all();
                done(Err(failure.to_error()));
                false
            }
        }
    }

    /// The last saved vote.
    pub fn vote(&self) -> Option<Vote> {
        self.shared.state.lock().vote
    }

    /// The last saved committed id.
    pub fn committed(&self) -> Option<LogId> {
        self.shared.state.lock().committed
    }

    /// The last entry; the last purged one if there is none behind it.
    pub fn last(&self) -> Option<LogId> {
        self.shared.state.lock().index.last()
    }

    /// Up to where entries were purged.
    pub fn last_purged(&self) -> Option<LogId> {
        self.shared.state.lock().index.purged()
    }

    /// The indexes of the entries that are there.
    pub fn range(&self) -> Range<u64> {
        let state = self.shared.state.lock();
        state.index.first()..state.index.end()
    }

    /// The last index up to which everything is durable.
    pub fn synced_index(&self) -> Option<u64> {
        self.shared.state.lock().synced_end.checked_sub(1)
    }

    /// Blocks until everything up to `index` is durable. Fails if the log has failed.
    pub fn wait_synced(&self, index: u64) -> Result<(), LogError> {
        let mut state = self.shared.state.lock();
        while state.synced_end <= index {
            if let Some(failure) = &state.failure {
                return Err(LogError::Stopped(failure.to_error()));
            }
            self.shared.synced.wait(&mut state);
        }
        Ok(())
    }

    /// Blocks until everything up to `index` is durable, as [`Log::wait_synced`] does, but writes it itself if nobody
    /// does so already. What waits behind it is left to the worker.
    pub fn make_durable(&self, index: u64) -> Result<(), LogError> {
        if self.synced_index().is_some_and(|synced| synced >= index) {
            return Ok(());
        }
        let writing = self.writing.try_lock();
        // Another segment may have to be waited for, which is the worker's affair, too.
        match writing.filter(|writing| writing.has_room_for_little()) {
            Some(mut writing) => {
                writing.run_up_to(index);
            }
            None => {
                self.shared.queued.notify_one();
            }
        }
        self.wait_synced(index)
    }

    /// How many bytes of durable log lie behind the entry `index`: what a restart would replay from there.
    pub fn bytes_since(&self, index: u64) -> u64 {
        let state = self.shared.state.lock();
        let next = index.saturating_add(1).max(state.index.first());
        let place = state
            .index
            .place(next)
            .filter(|place| *place != index::Place::UNWRITTEN);
        place
            .and_then(|place| state.position(place))
            .map_or(0, |position| state.end - position)
    }

    /// Whether the next segment is there, so that much can be appended without taking any space.
    pub fn is_next_ready(&self) -> bool {
        self.shared.keeper.is_ready()
    }

    /// Whether appends wait for space on the disk.
    pub fn is_starved(&self) -> bool {
        self.shared.keeper.is_starved()
    }

    /// How much of the newest entries is in memory.
    pub fn tail_bytes(&self) -> usize {
        self.shared.state.lock().tail_bytes
    }

    /// The fault that stopped the log, if one did.
    pub fn failure(&self) -> Option<io::Error> {
        self.shared
            .state
            .lock()
            .failure
            .as_ref()
            .map(Failure::to_error)
    }

    /// Lets the worker end once everything queued is written.
    pub fn close(&self) {
        self.shared.close();
    }
}
