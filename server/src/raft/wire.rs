//! openraft's messages to those of the peer protocol and back.

use std::time::Duration;

use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest as RaftTransfer, VoteRequest as RaftVoteRequest, VoteResponse,
};
use openraft::{AsyncRuntime, EntryPayload};
use proto::peer::append_reply::{Matched, Result as Appended};
use proto::peer::health_reply::Seen;
use proto::peer::{
    AppendReply, AppendRequest, Entry, HealthReply, LogId, TransferLeaderRequest, Vote, VoteReply,
    VoteRequest, entry::Payload,
};

use super::types::{
    Ballot, Commands, RaftEntry, RaftLogId, Types, membership_message, raft_membership_of,
};
use crate::node::{PeerStatus, SeenByLeader};

/// How a leader sees the others.
pub(super) fn health_reply(seen: &SeenByLeader) -> HealthReply {
    let peers = seen.peers.iter().map(|peer| Seen {
        id: peer.id,
        is_connected: peer.is_connected,
        connected_for_ms: u64::try_from(peer.connected_for.as_millis()).unwrap_or(u64::MAX),
        matched_index: peer.matched_index,
    });
    HealthReply {
        last_index: seen.last_index,
        peers: peers.collect(),
    }
}

pub(super) fn seen_by_leader(leader: u64, reply: &HealthReply) -> SeenByLeader {
    let peers = reply.peers.iter().map(|peer| PeerStatus {
        id: peer.id,
        is_connected: peer.is_connected,
        connected_for: Duration::from_millis(peer.connected_for_ms),
        matched_index: peer.matched_index,
    });
    SeenByLeader {
        leader,
        last_index: reply.last_index,
        peers: peers.collect(),
    }
}

/// A message that no member of this version sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message without {0}")]
pub(super) struct Incomplete(&'static str);

pub(super) fn log_id(id: &RaftLogId) -> LogId {
    LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub(super) fn raft_log_id(id: LogId) -> RaftLogId {
    openraft::LogId::new_term_index(id.term, id.index)
}

pub(super) fn vote(vote: &Ballot) -> Vote {
    Vote {
        term: vote.leader_id.term,
        voted_for: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(super) fn ballot(vote: Option<Vote>) -> Result<Ballot, Incomplete> {
    let vote = vote.ok_or(Incomplete("a vote"))?;
    let stored = store::Vote {
        term: vote.term,
        voted_for: Some(vote.voted_for),
        committed: vote.committed,
    };
    super::types::raft_vote(stored).ok_or(Incomplete("a candidate"))
}

fn entry(entry: RaftEntry) -> Entry {
    let payload = match entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(commands) => Some(Payload::Commands(commands.0)),
        EntryPayload::Membership(membership) => {
            Some(Payload::Membership(membership_message(&membership)))
        }
    };
    Entry {
        id: Some(log_id(&entry.log_id)),
        payload,
    }
}

fn raft_entry(entry: Entry) -> Result<RaftEntry, Incomplete> {
    let payload = match entry.payload {
        None => EntryPayload::Blank,
        Some(Payload::Commands(encoded)) => EntryPayload::Normal(Commands(encoded)),
        Some(Payload::Membership(membership)) => {
            EntryPayload::Membership(raft_membership_of(membership))
        }
    };
    Ok(RaftEntry {
        log_id: raft_log_id(entry.id.ok_or(Incomplete("an entry's id"))?),
        payload,
    })
}

pub(super) fn append_request<R: AsyncRuntime>(
    request: AppendEntriesRequest<Types<R>>,
) -> AppendRequest {
    AppendRequest {
        vote: Some(vote(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id),
        entries: request.entries.into_iter().map(entry).collect(),
        committed: request.leader_commit.as_ref().map(log_id),
    }
}

pub(super) fn raft_append_request<R: AsyncRuntime>(
    request: AppendRequest,
) -> Result<AppendEntriesRequest<Types<R>>, Incomplete> {
    Ok(AppendEntriesRequest {
        vote: ballot(request.vote)?,
        prev_log_id: request.previous.map(raft_log_id),
        entries: request
            .entries
            .into_iter()
            .map(raft_entry)
            .collect::<Result<_, _>>()?,
        leader_commit: request.committed.map(raft_log_id),
    })
}

pub(super) fn append_reply<R: AsyncRuntime>(result: &StreamAppendResult<Types<R>>) -> AppendReply {
    let result = match result {
        Ok(last) => Appended::Matched(Matched {
            last: last.as_ref().map(log_id),
        }),
        Err(StreamAppendError::Conflict(id)) => Appended::Conflict(log_id(id)),
        Err(StreamAppendError::HigherVote(higher)) => Appended::Higher(vote(higher)),
    };
    AppendReply {
        result: Some(result),
    }
}

pub(super) fn append_result<R: AsyncRuntime>(
    reply: AppendReply,
) -> Result<StreamAppendResult<Types<R>>, Incomplete> {
    Ok(match reply.result.ok_or(Incomplete("a result"))? {
        Appended::Matched(matched) => Ok(matched.last.map(raft_log_id)),
        Appended::Conflict(id) => Err(StreamAppendError::Conflict(raft_log_id(id))),
        Appended::Higher(higher) => Err(StreamAppendError::HigherVote(ballot(Some(higher))?)),
    })
}

pub(super) fn vote_request<R: AsyncRuntime>(
    request: &RaftVoteRequest<Types<R>>,
    is_pre_vote: bool,
) -> VoteRequest {
    VoteRequest {
        vote: Some(vote(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id),
        is_transfer: request.leadership_transfer,
        is_pre_vote,
    }
}

pub(super) fn raft_vote_request<R: AsyncRuntime>(
    request: VoteRequest,
) -> Result<RaftVoteRequest<Types<R>>, Incomplete> {
    Ok(RaftVoteRequest {
        vote: ballot(request.vote)?,
        last_log_id: request.last.map(raft_log_id),
        leadership_transfer: request.is_transfer,
    })
}

pub(super) fn vote_reply<R: AsyncRuntime>(response: &VoteResponse<Types<R>>) -> VoteReply {
    VoteReply {
        vote: Some(vote(&response.vote)),
        is_granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(log_id),
    }
}

pub(super) fn vote_response<R: AsyncRuntime>(
    reply: VoteReply,
) -> Result<VoteResponse<Types<R>>, Incomplete> {
    Ok(VoteResponse {
        vote: ballot(reply.vote)?,
        vote_granted: reply.is_granted,
        last_log_id: reply.last.map(raft_log_id),
    })
}

pub(super) fn transfer_request<R: AsyncRuntime>(
    request: &RaftTransfer<Types<R>>,
) -> TransferLeaderRequest {
    TransferLeaderRequest {
        vote: Some(vote(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(log_id),
    }
}

pub(super) fn raft_transfer_request<R: AsyncRuntime>(
    request: TransferLeaderRequest,
) -> Result<RaftTransfer<Types<R>>, Incomplete> {
    Ok(RaftTransfer::new(
        ballot(request.vote)?,
        request.to,
        request.last.map(raft_log_id),
    ))
}

#[cfg(test)]
mod tests {
    use openraft::impls::TokioRuntime;

    use super::*;

    #[test]
    fn entries_survive_the_way() {
        let membership = store::Membership {
            voters: vec![[1, 2].into(), [2, 3].into()],
            members: [1, 2, 3, 4].into(),
        };
        let payloads = [
            store::Payload::Blank,
            store::Payload::Commands(vec![1, 2, 3].into()),
            store::Payload::Membership(membership),
        ];
        let entries = payloads.into_iter().enumerate().map(|(number, payload)| {
            super::super::types::raft_entry(store::Entry {
                id: store::LogId {
                    term: 7,
                    index: number as u64,
                },
                payload,
            })
        });
        let ballot = ballot(Some(Vote {
            term: 7,
            voted_for: 3,
            committed: true,
        }));
        let sent = AppendEntriesRequest::<Types<TokioRuntime>> {
            vote: ballot.unwrap(),
            prev_log_id: None,
            entries: entries.collect(),
            leader_commit: Some(raft_log_id(LogId { term: 6, index: 9 })),
        };
        let received = raft_append_request::<TokioRuntime>(append_request(sent.clone())).unwrap();
        assert_eq!(received.vote, sent.vote);
        assert_eq!(received.prev_log_id, sent.prev_log_id);
        assert_eq!(received.entries, sent.entries);
        assert_eq!(received.leader_commit, sent.leader_commit);
    }

    #[test]
    fn what_is_missing_is_said() {
        let Err(error) = raft_append_request::<TokioRuntime>(AppendRequest::default()) else {
            panic!("accepted");
        };
        assert_eq!(error.to_string(), "a message without a vote");
    }
}
