//! Merge patch, RFC 7396: maps are merged, null removes, everything else replaces.

use serde_json::{Map, Value};

use super::cannot_unmarshal;
use crate::status::Status;

/// Applies a merge patch. It must be a map: the RFC would let any other value replace the object, but no object is one.
pub(super) fn apply(object: &Value, patch: &Value) -> Result<Value, Status> {
    match patch {
        Value::Object(patch) => {
            let mut merged = object.clone();
            merge(&mut merged, patch);
            Ok(merged)
        }
        Value::Null => Err(Status::bad_request("Invalid JSON Patch")),
        other => Err(Status::bad_request(format!(
            "error decoding patch: {}",
            cannot_unmarshal(other, "value of type map[string]interface {}")
        ))),
    }
}

fn merge(target: &mut Value, patch: &Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else {
        return;
    };
    for (name, value) in patch {
        match value {
            Value::Null => {
                fields.remove(name);
            }
            Value::Object(inner) => {
                merge(fields.entry(name.as_str()).or_insert(Value::Null), inner)
            }
            other => {
                fields.insert(name.clone(), other.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_examples_of_the_rfc_hold() {
        // Appendix A, but for the rows whose patch is no map.
        for (object, patch, merged) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (
                json!({"a":"b","b":"c"}),
                json!({"a":null}),
                json!({"b":"c"}),
            ),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
        ] {
            assert_eq!(apply(&object, &patch), Ok(merged), "{object} {patch}");
        }
    }

    #[test]
    fn a_patch_that_is_no_map_is_refused() {
        let refused = |patch: Value| apply(&json!({}), &patch).unwrap_err();
        assert_eq!(refused(json!(null)).message, "Invalid JSON Patch");
        let status = refused(json!([1]));
        assert_eq!(status.reason.code(), 400);
        assert_eq!(
            status.message,
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
        );
    }
}
