//! What clients ask for. Every value that is written is unique, which ties a revision to the operation that made it.
//!
//! - `register`: a few keys at a time, put, read and changed by compare-and-set; keys are replaced after some hundred
//!   operations, so that the search for an order stays small;
//! - `ledger`: a new key for each write, and reads of what was written;
//! - `counter`: two numbers, counted up by compare-and-set on their modification revision;
//! - `multi`: transfers between accounts whose sum stays, and groups of keys that are always written together;
//! - `mixed`: all of these, deletions, and reads that may be old;
//! - `watch`: writes, deletions and transactions, some of them long, for those who watch; the past is taken away;
//! - `lease`: leases that are granted, kept alive, left alone and revoked, on any member, and keys that are attached to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use parking_lot::Mutex;
use rand::RngExt;

use super::history::Operation;
use super::leases::Leases;
use super::model::{Body, Condition, Done, Kv, Op, Step};
use crate::sim::SimRng;

/// Registers in use at a time, and operations on each before it is left for a new one.
const REGISTERS: u64 = 4;
const REGISTER_OPERATIONS: u64 = 120;
/// Writes that share the prefix of a list.
const PAGE: u64 = 40;
/// Accounts, and what is on each at first.
pub(crate) const ACCOUNTS: u64 = 6;
pub(crate) const DEPOSIT: i64 = 100;
/// Keys that are written together.
const GROUP: u64 = 5;
const GROUPS: u64 = 3;
/// Keys that are also deleted.
const VOLATILE: u64 = 16;

/// A mix of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Register,
    Ledger,
    Counter,
    Multi,
    Mixed,
    Watch,
    Lease,
}

/// All of them, with their names.
pub(crate) const KINDS: [(&str, Kind); 7] = [
    ("register", Kind::Register),
    ("ledger", Kind::Ledger),
    ("counter", Kind::Counter),
    ("multi", Kind::Multi),
    ("mixed", Kind::Mixed),
    ("watch", Kind::Watch),
    ("lease", Kind::Lease),
];

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        let found = KINDS.iter().find(|(name, _)| *name == text);
        found.map(|(_, kind)| *kind).ok_or_else(|| {
            let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
            format!("no such workload; there are {}", names.join(", "))
        })
    }
}

impl Kind {
    /// What servers are to be told, so that the workload meets what it is about.
    pub(crate) fn flags(self) -> Vec<String> {
        match self {
            // Progress without being asked, and responses long enough to come in pieces.
            Kind::Watch => vec![
                "--watch-progress-notify-interval=300ms".to_owned(),
                "--max-request-bytes=131072".to_owned(),
            ],
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = KINDS.iter().find(|(_, kind)| kind == self);
        f.write_str(found.map_or("?", |(name, _)| name))
    }
}

/// Makes operations; shared by all clients of a run.
#[derive(Debug)]
pub(crate) struct Workload {
    kind: Kind,
    /// What somebody was told last of keys that are changed by compare-and-set; may be old, so that some fail.
    told: Mutex<BTreeMap<String, Kv>>,
    register_operations: Mutex<u64>,
    written: Mutex<u64>,
    leases: Leases,
}

impl Workload {
    pub(crate) fn new(kind: Kind) -> Workload {
        Workload {
            kind,
            told: Mutex::default(),
            register_operations: Mutex::default(),
            written: Mutex::default(),
            leases: Leases::default(),
        }
    }

    /// What must be there before clients begin.
    pub(crate) fn preparations(&self, mut unique: impl FnMut() -> u64) -> Vec<Op> {
        if !matches!(self.kind, Kind::Multi | Kind::Mixed) {
            return Vec::new();
        }
        let deposits = (0..ACCOUNTS).map(|n| Step::Put(account(n), money(DEPOSIT, unique())));
        vec![Op::Txn {
            when: vec![Condition::Modified(account(0), 0)],
            then: deposits.collect(),
            otherwise: Vec::new(),
        }]
    }

    /// The next operation of some client. `unique` names its values.
    pub(crate) fn next(&self, unique: u64, rng: &mut SimRng) -> Op {
        let kind = match self.kind {
            Kind::Mixed => match rng.random_range(0..100) {
                0..25 => Kind::Register,
                25..35 => Kind::Ledger,
                35..45 => Kind::Counter,
                45..65 => Kind::Multi,
                _ => Kind::Mixed,
            },
            kind => kind,
        };
        match kind {
            Kind::Register => self.register(unique, rng),
            Kind::Ledger => self.ledger(unique, rng),
            Kind::Counter => self.counter(unique, rng),
            Kind::Multi => self.multi(unique, rng),
            Kind::Mixed => self.volatile(unique, rng),
            Kind::Watch => watched(unique, rng),
            Kind::Lease => self.leases.next(unique, rng),
        }
    }

    /// Learns from an answer.
    pub(crate) fn learn(&self, operation: &Operation) {
        self.leases.learn(operation);
        let mut told = self.told.lock();
        let mut learn = |kv: &Kv| {
            // Answers arrive out of order.
            if told
                .get(&kv.key)
                .is_none_or(|known| known.modified < kv.modified)
            {
                told.insert(kv.key.clone(), kv.clone());
            }
        };
        match &operation.body {
            Some(Body::Read { kvs, .. }) => kvs.iter().for_each(learn),
            Some(Body::Txn {
                succeeded: false,
                steps,
            }) => {
                for step in steps {
                    if let Done::Get(Some(kv)) = step {
                        learn(kv);
                    }
                }
            }
            _ => {}
        }
    }

    fn known(&self, key: &str) -> Option<Kv> {
        self.told.lock().get(key).cloned()
    }

    fn register(&self, unique: u64, rng: &mut SimRng) -> Op {
        let key = {
            let mut count = self.register_operations.lock();
            *count += 1;
            let era = *count / (REGISTERS * REGISTER_OPERATIONS);
            format!("register/{era}/{}", rng.random_range(0..REGISTERS))
        };
        let value = unique.to_string();
        match (rng.random_range(0..100), self.known(&key)) {
            (0..35, _) => put(key, value, rng.random()),
            (35..65, Some(known)) => Op::Txn {
                when: vec![Condition::Value(key.clone(), known.value)],
                then: vec![Step::Put(key.clone(), value)],
                otherwise: vec![Step::Get(key)],
            },
            _ => get(key),
        }
    }

    fn ledger(&self, unique: u64, rng: &mut SimRng) -> Op {
        let mut written = self.written.lock();
        match rng.random_range(0..100) {
            0..75 => {
                *written += 1;
                put(entry(*written), unique.to_string(), false)
            }
            75..95 => get(entry(rng.random_range(0..=*written))),
            _ => list(page(rng.random_range(0..=*written))),
        }
    }

    fn counter(&self, unique: u64, rng: &mut SimRng) -> Op {
        let key = format!("counter/{}", rng.random_range(0..2));
        if rng.random_range(0..100) < 30 {
            return get(key);
        }
        let known = self.known(&key);
        let modified = known.as_ref().map_or(0, |kv| kv.modified);
        let count = known.and_then(|kv| number(&kv.value)).unwrap_or(0);
        Op::Txn {
            when: vec![Condition::Modified(key.clone(), modified)],
            then: vec![Step::Put(key.clone(), money(count + 1, unique))],
            otherwise: vec![Step::Get(key)],
        }
    }

    fn multi(&self, unique: u64, rng: &mut SimRng) -> Op {
        let group = format!("group/{}/", rng.random_range(0..GROUPS));
        match rng.random_range(0..100) {
            0..35 => self.transfer(unique, rng),
            35..55 => list("account/".to_owned()),
            55..80 => Op::Txn {
                when: Vec::new(),
                then: (0..GROUP)
                    .map(|n| Step::Put(format!("{group}{n}"), unique.to_string()))
                    .collect(),
                otherwise: Vec::new(),
            },
            80..90 => list(group),
            _ => Op::List {
                prefix: group,
                serializable: true,
            },
        }
    }

    fn transfer(&self, unique: u64, rng: &mut SimRng) -> Op {
        let from = rng.random_range(0..ACCOUNTS);
        let to = (from + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        let (from, to) = (account(from), account(to));
        let (Some(payer), Some(payee)) = (self.known(&from), self.known(&to)) else {
            return list("account/".to_owned());
        };
        let amount = rng.random_range(1..10);
        let balance = |kv: &Kv| number(&kv.value).unwrap_or(0);
        Op::Txn {
            when: vec![
                Condition::Modified(from.clone(), payer.modified),
                Condition::Modified(to.clone(), payee.modified),
            ],
            then: vec![
                Step::Put(from.clone(), money(balance(&payer) - amount, unique)),
                Step::Put(to.clone(), money(balance(&payee) + amount, unique)),
            ],
            otherwise: vec![Step::Get(from), Step::Get(to)],
        }
    }

    fn volatile(&self, unique: u64, rng: &mut SimRng) -> Op {
        let one = rng.random_range(0..VOLATILE);
        let other = (one + rng.random_range(1..VOLATILE)) % VOLATILE;
        let key = format!("volatile/{one:02}");
        let value = unique.to_string();
        match rng.random_range(0..100) {
            0..25 => put(key, value, rng.random()),
            25..40 => Op::Delete {
                key,
                previous: rng.random(),
            },
            40..50 => Op::Txn {
                when: Vec::new(),
                then: vec![
                    Step::Delete(key),
                    Step::Put(format!("volatile/{other:02}"), value),
                ],
                otherwise: Vec::new(),
            },
            50..65 => get(key),
            65..90 => Op::Get {
                key,
                serializable: true,
            },
            _ => Op::List {
                prefix: "volatile/".to_owned(),
                serializable: rng.random(),
            },
        }
    }
}

/// What watchers are told of.
fn watched(unique: u64, rng: &mut SimRng) -> Op {
    let key = watched_key(rng);
    let value = unique.to_string();
    match rng.random_range(0..100) {
        0..50 => put(key, value, rng.random()),
        50..68 => Op::Delete {
            key,
            previous: rng.random(),
        },
        68..84 => {
            let keys: BTreeSet<String> = (0..3).map(|_| watched_key(rng)).collect();
            let mut then = vec![Step::Put(key.clone(), value.clone())];
            for other in keys.into_iter().filter(|other| *other != key) {
                then.push(match rng.random() {
                    true => Step::Put(other, value.clone()),
                    false => Step::Delete(other),
                });
            }
            Op::Txn {
                when: Vec::new(),
                then,
                otherwise: Vec::new(),
            }
        }
        84..87 => {
            let length = rng.random_range(12_000..24_000);
            let step = |n| Step::Put(format!("big/{n}"), format!("{value}~{length}"));
            Op::Txn {
                when: Vec::new(),
                then: (0..4).map(step).collect(),
                otherwise: Vec::new(),
            }
        }
        87..95 => get(key),
        _ => list("w/a/".to_owned()),
    }
}

/// One of the keys that come and go in the workload `watch`: `w/b/7`.
pub(crate) fn watched_key(rng: &mut SimRng) -> String {
    let folder = ["a", "b", "c", "d"][rng.random_range(0..4)];
    format!("w/{folder}/{}", rng.random_range(0..10))
}

fn put(key: String, value: String, previous: bool) -> Op {
    Op::Put {
        key,
        value,
        previous,
        lease: 0,
    }
}

fn get(key: String) -> Op {
    Op::Get {
        key,
        serializable: false,
    }
}

fn list(prefix: String) -> Op {
    Op::List {
        prefix,
        serializable: false,
    }
}

fn account(n: u64) -> String {
    format!("account/{n}")
}

fn page(n: u64) -> String {
    format!("ledger/{:05}/", n / PAGE)
}

fn entry(n: u64) -> String {
    format!("{}{n:07}", page(n))
}

/// A number that counts, with what makes the value unique.
fn money(amount: i64, unique: u64) -> String {
    format!("{amount}#{unique}")
}

/// The number of a value that counts.
pub(crate) fn number(value: &str) -> Option<i64> {
    value.split_once('#')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn no_value_is_written_by_two_operations_and_no_key_twice_in_one() {
        for (name, kind) in KINDS {
            let workload = Workload::new(kind);
            let mut rng = SimRng::seed_from_u64(1);
            let mut next = 0;
            let mut unique = || {
                next += 1;
                next
            };
            let mut seen = BTreeSet::new();
            let prepared = workload.preparations(&mut unique);
            let more = (0..2_000).map(|n| workload.next(1_000_000 + n, &mut rng));
            for op in prepared.into_iter().chain(more) {
                let values: BTreeSet<&str> = op.values().into_iter().collect();
                for value in values {
                    assert!(seen.insert(value.to_owned()), "{name}: {value} again");
                }
                if let Op::Txn { then, .. } = &op {
                    let keys: BTreeSet<&String> = then
                        .iter()
                        .map(|step| match step {
                            Step::Put(key, _) | Step::Delete(key) | Step::Get(key) => key,
                        })
                        .collect();
                    assert_eq!(keys.len(), then.len(), "{name}: {op:?}");
                }
            }
        }
    }
}
