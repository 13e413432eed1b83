//! Starts a node's consensus, keeps its log short, and stops it.

use std::collections::BTreeSet;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use openraft::{AsyncRuntime, Instant as _, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use store::log::{Log, LogError, Worker};
use store::mutant::{self, Mutant};
use store::{Machine, Members, StoreError};

use super::apply::{ApplyWorker, Jobs};
use super::core::Parts;
use super::flush::{FlushWorker, Flushes};
use super::inbound::Local;
use super::log_storage::LogStorage;
use super::network::Peers;
use super::state_machine::StateMachine;
use super::take_snapshot::Incoming;
use super::{Core, RaftOf, agreement, health, leases, membership, proposer, reads};
use crate::admission::Admission;
use crate::auto_compact::{self, Retention};
use crate::databases::Databases;
use crate::disk_space::Level;
use crate::exec::{Clock, Exec, Work};
use crate::metrics::Metrics;
use crate::node::{
    BoxFuture, Call, CallError, Control, LeaseLeft, MoveError, Node, NodeStatus, SeenByLeader,
};
use crate::peer::memory::{Memory, MemoryWorker};
use crate::peer::{Inbound, Transport};
use crate::sweep::{self, SweepWorker};
use crate::watch::Hub;

/// How often the node looks for calls whose time is up and for a log that grew too long.
const TICK: Duration = Duration::from_millis(100);

/// How long a request waits for a leader, when none is known or the one that is does not answer: a little more than an
/// election takes.
const ELECTIONS_WAITED: u32 = 2;

/// How many ticks pass between two times of writing down what the others have acknowledged.
const REMEMBER: u32 = 5;

/// How long a leader that stops waits for another to take over.
const HAND_OVER: Duration = Duration::from_secs(2);

/// How a member begins that has no data yet. One that has goes on where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// With a new cluster of these voters, each of which is told the same.
    New(BTreeSet<u64>),
    /// By waiting for the leader of a cluster that knows of it.
    Join,
}

/// What a node is made of.
pub struct NodeOptions {
    /// The cluster.
    pub cluster_id: u64,
    /// This member.
    pub member_id: u64,
    /// How often this data folder was started; numbers the proposals of this run.
    pub boot: u64,
    /// How it begins, if it has no data.
    pub beginning: Beginning,
    /// The way to the other members.
    pub transport: Arc<dyn Transport>,
    /// What is remembered of them.
    pub memory: Arc<Memory>,
    /// Where they get their answers from, once there are any.
    pub inbound: Arc<Inbound>,
    /// Told of the table of members at the start and whenever it has changed.
    pub on_members: Box<dyn Fn(&Members) + Send + Sync>,
    /// The raft term, shared with whoever writes response headers.
    pub term: Arc<AtomicU64>,
    /// An election starts after 1.0 to 1.2 times this without a leader.
    pub election_timeout: Duration,
    /// How often a leader makes itself heard.
    pub heartbeat: Duration,
    /// The state is flushed to disk once the log has grown by this, so that a restart replays little.
    pub flush_log_bytes: u64,
    /// Log kept behind the last flush, for members that are away for a while.
    pub keep_log_bytes: u64,
    /// How fast compacted history is removed.
    pub sweep: sweep::Options,
    /// How much history is kept without being asked; none keeps it all.
    pub auto_compaction: Option<Retention>,
    /// The state.
    pub machine: Machine,
    /// The log.
    pub log: Log,
    /// Its writer.
    pub log_worker: Worker,
    /// Where events go.
    pub hub: Hub,
    /// How it comes by another state.
    pub databases: Arc<Databases>,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// Which writes are let in.
    pub admission: Arc<Admission>,
    /// How workers are run.
    pub exec: Arc<dyn Exec>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Consensus refused its configuration or its stored state.
    #[error("consensus did not start: {0}")]
    Consensus(String),
    /// The machine refused a thread.
    #[error("cannot start a thread")]
    Thread(#[from] io::Error),
    /// The state on disk and the log do not fit each other.
    #[error(
        "the state on disk has applied log entry {applied}, but the log ends at {last}: one of them was copied back or lost; restore both from the same time"
    )]
    AheadOfLog {
        /// The newest entry in the state.
        applied: u64,
        /// The newest entry in the log.
        last: u64,
    },
    /// The log no longer holds what the state still needs.
    #[error(
        "the log begins after entry {purged}, but the state on disk ends at {applied}: the state was copied back or lost; restore both from the same time"
    )]
    BehindLog {
        /// The newest entry in the state.
        applied: u64,
        /// The newest entry no longer in the log.
        purged: u64,
    },
    /// State and log have another entry at the same place.
    #[error(
        "the log has another entry {applied} than the one that the state on disk has applied: one of them was copied back; restore both from the same time"
    )]
    OtherLog {
        /// The newest entry in the state.
        applied: u64,
    },
    /// The log cannot be read.
    #[error("the raft log cannot be read")]
    Log(#[from] LogError),
    /// No leader within the time a start may take.
    #[error("no leader was elected: {0}")]
    NoLeader(CallError),
}

pub(super) struct LogWork(pub(super) Worker);

impl Work for LogWork {
    fn step(&mut self) -> bool {
        self.0.run_once() > 0
    }

    fn wait(&mut self) -> bool {
        self.0.wait()
    }

    fn has_work(&self) -> bool {
        self.0.has_work()
    }

    fn run(self: Box<Self>) {
        self.0.run();
    }
}

/// A node's consensus on one runtime.
struct Driver<R: AsyncRuntime> {
    raft: RaftOf<R>,
    core: Arc<Core>,
    jobs: Jobs,
    flushes: Flushes,
    log: Log,
    exec: Arc<dyn Exec>,
    flush_log_bytes: u64,
    keep_log_bytes: u64,
    /// How long without a leader is too long.
    patience: Duration,
    on_members: Box<dyn Fn(&Members) + Send + Sync>,
    transport: Arc<dyn Transport>,
    memory: Arc<Memory>,
    leader_changes: AtomicU64,
    /// When a leader was last lost, until what was on its way to it has been given up.
    leader_lost: Mutex<Option<Duration>>,
    stopping: AtomicBool,
}

/// Starts a node on the current runtime. It serves once this returns: it leads or follows, and has applied
/// everything that was committed before it stopped.
pub async fn start<R: AsyncRuntime>(options: NodeOptions) -> Result<Node, StartError> {
    let agreement = agreement::of(&options.machine, &options.log)?;
    let log = options.log.clone();
    let core = Core::new(Parts {
        cluster_id: options.cluster_id,
        member_id: options.member_id,
        boot: options.boot,
        term: options.term,
        clock: options.clock,
        reader: options.machine.reader(),
        hub: options.hub,
        databases: options.databases,
        metrics: options.metrics,
        admission: options.admission,
        applied: (
            options.machine.applied(),
            options.machine.membership().clone(),
        ),
        lease_grace: options.election_timeout,
    });
    let (apply, jobs) = ApplyWorker::new(options.machine, core.clone());
    let (flush, flushes) = FlushWorker::new(core.clone());
    options
        .exec
        .start("wal", Box::new(LogWork(options.log_worker)));
    agreement.establish(&log).await?;
    options.exec.start("apply", Box::new(apply));
    options.exec.start("flush", Box::new(flush));
    let memory = MemoryWorker(options.memory.clone());
    options.exec.start("memory", Box::new(memory));
    let sweep = SweepWorker::new(core.clone(), options.sweep);
    options.exec.start("sweep", Box::new(sweep));

    let config = config(
        options.cluster_id,
        options.election_timeout,
        options.heartbeat,
    );
    let config = config
        .validate()
        .map_err(|error| StartError::Consensus(error.to_string()))?;
    let raft = RaftOf::<R>::new(
        options.member_id,
        Arc::new(config),
        Peers {
            transport: options.transport.clone(),
            memory: options.memory.clone(),
        },
        LogStorage::new(log.clone(), Some(core.clone())),
        StateMachine::new(
            core.clone(),
            jobs.clone(),
            flushes.clone(),
            Some(log.clone()),
        ),
    )
    .await
    .map_err(|error| StartError::Consensus(error.to_string()))?;

    options.inbound.open(Arc::new(Local::<R> {
        raft: raft.clone(),
        core: core.clone(),
        log: log.clone(),
        incoming: Incoming::default(),
    }));
    let is_alone = begin(&raft, options.member_id, options.beginning).await?;

    let driver = Arc::new(Driver::<R> {
        raft: raft.clone(),
        core: core.clone(),
        jobs,
        flushes,
        log,
        exec: options.exec,
        flush_log_bytes: options.flush_log_bytes,
        keep_log_bytes: options.keep_log_bytes,
        patience: options.election_timeout * ELECTIONS_WAITED,
        on_members: options.on_members,
        transport: options.transport.clone(),
        memory: options.memory,
        leader_changes: AtomicU64::new(0),
        leader_lost: Mutex::default(),
        stopping: AtomicBool::new(false),
    });
    // Detached: each ends when the node stops.
    let (transport, patience) = (options.transport, driver.patience);
    drop(R::spawn(proposer::run::<R>(
        raft.clone(),
        core.clone(),
        transport.clone(),
        patience,
    )));
    drop(R::spawn(reads::run::<R>(
        raft.clone(),
        core.clone(),
        transport.clone(),
        patience,
    )));
    drop(R::spawn(leases::run::<R>(core.clone(), transport)));
    drop(R::spawn(leases::look_after::<R>(core.clone())));
    drop(R::spawn(membership::run::<R>(raft.clone(), core.clone())));
    drop(R::spawn(follow_metrics(driver.clone())));
    drop(R::spawn(look_after(driver.clone())));

    let clock = core.clock.clone();
    let node = Node::new(core, driver.clone());
    wait_until_serving::<R>(&node, &*clock, is_alone).await?;
    // A learner is one from its first answer on.
    driver.note_learner(&driver.core.reader.view().members);
    if let Some(retention) = options.auto_compaction {
        drop(R::spawn(auto_compact::run(
            node.clone(),
            clock,
            retention,
            |time| R::sleep(time),
        )));
    }
    Ok(node)
}

/// Makes a member of a cluster of one that has no data, or has a member that has some go on. Whether it is alone.
async fn begin<R: AsyncRuntime>(
    raft: &RaftOf<R>,
    member_id: u64,
    beginning: Beginning,
) -> Result<bool, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Consensus(error.to_string());
    let is_initialized = raft
        .is_initialized()
        .await
        .map_err(|error| failed(&error))?;
    if !is_initialized {
        let Beginning::New(voters) = beginning else {
            return Ok(false);
        };
        let is_alone = voters.iter().eq([&member_id]);
        match raft.initialize(voters).await {
            // Another member was faster, and has sent its log already.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(failed(&error)),
        }
        return Ok(is_alone);
    }
    // A member that is alone needs nobody's vote: it need not wait for an election timeout.
    let is_alone = raft
        .metrics()
        .borrow_watched()
        .membership_config
        .voter_ids()
        .eq([member_id]);
    if is_alone {
        raft.trigger()
            .elect(false)
            .await
            .map_err(|error| failed(&error))?;
    }
    Ok(is_alone)
}

/// Starts a node on a tokio runtime and thread of its own: consensus must not wait behind connections. `beside` runs
/// there, too, before the node does: links to peers live on that runtime.
pub fn run_tokio(
    options: NodeOptions,
    beside: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<Node, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (started, result) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("raft".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                let node = match beside() {
                    Ok(()) => start::<openraft::impls::TokioRuntime>(options).await,
                    Err(error) => Err(StartError::Thread(error)),
                };
                let stopped = node.as_ref().ok().map(Node::stopped);
                // The receiver waits below.
                let _ = started.send(node);
                if let Some(stopped) = stopped {
                    stopped.await;
                }
            });
        })?;
    result
        .recv()
        .unwrap_or_else(|_| Err(StartError::Consensus("its thread ended".to_owned())))
}

fn config(cluster_id: u64, election: Duration, heartbeat: Duration) -> openraft::Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let election = millis(election);
    openraft::Config {
        cluster_name: format!("{cluster_id:x}"),
        // A follower stands for election after lease + random timeout, and the lease is the maximum: so an
        // election starts after 1.0 to 1.2 times the flag's value.
        election_timeout_min: election * 4 / 10,
        election_timeout_max: election * 6 / 10,
        // An answer must come within one interval, the way there and back and the follower's sync included.
        heartbeat_interval: millis(heartbeat).max(election / 4),
        install_snapshot_timeout: 60_000,
        max_payload_entries: 4096,
        // By log bytes, here; openraft counts entries, and ours are batches.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        purge_batch_size: 1,
        enable_pre_vote: Some(true),
        // A leader restored in its old term could give log ids a second time that followers hold already.
        enable_leader_restore: Some(mutant::is_on(Mutant::LeaderRestored)),
        // Without it, an old leader in a bridge partition blocks elections for ever.
        quorum_loss_probe_interval: (!mutant::is_on(Mutant::QuorumLossUnnoticed))
            .then_some(election * 2),
        ..openraft::Config::default()
    }
}

/// A linearizable read works: there is a leader, and what was committed is applied. A member that is not alone waits
/// for the others as long as it takes.
async fn wait_until_serving<R: AsyncRuntime>(
    node: &Node,
    clock: &dyn Clock,
    is_alone: bool,
) -> Result<(), StartError> {
    const LIMIT: Duration = Duration::from_secs(60);
    const REMIND: Duration = Duration::from_secs(10);
    let until = clock.now() + LIMIT;
    let mut remind = clock.now() + REMIND;
    let mut error = CallError::NoLeader;
    while !is_alone || clock.now() < until {
        match node.read_barrier(&Call::new(LIMIT)).await {
            Ok(()) => return Ok(()),
            Err(CallError::Stopped) => return Err(StartError::NoLeader(CallError::Stopped)),
            Err(other) => error = other,
        }
        if clock.now() >= remind {
            remind = clock.now() + REMIND;
            tracing::warn!(
                %error,
                "waiting for a leader before clients are served; are the other members up and reachable?"
            );
        }
        R::sleep(Duration::from_millis(2)).await;
    }
    Err(StartError::NoLeader(error))
}

/// Keeps the shared figures current.
async fn follow_metrics<R: AsyncRuntime>(driver: Arc<Driver<R>>) {
    let mut metrics = driver.raft.server_metrics();
    let (mut leader, mut leadership) = (None, None);
    loop {
        {
            let now = metrics.borrow_watched();
            let term = now.vote.leader_id.term;
            driver.core.set_term(term);
            if now.current_leader.is_some() && now.current_leader != leader {
                driver.leader_changes.fetch_add(1, Ordering::Relaxed);
            }
            leader = now.current_leader;
            driver.core.set_leader(leader);
            let now_leading = leader.map(|leader| (leader, term));
            if leadership.is_some() && leadership != now_leading {
                *driver.leader_lost.lock() = Some(driver.core.clock.now());
            }
            leadership = now_leading;
        }
        if metrics.changed().await.is_err() {
            // On a full disk a stop begins with giving up what waits for space.
            let is_stopping = driver.stopping.load(Ordering::Acquire)
                || driver.core.admission.space.is_stopping();
            if !is_stopping {
                driver
                    .core
                    .stop_for("consensus ended by itself; the lines before say why".to_owned());
            }
            return;
        }
    }
}

/// Flushes when the log has grown, drops log that nobody needs, and ends calls whose time is up.
async fn look_after<R: AsyncRuntime>(driver: Arc<Driver<R>>) {
    let mut asked: u64 = 0;
    let (mut told, mut ticks) = (None, 0);
    loop {
        R::sleep(TICK).await;
        // A member that stops is in touch with nobody, which is no news.
        if driver.stopping.load(Ordering::Acquire) {
            return;
        }
        driver.core.expire();
        driver.core.proposals.look_at_held();
        driver.give_up();
        driver.tell_members(&mut told);
        health::note::<R>(&driver.raft, &driver.core, driver.patience);
        driver.remember_acknowledged();
        ticks = (ticks + 1) % REMEMBER;
        if ticks == 0 {
            driver.memory.save_soon();
        }
        driver.core.reader.expire_pages(driver.core.clock.now());
        // Writes hear of a failed sync from their callbacks; a sync of the log's own has none.
        if let Some(error) = driver.log.failure() {
            driver.core.stop_for_log(&error);
            return;
        }
        let snapshot = {
            let receiver = driver.raft.metrics();
            let metrics = receiver.borrow_watched();
            metrics.snapshot
        };
        // Not what consensus takes for applied, which may be one job more: a flush of now would not have that.
        let applied = if mutant::is_on(Mutant::FlushAhead) {
            let receiver = driver.raft.metrics();
            let metrics = receiver.borrow_watched();
            metrics.last_applied.map_or(0, |id| id.index)
        } else {
            driver.core.applied_index()
        };
        let flushed = snapshot.map_or(0, |id| id.index);
        // One flush at a time: the next is asked for when the last one has a name. On a disk without room it would fail,
        // and RocksDB tries only every five seconds whether there is some again.
        if asked <= flushed
            && driver.core.admission.space.level() != Level::Exhausted
            && applied > flushed
            && driver.log.bytes_since(flushed) > driver.flush_log_bytes
        {
            asked = applied;
            if driver.raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
        if let Some(upto) = driver.purgeable(flushed)
            && driver.raft.trigger().purge_log(upto).await.is_err()
        {
            return;
        }
    }
}

impl<R: AsyncRuntime> Driver<R> {
    /// Answers those whose commands were on their way when leadership was lost, once it is unlikely that they are
    /// applied: they may be all the same.
    fn give_up(&self) {
        let now = self.core.clock.now();
        let lost = {
            let mut lost = self.leader_lost.lock();
            lost.take_if(|at| now >= *at + self.patience)
        };
        if let Some(at) = lost {
            self.core.give_up(at, &CallError::LeaderChanged);
        }
        let (is_leader, silence) = {
            let receiver = self.raft.metrics();
            let metrics = receiver.borrow_watched();
            let is_alone = metrics.membership_config.voter_ids().count() < 2;
            let silence = match metrics.state {
                ServerState::Leader if is_alone => Duration::ZERO,
                ServerState::Leader => metrics
                    .last_quorum_acked
                    .map_or(Duration::ZERO, |at| at.elapsed()),
                _ => self.core.silence(),
            };
            (metrics.state == ServerState::Leader, silence)
        };
        let is_cut_off = silence > self.patience;
        if self.core.set_cut_off(is_cut_off) {
            if is_cut_off {
                tracing::warn!(
                    is_leader,
                    silent_ms = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX),
                    "cut off from the majority of the cluster: writes and linearizable reads are refused until it is \
                     back; serializable reads go on"
                );
            } else {
                tracing::info!(is_leader, "in touch with the majority of the cluster again");
            }
        }
        if is_cut_off && is_leader {
            let until = now.saturating_sub(self.patience);
            self.core.give_up(until, &CallError::Timeout);
            self.core.proposals.refuse(&CallError::NoLeader);
        }
    }

    /// Tells of the table of members when it has changed, and ends a member that is not in it any more.
    fn tell_members(&self, told: &mut Option<u64>) {
        let members = self.core.reader.view().members.clone();
        if *told == Some(members.version()) {
            return;
        }
        *told = Some(members.version());
        (self.on_members)(&members);
        self.note_learner(&members);
        // Until raft has dropped it, it may be needed for the very quorum that drops it.
        let own = self.core.member_id;
        let is_dropped = || {
            let is_silent = self.core.silence() > self.patience;
            !self.core.is_leader()
                && membership::can_be_spared::<R>(&self.raft, own, &members, is_silent)
        };
        if members.is_removed(self.core.member_id) && is_dropped() {
            self.core.stop_for(
                "this member was removed from the cluster; its data folder is of no use any more. To have it join \
                 again, add it as a new member (etcdctl member add) and start it with an empty data folder and \
                 --initial-cluster-state=existing"
                    .to_owned(),
            );
        } else if members.is_removed(self.core.member_id) {
            // It is looked at again.
            *told = None;
        }
    }

    /// Whether this member may not vote, by the table.
    fn note_learner(&self, members: &Members) {
        let own = members.get(self.core.member_id);
        self.core.set_learner(own.is_some_and(|own| own.is_learner));
    }

    /// What each peer has acknowledged to this leader.
    fn remember_acknowledged(&self) {
        let receiver = self.raft.metrics();
        let metrics = receiver.borrow_watched();
        for (&id, matched) in metrics.replication.iter().flatten() {
            if let Some(matched) = matched
                && id != self.core.member_id
            {
                let term = matched.leader_id.term;
                self.memory.acknowledged(id, term, matched.index);
            }
        }
    }

    /// The last entry before the stretch of log that is kept, if it can go.
    fn purgeable(&self, flushed: u64) -> Option<u64> {
        // On a disk that fills up, somebody's snapshot has to begin anew rather than everybody's writes end.
        let flushed = match self.core.admission.space.level() {
            Level::Enough => flushed.min(self.core.holds.oldest()),
            Level::Low | Level::Exhausted => flushed,
        };
        let first = self.log.last_purged().map_or(0, |id| id.index + 1);
        let excess = self.log.bytes_since(first.saturating_sub(1));
        // Files go only whole: there is nothing to gain from purging more often.
        if flushed <= first || excess < self.keep_log_bytes.saturating_mul(2) {
            return None;
        }
        let (mut low, mut high) = (first, flushed);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.log.bytes_since(middle) >= self.keep_log_bytes {
                low = middle
            } else {
                high = middle - 1
            }
        }
        (low > first).then_some(low)
    }
}

/// Has another member lead, if this one does.
pub(super) async fn hand_over<R: AsyncRuntime>(raft: &RaftOf<R>, core: &Core) {
    let to = {
        let receiver = raft.metrics();
        let metrics = receiver.borrow_watched();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let replicated = metrics.replication.iter().flatten();
        replicated
            .filter(|(id, _)| **id != core.member_id && voters.contains(id))
            .max_by_key(|(_, matched)| matched.as_ref().map(|id| id.index))
            .map(|(&id, _)| id)
    };
    let Some(to) = to.filter(|_| core.is_leader()) else {
        return;
    };
    tracing::info!(
        to = format!("{to:x}"),
        "handing leadership over before the end"
    );
    // If it does not succeed, the others elect somebody once this one is silent.
    let _ = transfer::<R>(raft, core, to).await;
}

/// Has `to` lead, and waits for that.
async fn transfer<R: AsyncRuntime>(
    raft: &RaftOf<R>,
    core: &Core,
    to: u64,
) -> Result<(), MoveError> {
    if raft.trigger().transfer_leader(to).await.is_err() {
        return Err(MoveError::NotLeader);
    }
    let until = core.clock.now() + HAND_OVER;
    while core.leader() != Some(to) {
        if core.clock.now() >= until {
            return Err(MoveError::TooSlow);
        }
        R::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

impl<R: AsyncRuntime> Control for Driver<R> {
    fn status(&self) -> NodeStatus {
        let receiver = self.raft.metrics();
        let metrics = receiver.borrow_watched();
        let member_id = self.core.member_id;
        // Before what is committed, which it must not be ahead of.
        let applied_index = self.core.applied_index();
        NodeStatus {
            cluster_id: self.core.cluster_id,
            member_id,
            leader: self.core.leader().unwrap_or(0),
            is_leader: metrics.state == ServerState::Leader && self.core.is_leader(),
            has_leader: self.core.leader().is_some(),
            is_learner: self.core.is_learner(),
            term: metrics.current_term,
            last_index: metrics.last_log_index.unwrap_or(0),
            committed_index: self
                .log
                .committed()
                .map_or(0, |id| self.core.acknowledged_up_to(id.index))
                .max(applied_index),
            applied_index,
            leader_changes: self.leader_changes.load(Ordering::Relaxed),
            failed_proposals: self.core.proposals.failed(),
            pending_proposals: self.core.pending_commands(),
            applied_commands: self.core.applied_commands(),
        }
    }

    fn seen_by_leader(&self) -> BoxFuture<Result<SeenByLeader, CallError>> {
        let (raft, core, transport) =
            (self.raft.clone(), self.core.clone(), self.transport.clone());
        Box::pin(async move { health::ask::<R>(&raft, &core, &*transport).await })
    }

    fn lease_left(&self, id: i64) -> BoxFuture<Result<Option<LeaseLeft>, CallError>> {
        let (core, transport) = (self.core.clone(), self.transport.clone());
        Box::pin(async move { leases::left::<R>(&core, &*transport, id).await })
    }

    fn move_leader(&self, to: u64) -> BoxFuture<Result<(), MoveError>> {
        let (raft, core) = (self.raft.clone(), self.core.clone());
        Box::pin(async move {
            if !core.is_leader() {
                return Err(MoveError::NotLeader);
            }
            if to == core.member_id {
                return Ok(());
            }
            let is_voter = {
                let receiver = raft.metrics();
                let metrics = receiver.borrow_watched();
                metrics.membership_config.voter_ids().any(|id| id == to)
            };
            if !is_voter {
                return Err(MoveError::BadTarget);
            }
            transfer::<R>(&raft, &core, to).await
        })
    }

    fn shutdown(&self) -> BoxFuture<()> {
        self.stopping.store(true, Ordering::Release);
        let memory = self.memory.clone();
        let (raft, core, jobs, flushes, log, exec) = (
            self.raft.clone(),
            self.core.clone(),
            self.jobs.clone(),
            self.flushes.clone(),
            self.log.clone(),
            self.exec.clone(),
        );
        Box::pin(async move {
            hand_over::<R>(&raft, &core).await;
            core.proposals.close(&CallError::Stopped);
            if log.is_starved() {
                // Consensus may wait for the log, and the log for space that nobody frees: end that first.
                log.close();
            }
            if let Err(error) = raft.shutdown().await {
                tracing::warn!(%error, "consensus did not end cleanly");
            }
            core.fail_all(&CallError::Stopped);
            core.sweeps.close();
            // So that the next start replays nothing. Apply may wait for the log, and the log for space, as above.
            let mut flush = pin!(jobs.flush());
            while R::timeout(TICK, flush.as_mut()).await.is_err() {
                if log.is_starved() {
                    log.close();
                }
            }
            jobs.close();
            flushes.close();
            memory.close();
            log.close();
            core.hub.close();
            exec.join();
            core.set_stopped();
        })
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Consensus(error.to_string())
    }
}
