//! Compaction on disk: what engines drop, what the sweep removes, and that no read misses any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::command::command::Op;
use proto::etcd::etcdserverpb::RangeRequest;
use proto::etcd::etcdserverpb::request_op::Request;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::engine::memory::MemoryEngine;
use store::engine::{Batch, Family, StateEngine, Step};
use store::{Entry, Machine, Options, Reader, Refusal, Sweep, layout};

use crate::check::check_range;
use crate::commands::{apply, compact, delete, entry, keys, put, range, txn};
use crate::engines::{Bench, Memory};
use crate::generate::{command, seed};
use crate::model::Model;

/// Every value is read from the engine.
const NOTHING_IN_MEMORY: Options = Options {
    value_budget_bytes: 0,
};

fn on_each_engine(mut check: impl FnMut(&mut dyn Bench)) {
    check(&mut Memory(Default::default()));
    #[cfg(feature = "rocksdb")]
    check(&mut crate::engines::Rocks::new());
}

/// The stored keys of a family.
fn stored(engine: &dyn StateEngine, family: Family) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    engine
        .scan(family, &[], None, &mut |key, _, _| {
            keys.push(key.to_vec());
            Step::Next
        })
        .unwrap();
    keys
}

#[test]
fn a_range_deletion_takes_its_range_and_what_is_written_later_stays() {
    on_each_engine(|bench| {
        let set = |batch: &mut Batch, number: u8| {
            batch.put(Family::Log, |key| key.push(number), |value| value.push(1));
        };
        let mut batch = Batch::default();
        (0..10).for_each(|number| set(&mut batch, number));
        bench.engine().write(&batch).unwrap();
        bench.engine().flush().unwrap();
        batch.clear();
        batch.delete_range(Family::Log, |from| from.push(2), |to| to.push(7));
        set(&mut batch, 4);
        batch.delete_range(Family::Log, |from| from.push(9), |to| to.push(8));
        bench.engine().write(&batch).unwrap();
        let expected = [0, 1, 4, 7, 8, 9].map(|number| vec![number]);
        assert_eq!(stored(&*bench.engine(), Family::Log), expected);
        bench.engine().flush().unwrap();
        bench.crash();
        assert_eq!(stored(&*bench.engine(), Family::Log), expected);
        bench.engine().compact_all().unwrap();
        assert_eq!(stored(&*bench.engine(), Family::Log), expected);
    });
}

#[test]
fn a_full_compaction_drops_what_the_horizon_gives_up_and_the_horizon_never_falls() {
    on_each_engine(|bench| {
        let mut batch = Batch::default();
        let version = |revision| {
            let mut key = Vec::new();
            layout::put_kv_key(&mut key, b"key", revision);
            key
        };
        for revision in 1..=9 {
            let key = version(revision);
            batch.put(Family::Kv, |out| out.extend(key), |value| value.push(0));
        }
        bench.engine().write(&batch).unwrap();
        let all: Vec<_> = (1..=9).rev().map(version).collect();
        bench.engine().compact_all().unwrap();
        assert_eq!(stored(&*bench.engine(), Family::Kv), all);
        bench.engine().set_horizon(4);
        bench.engine().set_horizon(3);
        bench.engine().compact_all().unwrap();
        assert_eq!(stored(&*bench.engine(), Family::Kv), all[..6]);
        // At once also for a crash.
        bench.crash();
        assert_eq!(stored(&*bench.engine(), Family::Kv), all[..6]);
        bench.engine().compact_all().unwrap();
        assert_eq!(stored(&*bench.engine(), Family::Kv), all[..6]);
    });
}

fn everything() -> RangeRequest {
    range("\0", "\0")
}

/// What `holds` the key at the revision, by the plain way of asking for it.
fn value_at(reader: &Reader, key: &str, revision: i64) -> Result<Option<String>, Refusal> {
    let request = RangeRequest {
        revision,
        ..range(key, "")
    };
    let found = reader.range(&reader.view(), &request).unwrap()?;
    let value = |record: &store::Record| String::from_utf8(record.value().to_vec()).unwrap();
    Ok(found.records.first().map(value))
}

/// Makes the state durable and sweeps it to its end; answers the horizon.
fn sweep_all(engine: &dyn StateEngine, sweep: &mut Sweep) -> i64 {
    engine.flush().unwrap();
    let horizon = sweep.raise_horizon().unwrap();
    while !sweep.step(7).unwrap().is_done {}
    assert_eq!(sweep.cleared().unwrap(), horizon.max(0));
    horizon
}

/// A version as it is stored: key, revision, and sub-revision if it was superseded within its revision.
type Version = (Vec<u8>, i64, Option<u32>);

fn versions(engine: &dyn StateEngine) -> BTreeSet<Version> {
    let parse = |stored: Vec<u8>| {
        let found = layout::split_kv_key(&stored).unwrap();
        let key = layout::unescape(found.escaped).unwrap();
        (key, found.mod_revision, found.superseded)
    };
    stored(engine, Family::Kv).into_iter().map(parse).collect()
}

fn log_revisions(engine: &dyn StateEngine) -> BTreeSet<i64> {
    let stored = stored(engine, Family::Log);
    let revision = |key: &Vec<u8>| layout::log_key(key).unwrap().0;
    stored.iter().map(revision).collect()
}

/// What a compaction to `horizon` leaves of the model's history.
fn expected_versions(model: &Model, horizon: i64) -> BTreeSet<Version> {
    let mut kept = BTreeSet::new();
    let mut in_force = BTreeMap::new();
    for (revision, changes) in (1..).zip(&model.changes) {
        for (sub, (key, new, _)) in (0..).zip(changes) {
            let is_last = changes[sub as usize + 1..]
                .iter()
                .all(|(later, ..)| later != key);
            let version = (key.to_vec(), revision, (!is_last).then_some(sub));
            if revision >= horizon {
                kept.insert(version.clone());
            }
            if revision <= horizon && is_last {
                in_force.insert(key.clone(), new.as_ref().map(|_| version));
            }
        }
    }
    kept.extend(in_force.into_values().flatten());
    kept
}

/// All readable revisions, and all changes from the compacted revision on.
fn check_all(machine: &Machine, model: &Model) {
    let reader = machine.reader();
    let view = reader.view();
    for revision in 0..=view.revision {
        let request = RangeRequest {
            revision,
            ..everything()
        };
        check_range(&reader, &view, model, &request);
    }
    let after = (model.compact_revision - 1).max(0);
    let history = reader.history(&view, after, view.revision, usize::MAX, &mut |_| true);
    let told: Vec<_> = history
        .unwrap()
        .unwrap()
        .sets
        .iter()
        .flat_map(|set| &set.changes)
        .map(|change| {
            let key = change.record.key().to_vec();
            (key, change.record.mod_revision(), change.is_delete)
        })
        .collect();
    let expected: Vec<_> = (1..)
        .zip(&model.changes)
        .skip(after as usize)
        .flat_map(|(revision, changes)| changes.iter().map(move |change| (revision, change)))
        .map(|(revision, (key, new, _))| (key.to_vec(), revision, new.is_none()))
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn a_watch_from_the_compacted_revision_is_told_of_the_deletion_there() {
    on_each_engine(|bench| {
        let mut machine = Machine::open(bench.engine(), NOTHING_IN_MEMORY).unwrap();
        let mut sweep = Sweep::new(machine.reader());
        let mut model = Model::new();
        let ops = [
            Op::Put(put("a", "1")),
            Op::Put(put("b", "2")),
            Op::DeleteRange(delete("a", "")),
            Op::DeleteRange(delete("b", "")),
            Op::Put(put("c", "3")),
            compact(5),
        ];
        for op in ops {
            model.apply(&op).unwrap();
            apply(&mut machine, vec![op]);
        }
        assert_eq!(sweep_all(&*bench.engine(), &mut sweep), 5);
        bench.engine().compact_all().unwrap();
        check_all(&machine, &model);
        let left = [(b"b".to_vec(), 5, None), (b"c".to_vec(), 6, None)];
        assert_eq!(versions(&*bench.engine()), left.into());
        // Once it is below, it goes.
        model.apply(&compact(6)).unwrap();
        apply(&mut machine, vec![compact(6)]);
        assert_eq!(sweep_all(&*bench.engine(), &mut sweep), 6);
        check_all(&machine, &model);
        assert_eq!(
            versions(&*bench.engine()),
            [(b"c".to_vec(), 6, None)].into()
        );
        assert_eq!(log_revisions(&*bench.engine()), [6].into());
    });
}

#[test]
fn a_tombstone_hides_versions_in_files_that_are_not_rewritten() {
    let engine = Arc::new(MemoryEngine::new());
    let mut machine = Machine::open(engine.clone(), NOTHING_IN_MEMORY).unwrap();
    let mut sweep = Sweep::new(machine.reader());
    apply(&mut machine, vec![Op::Put(put("a", "1"))]);
    apply(&mut machine, vec![Op::DeleteRange(delete("a", ""))]);
    apply(&mut machine, vec![Op::Put(put("b", "1"))]);
    apply(&mut machine, vec![compact(4)]);
    engine.flush().unwrap();
    sweep.raise_horizon().unwrap();
    let mut put_key = Vec::new();
    layout::put_kv_key(&mut put_key, b"a", 2);
    engine.compact(&mut |key| key != put_key);
    assert_eq!(value_at(&machine.reader(), "a", 4), Ok(None));
    apply(&mut machine, vec![Op::Put(put("b", "2"))]);
    assert_eq!(value_at(&machine.reader(), "a", 4), Ok(None));
}

#[test]
fn a_crash_before_the_compaction_is_durable_brings_back_whole_revisions() {
    on_each_engine(|bench| {
        let mut machine = Machine::open(bench.engine(), NOTHING_IN_MEMORY).unwrap();
        let mut sweep = Sweep::new(machine.reader());
        for value in ["1", "2", "3"] {
            apply(&mut machine, vec![Op::Put(put("a", value))]);
        }
        machine.flush().unwrap();
        apply(&mut machine, vec![compact(4)]);
        assert_eq!(sweep.raise_horizon().unwrap(), 0);
        sweep.step(100).unwrap();
        let mut random = StdRng::seed_from_u64(0);
        // Not on RocksDB: there a rewrite of everything makes everything durable first.
        let memory = bench.is_memory();
        if memory {
            (0..10).for_each(|_| bench.rewrite(&mut random));
        }
        drop((machine, sweep));
        bench.crash();
        let machine = Machine::open(bench.engine(), NOTHING_IN_MEMORY).unwrap();
        for (revision, value) in [(2, "1"), (3, "2"), (4, "3")] {
            let found = value_at(&machine.reader(), "a", revision);
            assert_eq!(found, Ok(Some(value.to_owned())));
        }
    });
}

#[test]
fn what_a_running_read_needs_stays_until_it_ends() {
    on_each_engine(|bench| {
        let mut machine = Machine::open(bench.engine(), NOTHING_IN_MEMORY).unwrap();
        let mut sweep = Sweep::new(machine.reader());
        let reader = machine.reader();
        apply(
            &mut machine,
            vec![Op::Put(put("a", "1")), Op::Put(put("b", "1"))],
        );
        apply(&mut machine, vec![Op::Put(put("a", "2"))]);
        // Of revision 3, and of 4, which is the newest one.
        let (pin, view) = (reader.pin(3).unwrap(), reader.view());
        apply(&mut machine, vec![Op::Put(put("a", "3"))]);
        apply(&mut machine, vec![Op::DeleteRange(delete("", "z"))]);
        apply(&mut machine, vec![Op::Put(put("c", "1"))]);
        apply(&mut machine, vec![compact(7)]);
        let settle = |sweep: &mut Sweep| {
            let horizon = sweep_all(&*bench.engine(), sweep);
            bench.engine().compact_all().unwrap();
            horizon
        };
        let values = |revision| {
            let pin = (revision > 0).then_some(&pin);
            let all = u64::MAX;
            let page = reader.page(&view, pin, &everything(), all, all, &|| true);
            let records = page.unwrap().unwrap().unwrap();
            let found = records.iter().map(|record| record.value().to_vec());
            found.collect::<Vec<_>>()
        };
        assert_eq!(settle(&mut sweep), 3);
        assert_eq!(values(0), [b"2", b"1"]);
        assert_eq!(values(3), [b"1", b"1"]);
        let refused = Err(Refusal::Compacted {
            requested: 3,
            compacted: 7,
        });
        assert_eq!(value_at(&reader, "a", 3), refused);
        assert_eq!(reader.pin(3).map(drop), refused.map(drop));
        drop(pin);
        assert_eq!(settle(&mut sweep), 4);
        let request = everything();
        let answer = reader.range(&view, &request).unwrap().unwrap();
        assert_eq!(keys(&answer), ["a", "b"]);
        drop(view);
        assert_eq!(settle(&mut sweep), 7);
        assert_eq!(
            versions(&*bench.engine()),
            [(b"c".to_vec(), 7, None)].into()
        );
    });
}

#[test]
fn a_view_held_for_the_next_page_does_not_hold_back_a_compaction() {
    let mut machine = Machine::open(Arc::new(MemoryEngine::new()), Options::default()).unwrap();
    let reader = machine.reader();
    apply(&mut machine, vec![Op::Put(put("a", "1"))]);
    apply(&mut machine, vec![Op::Put(put("b", "1"))]);
    let request = RangeRequest {
        limit: 2,
        ..everything()
    };
    reader.note_page(&reader.view(), &request, true, Duration::ZERO);
    apply(&mut machine, vec![Op::Put(put("a", "2")), compact(3)]);
    reader.expire_pages(Duration::ZERO);
    assert_eq!(reader.oldest_needed(), 3);
    apply(&mut machine, vec![compact(4)]);
    reader.expire_pages(Duration::ZERO);
    assert_eq!(reader.oldest_needed(), 4);
}

#[test]
fn a_key_with_more_versions_than_a_batch_takes_keeps_its_tombstone_to_the_last() {
    const VERSIONS: usize = 10_000;
    let engine = Arc::new(MemoryEngine::new());
    let mut machine = Machine::open(engine.clone(), Options::default()).unwrap();
    let mut sweep = Sweep::new(machine.reader());
    for _ in 0..VERSIONS / 100 + 1 {
        apply(&mut machine, vec![Op::Put(put("a", "1")); 100]);
    }
    let deleted = apply(&mut machine, vec![Op::DeleteRange(delete("a", ""))]).changes[0].revision;
    apply(
        &mut machine,
        vec![Op::Put(put("b", "1")), compact(deleted + 1)],
    );
    engine.flush().unwrap();
    sweep.raise_horizon().unwrap();
    let mut steps = 0;
    loop {
        // Wherever it stops, no older version comes to light.
        assert_eq!(value_at(&machine.reader(), "a", deleted + 1), Ok(None));
        let tombstone = (b"a".to_vec(), deleted, None);
        let versions = versions(&*engine);
        assert_eq!(versions.len() > 1, versions.contains(&tombstone));
        if sweep.step(1_000_000).unwrap().is_done {
            break;
        }
        steps += 1;
    }
    assert_eq!(steps, 1);
    assert_eq!(versions(&*engine).len(), 1);
}

/// Random history, compacted and swept bit by bit, with crashes at any point: at the end the engine holds exactly
/// what it must.
fn run(bench: &mut dyn Bench, seed: u64) {
    eprintln!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut machine = Machine::open(bench.engine(), NOTHING_IN_MEMORY).unwrap();
    let mut sweep = Sweep::new(machine.reader());
    let (mut model, mut log) = (Model::new(), Vec::<Entry>::new());
    let next = |model: &mut Model, log: &mut Vec<Entry>, ops: Vec<Op>| {
        ops.iter().for_each(|op| drop(model.apply(op)));
        log.push(entry(log.len() as u64 + 1, ops));
    };
    for _ in 0..60 {
        let mut ops: Vec<Op> = (0..random.random_range(1..5))
            .map(|_| command(&mut random, &model))
            .collect();
        if random.random_bool(0.2) {
            // Written twice: deleted and put again, or the other way round.
            let key = ["a", "b", "ax"][random.random_range(0..3)];
            let mut ops2 = vec![
                Request::RequestDeleteRange(delete(key, "")),
                Request::RequestPut(put(key, "again")),
            ];
            if random.random_bool(0.3) {
                ops2.push(Request::RequestDeleteRange(delete(key, "")));
            }
            ops.push(txn(ops2));
        }
        if random.random_bool(0.1) && model.compact_revision < model.revision() {
            let low = model.compact_revision.max(0) + 1;
            ops.push(compact(random.random_range(low..=model.revision())));
        }
        next(&mut model, &mut log, ops);
        machine.apply(&log).unwrap();
        match random.random_range(0..10) {
            0 => bench.engine().flush().unwrap(),
            1..5 => {
                sweep.raise_horizon().unwrap();
                sweep.step(random.random_range(1..10)).unwrap();
            }
            5 => bench.rewrite(&mut random),
            6 => {
                drop((machine, sweep));
                bench.crash();
                machine = Machine::open(bench.engine(), NOTHING_IN_MEMORY).unwrap();
                sweep = Sweep::new(machine.reader());
                if random.random_bool(0.5) {
                    sweep.raise_horizon().unwrap();
                    sweep.step(random.random_range(1..10)).unwrap();
                }
                machine.apply(&log).unwrap();
            }
            _ => {}
        }
        check_all(&machine, &model);
    }
    if model.compact_revision < model.revision() {
        let low = model.compact_revision.max(0) + 1;
        let last = compact(random.random_range(low..=model.revision()));
        next(&mut model, &mut log, vec![last]);
        machine.apply(&log).unwrap();
    }
    let horizon = sweep_all(&*bench.engine(), &mut sweep);
    assert_eq!(horizon, model.compact_revision);
    bench.engine().compact_all().unwrap();
    check_all(&machine, &model);
    assert_eq!(
        versions(&*bench.engine()),
        expected_versions(&model, horizon)
    );
    let first = log_revisions(&*bench.engine()).first().copied();
    assert!(first.is_none_or(|first| first >= horizon));
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => {
            let first = seed();
            (first..first + count).collect()
        }
    }
}

#[test]
fn nothing_is_missing_and_nothing_is_left_in_memory() {
    for seed in seeds(150) {
        run(&mut Memory(Default::default()), seed);
    }
}

#[cfg(feature = "rocksdb")]
#[test]
fn nothing_is_missing_and_nothing_is_left_on_disk() {
    for seed in seeds(8) {
        run(&mut crate::engines::Rocks::new(), seed);
    }
}

#[cfg(feature = "rocksdb")]
#[test]
fn the_disk_is_given_back() {
    let mut bench = crate::engines::Rocks::new();
    let mut machine = Machine::open(bench.engine(), NOTHING_IN_MEMORY).unwrap();
    let mut sweep = Sweep::new(machine.reader());
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..15 {
        for keys in (0..1000).collect::<Vec<_>>().chunks(100) {
            // Not to be compressed.
            let mut put = |key: &i32| {
                let value: Vec<u8> = (0..1000).map(|_| random.random()).collect();
                Op::Put(proto::etcd::etcdserverpb::PutRequest {
                    value: value.into(),
                    ..put(&format!("{key:05}"), "")
                })
            };
            let ops = keys.iter().map(&mut put).collect();
            apply(&mut machine, ops);
        }
        bench.engine().flush().unwrap();
    }
    let before = bench.engine().size();
    let revision = machine.reader().view().revision;
    apply(&mut machine, vec![compact(revision)]);
    assert_eq!(sweep_all(&*bench.engine(), &mut sweep), revision);
    bench.engine().compact_all().unwrap();
    let after = bench.engine().size();
    eprintln!("{before} bytes before, {after} after");
    assert!(before > 14_000_000 && after < 1_500_000 + (1 << 20));
    drop((machine, sweep));
    bench.restart();
    let machine = Machine::open(bench.engine(), NOTHING_IN_MEMORY).unwrap();
    let reader = machine.reader();
    let all = reader
        .range(&reader.view(), &everything())
        .unwrap()
        .unwrap();
    assert_eq!((all.count, all.records[999].value().len()), (1000, 1000));
}
