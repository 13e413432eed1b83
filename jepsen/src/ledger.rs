//! What clients were told, against what the store says happened.
//!
//! Every write has a revision of its own, so the order of the history is known and checking it is
//! a replay, not a search. Clients write values that are unique, which ties a revision to the
//! operation that made it. The rules:
//!
//! - revisions are dense: each is its predecessor plus one;
//! - a revision is the full effect of exactly one operation, applied to the state before it, with
//!   the right create revision, modification revision and version of every key;
//! - an operation takes effect at most once; an acknowledged one at the revision it was told; a
//!   refused one never; one without an answer, fully or not at all;
//! - an operation takes effect after everything that any client knew of when it began;
//! - a read shows the state of its revision, which is no older than what any client knew;
//! - what was visible once stays, across any number of crashes; operations of an earlier life of
//!   the node come before those of a later one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;

/// What a client asks for. Values are unique over a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// An unconditional write.
    Put {
        /// The key.
        key: Bytes,
        /// The new value.
        value: Bytes,
    },
    /// A delete of one key.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// A transaction: write if the key was last changed at a revision (0: it does not exist).
    Update {
        /// The key.
        key: Bytes,
        /// The new value.
        value: Bytes,
        /// The modification revision it must have.
        expected: i64,
    },
    /// A transaction without condition: several writes and deletes in one revision.
    Several {
        /// Keys and their new values.
        puts: Vec<(Bytes, Bytes)>,
        /// Keys to delete. At least one key is written, which names the operation.
        deletes: Vec<Bytes>,
    },
    /// A linearizable read of one key.
    Get {
        /// The key.
        key: Bytes,
    },
}

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The value.
    pub value: Bytes,
    /// Revision of its creation.
    pub create_revision: i64,
    /// Revision of its last change.
    pub mod_revision: i64,
    /// Changes since its creation, the creation included.
    pub version: i64,
}

/// What an operation answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A write was acknowledged. Without a change, `revision` is the one it was decided at.
    Written {
        /// The revision of the answer.
        revision: i64,
        /// Whether anything changed: the condition held, the key to delete existed.
        is_changed: bool,
    },
    /// A read was answered from the state at `revision`.
    Read {
        /// The revision of the answer.
        revision: i64,
        /// The key's version, if it exists.
        found: Option<Version>,
    },
    /// Nothing was done, for certain.
    Refused,
}

/// One change of one key, as the store's history tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// What it is after the change; nothing after a delete.
    pub version: Option<Version>,
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(Violation(format!($($text)+)));
        }
    };
}

/// Handle of an operation that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId(usize);

#[derive(Clone, Debug)]
struct Begun {
    operation: Operation,
    /// The newest revision that anybody knew of when it began.
    floor: i64,
    /// The life of the node in which it began.
    life: u64,
    outcome: Option<Outcome>,
    /// The revision that the history shows as its effect.
    effect: Option<i64>,
}

/// A delete carries no name: any operation on the same key, that may still take effect, can be behind it.
#[derive(Clone, Debug)]
struct Unclaimed {
    key: Bytes,
    /// Operations of earlier lives are over.
    life: u64,
}

/// How much a ledger has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Operations without an answer.
    pub unknown: u64,
    /// Writes among them.
    pub unknown_writes: u64,
    /// Operations without an answer that turned out to have taken effect.
    pub late: u64,
    /// Revisions in the history.
    pub revisions: u64,
}

/// The history so far, and all operations with what their clients were told.
#[derive(Debug)]
pub struct Ledger {
    operations: Vec<Begun>,
    by_value: BTreeMap<Bytes, usize>,
    acknowledged: BTreeMap<i64, usize>,
    history: Vec<Vec<Change>>,
    /// The versions of each key in order; none after a delete.
    keys: BTreeMap<Bytes, Vec<(i64, Option<Version>)>>,
    /// Deletes of the history that nobody was told about yet.
    unclaimed: BTreeMap<i64, Unclaimed>,
    /// Answers to compare once the history reaches their revision.
    unchecked: Vec<usize>,
    known: i64,
    life: u64,
    life_in_history: u64,
}

/// The revision of an empty store.
const FIRST: i64 = 1;

impl Default for Ledger {
    fn default() -> Self {
        Ledger {
            operations: Vec::new(),
            by_value: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            history: Vec::new(),
            keys: BTreeMap::new(),
            unclaimed: BTreeMap::new(),
            unchecked: Vec::new(),
            known: FIRST,
            life: 0,
            life_in_history: 0,
        }
    }
}

impl Operation {
    fn puts(&self) -> Vec<(&Bytes, &Bytes)> {
        match self {
            Operation::Put { key, value } | Operation::Update { key, value, .. } => {
                vec![(key, value)]
            }
            Operation::Several { puts, .. } => puts.iter().map(|(k, v)| (k, v)).collect(),
            Operation::Delete { .. } | Operation::Get { .. } => Vec::new(),
        }
    }

    fn deletes(&self) -> &[Bytes] {
        match self {
            Operation::Delete { key } => std::slice::from_ref(key),
            Operation::Several { deletes, .. } => deletes,
            _ => &[],
        }
    }
}

impl Ledger {
    /// The newest revision of the history.
    #[must_use]
    pub fn revision(&self) -> i64 {
        FIRST + i64::try_from(self.history.len()).unwrap_or(i64::MAX)
    }

    /// The newest revision that anybody knows of.
    #[must_use]
    pub fn known(&self) -> i64 {
        self.known
    }

    /// A client is about to send an operation.
    pub fn begin(&mut self, operation: Operation) -> OperationId {
        self.begin_from(operation, self.known)
    }

    /// A client is about to send an operation that need not see more than `floor`: a read that may be old.
    pub fn begin_from(&mut self, operation: Operation, floor: i64) -> OperationId {
        let id = self.operations.len();
        for (_, value) in operation.puts() {
            self.by_value.insert(value.clone(), id);
        }
        self.operations.push(Begun {
            operation,
            floor,
            life: self.life,
            outcome: None,
            effect: None,
        });
        OperationId(id)
    }

    /// A client was answered. No call means that it never will be.
    pub fn end(&mut self, id: OperationId, outcome: Outcome) -> Result<(), Violation> {
        let begun = &mut self.operations[id.0];
        if let Outcome::Written { revision, .. } | Outcome::Read { revision, .. } = outcome {
            ensure!(
                revision >= begun.floor,
                "{:?} was answered with revision {revision}, but {} was known before it began",
                begun.operation,
                begun.floor
            );
            self.known = self.known.max(revision);
        }
        if let Outcome::Written {
            revision,
            is_changed: true,
        } = outcome
        {
            ensure!(
                revision > begun.floor,
                "{:?} was written at revision {revision}, which was known before it began",
                begun.operation
            );
            if let Some(other) = self.acknowledged.insert(revision, id.0) {
                return Err(Violation(format!(
                    "revision {revision} was acknowledged to {:?} and to {:?}",
                    self.operations[other].operation, self.operations[id.0].operation
                )));
            }
            let begun = &mut self.operations[id.0];
            if let Operation::Delete { key } = &begun.operation
                && self
                    .unclaimed
                    .get(&revision)
                    .is_some_and(|unclaimed| unclaimed.key == *key && unclaimed.life <= begun.life)
            {
                self.unclaimed.remove(&revision);
                begun.effect = Some(revision);
            }
        }
        self.operations[id.0].outcome = Some(outcome);
        self.unchecked.push(id.0);
        Ok(())
    }

    /// The node was started again and has replayed its log up to `revision`.
    pub fn restarted(&mut self, revision: i64) -> Result<(), Violation> {
        let needed = self.known.max(self.revision());
        ensure!(
            revision >= needed,
            "after a restart the store is at revision {revision}, but {needed} was visible before: \
             {} acknowledged or visible revisions are lost",
            needed - revision
        );
        self.life += 1;
        Ok(())
    }

    /// The store's history shows these changes at `revision`. Showing a revision again is welcome:
    /// it must be the same.
    pub fn observe(&mut self, revision: i64, changes: Vec<Change>) -> Result<(), Violation> {
        let newest = self.revision();
        if revision <= newest {
            let known = usize::try_from(revision - FIRST - 1)
                .ok()
                .and_then(|nth| self.history.get(nth));
            ensure!(
                known == Some(&changes),
                "revision {revision} was {known:?} and now is {changes:?}"
            );
            return Ok(());
        }
        ensure!(
            revision == newest + 1,
            "revision {revision} follows revision {newest}"
        );
        ensure!(!changes.is_empty(), "revision {revision} changes nothing");

        let Some(id) = self.find(revision, &changes) else {
            return self.observe_delete(revision, changes);
        };
        let begun = &self.operations[id];
        let expected = self.effect(&begun.operation, revision);
        ensure!(
            expected == changes,
            "revision {revision} is {changes:?}, but {:?} makes {expected:?} of the state before it",
            begun.operation
        );
        ensure!(
            begun.effect.is_none(),
            "{:?} took effect at revision {:?} and again at {revision}",
            begun.operation,
            begun.effect
        );
        ensure!(
            revision > begun.floor,
            "{:?} took effect at revision {revision}, but {} was known before it began",
            begun.operation,
            begun.floor
        );
        ensure!(
            begun.life >= self.life_in_history,
            "{:?} of life {} took effect at revision {revision}, after operations of life {}",
            begun.operation,
            begun.life,
            self.life_in_history
        );
        match &begun.outcome {
            None => {}
            Some(Outcome::Written {
                revision: told,
                is_changed: true,
            }) => ensure!(
                *told == revision,
                "{:?} was acknowledged at revision {told} and took effect at {revision}",
                begun.operation
            ),
            Some(outcome) => {
                return Err(Violation(format!(
                    "{:?} was answered {outcome:?} and took effect at revision {revision}",
                    begun.operation
                )));
            }
        }

        self.life_in_history = begun.life;
        self.operations[id].effect = Some(revision);
        self.extend(revision, changes);
        Ok(())
    }

    fn extend(&mut self, revision: i64, changes: Vec<Change>) {
        for change in &changes {
            let versions = self.keys.entry(change.key.clone()).or_default();
            versions.push((revision, change.version.clone()));
        }
        self.history.push(changes);
        self.known = self.known.max(revision);
    }

    /// A revision that carries no name: who deleted is found out later.
    fn observe_delete(&mut self, revision: i64, changes: Vec<Change>) -> Result<(), Violation> {
        let [Change { key, version: None }] = &changes[..] else {
            return Err(Violation(format!(
                "revision {revision} is {changes:?}, which no operation asked for"
            )));
        };
        ensure!(
            self.newest(key).is_some(),
            "revision {revision} deletes {key:?}, which does not exist"
        );
        let unclaimed = Unclaimed {
            key: key.clone(),
            life: self.life_in_history,
        };
        self.unclaimed.insert(revision, unclaimed);
        self.extend(revision, changes);
        self.check_deletes()
    }

    /// For each delete that nobody was told about, there is an operation of its own that may be behind it.
    fn check_deletes(&self) -> Result<(), Violation> {
        let mut taken = BTreeSet::new();
        // In both, later means that more of the old and less of the new is out of the question: the first that fits
        // is the right one.
        for (revision, unclaimed) in &self.unclaimed {
            let found = self.operations.iter().enumerate().position(|(id, begun)| {
                begun.outcome.is_none()
                    && begun.effect.is_none()
                    && begun.life >= unclaimed.life
                    && begun.floor < *revision
                    && !taken.contains(&id)
                    && matches!(&begun.operation, Operation::Delete { key } if *key == unclaimed.key)
            });
            let Some(found) = found else {
                return Err(Violation(format!(
                    "revision {revision} deletes {:?}, which no operation asked for",
                    unclaimed.key
                )));
            };
            taken.insert(found);
        }
        Ok(())
    }

    /// The operation whose effect the changes of a revision are.
    fn find(&self, revision: i64, changes: &[Change]) -> Option<usize> {
        if let Some(id) = self.acknowledged.get(&revision) {
            return Some(*id);
        }
        let versions = changes.iter().filter_map(|change| change.version.as_ref());
        versions
            .filter_map(|version| self.by_value.get(&version.value))
            .next()
            .copied()
    }

    /// What an operation does to the newest state, in the order of the keys.
    fn effect(&self, operation: &Operation, revision: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Operation::Update { key, expected, .. } = operation {
            let modified = self.newest(key).map_or(0, |version| version.mod_revision);
            if modified != *expected {
                return changes;
            }
        }
        for (key, value) in operation.puts() {
            let before = self.newest(key);
            changes.push(Change {
                key: key.clone(),
                version: Some(Version {
                    value: value.clone(),
                    create_revision: before.map_or(revision, |version| version.create_revision),
                    mod_revision: revision,
                    version: before.map_or(1, |version| version.version + 1),
                }),
            });
        }
        for key in operation.deletes() {
            if self.newest(key).is_some() {
                changes.push(Change {
                    key: key.clone(),
                    version: None,
                });
            }
        }
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        changes
    }

    fn newest(&self, key: &Bytes) -> Option<&Version> {
        self.keys.get(key)?.last()?.1.as_ref()
    }

    /// A key as it was at a revision.
    #[must_use]
    pub fn at(&self, key: &Bytes, revision: i64) -> Option<&Version> {
        let versions = self.keys.get(key)?;
        let after = versions.partition_point(|(changed, _)| *changed <= revision);
        versions.get(after.checked_sub(1)?)?.1.as_ref()
    }

    /// The keys that exist at the newest revision.
    #[must_use]
    pub fn live(&self) -> BTreeMap<Bytes, Version> {
        self.keys
            .iter()
            .filter_map(|(key, versions)| Some((key.clone(), versions.last()?.1.clone()?)))
            .collect()
    }

    /// Compares all answers up to the newest revision with the history. To be called when all that
    /// is visible has been observed: an answer beyond it is then a lost write.
    pub fn check(&mut self) -> Result<(), Violation> {
        let newest = self.revision();
        self.check_deletes()?;
        for id in std::mem::take(&mut self.unchecked) {
            let begun = &self.operations[id];
            match &begun.outcome {
                Some(Outcome::Written {
                    revision,
                    is_changed,
                }) => {
                    ensure!(
                        *revision <= newest,
                        "{:?} was acknowledged at revision {revision}, but the newest is {newest}",
                        begun.operation
                    );
                    if *is_changed {
                        ensure!(
                            begun.effect == Some(*revision),
                            "{:?} was acknowledged at revision {revision}; its effect is at {:?}",
                            begun.operation,
                            begun.effect
                        );
                    } else {
                        self.check_unchanged(begun, *revision)?;
                    }
                }
                Some(Outcome::Read { revision, found }) => {
                    ensure!(
                        *revision <= newest,
                        "{:?} was read at revision {revision}, but the newest is {newest}",
                        begun.operation
                    );
                    let Operation::Get { key } = &begun.operation else {
                        return Err(Violation(format!(
                            "{:?} was answered as a read",
                            begun.operation
                        )));
                    };
                    let expected = self.at(key, *revision);
                    ensure!(
                        expected == found.as_ref(),
                        "{:?} at revision {revision} read {found:?}; the history says {expected:?}",
                        begun.operation
                    );
                }
                Some(Outcome::Refused) | None => {}
            }
        }
        Ok(())
    }

    /// A write that claims to have changed nothing had no reason to.
    fn check_unchanged(&self, begun: &Begun, revision: i64) -> Result<(), Violation> {
        let had_reason = match &begun.operation {
            Operation::Delete { key } => self.at(key, revision).is_some(),
            Operation::Update { key, expected, .. } => {
                let modified = self.at(key, revision).map_or(0, |found| found.mod_revision);
                modified == *expected
            }
            Operation::Put { .. } | Operation::Several { .. } | Operation::Get { .. } => true,
        };
        ensure!(
            !had_reason,
            "{:?} was answered as changing nothing at revision {revision}, but it applied there",
            begun.operation
        );
        Ok(())
    }

    /// How much was seen.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            revisions: u64::try_from(self.history.len()).unwrap_or(u64::MAX),
            ..Counts::default()
        };
        for begun in &self.operations {
            match begun.outcome {
                Some(Outcome::Written { .. }) => counts.acknowledged += 1,
                Some(Outcome::Read { .. }) => counts.reads += 1,
                Some(Outcome::Refused) => {}
                None => {
                    counts.unknown += 1;
                    let is_write = !matches!(begun.operation, Operation::Get { .. });
                    counts.unknown_writes += u64::from(is_write);
                    counts.late += u64::from(begun.effect.is_some());
                }
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &'static str) -> Bytes {
        Bytes::from_static(name.as_bytes())
    }

    fn put(name: &'static str, value: &'static str) -> Operation {
        Operation::Put {
            key: key(name),
            value: key(value),
        }
    }

    fn written(revision: i64) -> Outcome {
        Outcome::Written {
            revision,
            is_changed: true,
        }
    }

    fn version(value: &'static str, create: i64, modified: i64, nth: i64) -> Version {
        Version {
            value: key(value),
            create_revision: create,
            mod_revision: modified,
            version: nth,
        }
    }

    fn change(name: &'static str, version: Option<Version>) -> Vec<Change> {
        vec![Change {
            key: key(name),
            version,
        }]
    }

    #[test]
    fn a_right_history_passes() {
        let mut ledger = Ledger::default();
        let first = ledger.begin(put("a", "1"));
        ledger.end(first, written(2)).unwrap();
        ledger
            .observe(2, change("a", Some(version("1", 2, 2, 1))))
            .unwrap();
        let read = ledger.begin(Operation::Get { key: key("a") });
        let found = Some(version("1", 2, 2, 1));
        ledger
            .end(read, Outcome::Read { revision: 2, found })
            .unwrap();
        let delete = ledger.begin(Operation::Delete { key: key("a") });
        ledger.observe(3, change("a", None)).unwrap();
        ledger.end(delete, written(3)).unwrap();
        ledger.check().unwrap();
        assert!(ledger.live().is_empty());
    }

    #[test]
    fn a_lost_acknowledged_write_is_caught_at_the_restart() {
        let mut ledger = Ledger::default();
        let id = ledger.begin(put("a", "1"));
        ledger.end(id, written(2)).unwrap();
        assert!(ledger.restarted(1).is_err());
    }

    #[test]
    fn an_acknowledged_write_that_the_history_lacks_is_caught() {
        let mut ledger = Ledger::default();
        let id = ledger.begin(put("a", "1"));
        ledger.end(id, written(2)).unwrap();
        assert!(ledger.check().is_err());
    }

    #[test]
    fn a_changed_past_is_caught() {
        let mut ledger = Ledger::default();
        ledger.begin(put("a", "1"));
        ledger.begin(put("a", "2"));
        ledger
            .observe(2, change("a", Some(version("1", 2, 2, 1))))
            .unwrap();
        assert!(
            ledger
                .observe(2, change("a", Some(version("2", 2, 2, 1))))
                .is_err()
        );
    }

    #[test]
    fn a_gap_in_the_revisions_is_caught() {
        let mut ledger = Ledger::default();
        ledger.begin(put("a", "1"));
        assert!(
            ledger
                .observe(3, change("a", Some(version("1", 3, 3, 1))))
                .is_err()
        );
    }

    #[test]
    fn a_write_that_takes_effect_twice_is_caught() {
        let mut ledger = Ledger::default();
        ledger.begin(put("a", "1"));
        ledger
            .observe(2, change("a", Some(version("1", 2, 2, 1))))
            .unwrap();
        assert!(
            ledger
                .observe(3, change("a", Some(version("1", 2, 3, 2))))
                .is_err()
        );
    }

    #[test]
    fn half_of_a_transaction_is_caught() {
        let mut ledger = Ledger::default();
        ledger.begin(Operation::Several {
            puts: vec![(key("a"), key("1")), (key("b"), key("2"))],
            deletes: Vec::new(),
        });
        assert!(
            ledger
                .observe(2, change("a", Some(version("1", 2, 2, 1))))
                .is_err()
        );
    }

    #[test]
    fn a_refused_write_that_takes_effect_is_caught() {
        let mut ledger = Ledger::default();
        let id = ledger.begin(put("a", "1"));
        ledger.end(id, Outcome::Refused).unwrap();
        assert!(
            ledger
                .observe(2, change("a", Some(version("1", 2, 2, 1))))
                .is_err()
        );
    }

    #[test]
    fn a_stale_read_is_caught() {
        let mut ledger = Ledger::default();
        let id = ledger.begin(put("a", "1"));
        ledger.end(id, written(2)).unwrap();
        let read = ledger.begin(Operation::Get { key: key("a") });
        let stale = Outcome::Read {
            revision: 1,
            found: None,
        };
        assert!(ledger.end(read, stale).is_err());
    }

    #[test]
    fn a_read_of_what_never_was_is_caught() {
        let mut ledger = Ledger::default();
        let read = ledger.begin(Operation::Get { key: key("a") });
        let found = Some(version("1", 1, 1, 1));
        ledger
            .end(read, Outcome::Read { revision: 1, found })
            .unwrap();
        assert!(ledger.check().is_err());
    }

    #[test]
    fn an_update_that_ignores_its_condition_is_caught() {
        let mut ledger = Ledger::default();
        ledger.begin(Operation::Update {
            key: key("a"),
            value: key("1"),
            expected: 7,
        });
        assert!(
            ledger
                .observe(2, change("a", Some(version("1", 2, 2, 1))))
                .is_err()
        );
    }

    #[test]
    fn an_update_that_wrongly_changes_nothing_is_caught() {
        let mut ledger = Ledger::default();
        let id = ledger.begin(Operation::Update {
            key: key("a"),
            value: key("1"),
            expected: 0,
        });
        let outcome = Outcome::Written {
            revision: 1,
            is_changed: false,
        };
        ledger.end(id, outcome).unwrap();
        assert!(ledger.check().is_err());
    }

    #[test]
    fn an_operation_of_an_earlier_life_that_comes_late_is_caught() {
        let mut ledger = Ledger::default();
        ledger.begin(put("a", "1"));
        ledger.restarted(1).unwrap();
        ledger.begin(put("a", "2"));
        ledger
            .observe(2, change("a", Some(version("2", 2, 2, 1))))
            .unwrap();
        assert!(
            ledger
                .observe(3, change("a", Some(version("1", 2, 3, 2))))
                .is_err()
        );
    }

    /// A ledger with one key, and the clients that are about to delete it.
    fn deletes(count: usize) -> (Ledger, Vec<OperationId>) {
        let mut ledger = Ledger::default();
        let id = ledger.begin(put("a", "1"));
        ledger.end(id, written(2)).unwrap();
        ledger
            .observe(2, change("a", Some(version("1", 2, 2, 1))))
            .unwrap();
        let delete = |_| ledger.begin(Operation::Delete { key: key("a") });
        let ids = (0..count).map(delete).collect();
        (ledger, ids)
    }

    #[test]
    fn a_delete_may_be_seen_before_its_client_hears_of_it() {
        let (mut ledger, ids) = deletes(2);
        ledger.observe(3, change("a", None)).unwrap();
        ledger.check().unwrap();
        // The other one, which the history does not name, is never answered.
        ledger.end(ids[1], written(3)).unwrap();
        ledger.check().unwrap();
    }

    #[test]
    fn a_delete_that_nobody_asked_for_is_caught() {
        let (mut ledger, _) = deletes(0);
        assert!(ledger.observe(3, change("a", None)).is_err());
    }

    #[test]
    fn one_delete_does_not_explain_two() {
        let (mut ledger, _) = deletes(1);
        ledger.observe(3, change("a", None)).unwrap();
        ledger.begin(put("a", "2"));
        ledger
            .observe(4, change("a", Some(version("2", 4, 4, 1))))
            .unwrap();
        assert!(ledger.observe(5, change("a", None)).is_err());
    }

    #[test]
    fn a_delete_that_was_refused_explains_nothing() {
        let (mut ledger, ids) = deletes(1);
        ledger.observe(3, change("a", None)).unwrap();
        ledger.end(ids[0], Outcome::Refused).unwrap();
        assert!(ledger.check().is_err());
    }

    #[test]
    fn a_read_that_may_be_old_is_measured_by_its_own_floor() {
        let (mut ledger, _) = deletes(0);
        let read = |ledger: &mut Ledger, floor| {
            let id = ledger.begin_from(Operation::Get { key: key("a") }, floor);
            let old = Outcome::Read {
                revision: 1,
                found: None,
            };
            ledger.end(id, old)
        };
        read(&mut ledger, 1).unwrap();
        ledger.check().unwrap();
        assert!(read(&mut ledger, 2).is_err());
    }
}
