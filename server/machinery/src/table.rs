//! Objects as rows of a table, as `kubectl get` prints them: `data/columns.yaml`.

use serde_json::{Value, json};

use crate::kind::Kind;

/// What goes into `object` of each row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// The whole object.
    Object,
    /// Nothing.
    None,
}

/// A `Table` of objects. `now` is in seconds since 1970; `metadata` becomes the table's.
pub fn table(
    _kind: &Kind,
    _objects: &[Value],
    _include: Include,
    _has_columns: bool,
    metadata: Value,
    _now: i64,
) -> Value {
    json!({ "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata })
}
