//! Answers peers on the peer port: checks who calls, and hands on what it asks.
//!
//! A peer of another cluster, one that means another member, and one that was removed are refused, and each is logged
//! once. So is one that is not known, but for what raft itself says: it may have been added, and lead by now, while this
//! member was away, and who refused to listen would never hear of that. It is logged once, too.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use http::{Request as HttpRequest, Response as HttpResponse};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use parking_lot::Mutex;
use proto::peer::peer_server::{Peer as Protocol, PeerServer};
use proto::peer::{
    AppendReply, AppendRequest, ForwardReply, ForwardRequest, HealthReply, HealthRequest,
    HelloReply, HelloRequest, LeasesReply, LeasesRequest, MembersReply, MembersRequest,
    ReadIndexReply, ReadIndexRequest, SnapshotReply, SnapshotRequest, TransferLeaderReply,
    TransferLeaderRequest, VoteReply, VoteRequest,
};
use tonic::{Request, Response, Status, Streaming};

use super::addresses::Addresses;
use super::{Answers, Inbound, LinkError, Peer, Requests};
use crate::etcd::Body;
use crate::etcd::codec::BrokenOff;
use crate::listen;

/// Headers of every call but `Members`: ids in hexadecimal.
pub const CLUSTER: &str = "holdfast-cluster";
/// Who calls.
pub const FROM: &str = "holdfast-from";
/// Whom it means.
pub const TO: &str = "holdfast-to";

/// The longest message between peers: what is read of a log at once, and the largest request that may be set.
pub const MAX_MESSAGE: usize = (1 << 30) + (8 << 20);

/// How many strangers are remembered, to log each only once.
const STRANGERS: usize = 1024;

/// Serves the peer port.
pub struct PeerService {
    server: PeerServer<Answering>,
}

struct Answering {
    cluster_id: u64,
    member_id: u64,
    inbound: Arc<Inbound>,
    addresses: Arc<Addresses>,
    /// What was said of whom in the log.
    strangers: Mutex<BTreeSet<(String, u64)>>,
}

impl PeerService {
    /// Answers for this member through `inbound`.
    pub fn new(
        (cluster_id, member_id): (u64, u64),
        inbound: Arc<Inbound>,
        addresses: Arc<Addresses>,
    ) -> Self {
        let answering = Answering {
            cluster_id,
            member_id,
            inbound,
            addresses,
            strangers: Mutex::default(),
        };
        Self {
            server: PeerServer::new(answering)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        }
    }
}

impl listen::Serve for PeerService {
    async fn respond(
        &self,
        _: &listen::Peer,
        request: HttpRequest<Incoming>,
    ) -> HttpResponse<Body> {
        let mut server = self.server.clone();
        let answered = tower_service::Service::call(&mut server, request).await;
        let Ok(response) = answered;
        // tonic puts errors into trailers; one of the body itself breaks the answer off.
        response.map(|body| Body::Fragile(Box::pin(body.map_err(|_: Status| BrokenOff))))
    }
}

impl Answering {
    /// Who calls, if it may.
    fn admit<T>(&self, request: &Request<T>) -> Result<Arc<dyn Peer>, Status> {
        self.admit_any(request, false)
    }

    /// As [`Answering::admit`], for what a leader that was removed says until another one leads.
    fn admit_leader<T>(&self, request: &Request<T>) -> Result<Arc<dyn Peer>, Status> {
        self.admit_any(request, true)
    }

    fn admit_any<T>(
        &self,
        request: &Request<T>,
        may_be_removed: bool,
    ) -> Result<Arc<dyn Peer>, Status> {
        let id = |name| id(request, name);
        let (Some(cluster), Some(from), Some(to)) = (id(CLUSTER), id(FROM), id(TO)) else {
            return Err(Status::failed_precondition(
                "this is the peer port of a Holdfast member; clients use its client port",
            ));
        };
        let refusal = if cluster != self.cluster_id {
            Some(format!(
                "it is of cluster {cluster:x}, and this is cluster {:x}",
                self.cluster_id
            ))
        } else if to != self.member_id {
            Some(format!(
                "it means member {to:x}, and this is member {:x}",
                self.member_id
            ))
        } else if self.addresses.has_removed(from) && !may_be_removed {
            Some(format!("member {from:x} was removed from the cluster"))
        } else {
            None
        };
        if let Some(reason) = refusal {
            return Err(self.refuse(from, reason));
        }
        let is_removed = self.addresses.has_removed(from);
        if !is_removed && !self.addresses.knows(from) && self.is_news(from, "unknown") {
            tracing::warn!(
                peer = format!("{from:x}"),
                "a peer is not known as a member here: it was added while this member was away, or does not belong here; \
                 told once"
            );
        }
        self.inbound
            .local()
            .ok_or_else(|| Status::failed_precondition("the member is starting"))
    }

    /// As [`Answering::admit`], for what only a known member may ask.
    fn admit_member<T>(&self, request: &Request<T>) -> Result<Arc<dyn Peer>, Status> {
        let local = self.admit(request)?;
        match id(request, FROM) {
            Some(from) if self.addresses.knows(from) => Ok(local),
            from => {
                let from = from.unwrap_or_default();
                let reason = format!("member {from:x} is not known here");
                Err(self.refuse(from, reason))
            }
        }
    }

    fn refuse(&self, from: u64, reason: String) -> Status {
        if self.is_news(from, &reason) {
            tracing::warn!(
                peer = format!("{from:x}"),
                reason,
                "refused a peer; told once"
            );
        }
        Status::failed_precondition(reason)
    }

    /// Whether this was not said of it before.
    fn is_news(&self, from: u64, what: &str) -> bool {
        let mut strangers = self.strangers.lock();
        strangers.len() < STRANGERS && strangers.insert((what.to_owned(), from))
    }
}

/// The id in a header.
fn id<T>(request: &Request<T>, name: &str) -> Option<u64> {
    let text = request.metadata().get(name)?.to_str().ok()?;
    u64::from_str_radix(text, 16).ok()
}

fn status(error: LinkError) -> Status {
    match error {
        LinkError::Refused(reason) => Status::failed_precondition(reason),
        other => Status::unavailable(other.to_string()),
    }
}

/// What arrives, up to its end or until the connection breaks.
fn requests<T: Send + 'static>(request: Request<Streaming<T>>) -> Requests<T> {
    let received = request.into_inner();
    Box::pin(received.map_while_ok())
}

trait MapWhileOk<T> {
    fn map_while_ok(self) -> impl Stream<Item = T> + Send;
}

impl<T: Send + 'static> MapWhileOk<T> for Streaming<T> {
    fn map_while_ok(self) -> impl Stream<Item = T> + Send {
        // An error is the end of the connection: whoever sent hears of it there.
        self.map(Result::ok)
            .take_while(|received| std::future::ready(received.is_some()))
            .filter_map(std::future::ready)
    }
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn replies<T: Send + 'static>(
    answers: Result<Answers<T>, LinkError>,
) -> Result<Response<Replies<T>>, Status> {
    let answers = answers.map_err(status)?;
    Ok(Response::new(Box::pin(
        answers.map(|answer| answer.map_err(status)),
    )))
}

#[tonic::async_trait]
impl Protocol for Answering {
    type AppendStream = Replies<AppendReply>;
    type ForwardStream = Replies<ForwardReply>;
    type SnapshotStream = Replies<SnapshotReply>;

    async fn append(
        &self,
        request: Request<Streaming<AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let local = self.admit_leader(&request)?;
        replies(local.append(requests(request)).await)
    }

    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let local = self.admit(&request)?;
        let answer = local.hello(request.into_inner()).await.map_err(status)?;
        Ok(Response::new(answer))
    }

    async fn vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteReply>, Status> {
        let local = self.admit(&request)?;
        let answer = local.vote(request.into_inner()).await.map_err(status)?;
        Ok(Response::new(answer))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderReply>, Status> {
        let local = self.admit_leader(&request)?;
        let answer = local.transfer_leader(request.into_inner()).await;
        Ok(Response::new(answer.map_err(status)?))
    }

    async fn read_index(
        &self,
        request: Request<ReadIndexRequest>,
    ) -> Result<Response<ReadIndexReply>, Status> {
        let local = self.admit_member(&request)?;
        let answer = local.read_index(request.into_inner()).await;
        Ok(Response::new(answer.map_err(status)?))
    }

    async fn health(
        &self,
        request: Request<HealthRequest>,
    ) -> Result<Response<HealthReply>, Status> {
        let local = self.admit_member(&request)?;
        let answer = local.health(request.into_inner()).await;
        Ok(Response::new(answer.map_err(status)?))
    }

    async fn leases(
        &self,
        request: Request<LeasesRequest>,
    ) -> Result<Response<LeasesReply>, Status> {
        let local = self.admit_member(&request)?;
        let answer = local.leases(request.into_inner()).await;
        Ok(Response::new(answer.map_err(status)?))
    }

    async fn forward(
        &self,
        request: Request<Streaming<ForwardRequest>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let local = self.admit_member(&request)?;
        replies(local.forward(requests(request)).await)
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotRequest>>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let local = self.admit(&request)?;
        replies(local.snapshot(requests(request)).await)
    }

    async fn members(&self, _: Request<MembersRequest>) -> Result<Response<MembersReply>, Status> {
        Ok(Response::new(MembersReply {
            cluster_id: self.cluster_id,
            members: self.addresses.all(),
        }))
    }
}
