//! The file layer below the raft log: one folder of files, real or simulated.
//!
//! It is a trait so that the simulation can lose unsynced bytes, tear a write, flip bits and fail a sync, and so
//! that the server can time syncs ([`observed`]) while the store itself reads no clock. The contract is that
//! of a POSIX file system, no more:
//! - written bytes are durable only after [`WalFile::sync_data`]; until then any subset of sectors may survive;
//! - created, renamed and removed names are durable only after [`WalFs::sync_dir`];
//! - after a failed sync nothing is known about the bytes: the caller must not sync again and go on.

mod blocks;
mod real;
mod sim;

use std::io;
use std::sync::Arc;

pub use blocks::{BLOCK, Blocks};
pub use real::RealFs;
pub use sim::{InDoubt, SimFs};

/// One folder.
pub trait WalFs: Send + Sync {
    /// The names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes an empty file; fails if the name exists.
    fn create(&self, name: &str) -> io::Result<Arc<dyn WalFile>>;
    /// Opens a file that exists.
    fn open(&self, name: &str) -> io::Result<Arc<dyn WalFile>>;
    /// Gives a file another name, replacing a file of that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name. Whoever has the file open can go on reading it.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all creations, renames and removals so far durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// What a person should read for this name: the whole path.
    fn describe(&self, name: &str) -> String;
}

/// One open file. Offsets are explicit, so that readers and the writer share a handle without a lock.
pub trait WalFile: Send + Sync {
    /// Its length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Reads until `buffer` is full or the file ends, and tells how much it read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes`, growing the file when they reach beyond its end.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reserves space and sets the length; new bytes read as zero. May be a mere hint about space.
    fn preallocate(&self, size: u64) -> io::Result<()>;
    /// Makes everything written so far durable, with the length.
    fn sync_data(&self) -> io::Result<()>;
    /// Writes all of `bytes` and makes them durable.
    fn write_synced(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset, bytes)?;
        self.sync_data()
    }
}

/// Runs a sync and returns its result; what it does before and after is its own affair.
pub type AroundSync = dyn Fn(&mut dyn FnMut() -> io::Result<()>) -> io::Result<()> + Send + Sync;

/// Wraps a folder so that `around` runs every sync of an *opened* file, with the write that belongs to it: written
/// past the page cache, a batch takes its time there as well. Files being created are left out: the
/// log fills its next segment in the background, and those syncs would drown the ones that writes wait for.
pub fn observed(inner: Arc<dyn WalFs>, around: Arc<AroundSync>) -> Arc<dyn WalFs> {
    Arc::new(ObservedFs { inner, around })
}

struct ObservedFs {
    inner: Arc<dyn WalFs>,
    around: Arc<AroundSync>,
}

struct ObservedFile {
    inner: Arc<dyn WalFile>,
    around: Arc<AroundSync>,
}

impl WalFs for ObservedFs {
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn WalFile>> {
        self.inner.create(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn WalFile>> {
        Ok(Arc::new(ObservedFile {
            inner: self.inner.open(name)?,
            around: Arc::clone(&self.around),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.inner.sync_dir()
    }

    fn describe(&self, name: &str) -> String {
        self.inner.describe(name)
    }
}

impl WalFile for ObservedFile {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, bytes)
    }

    fn preallocate(&self, size: u64) -> io::Result<()> {
        self.inner.preallocate(size)
    }

    fn sync_data(&self) -> io::Result<()> {
        (self.around)(&mut || self.inner.sync_data())
    }

    fn write_synced(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (self.around)(&mut || self.inner.write_synced(offset, bytes))
    }
}
