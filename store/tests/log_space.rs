//! A log whose disk has no space for the next segment: it waits, loses nothing, and goes on.

#![allow(
    clippy::disallowed_methods,
    reason = "a test waits for threads, with a limit"
)]

mod log_common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use log_common::{Results, all, entries, options};
use store::Vote;
use store::fs::{SimFs, WalFile, WalFs};
use store::log::Log;

/// A folder in which no file can be made while the disk is full. What is there can be written: its blocks are taken.
#[derive(Clone)]
struct Scarce {
    inner: SimFs,
    is_full: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
}

impl Scarce {
    fn new() -> Self {
        Self {
            inner: SimFs::new(1),
            is_full: Arc::default(),
            refused: Arc::default(),
        }
    }

    fn fill(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }
}

impl WalFs for Scarce {
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn WalFile>> {
        if self.is_full.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.create(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn WalFile>> {
        self.inner.open(name)
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

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_full_disk_is_waited_out_and_the_log_goes_on() {
    let disk = Scarce::new();
    let open = || Log::open(Arc::new(disk.clone()), options(16 << 10)).unwrap();
    let (log, worker, _) = open();
    let thread = std::thread::spawn(move || worker.run());
    wait_for("the next segment", || log.is_next_ready());

    disk.fill(true);
    let results = Results::default();
    let (mut appended, since) = (0, Instant::now());
    // More than this segment and the next one hold.
    while !log.is_starved() {
        log.append(entries(1, appended..appended + 1, 1000), results.done(0));
        appended += 1;
        assert!(since.elapsed().as_secs() < 20, "where does it go?");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!log.is_next_ready());
    let acknowledged = results.taken().len() as u64;
    assert!(acknowledged < appended && log.failure().is_none());
    assert_eq!(log.synced_index(), acknowledged.checked_sub(1));
    // What waits is not acknowledged, and can be read.
    wait_for("several tries", || disk.refused.load(Ordering::Relaxed) > 2);
    assert_eq!(all(&log).unwrap(), entries(1, 0..appended, 1000));
    assert_eq!(results.taken().len(), 0);

    disk.fill(false);
    log.wait_synced(appended - 1).unwrap();
    assert!(!log.is_starved());
    wait_for("the next segment", || log.is_next_ready());
    log.append(entries(1, appended..appended + 40, 1000), results.done(0));
    log.wait_synced(appended + 39).unwrap();
    assert!(results.taken().iter().all(|(_, is_ok)| *is_ok));
    drop(log);
    thread.join().unwrap();
    let (log, _worker, recovered) = open();
    assert_eq!(recovered.cut, None);
    assert_eq!(all(&log).unwrap(), entries(1, 0..appended + 40, 1000));
}

#[test]
fn a_log_that_waits_for_space_can_be_closed() {
    let disk = Scarce::new();
    let open = || Log::open(Arc::new(disk.clone()), options(16 << 10)).unwrap();
    let (log, worker, _) = open();
    let thread = std::thread::spawn(move || worker.run());
    wait_for("the next segment", || log.is_next_ready());
    disk.fill(true);
    let results = Results::default();
    let mut appended = 0;
    while !log.is_starved() {
        log.append(entries(1, appended..appended + 1, 1000), results.done(0));
        appended += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    log.close();
    thread.join().unwrap();
    let results = results.taken();
    let acknowledged = results.iter().filter(|(_, is_ok)| *is_ok).count() as u64;
    assert_eq!(results.len() as u64, appended, "nobody is left waiting");
    assert!(acknowledged < appended);
    drop(log);

    disk.fill(false);
    let (log, _worker, _) = open();
    let kept = all(&log).unwrap();
    assert!(kept.len() as u64 >= acknowledged);
    assert_eq!(kept, entries(1, 0..kept.len() as u64, 1000));
}

#[test]
fn a_log_that_is_full_to_the_brim_opens_again_and_takes_votes_without_space() {
    let disk = Scarce::new();
    let open = || Log::open(Arc::new(disk.clone()), options(16 << 10)).unwrap();
    let (log, worker, _) = open();
    let thread = std::thread::spawn(move || worker.run());
    wait_for("the next segment", || log.is_next_ready());
    disk.fill(true);
    let results = Results::default();
    let mut appended = 0;
    while !log.is_starved() {
        // So small that hardly a byte of the segment is left over.
        log.append(entries(1, appended..appended + 1, 1), results.done(0));
        appended += 1;
        if appended % 50 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    log.close();
    thread.join().unwrap();
    drop(log);
    for term in 2..6 {
        let (log, worker, _) = open();
        let thread = std::thread::spawn(move || worker.run());
        let voted = Results::default();
        let vote = Vote {
            term,
            ..Vote::default()
        };
        log.save_vote(vote, voted.done(0));
        wait_for("the vote", || {
            assert!(!log.is_starved(), "the vote of term {term} waits for space");
            !voted.taken().is_empty()
        });
        log.close();
        thread.join().unwrap();
    }
}
