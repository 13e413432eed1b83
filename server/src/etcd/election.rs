//! The Election service: whoever's key is the oldest under a name leads, and its value is what the leader says.
//!
//! Whoever acts as the leader compares the key's revision of creation in the same transaction (docs/guarantees.md).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use http_body::Frame;
use proto::etcd::etcdserverpb::request_op::Request as Operation;
use proto::etcd::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, ResponseHeader, TxnRequest,
};
use proto::etcd::mvccpb::KeyValue;
use proto::etcd::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use tokio::sync::mpsc;

use super::codec::{self, Body};
use super::error::{self, Status};
use super::follow::{self, Inside, Watching};
use super::{Context, Outcome, Service};
use crate::metrics::GrpcMethod;
use crate::watch::KeyRange;

/// News of a leader that the client has not taken yet.
const UNREAD: usize = 16;

/// Answers `Campaign`, once the caller leads.
pub(super) async fn campaign(
    service: &Service,
    context: &Context,
    request: CampaignRequest,
) -> Result<Outcome, Status> {
    let inside = Inside::new(service, context);
    let lease = inside.lease(service, request.lease).await?;
    let key: Bytes = follow::place(&request.name, lease).into();
    let put = PutRequest {
        key: key.clone(),
        value: request.value.clone(),
        lease,
        ..PutRequest::default()
    };
    let own = RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    };
    let mut leader = LeaderKey {
        name: request.name.clone(),
        key: key.clone(),
        rev: 0,
        lease,
    };
    let mut candidacy = Candidacy {
        inside: inside.alone(),
        leader: None,
    };
    let entered = inside
        .txn(TxnRequest {
            compare: vec![follow::created_at(&key, 0)],
            success: vec![follow::operation(Operation::RequestPut(put))],
            failure: vec![follow::operation(Operation::RequestRange(own))],
        })
        .await?;
    leader.rev = entered.header.map_or(0, |header| header.revision);
    if let Some(before) = follow::found(&entered, 0).first() {
        leader.rev = before.create_revision;
        candidacy.leader = Some(leader.clone());
        if before.value != request.value {
            say(&inside, &leader, request.value).await?;
        }
    }
    candidacy.leader = Some(leader.clone());
    inside
        .wait_for_turn(&follow::prefix(&request.name), leader.rev)
        .await?;
    candidacy.leader = None;
    let held = inside
        .txn(TxnRequest {
            compare: vec![follow::created_at(&leader.key, leader.rev)],
            ..TxnRequest::default()
        })
        .await?;
    if !held.succeeded {
        return Err(error::SESSION_EXPIRED_IN_ELECTION);
    }
    Ok(Outcome::of_message(&CampaignResponse {
        header: entered.header,
        leader: Some(leader),
    }))
}

/// Answers `Proclaim`.
pub(super) async fn proclaim(
    service: &Service,
    context: &Context,
    request: ProclaimRequest,
) -> Result<Outcome, Status> {
    let leader = request.leader.ok_or(error::MISSING_LEADER_KEY)?;
    let inside = Inside::new(service, context);
    let header = say(&inside, &leader, request.value).await?;
    Ok(Outcome::of_message(&ProclaimResponse { header }))
}

/// Changes what a leader says, if it still leads.
async fn say(
    inside: &Inside,
    leader: &LeaderKey,
    value: Bytes,
) -> Result<Option<ResponseHeader>, Status> {
    let put = PutRequest {
        key: leader.key.clone(),
        value,
        lease: leader.lease,
        ..PutRequest::default()
    };
    let said = inside
        .txn(TxnRequest {
            compare: vec![follow::created_at(&leader.key, leader.rev)],
            success: vec![follow::operation(Operation::RequestPut(put))],
            failure: Vec::new(),
        })
        .await?;
    if said.succeeded {
        Ok(said.header)
    } else {
        Err(error::NOT_ELECTED)
    }
}

/// Answers `Leader`.
pub(super) async fn leader(
    service: &Service,
    context: &Context,
    request: LeaderRequest,
) -> Result<Outcome, Status> {
    let inside = Inside::new(service, context);
    let found = inside
        .range(&follow::oldest(&follow::prefix(&request.name)))
        .await?;
    let kv = found.kvs.into_iter().next().ok_or(error::NOBODY_ELECTED)?;
    Ok(Outcome::of_message(&LeaderResponse {
        header: found.header,
        kv: Some(kv),
    }))
}

/// Answers `Resign`. Who does not lead any more has nothing to give up.
pub(super) async fn resign(
    service: &Service,
    context: &Context,
    request: ResignRequest,
) -> Result<Outcome, Status> {
    let leader = request.leader.ok_or(error::MISSING_LEADER_KEY)?;
    let inside = Inside::new(service, context);
    let header = inside.txn(give_up(&leader)).await?.header;
    Ok(Outcome::of_message(&ResignResponse { header }))
}

fn give_up(leader: &LeaderKey) -> TxnRequest {
    let delete = DeleteRangeRequest {
        key: leader.key.clone(),
        ..DeleteRangeRequest::default()
    };
    TxnRequest {
        compare: vec![follow::created_at(&leader.key, leader.rev)],
        success: vec![follow::operation(Operation::RequestDeleteRange(delete))],
        failure: Vec::new(),
    }
}

/// A candidate that waits. Whoever stops waiting, also because the client is gone, resigns.
struct Candidacy {
    inside: Inside,
    leader: Option<LeaderKey>,
}

impl Drop for Candidacy {
    fn drop(&mut self) {
        let Some(leader) = self.leader.take() else {
            return;
        };
        let inside = self.inside.alone();
        // The call is over: nobody is left to wait for it. If it fails, the lease ends the key.
        tokio::spawn(async move {
            if let Err(error) = inside.txn(give_up(&leader)).await {
                tracing::debug!(
                    reason = error.text(),
                    "a candidate that is gone did not resign"
                );
            }
        });
    }
}

/// Answers `Observe`: the leader, and everything that it or the next ones say.
pub(super) async fn observe(
    service: &Service,
    context: &Context,
    request: LeaderRequest,
) -> Result<Outcome, Status> {
    let inside = Inside::new(service, context);
    let (news, unread) = mpsc::channel(UNREAD);
    let prefix = follow::prefix(&request.name);
    // It ends with the call: then nobody takes its news any more.
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = tell(&inside, &prefix, &news) => ended,
            () = news.closed() => return,
        };
        if let Err(status) = ended {
            let _ = news.send(Err(status)).await;
        }
    });
    let body = Observed {
        unread,
        has_ended: false,
        method: service.methods.observe.clone(),
    };
    Ok(Outcome::of(Body::Other(Box::pin(body))))
}

type News = Result<LeaderResponse, Status>;

/// Tells of one leader after the other.
async fn tell(inside: &Inside, prefix: &[u8], news: &mpsc::Sender<News>) -> Result<(), Status> {
    let end = follow::end_of_prefix(prefix);
    loop {
        let found = inside.range(&follow::oldest(prefix)).await?;
        let mut header = found.header.unwrap_or_default();
        let kv = match found.kvs.into_iter().next() {
            Some(kv) => kv,
            None => {
                let range = KeyRange::new(prefix, &end);
                let mut watching = Watching::new(&inside.node, range, header.revision + 1);
                let Some((seen, kv)) = first_put(inside, &mut watching).await? else {
                    continue;
                };
                header = ResponseHeader {
                    revision: kv.mod_revision,
                    ..seen
                };
                kv
            }
        };
        let range = KeyRange::new(&kv.key, &[]);
        let from = header.revision + 1;
        send(news, header, kv).await?;
        let mut watching = Watching::new(&inside.node, range, from);
        'leader: while let Some(seen) = inside.in_time(watching.next()).await?? {
            for event in seen.events {
                if follow::is_delete(&event) {
                    break 'leader;
                }
                if let Some(kv) = event.kv {
                    send(news, seen.header, kv).await?;
                }
            }
        }
    }
}

async fn send(
    news: &mpsc::Sender<News>,
    header: ResponseHeader,
    kv: KeyValue,
) -> Result<(), Status> {
    let response = LeaderResponse {
        header: Some(header),
        kv: Some(kv),
    };
    news.send(Ok(response)).await.map_err(|_| error::CANCELED)
}

/// The first put that a watcher sees; none if history went by.
async fn first_put(
    inside: &Inside,
    watching: &mut Watching,
) -> Result<Option<(ResponseHeader, KeyValue)>, Status> {
    while let Some(seen) = inside.in_time(watching.next()).await?? {
        let mut puts = seen
            .events
            .into_iter()
            .filter(|event| !follow::is_delete(event));
        if let Some(kv) = puts.next().and_then(|event| event.kv) {
            return Ok(Some((seen.header, kv)));
        }
    }
    Ok(None)
}

/// The body of `Observe`.
struct Observed {
    unread: mpsc::Receiver<News>,
    has_ended: bool,
    method: GrpcMethod,
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = self.get_mut();
        if body.has_ended {
            return Poll::Ready(None);
        }
        body.unread.poll_recv(context).map(|news| {
            let status = match news {
                Some(Ok(response)) => {
                    let frame = codec::frame(&response);
                    body.method.sent(frame.len());
                    return Some(Ok(Frame::data(frame)));
                }
                Some(Err(status)) => status,
                None => error::STOPPED,
            };
            body.has_ended = true;
            Some(Ok(Frame::trailers(codec::failure(&status))))
        })
    }
}
