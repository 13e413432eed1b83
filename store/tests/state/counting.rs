//! An engine that counts what is read from it, and measures what is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use store::StoreError;
use store::engine::memory::MemoryEngine;
use store::engine::{Batch, Family, StateEngine, Visitor};

/// The memory engine, and how much was read from it and written at once.
#[derive(Default)]
pub(crate) struct Counting {
    inner: MemoryEngine,
    gets: AtomicUsize,
    scans: AtomicUsize,
    items: AtomicUsize,
    largest_batch: AtomicUsize,
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Items that were asked for by their keys.
    pub(crate) gets: usize,
    pub(crate) scans: usize,
    /// Items that scans visited.
    pub(crate) items: usize,
}

impl Counting {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// What was read so far.
    pub(crate) fn reads(&self) -> Reads {
        Reads {
            gets: self.gets.load(Ordering::Relaxed),
            scans: self.scans.load(Ordering::Relaxed),
            items: self.items.load(Ordering::Relaxed),
        }
    }

    /// Bytes of the largest batch that was written.
    pub(crate) fn largest_batch(&self) -> usize {
        self.largest_batch.load(Ordering::Relaxed)
    }

    /// What `read` reads.
    pub(crate) fn reads_of(&self, read: impl FnOnce()) -> Reads {
        let before = self.reads();
        read();
        let after = self.reads();
        Reads {
            gets: after.gets - before.gets,
            scans: after.scans - before.scans,
            items: after.items - before.items,
        }
    }
}

impl StateEngine for Counting {
    fn get(
        &self,
        family: Family,
        key: &[u8],
        found: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StoreError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.inner.get(family, key, found)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        self.scans.fetch_add(1, Ordering::Relaxed);
        self.inner
            .scan(family, from, to, &mut |key, value, target| {
                self.items.fetch_add(1, Ordering::Relaxed);
                visit(key, value, target)
            })
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.largest_batch
            .fetch_max(batch.bytes(), Ordering::Relaxed);
        self.inner.write(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush()
    }

    fn durable_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.durable_meta(key)
    }

    fn set_horizon(&self, revision: i64) {
        self.inner.set_horizon(revision);
    }

    fn compact_all(&self) -> Result<(), StoreError> {
        self.inner.compact_all()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn size_in_use(&self) -> u64 {
        self.inner.size_in_use()
    }
}
