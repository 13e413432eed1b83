//! The tables of defaults and forms, read once and put in order by definition.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::rules::{self, Rule};
use crate::schema::{Definition, Format, Schema, Schemas, Shape};

/// Rows of defaults.
const DEFAULTS: &str = include_str!("../../data/defaults.yaml");

/// Which fields Go's types write, and which they do not.
const FORMS: &str = include_str!("../../data/forms.yaml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultsFile {
    defaults: Vec<RowText>,
    unrounded: Vec<String>,
    created: Vec<CreatedText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowText {
    at: Vec<String>,
    #[serde(default)]
    when: WhenText,
    set: Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhenText {
    #[serde(default)]
    is: Map<String, Value>,
    #[serde(default)]
    has: Vec<String>,
    #[serde(default)]
    lacks: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreatedText {
    at: Vec<String>,
    status: Value,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FormText {
    #[serde(default)]
    kept: HashSet<String>,
    #[serde(default)]
    dropped: HashSet<String>,
    #[serde(default)]
    objects: Vec<String>,
    #[serde(default)]
    zeros: Map<String, Value>,
}

/// Names of fields, from the outermost on.
type Path = Vec<Box<str>>;

fn path(text: &str) -> Path {
    text.split('.').map(Into::into).collect()
}

/// A field of an object, or of an object in it.
#[derive(Clone)]
struct Place {
    path: Path,
    /// Empty counts as not there, as it does where Go has no pointer.
    is_missing_if_empty: bool,
}

impl Place {
    fn value<'a>(&self, object: &'a Map<String, Value>) -> Option<&'a Value> {
        let (last, above) = self.path.split_last()?;
        let mut object = object;
        for name in above {
            object = super::object_at(object, name)?;
        }
        object
            .get(&**last)
            .filter(|value| !(self.is_missing_if_empty && is_empty(value)))
    }

    /// Sets the field if it is not there, unless something on the way to it is no object.
    fn set(&self, object: &mut Map<String, Value>, value: &Value) {
        let Some((last, above)) = self.path.split_last() else {
            return;
        };
        if self.value(object).is_some() {
            return;
        }
        let mut object = object;
        for name in above {
            let Some(next) = super::object_of(object, name) else {
                return;
            };
            object = next;
        }
        object.insert((**last).to_owned(), value.clone());
    }
}

/// Fields that are set if a condition holds.
#[derive(Clone)]
struct Row {
    is: Vec<(Place, Vec<Value>)>,
    has: Vec<Place>,
    lacks: Vec<Place>,
    set: Vec<(Place, Value)>,
}

impl Row {
    fn apply(&self, object: &mut Map<String, Value>) {
        let is_one_of = |(place, values): &(Place, Vec<Value>)| {
            place
                .value(object)
                .is_some_and(|value| values.contains(value))
        };
        let holds = self.is.iter().all(is_one_of)
            && self.has.iter().all(|place| place.value(object).is_some())
            && self.lacks.iter().all(|place| place.value(object).is_none());
        if holds {
            for (place, value) in &self.set {
                place.set(object, value);
            }
        }
    }
}

/// Whether a value is what Go has where nobody gave any.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is_set) => !is_set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// What is to be done with objects of a definition.
#[derive(Default)]
pub(super) struct Plan {
    /// Fields that go if they are empty.
    dropped: HashSet<Box<str>>,
    rows: Vec<Row>,
    rule: Option<Rule>,
    /// Amounts in its maps keep what is finer than a thousandth.
    pub(super) is_unrounded: bool,
    /// Fields that are added, each with its value.
    added: Vec<(Box<str>, Value)>,
}

impl Plan {
    /// Does it, in the order that [`super`] tells. Null is nothing, as it is where Go has a pointer.
    pub(super) fn apply(&self, object: &mut Map<String, Value>) {
        object.retain(|name, value| {
            let is_dropped = is_empty(value) && self.dropped.contains(name.as_str());
            !is_dropped && !value.is_null()
        });
        for row in &self.rows {
            row.apply(object);
        }
        if let Some(rule) = self.rule {
            rule(object);
        }
        for (name, value) in &self.added {
            if !object.contains_key(&**name) {
                object.insert((**name).to_owned(), value.clone());
            }
        }
    }
}

/// All plans.
pub(super) struct Table {
    plans: HashMap<Definition, Plan>,
    created: HashMap<Definition, Value>,
    /// The definition of times that are written with their microseconds.
    pub(super) micro_time: Option<Definition>,
}

impl Table {
    /// That which ships with the binary.
    ///
    /// # Panics
    ///
    /// If a table in the binary is damaged.
    pub(super) fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Table> = LazyLock::new(|| {
            let defaults = serde_saphyr::from_str(DEFAULTS)
                .expect("the table of defaults is part of the binary");
            let forms =
                serde_saphyr::from_str(FORMS).expect("the table of forms is part of the binary");
            Table::of(defaults, &forms, Schemas::builtin())
        });
        &BUILTIN
    }

    fn of(file: DefaultsFile, forms: &HashMap<String, FormText>, schemas: &Schemas) -> Self {
        let forms: HashMap<Definition, &FormText> = forms
            .iter()
            .filter_map(|(name, form)| Some((named(schemas, name)?, form)))
            .collect();
        let mut plans: HashMap<Definition, Plan> = HashMap::new();
        for definition in reachable(schemas, forms.keys().copied()) {
            let plan = form_plan(schemas, definition, forms.get(&definition).copied());
            plans.insert(definition, plan);
        }
        for row in file.defaults {
            for definition in row.at.iter().filter_map(|name| named(schemas, name)) {
                let row = compile(&row, definition, &forms, schemas);
                plans.entry(definition).or_default().rows.push(row);
            }
        }
        for definition in file
            .unrounded
            .iter()
            .filter_map(|name| named(schemas, name))
        {
            plans.entry(definition).or_default().is_unrounded = true;
        }
        for (name, rule) in rules::RULES {
            if let Some(definition) = named(schemas, name) {
                plans.entry(definition).or_default().rule = Some(*rule);
            }
        }
        let created = file.created.into_iter().flat_map(|created| {
            let definitions = created.at.into_iter();
            definitions
                .filter_map(move |name| Some((named(schemas, &name)?, created.status.clone())))
        });
        Self {
            plans,
            created: created.collect(),
            micro_time: named(schemas, "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"),
        }
    }

    /// What is to be done with objects of a definition, if anything.
    pub(super) fn plan(&self, definition: Definition) -> Option<&Plan> {
        self.plans.get(&definition)
    }

    /// What the status of a kind is when it is created, if it does not stay as it is.
    pub(super) fn created_status(&self, definition: Definition) -> Option<&Value> {
        self.created.get(&definition)
    }
}

/// All definitions that some are made of, and those themselves.
fn reachable(schemas: &Schemas, from: impl Iterator<Item = Definition>) -> HashSet<Definition> {
    let mut found: HashSet<Definition> = from.collect();
    let mut next: Vec<&Schema> = found
        .iter()
        .map(|definition| schemas.get(*definition))
        .collect();
    while let Some(schema) = next.pop() {
        match &schema.shape {
            Shape::Defined(definition) if found.insert(*definition) => {
                next.push(schemas.get(*definition))
            }
            Shape::List(schema) | Shape::Map(schema) => next.push(schema),
            Shape::Object(fields) => next.extend(fields.fields.values()),
            _ => {}
        }
    }
    found
}

/// A definition by its name as the tables have it.
fn named(schemas: &Schemas, name: &str) -> Option<Definition> {
    if name.starts_with("io.k8s.") {
        schemas.named(name)
    } else {
        schemas.named(&format!("io.k8s.api.{name}"))
    }
}

/// Whether Go can tell a value of this shape from none only by a pointer.
fn has_empty_value(schemas: &Schemas, shape: &Shape) -> bool {
    match shape {
        Shape::Boolean | Shape::Integer { .. } | Shape::Number => true,
        Shape::Text(format) => *format != Format::DateTime,
        Shape::List(_) | Shape::Map(_) => true,
        Shape::Defined(definition) => {
            matches!(
                schemas.get(*definition).shape,
                Shape::List(_) | Shape::Map(_)
            )
        }
        _ => false,
    }
}

/// The part of a plan that comes from Go's types.
fn form_plan(schemas: &Schemas, definition: Definition, form: Option<&FormText>) -> Plan {
    let Shape::Object(fields) = &schemas.get(definition).shape else {
        return Plan::default();
    };
    let is_kept = |name: &str| {
        form.is_some_and(|form| form.kept.contains(name) || form.zeros.contains_key(name))
    };
    let is_dropped = |name: &str| form.is_some_and(|form| form.dropped.contains(name));
    let dropped = fields.fields.iter().filter(|(name, field)| {
        let is_written = is_kept(name) || (fields.required.contains(*name) && !is_dropped(name));
        !is_written && has_empty_value(schemas, &field.shape)
    });
    let objects = form.into_iter().flat_map(|form| &form.objects);
    let zeros = form.into_iter().flat_map(|form| &form.zeros);
    let added = objects
        .map(|name| (name.as_str().into(), Value::Object(Map::new())))
        .chain(zeros.map(|(name, value)| (name.as_str().into(), value.clone())));
    Plan {
        dropped: dropped.map(|(name, _)| name.clone()).collect(),
        added: added.collect(),
        ..Plan::default()
    }
}

fn compile(
    row: &RowText,
    definition: Definition,
    forms: &HashMap<Definition, &FormText>,
    schemas: &Schemas,
) -> Row {
    let place = |text: &String| {
        let path = path(text);
        let (owner, field) = resolve(schemas, definition, &path);
        let is_kept = path.last().is_some_and(|last| {
            let form = owner.and_then(|owner| forms.get(&owner));
            form.is_some_and(|form| form.kept.contains(&**last))
        });
        Place {
            path,
            is_missing_if_empty: !is_kept
                && field.is_some_and(|field| has_empty_value(schemas, &field.shape)),
        }
    };
    let values = |value: &Value| value.as_array().cloned().unwrap_or_default();
    Row {
        is: row
            .when
            .is
            .iter()
            .map(|(text, value)| (place(text), values(value)))
            .collect(),
        has: row.when.has.iter().map(place).collect(),
        lacks: row.when.lacks.iter().map(place).collect(),
        set: row
            .set
            .iter()
            .map(|(text, value)| (place(text), value.clone()))
            .collect(),
    }
}

/// The definition that a path ends in, and the field there.
fn resolve<'a>(
    schemas: &'a Schemas,
    definition: Definition,
    path: &[Box<str>],
) -> (Option<Definition>, Option<&'a Schema>) {
    let mut owner = Some(definition);
    let mut field = None;
    let mut schema = schemas.get(definition);
    for (place, name) in path.iter().enumerate() {
        field = schemas.field(schema, name);
        let Some(found) = field else {
            return (None, None);
        };
        if place + 1 < path.len() {
            owner = match found.shape {
                Shape::Defined(definition) => Some(definition),
                _ => None,
            };
        }
        schema = found;
    }
    (owner, field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> DefaultsFile {
        serde_saphyr::from_str(DEFAULTS).unwrap()
    }

    #[test]
    fn every_definition_of_the_tables_is_there() {
        let schemas = Schemas::builtin();
        let file = defaults();
        let forms: HashMap<String, FormText> = serde_saphyr::from_str(FORMS).unwrap();
        let names = file.defaults.iter().flat_map(|row| &row.at);
        let names = names.chain(file.created.iter().flat_map(|row| &row.at));
        let names = names.chain(&file.unrounded);
        for name in names.chain(forms.keys()) {
            assert!(named(schemas, name).is_some(), "{name}");
        }
        for (name, _) in rules::RULES {
            assert!(named(schemas, name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_path_of_the_rows_is_a_field() {
        let schemas = Schemas::builtin();
        for row in defaults().defaults {
            for name in &row.at {
                let definition = named(schemas, name).unwrap();
                let conditions = row
                    .when
                    .is
                    .keys()
                    .chain(&row.when.has)
                    .chain(&row.when.lacks);
                for text in row.set.keys().chain(conditions) {
                    let (_, field) = resolve(schemas, definition, &path(text));
                    assert!(field.is_some(), "{name} {text}");
                }
            }
        }
    }

    #[test]
    fn every_field_of_the_forms_is_there() {
        let schemas = Schemas::builtin();
        let forms: HashMap<String, FormText> = serde_saphyr::from_str(FORMS).unwrap();
        for (name, form) in &forms {
            let definition = schemas.get(named(schemas, name).unwrap());
            let fields = form
                .kept
                .iter()
                .chain(&form.objects)
                .chain(form.zeros.keys());
            for field in fields {
                assert!(schemas.field(definition, field).is_some(), "{name} {field}");
            }
        }
    }
}
