//! How the leader sees the other members: which of them answer, and how far each is. The others ask it.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{AsyncRuntime, Instant as _, ServerState};
use parking_lot::Mutex;
use proto::peer::HealthRequest;

use super::{Core, RaftOf, wire};
use crate::node::{CallError, PeerStatus, SeenByLeader};
use crate::peer::{LinkError, Transport};

/// How long the leader may take to say how it sees the others.
const ANSWER: Duration = Duration::from_secs(2);

/// Since when each peer answers the heartbeats of this member, while it leads.
#[derive(Default)]
pub(crate) struct Connections(Mutex<BTreeMap<u64, Duration>>);

/// Notes who answers. Silence longer than `patience` breaks a connection.
pub(super) fn note<R: AsyncRuntime>(raft: &RaftOf<R>, core: &Core, patience: Duration) {
    let now = core.clock.now();
    let receiver = raft.metrics();
    let metrics = receiver.borrow_watched();
    let mut connections = core.connections.0.lock();
    let heartbeats = metrics.heartbeat.as_ref();
    connections.retain(|id, _| heartbeats.is_some_and(|all| all.contains_key(id)));
    for (&id, answered) in heartbeats.into_iter().flatten() {
        if answered.is_some_and(|at| at.elapsed() < patience) {
            connections.entry(id).or_insert(now);
        } else {
            connections.remove(&id);
        }
    }
}

/// How this member sees the others, if it leads.
pub(super) fn seen<R: AsyncRuntime>(raft: &RaftOf<R>, core: &Core) -> Option<SeenByLeader> {
    let now = core.clock.now();
    let receiver = raft.metrics();
    let metrics = receiver.borrow_watched();
    if metrics.state != ServerState::Leader {
        return None;
    }
    let connections = core.connections.0.lock();
    let matched = |id: &u64| {
        let replicated = metrics.replication.as_ref()?.get(id)?;
        Some(replicated.as_ref()?.index)
    };
    // Raft follows the table: who has just been added is not in its configuration yet.
    let members = core.reader.view().members.clone();
    let others = members.iter().map(|member| member.id);
    let peers = others
        .filter(|id| *id != core.member_id)
        .map(|id| PeerStatus {
            id,
            is_connected: connections.contains_key(&id),
            connected_for: connections
                .get(&id)
                .map_or(Duration::ZERO, |&since| now.saturating_sub(since)),
            matched_index: matched(&id).unwrap_or(0),
        });
    Some(SeenByLeader {
        leader: core.member_id,
        last_index: metrics.last_log_index.unwrap_or(0),
        peers: peers.collect(),
    })
}

/// How the leader sees the others, whoever leads. Nothing is changed by asking.
pub(super) async fn ask<R: AsyncRuntime>(
    raft: &RaftOf<R>,
    core: &Core,
    transport: &dyn Transport,
) -> Result<SeenByLeader, CallError> {
    let leader = core.leader().ok_or(CallError::NoLeader)?;
    if leader == core.member_id {
        return seen::<R>(raft, core).ok_or(CallError::NoLeader);
    }
    let asked = transport.control(leader).health(HealthRequest {});
    match R::timeout(ANSWER, asked).await {
        Ok(Ok(reply)) => Ok(wire::seen_by_leader(leader, &reply)),
        Ok(Err(LinkError::NotConnected(_))) => Err(CallError::NoLeader),
        Ok(Err(_)) => Err(CallError::LeaderChanged),
        Err(_) => Err(CallError::Timeout),
    }
}
