//! The only door inward: propose, read, watch, ask how the node is.
//!
//! Not generic and cheap to clone; what runs underneath (tokio or the simulation, RocksDB or memory)
//! is decided where a node is started.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proto::command::Command;
use proto::command::command::Op;
use proto::etcd::etcdserverpb::alarm_request::AlarmAction;
use proto::etcd::etcdserverpb::{AlarmRequest, AlarmType, RangeRequest, ResponseHeader};
use store::{Answer, Reader, Refusal, StateEngine, View};

use crate::admission::{Admission, Verdict};
use crate::metrics::Metrics;
use crate::quota::Accepted;
use crate::raft::Core;
use crate::sweep::Sweeps;
use crate::watch::Hub;

/// On whose behalf and until when: the context of every call.
#[derive(Debug)]
pub struct Call {
    /// The authenticated user, if there is one.
    pub principal: Option<Arc<str>>,
    /// How long the caller waits at most.
    pub timeout: Duration,
    /// Joins the log lines of one request.
    pub trace_id: u64,
    /// Where the time went, filled in as the call goes on.
    pub timings: Timings,
}

/// Where the time of a write went, for the slow-request log. In microseconds.
#[derive(Debug, Default)]
pub struct Timings {
    queued: AtomicU32,
    committed: AtomicU32,
    applied: AtomicU32,
}

impl Timings {
    /// Waiting for its turn, getting into the log of a quorum, and being applied.
    pub fn stages(&self) -> [(&'static str, Duration); 3] {
        let read = |stage: &AtomicU32| Duration::from_micros(stage.load(Ordering::Relaxed).into());
        [
            ("queued", read(&self.queued)),
            ("committed", read(&self.committed)),
            ("applied", read(&self.applied)),
        ]
    }
}

impl Call {
    /// A call of an unnamed user.
    pub fn new(timeout: Duration) -> Self {
        Self {
            principal: None,
            timeout,
            trace_id: 0,
            timings: Timings::default(),
        }
    }
}

/// Why a call has no answer. What a variant promises about a write matters to whoever retries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Carried through the log and refused there: nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too much waits already; it was not proposed.
    #[error("too many requests are waiting")]
    TooManyRequests,
    /// No room in the database or on the disk; it was not proposed.
    #[error("no space for more data")]
    NoSpace,
    /// Larger than the configured limit; it was not proposed.
    #[error("the request is too large")]
    TooLarge,
    /// No leader is known; it was not proposed.
    #[error("no leader")]
    NoLeader,
    /// Leadership changed under it: a write may or may not happen.
    #[error("the leader changed")]
    LeaderChanged,
    /// The node is stopping: a write may or may not happen.
    #[error("the node is stopping")]
    Stopped,
    /// No answer in time: a write may or may not happen.
    #[error("timed out")]
    Timeout,
    /// The node's own state cannot be read; the log says why.
    #[error("the store failed: {0}")]
    Store(Arc<str>),
}

/// Why leadership was not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// This member does not lead.
    #[error("not the leader")]
    NotLeader,
    /// That one is no voter.
    #[error("no voting member to move leadership to")]
    BadTarget,
    /// It did not take over in time.
    #[error("the move took too long")]
    TooSlow,
}

/// What one proposal comes back with.
pub(crate) struct Proposed {
    pub(crate) result: Result<Answer, CallError>,
    /// Waiting, committing, applying.
    pub(crate) stages: [Duration; 3],
}

/// How the node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    /// The cluster.
    pub cluster_id: u64,
    /// This member.
    pub member_id: u64,
    /// The leader, 0 if none is known.
    pub leader: u64,
    /// Whether this member leads.
    pub is_leader: bool,
    /// Whether a leader is known.
    pub has_leader: bool,
    /// Whether this member does not vote.
    pub is_learner: bool,
    /// The current term.
    pub term: u64,
    /// The newest entry in the log.
    pub last_index: u64,
    /// The newest entry known to be committed.
    pub committed_index: u64,
    /// The newest entry applied.
    pub applied_index: u64,
    /// How often a leader appeared since the start.
    pub leader_changes: u64,
    /// Commands that were refused before they reached the log, or whose outcome is unknown.
    pub failed_proposals: u64,
    /// Commands that wait for their turn or their answer.
    pub pending_proposals: usize,
    /// Commands applied since the start.
    pub applied_commands: u64,
}

/// A future that owns what it needs.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How another member is, as far as this one sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// Which one.
    pub id: u64,
    /// Whether there is a connection to it.
    pub is_connected: bool,
    /// For how long without a break.
    pub connected_for: Duration,
    /// The newest entry that it is known to have; only a leader knows.
    pub matched_index: u64,
}

/// The cluster as its leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenByLeader {
    /// Who leads.
    pub leader: u64,
    /// Its newest entry.
    pub last_index: u64,
    /// The others; empty means that nothing is known of them.
    pub peers: Vec<PeerStatus>,
}

/// What became of the wish to keep a lease alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// Its seconds to live from now on; 0 if there is no such lease.
    Ttl(i64),
    /// It may be over; to be asked again.
    Ending,
}

/// What is left of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLeft {
    /// Its seconds to live, as granted.
    pub granted: i64,
    /// What is left of them.
    pub left: Duration,
}

/// What a node asks of consensus, whatever runtime that is on.
pub(crate) trait Control: Send + Sync {
    fn status(&self) -> NodeStatus;

    /// How the leader sees the cluster; nothing is known of a node on its own.
    fn seen_by_leader(&self) -> BoxFuture<Result<SeenByLeader, CallError>> {
        Box::pin(std::future::ready(Ok(SeenByLeader::default())))
    }

    /// What is left of a lease, by the leader.
    fn lease_left(&self, id: i64) -> BoxFuture<Result<Option<LeaseLeft>, CallError>>;

    fn shutdown(&self) -> BoxFuture<()>;
    fn move_leader(&self, to: u64) -> BoxFuture<Result<(), MoveError>>;
}

/// A running node.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    control: Arc<dyn Control>,
}

impl Node {
    pub(crate) fn new(core: Arc<Core>, control: Arc<dyn Control>) -> Self {
        // The hub is a part of the core: it must not keep it alive.
        let whole = Arc::downgrade(&core);
        core.hub.on_fault(move |reason| {
            if let Some(core) = whole.upgrade() {
                core.stop_for(reason);
            }
        });
        Self {
            inner: Arc::new(Inner { core, control }),
        }
    }

    /// Puts a write through consensus and answers once this member has applied it; unless there is no room for it.
    pub async fn propose(&self, call: &Call, op: Op) -> Result<Answer, CallError> {
        let core = &self.inner.core;
        let is_alarm_on = || {
            let alarms = &core.reader.view().alarms;
            alarms.is_on_of(AlarmType::Nospace, core.member_id)
        };
        match core.admission.judge(&op, &*core.engine, is_alarm_on) {
            Verdict::Welcome(accepted) => self.submit(call, op, Some(accepted)).await,
            Verdict::DiskFull => Err(CallError::NoSpace),
            Verdict::OverQuota => {
                // Once: while it is on its way, further refusals do not repeat it.
                if let Some(_raising) = core.admission.quota.raise()
                    && !is_alarm_on()
                {
                    Box::pin(self.raise_no_space(call)).await;
                }
                Err(CallError::NoSpace)
            }
        }
    }

    /// Raises the alarm that stops all writes of the cluster until an operator has made room.
    async fn raise_no_space(&self, call: &Call) {
        let core = &self.inner.core;
        let quota = &core.admission.quota;
        let alarm = Op::Alarm(AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: core.member_id,
            alarm: AlarmType::Nospace as i32,
        });
        let raised = self.submit(call, alarm, None).await;
        tracing::warn!(
            size_bytes = quota.size(),
            size_in_use_bytes = quota.size_in_use(),
            error = raised.err().map(|error| error.to_string()),
            "the database has reached its quota: the alarm NOSPACE is raised and writes are refused; compact, \
             defragment and `etcdctl alarm disarm`, or start with a larger --quota-backend-bytes and disarm"
        );
    }

    /// Puts a command through consensus, whatever room there is. What was accepted counts until its outcome, also if
    /// the caller leaves.
    async fn submit(
        &self,
        call: &Call,
        op: Op,
        accepted: Option<Accepted>,
    ) -> Result<Answer, CallError> {
        let core = &self.inner.core;
        let command = Command {
            member: core.member_id,
            boot: core.boot,
            user: call.principal.as_deref().unwrap_or_default().to_owned(),
            trace_id: call.trace_id,
            op: Some(op),
            ..Command::default()
        };
        let proposed = core
            .proposals
            .submit(command, core.clock.now(), call.timeout, accepted)?
            .await;
        let [queued, committed, applied] = proposed
            .stages
            .map(|stage| u32::try_from(stage.as_micros()).unwrap_or(u32::MAX));
        call.timings.queued.store(queued, Ordering::Relaxed);
        call.timings.committed.store(committed, Ordering::Relaxed);
        call.timings.applied.store(applied, Ordering::Relaxed);
        proposed.result
    }

    /// Returns once a view of [`Node::reader`] taken now holds every write acknowledged before the call.
    pub async fn read_barrier(&self, call: &Call) -> Result<(), CallError> {
        let core = &self.inner.core;
        core.reads.submit(core.clock.now(), call.timeout)?.await
    }

    /// Keeps leases alive, by the leader; what became of each, in their order. Harmless to repeat.
    pub async fn keep_alive(&self, call: &Call, ids: Vec<i64>) -> Result<Vec<Renewed>, CallError> {
        let core = &self.inner.core;
        let until = core.clock.now() + call.timeout;
        core.renewals.submit(ids, until)?.await
    }

    /// What is left of a lease, by the leader; none if there is no such lease.
    pub async fn lease_left(&self, id: i64) -> Result<Option<LeaseLeft>, CallError> {
        self.inner.control.lease_left(id).await
    }

    /// The ids of all leases, the soonest over first if this member knows.
    pub fn leases(&self) -> Vec<i64> {
        let core = &self.inner.core;
        core.lessor.by_deadline().unwrap_or_else(|| {
            let mut all = core.reader.leases().all();
            all.sort_unstable_by_key(|(id, term)| (term.left(), *id));
            all.into_iter().map(|(id, _)| id).collect()
        })
    }

    /// Returns once this member has removed from its disk what a compaction to `revision` gave up, and will not see it
    /// again after a crash; what reads that run still need is not waited for.
    pub async fn swept(&self, revision: i64, timeout: Option<Duration>) -> Result<(), CallError> {
        let core = &self.inner.core;
        let until = timeout.map(|timeout| core.clock.now() + timeout);
        core.sweeps.wait_for(revision, until).await
    }

    /// How far what is compacted is removed.
    pub fn sweeps(&self) -> &Sweeps {
        &self.inner.core.sweeps
    }

    /// Lock-free access to the applied state.
    pub fn reader(&self) -> &Reader {
        &self.inner.core.reader
    }

    /// Told of an answered range: the next pages of a list are then read like this one.
    pub fn note_page(&self, view: &Arc<View>, request: &RangeRequest, more: bool) {
        let core = &self.inner.core;
        core.reader.note_page(view, request, more, core.clock.now());
    }

    /// Where watchers register.
    pub fn hub(&self) -> &Hub {
        &self.inner.core.hub
    }

    /// A response header at a revision.
    pub fn header(&self, revision: i64) -> ResponseHeader {
        let core = &self.inner.core;
        ResponseHeader {
            cluster_id: core.cluster_id,
            member_id: core.member_id,
            revision,
            raft_term: core.term(),
        }
    }

    /// How the node is.
    pub fn status(&self) -> NodeStatus {
        self.inner.control.status()
    }

    /// Whether this member only learns: it has no vote, and serves little.
    pub fn is_learner(&self) -> bool {
        self.inner.core.is_learner()
    }

    /// Has another voter lead; returns once it does.
    pub async fn move_leader(&self, to: u64) -> Result<(), MoveError> {
        self.inner.control.move_leader(to).await
    }

    /// How the leader, whoever it is, sees the cluster now.
    pub async fn seen_by_leader(&self) -> Result<SeenByLeader, CallError> {
        self.inner.control.seen_by_leader().await
    }

    /// Milliseconds since 1970, by this node's clock.
    pub fn wall_ms(&self) -> u64 {
        self.inner.core.clock.wall_ms()
    }

    /// Which writes are let in, and the sizes that it depends on.
    pub fn admission(&self) -> &Admission {
        &self.inner.core.admission
    }

    /// The state on disk.
    pub fn engine(&self) -> &Arc<dyn StateEngine> {
        &self.inner.core.engine
    }

    /// What is measured.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.core.metrics
    }

    /// Stops serving, for good: what the node found makes it unable to keep its promises.
    pub(crate) fn stop_for(&self, reason: String) {
        self.inner.core.stop_for(reason);
    }

    /// Resolves when the node cannot go on, with the reason. It serves nothing any more then.
    pub async fn failed(&self) -> String {
        self.inner.core.failure().await
    }

    /// Resolves when [`Node::shutdown`] has ended.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + use<> {
        self.inner.core.stopped()
    }

    /// Stops consensus, flushes the state to disk and ends the workers. What waits gets an error.
    pub async fn shutdown(&self) {
        self.inner.control.shutdown().await;
    }
}
