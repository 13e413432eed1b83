//! What applying a command answers. Every node computes the same answer: it is data, not a fault.

use proto::etcd::etcdserverpb::response_op::Response;
use proto::etcd::etcdserverpb::{
    AlarmResponse, CompactionResponse, DeleteRangeResponse, LeaseGrantResponse,
    LeaseRevokeResponse, Member, PutResponse, TxnResponse,
};

/// The outcome of one command. Response headers carry only `revision`; the server fills in the rest.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Of a put.
    Put(PutResponse),
    /// Of a range delete.
    DeleteRange(DeleteRangeResponse),
    /// Of a transaction.
    Txn(TxnResponse),
    /// Of a compaction.
    Compact(CompactionResponse),
    /// Of a change of alarms.
    Alarm(AlarmResponse),
    /// Of a change of members: all of them, by id.
    Members(Vec<Member>),
    /// Of a grant of a lease.
    LeaseGrant(LeaseGrantResponse),
    /// Of the end of a lease: asked for, or because its time was up.
    LeaseRevoke(LeaseRevokeResponse),
    /// Of a checkpoint of leases.
    LeaseCheckpoints,
}

/// Why a well-formed request was not carried out. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// A lease has the id of one that is there.
    #[error("there is a lease {0:x} already")]
    LeaseExists(i64),
    /// What a leader told of leases came into the log of another one.
    #[error("the leader that told it leads no more")]
    LeaderGone,
    /// A put, or the end of a lease, named one that does not exist.
    #[error("lease {0} not found")]
    LeaseNotFound(i64),
    /// The revision is gone.
    #[error("revision {requested} is compacted (up to {compacted})")]
    Compacted {
        /// What was asked for.
        requested: i64,
        /// The oldest revision that can be read.
        compacted: i64,
    },
    /// The keys and values to answer are more than [`ANSWER_BYTES`](crate::mvcc::room::ANSWER_BYTES).
    #[error("the answer would be too long")]
    AnswerTooLong,
    /// The revision does not exist yet.
    #[error("revision {requested} is in the future (current: {current})")]
    FutureRevision {
        /// What was asked for.
        requested: i64,
        /// The newest revision.
        current: i64,
    },
    /// The alarm `NOSPACE` is on, and the command would need space.
    #[error("the space alarm is on")]
    NoSpace,
    /// The alarm `CORRUPT` is on.
    #[error("the corruption alarm is on")]
    Corrupt,
    /// A new member has the id of one that is there.
    #[error("there is a member {0:x} already")]
    MemberExists(u64),
    /// An address belongs to another member.
    #[error("another member has the peer URL {0}")]
    PeerUrlExists(String),
    /// No member has this id.
    #[error("there is no member {0:x}")]
    MemberNotFound(u64),
    /// A member had this id, and nobody will have it again.
    #[error("member {0:x} was removed")]
    MemberRemoved(u64),
    /// Promoted was a member that votes already.
    #[error("member {0:x} is not a learner")]
    MemberNotLearner(u64),
    /// More learners than the proposer allows.
    #[error("there are learners enough")]
    TooManyLearners,
    /// Nobody that votes would be left, or was there before the first member was added.
    #[error("no member votes")]
    NoVoter,
}

/// An answer and who waits for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The member that received the request.
    pub member: u64,
    /// That member's boot counter when it did.
    pub boot: u64,
    /// Its number for the request.
    pub sequence: u64,
    /// The outcome.
    pub outcome: Result<Answer, Refusal>,
}

/// How many operations were carried out, those inside of transactions included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Puts.
    pub puts: u64,
    /// Range deletes, whatever they found.
    pub deletes: u64,
    /// Ranges inside of transactions.
    pub ranges: u64,
    /// Transactions of more than one operation, those nested in them counted as theirs.
    pub txns: u64,
}

impl Operations {
    /// Adds those that an answer tells of.
    pub fn add(&mut self, answer: &Answer) {
        match answer {
            Answer::Put(_) => self.puts += 1,
            Answer::DeleteRange(_) => self.deletes += 1,
            Answer::Txn(response) => self.add_txn(response),
            Answer::Compact(_)
            | Answer::Alarm(_)
            | Answer::Members(_)
            | Answer::LeaseGrant(_)
            | Answer::LeaseRevoke(_)
            | Answer::LeaseCheckpoints => {}
        }
    }

    /// Adds a transaction.
    pub fn add_txn(&mut self, response: &TxnResponse) {
        self.txns += u64::from(self.add_responses(response) > 1);
    }

    fn add_responses(&mut self, response: &TxnResponse) -> usize {
        let responses = response.responses.iter().map(|op| match &op.response {
            Some(Response::ResponseRange(_)) => {
                self.ranges += 1;
                1
            }
            Some(Response::ResponsePut(_)) => {
                self.puts += 1;
                1
            }
            Some(Response::ResponseDeleteRange(_)) => {
                self.deletes += 1;
                1
            }
            Some(Response::ResponseTxn(response)) => self.add_responses(response),
            None => 0,
        });
        responses.sum()
    }
}

#[cfg(test)]
mod tests {
    use proto::etcd::etcdserverpb::{ResponseOp, TxnResponse};

    use super::*;

    fn txn(responses: Vec<Response>) -> TxnResponse {
        let responses = responses.into_iter().map(|response| ResponseOp {
            response: Some(response),
        });
        TxnResponse {
            responses: responses.collect(),
            ..Default::default()
        }
    }

    #[test]
    fn operations_are_counted_inside_of_transactions_too() {
        let put = || Response::ResponsePut(PutResponse::default());
        let range = || Response::ResponseRange(Default::default());
        let nested = || Response::ResponseTxn(txn(vec![range(), put()]));
        let mut operations = Operations::default();
        operations.add(&Answer::Put(PutResponse::default()));
        operations.add(&Answer::Txn(txn(vec![put()])));
        operations.add(&Answer::Txn(txn(vec![nested()])));
        operations.add(&Answer::Txn(txn(vec![])));
        let expected = Operations {
            puts: 3,
            deletes: 0,
            ranges: 1,
            txns: 1,
        };
        assert_eq!(operations, expected);
    }
}
