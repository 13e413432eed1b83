//! JSON to trees, held against the schema while it is read: what the schema does not have is passed over without ever
//! being built.
//!
//! The parser takes what Go's takes, and says what Go's says of the rest.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::schema::{Definition, Fields, Schema, Schemas, Shape};

use super::DEPTH_LIMIT;
use super::findings::{Findings, Place};
use super::leaf::{self, Leaf, Leaves, Read};

/// Reads a body. Fails if it is not JSON.
pub(super) fn read(
    body: &[u8],
    schemas: &Schemas,
    definition: Option<Definition>,
    findings: &mut Findings<'_>,
) -> Result<Value, String> {
    let mut parser = Parser::new(body, schemas, findings);
    let value = match definition {
        Some(definition) => {
            let schema = Schema {
                shape: Shape::Defined(definition),
                ..Schema::default()
            };
            // Upstream decodes into an empty object, which `null` leaves as it is.
            let value = parser.known(&schema, &Place::Root, 0, None)?;
            value.unwrap_or_else(|| Value::Object(Map::new()))
        }
        None => parser.any(&Place::Root, 0, true)?,
    };
    parser.end()?;
    Ok(value)
}

/// Reads JSON that stands inside something else, of which nothing is known.
pub(super) fn read_any(
    text: &[u8],
    schemas: &Schemas,
    depth: usize,
    findings: &mut Findings<'_>,
) -> Result<Value, String> {
    let mut parser = Parser::new(text, schemas, findings);
    let value = parser.any(&Place::Root, depth, false)?;
    parser.end()?;
    Ok(value)
}

struct Parser<'b, 'f, 's, 'g> {
    body: &'b [u8],
    /// What is read next.
    at: usize,
    schemas: &'s Schemas,
    leaves: Leaves,
    findings: &'f mut Findings<'g>,
}

/// Where a value begins.
enum Start<'b> {
    Null,
    Object,
    List,
    Leaf(Leaf<'b>),
}

impl<'b, 'f, 's, 'g> Parser<'b, 'f, 's, 'g> {
    fn new(body: &'b [u8], schemas: &'s Schemas, findings: &'f mut Findings<'g>) -> Self {
        Self {
            body,
            at: 0,
            schemas,
            leaves: Leaves::new(schemas),
            findings,
        }
    }

    /// A value that the schema knows; none if it is null. What was read of the same field before is gone on with if
    /// it is an object, as Go does.
    fn known(
        &mut self,
        schema: &Schema,
        place: &Place<'_>,
        depth: usize,
        before: Option<Value>,
    ) -> Result<Option<Value>, String> {
        let (shape, definition) = leaf::resolve(self.schemas, schema);
        if matches!(shape, Shape::Any) {
            self.space();
            let value = self.any(place, depth, false)?;
            return Ok((!value.is_null()).then_some(value));
        }
        let before = match before {
            Some(Value::Object(before)) => before,
            _ => Map::new(),
        };
        let value = match (self.start(depth)?, shape) {
            (Start::Null, _) => return Ok(None),
            (Start::Object, Shape::Object(fields)) => {
                self.object(fields, definition, place, depth + 1, before)?
            }
            (Start::Object, Shape::Map(values)) => self.map(values, place, depth + 1, before)?,
            (Start::List, Shape::List(items)) => self.list(items, place, depth + 1)?,
            (Start::Leaf(leaf), _) => {
                let resolved = (shape, definition);
                self.leaves
                    .hold(leaf, schema, resolved, place, self.findings)
            }
            (Start::Object, _) => {
                self.skip_members(depth + 1)?;
                let resolved = (shape, definition);
                self.leaves
                    .hold(Leaf::Object, schema, resolved, place, self.findings)
            }
            (Start::List, _) => {
                self.skip_items(depth + 1)?;
                let resolved = (shape, definition);
                self.leaves
                    .hold(Leaf::List, schema, resolved, place, self.findings)
            }
        };
        Ok(Some(value))
    }

    fn object(
        &mut self,
        fields: &Fields,
        definition: Option<Definition>,
        place: &Place<'_>,
        depth: usize,
        mut object: Map<String, Value>,
    ) -> Result<Value, String> {
        // Fields that were there, but are not in the object; most often there is none.
        let mut nulls: Vec<&str> = Vec::new();
        let mut is_first = true;
        // What was there before this object began is no duplicate.
        let mut earlier: Vec<String> = object.keys().cloned().collect();
        while let Some(key) = self.key(&mut is_first)? {
            let Some((name, schema)) = fields.fields.get_key_value(key.as_ref()) else {
                self.findings.unknown(place, &key);
                self.skip(depth)?;
                continue;
            };
            let was_earlier = match earlier.iter().position(|one| **one == **name) {
                Some(found) => {
                    earlier.swap_remove(found);
                    true
                }
                None => false,
            };
            let before = object.remove(name.as_ref());
            if (before.is_some() && !was_earlier) || nulls.contains(&name.as_ref()) {
                self.findings.duplicate(place, name);
            }
            let inner = Place::Field(place, name, definition);
            match self.known(schema, &inner, depth, before)? {
                Some(value) => {
                    object.insert(String::from(&**name), value);
                }
                None => nulls.push(name),
            }
        }
        Ok(Value::Object(object))
    }

    fn map(
        &mut self,
        values: &Schema,
        place: &Place<'_>,
        depth: usize,
        mut map: Map<String, Value>,
    ) -> Result<Value, String> {
        // What was there before this map began is no duplicate. Most often there is nothing, and the map itself knows.
        let has_earlier = !map.is_empty();
        let mut names: HashSet<String> = HashSet::new();
        let mut is_first = true;
        while let Some(key) = self.key(&mut is_first)? {
            let is_there = match has_earlier {
                true => !names.insert(key.clone().into_owned()),
                false => map.contains_key(key.as_ref()),
            };
            if is_there {
                self.findings.duplicate(place, &key);
            }
            let value = self.known(values, &Place::Key(place, &key), depth, None)?;
            let value = value.unwrap_or_else(|| leaf::zero(self.schemas.shape(values)));
            map.insert(key.into_owned(), value);
        }
        Ok(Value::Object(map))
    }

    fn list(&mut self, items: &Schema, place: &Place<'_>, depth: usize) -> Result<Value, String> {
        let mut list = Vec::new();
        while self.item(list.is_empty())? {
            let value = self.known(items, &Place::Index(place, list.len()), depth, None)?;
            list.push(value.unwrap_or_else(|| leaf::zero(self.schemas.shape(items))));
        }
        Ok(Value::Array(list))
    }

    /// A value of which nothing is known.
    fn any(&mut self, place: &Place<'_>, depth: usize, minds: bool) -> Result<Value, String> {
        match self.start(depth)? {
            Start::Null => Ok(Value::Null),
            Start::Object => {
                let mut map = Map::new();
                let mut is_first = true;
                while let Some(key) = self.key(&mut is_first)? {
                    if minds && map.contains_key(key.as_ref()) {
                        self.findings.duplicate(place, &key);
                    }
                    let value = self.any(&Place::Key(place, &key), depth + 1, minds)?;
                    map.insert(key.into_owned(), value);
                }
                Ok(Value::Object(map))
            }
            Start::List => {
                let mut list = Vec::new();
                while self.item(list.is_empty())? {
                    let inner = Place::Index(place, list.len());
                    list.push(self.any(&inner, depth + 1, minds)?);
                }
                Ok(Value::Array(list))
            }
            Start::Leaf(Leaf::Number(Read::Digits(digits))) => {
                match Read::Digits(digits).number() {
                    Some(number) => Ok(Value::Number(number)),
                    None => {
                        self.findings.refuse(|| {
                            format!(
                                "json: cannot unmarshal number {digits} into Go value of type float64"
                            )
                        });
                        Ok(Value::Null)
                    }
                }
            }
            Start::Leaf(Leaf::Text(text)) => Ok(Value::String(text.into_owned())),
            Start::Leaf(Leaf::Bool(value)) => Ok(Value::Bool(value)),
            Start::Leaf(_) => Ok(Value::Null),
        }
    }

    /// Reads a value that nobody wants. No text is copied.
    fn skip(&mut self, depth: usize) -> Result<(), String> {
        match self.start(depth)? {
            Start::Object => self.skip_members(depth + 1),
            Start::List => self.skip_items(depth + 1),
            Start::Null | Start::Leaf(_) => Ok(()),
        }
    }

    fn skip_members(&mut self, depth: usize) -> Result<(), String> {
        let mut is_first = true;
        while self.key(&mut is_first)?.is_some() {
            self.skip(depth)?;
        }
        Ok(())
    }

    fn skip_items(&mut self, depth: usize) -> Result<(), String> {
        let mut is_first = true;
        while self.item(is_first)? {
            is_first = false;
            self.skip(depth)?;
        }
        Ok(())
    }

    /// The beginning of a value; the whole of it, if it holds no others.
    fn start(&mut self, depth: usize) -> Result<Start<'b>, String> {
        self.space();
        let start = match self.peek() {
            Some(b'{' | b'[') if depth >= DEPTH_LIMIT => {
                return Err(self.wrong("exceeded max depth"));
            }
            Some(b'{') => Start::Object,
            Some(b'[') => Start::List,
            Some(b'"') => return Ok(Start::Leaf(Leaf::Text(self.text()?))),
            Some(b'-' | b'0'..=b'9') => {
                return Ok(Start::Leaf(Leaf::Number(Read::Digits(self.number()?))));
            }
            Some(b't') => {
                self.word("true")?;
                return Ok(Start::Leaf(Leaf::Bool(true)));
            }
            Some(b'f') => {
                self.word("false")?;
                return Ok(Start::Leaf(Leaf::Bool(false)));
            }
            Some(b'n') => {
                self.word("null")?;
                return Ok(Start::Null);
            }
            _ => return Err(self.wrong("looking for beginning of value")),
        };
        self.at += 1;
        Ok(start)
    }

    /// The next name of an object, with the colon behind it; none at its end.
    fn key(&mut self, is_first: &mut bool) -> Result<Option<Cow<'b, str>>, String> {
        self.space();
        let may_end = *is_first;
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') if !may_end => {
                self.at += 1;
                self.space();
            }
            _ if !may_end => return Err(self.wrong("after object key:value pair")),
            _ => {}
        }
        *is_first = false;
        if self.peek() != Some(b'"') {
            return Err(self.wrong("looking for beginning of object key string"));
        }
        let key = self.text()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.wrong("after object key"));
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// Whether another item of a list comes.
    fn item(&mut self, is_first: bool) -> Result<bool, String> {
        self.space();
        match self.peek() {
            Some(b']') => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !is_first => {
                self.at += 1;
                Ok(true)
            }
            _ if is_first => Ok(true),
            _ => Err(self.wrong("after array element")),
        }
    }

    /// Nothing may follow the whole.
    fn end(&mut self) -> Result<(), String> {
        self.space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong("after top-level value")),
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), String> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                let expected = char::from(expected);
                return Err(self.wrong(&format!("in literal {word} (expecting '{expected}')")));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<&'b str, String> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits("in numeric literal")?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        // Nothing but ASCII was passed.
        Ok(str::from_utf8(&self.body[start..self.at]).unwrap_or_default())
    }

    /// One digit or more.
    fn digits(&mut self, context: &str) -> Result<(), String> {
        let rest = &self.body[self.at..];
        match rest.iter().take_while(|byte| byte.is_ascii_digit()).count() {
            0 => Err(self.wrong(context)),
            length => {
                self.at += length;
                Ok(())
            }
        }
    }

    fn text(&mut self) -> Result<Cow<'b, str>, String> {
        self.at += 1;
        let start = self.at;
        self.plain_text();
        if self.peek() == Some(b'"') {
            let text = &self.body[start..self.at];
            self.at += 1;
            // What is not UTF-8 is replaced, as Go does.
            return Ok(String::from_utf8_lossy(text));
        }
        let mut text = self.body[start..self.at].to_vec();
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    let one = self.escaped()?;
                    text.extend_from_slice(one.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => return Err(self.wrong("in string literal")),
            }
            let start = self.at;
            self.plain_text();
            text.extend_from_slice(&self.body[start..self.at]);
        }
        self.at += 1;
        Ok(Cow::Owned(match String::from_utf8(text) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }))
    }

    /// Passes text that stands for itself.
    fn plain_text(&mut self) {
        let rest = &self.body[self.at..];
        let is_plain = |byte: &&u8| !matches!(**byte, b'"' | b'\\' | 0..=0x1f);
        self.at += rest.iter().take_while(is_plain).count();
    }

    fn escaped(&mut self) -> Result<char, String> {
        let one = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.wrong("in string escape code")),
        };
        self.at += 1;
        Ok(one)
    }

    /// A character by its number, or by two. Half of one becomes that which stands for what cannot be read.
    fn unicode(&mut self) -> Result<char, String> {
        let high = self.hexadecimal()?;
        if !(0xd800..0xdc00).contains(&high) || !self.body[self.at..].starts_with(b"\\u") {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let before = self.at;
        self.at += 2;
        let low = self.hexadecimal()?;
        if (0xdc00..0xe000).contains(&low) {
            let number = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            return Ok(char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        self.at = before;
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hexadecimal(&mut self) -> Result<u32, String> {
        let mut number = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.wrong("in \\u hexadecimal character escape"));
            };
            number = number * 16 + digit;
            self.at += 1;
        }
        Ok(number)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    /// What Go says of a byte that may not stand here.
    fn wrong(&self, context: &str) -> String {
        let why = match self.peek() {
            None => "unexpected end of JSON input".to_owned(),
            Some(b'\'') => format!(r"invalid character '\'' {context}"),
            Some(b'"') => format!("invalid character '\"' {context}"),
            Some(byte @ (0..=0x1f | 0x7f..=0x9f | 0xad)) => {
                format!("invalid character '{}' {context}", unprintable(byte))
            }
            Some(b'\\') => format!(r"invalid character '\\' {context}"),
            Some(0xa0) => format!(r"invalid character '\u00a0' {context}"),
            Some(byte) => format!("invalid character '{}' {context}", char::from(byte)),
        };
        format!("couldn't get version/kind; json parse error: {why}")
    }
}

/// A byte as Go quotes it.
fn unprintable(byte: u8) -> String {
    match byte {
        7 => r"\a".to_owned(),
        8 => r"\b".to_owned(),
        9 => r"\t".to_owned(),
        10 => r"\n".to_owned(),
        11 => r"\v".to_owned(),
        12 => r"\f".to_owned(),
        13 => r"\r".to_owned(),
        0..=0x1f | 0x7f => format!(r"\x{byte:02x}"),
        _ => format!(r"\u{byte:04x}"),
    }
}
