//! The documents that tell clients what is served: `/api` and `/apis`, in both forms.

use serde_json::{Value, json};

use crate::kind::Kinds;

/// `APIGroupDiscoveryList` of the core (for `/api`) or of all other groups (for `/apis`).
pub fn aggregated(_kinds: &Kinds, _is_core: bool) -> Value {
    json!({})
}

/// `/api`: `APIVersions`.
pub fn versions(_server_address: &str) -> Value {
    json!({})
}

/// `/apis`: `APIGroupList`.
pub fn groups(_kinds: &Kinds) -> Value {
    json!({})
}

/// `/apis/<group>`: `APIGroup`; none if there is no such group.
pub fn group(_kinds: &Kinds, _group: &str) -> Option<Value> {
    None
}

/// `/api/v1`, `/apis/<group>/<version>`: `APIResourceList`; none if nothing is served there.
pub fn resources(_kinds: &Kinds, _group: &str, _version: &str) -> Option<Value> {
    None
}

/// What an `ETag` says of a document: upper-case hex SHA-512, without quotes.
pub fn hash(document: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha512::digest(document);
    digest.iter().map(|byte| format!("{byte:02X}")).collect()
}
