//! How objects of each kind become rows: columns.yaml as it is written, and made ready for use.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::expression::{Context, Expression};
use super::{Cells, Column};
use crate::kind::Kind;
use crate::schema;

/// The table that ships with the binary.
const COLUMNS: &str = include_str!("../../data/columns.yaml");

/// How objects of a kind become rows.
pub(super) struct Layout {
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) columns: Vec<Column>,
    pub(super) conditions: Vec<RowCondition>,
}

/// A condition of a row, which comes about with a value of the object.
pub(super) struct RowCondition {
    value: Expression,
    is: String,
    /// As it stands in the row.
    pub(super) condition: Value,
}

impl RowCondition {
    pub(super) fn holds(&self, context: &Context<'_>) -> bool {
        let value = self.value.evaluate(context);
        value.is_some_and(|value| value.as_str() == Some(&self.is))
    }
}

/// columns.yaml, ready for use.
pub(super) struct Layouts {
    pub(super) of_kinds: Vec<Layout>,
    /// For kinds that are not listed: name and age.
    other: Layout,
    pub(super) name: Column,
    pub(super) age: Column,
}

/// Those that ship with the binary.
pub(super) static LAYOUTS: LazyLock<Layouts> =
    LazyLock::new(|| Layouts::read(COLUMNS).expect("the table of columns is part of the binary"));

/// The layout of a kind.
pub(super) fn layout(kind: &Kind) -> &'static Layout {
    layout_of(&kind.group, &kind.kind)
}

/// The same by group and kind.
pub(super) fn layout_of(group: &str, kind: &str) -> &'static Layout {
    let layouts = &*LAYOUTS;
    let mut known = layouts.of_kinds.iter();
    known
        .find(|layout| layout.kind == kind && layout.group == group)
        .unwrap_or(&layouts.other)
}

/// columns.yaml as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    common: BTreeMap<String, ColumnText>,
    kinds: Vec<LayoutText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LayoutText {
    #[serde(default)]
    group: String,
    kind: String,
    columns: Vec<CommonOrOwn>,
    #[serde(default)]
    row_conditions: Vec<RowConditionText>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CommonOrOwn {
    Common(String),
    Own(Box<ColumnText>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnText {
    name: String,
    #[serde(default = "string")]
    r#type: String,
    #[serde(default)]
    format: String,
    #[serde(default)]
    priority: i64,
    value: String,
    or: Option<Value>,
    /// The field whose description is that of the column: `core.v1.PodStatus.podIP`.
    about: Option<String>,
    words: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowConditionText {
    value: String,
    is: String,
    r#type: String,
    reason: String,
    message: String,
}

fn string() -> String {
    "string".to_owned()
}

impl Layouts {
    fn read(text: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let documents = schema::documents();
        let mut common = BTreeMap::new();
        for (name, column) in &file.common {
            common.insert(name.clone(), column.read(&documents)?);
        }
        let find = |name: &str| {
            let column = common.get(name).cloned();
            column.ok_or_else(|| format!("no common column {name:?}"))
        };
        let mut of_kinds = Vec::with_capacity(file.kinds.len());
        for kind in file.kinds {
            let columns = kind.columns.iter().map(|column| match column {
                CommonOrOwn::Common(name) => find(name),
                CommonOrOwn::Own(column) => column.read(&documents),
            });
            let conditions = kind.row_conditions.into_iter().map(RowConditionText::read);
            of_kinds.push(Layout {
                columns: columns.collect::<Result<_, _>>()?,
                conditions: conditions.collect::<Result<_, _>>()?,
                group: kind.group,
                kind: kind.kind,
            });
        }
        let (name, age) = (find("Name")?, find("Age")?);
        let other = Layout {
            group: String::new(),
            kind: String::new(),
            columns: vec![name.clone(), age.clone()],
            conditions: Vec::new(),
        };
        Ok(Self {
            of_kinds,
            other,
            name,
            age,
        })
    }
}

impl ColumnText {
    fn read(&self, documents: &Map<String, Value>) -> Result<Column, String> {
        let otherwise = self
            .or
            .clone()
            .unwrap_or_else(|| match self.r#type.as_str() {
                "integer" => json!(0),
                "boolean" => json!(false),
                _ => json!(""),
            });
        let words = self.words.clone();
        let description = match &self.about {
            Some(field) => {
                described(field, documents).ok_or_else(|| format!("{field} has no description"))?
            }
            None => words.unwrap_or_default(),
        };
        Ok(Column {
            name: self.name.clone(),
            cell_type: self.r#type.clone(),
            format: self.format.clone(),
            description,
            priority: self.priority,
            cells: Cells::Builtin(Expression::parse(&self.value)?, otherwise),
        })
    }
}

impl RowConditionText {
    fn read(self) -> Result<RowCondition, String> {
        Ok(RowCondition {
            value: Expression::parse(&self.value)?,
            is: self.is,
            condition: json!({
                "type": self.r#type,
                "status": "True",
                "reason": self.reason,
                "message": self.message,
            }),
        })
    }
}

/// The description of a field of a definition, which is named without what all definitions' names begin with.
fn described(field: &str, documents: &Map<String, Value>) -> Option<String> {
    let (definition, field) = field.rsplit_once('.')?;
    let package = match definition.starts_with("meta.") {
        true => "io.k8s.apimachinery.pkg.apis",
        false => "io.k8s.api",
    };
    let definition = documents.get(&format!("{package}.{definition}"))?;
    let description = definition["properties"][field]["description"].as_str()?;
    Some(description.to_owned())
}
