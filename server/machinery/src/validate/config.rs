//! ConfigMaps and Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::names;
use super::place::Place;
use super::report::Report;

/// Bytes of all that one holds.
const MOST: usize = 1024 * 1024;

/// What upstream says of what was said to stay.
const SEALED: &str = "field is immutable when `immutable` is set";

/// What is shown of a secret in errors.
const HIDDEN: &str = "<secret contents redacted>";

/// Rules for ConfigMaps.
pub(super) fn check_config_map(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    check_sealed(new, old, &["data", "binaryData"], report);
    let (texts, bytes) = (new.at("data"), new.at("binaryData"));
    let mut size = 0;
    for (key, value) in texts.entries() {
        check_key(&value, key, report);
        if bytes.key(key).is_there() {
            report.invalid_value(&value, json!(key), "duplicate of key present in binaryData");
        }
        size += value.len();
    }
    for (key, value) in bytes.entries() {
        check_key(&value, key, report);
        size += decoded(&value).map_or(0, |bytes| bytes.len());
    }
    if size > MOST {
        // Upstream's errors about the whole object have this name.
        report.too_long(&new.called("[]"), MOST);
    }
}

fn check_key(place: &Place<'_>, key: &str, report: &mut Report) {
    for detail in names::config_key(key) {
        report.invalid_value(place, json!(key), detail);
    }
}

fn decoded(place: &Place<'_>) -> Option<Vec<u8>> {
    STANDARD.decode(place.text()).ok()
}

fn check_sealed(new: &Place<'_>, old: Option<&Place<'_>>, fields: &[&str], report: &mut Report) {
    let Some(old) = old.filter(|old| old.at("immutable").is_true()) else {
        return;
    };
    if !new.at("immutable").is_true() {
        report.forbidden(&new.at("immutable"), SEALED);
    }
    for field in fields {
        report.forbid_change(&new.at(field), &old.at(field), SEALED);
    }
}

/// Rules for Secrets.
pub(super) fn check_secret(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    if let Some(old) = old {
        report.check_unchanged(&new.at("type"), &old.at("type"));
    }
    check_sealed(new, old, &["data"], report);
    let data = new.at("data");
    let mut size = 0;
    for (key, value) in data.entries() {
        check_key(&value, key, report);
        match decoded(&value) {
            Some(bytes) => size += bytes.len(),
            None => report.invalid_value(&value, json!(HIDDEN), "illegal base64 data"),
        }
    }
    if size > MOST {
        report.too_long(&data, MOST);
    }
    check_type(new, report);
}

/// Some types of secrets need some keys.
fn check_type(secret: &Place<'_>, report: &mut Report) {
    let data = secret.at("data");
    match secret.at("type").text() {
        "kubernetes.io/service-account-token" => {
            let account = secret
                .at("metadata.annotations")
                .key("kubernetes.io/service-account.name");
            report.check_there(&account);
        }
        "kubernetes.io/dockercfg" => check_document(&data.key(".dockercfg"), report),
        "kubernetes.io/dockerconfigjson" => check_document(&data.key(".dockerconfigjson"), report),
        "kubernetes.io/basic-auth" => {
            let (name, password) = (data.key("username"), data.key("password"));
            if !name.is_there() && !password.is_there() {
                report.required(&name, "");
                report.required(&password, "");
            }
        }
        "kubernetes.io/ssh-auth" => report.check_there(&data.key("ssh-privatekey")),
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if !data.key(key).is_there() {
                    report.required(&data.key(key), "");
                }
            }
        }
        _ => {}
    }
}

/// A key whose bytes are a JSON object. The errors are those of Go, as far as is worth it.
fn check_document(place: &Place<'_>, report: &mut Report) {
    if !place.is_there() {
        return report.required(place, "");
    }
    let kind = match serde_json::from_slice(&decoded(place).unwrap_or_default()) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(Value::Array(_)) => "array",
        Ok(Value::String(_)) => "string",
        Ok(Value::Number(_)) => "number",
        Ok(Value::Bool(_)) => "bool",
        Err(error) if error.is_eof() => {
            return report.invalid_value(place, json!(HIDDEN), "unexpected end of JSON input");
        }
        Err(_) => {
            return report.invalid_value(place, json!(HIDDEN), "invalid character in JSON input");
        }
    };
    let detail =
        format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}");
    report.invalid_value(place, json!(HIDDEN), detail);
}
