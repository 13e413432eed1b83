//! Figures of speed and memory, printed and not judged: `cargo test -p holdfast-store --test state -- --ignored --nocapture`.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::fs;
use std::hint::black_box;
use std::sync::Arc;

use proto::command::command::Op;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use store::engine::StateEngine;
use store::engine::memory::MemoryEngine;
use store::{Entry, Machine, Options};

use crate::commands::{entry, put, range};
use crate::engines::{Bench, Rocks};

const KEYS: usize = 500_000;

fn key(number: usize) -> String {
    format!("/registry/pods/default/pod-{number:08}")
}

fn entries(numbers: &[usize], batch: usize, value: &str, from: u64) -> Vec<Entry> {
    let ops = |chunk: &[usize]| {
        chunk
            .iter()
            .map(|&n| Op::Put(put(&key(n), value)))
            .collect()
    };
    numbers
        .chunks(batch)
        .zip(from..)
        .map(|(chunk, index)| entry(index, ops(chunk)))
        .collect()
}

fn resident_mib() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() / 256
}

/// CPU seconds that this thread used; elapsed time says little on a shared machine.
fn cpu_seconds() -> f64 {
    let times = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    times.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn per_item(what: &str, items: usize, run: impl FnOnce()) {
    let start = cpu_seconds();
    run();
    let took = cpu_seconds() - start;
    let each = took * 1e6 / items as f64;
    println!(
        "{what:44} {each:8.3} us each, {took:.3} s in all, {} MiB resident",
        resident_mib()
    );
}

fn figures(name: &str, engine: Arc<dyn StateEngine>) {
    println!("--- {name}, {} MiB resident", resident_mib());
    let mut random = StdRng::seed_from_u64(1);
    let mut machine = Machine::open(engine, Options::default()).unwrap();
    let value = "v".repeat(256);
    let mut numbers: Vec<usize> = (0..KEYS).collect();
    numbers.shuffle(&mut random);
    let mut index = 1;
    for (what, share, batch) in [
        ("load in random order, 64 a batch", KEYS, 64),
        ("update, 64 a batch", 200_000, 64),
        ("update, 16 a batch", 100_000, 16),
        ("update, 1 a batch", 50_000, 1),
    ] {
        let chunk = 50_000.min(share);
        let mut took = 0.0;
        for part in numbers[..share].chunks(chunk) {
            let log = entries(part, batch, &value, index);
            index += log.len() as u64;
            let start = cpu_seconds();
            for entry in &log {
                black_box(machine.apply(std::slice::from_ref(entry)).unwrap());
            }
            took += cpu_seconds() - start;
        }
        let each = took * 1e6 / share as f64;
        println!(
            "{what:44} {each:8.3} us each, {} MiB resident",
            resident_mib()
        );
    }
    let reader = machine.reader();
    let view = reader.view();
    let wanted: Vec<_> = (0..200_000)
        .map(|_| range(&key(random.random_range(0..KEYS)), ""))
        .collect();
    per_item("get", wanted.len(), || {
        wanted
            .iter()
            .for_each(|request| drop(black_box(reader.range(&view, request).unwrap().unwrap())));
    });
    let lists = (0..1000).map(|_| random.random_range(0..KEYS - 500));
    let lists: Vec<_> = lists.map(|n| range(&key(n), &key(n + 500))).collect();
    per_item("list of 500, gathered", lists.len(), || {
        lists
            .iter()
            .for_each(|request| drop(black_box(reader.range(&view, request).unwrap().unwrap())));
    });
    let mut out = Vec::with_capacity(1 << 20);
    per_item("list of 500, visited and copied", lists.len(), || {
        for request in &lists {
            out.clear();
            let visited = reader.range_visit(&view, request, &mut |record| {
                out.extend_from_slice(record.encoded());
            });
            black_box(visited.unwrap().unwrap());
        }
    });
    per_item("count of 500", lists.len(), || {
        for request in &lists {
            let request = proto::etcd::etcdserverpb::RangeRequest {
                count_only: true,
                ..request.clone()
            };
            black_box(reader.range(&view, &request).unwrap().unwrap());
        }
    });
}

/// What it costs to ask for the present engine at each call.
#[test]
#[ignore = "prints figures and judges nothing: cargo test -p holdfast-store --test state figures -- --ignored --nocapture"]
fn forwarding() {
    const CALLS: usize = 2_000_000;
    let rocks = Rocks::new();
    let engines: [(&str, Arc<dyn StateEngine>); 2] = [
        ("memory", Arc::new(MemoryEngine::new())),
        ("rocksdb", rocks.engine()),
    ];
    for (name, engine) in engines {
        let mut machine = Machine::open(engine.clone(), Options::default()).unwrap();
        machine.apply(&entries(&[1, 2, 3], 1, "value", 1)).unwrap();
        let forwarding = machine.reader().swap_engine();
        let asked: [(&str, &dyn StateEngine); 2] =
            [("direct", &*engine), ("forwarded", &forwarding)];
        for (how, engine) in asked {
            let get = |times: usize| {
                for _ in 0..times {
                    let mut len = 0;
                    let meta = store::engine::Family::Meta;
                    engine
                        .get(meta, b"state", &mut |found| len = found.len())
                        .unwrap();
                    black_box(len);
                }
            };
            get(CALLS / 20);
            per_item(&format!("get, {name}, {how}"), CALLS, || get(CALLS));
        }
    }
}

#[test]
#[ignore = "prints figures and judges nothing: cargo test -p holdfast-store --test state figures -- --ignored --nocapture"]
fn memory_engine() {
    figures("memory engine", Arc::new(MemoryEngine::new()));
}

#[test]
#[ignore = "prints figures and judges nothing: cargo test -p holdfast-store --test state figures -- --ignored --nocapture"]
fn rocksdb_engine() {
    let mut rocks = Rocks::new();
    figures("rocksdb engine", rocks.engine());
    println!("after the machine is gone: {} MiB resident", resident_mib());
    rocks.restart();
    let mut machine = None;
    per_item("open: rebuild the index", KEYS, || {
        machine = Some(Machine::open(rocks.engine(), Options::default()).unwrap());
    });
    let mut machine = machine.unwrap();
    let mut loaded = 0;
    per_item("warm", KEYS, || {
        while let count @ 1.. = machine.warm(4096).unwrap() {
            loaded += count;
        }
    });
    println!("{loaded} values loaded");
}
