//! The way to peers. A one-member cluster has none, and every call says so.

use std::future::Future;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use openraft::{AsyncRuntime, OptionalSend};

use super::state_machine::SnapshotHandle;
use super::types::Types;

/// Makes links to peers.
pub(super) struct Peers;

/// A link to one peer.
pub(super) struct Peer(u64);

impl Peer {
    fn unreachable<R: AsyncRuntime>(&self) -> Unreachable<Types<R>> {
        Unreachable::from_string(format!(
            "no link to member {:x}: this node runs a one-member cluster",
            self.0
        ))
    }
}

impl<R: AsyncRuntime> RaftNetworkFactory<Types<R>> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _: &openraft::impls::EmptyNode) -> Peer {
        Peer(target)
    }
}

impl<R: AsyncRuntime> RaftNetworkV2<Types<R>> for Peer {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<Types<R>>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<R>>, RPCError<Types<R>>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _: VoteRequest<Types<R>>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        Err(self.unreachable().into())
    }

    async fn pre_vote(
        &mut self,
        _: VoteRequest<Types<R>>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _: VoteOf<Types<R>>,
        _: SnapshotOf<Types<R>, SnapshotHandle>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types<R>>, StreamingError<Types<R>>> {
        Err(self.unreachable().into())
    }
}
