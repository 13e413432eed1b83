//! Columns that custom kinds bring.

use super::*;

#[test]
fn custom_kinds_bring_their_columns() {
    let columns = custom_columns(&json!([
        {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "description": "How many.", "priority": 1},
        {"name": "Load", "type": "number", "jsonPath": ".status.load"},
        {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
        {"name": "Since", "type": "date", "jsonPath": ".status.since"},
        {"name": "Spec", "type": "string", "jsonPath": ".spec"},
    ]))
    .unwrap();
    let objects = [
        json!({
            "metadata": {"name": "a"},
            "spec": {"on": true, "size": 2.5},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "load": 1,
                "since": "2026-01-10T11:00:00Z",
            },
        }),
        json!({"metadata": {"name": "b"}, "spec": {"on": "yes", "size": "x"}, "status": {"since": "x"}}),
    ];
    let table = custom_table(&columns, &objects, Include::None, true, json!({}), NOW);
    assert_eq!(
        table["rows"],
        json!([
            {"cells": ["a", "True", 2, 1, true, "60m", r#"{"on":true,"size":2.5}"#]},
            {"cells": ["b", null, null, null, null, "<invalid>", r#"{"on":"yes","size":"x"}"#]},
        ])
    );
    assert_eq!(
        table["columnDefinitions"][2],
        json!({"name": "Size", "type": "integer", "format": "", "description": "How many.", "priority": 1})
    );
    assert_eq!(
        table["columnDefinitions"][4]["description"],
        "Custom resource definition column (in JSONPath format): .spec.on"
    );
}

#[test]
fn custom_kinds_without_columns_have_an_age() {
    let columns = custom_columns(&Value::Null).unwrap();
    let objects = [json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-10T11:00:00Z"}})];
    let table = custom_table(&columns, &objects, Include::None, true, json!({}), NOW);
    assert_eq!(table["rows"], json!([{"cells": ["a", "60m"]}]));
    assert_eq!(table["columnDefinitions"][1]["type"], "date");
    assert!(
        custom_columns(&json!([{"name": "a", "type": "string", "jsonPath": "spec["}])).is_err()
    );
}
