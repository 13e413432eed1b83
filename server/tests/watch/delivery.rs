//! Many watchers with real threads: nobody is forgotten, and what a delivery costs.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use proto::etcd::etcdserverpb::WatchCreateRequest;
use proto::etcd::etcdserverpb::watch_request::RequestUnion;
use server::etcd::watch::Call;
use server::exec::{Exec, SystemClock, Threads};
use server::watch::{Hub, Identity, Options};
use store::ChangeSet;

use super::world::{Inbound, World, method};

const STREAMS: usize = 100;
const WATCHERS: usize = 10;
const BATCHES: usize = 100;
/// Revisions of a batch; keys are named by batch and place, all of the same length.
const PUTS: usize = 5;

/// Counts responses and events, as the cheapest of clients would.
#[derive(Default)]
struct Counter {
    unread: Vec<u8>,
    responses: usize,
    events: usize,
}

impl Counter {
    fn count(&mut self, data: &[u8]) {
        self.unread.extend_from_slice(data);
        let mut rest = &self.unread[..];
        while let Some(([_, length @ ..], tail)) = rest.split_first_chunk::<5>() {
            let Some((message, tail)) = tail.split_at_checked(u32::from_be_bytes(*length) as usize)
            else {
                break;
            };
            self.responses += 1;
            self.events += message
                .windows(4)
                .filter(|window| window == b"key-")
                .count();
            rest = tail;
        }
        let read = self.unread.len() - rest.len();
        self.unread.drain(..read);
    }
}

impl World {
    fn batches(&mut self) -> Vec<Vec<Arc<ChangeSet>>> {
        let batch = |batch: usize| {
            let put = |place| {
                vec![(
                    format!("key-{batch:03}-{place}").into_bytes(),
                    Some(vec![b'v'; 256]),
                )]
            };
            self.write((0..PUTS).map(put).collect());
            std::mem::take(&mut self.unpublished)
        };
        (0..BATCHES).map(batch).collect()
    }
}

/// Publishes to a thousand watchers of one prefix on a hundred streams: the hub on its threads, the streams on a
/// runtime, up to the frames that a connection would send.
fn deliver(options: Options, pause: Duration) {
    let mut world = World::new(Options::default());
    let clock = Arc::new(SystemClock::default());
    let (hub, worker, catch_up) =
        Hub::new(world.machine.reader(), Identity::default(), options, clock);
    let threads = Threads::default();
    threads.start("watch-hub", Box::new(worker));
    threads.start("watch-catch-up", Box::new(catch_up));
    let batches = world.batches();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let took = runtime.block_on(async {
        let (ready, mut all_ready) = tokio::sync::mpsc::unbounded_channel();
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let (hub, ready) = (hub.clone(), ready.clone());
            streams.push(tokio::spawn(async move {
                let inbound = Inbound::default();
                for _ in 0..WATCHERS {
                    // The store is ahead of the hub, which begins with revision 2.
                    inbound.send(RequestUnion::CreateRequest(WatchCreateRequest {
                        key: "key-".into(),
                        range_end: "key.".into(),
                        start_revision: 2,
                        ..WatchCreateRequest::default()
                    }));
                }
                let mut call = Box::pin(Call::new(inbound, &hub, method()));
                let mut counter = Counter::default();
                while counter.responses < WATCHERS {
                    counter.count(&next(&mut call).await);
                }
                ready.send(()).unwrap();
                while counter.events < WATCHERS * BATCHES * PUTS {
                    counter.count(&next(&mut call).await);
                }
                assert_eq!(counter.events, WATCHERS * BATCHES * PUTS);
            }));
        }
        for _ in 0..STREAMS {
            all_ready.recv().await.unwrap();
        }
        let start = Instant::now();
        let publisher = std::thread::spawn({
            let hub = hub.clone();
            move || {
                for batch in batches {
                    hub.publish(batch);
                    std::thread::sleep(pause);
                }
            }
        });
        for stream in streams {
            tokio::time::timeout(Duration::from_secs(60), stream)
                .await
                .unwrap()
                .unwrap();
        }
        publisher.join().unwrap();
        start.elapsed()
    });
    let events = hub.stats().events.load(Ordering::Relaxed);
    eprintln!("{events} events queued, all delivered in {took:?}");
    hub.close();
    threads.join();
}

async fn next(call: &mut Pin<Box<Call<Inbound>>>) -> Bytes {
    call.frame().await.unwrap().unwrap().into_data().unwrap()
}

#[test]
fn a_thousand_watchers_on_threads_all_get_every_revision() {
    deliver(Options::default(), Duration::from_millis(1));
}

#[test]
fn streams_that_always_fill_up_lose_nothing_and_never_stall() {
    let options = Options {
        stream_bytes: 1500,
        ring_bytes: 20_000,
        ..Options::default()
    };
    deliver(options, Duration::ZERO);
}

/// A thousand streams of which only some are read, then all: those who read do not wait for the others.
#[test]
fn a_thousand_streams_that_stop_reading_hold_little_and_get_everything_once() {
    const SILENT: usize = 1_000;
    const READERS: usize = 10;
    let options = Options {
        queued_bytes: 2 << 20,
        stream_bytes: 256 << 10,
        ring_bytes: 64 << 10,
        ..Options::default()
    };
    // What one may queue in any case, and one response of the batches here.
    let of_stream = options.stream_bytes / 32 + PUTS * 400;
    let bound = options.queued_bytes + SILENT * of_stream;
    let mut world = World::new(Options::default());
    let clock = Arc::new(SystemClock::default());
    let (hub, worker, catch_up) =
        Hub::new(world.machine.reader(), Identity::default(), options, clock);
    let threads = Threads::default();
    threads.start("watch-hub", Box::new(worker));
    threads.start("watch-catch-up", Box::new(catch_up));
    let batches = world.batches();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let open = |number: usize| {
            let inbound = Inbound::default();
            // Each silent one has an interest of its own, so that nothing is shared.
            inbound.send(RequestUnion::CreateRequest(WatchCreateRequest {
                key: "key-".into(),
                range_end: format!("key.{number}").into(),
                start_revision: 2,
                ..WatchCreateRequest::default()
            }));
            Box::pin(Call::new(inbound, &hub, method()))
        };
        let mut silent: Vec<_> = (0..SILENT).map(open).collect();
        let mut readers: Vec<_> = (SILENT..SILENT + READERS).map(open).collect();
        let mut counters: Vec<_> = (0..SILENT + READERS).map(|_| Counter::default()).collect();
        for (call, counter) in silent.iter_mut().chain(&mut readers).zip(&mut counters) {
            while counter.responses == 0 {
                counter.count(&next(call).await);
            }
        }
        let all = BATCHES * PUTS;
        let mut most = 0;
        let (silent_counters, counters) = counters.split_at_mut(SILENT);
        for (number, batch) in batches.into_iter().enumerate() {
            hub.publish(batch);
            for (call, counter) in readers.iter_mut().zip(&mut *counters) {
                while counter.events < (number + 1) * PUTS {
                    let data = tokio::time::timeout(Duration::from_secs(20), next(call)).await;
                    counter.count(&data.expect("who reads is served"));
                }
            }
            most = most.max(hub.queued_bytes());
        }
        assert!(most <= bound, "{most} of {bound}");
        assert!(most > 2 << 20, "{most}: nobody was slow");
        for (call, counter) in silent.iter_mut().zip(silent_counters) {
            while counter.events < all {
                let data = tokio::time::timeout(Duration::from_secs(20), next(call)).await;
                counter.count(&data.expect("who reads again is served"));
            }
        }
        let rest = silent.iter_mut().chain(&mut readers);
        for call in rest {
            let more = tokio::time::timeout(Duration::ZERO, next(call)).await;
            assert!(more.is_err(), "nothing comes twice");
        }
    });
    hub.close();
    threads.join();
}
