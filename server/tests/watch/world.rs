//! A store, its hub and Watch streams without threads, sockets or time of their own.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame};
use parking_lot::Mutex;
use prost::Message;
use proto::command::{Batch, Command, command::Op};
use proto::etcd::etcdserverpb::request_op::Request as TxnOp;
use proto::etcd::etcdserverpb::watch_request::RequestUnion;
use proto::etcd::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, WatchCancelRequest,
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use server::etcd::watch::Call;
use server::exec::{Clock, Work};
use server::metrics::{GrpcMethod, Metrics};
use server::watch::{CatchUpWorker, Hub, HubWorker, Identity, Options};
use store::engine::memory::MemoryEngine;
use store::{BATCH_FORMAT, ChangeSet, Entry, FEATURE_LEVEL, LogId, Machine, Payload, StateEngine};

/// A clock that a test sets.
#[derive(Default)]
pub(crate) struct SetClock(AtomicU64);

impl SetClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0
            .fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn wall_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// One change as a watcher should see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) revision: i64,
    pub(crate) is_delete: bool,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) previous: Option<Bytes>,
}

/// A change to be made: a put, or a delete if there is no value.
pub(crate) type Edit = (Vec<u8>, Option<Vec<u8>>);

/// The store and its hub.
pub(crate) struct World {
    pub(crate) machine: Machine,
    pub(crate) hub: Hub,
    pub(crate) worker: HubWorker,
    pub(crate) catch_up: CatchUpWorker,
    pub(crate) clock: Arc<SetClock>,
    index: u64,
    pub(crate) revision: i64,
    /// Applied and not yet published.
    pub(crate) unpublished: Vec<Arc<ChangeSet>>,
    /// Everything that ever happened, by a model of its own.
    pub(crate) events: Vec<Seen>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        Self::on(Arc::new(MemoryEngine::new()), options)
    }

    pub(crate) fn on(engine: Arc<dyn StateEngine>, options: Options) -> Self {
        Self::with_memory(engine, store::Options::default(), options)
    }

    pub(crate) fn with_memory(
        engine: Arc<dyn StateEngine>,
        memory: store::Options,
        options: Options,
    ) -> Self {
        let machine = Machine::open(engine, memory).unwrap();
        let clock = Arc::new(SetClock::default());
        let identity = Identity {
            cluster_id: 7,
            member_id: u64::MAX,
            term: Arc::new(AtomicU64::new(3)),
        };
        let (hub, worker, catch_up) = Hub::new(machine.reader(), identity, options, clock.clone());
        Self {
            machine,
            hub,
            worker,
            catch_up,
            clock,
            index: 0,
            revision: 1,
            unpublished: Vec::new(),
            events: Vec::new(),
            state: BTreeMap::new(),
        }
    }

    fn apply(&mut self, ops: Vec<Op>) {
        let commands = ops
            .into_iter()
            .map(|op| Command {
                op: Some(op),
                ..Command::default()
            })
            .collect();
        let batch = Batch {
            format: BATCH_FORMAT,
            feature_level: FEATURE_LEVEL,
            leader_time_ms: 0,
            commands,
        };
        self.index += 1;
        let payload = Payload::Commands(batch.encode_to_vec().into());
        let entry = Entry {
            id: LogId {
                term: 1,
                index: self.index,
            },
            payload,
        };
        let outcome = self.machine.apply(&[entry]).unwrap();
        assert!(
            outcome.answers.iter().all(|answer| answer.outcome.is_ok()),
            "{:?}",
            outcome.answers
        );
        self.unpublished.extend(outcome.changes);
    }

    /// Applies one batch of transactions; each is one revision, if it changes anything.
    pub(crate) fn write(&mut self, transactions: Vec<Vec<Edit>>) {
        let mut ops = Vec::new();
        for edits in transactions {
            let revision = self.revision + 1;
            for (key, value) in &edits {
                let previous = self.state.get(key).cloned();
                match value {
                    Some(value) => self.state.insert(key.clone(), value.clone()),
                    None if previous.is_none() => continue,
                    None => self.state.remove(key),
                };
                self.revision = revision;
                self.events.push(Seen {
                    revision,
                    is_delete: value.is_none(),
                    key: key.clone().into(),
                    value: value.clone().unwrap_or_default().into(),
                    previous: previous.map(Bytes::from),
                });
            }
            let request = |(key, value): Edit| match value {
                Some(value) => TxnOp::RequestPut(PutRequest {
                    key: key.into(),
                    value: value.into(),
                    ..PutRequest::default()
                }),
                None => TxnOp::RequestDeleteRange(DeleteRangeRequest {
                    key: key.into(),
                    ..DeleteRangeRequest::default()
                }),
            };
            let success = edits
                .into_iter()
                .map(|edit| RequestOp {
                    request: Some(request(edit)),
                })
                .collect();
            ops.push(Op::Txn(TxnRequest {
                success,
                ..TxnRequest::default()
            }));
        }
        self.apply(ops);
    }

    /// One put, published and handed out.
    pub(crate) fn put(&mut self, key: &str, value: &str) {
        self.write(vec![vec![(key.into(), Some(value.into()))]]);
        self.settle();
    }

    /// One delete, published and handed out.
    pub(crate) fn delete(&mut self, key: &str) {
        self.write(vec![vec![(key.into(), None)]]);
        self.settle();
    }

    pub(crate) fn compact(&mut self, revision: i64) {
        self.apply(vec![Op::Compact(CompactionRequest {
            revision,
            physical: false,
        })]);
    }

    pub(crate) fn publish(&mut self) {
        self.hub.publish(std::mem::take(&mut self.unpublished));
    }

    /// The store got here by a snapshot: what was applied since the last publication has no change sets.
    pub(crate) fn jump(&mut self) {
        self.unpublished.clear();
        self.hub.jumped(self.revision);
    }

    /// Publishes, and runs the workers until they have nothing to do.
    pub(crate) fn settle(&mut self) {
        self.publish();
        for _ in 0..100_000 {
            if !self.worker.has_work() && !self.catch_up.has_work() {
                return;
            }
            self.worker.step();
            self.catch_up.step();
        }
        panic!("the workers do not come to rest");
    }
}

#[derive(Default)]
struct Pipe {
    frames: VecDeque<Bytes>,
    is_closed: bool,
}

/// A request body that a test writes.
#[derive(Clone, Default)]
pub(crate) struct Inbound(Arc<Mutex<Pipe>>);

impl Body for Inbound {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        // Tests poll again by themselves, so no waker is kept.
        let mut pipe = self.0.lock();
        match pipe.frames.pop_front() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if pipe.is_closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl Inbound {
    pub(crate) fn send(&self, request: RequestUnion) {
        let message = WatchRequest {
            request_union: Some(request),
        }
        .encode_to_vec();
        let mut framed = vec![0];
        framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(&message);
        self.0.lock().frames.push_back(framed.into());
    }
}

/// What counts the messages of all tests.
pub(crate) fn method() -> GrpcMethod {
    static METHOD: OnceLock<GrpcMethod> = OnceLock::new();
    let new = || Metrics::new(false).grpc("etcdserverpb.Watch", "Watch");
    METHOD.get_or_init(new).clone()
}

/// A client of one stream.
pub(crate) struct Client {
    call: Call<Inbound>,
    inbound: Inbound,
    bytes: BytesMut,
    /// `grpc-status` and `grpc-message`, once the stream has ended.
    pub(crate) trailers: Option<(String, String)>,
}

impl Client {
    pub(crate) fn new(world: &World) -> Self {
        let inbound = Inbound::default();
        let call = Call::new(inbound.clone(), &world.hub, method());
        Self {
            call,
            inbound,
            bytes: BytesMut::new(),
            trailers: None,
        }
    }

    pub(crate) fn send_bytes(&self, bytes: Bytes) {
        self.inbound.0.lock().frames.push_back(bytes);
    }

    pub(crate) fn close(&self) {
        self.inbound.0.lock().is_closed = true;
    }

    fn send(&self, request: RequestUnion) {
        self.inbound.send(request);
    }

    pub(crate) fn create(&self, request: WatchCreateRequest) {
        self.send(RequestUnion::CreateRequest(request));
    }

    pub(crate) fn cancel(&self, watch_id: i64) {
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }

    pub(crate) fn progress(&self) {
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    /// Polls one frame; false if there is none.
    pub(crate) fn poll(&mut self) -> bool {
        let frame = Pin::new(&mut self.call).poll_frame(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Some(Ok(frame))) = frame else {
            return false;
        };
        match frame.into_data() {
            Ok(data) => self.bytes.extend_from_slice(&data),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap();
                let text = |name: &str| trailers[name].to_str().unwrap().to_owned();
                self.trailers = Some((text("grpc-status"), text("grpc-message")));
            }
        }
        true
    }

    /// The responses that are complete.
    pub(crate) fn decode(&mut self) -> Vec<WatchResponse> {
        let mut responses = Vec::new();
        while let Some([compressed, length @ ..]) = self.bytes.first_chunk::<5>().copied() {
            assert_eq!(compressed, 0);
            let length = u32::from_be_bytes(length) as usize;
            if self.bytes.len() < 5 + length {
                break;
            }
            self.bytes.advance(5);
            let response = WatchResponse::decode(self.bytes.split_to(length)).unwrap();
            let header = response.header.unwrap();
            assert_eq!(
                (header.cluster_id, header.member_id, header.raft_term),
                (7, u64::MAX, 3)
            );
            responses.push(response);
        }
        responses
    }

    /// What is here already, whatever the workers have still to do.
    pub(crate) fn receive(&mut self) -> Vec<WatchResponse> {
        while self.poll() {}
        self.decode()
    }

    /// Exchanges everything until both sides are idle.
    pub(crate) fn exchange(&mut self, world: &mut World) -> Vec<WatchResponse> {
        let mut responses = Vec::new();
        loop {
            let mut is_idle = true;
            while self.poll() {
                is_idle = false;
            }
            responses.extend(self.decode());
            if is_idle && !world.worker.has_work() && !world.catch_up.has_work() {
                return responses;
            }
            world.worker.step();
            world.catch_up.step();
        }
    }
}

/// What an event says.
pub(crate) fn seen(event: &proto::etcd::mvccpb::Event) -> Seen {
    let kv = event.kv.clone().unwrap();
    Seen {
        revision: kv.mod_revision,
        is_delete: event.r#type == 1,
        key: kv.key,
        value: kv.value,
        previous: event.prev_kv.clone().map(|previous| previous.value),
    }
}
