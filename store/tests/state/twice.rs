//! Transactions that write one key more than once, as etcd lets some pass.

use std::sync::Arc;

use proto::command::command::Op;
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{RangeRequest, TxnRequest};
use store::engine::memory::MemoryEngine;
use store::engine::{Batch, Family, StateEngine};
use store::{ChangeSet, Machine, Options, StoreError, layout};

use crate::commands::{apply, delete, entry, op, put, range, read, txn};
use crate::engines::{Bench, Memory};

fn nested(request: Request) -> Request {
    Request::RequestTxn(TxnRequest {
        success: vec![op(request)],
        ..Default::default()
    })
}

fn put_of(key: &str, value: &str) -> Request {
    Request::RequestPut(put(key, value))
}

fn delete_of(key: &str, range_end: &str) -> Request {
    Request::RequestDeleteRange(delete(key, range_end))
}

/// Revisions 3 to 8, of which each but the last writes `b` more than once; it exists before 3, 4 and 7 only.
fn commands() -> Vec<Op> {
    let everything = || delete_of("a", "\0");
    vec![
        Op::Put(put("b", "old")),
        txn(vec![everything(), put_of("b", "new")]),
        txn(vec![
            nested(put_of("b", "gone")),
            nested(delete_of("b", "")),
        ]),
        txn(vec![put_of("b", "brief"), put_of("c", "1"), everything()]),
        txn(vec![
            nested(put_of("b", "6")),
            delete_of("b", ""),
            put_of("b", "kept"),
        ]),
        txn(vec![everything(), put_of("b", "between"), everything()]),
        Op::Put(put("b", "last")),
    ]
}

/// A change: the value put, with version and create revision, or none; the revision of the version before.
type Seen = (
    i64,
    &'static str,
    Option<(&'static str, i64, i64)>,
    Option<i64>,
);

/// All changes of [`commands`], in their order.
const CHANGES: [Seen; 16] = [
    (2, "b", Some(("old", 1, 2)), None),
    (3, "b", None, Some(2)),
    (3, "b", Some(("new", 1, 3)), None),
    (4, "b", Some(("gone", 2, 3)), Some(3)),
    (4, "b", None, Some(3)),
    (5, "b", Some(("brief", 1, 5)), None),
    (5, "c", Some(("1", 1, 5)), None),
    (5, "b", None, None),
    (5, "c", None, None),
    (6, "b", Some(("6", 1, 6)), None),
    (6, "b", None, None),
    (6, "b", Some(("kept", 1, 6)), None),
    (7, "b", None, Some(6)),
    (7, "b", Some(("between", 1, 7)), None),
    (7, "b", None, Some(6)),
    (8, "b", Some(("last", 1, 8)), None),
];

fn check_changes(sets: &[Arc<ChangeSet>], what: &str) {
    let changes = sets
        .iter()
        .flat_map(|set| set.changes.iter().map(|change| (set.revision, change)));
    let found: Vec<_> = changes
        .map(|(revision, change)| {
            let record = &change.record;
            assert_eq!(record.mod_revision(), revision);
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let put = (!change.is_delete).then(|| {
                (
                    text(record.value()),
                    record.version(),
                    record.create_revision(),
                )
            });
            let before = change.previous.as_ref();
            (
                revision,
                text(record.key()),
                put,
                before.map(|before| before.mod_revision),
            )
        })
        .collect();
    let expected = CHANGES.map(|(revision, key, put, before)| {
        let put = put.map(|(value, version, created)| (value.to_owned(), version, created));
        (revision, key.to_owned(), put, before)
    });
    assert_eq!(found, expected, "{what}");
}

fn history(machine: &Machine) -> Result<Vec<Arc<ChangeSet>>, StoreError> {
    let reader = machine.reader();
    let view = reader.view();
    let found = reader.history(&view, 1, view.revision, 100, &mut |_| true)?;
    Ok(found.unwrap().sets)
}

/// What each revision shows, and what was before it.
fn check_revisions(machine: &Machine, what: &str) {
    let reader = machine.reader();
    let states = [
        None,
        Some("old"),
        Some("new"),
        None,
        None,
        Some("kept"),
        None,
        Some("last"),
    ];
    for (state, revision) in states.iter().zip(1..) {
        for asked in [range("b", ""), range("a", "z"), range("\0", "\0")] {
            let answer = read(machine, &RangeRequest { revision, ..asked }).unwrap();
            let values: Vec<_> = answer.records.iter().map(store::Record::value).collect();
            let expected: Vec<_> = state.iter().map(|value| value.as_bytes()).collect();
            assert_eq!(values, expected, "{what}, revision {revision}");
        }
        let before = reader.previous(b"b", revision + 1).unwrap();
        let before = before.as_ref().map(store::Record::value);
        assert_eq!(before, state.map(str::as_bytes), "{what}, {revision}");
    }
}

fn check_on(bench: &mut dyn Bench) {
    let options = Options {
        value_budget_bytes: 0,
    };
    let open = |bench: &dyn Bench| Machine::open(bench.engine(), options.clone()).unwrap();
    let mut machine = open(bench);
    let log = [
        entry(1, commands()[..3].to_vec()),
        entry(2, commands()[3..].to_vec()),
    ];
    let check = |machine: &Machine, what: &str| {
        check_changes(&history(machine).unwrap(), what);
        check_revisions(machine, what);
    };
    let live = machine.apply(&log).unwrap().changes;
    check_changes(&live, "live");
    check(&machine, "read back");
    drop(machine);
    bench.restart();
    machine = open(bench);
    check(&machine, "after a restart");
    while machine.warm(1).unwrap() > 0 {}
    check(&machine, "warm");
}

fn check_crash_on(bench: &mut dyn Bench) {
    let open = |bench: &dyn Bench| Machine::open(bench.engine(), Options::default()).unwrap();
    let mut machine = open(bench);
    let log = [
        entry(1, commands()[..3].to_vec()),
        entry(2, commands()[3..].to_vec()),
    ];
    machine.apply(&log[..1]).unwrap();
    machine.flush().unwrap();
    machine.apply(&log[1..]).unwrap();
    drop(machine);
    bench.crash();
    machine = open(bench);
    machine.apply(&log).unwrap();
    check_changes(&history(&machine).unwrap(), "after a crash and a replay");
    check_revisions(&machine, "after a crash and a replay");
}

#[test]
fn every_write_of_a_key_is_told_and_only_the_last_is_shown() {
    check_on(&mut Memory(Arc::new(MemoryEngine::new())));
    check_crash_on(&mut Memory(Arc::new(MemoryEngine::new())));
}

#[cfg(feature = "rocksdb")]
#[test]
fn every_write_of_a_key_is_told_and_only_the_last_is_shown_on_rocksdb() {
    check_on(&mut crate::engines::Rocks::new());
    check_crash_on(&mut crate::engines::Rocks::new());
}

#[test]
fn only_superseded_versions_take_a_second_kind_of_key() {
    let engine = Arc::new(MemoryEngine::new());
    let mut machine = Machine::open(engine.clone(), Options::default()).unwrap();
    apply(&mut machine, commands());
    let mut found = Vec::new();
    let mut visit = |key: &[u8], _: &[u8], _: &mut Vec<u8>| {
        let key = layout::split_kv_key(key).unwrap();
        found.extend(key.superseded.map(|sub| (key.mod_revision, sub)));
        store::engine::Step::Next
    };
    engine.scan(Family::Kv, &[], None, &mut visit).unwrap();
    let newest_first_by_key = [
        (7, 0),
        (7, 1),
        (6, 0),
        (6, 1),
        (5, 0),
        (4, 0),
        (3, 0),
        (5, 1),
    ];
    assert_eq!(found, newest_first_by_key);
}

#[test]
fn a_superseded_version_that_is_missing_is_damage() {
    let engine = Arc::new(MemoryEngine::new());
    let mut machine = Machine::open(engine.clone(), Options::default()).unwrap();
    apply(&mut machine, commands());
    assert!(history(&machine).is_ok());
    let mut batch = Batch::default();
    batch.delete(Family::Kv, |out| {
        layout::put_superseded_kv_key(out, b"b", 7, 1);
    });
    engine.write(&batch).unwrap();
    let fault = history(&machine);
    assert!(
        matches!(fault, Err(StoreError::Corrupt { .. })),
        "{fault:?}"
    );
}
