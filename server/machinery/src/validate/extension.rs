//! What extends the API itself: custom kinds, webhooks, other servers.

use std::collections::HashSet;

use serde_json::json;

use super::labels;
use super::names;
use super::place::Place;
use super::report::Report;
use crate::kind::NameRule;

/// Versions of reviews that webhooks may be asked in.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// What webhooks are asked about.
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

/// Rules for definitions of custom kinds.
pub(super) fn check_definition(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    let (group, plural) = (spec.at("group"), spec.at("names.plural"));
    let name = new.at("metadata.name");
    if name.text() != format!("{}.{}", plural.text(), group.text()) {
        report.invalid_text(&name, "must be spec.names.plural+\".\"+spec.group");
    }
    match group.text() {
        "" => report.required(&group, ""),
        text => {
            let errors = names::subdomain(text);
            if !errors.is_empty() {
                report.invalid(&group, errors.join(","));
            } else if !text.contains('.') {
                report.invalid(&group, "should be a domain with at least one dot");
            }
        }
    }
    report.check_needed_choice(&spec.at("scope"), &["Cluster", "Namespaced"]);
    check_versions(&spec.at("versions"), report);
    check_names(&spec.at("names"), report);
    let strategy = spec.at("conversion.strategy");
    report.check_choice(&strategy, &["None", "Webhook"]);
    if strategy.text() == "Webhook" && !spec.at("conversion.webhook.clientConfig").is_there() {
        let detail = "required when strategy is set to Webhook";
        report.required(&spec.at("conversion.webhook.clientConfig"), detail);
    }
    let Some(old) = old else { return };
    let before = old.at("spec");
    let is_established = old.at("status.conditions").items().any(|condition| {
        condition.at("type").text() == "Established" && condition.at("status").text() == "True"
    });
    if is_established {
        for field in ["scope", "names.kind"] {
            report.check_unchanged(&spec.at(field), &before.at(field));
        }
    }
    for field in ["group", "names.plural"] {
        report.check_unchanged(&spec.at(field), &before.at(field));
    }
}

fn check_versions(versions: &Place<'_>, report: &mut Report) {
    let is_stored = |version: &Place<'_>| version.at("storage").is_true();
    if versions.items().filter(is_stored).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        report.invalid(versions, detail);
    }
    let mut known = HashSet::new();
    for version in versions.items() {
        let name = version.at("name");
        let errors = names::service_label(name.text());
        if !errors.is_empty() {
            report.invalid_text(&name, errors.join(","));
        }
        if !known.insert(name.text()) {
            report.invalid_value(
                versions,
                json!(name.text()),
                "must contain unique version names",
            );
        }
        let schema = version.at("schema.openAPIV3Schema");
        if !schema.is_there() {
            report.required(&schema, "schemas are required");
        }
    }
}

fn check_names(of_kind: &Place<'_>, report: &mut Report) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = of_kind.at(field);
        if name.is_empty() {
            // The server makes the others of the first and of the kind.
            if ["plural", "kind"].contains(&field) {
                report.required(&name, "");
            }
            continue;
        }
        let errors = names::service_label(&name.text().to_lowercase());
        if !errors.is_empty() {
            let shown = match field {
                "kind" | "listKind" => format!(
                    "may have mixed case, but should otherwise match: {}",
                    errors.join(",")
                ),
                _ => errors.join(","),
            };
            report.invalid(&name, shown);
        } else if ["plural", "singular"].contains(&field)
            && name.text() != name.text().to_lowercase()
        {
            report.invalid(&name, names::service_label(name.text()).join(","));
        }
    }
    if !of_kind.at("kind").is_empty() && of_kind.at("kind").text() == of_kind.at("listKind").text()
    {
        let detail = "kind and listKind may not be the same";
        report.invalid(&of_kind.at("listKind"), detail);
    }
    for list in ["shortNames", "categories"] {
        for name in of_kind.at(list).items() {
            let errors = names::service_label(name.text());
            if !errors.is_empty() {
                report.invalid_text(&name, errors.join(","));
            }
        }
    }
}

/// Rules for both kinds of webhook configurations.
pub(super) fn check_webhooks(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    let mut known = HashSet::new();
    for hook in new.at("webhooks").items() {
        check_webhook(&hook, report);
        let name = hook.at("name");
        if !name.is_empty() && !known.insert(name.text()) {
            report.duplicate(&name);
        }
    }
}

fn check_webhook(hook: &Place<'_>, report: &mut Report) {
    let name = hook.at("name");
    let errors = names::subdomain(name.text());
    if name.is_empty() {
        report.required(&name, "");
    } else if !errors.is_empty() {
        report.invalid(&name, errors.join(","));
    } else if name.text().split('.').count() < 3 {
        report.invalid(
            &name,
            "should be a domain with at least three segments separated by dots",
        );
    }
    for rule in hook.at("rules").items() {
        check_rule(&rule, report);
    }
    report.check_choice(&hook.at("failurePolicy"), &["Fail", "Ignore"]);
    report.check_choice(&hook.at("matchPolicy"), &["Equivalent", "Exact"]);
    report.check_choice(&hook.at("reinvocationPolicy"), &["IfNeeded", "Never"]);
    let effects = hook.at("sideEffects");
    match effects.is_there() {
        true => report.check_choice(&effects, &["None", "NoneOnDryRun"]),
        false => report.required(&effects, "must specify one of None, NoneOnDryRun"),
    }
    let timeout = hook.at("timeoutSeconds");
    if timeout
        .number()
        .is_some_and(|seconds| !(1..=30).contains(&seconds))
    {
        report.invalid(
            &timeout,
            "the timeout value must be between 1 and 30 seconds",
        );
    }
    labels::check_selector(&hook.at("namespaceSelector"), report);
    labels::check_selector(&hook.at("objectSelector"), report);
    check_client(&hook.at("clientConfig"), report);
    check_reviews(&hook.at("admissionReviewVersions"), report);
}

fn check_rule(rule: &Place<'_>, report: &mut Report) {
    let operations = rule.at("operations");
    report.check_there(&operations);
    if operations.len() > 1 && operations.texts().contains(&"*") {
        report.invalid(
            &operations,
            "if '*' is present, must not specify other operations",
        );
    }
    for operation in operations.items() {
        report.check_choice(&operation, &OPERATIONS);
    }
    for (field, words) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let list = rule.at(field);
        report.check_there(&list);
        if list.len() > 1 && list.texts().contains(&"*") {
            report.invalid(
                &list,
                format!("if '*' is present, must not specify other {words}"),
            );
        }
    }
    for version in rule.at("apiVersions").items() {
        report.check_there(&version);
    }
    let resources = rule.at("resources");
    report.check_there(&resources);
    for resource in resources.items() {
        report.check_there(&resource);
    }
    if resources.len() > 1 && resources.texts().contains(&"*/*") {
        report.invalid(
            &resources,
            "if '*/*' is present, must not specify other resources",
        );
    }
    report.check_choice(&rule.at("scope"), &["*", "Cluster", "Namespaced"]);
}

fn check_client(client: &Place<'_>, report: &mut Report) {
    let (address, service) = (client.at("url"), client.at("service"));
    if address.is_there() == service.is_there() {
        return report.required(client, "exactly one of url or service is required");
    }
    if address.is_there() {
        let (scheme, rest) = address.text().split_once("://").unwrap_or(("", ""));
        if scheme != "https" {
            let detail =
                "'https' is the only allowed URL scheme; desired format: https://host[/path]";
            report.invalid_value(&address, json!(scheme), detail);
        }
        if rest.is_empty() || rest.starts_with('/') {
            let detail = "host must be specified; desired format: https://host[/path]";
            report.invalid_value(&address, json!(""), detail);
        }
        return;
    }
    for field in ["name", "namespace"] {
        let place = service.at(field);
        if place.is_empty() {
            report.required(&place, &format!("service {field} is required"));
        }
    }
    let path = service.at("path");
    if !path.is_empty() && !path.text().starts_with('/') {
        report.invalid(&path, "must start with a '/'");
    }
    if service
        .at("port")
        .number()
        .is_some_and(|port| !(1..=65535).contains(&port))
    {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        report.invalid(&service.at("port"), detail);
    }
}

fn check_reviews(versions: &Place<'_>, report: &mut Report) {
    if versions.is_empty() {
        return report.required(versions, "must specify one of v1, v1beta1");
    }
    let mut known = HashSet::new();
    for version in versions.items() {
        match known.insert(version.text()) {
            true => report.invalid_each(&version, names::service_label(version.text())),
            false => report.invalid_text(&version, "duplicate version"),
        }
    }
    if !REVIEWS.iter().any(|review| known.contains(review)) {
        report.invalid(versions, "must include at least one of v1, v1beta1");
    }
}

/// Rules for other servers.
pub(super) fn check_server(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    let (name, version, group) = (
        new.at("metadata.name"),
        spec.at("version"),
        spec.at("group"),
    );
    let wanted = format!("{}.{}", version.text(), group.text());
    if name.text() != wanted {
        report.invalid_text(
            &name,
            format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"),
        );
    }
    if !group.is_empty() {
        report.check_name(&group, NameRule::Subdomain);
    }
    report.check_needed_name(&version, NameRule::ServiceLabel);
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let place = spec.at(field);
        let number = place.number().unwrap_or_default();
        if !(1..=most).contains(&number) {
            let detail = format!("must be positive and less than {most}");
            report.invalid_value(&place, json!(number), detail);
        }
    }
}
