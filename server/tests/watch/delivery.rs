//! Many watchers with real threads: nobody is forgotten, and what a delivery costs.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::BodyExt;
use prost::Message;
use proto::etcd::etcdserverpb::watch_request::RequestUnion;
use proto::etcd::etcdserverpb::{WatchCreateRequest, WatchRequest};
use server::etcd::watch::Call;
use server::exec::{Exec, SystemClock, Threads};
use server::watch::{Hub, Identity, Options};

use super::world::World;

const STREAMS: usize = 100;
const WATCHERS: usize = 10;

fn create(key: &'static [u8], end: &'static [u8]) -> Bytes {
    // The store is ahead of the hub, which begins with revision 2.
    let create = WatchCreateRequest {
        key: key.into(),
        range_end: end.into(),
        start_revision: 2,
        ..WatchCreateRequest::default()
    };
    let message = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }.encode_to_vec();
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

/// Counts responses by their prefixes, as the cheapest of clients would.
#[derive(Default)]
struct Counter {
    /// Bytes of a prefix that was cut by the end of a frame.
    prefix: Vec<u8>,
    skip: usize,
    responses: usize,
}

impl Counter {
    fn count(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let skipped = self.skip.min(data.len());
            self.skip -= skipped;
            data = &data[skipped..];
            let missing = (5 - self.prefix.len()).min(data.len());
            if self.skip > 0 || missing == 0 {
                continue;
            }
            self.prefix.extend_from_slice(&data[..missing]);
            data = &data[missing..];
            if let [_, length @ ..] = &self.prefix[..]
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                self.skip = u32::from_be_bytes(length) as usize;
                self.responses += 1;
                self.prefix.clear();
            }
        }
    }
}

/// A thousand watchers of one prefix on a hundred streams, the hub on its threads, the streams on a runtime.
/// Prints what a delivery costs up to the frames that the connection would send, both threads together.
#[test]
fn a_thousand_watchers_on_threads_all_get_every_revision() {
    let mut world = World::new(Options::default());
    let clock = Arc::new(SystemClock::default());
    let (hub, worker, catch_up) =
        Hub::new(world.machine.reader(), Identity::default(), Options::default(), clock);
    let threads = Threads::default();
    threads.start("watch-hub", Box::new(worker));
    threads.start("watch-catch-up", Box::new(catch_up));
    let revisions = 500;
    let mut batches = Vec::new();
    for number in 0..revisions / 5 {
        let put = |part: usize| vec![(format!("k/{number}/{part}").into_bytes(), Some(vec![b'v'; 256]))];
        world.write((0..5).map(put).collect());
        batches.push(std::mem::take(&mut world.unpublished));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let took = runtime.block_on(async {
        let (ready, mut all_ready) = tokio::sync::mpsc::unbounded_channel();
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let (hub, ready) = (hub.clone(), ready.clone());
            streams.push(tokio::spawn(async move {
                let (mut sender, inbound) = Channel::<Bytes>::new(WATCHERS);
                for _ in 0..WATCHERS {
                    sender.send_data(create(b"k/", b"k0")).await.unwrap();
                }
                let mut call = Box::pin(Call::new(inbound, &hub));
                let mut counter = Counter::default();
                while counter.responses < WATCHERS {
                    counter.count(&next(&mut call).await);
                }
                ready.send(()).unwrap();
                let mut last = 0;
                while last < i64::from(revisions) + 1 {
                    let data = next(&mut call).await;
                    counter.count(&data);
                    last = last.max(newest_revision(&data));
                }
                drop(sender);
                counter.responses
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
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        for stream in streams {
            let responses = tokio::time::timeout(Duration::from_secs(60), stream).await.unwrap().unwrap();
            assert!(responses > WATCHERS, "events came");
        }
        publisher.join().unwrap();
        start.elapsed()
    });
    let events = hub.stats().events.load(std::sync::atomic::Ordering::Relaxed);
    eprintln!("{events} deliveries in {took:?}");
    assert_eq!(events, (STREAMS * WATCHERS) as u64 * u64::try_from(revisions).unwrap());
    hub.close();
    threads.join();
}

async fn next(call: &mut Pin<Box<Call<Channel<Bytes>>>>) -> Bytes {
    call.frame().await.unwrap().unwrap().into_data().unwrap()
}

/// The last key that is in the data tells the revision: batch and part are in it.
fn newest_revision(data: &[u8]) -> i64 {
    let place = data.windows(2).rposition(|window| window == b"k/");
    let Some(place) = place else { return 0 };
    let key = data[place + 2..].split(|byte| !byte.is_ascii_digit() && *byte != b'/').next().unwrap();
    let text = std::str::from_utf8(key).unwrap();
    let (batch, part) = text.split_once('/').unwrap();
    batch.parse::<i64>().unwrap() * 5 + part.parse::<i64>().unwrap() + 2
}
