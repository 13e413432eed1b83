//! Who may do what: roles and their bindings.

use serde_json::json;

use super::names;
use super::place::Place;
use super::report::Report;
use crate::kind::NameRule;

/// The group of roles and of those whom they are given.
const GROUP: &str = "rbac.authorization.k8s.io";

/// Rules for Roles.
pub(super) fn check_role(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    check_rules(new, true, report);
}

/// Rules for ClusterRoles.
pub(super) fn check_cluster_role(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    check_rules(new, false, report);
    let selectors = new.at("aggregationRule.clusterRoleSelectors");
    if new.at("aggregationRule").is_there() && selectors.is_empty() {
        report.required(
            &selectors,
            "at least one clusterRoleSelector required if aggregationRule is non-nil",
        );
    }
    for selector in selectors.items() {
        super::labels::check_selector(&selector, report);
    }
}

fn check_rules(role: &Place<'_>, is_namespaced: bool, report: &mut Report) {
    for rule in role.at("rules").items() {
        if rule.at("verbs").is_empty() {
            report.required(&rule.at("verbs"), "verbs must contain at least one value");
        }
        let paths = rule.at("nonResourceURLs");
        if !paths.is_empty() {
            if is_namespaced {
                report.invalid(&paths, "namespaced rules cannot apply to non-resource URLs");
            }
            let has_resources = ["apiGroups", "resources", "resourceNames"]
                .iter()
                .any(|field| !rule.at(field).is_empty());
            if has_resources {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                report.invalid(&paths, detail);
            }
            continue;
        }
        if rule.at("apiGroups").is_empty() {
            report.required(
                &rule.at("apiGroups"),
                "resource rules must supply at least one api group",
            );
        }
        if rule.at("resources").is_empty() {
            report.required(
                &rule.at("resources"),
                "resource rules must supply at least one resource",
            );
        }
    }
}

/// Rules for RoleBindings.
pub(super) fn check_binding(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    check_any_binding(new, old, true, report);
}

/// Rules for ClusterRoleBindings.
pub(super) fn check_cluster_binding(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    check_any_binding(new, old, false, report);
}

fn check_any_binding(
    new: &Place<'_>,
    old: Option<&Place<'_>>,
    is_namespaced: bool,
    report: &mut Report,
) {
    let role = new.at("roleRef");
    if !["", GROUP].contains(&role.at("apiGroup").text()) {
        report.unsupported(&role.at("apiGroup"), &[GROUP]);
    }
    let kinds: &[&str] = if is_namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    if !kinds.contains(&role.at("kind").text()) {
        report.unsupported(&role.at("kind"), kinds);
    }
    report.check_needed_name(&role.at("name"), NameRule::Path);
    for subject in new.at("subjects").items() {
        check_subject(&subject, is_namespaced, report);
    }
    if let Some(old) = old {
        let fields = ["apiGroup", "kind", "name"];
        if fields
            .iter()
            .any(|field| role.at(field).text() != old.at("roleRef").at(field).text())
        {
            report.invalid(&role, "cannot change roleRef");
        }
    }
}

fn check_subject(subject: &Place<'_>, is_namespaced: bool, report: &mut Report) {
    let (name, group) = (subject.at("name"), subject.at("apiGroup"));
    report.check_there(&name);
    let kind = subject.at("kind");
    match kind.text() {
        "ServiceAccount" => {
            if !name.is_empty() {
                report.invalid_each(&name, names::subdomain(name.text()));
            }
            if !group.is_empty() {
                report.unsupported(&group, &[""]);
            }
            if !is_namespaced && subject.at("namespace").is_empty() {
                report.required(&subject.at("namespace"), "");
            }
        }
        text @ ("User" | "Group") => {
            if name.is_empty() {
                let detail = format!("{} name cannot be empty", text.to_lowercase());
                report.invalid_value(&name, json!(""), detail);
            }
            if !["", GROUP].contains(&group.text()) {
                report.unsupported(&group, &[GROUP]);
            }
        }
        _ => report.unsupported(&kind, &["ServiceAccount", "User", "Group"]),
    }
}
