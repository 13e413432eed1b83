//! Where state is kept as bytes: an ordered map per family, atomic batches, and nothing durable before a flush.

pub mod memory;
pub mod place;
#[cfg(feature = "rocksdb")]
pub mod rocks;
pub mod swap;

use std::fmt;
use std::ops::Range;

use crate::error::StoreError;
use crate::snapshot::Checkpoint;

/// The column families; `layout` says what is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// All versions of all keys.
    Kv,
    /// Live keys, without their values.
    Tip,
    /// Changes by revision.
    Log,
    /// What describes the database itself.
    Meta,
}

impl Family {
    /// Every family, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Kv, Self::Tip, Self::Log, Self::Meta];
}

/// What a scan does after an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Go to the next item.
    Next,
    /// Go to the first item at or behind the key that the visitor wrote to the target.
    Seek,
    /// End the scan.
    Stop,
}

/// Where [`StateEngine::verify`] goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyFrom {
    /// The family being read.
    pub family: Family,
    /// Its next key.
    pub key: Vec<u8>,
}

impl Default for VerifyFrom {
    fn default() -> Self {
        Self {
            family: Family::ALL[0],
            key: Vec::new(),
        }
    }
}

/// What [`StateEngine::verify`] has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Keys and values.
    pub bytes: u64,
    /// Where to go on; nothing: everything was read.
    pub next: Option<VerifyFrom>,
}

/// Called with key, value and the target of a [`Step::Seek`], which is empty on entry.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8], &mut Vec<u8>) -> Step + 'a;

/// The most bytes that [`StateEngine::compact_all`] takes on top of what is there: it goes step by step, and what a step
/// replaces goes at its end. RocksDB's own measure: 25 of its files.
pub const REWRITE_STEP: u64 = 25 * (64 << 20);

/// Keeps the state.
///
/// - A batch is seen whole or not at all, by readers at once and after a crash.
/// - There is no write-ahead log: a crash takes the state back to a flush, at the earliest the last one asked
///   for, and always to a point between two batches, the same one in all families.
/// - Any thread reads. Two write: one applies entries, one sweeps away what compaction gave up.
pub trait StateEngine: Send + Sync + 'static {
    /// Calls `found` with the value, if the key exists; answers whether it does.
    fn get(
        &self,
        family: Family,
        key: &[u8],
        found: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StoreError>;

    /// Visits the items from `from` on, below `to`, in the order of their keys.
    ///
    /// Sees at least what was written before the call, and no part of a batch without the rest. The visitor does
    /// not call the engine.
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError>;

    /// Like [`StateEngine::scan`], of so much that keeping it in a cache would only drive out what is read again.
    fn scan_once(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        self.scan(family, from, to, visit)
    }

    /// Writes a batch. Any thread may: batches take their place one behind the other.
    ///
    /// After [`StoreError::OutOfSpace`] nothing of it is there, and it may be written again.
    fn write(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Makes everything written so far durable. May be tried again after [`StoreError::OutOfSpace`].
    fn flush(&self) -> Result<(), StoreError>;

    /// A value of [`Family::Meta`] as a crash at this moment would leave it.
    fn durable_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Lets the engine drop, whenever it rewrites [`Family::Kv`], the versions that no read at `revision` or later
    /// shows. The horizon never goes back; a lower one is ignored.
    ///
    /// What is dropped is gone at once, also for a crash: the revision must be given up durably, and no read that
    /// runs may need an older one.
    fn set_horizon(&self, revision: i64);

    /// Makes everything durable and a copy of it, of one moment between two batches. Writes go on meanwhile; only
    /// those of an engine without files wait.
    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        Err(StoreError::Engine {
            doing: "make a checkpoint",
            source: "this engine cannot".into(),
        })
    }

    /// Rewrites everything, so that what may be dropped is. Reads and writes go on meanwhile.
    fn compact_all(&self) -> Result<(), StoreError>;

    /// Reads on from a place, every block from its file and against its checksum, until about `budget` bytes of keys
    /// and values were seen. Damage is an error. An engine without files has nothing to check.
    ///
    /// What lies in memory is taken from there: blocks that are cached, and files that the system has cached.
    fn verify(&self, from: &VerifyFrom, budget: u64) -> Result<Verified, StoreError> {
        let _ = (from, budget);
        Ok(Verified::default())
    }

    /// Bytes that the database takes, in files and in memory not yet flushed.
    ///
    /// A compaction that runs does not show: what it has written counts from the moment on when what it replaces
    /// no longer does.
    fn size(&self) -> u64;

    /// The part of [`StateEngine::size`] that a full compaction would keep; an estimate.
    fn size_in_use(&self) -> u64;

    /// Named gauges for support and metrics.
    fn gauges(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

impl fmt::Debug for dyn StateEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateEngine")
    }
}

/// Writes that belong together. Keys and values are built in place in one reused buffer.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    writes: Vec<Write>,
}

/// One write of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit<'a> {
    /// Sets a key to a value.
    Put(&'a [u8], &'a [u8]),
    /// Removes a key.
    Delete(&'a [u8]),
    /// Removes the keys from the first one on, below the second one.
    DeleteRange(&'a [u8], &'a [u8]),
}

#[derive(Debug)]
struct Write {
    family: Family,
    kind: Kind,
    key: Range<usize>,
    /// A value, or the end of a range; a deletion has none.
    second: Range<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Put,
    Delete,
    DeleteRange,
}

impl Batch {
    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.writes.clear();
    }

    /// Whether nothing would be written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Sets a key; both closures append to the buffer.
    pub fn put(
        &mut self,
        family: Family,
        key: impl FnOnce(&mut Vec<u8>),
        value: impl FnOnce(&mut Vec<u8>),
    ) {
        self.add(family, Kind::Put, key, value);
    }

    /// Removes a key.
    pub fn delete(&mut self, family: Family, key: impl FnOnce(&mut Vec<u8>)) {
        self.add(family, Kind::Delete, key, |_| {});
    }

    /// Removes the keys from `from` on, below `to`; none if that is not above `from`.
    pub fn delete_range(
        &mut self,
        family: Family,
        from: impl FnOnce(&mut Vec<u8>),
        to: impl FnOnce(&mut Vec<u8>),
    ) {
        self.add(family, Kind::DeleteRange, from, to);
    }

    /// Where the batch ends now, for [`Batch::cut`].
    pub fn end(&self) -> (usize, usize) {
        (self.bytes.len(), self.writes.len())
    }

    /// Takes back what was added since then.
    pub fn cut(&mut self, (bytes, writes): (usize, usize)) {
        self.bytes.truncate(bytes);
        self.writes.truncate(writes);
    }

    /// How many writes there are.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The writes in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Family, Edit<'_>)> {
        self.writes.iter().map(|write| {
            let key = &self.bytes[write.key.clone()];
            let second = &self.bytes[write.second.clone()];
            let edit = match write.kind {
                Kind::Put => Edit::Put(key, second),
                Kind::Delete => Edit::Delete(key),
                Kind::DeleteRange => Edit::DeleteRange(key, second),
            };
            (write.family, edit)
        })
    }

    fn add(
        &mut self,
        family: Family,
        kind: Kind,
        key: impl FnOnce(&mut Vec<u8>),
        second: impl FnOnce(&mut Vec<u8>),
    ) {
        let key = self.append(key);
        let second = self.append(second);
        self.writes.push(Write {
            family,
            kind,
            key,
            second,
        });
    }

    fn append(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let start = self.bytes.len();
        fill(&mut self.bytes);
        start..self.bytes.len()
    }
}
