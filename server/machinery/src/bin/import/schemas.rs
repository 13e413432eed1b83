//! `definitions.json.gz` from the JSON schemas that the package `kubernetes-validate` publishes: back to the OpenAPI v3
//! schemas that those were made from. The values that fields may have are added from Go types.

use std::error::Error;
use std::io::Write as _;

use flate2::{Compression, GzBuilder};
use serde_json::{Map, Value, json};

use crate::enums;
use crate::protobuf::Types;

const TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/definitions.json.gz");

/// The only definition that OpenAPI gives a format for what JSON schema says as a choice.
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

pub(crate) fn import(source: &str, folders: &[&str]) -> Result<(), Box<dyn Error>> {
    let text = std::fs::read(source).map_err(|error| format!("{source}: {error}"))?;
    let document: Value = serde_json::from_slice(&text)?;
    let definitions = document["$defs"].as_object();
    let definitions = definitions.ok_or_else(|| format!("{source}: has no $defs"))?;
    let mut definitions = convert(definitions.clone());
    enums::add(&mut definitions, &Types::of(folders)?);
    std::fs::write(TARGET, compress(&definitions)?)?;
    Ok(())
}

/// The same bytes for the same definitions: keys are sorted, and no time goes in.
fn compress(definitions: &Value) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut writer = GzBuilder::new().write(Vec::new(), Compression::best());
    writer.write_all(definitions.to_string().as_bytes())?;
    Ok(writer.finish()?)
}

fn convert(mut definitions: Map<String, Value>) -> Value {
    definitions
        .values_mut()
        .filter(|definition| definition["x-kubernetes-group-version-kind"].is_array())
        .for_each(remove_choices);
    let mut definitions = Value::Object(definitions);
    let mut open = vec![&mut definitions];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                convert_one(fields);
                open.extend(fields.values_mut());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    if let Some(definition) = definitions.get_mut(INT_OR_STRING) {
        definition["format"] = json!("int-or-string");
    }
    definitions
}

/// The package says of what version and kind each object is, and upstream does not.
fn remove_choices(definition: &mut Value) {
    for name in ["apiVersion", "kind"] {
        let property = definition.pointer_mut(&format!("/properties/{name}"));
        if let Some(property) = property.and_then(Value::as_object_mut) {
            property.remove("enum");
        }
    }
}

/// Properties may have any name, `type` and `$ref` too; their values are objects, which tells them from the words of a
/// schema.
fn convert_one(fields: &mut Map<String, Value>) {
    let types = fields.get("type").and_then(Value::as_array);
    if let Some([of_value, of_null]) = types.map(Vec::as_slice)
        && of_null == "null"
    {
        let of_value = of_value.clone();
        fields.insert("type".to_owned(), of_value);
    }
    if fields.get("additionalProperties") == Some(&json!(false)) {
        fields.remove("additionalProperties");
    }
    let reference = fields.get("$ref").and_then(Value::as_str);
    if let Some(name) = reference.and_then(|reference| reference.strip_prefix("#/$defs/")) {
        let reference = json!(format!("#/components/schemas/{name}"));
        fields.remove("$ref");
        // What stands beside a reference does not count in v3, so the reference moves away.
        if fields.is_empty() {
            fields.insert("$ref".to_owned(), reference);
        } else {
            fields.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(definitions: Value) -> Value {
        convert(definitions.as_object().unwrap().clone())
    }

    #[test]
    fn what_the_json_schemas_added_is_taken_away() {
        let definitions = json!({
            "A": {
                "type": ["object", "null"],
                "additionalProperties": false,
                "properties": {
                    "b": { "$ref": "#/$defs/B" },
                    "c": { "$ref": "#/$defs/B", "description": "d" },
                    "map": { "type": "object", "additionalProperties": { "type": ["string", "null"] } },
                },
            },
            INT_OR_STRING: { "oneOf": [{ "type": ["string", "null"] }, { "type": ["integer", "null"] }] },
        });
        assert_eq!(
            converted(definitions),
            json!({
                "A": {
                    "type": "object",
                    "properties": {
                        "b": { "$ref": "#/components/schemas/B" },
                        "c": { "allOf": [{ "$ref": "#/components/schemas/B" }], "description": "d" },
                        "map": { "type": "object", "additionalProperties": { "type": "string" } },
                    },
                },
                INT_OR_STRING: {
                    "format": "int-or-string",
                    "oneOf": [{ "type": "string" }, { "type": "integer" }],
                },
            })
        );
    }

    #[test]
    fn versions_and_kinds_are_any_text() {
        let choice = json!({ "type": "string", "enum": ["A"] });
        let properties = json!({ "kind": choice, "other": choice });
        let about = json!([{ "group": "", "version": "v1", "kind": "A" }]);
        let definitions = converted(json!({
            "A": { "properties": properties, "x-kubernetes-group-version-kind": about },
            "B": { "properties": properties },
        }));
        let free = json!({ "type": "string" });
        let of_kind = json!({ "kind": free, "other": choice });
        assert_eq!(definitions["A"]["properties"], of_kind);
        assert_eq!(definitions["B"]["properties"], properties);
    }

    #[test]
    fn properties_that_are_called_like_words_of_schemas_stay() {
        let definitions = json!({
            "A": {
                "properties": {
                    "$ref": { "type": "string" },
                    "additionalProperties": { "type": "object" },
                    "type": { "type": "string" },
                },
            },
        });
        assert_eq!(converted(definitions.clone()), definitions);
    }

    #[test]
    fn the_same_definitions_are_the_same_bytes() {
        let definitions = json!({ "b": 1, "a": 2 });
        let bytes = compress(&definitions).unwrap();
        assert_eq!(bytes, compress(&definitions).unwrap());
        // The time in the head.
        assert_eq!(bytes[4..8], [0; 4]);
    }

    #[test]
    fn the_file_that_is_there_is_converted() {
        let documents = machinery::schema::documents();
        let twice = convert(documents.clone());
        assert_eq!(twice, Value::Object(documents));
    }
}
