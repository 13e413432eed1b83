//! Writes encoded messages as JSON in the form of Go's `protojson`, as etcd does: original field names, 64-bit numbers
//! as strings, bytes in base64, enums by name, nothing for fields that are at their default.
//!
//! It goes from one encoding to the other without building the message: an answer of any size needs only its pieces.
//! That works because all messages are encoded here: fields come in the order of their numbers, elements of a list one
//! after the other, and a field at its default is not there.

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use std::io::Write as _;

/// The bytes are not an encoded message of the expected kind.
#[derive(Debug, thiserror::Error)]
#[error("an answer cannot be written as JSON: {0}")]
pub(super) struct Malformed(&'static str);

/// One message on its way to JSON.
pub(super) struct Writer {
    descriptor: MessageDescriptor,
    /// The list that is being written.
    list: Option<u32>,
    is_empty: bool,
}

/// Writes a whole message.
pub(super) fn message(
    descriptor: &MessageDescriptor,
    encoded: &[u8],
    json: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let mut writer = Writer::new(descriptor.clone(), json);
    if writer.fields(encoded, json)? != encoded.len() {
        return Err(Malformed("a field is cut off"));
    }
    writer.end(json);
    Ok(())
}

/// Writes a text as JSON.
pub(super) fn text(text: &str, json: &mut Vec<u8>) {
    // Neither a string nor a vector can fail.
    let _ = serde_json::to_writer(json, text);
}

impl Writer {
    /// Begins a message.
    pub(super) fn new(descriptor: MessageDescriptor, json: &mut Vec<u8>) -> Self {
        json.push(b'{');
        Self {
            descriptor,
            list: None,
            is_empty: true,
        }
    }

    /// Writes the fields that are complete; tells how many bytes they took.
    pub(super) fn fields(
        &mut self,
        encoded: &[u8],
        json: &mut Vec<u8>,
    ) -> Result<usize, Malformed> {
        let mut rest = encoded;
        while let Some(field) = Field::next(&mut rest)? {
            // An answer may be newer than its description only by a mistake of ours; clients skip such fields, too.
            let Some(descriptor) = self.descriptor.get_field(field.number) else {
                continue;
            };
            self.field(&descriptor, &field, json)?;
        }
        Ok(encoded.len() - rest.len())
    }

    /// Ends the message.
    pub(super) fn end(mut self, json: &mut Vec<u8>) {
        self.end_list(json);
        json.push(b'}');
    }

    fn field(
        &mut self,
        descriptor: &FieldDescriptor,
        field: &Field<'_>,
        json: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        let is_list = descriptor.is_list();
        if self.list == Some(field.number) {
            json.push(b',');
        } else {
            self.end_list(json);
            if !std::mem::replace(&mut self.is_empty, false) {
                json.push(b',');
            }
            text(descriptor.name(), json);
            json.push(b':');
            if is_list {
                json.push(b'[');
                self.list = Some(field.number);
            }
        }
        value(&descriptor.kind(), field, json)
    }

    fn end_list(&mut self, json: &mut Vec<u8>) {
        if self.list.take().is_some() {
            json.push(b']');
        }
    }
}

/// A field as it is encoded.
struct Field<'a> {
    number: u32,
    number_value: u64,
    bytes: Option<&'a [u8]>,
}

impl<'a> Field<'a> {
    /// Takes a field; nothing, and takes nothing, if it is not complete.
    fn next(encoded: &mut &'a [u8]) -> Result<Option<Self>, Malformed> {
        let mut rest = *encoded;
        // No key and no number is longer than ten bytes.
        let is_short = rest.len() < 20;
        let head = decode_key(&mut rest).and_then(|(number, kind)| {
            let value = decode_varint(&mut rest)?;
            Ok((number, kind, value))
        });
        let (number, kind, value) = match head {
            Ok(head) => head,
            Err(_) if is_short => return Ok(None),
            Err(_) => return Err(Malformed("a field's key is none")),
        };
        let bytes = match kind {
            WireType::Varint => None,
            WireType::LengthDelimited => {
                let length = usize::try_from(value).unwrap_or(usize::MAX);
                if rest.len() < length {
                    return Ok(None);
                }
                let bytes = &rest[..length];
                rest.advance(length);
                Some(bytes)
            }
            _ => return Err(Malformed("a field has a type that etcd does not use")),
        };
        *encoded = rest;
        Ok(Some(Self {
            number,
            number_value: value,
            bytes,
        }))
    }

    fn bytes(&self) -> Result<&'a [u8], Malformed> {
        self.bytes.ok_or(Malformed("a number where bytes belong"))
    }

    fn number(&self) -> Result<u64, Malformed> {
        match self.bytes {
            None => Ok(self.number_value),
            Some(_) => Err(Malformed("bytes where a number belongs")),
        }
    }
}

fn value(kind: &Kind, field: &Field<'_>, json: &mut Vec<u8>) -> Result<(), Malformed> {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "encoded numbers are sign-extended to 64 bits"
    )]
    // Writing to a vector cannot fail.
    let _ = match kind {
        Kind::Message(descriptor) => return message(descriptor, field.bytes()?, json),
        Kind::String => {
            let valid = std::str::from_utf8(field.bytes()?);
            text(valid.map_err(|_| Malformed("a text is not UTF-8"))?, json);
            Ok(())
        }
        Kind::Bytes => write!(
            json,
            "\"{}\"",
            Base64Display::new(field.bytes()?, &STANDARD)
        ),
        Kind::Bool => write!(json, "{}", field.number()? != 0),
        Kind::Int32 => write!(json, "{}", field.number()? as i32),
        Kind::Uint32 => write!(json, "{}", field.number()? as u32),
        Kind::Int64 => write!(json, "\"{}\"", field.number()?.cast_signed()),
        Kind::Uint64 => write!(json, "\"{}\"", field.number()?),
        Kind::Enum(names) => {
            let number = field.number()? as i32;
            match names.get_value(number) {
                Some(name) => write!(json, "\"{}\"", name.name()),
                None => write!(json, "{number}"),
            }
        }
        _ => return Err(Malformed("a field has a type that etcd does not use")),
    };
    Ok(())
}
