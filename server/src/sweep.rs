//! The sweep worker: what a compaction gave up goes from the disk, beside everything else and without haste.
//!
//! A compaction counts at once; then, in this order, the state that says so is flushed, the horizon moves, and the
//! store's sweep goes forward in small steps with pauses between them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use store::{StoreError, Sweep};
use tokio::sync::oneshot;

use crate::exec::Work;
use crate::node::CallError;
use crate::raft::Core;

/// Flushes for the sake of compactions alone follow each other no sooner, unless somebody waits for one.
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);
/// How soon the horizon is looked at again that a running read holds back.
const HELD_INTERVAL: Duration = Duration::from_secs(1);

/// How fast a sweep may be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Changes that one step looks at.
    pub batch_limit: usize,
    /// The pause between two steps.
    pub pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch_limit: 1000,
            pause: Duration::from_millis(10),
        }
    }
}

/// The way to the sweep worker. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sweeps {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    ready: Condvar,
    horizon: AtomicI64,
    swept: AtomicI64,
}

#[derive(Default)]
struct Inbox {
    /// The newest compaction that was applied.
    compacted: i64,
    waiting: Vec<Waiting>,
    has_news: bool,
    is_closed: bool,
}

/// Somebody who waits until everything before a revision is removed.
struct Waiting {
    revision: i64,
    until: Option<Duration>,
    done: oneshot::Sender<Result<(), CallError>>,
}

impl Sweeps {
    /// Told of the oldest readable revision whenever it has moved.
    pub(crate) fn compacted(&self, revision: i64) {
        let mut inbox = self.shared.inbox.lock();
        inbox.compacted = revision;
        inbox.has_news = true;
        self.shared.ready.notify_one();
    }

    /// Returns once this member has removed what a compaction to `revision` gave up, durably. What running reads
    /// still need is removed when they end, and not waited for.
    pub(crate) fn wait_for(
        &self,
        revision: i64,
        until: Option<Duration>,
    ) -> impl Future<Output = Result<(), CallError>> + use<> {
        let (done, swept) = oneshot::channel();
        {
            let mut inbox = self.shared.inbox.lock();
            if !inbox.is_closed {
                inbox.waiting.push(Waiting {
                    revision,
                    until,
                    done,
                });
                inbox.has_news = true;
                self.shared.ready.notify_one();
            }
        }
        async move { swept.await.unwrap_or(Err(CallError::Stopped)) }
    }

    /// The revision before which the engine may drop superseded versions.
    pub fn horizon(&self) -> i64 {
        self.shared.horizon.load(Ordering::Relaxed)
    }

    /// The revision before which everything is removed.
    pub fn swept(&self) -> i64 {
        self.shared.swept.load(Ordering::Relaxed)
    }

    /// Ends the worker; who waits gets an error.
    pub(crate) fn close(&self) {
        let mut inbox = self.shared.inbox.lock();
        inbox.is_closed = true;
        inbox.waiting.clear();
        self.shared.ready.notify_all();
    }
}

/// Flushes, moves the horizon and sweeps.
pub(crate) struct SweepWorker {
    core: Arc<Core>,
    shared: Arc<Shared>,
    sweep: Sweep,
    options: Options,
    compacted: i64,
    waiting: Vec<Waiting>,
    /// When there is something to do even without news.
    due: Option<Duration>,
    /// When the state was flushed last for a compaction.
    flushed: Option<Duration>,
    /// Something was removed that is not durable yet.
    is_dirty: bool,
    /// When the sweep that is under way began.
    began: Option<Duration>,
}

impl SweepWorker {
    /// A worker that first looks whether an earlier sweep was not finished.
    pub(crate) fn new(core: Arc<Core>, options: Options) -> Self {
        Self {
            shared: core.sweeps.shared.clone(),
            sweep: Sweep::new(core.reader.clone()),
            compacted: core.reader.view().compact_revision,
            core,
            options,
            waiting: Vec::new(),
            due: Some(Duration::ZERO),
            flushed: None,
            is_dirty: false,
            began: None,
        }
    }

    fn take_news(&mut self) -> bool {
        let mut inbox = self.shared.inbox.lock();
        self.compacted = self.compacted.max(inbox.compacted);
        self.waiting.append(&mut inbox.waiting);
        std::mem::take(&mut inbox.has_news)
    }

    /// Ends the waits of those whose time is up, and forgets those who left.
    fn expire(&mut self, now: Duration) {
        let is_late = |waiting: &mut Waiting| waiting.until.is_some_and(|until| until <= now);
        for late in self.waiting.extract_if(.., is_late) {
            // Whoever left needs no answer.
            let _ = late.done.send(Err(CallError::Timeout));
        }
        self.waiting.retain(|waiting| !waiting.done.is_closed());
    }

    /// Goes one step forward; answers when the next one is due without news.
    fn advance(&mut self, now: Duration) -> Result<Option<Duration>, StoreError> {
        let durable = self.sweep.durable_revision()?;
        let mut due = None;
        if durable < self.compacted {
            let is_awaited = self
                .waiting
                .iter()
                .any(|waiting| waiting.revision > durable);
            let next = self.flushed.map_or(now, |flushed| flushed + FLUSH_INTERVAL);
            if is_awaited || next <= now {
                self.flush()?;
                return Ok(Some(now));
            }
            due = Some(next);
        }
        let horizon = self.sweep.raise_horizon()?;
        self.shared.horizon.store(horizon, Ordering::Relaxed);
        if !self.step(now)? {
            return Ok(Some(now + self.options.pause));
        }
        self.shared
            .swept
            .store(self.sweep.cleared()?, Ordering::Relaxed);
        let is_served = |waiting: &mut Waiting| waiting.revision <= durable;
        if self.is_dirty && self.waiting.iter_mut().any(is_served) {
            self.flush()?;
        }
        for served in self.waiting.extract_if(.., is_served) {
            // Whoever left needs no answer.
            let _ = served.done.send(Ok(()));
        }
        if horizon < durable {
            let next = now + HELD_INTERVAL;
            due = Some(due.map_or(next, |due| due.min(next)));
        }
        Ok(due)
    }

    /// One step of the sweep; answers whether it has come to its end.
    fn step(&mut self, now: Duration) -> Result<bool, StoreError> {
        let metrics = self.core.metrics.clone();
        let swept = self.sweep.step(self.options.batch_limit)?;
        if swept
            == (store::Swept {
                is_done: true,
                ..store::Swept::default()
            })
        {
            return Ok(true);
        }
        self.is_dirty = true;
        let ended = self.core.clock.now();
        metrics.compaction_swept(swept.removed, ended.saturating_sub(now));
        let began = *self.began.get_or_insert(now);
        if swept.is_done {
            self.began = None;
            metrics.compaction_ended(ended.saturating_sub(began), self.core.clock.wall_ms());
        }
        Ok(swept.is_done)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.core.engine.flush()?;
        self.flushed = Some(self.core.clock.now());
        self.is_dirty = false;
        Ok(())
    }

    /// The earliest time at which there is something to do.
    fn next(&self) -> Option<Duration> {
        let ends = self.waiting.iter().filter_map(|waiting| waiting.until);
        ends.chain(self.due).min()
    }
}

impl Work for SweepWorker {
    fn step(&mut self) -> bool {
        if self.shared.inbox.lock().is_closed {
            self.waiting.clear();
            return false;
        }
        let has_news = self.take_news();
        let now = self.core.clock.now();
        self.expire(now);
        // The pause between two steps is kept whatever the news.
        let is_due = match self.due {
            Some(due) => due <= now || (has_news && self.began.is_none()),
            None => has_news,
        };
        if is_due {
            match self.advance(now) {
                Ok(due) => self.due = due,
                // The node stops: whoever waited for space does not wait any longer.
                Err(_) if self.shared.inbox.lock().is_closed => {}
                Err(error) => {
                    self.due = None;
                    self.core.stop_for_state("compaction", &error);
                }
            }
        }
        has_news || is_due
    }

    fn wait(&mut self) -> bool {
        let next = self.next();
        let mut inbox = self.shared.inbox.lock();
        loop {
            if inbox.is_closed {
                return false;
            }
            if inbox.has_news {
                return true;
            }
            let Some(next) = next else {
                self.shared.ready.wait(&mut inbox);
                continue;
            };
            let left = next.saturating_sub(self.core.clock.now());
            if left.is_zero() {
                return true;
            }
            self.shared.ready.wait_for(&mut inbox, left);
        }
    }

    fn has_work(&self) -> bool {
        let inbox = self.shared.inbox.lock();
        if inbox.is_closed {
            return false;
        }
        inbox.has_news
            || self
                .next()
                .is_some_and(|next| next <= self.core.clock.now())
    }
}
