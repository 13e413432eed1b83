//! The writer's two indexes: one published, one worked on, which take turns.
//!
//! Copying a shared leaf means an atomic increment, mostly a cache miss, for each of its tips, and as many
//! decrements later. So the published index is not copied from: each batch is made to the index published before
//! it, which hardly ever still has a reader and is changed in place, after the edits of the batch between have
//! been made there too. A reader that does hold the old one costs copies of the nodes that change, nothing else.
//! Nodes are doubled (about 25 bytes a key), records are not.

use super::index::Index;
use crate::record::Tip;
use crate::retained::Edits;

/// What a batch does to the index.
enum Edit {
    Set(Tip),
    /// The removed tip.
    Remove(Tip),
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct Twin {
    published: Index,
    working: Index,
    /// What `published` has and `working` lacks, between batches; within one the other way round.
    edits: Vec<Edit>,
    /// Bytes that stripping all tips could free.
    cached_bytes: usize,
    /// Bytes of tips that stripping could not free.
    fixed_bytes: usize,
    /// All that was ever done.
    total: Edits,
}

/// What a key takes in memory beside its tip's own bytes: its share of the nodes of both indexes, the counters of a
/// shared allocation, and what the allocator rounds up. Measured: 115 bytes.
const ENTRY: usize = 112;

impl Twin {
    /// Of an index without values, whose tips take so many bytes.
    pub(crate) fn new(index: Index, fixed_bytes: usize) -> Self {
        Self {
            working: index.clone(),
            published: index,
            edits: Vec::new(),
            cached_bytes: 0,
            fixed_bytes,
            total: Edits::default(),
        }
    }

    /// The index of the last batch.
    pub(crate) fn published(&self) -> &Index {
        &self.published
    }

    /// The index of the batch at work.
    pub(crate) fn working(&self) -> &Index {
        &self.working
    }

    pub(crate) fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }

    /// About how many bytes of memory are left when all tips are stripped.
    pub(crate) fn index_bytes(&self) -> usize {
        self.working.len() * ENTRY + self.fixed_bytes
    }

    pub(crate) fn total(&self) -> Edits {
        self.total
    }

    /// Starts a batch: the working index catches up.
    pub(crate) fn begin(&mut self) {
        for edit in self.edits.drain(..) {
            match edit {
                Edit::Set(tip) => self.working.insert(tip),
                Edit::Remove(tip) => self.working.remove(tip.key()),
            };
        }
    }

    /// Sets a key to what `make` makes of its former tip; answers the former tip.
    pub(crate) fn update(
        &mut self,
        key: &[u8],
        make: impl FnOnce(Option<&Tip>) -> Tip,
    ) -> Option<Tip> {
        let (edits, cached_bytes) = (&mut self.edits, &mut self.cached_bytes);
        let fixed_bytes = &mut self.fixed_bytes;
        let former = self.working.update(key, |former| {
            let tip = make(former);
            *cached_bytes += tip.cached_bytes();
            *fixed_bytes += tip.fixed_bytes();
            edits.push(Edit::Set(tip.clone()));
            tip
        });
        self.cached_bytes -= former.as_ref().map_or(0, Tip::cached_bytes);
        self.fixed_bytes -= former.as_ref().map_or(0, Tip::fixed_bytes);
        self.total.count += 1;
        self.total.bytes += former.as_ref().map_or(0, |tip| tip.held_bytes() as u64);
        former
    }

    pub(crate) fn insert(&mut self, tip: Tip) {
        let key = tip.clone();
        self.update(key.key(), |_| tip);
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Tip> {
        let former = self.working.remove(key)?;
        self.cached_bytes -= former.cached_bytes();
        self.fixed_bytes -= former.fixed_bytes();
        self.total.count += 1;
        self.total.bytes += former.held_bytes() as u64;
        self.edits.push(Edit::Remove(former.clone()));
        Some(former)
    }

    /// Ends a batch: the working index is the one to publish.
    pub(crate) fn finish(&mut self) -> Index {
        if !self.edits.is_empty() {
            std::mem::swap(&mut self.working, &mut self.published);
        }
        self.published.clone()
    }
}
