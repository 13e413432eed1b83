//! Reading closed segments again finds every flipped bit, and never blames a sound log.

mod log_common;

use log_common::{entries, must, open, options};
use store::fs::{SimFs, WalFs};
use store::log::{Log, LogError, LogPlace, Worker};

const SEGMENT: u64 = 4096;

/// A log of several segments.
fn written(disk: &SimFs) -> (Log, Worker) {
    let (log, mut worker, _) = open(disk, &options(SEGMENT)).expect("the log opens");
    for start in (0..60).step_by(6) {
        log.append(entries(1, start..start + 6, 120), must());
        worker.run_once();
    }
    worker.mark();
    (log, worker)
}

/// Reads everything in pieces; gives how many bytes there were.
fn verify(log: &Log, budget: usize) -> Result<u64, LogError> {
    let mut place = LogPlace::default();
    let mut bytes = 0;
    loop {
        let verified = log.verify(place, budget)?;
        bytes += verified.bytes;
        match verified.next {
            Some(next) => place = next,
            None => return Ok(bytes),
        }
    }
}

#[test]
fn a_sound_log_is_read_in_pieces_of_any_size() {
    let disk = SimFs::new(1);
    let (log, mut worker) = written(&disk);
    let bytes = verify(&log, 1 << 20).unwrap();
    assert!(bytes > SEGMENT, "{bytes}");
    for budget in [0, 1, 37, 149, 150, 4096] {
        assert_eq!(verify(&log, budget).unwrap(), bytes, "{budget}");
    }
    // What is purged meanwhile is left out, wherever the reader was.
    let place = log.verify(LogPlace::default(), 200).unwrap().next.unwrap();
    log.purge(log_common::id(1, 40), must());
    worker.run_once();
    let next = log.verify(place, 1 << 20).unwrap();
    assert!(next.next.is_some_and(|next| next != place));
    assert!(verify(&log, 100).unwrap() < bytes);
    // Also after a start.
    drop(log);
    worker.run_once();
    drop(worker);
    let (log, _worker, _) = open(&disk, &options(SEGMENT)).unwrap();
    assert!(verify(&log, 100).unwrap() < bytes);
}

#[test]
fn every_flipped_bit_of_a_closed_segment_is_found_and_named() {
    let disk = SimFs::new(1);
    let (log, _worker) = written(&disk);
    let bytes = verify(&log, 1000).unwrap();
    let mut names = disk.list().unwrap();
    names.sort();
    let name = &names[0];
    let end = disk.contents(name).unwrap();
    let end = end.iter().rposition(|byte| *byte != 0).unwrap();
    for offset in 0..=end {
        for bit in [0, 7] {
            disk.flip(name, offset, bit).unwrap();
            match verify(&log, 1000) {
                Err(LogError::Damaged {
                    file, offset: at, ..
                }) => {
                    assert!(
                        file.contains(name.as_str()) && at <= offset as u64,
                        "{file} {at}"
                    );
                }
                other => panic!("byte {offset} bit {bit}: {other:?}"),
            }
            disk.flip(name, offset, bit).unwrap();
        }
    }
    assert_eq!(verify(&log, 1000).unwrap(), bytes);
}
