//! Read points: reads that wait share one confirmation round, and the next round starts with all that
//! came meanwhile. No clock is involved, and a round's result is never used for a later read.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{AsyncRuntime, ReadPolicy};
use parking_lot::Mutex;

use super::{Core, RaftOf};
use crate::node::CallError;
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

/// Confirms round after round until the node stops.
pub(super) async fn run<R: AsyncRuntime>(raft: RaftOf<R>, core: Arc<Core>) {
    while core.reads.begin().await {
        let outcome = confirm(&raft, &core).await;
        core.reads.end(&outcome);
    }
}

async fn confirm<R: AsyncRuntime>(raft: &RaftOf<R>, core: &Core) -> Outcome {
    let point = raft
        .get_read_linearizer(ReadPolicy::ReadIndex)
        .await
        .map_err(|error| match error {
            RaftError::APIError(LinearizableReadError::ForwardToLeader(_)) => CallError::NoLeader,
            RaftError::APIError(_) => CallError::LeaderChanged,
            RaftError::Fatal(_) => CallError::Stopped,
        })?;
    let index = point.read_log_id().index();
    std::future::poll_fn(|context| {
        core.applied_waker.register(context.waker());
        // A node that stops applies nothing more: its rounds are answered by `Reads::close`.
        if core.applied_index() >= index || core.reads.state.lock().closed.is_some() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    Ok(())
}
