//! A whole cluster in one thread: crashed, paused, cut apart, and nothing promised is broken.
//!
//! Each time the seeds are others. `SEED` replays one run, `FIRST_SEED` and `SEEDS` set where they begin and how many
//! there are, `KEEP_GOING` has it go on behind the first that fails. Two seeds run at a time on two cores.
//!
//! The long form, 5,000 seeds:
//!
//! ```text
//! cargo test -p holdfast-jepsen --test many_nodes -- --ignored --nocapture
//! ```

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jepsen::load::{from_env, seed};
use jepsen::many_nodes::{Plan, run, run_slow};

/// Runs in CI.
const SEEDS: u64 = 300;
/// Runs of the long form.
const MANY_SEEDS: u64 = 5_000;

/// What all runs came to together.
#[derive(Debug, Default)]
struct Total {
    runs: u64,
    acknowledged: u64,
    reads: u64,
    unknown_writes: u64,
    late: u64,
    steps: u64,
    elapsed: Duration,
    recovery: Duration,
    figures: BTreeMap<&'static str, u64>,
}

fn run_all(count: u64) {
    let seeds = match from_env("SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = from_env("FIRST_SEED").unwrap_or_else(seed);
            first..first + from_env("SEEDS").unwrap_or(count)
        }
    };
    eprintln!("SEED={}", seeds.start);
    let is_told = from_env("SEED").is_some();
    let keeps_going = std::env::var_os("KEEP_GOING").is_some();
    let since = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let is_over = AtomicBool::new(false);
    let failures = Mutex::new(Vec::new());
    let total = Mutex::new(Total::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // Runs share nothing: each is one thread's from start to end.
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let result = run(Plan { seed, is_told });
                    let mut total = total.lock().expect("no run panics under the lock");
                    total.runs += 1;
                    match result {
                        Ok(report) => {
                            total.acknowledged += report.counts.acknowledged;
                            total.reads += report.counts.reads;
                            total.unknown_writes += report.counts.unknown_writes;
                            total.late += report.counts.late;
                            total.steps += report.trace.steps;
                            total.elapsed += report.trace.elapsed;
                            total.recovery = total.recovery.max(report.recovery);
                            for (name, figure) in report.coverage.figures() {
                                *total.figures.entry(name).or_default() += figure;
                            }
                        }
                        Err(violation) => {
                            eprintln!("SEED={seed} after {:.1?}: {violation}", since.elapsed());
                            let mut failures =
                                failures.lock().expect("no run panics under the lock");
                            failures.push(seed);
                            is_over.store(!keeps_going, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let whole = "no run panics under the lock";
    let failures = failures.into_inner().expect(whole);
    let total = total.into_inner().expect(whole);
    eprintln!("{seeds:?} in {:.1?}: {total:?}", since.elapsed());
    assert!(
        failures.is_empty(),
        "{} of {} seeds failed: {failures:?}; replay one with\n  SEED={} cargo test -p holdfast-jepsen --test many_nodes nothing_promised -- --nocapture",
        failures.len(),
        total.runs,
        failures[0]
    );
    if total.runs >= SEEDS {
        // A run that never meets what it is for proves nothing.
        for (name, figure) in total.figures {
            // Torn tails are rare: some twenty.
            let least = if name == "torn tails" { 1 } else { 10 };
            assert!(figure >= least, "only {figure} {name}");
        }
        assert!(total.late >= 100, "only {} late writes", total.late);
    }
}

#[test]
fn nothing_promised_is_broken_in_a_cluster() {
    run_all(SEEDS);
}

#[test]
#[ignore = "half an hour: cargo test -p holdfast-jepsen --test many_nodes -- --ignored --nocapture"]
fn nothing_promised_is_broken_in_a_cluster_for_long() {
    run_all(MANY_SEEDS);
}

/// What 50 ms between any two members do to a cluster in which nothing fails: nothing but wait.
fn endure_a_slow_network(time: Duration) {
    let plan = Plan {
        seed: from_env("SEED").unwrap_or_else(seed),
        is_told: false,
    };
    eprintln!("SEED={}", plan.seed);
    let since = Instant::now();
    let report = run_slow(plan, Duration::from_millis(50), time);
    let report = report.unwrap_or_else(|violation| panic!("SEED={}: {violation}", plan.seed));
    eprintln!("{:?}, in {:.1?}", report.counts, since.elapsed());
    assert_eq!(report.coverage.terms, 1);
    assert!(
        report.counts.acknowledged > time.as_secs(),
        "{:?}",
        report.counts
    );
}

#[test]
fn a_slow_network_costs_no_leader() {
    endure_a_slow_network(Duration::from_secs(120));
}

#[test]
#[ignore = "some minutes: cargo test -p holdfast-jepsen --test many_nodes -- --ignored --nocapture"]
fn an_hour_of_a_slow_network_costs_no_leader() {
    endure_a_slow_network(Duration::from_secs(3_600));
}

#[test]
fn same_seed_gives_same_run() {
    for seed in 0..4 {
        let plan = Plan {
            seed,
            is_told: false,
        };
        assert_eq!(run(plan), run(plan), "seed {seed}");
    }
}
