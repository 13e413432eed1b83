//! Trees held against the schema, in place.

use serde_json::{Map, Value};

use crate::schema::{Definition, Schema, Schemas, Shape};

use super::DEPTH_LIMIT;
use super::findings::{Findings, Place};
use super::leaf::{self, Leaf, Leaves, Read};

/// Drops what the schema does not have.
pub(super) fn hold(
    value: &mut Value,
    schemas: &Schemas,
    definition: Definition,
    findings: &mut Findings<'_>,
) {
    let schema = Schema {
        shape: Shape::Defined(definition),
        ..Schema::default()
    };
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    let mut walk = Walk {
        schemas,
        leaves: Leaves::new(schemas),
        findings,
    };
    walk.known(value, &schema, &Place::Root, 0);
}

struct Walk<'f, 's, 'g> {
    schemas: &'s Schemas,
    leaves: Leaves,
    findings: &'f mut Findings<'g>,
}

impl Walk<'_, '_, '_> {
    /// A value that the schema knows, and that is not null.
    fn known(&mut self, value: &mut Value, schema: &Schema, place: &Place<'_>, depth: usize) {
        let (shape, definition) = leaf::resolve(self.schemas, schema);
        let is_nested = value.is_object() || value.is_array();
        if depth >= DEPTH_LIMIT && is_nested {
            self.refuse_depth(value);
            return;
        }
        let leaf = match (shape, value) {
            (Shape::Any, value) => {
                if !is_within(value, DEPTH_LIMIT - depth.min(DEPTH_LIMIT)) {
                    self.refuse_depth(value);
                }
                return;
            }
            (Shape::Object(fields), Value::Object(object)) => {
                object.retain(|key, value| {
                    let Some((name, schema)) = fields.fields.get_key_value(key.as_str()) else {
                        self.findings.unknown(place, key);
                        return false;
                    };
                    if !value.is_null() {
                        let inner = Place::Field(place, name, definition);
                        self.known(value, schema, &inner, depth + 1);
                    }
                    !value.is_null()
                });
                return;
            }
            (Shape::Map(values), Value::Object(map)) => {
                for (key, value) in map.iter_mut() {
                    self.inner(value, values, &Place::Key(place, key), depth + 1);
                }
                return;
            }
            (Shape::List(items), Value::Array(list)) => {
                for (index, value) in list.iter_mut().enumerate() {
                    self.inner(value, items, &Place::Index(place, index), depth + 1);
                }
                return;
            }
            // The most frequent of all; nothing to be done, nothing to be moved.
            (Shape::Text(crate::schema::Format::Plain), Value::String(_)) => return,
            (_, value) => (value_leaf(value), value),
        };
        let (leaf, value) = leaf;
        let resolved = (shape, definition);
        *value = self
            .leaves
            .hold(leaf, schema, resolved, place, self.findings);
    }

    fn refuse_depth(&mut self, value: &mut Value) {
        self.findings.refuse(|| "exceeded max depth".to_owned());
        *value = Value::Null;
    }

    /// A value of a map or a list: null stands for what Go's types begin with.
    fn inner(&mut self, value: &mut Value, schema: &Schema, place: &Place<'_>, depth: usize) {
        if value.is_null() {
            *value = leaf::zero(self.schemas.shape(schema));
        } else {
            self.known(value, schema, place, depth);
        }
    }
}

/// Whether a value is no deeper than that.
fn is_within(value: &Value, depth: usize) -> bool {
    match value {
        Value::Object(map) => depth > 0 && map.values().all(|value| is_within(value, depth - 1)),
        Value::Array(list) => depth > 0 && list.iter().all(|value| is_within(value, depth - 1)),
        _ => true,
    }
}

/// Takes a value out of its tree.
fn value_leaf(value: &mut Value) -> Leaf<'static> {
    match value.take() {
        Value::Null | Value::Object(_) => Leaf::Object,
        Value::Bool(value) => Leaf::Bool(value),
        Value::Number(number) => Leaf::Number(Read::Number(number)),
        Value::String(text) => Leaf::Text(text.into()),
        Value::Array(_) => Leaf::List,
    }
}
