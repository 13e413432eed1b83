//! What the parts of a node share: its identity, its queues, and who waits for which answer.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use store::mutant::{self, Mutant};
use store::{
    Answer, Answered, LogId, Membership, Reader, StateEngine, StoreError, StoredMembership,
};
use tokio::sync::watch;

use super::health::Connections;
use super::holds::Holds;
use super::leases::Renewals;
use super::proposer::{Proposals, Waiter};
use super::reads::Reads;
use crate::admission::Admission;
use crate::databases::Databases;
use crate::exec::Clock;
use crate::lessor::Lessor;
use crate::logging::chain;
use crate::metrics::Metrics;
use crate::node::{CallError, Proposed};
use crate::quota::Accepted;
use crate::shard::Bulk;
use crate::sweep::Sweeps;
use crate::watch::Hub;

/// Shared by the services, the proposer, the apply worker and the raft adapters.
pub struct Core {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) boot: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) reader: Reader,
    pub(crate) hub: Hub,
    /// Always the one of now.
    pub(crate) engine: Arc<dyn StateEngine>,
    pub(crate) databases: Arc<Databases>,
    pub(crate) holds: Holds,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) proposals: Proposals,
    pub(crate) reads: Reads,
    pub(crate) lessor: Lessor,
    pub(crate) renewals: Renewals,
    pub(crate) sweeps: Sweeps,
    pending: Mutex<BTreeMap<u64, Pending>>,
    /// Position and membership as of the last applied entry.
    applied: Mutex<(Option<LogId>, StoredMembership)>,
    applied_index: AtomicU64,
    /// Woken when `applied_index` moves; the read batcher waits here.
    pub(crate) applied_waker: AtomicWaker,
    /// Woken when the local log has synced more; apply waits here.
    pub(crate) synced_waker: AtomicWaker,
    /// The newest entry whose sync was left to the apply worker.
    left_to_apply: AtomicU64,
    term: Arc<AtomicU64>,
    /// Who leads, by the newest vote; 0: nobody that is known.
    leader: AtomicU64,
    /// A leader without a quorum, or a follower that hears nothing from its leader.
    is_cut_off: AtomicBool,
    /// Asked for each request, so kept beside the table.
    is_learner: AtomicBool,
    /// While this member leads.
    pub(super) connections: Connections,
    /// When the leader was last heard from, in milliseconds.
    heard_ms: AtomicU64,
    applied_commands: AtomicU64,
    failure: watch::Sender<Option<String>>,
    stopped: watch::Sender<bool>,
}

/// The commands of one entry that wait for their answers.
struct Pending {
    waiters: Vec<Option<Waiter>>,
    /// Kept until the entry has its outcome, longer than some of the waiters.
    _accepted: Vec<Accepted>,
    proposed: Duration,
    committed: Option<Duration>,
}

/// What a [`Core`] is made of.
pub(crate) struct Parts {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) boot: u64,
    pub(crate) term: Arc<AtomicU64>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) reader: Reader,
    pub(crate) hub: Hub,
    pub(crate) databases: Arc<Databases>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) applied: (Option<LogId>, StoredMembership),
    /// How much longer leases live after a change of the leader.
    pub(crate) lease_grace: Duration,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            cluster_id: parts.cluster_id,
            member_id: parts.member_id,
            boot: parts.boot,
            clock: parts.clock,
            engine: Arc::new(parts.reader.swap_engine()),
            reader: parts.reader,
            hub: parts.hub,
            databases: parts.databases,
            holds: Holds::default(),
            metrics: parts.metrics,
            admission: parts.admission,
            proposals: Proposals::default(),
            reads: Reads::default(),
            lessor: Lessor::new(parts.lease_grace),
            renewals: Renewals::default(),
            sweeps: Sweeps::default(),
            pending: Mutex::default(),
            applied_index: AtomicU64::new(parts.applied.0.map_or(0, |id| id.index)),
            applied: Mutex::new(parts.applied),
            applied_waker: AtomicWaker::new(),
            synced_waker: AtomicWaker::new(),
            left_to_apply: AtomicU64::new(0),
            term: parts.term,
            leader: AtomicU64::new(0),
            is_cut_off: AtomicBool::new(false),
            is_learner: AtomicBool::new(false),
            connections: Connections::default(),
            heard_ms: AtomicU64::new(0),
            applied_commands: AtomicU64::new(0),
            failure: watch::Sender::new(None),
            stopped: watch::Sender::new(false),
        })
    }

    pub(crate) fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    pub(crate) fn set_term(&self, term: u64) {
        self.term.store(term, Ordering::Relaxed);
    }

    /// Who leads, if anybody is known to, and is in touch.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leader = self.leader.load(Ordering::Acquire);
        (leader != 0 && !self.is_cut_off.load(Ordering::Acquire)).then_some(leader)
    }

    /// Whether the table of members says that this one only learns.
    pub(crate) fn is_learner(&self) -> bool {
        self.is_learner.load(Ordering::Relaxed)
    }

    /// Notes what the table says.
    pub(crate) fn set_learner(&self, is_learner: bool) {
        self.is_learner.store(is_learner, Ordering::Relaxed);
    }

    /// Whether the node has ended or cannot go on.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopped.borrow() || self.failure.borrow().is_some()
    }

    /// Says whether this member and its leader, or this leader and a quorum, hear of each other; answers whether that is
    /// news.
    pub(crate) fn set_cut_off(&self, is_cut_off: bool) -> bool {
        self.is_cut_off.swap(is_cut_off, Ordering::AcqRel) != is_cut_off
    }

    /// The leader has sent something.
    pub(crate) fn heard(&self) {
        let now = u64::try_from(self.clock.now().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(now, Ordering::Relaxed);
    }

    /// How long the leader has been silent.
    pub(crate) fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        self.clock.now().saturating_sub(heard)
    }

    /// Has deadlines of leases be kept while this member leads, whether or not it is in touch with a quorum: what it
    /// decides without one has no effect.
    pub(crate) fn follow_leadership(&self) {
        let term = self.term();
        let leads = self.leader.load(Ordering::Acquire) == self.member_id;
        // What leaders before it decided is applied before its own first entry.
        let has_begun = || self.applied.lock().0.is_some_and(|id| id.term == term);
        let leads_in = (leads && has_begun()).then_some(term);
        self.lessor
            .follow(leads_in, self.reader.leases(), self.clock.now());
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.leader() == Some(self.member_id)
    }

    pub(crate) fn set_leader(&self, leader: Option<u64>) {
        self.leader.store(leader.unwrap_or(0), Ordering::Release);
    }

    pub(crate) fn applied(&self) -> (Option<LogId>, StoredMembership) {
        self.applied.lock().clone()
    }

    /// Whether this member is all there is to its cluster, learners included, as of an entry that is applied, no older
    /// than the one given.
    pub(crate) fn is_everybody(&self, since: u64) -> bool {
        let applied = self.applied.lock();
        let (Some(at), Membership { voters, members }) = (applied.0, &applied.1.membership) else {
            return false;
        };
        let is_alone = |set: &BTreeSet<u64>| set.len() == 1 && set.contains(&self.member_id);
        at.index >= since && voters.len() == 1 && voters.iter().all(is_alone) && is_alone(members)
    }

    /// The newest entry whose sync was left to the apply worker.
    pub(crate) fn left_to_apply(&self) -> u64 {
        self.left_to_apply.load(Ordering::Acquire)
    }

    /// Up to where anything may have been acknowledged, of what consensus takes for committed up to `index`.
    ///
    /// The entry that was left to the apply worker is the last one there may be, and nothing acknowledges it before it is
    /// applied. Reads do not wait for its sync.
    pub(super) fn acknowledged_up_to(&self, index: u64) -> u64 {
        if index > self.applied_index() && index == self.left_to_apply() {
            index - 1
        } else {
            index
        }
    }

    pub(crate) fn leave_to_apply(&self, index: u64) {
        self.left_to_apply.store(index, Ordering::Release);
    }

    pub(crate) fn applied_index(&self) -> u64 {
        self.applied_index.load(Ordering::Acquire)
    }

    pub(crate) fn applied_commands(&self) -> u64 {
        self.applied_commands.load(Ordering::Relaxed)
    }

    /// Publishes how far the state machine is. Called after its view is published, before answers.
    pub(crate) fn set_applied(&self, applied: Option<LogId>, membership: &StoredMembership) {
        {
            let mut current = self.applied.lock();
            current.0 = applied;
            if current.1 != *membership {
                current.1 = membership.clone();
            }
        }
        self.applied_index
            .store(applied.map_or(0, |id| id.index), Ordering::Release);
        self.applied_waker.wake();
    }

    /// Remembers who waits for the commands of an entry, numbered from `first`.
    pub(crate) fn expect(&self, first: u64, waiters: Vec<Waiter>, accepted: Vec<Accepted>) {
        let pending = Pending {
            waiters: waiters.into_iter().map(Some).collect(),
            _accepted: accepted,
            proposed: self.clock.now(),
            committed: None,
        };
        self.proposals.opened(pending.waiters.len());
        self.pending.lock().insert(first, pending);
    }

    fn take_pending(&self, first: u64) -> Option<Pending> {
        let pending = self.pending.lock().remove(&first)?;
        if pending.committed.is_some() {
            self.proposals.applied();
        }
        self.proposals.ended(pending.waiters.len());
        Some(pending)
    }

    /// Notes when an entry was committed.
    pub(crate) fn committed(&self, first: u64) {
        let now = self.clock.now();
        if let Some(pending) = self.pending.lock().get_mut(&first)
            && pending.committed.is_none()
        {
            pending.committed = Some(now);
            self.proposals.applying();
        }
    }

    /// Notes when the entry was committed that was left to the apply worker: there was no other.
    pub(crate) fn committed_by_apply(&self) {
        let first = self.pending.lock().keys().next().copied();
        if let Some(first) = first {
            self.committed(first);
        }
    }

    /// Hands answers to those who wait here for them.
    pub(crate) fn answer(&self, answers: Vec<Answered>) {
        self.applied_commands
            .fetch_add(answers.len() as u64, Ordering::Relaxed);
        let now = self.clock.now();
        let mut bulk = Bulk::default();
        let mut entry: Option<(std::vec::IntoIter<Option<Waiter>>, Duration, Duration)> = None;
        let mut next = 0;
        for answered in answers {
            // Another member's commands, or this one's from before a restart: nobody waits here.
            if answered.member != self.member_id || answered.boot != self.boot {
                continue;
            }
            // The commands of one entry are numbered without gaps and applied in that order.
            if answered.sequence != next || entry.as_ref().is_none_or(|(rest, ..)| rest.len() == 0)
            {
                entry = self.take_pending(answered.sequence).map(|pending| {
                    let committed = pending.committed.unwrap_or(pending.proposed);
                    (pending.waiters.into_iter(), pending.proposed, committed)
                });
            }
            next = answered.sequence + 1;
            let Some((rest, proposed, committed)) = &mut entry else {
                continue;
            };
            if let Some(Some(waiter)) = rest.next() {
                let stages = [
                    proposed.saturating_sub(waiter.since),
                    committed.saturating_sub(*proposed),
                    now.saturating_sub(*committed),
                ];
                let mut result = answered.outcome.map_err(CallError::Refused);
                if mutant::is_on(Mutant::StaleRevision)
                    && let Ok(Answer::Put(put)) = &mut result
                    && let Some(header) = &mut put.header
                {
                    header.revision -= 1;
                }
                bulk.add(waiter.reply, Proposed { result, stages });
            }
        }
        bulk.send();
    }

    /// Gives up on the commands of an entry.
    pub(crate) fn fail(&self, first: u64, error: &CallError) {
        let Some(pending) = self.take_pending(first) else {
            return;
        };
        let mut bulk = Bulk::default();
        for waiter in pending.waiters.into_iter().flatten() {
            self.proposals.count_failed();
            bulk.add(
                waiter.reply,
                Proposed {
                    result: Err(error.clone()),
                    stages: [Duration::ZERO; 3],
                },
            );
        }
        bulk.send();
    }

    /// Gives up on what was proposed up to a time and has no outcome: it may still be applied.
    pub(crate) fn give_up(&self, until: Duration, error: &CallError) {
        let firsts: Vec<u64> = {
            let pending = self.pending.lock();
            let old = pending.iter().filter(|(_, one)| one.proposed <= until);
            old.map(|(&first, _)| first).collect()
        };
        for first in firsts {
            self.fail(first, error);
        }
    }

    /// Gives up on everything that waits.
    pub(crate) fn fail_all(&self, error: &CallError) {
        let firsts: Vec<u64> = self.pending.lock().keys().copied().collect();
        for first in firsts {
            self.fail(first, error);
        }
        self.proposals.close(error);
        self.reads.close(error);
        self.renewals.close(error);
        // A read round that waits for apply ends, too.
        self.applied_waker.wake();
    }

    /// Answers those whose time is up. A command may still be applied; nobody waits for it then.
    pub(crate) fn expire(&self) {
        let now = self.clock.now();
        let mut bulk = Bulk::default();
        for pending in self.pending.lock().values_mut() {
            for waiter in &mut pending.waiters {
                if waiter.as_ref().is_some_and(|waiter| waiter.deadline <= now)
                    && let Some(waiter) = waiter.take()
                {
                    self.proposals.count_failed();
                    bulk.add(
                        waiter.reply,
                        Proposed {
                            result: Err(CallError::Timeout),
                            stages: [Duration::ZERO; 3],
                        },
                    );
                }
            }
        }
        bulk.send();
        self.proposals.expire(now);
        self.reads.expire(now);
        // A round for which nobody waits any more ends.
        self.applied_waker.wake();
    }

    /// How many commands wait for an answer.
    pub(crate) fn pending_commands(&self) -> usize {
        self.pending
            .lock()
            .values()
            .map(|pending| pending.waiters.len())
            .sum::<usize>()
            + self.proposals.len()
    }

    /// The node cannot go on: says why once, and lets nobody wait.
    pub(crate) fn stop_for(&self, reason: String) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                // Before anybody hears of it: the process may end at once then.
                tracing::error!(%reason, "the node stops: it cannot keep its promises any more");
                *failure = Some(reason);
            }
            first
        });
        self.fail_all(&CallError::Stopped);
    }

    /// The state engine failed. What only waited for space until the node was stopped is no fault.
    pub(crate) fn stop_for_state(&self, what: &str, error: &StoreError) {
        match error {
            StoreError::OutOfSpace { .. } if self.admission.space.is_stopping() => tracing::warn!(
                "{what} waited for space on the disk until the node was stopped; the next start does it from the log"
            ),
            // What it stopped for was told.
            StoreError::Stopped if self.admission.space.is_stopping() => {}
            _ => self.stop_for(format!("{what} failed: {}", chain(error))),
        }
    }

    /// The raft log failed. Nothing is tried again: the kernel may have dropped the pages that it could not write.
    pub(crate) fn stop_for_log(&self, error: &io::Error) {
        self.stop_for(format!(
            "the raft log cannot be written: {error}; look at the disk and at the kernel's log (dmesg), then start \
             the node again: what was acknowledged is in the log"
        ));
    }

    pub(crate) fn set_stopped(&self) {
        self.stopped.send_replace(true);
    }

    /// Resolves when the node has stopped; owns what it needs.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut receiver = self.stopped.subscribe();
        async move {
            // An error means that the node itself is gone.
            let _ = receiver.wait_for(|&stopped| stopped).await;
        }
    }

    pub(crate) async fn failure(&self) -> String {
        let mut receiver = self.failure.subscribe();
        match receiver.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The sender lives in `self`.
            Err(_) => std::future::pending().await,
        }
    }
}
