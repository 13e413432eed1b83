//! Objects as rows of a table, as `kubectl get` prints them: `data/columns.yaml`.
//!
//! What the columns of a kind are is data, read once, when the first table is made (`layout`). A cell is a path into
//! the object (`path`) or one of a few functions over paths (`functions`), whichever columns.yaml says (`expression`).
//! Custom kinds bring columns of their own (`custom`).

mod age;
mod cluster;
mod custom;
mod expression;
mod functions;
mod layout;
mod networks;
mod path;
mod pods;
mod selectors;
mod storage;
#[cfg(test)]
mod tests;
mod tree;
mod workloads;

use std::cell::OnceCell;

use serde_json::{Map, Value, json};

pub use self::custom::custom_columns;
use self::expression::{Context, Expression, List};
use self::layout::{Layout, layout, layout_of};
use self::path::Path;
use crate::kind::Kind;

/// What goes into `object` of each row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// The whole object.
    Object,
    /// Nothing.
    None,
}

/// A column of a kind's table.
#[derive(Clone, Debug)]
pub struct Column {
    /// As it is printed, but for the case of letters.
    pub name: String,
    /// Type of its cells, as OpenAPI names it.
    pub cell_type: String,
    /// Says more of the type: `name` for that of the object.
    pub format: String,
    /// For people.
    pub description: String,
    /// 0, or more if it is printed only when asked for.
    pub priority: i64,
    cells: Cells,
}

/// How the cells of a column are made.
#[derive(Clone, Debug)]
enum Cells {
    /// As columns.yaml says, and what stands there if an object has nothing for it.
    Builtin(Expression, Value),
    /// By the path that a custom kind gave.
    Custom(Path),
}

impl Column {
    /// As it stands in `columnDefinitions`.
    #[must_use]
    pub fn definition(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.cell_type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }

    fn cell(&self, context: &Context<'_>) -> Value {
        match &self.cells {
            Cells::Builtin(expression, otherwise) => expression
                .evaluate(context)
                .unwrap_or_else(|| otherwise.clone()),
            Cells::Custom(path) => {
                custom::custom_cell(&self.cell_type, path.first(context.object), context.now)
            }
        }
    }
}

/// The columns of a kind that ships with the binary; name and age for any other.
#[must_use]
pub fn columns(kind: &Kind) -> &'static [Column] {
    &layout(kind).columns
}

/// A `Table` of the objects of a list. `now` is in seconds since 1970; `metadata` becomes the table's.
#[must_use]
pub fn table(
    kind: &Kind,
    objects: &[Value],
    include: Include,
    has_columns: bool,
    metadata: Value,
    now: i64,
) -> Value {
    let layout = layout(kind);
    let siblings = List::of(objects);
    let rows = Rows {
        layout,
        include,
        now,
    };
    let rows = objects.iter().map(|object| rows.row(object, &siblings));
    whole(&layout.columns, rows.collect(), has_columns, metadata)
}

/// A `Table` of one object that is no part of a list, as a get or an event of a watch has it. It differs from a list of
/// one: only in lists is the storage class marked that is the default.
#[must_use]
pub fn table_of_one(
    kind: &Kind,
    object: &Value,
    include: Include,
    has_columns: bool,
    metadata: Value,
    now: i64,
) -> Value {
    one(layout(kind), object, include, has_columns, metadata, now)
}

/// A `Table` of a `Scale` of `autoscaling/v1`, as the subresource `scale` has it, whatever kind it is of.
#[must_use]
pub fn table_of_scale(
    scale: &Value,
    include: Include,
    has_columns: bool,
    metadata: Value,
    now: i64,
) -> Value {
    let layout = layout_of("autoscaling", "Scale");
    one(layout, scale, include, has_columns, metadata, now)
}

fn one(
    layout: &'static Layout,
    object: &Value,
    include: Include,
    has_columns: bool,
    metadata: Value,
    now: i64,
) -> Value {
    let rows = Rows {
        layout,
        include,
        now,
    };
    let row = rows.row(object, &List::of(&[]));
    whole(&layout.columns, vec![row], has_columns, metadata)
}

/// A `Table` of objects of a custom kind, with the columns that [`custom_columns`] made for it.
#[must_use]
pub fn custom_table(
    columns: &[Column],
    objects: &[Value],
    include: Include,
    has_columns: bool,
    metadata: Value,
    now: i64,
) -> Value {
    let siblings = List::of(objects);
    let rows = objects.iter().map(|object| {
        let context = Context {
            object,
            now,
            list: &siblings,
        };
        let cells = columns.iter().map(|column| column.cell(&context)).collect();
        row(cells, object, include)
    });
    whole(columns, rows.collect(), has_columns, metadata)
}

/// An object reduced to its metadata: `PartialObjectMetadata`.
#[must_use]
pub fn partial(object: &Value) -> Value {
    let mut partial = Map::new();
    partial.insert("kind".to_owned(), "PartialObjectMetadata".into());
    partial.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
    // Moved in by hand, as `json!` would go through a serializer for what is most of the work of a row.
    let metadata = object.get("metadata").cloned();
    let metadata = metadata.unwrap_or_else(|| Value::Object(Map::new()));
    partial.insert("metadata".to_owned(), metadata);
    Value::Object(partial)
}

/// The objects of a list reduced to their metadata; `metadata` becomes the list's.
#[must_use]
pub fn partial_list(objects: &[Value], metadata: Value) -> Value {
    let items: Vec<Value> = objects.iter().map(partial).collect();
    let mut list = json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1" });
    list["metadata"] = metadata;
    list["items"] = items.into();
    list
}

fn whole(columns: &[Column], rows: Vec<Value>, has_columns: bool, metadata: Value) -> Value {
    let mut table = Map::new();
    table.insert("kind".to_owned(), "Table".into());
    table.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
    table.insert("metadata".to_owned(), metadata);
    if has_columns {
        let definitions = columns.iter().map(Column::definition).collect();
        table.insert("columnDefinitions".to_owned(), definitions);
    }
    table.insert("rows".to_owned(), Value::Array(rows));
    Value::Object(table)
}

fn row(cells: Vec<Value>, object: &Value, include: Include) -> Value {
    let mut row = Map::new();
    row.insert("cells".to_owned(), Value::Array(cells));
    let object = match include {
        Include::Metadata => Some(partial(object)),
        Include::Object => Some(object.clone()),
        Include::None => None,
    };
    row.extend(object.map(|object| ("object".to_owned(), object)));
    Value::Object(row)
}

impl<'a> List<'a> {
    fn of(objects: &'a [Value]) -> Self {
        let default_class = OnceCell::new();
        Self {
            objects,
            default_class,
        }
    }
}

/// What all rows of a table have in common.
struct Rows {
    layout: &'static Layout,
    include: Include,
    now: i64,
}

impl Rows {
    fn row(&self, object: &Value, list: &List<'_>) -> Value {
        let context = Context {
            object,
            now: self.now,
            list,
        };
        let columns = self.layout.columns.iter();
        let cells = columns.map(|column| column.cell(&context)).collect();
        let mut row = row(cells, object, self.include);
        let conditions = self.layout.conditions.iter();
        let mut conditions = conditions
            .filter(|condition| condition.holds(&context))
            .peekable();
        if conditions.peek().is_some() {
            row["conditions"] = conditions.map(|one| one.condition.clone()).collect();
        }
        row
    }
}
