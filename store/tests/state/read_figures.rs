//! Figures of reads, printed and not judged: `cargo test --release -p holdfast-store --test state read_figures -- --ignored --nocapture`.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "to measure and to print is what it is for"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::command::command::Op;
use proto::etcd::etcdserverpb::RangeRequest;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::engine::memory::MemoryEngine;
use store::{Machine, Options};

use crate::commands::{entry, put, range};
use crate::engines::{Bench, Rocks};

fn key(number: usize) -> String {
    format!("/registry/pods/default/pod-{number:08}")
}

/// Puts all keys once, 1,000 a batch; answers the next log index.
fn load(machine: &mut Machine, keys: usize, value: &str, mut index: u64) -> u64 {
    let numbers: Vec<usize> = (0..keys).collect();
    for chunk in numbers.chunks(1000) {
        let ops = chunk.iter().map(|&n| Op::Put(put(&key(n), value)));
        machine.apply(&[entry(index, ops.collect())]).unwrap();
        index += 1;
    }
    index
}

fn timed<T>(what: &str, times: u32, mut run: impl FnMut() -> T) -> T {
    let start = Instant::now();
    let mut last = run();
    for _ in 1..times {
        last = black_box(run());
    }
    println!("{what:60} {:10.3?}", start.elapsed() / times);
    last
}

#[test]
#[ignore = "prints figures and judges nothing: cargo test -p holdfast-store --test state read_figures -- --ignored --nocapture"]
fn counting() {
    for keys in [1_000, 10_000, 100_000, 1_000_000] {
        let engine = Arc::new(MemoryEngine::new());
        let mut machine = Machine::open(engine, Options::default()).unwrap();
        load(&mut machine, keys, "", 1);
        let reader = machine.reader();
        let view = reader.view();
        let count = |request: RangeRequest| {
            let request = RangeRequest {
                count_only: true,
                ..request
            };
            let answer = reader.range(&view, &request).unwrap().unwrap();
            usize::try_from(answer.count).unwrap()
        };
        let what = format!("count of {keys} keys");
        let all = timed(&what, 10_000, || count(range("/registry/", "/registry0")));
        assert_eq!(all, keys);
        let what = format!("count of all but one of {keys} keys");
        let (first, last) = (key(1), key(keys));
        let but_one = timed(&what, 10_000, || count(range(&first, &last)));
        assert_eq!(but_one, keys - 1);
    }
}

#[test]
#[ignore = "prints figures and judges nothing: cargo test -p holdfast-store --test state read_figures -- --ignored --nocapture"]
fn hashing() {
    const KEYS: usize = 500_000;
    let rocks = Rocks::new();
    let mut machine = Machine::open(rocks.engine(), Options::default()).unwrap();
    let mut index = load(&mut machine, KEYS, &"v".repeat(256), 1);
    for what in [
        "in memtables and files",
        "flushed",
        "twice as many versions",
    ] {
        let reader = machine.reader();
        let what = format!("HashKV of {KEYS} keys of 256 bytes, {what}");
        timed(&what, 3, || {
            let hash = reader.hash_kv(&reader.view(), 0, &|| true);
            hash.unwrap().unwrap()
        });
        machine.flush().unwrap();
        if what.ends_with("flushed") {
            index = load(&mut machine, KEYS, &"w".repeat(256), index);
        }
    }
    rocks.engine().flush().unwrap();
    assert!(index > 1);
}

/// What views that are held for lists cost the writer.
#[test]
#[ignore = "prints figures and judges nothing: cargo test -p holdfast-store --test state read_figures -- --ignored --nocapture"]
fn holding() {
    const KEYS: usize = 500_000;
    const BATCH: usize = 64;
    let mut random = StdRng::seed_from_u64(1);
    let mut machine = Machine::open(Arc::new(MemoryEngine::new()), Options::default()).unwrap();
    let mut index = load(&mut machine, KEYS, &"v".repeat(256), 1);
    let page = RangeRequest {
        limit: 500,
        ..range("/registry/", "/registry0")
    };
    // Batches between two lists that stop at their limit; at 50,000 puts a second, 40 of them take 50 ms.
    for every in [0, 1000, 200, 40] {
        let entries: Vec<_> = (0..2000)
            .map(|number| {
                let puts = (0..BATCH).map(|_| {
                    let key = key(random.random_range(0..KEYS));
                    Op::Put(put(&key, &"w".repeat(256)))
                });
                entry(index + number, puts.collect())
            })
            .collect();
        index += 2000;
        let reader = machine.reader();
        let (mut took, mut most) = (Duration::ZERO, 0);
        for (number, entry) in entries.iter().enumerate() {
            if every > 0 && number % every == 0 {
                let now = Duration::from_secs(number as u64);
                reader.note_page(&reader.view(), &page, true, now);
            }
            let start = Instant::now();
            black_box(machine.apply(std::slice::from_ref(entry)).unwrap());
            took += start.elapsed();
            if number % 10 == 0 {
                reader
                    .expire_pages(Duration::from_secs(number as u64).min(Duration::from_secs(59)));
                most = most.max(reader.holding().views);
            }
        }
        let each = took / u32::try_from(entries.len() * BATCH).unwrap();
        println!("a put, a list every {every:4} batches, at most {most:2} views: {each:?}");
    }
}
