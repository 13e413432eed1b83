//! What the tests of the log share: opening it on a disk, entries, callbacks that remember.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod model;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use store::fs::WalFs;
use store::log::{Done, Log, LogError, LogOptions, Recovered, Worker};
use store::{Entry, LogId, Payload};

pub(crate) fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds of so many runs, others each time; `SEED` is one alone. Who fails names the seed of the run.
pub(crate) fn seeds(runs: u64) -> Range<u64> {
    let (first, runs) = match from_env("SEED") {
        Some(seed) => (seed, 1),
        // The tests of mutants name a first seed: whether one is caught must not be a matter of luck.
        None => {
            let first = from_env("FIRST_SEED").unwrap_or_else(|| rand::random::<u32>().into());
            (first, runs)
        }
    };
    eprintln!("SEED={first}");
    first..first + runs
}

pub(crate) fn options(segment_bytes: u64) -> LogOptions {
    LogOptions {
        segment_bytes,
        ..LogOptions::new(0xc1, 0x3e)
    }
}

pub(crate) fn open(
    fs: &(impl WalFs + Clone + 'static),
    options: &LogOptions,
) -> Result<(Log, Worker, Recovered), LogError> {
    Log::open(Arc::new(fs.clone()), options.clone())
}

pub(crate) fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

/// An entry whose bytes tell its id.
pub(crate) fn entry(term: u64, index: u64, size: usize) -> Entry {
    let text = format!("{term}/{index} ");
    let bytes: Vec<u8> = text.bytes().cycle().take(size).collect();
    Entry {
        id: id(term, index),
        payload: Payload::Commands(bytes.into()),
    }
}

pub(crate) fn entries(term: u64, range: Range<u64>, size: usize) -> Vec<Entry> {
    range.map(|index| entry(term, index, size)).collect()
}

pub(crate) fn commands(bytes: &'static [u8]) -> Payload {
    Payload::Commands(Bytes::from_static(bytes))
}

/// Remembers the results of callbacks in the order in which they came.
#[derive(Clone, Default)]
pub(crate) struct Results(Arc<Mutex<Vec<(usize, bool)>>>);

impl Results {
    pub(crate) fn done(&self, number: usize) -> Done {
        let results = self.0.clone();
        Box::new(move |result: io::Result<()>| results.lock().push((number, result.is_ok())))
    }

    pub(crate) fn taken(&self) -> Vec<(usize, bool)> {
        std::mem::take(&mut self.0.lock())
    }
}

pub(crate) fn ignored() -> Done {
    Box::new(|_| {})
}

/// The last of all that were acknowledged.
pub(crate) fn must() -> Done {
    Box::new(|result| result.expect("the write succeeds"))
}

/// All entries that are there.
pub(crate) fn all(log: &Log) -> Result<Vec<Entry>, LogError> {
    log.entries(log.range(), usize::MAX)
}
