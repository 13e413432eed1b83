//! Leases on a running node: keeps them alive and asks what is left of them, wherever the leader is, and has the leader
//! end what is over.
//!
//! Wishes to keep leases alive that come together share one round, as reads do. The leader gives the leases their time
//! first, and confirms that it still leads afterwards: then nobody else can have ended one before, and a new leader
//! gives it all of its time again. Another member sends the round to the leader.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use openraft::AsyncRuntime;
use parking_lot::Mutex;
use proto::command::command::Op;
use proto::command::{Command, LeaseCheckpoints, LeaseExpiry};
use proto::etcd::etcdserverpb::LeaseCheckpoint;
use proto::peer::{LeasesReply, LeasesRequest, leases_reply};
use store::mutant::{self, Mutant};

use super::Core;
use crate::lessor::Renewal;
use crate::node::{CallError, LeaseLeft, Renewed};
use crate::peer::{LinkError, Transport};
use crate::shard::{Bulk, Reply, Waiting, reply};

/// Between two looks for leases that are over.
const LOOK: Duration = Duration::from_millis(100);

/// Leases that are ended in one look: when very many are over together, others still get their turn.
const ENDED_AT_ONCE: usize = 200;

/// Leases in one command that notes what is left of them, and such commands in one look.
const NOTED_AT_ONCE: usize = 1_000;

/// How long a command of the leader itself may take; after that it is made anew where it is still needed.
const COMMAND: Duration = Duration::from_secs(7);

/// Between two tries of one round, while leadership is in motion.
const PAUSE: Duration = Duration::from_millis(10);

/// How long the leader may take to answer another member, before it is asked anew.
const ANSWER: Duration = Duration::from_secs(2);

/// Leases that one round takes on.
const ROUND: usize = 10_000;

type Outcome = Result<Vec<Renewed>, CallError>;

/// Wishes to keep leases alive.
#[derive(Default)]
pub(crate) struct Renewals {
    state: Mutex<State>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct State {
    waiting: Vec<Wish>,
    is_round_under_way: bool,
    is_closed: bool,
}

struct Wish {
    ids: Vec<i64>,
    reply: Reply<Outcome>,
    deadline: Duration,
}

impl Renewals {
    /// Joins the next round.
    pub(crate) fn submit(
        &self,
        ids: Vec<i64>,
        deadline: Duration,
    ) -> Result<Waiting<Outcome>, CallError> {
        let (reply, waiting) = reply();
        let wake = {
            let mut state = self.state.lock();
            if state.is_closed {
                return Err(CallError::Stopped);
            }
            state.waiting.push(Wish {
                ids,
                reply,
                deadline,
            });
            state.waiting.len() == 1 && !state.is_round_under_way
        };
        if wake {
            self.waker.wake();
        }
        Ok(waiting)
    }

    /// Takes nothing more, and answers those who wait.
    pub(crate) fn close(&self, error: &CallError) {
        let waiting = {
            let mut state = self.state.lock();
            state.is_closed = true;
            std::mem::take(&mut state.waiting)
        };
        answer(waiting, &Err(error.clone()));
        self.waker.wake();
    }

    /// The next round, once somebody waits; none when closed.
    async fn next(&self) -> Option<Vec<Wish>> {
        std::future::poll_fn(|context| {
            self.waker.register(context.waker());
            let mut state = self.state.lock();
            if state.is_closed {
                return Poll::Ready(None);
            }
            state.is_round_under_way = !state.waiting.is_empty();
            if state.waiting.is_empty() {
                return Poll::Pending;
            }
            let mut count = 0;
            let fits = |wish: &Wish| {
                count += wish.ids.len();
                count > ROUND
            };
            let end = state
                .waiting
                .iter()
                .position(fits)
                .map_or(state.waiting.len(), |end| end.max(1));
            Poll::Ready(Some(state.waiting.drain(..end).collect()))
        })
        .await
    }
}

fn answer(wishes: Vec<Wish>, outcome: &Outcome) {
    let mut bulk = Bulk::default();
    let mut begin = 0;
    for wish in wishes {
        let end = begin + wish.ids.len();
        let share = outcome.as_ref().map(|all| all[begin..end].to_vec());
        bulk.add(wish.reply, share.map_err(Clone::clone));
        begin = end;
    }
    bulk.send();
}

/// Keeps leases alive, round after round, until the node stops.
pub(super) async fn run<R: AsyncRuntime>(core: Arc<Core>, transport: Arc<dyn Transport>) {
    while let Some(wishes) = core.renewals.next().await {
        let ids: Vec<i64> = wishes.iter().flat_map(|wish| &wish.ids).copied().collect();
        let until = wishes.iter().map(|wish| wish.deadline).min();
        let until = until.unwrap_or_default();
        let outcome = loop {
            let error = match renew::<R>(&core, &*transport, &ids).await {
                Err(error) if error != CallError::Stopped => error,
                outcome => break outcome,
            };
            if core.clock.now() >= until {
                break Err(error);
            }
            R::sleep(PAUSE).await;
        };
        answer(wishes, &outcome);
    }
}

async fn renew<R: AsyncRuntime>(core: &Core, transport: &dyn Transport, ids: &[i64]) -> Outcome {
    let leader = core.leader().ok_or(CallError::NoLeader)?;
    if leader == core.member_id {
        return renew_here(core, ids).await;
    }
    let request = LeasesRequest {
        renew: ids.to_vec(),
        look: 0,
    };
    let reply = ask::<R>(transport, leader, request).await?;
    if reply.renewed.len() != ids.len() {
        return Err(CallError::LeaderChanged);
    }
    Ok(reply
        .renewed
        .iter()
        .map(|one| match one.is_ending {
            true => Renewed::Ending,
            false => Renewed::Ttl(one.ttl),
        })
        .collect())
}

async fn ask<R: AsyncRuntime>(
    transport: &dyn Transport,
    leader: u64,
    request: LeasesRequest,
) -> Result<LeasesReply, CallError> {
    match R::timeout(ANSWER, transport.control(leader).leases(request)).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(LinkError::NotConnected(_))) => Err(CallError::NoLeader),
        Ok(Err(_)) => Err(CallError::LeaderChanged),
        Err(_) => Err(CallError::Timeout),
    }
}

/// Keeps leases alive on the leader.
async fn renew_here(core: &Core, ids: &[i64]) -> Outcome {
    core.follow_leadership();
    let Some(term) = core.lessor.term() else {
        // The first entry of its term is on its way.
        core.reads.submit(core.clock.now(), ANSWER)?.await?;
        return Err(CallError::NoLeader);
    };
    let now = core.clock.now();
    let mut renewals: Vec<Renewal> = ids.iter().map(|&id| core.lessor.renew(id, now)).collect();
    if !mutant::is_on(Mutant::RenewalUnconfirmed) {
        core.reads.submit(now, ANSWER)?.await?;
    }
    let now = core.clock.now();
    let mut noted = Vec::new();
    for (&id, renewal) in ids.iter().zip(&mut renewals) {
        if *renewal == Renewal::Unknown {
            // What was acknowledged before the question is applied by now.
            *renewal = core.lessor.renew(id, now);
        }
        if let Renewal::Renewed { is_noted: true, .. } = renewal {
            noted.push((id, 0));
        }
    }
    for part in noted.chunks(NOTED_AT_ONCE) {
        propose(core, note(term, part)).await?;
    }
    core.follow_leadership();
    if core.lessor.term() != Some(term) {
        return Err(CallError::LeaderChanged);
    }
    let renewed = renewals
        .iter()
        .filter(|one| matches!(one, Renewal::Renewed { .. }));
    core.metrics.leases_renewed.inc_by(renewed.count() as u64);
    renewals
        .iter()
        .map(|renewal| match *renewal {
            Renewal::Renewed { ttl, .. } => Ok(Renewed::Ttl(ttl)),
            Renewal::Unknown => Ok(Renewed::Ttl(0)),
            Renewal::Ending => Ok(Renewed::Ending),
            Renewal::NotLeading => Err(CallError::LeaderChanged),
        })
        .collect()
}

fn note(term: u64, left: &[(i64, i64)]) -> Op {
    let checkpoint = |&(id, remaining_ttl): &(i64, i64)| LeaseCheckpoint { id, remaining_ttl };
    Op::LeaseCheckpoints(LeaseCheckpoints {
        term,
        checkpoints: left.iter().map(checkpoint).collect(),
    })
}

fn command(core: &Core, op: Op) -> Command {
    Command {
        member: core.member_id,
        boot: core.boot,
        op: Some(op),
        ..Command::default()
    }
}

/// Puts a command of the leader's own through consensus.
async fn propose(core: &Core, op: Op) -> Result<(), CallError> {
    let now = core.clock.now();
    let waiting = core
        .proposals
        .submit(command(core, op), now, COMMAND, None)?;
    waiting.await.result.map(drop)
}

/// What is left of a lease, by the leader; none if there is no such lease.
pub(super) async fn left<R: AsyncRuntime>(
    core: &Core,
    transport: &dyn Transport,
    id: i64,
) -> Result<Option<LeaseLeft>, CallError> {
    let leader = core.leader().ok_or(CallError::NoLeader)?;
    if leader == core.member_id {
        return left_here(core, id).await;
    }
    let request = LeasesRequest {
        renew: Vec::new(),
        look: id,
    };
    let reply = ask::<R>(transport, leader, request).await?;
    Ok(reply.seen.map(|seen| LeaseLeft {
        granted: seen.ttl,
        left: Duration::from_millis(seen.left_ms),
    }))
}

async fn left_here(core: &Core, id: i64) -> Result<Option<LeaseLeft>, CallError> {
    core.reads.submit(core.clock.now(), ANSWER)?.await?;
    core.follow_leadership();
    let Some(term) = core.lessor.term() else {
        return Err(CallError::LeaderChanged);
    };
    let granted = core.reader.leases().term(id);
    let left = core.lessor.left(id, core.clock.now());
    core.follow_leadership();
    if core.lessor.term() != Some(term) {
        return Err(CallError::LeaderChanged);
    }
    Ok(granted.zip(left).map(|(granted, left)| LeaseLeft {
        granted: granted.ttl,
        left,
    }))
}

/// Answers another member.
pub(super) async fn answer_peer(
    core: &Core,
    request: LeasesRequest,
) -> Result<LeasesReply, CallError> {
    if !core.is_leader() {
        return Err(CallError::NoLeader);
    }
    let mut reply = LeasesReply::default();
    if !request.renew.is_empty() {
        let renewed = renew_here(core, &request.renew).await?;
        reply.renewed = renewed
            .into_iter()
            .map(|one| match one {
                Renewed::Ttl(ttl) => leases_reply::Renewed {
                    ttl,
                    is_ending: false,
                },
                Renewed::Ending => leases_reply::Renewed {
                    ttl: 0,
                    is_ending: true,
                },
            })
            .collect();
    }
    if request.look != 0 {
        reply.seen = left_here(core, request.look)
            .await?
            .map(|left| leases_reply::Seen {
                ttl: left.granted,
                left_ms: u64::try_from(left.left.as_millis()).unwrap_or(u64::MAX),
            });
    }
    Ok(reply)
}

/// Ends leases that are over, and notes what is left of the others, while this member leads and until the node stops.
pub(super) async fn look_after<R: AsyncRuntime>(core: Arc<Core>) {
    while !core.is_stopping() {
        R::sleep(LOOK).await;
        core.follow_leadership();
        let now = core.clock.now();
        let submit = |op| {
            core.proposals
                .submit(command(&core, op), now, COMMAND, None)
        };
        if let Some((term, over)) = core.lessor.over(now, ENDED_AT_ONCE) {
            core.metrics.leases_expired.inc_by(over.len() as u64);
            for id in over {
                // Nobody waits: what has no effect is told again.
                drop(submit(Op::LeaseExpiry(LeaseExpiry { id, term })));
            }
        }
        if let Some((term, left)) = core.lessor.checkpoints(now, NOTED_AT_ONCE)
            && !left.is_empty()
        {
            drop(submit(note(term, &left)));
        }
    }
}
