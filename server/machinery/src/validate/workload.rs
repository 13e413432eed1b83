//! What makes pods and keeps their number: Deployments, ReplicaSets, StatefulSets, DaemonSets and their like.

use serde_json::json;

use super::place::{Place, is_same};
use super::report::{Report, amount_or_percent};
use super::{labels, names, pod};

/// Whatever goes on forever has pods that do.
fn check_forever(template: &Place<'_>, kind: &str, report: &mut Report) {
    let policy = template.at("spec.restartPolicy");
    if policy.is_there() && policy.text() != "Always" {
        report.unsupported(&policy, &["Always"]);
    }
    let deadline = template.at("spec.activeDeadlineSeconds");
    if deadline.is_there() {
        report.forbidden(
            &deadline,
            format!("activeDeadlineSeconds in {kind} is not Supported"),
        );
    }
}

/// A selector that is there and selects something.
fn check_selector(selector: &Place<'_>, kind: &str, report: &mut Report) {
    if !selector.is_there() {
        return report.required(selector, "");
    }
    labels::check_selector(selector, report);
    if labels::is_everything(selector) {
        report.invalid(selector, format!("empty selector is invalid for {kind}"));
    }
}

/// A selector finds the pods that are made. One that is not there finds none; an empty one finds all.
fn check_match(selector: &Place<'_>, template: &Place<'_>, report: &mut Report) {
    let made = template.at("metadata.labels");
    if !selector.is_there() || !labels::does_match(selector, &made) {
        report.invalid(&made, labels::NO_MATCH);
    }
}

/// Rules for Deployments.
pub(super) fn check_deployment(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    let template = spec.at("template");
    check_selector(&spec.at("selector"), "deployment", report);
    check_match(&spec.at("selector"), &template, report);
    pod::check_template(&template, report);
    // Upstream has the rules of ReplicaSets for the template.
    check_forever(&template, "ReplicaSet", report);
    let (strategy, rolling) = (spec.at("strategy"), spec.at("strategy.rollingUpdate"));
    match strategy.at("type").text() {
        "" => {}
        "Recreate" => {
            if rolling.is_there() {
                report.forbidden(
                    &rolling,
                    "may not be specified when strategy `type` is 'Recreate'",
                );
            }
        }
        "RollingUpdate" => check_rolling_deployment(&rolling, report),
        _ => report.unsupported(&strategy, &["Recreate", "RollingUpdate"]),
    }
    let (deadline, ready) = (
        spec.at("progressDeadlineSeconds"),
        spec.at("minReadySeconds"),
    );
    if deadline
        .number()
        .is_some_and(|deadline| deadline <= ready.number().unwrap_or_default())
    {
        report.invalid(&deadline, "must be greater than minReadySeconds");
    }
}

fn check_rolling_deployment(rolling: &Place<'_>, report: &mut Report) {
    let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
    report.check_amount_or_percent(&unavailable);
    report.check_amount_or_percent(&surge);
    let is_none = |place: &Place<'_>| place.is_there() && amount_or_percent(place) == 0;
    if is_none(&unavailable) && is_none(&surge) {
        report.invalid(&unavailable, "may not be 0 when `maxSurge` is 0");
    }
    report.check_at_most_whole(&unavailable);
}

/// Rules for ReplicaSets.
pub(super) fn check_replica_set(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    let template = spec.at("template");
    // Upstream calls it a deployment here.
    check_selector(&spec.at("selector"), "deployment", report);
    check_match(&spec.at("selector"), &template, report);
    pod::check_template(&template, report);
    check_forever(&template, "ReplicaSet", report);
}

/// Rules for replication controllers, whose selector is a map of labels.
pub(super) fn check_replication_controller(
    new: &Place<'_>,
    _: Option<&Place<'_>>,
    report: &mut Report,
) {
    let (selector, template) = (new.at("spec.selector"), new.at("spec.template"));
    report.check_there(&selector);
    if !template.is_there() {
        return report.required(&template, "");
    }
    let wanted = json!({ "matchLabels": selector.value });
    check_match(&Place::whole(&wanted), &template, report);
    pod::check_template(&template, report);
    check_forever(&template, "ReplicationController", report);
}

/// Rules for DaemonSets.
pub(super) fn check_daemon_set(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    let template = spec.at("template");
    check_match(&spec.at("selector"), &template, report);
    check_selector(&spec.at("selector"), "daemonset", report);
    pod::check_template(&template, report);
    check_forever(&template, "DaemonSet", report);
    let strategy = spec.at("updateStrategy");
    match strategy.at("type").text() {
        "" | "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = strategy.at("rollingUpdate");
            let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            for place in [&unavailable, &surge] {
                report.check_amount_or_percent(place);
                report.check_at_most_whole(place);
            }
            if amount_or_percent(&unavailable) != 0 && amount_or_percent(&surge) != 0 {
                report.invalid(&surge, "may not be set when maxUnavailable is non-zero");
            } else if unavailable.is_there()
                && amount_or_percent(&unavailable) == 0
                && amount_or_percent(&surge) == 0
            {
                report.required(&unavailable, "cannot be 0 when maxSurge is 0");
            }
        }
        _ => report.unsupported(&strategy, &["RollingUpdate", "OnDelete"]),
    }
}

/// Rules for StatefulSets.
pub(super) fn check_stateful_set(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    let template = spec.at("template");
    let (policy, strategy) = (spec.at("podManagementPolicy"), spec.at("updateStrategy"));
    if !["", "OrderedReady", "Parallel"].contains(&policy.text()) {
        report.invalid(&policy, "must be 'OrderedReady' or 'Parallel'");
    }
    let rolling = strategy.at("rollingUpdate");
    match strategy.at("type").text() {
        "" => {}
        "OnDelete" => {
            if rolling.is_there() {
                report.invalid(&rolling, "only allowed for updateStrategy 'RollingUpdate'");
            }
        }
        "RollingUpdate" => {
            report.check_not_negative(&rolling.at("partition"));
            let unavailable = rolling.at("maxUnavailable");
            if unavailable.is_there() {
                report.check_amount_or_percent(&unavailable);
                if amount_or_percent(&unavailable) == 0 {
                    report.invalid(&unavailable, "cannot be 0");
                }
                report.check_at_most_whole(&unavailable);
            }
        }
        _ => report.invalid(&strategy, "must be 'RollingUpdate' or 'OnDelete'"),
    }
    report.check_not_negative(&spec.at("ordinals.start"));
    check_selector(&spec.at("selector"), "statefulset", report);
    check_match(&spec.at("selector"), &template, report);
    // Upstream looks at no more of the template: its volumes come from the claims, too.
    labels::check(
        &template
            .at("metadata.labels")
            .called(format!("{}.labels", template.path)),
        report,
    );
    let annotations = template.at("metadata.annotations");
    labels::check_annotations(
        &annotations.called(format!("{}.annotations", template.path)),
        report,
    );
    check_forever(&template, "StatefulSet", report);
    if let Some(old) = old {
        check_stateful_change(&spec, &old.at("spec"), report);
    }
}

/// All of a StatefulSet that may change.
const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn check_stateful_change(new: &Place<'_>, old: &Place<'_>, report: &mut Report) {
    let rest = |spec: &Place<'_>| {
        let mut value = spec.value.clone();
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|name, _| !CHANGEABLE.contains(&name.as_str()));
        }
        value
    };
    if !is_same(&rest(new), &rest(old)) {
        let names: Vec<String> = CHANGEABLE.iter().map(|name| format!("'{name}'")).collect();
        let (last, others) = names
            .split_last()
            .map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
        let detail = format!(
            "updates to statefulset spec for fields other than {} and {last} are forbidden",
            others.join(", ")
        );
        report.forbidden(new, detail);
    }
}

/// Rules for revisions.
pub(super) fn check_revision(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    if !new.at("data").is_there() {
        report.required(&new.at("data"), "data is mandatory");
    }
}

/// Rules for templates on their own.
pub(super) fn check_pod_template(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    pod::check_template(&new.at("template"), report);
}

/// Rules for autoscalers, of any version.
pub(super) fn check_autoscaler(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    let (least, most) = (spec.at("minReplicas"), spec.at("maxReplicas"));
    let number = most.number().unwrap_or_default();
    if number < 1 {
        report.invalid_value(&most, json!(number), "must be greater than 0");
    }
    if least.number().is_some_and(|least| number < least) {
        report.invalid_value(
            &most,
            json!(number),
            "must be greater than or equal to `minReplicas`",
        );
    }
    for metric in spec.at("metrics").items() {
        check_metric(&metric, report);
    }
    for direction in ["behavior.scaleUp", "behavior.scaleDown"] {
        let rules = spec.at(direction);
        let window = rules.at("stabilizationWindowSeconds");
        report.check_not_negative(&window);
        if window.number().is_some_and(|seconds| seconds > 3600) {
            report.invalid(&window, "must be less than or equal to 3600");
        }
        report.check_choice(&rules.at("selectPolicy"), &["Disabled", "Max", "Min"]);
        for policy in rules.at("policies").items() {
            report.check_choice(&policy.at("type"), &["Percent", "Pods"]);
            for field in ["value", "periodSeconds"] {
                let place = policy.at(field);
                let number = place.number().unwrap_or_default();
                if number <= 0 {
                    report.invalid_value(&place, json!(number), "must be greater than zero");
                }
            }
            let period = policy.at("periodSeconds");
            if period.number().is_some_and(|seconds| seconds > 1800) {
                report.invalid(&period, "must be less than or equal to 1800");
            }
        }
    }
}

/// A metric has the part that its type names, and no other.
fn check_metric(metric: &Place<'_>, report: &mut Report) {
    let kinds = [
        ("ContainerResource", "containerResource"),
        ("External", "external"),
        ("Object", "object"),
        ("Pods", "pods"),
        ("Resource", "resource"),
    ];
    let place = metric.at("type");
    if place.is_empty() {
        report.required(&place, "must specify a metric source type");
    }
    let Some((_, own)) = kinds.iter().find(|(kind, _)| *kind == place.text()) else {
        return report.unsupported(&place, &kinds.map(|(kind, _)| kind));
    };
    if !metric.at(own).is_there() {
        report.required(
            &metric.at(own),
            "must populate information for the given metric source",
        );
    }
    for (_, field) in kinds {
        if field != *own && metric.at(field).is_there() {
            report.forbidden(
                &metric.at(field),
                "must populate the given metric source only",
            );
        }
    }
    let source = metric.at(own);
    if own.to_lowercase().contains("resource") && source.is_there() {
        if source.at("name").is_empty() {
            report.required(&source.at("name"), "must specify a resource name");
        }
    } else if source.at("metric").is_there() && source.at("metric.name").is_empty() {
        report.required(&source.at("metric.name"), "");
    }
    let target = source.at("target");
    if target.is_there() {
        let kind = target.at("type");
        match kind.is_empty() {
            true => report.required(&kind, "must specify a metric target type"),
            false => report.check_choice(&kind, &["AverageValue", "Utilization", "Value"]),
        }
        let utilization = target.at("averageUtilization");
        if utilization.number().is_some_and(|percent| percent < 1) {
            report.invalid(&utilization, "must be greater than 0");
        }
    }
}

/// Rules for budgets of disruption.
pub(super) fn check_budget(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    let (least, most) = (spec.at("minAvailable"), spec.at("maxUnavailable"));
    if least.is_there() && most.is_there() {
        report.invalid(&spec, "minAvailable and maxUnavailable cannot be both set");
    }
    for place in [&least, &most] {
        if place.is_there() {
            report.check_amount_or_percent(place);
            report.check_at_most_whole(place);
        }
    }
}

/// Rules for the status of what counts its pods: no count is more than that of all.
pub(super) fn check_counts(new: &Place<'_>, old: &Place<'_>, report: &mut Report) {
    let status = new.at("status");
    let all = status.at("replicas").number().unwrap_or_default();
    for field in [
        "fullyLabeledReplicas",
        "updatedReplicas",
        "readyReplicas",
        "currentReplicas",
        "availableReplicas",
    ] {
        if status.at(field).number().is_some_and(|count| count > all) {
            report.invalid(&status.at(field), "cannot be greater than status.replicas");
        }
    }
    let (available, ready) = (status.at("availableReplicas"), status.at("readyReplicas"));
    if available
        .number()
        .is_some_and(|count| count > ready.number().unwrap_or_default())
    {
        report.invalid(&available, "cannot be greater than readyReplicas");
    }
    let collisions = status.at("collisionCount");
    let before = old.at("status.collisionCount").number().unwrap_or_default();
    if collisions.number().unwrap_or_default() < before {
        let shown = json!(collisions.number().unwrap_or_default());
        report.invalid_value(&collisions, shown, "cannot be decremented");
    }
}

/// A name that the pods of an object get as part of theirs.
pub(super) fn check_short_name(name: &Place<'_>, most: usize, report: &mut Report) {
    if name.len() > most {
        report.invalid_text(name, names::too_long(most).replace("bytes", "characters"));
    }
}
