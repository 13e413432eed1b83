//! Services, and the endpoints behind them.

use std::collections::HashSet;

use serde_json::json;

use super::container::PROTOCOLS;
use super::place::Place;
use super::report::Report;
use super::{address, labels, names};
use crate::kind::NameRule;

/// Ports of nodes that services may have.
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;

/// What services are.
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// The most seconds that a client stays with one pod.
const MOST_AFFINE: i64 = 86_400;

/// Rules for Services. What the server gives out itself (addresses, ports of nodes) need not be there.
pub(super) fn check(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    if let Some(old) = old {
        check_change(&spec, &old.at("spec"), report);
    }
    let (kind, ports) = (spec.at("type"), spec.at("ports"));
    let is_headless = spec.at("clusterIP").text() == "None"
        || spec.at("clusterIPs").texts().first() == Some(&"None");
    if ports.is_empty() && !is_headless && kind.text() != "ExternalName" {
        report.required(&ports, "");
    }
    match kind.text() {
        "LoadBalancer" | "NodePort" if is_headless => {
            let detail = format!("may not be set to 'None' for {} services", kind.text());
            let first = spec
                .at("clusterIPs")
                .called(format!("{}.clusterIPs[0]", spec.path));
            report.invalid_value(&first, json!("None"), detail);
        }
        "ExternalName" => check_external_name(&spec, report),
        _ => {}
    }
    check_ports(&ports, report);
    labels::check(&spec.at("selector"), report);
    check_affinity(&spec, report);
    if kind.text() != "ExternalName" {
        check_addresses(&spec, report);
    }
    for external in spec.at("externalIPs").items() {
        address::check_reachable(&external, report);
    }
    if kind.is_there() && !TYPES.contains(&kind.text()) {
        report.unsupported(&kind, &TYPES);
    }
    check_port_uses(&ports, kind.text(), report);
    check_balancing(&spec, report);
}

fn check_external_name(spec: &Place<'_>, report: &mut Report) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !spec.at(field).is_empty() {
            report.forbidden(&spec.at(field), "may not be set for ExternalName services");
        }
    }
    let name = spec.at("externalName");
    match name.text().trim_end_matches('.') {
        "" => report.required(&name, ""),
        // One dot at the end says that the name is a whole one.
        _ => {
            let whole = name.text().strip_suffix('.').unwrap_or(name.text());
            for detail in names::subdomain(whole) {
                report.invalid_value(&name, json!(whole), detail);
            }
        }
    }
}

fn check_ports(ports: &Place<'_>, report: &mut Report) {
    let mut known = HashSet::new();
    for port in ports.items() {
        let name = port.at("name");
        if !name.is_empty() {
            report.check_name(&name, NameRule::Label);
            if !known.insert(name.text()) {
                report.duplicate(&name);
            }
        } else if ports.len() > 1 {
            report.required(&name, "");
        }
        report.check_port(&port.at("port"));
        report.check_choice(&port.at("protocol"), &PROTOCOLS);
        let target = port.at("targetPort");
        if target.is_there() {
            report.check_port_or_name(&target);
        }
        let application = port.at("appProtocol");
        if application.is_there() {
            report.invalid_each(&application, names::qualified(application.text()));
        }
    }
}

fn check_port_uses(ports: &Place<'_>, kind: &str, report: &mut Report) {
    let mut of_nodes = HashSet::new();
    let mut of_service = HashSet::new();
    for port in ports.items() {
        let protocol = port.at("protocol").text();
        let node = port.at("nodePort");
        let number = node.number().unwrap_or_default();
        if number != 0 {
            if kind == "ClusterIP" {
                report.forbidden(&node, "may not be used when `type` is 'ClusterIP'");
            } else if !NODE_PORTS.contains(&number) {
                let detail = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                report.invalid(&node, detail);
            }
            if !of_nodes.insert((protocol, number)) {
                report.duplicate(&node);
            }
        }
        let number = port.at("port").number().unwrap_or_default();
        if !of_service.insert((protocol, number)) {
            report.duplicate_value(&port, json!({ "protocol": protocol, "port": number }), "");
        }
    }
}

fn check_affinity(spec: &Place<'_>, report: &mut Report) {
    let (affinity, config) = (spec.at("sessionAffinity"), spec.at("sessionAffinityConfig"));
    report.check_choice(&affinity, &["ClientIP", "None"]);
    match affinity.text() {
        "ClientIP" => {
            let seconds = config.at("clientIP.timeoutSeconds");
            if seconds
                .number()
                .is_some_and(|seconds| !(1..=MOST_AFFINE).contains(&seconds))
            {
                report.invalid(
                    &seconds,
                    format!("must be greater than 0 and less than {MOST_AFFINE}"),
                );
            }
        }
        "None" if config.is_there() => {
            report.forbidden(&config, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn check_addresses(spec: &Place<'_>, report: &mut Report) {
    let (first, all) = (spec.at("clusterIP"), spec.at("clusterIPs"));
    let listed = all.texts().first().copied();
    if !first.is_empty() && listed.is_some_and(|listed| listed != first.text()) {
        report.invalid(&all, "first value must match `clusterIP`");
    }
    if all.len() > 2 {
        report.invalid(&all, "may only hold up to 2 values");
    }
    let has_none = all.texts().contains(&"None");
    if has_none && all.len() > 1 {
        report.invalid_value(
            &all,
            json!("None"),
            "must be the only value if set to 'None'",
        );
    }
    let given: Vec<Place<'_>> = match all.is_empty() {
        true => vec![first],
        false => all.items().collect(),
    };
    for address in given {
        if !["", "None"].contains(&address.text()) && !address::is_address(address.text()) {
            address::check(&address, report);
        }
    }
    let families = spec.at("ipFamilies");
    for family in families.items() {
        report.check_choice(&family, &["IPv4", "IPv6"]);
    }
    report.check_unique(families.items());
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    report.check_choice(&spec.at("ipFamilyPolicy"), &policies);
}

fn check_balancing(spec: &Place<'_>, report: &mut Report) {
    let is_balanced = spec.at("type").text() == "LoadBalancer";
    let only_balanced = "may only be used when `type` is 'LoadBalancer'";
    let ranges = spec.at("loadBalancerSourceRanges");
    let shown = ranges.called(format!("{}.LoadBalancerSourceRanges", spec.path));
    if !ranges.is_empty() && !is_balanced {
        report.forbidden(&shown, only_balanced);
    }
    for range in shown.items() {
        address::check_range(&range, report);
    }
    let allocates = spec.at("allocateLoadBalancerNodePorts");
    if allocates.is_there() && !is_balanced {
        report.forbidden(&allocates, only_balanced);
    }
    let class = spec.at("loadBalancerClass");
    if class.is_there() {
        if !is_balanced {
            report.forbidden(&class, only_balanced);
        }
        report.invalid_each(&class, names::qualified(class.text()));
    }
    let is_outside = is_balanced
        || spec.at("type").text() == "NodePort"
        || (spec.at("type").text() == "ClusterIP" && !spec.at("externalIPs").is_empty());
    let (policy, check_port) = (
        spec.at("externalTrafficPolicy"),
        spec.at("healthCheckNodePort"),
    );
    if !policy.is_empty() {
        match is_outside {
            true => report.check_choice(&policy, &["Cluster", "Local"]),
            false => report.invalid(
                &policy,
                "may only be set for externally-accessible services",
            ),
        }
    }
    if check_port.number().unwrap_or_default() != 0 {
        if is_balanced && policy.text() == "Local" {
            report.check_port(&check_port);
        } else {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            report.invalid(&check_port, detail);
        }
    }
    report.check_choice(&spec.at("internalTrafficPolicy"), &["Cluster", "Local"]);
    let distributions = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    report.check_choice(&spec.at("trafficDistribution"), &distributions);
}

/// Addresses stay, unless the service was or becomes one without them. One that is left out is taken over, as are ports
/// of nodes.
fn check_change(new: &Place<'_>, old: &Place<'_>, report: &mut Report) {
    let is_name = |spec: &Place<'_>| spec.at("type").text() == "ExternalName";
    if is_name(new) || is_name(old) {
        return;
    }
    let first = |spec: &Place<'_>| {
        let listed = spec.at("clusterIPs");
        let listed = listed.texts().first().copied().map(str::to_owned);
        match spec.at("clusterIP").text() {
            "" => listed.unwrap_or_default(),
            text => text.to_owned(),
        }
    };
    let (now, before) = (first(new), first(old));
    if !before.is_empty() && !now.is_empty() && now != before {
        let list = new.at("clusterIPs");
        let shown = if list.is_empty() {
            json!([now])
        } else {
            list.value.clone()
        };
        let place = list.called(format!("{}[0]", list.path));
        report.invalid_value(&place, shown, "may not change once set");
    }
    let is_balanced = |spec: &Place<'_>| spec.at("type").text() == "LoadBalancer";
    let class = new.at("loadBalancerClass");
    if is_balanced(new) && is_balanced(old) && class.text() != old.at("loadBalancerClass").text() {
        report.invalid_text(&class, "may not change once set");
    }
}

/// Rules for Endpoints.
pub(super) fn check_endpoints(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    for subset in new.at("subsets").items() {
        let (ready, others) = (subset.at("addresses"), subset.at("notReadyAddresses"));
        if ready.is_empty() && others.is_empty() {
            report.required(&subset, "must specify `addresses` or `notReadyAddresses`");
        }
        for endpoint in ready.items().chain(others.items()) {
            address::check_reachable(&endpoint.at("ip"), report);
            report.check_name(&endpoint.at("hostname"), NameRule::Label);
            report.check_name(&endpoint.at("nodeName"), NameRule::Subdomain);
        }
        let ports = subset.at("ports");
        for port in ports.items() {
            let name = port.at("name");
            match name.is_empty() {
                true if ports.len() > 1 => report.required(&name, ""),
                _ => report.check_name(&name, NameRule::Label),
            }
            report.check_port(&port.at("port"));
            report.check_choice(&port.at("protocol"), &PROTOCOLS);
        }
    }
}

/// Rules for EndpointSlices.
pub(super) fn check_slice(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    let kind = new.at("addressType");
    if let Some(old) = old {
        report.check_unchanged(&kind, &old.at("addressType"));
    }
    report.check_needed_choice(&kind, &["FQDN", "IPv4", "IPv6"]);
    let endpoints = new.at("endpoints");
    if endpoints.len() > 1000 {
        return report.too_many(&endpoints, 1000);
    }
    for endpoint in endpoints.items() {
        check_endpoint(&endpoint, kind.text(), report);
    }
    let ports = new.at("ports");
    if ports.len() > 20_000 {
        return report.too_many(&ports, 20_000);
    }
    let mut known = HashSet::new();
    for port in ports.items() {
        let name = port.at("name");
        report.check_name(&name, NameRule::Label);
        if !known.insert(name.text()) {
            report.duplicate_value(&name, json!(name.text()), "");
        }
        report.check_choice(&port.at("protocol"), &PROTOCOLS);
        if port.at("port").is_there() {
            report.check_port(&port.at("port"));
        }
    }
}

fn check_endpoint(endpoint: &Place<'_>, kind: &str, report: &mut Report) {
    let addresses = endpoint.at("addresses");
    if addresses.is_empty() {
        report.required(&addresses, "must contain at least 1 address");
    }
    if addresses.len() > 100 {
        report.too_many(&addresses, 100);
    }
    for address in addresses.items() {
        let is_good = |rule: fn(std::net::IpAddr) -> bool| address.text().parse().is_ok_and(rule);
        match kind {
            "IPv4" if !is_good(|address| address.is_ipv4()) => {
                report.invalid_text(&address, "must be a valid IPv4 address");
            }
            "IPv6" if !is_good(|address| address.is_ipv6()) => {
                report.invalid_text(&address, "must be a valid IPv6 address");
            }
            "IPv4" | "IPv6" => address::check_reachable(&address, report),
            _ => report.invalid_each(&address, names::subdomain(address.text())),
        }
    }
    report.check_name(&endpoint.at("nodeName"), NameRule::Subdomain);
    report.check_name(&endpoint.at("hostname"), NameRule::Label);
}
