//! An engine that dies at a write: before it or after it, and for good.

use std::sync::Arc;

use parking_lot::Mutex;
use store::StoreError;
use store::engine::{Batch, Family, StateEngine, Visitor};

/// Where the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// The write is lost.
    BeforeWrite,
    /// The write is made, and nobody hears of it.
    AfterWrite,
}

/// Passes everything on until it dies.
pub(crate) struct Faulty {
    inner: Arc<dyn StateEngine>,
    fate: Mutex<Fate>,
}

#[derive(Clone, Copy)]
enum Fate {
    Lives,
    /// After so many more writes.
    Dies(usize, Death),
    IsDead,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn StateEngine>) -> Arc<Self> {
        let fate = Mutex::new(Fate::Lives);
        Arc::new(Self { inner, fate })
    }

    /// Dies at the write after `writes` more.
    pub(crate) fn die_after(&self, writes: usize, death: Death) {
        *self.fate.lock() = Fate::Dies(writes, death);
    }

    /// Forgets about a death that did not come.
    pub(crate) fn live_on(&self) {
        *self.fate.lock() = Fate::Lives;
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(*self.fate.lock(), Fate::IsDead)
    }

    fn check(&self) -> Result<(), StoreError> {
        match *self.fate.lock() {
            Fate::IsDead => Err(died()),
            _ => Ok(()),
        }
    }
}

fn died() -> StoreError {
    StoreError::Engine {
        doing: "write",
        source: "death on purpose".into(),
    }
}

impl StateEngine for Faulty {
    fn get(
        &self,
        family: Family,
        key: &[u8],
        found: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StoreError> {
        self.check()?;
        self.inner.get(family, key, found)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        self.check()?;
        self.inner.scan(family, from, to, visit)
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut fate = self.fate.lock();
        match *fate {
            Fate::Lives => self.inner.write(batch),
            Fate::Dies(0, death) => {
                *fate = Fate::IsDead;
                if death == Death::AfterWrite {
                    self.inner.write(batch)?;
                }
                Err(died())
            }
            Fate::Dies(writes, death) => {
                *fate = Fate::Dies(writes - 1, death);
                self.inner.write(batch)
            }
            Fate::IsDead => Err(died()),
        }
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.check()?;
        self.inner.flush()
    }

    fn durable_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.durable_meta(key)
    }

    fn set_horizon(&self, revision: i64) {
        self.inner.set_horizon(revision);
    }

    fn compact_all(&self) -> Result<(), StoreError> {
        self.check()?;
        self.inner.compact_all()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn size_in_use(&self) -> u64 {
        self.inner.size_in_use()
    }
}
