//! What an object gets that nobody wrote into it: `data/defaults.yaml`, and a few rules that need more than a row.

use serde_json::Value;

use crate::kind::Kind;

/// Fills in what is missing, as upstream does on create and on every write. Must be idempotent.
pub fn fill(_kind: &Kind, _object: &mut Value) {}
