//! OpenAPI documents of what is served, made from the kinds and upstream's definitions.

use serde_json::{Value, json};

use crate::kind::Kinds;

/// Names of all documents: `api/v1`, `apis/apps/v1` and so on.
pub fn names(_kinds: &Kinds) -> Vec<String> {
    Vec::new()
}

/// The OpenAPI v3 document of a group version; none if nothing is served there.
pub fn document(_kinds: &Kinds, _name: &str) -> Option<Value> {
    None
}

/// `/openapi/v3`: where each document is, by the hash of each.
pub fn index(documents: &[(String, String)]) -> Value {
    let paths: serde_json::Map<String, Value> = documents
        .iter()
        .map(|(name, hash)| {
            let url = format!("/openapi/v3/{name}?hash={hash}");
            (name.clone(), json!({ "serverRelativeURL": url }))
        })
        .collect();
    json!({ "paths": paths })
}

/// `/openapi/v2` as JSON.
pub fn version_2(_kinds: &Kinds) -> Value {
    json!({})
}
