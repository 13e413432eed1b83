//! What slow watchers cost: little memory, and nobody else's time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use proto::etcd::etcdserverpb::{WatchCreateRequest, WatchResponse};
use server::exec::Work;
use server::watch::Options;

use super::world::{Client, World};

/// The least that a stream may queue, as a part of the most, and what an item takes beside its events.
const LEAST: usize = 32;
const ITEM: usize = 96;

fn on(key: &str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.to_owned().into(),
        start_revision,
        ..WatchCreateRequest::default()
    }
}

fn created(client: &mut Client, world: &mut World, request: WatchCreateRequest) -> WatchResponse {
    client.create(request);
    client.exchange(world).remove(0)
}

/// The revisions of all events.
fn revisions(responses: &[WatchResponse]) -> Vec<i64> {
    let events = responses.iter().flat_map(|response| &response.events);
    events
        .map(|event| event.kv.as_ref().unwrap().mod_revision)
        .collect()
}

fn slow_watchers(world: &World) -> usize {
    world.hub.stats().slow_watchers.load(Ordering::Relaxed)
}

#[test]
fn a_watcher_far_behind_does_not_keep_a_nearer_one_waiting() {
    let mut world = World::new(Options {
        ring_bytes: 1,
        ..Options::default()
    });
    for _ in 0..90 {
        let edit = vec![(b"a".to_vec(), Some(b"v".to_vec()))];
        world.write(vec![edit; 500]);
        world.settle();
    }
    let newest = world.revision;
    let mut far = Client::new(&world);
    let mut near = Client::new(&world);
    far.create(on("never written", 2));
    near.create(on("a", newest - 5));
    while far.poll() || near.poll() {}
    let mut told = Vec::new();
    while told.is_empty() {
        world.worker.step();
        world.catch_up.step();
        while near.poll() {}
        told.extend(revisions(&near.decode()));
    }
    assert_eq!(told, (newest - 5..=newest).collect::<Vec<_>>());
    assert_eq!(
        slow_watchers(&world),
        1,
        "the other one is still on its way"
    );
    far.exchange(&mut world);
    assert_eq!(slow_watchers(&world), 0, "and it arrives");
}

#[test]
fn a_hub_that_does_not_keep_up_holds_bounded_memory_and_reads_the_rest_from_history() {
    const BYTES: usize = 5_000;
    let mut world = World::new(Options {
        inbox_bytes: BYTES,
        ..Options::default()
    });
    let mut client = Client::new(&world);
    created(&mut client, &mut world, on("a", 0));
    let first = world.revision + 1;
    for _ in 0..200 {
        world.write(vec![vec![(b"a".to_vec(), Some(vec![b'v'; 100]))]]);
        world.publish();
        assert!(world.hub.queued_bytes() <= BYTES);
    }
    let all: Vec<i64> = (first..=world.revision).collect();
    assert_eq!(revisions(&client.exchange(&mut world)), all);
}

#[test]
fn streams_that_are_not_read_share_bounded_memory_and_miss_nothing() {
    const STREAMS: usize = 50;
    const VALUE: usize = 500;
    let options = Options {
        queued_bytes: 40_000,
        stream_bytes: 20_000,
        ring_bytes: 10_000,
        ..Options::default()
    };
    // A response here has one event.
    let of_stream = options.stream_bytes / LEAST + VALUE + 200 + ITEM;
    let bound = options.queued_bytes + STREAMS * of_stream;
    let mut world = World::new(options);
    let mut silent: Vec<Client> = (0..STREAMS).map(|_| Client::new(&world)).collect();
    for (number, client) in silent.iter_mut().enumerate() {
        // Each wants something else, so that no two share what waits for them.
        let range = WatchCreateRequest {
            range_end: format!("b{number}").into(),
            ..on("a", 0)
        };
        created(client, &mut world, range);
    }
    let mut reader = Client::new(&world);
    created(&mut reader, &mut world, on("a", 0));
    let first = world.revision + 1;
    let mut most = 0;
    for revision in first..first + 400 {
        world.write(vec![vec![(b"a".to_vec(), Some(vec![b'v'; VALUE]))]]);
        world.settle();
        most = most.max(world.hub.queued_bytes());
        assert_eq!(revisions(&reader.exchange(&mut world)), [revision]);
    }
    assert!(most > 40_000, "they hold {most} at most: it is about more");
    assert!(most <= bound, "they hold {most} of {bound}");
    assert_eq!(slow_watchers(&world), STREAMS);

    let all: Vec<i64> = (first..first + 400).collect();
    for client in &mut silent {
        assert_eq!(revisions(&client.exchange(&mut world)), all);
    }
    assert_eq!(slow_watchers(&world), 0);
    assert_eq!(world.hub.queued_bytes(), 0, "nothing waits any more");
    drop(silent);
    world.put("a", "last");
    assert_eq!(revisions(&reader.exchange(&mut world)).len(), 1);
}

#[test]
fn watchers_beyond_the_memory_for_them_are_refused_until_others_go() {
    let mut world = World::new(Options {
        watcher_bytes: 3 * 600,
        ..Options::default()
    });
    let mut client = Client::new(&world);
    let mut other = Client::new(&world);
    // Three of a short key, or one of a long one and whatever was there before.
    for _ in 0..3 {
        let answer = created(&mut client, &mut world, on("short", 0));
        assert!(!answer.canceled);
    }
    let long = "k".repeat(1_000);
    assert!(!created(&mut other, &mut world, on(&long, 0)).canceled);
    let refused = created(&mut client, &mut world, on("short", 0));
    assert!(refused.created && refused.canceled);
    assert_eq!(
        (refused.watch_id, &*refused.cancel_reason),
        (-1, "holdfast: there is no memory for another watcher")
    );
    client.cancel(1);
    assert!(client.exchange(&mut world)[0].canceled);
    drop(other);
    assert!(!created(&mut client, &mut world, on("short", 0)).canceled);
    world.put("short", "v");
    assert_eq!(
        client.exchange(&mut world).len(),
        3,
        "the others are served"
    );
}

#[test]
fn there_are_only_so_many_streams() {
    let world = World::new(Options {
        streams: 2,
        ..Options::default()
    });
    let first = Client::new(&world);
    assert!(!world.hub.is_full());
    let second = Client::new(&world);
    assert!(world.hub.is_full());
    drop(first);
    assert!(!world.hub.is_full());
    drop(second);
}

#[test]
fn no_more_requests_are_read_than_the_hub_and_the_reader_can_take() {
    let mut world = World::new(Options {
        stream_bytes: 10 * ITEM,
        ..Options::default()
    });
    let mut client = Client::new(&world);
    for _ in 0..2_000 {
        client.create(on("a", 0));
    }
    // Its requests are read when the connection looks for responses; nothing is taken out of the queue after that.
    client.poll();
    world.settle();
    let watchers = world.hub.stats().watchers.load(Ordering::Relaxed);
    assert!((1..=256).contains(&watchers), "{watchers}");
    assert_eq!(client.exchange(&mut world).len(), 2_000);
}

#[test]
fn each_stream_tells_progress_at_a_time_of_its_own_within_a_tenth_of_the_interval() {
    let interval = Duration::from_secs(100);
    let mut world = World::new(Options {
        progress_interval: interval,
        ..Options::default()
    });
    let mut clients: Vec<Client> = (0..30).map(|_| Client::new(&world)).collect();
    for client in &mut clients {
        let request = WatchCreateRequest {
            progress_notify: true,
            ..on("a", 0)
        };
        created(client, &mut world, request);
    }
    world.clock.advance(interval - Duration::from_millis(1));
    assert!(
        clients
            .iter_mut()
            .all(|client| client.exchange(&mut world).is_empty())
    );
    let mut told = Vec::new();
    for _ in 0..10 {
        world.clock.advance(interval / 100);
        let of_client = clients
            .iter_mut()
            .map(|client| client.exchange(&mut world).len());
        told.push(of_client.sum::<usize>());
    }
    assert_eq!(told.iter().sum::<usize>(), 30, "{told:?}");
    let busy = told.iter().filter(|told| **told > 0).count();
    assert!(busy >= 5, "they are spread: {told:?}");
}
