//! Reading of objects in which what is missing is the same as what is empty, as it is in Go.

use serde_json::Value;

/// The text of a value, or nothing.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The number of a value, or 0.
pub(super) fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// The items of a list, or none.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether a value is `true`.
pub(super) fn is_true(value: &Value) -> bool {
    value == &Value::Bool(true)
}

/// How many items or fields there are.
pub(super) fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    }
}

/// The fields of an object in the order of their names.
pub(super) fn sorted_fields(value: &Value) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = value.as_object().into_iter().flatten().collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    fields
}

/// A value as it is printed: text as it is, everything else as JSON.
pub(super) fn printed(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether there is nothing in a value.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// The first condition of a type.
pub(super) fn condition<'a>(conditions: &'a Value, name: &str) -> Option<&'a Value> {
    items(conditions)
        .iter()
        .find(|one| text(&one["type"]) == name)
}

/// Whether the first condition of a type is `True`.
pub(super) fn has_condition(conditions: &Value, name: &str) -> bool {
    condition(conditions, name).is_some_and(|one| text(&one["status"]) == "True")
}

/// The first few of a list with `,` between them, and how many there are more.
pub(super) fn first_few<'a>(
    all: impl Iterator<Item = impl AsRef<str> + 'a>,
    at_most: usize,
) -> String {
    let mut shown = String::new();
    let mut count = 0;
    for one in all {
        if count < at_most {
            if count > 0 {
                shown.push(',');
            }
            shown.push_str(one.as_ref());
        }
        count += 1;
    }
    if count > at_most {
        shown.push_str(&format!(" + {} more...", count - at_most));
    }
    shown
}
