//! Faults of the disk: a torn tail is cut, damage is refused, a failed sync stops the log.

mod log_common;

use std::collections::BTreeMap;

use log_common::{Results, all, entries, id, must, open, options};
use store::fs::{SimFs, WalFs};
use store::log::dump::{self, Content};
use store::log::{Log, LogError, LogOptions, Worker};
use store::{Entry, Vote};

const SEGMENT: u64 = 4096;
const VOTE: Vote = Vote {
    term: 1,
    voted_for: Some(5),
    committed: true,
};

/// A log of three segments in use and a blank one, with everything acknowledged and marked.
fn written(disk: &SimFs) -> (Log, Worker, Vec<Entry>) {
    let (log, mut worker, _) = open(disk, &options(SEGMENT)).expect("the log opens");
    log.save_vote(VOTE, must());
    for start in (0..60).step_by(6) {
        log.append(entries(1, start..start + 6, 120), must());
        worker.run_once();
    }
    worker.mark();
    let entries = all(&log).expect("the log can be read");
    (log, worker, entries)
}

fn segments(disk: &SimFs) -> Vec<String> {
    let mut names = disk.list().expect("the folder can be listed");
    names.sort();
    names
}

/// One behind the last byte that is not zero.
fn written_end(disk: &SimFs, name: &str) -> usize {
    disk.contents(name)
        .expect("the segment exists")
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

fn active(disk: &SimFs) -> String {
    segments(disk)
        .into_iter()
        .rfind(|name| written_end(disk, name) > 0)
        .expect("a segment is in use")
}

fn refused(disk: &SimFs) -> LogError {
    open(disk, &options(SEGMENT))
        .map(drop)
        .expect_err("the log is refused")
}

#[test]
fn a_torn_tail_is_cut_and_described() {
    let disk = SimFs::new(1);
    let (log, mut worker, acknowledged) = written(&disk);
    let name = active(&disk);
    let synced = written_end(&disk, &name);
    log.append(entries(1, 60..63, 120), must());
    worker.run_once();
    // The second of the three entries did not reach the disk.
    disk.flip(&name, synced + 29 + 149 + 100, 3).unwrap();

    let (log, mut worker, recovered) = open(&disk, &options(SEGMENT)).unwrap();

    let cut = recovered.cut.expect("the tail is cut");
    assert!(cut.file.ends_with(&name), "{cut}");
    assert!(cut.offset > synced as u64 && cut.bytes > 200, "{cut}");
    assert!(cut.to_string().contains("checksum"), "{cut}");
    assert_eq!(recovered.last, Some(id(1, 60)));
    assert_eq!(log.entries(0..60, usize::MAX).unwrap(), acknowledged);
    // What lay behind the cut never comes back.
    log.append(entries(2, 61..62, 120), must());
    worker.run_once();
    let (log, _, recovered) = open(&disk, &options(SEGMENT)).unwrap();
    assert_eq!((recovered.last, recovered.cut), (Some(id(2, 61)), None));
    assert_eq!(
        log.entries(61..62, usize::MAX).unwrap(),
        entries(2, 61..62, 120)
    );
}

#[test]
fn damage_below_a_synced_offset_is_refused_with_file_and_advice() {
    let disk = SimFs::new(1);
    let (_log, _worker, _) = written(&disk);
    for name in segments(&disk)
        .into_iter()
        .filter(|name| written_end(&disk, name) > 0)
    {
        let damaged = disk.fork(1);
        damaged.flip(&name, 400, 0).unwrap();
        let before = damaged.contents(&name).unwrap();
        let error = refused(&damaged);
        assert!(matches!(error, LogError::Damaged { .. }), "{error}");
        let message = error.to_string();
        assert!(
            message.contains(&name) && message.contains("holdfast dump"),
            "{message}"
        );
        assert_eq!(
            damaged.contents(&name).unwrap(),
            before,
            "a refused log is left as it is"
        );
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_or_harmless() {
    let disk = SimFs::new(1);
    let (_log, _worker, acknowledged) = written(&disk);
    let (mut noticed, mut harmless) = (0, 0);
    for name in segments(&disk) {
        for offset in 0..disk.contents(&name).unwrap().len() {
            let flipped = disk.fork(1);
            flipped
                .flip(&name, offset, u8::try_from(offset % 8).unwrap())
                .unwrap();
            match open(&flipped, &options(SEGMENT)) {
                Err(error) => {
                    assert!(
                        error.to_string().contains(".wal"),
                        "{name} {offset}: {error}"
                    );
                    noticed += 1;
                }
                Ok((log, _, recovered)) => {
                    assert_eq!(recovered.vote, Some(VOTE), "{name} {offset}");
                    assert_eq!(all(&log).unwrap(), acknowledged, "{name} {offset}");
                    harmless += 1;
                }
            }
        }
    }
    assert!(
        noticed > 9000,
        "only {noticed} noticed, {harmless} harmless"
    );
}

#[test]
fn a_flipped_bit_without_a_mark_costs_at_most_the_last_batch() {
    let disk = SimFs::new(1);
    let (log, mut worker, acknowledged) = written(&disk);
    log.append(entries(1, 60..61, 120), must());
    worker.run_once();
    let name = active(&disk);
    for offset in 0..written_end(&disk, &name) {
        let flipped = disk.fork(1);
        flipped.flip(&name, offset, 1).unwrap();
        if let Ok((log, _, recovered)) = open(&flipped, &options(SEGMENT)) {
            assert_eq!(
                log.entries(0..60, usize::MAX).unwrap(),
                acknowledged,
                "{offset}"
            );
            assert!(
                recovered.cut.is_some(),
                "{offset}: what is gone is reported"
            );
        }
    }
}

#[test]
fn a_missing_segment_is_refused_by_name() {
    let disk = SimFs::new(1);
    let (_log, _worker, _) = written(&disk);
    let names: Vec<String> = segments(&disk)
        .into_iter()
        .filter(|name| written_end(&disk, name) > 0)
        .collect();
    assert!(names.len() >= 3);
    for name in &names {
        let damaged = disk.fork(1);
        damaged.remove(name).unwrap();
        let error = refused(&damaged);
        assert!(matches!(error, LogError::Missing { .. }), "{name}: {error}");
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    let blank = segments(&disk).pop().unwrap();
    disk.remove(&blank).unwrap();
    assert!(
        open(&disk, &options(SEGMENT)).is_ok(),
        "the segment made ahead holds nothing"
    );
}

#[test]
fn a_segment_left_from_a_purge_is_no_hole() {
    let disk = SimFs::new(1);
    let (log, mut worker, _) = written(&disk);
    let (first, second) = (segments(&disk)[0].clone(), segments(&disk)[1].clone());
    let kept = disk.contents(&first).unwrap();
    log.purge(id(1, 55), must());
    worker.run_once();
    assert!(!disk.list().unwrap().contains(&second));
    // The removal of the first did not reach the disk, that of the second did.
    disk.create(&first).unwrap().write_at(0, &kept).unwrap();

    let (log, mut worker, recovered) = open(&disk, &options(SEGMENT)).unwrap();

    assert_eq!(recovered.last_purged, Some(id(1, 55)));
    assert_eq!(all(&log).unwrap(), entries(1, 56..60, 120));
    log.append(entries(1, 60..61, 1), must());
    worker.run_once();
    assert!(
        !disk.list().unwrap().contains(&first),
        "it is removed at last"
    );
}

#[test]
fn a_segment_of_another_history_is_refused() {
    let (disk, other) = (SimFs::new(1), SimFs::new(1));
    let (_log, _worker, _) = written(&disk);
    let (log, mut worker, _) = open(&other, &options(SEGMENT)).unwrap();
    for start in (0..60).step_by(6) {
        log.append(entries(2, start..start + 6, 120), must());
        worker.run_once();
    }
    let second = segments(&disk)[1].clone();
    let foreign = other.contents(&second).unwrap();
    disk.open(&second).unwrap().write_at(0, &foreign).unwrap();
    let error = refused(&disk);
    assert!(
        matches!(error, LogError::Damaged { offset: 0, .. }),
        "{error}"
    );
    assert!(error.to_string().contains(&second), "{error}");
}

#[test]
fn a_shortened_segment_is_refused() {
    let disk = SimFs::new(1);
    let (_log, _worker, _) = written(&disk);
    for name in segments(&disk)
        .into_iter()
        .filter(|name| written_end(&disk, name) > 0)
    {
        for size in [4095, 2000, 600] {
            let damaged = disk.fork(1);
            damaged.truncate(&name, size).unwrap();
            let error = refused(&damaged);
            assert!(error.to_string().contains(&name), "{name} {size}: {error}");
        }
    }
}

#[test]
fn after_a_failed_sync_every_call_fails_and_nothing_is_retried() {
    let disk = SimFs::new(1);
    let (log, mut worker, acknowledged) = written(&disk);
    let results = Results::default();
    disk.fail_sync_after(0);
    log.append(entries(1, 60..61, 10), results.done(0));
    log.save_vote(VOTE, results.done(1));
    worker.run_once();
    let operations = disk.operations();
    log.append(entries(1, 61..62, 10), results.done(2));
    log.purge(id(1, 3), results.done(3));
    log.truncate_after(Some(id(1, 59)), results.done(4));
    worker.run_once();
    worker.mark();
    assert_eq!(
        results.taken(),
        [(0, false), (1, false), (2, false), (3, false), (4, false)]
    );
    assert_eq!(disk.operations(), operations, "the disk is left alone");
    assert!(matches!(log.wait_synced(60), Err(LogError::Stopped(_))));
    assert_eq!(
        log.entries(0..60, usize::MAX).unwrap(),
        acknowledged,
        "what was acknowledged can be read"
    );
    disk.crash();
    let (log, _, _) = open(&disk, &options(SEGMENT)).unwrap();
    assert_eq!(log.entries(0..60, usize::MAX).unwrap(), acknowledged);
}

#[test]
fn a_full_disk_fails_the_append_that_needs_a_segment_and_loses_nothing() {
    let disk = SimFs::new(1);
    let (log, mut worker, acknowledged) = written(&disk);
    disk.set_capacity(Some(5 * 4096));
    let results = Results::default();
    let mut index = 60;
    while log.failure().is_none() {
        log.append(entries(1, index..index + 1, 120), results.done(0));
        worker.run_once();
        index += 1;
    }
    assert_eq!(
        log.failure().unwrap().kind(),
        std::io::ErrorKind::StorageFull
    );
    let succeeded = results.taken().iter().filter(|(_, is_ok)| *is_ok).count() as u64;
    disk.crash();
    disk.set_capacity(None);
    let (log, _, _) = open(&disk, &options(SEGMENT)).unwrap();
    let expected = [acknowledged, entries(1, 60..60 + succeeded, 120)].concat();
    assert_eq!(
        log.entries(0..60 + succeeded, usize::MAX).unwrap(),
        expected
    );
}

#[test]
fn an_unreadable_or_changed_entry_is_an_error_and_never_a_short_answer() {
    let disk = SimFs::new(1);
    let (log, _worker, _) = written(&disk);
    drop(log);
    let options = LogOptions {
        tail_bytes: 0,
        ..options(SEGMENT)
    };
    let (log, _worker, _) = open(&disk, &options).unwrap();
    let first = segments(&disk)[0].clone();
    disk.make_unreadable(Some(&first));
    assert!(matches!(
        log.entries(0..3, usize::MAX),
        Err(LogError::Io { .. })
    ));
    disk.make_unreadable(None);
    disk.flip(&first, 400, 0).unwrap();
    let error = log.entries(0..30, usize::MAX).unwrap_err();
    assert!(
        matches!(error, LogError::Damaged { .. }) && error.to_string().contains(&first),
        "{error}"
    );
    assert_eq!(
        log.entries(30..60, usize::MAX).unwrap(),
        entries(1, 30..60, 120)
    );
}

#[test]
fn the_dump_gets_past_damage_and_changes_nothing() {
    let disk = SimFs::new(1);
    let (log, mut worker, _) = written(&disk);
    log.append(entries(1, 60..63, 120), must());
    worker.run_once();
    let (first, last) = (segments(&disk)[0].clone(), active(&disk));
    disk.flip(&first, 400, 0).unwrap();
    disk.flip(&last, written_end(&disk, &last) - 10, 0).unwrap();
    let snapshot = |disk: &SimFs| -> BTreeMap<String, Vec<u8>> {
        segments(disk)
            .into_iter()
            .map(|name| (name.clone(), disk.contents(&name).unwrap()))
            .collect()
    };
    let before = snapshot(&disk);

    let items: Vec<_> = dump::read(&disk).unwrap().collect();

    let mut read: Vec<u64> = Vec::new();
    let (mut damage, mut torn, mut votes, mut seals) = (Vec::new(), Vec::new(), 0, 0);
    for item in &items {
        match &item.content {
            Content::Entry { id, .. } => read.push(id.index),
            Content::Damage { .. } => damage.push((item.segment.clone(), item.offset)),
            Content::TornTail { .. } => torn.push(item.segment.clone()),
            Content::Vote(vote) => {
                assert_eq!(*vote, VOTE);
                votes += 1;
            }
            Content::Seal => seals += 1,
            _ => {}
        }
    }
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!((&damage[0].0, &torn), (&first, &vec![last]));
    assert_eq!((votes, seals), (1, segments(&disk).len() - 2));
    assert_eq!(
        read.len(),
        61,
        "all but the damaged one and the torn one: {read:?}"
    );
    assert_eq!(snapshot(&disk), before);
}

#[test]
fn the_dump_names_missing_segments() {
    let disk = SimFs::new(1);
    let (_log, _worker, _) = written(&disk);
    let second = segments(&disk)[1].clone();
    disk.remove(&second).unwrap();
    let missing: Vec<String> = dump::read(&disk)
        .unwrap()
        .filter(|item| matches!(item.content, Content::Missing))
        .map(|item| item.segment)
        .collect();
    assert_eq!(missing, [second]);
}
