//! openraft's type configuration, and the store's types to openraft's and back.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use openraft::impls::leader_id_std::LeaderId;
use openraft::impls::{BoxedErrorSource, EmptyNode, InlineBatch, Vote as RaftVote};
use openraft::vote::RaftLeaderId;
use openraft::{AsyncRuntime, EntryPayload, OptionalSend, RaftTypeConfig};

use super::proposer::Responder;

/// The type configuration, over the runtime: tokio, or the simulation's.
pub struct Types<R>(PhantomData<fn() -> R>);

// Derived, these would ask the same of the runtime, which is never a value.
impl<R> Clone for Types<R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Types<R> {}
impl<R> Default for Types<R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}
impl<R> PartialEq for Types<R> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<R> Eq for Types<R> {}
impl<R> PartialOrd for Types<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<R> Ord for Types<R> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}
impl<R> fmt::Debug for Types<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}

impl<R: AsyncRuntime> RaftTypeConfig for Types<R> {
    type D = Commands;
    type R = ();
    type NodeId = u64;
    type Node = EmptyNode;
    type Term = u64;
    // One leader in a term; openraft's default lets two share one.
    type LeaderId = LeaderId<u64, u64>;
    type Vote = RaftVote<Self::LeaderId>;
    type Payload = EntryPayload<Commands, u64, EmptyNode>;
    type Entry = openraft::Entry<Leader, Self::Payload>;
    type AsyncRuntime = R;
    type Responder<T>
        = Responder<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// The leader that a log id names: its term says it all.
type Leader = <LeaderId<u64, u64> as RaftLeaderId>::Committed;

/// An encoded batch of commands: what one normal entry carries.
#[derive(Clone, PartialEq, Eq)]
pub struct Commands(pub Bytes);

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commands({} bytes)", self.0.len())
    }
}

impl fmt::Display for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// openraft's entry.
pub(super) type RaftEntry = openraft::Entry<Leader, EntryPayload<Commands, u64, EmptyNode>>;
/// openraft's log id.
pub(super) type RaftLogId = openraft::LogId<Leader>;
/// openraft's membership with the position that set it.
pub(super) type RaftStoredMembership = openraft::StoredMembership<Leader, u64, EmptyNode>;
pub(super) type RaftMembership = openraft::Membership<u64, EmptyNode>;
/// openraft's vote.
pub(super) type Ballot = RaftVote<LeaderId<u64, u64>>;

pub(super) fn raft_id(id: store::LogId) -> RaftLogId {
    openraft::LogId::new_term_index(id.term, id.index)
}

pub(super) fn store_id(id: &RaftLogId) -> store::LogId {
    store::LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub(super) fn raft_vote(vote: store::Vote) -> Option<Ballot> {
    let leader_id = LeaderId {
        term: vote.term,
        voted_for: vote.voted_for?,
    };
    Some(RaftVote {
        leader_id,
        committed: vote.committed,
    })
}

pub(super) fn store_vote(vote: &Ballot) -> store::Vote {
    store::Vote {
        term: vote.leader_id.term,
        voted_for: Some(vote.leader_id.voted_for),
        committed: vote.committed,
    }
}

pub(super) fn raft_membership(membership: &store::Membership) -> RaftMembership {
    RaftMembership::new_with_defaults(
        membership.voters.clone(),
        membership.members.iter().copied(),
    )
}

pub(super) fn store_membership(membership: &RaftMembership) -> store::Membership {
    store::Membership {
        voters: membership.get_joint_config().clone(),
        members: membership.nodes().map(|(&id, _)| id).collect(),
    }
}

pub(super) fn membership_message(membership: &RaftMembership) -> proto::command::Membership {
    store_membership(membership).message()
}

pub(super) fn raft_membership_of(message: proto::command::Membership) -> RaftMembership {
    raft_membership(&store::Membership::from_message(message))
}

pub(super) fn raft_stored_membership(stored: &store::StoredMembership) -> RaftStoredMembership {
    RaftStoredMembership::new(
        stored.log_id.map(raft_id),
        raft_membership(&stored.membership),
    )
}

pub(super) fn store_entry(entry: RaftEntry) -> store::Entry {
    let payload = match entry.payload {
        EntryPayload::Blank => store::Payload::Blank,
        EntryPayload::Normal(commands) => store::Payload::Commands(commands.0),
        EntryPayload::Membership(membership) => {
            store::Payload::Membership(store_membership(&membership))
        }
    };
    store::Entry {
        id: store_id(&entry.log_id),
        payload,
    }
}

pub(super) fn raft_entry(entry: store::Entry) -> RaftEntry {
    let payload = match entry.payload {
        store::Payload::Blank => EntryPayload::Blank,
        store::Payload::Commands(encoded) => EntryPayload::Normal(Commands(encoded)),
        store::Payload::Membership(membership) => {
            EntryPayload::Membership(raft_membership(&membership))
        }
    };
    RaftEntry {
        log_id: raft_id(entry.id),
        payload,
    }
}
