//! Random commands against the model, with restarts and crashes between them.

use std::sync::Arc;

use bytes::Bytes;
use proto::command::command::Op;
use proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::engine::memory::MemoryEngine;
use store::{Entry, LogId, Machine, Options, Reader, Record, Refusal, View};

use crate::commands::{compact, entry, op};
use crate::engines::{Bench, Memory};
use crate::model::{Change, Model};

type Answers = Vec<Result<store::Answer, Refusal>>;

/// A key; none of the others has a first byte at or above `first + 2`.
fn key_of(random: &mut StdRng, first: u8) -> Bytes {
    let rests: [&[u8]; 5] = [b"", b"\0", b"x", b"x\0", b"\xff"];
    let first = first + random.random_range(0..2);
    [&[first], rests[random.random_range(0..5)]].concat().into()
}

fn key(random: &mut StdRng) -> Bytes {
    let first = if random.random_bool(0.5) { b'a' } else { b'c' };
    key_of(random, first)
}

fn value(random: &mut StdRng) -> Bytes {
    let len = if random.random_bool(0.2) {
        0
    } else {
        random.random_range(0..300)
    };
    vec![random.random::<u8>(); len].into()
}

fn range_end(random: &mut StdRng) -> Bytes {
    match random.random_range(0..4) {
        0 => Bytes::new(),
        1 => Bytes::from_static(&[0]),
        _ => key(random),
    }
}

fn put(random: &mut StdRng, key: Bytes) -> PutRequest {
    let ignore_value = random.random_bool(0.1);
    PutRequest {
        key,
        value: if ignore_value {
            Bytes::new()
        } else {
            value(random)
        },
        lease: if random.random_bool(0.03) { 7 } else { 0 },
        prev_kv: random.random_bool(0.3),
        ignore_value,
        ignore_lease: random.random_bool(0.05),
    }
}

fn range(random: &mut StdRng, revision: i64) -> RangeRequest {
    let mut some = |odds| {
        if random.random_bool(odds) {
            random.random_range(1..=revision)
        } else {
            0
        }
    };
    let (min_mod_revision, max_mod_revision) = (some(0.1), some(0.1));
    let (min_create_revision, max_create_revision) = (some(0.1), some(0.1));
    let sort_target = match random.random_range(0..10) {
        0 => SortTarget::Version,
        1 => SortTarget::Create,
        2 => SortTarget::Mod,
        3 => SortTarget::Value,
        _ => SortTarget::Key,
    };
    let sort_order = match random.random_range(0..10) {
        0 => SortOrder::Ascend,
        1 => SortOrder::Descend,
        _ => SortOrder::None,
    };
    RangeRequest {
        key: if random.random_bool(0.3) {
            Bytes::from_static(&[0])
        } else {
            key(random)
        },
        range_end: range_end(random),
        limit: if random.random_bool(0.5) {
            random.random_range(-1..8)
        } else {
            0
        },
        revision: match random.random_range(0..10) {
            0 => -1,
            1 => revision + 1,
            2..5 => revision - random.random_range(0..6),
            5 => random.random_range(0..=revision),
            _ => 0,
        },
        sort_order: sort_order.into(),
        sort_target: sort_target.into(),
        serializable: false,
        keys_only: random.random_bool(0.2),
        count_only: random.random_bool(0.15),
        min_mod_revision,
        max_mod_revision,
        min_create_revision,
        max_create_revision,
    }
}

fn compare(random: &mut StdRng, revision: i64) -> Compare {
    let number = random.random_range(0..=revision);
    let (target, union) = match random.random_range(0..5) {
        0 => (CompareTarget::Version, TargetUnion::Version(number % 4)),
        1 => (CompareTarget::Create, TargetUnion::CreateRevision(number)),
        2 => (CompareTarget::Mod, TargetUnion::ModRevision(number)),
        3 => (CompareTarget::Value, TargetUnion::Value(value(random))),
        _ => (CompareTarget::Lease, TargetUnion::Lease(number % 2)),
    };
    let result = [
        CompareResult::Equal,
        CompareResult::NotEqual,
        CompareResult::Greater,
        CompareResult::Less,
    ][random.random_range(0..4)];
    Compare {
        result: result.into(),
        target: target.into(),
        key: key(random),
        range_end: range_end(random),
        target_union: Some(union),
    }
}

/// No key is put twice, as the server demands; of put and deleted ones it lets some pass, in any order.
fn txn(random: &mut StdRng, revision: i64, depth: usize, free: &mut Vec<Bytes>) -> TxnRequest {
    let mut branch = |random: &mut StdRng| {
        let mut ops = Vec::new();
        for _ in 0..random.random_range(0..4) {
            ops.push(op(match random.random_range(0..10) {
                0..4 => match free.pop() {
                    Some(key) => Request::RequestPut(put(random, key)),
                    None => continue,
                },
                4..6 => {
                    let first = if random.random_bool(0.5) { b'a' } else { b'c' };
                    let key = key_of(random, first);
                    let range_end = match random.random_range(0..6) {
                        0 => Bytes::from_static(&[0]),
                        1..3 => key_of(random, first),
                        _ => Bytes::new(),
                    };
                    let prev_kv = random.random_bool(0.5);
                    Request::RequestDeleteRange(DeleteRangeRequest {
                        key,
                        range_end,
                        prev_kv,
                    })
                }
                6 if depth < 2 => Request::RequestTxn(txn(random, revision, depth + 1, free)),
                _ => {
                    let mut request = range(random, revision);
                    if random.random_bool(0.8) {
                        request.revision = request.revision.clamp(0, revision);
                    }
                    Request::RequestRange(request)
                }
            }));
        }
        ops
    };
    let (success, failure) = (branch(random), branch(random));
    let compares = random.random_range(0..3);
    TxnRequest {
        compare: (0..compares).map(|_| compare(random, revision)).collect(),
        success,
        failure,
    }
}

pub(crate) fn command(random: &mut StdRng, model: &Model) -> Op {
    let revision = model.revision();
    match random.random_range(0..100) {
        0..50 => {
            let key = key(random);
            Op::Put(put(random, key))
        }
        50..65 => Op::DeleteRange(DeleteRangeRequest {
            key: key(random),
            range_end: if random.random_bool(0.7) {
                Bytes::new()
            } else {
                range_end(random)
            },
            prev_kv: random.random_bool(0.5),
        }),
        65..97 => {
            let mut free: Vec<_> = (0..6).map(|_| key_of(random, b'a')).collect();
            free.sort();
            free.dedup();
            Op::Txn(txn(random, revision, 0, &mut free))
        }
        _ => compact(
            random.random_range(model.compact_revision.max(revision - 30) - 1..=revision + 1),
        ),
    }
}

fn check_range(reader: &Reader, view: &View, model: &Model, request: &RangeRequest) {
    let found = reader.range(view, request).unwrap().map(|answer| {
        let kvs: Vec<_> = answer.records.iter().map(Record::to_key_value).collect();
        (kvs, answer.count, answer.more)
    });
    assert_eq!(found, model.range(request), "{request:?}");
}

fn check_changes(found: &store::ChangeSet, expected: &[Change], previous_from: i64) {
    assert_eq!(found.changes.len(), expected.len());
    for (found, (key, new, old)) in found.changes.iter().zip(expected) {
        assert_eq!(
            (found.record.key(), found.is_delete),
            (&**key, new.is_none())
        );
        assert_eq!(found.record.mod_revision(), found_revision(found));
        match new {
            Some(new) => assert_eq!(found.record.to_key_value(), *new),
            None => assert_eq!(found.record.version(), 0),
        }
        let old = old
            .as_ref()
            .filter(|_| found.record.mod_revision() > previous_from);
        assert_eq!(found.previous.is_some(), old.is_some());
        if let (Some(found), Some(old)) = (&found.previous, old) {
            assert_eq!(
                (found.mod_revision, found.version),
                (old.mod_revision, old.version)
            );
            assert_eq!(
                (found.create_revision, found.lease),
                (old.create_revision, old.lease)
            );
            if let Some(record) = &found.record {
                assert_eq!(record.to_key_value(), *old);
            }
        }
    }
}

fn found_revision(change: &store::Change) -> i64 {
    change.record.fields().mod_revision
}

fn check_history(reader: &Reader, view: &View, model: &Model, random: &mut StdRng) {
    let after = random.random_range(0..=view.revision);
    let wanted = key(random);
    let wants_all = random.random_bool(0.5);
    let limit = random.random_range(1..20);
    let mut wants = |key: &[u8]| wants_all || key >= &*wanted;
    let found = reader
        .history(view, after, view.revision, limit, &mut wants)
        .unwrap();
    let found = match found {
        Err(refusal) => {
            let (requested, compacted) = (after + 1, model.compact_revision);
            assert!(requested < compacted);
            assert_eq!(
                refusal,
                Refusal::Compacted {
                    requested,
                    compacted
                }
            );
            return;
        }
        Ok(found) => found,
    };
    assert!(found.sets.len() <= limit && (found.up_to > after || after == view.revision));
    let mut sets = found.sets.iter();
    for revision in after + 1..=found.up_to {
        let changes = model.changes[revision as usize - 1].iter();
        let expected: Vec<_> = changes
            .filter(|(key, ..)| wants_all || *key >= wanted)
            .cloned()
            .collect();
        if !expected.is_empty() {
            let set = sets.next().unwrap();
            assert_eq!(set.revision, revision);
            check_changes(set, &expected, model.compact_revision);
            for (key, ..) in expected {
                let previous = reader.previous(view, &key, revision).unwrap();
                let old = (revision > 1 && revision > model.compact_revision)
                    .then(|| model.state_at(revision - 1).get(&key).cloned());
                assert_eq!(previous.map(|record| record.to_key_value()), old.flatten());
            }
        }
    }
    assert!(sets.next().is_none());
}

fn check_view(machine: &Machine, model: &Model, random: &mut StdRng) {
    let reader = machine.reader();
    let view = reader.view();
    assert_eq!(
        (view.revision, view.compact_revision),
        (model.revision(), model.compact_revision)
    );
    assert_eq!(view.index.len(), model.state_at(view.revision).len());
    for _ in 0..15 {
        check_range(&reader, &view, model, &range(random, view.revision));
    }
    check_history(&reader, &view, model, random);
}

fn run(bench: &mut dyn Bench, seed: u64, value_budget_bytes: usize, rounds: usize) {
    eprintln!("seed {seed}, budget {value_budget_bytes}");
    let mut random = StdRng::seed_from_u64(seed);
    let options = Options { value_budget_bytes };
    let mut machine = Machine::open(bench.engine(), options.clone()).unwrap();
    let mut model = Model::new();
    let mut log: Vec<Entry> = Vec::new();
    let mut answers: Vec<Answers> = Vec::new();
    let mut held: Vec<(Arc<View>, i64)> = Vec::new();
    for _ in 0..rounds {
        let from = log.len();
        for _ in 0..random.random_range(1..4) {
            let mut ops = Vec::new();
            let mut expected = Vec::new();
            for _ in 0..random.random_range(0..6) {
                let op = command(&mut random, &model);
                expected.push(model.apply(&op));
                ops.push(op);
            }
            answers.push(expected);
            log.push(entry(log.len() as u64 + 1, ops));
        }
        // Applying again what was applied is nothing.
        let from = if random.random_bool(0.2) {
            from.saturating_sub(2)
        } else {
            from
        };
        let before = machine.reader().view();
        let outcome = machine.apply(&log[from..]).unwrap();
        check_answers(
            &outcome,
            &answers[before.applied.map_or(0, |id| id.index as usize)..],
        );
        let revisions: Vec<_> = outcome.changes.iter().map(|set| set.revision).collect();
        assert_eq!(
            revisions,
            (before.revision + 1..=model.revision()).collect::<Vec<_>>()
        );
        for set in &outcome.changes {
            check_changes(set, &model.changes[set.revision as usize - 1], -1);
        }
        check_view(&machine, &model, &mut random);
        if random.random_bool(0.1) {
            held.push((machine.reader().view(), model.compact_revision));
        }
        match random.random_range(0..40) {
            0 => {
                machine.flush().unwrap();
                let name = machine.durable().unwrap().unwrap();
                assert_eq!(
                    (Some(name.applied), name.revision),
                    (machine.applied(), model.revision())
                );
            }
            1 => {
                drop((machine, std::mem::take(&mut held)));
                bench.restart();
                machine = Machine::open(bench.engine(), options.clone()).unwrap();
                assert_eq!(machine.applied().map(|id| id.index), Some(log.len() as u64));
                check_view(&machine, &model, &mut random);
            }
            2 => {
                let durable = machine.durable().unwrap();
                drop((machine, std::mem::take(&mut held)));
                bench.crash();
                machine = Machine::open(bench.engine(), options.clone()).unwrap();
                assert_eq!(machine.applied(), durable.map(|name| name.applied));
                let from = machine.applied().map_or(0, |id| id.index as usize);
                let outcome = machine.apply(&log).unwrap();
                check_answers(&outcome, &answers[from..]);
                check_view(&machine, &model, &mut random);
            }
            3..6 => {
                machine.warm(random.random_range(1..30)).unwrap();
                check_view(&machine, &model, &mut random);
            }
            _ => {}
        }
    }
    // A held view still shows its revision.
    for (view, compacted) in held {
        let mut model = model.clone();
        model.states.truncate(view.revision as usize);
        model.compact_revision = compacted;
        let request = RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            ..Default::default()
        };
        check_range(&machine.reader(), &view, &model, &request);
    }
}

fn check_answers(outcome: &store::Outcome, expected: &[Answers]) {
    let expected: Vec<_> = expected.iter().flatten().cloned().collect();
    let found: Vec<_> = outcome
        .answers
        .iter()
        .map(|answer| answer.outcome.clone())
        .collect();
    assert_eq!(found, expected);
}

/// All in memory, nothing in memory, and a budget that is always overrun.
const BUDGETS: [usize; 3] = [1 << 20, 0, 1500];

#[test]
fn the_memory_engine_follows_the_model() {
    for seed in 0..30 {
        let mut bench = Memory(Arc::new(MemoryEngine::new()));
        run(&mut bench, seed, BUDGETS[seed as usize % 3], 200);
    }
}

#[cfg(feature = "rocksdb")]
#[test]
fn the_rocksdb_engine_follows_the_model() {
    for seed in 100..106 {
        run(
            &mut crate::engines::Rocks::new(),
            seed,
            BUDGETS[seed as usize % 3],
            150,
        );
    }
}

#[test]
fn members_that_batch_differently_agree() {
    let mut random = StdRng::seed_from_u64(5);
    let mut model = Model::new();
    let log: Vec<Entry> = (1..200)
        .map(|index| {
            let ops: Vec<_> = (0..3).map(|_| command(&mut random, &model)).collect();
            ops.iter().for_each(|op| drop(model.apply(op)));
            entry(index, ops)
        })
        .collect();
    let run = |batch: usize, value_budget_bytes| {
        let engine = Arc::new(MemoryEngine::new());
        let mut machine = Machine::open(engine, Options { value_budget_bytes }).unwrap();
        let outcomes: Vec<_> = log
            .chunks(batch)
            .map(|entries| machine.apply(entries).unwrap())
            .collect();
        let answers: Vec<_> = outcomes
            .iter()
            .flat_map(|outcome| outcome.answers.clone())
            .collect();
        assert_eq!(
            machine.applied(),
            Some(LogId {
                term: 1,
                index: 199
            })
        );
        (answers, machine.reader().view().revision)
    };
    let expected = run(1, 1 << 20);
    for (batch, budget) in [(2, 0), (7, 1000), (199, 1 << 20)] {
        assert_eq!(run(batch, budget), expected);
    }
}
