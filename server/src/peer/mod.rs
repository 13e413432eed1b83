//! How members speak to each other: what one asks of another, whatever carries it.
//!
//! - `addresses`: where each member is reached.
//! - `memory`: what is remembered of each.
//! - `grpc`: carries it over gRPC. `serve`: the other end of that.
//!
//! The same trait is the caller's view of a remote member and what the local one answers, so that a simulated network
//! stands between two nodes as the real one does.

pub mod addresses;
pub mod grpc;
pub mod memory;
pub mod serve;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use futures_util::Stream;
use proto::peer::{
    AppendReply, AppendRequest, ForwardReply, ForwardRequest, HealthReply, HealthRequest,
    HelloReply, HelloRequest, LeasesReply, LeasesRequest, ReadIndexReply, ReadIndexRequest,
    SnapshotReply, SnapshotRequest, TransferLeaderReply, TransferLeaderRequest, VoteReply,
    VoteRequest,
};

use crate::node::BoxFuture;

/// What goes to a member, in order.
pub type Requests<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// What comes back, in order; nothing follows an error.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, LinkError>> + Send>>;

/// Why a member did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There is no connection: nothing was sent.
    #[error("no connection to member {0:x}")]
    NotConnected(u64),
    /// It says no. What was asked was not done.
    #[error("refused: {0}")]
    Refused(String),
    /// The connection broke or the answer makes no sense: what was asked may have been done.
    #[error("the link broke: {0}")]
    Broken(String),
}

/// What members ask of each other.
pub trait Peer: Send + Sync + 'static {
    /// Says what is remembered of it, and hears what it has.
    fn hello(&self, request: HelloRequest) -> BoxFuture<Result<HelloReply, LinkError>>;

    /// Appends entries to its log, in the leader's name.
    fn append(
        &self,
        requests: Requests<AppendRequest>,
    ) -> BoxFuture<Result<Answers<AppendReply>, LinkError>>;

    /// Asks for a vote, or whether it would give one.
    fn vote(&self, request: VoteRequest) -> BoxFuture<Result<VoteReply, LinkError>>;

    /// Says who is to lead next.
    fn transfer_leader(
        &self,
        request: TransferLeaderRequest,
    ) -> BoxFuture<Result<TransferLeaderReply, LinkError>>;

    /// Asks the leader how far a linearizable read must see.
    fn read_index(&self, request: ReadIndexRequest)
    -> BoxFuture<Result<ReadIndexReply, LinkError>>;

    /// Asks the leader how it sees the others.
    fn health(&self, _: HealthRequest) -> BoxFuture<Result<HealthReply, LinkError>> {
        let refusal = "this is not known here".to_owned();
        Box::pin(std::future::ready(Err(LinkError::Refused(refusal))))
    }

    /// Asks the leader to keep leases alive, or what is left of one.
    fn leases(&self, _: LeasesRequest) -> BoxFuture<Result<LeasesReply, LinkError>> {
        let refusal = "this is not known here".to_owned();
        Box::pin(std::future::ready(Err(LinkError::Refused(refusal))))
    }

    /// Hands commands to the leader.
    fn forward(
        &self,
        requests: Requests<ForwardRequest>,
    ) -> BoxFuture<Result<Answers<ForwardReply>, LinkError>>;

    /// Sends the whole state.
    fn snapshot(
        &self,
        requests: Requests<SnapshotRequest>,
    ) -> BoxFuture<Result<Answers<SnapshotReply>, LinkError>>;
}

/// The way to the other members.
pub trait Transport: Send + Sync + 'static {
    /// A link of its own: what waits on it holds up nothing on another.
    fn link(&self, to: u64, purpose: &'static str) -> Arc<dyn Peer>;

    /// The link for short questions, which all who ask share.
    fn control(&self, to: u64) -> Arc<dyn Peer>;
}

/// The way of a node that is alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

struct Nobody(u64);

impl Transport for Alone {
    fn link(&self, to: u64, _: &'static str) -> Arc<dyn Peer> {
        Arc::new(Nobody(to))
    }

    fn control(&self, to: u64) -> Arc<dyn Peer> {
        Arc::new(Nobody(to))
    }
}

impl Nobody {
    fn answer<T: Send + 'static>(&self) -> BoxFuture<Result<T, LinkError>> {
        Box::pin(std::future::ready(Err(LinkError::NotConnected(self.0))))
    }
}

impl Peer for Nobody {
    fn hello(&self, _: HelloRequest) -> BoxFuture<Result<HelloReply, LinkError>> {
        self.answer()
    }

    fn append(
        &self,
        _: Requests<AppendRequest>,
    ) -> BoxFuture<Result<Answers<AppendReply>, LinkError>> {
        self.answer()
    }

    fn vote(&self, _: VoteRequest) -> BoxFuture<Result<VoteReply, LinkError>> {
        self.answer()
    }

    fn transfer_leader(
        &self,
        _: TransferLeaderRequest,
    ) -> BoxFuture<Result<TransferLeaderReply, LinkError>> {
        self.answer()
    }

    fn read_index(&self, _: ReadIndexRequest) -> BoxFuture<Result<ReadIndexReply, LinkError>> {
        self.answer()
    }

    fn health(&self, _: HealthRequest) -> BoxFuture<Result<HealthReply, LinkError>> {
        self.answer()
    }

    fn leases(&self, _: LeasesRequest) -> BoxFuture<Result<LeasesReply, LinkError>> {
        self.answer()
    }

    fn forward(
        &self,
        _: Requests<ForwardRequest>,
    ) -> BoxFuture<Result<Answers<ForwardReply>, LinkError>> {
        self.answer()
    }

    fn snapshot(
        &self,
        _: Requests<SnapshotRequest>,
    ) -> BoxFuture<Result<Answers<SnapshotReply>, LinkError>> {
        self.answer()
    }
}

/// What this member answers, from the moment on when it can.
#[derive(Default)]
pub struct Inbound {
    local: OnceLock<Arc<dyn Peer>>,
}

impl Inbound {
    /// From now on peers are answered.
    pub fn open(&self, local: Arc<dyn Peer>) {
        // A node starts once.
        let _ = self.local.set(local);
    }

    /// Who answers, if the node is far enough.
    pub fn local(&self) -> Option<Arc<dyn Peer>> {
        self.local.get().cloned()
    }
}
