//! Answers that are too long are refused as a whole, alike on every member; those of others are not built.

use std::sync::Arc;

use proto::command::command::Op;
use proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::response_op::Response;
use proto::etcd::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};
use store::engine::memory::MemoryEngine;
use store::mvcc::room::ANSWER_BYTES;
use store::{Answer, Machine, Options, Refusal, StateEngine};

use crate::commands::{apply, apply_one, delete, entry, op, put, range, read, txn};

const LARGE: usize = 16 << 20;

/// A store with one large value under `large`, and small ones under `a` and `b`.
fn machine(engine: &Arc<MemoryEngine>, options: Options) -> Machine {
    let mut machine = Machine::open(engine.clone(), options).unwrap();
    let large = "v".repeat(LARGE);
    for (key, value) in [("large", &*large), ("a", "1"), ("b", "1")] {
        apply(&mut machine, vec![Op::Put(put(key, value))]);
    }
    machine
}

fn large() -> Request {
    Request::RequestRange(range("large", ""))
}

/// How often the large value fits.
fn fitting() -> usize {
    usize::try_from(ANSWER_BYTES).unwrap() / LARGE - 1
}

#[test]
fn a_transaction_with_too_long_an_answer_changes_nothing() {
    let engine = Arc::new(MemoryEngine::new());
    let mut machine = machine(&engine, Options::default());
    let before = read(&machine, &range("\0", "\0")).unwrap();
    let revision = machine.reader().view().revision;
    let nested = TxnRequest {
        success: vec![op(Request::RequestPut(put("c", "2"))), op(large())],
        ..Default::default()
    };
    let mut ops = vec![
        Request::RequestDeleteRange(delete("a", "")),
        Request::RequestPut(put("b", "2")),
        Request::RequestPut(put("d", "2")),
        Request::RequestDeleteRange(delete("b", "")),
        Request::RequestTxn(nested),
    ];
    ops.extend(std::iter::repeat_with(large).take(fitting()));
    // Between two others in one batch, which it must not touch.
    let around = |value| Op::Put(put("around", value));
    let outcome = apply(
        &mut machine,
        vec![around("1"), txn(ops.clone()), around("2")],
    );
    assert_eq!(outcome.answers[1].outcome, Err(Refusal::AnswerTooLong));
    let changed: Vec<_> = outcome.changes.iter().map(|set| set.revision).collect();
    assert_eq!(changed, [revision + 1, revision + 2]);

    let check = |machine: &Machine| {
        let mut after = read(machine, &range("\0", "\0")).unwrap();
        assert_eq!(after.count, before.count + 1);
        after.records.retain(|record| record.key() != b"around");
        assert!(after.records == before.records);
        let past = RangeRequest {
            revision: revision + 1,
            ..range("a", "e")
        };
        assert_eq!(read(machine, &past).unwrap().count, 3);
    };
    check(&machine);
    // Also on disk: the index is made anew from there.
    engine.flush().unwrap();
    check(&Machine::open(engine, Options::default()).unwrap());

    // One range less fits.
    ops.pop();
    assert!(apply_one(&mut machine, txn(ops)).is_ok());
}

#[test]
fn all_that_answers_values_counts() {
    let engine = Arc::new(MemoryEngine::new());
    let mut machine = machine(&engine, Options::default());
    let past = machine.reader().view().revision;
    let many = |request: Request| vec![request; fitting() + 1];
    apply(&mut machine, vec![Op::Put(put("large2", ""))]);
    let by_value = RangeRequest {
        sort_target: SortTarget::Value.into(),
        sort_order: SortOrder::Ascend.into(),
        limit: 1,
        ..range("l", "m")
    };
    let keys_only = RangeRequest {
        keys_only: true,
        ..range("l", "m")
    };
    let at_past = RangeRequest {
        revision: past,
        ..range("l", "m")
    };
    let at_past_sorted = RangeRequest {
        sort_order: SortOrder::Descend.into(),
        ..at_past.clone()
    };
    let count_only = RangeRequest {
        count_only: true,
        ..at_past.clone()
    };
    let too_long = |request: RangeRequest| {
        let ops = many(Request::RequestRange(request));
        let request = TxnRequest {
            success: ops.iter().cloned().map(op).collect(),
            ..Default::default()
        };
        let reader = machine.reader();
        let read = reader.txn(&reader.view(), &request).unwrap();
        (txn(ops), read.map(Answer::Txn))
    };
    let mut asked = Vec::new();
    for (request, is_refused) in [
        (range("l", "m"), true),
        (at_past, true),
        (at_past_sorted, true),
        (by_value, false),
        (keys_only, false),
        (count_only, false),
    ] {
        asked.push((too_long(request), is_refused));
    }
    for ((op, read), is_refused) in asked {
        assert_eq!(read.is_err(), is_refused);
        let written = apply_one(&mut machine, op);
        assert!(written == read, "read and written transactions differ");
        assert!(written.is_ok() || written == Err(Refusal::AnswerTooLong));
    }
    let previous = PutRequest {
        prev_kv: true,
        ignore_value: true,
        ..put("large", "")
    };
    let mut ops = vec![Request::RequestPut(previous)];
    ops.extend(std::iter::repeat_with(large).take(fitting()));
    let refused = apply_one(&mut machine, txn(ops));
    assert_eq!(refused, Err(Refusal::AnswerTooLong));
}

/// Outside of transactions, too: the values have to be in memory together, whatever else is sent page by page.
#[test]
fn a_sort_by_value_holds_no_more_than_an_answer_may() {
    const KEYS: usize = 20;
    let options = Options {
        value_budget_bytes: 0,
    };
    let mut machine = Machine::open(Arc::new(MemoryEngine::new()), options).unwrap();
    for key in 0..KEYS {
        // The last key has the least value.
        let value = format!("{:02}{}", KEYS - key, "v".repeat(LARGE));
        let put = put(&format!("k{key:02}"), &value);
        apply(&mut machine, vec![Op::Put(put)]);
    }
    let past = machine.reader().view().revision;
    apply(&mut machine, vec![Op::Put(put("other", ""))]);
    let reader = machine.reader();
    let view = reader.view();
    let request = |order: SortOrder, limit, revision| RangeRequest {
        sort_target: SortTarget::Value.into(),
        sort_order: order.into(),
        limit,
        revision,
        ..range("k", "l")
    };
    for revision in [0, past] {
        let all = request(SortOrder::Ascend, 0, revision);
        let refused = reader.range(&view, &all).unwrap();
        assert!(refused == Err(Refusal::AnswerTooLong));
        let refused = reader.choose(&view, &all, &|| true).unwrap();
        assert!(matches!(refused, Err(Refusal::AnswerTooLong)));
        // What the limit leaves out is not held.
        for (order, expected) in [
            (SortOrder::Ascend, ["k19", "k18", "k17"]),
            (SortOrder::Descend, ["k00", "k01", "k02"]),
        ] {
            let request = request(order, 3, revision);
            let chosen = reader.choose(&view, &request, &|| true).unwrap();
            let chosen = chosen.unwrap().unwrap();
            assert_eq!((chosen.totals.count, chosen.totals.more), (20, true));
            let records = reader.read_page(&chosen, 0..chosen.len()).unwrap();
            let found = records.iter().map(|record| record.key().to_vec());
            assert!(found.eq(expected.map(|key| key.as_bytes().to_vec())));
            assert!(records.iter().all(|record| record.value().len() > LARGE));
        }
    }
}

#[test]
fn a_range_delete_with_too_long_an_answer_deletes_nothing() {
    let mut machine = Machine::open(Arc::new(MemoryEngine::new()), Options::default()).unwrap();
    let value = "v".repeat(LARGE);
    let many = fitting() + 1;
    for number in 0..many {
        apply(
            &mut machine,
            vec![Op::Put(put(&format!("k{number:02}"), &value))],
        );
    }
    let previous = DeleteRangeRequest {
        prev_kv: true,
        ..delete("k", "l")
    };
    let refused = apply_one(&mut machine, Op::DeleteRange(previous.clone()));
    assert_eq!(refused, Err(Refusal::AnswerTooLong));
    let in_txn = vec![
        Request::RequestPut(put("a", "")),
        Request::RequestDeleteRange(previous),
    ];
    let refused = apply_one(&mut machine, txn(in_txn));
    assert_eq!(refused, Err(Refusal::AnswerTooLong));
    let left = read(&machine, &range("\0", "\0")).unwrap().count;
    assert_eq!(left, i64::try_from(many).unwrap());
    let without = apply_one(&mut machine, Op::DeleteRange(delete("k", "l")));
    let Ok(Answer::DeleteRange(answer)) = without else {
        panic!("{without:?}");
    };
    assert_eq!(answer.deleted, i64::try_from(many).unwrap());
}

#[test]
fn the_answers_of_others_are_decided_alike_and_not_built() {
    let engines = [(), ()].map(|()| Arc::new(MemoryEngine::new()));
    let mut here = machine(&engines[0], Options::default());
    let mut other = machine(&engines[1], Options::default());
    // The commands are those of boot 1.
    here.answer_only(1, 1);
    other.answer_only(1, 2);
    let fits = vec![
        Request::RequestPut(PutRequest {
            prev_kv: true,
            ..put("a", "2")
        }),
        large(),
        Request::RequestDeleteRange(DeleteRangeRequest {
            prev_kv: true,
            ..delete("b", "")
        }),
    ];
    let mut too_long = fits.clone();
    too_long.extend(std::iter::repeat_with(large).take(fitting()));
    let log = [entry(4, vec![txn(fits), txn(too_long)])];
    let (built, left_out) = (here.apply(&log).unwrap(), other.apply(&log).unwrap());
    assert!(built.changes == left_out.changes);
    let outcomes = |outcome: &store::Outcome| {
        let refused = outcome
            .answers
            .iter()
            .map(|answered| answered.outcome.is_err());
        refused.collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&built), [false, true]);
    assert_eq!(outcomes(&left_out), [false, true]);
    let data = |outcome: &store::Outcome| {
        let Ok(Answer::Txn(answer)) = &outcome.answers[0].outcome else {
            panic!("no answer");
        };
        let keys = answer.responses.iter().map(|op| match &op.response {
            Some(Response::ResponseRange(answer)) => answer.kvs.len(),
            Some(Response::ResponsePut(answer)) => answer.prev_kv.iter().len(),
            Some(Response::ResponseDeleteRange(answer)) => answer.prev_kvs.len(),
            _ => 0,
        });
        keys.collect::<Vec<_>>()
    };
    assert_eq!(data(&built), [1, 1, 1]);
    assert_eq!(data(&left_out), [0, 0, 0]);
    let states = [&here, &other].map(|machine| read(machine, &range("\0", "\0")).unwrap());
    assert!(states[0] == states[1]);
}

/// Whether a transaction is refused may depend on nothing but its place in the log: entries are batched anew at every
/// replay, and on every member in another way.
#[test]
fn the_ends_of_batches_do_not_decide() {
    const KEYS: usize = 20;
    let sorted = |target: SortTarget, order: SortOrder| RangeRequest {
        sort_target: target.into(),
        sort_order: order.into(),
        ..range("k", "l")
    };
    let requests = [
        (range("k", "l"), true),
        (
            RangeRequest {
                keys_only: true,
                ..range("k", "l")
            },
            false,
        ),
        (
            RangeRequest {
                limit: 3,
                ..range("k", "l")
            },
            false,
        ),
        (
            RangeRequest {
                limit: 1,
                ..sorted(SortTarget::Key, SortOrder::Descend)
            },
            false,
        ),
        (
            RangeRequest {
                min_mod_revision: 18,
                ..range("k", "l")
            },
            false,
        ),
        (
            RangeRequest {
                min_mod_revision: 18,
                ..sorted(SortTarget::Value, SortOrder::Ascend)
            },
            false,
        ),
        (
            RangeRequest {
                limit: 1,
                ..sorted(SortTarget::Value, SortOrder::Ascend)
            },
            true,
        ),
        (sorted(SortTarget::Mod, SortOrder::Descend), true),
    ];
    let large = "v".repeat(LARGE);
    let mut entries = Vec::new();
    for key in 0..KEYS {
        entries.push(entry(
            key as u64 + 1,
            vec![Op::Put(put(&format!("k{key:02}"), &large))],
        ));
    }
    // The revision that the ranges name is one behind, two and more from the last.
    entries.push(entry(KEYS as u64 + 1, vec![Op::Put(put("other", "1"))]));
    let past = KEYS as i64 + 1;
    for (request, _) in &requests {
        let request = RangeRequest {
            revision: past,
            ..request.clone()
        };
        let ops = vec![
            Request::RequestPut(put("written", "1")),
            Request::RequestRange(request),
        ];
        entries.push(entry(entries.len() as u64 + 1, vec![txn(ops)]));
    }
    for cut in [1, KEYS, KEYS + 1, KEYS + 2, KEYS + 4, entries.len()] {
        let engine = Arc::new(MemoryEngine::new());
        let mut machine = Machine::open(engine, Options::default()).unwrap();
        let (first, second) = entries.split_at(cut);
        let mut answers = machine.apply(first).unwrap().answers;
        answers.extend(machine.apply(second).unwrap().answers);
        let refused: Vec<_> = answers[KEYS + 1..]
            .iter()
            .map(|answered| answered.outcome.is_err())
            .collect();
        let expected: Vec<_> = requests.iter().map(|(_, refused)| *refused).collect();
        assert_eq!(refused, expected, "with a batch that ends after {cut}");
    }
}
