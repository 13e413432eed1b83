//! Parameters of writes, and what the server itself writes.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::shared::{
    Api, CONFIG_MAPS, DEPLOYMENTS, LEASES, config_map, config_map_with, deployment, lease, rules,
};
use super::wire::{JSON_PATCH, MERGE, STRATEGIC, delete, get, patch, post, post_text, put};

const DRY_RUN: &str = "is invalid: dryRun: Unsupported value: [\"Foo\"]: supported values: \"All\"";
const VALIDATION: &str = "is invalid: fieldValidation: Unsupported value: \"Foo\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"";
const THERE: &str = "/api/v1/namespaces/default/configmaps/there";

rules! {
    a_dry_run_is_of_all_stages_on_create: post(format!("{CONFIG_MAPS}?dryRun=Foo"), &config_map("a"))
        => 422 "Invalid" format!("CreateOptions.meta.k8s.io \"\" {DRY_RUN}").as_str();
    a_dry_run_is_of_all_stages_on_update: put(format!("{THERE}?dryRun=Foo"), &config_map("there"))
        => 422 "Invalid" format!("UpdateOptions.meta.k8s.io \"\" {DRY_RUN}").as_str();
    a_dry_run_is_of_all_stages_on_patch: patch(MERGE, format!("{THERE}?dryRun=Foo"), "{}")
        => 422 "Invalid" format!("PatchOptions.meta.k8s.io \"\" {DRY_RUN}").as_str();
    a_dry_run_is_of_all_stages_on_delete: delete(format!("{CONFIG_MAPS}/not-deleted?dryRun=Foo"))
        => 422 "Invalid" format!("DeleteOptions.meta.k8s.io \"\" {DRY_RUN}").as_str();
    a_dry_run_is_of_all_stages_on_delete_of_a_collection: delete(format!("{CONFIG_MAPS}?labelSelector=no%3Done&dryRun=Foo"))
        => 422 "Invalid" format!("DeleteOptions.meta.k8s.io \"\" {DRY_RUN}").as_str();
    field_validation_is_one_of_three_on_create: post(format!("{CONFIG_MAPS}?fieldValidation=Foo"), &config_map("a"))
        => 422 "Invalid" format!("CreateOptions.meta.k8s.io \"\" {VALIDATION}").as_str();
    field_validation_is_one_of_three_on_update: put(format!("{THERE}?fieldValidation=Foo"), &config_map("there"))
        => 422 "Invalid" format!("UpdateOptions.meta.k8s.io \"\" {VALIDATION}").as_str();
    field_validation_is_one_of_three_on_patch: patch(MERGE, format!("{THERE}?fieldValidation=Foo"), "{}")
        => 422 "Invalid" format!("PatchOptions.meta.k8s.io \"\" {VALIDATION}").as_str();
    a_field_manager_is_not_longer_than_128_bytes:
        post(format!("{CONFIG_MAPS}?fieldManager={}", "x".repeat(129)), &config_map("a"))
        => 422 "Invalid" "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes";
    only_an_apply_is_forced: patch(MERGE, format!("{THERE}?force=true"), "{}")
        => 422 "Invalid" "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch";

    // Updates that need a version; the error names the resource.
    a_lease_is_not_updated_without_a_version: put(format!("{LEASES}/there"), &lease("there"))
        => 422 "Invalid" "leases.coordination.k8s.io \"there\" is invalid: metadata.resourceVersion: Invalid value: 0: must be \
            specified for an update";

    // Patches that are none.
    a_merge_patch_that_ends_early_is_a_bad_request: patch(MERGE, THERE, "{")
        => 400 "BadRequest" "error decoding patch: unexpected end of JSON input";
    a_merge_patch_that_is_a_list_is_a_bad_request: patch(MERGE, THERE, "[]")
        => 400 "BadRequest" "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}";
    a_merge_patch_that_is_nothing_is_a_bad_request: patch(MERGE, THERE, "null")
        => 400 "BadRequest" "Invalid JSON Patch";
    a_json_patch_that_is_an_object_is_a_bad_request: patch(JSON_PATCH, THERE, "{}")
        => 400 "BadRequest" "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp";
    a_strategic_patch_that_is_a_list_is_a_bad_request: patch(STRATEGIC, THERE, "[]")
        => 400 "BadRequest" "json: cannot unmarshal array into Go value of type map[string]interface {}";
    a_strategic_patch_without_the_merge_key_is_a_bad_request:
        patch(STRATEGIC, format!("{DEPLOYMENTS}/there"), r#"{"spec":{"template":{"spec":{"containers":[{"image":"z"}]}}}}"#)
        => 400 "BadRequest" "map: map[image:z] does not contain declared merge key: name";

    // Patches that do not apply.
    a_test_that_fails_is_invalid: patch(JSON_PATCH, THERE, r#"[{"op":"test","path":"/data/key","value":"other"}]"#)
        => 422 "Invalid" "the server rejected our request due to an error in our request";
    a_replacement_of_what_is_not_there_is_invalid: patch(JSON_PATCH, THERE, r#"[{"op":"replace","path":"/data/none","value":"a"}]"#)
        => 422 "Invalid" "the server rejected our request due to an error in our request";
    a_removal_of_what_is_not_there_is_invalid: patch(JSON_PATCH, THERE, r#"[{"op":"remove","path":"/data/none"}]"#)
        => 422 "Invalid" "the server rejected our request due to an error in our request";
    an_operation_that_there_is_not_is_invalid: patch(JSON_PATCH, THERE, r#"[{"op":"none","path":"/data/key"}]"#)
        => 422 "Invalid" "the server rejected our request due to an error in our request";
    a_json_patch_has_at_most_10000_operations:
        patch(JSON_PATCH, THERE, json!(vec![json!({ "op": "test", "path": "/data/key", "value": "value" }); 10_001]).to_string())
        => 413 "RequestEntityTooLarge" "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001";
}

/// Patches after which the object cannot be one of its kind.
#[test]
fn a_patch_whose_result_is_no_such_object_is_invalid() {
    let api = Api::shared();
    for (media, text, part) in [
        (
            MERGE,
            r#"{"data":5}"#,
            "cannot unmarshal number into Go struct field ConfigMap.data",
        ),
        (
            MERGE,
            r#"{"data":{"a":5}}"#,
            "cannot unmarshal number into Go struct field ConfigMap.data",
        ),
        (MERGE, r#"{"kind":"Secret"}"#, ""),
        (MERGE, r#"{"apiVersion":"v2"}"#, ""),
        (
            JSON_PATCH,
            r#"[{"op":"add","path":"/data","value":1}]"#,
            "cannot unmarshal number",
        ),
        (
            JSON_PATCH,
            r#"[{"op":"replace","path":"/kind","value":"Secret"}]"#,
            "",
        ),
    ] {
        let answer = api.send(&patch(media, THERE, text));
        assert_eq!((answer.status, text), (422, text), "{}", answer.text());
        let details =
            answer.refuses_with(422, "Invalid", " \"\" is invalid: patch: Invalid value: ");
        assert_eq!(details["causes"][0]["field"], "patch");
        assert!(answer.text().contains(part), "{}", answer.text());
    }
    // A strategic patch is of fields, and as upstream has it the kind is none.
    assert_eq!(
        api.send(&patch(
            STRATEGIC,
            THERE,
            r#"{"kind":"Secret","apiVersion":"v2"}"#
        ))
        .ok(200),
        api.read(THERE)
    );
    assert_eq!(api.read(THERE)["kind"], "ConfigMap");
}

#[test]
fn a_strict_patch_finds_unknown_and_doubled_fields() {
    let api = Api::shared();
    for (text, found) in [
        (
            r#"{"none":5}"#,
            "strict decoding error: unknown field \"none\"",
        ),
        (
            r#"{"data":{"a":"1","a":"2"}}"#,
            "strict decoding error: duplicate field \"data.a\"",
        ),
    ] {
        let answer = api.send(&patch(
            MERGE,
            format!("{THERE}?fieldValidation=Strict"),
            text,
        ));
        answer.refuses_with(422, "Invalid", found);
    }
}

#[test]
fn what_strict_decoding_finds_is_a_warning_unless_it_is_ignored() {
    let api = Api::shared();
    let path = api.namespace("warnings");
    let body =
        |name: &str| format!(r#"{{"metadata":{{"name":"{name}","name":"{name}"}},"dat":{{}}}}"#);
    let warnings = [
        r#"299 - "duplicate field \"metadata.name\"""#,
        r#"299 - "unknown field \"dat\"""#,
    ];
    for query in ["", "?fieldValidation=Warn"] {
        let answer = api.send(&post_text(
            format!("{path}{query}"),
            body(if query.is_empty() { "a" } else { "b" }),
        ));
        answer.ok(201);
        assert_eq!(answer.warnings(), warnings);
    }
    let ignored = api.send(&post_text(
        format!("{path}?fieldValidation=Ignore"),
        body("c"),
    ));
    ignored.ok(201);
    assert!(ignored.warnings().is_empty());
    let patched = api.send(&patch(MERGE, format!("{path}/a"), r#"{"none":5}"#));
    patched.ok(200);
    assert_eq!(patched.warnings(), [r#"299 - "unknown field \"none\"""#]);
}

#[test]
fn a_dry_run_does_everything_but_write() {
    let api = Api::shared();
    let path = api.namespace("dry-run");
    let made = api
        .send(&post(format!("{path}?dryRun=All"), &config_map("a")))
        .ok(201);
    assert!(
        made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string()
    );
    assert_eq!(made["metadata"].get("resourceVersion"), None);
    assert_eq!(api.send(&get(format!("{path}/a"))).status, 404);
    let generated = json!({ "metadata": { "generateName": "a-" } });
    let generated = api
        .send(&post(format!("{path}?dryRun=All"), &generated))
        .ok(201);
    assert_eq!(generated["metadata"]["name"].as_str().unwrap().len(), 7);

    let before = api.create(&path, &config_map("b"));
    let mut changed = config_map("b");
    changed["data"] = json!({ "other": "value" });
    let answer = api
        .send(&put(format!("{path}/b?dryRun=All"), &changed))
        .ok(200);
    assert_eq!(answer["data"], changed["data"]);
    assert_eq!(
        answer["metadata"]["resourceVersion"],
        before["metadata"]["resourceVersion"]
    );
    let patched = api
        .send(&patch(
            MERGE,
            format!("{path}/b?dryRun=All"),
            r#"{"data":{"c":"d"}}"#,
        ))
        .ok(200);
    assert_eq!(patched["data"]["c"], "d");
    assert_eq!(
        api.send(&delete(format!("{path}/b?dryRun=All"))).ok(200)["status"],
        "Success"
    );
    api.send(&delete(format!("{path}?dryRun=All"))).ok(200);
    assert_eq!(api.read(&format!("{path}/b")), before);
}

#[test]
fn an_update_without_a_version_is_of_whatever_is_there() {
    let api = Api::shared();
    let path = api.namespace("unconditional");
    api.create(&path, &config_map("a"));
    for version in [json!(null), json!(""), json!("0")] {
        let mut object = config_map_with("a", "resourceVersion", version.clone());
        object["data"]["version"] = json!(version.to_string());
        assert_eq!(
            api.send(&put(format!("{path}/a"), &object)).ok(200)["data"],
            object["data"]
        );
    }
}

#[test]
fn an_update_creates_only_what_may_be_created_so() {
    let api = Api::shared();
    api.send(&put(format!("{LEASES}/made-by-put"), &lease("made-by-put")))
        .ok(201);
    api.send(&put(format!("{DEPLOYMENTS}/none"), &deployment("none")))
        .refuses(404, "NotFound", "deployments.apps \"none\" not found");
}

#[test]
fn generated_names_end_in_five_letters_that_make_no_words() {
    let api = Api::shared();
    let path = api.namespace("generated");
    let mut names = HashSet::new();
    for base in ["web-", &"x".repeat(80)] {
        for _ in 0..10 {
            let object = json!({ "metadata": { "generateName": base } });
            let name = api.create(&path, &object)["metadata"]["name"]
                .as_str()
                .unwrap()
                .to_owned();
            let (start, letters) = name.split_at(name.len() - 5);
            assert_eq!(start, &base[..base.len().min(58)]);
            assert!(
                letters
                    .bytes()
                    .all(|letter| b"bcdfghjklmnpqrstvwxz2456789".contains(&letter)),
                "{name}"
            );
            assert!(names.insert(name));
        }
    }
    let both = json!({ "metadata": { "name": "said", "generateName": "web-" } });
    assert_eq!(api.create(&path, &both)["metadata"]["name"], "said");
}

#[test]
fn the_server_alone_writes_its_part_of_the_metadata() {
    let api = Api::shared();
    let path = api.namespace("own-part");
    let mut object = config_map("a");
    let wished = json!({
        "uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "deletionTimestamp": "2001-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": 7, "generation": 9, "selfLink": "/mine",
    });
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .extend(wished.as_object().unwrap().clone());
    let made = api.create(&path, &object);
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "selfLink",
    ] {
        assert_eq!(made["metadata"].get(field), None, "{field}");
    }
    assert_eq!(made["metadata"]["uid"].as_str().unwrap().len(), 36);
    assert_ne!(
        made["metadata"]["creationTimestamp"],
        "2001-01-01T00:00:00Z"
    );
    let mut again = made.clone();
    again["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    again["metadata"]["deletionTimestamp"] = json!("2001-01-01T00:00:00Z");
    assert_eq!(api.send(&put(format!("{path}/a"), &again)).ok(200), made);
}

#[test]
fn the_generation_counts_changes_of_the_spec() {
    let api = Api::shared();
    let path = api
        .namespace("generations")
        .replace("/api/v1", "/apis/apps/v1")
        .replace("configmaps", "deployments");
    let generation = |object: &Value| object["metadata"]["generation"].as_i64().unwrap();
    assert_eq!(generation(&api.create(&path, &deployment("a"))), 1);
    let at = |media: &str, part: &str, text: &str| {
        api.send(&patch(media, format!("{path}/a{part}"), text))
            .ok(200)
    };
    assert_eq!(
        generation(&at(MERGE, "", r#"{"metadata":{"labels":{"a":"b"}}}"#)),
        1
    );
    assert_eq!(generation(&at(MERGE, "", r#"{"spec":{"replicas":3}}"#)), 2);
    assert_eq!(
        generation(&at(MERGE, "/status", r#"{"status":{"replicas":3}}"#)),
        2
    );
    at(MERGE, "/scale", r#"{"spec":{"replicas":4}}"#);
    assert_eq!(generation(&api.read(&format!("{path}/a"))), 3);
}

#[test]
fn immutable_data_stays() {
    let api = Api::shared();
    let path = api.namespace("immutable");
    let mut object = config_map("a");
    object["immutable"] = json!(true);
    api.create(&path, &object);
    let change = |text: &str| api.send(&patch(MERGE, format!("{path}/a"), text));
    let words = "Forbidden: field is immutable when `immutable` is set";
    change(r#"{"data":{"key":"other"}}"#).refuses(
        422,
        "Invalid",
        &format!("ConfigMap \"a\" is invalid: data: {words}"),
    );
    change(r#"{"immutable":null}"#).refuses(
        422,
        "Invalid",
        &format!("ConfigMap \"a\" is invalid: immutable: {words}"),
    );
    change(r#"{"metadata":{"labels":{"may":"change"}}}"#).ok(200);
}

/// A write that changes nothing makes no revision, whatever verb it comes with.
#[test]
fn a_write_that_changes_nothing_makes_no_revision() {
    let api = Api::shared();
    let path = api.namespace("no-op");
    let made = api.create(&path, &config_map("a"));
    let at = format!("{path}/a");
    let same = [
        put(at.as_str(), &made),
        put(at.as_str(), &config_map("a")),
        patch(MERGE, at.as_str(), "{}"),
        patch(MERGE, at.as_str(), made.to_string()),
        patch(
            MERGE,
            at.as_str(),
            r#"{"data":{"key":"value","none":null}}"#,
        ),
        patch(STRATEGIC, at.as_str(), r#"{"data":{"key":"value"}}"#),
        patch(JSON_PATCH, at.as_str(), "[]"),
        patch(
            JSON_PATCH,
            at.as_str(),
            r#"[{"op":"replace","path":"/data/key","value":"value"}]"#,
        ),
    ];
    for request in same {
        assert_eq!(api.send(&request).ok(200), made, "{request:?}");
    }
    assert_eq!(api.read(&at), made);
}

/// A quota of this many config maps, counted.
fn quota(api: &Api, namespace: &str, path: &str, hard: usize) -> String {
    let quotas = path.replace("configmaps", "resourcequotas");
    let hard = json!({ "hard": { "configmaps": hard.to_string() } });
    let object = json!({ "metadata": { "name": "quota", "namespace": namespace }, "spec": hard });
    api.create(&quotas, &object);
    format!("{quotas}/quota")
}

#[test]
fn creates_at_the_same_time_never_take_more_than_a_quota_has() {
    const HARD: usize = 10;
    let api = Api::shared();
    let path = api.namespace("quota-race");
    let quota = quota(&api, "quota-race", &path, HARD);
    let made: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (api, path) = (&api, &path);
                scope.spawn(move || {
                    let answers = (0..5).map(|number| {
                        let object = config_map(&format!("w{writer}-{number}"));
                        api.send(&post(path.as_str(), &object)).status
                    });
                    answers.filter(|status| *status == 201).count()
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .sum()
    });
    assert_eq!(made, HARD);
    let items = api.read(&path)["items"].as_array().unwrap().len();
    assert_eq!(items, HARD);
    let used = &api.read(&quota)["status"]["used"]["configmaps"];
    assert_eq!(used, &json!(HARD.to_string()));
}

#[test]
fn what_is_deleted_is_given_back_to_the_quota() {
    let api = Api::shared();
    let path = api.namespace("quota-back");
    let quota = quota(&api, "quota-back", &path, 1);
    api.create(&path, &config_map("a"));
    let refused = api.send(&post(path.as_str(), &config_map("b")));
    let why = "configmaps \"b\" is forbidden: exceeded quota: quota, requested: configmaps=1, used: configmaps=1, \
               limited: configmaps=1";
    refused.refuses(403, "Forbidden", why);
    api.send(&delete(format!("{path}/a"))).ok(200);
    api.wait(&quota, |answer| {
        answer.json()["status"]["used"]["configmaps"] == "0"
    });
    api.create(&path, &config_map("b"));
}
