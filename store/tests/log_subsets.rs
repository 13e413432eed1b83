//! Recorded runs of the log, with the power cut before every single operation on the disk: for short ones with every
//! subset of the sectors and names that were not synced, for long ones with all that is typical and some at random.
//!
//! `SEED` replays one run, `RUNS` sets how many there are.

mod log_common;

use std::collections::BTreeSet;

use log_common::model::{Model, Step, live};
use log_common::{entries, from_env, must, open, options, seeds};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::fs::{InDoubt, SimFs};
use store::log::{Log, LogOptions, Worker};

/// Runs in CI.
const RUNS: u64 = 40;
/// Up to so many things in doubt, every subset is tried.
const ALL_SUBSETS: usize = 9;
/// Beyond, so many random subsets.
const SOME_SUBSETS: usize = 24;
/// Sectors of a block of 4 KiB, which some disks write as a whole.
const BLOCK: usize = 8;

/// Segments of so many blocks: a batch is written with the block that it begins in, and in one of a single block that is
/// always the first.
fn log_options(blocks: u64) -> LogOptions {
    LogOptions {
        tail_bytes: 0,
        ..options(4096 * blocks)
    }
}

fn reopened(disk: &SimFs, what: &str) -> (Log, Worker, Model, bool) {
    let (log, worker, recovered) =
        open(disk, &log_options(1)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = Model::read(&log).unwrap_or_else(|error| panic!("{what}: {error}"));
    (log, worker, found, recovered.cut.is_some())
}

/// What one power cut may leave: the state after any step from the last acknowledged one on.
struct Cut {
    disk: SimFs,
    allowed: Vec<Model>,
    /// The run came to its end before the cut.
    is_last: bool,
}

/// Plays the run of `seed` until the power goes before the operation `operation`.
fn play(seed: u64, operation: u64) -> Cut {
    let mut random = StdRng::seed_from_u64(seed);
    let disk = SimFs::new(seed);
    disk.cut_power_after(operation);
    let mut model = Model::default();
    let (steps, acknowledged) = match open(&disk, &log_options(1 + seed % 2)) {
        Ok((log, mut worker, _)) => live(&log, &mut worker, &mut model, &mut random),
        Err(_) => (Vec::<Step>::new(), 0),
    };
    let mut state = Model::default();
    let mut allowed = Vec::new();
    for (nth, step) in steps.iter().enumerate() {
        if nth >= acknowledged {
            allowed.push(state.clone());
        }
        state.apply(step);
    }
    allowed.push(state);
    let is_last = disk.operations() < operation;
    Cut {
        disk,
        allowed,
        is_last,
    }
}

/// The subsets to try, each as what is kept.
fn subsets(in_doubt: &[InDoubt], random: &mut StdRng) -> BTreeSet<Vec<bool>> {
    let count = in_doubt.len();
    if count <= ALL_SUBSETS {
        let subsets = 0..1_u32 << count;
        return subsets
            .map(|bits| (0..count).map(|nth| bits >> nth & 1 == 1).collect())
            .collect();
    }
    let by = |keeps: &dyn Fn(usize) -> bool| (0..count).map(keeps).collect::<Vec<bool>>();
    let mut chosen = BTreeSet::from([by(&|_| true), by(&|_| false)]);
    for place in 0..count {
        chosen.insert(by(&|nth| nth == place));
        chosen.insert(by(&|nth| nth != place));
        chosen.insert(by(&|nth| nth < place));
        chosen.insert(by(&|nth| nth >= place));
    }
    for _ in 0..SOME_SUBSETS {
        let chance = f64::from(random.random_range(1..8)) / 8.0;
        chosen.insert((0..count).map(|_| random.random_bool(chance)).collect());
        // In blocks: sectors of one go together.
        let salt: u64 = random.random();
        chosen.insert(by(&|nth| match in_doubt[nth] {
            InDoubt::Name(name) => salt >> (name % 8) & 1 == 1,
            InDoubt::Sector { file, sector } => {
                salt >> (8 + (file * 13 + sector / BLOCK) % 56) & 1 == 1
            }
        }));
    }
    chosen
}

/// What was seen, to know that the runs were not idle.
#[derive(Debug, Default)]
struct Seen {
    cases: u64,
    cuts: u64,
    exhaustive: u64,
    torn: u64,
    unacknowledged_kept: u64,
    purged: u64,
    segments: u64,
}

/// One case: the crash, then what a start finds, and whether the log goes on from there.
fn check(cut: &Cut, kept: &[bool], what: &str, random: &mut StdRng, seen: &mut Seen) {
    seen.cases += 1;
    let disk = cut.disk.duplicate();
    let mut next = kept.iter();
    disk.crash_keeping(|_| *next.next().expect("it asks for what it listed"));
    if random.random_ratio(1, 2) {
        // The power goes once more, while the log is being repaired.
        seen.cases += 1;
        disk.cut_power_after(random.random_range(0..8));
        drop(open(&disk, &log_options(2)));
        disk.crash();
    }
    let (log, worker, found, is_torn) = reopened(&disk, what);
    let is_allowed = cut.allowed.contains(&found);
    assert!(
        is_allowed,
        "{what}: found {found:?}, allowed {:?}",
        cut.allowed
    );
    seen.torn += u64::from(is_torn);
    seen.unacknowledged_kept += u64::from(found != cut.allowed[0]);
    seen.purged += u64::from(found.purged.is_some());
    let names = store::fs::WalFs::list(&disk).expect("the folder can be listed");
    seen.segments = seen.segments.max(names.len() as u64);
    drop((log, worker));

    // What a start cut off does not come back.
    disk.restart();
    let (log, mut worker, again, is_torn) = reopened(&disk, what);
    assert!(!is_torn && again == found, "{what}: then found {again:?}");
    let start = found.next();
    let more = entries(1000, start..start + 2, random.random_range(0..40));
    log.append(more.clone(), must());
    worker.run_once();
    drop((log, worker));
    disk.crash_keeping(|_| false);
    let (.., after, _) = reopened(&disk, what);
    let mut expected = found;
    for entry in more {
        expected.apply(&Step::Entry(entry));
    }
    assert_eq!(after, expected, "{what}: after two more entries");
}

#[test]
fn every_cut_of_a_recorded_run_leaves_what_was_acknowledged() {
    let seeds = seeds(from_env("RUNS").unwrap_or(RUNS));
    let mut seen = Seen::default();
    for seed in seeds.clone() {
        let mut random = StdRng::seed_from_u64(!seed);
        let mut before = None;
        for operation in 0.. {
            let cut = play(seed, operation);
            let in_doubt = cut.disk.in_doubt();
            let is_exhaustive = in_doubt.len() <= ALL_SUBSETS;
            // An operation that leaves the same in doubt, such as a failed one, adds nothing.
            let state = (in_doubt.clone(), cut.allowed.clone());
            if before.as_ref() != Some(&state) {
                seen.cuts += 1;
                for kept in subsets(&in_doubt, &mut random) {
                    seen.exhaustive += u64::from(is_exhaustive);
                    let what = format!("SEED={seed}, before operation {operation}, kept {kept:?}");
                    check(&cut, &kept, &what, &mut random, &mut seen);
                }
            }
            before = Some(state);
            if cut.is_last {
                break;
            }
        }
    }
    eprintln!("runs {seeds:?}: {seen:?}");
    if seeds.end - seeds.start >= RUNS {
        assert!(seen.cases >= 5_000, "{seen:?}");
        // A run that never meets what it is for proves nothing.
        for met in [
            seen.exhaustive,
            seen.torn,
            seen.unacknowledged_kept,
            seen.purged,
        ] {
            assert!(met >= 100, "{seen:?}");
        }
        assert!(seen.segments >= 4, "{seen:?}");
    }
}
