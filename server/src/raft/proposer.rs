//! Everything that waits becomes one raft entry: the costs of consensus are paid once for each batch.
//!
//! No timer: a lone command goes at once. Under load, what queued up while the entries before were on
//! their way into the log goes together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::{AsyncRuntime, OptionalSend};
use parking_lot::Mutex;
use prost::Message;
use proto::command::{Batch, Command};

use super::types::{Commands, RaftLogId, Types};
use super::{Core, RaftOf};
use crate::node::{CallError, Proposed};
use crate::quota::Accepted;
use crate::shard::{Bulk, Reply, Waiting, reply};

/// Format of the command envelope that this version writes.
const FORMAT: u32 = 1;
/// Feature level that this version writes; raised when a command is added.
const FEATURE_LEVEL: u32 = 3;
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
    failed: AtomicU64,
}

/// A command that waits for its turn.
struct Queued {
    command: Command,
    waiter: Waiter,
    /// What counts against the quota until the command has its outcome.
    accepted: Option<Accepted>,
}

#[derive(Default)]
struct Queue {
    commands: Vec<Queued>,
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
        let was_empty = {
            let mut queue = self.queue.lock();
            if let Some(error) = &queue.closed {
                self.count_failed();
                return Err(error.clone());
            }
            let waiting = queue.commands.len() + self.open_commands.load(Ordering::Relaxed);
            if waiting >= MAX_WAITING || queue.bytes >= MAX_WAITING_BYTES {
                self.count_failed();
                return Err(CallError::TooManyRequests);
            }
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
            queue.commands.len() == 1
        };
        // With commands in flight the proposer looks again by itself when there is room.
        if was_empty && self.in_flight.load(Ordering::SeqCst) < MAX_IN_FLIGHT {
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
        let commands = {
            let mut queue = self.queue.lock();
            queue.closed = Some(error.clone());
            queue.bytes = 0;
            std::mem::take(&mut queue.commands)
        };
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
        self.waker.wake();
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
            queue.bytes = queue
                .commands
                .iter()
                .map(|queued| queued.command.encoded_len())
                .sum();
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
    async fn next(&self) -> Option<Vec<Queued>> {
        std::future::poll_fn(|context| {
            self.waker.register(context.waker());
            let mut queue = self.queue.lock();
            if queue.closed.is_some() {
                return Poll::Ready(None);
            }
            if queue.commands.is_empty()
                || self.in_flight.load(Ordering::SeqCst) >= MAX_IN_FLIGHT
                || self.open_entries.load(Ordering::SeqCst) >= MAX_OPEN
            {
                return Poll::Pending;
            }
            if queue.bytes <= MAX_ENTRY_BYTES {
                queue.bytes = 0;
                return Poll::Ready(Some(std::mem::take(&mut queue.commands)));
            }
            let mut bytes = 0;
            let fitting = queue.commands.iter().take_while(|queued| {
                let fits = bytes < MAX_ENTRY_BYTES;
                bytes += if fits {
                    queued.command.encoded_len()
                } else {
                    0
                };
                fits
            });
            let count = fitting.count();
            let rest = queue.commands.split_off(count);
            queue.bytes = queue.bytes.saturating_sub(bytes);
            Poll::Ready(Some(std::mem::replace(&mut queue.commands, rest)))
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

    fn landed(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.waker.wake();
    }
}

/// Proposes batch after batch until the node stops.
pub(super) async fn run<R: AsyncRuntime>(raft: RaftOf<R>, core: Arc<Core>) {
    let mut sequence = 1;
    while let Some(commands) = core.proposals.next().await {
        let first = sequence;
        let mut batch = Batch {
            format: FORMAT,
            feature_level: FEATURE_LEVEL,
            leader_time_ms: core.clock.wall_ms(),
            commands: Vec::with_capacity(commands.len()),
        };
        let mut waiters = Vec::with_capacity(commands.len());
        let mut accepted = Vec::with_capacity(commands.len());
        for mut queued in commands {
            queued.command.sequence = sequence;
            sequence += 1;
            batch.commands.push(queued.command);
            waiters.push(queued.waiter);
            accepted.extend(queued.accepted);
        }
        let encoded = Commands(batch.encode_to_vec().into());
        core.expect(first, waiters, accepted);
        core.proposals.in_flight.fetch_add(1, Ordering::SeqCst);
        let responder = Responder {
            core: core.clone(),
            first,
            in_flight: true,
            error: error_of::<R>,
        };
        if let Err(error) = raft.client_write_ff(encoded, Some(responder)).await {
            core.stop_for(format!("consensus ended: {error}"));
            return;
        }
    }
}

/// Hears from openraft about one entry. The answers themselves come from apply.
pub struct Responder<T> {
    core: Arc<Core>,
    first: u64,
    in_flight: bool,
    /// None if the entry was applied.
    error: fn(&T) -> Option<CallError>,
}

impl<T> Responder<T> {
    fn landed(&mut self) {
        if std::mem::take(&mut self.in_flight) {
            self.core.proposals.landed();
        }
    }
}

impl<T> Drop for Responder<T> {
    fn drop(&mut self) {
        self.landed();
    }
}

impl<R: AsyncRuntime, T: OptionalSend + 'static> openraft::raft::responder::Responder<Types<R>, T>
    for Responder<T>
{
    fn on_commit(&mut self, _: RaftLogId) {
        self.core.committed(self.first);
        self.landed();
    }

    fn on_complete(mut self, result: T) {
        self.landed();
        if let Some(error) = (self.error)(&result) {
            self.core.fail(self.first, &error);
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
        for queued in queued {
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
}
