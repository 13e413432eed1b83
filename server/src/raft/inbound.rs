//! What this member answers its peers.

use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use openraft::raft::StreamAppendError;
use openraft::{AsyncRuntime, ReadPolicy};
use proto::peer::forward_reply::Outcome;
use proto::peer::{
    AppendReply, AppendRequest, ForwardReply, ForwardRequest, HealthReply, HealthRequest,
    HelloReply, HelloRequest, LeasesReply, LeasesRequest, LogId, ReadIndexReply, ReadIndexRequest,
    Remembered, SnapshotReply, SnapshotRequest, TransferLeaderReply, TransferLeaderRequest,
    VoteReply, VoteRequest,
};

use store::log::Log;
use tokio::sync::mpsc;

use super::take_snapshot::Incoming;
use super::{Core, RaftOf, health, leases, take_snapshot, wire};
use crate::node::BoxFuture;
use crate::peer::memory;
use crate::peer::{Answers, LinkError, Peer, Requests};

/// Batches of one member that may be on their way into the log at once.
const FORWARDED_AT_ONCE: usize = 16;

/// This member, as its peers see it.
pub(super) struct Local<R: AsyncRuntime> {
    pub(super) raft: RaftOf<R>,
    pub(super) core: Arc<Core>,
    pub(super) log: Log,
    pub(super) incoming: Incoming,
}

fn refused(error: impl std::fmt::Display) -> LinkError {
    LinkError::Refused(error.to_string())
}

fn broken(error: impl std::fmt::Display) -> LinkError {
    LinkError::Broken(error.to_string())
}

impl<R: AsyncRuntime> Peer for Local<R> {
    fn hello(&self, request: HelloRequest) -> BoxFuture<Result<HelloReply, LinkError>> {
        let last = self.log.last().or(self.log.last_purged());
        let has = Remembered {
            boot: self.core.boot,
            term: self.log.vote().map_or(0, |vote| vote.term),
            last: last.map(|id| LogId {
                term: id.term,
                index: id.index,
            }),
        };
        let answer = match memory::compare(&request.remembered.unwrap_or_default(), &has) {
            Ok(()) => Ok(HelloReply { has: Some(has) }),
            Err(error) => {
                self.core.stop_for(format!(
                    "the data folder of this member was lost or copied back: {error}, another member remembers. It may \
                     not vote under its old identity: remove it (etcdctl member remove), add it as a new member, and \
                     start it with an empty data folder and --initial-cluster-state=existing"
                ));
                Err(refused(error))
            }
        };
        std::future::ready(answer).boxed()
    }

    fn append(
        &self,
        requests: Requests<AppendRequest>,
    ) -> BoxFuture<Result<Answers<AppendReply>, LinkError>> {
        // A request that makes no sense ends the stream; its sender begins anew, and says so if it happens again.
        let requests = requests
            .map(|request| {
                wire::raft_append_request::<R>(request)
                    .inspect_err(|error| {
                        tracing::warn!(%error, "a peer sent what is not understood");
                    })
                    .ok()
            })
            .take_while(|request| std::future::ready(request.is_some()))
            .filter_map(std::future::ready);
        let core = self.core.clone();
        let answers = self.raft.stream_append(requests).map(move |result| {
            let result = result.map_err(broken)?;
            // Not from one that was deposed.
            if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
                core.heard();
            }
            Ok(wire::append_reply::<R>(&result))
        });
        std::future::ready(Ok(Box::pin(answers) as Answers<_>)).boxed()
    }

    fn vote(&self, request: VoteRequest) -> BoxFuture<Result<VoteReply, LinkError>> {
        let raft = self.raft.clone();
        Box::pin(async move {
            let is_pre_vote = request.is_pre_vote;
            let request = wire::raft_vote_request::<R>(request).map_err(refused)?;
            let response = if is_pre_vote {
                raft.pre_vote(request).await
            } else {
                raft.vote(request).await
            };
            let response = response.map_err(broken)?;
            Ok(wire::vote_reply::<R>(&response))
        })
    }

    fn transfer_leader(
        &self,
        request: TransferLeaderRequest,
    ) -> BoxFuture<Result<TransferLeaderReply, LinkError>> {
        let raft = self.raft.clone();
        Box::pin(async move {
            let request = wire::raft_transfer_request::<R>(request).map_err(refused)?;
            let response = raft.handle_transfer_leader(request).await.map_err(broken)?;
            Ok(TransferLeaderReply {
                refusal: response
                    .err()
                    .map_or_else(String::new, |error| error.to_string()),
            })
        })
    }

    fn read_index(&self, _: ReadIndexRequest) -> BoxFuture<Result<ReadIndexReply, LinkError>> {
        let raft = self.raft.clone();
        Box::pin(async move {
            let point = raft
                .get_read_linearizer(ReadPolicy::ReadIndex)
                .await
                .map_err(refused)?;
            Ok(ReadIndexReply {
                index: point.read_log_id().index(),
            })
        })
    }

    fn health(&self, _: HealthRequest) -> BoxFuture<Result<HealthReply, LinkError>> {
        let seen = health::seen::<R>(&self.raft, &self.core);
        let answer = seen
            .map(|seen| wire::health_reply(&seen))
            .ok_or_else(|| refused("this member does not lead"));
        std::future::ready(answer).boxed()
    }

    fn leases(&self, request: LeasesRequest) -> BoxFuture<Result<LeasesReply, LinkError>> {
        let core = self.core.clone();
        Box::pin(async move { leases::answer_peer(&core, request).await.map_err(refused) })
    }

    fn forward(
        &self,
        requests: Requests<ForwardRequest>,
    ) -> BoxFuture<Result<Answers<ForwardReply>, LinkError>> {
        let core = self.core.clone();
        let answers = requests
            .map(move |request| {
                let id = request.id;
                let outcome = if core.is_leader() {
                    core.proposals.submit_forwarded(request)
                } else {
                    Err(Outcome::NoLeader)
                };
                async move {
                    let outcome = match outcome {
                        Ok(waiting) => waiting.await,
                        Err(outcome) => outcome,
                    };
                    Ok(ForwardReply {
                        id,
                        outcome: outcome as i32,
                    })
                }
            })
            .buffered(FORWARDED_AT_ONCE);
        std::future::ready(Ok(Box::pin(answers) as Answers<_>)).boxed()
    }

    fn snapshot(
        &self,
        requests: Requests<SnapshotRequest>,
    ) -> BoxFuture<Result<Answers<SnapshotReply>, LinkError>> {
        let (replies, mut replied) = mpsc::unbounded_channel();
        // Detached: it ends with the requests, or when the node does.
        drop(R::spawn(take_snapshot::take::<R>(
            self.raft.clone(),
            self.core.clone(),
            self.incoming.clone(),
            requests,
            replies,
        )));
        let answers = stream::poll_fn(move |context| replied.poll_recv(context));
        std::future::ready(Ok(Box::pin(answers) as Answers<_>)).boxed()
    }
}
