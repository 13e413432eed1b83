//! Events: of `events.k8s.io/v1` and of the core, the same fields by other names.

use serde_json::Value;

use super::rename;

/// Names in `events.k8s.io/v1`, and in the core. All others are the same.
const NAMES: [(&str, &str); 7] = [
    ("deprecatedCount", "count"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedSource", "source"),
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
];

pub(super) fn to_core(event: &mut Value) {
    rename(event, NAMES);
}

pub(super) fn from_core(event: &mut Value) {
    rename(event, NAMES.map(|(name, of_core)| (of_core, name)));
}
