//! Reads messages from JSON by the rules of Go's `protojson`, as etcd does: original and camel-case names, numbers
//! also as strings, both alphabets of base64, enums by name or number; unknown fields are skipped, doubled ones
//! refused.
//!
//! `prost-reflect` can read JSON, too, but takes the last of doubled fields and rounds large numbers that are written
//! with a point.

use std::fmt;

use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value,
};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Whole numbers up to here are exact in a JSON number with a point or an exponent.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads the first value of `json` as a message; nothing at all is an empty message. What follows is not looked at.
/// Nesting beyond 128 levels is refused.
pub(super) fn message(
    descriptor: &MessageDescriptor,
    json: &[u8],
) -> Result<DynamicMessage, serde_json::Error> {
    if json.trim_ascii().is_empty() {
        return Ok(DynamicMessage::new(descriptor.clone()));
    }
    MessageSeed(descriptor).deserialize(&mut serde_json::Deserializer::from_slice(json))
}

/// Finds where an object ends that comes in pieces, and looks at each byte once. Whether it is well-formed is for
/// [`message`] to say.
#[derive(Debug, Default)]
pub(super) struct End {
    /// How much of the object was looked at.
    seen: usize,
    /// How many braces and brackets are open.
    depth: usize,
    is_text: bool,
    is_escaped: bool,
}

impl End {
    /// The length of the first object of `json`, with the blanks before it, once it is all there; then it is another
    /// object's turn. Until then `json` is what it was the last time, and more. What is no object ends with its first
    /// byte.
    pub(super) fn find(&mut self, json: &[u8]) -> Option<usize> {
        while let Some(&byte) = json.get(self.seen) {
            self.seen += 1;
            if self.is_text {
                self.is_text = self.is_escaped || byte != b'"';
                self.is_escaped = !self.is_escaped && byte == b'\\';
                continue;
            }
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => continue,
                b'{' => self.depth += 1,
                _ if self.depth == 0 => {}
                b'[' => self.depth += 1,
                b'}' | b']' => self.depth -= 1,
                b'"' => self.is_text = true,
                _ => {}
            }
            if self.depth == 0 {
                return Some(std::mem::take(self).seen);
            }
        }
        None
    }
}

struct MessageSeed<'a>(&'a MessageDescriptor);

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = DynamicMessage;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = DynamicMessage;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "an object ({})", self.0.name())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut message = DynamicMessage::new(self.0.clone());
        let mut seen = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let by_json_name = self.0.get_field_by_json_name(&name);
            let Some(field) = by_json_name.or_else(|| self.0.get_field_by_name(&name)) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen.contains(&field.number()) {
                return Err(Error::custom(format_args!("duplicate field {name:?}")));
            }
            seen.push(field.number());
            let Some(value) = map.next_value_seed(FieldSeed(&field))? else {
                continue;
            };
            if let Some(oneof) = field.containing_oneof()
                && oneof.fields().any(|other| message.has_field(&other))
            {
                return Err(Error::custom(format_args!(
                    "error parsing {name:?}, oneof {} is already set",
                    oneof.full_name()
                )));
            }
            message.set_field(&field, value);
        }
        Ok(message)
    }
}

/// A field's value; nothing for `null` and for unknown names of enums.
struct FieldSeed<'a>(&'a FieldDescriptor);

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = Option<Value>;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "a value of field {}", self.0.name())
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_list() {
            deserializer.deserialize_seq(ListVisitor(self.0)).map(Some)
        } else {
            ValueSeed(self.0).deserialize(deserializer)
        }
    }
}

struct ListVisitor<'a>(&'a FieldDescriptor);

impl<'de> Visitor<'de> for ListVisitor<'_> {
    type Value = Value;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "an array for field {}", self.0.name())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(ValueSeed(self.0))? {
            values.extend(value);
        }
        Ok(Value::List(values))
    }
}

/// One value of a field: the field's, or an element of its list.
struct ValueSeed<'a>(&'a FieldDescriptor);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.0.kind() {
            Kind::Message(descriptor) => {
                let message = MessageSeed(&descriptor).deserialize(deserializer)?;
                Ok(Some(Value::Message(message)))
            }
            kind => deserializer.deserialize_any(ScalarVisitor {
                field: self.0,
                kind,
            }),
        }
    }
}

struct ScalarVisitor<'a> {
    field: &'a FieldDescriptor,
    kind: Kind,
}

impl ScalarVisitor<'_> {
    fn invalid<E: Error>(&self, value: impl fmt::Display) -> E {
        let (kind, name) = (&self.kind, self.field.json_name());
        match kind {
            Kind::Enum(_) => {
                E::custom(format_args!("invalid value for enum field {name}: {value}"))
            }
            _ => E::custom(format_args!(
                "invalid value for {kind:?} field {name}: {value}"
            )),
        }
    }

    fn whole<E: Error>(&self, number: i128) -> Result<Option<Value>, E> {
        let value = match self.kind {
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => number.try_into().ok().map(Value::I32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => number.try_into().ok().map(Value::I64),
            Kind::Uint32 | Kind::Fixed32 => number.try_into().ok().map(Value::U32),
            Kind::Uint64 | Kind::Fixed64 => number.try_into().ok().map(Value::U64),
            Kind::Enum(_) => number.try_into().ok().map(Value::EnumNumber),
            _ => None,
        };
        match value {
            Some(value) => Ok(Some(value)),
            None => Err(self.invalid(number)),
        }
    }

    fn quoted_number<E: Error>(self, text: &str) -> Result<Option<Value>, E> {
        // The parser would skip blanks, which `protojson` refuses.
        let number = serde_json::from_str::<serde_json::Number>(text)
            .ok()
            .filter(|_| text.trim().len() == text.len());
        let Some(number) = number else {
            return Err(self.invalid(format_args!("{text:?}")));
        };
        match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => self.visit_i64(number),
            (None, Some(number), _) => self.visit_u64(number),
            (None, None, number) => self.visit_f64(number.unwrap_or(f64::NAN)),
        }
    }
}

impl Visitor<'_> for ScalarVisitor<'_> {
    type Value = Option<Value>;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "a value of field {}", self.field.name())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        match self.kind {
            Kind::Bool => Ok(Some(Value::Bool(value))),
            _ => Err(self.invalid(value)),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        self.whole(number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        self.whole(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        if number.fract() != 0.0 || number.is_nan() || number.abs() > EXACT {
            return Err(self.invalid(number));
        }
        #[allow(clippy::cast_possible_truncation, reason = "whole, and within 54 bits")]
        self.whole(number as i128)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        match &self.kind {
            Kind::String => Ok(Some(Value::String(text.to_owned()))),
            Kind::Bytes => match bytes_of(text) {
                Some(bytes) => Ok(Some(Value::Bytes(bytes.into()))),
                None => Err(self.invalid(format_args!("{text:?}"))),
            },
            Kind::Enum(names) => Ok(enum_number(names, text)),
            Kind::Bool => Err(self.invalid(format_args!("{text:?}"))),
            _ => self.quoted_number(text),
        }
    }
}

fn enum_number(names: &EnumDescriptor, name: &str) -> Option<Value> {
    let value = names.get_value_by_name(name)?;
    Some(Value::EnumNumber(value.number()))
}

/// Reads base64 as `protojson` does: the alphabet and the padding are guessed from the text.
fn bytes_of(text: &str) -> Option<Vec<u8>> {
    const fn engine(alphabet: &Alphabet, padding: DecodePaddingMode) -> GeneralPurpose {
        let config = GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(padding);
        GeneralPurpose::new(alphabet, config)
    }
    use DecodePaddingMode::{RequireCanonical, RequireNone};
    const PADDED: [GeneralPurpose; 2] = [
        engine(&STANDARD, RequireCanonical),
        engine(&URL_SAFE, RequireCanonical),
    ];
    const BARE: [GeneralPurpose; 2] = [
        engine(&STANDARD, RequireNone),
        engine(&URL_SAFE, RequireNone),
    ];
    let engines = if text.len().is_multiple_of(4) {
        &PADDED
    } else {
        &BARE
    };
    let engine = &engines[usize::from(text.contains(['-', '_']))];
    if text.contains(['\r', '\n']) {
        return engine.decode(text.replace(['\r', '\n'], "")).ok();
    }
    engine.decode(text).ok()
}
