//! Containers: what each must have, and what it may name of its pod.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Value, json};

use super::place::Place;
use super::report::Report;
use super::resources::{self, Owner};
use super::{address, names, volume};
use crate::kind::NameRule;

/// What listens.
pub(super) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// Fields of a pod that a variable may have the value of.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Resources of a container that a variable may have the amount of.
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// What upstream says of what only containers that stay have.
const ONLY_RESTARTED: &str = "may not be set for init containers without restartPolicy=Always";

/// What containers may name.
pub(super) struct Pod<'a> {
    /// The names of those that devices may be made of.
    pub(super) claim_volumes: BTreeSet<&'a str>,
    /// The names of the good ones of them.
    pub(super) volume_names: BTreeSet<&'a str>,
    /// The names of its claims of resources.
    pub(super) claims: BTreeSet<&'a str>,
    /// Seconds in which its containers have to end.
    pub(super) grace: i64,
}

/// Containers, init containers and ephemeral containers of a pod.
pub(super) fn check_all(spec: &Place<'_>, pod: &Pod<'_>, report: &mut Report) {
    let containers = spec.at("containers");
    if containers.is_empty() {
        report.required(&containers, "");
    }
    let mut known = HashSet::new();
    for container in containers.items() {
        check_common(&container, pod, report);
        let name = container.at("name");
        if !known.insert(name.text()) {
            report.duplicate_value(&name, json!(name.text()), "");
        }
        check_life(&container, pod, report);
        report.check_choice(
            &container.at("restartPolicy"),
            &["Always", "Never", "OnFailure"],
        );
    }
    check_host_ports(&mut containers.items(), report);
    for container in spec.at("initContainers").items() {
        check_common(&container, pod, report);
        let policy = container.at("restartPolicy");
        report.check_choice(&policy, &["Always", "Never", "OnFailure"]);
        let name = container.at("name");
        if !known.insert(name.text()) {
            report.duplicate_value(&name, json!(name.text()), "");
        }
        check_host_ports(&mut std::iter::once(container.clone()), report);
        if policy.text() == "Always" {
            check_life(&container, pod, report);
            continue;
        }
        for field in [
            "lifecycle",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
        ] {
            if container.at(field).is_there() {
                report.forbidden(&container.at(field), ONLY_RESTARTED);
            }
        }
    }
    check_ephemeral(spec, pod, &mut known, report);
}

fn check_ephemeral<'a>(
    spec: &Place<'a>,
    pod: &Pod<'_>,
    known: &mut HashSet<&'a str>,
    report: &mut Report,
) {
    let others = known.clone();
    let refused = [
        "ports",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "resources",
    ];
    for container in spec.at("ephemeralContainers").items() {
        check_common(&container, pod, report);
        let name = container.at("name");
        if !known.insert(name.text()) {
            report.duplicate_value(&name, json!(name.text()), "");
        }
        let target = container.at("targetContainerName");
        if !target.is_empty() && !others.contains(target.text()) {
            report.not_found(&target, "");
        }
        for field in refused {
            if !container.at(field).is_empty() {
                report.forbidden(
                    &container.at(field),
                    "cannot be set for an Ephemeral Container",
                );
            }
        }
    }
}

fn check_common(container: &Place<'_>, pod: &Pod<'_>, report: &mut Report) {
    report.check_needed_name(&container.at("name"), NameRule::Label);
    report.check_there(&container.at("image"));
    let policies = ["File", "FallbackToLogsOnError"];
    report.check_choice(&container.at("terminationMessagePolicy"), &policies);
    check_ports(&container.at("ports"), report);
    for variable in container.at("env").items() {
        match variable.at("name").text() {
            "" => report.required(&variable.at("name"), ""),
            name => report.invalid_each(&variable.at("name"), names::variable(name)),
        }
        check_source(&variable, report);
    }
    check_environments(&container.at("envFrom"), report);
    check_mounts(container, pod, report);
    check_devices(container, pod, report);
    report.check_choice(
        &container.at("imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
    );
    resources::check_requirements(&container.at("resources"), Owner::Container, report);
    check_claims(&container.at("resources.claims"), pod, report);
    for policy in container.at("resizePolicy").items() {
        report.check_needed_choice(&policy.at("resourceName"), &["cpu", "memory"]);
        report.check_needed_choice(
            &policy.at("restartPolicy"),
            &["NotRequired", "RestartContainer"],
        );
    }
    check_security(&container.at("securityContext"), report);
}

fn check_ports(ports: &Place<'_>, report: &mut Report) {
    let mut known = HashSet::new();
    for port in ports.items() {
        let name = port.at("name");
        if !name.is_empty() {
            let errors = names::port_name(name.text());
            if errors.is_empty() && !known.insert(name.text()) {
                report.duplicate(&name);
            }
            report.invalid_each(&name, errors);
        }
        match port.at("containerPort").number().unwrap_or_default() {
            0 => report.required(&port.at("containerPort"), ""),
            _ => report.check_port(&port.at("containerPort")),
        }
        if port.at("hostPort").number().unwrap_or_default() != 0 {
            report.check_port(&port.at("hostPort"));
        }
        report.check_choice(&port.at("protocol"), &PROTOCOLS);
    }
}

/// Two containers that run at the same time may not listen at the same port of their host.
fn check_host_ports<'a>(containers: &mut dyn Iterator<Item = Place<'a>>, report: &mut Report) {
    let mut known = HashSet::new();
    for port in containers.flat_map(|container| container.at("ports").items()) {
        let number = port.at("hostPort").number().unwrap_or_default();
        if number == 0 {
            continue;
        }
        let key = format!(
            "{}/{}/{number}",
            port.at("protocol").text(),
            port.at("hostIP").text()
        );
        if !known.insert(key.clone()) {
            report.duplicate_value(&port.at("hostPort"), json!(key), "");
        }
        if !port.at("hostIP").is_empty() {
            address::check(&port.at("hostIP"), report);
        }
    }
}

fn check_source(variable: &Place<'_>, report: &mut Report) {
    let source = variable.at("valueFrom");
    if !source.is_there() {
        return;
    }
    let mut count = 0;
    for kind in [
        "fieldRef",
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
    ] {
        let reference = source.at(kind);
        if !reference.is_there() {
            continue;
        }
        count += 1;
        match kind {
            "fieldRef" => check_field(&reference, report),
            "resourceFieldRef" => {
                let resource = reference.at("resource");
                let is_of_huge_pages = ["limits.hugepages-", "requests.hugepages-"]
                    .iter()
                    .any(|prefix| resource.text().starts_with(prefix));
                match resource.text() {
                    "" => report.required(&resource, ""),
                    text if !RESOURCES.contains(&text) && !is_of_huge_pages => {
                        report.unsupported(&resource, &RESOURCES)
                    }
                    _ => {}
                }
            }
            "fileKeyRef" => report.check_there(&reference.at("key")),
            _ => {
                report.invalid_each(
                    &reference.at("name"),
                    names::subdomain(reference.at("name").text()),
                );
                match reference.at("key").text() {
                    "" => report.required(&reference.at("key"), ""),
                    key => report.invalid_each(&reference.at("key"), names::config_key(key)),
                }
            }
        }
    }
    let refuse = match count {
        0 => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        }
        _ if !variable.at("value").is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    report.invalid_value(&source, json!(""), refuse);
}

fn check_field(reference: &Place<'_>, report: &mut Report) {
    let path = reference.at("fieldPath");
    let key = |start: &str| {
        path.text()
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix("']"))
    };
    if let Some(key) = key("metadata.annotations['") {
        report.invalid_each(reference, names::qualified(&key.to_lowercase()));
    } else if let Some(key) = key("metadata.labels['") {
        report.invalid_each(reference, names::qualified(key));
    } else if path.is_empty() {
        report.required(&path, "");
    } else if !FIELDS.contains(&path.text()) {
        report.unsupported(&path, &FIELDS);
    }
}

fn check_environments(environments: &Place<'_>, report: &mut Report) {
    for source in environments.items() {
        let prefix = source.at("prefix");
        if !prefix.is_empty() {
            report.invalid_each(&prefix, names::variable(prefix.text()));
        }
        let references = [source.at("configMapRef"), source.at("secretRef")];
        let given: Vec<&Place<'_>> = references.iter().filter(|one| one.is_there()).collect();
        for reference in &given {
            report.check_needed_name(&reference.at("name"), NameRule::Subdomain);
        }
        match given.len() {
            0 => report.invalid_value(
                environments,
                json!(""),
                "must specify one of: `configMapRef` or `secretRef`",
            ),
            1 => {}
            _ => {
                let detail = "may not have more than one field specified at a time";
                report.invalid_value(environments, json!(""), detail);
            }
        }
    }
}

fn check_mounts(container: &Place<'_>, pod: &Pod<'_>, report: &mut Report) {
    let mounts = container.at("volumeMounts");
    let mut known = HashSet::new();
    for mount in mounts.items() {
        let (name, path) = (mount.at("name"), mount.at("mountPath"));
        report.check_there(&name);
        if !pod.volume_names.contains(name.text()) {
            report.not_found(&name, "");
        }
        report.check_there(&path);
        if !known.insert(path.text()) {
            report.invalid_text(&path, "must be unique");
        }
        // These errors name the list without the place in it, as upstream's do.
        let (below, expression) = (mount.at("subPath"), mount.at("subPathExpr"));
        volume::check_descending(&below.called(format!("{}.subPath", mounts.path)), report);
        if !below.is_empty() && !expression.is_empty() {
            report.invalid_text(
                &expression,
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        volume::check_descending(
            &expression.called(format!("{}.subPathExpr", mounts.path)),
            report,
        );
        let propagation = mount.at("mountPropagation");
        let propagation = propagation.called(format!("{}.mountPropagation", mounts.path));
        report.check_choice(&propagation, &["Bidirectional", "HostToContainer", "None"]);
    }
}

fn check_devices(container: &Place<'_>, pod: &Pod<'_>, report: &mut Report) {
    let devices = container.at("volumeDevices");
    if devices.is_empty() {
        return;
    }
    let mut names = HashSet::new();
    let mut paths = HashSet::new();
    for device in devices.items() {
        let (name, path) = (device.at("name"), device.at("devicePath"));
        report.check_there(&name);
        if !names.insert(name.text()) {
            report.invalid_text(&name, "must be unique");
        } else if !pod.volume_names.contains(name.text()) {
            report.not_found(&name, "");
        } else if !pod.claim_volumes.contains(name.text()) {
            let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            report.invalid_text(&name, detail);
        }
        report.check_there(&path);
        if !paths.insert(path.text()) {
            report.invalid_text(&path, "must be unique");
        }
    }
}

fn check_claims(claims: &Place<'_>, pod: &Pod<'_>, report: &mut Report) {
    for claim in claims.items() {
        let name = claim.at("name").called(&claim.path);
        if name.is_empty() {
            report.required(&name, "");
        } else if !pod.claims.contains(name.text()) {
            let detail = match pod.claims.is_empty() {
                true => {
                    "must be one of the names in pod.spec.resourceClaims which is empty".to_owned()
                }
                false => {
                    // Nobody reads more of them, and each such error has them all.
                    let known: Vec<&str> = pod.claims.iter().copied().take(100).collect();
                    format!(
                        "must be one of the names in pod.spec.resourceClaims: {}",
                        known.join(", ")
                    )
                }
            };
            report.not_found(&name, &detail);
        }
    }
}

fn check_security(context: &Place<'_>, report: &mut Report) {
    for field in ["runAsUser", "runAsGroup"] {
        report.check_range(&context.at(field), 0, u32::MAX.into());
    }
    report.check_choice(&context.at("procMount"), &["Default", "Unmasked"]);
    let escalation = context.at("allowPrivilegeEscalation");
    if escalation.value == &Value::Bool(false) && context.at("privileged").is_true() {
        report.invalid(
            context,
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        );
    }
}

fn check_life(container: &Place<'_>, pod: &Pod<'_>, report: &mut Report) {
    for hook in ["lifecycle.postStart", "lifecycle.preStop"] {
        if container.at(hook).is_there() {
            check_handler(
                &container.at(hook),
                &["exec", "httpGet", "tcpSocket", "sleep"],
                pod,
                report,
            );
        }
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.at(kind);
        if !probe.is_there() {
            continue;
        }
        check_handler(
            &probe,
            &["exec", "httpGet", "tcpSocket", "grpc"],
            pod,
            report,
        );
        for field in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            report.check_not_negative(&probe.at(field));
        }
        let grace = probe.at("terminationGracePeriodSeconds");
        if grace.number().is_some_and(|grace| grace <= 0) {
            report.invalid(&grace, "must be greater than 0");
        }
        if kind == "readinessProbe" {
            if grace.is_there() {
                report.invalid(&grace, "must not be set for readinessProbes");
            }
        } else if probe
            .at("successThreshold")
            .number()
            .is_some_and(|count| count != 1)
        {
            report.invalid(&probe.at("successThreshold"), "must be 1");
        }
    }
}

fn check_handler(place: &Place<'_>, kinds: &[&str], pod: &Pod<'_>, report: &mut Report) {
    let mut count = 0;
    for kind in kinds {
        let handler = place.at(kind);
        if !handler.is_there() {
            continue;
        }
        count += 1;
        if count > 1 {
            report.forbidden(&handler, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" => report.check_there(&handler.at("command")),
            "httpGet" => {
                report.check_port_or_name(&handler.at("port"));
                report.check_choice(&handler.at("scheme"), &["HTTP", "HTTPS"]);
                for header in handler.at("httpHeaders").items() {
                    let name = header
                        .at("name")
                        .called(format!("{}.httpHeaders", handler.path));
                    report.invalid_each(&name, names::header(name.text()));
                }
            }
            "sleep" => {
                let seconds = handler.at("seconds").called(&handler.path);
                if !(0..=pod.grace).contains(&seconds.number().unwrap_or_default()) {
                    let detail = format!(
                        "must be non-negative and less than terminationGracePeriodSeconds ({})",
                        pod.grace
                    );
                    report.invalid(&seconds, detail);
                }
            }
            _ => report.check_port_or_name(&handler.at("port")),
        }
    }
    if count == 0 {
        report.required(place, "must specify a handler type");
    }
}
