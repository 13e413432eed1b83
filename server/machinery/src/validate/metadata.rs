//! What `metadata` of an object of any kind must be, and what of it may not change.

use std::collections::BTreeSet;

use serde_json::json;

use super::place::Place;
use super::report::Report;
use super::{labels, names};
use crate::kind::Kind;

/// The longest name of a field manager.
const MANAGER: usize = 128;
/// The longest name of a subresource in managed fields.
const SUBRESOURCE: usize = 256;
/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["foregroundDeletion", "kubernetes", "orphan"];

/// Rules for every object. A name must be there: whoever makes one of `generateName` does so before.
pub(super) fn check(kind: &Kind, metadata: &Place<'_>, report: &mut Report) {
    let prefix = metadata.at("generateName");
    if !prefix.text().is_empty() {
        report.invalid_each(
            &prefix,
            names::generate_name_errors(kind.names, prefix.text()),
        );
    }
    let name = metadata.at("name");
    match name.text() {
        "" => report.required(&name, "name or generateName is required"),
        text => report.invalid_each(&name, names::name_errors(kind.names, text)),
    }
    let namespace = metadata.at("namespace");
    match (kind.namespaced, namespace.text()) {
        (true, "") => report.required(&namespace, ""),
        (true, text) => report.invalid_each(&namespace, names::label(text)),
        (false, "") => {}
        (false, _) => report.forbidden(&namespace, "not allowed on this type"),
    }
    report.check_not_negative(&metadata.at("generation"));
    labels::check(&metadata.at("labels"), report);
    labels::check_annotations(&metadata.at("annotations"), report);
    check_owners(&metadata.at("ownerReferences"), report);
    check_finalizers(kind, &metadata.at("finalizers"), report);
    check_managed_fields(&metadata.at("managedFields"), report);
}

/// Errors name the list, as upstream's do, so that of two owners the same error comes once.
fn check_owners(owners: &Place<'_>, report: &mut Report) {
    let mut controller: Option<String> = None;
    let mut has_two = false;
    for owner in owners.items() {
        let owner = owner.called(&owners.path);
        let (version, kind) = (owner.at("apiVersion"), owner.at("kind"));
        let is_versioned = version
            .text()
            .rsplit('/')
            .next()
            .is_some_and(|last| !last.is_empty());
        if !is_versioned || version.text().matches('/').count() > 1 {
            report.invalid_text(&version, "version must not be empty");
        }
        for field in [&kind, &owner.at("name"), &owner.at("uid")] {
            if field.text().is_empty() {
                report.invalid_text(field, "must not be empty");
            }
        }
        if (version.text(), kind.text()) == ("v1", "Event") {
            report.invalid(&owner, "/v1, Kind=Event is disallowed from being an owner");
        }
        if !owner.at("controller").is_true() {
            continue;
        }
        let this = format!("{}/{}", kind.text(), owner.at("name").text());
        match &controller {
            // One such error is enough: each has the whole list in it.
            Some(_) if has_two => {}
            Some(first) => {
                has_two = true;
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and \
                     {this}"
                );
                report.invalid(owners, detail);
            }
            None => controller = Some(this),
        }
    }
}

fn check_finalizers(kind: &Kind, finalizers: &Place<'_>, report: &mut Report) {
    let texts = finalizers.texts();
    for text in &texts {
        for detail in names::qualified(text) {
            report.invalid_value(finalizers, json!(text), detail);
        }
    }
    // Upstream's extension servers, which have these kinds, do not know the rule.
    if !["apiextensions.k8s.io", "apiregistration.k8s.io"].contains(&kind.group.as_str()) {
        for finalizer in finalizers.items() {
            let text = finalizer.text();
            if !text.contains('/') && !STANDARD_FINALIZERS.contains(&text) {
                let detail = "name is neither a standard finalizer name nor is it fully qualified";
                report.invalid_text(&finalizer, detail);
            }
        }
    }
    if texts.contains(&"orphan") && texts.contains(&"foregroundDeletion") {
        report.invalid(
            finalizers,
            "finalizer orphan and foregroundDeletion cannot be both set",
        );
    }
}

fn check_managed_fields(managed: &Place<'_>, report: &mut Report) {
    for entry in managed.items() {
        let operation = entry.at("operation");
        if !["Apply", "Update"].contains(&operation.text()) {
            report.invalid_text(&operation, "must be `Apply` or `Update`");
        }
        let form = entry.at("fieldsType");
        if !["", "FieldsV1"].contains(&form.text()) {
            report.invalid_text(&form, "must be `FieldsV1`");
        }
        for (field, most) in [("manager", MANAGER), ("subresource", SUBRESOURCE)] {
            let field = entry.at(field);
            if field.len() > most {
                report.too_long(&field, most);
            }
        }
    }
}

/// Rules for changes. What the server sets itself (uid, times) may be left out of a new object: upstream then takes it
/// over from the old one.
pub(super) fn check_change(kind: &Kind, new: &Place<'_>, old: &Place<'_>, report: &mut Report) {
    if old.at("deletionTimestamp").is_there() {
        let finalizers = new.at("finalizers");
        let known: BTreeSet<&str> = old.at("finalizers").texts().into_iter().collect();
        let wanted: BTreeSet<&str> = finalizers.texts().into_iter().collect();
        let added: Vec<String> = wanted
            .difference(&known)
            .map(|one| format!("{one:?}"))
            .collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            report.forbidden(&finalizers, detail);
        }
    }
    let version = new.at("resourceVersion");
    if kind.needs_version && ["", "0"].contains(&version.text()) {
        report.invalid_value(&version, json!(0), "must be specified for an update");
    }
    let fields = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    for field in fields {
        if new.at(field).is_there() {
            report.check_unchanged(&new.at(field), &old.at(field));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn kind(namespaced: bool, needs_version: bool) -> Kind {
        let row = json!({
            "kind": "Thing", "plural": "things", "namespaced": namespaced, "needsVersion": needs_version,
        });
        serde_json::from_value(row).unwrap()
    }

    fn lines(report: Report) -> Vec<String> {
        let errors = report.into_errors();
        errors
            .iter()
            .map(|error| format!("{}: {}", error.field, error.body()))
            .collect()
    }

    fn found(kind: &Kind, metadata: &Value) -> Vec<String> {
        let mut report = Report::default();
        check(
            kind,
            &Place::whole(metadata).called("metadata"),
            &mut report,
        );
        lines(report)
    }

    fn changed(kind: &Kind, new: &Value, old: &Value) -> Vec<String> {
        let mut report = Report::default();
        let place = |value| Place::whole(value).called("metadata");
        check_change(kind, &place(new), &place(old), &mut report);
        lines(report)
    }

    #[test]
    fn an_object_has_a_name_and_a_namespace_if_it_can() {
        assert_eq!(
            found(&kind(true, false), &json!({})),
            [
                "metadata.name: Required value: name or generateName is required",
                "metadata.namespace: Required value"
            ]
        );
        assert_eq!(
            found(
                &kind(false, false),
                &json!({ "name": "a", "namespace": "b" })
            ),
            ["metadata.namespace: Forbidden: not allowed on this type"]
        );
        assert!(
            found(
                &kind(true, false),
                &json!({ "name": "a", "namespace": "b" })
            )
            .is_empty()
        );
    }

    #[test]
    fn errors_of_labels_and_finalizers_name_the_whole_field() {
        let metadata = json!({
            "name": "a", "labels": { "a b": "x y" }, "finalizers": ["a/b/c"], "annotations": { "a b": "" },
        });
        let fields: Vec<String> = found(&kind(false, false), &metadata)
            .iter()
            .map(|line| {
                line.split(": must")
                    .next()
                    .unwrap()
                    .split(": a valid")
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert!(
            fields[0]
                .starts_with("metadata.labels: Invalid value: \"a b\": name part must consist of")
        );
        assert_eq!(fields[1], "metadata.labels: Invalid value: \"x y\"");
        assert!(fields[2].starts_with("metadata.annotations: Invalid value: \"a b\": name part"));
        assert_eq!(fields[3], "metadata.finalizers: Invalid value: \"a/b/c\"");
    }

    #[test]
    fn owners_are_complete_and_one_of_them_is_the_controller() {
        let owner = |name: &str| {
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": "u",
                "controller": true,
            })
        };
        let metadata =
            json!({ "name": "a", "ownerReferences": [owner("b"), owner("c"), owner("d")] });
        let lines = found(&kind(false, false), &metadata);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with(
            "Only one reference can have Controller set to true. Found \"true\" in references for Deployment/b and \
             Deployment/c"
        ));
        assert_eq!(
            found(
                &kind(false, false),
                &json!({ "name": "a", "ownerReferences": [{}] })
            ),
            [
                "metadata.ownerReferences.apiVersion: Invalid value: \"\": version must not be empty",
                "metadata.ownerReferences.kind: Invalid value: \"\": must not be empty",
                "metadata.ownerReferences.name: Invalid value: \"\": must not be empty",
                "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
            ]
        );
    }

    #[test]
    fn what_the_server_sets_may_not_be_changed() {
        let old =
            json!({ "name": "a", "uid": "1", "creationTimestamp": "x", "resourceVersion": "5" });
        assert!(
            changed(
                &kind(false, true),
                &json!({ "name": "a", "resourceVersion": "5" }),
                &old
            )
            .is_empty()
        );
        let new =
            json!({ "name": "a", "uid": "2", "creationTimestamp": "y", "deletionTimestamp": "z" });
        assert_eq!(
            changed(&kind(false, true), &new, &old),
            [
                "metadata.resourceVersion: Invalid value: 0: must be specified for an update",
                "metadata.uid: Invalid value: \"2\": field is immutable",
                "metadata.creationTimestamp: Invalid value: \"y\": field is immutable",
                "metadata.deletionTimestamp: Invalid value: \"z\": field is immutable",
            ]
        );
        assert!(changed(&kind(false, false), &json!({ "name": "a" }), &old).is_empty());
    }

    #[test]
    fn what_is_being_deleted_gets_no_new_finalizers() {
        let old = json!({ "deletionTimestamp": "x", "finalizers": ["a.b/c"] });
        let new = json!({ "deletionTimestamp": "x", "finalizers": ["a.b/c", "z", "x"] });
        assert_eq!(
            changed(&kind(false, false), &new, &old),
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
              finalizers []string{\"x\", \"z\"}"
            ]
        );
        assert!(changed(&kind(false, false), &json!({ "finalizers": [] }), &old).is_empty());
    }
}
