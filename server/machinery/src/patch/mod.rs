//! Patches: JSON patch, merge patch, strategic merge patch.

mod json;
mod merge;
mod strategic;

use serde_json::Value;

use crate::schema::{Definition, Schemas};
use crate::status::{Reason, Status};

/// Deepest nesting of a patch, and of what a JSON patch makes. Everything that walks a patch relies on it, so that
/// nobody can have a tree built that is too deep to be walked.
const MAX_DEPTH: usize = 100;

/// What kind of patch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// `application/json-patch+json`.
    Json,
    /// `application/merge-patch+json`.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
}

/// Applies a patch (a body of JSON or YAML, already parsed) to an object.
///
/// # Errors
///
/// If it is no patch, or does not apply: 400 or 422 as upstream has it. 413 if a JSON patch has too many operations,
/// 415 if a strategic merge patch is for an object without a definition.
pub fn apply(
    patch_type: PatchType,
    object: &Value,
    patch: &Value,
    schemas: &Schemas,
    definition: Option<Definition>,
) -> Result<Value, Status> {
    if is_deeper(patch, MAX_DEPTH) {
        return Err(Status::bad_request("exceeded max depth"));
    }
    match (patch_type, definition) {
        (PatchType::Json, _) => json::apply(object, patch),
        (PatchType::Merge, _) => merge::apply(object, patch),
        (PatchType::Strategic, Some(definition)) => {
            strategic::apply(object, patch, schemas, schemas.get(definition))
        }
        (PatchType::Strategic, None) => Err(Status::new(
            Reason::UnsupportedMediaType,
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )),
    }
}

/// Whether a value has more than so many levels. Stops where they end, however deep the value is.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let is_inner_deeper = |inner: &Value| levels == 0 || is_deeper(inner, levels - 1);
    match value {
        Value::Object(fields) => fields.values().any(is_inner_deeper),
        Value::Array(items) => items.iter().any(is_inner_deeper),
        _ => false,
    }
}

/// A patch that is well written, but does not fit the object. Upstream says no more than this.
fn inapplicable() -> Status {
    Status::new(
        Reason::Invalid,
        "the server rejected our request due to an error in our request",
    )
}

/// A value of another JSON type than one that reads into a Go type.
fn cannot_unmarshal(value: &Value, go_type: &str) -> String {
    let json_type = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {json_type} into Go {go_type}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TYPES: [PatchType; 3] = [PatchType::Json, PatchType::Merge, PatchType::Strategic];

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, _| json!({ "a": inner }))
    }

    #[test]
    fn a_strategic_patch_needs_a_definition() {
        let patch = json!({ "spec": {} });
        let refused = apply(
            PatchType::Strategic,
            &json!({}),
            &patch,
            &Schemas::default(),
            None,
        );
        let status = refused.unwrap_err();
        assert_eq!(status.reason.code(), 415);
        assert_eq!(
            status.message,
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        );
    }

    #[test]
    fn a_patch_that_is_nested_too_deeply_is_refused() {
        let schemas = Schemas::builtin();
        let pod = schemas.of_kind("", "v1", "Pod");
        for patch_type in TYPES {
            for levels in [MAX_DEPTH + 1, 1_000] {
                let deep = nested(levels);
                let patch = match patch_type {
                    PatchType::Json => json!([{ "op": "add", "path": "/a", "value": deep }]),
                    _ => deep,
                };
                let status = apply(patch_type, &json!({}), &patch, schemas, pod).unwrap_err();
                assert_eq!(status.reason.code(), 400);
            }
        }
        assert!(!is_deeper(&nested(MAX_DEPTH), MAX_DEPTH));
        assert!(is_deeper(&nested(MAX_DEPTH + 1), MAX_DEPTH));
    }

    #[test]
    fn the_object_that_is_patched_stays_as_it_is() {
        let schemas = Schemas::builtin();
        let pod = schemas.of_kind("", "v1", "Pod");
        let object = json!({ "metadata": { "name": "a" } });
        for patch_type in TYPES {
            let patch = match patch_type {
                PatchType::Json => json!([{ "op": "remove", "path": "/metadata" }]),
                _ => json!({ "metadata": null }),
            };
            let patched = apply(patch_type, &object, &patch, schemas, pod).unwrap();
            assert_eq!(patched, json!({}));
            assert_eq!(object, json!({ "metadata": { "name": "a" } }));
        }
    }
}
