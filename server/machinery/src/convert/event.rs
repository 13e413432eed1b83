//! Events: of `events.k8s.io/v1` and of the core, the same fields by other names.

use serde_json::Value;

use super::rename;

/// Names in `events.k8s.io/v1`, and in the core. All others are the same.
pub(crate) const NAMES: [(&str, &str); 7] = [
    ("deprecatedCount", "count"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedSource", "source"),
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
];

/// Fields by their names in the core, which says them even if they are empty; `events.k8s.io/v1` does not.
const ALWAYS_IN_CORE: [&str; 2] = ["reportingComponent", "reportingInstance"];

pub(super) fn to_core(event: &mut Value) {
    rename(event, NAMES);
    if let Some(fields) = event.as_object_mut() {
        for name in ALWAYS_IN_CORE {
            fields.entry(name).or_insert_with(|| "".into());
        }
    }
}

pub(super) fn from_core(event: &mut Value) {
    if let Some(fields) = event.as_object_mut() {
        for name in ALWAYS_IN_CORE {
            if fields.get(name).is_some_and(|value| value == "") {
                fields.remove(name);
            }
        }
    }
    rename(event, NAMES.map(|(name, of_core)| (of_core, name)));
}
