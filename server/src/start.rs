//! Puts a node together from its settings, and ends it.
//!
//! - `peers`: the other members. `figures`: what a scrape reads.
//! - `process`: the node as a process; `notify`: what a service manager hears of it.

mod figures;
mod notify;
mod peers;
mod process;

use std::io;
use std::net::SocketAddr;
#[cfg(feature = "rocksdb")]
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use proto::etcd::etcdserverpb::Member;
use store::fs::RealFs;
use store::log::{Log, LogError, LogOptions};
use store::{Machine, StateEngine, StoreError};

use crate::admission::Admission;
use crate::config::{Config, ConfigError, ListenUrl};
use crate::data_dir::{DataDir, DataDirError, Identity};
use crate::databases::Databases;
use crate::disk_space::{self, DiskSpace};
use crate::exec::{Clock, Exec, SystemClock, Threads};
use crate::http::{Access, Endpoints, HttpOnly, Monitoring, Web};
use crate::limits::{self, OpenFiles};
use crate::listen::{self, Listeners, Plain, Serve};
use crate::metrics::{self, AnyOpen, Closed, Metrics, TimedEngine};
use crate::node::Node;
use crate::quota::Quota;
use crate::resource::{self, Api, Door, KUBECONFIG, Pki};
use crate::scrub::{self, Scrub};
use crate::shard::Shards;
use crate::{etcd, raft, watch};

use self::peers::Peers;
pub(crate) use self::peers::{Founding, bootstrap};
pub use self::process::run;

/// The state is flushed once the log has grown by this: what a restart replays at most, about.
const FLUSH_LOG_BYTES: u64 = 64 << 20;

/// Log kept behind the last flush, for members that are away for a while.
const KEEP_LOG_BYTES: u64 = 64 << 20;

/// How long connections may take to finish when the node stops.
const PATIENCE: Duration = Duration::from_secs(5);

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
    /// The certificates cannot be read or made.
    #[error(
        "cannot use the certificates in {folder} (remove a damaged file, and it is made anew; or name another folder \
         with --api-cert-dir)"
    )]
    Certificates {
        /// Their folder.
        folder: String,
        /// What is wrong.
        source: io::Error,
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
            " (another etcd or holdfast may be running; choose another port with --listen-client-urls and --advertise-client-urls, or for other members with --listen-peer-urls and --initial-advertise-peer-urls)"
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

    /// Where the resource API is bound: without TLS, and with it.
    pub fn api_addrs(&self) -> [&[SocketAddr]; 2] {
        [OPEN_API, SECURE_API].map(|place| self.addresses(place))
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
const OPEN_API: usize = 3;
const SECURE_API: usize = 4;

/// Starts a node. On return it serves, and everything that was committed before it stopped is applied.
pub fn start(config: Config) -> Result<Running, StartError> {
    let began = Instant::now();
    let files = limits::open_files()?;
    limits::address_space(config.memory.total())?;
    // Sockets first: a start that cannot serve leaves no trace. Who connects now waits until the node is ready.
    let (secure_urls, open_urls): (Vec<_>, Vec<_>) = config
        .listen_api_urls
        .iter()
        .cloned()
        .partition(ListenUrl::is_secure);
    let sockets = [
        bind(&config.listen_client_urls)?,
        bind(&config.listen_client_http_urls)?,
        bind(&config.listen_metrics_urls)?,
        bind(&open_urls)?,
        bind(&secure_urls)?,
    ];
    let peer_sockets = peers::bind_peers(&config)?;
    let mut founding = None;
    let data_dir = DataDir::open(&config.data_dir, config.wal_dir.as_deref(), || {
        let found = if config.is_joining {
            peers::join(&config, true, peers::JOIN_PATIENCE)?
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
            // The others may be waiting for this one: one look is enough.
            peers::join(&config, false, Duration::ZERO)
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
    let peers = peers::peers(&config, &data_dir, founders.clone(), peer_sockets)?;
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
    figures::keep_current(&metrics, &node, log.clone(), &config);
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
    peers::publish(
        &node,
        founders,
        &own,
        config.request_timeout,
        &shards.handles()[0],
    );
    shards.handles()[0].spawn(service.look_after_leader(config.election_timeout));
    let [clients, http, monitoring, open, secure] = sockets;
    let api = Arc::new(Api::new(
        node.clone(),
        resource::Options {
            request_timeout: config.request_timeout,
            port: config
                .listen_api_urls
                .iter()
                .max_by_key(|url| url.is_secure())
                .map_or(0, |url| url.address().port()),
        },
    ));
    if !config.listen_api_urls.is_empty() {
        shards.handles()[0].spawn(resource::look_after(api.clone()));
    }
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
        serve(
            open,
            Arc::new(Door {
                api: api.clone(),
                is_open: true,
            }),
            &shards,
            &config,
            files,
        )?,
        serve_securely(secure, api, &shards, &config, files)?,
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

/// What a node shares with what is around it.
struct Surroundings {
    metrics: Arc<Metrics>,
    admission: Arc<Admission>,
    clock: Arc<dyn Clock>,
    exec: Arc<dyn Exec>,
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
        ..LogOptions::new(data_dir.log_cluster_id(), member_id)
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
    let mut folder = RealFs::new(data_dir.wal());
    if !config.has_direct_log {
        folder = folder.without_direct_writes();
    }
    let folder = metrics::timed_log(Arc::new(folder), metrics.clone());
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
                peers.addresses.set(members.list(), members.removed());
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

/// As in etcd, an election and a half, in whole seconds: nobody can keep a lease alive while there is no leader.
fn min_lease_ttl(election_timeout: Duration) -> i64 {
    let millis = election_timeout.as_millis() * 3 / 2;
    i64::try_from(millis.div_ceil(1000)).unwrap_or(i64::MAX)
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
        min_lease_ttl: min_lease_ttl(config.election_timeout),
        guards_objects: config.guards_registry && !config.listen_api_urls.is_empty(),
    }
}

fn serve<S: Serve>(
    sockets: Vec<std::net::TcpListener>,
    service: Arc<S>,
    shards: &Shards,
    config: &Config,
    files: OpenFiles,
) -> Result<Listeners, StartError> {
    Ok(Listeners::start(
        sockets,
        Plain,
        service,
        shards.handles(),
        listen_options(config, files),
    )?)
}

fn listen_options(config: &Config, files: OpenFiles) -> listen::Options {
    let defaults = listen::Options::default();
    listen::Options {
        max_connections: defaults.max_connections.min(files.connections),
        max_concurrent_streams: config.max_concurrent_streams,
        keepalive_interval: config.keepalive_interval,
        keepalive_timeout: config.keepalive_timeout,
        ..defaults
    }
}

/// Serves the resource API by TLS, with certificates that are made if there are none.
fn serve_securely(
    sockets: Vec<std::net::TcpListener>,
    api: Arc<Api>,
    shards: &Shards,
    config: &Config,
    files: OpenFiles,
) -> Result<Listeners, StartError> {
    let door = Arc::new(Door {
        api,
        is_open: false,
    });
    let Some(first) = sockets.first() else {
        return serve(sockets, door, shards, config, files);
    };
    let addresses = sockets
        .iter()
        .map(std::net::TcpListener::local_addr)
        .collect::<io::Result<Vec<_>>>()?;
    let folder = &config.api_cert_dir;
    let first = first.local_addr()?;
    let secure = Pki::open(folder, &addresses).and_then(|pki| {
        pki.write_kubeconfig(&config.data_dir.join(KUBECONFIG), first)?;
        pki.secure()
    });
    let secure = secure.map_err(|source| StartError::Certificates {
        folder: folder.display().to_string(),
        source,
    })?;
    Ok(Listeners::start(
        sockets,
        secure,
        door,
        shards.handles(),
        listen_options(config, files),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging;

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
