//! The errors that rules find, and the small checks that many rules are made of.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::names;
use super::place::{Place, is_same};
use crate::kind::NameRule;
use crate::status::{Fault, FieldError};

/// More errors than this are not kept: nobody reads them, and an object of a few megabytes can have a great many.
const MOST: usize = 1000;

/// What upstream says of a field that may not change.
pub(super) const IMMUTABLE: &str = "field is immutable";

/// What upstream says of a number below zero.
const NEGATIVE: &str = "must be greater than or equal to 0";

/// Errors in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Report {
    errors: Vec<FieldError>,
}

impl Report {
    /// Each error once.
    pub(super) fn into_errors(self) -> Vec<FieldError> {
        let mut known = HashSet::new();
        let mut errors = self.errors;
        errors.retain(|error| known.insert((error.field.clone(), error.body())));
        errors
    }

    /// How many there are so far.
    pub(super) fn len(&self) -> usize {
        self.errors.len()
    }

    fn add(&mut self, error: FieldError) {
        if self.errors.len() < MOST {
            self.errors.push(error);
        }
    }

    /// It must be there.
    pub(super) fn required(&mut self, place: &Place<'_>, detail: &str) {
        self.add(FieldError::new(&place.path, Fault::Required, detail));
    }

    /// It has a value that it may not have.
    pub(super) fn invalid(&mut self, place: &Place<'_>, detail: impl Into<String>) {
        self.invalid_value(place, place.value.clone(), detail);
    }

    /// The same of text, where nothing reads as the empty text.
    pub(super) fn invalid_text(&mut self, place: &Place<'_>, detail: impl Into<String>) {
        self.invalid_value(place, json!(place.text()), detail);
    }

    /// The same with another value than that of the place.
    pub(super) fn invalid_value(
        &mut self,
        place: &Place<'_>,
        value: Value,
        detail: impl Into<String>,
    ) {
        self.add(FieldError::new(&place.path, Fault::Invalid, detail).of(value));
    }

    /// It may not be there, or not change.
    pub(super) fn forbidden(&mut self, place: &Place<'_>, detail: impl Into<String>) {
        self.add(FieldError::new(&place.path, Fault::Forbidden, detail));
    }

    /// Another has the same.
    pub(super) fn duplicate(&mut self, place: &Place<'_>) {
        self.duplicate_value(place, place.value.clone(), "");
    }

    /// The same with another value, and more words.
    pub(super) fn duplicate_value(&mut self, place: &Place<'_>, value: Value, detail: &str) {
        self.add(FieldError::new(&place.path, Fault::Duplicate, detail).of(value));
    }

    /// What it names is not there.
    pub(super) fn not_found(&mut self, place: &Place<'_>, detail: &str) {
        self.add(FieldError::new(&place.path, Fault::NotFound, detail).of(json!(place.text())));
    }

    /// Too many bytes.
    pub(super) fn too_long(&mut self, place: &Place<'_>, most: usize) {
        let detail = format!("may not be more than {most} bytes");
        self.add(FieldError::new(&place.path, Fault::TooLong, detail));
    }

    /// Too many items.
    pub(super) fn too_many(&mut self, place: &Place<'_>, most: usize) {
        let detail = format!("must have at most {most} items");
        self.add(FieldError::new(&place.path, Fault::TooMany, detail));
    }

    /// None of the values that there are.
    pub(super) fn unsupported(&mut self, place: &Place<'_>, supported: &[&str]) {
        let value = match place.value {
            Value::Null => json!(""),
            other => other.clone(),
        };
        self.unsupported_value(place, value, supported);
    }

    /// The same with another value than that of the place.
    pub(super) fn unsupported_value(
        &mut self,
        place: &Place<'_>,
        value: Value,
        supported: &[&str],
    ) {
        let quoted: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        let detail = format!("supported values: {}", quoted.join(", "));
        self.add(FieldError::new(&place.path, Fault::NotSupported, detail).of(value));
    }

    /// Text that is given must be one of some.
    pub(super) fn check_choice(&mut self, place: &Place<'_>, supported: &[&str]) {
        if place.is_there() && !supported.contains(&place.text()) {
            self.unsupported(place, supported);
        }
    }

    /// The same of text that must be given.
    pub(super) fn check_needed_choice(&mut self, place: &Place<'_>, supported: &[&str]) {
        match place.text() {
            "" => self.required(place, ""),
            _ => self.check_choice(place, supported),
        }
    }

    /// A number that is given may not be negative.
    pub(super) fn check_not_negative(&mut self, place: &Place<'_>) {
        if place.number().is_some_and(|number| number < 0) {
            self.invalid(place, NEGATIVE);
        }
    }

    /// A number that is given must be in a range.
    pub(super) fn check_range(&mut self, place: &Place<'_>, least: i64, most: i64) {
        let is_inside = |number: i64| (least..=most).contains(&number);
        if place.number().is_some_and(|number| !is_inside(number)) {
            self.invalid(
                place,
                format!("must be between {least} and {most}, inclusive"),
            );
        }
    }

    /// A port must be given.
    pub(super) fn check_port(&mut self, place: &Place<'_>) {
        match place.number() {
            Some(number) if (1..=65535).contains(&number) => {}
            number => self.invalid_value(
                place,
                json!(number.unwrap_or_default()),
                "must be between 1 and 65535, inclusive",
            ),
        }
    }

    /// A port, by its number or name.
    pub(super) fn check_port_or_name(&mut self, place: &Place<'_>) {
        match place.value {
            Value::String(name) => self.invalid_each(place, names::port_name(name)),
            _ => self.check_port(place),
        }
    }

    /// A number that is not negative, or a percentage.
    pub(super) fn check_amount_or_percent(&mut self, place: &Place<'_>) {
        match place.value {
            Value::String(percent) => self.invalid_each(place, names::percent(percent)),
            _ => self.check_not_negative(place),
        }
    }

    /// A percentage may not be more than the whole.
    pub(super) fn check_at_most_whole(&mut self, place: &Place<'_>) {
        if place.value.is_string() && amount_or_percent(place) > 100 {
            self.invalid(place, "must not be greater than 100%");
        }
    }

    /// An error for each text that a check of names found.
    pub(super) fn invalid_each(&mut self, place: &Place<'_>, details: Vec<String>) {
        for detail in details {
            self.invalid_text(place, detail);
        }
    }

    /// A name that is given must keep to a rule.
    pub(super) fn check_name(&mut self, place: &Place<'_>, rule: NameRule) {
        if !place.text().is_empty() {
            self.invalid_each(place, names::name_errors(rule, place.text()));
        }
    }

    /// A name must be given, and keep to a rule.
    pub(super) fn check_needed_name(&mut self, place: &Place<'_>, rule: NameRule) {
        match place.text() {
            "" => self.required(place, ""),
            _ => self.check_name(place, rule),
        }
    }

    /// Text must be given.
    pub(super) fn check_there(&mut self, place: &Place<'_>) {
        if place.is_empty() {
            self.required(place, "");
        }
    }

    /// The items of a list, or a field of theirs, must differ.
    pub(super) fn check_unique<'a>(&mut self, places: impl Iterator<Item = Place<'a>>) {
        let mut known = HashSet::new();
        for place in places {
            if !place.text().is_empty() && !known.insert(place.text()) {
                self.duplicate(&place);
            }
        }
    }

    /// A field may not change.
    pub(super) fn check_unchanged(&mut self, new: &Place<'_>, old: &Place<'_>) {
        if !is_same(new.value, old.value) {
            self.invalid(new, IMMUTABLE);
        }
    }

    /// The same, with other words and as what is forbidden.
    pub(super) fn forbid_change(&mut self, new: &Place<'_>, old: &Place<'_>, detail: &str) {
        if !is_same(new.value, old.value) {
            self.forbidden(new, detail);
        }
    }
}

/// A number, or that of a percentage; 0 if it is neither.
pub(super) fn amount_or_percent(place: &Place<'_>) -> i64 {
    match place.value {
        Value::String(percent) => {
            let digits = percent.strip_suffix('%').unwrap_or_default();
            // A number too large to be read is in any case more than the whole.
            match names::percent(percent).is_empty() {
                true => digits.parse().unwrap_or(i64::MAX),
                false => 0,
            }
        }
        _ => place.number().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(report: Report) -> Vec<String> {
        let line = |error: &FieldError| format!("{}: {}", error.field, error.body());
        report.into_errors().iter().map(line).collect()
    }

    #[test]
    fn errors_read_as_upstream_writes_them() {
        let object = json!({ "a": -1, "b": "x", "c": 70000, "d": "150%" });
        let whole = Place::whole(&object);
        let mut report = Report::default();
        report.check_not_negative(&whole.at("a"));
        report.check_choice(&whole.at("b"), &["A", "B"]);
        report.check_needed_choice(&whole.at("none"), &["A"]);
        report.check_port(&whole.at("c"));
        report.check_at_most_whole(&whole.at("d"));
        report.too_long(&whole.at("b"), 3);
        assert_eq!(
            texts(report),
            [
                "a: Invalid value: -1: must be greater than or equal to 0",
                "b: Unsupported value: \"x\": supported values: \"A\", \"B\"",
                "none: Required value",
                "c: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "d: Invalid value: \"150%\": must not be greater than 100%",
                "b: Too long: may not be more than 3 bytes",
            ]
        );
    }

    #[test]
    fn an_error_is_kept_once() {
        let object = json!({});
        let mut report = Report::default();
        report.required(&Place::whole(&object).at("a"), "");
        report.required(&Place::whole(&object).at("a"), "");
        assert_eq!(report.into_errors().len(), 1);
    }
}
