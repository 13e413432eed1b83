//! One client's connection to one member: sends an operation once, never again, and says what is known of its outcome.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use client::{Client, Keys, Options};
use proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::lease_client::LeaseClient;
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::response_op::Response;
use proto::etcd::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp,
    ResponseHeader, TxnRequest,
};
use proto::etcd::mvccpb::KeyValue;
use tonic::{Code, ConnectError, Status};

use super::history::Outcome;
use super::model::{Body, Condition, Done, Kv, Op, Step};

/// What a server says of a write that it never proposed, under a code that does not tell.
const NEVER_PROPOSED: [&str; 1] = ["etcdserver: too many requests"];
/// What it says of a write that it may have carried out, under a code that sounds like a refusal.
const MAYBE_DONE: [&str; 1] = ["etcdserver: mvcc: database space exceeded"];

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) revision: i64,
    pub(crate) term: u64,
    pub(crate) body: Body,
}

/// No answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Not [`Outcome::Ok`].
    pub(crate) outcome: Outcome,
    pub(crate) error: String,
}

/// Connects when it is first needed. Once there, the channel below connects again by itself, before a request is sent
/// and never instead of one.
#[derive(Debug)]
pub(crate) struct Connection {
    endpoint: String,
    timeout: Duration,
    client: Option<Client>,
}

impl Connection {
    pub(crate) fn new(endpoint: String, timeout: Duration) -> Connection {
        Connection {
            endpoint,
            timeout,
            client: None,
        }
    }

    /// The connection itself, made if there is none.
    pub(crate) async fn client(&mut self) -> Result<Client, Failure> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let options = Options {
            connect_timeout: self.timeout,
            request_timeout: self.timeout,
        };
        match options.connect(self.endpoint.clone()).await {
            Ok(client) => {
                self.client = Some(client.clone());
                Ok(client)
            }
            // Nothing was sent.
            Err(error) => Err(Failure {
                outcome: Outcome::Definite,
                error: error.to_string(),
            }),
        }
    }

    /// Sends `op` and waits for its answer.
    pub(crate) async fn call(&mut self, op: &Op) -> Result<Answer, Failure> {
        let timeout = self.timeout;
        let client = self.client().await?;
        match tokio::time::timeout(timeout, send(&client, op)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure {
                outcome: Outcome::Indefinite,
                error: format!("no answer in {timeout:?}"),
            }),
        }
    }
}

/// What is known of a request that failed so.
pub(crate) fn classify(status: &Status) -> Outcome {
    if StdError::source(status).is_some() {
        // Made on this side from an error of the connection, whatever its code looks like.
        return if was_never_connected(status) {
            Outcome::Definite
        } else {
            Outcome::Indefinite
        };
    }
    if NEVER_PROPOSED.contains(&status.message()) {
        return Outcome::Definite;
    }
    if MAYBE_DONE.contains(&status.message()) {
        return Outcome::Indefinite;
    }
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Outcome::Definite,
        // Among them Unavailable: a leader can be lost after it took the request on.
        _ => Outcome::Indefinite,
    }
}

fn was_never_connected(status: &Status) -> bool {
    let mut cause = StdError::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn failure(status: &Status) -> Failure {
    Failure {
        outcome: classify(status),
        error: format!("{:?}: {}", status.code(), status.message()),
    }
}

fn nonsense(error: &str) -> Failure {
    Failure {
        outcome: Outcome::Indefinite,
        error: error.to_owned(),
    }
}

async fn send(client: &Client, op: &Op) -> Result<Answer, Failure> {
    let mut kv = client.kv();
    match op {
        Op::Put {
            key,
            value,
            previous,
            lease,
        } => {
            let request = PutRequest {
                key: bytes(key),
                value: long(value),
                prev_kv: *previous,
                lease: *lease,
                ..PutRequest::default()
            };
            let answer = kv.put(request).await.map_err(|s| failure(&s))?.into_inner();
            let previous = answer.prev_kv.map(Kv::from);
            finish(answer.header, Body::Put { previous })
        }
        Op::Delete { key, previous } => {
            let request = DeleteRangeRequest {
                key: bytes(key),
                prev_kv: *previous,
                ..DeleteRangeRequest::default()
            };
            let answer = kv.delete_range(request).await;
            let answer = answer.map_err(|s| failure(&s))?.into_inner();
            let body = Body::Delete {
                deleted: answer.deleted,
                previous: answer.prev_kvs.into_iter().map(Kv::from).collect(),
            };
            finish(answer.header, body)
        }
        Op::Get { key, serializable } => {
            read(client, range(key.clone().into(), *serializable)).await
        }
        Op::List {
            prefix,
            serializable,
        } => read(client, range(Keys::prefix(prefix.clone()), *serializable)).await,
        Op::Txn {
            when,
            then,
            otherwise,
        } => {
            let request = TxnRequest {
                compare: when.iter().map(compare).collect(),
                success: then.iter().map(request_op).collect(),
                failure: otherwise.iter().map(request_op).collect(),
            };
            let answer = kv.txn(request).await.map_err(|s| failure(&s))?.into_inner();
            let steps = answer.responses.into_iter().map(|step| {
                Some(match step.response? {
                    Response::ResponsePut(_) => Done::Put,
                    Response::ResponseDeleteRange(delete) => Done::Delete(delete.deleted),
                    Response::ResponseRange(range) => {
                        Done::Get(range.kvs.into_iter().next().map(Kv::from))
                    }
                    Response::ResponseTxn(_) => return None,
                })
            });
            let steps = steps.collect::<Option<Vec<Done>>>();
            let body = Body::Txn {
                succeeded: answer.succeeded,
                steps: steps.ok_or_else(|| nonsense("an answer to a step that was not asked"))?,
            };
            finish(answer.header, body)
        }
        Op::Compact { revision } => {
            let request = CompactionRequest {
                revision: *revision,
                physical: false,
            };
            let answer = kv.compact(request).await;
            finish(
                answer.map_err(|s| failure(&s))?.into_inner().header,
                Body::Compact,
            )
        }
        Op::Grant { .. } | Op::Revoke { .. } | Op::KeepAlive { .. } | Op::TimeToLive { .. } => {
            lease(client, op).await
        }
    }
}

async fn lease(client: &Client, op: &Op) -> Result<Answer, Failure> {
    let mut leases = LeaseClient::new(client.channel());
    match *op {
        Op::Grant { lease, ttl } => {
            let answer = leases.lease_grant(LeaseGrantRequest { ttl, id: lease });
            let answer = answer.await.map_err(|s| failure(&s))?.into_inner();
            if answer.id != lease {
                return Err(nonsense("a lease of another name"));
            }
            finish(answer.header, Body::Grant { ttl: answer.ttl })
        }
        Op::Revoke { lease } => {
            let answer = leases.lease_revoke(LeaseRevokeRequest { id: lease }).await;
            let answer = answer.map_err(|s| failure(&s))?.into_inner();
            finish(answer.header, Body::Revoke)
        }
        Op::KeepAlive { lease } => {
            let request = futures_util::stream::iter([LeaseKeepAliveRequest { id: lease }]);
            let answers = leases.lease_keep_alive(request).await;
            let mut answers = answers.map_err(|s| failure(&s))?.into_inner();
            let answer = answers.message().await.map_err(|s| failure(&s))?;
            let answer = answer.ok_or_else(|| nonsense("the stream ended without an answer"))?;
            finish(answer.header, Body::KeepAlive { ttl: answer.ttl })
        }
        Op::TimeToLive { lease } => {
            let request = LeaseTimeToLiveRequest {
                id: lease,
                keys: true,
            };
            let answer = leases.lease_time_to_live(request).await;
            let answer = answer.map_err(|s| failure(&s))?.into_inner();
            let keys = answer.keys.iter();
            let mut keys: Vec<String> = keys
                .map(|key| String::from_utf8_lossy(key).into_owned())
                .collect();
            // Their order is not promised.
            keys.sort_unstable();
            let body = Body::TimeToLive {
                ttl: answer.ttl,
                granted: answer.granted_ttl,
                keys,
            };
            finish(answer.header, body)
        }
        _ => Err(nonsense("that is nothing about a lease")),
    }
}

async fn read(client: &Client, request: RangeRequest) -> Result<Answer, Failure> {
    let answer = client.kv().range(request).await;
    let answer = answer.map_err(|s| failure(&s))?.into_inner();
    let body = Body::Read {
        kvs: answer.kvs.into_iter().map(Kv::from).collect(),
        count: answer.count,
    };
    finish(answer.header, body)
}

fn finish(header: Option<ResponseHeader>, body: Body) -> Result<Answer, Failure> {
    let header = header.ok_or_else(|| nonsense("an answer without a header"))?;
    Ok(Answer {
        revision: header.revision,
        term: header.raft_term,
        body,
    })
}

fn range(keys: Keys, serializable: bool) -> RangeRequest {
    let (key, range_end) = keys.into_wire();
    RangeRequest {
        key,
        range_end,
        serializable,
        ..RangeRequest::default()
    }
}

fn compare(condition: &Condition) -> Compare {
    let (key, target, than) = match condition {
        Condition::Modified(key, revision) => {
            (key, CompareTarget::Mod, TargetUnion::ModRevision(*revision))
        }
        Condition::Value(key, value) => {
            (key, CompareTarget::Value, TargetUnion::Value(long(value)))
        }
    };
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: bytes(key),
        target_union: Some(than),
        ..Compare::default()
    }
}

fn request_op(step: &Step) -> RequestOp {
    let request = match step {
        Step::Put(key, value) => Request::RequestPut(PutRequest {
            key: bytes(key),
            value: long(value),
            ..PutRequest::default()
        }),
        Step::Delete(key) => Request::RequestDeleteRange(DeleteRangeRequest {
            key: bytes(key),
            ..DeleteRangeRequest::default()
        }),
        Step::Get(key) => Request::RequestRange(range(key.clone().into(), false)),
    };
    RequestOp {
        request: Some(request),
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A value as it is sent: `7~1000` stands for a 7 and a thousand tildes, so that a history of long values is short.
fn long(value: &str) -> Bytes {
    let Some((name, length)) = value.split_once('~') else {
        return bytes(value);
    };
    let mut text = name.to_owned();
    text.extend(std::iter::repeat_n('~', length.parse().unwrap_or(0)));
    text.into()
}

/// The other way round.
fn short(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    match text.find('~') {
        Some(at) if text[at..].bytes().all(|byte| byte == b'~') => {
            format!("{}~{}", &text[..at], text.len() - at)
        }
        _ => text.into_owned(),
    }
}

impl From<KeyValue> for Kv {
    fn from(kv: KeyValue) -> Kv {
        Kv {
            key: String::from_utf8_lossy(&kv.key).into_owned(),
            value: short(&kv.value),
            created: kv.create_revision,
            modified: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_certainly_not_proposed_is_definite() {
        let of = |code, message: &str| classify(&Status::new(code, message));
        for (code, message) in [
            (Code::InvalidArgument, "etcdserver: key is not provided"),
            (Code::Unknown, "etcdserver: too many requests"),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            ),
        ] {
            assert_eq!(of(code, message), Outcome::Definite, "{message}");
        }
        for (code, message) in [
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: no leader"),
            (Code::Unknown, "raft proposal dropped"),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
            (Code::DeadlineExceeded, ""),
            (Code::Cancelled, ""),
        ] {
            assert_eq!(of(code, message), Outcome::Indefinite, "{message}");
        }
    }

    #[test]
    fn long_values_are_written_short() {
        for value in ["7", "7~3", "100#7", ""] {
            assert_eq!(short(&long(value)), value);
        }
        assert_eq!(long("7~3"), "7~~~");
        assert_eq!(short(b"7~~x"), "7~~x");
    }

    #[tokio::test]
    async fn a_member_that_is_not_there_has_certainly_not_done_it() {
        let mut connection =
            Connection::new("http://127.0.0.1:1".to_owned(), Duration::from_secs(1));
        let op = Op::Delete {
            key: "k".into(),
            previous: false,
        };
        let failure = connection.call(&op).await.unwrap_err();
        assert_eq!(failure.outcome, Outcome::Definite, "{}", failure.error);
    }
}
