//! OpenAPI documents of what is served, made from the kinds and upstream's definitions.
//!
//! `operations` says what can be asked of each kind, whatever the format; `version_3` and `version_2` write it down;
//! `catalogue` has the definitions that all this refers to. `protobuf` has the little that clients want of version 2 in
//! its binary form.

mod catalogue;
mod operations;
mod protobuf;
mod version_2;
mod version_3;

use serde_json::{Map, Value, json};

use crate::kind::{Kind, Kinds};
use catalogue::Catalogue;
use operations::Operation;

/// The version of Kubernetes whose API this is.
const VERSION: &str = "v1.37.0";

/// Names of all documents: `api/v1`, `apis/apps/v1` and so on.
pub fn names(kinds: &Kinds) -> Vec<String> {
    let mut names = Vec::new();
    for kind in kinds.all() {
        let name = name_of(kind);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The OpenAPI v3 document of a group version; none if nothing is served there. Whoever wants all of them asks
/// [`documents`], which reads the definitions only once.
pub fn document(kinds: &Kinds, name: &str) -> Option<Value> {
    names(kinds)
        .contains(&name.to_owned())
        .then(|| version_3::document(&Catalogue::of(kinds), kinds, name))
}

/// The OpenAPI v3 documents of all group versions, each with its name.
pub fn documents(kinds: &Kinds) -> Vec<(String, Value)> {
    let catalogue = Catalogue::of(kinds);
    let document = |name: String| {
        let document = version_3::document(&catalogue, kinds, &name);
        (name, document)
    };
    names(kinds).into_iter().map(document).collect()
}

/// `/openapi/v3`: where each document is, by the hash of each.
pub fn index(documents: &[(String, String)]) -> Value {
    let paths: Map<String, Value> = documents
        .iter()
        .map(|(name, hash)| {
            let url = format!("/openapi/v3/{name}?hash={hash}");
            (name.clone(), json!({ "serverRelativeURL": url }))
        })
        .collect();
    json!({ "paths": paths })
}

/// `/openapi/v2` as JSON.
pub fn version_2(kinds: &Kinds) -> Value {
    version_2::document(&Catalogue::of(kinds), kinds)
}

/// `/openapi/v2` for who accepts `application/com.github.proto-openapi.spec.v2@v1.0+protobuf`, in which kubectl looks
/// whether the server validates fields: the patches of all kinds with what can be asked of them, and no definitions.
pub fn version_2_protobuf(kinds: &Kinds) -> Vec<u8> {
    protobuf::document(kinds)
}

fn name_of(kind: &Kind) -> String {
    match kind.group.as_str() {
        "" => format!("api/{}", kind.version),
        group => format!("apis/{group}/{}", kind.version),
    }
}

fn info() -> Value {
    json!({ "title": "Kubernetes", "version": VERSION })
}

/// The paths of some kinds; `write` makes an operation of the format out of one.
fn paths<'a>(
    catalogue: &Catalogue,
    kinds: impl Iterator<Item = &'a Kind>,
    write: impl Fn(&Operation) -> Value,
    parameters: impl Fn(&Operation) -> Value,
) -> Map<String, Value> {
    let mut paths = Map::new();
    let operations = kinds.flat_map(|kind| operations::of_kind(catalogue, kind));
    for operation in operations {
        let item = paths
            .entry(operation.path.clone())
            .or_insert_with(|| json!({ "parameters": parameters(&operation) }));
        item[operation.method] = write(&operation);
    }
    paths
}

#[cfg(test)]
mod tests;
