//! Objects as they are kept: JSON under kube-apiserver's keys, without a resourceVersion, which is the revision of the
//! key. It is put in between the bytes on the way out; nothing is decoded for that.

use bytes::Bytes;
use machinery::convert;
use machinery::decode::{Media, decode};
use machinery::kind::Kind;
use machinery::schema::Schemas;
use machinery::status::{Reason, Status};
use serde::{Serialize, Serializer as _};
use serde_json::{Map, Value};
use store::Record;

/// What a value begins with that a kube-apiserver wrote in protobuf.
const PROTOBUF: &[u8] = b"k8s\0";

/// An object at a revision.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) bytes: Bytes,
    pub(super) revision: i64,
    pub(super) lease: i64,
}

impl Stored {
    pub(super) fn of(record: &Record) -> Self {
        Self {
            bytes: Bytes::copy_from_slice(record.value()),
            revision: record.mod_revision(),
            lease: record.lease(),
        }
    }

    /// As a tree, with its resourceVersion.
    pub(super) fn value(&self, kind: &Kind) -> Result<Value, Status> {
        parse(&self.bytes, self.revision, kind)
    }

    /// Appends it as JSON, with its resourceVersion.
    pub(super) fn write_json(&self, kind: &Kind, out: &mut Vec<u8>) -> Result<(), Status> {
        write_json(&self.bytes, self.revision, kind, out)
    }
}

/// An object as it was written.
pub(super) struct Written {
    pub(super) object: Value,
    /// What is kept of it, so that an answer need not encode it again; none if it is kept in another form, or not at
    /// all.
    pub(super) kept: Option<Stored>,
}

impl Written {
    /// An object that was not written after all.
    pub(super) fn unwritten(object: Value) -> Self {
        Self { object, kept: None }
    }

    /// An object of which bytes are kept, at the revision that they got.
    pub(super) fn at(
        mut object: Value,
        kind: &Kind,
        bytes: Bytes,
        revision: i64,
        lease: i64,
    ) -> Self {
        set_revision(&mut object, revision);
        let kept = kind.stored_as.is_none().then_some(Stored {
            bytes,
            revision,
            lease,
        });
        Self { object, kept }
    }
}

/// Appends a stored value as JSON, with its resourceVersion.
pub(super) fn write_json(
    bytes: &[u8],
    revision: i64,
    kind: &Kind,
    out: &mut Vec<u8>,
) -> Result<(), Status> {
    let place = metadata(bytes).filter(|_| kind.stored_as.is_none());
    let Some(place) = place else {
        let value = parse(bytes, revision, kind)?;
        out.extend_from_slice(&write(&value));
        return Ok(());
    };
    out.reserve(bytes.len() + 48);
    out.extend_from_slice(&bytes[..place]);
    put_revision(&bytes[place..], revision, out);
    Ok(())
}

/// Appends a stored value as an item of a list, with its resourceVersion: what kind it is, the list says.
pub(super) fn write_item(
    bytes: &[u8],
    revision: i64,
    kind: &Kind,
    out: &mut Vec<u8>,
) -> Result<(), Status> {
    const METADATA: &[u8] = b"{\"metadata\":{";
    match metadata(bytes).filter(|_| kind.stored_as.is_none()) {
        Some(place) => {
            out.extend_from_slice(METADATA);
            put_revision(&bytes[place..], revision, out);
        }
        None => out.extend_from_slice(&write_typed(&parse(bytes, revision, kind)?)),
    }
    Ok(())
}

/// An object as an item of a list.
pub(super) fn write_typed(value: &Value) -> Vec<u8> {
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    write(&value)
}

/// Appends what follows the beginning of the metadata, with the resourceVersion before it.
fn put_revision(rest: &[u8], revision: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"resourceVersion\":\"");
    out.extend_from_slice(revision.to_string().as_bytes());
    out.push(b'"');
    if rest.first() != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(rest);
}

/// A stored value as a tree, with its resourceVersion.
pub(super) fn parse(bytes: &[u8], revision: i64, kind: &Kind) -> Result<Value, Status> {
    let value = if bytes.starts_with(PROTOBUF) {
        let decoded = decode(Media::Protobuf, bytes, Schemas::builtin(), kind.schema);
        decoded.map(|decoded| decoded.value)
    } else {
        serde_json::from_slice(bytes).map_err(|error| Status::bad_request(error.to_string()))
    };
    let mut value = value.map_err(|error| {
        let message = format!(
            "a stored object of kind {} cannot be read: {}",
            kind.kind, error.message
        );
        Status::new(Reason::InternalError, message)
    })?;
    convert::to_served(kind, &mut value);
    set_revision(&mut value, revision);
    Ok(value)
}

/// Gives an object its resourceVersion.
pub(super) fn set_revision(value: &mut Value, revision: i64) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), revision.to_string().into());
    }
}

/// The bytes to keep of an object: kind, apiVersion and metadata come first, as people read them.
pub(super) fn keep(kind: &Kind, value: &Value) -> Bytes {
    const LEFT_OUT: &[&str] = &["resourceVersion", "selfLink"];
    if kind.stored_as.is_none() {
        return write_without(value, LEFT_OUT).into();
    }
    let mut value = value.clone();
    convert::to_stored(kind, &mut value);
    write_without(&value, LEFT_OUT).into()
}

/// An object as JSON: kind, apiVersion and metadata come first.
pub(super) fn write(value: &Value) -> Vec<u8> {
    write_without(value, &[])
}

/// The same, but for some fields of the metadata.
fn write_without(value: &Value, left_out: &[&str]) -> Vec<u8> {
    const FIRST: [&str; 3] = ["kind", "apiVersion", "metadata"];
    let empty = Map::new();
    let fields = value.as_object().unwrap_or(&empty);
    let mut out = Vec::with_capacity(2048);
    let first = FIRST.iter().filter_map(|name| fields.get_key_value(*name));
    let others = fields
        .iter()
        .filter(|(name, _)| !FIRST.contains(&name.as_str()));
    out.push(b'{');
    for (number, (name, field)) in first.chain(others).enumerate() {
        if number > 0 {
            out.push(b',');
        }
        write_value(name, &mut out);
        out.push(b':');
        match field {
            Value::Object(metadata) if name == "metadata" => {
                let kept = metadata
                    .iter()
                    .filter(|(name, _)| !left_out.contains(&name.as_str()));
                let mut writer = serde_json::Serializer::new(&mut out);
                writer
                    .collect_map(kept)
                    .expect("a tree of JSON can be written, and memory takes it");
            }
            _ => write_value(field, &mut out),
        }
    }
    out.push(b'}');
    out
}

fn write_value(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a tree of JSON can be written, and memory takes it");
}

/// Where the first field of the metadata begins; none if that is not found at once.
fn metadata(bytes: &[u8]) -> Option<usize> {
    let after = |at: usize, text: &[u8]| bytes[at..].starts_with(text).then_some(at + text.len());
    let at = after(0, b"{\"kind\":\"")?;
    let at = after(end_of_name(bytes, at)?, b"\",\"apiVersion\":\"")?;
    after(end_of_name(bytes, at)?, b"\",\"metadata\":{")
}

/// The end of a string that has nothing in it that would have to be escaped.
fn end_of_name(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = &bytes[from..];
    let end = rest
        .iter()
        .position(|byte| !(byte.is_ascii_alphanumeric() || b"./-".contains(byte)))?;
    (rest[end] == b'"').then_some(from + end)
}

#[cfg(test)]
mod tests {
    use machinery::kind::Kinds;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_revision_is_put_in_without_decoding() {
        let kind = Kinds::builtin().at("", "v1", "configmaps").unwrap();
        let read = |value: &Value| {
            let kept = keep(kind, value);
            assert!(metadata(&kept).is_some());
            let mut out = Vec::new();
            write_json(&kept, 7, kind, &mut out).unwrap();
            let spliced: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(spliced, parse(&kept, 7, kind).unwrap());
            spliced
        };
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"metadata": "{\"metadata\":{"},
            "metadata": {"name": "a", "resourceVersion": "3"},
        });
        assert_eq!(read(&object)["metadata"]["resourceVersion"], "7");
        read(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}));
        let mut out = Vec::new();
        let others = br#"{"metadata":{"name":"a"},"kind":"ConfigMap","apiVersion":"v1"}"#;
        write_json(others, 9, kind, &mut out).unwrap();
        let others: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(others["metadata"]["resourceVersion"], "9");
    }
}
