//! Rules that need no code: `data/rules.yaml`, by kind.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::place::Place;
use super::report::Report;
use super::{labels, names};
use crate::kind::NameRule;

/// The table that ships with the binary.
const RULES: &str = include_str!("../../data/rules.yaml");

/// The rows of one kind.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rules {
    /// `group/Kind`, or `Kind` of the core.
    kind: String,
    /// For new and changed objects.
    #[serde(default)]
    rows: Vec<Row>,
    /// For writes of the status.
    #[serde(default)]
    status: Vec<Row>,
}

/// What a field must be. All but `required` is asked only of what is there.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Row {
    /// Where, such as `spec.ports[].name`; `[]` for each item of a list.
    at: String,
    /// It must be there, and not be empty; the words of the error.
    #[serde(default)]
    required: Option<String>,
    /// Not less than zero.
    #[serde(default)]
    not_negative: bool,
    /// At least this.
    #[serde(default)]
    least: Option<i64>,
    /// At most this.
    #[serde(default)]
    most: Option<i64>,
    /// The words of the error if it is less or more.
    #[serde(default)]
    says: String,
    /// One of these.
    #[serde(default)]
    one_of: Vec<String>,
    /// A name.
    #[serde(default)]
    name: Option<NameRule>,
    /// A qualified name, such as a key of labels.
    #[serde(default)]
    qualified: bool,
    /// A selector of labels.
    #[serde(default)]
    selector: bool,
    /// It may not change.
    #[serde(default)]
    immutable: bool,
    /// The same as what is forbidden, in these words.
    #[serde(default)]
    forbids_change: Option<String>,
}

fn table() -> &'static HashMap<String, Rules> {
    static TABLE: LazyLock<HashMap<String, Rules>> = LazyLock::new(|| {
        let rules: Vec<Rules> = serde_saphyr::from_str(RULES)
            .expect("the table of rules is part of the binary, and tests read it");
        rules
            .into_iter()
            .map(|rules| (rules.kind.clone(), rules))
            .collect()
    });
    &TABLE
}

fn rules_of(group: &str, kind: &str) -> Option<&'static Rules> {
    match group {
        "" => table().get(kind),
        _ => table().get(&format!("{group}/{kind}")),
    }
}

/// Checks values by the rows of a kind.
pub(super) fn check(group: &str, kind: &str, object: &Place<'_>, report: &mut Report) {
    for row in rules_of(group, kind)
        .into_iter()
        .flat_map(|rules| &rules.rows)
    {
        row.check(object, report);
    }
}

/// Checks a status by the rows of a kind.
pub(super) fn check_status(group: &str, kind: &str, object: &Place<'_>, report: &mut Report) {
    for row in rules_of(group, kind)
        .into_iter()
        .flat_map(|rules| &rules.status)
    {
        row.check(object, report);
    }
}

/// Checks what may not change by the rows of a kind.
pub(super) fn check_change(
    group: &str,
    kind: &str,
    new: &Place<'_>,
    old: &Place<'_>,
    report: &mut Report,
) {
    for row in rules_of(group, kind)
        .into_iter()
        .flat_map(|rules| &rules.rows)
    {
        let (new, old) = (new.at(&row.at), old.at(&row.at));
        if row.immutable {
            report.check_unchanged(&new, &old);
        }
        if let Some(words) = &row.forbids_change {
            report.forbid_change(&new, &old, words);
        }
    }
}

impl Row {
    fn check(&self, object: &Place<'_>, report: &mut Report) {
        let mut places = vec![object.clone()];
        let mut parts = self.at.split("[]").peekable();
        while let Some(part) = parts.next() {
            let part = part.trim_start_matches('.');
            if !part.is_empty() {
                places = places.iter().map(|place| place.at(part)).collect();
            }
            if parts.peek().is_some() {
                places = places.iter().flat_map(Place::items).collect();
            }
        }
        for place in &places {
            self.check_place(place, report);
        }
    }

    fn check_place(&self, place: &Place<'_>, report: &mut Report) {
        if place.is_empty() {
            if let Some(words) = &self.required {
                report.required(place, words);
            }
            return;
        }
        if self.not_negative {
            report.check_not_negative(place);
        }
        let is_low = |least| place.number().is_some_and(|number| number < least);
        let is_high = |most| place.number().is_some_and(|number| number > most);
        if self.least.is_some_and(is_low) || self.most.is_some_and(is_high) {
            report.invalid(place, self.says.as_str());
        }
        if !self.one_of.is_empty() {
            let supported: Vec<&str> = self.one_of.iter().map(String::as_str).collect();
            report.check_choice(place, &supported);
        }
        if let Some(rule) = self.name {
            report.check_name(place, rule);
        }
        if self.qualified {
            report.invalid_each(place, names::qualified(place.text()));
        }
        if self.selector {
            labels::check_selector(place, report);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schemas;
    use serde_json::json;

    #[test]
    fn every_row_names_a_field_that_there_is() {
        let schemas = Schemas::builtin();
        for rules in table().values() {
            let (group, kind) = rules.kind.split_once('/').unwrap_or(("", &rules.kind));
            let found = ["v1", "v2", "v1beta1", "v1alpha1"]
                .iter()
                .find_map(|version| schemas.of_kind(group, version, kind));
            let Some(definition) = found else {
                panic!("{} has no schema", rules.kind)
            };
            for row in rules.rows.iter().chain(&rules.status) {
                let mut schema = schemas.get(definition);
                for part in row.at.split('.') {
                    let name = part.trim_end_matches("[]");
                    let field = schemas.field(schema, name);
                    schema = field.unwrap_or_else(|| panic!("{}: {}", rules.kind, row.at));
                    if part.ends_with("[]") {
                        schema = schemas.items(schema).unwrap();
                    }
                }
            }
        }
    }

    #[test]
    fn rows_reach_into_lists() {
        let row: Row = serde_json::from_value(json!({ "at": "a[].b", "required": "why" })).unwrap();
        let object = json!({ "a": [{ "b": "x" }, {}] });
        let mut report = Report::default();
        row.check(&Place::whole(&object), &mut report);
        let errors = report.into_errors();
        assert_eq!(errors.len(), 1);
        assert_eq!(
            (errors[0].field.as_str(), errors[0].body().as_str()),
            ("a[1].b", "Required value: why")
        );
    }
}
