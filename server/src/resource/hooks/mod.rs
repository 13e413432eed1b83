//! What is special about single kinds, and cannot be said by a row of a table. All of it is here; docs/resource-api.md
//! lists it.

mod pods;
mod quotas;

use machinery::kind::Kind;
use machinery::status::Status;
use serde_json::{Value, json};

use super::registry::Change;
use super::{Api, meta, services, stored};

pub(super) use self::quotas::recounted;

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

fn is_claim(kind: &Kind) -> bool {
    is(kind, "", "PersistentVolumeClaim")
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
        pods::creating(api, namespace, object, change)?;
        quotas::limit(api, namespace, object)?;
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
        pods::tolerate(&mut new["spec"]);
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
    let is_resized = (is_pod(kind) && resources(old) != resources(new))
        || (is_claim(kind) && old["spec"]["resources"] != new["spec"]["resources"]);
    if is_resized && !meta::is_being_deleted(old) {
        quotas::check_limits(api, kind, new)?;
    }
    if is_service(kind) || is_pod(kind) || is_claim(kind) {
        quotas::charge(api, kind, Some(old), new, change)?;
    }
    Ok(())
}

/// What the containers of a pod need.
fn resources(pod: &Value) -> Vec<&Value> {
    let lists = ["initContainers", "containers"].map(|list| &pod["spec"][list]);
    let containers = lists.into_iter().filter_map(Value::as_array).flatten();
    containers
        .map(|container| &container["resources"])
        .collect()
}

/// What a valid new object must still pass: limits and quotas of its namespace.
pub(super) fn charging(
    api: &Api,
    kind: &Kind,
    object: &Value,
    change: &mut Change,
) -> Result<(), Status> {
    if !kind.namespaced {
        return Ok(());
    }
    if is_pod(kind) || is_claim(kind) {
        quotas::check_limits(api, kind, object)?;
    }
    quotas::charge(api, kind, None, object, change)
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
