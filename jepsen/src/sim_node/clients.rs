//! The load of simulated nodes: clients that fight over few keys, compaction, flushes at any time.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft_rt::AsyncRuntime;
use parking_lot::Mutex;
use proto::command::command::Op;
use proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    ResponseHeader, TxnRequest,
};
use rand::RngExt;
use server::node::{Call, CallError, Node};
use store::engine::memory::MemoryEngine;
use store::{Answer, Reader, Record, Refusal};

use crate::ledger::{Change, Ledger, Operation, OperationId, Outcome, Version, Violation};
use crate::sim::{SimRng, Simulation};

/// Keys that they share.
const KEYS: u32 = 12;
/// How long a compaction may take. Longer than any life: an answer in time is part of what is checked.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// What the clients of all lives know together.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) violation: Mutex<Option<Violation>>,
    pub(crate) compacted: Mutex<i64>,
    pub(crate) is_over: Mutex<bool>,
    next_value: Mutex<u64>,
    /// The modification revision of each key that was told last; may be old.
    told: Mutex<BTreeMap<Bytes, i64>>,
}

impl Shared {
    pub(crate) fn fail(&self, violation: Violation) {
        self.violation.lock().get_or_insert(violation);
    }

    fn value(&self, rng: &mut SimRng) -> Bytes {
        let number = {
            let mut next = self.next_value.lock();
            *next += 1;
            *next
        };
        // Mostly within a sector, sometimes over several, so that a torn write has something to tear.
        let padding = match rng.random_range(0..20) {
            0 => rng.random_range(0..6_000),
            1..5 => rng.random_range(0..600),
            _ => rng.random_range(0..60),
        };
        format!("{number}-{}", "x".repeat(padding)).into()
    }

    fn operation(&self, rng: &mut SimRng) -> Operation {
        let key = key(rng);
        match rng.random_range(0..100) {
            0..40 => Operation::Put {
                key,
                value: self.value(rng),
            },
            40..60 => {
                let expected = self.told.lock().get(&key).copied().unwrap_or(0);
                Operation::Update {
                    key,
                    value: self.value(rng),
                    expected,
                }
            }
            60..70 => Operation::Delete { key },
            70..80 => {
                let mut puts = BTreeMap::new();
                for _ in 0..rng.random_range(1..4) {
                    puts.insert(self::key(rng), self.value(rng));
                }
                let deletes = if puts.contains_key(&key) {
                    Vec::new()
                } else {
                    vec![key]
                };
                Operation::Several {
                    puts: puts.into_iter().collect(),
                    deletes,
                }
            }
            _ => Operation::Get { key },
        }
    }

    /// Whether clients are to call no more.
    pub(crate) fn is_over(&self) -> bool {
        *self.is_over.lock()
    }

    fn remember(&self, operation: &Operation, outcome: &Outcome) {
        let (key, told) = match (operation, outcome) {
            (Operation::Get { key }, Outcome::Read { found, .. }) => {
                (key, found.as_ref().map_or(0, |found| found.mod_revision))
            }
            (Operation::Delete { key }, Outcome::Written { .. }) => (key, 0),
            (
                Operation::Put { key, .. } | Operation::Update { key, .. },
                Outcome::Written {
                    revision,
                    is_changed: true,
                },
            ) => (key, *revision),
            _ => return,
        };
        self.told.lock().insert(key.clone(), told);
    }

    fn end(&self, id: OperationId, operation: &Operation, outcome: Outcome) {
        self.remember(operation, &outcome);
        if let Err(violation) = self.ledger.lock().end(id, outcome) {
            self.fail(violation);
        }
    }
}

fn key(rng: &mut SimRng) -> Bytes {
    format!("key/{:02}", rng.random_range(0..KEYS)).into()
}

/// One client: one call at a time, for as long as the node lives. It never tries again.
pub(crate) struct Client {
    pub(crate) node: Node,
    pub(crate) shared: Arc<Shared>,
    /// The newest revision that this member showed to anybody, in any of its lives.
    pub(crate) shown: Arc<AtomicI64>,
    /// How long a call may take.
    pub(crate) timeout: Duration,
    /// How long it thinks between two calls at most: a power of two in microseconds, drawn from these.
    pub(crate) pause: RangeInclusive<u32>,
    /// It waits for each answer. Others leave some calls, as one does whose connection breaks.
    pub(crate) is_patient: bool,
}

impl Client {
    pub(crate) async fn run(self) {
        let mut rng = Simulation::thread_rng();
        // Some clients are busy, some are slow: both a full and an empty proposer queue are met.
        let pause = 1_u64 << rng.random_range(self.pause.clone());
        while !self.shared.is_over() {
            Simulation::sleep(Duration::from_micros(rng.random_range(0..pause))).await;
            let operation = self.shared.operation(&mut rng);
            let is_local = matches!(operation, Operation::Get { .. }) && rng.random_ratio(1, 4);
            let call = self.call(operation, is_local);
            let answered = if self.is_patient || rng.random_ratio(19, 20) {
                call.await
            } else {
                let patience = Duration::from_micros(1 << rng.random_range(6..18));
                Simulation::timeout(patience, call).await.unwrap_or(None)
            };
            if answered.is_none() {
                // A node that stops says so for ever: wait for its end.
                Simulation::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// One call, whose answer goes to the ledger. Whether it was done; nothing if that is not known.
    pub(crate) async fn call(&self, operation: Operation, is_local: bool) -> Option<bool> {
        let shared = &self.shared;
        if is_local {
            // Serializable: as old as it may be, but never older than what this member showed before.
            let shown = self.shown.load(Ordering::Relaxed);
            let id = shared.ledger.lock().begin_from(operation.clone(), shown);
            if let Operation::Get { key } = &operation
                && let Ok(outcome) = look(&self.node, key)
            {
                self.answered(id, &operation, outcome);
            }
            return Some(true);
        }
        let id = shared.ledger.lock().begin(operation.clone());
        match run(&self.node, &operation, self.timeout).await {
            Ok(outcome) => {
                self.answered(id, &operation, outcome);
                Some(true)
            }
            Err(
                CallError::Refused(_)
                | CallError::TooManyRequests
                | CallError::TooLarge
                | CallError::NoSpace
                | CallError::NoLeader,
            ) => {
                shared.end(id, &operation, Outcome::Refused);
                Some(false)
            }
            // May or may not happen.
            Err(
                CallError::LeaderChanged
                | CallError::Stopped
                | CallError::Timeout
                | CallError::Store(_),
            ) => None,
        }
    }

    fn answered(&self, id: OperationId, operation: &Operation, outcome: Outcome) {
        if let Outcome::Written { revision, .. } | Outcome::Read { revision, .. } = outcome {
            self.shown.fetch_max(revision, Ordering::Relaxed);
        }
        self.shared.end(id, operation, outcome);
    }
}

async fn run(node: &Node, operation: &Operation, timeout: Duration) -> Result<Outcome, CallError> {
    let op = match operation {
        Operation::Put { key, value } => Op::Put(put(key, value)),
        Operation::Delete { key } => Op::DeleteRange(delete(key)),
        Operation::Update {
            key,
            value,
            expected,
        } => Op::Txn(TxnRequest {
            compare: vec![Compare {
                result: CompareResult::Equal.into(),
                target: CompareTarget::Mod.into(),
                key: key.clone(),
                target_union: Some(TargetUnion::ModRevision(*expected)),
                ..Compare::default()
            }],
            success: vec![request(Request::RequestPut(put(key, value)))],
            failure: Vec::new(),
        }),
        Operation::Several { puts, deletes } => {
            let puts = puts
                .iter()
                .map(|(key, value)| Request::RequestPut(put(key, value)));
            let deletes = deletes
                .iter()
                .map(|key| Request::RequestDeleteRange(delete(key)));
            Op::Txn(TxnRequest {
                success: puts.chain(deletes).map(request).collect(),
                ..TxnRequest::default()
            })
        }
        Operation::Get { key } => return read(node, key, timeout).await,
    };
    let answer = node.propose(&Call::new(timeout), op).await?;
    let revision = |header: Option<ResponseHeader>| header.map_or(0, |header| header.revision);
    Ok(match answer {
        Answer::Put(put) => Outcome::Written {
            revision: revision(put.header),
            is_changed: true,
        },
        Answer::DeleteRange(deleted) => Outcome::Written {
            revision: revision(deleted.header),
            is_changed: deleted.deleted > 0,
        },
        Answer::Txn(txn) => Outcome::Written {
            revision: revision(txn.header),
            is_changed: txn.succeeded,
        },
        Answer::Compact(_)
        | Answer::Alarm(_)
        | Answer::Members(_)
        | Answer::LeaseGrant(_)
        | Answer::LeaseRevoke(_)
        | Answer::LeaseCheckpoints => Outcome::Refused,
    })
}

fn put(key: &Bytes, value: &Bytes) -> PutRequest {
    PutRequest {
        key: key.clone(),
        value: value.clone(),
        ..PutRequest::default()
    }
}

fn delete(key: &Bytes) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.clone(),
        ..DeleteRangeRequest::default()
    }
}

fn request(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

async fn read(node: &Node, key: &Bytes, timeout: Duration) -> Result<Outcome, CallError> {
    node.read_barrier(&Call::new(timeout)).await?;
    look(node, key)
}

fn look(node: &Node, key: &Bytes) -> Result<Outcome, CallError> {
    let view = node.reader().view();
    let request = RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    };
    let found = node.reader().range(&view, &request);
    let found = found.map_err(|error| CallError::Store(error.to_string().into()))??;
    Ok(Outcome::Read {
        revision: view.revision,
        found: found.records.first().map(version_of),
    })
}

pub(crate) fn version_of(record: &Record) -> Version {
    Version {
        value: Bytes::copy_from_slice(record.value()),
        create_revision: record.create_revision(),
        mod_revision: record.mod_revision(),
        version: record.version(),
    }
}

/// Now and then gives up the past, as far as it was observed.
pub(crate) async fn compactor(node: Node, shared: Arc<Shared>, often: Duration) {
    let mut rng = Simulation::thread_rng();
    let often = u64::try_from(often.as_millis()).unwrap_or(u64::MAX);
    while !shared.is_over() {
        Simulation::sleep(Duration::from_millis(rng.random_range(1..=often))).await;
        if let Err(violation) = observe(node.reader(), &shared) {
            return shared.fail(violation);
        }
        let (low, high) = (*shared.compacted.lock(), shared.ledger.lock().revision());
        if low >= high {
            continue;
        }
        let revision = rng.random_range(low + 1..=high);
        let op = Op::Compact(CompactionRequest {
            revision,
            physical: false,
        });
        match node.propose(&Call::new(TIMEOUT), op).await {
            Ok(_) => {
                let mut compacted = shared.compacted.lock();
                *compacted = revision.max(*compacted);
            }
            // An unanswered compaction of an earlier life may have gone further.
            Err(CallError::Refused(Refusal::Compacted { compacted, .. })) => {
                *shared.compacted.lock() = compacted;
            }
            Err(CallError::Refused(refusal)) => {
                let text = format!("compaction at {revision}, which was visible: {refusal}");
                return shared.fail(Violation(text));
            }
            Err(_) => Simulation::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// The engine writes its memory to disk when it likes, not only when it is told to.
pub(crate) async fn flusher(node: Node) {
    let mut rng = Simulation::thread_rng();
    // In some lives all the time, in some never: then only what the node flushes by itself is there after a crash.
    let longest = 1_u64 << rng.random_range(8..24);
    loop {
        Simulation::sleep(Duration::from_micros(rng.random_range(100..=longest))).await;
        // A failure is the node's to notice, on its next write.
        node.engine().flush().ok();
    }
}

/// The engine rewrites its files when it likes, some of them at a time, and drops what it may.
pub(crate) async fn rewriter(engine: Arc<MemoryEngine>) {
    let mut rng = Simulation::thread_rng();
    loop {
        Simulation::sleep(Duration::from_micros(rng.random_range(100..50_000))).await;
        let share = rng.random_range(0.2..1.0);
        engine.compact(&mut |_| rng.random_bool(share));
    }
}

/// Shows the ledger what became visible since it looked last.
pub(crate) fn observe(reader: &Reader, shared: &Shared) -> Result<(), Violation> {
    let after = shared.ledger.lock().revision();
    observe_after(reader, shared, after)
}

/// Shows the ledger all changes after a revision.
pub(crate) fn observe_after(reader: &Reader, shared: &Shared, after: i64) -> Result<(), Violation> {
    let view = reader.view();
    let mut after = after;
    while after < view.revision {
        let history = reader
            .history(&view, after, view.revision, usize::MAX, &mut |_| true)
            .map_err(|error| Violation(format!("the history cannot be read: {error}")))?
            .map_err(|refusal| Violation(format!("the history after {after}: {refusal}")))?;
        let mut ledger = shared.ledger.lock();
        for set in &history.sets {
            let mut changes: Vec<Change> = set
                .changes
                .iter()
                .map(|change| Change {
                    key: Bytes::copy_from_slice(change.record.key()),
                    version: (!change.is_delete).then(|| version_of(&change.record)),
                })
                .collect();
            changes.sort_by(|a, b| a.key.cmp(&b.key));
            ledger.observe(set.revision, changes)?;
        }
        if history.up_to <= after {
            return Err(Violation(format!("the history stands still after {after}")));
        }
        after = history.up_to;
    }
    Ok(())
}

/// Reads everything, and some of the past, and compares.
pub(crate) fn compare(reader: &Reader, shared: &Shared, rng: &mut SimRng) -> Result<(), Violation> {
    let view = reader.view();
    let mut ledger = shared.ledger.lock();
    ledger.check()?;
    let range = |request: &RangeRequest| {
        reader
            .range(&view, request)
            .map_err(|error| Violation(format!("{request:?} cannot be read: {error}")))?
            .map_err(|refusal| Violation(format!("{request:?} was refused: {refusal}")))
    };
    let all = range(&RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..RangeRequest::default()
    })?;
    let found: BTreeMap<Bytes, Version> = all
        .records
        .iter()
        .map(|record| (Bytes::copy_from_slice(record.key()), version_of(record)))
        .collect();
    let expected = ledger.live();
    if found != expected {
        let text = format!("the state is {found:?}; by the history it is {expected:?}");
        return Err(Violation(text));
    }
    for _ in 0..4 {
        let oldest = view.compact_revision.max(1);
        let revision = rng.random_range(oldest..=view.revision);
        let key = key(rng);
        let found = range(&RangeRequest {
            key: key.clone(),
            revision,
            ..RangeRequest::default()
        })?;
        let found = found.records.first().map(version_of);
        let expected = ledger.at(&key, revision);
        if found.as_ref() != expected {
            let text =
                format!("{key:?} at revision {revision} is {found:?}; by the history {expected:?}");
            return Err(Violation(text));
        }
    }
    Ok(())
}
