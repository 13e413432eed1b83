//! The documents that tell clients what is served: `/api` and `/apis`, in both forms.

use base64::Engine as _;
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::kind::{Kind, Kinds, Subresource};

/// `APIGroupDiscoveryList` of the core (for `/api`) or of all other groups (for `/apis`).
pub fn aggregated(kinds: &Kinds, is_core: bool) -> Value {
    let items: Vec<Value> = tree(kinds)
        .into_iter()
        .filter(|group| group.name.is_empty() == is_core)
        .map(|group| {
            let mut metadata = json!({});
            put_text(&mut metadata, "name", group.name);
            let versions = group.versions.iter().map(aggregated_version);
            json!({ "metadata": metadata, "versions": versions.collect::<Value>() })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

/// `/api`: `APIVersions`.
pub fn versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [
            { "clientCIDR": "0.0.0.0/0", "serverAddress": server_address },
        ],
    })
}

/// `/apis`: `APIGroupList`.
pub fn groups(kinds: &Kinds) -> Value {
    let groups = tree(kinds)
        .into_iter()
        .filter(|group| !group.name.is_empty());
    json!({
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": groups.map(|group| plain_group(&group)).collect::<Value>(),
    })
}

/// `/apis/<group>`: `APIGroup`; none if there is no such group.
pub fn group(kinds: &Kinds, group: &str) -> Option<Value> {
    let groups = tree(kinds).into_iter();
    let mut found = groups
        .filter(|known| known.name == group && !group.is_empty())
        .map(|known| plain_group(&known));
    let mut document = found.next()?;
    document["kind"] = json!("APIGroup");
    document["apiVersion"] = json!("v1");
    Some(document)
}

/// `/api/v1`, `/apis/<group>/<version>`: `APIResourceList`; none if nothing is served there.
pub fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in kinds.all() {
        if kind.group != group || kind.version != version {
            continue;
        }
        resources.push(plain_resource(kind));
        resources.extend(kind.subresources.iter().map(|one| plain_part(kind, one)));
    }
    if resources.is_empty() {
        return None;
    }
    let mut document = json!({
        "kind": "APIResourceList",
        "groupVersion": group_version(group, version),
        "resources": resources,
    });
    // The core's list is of a time when such documents had no version.
    if !group.is_empty() {
        document["apiVersion"] = json!("v1");
    }
    Some(document)
}

/// What an `ETag` says of a document: upper-case hex SHA-512, without quotes.
pub fn hash(document: &[u8]) -> String {
    let digest = sha2::Sha512::digest(document);
    digest.iter().map(|byte| format!("{byte:02X}")).collect()
}

struct Group<'a> {
    name: &'a str,
    versions: Vec<Version<'a>>,
}

struct Version<'a> {
    name: &'a str,
    kinds: Vec<&'a Kind>,
}

/// The kinds by group and version; both in the order in which they first appear.
fn tree(kinds: &Kinds) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for kind in kinds.all() {
        let group = find_or_push(
            &mut groups,
            |group| group.name == kind.group,
            || Group {
                name: &kind.group,
                versions: Vec::new(),
            },
        );
        let version = find_or_push(
            &mut group.versions,
            |version| version.name == kind.version,
            || Version {
                name: &kind.version,
                kinds: Vec::new(),
            },
        );
        version.kinds.push(kind);
    }
    groups
}

fn find_or_push<T>(
    items: &mut Vec<T>,
    is_wanted: impl Fn(&T) -> bool,
    new: impl FnOnce() -> T,
) -> &mut T {
    let place = items.iter().position(is_wanted).unwrap_or_else(|| {
        items.push(new());
        items.len() - 1
    });
    &mut items[place]
}

fn aggregated_version(version: &Version<'_>) -> Value {
    let resources = version.kinds.iter().map(|kind| aggregated_resource(kind));
    json!({
        "version": version.name,
        "resources": resources.collect::<Value>(),
        "freshness": "Current",
    })
}

fn aggregated_resource(kind: &Kind) -> Value {
    let mut resource = json!({
        "resource": kind.plural,
        // Upstream leaves group and version empty where they are those of the place; clients fill them in.
        "responseKind": response_kind("", "", &kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    put_list(&mut resource, "shortNames", &kind.short_names);
    put_list(&mut resource, "categories", &kind.categories);
    let parts = kind.subresources.iter().map(|part| {
        json!({
            "subresource": part.name,
            "responseKind": response_kind(
                part.group.as_deref().unwrap_or_default(),
                part.version.as_deref().unwrap_or_default(),
                part.kind.as_deref().unwrap_or(&kind.kind),
            ),
            "verbs": part.verbs,
        })
    });
    let parts: Vec<Value> = parts.collect();
    if !parts.is_empty() {
        resource["subresources"] = Value::Array(parts);
    }
    resource
}

fn response_kind(group: &str, version: &str, kind: &str) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}

fn plain_group(group: &Group<'_>) -> Value {
    let versions = group.versions.iter().map(|version| {
        json!({
            "groupVersion": group_version(group.name, version.name),
            "version": version.name,
        })
    });
    let versions: Vec<Value> = versions.collect();
    json!({
        "name": group.name,
        "preferredVersion": versions.first(),
        "versions": versions,
    })
}

fn plain_resource(kind: &Kind) -> Value {
    let mut resource = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": kind.verbs,
    });
    put_list(&mut resource, "shortNames", &kind.short_names);
    put_list(&mut resource, "categories", &kind.categories);
    if kind.is_stored() {
        resource["storageVersionHash"] = json!(storage_version_hash(kind));
    }
    resource
}

fn plain_part(kind: &Kind, part: &Subresource) -> Value {
    let mut resource = json!({
        "name": format!("{}/{}", kind.plural, part.name),
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": part.kind.as_deref().unwrap_or(&kind.kind),
        "verbs": part.verbs,
    });
    put_text(
        &mut resource,
        "group",
        part.group.as_deref().unwrap_or_default(),
    );
    put_text(
        &mut resource,
        "version",
        part.version.as_deref().unwrap_or_default(),
    );
    resource
}

/// Tells clients whether objects are stored in another version than before.
fn storage_version_hash(kind: &Kind) -> String {
    let (group, version) = kind.stored();
    let text = format!("{group}/{version}/{}", kind.kind);
    let digest = sha2::Sha256::digest(text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}

fn group_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        _ => format!("{group}/{version}"),
    }
}

fn put_text(object: &mut Value, name: &str, text: &str) {
    if !text.is_empty() {
        object[name] = json!(text);
    }
}

fn put_list(object: &mut Value, name: &str, list: &[String]) {
    if !list.is_empty() {
        object[name] = json!(list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(list: &'a Value, field: &str, wanted: &str) -> &'a Value {
        let mut items = list.as_array().unwrap().iter();
        items.find(|item| item[field] == wanted).unwrap()
    }

    #[test]
    fn plain_lists_are_those_of_upstream() {
        let kinds = Kinds::builtin();
        let apps = resources(kinds, "apps", "v1").unwrap();
        assert_eq!(apps["kind"], "APIResourceList");
        assert_eq!(apps["apiVersion"], "v1");
        assert_eq!(apps["groupVersion"], "apps/v1");
        assert_eq!(
            *find(&apps["resources"], "name", "deployments"),
            json!({
                "name": "deployments",
                "singularName": "deployment",
                "namespaced": true,
                "kind": "Deployment",
                "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
                "shortNames": ["deploy"],
                "categories": ["all"],
                "storageVersionHash": "8aSe+NMegvE=",
            })
        );
        assert_eq!(
            *find(&apps["resources"], "name", "deployments/scale"),
            json!({
                "name": "deployments/scale",
                "singularName": "",
                "namespaced": true,
                "group": "autoscaling",
                "version": "v1",
                "kind": "Scale",
                "verbs": ["get", "patch", "update"],
            })
        );
        assert!(resources(kinds, "apps", "v2").is_none());
    }

    #[test]
    fn the_core_says_what_drain_looks_for() {
        let core = resources(Kinds::builtin(), "", "v1").unwrap();
        assert!(core.get("apiVersion").is_none());
        assert_eq!(core["groupVersion"], "v1");
        assert_eq!(
            *find(&core["resources"], "name", "pods/eviction"),
            json!({
                "name": "pods/eviction",
                "singularName": "",
                "namespaced": true,
                "group": "policy",
                "version": "v1",
                "kind": "Eviction",
                "verbs": ["create"],
            })
        );
        let binding = find(&core["resources"], "name", "bindings");
        assert!(binding.get("storageVersionHash").is_none());
        let exec = find(&core["resources"], "name", "pods/exec");
        assert_eq!(exec["kind"], "PodExecOptions");
        assert!(exec.get("group").is_none());
    }

    #[test]
    fn hashes_are_of_the_version_that_is_stored() {
        let kinds = Kinds::builtin();
        let hash = |group, version, plural| {
            let list = resources(kinds, group, version).unwrap();
            find(&list["resources"], "name", plural)["storageVersionHash"].clone()
        };
        assert_eq!(hash("", "v1", "events"), "r2yiGXH7wu8=");
        assert_eq!(hash("events.k8s.io", "v1", "events"), "r2yiGXH7wu8=");
        let scalers = "horizontalpodautoscalers";
        assert_eq!(hash("autoscaling", "v1", scalers), "qwQve8ut294=");
        assert_eq!(hash("autoscaling", "v2", scalers), "qwQve8ut294=");
    }

    #[test]
    fn groups_are_in_the_order_of_upstream_and_prefer_their_first_version() {
        let list = groups(Kinds::builtin());
        assert_eq!(list["kind"], "APIGroupList");
        let listed = list["groups"].as_array().unwrap().iter();
        let names: Vec<&str> = listed.map(|one| one["name"].as_str().unwrap()).collect();
        let expected = [
            "apiregistration.k8s.io",
            "apps",
            "events.k8s.io",
            "authentication.k8s.io",
            "authorization.k8s.io",
            "autoscaling",
            "batch",
            "certificates.k8s.io",
            "networking.k8s.io",
            "policy",
            "rbac.authorization.k8s.io",
            "storage.k8s.io",
            "admissionregistration.k8s.io",
            "apiextensions.k8s.io",
            "scheduling.k8s.io",
            "coordination.k8s.io",
            "node.k8s.io",
            "discovery.k8s.io",
            "flowcontrol.apiserver.k8s.io",
            "resource.k8s.io",
            "storagemigration.k8s.io",
        ];
        assert_eq!(names, expected);
        let one = group(Kinds::builtin(), "autoscaling").unwrap();
        assert_eq!(
            one,
            json!({
                "kind": "APIGroup",
                "apiVersion": "v1",
                "name": "autoscaling",
                "preferredVersion": { "groupVersion": "autoscaling/v2", "version": "v2" },
                "versions": [
                    { "groupVersion": "autoscaling/v2", "version": "v2" },
                    { "groupVersion": "autoscaling/v1", "version": "v1" },
                ],
            })
        );
        assert!(group(Kinds::builtin(), "").is_none());
        assert!(group(Kinds::builtin(), "example.com").is_none());
    }

    #[test]
    fn the_aggregated_form_has_all_groups_but_the_core_and_the_core_alone() {
        let core = aggregated(Kinds::builtin(), true);
        assert_eq!(core["kind"], "APIGroupDiscoveryList");
        assert_eq!(core["apiVersion"], "apidiscovery.k8s.io/v2");
        assert_eq!(core["items"].as_array().unwrap().len(), 1);
        assert_eq!(core["items"][0]["metadata"], json!({}));
        let version = &core["items"][0]["versions"][0];
        assert_eq!(version["version"], "v1");
        assert_eq!(version["freshness"], "Current");
        let pods = find(&version["resources"], "resource", "pods");
        assert_eq!(pods["scope"], "Namespaced");
        assert_eq!(pods["singularResource"], "pod");
        assert_eq!(pods["shortNames"], json!(["po"]));
        assert_eq!(
            pods["responseKind"],
            json!({ "group": "", "version": "", "kind": "Pod" })
        );
        let eviction = find(&pods["subresources"], "subresource", "eviction");
        assert_eq!(
            eviction["responseKind"],
            json!({ "group": "policy", "version": "v1", "kind": "Eviction" })
        );
        let nodes = find(&version["resources"], "resource", "nodes");
        assert_eq!(nodes["scope"], "Cluster");

        let others = aggregated(Kinds::builtin(), false);
        let apps = &others["items"][1];
        assert_eq!(apps["metadata"]["name"], "apps");
        let items = others["items"].as_array().unwrap();
        assert!(items.iter().all(|item| item["metadata"]["name"] != ""));
    }

    #[test]
    fn an_etag_is_upper_case_hex() {
        let hash = hash(b"");
        assert_eq!(hash.len(), 128);
        assert!(hash.starts_with("CF83E1357EEFB8BD"));
    }
}
