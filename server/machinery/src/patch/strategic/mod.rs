//! Strategic merge patch: a merge patch that knows from the schema which lists are merged, and takes directives.
//!
//! - `$patch: replace` or `delete` beside the fields of a map replaces or empties it; `merge` says what happens anyway.
//!   In an item of a merged list, `delete` removes the item of that key, `replace` drops all items there were.
//! - `$retainKeys` removes the fields that it does not list.
//! - `$deleteFromPrimitiveList/<field>` removes values from a list.
//! - `$setElementOrder/<field>` gives the order of a list.
//!
//! Where the schema knows nothing, maps merge and lists are replaced, as in a merge patch. Recursion is bounded by the
//! depth of the patch, which [`super::apply`] checks.

mod list;

use serde_json::{Map, Value};

use super::{cannot_unmarshal, inapplicable};
use crate::schema::{Schema, Schemas, Shape};
use crate::status::Status;

/// Replaces or deletes the map that it is in.
const PATCH: &str = "$patch";
/// Lists the fields that stay.
const RETAIN_KEYS: &str = "$retainKeys";
/// Before a `/` and the name of a list.
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
/// Before a `/` and the name of a list.
const SET_ORDER: &str = "$setElementOrder";

/// The one field of all definitions whose patch strategy is `replace`, which is no default for maps, by the definition
/// that it is in.
const REPLACED_MAP: (&str, &str) = ("io.k8s.api.policy.v1.PodDisruptionBudgetSpec", "selector");

/// Applies a strategic merge patch to an object of a schema.
pub(super) fn apply(
    object: &Value,
    patch: &Value,
    schemas: &Schemas,
    schema: &Schema,
) -> Result<Value, Status> {
    let Value::Object(original) = object else {
        return Err(Status::bad_request("invalid JSON document"));
    };
    let patch = match patch {
        Value::Object(patch) => patch,
        // To upstream null is an empty map.
        Value::Null => return Ok(object.clone()),
        other => {
            let message = cannot_unmarshal(other, "value of type map[string]interface {}");
            return Err(Status::bad_request(message));
        }
    };
    let known = Known {
        schemas,
        schema: Some(schema),
    };
    let mut merged = original.clone();
    merge_map(known, &mut merged, patch)?;
    Ok(Value::Object(merged))
}

/// What is known of the value at hand.
#[derive(Clone, Copy)]
struct Known<'a> {
    schemas: &'a Schemas,
    schema: Option<&'a Schema>,
}

impl<'a> Known<'a> {
    fn field(self, name: &str) -> Self {
        let schema = self
            .schema
            .and_then(|schema| self.schemas.field(schema, name));
        Self { schema, ..self }
    }

    fn items(self) -> Self {
        let schema = self.schema.and_then(|schema| self.schemas.items(schema));
        Self { schema, ..self }
    }

    fn is_merged_list(self) -> bool {
        self.schema.is_some_and(|schema| schema.patch.is_merged)
    }

    fn merge_key(self) -> Option<&'a str> {
        self.schema?.patch.merge_key.as_deref()
    }

    /// Whether this field, a map, is replaced as a whole.
    fn is_replaced_map(self, field: &str) -> bool {
        let (definition, name) = REPLACED_MAP;
        field == name
            && matches!(
                self.schema.map(|schema| &schema.shape),
                Some(Shape::Defined(here)) if self.schemas.named(definition) == Some(*here)
            )
    }
}

fn merge_map(
    known: Known<'_>,
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<(), Status> {
    match patch.get(PATCH).map(Value::as_str) {
        None | Some(Some("merge")) => {}
        Some(Some("replace")) => {
            *original = plain_map(patch);
            return Ok(());
        }
        Some(Some("delete")) => {
            original.clear();
            return Ok(());
        }
        Some(_) => return Err(unknown_directive(patch)),
    }
    retain_keys(original, patch)?;
    for (name, value) in patch {
        if let Some(field) = directed(
            name,
            SET_ORDER,
            "invalid patch format of setElementOrder list",
        )? {
            let order = as_list(value)?;
            merge_ordered(known.field(field), original, patch, field, order)?;
        }
    }
    for (name, value) in patch {
        if let Some(field) = directed(
            name,
            DELETE_FROM_LIST,
            "invalid patch format of primitive list",
        )? {
            let Value::Array(values) = value else {
                return Err(Status::bad_request(
                    "invalid patch format of primitive list",
                ));
            };
            if let Some(Value::Array(items)) = original.get_mut(field) {
                list::remove_values(items, values);
            }
        } else if !is_directive(name) && !is_ordered(name, value, patch) {
            merge_field(known, original, name, value)?;
        }
    }
    Ok(())
}

fn merge_field(
    known: Known<'_>,
    original: &mut Map<String, Value>,
    name: &str,
    value: &Value,
) -> Result<(), Status> {
    match (original.get_mut(name), value) {
        (_, Value::Null) => {
            original.remove(name);
        }
        (Some(Value::Object(live)), Value::Object(fields)) if !known.is_replaced_map(name) => {
            merge_map(known.field(name), live, fields)?;
        }
        (Some(Value::Array(live)), Value::Array(items)) if known.field(name).is_merged_list() => {
            let (merged, new) = list::merge(known.field(name), live, items)?;
            let key = known.field(name).merge_key();
            *live = list::in_order(merged, &new, live, key)?;
        }
        _ => match plain(value) {
            Some(value) => {
                original.insert(name.to_owned(), value);
            }
            None => {
                original.remove(name);
            }
        },
    }
    Ok(())
}

/// Merges a list whose order the patch gives.
fn merge_ordered(
    known: Known<'_>,
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    field: &str,
    order: &[Value],
) -> Result<(), Status> {
    let live = match original.get(field) {
        None | Some(Value::Null) => None,
        Some(live) => Some(as_list(live)?),
    };
    let items = match patch.get(field) {
        // Null is for `merge_field`.
        Some(Value::Null) => return Ok(()),
        None => None,
        Some(items) => Some(as_list(items)?),
    };
    let key = known.merge_key();
    let empty: &[Value] = &[];
    let merged = match (live, items) {
        (None, None) => return Ok(()),
        (Some(live), None) => live.to_vec(),
        (live, Some(items)) => {
            list::check_order(items, order, key)?;
            if known.is_merged_list() {
                list::merge(known, live.unwrap_or(empty), items)?.0
            } else {
                items.iter().filter_map(plain_item).collect()
            }
        }
    };
    let sorted = list::in_order(merged, order, live.unwrap_or(empty), key)?;
    original.insert(field.to_owned(), Value::Array(sorted));
    Ok(())
}

/// Removes all fields but those that the patch says to retain.
fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<(), Status> {
    let Some(retained) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let bad_format = || Status::bad_request("invalid patch format of retainKeys");
    let retained = retained.as_array().ok_or_else(bad_format)?;
    let is_retained = |name: &str| retained.iter().any(|one| one.as_str() == Some(name));
    let contradicts = |(name, value): (&String, &Value)| {
        !value.is_null() && !is_directive(name) && !is_retained(name)
    };
    if patch.iter().any(contradicts) {
        return Err(bad_format());
    }
    original.retain(|name, _| is_retained(name));
    Ok(())
}

/// The field that a directive of this kind is about; none if it is something else.
fn directed<'a>(
    name: &'a str,
    directive: &str,
    bad_format: &str,
) -> Result<Option<&'a str>, Status> {
    match name.strip_prefix(directive) {
        None => Ok(None),
        Some(rest) => match rest.strip_prefix('/') {
            None => Err(Status::bad_request(bad_format)),
            some => Ok(some),
        },
    }
}

fn is_directive(name: &str) -> bool {
    name == PATCH
        || name == RETAIN_KEYS
        || name.starts_with(DELETE_FROM_LIST)
        || name.starts_with(SET_ORDER)
}

/// Whether [`merge_ordered`] has taken care of a field.
fn is_ordered(name: &str, value: &Value, patch: &Map<String, Value>) -> bool {
    !value.is_null() && patch.contains_key(&format!("{SET_ORDER}/{name}"))
}

/// A value of a patch as it goes into an object that has none there: without directives, and without null fields. None
/// if a directive deletes it.
fn plain(value: &Value) -> Option<Value> {
    match value {
        Value::Object(fields) => match fields.get(PATCH).map(Value::as_str) {
            Some(Some("delete")) => None,
            _ => Some(Value::Object(plain_map(fields))),
        },
        Value::Array(items) => Some(items.iter().filter_map(plain_item).collect()),
        other => Some(other.clone()),
    }
}

fn plain_map(fields: &Map<String, Value>) -> Map<String, Value> {
    fields
        .iter()
        .filter(|(name, value)| !value.is_null() && !is_directive(name))
        .filter_map(|(name, value)| Some((name.clone(), plain(value)?)))
        .collect()
}

/// The same of an item of a list, where a map with `$patch` is about other items: it is none itself.
fn plain_item(item: &Value) -> Option<Value> {
    match item.get(PATCH) {
        Some(_) => None,
        None => plain(item),
    }
}

fn as_list(value: &Value) -> Result<&[Value], Status> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(Status::bad_request(format!(
            "expected a []interface {{}}, but received a {}",
            go_type(other)
        ))),
    }
}

fn unknown_directive(patch: &Map<String, Value>) -> Status {
    let directive = go_text(&patch[PATCH]);
    Status::bad_request(format!(
        "unknown patch type: {directive} in map: {}",
        go_map(patch)
    ))
}

/// The type of a value as Go names it.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go prints it, which is how upstream's messages show it.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => go_list(items),
        Value::Object(fields) => go_map(fields),
        other => other.to_string(),
    }
}

fn go_list(items: &[Value]) -> String {
    let items: Vec<String> = items.iter().map(go_text).collect();
    format!("[{}]", items.join(" "))
}

fn go_map(fields: &Map<String, Value>) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}:{}", go_text(value)))
        .collect();
    format!("map[{}]", fields.join(" "))
}

#[cfg(test)]
mod tests;
