//! Ways in and out: Ingresses, their classes, and NetworkPolicies.

use serde_json::json;

use super::container::PROTOCOLS;
use super::place::Place;
use super::report::Report;
use super::{address, labels, names};
use crate::kind::NameRule;

/// What a path of an Ingress may be.
const PATHS: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];

/// The longest name of a controller.
const CONTROLLER: usize = 250;

/// Rules for Ingresses.
pub(super) fn check_ingress(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    let (rules, backend) = (spec.at("rules"), spec.at("defaultBackend"));
    if rules.is_empty() && !backend.is_there() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        report.invalid_value(&spec, rules.value.clone(), detail);
    }
    if backend.is_there() {
        check_backend(&backend, report);
    }
    for rule in rules.items() {
        let host = rule.at("host");
        if !host.is_empty() {
            if address::is_address(host.text()) {
                report.invalid(&host, "must be a DNS name, not an IP address");
            }
            check_host(&host, report);
        }
        if rule.at("http").is_there() {
            check_paths(&rule.at("http.paths"), report);
        }
    }
    for certificate in spec.at("tls").items() {
        for host in certificate.at("hosts").items() {
            check_host(&host, report);
        }
        report.check_name(&certificate.at("secretName"), NameRule::Subdomain);
    }
    report.check_name(&spec.at("ingressClassName"), NameRule::Subdomain);
}

fn check_host(host: &Place<'_>, report: &mut Report) {
    let errors = match host.text().contains('*') {
        true => names::wildcard_subdomain(host.text()),
        false => names::subdomain(host.text()),
    };
    report.invalid_each(host, errors);
}

fn check_paths(paths: &Place<'_>, report: &mut Report) {
    if paths.is_empty() {
        report.required(paths, "");
    }
    for entry in paths.items() {
        let (path, kind) = (entry.at("path"), entry.at("pathType"));
        match kind.text() {
            "" => report.required(&kind, "pathType must be specified"),
            "Exact" | "Prefix" => check_exact(&path, report),
            "ImplementationSpecific" => {
                if !path.is_empty() && !path.text().starts_with('/') {
                    report.invalid(&path, "must be an absolute path");
                }
            }
            _ => report.unsupported(&kind, &PATHS),
        }
        check_backend(&entry.at("backend"), report);
    }
}

fn check_exact(path: &Place<'_>, report: &mut Report) {
    if !path.text().starts_with('/') {
        report.invalid_text(path, "must be an absolute path");
    }
    for part in ["//", "/./", "/../", "%2f", "%2F"] {
        if path.text().contains(part) {
            report.invalid_text(path, format!("must not contain '{part}'"));
        }
    }
    for end in ["/..", "/."] {
        if path.text().ends_with(end) {
            report.invalid_text(path, format!("cannot end with '{end}'"));
        }
    }
}

fn check_backend(backend: &Place<'_>, report: &mut Report) {
    let (service, resource) = (backend.at("service"), backend.at("resource"));
    match (service.is_there(), resource.is_there()) {
        (true, true) => {
            report.invalid_value(
                backend,
                json!(""),
                "cannot set both resource and service backends",
            );
        }
        (false, true) => {
            for field in ["kind", "name"] {
                report.check_there(&resource.at(field));
            }
        }
        (true, false) => check_service(&service, backend, report),
        (false, false) => report.required(backend, "resource or service backend is required"),
    }
}

fn check_service(service: &Place<'_>, backend: &Place<'_>, report: &mut Report) {
    report.check_needed_name(&service.at("name"), NameRule::ServiceLabel);
    let (name, number) = (service.at("port.name"), service.at("port.number"));
    let has_number = number.number().unwrap_or_default() != 0;
    match (name.is_empty(), has_number) {
        (false, true) => report.invalid_value(
            backend,
            json!(""),
            "cannot set both port name & port number",
        ),
        (false, false) => report.invalid_each(&name, names::port_name(name.text())),
        (true, true) => report.check_port(&number),
        (true, false) => report.required(backend, "port name or number is required"),
    }
}

/// Rules for classes of Ingresses.
pub(super) fn check_class(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    let controller = spec.at("controller");
    if controller.len() > CONTROLLER {
        report.too_long(&controller, CONTROLLER);
    }
    check_prefixed_path(&controller, report);
    let parameters = spec.at("parameters");
    if parameters.is_there() {
        for field in ["kind", "name"] {
            report.check_there(&parameters.at(field));
        }
        let (scope, namespace) = (parameters.at("scope"), parameters.at("namespace"));
        report.check_choice(&scope, &["Cluster", "Namespace"]);
        if scope.text() == "Namespace" && namespace.is_empty() {
            let detail = "`parameters.scope` is set to 'Namespace'";
            report.required(&namespace, detail);
        }
        if scope.text() == "Cluster" && !namespace.is_empty() {
            report.forbidden(&namespace, "`parameters.scope` is set to 'Cluster'");
        }
    }
    if let Some(old) = old {
        report.check_unchanged(&controller, &old.at("spec.controller"));
    }
}

/// Such as `acme.io/foo`.
fn check_prefixed_path(place: &Place<'_>, report: &mut Report) {
    match place.text().split_once('/') {
        None if place.is_empty() => report.required(place, ""),
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            for detail in names::subdomain(domain) {
                report.invalid_value(place, json!(domain), detail);
            }
            let is_inner =
                |byte: u8| byte.is_ascii_alphanumeric() || br"/-._~%!$&'()*+,;=:".contains(&byte);
            if !path.bytes().all(is_inner) {
                let detail = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
                report.invalid_value(place, json!(path), detail);
            }
        }
        _ => report.invalid_text(
            place,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
    }
}

/// Rules for NetworkPolicies.
pub(super) fn check_policy(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    labels::check_selector(&spec.at("podSelector"), report);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.at(direction).items() {
            for port in rule.at("ports").items() {
                check_policy_port(&port, report);
            }
            for peer in rule.at(peers).items() {
                check_peer(&peer, report);
            }
        }
    }
    let types = spec.at("policyTypes");
    if types.len() > 2 {
        return report.invalid(&types, "may not specify more than two policyTypes");
    }
    for kind in types.items() {
        report.check_choice(&kind, &["Ingress", "Egress"]);
    }
}

fn check_policy_port(port: &Place<'_>, report: &mut Report) {
    let (number, end) = (port.at("port"), port.at("endPort"));
    let protocol = port.at("protocol");
    if protocol.is_there() && !PROTOCOLS.contains(&protocol.text()) {
        report.unsupported(&protocol, &["TCP", "UDP", "SCTP"]);
    }
    if !number.is_there() {
        if end.is_there() {
            report.invalid(&end, "may not be specified when `port` is not specified");
        }
        return;
    }
    if number.value.is_string() && end.is_there() {
        report.invalid(&end, "may not be specified when `port` is non-numeric");
    }
    report.check_port_or_name(&number);
    if let (Some(first), Some(last)) = (number.number(), end.number()) {
        if last < first {
            report.invalid(&end, "must be greater than or equal to `port`");
        }
        report.check_port(&end);
    }
}

fn check_peer(peer: &Place<'_>, report: &mut Report) {
    let block = peer.at("ipBlock");
    let selectors = [peer.at("podSelector"), peer.at("namespaceSelector")];
    for selector in &selectors {
        labels::check_selector(selector, report);
    }
    let has_selector = selectors.iter().any(Place::is_there);
    if block.is_there() {
        check_block(&block, report);
        if has_selector {
            report.forbidden(peer, "may not specify both ipBlock and another peer");
        }
    } else if !has_selector {
        report.required(peer, "must specify a peer");
    }
}

fn check_block(block: &Place<'_>, report: &mut Report) {
    let range = block.at("cidr");
    if range.is_empty() {
        return report.required(&range, "");
    }
    let Some(range) = address::check_range(&range, report) else {
        return;
    };
    for except in block.at("except").items() {
        if let Some(part) = address::check_range(&except, report)
            && !range.has_within(part)
        {
            report.invalid(&except, "must be a strict subset of `cidr`");
        }
    }
}
