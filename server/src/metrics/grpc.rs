//! Counters of each gRPC method, under the names of the Go middleware that etcd uses.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Instant;

use prometheus::{Histogram, IntCounter};
use tonic::Code;

use super::Registered;

const UNARY: &str = "unary";
const SERVER_STREAM: &str = "server_stream";
const BIDI_STREAM: &str = "bidi_stream";

/// Every method of the protocol: each is shown from the start, at zero.
const METHODS: &[(&str, &str, &[&str])] = &[
    (
        "etcdserverpb.KV",
        UNARY,
        &["Range", "Put", "DeleteRange", "Txn", "Compact"],
    ),
    ("etcdserverpb.KV", SERVER_STREAM, &["RangeStream"]),
    ("etcdserverpb.Watch", BIDI_STREAM, &["Watch"]),
    (
        "etcdserverpb.Lease",
        UNARY,
        &[
            "LeaseGrant",
            "LeaseRevoke",
            "LeaseTimeToLive",
            "LeaseLeases",
        ],
    ),
    ("etcdserverpb.Lease", BIDI_STREAM, &["LeaseKeepAlive"]),
    (
        "etcdserverpb.Cluster",
        UNARY,
        &[
            "MemberAdd",
            "MemberRemove",
            "MemberUpdate",
            "MemberList",
            "MemberPromote",
        ],
    ),
    (
        "etcdserverpb.Maintenance",
        UNARY,
        &[
            "Alarm",
            "Status",
            "Defragment",
            "Hash",
            "HashKV",
            "MoveLeader",
            "Downgrade",
        ],
    ),
    ("etcdserverpb.Maintenance", SERVER_STREAM, &["Snapshot"]),
    (
        "etcdserverpb.Auth",
        UNARY,
        &[
            "AuthEnable",
            "AuthDisable",
            "AuthStatus",
            "Authenticate",
            "UserAdd",
            "UserGet",
            "UserList",
            "UserDelete",
            "UserChangePassword",
            "UserGrantRole",
            "UserRevokeRole",
            "RoleAdd",
            "RoleGet",
            "RoleList",
            "RoleDelete",
            "RoleGrantPermission",
            "RoleRevokePermission",
        ],
    ),
    ("v3lockpb.Lock", UNARY, &["Lock", "Unlock"]),
    (
        "v3electionpb.Election",
        UNARY,
        &["Campaign", "Proclaim", "Leader", "Resign"],
    ),
    ("v3electionpb.Election", SERVER_STREAM, &["Observe"]),
    ("grpc.health.v1.Health", UNARY, &["Check"]),
    ("grpc.health.v1.Health", SERVER_STREAM, &["Watch"]),
];

/// The names of the codes in the order of their numbers.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The counters of one method: no name is looked up on the path of a request.
#[derive(Clone)]
pub struct GrpcMethod {
    started: IntCounter,
    messages_received: IntCounter,
    messages_sent: IntCounter,
    bytes_received: IntCounter,
    bytes_sent: IntCounter,
    handled: Arc<[IntCounter; CODES.len()]>,
    handling: Option<Histogram>,
}

/// A call that has begun, and whose end is counted whatever it is: one that is dropped was canceled.
pub struct GrpcCall<M: Borrow<GrpcMethod>> {
    /// None once the end is counted.
    method: Option<M>,
    began: Option<Instant>,
}

impl<M: Borrow<GrpcMethod>> GrpcCall<M> {
    /// The call ended with a code; only the first end counts.
    pub fn ended(&mut self, code: Code) {
        if let Some(method) = self.method.take() {
            let method = method.borrow();
            method.handled[code as usize].inc();
            if let (Some(handling), Some(began)) = (&method.handling, self.began) {
                handling.observe(began.elapsed().as_secs_f64());
            }
        }
    }
}

impl GrpcCall<&GrpcMethod> {
    /// The same call, now for as long as its answer streams.
    pub fn into_owned(mut self) -> GrpcCall<GrpcMethod> {
        GrpcCall {
            method: self.method.take().cloned(),
            began: self.began,
        }
    }
}

impl<M: Borrow<GrpcMethod>> Drop for GrpcCall<M> {
    fn drop(&mut self) {
        self.ended(Code::Cancelled);
    }
}

impl GrpcMethod {
    /// A call begins.
    pub fn begin(&self) -> GrpcCall<&Self> {
        self.started.inc();
        GrpcCall {
            method: Some(self),
            began: self.handling.is_some().then(Instant::now),
        }
    }

    /// Calls that succeeded.
    pub fn succeeded(&self) -> u64 {
        self.handled[Code::Ok as usize].get()
    }

    /// A message of so many bytes came in.
    pub fn received(&self, bytes: usize) {
        self.messages_received.inc();
        self.bytes_received.inc_by(bytes as u64);
    }

    /// A message of so many bytes went out.
    pub fn sent(&self, bytes: usize) {
        self.sent_many(1, bytes);
    }

    /// So many messages went out, of so many bytes together.
    pub fn sent_many(&self, messages: usize, bytes: usize) {
        self.messages_sent.inc_by(messages as u64);
        self.bytes_sent.inc_by(bytes as u64);
    }
}

/// The counters of all methods.
pub(super) struct Table {
    methods: Vec<(&'static str, &'static str, GrpcMethod)>,
}

impl Table {
    pub(super) fn new(new: &Registered<'_>, has_extensive: bool) -> Self {
        let labels = ["grpc_type", "grpc_service", "grpc_method"];
        let with_code = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
        let started = new.counters("grpc_server_started_total", "Calls begun.", &labels);
        let handled = new.counters(
            "grpc_server_handled_total",
            "Calls ended, by code.",
            &with_code,
        );
        let received = new.counters(
            "grpc_server_msg_received_total",
            "Messages that came in.",
            &labels,
        );
        let sent = new.counters(
            "grpc_server_msg_sent_total",
            "Messages that went out.",
            &labels,
        );
        let bytes_received = new.counter(
            "etcd_network_client_grpc_received_bytes_total",
            "Bytes of messages from clients.",
        );
        let bytes_sent = new.counter(
            "etcd_network_client_grpc_sent_bytes_total",
            "Bytes of messages to clients.",
        );
        let handling = has_extensive.then(|| {
            let buckets = prometheus::DEFAULT_BUCKETS.to_vec();
            new.histograms(
                "grpc_server_handling_seconds",
                "How long calls took.",
                &labels,
                buckets,
            )
        });
        let method = |service: &'static str, kind: &'static str, name: &'static str| GrpcMethod {
            started: started.with_label_values(&[kind, service, name]),
            messages_received: received.with_label_values(&[kind, service, name]),
            messages_sent: sent.with_label_values(&[kind, service, name]),
            bytes_received: bytes_received.clone(),
            bytes_sent: bytes_sent.clone(),
            handled: Arc::new(
                CODES.map(|code| handled.with_label_values(&[kind, service, name, code])),
            ),
            handling: handling
                .as_ref()
                .map(|handling| handling.with_label_values(&[kind, service, name])),
        };
        let methods = METHODS.iter().flat_map(|(service, kind, names)| {
            names
                .iter()
                .map(|name| (*service, *name, method(service, kind, name)))
        });
        Self {
            methods: methods.collect(),
        }
    }

    pub(super) fn method(&self, service: &str, name: &str) -> GrpcMethod {
        let known = self
            .methods
            .iter()
            .find(|(s, n, _)| *s == service && *n == name);
        known.map_or_else(unknown, |(_, _, method)| method.clone())
    }
}

/// Counters outside every registry.
fn unknown() -> GrpcMethod {
    let counter = || IntCounter::new("unknown", "unknown").expect("the name is valid");
    GrpcMethod {
        started: counter(),
        messages_received: counter(),
        messages_sent: counter(),
        bytes_received: counter(),
        bytes_sent: counter(),
        handled: Arc::new(CODES.map(|_| counter())),
        handling: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_once_at_its_end_and_as_canceled_if_it_is_dropped() {
        let method = unknown();
        let codes = || method.handled.each_ref().map(IntCounter::get);
        let mut call = method.begin();
        assert_eq!((method.started.get(), codes().iter().sum()), (1, 0));
        call.ended(Code::OutOfRange);
        drop(call);
        assert_eq!(codes()[Code::OutOfRange as usize], 1);
        let streaming = method.begin().into_owned();
        assert_eq!(codes().iter().sum::<u64>(), 1);
        drop(streaming);
        assert_eq!(codes()[Code::Cancelled as usize], 1);
        assert_eq!(codes().iter().sum::<u64>(), 2);
    }

    #[test]
    fn codes_are_in_the_order_of_their_numbers() {
        for (number, name) in CODES.iter().enumerate() {
            let code = Code::from_i32(i32::try_from(number).unwrap());
            let ours = name.to_lowercase().replace("canceled", "cancelled");
            assert_eq!(ours, format!("{code:?}").to_lowercase());
        }
    }
}
