//! The disk alone: what one write and `fdatasync` cost with nothing around them.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::args::Args;
use crate::histogram::{Histogram, Latency};
use crate::load;
use crate::random::Random;

/// Zero-filled, as a log segment is: a write into it changes no metadata.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
const WRITE_BYTES: usize = 256;

/// What a series of writes found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Syncs {
    /// Number of writes.
    pub(crate) writes: u64,
    /// Of a write and its `fdatasync`.
    pub(crate) latency: Latency,
}

/// `bench fdatasync`.
pub(crate) fn main(args: &Args) -> Result<()> {
    let folder = args.text("folder").unwrap_or(".");
    let duration = load::seconds(args, "seconds")?.unwrap_or(Duration::from_secs(5));
    println!(
        "{}",
        serde_json::to_string_pretty(&measure(Path::new(folder), duration)?)?
    );
    Ok(())
}

/// Writes and syncs into a file in `folder` for `duration`, and removes the file.
pub(crate) fn measure(folder: &Path, duration: Duration) -> Result<Syncs> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let path = folder.join(format!("fdatasync-{}", std::process::id()));
    let _removal = Removal(path.clone());
    write_and_sync(&path, duration).with_context(|| format!("writing {}", path.display()))
}

fn write_and_sync(path: &Path, duration: Duration) -> Result<Syncs> {
    let file: File = OpenOptions::new().write(true).create_new(true).open(path)?;
    let zeros = vec![0; 1 << 20];
    for place in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, place)?;
    }
    file.sync_all()?;
    let latencies = Histogram::new();
    let (mut random, mut bytes) = (Random::new(1), [0; WRITE_BYTES]);
    let stop = Instant::now() + duration;
    let mut place = 0;
    loop {
        random.fill(&mut bytes);
        let begin = Instant::now();
        if begin >= stop {
            return Ok(Syncs {
                writes: latencies.count(),
                latency: latencies.latency(),
            });
        }
        file.write_all_at(&bytes, place)?;
        file.sync_data()?;
        latencies.record(u64::try_from(begin.elapsed().as_nanos())?);
        place = (place + WRITE_BYTES as u64) % FILE_BYTES;
    }
}

/// Removes a file on every way out.
struct Removal(PathBuf);

impl Drop for Removal {
    fn drop(&mut self) {
        // Nothing can be done about it, and a left-over file of 64 MiB harms no measurement.
        let _ = fs::remove_file(&self.0);
    }
}
