//! `/holdfast/history?key=..`: what became of an object, the newest first, as far back as history is kept.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use machinery::status::Status;
use serde_json::{Value, json};
use store::Version;

use super::keys::{ALL, Owner};
use crate::resource::path::Query;
use crate::resource::{Api, error, stored};

/// Revisions that one answer tells of; the next one goes on with `before`.
const REVISIONS: usize = 100;

/// What their values may have together, but for one that is longer.
const BYTES: usize = 4 * 1024 * 1024;

impl Api {
    pub(super) fn history(&self, query: &Query) -> Result<Value, Status> {
        let key = query.text("key");
        if !key.starts_with(ALL) {
            let message = format!("key: must be the key of an object: {ALL}...");
            return Err(Status::bad_request(message));
        }
        let limit = query
            .number("limit")
            .and_then(|limit| limit.try_into().ok());
        let limit = limit.unwrap_or(REVISIONS).clamp(1, REVISIONS);
        let before = query.number("before").filter(|before| *before > 0);
        let view = self.registry.reader().view();
        let (mut versions, mut bytes, mut has_more) = (Vec::new(), 0, false);
        let visited = self.registry.reader().versions(
            key.as_bytes(),
            before.map_or(view.revision, |before| before - 1),
            &mut |version| {
                bytes += version.record.value().len();
                // One too many says that there are more.
                has_more = versions.len() == limit || !versions.is_empty() && bytes > BYTES;
                if !has_more {
                    versions.push(version);
                }
                !has_more
            },
        );
        if let Err(error) = visited {
            let node = &self.registry.node;
            node.stop_for(format!("a history cannot be read: {error}"));
            return Err(error::broken());
        }
        let owner = self.face.keys.owner(key);
        let versions: Vec<Value> = versions
            .iter()
            .map(|version| tell(version, &owner))
            .collect();
        let mut answer = owner.fields();
        answer.insert("key".to_owned(), key.into());
        answer.insert("revision".to_owned(), view.revision.into());
        answer.insert("compacted".to_owned(), view.compact_revision.max(0).into());
        answer.insert("hasMore".to_owned(), has_more.into());
        answer.insert("versions".to_owned(), versions.into());
        Ok(answer.into())
    }
}

fn tell(version: &Version, owner: &Owner<'_>) -> Value {
    let fields = version.record.fields();
    let what = match version.is_delete {
        true => "DELETED",
        false if fields.create_revision == fields.mod_revision => "ADDED",
        false => "MODIFIED",
    };
    let mut told = json!({ "revision": fields.mod_revision, "type": what });
    if version.is_delete {
        return told;
    }
    let object = match owner.kind {
        Some(kind) => stored::parse(fields.value, fields.mod_revision, kind).ok(),
        None => serde_json::from_slice(fields.value).ok(),
    };
    // What is no object is shown all the same: it is there.
    match (object, std::str::from_utf8(fields.value)) {
        (Some(object), _) => told["object"] = object,
        (None, Ok(text)) => told["text"] = text.into(),
        (None, Err(_)) => told["base64"] = BASE64_STANDARD.encode(fields.value).into(),
    }
    told
}
