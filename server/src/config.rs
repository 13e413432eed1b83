//! What a node is told at start: etcd's flags, `ETCD_*` variables or a config file, checked and typed.
//!
//! A flag that is not built yet is refused when ignoring it would be dangerous (TLS), and accepted with
//! a warning otherwise, so that the command lines and unit files people have for etcd start a node.

mod dev;
mod flags;
mod help;
mod kubeconfig;
mod parse;
mod recover;
mod snapshot;
mod status;
mod url;
mod value;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use crate::auto_compact::Retention;
use crate::{logging, sweep, watch};

pub use self::{
    dev::DevOptions,
    help::{ETCD_CLUSTER_VERSION, ETCD_VERSION, HOLDFAST_VERSION},
    recover::RecoverOptions,
    snapshot::{RestoreOptions, SnapshotCommand, StatusFormat},
    status::StatusOptions,
    url::{ListenUrl, check_peer},
};
use self::{
    flags::Standing,
    parse::{Asked, Values},
};

/// Variables of the process, as `std::env::vars_os` gives them.
pub type Environment = Vec<(OsString, OsString)>;

/// What a command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Start a node.
    Run(Box<Config>),
    /// Print the log of a stopped node.
    Dump(DumpOptions),
    /// Print the state of a stopped node.
    DumpState(DumpStateOptions),
    /// Work on a snapshot file.
    Snapshot(SnapshotCommand),
    /// Make a survivor the only member of a new cluster.
    Recover(RecoverOptions),
    /// Ask running members how they are.
    Status(StatusOptions),
    /// Print what kubectl needs, of this data folder.
    Kubeconfig(PathBuf),
    /// Run a cluster on this machine.
    Dev(DevOptions),
    /// Print this and exit.
    Print(String),
}

/// What `holdfast dump` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpOptions {
    /// The data folder.
    pub data_dir: PathBuf,
    /// The log's folder, if not inside the data folder.
    pub wal_dir: Option<PathBuf>,
    /// The first index to print.
    pub from: u64,
    /// The last index to print.
    pub to: u64,
}

/// What `holdfast dump state` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpStateOptions {
    /// The data folder.
    pub data_dir: PathBuf,
    /// The families to print, by name; all if there is none.
    pub family: Option<String>,
    /// What keys begin with.
    pub prefix: String,
    /// The first revision to print.
    pub from_revision: i64,
    /// The most items of each family.
    pub limit: u64,
    /// Whether values are printed, too.
    pub values: bool,
    /// One JSON object per line.
    pub json: bool,
}

/// A node's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's name.
    pub name: String,
    /// Where the data is kept.
    pub data_dir: PathBuf,
    /// Where the raft log is kept, if not inside the data folder.
    pub wal_dir: Option<PathBuf>,
    /// Where clients connect.
    pub listen_client_urls: Vec<ListenUrl>,
    /// Where HTTP alone is served, besides the client addresses.
    pub listen_client_http_urls: Vec<ListenUrl>,
    /// Whether etcd's calls are also answered as JSON over HTTP.
    pub has_gateway: bool,
    /// Origins whose pages may call over HTTP; `*` or none for all.
    pub cors: Vec<String>,
    /// Host names that HTTP requests may carry; `*` or none for all.
    pub host_whitelist: Vec<String>,
    /// Where metrics and health alone are served.
    pub listen_metrics_urls: Vec<ListenUrl>,
    /// Where the resource API is served; nowhere if there is none.
    pub listen_api_urls: Vec<ListenUrl>,
    /// The certificates of the resource API.
    pub api_cert_dir: PathBuf,
    /// Whether etcd's clients may not write what the resource API keeps.
    pub guards_registry: bool,
    /// Where other members connect.
    pub listen_peer_urls: Vec<ListenUrl>,
    /// Whether the settings name these addresses. A member that is alone can do without the default one.
    pub must_listen_to_peers: bool,
    /// What clients are told to connect to.
    pub advertise_client_urls: Vec<String>,
    /// What peers are told to connect to; the member's id is made from it.
    pub initial_advertise_peer_urls: Vec<String>,
    /// The members at the first start: names and addresses. Empty means this one alone.
    pub initial_cluster: Vec<(String, String)>,
    /// Whether the first start joins a cluster instead of making one.
    pub is_joining: bool,
    /// Whether a change of members must leave a quorum that runs.
    pub is_reconfig_strict: bool,
    /// How many learners a cluster may have.
    pub max_learners: u64,
    /// What keeps apart the ids of clusters with equal addresses.
    pub initial_cluster_token: String,
    /// Time between a leader's heartbeats.
    pub heartbeat_interval: Duration,
    /// Time without a leader before an election.
    pub election_timeout: Duration,
    /// How long a request may take inside the node: etcd's five seconds and two elections.
    pub request_timeout: Duration,
    /// How long the rest of a long answer waits for its client to take more of it. No flag sets it.
    pub unread_timeout: Duration,
    /// The largest request in bytes.
    pub max_request_bytes: usize,
    /// The most operations of one transaction.
    pub max_txn_ops: usize,
    /// The most open requests of one connection.
    pub max_concurrent_streams: u32,
    /// How often an idle connection is pinged, if at all.
    pub keepalive_interval: Option<Duration>,
    /// How long the answer to a ping may take.
    pub keepalive_timeout: Duration,
    /// The largest database, as reported in metrics and status.
    pub quota_backend_bytes: i64,
    /// How much history is kept; none keeps it until somebody compacts.
    pub auto_compaction: Option<Retention>,
    /// How fast compacted history is removed.
    pub sweep: sweep::Options,
    /// Requests slower than this are logged.
    pub slow_request: Duration,
    /// How often an idle watcher that asked for it hears of progress.
    pub watch_progress_interval: Duration,
    /// Whether latency histograms are kept for each gRPC method.
    pub has_extensive_metrics: bool,
    /// Threads that serve connections.
    pub client_shards: usize,
    /// How memory is split.
    pub memory: MemoryBudget,
    /// Bytes that the scrub reads per second; 0: none.
    pub scrub_rate: u64,
    /// Whether the log is written past the page cache, if the file system can.
    pub has_direct_log: bool,
    /// Whether the process ends when its standard input is closed.
    pub ends_with_stdin: bool,
    /// What is logged, how and where.
    pub log: logging::Options,
    /// What the operator should hear about these settings.
    pub notes: Vec<Note>,
}

/// One stated amount of memory and its parts; the index of keys comes first (`values`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBudget {
    /// The index of keys, and values as far as it leaves room.
    pub values: u64,
    /// Recent change sets, for watchers.
    pub ring: u64,
    /// RocksDB's write buffers.
    pub memtables: u64,
    /// RocksDB's blocks.
    pub block_cache: u64,
    /// The log's recent entries.
    pub log_tail: u64,
    /// Connections, running answers, and what the allocator holds in reserve.
    pub rest: u64,
}

/// Something about the settings that is worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A flag was set that changes nothing; where.
    NoEffect(String),
    /// An `ETCD_*` variable belongs to no flag.
    UnknownVariable(String),
    /// A variable was overridden by its flag.
    ShadowedVariable(String),
    /// A config file was given together with flags or variables, which do not count then.
    OnlyFileCounts(PathBuf),
}

/// Why a command line is not understood or not accepted. The text says what to change.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// No such flag.
    #[error("unknown flag --{name}{}", .hint.as_ref().map_or(String::new(), |hint| format!("; did you mean --{hint}?")))]
    UnknownFlag {
        /// What was written.
        name: String,
        /// The flag whose name is closest.
        hint: Option<String>,
    },
    /// A word that is neither a flag nor a subcommand.
    #[error("{0:?} is not a valid flag or command")]
    Positional(String),
    /// A flag at the end of the line without its value.
    #[error("flag needs an argument: --{0}")]
    MissingValue(String),
    /// A value of the wrong form.
    #[error("invalid value {value:?} for {place}: expected {expected}")]
    BadValue {
        /// Where it was written.
        place: String,
        /// The value.
        value: String,
        /// What would be accepted.
        expected: String,
    },
    /// A setting that Holdfast cannot honour yet and must not ignore.
    #[error(
        "{place} is not built yet, and is refused because ignoring it would be dangerous (what it is for: {why})"
    )]
    NotBuilt {
        /// Where it was written.
        place: String,
        /// What the setting would do.
        why: String,
    },
    /// Settings that contradict each other or break a rule.
    #[error("{0}")]
    Invalid(String),
    /// The config file cannot be used.
    #[error("config file {}: {reason}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Invocation {
    /// Reads the command line and environment of this process.
    pub fn of_process() -> Result<Self, ConfigError> {
        let mut arguments = Vec::new();
        for argument in std::env::args_os().skip(1) {
            let valid = argument.into_string();
            arguments.push(valid.map_err(|argument| ConfigError::BadValue {
                place: "the command line".to_owned(),
                value: argument.to_string_lossy().into_owned(),
                expected: "valid UTF-8".to_owned(),
            })?);
        }
        Self::read(&arguments, &std::env::vars_os().collect())
    }

    /// Reads a command line (without the program's name) and the environment.
    pub fn read(arguments: &[String], environment: &Environment) -> Result<Self, ConfigError> {
        match arguments.first().map(String::as_str) {
            Some("dump") => match arguments.get(1).map(String::as_str) {
                Some("state") => read_dump_state(&arguments[2..], environment),
                Some("log") => read_dump(&arguments[2..], environment),
                // As it was before there was a state to print.
                _ => read_dump(&arguments[1..], environment),
            },
            Some("snapshot") => snapshot::read(&arguments[1..]),
            Some("recover") => recover::read(&arguments[1..], environment),
            Some("status") => status::read(&arguments[1..]),
            Some("kubeconfig") => kubeconfig::read(&arguments[1..], environment),
            Some("dev") => dev::read(&arguments[1..]),
            Some("help") => match arguments.get(1).map(String::as_str) {
                None => Ok(Self::Print(help::node())),
                Some("dump") => Ok(Self::Print(help::dump())),
                Some("snapshot") => Ok(Self::Print(help::snapshot())),
                Some("recover") => Ok(Self::Print(help::recover())),
                Some("status") => Ok(Self::Print(help::status())),
                Some("kubeconfig") => Ok(Self::Print(help::kubeconfig())),
                Some("dev") => Ok(Self::Print(help::dev())),
                Some("--markdown") => Ok(Self::Print(help::markdown())),
                Some(other) => Err(ConfigError::Positional(other.to_owned())),
            },
            Some("version") => Ok(Self::Print(help::version())),
            Some(proxy @ ("gateway" | "grpc-proxy")) => Err(ConfigError::Invalid(format!(
                "etcd's {proxy:?} command is not part of Holdfast"
            ))),
            _ => read_node(arguments, environment),
        }
    }
}

fn read_node(arguments: &[String], environment: &Environment) -> Result<Invocation, ConfigError> {
    let mut values = Values::new(flags::NODE);
    if values.read_arguments(arguments)? == Asked::Help {
        return Ok(Invocation::Print(help::node()));
    }
    if values.boolean("version") {
        return Ok(Invocation::Print(help::version()));
    }
    let (unknown, shadowed) = values.read_environment(environment)?;
    let mut notes: Vec<_> = unknown.into_iter().map(Note::UnknownVariable).collect();
    notes.extend(shadowed.into_iter().map(Note::ShadowedVariable));
    if values.is_set("config-file") {
        let path = PathBuf::from(values.text("config-file"));
        let has_more = values
            .changed()
            .any(|(flag, ..)| flag.name != "config-file");
        values = Values::new(flags::NODE);
        values.read_file(&path)?;
        notes = if has_more {
            vec![Note::OnlyFileCounts(path)]
        } else {
            Vec::new()
        };
    }
    if arguments.is_empty() && values.changed().next().is_none() {
        // Nobody who starts an etcd does so without any setting.
        values.read_arguments(&[format!("--listen-api-urls={DEFAULT_API}")])?;
    }
    let mut config = Config::from_values(&values)?;
    config.notes.splice(0..0, notes);
    Ok(Invocation::Run(Box::new(config)))
}

fn read_dump(arguments: &[String], environment: &Environment) -> Result<Invocation, ConfigError> {
    let mut values = Values::new(flags::DUMP);
    if values.read_arguments(arguments)? == Asked::Help {
        return Ok(Invocation::Print(help::dump()));
    }
    values.read_environment(environment)?;
    Ok(Invocation::Dump(DumpOptions {
        data_dir: PathBuf::from(values.text("data-dir")),
        wal_dir: optional(values.text("wal-dir")),
        from: values.number("from"),
        to: values.number("to"),
    }))
}

fn read_dump_state(
    arguments: &[String],
    environment: &Environment,
) -> Result<Invocation, ConfigError> {
    let mut values = Values::new(flags::DUMP_STATE);
    if values.read_arguments(arguments)? == Asked::Help {
        return Ok(Invocation::Print(help::dump()));
    }
    values.read_environment(environment)?;
    Ok(Invocation::DumpState(DumpStateOptions {
        data_dir: PathBuf::from(values.text("data-dir")),
        family: Some(values.text("family").to_owned()).filter(|family| family != "all"),
        prefix: values.text("prefix").to_owned(),
        from_revision: values.number("from-revision"),
        limit: values.number("limit"),
        values: values.boolean("values"),
        json: values.boolean("json"),
    }))
}

fn optional(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// As etcd reads it: a bare number is hours or revisions, by the mode, and anything else a duration.
fn auto_compaction(values: &Values) -> Result<Option<Retention>, ConfigError> {
    let text = values.text("auto-compaction-retention");
    let refuse = |expected: &str| {
        Err(ConfigError::Invalid(format!(
            "--auto-compaction-retention is {text:?}, but it must be {expected}; 0 turns it off"
        )))
    };
    let number = text.parse::<u32>().ok();
    if values.text("auto-compaction-mode") == "revision" {
        return match text.parse::<i64>() {
            Ok(0) => Ok(None),
            Ok(revisions) if revisions > 0 => Ok(Some(Retention::Revisions(revisions))),
            _ => refuse("a number of revisions, because --auto-compaction-mode is revision"),
        };
    }
    let period = match number {
        Some(hours) => Some(Duration::from_secs(3600) * hours),
        None => value::duration(text),
    };
    match period {
        Some(Duration::ZERO) => Ok(None),
        Some(period) if period < SHORTEST_RETENTION => refuse("a second or more"),
        Some(period) => Ok(Some(Retention::Time(period))),
        None => refuse("a number of hours or a duration such as 30m or 24h"),
    }
}

/// Where the resource API is served if nothing at all is said.
const DEFAULT_API: &str = "https://127.0.0.1:6443";

/// History that is kept where the resource API is served and nobody said how much.
const API_RETENTION: Duration = Duration::from_secs(3600);

/// What is compacted more often than this, nobody could watch.
const SHORTEST_RETENTION: Duration = Duration::from_secs(1);

/// [`Config::unread_timeout`]; the error names it (`etcd/error.rs`), and so do the docs.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);

/// More often than that nobody is told of progress.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

impl Default for Config {
    /// What `holdfast` alone means.
    fn default() -> Self {
        Self::from_values(&Values::new(flags::NODE)).expect("the defaults are accepted")
    }
}

impl Config {
    fn from_values(values: &Values) -> Result<Self, ConfigError> {
        refuse_what_is_not_built(values)?;
        check_gates(values)?;
        let ways = ["initial-cluster", "discovery-srv", "discovery-endpoints"];
        if ways
            .iter()
            .filter(|way| !values.text(way).is_empty())
            .count()
            > 1
        {
            return Err(ConfigError::Invalid(
                "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\", \
                 \"discovery-endpoints\" or \"discovery-srv\""
                    .to_owned(),
            ));
        }
        if values.is_set("listen-client-urls") && !values.is_set("advertise-client-urls") {
            return Err(ConfigError::Invalid(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly"
                    .to_owned(),
            ));
        }
        let initial_cluster = initial_cluster(values)?;
        let is_joining = values.text("initial-cluster-state") == "existing";
        let listen_client_urls = listen_urls(values, "listen-client-urls")?;
        if listen_client_urls.is_empty() {
            return Err(ConfigError::Invalid(
                "--listen-client-urls must name at least one address".to_owned(),
            ));
        }
        let heartbeat: u64 = values.number("heartbeat-interval");
        let election: u64 = values.number("election-timeout");
        if election < 5 * heartbeat {
            return Err(ConfigError::Invalid(format!(
                "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
            )));
        }
        let election_timeout = Duration::from_millis(election);
        let name = values.text("name").to_owned();
        let data_dir = optional(values.text("data-dir"))
            .unwrap_or_else(|| PathBuf::from(format!("{name}.etcd")));
        let keepalive_interval = values.duration("grpc-keepalive-interval");
        let has_api = !values.list("listen-api-urls").is_empty();
        let api_cert_dir =
            optional(values.text("api-cert-dir")).unwrap_or_else(|| data_dir.join("pki"));
        Ok(Self {
            api_cert_dir,
            guards_registry: values.boolean("guard-registry"),
            data_dir,
            wal_dir: optional(values.text("wal-dir")),
            listen_client_urls,
            listen_client_http_urls: listen_urls(values, "listen-client-http-urls")?,
            has_gateway: values.boolean("enable-grpc-gateway"),
            cors: values.list("cors"),
            host_whitelist: values.list("host-whitelist"),
            listen_metrics_urls: listen_urls(values, "listen-metrics-urls")?,
            listen_api_urls: urls(values, "listen-api-urls", ListenUrl::parse_api)?,
            advertise_client_urls: advertised_urls(values, "advertise-client-urls")?,
            initial_advertise_peer_urls: advertised_urls(values, "initial-advertise-peer-urls")?,
            listen_peer_urls: listen_urls(values, "listen-peer-urls")?,
            must_listen_to_peers: values.is_set("listen-peer-urls")
                || is_joining
                || initial_cluster
                    .iter()
                    .any(|(name, _)| *name != name_of(values)),
            initial_cluster,
            is_joining,
            is_reconfig_strict: values.boolean("strict-reconfig-check"),
            max_learners: values.number("max-learners"),
            initial_cluster_token: values.text("initial-cluster-token").to_owned(),
            heartbeat_interval: Duration::from_millis(heartbeat),
            election_timeout,
            request_timeout: Duration::from_secs(5)
                + 2 * election_timeout.max(Duration::from_secs(1)),
            unread_timeout: UNREAD_TIMEOUT,
            max_request_bytes: values.number("max-request-bytes"),
            max_txn_ops: values.number("max-txn-ops"),
            max_concurrent_streams: values.number("max-concurrent-streams"),
            keepalive_interval: (!keepalive_interval.is_zero()).then_some(keepalive_interval),
            keepalive_timeout: values.duration("grpc-keepalive-timeout"),
            quota_backend_bytes: match values.number("quota-backend-bytes") {
                0 => 2 << 30,
                quota => quota,
            },
            slow_request: values.duration("warning-unary-request-duration"),
            auto_compaction: match auto_compaction(values)? {
                None if has_api && !values.is_set("auto-compaction-retention") => {
                    Some(Retention::Time(API_RETENTION))
                }
                retention => retention,
            },
            sweep: sweep::Options {
                // etcd takes zero for its default, too.
                batch_limit: match values.number("compaction-batch-limit") {
                    0 => sweep::Options::default().batch_limit,
                    limit => limit,
                },
                pause: match values.duration("compaction-sleep-interval") {
                    Duration::ZERO => sweep::Options::default().pause,
                    pause => pause,
                },
            },
            watch_progress_interval: match values.duration("watch-progress-notify-interval") {
                // As in etcd, which also raises what is too short.
                Duration::ZERO => watch::Options::default().progress_interval,
                interval => interval.max(PROGRESS_INTERVAL_MIN),
            },
            has_extensive_metrics: values.text("metrics") == "extensive",
            client_shards: match values.number("client-shards") {
                0 => std::thread::available_parallelism().map_or(1, usize::from),
                shards => shards,
            },
            memory: MemoryBudget::split(values.size("memory-budget")).ok_or_else(|| {
                ConfigError::BadValue {
                    place: values.place("memory-budget"),
                    value: values.text("memory-budget").to_owned(),
                    expected: "at least 64MiB".to_owned(),
                }
            })?,
            has_direct_log: values.boolean("wal-direct-writes"),
            scrub_rate: values.size("scrub-rate"),
            ends_with_stdin: values.boolean("end-with-stdin"),
            log: logging::Options::new(
                values.text("log-level"),
                values.text("log-format"),
                &values.list("log-outputs"),
            ),
            notes: values
                .changed()
                .filter(|(flag, ..)| flag.standing == Standing::NoEffect)
                .map(|(_, _, place)| Note::NoEffect(place.to_owned()))
                .collect(),
            name,
        })
    }

    /// The members that a new cluster begins with: names and addresses. Fails if the settings do not fit this member;
    /// a node that has data does not ask.
    pub fn initial_members(&self) -> Result<Vec<(String, Vec<String>)>, ConfigError> {
        if self.initial_cluster.is_empty() {
            let own = self.initial_advertise_peer_urls.clone();
            return Ok(vec![(self.name.clone(), own)]);
        }
        let mut members: Vec<(String, Vec<String>)> = Vec::new();
        for (name, url) in &self.initial_cluster {
            if let Some((_, taken)) = members
                .iter()
                .flat_map(|(name, urls)| urls.iter().map(move |url| (name, url)))
                .find(|(_, taken)| *taken == url)
            {
                return Err(ConfigError::Invalid(format!(
                    "--initial-cluster has {taken} twice; every member needs addresses of its own"
                )));
            }
            match members.iter_mut().find(|(known, _)| known == name) {
                Some((_, urls)) => urls.push(url.clone()),
                None => members.push((name.clone(), vec![url.clone()])),
            }
        }
        let Some((_, named)) = members.iter().find(|(name, _)| *name == self.name) else {
            let name = &self.name;
            return Err(ConfigError::Invalid(format!(
                "couldn't find local name {name:?} in --initial-cluster"
            )));
        };
        let advertised = &self.initial_advertise_peer_urls;
        let within =
            |a: &[String], b: &[String]| a.iter().all(|a| b.iter().any(|b| url::is_same(a, b)));
        if !within(named, advertised) || !within(advertised, named) {
            return Err(ConfigError::Invalid(format!(
                "--initial-cluster has {}={} but --initial-advertise-peer-urls has {}; make them equal",
                self.name,
                named.join(","),
                advertised.join(",")
            )));
        }
        Ok(members)
    }
}

impl MemoryBudget {
    /// All parts together.
    pub fn total(&self) -> u64 {
        self.values + self.ring + self.memtables + self.block_cache + self.log_tail + self.rest
    }

    /// Splits a total; `None` if it is too small to be split.
    pub fn split(total: u64) -> Option<Self> {
        const MIB: u64 = 1 << 20;
        if total < 64 * MIB {
            return None;
        }
        let memtables = (total / 4).min(64 * MIB);
        let ring = (total / 16).min(16 * MIB);
        let log_tail = ring;
        let block_cache = total / 8;
        let rest = total / 8;
        let values = total - memtables - ring - log_tail - block_cache - rest;
        Some(Self {
            values,
            ring,
            memtables,
            block_cache,
            log_tail,
            rest,
        })
    }
}

fn refuse_what_is_not_built(values: &Values) -> Result<(), ConfigError> {
    let refused = values.changed().find(|(flag, text, _)| {
        flag.standing == Standing::NotBuilt
            // Without TLS and authentication, these words mean the default.
            && !(flag.name == "auth-token" && (text.is_empty() || text.starts_with("simple")))
    });
    match refused {
        Some((flag, _, place)) => Err(ConfigError::NotBuilt {
            place: place.to_owned(),
            why: flag.help.to_owned(),
        }),
        None => Ok(()),
    }
}

fn check_gates(values: &Values) -> Result<(), ConfigError> {
    for gate in values.list("feature-gates") {
        let (name, state) = gate.split_once('=').unwrap_or((&gate, ""));
        if !flags::FEATURE_GATES.contains(&name) {
            return Err(ConfigError::Invalid(format!(
                "unrecognized feature gate: {name}"
            )));
        }
        if value::boolean(state).is_none() {
            return Err(ConfigError::BadValue {
                place: values.place("feature-gates"),
                value: gate.clone(),
                expected: format!("{name}=true or {name}=false"),
            });
        }
    }
    Ok(())
}

fn listen_urls(values: &Values, flag: &str) -> Result<Vec<ListenUrl>, ConfigError> {
    urls(values, flag, ListenUrl::parse)
}

fn urls(
    values: &Values,
    flag: &str,
    parse: fn(&str) -> Result<ListenUrl, String>,
) -> Result<Vec<ListenUrl>, ConfigError> {
    let read = |text: &String| parse(text).map_err(|message| invalid(values, flag, &message));
    values.list(flag).iter().map(read).collect()
}

fn advertised_urls(values: &Values, flag: &str) -> Result<Vec<String>, ConfigError> {
    let mut urls = values.list(flag);
    for text in &urls {
        url::check_advertised(text).map_err(|message| invalid(values, flag, &message))?;
    }
    if urls.is_empty() {
        return Err(ConfigError::Invalid(format!(
            "--{flag} must name at least one address"
        )));
    }
    urls.sort();
    urls.dedup();
    Ok(urls)
}

fn initial_cluster(values: &Values) -> Result<Vec<(String, String)>, ConfigError> {
    let mut members = Vec::new();
    for part in values.list("initial-cluster") {
        let Some((name, url)) = part.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            let message = format!("expected name=url, found {part:?}");
            return Err(invalid(values, "initial-cluster", &message));
        };
        url::check_advertised(url)
            .map_err(|message| invalid(values, "initial-cluster", &message))?;
        members.push((name.to_owned(), url.to_owned()));
    }
    Ok(members)
}

fn name_of(values: &Values) -> &str {
    values.text("name")
}

fn invalid(values: &Values, flag: &str, message: &str) -> ConfigError {
    ConfigError::Invalid(format!("{}: {message}", values.place(flag)))
}

#[cfg(test)]
mod tests;
