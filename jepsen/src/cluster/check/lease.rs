//! Leases: what is attached to one lives as long as it is kept alive, and ends with it, at once and for good.
//!
//! | rule | says |
//! |---|---|
//! | `lease-early` | no lease expires before the time that an answered grant or keep-alive gave it, counted from when that was asked |
//! | `lease-late` | one that nobody keeps alive is gone soon after its time, once the cluster is whole |
//! | `lease-whole` | all keys of a lease are deleted in one revision, in order, and nothing else (found by the replay) |
//! | `lease-ended` | after its end was told nobody keeps it alive, writes with it or finds it |
//! | `lease-unknown` | a write with a lease that does not exist is refused with etcd's words; one that exists is found |
//! | `lease-keys` | the keys told to be attached were attached, in some state between question and answer |
//!
//! A lease takes its time from the leader's clock, and every client lives in the harness: all on one machine, so times
//! can be compared. An expiry is no client's operation; the replay finds it as a revision that deletes just what is
//! attached to one lease.

use std::collections::{BTreeMap, BTreeSet};

use super::order::Floors;
use super::replay::Replay;
use super::{Findings, describe, seconds};
use crate::cluster::conditions::Conditions;
use crate::cluster::history::{History, Operation, Outcome};
use crate::cluster::model::{Body, Op};

const SECOND: u64 = 1_000_000_000;
/// What an expiry may take beside two election timeouts: the leader looks every half second, and tries again after three.
const SLACK: u64 = 5 * SECOND;
/// What etcd says of a lease that does not exist.
const NOT_FOUND: &str = "NotFound: etcdserver: requested lease not found";
/// Refusals that are not about the lease.
const UNJUDGED: [&str; 3] = [
    "no connection",
    "Unavailable",
    "Unknown: etcdserver: too many requests",
];

/// What was told of one lease.
#[derive(Debug, Default)]
struct Lease<'a> {
    grant: Option<&'a Operation>,
    /// Until when answered grants and keep-alives keep it: by the time that they were asked.
    kept: u64,
    /// The last attempt to keep it alive that may have done so, and when that was over.
    touched: u64,
    ttl: u64,
    /// When its end was first asked for.
    revoked: Option<u64>,
    /// When anybody was first told that it is gone.
    gone: Option<u64>,
    operations: Vec<(usize, &'a Operation)>,
}

pub(super) fn check(
    conditions: &Conditions,
    history: &History,
    floors: &Floors,
    replay: &Replay,
    findings: &mut Findings,
) {
    let mut leases: BTreeMap<i64, Lease<'_>> = BTreeMap::new();
    for (place, operation) in history.operations.iter().enumerate() {
        if let Some(lease) = lease_of(&operation.op) {
            let lease = leases.entry(lease).or_default();
            lease.operations.push((place, operation));
        }
    }
    for (number, mut lease) in leases {
        let end = replay.ends.get(&number).copied();
        lease.learn(end.and_then(|end| floors.told(end)));
        lease.check_life(conditions, history, number, findings);
        for &(place, operation) in &lease.operations {
            lease.check_answer(operation, findings);
            check_keys(number, place, operation, floors, replay, findings);
        }
    }
}

fn lease_of(op: &Op) -> Option<i64> {
    match *op {
        Op::Put { lease, .. } if lease != 0 => Some(lease),
        Op::Grant { lease, .. }
        | Op::Revoke { lease }
        | Op::KeepAlive { lease }
        | Op::TimeToLive { lease } => Some(lease),
        _ => None,
    }
}

/// Whether an operation was told that the lease exists; nothing if it was told neither.
fn says_lives(operation: &Operation) -> Option<bool> {
    match (&operation.body, operation.outcome) {
        (Some(Body::KeepAlive { ttl }), _) => Some(*ttl > 0),
        // One that is overdue and not yet ended has less than nothing left, and was granted something.
        (Some(Body::TimeToLive { granted, .. }), _) => Some(*granted > 0),
        (Some(Body::Put { .. }), _) => Some(true),
        (_, Outcome::Definite) if is_not_found(operation) => Some(false),
        _ => None,
    }
}

fn is_not_found(operation: &Operation) -> bool {
    operation.error.as_deref() == Some(NOT_FOUND)
}

fn nanoseconds(ttl: i64) -> u64 {
    u64::try_from(ttl).unwrap_or(0).saturating_mul(SECOND)
}

impl Lease<'_> {
    /// Gathers what there is to know; `end` is when anybody was first shown the revision of its end.
    fn learn(&mut self, end: Option<u64>) {
        self.gone = end;
        for &(_, operation) in &self.operations {
            let told = match (&operation.op, &operation.body) {
                (Op::Grant { .. }, Some(Body::Grant { ttl })) => Some(*ttl),
                (Op::KeepAlive { .. }, Some(Body::KeepAlive { ttl })) => Some(*ttl),
                _ => None,
            };
            let asked = match operation.op {
                Op::Grant { ttl, .. } => {
                    self.grant = Some(operation);
                    Some(ttl)
                }
                Op::KeepAlive { .. } => Some(0),
                _ => None,
            };
            if let Some(ttl) = told
                && ttl > 0
            {
                self.kept = self.kept.max(operation.invoke + nanoseconds(ttl));
            }
            if let Some(asked) = asked
                && told != Some(0)
                && operation.outcome != Outcome::Definite
            {
                self.touched = self.touched.max(operation.returned);
                self.ttl = self.ttl.max(nanoseconds(told.unwrap_or(asked)));
            }
            if let Op::Revoke { .. } = operation.op
                && (operation.outcome != Outcome::Definite || is_not_found(operation))
            {
                let first = self.revoked.unwrap_or(u64::MAX);
                self.revoked = Some(first.min(operation.invoke));
            }
        }
        // Before the grant was answered it is right that there is none.
        let granted = self.granted();
        let gone = self.operations.iter().filter_map(|(_, operation)| {
            let is_revoked =
                matches!(operation.op, Op::Revoke { .. }) && operation.outcome == Outcome::Ok;
            let is_gone = is_revoked || says_lives(operation) == Some(false);
            (is_gone && operation.invoke > granted).then_some(operation.returned)
        });
        self.gone = gone.chain(self.gone).min();
    }

    /// From when on it certainly existed.
    fn granted(&self) -> u64 {
        let grant = self.grant.filter(|grant| grant.outcome == Outcome::Ok);
        grant.map_or(u64::MAX, |grant| grant.returned)
    }

    fn check_life(
        &self,
        conditions: &Conditions,
        history: &History,
        number: i64,
        findings: &mut Findings,
    ) {
        let Some(grant) = self
            .grant
            .filter(|grant| grant.outcome != Outcome::Definite)
        else {
            return;
        };
        let is_revoked = |by: u64| self.revoked.is_some_and(|revoked| revoked <= by);
        if let Some(gone) = self.gone
            && gone < self.kept
            && !is_revoked(gone)
        {
            findings.add(
                "lease-early",
                format!(
                    "lease {number} was gone at {:.3} s, and had been kept alive until {:.3} s",
                    seconds(gone),
                    seconds(self.kept)
                ),
            );
        }
        let room = self.ttl + 2 * conditions.election_timeout_ms * 1_000_000 + SLACK;
        let mut due = self.touched.max(grant.returned) + room;
        let mut faults: Vec<_> = history.faults.iter().collect();
        faults.sort_by_key(|fault| fault.begin);
        for fault in faults {
            // Whoever comes to lead gives every lease its whole time once more.
            if fault.begin < due {
                let over = fault.recovered.unwrap_or(u64::MAX / 2);
                due = due.max(over.max(fault.end) + room);
            }
        }
        let is_attached = history.ending.quiet > due && self.gone.is_none();
        let was_late = self.gone.is_some_and(|gone| gone > due) || is_attached;
        // One that nobody looked at was not seen to be there either.
        let seen = self
            .operations
            .iter()
            .filter(|(_, operation)| says_lives(operation) == Some(true) && operation.invoke > due);
        let is_seen = seen.count() > 0;
        if was_late && (is_seen || self.has_keys(history, number)) {
            findings.add(
                "lease-late",
                format!(
                    "lease {number} should have been gone at {:.3} s, and {}",
                    seconds(due),
                    match self.gone {
                        Some(gone) => format!("was there until {:.3} s", seconds(gone)),
                        None => "was never told to be gone".to_owned(),
                    }
                ),
            );
        }
    }

    /// Whether something is attached to it in the end, or was when it ended.
    fn has_keys(&self, history: &History, number: i64) -> bool {
        let Some(log) = history.logs.first() else {
            return false;
        };
        let mut attached: BTreeSet<&str> = BTreeSet::new();
        for change in log {
            match &change.after {
                Some(kv) if kv.lease == number => attached.insert(&change.key),
                _ => attached.remove(change.key.as_str()),
            };
        }
        !attached.is_empty() || self.gone.is_some()
    }

    /// Whether one answer fits what was known when it was asked for, and when it came.
    fn check_answer(&self, operation: &Operation, findings: &mut Findings) {
        let Some(lives) = says_lives(operation) else {
            if operation.outcome == Outcome::Definite
                && matches!(operation.op, Op::Put { .. })
                && self.grant.is_none()
                && let Some(error) = &operation.error
                && UNJUDGED.iter().all(|other| !error.starts_with(other))
            {
                let what = describe(operation);
                let text =
                    format!("a lease that does not exist was refused with `{error}`: {what}");
                findings.add("lease-unknown", text);
            }
            return;
        };
        let asked = self.grant.map_or(u64::MAX, |grant| grant.invoke);
        if lives {
            if operation.returned < asked {
                let text = format!("a lease that nobody had asked for: {}", describe(operation));
                findings.add("lease-unknown", text);
            }
            if let Some(gone) = self.gone
                && gone < operation.invoke
            {
                findings.add(
                    "lease-ended",
                    format!(
                        "told to be there, although its end was known at {:.3} s: {}",
                        seconds(gone),
                        describe(operation)
                    ),
                );
            }
        } else {
            let may_be_gone = self
                .revoked
                .is_some_and(|revoked| revoked < operation.returned)
                || self.kept <= operation.returned;
            if self.granted() < operation.invoke && !may_be_gone {
                let text = format!(
                    "told not to be there, although it was kept alive until {:.3} s: {}",
                    seconds(self.kept),
                    describe(operation)
                );
                findings.add("lease-unknown", text);
            }
        }
    }
}

/// The keys that were told against those of every state that the answer can be from.
fn check_keys(
    lease: i64,
    place: usize,
    operation: &Operation,
    floors: &Floors,
    replay: &Replay,
    findings: &mut Findings,
) {
    if let (Op::Revoke { .. }, Outcome::Ok) = (&operation.op, operation.outcome) {
        let left = replay.attached(lease, operation.revision);
        if let Some(left) = left.filter(|left| !left.is_empty()) {
            let text = format!("{left:?} outlived it: {}", describe(operation));
            findings.add("lease-ended", text);
        }
        return;
    }
    let Some(Body::TimeToLive {
        granted: 1.., keys, ..
    }) = &operation.body
    else {
        return;
    };
    let keys: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    let from = floors.anyone[place];
    let until = replay.newest(operation.returned);
    if !replay.was_attached(lease, from, until, &keys) {
        findings.add(
            "lease-keys",
            format!(
                "told {keys:?}, which was attached at no revision from {from} to {until}: {}",
                describe(operation)
            ),
        );
    }
}
