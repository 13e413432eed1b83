//! Rules of what extends the API.

use serde_json::json;

use super::*;

#[test]
fn extensions_are_named_after_their_parts() {
    refuses(
        "CustomResourceDefinition",
        &[
            ("/metadata/name", json!("things.org")),
            ("/spec/versions/0/storage", json!(false)),
            ("/spec/versions/0/schema", Value::Null),
            ("/spec/scope", json!("Here")),
        ],
        &[
            "metadata.name: Invalid value: \"things.org\": must be spec.names.plural+\".\"+spec.group",
            "spec.scope: Unsupported value: \"Here\": supported values: \"Cluster\", \"Namespaced\"",
            "spec.versions: Invalid value: [{\"name\":\"v1\",\"served\":true,\"storage\":false}]: must have exactly one \
             version marked as storage version",
            "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        ],
    );
    refuses_change(
        "CustomResourceDefinition",
        &[("/spec/scope", json!("Cluster"))],
        &["spec.scope: Invalid value: \"Cluster\": field is immutable"],
    );
    refuses(
        "APIService",
        &[("/spec/version", json!("v2"))],
        &[
            "metadata.name: Invalid value: \"v1.example.com\": must be `spec.version+\".\"+spec.group`: \
           \"v2.example.com\"",
        ],
    );
}

#[test]
fn webhooks_say_how_they_are_asked() {
    for kind in [
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
    ] {
        refuses(
            kind,
            &[
                ("/webhooks/0/name", json!("a.b")),
                ("/webhooks/0/sideEffects", Value::Null),
                ("/webhooks/0/clientConfig", json!({})),
                ("/webhooks/0/admissionReviewVersions", Value::Null),
                ("/webhooks/0/rules/0/operations", json!(["READ"])),
            ],
            &[
                "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by \
                 dots",
                "webhooks[0].rules[0].operations[0]: Unsupported value: \"READ\": supported values: \"*\", \"CONNECT\", \
                 \"CREATE\", \"DELETE\", \"UPDATE\"",
                "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
                "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            ],
        );
    }
}
