//! Pods and templates of pods: what each must be, and the little of a pod that may change.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::container::{self, Pod};
use super::place::{Place, is_same};
use super::report::Report;
use super::resources::{self, Owner};
use super::{address, labels, names, scheduling, volume};
use crate::kind::NameRule;

/// Seconds that containers have to end, if nobody says otherwise.
const GRACE: i64 = 30;

/// The most seconds a pod may be active.
const MOST_ACTIVE: i64 = i32::MAX as i64;

/// What may change of a pod.
const CHANGEABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
     `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be \
     set to 1 if it was previously negative)";

/// Rules for pods.
pub(super) fn check(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    check_spec(&spec, report);
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec.at(kind).items() {
            let image = container.at("image");
            if image.text() != image.text().trim() {
                report.invalid_text(&image, "must not have leading or trailing whitespace");
            }
        }
    }
    match old {
        Some(old) => check_change(&spec, &old.at("spec"), report),
        None => {
            if !spec.at("ephemeralContainers").is_empty() {
                report.forbidden(&spec.at("ephemeralContainers"), "cannot be set on create");
            }
            if !spec.at("nodeName").is_empty() && !spec.at("schedulingGates").is_empty() {
                let detail = "cannot be set until all schedulingGates have been cleared";
                report.forbidden(&spec.at("nodeName"), detail);
            }
        }
    }
}

/// Rules for a template of pods in another object.
pub(super) fn check_template(template: &Place<'_>, report: &mut Report) {
    let metadata = template.at("metadata");
    // These errors leave out `metadata`, as upstream's do.
    labels::check(
        &metadata
            .at("labels")
            .called(format!("{}.labels", template.path)),
        report,
    );
    let annotations = metadata
        .at("annotations")
        .called(format!("{}.annotations", template.path));
    labels::check_annotations(&annotations, report);
    check_spec(&template.at("spec"), report);
    let ephemeral = template.at("spec.ephemeralContainers");
    if !ephemeral.is_empty() {
        report.forbidden(
            &ephemeral,
            "ephemeral containers not allowed in pod template",
        );
    }
}

fn check_spec(spec: &Place<'_>, report: &mut Report) {
    let (volumes, claims) = (spec.at("volumes"), spec.at("resourceClaims"));
    let volume_names = volume::check_all(&volumes, report);
    check_claims(&claims, report);
    let pod = Pod {
        claim_volumes: volumes
            .items()
            .filter(volume::is_of_claim)
            .map(|volume| volume.at("name").text())
            .collect(),
        volume_names,
        claims: claims
            .items()
            .map(|claim| claim.at("name").text())
            .collect(),
        grace: spec
            .at("terminationGracePeriodSeconds")
            .number()
            .unwrap_or(GRACE),
    };
    container::check_all(spec, &pod, report);
    resources::check_requirements(&spec.at("resources"), Owner::Any, report);
    check_host_network(spec, report);
    report.check_choice(&spec.at("restartPolicy"), &["Always", "OnFailure", "Never"]);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    report.check_choice(&spec.at("dnsPolicy"), &policies);
    labels::check(&spec.at("nodeSelector"), report);
    check_security(&spec.at("securityContext"), report);
    scheduling::check_affinity(&spec.at("affinity"), report);
    check_dns(spec, report);
    for gate in spec.at("readinessGates").items() {
        let kind = gate.at("conditionType");
        report.invalid_each(&kind, names::qualified(kind.text()));
    }
    check_gates(&spec.at("schedulingGates"), report);
    scheduling::check_spreading(&spec.at("topologySpreadConstraints"), report);
    report.check_name(&spec.at("serviceAccountName"), NameRule::Subdomain);
    report.check_name(&spec.at("nodeName"), NameRule::Subdomain);
    report.check_range(&spec.at("activeDeadlineSeconds"), 1, MOST_ACTIVE);
    report.check_name(&spec.at("hostname"), NameRule::Label);
    report.check_name(&spec.at("subdomain"), NameRule::Label);
    scheduling::check_tolerations(&spec.at("tolerations"), report);
    for alias in spec.at("hostAliases").items() {
        address::check(&alias.at("ip"), report);
        for name in alias.at("hostnames").items() {
            report.invalid_each(&name, names::subdomain(name.text()));
        }
    }
    report.check_name(&spec.at("priorityClassName"), NameRule::Subdomain);
    report.check_name(&spec.at("runtimeClassName"), NameRule::Subdomain);
    report.check_choice(
        &spec.at("preemptionPolicy"),
        &["PreemptLowerPriority", "Never"],
    );
    for (name, amount) in spec.at("overhead").entries() {
        resources::check_name(&amount, name, Owner::Container, report);
        resources::check_amount(&amount, name, report);
    }
    report.check_choice(&spec.at("os.name"), &["linux", "windows"]);
}

fn check_claims(claims: &Place<'_>, report: &mut Report) {
    report.check_unique(claims.items().map(|claim| claim.at("name")));
    for claim in claims.items() {
        report.check_needed_name(&claim.at("name"), NameRule::Label);
        let (direct, template) = (
            claim.at("resourceClaimName"),
            claim.at("resourceClaimTemplateName"),
        );
        match (direct.is_there(), template.is_there()) {
            (true, true) => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                report.invalid(&claim, detail);
            }
            (false, false) => {
                let detail =
                    "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                report.invalid(&claim, detail);
            }
            _ => {}
        }
        report.check_name(&direct, NameRule::Subdomain);
        report.check_name(&template, NameRule::Subdomain);
    }
}

/// A port of a host is the port of the container where both share their network.
fn check_host_network(spec: &Place<'_>, report: &mut Report) {
    if !spec.at("hostNetwork").is_true() {
        return;
    }
    for port in spec
        .at("containers")
        .items()
        .flat_map(|container| container.at("ports").items())
    {
        let (host, inner) = (port.at("hostPort"), port.at("containerPort"));
        if host.number().is_some_and(|number| number != 0) && host.number() != inner.number() {
            report.invalid(
                &host,
                "must match `containerPort` when `hostNetwork` is true",
            );
        }
    }
}

fn check_security(context: &Place<'_>, report: &mut Report) {
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        report.check_range(&context.at(field), 0, u32::MAX.into());
    }
    for group in context.at("supplementalGroups").items() {
        report.check_range(&group, 0, u32::MAX.into());
    }
    report.check_choice(
        &context.at("fsGroupChangePolicy"),
        &["Always", "OnRootMismatch"],
    );
    report.check_choice(
        &context.at("supplementalGroupsPolicy"),
        &["Merge", "Strict"],
    );
    report.check_unique(
        context
            .at("sysctls")
            .items()
            .map(|sysctl| sysctl.at("name")),
    );
    for sysctl in context.at("sysctls").items() {
        report.check_there(&sysctl.at("name"));
    }
}

fn check_dns(spec: &Place<'_>, report: &mut Report) {
    let config = spec.at("dnsConfig");
    let servers = config.at("nameservers");
    if spec.at("dnsPolicy").text() == "None" {
        if !config.is_there() {
            return report.required(&config, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return report.required(&servers, detail);
        }
    }
    if servers.len() > 3 {
        report.invalid(&servers, "must not have more than 3 nameservers");
    }
    for server in servers.items() {
        address::check(&server, report);
    }
    let searches = config.at("searches");
    if searches.len() > 32 {
        report.invalid(&searches, "must not have more than 32 search paths");
    }
    if searches.texts().join(" ").len() > 2048 {
        let detail =
            "must not have more than 2048 characters (including spaces) in the search list";
        report.invalid(&searches, detail);
    }
    for option in config.at("options").items() {
        if option.at("name").is_empty() {
            report.required(&option, "must not be empty");
        }
    }
}

fn check_gates(gates: &Place<'_>, report: &mut Report) {
    let mut known = HashSet::new();
    for gate in gates.items() {
        let name = gate.at("name").called(&gate.path);
        report.invalid_each(&name, names::qualified(name.text()));
        if !known.insert(name.text()) {
            report.duplicate(&name);
        }
    }
}

/// Nothing but what upstream lists may change of a pod's spec.
fn check_change(new: &Place<'_>, old: &Place<'_>, report: &mut Report) {
    let mut allowed = new.value.clone();
    for kind in ["containers", "initContainers"] {
        let (news, olds) = (new.at(kind), old.at(kind));
        if news.len() != olds.len() {
            let detail = match kind {
                "containers" => "pod updates may not add or remove containers",
                _ => "pod updates may not add or remove initContainers",
            };
            return report.forbidden(&news, detail);
        }
        for (place, container) in olds.items().enumerate() {
            if let Some(changed) = allowed.get_mut(kind).and_then(|list| list.get_mut(place)) {
                keep(changed, "image", container.at("image").value);
            }
        }
    }
    let (deadline, before) = (
        new.at("activeDeadlineSeconds"),
        old.at("activeDeadlineSeconds"),
    );
    match (deadline.number(), before.number()) {
        (Some(now), _) if !(0..=MOST_ACTIVE).contains(&now) => {
            return report.check_range(&deadline, 0, MOST_ACTIVE);
        }
        (Some(now), Some(before)) if before < now => {
            return report.invalid(&deadline, "must be less than or equal to previous value");
        }
        (None, Some(_)) => report.invalid(
            &deadline,
            "must not update from a positive integer to nil value",
        ),
        _ => {}
    }
    keep(&mut allowed, "activeDeadlineSeconds", before.value);
    check_added_tolerations(&new.at("tolerations"), &old.at("tolerations"), report);
    keep(&mut allowed, "tolerations", old.at("tolerations").value);
    check_removed_gates(
        &new.at("schedulingGates"),
        &old.at("schedulingGates"),
        report,
    );
    keep(
        &mut allowed,
        "schedulingGates",
        old.at("schedulingGates").value,
    );
    let (grace, before) = (
        new.at("terminationGracePeriodSeconds"),
        old.at("terminationGracePeriodSeconds"),
    );
    if before.number().is_some_and(|before| before < 0) && grace.number() == Some(1) {
        keep(&mut allowed, "terminationGracePeriodSeconds", before.value);
    }
    // While a pod is held back, where it may run can still be narrowed down.
    if !old.at("schedulingGates").is_empty() {
        check_narrowed(&new.at("nodeSelector"), &old.at("nodeSelector"), report);
        keep(&mut allowed, "nodeSelector", old.at("nodeSelector").value);
        if let Some(affinity) = allowed.get_mut("affinity") {
            keep(
                affinity,
                "nodeAffinity",
                old.at("affinity.nodeAffinity").value,
            );
        }
    }
    if !is_same(&allowed, old.value) {
        let changes = difference(&allowed, old.value);
        report.forbidden(
            new,
            format!("pod updates may not change fields other than {CHANGEABLE}\n{changes}"),
        );
    }
}

/// Puts the old value of a field back, if there is something to put it into.
fn keep(object: &mut Value, field: &str, old: &Value) {
    if let Value::Object(fields) = object {
        fields.insert(field.to_owned(), old.clone());
    }
}

fn check_added_tolerations(new: &Place<'_>, old: &Place<'_>, report: &mut Report) {
    if is_same(new.value, old.value) {
        return;
    }
    let without_seconds = |toleration: Place<'_>| {
        let mut value = toleration.value.clone();
        if let Value::Object(fields) = &mut value {
            fields.remove("tolerationSeconds");
        }
        value.to_string()
    };
    let known: HashSet<String> = new.items().map(without_seconds).collect();
    if !old
        .items()
        .map(without_seconds)
        .all(|toleration| known.contains(&toleration))
    {
        report.forbidden(
            new,
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
}

fn check_removed_gates(new: &Place<'_>, old: &Place<'_>, report: &mut Report) {
    let known: HashSet<&str> = old.items().map(|gate| gate.at("name").text()).collect();
    for gate in new.items() {
        let name = gate.at("name");
        if !known.contains(name.text()) {
            let detail = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                name.text()
            );
            report.forbidden(&name, detail);
        }
    }
}

fn check_narrowed(new: &Place<'_>, old: &Place<'_>, report: &mut Report) {
    let is_kept = |(key, value): (&str, Place<'_>)| new.key(key).text() == value.text();
    if !old.entries().all(is_kept) {
        report.invalid(
            new,
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        );
    }
}

/// The fields that differ, for people: upstream gives a difference of its types in Go.
pub(super) fn difference(new: &Value, old: &Value) -> String {
    let nothing = json!(null);
    let fields = |value: &Value| {
        value
            .as_object()
            .map(|fields| fields.keys().cloned().collect())
            .unwrap_or_default()
    };
    let mut names: Vec<String> = fields(new);
    let more: Vec<String> = fields(old);
    names.extend(more.into_iter().filter(|name| new.get(name).is_none()));
    names.sort();
    let mut lines = String::new();
    for name in names {
        let (after, before) = (
            new.get(&name).unwrap_or(&nothing),
            old.get(&name).unwrap_or(&nothing),
        );
        if !is_same(after, before) {
            lines.push_str(&format!("- {name}: {before}\n+ {name}: {after}\n"));
        }
    }
    lines
}
