//! Defaults that rows of the table cannot say: values that come from other fields.
//!
//! Each rule is for the objects of one definition. It runs after the rows of that object, and before its fields are
//! visited, so that fields of fields are still as they came in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::convert;

use super::image::default_pull_policy;
use super::{object_at, object_in, object_of, objects_in, text_at};

type Object = Map<String, Value>;

/// Changes an object.
pub(super) type Rule = fn(&mut Object);

/// All rules by the names of definitions.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("apps.v1.StatefulSetSpec", claim_templates),
    ("autoscaling.v1.HorizontalPodAutoscaler", autoscaler),
    ("batch.v1.Job", job),
    ("core.v1.Container", container),
    ("core.v1.EphemeralContainer", container),
    ("core.v1.ImageVolumeSource", image_volume),
    ("core.v1.LimitRangeItem", limit_range_item),
    ("core.v1.Namespace", namespace),
    ("core.v1.NodeSpec", node_spec),
    ("core.v1.NodeStatus", node_status),
    ("core.v1.Pod", pod),
    ("core.v1.PodSpec", pod_spec),
    ("core.v1.PodStatus", pod_status),
    ("core.v1.ReplicationController", replication_controller),
    ("core.v1.Secret", secret),
    ("core.v1.Service", service),
    ("core.v1.ServicePort", service_port),
    ("core.v1.ServiceSpec", service_spec),
    ("core.v1.Volume", volume),
    (CUSTOM_KIND, custom_kind),
];

const CUSTOM_KIND: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";

/// What a Job's pods are told apart by.
const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";

/// Sets a field where nothing is.
fn default(object: &mut Object, name: &str, value: impl FnOnce() -> Value) {
    if !object.contains_key(name) {
        object.insert(name.to_owned(), value());
    }
}

/// Whether a field has no entries or items, or is not there.
fn has_none(object: &Object, name: &str) -> bool {
    match object.get(name) {
        None | Some(Value::Null) => true,
        Some(Value::Object(entries)) => entries.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

/// Entries of one map that another does not have are added to it; the other is made if there is something to add.
fn default_entries(object: &mut Object, from: &str, to: &str) {
    let Some(entries) = object_at(object, from).cloned() else {
        return;
    };
    if entries.is_empty() {
        return;
    }
    if let Some(target) = object_of(object, to) {
        for (name, value) in entries {
            target.entry(name).or_insert(value);
        }
    }
}

/// Upstream writes what claims are, as it did before 1.17.
fn claim_templates(spec: &mut Object) {
    for template in objects_in(spec, "volumeClaimTemplates") {
        template.insert("apiVersion".to_owned(), Value::from("v1"));
        template.insert("kind".to_owned(), Value::from("PersistentVolumeClaim"));
    }
}

/// An autoscaler that looks at nothing looks at the CPUs. What the older version has no field for is in an annotation.
fn autoscaler(autoscaler: &mut Object) {
    if convert::has_other_metrics(autoscaler) {
        return;
    }
    if let Some(spec) = object_of(autoscaler, "spec") {
        default(spec, "targetCPUUtilizationPercentage", || json!(80));
    }
}

/// A Job selects its pods by its own uid, unless somebody else takes care of that; and it has the labels of its pods
/// if it has none.
fn job(job: &mut Object) {
    let of_metadata =
        |field| object_at(job, "metadata").map_or("", |metadata| text_at(metadata, field));
    let (name, uid) = (
        of_metadata("name").to_owned(),
        of_metadata("uid").to_owned(),
    );
    let Some(spec) = object_in(job, "spec") else {
        return;
    };
    if !uid.is_empty() && spec.get("manualSelector") == Some(&Value::Bool(false)) {
        let labels = object_of(spec, "template")
            .and_then(|template| object_of(template, "metadata"))
            .and_then(|metadata| object_of(metadata, "labels"));
        if let Some(labels) = labels {
            for (label, value) in [
                ("job-name", &name),
                ("batch.kubernetes.io/job-name", &name),
                ("controller-uid", &uid),
                (CONTROLLER_UID, &uid),
            ] {
                default(labels, label, || Value::from(value.as_str()));
            }
        }
        let selected =
            object_of(spec, "selector").and_then(|selector| object_of(selector, "matchLabels"));
        if let Some(selected) = selected {
            default(selected, CONTROLLER_UID, || Value::from(uid));
        }
    }
    labels_of_template(job);
}

/// Labels of the pods, if there are any, for an object that has none.
fn labels_of_template(object: &mut Object) {
    let labels = template_labels(object);
    if let (Some(labels), Some(metadata)) = (labels, object_of(object, "metadata"))
        && has_none(metadata, "labels")
    {
        metadata.insert("labels".to_owned(), Value::Object(labels));
    }
}

fn template_labels(object: &Object) -> Option<Object> {
    let template = object_at(object_at(object, "spec")?, "template")?;
    let labels = object_at(object_at(template, "metadata")?, "labels")?;
    (!labels.is_empty()).then(|| labels.clone())
}

fn container(container: &mut Object) {
    default_pull_policy(container, "image", "imagePullPolicy");
}

fn image_volume(volume: &mut Object) {
    default_pull_policy(volume, "reference", "pullPolicy");
}

/// Limits of a container: what is missing follows from what is there, the limit from the most, the request from the
/// limit or else from the least.
fn limit_range_item(item: &mut Object) {
    if text_at(item, "type") == "Container" {
        default_entries(item, "max", "default");
        default_entries(item, "default", "defaultRequest");
        default_entries(item, "min", "defaultRequest");
    }
}

fn namespace(namespace: &mut Object) {
    let Some(metadata) = object_in(namespace, "metadata") else {
        return;
    };
    let name = text_at(metadata, "name").to_owned();
    if !name.is_empty()
        && let Some(labels) = object_of(metadata, "labels")
    {
        labels.insert("kubernetes.io/metadata.name".to_owned(), Value::from(name));
    }
}

/// The range and the first of all ranges are the same; the single one wins.
fn node_spec(spec: &mut Object) {
    let first = spec
        .get("podCIDRs")
        .and_then(|ranges| ranges.get(0))
        .cloned();
    match (text_at(spec, "podCIDR"), first) {
        ("", Some(Value::String(first))) if !first.is_empty() => {
            spec.insert("podCIDR".to_owned(), Value::from(first));
        }
        ("", _) => {}
        (single, first) if first.as_ref().and_then(Value::as_str) != Some(single) => {
            let ranges = json!([single]);
            spec.insert("podCIDRs".to_owned(), ranges);
        }
        _ => {}
    }
}

fn node_status(status: &mut Object) {
    if let Some(capacity) = status.get("capacity").cloned() {
        default(status, "allocatable", || capacity);
    }
}

fn pod(pod: &mut Object) {
    let Some(spec) = object_in(pod, "spec") else {
        return;
    };
    // Only in pods: templates keep what was written.
    let grace = spec
        .get("terminationGracePeriodSeconds")
        .and_then(Value::as_i64);
    if grace.is_some_and(|seconds| seconds < 0) {
        spec.insert("terminationGracePeriodSeconds".to_owned(), Value::from(1));
    }
    let is_on_host = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["containers", "initContainers"] {
        for container in objects_in(spec, list) {
            if let Some(resources) = object_in(container, "resources") {
                default_entries(resources, "limits", "requests");
            }
            if is_on_host {
                objects_in(container, "ports").for_each(host_port);
            }
        }
    }
}

/// On the host's network a port is the same inside and outside.
fn host_port(port: &mut Object) {
    let is_open = port
        .get("hostPort")
        .and_then(Value::as_i64)
        .is_some_and(|port| port != 0);
    if let (false, Some(inside)) = (is_open, port.get("containerPort").cloned()) {
        port.insert("hostPort".to_owned(), inside);
    }
}

/// The name of the account is there twice, once as clients had it long ago.
fn pod_spec(spec: &mut Object) {
    let deprecated = "serviceAccount";
    let name = match text_at(spec, "serviceAccountName") {
        "" => text_at(spec, deprecated),
        name => name,
    };
    if !name.is_empty() {
        let name = Value::from(name);
        spec.insert(deprecated.to_owned(), name.clone());
        spec.insert("serviceAccountName".to_owned(), name);
    }
}

/// The address and the first of all addresses are the same; the single one wins.
fn pod_status(status: &mut Object) {
    let single = text_at(status, "podIP").to_owned();
    let first = super::objects_at(status, "podIPs")
        .next()
        .map(|first| text_at(first, "ip").to_owned());
    match (single.as_str(), first) {
        ("", Some(first)) => {
            status.insert("podIP".to_owned(), Value::from(first));
        }
        ("", None) => {}
        (single, first) if first.as_deref() != Some(single) => {
            status.insert("podIPs".to_owned(), json!([{ "ip": single }]));
        }
        _ => {}
    }
}

fn replication_controller(controller: &mut Object) {
    if let (Some(labels), Some(spec)) = (template_labels(controller), object_in(controller, "spec"))
        && has_none(spec, "selector")
    {
        spec.insert("selector".to_owned(), Value::Object(labels));
    }
    labels_of_template(controller);
}

/// Text that clients write becomes data, and wins against it.
fn secret(secret: &mut Object) {
    let Some(Value::Object(texts)) = secret.remove("stringData") else {
        return;
    };
    if let (false, Some(data)) = (texts.is_empty(), object_of(secret, "data")) {
        for (name, text) in texts {
            let bytes = text.as_str().unwrap_or_default();
            data.insert(name, Value::from(STANDARD.encode(bytes)));
        }
    }
}

/// Where a balancer's address leads is known only where there is one.
fn service(service: &mut Object) {
    let is_balanced =
        object_at(service, "spec").is_some_and(|spec| text_at(spec, "type") == "LoadBalancer");
    let balancer =
        object_in(service, "status").and_then(|status| object_in(status, "loadBalancer"));
    if let (true, Some(balancer)) = (is_balanced, balancer) {
        for ingress in objects_in(balancer, "ingress") {
            if !text_at(ingress, "ip").is_empty() {
                default(ingress, "ipMode", || Value::from("VIP"));
            }
        }
    }
}

fn service_port(port: &mut Object) {
    let target = port.get("targetPort");
    let is_missing = target.is_none_or(|target| target == &json!(0) || target == "");
    if let (true, Some(number)) = (is_missing, port.get("port").cloned()) {
        port.insert("targetPort".to_owned(), number);
    }
}

/// What says how clients stay where they are is gone where they do not.
fn service_spec(spec: &mut Object) {
    if text_at(spec, "sessionAffinity") == "None" {
        spec.remove("sessionAffinityConfig");
    }
}

/// A volume of no type is an empty directory.
fn volume(volume: &mut Object) {
    if volume.keys().all(|name| name == "name") {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
}

/// Names follow from the kind, and the version that is stored is one that was.
fn custom_kind(object: &mut Object) {
    if let Some(names) = object_in(object, "spec").and_then(|spec| object_in(spec, "names")) {
        let kind = text_at(names, "kind").to_owned();
        if text_at(names, "singular").is_empty() && !kind.is_empty() {
            names.insert("singular".to_owned(), Value::from(kind.to_lowercase()));
        }
        if text_at(names, "listKind").is_empty() && !kind.is_empty() {
            names.insert("listKind".to_owned(), Value::from(format!("{kind}List")));
        }
    }
    let stored = object_at(object, "spec").and_then(|spec| {
        let mut versions = super::objects_at(spec, "versions");
        let stored = versions.find(|version| version.get("storage") == Some(&Value::Bool(true)))?;
        stored.get("name").cloned()
    });
    if let (Some(stored), Some(status)) = (stored, object_of(object, "status"))
        && has_none(status, "storedVersions")
    {
        status.insert("storedVersions".to_owned(), Value::Array(vec![stored]));
    }
}
