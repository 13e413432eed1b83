//! Compaction on disk: what engines drop, what the sweep removes, and that no read misses any of it.

use store::engine::{Batch, Family, StateEngine, Step};
use store::layout;

use crate::engines::{Bench, Memory};

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
