//! Writes that are left to who waits for them: the thread that needs an entry durable writes it itself.

mod log_common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use log_common::{Results, all, entries, entry, id, ignored, must, open, options};
use store::fs::{RealFs, SimFs};
use store::log::{LITTLE, Log};
use store::{Entry, Payload, Vote};

const VOTE: Vote = Vote {
    term: 1,
    voted_for: Some(1),
    committed: true,
};

#[test]
fn what_is_left_is_durable_when_who_waits_for_it_goes_on() {
    let disk = SimFs::new(1);
    let (log, _worker, _) = open(&disk, &options(64 << 10)).unwrap();
    let results = Results::default();
    log.append_left(vec![entry(1, 0, 100)], results.done(1))
        .unwrap();
    assert_eq!(all(&log).unwrap(), entries(1, 0..1, 100), "it can be read");
    assert_eq!((log.synced_index(), results.taken()), (None, vec![]));
    log.save_committed(id(1, 0));
    log.make_durable(0).unwrap();
    assert_eq!(results.taken(), [(1, true)]);
    let before = disk.operations();
    log.make_durable(0).unwrap();
    assert_eq!(disk.operations(), before, "once is enough");
    disk.crash();
    let (log, _worker, recovered) = open(&disk, &options(64 << 10)).unwrap();
    assert_eq!(all(&log).unwrap(), entries(1, 0..1, 100));
    assert_eq!(recovered.committed, Some(id(1, 0)));
}

#[test]
fn only_a_little_is_left_and_only_when_nothing_else_waits() {
    let disk = SimFs::new(1);
    let (log, mut worker, _) = open(&disk, &options(64 << 10)).unwrap();
    let is_left = |new: Vec<Entry>| log.append_left(new, must()).is_ok();
    let with = |payload| Entry {
        id: id(1, 0),
        payload,
    };
    assert!(!is_left(vec![]));
    assert!(!is_left(entries(1, 0..2, 10)));
    assert!(!is_left(vec![with(Payload::Blank)]));
    assert!(!is_left(vec![with(Payload::Membership(
        store::Membership::default()
    ))]));
    assert!(!is_left(vec![entry(1, 0, LITTLE + 1)]));
    assert!(is_left(vec![entry(1, 0, LITTLE)]));
    assert!(!is_left(vec![entry(1, 1, 10)]), "something waits already");
    worker.run_once();
    log.save_vote(VOTE, must());
    assert!(!is_left(vec![entry(1, 1, 10)]), "a vote waits");
    log.append(vec![entry(1, 1, 10)], must());
    log.make_durable(1).unwrap();

    // The next segment may have to be waited for, which is the worker's affair.
    let mut index = 2;
    while is_left(vec![entry(1, index, LITTLE)]) {
        log.make_durable(index).unwrap();
        index += 1;
    }
    assert!((4..8).contains(&index), "{index}");
    log.append(entries(1, index..index + 5, LITTLE), must());
    worker.run_once();
    assert!(
        is_left(vec![entry(1, index + 5, 10)]),
        "there is room again"
    );
}

#[test]
fn what_is_queued_behind_it_stays_for_the_worker() {
    let disk = SimFs::new(1);
    let (log, mut worker, _) = open(&disk, &options(64 << 10)).unwrap();
    log.append_left(vec![entry(1, 0, 10)], must()).unwrap();
    log.append(entries(1, 1..100, 1000), must());
    log.truncate_after(Some(id(1, 5)), must());
    log.append(entries(2, 6..8, 10), must());
    log.save_committed(id(2, 7));
    log.make_durable(0).unwrap();
    assert_eq!(log.synced_index(), Some(0));
    let after_power_cut = || {
        let disk = disk.duplicate();
        disk.crash();
        let (log, _worker, recovered) = open(&disk, &options(64 << 10)).unwrap();
        (all(&log).unwrap(), recovered.committed)
    };
    assert_eq!(after_power_cut(), (entries(1, 0..1, 10), None));
    assert_eq!(worker.run_once(), 3);
    let (found, committed) = after_power_cut();
    assert_eq!(found[0], entry(1, 0, 10));
    assert_eq!(found[1..6], entries(1, 1..6, 1000));
    assert_eq!(found[6..], entries(2, 6..8, 10));
    assert_eq!(committed, Some(id(2, 7)));
    assert_eq!(log.synced_index(), Some(7));
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "what a worker does after a while is what it is about"
)]
fn what_nobody_comes_for_is_written_by_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(1 << 20);
    options.quiet = Duration::from_millis(5);
    let fs = Arc::new(RealFs::new(folder.path()));
    let (log, worker, _) = Log::open(fs, options).unwrap();
    let thread = std::thread::spawn(move || worker.run());
    for index in 0..20 {
        // It sleeps for good in the first rounds, and looks for quiet in the others.
        std::thread::sleep(Duration::from_millis(if index < 5 { 40 } else { 1 }));
        if let Err(new) = log.append_left(vec![entry(1, index, 10)], must()) {
            log.append(new, must());
        }
        log.wait_synced(index).unwrap();
    }
    log.close();
    thread.join().unwrap();
}

#[test]
fn a_failure_is_told_to_who_writes_and_to_all_that_follow() {
    let disk = SimFs::new(1);
    let (log, _worker, _) = open(&disk, &options(64 << 10)).unwrap();
    let results = Results::default();
    disk.fail_sync_after(0);
    log.append_left(vec![entry(1, 0, 10)], results.done(1))
        .unwrap();
    assert!(log.make_durable(0).is_err());
    assert_eq!(results.taken(), [(1, false)]);
    assert!(log.make_durable(0).is_err());
    assert!(log.append_left(vec![entry(1, 1, 10)], ignored()).is_err());
    log.append(vec![entry(1, 1, 10)], results.done(2));
    assert_eq!(results.taken(), [(2, false)]);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "what a worker does after a while is what it is about"
)]
fn the_worker_and_those_who_write_themselves_do_not_get_in_each_others_way() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(128 << 10);
    options.quiet = Duration::from_micros(200);
    let open = || Log::open(Arc::new(RealFs::new(folder.path())), options.clone()).unwrap();
    let (log, worker, _) = open();
    let thread = std::thread::spawn(move || worker.run());
    let synced = Arc::new(AtomicU64::new(0));
    let left = std::thread::scope(|scope| {
        scope.spawn(|| {
            for term in 1..300 {
                log.save_vote(Vote { term, ..VOTE }, must());
                log.save_committed(id(1, log.synced_index().unwrap_or(0)));
                std::thread::sleep(Duration::from_micros(term % 3 * 100));
            }
        });
        let mut left = 0;
        for index in 0..2000 {
            let done = || {
                let synced = synced.clone();
                Box::new(move |result: std::io::Result<()>| {
                    result.unwrap();
                    assert_eq!(synced.swap(index + 1, Ordering::SeqCst), index, "in order");
                })
            };
            match log.append_left(vec![entry(1, index, 300)], done()) {
                Ok(()) => left += 1,
                Err(new) => log.append(new, done()),
            }
            if index % 3 > 0 {
                log.make_durable(index).unwrap();
            }
        }
        left
    });
    assert!(left > 100, "only {left} were left");
    log.close();
    thread.join().unwrap();
    drop(log);
    let (log, _worker, recovered) = open();
    assert_eq!(all(&log).unwrap(), entries(1, 0..2000, 300));
    assert_eq!(recovered.vote.map(|vote| vote.term), Some(299));
}
