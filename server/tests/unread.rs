//! Clients that ask for much and take nothing of it: what they hold comes free, and others are served.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use client::{Client, Keys};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use proto::etcd::etcdserverpb::request_op::Request as TxnOp;
use proto::etcd::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest};
use server::Running;
use server::config::Invocation;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

/// More than a shard reads at once, and in more bytes than [`WINDOW`] and two pages.
const KEYS: usize = 12_000;
const VALUE: usize = 300;
/// All that is taken of a stream before anybody reads it.
const WINDOW: u32 = 64 * 1024;
/// In place of the minute.
const PATIENCE: Duration = Duration::from_millis(500);

/// A node in this process, with [`KEYS`] keys.
struct World {
    running: Running,
    client: Client,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let arguments = [
            "--data-dir",
            data_dir.to_str().unwrap(),
            "--listen-client-urls=http://127.0.0.1:0",
            "--advertise-client-urls=http://127.0.0.1:2379",
        ];
        let arguments = arguments.map(str::to_owned);
        let Ok(Invocation::Run(mut config)) = Invocation::read(&arguments, &Vec::new()) else {
            panic!("these flags start a node");
        };
        config.unread_timeout = PATIENCE;
        let started = spawn_blocking(move || server::start(*config)).await;
        let running = started.unwrap().unwrap();
        let address = running.client_addr().to_string();
        let client = client::connect(address).await.unwrap();
        for numbers in (0..KEYS).collect::<Vec<_>>().chunks(100) {
            let put = |number: &usize| RequestOp {
                request: Some(TxnOp::RequestPut(PutRequest {
                    key: format!("key/{number:08}").into(),
                    value: vec![b'v'; VALUE].into(),
                    ..PutRequest::default()
                })),
            };
            let txn = TxnRequest {
                success: numbers.iter().map(put).collect(),
                ..TxnRequest::default()
            };
            client.kv().txn(txn).await.unwrap();
        }
        Self {
            running,
            client,
            _folder: folder,
        }
    }

    /// A connection whose answers are taken as far as the window of each goes.
    async fn connect(&self) -> http2::SendRequest<Full<Bytes>> {
        let address = self.running.client_addr();
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(64 << 20)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        requests
    }

    async fn stop(self) {
        drop(self.client);
        let runtime = Handle::current();
        let stopped = spawn_blocking(move || runtime.block_on(self.running.stop()));
        stopped.await.unwrap();
    }
}

fn all() -> RangeRequest {
    let (key, range_end) = Keys::prefix("key/").into_wire();
    RangeRequest {
        key,
        range_end,
        ..RangeRequest::default()
    }
}

/// Calls a method; of the answer only the beginning has come.
async fn call(
    requests: &mut http2::SendRequest<Full<Bytes>>,
    method: &str,
    request: &RangeRequest,
) -> Response<Incoming> {
    let message = request.encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(&message);
    let request = Request::post(format!("http://node/etcdserverpb.KV/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(frame.freeze()))
        .unwrap();
    requests.ready().await.unwrap();
    requests.send_request(request).await.unwrap()
}

/// The status that ends an answer, and its text.
async fn end(answer: Response<Incoming>) -> (String, String) {
    let body = answer.into_body().collect().await.unwrap();
    let trailers = body.trailers().unwrap();
    let text = |name: &str| trailers[name].to_str().unwrap().to_owned();
    (text("grpc-status"), text("grpc-message"))
}

#[tokio::test]
async fn long_ranges_that_nobody_reads_make_place_for_others() {
    let world = World::start().await;
    let mut requests = world.connect().await;
    // Some 30 of them have all the memory that there is for such answers.
    let mut unread = Vec::new();
    for number in 0..40 {
        let answer = call(&mut requests, "Range", &all()).await;
        let refusal = answer.headers().get("grpc-message");
        assert!(refusal.is_none(), "range {number}: {refusal:?}");
        unread.push(answer);
    }
    let (status, text) = end(unread.swap_remove(0)).await;
    assert_eq!(status, "14");
    assert!(text.starts_with("holdfast: "), "{text}");

    let mut kv = world.client.kv().max_decoding_message_size(usize::MAX);
    let read = kv.range(all()).await.unwrap().into_inner();
    assert_eq!(read.kvs.len(), KEYS);
    drop((unread, requests));
    world.stop().await;
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_no_revision_for_long() {
    let world = World::start().await;
    let past = world.client.put("other", "1").await.unwrap();
    let now = world.client.put("other", "2").await.unwrap();
    let reader = world.running.node().reader().clone();
    assert_eq!(reader.oldest_needed(), now);
    let mut requests = world.connect().await;
    let of_past = RangeRequest {
        revision: past,
        ..all()
    };
    let unread = call(&mut requests, "RangeStream", &of_past).await;
    assert_eq!(reader.oldest_needed(), past, "what it is to read is kept");
    let began = Instant::now();
    while reader.oldest_needed() < now {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "it is still kept"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (status, text) = end(unread).await;
    assert_eq!(status, "14");
    assert!(text.starts_with("holdfast: "), "{text}");
    // It would keep the database open.
    drop((reader, requests));
    world.stop().await;
}
