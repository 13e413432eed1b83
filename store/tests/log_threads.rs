//! The log under several threads, on a real folder.

mod log_common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use log_common::{all, entries, id, ignored, must, options};
use store::fs::{RealFs, WalFs, observed};
use store::log::{Log, LogOptions};

#[test]
fn closing_writes_everything_and_ends_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Log::open(Arc::new(RealFs::new(folder.path())), options(1 << 20)).unwrap();
    let (log, worker, _) = open();
    let thread = std::thread::spawn(move || worker.run());
    log.append(entries(1, 0..1000, 100), must());
    log.save_committed(id(1, 990));
    drop(log);
    thread.join().unwrap();

    let (log, _worker, recovered) = open();
    assert_eq!(
        (recovered.last, recovered.committed),
        (Some(id(1, 999)), Some(id(1, 990)))
    );
    assert_eq!(all(&log).unwrap(), entries(1, 0..1000, 100));
}

#[test]
fn readers_see_whole_entries_while_the_log_is_written_purged_and_rolled_over() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        tail_bytes: 20_000,
        ..options(64 << 10)
    };
    let (log, worker, _) =
        Log::open(Arc::new(RealFs::new(folder.path())), options.clone()).unwrap();
    let writer = std::thread::spawn(move || worker.run());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut reads = 0;
                while reads == 0 || !is_over.load(Ordering::Relaxed) {
                    let range = log.range();
                    let Ok(found) = log.entries(range.clone(), 1 << 20) else {
                        continue;
                    };
                    for (index, entry) in range.zip(&found) {
                        assert_eq!(*entry, log_common::entry(1, index, 200));
                    }
                    reads += found.len();
                }
            });
        }
        for start in (0..4000).step_by(20) {
            log.append(entries(1, start..start + 20, 200), must());
            if start % 200 == 100 {
                log.wait_synced(start + 19).unwrap();
            }
            if start % 1000 == 500 {
                log.purge(id(1, start - 300), must());
            }
        }
        log.wait_synced(3999).unwrap();
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(log.range(), 3201..4000);
    log.close();
    writer.join().unwrap();
    // What the keeper had no time to remove goes after the next start, here by the worker itself when it has written.
    let fs = Arc::new(RealFs::new(folder.path()));
    let (log, mut worker, _) = Log::open(fs, options).unwrap();
    log.append(entries(1, 4000..4001, 200), must());
    worker.run_once();
    let segments = std::fs::read_dir(folder.path()).unwrap().count();
    assert!(segments < 8, "{segments} segments left");
}

#[test]
fn an_observer_sees_the_syncs_that_writes_wait_for() {
    let folder = tempfile::tempdir().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let fs: Arc<dyn WalFs> = Arc::new(RealFs::new(folder.path()));
    let fs = observed(
        fs,
        Arc::new(move |sync| {
            counted.fetch_add(1, Ordering::Relaxed);
            sync()
        }),
    );
    let (log, mut worker, _) = Log::open(fs, options(4096)).unwrap();
    let opened = count.load(Ordering::Relaxed);
    log.append(entries(1, 0..2, 10), must());
    log.append(entries(1, 2..4, 10), must());
    worker.run_once();
    assert_eq!(count.load(Ordering::Relaxed), opened + 1);
}

/// Prints how fast the log is; run it by name with `--ignored --nocapture`.
#[test]
#[ignore = "prints figures and asserts nothing: cargo test -p holdfast-store --test log_threads -- --ignored --nocapture"]
#[expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "figures are what it is for"
)]
fn figures_of_appends() {
    const SECONDS: f64 = 2.0;
    for batch in [1, 16, 256] {
        let folder = tempfile::tempdir_in(".").unwrap();
        let (log, worker, _) =
            Log::open(Arc::new(RealFs::new(folder.path())), LogOptions::new(1, 1)).unwrap();
        let thread = std::thread::spawn(move || worker.run());
        let payload = entries(1, 0..1, 256).remove(0).payload;
        let (started, mut index, mut laps) = (Instant::now(), 0, Vec::new());
        while started.elapsed().as_secs_f64() < SECONDS {
            let (tx, rx) = mpsc::channel();
            let entries = (index..index + batch)
                .map(|index| store::Entry {
                    id: id(1, index),
                    payload: payload.clone(),
                })
                .collect();
            let lap = Instant::now();
            log.append(entries, Box::new(move |result| tx.send(result).unwrap()));
            rx.recv().unwrap().unwrap();
            laps.push(lap.elapsed());
            index += batch;
            if index % (batch * 1024) == 0 {
                log.purge(id(1, index.saturating_sub(1000 * batch)), ignored());
            }
        }
        let rate = index as f64 / started.elapsed().as_secs_f64();
        laps.sort();
        let percentile = |percent: usize| laps[(laps.len() - 1) * percent / 100];
        println!(
            "batch {batch}: {rate:.0} entries/s, p50 {:?}, p99 {:?}",
            percentile(50),
            percentile(99)
        );
        log.close();
        thread.join().unwrap();
    }
}
