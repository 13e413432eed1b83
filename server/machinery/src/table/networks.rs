//! Cells of services, endpoints and ingresses.

use std::collections::BTreeSet;

use serde_json::Value;

use super::expression::Call;
use super::tree::{first_few, items, number, printed, text};

/// `80/TCP,443:30443/TCP`.
pub(super) fn service_ports(call: &Call<'_>) -> Option<Value> {
    let ports = items(call.tree(0)).iter().map(|port| {
        let protocol = text(&port["protocol"]);
        match (number(&port["port"]), number(&port["nodePort"])) {
            (number, 1..) => format!("{number}:{}/{protocol}", port["nodePort"]),
            (number, _) => format!("{number}/{protocol}"),
        }
    });
    let ports: Vec<String> = ports.collect();
    Some(ports.join(",").into())
}

/// Where a service is reached from outside.
pub(super) fn external_addresses(call: &Call<'_>) -> Option<Value> {
    let service = call.object();
    let spec = &service["spec"];
    let mut given: Vec<String> = items(&spec["externalIPs"]).iter().map(printed).collect();
    let (without, mut all) = match text(&spec["type"]) {
        "ClusterIP" | "NodePort" => ("<none>", Vec::new()),
        "LoadBalancer" => (
            "<pending>",
            addresses(&service["status"]["loadBalancer"]["ingress"]),
        ),
        "ExternalName" => return Some(spec["externalName"].clone()),
        _ => return Some("<unknown>".into()),
    };
    all.append(&mut given);
    Some(match all.as_slice() {
        [] => without.into(),
        all => all.join(",").into(),
    })
}

/// Where a load balancer takes traffic.
pub(super) fn balancers(call: &Call<'_>) -> Option<Value> {
    Some(addresses(call.tree(0)).join(",").into())
}

/// The addresses of a load balancer, or its names where it has none; each once, sorted.
fn addresses(ingress: &Value) -> Vec<String> {
    let address = |one: &Value| match (text(&one["ip"]), text(&one["hostname"])) {
        ("", "") => None,
        ("", name) => Some(name.to_owned()),
        (ip, _) => Some(ip.to_owned()),
    };
    let all: BTreeSet<String> = items(ingress).iter().filter_map(address).collect();
    all.into_iter().collect()
}

/// The first three of all addresses with all of their ports.
pub(super) fn endpoints(call: &Call<'_>) -> Option<Value> {
    let mut all = Vec::new();
    for subset in items(call.tree(0)) {
        let addresses = items(&subset["addresses"]);
        let ports = items(&subset["ports"]);
        let ip = |address: &Value| text(&address["ip"]).to_owned();
        if ports.is_empty() {
            all.extend(addresses.iter().map(ip));
        }
        for port in ports {
            let port = number(&port["port"]);
            all.extend(addresses.iter().map(|address| match ip(address) {
                ip if ip.contains(':') => format!("[{ip}]:{port}"),
                ip => format!("{ip}:{port}"),
            }));
        }
    }
    Some(first_few(all.iter(), 3).into())
}

/// The first three ports of an endpoint slice: each by number, or by name, or `*` for any.
pub(super) fn slice_ports(call: &Call<'_>) -> Option<Value> {
    let ports = items(call.tree(0))
        .iter()
        .map(|port| match (&port["port"], &port["name"]) {
            (Value::Null, Value::Null) => "*".to_owned(),
            (Value::Null, name) => printed(name),
            (number, _) => printed(number),
        });
    Some(first_few(ports, 3).into())
}

/// The hosts that an ingress has rules for; `*` if for all. There are as many more as there are rules.
pub(super) fn hosts(call: &Call<'_>) -> Option<Value> {
    let rules = items(call.tree(0));
    let mut shown = Vec::new();
    let mut has_more = false;
    for rule in rules {
        has_more |= shown.len() == 3;
        match text(&rule["host"]) {
            "" => {}
            host if !has_more => shown.push(host),
            _ => {}
        }
    }
    Some(match (shown.is_empty(), has_more) {
        (true, _) => "*".into(),
        (_, false) => shown.join(",").into(),
        (_, true) => format!("{} + {} more...", shown.join(","), rules.len() - 3).into(),
    })
}

/// The ports of an ingress: 443 if it has certificates.
pub(super) fn ingress_ports(call: &Call<'_>) -> Option<Value> {
    let has_certificates = !items(&call.object()["spec"]["tls"]).is_empty();
    Some(if has_certificates { "80, 443" } else { "80" }.into())
}

/// The object with more settings for a class of ingresses: `Kind.group/name`.
pub(super) fn class_parameters(call: &Call<'_>) -> Option<Value> {
    let reference = call.value(0)?;
    let (kind, name) = (text(&reference["kind"]), text(&reference["name"]));
    Some(match reference["apiGroup"].as_str() {
        Some(group) => format!("{kind}.{group}/{name}").into(),
        None => format!("{kind}/{name}").into(),
    })
}

/// What an IP address belongs to: `services/default/web`.
pub(super) fn address_parent(call: &Call<'_>) -> Option<Value> {
    let reference = call.value(0)?;
    let mut parent = text(&reference["resource"]).to_lowercase();
    for (sign, part) in [(".", "group"), ("/", "namespace")] {
        let part = text(&reference[part]);
        if !part.is_empty() {
            parent.push_str(sign);
            parent.push_str(part);
        }
    }
    Some(format!("{parent}/{}", text(&reference["name"])).into())
}
