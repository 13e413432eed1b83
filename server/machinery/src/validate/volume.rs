//! Volumes of pods, and what of it they share with persistent volumes.

use std::collections::BTreeSet;

use super::place::Place;
use super::report::Report;
use crate::kind::NameRule;

/// Kinds of volumes in the order in which upstream looks at them, with the fields that each needs.
const SOURCES: [(&str, &[&str]); 29] = [
    ("emptyDir", &[]),
    ("hostPath", &["path"]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("quobyte", &["registry", "volume"]),
    ("downwardAPI", &[]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &[]),
    ("projected", &[]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("csi", &["driver"]),
    ("ephemeral", &["volumeClaimTemplate"]),
];

/// More kinds that only persistent volumes, or no rule of ours, knows.
const OTHER_SOURCES: [&str; 2] = ["local", "image"];

/// Kinds of `hostPath`.
const HOST_PATHS: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Which of the volume kinds an object has, in upstream's order.
pub(super) fn sources<'a>(volume: &Place<'a>) -> Vec<Place<'a>> {
    let names = SOURCES.iter().map(|(name, _)| *name).chain(OTHER_SOURCES);
    names
        .map(|name| volume.at(name))
        .filter(Place::is_there)
        .collect()
}

/// All volumes of a pod. Returns the names of the good ones: a mount of another is refused, as upstream does.
pub(super) fn check_all<'a>(volumes: &Place<'a>, report: &mut Report) -> BTreeSet<&'a str> {
    let mut known = BTreeSet::new();
    for volume in volumes.items() {
        let before = report.len();
        check_source(&volume, report);
        let name = volume.at("name");
        report.check_needed_name(&name, NameRule::Label);
        if known.contains(name.text()) {
            report.duplicate(&name);
        }
        if report.len() == before {
            known.insert(name.text());
        }
    }
    known
}

/// One kind of volume, complete.
pub(super) fn check_source(volume: &Place<'_>, report: &mut Report) {
    for (place, source) in sources(volume).iter().enumerate() {
        if place > 0 {
            report.forbidden(source, "may not specify more than 1 volume type");
        } else {
            check_fields(source, volume, report);
        }
    }
}

fn check_fields(source: &Place<'_>, volume: &Place<'_>, report: &mut Report) {
    for (name, needed) in SOURCES {
        if volume.at(name).path == source.path {
            for field in needed {
                report.check_there(&source.at(field));
            }
        }
    }
    check_mode(&source.at("defaultMode"), report);
    check_items(&source.at("items"), report);
    let kind = source.at("type");
    if source.path.ends_with(".hostPath") && !HOST_PATHS.contains(&kind.text()) {
        report.unsupported(&kind, &HOST_PATHS[1..]);
    }
    if source.path.ends_with(".hostPath") {
        check_no_backsteps(&source.at("path"), report);
    }
    if source.path.ends_with(".nfs")
        && !source.at("path").is_empty()
        && !source.at("path").text().starts_with('/')
    {
        report.invalid_text(&source.at("path"), "must be an absolute path");
    }
    for projection in source.at("sources").items() {
        check_projection(&projection, report);
    }
}

fn check_projection(projection: &Place<'_>, report: &mut Report) {
    let kinds = [
        "secret",
        "configMap",
        "downwardAPI",
        "serviceAccountToken",
        "clusterTrustBundle",
        "podCertificate",
    ];
    let mut has_one = false;
    for kind in kinds {
        let source = projection.at(kind);
        if !source.is_there() {
            continue;
        }
        if has_one {
            report.forbidden(&source, "may not specify more than 1 volume type");
            continue;
        }
        has_one = true;
        match kind {
            "secret" | "configMap" => report.check_there(&source.at("name")),
            "serviceAccountToken" => {
                let seconds = source.at("expirationSeconds");
                if seconds.number().is_some_and(|seconds| seconds < 600) {
                    report.invalid(&seconds, "may not specify a duration less than 10 minutes");
                }
                if seconds.number().is_some_and(|seconds| seconds > 1 << 32) {
                    report.invalid(
                        &seconds,
                        "may not specify a duration larger than 2^32 seconds",
                    );
                }
                check_relative(&source.at("path"), report);
            }
            _ => {}
        }
        check_items(&source.at("items"), report);
    }
}

fn check_items(items: &Place<'_>, report: &mut Report) {
    for item in items.items() {
        // Items of the downward API have a reference instead of a key.
        if !item.at("fieldRef").is_there() && !item.at("resourceFieldRef").is_there() {
            report.check_there(&item.at("key"));
        }
        check_relative(&item.at("path"), report);
        check_mode(&item.at("mode"), report);
    }
}

fn check_mode(mode: &Place<'_>, report: &mut Report) {
    if mode
        .number()
        .is_some_and(|mode| !(0..=0o777).contains(&mode))
    {
        report.invalid(
            mode,
            "must be a number between 0 and 0777 (octal), both inclusive",
        );
    }
}

fn check_relative(path: &Place<'_>, report: &mut Report) {
    match path.text() {
        "" => report.required(path, ""),
        text if text.starts_with('/') => report.invalid_text(path, "must be a relative path"),
        text if text.starts_with("..") && !text.starts_with("../") => {
            report.invalid_text(path, "must not start with '..'");
        }
        _ => check_no_backsteps(path, report),
    }
}

/// A path that may not leave where it is.
pub(super) fn check_descending(path: &Place<'_>, report: &mut Report) {
    if path.text().starts_with('/') {
        report.invalid_text(path, "must be a relative path");
    }
    check_no_backsteps(path, report);
}

/// A path without steps upwards.
pub(super) fn check_no_backsteps(path: &Place<'_>, report: &mut Report) {
    if path.text().split('/').any(|part| part == "..") {
        report.invalid_text(path, "must not contain '..'");
    }
}

/// Whether a volume of a pod is one that a device may be made of.
pub(super) fn is_of_claim(volume: &Place<'_>) -> bool {
    volume.at("persistentVolumeClaim").is_there() || volume.at("ephemeral").is_there()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn found(volumes: &Value) -> Vec<String> {
        let mut report = Report::default();
        check_all(&Place::whole(volumes).called("spec.volumes"), &mut report);
        let errors = report.into_errors();
        errors
            .iter()
            .map(|error| format!("{}: {}", error.field, error.body()))
            .collect()
    }

    #[test]
    fn a_volume_has_a_name_of_its_own_and_one_complete_kind() {
        assert_eq!(
            found(&json!([
                { "name": "a", "emptyDir": {} },
                { "name": "a", "configMap": {} },
                { "name": "b", "emptyDir": {}, "configMap": { "name": "c" } },
                { "name": "c", "secret": { "secretName": "s", "defaultMode": 512, "items": [{ "key": "k", "path": "/x" }] } },
                { "emptyDir": {} },
            ])),
            [
                "spec.volumes[1].configMap.name: Required value",
                "spec.volumes[1].name: Duplicate value: \"a\"",
                "spec.volumes[2].configMap: Forbidden: may not specify more than 1 volume type",
                "spec.volumes[3].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), \
                 both inclusive",
                "spec.volumes[3].secret.items[0].path: Invalid value: \"/x\": must be a relative path",
                "spec.volumes[4].name: Required value",
            ]
        );
    }

    #[test]
    fn every_kind_of_volume_is_known() {
        let schemas = crate::schema::Schemas::builtin();
        let volume = schemas.named("io.k8s.api.core.v1.Volume").unwrap();
        let crate::schema::Shape::Object(fields) = &schemas.get(volume).shape else {
            panic!("a volume is an object")
        };
        for name in fields.fields.keys().filter(|name| &***name != "name") {
            let object = json!({ &**name: {} });
            assert_eq!(sources(&Place::whole(&object)).len(), 1, "{name}");
        }
    }
}
