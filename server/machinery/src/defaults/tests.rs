//! What `fill` and the preparations make of objects: against what upstream made of the same, and by rules for all.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::schema;

#[derive(Deserialize)]
struct Case {
    name: String,
    given: Value,
    changes: BTreeMap<String, Value>,
}

fn cases() -> Vec<Case> {
    serde_saphyr::from_str(include_str!("cases.yaml")).unwrap()
}

fn kind(group: &str, version: &str, name: &str) -> Kind {
    let row =
        json!({ "group": group, "version": version, "kind": name, "plural": name.to_lowercase() });
    let mut kind: Kind = serde_json::from_value(row).unwrap();
    kind.schema = Schemas::builtin().of_kind(group, version, name);
    kind
}

fn kind_of(object: &Value) -> Kind {
    let api_version = object["apiVersion"].as_str().unwrap();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    kind(group, version, object["kind"].as_str().unwrap())
}

fn filled(mut object: Value) -> Value {
    fill(&kind_of(&object), &mut object);
    object
}

fn created(object: Value) -> Value {
    let mut object = filled(object);
    prepare_create(&kind_of(&object), &mut object);
    object
}

/// Leaves by their pointers; what is empty is a leaf.
fn leaves(value: &Value, pointer: &str, found: &mut BTreeMap<String, Value>) {
    let below = |name: &str| match pointer {
        "" => name.to_owned(),
        _ => format!("{pointer}/{name}"),
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                leaves(value, &below(&name), found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (place, value) in items.iter().enumerate() {
                leaves(value, &below(&place.to_string()), found);
            }
        }
        _ => {
            found.insert(pointer.to_owned(), value.clone());
        }
    }
}

fn changes(before: &Value, after: &Value) -> BTreeMap<String, Value> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    leaves(before, "", &mut old);
    leaves(after, "", &mut new);
    let gone = old.keys().filter(|pointer| !new.contains_key(*pointer));
    let gone: Vec<_> = gone.map(|pointer| (pointer.clone(), Value::Null)).collect();
    new.retain(|pointer, value| old.get(pointer) != Some(value));
    new.extend(gone);
    new
}

#[test]
fn objects_come_back_as_from_upstream() {
    for case in cases() {
        let filled = filled(case.given.clone());
        assert_eq!(changes(&case.given, &filled), case.changes, "{}", case.name);
    }
}

#[test]
fn filling_twice_is_filling_once() {
    for case in cases() {
        let once = filled(case.given);
        assert_eq!(filled(once.clone()), once, "{}", case.name);
    }
}

/// Makes objects of a schema by chance, some of them odd.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_of(&mut self, values: &[Value]) -> Value {
        let place = self.below(values.len() as u64);
        values[usize::try_from(place).unwrap()].clone()
    }

    fn value(&mut self, schema: &Schema, depth: usize) -> Value {
        if self.below(60) == 0 || depth > 12 {
            return self.one_of(&[
                json!(null),
                json!(7),
                json!("x"),
                json!([]),
                json!([{}]),
                json!({}),
                json!({"a": []}),
            ]);
        }
        match Schemas::builtin().shape(schema) {
            Shape::Any => json!({ "any": 1 }),
            Shape::Boolean => self.one_of(&[json!(true), json!(false)]),
            Shape::Integer { .. } | Shape::Number => self.one_of(&[json!(0), json!(1), json!(-5)]),
            Shape::Text(Format::DateTime) => {
                self.one_of(&[json!("2026-01-01T10:00:00.5+02:00"), json!("soon")])
            }
            Shape::Text(_) => {
                let words = [
                    "",
                    "a",
                    "RollingUpdate",
                    "ClientIP",
                    "LoadBalancer",
                    "Container",
                    "ExactCount",
                    "User",
                ];
                self.one_of(&words.map(Value::from))
            }
            Shape::IntOrString => self.one_of(&[json!(0), json!("25%"), json!("")]),
            Shape::Quantity => {
                self.one_of(&[json!("1000m"), json!(1.5), json!("0.0001Gi"), json!("many")])
            }
            Shape::List(items) => (0..self.below(3))
                .map(|_| self.value(items, depth + 1))
                .collect(),
            Shape::Map(values) => {
                let names = ["cpu", "memory", "a"];
                let count = usize::try_from(self.below(4)).unwrap();
                names[..count]
                    .iter()
                    .map(|name| ((*name).to_owned(), self.value(values, depth + 1)))
                    .collect()
            }
            Shape::Object(fields) => {
                let mut object = Map::new();
                for (name, field) in &fields.fields {
                    if self.below(3) != 0 {
                        object.insert(name.to_string(), self.value(field, depth + 1));
                    }
                }
                Value::Object(object)
            }
            Shape::Defined(_) => unreachable!("shapes are resolved"),
        }
    }
}

#[test]
fn every_kind_is_filled_once_and_for_all_whatever_is_in_it() {
    let documents = schema::documents();
    let listed = documents
        .values()
        .filter_map(|document| document["x-kubernetes-group-version-kind"].as_array());
    let mut chance = Chance(37);
    let mut count = 0;
    for known in listed.flatten() {
        let text = |name: &str| known[name].as_str().unwrap();
        let kind = kind(text("group"), text("version"), text("kind"));
        for _ in 0..20 {
            let mut object = chance.value(&defined(kind.schema.unwrap()), 0);
            fill(&kind, &mut object);
            let once = object.clone();
            fill(&kind, &mut object);
            assert_eq!(
                changes(&once, &object),
                BTreeMap::new(),
                "{} {}",
                kind.api_version(),
                kind.kind
            );
            prepare_create(&kind, &mut object);
            let created = object.clone();
            fill(&kind, &mut object);
            assert_eq!(
                changes(&created, &object),
                BTreeMap::new(),
                "{} {}",
                kind.api_version(),
                kind.kind
            );
            prepare_update(&kind, &mut object, &once);
            count += 1;
        }
    }
    assert!(count > 1000, "{count}");
}

fn job(labels: Value) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": "pi", "uid": "u-1" },
        "spec": { "template": { "metadata": { "labels": labels } } },
    })
}

#[test]
fn a_job_selects_its_pods_by_its_uid() {
    let filled = filled(job(json!({ "app": "pi" })));
    let labels = json!({
        "app": "pi",
        "batch.kubernetes.io/controller-uid": "u-1",
        "batch.kubernetes.io/job-name": "pi",
        "controller-uid": "u-1",
        "job-name": "pi",
    });
    assert_eq!(filled["spec"]["template"]["metadata"]["labels"], labels);
    assert_eq!(filled["metadata"]["labels"], labels);
    let selected = json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": "u-1" } });
    assert_eq!(filled["spec"]["selector"], selected);
}

#[test]
fn a_job_with_a_selector_of_its_own_keeps_it() {
    let mut job = job(json!({ "app": "pi" }));
    job["spec"]["manualSelector"] = json!(true);
    job["spec"]["selector"] = json!({ "matchLabels": { "app": "pi" } });
    let filled = filled(job.clone());
    assert_eq!(filled["spec"]["selector"], job["spec"]["selector"]);
    assert_eq!(
        filled["spec"]["template"]["metadata"]["labels"],
        json!({ "app": "pi" })
    );
}

#[test]
fn the_jobs_of_a_cron_job_are_none_yet() {
    let template = json!({ "metadata": { "uid": "u-1" }, "spec": { "template": {} } });
    let cron_job = json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": { "name": "c", "uid": "u-1" },
        "spec": { "schedule": "* * * * *", "jobTemplate": template },
    });
    let spec = filled(cron_job)["spec"]["jobTemplate"]["spec"].clone();
    assert_eq!(spec.get("backoffLimit"), None);
    assert_eq!(spec.get("selector"), None);
    assert_eq!(spec["template"]["spec"]["dnsPolicy"], "ClusterFirst");
}

#[test]
fn custom_kinds_get_their_names_from_the_kind() {
    let filled = filled(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": { "kind": "Widget", "plural": "widgets" },
            "versions": [{ "name": "v1alpha1", "served": true }, { "name": "v1", "served": true, "storage": true }],
        },
    }));
    let names = json!({ "kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList" });
    assert_eq!(filled["spec"]["names"], names);
    assert_eq!(filled["spec"]["conversion"], json!({ "strategy": "None" }));
    assert_eq!(filled["spec"]["versions"][0]["storage"], false);
    assert_eq!(filled["status"]["storedVersions"], json!(["v1"]));
}

#[test]
fn objects_of_custom_kinds_have_their_metadata_cleaned_only() {
    let kind = kind("example.com", "v1", "Widget");
    let mut object = json!({ "metadata": { "labels": {}, "name": "w" }, "spec": { "size": 0 } });
    fill(&kind, &mut object);
    assert_eq!(
        object,
        json!({ "metadata": { "name": "w" }, "spec": { "size": 0 } })
    );
}

fn pod(spec: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "labels": { "rev": "7" } }, "spec": spec })
}

fn container(resources: Value) -> Value {
    json!({ "name": "c", "image": "nginx", "resources": resources })
}

#[test]
fn a_pod_is_pending_and_its_class_follows_from_its_resources() {
    let full = json!({ "limits": { "cpu": "1", "memory": "1Gi" } });
    for (containers, class) in [
        (vec![json!({})], "BestEffort"),
        (vec![json!({ "limits": { "x.com/gpu": 1 } })], "BestEffort"),
        (vec![full.clone(), full.clone()], "Guaranteed"),
        (
            vec![
                json!({ "limits": { "cpu": "1000m", "memory": "1024Mi" }, "requests": { "cpu": 1 } }),
            ],
            "Guaranteed",
        ),
        (vec![json!({ "requests": { "cpu": "1m" } })], "Burstable"),
        (vec![json!({ "limits": { "cpu": "1" } })], "Burstable"),
        (vec![full, json!({})], "Burstable"),
    ] {
        let containers: Vec<Value> = containers.into_iter().map(container).collect();
        let pod = created(pod(json!({ "containers": containers })));
        assert_eq!(
            pod["status"],
            json!({ "phase": "Pending", "qosClass": class }),
            "{containers:?}"
        );
    }
}

#[test]
fn resources_of_a_whole_pod_follow_from_those_of_its_containers() {
    let limited = container(
        json!({ "limits": { "cpu": "1", "memory": "1Gi" }, "requests": { "cpu": "250m" } }),
    );
    let mut sidecar = container(json!({ "limits": { "cpu": "500m" } }));
    sidecar["restartPolicy"] = json!("Always");
    let spec = json!({
        "containers": [limited],
        "initContainers": [sidecar],
        "resources": { "requests": { "memory": "2Gi" } },
    });
    let pod = created(pod(spec));
    let resources = json!({
        "limits": { "cpu": "1500m" },
        "requests": { "cpu": "750m", "memory": "2Gi" },
    });
    assert_eq!(pod["spec"]["resources"], resources);
    assert_eq!(pod["status"]["qosClass"], "Burstable");
}

#[test]
fn keys_of_labels_become_part_of_selectors() {
    let pod = created(pod(json!({
        "topologySpreadConstraints": [{ "labelSelector": {}, "matchLabelKeys": ["rev", "other"] }],
        "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
            { "topologyKey": "zone", "labelSelector": {}, "mismatchLabelKeys": ["rev"] },
            { "topologyKey": "zone", "mismatchLabelKeys": ["rev"] },
        ] } },
    })));
    let spread = &pod["spec"]["topologySpreadConstraints"][0]["labelSelector"];
    let expression = json!({ "key": "rev", "operator": "In", "values": ["7"] });
    assert_eq!(*spread, json!({ "matchExpressions": [expression] }));
    let terms = &pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let expression = json!({ "key": "rev", "operator": "NotIn", "values": ["7"] });
    assert_eq!(
        terms[0]["labelSelector"],
        json!({ "matchExpressions": [expression] })
    );
    assert_eq!(terms[1].get("labelSelector"), None);
}

#[test]
fn a_gated_pod_says_so() {
    let pod = created(pod(json!({ "schedulingGates": [{ "name": "g" }] })));
    assert_eq!(pod["status"]["conditions"][0]["reason"], "SchedulingGated");
}

#[test]
fn a_status_that_clients_send_is_not_kept() {
    for (api_version, kind, status) in [
        ("apps/v1", "Deployment", json!({})),
        ("apps/v1", "ReplicaSet", json!({ "replicas": 0 })),
        (
            "apps/v1",
            "StatefulSet",
            json!({ "replicas": 0, "availableReplicas": 0 }),
        ),
        ("batch/v1", "Job", json!({})),
        ("v1", "Service", json!({ "loadBalancer": {} })),
        ("v1", "PersistentVolumeClaim", json!({ "phase": "Pending" })),
        ("v1", "Namespace", json!({ "phase": "Active" })),
        (
            "networking.k8s.io/v1",
            "Ingress",
            json!({ "loadBalancer": {} }),
        ),
    ] {
        let sent = json!({ "replicas": 3, "readyReplicas": 3, "phase": "Bound", "succeeded": 1 });
        let object = json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": "a" }, "status": sent });
        assert_eq!(created(object)["status"], status, "{kind}");
    }
}

#[test]
fn the_status_of_a_node_is_what_it_sends() {
    let status = json!({ "capacity": { "cpu": "4000m" } });
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" }, "status": status });
    assert_eq!(
        created(node)["status"]["allocatable"],
        json!({ "cpu": "4" })
    );
}

#[test]
fn a_volume_tells_since_when_it_is_pending() {
    let volume = created(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": "v", "creationTimestamp": "2026-08-01T10:00:00Z" },
    }));
    let status = json!({ "phase": "Pending", "lastPhaseTransitionTime": "2026-08-01T10:00:00Z" });
    assert_eq!(volume["status"], status);
}

#[test]
fn taints_of_devices_tell_since_when_they_are_there() {
    let rule = created(json!({
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceTaintRule",
        "metadata": { "name": "t", "creationTimestamp": "2026-08-01T10:00:00Z" },
        "spec": { "taint": { "key": "k", "effect": "NoExecute" } },
    }));
    assert_eq!(rule["spec"]["taint"]["timeAdded"], "2026-08-01T10:00:00Z");
}

#[test]
fn amounts_outside_the_core_keep_their_finest_parts() {
    let overhead = json!({ "podFixed": { "cpu": "3u" } });
    let class = json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {}, "overhead": overhead });
    assert_eq!(filled(class)["overhead"], overhead);
    let pod = filled(pod(json!({ "overhead": { "cpu": "3u" } })));
    assert_eq!(pod["spec"]["overhead"], json!({ "cpu": "1m" }));
}

#[test]
fn ranges_of_a_node_are_there_once_and_as_a_list() {
    let node = |spec| {
        filled(json!({ "apiVersion": "v1", "kind": "Node", "metadata": {}, "spec": spec }))["spec"]
            .clone()
    };
    let both = json!({ "podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"] });
    assert_eq!(node(json!({ "podCIDR": "10.0.0.0/24" })), both);
    assert_eq!(node(json!({ "podCIDRs": ["10.0.0.0/24"] })), both);
    assert_eq!(
        node(json!({ "podCIDR": "10.0.0.0/24", "podCIDRs": ["10.1.0.0/24"] })),
        both
    );
}

#[test]
fn a_namespace_has_its_finalizer_from_the_start_and_never_again() {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "n" } });
    assert_eq!(filled(namespace.clone())["spec"], json!({}));
    assert_eq!(
        created(namespace)["spec"],
        json!({ "finalizers": ["kubernetes"] })
    );
}

#[test]
fn a_claim_names_its_source_twice() {
    let claim = |spec| json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {}, "spec": spec });
    let source =
        json!({ "kind": "VolumeSnapshot", "name": "s", "apiGroup": "snapshot.storage.k8s.io" });
    for field in ["dataSource", "dataSourceRef"] {
        let claim = created(claim(json!({ field: source })));
        assert_eq!(claim["spec"]["dataSource"], source);
        assert_eq!(claim["spec"]["dataSourceRef"], source);
    }
    let mut elsewhere = source;
    elsewhere["namespace"] = json!("other");
    let claim = created(claim(json!({ "dataSourceRef": elsewhere })));
    assert_eq!(claim["spec"].get("dataSource"), None);
}

#[test]
fn a_daemon_set_counts_the_changes_of_its_template() {
    let annotation = "deprecated.daemonset.template.generation";
    let old = created(
        json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "d" } }),
    );
    assert_eq!(old["metadata"]["annotations"][annotation], "1");
    let kind = kind_of(&old);
    let mut new = old.clone();
    new["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("annotations");
    prepare_update(&kind, &mut new, &old);
    assert_eq!(new["metadata"]["annotations"][annotation], "1");
    new["spec"]["template"]["spec"]["priority"] = json!(1);
    prepare_update(&kind, &mut new, &old);
    assert_eq!(new["metadata"]["annotations"][annotation], "2");
}

#[test]
fn resources_of_a_whole_pod_survive_clients_that_do_not_know_them() {
    let old = created(pod(json!({ "resources": { "limits": { "cpu": "1" } } })));
    let mut new = old.clone();
    new["spec"].as_object_mut().unwrap().remove("resources");
    prepare_update(&kind_of(&old), &mut new, &old);
    assert_eq!(new["spec"]["resources"], old["spec"]["resources"]);
}

#[test]
fn a_changed_address_of_a_service_changes_the_list_of_them() {
    let service = |address: &str, list: Value| {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "spec": { "clusterIP": address, "clusterIPs": list },
        })
    };
    let old = service("10.0.0.1", json!(["10.0.0.1"]));
    for (address, list, expected) in [
        ("10.0.0.1", json!(["10.0.0.1"]), json!(["10.0.0.1"])),
        ("10.0.0.2", json!(["10.0.0.1"]), json!(["10.0.0.2"])),
        ("10.0.0.2", json!(["10.0.0.3"]), json!(["10.0.0.3"])),
        ("", json!(["10.0.0.1"]), Value::Null),
    ] {
        let mut new = service(address, list);
        prepare_update(&kind_of(&old), &mut new, &old);
        assert_eq!(new["spec"]["clusterIPs"], expected);
    }
}
