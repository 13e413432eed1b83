//! Errors: which reason, which code, which words.

use serde_json::json;

use super::shared::{
    Api, CONFIG_MAPS, DEPLOYMENTS, LEASES, NAMESPACES, PODS, config_map, config_map_with, lease,
    pod, rules,
};
use super::wire::{JSON, MERGE, Request, delete, get, patch, post, post_text, put};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const UNKNOWN: &str = "the server could not find the requested resource";
const NOT_ALLOWED: &str = "the server does not allow this method on the requested resource";

rules! {
    // 400
    a_name_that_differs_from_the_url_is_a_bad_request: put(format!("{CONFIG_MAPS}/there"), &config_map("other"))
        => 400 "BadRequest" "the name of the object (other) does not match the name on the URL (there)";
    an_update_without_a_name_is_a_bad_request: put(format!("{CONFIG_MAPS}/there"), &json!({ "metadata": {} }))
        => 400 "BadRequest" "the name of the object (there based on URL) was undeterminable: name must be provided";
    a_create_in_another_namespace_is_a_bad_request: post(CONFIG_MAPS, &config_map_with("a", "namespace", json!("other")))
        => 400 "BadRequest" "the namespace of the provided object does not match the namespace sent on the request";
    an_update_in_another_namespace_is_a_bad_request:
        put(format!("{CONFIG_MAPS}/there"), &config_map_with("there", "namespace", json!("other")))
        => 400 "BadRequest" "the namespace of the provided object does not match the namespace sent on the request";
    a_patch_to_another_namespace_is_a_bad_request:
        patch(MERGE, format!("{CONFIG_MAPS}/there"), r#"{"metadata":{"namespace":"other"}}"#)
        => 400 "BadRequest" "the namespace of the object (other) does not match the namespace on the request (default)";
    a_patch_to_another_name_is_a_bad_request: patch(MERGE, format!("{CONFIG_MAPS}/there"), r#"{"metadata":{"name":"other"}}"#)
        => 400 "BadRequest" "the name of the object (other) does not match the name on the URL (there)";
    a_patch_that_removes_the_name_is_a_bad_request: patch(MERGE, format!("{CONFIG_MAPS}/there"), r#"{"metadata":null}"#)
        => 400 "BadRequest" "the name of the object (there based on URL) was undeterminable: name must be provided";
    a_body_that_ends_early_is_a_bad_request: post_text(CONFIG_MAPS, "{")
        => 400 "BadRequest" "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; \
            json parse error: unexpected end of JSON input ({)";
    an_empty_body_is_a_bad_request: post_text(CONFIG_MAPS, "")
        => 400 "BadRequest" "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; \
            json parse error: unexpected end of JSON input (<empty>)";
    a_body_of_another_kind_is_a_bad_request:
        post(CONFIG_MAPS, &json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "a" } }))
        => 400 "BadRequest" "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to \
            (core.ConfigMap): unknown conversion";
    a_body_of_an_unknown_version_is_a_bad_request:
        post(CONFIG_MAPS, &json!({ "apiVersion": "v2", "kind": "ConfigMap", "metadata": { "name": "a" } }))
        => 400 "BadRequest" "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is \
            registered for version \"v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"";
    a_list_for_a_map_is_a_bad_request: post(CONFIG_MAPS, &json!({ "metadata": { "name": "a" }, "data": [1] }))
        => 400 "BadRequest" "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal array into \
            Go struct field ConfigMap.data of type map[string]string";
    a_number_for_a_text_is_a_bad_request: post(CONFIG_MAPS, &json!({ "metadata": { "name": 5 } }))
        => 400 "BadRequest" "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into \
            Go struct field ObjectMeta.metadata.name of type string";
    bytes_that_are_no_base64_are_a_bad_request:
        post(CONFIG_MAPS, &json!({ "metadata": { "name": "a" }, "binaryData": { "a": "%" } }))
        => 400 "BadRequest" "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: illegal base64 data at input byte 0";
    a_time_that_is_none_is_a_bad_request: post(CONFIG_MAPS, &config_map_with("a", "creationTimestamp", json!("bad")))
        => 400 "BadRequest" "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: parsing time \"bad\" as \
            \"2006-01-02T15:04:05Z07:00\": cannot parse \"bad\" as \"2006\"";
    a_version_on_create_is_a_bad_request: post(CONFIG_MAPS, &config_map_with("a", "resourceVersion", json!("5")))
        => 400 "BadRequest" "resourceVersion should not be set on objects to be created";
    strict_decoding_lists_what_it_finds:
        post_text(format!("{CONFIG_MAPS}?fieldValidation=Strict"), r#"{"metadata":{"name":"a","name":"a"},"dat":{},"x":1}"#)
        => 400 "BadRequest" "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate \
            field \"metadata.name\", unknown field \"dat\", unknown field \"x\"";
    a_label_selector_that_cannot_be_read_is_a_bad_request: get(format!("{CONFIG_MAPS}?labelSelector=a%20b"))
        => 400 "BadRequest" "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt";
    a_field_that_nothing_is_selected_by_is_a_bad_request: get(format!("{CONFIG_MAPS}?fieldSelector=data.a%3D1"))
        => 400 "BadRequest" "\"data.a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
    a_field_that_no_pods_are_selected_by_is_a_bad_request: get(format!("{PODS}?fieldSelector=spec.foo%3D1"))
        => 400 "BadRequest" "field label not supported: spec.foo";
    a_field_selector_that_cannot_be_read_is_a_bad_request: get(format!("{CONFIG_MAPS}?fieldSelector=metadata.name"))
        => 400 "BadRequest" "invalid selector: 'metadata.name'; can't understand 'metadata.name'";

    // 403
    a_namespace_that_always_is_may_not_be_deleted: delete(format!("{NAMESPACES}/default"))
        => 403 "Forbidden" "namespaces \"default\" is forbidden: this namespace may not be deleted";
    a_priority_class_that_is_not_there_is_forbidden:
        post(PODS, &json!({ "metadata": { "name": "a" }, "spec": {
            "priorityClassName": "none", "containers": [{ "name": "a", "image": "b" }] } }))
        => 403 "Forbidden" "pods \"a\" is forbidden: no PriorityClass with name none was found";

    // 404
    an_object_that_is_not_there_is_not_found: get(format!("{DEPLOYMENTS}/none"))
        => 404 "NotFound" "deployments.apps \"none\" not found";
    an_update_of_what_is_not_there_is_not_found: put(format!("{CONFIG_MAPS}/none"), &config_map("none"))
        => 404 "NotFound" "configmaps \"none\" not found";
    a_patch_of_what_is_not_there_is_not_found: patch(MERGE, format!("{CONFIG_MAPS}/none"), "{}")
        => 404 "NotFound" "configmaps \"none\" not found";
    a_delete_of_what_is_not_there_is_not_found: delete(format!("{CONFIG_MAPS}/none"))
        => 404 "NotFound" "configmaps \"none\" not found";
    a_scale_of_what_is_not_there_is_not_found: get(format!("{DEPLOYMENTS}/none/scale"))
        => 404 "NotFound" "deployments.apps \"none\" not found";
    a_namespace_that_is_not_there_is_not_found: post("/api/v1/namespaces/none/configmaps", &config_map("a"))
        => 404 "NotFound" "namespaces \"none\" not found";
    a_resource_that_is_not_served_is_not_found: get("/api/v1/nothings") => 404 "NotFound" UNKNOWN;
    a_group_that_is_not_served_is_not_found: get("/apis/none/v1/things") => 404 "NotFound" UNKNOWN;
    a_version_that_is_not_served_is_not_found: get("/apis/apps/v1beta1/deployments") => 404 "NotFound" UNKNOWN;
    a_path_that_is_not_served_is_not_found: get("/none") => 404 "NotFound" UNKNOWN;
    a_part_that_is_not_served_is_not_found: get(format!("{CONFIG_MAPS}/there/status")) => 404 "NotFound" UNKNOWN;
    a_cluster_wide_kind_in_a_namespace_is_not_found: get(format!("{NAMESPACES}/default/nodes")) => 404 "NotFound" UNKNOWN;
    a_check_of_health_that_there_is_not_is_not_found: get("/healthz/none") => 404 "NotFound" UNKNOWN;

    // 405
    a_create_with_a_name_in_the_path_is_not_allowed: post(format!("{CONFIG_MAPS}/there"), &config_map("there"))
        => 405 "MethodNotAllowed" NOT_ALLOWED;
    an_update_of_a_collection_is_not_allowed: put(CONFIG_MAPS, &config_map("there")) => 405 "MethodNotAllowed" NOT_ALLOWED;
    a_patch_of_a_collection_is_not_allowed: patch(MERGE, CONFIG_MAPS, "{}") => 405 "MethodNotAllowed" NOT_ALLOWED;
    a_create_in_no_namespace_is_not_allowed: post("/api/v1/configmaps", &config_map("a")) => 405 "MethodNotAllowed" NOT_ALLOWED;
    a_delete_in_all_namespaces_is_not_allowed: delete("/api/v1/configmaps") => 405 "MethodNotAllowed" NOT_ALLOWED;
    namespaces_are_not_deleted_as_a_collection: delete(NAMESPACES) => 405 "MethodNotAllowed" NOT_ALLOWED;
    a_review_cannot_be_listed: get("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews") => 405 "MethodNotAllowed" NOT_ALLOWED;
    a_document_cannot_be_posted: post("/version", &json!({})) => 405 "MethodNotAllowed" NOT_ALLOWED;

    // 409
    a_name_that_is_taken_already_exists: post(CONFIG_MAPS, &config_map("there"))
        => 409 "AlreadyExists" "configmaps \"there\" already exists";
    a_name_that_is_taken_in_a_group_already_exists: post(LEASES, &lease("there"))
        => 409 "AlreadyExists" "leases.coordination.k8s.io \"there\" already exists";
    a_name_that_is_taken_already_exists_in_a_dry_run_too: post(format!("{CONFIG_MAPS}?dryRun=All"), &config_map("there"))
        => 409 "AlreadyExists" "configmaps \"there\" already exists";
    an_update_from_an_older_version_is_a_conflict:
        put(format!("{CONFIG_MAPS}/there"), &config_map_with("there", "resourceVersion", json!("1")))
        => 409 "Conflict" "Operation cannot be fulfilled on configmaps \"there\": the object has been modified; please apply \
            your changes to the latest version and try again";
    an_update_from_a_version_to_come_is_a_conflict:
        put(format!("{CONFIG_MAPS}/there"), &config_map_with("there", "resourceVersion", json!("99999999")))
        => 409 "Conflict" "Operation cannot be fulfilled on configmaps \"there\": the object has been modified; please apply \
            your changes to the latest version and try again";
    a_patch_from_an_older_version_is_a_conflict:
        patch(MERGE, format!("{CONFIG_MAPS}/there"), r#"{"metadata":{"resourceVersion":"1"}}"#)
        => 409 "Conflict" "Operation cannot be fulfilled on configmaps \"there\": the object has been modified; please apply \
            your changes to the latest version and try again";

    // 415
    a_media_type_that_nobody_knows_is_unsupported: Request::new("POST", CONFIG_MAPS).with("text/plain", "a")
        => 415 "UnsupportedMediaType" "the body of the request was in an unknown format - accepted media types include: \
            application/json, application/yaml, application/vnd.kubernetes.protobuf";
    a_patch_that_is_no_patch_is_unsupported: patch(JSON, format!("{CONFIG_MAPS}/there"), "{}")
        => 415 "UnsupportedMediaType" "the body of the request was in an unknown format - accepted media types include: \
            application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json";

    // 422
    no_name_is_invalid: post(CONFIG_MAPS, &json!({ "metadata": {} }))
        => 422 "Invalid" "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required";
    a_name_against_the_rules_is_invalid: post(CONFIG_MAPS, &config_map("B_4"))
        => 422 "Invalid" format!("ConfigMap \"B_4\" is invalid: metadata.name: Invalid value: \"B_4\": {SUBDOMAIN}").as_str();
    a_name_that_leads_out_of_its_folder_is_invalid: post(CONFIG_MAPS, &config_map("../there"))
        => 422 "Invalid" format!("ConfigMap \"../there\" is invalid: metadata.name: Invalid value: \"../there\": {SUBDOMAIN}").as_str();
    a_label_against_the_rules_is_invalid: post(CONFIG_MAPS, &config_map_with("a", "labels", json!({ "a b": "c" })))
        => 422 "Invalid" format!("ConfigMap \"a\" is invalid: metadata.labels: Invalid value: \"a b\": {QUALIFIED}").as_str();
    an_annotation_against_the_rules_is_invalid: post(CONFIG_MAPS, &config_map_with("a", "annotations", json!({ "a b": "c" })))
        => 422 "Invalid" format!("ConfigMap \"a\" is invalid: metadata.annotations: Invalid value: \"a b\": {QUALIFIED}").as_str();
    annotations_that_are_too_long_are_invalid:
        post(CONFIG_MAPS, &config_map_with("a", "annotations", json!({ "a": "b".repeat(256 * 1024) })))
        => 422 "Invalid" "ConfigMap \"a\" is invalid: metadata.annotations: Too long: may not be more than 262144 bytes";
    a_finalizer_without_a_domain_is_invalid: post(CONFIG_MAPS, &config_map_with("a", "finalizers", json!(["nope"])))
        => 422 "Invalid" "ConfigMap \"a\" is invalid: metadata.finalizers[0]: Invalid value: \"nope\": name is neither a \
            standard finalizer name nor is it fully qualified";
    data_that_is_too_long_is_invalid:
        post(CONFIG_MAPS, &json!({ "metadata": { "name": "a" }, "data": { "a": "b".repeat(1024 * 1024 + 1) } }))
        => 422 "Invalid" "ConfigMap \"a\" is invalid: []: Too long: may not be more than 1048576 bytes";
    a_pod_without_containers_is_invalid: post(PODS, &json!({ "metadata": { "name": "a" }, "spec": { "containers": [] } }))
        => 422 "Invalid" "Pod \"a\" is invalid: spec.containers: Required value";
    a_selector_that_matches_no_template_is_invalid:
        post(DEPLOYMENTS, &json!({ "metadata": { "name": "a" }, "spec": {
            "selector": { "matchLabels": { "a": "b" } },
            "template": { "metadata": { "labels": { "a": "c" } }, "spec": { "containers": [{ "name": "a", "image": "b" }] } } } }))
        => 422 "Invalid" "Deployment.apps \"a\" is invalid: spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: \
            `selector` does not match template `labels`";
}

#[test]
fn most_of_a_pod_may_not_change() {
    let api = Api::shared();
    let change = patch(
        MERGE,
        format!("{PODS}/there"),
        r#"{"spec":{"restartPolicy":"Never"}}"#,
    );
    let about =
        "Pod \"there\" is invalid: spec: Forbidden: pod updates may not change fields other than";
    api.send(&change).refuses_with(422, "Invalid", about);
}

#[test]
fn details_name_the_resource_and_of_invalid_objects_the_kind() {
    let api = Api::shared();
    let details = api.send(&get(format!("{DEPLOYMENTS}/none"))).json()["details"].clone();
    assert_eq!(
        details,
        json!({ "name": "none", "group": "apps", "kind": "deployments" })
    );
    let details = api.send(&post(CONFIG_MAPS, &config_map(""))).json()["details"].clone();
    assert_eq!(
        details,
        json!({ "kind": "ConfigMap", "causes": [{
            "reason": "FieldValueRequired", "message": "Required value: name or generateName is required",
            "field": "metadata.name" }] })
    );
}

#[test]
fn every_wrong_field_is_a_cause() {
    let owner = json!([{ "apiVersion": "", "kind": "", "name": "", "uid": "" }]);
    let api = Api::shared();
    let status = api
        .send(&post(
            CONFIG_MAPS,
            &config_map_with("a", "ownerReferences", owner),
        ))
        .json();
    let causes = status["details"]["causes"].as_array().unwrap();
    let fields: Vec<&str> = causes
        .iter()
        .map(|cause| cause["field"].as_str().unwrap())
        .collect();
    let at = |field: &str| format!("metadata.ownerReferences.{field}");
    assert_eq!(fields, ["apiVersion", "kind", "name", "uid"].map(at));
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .starts_with("ConfigMap \"a\" is invalid: [metadata.ownerReferences")
    );
}

#[test]
fn a_uid_that_is_not_the_objects_is_a_conflict() {
    let api = Api::shared();
    let answer = api.send(&put(
        format!("{CONFIG_MAPS}/there"),
        &config_map_with("there", "uid", json!("other")),
    ));
    answer.refuses_with(
        409,
        "Conflict",
        "Precondition failed: UID in precondition: other, UID in object meta: ",
    );
}

#[test]
fn a_version_that_is_no_number_is_invalid() {
    let api = Api::shared();
    let answer = api.send(&put(
        format!("{CONFIG_MAPS}/there"),
        &config_map_with("there", "resourceVersion", json!("abc")),
    ));
    answer.refuses_with(
        422,
        "Invalid",
        "metadata.resourceVersion: Invalid value: \"abc\"",
    );
}

#[test]
fn a_namespace_on_its_way_out_takes_nothing_new() {
    let api = Api::shared();
    let path = api.namespace("on-its-way-out");
    api.create(
        &path,
        &config_map_with("held", "finalizers", json!(["example.com/held"])),
    );
    api.send(&delete(format!("{NAMESPACES}/on-its-way-out")))
        .ok(200);
    let answer = api.send(&post(path.as_str(), &config_map("a")));
    let details = answer.refuses(
        403,
        "Forbidden",
        "configmaps \"a\" is forbidden: unable to create new content in namespace on-its-way-out because it is being terminated",
    );
    assert_eq!(
        details["causes"],
        json!([{ "reason": "NamespaceTerminating", "field": "metadata.namespace",
            "message": "namespace on-its-way-out is being terminated" }])
    );
    let again = api.send(&delete(format!("{NAMESPACES}/on-its-way-out")));
    again.refuses(
        409,
        "Conflict",
        "Operation cannot be fulfilled on namespaces \"on-its-way-out\": The system is ensuring all content is removed from \
         this namespace.  Upon completion, this namespace will automatically be purged by the system.",
    );
    let without = patch(
        MERGE,
        format!("{path}/held"),
        r#"{"metadata":{"finalizers":null}}"#,
    );
    api.send(&without).ok(200);
    api.wait_until_gone(&format!("{NAMESPACES}/on-its-way-out"));
}

#[test]
fn a_pod_that_has_a_node_is_not_bound_again() {
    let api = Api::shared();
    let path = api.namespace("bound").replace("configmaps", "pods");
    api.create(&path, &pod("a"));
    let binding = json!({ "metadata": { "name": "a" }, "target": { "kind": "Node", "name": "n" } });
    let bind = post(format!("{path}/a/binding"), &binding);
    assert_eq!(api.send(&bind).ok(201)["status"], "Success");
    let again = "Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned to node \"n\"";
    api.send(&bind).refuses(409, "Conflict", again);
}

#[test]
fn every_answer_names_its_request() {
    let api = Api::shared();
    let ids: Vec<String> = ["/version", CONFIG_MAPS, "/none"]
        .map(|path| api.send(&get(path)).header("audit-id").unwrap().to_owned())
        .into();
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    let list = api.send(&get(CONFIG_MAPS));
    assert_eq!(list.header("cache-control"), Some("no-cache, private"));
}
