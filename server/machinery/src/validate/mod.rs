//! What an object must be to be stored: names, metadata, and the rules of the common kinds.

use serde_json::Value;

use crate::kind::Kind;
use crate::status::FieldError;

/// Rules for what is created, after defaults are filled in.
pub fn created(_kind: &Kind, _object: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// Rules for what is changed: those of a new one, and what may not change. `subresource` is that which was written,
/// or empty.
pub fn updated(_kind: &Kind, _new: &Value, _old: &Value, _subresource: &str) -> Vec<FieldError> {
    Vec::new()
}
