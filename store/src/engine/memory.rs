//! The engine without a disk: for logic tests and simulation. A crash takes it back to its last flush.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Batch, Family, StateEngine, Step, Visitor};
use crate::error::StoreError;

type Map = BTreeMap<Vec<u8>, Arc<[u8]>>;

/// None removes the key.
type Write = (Family, Vec<u8>, Option<Arc<[u8]>>);

/// Maps in memory, and what they were at the last flush.
#[derive(Default)]
pub struct MemoryEngine {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    live: [Map; Family::ALL.len()],
    flushed: [Map; Family::ALL.len()],
    /// Writes since the last flush, in their order.
    unflushed: Vec<Write>,
    live_bytes: u64,
    fails_writes: bool,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses everything since the last flush, as a crash does.
    pub fn crash(&self) {
        let mut state = self.state.write();
        state.live = state.flushed.clone();
        state.unflushed.clear();
        state.live_bytes = state
            .live
            .iter()
            .flatten()
            .map(|(key, value)| size(key, value))
            .sum();
    }

    /// Lets writes and flushes fail from now on, or work again.
    pub fn fail_writes(&self, fail: bool) {
        self.state.write().fails_writes = fail;
    }
}

impl StateEngine for MemoryEngine {
    fn get(
        &self,
        family: Family,
        key: &[u8],
        found: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StoreError> {
        let value = self.state.read().live[family as usize].get(key).cloned();
        if let Some(value) = &value {
            found(value);
        }
        Ok(value.is_some())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        let state = self.state.read();
        let map = &state.live[family as usize];
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut start = from.to_vec();
        let mut target = Vec::new();
        'seek: loop {
            if to.is_some_and(|to| start.as_slice() >= to) {
                return Ok(());
            }
            for (key, value) in map.range::<[u8], _>((Bound::Included(start.as_slice()), end)) {
                target.clear();
                match visit(key, value, &mut target) {
                    Step::Next => {}
                    Step::Stop => return Ok(()),
                    Step::Seek => {
                        start.clone_from(&target);
                        continue 'seek;
                    }
                }
            }
            return Ok(());
        }
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut state = self.state.write();
        state.check_writable("write")?;
        for (family, key, value) in batch.iter() {
            let value: Option<Arc<[u8]>> = value.map(Arc::from);
            state.unflushed.push((family, key.to_vec(), value.clone()));
            let mut bytes = state.live_bytes;
            if let Some(value) = &value {
                bytes += size(key, value);
            }
            if let Some(old) = apply(&mut state.live[family as usize], key.to_vec(), value) {
                bytes -= size(key, &old);
            }
            state.live_bytes = bytes;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        let mut state = self.state.write();
        state.check_writable("flush")?;
        for (family, key, value) in std::mem::take(&mut state.unflushed) {
            apply(&mut state.flushed[family as usize], key, value);
        }
        Ok(())
    }

    fn durable_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.state.read();
        Ok(state.flushed[Family::Meta as usize]
            .get(key)
            .map(|value| value.to_vec()))
    }

    fn size(&self) -> u64 {
        self.state.read().live_bytes
    }

    fn size_in_use(&self) -> u64 {
        self.size()
    }
}

impl State {
    fn check_writable(&self, doing: &'static str) -> Result<(), StoreError> {
        if self.fails_writes {
            return Err(StoreError::Engine {
                doing,
                source: "failure on purpose".into(),
            });
        }
        Ok(())
    }
}

fn apply(map: &mut Map, key: Vec<u8>, value: Option<Arc<[u8]>>) -> Option<Arc<[u8]>> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}

fn size(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}
