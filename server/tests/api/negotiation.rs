//! In which form answers come, and what bodies may be.

use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::json;

use super::shared::{Api, CONFIG_MAPS, DEPLOYMENTS, config_map};
use super::wire::{Request, YAML, get, post};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const THERE: &str = "/api/v1/namespaces/default/configmaps/there";

/// What kubectl and others send, and the kind that they get of one object.
#[test]
fn the_first_clause_that_can_be_served_wins() {
    let api = Api::shared();
    for (accept, kind) in [
        ("application/json", "ConfigMap"),
        ("*/*", "ConfigMap"),
        ("application/*", "ConfigMap"),
        ("application/json, */*", "ConfigMap"),
        (
            "application/vnd.kubernetes.protobuf,application/json",
            "ConfigMap",
        ),
        (TABLE, "Table"),
        ("application/json;g=meta.k8s.io;v=v1;as=Table", "Table"),
        ("application/json; as=Table; v=v1; g=meta.k8s.io", "Table"),
        (
            "application/json,application/json;as=Table;v=v1;g=meta.k8s.io",
            "ConfigMap",
        ),
        (
            "application/json;as=Unknown;v=v1;g=meta.k8s.io,application/json",
            "ConfigMap",
        ),
        (
            "application/json;as=Table;v=v9;g=meta.k8s.io,application/json",
            "ConfigMap",
        ),
        (METADATA, "PartialObjectMetadata"),
        (
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
            "PartialObjectMetadata",
        ),
        ("text/html, application/json", "ConfigMap"),
    ] {
        let answer = api.send(&get(THERE).accept(accept));
        assert_eq!(answer.ok(200)["kind"], kind, "{accept}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{accept}"
        );
    }
    assert_eq!(api.send(&get(THERE)).ok(200)["kind"], "ConfigMap");
}

#[test]
fn what_nobody_serves_is_not_acceptable() {
    let api = Api::shared();
    for accept in [
        "text/html",
        "application/xml",
        "application/json;as=Unknown;v=v1;g=meta.k8s.io",
        "image/*",
    ] {
        for path in [THERE, CONFIG_MAPS] {
            let answer = api.send(&get(path).accept(accept));
            answer.refuses_with(
                406,
                "NotAcceptable",
                "only the following media types are accepted: application/json",
            );
        }
    }
}

#[test]
fn lists_come_as_tables_and_as_metadata() {
    let api = Api::shared();
    let path = api.namespace("forms");
    api.create(&path, &config_map("a"));
    let version = api.read(&format!("{path}?limit=1"))["metadata"]["resourceVersion"].clone();
    let table = api
        .send(&get(format!("{path}?limit=1&includeObject=Metadata")).accept(TABLE))
        .ok(200);
    assert_eq!(
        (&table["kind"], &table["apiVersion"]),
        (&json!("Table"), &json!("meta.k8s.io/v1"))
    );
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert!(
        table["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse::<i64>()
            .unwrap()
            >= version.as_str().unwrap().parse().unwrap()
    );
    let whole = api
        .send(&get(format!("{path}?includeObject=Object")).accept(TABLE))
        .ok(200);
    assert_eq!(whole["rows"][0]["object"]["kind"], "ConfigMap");
    let none = api
        .send(&get(format!("{path}?includeObject=None")).accept(TABLE))
        .ok(200);
    assert!(
        none["rows"][0]
            .get("object")
            .is_none_or(serde_json::Value::is_null)
    );
    api.send(&get(format!("{path}?includeObject=Foo")).accept(TABLE))
        .refuses_with(400, "BadRequest", "");

    let metadata = api.send(&get(path.as_str()).accept(METADATA_LIST)).ok(200);
    assert_eq!(
        (&metadata["kind"], &metadata["apiVersion"]),
        (
            &json!("PartialObjectMetadataList"),
            &json!("meta.k8s.io/v1")
        )
    );
    assert_eq!(metadata["items"][0]["metadata"]["name"], "a");
    assert_eq!(metadata["items"][0].get("data"), None);
}

/// Rows of tables and metadata: what was written comes in that form, too.
#[test]
fn writes_are_answered_in_the_form_that_is_asked_for() {
    let api = Api::shared();
    let path = api.namespace("written-forms");
    let table = api
        .send(&post(path.as_str(), &config_map("a")).accept(TABLE))
        .ok(201);
    assert_eq!(
        (&table["kind"], &table["rows"][0]["cells"][0]),
        (&json!("Table"), &json!("a"))
    );
    let metadata = api
        .send(&post(path.as_str(), &config_map("b")).accept(METADATA))
        .ok(201);
    assert_eq!(metadata["kind"], "PartialObjectMetadata");
}

#[test]
fn errors_are_json_whatever_is_accepted() {
    let api = Api::shared();
    let answer = api.send(&get(format!("{CONFIG_MAPS}/none")).accept(TABLE));
    answer.refuses(404, "NotFound", "configmaps \"none\" not found");
}

#[test]
fn a_scale_is_a_table_for_those_who_want_one() {
    let api = Api::shared();
    let scale = format!("{DEPLOYMENTS}/there/scale");
    let table = api.send(&get(scale.as_str()).accept(TABLE)).ok(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["cells"][0], "there");
    assert_eq!(api.read(&scale)["kind"], "Scale");
}

#[test]
fn a_body_may_be_yaml() {
    let api = Api::shared();
    let path = api.namespace("yaml");
    let text = "# a comment\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  text: |\n    two\n    lines\n  quoted: '5'\n";
    for (name, media) in [("a", YAML), ("b", "application/yaml; charset=utf-8")] {
        let text = text.replace("name: a", &format!("name: {name}"));
        let made = api
            .send(&Request::new("POST", path.as_str()).with(media, text))
            .ok(201);
        assert_eq!(
            made["data"],
            json!({ "text": "two\nlines\n", "quoted": "5" })
        );
    }
}

#[test]
fn long_answers_are_compressed_for_those_who_take_that() {
    let api = Api::shared();
    let path = api.namespace("gzip");
    let mut object = config_map("a");
    object["data"] = json!({ "long": "x".repeat(200_000) });
    api.create(&path, &object);
    let plain = api.send(&get(format!("{path}/a")));
    assert_eq!(plain.header("content-encoding"), None);
    let packed = api.send(&get(format!("{path}/a")).header("accept-encoding", "deflate, gzip"));
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() < 20_000);
    let mut unpacked = Vec::new();
    GzDecoder::new(packed.body.as_slice())
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, plain.body);
    let short = api.send(&get(THERE).header("accept-encoding", "gzip"));
    assert_eq!(short.header("content-encoding"), None);
}

#[test]
fn pages_of_other_sites_get_nothing_from_an_open_port_and_write_nothing() {
    let api = Api::shared();
    let object = config_map("from-a-page");
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("origin", "http://evil.example"),
        ("host", "evil.example"),
    ] {
        let read = api.send(&get(THERE).header(name, value));
        let written = api.send(&post(CONFIG_MAPS, &object).header(name, value));
        for answer in [read, written] {
            assert_eq!(answer.status, 403, "{name}: {}", answer.text());
            assert_eq!(answer.json()["reason"], "Forbidden");
        }
    }
    let written = api.send(&get(format!("{CONFIG_MAPS}/from-a-page")));
    assert_eq!(written.status, 404);
}
