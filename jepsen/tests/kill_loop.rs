//! `kill -9` at random moments under load: nothing acknowledged is lost, nothing is made up.
//!
//! `SEED` replays the choices (not the machine's timing), `KILLS` sets how many times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bytes::Bytes;
use client::{
    Client, Compare, CompareResult, Error, EventType, KeyValue, Keys, ListOptions, Op, Txn,
    WatchOptions,
};
use jepsen::ledger::{Change, Ledger, Operation, Outcome, Version, Violation};
use jepsen::process::{Server, binary};
use jepsen::sim::SimRng;
use parking_lot::Mutex;
use rand::{Rng, RngExt, SeedableRng};
use tokio::task::JoinHandle;

/// Clients that write at the same time.
const WRITERS: u64 = 8;
/// Keys that they fight over.
const SHARED_KEYS: u64 = 24;
/// Keys that the rest of their writes go to. Bounded, so that reading everything after each kill stays quick.
const MANY_KEYS: u64 = 2_000;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn version_of(kv: KeyValue) -> Version {
    Version {
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
    }
}

/// What the writers share.
struct Load {
    ledger: Mutex<Ledger>,
    violation: Mutex<Option<Violation>>,
    /// The modification revision of keys that was told last; may be old.
    told: Mutex<BTreeMap<Bytes, i64>>,
    next_value: AtomicU64,
    is_over: AtomicBool,
}

impl Load {
    fn value(&self, rng: &mut SimRng) -> Bytes {
        let number = self.next_value.fetch_add(1, Ordering::Relaxed);
        let padding = rng.random_range(0..300);
        format!("{number}-{}", "x".repeat(padding)).into()
    }

    fn operation(&self, rng: &mut SimRng) -> Operation {
        let shared = |rng: &mut SimRng| {
            Bytes::from(format!("shared/{:02}", rng.random_range(0..SHARED_KEYS)))
        };
        match rng.random_range(0..100) {
            0..50 => Operation::Put {
                key: format!("many/{:04}", rng.random_range(0..MANY_KEYS)).into(),
                value: self.value(rng),
            },
            50..62 => Operation::Put {
                key: shared(rng),
                value: self.value(rng),
            },
            62..77 => {
                let key = shared(rng);
                // What the writer knows may be old; then the condition fails, which is checked too.
                let expected = self.told.lock().get(&key).copied().unwrap_or(0);
                Operation::Update {
                    key,
                    value: self.value(rng),
                    expected,
                }
            }
            77..82 => Operation::Delete { key: shared(rng) },
            82..90 => {
                let mut puts = BTreeMap::new();
                for _ in 0..rng.random_range(1..4) {
                    puts.insert(shared(rng), self.value(rng));
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
    async fn run_one(&self, client: &Client, rng: &mut SimRng) -> Result<bool, Violation> {
        let operation = self.operation(rng);
        let id = self.ledger.lock().begin(operation.clone());
        match call(client, operation.clone()).await {
            Ok(outcome) => {
                self.remember(&operation, &outcome);
                self.ledger.lock().end(id, outcome)?;
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

    async fn write_until_over(&self, client: Client, mut rng: SimRng) {
        while !self.is_over.load(Ordering::Relaxed) {
            match self.run_one(&client, &mut rng).await {
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
        let batch = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
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

/// After a start: what the store says now agrees with all that anybody was told.
async fn verify(
    client: &Client,
    ledger: &Mutex<Ledger>,
    from_the_first: bool,
) -> anyhow::Result<()> {
    let all = client.list(Keys::all(), ListOptions::default()).await?;
    let after = {
        let mut ledger = ledger.lock();
        ledger.restarted(all.revision)?;
        if from_the_first { 1 } else { ledger.revision() }
    };
    observe(client, ledger, after).await?;
    let mut ledger = ledger.lock();
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

fn start_writers(load: &Arc<Load>, client: &Client, rng: &mut SimRng) -> Vec<JoinHandle<()>> {
    load.is_over.store(false, Ordering::Relaxed);
    (0..WRITERS)
        .map(|_| {
            let (load, client) = (Arc::clone(load), client.clone());
            let rng = SimRng::seed_from_u64(rng.next_u64());
            tokio::spawn(async move { load.write_until_over(client, rng).await })
        })
        .collect()
}

/// Waits for the writers after the server is gone; fails if one of them saw a broken rule.
async fn end_writers(load: &Load, writers: Vec<JoinHandle<()>>) -> anyhow::Result<()> {
    // Not all are told by an error: who had no call under way is merely not connected any more.
    load.is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await?;
    }
    match load.violation.lock().take() {
        Some(violation) => Err(violation.into()),
        None => Ok(()),
    }
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_by_kill_9() -> anyhow::Result<()> {
    let seed = from_env("SEED").unwrap_or_else(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::from(now.subsec_nanos())
    });
    let kills = from_env("KILLS").unwrap_or(50);
    eprintln!("kill loop: SEED={seed}, {kills} kills");
    let mut rng = SimRng::seed_from_u64(seed);
    let folder = tempfile::tempdir()?;
    let mut server = Server::new(binary()?, folder.path())?;
    let load = Arc::new(Load {
        ledger: Mutex::default(),
        violation: Mutex::default(),
        told: Mutex::default(),
        next_value: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    });
    let since = Instant::now();
    let mut slowest_start = Duration::ZERO;

    let mut client = server.start().await?;
    for kill in 0..kills {
        let writers = start_writers(&load, &client, &mut rng);
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..600))).await;
        server.kill()?;
        let ended = end_writers(&load, writers).await;
        ended.with_context(|| format!("before kill {kill} (SEED={seed})"))?;
        let starting = Instant::now();
        client = server
            .start()
            .await
            .with_context(|| format!("after kill {kill} (SEED={seed})"))?;
        slowest_start = slowest_start.max(starting.elapsed());
        let verified = verify(&client, &load.ledger, false).await;
        verified
            .with_context(|| format!("after kill {kill} (SEED={seed})\n{}", server.log_tail()))?;
    }

    // A clean stop under load: it succeeds, and the folder opens again.
    let writers = start_writers(&load, &client, &mut rng);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let status = server.terminate().await?;
    anyhow::ensure!(
        status.success(),
        "SIGTERM under load ended with {status}:\n{}",
        server.log_tail()
    );
    end_writers(&load, writers)
        .await
        .context("before the SIGTERM")?;
    client = server.start().await.context("after the SIGTERM")?;
    verify(&client, &load.ledger, true)
        .await
        .context("after the SIGTERM")?;
    let status = server.terminate().await?;
    anyhow::ensure!(
        status.success(),
        "SIGTERM when idle ended with {status}:\n{}",
        server.log_tail()
    );

    let counts = load.ledger.lock().counts();
    eprintln!(
        "{kills} kills in {:.1?}, slowest start {slowest_start:.0?}: {} acknowledged writes, {} reads, {} unanswered operations of which \
         {} took effect, {} revisions; 0 lost",
        since.elapsed(),
        counts.acknowledged,
        counts.reads,
        counts.unknown,
        counts.late,
        counts.revisions,
    );
    anyhow::ensure!(
        counts.acknowledged > kills * 20,
        "the load was too small to mean anything"
    );
    Ok(())
}
