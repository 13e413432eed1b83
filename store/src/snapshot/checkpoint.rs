//! A copy of the state at one moment, read in chunks by whoever sends it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::SnapshotName;
use super::manifest::{FileEntry, IMAGE, Kind, Manifest};
use crate::engine::place;
use crate::error::StoreError;

/// Bytes of the largest chunk that is sent.
pub const CHUNK: usize = 1 << 20;

/// The state as it was when this was made, whatever is applied since. Its files go when it is dropped.
///
/// What is deleted in the database meanwhile keeps its space on the disk as long.
pub struct Checkpoint {
    manifest: Manifest,
    content: Content,
    reading: Mutex<Reading>,
}

enum Content {
    Folder(Folder),
    Image(Vec<u8>),
}

/// Removed when dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now goes at the next start.
        let _ = place::remove_checkpoint(&self.0);
    }
}

#[derive(Default)]
struct Reading {
    /// The file that was read last: chunks of one follow each other.
    open: Option<(usize, File)>,
    /// The checksum of each file, as far as it was read from its beginning without a gap.
    sums: Vec<Sum>,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    upto: u64,
    crc: u32,
}

impl Checkpoint {
    /// Of a folder that [`place::checkpoint_beside`] named, with a database that nobody writes to. The folder is removed
    /// with the value, also when this fails. `named` reads which state is in there.
    pub fn of_folder(
        folder: PathBuf,
        named: impl FnOnce(&Path) -> Result<Option<SnapshotName>, StoreError>,
    ) -> Result<Self, StoreError> {
        let folder = Folder(folder);
        let name = named(&folder.0)?.ok_or_else(nothing)?;
        let files = list(&folder.0).map_err(|error| failed("list a checkpoint", error))?;
        Ok(Self::new(
            Kind::Database,
            name,
            files,
            Content::Folder(folder),
        ))
    }

    /// Of all items of an engine.
    pub(crate) fn of_image(image: Vec<u8>, name: Option<SnapshotName>) -> Result<Self, StoreError> {
        let file = FileEntry {
            name: IMAGE.to_owned(),
            size: image.len() as u64,
        };
        let name = name.ok_or_else(nothing)?;
        Ok(Self::new(
            Kind::Image,
            name,
            vec![file],
            Content::Image(image),
        ))
    }

    fn new(kind: Kind, name: SnapshotName, files: Vec<FileEntry>, content: Content) -> Self {
        let reading = Reading {
            open: None,
            sums: vec![Sum::default(); files.len()],
        };
        Self {
            manifest: Manifest { kind, name, files },
            content,
            reading: Mutex::new(reading),
        }
    }

    /// Which state it is, by its own account: the engine may have gone on since.
    pub fn name(&self) -> &SnapshotName {
        &self.manifest.name
    }

    /// What it consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Reads a part of a file, until the buffer is full or the file ends; answers how much that was. Blocks on the
    /// disk.
    pub fn read(&self, file: usize, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        self.read_in(&mut self.reading.lock(), file, offset, buffer)
    }

    /// The CRC-32C of a whole file. What was read in order is not read again for it, whatever was read twice.
    pub fn checksum(&self, file: usize) -> Result<u32, StoreError> {
        let mut reading = self.reading.lock();
        let mut buffer = Vec::new();
        loop {
            let entry = self.manifest.files.get(file).ok_or_else(no_such_file)?;
            let sum = reading.sums[file];
            if sum.upto >= entry.size {
                return Ok(sum.crc);
            }
            buffer.resize(CHUNK, 0);
            if self.read_in(&mut reading, file, sum.upto, &mut buffer)? == 0 {
                return Err(failed(
                    "read a checkpoint",
                    io::ErrorKind::UnexpectedEof.into(),
                ));
            }
        }
    }

    fn read_in(
        &self,
        reading: &mut Reading,
        file: usize,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, StoreError> {
        let entry = self.manifest.files.get(file).ok_or_else(no_such_file)?;
        let len = match &self.content {
            Content::Image(image) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = image.get(start..).unwrap_or_default();
                let len = rest.len().min(buffer.len());
                buffer[..len].copy_from_slice(&rest[..len]);
                len
            }
            Content::Folder(Folder(folder)) => {
                let opened = match reading.open.take() {
                    Some((number, opened)) if number == file => Ok(opened),
                    _ => open(&folder.join(&entry.name)),
                };
                let read = opened.and_then(|opened| {
                    let len = read_at(&opened, offset, buffer)?;
                    reading.open = Some((file, opened));
                    Ok(len)
                });
                read.map_err(|error| failed("read a checkpoint", error))?
            }
        };
        let sum = &mut reading.sums[file];
        if offset == sum.upto {
            sum.crc = crc32c::crc32c_append(sum.crc, &buffer[..len]);
            sum.upto += len as u64;
        }
        Ok(len)
    }
}

/// The file, with a word to the system that it is read once and should not drive out what is read again.
fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Advice, fadvise};
    let file = File::open(path)?;
    for advice in [Advice::Sequential, Advice::NoReuse] {
        // Only a hint.
        let _ = fadvise(&file, 0, None, advice);
    }
    Ok(file)
}

fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read_at(&mut buffer[len..], offset + len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn list(folder: &Path) -> io::Result<Vec<FileEntry>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let name = entry.file_name().into_string();
        if let (true, Ok(name)) = (metadata.is_file(), name) {
            let size = metadata.len();
            files.push(FileEntry { name, size });
        }
    }
    files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn nothing() -> StoreError {
    StoreError::Engine {
        doing: "make a checkpoint",
        source: "nothing was ever applied".into(),
    }
}

fn no_such_file() -> StoreError {
    failed("read a checkpoint", io::ErrorKind::NotFound.into())
}

pub(super) fn failed(doing: &'static str, source: io::Error) -> StoreError {
    StoreError::Engine {
        doing,
        source: Box::new(source),
    }
}
