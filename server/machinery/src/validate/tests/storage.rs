//! Rules of what holds data: config, secrets, volumes and claims.

use serde_json::json;

use super::*;

#[test]
fn config_has_good_keys_and_is_not_too_large() {
    refuses(
        "ConfigMap",
        &[("/data", json!({ "b": "x", "..": "y" }))],
        &[
            "data[..]: Invalid value: \"..\": must not be '..'",
            "data[b]: Invalid value: \"b\": duplicate of key present in binaryData",
        ],
    );
    refuses(
        "ConfigMap",
        &[("/data", json!({ "k": "x".repeat(1 << 20) }))],
        &["[]: Too long: may not be more than 1048576 bytes"],
    );
    let old = edited("ConfigMap", &[("/immutable", json!(true))]);
    let new = edited("ConfigMap", &[("/data/k", json!("w"))]);
    assert_eq!(
        lines(&updated(&kind_of(&old), &new, &old, "")),
        [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set",
        ]
    );
}

#[test]
fn secrets_have_what_their_type_needs() {
    let typed = |kind: &str, wanted: &[&str]| refuses("Secret", &[("/type", json!(kind))], wanted);
    typed(
        "kubernetes.io/tls",
        &[
            "data[tls.crt]: Required value",
            "data[tls.key]: Required value",
        ],
    );
    typed(
        "kubernetes.io/basic-auth",
        &[
            "data[username]: Required value",
            "data[password]: Required value",
        ],
    );
    typed(
        "kubernetes.io/ssh-auth",
        &["data[ssh-privatekey]: Required value"],
    );
    typed(
        "kubernetes.io/dockerconfigjson",
        &["data[.dockerconfigjson]: Required value"],
    );
    typed(
        "kubernetes.io/service-account-token",
        &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
    );
    refuses(
        "Secret",
        &[
            ("/type", json!("kubernetes.io/dockercfg")),
            ("/data/.dockercfg", json!("WzFd")),
        ],
        &[
            "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": json: cannot unmarshal array into Go value of \
           type map[string]interface {}",
        ],
    );
    refuses_change(
        "Secret",
        &[("/type", json!("mine"))],
        &["type: Invalid value: \"mine\": field is immutable"],
    );
}

#[test]
fn volumes_are_of_one_kind_and_keep_it() {
    refuses(
        "PersistentVolume",
        &[
            ("/spec/accessModes", json!([])),
            ("/spec/capacity", json!({})),
            ("/spec/hostPath", Value::Null),
        ],
        &[
            "spec.accessModes: Required value",
            "spec.capacity: Required value",
            "spec.capacity: Unsupported value: {}: supported values: \"storage\"",
            "spec: Required value: must specify a volume type",
        ],
    );
    refuses_change(
        "PersistentVolume",
        &[("/spec/hostPath/path", json!("/other"))],
        &[
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n\
           - spec.hostPath: {\"path\":\"/data\"}\n+ spec.hostPath: {\"path\":\"/other\"}\n",
        ],
    );
}

#[test]
fn claims_only_grow() {
    refuses(
        "PersistentVolumeClaim",
        &[
            ("/spec/accessModes", json!(["Sometimes"])),
            ("/spec/resources", json!({})),
        ],
        &[
            "spec.accessModes: Unsupported value: \"Sometimes\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \
             \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            "spec.resources[storage]: Required value",
        ],
    );
    refuses_change(
        "PersistentVolumeClaim",
        &[("/spec/resources/requests/storage", json!("3Gi"))],
        &[],
    );
    refuses_change(
        "PersistentVolumeClaim",
        &[("/spec/resources/requests/storage", json!("1Gi"))],
        &["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
    );
    refuses_change(
        "PersistentVolumeClaim",
        &[("/spec/accessModes", json!(["ReadOnlyMany"]))],
        &[
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for \
           bound claims\n- accessModes: [\"ReadWriteOnce\"]\n+ accessModes: [\"ReadOnlyMany\"]\n",
        ],
    );
    refuses_change(
        "StorageClass",
        &[
            ("/parameters/a", json!("c")),
            ("/provisioner", json!("example.com/q")),
        ],
        &[
            "provisioner: Forbidden: updates to provisioner are forbidden.",
            "parameters: Forbidden: updates to parameters are forbidden.",
        ],
    );
    refuses(
        "StorageClass",
        &[("/provisioner", Value::Null)],
        &["provisioner: Required value"],
    );
}
