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
