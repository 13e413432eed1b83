//! Objects as bodies of protobuf, by the table that the server reads them with. A value of another type than the
//! table says is written as what it is.

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

const TABLE: &str = include_str!("../../machinery/data/protobuf.txt");

struct Field {
    number: u64,
    name: &'static str,
    kept: &'static str,
    /// With its package, if it is a message.
    of: String,
}

fn messages() -> &'static HashMap<String, Vec<Field>> {
    static MESSAGES: LazyLock<HashMap<String, Vec<Field>>> = LazyLock::new(|| {
        let mut messages: HashMap<String, Vec<Field>> = HashMap::new();
        let (mut package, mut message) = ("", String::new());
        let plain = ["bool", "int32", "int64", "float64", "string", "bytes"];
        let full = |package: &str, name: &str| {
            let is_full = name.contains('.') || plain.contains(&name);
            if is_full {
                name.to_owned()
            } else {
                format!("{package}.{name}")
            }
        };
        for line in TABLE.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["package", name] => package = name,
                ["message", name] => {
                    message = full(package, name);
                    messages.entry(message.clone()).or_default();
                }
                [number, name, kept, of, ..] if number.parse::<u64>().is_ok() => {
                    messages.entry(message.clone()).or_default().push(Field {
                        number: number.parse().unwrap(),
                        name,
                        kept,
                        of: full(package, of),
                    });
                }
                _ => {}
            }
        }
        messages
    });
    &MESSAGES
}

/// The body of an object that says its kind.
pub(crate) fn encode(object: &Value) -> Vec<u8> {
    let text = |name: &str| object[name].as_str().unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let (group, short) = version.rsplit_once('/').unwrap_or(("core", version));
    let package = match group {
        "apiextensions.k8s.io" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
        group => &format!("io.k8s.api.{}", group.split('.').next().unwrap_or_default()),
    };
    let mut raw = Vec::new();
    message(&format!("{package}.{short}.{kind}"), object, &mut raw);
    let mut type_meta = Vec::new();
    bytes(1, version.as_bytes(), &mut type_meta);
    bytes(2, kind.as_bytes(), &mut type_meta);
    let mut out = b"k8s\0".to_vec();
    bytes(1, &type_meta, &mut out);
    bytes(2, &raw, &mut out);
    bytes(3, b"", &mut out);
    bytes(4, b"", &mut out);
    out
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f | 0x80).to_le_bytes()[0]);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn bytes(number: u64, value: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | 2, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn integer(number: u64, value: u64, out: &mut Vec<u8>) {
    varint(number << 3, out);
    varint(value, out);
}

fn message(name: &str, value: &Value, out: &mut Vec<u8>) {
    let last = name.rsplit('.').next().unwrap_or_default();
    match (last, value) {
        ("Time" | "MicroTime", Value::String(text)) => {
            // Any time will do.
            integer(1, 1_767_323_045 + text.len() as u64, out);
        }
        ("Quantity", Value::String(text)) => bytes(1, text.as_bytes(), out),
        ("Quantity", Value::Number(number)) => bytes(1, number.to_string().as_bytes(), out),
        ("IntOrString", Value::String(text)) => {
            integer(1, 1, out);
            bytes(3, text.as_bytes(), out);
        }
        ("IntOrString", Value::Number(number)) => {
            integer(1, 0, out);
            integer(2, number.as_i64().unwrap_or(-1).cast_unsigned(), out);
        }
        ("RawExtension" | "FieldsV1" | "JSON", value) => {
            bytes(1, value.to_string().as_bytes(), out);
        }
        (_, value) => fields(name, value, out),
    }
}

fn fields(name: &str, object: &Value, out: &mut Vec<u8>) {
    for field in messages().get(name).into_iter().flatten() {
        if field.kept == "inline" {
            let mut inner = Vec::new();
            fields(&field.of, object, &mut inner);
            bytes(field.number, &inner, out);
            continue;
        }
        match (field.kept, object.get(field.name)) {
            (_, None | Some(Value::Null)) => {}
            ("list", Some(Value::Array(items))) => {
                for item in items {
                    one(field.number, &field.of, item, out);
                }
            }
            ("map", Some(Value::Object(entries))) => {
                for (key, value) in entries {
                    let mut entry = Vec::new();
                    bytes(1, key.as_bytes(), &mut entry);
                    one(2, &field.of, value, &mut entry);
                    bytes(field.number, &entry, out);
                }
            }
            (_, Some(value)) => one(field.number, &field.of, value, out),
        }
    }
}

fn one(number: u64, of: &str, value: &Value, out: &mut Vec<u8>) {
    match (of, value) {
        ("bytes", Value::String(text)) => {
            let decoded = STANDARD.decode(text);
            bytes(number, &decoded.unwrap_or_default(), out);
        }
        ("float64", Value::Number(value)) => {
            varint(number << 3 | 1, out);
            out.extend_from_slice(&value.as_f64().unwrap_or(f64::NAN).to_le_bytes());
        }
        ("bool" | "int32" | "int64" | "string" | "bytes" | "float64", value) => match value {
            Value::Bool(value) => integer(number, u64::from(*value), out),
            Value::Number(value) => {
                let value = value.as_i64().unwrap_or(i64::MIN);
                integer(number, value.cast_unsigned(), out);
            }
            Value::String(text) => bytes(number, text.as_bytes(), out),
            other => bytes(number, other.to_string().as_bytes(), out),
        },
        (name, value) => {
            let mut inner = Vec::new();
            message(name, value, &mut inner);
            bytes(number, &inner, out);
        }
    }
}
