//! A value and where it is in its object: what rules read, and what their errors name.

use serde_json::Value;

use super::amount::Amount;

/// What is read where nothing is.
static NOTHING: Value = Value::Null;

/// A value, or nothing, at a place of an object. Reading never fails: whoever asks text of a number gets the empty
/// text, as upstream's types have it for what is left out.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    /// Such as `spec.containers[0].name`; empty for the whole object.
    pub(crate) path: String,
    /// What is there; null if nothing is.
    pub(crate) value: &'a Value,
}

impl<'a> Place<'a> {
    /// A whole object.
    pub(crate) fn whole(object: &'a Value) -> Self {
        Self {
            path: String::new(),
            value: object,
        }
    }

    /// A field; `a.b` for a field of a field.
    pub(crate) fn at(&self, names: &str) -> Self {
        let mut path = self.path.clone();
        let mut value = self.value;
        for name in names.split('.') {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(name);
            value = value.get(name).unwrap_or(&NOTHING);
        }
        Self { path, value }
    }

    /// The value of a map at a key, which may have dots in it.
    pub(crate) fn key(&self, key: &str) -> Self {
        Self {
            path: format!("{}[{key}]", self.path),
            value: self.value.get(key).unwrap_or(&NOTHING),
        }
    }

    /// The same value under the name of another place, where upstream's errors name another.
    pub(crate) fn called(&self, path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            value: self.value,
        }
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> impl Iterator<Item = Place<'a>> + use<'a> {
        let path = self.path.clone();
        let items = self.value.as_array().map_or(&[][..], Vec::as_slice);
        items.iter().enumerate().map(move |(index, value)| Place {
            path: format!("{path}[{index}]"),
            value,
        })
    }

    /// The entries of a map.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, Place<'a>)> + use<'a> {
        let path = self.path.clone();
        let entries = self.value.as_object().into_iter().flatten();
        entries.map(move |(key, value)| {
            let place = Place {
                path: format!("{path}[{key}]"),
                value,
            };
            (key.as_str(), place)
        })
    }

    /// Text; empty if there is none.
    pub(crate) fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// The texts of a list.
    pub(crate) fn texts(&self) -> Vec<&'a str> {
        let items = self.value.as_array().into_iter().flatten();
        items.filter_map(Value::as_str).collect()
    }

    /// A whole number, if there is one.
    pub(crate) fn number(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// Whether it is `true`.
    pub(crate) fn is_true(&self) -> bool {
        self.value.as_bool() == Some(true)
    }

    /// Whether there is anything.
    pub(crate) fn is_there(&self) -> bool {
        !self.value.is_null()
    }

    /// Whether there is nothing, or nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
            && matches!(
                self.value,
                Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_)
            )
    }

    /// How many items, entries or bytes there are.
    pub(crate) fn len(&self) -> usize {
        match self.value {
            Value::Array(items) => items.len(),
            Value::Object(entries) => entries.len(),
            Value::String(text) => text.len(),
            _ => 0,
        }
    }
}

/// Fields that are maps of amounts.
const AMOUNTS: [&str; 4] = ["capacity", "limits", "overhead", "requests"];

/// Values deeper than this are never the same: no kind has any, and the stack is finite.
const DEEPEST: usize = 200;

/// Whether two values mean the same: what is left out is the same as what is empty or zero.
pub(crate) fn is_same(one: &Value, other: &Value) -> bool {
    is_same_below(one, other, DEEPEST)
}

fn is_same_below(one: &Value, other: &Value, depth: usize) -> bool {
    if depth == 0 {
        return false;
    }
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let is_in_both = |(key, value): (&String, &Value)| {
                let counterpart = other.get(key).unwrap_or(&NOTHING);
                is_same_below(value, counterpart, depth - 1)
                    || (AMOUNTS.contains(&key.as_str()) && are_same_amounts(value, counterpart))
            };
            one.iter().all(is_in_both)
                && other
                    .iter()
                    .all(|(key, value)| one.contains_key(key) || is_zero(value, depth - 1))
        }
        (Value::Array(one), Value::Array(other)) => {
            let mut pairs = one.iter().zip(other);
            one.len() == other.len()
                && pairs.all(|(one, other)| is_same_below(one, other, depth - 1))
        }
        (Value::Null, other) | (other, Value::Null) => is_zero(other, depth),
        _ => one == other,
    }
}

/// Whether two maps hold the same amounts, however they are written: clients write them anew.
fn are_same_amounts(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else {
        return false;
    };
    let is_same = |(key, value): (&String, &Value)| {
        let amount = Amount::read(value);
        amount.is_some() && other.get(key).and_then(Amount::read) == amount
    };
    one.len() == other.len() && one.iter().all(is_same)
}

/// Whether a value is what upstream's types hold if nothing is given.
fn is_zero(value: &Value, depth: usize) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => {
            depth > 0 && entries.values().all(|value| is_zero(value, depth - 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_are_named_as_upstream_names_them() {
        let object = json!({ "spec": { "ports": [{ "port": 1 }], "map": { "a.b/c": "x" } } });
        let whole = Place::whole(&object);
        let port = whole.at("spec.ports").items().next().unwrap().at("port");
        assert_eq!(
            (port.path.as_str(), port.number()),
            ("spec.ports[0].port", Some(1))
        );
        let entry = whole.at("spec.map").key("a.b/c");
        assert_eq!(
            (entry.path.as_str(), entry.text()),
            ("spec.map[a.b/c]", "x")
        );
        assert!(!whole.at("spec.none.below").is_there());
    }

    #[test]
    fn what_is_left_out_is_the_same_as_what_is_empty() {
        assert!(is_same(
            &json!({ "a": 1 }),
            &json!({ "a": 1, "b": [], "c": { "d": "" } })
        ));
        assert!(is_same(&json!({ "b": null }), &json!({})));
        assert!(!is_same(&json!({ "a": 1 }), &json!({ "a": 2 })));
        assert!(!is_same(&json!([1]), &json!([1, 2])));
        assert!(!is_same(&json!({}), &json!({ "a": true })));
    }

    #[test]
    fn amounts_are_the_same_however_they_are_written() {
        let of = |cpu: &str| json!({ "limits": { "cpu": cpu }, "labels": { "cpu": "1" } });
        assert!(is_same(&of("0.5"), &of("500m")));
        assert!(!is_same(&of("0.5"), &of("501m")));
        let labels = |cpu: &str| json!({ "labels": { "cpu": cpu } });
        assert!(!is_same(&labels("1"), &labels("1.0")));
    }

    #[test]
    fn what_is_too_deep_is_not_followed() {
        let mut deep = json!(1);
        for _ in 0..1000 {
            deep = json!([deep]);
        }
        assert!(!is_same(&deep, &deep));
    }
}
