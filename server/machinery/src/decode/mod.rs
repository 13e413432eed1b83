//! Bodies of requests to JSON trees: JSON, YAML and protobuf, held against the schema of what they should be.
//!
//! Each format has a module that reads it. `json` holds against the schema while it reads; `yaml` makes a tree
//! first, which `tree` holds against the schema, as it does a tree that was patched; `protobuf` cannot hold
//! anything else than its table says. `Findings` gathers what all of them object to, `leaf` knows single values.
//!
//! Wrong types and damaged text are errors; what is merely not known, or there twice, is reported and left out: how
//! bad that is, the request says (`fieldValidation`).

mod findings;
mod json;
mod leaf;
mod protobuf;
mod quantity;
mod time;
mod tree;
mod yaml;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::schema::{Definition, Schemas};
use crate::status::Status;

use findings::Findings;

/// How deep values may be inside each other. What is stored is read again by parsers that refuse 128.
const DEPTH_LIMIT: usize = 100;

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

/// Decodes a body. Without a definition it is any JSON, in YAML too, and in protobuf what its envelope says.
///
/// A body of protobuf that says of which kind it is, is decoded as that: whoever asked for another kind sees it in
/// `kind` and `apiVersion`.
///
/// # Errors
///
/// If it is not what it says, or of the wrong types.
pub fn decode(
    media: Media,
    body: &[u8],
    schemas: &Schemas,
    definition: Option<Definition>,
) -> Result<Decoded, Status> {
    let mut findings = Findings::new(schemas);
    let read = match media {
        Media::Json => json::read(body, schemas, definition, &mut findings),
        Media::Yaml => yaml::read(body, schemas, definition, &mut findings),
        Media::Protobuf => protobuf::read(body, schemas, definition, &mut findings),
    };
    let subject = Subject {
        schemas,
        definition,
        body,
    };
    let value = read.map_err(|why| subject.unrecognized(&why))?;
    subject.judge(value, findings)
}

/// The same of a tree that has no text any more, such as a patched object.
///
/// # Errors
///
/// If something in it is of the wrong type.
pub fn conform(
    mut value: Value,
    schemas: &Schemas,
    definition: Definition,
) -> Result<Decoded, Status> {
    let mut findings = Findings::new(schemas);
    tree::hold(&mut value, schemas, definition, &mut findings);
    let subject = Subject {
        schemas,
        definition: Some(definition),
        body: &[],
    };
    subject.judge(value, findings)
}

/// What an error is about.
struct Subject<'a> {
    schemas: &'a Schemas,
    definition: Option<Definition>,
    body: &'a [u8],
}

impl Subject<'_> {
    /// What was read, unless there is an error among the findings.
    fn judge(&self, value: Value, findings: Findings<'_>) -> Result<Decoded, Status> {
        if let Some(why) = findings.type_meta_error {
            return Err(self.unrecognized(&why));
        }
        match findings.error {
            Some(why) => Err(self.mistyped(&value, &why)),
            None => Ok(Decoded {
                value,
                faults: findings.faults,
            }),
        }
    }

    /// A body of which not even the kind can be said.
    fn unrecognized(&self, why: &str) -> Status {
        let (kind, _) = self.expected();
        let summary = summary(self.body);
        Status::bad_request(match kind {
            "" => format!("{why} ({summary})"),
            _ => format!(
                "the object provided is unrecognized (must be of type {kind}): {why} ({summary})"
            ),
        })
    }

    /// A body whose kind can be said, with something in it that cannot be.
    fn mistyped(&self, value: &Value, why: &str) -> Status {
        let text = |name: &str| value[name].as_str().unwrap_or_default();
        let (expected_kind, expected_version) = self.expected();
        let kind = match text("kind") {
            "" => expected_kind,
            kind => kind,
        };
        let version = match text("apiVersion").rsplit('/').next() {
            None | Some("") => expected_version,
            Some(version) => version,
        };
        Status::bad_request(match expected_kind {
            "" => why.to_owned(),
            _ => format!(
                "{kind} in version {version:?} cannot be handled as a {expected_kind}: {why}"
            ),
        })
    }

    /// Kind and version of the definition: `io.k8s.api.apps.v1.Deployment` ends in both.
    fn expected(&self) -> (&str, &str) {
        let name = self
            .definition
            .map_or("", |definition| self.schemas.name(definition));
        let mut parts = name.rsplit('.');
        (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        )
    }
}

/// The beginning of a body, for the eyes of whoever sent it.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let shown = &body[..body.len().min(SHOWN)];
    let mut text = match body.first() {
        None => return "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(shown).into_owned(),
        Some(_) => shown.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if body.len() > SHOWN {
        text.push_str(" ...");
    }
    text
}
