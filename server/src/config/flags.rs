//! The table of flags: parsing, the environment, the config file and `--help` are all made from it.

use Kind::{Bool, Choice, Duration, List, Number, Size, Text};

/// One flag of the command line.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Its name, without dashes.
    pub(crate) name: &'static str,
    /// What values it takes.
    pub(crate) kind: Kind,
    /// Its value when nothing sets it, in the form a user would write.
    pub(crate) default: &'static str,
    /// What setting it does today.
    pub(crate) standing: Standing,
    /// Where `--help` lists it.
    pub(crate) group: Group,
    /// One sentence for `--help`.
    pub(crate) help: &'static str,
}

/// What values a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `--f`, `--f=true`, `--f=false`.
    Bool,
    /// A whole number from the first to the second.
    Number(i64, i64),
    /// A Go duration: `100ms`, `1m30s`.
    Duration,
    /// A number of bytes: `512MiB`, `1073741824`.
    Size,
    /// Anything.
    Text,
    /// Comma-separated.
    List,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// What setting a flag does today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// What it says.
    Works,
    /// Accepted so that an existing etcd command line starts; changes nothing.
    NoEffect,
    /// Refused when it would change anything: ignoring it would be dangerous.
    NotBuilt,
}

/// A section of `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// What most people set.
    Member,
    /// What only Holdfast has.
    Own,
    /// Who the member is and whom it joins.
    Cluster,
    /// Limits of a client's use.
    Limits,
    /// Logs and metrics.
    Monitoring,
    /// TLS and authentication.
    Security,
    /// Timings and internals.
    Tuning,
    /// Names of older etcd versions.
    Legacy,
}

/// The most a number may be where only its sign matters.
const MAX: i64 = i64::MAX;
const U32: i64 = 4_294_967_295;

macro_rules! flags {
    ($( [$group:ident] $( $name:literal $kind:expr, $default:literal $standing:ident $help:literal; )* )*) => {
        &[ $( $( Flag {
            name: $name,
            kind: $kind,
            default: $default,
            standing: Standing::$standing,
            group: Group::$group,
            help: $help,
        }, )* )* ]
    };
}

/// Every flag of the node.
pub(crate) const NODE: &[Flag] = flags! {
    [Member]
    "name" Text, "default" Works "A name for this member.";
    "data-dir" Text, "" Works "Where the data is kept; <name>.etcd if not given. Created with mode 0700.";
    "wal-dir" Text, "" Works "Where the raft log is kept, if not inside the data folder.";
    "listen-client-urls" List, "http://localhost:2379" Works "Where clients connect: gRPC and HTTP on one port.";
    "advertise-client-urls" List, "http://localhost:2379" Works "The addresses that clients are told; needed when --listen-client-urls is given.";
    "listen-client-http-urls" List, "" Works "Extra addresses that serve HTTP only.";
    "enable-grpc-gateway" Bool, "true" Works "JSON over HTTP on the client port, below /v3/.";
    "listen-metrics-urls" List, "" Works "Extra addresses that serve /metrics, /health, /livez and /readyz only.";
    "config-file" Text, "" Works "Read the settings from this YAML or JSON file; every other flag and variable is then ignored.";
    "version" Bool, "false" Works "Print the version and exit.";

    [Own]
    "listen-api-urls" List, "" Works "Where kubectl is served: https, or http on loopback (no settings: https://127.0.0.1:6443).";
    "api-cert-dir" Text, "" Works "The API's certificates, made if there are none; the folder pki in the data folder if empty.";
    "guard-registry" Bool, "true" Works "With the resource API: etcd's clients can read its keys (/registry/), but not write them.";
    "client-shards" Number(0, 1024), "0" Works "Threads that serve client connections; 0 means one per core.";
    "memory-budget" Size, "512MiB" Works "Memory in all, about: the index of all keys first, values and caches in what it leaves.";
    "wal-direct-writes" Bool, "true" Works "Write the raft log past the page cache where the file system can; false: through it.";
    "scrub-rate" Size, "4MiB" Works "How much data is read and checked again in the background, per second; 0 turns it off.";
    "end-with-stdin" Bool, "false" Works "End in order when standard input is closed: the node then never outlives who started it.";

    [Cluster]
    "initial-advertise-peer-urls" List, "http://localhost:2380" Works "This member's peer addresses; its id is made from them at the first start.";
    "listen-peer-urls" List, "http://localhost:2380" Works "Where other members connect.";
    "initial-cluster" Text, "" Works "The members at the first start, as name=url,...; every one of them is told the same.";
    "initial-cluster-state" Choice(&["new", "existing"]), "new" Works "Whether the first start makes a cluster or joins one that has this member added.";
    "initial-cluster-token" Text, "etcd-cluster" Works "Keeps clusters apart: the cluster id is made from it at the first start.";
    "strict-reconfig-check" Bool, "true" Works "Refuse member changes after which those that run would be no quorum.";
    "pre-vote" Bool, "true" NoEffect "Ask before standing for election. Always on.";
    "max-learners" Number(0, MAX), "1" Works "How many learners a cluster may have.";
    "force-new-cluster" Bool, "false" NotBuilt "Make a new cluster of one from this member's data; here a command: holdfast recover.";
    "discovery" Text, "" NotBuilt "Find the members through a discovery service.";
    "discovery-srv" Text, "" NotBuilt "Find the members through DNS.";
    "discovery-srv-name" Text, "" NotBuilt "The suffix of the DNS service name.";
    "discovery-endpoints" List, "" NotBuilt "Find the members through another etcd.";
    "discovery-token" Text, "" NotBuilt "The token at the discovery service.";
    "discovery-fallback" Text, "" NoEffect "What to do when discovery fails.";
    "discovery-proxy" Text, "" NoEffect "A proxy on the way to the discovery service.";
    "discovery-dial-timeout" Duration, "2s" NoEffect "Timeout of connecting to the discovery service.";
    "discovery-request-timeout" Duration, "5s" NoEffect "Timeout of a request to the discovery service.";
    "discovery-keepalive-time" Duration, "2s" NoEffect "Keep-alive of the connection to the discovery service.";
    "discovery-keepalive-timeout" Duration, "6s" NoEffect "Timeout of that keep-alive.";
    "discovery-insecure-transport" Bool, "true" NoEffect "Speak to the discovery service without TLS.";
    "discovery-insecure-skip-tls-verify" Bool, "false" NoEffect "Do not verify the discovery service's certificate.";
    "discovery-cert" Text, "" NoEffect "Client certificate for the discovery service.";
    "discovery-key" Text, "" NoEffect "Key of that certificate.";
    "discovery-cacert" Text, "" NoEffect "CA of the discovery service.";
    "discovery-user" Text, "" NoEffect "User at the discovery service.";
    "discovery-password" Text, "" NoEffect "Password at the discovery service.";

    [Limits]
    "max-request-bytes" Number(1, 1 << 30), "1572864" Works "The largest request a client may send, in bytes.";
    "max-txn-ops" Number(1, 1 << 20), "128" Works "The most operations in one transaction.";
    "max-concurrent-streams" Number(1, U32), "4294967295" Works "The most open requests on one client connection.";
    "grpc-keepalive-min-time" Duration, "5s" NoEffect "The shortest interval at which a client may ping.";
    "grpc-keepalive-interval" Duration, "2h" Works "How often an idle client connection is pinged; 0 turns it off.";
    "grpc-keepalive-timeout" Duration, "20s" Works "How long the answer to that ping may take.";
    "quota-backend-bytes" Number(i64::MIN, MAX), "0" Works "The largest database; 0 means 2 GiB, negative no limit. Beyond it, NOSPACE stops writes.";
    "auto-compaction-mode" Choice(&["periodic", "revision"]), "periodic" Works "What --auto-compaction-retention counts: time or revisions.";
    "auto-compaction-retention" Text, "0" Works "History to keep: hours, or 30m and the like, or revisions; 0 keeps all (with the API: 1h).";

    [Monitoring]
    "log-level" Choice(&["debug", "info", "warn", "error", "panic", "fatal"]), "info" Works "The least important lines to log.";
    "log-format" Choice(&["json", "console"]), "json" Works "One JSON object per line, or text for people.";
    "log-outputs" List, "default" Works "Where the log goes: stderr (the default), stdout, and files.";
    "warning-unary-request-duration" Duration, "300ms" Works "Requests slower than this are logged.";
    "metrics" Choice(&["basic", "extensive"]), "basic" Works "extensive adds a latency histogram for each gRPC method.";
    "warning-apply-duration" Duration, "100ms" NoEffect "Applying slower than this is logged.";
    "logger" Choice(&["zap"]), "zap" NoEffect "The shape of the log. Only zap's is known.";
    "enable-log-rotation" Bool, "false" NoEffect "Rotate the log file; use logrotate.";
    "log-rotation-config-json" Text, "" NoEffect "How to rotate it.";
    "disable-log-sampling" Bool, "false" NoEffect "Log every line. Always so.";
    "enable-pprof" Bool, "false" NoEffect "Go profiles over HTTP.";
    "enable-distributed-tracing" Bool, "false" NoEffect "Send OpenTelemetry traces.";
    "distributed-tracing-address" Text, "localhost:4317" NoEffect "Where to send traces.";
    "distributed-tracing-service-name" Text, "etcd" NoEffect "The service name in traces.";
    "distributed-tracing-instance-id" Text, "" NoEffect "The instance in traces.";
    "distributed-tracing-sampling-rate" Number(0, MAX), "0" NoEffect "Traces per million requests.";

    [Security]
    "cert-file" Text, "" NotBuilt "Certificate for clients.";
    "key-file" Text, "" NotBuilt "Key of that certificate.";
    "client-cert-auth" Bool, "false" NotBuilt "Ask clients for a certificate.";
    "trusted-ca-file" Text, "" NotBuilt "CA of the clients' certificates.";
    "auto-tls" Bool, "false" NotBuilt "TLS for clients with a certificate made at start.";
    "client-cert-file" Text, "" NotBuilt "Certificate for the node's own calls to itself.";
    "client-key-file" Text, "" NotBuilt "Key of that certificate.";
    "client-crl-file" Text, "" NotBuilt "Client certificates that are revoked.";
    "client-cert-allowed-hostname" List, "" NotBuilt "Names that a client's certificate must carry.";
    "peer-cert-file" Text, "" NotBuilt "Certificate for peers.";
    "peer-key-file" Text, "" NotBuilt "Key of that certificate.";
    "peer-client-cert-auth" Bool, "false" NotBuilt "Ask peers for a certificate.";
    "peer-trusted-ca-file" Text, "" NotBuilt "CA of the peers' certificates.";
    "peer-auto-tls" Bool, "false" NotBuilt "TLS for peers with a certificate made at start.";
    "peer-client-cert-file" Text, "" NotBuilt "Certificate for calls to peers.";
    "peer-client-key-file" Text, "" NotBuilt "Key of that certificate.";
    "peer-cert-allowed-cn" List, "" NotBuilt "Common names that a peer's certificate must carry.";
    "peer-cert-allowed-hostname" List, "" NotBuilt "Names that a peer's certificate must carry.";
    "peer-crl-file" Text, "" NotBuilt "Peer certificates that are revoked.";
    "host-whitelist" List, "*" Works "Host names that HTTP requests without TLS may carry; * for all.";
    "peer-skip-client-san-verification" Bool, "false" NoEffect "Do not compare a peer's certificate with its address.";
    "self-signed-cert-validity" Number(0, MAX), "1" NoEffect "Years that a certificate made at start is valid.";
    "cipher-suites" List, "" NoEffect "TLS cipher suites.";
    "tls-min-version" Choice(&["", "TLS1.2", "TLS1.3"]), "TLS1.2" NoEffect "The oldest TLS version.";
    "tls-max-version" Choice(&["", "TLS1.2", "TLS1.3"]), "" NoEffect "The newest TLS version.";
    "cors" List, "*" Works "Origins whose pages may call over HTTP; * for all.";
    "auth-token" Text, "simple" NotBuilt "The kind of token for authenticated clients.";
    "auth-token-ttl" Number(0, MAX), "300" NoEffect "Seconds that such a token lives.";
    "bcrypt-cost" Number(0, 31), "10" NoEffect "The cost of hashing a password.";

    [Tuning]
    "heartbeat-interval" Number(1, 50_000), "100" Works "Milliseconds between a leader's heartbeats.";
    "election-timeout" Number(1, 50_000), "700" Works "Milliseconds without a leader before an election; at least 5 heartbeats.";
    "watch-progress-notify-interval" Duration, "10m" Works "How often a watcher that asked for it hears that nothing happened.";
    "feature-gates" Text, "" NoEffect "Features by name, as Name=true,...; known names are accepted.";
    "snapshot-count" Number(0, MAX), "10000" NoEffect "Entries between snapshots; Holdfast goes by bytes.";
    "snapshot-catchup-entries" Number(0, MAX), "5000" NoEffect "Entries kept for a slow member; Holdfast goes by bytes.";
    "max-wals" Number(0, MAX), "5" NoEffect "Log files to keep; Holdfast keeps what it needs.";
    "initial-election-tick-advance" Bool, "true" NoEffect "Shorten the first election.";
    "backend-bbolt-freelist-type" Text, "map" NoEffect "A setting of bbolt.";
    "backend-batch-interval" Duration, "100ms" NoEffect "A setting of bbolt.";
    "backend-batch-limit" Number(0, MAX), "10000" NoEffect "A setting of bbolt.";
    "bootstrap-defrag-threshold-megabytes" Number(0, MAX), "0" NoEffect "A setting of bbolt.";
    "memory-mlock" Bool, "false" NoEffect "Keep the database's pages in memory.";
    "socket-reuse-port" Bool, "false" NoEffect "Share the port with other processes.";
    "socket-reuse-address" Bool, "false" NoEffect "Bind to an address in TIME_WAIT. Always so.";
    "raft-read-timeout" Duration, "5s" NoEffect "Timeout of reading from a peer.";
    "raft-write-timeout" Duration, "5s" NoEffect "Timeout of writing to a peer.";
    "corrupt-check-time" Duration, "0s" NoEffect "How often members compare their data.";
    "compact-hash-check-time" Duration, "1m" NoEffect "How often members compare what they compacted.";
    "compaction-batch-limit" Number(0, MAX), "1000" Works "Changes that one step of a compaction looks at.";
    "compaction-sleep-interval" Duration, "10ms" Works "Rest between two such steps.";
    "downgrade-check-time" Duration, "5s" NoEffect "How often a downgrade's progress is checked.";
    "unsafe-no-fsync" Bool, "false" NoEffect "Skip fsync. Holdfast never does.";

    [Legacy]
    "initial-corrupt-check" Bool, "false" NoEffect "Now a feature gate.";
    "compact-hash-check-enabled" Bool, "false" NoEffect "Now a feature gate.";
    "enable-lease-checkpoint" Bool, "false" NoEffect "What is left of long leases is always noted, and kept.";
    "enable-lease-checkpoint-persist" Bool, "false" NoEffect "What is left of long leases is always noted, and kept.";
    "txn-mode-write-with-shared-buffer" Bool, "true" NoEffect "Now a feature gate.";
    "stop-grpc-service-on-defrag" Bool, "false" NoEffect "Now a feature gate.";
    "max-snapshots" Number(0, MAX), "5" NoEffect "Snapshot files to keep.";
    "enable-v2" Bool, "false" NoEffect "etcd's v2 API.";
    "enable-v2v3" Text, "" NoEffect "etcd's v2 API.";
    "v2-deprecation" Text, "" NoEffect "etcd's v2 API.";
    "proxy" Choice(&["off"]), "off" NoEffect "etcd's v2 proxy.";
    "proxy-failure-wait" Number(0, MAX), "5000" NoEffect "etcd's v2 proxy.";
    "proxy-refresh-interval" Number(0, MAX), "30000" NoEffect "etcd's v2 proxy.";
    "proxy-dial-timeout" Number(0, MAX), "1000" NoEffect "etcd's v2 proxy.";
    "proxy-write-timeout" Number(0, MAX), "5000" NoEffect "etcd's v2 proxy.";
    "proxy-read-timeout" Number(0, MAX), "0" NoEffect "etcd's v2 proxy.";
    "cluster-active-size" Bool, "false" NoEffect "Gone from etcd.";
    "cluster-remove-delay" Bool, "false" NoEffect "Gone from etcd.";
    "cluster-sync-interval" Bool, "false" NoEffect "Gone from etcd.";
    "config" Bool, "false" NoEffect "Gone from etcd.";
    "force" Bool, "false" NoEffect "Gone from etcd.";
    "max-result-buffer" Bool, "false" NoEffect "Gone from etcd.";
    "max-retry-attempts" Bool, "false" NoEffect "Gone from etcd.";
    "peer-heartbeat-interval" Bool, "false" NoEffect "Gone from etcd.";
    "peer-election-timeout" Bool, "false" NoEffect "Gone from etcd.";
    "retry-interval" Bool, "false" NoEffect "Gone from etcd.";
    "snapshot" Bool, "false" NoEffect "Gone from etcd.";
    "v" Bool, "false" NoEffect "Gone from etcd.";
    "vv" Bool, "false" NoEffect "Gone from etcd.";
};

/// The flags of `holdfast dump log`.
pub(crate) const DUMP: &[Flag] = flags! {
    [Member]
    "data-dir" Text, "default.etcd" Works "The data folder of a node that is not running.";
    "wal-dir" Text, "" Works "Where the raft log is, if not inside the data folder.";
    "from" Number(0, MAX), "0" Works "The first log index to print.";
    "to" Number(0, MAX), "9223372036854775807" Works "The last log index to print.";
};

/// The flags of `holdfast dump state`.
pub(crate) const DUMP_STATE: &[Flag] = flags! {
    [Member]
    "data-dir" Text, "default.etcd" Works "The data folder of a node that is not running.";
    "family" Choice(&["all", "meta", "tip", "kv", "log"]), "all" Works "meta: about the database; tip: live keys; kv: all versions; log: changes.";
    "prefix" Text, "" Works "Only keys that begin with this.";
    "from-revision" Number(0, MAX), "0" Works "Only this revision and later ones.";
    "limit" Number(0, MAX), "9223372036854775807" Works "The most items of each family; 0 prints the summary alone.";
    "values" Bool, "false" Works "Print values, too, not only their lengths.";
    "json" Bool, "false" Works "One JSON object per line.";
};

/// The flags of `holdfast snapshot status`.
pub(crate) const SNAPSHOT_STATUS: &[Flag] = flags! {
    [Member]
    "write-out" Choice(&["simple", "table", "json", "fields"]), "simple" Works "How to print it (also -w): simple, table, json or fields.";
};

/// The flags of `holdfast snapshot restore`.
pub(crate) const SNAPSHOT_RESTORE: &[Flag] = flags! {
    [Member]
    "data-dir" Text, "" Works "The data folder to make; <name>.etcd if not given. It must not exist, or be empty.";
    "wal-dir" Text, "" Works "Where to put the raft log, if not inside the data folder.";
    "name" Text, "default" Works "The member's name.";
    "initial-cluster" List, "" Works "The members of the new cluster, as name=url; this one alone if not given.";
    "initial-cluster-token" Text, "etcd-cluster" Works "Keeps apart the ids of clusters with equal addresses.";
    "initial-advertise-peer-urls" List, "http://localhost:2380" Works "What peers will connect to; the member's id is made from it.";
    "skip-hash-check" Bool, "false" Works "Take a file without a digest, or a wrong one: a copy of member/snap/db.";
    "bump-revision" Number(0, MAX), "0" Works "Raise the newest revision by this, so that clients notice the restore.";
    "mark-compacted" Bool, "false" Works "Mark everything up to the raised revision as compacted; goes with --bump-revision.";
    "without-auth" Bool, "false" Works "Take a file with users and roles switched on, which Holdfast does not enforce yet.";
    "initial-memory-map-size" Number(0, MAX), "0" NoEffect "The database is not mapped.";
};

/// The flags of `holdfast snapshot save`.
pub(crate) const SNAPSHOT_SAVE: &[Flag] = flags! {
    [Member]
    "endpoints" Text, "127.0.0.1:2379" Works "The member to take it from: one address.";
};

/// The flags of `holdfast recover`.
pub(crate) const RECOVER: &[Flag] = flags! {
    [Member]
    "data-dir" Text, "default.etcd" Works "The data folder of the surviving member, which must not run.";
    "dry-run" Bool, "false" Works "Say what is in the folder and what would be done; change nothing.";
    "yes" Bool, "false" Works "Do not ask. For scripts, which have no terminal to be asked on.";
};

/// The flags of `holdfast status`.
pub(crate) const STATUS: &[Flag] = flags! {
    [Member]
    "endpoints" List, "127.0.0.1:2379" Works "The client addresses to ask, as host:port,...";
    "cluster" Bool, "false" Works "First ask one of them who the members are, then ask every member.";
    "json" Bool, "false" Works "Print one JSON object instead of a table.";
    "timeout" Duration, "3s" Works "How long an answer may take.";
};

/// The flags of `holdfast kubeconfig`.
pub(crate) const KUBECONFIG: &[Flag] = flags! {
    [Member]
    "data-dir" Text, "default.etcd" Works "The data folder of a node that serves the resource API.";
};

/// The flags of `holdfast dev`.
pub(crate) const DEV: &[Flag] = flags! {
    [Member]
    "nodes" Choice(&["1", "3", "5"]), "3" Works "How many nodes: 1, 3 or 5. Any one of three may fail, any two of five.";
    "data-dir" Text, "holdfast-dev" Works "Where the nodes' folders n1, n2, .. and their logs n1.log, n2.log, .. are kept.";
    "base-port" Number(1, 65_000), "2379" Works "The first node's client port; 10 more for each next; after it: peers, then the resource API.";
    "fresh" Bool, "false" Works "Begin anew: remove the nodes and logs that holdfast dev made in the folder.";
};

/// Names of feature gates; none changes anything yet.
pub(crate) const FEATURE_GATES: &[&str] = &[
    "AllAlpha",
    "AllBeta",
    "StopGRPCServiceOnDefrag",
    "TxnModeWriteWithSharedBuffer",
    "InitialCorruptCheck",
    "CompactHashCheck",
    "LeaseCheckpoint",
    "LeaseCheckpointPersist",
    "SetMemberLocalAddr",
    "FastLeaseKeepAlive",
    "PriorityRequest",
];

/// The flag that a user's spelling means: etcd's former `experimental-` names are the present ones.
pub(crate) fn find(table: &'static [Flag], name: &str) -> Option<usize> {
    let exact = |name: &str| table.iter().position(|flag| flag.name == name);
    exact(name).or_else(|| name.strip_prefix("experimental-").and_then(exact))
}
