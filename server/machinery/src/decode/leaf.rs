//! Single values held against the schema: those that hold no others.

use std::borrow::Cow;

use serde_json::{Number, Value};

use crate::schema::{Definition, Format, Schema, Schemas, Shape};

use super::findings::{Findings, Place};
use super::quantity;
use super::time::{Precision, Time};

/// A value that holds no others, as it was read.
pub(super) enum Leaf<'a> {
    Bool(bool),
    Number(Read<'a>),
    Text(Cow<'a, str>),
    /// The beginning of an object, where none may be.
    Object,
    /// The beginning of a list, where none may be.
    List,
}

/// A number, as it was read.
pub(super) enum Read<'a> {
    /// From text: its digits.
    Digits(&'a str),
    /// From a tree.
    Number(Number),
}

impl Read<'_> {
    fn text(&self) -> String {
        match self {
            Self::Digits(digits) => (*digits).to_owned(),
            Self::Number(number) => number.to_string(),
        }
    }

    /// If it is written as a whole number.
    fn whole(&self) -> Option<i64> {
        match self {
            Self::Digits(digits) => digits.parse().ok(),
            Self::Number(number) => number.as_i64(),
        }
    }

    /// As it is kept where any number may be; none if it is too great for any.
    pub(super) fn number(&self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(number.clone()),
            Self::Digits(digits) => {
                if let Ok(whole) = digits.parse::<i64>() {
                    return Some(whole.into());
                }
                if let Ok(whole) = digits.parse::<u64>() {
                    return Some(whole.into());
                }
                digits.parse().ok().and_then(Number::from_f64)
            }
        }
    }
}

impl Leaf<'_> {
    /// As Go's decoder calls it.
    fn word(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::Number(_) => "number",
            Self::Text(_) => "string",
            Self::Object => "object",
            Self::List => "array",
        }
    }
}

/// The definition that a schema refers to in the end, and the shape of that.
pub(super) fn resolve<'s>(
    schemas: &'s Schemas,
    schema: &'s Schema,
) -> (&'s Shape, Option<Definition>) {
    let mut definition = None;
    let mut shape = &schema.shape;
    while let Shape::Defined(next) = shape {
        definition = Some(*next);
        shape = &schemas.get(*next).shape;
    }
    (shape, definition)
}

/// What stands for `null` in a list or a map: the value that Go's types begin with.
pub(super) fn zero(shape: &Shape) -> Value {
    match shape {
        // Go's time of nothing is null in JSON; no text would be one.
        Shape::Any | Shape::Defined(_) | Shape::Text(Format::DateTime) => Value::Null,
        Shape::Boolean => false.into(),
        Shape::Integer { .. } | Shape::Number | Shape::IntOrString => 0.into(),
        Shape::Text(_) => "".into(),
        Shape::Quantity => "0".into(),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Map(_) | Shape::Object(_) => Value::Object(serde_json::Map::new()),
    }
}

/// Holds single values against the schema.
#[derive(Clone, Copy)]
pub(super) struct Leaves {
    time: Option<Definition>,
    micro_time: Option<Definition>,
}

impl Leaves {
    pub(super) fn new(schemas: &Schemas) -> Self {
        Self {
            time: schemas.named("io.k8s.apimachinery.pkg.apis.meta.v1.Time"),
            micro_time: schemas.named("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"),
        }
    }

    /// The value as it is kept; null, and a finding, if it may not be there.
    pub(super) fn hold(
        self,
        leaf: Leaf<'_>,
        schema: &Schema,
        (shape, definition): (&Shape, Option<Definition>),
        place: &Place<'_>,
        findings: &mut Findings<'_>,
    ) -> Value {
        match (shape, leaf) {
            (Shape::Any | Shape::Boolean, Leaf::Bool(value)) => value.into(),
            (Shape::Any | Shape::Number, Leaf::Number(read)) => match read.number() {
                Some(number) => Value::Number(number),
                None => {
                    findings.mistyped(&format!("number {}", read.text()), schema, place);
                    Value::Null
                }
            },
            (Shape::Integer { is_long }, Leaf::Number(read)) => {
                whole(&read, *is_long, schema, place, findings)
            }
            (Shape::IntOrString, Leaf::Number(read)) => {
                whole(&read, false, schema, place, findings)
            }
            (Shape::Any | Shape::IntOrString, Leaf::Text(text)) => text.into_owned().into(),
            (Shape::Text(Format::Plain), Leaf::Text(text)) => text.into_owned().into(),
            (Shape::Text(Format::Bytes), Leaf::Text(text)) => bytes(text, findings),
            (Shape::Text(Format::DateTime), Leaf::Text(text)) => {
                self.date_time(text, definition, findings)
            }
            (Shape::Quantity, Leaf::Text(text)) => amount(text.trim().to_owned(), findings),
            (Shape::Quantity, Leaf::Number(read)) => amount(read.text(), findings),
            (Shape::Quantity, _) => {
                findings.refuse(|| quantity::FORM.to_owned());
                Value::Null
            }
            (_, leaf) => {
                findings.mistyped(leaf.word(), schema, place);
                Value::Null
            }
        }
    }

    fn date_time(
        self,
        text: Cow<'_, str>,
        definition: Option<Definition>,
        findings: &mut Findings<'_>,
    ) -> Value {
        let precision = match definition {
            None => return text.into_owned().into(),
            one if one == self.time => Precision::Seconds,
            one if one == self.micro_time => Precision::Microseconds,
            Some(_) => return text.into_owned().into(),
        };
        match Time::read(&text, precision) {
            Ok(time) => time.write(precision).into(),
            Err(why) => {
                findings.refuse(|| why);
                Value::Null
            }
        }
    }
}

fn whole(
    read: &Read<'_>,
    is_long: bool,
    schema: &Schema,
    place: &Place<'_>,
    findings: &mut Findings<'_>,
) -> Value {
    match read.whole() {
        Some(whole) if is_long || i32::try_from(whole).is_ok() => whole.into(),
        _ => {
            findings.mistyped(&format!("number {}", read.text()), schema, place);
            Value::Null
        }
    }
}

fn amount(text: String, findings: &mut Findings<'_>) -> Value {
    match quantity::check(&text) {
        Ok(()) => text.into(),
        Err(why) => {
            findings.refuse(|| why.to_owned());
            Value::Null
        }
    }
}

/// Base64 as Go reads it: breaks of lines are skipped, bits behind the end are not minded. What is kept is written as
/// Go writes it.
fn bytes(text: Cow<'_, str>, findings: &mut Findings<'_>) -> Value {
    use base64::Engine as _;
    use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    let has_breaks = text.bytes().any(|byte| matches!(byte, b'\r' | b'\n'));
    let joined = match has_breaks {
        true => Cow::Owned(text.replace(['\r', '\n'], "")),
        false => Cow::Borrowed(text.as_ref()),
    };
    if STANDARD.decode(joined.as_ref()).is_ok() {
        return joined.into_owned().into();
    }
    match LENIENT.decode(joined.as_ref()) {
        Ok(decoded) => STANDARD.encode(decoded).into(),
        Err(_) => {
            findings.refuse(|| {
                format!(
                    "illegal base64 data at input byte {}",
                    first_illegal(text.as_bytes())
                )
            });
            Value::Null
        }
    }
}

/// Where Go says that base64 is damaged: at the byte that may not be there, or at the group that is not whole.
fn first_illegal(text: &[u8]) -> usize {
    let is_break = |byte: u8| matches!(byte, b'\r' | b'\n');
    let mut in_group = 0;
    let mut group_start = 0;
    let mut places = text
        .iter()
        .enumerate()
        .filter(|(_, byte)| !is_break(**byte));
    while let Some((place, byte)) = places.next() {
        if in_group == 0 {
            group_start = place;
        }
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => in_group = (in_group + 1) % 4,
            b'=' if in_group >= 2 => {
                if in_group == 2 {
                    match places.next() {
                        Some((_, b'=')) => {}
                        Some((place, _)) => return place.saturating_sub(1),
                        None => return text.len(),
                    }
                }
                return places.next().map_or(text.len(), |(place, _)| place);
            }
            _ => return place,
        }
    }
    group_start
}
