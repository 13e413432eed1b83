//! The functions that columns may use: those here make one cell of a few values, whatever kind they are of; what only
//! one kind needs is in `pods`, `workloads`, `networks`, `storage` and `cluster`.

use serde_json::Value;

use super::expression::{Call, Function};
use super::tree::{condition, first_few, has_condition, is_true, items, printed, size, text};
use super::{age, cluster, networks, pods, selectors, storage, workloads};

/// A function by its name in columns.yaml.
pub(super) fn named(name: &str) -> Option<Function> {
    Some(match name {
        "age" => age,
        "since" => since,
        "span" => span,
        "duration" => duration,
        "count" => count,
        "join" => join,
        "list" => list,
        "firstThree" => first_three,
        "slash" => slash,
        "dots" => dots,
        "ratio" => ratio,
        "object" => object,
        "trim" => trim,
        "print" => print,
        "quantity" => quantity,
        "flag" => flag,
        "phase" => phase,
        "controller" => controller,
        "isTrue" => is_condition_true,
        "lastCondition" => last_condition,
        "lastTrueCondition" => last_true_condition,
        "labels" => selectors::labels,
        "selector" => selectors::selector,
        "parameters" => selectors::parameters,
        "podReady" => pods::ready,
        "podStatus" => pods::status,
        "podRestarts" => pods::restarts,
        "podGates" => pods::gates,
        "groupPolicy" => pods::group_policy,
        "groupStatus" => pods::group_status,
        "jobStatus" => workloads::job_status,
        "jobCompletions" => workloads::job_completions,
        "scalingTargets" => workloads::scaling_targets,
        "servicePorts" => networks::service_ports,
        "externalAddresses" => networks::external_addresses,
        "endpoints" => networks::endpoints,
        "slicePorts" => networks::slice_ports,
        "hosts" => networks::hosts,
        "balancers" => networks::balancers,
        "ingressPorts" => networks::ingress_ports,
        "classParameters" => networks::class_parameters,
        "addressParent" => networks::address_parent,
        "accessModes" => storage::access_modes,
        "claimCapacity" => storage::claim_capacity,
        "claimModes" => storage::claim_modes,
        "storageClassName" => storage::class_name,
        "claimState" => storage::claim_state,
        "nodeStatus" => cluster::node_status,
        "nodeRoles" => cluster::node_roles,
        "nodeKernel" => cluster::node_kernel,
        "quota" => cluster::quota,
        "accounts" => cluster::accounts,
        "healthy" => cluster::healthy,
        "signingCondition" => cluster::signing_condition,
        "availability" => cluster::availability,
        "servedVersions" => cluster::served_versions,
        _ => return None,
    })
}

/// How long ago a time was; `<unknown>` without one.
fn age(call: &Call<'_>) -> Option<Value> {
    Some(age::since(call.text(0), call.context.now).into())
}

/// The same, but nothing without a time.
fn since(call: &Call<'_>) -> Option<Value> {
    call.value(0)?;
    age(call)
}

/// From one time to another, or to now; nothing without the first.
fn span(call: &Call<'_>) -> Option<Value> {
    let start = age::seconds(call.text(0))?;
    let end = age::seconds(call.text(1)).unwrap_or(call.context.now);
    Some(age::human(end.saturating_sub(start)).into())
}

/// A number of seconds.
fn duration(call: &Call<'_>) -> Option<Value> {
    Some(age::human(call.value(0)?.as_i64()?).into())
}

/// How many items or fields all of the arguments have together.
fn count(call: &Call<'_>) -> Option<Value> {
    let sizes = call.values().into_iter().map(size);
    Some(sizes.sum::<usize>().into())
}

/// All values with `,` between them.
fn join(call: &Call<'_>) -> Option<Value> {
    joined(call, ",")
}

/// All values with `, ` between them.
fn list(call: &Call<'_>) -> Option<Value> {
    joined(call, ", ")
}

/// All values with `.` between them.
fn dots(call: &Call<'_>) -> Option<Value> {
    joined(call, ".")
}

fn joined(call: &Call<'_>, separator: &str) -> Option<Value> {
    let all: Vec<String> = call.values().into_iter().map(printed).collect();
    Some(all.join(separator).into())
}

/// The first three values with `,` between them, and how many there are more.
fn first_three(call: &Call<'_>) -> Option<Value> {
    let all = call.values().into_iter().map(printed);
    Some(first_few(all, 3).into())
}

/// Two texts with `/` between them; nothing if both are missing.
fn slash(call: &Call<'_>) -> Option<Value> {
    let (first, second) = (call.text(0), call.text(1));
    (!first.is_empty() || !second.is_empty()).then(|| format!("{first}/{second}").into())
}

/// Two numbers with `/` between them.
fn ratio(call: &Call<'_>) -> Option<Value> {
    Some(format!("{}/{}", call.number(0), call.number(1)).into())
}

/// A kind and a name as kubectl takes them: `pod/web`.
fn object(call: &Call<'_>) -> Option<Value> {
    let kind = call.text(0).to_lowercase();
    Some(match call.text(1) {
        "" => kind.into(),
        name => format!("{kind}/{name}").into(),
    })
}

/// A text without blanks around it.
fn trim(call: &Call<'_>) -> Option<Value> {
    Some(call.text(0).trim().into())
}

/// A value as text, be it a number or text.
fn print(call: &Call<'_>) -> Option<Value> {
    Some(printed(call.value(0)?).into())
}

/// An amount; `0` without one.
fn quantity(call: &Call<'_>) -> Option<Value> {
    Some(amount(call.tree(0)).into())
}

/// An amount as text; no amount is none at all.
pub(super) fn amount(value: &Value) -> String {
    match value {
        Value::Null => "0".to_owned(),
        other => printed(other),
    }
}

/// `True` or `False`.
fn flag(call: &Call<'_>) -> Option<Value> {
    let is_set = call.value(0)?.as_bool()?;
    Some(if is_set { "True" } else { "False" }.into())
}

/// A phase, or `Terminating` of an object that is on its way out.
fn phase(call: &Call<'_>) -> Option<Value> {
    match &call.object()["metadata"]["deletionTimestamp"] {
        Value::Null => call.value(0).cloned(),
        _ => Some("Terminating".into()),
    }
}

/// What controls the object: `replicaset.apps/web`.
fn controller(call: &Call<'_>) -> Option<Value> {
    let owners = &call.object()["metadata"]["ownerReferences"];
    let owner = items(owners)
        .iter()
        .find(|owner| is_true(&owner["controller"]))?;
    let mut kind = text(&owner["kind"]).to_lowercase();
    if let Some((group, _)) = text(&owner["apiVersion"]).split_once('/') {
        kind = format!("{kind}.{}", group.to_lowercase());
    }
    Some(format!("{kind}/{}", text(&owner["name"])).into())
}

/// Whether a condition is `True`.
fn is_condition_true(call: &Call<'_>) -> Option<Value> {
    let name = call.words().next()?;
    Some(has_condition(call.tree(0), name).into())
}

/// The last condition that is one of those named.
fn last_condition(call: &Call<'_>) -> Option<Value> {
    last_of(call, |_| true)
}

/// The last condition that is one of those named and `True`.
fn last_true_condition(call: &Call<'_>) -> Option<Value> {
    last_of(call, |condition| text(&condition["status"]) == "True")
}

fn last_of(call: &Call<'_>, counts: fn(&Value) -> bool) -> Option<Value> {
    let mut conditions = items(call.tree(0)).iter().rev();
    let is_named = |condition: &&Value| {
        let name = text(&condition["type"]);
        counts(condition) && call.words().any(|word| word == name)
    };
    Some(conditions.find(is_named)?["type"].clone())
}

/// What a condition says, and why if it is not `True`; `Unknown` if there is no such condition.
pub(super) fn condition_with_reason(conditions: &Value, name: &str) -> String {
    let Some(condition) = condition(conditions, name) else {
        return "Unknown".to_owned();
    };
    match (text(&condition["status"]), text(&condition["reason"])) {
        (status, "") | (status @ "True", _) => status.to_owned(),
        (status, reason) => format!("{status} ({reason})"),
    }
}
