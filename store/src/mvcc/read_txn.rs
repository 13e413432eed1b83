//! Transactions that only read: evaluated on one view, by the rules of those that write.

use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::response_op::Response;
use proto::etcd::etcdserverpb::{
    RangeResponse, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};

use super::range::{self, RangeTotals, Source};
use super::txn::{self, Path, PathStep};
use super::writer::header;
use crate::answer::Refusal;
use crate::error::StoreError;
use crate::record::Record;

/// The lowest past revision that a range of a transaction names, on whatever branch.
pub(crate) fn lowest_revision(request: &TxnRequest) -> Option<i64> {
    let ops = request.success.iter().chain(&request.failure);
    let named = ops.filter_map(|op| match op.request.as_ref()? {
        Request::RequestRange(range) => Some(range.revision).filter(|&revision| revision > 0),
        Request::RequestTxn(nested) => lowest_revision(nested),
        Request::RequestPut(_) | Request::RequestDeleteRange(_) => None,
    });
    named.min()
}

/// Evaluates a transaction. Operations that would write are left unanswered: whoever calls has ruled them out.
pub(crate) fn read_txn(
    source: &Source<'_>,
    request: &TxnRequest,
) -> Result<Result<TxnResponse, Refusal>, StoreError> {
    let path = txn::choose(source, request)?;
    // All or nothing: the whole path is checked before anything of it is read.
    if let Err(refusal) = check(source, &path) {
        return Ok(Err(refusal));
    }
    let mut response = run(source, &path)?;
    response.header = header(source.revision);
    Ok(Ok(response))
}

fn check(source: &Source<'_>, path: &Path<'_>) -> Result<(), Refusal> {
    path.steps.iter().try_for_each(|step| match step {
        PathStep::Range(request) => txn::check_range(source, request),
        PathStep::Txn(path) => check(source, path),
        PathStep::Put(_) | PathStep::DeleteRange(_) | PathStep::Nothing => Ok(()),
    })
}

fn run(source: &Source<'_>, path: &Path<'_>) -> Result<TxnResponse, StoreError> {
    let mut responses = Vec::with_capacity(path.steps.len());
    for step in &path.steps {
        let response = match step {
            PathStep::Range(request) => {
                let mut kvs = Vec::new();
                let mut visit = |record: &Record| kvs.push(record.to_key_value());
                // Revisions were checked above.
                let RangeTotals { count, more } =
                    range::range(source, request, &mut visit)?.unwrap_or_default();
                Some(Response::ResponseRange(RangeResponse {
                    header: header(source.revision),
                    kvs,
                    more,
                    count,
                }))
            }
            PathStep::Txn(path) => Some(Response::ResponseTxn(run(source, path)?)),
            PathStep::Put(_) | PathStep::DeleteRange(_) | PathStep::Nothing => None,
        };
        responses.push(ResponseOp { response });
    }
    // Of a nested transaction the header stays empty.
    Ok(TxnResponse {
        header: Some(ResponseHeader::default()),
        succeeded: path.succeeded,
        responses,
    })
}
