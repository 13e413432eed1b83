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
use store::{Entry, Payload, Vote};
use tokio::sync::oneshot;

use super::Core;
use super::types::{
    RaftEntry, Types, raft_entry, raft_id, raft_vote, store_entry, store_id, store_vote,
};

/// What one read of the log holds in memory at most when it is streamed.
const READ_BYTES: usize = 4 << 20;

/// The log, for writing.
pub struct LogStorage {
    log: Log,
    /// Told when more is synced; absent in openraft's storage suite.
    core: Option<Arc<Core>>,
    /// Once this entry is applied, the membership that is applied is the newest in the log.
    settled_at: u64,
}

/// The log, for reading.
#[derive(Clone)]
pub struct LogReader {
    log: Log,
}

impl LogStorage {
    /// openraft's view of `log`.
    pub fn new(log: Log, core: Option<Arc<Core>>) -> Self {
        let settled_at = log.last().map_or(0, |id| id.index);
        Self {
            log,
            core,
            settled_at,
        }
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

    /// Whether the sync of these entries may be left to apply: this member leads a cluster of nobody else, so that
    /// they are committed when they are synced, and nothing else is on its way.
    ///
    /// Consensus is told at once then that they are on the disk. What it takes for committed is not, yet; but apply
    /// waits for it, and so does everything that is seen outside: answers, reads, watches, snapshots.
    fn may_be_left(&self, core: &Core, entries: &[Entry]) -> bool {
        let Some(last) = entries.last() else {
            return false;
        };
        let own = Vote {
            term: last.id.term,
            voted_for: Some(core.member_id),
            committed: true,
        };
        core.proposals.is_lone()
            && core.is_everybody(self.settled_at)
            && self.log.vote() == Some(own)
    }

    /// Before an entry may change who there is: others may get what the log holds then, so all of it must be durable.
    async fn settle(&mut self, core: &Core, entries: &[Entry]) -> Result<(), io::Error> {
        let membership = entries
            .iter()
            .rfind(|entry| matches!(entry.payload, Payload::Membership(_)));
        let Some(membership) = membership else {
            return Ok(());
        };
        self.settled_at = membership.id.index;
        if self.log.synced_index().unwrap_or(0) < core.left_to_apply() {
            self.durably(|log, done| log.append(Vec::new(), done))
                .await?;
        }
        Ok(())
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
        let entries: Vec<Entry> = entries.into_iter().map(store_entry).collect();
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
        let Some(core) = core else {
            let done = move |result| callback.io_completed(result);
            self.log.append(entries, Box::new(done));
            return Ok(());
        };
        self.settle(&core, &entries).await?;
        let synced = {
            let core = core.clone();
            move |result: &io::Result<()>| match result {
                Ok(()) => core.synced_waker.wake(),
                Err(error) => core.stop_for_log(error),
            }
        };
        let entries = match entries.last().map(|entry| entry.id.index) {
            Some(last) if self.may_be_left(&core, &entries) => {
                let synced = synced.clone();
                let done = Box::new(move |result| synced(&result));
                match self.log.append_left(entries, done) {
                    Ok(()) => {
                        core.leave_to_apply(last);
                        callback.io_completed(Ok(()));
                        return Ok(());
                    }
                    Err(entries) => entries,
                }
            }
            _ => entries,
        };
        let done = move |result| {
            synced(&result);
            callback.io_completed(result);
        };
        self.log.append(entries, Box::new(done));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use openraft::impls::TokioRuntime;
    use openraft::type_config::TypeConfigExt as _;
    use store::fs::SimFs;
    use store::log::{LogOptions, Worker};
    use store::{LogId, Membership, StoredMembership};

    use super::super::bare;
    use super::super::proposer::Waiter;
    use super::*;
    use crate::shard::reply;

    type Config = Types<TokioRuntime>;

    const VOTE: Vote = Vote {
        term: 1,
        voted_for: Some(1),
        committed: true,
    };

    fn membership(members: &[u64]) -> Membership {
        Membership {
            voters: vec![BTreeSet::from([1])],
            members: members.iter().copied().collect(),
        }
    }

    fn entry(index: u64, payload: Payload) -> Entry {
        let id = LogId { term: 1, index };
        Entry { id, payload }
    }

    fn commands(index: u64) -> Entry {
        entry(index, Payload::Commands(vec![7; 100].into()))
    }

    struct Rig {
        core: Arc<Core>,
        log: Log,
        worker: Worker,
        storage: LogStorage,
        sequence: u64,
    }

    impl Rig {
        /// A member that leads itself, with its first entries applied.
        fn new() -> Self {
            let (_, core) = bare::node(crate::admission::Admission::default());
            let options = LogOptions::new(1, 1);
            let (log, mut worker, _) = Log::open(Arc::new(SimFs::new(1)), options).unwrap();
            log.save_vote(VOTE, Box::new(Result::unwrap));
            let first = entry(0, Payload::Membership(membership(&[1])));
            let blank = entry(1, Payload::Blank);
            log.append(vec![first, blank], Box::new(Result::unwrap));
            worker.run_once();
            let rig = Self {
                storage: LogStorage::new(log.clone(), Some(core.clone())),
                core,
                log,
                worker,
                sequence: 1,
            };
            rig.apply(1, (0, &[1]));
            rig
        }

        fn apply(&self, index: u64, (since, members): (u64, &[u64])) {
            let at = |index| LogId { term: 1, index };
            let stored = StoredMembership {
                log_id: Some(at(since)),
                membership: membership(members),
            };
            self.core.set_applied(Some(at(index)), &stored);
        }

        /// So many commands are proposed and have no outcome.
        fn propose(&mut self, commands: u64) {
            let waiter = || Waiter {
                reply: reply().0,
                since: Duration::ZERO,
                deadline: Duration::MAX,
            };
            let waiters = (0..commands).map(|_| waiter()).collect();
            self.core.expect(self.sequence, waiters, Vec::new());
            self.sequence += commands;
        }

        /// Whether consensus is told at once that the entry is on the disk.
        fn is_told_at_once(&mut self, new: Entry) -> bool {
            let (told, flushed) = Config::oneshot();
            RaftLogStorage::<Config>::append(
                &mut self.storage,
                [raft_entry(new)],
                IOFlushed::signal(told),
            )
            .now_or_never()
            .expect("it does not wait")
            .unwrap();
            let is_told = matches!(flushed.now_or_never(), Some(Ok(Ok(()))));
            if !is_told {
                self.worker.run_once();
            }
            is_told
        }

        fn answer(&self, first: u64) {
            self.core.fail(first, &crate::node::CallError::Timeout);
        }
    }

    #[test]
    fn the_sync_of_a_lone_command_of_a_lone_leader_is_left_to_apply() {
        let mut rig = Rig::new();
        rig.propose(1);
        assert!(rig.is_told_at_once(commands(2)));
        assert_eq!(rig.core.left_to_apply(), 2);
        assert_eq!(rig.log.synced_index(), Some(1), "it is not, yet");
        let point = |index| rig.core.acknowledged_up_to(index);
        assert_eq!((point(1), point(2)), (1, 1), "a read need not wait for it");
        rig.apply(2, (0, &[1]));
        assert_eq!((point(2), point(3)), (2, 3));
        rig.log.make_durable(2).unwrap();
        rig.answer(1);

        rig.propose(2);
        assert!(!rig.is_told_at_once(commands(3)), "of two commands");
        rig.answer(2);
        rig.propose(1);
        assert!(!rig.is_told_at_once(entry(4, Payload::Blank)), "of none");
        rig.propose(1);
        assert!(!rig.is_told_at_once(commands(5)), "behind another");
        rig.answer(4);
        rig.answer(5);
        rig.propose(1);
        assert!(rig.is_told_at_once(commands(6)));
        rig.log.make_durable(6).unwrap();
        let other = Vote {
            voted_for: Some(2),
            ..VOTE
        };
        for vote in [
            other,
            Vote { term: 2, ..VOTE },
            Vote {
                committed: false,
                ..VOTE
            },
        ] {
            rig.log.save_vote(vote, Box::new(Result::unwrap));
            rig.worker.run_once();
            let index = rig.log.range().end;
            assert!(!rig.is_told_at_once(commands(index)), "under {vote:?}");
        }
    }

    #[test]
    fn nothing_is_left_to_apply_where_others_may_learn_of_it() {
        let mut rig = Rig::new();
        rig.propose(1);
        rig.apply(1, (0, &[1, 2]));
        assert!(!rig.is_told_at_once(commands(2)), "there is a learner");
        rig.apply(2, (0, &[1]));
        let learner = entry(3, Payload::Membership(membership(&[1, 2])));
        assert!(!rig.is_told_at_once(learner));
        assert!(!rig.is_told_at_once(commands(4)), "one is about to come");
        rig.apply(4, (3, &[1, 2]));
        assert!(!rig.is_told_at_once(commands(5)));
        let gone = entry(6, Payload::Membership(membership(&[1])));
        assert!(!rig.is_told_at_once(gone));
        rig.apply(5, (3, &[1, 2]));
        assert!(!rig.is_told_at_once(commands(7)), "it is about to go");
        rig.apply(7, (6, &[1]));
        assert!(rig.is_told_at_once(commands(8)), "it is gone");
    }

    #[test]
    fn what_a_log_held_before_a_start_must_be_applied_before_anything_is_left() {
        let mut rig = Rig::new();
        let learner = entry(2, Payload::Membership(membership(&[1, 2])));
        rig.log.append(vec![learner], Box::new(Result::unwrap));
        rig.worker.run_once();
        rig.storage = LogStorage::new(rig.log.clone(), Some(rig.core.clone()));
        rig.propose(1);
        assert!(!rig.is_told_at_once(commands(3)));
    }

    #[test]
    fn what_is_left_is_durable_before_there_are_others() {
        let mut rig = Rig::new();
        rig.propose(1);
        assert!(rig.is_told_at_once(commands(2)));
        let learner = entry(3, Payload::Membership(membership(&[1, 2])));
        let mut appended = Box::pin(RaftLogStorage::<Config>::append(
            &mut rig.storage,
            [raft_entry(learner)],
            IOFlushed::noop(),
        ));
        assert!(appended.as_mut().now_or_never().is_none());
        assert_eq!(rig.log.range().end, 3, "the others come later");
        rig.worker.run_once();
        assert_eq!(rig.log.synced_index(), Some(2));
        appended.now_or_never().expect("it is durable").unwrap();
        assert_eq!(rig.log.range().end, 4);
    }
}
