//! What a cluster is made of and divided into: nodes, quotas, limits, classes.

use std::collections::{BTreeSet, HashSet};

use serde_json::json;

use super::amount::Amount;
use super::place::{Place, is_same};
use super::report::{IMMUTABLE, Report};
use super::resources::{self, Owner};
use super::{address, names, scheduling};

/// The highest priority that a user may give.
const PRIORITY: i64 = 1_000_000_000;

/// Classes that come with the system, with their priorities.
const SYSTEM_CLASSES: [(&str, i64); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

/// What of pods and claims a quota may be limited to.
const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// What upstream says of a scope that does not fit what is counted.
const UNFIT_SCOPE: &str = "unsupported scope applied to resource";

/// Rules for Nodes.
pub(super) fn check_node(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    if let Some(old) = old {
        check_node_change(new, old, report);
    }
    scheduling::check_taints(&spec.at("taints"), report);
    check_node_status(new, report);
    let ranges = spec.at("podCIDRs");
    for range in ranges.items() {
        address::check_range(&range, report);
    }
    report.check_unique(ranges.items());
    if ranges.len() > 2 {
        report.invalid(
            &ranges,
            "may specify no more than one CIDR for each IP family",
        );
    }
    if ranges.is_empty() && !spec.at("podCIDR").is_empty() {
        address::check_range(&spec.at("podCIDR").called("spec.podCIDRs[0]"), report);
    }
}

fn check_node_change(new: &Place<'_>, old: &Place<'_>, report: &mut Report) {
    let mut known = HashSet::new();
    for address in new.at("status.addresses").items() {
        if !known.insert((address.at("type").text(), address.at("address").text())) {
            report.duplicate(&address);
        }
    }
    let detail = "node updates may not change podCIDR except from \"\" to valid";
    let ranges = (new.at("spec.podCIDRs"), old.at("spec.podCIDRs"));
    if !ranges.1.is_empty() && !is_same(ranges.0.value, ranges.1.value) {
        report.forbidden(&ranges.0, detail);
    }
    let provider = (new.at("spec.providerID"), old.at("spec.providerID"));
    if !provider.1.is_empty() && provider.0.text() != provider.1.text() {
        let detail = "node updates may not change providerID except from \"\" to valid";
        report.forbidden(&provider.0, detail);
    }
}

/// What a node has and offers.
pub(super) fn check_node_status(node: &Place<'_>, report: &mut Report) {
    for field in ["capacity", "allocatable"] {
        for (name, amount) in node.at("status").at(field).entries() {
            let place = amount.called(format!("status.{field}.{name}"));
            resources::check_amount(&place, name, report);
        }
    }
}

/// Rules for quotas.
pub(super) fn check_quota(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    for (name, amount) in new.at("spec.hard").entries() {
        resources::check_name(&amount, name, Owner::Quota, report);
        resources::check_amount(&amount, name, report);
    }
    check_scopes(&new.at("spec"), report);
    check_selected_scopes(&new.at("spec"), report);
    if let Some(old) = old {
        let scopes = |quota: &Place<'_>| -> BTreeSet<String> {
            let scopes = quota.at("spec.scopes");
            scopes.texts().into_iter().map(str::to_owned).collect()
        };
        if scopes(new) != scopes(old) {
            report.invalid(&new.at("spec.scopes"), IMMUTABLE);
        }
    }
}

/// The scopes of a quota: they are known, fit each other, and what the quota counts.
fn check_scopes(spec: &Place<'_>, report: &mut Report) {
    let scopes = spec.at("scopes");
    let names = scopes.texts();
    for scope in &names {
        if !SCOPES.contains(scope) {
            report.invalid(&scopes, "unsupported scope");
        }
        for (resource, _) in spec.at("hard").entries() {
            if !does_scope_fit(scope, resource) {
                report.invalid(&scopes, UNFIT_SCOPE);
            }
        }
    }
    if has_conflict(&names) {
        report.invalid(&scopes, "conflicting scopes");
    }
}

/// The same of those that a selector names, with their operators and values.
fn check_selected_scopes(spec: &Place<'_>, report: &mut Report) {
    let selector = spec.at("scopeSelector");
    let expressions = selector.at("matchExpressions");
    let mut names = Vec::new();
    for expression in expressions.items() {
        let field = |name: &str| {
            // Upstream does not say which expression it is.
            let place = expression.at(name);
            place.called(format!("{}.{name}", expressions.path))
        };
        let (scope, operator, values) = (field("scopeName"), field("operator"), field("values"));
        if !SCOPES.contains(&scope.text()) {
            report.invalid_text(&scope, "unsupported scope");
        }
        for (resource, _) in spec.at("hard").entries() {
            if !does_scope_fit(scope.text(), resource) {
                report.invalid_value(&expressions, selector.value.clone(), UNFIT_SCOPE);
            }
        }
        let has_values = ["PriorityClass", "VolumeAttributesClass"].contains(&scope.text());
        if SCOPES.contains(&scope.text()) && !has_values && operator.text() != "Exists" {
            report.invalid_text(
                &operator,
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                 ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                 ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            );
        }
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => report.required(
                &values,
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => report.invalid(
                &values,
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => report.invalid_text(&operator, "not a valid selector operator"),
        }
        names.push(scope.text());
    }
    if has_conflict(&names) {
        let scopes = spec.at("scopes").called(expressions.path);
        report.invalid(&scopes, "conflicting scopes");
    }
}

/// Whether a quota of a scope may count a resource. What upstream does not know fits all.
fn does_scope_fit(scope: &str, resource: &str) -> bool {
    let compute = [
        "cpu",
        "limits.cpu",
        "limits.memory",
        "memory",
        "requests.cpu",
        "requests.memory",
    ];
    match scope {
        _ if !resources::is_of_quotas(resource) => true,
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => resource == "pods" || compute.contains(&resource),
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            ["persistentvolumeclaims", "requests.storage"].contains(&resource)
        }
        _ => true,
    }
}

fn has_conflict(scopes: &[&str]) -> bool {
    let has = |scope: &str| scopes.contains(&scope);
    (has("BestEffort") && has("NotBestEffort")) || (has("Terminating") && has("NotTerminating"))
}

/// What of a quota is used.
pub(super) fn check_quota_status(new: &Place<'_>, report: &mut Report) {
    for field in ["status.hard", "status.used"] {
        for (name, amount) in new.at(field).entries() {
            resources::check_name(&amount, name, Owner::Quota, report);
            resources::check_amount(&amount, name, report);
        }
    }
}

/// Rules for ranges of limits.
pub(super) fn check_limits(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    let mut known = HashSet::new();
    for limit in new.at("spec.limits").items() {
        let kind = limit.at("type");
        let errors = names::qualified(kind.text());
        let standard = ["Container", "PersistentVolumeClaim", "Pod"];
        if !errors.is_empty() {
            report.invalid_each(&kind, errors);
        } else if !kind.text().contains('/') && !standard.contains(&kind.text()) {
            report.invalid(&kind, "must be a standard limit type or fully qualified");
        }
        if !known.insert(kind.text()) {
            report.duplicate_value(&kind, json!(kind.text()), "");
        }
        check_limit(&limit, report);
    }
}

fn check_limit(limit: &Place<'_>, report: &mut Report) {
    let kind = limit.at("type").text();
    let owner = match kind {
        "Pod" | "Container" => Owner::Container,
        _ => Owner::Any,
    };
    let mut keys = BTreeSet::new();
    for field in [
        "max",
        "min",
        "default",
        "defaultRequest",
        "maxLimitRequestRatio",
    ] {
        let amounts = limit.at(field);
        if kind == "Pod" && field.starts_with("default") {
            if !amounts.is_empty() {
                report.forbidden(&amounts, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, place) in amounts.entries() {
            resources::check_name(&place, name, owner, report);
            keys.insert(name);
        }
    }
    if kind == "PersistentVolumeClaim"
        && !["max", "min"]
            .iter()
            .any(|field| limit.at(field).key("storage").is_there())
    {
        let detail =
            "either minimum or maximum storage value is required, but neither was provided";
        report.required(&limit.at("limits"), detail);
    }
    for key in keys {
        check_order(limit, key, report);
    }
}

/// Least, default and most of one resource come in this order.
fn check_order(limit: &Place<'_>, key: &str, report: &mut Report) {
    let place = |field: &str| limit.at(field).key(key);
    let shown = |field: &str| {
        let value = place(field).value;
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let orders = [
        ("min", "max", "min", "min value", "max value"),
        (
            "min",
            "defaultRequest",
            "defaultRequest",
            "min value",
            "default request value",
        ),
        (
            "defaultRequest",
            "max",
            "defaultRequest",
            "default request value",
            "max value",
        ),
        (
            "defaultRequest",
            "default",
            "defaultRequest",
            "default request value",
            "default limit value",
        ),
        ("min", "default", "default", "min value", "default value"),
        ("default", "max", "default", "default value", "max value"),
    ];
    for (low, high, named, low_words, high_words) in orders {
        let amounts = (
            Amount::read(place(low).value),
            Amount::read(place(high).value),
        );
        if let (Some(least), Some(most)) = amounts
            && least > most
        {
            let detail = format!(
                "{low_words} {} is greater than {high_words} {}",
                shown(low),
                shown(high)
            );
            report.invalid(&place(named), detail);
        }
    }
    let ratio = place("maxLimitRequestRatio");
    let Some(most) = Amount::read(ratio.value) else {
        return;
    };
    if most < Amount::ONE {
        report.invalid(
            &ratio,
            format!("ratio {} is less than 1", shown("maxLimitRequestRatio")),
        );
    }
    let range = (
        Amount::read(place("min").value),
        Amount::read(place("max").value),
    );
    if let (Some(low), Some(high)) = range
        && low.is_positive()
        && most.to_float() > high.to_float() / low.to_float()
    {
        let detail = format!(
            "ratio {} is greater than max/min = {:.6}",
            shown("maxLimitRequestRatio"),
            high.to_float() / low.to_float()
        );
        report.invalid(&ratio, detail);
    }
}

/// Rules for classes of priority.
pub(super) fn check_priority_class(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    let (name, value) = (new.at("metadata.name"), new.at("value"));
    let number = value.number().unwrap_or_default();
    if name.text().starts_with("system-") {
        let is_known = SYSTEM_CLASSES.contains(&(name.text(), number));
        if !is_known && old.is_none() {
            let detail = "priority class names with 'system-' prefix are reserved for system use only. error: ";
            let why = match SYSTEM_CLASSES
                .iter()
                .find(|(known, _)| *known == name.text())
            {
                Some((known, wanted)) => format!("value of {known} PriorityClass must be {wanted}"),
                None => format!("{} is not a known system priority class", name.text()),
            };
            report.forbidden(&name, format!("{detail}{why}"));
        }
    } else if number > PRIORITY {
        let detail = format!("maximum allowed value of a user defined priority is {PRIORITY}");
        report.forbidden(&value, detail);
    }
}

/// Rules for classes of runtimes.
pub(super) fn check_runtime_class(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    for (name, amount) in new.at("overhead.podFixed").entries() {
        resources::check_name(&amount, name, Owner::Container, report);
        resources::check_amount(&amount, name, report);
    }
    super::labels::check(&new.at("scheduling.nodeSelector"), report);
    scheduling::check_tolerations(&new.at("scheduling.tolerations"), report);
}
