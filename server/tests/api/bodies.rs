//! Bodies that are damaged, too long, too deep or too slow, in every format.

use std::time::Duration;

use serde_json::{Value, json};

use super::shared::{Api, CONFIG_MAPS, config_map, rules};
use super::wire::{
    JSON, MERGE, PROTOBUF, Request, STRATEGIC, YAML, get, patch, post, post_text, put,
};

const LIMIT: usize = 3 * 1024 * 1024;
const TOO_LARGE: &str = "Request entity too large: limit is 3145728";
const THERE: &str = "/api/v1/namespaces/default/configmaps/there";

/// As long as it is said to be, with spaces in it.
fn of_length(length: usize) -> Vec<u8> {
    let mut body = config_map("long").to_string().into_bytes();
    body.resize(length, b' ');
    body
}

rules! {
    a_create_of_more_than_3_mib_is_too_large: post_text(CONFIG_MAPS, of_length(LIMIT + 1))
        => 413 "RequestEntityTooLarge" TOO_LARGE;
    an_update_of_more_than_3_mib_is_too_large: Request::new("PUT", THERE).with(JSON, of_length(LIMIT + 1))
        => 413 "RequestEntityTooLarge" TOO_LARGE;
    a_patch_of_more_than_3_mib_is_too_large: patch(MERGE, THERE, of_length(LIMIT + 1))
        => 413 "RequestEntityTooLarge" TOO_LARGE;
    a_create_in_yaml_of_more_than_3_mib_is_too_large: Request::new("POST", CONFIG_MAPS).with(YAML, of_length(LIMIT + 1))
        => 413 "RequestEntityTooLarge" TOO_LARGE;
    a_delete_of_more_than_3_mib_is_too_large: Request::new("DELETE", format!("{CONFIG_MAPS}/not-deleted")).with(JSON, of_length(LIMIT + 1))
        => 413 "RequestEntityTooLarge" TOO_LARGE;
}

#[test]
fn a_body_of_3_mib_is_read() {
    let api = Api::shared();
    let path = api.namespace("three-mib");
    api.send(&post_text(path.as_str(), of_length(LIMIT)))
        .ok(201);
    // What would be too long for the store is refused before it gets there.
    let secret =
        json!({ "metadata": { "name": "a" }, "data": { "a": "A".repeat(2 * 1024 * 1024) } });
    let answer = api.send(&post(path.replace("configmaps", "secrets"), &secret));
    answer.refuses_with(
        422,
        "Invalid",
        "Too long: may not be more than 1048576 bytes",
    );
    // Labels by which an object would be too long for the store, as no rule of the kind forbids that.
    let rules: Vec<Value> = (0..60_000)
        .map(|_| json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }))
        .collect();
    let role = json!({ "metadata": { "name": "a" }, "rules": rules });
    let answer = api.send(&post(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/three-mib/roles",
        &role,
    ));
    assert!(
        matches!(answer.status, 201 | 413),
        "{} {}",
        answer.status,
        answer.text().chars().take(300).collect::<String>()
    );
    api.read("/apis/rbac.authorization.k8s.io/v1/namespaces/three-mib/roles");
}

/// 10,000 levels in every place where a value may be anything, and where it may not.
#[test]
fn bodies_that_are_too_deep_are_refused() {
    let api = Api::shared();
    let path = api.namespace("deep");
    let (lists, maps) = (
        format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)),
        format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000)),
    );
    for deep in [&lists, &maps] {
        for body in [
            deep.clone(),
            format!(r#"{{"metadata":{{"name":"a"}},"data":{deep}}}"#),
            format!(r#"{{"metadata":{{"name":"a"}},"none":{deep}}}"#),
            format!(r#"{{"metadata":{{"name":"a","managedFields":[{{"fieldsV1":{deep}}}]}}}}"#),
        ] {
            for media in [JSON, YAML] {
                let answer =
                    api.send(&Request::new("POST", path.as_str()).with(media, body.clone()));
                answer.refuses_with(400, "BadRequest", "");
            }
        }
        for media in [MERGE, STRATEGIC] {
            api.send(&patch(media, THERE, format!(r#"{{"data":{deep}}}"#)))
                .refuses_with(400, "BadRequest", "");
        }
        let raw = format!(r#"{{"metadata":{{"name":"a"}},"data":{deep},"revision":1}}"#);
        let revisions = "/apis/apps/v1/namespaces/deep/controllerrevisions";
        api.send(&post_text(revisions, raw))
            .refuses_with(400, "BadRequest", "");
    }
    // As deep as is allowed, in the one place that keeps whatever it is given.
    for depth in [50, 90, 96, 97, 98, 99, 100, 101, 110, 126, 127, 128] {
        let raw = format!(
            r#"{{"metadata":{{"name":"d{depth}"}},"data":{}{},"revision":1}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        );
        let revisions = "/apis/apps/v1/namespaces/deep/controllerrevisions";
        let answer = api.send(&post_text(revisions, raw));
        assert!(
            matches!(answer.status, 201 | 400),
            "{} {}",
            answer.status,
            answer.text()
        );
        if answer.status == 201 {
            let made = api.read(&format!("{revisions}/d{depth}"));
            assert_eq!(
                api.send(&put(format!("{revisions}/d{depth}"), &made))
                    .ok(200),
                made
            );
            let same = patch(MERGE, format!("{revisions}/d{depth}"), made.to_string());
            assert_eq!(api.send(&same).ok(200), made);
        }
    }
    assert!(
        !api.read("/apis/apps/v1/namespaces/deep/controllerrevisions")["items"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    // A patch may not make it deeper than it could be read again.
    for (at, more) in [("d50", 60), ("d90", 9), ("d90", 60)] {
        let text = format!(
            r#"{{"data":{}1{}}}"#,
            "{\"a\":".repeat(more),
            "}".repeat(more)
        );
        let answer = api.send(&patch(
            MERGE,
            format!("/apis/apps/v1/namespaces/deep/controllerrevisions/{at}"),
            text,
        ));
        assert!(answer.status < 500, "{}", answer.text());
        api.read(&format!(
            "/apis/apps/v1/namespaces/deep/controllerrevisions/{at}"
        ));
    }
    let steps: String = std::iter::repeat_n("/a", 200).collect();
    let nested = (1..=200).map(|depth| json!({ "op": "add", "path": format!("/data{}", &steps[..2 * depth]), "value": {} }));
    let start = std::iter::once(json!({ "op": "replace", "path": "/data", "value": {} }));
    let operations: Vec<Value> = start.chain(nested).collect();
    let answer = api.send(&patch(
        "application/json-patch+json",
        "/apis/apps/v1/namespaces/deep/controllerrevisions/d50",
        json!(operations).to_string(),
    ));
    assert!(answer.status < 500, "{}", answer.text());
    api.read("/apis/apps/v1/namespaces/deep/controllerrevisions/d50");
    assert!(api.read("/apis/apps/v1/namespaces/deep/controllerrevisions")["items"].is_array());
}

#[test]
fn every_beginning_of_a_body_is_refused() {
    let api = Api::shared();
    let path = api.namespace("beginnings");
    let body = config_map("a").to_string();
    let mut connection = api.connect();
    for end in 0..body.len() {
        let answer = connection
            .call(&post_text(path.as_str(), &body[..end]))
            .unwrap();
        answer.refuses_with(400, "BadRequest", "unexpected end of JSON input");
    }
    assert_eq!(
        connection
            .call(&post_text(path.as_str(), body))
            .unwrap()
            .status,
        201
    );
}

#[test]
fn protobuf_that_is_none_is_a_bad_request() {
    let api = Api::shared();
    for body in [
        &b""[..],
        b"k8s",
        b"k8s\0",
        b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"k8s\0\x12\x05\x0a",
        b"{}",
        b"k8s\0\x0a\x02\x0a\x7f",
    ] {
        let answer = api.send(&Request::new("POST", CONFIG_MAPS).with(PROTOBUF, body));
        // An empty envelope may be taken for an object that says nothing.
        assert!(
            matches!(answer.status, 400 | 422),
            "{body:?}: {} {}",
            answer.status,
            answer.text()
        );
    }
}

#[test]
fn yaml_that_is_none_is_a_bad_request() {
    let api = Api::shared();
    for body in [
        "a: [",
        "\t- a",
        "a: b: c",
        "- a\n- b",
        "just text",
        "&a [*a]",
        "a: *none",
        "? [a]\n: b",
        "\u{0}",
        "'",
        "%YAML 9.9\n---\na: b",
        "a: !!binary x\u{1}",
    ] {
        let answer = api.send(&Request::new("POST", CONFIG_MAPS).with(YAML, body));
        // Some of it is YAML after all, but of no object with a name.
        assert!(
            matches!(answer.status, 400 | 422),
            "{body:?}: {} {}",
            answer.status,
            answer.text()
        );
    }
    // Ten billion of nothing by nine references.
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let items = vec![format!("*a{}", level - 1); 10].join(",");
        bomb += &format!("a{level}: &a{level} [{items}]\n");
    }
    let answer = api.send(&Request::new("POST", CONFIG_MAPS).with(YAML, bomb));
    assert!(matches!(answer.status, 400 | 422), "{}", answer.status);
}

#[test]
fn text_that_is_no_unicode_is_never_kept() {
    let api = Api::shared();
    let path = api.namespace("unicode");
    let raw = |middle: &[u8]| {
        [
            br#"{"metadata":{"name":"a"},"data":{"a":""#,
            middle,
            br#""}}"#,
        ]
        .concat()
    };
    for middle in [
        &b"\xff\xfe"[..],
        b"\xc3\x28",
        b"\\ud800",
        b"\\udc00\\ud800",
        b"\\u0000",
        b"\xed\xa0\x80",
    ] {
        let answer = api.send(&post_text(path.as_str(), raw(middle)));
        assert!(answer.status < 500, "{}", answer.text());
        if answer.status == 201 {
            let read = api.read(&format!("{path}/a"));
            assert_eq!(read["data"], answer.json()["data"]);
            api.send(&Request::new("DELETE", format!("{path}/a")))
                .ok(200);
        }
    }
}

#[test]
fn a_list_of_very_many_items_is_read_or_refused() {
    let api = Api::shared();
    let path = api.namespace("many");
    let owners: Vec<Value> = (0..10_000)
        .map(|number| json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": format!("n{number}"), "uid": format!("u{number}") }))
        .collect();
    let mut object = config_map("a");
    object["metadata"]["ownerReferences"] = json!(owners);
    let answer = api.send(&post(path.as_str(), &object));
    assert!(answer.status < 500, "{}", answer.status);
    let labels: serde_json::Map<String, Value> = (0..50_000)
        .map(|number| (format!("l{number}"), json!("v")))
        .collect();
    let mut object = config_map("b");
    object["metadata"]["labels"] = json!(labels);
    let answer = api.send(&post(path.as_str(), &object));
    assert!(answer.status < 500, "{}", answer.status);
    // Every one of very many errors is in the answer, or the first of them are: it must stay an answer.
    let wrong: serde_json::Map<String, Value> = (0..50_000)
        .map(|number| (format!("l {number}"), json!("v")))
        .collect();
    object["metadata"]["labels"] = json!(wrong);
    api.send(&post(path.as_str(), &object))
        .refuses_with(422, "Invalid", "metadata.labels");
    let unknown: serde_json::Map<String, Value> = (0..50_000)
        .map(|number| (format!("u{number}"), json!(1)))
        .collect();
    let mut object = json!({ "metadata": { "name": "c" } });
    object.as_object_mut().unwrap().extend(unknown);
    let answer = api.send(&post(path.as_str(), &object));
    answer.ok(201);
    assert!(
        answer.warnings().len() <= 100,
        "{}",
        answer.warnings().len()
    );
    api.send(&get(path.as_str())).ok(200);
}

#[test]
fn a_body_that_breaks_off_makes_no_object() {
    let api = Api::shared();
    let path = api.namespace("breaks-off");
    let body = config_map("a").to_string();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n");
    let mut connection = api.connect();
    connection
        .write_raw(format!("{head}content-length: {}\r\n\r\n{}", body.len() + 1, body).as_bytes())
        .unwrap();
    connection.end().unwrap();
    // There may be no answer: whoever went away does not read it.
    if let Ok(answer) = connection.read() {
        assert_eq!(answer.status, 400);
    }
    let mut connection = api.connect();
    connection
        .write_raw(
            format!(
                "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
                body.len()
            )
            .as_bytes(),
        )
        .unwrap();
    connection.end().unwrap();
    if let Ok(answer) = connection.read() {
        assert_eq!(answer.status, 400);
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(api.send(&get(format!("{path}/a"))).status, 404);
}

#[test]
fn a_slow_body_is_waited_for_and_keeps_nobody_else_waiting() {
    let api = Api::shared();
    let path = api.namespace("slow");
    let body = config_map("a").to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // More than may write at the same time would be the end of writing for all.
    let mut slow: Vec<_> = (0..20).map(|_| api.connect()).collect();
    for connection in &mut slow {
        connection.write_raw(head.as_bytes()).unwrap();
        connection.write_raw(&body.as_bytes()[..10]).unwrap();
    }
    api.create(&path, &config_map("quick"));
    let mut first = slow.remove(0);
    for byte in &body.as_bytes()[10..] {
        first.write_raw(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    first.read().unwrap().ok(201);
}
