//! Objects as people meet them, and the cells that kube-apiserver 1.37 makes of them.

mod cluster;
mod custom;
mod networks;
mod pods;
mod storage;
mod workloads;

use super::layout::LAYOUTS;
use super::*;

/// The time of all tests: 2026-01-10T12:00:00Z.
const NOW: i64 = 1_768_046_400;

fn kind(group: &str, name: &str) -> Kind {
    serde_saphyr::from_str(&format!(
        "{{group: {group:?}, kind: {name}, plural: {}s}}",
        name.to_lowercase()
    ))
    .unwrap()
}

/// The cells of an object; it gets a name and an age of five minutes.
fn cells(group: &str, name: &str, object: &str) -> Value {
    let mut object: Value = serde_saphyr::from_str(object).unwrap();
    let metadata = &mut object["metadata"];
    if metadata["name"].is_null() {
        metadata["name"] = "web".into();
    }
    metadata["creationTimestamp"] = "2026-01-10T11:55:00Z".into();
    let table = table_of_one(
        &kind(group, name),
        &object,
        Include::None,
        true,
        json!({}),
        NOW,
    );
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    let columns = table["columnDefinitions"].as_array().unwrap();
    assert_eq!(cells.len(), columns.len());
    cells.iter().cloned().collect()
}

fn names(group: &str, name: &str) -> Vec<&'static str> {
    let columns = columns(&kind(group, name));
    columns.iter().map(|column| column.name.as_str()).collect()
}

#[test]
fn every_column_can_be_read_and_says_what_it_is() {
    // As upstream, whose documents have nothing on these.
    let silent = ["Handler", "BinaryVersion", "EmulationVersion"];
    for layout in &LAYOUTS.of_kinds {
        for column in &layout.columns {
            let is_described = !column.description.is_empty();
            let name = column.name.as_str();
            assert_eq!(
                is_described,
                !silent.contains(&name),
                "{} {name}",
                layout.kind
            );
        }
    }
}

#[test]
fn no_kind_has_two_layouts() {
    let mut all: Vec<_> = LAYOUTS
        .of_kinds
        .iter()
        .map(|one| (&one.group, &one.kind))
        .collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), LAYOUTS.of_kinds.len());
}

#[test]
fn an_object_with_nothing_in_it_has_cells_all_the_same() {
    for layout in &LAYOUTS.of_kinds {
        for object in [
            json!({}),
            json!(null),
            json!([]),
            json!({"spec": 1, "status": "x"}),
        ] {
            let kind = kind(&layout.group, &layout.kind);
            let table = table_of_one(&kind, &object, Include::Object, false, json!({}), NOW);
            let cells = table["rows"][0]["cells"].as_array().unwrap();
            assert_eq!(cells.len(), layout.columns.len(), "{}", layout.kind);
        }
    }
}

#[test]
fn a_table_has_columns_only_if_asked_for() {
    let objects = [json!({"metadata": {"name": "a", "uid": "1"}, "spec": {}})];
    let metadata = json!({"resourceVersion": "7", "continue": "x"});
    let kind = kind("", "ConfigMap");
    let with = table(
        &kind,
        &objects,
        Include::Metadata,
        true,
        metadata.clone(),
        NOW,
    );
    assert_eq!(
        with["columnDefinitions"][0],
        json!({
            "name": "Name", "type": "string", "format": "name", "priority": 0,
            "description": columns(&kind)[0].description,
        })
    );
    assert!(
        columns(&kind)[0]
            .description
            .starts_with("Name must be unique within a namespace.")
    );
    let without = table(&kind, &objects, Include::Metadata, false, metadata, NOW);
    assert_eq!(
        without,
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": "7", "continue": "x"},
            "rows": [{
                "cells": ["a", 0, "<unknown>"],
                "object": {
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                    "metadata": {"name": "a", "uid": "1"},
                },
            }],
        })
    );
}

#[test]
fn rows_include_what_is_asked_for() {
    let objects = [json!({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "y"}})];
    let row = |include| {
        let kind = kind("", "ConfigMap");
        table(&kind, &objects, include, false, json!({}), NOW)["rows"][0].clone()
    };
    assert_eq!(row(Include::Object)["object"], objects[0]);
    assert_eq!(row(Include::None), json!({"cells": ["a", 1, "<unknown>"]}));
}

#[test]
fn a_list_can_be_reduced_to_metadata() {
    let objects = [json!({"kind": "Pod", "metadata": {"name": "a"}, "spec": {}})];
    assert_eq!(
        partial_list(&objects, json!({"resourceVersion": "7"})),
        json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": "7"},
            "items": [{
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"name": "a"},
            }],
        })
    );
}

#[test]
fn kinds_without_a_layout_have_name_and_age() {
    assert_eq!(names("example.com", "Widget"), ["Name", "Age"]);
    assert_eq!(cells("example.com", "Widget", "{}"), json!(["web", "5m"]));
}
