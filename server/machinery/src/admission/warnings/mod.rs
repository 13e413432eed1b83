//! What the author of a request is warned of although it is carried out, in kube-apiserver's words and order. Where
//! upstream's order is that of a map in Go, which is none, it is that of the keys here.

mod network;
mod pods;
mod storage;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::kind::{Kind, NameRule};
use crate::quantity::Quantity;
use crate::validate::{Place, name_errors, qualified};

/// The names of objects that come from files.
const OF_FILES: &str = ".static.k8s.io";

/// Kinds that webhooks are not asked about, by group and plural.
const WITHOUT_WEBHOOKS: [(&str, &str); 6] = [
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];

/// What there is to warn of about an object that is created, or that takes the place of an old one. Its defaults are
/// filled in. That a kind is deprecated is not said here, but by [`Kind::deprecated`].
pub fn warnings(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<String> {
    let new = Place::whole(object);
    let old = old.map(Place::whole);
    let mut found = Vec::new();
    if kind.schema.is_none() {
        check_finalizers(&new, old.as_ref(), &mut found);
        return found;
    }
    check(kind, &new, old.as_ref(), &mut found);
    found
}

/// The same where only the status is written.
pub fn status_warnings(kind: &Kind, object: &Value) -> Vec<String> {
    let status = Place::whole(object).at("status");
    let mut found = Vec::new();
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => {
            for list in ["podIPs", "hostIPs"] {
                for address in status.at(list).items() {
                    network::check_address(&address.at("ip"), &mut found);
                }
            }
        }
        ("", "Service") | ("networking.k8s.io", "Ingress") => {
            for entry in status.at("loadBalancer.ingress").items() {
                network::check_address(&entry.at("ip").called(entry.path), &mut found);
            }
        }
        _ => {}
    }
    found
}

fn check(kind: &Kind, new: &Place<'_>, old: Option<&Place<'_>>, found: &mut Vec<String>) {
    let is_changed = |fields: &[&str]| {
        old.is_none_or(|old| {
            fields
                .iter()
                .any(|field| new.at(field).value != old.at(field).value)
        })
    };
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") if old.is_none() => pods::check_pod(new, found),
        ("", "PodTemplate") if is_changed(&["template"]) => {
            pods::check_template(&new.at("template"), found);
        }
        ("apps", "Deployment") if is_changed(&["spec", "metadata.annotations"]) => {
            check_workload(new, old, "spec.template", found);
        }
        ("apps", "ReplicaSet") if is_changed(&["spec"]) => {
            check_workload(new, old, "spec.template", found);
        }
        // Of a changed controller upstream looks at the template that it had.
        ("", "ReplicationController") if is_changed(&["spec"]) => {
            check_workload(old.unwrap_or(new), old, "spec.template", found);
        }
        ("apps", "DaemonSet") if is_changed(&["spec.template"]) => {
            pods::check_template(&new.at("spec.template"), found);
        }
        ("apps", "StatefulSet") => check_stateful_set(new, old, is_changed(&["spec"]), found),
        ("batch", "Job") if is_changed(&["spec"]) => check_workload(new, old, "spec", found),
        ("batch", "CronJob") => {
            if is_changed(&["spec"]) {
                check_workload(new, old, "spec.jobTemplate.spec", found);
            }
            if old.is_some() && new.at("spec.schedule").text().contains("TZ") {
                found.push(
                    "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                     https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                        .to_owned(),
                );
            }
        }
        ("", "Service") => network::check_service(new, found),
        ("", "Endpoints") => network::check_endpoints(new, found),
        ("discovery.k8s.io", "EndpointSlice") => {
            network::check_slice(new, old.is_none(), found);
        }
        ("networking.k8s.io", "NetworkPolicy") => network::check_policy(new, found),
        ("networking.k8s.io", "Ingress") if old.is_none() => network::check_ingress(new, found),
        ("", "Node") => check_node(new, found),
        ("", "PersistentVolume") => storage::check_volume(new, found),
        ("", "PersistentVolumeClaim") => storage::check_claim(new, found),
        ("storage.k8s.io", "StorageClass") => storage::check_class(new, found),
        ("storage.k8s.io", "CSIStorageCapacity") => storage::check_capacity(new, found),
        ("storage.k8s.io", "CSIDriver") if is_changed(&["spec.tokenRequests"]) => {
            storage::check_driver(new, found);
        }
        ("node.k8s.io", "RuntimeClass") => {
            for (label, _) in new.at("scheduling.nodeSelector").entries() {
                if let Some(why) = pods::deprecated_label(label) {
                    found.push(format!("scheduling.nodeSelector: {why}"));
                }
            }
        }
        ("", "ServiceAccount") => check_service_account(new, old, found),
        ("", "ResourceQuota") if old.is_none() => check_quota(new, found),
        ("", "Secret") => check_secret(new, found),
        ("resource.k8s.io", "ResourceSlice") => {
            let driver = new.at("spec.driver").text();
            if driver != driver.to_lowercase() {
                found.push(format!(
                    "spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"
                ));
            }
        }
        ("admissionregistration.k8s.io", _) => check_admission(new, old.is_some(), found),
        _ => {}
    }
}

/// What makes pods of a template: `at` is where the template or the spec of a job is.
fn check_workload(new: &Place<'_>, old: Option<&Place<'_>>, at: &str, found: &mut Vec<String>) {
    if old.is_none() {
        let errors = name_errors(NameRule::Label, new.at("metadata.name").text());
        if !errors.is_empty() {
            found.push(format!(
                "metadata.name: this is used in Pod names and hostnames, which can result in surprising \
                 behavior; a DNS label is recommended: [{}]",
                errors.join(" ")
            ));
        }
    }
    let place = new.at(at);
    if at.ends_with("template") {
        return pods::check_template(&place, found);
    }
    let number = |field: &str| place.at(field).number().unwrap_or_default();
    let is_indexed = place.at("completionMode").text() == "Indexed";
    if is_indexed && number("completions") > 100_000 && number("parallelism") > 10_000 {
        found.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than \
             10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            place.path
        ));
    }
    pods::check_template(&place.at("template"), found);
}

fn check_stateful_set(
    new: &Place<'_>,
    old: Option<&Place<'_>>,
    is_changed: bool,
    found: &mut Vec<String>,
) {
    if is_changed {
        pods::check_template(&new.at("spec.template"), found);
    }
    for claim in new.at("spec.volumeClaimTemplates").items() {
        // Upstream writes the field in another way of an update.
        let name = if old.is_some() { "Spec" } else { "spec" };
        let spec = claim.at("spec");
        storage::check_claim_spec(&spec.called(format!("{}.{name}", claim.path)), found);
    }
    let kept = new.at("spec.revisionHistoryLimit").number();
    if kept.is_some_and(|kept| kept < 0) {
        found.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is \
             recommended"
                .to_owned(),
        );
    }
}

fn check_node(node: &Place<'_>, found: &mut Vec<String>) {
    if node.at("spec.configSource").is_there() {
        found.push("spec.configSource: the feature is removed".to_owned());
    }
    if !node.at("spec.externalID").text().is_empty() {
        found.push(
            "spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned(),
        );
    }
    for range in node.at("spec.podCIDRs").items() {
        network::check_range(&range, found);
    }
}

fn check_service_account(new: &Place<'_>, old: Option<&Place<'_>>, found: &mut Vec<String>) {
    let has = |account: &Place<'_>| {
        let annotations = account.at("metadata.annotations");
        annotations
            .key("kubernetes.io/enforce-mountable-secrets")
            .is_there()
    };
    if has(new) && !old.is_some_and(has) {
        found.push(
            "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer \
             separate namespaces to isolate access to mounted secrets"
                .to_owned(),
        );
    }
}

fn check_quota(quota: &Place<'_>, found: &mut Vec<String>) {
    let hard = quota.at("spec.hard");
    let amount = |name: &str| Quantity::of(hard.key(name).value).ok();
    for name in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let (of_requests, of_limits) = (format!("requests.{name}"), format!("limits.{name}"));
        let requests = match (amount(&of_requests), name) {
            (Some(requests), _) => Some((of_requests.as_str(), requests)),
            (None, "cpu" | "memory") => amount(name).map(|requests| (name, requests)),
            (None, _) => None,
        };
        if let (Some((shown, requests)), Some(limits)) = (requests, amount(&of_limits))
            && requests > limits
        {
            found.push(format!(
                "ResourceQuota {shown} ({requests}) should be less than {of_limits} ({limits})"
            ));
        }
    }
}

/// Whether a key belongs to its certificate is not looked into, only whether there are any.
fn check_secret(secret: &Place<'_>, found: &mut Vec<String>) {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    if secret.at("type").text() != "kubernetes.io/tls" {
        return;
    }
    for (key, what) in [("tls.crt", "certificate"), ("tls.key", "key")] {
        let bytes = STANDARD.decode(secret.at("data").key(key).text());
        let begin = b"-----BEGIN";
        if !bytes.is_ok_and(|bytes| bytes.windows(begin.len()).any(|part| part == begin)) {
            found.push(format!("tls: failed to find any PEM data in {what} input"));
            return;
        }
    }
}

/// Policies and webhooks.
fn check_admission(object: &Place<'_>, is_update: bool, found: &mut Vec<String>) {
    if is_update && object.at("metadata.name").text().ends_with(OF_FILES) {
        found.push(format!(
            "metadata.name: names ending with {OF_FILES:?} are reserved for static manifest-based \
             configurations and cannot be managed via the API"
        ));
    }
    let webhooks = object.at("webhooks");
    let rules = webhooks
        .items()
        .flat_map(|webhook| webhook.at("rules").items());
    for rule in rules {
        let (groups, plurals) = (rule.at("apiGroups").texts(), rule.at("resources").texts());
        if groups.contains(&"*") || plurals.contains(&"*") {
            continue;
        }
        let mut known = Vec::new();
        for pair in groups
            .iter()
            .flat_map(|group| plurals.iter().map(move |plural| (*group, *plural)))
        {
            if WITHOUT_WEBHOOKS.contains(&pair) && !known.contains(&pair) {
                known.push(pair);
                found.push(format!(
                    "{}: {}.{} is excluded from admission webhooks; this rule will have no effect",
                    rule.path, pair.1, pair.0
                ));
            }
        }
    }
}

/// Finalizers that are added to custom objects should say whose they are.
fn check_finalizers(new: &Place<'_>, old: Option<&Place<'_>>, found: &mut Vec<String>) {
    let finalizers = new.at("metadata.finalizers");
    let before = old.map(|old| old.at("metadata.finalizers").texts());
    let before = before.unwrap_or_default();
    let mut added = finalizers.texts();
    added.retain(|name| !before.contains(name));
    added.sort_unstable();
    added.dedup();
    for name in added {
        for error in qualified(name) {
            found.push(format!("{}: {name:?}: {error}", finalizers.path));
        }
        let standard = ["foregroundDeletion", "kubernetes", "orphan"];
        if !name.contains('/') && !standard.contains(&name) {
            let path = if name.contains('.') {
                " including a path (/)"
            } else {
                ""
            };
            found.push(format!(
                "{}: {name:?}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts \
                 with other finalizer writers",
                finalizers.path
            ));
        }
    }
}

/// An amount of bytes must be whole.
fn check_bytes(place: &Place<'_>, found: &mut Vec<String>) {
    if let Ok(amount) = Quantity::of(place.value)
        && amount.millis() % 1000 != 0
    {
        found.push(format!(
            "{}: fractional byte value \"{amount}\" is invalid, must be an integer",
            place.path
        ));
    }
}
