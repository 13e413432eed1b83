//! Labels, annotations, and selectors of labels inside objects.

use serde_json::json;

use super::names;
use super::place::Place;
use super::report::Report;

/// Bytes of all annotations of an object.
const ANNOTATIONS: usize = 256 * 1024;

/// What upstream says of a selector that does not find what its owner makes.
pub(super) const NO_MATCH: &str = "`selector` does not match template `labels`";

/// Labels must have good keys and values. Errors name the map, not the entry.
pub(super) fn check(labels: &Place<'_>, report: &mut Report) {
    for (key, value) in labels.entries() {
        check_key(labels, key, report);
        for detail in names::label_value(value.text()) {
            report.invalid_value(labels, json!(value.text()), detail);
        }
    }
}

/// A key of labels must be a good one. Errors name the place that is given.
pub(super) fn check_key(place: &Place<'_>, key: &str, report: &mut Report) {
    for detail in names::qualified(key) {
        report.invalid_value(place, json!(key), detail);
    }
}

/// Annotations must have good keys, and together not be too large.
pub(super) fn check_annotations(annotations: &Place<'_>, report: &mut Report) {
    let mut size = 0;
    for (key, value) in annotations.entries() {
        // Capitals are taken everywhere in them.
        for detail in names::qualified(&key.to_lowercase()) {
            report.invalid_value(annotations, json!(key), detail);
        }
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS {
        report.too_long(annotations, ANNOTATIONS);
    }
}

/// A selector must be well-formed.
pub(super) fn check_selector(selector: &Place<'_>, report: &mut Report) {
    check(&selector.at("matchLabels"), report);
    for requirement in selector.at("matchExpressions").items() {
        let values = requirement.at("values");
        match requirement.at("operator").text() {
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
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => report.invalid_text(&requirement.at("operator"), "not a valid selector operator"),
        }
        let key = requirement.at("key");
        check_key(&key, key.text(), report);
        for value in values.items() {
            report.invalid_each(&value, names::label_value(value.text()));
        }
    }
}

/// Whether a selector selects everything.
pub(super) fn is_everything(selector: &Place<'_>) -> bool {
    selector.at("matchLabels").is_empty() && selector.at("matchExpressions").is_empty()
}

/// Whether a selector selects labels.
pub(super) fn does_match(selector: &Place<'_>, labels: &Place<'_>) -> bool {
    let value = |key: &str| labels.value.get(key).and_then(|value| value.as_str());
    let has_labels = selector
        .at("matchLabels")
        .entries()
        .all(|(key, wanted)| value(key) == Some(wanted.text()));
    let fulfils = |requirement: Place<'_>| {
        let found = value(requirement.at("key").text());
        let values = requirement.at("values").texts();
        match requirement.at("operator").text() {
            "In" => found.is_some_and(|found| values.contains(&found)),
            "NotIn" => !found.is_some_and(|found| values.contains(&found)),
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            _ => false,
        }
    };
    has_labels && selector.at("matchExpressions").items().all(fulfils)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn matches(selector: &Value, labels: &Value) -> bool {
        does_match(&Place::whole(selector), &Place::whole(labels))
    }

    #[test]
    fn selectors_select_what_fulfils_all_of_them() {
        let labels = json!({ "app": "web", "tier": "front" });
        assert!(matches(&json!({}), &labels));
        assert!(matches(
            &json!({ "matchLabels": { "app": "web" } }),
            &labels
        ));
        assert!(!matches(
            &json!({ "matchLabels": { "app": "db" } }),
            &labels
        ));
        let requires = |operator: &str, key: &str, values: Value| {
            let requirement = json!({ "key": key, "operator": operator, "values": values });
            matches(&json!({ "matchExpressions": [requirement] }), &labels)
        };
        assert!(requires("In", "app", json!(["web", "db"])));
        assert!(!requires("In", "none", json!(["web"])));
        assert!(requires("NotIn", "none", json!(["web"])));
        assert!(!requires("NotIn", "app", json!(["web"])));
        assert!(requires("Exists", "app", json!([])));
        assert!(!requires("DoesNotExist", "app", json!([])));
    }

    #[test]
    fn requirements_need_what_their_operator_needs() {
        let selector = json!({ "matchExpressions": [
            { "key": "a", "operator": "In" },
            { "key": "a", "operator": "Exists", "values": ["x"] },
            { "key": "a", "operator": "Is" },
        ] });
        let mut report = Report::default();
        check_selector(
            &Place::whole(&selector).called("spec.selector"),
            &mut report,
        );
        let fields: Vec<String> = report
            .into_errors()
            .into_iter()
            .map(|error| error.field)
            .collect();
        assert_eq!(
            fields,
            [
                "spec.selector.matchExpressions[0].values",
                "spec.selector.matchExpressions[1].values",
                "spec.selector.matchExpressions[2].operator"
            ]
        );
    }

    #[test]
    fn annotations_are_limited_together() {
        let annotations = json!({ "A.b/C": "x".repeat(200_000), "b": "x".repeat(100_000) });
        let mut report = Report::default();
        check_annotations(&Place::whole(&annotations), &mut report);
        let errors = report.into_errors();
        assert_eq!(
            errors[0].body(),
            "Too long: may not be more than 262144 bytes"
        );
        assert_eq!(errors.len(), 1);
    }
}
