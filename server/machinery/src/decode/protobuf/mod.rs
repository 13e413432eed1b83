//! Protobuf to trees, by a table: no message is known to the code but those that have a form of their own in JSON.
//!
//! Go's generator writes fields that nobody set, unless they are pointers. The table knows which are, so that
//! `replicas: 0` stays and an empty `hostname` does not.

mod table;
mod wire;

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use crate::schema::{Definition, Schemas};

use super::findings::Findings;
use super::time::{Precision, Time};
use super::{DEPTH_LIMIT, json, quantity};

pub(super) use table::Table;
use table::{Field, Form, Kept, Type};
use wire::{Fields, Wired};

/// What a body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Reads a body: an envelope with a message in it. Fails if it is no envelope, or if nobody knows what is in it.
pub(super) fn read(
    body: &[u8],
    schemas: &Schemas,
    definition: Option<Definition>,
    findings: &mut Findings<'_>,
) -> Result<Value, String> {
    let envelope = Envelope::read(body)?;
    let place = envelope.message(schemas, definition)?;
    let mut reader = Reader {
        table: Table::builtin(),
        schemas,
        findings,
    };
    let mut object = Map::new();
    let read = reader.object(place, envelope.message, 0, &mut object);
    for (name, text) in [("apiVersion", envelope.version), ("kind", envelope.kind)] {
        if !text.is_empty() {
            object.insert(name.to_owned(), text.into());
        }
    }
    if let Err(why) = read {
        findings.refuse(|| why);
    }
    Ok(Value::Object(object))
}

/// `runtime.Unknown`, in which every body comes.
#[derive(Default)]
struct Envelope<'b> {
    version: String,
    kind: String,
    message: &'b [u8],
}

impl<'b> Envelope<'b> {
    fn read(body: &'b [u8]) -> Result<Self, String> {
        let unknown = body.strip_prefix(MAGIC).ok_or_else(|| {
            format!(
                "provided data does not appear to be a protobuf message, expected prefix {}",
                go_bytes(MAGIC)
            )
        })?;
        let mut envelope = Self::default();
        for field in Fields::of(unknown) {
            match field? {
                (1, Wired::Bytes(type_meta)) => {
                    for field in Fields::of(type_meta) {
                        match field? {
                            (1, Wired::Bytes(text)) => envelope.version = lossy(text),
                            (2, Wired::Bytes(text)) => envelope.kind = lossy(text),
                            _ => {}
                        }
                    }
                }
                (2, Wired::Bytes(message)) => envelope.message = message,
                // How the message is compressed and what it is; both say what is known already.
                _ => {}
            }
        }
        Ok(envelope)
    }

    /// The message that is in it: what it says itself, or else what is expected.
    fn message(&self, schemas: &Schemas, definition: Option<Definition>) -> Result<usize, String> {
        let (group, version) = self.version.split_once('/').unwrap_or(("", &self.version));
        let expected = definition.map_or("", |definition| schemas.name(definition));
        let named = schemas.of_kind(group, version, &self.kind);
        let name = match named {
            Some(named) => schemas.name(named),
            None if self.kind.is_empty() || expected.rsplit('.').next() == Some(&*self.kind) => {
                expected
            }
            None => "",
        };
        Table::builtin().named(name).ok_or_else(|| {
            format!(
                "no kind {:?} is registered for version {:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
                self.kind, self.version
            )
        })
    }
}

struct Reader<'f, 's, 'g> {
    table: &'static Table,
    schemas: &'s Schemas,
    findings: &'f mut Findings<'g>,
}

impl Reader<'_, '_, '_> {
    /// Reads the fields of a message into an object. It may be no deeper than JSON may: it is kept as that, and read again.
    fn object(
        &mut self,
        place: usize,
        bytes: &[u8],
        depth: usize,
        object: &mut Map<String, Value>,
    ) -> Result<(), String> {
        if depth >= DEPTH_LIMIT {
            return Err("exceeded max depth".to_owned());
        }
        let message = self.table.message(place);
        for field in Fields::of(bytes) {
            let (number, wired) = field?;
            let Some(field) = message.field(number) else {
                self.findings
                    .fault(|| format!("unknown protobuf field {number} of {}", message.name));
                continue;
            };
            match field.kept {
                Kept::Inline => {
                    let (Type::Message(inner), Wired::Bytes(bytes)) = (field.of, wired) else {
                        return Err(wrong_type(field, wired));
                    };
                    self.object(inner, bytes, depth + 1, object)?;
                }
                Kept::List => {
                    let list = object
                        .entry(field.name)
                        .or_insert_with(|| Value::Array(Vec::new()));
                    if let Value::Array(list) = list {
                        self.items(field, wired, depth + 1, list)?;
                    }
                }
                Kept::Map => {
                    let (name, value) = self.member(field, wired, depth + 1)?;
                    let map = object
                        .entry(field.name)
                        .or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(map) = map {
                        map.insert(name, value);
                    }
                }
                Kept::Pointer | Kept::Value | Kept::Always => {
                    let value = self.value(field, wired, depth)?;
                    let is_nothing =
                        value.is_null() || field.kept == Kept::Value && self.is_zero(field, &value);
                    if is_nothing {
                        object.remove(field.name);
                    } else {
                        object.insert(field.name.to_owned(), value);
                    }
                }
            }
        }
        Ok(())
    }

    /// Numbers may be packed, many in one field, though Go does not write them so.
    fn items(
        &mut self,
        field: &Field,
        wired: Wired<'_>,
        depth: usize,
        list: &mut Vec<Value>,
    ) -> Result<(), String> {
        let is_packed = matches!(field.of, Type::Boolean | Type::Integer { .. });
        let Wired::Bytes(mut packed) = wired else {
            list.push(self.value(field, wired, depth)?);
            return Ok(());
        };
        if !is_packed {
            list.push(self.value(field, wired, depth)?);
            return Ok(());
        }
        while !packed.is_empty() {
            let (number, length) = wire::varint(packed)?;
            list.push(self.value(field, Wired::Varint(number), depth)?);
            packed = &packed[length..];
        }
        Ok(())
    }

    /// A name and its value: a message of two fields. What is not there is empty.
    fn member(
        &mut self,
        field: &Field,
        wired: Wired<'_>,
        depth: usize,
    ) -> Result<(String, Value), String> {
        let Wired::Bytes(entry) = wired else {
            return Err(wrong_type(field, wired));
        };
        let mut name = String::new();
        let mut value = None;
        for part in Fields::of(entry) {
            match part? {
                (1, Wired::Bytes(text)) => name = lossy(text),
                (2, wired) => value = Some(self.value(field, wired, depth)?),
                _ => {}
            }
        }
        let value = match (value, field.of) {
            (Some(value), _) => value,
            (None, Type::Boolean | Type::Integer { .. }) => {
                self.value(field, Wired::Varint(0), depth)?
            }
            (None, Type::Number) => self.value(field, Wired::Eight(0), depth)?,
            (None, _) => self.value(field, Wired::Bytes(&[]), depth)?,
        };
        Ok((name, value))
    }

    fn value(&mut self, field: &Field, wired: Wired<'_>, depth: usize) -> Result<Value, String> {
        Ok(match (field.of, wired) {
            (Type::Boolean, Wired::Varint(value)) => (value != 0).into(),
            (Type::Integer { is_long: true }, Wired::Varint(value)) => value.cast_signed().into(),
            (Type::Integer { is_long: false }, Wired::Varint(value)) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "the upper half only repeats the sign"
                )]
                let value = value as i32;
                value.into()
            }
            (Type::Number, Wired::Eight(bits)) => match Number::from_f64(f64::from_bits(bits)) {
                Some(number) => Value::Number(number),
                None => return Err(format!("json: unsupported value in {}", field.name)),
            },
            (Type::Text, Wired::Bytes(text)) => lossy(text).into(),
            (Type::Bytes, Wired::Bytes(bytes)) => STANDARD.encode(bytes).into(),
            (Type::Message(place), Wired::Bytes(bytes)) => self.message(place, bytes, depth)?,
            _ => return Err(wrong_type(field, wired)),
        })
    }

    /// A message in the form that JSON has for it; null if it is nothing.
    fn message(&mut self, place: usize, bytes: &[u8], depth: usize) -> Result<Value, String> {
        match self.table.message(place).form {
            Form::Object => {
                let mut object = Map::new();
                self.object(place, bytes, depth + 1, &mut object)?;
                Ok(Value::Object(object))
            }
            Form::Items => {
                let mut object = Map::new();
                self.object(place, bytes, depth + 1, &mut object)?;
                Ok(object
                    .remove("items")
                    .unwrap_or_else(|| Value::Array(Vec::new())))
            }
            Form::SchemaOr => {
                let mut object = Map::new();
                self.object(place, bytes, depth + 1, &mut object)?;
                let names = ["schema", "jSONSchemas", "property", "allows"];
                let there = names.into_iter().find_map(|name| object.remove(name));
                Ok(there.unwrap_or(Value::Null))
            }
            Form::Time => time(bytes, Precision::Seconds),
            Form::MicroTime => time(bytes, Precision::Microseconds),
            Form::Quantity => amount(bytes),
            Form::IntOrString => int_or_string(bytes),
            Form::Raw => self.raw(bytes, depth + 1),
        }
    }

    /// JSON as it was written.
    fn raw(&mut self, bytes: &[u8], depth: usize) -> Result<Value, String> {
        let mut raw: &[u8] = &[];
        for field in Fields::of(bytes) {
            if let (1, Wired::Bytes(bytes)) = field? {
                raw = bytes;
            }
        }
        if raw.is_empty() {
            return Ok(Value::Null);
        }
        json::read_any(raw, self.schemas, depth, self.findings)
    }

    /// Whether a field has what Go's types begin with.
    fn is_zero(&self, field: &Field, value: &Value) -> bool {
        let is_quantity = matches!(field.of, Type::Message(place) if self.table.message(place).form == Form::Quantity);
        match value {
            Value::Null => true,
            Value::Bool(value) => !value,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty() || is_quantity && text == "0",
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
        }
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn wrong_type(field: &Field, wired: Wired<'_>) -> String {
    format!(
        "proto: wrong wireType = {} for field {}",
        wired.number(),
        field.name
    )
}

/// Bytes as Go prints them.
fn go_bytes(bytes: &[u8]) -> String {
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    format!("[{}]", numbers.join(" "))
}

/// The numbers of a message that has no other fields than these, by theirs.
fn numbers(bytes: &[u8]) -> Result<[u64; 3], String> {
    let mut numbers = [0; 3];
    for field in Fields::of(bytes) {
        if let (number @ 1..=2, Wired::Varint(value)) = field? {
            numbers[number as usize] = value;
        }
    }
    Ok(numbers)
}

/// A time of nothing is that of Go's year 1, which JSON has as null.
fn time(bytes: &[u8], precision: Precision) -> Result<Value, String> {
    let [_, seconds, nanoseconds] = numbers(bytes)?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let time = Time {
        seconds: seconds.cast_signed(),
        nanoseconds: u32::try_from(nanoseconds).unwrap_or_default(),
    };
    Ok(time.write(precision).into())
}

fn amount(bytes: &[u8]) -> Result<Value, String> {
    let mut amount = String::new();
    for field in Fields::of(bytes) {
        if let (1, Wired::Bytes(text)) = field? {
            amount = lossy(text);
        }
    }
    if amount.is_empty() {
        return Ok("0".into());
    }
    quantity::check(&amount)?;
    Ok(amount.into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, String> {
    let [_, kind, number] = numbers(bytes)?;
    if kind == 0 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the upper half only repeats the sign"
        )]
        return Ok((number as i32).into());
    }
    let mut text = String::new();
    for field in Fields::of(bytes) {
        if let (3, Wired::Bytes(bytes)) = field? {
            text = lossy(bytes);
        }
    }
    Ok(text.into())
}
