//! Persistent volumes, claims of them, and their classes.

use serde_json::{Value, json};

use super::amount::{Amount, MALFORMED};
use super::place::{Place, is_same};
use super::report::{IMMUTABLE, Report};
use super::{labels, names, pod, scheduling, volume};
use crate::kind::NameRule;

/// How a volume may be mounted.
const MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

/// The most parameters of a class, and the most bytes of them.
const PARAMETERS: (usize, usize) = (512, 256 * 1024);

fn check_modes(modes: &Place<'_>, words: &str, report: &mut Report) {
    if modes.is_empty() {
        report.required(modes, words);
    }
    for mode in modes.items() {
        // These errors name the list, as upstream's do.
        report.check_choice(&mode.called(&modes.path), &MODES);
    }
    if modes.len() > 1 && modes.texts().contains(&"ReadWriteOncePod") {
        let detail = "may not use ReadWriteOncePod with other access modes";
        report.forbidden(modes, detail);
    }
}

fn check_positive(amount: &Place<'_>, report: &mut Report) {
    match Amount::read(amount.value) {
        None => report.invalid(amount, MALFORMED),
        Some(size) if !size.is_positive() => report.invalid(amount, "must be greater than zero"),
        Some(_) => {}
    }
}

/// Rules for PersistentVolumes.
pub(super) fn check_volume(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    check_modes(&spec.at("accessModes"), "", report);
    let capacity = spec.at("capacity");
    if capacity.is_empty() {
        report.required(&capacity, "");
    }
    if !capacity.key("storage").is_there() || capacity.len() > 1 {
        let shown = if capacity.is_there() {
            capacity.value.clone()
        } else {
            json!({})
        };
        report.unsupported_value(&capacity, shown, &["storage"]);
    }
    for (_, amount) in capacity.entries() {
        check_positive(&amount, report);
    }
    let policy = spec.at("persistentVolumeReclaimPolicy");
    report.check_choice(&policy, &["Delete", "Recycle", "Retain"]);
    let affinity = spec.at("nodeAffinity");
    if affinity.is_there() {
        match affinity.at("required").is_there() {
            true => scheduling::check_node_selector(&affinity.at("required"), report),
            false => report.required(
                &affinity.at("required"),
                "must specify required node constraints",
            ),
        }
    }
    let sources = volume::sources(&spec);
    if sources.is_empty() {
        report.required(&spec, "must specify a volume type");
    }
    volume::check_source(&spec, report);
    if spec.at("local").is_there() {
        report.check_there(&spec.at("local.path"));
        if !affinity.is_there() {
            report.required(&affinity, "Local volume requires node affinity");
        }
    }
    if spec.at("csi").is_there() {
        report.check_there(&spec.at("csi.volumeHandle"));
    }
    let path = spec.at("hostPath.path").text();
    if policy.text() == "Recycle" && !path.is_empty() && path.trim_matches('/').is_empty() {
        report.forbidden(&policy, "may not be 'recycle' for a hostPath mount of '/'");
    }
    report.check_name(&spec.at("storageClassName"), NameRule::Subdomain);
    report.check_choice(&spec.at("volumeMode"), &["Block", "Filesystem"]);
    if let Some(old) = old {
        check_volume_change(&spec, &old.at("spec"), report);
    }
}

fn check_volume_change(new: &Place<'_>, old: &Place<'_>, report: &mut Report) {
    let only_sources = |spec: &Place<'_>| {
        let sources = volume::sources(spec);
        let entries = sources
            .iter()
            .map(|source| (source.path.clone(), source.value.clone()));
        Value::Object(entries.collect())
    };
    let (now, before) = (only_sources(new), only_sources(old));
    if now != before && !is_same(&now, &before) {
        let place = new.called("spec.persistentvolumesource");
        let changes = pod::difference(&now, &before);
        let detail = format!("spec.persistentvolumesource is immutable after creation\n{changes}");
        report.forbidden(&place, detail);
    }
    let mode = new.at("volumeMode").called("volumeMode");
    report.check_unchanged(&mode, &old.at("volumeMode"));
    if old.at("nodeAffinity").is_there() {
        let affinity = new.at("nodeAffinity").called("nodeAffinity");
        report.check_unchanged(&affinity, &old.at("nodeAffinity"));
    }
}

/// Rules for PersistentVolumeClaims.
pub(super) fn check_claim(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    check_modes(
        &spec.at("accessModes"),
        "at least 1 access mode is required",
        report,
    );
    labels::check_selector(&spec.at("selector"), report);
    let size = spec.at("resources.requests").key("storage");
    let named = size.called("spec.resources[storage]");
    match size.is_there() {
        true => check_positive(&named, report),
        false => report.required(&named, ""),
    }
    report.check_name(&spec.at("storageClassName"), NameRule::Subdomain);
    report.check_choice(&spec.at("volumeMode"), &["Block", "Filesystem"]);
    let source = spec.at("dataSource");
    if source.is_there() {
        for field in ["name", "kind"] {
            report.check_there(&source.at(field));
        }
        if source.at("apiGroup").is_empty() && source.at("kind").text() != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            report.invalid(&source, detail);
        }
    }
    if let Some(old) = old {
        check_claim_change(new, old, report);
    }
}

/// A claim is bound once, and then only grows.
fn check_claim_change(new: &Place<'_>, old: &Place<'_>, report: &mut Report) {
    let is_bound = new.at("status.phase").text() == "Bound";
    let (spec, before) = (new.at("spec"), old.at("spec"));
    let mut fixed = spec.value.clone();
    if let Some(fields) = fixed.as_object_mut() {
        if before.at("volumeName").is_empty() {
            fields.remove("volumeName");
        }
        // A class may be given to a claim that was made before there was one.
        if !before.at("storageClassName").is_there() {
            fields.remove("storageClassName");
        }
        let class = before.at("volumeAttributesClassName");
        if is_bound && spec.at("volumeAttributesClassName").is_there() {
            fields.insert("volumeAttributesClassName".to_owned(), class.value.clone());
        }
        let requests = fields
            .get_mut("resources")
            .and_then(|resources| resources.get_mut("requests"));
        if let Some(requests) = requests.and_then(Value::as_object_mut).filter(|_| is_bound) {
            let size = before.at("resources.requests.storage").value.clone();
            requests.insert("storage".to_owned(), size);
        }
    }
    if !is_same(&fixed, before.value) {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                      bound claims";
        report.forbidden(
            &spec,
            format!("{detail}\n{}", pod::difference(&fixed, before.value)),
        );
    }
    let amount = |place: Place<'_>| Amount::read(place.value);
    let size = spec.at("resources.requests.storage");
    if let (Some(now), Some(was)) = (
        amount(size.clone()),
        amount(before.at("resources.requests.storage")),
    ) && now < was
    {
        let has = amount(old.at("status.capacity.storage"));
        if has.is_none_or(|has| now <= has) && has.is_some() {
            report.forbidden(&size, "field can not be less than status.capacity");
        }
    }
    let mode = spec.at("volumeMode");
    if !is_same(mode.value, before.at("volumeMode").value) {
        report.invalid(&mode.called("volumeMode"), IMMUTABLE);
    }
}

/// Rules for StorageClasses.
pub(super) fn check_class(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    let provisioner = new.at("provisioner");
    if !provisioner.is_empty() {
        let errors = names::qualified(&provisioner.text().to_lowercase());
        report.invalid_each(&provisioner, errors);
    }
    let parameters = new.at("parameters");
    if parameters.len() > PARAMETERS.0 {
        report.too_long(&parameters, PARAMETERS.0);
    }
    let mut size = 0;
    for (key, value) in parameters.entries() {
        if key.is_empty() {
            report.invalid_value(&parameters, json!(key), "field can not be empty.");
        }
        size += key.len() + value.len();
    }
    if size > PARAMETERS.1 {
        report.too_long(&parameters, PARAMETERS.1);
    }
    for term in new.at("allowedTopologies").items() {
        for requirement in term.at("matchLabelExpressions").items() {
            report.check_there(&requirement.at("values"));
            labels::check_key(&requirement.at("key"), requirement.at("key").text(), report);
        }
    }
}
