//! Every single bit of a log flipped: at rest, before a start, and under a running log.
//!
//! A flip is refused with a message that names the file, or it is provably harmless. Nothing wrong is ever served.
#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of tests are small"
)]

mod log_common;

use std::sync::atomic::{AtomicU64, Ordering};

use log_common::model::Model;
use log_common::{all, entries, id, must, open, options};
use store::fs::{SimFs, WalFs};
use store::log::dump::{self, Content};
use store::log::{Log, LogError, LogOptions, Worker};
use store::{Entry, Membership, Payload, Vote};

fn log_options() -> LogOptions {
    LogOptions {
        tail_bytes: 0,
        ..options(4096)
    }
}

/// A log with records of every kind in two segments and a blank one; everything in it is acknowledged and marked.
fn written(disk: &SimFs) -> (Log, Worker) {
    let (log, mut worker, _) = open(disk, &log_options()).expect("the log opens");
    let vote = |term| Vote {
        term,
        voted_for: Some(3),
        committed: true,
    };
    log.save_vote(vote(1), must());
    log.append(entries(1, 0..3, 200), must());
    worker.run_once();
    let membership = Membership {
        voters: vec![[1, 2].into()],
        members: [1, 2, 3].into(),
    };
    let special = [Payload::Membership(membership), Payload::Blank];
    let special = (3..).zip(special).map(|(index, payload)| Entry {
        id: id(1, index),
        payload,
    });
    log.append(special.collect(), must());
    log.append(entries(1, 5..9, 300), must());
    worker.run_once();
    log.truncate_after(Some(id(1, 7)), must());
    log.save_vote(vote(2), must());
    log.append(entries(2, 8..13, 300), must());
    log.purge(id(1, 1), must());
    log.save_committed(id(1, 7));
    worker.run_once();
    log.append(entries(2, 13..15, 100), must());
    worker.run_once();
    worker.mark();
    (log, worker)
}

fn segments(disk: &SimFs) -> Vec<(String, usize)> {
    let mut names = disk.list().expect("the folder can be listed");
    names.sort();
    let size = |name: &str| disk.contents(name).expect("it is there").len();
    names
        .into_iter()
        .map(|name| (size(&name), name))
        .map(|(size, name)| (name, size))
        .collect()
}

/// Calls `check` for each bit of the log, on as many threads as there are.
fn for_each_bit(disk: &SimFs, check: &(dyn Fn(&str, usize, u8) + Sync)) -> u64 {
    let bits: Vec<_> = segments(disk)
        .into_iter()
        .flat_map(|(name, size)| (0..size * 8).map(move |bit| (name.clone(), bit)))
        .collect();
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((name, bit)) =
                    bits.get(next.fetch_add(1, Ordering::Relaxed) as usize)
                {
                    check(name, bit / 8, (bit % 8) as u8);
                }
            });
        }
    });
    bits.len() as u64
}

#[test]
fn a_flipped_bit_is_refused_at_the_start_or_changes_nothing() {
    let disk = SimFs::new(1);
    let (log, worker) = written(&disk);
    let expected = Model::read(&log).expect("the log can be read");
    drop((log, worker));
    let (refused, cut, clean) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let flips = for_each_bit(&disk, &|name, byte, bit| {
        let what = format!("{name}, byte {byte}, bit {bit}");
        let disk = disk.duplicate();
        disk.flip(name, byte, bit).expect("the byte is there");
        match open(&disk, &log_options()) {
            Err(error) => {
                assert!(error.to_string().contains(".wal"), "{what}: {error}");
                assert!(!matches!(error, LogError::Io { .. }), "{what}: {error}");
                refused.fetch_add(1, Ordering::Relaxed);
                // The dump gets through all the same, and says where it is.
                let items: Vec<_> = dump::read(&disk).expect("it can be listed").collect();
                let tells = items.iter().any(|item| {
                    let content = &item.content;
                    matches!(content, Content::Damage { .. } | Content::TornTail { .. })
                });
                let is_foreign = matches!(error, LogError::Foreign { .. });
                assert!(tells || is_foreign, "{what}: {error}, but not in the dump");
            }
            Ok((log, _worker, recovered)) => {
                assert_eq!(
                    Model::read(&log).expect("it can be read"),
                    expected,
                    "{what}"
                );
                // Beyond the mark nothing is known: the end of the log, or zeros that were never written.
                let counter = if recovered.cut.is_some() {
                    &cut
                } else {
                    &clean
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let (refused, cut) = (refused.into_inner(), cut.into_inner());
    let clean = clean.into_inner();
    eprintln!(
        "{flips} flips: {refused} refused, {cut} behind the end and cut, {clean} without effect"
    );
    assert!(refused > 10_000 && cut > 10_000);
}

#[test]
fn a_bit_flipped_under_a_running_log_is_never_served() {
    let disk = SimFs::new(1);
    let (log, _worker) = written(&disk);
    let expected = all(&log).expect("the log can be read");
    let (mut refused, mut harmless) = (0, 0);
    for (name, size) in segments(&disk) {
        for bit in 0..size * 8 {
            disk.flip(&name, bit / 8, (bit % 8) as u8)
                .expect("it is there");
            match all(&log) {
                Err(error) => {
                    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
                    assert!(error.to_string().contains(&name), "{error}");
                    refused += 1;
                }
                Ok(found) => {
                    assert_eq!(found, expected, "{name}, bit {bit}");
                    harmless += 1;
                }
            }
            disk.flip(&name, bit / 8, (bit % 8) as u8)
                .expect("it is there");
        }
    }
    eprintln!("{refused} refused, {harmless} outside of entries");
    assert!(refused > 10_000, "{refused}");
}
