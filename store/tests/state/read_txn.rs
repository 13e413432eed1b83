//! A transaction that only reads has one answer, whether it went through the log or not.

use std::sync::Arc;

use proto::command::command::Op;
use proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{Compare, RangeRequest, TxnRequest};
use store::engine::memory::MemoryEngine;
use store::{Answer, Machine, Options, Refusal};

use crate::commands::{apply, apply_one, compact, delete, op, put, range};
use crate::counting::Counting;

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

/// That all keys of an interval have this version or value.
fn all_have(union: TargetUnion) -> Compare {
    let target = match union {
        TargetUnion::Version(_) => CompareTarget::Version,
        _ => CompareTarget::Value,
    };
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: "k".into(),
        target_union: Some(union),
        range_end: "l".into(),
    }
}

#[test]
fn compares_of_many_keys_cost_what_they_read_and_scan_for_their_values() {
    const KEYS: usize = 3_000;
    let engine = Counting::new();
    // No value stays in memory.
    let options = Options {
        value_budget_bytes: 0,
    };
    let mut machine = Machine::open(engine.clone(), options).unwrap();
    let value = "v".repeat(100);
    let puts = (0..KEYS).map(|number| Op::Put(put(&format!("k{number:05}"), &value)));
    apply(&mut machine, puts.collect());
    let if_all = |compare: Compare, then: Request| TxnRequest {
        compare: vec![compare],
        success: vec![op(then)],
        failure: vec![],
    };
    let of_values = all_have(TargetUnion::Value(value.clone().into()));
    let of_versions = all_have(TargetUnion::Version(1));
    let read = || Request::RequestRange(range("a", ""));

    let reader = machine.reader();
    let view = reader.view();
    let succeeded = |compare: &Compare, work| {
        let request = if_all(compare.clone(), read());
        let answer = reader.txn_within(&view, &request, work, &|| true);
        let answer = answer.unwrap().unwrap();
        answer.map(|answer| answer.succeeded)
    };
    assert_eq!(succeeded(&of_versions, KEYS as u64 - 1), None);
    assert_eq!(succeeded(&of_versions, KEYS as u64 + 100), Some(true));
    assert_eq!(succeeded(&of_values, 8 * KEYS as u64 - 1), None);
    let reads = engine.reads_of(|| {
        assert_eq!(succeeded(&of_values, u64::MAX), Some(true));
    });
    assert!(reads.gets <= 20 && reads.scans == 1, "{reads:?}");
    let reads = engine.reads_of(|| {
        let others = all_have(TargetUnion::Value("w".into()));
        assert_eq!(succeeded(&others, u64::MAX), Some(false));
    });
    assert!(reads.gets + reads.items < 40, "it ends early: {reads:?}");
    let reads = engine.reads_of(|| {
        let request = if_all(of_values.clone(), read());
        let answer = reader.txn_within(&view, &request, u64::MAX, &|| false);
        assert_eq!(answer.unwrap(), Ok(None));
    });
    assert!(reads.gets + reads.items < 40, "nobody waits: {reads:?}");

    // The same in one that writes, behind what its batch has changed.
    let mut outcome = |before: Vec<Op>| {
        let mut ops = before;
        let then = Request::RequestPut(put("other", ""));
        ops.push(Op::Txn(if_all(of_values.clone(), then)));
        let mut answer = None;
        let reads = engine.reads_of(|| answer = apply(&mut machine, ops).answers.pop());
        assert!(reads.gets <= 20, "{reads:?}");
        match answer.unwrap().outcome {
            Ok(Answer::Txn(answer)) => answer.succeeded,
            other => panic!("{other:?}"),
        }
    };
    let same = |key: &str| Op::Put(put(key, &value));
    let deleted = |key: &str, end: &str| Op::DeleteRange(delete(key, end));
    assert!(outcome(vec![]));
    assert!(outcome(vec![
        deleted("k00500", "k00510"),
        deleted("k02999", ""),
        same("k00505"),
        same("k00600"),
        same("k00600x"),
        same("kz"),
    ]));
    assert!(!outcome(vec![Op::Put(put("kz", "w"))]));
    assert!(outcome(vec![deleted("kz", "")]));
    assert!(!outcome(vec![Op::Put(put("k01000", "w"))]));
}
