//! The Lease service. What ends a lease is the leader's affair; here it is granted, revoked, kept alive and looked at.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use prost::Message as _;
use proto::command::command::Op;
use proto::etcd::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, ResponseHeader,
};
use store::Answer;
use store::leases::MAX_TTL;

use super::codec;
use super::error::{self, Status};
use super::kv;
use super::messages::Messages;
use super::{Context, Outcome, Service};
use crate::metrics::GrpcMethod;
use crate::node::{Call, CallError, Node, Renewed};

/// Leases that one stream has kept alive at once; what comes meanwhile waits.
const AT_ONCE: usize = 1_000;

/// Until a lease that may be over is asked about again.
const AGAIN: Duration = Duration::from_millis(20);

/// Between two questions to a leader that moves.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers `LeaseGrant`.
pub(super) async fn grant(
    service: &Service,
    context: &Context,
    request: LeaseGrantRequest,
) -> Result<Outcome, Status> {
    let mut answer = service.grant_lease(&context.call, request).await?;
    kv::complete(service, &mut answer.header);
    Ok(Outcome::of_message(&answer))
}

/// Answers `LeaseRevoke`.
pub(super) async fn revoke(
    service: &Service,
    context: &Context,
    request: LeaseRevokeRequest,
) -> Result<Outcome, Status> {
    let op = Op::LeaseRevoke(request);
    let Answer::LeaseRevoke(mut answer) = service.node.propose(&context.call, op).await? else {
        return Err(kv::mismatch());
    };
    kv::complete(service, &mut answer.header);
    Ok(Outcome::of_message(&answer))
}

/// Answers `LeaseTimeToLive`.
pub(super) async fn time_to_live(
    service: &Service,
    context: &Context,
    request: LeaseTimeToLiveRequest,
) -> Result<Outcome, Status> {
    let node = &service.node;
    let id = request.id;
    let left = loop {
        match node.lease_left(id).await {
            Err(CallError::NoLeader) if context.left() > PAUSE => tokio::time::sleep(PAUSE).await,
            answer => break answer?,
        }
    };
    let mut answer = LeaseTimeToLiveResponse {
        id,
        ttl: -1,
        ..LeaseTimeToLiveResponse::default()
    };
    if let Some(left) = left {
        answer.ttl = i64::try_from(left.left.as_secs()).unwrap_or(i64::MAX);
        answer.granted_ttl = left.granted;
        if request.keys {
            // What the leader had applied when it answered is to be seen here, too.
            node.read_barrier(&context.call).await?;
            answer.keys = node.reader().leases().keys(id).unwrap_or_default();
        }
    }
    answer.header = Some(node.header(node.reader().view().revision));
    Ok(Outcome::of_message(&answer))
}

/// Answers `LeaseLeases`.
pub(super) async fn leases(
    service: &Service,
    _: &Context,
    _: LeaseLeasesRequest,
) -> Result<Outcome, Status> {
    let node = &service.node;
    let leases = node.leases().into_iter().map(|id| LeaseStatus { id });
    let answer = LeaseLeasesResponse {
        leases: leases.collect(),
        header: Some(node.header(node.reader().view().revision)),
    };
    Ok(Outcome::of_message(&answer))
}

impl Service {
    /// Grants a lease, under an id of its own if the request names none.
    pub(super) async fn grant_lease(
        &self,
        call: &Call,
        mut request: LeaseGrantRequest,
    ) -> Result<proto::etcd::etcdserverpb::LeaseGrantResponse, Status> {
        if request.ttl > MAX_TTL {
            return Err(error::LEASE_TTL_TOO_LARGE);
        }
        request.ttl = request.ttl.max(self.options.min_lease_ttl);
        while request.id == 0 {
            // As random as the keys of hash maps: nobody can tell which one comes next.
            let random = RandomState::new().build_hasher().finish();
            request.id = random.cast_signed() & i64::MAX;
        }
        match self.node.propose(call, Op::LeaseGrant(request)).await? {
            Answer::LeaseGrant(answer) => Ok(answer),
            _ => Err(kv::mismatch()),
        }
    }

    /// Answers `LeaseKeepAlive`.
    pub(super) fn keep_alive<B>(&self, inbound: B) -> Result<KeepAlive<B>, Status>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let method = &self.methods.lease_keep_alive;
        let limit = self.options.max_request_bytes + super::RECEIVE_SLACK;
        Ok(KeepAlive {
            messages: Messages::new(inbound, limit, method.clone()),
            has_all: false,
            asked: VecDeque::new(),
            round: None,
            has_ended: false,
            node: self.node.clone(),
            timeout: self.options.request_timeout,
            method: method.clone(),
        })
    }
}

type Round = Pin<Box<dyn Future<Output = Result<Vec<LeaseKeepAliveResponse>, Status>> + Send>>;

/// One stream of wishes to keep leases alive: those that are here are carried out together, and answered in their order.
pub(super) struct KeepAlive<B> {
    messages: Messages<B>,
    /// The client has said all.
    has_all: bool,
    asked: VecDeque<i64>,
    round: Option<Round>,
    has_ended: bool,
    node: Node,
    timeout: Duration,
    method: GrpcMethod,
}

impl<B> KeepAlive<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    fn poll(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            while !self.has_all && self.asked.len() < AT_ONCE {
                match self.messages.poll_next::<LeaseKeepAliveRequest>(context)? {
                    Poll::Ready(Some(request)) => self.asked.push_back(request.id),
                    Poll::Ready(None) => self.has_all = true,
                    Poll::Pending => break,
                }
            }
            if self.round.is_none() {
                if self.asked.is_empty() {
                    return match self.has_all {
                        true => Poll::Ready(Ok(None)),
                        false => Poll::Pending,
                    };
                }
                let ids = std::mem::take(&mut self.asked).into();
                self.round = Some(Box::pin(round(self.node.clone(), self.timeout, ids)));
            }
            if let Some(round) = &mut self.round {
                let answers = ready!(round.as_mut().poll(context));
                self.round = None;
                let mut data = BytesMut::new();
                let answers = answers?;
                for answer in &answers {
                    codec::put_prefix(&mut data, answer.encoded_len());
                    answer.encode_raw(&mut data);
                }
                self.method.sent_many(answers.len(), data.len());
                return Poll::Ready(Ok(Some(data.freeze())));
            }
        }
    }
}

/// Keeps leases alive; what is to be answered for each, in their order.
async fn round(
    node: Node,
    timeout: Duration,
    ids: Vec<i64>,
) -> Result<Vec<LeaseKeepAliveResponse>, Status> {
    let call = Call::new(timeout);
    let until = Instant::now() + timeout;
    // As of before: the lease was alive then.
    let header: ResponseHeader = node.header(node.reader().view().revision);
    let mut ttls = vec![None; ids.len()];
    let mut open: Vec<usize> = (0..ids.len()).collect();
    let mut asked = ids.clone();
    while !open.is_empty() {
        let renewed = node.keep_alive(&call, asked).await?;
        for (&place, renewed) in open.iter().zip(renewed) {
            if let Renewed::Ttl(ttl) = renewed {
                ttls[place] = Some(ttl);
            }
        }
        open.retain(|&place| ttls[place].is_none());
        asked = open.iter().map(|&place| ids[place]).collect();
        if !open.is_empty() {
            if Instant::now() >= until {
                // Its end does not get through the log, and as long as it may, nobody can say that it lives.
                return Err(error::TIMEOUT);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
    let answers = ids
        .into_iter()
        .zip(ttls)
        .map(|(id, ttl)| LeaseKeepAliveResponse {
            header: Some(header),
            id,
            ttl: ttl.unwrap_or_default(),
        });
    Ok(answers.collect())
}

impl<B> http_body::Body for KeepAlive<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stream = self.get_mut();
        if stream.has_ended {
            return Poll::Ready(None);
        }
        let trailers = match ready!(stream.poll(context)) {
            Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
            Ok(None) => codec::success(),
            Err(status) => codec::failure(&status),
        };
        stream.has_ended = true;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}
