//! Bodies that are almost good ones: trees of other values in other places, and text with other bytes in it, in JSON,
//! YAML and protobuf. Everything follows from a seed.
#![allow(dead_code, reason = "each test binary uses its own part")]

use serde_json::{Map, Value, json};

use super::protobuf;

/// Random numbers that are the same for a seed on every machine (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn of_seed(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// Whether something of so many in a hundred happens.
    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// What a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
    Protobuf,
}

pub(crate) const FORMATS: [Format; 3] = [Format::Json, Format::Yaml, Format::Protobuf];

/// An object in a format.
pub(crate) fn encoded(format: Format, object: &Value) -> Vec<u8> {
    match format {
        Format::Json => object.to_string().into_bytes(),
        Format::Yaml => {
            let mut text = String::new();
            yaml(object, 0, &mut text);
            text.into_bytes()
        }
        Format::Protobuf => protobuf::encode(object),
    }
}

/// A body made of a good object: half of the time only the tree is changed, so that what comes out can still be read.
pub(crate) fn mutated(random: &mut Random, format: Format, object: &Value) -> Vec<u8> {
    let mut object = object.clone();
    let changes_bytes = random.percent(35);
    for _ in 0..random.below(4) {
        change_tree(random, &mut object);
    }
    let mut bytes = encoded(format, &object);
    if changes_bytes {
        for _ in 0..=random.below(3) {
            change_bytes(random, &mut bytes);
        }
    }
    bytes
}

/// Values that something stumbles over somewhere.
fn odd(random: &mut Random) -> Value {
    let texts = [
        "",
        " ",
        "x",
        "X_y",
        "a.b-c",
        "..",
        "a/b",
        "a/b/c",
        "-1",
        "0",
        "007",
        "1e999999999",
        "10Gi",
        "0.0000000001n",
        "9223372036854775808",
        "1E",
        "100%",
        "-5%",
        "2026-01-02T03:04:05Z",
        "2026-13-45T99:00:00Z",
        "9999-12-31T23:59:60.999999999+23:59",
        "1h30m",
        "null",
        "true",
        "*",
        "10.0.0.1",
        "::1",
        "10.0.0.0/33",
        "AAAA",
        "AA=A",
        "\u{0}",
        "\u{fffd}\u{1f980}\u{202e}",
        "%s%n{}\\\"'",
        "kubernetes.io/x",
        "*/5 * * * *",
        "@every 1ns",
        "v1",
        "ConfigMap",
    ];
    match random.below(14) {
        0 => Value::Null,
        1 => json!(random.percent(50)),
        2 => json!(i64::MAX),
        3 => json!(u64::MAX),
        4 => json!(i64::MIN),
        5 => json!(f64::MAX),
        6 => json!(*random.pick(&[
            -1_i64,
            0,
            1,
            2,
            255,
            256,
            65_535,
            65_536,
            1 << 31,
            (1 << 31) - 1
        ])),
        7 => json!(*random.pick(&[0.5, -0.0, 1e-300, 1.0, 3e18])),
        8 => json!([]),
        9 => json!({}),
        10 => json!([[null], {}]),
        11 => json!({ "a": { "b": [1] } }),
        12 => json!("y".repeat(*random.pick(&[63, 64, 253, 254, 1_000]))),
        _ => json!(*random.pick(&texts)),
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Object(fields) => fields.values().map(count).sum(),
        Value::Array(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

/// The value of a number, in the order in which they are found.
fn nth<'a>(value: &'a mut Value, number: &mut usize) -> Option<&'a mut Value> {
    if *number == 0 {
        return Some(value);
    }
    *number -= 1;
    match value {
        Value::Object(fields) => fields.values_mut().find_map(|one| nth(one, number)),
        Value::Array(items) => items.iter_mut().find_map(|one| nth(one, number)),
        _ => None,
    }
}

fn some<'a>(random: &mut Random, value: &'a mut Value) -> &'a mut Value {
    let mut number = random.below(count(value));
    nth(value, &mut number).expect("there are as many values as were counted")
}

fn change_tree(random: &mut Random, object: &mut Value) {
    match random.below(8) {
        0..=2 => {
            let value = odd(random);
            *some(random, object) = value;
        }
        // A part of it somewhere else.
        3 => {
            let part = some(random, object).clone();
            let place = some(random, object);
            // Not again and again into itself.
            if count(&part) < 200 {
                *place = part;
            }
        }
        4 => match some(random, object) {
            Value::Object(fields) if !fields.is_empty() => {
                let name = random
                    .pick(&fields.keys().cloned().collect::<Vec<_>>())
                    .clone();
                fields.remove(&name);
            }
            Value::Array(items) if !items.is_empty() => {
                items.remove(random.below(items.len()));
            }
            other => *other = Value::Null,
        },
        5 => match some(random, object) {
            Value::Object(fields) if !fields.is_empty() => {
                let name = random
                    .pick(&fields.keys().cloned().collect::<Vec<_>>())
                    .clone();
                let value = fields.remove(&name).unwrap_or_default();
                let other = match random.below(3) {
                    0 => name.to_uppercase(),
                    1 => format!("{name}x"),
                    _ => odd(random).to_string(),
                };
                fields.insert(other, value);
            }
            Value::Array(items) if !items.is_empty() => {
                let item = random.pick(items).clone();
                items.push(item);
            }
            other => *other = json!([other.clone()]),
        },
        6 => {
            let value = odd(random);
            if let Value::Object(fields) = some(random, object) {
                let names = [
                    "metadata",
                    "spec",
                    "status",
                    "name",
                    "generateName",
                    "finalizers",
                    "ownerReferences",
                    "managedFields",
                    "labels",
                    "unknown",
                    "",
                    "$patch",
                ];
                fields.insert((*random.pick(&names)).to_owned(), value);
            }
        }
        _ => {
            let depth = *random.pick(&[5, 90, 120]);
            let deep = (0..depth).fold(json!(1), |inner, _| json!([inner]));
            *some(random, object) = deep;
        }
    }
}

fn change_bytes(random: &mut Random, bytes: &mut Vec<u8>) {
    let tokens: [&[u8]; 24] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b": ",
        b"\"",
        b"'",
        b"\\",
        b"\\ud800",
        b"\\u0000",
        b"\x00",
        b"\xff",
        b"\xc3\x28",
        b"&a ",
        b"*a",
        b"!!binary ",
        b"---\n",
        b"<<: ",
        b"|\n",
        b"1e9999",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\"name\":\"again\",",
    ];
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    let end = (at + 1 + random.below(20)).min(bytes.len());
    match random.below(6) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => {
            bytes.drain(at..end);
        }
        2 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        3 => bytes.truncate(at),
        _ => {
            let token = random.pick(&tokens).to_vec();
            bytes.splice(at..at, token);
        }
    }
}

/// Block style, as people write it; what is no plain word is quoted as in JSON.
fn yaml(value: &Value, indent: usize, out: &mut String) {
    let start = |out: &mut String| {
        out.push('\n');
        out.push_str(&" ".repeat(indent));
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, field) in fields {
                start(out);
                out.push_str(&scalar(&json!(name)));
                out.push_str(": ");
                yaml(field, indent + 2, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                start(out);
                out.push_str("- ");
                yaml(item, indent + 2, out);
            }
        }
        other => out.push_str(&scalar(other)),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text)
            if text.len() > 2
                && text.starts_with(|first: char| first.is_ascii_lowercase())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !["null", "true", "false", "yes", "off"].contains(&text.as_str()) =>
        {
            text.clone()
        }
        other => other.to_string(),
    }
}

/// An object with another name, so that many can be made of one.
pub(crate) fn named(object: &Value, name: &str) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.insert("name".to_owned(), json!(name));
    } else {
        object["metadata"] = Value::Object(Map::from_iter([("name".to_owned(), json!(name))]));
    }
    object
}
