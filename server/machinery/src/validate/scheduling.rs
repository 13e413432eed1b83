//! Where pods may run: tolerations, affinities, spreading, and the taints that are tolerated.

use std::collections::HashSet;

use serde_json::json;

use super::place::Place;
use super::report::Report;
use super::{labels, names};

/// What a taint does.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Tolerations of a pod.
pub(super) fn check_tolerations(tolerations: &Place<'_>, report: &mut Report) {
    for toleration in tolerations.items() {
        let (key, operator) = (toleration.at("key"), toleration.at("operator"));
        let (value, effect) = (toleration.at("value"), toleration.at("effect"));
        if !key.is_empty() {
            labels::check_key(&key, key.text(), report);
        } else if operator.text() != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            report.invalid_text(&operator, detail);
        }
        if toleration.at("tolerationSeconds").is_there() && effect.text() != "NoExecute" {
            report.invalid_text(
                &effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        let shown = value.called(&operator.path);
        match operator.text() {
            "" | "Equal" => {
                let errors = names::label_value(value.text());
                if !errors.is_empty() {
                    report.invalid_text(&shown, errors.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                report.invalid_text(&shown, "value must be empty when `operator` is 'Exists'");
            }
            // The last two compare numbers, where nodes have such taints.
            "Exists" | "Gt" | "Lt" => {}
            _ => report.unsupported(&operator, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            report.check_choice(&effect, &EFFECTS);
        }
    }
}

/// Taints of a node. Upstream's errors say that they are in the metadata.
pub(super) fn check_taints(taints: &Place<'_>, report: &mut Report) {
    let mut known = HashSet::new();
    for taint in taints.called("metadata.taints").items() {
        let (key, value, effect) = (taint.at("key"), taint.at("value"), taint.at("effect"));
        labels::check_key(&key, key.text(), report);
        let errors = names::label_value(value.text());
        if !errors.is_empty() {
            report.invalid_text(&value, errors.join(";"));
        }
        report.check_needed_choice(&effect, &EFFECTS);
        if !known.insert((key.text(), effect.text())) {
            let detail = "taints must be unique by key and effect pair";
            report.duplicate_value(&taint, taint.value.clone(), detail);
        }
    }
}

/// Node and pod affinities.
pub(super) fn check_affinity(affinity: &Place<'_>, report: &mut Report) {
    let (required, preferred) = (
        "requiredDuringSchedulingIgnoredDuringExecution",
        "preferredDuringSchedulingIgnoredDuringExecution",
    );
    let nodes = affinity.at("nodeAffinity");
    if nodes.at(required).is_there() {
        check_node_selector(&nodes.at(required), report);
    }
    for term in nodes.at(preferred).items() {
        check_weight(&term.at("weight"), report);
        check_node_term(&term.at("preference"), false, report);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.at(kind);
        for term in pods.at(required).items() {
            check_pod_term(&term, report);
        }
        for term in pods.at(preferred).items() {
            check_weight(&term.at("weight"), report);
            check_pod_term(&term.at("podAffinityTerm"), report);
        }
    }
}

fn check_weight(weight: &Place<'_>, report: &mut Report) {
    let number = weight.number().unwrap_or_default();
    if !(1..=100).contains(&number) {
        report.invalid_value(weight, json!(number), "must be in the range 1-100");
    }
}

/// A selector of nodes, of pods or of volumes.
pub(super) fn check_node_selector(selector: &Place<'_>, report: &mut Report) {
    let terms = selector.at("nodeSelectorTerms");
    if terms.is_empty() {
        report.required(&terms, "must have at least one node selector term");
    }
    for term in terms.items() {
        check_node_term(&term, true, report);
    }
}

fn check_node_term(term: &Place<'_>, are_values_labels: bool, report: &mut Report) {
    let no_operator = "not a valid selector operator";
    for requirement in term.at("matchExpressions").items() {
        let (values, operator) = (requirement.at("values"), requirement.at("operator"));
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                report.required(
                    &values,
                    "must be specified when `operator` is 'In' or 'NotIn'",
                );
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                report.forbidden(&values, detail);
            }
            "Gt" | "Lt" if values.len() != 1 => {
                report.required(
                    &values,
                    "must be specified single value when `operator` is 'Lt' or 'Gt'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => report.invalid_text(&operator, no_operator),
        }
        let key = requirement.at("key");
        labels::check_key(&key, key.text(), report);
        for value in values.items().filter(|_| are_values_labels) {
            report.invalid_each(&value, names::label_value(value.text()));
        }
    }
    for requirement in term.at("matchFields").items() {
        let (values, operator) = (requirement.at("values"), requirement.at("operator"));
        match operator.text() {
            "In" | "NotIn" if values.len() != 1 => {
                let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                report.required(&values, detail);
            }
            "In" | "NotIn" => {}
            _ => report.invalid_text(&operator, no_operator),
        }
        if requirement.at("key").text() != "metadata.name" {
            report.invalid_text(&requirement.at("key"), "not a valid field selector key");
        }
    }
}

fn check_pod_term(term: &Place<'_>, report: &mut Report) {
    labels::check_selector(&term.at("labelSelector"), report);
    labels::check_selector(&term.at("namespaceSelector"), report);
    for namespace in term.at("namespaces").items() {
        let namespace = namespace.called(format!("{}.namespace", term.path));
        report.invalid_each(&namespace, names::label(namespace.text()));
    }
    let topology = term.at("topologyKey");
    if topology.is_empty() {
        report.required(&topology, "can not be empty");
    }
    labels::check_key(&topology, topology.text(), report);
}

/// How pods are spread.
pub(super) fn check_spreading(constraints: &Place<'_>, report: &mut Report) {
    let mut known = HashSet::new();
    for constraint in constraints.items() {
        let (skew, domains) = (constraint.at("maxSkew"), constraint.at("minDomains"));
        if skew.number().unwrap_or_default() <= 0 {
            report.invalid_value(
                &skew,
                json!(skew.number().unwrap_or_default()),
                "must be greater than zero",
            );
        }
        if domains.number().is_some_and(|number| number <= 0) {
            report.invalid(&domains, "must be greater than zero");
        }
        let (topology, action) = (
            constraint.at("topologyKey"),
            constraint.at("whenUnsatisfiable"),
        );
        match topology.text() {
            "" => report.required(&topology, "can not be empty"),
            key => labels::check_key(&topology, key, report),
        }
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action.text()) {
            report.unsupported(&action, &actions);
        }
        if domains.is_there() && action.text() != "DoNotSchedule" {
            let detail = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ";
            report.invalid(&domains, format!("{detail}{}", action.text()));
        }
        if !known.insert((topology.text(), action.text())) {
            let pair = format!("{{{}, {}}}", topology.text(), action.text());
            let place = constraint.called(format!(
                "{}.{{topologyKey, whenUnsatisfiable}}",
                constraint.path
            ));
            report.duplicate_value(&place, json!(pair), "");
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            report.check_choice(&constraint.at(field), &["Honor", "Ignore"]);
        }
        labels::check_selector(&constraint.at("labelSelector"), report);
    }
}
