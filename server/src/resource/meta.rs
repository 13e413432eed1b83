//! Metadata of objects: what the server writes into it.

use machinery::defaults::objects_in;
use machinery::kind::Kind;
use machinery::status::{About, FieldError, Status};
use serde_json::{Map, Value, json};

/// Letters of generated names: no vowels, so that no words come out.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// How many letters a generated name gets.
const GENERATED: usize = 5;

/// The longest name that letters are appended to.
const GENERATED_BASE: usize = 58;

/// The metadata of an object, made if there is none.
pub(super) fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let fields = object.as_object_mut().expect("it has just been made one");
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata.as_object_mut().expect("it has just been made one")
}

/// A text of the metadata; empty if there is none.
pub(super) fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"][name].as_str().unwrap_or_default()
}

/// The objects of a list, to be changed. What is not there stays so.
pub(super) fn items_mut<'a>(
    object: &'a mut Value,
    name: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let fields = object.as_object_mut().into_iter();
    fields.flat_map(move |fields| objects_in(fields, name))
}

/// The finalizers of an object.
pub(super) fn finalizers(object: &Value) -> Vec<&str> {
    let listed = object["metadata"]["finalizers"].as_array();
    listed
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Whether its deletion has begun.
pub(super) fn is_being_deleted(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// An error's subject: the resource.
pub(super) fn about(kind: &Kind, name: &str) -> About {
    About {
        group: kind.group.clone(),
        kind: kind.plural.clone(),
        name: name.to_owned(),
    }
}

/// The error of fields that do not pass.
pub(super) fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Status {
    let about = About {
        group: kind.group.clone(),
        kind: kind.kind.clone(),
        name: name.to_owned(),
    };
    Status::invalid(about, errors)
}

/// Others change it all the time.
pub(super) fn too_busy(kind: &Kind, name: &str) -> Status {
    let about = about(kind, name);
    let why = "others kept changing it; please try again";
    Status::conflict(about, why)
}

/// A name made of what it begins with.
pub(super) fn generate_name(base: &str) -> String {
    let cut = base.char_indices().nth(GENERATED_BASE);
    let base = cut.map_or(base, |(end, _)| &base[..end]);
    let random: [u8; GENERATED] = super::random();
    let letters = random.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
    base.chars().chain(letters).collect()
}

/// Seconds since 1970 as RFC 3339.
pub(super) fn timestamp(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 1 March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(timestamp(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(timestamp(1_795_745_137), "2026-11-27T02:05:37Z");
    }

    #[test]
    fn generated_names_are_short_enough_and_begin_as_asked() {
        let name = generate_name("web-");
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert_eq!(generate_name(&"x".repeat(80)).len(), 63);
    }
}
