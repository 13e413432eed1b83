//! openraft's way to the other members, over whatever carries the peer protocol.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{self, Either};
use futures_util::{Stream, StreamExt as _, stream};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use openraft::{AsyncRuntime, OptionalSend};
use store::mutant::{self, Mutant};

use super::on_its_way::OnItsWay;
use super::state_machine::SnapshotHandle;
use super::types::Types;
use super::{send_snapshot, wire};
use crate::peer::memory::Memory;
use crate::peer::{LinkError, Peer as Link, Transport};

/// Opening a stream may take this long, whatever a heartbeat may.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// A follower that is there and answers no request for so long, because its disk does not: its stream begins anew. Until
/// then the leader's log is kept for it.
const SILENCE: Duration = Duration::from_secs(30);

/// After a snapshot that was not taken, nothing is done for so long: each try makes files.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(10);

/// After a failure, the next try comes this much later.
const PAUSE: Duration = Duration::from_millis(50);

/// Makes links to peers.
pub(super) struct Peers {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) memory: Arc<Memory>,
}

/// A link to one peer. openraft takes one for entries, one for heartbeats, and one for each vote.
pub(super) struct Peer {
    transport: Arc<dyn Transport>,
    memory: Arc<Memory>,
    to: u64,
    /// For streams; made at the first.
    own: Option<Arc<dyn Link>>,
}

impl<R: AsyncRuntime> RaftNetworkFactory<Types<R>> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _: &openraft::impls::EmptyNode) -> Peer {
        Peer {
            transport: self.transport.clone(),
            memory: self.memory.clone(),
            to: target,
            own: None,
        }
    }
}

fn rpc_error<R: AsyncRuntime>(error: impl std::error::Error + 'static) -> RPCError<Types<R>> {
    Unreachable::from_string(error.to_string()).into()
}

fn link_error<R: AsyncRuntime>(error: LinkError) -> RPCError<Types<R>> {
    match error {
        LinkError::Broken(text) => NetworkError::from_string(text).into(),
        other => rpc_error(other),
    }
}

fn too_late<R: AsyncRuntime>() -> RPCError<Types<R>> {
    NetworkError::from_string("no answer in time".to_owned()).into()
}

impl Peer {
    fn own(&mut self) -> &Arc<dyn Link> {
        self.own
            .get_or_insert_with(|| self.transport.link(self.to, "log"))
    }
}

/// What a peer answers to entries.
type Appended<'s, R> = BoxStream<'s, Result<StreamAppendResult<Types<R>>, RPCError<Types<R>>>>;

/// A mutant: says that the peer has all that is sent to it.
fn believe<'s, R: AsyncRuntime>(
    link: &dyn Link,
    input: impl Stream<Item = AppendEntriesRequest<Types<R>>> + OptionalSend + 'static,
) -> Appended<'s, R> {
    let (sent, believed) = tokio::sync::mpsc::unbounded_channel();
    let input = input.inspect(move |request| {
        let last = request.entries.last().map(|entry| entry.log_id);
        // The answers may be gone first.
        let _ = sent.send(last.or(request.prev_log_id));
    });
    let opened = link.append(Box::pin(input.map(wire::append_request)));
    drop(R::spawn(async move {
        if let Ok(answers) = opened.await {
            answers.for_each(|_| std::future::ready(())).await;
        }
    }));
    let believed = stream::unfold(believed, |mut believed| async move {
        let last = believed.recv().await?;
        Some((Ok(Ok(last)), believed))
    });
    Box::pin(believed)
}

impl<R: AsyncRuntime> RaftNetworkV2<Types<R>> for Peer {
    type SnapshotData = SnapshotHandle;

    /// Not used: everything goes through streams.
    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<Types<R>>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<R>>, RPCError<Types<R>>> {
        Err(Unreachable::from_string("entries go through streams".to_owned()).into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<Types<R>>, RPCError<Types<R>>>>,
            RPCError<Types<R>>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types<R>>> + OptionalSend + Unpin + 'static,
    {
        let link = self.own().clone();
        Box::pin(async move {
            if mutant::is_on(Mutant::QuorumNotAwaited) {
                return Ok(believe(&*link, input));
            }
            let on_its_way = Arc::new(OnItsWay::default());
            let sending = on_its_way.clone();
            let requests = input.map(move |request: AppendEntriesRequest<Types<R>>| {
                let last = request.entries.last().map(|entry| entry.log_id);
                sending.sent(request.prev_log_id, last.or(request.prev_log_id));
                wire::append_request(request)
            });
            let opened = link.append(Box::pin(requests));
            let patience = option.hard_ttl().max(LEAST_PATIENCE);
            let answers = R::timeout(patience, opened)
                .await
                .map_err(|_| too_late())?
                .map_err(link_error)?;
            let results = stream::unfold(answers, move |mut answers| {
                let on_its_way = on_its_way.clone();
                async move {
                    loop {
                        let result = match R::timeout(SILENCE, answers.next()).await {
                            Ok(answer) => match answer? {
                                Ok(reply) => wire::append_result(reply).map_err(rpc_error),
                                Err(error) => Err(link_error(error)),
                            },
                            Err(_) if on_its_way.is_empty() => continue,
                            Err(_) => Err(too_late()),
                        };
                        let is_told = match &result {
                            Ok(Ok(matched)) => on_its_way.answered(matched),
                            _ => true,
                        };
                        if is_told {
                            return Some((result, answers));
                        }
                    }
                }
            });
            Ok(Box::pin(results) as BoxStream<'s, _>)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        let asked = self
            .transport
            .control(self.to)
            .vote(wire::vote_request(&request, false));
        let reply = R::timeout(option.hard_ttl(), asked)
            .await
            .map_err(|_| too_late())?
            .map_err(link_error)?;
        if reply.is_granted {
            self.memory.voted(self.to, request.vote.leader_id.term);
            self.memory.save_soon();
        }
        wire::vote_response(reply).map_err(rpc_error)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        let asked = self
            .transport
            .control(self.to)
            .vote(wire::vote_request(&request, true));
        let reply = R::timeout(option.hard_ttl(), asked)
            .await
            .map_err(|_| too_late())?
            .map_err(link_error)?;
        wire::vote_response(reply).map_err(rpc_error)
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types<R>>,
        snapshot: SnapshotOf<Types<R>, SnapshotHandle>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types<R>>, StreamingError<Types<R>>> {
        let link = self.transport.link(self.to, "snapshot");
        let sending =
            send_snapshot::send::<R>(&*link, self.to, wire::vote(&vote), snapshot.snapshot);
        match future::select(Box::pin(sending), Box::pin(cancel)).await {
            Either::Left((Ok(Some(vote)), _)) => match wire::ballot(Some(vote)) {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => Err(rpc_error::<R>(error).into()),
            },
            Either::Left((Ok(None), _)) => {
                Err(Unreachable::from_string("this leader is deposed".to_owned()).into())
            }
            Either::Left((Err(error), cancel)) => {
                tracing::warn!(
                    member = format!("{:x}", self.to),
                    %error,
                    "the state was not sent to a member that is far behind; it is tried again"
                );
                if let Either::Right((closed, _)) =
                    future::select(Box::pin(R::sleep(SNAPSHOT_PAUSE)), cancel).await
                {
                    return Err(StreamingError::Closed(closed));
                }
                Err(link_error::<R>(error).into())
            }
            Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types<R>>, RPCError<Types<R>>> {
        let asked = self
            .transport
            .control(self.to)
            .transfer_leader(wire::transfer_request(&request));
        let patience = option.hard_ttl().max(LEAST_PATIENCE);
        let reply = R::timeout(patience, asked)
            .await
            .map_err(|_| too_late())?
            .map_err(link_error)?;
        if reply.refusal.is_empty() {
            Ok(Ok(()))
        } else {
            Err(Unreachable::from_string(reply.refusal).into())
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(PAUSE)))
    }
}
