//! Power cuts at any moment: what was acknowledged is there, what is there was written, in order.
//!
//! `SEED` replays one run.

mod log_common;

use log_common::model::{Model, Step, live};
use log_common::{entry, open, options, seeds};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::Entry;
use store::fs::SimFs;
use store::log::{LogError, LogOptions};

fn run(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let disk = SimFs::new(seed);
    let options = LogOptions {
        tail_bytes: random.random_range(0..3000),
        ..options(4096)
    };
    let mut before = Model::default();
    let mut history: (Vec<Step>, usize) = (Vec::new(), 0);
    let mut synced: Vec<Entry> = Vec::new();
    for life in 0..4 {
        // The power may go while the log is being opened, more than once.
        let (log, mut worker) = loop {
            if random.random_ratio(1, 3) {
                disk.cut_power_after(random.random_range(0..12));
            }
            match open(&disk, &options) {
                Ok((log, worker, _)) => break (log, worker),
                Err(LogError::Io { .. }) if random.random_bool(0.5) => disk.restart(),
                Err(LogError::Io { .. }) => disk.crash(),
                Err(error) => panic!("SEED={seed}, life {life}: {error}"),
            }
        };
        let found = Model::read(&log).expect("the log can be read");
        let (steps, acknowledged) = &history;
        let mut expected = before.clone();
        let mut is_found = false;
        for (nth, step) in steps.iter().enumerate() {
            is_found |= nth >= *acknowledged && expected == found;
            expected.apply(step);
        }
        is_found |= expected == found;
        assert!(
            is_found,
            "SEED={seed}, life {life}: found last {:?} purged {:?} vote {:?}, after {acknowledged} of {} steps, \
             which end with last {:?} purged {:?} vote {:?}",
            found.last,
            found.purged,
            found.vote,
            steps.len(),
            expected.last,
            expected.purged,
            expected.vote,
        );
        for entry in synced {
            let is_purged = found
                .purged
                .is_some_and(|purged| purged.index >= entry.id.index);
            assert!(
                is_purged || found.entries.get(&entry.id.index) == Some(&entry),
                "SEED={seed}: {:?}",
                entry.id
            );
        }
        if let (Some(committed), Some(last)) = (log.committed(), log.last()) {
            assert!(committed.index <= last.index, "SEED={seed}");
        }
        before = found.clone();
        let mut model = found;
        if random.random_bool(0.7) {
            disk.cut_power_after(random.random_range(0..120));
        } else if random.random_bool(0.5) {
            disk.fail_sync_after(random.random_range(0..40));
        }
        history = live(&log, &mut worker, &mut model, &mut random);
        let end = log.synced_index().map_or(0, |index| index + 1);
        synced = model
            .entries
            .range(..end)
            .map(|(_, entry)| entry.clone())
            .collect();
        if random.random_ratio(1, 3) {
            disk.restart();
        } else {
            disk.crash();
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut() {
    for seed in seeds(2000) {
        // A failed run leaves its seed as the last one.
        eprintln!("SEED={seed}");
        run(seed);
    }
}

#[test]
fn the_same_seed_leaves_the_same_disk() {
    let contents = |seed| {
        let disk = SimFs::new(seed);
        let (log, mut worker, _) = open(&disk, &options(4096)).unwrap();
        for index in 0..40 {
            log.append(vec![entry(1, index, 200)], log_common::ignored());
            if index % 3 == 0 {
                worker.run_once();
            }
        }
        disk.cut_power_after(1);
        worker.run_once();
        disk.crash();
        let names = store::fs::WalFs::list(&disk).unwrap();
        names
            .into_iter()
            .map(|name| (disk.contents(&name).unwrap(), name))
            .collect::<Vec<_>>()
    };
    assert_eq!(contents(7), contents(7));
}
