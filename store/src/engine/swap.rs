//! One engine for those that hold on to it: passes each call on to the database that the machine reads from now.
//!
//! A view names the engine that it is read from, so what is read at a view never changes its database. Whoever asks
//! without one (sizes, flushes, the scrub) means the present database, and would keep an old one open for ever if it
//! held that itself.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Batch, Family, StateEngine, Verified, VerifyFrom, Visitor};
use crate::error::StoreError;
use crate::reader::View;
use crate::snapshot::Checkpoint;

/// Whichever engine the newest view is read from.
///
/// The pointer is the one that the view is published by: nobody sees the index of one database and the engine of
/// another. A call that is under way stays with the database that it began with, and keeps that open.
#[derive(Clone)]
pub struct SwapEngine {
    view: Arc<ArcSwap<View>>,
}

impl SwapEngine {
    pub(crate) fn new(view: Arc<ArcSwap<View>>) -> Self {
        Self { view }
    }

    /// The engine of now. The view is let go of at once: held, it would keep its revision from being compacted.
    fn engine(&self) -> Arc<dyn StateEngine> {
        self.view.load().engine.clone()
    }
}

impl StateEngine for SwapEngine {
    fn get(
        &self,
        family: Family,
        key: &[u8],
        found: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StoreError> {
        self.engine().get(family, key, found)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        self.engine().scan(family, from, to, visit)
    }

    fn scan_once(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        self.engine().scan_once(family, from, to, visit)
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.engine().write(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.engine().flush()
    }

    fn durable_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine().durable_meta(key)
    }

    fn set_horizon(&self, revision: i64) {
        self.engine().set_horizon(revision);
    }

    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        self.engine().checkpoint()
    }

    fn compact_all(&self) -> Result<(), StoreError> {
        self.engine().compact_all()
    }

    fn verify(&self, from: &VerifyFrom, budget: u64) -> Result<Verified, StoreError> {
        self.engine().verify(from, budget)
    }

    fn size(&self) -> u64 {
        self.engine().size()
    }

    fn size_in_use(&self) -> u64 {
        self.engine().size_in_use()
    }

    fn gauges(&self) -> Vec<(&'static str, u64)> {
        self.engine().gauges()
    }
}
