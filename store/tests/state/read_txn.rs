//! A transaction that only reads has one answer, whether it went through the log or not.

use std::sync::Arc;

use proto::command::command::Op;
use proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{Compare, RangeRequest, TxnRequest};
use store::engine::memory::MemoryEngine;
use store::{Answer, Machine, Options, Refusal};

use crate::commands::{apply, apply_one, compact, op, put, range};

/// Keys a (twice) and b, compacted at 3: revisions 2 to 4.
fn machine() -> Machine {
    let mut machine = Machine::open(Arc::new(MemoryEngine::new()), Options::default()).unwrap();
    let puts = [("a", "1"), ("a", "2"), ("b", "1")].map(|(key, value)| Op::Put(put(key, value)));
    apply(&mut machine, puts.into());
    apply_one(&mut machine, compact(3)).unwrap();
    machine
}

/// Evaluates both ways, which must agree.
fn evaluate(machine: &mut Machine, request: &TxnRequest) -> Result<bool, Refusal> {
    let reader = machine.reader();
    let read = reader.txn(&reader.view(), request).unwrap();
    let applied = apply_one(machine, Op::Txn(request.clone()));
    assert_eq!(read.clone().map(Answer::Txn), applied, "{request:?}");
    read.map(|answer| answer.succeeded)
}

#[test]
fn every_compare_chooses_the_same_path() {
    let mut machine = machine();
    let unions = [
        None,
        Some(TargetUnion::Version(2)),
        Some(TargetUnion::CreateRevision(2)),
        Some(TargetUnion::ModRevision(3)),
        Some(TargetUnion::Lease(0)),
        Some(TargetUnion::Value("1".into())),
    ];
    let mut outcomes = [0, 0];
    for (key, range_end) in [("a", ""), ("missing", ""), ("a", "z"), ("m", "z")] {
        for target in 0..=5 {
            for result in 0..=4 {
                for union in &unions {
                    let compare = Compare {
                        result,
                        target,
                        key: key.into(),
                        target_union: union.clone(),
                        range_end: range_end.into(),
                    };
                    let request = TxnRequest {
                        compare: vec![compare],
                        success: vec![op(Request::RequestRange(range("a", "")))],
                        failure: vec![op(Request::RequestRange(range("a", "z")))],
                    };
                    outcomes[usize::from(evaluate(&mut machine, &request).unwrap())] += 1;
                }
            }
        }
    }
    assert!(outcomes.iter().all(|count| *count > 100), "{outcomes:?}");
}

#[test]
fn a_nested_transaction_is_evaluated_with_its_own_compares() {
    let mut machine = machine();
    let inner = |value: &'static str| TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Value.into(),
            key: "b".into(),
            target_union: Some(TargetUnion::Value(value.into())),
            ..Default::default()
        }],
        success: vec![op(Request::RequestRange(range("a", "")))],
        failure: vec![],
    };
    for value in ["1", "2"] {
        let outer = TxnRequest {
            success: vec![
                op(Request::RequestTxn(inner(value))),
                op(Request::RequestRange(range("b", ""))),
            ],
            ..Default::default()
        };
        assert_eq!(evaluate(&mut machine, &outer), Ok(true));
    }
}

#[test]
fn revisions_of_the_whole_chosen_path_are_checked() {
    let mut machine = machine();
    let at = |revision| {
        let request = RangeRequest {
            revision,
            ..range("a", "")
        };
        op(Request::RequestRange(request))
    };
    for revision in [-1, 0, 1, 2, 3, 4, 5] {
        let nested = TxnRequest {
            success: vec![at(revision)],
            ..Default::default()
        };
        let request = TxnRequest {
            success: vec![at(0), op(Request::RequestTxn(nested))],
            ..Default::default()
        };
        let is_there = matches!(revision, 0 | 3 | 4);
        assert_eq!(
            evaluate(&mut machine, &request).is_ok(),
            is_there,
            "at {revision}"
        );
        let other_path = TxnRequest {
            failure: vec![at(revision)],
            ..Default::default()
        };
        assert_eq!(evaluate(&mut machine, &other_path), Ok(true));
    }
}
