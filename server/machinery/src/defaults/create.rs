//! What is written into an object when it is created or changed, which is not done again when it is read: its status,
//! and what upstream's strategies derive from the rest of it.

use serde_json::{Map, Value, json};

use super::table::Table;
use super::{Walk, defined, object_at, object_in, object_of, objects_at, objects_in, text_at};
use crate::kind::Kind;
use crate::quantity::Quantity;

type Object = Map<String, Value>;

/// The finalizer that keeps a namespace until all in it is gone.
const NAMESPACE_FINALIZER: &str = "kubernetes";

/// Counts the changes of a DaemonSet's template, for clients that know no better.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// Prepares an object that is created, after [`super::fill`] and all that admission changes, and before it is
/// validated: its status, and what else is derived once.
pub fn prepare_create(kind: &Kind, object: &mut Value) {
    let Value::Object(fields) = object else {
        return;
    };
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Namespace") => namespace(fields),
        ("", "PersistentVolumeClaim") => claim(fields),
        ("", "Pod") => pod(fields),
        ("", "ServiceAccount") => service_account(fields),
        ("resource.k8s.io", "DeviceTaintRule" | "ResourceSlice") => device_taints(fields),
        ("apps", "DaemonSet") => {
            let generation = template_generation(fields).max(1);
            set_template_generation(fields, generation);
        }
        _ => {}
    }
    prepare_status(kind, object);
}

/// Writes the status that an object of a kind is created with, over whatever the client sent; of kinds whose clients
/// may send one, it stays. Where a time belongs into it, it is that of `metadata.creationTimestamp`.
pub fn prepare_status(kind: &Kind, object: &mut Value) {
    let Value::Object(fields) = object else {
        return;
    };
    let Some(definition) = kind.schema else {
        if kind.has_status() {
            fields.remove("status");
        }
        return;
    };
    let Some(status) = Table::builtin().created_status(definition) else {
        return;
    };
    let mut status = status.clone();
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => pod_status(fields, &mut status),
        ("", "PersistentVolume") => {
            status["phase"] = Value::from("Pending");
            status["lastPhaseTransitionTime"] = created_at(fields);
        }
        ("apiregistration.k8s.io", "APIService") => api_service_status(fields, &mut status),
        _ => {}
    }
    fields.insert("status".to_owned(), status);
    // The status gets its own defaults, as it would when it is read.
    Walk::builtin().visit(&defined(definition), object, 0);
}

/// When an object was created; null, which does not stay, if it does not say so.
fn created_at(object: &Object) -> Value {
    let metadata = object_at(object, "metadata");
    let created = metadata.and_then(|metadata| metadata.get("creationTimestamp"));
    created.cloned().unwrap_or_default()
}

fn pod_status(pod: &Object, status: &mut Value) {
    status["qosClass"] = Value::from(qos_class(pod));
    let has_gates = |spec| objects_at(spec, "schedulingGates").next().is_some();
    if object_at(pod, "spec").is_some_and(has_gates) {
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
}

/// What this server answers itself is always there.
fn api_service_status(service: &Object, status: &mut Value) {
    if object_at(service, "spec").is_none_or(|spec| !spec.contains_key("service")) {
        status["conditions"] = json!([{
            "type": "Available",
            "status": "True",
            "reason": "Local",
            "message": "Local APIServices are always available",
            "lastTransitionTime": created_at(service),
        }]);
    }
}

/// Prepares an object that is changed, after [`super::fill`], with what it was before.
pub fn prepare_update(kind: &Kind, new: &mut Value, old: &Value) {
    let (Value::Object(new), Value::Object(old)) = (new, old) else {
        return;
    };
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => keep_pod_resources(new, old),
        ("", "Service") => match_addresses(new, old),
        ("apps", "DaemonSet") => {
            let template =
                |object| object_at(object, "spec").and_then(|spec: &Object| spec.get("template"));
            let is_changed = template(new) != template(old);
            let generation = template_generation(old).saturating_add(i64::from(is_changed));
            set_template_generation(new, generation);
        }
        _ => {}
    }
}

/// Clients that do not know of resources of whole pods do not take them away.
fn keep_pod_resources(new: &mut Object, old: &Object) {
    let resources = object_at(old, "spec").and_then(|spec| spec.get("resources"));
    if let (Some(resources), Some(spec)) = (resources, object_in(new, "spec")) {
        spec.entry("resources").or_insert_with(|| resources.clone());
    }
}

/// Who changes the one address of a service and not the list of them means the list, too.
fn match_addresses(new: &mut Object, old: &Object) {
    let (Some(new), Some(old)) = (object_in(new, "spec"), object_at(old, "spec")) else {
        return;
    };
    let (now, before) = (text_at(new, "clusterIP"), text_at(old, "clusterIP"));
    if now == before || new.get("clusterIPs") != old.get("clusterIPs") {
        return;
    }
    if now.is_empty() {
        new.remove("clusterIPs");
    } else {
        let list = json!([now]);
        new.insert("clusterIPs".to_owned(), list);
    }
}

fn template_generation(object: &Object) -> i64 {
    object_at(object, "metadata")
        .and_then(|metadata| object_at(metadata, "annotations"))
        .and_then(|annotations| text_at(annotations, TEMPLATE_GENERATION).parse().ok())
        .unwrap_or(0)
}

fn set_template_generation(object: &mut Object, generation: i64) {
    let annotations =
        object_of(object, "metadata").and_then(|metadata| object_of(metadata, "annotations"));
    if let Some(annotations) = annotations {
        annotations.insert(
            TEMPLATE_GENERATION.to_owned(),
            Value::from(generation.to_string()),
        );
    }
}

fn namespace(namespace: &mut Object) {
    let Some(spec) = object_of(namespace, "spec") else {
        return;
    };
    let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
    if let Value::Array(finalizers) = finalizers
        && !finalizers.iter().any(|one| one == NAMESPACE_FINALIZER)
    {
        finalizers.push(Value::from(NAMESPACE_FINALIZER));
    }
}

/// Of what a secret is referred by, only the name stays.
fn service_account(account: &mut Object) {
    for secret in objects_in(account, "secrets") {
        secret.retain(|name, _| name == "name");
    }
}

/// Taints tell since when they are there.
fn device_taints(object: &mut Object) {
    let created = created_at(object);
    let Some(spec) = object_in(object, "spec").filter(|_| !created.is_null()) else {
        return;
    };
    if let Some(taint) = object_in(spec, "taint") {
        taint.entry("timeAdded").or_insert_with(|| created.clone());
    }
    for device in objects_in(spec, "devices") {
        for taint in objects_in(device, "taints") {
            taint.entry("timeAdded").or_insert_with(|| created.clone());
        }
    }
}

/// What a claim is filled from is there twice, once for clients that know no other namespaces.
fn claim(claim: &mut Object) {
    let Some(spec) = object_in(claim, "spec") else {
        return;
    };
    let (old, new) = ("dataSource", "dataSourceRef");
    match (object_at(spec, old).cloned(), object_at(spec, new).cloned()) {
        (Some(source), None) => {
            spec.insert(new.to_owned(), Value::Object(source));
        }
        (None, Some(mut source)) if text_at(&source, "namespace").is_empty() => {
            source.remove("namespace");
            spec.insert(old.to_owned(), Value::Object(source));
        }
        _ => {}
    }
}

fn pod(pod: &mut Object) {
    let labels = object_at(pod, "metadata")
        .and_then(|metadata| object_at(metadata, "labels"))
        .cloned();
    let labels = labels.unwrap_or_default();
    let Some(spec) = object_in(pod, "spec") else {
        return;
    };
    for constraint in objects_in(spec, "topologySpreadConstraints") {
        select_by_label_keys(constraint, &labels);
    }
    if let Some(affinity) = object_in(spec, "affinity") {
        for side in ["podAffinity", "podAntiAffinity"] {
            let Some(side) = object_in(affinity, side) else {
                continue;
            };
            for term in objects_in(side, "preferredDuringSchedulingIgnoredDuringExecution") {
                if let Some(term) = object_in(term, "podAffinityTerm") {
                    select_by_label_keys(term, &labels);
                }
            }
            for term in objects_in(side, "requiredDuringSchedulingIgnoredDuringExecution") {
                select_by_label_keys(term, &labels);
            }
        }
    }
    pod_resources(spec);
}

/// Keys of labels stand for the values that the pod has; its selector says so from now on.
fn select_by_label_keys(term: &mut Object, labels: &Object) {
    let mut requirements = Vec::new();
    for (list, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys = term
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        for key in keys.filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                requirements.push(json!({ "key": key, "operator": operator, "values": [value] }));
            }
        }
    }
    if requirements.is_empty() {
        return;
    }
    if let Some(selector) = object_in(term, "labelSelector") {
        let expressions = selector
            .entry("matchExpressions")
            .or_insert_with(|| json!([]));
        if let Value::Array(expressions) = expressions {
            expressions.extend(requirements);
        }
    }
}

/// Whether a whole pod may have requests and limits of a resource.
fn is_of_whole_pods(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || is_huge_pages(resource)
}

fn is_huge_pages(resource: &str) -> bool {
    resource.starts_with("hugepages-")
}

fn amount(list: Option<&Object>, resource: &str) -> Option<Quantity> {
    Quantity::of(list?.get(resource)?).ok()
}

/// Requests or limits of a container or a pod.
fn amounts<'a>(object: &'a Object, list: &str) -> Option<&'a Object> {
    object_at(object_at(object, "resources")?, list)
}

/// Resources of a whole pod that has some of them: what is missing follows from its containers, or else a request from
/// the limit.
fn pod_resources(spec: &mut Object) {
    let has_some = |list| amounts(spec, list).is_some_and(|amounts| !amounts.is_empty());
    if !has_some("requests") && !has_some("limits") {
        return;
    }
    let requested = sum_of_containers(spec, "requests");
    let limited = sum_of_containers(spec, "limits");
    let is_limited_everywhere: Vec<String> = limited
        .keys()
        .filter(|resource| {
            ["containers", "initContainers"].iter().all(|list| {
                let mut containers = objects_at(spec, list);
                containers.all(|container| amount(amounts(container, "limits"), resource).is_some())
            })
        })
        .cloned()
        .collect();
    let mut requests = amounts(spec, "requests").cloned().unwrap_or_default();
    let mut limits = amounts(spec, "limits").cloned().unwrap_or_default();
    for (resource, limit) in &limited {
        if is_huge_pages(resource) && !requests.contains_key(resource) {
            limits
                .entry(resource.clone())
                .or_insert_with(|| limit.clone());
        }
    }
    for (resource, request) in requested {
        if is_of_whole_pods(&resource) && !is_huge_pages(&resource) {
            requests.entry(resource).or_insert(request);
        }
    }
    for (resource, limit) in &limits {
        if is_of_whole_pods(resource) {
            requests
                .entry(resource.clone())
                .or_insert_with(|| limit.clone());
        }
    }
    for resource in is_limited_everywhere {
        let Some(request) = amount(Some(&requests), &resource) else {
            continue;
        };
        if is_of_whole_pods(&resource) && !limits.contains_key(&resource) {
            // A limit below the request would be refused.
            let limit = amount(Some(&limited), &resource).unwrap_or(Quantity::ZERO);
            limits.insert(resource, Value::from(limit.max(request).to_string()));
        }
    }
    if let Some(resources) = object_of(spec, "resources") {
        for (list, amounts) in [("requests", requests), ("limits", limits)] {
            if !amounts.is_empty() {
                resources.insert(list.to_owned(), Value::Object(amounts));
            }
        }
    }
}

/// What the containers of a pod need together: all that run at once, or one that runs before with those that run beside
/// it, whichever is more.
fn sum_of_containers(spec: &Object, list: &str) -> Object {
    let mut sum = Object::new();
    for container in objects_at(spec, "containers") {
        add(&mut sum, amounts(container, list));
    }
    let mut beside = Object::new();
    let mut before = Object::new();
    for container in objects_at(spec, "initContainers") {
        let mut needed = beside.clone();
        add(&mut needed, amounts(container, list));
        if text_at(container, "restartPolicy") == "Always" {
            add(&mut sum, amounts(container, list));
            beside.clone_from(&needed);
        }
        raise(&mut before, &needed);
    }
    raise(&mut sum, &before);
    sum
}

fn add(sum: &mut Object, more: Option<&Object>) {
    for (resource, value) in more.into_iter().flatten() {
        if let Ok(more) = Quantity::of(value) {
            let together = amount(Some(sum), resource)
                .unwrap_or(Quantity::ZERO)
                .plus(&more);
            sum.insert(resource.clone(), Value::from(together.to_string()));
        }
    }
}

fn raise(sum: &mut Object, other: &Object) {
    for (resource, value) in other {
        let other = amount(Some(other), resource);
        if other > amount(Some(sum), resource) {
            sum.insert(resource.clone(), value.clone());
        }
    }
}

const BEST_EFFORT: &str = "BestEffort";
const BURSTABLE: &str = "Burstable";
const GUARANTEED: &str = "Guaranteed";

/// How well a pod is served when there is not enough for all.
pub(crate) fn qos_class(pod: &Object) -> &'static str {
    let Some(spec) = object_at(pod, "spec") else {
        return BEST_EFFORT;
    };
    let has_own = ["requests", "limits"].iter().any(|list| {
        let mut resources = amounts(spec, list).into_iter().flat_map(Object::keys);
        resources.any(|resource| is_of_whole_pods(resource))
    });
    if has_own {
        return qos_class_of(spec);
    }
    let containers = objects_at(spec, "initContainers").chain(objects_at(spec, "containers"));
    common(containers.map(qos_class_of))
}

/// The class of one container, or of a pod that has resources of its own.
fn qos_class_of(object: &Object) -> &'static str {
    common(["cpu", "memory"].into_iter().map(|resource| {
        let request = amount(amounts(object, "requests"), resource).unwrap_or(Quantity::ZERO);
        let limit = amount(amounts(object, "limits"), resource).unwrap_or(Quantity::ZERO);
        match request == limit {
            false => BURSTABLE,
            true if request.is_zero() => BEST_EFFORT,
            true => GUARANTEED,
        }
    }))
}

/// The class that all have, or the one between.
fn common(mut classes: impl Iterator<Item = &'static str>) -> &'static str {
    match classes.next() {
        None => BEST_EFFORT,
        Some(first) if classes.all(|class| class == first) => first,
        Some(_) => BURSTABLE,
    }
}
