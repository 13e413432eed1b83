//! What members told each other to be on their disks, overheard as it leaves them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use proto::peer::append_reply::Result as Appended;
use proto::peer::{
    AppendReply, AppendRequest, ForwardReply, ForwardRequest, HelloReply, HelloRequest,
    LeasesReply, LeasesRequest, ReadIndexReply, ReadIndexRequest, SnapshotReply, SnapshotRequest,
    TransferLeaderReply, TransferLeaderRequest, VoteReply, VoteRequest,
};
use server::node::BoxFuture;
use server::peer::{Answers, LinkError, Peer, Requests};

/// What a member may not forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// The newest term in which it voted, and for whom.
    pub vote: Option<(u64, u64)>,
    /// The last entry that it acknowledged.
    pub entry: Option<Acknowledged>,
}

/// An entry that a member said to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acknowledged {
    /// The term of the leader it was told to. Only a later one may have it removed.
    pub leader_term: u64,
    /// The entry's place.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
}

/// The promises of all members.
#[derive(Clone, Default)]
pub(super) struct Promises(Arc<Mutex<BTreeMap<u64, Promise>>>);

impl Promises {
    pub(super) fn of(&self, member: u64) -> Promise {
        self.0.lock().get(&member).copied().unwrap_or_default()
    }

    fn voted(&self, member: u64, vote: (u64, u64)) {
        let mut promises = self.0.lock();
        let promise = promises.entry(member).or_default();
        if promise.vote.is_none_or(|held| held.0 <= vote.0) {
            promise.vote = Some(vote);
        }
    }

    fn acknowledged(&self, member: u64, entry: Acknowledged) {
        let mut promises = self.0.lock();
        let promise = promises.entry(member).or_default();
        promise.entry = promise.entry.max(Some(entry));
    }
}

/// A member as others reach it.
pub(super) struct Overheard {
    pub(super) member: u64,
    pub(super) local: Arc<dyn Peer>,
    pub(super) promises: Promises,
}

impl Peer for Overheard {
    fn hello(&self, request: HelloRequest) -> BoxFuture<Result<HelloReply, LinkError>> {
        self.local.hello(request)
    }

    fn append(
        &self,
        requests: Requests<AppendRequest>,
    ) -> BoxFuture<Result<Answers<AppendReply>, LinkError>> {
        let (member, promises) = (self.member, self.promises.clone());
        let term = Arc::new(AtomicU64::new(0));
        let asked = Arc::clone(&term);
        let requests = requests.inspect(move |request| {
            let term = request.vote.as_ref().map_or(0, |vote| vote.term);
            asked.store(term, Ordering::Relaxed);
        });
        let answered = self.local.append(Box::pin(requests));
        Box::pin(answered.map(move |answers| {
            let answers = answers?.inspect(move |answer| {
                if let Ok(AppendReply {
                    result: Some(Appended::Matched(matched)),
                }) = answer
                    && let Some(last) = &matched.last
                {
                    let entry = Acknowledged {
                        leader_term: term.load(Ordering::Relaxed),
                        index: last.index,
                        term: last.term,
                    };
                    promises.acknowledged(member, entry);
                }
            });
            Ok(Box::pin(answers) as Answers<_>)
        }))
    }

    fn vote(&self, request: VoteRequest) -> BoxFuture<Result<VoteReply, LinkError>> {
        let (member, promises) = (self.member, self.promises.clone());
        let vote = request.vote.as_ref().filter(|_| !request.is_pre_vote);
        let vote = vote.map(|vote| (vote.term, vote.voted_for));
        let answered = self.local.vote(request);
        Box::pin(answered.inspect(move |answer| {
            if let (
                Ok(VoteReply {
                    is_granted: true, ..
                }),
                Some(vote),
            ) = (answer, vote)
            {
                promises.voted(member, vote);
            }
        }))
    }

    fn transfer_leader(
        &self,
        request: TransferLeaderRequest,
    ) -> BoxFuture<Result<TransferLeaderReply, LinkError>> {
        self.local.transfer_leader(request)
    }

    fn read_index(
        &self,
        request: ReadIndexRequest,
    ) -> BoxFuture<Result<ReadIndexReply, LinkError>> {
        self.local.read_index(request)
    }

    fn leases(&self, request: LeasesRequest) -> BoxFuture<Result<LeasesReply, LinkError>> {
        self.local.leases(request)
    }

    fn forward(
        &self,
        requests: Requests<ForwardRequest>,
    ) -> BoxFuture<Result<Answers<ForwardReply>, LinkError>> {
        self.local.forward(requests)
    }

    fn snapshot(
        &self,
        requests: Requests<SnapshotRequest>,
    ) -> BoxFuture<Result<Answers<SnapshotReply>, LinkError>> {
        self.local.snapshot(requests)
    }
}
