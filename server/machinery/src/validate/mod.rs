//! What an object must be to be stored: names, metadata, and the rules of the common kinds.
//!
//! Rules run on objects whose defaults are filled in and whose types the schema has been held against. They never ask
//! for what a default or the server itself would have given (addresses of services, selectors of jobs, uids), and where
//! upstream may be laxer than we know, so are they: what is stored wrongly can be repaired, what is refused wrongly
//! cannot be worked around. Rules that look at one field are rows of `data/rules.yaml`; the others are here, in a
//! module for each family of kinds. Every error has the field, the reason and the words that upstream gives it, in
//! upstream's order as far as it is known. What upstream shows as a difference of Go types is shown as changed fields.
//!
//! What is enforced:
//!
//! - *All kinds*: names by the rule of the kind, a namespace where one belongs, keys and values of labels,
//!   annotations (keys, 256 KiB), owners (complete, one controller), finalizers (names, none added once deletion
//!   began), managed fields, and that name, namespace, uid and times stay. `resourceVersion` where the kind needs
//!   one.
//! - *Pods and templates*: containers (name, image, ports, variables and their sources, mounts that name volumes,
//!   devices, probes, hooks, resources with requests up to limits, claims), init and ephemeral containers, volumes
//!   (name, one complete kind, items, modes), policies, DNS, security numbers, affinities, tolerations, spreading,
//!   gates, host names and aliases, host ports. Of a pod only images, the deadline (shorter), tolerations (more),
//!   gates (fewer) and a negative grace (to 1) may change.
//! - *Deployment, ReplicaSet, StatefulSet, DaemonSet, ReplicationController*: counts, a selector that is not empty
//!   and matches the template, strategies, restart policy `Always`; selectors stay, of a StatefulSet all but a few
//!   fields. Counts in their status. ControllerRevision: data, which stay.
//! - *Job, CronJob*: counts, completion modes, restart policies, the template of a job that has started stays;
//!   schedules, time zones by their letters only, concurrency, short names.
//! - *HorizontalPodAutoscaler, PodDisruptionBudget*: bounds, target, metrics by type, behaviour; one bound, selector.
//! - *Service, Endpoints, EndpointSlice*: ports (names, numbers, protocols, node ports 30000-32767), types, addresses
//!   that stay, affinity, traffic policies, external names; addresses of each type.
//! - *Ingress, IngressClass, NetworkPolicy*: hosts, paths, backends; controller, which stays; ports, peers, ranges.
//! - *ConfigMap, Secret*: keys, 1 MiB, `immutable`; base64, type, which stays, and keys of well-known types.
//! - *PersistentVolume, PersistentVolumeClaim, StorageClass, VolumeAttributesClass, VolumeAttachment, CSIDriver,
//!   CSINode*: modes, capacity, one kind of volume, which stays; size, which shrinks to what there is at most;
//!   provisioner and parameters, which stay.
//! - *Role, ClusterRole and their bindings*: rules, subjects, `roleRef`, which stays.
//! - *Node, Namespace, ResourceQuota, LimitRange, PriorityClass, RuntimeClass, Lease, Event*: taints, ranges,
//!   amounts; finalizers; names of resources, scopes, which stay; order of limits; values, which stay, and system
//!   names; handler, which stays; durations; namespaces.
//! - *CustomResourceDefinition, APIService, webhook configurations, admission policies, FlowSchema,
//!   PriorityLevelConfiguration*: names made of parts, versions, required parts, choices. Custom schemas and
//!   expressions are not looked into.
//!
//! Any other kind: metadata only.
//!
//! Before an update, whoever calls takes over what upstream does: uid and times that are left out, addresses and ports
//! of a service that are left out, and it takes away what a service of another type does not have any more.

use std::borrow::Cow;

use serde_json::Value;

use crate::convert;
use crate::kind::Kind;
use crate::status::FieldError;

mod access;
mod address;
mod amount;
mod batch;
mod cluster;
mod config;
mod container;
mod cron;
mod event;
mod extension;
mod labels;
mod metadata;
mod names;
mod network;
mod place;
mod pod;
mod report;
mod resources;
mod rows;
mod scheduling;
mod service;
mod storage;
#[cfg(test)]
mod tests;
mod volume;
mod workload;

pub use names::{generate_name_base, generate_name_errors, name_errors};
pub(crate) use names::{label_value, qualified};

pub(crate) use place::Place;
use report::Report;

/// The rules of a kind for a new object, or for one that takes the place of an old one.
type Check = fn(&Place<'_>, Option<&Place<'_>>, &mut Report);

/// The kinds whose rules need code, by group and kind.
const CHECKS: &[(&str, &str, Check)] = &[
    ("", "ConfigMap", config::check_config_map),
    ("", "Endpoints", service::check_endpoints),
    ("", "Event", event::check_core),
    ("", "LimitRange", cluster::check_limits),
    ("", "Node", cluster::check_node),
    ("", "PersistentVolume", storage::check_volume),
    ("", "PersistentVolumeClaim", storage::check_claim),
    ("", "Pod", pod::check),
    ("", "PodTemplate", workload::check_pod_template),
    (
        "",
        "ReplicationController",
        workload::check_replication_controller,
    ),
    ("", "ResourceQuota", cluster::check_quota),
    ("", "Secret", config::check_secret),
    ("", "Service", service::check),
    (
        "admissionregistration.k8s.io",
        "MutatingWebhookConfiguration",
        extension::check_webhooks,
    ),
    (
        "admissionregistration.k8s.io",
        "ValidatingWebhookConfiguration",
        extension::check_webhooks,
    ),
    (
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        extension::check_definition,
    ),
    (
        "apiregistration.k8s.io",
        "APIService",
        extension::check_server,
    ),
    ("apps", "ControllerRevision", workload::check_revision),
    ("apps", "DaemonSet", workload::check_daemon_set),
    ("apps", "Deployment", workload::check_deployment),
    ("apps", "ReplicaSet", workload::check_replica_set),
    ("apps", "StatefulSet", workload::check_stateful_set),
    (
        "autoscaling",
        "HorizontalPodAutoscaler",
        workload::check_autoscaler,
    ),
    ("batch", "CronJob", batch::check_cron_job),
    ("batch", "Job", batch::check_job),
    ("discovery.k8s.io", "EndpointSlice", service::check_slice),
    ("events.k8s.io", "Event", event::check),
    ("networking.k8s.io", "Ingress", network::check_ingress),
    ("networking.k8s.io", "IngressClass", network::check_class),
    ("networking.k8s.io", "NetworkPolicy", network::check_policy),
    ("node.k8s.io", "RuntimeClass", cluster::check_runtime_class),
    ("policy", "PodDisruptionBudget", workload::check_budget),
    (
        "rbac.authorization.k8s.io",
        "ClusterRole",
        access::check_cluster_role,
    ),
    (
        "rbac.authorization.k8s.io",
        "ClusterRoleBinding",
        access::check_cluster_binding,
    ),
    ("rbac.authorization.k8s.io", "Role", access::check_role),
    (
        "rbac.authorization.k8s.io",
        "RoleBinding",
        access::check_binding,
    ),
    (
        "scheduling.k8s.io",
        "PriorityClass",
        cluster::check_priority_class,
    ),
    ("storage.k8s.io", "StorageClass", storage::check_class),
];

/// Rules for what is created, after defaults are filled in and a name is made.
pub fn created(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut report = Report::default();
    let object = checked_form(kind, object);
    let object = Place::whole(&object);
    metadata::check(kind, &object.at("metadata"), &mut report);
    check_kind(kind, &object, None, &mut report);
    report.into_errors()
}

/// Rules for what is changed: those of a new one, and what may not change. `subresource` is that which was written,
/// or empty. A write of the status is held only against the rules for it; one of another part, such as `binding` or
/// `ephemeralcontainers`, may change what an update may not.
pub fn updated(kind: &Kind, new: &Value, old: &Value, subresource: &str) -> Vec<FieldError> {
    let mut report = Report::default();
    let (new, old) = (checked_form(kind, new), checked_form(kind, old));
    let (new, old) = (Place::whole(&new), Place::whole(&old));
    let (metadata, before) = (new.at("metadata"), old.at("metadata"));
    metadata::check(kind, &metadata, &mut report);
    metadata::check_change(kind, &metadata, &before, &mut report);
    match subresource {
        "" | "scale" => check_kind(kind, &new, Some(&old), &mut report),
        "status" => check_status(kind, &new, &old, &mut report),
        // As if nothing had changed, so that only the rules for new objects are left.
        _ => check_kind(kind, &new, Some(&new), &mut report),
    }
    report.into_errors()
}

/// The form in which an object is held against the rules: upstream has one for all versions of a kind. Of autoscalers
/// the older version has parts of that in annotations, which would pass unseen otherwise.
fn checked_form<'a>(kind: &Kind, object: &'a Value) -> Cow<'a, Value> {
    if kind.stored_as.is_none() || kind.group != "autoscaling" {
        return Cow::Borrowed(object);
    }
    let mut stored = object.clone();
    convert::to_stored(kind, &mut stored);
    Cow::Owned(stored)
}

fn check_kind(kind: &Kind, new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    let (group, name) = (kind.group.as_str(), kind.kind.as_str());
    rows::check(group, name, new, report);
    let known = CHECKS
        .iter()
        .find(|(of, kind, _)| (*of, *kind) == (group, name));
    if let Some((_, _, check)) = known {
        check(new, old, report);
    }
    if let Some(old) = old {
        rows::check_change(group, name, new, old, report);
    }
}

fn check_status(kind: &Kind, new: &Place<'_>, old: &Place<'_>, report: &mut Report) {
    let (group, name) = (kind.group.as_str(), kind.kind.as_str());
    rows::check_status(group, name, new, report);
    match (group, name) {
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet") | ("", "ReplicationController") => {
            workload::check_counts(new, old, report);
        }
        ("", "Node") => cluster::check_node_status(new, report),
        ("", "ResourceQuota") => cluster::check_quota_status(new, report),
        _ => {}
    }
}
