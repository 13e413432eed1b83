//! Figures of a run: how much was done, how fast, and how long the cluster did not serve when its leader was taken.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::minority;
use super::register::Search;
use crate::cluster::conditions::Conditions;
use crate::cluster::history::{Fault, History, Operation, Outcome};
use crate::cluster::watch::Said;

/// How soon a member that cannot answer should say so.
const CLEAR_NS: u64 = 2_000_000_000;

/// What is told of a run beside its verdict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Operations that were answered.
    pub ok: u64,
    /// Certainly not done.
    pub definite: u64,
    /// Maybe done.
    pub indefinite: u64,
    /// Answered in a second, over the whole run.
    pub rate: f64,
    /// Linearizable reads that were answered.
    pub linearizable_reads: u64,
    /// Of them and of writes, those that began while a leader was being taken or replaced.
    pub in_transition: u64,
    /// Acknowledged writes.
    pub writes: u64,
    /// Revisions of the history.
    pub revisions: i64,
    /// What watchers got.
    pub watch: Watch,
    /// Registers for which an order was searched, and their operations.
    pub registers: u64,
    /// See above.
    pub searched: u64,
    /// Latency of answered operations, in milliseconds.
    pub p50_ms: f64,
    /// See above.
    pub p99_ms: f64,
    /// Faults that really happened, by kind.
    pub faults: BTreeMap<String, u64>,
    /// For each time that the leader was taken.
    pub gaps: Vec<Gap>,
    /// From the end of each fault until every member answered a linearizable read, in milliseconds.
    pub recoveries_ms: Vec<f64>,
    /// From the end of each fault until one hash on all members, in milliseconds.
    pub convergences_ms: Vec<f64>,
    /// Linearizable requests to a minority, later than two election timeouts after the cut.
    pub minority: Minority,
    /// How often each error was told, without what differs from one to the next.
    pub errors: BTreeMap<String, u64>,
}

/// What watchers got, all together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Watchers, each counted anew where another one goes on for it.
    pub watchers: u64,
    /// Of them, those that went on for another one.
    pub resumed: u64,
    /// Events, each counted as often as it was delivered.
    pub events: u64,
    /// Responses that came in pieces.
    pub pieces: u64,
    /// Responses that told progress.
    pub progress: u64,
    /// Watchers that compaction ended.
    pub compacted: u64,
}

/// From the moment the leader was taken to the first acknowledged write that was asked for after it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// The fault.
    pub kind: String,
    /// When, in seconds of the run.
    pub at_s: f64,
    /// How long; nothing if it did not end while the fault lasted or soon after.
    pub ms: Option<f64>,
}

/// What a minority that was cut off told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Minority {
    /// Requests while the cut lasted for two seconds more.
    pub asked: u64,
    /// Of them, those that failed with a word about it within two seconds.
    pub clear_within_2s: u64,
    /// Of them, left without any word until the client gave up.
    pub silent: u64,
}

pub(super) fn measure(conditions: &Conditions, history: &History, search: &Search) -> Measures {
    let mut measures = Measures {
        revisions: history.ending.revisions.first().copied().unwrap_or(0),
        registers: search.registers,
        searched: search.operations,
        ..Measures::default()
    };
    let mut latencies = Vec::new();
    let gaps: Vec<(Gap, Option<u64>)> = history
        .faults
        .iter()
        .filter(|fault| fault.happened && fault.took_leader)
        .map(|fault| gap(history, fault))
        .collect();
    let windows: Vec<(u64, u64)> = history
        .faults
        .iter()
        .filter(|fault| fault.happened && fault.took_leader)
        .zip(&gaps)
        .map(|(fault, (_, end))| (fault.begin, end.unwrap_or(fault.end)))
        .collect();
    for operation in &history.operations {
        match operation.outcome {
            Outcome::Ok => {
                measures.ok += 1;
                let is_write = operation.op.may_write();
                measures.writes += u64::from(is_write);
                let is_linearizable = operation.op.is_linearizable();
                measures.linearizable_reads += u64::from(is_linearizable && !is_write);
                let began = operation.invoke;
                let is_in = |&(begin, end): &(u64, u64)| began >= begin && began <= end;
                measures.in_transition += u64::from(is_linearizable && windows.iter().any(is_in));
                latencies.push(operation.returned - operation.invoke);
            }
            Outcome::Definite => measures.definite += 1,
            Outcome::Indefinite => measures.indefinite += 1,
        }
        if let Some(error) = &operation.error {
            *measures.errors.entry(general(error)).or_default() += 1;
        }
    }
    measures.rate = ratio(measures.ok, conditions.seconds);
    measures.watch = watch(history);
    latencies.sort_unstable();
    measures.p50_ms = milliseconds(percentile(&latencies, 50));
    measures.p99_ms = milliseconds(percentile(&latencies, 99));
    for fault in history.faults.iter().filter(|fault| fault.happened) {
        *measures.faults.entry(fault.kind.clone()).or_default() += 1;
        let since = |moment: Option<u64>| {
            moment.map(|moment| milliseconds(moment.saturating_sub(fault.end)))
        };
        measures.recoveries_ms.extend(since(fault.recovered));
        measures.convergences_ms.extend(since(fault.converged));
        let silent_from = minority::silent_from(conditions, fault);
        // Only where the cut lasted long enough to see what they are told.
        let is_due = |operation: &&Operation| {
            operation.invoke > silent_from && operation.invoke + CLEAR_NS <= fault.end
        };
        for operation in minority::asked(history, fault).filter(is_due) {
            measures.minority.asked += 1;
            let took = operation.returned - operation.invoke;
            let error = operation.error.as_deref().unwrap_or_default();
            let is_clear = operation.outcome != Outcome::Ok && took <= CLEAR_NS;
            measures.minority.silent += u64::from(error.starts_with("no answer"));
            measures.minority.clear_within_2s += u64::from(is_clear);
        }
    }
    measures.gaps = gaps.into_iter().map(|(gap, _)| gap).collect();
    measures
}

fn watch(history: &History) -> Watch {
    let record = &history.watch;
    let mut watch = Watch {
        watchers: record.watchers.len() as u64,
        resumed: record
            .watchers
            .iter()
            .filter(|watcher| watcher.resumes.is_some())
            .count() as u64,
        events: record.count(),
        ..Watch::default()
    };
    for delivery in &record.deliveries {
        match delivery.said {
            Said::Piece => watch.pieces += 1,
            Said::Empty => watch.progress += 1,
            Said::Cancelled(1..) => watch.compacted += 1,
            _ => {}
        }
    }
    watch
}

fn gap(history: &History, fault: &Fault) -> (Gap, Option<u64>) {
    let writes = history.operations.iter().filter(|operation| {
        operation.outcome == Outcome::Ok
            && operation.op.may_write()
            && operation.invoke >= fault.begin
    });
    let first = writes.map(|operation| operation.returned).min();
    // Later than this it is the healing that brought it.
    let first = first.filter(|&first| first <= fault.end);
    let gap = Gap {
        kind: fault.kind.clone(),
        at_s: super::seconds(fault.begin),
        ms: first.map(|first| milliseconds(first - fault.begin)),
    };
    (gap, first)
}

/// Of sorted figures; 0 of none.
pub(crate) fn percentile<T: Copy + Default>(sorted: &[T], percent: usize) -> T {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(last * percent / 100)
        .copied()
        .unwrap_or_default()
}

/// Without addresses, which differ from one to the next.
fn general(error: &str) -> String {
    if !error.contains("://") {
        return error.chars().take(120).collect();
    }
    let mut text = String::new();
    for c in error.chars().take(90) {
        let c = if c.is_ascii_digit() { '0' } else { c };
        if !(c == '0' && text.ends_with('0')) {
            text.push(c);
        }
    }
    text
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn milliseconds(nanoseconds: u64) -> f64 {
    (nanoseconds / 1_000) as f64 / 1e3
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn ratio(count: u64, seconds: u64) -> f64 {
    count as f64 / seconds.max(1) as f64
}
