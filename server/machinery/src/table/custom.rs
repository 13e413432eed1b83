//! Columns that custom kinds bring with them: `additionalPrinterColumns`.

use serde_json::{Value, json};

use super::age;
use super::layout::LAYOUTS;
use super::path::Path;
use super::tree::{items, number, printed, text};
use super::{Cells, Column};

/// The columns of a custom kind by the `additionalPrinterColumns` of its version: the name, and those; or the age if
/// there are none.
///
/// # Errors
///
/// If a path cannot be read; the text names it.
pub fn custom_columns(printer_columns: &Value) -> Result<Vec<Column>, String> {
    let mut columns = vec![LAYOUTS.name.clone()];
    for column in items(printer_columns) {
        columns.push(custom_column(column)?);
    }
    if columns.len() == 1 {
        columns.push(Column {
            cell_type: "date".to_owned(),
            cells: custom_cells(".metadata.creationTimestamp")?,
            ..LAYOUTS.age.clone()
        });
    }
    Ok(columns)
}

fn custom_column(column: &Value) -> Result<Column, String> {
    let path = text(&column["jsonPath"]);
    let description = match text(&column["description"]) {
        "" => format!("Custom resource definition column (in JSONPath format): {path}"),
        own => own.to_owned(),
    };
    Ok(Column {
        name: text(&column["name"]).to_owned(),
        cell_type: text(&column["type"]).to_owned(),
        format: text(&column["format"]).to_owned(),
        description,
        priority: number(&column["priority"]),
        cells: custom_cells(path)?,
    })
}

fn custom_cells(path: &str) -> Result<Cells, String> {
    let read = Path::parse(path);
    read.map(Cells::Custom)
        .map_err(|why| format!("unrecognized column definition {path:?}: {why}"))
}

/// What stands in a column of a type; `null` if the value is of another.
pub(super) fn custom_cell(cell_type: &str, value: Option<&Value>, now: i64) -> Value {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Value::Null;
    };
    match cell_type {
        "string" => printed(value).into(),
        "integer" => whole(value),
        "number" if value.is_number() => value.clone(),
        "boolean" if value.is_boolean() => value.clone(),
        "date" => match value.as_str() {
            Some(time) if age::seconds(time).is_none() => json!("<invalid>"),
            Some(time) => age::since(time, now).into(),
            None => Value::Null,
        },
        _ => Value::Null,
    }
}

/// A number without what comes after the point.
fn whole(value: &Value) -> Value {
    if value.is_i64() {
        return value.clone();
    }
    match value.as_f64() {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "it is what is wanted, and saturates"
        )]
        Some(number) => (number as i64).into(),
        None => Value::Null,
    }
}
