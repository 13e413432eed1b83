//! etcd's rules for Watch, one by one.

use std::sync::Arc;
use std::time::Duration;

use proto::etcd::etcdserverpb::{WatchCreateRequest, WatchResponse};
use server::exec::Work;
use server::watch::Options;
use store::engine::memory::MemoryEngine;

use super::world::{Client, World};

fn world() -> (World, Client) {
    let world = World::new(Options::default());
    let client = Client::new(&world);
    (world, client)
}

fn on(key: &'static str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into(),
        ..WatchCreateRequest::default()
    }
}

fn prefix(key: &'static str, end: &'static str) -> WatchCreateRequest {
    WatchCreateRequest {
        range_end: end.into(),
        ..on(key)
    }
}

fn revision(response: &WatchResponse) -> i64 {
    response.header.unwrap().revision
}

fn values(responses: &[WatchResponse]) -> Vec<String> {
    let events = responses.iter().flat_map(|response| &response.events);
    events
        .map(|event| String::from_utf8(event.kv.clone().unwrap().value.to_vec()).unwrap())
        .collect()
}

#[test]
fn a_watcher_without_start_revision_sees_what_comes_next() {
    let (mut world, mut client) = world();
    world.put("a", "before");
    client.create(on("a"));
    let responses = client.exchange(&mut world);
    assert_eq!(responses.len(), 1);
    assert!(responses[0].created && !responses[0].canceled);
    assert_eq!((responses[0].watch_id, revision(&responses[0])), (0, 2));
    world.put("a", "1");
    world.put("b", "other");
    world.put("a", "2");
    let responses = client.exchange(&mut world);
    assert_eq!(values(&responses), ["1", "2"]);
    assert_eq!(responses.iter().map(revision).collect::<Vec<_>>(), [3, 5]);
}

#[test]
fn now_is_behind_what_the_store_holds_even_if_the_hub_has_not_seen_it() {
    let (mut world, mut client) = world();
    world.write(vec![vec![(b"a".to_vec(), Some(b"acknowledged".to_vec()))]]);
    client.create(on("a"));
    let responses = client.exchange(&mut world);
    assert_eq!(revision(&responses[0]), 2);
    world.settle();
    world.put("a", "next");
    assert_eq!(values(&client.exchange(&mut world)), ["next"]);
}

#[test]
fn a_start_revision_in_the_past_is_read_from_history_without_the_ring() {
    let mut world = World::new(Options {
        ring_bytes: 1,
        ..Options::default()
    });
    let mut client = Client::new(&world);
    for value in ["1", "2", "3"] {
        world.put("a", value);
    }
    client.create(WatchCreateRequest {
        start_revision: 3,
        ..on("a")
    });
    let responses = client.exchange(&mut world);
    assert!(responses[0].created);
    assert_eq!(values(&responses), ["2", "3"]);
    assert_eq!(
        responses.len(),
        2,
        "one response for all of history that fits"
    );
    assert_eq!(revision(&responses[1]), 4);
    world.put("a", "4");
    assert_eq!(values(&client.exchange(&mut world)), ["4"]);
}

#[test]
fn a_start_revision_in_the_future_is_waited_for() {
    let (mut world, mut client) = world();
    client.create(WatchCreateRequest {
        start_revision: 4,
        progress_notify: true,
        ..on("a")
    });
    assert_eq!(client.exchange(&mut world).len(), 1);
    world.put("a", "2");
    client.progress();
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(client.exchange(&mut world), []);
    world.write(vec![
        vec![(b"a".to_vec(), Some(b"3".to_vec()))],
        vec![(b"a".to_vec(), Some(b"4".to_vec()))],
        vec![(b"a".to_vec(), Some(b"5".to_vec()))],
    ]);
    world.settle();
    assert_eq!(values(&client.exchange(&mut world)), ["4", "5"]);
}

#[test]
fn answers_to_creates_come_in_request_order_with_ids_from_zero() {
    let (mut world, mut client) = world();
    client.create(on("a"));
    client.create(WatchCreateRequest {
        watch_id: 2,
        ..on("b")
    });
    client.create(on("c"));
    client.create(on("d"));
    let ids: Vec<i64> = client
        .exchange(&mut world)
        .iter()
        .map(|response| response.watch_id)
        .collect();
    assert_eq!(ids, [0, 2, 1, 3]);
    world.write(vec![vec![(b"d".to_vec(), Some(b"v".to_vec()))]]);
    world.settle();
    assert_eq!(client.exchange(&mut world)[0].watch_id, 3);
}

#[test]
fn a_create_that_fails_says_why_and_leaves_the_stream_open() {
    let (mut world, mut client) = world();
    client.create(WatchCreateRequest {
        watch_id: 5,
        ..on("a")
    });
    client.create(WatchCreateRequest {
        watch_id: 5,
        ..on("a")
    });
    client.create(prefix("b", "a"));
    client.create(WatchCreateRequest {
        start_revision: -1,
        ..on("a")
    });
    let responses = client.exchange(&mut world);
    let refused: Vec<(i64, bool, bool, &str)> = responses[1..]
        .iter()
        .map(|response| {
            (
                response.watch_id,
                response.created,
                response.canceled,
                &response.cancel_reason[..],
            )
        })
        .collect();
    assert_eq!(
        refused,
        [
            (
                -1,
                true,
                true,
                "mvcc: duplicate watch ID provided on the WatchStream"
            ),
            (-1, true, true, "mvcc: watcher range is empty"),
            (
                -1,
                true,
                true,
                "etcdserver: mvcc: required revision has been compacted"
            ),
        ]
    );
    assert!(
        responses
            .iter()
            .all(|response| response.compact_revision == 0)
    );
    world.put("a", "still here");
    assert_eq!(values(&client.exchange(&mut world)), ["still here"]);
}

#[test]
fn an_empty_key_means_the_zero_byte_and_with_a_zero_end_everything() {
    let (mut world, mut client) = world();
    client.create(on(""));
    client.create(prefix("", "\0"));
    client.exchange(&mut world);
    world.put("a", "all");
    world.put("\0", "zero");
    let ids = client
        .exchange(&mut world)
        .iter()
        .map(|response| response.watch_id)
        .collect::<Vec<_>>();
    assert_eq!(ids, [1, 0, 1]);
}

#[test]
fn filters_leave_events_out_and_never_make_an_empty_response() {
    let (mut world, mut client) = world();
    client.create(WatchCreateRequest {
        filters: vec![0],
        ..on("a")
    });
    client.create(WatchCreateRequest {
        filters: vec![1],
        ..on("a")
    });
    client.create(WatchCreateRequest {
        filters: vec![0, 1],
        ..on("a")
    });
    client.exchange(&mut world);
    world.put("a", "v");
    world.delete("a");
    let responses = client.exchange(&mut world);
    let told: Vec<(i64, i32)> = responses
        .iter()
        .map(|response| (response.watch_id, response.events[0].r#type))
        .collect();
    assert_eq!(told, [(1, 0), (0, 1)]);
}

#[test]
fn previous_versions_come_only_to_those_who_asked() {
    let (mut world, mut client) = world();
    client.create(WatchCreateRequest {
        prev_kv: true,
        ..on("a")
    });
    client.create(on("a"));
    client.exchange(&mut world);
    world.put("a", "1");
    world.put("a", "2");
    world.delete("a");
    let responses = client.exchange(&mut world);
    let previous = |id| {
        let of_id = responses
            .iter()
            .filter(move |response| response.watch_id == id);
        of_id
            .flat_map(|response| &response.events)
            .map(|event| {
                event
                    .prev_kv
                    .clone()
                    .map(|kv| (kv.value.to_vec(), kv.mod_revision))
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        previous(0),
        [None, Some((b"1".to_vec(), 2)), Some((b"2".to_vec(), 3))]
    );
    assert_eq!(previous(1), [None, None, None]);
    let delete = &responses.last().unwrap().events[0];
    let kv = delete.kv.clone().unwrap();
    assert_eq!((kv.mod_revision, kv.create_revision, kv.version), (4, 0, 0));
}

#[test]
fn what_was_before_is_read_for_those_who_asked_and_nobody_else_waits_for_it() {
    let none = store::Options {
        value_budget_bytes: 0,
    };
    let engine = Arc::new(MemoryEngine::new());
    let mut world = World::with_memory(engine, none, Options::default());
    // Long enough not to be kept beside its key.
    let long = |value: &str| value.repeat(200);
    world.put("a", &long("1"));
    let mut plain = Client::new(&world);
    let mut asking = Client::new(&world);
    plain.create(on("a"));
    asking.create(WatchCreateRequest {
        prev_kv: true,
        ..on("a")
    });
    plain.exchange(&mut world);
    asking.exchange(&mut world);
    for value in ["2", "3"] {
        world.write(vec![vec![("a".into(), Some(long(value).into()))]]);
        world.publish();
        // Only the hub: whatever it did, it has read nothing.
        while world.worker.has_work() {
            world.worker.step();
        }
    }
    assert_eq!(values(&plain.receive()), [long("2"), long("3")]);
    assert!(asking.receive().is_empty());
    world.settle();
    let responses = asking.exchange(&mut world);
    assert_eq!(values(&responses), [long("2"), long("3")]);
    let events = responses.iter().flat_map(|response| &response.events);
    let previous = events.map(|event| event.prev_kv.clone().unwrap().value);
    assert_eq!(previous.collect::<Vec<_>>(), [long("1"), long("2")]);
    // Once it has caught up it is live again.
    world.write(vec![vec![("a".into(), None)]]);
    world.settle();
    assert_eq!(asking.exchange(&mut world).len(), 1);
}

#[test]
fn all_changes_of_a_transaction_come_in_one_response_in_their_order() {
    let (mut world, mut client) = world();
    client.create(prefix("k", "l"));
    client.exchange(&mut world);
    let edits = [("k3", "1"), ("k1", "2"), ("x", "3"), ("k2", "4")];
    world.write(vec![
        edits
            .map(|(key, value)| (key.into(), Some(value.into())))
            .to_vec(),
    ]);
    world.settle();
    let responses = client.exchange(&mut world);
    assert_eq!(responses.len(), 1);
    assert_eq!(values(&responses), ["1", "2", "4"]);
}

#[test]
fn cancel_is_confirmed_once_and_ends_the_events() {
    let (mut world, mut client) = world();
    client.create(on("a"));
    client.exchange(&mut world);
    world.put("a", "1");
    client.cancel(0);
    client.cancel(0);
    client.cancel(9);
    let responses = client.exchange(&mut world);
    assert_eq!(responses.len(), 2);
    assert_eq!(values(&responses[..1]), ["1"]);
    assert!(
        responses[1].canceled
            && responses[1].cancel_reason.is_empty()
            && responses[1].compact_revision == 0
    );
    world.put("a", "2");
    assert_eq!(client.exchange(&mut world), []);
}

#[test]
fn the_end_of_a_watcher_is_confirmed_at_what_the_store_holds() {
    let (mut world, mut client) = world();
    client.create(on("a"));
    client.exchange(&mut world);
    world.write(vec![vec![(b"a".to_vec(), Some(b"1".to_vec()))]]);
    client.cancel(0);
    let responses = client.exchange(&mut world);
    assert!(responses[0].canceled);
    assert_eq!(revision(&responses[0]), 2);
}

#[test]
fn watch_from_compacted_revision_is_cancelled_and_from_the_boundary_is_served() {
    let (mut world, mut client) = world();
    for value in ["2", "3", "4"] {
        world.put("a", value);
    }
    world.compact(3);
    client.create(WatchCreateRequest {
        start_revision: 2,
        ..on("a")
    });
    client.create(WatchCreateRequest {
        start_revision: 3,
        ..on("a")
    });
    let responses = client.exchange(&mut world);
    assert!(responses[0].created && !responses[0].canceled);
    assert!(responses[1].canceled && !responses[1].created);
    assert_eq!(
        (responses[1].watch_id, responses[1].compact_revision),
        (0, 3)
    );
    assert_eq!(responses[1].cancel_reason, "");
    assert_eq!(revision(&responses[1]), 0);
    assert_eq!(values(&responses), ["3", "4"]);
}

#[test]
fn compaction_that_passes_a_slow_watcher_cancels_it() {
    let mut world = World::new(Options {
        stream_bytes: 200,
        ..Options::default()
    });
    let mut client = Client::new(&world);
    client.create(prefix("a", "b"));
    client.exchange(&mut world);
    for number in 0..20 {
        world.put("a", &format!("{number}"));
    }
    world.compact(20);
    let responses = client.exchange(&mut world);
    let told = values(&responses);
    assert_eq!(
        told,
        (0..told.len())
            .map(|number| number.to_string())
            .collect::<Vec<_>>()
    );
    assert!(told.len() < 18);
    let last = responses.last().unwrap();
    assert!(last.canceled);
    assert_eq!((last.compact_revision, revision(last)), (20, 0));
}

#[test]
fn progress_is_told_only_when_every_watcher_of_the_stream_has_everything() {
    let (mut world, mut client) = world();
    client.progress();
    assert_eq!(
        client.exchange(&mut world),
        [],
        "a stream without watchers has no progress"
    );
    client.create(on("a"));
    client.exchange(&mut world);
    world.put("b", "v");
    client.progress();
    let responses = client.exchange(&mut world);
    assert_eq!(responses.len(), 1);
    assert_eq!((responses[0].watch_id, revision(&responses[0])), (-1, 2));
    assert!(responses[0].events.is_empty() && !responses[0].created && !responses[0].canceled);
    client.create(WatchCreateRequest {
        start_revision: 10,
        ..on("a")
    });
    client.exchange(&mut world);
    client.progress();
    assert_eq!(client.exchange(&mut world), []);
}

#[test]
fn progress_waits_for_what_the_store_holds_and_comes_behind_its_events() {
    let (mut world, mut client) = world();
    client.create(on("a"));
    client.exchange(&mut world);
    world.write(vec![vec![(b"a".to_vec(), Some(b"v".to_vec()))]]);
    client.progress();
    assert_eq!(client.exchange(&mut world), []);
    world.settle();
    let responses = client.exchange(&mut world);
    assert_eq!(values(&responses[..1]), ["v"]);
    assert_eq!((responses[1].watch_id, revision(&responses[1])), (-1, 2));
}

#[test]
fn progress_of_a_stream_that_has_everything_is_told_without_the_hub() {
    let (mut world, mut client) = world();
    let said = |client: &mut Client| -> Vec<(i64, i64, usize)> {
        while client.poll() {}
        let responses = client.decode();
        let line = |one: &WatchResponse| (one.watch_id, revision(one), one.events.len());
        responses.iter().map(line).collect()
    };
    client.create(on("a"));
    client.exchange(&mut world);
    client.progress();
    assert_eq!(said(&mut client), [], "the hub was not asked yet");
    assert_eq!(client.exchange(&mut world).len(), 1);

    client.progress();
    assert_eq!(said(&mut client), [(-1, 1, 0)]);
    // Behind what waits.
    world.put("a", "v");
    client.progress();
    assert_eq!(said(&mut client), [(0, 2, 1), (-1, 2, 0)]);
    // Not when the store has more than the hub.
    world.write(vec![vec![(b"a".to_vec(), Some(b"w".to_vec()))]]);
    client.progress();
    assert_eq!(said(&mut client), []);
    world.settle();
    assert_eq!(client.exchange(&mut world).len(), 2);
    client.progress();
    assert_eq!(said(&mut client), [(-1, 3, 0)]);
    // Nor while something else is asked, nor for a watcher that has not begun.
    client.create(WatchCreateRequest {
        start_revision: 5,
        ..on("b")
    });
    client.progress();
    assert_eq!(said(&mut client), []);
    assert_eq!(client.exchange(&mut world).len(), 1);
    client.progress();
    assert_eq!(said(&mut client), []);
    assert_eq!(client.exchange(&mut world), []);
    client.cancel(1);
    client.exchange(&mut world);
    client.progress();
    assert_eq!(
        said(&mut client),
        [],
        "who was cancelled is asked for once more"
    );
    assert_eq!(client.exchange(&mut world).len(), 1);
    client.progress();
    assert_eq!(said(&mut client), [(-1, 3, 0)]);
}

#[test]
fn a_watcher_that_waited_for_the_hub_has_progress_as_soon_as_it_is_there() {
    let (mut world, mut client) = world();
    world.write(vec![vec![(b"a".to_vec(), Some(b"v".to_vec()))]]);
    client.create(on("a"));
    client.progress();
    assert_eq!(client.exchange(&mut world).len(), 1);
    world.settle();
    let responses = client.exchange(&mut world);
    assert_eq!(responses.len(), 1);
    assert_eq!((responses[0].watch_id, revision(&responses[0])), (-1, 2));
}

#[test]
fn an_idle_watcher_is_notified_by_interval_and_a_busy_one_is_not() {
    let interval = Duration::from_secs(10);
    let mut world = World::new(Options {
        progress_interval: interval,
        ..Options::default()
    });
    let mut client = Client::new(&world);
    client.create(WatchCreateRequest {
        progress_notify: true,
        ..on("a")
    });
    client.create(WatchCreateRequest {
        progress_notify: true,
        ..on("b")
    });
    client.create(on("c"));
    client.exchange(&mut world);
    world.put("b", "v");
    client.exchange(&mut world);
    world.clock.advance(interval - Duration::from_millis(1));
    assert!(!world.worker.has_work());
    world.clock.advance(interval / 5);
    let responses = client.exchange(&mut world);
    assert_eq!(responses.len(), 1);
    assert_eq!((responses[0].watch_id, revision(&responses[0])), (0, 2));
    world.clock.advance(interval * 2);
    let ids: Vec<i64> = client
        .exchange(&mut world)
        .iter()
        .map(|response| response.watch_id)
        .collect();
    assert_eq!(ids, [0, 1]);
}

#[test]
fn history_comes_in_responses_of_up_to_a_thousand_revisions_that_say_how_far_they_reach() {
    for ring_bytes in [1, 16 << 20] {
        let mut world = World::new(Options {
            ring_bytes,
            ..Options::default()
        });
        let edits = |revision: i64| vec![(b"a".to_vec(), Some(revision.to_string().into_bytes()))];
        world.write((2..=2_500).map(edits).collect());
        world.settle();
        world.put("b", "not watched");
        let mut client = Client::new(&world);
        client.create(WatchCreateRequest {
            start_revision: 2,
            ..on("a")
        });
        let responses = client.exchange(&mut world);
        let all: Vec<_> = (2..=2_500).map(|revision| revision.to_string()).collect();
        assert_eq!(values(&responses), all);
        assert!((4..20).contains(&responses.len()), "{}", responses.len());
        for response in &responses[1..] {
            assert!(response.events.len() <= 1000);
            let last = response.events.last().unwrap().kv.as_ref().unwrap();
            assert!(revision(response) >= last.mod_revision);
        }
        client.progress();
        let responses = client.exchange(&mut world);
        assert_eq!((responses[0].watch_id, revision(&responses[0])), (-1, 2501));
    }
}

#[test]
fn a_long_response_is_fragmented_only_for_those_who_asked() {
    let mut world = World::new(Options {
        message_bytes: 1000,
        ..Options::default()
    });
    let mut client = Client::new(&world);
    client.create(WatchCreateRequest {
        fragment: true,
        ..prefix("k", "l")
    });
    client.create(WatchCreateRequest {
        fragment: true,
        ..prefix("k", "l")
    });
    client.create(prefix("k", "l"));
    client.exchange(&mut world);
    let edits = (0..30)
        .map(|number| (format!("k{number}").into(), Some(vec![b'v'; 100])))
        .collect();
    world.write(vec![edits]);
    world.settle();
    let responses = client.exchange(&mut world);
    let runs: Vec<&[WatchResponse]> = responses
        .chunk_by(|a, b| a.watch_id == b.watch_id)
        .collect();
    assert_eq!(
        runs.len(),
        3,
        "the pieces of one response follow each other"
    );
    for run in runs {
        assert_eq!(values(run).len(), 30);
        let flags: Vec<bool> = run.iter().map(|response| response.fragment).collect();
        assert_eq!(flags.iter().filter(|has_more| !**has_more).count(), 1);
        assert_eq!(flags.last(), Some(&false));
        assert_eq!(run.len() > 1, run[0].watch_id < 2);
    }
}

#[test]
fn a_client_that_has_said_all_goes_on_listening() {
    let (mut world, mut client) = world();
    client.create(on("a"));
    client.close();
    client.exchange(&mut world);
    world.put("a", "v");
    assert_eq!(values(&client.exchange(&mut world)), ["v"]);
    assert_eq!(client.trailers, None);
}

#[test]
fn malformed_compressed_and_oversize_requests_end_the_stream_with_a_status() {
    for (bytes, code) in [
        (&[0, 0, 0, 0, 2, 0x0a, 0x7f][..], "13"),
        (&[1, 0, 0, 0, 0], "12"),
        (&[0, 0x7f, 0xff, 0xff, 0xff], "8"),
    ] {
        let (mut world, mut client) = world();
        client.create(on("a"));
        client.send_bytes(bytes.to_vec().into());
        client.exchange(&mut world);
        assert_eq!(client.trailers.clone().unwrap().0, code);
        assert!(!client.poll());
    }
}

#[test]
fn a_request_that_says_nothing_is_ignored() {
    let (mut world, mut client) = world();
    client.send_bytes(vec![0, 0, 0, 0, 0].into());
    client.create(on("a"));
    assert_eq!(client.exchange(&mut world).len(), 1);
}

#[test]
fn a_closing_hub_ends_its_streams_after_what_was_queued() {
    let (mut world, mut client) = world();
    client.create(on("a"));
    client.exchange(&mut world);
    world.put("a", "last");
    world.hub.close();
    let responses = client.exchange(&mut world);
    assert_eq!(values(&responses), ["last"]);
    assert_eq!(
        client.trailers,
        Some(("14".into(), "etcdserver: server stopped".into()))
    );
    assert!(!world.worker.wait() && !world.catch_up.wait());
    let mut late = Client::new(&world);
    late.exchange(&mut world);
    assert_eq!(late.trailers.unwrap().0, "14");
}

#[test]
fn a_dropped_stream_takes_its_watchers_along() {
    let (mut world, mut client) = world();
    let mut other = Client::new(&world);
    for _ in 0..100 {
        client.create(WatchCreateRequest {
            progress_notify: true,
            ..prefix("a", "b")
        });
    }
    other.create(prefix("a", "b"));
    client.exchange(&mut world);
    other.exchange(&mut world);
    let watchers = |world: &World| {
        world
            .hub
            .stats()
            .watchers
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    assert_eq!(watchers(&world), 101);
    drop(client);
    world.put("a", "v");
    assert_eq!(watchers(&world), 1);
    assert_eq!(values(&other.exchange(&mut world)), ["v"]);
}

#[test]
fn a_store_that_jumps_ahead_is_caught_up_with_from_history() {
    let (mut world, mut client) = world();
    world.put("a", "in the ring");
    client.create(on("a"));
    client.exchange(&mut world);
    world.write(vec![
        vec![(b"a".to_vec(), Some(b"3".to_vec()))],
        vec![(b"a".to_vec(), Some(b"4".to_vec()))],
    ]);
    // As after a snapshot: these change sets never reach the hub.
    world.unpublished.clear();
    world.put("a", "5");
    let responses = client.exchange(&mut world);
    assert_eq!(values(&responses), ["3", "4", "5"]);
}

fn edit(value: &str) -> Vec<super::world::Edit> {
    vec![(b"a".to_vec(), Some(value.into()))]
}

#[test]
fn a_jump_is_told_without_waiting_for_the_next_write() {
    let (mut world, mut client) = world();
    world.put("a", "in the ring");
    client.create(on("a"));
    client.exchange(&mut world);
    world.write(vec![edit("3"), edit("4")]);
    world.jump();
    let responses = client.exchange(&mut world);
    assert_eq!(values(&responses), ["3", "4"]);
    // Where it is now, everybody is live, and progress is told.
    client.progress();
    let responses = client.exchange(&mut world);
    assert_eq!((responses[0].watch_id, revision(&responses[0])), (-1, 4));
    world.put("a", "5");
    assert_eq!(values(&client.exchange(&mut world)), ["5"]);
}

#[test]
fn what_waits_in_the_hub_around_jumps_is_told_once_and_in_order() {
    let (mut world, mut client) = world();
    let mut late = Client::new(&world);
    client.create(on("a"));
    client.exchange(&mut world);
    // The hub sees all of this at once.
    for round in 0..2 {
        world.write(vec![edit(&format!("{round}: published"))]);
        world.publish();
        world.write(vec![
            edit(&format!("{round}: skipped")),
            edit(&format!("{round}: skipped, too")),
        ]);
        world.jump();
        world.write(vec![edit(&format!("{round}: behind"))]);
        world.publish();
    }
    let all = [
        "0: published",
        "0: skipped",
        "0: skipped, too",
        "0: behind",
        "1: published",
        "1: skipped",
        "1: skipped, too",
        "1: behind",
    ];
    assert_eq!(values(&client.exchange(&mut world)), all);
    // One that comes later finds no gap in what is kept in memory.
    let from = |start_revision| WatchCreateRequest {
        start_revision,
        ..on("a")
    };
    late.create(from(2));
    late.create(from(5));
    let responses = late.exchange(&mut world);
    let of = |watch_id| {
        let mine = responses
            .iter()
            .filter(|response| response.watch_id == watch_id);
        values(&mine.cloned().collect::<Vec<_>>())
    };
    assert_eq!(of(0), all);
    assert_eq!(of(1), all[3..]);
}

#[test]
fn a_jump_over_a_compaction_cancels_those_before_it_and_nobody_else() {
    let (mut world, mut client) = world();
    client.create(on("a"));
    client.create(WatchCreateRequest {
        start_revision: 6,
        ..on("a")
    });
    client.create(WatchCreateRequest {
        start_revision: 9,
        ..on("a")
    });
    client.exchange(&mut world);
    world.write(
        (2..=7)
            .map(|revision| edit(&revision.to_string()))
            .collect(),
    );
    world.compact(5);
    world.jump();
    let responses = client.exchange(&mut world);
    let cancelled = responses.iter().find(|response| response.canceled).unwrap();
    assert_eq!((cancelled.watch_id, cancelled.compact_revision), (0, 5));
    let told: Vec<_> = responses
        .iter()
        .filter(|response| !response.canceled)
        .cloned()
        .collect();
    assert!(told.iter().all(|response| response.watch_id == 1));
    assert_eq!(values(&told), ["6", "7"]);
    world.put("a", "8");
    world.put("a", "9");
    let responses = client.exchange(&mut world);
    let of = |watch_id| {
        let mine = responses
            .iter()
            .filter(|response| response.watch_id == watch_id);
        values(&mine.cloned().collect::<Vec<_>>())
    };
    assert_eq!(
        (of(1), of(2)),
        (vec!["8".to_owned(), "9".to_owned()], vec!["9".to_owned()])
    );
}
