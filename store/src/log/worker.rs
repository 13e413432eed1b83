//! The thread that writes the log, and looks when it has become quiet.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::state::Shared;
use super::writing::Writing;

/// How long the log must be quiet before [`Worker::run`] marks what it synced.
pub(super) const QUIET: Duration = Duration::from_millis(100);

/// Writes what the [`Log`](super::Log) handles queue. Run it on a thread of its own with [`Worker::run`], or step
/// by step with [`Worker::run_once`].
pub struct Worker {
    shared: Arc<Shared>,
    writing: Arc<Mutex<Writing>>,
    quiet: Duration,
}

/// Why [`Worker::wake`] returned.
enum Wake {
    Queued,
    Quiet,
    Closed,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, writing: Arc<Mutex<Writing>>, quiet: Duration) -> Self {
        Self {
            shared,
            writing,
            quiet,
        }
    }

    /// Works until the log is closed and everything queued is written. A second thread makes segments ahead.
    ///
    /// When the disk has no space for the next segment, what is queued waits; [`Log::is_starved`](super::Log::is_starved)
    /// tells.
    pub fn run(mut self) {
        self.writing.lock().wait_for_space();
        let shared = Arc::clone(&self.shared);
        let keeper = std::thread::Builder::new()
            .name("wal-keeper".to_owned())
            .spawn(move || shared.run_keeper());
        loop {
            match self.wake() {
                Wake::Queued => {
                    self.run_once();
                }
                Wake::Quiet => self.mark(),
                Wake::Closed => break,
            }
        }
        self.mark();
        self.shared.keeper.stop();
        if let Ok(thread) = keeper {
            // It does nothing that could panic; and if it did, the log is complete without it.
            let _ = thread.join();
        }
    }

    /// Whether [`Worker::run_once`] would do anything now.
    pub fn has_work(&self) -> bool {
        !self.shared.state.lock().queue.is_empty()
    }

    /// Blocks until something is queued (`true`) or the log is closed with nothing left to write (`false`).
    pub fn wait(&self) -> bool {
        let mut state = self.shared.state.lock();
        while state.queue.is_empty() && !state.is_closed {
            state.is_worker_parked = true;
            self.shared.queued.wait(&mut state);
            state.is_worker_parked = false;
        }
        !state.queue.is_empty()
    }

    fn wake(&self) -> Wake {
        let mut state = self.shared.state.lock();
        loop {
            if !state.queue.is_empty() {
                return Wake::Queued;
            }
            if state.is_closed {
                return Wake::Closed;
            }
            if (state.is_unmarked || state.is_committed_queued) && state.failure.is_none() {
                let batches = state.batches;
                let waited = self.shared.queued.wait_for(&mut state, self.quiet);
                if waited.timed_out() && state.queue.is_empty() && state.batches == batches {
                    return Wake::Quiet;
                }
            } else {
                state.is_worker_parked = true;
                self.shared.queued.wait(&mut state);
                state.is_worker_parked = false;
            }
        }
    }

    /// Writes and syncs everything queued, runs the callbacks, and returns how many there were; 0 if nothing was
    /// queued. After a failure every callback gets the error.
    pub fn run_once(&mut self) -> usize {
        self.writing.lock().run_once()
    }

    /// Writes what has no sync of its own: the committed id, and a header that names everything before it as
    /// synced. From then on damage to it is told from a torn tail. Done when the log is quiet and when it is
    /// closed; does nothing when there is nothing to say, or after a failure.
    pub fn mark(&mut self) {
        self.writing.lock().mark();
    }
}
