//! What is written to the log is there after a restart, in the order of the calls.

mod log_common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use log_common::{Results, all, commands, entries, entry, id, must, open, options};
use store::fs::{SimFs, WalFs, observed};
use store::log::{Log, LogError, LogOptions};
use store::{Entry, Membership, Payload, Vote};

const SEGMENT: u64 = 4096;

#[test]
fn a_fresh_log_is_empty() {
    let disk = SimFs::new(1);
    for _ in 0..3 {
        let (log, _worker, recovered) = open(&disk, &options(SEGMENT)).unwrap();
        assert_eq!(recovered, Default::default());
        assert_eq!(
            (log.last(), log.vote(), log.committed(), log.synced_index()),
            (None, None, None, None)
        );
        assert!(log.entries(0..0, 0).unwrap().is_empty());
    }
}

#[test]
fn every_kind_of_payload_is_read_back_as_written() {
    let disk = SimFs::new(1);
    let (log, mut worker, _) = open(&disk, &options(SEGMENT)).unwrap();
    let membership = Membership {
        voters: vec![BTreeSet::from([1, 2, u64::MAX]), BTreeSet::from([1])],
        members: BTreeSet::from([1, 2, 7, u64::MAX]),
    };
    let payloads = [
        Payload::Blank,
        commands(b""),
        commands(b"\0\xff"),
        Payload::Membership(membership),
    ];
    let written: Vec<Entry> = (0..)
        .zip(payloads)
        .map(|(index, payload)| Entry {
            id: id(index / 2, index),
            payload,
        })
        .collect();
    log.append(written.clone(), must());
    assert_eq!(
        all(&log).unwrap(),
        written,
        "entries can be read before they are written"
    );
    worker.run_once();

    let (log, _worker, recovered) = open(&disk, &options(SEGMENT)).unwrap();

    assert_eq!(recovered.last, Some(id(1, 3)));
    assert_eq!(all(&log).unwrap(), written);
}

#[test]
fn vote_committed_truncation_and_purge_are_recovered() {
    let disk = SimFs::new(1);
    let (log, mut worker, _) = open(&disk, &options(SEGMENT)).unwrap();
    let vote = Vote {
        term: 2,
        voted_for: Some(0x3e),
        committed: true,
    };
    log.append(entries(1, 0..10, 50), must());
    log.save_vote(
        Vote {
            term: 1,
            voted_for: None,
            committed: false,
        },
        must(),
    );
    log.truncate_after(Some(id(1, 6)), must());
    log.append(entries(2, 7..9, 50), must());
    log.save_vote(vote, must());
    log.purge(id(1, 2), must());
    log.save_committed(id(1, 5));
    assert_eq!(worker.run_once(), 6);

    let (log, _worker, recovered) = open(&disk, &options(SEGMENT)).unwrap();

    assert_eq!(
        (recovered.vote, recovered.last_purged),
        (Some(vote), Some(id(1, 2)))
    );
    assert_eq!(
        (recovered.last, recovered.committed),
        (Some(id(2, 8)), Some(id(1, 5)))
    );
    assert_eq!(recovered.cut, None);
    assert_eq!((log.range(), log.synced_index()), (3..9, Some(8)));
    assert_eq!(
        all(&log).unwrap(),
        [entries(1, 3..7, 50), entries(2, 7..9, 50)].concat()
    );
}

#[test]
fn the_committed_id_is_written_by_the_mark_and_never_lies_beyond_the_last_entry() {
    let disk = SimFs::new(1);
    let (log, mut worker, _) = open(&disk, &options(SEGMENT)).unwrap();
    log.append(entries(1, 0..3, 10), must());
    worker.run_once();
    log.save_committed(id(1, 7));
    assert_eq!(worker.run_once(), 0, "it has no sync of its own");
    worker.mark();

    let (log, mut worker, recovered) = open(&disk, &options(SEGMENT)).unwrap();
    assert_eq!(recovered.committed, Some(id(1, 2)));
    log.append(entries(2, 3..10, 10), must());
    worker.run_once();

    let (_, _, recovered) = open(&disk, &options(SEGMENT)).unwrap();
    assert_eq!(
        recovered.committed,
        Some(id(1, 2)),
        "entries that came later do not count as committed"
    );
}

#[test]
fn purging_beyond_the_last_entry_leaves_an_empty_log_that_goes_on_behind_it() {
    let disk = SimFs::new(1);
    let (log, mut worker, _) = open(&disk, &options(SEGMENT)).unwrap();
    log.append(entries(1, 0..5, 10), must());
    log.purge(id(3, 99), must());
    assert_eq!(
        (log.last(), log.range(), log.synced_index()),
        (Some(id(3, 99)), 100..100, Some(99))
    );
    log.append(entries(3, 100..102, 10), must());
    worker.run_once();

    let (log, _worker, recovered) = open(&disk, &options(SEGMENT)).unwrap();

    assert_eq!(
        (recovered.last, recovered.last_purged),
        (Some(id(3, 101)), Some(id(3, 99)))
    );
    assert_eq!(all(&log).unwrap(), entries(3, 100..102, 10));
    assert_eq!(log.entry_id(99).unwrap(), Some(id(3, 99)));
    assert_eq!(log.entry_id(101).unwrap(), Some(id(3, 101)));
    assert_eq!(log.entry_id(102).unwrap(), None);
}

#[test]
fn a_log_over_many_segments_is_recovered_and_purging_removes_whole_ones() {
    let disk = SimFs::new(1);
    let options = options(SEGMENT);
    let (log, mut worker, _) = open(&disk, &options).unwrap();
    for start in (0..200).step_by(10) {
        log.append(entries(1, start..start + 10, 100), must());
        worker.run_once();
    }
    let before = disk.list().unwrap().len();
    assert!(before > 5, "{before} segments");

    let (log, mut worker, recovered) = open(&disk, &options).unwrap();
    assert_eq!(recovered.last, Some(id(1, 199)));
    assert_eq!(all(&log).unwrap(), entries(1, 0..200, 100));
    log.purge(id(1, 180), must());
    worker.run_once();
    let after = disk.list().unwrap().len();
    assert!(after < before && after <= 3, "{after} segments left");
    assert_eq!(all(&log).unwrap(), entries(1, 181..200, 100));

    let (log, _worker, recovered) = open(&disk, &options).unwrap();
    assert_eq!(recovered.last_purged, Some(id(1, 180)));
    assert_eq!(all(&log).unwrap(), entries(1, 181..200, 100));
}

#[test]
fn an_entry_larger_than_a_segment_is_kept() {
    let disk = SimFs::new(1);
    let (log, mut worker, _) = open(&disk, &options(SEGMENT)).unwrap();
    let written = vec![
        entry(1, 0, 10),
        entry(1, 1, 30_000),
        entry(1, 2, 10),
        entry(1, 3, 50_000),
    ];
    log.append(written.clone(), must());
    worker.run_once();

    let (log, _worker, _) = open(&disk, &options(SEGMENT)).unwrap();
    assert_eq!(all(&log).unwrap(), written);
}

#[test]
fn the_segment_after_the_active_one_is_made_ahead() {
    let disk = SimFs::new(1);
    let (log, mut worker, _) = open(&disk, &options(SEGMENT)).unwrap();
    // Opening does not wait for it; the first step of the worker does.
    log.append(entries(1, 0..3, 100), must());
    worker.run_once();
    for start in (3..60).step_by(3) {
        let last = disk.list().unwrap().into_iter().max().unwrap();
        assert!(
            disk.contents(&last).unwrap().iter().all(|byte| *byte == 0),
            "{last} is in use already"
        );
        log.append(entries(1, start..start + 3, 100), must());
        worker.run_once();
    }
}

#[test]
fn reads_are_whole_unless_the_byte_limit_cuts_them() {
    let disk = SimFs::new(1);
    let (log, mut worker, _) = open(
        &disk,
        &LogOptions {
            tail_bytes: 2000,
            ..options(SEGMENT)
        },
    )
    .unwrap();
    for start in (0..100).step_by(4) {
        log.append(entries(1, start..start + 4, 100), must());
        worker.run_once();
    }
    let read = |range, max_bytes| log.entries(range, max_bytes).unwrap();
    assert_eq!(
        read(0..100, usize::MAX),
        entries(1, 0..100, 100),
        "from disk and memory"
    );
    assert_eq!(read(10..20, 350), entries(1, 10..13, 100), "from disk");
    assert_eq!(
        read(10..20, 300),
        entries(1, 10..13, 100),
        "the limit itself is allowed"
    );
    assert_eq!(read(97..100, 299), entries(1, 97..99, 100), "from memory");
    assert_eq!(read(50..90, 0), entries(1, 50..51, 100), "one at least");
    log.purge(id(1, 9), must());
    for range in [0..20, 9..10, 90..101, 100..101, 200..300] {
        let error = log.entries(range.clone(), usize::MAX).unwrap_err();
        assert!(
            matches!(
                error,
                LogError::Absent {
                    first: 10,
                    end: 100,
                    ..
                }
            ),
            "{range:?}: {error}"
        );
    }
}

#[test]
fn a_truncation_during_a_sync_keeps_replaced_entries_from_passing_for_synced() {
    let log: Arc<OnceLock<Log>> = Arc::default();
    let (other, calls) = (Arc::clone(&log), AtomicU64::new(0));
    let around_sync = move |sync: &mut dyn FnMut() -> std::io::Result<()>| {
        if let Some(log) = other.get()
            && calls.fetch_add(1, Ordering::Relaxed) == 0
        {
            log.truncate_after(Some(id(1, 1)), must());
            log.append(entries(2, 2..4, 10), must());
        }
        sync()
    };
    let fs = observed(Arc::new(SimFs::new(1)), Arc::new(around_sync));
    let (opened, mut worker, _) = Log::open(
        fs,
        LogOptions {
            tail_bytes: 0,
            ..options(SEGMENT)
        },
    )
    .unwrap();
    let log = log.get_or_init(|| opened);
    log.append(entries(1, 0..4, 10), must());

    worker.run_once();
    assert_eq!((log.last(), log.synced_index()), (Some(id(2, 3)), Some(1)));
    assert_eq!(
        all(log).unwrap(),
        [entries(1, 0..2, 10), entries(2, 2..4, 10)].concat()
    );

    worker.run_once();
    assert_eq!(log.synced_index(), Some(3));
    assert_eq!(
        all(log).unwrap(),
        [entries(1, 0..2, 10), entries(2, 2..4, 10)].concat()
    );
}

#[test]
fn a_purge_that_is_still_queued_costs_no_segment_that_the_durable_log_needs() {
    let disk = SimFs::new(1);
    let log: Arc<OnceLock<Log>> = Arc::default();
    let (other, is_purging) = (Arc::clone(&log), Arc::new(AtomicBool::new(false)));
    let purge_now = Arc::clone(&is_purging);
    let around_sync = move |sync: &mut dyn FnMut() -> std::io::Result<()>| {
        if let Some(log) = other.get()
            && purge_now.swap(false, Ordering::Relaxed)
        {
            log.purge(id(1, 90), Box::new(|_| {}));
        }
        sync()
    };
    let fs = observed(Arc::new(disk.clone()), Arc::new(around_sync));
    let (opened, mut worker, _) = Log::open(fs, options(SEGMENT)).unwrap();
    let log = log.get_or_init(|| opened);
    for start in (0..100).step_by(10) {
        log.append(entries(1, start..start + 10, 100), must());
        worker.run_once();
    }
    is_purging.store(true, Ordering::Relaxed);
    log.purge(id(1, 10), must());
    worker.run_once();
    assert_eq!(log.last_purged(), Some(id(1, 90)));
    disk.crash();

    let (log, _worker, recovered) = open(&disk, &options(SEGMENT)).unwrap();
    assert_eq!(recovered.last_purged, Some(id(1, 10)));
    assert_eq!(all(&log).unwrap(), entries(1, 11..100, 100));
}

#[test]
fn bytes_since_counts_what_a_restart_would_replay() {
    let disk = SimFs::new(1);
    let (log, mut worker, _) = open(&disk, &options(SEGMENT)).unwrap();
    for start in (0..100).step_by(10) {
        log.append(entries(1, start..start + 10, 100), must());
        worker.run_once();
    }
    let behind_half = log.bytes_since(49);
    assert!(
        (50 * 129..50 * 129 + 1000).contains(&behind_half),
        "{behind_half}"
    );
    assert_eq!(log.bytes_since(99), 0);
    let (log, _worker, _) = open(&disk, &options(SEGMENT)).unwrap();
    let again = log.bytes_since(49);
    assert!((behind_half..behind_half + 100).contains(&again), "{again}");
}

#[test]
fn callbacks_come_in_order_after_the_sync() {
    let disk = SimFs::new(1);
    let (log, mut worker, _) = open(&disk, &options(SEGMENT)).unwrap();
    let results = Results::default();
    log.append(entries(1, 0..3, 10), results.done(0));
    log.save_vote(
        Vote {
            term: 1,
            voted_for: Some(1),
            committed: true,
        },
        results.done(1),
    );
    log.append(Vec::new(), results.done(2));
    log.truncate_after(Some(id(1, 1)), results.done(3));
    log.purge(id(1, 0), results.done(4));
    assert_eq!(results.taken(), []);
    assert_eq!(log.synced_index(), Some(0), "purged entries need no sync");
    assert_eq!(worker.run_once(), 5);
    assert_eq!(
        results.taken(),
        [(0, true), (1, true), (2, true), (3, true), (4, true)]
    );
    assert_eq!(log.synced_index(), Some(1));
    assert_eq!(worker.run_once(), 0);
}

#[test]
fn a_hole_is_refused_and_stops_the_log() {
    let disk = SimFs::new(1);
    let (log, mut worker, _) = open(&disk, &options(SEGMENT)).unwrap();
    let results = Results::default();
    log.append(entries(1, 0..3, 10), results.done(0));
    log.append(entries(1, 4..5, 10), results.done(1));
    log.append(entries(1, 3..4, 10), results.done(2));
    assert_eq!(results.taken(), [(1, false), (2, false)]);
    worker.run_once();
    assert_eq!(results.taken(), [(0, true)]);
    assert!(log.failure().is_some());
}

#[test]
fn another_members_log_is_refused() {
    let disk = SimFs::new(1);
    drop(open(&disk, &options(SEGMENT)).unwrap());
    let other = LogOptions {
        member_id: 0x99,
        ..options(SEGMENT)
    };
    let error = open(&disk, &other).map(drop).unwrap_err();
    assert!(
        matches!(
            error,
            LogError::Foreign {
                found_member: 0x3e,
                member: 0x99,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("0000000001.wal"), "{error}");
}
