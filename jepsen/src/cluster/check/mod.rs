//! Whether a history keeps what is promised. No search: the store tells a revision with each answer, so the order of all
//! writes is given, and a replay in that order decides about every operation of the run in linear time.
//!
//! | rule | says |
//! |---|---|
//! | `log` | the history is the same on every member; revisions are dense |
//! | `write` | a revision is the whole effect of one operation; an acknowledged one is at the revision it was told, a refused one nowhere, one without an answer once or nowhere |
//! | `answer` | every answer, with versions, previous values and branches, is what a replay up to its revision gives |
//! | `order` | an operation comes after all that anybody was told before it began, and before nothing that began after it had ended |
//! | `serializable` | reads that may be old never go back on one member, within one life of its process |
//! | `watch` | every watcher gets the history without gap, repetition, change of order or split revision |
//! | `election` | no two members lead one term; terms do not fall |
//! | `minority` | a minority that is cut off answers nothing linearizable later than two election timeouts |
//! | `converge` | after each fault all members answer, and show one hash soon: within five seconds for Holdfast |
//! | `invariant` | what a workload keeps, in every state: the sum of accounts, groups written together, counters without gap |
//! | `register` | a search for an order, independent of revisions, finds one for each register |
//! | `process` | no process ended or panicked without being made to |
//!
//! A run also has to show that it tested something: each fault that was asked for happened, and clients got enough done.
//! What is lacking there makes a run invalid, which is no pass.

mod converge;
mod coverage;
mod election;
mod invariant;
mod lease;
mod measure;
mod minority;
mod order;
mod register;
mod replay;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::measure::{Gap, Measures};
use super::conditions::Conditions;
use super::history::{History, Operation};
use super::node::name;

/// Violations of one rule that are told; the rest is counted.
const SHOWN: usize = 12;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Its name.
    pub rule: String,
    /// What was found.
    pub text: String,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What was promised and not kept; at most some of each rule.
    pub violations: Vec<Violation>,
    /// How many there are, by rule.
    pub broken: BTreeMap<String, u64>,
    /// Why the run does not count although nothing was found.
    pub lacking: Vec<String>,
    /// How it went.
    pub measures: Measures,
}

impl Verdict {
    /// Nothing was found, and something was tested.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        self.broken.is_empty() && self.lacking.is_empty()
    }

    /// One word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match (self.broken.is_empty(), self.lacking.is_empty()) {
            (false, _) => "VIOLATED",
            (true, false) => "INVALID",
            (true, true) => "ok",
        }
    }
}

/// Gathers what is found.
#[derive(Debug, Default)]
struct Findings {
    violations: Vec<Violation>,
    broken: BTreeMap<String, u64>,
}

impl Findings {
    fn add(&mut self, rule: &str, text: String) {
        let count = self.broken.entry(rule.to_owned()).or_default();
        *count += 1;
        if *count <= SHOWN as u64 {
            self.violations.push(Violation {
                rule: rule.to_owned(),
                text,
            });
        }
    }
}

/// Checks everything.
pub(crate) fn check(conditions: &Conditions, history: &History) -> Verdict {
    let mut findings = Findings::default();
    for text in &history.ending.alarming {
        findings.add("process", text.clone());
    }
    let floors = order::floors(history);
    let replay = replay::replay(history, &floors, &mut findings);
    order::check(history, &floors, &replay, &mut findings);
    watch::check(history, &mut findings);
    election::check(conditions, history, &mut findings);
    minority::check(conditions, history, &mut findings);
    converge::check(conditions, history, &mut findings);
    lease::check(conditions, history, &floors, &replay, &mut findings);
    let search = register::check(history, &mut findings);
    let mut lacking = coverage::lacking(conditions, history);
    if search.given_up > 0 {
        let keys = search.given_up;
        lacking.push(format!(
            "the search for an order gave up on {keys} registers"
        ));
    }
    Verdict {
        violations: findings.violations,
        broken: findings.broken,
        lacking,
        measures: measure::measure(conditions, history, &search),
    }
}

/// An operation in the words of a report.
fn describe(operation: &Operation) -> String {
    let op = serde_json::to_string(&operation.op).unwrap_or_default();
    let op: String = op.chars().take(220).collect();
    format!(
        "process {} on {} at {:.3} to {:.3} s: {op}",
        operation.process,
        name(operation.node),
        seconds(operation.invoke),
        seconds(operation.returned),
    )
}

/// For people.
#[allow(
    clippy::cast_precision_loss,
    reason = "a time in a report needs no more than microseconds"
)]
fn seconds(nanoseconds: u64) -> f64 {
    (nanoseconds / 1_000) as f64 / 1e6
}
