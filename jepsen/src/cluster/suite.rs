//! Many runs that together cover every workload and every kind of fault within a given time, and their table.
#![allow(
    clippy::print_stdout,
    reason = "a command-line tool prints its results"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::check::Verdict;
use super::conditions::Conditions;
use super::fault::{self, Kind};
use super::report::{Entry, write_index};
use super::run::{self, clear_line};
use super::workload::KINDS;

/// Starting, ending and checking take that long beside the time that clients ask.
const OVERHEAD_S: u64 = 7;
/// A fault takes that long at least, with its pause and recovery.
const FAULT_TENTHS: u64 = 45;
const SHORTEST_S: u64 = 14;

/// What one run of a suite is to do.
#[derive(Clone, Debug)]
struct Item {
    workload: &'static str,
    faults: Vec<&'static str>,
    seconds: u64,
}

/// Faults that are met together, in rounds over all workloads; each group gets a run.
fn plan(kinds: &[&'static Kind], minutes: u64) -> Vec<Item> {
    let budget = minutes * 60;
    // As many runs as there are workloads at least; more when there is time, so that faults meet other workloads.
    let per_run = match kinds.len() {
        few if few < KINDS.len() => few,
        many => many.div_ceil(KINDS.len()),
    };
    let seconds = (FAULT_TENTHS * per_run as u64 / 10 + 2).max(SHORTEST_S);
    let rounds = (budget / ((seconds + OVERHEAD_S) * KINDS.len() as u64)).max(1);
    let seconds = (budget / (rounds * KINDS.len() as u64))
        .saturating_sub(OVERHEAD_S)
        .max(seconds);
    let mut items = Vec::new();
    for round in 0..rounds {
        for (place, (workload, _)) in KINDS.iter().enumerate() {
            let turn = place + usize::try_from(round).unwrap_or(0);
            // A run without any would tell little: few kinds are met by every workload.
            let (first, step) = match kinds.len() < KINDS.len() {
                true => (0, 1),
                false => (turn % KINDS.len(), KINDS.len()),
            };
            let faults = kinds.iter().skip(first).step_by(step);
            items.push(Item {
                workload,
                faults: faults.map(|kind| kind.name).collect(),
                seconds: seconds.min(120),
            });
        }
    }
    items
}

/// Of a suite that says what it must have met, one run in so many need not count: on somebody else's machine a fault may
/// not come about, and what was tested is counted anyway.
const VOID: usize = 5;

/// What a suite must have met to prove anything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Least {
    pub(crate) faults: u64,
    pub(crate) kinds: usize,
}

/// Makes all runs in folders below `folder`; returns whether every one passed.
pub(crate) fn suite(
    base: &Conditions,
    faults: &str,
    minutes: u64,
    least: Least,
    folder: &Path,
) -> anyhow::Result<bool> {
    let site = base.site();
    let kinds = site.parse(faults)?;
    for kind in fault::KINDS.iter().filter(|_| faults == "all") {
        if let Some(why) = site.lacks(kind) {
            println!("left out: {} ({why})", kind.name);
        }
    }
    let items = plan(&kinds, minutes);
    let since = Instant::now();
    let mut entries = Vec::new();
    let count = items.len();
    for (number, item) in items.into_iter().enumerate() {
        let conditions = Conditions {
            seed: base.seed.wrapping_add(number as u64),
            workload: item.workload.to_owned(),
            faults: item.faults.iter().map(|&name| name.to_owned()).collect(),
            seconds: item.seconds,
            ..base.clone()
        };
        let place = folder.join(format!("{:03}-{}", number + 1, item.workload));
        let line = format!("[{}/{count} {}] ", number + 1, item.workload);
        let verdict = run::run(&conditions, &place, &line);
        clear_line();
        let verdict = verdict.unwrap_or_else(|error| Verdict {
            lacking: vec![format!("the run failed: {error:#}")],
            ..Verdict::default()
        });
        row(&conditions, &verdict, since.elapsed());
        entries.push(Entry {
            folder: place,
            conditions,
            verdict,
        });
        // After each run, so that a suite that is interrupted has its index.
        write_index(&folder.join("index.html"), &entries)?;
    }
    print!("{}", table(&entries));
    let (faults, kinds) = met(&entries);
    println!("{faults} faults of {kinds} kinds in runs that passed");
    println!("pages: {}", folder.join("index.html").display());
    if faults < least.faults || kinds < least.kinds {
        println!(
            "too few: {} faults of {} kinds were asked for",
            least.faults, least.kinds
        );
        return Ok(false);
    }
    let void = if least.faults > 0 { count / VOID } else { 0 };
    Ok(is_pass(entries.iter().map(|entry| &entry.verdict), void))
}

/// How many faults, and of how many kinds, happened in runs that passed.
fn met(entries: &[Entry]) -> (u64, usize) {
    let passed = entries.iter().filter(|entry| entry.verdict.is_pass());
    let mut by_kind: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, count) in passed.flat_map(|entry| &entry.verdict.measures.faults) {
        *by_kind.entry(kind.as_str()).or_default() += count;
    }
    (by_kind.values().sum(), by_kind.len())
}

/// Whether no promise was broken, and all runs but `void` counted.
fn is_pass<'a>(verdicts: impl Iterator<Item = &'a Verdict>, void: usize) -> bool {
    let bad: Vec<&Verdict> = verdicts.filter(|verdict| !verdict.is_pass()).collect();
    bad.len() <= void && bad.iter().all(|verdict| verdict.broken.is_empty())
}

fn row(conditions: &Conditions, verdict: &Verdict, elapsed: Duration) {
    let elapsed = elapsed.as_secs();
    println!(
        "{:>3}:{:02} {:<9} {:<9} {}",
        elapsed / 60,
        elapsed % 60,
        verdict.word(),
        conditions.workload,
        conditions.faults.join(" ")
    );
    problems(verdict, "       ");
}

/// What is wrong, line by line.
pub(crate) fn problems(verdict: &Verdict, indent: &str) {
    for violation in verdict.violations.iter().take(6) {
        println!("{indent}{}: {}", violation.rule, violation.text);
    }
    for text in &verdict.lacking {
        println!("{indent}does not count: {text}");
    }
}

/// The summary of many runs.
pub(crate) fn table(entries: &[Entry]) -> String {
    let mut lines = vec![format!(
        "\n{:<9} {:<9} {:>9} {:>8} {:>8} {:>6} {:>8} {:>8} {:>7} {:>18} {:>9}",
        "verdict",
        "workload",
        "answered",
        "definite",
        "unknown",
        "rate",
        "p50 ms",
        "p99 ms",
        "faults",
        "next write ms",
        "one hash"
    )];
    for entry in entries {
        let measures = &entry.verdict.measures;
        let mut gaps: Vec<f64> = measures.gaps.iter().filter_map(|gap| gap.ms).collect();
        gaps.sort_by(f64::total_cmp);
        let gap = match gaps.as_slice() {
            [] => "-".to_owned(),
            gaps => format!("{:.0} to {:.0}", gaps[0], gaps[gaps.len() - 1]),
        };
        lines.push(format!(
            "{:<9} {:<9} {:>9} {:>8} {:>8} {:>6.0} {:>8.1} {:>8.0} {:>7} {:>18} {:>8.1}s",
            entry.verdict.word(),
            entry.conditions.workload,
            figure(measures.ok),
            figure(measures.definite),
            figure(measures.indefinite),
            measures.rate,
            measures.p50_ms,
            measures.p99_ms,
            measures.faults.values().sum::<u64>(),
            gap,
            measures.convergences_ms.iter().copied().fold(0.0, f64::max) / 1e3,
        ));
    }
    let passed = entries
        .iter()
        .filter(|entry| entry.verdict.is_pass())
        .count();
    lines.push(format!("{passed} of {} runs passed", entries.len()));
    lines.push(String::new());
    lines.join("\n")
}

/// `1,234,567`
pub(crate) fn figure(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Reads the runs below some folders again, checked anew.
pub(crate) fn entries(folders: &[PathBuf]) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for folder in folders {
        for run in super::history::runs_below(folder)? {
            let (conditions, verdict) = run::check_again(&run)?;
            entries.push(Entry {
                folder: run,
                conditions,
                verdict,
            });
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_suite_covers_every_fault_and_workload_and_keeps_to_its_time() {
        let kinds: Vec<&Kind> = fault::KINDS
            .iter()
            .filter(|kind| !kind.is_control)
            .collect();
        for minutes in [3, 10, 60] {
            let items = plan(&kinds, minutes);
            let faults: BTreeSet<&str> =
                items.iter().flat_map(|item| item.faults.clone()).collect();
            let workloads: BTreeSet<&str> = items.iter().map(|item| item.workload).collect();
            assert_eq!(faults.len(), kinds.len());
            assert_eq!(workloads.len(), KINDS.len());
            let time: u64 = items.iter().map(|item| item.seconds + OVERHEAD_S).sum();
            assert!(time <= minutes * 60 + 10, "{time} s in {minutes} min");
        }
    }

    #[test]
    fn few_faults_are_met_by_every_workload() {
        let kinds: Vec<&Kind> = fault::KINDS.iter().take(2).collect();
        let items = plan(&kinds, 3);
        assert!(items.iter().all(|item| item.faults.len() == 2), "{items:?}");
        assert!(plan(&[], 3).iter().all(|item| item.faults.is_empty()));
    }

    #[test]
    fn a_run_may_not_count_but_none_may_break_a_promise() {
        let ok = Verdict::default();
        let void = Verdict {
            lacking: vec!["it did not happen".to_owned()],
            ..Verdict::default()
        };
        let broken = Verdict {
            broken: [("order".to_owned(), 1)].into(),
            ..Verdict::default()
        };
        assert!(is_pass([&ok, &ok].into_iter(), 0));
        assert!(!is_pass([&ok, &void].into_iter(), 0));
        assert!(is_pass([&ok, &void].into_iter(), 1));
        assert!(!is_pass([&void, &void].into_iter(), 1));
        assert!(!is_pass([&ok, &broken].into_iter(), 1));
    }

    #[test]
    fn figures_have_thousands() {
        assert_eq!(figure(7), "7");
        assert_eq!(figure(1_234_567), "1,234,567");
        assert_eq!(figure(123_456), "123,456");
    }
}
