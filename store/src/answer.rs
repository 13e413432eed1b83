//! What applying a command answers. Every node computes the same answer: it is data, not a fault.

use proto::etcd::etcdserverpb::{CompactionResponse, DeleteRangeResponse, PutResponse, TxnResponse};

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
}

/// Why a well-formed request was not carried out. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// A put named a lease that does not exist.
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
    /// The revision does not exist yet.
    #[error("revision {requested} is in the future (current: {current})")]
    FutureRevision {
        /// What was asked for.
        requested: i64,
        /// The newest revision.
        current: i64,
    },
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
