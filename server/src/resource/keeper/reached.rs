//! Where the service `default/kubernetes` leads to: the members of the cluster, by the addresses that clients use.

use std::collections::BTreeSet;
use std::net::IpAddr;

use machinery::kind::Kind;
use machinery::status::{Reason, Status};
use serde_json::{Value, json};

use super::garbage;
use crate::resource::Api;

/// Writes where the members are, if that is not what stands there.
pub(super) async fn run(api: &Api) -> Result<(), Status> {
    let (address_type, addresses) = addresses(api);
    let ports = json!([{ "name": "https", "port": api.port, "protocol": "TCP" }]);
    let metadata = json!({
        "name": "kubernetes",
        "namespace": "default",
        "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
    });
    let mut endpoints = json!({ "kind": "Endpoints", "apiVersion": "v1", "metadata": metadata });
    if !addresses.is_empty() {
        let ips: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
        endpoints["subsets"] = json!([{ "addresses": ips, "ports": ports }]);
    }
    keep(
        api,
        api.kind("", "v1", "endpoints"),
        endpoints,
        &["subsets"],
    )
    .await?;

    let each = addresses.iter();
    let each = each.map(|ip| json!({ "addresses": [ip], "conditions": { "ready": true } }));
    let mut slice = json!({
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": metadata,
        "addressType": address_type,
        "endpoints": each.collect::<Vec<Value>>(),
        "ports": ports,
    });
    slice["metadata"]["labels"] = json!({ "kubernetes.io/service-name": "kubernetes" });
    let slices = api.kind("discovery.k8s.io", "v1", "endpointslices");
    keep(api, slices, slice, &["endpoints", "ports"]).await
}

/// Creates an object, or writes some fields of it anew.
async fn keep(api: &Api, kind: &Kind, object: Value, fields: &[&str]) -> Result<(), Status> {
    let key = kind.key("default", "kubernetes");
    if api.registry.look(&key)?.is_none() {
        let created = api
            .create_object(kind, "default", object, false, api.registry.now())
            .await;
        return match created {
            Err(error) if error.reason != Reason::AlreadyExists => Err(error),
            _ => Ok(()),
        };
    }
    garbage::change(api, kind, "default", "kubernetes", &|held| {
        for field in fields {
            match (object.get(*field), held.as_object_mut()) {
                (Some(wanted), _) => held[*field] = wanted.clone(),
                (None, Some(held)) => drop(held.remove(*field)),
                (None, None) => {}
            }
        }
    })
    .await?;
    Ok(())
}

/// The addresses of all members that others can reach: of those that only their own machine can, there are none.
fn addresses(api: &Api) -> (&'static str, BTreeSet<String>) {
    let members = api.registry.reader().view().members.list();
    let urls = members.iter().flat_map(|member| &member.client_urls);
    let found: BTreeSet<IpAddr> = urls.filter_map(|url| address(url)).collect();
    // One slice is of one family; the first of the service's own is IPv4.
    let is_v6 = !found.is_empty() && found.iter().all(IpAddr::is_ipv6);
    let found = found.iter().filter(|address| address.is_ipv6() == is_v6);
    let family = if is_v6 { "IPv6" } else { "IPv4" };
    (family, found.map(IpAddr::to_string).collect())
}

/// The address in a URL, if it is one that others can reach.
fn address(url: &str) -> Option<IpAddr> {
    let (_, rest) = url.split_once("://")?;
    let (host, _) = rest.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address: IpAddr = host.parse().ok()?;
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_others_can_reach_are_told() {
        let told = |url| address(url).map(|address| address.to_string());
        assert_eq!(told("http://10.0.0.1:2379").as_deref(), Some("10.0.0.1"));
        assert_eq!(told("http://[fd00::1]:2379").as_deref(), Some("fd00::1"));
        for url in [
            "http://127.0.0.1:2379",
            "http://0.0.0.0:2379",
            "http://a.example:2379",
        ] {
            assert_eq!(told(url), None, "{url}");
        }
    }
}
