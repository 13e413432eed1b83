//! Rules of applying: envelopes, faults, refusals, membership, flushes.

use std::sync::Arc;

use prost::Message;
use proto::command::command::Op;
use proto::command::{Batch, Command, MemberChange};
use proto::etcd::etcdserverpb::PutRequest;
use proto::etcd::etcdserverpb::request_op::Request;
use store::engine::memory::MemoryEngine;
use store::engine::{Batch as EngineBatch, Family, StateEngine};
use store::error::Need;
use store::{
    Answer, BATCH_FORMAT, Entry, FEATURE_LEVEL, LogId, Machine, Membership, Options, Payload,
    Refusal, StoreError, layout,
};

use crate::commands::{apply, apply_one, compact, delete, entry, put, range, read, txn};

fn machine() -> (Arc<MemoryEngine>, Machine) {
    let engine = Arc::new(MemoryEngine::new());
    let machine = Machine::open(engine.clone(), Options::default()).unwrap();
    (engine, machine)
}

fn commands(index: u64, batch: &Batch) -> Entry {
    let payload = Payload::Commands(batch.encode_to_vec().into());
    Entry {
        id: LogId { term: 1, index },
        payload,
    }
}

#[test]
fn a_new_store_is_at_revision_1_and_the_first_write_makes_2() {
    let (_, mut machine) = machine();
    assert_eq!(machine.reader().view().revision, 1);
    let answer = apply_one(&mut machine, Op::Put(put("a", "1"))).unwrap();
    let Answer::Put(answer) = answer else {
        panic!("a put is answered as one")
    };
    assert_eq!(answer.header.unwrap().revision, 2);
    assert_eq!(
        read(&machine, &range("a", "")).unwrap().records[0].create_revision(),
        2
    );
}

#[test]
fn an_unknown_envelope_or_command_stops_the_machine() {
    let good = || Batch {
        format: BATCH_FORMAT,
        feature_level: FEATURE_LEVEL,
        ..Default::default()
    };
    let unknown = Batch {
        commands: vec![Command::default()],
        ..good()
    };
    // A change of members that only a newer version knows is decoded as none.
    let unknown_change = Batch {
        commands: vec![Command {
            op: Some(Op::MemberChange(MemberChange::default())),
            ..Command::default()
        }],
        ..good()
    };
    let cases = [
        (
            Batch {
                format: BATCH_FORMAT + 1,
                ..good()
            },
            Need::Format(BATCH_FORMAT + 1),
        ),
        (
            Batch {
                feature_level: FEATURE_LEVEL + 1,
                ..good()
            },
            Need::FeatureLevel(FEATURE_LEVEL + 1),
        ),
        (unknown, Need::Command(0)),
        (unknown_change, Need::Command(0)),
    ];
    for (batch, expected) in cases {
        let (_, mut machine) = machine();
        match machine.apply(&[commands(1, &batch)]) {
            Err(StoreError::UnknownCommand { index: 1, needs }) => assert_eq!(needs, expected),
            other => panic!("{other:?}"),
        }
        assert!(matches!(machine.apply(&[]), Err(StoreError::Stopped)));
    }
}

#[test]
fn an_undecodable_entry_stops_the_machine() {
    let (_, mut machine) = machine();
    let payload = Payload::Commands(vec![0xff; 3].into());
    let fault = machine.apply(&[Entry {
        id: LogId { term: 1, index: 4 },
        payload,
    }]);
    assert!(
        matches!(fault, Err(StoreError::Undecodable { index: 4, .. })),
        "{fault:?}"
    );
}

#[test]
fn a_failed_engine_write_publishes_nothing_and_stops_the_machine() {
    let (engine, mut machine) = machine();
    apply(&mut machine, vec![Op::Put(put("a", "1"))]);
    engine.fail_writes(true);
    let fault = machine.apply(&[entry(2, vec![Op::Put(put("a", "2"))])]);
    assert!(matches!(fault, Err(StoreError::Engine { .. })), "{fault:?}");
    engine.fail_writes(false);
    assert_eq!(
        read(&machine, &range("a", "")).unwrap().records[0].value(),
        b"1"
    );
    assert!(matches!(
        machine.apply(&[entry(2, vec![])]),
        Err(StoreError::Stopped)
    ));
    assert!(matches!(machine.flush(), Err(StoreError::Stopped)));
    drop(machine);
    let machine = Machine::open(engine, Options::default()).unwrap();
    assert_eq!(machine.applied(), Some(LogId { term: 1, index: 1 }));
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let (_, mut machine) = machine();
    apply(&mut machine, vec![Op::Put(put("a", "1"))]);
    let missing = PutRequest {
        ignore_value: true,
        ..put("b", "")
    };
    let leased = PutRequest {
        lease: 9,
        ..put("b", "")
    };
    let future = proto::etcd::etcdserverpb::RangeRequest {
        revision: 9,
        ..range("a", "")
    };
    let cases = [
        (Request::RequestPut(missing), Refusal::KeyNotFound),
        (Request::RequestPut(leased), Refusal::LeaseNotFound(9)),
        (
            Request::RequestRange(future),
            Refusal::FutureRevision {
                requested: 9,
                current: 2,
            },
        ),
    ];
    for (last, refusal) in cases {
        let first = Request::RequestPut(put("a", "2"));
        let second = Request::RequestDeleteRange(delete("a", ""));
        assert_eq!(
            apply_one(&mut machine, txn(vec![first, second, last])),
            Err(refusal)
        );
        let found = read(&machine, &range("a", "")).unwrap();
        assert_eq!(
            (found.records[0].value(), machine.reader().view().revision),
            (&b"1"[..], 2)
        );
    }
}

#[test]
fn of_two_things_that_a_put_misses_the_lease_is_told() {
    let (_, mut machine) = machine();
    let request = PutRequest {
        ignore_value: true,
        lease: 9,
        ..put("missing", "")
    };
    assert_eq!(
        apply_one(&mut machine, Op::Put(request)),
        Err(Refusal::LeaseNotFound(9))
    );
}

/// The check for keys that are written twice takes such a delete for an empty one, as etcd's does; etcd then panics.
#[test]
fn a_put_that_keeps_what_the_same_transaction_deleted_finds_an_empty_value() {
    let (_, mut machine) = machine();
    apply(&mut machine, vec![Op::Put(put("b", "1"))]);
    let keeping = PutRequest {
        ignore_value: true,
        ignore_lease: true,
        ..put("b", "")
    };
    let ops = vec![
        Request::RequestDeleteRange(delete("a", "\0")),
        Request::RequestPut(keeping),
    ];
    apply_one(&mut machine, txn(ops)).unwrap();
    let found = read(&machine, &range("b", "")).unwrap();
    let record = &found.records[0];
    assert_eq!(
        (
            record.value(),
            record.fields().lease,
            record.fields().version
        ),
        (&b""[..], 0, 1)
    );
}

#[test]
fn a_delete_of_nothing_and_a_transaction_without_writes_make_no_revision() {
    let (_, mut machine) = machine();
    let reads = txn(vec![Request::RequestRange(range("a", ""))]);
    for op in [Op::DeleteRange(delete("a", "z")), reads] {
        let outcome = apply(&mut machine, vec![op]);
        assert!(outcome.changes.is_empty());
        let revision = match outcome.answers[0].outcome.clone().unwrap() {
            Answer::DeleteRange(answer) => answer.header.unwrap().revision,
            Answer::Txn(answer) => answer.header.unwrap().revision,
            other => panic!("{other:?}"),
        };
        assert_eq!((revision, machine.reader().view().revision), (1, 1));
    }
}

#[test]
fn compaction_hides_older_revisions_at_once_and_moves_only_forward() {
    let (_, mut machine) = machine();
    let puts = (0..5).map(|n| Op::Put(put("a", &n.to_string()))).collect();
    apply(&mut machine, puts);
    let at = |revision| proto::etcd::etcdserverpb::RangeRequest {
        revision,
        ..range("a", "")
    };
    assert!(apply_one(&mut machine, compact(4)).is_ok());
    let compacted = |requested| Refusal::Compacted {
        requested,
        compacted: 4,
    };
    assert_eq!(read(&machine, &at(3)), Err(compacted(3)));
    assert_eq!(read(&machine, &at(4)).unwrap().records[0].value(), b"2");
    assert_eq!(apply_one(&mut machine, compact(4)), Err(compacted(4)));
    let future = Refusal::FutureRevision {
        requested: 7,
        current: 6,
    };
    assert_eq!(apply_one(&mut machine, compact(7)), Err(future));
}

#[test]
fn a_transaction_reads_revisions_that_its_own_batch_made() {
    let (_, mut machine) = machine();
    let old = proto::etcd::etcdserverpb::RangeRequest {
        revision: 2,
        ..range("a", "z")
    };
    let ops = vec![
        Op::Put(put("a", "1")),
        Op::Put(put("a", "2")),
        txn(vec![
            Request::RequestPut(put("b", "3")),
            Request::RequestRange(old),
        ]),
    ];
    let outcome = apply(&mut machine, ops);
    let Ok(Answer::Txn(answer)) = outcome.answers[2].outcome.clone() else {
        panic!("{outcome:?}")
    };
    let Some(proto::etcd::etcdserverpb::response_op::Response::ResponseRange(found)) =
        answer.responses[1].response.clone()
    else {
        panic!("{answer:?}")
    };
    assert_eq!((found.count, &*found.kvs[0].value), (1, &b"1"[..]));
    assert_eq!(found.header.unwrap().revision, 4);
}

#[test]
fn membership_and_position_survive_a_flush_and_a_crash_takes_back_the_rest() {
    let (engine, mut machine) = machine();
    assert_eq!(
        (machine.applied(), machine.durable().unwrap()),
        (None, None)
    );
    let membership = Membership {
        voters: vec![[1].into()],
        members: [1, 2].into(),
    };
    let id = LogId { term: 1, index: 0 };
    machine
        .apply(&[Entry {
            id,
            payload: Payload::Membership(membership.clone()),
        }])
        .unwrap();
    assert_eq!(machine.durable().unwrap(), None);
    let name = machine.flush().unwrap().unwrap();
    assert_eq!((name.applied, name.membership.log_id), (id, Some(id)));
    assert_eq!(name.membership.membership, membership);
    machine
        .apply(&[Entry {
            id: LogId { term: 2, index: 1 },
            payload: Payload::Blank,
        }])
        .unwrap();
    assert_eq!(machine.durable().unwrap(), Some(name));
    drop(machine);
    engine.crash();
    let machine = Machine::open(engine, Options::default()).unwrap();
    assert_eq!(
        (machine.applied(), &machine.membership().membership),
        (Some(id), &membership)
    );
}

#[test]
fn values_beyond_the_budget_leave_memory_and_come_back_when_read() {
    let engine = Arc::new(MemoryEngine::new());
    let options = Options {
        value_budget_bytes: 80_000,
    };
    let mut machine = Machine::open(engine, options).unwrap();
    let value = "v".repeat(1000);
    for number in 0..100 {
        apply(
            &mut machine,
            vec![Op::Put(put(&format!("key{number:03}"), &value))],
        );
        // What the keys take is not there for values.
        assert!(machine.reader().view().cached_bytes + number * 100 <= 80_000);
    }
    let answer = read(&machine, &range("key", "kez")).unwrap();
    assert!(
        answer
            .records
            .iter()
            .all(|record| record.value() == value.as_bytes())
    );
    assert_eq!(answer.count, 100);
    let cached = machine.reader().view().cached_bytes;
    assert!(cached > 10_000, "the budget is used: {cached}");
}

#[test]
fn a_value_read_through_an_old_view_does_not_replace_a_newer_one() {
    let engine = Arc::new(MemoryEngine::new());
    let options = Options {
        value_budget_bytes: 0,
    };
    let mut machine = Machine::open(engine, options).unwrap();
    let (old, new) = ("old".repeat(100), "new".repeat(100));
    apply(&mut machine, vec![Op::Put(put("a", &old))]);
    let reader = machine.reader();
    let view = reader.view();
    apply(&mut machine, vec![Op::Put(put("a", &new))]);
    let found = reader.range(&view, &range("a", "")).unwrap().unwrap();
    assert_eq!(found.records[0].value(), old.as_bytes());
    apply(&mut machine, vec![]);
    let found = read(&machine, &range("a", "")).unwrap();
    assert_eq!(found.records[0].value(), new.as_bytes());
}

#[test]
fn warming_loads_values_until_the_budget_is_full() {
    let engine = Arc::new(MemoryEngine::new());
    let mut machine = Machine::open(engine.clone(), Options::default()).unwrap();
    let value = "v".repeat(100);
    let puts = (0..100).map(|n| Op::Put(put(&format!("key{n:03}"), &value)));
    apply(&mut machine, puts.collect());
    let all = machine.reader().view().cached_bytes;
    drop(machine);
    let mut machine = Machine::open(engine.clone(), Options::default()).unwrap();
    assert_eq!(machine.reader().view().cached_bytes, 0);
    let loaded: Vec<_> = (0..4).map(|_| machine.warm(40).unwrap()).collect();
    assert_eq!(
        (loaded, machine.reader().view().cached_bytes),
        (vec![40, 40, 20, 0], all)
    );
    // The index alone takes more: an eighth is for values.
    let options = Options {
        value_budget_bytes: all / 2,
    };
    let mut machine = Machine::open(engine, options).unwrap();
    while machine.warm(7).unwrap() > 0 {}
    let cached = machine.reader().view().cached_bytes;
    assert!(
        cached <= all / 16 && cached > all / 16 - 200,
        "{cached} of {all}"
    );
}

#[test]
fn a_database_of_a_newer_format_is_refused() {
    let engine = Arc::new(MemoryEngine::new());
    let mut batch = EngineBatch::default();
    batch.put(
        Family::Meta,
        |out| out.extend_from_slice(layout::META_FORMAT),
        |out| out.push(u8::try_from(layout::FORMAT + 1).unwrap()),
    );
    engine.write(&batch).unwrap();
    let fault = Machine::open(engine, Options::default()).map(|_| ());
    assert!(
        matches!(fault, Err(StoreError::NewerFormat { found: 2, known: 1 })),
        "{fault:?}"
    );
}

#[cfg(feature = "rocksdb")]
mod rocks {
    use std::fs;

    use store::engine::rocks::{RocksEngine, RocksOptions};

    use super::*;
    use crate::engines::{Bench, Rocks};

    #[test]
    fn a_database_in_use_is_named() {
        let rocks = Rocks::new();
        let fault = RocksEngine::open(&rocks.database(), &RocksOptions::default()).map(|_| ());
        let Err(StoreError::Locked { folder }) = fault else {
            panic!("{fault:?}")
        };
        assert_eq!(folder, rocks.database());
    }

    #[test]
    fn a_damaged_file_is_named() {
        let mut rocks = Rocks::new();
        let mut machine = Machine::open(rocks.engine(), Options::default()).unwrap();
        let value = "v".repeat(100);
        let puts = (0..1000).map(|n| Op::Put(put(&format!("key{n:03}"), &value)));
        apply(&mut machine, puts.collect());
        machine.flush().unwrap();
        let files = fs::read_dir(rocks.database())
            .unwrap()
            .map(|file| file.unwrap().path());
        for file in files.filter(|file| file.extension().is_some_and(|end| end == "sst")) {
            let mut bytes = fs::read(&file).unwrap();
            // The first block holds data in every file.
            bytes[20] ^= 1;
            fs::write(&file, bytes).unwrap();
        }
        drop(machine);
        rocks.restart();
        let fault = Machine::open(rocks.engine(), Options::default()).map(|_| ());
        let Err(StoreError::Corrupt {
            file: Some(file), ..
        }) = &fault
        else {
            panic!("{fault:?}")
        };
        assert!(file.ends_with(".sst"), "{file}");
    }

    #[test]
    fn a_damaged_manifest_is_named() {
        let rocks = Rocks::new();
        let database = rocks.database();
        let mut machine = Machine::open(rocks.engine(), Options::default()).unwrap();
        apply(&mut machine, vec![Op::Put(put("a", "1"))]);
        machine.flush().unwrap();
        drop(machine);
        let copy = tempfile::TempDir::new().unwrap();
        for file in fs::read_dir(&database).unwrap() {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            let mut bytes = fs::read(file.path()).unwrap();
            if name.starts_with("MANIFEST") {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            fs::write(copy.path().join(name), bytes).unwrap();
        }
        let fault = RocksEngine::open(copy.path(), &RocksOptions::default()).map(|_| ());
        let Err(StoreError::Corrupt {
            file: Some(file), ..
        }) = &fault
        else {
            panic!("{fault:?}")
        };
        assert!(file.contains("MANIFEST"), "{file}");
    }

    #[test]
    fn nothing_is_durable_before_a_flush_and_everything_after() {
        let rocks = Rocks::new();
        let mut machine = Machine::open(rocks.engine(), Options::default()).unwrap();
        apply(&mut machine, vec![Op::Put(put("a", "1"))]);
        assert_eq!(machine.durable().unwrap(), None);
        let name = machine.flush().unwrap().unwrap();
        assert_eq!(
            (name.applied, name.revision),
            (LogId { term: 1, index: 1 }, 2)
        );
        apply(&mut machine, vec![Op::Put(put("a", "2"))]);
        assert_eq!(machine.durable().unwrap(), Some(name));
        assert!(rocks.engine().size() > 0);
    }
}
