//! The apply worker: the one writer of the state machine.
//!
//! For each batch, in this order: one engine batch, the view, the answers, the events to the hub.

use std::io;
use std::sync::Arc;

use store::leases::LeaseChange;
use store::log::{Log, LogError};
use store::mutant::{self, Mutant};
use store::snapshot::Received;
use store::{Entry, Machine, SnapshotName, StateEngine, StoreError};
use tokio::sync::oneshot;

use super::Core;
use crate::exec::{Queue, Work};
use crate::node::CallError;

type Done = oneshot::Sender<Result<(), io::Error>>;

/// Resolves when a job has ended.
pub(super) type Ended = oneshot::Receiver<Result<(), io::Error>>;

/// What the apply worker is asked to do.
pub enum Job {
    /// Apply committed entries.
    Apply {
        /// In log order.
        entries: Vec<Entry>,
        /// What they are to be synced in first, if that was left to the worker.
        log: Option<Log>,
        /// Told when they are applied.
        done: Done,
    },
    /// Flush the state to disk.
    Flush {
        /// Gets the name of what is durable then; none if nothing was ever applied.
        done: oneshot::Sender<Option<SnapshotName>>,
        /// Told when it ended.
        ended: Done,
    },
    /// Name what is durable already.
    Durable {
        /// Gets the name, if anything is.
        done: oneshot::Sender<Option<SnapshotName>>,
        /// Told when it ended.
        ended: Done,
    },
    /// Go over to another state.
    Install {
        /// Where the new state is.
        source: Source,
        /// Told when it is durable.
        done: Done,
    },
}

/// A state to go over to.
pub enum Source {
    /// One that arrived from another member.
    Received(Box<Received>),
    /// The items of an engine.
    Engine(Arc<dyn StateEngine>),
}

/// The way to the apply worker.
#[derive(Clone)]
pub struct Jobs {
    queue: Arc<Queue<Job>>,
}

impl Jobs {
    /// Asks for a job and waits for its end.
    pub(super) async fn run(&self, job: impl FnOnce(Done) -> Job) -> Result<(), io::Error> {
        Self::end_of(self.start(job)?).await
    }

    /// Asks for a job.
    pub(super) fn start(&self, job: impl FnOnce(Done) -> Job) -> Result<Ended, io::Error> {
        let (done, ended) = oneshot::channel();
        match self.queue.push(job(done)) {
            Ok(()) => Ok(ended),
            Err(_) => Err(io::Error::other("the apply worker ended")),
        }
    }

    /// Waits for the end of a job.
    pub(super) async fn end_of(ended: Ended) -> Result<(), io::Error> {
        ended
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the apply worker ended")))
    }

    /// Flushes the state, as the last thing before the node ends.
    pub(super) async fn flush(&self) {
        let (done, _name) = oneshot::channel();
        let (ended, end) = oneshot::channel();
        // Consensus has ended, but entries that it handed out may still be on their way: none may follow the flush.
        let result = match self.queue.finish(Job::Flush { done, ended }) {
            Ok(()) => end
                .await
                .unwrap_or_else(|_| Err(io::Error::other("the apply worker ended"))),
            Err(_) => Err(io::Error::other("the apply worker ended")),
        };
        if let Err(error) = result {
            tracing::warn!(%error, "the state was not flushed; the next start replays the log instead");
        }
    }

    /// No more jobs; the worker ends when it has done those it has.
    pub fn close(&self) {
        self.queue.close();
    }
}

/// Values loaded back into memory in one go after a start: a fraction of a millisecond, so that no write waits long.
const WARM_VALUES: usize = 128;

/// Owns the machine.
pub struct ApplyWorker {
    machine: Machine,
    core: Arc<Core>,
    queue: Arc<Queue<Job>>,
    /// The oldest readable revision, as the sweep was told.
    compacted: i64,
    /// Not all values that memory has room for are in memory yet.
    is_warming: bool,
}

impl ApplyWorker {
    /// A worker and the way to it.
    pub fn new(machine: Machine, core: Arc<Core>) -> (Self, Jobs) {
        let queue = Queue::new();
        (
            Self {
                machine,
                core,
                queue: queue.clone(),
                compacted: -1,
                is_warming: true,
            },
            Jobs { queue },
        )
    }

    /// Syncs what was left to this worker.
    fn sync(&self, log: Option<Log>, entries: &[Entry]) -> Result<(), LogError> {
        if let (Some(log), Some(last)) = (log, entries.last())
            && !mutant::is_on(Mutant::LeftUnsynced)
        {
            log.make_durable(last.id.index)?;
            self.core.committed_by_apply();
        }
        Ok(())
    }

    fn apply(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let outcome = self.machine.apply(entries)?;
        if !outcome.leases.is_empty() {
            let now = self.core.clock.now();
            self.core.lessor.changed(&outcome.leases, now);
            for change in &outcome.leases {
                match change {
                    LeaseChange::Granted { .. } => self.core.metrics.leases_granted.inc(),
                    LeaseChange::Ended { .. } => self.core.metrics.leases_revoked.inc(),
                    LeaseChange::Noted { .. } => {}
                }
            }
        }
        self.core
            .set_applied(self.machine.applied(), self.machine.membership());
        self.tell_sweep();
        self.core.answer(outcome.answers);
        if !outcome.changes.is_empty() {
            self.core.hub.publish(outcome.changes);
        }
        Ok(())
    }

    fn tell_sweep(&mut self) {
        let compacted = self.core.reader.view().compact_revision;
        if compacted != self.compacted {
            self.compacted = compacted;
            self.core.sweeps.compacted(compacted);
        }
    }

    /// Goes over to another state; on return it is durable and what everybody sees.
    ///
    /// Commands of this member that are in it get no answer here, so nobody waits for one any more: they may be done.
    fn install(&mut self, source: Source) -> Result<(), StoreError> {
        match source {
            Source::Received(received) => {
                let databases = self.core.databases.clone();
                databases.install(&mut self.machine, *received)?;
            }
            Source::Engine(engine) => self.machine.install(&*engine)?,
        }
        let revision = self.core.reader.view().revision;
        // No change sets come with it, so that watchers would wait for the next write.
        self.core.hub.jumped(revision);
        self.core
            .set_applied(self.machine.applied(), self.machine.membership());
        // Also if that is as far as before: the sweep of this database may not have come to its end.
        self.compacted = -1;
        self.tell_sweep();
        self.is_warming = true;
        let now = self.core.clock.now();
        self.core.give_up(now, &CallError::LeaderChanged);
        Ok(())
    }

    /// A fault of the state machine cannot be worked around: what it did not apply, it must not skip.
    fn ended(&self, done: Done, result: Result<(), StoreError>) {
        if let Err(error) = &result {
            self.core.stop_for_state("the state machine", error);
        }
        // A closed channel means that openraft stopped already.
        let _ = done.send(result.map_err(io::Error::other));
    }

    fn warm(&mut self) {
        match self.machine.warm(WARM_VALUES) {
            Ok(loaded) => self.is_warming = loaded > 0,
            Err(error) => {
                self.is_warming = false;
                self.core.stop_for_state("the state machine", &error);
            }
        }
    }

    fn run(&mut self, job: Job) {
        match job {
            Job::Apply { entries, log, done } => {
                if let Err(error) = self.sync(log, &entries) {
                    // Whoever wrote has stopped the node for it.
                    let _ = done.send(Err(io::Error::other(error)));
                    return;
                }
                let result = self.apply(&entries);
                self.ended(done, result);
            }
            Job::Flush { done, ended } => {
                let result = self.machine.flush().map(|name| drop(done.send(name)));
                self.ended(ended, result);
            }
            Job::Durable { done, ended } => {
                let result = self.machine.durable().map(|name| drop(done.send(name)));
                self.ended(ended, result);
            }
            Job::Install { source, done } => {
                let result = self.install(source);
                self.ended(done, result);
            }
        }
    }
}

impl Work for ApplyWorker {
    fn step(&mut self) -> bool {
        let jobs = self.queue.take();
        let any = !jobs.is_empty();
        for job in jobs {
            self.run(job);
        }
        if !any && self.is_warming && !self.queue.is_closed() {
            self.warm();
            return true;
        }
        any
    }

    fn wait(&mut self) -> bool {
        self.queue.wait()
    }

    fn has_work(&self) -> bool {
        !self.queue.is_empty() || (self.is_warming && !self.queue.is_closed())
    }
}
