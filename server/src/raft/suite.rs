//! openraft's own storage test suite, on each engine.

use std::sync::Arc;

use openraft::StorageError;
use openraft::impls::TokioRuntime;
use openraft::testing::log::{StoreBuilder, Suite};
use store::engine::memory::MemoryEngine;
use store::fs::RealFs;
use store::log::{Log, LogOptions};
use store::{Machine, Options, StateEngine};
use tempfile::TempDir;

use super::apply::{ApplyWorker, Jobs};
use super::core::Parts;
use super::driver::LogWork;
use super::flush::{FlushWorker, Flushes};
use super::{Core, LogStorage, StateMachine, Types};
use crate::exec::{Clock, Exec, SystemClock, Threads};
use crate::metrics::Metrics;
use crate::watch::{self, Hub, Identity};

/// What openraft's suite opens a fresh storage from.
struct Builder {
    engine: fn(&TempDir) -> Arc<dyn StateEngine>,
}

/// Ends the workers when a test of the suite is over, then removes the folder.
struct Guard {
    jobs: Jobs,
    flushes: Flushes,
    log: Log,
    exec: Threads,
    _folder: TempDir,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.jobs.close();
        self.flushes.close();
        self.log.close();
        self.exec.join();
    }
}

impl StoreBuilder<Types<TokioRuntime>, LogStorage, StateMachine, Guard> for Builder {
    async fn build(
        &self,
    ) -> Result<(Guard, LogStorage, StateMachine), StorageError<Types<TokioRuntime>>> {
        let folder = TempDir::new().expect("a temporary folder");
        let engine = (self.engine)(&folder);
        let wal = folder.path().join("wal");
        std::fs::create_dir(&wal).expect("a folder in the temporary folder");
        let options = LogOptions {
            segment_bytes: 1 << 16,
            ..LogOptions::new(1, 1)
        };
        let (log, worker, _) =
            Log::open(Arc::new(RealFs::new(wal)), options).expect("an empty folder opens");
        let machine = Machine::open(engine, Options::default()).expect("an empty engine opens");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let (hub, _, _) = Hub::new(
            machine.reader(),
            Identity::default(),
            watch::Options::default(),
            clock.clone(),
        );
        let core = Core::new(Parts {
            cluster_id: 1,
            member_id: 1,
            boot: 1,
            term: Arc::default(),
            clock,
            reader: machine.reader(),
            hub,
            databases: Arc::default(),
            metrics: Arc::new(Metrics::new(false)),
            admission: Arc::default(),
            applied: (machine.applied(), machine.membership().clone()),
            lease_grace: std::time::Duration::ZERO,
        });
        let (apply, jobs) = ApplyWorker::new(machine, core.clone());
        let (flush, flushes) = FlushWorker::new(core.clone());
        let exec = Threads::default();
        exec.start("wal", Box::new(LogWork(worker)));
        exec.start("apply", Box::new(apply));
        exec.start("flush", Box::new(flush));
        // The suite applies entries that it never logged, so apply does not wait for the log.
        let state_machine = StateMachine::new(core, jobs.clone(), flushes.clone(), None);
        let log_storage = LogStorage::new(log.clone(), None);
        Ok((
            Guard {
                jobs,
                flushes,
                log,
                exec,
                _folder: folder,
            },
            log_storage,
            state_machine,
        ))
    }
}

async fn passes(engine: fn(&TempDir) -> Arc<dyn StateEngine>) {
    Suite::test_all(Builder { engine })
        .await
        .expect("openraft's storage suite passes");
}

#[tokio::test]
async fn openrafts_suite_passes_on_the_memory_engine() {
    passes(|_| Arc::new(MemoryEngine::new())).await;
}

#[cfg(feature = "rocksdb")]
#[tokio::test]
async fn openrafts_suite_passes_on_rocksdb() {
    use store::engine::rocks::{RocksEngine, RocksOptions};
    passes(|folder| {
        let database = folder.path().join("db");
        Arc::new(
            RocksEngine::open(&database, &RocksOptions::default()).expect("an empty folder opens"),
        )
    })
    .await;
}
