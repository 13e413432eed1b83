//! What an etcd v3 store does with a request, as a pure function: the sequential specification that a run is held to.
//!
//! Keys and values are text here, since a history is read by people, too.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

/// One version of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Kv {
    #[serde(rename = "k")]
    pub(crate) key: String,
    #[serde(rename = "v")]
    pub(crate) value: String,
    /// Revision of its creation.
    #[serde(rename = "c")]
    pub(crate) created: i64,
    /// Revision of its last write.
    #[serde(rename = "m")]
    pub(crate) modified: i64,
    /// Writes since its creation, that one included.
    #[serde(rename = "n")]
    pub(crate) version: i64,
    /// The lease that it is deleted with; 0 for none.
    #[serde(rename = "l", default, skip_serializing_if = "is_zero")]
    pub(crate) lease: i64,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "snake_case")]
pub(crate) enum Op {
    Put {
        key: String,
        value: String,
        /// Whether the answer shall show what was there before.
        #[serde(default, skip_serializing_if = "is_false")]
        previous: bool,
        /// The lease to attach the key to; 0 for none.
        #[serde(default, skip_serializing_if = "is_zero")]
        lease: i64,
    },
    Delete {
        key: String,
        #[serde(default, skip_serializing_if = "is_false")]
        previous: bool,
    },
    Get {
        key: String,
        /// Whether the member may answer from what it knows, which may be old.
        #[serde(default, skip_serializing_if = "is_false")]
        serializable: bool,
    },
    List {
        prefix: String,
        #[serde(default, skip_serializing_if = "is_false")]
        serializable: bool,
    },
    Txn {
        when: Vec<Condition>,
        then: Vec<Step>,
        #[serde(rename = "else")]
        otherwise: Vec<Step>,
    },
    /// Forget what is no longer needed to read at this revision and above.
    Compact { revision: i64 },
    /// A new lease of that many seconds.
    Grant { lease: i64, ttl: i64 },
    /// End a lease, and delete what is attached to it.
    Revoke { lease: i64 },
    /// Let a lease begin anew.
    KeepAlive { lease: i64 },
    /// What is left of a lease, and what is attached to it.
    TimeToLive { lease: i64 },
}

/// What must hold for the first branch of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Condition {
    /// The key was last written at this revision; 0 where there is no key.
    Modified(String, i64),
    /// The key exists and has this value.
    Value(String, String),
}

/// One operation inside a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    Put(String, String),
    Delete(String),
    Get(String),
}

/// What a server answers, its header aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Body {
    Put {
        previous: Option<Kv>,
    },
    Delete {
        deleted: i64,
        previous: Vec<Kv>,
    },
    Read {
        kvs: Vec<Kv>,
        count: i64,
    },
    Txn {
        succeeded: bool,
        steps: Vec<Done>,
    },
    Compact,
    Grant {
        ttl: i64,
    },
    Revoke,
    /// Seconds; 0 if there is no such lease.
    KeepAlive {
        ttl: i64,
    },
    /// Seconds that are left; seconds that were granted, 0 if there is no such lease; keys in order.
    TimeToLive {
        ttl: i64,
        granted: i64,
        keys: Vec<String>,
    },
}

/// The answer to a [`Step`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Done {
    Put,
    Delete(i64),
    Get(Option<Kv>),
}

/// One change of one key, as watchers see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Change {
    /// Revision at which it happened.
    #[serde(rename = "r")]
    pub(crate) revision: i64,
    #[serde(rename = "k")]
    pub(crate) key: String,
    /// What the key is then; nothing after a deletion.
    #[serde(rename = "kv", default, skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<Kv>,
    /// What the key was before that, if it existed; only where the watcher asked for it.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<Kv>,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

impl Op {
    /// Whether the answer must be as new as everything acknowledged before.
    pub(crate) fn is_linearizable(&self) -> bool {
        !matches!(
            self,
            Op::Get {
                serializable: true,
                ..
            } | Op::List {
                serializable: true,
                ..
            }
            // What they tell is the leader's, their revision is the member's own.
            | Op::KeepAlive { .. }
                | Op::TimeToLive { .. }
        )
    }

    /// Whether it might change something.
    pub(crate) fn may_write(&self) -> bool {
        match self {
            Op::Put { .. } | Op::Delete { .. } | Op::Revoke { .. } => true,
            Op::Get { .. }
            | Op::List { .. }
            | Op::Compact { .. }
            | Op::Grant { .. }
            | Op::KeepAlive { .. }
            | Op::TimeToLive { .. } => false,
            Op::Txn {
                then, otherwise, ..
            } => then
                .iter()
                .chain(otherwise)
                .any(|step| !matches!(step, Step::Get(_))),
        }
    }

    /// The values that it may write, which name it.
    pub(crate) fn values(&self) -> Vec<&str> {
        match self {
            Op::Put { value, .. } => vec![value],
            Op::Txn {
                then, otherwise, ..
            } => then
                .iter()
                .chain(otherwise)
                .filter_map(|step| match step {
                    Step::Put(_, value) => Some(value.as_str()),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// All keys at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    kvs: BTreeMap<String, Kv>,
    revision: i64,
}

impl State {
    /// The empty store, whose revision is 1.
    pub(crate) fn new() -> State {
        State {
            kvs: BTreeMap::new(),
            revision: 1,
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Kv> {
        self.kvs.get(key)
    }

    /// The keys that begin with `prefix`, in order.
    pub(crate) fn list(&self, prefix: &str) -> impl Iterator<Item = &Kv> {
        let prefix = prefix.to_owned();
        self.kvs
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .map(|(_, kv)| kv)
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// What `op` answers and changes in this state. Changes take the next revision; without any there is none. What it
    /// answers is not told where it does not follow from keys: leases have times.
    pub(crate) fn evaluate(&self, op: &Op) -> (Option<Body>, Vec<Change>) {
        let (body, changes) = match op {
            Op::Put {
                key,
                value,
                previous,
                lease,
            } => {
                let before = self.get(key).filter(|_| *previous).cloned();
                let change = self.put(key, value, *lease);
                (Body::Put { previous: before }, vec![change])
            }
            Op::Delete { key, previous } => {
                let before = self.get(key);
                let body = Body::Delete {
                    deleted: i64::from(before.is_some()),
                    previous: before.filter(|_| *previous).cloned().into_iter().collect(),
                };
                (body, self.delete(key).into_iter().collect())
            }
            Op::Get { key, .. } => {
                let kvs: Vec<Kv> = self.get(key).cloned().into_iter().collect();
                let count = i64::from(!kvs.is_empty());
                (Body::Read { kvs, count }, Vec::new())
            }
            Op::List { prefix, .. } => {
                let kvs: Vec<Kv> = self.list(prefix).cloned().collect();
                let count = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
                (Body::Read { kvs, count }, Vec::new())
            }
            Op::Txn {
                when,
                then,
                otherwise,
            } => {
                let succeeded = when.iter().all(|condition| self.holds(condition));
                let (steps, changes) = self.steps(if succeeded { then } else { otherwise });
                (Body::Txn { succeeded, steps }, changes)
            }
            Op::Compact { .. } => (Body::Compact, Vec::new()),
            Op::Revoke { lease } => (Body::Revoke, self.end_of(*lease)),
            Op::Grant { .. } | Op::KeepAlive { .. } | Op::TimeToLive { .. } => {
                return (None, Vec::new());
            }
        };
        (Some(body), changes)
    }

    /// What the end of a lease changes: its keys are deleted, in order.
    pub(crate) fn end_of(&self, lease: i64) -> Vec<Change> {
        let attached = self.kvs.values().filter(|kv| kv.lease == lease);
        attached.filter_map(|kv| self.delete(&kv.key)).collect()
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Modified(key, revision) => {
                self.get(key).map_or(0, |kv| kv.modified) == *revision
            }
            Condition::Value(key, value) => self.get(key).is_some_and(|kv| kv.value == *value),
        }
    }

    /// A branch never names a key twice, so no step sees what another one did.
    fn steps(&self, steps: &[Step]) -> (Vec<Done>, Vec<Change>) {
        let mut changes = Vec::new();
        let done = steps.iter().map(|step| match step {
            Step::Put(key, value) => {
                changes.push(self.put(key, value, 0));
                Done::Put
            }
            Step::Delete(key) => {
                let change = self.delete(key);
                let deleted = i64::from(change.is_some());
                changes.extend(change);
                Done::Delete(deleted)
            }
            Step::Get(key) => Done::Get(self.get(key).cloned()),
        });
        (done.collect(), changes)
    }

    fn put(&self, key: &str, value: &str, lease: i64) -> Change {
        let before = self.get(key);
        let revision = self.revision + 1;
        Change {
            revision,
            key: key.to_owned(),
            after: Some(Kv {
                key: key.to_owned(),
                value: value.to_owned(),
                created: before.map_or(revision, |kv| kv.created),
                modified: revision,
                version: before.map_or(0, |kv| kv.version) + 1,
                lease,
            }),
            previous: before.cloned(),
        }
    }

    fn delete(&self, key: &str) -> Option<Change> {
        let before = self.get(key)?;
        Some(Change {
            revision: self.revision + 1,
            key: key.to_owned(),
            after: None,
            previous: Some(before.clone()),
        })
    }

    /// Goes on to the revision that these changes made.
    pub(crate) fn apply(&mut self, changes: &[Change], revision: i64) {
        for change in changes {
            match &change.after {
                Some(kv) => self.kvs.insert(change.key.clone(), kv.clone()),
                None => self.kvs.remove(&change.key),
            };
        }
        self.revision = revision;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Op {
        Op::Put {
            key: key.into(),
            value: value.into(),
            previous: true,
            lease: 0,
        }
    }

    #[test]
    fn the_end_of_a_lease_deletes_what_is_attached_to_it_then_in_order() {
        let mut state = State::new();
        for (key, lease) in [("c", 1), ("a", 1), ("b", 2), ("d", 1), ("d", 0)] {
            let op = Op::Put {
                key: key.into(),
                value: String::new(),
                previous: false,
                lease,
            };
            let (_, changes) = state.evaluate(&op);
            state.apply(&changes, state.revision() + 1);
        }
        let (_, changes) = state.evaluate(&Op::Revoke { lease: 1 });
        let keys: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
        assert_eq!(keys, ["a", "c"]);
        assert!(changes.iter().all(|change| change.after.is_none()));
    }

    #[test]
    fn a_put_counts_versions_and_keeps_the_creation() {
        let mut state = State::new();
        for value in ["a", "b"] {
            let (_, changes) = state.evaluate(&put("k", value));
            state.apply(&changes, state.revision() + 1);
        }
        let kv = state.get("k").unwrap();
        assert_eq!((kv.created, kv.modified, kv.version), (2, 3, 2));
        assert_eq!(state.revision(), 3);
    }

    #[test]
    fn a_deletion_of_nothing_takes_no_revision() {
        let state = State::new();
        let (body, changes) = state.evaluate(&Op::Delete {
            key: "k".into(),
            previous: false,
        });
        assert!(changes.is_empty());
        assert!(matches!(body, Some(Body::Delete { deleted: 0, .. })));
    }

    #[test]
    fn a_transaction_takes_the_branch_of_the_state_before_it() {
        let mut state = State::new();
        let (_, changes) = state.evaluate(&put("k", "a"));
        state.apply(&changes, state.revision() + 1);
        let op = Op::Txn {
            when: vec![Condition::Value("k".into(), "a".into())],
            then: vec![Step::Put("k".into(), "b".into()), Step::Get("l".into())],
            otherwise: vec![Step::Delete("k".into())],
        };
        let (body, changes) = state.evaluate(&op);
        assert!(matches!(
            body,
            Some(Body::Txn {
                succeeded: true,
                ..
            })
        ));
        assert_eq!((changes.len(), changes[0].revision), (1, 3));
    }

    #[test]
    fn a_list_has_the_prefix_alone() {
        let mut state = State::new();
        for key in ["a/1", "a/2", "a0", "b"] {
            let (_, changes) = state.evaluate(&put(key, key));
            state.apply(&changes, state.revision() + 1);
        }
        let keys: Vec<&str> = state.list("a/").map(|kv| kv.key.as_str()).collect();
        assert_eq!(keys, ["a/1", "a/2"]);
    }
}
