//! Rules of events, of both groups.

use serde_json::json;

use super::*;

#[test]
fn an_event_is_where_what_it_is_about_is() {
    refuses(
        "Event",
        &[("/involvedObject/namespace", json!("m"))],
        &["involvedObject.namespace: Invalid value: \"m\": does not match event.namespace"],
    );
    refuses(
        "Event",
        &[
            ("/involvedObject", json!({})),
            ("/metadata/namespace", json!("default")),
        ],
        &[],
    );
}

#[test]
fn events_of_their_own_group_are_strict_on_creation_and_later_change_their_series_only() {
    let group = "events.k8s.io";
    let good = good_objects()
        .into_iter()
        .find(|object| object["apiVersion"].as_str().unwrap().starts_with(group))
        .unwrap();
    let kind = kind_of(&good);
    let with = |edits: &[(&str, Value)]| {
        let mut object = good.clone();
        for (name, value) in edits {
            object[*name] = value.clone();
        }
        object
    };
    let long = "x".repeat(129);
    let bad = with(&[
        ("reportingController", json!("")),
        ("reportingInstance", json!(long)),
        ("reason", json!("")),
        ("note", json!("x".repeat(1025))),
        ("type", json!("Odd")),
        ("deprecatedCount", json!(1)),
        ("deprecatedSource", json!({ "host": "h" })),
        ("deprecatedFirstTimestamp", json!("2025-01-01T00:00:00Z")),
        ("series", json!({ "count": 1 })),
    ]);
    let found = lines(&created(&kind, &bad));
    for wanted in [
        "reportingController: Required value",
        "reportingInstance: Invalid value: \"\": can have at most 128 characters",
        "reason: Required value",
        "message: Invalid value: \"\": can have at most 1024 characters",
        "type: Invalid value: \"\": has invalid value: Odd",
        "count: Invalid value: \"\": needs to be unset",
        "source: Invalid value: \"\": needs to be unset",
        "firstTimestamp: Invalid value: \"\": needs to be unset",
        "series.count: Invalid value: \"\": should be at least 2",
        "series.lastObservedTime: Required value",
    ] {
        assert!(
            found.iter().any(|line| line == wanted),
            "{wanted}: {found:?}"
        );
    }

    let changed = with(&[("note", json!("other")), ("action", json!("Other"))]);
    assert_eq!(
        lines(&updated(&kind, &changed, &good, "")),
        [
            "message: Invalid value: \"other\": field is immutable",
            "action: Invalid value: \"Other\": field is immutable",
        ]
    );
    let without = with(&[("note", Value::Null)]);
    let told = with(&[("note", json!("told"))]);
    assert_eq!(
        lines(&updated(&kind, &without, &told, "")),
        ["message: Invalid value: \"\": field is immutable"]
    );
    let empty = with(&[("series", json!({}))]);
    assert_eq!(
        lines(&updated(&kind, &empty, &good, "")),
        [
            "series.count: Invalid value: \"\": should be at least 2",
            "series.lastObservedTime: Required value",
        ]
    );
    let again = json!({ "count": 2, "lastObservedTime": "2025-01-01T00:00:09.000000Z" });
    let repeated = with(&[("series", again)]);
    assert_eq!(
        lines(&updated(&kind, &repeated, &good, "")),
        Vec::<String>::new()
    );
}
