//! Services and what is behind them, ways in, policies; addresses that are written in an unusual way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::validate::Place;

pub(super) fn check_service(service: &Place<'_>, found: &mut Vec<String>) {
    let hints = "service.kubernetes.io/topology-aware-hints";
    if service.at("metadata.annotations").key(hints).is_there() {
        found.push(format!(
            "annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let spec = service.at("spec");
    let (kind, address) = (spec.at("type").text(), spec.at("clusterIP").text());
    if !["", "None"].contains(&address) {
        for address in spec.at("clusterIPs").items() {
            check_address(&address, found);
        }
    }
    let is_headless = kind == "ClusterIP" && address == "None";
    let (external, balancer) = (spec.at("externalIPs"), spec.at("loadBalancerIP"));
    if is_headless {
        if !balancer.text().is_empty() {
            found.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if !external.is_empty() {
            found.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if !["", "None"].contains(&spec.at("sessionAffinity").text()) {
            found.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    for address in external.items() {
        check_address(&address, found);
    }
    if !external.is_empty() && !is_headless && kind != "ExternalName" {
        found.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
                .to_owned(),
        );
    }
    check_address(&balancer, found);
    for range in spec.at("loadBalancerSourceRanges").items() {
        check_range(&range, found);
    }
    if kind == "ExternalName" && !external.is_empty() {
        found.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if kind != "ExternalName" && !spec.at("externalName").text().is_empty() {
        found
            .push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.at("trafficDistribution").text() == "PreferClose" {
        found.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\""
                .to_owned(),
        );
    }
}

pub(super) fn check_endpoints(endpoints: &Place<'_>, found: &mut Vec<String>) {
    let labels = endpoints.at("metadata.labels");
    let manager = labels.key("endpoints.kubernetes.io/managed-by");
    if manager.text() == "endpoint-controller" {
        return;
    }
    for subset in endpoints.at("subsets").items() {
        for list in ["addresses", "notReadyAddresses"] {
            for address in subset.at(list).items() {
                check_address(&address.at("ip"), found);
            }
        }
    }
}

pub(super) fn check_slice(slice: &Place<'_>, is_new: bool, found: &mut Vec<String>) {
    if is_new && slice.at("addressType").text() == "FQDN" {
        found.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    let labels = slice.at("metadata.labels");
    let manager = labels.key("endpointslice.kubernetes.io/managed-by");
    let controllers = [
        "endpointslice-controller.k8s.io",
        "endpointslicemirroring-controller.k8s.io",
    ];
    if controllers.contains(&manager.text()) {
        return;
    }
    for endpoint in slice.at("endpoints").items() {
        for address in endpoint.at("addresses").items() {
            check_address(&address, found);
        }
    }
}

pub(super) fn check_policy(policy: &Place<'_>, found: &mut Vec<String>) {
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in policy.at("spec").at(rules).items() {
            for peer in rule.at(peers).items() {
                let block = peer.at("ipBlock");
                check_range(&block.at("cidr"), found);
                for except in block.at("except").items() {
                    check_range(&except, found);
                }
            }
        }
    }
}

pub(super) fn check_ingress(ingress: &Place<'_>, found: &mut Vec<String>) {
    let key = "kubernetes.io/ingress.class";
    let has_class = ingress.at("spec.ingressClassName").is_there();
    if ingress.at("metadata.annotations").key(key).is_there() && !has_class {
        found.push(format!(
            "annotation {key:?} is deprecated, please use 'spec.ingressClassName' instead"
        ));
    }
}

/// Reads an address as upstream once did: its parts may begin with zeros.
fn read(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let parts = text.split('.');
    let part = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u8>().ok(),
        false => None,
    };
    let parts: Option<Vec<u8>> = parts.map(part).collect();
    match parts?.as_slice() {
        [a, b, c, d] => Some(Ipv4Addr::new(*a, *b, *c, *d).into()),
        _ => None,
    }
}

/// As Go writes addresses: those of version 4 within version 6 are of version 4.
fn written(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

fn is_mapped(address: IpAddr) -> bool {
    address.is_ipv6() && address.to_canonical().is_ipv4()
}

/// An address should be written as everybody reads it. What is none is not looked at.
pub(super) fn check_address(place: &Place<'_>, found: &mut Vec<String>) {
    let (path, text) = (&place.path, place.text());
    let Some(address) = read(text) else {
        return;
    };
    if text.parse::<IpAddr>().is_err() || is_mapped(address) {
        found.push(format!(
            "{path}: non-standard IP address {text:?} is invalid: use {:?}",
            written(address)
        ));
    } else if address.is_ipv6() && address.to_string() != text {
        found.push(format!(
            "{path}: IPv6 address {text:?} should be in RFC 5952 canonical format ({:?})",
            address.to_string()
        ));
    }
}

/// An address with all bits behind the first few cleared.
fn masked(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or_default();
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or_default();
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// The same of a range of addresses, which should have no bits behind its length.
pub(super) fn check_range(place: &Place<'_>, found: &mut Vec<String>) {
    let (path, text) = (&place.path, place.text());
    let Some((start, length)) = text.split_once('/') else {
        return;
    };
    let (Some(address), Ok(bits)) = (read(start), length.parse::<u32>()) else {
        return;
    };
    let width = if address.is_ipv4() { 32 } else { 128 };
    if bits > width || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return;
    }
    let network = masked(address, bits);
    // One of version 4 within version 6 is written as one of version 4.
    let range = match is_mapped(network) && bits >= 96 {
        true => format!("{}/{}", written(network), bits - 96),
        false => format!("{network}/{bits}"),
    };
    let before = found.len();
    if network != address {
        let single = format!("{}/{width}", written(address));
        found.push(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be {range:?} or {single:?}?)"
        ));
    }
    let is_standard =
        start.parse::<IpAddr>().is_ok() && (length == "0" || !length.starts_with('0'));
    if !is_standard || is_mapped(address) {
        found.push(format!(
            "{path}: non-standard CIDR value {text:?} is invalid: use {range:?}"
        ));
    }
    if found.len() == before && address.is_ipv6() && format!("{address}/{bits}") != text {
        found.push(format!(
            "{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format (\"{address}/{bits}\")"
        ));
    }
}
