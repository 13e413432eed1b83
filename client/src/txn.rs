//! Transactions: if all of this holds then do that, else the other, at one revision.

use bytes::Bytes;
use proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::response_op::Response;
use proto::etcd::etcdserverpb::{
    self as wire, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest,
};

use crate::kv::{range_request, revision};
use crate::{Client, Deleted, Error, Keys, List, ListOptions};

/// A transaction in the making.
///
/// ```
/// use client::{Compare, CompareResult, Op, Txn};
/// // Writes only if nobody has changed the key since revision 7; answers with the key otherwise.
/// let update = Txn::new()
///     .when(Compare::mod_revision("config", CompareResult::Equal, 7))
///     .then(Op::put("config", "new"))
///     .otherwise(Op::get("config"));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Txn {
    request: TxnRequest,
}

impl Txn {
    /// A transaction that does nothing yet.
    pub fn new() -> Txn {
        Txn::default()
    }

    /// Adds a condition. All of them must hold.
    pub fn when(mut self, compare: Compare) -> Txn {
        self.request.compare.push(compare.0);
        self
    }

    /// Adds something to do if the conditions hold.
    pub fn then(mut self, op: Op) -> Txn {
        self.request.success.push(op.0);
        self
    }

    /// Adds something to do if they do not.
    pub fn otherwise(mut self, op: Op) -> Txn {
        self.request.failure.push(op.0);
        self
    }
}

/// A condition on a key, or on every key of an interval. A missing key has revisions, version and lease 0, and no
/// condition on its value holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Compare(wire::Compare);

impl Compare {
    /// On the revision of the last write; 0 where there is no key.
    pub fn mod_revision(keys: impl Into<Keys>, result: CompareResult, than: i64) -> Compare {
        Compare::new(
            keys.into(),
            result,
            CompareTarget::Mod,
            TargetUnion::ModRevision(than),
        )
    }

    /// On the revision of the creation.
    pub fn create_revision(keys: impl Into<Keys>, result: CompareResult, than: i64) -> Compare {
        Compare::new(
            keys.into(),
            result,
            CompareTarget::Create,
            TargetUnion::CreateRevision(than),
        )
    }

    /// On the number of writes since creation.
    pub fn version(keys: impl Into<Keys>, result: CompareResult, than: i64) -> Compare {
        Compare::new(
            keys.into(),
            result,
            CompareTarget::Version,
            TargetUnion::Version(than),
        )
    }

    /// On the value, byte by byte.
    pub fn value(keys: impl Into<Keys>, result: CompareResult, than: impl Into<Bytes>) -> Compare {
        Compare::new(
            keys.into(),
            result,
            CompareTarget::Value,
            TargetUnion::Value(than.into()),
        )
    }

    /// On the lease.
    pub fn lease(keys: impl Into<Keys>, result: CompareResult, than: i64) -> Compare {
        Compare::new(
            keys.into(),
            result,
            CompareTarget::Lease,
            TargetUnion::Lease(than),
        )
    }

    fn new(keys: Keys, result: CompareResult, target: CompareTarget, than: TargetUnion) -> Compare {
        let (key, range_end) = keys.into_wire();
        Compare(wire::Compare {
            result: result.into(),
            target: target.into(),
            key,
            range_end,
            target_union: Some(than),
        })
    }
}

/// One thing that a transaction does.
#[derive(Clone, Debug, PartialEq)]
pub struct Op(RequestOp);

impl Op {
    /// Reads keys, as the operations before have left them.
    pub fn get(keys: impl Into<Keys>) -> Op {
        Op::new(Request::RequestRange(range_request(
            keys.into(),
            ListOptions::default(),
        )))
    }

    /// Writes a key.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Op {
        Op::new(Request::RequestPut(PutRequest {
            key: key.into(),
            value: value.into(),
            ..PutRequest::default()
        }))
    }

    /// Deletes keys.
    pub fn delete(keys: impl Into<Keys>) -> Op {
        let (key, range_end) = keys.into().into_wire();
        Op::new(Request::RequestDeleteRange(DeleteRangeRequest {
            key,
            range_end,
            prev_kv: false,
        }))
    }

    fn new(request: Request) -> Op {
        Op(RequestOp {
            request: Some(request),
        })
    }
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq)]
pub struct TxnAnswer {
    /// The revision it made; the current one if it changed nothing.
    pub revision: i64,
    /// Whether the conditions held.
    pub succeeded: bool,
    /// The answers to the operations of the branch taken, in their order.
    pub answers: Vec<OpAnswer>,
}

/// The answer to one operation of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum OpAnswer {
    /// To [`Op::get`].
    Get(List),
    /// To [`Op::put`].
    Put,
    /// To [`Op::delete`].
    Delete(Deleted),
}

impl Client {
    /// Carries a transaction out, all of it or nothing.
    ///
    /// # Errors
    /// After [`Error::Unknown`] it may have been carried out. That conditions do not hold is no error.
    pub async fn txn(&self, txn: Txn) -> Result<TxnAnswer, Error> {
        let answer = self.answer(self.kv().txn(txn.request)).await?;
        let answers = answer.responses.into_iter().map(|op| match op.response {
            Some(Response::ResponseRange(range)) => Ok(OpAnswer::Get(range.into())),
            Some(Response::ResponsePut(_)) => Ok(OpAnswer::Put),
            Some(Response::ResponseDeleteRange(delete)) => Ok(OpAnswer::Delete(delete.into())),
            Some(Response::ResponseTxn(_)) | None => Err(Error::Protocol(
                "a transaction's answer to an operation it did not have",
            )),
        });
        Ok(TxnAnswer {
            revision: revision(&answer.header),
            succeeded: answer.succeeded,
            answers: answers.collect::<Result<_, _>>()?,
        })
    }
}
