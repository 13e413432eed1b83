//! A node on simulated everything, and the clients that talk to it: what the simulations of one node and of many share.

pub(crate) mod clients;
pub(crate) mod machinery;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt;
use server::metrics::Metrics;
use server::node::Node;
use server::peer::memory::Memory;
use server::peer::{Inbound, Transport};
use server::raft::{self, Beginning, NodeOptions, StartError};
use server::watch::{self, Hub};
use store::engine::memory::MemoryEngine;
use store::fs::WalFs;
use store::log::{Log, LogError, LogOptions, Recovered};
use store::{Machine, Reader, StateEngine, StoreError};

use self::machinery::{Tasks, VirtualClock};
use crate::sim::{SimRng, Simulation};

pub(crate) const CLUSTER: u64 = 0xc1;

/// How long a member waits for its leader before it stands for election.
pub(crate) const ELECTION: Duration = Duration::from_millis(700);

/// Why a start failed.
#[derive(Debug)]
pub(crate) enum BootError {
    Log(LogError),
    Store(StoreError),
    Start(StartError),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::Log(error) => write!(f, "the log: {error}"),
            BootError::Store(error) => write!(f, "the state: {error}"),
            BootError::Start(error) => write!(f, "{error}"),
        }
    }
}

impl BootError {
    /// Whether a disk that fails may be the reason: state and log that disagree are never excused.
    pub(crate) fn may_be_the_disk(&self) -> bool {
        !matches!(
            self,
            BootError::Store(_)
                | BootError::Start(
                    StartError::AheadOfLog { .. }
                        | StartError::BehindLog { .. }
                        | StartError::OtherLog { .. }
                )
        )
    }
}

/// What a start hands to the test.
#[derive(Default)]
pub(crate) struct Boot {
    pub(crate) recovered: Option<Recovered>,
    /// The newest entry that the state on disk had applied.
    pub(crate) flushed: u64,
    /// To look into the node before it serves.
    pub(crate) inside: Option<(Log, Reader)>,
    pub(crate) result: Option<Result<Node, BootError>>,
}

/// What varies between lives and is neither the log's nor the store's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) boot: u64,
    pub(crate) flush_log_bytes: u64,
    pub(crate) keep_log_bytes: u64,
}

/// What a node is made of.
pub(crate) struct Parts {
    pub(crate) member: u64,
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) disk: Arc<dyn WalFs>,
    pub(crate) engine: Arc<MemoryEngine>,
    pub(crate) log_options: LogOptions,
    pub(crate) store_options: store::Options,
    pub(crate) settings: Settings,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) clock: VirtualClock,
    pub(crate) exec: Tasks,
}

/// Sizes small enough that segments fill, tails are read from disk, values leave memory, and flush and purge happen
/// within a life.
pub(crate) fn sizes(
    rng: &mut SimRng,
    member: u64,
    boot: u64,
) -> (LogOptions, store::Options, Settings) {
    let size = |rng: &mut SimRng, from: u32, to: u32| 1_u64 << rng.random_range(from..to);
    let log_options = LogOptions {
        segment_bytes: size(rng, 13, 17),
        tail_bytes: 1 << rng.random_range(8..20),
        ..LogOptions::new(CLUSTER, member)
    };
    let store_options = store::Options {
        value_budget_bytes: 1 << rng.random_range(4..20),
    };
    let settings = Settings {
        boot,
        flush_log_bytes: size(rng, 12, 18),
        keep_log_bytes: size(rng, 10, 16),
    };
    (log_options, store_options, settings)
}

/// Starts a node as the binary does, on simulated everything.
pub(crate) async fn start(parts: Parts, boot: &Mutex<Boot>) -> Result<Node, BootError> {
    let engine: Arc<dyn StateEngine> = parts.engine;
    let (log, log_worker, recovered) =
        Log::open(parts.disk, parts.log_options).map_err(BootError::Log)?;
    let machine =
        Machine::open(Arc::clone(&engine), parts.store_options).map_err(BootError::Store)?;
    {
        let mut boot = boot.lock();
        boot.flushed = machine.applied().map_or(0, |id| id.index);
        boot.recovered = Some(recovered);
        boot.inside = Some((log.clone(), machine.reader()));
    }
    let clock = Arc::new(parts.clock);
    let exec = Arc::new(parts.exec);
    let term = Arc::new(AtomicU64::new(0));
    let identity = watch::Identity {
        cluster_id: CLUSTER,
        member_id: parts.member,
        term: Arc::clone(&term),
    };
    let (hub, hub_worker, catch_up) = Hub::new(
        machine.reader(),
        identity,
        watch::Options::default(),
        clock.clone(),
    );
    server::exec::Exec::start(&*exec, "hub", Box::new(hub_worker));
    server::exec::Exec::start(&*exec, "catch-up", Box::new(catch_up));
    let options = NodeOptions {
        cluster_id: CLUSTER,
        member_id: parts.member,
        boot: parts.settings.boot,
        beginning: Beginning::New(parts.voters),
        transport: parts.transport,
        inbound: parts.inbound,
        memory: Arc::new(Memory::brief()),
        on_members: Box::new(|_| {}),
        election_timeout: ELECTION,
        heartbeat: Duration::from_millis(100),
        flush_log_bytes: parts.settings.flush_log_bytes,
        keep_log_bytes: parts.settings.keep_log_bytes,
        // Small steps, so that a life ends within a sweep.
        sweep: server::sweep::Options {
            batch_limit: 7,
            ..server::sweep::Options::default()
        },
        auto_compaction: None,
        machine,
        log,
        log_worker,
        hub,
        term,
        databases: Arc::default(),
        metrics: Arc::new(Metrics::new(false)),
        admission: Arc::default(),
        exec,
        clock,
    };
    raft::start::<Simulation>(options)
        .await
        .map_err(BootError::Start)
}
