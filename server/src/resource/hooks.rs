//! What is special about single kinds, and cannot be said by a row of a table. All of it is here; docs/resource-api.md
//! lists it.

use machinery::kind::Kind;
use machinery::status::Status;
use serde_json::{Value, json};

use super::registry::Change;
use super::{Api, meta, services, stored};

/// Namespaces that are always there.
const LASTING: [&str; 3] = ["default", "kube-system", "kube-public"];

fn is(kind: &Kind, group: &str, name: &str) -> bool {
    kind.group == group && kind.kind == name
}

fn is_namespace(kind: &Kind) -> bool {
    is(kind, "", "Namespace")
}

fn is_pod(kind: &Kind) -> bool {
    is(kind, "", "Pod")
}

fn is_service(kind: &Kind) -> bool {
    is(kind, "", "Service")
}

/// The fields that a part of an object is.
pub(super) fn parts(subresource: &str) -> &'static [&'static str] {
    match subresource {
        "finalize" | "ephemeralcontainers" | "resize" => &["spec"],
        "binding" => &["spec", "status"],
        _ => &["status"],
    }
}

/// What an object needs to be created, and what is created with it.
pub(super) fn creating(
    api: &Api,
    kind: &Kind,
    namespace: &str,
    object: &mut Value,
    change: &mut Change,
) -> Result<(), Status> {
    if kind.namespaced {
        in_namespace(api, kind, namespace, object, change)?;
    }
    if is_pod(kind) {
        admit_pod(api, namespace, object, change)?;
    }
    if is_service(kind) {
        services::creating(api, object, change)?;
    }
    machinery::defaults::prepare_create(kind, object);
    if is_custom_definition(kind) {
        say_without_effect(object, api.registry.now());
    }
    if is_namespace(kind) {
        furnish(api, meta::text(object, "name"), change)?;
    }
    Ok(())
}

/// A namespace comes with the service account that pods have if they name none.
fn furnish(api: &Api, namespace: &str, change: &mut Change) -> Result<(), Status> {
    let accounts = api.kind("", "v1", "serviceaccounts");
    let key = accounts.key(namespace, "default");
    if api.registry.look(&key)?.is_none() {
        let account = json!({
            "kind": "ServiceAccount",
            "apiVersion": "v1",
            "metadata": {
                "name": "default",
                "namespace": namespace,
                "uid": uuid::Uuid::new_v4().to_string(),
                "creationTimestamp": meta::timestamp(api.registry.now()),
            },
        });
        change.only_at(&key, 0);
        change.put(&key, stored::keep(accounts, &account), 0);
    }
    Ok(())
}

/// The namespace of a new object is there, and not about to go.
fn in_namespace(
    api: &Api,
    kind: &Kind,
    namespace: &str,
    object: &Value,
    change: &mut Change,
) -> Result<(), Status> {
    let namespaces = api.kind("", "v1", "namespaces");
    let key = namespaces.key("", namespace);
    let found = api.registry.look(&key)?;
    let found = found.ok_or_else(|| Status::not_found(meta::about(namespaces, namespace)))?;
    let held = found.value(namespaces)?;
    if meta::is_being_deleted(&held) || held["status"]["phase"] == "Terminating" {
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let about = meta::about(kind, meta::text(object, "name"));
        let message = format!("namespace {namespace} is being terminated");
        return Err(Status::forbidden(about, &why).because(
            "NamespaceTerminating",
            message,
            "metadata.namespace",
        ));
    }
    change.only_at(&key, found.revision);
    Ok(())
}

/// What upstream's admission adds to pods.
fn admit_pod(
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
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let Some(container) = container.as_object_mut() else {
                continue;
            };
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
fn tolerate(spec: &mut Value) {
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

/// What an update may leave out, since the server wrote it.
pub(super) fn merging(kind: &Kind, old: &Value, new: &mut Value, subresource: &str) {
    if is_service(kind) && subresource.is_empty() {
        services::merging(old, new);
    }
    // Clients need not know what admission added.
    if is_pod(kind) && subresource.is_empty() && new["spec"].is_object() {
        for name in [
            "nodeName",
            "serviceAccount",
            "serviceAccountName",
            "priority",
            "preemptionPolicy",
        ] {
            if new["spec"][name].is_null() && !old["spec"][name].is_null() {
                new["spec"][name] = old["spec"][name].clone();
            }
        }
        tolerate(&mut new["spec"]);
    }
}

/// What is written or freed with an update.
pub(super) fn updating(
    api: &Api,
    kind: &Kind,
    old: &Value,
    new: &mut Value,
    change: &mut Change,
) -> Result<(), Status> {
    if is_service(kind) {
        services::updating(api, old, new, change)?;
    }
    Ok(())
}

/// What goes with an object that is deleted.
pub(super) fn deleting(kind: &Kind, object: &Value, change: &mut Change) {
    if is_service(kind) {
        services::deleting(object, change);
    }
}

/// Whether something still has to happen before an object may go.
pub(super) fn is_held(kind: &Kind, object: &Value) -> bool {
    let waits = is_pod(kind)
        && object["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or(0)
            > 0;
    let is_full = is_namespace(kind)
        && object["spec"]["finalizers"]
            .as_array()
            .is_some_and(|list| !list.is_empty());
    waits || is_full || !meta::finalizers(object).is_empty()
}

fn is_custom_definition(kind: &Kind) -> bool {
    is(kind, "apiextensions.k8s.io", "CustomResourceDefinition")
}

/// Custom kinds are kept, and not served yet: whoever waits for one is told so.
fn say_without_effect(definition: &mut Value, now: i64) {
    let message =
        "this server keeps custom resource definitions, but does not serve their kinds yet";
    let condition = |what: &str, status: &str| {
        json!({
            "type": what, "status": status, "reason": "NotServed", "message": message,
            "lastTransitionTime": meta::timestamp(now),
        })
    };
    let names = definition["spec"]["names"].clone();
    let mut stored = definition["status"]["storedVersions"].take();
    if !stored.is_array() {
        stored = json!([]);
    }
    definition["status"] = json!({
        "conditions": [condition("NamesAccepted", "True"), condition("Established", "False")],
        "acceptedNames": names,
        "storedVersions": stored,
    });
}

/// Whether two versions of an object count as one of what is wanted, beyond all fields but metadata and status.
pub(super) fn counts_same(kind: &Kind, old: &Value, new: &Value) -> bool {
    !is(kind, "apps", "Deployment")
        || old["metadata"]["annotations"] == new["metadata"]["annotations"]
}

/// Whether anybody may delete an object.
pub(super) fn may_delete(kind: &Kind, object: &Value) -> Result<(), Status> {
    let name = meta::text(object, "name");
    if is_namespace(kind) && LASTING.contains(&name) {
        let about = meta::about(kind, name);
        return Err(Status::forbidden(
            about,
            "this namespace may not be deleted",
        ));
    }
    if is_namespace(kind) && meta::is_being_deleted(object) {
        let why = "The system is ensuring all content is removed from this namespace.  Upon completion, this \
                   namespace will automatically be purged by the system.";
        return Err(Status::conflict(meta::about(kind, name), why));
    }
    Ok(())
}

/// Seconds that an object still lives after its deletion began.
pub(super) fn grace(kind: &Kind, object: &Value, asked: Option<i64>) -> i64 {
    if !kind.graceful {
        return 0;
    }
    let is_finished = matches!(
        object["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    );
    let is_scheduled = object["spec"]["nodeName"]
        .as_str()
        .is_some_and(|node| !node.is_empty());
    if !is_scheduled || is_finished {
        return 0;
    }
    let own = object["spec"]["terminationGracePeriodSeconds"]
        .as_i64()
        .unwrap_or(30);
    match asked.unwrap_or(own) {
        seconds if seconds < 0 => 1,
        seconds => seconds,
    }
}

/// What else shows that the deletion of an object has begun.
pub(super) fn marking(kind: &Kind, object: &mut Value) {
    if is_namespace(kind) {
        object["status"]["phase"] = json!("Terminating");
    }
}
