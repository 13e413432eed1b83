//! Random transactions: nested, with every compare, with writes that meet and with writes that do not.

use std::collections::BTreeSet;

use bytes::Bytes;
use proto::etcd::etcdserverpb::compare::TargetUnion;
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{Compare, RangeRequest, RequestOp, TxnRequest};
use rand::Rng;

use crate::generate::Generator;

/// How a transaction is made.
struct Plan {
    /// Keys that were written in it; None if it may write a key twice.
    written: Option<BTreeSet<Bytes>>,
    reads_only: bool,
    /// Whether ranges ask for revisions that may not be there.
    has_revisions: bool,
}

impl Generator {
    pub(crate) fn txn(&mut self) -> TxnRequest {
        let mut plan = Plan {
            written: self.chance(80).then(BTreeSet::new),
            reads_only: self.chance(15),
            has_revisions: self.chance(15),
        };
        let mut txn = if self.chance(2) {
            self.tower(&mut plan)
        } else {
            self.txn_at(&mut plan, 0)
        };
        if has_put(&txn) {
            close_deletes(&mut txn);
        }
        txn
    }

    fn txn_at(&mut self, plan: &mut Plan, depth: u32) -> TxnRequest {
        let compares = self.random.random_range(0..3);
        let compare = (0..compares).map(|_| self.compare()).collect();
        TxnRequest {
            compare,
            success: self.ops(plan, depth),
            failure: self.ops(plan, depth),
        }
    }

    /// One transaction in the other: as deep as the budget of operations allows, or deeper.
    fn tower(&mut self, plan: &mut Plan) -> TxnRequest {
        let mut txn = self.txn_at(plan, 9);
        for _ in 0..self.random.random_range(4..14) {
            let inner = op(Request::RequestTxn(txn));
            let compare = (0..self.random.random_range(0..2)).map(|_| self.compare());
            let compare = compare.collect();
            let (mut success, mut failure) = (vec![], vec![]);
            if self.chance(75) {
                success.push(inner);
            } else {
                failure.push(inner);
            }
            txn = TxnRequest {
                compare,
                success,
                failure,
            };
        }
        txn
    }

    fn ops(&mut self, plan: &mut Plan, depth: u32) -> Vec<RequestOp> {
        let count = match self.random.random_range(0..100) {
            0..20 => 0,
            20..94 => self.random.random_range(1..5),
            // Around the limit of operations.
            _ => self.random.random_range(8..14),
        };
        (0..count).map(|_| self.op(plan, depth)).collect()
    }

    fn op(&mut self, plan: &mut Plan, depth: u32) -> RequestOp {
        if self.random.random_ratio(1, 400) {
            return RequestOp { request: None };
        }
        // Below one on average, or it would not end.
        if self.random.random_ratio(1, 6 + depth) && !plan.reads_only {
            return op(Request::RequestTxn(self.txn_at(plan, depth + 1)));
        }
        op(match self.random.random_range(0..100) {
            _ if plan.reads_only => Request::RequestRange(self.range_in(plan)),
            0..35 => Request::RequestRange(self.range_in(plan)),
            35..75 => {
                let mut request = self.put();
                request.key = self.unwritten(plan, request.key);
                Request::RequestPut(request)
            }
            _ => {
                let mut request = self.delete_range();
                request.key = self.unwritten(plan, request.key);
                Request::RequestDeleteRange(request)
            }
        })
    }

    fn range_in(&mut self, plan: &Plan) -> RangeRequest {
        let request = self.range();
        if plan.has_revisions || self.chance(2) {
            return request;
        }
        RangeRequest {
            revision: 0,
            ..request
        }
    }

    /// A key that the transaction does not write yet, if the plan is such.
    fn unwritten(&mut self, plan: &mut Plan, mut key: Bytes) -> Bytes {
        let Some(written) = &mut plan.written else {
            return key;
        };
        for _ in 0..5 {
            if written.insert(key.clone()) {
                break;
            }
            key = self.key();
        }
        key
    }

    fn compare(&mut self) -> Compare {
        let key = self.key();
        let range_end = if self.chance(70) {
            Bytes::new()
        } else {
            self.range_end(&key)
        };
        let target = match self.random.random_range(0..100) {
            0..97 => self.random.random_range(0..5),
            97 => 5,
            98 => -1,
            _ => i32::MAX,
        };
        // The union mostly suits the target.
        let of = match self.random.random_range(0..20) {
            0 => self.random.random_range(0..6),
            _ => target,
        };
        let target_union = match of {
            0 => Some(TargetUnion::Version(self.random.random_range(-1..5))),
            1 => Some(TargetUnion::CreateRevision(self.some_revision())),
            2 => Some(TargetUnion::ModRevision(self.some_revision())),
            3 => Some(TargetUnion::Value(self.value())),
            4 => Some(TargetUnion::Lease(self.random.random_range(-1..2))),
            _ => None,
        };
        Compare {
            result: match self.random.random_range(0..100) {
                0..97 => self.random.random_range(0..4),
                97 => 4,
                _ => -1,
            },
            target,
            key,
            range_end,
            target_union,
        }
    }

    /// To compare with: near enough to what keys have that both outcomes come up.
    fn some_revision(&mut self) -> i64 {
        match self.random.random_range(0..10) {
            0..3 => 0,
            3 => -1,
            4..9 => (self.revision - self.random.random_range(0..60)).max(0),
            _ => self.revision + 1,
        }
    }
}

fn has_put(txn: &TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.any(|op| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(txn)) => has_put(txn),
        _ => false,
    })
}

/// Gives deletes without an end one behind all keys. etcd's check for keys written twice takes an open end for the
/// plain end that it looks like, so a put behind such a delete passes. If the put wants to keep the value that was
/// deleted, etcd panics; if its revision is compacted at, etcd removes what the put wrote, and panics when it is read.
fn close_deletes(txn: &mut TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestDeleteRange(request)) if &*request.range_end == b"\0" => {
                request.range_end = Bytes::from_static(b"\xff\xff\xff\xff");
            }
            Some(Request::RequestTxn(txn)) => close_deletes(txn),
            _ => {}
        }
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}
