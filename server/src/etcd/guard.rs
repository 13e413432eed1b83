//! Keeps etcd's clients from writing behind the resource API's back: what it has not checked nobody might be able to
//! read again. They may read all of it.

use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{DeleteRangeRequest, RequestOp, TxnRequest};

use super::error::{self, Status};

/// Where the resource API keeps its objects: from the first key up to the second.
const OBJECTS: [&[u8]; 2] = [b"/registry/", b"/registry0"];

/// Whether the keys of the resource API are its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guard {
    is_on: bool,
}

impl Guard {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on }
    }

    /// Whether a key may be put.
    pub(super) fn put(self, key: &[u8]) -> Result<(), Status> {
        self.refuse_if(key.starts_with(OBJECTS[0]))
    }

    /// Whether a range may be deleted.
    pub(super) fn delete(self, request: &DeleteRangeRequest) -> Result<(), Status> {
        let (from, end) = (&request.key[..], &request.range_end[..]);
        self.refuse_if(match end {
            [] => from.starts_with(OBJECTS[0]),
            [0] => from < OBJECTS[1],
            end => from < OBJECTS[1] && end > OBJECTS[0],
        })
    }

    /// Whether a transaction may be carried out, whichever way it goes.
    pub(super) fn txn(self, request: &TxnRequest) -> Result<(), Status> {
        if !self.is_on {
            return Ok(());
        }
        let mut operations = request.success.iter().chain(&request.failure);
        operations.try_for_each(|operation| self.operation(operation))
    }

    fn operation(self, operation: &RequestOp) -> Result<(), Status> {
        match &operation.request {
            Some(Request::RequestPut(put)) => self.put(&put.key),
            Some(Request::RequestDeleteRange(delete)) => self.delete(delete),
            Some(Request::RequestTxn(txn)) => self.txn(txn),
            Some(Request::RequestRange(_)) | None => Ok(()),
        }
    }

    fn refuse_if(self, is_of_the_api: bool) -> Result<(), Status> {
        if self.is_on && is_of_the_api {
            return Err(error::GUARDED);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proto::etcd::etcdserverpb::PutRequest;

    use super::*;

    fn delete(key: &'static [u8], end: &'static [u8]) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: key.into(),
            range_end: end.into(),
            ..DeleteRangeRequest::default()
        }
    }

    #[test]
    fn what_touches_an_object_is_refused_and_nothing_else() {
        let guard = Guard::new(true);
        for key in [&b"/registry/"[..], b"/registry/pods/a/b"] {
            assert!(guard.put(key).is_err());
        }
        for key in [&b"/registry"[..], b"/registry0", b"a", b"/registr/"] {
            assert!(guard.put(key).is_ok());
        }
        let table: [(&[u8], &[u8], bool); 9] = [
            (b"/registry/a", b"", false),
            (b"/registry/", b"/registry0", false),
            (b"/", b"0", false),
            (b"\0", b"\0", false),
            (b"/registry/z", b"\0", false),
            (b"/registry0", b"\0", true),
            (b"a", b"b", true),
            (b"/registry", b"/registry/", true),
            (b"/registry", b"", true),
        ];
        for (key, end, is_allowed) in table {
            assert_eq!(
                guard.delete(&delete(key, end)).is_ok(),
                is_allowed,
                "{key:?} {end:?}"
            );
        }
    }

    #[test]
    fn a_transaction_is_refused_for_any_of_its_branches() {
        let put = |key: &'static [u8]| RequestOp {
            request: Some(Request::RequestPut(PutRequest {
                key: key.into(),
                ..PutRequest::default()
            })),
        };
        let inner = TxnRequest {
            failure: vec![put(b"/registry/a")],
            ..TxnRequest::default()
        };
        let outer = TxnRequest {
            success: vec![
                put(b"a"),
                RequestOp {
                    request: Some(Request::RequestTxn(inner.clone())),
                },
            ],
            ..TxnRequest::default()
        };
        for txn in [&inner, &outer] {
            assert!(Guard::new(true).txn(txn).is_err());
            assert!(Guard::new(false).txn(txn).is_ok());
        }
        let elsewhere = TxnRequest {
            success: vec![put(b"a")],
            ..TxnRequest::default()
        };
        assert!(Guard::new(true).txn(&elsewhere).is_ok());
    }
}
