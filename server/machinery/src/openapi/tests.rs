//! What kubectl looks for in the documents, and that they hold together.

use std::collections::HashSet;

use super::*;

/// All strings in fields named `$ref`.
fn references(tree: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    let mut open = vec![tree];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                open.extend(fields.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}

fn parameter_names(operation: &Value) -> Vec<&str> {
    let all = operation["parameters"].as_array().unwrap().iter();
    all.map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn there_is_a_document_for_each_group_version() {
    let kinds = Kinds::builtin();
    let names = names(kinds);
    assert_eq!(names[0], "api/v1");
    assert!(names.contains(&"apis/apps/v1".to_owned()));
    let unique: HashSet<&String> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    assert!(document(kinds, "apis/apps/v2").is_none());
    let documents = documents(kinds);
    let made: Vec<String> = documents.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(made, names);
}

#[test]
fn every_reference_leads_somewhere_and_nothing_is_there_in_vain() {
    for (name, document) in documents(Kinds::builtin()) {
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let referred: HashSet<&str> = references(&document)
            .into_iter()
            .map(|one| one.strip_prefix("#/components/schemas/").unwrap())
            .collect();
        let known: HashSet<&str> = schemas.keys().map(String::as_str).collect();
        assert_eq!(referred, known, "{name}");
    }
}

#[test]
fn kubectl_finds_that_the_server_validates_fields() {
    for (name, document) in documents(Kinds::builtin()) {
        for kind in Kinds::builtin().all() {
            if name_of(kind) != name || !kind.offers("patch") {
                continue;
            }
            let about = json!({ "group": kind.group, "version": kind.version, "kind": kind.kind });
            let paths = document["paths"].as_object().unwrap().values();
            let mut patches = paths.filter_map(|path| path.get("patch"));
            let patch = patches
                .find(|patch| patch["x-kubernetes-group-version-kind"] == about)
                .unwrap();
            assert_eq!(patch["x-kubernetes-action"], "patch");
            assert_eq!(
                parameter_names(patch),
                ["dryRun", "fieldManager", "fieldValidation", "force"]
            );
        }
    }
}

#[test]
fn explain_finds_the_schema_by_the_path() {
    let apps = document(Kinds::builtin(), "apis/apps/v1").unwrap();
    let path = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"];
    let about = &path["post"]["x-kubernetes-group-version-kind"];
    assert_eq!(*about, path["get"]["x-kubernetes-group-version-kind"]);
    let schemas = apps["components"]["schemas"].as_object().unwrap();
    let mut schemas = schemas.values();
    let schema = schemas
        .find(|schema| schema["x-kubernetes-group-version-kind"][0] == *about)
        .unwrap();
    assert!(schema["properties"]["spec"].is_object());
    assert!(schema["description"].is_string());
}

#[test]
fn explain_finds_the_values_of_a_field() {
    let kinds = Kinds::builtin();
    let apps = document(kinds, "apis/apps/v1").unwrap();
    let name = "io.k8s.api.apps.v1.DeploymentStrategy";
    let field = &apps["components"]["schemas"][name]["properties"]["type"];
    assert_eq!(field["enum"], json!(["Recreate", "RollingUpdate"]));
    let lines: Vec<&str> = field["description"].as_str().unwrap().lines().collect();
    assert_eq!(
        lines[1..],
        [
            "",
            "Possible enum values:",
            " - `\"Recreate\"` Kill all existing pods before creating new ones.",
            " - `\"RollingUpdate\"` Replace the old ReplicaSets by new one using rolling update i.e gradually scale down \
             the old ReplicaSets and scale up the new one.",
        ]
    );
    assert_eq!(
        version_2(kinds)["definitions"][name]["properties"]["type"],
        *field
    );
    // Of a list, the items have the values.
    let storage = document(kinds, "api/v1").unwrap();
    let modes = &storage["components"]["schemas"]["io.k8s.api.core.v1.PersistentVolumeClaimSpec"];
    let modes = &modes["properties"]["accessModes"];
    assert_eq!(modes.get("enum"), None);
    assert_eq!(modes["items"]["enum"][0], "ReadOnlyMany");
}

#[test]
fn paths_and_names_of_operations_are_those_of_upstream() {
    let kinds = Kinds::builtin();
    let core = document(kinds, "api/v1").unwrap();
    let id = |path: &str, method: &str| core["paths"][path][method]["operationId"].clone();
    let pods = "/api/v1/namespaces/{namespace}/pods";
    assert_eq!(id("/api/v1/", "get"), "getCoreV1APIResources");
    assert_eq!(id(pods, "get"), "listCoreV1NamespacedPod");
    assert_eq!(id(pods, "post"), "createCoreV1NamespacedPod");
    assert_eq!(id(pods, "delete"), "deleteCoreV1CollectionNamespacedPod");
    assert_eq!(id("/api/v1/pods", "get"), "listCoreV1PodForAllNamespaces");
    let pod = "/api/v1/namespaces/{namespace}/pods/{name}";
    assert_eq!(id(pod, "put"), "replaceCoreV1NamespacedPod");
    assert_eq!(
        id(&format!("{pod}/exec"), "post"),
        "connectCoreV1PostNamespacedPodExec"
    );
    assert_eq!(
        id("/api/v1/namespaces/{name}", "get"),
        "readCoreV1Namespace"
    );
    let eviction = &core["paths"][format!("{pod}/eviction")]["post"];
    assert_eq!(eviction["operationId"], "createCoreV1NamespacedPodEviction");
    assert_eq!(
        eviction["x-kubernetes-group-version-kind"],
        json!({ "group": "policy", "version": "v1", "kind": "Eviction" })
    );
    let roles = document(kinds, "apis/rbac.authorization.k8s.io/v1").unwrap();
    let roles = &roles["paths"]["/apis/rbac.authorization.k8s.io/v1/clusterroles"]["get"];
    assert_eq!(roles["operationId"], "listRbacAuthorizationV1ClusterRole");
    assert_eq!(roles["tags"][0], "rbacAuthorization_v1");
}

#[test]
fn names_of_operations_are_unique() {
    let mut seen = HashSet::new();
    for (_, document) in documents(Kinds::builtin()) {
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if method != "parameters" {
                    let id = operation["operationId"].as_str().unwrap().to_owned();
                    assert!(seen.insert(id), "{method} {path}");
                }
            }
        }
    }
}

#[test]
fn version_2_has_all_paths_and_no_word_of_version_3() {
    let document = version_2(Kinds::builtin());
    assert_eq!(document["swagger"], "2.0");
    let definitions = document["definitions"].as_object().unwrap();
    for reference in references(&document) {
        let name = reference.strip_prefix("#/definitions/").unwrap();
        assert!(definitions.contains_key(name), "{name}");
    }
    let pod = &definitions["io.k8s.api.core.v1.Pod"]["properties"];
    assert_eq!(
        pod["spec"]["$ref"],
        "#/definitions/io.k8s.api.core.v1.PodSpec"
    );
    assert!(pod["spec"]["description"].is_string());
    assert_eq!(
        definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"],
        json!({ "type": "string", "format": "int-or-string" })
    );
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert!(parameter_names(patch).contains(&"fieldValidation"));
    assert_eq!(patch["consumes"].as_array().unwrap().len(), 4);
    let count: usize = documents(Kinds::builtin())
        .iter()
        .map(|(_, document)| document["paths"].as_object().unwrap().len())
        .sum();
    assert_eq!(document["paths"].as_object().unwrap().len(), count);
}

#[test]
fn a_kind_that_upstream_does_not_define_has_a_schema_all_the_same() {
    let mut kind = Kind::clone(Kinds::builtin().at("apps", "v1", "deployments").unwrap());
    kind.group = "stable.example.com".to_owned();
    kind.kind = "CronTab".to_owned();
    kind.plural = "crontabs".to_owned();
    let kinds = Kinds::of(vec![kind]);
    let name = "apis/stable.example.com/v1";
    assert_eq!(names(&kinds), [name]);
    let document = document(&kinds, name).unwrap();
    let schemas = &document["components"]["schemas"];
    let schema = &schemas["com.example.stable.v1.CronTab"];
    assert!(schema["properties"]["metadata"].is_object());
    assert_eq!(
        schemas["com.example.stable.v1.CronTabList"]["x-kubernetes-group-version-kind"][0]["kind"],
        "CronTabList"
    );
    let path = "/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}";
    let patch = &document["paths"][path]["patch"];
    assert_eq!(
        patch["operationId"],
        "patchStableExampleComV1NamespacedCronTab"
    );
    let content = patch["requestBody"]["content"].as_object().unwrap();
    assert!(content.contains_key("application/merge-patch+json"));
    assert!(!content.contains_key("application/strategic-merge-patch+json"));
}

#[test]
fn the_index_says_where_documents_are() {
    let index = index(&[("api/v1".to_owned(), "AB".to_owned())]);
    let url = "/openapi/v3/api/v1?hash=AB";
    assert_eq!(index["paths"]["api/v1"]["serverRelativeURL"], url);
}

#[test]
fn versions_and_kinds_are_any_text() {
    let roles = document(Kinds::builtin(), "apis/rbac.authorization.k8s.io/v1").unwrap();
    let role = &roles["components"]["schemas"]["io.k8s.api.rbac.v1.Role"]["properties"];
    for name in ["apiVersion", "kind"] {
        assert_eq!(role[name]["type"], "string");
        assert_eq!(role[name].get("enum"), None);
    }
}
