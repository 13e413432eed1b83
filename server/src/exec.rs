//! How the node's own workers (log writer, apply, hub) are run: OS threads, or steps of a simulation.
//!
//! A worker never blocks inside a step on another worker's step, so that a simulation can run all of
//! them on one thread in any order.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

/// A worker that consumes a queue.
pub trait Work: Send {
    /// Does everything that is queued now. Returns whether there was anything to do.
    fn step(&mut self) -> bool;

    /// Blocks until there may be work; false once the queue is closed and empty.
    fn wait(&mut self) -> bool;

    /// Whether a step would do anything now.
    fn has_work(&self) -> bool;

    /// Works until the queue is closed, on a thread of its own.
    fn run(mut self: Box<Self>) {
        while self.step() || self.wait() {}
    }
}

/// Runs workers.
pub trait Exec: Send + Sync {
    /// Takes the worker over and runs it until its queue is closed.
    fn start(&self, name: &'static str, worker: Box<dyn Work>);

    /// Blocks until every worker has ended.
    fn join(&self);
}

/// One OS thread for each worker.
#[derive(Default)]
pub struct Threads {
    running: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Exec for Threads {
    fn start(&self, name: &'static str, worker: Box<dyn Work>) {
        let spawned = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || worker.run());
        match spawned {
            Ok(handle) => self.running.lock().push(handle),
            Err(error) => {
                // Without its workers a node can do nothing right.
                tracing::error!(%error, worker = name, "cannot start a thread; raise the thread limit of this process");
                std::process::exit(1);
            }
        }
    }

    fn join(&self) {
        let running = std::mem::take(&mut *self.running.lock());
        for handle in running {
            if handle.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

/// Time as the node sees it; the simulation brings its own.
pub trait Clock: Send + Sync {
    /// Monotonic time since some fixed point.
    fn now(&self) -> Duration;

    /// Milliseconds since 1970.
    fn wall_ms(&self) -> u64;
}

/// The machine's clock.
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A closable queue of which the consumer always takes everything: one wake-up for each batch.
pub struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

struct State<T> {
    items: Vec<T>,
    closed: bool,
}

impl<T> Queue<T> {
    /// An open, empty queue.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                items: Vec::new(),
                closed: false,
            }),
            ready: Condvar::new(),
        })
    }

    /// Adds an item; gives it back if the queue is closed.
    pub fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(item);
        }
        state.items.push(item);
        if state.items.len() == 1 {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Takes everything there is.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.state.lock().items)
    }

    /// Blocks until there is something; false once the queue is closed and empty.
    pub fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while state.items.is_empty() && !state.closed {
            self.ready.wait(&mut state);
        }
        !state.items.is_empty()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.state.lock().items.is_empty()
    }

    /// Adds a last item and closes the queue, so that nothing comes behind it; gives it back if the queue is closed.
    pub fn finish(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(item);
        }
        state.items.push(item);
        state.closed = true;
        self.ready.notify_all();
        Ok(())
    }

    /// Whether it takes nothing more.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// No more items are taken in; what is queued is still consumed.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_queue_is_drained_and_takes_nothing_more() {
        let queue = Queue::new();
        queue.push(1).unwrap();
        queue.close();
        assert_eq!(queue.push(2), Err(2));
        assert!(queue.wait());
        assert_eq!(queue.take(), [1]);
        assert!(!queue.wait());
    }
}
