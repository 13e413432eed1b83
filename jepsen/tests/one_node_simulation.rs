//! A whole node in one thread: crashed at any step, a thousand times, and nothing promised is broken.
//!
//! Each time the seeds are others. `SEED` replays one run, `RUNS` sets how many there are.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use jepsen::load::{from_env, seed};
use jepsen::one_node::{Coverage, Mutant, Plan, run};

/// Crashes of one run. Damage done in one life shows in a later one.
const CRASHES: u32 = 12;
/// Runs in CI: together more than a thousand crashes.
const RUNS: u64 = 100;

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        crashes: CRASHES,
        mutant: None,
    }
}

#[test]
fn nothing_promised_is_broken_in_a_thousand_crashes() {
    let seeds = match from_env("SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = from_env("FIRST_SEED").unwrap_or_else(seed);
            first..first + from_env("RUNS").unwrap_or(RUNS)
        }
    };
    eprintln!("SEED={}", seeds.start);
    let since = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    let total = Mutex::new((Coverage::default(), 0, 0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // Runs share nothing: each is one thread's from start to end.
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match run(plan(seed)) {
                        Ok(report) => {
                            let mut total = total.lock().expect("no run panics under the lock");
                            total.0 = total.0.plus(report.coverage);
                            total.1 += report.counts.acknowledged;
                            total.2 += report.trace.steps;
                        }
                        Err(violation) => {
                            failures
                                .lock()
                                .expect("no run panics under the lock")
                                .push((seed, violation));
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    for (seed, violation) in &failures {
        eprintln!("SEED={seed}: {violation}");
    }
    assert!(
        failures.is_empty(),
        "{} of {seeds:?} failed; replay with SEED=<n>",
        failures.len()
    );

    let (coverage, acknowledged, steps) = total.into_inner().unwrap();
    eprintln!(
        "{seeds:?}: {acknowledged} acknowledged writes, {steps} steps in {:.1?}: {coverage:?}",
        since.elapsed()
    );
    if seeds.end - seeds.start >= RUNS {
        assert!(coverage.crashes >= 1_000, "{coverage:?}");
        // A run that never meets what it is for proves nothing.
        let Coverage {
            power_losses,
            power_cuts,
            kills,
            failed_syncs,
            stops,
            unfinished_starts,
            torn_tails,
            replays,
            purged,
            compacted,
            ..
        } = coverage;
        for met in [
            power_losses,
            power_cuts,
            kills,
            failed_syncs,
            stops,
            unfinished_starts,
            torn_tails,
            replays,
            purged,
            compacted,
        ] {
            assert!(met >= 10, "{coverage:?}");
        }
    }
}

#[test]
fn same_seed_gives_same_run() {
    for seed in 0..4 {
        let (first, second) = (run(plan(seed)), run(plan(seed)));
        assert_eq!(first, second, "seed {seed}");
    }
}

/// Whether some seed shows that the disk breaks its promise.
fn is_caught(mutant: Mutant) -> bool {
    (0..20).any(|seed| {
        let plan = Plan {
            mutant: Some(mutant),
            ..plan(seed)
        };
        run(plan).is_err()
    })
}

#[test]
fn a_disk_that_syncs_nothing_is_caught() {
    assert!(is_caught(Mutant::SyncsNothing));
}

#[test]
fn a_disk_that_skips_one_sync_in_ten_is_caught() {
    assert!(is_caught(Mutant::SkipsSyncs(10)));
}
