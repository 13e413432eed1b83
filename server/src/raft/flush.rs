//! The flush worker: makes the state durable beside the apply worker, which must not wait for the disk.

use std::io;
use std::sync::Arc;

use store::mutant::{self, Mutant};
use store::{SnapshotName, StateEngine, StoreError, snapshot};
use tokio::sync::oneshot;

use super::Core;
use crate::exec::{Queue, Work};

type Named = oneshot::Sender<Result<Option<SnapshotName>, io::Error>>;

/// The way to the flush worker.
#[derive(Clone)]
pub struct Flushes {
    queue: Arc<Queue<Named>>,
}

impl Flushes {
    /// Flushes what is applied by now, and names what is durable then.
    pub(super) async fn flush(&self) -> Result<Option<SnapshotName>, io::Error> {
        let (done, named) = oneshot::channel();
        let ended = || io::Error::other("the flush worker ended");
        self.queue.push(done).map_err(|_| ended())?;
        named.await.unwrap_or_else(|_| Err(ended()))
    }

    /// No more flushes.
    pub fn close(&self) {
        self.queue.close();
    }
}

/// Flushes the engine when asked.
pub(super) struct FlushWorker {
    core: Arc<Core>,
    queue: Arc<Queue<Named>>,
}

impl FlushWorker {
    /// A worker and the way to it.
    pub(super) fn new(core: Arc<Core>) -> (Self, Flushes) {
        let queue = Queue::new();
        let worker = Self {
            core,
            queue: queue.clone(),
        };
        (worker, Flushes { queue })
    }

    fn flush(&self, engine: &dyn StateEngine) -> Result<Option<SnapshotName>, StoreError> {
        if mutant::is_on(Mutant::PurgeBeforeFlush) {
            return snapshot::current(engine);
        }
        engine.flush()?;
        snapshot::durable(engine)
    }
}

impl Work for FlushWorker {
    fn step(&mut self) -> bool {
        let asked = self.queue.take();
        let any = !asked.is_empty();
        for done in asked {
            let named = self.flush(&*self.core.engine);
            if let Err(error) = &named {
                self.core.stop_for_state("a flush of the state", error);
            }
            // A closed channel means that openraft stopped already.
            let _ = done.send(named.map_err(io::Error::other));
        }
        any
    }

    fn wait(&mut self) -> bool {
        self.queue.wait()
    }

    fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }
}
