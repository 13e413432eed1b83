use super::*;
use crate::kind::Kinds;

fn kind(group: &str, plural: &str) -> &'static Kind {
    Kinds::builtin().at(group, "v1", plural).unwrap()
}

fn pods() -> &'static Kind {
    kind("", "pods")
}

fn pod(spec: Value) -> Value {
    let mut object = json!({ "metadata": { "name": "p" }, "spec": spec });
    crate::defaults::fill(pods(), &mut object);
    object
}

fn web(resources: Value) -> Value {
    pod(json!({ "containers": [{ "name": "web", "resources": resources }] }))
}

fn quota(hard: Value, used: Value) -> Value {
    json!({
        "metadata": { "name": "small" },
        "spec": { "hard": hard },
        "status": { "hard": hard, "used": used },
    })
}

fn scoped(spec: Value) -> Value {
    let mut quota = quota(
        json!({ "pods": "1", "persistentvolumeclaims": "1" }),
        json!({}),
    );
    for (field, value) in spec.as_object().unwrap() {
        quota["spec"][field] = value.clone();
    }
    quota
}

fn forbidden(text: &str) -> Result<Option<Value>, Refusal> {
    Err(Refusal::Forbidden(text.to_owned()))
}

#[test]
fn objects_are_counted_by_their_kind() {
    for (group, plural, counted) in [
        (
            "",
            "configmaps",
            json!({ "configmaps": "1", "count/configmaps": "1" }),
        ),
        (
            "",
            "serviceaccounts",
            json!({ "count/serviceaccounts": "1" }),
        ),
        (
            "apps",
            "deployments",
            json!({ "count/deployments.apps": "1" }),
        ),
        ("", "events", json!({})),
        ("", "bindings", json!({})),
        ("", "nodes", json!({})),
    ] {
        let usage = usage(kind(group, plural), &json!({}));
        assert_eq!(amounts::write(&usage), counted, "{plural}");
    }
}

#[test]
fn pods_count_for_what_they_ask_for() {
    let object = pod(json!({
        "overhead": { "cpu": "10m", "memory": "1Mi" },
        "initContainers": [
            { "name": "big", "resources": { "requests": { "cpu": "500m" } } },
            { "name": "beside", "restartPolicy": "Always", "resources": { "requests": { "cpu": "50m" } } },
        ],
        "containers": [
            { "name": "a", "resources": {
                "requests": { "cpu": "100m", "memory": "64Mi" },
                "limits": { "cpu": "1", "hugepages-2Mi": "4Mi", "x.com/gpu": "2" },
            } },
            { "name": "b", "resources": { "limits": { "cpu": "1" }, "requests": { "cpu": "100m" } } },
        ],
    }));
    assert_eq!(
        amounts::write(&usage(pods(), &object)),
        json!({
            "count/pods": "1",
            "pods": "1",
            "cpu": "510m",
            "requests.cpu": "510m",
            "limits.cpu": "2010m",
            "memory": "65Mi",
            "requests.memory": "65Mi",
            "hugepages-2Mi": "4Mi",
            "requests.hugepages-2Mi": "4Mi",
            "requests.x.com/gpu": "2",
        })
    );
    for phase in ["Failed", "Succeeded"] {
        let mut done = object.clone();
        done["status"] = json!({ "phase": phase });
        assert_eq!(
            amounts::write(&usage(pods(), &done)),
            json!({ "count/pods": "1" })
        );
    }
}

#[test]
fn pods_count_for_what_they_hold_and_for_what_they_have_as_a_whole() {
    let mut object = web(json!({ "requests": { "cpu": "1" } }));
    object["status"] = json!({ "containerStatuses": [
        { "name": "web", "allocatedResources": { "cpu": "2" }, "resources": { "requests": { "cpu": "2" } } },
    ] });
    assert_eq!(usage(pods(), &object)["cpu"].to_string(), "2");
    object["status"]["conditions"] =
        json!([{ "type": "PodResizePending", "reason": "Infeasible" }]);
    object["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("9");
    assert_eq!(usage(pods(), &object)["cpu"].to_string(), "2");
    object["spec"]["resources"] = json!({ "requests": { "cpu": "3" } });
    assert_eq!(usage(pods(), &object)["cpu"].to_string(), "3");
}

#[test]
fn services_count_for_ports_and_balancers() {
    let ports = json!([{ "port": 80 }, { "port": 81, "nodePort": 30000 }]);
    for (spec, nodes, balancers) in [
        (json!({ "type": "ClusterIP", "ports": ports }), "0", "0"),
        (json!({ "type": "NodePort", "ports": ports }), "2", "0"),
        (json!({ "type": "LoadBalancer", "ports": ports }), "2", "1"),
        (
            json!({ "type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false }),
            "1",
            "1",
        ),
    ] {
        let counted = json!({
            "count/services": "1",
            "services": "1",
            "services.loadbalancers": balancers,
            "services.nodeports": nodes,
        });
        let usage = usage(kind("", "services"), &json!({ "spec": spec }));
        assert_eq!(amounts::write(&usage), counted);
    }
}

#[test]
fn claims_count_for_their_size_and_class() {
    let claim = json!({
        "spec": { "storageClassName": "gold", "resources": { "requests": { "storage": "1Gi" } } },
        "status": { "allocatedResources": { "storage": "2Gi" } },
    });
    assert_eq!(
        amounts::write(&usage(kind("", "persistentvolumeclaims"), &claim)),
        json!({
            "count/persistentvolumeclaims": "1",
            "persistentvolumeclaims": "1",
            "requests.storage": "2Gi",
            "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
            "gold.storageclass.storage.k8s.io/requests.storage": "2Gi",
        })
    );
    let devices = json!({ "spec": { "devices": { "requests": [
        { "exactly": { "deviceClassName": "a", "allocationMode": "ExactCount", "count": 2 } },
        { "exactly": { "deviceClassName": "b", "allocationMode": "All" } },
        { "firstAvailable": [
            { "deviceClassName": "a", "allocationMode": "ExactCount", "count": 1 },
            { "deviceClassName": "a", "allocationMode": "ExactCount", "count": 3 },
        ] },
    ] } } });
    assert_eq!(
        amounts::write(&usage(kind("resource.k8s.io", "resourceclaims"), &devices)),
        json!({
            "count/resourceclaims.resource.k8s.io": "1",
            "a.deviceclass.resource.k8s.io/devices": "5",
            "b.deviceclass.resource.k8s.io/devices": "32",
        })
    );
}

#[test]
fn names_say_which_kinds_a_quota_counts() {
    for (name, group, plural, is_counted) in [
        ("pods", "", "pods", true),
        ("requests.x.com/gpu", "", "pods", true),
        ("requests.hugepages-2Mi", "", "pods", true),
        ("requests.storage", "", "pods", false),
        ("requests.storage", "", "persistentvolumeclaims", true),
        (
            "gold.storageclass.storage.k8s.io/requests.storage",
            "",
            "persistentvolumeclaims",
            true,
        ),
        (
            "gold.storageclass.storage.k8s.io/requests.storage",
            "",
            "pods",
            false,
        ),
        ("configmaps", "", "configmaps", true),
        ("count/deployments.apps", "apps", "deployments", true),
        ("count/deployments", "apps", "deployments", false),
        ("services.nodeports", "", "services", true),
    ] {
        let quota = quota(json!({ name: "1" }), json!({}));
        assert_eq!(
            counts(&quota, kind(group, plural)),
            is_counted,
            "{name} {plural}"
        );
    }
}

#[test]
fn scopes_say_which_pods_a_quota_counts() {
    let plain = web(json!({}));
    let eager = web(json!({ "requests": { "cpu": "1" } }));
    let mut ending = plain.clone();
    ending["spec"]["activeDeadlineSeconds"] = json!(5);
    let mut important = plain.clone();
    important["spec"]["priorityClassName"] = json!("high");
    let mut near = plain.clone();
    near["spec"]["affinity"] = json!({ "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            { "weight": 1, "podAffinityTerm": { "topologyKey": "a", "namespaces": ["b"] } },
        ],
    } });
    let class = |operator: &str, values: Value| {
        scoped(json!({ "scopeSelector": { "matchExpressions": [
            { "scopeName": "PriorityClass", "operator": operator, "values": values },
        ] } }))
    };
    for (quota, object, does_match) in [
        (scoped(json!({})), &plain, true),
        (scoped(json!({ "scopes": ["BestEffort"] })), &plain, true),
        (scoped(json!({ "scopes": ["BestEffort"] })), &eager, false),
        (scoped(json!({ "scopes": ["NotBestEffort"] })), &eager, true),
        (scoped(json!({ "scopes": ["Terminating"] })), &ending, true),
        (scoped(json!({ "scopes": ["Terminating"] })), &plain, false),
        (
            scoped(json!({ "scopes": ["NotTerminating", "BestEffort"] })),
            &plain,
            true,
        ),
        (
            scoped(json!({ "scopes": ["NotTerminating", "BestEffort"] })),
            &eager,
            false,
        ),
        (
            scoped(json!({ "scopes": ["PriorityClass"] })),
            &important,
            true,
        ),
        (
            scoped(json!({ "scopes": ["PriorityClass"] })),
            &plain,
            false,
        ),
        (
            scoped(json!({ "scopes": ["CrossNamespacePodAffinity"] })),
            &near,
            true,
        ),
        (
            scoped(json!({ "scopes": ["CrossNamespacePodAffinity"] })),
            &plain,
            false,
        ),
        (class("In", json!(["high"])), &important, true),
        (class("In", json!(["low"])), &important, false),
        (class("In", json!(["low"])), &plain, false),
        (class("NotIn", json!(["low"])), &plain, true),
        (class("DoesNotExist", json!([])), &plain, true),
        (class("Exists", json!([])), &important, true),
    ] {
        assert_eq!(matches(&quota, pods(), object), does_match, "{quota}");
    }
    let claims = kind("", "persistentvolumeclaims");
    let fast = scoped(json!({ "scopes": ["VolumeAttributesClass"] }));
    let claim = json!({ "status": { "currentVolumeAttributesClassName": "fast" } });
    assert!(matches(&fast, claims, &claim));
    assert!(!matches(&fast, claims, &json!({})));
    assert!(!matches(&fast, pods(), &plain));
    // Other kinds have no scopes.
    assert!(!matches(
        &scoped(json!({ "scopes": ["BestEffort"] })),
        claims,
        &claim
    ));
}

#[test]
fn what_fits_is_added_to_what_is_used() {
    let maps = kind("", "configmaps");
    let before = quota(
        json!({ "configmaps": "2", "pods": "1" }),
        json!({ "configmaps": "1", "pods": "0" }),
    );
    let after = admit(&before, maps, None, &json!({})).unwrap().unwrap();
    assert_eq!(
        after["status"]["used"],
        json!({ "configmaps": "2", "pods": "0" })
    );
    assert_eq!(after["status"]["hard"], before["spec"]["hard"]);
    assert_eq!(
        admit(&after, maps, None, &json!({})),
        forbidden(
            "exceeded quota: small, requested: configmaps=1, used: configmaps=2, limited: configmaps=2"
        )
    );
    // Nothing is added by an update, nor by what the quota does not count.
    assert_eq!(admit(&after, maps, Some(&json!({})), &json!({})), Ok(None));
    assert_eq!(
        admit(&after, kind("", "secrets"), None, &json!({})),
        Ok(None)
    );
}

#[test]
fn pods_that_do_not_fit_are_refused() {
    let hard = json!({ "limits.cpu": "2", "requests.memory": "1Gi", "pods": "10" });
    let used = json!({ "limits.cpu": "1500m", "requests.memory": "512Mi", "pods": "1" });
    let before = quota(hard, used);
    assert_eq!(
        admit(&before, pods(), None, &web(json!({}))),
        forbidden(
            "failed quota: small: must specify limits.cpu for: web; requests.memory for: web"
        )
    );
    let asked = json!({ "limits": { "cpu": "1" }, "requests": { "memory": "1Gi" } });
    assert_eq!(
        admit(&before, pods(), None, &web(asked)),
        forbidden(
            "exceeded quota: small, requested: limits.cpu=1,requests.memory=1Gi, \
             used: limits.cpu=1500m,requests.memory=512Mi, limited: limits.cpu=2,requests.memory=1Gi"
        )
    );
    let asked = json!({ "limits": { "cpu": "500m" }, "requests": { "memory": "256Mi" } });
    let after = admit(&before, pods(), None, &web(asked)).unwrap().unwrap();
    let used = json!({ "limits.cpu": "2", "requests.memory": "768Mi", "pods": "2" });
    assert_eq!(after["status"]["used"], used);
}

#[test]
fn updates_are_counted_by_what_they_add() {
    let of_size =
        |size: &str| json!({ "spec": { "resources": { "requests": { "storage": size } } } });
    let claims = kind("", "persistentvolumeclaims");
    let before = quota(
        json!({ "requests.storage": "5Gi" }),
        json!({ "requests.storage": "2Gi" }),
    );
    let ask = |old: &str, new: &str| admit(&before, claims, Some(&of_size(old)), &of_size(new));
    assert_eq!(ask("2Gi", "2Gi"), Ok(None));
    assert_eq!(ask("2Gi", "1Gi"), Ok(None));
    assert_eq!(
        ask("2Gi", "3Gi").unwrap().unwrap()["status"]["used"],
        json!({ "requests.storage": "3Gi" })
    );
    assert_eq!(
        ask("2Gi", "9Gi"),
        forbidden(
            "exceeded quota: small, requested: requests.storage=7Gi, used: requests.storage=2Gi, \
             limited: requests.storage=5Gi"
        )
    );
    // A pod that is older than the quota can be changed, and resized within it.
    let quota = quota(
        json!({ "requests.cpu": "2" }),
        json!({ "requests.cpu": "1" }),
    );
    let (none, some) = (web(json!({})), web(json!({ "requests": { "cpu": "1" } })));
    let more = web(json!({ "requests": { "cpu": "3" } }));
    assert_eq!(admit(&quota, pods(), Some(&none), &none), Ok(None));
    assert!(admit(&quota, pods(), Some(&some), &more).is_err());
    // One that gets into the scopes of a quota counts as a whole.
    let mut scoped = quota;
    scoped["spec"]["scopes"] = json!(["Terminating"]);
    let mut ending = some.clone();
    ending["spec"]["activeDeadlineSeconds"] = json!(5);
    let after = admit(&scoped, pods(), Some(&some), &ending)
        .unwrap()
        .unwrap();
    assert_eq!(after["status"]["used"], json!({ "requests.cpu": "2" }));
}

#[test]
fn what_is_not_counted_yet_is_told() {
    let before = quota(
        json!({ "configmaps": "2", "count/configmaps": "3" }),
        json!({}),
    );
    let maps = kind("", "configmaps");
    let text = "status unknown for quota: small, resources: configmaps,count/configmaps";
    assert_eq!(
        admit(&before, maps, None, &json!({})),
        Err(Refusal::Uncounted(text.to_owned()))
    );
    let map = json!({});
    let mut counted = before.clone();
    counted["status"] = recount(&before, [(maps, &map)].into_iter());
    assert_eq!(
        counted["status"],
        json!({
            "hard": { "configmaps": "2", "count/configmaps": "3" },
            "used": { "configmaps": "1", "count/configmaps": "1" },
        })
    );
    assert!(admit(&counted, maps, None, &json!({})).is_ok());
}

#[test]
fn a_recount_writes_amounts_in_their_form() {
    let hard = json!({ "requests.cpu": "2000m", "pods": 4, "nonsense": "1" });
    let quota = quota(hard, json!({}));
    let (some, map) = (web(json!({ "requests": { "cpu": "0.5" } })), json!({}));
    let objects = [
        (pods(), &some),
        (pods(), &some),
        (kind("", "configmaps"), &map),
    ];
    assert_eq!(
        recount(&quota, objects.into_iter()),
        json!({
            "hard": { "requests.cpu": "2", "pods": "4", "nonsense": "1" },
            "used": { "requests.cpu": "1", "pods": "2" },
        })
    );
}
