//! What the raft log holds and the state machine applies: positions, payloads, membership.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use proto::command;

/// A position in the raft log. Two entries with equal ids are the same entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The leader's term; one term has one leader.
    pub term: u64,
    /// The place in the log.
    pub index: u64,
}

/// A vote as raft persists it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The term voted in.
    pub term: u64,
    /// For whom, if for anybody.
    pub voted_for: Option<u64>,
    /// Whether a quorum granted it: the member leads or is led in this term.
    pub committed: bool,
}

/// Who takes part in consensus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// One set of voters, or two while a change is under way.
    pub voters: Vec<BTreeSet<u64>>,
    /// Every member, learners included.
    pub members: BTreeSet<u64>,
}

/// One raft entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its position.
    pub id: LogId,
    /// What it does.
    pub payload: Payload,
}

/// What a raft entry does when it is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Blank,
    /// An encoded `proto::command::Batch`.
    Commands(Bytes),
    /// A change of membership.
    Membership(Membership),
}

impl Membership {
    /// The durable form.
    pub fn encode(&self) -> Bytes {
        self.message().encode_to_vec().into()
    }

    /// Reads the durable form.
    pub fn decode(encoded: &[u8]) -> Result<Self, prost::DecodeError> {
        command::Membership::decode(encoded).map(Self::from_message)
    }

    /// As it is kept and sent.
    pub fn message(&self) -> command::Membership {
        command::Membership {
            voters: self
                .voters
                .iter()
                .map(|ids| command::membership::Voters {
                    ids: ids.iter().copied().collect(),
                })
                .collect(),
            members: self.members.iter().copied().collect(),
        }
    }

    /// What was kept or sent.
    pub fn from_message(message: command::Membership) -> Self {
        Self {
            voters: message
                .voters
                .into_iter()
                .map(|voters| voters.ids.into_iter().collect())
                .collect(),
            members: message.members.into_iter().collect(),
        }
    }
}
