//! Pods, and templates of pods.

use std::collections::HashMap;

use super::storage;
use super::{check_bytes, network};
use crate::kind::NameRule;
use crate::validate::{Place, label_value, name_errors};

/// Labels of nodes that have others in their place.
const LABELS: [(&str, &str); 8] = [
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "node-role.kubernetes.io/master",
        "use \"node-role.kubernetes.io/control-plane\" instead",
    ),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
];

/// Annotations that do nothing any more.
const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

/// Kinds of volumes that are going or gone.
const VOLUMES: [(&str, &str); 9] = [
    (
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "gitRepo",
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
const SECCOMP_OF_PODS: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINERS: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR: &str = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
const APPARMOR_OF_CONTAINERS: &str = "container.apparmor.security.beta.kubernetes.io/";
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";

/// Why a label of nodes should not be used.
pub(super) fn deprecated_label(label: &str) -> Option<&'static str> {
    let known = LABELS.iter().find(|(known, _)| *known == label);
    known.map(|(_, why)| *why)
}

/// A term that selects nodes; with `has_values`, its values may not be good ones.
pub(super) fn check_node_term(term: &Place<'_>, has_values: bool, found: &mut Vec<String>) {
    for expression in term.at("matchExpressions").items() {
        let key = expression.at("key");
        if let Some(why) = deprecated_label(key.text()) {
            found.push(format!("{}: {} is {why}", key.path, key.text()));
        }
        for value in expression.at("values").items().filter(|_| has_values) {
            for error in label_value(value.text()) {
                found.push(format!(
                    "{}: {} is invalid, {error}",
                    value.path,
                    value.text()
                ));
            }
        }
    }
}

/// A pod that is created.
pub(super) fn check_pod(pod: &Place<'_>, found: &mut Vec<String>) {
    check_pod_profiles(pod, found);
    let errors = name_errors(NameRule::Label, pod.at("metadata.name").text());
    if !errors.is_empty() {
        found.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS \
             label is recommended: [{}]",
            errors.join(" ")
        ));
    }
    check(pod, false, found);
}

/// A template in another object.
pub(super) fn check_template(template: &Place<'_>, found: &mut Vec<String>) {
    if template.is_there() {
        check(template, true, found);
    }
}

/// All containers, as upstream visits them.
fn containers<'a>(spec: &Place<'a>) -> Vec<Place<'a>> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let lists = lists.iter().flat_map(|list| spec.at(list).items());
    lists.collect()
}

fn check(pod: &Place<'_>, is_template: bool, found: &mut Vec<String>) {
    let spec = pod.at("spec");
    check_nodes(&spec, found);
    let annotations = pod.at("metadata.annotations");
    for (key, why) in ANNOTATIONS {
        let annotation = annotations.key(key);
        if annotation.is_there() {
            found.push(format!("{}: {why}", annotation.path));
        }
    }
    for volume in spec.at("volumes").items() {
        for (kind, why) in VOLUMES {
            if kind == "cephfs" {
                let claim = volume.at("ephemeral.volumeClaimTemplate");
                if claim.is_there() {
                    storage::check_claim_spec(&claim.at("spec"), found);
                }
            }
            let source = volume.at(kind);
            if source.is_there() {
                // Upstream's name of this one differs from that of its field.
                let path = source.path.replace("].storageos", "].storageOS");
                found.push(format!("{path}: {why}"));
            }
        }
    }
    check_paths(&spec.at("volumes"), found);
    check_unique(&spec.at("hostAliases"), "ip", found);
    check_unique(&spec.at("imagePullSecrets"), "name", found);
    for secret in spec.at("imagePullSecrets").items() {
        if secret.at("name").text().is_empty() {
            found.push(format!("{}.name: invalid empty name \"\"", secret.path));
        }
    }
    for resource in ["memory", "ephemeral-storage"] {
        check_bytes(&spec.at("overhead").key(resource), found);
    }
    let seccomp = annotations.key(SECCOMP_OF_PODS);
    if seccomp.is_there() && !spec.at("securityContext.seccompProfile").is_there() {
        found.push(format!("{}: {SECCOMP}", seccomp.path));
    }
    for container in containers(&spec) {
        check_container(&container, pod, is_template, found);
    }
    check_ports(&spec, found);
    check_port_names(&spec, found);
    let grace = spec.at("terminationGracePeriodSeconds");
    if grace.number().is_some_and(|seconds| seconds < 0) {
        found.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            grace.path
        ));
    }
    for field in ["podAffinity", "podAntiAffinity"] {
        let affinity = spec.at("affinity").at(field);
        let required = affinity.at("requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = affinity.at("preferredDuringSchedulingIgnoredDuringExecution");
        let preferred = preferred.items().map(|term| term.at("podAffinityTerm"));
        for term in required.items().chain(preferred) {
            check_selector(&term, found);
        }
    }
    for server in spec.at("dnsConfig.nameservers").items() {
        network::check_address(&server, found);
    }
    for alias in spec.at("hostAliases").items() {
        network::check_address(&alias.at("ip"), found);
    }
}

fn check_nodes(spec: &Place<'_>, found: &mut Vec<String>) {
    for (label, place) in spec.at("nodeSelector").entries() {
        if let Some(why) = deprecated_label(label) {
            found.push(format!("{}: {why}", place.path));
        }
    }
    let affinity = spec.at("affinity.nodeAffinity");
    let required = affinity.at("requiredDuringSchedulingIgnoredDuringExecution");
    for term in required.at("nodeSelectorTerms").items() {
        check_node_term(&term, false, found);
    }
    let preferred = affinity.at("preferredDuringSchedulingIgnoredDuringExecution");
    for term in preferred.items() {
        check_node_term(&term.at("preference"), true, found);
    }
    for constraint in spec.at("topologySpreadConstraints").items() {
        let key = constraint.at("topologyKey");
        if let Some(why) = deprecated_label(key.text()) {
            found.push(format!("{}: {} is {why}", key.path, key.text()));
        }
        check_selector(&constraint, found);
    }
}

fn check_selector(owner: &Place<'_>, found: &mut Vec<String>) {
    let selector = owner.at("labelSelector");
    if !selector.is_there() {
        found.push(format!("{}: {NO_SELECTOR}", selector.path));
    }
}

fn check_unique(list: &Place<'_>, field: &str, found: &mut Vec<String>) {
    let mut known = Vec::new();
    for item in list.items() {
        let place = item.at(field);
        if known.contains(&place.text()) {
            found.push(format!(
                "{}: duplicate {field} {:?}",
                place.path,
                place.text()
            ));
        } else {
            known.push(place.text());
        }
    }
}

fn check_container(
    container: &Place<'_>,
    pod: &Place<'_>,
    is_template: bool,
    found: &mut Vec<String>,
) {
    let (annotations, name) = (pod.at("metadata.annotations"), container.at("name").text());
    let security = container.at("securityContext");
    let seccomp = annotations.key(&format!("{SECCOMP_OF_CONTAINERS}{name}"));
    if seccomp.is_there() && !security.at("seccompProfile").is_there() {
        found.push(format!("{}: {SECCOMP}", seccomp.path));
    }
    let apparmor = annotations.key(&format!("{APPARMOR_OF_CONTAINERS}{name}"));
    if is_template && apparmor.is_there() && !security.at("appArmorProfile").is_there() {
        let of_pod = pod.at("spec.securityContext.appArmorProfile");
        if profile(apparmor.text()).is_none_or(|profile| !is_profile(&of_pod, profile)) {
            found.push(format!("{}: {APPARMOR}", apparmor.path));
        }
    }
    for resource in ["memory", "ephemeral-storage"] {
        for list in ["limits", "requests"] {
            check_bytes(&container.at("resources").at(list).key(resource), found);
        }
    }
    let mut known = Vec::new();
    for variable in container.at("env").items() {
        let name = variable.at("name").text();
        if !known.contains(&name) {
            known.push(name);
            continue;
        }
        // One that adds to its former value does not hide it.
        let (value, reference) = (variable.at("value").text(), format!("$({name})"));
        let does_add = value.contains(&reference) && value != reference;
        if variable.at("valueFrom").is_there() || !does_add {
            found.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                variable.path
            ));
        }
    }
}

/// The profile that an annotation stands for: its type and name.
fn profile(annotation: &str) -> Option<(&'static str, &str)> {
    match annotation {
        "unconfined" => Some(("Unconfined", "")),
        "runtime/default" => Some(("RuntimeDefault", "")),
        _ => {
            let name = annotation.strip_prefix("localhost/")?;
            (!name.is_empty()).then_some(("Localhost", name))
        }
    }
}

fn is_profile(place: &Place<'_>, (kind, name): (&str, &str)) -> bool {
    place.at("type").text() == kind && place.at("localhostProfile").text() == name
}

/// Of a new pod, the annotation is only warned of if it says what no field does.
fn check_pod_profiles(pod: &Place<'_>, found: &mut Vec<String>) {
    let spec = pod.at("spec");
    if spec.at("os.name").text() == "windows" {
        return;
    }
    for container in containers(&spec) {
        let key = format!("{APPARMOR_OF_CONTAINERS}{}", container.at("name").text());
        let annotation = pod.at("metadata.annotations").key(&key);
        let has_field = container.at("securityContext.appArmorProfile").is_there();
        if !annotation.is_there() || has_field {
            continue;
        }
        let of_pod = spec.at("securityContext.appArmorProfile");
        if profile(annotation.text()).is_none_or(|profile| !is_profile(&of_pod, profile)) {
            found.push(format!("{}: {APPARMOR}", annotation.path));
        }
    }
}

fn check_ports(spec: &Place<'_>, found: &mut Vec<String>) {
    let mut known: HashMap<(i64, &str), Vec<Place<'_>>> = HashMap::new();
    for container in containers(spec) {
        for port in container.at("ports").items() {
            let number =
                |port: &Place<'_>, field: &str| port.at(field).number().unwrap_or_default();
            let (host, protocol) = (number(&port, "hostPort"), port.at("protocol").text());
            let address = port.at("hostIP").text();
            if !address.is_empty() && host == 0 {
                found.push(format!(
                    "{}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{protocol} \
                     HostIP:{address}}}",
                    port.path,
                    port.at("name").text(),
                    number(&port, "containerPort"),
                ));
            }
            let others = known
                .entry((number(&port, "containerPort"), protocol))
                .or_default();
            for other in others.iter() {
                let (other_host, other_address) =
                    (number(other, "hostPort"), other.at("hostIP").text());
                let words = if address == other_address && host == other_host {
                    "duplicate"
                } else if host == 0 || other_host == 0 {
                    "overlapping"
                } else if host == other_host && (address.is_empty() != other_address.is_empty()) {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                found.push(format!(
                    "{}: {words} port definition with {}",
                    port.path, other.path
                ));
            }
            others.push(port);
        }
    }
}

fn check_port_names(spec: &Place<'_>, found: &mut Vec<String>) {
    let mut known: HashMap<&str, String> = HashMap::new();
    for container in containers(spec) {
        for port in container.at("ports").items() {
            let name = port.at("name").text();
            if name.is_empty() {
                continue;
            }
            match known.get(name) {
                Some(other) => found.push(format!(
                    "{}: duplicate port name {name:?} with {other}, services and probes that select ports by name \
                     will use {other}",
                    port.path
                )),
                None => {
                    known.insert(name, port.path);
                }
            }
        }
    }
}

/// A path in a volume, and what puts a file there.
struct Path<'a> {
    path: &'a str,
    source: String,
}

impl Path<'_> {
    fn shown(&self) -> String {
        match self.source.as_str() {
            "" => format!("{:?}", self.path),
            source => format!("{:?} ({source})", self.path),
        }
    }

    fn is_within(&self, other: &Path<'_>) -> bool {
        let rest = self.path.strip_prefix(other.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The paths of the items of a source.
fn paths<'a>(items: &Place<'a>, source: &str) -> Vec<Path<'a>> {
    let path = |item: Place<'a>| Path {
        path: item.at("path").text(),
        source: source.to_owned(),
    };
    items.items().map(path).collect()
}

/// Pairs of paths of which one is the other or above it.
fn overlaps(all: Vec<Path<'_>>) -> Vec<String> {
    let mut known: Vec<Path<'_>> = Vec::new();
    let mut pairs = Vec::new();
    for mut path in all {
        path.path = path.path.trim_end_matches('/');
        if !path.path.is_empty() {
            for other in known.iter().filter(|other| !other.path.is_empty()) {
                if path.is_within(other) || other.is_within(&path) {
                    pairs.push(format!("{} with {}", path.shown(), other.shown()));
                }
            }
        }
        known.push(path);
    }
    pairs
}

fn check_paths(volumes: &Place<'_>, found: &mut Vec<String>) {
    for volume in volumes.items() {
        let name = volume.at("name").text();
        let mut warn = |what: &str, pairs: Vec<String>| {
            for pair in pairs {
                found.push(format!(
                    "volume {name:?} ({what}): overlapping paths: {pair}"
                ));
            }
        };
        let map = volume.at("configMap");
        let what = format!("ConfigMap {:?}", map.at("name").text());
        warn(&what, overlaps(paths(&map.at("items"), "")));
        let secret = volume.at("secret");
        let what = format!("Secret {:?}", secret.at("secretName").text());
        warn(&what, overlaps(paths(&secret.at("items"), "")));
        let items = volume.at("downwardAPI.items");
        warn("DownwardAPI", overlaps(paths(&items, "")));
        let mut all = Vec::new();
        for source in volume.at("projected.sources").items() {
            if source.is_empty() {
                found.push(format!(
                    "volume {name:?} (Projected) has no sources provided"
                ));
                continue;
            }
            all.extend(projected_paths(&source));
        }
        for pair in overlaps(all) {
            found.push(format!(
                "volume {name:?} (Projected): overlapping paths: {pair}"
            ));
        }
    }
}

fn projected_paths<'a>(source: &Place<'a>) -> Vec<Path<'a>> {
    let one = |place: Place<'a>, source: String| Path {
        path: place.text(),
        source,
    };
    for (field, kind) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
        let items = source.at(field).at("items");
        if items.is_there() {
            let name = source.at(field).at("name").text();
            return paths(&items, &format!("{kind} {name:?}"));
        }
    }
    let items = source.at("downwardAPI.items");
    if items.is_there() {
        return paths(&items, "DownwardAPI");
    }
    let token = source.at("serviceAccountToken");
    if token.is_there() {
        return vec![one(token.at("path"), "ServiceAccountToken".to_owned())];
    }
    let bundle = source.at("clusterTrustBundle");
    if bundle.is_there() {
        let name = match bundle.at("name").is_there() {
            true => bundle.at("name").text(),
            false => bundle.at("signerName").text(),
        };
        return vec![one(
            bundle.at("path"),
            format!("ClusterTrustBundle {name:?}"),
        )];
    }
    let certificate = source.at("podCertificate");
    let parts = [
        ("certificateChainPath", "chain"),
        ("keyPath", "key"),
        ("credentialBundlePath", "credential bundle"),
    ];
    let parts = parts
        .into_iter()
        .map(|(field, what)| (certificate.at(field), what));
    parts
        .filter(|(place, _)| !place.text().is_empty())
        .map(|(place, what)| one(place, format!("PodCertificate {what}")))
        .collect()
}
