//! Clients that write to a real server and tell a [`Ledger`] what they were told, and the check after each of its starts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bytes::Bytes;
use client::{
    Client, Compare, CompareResult, Error, EventType, KeyValue, Keys, ListOptions, Op, Txn,
    WatchOptions,
};
use parking_lot::Mutex;
use rand::{Rng, RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::ledger::{Change, Counts, Ledger, Operation, Outcome, Version, Violation};
use crate::sim::SimRng;

/// Keys that the writers fight over.
const SHARED_KEYS: u64 = 24;
/// Keys that the rest of their writes go to. Bounded, so that reading everything after each fault stays quick.
const MANY_KEYS: u64 = 2_000;

/// Keys with large values.
const LARGE_KEYS: u64 = 24;
/// What is put after the number that makes a value unique.
const SMALL_BYTES: Range<usize> = 0..300;
const LARGE_BYTES: Range<usize> = 4_000..256_000;
/// How long the history may make a reader wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// A number from the environment: how a run is repeated or made longer.
#[must_use]
pub fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// `SEED`, or one of its own for each run.
#[must_use]
pub fn seed() -> u64 {
    from_env("SEED").unwrap_or_else(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::from(now.subsec_nanos())
    })
}

fn version_of(kv: KeyValue) -> Version {
    Version {
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
    }
}

/// How many write, and what.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Clients that write at the same time.
    pub writers: u64,
    /// Of 1,000 operations, those that put a large value.
    pub large_per_mille: u32,
}

/// A load on a server, over all lives of its process.
pub struct Load {
    ledger: Mutex<Ledger>,
    violation: Mutex<Option<Violation>>,
    /// The modification revision of keys that was told last; may be old.
    told: Mutex<BTreeMap<Bytes, i64>>,
    next_value: AtomicU64,
    is_over: AtomicBool,
    answered: Notify,
}

/// The clients of one life.
pub struct Writers(Vec<JoinHandle<()>>);

impl Load {
    /// Nothing was written yet.
    #[must_use]
    pub fn new() -> Arc<Load> {
        Arc::new(Load {
            ledger: Mutex::default(),
            violation: Mutex::default(),
            told: Mutex::default(),
            next_value: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            answered: Notify::new(),
        })
    }

    /// Lets clients write until [`Load::end`], or until the server is gone.
    #[must_use]
    pub fn start(self: &Arc<Self>, shape: Shape, client: &Client, rng: &mut SimRng) -> Writers {
        self.is_over.store(false, Ordering::Relaxed);
        let writers = (0..shape.writers).map(|_| {
            let (load, client) = (Arc::clone(self), client.clone());
            let rng = SimRng::seed_from_u64(rng.next_u64());
            tokio::spawn(async move { load.write_until_over(shape, client, rng).await })
        });
        Writers(writers.collect())
    }

    /// Waits for the writers after the server is gone; fails if one of them saw a broken rule.
    pub async fn end(&self, writers: Writers) -> anyhow::Result<()> {
        // Not all are told by an error: who had no call under way is merely not connected any more.
        self.is_over.store(true, Ordering::Relaxed);
        for writer in writers.0 {
            writer.await?;
        }
        match self.violation.lock().take() {
            Some(violation) => Err(violation.into()),
            None => Ok(()),
        }
    }

    /// Waits until the next operation is answered.
    pub async fn next_answer(&self) {
        self.answered.notified().await;
    }

    /// How much was seen.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.ledger.lock().counts()
    }

    /// After a start: what the store says now agrees with all that anybody was told. Reads the history since the
    /// last call, or all of it.
    pub async fn verify(&self, client: &Client, from_the_first: bool) -> anyhow::Result<()> {
        let all = client.list(Keys::all(), ListOptions::default()).await?;
        let after = {
            let mut ledger = self.ledger.lock();
            ledger.restarted(all.revision)?;
            if from_the_first { 1 } else { ledger.revision() }
        };
        observe(client, &self.ledger, after).await?;
        let mut ledger = self.ledger.lock();
        ledger.check()?;
        let found: BTreeMap<Bytes, Version> = all
            .kvs
            .into_iter()
            .map(|kv| (kv.key.clone(), version_of(kv)))
            .collect();
        let expected = ledger.live();
        for key in expected.keys().chain(found.keys()) {
            anyhow::ensure!(
                expected.get(key) == found.get(key),
                "{key:?} is {:?}; by the history it is {:?}",
                found.get(key),
                expected.get(key)
            );
        }
        Ok(())
    }

    fn value(&self, padding: Range<usize>, rng: &mut SimRng) -> Bytes {
        let number = self.next_value.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{number}-");
        // Its number throughout, so that no piece of one value passes for a piece of another.
        let bytes = mark.len() + rng.random_range(padding);
        mark.bytes().cycle().take(bytes).collect()
    }

    fn operation(&self, shape: Shape, rng: &mut SimRng) -> Operation {
        if rng.random_range(0..1_000) < shape.large_per_mille {
            return Operation::Put {
                key: format!("large/{:02}", rng.random_range(0..LARGE_KEYS)).into(),
                value: self.value(LARGE_BYTES, rng),
            };
        }
        let shared = |rng: &mut SimRng| {
            Bytes::from(format!("shared/{:02}", rng.random_range(0..SHARED_KEYS)))
        };
        match rng.random_range(0..100) {
            0..50 => Operation::Put {
                key: format!("many/{:04}", rng.random_range(0..MANY_KEYS)).into(),
                value: self.value(SMALL_BYTES, rng),
            },
            50..62 => Operation::Put {
                key: shared(rng),
                value: self.value(SMALL_BYTES, rng),
            },
            62..77 => {
                let key = shared(rng);
                // What the writer knows may be old; then the condition fails, which is checked too.
                let expected = self.told.lock().get(&key).copied().unwrap_or(0);
                Operation::Update {
                    key,
                    value: self.value(SMALL_BYTES, rng),
                    expected,
                }
            }
            77..82 => Operation::Delete { key: shared(rng) },
            82..90 => {
                let mut puts = BTreeMap::new();
                for _ in 0..rng.random_range(1..4) {
                    puts.insert(shared(rng), self.value(SMALL_BYTES, rng));
                }
                let delete = shared(rng);
                let deletes = if puts.contains_key(&delete) {
                    Vec::new()
                } else {
                    vec![delete]
                };
                Operation::Several {
                    puts: puts.into_iter().collect(),
                    deletes,
                }
            }
            _ => Operation::Get { key: shared(rng) },
        }
    }

    fn remember(&self, operation: &Operation, outcome: &Outcome) {
        let mut told = self.told.lock();
        match (operation, outcome) {
            (Operation::Get { key }, Outcome::Read { found, .. }) => {
                told.insert(
                    key.clone(),
                    found.as_ref().map_or(0, |found| found.mod_revision),
                );
            }
            (Operation::Delete { key }, Outcome::Written { .. }) => {
                told.insert(key.clone(), 0);
            }
            (
                Operation::Put { key, .. } | Operation::Update { key, .. },
                Outcome::Written {
                    revision,
                    is_changed: true,
                },
            ) if key.starts_with(b"shared/") => {
                told.insert(key.clone(), *revision);
            }
            _ => {}
        }
    }

    /// Runs one operation; false if the server is gone.
    async fn run_one(
        &self,
        shape: Shape,
        client: &Client,
        rng: &mut SimRng,
    ) -> Result<bool, Violation> {
        let operation = self.operation(shape, rng);
        let id = self.ledger.lock().begin(operation.clone());
        match call(client, operation.clone()).await {
            Ok(outcome) => {
                self.remember(&operation, &outcome);
                self.ledger.lock().end(id, outcome)?;
                self.answered.notify_waiters();
                Ok(true)
            }
            Err(Error::Refused { .. } | Error::NotDone { .. }) => {
                self.ledger.lock().end(id, Outcome::Refused)?;
                Ok(true)
            }
            // Not answered: it may or may not have happened.
            Err(_) => Ok(false),
        }
    }

    async fn write_until_over(&self, shape: Shape, client: Client, mut rng: SimRng) {
        while !self.is_over.load(Ordering::Relaxed) {
            match self.run_one(shape, &client, &mut rng).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(violation) => {
                    self.violation.lock().get_or_insert(violation);
                    return;
                }
            }
        }
    }
}

async fn call(client: &Client, operation: Operation) -> Result<Outcome, Error> {
    let written = |revision, is_changed| Outcome::Written {
        revision,
        is_changed,
    };
    Ok(match operation {
        Operation::Put { key, value } => written(client.put(key, value).await?, true),
        Operation::Delete { key } => {
            let deleted = client.delete(key).await?;
            written(deleted.revision, deleted.deleted > 0)
        }
        Operation::Update {
            key,
            value,
            expected,
        } => {
            let unchanged = Compare::mod_revision(key.clone(), CompareResult::Equal, expected);
            let answer = client
                .txn(Txn::new().when(unchanged).then(Op::put(key, value)))
                .await?;
            written(answer.revision, answer.succeeded)
        }
        Operation::Several { puts, deletes } => {
            let mut txn = Txn::new();
            for (key, value) in puts {
                txn = txn.then(Op::put(key, value));
            }
            for key in deletes {
                txn = txn.then(Op::delete(key));
            }
            written(client.txn(txn).await?.revision, true)
        }
        Operation::Get { key } => {
            let list = client.list(key, ListOptions::default()).await?;
            Outcome::Read {
                revision: list.revision,
                found: list.kvs.into_iter().next().map(version_of),
            }
        }
    })
}

/// Reads the history after `after` as watchers get it and shows it to the ledger.
async fn observe(client: &Client, ledger: &Mutex<Ledger>, after: i64) -> anyhow::Result<()> {
    let options = ListOptions {
        limit: 1,
        ..ListOptions::default()
    };
    let newest = client.list(Keys::all(), options).await?.revision;
    if newest <= after {
        return Ok(());
    }
    let mut watch = client
        .watch(Keys::all(), WatchOptions::from(after + 1))
        .await?;
    let mut seen = after;
    while seen < newest {
        let batch = tokio::time::timeout(PATIENCE, watch.next()).await;
        let batch = batch
            .with_context(|| format!("the watch stands still after revision {seen} of {newest}"))?;
        let batch = batch?.context("the watch ended")?;
        let mut revisions: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
        for event in batch.events {
            let is_put = event.r#type() == EventType::Put;
            let kv = event.kv.context("an event without a key")?;
            let changes = revisions.entry(kv.mod_revision).or_default();
            changes.push(Change {
                key: kv.key.clone(),
                version: is_put.then(|| version_of(kv)),
            });
        }
        let mut ledger = ledger.lock();
        for (revision, mut changes) in revisions {
            changes.sort_by(|a, b| a.key.cmp(&b.key));
            ledger.observe(revision, changes)?;
            seen = revision;
        }
    }
    Ok(())
}
