//! The etcd v3 face of a node: from a request to the handler of its method, and the answer back.
//!
//! Dispatch is one match on the path, and a unary call is read, handled and answered in the task of its stream:
//! no layers, and nothing boxed but what is rare.

mod big_list;
pub mod check;
pub mod cluster;
pub mod codec;
mod defragment;
mod election;
mod ending;
pub mod error;
mod follow;
mod guard;
mod hash;
pub mod health;
pub mod kv;
mod lease;
mod lock;
pub mod maintenance;
mod messages;
mod offload;
mod range_stream;
mod reconfigure;
mod snapshot;
pub mod unimplemented;
mod unread;
pub mod watch;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method as HttpMethod, Request, Response, Version};
use hyper::body::Incoming;
use prost::Message;
use proto::etcd::etcdserverpb::Member;
use tokio::sync::Semaphore;
use tokio::sync::watch::Receiver;
use tonic::Code;

pub use codec::Body;
pub use error::Status;

use defragment::Defragments;
use ending::{Cuts, Ending};
use offload::Offload;

use crate::http::Web;
use crate::listen::{Peer, Serve};
use crate::metrics::GrpcMethod;
use crate::node::{Call, Node};

/// How much longer than `--max-request-bytes` a message may be before it is not even read.
pub(crate) const RECEIVE_SLACK: usize = 512 * 1024;

/// What the services are told at the start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Longest encoded write.
    pub max_request_bytes: usize,
    /// Most operations of a transaction.
    pub max_txn_ops: usize,
    /// How long a request may take; a client's own deadline can only shorten it.
    pub request_timeout: Duration,
    /// How long the rest of a long answer waits for its client to take more of it.
    pub unread_timeout: Duration,
    /// A request that takes longer is logged.
    pub slow_request: Duration,
    /// The quota in force; negative for none.
    pub quota_bytes: i64,
    /// Where files are made that nobody else needs; on the disk of the data.
    pub temporary_dir: PathBuf,
    /// This member, as clients see it.
    pub member: Member,
    /// Whether a change of members must leave a quorum that runs.
    pub is_reconfig_strict: bool,
    /// How many learners there may be.
    pub max_learners: u64,
    /// The shortest time to live of a lease, in seconds.
    pub min_lease_ttl: i64,
    /// Whether clients may not write where the resource API keeps its objects.
    pub guards_objects: bool,
}

/// Everything that answers on the client port; one for a node, shared by all connections.
pub struct Service {
    pub(crate) node: Node,
    pub(crate) options: Options,
    /// True from the moment on when the server begins to stop.
    pub(crate) stopping: Receiver<bool>,
    /// Hashes at work; each reads the whole store.
    hashes: Offload,
    /// Reads at work that are too long for a shard.
    long_reads: Arc<Offload>,
    /// Memory of the answers that are sent while they are read, in KiB.
    list_memory: Arc<Semaphore>,
    defragments: Defragments,
    /// Snapshots being made or sent.
    snapshots: Arc<Semaphore>,
    /// For streams that asked for a leader.
    cuts: Cuts,
    web: Web,
    methods: Methods,
}

/// What a member that only learns answers; of the reads, those that need not be new.
const LEARNERS: [&str; 6] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/RangeStream",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Snapshot",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
];

/// The metadata by which a client asks for a leader.
const HAS_LEADER: &str = "hasleader";

/// Hashes that may run at once; more would only take the disk from everybody else.
const HASHES: usize = 1;

/// Long reads that run at once, for the same reason.
const LONG_READS: usize = 2;

/// See [`Service::list_memory`].
const LIST_MEMORY_KIB: u32 = 64 << 10;

/// Snapshots that may be made or sent at once: each takes disk space for the whole state.
const SNAPSHOTS: usize = 2;

/// The counters of each method, looked up once.
struct Methods {
    range: GrpcMethod,
    range_stream: GrpcMethod,
    put: GrpcMethod,
    delete_range: GrpcMethod,
    txn: GrpcMethod,
    compact: GrpcMethod,
    watch: GrpcMethod,
    lease_grant: GrpcMethod,
    lease_revoke: GrpcMethod,
    lease_keep_alive: GrpcMethod,
    lease_time_to_live: GrpcMethod,
    lease_leases: GrpcMethod,
    lock: GrpcMethod,
    unlock: GrpcMethod,
    campaign: GrpcMethod,
    proclaim: GrpcMethod,
    leader: GrpcMethod,
    observe: GrpcMethod,
    resign: GrpcMethod,
    member_list: GrpcMethod,
    member_add: GrpcMethod,
    member_remove: GrpcMethod,
    member_update: GrpcMethod,
    member_promote: GrpcMethod,
    alarm: GrpcMethod,
    move_leader: GrpcMethod,
    defragment: GrpcMethod,
    status: GrpcMethod,
    hash_kv: GrpcMethod,
    hash: GrpcMethod,
    snapshot: GrpcMethod,
    health_check: GrpcMethod,
    health_watch: GrpcMethod,
}

/// What a handler knows besides its request.
pub(crate) struct Context {
    pub(crate) call: Call,
    /// The length of the encoded request.
    pub(crate) received: usize,
    started: Instant,
    peer: SocketAddr,
    /// The client's deadline is the one that counts.
    is_client_deadline: bool,
    /// The client's deadline, if it has one.
    client_timeout: Option<Duration>,
}

/// What a handler gives back.
pub(crate) struct Outcome {
    body: Body,
    /// Bytes of the message; zero for a stream, which counts its own.
    sent: usize,
}

/// For the log: what a request was about.
struct Subject<'a> {
    key: &'a [u8],
    range_end: &'a [u8],
    count: i64,
}

impl Outcome {
    /// An answer that is a body already.
    fn of(body: Body) -> Self {
        let sent = match &body {
            Body::Message(message) => message.len(),
            Body::List(list) => list.remaining(),
            Body::Empty | Body::Trailers | Body::Other(_) | Body::Fragile(_) => 0,
        };
        Self { body, sent }
    }

    /// The one message of a unary answer.
    fn of_message(message: &impl Message) -> Self {
        Self::of(Body::Message(codec::frame(message)))
    }
}

impl Context {
    /// Time since the request was read.
    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// What is left of the time that it may take.
    fn left(&self) -> Duration {
        self.call.timeout.saturating_sub(self.elapsed())
    }

    /// The same by the client's own deadline alone, for what may take as long as its client likes.
    fn client_left(&self) -> Option<Duration> {
        let timeout = self.client_timeout?;
        Some(timeout.saturating_sub(self.elapsed()))
    }

    /// Logs the request if it took long. `read_from` is when it came to reading the store.
    fn watch_slow<'a>(
        &self,
        service: &Service,
        method: &'static str,
        read_from: Option<Duration>,
        sent: usize,
        subject: impl FnOnce() -> Subject<'a>,
    ) {
        let took = self.elapsed();
        if took < service.options.slow_request {
            return;
        }
        let subject = subject();
        let [(_, queued), (_, committed), (_, applied)] = self.call.timings.stages();
        tracing::warn!(
            method,
            key = %subject.key.escape_ascii(),
            range_end = %subject.range_end.escape_ascii(),
            count = subject.count,
            request_bytes = self.received,
            response_bytes = sent,
            took_ms = millis(took),
            // Of a write: waiting for its turn, for the log, for the state machine.
            queued_ms = millis(queued),
            committed_ms = millis(committed),
            applied_ms = millis(applied),
            // Of a read: being allowed to, then reading and encoding.
            confirmed_ms = millis(read_from.unwrap_or_default()),
            read_ms = millis(read_from.map_or(Duration::ZERO, |from| took.saturating_sub(from))),
            user = self.call.principal.as_deref().unwrap_or_default(),
            peer = %self.peer,
            trace_id = self.call.trace_id,
            "slow request"
        );
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

impl Service {
    /// What clients may not write.
    fn guard(&self) -> guard::Guard {
        guard::Guard::new(self.options.guards_objects)
    }

    /// A service for the connections of one node. `stopping` turns true when the server begins to stop.
    pub fn new(node: Node, web: Web, options: Options, stopping: Receiver<bool>) -> Arc<Self> {
        let metrics = node.metrics().clone();
        let methods = Methods {
            range: metrics.grpc("etcdserverpb.KV", "Range"),
            range_stream: metrics.grpc("etcdserverpb.KV", "RangeStream"),
            put: metrics.grpc("etcdserverpb.KV", "Put"),
            delete_range: metrics.grpc("etcdserverpb.KV", "DeleteRange"),
            txn: metrics.grpc("etcdserverpb.KV", "Txn"),
            compact: metrics.grpc("etcdserverpb.KV", "Compact"),
            watch: metrics.grpc("etcdserverpb.Watch", "Watch"),
            lease_grant: metrics.grpc("etcdserverpb.Lease", "LeaseGrant"),
            lease_revoke: metrics.grpc("etcdserverpb.Lease", "LeaseRevoke"),
            lease_keep_alive: metrics.grpc("etcdserverpb.Lease", "LeaseKeepAlive"),
            lease_time_to_live: metrics.grpc("etcdserverpb.Lease", "LeaseTimeToLive"),
            lease_leases: metrics.grpc("etcdserverpb.Lease", "LeaseLeases"),
            lock: metrics.grpc("v3lockpb.Lock", "Lock"),
            unlock: metrics.grpc("v3lockpb.Lock", "Unlock"),
            campaign: metrics.grpc("v3electionpb.Election", "Campaign"),
            proclaim: metrics.grpc("v3electionpb.Election", "Proclaim"),
            leader: metrics.grpc("v3electionpb.Election", "Leader"),
            observe: metrics.grpc("v3electionpb.Election", "Observe"),
            resign: metrics.grpc("v3electionpb.Election", "Resign"),
            member_list: metrics.grpc("etcdserverpb.Cluster", "MemberList"),
            member_add: metrics.grpc("etcdserverpb.Cluster", "MemberAdd"),
            member_remove: metrics.grpc("etcdserverpb.Cluster", "MemberRemove"),
            member_update: metrics.grpc("etcdserverpb.Cluster", "MemberUpdate"),
            member_promote: metrics.grpc("etcdserverpb.Cluster", "MemberPromote"),
            alarm: metrics.grpc("etcdserverpb.Maintenance", "Alarm"),
            move_leader: metrics.grpc("etcdserverpb.Maintenance", "MoveLeader"),
            defragment: metrics.grpc("etcdserverpb.Maintenance", "Defragment"),
            status: metrics.grpc("etcdserverpb.Maintenance", "Status"),
            hash_kv: metrics.grpc("etcdserverpb.Maintenance", "HashKV"),
            hash: metrics.grpc("etcdserverpb.Maintenance", "Hash"),
            snapshot: metrics.grpc("etcdserverpb.Maintenance", "Snapshot"),
            health_check: metrics.grpc("grpc.health.v1.Health", "Check"),
            health_watch: metrics.grpc("grpc.health.v1.Health", "Watch"),
        };
        Arc::new(Self {
            node,
            options,
            stopping,
            hashes: Offload::new(HASHES),
            long_reads: Arc::new(Offload::new(LONG_READS)),
            list_memory: Arc::new(Semaphore::new(LIST_MEMORY_KIB as usize)),
            defragments: Defragments::default(),
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS)),
            cuts: Cuts::default(),
            web,
            methods,
        })
    }

    /// Ends streams that asked for a leader when there has been none for long. Runs as long as there is the service.
    pub fn look_after_leader(
        self: &Arc<Self>,
        election_timeout: Duration,
    ) -> impl Future<Output = ()> + use<> {
        ending::look_after_leader(Arc::downgrade(self), election_timeout)
    }

    /// Answers a gRPC call, whose frames come from the wire or from the JSON gateway.
    pub(crate) async fn grpc<B>(&self, peer: &Peer, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    {
        if request.method() != HttpMethod::POST {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
            return response;
        }
        if self.node.is_learner() && !LEARNERS.contains(&request.uri().path()) {
            return codec::refuse(&error::NOT_FOR_LEARNER);
        }
        let methods = &self.methods;
        // What is rare, or has a large future, is boxed: the task of every stream is as large as the largest arm.
        match request.uri().path() {
            "/etcdserverpb.KV/Range" => self.unary(&methods.range, peer, request, kv::range).await,
            "/etcdserverpb.KV/Put" => self.unary(&methods.put, peer, request, kv::put).await,
            "/etcdserverpb.KV/Txn" => self.unary(&methods.txn, peer, request, kv::txn).await,
            "/etcdserverpb.KV/DeleteRange" => {
                Box::pin(self.unary(&methods.delete_range, peer, request, kv::delete_range)).await
            }
            "/etcdserverpb.KV/RangeStream" => {
                Box::pin(self.unary(&methods.range_stream, peer, request, kv::range_stream)).await
            }
            "/etcdserverpb.KV/Compact" => {
                Box::pin(self.unary(&methods.compact, peer, request, kv::compact)).await
            }
            "/etcdserverpb.Watch/Watch" => self.stream(&methods.watch, request, Self::watch),
            "/etcdserverpb.Lease/LeaseKeepAlive" => {
                self.stream(&methods.lease_keep_alive, request, Self::keep_alive)
            }
            "/etcdserverpb.Lease/LeaseGrant" => {
                Box::pin(self.unary(&methods.lease_grant, peer, request, lease::grant)).await
            }
            "/etcdserverpb.Lease/LeaseRevoke" => {
                Box::pin(self.unary(&methods.lease_revoke, peer, request, lease::revoke)).await
            }
            "/etcdserverpb.Lease/LeaseTimeToLive" => {
                let method = &methods.lease_time_to_live;
                Box::pin(self.unary(method, peer, request, lease::time_to_live)).await
            }
            "/etcdserverpb.Lease/LeaseLeases" => {
                Box::pin(self.unary(&methods.lease_leases, peer, request, lease::leases)).await
            }
            "/v3lockpb.Lock/Lock" => {
                Box::pin(self.unary(&methods.lock, peer, request, lock::lock)).await
            }
            "/v3lockpb.Lock/Unlock" => {
                Box::pin(self.unary(&methods.unlock, peer, request, lock::unlock)).await
            }
            "/v3electionpb.Election/Campaign" => {
                Box::pin(self.unary(&methods.campaign, peer, request, election::campaign)).await
            }
            "/v3electionpb.Election/Proclaim" => {
                Box::pin(self.unary(&methods.proclaim, peer, request, election::proclaim)).await
            }
            "/v3electionpb.Election/Leader" => {
                Box::pin(self.unary(&methods.leader, peer, request, election::leader)).await
            }
            "/v3electionpb.Election/Observe" => {
                Box::pin(self.unary(&methods.observe, peer, request, election::observe)).await
            }
            "/v3electionpb.Election/Resign" => {
                Box::pin(self.unary(&methods.resign, peer, request, election::resign)).await
            }
            "/etcdserverpb.Cluster/MemberList" => {
                Box::pin(self.unary(&methods.member_list, peer, request, cluster::member_list))
                    .await
            }
            "/etcdserverpb.Cluster/MemberAdd" => {
                Box::pin(self.unary(&methods.member_add, peer, request, cluster::member_add)).await
            }
            "/etcdserverpb.Cluster/MemberRemove" => {
                let method = &methods.member_remove;
                Box::pin(self.unary(method, peer, request, cluster::member_remove)).await
            }
            "/etcdserverpb.Cluster/MemberUpdate" => {
                let method = &methods.member_update;
                Box::pin(self.unary(method, peer, request, cluster::member_update)).await
            }
            "/etcdserverpb.Cluster/MemberPromote" => {
                let method = &methods.member_promote;
                Box::pin(self.unary(method, peer, request, cluster::member_promote)).await
            }
            "/etcdserverpb.Maintenance/Status" => {
                Box::pin(self.unary(&methods.status, peer, request, maintenance::status)).await
            }
            "/etcdserverpb.Maintenance/MoveLeader" => {
                Box::pin(self.unary(
                    &methods.move_leader,
                    peer,
                    request,
                    maintenance::move_leader,
                ))
                .await
            }
            "/etcdserverpb.Maintenance/Alarm" => {
                Box::pin(self.unary(&methods.alarm, peer, request, maintenance::alarm)).await
            }
            "/etcdserverpb.Maintenance/HashKV" => {
                Box::pin(self.unary(&methods.hash_kv, peer, request, hash::hash_kv)).await
            }
            "/etcdserverpb.Maintenance/Hash" => {
                Box::pin(self.unary(&methods.hash, peer, request, hash::hash)).await
            }
            "/etcdserverpb.Maintenance/Defragment" => {
                Box::pin(self.unary(&methods.defragment, peer, request, defragment::defragment))
                    .await
            }
            "/etcdserverpb.Maintenance/Snapshot" => {
                Box::pin(self.unary(&methods.snapshot, peer, request, snapshot::snapshot)).await
            }
            "/grpc.health.v1.Health/Check" => {
                Box::pin(self.unary(&methods.health_check, peer, request, health::check)).await
            }
            "/grpc.health.v1.Health/Watch" => {
                Box::pin(self.unary(&methods.health_watch, peer, request, health::watch)).await
            }
            path => {
                if let Some((service, method)) = unimplemented::known(path) {
                    let method = self.node.metrics().grpc(service, method);
                    method.begin().ended(Code::Unimplemented);
                }
                codec::refuse(&unimplemented::refusal(path))
            }
        }
    }

    /// Reads the one message of a call, has it handled, and counts.
    async fn unary<B, M, H>(
        &self,
        method: &GrpcMethod,
        peer: &Peer,
        request: Request<B>,
        handler: H,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        M: Message + Default,
        H: AsyncFnOnce(&Self, &Context, M) -> Result<Outcome, Status>,
    {
        let mut call = method.begin();
        let outcome = match self.open(method, peer, request).await {
            Ok((context, message)) => {
                let outcome = handler(self, &context, message).await;
                match outcome {
                    // The client's own deadline has another code than the server's.
                    Err(status) if status == error::TIMEOUT && context.is_client_deadline => {
                        Err(error::DEADLINE_EXCEEDED)
                    }
                    outcome => outcome,
                }
            }
            Err(status) => Err(status),
        };
        match outcome {
            Ok(Outcome {
                body: Body::Other(stream),
                ..
            }) => {
                let counted = codec::Counted::new(stream, call.into_owned());
                codec::respond(Body::Other(Box::pin(counted)))
            }
            Ok(Outcome { body, sent }) => {
                call.ended(Code::Ok);
                method.sent(sent);
                codec::respond(body)
            }
            Err(status) => {
                call.ended(status.code());
                codec::refuse(&status)
            }
        }
    }

    /// Everything before the handler: metadata, then the message.
    async fn open<B, M>(
        &self,
        method: &GrpcMethod,
        peer: &Peer,
        request: Request<B>,
    ) -> Result<(Context, M), Status>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        M: Message + Default,
    {
        let client_timeout = self.metadata(request.headers())?;
        let own_timeout = self.options.request_timeout;
        let timeout = client_timeout.map_or(own_timeout, |timeout| timeout.min(own_timeout));
        let limit = self.options.max_request_bytes + RECEIVE_SLACK;
        // The message nearly always is here with its headers; only if not, a timer guards the wait.
        let encoded = promptly(codec::read(request.into_body(), limit), timeout).await??;
        let received = encoded.len();
        method.received(received);
        let message = M::decode(encoded).map_err(|_| error::MALFORMED)?;
        let context = Context {
            call: Call::new(timeout),
            received,
            started: Instant::now(),
            peer: peer.address,
            is_client_deadline: client_timeout.is_some_and(|timeout| timeout < own_timeout),
            client_timeout,
        };
        Ok((context, message))
    }

    /// Checks what a client tells besides the message; gives its timeout back.
    fn metadata(&self, headers: &HeaderMap) -> Result<Option<Duration>, Status> {
        let mut timeout = None;
        for (name, value) in headers {
            match name.as_str() {
                "grpc-timeout" => timeout = value.to_str().ok().and_then(parse_timeout),
                HAS_LEADER if value == "true" && !self.node.status().has_leader => {
                    return Err(error::NO_LEADER);
                }
                "client-api-version" if std::str::from_utf8(value.as_bytes()).is_err() => {
                    return Err(error::INVALID_CLIENT_API_VERSION);
                }
                _ => {}
            }
        }
        Ok(timeout)
    }

    /// Answers a request that is not gRPC.
    pub(crate) async fn http(&self, peer: &Peer, request: Request<Incoming>) -> Response<Body> {
        Box::pin(self.web.respond(self, peer, request)).await
    }

    /// Answers a call of many messages both ways with the body that `open` makes of its request, as long as the client
    /// lets it go on.
    fn stream<B, S>(
        &self,
        method: &GrpcMethod,
        request: Request<B>,
        open: impl FnOnce(&Self, B) -> Result<S, Status>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        S: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
    {
        let mut call = method.begin();
        let needs_leader = asks_for_leader(request.headers());
        let opened = self
            .metadata(request.headers())
            .and_then(|timeout| Ok((timeout, open(self, request.into_body())?)));
        let (timeout, stream) = match opened {
            Ok(opened) => opened,
            Err(status) => {
                call.ended(status.code());
                return codec::refuse(&status);
            }
        };
        let call = call.into_owned();
        codec::respond(Body::Other(if timeout.is_some() || needs_leader {
            let ending = Ending::new(stream, timeout, &self.cuts, needs_leader);
            Box::pin(codec::Counted::new(ending, call))
        } else {
            Box::pin(codec::Counted::new(stream, call))
        }))
    }

    fn watch<B>(&self, inbound: B) -> Result<watch::Call<B>, Status>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let hub = self.node.hub();
        if hub.is_full() {
            return Err(error::TOO_MANY_STREAMS);
        }
        Ok(watch::Call::new(inbound, hub, self.methods.watch.clone()))
    }
}

impl Serve for Service {
    async fn respond(&self, peer: &Peer, request: Request<Incoming>) -> Response<Body> {
        if is_grpc(&request) {
            self.grpc(peer, request).await
        } else {
            self.http(peer, request).await
        }
    }
}

/// Whether a client wants to hear when this member has no leader.
fn asks_for_leader(headers: &HeaderMap) -> bool {
    headers
        .get_all(HAS_LEADER)
        .iter()
        .any(|value| value == "true")
}

/// gRPC needs HTTP/2 and says so in its content type, which may go on after `+` or `;`.
fn is_grpc(request: &Request<Incoming>) -> bool {
    request.version() == Version::HTTP_2
        && request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Polls once before it arms a timer.
pub(crate) async fn promptly<F: Future>(future: F, limit: Duration) -> Result<F::Output, Status> {
    let mut future = pin!(future);
    let first = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
    match first {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => tokio::time::timeout(limit, future)
            .await
            .map_err(|_| error::DEADLINE_EXCEEDED),
    }
}

/// Reads a `grpc-timeout`: up to eight digits and a unit. What is not one counts as none.
pub fn parse_timeout(text: &str) -> Option<Duration> {
    let (unit, digits) = text.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits
        .iter()
        .fold(0, |amount, digit| amount * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_all_units_are_read() {
        let table = [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("", None),
            ("S", None),
            ("1", None),
            ("-1S", None),
            ("1x", None),
            ("123456789S", None),
        ];
        for (text, duration) in table {
            assert_eq!(parse_timeout(text), duration, "{text:?}");
        }
    }

    #[tokio::test]
    async fn what_does_not_come_in_time_is_given_up() {
        assert_eq!(promptly(async { 1 }, Duration::ZERO).await, Ok(1));
        let never = promptly(std::future::pending::<()>(), Duration::from_millis(1));
        assert_eq!(never.await, Err(error::DEADLINE_EXCEEDED));
    }
}
