//! Watches: frames, where they begin, what selectors make of events, bookmarks, and how they end.

use std::time::{Duration, Instant};

use serde_json::json;

use super::shared::{Api, CONFIG_MAPS, config_map, config_map_with, rules};
use super::wire::{Event, MERGE, delete, get, patch, put};

fn watch(query: &str) -> super::wire::Request {
    get(format!("{CONFIG_MAPS}?watch=true&{query}"))
}

fn options(text: &str) -> String {
    format!("ListOptions.meta.k8s.io \"\" is invalid: {text}")
}

rules! {
    initial_events_need_a_match: watch("sendInitialEvents=true")
        => 422 "Invalid" &options("resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    no_initial_events_need_a_match_too: watch("sendInitialEvents=false")
        => 422 "Invalid" &options("resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    a_match_of_a_watch_needs_initial_events: watch("resourceVersionMatch=NotOlderThan")
        => 422 "Invalid" &options("resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
    initial_events_are_not_exact: watch("sendInitialEvents=true&resourceVersionMatch=Exact")
        => 422 "Invalid" &options("[resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to \
            NotOlderThan, resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]");
    a_watch_of_a_field_that_nothing_is_selected_by_is_a_bad_request: watch("fieldSelector=a%3Db")
        => 400 "BadRequest" "\"a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
}

fn told(events: &[Event]) -> Vec<(&str, &str)> {
    events
        .iter()
        .map(|event| (event.what.as_str(), event.name()))
        .collect()
}

#[test]
fn a_watch_from_a_version_that_is_no_number_is_invalid() {
    let api = Api::shared();
    api.send(&watch("resourceVersion=abc")).refuses_with(
        422,
        "Invalid",
        "resourceVersion: Invalid value: \"abc\"",
    );
}

#[test]
fn a_watch_from_a_version_tells_what_came_after_it() {
    let api = Api::shared();
    let path = api.namespace("after");
    let first = api.create(&path, &config_map("a"));
    let from = first["metadata"]["resourceVersion"].as_str().unwrap();
    let changed = api
        .send(&patch(
            MERGE,
            format!("{path}/a"),
            r#"{"data":{"key":"new"}}"#,
        ))
        .ok(200);
    let second = api.create(&path, &config_map("b"));
    api.send(&delete(format!("{path}/a"))).ok(200);
    let events = api.watched(format!(
        "{path}?watch=true&timeoutSeconds=1&resourceVersion={from}"
    ));
    assert_eq!(
        told(&events),
        [("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "a")]
    );
    assert_eq!(events[0].object, changed);
    assert_eq!(events[1].object, second);
    // What is deleted is as it was, at the revision that deleted it.
    assert_eq!(events[2].object["data"], changed["data"]);
    assert_eq!(events[2].revision(), events[1].revision() + 1);
}

#[test]
fn a_watch_from_no_version_begins_with_what_is_there() {
    let api = Api::shared();
    let path = api.namespace("synthetic").replace("configmaps", "secrets");
    api.create(&path, &json!({ "metadata": { "name": "a" } }));
    for query in ["", "&resourceVersion=", "&resourceVersion=0"] {
        let mut watch = api.watch(format!("{path}?watch=true&timeoutSeconds=20{query}"));
        let event = watch.next().unwrap().unwrap();
        assert_eq!((event.what.as_str(), event.name()), ("ADDED", "a"));
        let name = format!("after-{}", query.len());
        let made = api.create(&path, &json!({ "metadata": { "name": name } }));
        let event = loop {
            let event = watch.next().unwrap().unwrap();
            if event.name() == name {
                break event;
            }
            // Those of the rounds before.
            assert_eq!(event.what, "ADDED");
        };
        assert_eq!((event.what.as_str(), &event.object), ("ADDED", &made));
    }
}

#[test]
fn initial_events_end_with_a_bookmark_that_says_so() {
    let api = Api::shared();
    let path = api.namespace("initial").replace("configmaps", "secrets");
    api.create(&path, &json!({ "metadata": { "name": "a" } }));
    let last = api.create(&path, &json!({ "metadata": { "name": "b" } }));
    let last: i64 = last["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let query =
        "watch=true&timeoutSeconds=20&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    for version in [
        "",
        "&resourceVersion=0",
        &format!("&resourceVersion={last}"),
    ] {
        let mut watch = api.watch(format!("{path}?{query}&allowWatchBookmarks=true{version}"));
        let events: Vec<Event> = (0..3).map(|_| watch.next().unwrap().unwrap()).collect();
        assert_eq!(told(&events[..2]), [("ADDED", "a"), ("ADDED", "b")]);
        assert_eq!(events[2].what, "BOOKMARK");
        assert!(events[2].revision() >= last);
        assert_eq!(
            events[2].object,
            json!({ "kind": "Secret", "apiVersion": "v1", "metadata": {
                "resourceVersion": events[2].version(), "annotations": { "k8s.io/initial-events-end": "true" } } })
        );
    }
    // Without initial events it is a watch from that version.
    let query = query
        .replace("Events=true", "Events=false")
        .replace("=20", "=1");
    assert!(
        api.watched(format!("{path}?{query}&resourceVersion={last}"))
            .is_empty()
    );
}

#[test]
fn initial_events_of_a_version_to_come_are_a_timeout() {
    let api = Api::shared();
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=99999999&timeoutSeconds=5";
    let details = api.send(&watch(query)).refuses_with(
        504,
        "Timeout",
        "Timeout: Too large resource version: 99999999",
    );
    assert_eq!(details["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[test]
fn leaving_a_selector_is_a_deletion_and_entering_it_an_addition() {
    let api = Api::shared();
    let path = api.namespace("transitions");
    let made = api.create(
        &path,
        &config_map_with("a", "labels", json!({ "is": "in" })),
    );
    let from = made["metadata"]["resourceVersion"].as_str().unwrap();
    let label = |is: &str| {
        let text = json!({ "metadata": { "labels": { "is": is } } }).to_string();
        api.send(&patch(MERGE, format!("{path}/a"), text)).ok(200)["metadata"]["resourceVersion"]
            .clone()
    };
    let change = |value: &str| {
        let text = json!({ "data": { "key": value } }).to_string();
        api.send(&patch(MERGE, format!("{path}/a"), text)).ok(200)["metadata"]["resourceVersion"]
            .clone()
    };
    let versions = [
        change("in"),
        label("out"),
        change("unseen"),
        label("in"),
        change("again"),
    ];
    api.send(&delete(format!("{path}/a"))).ok(200);
    let query = format!("watch=true&timeoutSeconds=1&labelSelector=is%3Din&resourceVersion={from}");
    let events = api.watched(format!("{path}?{query}"));
    assert_eq!(
        told(&events),
        [
            ("MODIFIED", "a"),
            ("DELETED", "a"),
            ("ADDED", "a"),
            ("MODIFIED", "a"),
            ("DELETED", "a")
        ]
    );
    let seen: Vec<_> = events[..4]
        .iter()
        .map(|event| json!(event.version()))
        .collect();
    assert_eq!(
        seen,
        [&versions[0], &versions[1], &versions[3], &versions[4]].map(Clone::clone)
    );
    // It left with the content that it had while it was in.
    assert_eq!(events[1].object["metadata"]["labels"]["is"], "in");
    assert_eq!(events[1].object["data"]["key"], "in");
}

#[test]
fn a_watch_of_one_name_tells_of_no_other() {
    let api = Api::shared();
    let path = api.namespace("one-name");
    let from = api.create(&path, &config_map("a"))["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    api.create(&path, &config_map("aa"));
    api.send(&delete(format!("{path}/a"))).ok(200);
    for version in [format!("&resourceVersion={from}"), String::new()] {
        let query = format!("watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Da{version}");
        let events = api.watched(format!("{path}?{query}"));
        assert!(events.iter().all(|event| event.name() == "a"), "{events:?}");
        assert_eq!(events.is_empty(), version.is_empty());
    }
}

/// As upstream: with a name in the path it is a get, whatever `watch` says.
#[test]
fn a_name_in_the_path_is_no_watch() {
    let api = Api::shared();
    let object = api.read(&format!("{CONFIG_MAPS}/there?watch=true"));
    assert_eq!(object["metadata"]["name"], "there");
}

/// Any value but `false` and `0` says yes, as well as none.
#[test]
fn a_parameter_without_a_value_says_yes() {
    let api = Api::shared();
    for says_yes in ["watch", "watch=", "watch=1", "watch=True", "watch=yes"] {
        let answer = api.send(&get(format!("{CONFIG_MAPS}?timeoutSeconds=1&{says_yes}")));
        assert!(
            answer.text().starts_with("{\"type\":\"ADDED\""),
            "{says_yes}: {}",
            answer.text()
        );
    }
    for says_no in ["watch=false", "watch=0", "watch=False"] {
        let answer = api.send(&get(format!("{CONFIG_MAPS}?timeoutSeconds=1&{says_no}")));
        assert_eq!(answer.ok(200)["kind"], "ConfigMapList", "{says_no}");
    }
}

#[test]
fn a_watch_ends_cleanly_at_its_timeout_after_a_last_bookmark() {
    let api = Api::shared();
    let path = api.namespace("timeout");
    let version = api.create(&path, &config_map("a"))["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let began = Instant::now();
    let query =
        format!("watch=true&timeoutSeconds=3&allowWatchBookmarks=true&resourceVersion={version}");
    let events = api.watched(format!("{path}?{query}"));
    let lasted = began.elapsed();
    assert!(
        lasted >= Duration::from_secs(3) && lasted < Duration::from_secs(10),
        "{lasted:?}"
    );
    assert!(!events.is_empty());
    for event in &events {
        assert_eq!(event.what, "BOOKMARK");
        assert!(event.revision() >= version.parse().unwrap());
        let metadata = json!({ "resourceVersion": event.version() });
        assert_eq!(
            event.object,
            json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata })
        );
    }
    // Nobody who did not ask gets one.
    let query = format!("watch=true&timeoutSeconds=1&resourceVersion={version}");
    assert!(api.watched(format!("{path}?{query}")).is_empty());
}

#[test]
fn a_watch_is_chunked_json_one_object_a_line() {
    let api = Api::shared();
    let watch = api.watch(format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1"));
    let header = |name: &str| {
        watch
            .headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(header("content-type"), Some("application/json"));
    assert_eq!(header("transfer-encoding"), Some("chunked"));
    assert_eq!(header("content-length"), None);
    assert!(!watch.rest().unwrap().is_empty());
}

#[test]
fn a_watch_of_tables_has_columns_in_its_first_line_only() {
    let api = Api::shared();
    let path = api.namespace("tables");
    let version = api.create(&path, &config_map("a"))["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    api.create(&path, &config_map("b"));
    api.create(&path, &config_map("c"));
    let request = get(format!(
        "{path}?watch=true&timeoutSeconds=1&resourceVersion={version}"
    ));
    let request = request.accept("application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
    let events = super::wire::Watch::open(&api.endpoint, &request)
        .unwrap()
        .rest()
        .unwrap();
    assert_eq!(events.len(), 2);
    for (event, name) in events.iter().zip(["b", "c"]) {
        assert_eq!(event.object["kind"], "Table");
        assert_eq!(event.object["rows"].as_array().unwrap().len(), 1);
        assert_eq!(event.object["rows"][0]["cells"][0], name);
    }
    assert!(
        !events[0].object["columnDefinitions"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert!(
        events[1].object["columnDefinitions"]
            .as_array()
            .is_none_or(Vec::is_empty)
    );
}

#[test]
fn an_open_watch_ends_when_the_node_stops() {
    let api = Api::start();
    let mut watch = api.watch(format!("{CONFIG_MAPS}?watch=true&resourceVersion=1"));
    api.create(CONFIG_MAPS, &config_map("a"));
    while watch.next().unwrap().unwrap().name() != "a" {}
    api.node.lock().unwrap().signal(crate::node::Signal::TERM);
    while let Some(event) = watch.next().unwrap() {
        assert_ne!(event.what, "ERROR");
    }
}

/// More happens than is kept for whoever does not read, which the store still has.
#[test]
fn a_watch_that_was_not_read_for_long_is_told_everything_once_and_goes_on() {
    const CHANGES: usize = 1500;
    let api = Api::start();
    let path = api.namespace("slow");
    let mut object = config_map("a");
    let made = api.create(&path, &object);
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = api.watch(format!("{path}?watch=true&resourceVersion={version}"));
    let mut connection = api.connect();
    let mut change = |number: usize| {
        object["data"] = json!({ "number": number.to_string(), "long": "x".repeat(20_000) });
        put(format!("{path}/a"), &object)
    };
    let changes: Vec<_> = (0..=CHANGES).map(&mut change).collect();
    for request in &changes[..CHANGES] {
        assert_eq!(connection.call(request).unwrap().status, 200);
    }
    let mut number = 0;
    let mut next = || {
        let event = watch.next().unwrap().unwrap();
        assert_eq!(event.what, "MODIFIED");
        assert_eq!(event.object["data"]["number"], number.to_string());
        number += 1;
    };
    for _ in 0..CHANGES {
        next();
    }
    assert_eq!(connection.call(&changes[CHANGES]).unwrap().status, 200);
    next();
}
