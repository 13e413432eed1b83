//! What is written, read and written again stays what it is, over the API and in the store.

use serde_json::{Value, json};

use super::manifests::Manifest;
use super::shared::Api;
use super::wire::{JSON_PATCH, MERGE, Request, STRATEGIC, YAML, get, patch, put};

/// Nothing of what was asked for is lost; more may have been added.
fn assert_within(asked: &Value, made: &Value, place: &str) {
    match (asked, made) {
        (Value::Object(asked), Value::Object(made)) => {
            for (name, value) in asked {
                // It is written only, and goes into `data`.
                if name == "stringData" || value.is_null() {
                    continue;
                }
                let made = made.get(name);
                // What is empty, or none, need not be said.
                let is_nothing = value == &json!([])
                    || value == &json!({})
                    || value == &json!(false)
                    || value == &json!("");
                assert!(made.is_some() || is_nothing, "{place}.{name} is lost");
                if let Some(made) = made {
                    assert_within(value, made, &format!("{place}.{name}"));
                }
            }
        }
        (Value::Array(asked), Value::Array(made)) => {
            assert!(asked.len() <= made.len(), "{place} is shorter");
            for (number, (asked, made)) in asked.iter().zip(made).enumerate() {
                assert_within(asked, made, &format!("{place}[{number}]"));
            }
        }
        // Amounts have one form.
        (Value::Number(number), Value::String(text)) => assert!(
            text == &number.to_string() || text.ends_with('m'),
            "{place}: {number} became {text}"
        ),
        // Such as half a gibibyte, which is 512 mebibytes.
        (Value::String(_), Value::String(_)) if place.ends_with(".limits.memory") => {}
        (asked, made) => assert_eq!(asked, made, "{place}"),
    }
}

/// What is not there is left out: a field of nothing would be one more to whoever reads the text.
fn assert_whole(made: &Value, place: &str) {
    match made {
        Value::Null => panic!("{place} is null"),
        Value::Object(fields) => {
            for (name, value) in fields {
                assert_whole(value, &format!("{place}.{name}"));
            }
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                assert_whole(item, &format!("{place}[{number}]"));
            }
        }
        _ => {}
    }
}

#[test]
fn a_manifest_that_is_written_again_makes_no_revision() {
    let api = Api::shared();
    let config_maps = api.namespace("round-trip");
    assert!(config_maps.contains("/round-trip/"));
    let manifests = Manifest::all("round-trip");
    assert!(manifests.len() >= 30, "{}", manifests.len());
    let mut changed = Vec::new();
    for manifest in &manifests {
        let collection = manifest.collection("round-trip");
        let create = Request::new("POST", format!("{collection}?fieldValidation=Strict"))
            .with(YAML, manifest.yaml.as_str());
        let answer = api.send(&create);
        assert_eq!(answer.status, 201, "{}: {}", manifest.yaml, answer.text());
        let made = answer.json();
        let place = format!("{} {}", manifest.kind.kind, manifest.name());
        assert_within(&manifest.object, &made, &place);

        let at = format!("{collection}/{}", manifest.name());
        let mut got = api.read(&at);
        if settled(&api, manifest, &at) {
            got = api.read(&at);
        } else {
            assert_eq!(got, made, "{place}");
        }
        let mut again = vec![
            ("PUT of what was got", put(at.as_str(), &got)),
            (
                "PUT of the same in YAML",
                Request::new("PUT", at.as_str()).with(YAML, got.to_string()),
            ),
            (
                "merge patch of itself",
                patch(MERGE, at.as_str(), got.to_string()),
            ),
            (
                "strategic patch of itself",
                patch(STRATEGIC, at.as_str(), got.to_string()),
            ),
            (
                "JSON patch of nothing",
                patch(JSON_PATCH, at.as_str(), "[]"),
            ),
            (
                "strategic patch of the manifest",
                patch(STRATEGIC, at.as_str(), manifest.object.to_string()),
            ),
        ];
        // Ports of a service are merged by their number, which is not enough for one with two protocols: as upstream.
        if manifest.name() == "balanced" {
            again.retain(|(what, _)| !what.starts_with("strategic"));
        }
        // A pod's own manifest lacks what admission added, which may not go: as upstream.
        if !manifest.kind.needs_version && manifest.kind.kind != "Pod" {
            again.push((
                "PUT of the manifest",
                Request::new("PUT", at.as_str()).with(YAML, manifest.yaml.as_str()),
            ));
        }
        for (what, request) in again {
            let answer = api.send(&request);
            if answer.status != 200 || answer.json() != got {
                changed.push(format!("{place}: {what}: {}", answer.text()));
            }
        }
        let after = api.read(&at);
        if after != got {
            changed.push(format!("{place}: {got}\nbecame\n{after}"));
        }

        // What is changed is as whole as what is new.
        let label = r#"{"metadata":{"labels":{"changed":"yes"}}}"#;
        let labelled = api.send(&patch(MERGE, at.as_str(), label)).ok(200);
        assert_ne!(labelled, got, "{place}");
        let again = api.send(&put(at.as_str(), &labelled)).ok(200);
        if again != labelled {
            changed.push(format!("{place}, labelled: {labelled}\nbecame\n{again}"));
        }
        // Of the data of a revision nothing is known.
        if manifest.kind.kind != "ControllerRevision" {
            for object in [&made, &labelled] {
                assert_whole(object, &place);
            }
        }
    }
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

/// Waits for what the server itself writes into a new object: whether it does.
fn settled(api: &Api, manifest: &Manifest, at: &str) -> bool {
    let is_quota = manifest.kind.kind == "ResourceQuota";
    if is_quota {
        api.wait(at, |answer| answer.json()["status"]["used"].is_object());
    }
    is_quota
}

/// Every kind that can be created has the same rules for parts that are not there, and for lists.
#[test]
fn every_kind_is_listed_and_watched_as_itself() {
    let api = Api::shared();
    api.namespace("as-itself");
    for manifest in Manifest::all("as-itself")
        .iter()
        .filter(|manifest| manifest.kind.namespaced)
    {
        let collection = manifest.collection("as-itself");
        api.create(&collection, &manifest.object);
        settled(&api, manifest, &format!("{collection}/{}", manifest.name()));
        let list = api.read(&collection);
        assert_eq!(list["kind"], format!("{}List", manifest.kind.kind));
        let items = list["items"].as_array().unwrap();
        let found = items
            .iter()
            .find(|item| item["metadata"]["name"] == manifest.name());
        // Items of a list do not say their kind, which the list does.
        let mut alone = api.read(&format!("{collection}/{}", manifest.name()));
        for name in ["kind", "apiVersion"] {
            alone.as_object_mut().unwrap().remove(name);
        }
        assert_eq!(found.unwrap(), &alone);
        let table = get(collection.as_str())
            .accept("application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
        let table = api.send(&table).ok(200);
        assert_eq!(table["rows"].as_array().unwrap().len(), items.len());
        let columns = table["columnDefinitions"].as_array().unwrap().len();
        assert_eq!(table["rows"][0]["cells"].as_array().unwrap().len(), columns);
    }
}

/// As `etcdctl get --prefix /registry` shows it.
#[test]
fn the_store_holds_json_without_versions_under_the_keys_of_kube_apiserver() {
    let api = Api::start();
    api.namespace("stored");
    for manifest in Manifest::all("stored") {
        let made = api.create(&manifest.collection("stored"), &manifest.object);
        // The namespace that is there is the one in the path.
        assert_eq!(made["metadata"]["name"], manifest.name());
    }
    let stored = api.stored("/registry/");
    assert!(stored.len() > Manifest::all("stored").len());
    for (key, value) in &stored {
        // What is given out of ranges is no object.
        let object: Value = match serde_json::from_slice(value) {
            Ok(object) => object,
            Err(error) => panic!("{key}: {error}: {}", String::from_utf8_lossy(value)),
        };
        if object.get("kind").is_none() {
            assert!(key.starts_with("/registry/ranges/"), "{key}: {object}");
            continue;
        }
        let metadata = &object["metadata"];
        assert_eq!(metadata.get("resourceVersion"), None, "{key}");
        assert_eq!(metadata.get("selfLink"), None, "{key}");
        let name = metadata["name"].as_str().unwrap();
        match metadata["namespace"].as_str() {
            Some(namespace) => assert!(key.ends_with(&format!("/{namespace}/{name}")), "{key}"),
            None => assert!(key.ends_with(&format!("/{name}")), "{key}"),
        }
        assert!(metadata["uid"].is_string(), "{key}");
        let text = std::str::from_utf8(value).unwrap();
        assert!(text.starts_with("{\"kind\":\""), "{key}: {text}");
    }
    let keys: Vec<&str> = stored.iter().map(|(key, _)| key.as_str()).collect();
    for key in [
        "/registry/configmaps/stored/game",
        "/registry/services/specs/stored/web",
        "/registry/services/endpoints/stored/external",
        "/registry/controllers/stored/old",
        "/registry/minions/node-of-tests",
        "/registry/ingress/stored/web",
        "/registry/events/stored/web.17b2",
        "/registry/events/stored/web.17b3",
        "/registry/leases/stored/leader",
        "/registry/clusterroles/example:monitoring",
        "/registry/apiextensions.k8s.io/customresourcedefinitions/crontabs.of-tests.example.com",
        "/registry/namespaces/stored",
        "/registry/serviceaccounts/stored/default",
    ] {
        assert!(keys.contains(&key), "{key} is not among {keys:?}");
    }
}
