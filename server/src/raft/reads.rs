//! Read points: reads that wait share one confirmation round, and the next round starts with all that
//! came meanwhile. No clock is involved, and a round's result is never used for a later read.
//!
//! A member that does not lead asks the leader for the point, and serves the read itself.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{AsyncRuntime, ReadPolicy};
use parking_lot::Mutex;
use proto::peer::ReadIndexRequest;
use store::mutant::{self, Mutant};

use super::{Core, RaftOf};
use crate::node::CallError;
use crate::peer::{LinkError, Transport};
use crate::shard::{Bulk, Reply, Waiting, reply};

type Outcome = Result<(), CallError>;

/// Reads that wait for a read point.
#[derive(Default)]
pub(crate) struct Reads {
    state: Mutex<State>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiter>,
    /// The round under way; held here so that [`Reads::expire`] reaches it.
    round: Vec<Waiter>,
    closed: Option<CallError>,
}

struct Waiter {
    reply: Reply<Outcome>,
    deadline: Duration,
}

impl Reads {
    /// Joins the next round.
    pub(crate) fn submit(
        &self,
        now: Duration,
        timeout: Duration,
    ) -> Result<Waiting<Outcome>, CallError> {
        let (reply, waiting) = reply();
        let wake = {
            let mut state = self.state.lock();
            if let Some(error) = &state.closed {
                return Err(error.clone());
            }
            state.waiting.push(Waiter {
                reply,
                deadline: now + timeout,
            });
            // While a round is under way the batcher looks again by itself when it ends.
            state.waiting.len() == 1 && state.round.is_empty()
        };
        if wake {
            self.waker.wake();
        }
        Ok(waiting)
    }

    pub(crate) fn close(&self, error: &CallError) {
        let waiters = {
            let mut state = self.state.lock();
            state.closed = Some(error.clone());
            let mut waiters = std::mem::take(&mut state.waiting);
            waiters.append(&mut state.round);
            waiters
        };
        answer(waiters, &Err(error.clone()));
        self.waker.wake();
    }

    pub(crate) fn expire(&self, now: Duration) {
        let late = {
            let mut state = self.state.lock();
            let mut late: Vec<Waiter> = state
                .waiting
                .extract_if(.., |waiter| waiter.deadline <= now)
                .collect();
            late.extend(state.round.extract_if(.., |waiter| waiter.deadline <= now));
            late
        };
        answer(late, &Err(CallError::Timeout));
    }

    /// Starts a round once somebody waits; false when closed.
    async fn begin(&self) -> bool {
        std::future::poll_fn(|context| {
            self.waker.register(context.waker());
            let mut state = self.state.lock();
            if state.closed.is_some() {
                return Poll::Ready(false);
            }
            if state.waiting.is_empty() {
                return Poll::Pending;
            }
            state.round = std::mem::take(&mut state.waiting);
            Poll::Ready(true)
        })
        .await
    }

    /// Whether nobody waits for the round any more.
    fn is_round_over(&self) -> bool {
        let state = self.state.lock();
        state.round.is_empty() || state.closed.is_some()
    }

    fn end(&self, outcome: &Outcome) {
        let round = std::mem::take(&mut self.state.lock().round);
        answer(round, outcome);
    }
}

fn answer(waiters: Vec<Waiter>, outcome: &Outcome) {
    let mut bulk = Bulk::default();
    for waiter in waiters {
        bulk.add(waiter.reply, outcome.clone());
    }
    bulk.send();
}

/// Between two tries of one round, while leadership is in motion.
const PAUSE: Duration = Duration::from_millis(10);

/// How long the leader may take to answer, before it is asked anew.
const ANSWER: Duration = Duration::from_secs(1);

/// Confirms round after round until the node stops. Gives a round up once it has had no leader for `patience`.
pub(super) async fn run<R: AsyncRuntime>(
    raft: RaftOf<R>,
    core: Arc<Core>,
    transport: Arc<dyn Transport>,
    patience: Duration,
) {
    let mut is_failing = false;
    let mut before = None;
    while core.reads.begin().await {
        // Who comes after a round that found nobody has not waited for it in vain: one try is enough then.
        let patience = if is_failing { Duration::ZERO } else { patience };
        let outcome = confirm(&raft, &core, &*transport, patience, &mut before).await;
        is_failing = outcome.is_err();
        core.reads.end(&outcome);
    }
}

async fn confirm<R: AsyncRuntime>(
    raft: &RaftOf<R>,
    core: &Core,
    transport: &dyn Transport,
    patience: Duration,
    before: &mut Option<u64>,
) -> Outcome {
    let until = core.clock.now() + patience;
    // Each try asks anew: a point is never carried over from one leader, or one try, to the next.
    let index = loop {
        let error = match point::<R>(raft, core, transport).await {
            Ok(index) => break index,
            Err(CallError::Stopped) => return Err(CallError::Stopped),
            Err(error) => error,
        };
        if core.clock.now() >= until || core.reads.is_round_over() {
            return Err(error);
        }
        R::sleep(PAUSE).await;
    };
    let before = before.replace(index);
    let index = match before {
        Some(before) if mutant::is_on(Mutant::ReadIndexReused) => before,
        _ if mutant::is_on(Mutant::ReadBeforeApply) => 0,
        _ => index,
    };
    std::future::poll_fn(|context| {
        core.applied_waker.register(context.waker());
        // A point may never come, if the leader that named it is gone: when nobody waits for the round any more, it must
        // not hold up the next. Who was waiting is answered.
        if core.applied_index() >= index || core.reads.is_round_over() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    Ok(())
}

/// Up to which entry a read of this moment must see.
async fn point<R: AsyncRuntime>(
    raft: &RaftOf<R>,
    core: &Core,
    transport: &dyn Transport,
) -> Result<u64, CallError> {
    let leader = core.leader().ok_or(CallError::NoLeader)?;
    let is_here = leader == core.member_id;
    if mutant::is_on(Mutant::ReadUnconfirmed) && is_here
        || mutant::is_on(Mutant::ReadLocally) && !is_here
    {
        return Ok(core.applied_index());
    }
    if !is_here {
        let asked = transport.control(leader).read_index(ReadIndexRequest {});
        return match R::timeout(ANSWER, asked).await {
            Ok(Ok(reply)) => Ok(reply.index),
            Ok(Err(LinkError::NotConnected(_))) => Err(CallError::NoLeader),
            Ok(Err(_)) => Err(CallError::LeaderChanged),
            Err(_) => Err(CallError::Timeout),
        };
    }
    let point = raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
    match point {
        Ok(point) => Ok(core.acknowledged_up_to(point.read_log_id().index())),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => {
            Err(CallError::NoLeader)
        }
        Err(RaftError::APIError(_)) => Err(CallError::Timeout),
        Err(RaftError::Fatal(_)) => Err(CallError::Stopped),
    }
}
