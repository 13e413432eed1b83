//! The engine without a disk: for logic tests and simulation. A crash takes it back to its last flush.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Batch, Edit, Family, StateEngine, Step, Visitor};
use crate::error::StoreError;
use crate::layout;
use crate::mvcc::retention::Retention;
use crate::snapshot::{Checkpoint, image};

type Map = BTreeMap<Vec<u8>, Arc<[u8]>>;

/// A write that is kept until it is flushed.
enum Write {
    Put(Vec<u8>, Arc<[u8]>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
}

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
    unflushed: Vec<(Family, Write)>,
    live_bytes: u64,
    horizon: i64,
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
        state.count_live_bytes();
        // The horizon is told anew after a start.
        state.horizon = 0;
    }

    /// Rewrites a part of what is flushed, as RocksDB does with the files that it picks: of family `kv`, drops what
    /// the horizon gives up and the picked items alone show to be superseded.
    pub fn compact(&self, picks: &mut dyn FnMut(&[u8]) -> bool) {
        self.state.write().compact(picks);
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
        for (family, edit) in batch.iter() {
            let write = Write::from(edit);
            let (added, removed) = write.apply(&mut state.live[family as usize]);
            state.live_bytes = state.live_bytes + added - removed;
            state.unflushed.push((family, write));
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        let mut state = self.state.write();
        state.check_writable("flush")?;
        state.flush();
        Ok(())
    }

    fn durable_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.state.read();
        Ok(state.flushed[Family::Meta as usize]
            .get(key)
            .map(|value| value.to_vec()))
    }

    fn set_horizon(&self, revision: i64) {
        let mut state = self.state.write();
        state.horizon = state.horizon.max(revision);
    }

    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        let mut state = self.state.write();
        state.check_writable("make a checkpoint")?;
        state.flush();
        let mut image = Vec::new();
        for family in Family::ALL {
            for (key, value) in &state.flushed[family as usize] {
                image::put_item(&mut image, family, key, value);
            }
        }
        let name = state.flushed[Family::Meta as usize].get(layout::META_STATE);
        let name = name.map(|stored| layout::state(stored)).transpose()?;
        Checkpoint::of_image(image, name)
    }

    fn compact_all(&self) -> Result<(), StoreError> {
        let mut state = self.state.write();
        state.check_writable("compact")?;
        state.flush();
        state.compact(&mut |_| true);
        Ok(())
    }

    fn size(&self) -> u64 {
        self.state.read().live_bytes
    }

    fn size_in_use(&self) -> u64 {
        self.size()
    }
}

impl State {
    fn flush(&mut self) {
        for (family, write) in std::mem::take(&mut self.unflushed) {
            write.apply(&mut self.flushed[family as usize]);
        }
    }

    fn compact(&mut self, picks: &mut dyn FnMut(&[u8]) -> bool) {
        let mut retention = Retention::new(self.horizon);
        let dropped: Vec<_> = self.flushed[Family::Kv as usize]
            .iter()
            .filter(|(key, value)| picks(key) && !retention.keeps(key, value))
            .map(|(key, _)| key.clone())
            .collect();
        for key in dropped {
            // A version is written once: what is live under this key is what is flushed, or is deleted already.
            self.flushed[Family::Kv as usize].remove(&key);
            self.live[Family::Kv as usize].remove(&key);
        }
        self.count_live_bytes();
    }

    fn count_live_bytes(&mut self) {
        let items = self.live.iter().flatten();
        self.live_bytes = items.map(|(key, value)| size(key, value)).sum();
    }

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

impl From<Edit<'_>> for Write {
    fn from(edit: Edit<'_>) -> Self {
        match edit {
            Edit::Put(key, value) => Self::Put(key.to_vec(), Arc::from(value)),
            Edit::Delete(key) => Self::Delete(key.to_vec()),
            Edit::DeleteRange(from, to) => Self::DeleteRange(from.to_vec(), to.to_vec()),
        }
    }
}

impl Write {
    /// Answers the bytes added and removed.
    fn apply(&self, map: &mut Map) -> (u64, u64) {
        match self {
            Self::Put(key, value) => {
                let old = map.insert(key.clone(), value.clone());
                let removed = old.map_or(0, |old| size(key, &old));
                (size(key, value), removed)
            }
            Self::Delete(key) => (0, map.remove(key).map_or(0, |old| size(key, &old))),
            Self::DeleteRange(from, to) => {
                let range = (Bound::Included(from), Bound::Excluded(to));
                let keys: Vec<_> = if from < to {
                    map.range::<Vec<u8>, _>(range)
                        .map(|(key, _)| key.clone())
                        .collect()
                } else {
                    Vec::new()
                };
                let sizes = keys
                    .iter()
                    .filter_map(|key| Some(size(key, &map.remove(key)?)));
                (0, sizes.sum())
            }
        }
    }
}

fn size(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}
