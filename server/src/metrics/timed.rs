//! Clocks around the disk: the store reads none, so the server times what it does from outside.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use store::StoreError;
use store::engine::{Batch, Family, StateEngine, Verified, VerifyFrom, Visitor};
use store::fs::{self, WalFs};
use store::snapshot::Checkpoint;
use tokio::sync::oneshot;

use super::Metrics;
use crate::disk_space::DiskSpace;

/// RocksDB looks for space every five seconds; it gets three looks.
const RECOVERY: Duration = Duration::from_secs(16);

/// A log folder whose syncs are timed.
pub fn timed_log(folder: Arc<dyn WalFs>, metrics: Arc<Metrics>) -> Arc<dyn WalFs> {
    let around = move |sync: &mut dyn FnMut() -> io::Result<()>| {
        let timer = metrics.wal_fsync.start_timer();
        let result = sync();
        timer.observe_duration();
        result
    };
    fs::observed(folder, Arc::new(around))
}

/// A state engine whose writes are timed, and wait for space on a full disk.
pub struct TimedEngine<E> {
    engine: E,
    metrics: Arc<Metrics>,
    space: Arc<DiskSpace>,
    recovery: Duration,
    /// Behind `engine`, so that they are dropped when that is closed.
    _open: (oneshot::Sender<Infallible>, AnyOpen),
}

/// Resolves, with an error, when an engine is closed: the last thread that used it has let go of it.
pub type Closed = oneshot::Receiver<Infallible>;

/// Held by each of the engines that a node has one after the other.
#[derive(Clone)]
pub struct AnyOpen {
    _open: Arc<oneshot::Sender<Infallible>>,
}

impl AnyOpen {
    /// What to give to each engine, and what resolves when the last one that got it is closed.
    pub fn new() -> (Self, Closed) {
        let (open, closed) = oneshot::channel();
        let _open = Arc::new(open);
        (Self { _open }, closed)
    }
}

impl<E> TimedEngine<E> {
    /// Times the writes of `engine`; `space` says how long to wait for space.
    pub fn new(
        engine: E,
        metrics: Arc<Metrics>,
        space: Arc<DiskSpace>,
        any: AnyOpen,
    ) -> (Self, Closed) {
        let (open, closed) = oneshot::channel();
        let engine = Self {
            engine,
            metrics,
            space,
            recovery: RECOVERY,
            _open: (open, any),
        };
        (engine, closed)
    }
}

impl<E: StateEngine> TimedEngine<E> {
    /// Waits out a full disk: an engine that found no space has changed nothing, while to give up would end the node.
    ///
    /// But RocksDB may fail to notice that there is space again. Then a new start is what helps, and loses nothing.
    fn patiently(&self, attempt: impl Fn() -> Result<(), StoreError>) -> Result<(), StoreError> {
        let (mut met, mut roomy_since) = (None, None);
        loop {
            let error = match attempt() {
                Err(error @ StoreError::OutOfSpace { .. }) => error,
                result => return result,
            };
            if !met.get_or_insert_with(|| self.space.meet()).wait() {
                return Err(error);
            }
            if !self.space.has_room() {
                roomy_since = None;
                continue;
            }
            if roomy_since.get_or_insert_with(Instant::now).elapsed() > self.recovery {
                tracing::error!(
                    "there is space on the disk again, but the database does not recover from having had none: the \
                     node stops; start it again, nothing is lost"
                );
                return Err(error);
            }
        }
    }
}

impl<E: StateEngine> StateEngine for TimedEngine<E> {
    fn get(
        &self,
        family: Family,
        key: &[u8],
        found: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StoreError> {
        self.engine.get(family, key, found)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        self.engine.scan(family, from, to, visit)
    }

    fn scan_once(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        self.engine.scan_once(family, from, to, visit)
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let timer = self.metrics.backend_commit.start_timer();
        let result = self.patiently(|| self.engine.write(batch));
        timer.observe_duration();
        result
    }

    fn flush(&self) -> Result<(), StoreError> {
        let is_again = Cell::new(false);
        self.patiently(|| {
            // A flush that RocksDB refuses occupies its thread for a second, and its recovery waits until that thread
            // is idle: who asks again and again keeps it from ever recovering. A write of nothing costs nothing, and
            // is refused just as long.
            if is_again.replace(true) {
                self.engine.write(&Batch::default())?;
            }
            self.engine.flush()
        })
    }

    fn durable_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.durable_meta(key)
    }

    fn set_horizon(&self, revision: i64) {
        self.engine.set_horizon(revision);
    }

    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        self.engine.checkpoint()
    }

    fn compact_all(&self) -> Result<(), StoreError> {
        self.engine.compact_all()
    }

    fn verify(&self, from: &VerifyFrom, budget: u64) -> Result<Verified, StoreError> {
        self.engine.verify(from, budget)
    }

    fn size(&self) -> u64 {
        self.engine.size()
    }

    fn size_in_use(&self) -> u64 {
        self.engine.size_in_use()
    }

    fn gauges(&self) -> Vec<(&'static str, u64)> {
        self.engine.gauges()
    }
}

#[cfg(test)]
mod tests {
    use store::engine::memory::MemoryEngine;
    use store::fs::RealFs;

    use super::*;

    #[test]
    fn syncs_of_the_log_are_counted_with_their_result_passed_on() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new(false));
        let log = timed_log(Arc::new(RealFs::new(folder.path())), metrics.clone());
        log.create("a").unwrap().sync_data().unwrap();
        log.open("a").unwrap().sync_data().unwrap();
        assert_eq!(
            metrics.wal_fsync.get_sample_count(),
            1,
            "a file being created is left out"
        );
        let text = metrics.render();
        assert!(text.contains("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 1\n"));
    }

    #[test]
    fn a_full_disk_is_waited_out_but_not_for_ever_once_there_is_space() {
        let space = Arc::<DiskSpace>::default();
        let (mut engine, _closed) = TimedEngine::new(
            MemoryEngine::new(),
            Arc::new(Metrics::new(false)),
            space.clone(),
            AnyOpen::new().0,
        );
        engine.recovery = Duration::from_millis(300);
        let full = || StoreError::OutOfSpace {
            doing: "write",
            source: "full".into(),
        };
        let tries = Cell::new(0);
        let attempt = |enough: u32| {
            tries.set(tries.get() + 1);
            if tries.get() < enough {
                Err(full())
            } else {
                Ok(())
            }
        };
        engine.patiently(|| attempt(2)).unwrap();
        assert_eq!(tries.replace(0), 2);
        let since = Instant::now();
        let error = engine.patiently(|| attempt(u32::MAX)).unwrap_err();
        assert!(matches!(error, StoreError::OutOfSpace { .. }), "{error}");
        assert!(since.elapsed() > engine.recovery && tries.get() > 2);
        // A node that stops waits for nothing.
        space.stop();
        tries.set(0);
        engine.patiently(|| attempt(2)).unwrap_err();
        assert_eq!(tries.get(), 1);
    }

    #[test]
    fn writes_to_the_engine_are_counted_and_arrive() {
        let metrics = Arc::new(Metrics::new(false));
        let (any, mut all_closed) = AnyOpen::new();
        let open = || {
            TimedEngine::new(
                MemoryEngine::new(),
                metrics.clone(),
                Arc::default(),
                any.clone(),
            )
        };
        let (engine, mut closed) = open();
        let (other, _) = open();
        let mut batch = Batch::default();
        batch.put(Family::Meta, |key| key.push(1), |value| value.push(2));
        engine.write(&batch).unwrap();
        let mut value = Vec::new();
        engine
            .get(Family::Meta, &[1], &mut |found| {
                value.extend_from_slice(found)
            })
            .unwrap();
        assert_eq!(value, [2]);
        assert_eq!(metrics.backend_commit.get_sample_count(), 1);
        assert_eq!(closed.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop(engine);
        assert_eq!(closed.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        drop(any);
        let still_open = all_closed.try_recv();
        assert_eq!(still_open, Err(oneshot::error::TryRecvError::Empty));
        drop(other);
        let closed = all_closed.try_recv();
        assert_eq!(closed, Err(oneshot::error::TryRecvError::Closed));
    }
}
