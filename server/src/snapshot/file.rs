//! A snapshot file: a database, and behind it the SHA-256 of it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::{Failure, Progress};
use crate::text::human;

/// Bytes of a digest.
pub(super) const DIGEST: usize = 32;

/// A database is whole sectors, so a file with a digest is as much longer.
const SECTOR: u64 = 512;

/// Opens a file for reading.
pub(super) fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()).into())
}

/// Whether a file of this size ends in a digest.
pub(super) fn has_digest(size: u64) -> bool {
    size % SECTOR == DIGEST as u64
}

/// Compares the digest at the end of a file with that of what is before it.
pub(super) fn check_digest(path: &Path, file: &File) -> Result<(), Failure> {
    let shown = path.display();
    let failed = |error: io::Error| Failure::from(format!("cannot read {shown}: {error}"));
    let size = file.metadata().map_err(failed)?.len();
    if !has_digest(size) {
        return Err(format!(
            "{shown} has no digest at its end: it is not a whole snapshot, or a copy of a database file; \
             take the latter with --skip-hash-check"
        )
        .into());
    }
    let (mut progress, mut digest) = (Progress::new(), Sha256::new());
    let mut left = size - DIGEST as u64;
    let mut buffer = vec![0; 1 << 20];
    let mut reader = file;
    while left > 0 {
        let len = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        reader.read_exact(&mut buffer[..len]).map_err(failed)?;
        digest.update(&buffer[..len]);
        left -= len as u64;
        progress.tell(|| {
            format!(
                "checking the digest: {} of {}",
                human(size - left),
                human(size)
            )
        });
    }
    let mut expected = [0; DIGEST];
    reader.read_exact(&mut expected).map_err(failed)?;
    let found = digest.finalize();
    if found[..] != expected {
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        return Err(format!(
            "{shown} is damaged: its SHA-256 is {}, and its end says {}",
            hex(&found),
            hex(&expected)
        )
        .into());
    }
    Ok(())
}
