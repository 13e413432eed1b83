//! Everything that waits becomes one raft entry: the costs of consensus are paid once for each batch.
//!
//! No timer: a lone command goes at once. Under load, what queued up while the entries before were on
//! their way into the log goes together.
//!
//! On the leader what other members received joins in. On the others the batch goes to the leader, once: whatever
//! becomes of it there, it is not sent again. Its answers come from this member's own apply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::{AsyncRuntime, OptionalSend};
use parking_lot::Mutex;
use prost::Message;
use proto::command::{Batch, Command};
use proto::peer::ForwardRequest;
use proto::peer::forward_reply::Outcome;

use super::forward::Forwarder;
use super::types::{Commands, RaftLogId, Types};
use super::{Core, RaftOf};
use crate::node::{CallError, Proposed};
use crate::peer::Transport;
use crate::quota::Accepted;
use crate::shard::{Bulk, Reply, Waiting, reply};

/// Format of the command envelope that this version writes.
const FORMAT: u32 = 1;
/// Feature level that this version writes; raised when a command is added.
const FEATURE_LEVEL: u32 = 4;
/// Entries on their way into the log. With one, all that comes while it is written and synced shares the next:
/// larger entries are worth more than a disk that never idles (measured: 19.5 us server CPU a put, 24 us with two).
const MAX_IN_FLIGHT: usize = 1;
/// Entries proposed and not yet applied. If apply stands still, what comes waits here, where it is counted and
/// can be refused, and not in the log.
const MAX_OPEN: usize = 64;
/// An entry is closed once it is this large, so that replication and apply go in steps.
const MAX_ENTRY_BYTES: usize = 1 << 20;
/// Beyond this many waiting commands a caller is told to come back later.
const MAX_WAITING: usize = 50_000;
/// Beyond this many waiting bytes, too.
const MAX_WAITING_BYTES: usize = 256 << 20;
/// So many commands or bytes are worth an entry of their own, whatever else goes on. Fewer wait until those that are
/// committed are applied: their callers are about to ask for more, and an entry costs about as much as ten commands.
/// (Three members, 16 x 8 clients, one after the other: puts of 256 bytes 58.8 us instead of 66.8, updates of 1 KiB 92.1
/// instead of 103; a lone client and one member are as before.)
const ENOUGH: usize = 64;
const ENOUGH_BYTES: usize = 256 << 10;
/// How often to look whether there is a leader again.
const LOOK_FOR_LEADER: Duration = Duration::from_millis(5);

/// Who waits for a command's answer.
pub(crate) struct Waiter {
    pub(crate) reply: Reply<Proposed>,
    pub(crate) since: Duration,
    pub(crate) deadline: Duration,
}

/// Commands that wait for their turn.
#[derive(Default)]
pub(crate) struct Proposals {
    queue: Mutex<Queue>,
    /// The proposer waits here for commands and for room in flight.
    waker: AtomicWaker,
    in_flight: AtomicUsize,
    /// Entries and commands that were proposed and have no outcome here yet.
    open_entries: AtomicUsize,
    open_commands: AtomicUsize,
    /// The newest entry has commands of other members.
    carries_others: AtomicBool,
    /// Entries of this member's commands that are committed and not applied here yet.
    applying: AtomicUsize,
    /// Something waited for them when that was last looked at.
    was_held: AtomicBool,
    /// It need not wait any longer.
    is_let_go: AtomicBool,
    failed: AtomicU64,
}

/// A command that waits for its turn.
struct Queued {
    command: Command,
    waiter: Waiter,
    /// What counts against the quota until the command has its outcome.
    accepted: Option<Accepted>,
}

/// Commands that another member received.
struct Forwarded {
    /// An encoded batch of nothing but commands.
    commands: Bytes,
    count: usize,
    reply: Reply<Outcome>,
}

/// What goes into one entry.
#[derive(Default)]
struct Batched {
    commands: Vec<Queued>,
    forwarded: Vec<Forwarded>,
}

#[derive(Default)]
struct Queue {
    commands: Vec<Queued>,
    forwarded: Vec<Forwarded>,
    bytes: usize,
    closed: Option<CallError>,
}

impl Proposals {
    /// Queues a command; the future resolves with its answer.
    pub(crate) fn submit(
        &self,
        command: Command,
        now: Duration,
        timeout: Duration,
        accepted: Option<Accepted>,
    ) -> Result<Waiting<Proposed>, CallError> {
        let bytes = command.encoded_len();
        let (reply, waiting) = reply();
        let is_news = {
            let mut queue = self.queue.lock();
            if let Some(error) = &queue.closed {
                self.count_failed();
                return Err(error.clone());
            }
            let waiting = queue.waiting() + self.open_commands.load(Ordering::Relaxed);
            if waiting >= MAX_WAITING || queue.bytes >= MAX_WAITING_BYTES {
                self.count_failed();
                return Err(CallError::TooManyRequests);
            }
            let before = queue.amount();
            queue.bytes += bytes;
            queue.commands.push(Queued {
                command,
                waiter: Waiter {
                    reply,
                    since: now,
                    deadline: now + timeout,
                },
                accepted,
            });
            before != queue.amount()
        };
        // With commands in flight the proposer looks again by itself when there is room.
        if is_news && self.in_flight.load(Ordering::SeqCst) < MAX_IN_FLIGHT {
            self.waker.wake();
        }
        Ok(waiting)
    }

    /// Queues what another member received; the future resolves when it is committed or will not be.
    pub(crate) fn submit_forwarded(
        &self,
        request: ForwardRequest,
    ) -> Result<Waiting<Outcome>, Outcome> {
        let count = usize::try_from(request.count).unwrap_or(usize::MAX);
        // In the log it would stop every member that applies it.
        let is_sound = Batch::decode(request.commands.clone())
            .is_ok_and(|batch| batch.commands.len() == count && batch.format == 0);
        if !is_sound {
            tracing::warn!("a member forwarded commands that are not understood; they are refused");
            return Err(Outcome::TooManyRequests);
        }
        let (reply, waiting) = reply();
        let is_news = {
            let mut queue = self.queue.lock();
            if queue.closed.is_some() {
                return Err(Outcome::NoLeader);
            }
            let waiting = queue.waiting() + self.open_commands.load(Ordering::Relaxed);
            if waiting >= MAX_WAITING || queue.bytes >= MAX_WAITING_BYTES {
                return Err(Outcome::TooManyRequests);
            }
            let before = queue.amount();
            queue.bytes += request.commands.len();
            queue.forwarded.push(Forwarded {
                commands: request.commands,
                count,
                reply,
            });
            before != queue.amount()
        };
        if is_news && self.in_flight.load(Ordering::SeqCst) < MAX_IN_FLIGHT {
            self.waker.wake();
        }
        Ok(waiting)
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.lock().commands.len()
    }

    pub(crate) fn count_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Takes nothing more and answers what waits with the error.
    pub(crate) fn close(&self, error: &CallError) {
        self.queue.lock().closed = Some(error.clone());
        self.refuse(error);
        self.waker.wake();
    }

    /// Answers what waits for its turn with the error. It was not proposed.
    pub(crate) fn refuse(&self, error: &CallError) {
        let (commands, forwarded) = {
            let mut queue = self.queue.lock();
            queue.bytes = 0;
            (
                std::mem::take(&mut queue.commands),
                std::mem::take(&mut queue.forwarded),
            )
        };
        for forwarded in forwarded {
            forwarded.reply.send(Outcome::NoLeader);
        }
        let mut bulk = Bulk::default();
        for queued in commands {
            self.count_failed();
            bulk.add(
                queued.waiter.reply,
                Proposed {
                    result: Err(error.clone()),
                    stages: [Duration::ZERO; 3],
                },
            );
        }
        bulk.send();
    }

    /// Drops commands whose callers' time is up before they were proposed.
    pub(crate) fn expire(&self, now: Duration) {
        let mut bulk = Bulk::default();
        {
            let mut queue = self.queue.lock();
            if queue
                .commands
                .iter()
                .all(|queued| queued.waiter.deadline > now)
            {
                return;
            }
            let (late, rest) = std::mem::take(&mut queue.commands)
                .into_iter()
                .partition(|queued| queued.waiter.deadline <= now);
            queue.commands = rest;
            queue.bytes = queue.count_bytes();
            let late: Vec<Queued> = late;
            for queued in late {
                self.count_failed();
                bulk.add(
                    queued.waiter.reply,
                    Proposed {
                        result: Err(CallError::Timeout),
                        stages: [Duration::ZERO; 3],
                    },
                );
            }
        }
        bulk.send();
    }

    /// The next batch, once there are commands and room in flight; none when closed.
    async fn next(&self) -> Option<Batched> {
        std::future::poll_fn(|context| {
            self.waker.register(context.waker());
            let mut queue = self.queue.lock();
            if queue.closed.is_some() {
                return Poll::Ready(None);
            }
            let goes = match queue.amount() {
                Amount::Nothing => false,
                Amount::Little => {
                    self.applying.load(Ordering::SeqCst) == 0
                        || self.is_let_go.swap(false, Ordering::SeqCst)
                }
                Amount::Enough => true,
            };
            if !goes
                || self.in_flight.load(Ordering::SeqCst) >= MAX_IN_FLIGHT
                || self.open_entries.load(Ordering::SeqCst) >= MAX_OPEN
            {
                return Poll::Pending;
            }
            Poll::Ready(Some(queue.take()))
        })
        .await
    }

    /// An entry is on its way.
    pub(crate) fn opened(&self, commands: usize) {
        self.open_entries.fetch_add(1, Ordering::SeqCst);
        self.open_commands.fetch_add(commands, Ordering::Relaxed);
    }

    /// An entry has its outcome.
    pub(crate) fn ended(&self, commands: usize) {
        self.open_commands.fetch_sub(commands, Ordering::Relaxed);
        if self.open_entries.fetch_sub(1, Ordering::SeqCst) >= MAX_OPEN {
            self.waker.wake();
        }
    }

    /// An entry of this member's commands is committed and about to be applied.
    pub(crate) fn applying(&self) {
        self.applying.fetch_add(1, Ordering::SeqCst);
    }

    /// It is applied, or nobody waits for that any more.
    pub(crate) fn applied(&self) {
        // Who comes later wakes the proposer by itself: a lone command's answer does not wait for it to look in vain.
        if self.applying.fetch_sub(1, Ordering::SeqCst) == 1
            && self.queue.lock().amount() != Amount::Nothing
        {
            self.waker.wake();
        }
    }

    /// Lets go what waited for entries to be applied when this was called before, too: apply stands still here, but
    /// not where else the log goes.
    pub(crate) fn look_at_held(&self) {
        let waits = self.queue.lock().amount() != Amount::Nothing;
        let is_held = waits && self.applying.load(Ordering::SeqCst) > 0;
        if self.was_held.swap(is_held, Ordering::Relaxed) && is_held {
            self.is_let_go.store(true, Ordering::SeqCst);
            self.waker.wake();
        }
    }

    /// Whether one command of this member's is on its way, and nothing else is or waits.
    pub(crate) fn is_lone(&self) -> bool {
        !self.carries_others.load(Ordering::Relaxed)
            && self.open_entries.load(Ordering::SeqCst) == 1
            && self.open_commands.load(Ordering::Relaxed) == 1
            && self.queue.lock().amount() == Amount::Nothing
    }

    /// A batch has left for the log, here or on the leader.
    pub(crate) fn took_off(&self) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
    }

    /// It is committed, or will not be.
    pub(crate) fn landed(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.waker.wake();
    }
}

/// How much waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Amount {
    Nothing,
    /// What shares an entry with what comes soon, if anything is about to come.
    Little,
    Enough,
}

impl Queue {
    fn amount(&self) -> Amount {
        if self.commands.is_empty() && self.forwarded.is_empty() {
            Amount::Nothing
        } else if self.waiting() < ENOUGH && self.bytes < ENOUGH_BYTES {
            Amount::Little
        } else {
            Amount::Enough
        }
    }

    fn waiting(&self) -> usize {
        let forwarded: usize = self.forwarded.iter().map(|forwarded| forwarded.count).sum();
        self.commands.len() + forwarded
    }

    fn count_bytes(&self) -> usize {
        let own = self.commands.iter();
        let own: usize = own.map(|queued| queued.command.encoded_len()).sum();
        let forwarded = self.forwarded.iter();
        own + forwarded
            .map(|forwarded| forwarded.commands.len())
            .sum::<usize>()
    }

    /// What fits one entry, in turn from both.
    fn take(&mut self) -> Batched {
        if self.bytes <= MAX_ENTRY_BYTES {
            self.bytes = 0;
            return Batched {
                commands: std::mem::take(&mut self.commands),
                forwarded: std::mem::take(&mut self.forwarded),
            };
        }
        // Those of others are already batches, as large as an entry perhaps: they go first. But half of it is for this
        // member's own, or others that always have more would keep them waiting for ever.
        let forwarded = self.forwarded.iter().map(|batch| batch.commands.len());
        let (forwarded, taken) = count_within(forwarded, MAX_ENTRY_BYTES / 2);
        let own = self.commands.iter();
        let own = own.map(|queued| queued.command.encoded_len());
        let room = (MAX_ENTRY_BYTES / 2).max(MAX_ENTRY_BYTES.saturating_sub(taken));
        let (commands, own) = count_within(own, room);
        let bytes = taken + own;
        let (rest, rest_forwarded) = (
            self.commands.split_off(commands),
            self.forwarded.split_off(forwarded),
        );
        self.bytes = self.bytes.saturating_sub(bytes);
        Batched {
            commands: std::mem::replace(&mut self.commands, rest),
            forwarded: std::mem::replace(&mut self.forwarded, rest_forwarded),
        }
    }
}

/// How many of these lengths, one after the other, begin within the room, and their sum.
fn count_within(lengths: impl Iterator<Item = usize>, room: usize) -> (usize, usize) {
    let mut sum = 0;
    let count = lengths
        .take_while(|length| {
            let begins = sum < room;
            sum += if begins { *length } else { 0 };
            begins
        })
        .count();
    (count, sum)
}

/// Where a batch goes.
enum Route {
    Here,
    To(u64),
    Nowhere,
}

/// Waits for a leader, if there is none, but not for ever.
async fn route<R: AsyncRuntime>(core: &Core, patience: Duration) -> Route {
    let until = core.clock.now() + patience;
    loop {
        match core.leader() {
            Some(leader) if leader == core.member_id => return Route::Here,
            Some(leader) => return Route::To(leader),
            None if core.clock.now() >= until => return Route::Nowhere,
            None => R::sleep(LOOK_FOR_LEADER).await,
        }
    }
}

/// Proposes batch after batch until the node stops.
pub(super) async fn run<R: AsyncRuntime>(
    raft: RaftOf<R>,
    core: Arc<Core>,
    transport: Arc<dyn Transport>,
    patience: Duration,
) {
    let mut sequence = 1;
    let mut forwarder = Forwarder::new(core.clone(), transport);
    let mut is_lost = false;
    while let Some(batched) = core.proposals.next().await {
        // Those that come when the others have given up need not wait as long.
        let patience = if is_lost { LOOK_FOR_LEADER } else { patience };
        let route = route::<R>(&core, patience).await;
        is_lost = matches!(route, Route::Nowhere);
        let first = sequence;
        let count = batched.commands.len();
        let mut batch = Batch {
            commands: Vec::with_capacity(count),
            ..Batch::default()
        };
        let mut waiters = Vec::with_capacity(count);
        let mut accepted = Vec::with_capacity(count);
        for mut queued in batched.commands {
            queued.command.sequence = sequence;
            sequence += 1;
            batch.commands.push(queued.command);
            waiters.push(queued.waiter);
            accepted.extend(queued.accepted);
        }
        if count > 0 {
            core.expect(first, waiters, accepted);
        }
        // What others sent here while this member led is not sent on: they would wait twice.
        let forwarded = match route {
            Route::Here => batched.forwarded,
            _ => {
                for forwarded in batched.forwarded {
                    forwarded.reply.send(Outcome::NoLeader);
                }
                Vec::new()
            }
        };
        match route {
            Route::Here if count + forwarded.len() > 0 => {
                batch.format = FORMAT;
                batch.feature_level = FEATURE_LEVEL;
                batch.leader_time_ms = core.clock.wall_ms();
                let mut encoded = batch.encode_to_vec();
                // A repeated field may be in several stretches.
                for forwarded in &forwarded {
                    encoded.extend_from_slice(&forwarded.commands);
                }
                let carries_others = &core.proposals.carries_others;
                carries_others.store(!forwarded.is_empty(), Ordering::Relaxed);
                core.proposals.took_off();
                if count == 0 {
                    core.proposals.opened(0);
                }
                let responder = Responder {
                    core: core.clone(),
                    first: (count > 0).then_some(first),
                    forwarded: forwarded.into_iter().map(|batch| batch.reply).collect(),
                    in_flight: true,
                    error: error_of::<R>,
                };
                let encoded = Commands(encoded.into());
                if let Err(error) = raft.client_write_ff(encoded, Some(responder)).await {
                    core.stop_for(format!("consensus ended: {error}"));
                    return;
                }
            }
            Route::To(leader) if count > 0 => {
                core.proposals.took_off();
                let commands = batch.encode_to_vec().into();
                forwarder.send::<R>(leader, first, commands, count as u64);
            }
            Route::Nowhere if count > 0 => core.fail(first, &CallError::NoLeader),
            _ => {}
        }
    }
}

/// Hears from openraft about one entry. The answers themselves come from apply.
pub struct Responder<T> {
    core: Arc<Core>,
    /// Of this member's commands, if there are any.
    first: Option<u64>,
    /// Who forwarded the others.
    forwarded: Vec<Reply<Outcome>>,
    in_flight: bool,
    /// None if the entry was applied.
    error: fn(&T) -> Option<CallError>,
}

impl<T> Responder<T> {
    fn landed(&mut self, outcome: Outcome) {
        for reply in self.forwarded.drain(..) {
            reply.send(outcome);
        }
        if std::mem::take(&mut self.in_flight) {
            self.core.proposals.landed();
        }
    }
}

impl<T> Drop for Responder<T> {
    fn drop(&mut self) {
        self.landed(Outcome::Unknown);
        if self.first.is_none() {
            self.core.proposals.ended(0);
        }
    }
}

impl<R: AsyncRuntime, T: OptionalSend + 'static> openraft::raft::responder::Responder<Types<R>, T>
    for Responder<T>
{
    fn on_commit(&mut self, id: RaftLogId) {
        // One that was left to the apply worker is not synced yet.
        if let Some(first) = self.first
            && id.index != self.core.left_to_apply()
        {
            self.core.committed(first);
        }
        self.landed(Outcome::Committed);
    }

    fn on_complete(mut self, result: T) {
        let error = (self.error)(&result);
        self.landed(match &error {
            None => Outcome::Committed,
            Some(CallError::NoLeader) => Outcome::NoLeader,
            Some(_) => Outcome::Unknown,
        });
        if let (Some(first), Some(error)) = (self.first, error) {
            self.core.fail(first, &error);
        }
    }
}

fn error_of<R: AsyncRuntime>(result: &ClientWriteResult<Types<R>>) -> Option<CallError> {
    match result {
        Ok(_) => None,
        Err(ClientWriteError::ForwardToLeader(_)) => Some(CallError::NoLeader),
        // The entry may have been committed through another leader: unknown, and never retried.
        Err(_) => Some(CallError::LeaderChanged),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proto::command::command::Op;
    use proto::etcd::etcdserverpb::PutRequest;
    use store::{Answered, Refusal};

    use super::super::bare;
    use super::*;
    use crate::admission::Admission;
    use crate::node::Call;
    use crate::quota::Quota;

    #[test]
    fn a_write_counts_against_the_quota_until_its_outcome_whoever_has_left() {
        let (node, core) = bare::node(Admission {
            quota: Quota::new(10_000),
            space: Arc::default(),
        });
        let fits = |charge| {
            core.admission.quota.look(&*core.engine);
            core.admission.quota.accept(charge).is_some()
        };
        assert!(fits(5_000));
        let put = Op::Put(PutRequest {
            value: vec![0; 6_000].into(),
            ..PutRequest::default()
        });
        let call = Call::new(Duration::ZERO);
        // Polled once, then dropped: its caller is gone.
        assert!(node.propose(&call, put).now_or_never().is_none());
        assert!(!fits(5_000), "it waits for its turn");
        let queued = core.proposals.next().now_or_never().flatten().unwrap();
        let (mut waiters, mut accepted) = (Vec::new(), Vec::new());
        for queued in queued.commands {
            waiters.push(queued.waiter);
            accepted.extend(queued.accepted);
        }
        core.expect(1, waiters, accepted);
        core.expire();
        assert!(!fits(5_000), "it is in the log, and nobody waits for it");
        core.answer(vec![Answered {
            member: 1,
            boot: 1,
            sequence: 1,
            outcome: Err(Refusal::KeyNotFound),
        }]);
        assert!(fits(5_000), "it has its outcome");
    }

    #[test]
    fn large_batches_of_others_do_not_keep_own_commands_waiting() {
        let mut queue = Queue::default();
        let mut own = 0;
        for _ in 0..10 {
            for _ in 0..2 {
                queue.forwarded.push(Forwarded {
                    commands: vec![0; MAX_ENTRY_BYTES].into(),
                    count: 2,
                    reply: reply().0,
                });
            }
            queue.commands.push(Queued {
                command: Command {
                    op: Some(Op::Put(PutRequest {
                        value: vec![0; MAX_ENTRY_BYTES / 2].into(),
                        ..PutRequest::default()
                    })),
                    ..Command::default()
                },
                waiter: Waiter {
                    reply: reply().0,
                    since: Duration::ZERO,
                    deadline: Duration::MAX,
                },
                accepted: None,
            });
            queue.bytes = queue.count_bytes();
            let taken = queue.take();
            assert_eq!(taken.forwarded.len(), 1, "others have their turn");
            own += taken.commands.len();
            assert_eq!(queue.bytes, queue.count_bytes());
        }
        assert_eq!(own, 10, "none waits while others always have more");
    }

    #[test]
    fn few_commands_wait_until_what_is_committed_is_applied() {
        let (node, core) = bare::node(Admission {
            quota: Quota::new(1 << 30),
            space: Arc::default(),
        });
        let call = Call::new(Duration::ZERO);
        let mut callers = Vec::new();
        let mut propose = |count: usize| {
            for _ in 0..count {
                let mut caller = Box::pin(node.propose(&call, Op::Put(PutRequest::default())));
                assert!(caller.as_mut().now_or_never().is_none());
                callers.push(caller);
            }
        };
        let next = || core.proposals.next().now_or_never().flatten();
        let expect = |first, batched: Batched| {
            let waiters = batched.commands.into_iter().map(|queued| queued.waiter);
            core.expect(first, waiters.collect(), Vec::new());
        };
        let answer = |sequence| {
            core.answer(vec![Answered {
                member: 1,
                boot: 1,
                sequence,
                outcome: Err(Refusal::KeyNotFound),
            }]);
        };

        propose(1);
        expect(1, next().expect("nothing is ahead of a lone command"));
        let proposals = &core.proposals;
        assert!(proposals.is_lone());
        proposals.carries_others.store(true, Ordering::Relaxed);
        assert!(!proposals.is_lone(), "another member's went with it");
        proposals.carries_others.store(false, Ordering::Relaxed);
        propose(1);
        assert!(!proposals.is_lone(), "another waits");
        expect(2, next().expect("nobody knows when that one is committed"));
        core.committed(1);
        propose(1);
        assert!(next().is_none(), "its answer is about to come");
        answer(1);
        expect(3, next().expect("it is applied"));
        core.committed(2);
        core.committed(2);
        propose(ENOUGH - 1);
        assert!(next().is_none());
        propose(1);
        assert_eq!(next().map(|batched| batched.commands.len()), Some(ENOUGH));
        propose(1);
        core.proposals.look_at_held();
        assert!(next().is_none());
        core.proposals.look_at_held();
        assert!(next().is_some(), "apply stands still");
        propose(1);
        assert!(next().is_none());
        core.fail(2, &CallError::LeaderChanged);
        assert!(next().is_some(), "nobody waits for it any more");
    }
}
