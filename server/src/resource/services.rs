//! Addresses and ports of services: given out once, in the transaction that writes the service, and given back with it.
//!
//! An address that is taken is an `IPAddress` object, as upstream has it; a port that is taken is a key of its own. Each
//! is compared where the service is written, so that no two services ever get the same, whoever writes them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use machinery::status::{Fault, FieldError, Status};
use serde_json::{Value, json};

use super::registry::Change;
use super::{Api, meta, stored};

/// The network that addresses of services are from: 10.96.0.0/12, as upstream's own defaults have it.
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
const HOSTS: u32 = 1 << 20;

/// Ports that nodes have for services.
const PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;

/// Taken ports, one key each.
const PORT_KEYS: &str = "/registry/ranges/servicenodeports/";

/// Addresses that are tried before all are looked at.
const TRIES: usize = 16;

fn kind_of(service: &Value) -> &str {
    service["spec"]["type"].as_str().unwrap_or("ClusterIP")
}

fn wants_address(service: &Value) -> bool {
    kind_of(service) != "ExternalName"
}

fn wants_ports(service: &Value) -> bool {
    matches!(kind_of(service), "NodePort")
        || kind_of(service) == "LoadBalancer"
            && service["spec"]["allocateLoadBalancerNodePorts"] != json!(false)
}

fn address_key(address: &str) -> String {
    format!("/registry/ipaddresses/{address}")
}

fn port_key(port: i64) -> String {
    format!("{PORT_KEYS}{port}")
}

fn invalid(api: &Api, service: &Value, error: FieldError) -> Status {
    let kind = api.kind("", "v1", "services");
    meta::invalid(kind, meta::text(service, "name"), &[error])
}

/// What a service has been given.
#[derive(Default)]
struct Given {
    address: Option<String>,
    ports: BTreeSet<i64>,
}

impl Given {
    fn of(service: &Value) -> Self {
        let spec = &service["spec"];
        let address = spec["clusterIP"].as_str();
        let address = address.filter(|address| !address.is_empty() && *address != "None");
        let ports = spec["ports"].as_array().into_iter().flatten();
        let ports = ports.filter_map(|port| port["nodePort"].as_i64());
        let health = spec["healthCheckNodePort"].as_i64();
        Self {
            address: address.map(str::to_owned),
            ports: ports.chain(health).filter(|port| *port != 0).collect(),
        }
    }
}

/// Gives a new service what it needs.
pub(super) fn creating(api: &Api, service: &mut Value, change: &mut Change) -> Result<(), Status> {
    give(api, &Given::default(), service, change)
}

/// Gives a changed service what it needs now, and takes back what it does not.
pub(super) fn updating(
    api: &Api,
    old: &Value,
    service: &mut Value,
    change: &mut Change,
) -> Result<(), Status> {
    let before = Given::of(old);
    give(api, &before, service, change)?;
    let after = Given::of(service);
    if let Some(address) = &before.address
        && before.address != after.address
    {
        change.delete(&address_key(address));
    }
    for port in before.ports.difference(&after.ports) {
        change.delete(&port_key(*port));
    }
    Ok(())
}

/// Takes back all that a service was given.
pub(super) fn deleting(service: &Value, change: &mut Change) {
    let given = Given::of(service);
    if let Some(address) = &given.address {
        change.delete(&address_key(address));
    }
    for port in &given.ports {
        change.delete(&port_key(*port));
    }
}

/// Who replaces a service without naming what it was given keeps that.
pub(super) fn merging(old: &Value, new: &mut Value) {
    if !wants_address(new) || !wants_address(old) {
        return;
    }
    for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if new["spec"][name].is_null() && !old["spec"][name].is_null() {
            new["spec"][name] = old["spec"][name].clone();
        }
    }
    if !wants_ports(new) || !wants_ports(old) {
        return;
    }
    let before = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    for port in meta::items_mut(&mut new["spec"], "ports") {
        let is_of_it = |one: &&Value| {
            let same = |name: &str| one.get(name) == port.get(name);
            same("port") && same("protocol")
        };
        if port.get("nodePort").and_then(Value::as_i64).unwrap_or(0) == 0
            && let Some(same) = before.iter().find(is_of_it)
            && !same["nodePort"].is_null()
        {
            port.insert("nodePort".to_owned(), same["nodePort"].clone());
        }
    }
}

fn give(api: &Api, before: &Given, service: &mut Value, change: &mut Change) -> Result<(), Status> {
    if !service["spec"].is_object() {
        return Ok(());
    }
    if wants_address(service) {
        give_address(api, before, service, change)?;
    } else if let Some(spec) = service["spec"].as_object_mut() {
        for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            spec.remove(name);
        }
    }
    give_ports(api, before, service, change)
}

fn give_address(
    api: &Api,
    before: &Given,
    service: &mut Value,
    change: &mut Change,
) -> Result<(), Status> {
    let asked = service["spec"]["clusterIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let address = match asked.as_str() {
        "None" => asked,
        "" => free_address(api)?,
        _ if before.address.as_deref() == Some(&asked) => asked,
        _ => {
            let is_free = match asked.parse::<Ipv4Addr>() {
                Ok(address) if is_ours(address) => {
                    api.registry.look(&address_key(&asked))?.is_none()
                }
                _ => {
                    let detail = format!(
                        "failed to allocate IP {asked}: the provided IP is not in the valid range. The range of valid \
                         IPs is {NETWORK}/12"
                    );
                    let error = FieldError::new("spec.clusterIPs", Fault::Invalid, detail)
                        .of(json!([asked]));
                    return Err(invalid(api, service, error));
                }
            };
            if !is_free {
                let detail =
                    format!("failed to allocate IP {asked}: provided IP is already allocated");
                let error =
                    FieldError::new("spec.clusterIPs", Fault::Invalid, detail).of(json!([asked]));
                return Err(invalid(api, service, error));
            }
            asked
        }
    };
    let spec = &mut service["spec"];
    spec["clusterIP"] = json!(address);
    spec["clusterIPs"] = json!([address]);
    if spec["ipFamilies"].is_null() {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = json!("SingleStack");
    }
    if address != "None" && before.address.as_deref() != Some(&address) {
        let key = address_key(&address);
        change.only_at(&key, 0);
        change.put(
            &key,
            stored::keep(
                api.kind("networking.k8s.io", "v1", "ipaddresses"),
                &taken(service, &address, api.registry.now()),
            ),
            0,
        );
    }
    Ok(())
}

fn is_ours(address: Ipv4Addr) -> bool {
    let host = u32::from(address).wrapping_sub(u32::from(NETWORK));
    host > 0 && host < HOSTS
}

/// The object that says that an address is taken.
fn taken(service: &Value, address: &str, now: i64) -> Value {
    json!({
        "kind": "IPAddress",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {
            "name": address,
            "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": meta::timestamp(now),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {
            "parentRef": {
                "resource": "services",
                "namespace": meta::text(service, "namespace"),
                "name": meta::text(service, "name"),
            },
        },
    })
}

fn free_address(api: &Api) -> Result<String, Status> {
    let address = |host: u32| Ipv4Addr::from(u32::from(NETWORK) + host).to_string();
    // The lowest 256 are left to those who ask for one by name.
    for _ in 0..TRIES {
        let host = 256 + u32::from_be_bytes(super::random()) % (HOSTS - 257);
        let address = address(host);
        if api.registry.look(&address_key(&address))?.is_none() {
            return Ok(address);
        }
    }
    for host in 256..HOSTS - 1 {
        let address = address(host);
        if api.registry.look(&address_key(&address))?.is_none() {
            return Ok(address);
        }
    }
    Err(super::error::exhausted(
        "range is full: no address of a service is free",
    ))
}

fn give_ports(
    api: &Api,
    before: &Given,
    service: &mut Value,
    change: &mut Change,
) -> Result<(), Status> {
    let wants = wants_ports(service);
    if !wants {
        let is_plain = kind_of(service) != "LoadBalancer";
        for port in meta::items_mut(&mut service["spec"], "ports") {
            if is_plain && port.get("nodePort").and_then(Value::as_i64) == Some(0) {
                port.remove("nodePort");
            }
        }
        return Ok(());
    }
    let mut own = before.ports.clone();
    let count = service["spec"]["ports"].as_array().map_or(0, Vec::len);
    for place in 0..count {
        let asked = service["spec"]["ports"][place]["nodePort"]
            .as_i64()
            .unwrap_or(0);
        let port = if asked != 0 {
            let field = format!("spec.ports[{place}].nodePort");
            if !PORTS.contains(&asked) {
                let detail = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                let error = FieldError::new(field, Fault::Invalid, detail).of(asked);
                return Err(invalid(api, service, error));
            }
            let is_own = own.contains(&asked);
            if !is_own && api.registry.look(&port_key(asked))?.is_some() {
                let error =
                    FieldError::new(field, Fault::Invalid, "provided port is already allocated")
                        .of(asked);
                return Err(invalid(api, service, error));
            }
            asked
        } else {
            free_port(api, &own)?
        };
        service["spec"]["ports"][place]["nodePort"] = json!(port);
        if own.insert(port) {
            let holder = format!(
                "{}/{}",
                meta::text(service, "namespace"),
                meta::text(service, "name")
            );
            change.only_at(&port_key(port), 0);
            let holder = stored::write(&json!({ "service": holder }));
            change.put(&port_key(port), holder.into(), 0);
        }
    }
    Ok(())
}

fn free_port(api: &Api, own: &BTreeSet<i64>) -> Result<i64, Status> {
    let first = PORTS.start();
    let count = PORTS.end() - first + 1;
    let from = i64::from(u16::from_be_bytes(super::random()));
    for step in 0..count {
        let port = first + (from + step) % count;
        if !own.contains(&port) && api.registry.look(&port_key(port))?.is_none() {
            return Ok(port);
        }
    }
    Err(super::error::exhausted(
        "range is full: no port of a node is free",
    ))
}
