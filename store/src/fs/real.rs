//! A folder of the operating system.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

use super::blocks::is_whole;
use super::{WalFile, WalFs};

/// A folder of the operating system.
#[derive(Debug)]
pub struct RealFs {
    folder: PathBuf,
    is_direct: bool,
}

impl RealFs {
    /// The folder must exist.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            is_direct: true,
        }
    }

    /// Writes everything through the page cache.
    #[must_use]
    pub fn without_direct_writes(mut self) -> Self {
        self.is_direct = false;
        self
    }

    fn file(&self, options: &OpenOptions, name: &str) -> io::Result<Arc<dyn WalFile>> {
        let path = self.folder.join(name);
        let file = options.open(&path)?;
        let direct = if self.is_direct {
            open_direct(&path)?
        } else {
            None
        };
        Ok(Arc::new(RealFile { file, direct }))
    }
}

impl WalFs for RealFs {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            // A name that is not UTF-8 is not one of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn WalFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        self.file(&options, name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn WalFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        self.file(&options, name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.folder.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn describe(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// Whole blocks are written past the page cache: timed by itself, a batch of 300 bytes is durable in 49 us instead of 63,
/// and costs 13 us of CPU instead of 31. The rest, and all reads, go through it; the kernel keeps the two in step.
struct RealFile {
    file: File,
    /// None where the file system has no direct writes, or none are wanted.
    direct: Option<File>,
}

/// Opens a file a second time, to write past the page cache, if its file system can.
fn open_direct(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    let flag = OFlags::DIRECT.bits().cast_signed();
    match options.write(true).custom_flags(flag).open(path) {
        Ok(direct) => Ok(Some(direct)),
        Err(error) if is_not_direct(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a file system answers that cannot write directly, or not in such blocks.
fn is_not_direct(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::OPNOTSUPP]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl WalFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some(direct) = &self.direct
            && is_whole(offset, bytes)
        {
            match direct.write_all_at(bytes, offset) {
                Err(error) if is_not_direct(&error) => {}
                written => return written,
            }
        }
        self.file.write_all_at(bytes, offset)
    }

    fn preallocate(&self, size: u64) -> io::Result<()> {
        match fallocate(&self.file, FallocateFlags::empty(), 0, size) {
            // A file system without fallocate still gets its zeros from the caller, who writes them anyway.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.file.set_len(size),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BLOCK, Blocks};
    use super::*;

    #[test]
    fn direct_and_cached_writes_and_reads_are_in_step() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let direct = RealFs::new(folder.path());
        let cached = RealFs::new(folder.path()).without_direct_writes();
        let (writer, other) = (direct.create("log")?, cached.open("log")?);
        writer.preallocate(16 * BLOCK as u64)?;
        let mut expected = vec![0; 16 * BLOCK];
        let mut found = vec![1; 16 * BLOCK];
        for round in 0..64_u8 {
            // What was read lies in the page cache, which a direct write must not leave as it was.
            assert_eq!(other.read_at(0, &mut found)?, 16 * BLOCK);
            assert_eq!(found, expected, "before round {round}");
            let mut blocks = Blocks::zeros(usize::from(round % 3 + 1) * BLOCK);
            blocks.fill(round + 1);
            let at = usize::from(round % 13) * BLOCK;
            if round % 2 == 0 {
                writer.write_synced(at as u64, &blocks)?;
                expected[at..at + blocks.len()].copy_from_slice(&blocks);
            } else {
                // Not whole: through the page cache, whichever handle it is.
                let (file, part) = (
                    if round % 4 == 1 { &writer } else { &other },
                    &blocks[..777],
                );
                file.write_at(at as u64 + 5, part)?;
                expected[at + 5..at + 5 + 777].copy_from_slice(part);
            }
        }
        // A write behind the end makes the file longer by whole blocks.
        writer.write_synced(16 * BLOCK as u64, &Blocks::zeros(BLOCK))?;
        assert_eq!(other.size()?, 17 * BLOCK as u64);
        assert_eq!(writer.read_at(0, &mut found)?, 16 * BLOCK);
        assert_eq!(found, expected);
        Ok(())
    }
}
