//! What an object gets that nobody wrote into it: `data/defaults.yaml`, and a few rules that need more than a row.
//!
//! Upstream reads an object into a Go struct, fills in defaults, and writes the struct; what comes back differs from
//! what came in by all three. [`fill`] does the same in one walk along the schema, and at each object in this order:
//!
//! 1. optional fields that are empty go, if Go would not write them (`data/forms.yaml`);
//! 2. rows of the table are set where nothing is;
//! 3. code does what rows cannot say (`rules.rs`);
//! 4. what Go writes even if nobody gave it is added, such as `resources: {}`.
//!
//! Then come the fields of the object, so that a default may reach into what is filled in later. Amounts and times are
//! written in their one form.

mod create;
mod image;
mod rules;
mod table;
mod time;

use serde_json::{Map, Value};

use crate::kind::Kind;
use crate::quantity;
use crate::schema::{Format, Schema, Schemas, Shape};

pub(crate) use create::qos_class;
pub use create::{prepare_create, prepare_status, prepare_update};

use table::Table;

/// The depth below which an object is left as it is. Only schemas of custom kinds nest without end.
const DEEPEST: usize = 200;

/// Fills in what is missing, as upstream does on create and on every write. Idempotent.
///
/// What is there stays, but for what upstream itself does not keep: optional fields that are empty, `stringData`, and
/// the spelling of amounts and times. Values of wrong types are left alone.
pub fn fill(kind: &Kind, object: &mut Value) {
    let schemas = Schemas::builtin();
    match kind.schema {
        Some(definition) => Walk::builtin().visit(&defined(definition), object, 0),
        // Custom kinds have defaults in their own schema, and the metadata of all.
        None => {
            let metadata = schemas.named("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
            if let (Some(metadata), Some(value)) = (metadata, object.get_mut("metadata")) {
                Walk::builtin().visit(&defined(metadata), value, 0);
            }
        }
    }
}

fn defined(definition: crate::schema::Definition) -> Schema {
    Schema {
        shape: Shape::Defined(definition),
        ..Schema::default()
    }
}

/// What each step of the way needs.
#[derive(Clone, Copy)]
struct Walk {
    schemas: &'static Schemas,
    table: &'static Table,
    /// Amounts in the maps of the object at hand keep what is finer than a thousandth.
    is_unrounded: bool,
}

impl Walk {
    fn builtin() -> Self {
        Self {
            schemas: Schemas::builtin(),
            table: Table::builtin(),
            is_unrounded: false,
        }
    }

    fn visit(&self, schema: &Schema, value: &mut Value, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        match (&schema.shape, value) {
            (Shape::Defined(definition), value) => {
                if Some(*definition) == self.table.micro_time {
                    time::normalise(value, time::Precision::Micros);
                    return;
                }
                let schema = self.schemas.get(*definition);
                let plan = self.table.plan(*definition);
                if let (Some(plan), Value::Object(object)) = (plan, &mut *value) {
                    plan.apply(object);
                }
                let walk = Self {
                    is_unrounded: plan.is_some_and(|plan| plan.is_unrounded),
                    ..*self
                };
                walk.visit(schema, value, depth + 1);
            }
            (Shape::Object(fields), Value::Object(object)) => {
                for (name, value) in object {
                    if let Some(field) = fields.fields.get(name.as_str()) {
                        self.visit(field, value, depth + 1);
                    }
                }
            }
            (Shape::Map(values), Value::Object(entries)) => {
                let are_amounts = matches!(self.schemas.shape(values), Shape::Quantity);
                for value in entries.values_mut() {
                    if are_amounts && !self.is_unrounded {
                        quantity::canonicalise_resource(value);
                    } else {
                        self.visit(values, value, depth + 1);
                    }
                }
            }
            (Shape::List(items), Value::Array(values)) => {
                for value in values {
                    self.visit(items, value, depth + 1);
                }
            }
            (Shape::Quantity, value) => quantity::canonicalise(value),
            (Shape::Text(Format::DateTime), value) => {
                time::normalise(value, time::Precision::Seconds)
            }
            _ => {}
        }
    }
}

/// An object by the name of its field; none if it is not there, or something else.
fn object_at<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
    object.get(name)?.as_object()
}

/// The same to be changed.
fn object_in<'a>(
    object: &'a mut Map<String, Value>,
    name: &str,
) -> Option<&'a mut Map<String, Value>> {
    object.get_mut(name)?.as_object_mut()
}

/// The same, made if it is not there; none if something else is.
fn object_of<'a>(
    object: &'a mut Map<String, Value>,
    name: &str,
) -> Option<&'a mut Map<String, Value>> {
    object
        .entry(name)
        .or_insert_with(|| Value::Object(Map::new()))
        .as_object_mut()
}

/// The objects in a list by the name of its field.
fn objects_at<'a>(
    object: &'a Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = &'a Map<String, Value>> {
    let items = object.get(name).and_then(Value::as_array);
    items.into_iter().flatten().filter_map(Value::as_object)
}

/// The same to be changed. What is not there stays so: to index a tree that may change puts null there.
pub fn objects_in<'a>(
    object: &'a mut Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let items = object.get_mut(name).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Text by the name of its field; empty if it is not there, or something else.
fn text_at<'a>(object: &'a Map<String, Value>, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
