//! What a node measures, under the names that etcd's alerts and dashboards look for.
//!
//! A metric is here only if its figure is true for this node: what has no meaning outside etcd or Go is left out. On
//! the path of a request only relaxed atomics are touched; everything that can be asked for is asked when scraped.

mod grpc;
mod process;
mod timed;

use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use store::Operations;

use crate::config::{ETCD_CLUSTER_VERSION, ETCD_VERSION, HOLDFAST_VERSION};

pub use self::grpc::{GrpcCall, GrpcMethod};
pub use self::timed::{AnyOpen, Closed, TimedEngine, timed_log};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type Refresh = dyn Fn(&Metrics) + Send + Sync;

/// All metrics of one node, in a registry of their own.
pub struct Metrics {
    registry: Registry,
    grpc: grpc::Table,
    process: process::Process,
    refresh: Mutex<Option<Box<Refresh>>>,

    /// How long the log's syncs take.
    pub wal_fsync: Histogram,
    /// How long the writing of an applied batch to the engine takes.
    pub backend_commit: Histogram,

    /// 1 if a leader is known.
    pub has_leader: IntGauge,
    /// 1 if this member leads.
    pub is_leader: IntGauge,
    /// 1 if this member does not vote.
    pub is_learner: IntGauge,
    /// How often a leader was seen to appear.
    pub leader_changes: IntCounter,
    /// The newest committed log index.
    pub proposals_committed: IntGauge,
    /// The newest applied log index.
    pub proposals_applied: IntGauge,
    /// Commands that wait for their outcome.
    pub proposals_pending: IntGauge,
    /// Commands that failed or whose outcome is unknown.
    pub proposals_failed: IntCounter,
    /// The largest database allowed.
    pub quota_bytes: IntGauge,
    /// Health checks that passed.
    pub health_success: IntCounter,
    /// Health checks that failed.
    pub health_failures: IntCounter,
    /// The last outcome of each check, by type and name.
    pub health_check: IntGaugeVec,
    /// The outcomes of each check, by type, name and status.
    pub health_checks: IntCounterVec,

    /// Alarms that are on, by member and type.
    pub alarms: IntGaugeVec,
    /// Defragmentations that run.
    pub defrag_inflight: IntGauge,
    /// How long they took.
    pub defrag_duration: Histogram,
    /// Bytes free on the disk, by what is kept there.
    pub disk_free: IntGaugeVec,
    /// What must be free there for writes to be accepted.
    pub disk_needed: IntGaugeVec,

    /// Bytes the database takes.
    pub db_size: IntGauge,
    /// Bytes of it that hold live data.
    pub db_size_in_use: IntGauge,
    /// Live keys.
    pub keys: IntGauge,
    /// The newest revision.
    pub current_revision: IntGauge,
    /// The oldest revision that can be read.
    pub compact_revision: IntGauge,
    /// Versions that compaction has removed from this member's disk.
    pub compaction_keys: IntCounter,
    /// When a sweep ended last, in seconds since 1970.
    pub compaction_last: IntGauge,
    /// How long the steps of sweeps took.
    pub compaction_pause: Histogram,
    /// How long whole sweeps took.
    pub compaction_total: Histogram,
    /// The revision before which superseded versions may be dropped.
    pub compaction_horizon: IntGauge,
    /// The revision before which everything is removed.
    pub compaction_swept: IntGauge,

    /// Puts carried out.
    pub puts: IntCounter,
    /// Ranges carried out.
    pub ranges: IntCounter,
    /// Range deletes carried out.
    pub deletes: IntCounter,
    /// Transactions of more than one operation carried out.
    pub txns: IntCounter,
    /// Those operations that took no place in the log; a part of the figures above once they are scraped.
    pub reads: Mutex<Operations>,

    /// Leases granted.
    pub leases_granted: IntCounter,
    /// Leases that ended, for whatever reason.
    pub leases_revoked: IntCounter,
    /// Leases kept alive by this member while it led.
    pub leases_renewed: IntCounter,
    /// Leases that this member found to be over while it led.
    pub leases_expired: IntCounter,

    /// Open watch streams.
    pub watch_streams: IntGauge,
    /// Watchers of all streams.
    pub watchers: IntGauge,
    /// Watchers that are behind.
    pub slow_watchers: IntGauge,
    /// Events queued for watchers.
    pub events: IntCounter,

    /// Bytes that the scrub has read.
    pub scrub_bytes: IntCounter,
    /// How often the scrub has read everything.
    pub scrub_passes: IntCounter,
    /// When it last had.
    pub scrub_last_pass: IntGauge,

    /// Sends to peers that failed, by peer.
    pub peer_sent_failures: IntCounterVec,
    /// Round trips to peers, by peer.
    pub peer_round_trip: HistogramVec,

    /// Older views that are held for the next pages of lists.
    pub list_views: IntGauge,

    /// Bytes of memory by what they are used for.
    pub memory: IntGaugeVec,
    /// What those bytes are held to, by the same names.
    pub memory_budget: IntGaugeVec,
    /// Other figures of the state engine, by name.
    pub engine: IntGaugeVec,
}

impl Metrics {
    /// Every metric at zero. `has_extensive` adds a latency histogram for each gRPC method.
    pub fn new(has_extensive: bool) -> Self {
        let registry = Registry::new();
        let new = Registered(&registry);
        new.constant(
            "etcd_server_version",
            "Which version is running.",
            "server_version",
            ETCD_VERSION,
        );
        new.constant(
            "etcd_cluster_version",
            "Which version the cluster has.",
            "cluster_version",
            ETCD_CLUSTER_VERSION,
        );
        new.constant(
            "holdfast_version",
            "Which version of Holdfast is running.",
            "version",
            HOLDFAST_VERSION,
        );
        let health = "Whether a health check passed the last time.";
        let healths = "How often a health check had an outcome.";
        Self {
            grpc: grpc::Table::new(&new, has_extensive),
            process: process::Process::new(&new),
            refresh: Mutex::default(),
            wal_fsync: new.histogram(
                "etcd_disk_wal_fsync_duration_seconds",
                "The latency distributions of fsync called by WAL.",
            ),
            backend_commit: new.histogram(
                "etcd_disk_backend_commit_duration_seconds",
                "The latency distributions of commit called by backend.",
            ),
            has_leader: new.gauge(
                "etcd_server_has_leader",
                "Whether a leader exists. 1 is existence.",
            ),
            is_leader: new.gauge(
                "etcd_server_is_leader",
                "Whether this member is the leader. 1 if it is.",
            ),
            is_learner: new.gauge(
                "etcd_server_is_learner",
                "Whether this member is a learner. 1 if it is.",
            ),
            leader_changes: new.counter(
                "etcd_server_leader_changes_seen_total",
                "How often a leader appeared.",
            ),
            proposals_committed: new.gauge(
                "etcd_server_proposals_committed_total",
                "The newest committed index.",
            ),
            proposals_applied: new.gauge(
                "etcd_server_proposals_applied_total",
                "The newest applied index.",
            ),
            proposals_pending: new.gauge(
                "etcd_server_proposals_pending",
                "Commands that wait for their outcome.",
            ),
            proposals_failed: new.counter(
                "etcd_server_proposals_failed_total",
                "Commands that failed.",
            ),
            quota_bytes: new.gauge(
                "etcd_server_quota_backend_bytes",
                "The configured size limit of the database.",
            ),
            health_success: new.counter("etcd_server_health_success", "Health checks that passed."),
            health_failures: new
                .counter("etcd_server_health_failures", "Health checks that failed."),
            health_check: new.gauges("etcd_server_healthcheck", health, &["type", "name"]),
            health_checks: new.counters(
                "etcd_server_healthchecks_total",
                healths,
                &["type", "name", "status"],
            ),
            alarms: new.gauges(
                "etcd_debugging_server_alarms",
                "1 for each alarm that is on, by member and type.",
                &["server_id", "alarm_type"],
            ),
            defrag_inflight: new.gauge(
                "etcd_disk_defrag_inflight",
                "1 while the database is being defragmented.",
            ),
            defrag_duration: new.histogram(
                "etcd_disk_backend_defrag_duration_seconds",
                "How long defragmentations took.",
            ),
            disk_free: new.gauges(
                "holdfast_disk_free_bytes",
                "Bytes free on the disk, by what is kept there.",
                &["volume"],
            ),
            disk_needed: new.gauges(
                "holdfast_disk_needed_bytes",
                "Bytes that must be free there for writes to be accepted.",
                &["volume"],
            ),
            db_size: new.gauge(
                "etcd_mvcc_db_total_size_in_bytes",
                "Bytes the database takes.",
            ),
            db_size_in_use: new.gauge(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of live data in it.",
            ),
            keys: new.gauge("etcd_debugging_mvcc_keys_total", "Live keys."),
            current_revision: new.gauge(
                "etcd_debugging_mvcc_current_revision",
                "The newest revision.",
            ),
            compact_revision: new.gauge(
                "etcd_debugging_mvcc_compact_revision",
                "The oldest readable revision.",
            ),
            compaction_keys: new.counter(
                "etcd_debugging_mvcc_db_compaction_keys_total",
                "Versions that compaction has removed.",
            ),
            compaction_last: new.gauge(
                "etcd_debugging_mvcc_db_compaction_last",
                "When the last compaction ended, in seconds since 1970.",
            ),
            compaction_pause: new.histogram_of(
                "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                "How long the steps of compactions took.",
                exponential(1.0, 12),
            ),
            compaction_total: new.histogram_of(
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                "How long compactions took.",
                exponential(100.0, 14),
            ),
            compaction_horizon: new.gauge(
                "holdfast_compaction_horizon",
                "The revision before which superseded versions may be dropped: compacted, durably so, and read by nobody.",
            ),
            compaction_swept: new.gauge(
                "holdfast_compaction_swept",
                "The revision before which everything compacted is removed.",
            ),
            puts: new.counter("etcd_mvcc_put_total", "Puts carried out by this member."),
            ranges: new.counter(
                "etcd_mvcc_range_total",
                "Ranges carried out by this member.",
            ),
            deletes: new.counter(
                "etcd_mvcc_delete_total",
                "Range deletes carried out by this member.",
            ),
            txns: new.counter(
                "etcd_mvcc_txn_total",
                "Transactions of more than one operation carried out by this member.",
            ),
            reads: Mutex::default(),
            leases_granted: new.counter(
                "etcd_debugging_lease_granted_total",
                "Leases granted since this member started.",
            ),
            leases_revoked: new.counter(
                "etcd_debugging_lease_revoked_total",
                "Leases that ended since this member started, revoked or because their time was up.",
            ),
            leases_renewed: new.counter(
                "etcd_debugging_lease_renewed_total",
                "Leases kept alive by this member while it led.",
            ),
            leases_expired: new.counter(
                "etcd_debugging_server_lease_expired_total",
                "Leases that this member found to be over while it led.",
            ),
            watch_streams: new.gauge(
                "etcd_debugging_mvcc_watch_stream_total",
                "Open watch streams.",
            ),
            watchers: new.gauge(
                "etcd_debugging_mvcc_watcher_total",
                "Watchers of all streams.",
            ),
            slow_watchers: new.gauge(
                "etcd_debugging_mvcc_slow_watcher_total",
                "Watchers that are behind.",
            ),
            events: new.counter(
                "etcd_debugging_mvcc_events_total",
                "Events queued for watchers.",
            ),
            scrub_bytes: new.counter(
                "holdfast_scrub_bytes_total",
                "Bytes on disk that were read and checked again in the background.",
            ),
            scrub_passes: new.counter(
                "holdfast_scrub_passes_total",
                "How often everything on disk was read and checked again.",
            ),
            scrub_last_pass: new.gauge(
                "holdfast_scrub_last_pass_timestamp_seconds",
                "When that last ended, in seconds since 1970.",
            ),
            peer_sent_failures: new.counters(
                "etcd_network_peer_sent_failures_total",
                "Sends to a peer that failed.",
                &["To"],
            ),
            peer_round_trip: new.histograms(
                "etcd_network_peer_round_trip_time_seconds",
                "Round trips to a peer.",
                &["To"],
                exponential(0.0001, 16),
            ),
            list_views: new.gauge(
                "holdfast_list_views",
                "Older views that are held for the next pages of lists.",
            ),
            memory: new.gauges(
                "holdfast_memory_bytes",
                "Bytes of memory by what they are used for.",
                &["part"],
            ),
            memory_budget: new.gauges(
                "holdfast_memory_budget_bytes",
                "What those bytes are held to.",
                &["part"],
            ),
            engine: new.gauges(
                "holdfast_engine",
                "Figures of the state engine, by name.",
                &["figure"],
            ),
            registry,
        }
    }

    /// The counters of a gRPC method, to be looked up once: of the service's full name (`etcdserverpb.KV`) and the
    /// method's (`Put`). A method that no table knows gets counters that are shown nowhere.
    pub fn grpc(&self, service: &str, method: &str) -> GrpcMethod {
        self.grpc.method(service, method)
    }

    /// Says under which id this member is shown.
    pub fn set_member(&self, member_id: u64) {
        let id = format!("{member_id:x}");
        Registered(&self.registry).constant(
            "etcd_server_id",
            "This member's id.",
            "server_id",
            &id,
        );
    }

    /// Notes a step of a sweep.
    pub(crate) fn compaction_swept(&self, removed: usize, took: Duration) {
        self.compaction_keys.inc_by(removed as u64);
        self.compaction_pause.observe(took.as_secs_f64() * 1e3);
    }

    /// Notes the end of a sweep.
    pub(crate) fn compaction_ended(&self, took: Duration, wall_ms: u64) {
        self.compaction_total.observe(took.as_secs_f64() * 1e3);
        set(&self.compaction_last, wall_ms / 1000);
    }

    /// Sets what brings the gauges up to date when they are read.
    pub fn refresh_with(&self, refresh: impl Fn(&Self) + Send + Sync + 'static) {
        *self.refresh.lock() = Some(Box::new(refresh));
    }

    /// Forgets that again, with all it holds on to.
    pub fn refresh_no_more(&self) {
        *self.refresh.lock() = None;
    }

    /// Everything, in Prometheus' text format.
    pub fn render(&self) -> String {
        // Under the lock: two scrapes at once would advance a counter twice.
        if let Some(refresh) = &*self.refresh.lock() {
            refresh(self);
        }
        self.process.refresh();
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "cannot write out the metrics");
        }
        text
    }
}

/// Brings a counter to a figure that is counted elsewhere.
pub fn advance(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

/// Sets a gauge to a figure that cannot be negative.
pub fn set(gauge: &IntGauge, to: u64) {
    gauge.set(i64::try_from(to).unwrap_or(i64::MAX));
}

/// Upper bounds that double from `start`.
fn exponential(start: f64, count: usize) -> Vec<f64> {
    std::iter::successors(Some(start), |bound| Some(bound * 2.0))
        .take(count)
        .collect()
}

/// Makes metrics that are in a registry. Names and labels are literals of this module, so none of it can fail.
struct Registered<'a>(&'a Registry);

impl Registered<'_> {
    fn add<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let metric = made.expect("the name and labels are valid");
        self.0
            .register(Box::new(metric.clone()))
            .expect("each metric is made once");
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// With the buckets of etcd's disk histograms: 1 ms to 8 s.
    fn histogram(&self, name: &str, help: &str) -> Histogram {
        self.histogram_of(name, help, exponential(0.001, 14))
    }

    fn histogram_of(&self, name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
        self.add(Histogram::with_opts(
            HistogramOpts::new(name, help).buckets(buckets),
        ))
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: Vec<f64>,
    ) -> HistogramVec {
        self.add(HistogramVec::new(
            HistogramOpts::new(name, help).buckets(buckets),
            labels,
        ))
    }

    /// A gauge that is always 1 and says something by its label. Said twice, the first one stays.
    fn constant(&self, name: &str, help: &str, label: &str, value: &str) {
        let gauge = IntGauge::with_opts(Opts::new(name, help).const_label(label, value));
        let gauge = gauge.expect("the name and label are valid");
        gauge.set(1);
        let _ = self.0.register(Box::new(gauge));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in the rules that the etcd project publishes.
    const ALERTED: &[&str] = &[
        "etcd_server_has_leader",
        "etcd_server_leader_changes_seen_total",
        "grpc_server_handled_total",
        "grpc_server_handling_seconds_bucket",
        "etcd_network_peer_sent_failures_total",
        "etcd_network_peer_round_trip_time_seconds_bucket",
        "etcd_server_proposals_failed_total",
        "etcd_disk_wal_fsync_duration_seconds_bucket",
        "etcd_disk_backend_commit_duration_seconds_bucket",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "etcd_server_quota_backend_bytes",
    ];

    #[test]
    fn every_name_that_etcds_alerts_use_is_served() {
        let metrics = Metrics::new(true);
        metrics.peer_sent_failures.with_label_values(&["b"]).inc();
        metrics
            .peer_round_trip
            .with_label_values(&["b"])
            .observe(0.01);
        let text = metrics.render();
        for name in ALERTED {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name}");
        }
    }

    #[test]
    fn grpc_methods_are_there_at_zero_and_count() {
        let metrics = Metrics::new(false);
        let labels = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
        let started = format!("grpc_server_started_total{{{labels}}}");
        assert!(metrics.render().contains(&format!("{started} 0\n")));

        let put = metrics.grpc("etcdserverpb.KV", "Put");
        let mut call = put.begin();
        put.received(10);
        put.sent(20);
        call.ended(tonic::Code::InvalidArgument);

        let text = metrics.render();
        assert!(text.contains(&format!("{started} 1\n")));
        let handled = r#"grpc_server_handled_total{grpc_code="InvalidArgument",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#;
        assert!(text.contains(handled));
        assert!(text.contains(&format!("grpc_server_msg_received_total{{{labels}}} 1\n")));
        assert!(text.contains(&format!("grpc_server_msg_sent_total{{{labels}}} 1\n")));
        assert!(text.contains("etcd_network_client_grpc_received_bytes_total 10\n"));
        assert!(text.contains("etcd_network_client_grpc_sent_bytes_total 20\n"));
        assert!(
            !text.contains("grpc_server_handling_seconds"),
            "only with extensive metrics"
        );
    }

    #[test]
    fn a_scrape_asks_for_fresh_figures() {
        let metrics = Metrics::new(false);
        metrics.refresh_with(|metrics| {
            advance(&metrics.leader_changes, 3);
            set(&metrics.db_size, 42);
        });
        metrics.set_member(0xab);
        for _ in 0..2 {
            let text = metrics.render();
            assert!(text.contains("\netcd_server_leader_changes_seen_total 3\n"));
            assert!(text.contains("\netcd_mvcc_db_total_size_in_bytes 42\n"));
            assert!(text.contains("\netcd_server_id{server_id=\"ab\"} 1\n"));
        }
    }
}
