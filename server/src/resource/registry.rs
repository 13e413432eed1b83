//! Objects in the store: read at a revision, and written by transactions that compare revisions.

use std::time::Duration;

use bytes::Bytes;
use machinery::status::Status;
use proto::command::command::Op;
use proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::request_op::Request as Operation;
use proto::etcd::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use store::{Answer, Reader, Record, View};

use super::error;
use super::stored::Stored;
use crate::node::{Call, Node};

/// Between two looks for a revision that this member has not applied yet.
const LOOK: Duration = Duration::from_millis(10);

/// How long a read waits for a revision that is not there yet.
const PATIENCE: Duration = Duration::from_secs(3);

/// Access to all objects.
#[derive(Clone)]
pub(super) struct Registry {
    pub(super) node: Node,
    pub(super) timeout: Duration,
}

/// What a list found.
pub(super) struct Found {
    pub(super) records: Vec<Record>,
    /// Of all that are in the range.
    pub(super) count: i64,
    /// Whether the limit left any out.
    pub(super) has_more: bool,
}

impl Registry {
    fn call(&self) -> Call {
        Call::new(self.timeout)
    }

    pub(super) fn reader(&self) -> &Reader {
        self.node.reader()
    }

    /// Returns once everything acknowledged before can be seen here.
    pub(super) async fn barrier(&self) -> Result<(), Status> {
        let call = self.call();
        self.node.read_barrier(&call).await.map_err(error::of_read)
    }

    /// Returns once a revision can be seen here.
    pub(super) async fn reach(&self, revision: i64) -> Result<(), Status> {
        if self.reader().view().revision >= revision {
            return Ok(());
        }
        self.barrier().await?;
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let current = self.reader().view().revision;
            if current >= revision {
                return Ok(());
            }
            if tokio::time::Instant::now() >= until {
                return Err(error::too_large(revision, current));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// An object as this member knows it now; none if there is none.
    pub(super) fn look(&self, key: &str) -> Result<Option<Stored>, Status> {
        self.look_at(&self.reader().view(), key)
    }

    pub(super) fn look_at(&self, view: &View, key: &str) -> Result<Option<Stored>, Status> {
        let request = RangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..RangeRequest::default()
        };
        let found = self.range(view, &request)?;
        Ok(found.records.first().map(Stored::of))
    }

    /// An object as of now; none if there is none.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Stored>, Status> {
        self.barrier().await?;
        self.look(key)
    }

    pub(super) fn range(&self, view: &View, request: &RangeRequest) -> Result<Found, Status> {
        match self.reader().range(view, request) {
            Ok(Ok(answer)) => Ok(Found {
                records: answer.records,
                count: answer.count,
                has_more: answer.more,
            }),
            Ok(Err(refusal)) => Err(error::of_refusal(&refusal)),
            Err(error) => {
                self.node
                    .stop_for(format!("an object cannot be read: {error}"));
                Err(error::broken())
            }
        }
    }

    /// All objects whose keys begin with a prefix, as this member knows them now.
    pub(super) fn all(&self, prefix: &str) -> Result<Vec<Record>, Status> {
        self.all_at(&self.reader().view(), prefix)
    }

    /// The same, as of a view.
    pub(super) fn all_at(&self, view: &View, prefix: &str) -> Result<Vec<Record>, Status> {
        let request = RangeRequest {
            key: Bytes::copy_from_slice(prefix.as_bytes()),
            range_end: end_of_prefix(prefix),
            ..RangeRequest::default()
        };
        Ok(self.range(view, &request)?.records)
    }

    /// Carries out a change if what it compares holds: the revision that it got, or none if something does not hold.
    pub(super) async fn commit(&self, change: Change) -> Result<Option<i64>, Status> {
        let request = TxnRequest {
            compare: change.compares,
            success: change.operations,
            failure: Vec::new(),
        };
        let answered = self.node.propose(&self.call(), Op::Txn(request)).await;
        match answered.map_err(error::of_call)? {
            Answer::Txn(answer) => {
                let revision = answer.header.map_or(0, |header| header.revision);
                Ok(answer.succeeded.then_some(revision))
            }
            _ => Err(error::broken()),
        }
    }

    /// A lease of so many seconds.
    pub(super) async fn grant(&self, ttl: i64) -> Result<i64, Status> {
        // Positive, and 0 is none.
        let id = i64::from_be_bytes(super::random()) & i64::MAX | 1;
        let op = Op::LeaseGrant(LeaseGrantRequest { ttl, id });
        let granted = self.node.propose(&self.call(), op).await;
        match granted.map_err(error::of_call)? {
            Answer::LeaseGrant(granted) => Ok(granted.id),
            _ => Err(error::broken()),
        }
    }
}

/// The end of the range of all keys with a prefix, which is never empty and of plain text.
pub(super) fn end_of_prefix(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// Something to be carried out whole, or not at all.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    compares: Vec<Compare>,
    operations: Vec<RequestOp>,
}

impl Change {
    /// Only while a key is at a revision; 0: while it is not there.
    pub(super) fn only_at(&mut self, key: &str, revision: i64) -> &mut Self {
        self.compares.push(Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Mod as i32,
            key: Bytes::copy_from_slice(key.as_bytes()),
            target_union: Some(TargetUnion::ModRevision(revision)),
            ..Compare::default()
        });
        self
    }

    pub(super) fn put(&mut self, key: &str, value: Bytes, lease: i64) -> &mut Self {
        let put = PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value,
            lease,
            ..PutRequest::default()
        };
        self.operation(Operation::RequestPut(put))
    }

    pub(super) fn delete(&mut self, key: &str) -> &mut Self {
        let delete = DeleteRangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..DeleteRangeRequest::default()
        };
        self.operation(Operation::RequestDeleteRange(delete))
    }

    fn operation(&mut self, request: Operation) -> &mut Self {
        self.operations.push(RequestOp {
            request: Some(request),
        });
        self
    }
}
