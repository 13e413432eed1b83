use super::*;
use crate::kind::Kinds;
use serde_json::json;

fn filled(plural: &str, mut object: Value) -> Value {
    crate::defaults::fill(kind(plural), &mut object);
    object
}

fn kind(plural: &str) -> &'static Kind {
    Kinds::builtin().at("", "v1", plural).unwrap()
}

fn range(limits: Value) -> Value {
    filled(
        "limitranges",
        json!({ "metadata": { "name": "r" }, "spec": { "limits": limits } }),
    )
}

fn pod(containers: Value, init: Value) -> Value {
    let spec = json!({ "containers": containers, "initContainers": init });
    filled("pods", json!({ "metadata": { "name": "p" }, "spec": spec }))
}

fn found(limits: Value, object: &Value, plural: &str) -> String {
    check_limits(&range(limits), kind(plural), object)
        .err()
        .unwrap_or_default()
}

#[test]
fn containers_get_what_they_do_not_ask_for() {
    let range = range(json!([
        { "type": "Container", "max": { "cpu": "2" }, "default": { "memory": "512Mi" },
          "defaultRequest": { "cpu": "100m" } },
        { "type": "Pod", "max": { "cpu": "4" } },
    ]));
    let mut new = pod(
        json!([{ "name": "web" }, { "name": "log", "resources": { "requests": { "cpu": "1" } } }]),
        json!([{ "name": "first", "resources": { "limits": { "cpu": "1", "memory": "1Gi" } } }]),
    );
    apply_limits(&range, &mut new);
    let all = json!({
        "requests": { "cpu": "100m", "memory": "512Mi" },
        "limits": { "cpu": "2", "memory": "512Mi" },
    });
    assert_eq!(new["spec"]["containers"][0]["resources"], all);
    assert_eq!(
        new["spec"]["containers"][1]["resources"]["requests"]["cpu"],
        "1"
    );
    assert_eq!(
        new["metadata"]["annotations"][ANNOTATION],
        "LimitRanger plugin set: cpu, memory request for container web; \
         cpu, memory limit for container web; memory request for container log; \
         cpu, memory limit for container log"
    );
}

#[test]
fn a_pod_that_asks_for_all_stays_as_it_is() {
    let range = range(json!([{ "type": "Container", "default": { "cpu": "1" } }]));
    let before = pod(
        json!([{ "name": "web", "resources": { "limits": { "cpu": "2" } } }]),
        Value::Null,
    );
    let mut after = before.clone();
    apply_limits(&range, &mut after);
    assert_eq!(after, before);
}

#[test]
fn init_containers_are_named_as_such() {
    let range = range(json!([{ "type": "Container", "defaultRequest": { "cpu": "1" } }]));
    let full = json!({ "requests": { "cpu": "1" } });
    let mut new = pod(
        json!([{ "name": "web", "resources": full }]),
        json!([{ "name": "first" }]),
    );
    apply_limits(&range, &mut new);
    assert_eq!(
        new["metadata"]["annotations"][ANNOTATION],
        "LimitRanger plugin set: cpu request for init container first"
    );
}

#[test]
fn containers_are_within_a_range() {
    let one = |resources: Value| pod(json!([{ "name": "a", "resources": resources }]), json!([]));
    let max = json!([{ "type": "Container", "max": { "cpu": "1" } }]);
    let min = json!([{ "type": "Container", "min": { "memory": "64Mi" } }]);
    let ratio = json!([{ "type": "Container", "maxLimitRequestRatio": { "cpu": "2" } }]);
    for (limits, resources, error) in [
        (&max, json!({ "limits": { "cpu": "1" } }), ""),
        (
            &max,
            json!({ "limits": { "cpu": "2" } }),
            "maximum cpu usage per Container is 1, but limit is 2",
        ),
        (
            &max,
            json!({}),
            "maximum cpu usage per Container is 1.  No limit is specified",
        ),
        (
            &max,
            json!({ "limits": { "cpu": "1" }, "requests": { "cpu": "1500m" } }),
            "maximum cpu usage per Container is 1, but request is 1500m",
        ),
        (&min, json!({ "requests": { "memory": "64Mi" } }), ""),
        (
            &min,
            json!({}),
            "minimum memory usage per Container is 64Mi.  No request is specified",
        ),
        (
            &min,
            json!({ "requests": { "memory": "1Mi" } }),
            "minimum memory usage per Container is 64Mi, but request is 1Mi",
        ),
        (
            &min,
            json!({ "requests": { "memory": "64Mi" }, "limits": { "memory": "32Mi" } }),
            "minimum memory usage per Container is 64Mi, but limit is 32Mi",
        ),
        (
            &ratio,
            json!({ "requests": { "cpu": "500m" }, "limits": { "cpu": "1" } }),
            "",
        ),
        (
            &ratio,
            json!({ "requests": { "cpu": "500m" }, "limits": { "cpu": "1500m" } }),
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
        (
            &ratio,
            json!({ "requests": { "cpu": "500m" } }),
            "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0",
        ),
        (
            &ratio,
            json!({}),
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
    ] {
        assert_eq!(found(limits.clone(), &one(resources), "pods"), error);
    }
}

#[test]
fn several_errors_are_listed_each_once() {
    let bad = json!({ "limits": { "cpu": "2", "memory": "2Gi" } });
    let pod = pod(
        json!([{ "name": "a", "resources": bad }, { "name": "b", "resources": bad }]),
        json!([]),
    );
    let limits = json!([{ "type": "Container", "max": { "cpu": "1", "memory": "1Gi" } }]);
    assert_eq!(
        found(limits, &pod, "pods"),
        "[maximum cpu usage per Container is 1, but limit is 2, \
         maximum memory usage per Container is 1Gi, but limit is 2Gi]"
    );
}

#[test]
fn pods_are_within_a_range_as_a_whole() {
    let cpu = |cpu: &str| json!({ "limits": { "cpu": cpu } });
    let limits = json!([{ "type": "Pod", "max": { "cpu": "2" } }]);
    let two =
        json!([{ "name": "a", "resources": cpu("1") }, { "name": "b", "resources": cpu("1") }]);
    assert_eq!(
        found(limits.clone(), &pod(two.clone(), json!([])), "pods"),
        ""
    );
    let first = json!([{ "name": "i", "resources": cpu("3") }]);
    assert_eq!(
        found(limits.clone(), &pod(two.clone(), first), "pods"),
        "maximum cpu usage per Pod is 2, but limit is 3"
    );
    let beside = json!([{ "name": "i", "restartPolicy": "Always", "resources": cpu("500m") }]);
    assert_eq!(
        found(limits, &pod(two, beside), "pods"),
        "maximum cpu usage per Pod is 2, but limit is 2500m"
    );
}

#[test]
fn claims_are_within_a_range() {
    let claim = |storage: Value| json!({ "spec": { "resources": { "requests": storage } } });
    let limits = json!([
        { "type": "PersistentVolumeClaim", "min": { "storage": "1Gi" }, "max": { "storage": "5Gi" } },
    ]);
    for (storage, error) in [
        (json!({ "storage": "2Gi" }), ""),
        (
            json!({ "storage": "10Gi" }),
            "maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 10Gi",
        ),
        (
            json!({ "storage": "1Mi" }),
            "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi",
        ),
        (
            json!({}),
            "[minimum storage usage per PersistentVolumeClaim is 1Gi.  No request is specified, \
          maximum storage usage per PersistentVolumeClaim is 5Gi.  No request is specified]",
        ),
    ] {
        assert_eq!(
            found(limits.clone(), &claim(storage), "persistentvolumeclaims"),
            error
        );
    }
}
