//! What admission adds to pods: their account and its token, their priority, how long they bear an unwell node.

use machinery::status::Status;
use serde_json::{Value, json};

use crate::resource::registry::Change;
use crate::resource::{Api, meta};

/// What upstream's admission adds to pods.
pub(super) fn creating(
    api: &Api,
    namespace: &str,
    pod: &mut Value,
    change: &mut Change,
) -> Result<(), Status> {
    // A generated name is no name yet.
    let name = meta::text(pod, "name").to_owned();
    if !pod["spec"].is_object() {
        return Ok(());
    }
    give_account(api, namespace, &name, pod, change)?;
    let spec = &mut pod["spec"];
    let class = spec["priorityClassName"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let (priority, preemption) = if class.is_empty() {
        (0, "PreemptLowerPriority".to_owned())
    } else {
        let classes = api.kind("scheduling.k8s.io", "v1", "priorityclasses");
        let found = api.registry.look(&classes.key("", &class))?;
        let found = found.ok_or_else(|| {
            let about = meta::about(api.kind("", "v1", "pods"), &name);
            let why = format!("no PriorityClass with name {class} was found");
            Status::forbidden(about, &why)
        })?;
        let found = found.value(classes)?;
        let preemption = found["preemptionPolicy"]
            .as_str()
            .unwrap_or("PreemptLowerPriority");
        (found["value"].as_i64().unwrap_or(0), preemption.to_owned())
    };
    let spec = &mut pod["spec"];
    spec["priority"] = json!(priority);
    if spec["preemptionPolicy"].is_null() {
        spec["preemptionPolicy"] = json!(preemption);
    }
    tolerate(spec);
    Ok(())
}

/// Where pods find the token of their account.
const TOKENS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The account of a pod must be there, and its token is brought into every container that has none. A pod that
/// mirrors one of its node has none.
fn give_account(
    api: &Api,
    namespace: &str,
    name: &str,
    pod: &mut Value,
    change: &mut Change,
) -> Result<(), Status> {
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return Ok(());
    }
    let spec = &mut pod["spec"];
    let account = spec["serviceAccountName"].as_str();
    let account = account
        .filter(|account| !account.is_empty())
        .unwrap_or("default");
    let account = account.to_owned();
    spec["serviceAccountName"] = json!(account);
    spec["serviceAccount"] = json!(account);
    let accounts = api.kind("", "v1", "serviceaccounts");
    let key = accounts.key(namespace, &account);
    let Some(found) = api.registry.look(&key)? else {
        let about = meta::about(api.kind("", "v1", "pods"), name);
        let why = format!(
            "error looking up service account {namespace}/{account}: serviceaccount {account:?} not found"
        );
        return Err(Status::forbidden(about, &why));
    };
    change.only_at(&key, found.revision);
    let found = found.value(accounts)?;
    let spec = &mut pod["spec"];
    if spec["imagePullSecrets"]
        .as_array()
        .is_none_or(Vec::is_empty)
        && found["imagePullSecrets"].is_array()
    {
        spec["imagePullSecrets"] = found["imagePullSecrets"].clone();
    }
    let said = [
        &spec["automountServiceAccountToken"],
        &found["automountServiceAccountToken"],
    ];
    if said.iter().find_map(|said| said.as_bool()) != Some(false) {
        mount_token(spec);
    }
    Ok(())
}

fn mount_token(spec: &mut Value) {
    let named = spec["volumes"].as_array().into_iter().flatten();
    let mut named = named.filter_map(|volume| volume["name"].as_str());
    let held = named
        .find(|name| name.starts_with("kube-api-access-"))
        .map(str::to_owned);
    let volume = held
        .clone()
        .unwrap_or_else(|| meta::generate_name("kube-api-access-"));
    let mut is_used = false;
    for list in ["initContainers", "containers"] {
        for container in meta::items_mut(spec, list) {
            let mounts = container.entry("volumeMounts").or_insert(Value::Null);
            if mounts.is_null() {
                *mounts = json!([]);
            }
            if let Some(mounts) = mounts.as_array_mut()
                && !mounts.iter().any(|mount| mount["mountPath"] == TOKENS)
            {
                is_used = true;
                mounts.push(json!({ "name": volume, "readOnly": true, "mountPath": TOKENS }));
            }
        }
    }
    if !is_used || held.is_some() {
        return;
    }
    let namespace = json!({ "apiVersion": "v1", "fieldPath": "metadata.namespace" });
    let authority = json!([{ "key": "ca.crt", "path": "ca.crt" }]);
    let source = json!({
        "name": volume,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
                { "configMap": { "name": "kube-root-ca.crt", "items": authority } },
                { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": namespace }] } },
            ],
        },
    });
    match spec["volumes"].as_array_mut() {
        Some(volumes) => volumes.push(source),
        None => spec["volumes"] = json!([source]),
    }
}

/// Pods stay for a while on a node that is not well.
pub(super) fn tolerate(spec: &mut Value) {
    let mut tolerations = spec["tolerations"].as_array().cloned().unwrap_or_default();
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let is_there = tolerations.iter().any(|one| {
            (one["key"] == key || one["key"].is_null())
                && matches!(one["effect"].as_str(), None | Some("NoExecute"))
        });
        if !is_there {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
            }));
        }
    }
    spec["tolerations"] = json!(tolerations);
}
