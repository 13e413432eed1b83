//! What everything in a run shares: the clock, the members' addresses and lives, and what has been recorded so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connection::Connection;
use super::history::{History, Operation, Outcome, Status};
use super::model::Op;

/// Shared by clients, watchers, the observer and the one who breaks things.
#[derive(Debug)]
pub(crate) struct World {
    start: Instant,
    /// Where clients reach each member.
    pub(crate) endpoints: Vec<String>,
    /// How often each member's process was started.
    pub(crate) lives: Vec<Arc<AtomicU64>>,
    /// Of the running ones, by place: whether the member is part of the cluster now.
    pub(crate) members: Vec<AtomicBool>,
    pub(crate) timeout: Duration,
    pub(crate) history: Mutex<History>,
    pub(crate) counts: Counts,
    next_process: AtomicU64,
    next_value: AtomicU64,
    is_over: AtomicBool,
    /// What is broken now, for the live line.
    pub(crate) broken: Mutex<String>,
    latest: Mutex<Vec<Option<Status>>>,
    /// How far the recorder of each member is: it has everything up to that revision.
    pub(crate) recorders: Vec<Arc<AtomicI64>>,
    /// How far others are who stay until the end.
    pub(crate) staying: Mutex<Vec<Arc<AtomicI64>>>,
    /// Held while the past is taken away, and by those who need it for a moment.
    pub(crate) compaction: tokio::sync::Mutex<()>,
    newest: AtomicI64,
    compacted: AtomicI64,
}

/// What happened so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) ok: AtomicU64,
    pub(crate) definite: AtomicU64,
    pub(crate) indefinite: AtomicU64,
}

impl World {
    /// `members` of the addresses are in use from the start; the rest are spare.
    pub(crate) fn new(endpoints: Vec<String>, members: usize, timeout: Duration) -> Arc<World> {
        let count = endpoints.len();
        Arc::new(World {
            start: Instant::now(),
            endpoints,
            lives: (0..count).map(|_| Arc::default()).collect(),
            members: (0..count)
                .map(|node| AtomicBool::new(node < members))
                .collect(),
            timeout,
            history: Mutex::default(),
            counts: Counts::default(),
            next_process: AtomicU64::new(0),
            next_value: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            broken: Mutex::default(),
            latest: Mutex::new(vec![None; count]),
            recorders: (0..count).map(|_| Arc::default()).collect(),
            staying: Mutex::default(),
            compaction: tokio::sync::Mutex::default(),
            newest: AtomicI64::new(1),
            compacted: AtomicI64::new(0),
        })
    }

    /// The newest revision that anybody was told.
    pub(crate) fn newest(&self) -> i64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// Somebody was told of a revision.
    pub(crate) fn heard(&self, revision: i64) {
        self.newest.fetch_max(revision, Ordering::Relaxed);
    }

    /// Where the past may end by now; 0 if nobody has touched it.
    pub(crate) fn compacted(&self) -> i64 {
        self.compacted.load(Ordering::Relaxed)
    }

    /// Somebody is about to take the past below a revision away.
    pub(crate) fn compacting(&self, revision: i64) {
        self.compacted.fetch_max(revision, Ordering::Relaxed);
    }

    /// Nanoseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// A name that nobody has had.
    pub(crate) fn new_process(&self) -> u64 {
        self.next_process.fetch_add(1, Ordering::Relaxed)
    }

    /// A number that no value has had.
    pub(crate) fn unique(&self) -> u64 {
        self.next_value.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn life(&self, node: usize) -> u64 {
        self.lives[node].load(Ordering::SeqCst)
    }

    /// Places of the members that belong to the cluster now.
    pub(crate) fn members(&self) -> Vec<usize> {
        let is_in = |node: &usize| self.members[*node].load(Ordering::SeqCst);
        (0..self.members.len()).filter(is_in).collect()
    }

    /// Asks clients to end after the operation they are at.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Asks once and records what came of it.
    pub(crate) async fn ask(
        &self,
        connection: &mut Connection,
        process: u64,
        node: usize,
        op: Op,
    ) -> Operation {
        let life = self.life(node);
        let invoke = self.now();
        let answer = connection.call(&op).await;
        let mut operation = Operation {
            process,
            node,
            life: (life, self.life(node)),
            invoke,
            returned: self.now(),
            op,
            outcome: Outcome::Ok,
            revision: 0,
            term: 0,
            body: None,
            error: None,
        };
        match answer {
            Ok(answer) => {
                operation.revision = answer.revision;
                self.heard(answer.revision);
                operation.term = answer.term;
                operation.body = Some(answer.body);
                self.counts.ok.fetch_add(1, Ordering::Relaxed);
            }
            Err(failure) => {
                operation.outcome = failure.outcome;
                operation.error = Some(failure.error);
                let count = match failure.outcome {
                    Outcome::Definite => &self.counts.definite,
                    _ => &self.counts.indefinite,
                };
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.history.lock().operations.push(operation.clone());
        operation
    }

    pub(crate) fn observe(&self, status: Status) {
        self.history.lock().statuses.push(status);
        self.latest.lock()[status.node] = Some(status);
    }

    /// Who led by the latest news, which may be old.
    pub(crate) fn rumoured_leader(&self) -> Option<(usize, u64)> {
        let latest = self.latest.lock();
        let leads = latest.iter().flatten().filter(|status| status.leads());
        let newest = leads.max_by_key(|status| (status.term, status.time));
        newest.map(|status| (status.node, status.term))
    }
}
