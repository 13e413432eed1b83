//! The store's log as openraft wants it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::type_config::alias::{LogIdOf, VoteOf};
use openraft::{AsyncRuntime, LogState, OptionalSend};
use store::log::Log;
use store::mutant::{self, Mutant};
use tokio::sync::oneshot;

use super::Core;
use super::types::{
    RaftEntry, Types, raft_entry, raft_id, raft_vote, store_entry, store_id, store_vote,
};

/// What one read of the log holds in memory at most when it is streamed.
const READ_BYTES: usize = 4 << 20;

/// The log, for writing.
#[derive(Clone)]
pub struct LogStorage {
    log: Log,
    /// Told when more is synced; absent in openraft's storage suite.
    core: Option<Arc<Core>>,
}

/// The log, for reading.
#[derive(Clone)]
pub struct LogReader {
    log: Log,
}

impl LogStorage {
    /// openraft's view of `log`.
    pub fn new(log: Log, core: Option<Arc<Core>>) -> Self {
        Self { log, core }
    }

    /// Hands a change to the log and waits until it is on disk.
    pub(super) async fn durably(
        &self,
        change: impl FnOnce(&Log, store::log::Done),
    ) -> Result<(), io::Error> {
        let (done, synced) = oneshot::channel();
        // A closed channel means that openraft gave up waiting; there is nobody to tell.
        change(&self.log, Box::new(move |result| drop(done.send(result))));
        synced
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the log writer ended")))
    }
}

fn damaged(error: store::log::LogError) -> io::Error {
    io::Error::other(error)
}

impl<R: AsyncRuntime> RaftLogReader<Types<R>> for LogReader {
    async fn try_get_log_entries<B: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: B,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let (start, end) = self.bounds(&range);
        let entries = self.log.entries(start..end, usize::MAX).map_err(damaged)?;
        Ok(entries.into_iter().map(raft_entry).collect())
    }

    async fn entries_stream<B>(
        &mut self,
        range: B,
    ) -> impl Stream<Item = Result<RaftEntry, io::Error>> + OptionalSend
    where
        B: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = self.bounds(&range);
        let log = self.log.clone();
        // A replay after a restart can be long: read it in steps, not into one vector.
        let chunks = stream::unfold(start, move |next| {
            let log = log.clone();
            async move {
                if next >= end {
                    return None;
                }
                match log.entries(next..end, READ_BYTES) {
                    Ok(entries) if entries.is_empty() => {
                        let missing = io::Error::other(format!("log entry {next} is missing"));
                        Some((vec![Err(missing)], end))
                    }
                    Ok(entries) => {
                        let next = next + entries.len() as u64;
                        Some((
                            entries
                                .into_iter()
                                .map(|entry| Ok(raft_entry(entry)))
                                .collect(),
                            next,
                        ))
                    }
                    Err(error) => Some((vec![Err(damaged(error))], end)),
                }
            }
        });
        futures_util::StreamExt::flat_map(chunks, stream::iter)
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<Types<R>>>, io::Error> {
        Ok(self.log.vote().and_then(raft_vote))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let entries = self.log.entries(start..end, READ_BYTES).map_err(damaged)?;
        Ok(entries.into_iter().map(raft_entry).collect())
    }
}

impl LogReader {
    /// The half-open part of `range` that the log holds.
    fn bounds<B: RangeBounds<u64>>(&self, range: &B) -> (u64, u64) {
        let held = self.log.range();
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        let start = start.max(held.start);
        (start, end.min(held.end).max(start))
    }
}

impl<R: AsyncRuntime> RaftLogStorage<Types<R>> for LogStorage {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<Types<R>>, io::Error> {
        let last_purged_log_id = self.log.last_purged().map(raft_id);
        Ok(LogState {
            last_purged_log_id,
            last_log_id: self.log.last().map(raft_id).or(last_purged_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader {
            log: self.log.clone(),
        }
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types<R>>) -> Result<(), io::Error> {
        if mutant::is_on(Mutant::VoteForgotten) {
            return Ok(());
        }
        let vote = store_vote(vote);
        self.durably(|log, done| log.save_vote(vote, done)).await
    }

    async fn save_committed(
        &mut self,
        committed: Option<LogIdOf<Types<R>>>,
    ) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.log.save_committed(store_id(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<Types<R>>>, io::Error> {
        Ok(self.log.committed().map(raft_id))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<Types<R>>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(store_entry).collect();
        if mutant::is_on(Mutant::AnswerBeforeCommit) && self.log.failure().is_none() {
            self.log.append(entries, Box::new(drop));
            callback.io_completed(Ok(()));
            return Ok(());
        }
        let core = self.core.clone();
        if mutant::is_on(Mutant::AckBeforeSync) && self.log.failure().is_none() {
            let wake = move |_: io::Result<()>| {
                if let Some(core) = core {
                    core.synced_waker.wake();
                }
            };
            self.log.append(entries, Box::new(wake));
            callback.io_completed(Ok(()));
            return Ok(());
        }
        self.log.append(
            entries,
            Box::new(move |result| {
                if let Some(core) = core {
                    match &result {
                        Ok(()) => core.synced_waker.wake(),
                        Err(error) => core.stop_for_log(error),
                    }
                }
                callback.io_completed(result);
            }),
        );
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Types<R>>>) -> Result<(), io::Error> {
        let last = last.as_ref().map(store_id);
        // openraft may name an entry at or behind the end: there is nothing to remove then.
        if last.is_some_and(|last| last.index + 1 >= self.log.range().end) {
            return Ok(());
        }
        self.durably(|log, done| log.truncate_after(last, done))
            .await
    }

    async fn purge(&mut self, upto: LogIdOf<Types<R>>) -> Result<(), io::Error> {
        self.durably(|log, done| log.purge(store_id(&upto), done))
            .await
    }
}
