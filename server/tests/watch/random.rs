//! Random work, random readers: every watcher sees exactly what it should.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use proto::etcd::etcdserverpb::{WatchCreateRequest, WatchResponse};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use server::exec::Work;
use server::watch::{KeyRange, Options};
use store::engine::memory::MemoryEngine;

use super::world::{Client, Seen, World, seen};

/// A watcher as its client knows it.
struct Watched {
    request: WatchCreateRequest,
    /// From here on everything was to be told.
    start: i64,
    seen: Vec<Seen>,
    /// Of a response in fragments.
    fragments: Vec<Seen>,
    /// The header of the last response with events.
    told_up_to: i64,
    compacted: Option<i64>,
}

/// How often what the test is about happened at all.
#[derive(Debug, Default)]
struct Tally {
    events: usize,
    fragments: usize,
    progress: usize,
    compacted: usize,
    slow: usize,
    jumps: usize,
}

struct Reader {
    client: Client,
    requested: VecDeque<WatchCreateRequest>,
    watched: BTreeMap<i64, Watched>,
    ended: Vec<Watched>,
    fragments: usize,
    progress: usize,
}

impl Reader {
    fn new(world: &World) -> Self {
        Self {
            client: Client::new(world),
            requested: VecDeque::new(),
            watched: BTreeMap::new(),
            ended: Vec::new(),
            fragments: 0,
            progress: 0,
        }
    }

    fn receive(&mut self, world: &World) {
        for response in self.client.decode() {
            self.take(response, world);
        }
    }

    fn take(&mut self, response: WatchResponse, world: &World) {
        let revision = response.header.unwrap().revision;
        if response.created {
            let request = self.requested.pop_front().unwrap();
            assert!(!response.canceled, "{}", response.cancel_reason);
            let start = if request.start_revision == 0 {
                revision + 1
            } else {
                request.start_revision
            };
            let watched = Watched {
                request,
                start,
                seen: Vec::new(),
                fragments: Vec::new(),
                told_up_to: 0,
                compacted: None,
            };
            assert!(self.watched.insert(response.watch_id, watched).is_none());
            return;
        }
        if response.watch_id == -1 {
            assert!(response.events.is_empty() && !self.watched.is_empty());
            self.progress += 1;
            for watched in self.watched.values() {
                watched.check_progress(revision, world);
            }
            return;
        }
        let watched = self.watched.get_mut(&response.watch_id).unwrap();
        if response.canceled {
            watched.compacted =
                (response.compact_revision != 0).then_some(response.compact_revision);
            let watched = self.watched.remove(&response.watch_id).unwrap();
            self.ended.push(watched);
            return;
        }
        if response.events.is_empty() {
            assert!(watched.request.progress_notify);
            self.progress += 1;
            watched.check_progress(revision, world);
            return;
        }
        watched.fragments.extend(response.events.iter().map(seen));
        assert!(revision >= watched.fragments.last().unwrap().revision);
        if response.fragment {
            assert!(watched.request.fragment);
            self.fragments += 1;
            return;
        }
        let first = watched.fragments[0].revision;
        assert!(
            first > watched.told_up_to,
            "a revision was split, or its events came twice"
        );
        watched.told_up_to = revision;
        watched.seen.append(&mut watched.fragments);
    }
}

impl Watched {
    fn expected(&self, world: &World) -> Vec<Seen> {
        let range = KeyRange::new(&self.request.key, &self.request.range_end).unwrap();
        let wanted = world.events.iter().filter(|event| {
            let filter = i32::from(event.is_delete);
            event.revision >= self.start
                && range.contains(&event.key)
                && !self.request.filters.contains(&filter)
        });
        let strip = |event: &Seen| match self.request.prev_kv {
            true => event.clone(),
            false => Seen {
                previous: None,
                ..event.clone()
            },
        };
        wanted.map(strip).collect()
    }

    fn check_progress(&self, revision: i64, world: &World) {
        assert!(revision >= self.request.start_revision);
        let up_to = self
            .expected(world)
            .iter()
            .filter(|event| event.revision <= revision)
            .count();
        assert_eq!(
            self.seen.len(),
            up_to,
            "progress at {revision} before all events were told"
        );
        assert!(self.fragments.is_empty());
    }

    fn check(&self, world: &World, compacted: i64, is_complete: bool) {
        let expected = self.expected(world);
        assert!(self.fragments.is_empty());
        if is_complete {
            assert_eq!(self.seen.len(), expected.len(), "events are missing");
        }
        for (seen, expected) in self.seen.iter().zip(&expected) {
            // What was there before may be compacted by the time it is read.
            let may_lack_previous = seen.previous.is_none() && expected.revision - 1 < compacted;
            let previous = if may_lack_previous {
                None
            } else {
                expected.previous.clone()
            };
            assert_eq!(
                *seen,
                Seen {
                    previous,
                    ..expected.clone()
                }
            );
        }
        assert!(self.seen.len() <= expected.len());
        if let Some(compacted) = self.compacted {
            assert!(self.told_up_to + 1 < compacted && self.start < compacted);
        }
    }
}

fn key(random: &mut StdRng) -> Vec<u8> {
    let folder = ["a/", "b/", "c"][random.random_range(0..3)];
    format!("{folder}{}", random.random_range(0..6)).into_bytes()
}

fn value(random: &mut StdRng) -> Option<Vec<u8>> {
    let length = match random.random_range(0..100) {
        0 => 20_000,
        1..5 => 1000,
        5..30 => return None,
        _ => random.random_range(0..150),
    };
    Some(vec![random.random_range(b'a'..=b'z'); length])
}

fn watch(random: &mut StdRng, world: &World, compacted: i64) -> WatchCreateRequest {
    let (key, range_end): (Vec<u8>, &[u8]) = match random.random_range(0..6) {
        0 => (b"a/".to_vec(), b"a0"),
        1 => (b"b/".to_vec(), b"b0"),
        2 => (b"a/3".to_vec(), b"c2"),
        3 => (b"\0".to_vec(), b"\0"),
        4 => (b"b".to_vec(), b"\0"),
        _ => (key(random), b""),
    };
    let start_revision = match random.random_range(0..4) {
        0 => 0,
        1 => world.revision + random.random_range(0..20),
        // Sometimes just below what still exists.
        _ => random.random_range((compacted - 2).max(1)..=world.revision),
    };
    let filters = match random.random_range(0..8) {
        0 => vec![0],
        1 => vec![1],
        _ => vec![],
    };
    WatchCreateRequest {
        key: key.into(),
        range_end: Bytes::copy_from_slice(range_end),
        start_revision,
        progress_notify: random.random_bool(0.3),
        filters,
        prev_kv: random.random_bool(0.5),
        watch_id: 0,
        fragment: random.random_bool(0.5),
    }
}

fn write(random: &mut StdRng, world: &mut World) {
    let transactions = random.random_range(1..6);
    let transactions = (0..transactions).map(|_| {
        let edits: BTreeMap<Vec<u8>, Option<Vec<u8>>> = (0..random.random_range(1..5))
            .map(|_| (key(random), value(random)))
            .collect();
        edits.into_iter().collect()
    });
    let transactions = transactions.collect();
    world.write(transactions);
}

fn run(seed: u64, tally: &mut Tally) {
    let mut random = StdRng::seed_from_u64(seed);
    let with_compaction = random.random_bool(0.5);
    let options = Options {
        ring_bytes: random.random_range(1..20_000),
        stream_bytes: random.random_range(100..5000),
        message_bytes: random.random_range(300..3000),
        progress_interval: Duration::from_millis(500),
        queued_bytes: random.random_range(500..20_000),
        inbox_bytes: random.random_range(3_000..50_000),
        ..Options::default()
    };
    let mut memory = store::Options::default();
    if random.random_bool(0.3) {
        // Then what was before is read from the store.
        memory.value_budget_bytes = 0;
    }
    let mut world = World::with_memory(Arc::new(MemoryEngine::new()), memory, options);
    let mut compacted = -1;
    let mut readers: Vec<Reader> = (0..4).map(|_| Reader::new(&world)).collect();
    // How often each is polled; some hardly ever.
    let pace: Vec<f64> = readers
        .iter()
        .map(|_| random.random_range(0.01..1.0))
        .collect();
    let slow_watchers = |world: &World| world.hub.stats().slow_watchers.load(Ordering::Relaxed);
    for _ in 0..1500 {
        tally.slow += slow_watchers(&world);
        let number = random.random_range(0..readers.len());
        let reader = &mut readers[number];
        match random.random_range(0..100) {
            0..25 => write(&mut random, &mut world),
            25..40 => world.publish(),
            40..60 => drop(world.worker.step()),
            60..68 => drop(world.catch_up.step()),
            68..72 if reader.watched.len() + reader.requested.len() < 12 => {
                let request = watch(&mut random, &world, compacted);
                reader.requested.push_back(request.clone());
                reader.client.create(request);
            }
            72 => {
                let ids: Vec<i64> = reader.watched.keys().copied().collect();
                if !ids.is_empty() {
                    reader.client.cancel(ids[random.random_range(0..ids.len())]);
                }
            }
            73..76 => reader.client.progress(),
            76 if with_compaction
                && random.random_bool(0.3)
                && world.revision > compacted.max(1) =>
            {
                compacted = random.random_range(compacted.max(1) + 1..=world.revision);
                world.compact(compacted);
            }
            77 => world.clock.advance(Duration::from_millis(200)),
            78 if random.random_bool(0.1) => readers[number] = Reader::new(&world),
            79 if random.random_bool(0.2) => {
                tally.jumps += usize::from(!world.unpublished.is_empty());
                world.jump();
            }
            _ if random.random_bool(pace[number]) => {
                reader.client.poll();
                reader.receive(&world);
            }
            _ => {}
        }
    }
    world.publish();
    loop {
        let mut is_idle = !world.worker.has_work() && !world.catch_up.has_work();
        world.worker.step();
        world.catch_up.step();
        for reader in &mut readers {
            while reader.client.poll() {
                is_idle = false;
            }
            reader.receive(&world);
        }
        if is_idle {
            break;
        }
    }
    for reader in &readers {
        assert!(reader.requested.is_empty());
        assert_eq!(reader.client.trailers, None);
        reader
            .watched
            .values()
            .for_each(|watched| watched.check(&world, compacted, true));
        reader
            .ended
            .iter()
            .for_each(|watched| watched.check(&world, compacted, false));
    }
    assert_eq!(slow_watchers(&world), 0, "everybody who reads catches up");
    for reader in &readers {
        let all = reader.watched.values().chain(&reader.ended);
        tally.events += all.map(|watched| watched.seen.len()).sum::<usize>();
        tally.fragments += reader.fragments;
        tally.progress += reader.progress;
        tally.compacted += reader
            .ended
            .iter()
            .filter(|watched| watched.compacted.is_some())
            .count();
    }
}

#[test]
fn every_watcher_gets_exactly_its_events_in_order_whatever_the_interleaving() {
    let mut tally = Tally::default();
    for seed in 0..80 {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, &mut tally)));
        if let Err(panic) = outcome {
            eprintln!("seed {seed}");
            resume_unwind(panic);
        }
    }
    let Tally {
        events,
        fragments,
        progress,
        compacted,
        slow,
        jumps,
    } = tally;
    assert!(
        events > 100_000
            && fragments > 1000
            && progress > 50
            && compacted > 100
            && slow > 10_000
            && jumps > 50,
        "{tally:?}"
    );
}
