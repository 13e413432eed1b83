//! The client port, byte by byte and frame by frame: what no well-behaved client library would send.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod node;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use node::{Node, Signal, traced};
use prost::Message;
use proto::etcd::etcdserverpb::request_op::Request as TxnOp;
use proto::etcd::etcdserverpb::watch_request::RequestUnion;
use proto::etcd::etcdserverpb::{
    DeleteRangeRequest, PutRequest, PutResponse, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest, WatchRequest,
};
use proto::health::HealthCheckRequest;
use tokio::task::JoinHandle;

/// A request body that a test writes to.
#[derive(Clone, Default)]
struct Body(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    frames: VecDeque<Bytes>,
    is_closed: bool,
    waker: Option<Waker>,
}

impl Body {
    /// All of a body.
    fn whole(bytes: Vec<u8>) -> Self {
        let body = Self::default();
        body.send(bytes);
        body.close();
        body
    }

    fn send(&self, bytes: Vec<u8>) {
        self.change(|state| state.frames.push_back(bytes.into()));
    }

    fn close(&self) {
        self.change(|state| state.is_closed = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock().unwrap();
        change(&mut state);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut state = self.0.lock().unwrap();
        if let Some(bytes) = state.frames.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if state.is_closed {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// One HTTP/2 connection.
struct Connection {
    requests: http2::SendRequest<Body>,
    /// Resolves when the connection has ended, with how.
    ended: JoinHandle<hyper::Result<()>>,
}

impl Connection {
    async fn new(node: &Node) -> Self {
        let stream = tokio::net::TcpStream::connect(&node.endpoint)
            .await
            .unwrap();
        let (requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        Self {
            requests,
            ended: tokio::spawn(connection),
        }
    }

    /// Sends a gRPC request; the answer is what the future gives.
    fn call(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        let mut request = Request::post(format!("http://node{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.requests.send_request(request.body(body).unwrap())
    }
}

/// The bytes of an answer, and `grpc-status` and `grpc-message`, wherever they are.
async fn answer(response: Response<Incoming>) -> (Bytes, String, String) {
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers().clone();
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let text = |name: &str| {
        let value = trailers.get(name).or_else(|| headers.get(name));
        value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    };
    let (status, message) = (text("grpc-status"), text("grpc-message"));
    (body.to_bytes(), status, message)
}

/// A message as gRPC frames it.
fn framed(message: &impl Message) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    message.encode(&mut frame).unwrap();
    frame
}

fn put(key: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: "v".into(),
        ..Default::default()
    }
}

fn start() -> (tempfile::TempDir, Node) {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    (folder, node)
}

/// Sends pieces of a request with pauses between, and gives what comes back until the end.
fn in_pieces(node: &Node, pieces: &[&[u8]]) -> Vec<u8> {
    let mut stream = TcpStream::connect(&node.endpoint).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    for piece in pieces {
        stream.write_all(piece).unwrap();
        // Long enough for the server to look at each piece alone.
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    back
}

/// The figure of a metric, by its name and some of its labels.
fn figure(node: &Node, name: &str, labels: &[&str]) -> u64 {
    let request = b"GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
    let text = String::from_utf8(in_pieces(node, &[request])).unwrap();
    let line = text.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    let line = line.unwrap_or_else(|| panic!("no {name} with {labels:?}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn an_http1_request_is_understood_however_its_bytes_arrive() {
    let (_folder, node) = start();
    let get: [&[u8]; 4] = [
        b"G",
        b"ET /hea",
        b"lth HTTP/1.1\r\nhost: no",
        b"de\r\nconnection: close\r\n\r\n",
    ];
    let text = String::from_utf8(in_pieces(&node, &get)).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.ends_with(r#"{"health":"true","reason":""}"#), "{text}");
    // It begins as the preface of HTTP/2 does.
    let put: [&[u8]; 3] = [
        b"P",
        b"UT /version HTTP/1.1\r\nhost: node\r\n",
        b"content-length: 0\r\nconnection: close\r\n\r\n",
    ];
    let text = String::from_utf8(in_pieces(&node, &put)).unwrap();
    assert!(text.starts_with("HTTP/1.1 405 "), "{text}");
}

#[test]
fn an_http2_preface_in_pieces_is_answered_with_settings() {
    let (_folder, node) = start();
    let mut stream = TcpStream::connect(&node.endpoint).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let settings = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let pieces: [&[u8]; 4] = [b"PR", b"I * HTTP/2.0\r\n\r\n", b"SM\r\n\r\n", settings];
    for piece in pieces {
        stream.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4, "the first frame is SETTINGS");
}

#[tokio::test]
async fn grpc_and_http_share_a_port_and_even_a_connection() {
    let (_folder, node) = start();
    let mut connection = Connection::new(&node).await;
    let written = connection.call("/etcdserverpb.KV/Put", &[], Body::whole(framed(&put("a"))));
    let version = Request::get("http://node/version")
        .body(Body::whole(Vec::new()))
        .unwrap();
    let version = connection.requests.send_request(version);
    let (message, status, _) = answer(written.await.unwrap()).await;
    assert_eq!(status, "0");
    let message = PutResponse::decode(message.slice(5..)).unwrap();
    assert_eq!(message.header.unwrap().revision, 2);
    let version = version.await.unwrap();
    assert_eq!(version.status(), StatusCode::OK);
    let text = version.into_body().collect().await.unwrap().to_bytes();
    assert!(text.starts_with(br#"{"etcdserver":""#), "{text:?}");
}

#[tokio::test]
async fn bad_calls_are_refused_with_code_and_text_and_the_connection_lives_on() {
    let (_folder, node) = start();
    let mut connection = Connection::new(&node).await;
    let mut compressed = framed(&put("a"));
    compressed[0] = 1;
    let mut oversize = vec![0];
    oversize.extend_from_slice(&3_000_000_u32.to_be_bytes());
    let unfinished = framed(&put("a"))[..6].to_vec();
    let twice = [framed(&put("a")), framed(&put("a"))].concat();
    let malformed = vec![0, 0, 0, 0, 2, 0x0a, 0x7f];
    let no_key = framed(&PutRequest::default());
    let table = [
        (
            "/etcdserverpb.KV/Put",
            compressed,
            "12",
            "grpc: compression not supported",
        ),
        (
            "/etcdserverpb.KV/Put",
            oversize,
            "8",
            "grpc: received message larger than max (3000000 vs. 2097152)",
        ),
        (
            "/etcdserverpb.KV/Put",
            unfinished,
            "13",
            "grpc: the request carries no complete message",
        ),
        (
            "/etcdserverpb.KV/Put",
            Vec::new(),
            "13",
            "grpc: the request carries no complete message",
        ),
        (
            "/etcdserverpb.KV/Put",
            twice,
            "13",
            "grpc: the request carries more than one message",
        ),
        (
            "/etcdserverpb.KV/Put",
            malformed,
            "13",
            "grpc: failed to unmarshal the received message",
        ),
        (
            "/etcdserverpb.KV/Put",
            no_key,
            "3",
            "etcdserver: key is not provided",
        ),
        (
            "/etcdserverpb.KV/Increment",
            framed(&put("a")),
            "12",
            "unknown method Increment for service etcdserverpb.KV",
        ),
        (
            "/kv.Other/Put",
            framed(&put("a")),
            "12",
            "unknown service kv.Other",
        ),
        (
            "/nothing",
            framed(&put("a")),
            "12",
            "malformed method name: \"/nothing\"",
        ),
        (
            "/etcdserverpb.Auth/AuthStatus",
            framed(&put("a")),
            "12",
            "holdfast: AuthStatus is not built yet",
        ),
    ];
    for (path, body, code, text) in table {
        let response = connection.call(path, &[], Body::whole(body)).await.unwrap();
        let (message, status, told) = answer(response).await;
        assert_eq!((status.as_str(), told.as_str()), (code, text), "{path}");
        assert!(message.is_empty());
    }
    let get = Request::get("http://node/etcdserverpb.KV/Put")
        .header("content-type", "application/grpc")
        .body(Body::whole(Vec::new()))
        .unwrap();
    let refused = connection.requests.send_request(get).await.unwrap();
    assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);

    let fine = connection.call("/etcdserverpb.KV/Put", &[], Body::whole(framed(&put("a"))));
    let (message, status, _) = answer(fine.await.unwrap()).await;
    assert_eq!(status, "0");
    let message = PutResponse::decode(message.slice(5..)).unwrap();
    assert_eq!(
        message.header.unwrap().revision,
        2,
        "nothing of all that was written"
    );
}

#[tokio::test]
async fn a_request_that_is_not_sent_to_its_end_gets_the_clients_deadline() {
    let (_folder, node) = start();
    let mut connection = Connection::new(&node).await;
    let body = Body::default();
    body.send(framed(&put("a"))[..4].to_vec());
    let began = Instant::now();
    let call = connection.call("/etcdserverpb.KV/Put", &[("grpc-timeout", "200m")], body);
    let (_, status, text) = answer(call.await.unwrap()).await;
    assert_eq!(
        (status.as_str(), text.as_str()),
        ("4", "context deadline exceeded")
    );
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "not the server's own limit"
    );
}

#[tokio::test]
async fn a_put_that_waits_for_a_slow_disk_gets_the_clients_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // A first start makes files, with syncs that this is not about.
    assert!(Node::start(&data).terminate().success());
    let wrapper = traced("inject=fdatasync:delay_enter=2000000:when=30+");
    let node = Node::start_under(&wrapper, &data, &[]);
    let mut connection = Connection::new(&node).await;
    for _ in 0..40 {
        let body = Body::whole(framed(&put("a")));
        let call = connection.call("/etcdserverpb.KV/Put", &[("grpc-timeout", "300m")], body);
        let (_, status, text) = answer(call.await.unwrap()).await;
        if status != "0" {
            assert_eq!(
                (status.as_str(), text.as_str()),
                ("4", "context deadline exceeded")
            );
            return;
        }
    }
    panic!("no put was slow");
}

#[tokio::test]
async fn a_stopping_node_answers_what_is_in_flight_and_ends_its_connections_in_peace() {
    let (_folder, mut node) = start();
    let mut connection = Connection::new(&node).await;
    let body = Body::default();
    let (first, rest) = {
        let mut bytes = framed(&put("last"));
        let rest = bytes.split_off(7);
        (bytes, rest)
    };
    body.send(first);
    let call = tokio::spawn(connection.call("/etcdserverpb.KV/Put", &[], body.clone()));
    // A second call on the same connection shows that the first one's headers were read.
    let (_, status, _) = answer(
        connection
            .call("/etcdserverpb.KV/Put", &[], Body::whole(framed(&put("a"))))
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(status, "0");

    node.signal(Signal::TERM);
    node.wait_for_log("received signal; shutting down");
    body.send(rest);
    body.close();
    let (message, status, text) = answer(call.await.unwrap().unwrap()).await;
    assert_eq!((status.as_str(), text.as_str()), ("0", ""));
    let message = PutResponse::decode(message.slice(5..)).unwrap();
    assert_eq!(message.header.unwrap().revision, 3);
    // Only GOAWAY without an error ends a client's connection with success.
    let ended = tokio::time::timeout(Duration::from_secs(10), connection.ended).await;
    ended.unwrap().unwrap().unwrap();
    let after = connection
        .requests
        .send_request(Request::get("http://node/").body(Body::default()).unwrap());
    assert!(after.await.is_err());
    let (code, log) = tokio::task::spawn_blocking(|| node.wait()).await.unwrap();
    assert_eq!(code, Some(0), "{log:?}");
}

#[tokio::test]
async fn every_call_is_counted_when_it_begins_and_when_it_ends() {
    let (_folder, node) = start();
    let mut connection = Connection::new(&node).await;
    let count = |name: &str, method: &str, code: &str| {
        let method = format!("grpc_method=\"{method}\"");
        let code = format!("grpc_code=\"{code}\"");
        let labels = [&*method, &*code];
        let labels = if name == "handled" {
            &labels[..]
        } else {
            &labels[..1]
        };
        figure(&node, &format!("grpc_server_{name}_total"), labels)
    };
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: "a".into(),
            ..Default::default()
        })),
    };
    let body = Body::default();
    body.send([framed(&create), framed(&create)].concat());
    let watch = connection.call("/etcdserverpb.Watch/Watch", &[], body.clone());
    let mut watch = watch.await.unwrap().into_body();
    let responses = async |watch: &mut Incoming, until: u64| {
        while count("msg_sent", "Watch\",grpc_service=\"etcdserverpb.Watch", "") < until {
            let frame = tokio::time::timeout(Duration::from_secs(10), watch.frame()).await;
            let frame = frame.expect("a response comes").unwrap().unwrap();
            assert!(frame.is_data());
        }
    };
    responses(&mut watch, 2).await;
    let (_, status, _) = answer(
        connection
            .call("/etcdserverpb.KV/Put", &[], Body::whole(framed(&put("a"))))
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(status, "0");
    responses(&mut watch, 4).await;
    let of_watch = "Watch\",grpc_service=\"etcdserverpb.Watch";
    assert_eq!(count("started", of_watch, ""), 1);
    assert_eq!(count("msg_received", of_watch, ""), 2);
    assert_eq!(count("handled", of_watch, "Canceled"), 0, "it still runs");
    assert_eq!(
        figure(&node, "etcd_debugging_mvcc_watch_stream_total", &[]),
        1
    );
    assert_eq!(figure(&node, "etcd_debugging_mvcc_watcher_total", &[]), 2);
    assert_eq!(figure(&node, "etcd_debugging_mvcc_events_total", &[]), 2);
    assert!(figure(&node, "holdfast_memory_bytes", &["ring"]) > 0);
    assert!(figure(&node, "holdfast_memory_bytes", &["log_tail"]) > 0);

    // The client loses interest: its stream is reset once nothing holds it.
    drop(watch);
    body.close();
    let until = async |method: &str, code: &str| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while count("handled", method, code) == 0 {
            assert!(Instant::now() < deadline, "{method} never ended as {code}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    until(of_watch, "Canceled").await;

    let health = connection.call(
        "/grpc.health.v1.Health/Watch",
        &[],
        Body::whole(framed(&HealthCheckRequest::default())),
    );
    let mut health = health.await.unwrap().into_body();
    health.frame().await.unwrap().unwrap();
    let of_health = "Watch\",grpc_service=\"grpc.health.v1.Health";
    assert_eq!(count("started", of_health, ""), 1);
    assert_eq!(count("msg_sent", of_health, ""), 1);
    assert_eq!(count("handled", of_health, "OK"), 0);
    drop(health);
    until(of_health, "Canceled").await;

    let unbuilt = connection.call("/etcdserverpb.Auth/AuthStatus", &[], Body::whole(vec![]));
    answer(unbuilt.await.unwrap()).await;
    assert_eq!(count("started", "AuthStatus", ""), 1);
    assert_eq!(count("handled", "AuthStatus", "Unimplemented"), 1);
}

#[tokio::test]
async fn operations_are_counted_wherever_they_were_asked_for() {
    let (_folder, node) = start();
    let mut connection = Connection::new(&node).await;
    let range = || RangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    let op = |request| RequestOp {
        request: Some(request),
    };
    let delete = DeleteRangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    let writes = TxnRequest {
        success: vec![
            op(TxnOp::RequestPut(put("b"))),
            op(TxnOp::RequestRange(range())),
        ],
        ..Default::default()
    };
    let reads = TxnRequest {
        success: vec![
            op(TxnOp::RequestRange(range())),
            op(TxnOp::RequestRange(range())),
        ],
        ..Default::default()
    };
    let calls = [
        ("Put", framed(&put("a"))),
        ("Range", framed(&range())),
        ("RangeStream", framed(&range())),
        ("DeleteRange", framed(&delete)),
        ("Txn", framed(&writes)),
        ("Txn", framed(&reads)),
    ];
    for (method, body) in calls {
        let path = format!("/etcdserverpb.KV/{method}");
        let response = connection.call(&path, &[], Body::whole(body)).await;
        assert_eq!(answer(response.unwrap()).await.1, "0", "{method}");
    }
    for (operation, count) in [("put", 2), ("range", 5), ("delete", 1), ("txn", 2)] {
        let name = format!("etcd_mvcc_{operation}_total");
        // A second scrape counts nothing again.
        figure(&node, &name, &[]);
        assert_eq!(figure(&node, &name, &[]), count, "{name}");
    }
}
