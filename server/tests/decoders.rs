//! Every decoder of bytes from the network and from files that people can edit, fed with damaged ones: an error,
//! never a panic, a loop or a flood. And what passes the checks of a request can be applied.
//!
//! The messages in `tests/corpus` were written by
//! `cargo test -p holdfast-server --test decoders -- --ignored write_the_corpus`; texts are written by hand.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of tests are small"
)]

#[path = "../../store/tests/fuzz/mod.rs"]
mod fuzz;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use fuzz::{fuzz, write_corpus};
use http_body::{Body, Frame};
use prost::Message;
use proto::command::{Batch, Command, command::Op};
use proto::etcd::etcdserverpb::compare::TargetUnion;
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::watch_request::RequestUnion;
use proto::etcd::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
};
use server::config::Invocation;
use server::data_dir::{DataDir, DataDirError, Identity};
use server::etcd::watch::Call;
use server::etcd::{check, codec, parse_timeout};
use server::exec::{Clock, Work};
use server::metrics::Metrics;
use server::watch::{self, Hub};
use store::engine::memory::MemoryEngine;
use store::{BATCH_FORMAT, Entry, FEATURE_LEVEL, LogId, Machine, Payload};

/// Cases of each decoder that is quick.
const CASES: u64 = 50_000;

fn machine() -> Machine {
    let engine = Arc::new(MemoryEngine::new());
    let mut machine = Machine::open(engine, store::Options::default()).unwrap();
    for key in ["a", "b", "b", "c"] {
        let put = PutRequest {
            key: key.into(),
            value: "value".into(),
            ..Default::default()
        };
        apply(&mut machine, Op::Put(put));
    }
    machine
}

/// A request that passed its checks is the state machine's to answer or refuse, never to fail on.
fn apply(machine: &mut Machine, op: Op) -> usize {
    let batch = Batch {
        format: BATCH_FORMAT,
        feature_level: FEATURE_LEVEL,
        leader_time_ms: 0,
        commands: vec![Command {
            op: Some(op),
            ..Default::default()
        }],
    };
    let index = machine.applied().map_or(1, |applied| applied.index + 1);
    let entry = Entry {
        id: LogId { term: 1, index },
        payload: Payload::Commands(batch.encode_to_vec().into()),
    };
    let outcome = machine.apply(&[entry]).unwrap();
    outcome.changes.iter().map(|set| set.changes.len()).sum()
}

#[test]
fn requests_of_the_kv_service() {
    let machines = RefCell::new((machine(), 0));
    fuzz("request", CASES, |input| {
        let (machine, count) = &mut *machines.borrow_mut();
        *count += 1;
        if *count % 300 == 0 {
            *machine = self::machine();
        }
        let mut given = 0;
        // One is as good as the other until somebody says what it is.
        if let Ok(request) = RangeRequest::decode(input) {
            drop(check::range_stream(&request));
            if check::range(&request).is_ok() {
                let reader = machine.reader();
                let answer = reader.range(&reader.view(), &request).unwrap();
                given += answer.map_or(0, |answer| answer.records.len());
            }
        }
        if let Ok(request) = PutRequest::decode(input)
            && check::put(&request).is_ok()
        {
            given += apply(machine, Op::Put(request));
        }
        if let Ok(request) = DeleteRangeRequest::decode(input)
            && check::delete_range(&request).is_ok()
        {
            given += apply(machine, Op::DeleteRange(request));
        }
        if let Ok(request) = TxnRequest::decode(input)
            && check::txn(&request, 128).is_ok()
        {
            // Without a range at all there is nothing to wait for.
            let is_empty = request.success.is_empty() && request.failure.is_empty();
            assert!(!is_empty || check::is_serializable(&request));
            if check::is_read_only(&request) {
                let reader = machine.reader();
                drop(reader.txn(&reader.view(), &request).unwrap());
            }
            given += apply(machine, Op::Txn(request));
        }
        if let Ok(request) = CompactionRequest::decode(input) {
            apply(machine, Op::Compact(request));
        }
        given
    });
}

/// A request body in pieces.
struct Pieces(VecDeque<Bytes>);

impl Pieces {
    /// The first byte says how long a piece is.
    fn new(input: &[u8]) -> Self {
        let Some((&size, rest)) = input.split_first() else {
            return Self(VecDeque::new());
        };
        let pieces = rest.chunks(usize::from(size).max(1));
        Self(pieces.map(Bytes::copy_from_slice).collect())
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

#[test]
fn frames_of_unary_calls() {
    const LIMIT: usize = 1000;
    fuzz("unary", CASES, |input| {
        let read = codec::read(Pieces::new(input), LIMIT).now_or_never();
        let Ok(message) = read.expect("all of the body is there") else {
            return 0;
        };
        // What is a message is what was framed.
        assert_eq!(message, &input[1 + codec::PREFIX..]);
        assert!(message.len() <= LIMIT);
        message.len()
    });
}

struct NoClock;

impl Clock for NoClock {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn wall_ms(&self) -> u64 {
        0
    }
}

#[test]
fn streams_of_watch_requests() {
    let machine = machine();
    let method = Metrics::new(false).grpc("etcdserverpb.Watch", "Watch");
    let identity = || watch::Identity {
        cluster_id: 7,
        member_id: 1,
        term: Arc::new(AtomicU64::new(3)),
    };
    let open = || {
        let options = watch::Options::default();
        Hub::new(machine.reader(), identity(), options, Arc::new(NoClock))
    };
    let hub = RefCell::new((open(), 0));
    fuzz("watch", CASES, |input| {
        let ((hub, worker, catch_up), count) = &mut *hub.borrow_mut();
        *count += 1;
        if *count % 500 == 0 {
            (*hub, *worker, *catch_up) = open();
        }
        let mut call = Call::new(Pieces::new(input), hub, method.clone());
        let mut context = Context::from_waker(Waker::noop());
        let mut given = 0;
        // The hub works, and what it says is read, until neither has anything more to do.
        for _ in 0..1000 {
            let mut any = worker.step() | catch_up.step();
            while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut call).poll_frame(&mut context) {
                given += frame.data_ref().map_or(0, Bytes::len);
                any = true;
            }
            if !any {
                return given / 20;
            }
        }
        panic!("it never falls quiet");
    });
}

#[test]
fn timeouts() {
    fuzz("timeout", CASES, |input| {
        let text = String::from_utf8_lossy(input);
        let timeout = parse_timeout(&text);
        assert!(timeout.is_none() || text.len() <= 9);
        0
    });
}

#[test]
fn config_files() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["config.json", "config.yaml"].map(|name| folder.path().join(name));
    fuzz("config", 10_000, |input| {
        let path = &paths[input.len() % 2];
        let arguments = ["--config-file".to_owned(), path.display().to_string()];
        std::fs::write(path, input).unwrap();
        match Invocation::read(&arguments, &Vec::new()) {
            Ok(_) => 0,
            Err(error) => {
                let text = error.to_string();
                assert!(!text.is_empty());
                text.len()
            }
        }
    });
}

#[test]
fn identities() {
    let folder = tempfile::tempdir().unwrap();
    let member = folder.path().join("member");
    std::fs::create_dir(&member).unwrap();
    // Whoever gets through makes the raised boot counter durable, which takes its time.
    fuzz("identity", 3_000, |input| {
        std::fs::write(member.join("identity.json"), input).unwrap();
        let bootstrap = || -> Result<Identity, DataDirError> {
            panic!("a file that is there is never taken for a new folder")
        };
        // A folder of its own for the log would leave the temporary one.
        let text = String::from_utf8_lossy(input);
        let has_path = text.contains("..") || text.contains('/') || text.contains('\\');
        if has_path {
            return 0;
        }
        match DataDir::open(folder.path(), None, bootstrap) {
            Ok(opened) => {
                assert!(opened.boot() > 0 && !opened.is_new());
                let Identity {
                    cluster_id,
                    member_id,
                } = opened.identity();
                assert!(cluster_id != 0 && member_id != 0);
                0
            }
            Err(error) => error.to_string().len(),
        }
    });
}

fn framed(messages: &[Vec<u8>], piece: u8) -> Vec<u8> {
    let mut out = vec![piece];
    for message in messages {
        out.push(0);
        out.extend_from_slice(&(message.len() as u32).to_be_bytes());
        out.extend_from_slice(message);
    }
    out
}

/// Run it after a change of the requests, look at the difference, and commit it.
#[test]
#[ignore = "writes into the source tree: cargo test -p holdfast-server --test decoders -- --ignored write_the_corpus"]
fn write_the_corpus() {
    let range = RangeRequest {
        key: "a".into(),
        range_end: "\0".into(),
        limit: 2,
        revision: 3,
        sort_order: 2,
        sort_target: 4,
        min_mod_revision: 1,
        max_create_revision: 9,
        ..Default::default()
    };
    let put = PutRequest {
        key: "a".into(),
        value: "value".into(),
        prev_kv: true,
        ..Default::default()
    };
    let delete = DeleteRangeRequest {
        key: "a".into(),
        range_end: "c".into(),
        prev_kv: true,
    };
    let op = |request| RequestOp {
        request: Some(request),
    };
    let compare = |union| Compare {
        result: 1,
        target: 3,
        key: "a".into(),
        range_end: "b".into(),
        target_union: Some(union),
    };
    let mut txn = TxnRequest::default();
    for union in [
        TargetUnion::ModRevision(1),
        TargetUnion::Version(-1),
        TargetUnion::CreateRevision(0),
        TargetUnion::Lease(-1),
        TargetUnion::Value("value".into()),
    ] {
        txn = TxnRequest {
            compare: vec![compare(union)],
            success: vec![
                op(Request::RequestTxn(txn)),
                op(Request::RequestRange(range.clone())),
            ],
            failure: vec![
                op(Request::RequestDeleteRange(delete.clone())),
                op(Request::RequestPut(put.clone())),
            ],
        };
    }
    let compaction = CompactionRequest {
        revision: 3,
        physical: true,
    };
    let requests = [
        range.encode_to_vec(),
        put.encode_to_vec(),
        delete.encode_to_vec(),
        txn.encode_to_vec(),
        compaction.encode_to_vec(),
    ];
    write_corpus("request", &requests);
    let unary: Vec<_> = requests
        .iter()
        .zip([255, 1, 3, 100, 5])
        .map(|(request, piece)| framed(std::slice::from_ref(request), piece))
        .collect();
    write_corpus("unary", &unary);
    let watch = |union| {
        let request = WatchRequest {
            request_union: Some(union),
        };
        request.encode_to_vec()
    };
    let create = |create: &WatchCreateRequest| watch(RequestUnion::CreateRequest(create.clone()));
    let all = WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..Default::default()
    };
    let first = WatchCreateRequest {
        key: "a".into(),
        range_end: "c".into(),
        start_revision: 1,
        progress_notify: true,
        filters: vec![1],
        prev_kv: true,
        watch_id: 5,
        fragment: true,
    };
    let cancel = watch(RequestUnion::CancelRequest(WatchCancelRequest {
        watch_id: 5,
    }));
    let progress = watch(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    let streams = [
        framed(
            &[create(&first), create(&all), progress, cancel.clone()],
            255,
        ),
        framed(&[create(&all), cancel], 3),
        framed(&[create(&first)], 1),
    ];
    write_corpus("watch", &streams);
}
