//! Reads, writes and waits for keys from inside, for the services that are made of keys: locks and elections.

use std::time::{Duration, Instant};

use proto::command::command::Op;
use proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcd::etcdserverpb::request_op::Request as Operation;
use proto::etcd::etcdserverpb::response_op::Response as Answered;
use proto::etcd::etcdserverpb::{
    Compare, LeaseGrantRequest, RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest,
    TxnResponse,
};
use proto::etcd::mvccpb::{Event, KeyValue};
use store::{Answer, Record};

use super::error::{self, Status};
use super::guard::Guard;
use super::kv;
use super::{Context, Service};
use crate::node::{Call, CallError, Node};
use crate::watch::{Create, KeyRange, Listener, Silence, Told};

/// Time to live of a lease that the server grants for a caller without one, in seconds; as in etcd.
const OWN_LEASE: i64 = 60;

/// What a service does in the caller's name.
pub(super) struct Inside {
    pub(super) node: Node,
    /// Of each step.
    timeout: Duration,
    /// When the caller's own time is up.
    until: Option<Instant>,
    guard: Guard,
}

impl Inside {
    /// Within the caller's own deadline; each step within the server's.
    pub(super) fn new(service: &Service, context: &Context) -> Self {
        Self {
            node: service.node.clone(),
            timeout: service.options.request_timeout,
            until: context.client_left().map(|left| Instant::now() + left),
            guard: service.guard(),
        }
    }

    /// The same without the caller, who may be gone.
    pub(super) fn alone(&self) -> Self {
        Self {
            node: self.node.clone(),
            timeout: self.timeout,
            until: None,
            guard: self.guard,
        }
    }

    fn call(&self) -> Call {
        let left = self
            .until
            .map(|until| until.saturating_duration_since(Instant::now()));
        Call::new(left.map_or(self.timeout, |left| left.min(self.timeout)))
    }

    /// The keys of a range, of the newest state.
    pub(super) async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Status> {
        self.node.read_barrier(&self.call()).await.map_err(inner)?;
        let reader = self.node.reader();
        let view = reader.view();
        match reader.range(&view, request) {
            Ok(Ok(answer)) => Ok(RangeResponse {
                header: Some(self.node.header(view.revision)),
                kvs: answer.records.iter().map(Record::to_key_value).collect(),
                more: answer.more,
                count: answer.count,
            }),
            Ok(Err(refusal)) => Err(error::inner(&Status::from(&refusal))),
            Err(error) => {
                self.node.stop_for(format!("a key cannot be read: {error}"));
                Err(error::STORE_FAULT)
            }
        }
    }

    /// Carries out a transaction; its header is filled in.
    pub(super) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        self.guard.txn(&request)?;
        let answer = self.node.propose(&self.call(), Op::Txn(request)).await;
        match answer.map_err(inner)? {
            Answer::Txn(mut answer) => {
                let revision = answer.header.map_or(0, |header| header.revision);
                answer.header = Some(self.node.header(revision));
                Ok(answer)
            }
            _ => Err(kv::mismatch()),
        }
    }

    /// The lease that a caller names, or one that is granted for it.
    pub(super) async fn lease(&self, service: &Service, named: i64) -> Result<i64, Status> {
        if named != 0 {
            return Ok(named);
        }
        let request = LeaseGrantRequest {
            ttl: OWN_LEASE,
            id: 0,
        };
        let granted = service.grant_lease(&self.call(), request).await;
        granted
            .map(|granted| granted.id)
            .map_err(|status| error::inner(&status))
    }

    /// Waits until no key with a prefix is older than a revision of creation.
    pub(super) async fn wait_for_turn(&self, prefix: &[u8], created: i64) -> Result<(), Status> {
        let newest_before = RangeRequest {
            sort_order: SortOrder::Descend as i32,
            max_create_revision: created - 1,
            ..oldest(prefix)
        };
        while let found = self.range(&newest_before).await?
            && let Some(before) = found.kvs.first()
        {
            let revision = found.header.map_or(0, |header| header.revision);
            let mut watching =
                Watching::new(&self.node, KeyRange::new(&before.key, &[]), revision + 1);
            loop {
                let events = self.in_time(watching.next()).await??;
                // Without a word, history went by: it is looked up again.
                if events.is_none_or(|seen| seen.events.iter().any(is_delete)) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What comes before the caller's time is up.
    pub(super) async fn in_time<F: Future>(&self, future: F) -> Result<F::Output, Status> {
        let Some(until) = self.until else {
            return Ok(future.await);
        };
        tokio::time::timeout_at(until.into(), future)
            .await
            .map_err(|_| error::DEADLINE_EXCEEDED)
    }
}

/// What another call of the server was refused with, as etcd's services on top of it hand it on.
fn inner(error: CallError) -> Status {
    error::inner(&Status::from(error))
}

/// Asks for the key with a prefix that was created first.
pub(super) fn oldest(prefix: &[u8]) -> RangeRequest {
    RangeRequest {
        key: prefix.to_vec().into(),
        range_end: end_of_prefix(prefix).into(),
        sort_order: SortOrder::Ascend as i32,
        sort_target: SortTarget::Create as i32,
        limit: 1,
        ..RangeRequest::default()
    }
}

/// The end of the range of all keys with a prefix.
pub(super) fn end_of_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// The key of whoever takes part under a name: one for each lease.
pub(super) fn place(name: &[u8], lease: i64) -> Vec<u8> {
    let sign = if lease < 0 { "-" } else { "" };
    [
        name,
        format!("/{sign}{:x}", lease.unsigned_abs()).as_bytes(),
    ]
    .concat()
}

/// What all keys under a name begin with.
pub(super) fn prefix(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

/// Holds if a key was created at a revision; 0: if there is none.
pub(super) fn created_at(key: &[u8], revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.to_vec().into(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Compare::default()
    }
}

/// An operation of a transaction.
pub(super) fn operation(request: Operation) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// The keys that an operation of a transaction found.
pub(super) fn found(answer: &TxnResponse, place: usize) -> &[KeyValue] {
    match answer
        .responses
        .get(place)
        .and_then(|op| op.response.as_ref())
    {
        Some(Answered::ResponseRange(range)) => &range.kvs,
        _ => &[],
    }
}

/// Whether an event is the end of a key.
pub(super) fn is_delete(event: &Event) -> bool {
    event.r#type == proto::etcd::mvccpb::event::EventType::Delete as i32
}

/// One watcher of one range.
pub(super) struct Watching {
    listener: Listener,
    cluster_id: u64,
    member_id: u64,
}

/// Events of one response.
pub(super) struct Seen {
    pub(super) header: ResponseHeader,
    pub(super) events: Vec<Event>,
}

impl Watching {
    /// From a revision on.
    pub(super) fn new(node: &Node, range: Option<KeyRange>, start_revision: i64) -> Self {
        let create = Create::plain(range, start_revision);
        let identity = node.hub().identity();
        Self {
            listener: Listener::new(node.hub(), create),
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
        }
    }

    /// The next events; none if compaction went by, and with it the watcher.
    pub(super) async fn next(&mut self) -> Result<Option<Seen>, Status> {
        loop {
            match self.listener.next().await {
                Ok(Told::Events {
                    revision,
                    term,
                    events,
                }) => {
                    let header = ResponseHeader {
                        cluster_id: self.cluster_id,
                        member_id: self.member_id,
                        revision,
                        raft_term: term,
                    };
                    return Ok(Some(Seen { header, events }));
                }
                Ok(Told::Progress(_)) => {}
                Ok(Told::Compacted(_) | Told::Ended) => return Ok(None),
                Err(Silence::End(_)) => return Err(error::STOPPED),
                Err(Silence::Fault) => return Err(error::STORE_FAULT),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_as_etcds_clients_name_them() {
        assert_eq!(place(b"name", 0x1f), b"name/1f");
        assert_eq!(place(b"", -8), b"/-8");
        assert_eq!(end_of_prefix(b"a/"), b"a0");
        assert_eq!(end_of_prefix(b"a\xff"), b"b");
        assert_eq!(end_of_prefix(b"\xff"), b"\0");
    }
}
