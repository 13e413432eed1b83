//! A snapshot on its way in: written aside, verified, and complete before anything refers to it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::statvfs;

use super::manifest::{Kind, Manifest};
use super::{SnapshotName, current, image};
use crate::engine::StateEngine;
use crate::engine::place;
use crate::error::StoreError;

/// Why a snapshot is not taken. What this node holds is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// What the sender says of it cannot be meant.
    #[error("the manifest of a snapshot is refused: {0}")]
    Manifest(String),
    /// It is of an engine that this node does not have.
    #[error("the snapshot is of another kind than this node keeps its state in")]
    Kind,
    /// It does not fit here. Worth another attempt when there is more space.
    #[error(
        "a snapshot of {size} bytes does not fit: {free} bytes are free, and {reserve} are kept"
    )]
    NoRoom {
        /// Bytes of its files.
        size: u64,
        /// Bytes free.
        free: u64,
        /// Bytes that must stay free.
        reserve: u64,
    },
    /// Bytes for another place than the next one. Nothing is lost: the sender goes on from there.
    #[error("the next bytes are those of file {} from {}", .0.file, .0.offset)]
    Order(Have),
    /// More bytes than the manifest says.
    #[error("{file} is longer than the manifest says")]
    TooLong {
        /// The file.
        file: String,
    },
    /// What arrived is not what was sent. The file begins anew; the sender goes on from there.
    #[error("{file} arrived damaged")]
    Checksum {
        /// The file.
        file: String,
    },
    /// Not everything was sent.
    #[error("the snapshot is not complete: it ends in file {} at {}", .0.file, .0.offset)]
    Incomplete(Have),
    /// The database that arrived is not the state that was announced.
    #[error(
        "the snapshot holds another state than its manifest says: entry {found}, not {expected}"
    )]
    OtherState {
        /// The last entry applied, by the manifest.
        expected: u64,
        /// The last entry applied, by the database; 0 if none was.
        found: u64,
    },
    /// A failed sync: nothing is known of what was written, so all of it is given up.
    #[error("an earlier write of the snapshot failed")]
    Failed,
    /// The disk failed, or is full.
    #[error("cannot {doing} {}", path.display())]
    Disk {
        /// What was attempted.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The database that arrived cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far a snapshot has arrived: everything before this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Have {
    /// The number of the file that is next; one behind the last when all are there.
    pub file: usize,
    /// The place in it.
    pub offset: u64,
}

/// Takes a snapshot, file by file and in order. What it has written goes when it is dropped.
///
/// A connection may break as often as it likes: the next one goes on at [`Receiver::have`]. The process may not: a
/// snapshot that is not complete is removed at the next start.
pub struct Receiver {
    manifest: Manifest,
    sink: Sink,
    have: Have,
    /// Of the present file, as far as it is there.
    crc: u32,
    has_failed: bool,
}

enum Sink {
    Folder { folder: Folder, open: Option<File> },
    Memory(Vec<u8>),
}

/// Removed when dropped.
#[derive(Debug)]
struct Folder(Option<PathBuf>);

impl Folder {
    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(folder) = self.0.take() {
            // What cannot be removed now goes at the next start.
            let _ = place::remove(&folder);
        }
    }
}

impl Receiver {
    /// Begins with a database, in a folder that is not there yet and whose parent is. `reserve` bytes are to stay
    /// free on its disk.
    pub fn begin(folder: &Path, manifest: Manifest, reserve: u64) -> Result<Self, ReceiveError> {
        manifest.check()?;
        if manifest.kind != Kind::Database || !cfg!(feature = "rocksdb") {
            return Err(ReceiveError::Kind);
        }
        let parent = folder.parent().unwrap_or(Path::new("."));
        let volume = statvfs(parent).map_err(|error| {
            let source = error.into();
            disk("look at the disk of", parent, source)
        })?;
        let free = volume.f_bavail.saturating_mul(volume.f_frsize);
        let size = manifest.size();
        if size.saturating_add(reserve) > free {
            return Err(ReceiveError::NoRoom {
                size,
                free,
                reserve,
            });
        }
        let made = DirBuilder::new().mode(0o700).create(folder);
        made.map_err(|source| disk("make", folder, source))?;
        let folder = Folder(Some(folder.to_owned()));
        Ok(Self::new(manifest, Sink::Folder { folder, open: None }))
    }

    /// Begins with the items of an engine that keeps no files, which take no more than so many bytes.
    pub fn in_memory(manifest: Manifest, most: u64) -> Result<Self, ReceiveError> {
        manifest.check()?;
        if manifest.kind != Kind::Image {
            return Err(ReceiveError::Kind);
        }
        let size = manifest.size();
        if size > most {
            return Err(ReceiveError::NoRoom {
                size,
                free: most,
                reserve: 0,
            });
        }
        Ok(Self::new(manifest, Sink::Memory(Vec::new())))
    }

    fn new(manifest: Manifest, sink: Sink) -> Self {
        Self {
            manifest,
            sink,
            have: Have { file: 0, offset: 0 },
            crc: 0,
            has_failed: false,
        }
    }

    /// What is being received.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where the sender goes on.
    pub fn have(&self) -> Have {
        self.have
    }

    /// Takes the next bytes. After an error it stands where it stood, and they may be sent again.
    pub fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<(), ReceiveError> {
        self.check()?;
        let entry = match self.manifest.files.get(file) {
            Some(entry) if self.have == (Have { file, offset }) => entry,
            _ => return Err(ReceiveError::Order(self.have)),
        };
        let end = offset.saturating_add(bytes.len() as u64);
        if end > entry.size {
            let file = entry.name.clone();
            return Err(ReceiveError::TooLong { file });
        }
        match &mut self.sink {
            Sink::Memory(image) => image.extend_from_slice(bytes),
            Sink::Folder { folder, open } => {
                let path = folder.path().join(&entry.name);
                let file = opened(open, &path)?;
                let written = file.write_all_at(bytes, offset);
                written.map_err(|source| disk("write", &path, source))?;
            }
        }
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.have.offset = end;
        Ok(())
    }

    /// Told of the CRC-32C of the present file when all of it was sent; makes it durable, and the next one is next.
    pub fn end_file(&mut self, file: usize, crc: u32) -> Result<(), ReceiveError> {
        self.check()?;
        let entry = match self.manifest.files.get(file) {
            Some(entry) if self.have.file == file && self.have.offset == entry.size => entry,
            _ => return Err(ReceiveError::Order(self.have)),
        };
        let is_whole = self.crc == crc;
        self.crc = 0;
        self.have.offset = 0;
        if !is_whole {
            let file = entry.name.clone();
            match &mut self.sink {
                Sink::Memory(image) => image.clear(),
                // Written over from its beginning, to the same length.
                Sink::Folder { .. } => {}
            }
            return Err(ReceiveError::Checksum { file });
        }
        if let Sink::Folder { folder, open } = &mut self.sink {
            let path = folder.path().join(&entry.name);
            let file = opened(open, &path)?;
            if let Err(source) = file.sync_all() {
                self.has_failed = true;
                return Err(disk("sync", &path, source));
            }
            *open = None;
        }
        self.have.file += 1;
        Ok(())
    }

    /// Makes sure that all of it is there, durable, and the state that was announced. Blocks on the disk.
    pub fn finish(self) -> Result<Received, ReceiveError> {
        self.check()?;
        if self.have.file < self.manifest.files.len() {
            return Err(ReceiveError::Incomplete(self.have));
        }
        let expected = self.manifest.name;
        let (content, found) = match self.sink {
            Sink::Memory(image) => {
                let engine = image::read(&image)?;
                let found = current(&*engine)?;
                (Content::Items(engine), found)
            }
            Sink::Folder { folder, .. } => {
                let path = folder.path();
                let parent = path.parent().unwrap_or(Path::new("."));
                for synced in [path, parent] {
                    place::sync(synced).map_err(|source| disk("sync", synced, source))?;
                }
                let found = name_in(path)?;
                (Content::Database(folder), found)
            }
        };
        if found.as_ref() != Some(&expected) {
            return Err(ReceiveError::OtherState {
                expected: expected.applied.index,
                found: found.map_or(0, |found| found.applied.index),
            });
        }
        let name = expected;
        Ok(Received { name, content })
    }

    fn check(&self) -> Result<(), ReceiveError> {
        if self.has_failed {
            return Err(ReceiveError::Failed);
        }
        Ok(())
    }
}

/// A snapshot that arrived whole: durable, verified, and not in force. A folder goes when it is dropped.
#[derive(Debug)]
pub struct Received {
    name: SnapshotName,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Database(Folder),
    Items(Arc<dyn StateEngine>),
}

/// What arrived.
pub enum Arrived<'a> {
    /// A database in a folder.
    Database(&'a Path),
    /// An engine that holds it.
    Items(&'a dyn StateEngine),
}

impl Received {
    /// Which state it is.
    pub fn name(&self) -> &SnapshotName {
        &self.name
    }

    /// What is to be installed.
    pub fn arrived(&self) -> Arrived<'_> {
        match &self.content {
            Content::Database(folder) => Arrived::Database(folder.path()),
            Content::Items(engine) => Arrived::Items(&**engine),
        }
    }

    /// Leaves the folder where it is: it may be in force.
    pub fn keep(&mut self) {
        if let Content::Database(Folder(folder)) = &mut self.content {
            *folder = None;
        }
    }
}

/// The file that is being written; made if this is its beginning.
fn opened<'a>(open: &'a mut Option<File>, path: &Path) -> Result<&'a File, ReceiveError> {
    if open.is_none() {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let made = options.open(path);
        *open = Some(made.map_err(|source| disk("make", path, source))?);
    }
    open.as_ref().ok_or(ReceiveError::Failed)
}

fn disk(doing: &'static str, path: &Path, source: io::Error) -> ReceiveError {
    ReceiveError::Disk {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// Which state a database holds. Opening it finds out, too, whether every table that it names is there and has its
/// size.
#[cfg(feature = "rocksdb")]
fn name_in(folder: &Path) -> Result<Option<SnapshotName>, StoreError> {
    crate::engine::rocks::name_in(folder)
}

#[cfg(not(feature = "rocksdb"))]
fn name_in(_: &Path) -> Result<Option<SnapshotName>, StoreError> {
    Ok(None)
}
