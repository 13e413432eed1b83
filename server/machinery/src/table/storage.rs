//! Cells of volumes, claims and classes.

use std::cmp::Reverse;

use serde_json::Value;

use super::age;
use super::expression::Call;
use super::functions::amount;
use super::tree::{items, text};

/// How people shorten modes of access, in the order in which they are listed.
const MODES: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];

/// Either of these marks the storage class that is the default.
const IS_DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// `RWO,ROX`.
pub(super) fn access_modes(call: &Call<'_>) -> Option<Value> {
    Some(short_modes(call.tree(0)).into())
}

fn short_modes(modes: &Value) -> String {
    let has = |mode: &str| items(modes).iter().any(|one| text(one) == mode);
    let known = MODES.iter().filter(|(mode, _)| has(mode));
    let short: Vec<&str> = known.map(|(_, short)| *short).collect();
    short.join(",")
}

/// The capacity of the volume that a claim has got.
pub(super) fn claim_capacity(call: &Call<'_>) -> Option<Value> {
    let claim = bound(call)?;
    Some(amount(&claim["status"]["capacity"]["storage"]).into())
}

/// How the volume that a claim has got may be used.
pub(super) fn claim_modes(call: &Call<'_>) -> Option<Value> {
    let claim = bound(call)?;
    Some(short_modes(&claim["status"]["accessModes"]).into())
}

fn bound<'a>(call: &Call<'a>) -> Option<&'a Value> {
    let claim = call.object();
    let is_bound = !text(&claim["spec"]["volumeName"]).is_empty();
    is_bound.then_some(claim)
}

/// The name of a storage class, and in a list whether it is the default.
pub(super) fn class_name(call: &Call<'_>) -> Option<Value> {
    let name = text(&call.object()["metadata"]["name"]);
    let list = call.context.list;
    let default = list
        .default_class
        .get_or_init(|| default_class(list.objects).map(str::to_owned));
    Some(match default {
        Some(default) if default == name => format!("{name} (default)").into(),
        _ => name.into(),
    })
}

/// Of all classes that are marked as the default the newest; of those that are as old the first by name.
fn default_class(classes: &[Value]) -> Option<&str> {
    let is_marked = |class: &&Value| {
        let annotations = &class["metadata"]["annotations"];
        IS_DEFAULT
            .iter()
            .any(|mark| text(&annotations[*mark]) == "true")
    };
    let rank = |class: &&Value| {
        let created = age::seconds(text(&class["metadata"]["creationTimestamp"]));
        (
            Reverse(created),
            text(&class["metadata"]["name"]).to_owned(),
        )
    };
    let default = classes.iter().filter(is_marked).min_by_key(rank)?;
    Some(text(&default["metadata"]["name"]))
}

/// What has come of a claim for devices.
pub(super) fn claim_state(call: &Call<'_>) -> Option<Value> {
    let claim = call.object();
    let is_deleted = !claim["metadata"]["deletionTimestamp"].is_null();
    let is_allocated = !claim["status"]["allocation"].is_null();
    let is_reserved = is_allocated && !items(&claim["status"]["reservedFor"]).is_empty();
    let states = [
        ("deleted", is_deleted),
        ("pending", !is_allocated && !is_deleted),
        ("allocated", is_allocated),
        ("reserved", is_reserved),
    ];
    let holding = states.iter().filter(|(_, holds)| *holds);
    let holding: Vec<&str> = holding.map(|(state, _)| *state).collect();
    Some(holding.join(",").into())
}
