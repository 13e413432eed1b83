//! Discovery and schemas: documents that clients keep, and when they get them again.

use serde_json::{Value, json};

use super::shared::Api;
use super::wire::get;

const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

#[test]
fn aggregated_discovery_is_kept_by_its_tag() {
    let api = Api::shared();
    for path in ["/api", "/apis"] {
        let answer = api.send(&get(path).accept(AGGREGATED));
        let document = answer.ok(200);
        assert_eq!(
            (&document["kind"], &document["apiVersion"]),
            (
                &json!("APIGroupDiscoveryList"),
                &json!("apidiscovery.k8s.io/v2")
            )
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
        );
        assert_eq!(answer.header("vary"), Some("Accept"));
        assert_eq!(answer.header("cache-control"), Some("public"));
        let tag = answer.header("etag").unwrap();
        let hash = tag.trim_matches('"');
        assert_eq!((hash.len(), tag.len()), (128, 130));
        assert!(
            hash.bytes()
                .all(|digit| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit))
        );

        let again = api.send(&get(path).accept(AGGREGATED).header("if-none-match", tag));
        assert_eq!((again.status, again.body.len()), (304, 0));
        // Clients would take it for that of what they keep.
        assert_eq!(again.header("content-type"), None);
        assert_eq!(again.header("etag"), Some(tag));
        let other = api.send(
            &get(path)
                .accept(AGGREGATED)
                .header("if-none-match", "\"OTHER\""),
        );
        assert_eq!(other.ok(200), document);
        let several = api.send(
            &get(path)
                .accept(AGGREGATED)
                .header("if-none-match", format!("\"OTHER\", {tag}")),
        );
        assert_eq!(several.status, 304);
    }
}

#[test]
fn whoever_does_not_know_aggregated_discovery_gets_the_plain_one() {
    let api = Api::shared();
    for accept in [
        "application/json",
        "*/*",
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
    ] {
        assert_eq!(
            api.send(&get("/api").accept(accept)).ok(200)["kind"],
            "APIVersions",
            "{accept}"
        );
        assert_eq!(
            api.send(&get("/apis").accept(accept)).ok(200)["kind"],
            "APIGroupList",
            "{accept}"
        );
    }
    assert_eq!(
        api.read("/apis/apps")["preferredVersion"]["groupVersion"],
        "apps/v1"
    );
    assert_eq!(api.send(&get("/apis/none")).status, 404);
}

#[test]
fn plain_discovery_names_the_kinds_of_parts() {
    let api = Api::shared();
    let part = |path: &str, name: &str| {
        let list = api.read(path);
        let found = list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == name);
        let found = found.unwrap_or_else(|| panic!("no {name}"));
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        [text("group"), text("version"), text("kind")]
    };
    assert_eq!(
        part("/api/v1", "pods/eviction"),
        ["policy", "v1", "Eviction"]
    );
    assert_eq!(
        part("/api/v1", "serviceaccounts/token"),
        ["authentication.k8s.io", "v1", "TokenRequest"]
    );
    assert_eq!(part("/api/v1", "pods/binding")[2], "Binding");
    assert_eq!(
        part("/apis/apps/v1", "deployments/scale"),
        ["autoscaling", "v1", "Scale"]
    );
    assert_eq!(
        part("/api/v1", "replicationcontrollers/scale"),
        ["autoscaling", "v1", "Scale"]
    );
}

/// Both forms say the same, and what they say is served.
#[test]
fn what_discovery_names_is_served() {
    let api = Api::shared();
    let mut count = 0;
    for path in ["/api", "/apis"] {
        let document = api.send(&get(path).accept(AGGREGATED)).ok(200);
        for group in document["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str().unwrap_or_default();
            for version in group["versions"].as_array().unwrap() {
                assert_eq!(version["freshness"], "Current");
                let root = if name.is_empty() {
                    format!("/api/{}", version["version"].as_str().unwrap())
                } else {
                    format!("/apis/{name}/{}", version["version"].as_str().unwrap())
                };
                let plain = api.read(&root);
                let names: Vec<&Value> = plain["resources"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|one| &one["name"])
                    .collect();
                for resource in version["resources"].as_array().unwrap() {
                    assert!(names.contains(&&resource["resource"]), "{resource}");
                    let lists = resource["verbs"]
                        .as_array()
                        .unwrap()
                        .contains(&json!("list"));
                    let answer = api.send(&get(format!(
                        "{root}/{}",
                        resource["resource"].as_str().unwrap()
                    )));
                    assert_eq!(answer.status, if lists { 200 } else { 405 }, "{resource}");
                    count += usize::from(lists);
                }
            }
        }
    }
    assert!(count > 50, "{count}");
}

#[test]
fn an_openapi_document_is_kept_for_a_year_under_its_hash() {
    let api = Api::shared();
    let index = api.read("/openapi/v3");
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_owned();
    let hash = url
        .strip_prefix("/openapi/v3/apis/apps/v1?hash=")
        .unwrap()
        .to_owned();
    let answer = api.send(&get(url.as_str()));
    answer.ok(200);
    assert_eq!(answer.header("cache-control"), Some("public, immutable"));
    assert_eq!(answer.header("vary"), Some("Accept"));
    assert!(answer.header("expires").unwrap().ends_with(" GMT"));
    let tag = answer.header("etag").unwrap();
    assert_eq!(tag.trim_matches('"'), hash);
    let again = api.send(&get(url.as_str()).header("if-none-match", tag));
    assert_eq!(
        (again.status, again.body.len(), again.header("content-type")),
        (304, 0, None)
    );

    let wrong = api.send(&get("/openapi/v3/apis/apps/v1?hash=wrong"));
    assert_eq!(
        (wrong.status, wrong.header("location")),
        (301, Some(url.as_str()))
    );
    let without = api.send(&get("/openapi/v3/apis/apps/v1"));
    assert_eq!(without.body, answer.body);
    assert_ne!(without.header("cache-control"), Some("public, immutable"));
    assert_eq!(without.header("expires"), None);
    api.send(&get("/openapi/v3/apis/none/v1")).refuses(
        404,
        "NotFound",
        "the server could not find the requested resource",
    );
}

#[test]
fn every_group_version_has_an_openapi_document() {
    let api = Api::shared();
    let index = api.read("/openapi/v3");
    let paths = index["paths"].as_object().unwrap();
    assert!(paths.contains_key("api/v1"));
    for group in api.read("/apis")["groups"].as_array().unwrap() {
        for version in group["versions"].as_array().unwrap() {
            let name = format!("apis/{}", version["groupVersion"].as_str().unwrap());
            assert!(paths.contains_key(&name), "{name}");
        }
    }
    let core = api.read(paths["api/v1"]["serverRelativeURL"].as_str().unwrap());
    let change = &core["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"]["patch"];
    let parameters = change["parameters"].as_array().unwrap();
    for name in ["dryRun", "fieldManager", "fieldValidation", "force"] {
        assert!(parameters.iter().any(|one| one["name"] == name), "{name}");
    }
    assert_eq!(
        change["x-kubernetes-group-version-kind"],
        json!({ "group": "", "version": "v1", "kind": "ConfigMap" })
    );
}

#[test]
fn the_version_is_of_whole_numbers() {
    let api = Api::shared();
    let version = api.read("/version");
    assert_eq!(
        (&version["major"], &version["minor"]),
        (&json!("1"), &json!("37"))
    );
    assert!(
        version["gitVersion"]
            .as_str()
            .unwrap()
            .starts_with("v1.37.")
    );
    for path in [
        "/healthz",
        "/livez",
        "/readyz",
        "/readyz/ping",
        "/livez/ping",
    ] {
        let answer = api.send(&get(path));
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "ok"),
            "{path}"
        );
    }
}
