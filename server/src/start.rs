//! Puts a node together from its settings, says when it serves, and ends it.

mod notify;

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
#[cfg(feature = "rocksdb")]
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::IntGaugeVec;
use proto::etcd::etcdserverpb::{AlarmType, Member};
use store::fs::RealFs;
use store::log::{Log, LogError, LogOptions};
use store::{Alarms, Machine, StateEngine, StoreError};
use tokio::runtime::Handle;

use crate::admission::Admission;
use crate::channel::Tcp;
use crate::config::{Config, ConfigError, ETCD_VERSION, HOLDFAST_VERSION, ListenUrl, Note};
use crate::data_dir::{DataDir, DataDirError, Identity};
use crate::databases::Databases;
use crate::disk_space::{self, DiskSpace};
use crate::exec::{Clock, Exec, SystemClock, Threads};
use crate::http::{Access, Endpoints, HttpOnly, Monitoring, Web};
use crate::limits::{self, OpenFiles};
use crate::listen::{self, Listeners, Plain, Serve};
use crate::metrics::{self, AnyOpen, Closed, GrpcMethod, Metrics, TimedEngine};
use crate::node::{Call, CallError, Node};
use crate::peer::addresses::Addresses;
use crate::peer::grpc::{Grpc, Speaker};
use crate::peer::memory::Memory;
use crate::peer::serve::PeerService;
use crate::peer::{self, Inbound, Transport};
use crate::quota::Quota;
use crate::raft::Beginning;
use crate::scrub::{self, Scrub};
use crate::shard::Shards;
use crate::signals::Signals;
use crate::{etcd, identity, logging, members, raft, watch};

/// The state is flushed once the log has grown by this: what a restart replays at most, about.
const FLUSH_LOG_BYTES: u64 = 64 << 20;

/// Log kept behind the last flush, for members that are away for a while.
const KEEP_LOG_BYTES: u64 = 64 << 20;

/// How long connections may take to finish when the node stops.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long after a failed try this member is published again.
const PUBLISH_AGAIN: Duration = Duration::from_secs(1);

/// How long closing the database may take. All of it is on disk by then.
const CLOSING: Duration = Duration::from_secs(10);

/// Why a node did not start, in words for whoever started it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings do not fit this start.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log cannot be used.
    #[error("cannot open the raft log")]
    Log(#[from] LogError),
    /// The database cannot be used.
    #[error("cannot open the database in {folder}")]
    Store {
        /// Its folder.
        folder: String,
        /// What is wrong.
        source: StoreError,
    },
    /// Consensus did not start.
    #[error(transparent)]
    Raft(#[from] raft::StartError),
    /// No member of the cluster to join knows this one.
    #[error("cannot join the cluster: {0}")]
    Join(String),
    /// An address cannot be bound.
    #[error("cannot listen on {url}{}", hint(.source))]
    Listen {
        /// The address.
        url: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system refused a thread, a socket or the like.
    #[error("the system refused what the node needs")]
    System(#[from] io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (another etcd or holdfast may be running; choose another port with --listen-client-urls and --advertise-client-urls)"
        }
        _ => "",
    }
}

/// A node that serves.
pub struct Running {
    node: Node,
    metrics: Arc<Metrics>,
    listeners: Vec<Listeners>,
    shards: Shards,
    stopping: tokio::sync::watch::Sender<bool>,
    closed: Closed,
    disk: disk_space::Monitor,
    scrub: Option<scrub::Closer>,
    /// Locked until the end.
    data_dir: DataDir,
}

impl Running {
    /// Where the first client listener is bound: the port that was chosen if the settings said 0.
    pub fn client_addr(&self) -> SocketAddr {
        self.addresses(0)[0]
    }

    /// Where the metrics listeners are bound.
    pub fn metrics_addrs(&self) -> &[SocketAddr] {
        self.addresses(METRICS)
    }

    fn addresses(&self, listener: usize) -> &[SocketAddr] {
        self.listeners[listener].addresses()
    }

    /// The node itself.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// What the folder says of this member.
    pub fn data_dir(&self) -> &DataDir {
        &self.data_dir
    }

    /// Ends everything in order: no new requests, time for those that run, then consensus, with the state flushed.
    pub async fn stop(self) {
        notify::tell("STOPPING=1");
        self.stopping.send_replace(true);
        // A watch has no end of its own: its client is told now, so that its connection need not be waited for.
        self.node.hub().close();
        let mut until = PATIENCE;
        for listeners in self.listeners {
            let began = Instant::now();
            listeners.stop(until).await;
            until = until.saturating_sub(began.elapsed());
        }
        // What waits for space would be waited for.
        self.disk.stop();
        if let Some(scrub) = &self.scrub {
            scrub.close();
        }
        self.node.shutdown().await;
        self.shards.stop();
        // The figures hold the node, and the node holds the figures.
        self.metrics.refresh_no_more();
        drop(self.node);
        // A thread may still be closing the database, and the end of the process would tear that from under it.
        if tokio::time::timeout(CLOSING, self.closed).await.is_err() {
            tracing::warn!("the database was not closed in time");
        }
    }
}

/// The listeners of a node, by their place in [`Running`].
const METRICS: usize = 2;

/// Starts a node. On return it serves, and everything that was committed before it stopped is applied.
pub fn start(config: Config) -> Result<Running, StartError> {
    let began = Instant::now();
    let files = limits::open_files()?;
    limits::address_space(config.memory.total())?;
    // Sockets first: a start that cannot serve leaves no trace. Who connects now waits until the node is ready.
    let sockets = [
        bind(&config.listen_client_urls)?,
        bind(&config.listen_client_http_urls)?,
        bind(&config.listen_metrics_urls)?,
    ];
    let peer_sockets = bind_peers(&config)?;
    let mut founding = None;
    let data_dir = DataDir::open(&config.data_dir, config.wal_dir.as_deref(), || {
        let found = if config.is_joining {
            join(&config)?
        } else {
            bootstrap(&config)?
        };
        let identity = found.identity;
        founding = Some(found);
        Ok::<_, StartError>(identity)
    })?;
    // A node that has data may not have applied yet who is a member.
    let founding = founding.or_else(|| {
        let found = if config.is_joining {
            join(&config)
        } else {
            bootstrap(&config)
        };
        found.ok()
    });
    let Identity {
        cluster_id,
        member_id,
    } = data_dir.identity();
    if let Some(warning) = data_dir.warning() {
        tracing::warn!("{warning}");
    }
    tracing::info!(
        data_dir = %config.data_dir.display(),
        wal_dir = %data_dir.wal().display(),
        cluster_id = format!("{cluster_id:x}"),
        member_id = format!("{member_id:x}"),
        boot = data_dir.boot(),
        is_new = data_dir.is_new(),
        "opened the data folder"
    );

    disk_space::make_room_for_start(data_dir.member());

    let metrics = Arc::new(Metrics::new(config.has_extensive_metrics));
    metrics.set_member(member_id);
    metrics.quota_bytes.set(config.quota_backend_bytes);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let exec: Arc<dyn Exec> = Arc::new(Threads::default());
    let admission = Arc::new(Admission {
        quota: Quota::new(config.quota_backend_bytes),
        space: Arc::default(),
    });
    let founders = founding.map_or_else(Vec::new, |founding| founding.members);
    let peers = peers(&config, &data_dir, founders.clone(), peer_sockets)?;
    let (node, log, closed, segment_bytes) = start_node(
        &config,
        files,
        &data_dir,
        peers,
        Surroundings {
            metrics: metrics.clone(),
            admission: admission.clone(),
            clock: clock.clone(),
            exec: exec.clone(),
        },
    )?;
    let disk = watch_disk(&config, &data_dir, &node, admission, &log, segment_bytes)?;
    keep_current(&metrics, &node, log.clone(), &config);
    let scrub = (config.scrub_rate > 0).then(|| {
        let (scrub, closer) = Scrub::new(node.clone(), log, clock, config.scrub_rate);
        exec.start("scrub", Box::new(scrub));
        closer
    });
    let status = node.status();
    tracing::info!(
        took_ms = millis(began),
        applied_index = status.applied_index,
        term = status.term,
        revision = node.reader().view().revision,
        "recovered everything that was committed"
    );

    let (stopping, stops) = tokio::sync::watch::channel(false);
    let endpoints = Arc::new(Endpoints::new(node.clone(), config.request_timeout));
    let access = Access::new(&config.cors, &config.host_whitelist);
    let web = Web::new(endpoints.clone(), access, config.has_gateway);
    let options = service_options(&config, member_id);
    let own = options.member.clone();
    let service = etcd::Service::new(node.clone(), web, options, stops);
    let shards = Shards::start(config.client_shards)?;
    publish(
        &node,
        founders,
        &own,
        config.request_timeout,
        &shards.handles()[0],
    );
    let [clients, http, monitoring] = sockets;
    let listeners = vec![
        serve(clients, service.clone(), &shards, &config, files)?,
        serve(http, Arc::new(HttpOnly(service)), &shards, &config, files)?,
        serve(
            monitoring,
            Arc::new(Monitoring(endpoints)),
            &shards,
            &config,
            files,
        )?,
    ];
    Ok(Running {
        node,
        metrics,
        listeners,
        shards,
        stopping,
        closed,
        disk,
        scrub,
        data_dir,
    })
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn bind(urls: &[ListenUrl]) -> Result<Vec<std::net::TcpListener>, StartError> {
    let bind = |url: &ListenUrl| {
        listen::bind(url.address()).map_err(|source| StartError::Listen {
            url: url.to_string(),
            source,
        })
    };
    urls.iter().map(bind).collect()
}

/// Who takes part in a cluster that this node begins with or joins.
pub(crate) struct Founding {
    pub(crate) identity: Identity,
    /// With their ids, names and peer addresses.
    pub(crate) members: Vec<Member>,
}

/// The ids of a new cluster, computed from the settings.
pub(crate) fn bootstrap(config: &Config) -> Result<Founding, StartError> {
    let member = |(name, peer_urls): (String, Vec<String>)| Member {
        id: identity::bootstrap_member_id(&peer_urls, &config.initial_cluster_token),
        name,
        peer_urls,
        ..Member::default()
    };
    let members: Vec<_> = config.initial_members()?.into_iter().map(member).collect();
    let own = members.iter().find(|member| member.name == config.name);
    let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    Ok(Founding {
        identity: Identity {
            cluster_id: identity::cluster_id(&ids),
            // It is checked that there is one.
            member_id: own.map_or(0, |own| own.id),
        },
        members,
    })
}

/// How long a joining member looks for one that knows the cluster.
const JOIN_PATIENCE: Duration = Duration::from_secs(30);

/// The ids of a cluster that knows this member already, asked of the others.
fn join(config: &Config) -> Result<Founding, StartError> {
    let others = config.initial_cluster.iter();
    let others: Vec<&String> = others
        .filter(|(name, _)| *name != config.name)
        .map(|(_, url)| url)
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let until = Instant::now() + JOIN_PATIENCE;
    let mut reason = "--initial-cluster names no other member".to_owned();
    while !others.is_empty() {
        for url in &others {
            let reply = match runtime.block_on(peer::grpc::members(&Tcp, url)) {
                Ok(reply) => reply,
                Err(error) => {
                    reason = format!("{url}: {error}");
                    continue;
                }
            };
            let urls = &config.initial_advertise_peer_urls;
            let own = reply.members.iter().find(|member| {
                member.peer_urls.len() == urls.len()
                    && member.peer_urls.iter().all(|url| urls.contains(url))
            });
            match own {
                Some(own) => {
                    return Ok(Founding {
                        identity: Identity {
                            cluster_id: reply.cluster_id,
                            member_id: own.id,
                        },
                        members: reply.members,
                    });
                }
                None => {
                    reason = format!(
                        "{url} knows no member with the peer addresses {}; add it first (etcdctl member add)",
                        urls.join(",")
                    );
                }
            }
        }
        if Instant::now() >= until {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(StartError::Join(reason))
}

/// Binds the peer addresses. A member that is alone and was not told where to listen can do without.
fn bind_peers(config: &Config) -> Result<Vec<std::net::TcpListener>, StartError> {
    match bind(&config.listen_peer_urls) {
        Err(error) if !config.must_listen_to_peers => {
            tracing::info!(
                error = logging::chain(&error),
                "does not listen to peers: the default address is taken, and there is no other member"
            );
            Ok(Vec::new())
        }
        bound => bound,
    }
}

/// What a node shares with what is around it.
struct Surroundings {
    metrics: Arc<Metrics>,
    admission: Arc<Admission>,
    clock: Arc<dyn Clock>,
    exec: Arc<dyn Exec>,
}

/// The way to the other members and theirs to this one.
struct Peers {
    beginning: Beginning,
    addresses: Arc<Addresses>,
    memory: Arc<Memory>,
    transport: Arc<dyn Transport>,
    inbound: Arc<Inbound>,
    /// Answers peers on the runtime that it is called on.
    listen: Box<dyn FnOnce() -> io::Result<()> + Send>,
}

/// Connections that peers may have at once: a handful for each member, and room for those that break.
const PEER_CONNECTIONS: usize = 1024;

fn peers(
    config: &Config,
    data_dir: &DataDir,
    members: Vec<Member>,
    sockets: Vec<std::net::TcpListener>,
) -> Result<Peers, StartError> {
    let Identity {
        cluster_id,
        member_id,
    } = data_dir.identity();
    let beginning = if config.is_joining {
        Beginning::Join
    } else if members.iter().any(|member| member.id == member_id) {
        Beginning::New(members.iter().map(|member| member.id).collect())
    } else {
        // The settings are of another start, and there is data.
        Beginning::New([member_id].into())
    };
    let addresses = Arc::new(Addresses::new(members));
    let speaker = Speaker {
        cluster_id,
        member_id,
        patience: config.election_timeout,
    };
    let inbound = Arc::<Inbound>::default();
    let service = Arc::new(PeerService::new(
        (cluster_id, member_id),
        inbound.clone(),
        addresses.clone(),
    ));
    let patience = config.election_timeout;
    let memory = data_dir.member().join("peers.json");
    let memory = Memory::open(&memory).map_err(|source| DataDirError::Io {
        path: memory,
        source,
    })?;
    let memory = Arc::new(memory);
    let transport = Grpc::new(speaker, addresses.clone(), memory.clone(), Arc::new(Tcp));
    Ok(Peers {
        beginning,
        transport: Arc::new(transport),
        memory,
        addresses,
        inbound,
        listen: Box::new(move || {
            let options = listen::Options {
                max_connections: PEER_CONNECTIONS,
                keepalive_interval: Some(patience),
                keepalive_timeout: patience,
                ..listen::Options::default()
            };
            let here = [Handle::current()];
            let listeners = Listeners::start(sockets, Plain, service, &here, options)?;
            // They end with the runtime.
            tokio::spawn(async move {
                let _listeners = listeners;
                std::future::pending::<()>().await;
            });
            Ok(())
        }),
    })
}

fn start_node(
    config: &Config,
    files: OpenFiles,
    data_dir: &DataDir,
    peers: Peers,
    surroundings: Surroundings,
) -> Result<(Node, Log, Closed, u64), StartError> {
    let Surroundings {
        metrics,
        admission,
        clock,
        exec,
    } = surroundings;
    let (metrics, admission) = (&metrics, &admission);
    let Identity {
        cluster_id,
        member_id,
    } = data_dir.identity();
    let memory = &config.memory;
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);

    let began = Instant::now();
    let store_error = |source| StartError::Store {
        folder: data_dir.database().display().to_string(),
        source,
    };
    let log_options = LogOptions {
        tail_bytes: bytes(memory.log_tail),
        ..LogOptions::new(cluster_id, member_id)
    };
    let segment_bytes = log_options.segment_bytes;
    let (databases, engine, closed) = open_databases(
        data_dir,
        config,
        files,
        metrics,
        &admission.space,
        segment_bytes,
    )
    .map_err(store_error)?;
    let options = store::Options {
        value_budget_bytes: bytes(memory.values),
    };
    let mut machine = Machine::open(engine, options).map_err(store_error)?;
    machine.answer_only(member_id, data_dir.boot());
    tracing::info!(
        took_ms = millis(began),
        keys = machine.reader().view().index.len(),
        applied_index = machine.applied().map_or(0, |id| id.index),
        "opened the database"
    );

    let began = Instant::now();
    let folder = metrics::timed_log(Arc::new(RealFs::new(data_dir.wal())), metrics.clone());
    let (log, log_worker, recovered) = Log::open(folder, log_options)?;
    data_dir.note_log()?;
    if let Some(cut) = recovered.cut {
        tracing::warn!(
            file = cut.file,
            offset = cut.offset,
            bytes = cut.bytes,
            what = cut.what,
            "cut the end of the log that a crash left unfinished; nothing in it was ever acknowledged"
        );
    }
    tracing::info!(
        took_ms = millis(began),
        last_index = recovered.last.map_or(0, |id| id.index),
        "opened the raft log"
    );

    let term = Arc::new(AtomicU64::new(0));
    let options = watch::Options {
        ring_bytes: bytes(memory.ring),
        message_bytes: config.max_request_bytes + 512 * 1024,
        progress_interval: config.watch_progress_interval,
        ..watch::Options::default()
    };
    let speaker = watch::Identity {
        cluster_id,
        member_id,
        term: term.clone(),
    };
    let (hub, hub_worker, catch_up) =
        watch::Hub::new(machine.reader(), speaker, options, clock.clone());
    exec.start("hub", Box::new(hub_worker));
    exec.start("catch-up", Box::new(catch_up));

    let options = raft::NodeOptions {
        cluster_id,
        member_id,
        boot: data_dir.boot(),
        beginning: peers.beginning,
        transport: peers.transport,
        inbound: peers.inbound,
        memory: peers.memory,
        on_members: Box::new(move |members| {
            // An old cluster has none in its table: what it was told at the start counts then.
            if !members.is_empty() {
                peers.addresses.set(members.list());
                peers.addresses.set_removed(members.removed());
            }
        }),
        term,
        election_timeout: config.election_timeout,
        heartbeat: config.heartbeat_interval,
        // What is in memory alone needs the whole log at the next start.
        flush_log_bytes: if cfg!(feature = "rocksdb") {
            FLUSH_LOG_BYTES
        } else {
            u64::MAX
        },
        keep_log_bytes: KEEP_LOG_BYTES,
        sweep: config.sweep,
        auto_compaction: config.auto_compaction,
        machine,
        log: log.clone(),
        log_worker,
        hub,
        databases: Arc::new(databases),
        metrics: metrics.clone(),
        admission: admission.clone(),
        exec,
        clock,
    };
    let node = raft::run_tokio(options, peers.listen)?;
    Ok((node, log, closed, segment_bytes))
}

/// Looks at free space and at the database's size from now on.
fn watch_disk(
    config: &Config,
    data_dir: &DataDir,
    node: &Node,
    admission: Arc<Admission>,
    log: &Log,
    segment_bytes: u64,
) -> io::Result<disk_space::Monitor> {
    let (space, engine) = (admission.space.clone(), node.engine().clone());
    let watched = disk_space::Watched {
        member: data_dir.member().to_owned(),
        wal: data_dir.wal().to_owned(),
        log: log.clone(),
        needs: disk_space::Needs {
            segment: segment_bytes,
            memtables: config.memory.memtables,
        },
        also: Box::new(move || admission.quota.look(&*engine)),
    };
    disk_space::Monitor::start(space, watched)
}

/// The node's databases, the one in force, and what tells when all that it ever opened are closed.
#[cfg(feature = "rocksdb")]
fn open_databases(
    data_dir: &DataDir,
    config: &Config,
    files: OpenFiles,
    metrics: &Arc<Metrics>,
    space: &Arc<DiskSpace>,
    segment_bytes: u64,
) -> Result<(Databases, Arc<dyn StateEngine>, Closed), StoreError> {
    use store::engine::rocks::{RocksEngine, RocksOptions};
    let options = RocksOptions {
        memtable_bytes: usize::try_from(config.memory.memtables).unwrap_or(usize::MAX),
        block_cache_bytes: usize::try_from(config.memory.block_cache).unwrap_or(usize::MAX),
        open_files: files.database,
        ..RocksOptions::default()
    };
    let (metrics, space) = (metrics.clone(), space.clone());
    let (any, closed) = AnyOpen::new();
    let open = move |folder: &Path| {
        let engine = RocksEngine::open(folder, &options)?;
        let (engine, closed) =
            TimedEngine::new(engine, metrics.clone(), space.clone(), any.clone());
        Ok((Arc::new(engine) as Arc<dyn StateEngine>, closed))
    };
    let (databases, engine) = Databases::open(
        data_dir.place().clone(),
        data_dir.database(),
        // With less than this, writes would be refused.
        2 * (segment_bytes + config.memory.memtables),
        Box::new(open),
    )?;
    Ok((databases, engine, closed))
}

#[cfg(not(feature = "rocksdb"))]
fn open_databases(
    _: &DataDir,
    _: &Config,
    _: OpenFiles,
    metrics: &Arc<Metrics>,
    space: &Arc<DiskSpace>,
    _: u64,
) -> Result<(Databases, Arc<dyn StateEngine>, Closed), StoreError> {
    let (any, closed) = AnyOpen::new();
    let engine = store::engine::memory::MemoryEngine::new();
    let (engine, _) = TimedEngine::new(engine, metrics.clone(), space.clone(), any);
    Ok((Databases::default(), Arc::new(engine), closed))
}

fn service_options(config: &Config, member_id: u64) -> etcd::Options {
    etcd::Options {
        max_request_bytes: config.max_request_bytes,
        max_txn_ops: config.max_txn_ops,
        request_timeout: config.request_timeout,
        unread_timeout: config.unread_timeout,
        slow_request: config.slow_request,
        quota_bytes: config.quota_backend_bytes,
        temporary_dir: config.data_dir.join("member"),
        member: Member {
            id: member_id,
            name: config.name.clone(),
            peer_urls: config.initial_advertise_peer_urls.clone(),
            client_urls: config.advertise_client_urls.clone(),
            is_learner: false,
        },
        is_reconfig_strict: config.is_reconfig_strict,
        max_learners: config.max_learners,
    }
}

/// Has the table of members tell of this one. The first try is waited for, so that who connects finds it told; if that
/// fails, others follow while the node serves.
fn publish(node: &Node, founders: Vec<Member>, own: &Member, timeout: Duration, runtime: &Handle) {
    let (first, tried) = std::sync::mpsc::channel();
    let (node, own) = (node.clone(), own.clone());
    // The settings may be of another start than the first.
    let founders = if founders.iter().any(|founder| founder.id == own.id) {
        founders
    } else {
        vec![own.clone()]
    };
    runtime.spawn(async move {
        loop {
            let call = Call::new(timeout);
            let published = members::publish(&node, &call, founders.clone(), own.clone()).await;
            // Nobody waits for the later tries.
            let _ = first.send(());
            match published {
                Ok(()) | Err(CallError::Stopped) => return,
                Err(error @ CallError::Refused(_)) => {
                    tracing::warn!(%error, "the other members do not know this one any more");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot tell the name and addresses of this member; trying again");
                }
            }
            tokio::time::sleep(PUBLISH_AGAIN).await;
        }
    });
    // An error means that the runtime is gone, and with it everything that would serve.
    let _ = tried.recv();
}

fn serve<S: Serve>(
    sockets: Vec<std::net::TcpListener>,
    service: Arc<S>,
    shards: &Shards,
    config: &Config,
    files: OpenFiles,
) -> Result<Listeners, StartError> {
    let defaults = listen::Options::default();
    let options = listen::Options {
        max_connections: defaults.max_connections.min(files.connections),
        max_concurrent_streams: config.max_concurrent_streams,
        keepalive_interval: config.keepalive_interval,
        keepalive_timeout: config.keepalive_timeout,
        ..defaults
    };
    Ok(Listeners::start(
        sockets,
        Plain,
        service,
        shards.handles(),
        options,
    )?)
}

/// Has the figures that others keep read at each scrape.
fn keep_current(metrics: &Metrics, node: &Node, log: Log, config: &Config) {
    let memory = config.memory;
    let budget = [
        ("index+values", memory.values),
        ("ring", memory.ring),
        ("memtables", memory.memtables),
        ("block_cache", memory.block_cache),
        ("log_tail", memory.log_tail),
        ("rest", memory.rest),
    ];
    for (part, bytes) in budget {
        metrics::set(&metrics.memory_budget.with_label_values(&[part]), bytes);
    }
    let node = node.clone();
    let ranges = ["Range", "RangeStream"].map(|name| metrics.grpc("etcdserverpb.KV", name));
    metrics.refresh_with(move |metrics| {
        let status = node.status();
        metrics.has_leader.set(status.has_leader.into());
        metrics.is_leader.set(status.is_leader.into());
        metrics.is_learner.set(status.is_learner.into());
        metrics::advance(&metrics.leader_changes, status.leader_changes);
        metrics::set(&metrics.proposals_committed, status.committed_index);
        metrics::set(&metrics.proposals_applied, status.applied_index);
        metrics::set(&metrics.proposals_pending, status.pending_proposals as u64);
        metrics::advance(&metrics.proposals_failed, status.failed_proposals);

        let view = node.reader().view();
        metrics::set(&metrics.keys, view.index.len() as u64);
        metrics.current_revision.set(view.revision);
        metrics.compact_revision.set(view.compact_revision);
        metrics.compaction_horizon.set(node.sweeps().horizon());
        metrics.compaction_swept.set(node.sweeps().swept());
        for (part, bytes) in [("values", view.cached_bytes), ("index", view.index_bytes)] {
            metrics::set(&metrics.memory.with_label_values(&[part]), bytes as u64);
        }
        let pages = node.reader().holding();
        metrics::set(&metrics.list_views, pages.views as u64);
        metrics::set(
            &metrics.memory.with_label_values(&["list_views"]),
            pages.bytes,
        );
        let log_tail = metrics.memory.with_label_values(&["log_tail"]);
        metrics::set(&log_tail, log.tail_bytes() as u64);

        let (written, read) = (view.operations, *metrics.reads.lock());
        metrics::advance(&metrics.puts, written.puts);
        metrics::advance(&metrics.deletes, written.deletes);
        metrics::advance(&metrics.txns, written.txns + read.txns);
        let single: u64 = ranges.iter().map(GrpcMethod::succeeded).sum();
        metrics::advance(&metrics.ranges, single + written.ranges + read.ranges);

        let engine = node.engine();
        let admission = node.admission();
        metrics::set(&metrics.db_size, admission.quota.size());
        metrics::set(&metrics.db_size_in_use, admission.quota.size_in_use());
        for finding in admission.space.findings() {
            let (free, needed) = (&metrics.disk_free, &metrics.disk_needed);
            metrics::set(&free.with_label_values(&[finding.name]), finding.free);
            metrics::set(&needed.with_label_values(&[finding.name]), finding.needed);
        }
        show_alarms(&metrics.alarms, &view.alarms, status.member_id);
        for (name, figure) in engine.gauges() {
            let part = match name {
                "memtable_bytes" => Some("memtables"),
                "block_cache_bytes" => Some("block_cache"),
                "table_reader_bytes" => Some("table_readers"),
                _ => None,
            };
            let gauge = match part {
                Some(part) => metrics.memory.with_label_values(&[part]),
                None => metrics.engine.with_label_values(&[name]),
            };
            metrics::set(&gauge, figure);
        }

        let watches = node.hub().stats();
        metrics::set(
            &metrics.watch_streams,
            watches.streams.load(Ordering::Relaxed) as u64,
        );
        metrics::set(
            &metrics.watchers,
            watches.watchers.load(Ordering::Relaxed) as u64,
        );
        metrics::set(
            &metrics.slow_watchers,
            watches.slow_watchers.load(Ordering::Relaxed) as u64,
        );
        metrics::advance(&metrics.events, watches.events.load(Ordering::Relaxed));
        metrics::set(
            &metrics.memory.with_label_values(&["ring"]),
            watches.ring_bytes.load(Ordering::Relaxed) as u64,
        );
    });
}

/// 1 for each alarm that is on, 0 for those that this member might raise.
fn show_alarms(gauges: &IntGaugeVec, alarms: &Alarms, member_id: u64) {
    gauges.reset();
    let gauge = |member: u64, kind: &str| gauges.with_label_values(&[&format!("{member:x}"), kind]);
    for kind in [AlarmType::Nospace, AlarmType::Corrupt] {
        gauge(member_id, kind.as_str_name()).set(0);
    }
    for alarm in alarms.list(AlarmType::None as i32) {
        match AlarmType::try_from(alarm.alarm) {
            Ok(kind) => gauge(alarm.member_id, kind.as_str_name()).set(1),
            Err(_) => gauge(alarm.member_id, &alarm.alarm.to_string()).set(1),
        }
    }
}

/// Runs a node as a process: until a signal, or until it cannot go on.
pub fn run(config: Config) -> ExitCode {
    if let Err(error) = logging::start(&config.log) {
        let _ = writeln!(io::stderr(), "holdfast: {error}");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&StartError::System(error)),
    };
    runtime.block_on(async {
        let mut signals = match Signals::new(config.ends_with_stdin) {
            Ok(signals) => signals,
            Err(error) => return fail(&StartError::System(error)),
        };
        announce(&config);
        let banner = banner(&config);
        let started = tokio::select! {
            started = tokio::task::spawn_blocking(move || start(config)) => started,
            // Nothing is taken down: whatever the start is at, a process may end there at any moment.
            name = signals.next() => {
                tracing::info!(signal = name, "received signal while starting; ending at once");
                std::process::exit(0);
            }
        };
        let running = match started.map_err(io::Error::other) {
            Ok(Ok(running)) => running,
            Ok(Err(error)) => return fail(&error),
            Err(error) => return fail(&StartError::System(error)),
        };
        tracing::info!("ready to serve client requests");
        for address in running.addresses(0) {
            tracing::info!(
                traffic = "grpc+http",
                address = %address,
                "serving client traffic insecurely; this is strongly discouraged!"
            );
        }
        for (listener, traffic) in [(1, "http"), (METRICS, "metrics")] {
            for address in running.addresses(listener) {
                tracing::info!(traffic, address = %address, "serving without encryption");
            }
        }
        notify::tell("READY=1");
        if io::stdout().is_terminal() || std::env::args_os().len() == 1 {
            // Nobody reads it if this fails.
            let _ = io::stdout().write_all(banner(running.client_addr()).as_bytes());
        }
        let ending = tokio::select! {
            name = signals.next() => Ok(name),
            reason = running.node().failed() => Err(reason),
        };
        match ending {
            Ok(name) => {
                tracing::info!(signal = name, "received signal; shutting down");
                stop(running, &mut signals).await
            }
            // Nothing of its state can be trusted to be written any more; the log has everything acknowledged.
            Err(reason) => {
                tracing::error!(target: logging::FATAL, reason, "the node cannot go on");
                // Its threads may be anywhere, also in the database: nothing is taken down under them.
                std::mem::forget(running);
                ExitCode::FAILURE
            }
        }
    })
}

/// Ends a node in order, unless a second signal comes meanwhile.
async fn stop(running: Running, signals: &mut Signals) -> ExitCode {
    // On a thread of its own, because parts of it block, and signals are to be heard throughout.
    let runtime = Handle::current();
    let stopped = tokio::task::spawn_blocking(move || runtime.block_on(running.stop()));
    tokio::select! {
        stopped = stopped => {
            if let Err(error) = stopped {
                tracing::error!(error = logging::chain(&error), "the stop failed");
                return ExitCode::FAILURE;
            }
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        name = signals.next() => {
            tracing::warn!(
                signal = name,
                "received a second signal; ending at once, and the next start recovers from the log"
            );
            std::process::exit(1);
        }
    }
}

/// Ends a start that failed, with a line for machines and, at a terminal, one for people.
fn fail(error: &StartError) -> ExitCode {
    let text = logging::chain(error);
    tracing::error!(target: logging::FATAL, error = text, "cannot start");
    if io::stderr().is_terminal() {
        let _ = writeln!(io::stderr(), "\nholdfast: {text}");
    }
    ExitCode::FAILURE
}

/// Says what is starting, and what of the settings does not do what its author may think.
fn announce(config: &Config) {
    let list = |urls: &[ListenUrl]| {
        urls.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    tracing::info!(
        holdfast_version = HOLDFAST_VERSION,
        etcd_version = ETCD_VERSION,
        name = config.name,
        data_dir = %config.data_dir.display(),
        listen_client_urls = list(&config.listen_client_urls),
        advertise_client_urls = config.advertise_client_urls.join(","),
        client_shards = config.client_shards,
        "starting"
    );
    for note in &config.notes {
        match note {
            Note::NoEffect(place) => {
                tracing::warn!(
                    setting = place,
                    "this setting is accepted but has no effect"
                );
            }
            Note::UnknownVariable(variable) => {
                tracing::warn!(variable, "unrecognized environment variable");
            }
            Note::ShadowedVariable(variable) => {
                tracing::info!(
                    variable,
                    "this variable is set, but its flag is too, and that one counts"
                );
            }
            Note::OnlyFileCounts(path) => tracing::warn!(
                path = %path.display(),
                "a config file is given: all other flags and variables are ignored"
            ),
        }
    }
}

/// What to type next, for somebody who has just started a node by hand.
fn banner(config: &Config) -> impl FnOnce(SocketAddr) -> String + use<> {
    let data_dir = config.data_dir.display().to_string();
    move |address| {
        let etcdctl = match address.to_string().as_str() {
            "127.0.0.1:2379" => "etcdctl".to_owned(),
            other => format!("etcdctl --endpoints={other}"),
        };
        format!(
            "\nHoldfast {HOLDFAST_VERSION} is ready on http://{address}, with its data in {data_dir}.\n\n\
             Try it in another terminal:\n  \
             {etcdctl} put greeting hello\n  \
             {etcdctl} get greeting\n  \
             {etcdctl} watch greeting\n  \
             curl http://{address}/health\n\n\
             Ctrl-C ends it; the data stays. Settings: holdfast --help\n\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_names_the_endpoint_only_where_etcdctl_would_not_find_it() {
        let text = |address: &str| banner(&Config::default())(address.parse().unwrap());
        assert!(text("127.0.0.1:2379").contains("\n  etcdctl put greeting hello\n"));
        assert!(
            text("127.0.0.1:9")
                .contains("\n  etcdctl --endpoints=127.0.0.1:9 put greeting hello\n")
        );
        assert!(text("127.0.0.1:9").contains("data in default.etcd"));
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let source = io::Error::from(io::ErrorKind::AddrInUse);
        let error = StartError::Listen {
            url: "http://127.0.0.1:1".to_owned(),
            source,
        };
        let text = logging::chain(&error);
        assert!(
            text.starts_with("cannot listen on http://127.0.0.1:1 (another etcd"),
            "{text}"
        );
        assert!(text.ends_with(": address in use"), "{text}");
    }
}
