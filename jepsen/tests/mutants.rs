//! Every mutant of `store::mutant` is turned on in turn, and a test must fail: one that survives fails the run.
//!
//! `make mutants` runs it. The tests are those of every day, built once more with the feature `mutants`; first they
//! must all pass with no mutant on, or their failing would prove nothing. `ONLY` names mutants to try, with commas.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use store::mutant::Mutant;

/// Where a mutant must be caught: package, test target (`lib` for unit tests) and filter.
type Catcher = (&'static str, &'static str, &'static str);

const SUBSETS: Catcher = ("holdfast-store", "log_subsets", "every_cut");
const TRANSFER: Catcher = ("holdfast-store", "state", "transfer::a_state_arrives");
const FLIPS: Catcher = ("holdfast-store", "log_flips", "under_a_running_log");
const MODEL: Catcher = ("holdfast-store", "state", "the_memory_engine_follows");
const ETCD_FILES: Catcher = ("holdfast-store", "state", "etcd_files::a_random_state");
const SIMULATION: Catcher = (
    "holdfast-jepsen",
    "one_node_simulation",
    "nothing_promised_is_broken",
);
const CLUSTER: Catcher = (
    "holdfast-jepsen",
    "many_nodes",
    "nothing_promised_is_broken",
);

const ALARMS: Catcher = ("holdfast-store", "state", "alarms::");

const LEASES: Catcher = ("holdfast-store", "state", "leases::");

const MEMBERS: Catcher = ("holdfast-store", "state", "members::");

const WATCH: Catcher = ("holdfast-server", "watch", "random::every_watcher");

/// The test that catches a mutant.
fn catcher(mutant: Mutant) -> Catcher {
    match mutant {
        Mutant::BatchTailLost | Mutant::SkipFsync | Mutant::TornTailKept => SUBSETS,
        Mutant::ChecksumIgnored => FLIPS,
        Mutant::CompactedOffByOne
        | Mutant::CountWithLimit
        | Mutant::DropTombstone
        | Mutant::HorizonNotDurable
        | Mutant::IndexDiskDisagree
        | Mutant::OverlayForgotten
        | Mutant::PinForgotten
        | Mutant::RangePastEnd
        | Mutant::WrongNestedBranch => MODEL,
        Mutant::AlarmIgnored => ALARMS,
        Mutant::LeaseExpiredByAnybody => LEASES,
        Mutant::RemovedMemberForgotten => MEMBERS,
        Mutant::EventsRepeated
        | Mutant::OverflowLost
        | Mutant::ProgressAhead
        | Mutant::RevisionSkipped
        | Mutant::RevisionSplit => WATCH,
        Mutant::SnapshotWithoutTail => ETCD_FILES,
        Mutant::HalfSnapshot => TRANSFER,
        Mutant::AnswerBeforeCommit
        | Mutant::AppliedTwice
        | Mutant::FlushAhead
        | Mutant::LeftUnsynced
        | Mutant::PurgeBeforeFlush => SIMULATION,
        Mutant::AckBeforeSync
        | Mutant::BatchSentAgain
        | Mutant::LeaderRestored
        | Mutant::QuorumLossUnnoticed
        | Mutant::QuorumNotAwaited
        | Mutant::ReadBeforeApply
        | Mutant::ReadIndexReused
        | Mutant::ReadLocally
        | Mutant::ReadUnconfirmed
        | Mutant::RenewalUnconfirmed
        | Mutant::StaleRevision
        | Mutant::UnknownSaidRefused
        | Mutant::VoteForgotten => CLUSTER,
    }
}

/// Of simulated clusters: the first ten have caught every mutant so far.
const SEEDS: &str = "60";

/// Far more than any of the tests takes until it meets a mutant that makes it wait.
const LIMIT: Duration = Duration::from_secs(120);

/// Far more than any of them takes as a whole.
const WHOLE: Duration = Duration::from_secs(600);

/// How a test ended.
enum Ended {
    Passed,
    /// The first line that says what is wrong.
    Failed(String),
    TimedOut,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the workspace")
}

/// Builds the test binaries, and answers where they are.
fn build(catchers: &BTreeSet<Catcher>) -> BTreeMap<(&'static str, &'static str), PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root());
    cargo.args([
        "test",
        "--locked",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    // As in the Makefile: with other packages other features would be on, and all would be built once more.
    cargo.args(["--features", "holdfast-jepsen/mutants"]);
    for package in ["holdfast-jepsen", "holdfast-server", "holdfast-store"] {
        cargo.args(["-p", package]);
    }
    let targets: BTreeSet<_> = catchers
        .iter()
        .map(|(package, test, _)| (*package, *test))
        .collect();
    let tests: BTreeSet<_> = targets.iter().map(|(_, test)| *test).collect();
    for test in tests {
        match test {
            "lib" => cargo.arg("--lib"),
            test => cargo.args(["--test", test]),
        };
    }
    let output = cargo
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "the build with mutants failed");
    let mut found = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: serde_json::Value = serde_json::from_str(line).expect("cargo writes JSON");
        let text = |pointer| message.pointer(pointer).and_then(|value| value.as_str());
        let Some(executable) = text("/executable") else {
            continue;
        };
        let id = text("/package_id").unwrap_or_default();
        for &(package, test) in &targets {
            let is_it = match test {
                "lib" => text("/target/kind/0") == Some("lib"),
                test => text("/target/name") == Some(test),
            };
            let folder = package.trim_start_matches("holdfast-");
            if is_it && (id.contains(&format!("/{folder}#")) || id.contains(&format!("{package}@")))
            {
                found.insert((package, test), PathBuf::from(executable));
            }
        }
    }
    for target in targets {
        assert!(found.contains_key(&target), "{target:?} was not built");
    }
    found
}

/// Runs one test, with a mutant or none.
fn run(binary: &Path, (package, _, filter): Catcher, mutant: Option<Mutant>) -> Ended {
    let folder = root().join(package.trim_start_matches("holdfast-"));
    let log = tempfile::NamedTempFile::new().expect("there is room for a log");
    let output = || Stdio::from(log.reopen().expect("the log can be opened"));
    let mut command = Command::new(binary);
    command
        .current_dir(folder)
        .arg(filter)
        .env("RUST_BACKTRACE", "0")
        // Whether a mutant is caught must not be a matter of luck.
        .env("FIRST_SEED", "0")
        .env("SEEDS", SEEDS);
    for name in ["HOLDFAST_MUTANT", "SEED", "RUNS", "KEEP_GOING"] {
        command.env_remove(name);
    }
    command
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output());
    if let Some(mutant) = mutant {
        command.env("HOLDFAST_MUTANT", mutant.name());
    }
    let limit = if mutant.is_some() { LIMIT } else { WHOLE };
    let since = Instant::now();
    let mut child = command.spawn().expect("the test can be run");
    let status = loop {
        match child.try_wait().expect("the test can be waited for") {
            Some(status) => break Some(status),
            None if since.elapsed() > limit => {
                child
                    .kill()
                    .and_then(|()| child.wait())
                    .expect("it can be killed");
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let text = std::fs::read(log.path()).expect("the log can be read");
    let text = String::from_utf8_lossy(&text);
    match status {
        None => Ended::TimedOut,
        Some(status) if status.success() => {
            assert!(
                !text.contains(" 0 passed"),
                "{filter} names no test of {package}"
            );
            Ended::Passed
        }
        Some(_) => Ended::Failed(reason(&text)),
    }
}

/// What a failed test said first.
fn reason(text: &str) -> String {
    let mut lines = text.lines();
    // A seed alone is what a run prints when it begins.
    let tells =
        |line: &&str| line.contains("panicked at") || line.contains("SEED=") && line.contains(' ');
    let first = lines.by_ref().find(tells);
    let line = match first {
        Some(line) if line.contains("panicked at") => lines.next().unwrap_or(line),
        Some(line) => line,
        None => "it ended without a word",
    };
    line.chars().take(100).collect()
}

#[test]
#[cfg_attr(
    not(feature = "mutants"),
    ignore = "needs a build of its own: make mutants"
)]
fn every_mutant_is_caught() {
    let only = std::env::var("ONLY").ok();
    let is_wanted = |mutant: Mutant| {
        let mut names = only.iter().flat_map(|only| only.split(','));
        only.is_none() || names.any(|name| name == mutant.name())
    };
    let mutants: Vec<_> = Mutant::ALL
        .into_iter()
        .filter(|mutant| is_wanted(*mutant))
        .map(|mutant| (mutant, catcher(mutant)))
        .collect();
    let catchers: BTreeSet<Catcher> = mutants.iter().map(|(_, catcher)| *catcher).collect();
    let binaries = build(&catchers);
    let binary = |(package, test, _): Catcher| &*binaries[&(package, test)];
    for &catcher in &catchers {
        let since = Instant::now();
        let ended = run(binary(catcher), catcher, None);
        let took = since.elapsed();
        assert!(
            matches!(ended, Ended::Passed),
            "{catcher:?} fails although no mutant is on"
        );
        eprintln!(
            "no mutant: {} {} passes in {took:.1?}",
            catcher.1, catcher.2
        );
    }
    let mut survivors = Vec::new();
    eprintln!("\n| mutant | caught by | after | what it said |\n|---|---|---|---|");
    for (mutant, catcher) in mutants {
        let name = mutant.name();
        let since = Instant::now();
        let ended = run(binary(catcher), catcher, Some(mutant));
        let took = since.elapsed();
        let by = format!("`{}` {}", catcher.1, catcher.2);
        match ended {
            Ended::Failed(said) => eprintln!("| {name} | {by} | {took:.1?} | {said} |"),
            Ended::Passed => {
                eprintln!("| {name} | | {took:.1?} | survived {by} |");
                survivors.push(name);
            }
            Ended::TimedOut => {
                eprintln!("| {name} | | {took:.1?} | {by} did not end |");
                survivors.push(name);
            }
        }
    }
    assert!(survivors.is_empty(), "not caught: {survivors:?}");
}
