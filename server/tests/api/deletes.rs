//! Deletion: preconditions, finalizers, grace, collections, and what becomes of dependents.

use serde_json::{Value, json};

use super::shared::{Api, CONFIG_MAPS, config_map, config_map_with, pod, rules};
use super::wire::{JSON, MERGE, Request, delete, get, patch, post_text};

const THERE: &str = "/api/v1/namespaces/default/configmaps/not-deleted";

fn delete_with(path: impl Into<String>, options: &Value) -> Request {
    delete(path).with(JSON, options.to_string())
}

fn options(text: &str) -> String {
    format!("DeleteOptions.meta.k8s.io \"\" is invalid: {text}")
}

rules! {
    a_policy_that_there_is_not_is_invalid: delete_with(THERE, &json!({ "propagationPolicy": "Foo" }))
        => 422 "Invalid" &options("propagationPolicy: Unsupported value: \"Foo\": supported values: \"Foreground\", \"Background\", \
            \"Orphan\", \"nil\"");
    a_policy_that_there_is_not_is_invalid_in_the_query: delete(format!("{THERE}?propagationPolicy=Foo"))
        => 422 "Invalid" &options("propagationPolicy: Unsupported value: \"Foo\": supported values: \"Foreground\", \"Background\", \
            \"Orphan\", \"nil\"");
    the_old_and_the_new_way_to_orphan_exclude_each_other:
        delete_with(THERE, &json!({ "propagationPolicy": "Orphan", "orphanDependents": true }))
        => 422 "Invalid" &options("propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot \
            be both set");
    a_dry_run_in_the_body_is_of_all_stages: delete_with(THERE, &json!({ "dryRun": ["Foo"] }))
        => 422 "Invalid" &options("dryRun: Unsupported value: [\"Foo\"]: supported values: \"All\"");
    a_grace_period_that_is_no_number_is_a_bad_request: delete(format!("{THERE}?gracePeriodSeconds=abc"))
        => 400 "BadRequest" "strconv.ParseInt: parsing \"abc\": invalid syntax";
    options_that_end_early_are_a_bad_request: delete(THERE).with(JSON, "{")
        => 400 "BadRequest" "the object provided is unrecognized (must be of type DeleteOptions): couldn't get version/kind; \
            json parse error: unexpected end of JSON input ({)";
}

#[test]
fn options_of_another_kind_are_a_bad_request() {
    let api = Api::shared();
    api.send(&delete_with(
        THERE,
        &json!({ "kind": "Pod", "apiVersion": "v1" }),
    ))
    .refuses_with(400, "BadRequest", "");
    let answer = api.send(&delete_with(THERE, &json!({ "gracePeriodSeconds": "x" })));
    answer.refuses_with(
        400,
        "BadRequest",
        "cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds",
    );
    let answer = api.send(&delete(THERE).with("text/plain", "x"));
    answer.refuses_with(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format",
    );
    api.read(THERE);
}

#[test]
fn preconditions_that_do_not_hold_are_a_conflict() {
    let api = Api::shared();
    let there = api.read(THERE);
    let text = |name: &str| there["metadata"][name].as_str().unwrap();
    let uid = api.send(&delete_with(
        THERE,
        &json!({ "preconditions": { "uid": "other" } }),
    ));
    uid.refuses_with(409, "Conflict", text("uid"));
    let version = api.send(&delete_with(
        THERE,
        &json!({ "preconditions": { "resourceVersion": "1" } }),
    ));
    version.refuses_with(409, "Conflict", text("resourceVersion"));

    let path = api.namespace("preconditions");
    let made = api.create(&path, &config_map("a"));
    let holds = json!({ "preconditions": {
        "uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"] } });
    api.send(&delete_with(format!("{path}/a"), &holds)).ok(200);
}

#[test]
fn what_is_gone_is_answered_with_success() {
    let api = Api::shared();
    let path = api.namespace("success");
    let made = api.create(&path, &config_map("a"));
    let answer = api.send(&delete(format!("{path}/a"))).ok(200);
    assert_eq!(
        answer,
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": { "name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"] } })
    );
    // Some kinds answer with what they were.
    let pods = path.replace("configmaps", "pods");
    let made = api.create(&pods, &pod("a"));
    let answer = api.send(&delete(format!("{pods}/a"))).ok(200);
    assert_eq!(
        (&answer["kind"], &answer["metadata"]["uid"]),
        (&json!("Pod"), &made["metadata"]["uid"])
    );
    api.send(&get(format!("{pods}/a")))
        .refuses(404, "NotFound", "pods \"a\" not found");
}

#[test]
fn a_finalizer_holds_an_object_until_it_is_removed() {
    let api = Api::shared();
    let path = api.namespace("finalizers");
    let at = format!("{path}/a");
    api.create(
        &path,
        &config_map_with(
            "a",
            "finalizers",
            json!(["example.com/one", "example.com/two"]),
        ),
    );
    let marked = api.send(&delete(at.as_str())).ok(200);
    assert_eq!(marked["kind"], "ConfigMap");
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    // Once more changes nothing.
    assert_eq!(api.send(&delete(at.as_str())).ok(200), marked);
    let set = |finalizers: Value| {
        let text = json!({ "metadata": { "finalizers": finalizers } }).to_string();
        api.send(&patch(MERGE, at.as_str(), text))
    };
    set(json!(["example.com/one", "example.com/two", "example.com/new"])).refuses(
        422,
        "Invalid",
        "ConfigMap \"a\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being \
         deleted, found new finalizers []string{\"example.com/new\"}",
    );
    assert_eq!(
        set(json!(["example.com/two"])).ok(200)["metadata"]["finalizers"],
        json!(["example.com/two"])
    );
    // Nobody takes the deletion back, and other changes are allowed.
    let back = r#"{"metadata":{"deletionTimestamp":null,"labels":{"still":"here"}}}"#;
    let kept = api.send(&patch(MERGE, at.as_str(), back)).ok(200);
    assert_eq!(
        kept["metadata"]["deletionTimestamp"],
        marked["metadata"]["deletionTimestamp"]
    );
    assert_eq!(kept["metadata"]["labels"]["still"], "here");
    set(Value::Null).ok(200);
    api.send(&get(at.as_str()))
        .refuses(404, "NotFound", "configmaps \"a\" not found");
}

#[test]
fn a_collection_is_deleted_as_its_list_would_show_it() {
    let api = Api::shared();
    let path = api.namespace("collection");
    for (name, label) in [("a", "yes"), ("b", "yes"), ("c", "no")] {
        api.create(
            &path,
            &config_map_with(name, "labels", json!({ "goes": label })),
        );
    }
    let deleted = api
        .send(&delete(format!("{path}?labelSelector=goes%3Dyes")))
        .ok(200);
    assert_eq!(deleted["kind"], "ConfigMapList");
    let names: Vec<&Value> = deleted["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["metadata"]["name"])
        .collect();
    assert_eq!(names, ["a", "b"]);
    let left = api.read(&format!("{path}?labelSelector=goes"));
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    api.send(&delete(format!("{path}?labelSelector=%3D%3D")))
        .refuses_with(400, "BadRequest", "");
    api.read(&format!("{path}/c"));
}

#[test]
fn the_grace_of_a_pod_can_only_become_shorter() {
    let api = Api::shared();
    let path = api.namespace("grace").replace("configmaps", "pods");
    let mut with_node = pod("a");
    with_node["spec"]["nodeName"] = json!("n");
    api.create(&path, &with_node);
    let grace = |query: &str| {
        let answer = api.send(&delete(format!("{path}/a{query}"))).ok(200);
        answer["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap()
    };
    assert_eq!(grace(""), 30);
    assert_eq!(grace("?gracePeriodSeconds=10"), 10);
    assert_eq!(grace("?gracePeriodSeconds=20"), 10);
    assert_eq!(grace("?gracePeriodSeconds=-5"), 1);
    api.send(&delete(format!("{path}/a?gracePeriodSeconds=0")))
        .ok(200);
    api.send(&get(format!("{path}/a")))
        .refuses(404, "NotFound", "pods \"a\" not found");
}

/// An owner with two dependents, one of which has another owner, too.
fn family(api: &Api, namespace: &str) -> String {
    let path = api.namespace(namespace);
    let reference = |name: &str| {
        let owner = api.create(&path, &config_map(name));
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": true })
    };
    let (owner, other) = (reference("owner"), reference("other"));
    api.create(
        &path,
        &config_map_with("child", "ownerReferences", json!([owner])),
    );
    api.create(
        &path,
        &config_map_with("shared", "ownerReferences", json!([owner, other])),
    );
    path
}

#[test]
fn deleting_in_the_background_takes_dependents_later() {
    let api = Api::shared();
    let path = family(&api, "background");
    assert_eq!(
        api.send(&delete_with(
            format!("{path}/owner"),
            &json!({ "propagationPolicy": "Background" })
        ))
        .ok(200)["status"],
        "Success"
    );
    assert_eq!(api.send(&get(format!("{path}/owner"))).status, 404);
    api.wait_until_gone(&format!("{path}/child"));
    api.read(&format!("{path}/shared"));
}

#[test]
fn deleting_in_the_foreground_takes_dependents_first() {
    let api = Api::shared();
    let path = family(&api, "foreground");
    // While a dependent is held, so is the owner.
    let hold = |finalizers: Value| {
        let text = json!({ "metadata": { "finalizers": finalizers } }).to_string();
        api.send(&patch(MERGE, format!("{path}/child"), text))
            .ok(200);
    };
    hold(json!(["example.com/held"]));
    let marked = api
        .send(&delete_with(
            format!("{path}/owner"),
            &json!({ "propagationPolicy": "Foreground" }),
        ))
        .ok(200);
    assert_eq!(
        marked["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    api.wait(&format!("{path}/child"), |answer| {
        answer.json()["metadata"]["deletionTimestamp"].is_string()
    });
    api.read(&format!("{path}/owner"));
    hold(Value::Null);
    api.wait_until_gone(&format!("{path}/owner"));
    assert_eq!(api.send(&get(format!("{path}/child"))).status, 404);
    api.read(&format!("{path}/shared"));
}

#[test]
fn orphaning_leaves_dependents_without_the_owner() {
    let api = Api::shared();
    for (namespace, request) in [
        (
            "orphan",
            (String::new(), json!({ "propagationPolicy": "Orphan" })),
        ),
        (
            "orphan-by-query",
            ("?propagationPolicy=Orphan".to_owned(), Value::Null),
        ),
        (
            "orphan-the-old-way",
            (String::new(), json!({ "orphanDependents": true })),
        ),
        (
            "orphan-the-old-way-by-query",
            ("?orphanDependents=true".to_owned(), Value::Null),
        ),
    ] {
        let path = family(&api, namespace);
        let (query, options) = request;
        let at = format!("{path}/owner{query}");
        let request = if options.is_null() {
            delete(at)
        } else {
            delete_with(at, &options)
        };
        api.send(&request).ok(200);
        api.wait_until_gone(&format!("{path}/owner"));
        let owners = |name: &str| {
            api.read(&format!("{path}/{name}"))["metadata"]["ownerReferences"]
                .as_array()
                .map_or(0, Vec::len)
        };
        assert_eq!((owners("child"), owners("shared")), (0, 1), "{namespace}");
    }
}

#[test]
fn a_namespace_goes_with_all_that_is_in_it() {
    let api = Api::shared();
    let path = api.namespace("goes");
    api.create(&path, &config_map("a"));
    api.create(&path.replace("configmaps", "pods"), &pod("a"));
    let marked = api.send(&delete("/api/v1/namespaces/goes")).ok(200);
    assert_eq!(marked["status"]["phase"], "Terminating");
    api.wait_until_gone("/api/v1/namespaces/goes");
    assert!(api.read(&path)["items"].as_array().unwrap().is_empty());
    assert!(api.stored("/registry/configmaps/goes/").is_empty());
    assert!(api.stored("/registry/pods/goes/").is_empty());
    // The name is free again.
    api.namespace("goes");
}

#[test]
fn the_name_of_what_is_deleted_is_free_at_once() {
    let api = Api::shared();
    let path = api.namespace("free");
    let mut uids = Vec::new();
    for _ in 0..5 {
        let made = api.create(&path, &config_map("a"));
        api.send(&post_text(path.as_str(), config_map("a").to_string()))
            .refuses(409, "AlreadyExists", "configmaps \"a\" already exists");
        api.send(&delete(format!("{path}/a"))).ok(200);
        assert!(!uids.contains(&made["metadata"]["uid"]));
        uids.push(made["metadata"]["uid"].clone());
    }
    assert!(api.read(CONFIG_MAPS)["items"].is_array());
}
