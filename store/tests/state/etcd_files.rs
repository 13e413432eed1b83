//! To etcd's files and back: the same state, the same history from the compacted revision on, the same bytes.

use std::io::Cursor;
use std::sync::Arc;

use prost::Message as _;
use proto::command::command::Op;
use proto::etcd::etcdserverpb::RangeRequest;
use proto::etcd::etcdserverpb::request_op::Request;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::bolt::read::Database;
use store::bolt::write::Writer;
use store::engine::memory::MemoryEngine;
use store::etcd::export::{self, ExportError, Exported};
use store::etcd::import::{self, Beginning, ImportError, Imported};
use store::etcd::status;
use store::{LogId, Machine, Options, Reader, StateEngine, StoredMembership};

use crate::commands::{apply, compact, delete, put, txn};
use crate::counting::Counting;
use crate::generate::{command, seed};
use crate::model::Model;

const OF_ETCD: &[u8] = include_bytes!("../files/etcd-3.7.3.snapshot");

fn options(sort_bytes: usize) -> export::Options {
    export::Options {
        storage_version: "3.7.0".to_owned(),
        cluster_version: "3.7.0".to_owned(),
        members: vec![(0xab, r#"{"id":171}"#.to_owned()), (0xcd, "{}".to_owned())],
        learners: vec![0xcd],
        removed: vec![0xef],
        sort_bytes,
    }
}

fn exported(reader: &Reader, sort_bytes: usize) -> (Vec<u8>, Exported) {
    let temporary = tempfile::tempfile().unwrap();
    let out = Cursor::new(Vec::new());
    let (out, exported) = export::export(
        reader,
        out,
        &temporary,
        &options(sort_bytes),
        &mut || Ok(()),
    )
    .unwrap();
    (out.into_inner(), exported)
}

fn imported(file: &[u8], bump_revision: Option<i64>) -> Result<(Machine, Imported), ImportError> {
    let database = Database::open(&file)?;
    import::inspect(&database)?;
    let beginning = Beginning {
        applied: LogId { term: 1, index: 1 },
        membership: StoredMembership::default(),
        bump_revision,
    };
    let engine = Arc::new(MemoryEngine::new());
    let imported = import::import(&database, &*engine, &beginning, &mut |_| {})?;
    Ok((Machine::open(engine, Options::default())?, imported))
}

/// The items of a bucket.
fn items(file: &[u8], bucket: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let database = Database::open(&file).unwrap();
    let bucket = database.bucket(bucket.as_bytes()).unwrap().unwrap();
    let mut seen = database.seen();
    let mut items = bucket.items(&mut seen);
    let mut found = Vec::new();
    while let Some(item) = items.next().unwrap() {
        found.push((item.key.to_vec(), item.value.to_vec()));
    }
    found
}

fn at(revision: i64) -> RangeRequest {
    RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        revision,
        ..RangeRequest::default()
    }
}

#[test]
fn a_random_state_comes_back_whole_and_makes_the_same_file_again() {
    let mut random = StdRng::seed_from_u64(seed());
    for round in 0..20 {
        let mut model = Model::new();
        let mut machine = Machine::open(Arc::new(MemoryEngine::new()), Options::default()).unwrap();
        for _ in 0..random.random_range(1..250) {
            let op = command(&mut random, &model);
            let _ = model.apply(&op);
            apply(&mut machine, vec![op]);
        }
        let reader = machine.reader();
        let (file, exported_now) = exported(&reader, if round % 2 == 0 { 2000 } else { 1 << 20 });
        let (copy, imported_now) = imported(&file, None).unwrap();
        let copy = copy.reader();
        let (view, copied) = (reader.view(), copy.view());
        assert_eq!(
            (copied.revision, copied.compact_revision),
            (view.revision, view.compact_revision)
        );
        assert_eq!(
            (exported_now.revision, exported_now.versions),
            (view.revision, imported_now.versions)
        );
        for revision in view.compact_revision.max(1)..=view.revision {
            let expected = reader.range(&view, &at(revision)).unwrap().unwrap();
            assert_eq!(
                copy.range(&copied, &at(revision)).unwrap().unwrap(),
                expected
            );
        }
        let history = |reader: &Reader, after| {
            let view = reader.view();
            reader
                .history(&view, after, view.revision, 1000, &mut |_| true)
                .unwrap()
                .unwrap()
        };
        assert_eq!(
            history(&copy, view.compact_revision),
            history(&reader, view.compact_revision)
        );
        // At the compacted revision itself, what a compaction leaves can be told.
        history(&copy, view.compact_revision - 1);

        let (again, _) = exported(&copy, 1 << 20);
        for bucket in [
            "key",
            "lease",
            "alarm",
            "cluster",
            "members",
            "members_removed",
        ] {
            assert!(items(&again, bucket) == items(&file, bucket), "{bucket}");
        }
        let meta = items(&file, "meta");
        let conf_state = meta.iter().find(|(key, _)| key == b"confState").unwrap();
        assert_eq!(
            conf_state.1,
            br#"{"voters":[171],"learners":[205],"auto_leave":false}"#
        );
        let removed = (b"ef".to_vec(), b"removed".to_vec());
        assert_eq!(items(&file, "members_removed"), [removed]);
        let database = &&file[..];
        let status = status::status(&Database::open(database).unwrap(), &mut |_| {}).unwrap();
        assert_eq!(status.total_keys, view.index.len() as u64);
        assert_eq!(
            (status.total_size, &*status.version),
            (file.len() as u64, "3.7.0")
        );
    }
}

#[test]
fn a_snapshot_of_etcd_is_taken_over_and_handed_out_again() {
    let (machine, imported) = imported(OF_ETCD, None).unwrap();
    assert_eq!(
        (
            imported.revision,
            imported.compact_revision,
            imported.versions
        ),
        (7, 4, 6)
    );
    let reader = machine.reader();
    let view = reader.view();
    let newest = reader.range(&view, &at(0)).unwrap().unwrap();
    let found: Vec<_> = newest
        .records
        .iter()
        .map(|record| {
            (
                record.key().escape_ascii().to_string(),
                record.mod_revision(),
                record.version(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("big".to_owned(), 7, 1),
            ("k1".to_owned(), 6, 2),
            ("k3".to_owned(), 4, 1)
        ]
    );
    let (file, _) = exported(&reader, 1 << 20);
    for bucket in ["key", "lease", "auth", "authUsers", "authRoles"] {
        assert!(items(&file, bucket) == items(OF_ETCD, bucket), "{bucket}");
    }
    assert!(!items(&file, "lease").is_empty() && !items(&file, "authUsers").is_empty());
    // What etcdutl 3.7.3 says of the file.
    let status = status::status(&Database::open(&OF_ETCD).unwrap(), &mut |_| {}).unwrap();
    assert_eq!(
        (
            status.hash,
            status.revision,
            status.total_keys,
            status.total_size
        ),
        (2_522_918_783, 7, 3, 36_864)
    );
}

#[test]
fn a_raised_revision_is_compacted_and_leaves_the_newest_versions_alone() {
    let (machine, imported) = imported(OF_ETCD, Some(1000)).unwrap();
    assert_eq!((imported.revision, imported.compact_revision), (1007, 1007));
    let reader = machine.reader();
    let view = reader.view();
    assert_eq!(
        reader.range(&view, &at(0)).unwrap().unwrap().records.len(),
        3
    );
    assert!(reader.range(&view, &at(1006)).unwrap().is_err());
    let (file, exported) = exported(&reader, 1 << 20);
    assert_eq!((exported.versions, items(&file, "key").len()), (3, 3));
    assert!(
        reader
            .history(&view, 1006, 1007, 10, &mut |_| true)
            .unwrap()
            .unwrap()
            .sets
            .is_empty()
    );
    assert!(matches!(
        self::imported(OF_ETCD, Some(i64::MAX - 7)),
        Err(ImportError::Foreign(_))
    ));
}

fn commands() -> Vec<Op> {
    let puts = |key: &str| Request::RequestPut(put(key, "1"));
    vec![
        Op::Put(put("a", "1")),
        Op::Put(put("b", "1")),
        Op::Put(put("a", "2")),
        Op::DeleteRange(delete("b", "")),
        txn(vec![
            puts("c"),
            Request::RequestDeleteRange(delete("a", "")),
            puts("d"),
        ]),
        Op::DeleteRange(delete("c", "")),
    ]
}

/// A file as etcd leaves it that stopped after a compaction was ordered and before it was done.
#[test]
fn a_compaction_that_was_under_way_is_carried_out() {
    let mut machine = Machine::open(Arc::new(MemoryEngine::new()), Options::default()).unwrap();
    apply(&mut machine, commands());
    let (whole, _) = exported(&machine.reader(), 1 << 20);
    for compacted in 2..=7 {
        let mut writer = Writer::new(Cursor::new(Vec::new()), 4096).unwrap();
        writer.begin_bucket(b"meta").unwrap();
        let revision = [&i64::to_be_bytes(compacted)[..], b"_", &[0; 8]].concat();
        writer.put(b"scheduledCompactRev", &revision).unwrap();
        writer.begin_bucket(b"key").unwrap();
        for (key, value) in items(&whole, "key") {
            writer.put(&key, &value).unwrap();
        }
        let (file, _) = writer.finish().unwrap();
        let (machine, imported) = imported(&file.into_inner(), None).unwrap();
        assert_eq!(
            (imported.revision, imported.compact_revision),
            (7, compacted)
        );
        // As if it had been done before the file was made.
        let (taken_over, _) = exported(&machine.reader(), 1 << 20);
        let mut engine = Machine::open(Arc::new(MemoryEngine::new()), Options::default()).unwrap();
        apply(&mut engine, commands());
        apply(&mut engine, vec![compact(compacted)]);
        let (compacted_before, _) = exported(&engine.reader(), 1 << 20);
        assert_eq!(items(&taken_over, "key"), items(&compacted_before, "key"));
        let (reader, view) = (machine.reader(), machine.reader().view());
        let history = reader.history(&view, compacted - 1, 7, 100, &mut |_| true);
        history.unwrap().unwrap();
        let versions = |engine: &dyn StateEngine| {
            let mut count = 0;
            let counted = engine.scan(store::engine::Family::Kv, &[], None, &mut |_, _, _| {
                count += 1;
                store::engine::Step::Next
            });
            counted.unwrap();
            count
        };
        assert_eq!(versions(&*reader.engine()), items(&taken_over, "key").len());
    }
}

/// Memory must not grow with them: their number is as unbounded as that of keys.
#[test]
fn many_leases_are_taken_over_and_handed_out_bit_by_bit() {
    const VALUE: usize = 1 << 20;
    let mut writer = Writer::new(Cursor::new(Vec::new()), 4096).unwrap();
    writer.begin_bucket(b"key").unwrap();
    writer.begin_bucket(b"lease").unwrap();
    for id in 0..40_i64 {
        // A lease, and a field that nobody knows.
        let mut value = proto::command::Lease {
            id,
            ttl: 60,
            remaining_ttl: 0,
        }
        .encode_to_vec();
        value.extend_from_slice(&[0x7a, 0x80, 0x80, 0x40]);
        value.resize(value.len() + VALUE, u8::try_from(id).unwrap());
        writer.put(&id.to_be_bytes(), &value).unwrap();
    }
    let file = writer.finish().unwrap().0.into_inner();
    let engine = Counting::new();
    let beginning = Beginning {
        applied: LogId { term: 1, index: 1 },
        membership: StoredMembership::default(),
        bump_revision: None,
    };
    let bytes = &file[..];
    let database = Database::open(&bytes).unwrap();
    import::import(&database, &*engine, &beginning, &mut |_| {}).unwrap();
    let largest = engine.largest_batch();
    assert!((VALUE..8 * VALUE).contains(&largest), "{largest}");

    let reader = Machine::open(engine, Options::default()).unwrap().reader();
    let (copy, _) = exported(&reader, 1 << 20);
    assert!(items(&copy, "lease") == items(&file, "lease"));
    // There is no version of a key at which it could be asked.
    let mut asked = 0;
    let stopped = export::export(
        &reader,
        Cursor::new(Vec::new()),
        &tempfile::tempfile().unwrap(),
        &options(1 << 20),
        &mut || {
            asked += 1;
            if asked < 2 {
                Ok(())
            } else {
                Err("no more".to_owned())
            }
        },
    );
    assert!(matches!(stopped, Err(ExportError::Stopped(text)) if text == "no more"));
}

#[test]
fn what_etcd_does_not_write_is_refused_and_a_stop_is_heard() {
    let file = |bucket: &[u8], key: &[u8], value: &[u8]| {
        let mut writer = Writer::new(Cursor::new(Vec::new()), 4096).unwrap();
        writer.begin_bucket(bucket).unwrap();
        writer.put(key, value).unwrap();
        writer.finish().unwrap().0.into_inner()
    };
    let revision = [&2_i64.to_be_bytes()[..], b"_", &[0; 8]].concat();
    for (file, expected) in [
        (
            file(b"other", b"k", b"v"),
            "no bucket \"key\" (there are: other)",
        ),
        (file(b"key", b"k", b"v"), "has no revision"),
        (file(b"key", &revision, &[0xff]), "cannot be decoded"),
        (
            file(b"key", &revision, b"\x0a\x01k\x10\x03\x18\x03\x20\x01"),
            "contradicts itself",
        ),
    ] {
        let Err(error) = imported(&file, None) else {
            panic!("expected: {expected}")
        };
        assert!(error.to_string().contains(expected), "{error}");
    }
    let mut machine = Machine::open(Arc::new(MemoryEngine::new()), Options::default()).unwrap();
    apply(&mut machine, vec![Op::Put(put("a", "1"))]);
    let stopped = export::export(
        &machine.reader(),
        Cursor::new(Vec::new()),
        &tempfile::tempfile().unwrap(),
        &options(1000),
        &mut || Err("no more".to_owned()),
    );
    assert!(matches!(stopped, Err(ExportError::Stopped(text)) if text == "no more"));
}
