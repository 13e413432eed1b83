//! Cells of nodes, quotas, roles and of how the API itself grows.

use std::collections::BTreeSet;

use serde_json::Value;

use super::expression::Call;
use super::functions::{amount, condition_with_reason};
use super::tree::{condition, is_empty, is_true, items, sorted_fields, text};

/// `Ready`, `NotReady,SchedulingDisabled` and the like.
pub(super) fn node_status(call: &Call<'_>) -> Option<Value> {
    let node = call.object();
    // As in a map, the last condition of a type counts.
    let conditions = items(&node["status"]["conditions"]).iter().rev();
    let ready = conditions
        .filter(|condition| text(&condition["type"]) == "Ready")
        .map(|condition| text(&condition["status"]) == "True")
        .next();
    let mut status = match ready {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if is_true(&node["spec"]["unschedulable"]) {
        status.push_str(",SchedulingDisabled");
    }
    Some(status.into())
}

/// The roles that labels give a node.
pub(super) fn node_roles(call: &Call<'_>) -> Option<Value> {
    let labels = call.object()["metadata"]["labels"].as_object()?;
    let role = |(name, value): (&String, &Value)| match name.as_str() {
        "kubernetes.io/role" => Some(text(value).to_owned()),
        name => name
            .strip_prefix("node-role.kubernetes.io/")
            .map(str::to_owned),
    };
    let roles: BTreeSet<String> = labels
        .iter()
        .filter_map(role)
        .filter(|role| !role.is_empty())
        .collect();
    Some(Vec::from_iter(roles).join(",").into())
}

/// The kernel of a node and what it was built for.
pub(super) fn node_kernel(call: &Call<'_>) -> Option<Value> {
    let node = &call.object()["status"]["nodeInfo"];
    let kernel = match text(&node["kernelVersion"]) {
        "" => "<unknown>",
        version => version,
    };
    Some(match text(&node["architecture"]) {
        "" => kernel.into(),
        architecture => format!("{kernel} ({architecture})").into(),
    })
}

/// Of each resource that is counted how much is used and how much may be: those that begin with `limits.` if the word
/// is `limits`, all others if it is not.
pub(super) fn quota(call: &Call<'_>) -> Option<Value> {
    let wants_limits = call.words().next() == Some("limits");
    let status = &call.object()["status"];
    let lines = sorted_fields(&status["hard"]).into_iter();
    let lines = lines
        .filter(|(resource, _)| resource.starts_with("limits.") == wants_limits)
        .map(|(resource, bound)| {
            let used = amount(&status["used"][resource]);
            format!("{resource}: {used}/{}", amount(bound))
        });
    Some(lines.collect::<Vec<_>>().join(", ").into())
}

/// The service accounts among subjects: `default/web`.
pub(super) fn accounts(call: &Call<'_>) -> Option<Value> {
    let subjects = items(call.tree(0)).iter();
    let accounts = subjects
        .filter(|subject| text(&subject["kind"]) == "ServiceAccount")
        .map(|subject| format!("{}/{}", text(&subject["namespace"]), text(&subject["name"])));
    Some(accounts.collect::<Vec<_>>().join(", ").into())
}

/// Whether a component is healthy.
pub(super) fn healthy(call: &Call<'_>) -> Option<Value> {
    let status = match condition(call.tree(0), "Healthy") {
        None => "Unknown",
        Some(condition) if text(&condition["status"]) == "True" => "Healthy",
        Some(_) => "Unhealthy",
    };
    Some(status.into())
}

/// What has come of a request for a certificate.
pub(super) fn signing_condition(call: &Call<'_>) -> Option<Value> {
    let status = &call.object()["status"];
    let has = |name| condition(&status["conditions"], name).is_some();
    let mut parts = vec![if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }];
    if has("Failed") {
        parts.push("Failed");
    }
    if !is_empty(&status["certificate"]) {
        parts.push("Issued");
    }
    Some(parts.join(",").into())
}

/// Whether a version of the API is there, and if not, why.
pub(super) fn availability(call: &Call<'_>) -> Option<Value> {
    Some(condition_with_reason(call.tree(0), "Available").into())
}

/// The versions of a custom kind that are served: `v1(storage),v1beta1`.
pub(super) fn served_versions(call: &Call<'_>) -> Option<Value> {
    let served = items(call.tree(0))
        .iter()
        .filter(|version| is_true(&version["served"]));
    let mut names: Vec<String> = served
        .map(|version| match is_true(&version["storage"]) {
            true => format!("{}(storage)", text(&version["name"])),
            false => text(&version["name"]).to_owned(),
        })
        .collect();
    names.sort_unstable();
    Some(names.join(",").into())
}
