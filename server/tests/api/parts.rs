//! Parts of objects: status, scale, finalize, and those that need a node to run something.

use serde_json::json;

use super::shared::{Api, DEPLOYMENTS, PODS, deployment, pod, rules};
use super::wire::{MERGE, delete, get, patch, post, put};

const SCALE: &str = "/apis/apps/v1/namespaces/default/deployments/there/scale";

fn scale(name: &str, replicas: i64) -> serde_json::Value {
    json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": { "name": name }, "spec": { "replicas": replicas } })
}

rules! {
    a_scale_below_nothing_is_invalid: patch(MERGE, SCALE, r#"{"spec":{"replicas":-3}}"#)
        => 422 "Invalid" "Scale.autoscaling \"there\" is invalid: spec.replicas: Invalid value: -3: must be greater than or equal to 0";
    a_scale_of_another_name_is_a_bad_request: put(SCALE, &scale("other", 2))
        => 400 "BadRequest" "the name of the object (other) does not match the name on the URL (there)";
    a_scale_from_an_older_version_is_a_conflict:
        put(SCALE, &json!({ "metadata": { "name": "there", "resourceVersion": "1" }, "spec": { "replicas": 2 } }))
        => 409 "Conflict" "Operation cannot be fulfilled on deployments.apps \"there\": the object has been modified; please apply \
            your changes to the latest version and try again";
    a_deployment_is_no_scale: put(SCALE, &deployment("there"))
        => 400 "BadRequest" "Deployment in version \"v1\" cannot be handled as a Scale: converting (v1.Deployment) to \
            (autoscaling.Scale): unknown conversion";
    a_status_below_nothing_is_invalid: patch(MERGE, format!("{DEPLOYMENTS}/there/status"), r#"{"status":{"replicas":-3}}"#)
        => 422 "Invalid" "Deployment.apps \"there\" is invalid: status.replicas: Invalid value: -3: must be greater than or equal to 0";
    a_namespace_is_finalized_under_its_name:
        put("/api/v1/namespaces/default/finalize", &json!({ "metadata": { "name": "other" } }))
        => 400 "BadRequest" "the name of the object (other) does not match the name on the URL (default)";
    an_eviction_of_what_is_not_there_is_not_found: post(format!("{PODS}/none/eviction"), &json!({ "metadata": { "name": "none" } }))
        => 404 "NotFound" "pods \"none\" not found";
    a_binding_of_what_is_not_there_is_not_found:
        post(format!("{PODS}/none/binding"), &json!({ "metadata": { "name": "none" }, "target": { "name": "n" } }))
        => 404 "NotFound" "pods \"none\" not found";
}

#[test]
fn a_status_is_written_through_its_own_path_only() {
    let api = Api::shared();
    let path = api
        .namespace("status")
        .replace("/api/v1", "/apis/apps/v1")
        .replace("configmaps", "deployments");
    let mut object = deployment("a");
    object["status"] = json!({ "replicas": 9 });
    let made = api.create(&path, &object);
    assert_ne!(made["status"]["replicas"], 9);
    let at = format!("{path}/a");
    let ignored = api
        .send(&patch(MERGE, at.as_str(), r#"{"status":{"replicas":7}}"#))
        .ok(200);
    assert_eq!(ignored, made);

    let both = r#"{"status":{"replicas":3},"spec":{"replicas":9}}"#;
    let written = api
        .send(&patch(MERGE, format!("{at}/status"), both))
        .ok(200);
    assert_eq!(written["status"]["replicas"], 3);
    assert_eq!(written["spec"], made["spec"]);
    assert_eq!(
        written["metadata"]["generation"],
        made["metadata"]["generation"]
    );
    assert_eq!(api.read(&format!("{at}/status")), written);

    let mut whole = written;
    whole["status"]["replicas"] = json!(4);
    whole["spec"]["replicas"] = json!(8);
    whole["metadata"]["name"] = json!("a");
    let written = api.send(&put(format!("{at}/status"), &whole)).ok(200);
    assert_eq!(
        (&written["status"]["replicas"], &written["spec"]),
        (&json!(4), &made["spec"])
    );
    api.send(&put(format!("{at}/status"), &whole)).refuses_with(
        409,
        "Conflict",
        "the object has been modified",
    );
}

#[test]
fn a_scale_shows_and_changes_the_replicas_alone() {
    let api = Api::shared();
    let path = api
        .namespace("scale")
        .replace("/api/v1", "/apis/apps/v1")
        .replace("configmaps", "deployments");
    let made = api.create(&path, &deployment("a"));
    let at = format!("{path}/a/scale");
    let shown = api.read(&at);
    assert_eq!(
        (&shown["kind"], &shown["apiVersion"]),
        (&json!("Scale"), &json!("autoscaling/v1"))
    );
    for name in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        assert_eq!(shown["metadata"][name], made["metadata"][name], "{name}");
    }
    assert_eq!(shown["spec"]["replicas"], 1);
    assert_eq!(
        shown["status"],
        json!({ "replicas": 0, "selector": "app=a" })
    );
    let scaled = api
        .send(&patch(MERGE, at.as_str(), r#"{"spec":{"replicas":3}}"#))
        .ok(200);
    assert_eq!(
        (&scaled["kind"], &scaled["spec"]["replicas"]),
        (&json!("Scale"), &json!(3))
    );
    assert_eq!(
        api.send(&put(at.as_str(), &scale("a", 0))).ok(200)["spec"]
            .get("replicas")
            .unwrap_or(&json!(0)),
        0
    );
    let after = api.read(&format!("{path}/a"));
    assert_eq!(after["spec"]["replicas"], 0);
    assert_eq!(after["spec"]["template"], made["spec"]["template"]);
    // The same once more makes no revision.
    api.send(&put(at.as_str(), &scale("a", 0))).ok(200);
    assert_eq!(api.read(&format!("{path}/a")), after);
}

/// They are in discovery, since clients look for them there; nothing can be done with them without nodes.
#[test]
fn what_needs_a_node_is_refused_and_touches_nothing() {
    let api = Api::shared();
    let namespace = api.namespace("without-nodes");
    let pods = namespace.replace("configmaps", "pods");
    let made = api.create(&pods, &pod("a"));
    let services = namespace.replace("configmaps", "services");
    let service = json!({ "metadata": { "name": "a" }, "spec": { "ports": [{ "port": 80 }] } });
    let service = api.create(&services, &service);
    let node = api.create(
        "/api/v1/nodes",
        &json!({ "metadata": { "name": "without-nodes" } }),
    );
    let paths = [
        format!("{pods}/a/log"),
        format!("{pods}/a/exec"),
        format!("{pods}/a/attach"),
        format!("{pods}/a/portforward"),
        format!("{pods}/a/proxy"),
        format!("{services}/a/proxy"),
        "/api/v1/nodes/without-nodes/proxy".to_owned(),
    ];
    for path in &paths {
        let status = json!({ "metadata": { "name": "a" }, "status": { "phase": "Failed" } });
        for request in [
            get(path.as_str()),
            post(path.as_str(), &json!({})),
            put(path.as_str(), &status),
            patch(MERGE, path.as_str(), status.to_string()),
            delete(path.as_str()),
        ] {
            let answer = api.send(&request);
            let is_refused = matches!(answer.status, 405 | 501);
            assert!(
                is_refused,
                "{} {path}: {} {}",
                request.method,
                answer.status,
                answer.text()
            );
            assert_eq!(answer.json()["kind"], "Status");
        }
    }
    assert_eq!(api.read(&format!("{pods}/a")), made);
    assert_eq!(api.read(&format!("{services}/a")), service);
    assert_eq!(api.read("/api/v1/nodes/without-nodes"), node);
}
