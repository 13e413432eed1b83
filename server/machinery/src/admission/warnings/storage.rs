//! Volumes, claims of them, and what they are made of.

use super::check_bytes;
use super::pods::{check_node_term, deprecated_label};
use crate::validate::Place;

const STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const CLASS_FIELD: &str = "deprecated since v1.8; use \"storageClassName\" attribute instead";

/// Kinds of volumes that are going or gone.
const VOLUMES: [(&str, &str, &str); 6] = [
    (
        "cephfs",
        "cephfs",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "scaleIO",
        "scaleIO",
        "deprecated in v1.16, non-functional in v1.22+",
    ),
    (
        "storageos",
        "storageOS",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "glusterfs",
        "glusterfs",
        "deprecated in v1.25, non-functional in v1.26+",
    ),
    (
        "rbd",
        "rbd",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
];

pub(super) fn check_volume(volume: &Place<'_>, found: &mut Vec<String>) {
    let annotations = volume.at("metadata.annotations");
    for (key, why) in [
        (STORAGE_CLASS, CLASS_FIELD),
        (
            "volume.beta.kubernetes.io/mount-options",
            "deprecated since v1.31; use \"mountOptions\" attribute instead",
        ),
    ] {
        let annotation = annotations.key(key);
        if annotation.is_there() {
            found.push(format!("{}: {why}", annotation.path));
        }
    }
    let spec = volume.at("spec");
    let policy = spec.at("persistentVolumeReclaimPolicy");
    if policy.text() == "Recycle" {
        found.push(format!(
            "{}: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic \
             provisioning.",
            policy.path
        ));
    }
    for term in spec.at("nodeAffinity.required.nodeSelectorTerms").items() {
        check_node_term(&term, false, found);
    }
    for (field, shown, why) in VOLUMES {
        if spec.at(field).is_there() {
            found.push(format!("{}.{shown}: {why}", spec.path));
        }
    }
}

pub(super) fn check_claim(claim: &Place<'_>, found: &mut Vec<String>) {
    let annotation = claim.at("metadata.annotations").key(STORAGE_CLASS);
    if annotation.is_there() {
        found.push(format!("{}: {CLASS_FIELD}", annotation.path));
    }
    check_claim_spec(&claim.at("spec"), found);
}

pub(super) fn check_claim_spec(spec: &Place<'_>, found: &mut Vec<String>) {
    for list in ["requests", "limits"] {
        check_bytes(&spec.at("resources").at(list).key("storage"), found);
    }
}

pub(super) fn check_class(class: &Place<'_>, found: &mut Vec<String>) {
    for topology in class.at("allowedTopologies").items() {
        for expression in topology.at("matchLabelExpressions").items() {
            let key = expression.at("key");
            if let Some(why) = deprecated_label(key.text()) {
                found.push(format!("{}: {why}", key.path));
            }
        }
    }
}

pub(super) fn check_capacity(capacity: &Place<'_>, found: &mut Vec<String>) {
    let topology = capacity.at("nodeTopology");
    check_node_term(&topology, false, found);
    for (label, _) in topology.at("matchLabels").entries() {
        if let Some(why) = deprecated_label(label) {
            found.push(format!("{}.matchLabels.{label}: {why}", topology.path));
        }
    }
}

pub(super) fn check_driver(driver: &Place<'_>, found: &mut Vec<String>) {
    let spec = driver.at("spec");
    if !spec.at("tokenRequests").is_empty() && !spec.at("serviceAccountTokenInSecrets").is_there() {
        found.push(
            "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent \
             possible logging of tokens in volume attributes"
                .to_owned(),
        );
    }
}
