//! YAML to trees, the way that Kubernetes reads it: YAML 1.1's booleans and numbers, keys made text, and only the first
//! document.
//!
//! The parser's events are read, not the values that the crate above it makes of them: only the events tell a plain
//! `yes` from a quoted one, and where a key stands that is there twice.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Number, Value};

use crate::schema::{Definition, Schemas};

use super::findings::{FAULTS_LIMIT, Findings};
use super::{DEPTH_LIMIT, tree};

/// What aliases may add to a document: a unit for each value, and one for each byte of text. Without a limit, a few
/// lines could be made to stand for more than any memory holds.
const ALIASES_LIMIT: usize = 4 << 20;

/// Reads a body. Fails if it is not YAML.
pub(super) fn read(
    body: &[u8],
    schemas: &Schemas,
    definition: Option<Definition>,
    findings: &mut Findings<'_>,
) -> Result<Value, String> {
    let text = str::from_utf8(body).map_err(|_| "yaml: invalid leading UTF-8 octet".to_owned())?;
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    let mut reader = Reader {
        events: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        aliased: 0,
        duplicates: Vec::new(),
    };
    let mut value = reader.document()?;
    if !reader.duplicates.is_empty() {
        let lines = reader.duplicates.join("\n  ");
        findings.fault(|| format!("yaml: unmarshal errors:\n  {lines}"));
    }
    if let Some(definition) = definition {
        tree::hold(&mut value, schemas, definition, findings);
    }
    Ok(value)
}

struct Reader<'t> {
    events: Parser<'t, granit_parser::StrInput<'t>>,
    anchors: HashMap<usize, Anchored>,
    /// What of [`ALIASES_LIMIT`] is used.
    aliased: usize,
    duplicates: Vec<String>,
}

/// A value that may be referred to.
struct Anchored {
    value: Value,
    weight: usize,
    /// How deep values are inside it.
    depth: usize,
}

/// A key as YAML has it: `1` and `"1"` are two, though they are one in JSON.
#[derive(Clone, Debug, PartialEq)]
enum Key {
    Text(String),
    Boolean(bool),
    Number(Number),
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), String> {
        match self.events.next_event() {
            Some(event) => event.map_err(|error| describe(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// The first document, or null if there is none.
    fn document(&mut self) -> Result<Value, String> {
        loop {
            match self.next()?.0 {
                Event::StreamEnd => return Ok(Value::Null),
                Event::DocumentStart(..) => {
                    let (event, _) = self.next()?;
                    return match event {
                        Event::DocumentEnd => Ok(Value::Null),
                        event => self.node(event, 0),
                    };
                }
                _ => {}
            }
        }
    }

    fn node(&mut self, event: Event<'t>, depth: usize) -> Result<Value, String> {
        let is_nested = matches!(event, Event::SequenceStart(..) | Event::MappingStart(..));
        if is_nested && depth >= DEPTH_LIMIT {
            return Err("yaml: exceeded max depth".to_owned());
        }
        let (value, anchor) = match event {
            Event::Alias(anchor) => return self.alias(anchor, depth),
            Event::Scalar(text, style, anchor, tag) => {
                (scalar(&text, style, tag.as_deref())?, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(depth)?, anchor),
            _ => return Err("yaml: did not find expected node content".to_owned()),
        };
        if anchor != 0 {
            let (weight, depth) = measure(&value);
            self.charge(weight)?;
            let anchored = Anchored {
                value: value.clone(),
                weight,
                depth,
            };
            self.anchors.insert(anchor, anchored);
        }
        Ok(value)
    }

    fn list(&mut self, depth: usize) -> Result<Value, String> {
        let mut list = Vec::new();
        loop {
            match self.next()?.0 {
                Event::SequenceEnd => return Ok(Value::Array(list)),
                event => list.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, String> {
        let mut map = Map::new();
        // Keys that are not text, by what they are called in JSON; most maps have none.
        let mut others: HashMap<String, Key> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            let line = span.start.line();
            if matches!(event, Event::MappingEnd) {
                return Ok(Value::Object(map));
            }
            if is_merge(&event) {
                let (event, _) = self.next()?;
                let merged = self.node(event, depth + 1)?;
                self.merge(merged, line, &mut map, &mut others)?;
                continue;
            }
            let key = self.key(event, depth)?;
            let (event, _) = self.next()?;
            let value = self.node(event, depth + 1)?;
            self.put(key, value, line, &mut map, &mut others);
        }
    }

    fn key(&mut self, event: Event<'t>, depth: usize) -> Result<Key, String> {
        match self.node(event, depth + 1)? {
            Value::String(text) => Ok(Key::Text(text)),
            Value::Bool(value) => Ok(Key::Boolean(value)),
            Value::Number(number) => Ok(Key::Number(number)),
            Value::Null => Err("unsupported map key of type: %!s(<nil>), key: <nil>".to_owned()),
            other => Err(format!("yaml: invalid map key: {other}")),
        }
    }

    /// Puts a value under a key; the last one counts.
    fn put(
        &mut self,
        key: Key,
        value: Value,
        line: usize,
        map: &mut Map<String, Value>,
        others: &mut HashMap<String, Key>,
    ) {
        let name = key.name();
        let is_twice = match &key {
            // A key that is not text may have the same name; it is another to YAML.
            Key::Text(_) => map.contains_key(&name) && !others.contains_key(&name),
            _ => others.get(&name) == Some(&key),
        };
        if is_twice && self.duplicates.len() < FAULTS_LIMIT {
            let shown = key.shown();
            self.duplicates
                .push(format!("line {line}: key {shown} already set in map"));
        }
        if !matches!(key, Key::Text(_)) {
            others.insert(name.clone(), key);
        }
        map.insert(name, value);
    }

    /// `<<`: what another map has. As upstream's parser has it, this overwrites what stands before it.
    fn merge(
        &mut self,
        merged: Value,
        line: usize,
        map: &mut Map<String, Value>,
        others: &mut HashMap<String, Key>,
    ) -> Result<(), String> {
        let maps = match merged {
            Value::Object(_) => vec![merged],
            // The first of several counts most, so it comes last.
            Value::Array(maps) => maps.into_iter().rev().collect(),
            _ => Vec::new(),
        };
        let is_map = !maps.is_empty() && maps.iter().all(Value::is_object);
        if !is_map {
            let why = "yaml: map merge requires map or sequence of maps as the value";
            return Err(why.to_owned());
        }
        for one in maps {
            let Value::Object(members) = one else {
                continue;
            };
            for (name, value) in members {
                self.put(Key::Text(name), value, line, map, others);
            }
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, depth: usize) -> Result<Value, String> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            // The parser knows the anchor, but its value has not come to its end.
            return Err("yaml: anchor value contains itself".to_owned());
        };
        if depth + anchored.depth > DEPTH_LIMIT {
            return Err("yaml: exceeded max depth".to_owned());
        }
        let weight = anchored.weight;
        self.charge(weight)?;
        let anchored = self.anchors.get(&anchor);
        Ok(anchored.map_or(Value::Null, |anchored| anchored.value.clone()))
    }

    fn charge(&mut self, weight: usize) -> Result<(), String> {
        self.aliased = self.aliased.saturating_add(weight);
        if self.aliased > ALIASES_LIMIT {
            return Err("yaml: document contains excessive aliasing".to_owned());
        }
        Ok(())
    }
}

impl Key {
    /// As JSON has it.
    fn name(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Boolean(value) => value.to_string(),
            Self::Number(number) => number.to_string(),
        }
    }

    /// As upstream prints it.
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            other => other.name(),
        }
    }
}

/// How much a value is, and how deep. As deep as the parser lets it be, which has its own limit.
fn measure(value: &Value) -> (usize, usize) {
    match value {
        Value::Object(map) => {
            let inner = map.iter().map(|(key, value)| {
                let (weight, depth) = measure(value);
                (weight + key.len(), depth)
            });
            measure_all(inner)
        }
        Value::Array(list) => measure_all(list.iter().map(measure)),
        Value::String(text) => (1 + text.len(), 0),
        _ => (1, 0),
    }
}

fn measure_all(inner: impl Iterator<Item = (usize, usize)>) -> (usize, usize) {
    inner.fold((1, 1), |(weight, depth), (inner, inner_depth)| {
        (weight.saturating_add(inner), depth.max(inner_depth + 1))
    })
}

fn is_merge(event: &Event<'_>) -> bool {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, _, tag) => text == "<<" && tag.is_none(),
        _ => false,
    }
}

fn describe(error: &ScanError) -> String {
    format!("yaml: line {}: {}", error.marker().line(), error.info())
}

/// What a scalar means.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let tag = tag.filter(|tag| tag.is_yaml_core_schema() || is_binary(tag));
    let Some(tag) = tag else {
        return Ok(match style {
            ScalarStyle::Plain => plain(text)?,
            _ => text.into(),
        });
    };
    let name = tag.suffix();
    if name == "str" {
        return Ok(text.into());
    }
    if name == "binary" {
        return binary(text);
    }
    let value = plain(text)?;
    let is_such = match name {
        "bool" => value.is_boolean(),
        "int" => value.is_i64() || value.is_u64(),
        "float" => value.is_number(),
        "null" => value.is_null(),
        _ => true,
    };
    if is_such {
        Ok(value)
    } else {
        Err(format!("yaml: cannot decode !!str `{text}` as a !!{name}"))
    }
}

fn is_binary(tag: &Tag) -> bool {
    tag.handle() == "tag:yaml.org,2002:" && tag.suffix() == "binary"
}

fn binary(text: &str) -> Result<Value, String> {
    use base64::Engine as _;
    let joined: String = text.split_ascii_whitespace().collect();
    match base64::engine::general_purpose::STANDARD.decode(joined) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned().into()),
        Err(_) => Err("yaml: !!binary value contains invalid base64 data".to_owned()),
    }
}

/// What text means that is not quoted.
fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return Ok(true.into());
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Ok(false.into());
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Err(not_json("+Inf")),
        "-.inf" | "-.Inf" | "-.INF" => return Err(not_json("-Inf")),
        ".nan" | ".NaN" | ".NAN" => return Err(not_json("NaN")),
        _ => {}
    }
    let is_number = text
        .bytes()
        .next()
        .is_some_and(|first| matches!(first, b'0'..=b'9' | b'+' | b'-' | b'.'));
    if is_number {
        let digits = text.replace('_', "");
        if let Some(number) = whole(&digits) {
            return Ok(Value::Number(number));
        }
        if let Some(number) = fractional(&digits)? {
            return Ok(Value::Number(number));
        }
    }
    Ok(text.into())
}

fn not_json(number: &str) -> String {
    format!("json: unsupported value: {number}")
}

/// A whole number: decimal, or with a prefix as C and Go have them. A zero in front makes it octal.
fn whole(text: &str) -> Option<Number> {
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // Rust would take another sign.
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None;
    }
    if sign == "-" {
        return i64::from_str_radix(&format!("-{digits}"), radix)
            .ok()
            .map(Number::from);
    }
    u64::from_str_radix(digits, radix).ok().map(Number::from)
}

/// A number with a fraction or an exponent. One that turns out whole is written as such in JSON.
fn fractional(text: &str) -> Result<Option<Number>, String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_mantissa = match mantissa.split_once('.') {
        Some((before, behind)) => {
            are_digits(before) && are_digits(behind) && !(before.is_empty() && behind.is_empty())
        }
        None => are_digits(mantissa) && !mantissa.is_empty(),
    };
    let has_exponent = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        are_digits(digits) && !digits.is_empty()
    });
    if !has_mantissa || !has_exponent {
        return Ok(None);
    }
    let Ok(value) = text.parse::<f64>() else {
        return Ok(None);
    };
    if value.is_infinite() {
        return Err(not_json(if value > 0.0 { "+Inf" } else { "-Inf" }));
    }
    /// Whole numbers up to here are exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        // Exact, so nothing is cut off.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole and within the range"
        )]
        return Ok(Some(Number::from(value as i64)));
    }
    Ok(Number::from_f64(value))
}
