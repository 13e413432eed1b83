//! The values that fields may have, as upstream's generator writes them into definitions: a Go type with the tag `+enum`
//! has those of its constants. Fields list them and describe them; items of lists and values of maps list them only.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::protobuf::{Body, Constant, Declaration, Field, Meant, Name, Types, definition, full};

/// The values of a type, each with the name and the comment of its constant.
type Values<'t> = BTreeMap<&'t str, (&'t str, &'t str)>;

/// Adds what the fields of each definition may be.
pub(crate) fn add(definitions: &mut Value, types: &Types) {
    let enums = enums(types);
    for (name, declared) in &types.declared {
        let schema = definitions.get_mut(definition(name));
        if let Some(properties) = schema.and_then(|schema| schema.get_mut("properties")) {
            add_to_fields(properties, name, declared, types, &enums);
        }
    }
}

fn add_to_fields(
    properties: &mut Value,
    name: &Name,
    declared: &Declaration,
    types: &Types,
    enums: &BTreeMap<Name, Values<'_>>,
) {
    let add_inner = |properties: &mut Value, text: &str| {
        let inner = full(text, &name.0, &declared.imports);
        if let Some(declared) = types.declared.get(&inner) {
            add_to_fields(properties, &inner, declared, types, enums);
        }
    };
    let fields = match &declared.body {
        Body::Struct(fields) => fields,
        Body::Other(text) => return add_inner(properties, text),
    };
    for field in fields {
        if field.is_inline {
            add_inner(properties, &field.go_type);
        } else if let Some(schema) = properties.get_mut(&field.name) {
            let values = add_to(schema, &field.go_type, &name.0, declared, types, enums);
            if let Some(values) = values {
                describe(schema, field, values);
            }
        }
    }
}

/// Lists the values of a Go type, or of what it is made of. Says which they are, if it is the type itself that has them.
fn add_to<'e, 't>(
    schema: &mut Value,
    go_type: &str,
    package: &str,
    context: &Declaration,
    types: &Types,
    enums: &'e BTreeMap<Name, Values<'t>>,
) -> Option<&'e Values<'t>> {
    let go_type = go_type.trim_start_matches('*');
    if let Some(items) = go_type.strip_prefix("[]") {
        add_to(
            schema.get_mut("items")?,
            items,
            package,
            context,
            types,
            enums,
        );
        return None;
    }
    if let Some(map) = go_type.strip_prefix("map[") {
        let (_, values) = map.split_once(']')?;
        let schema = schema.get_mut("additionalProperties")?;
        add_to(schema, values, package, context, types, enums);
        return None;
    }
    let name = full(go_type, package, &context.imports);
    if let Some(values) = enums.get(&name) {
        schema["enum"] = values.keys().copied().collect();
        return Some(values);
    }
    let declared = types.declared.get(&name)?;
    match &declared.body {
        Body::Other(text) => add_to(schema, text, &name.0, declared, types, enums),
        Body::Struct(_) => None,
    }
}

/// The empty lines are those that upstream's generator leaves: one more for each that stood before the tags of a field.
fn describe(schema: &mut Value, field: &Field, values: &Values<'_>) {
    let before = schema["description"].as_str().unwrap_or_default();
    let mut text = before.to_owned();
    if !before.is_empty() {
        text.push_str(&"\n".repeat(2 + field.empty_lines));
    }
    text.push_str("Possible enum values:");
    for (value, (name, comment)) in values {
        let comment = comment.strip_prefix(name).unwrap_or(comment);
        let words: Vec<&str> = comment.split_whitespace().collect();
        let line = format!("\n - `{value:?}` {}", words.join(" "));
        text.push_str(line.trim_end());
    }
    schema["description"] = json!(text);
}

/// The values of each type that has the tag.
fn enums(types: &Types) -> BTreeMap<Name, Values<'_>> {
    let mut enums: BTreeMap<Name, Values<'_>> = BTreeMap::new();
    for ((_, name), constant) in &types.constants {
        let of = constant.of.as_ref().and_then(|of| tagged(types, of));
        if let (Some(of), Some(text)) = (of, text(types, constant)) {
            let new = (name.as_str(), constant.comment.as_str());
            let known = enums.entry(of.clone()).or_default().entry(text);
            // Of constants with the same value, the longest comment counts.
            let known = known.or_insert(new);
            let (old, comment) = (known.1, new.1);
            if old.len() < comment.len() || (old.len() == comment.len() && old > comment) {
                *known = new;
            }
        }
    }
    enums
}

/// A type that has the tag, by any of its names.
fn tagged<'t>(types: &'t Types, name: &Name) -> Option<&'t Name> {
    let (name, declared) = types.declared.get_key_value(name)?;
    match &declared.body {
        Body::Other(text) if text == "string" => declared.is_enum.then_some(name),
        Body::Other(text) => tagged(types, &full(text, &name.0, &declared.imports)),
        Body::Struct(_) => None,
    }
}

fn text<'t>(types: &'t Types, constant: &'t Constant) -> Option<&'t str> {
    match &constant.value {
        Meant::Text(text) => Some(text),
        Meant::Same(name) => text(types, types.constants.get(name)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
package v1

// Color of a thing.
// +enum
type Color string

const (
	// Red is like
	// blood.
	Red Color = "Red"
	// Green
	Green = Color("Green") // Not this.

	Other string = "Other"
)

// Blue is like the sea.
const Blue Color = blue
const blue = "Blue"

// Shade has no tag.
type Shade string

const Dark Shade = "Dark"

type Thing struct {
	Shared `json:",inline" protobuf:"bytes,1,opt,name=common"`
	// The shade.
	Shade Shade `json:"shade" protobuf:"bytes,2,opt,name=shade"`
	// All.
	All []Color `json:"all" protobuf:"bytes,3,rep,name=all"`
	Named map[string]Color `json:"named" protobuf:"bytes,4,rep,name=named"`
}

type Shared = Common

type Common struct {
	// The color.
	//
	// +optional
	Color *Color `json:"color,omitempty" protobuf:"bytes,1,opt,name=color"`
}
"#;

    #[test]
    fn fields_have_the_values_of_their_types() {
        let mut types = Types::default();
        types.read_file(SOURCE, "k8s.io/api/things/v1");
        let text = json!({ "type": "string", "description": "One." });
        let mut definitions = json!({
            "io.k8s.api.things.v1.Thing": {
                "properties": {
                    "color": text,
                    "shade": text,
                    "all": { "type": "array", "description": "Many.", "items": { "type": "string" } },
                    "named": { "type": "object", "additionalProperties": { "type": "string" } },
                },
            },
        });
        add(&mut definitions, &types);
        let values = json!(["Blue", "Green", "Red"]);
        let listed = json!({ "type": "string", "enum": values });
        let described = "One.\n\n\nPossible enum values:\n - `\"Blue\"` is like the sea.\n - `\"Green\"`\n - `\"Red\"` is like blood.";
        assert_eq!(
            definitions["io.k8s.api.things.v1.Thing"]["properties"],
            json!({
                "color": { "type": "string", "description": described, "enum": values },
                "shade": text,
                "all": { "type": "array", "description": "Many.", "items": listed },
                "named": { "type": "object", "additionalProperties": listed },
            })
        );
    }
}
