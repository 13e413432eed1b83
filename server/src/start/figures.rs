//! The figures of a running node, read from where they are kept at each scrape.

use std::sync::atomic::Ordering;

use prometheus::IntGaugeVec;
use proto::etcd::etcdserverpb::AlarmType;
use store::Alarms;
use store::log::Log;

use crate::config::Config;
use crate::metrics::{self, GrpcMethod, Metrics};
use crate::node::Node;

/// Has the figures that others keep read at each scrape.
pub(super) fn keep_current(metrics: &Metrics, node: &Node, log: Log, config: &Config) {
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
        metrics::set(
            &metrics.memory.with_label_values(&["watch_queues"]),
            node.hub().queued_bytes() as u64,
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
