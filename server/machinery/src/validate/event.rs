//! Rules for events: of the core, which takes what older reporters write, and of their own group, which is strict.

use serde_json::{Value, json};

use super::names;
use super::place::{Place, is_same};
use super::report::{IMMUTABLE, Report};
use crate::convert::EVENT_NAMES;

/// The most bytes that short texts may have.
const SHORT: usize = 128;

/// The most bytes of what is told.
const NOTE: usize = 1024;

/// A field of an event of its own group, under the name that errors give it: that of the core, but for the reporter's.
fn field<'a>(event: &Place<'a>, name: &str) -> Place<'a> {
    let place = event.at(name);
    let (first, rest) = name.split_at(name.find('.').unwrap_or(name.len()));
    match EVENT_NAMES.iter().find(|(own, _)| *own == first) {
        Some((_, of_core)) if first != "reportingController" => {
            place.called(format!("{of_core}{rest}"))
        }
        _ => place,
    }
}

/// Rules for events of the core.
pub(super) fn check_core(new: &Place<'_>, _: Option<&Place<'_>>, report: &mut Report) {
    let parts = Parts {
        about: new.at("involvedObject.namespace"),
        reporter: new.at("reportingComponent"),
        note: new.at("message"),
    };
    check_any(new, &parts, report);
}

/// Rules for events of their own group.
pub(super) fn check(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    let parts = Parts {
        about: field(new, "regarding.namespace"),
        reporter: new.at("reportingController"),
        note: field(new, "note"),
    };
    check_any(new, &parts, report);
    let series = new.at("series");
    let is_same_series = old.is_some_and(|old| {
        let before = old.at("series");
        is_same(series.value, before.value) && series.is_there() == before.is_there()
    });
    if series.is_there() && !is_same_series {
        let count = series.at("count");
        if count.number().unwrap_or_default() < 2 {
            report.invalid_value(&count, json!(""), "should be at least 2");
        }
        report.check_there(&series.at("lastObservedTime"));
    }
    match old {
        Some(old) => check_unchanged(new, old, report),
        None => check_new(new, report),
    }
}

/// What is reported in the newer way says when, and nothing in the older way.
fn check_new(new: &Place<'_>, report: &mut Report) {
    report.check_there(&new.at("eventTime"));
    let kind = new.at("type");
    if !["Normal", "Warning"].contains(&kind.text()) {
        report.invalid_value(
            &kind,
            json!(""),
            format!("has invalid value: {}", kind.text()),
        );
    }
    for name in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp"] {
        check_unset(&field(new, name), new.at(name).is_there(), report);
    }
    let count = field(new, "deprecatedCount");
    check_unset(
        &count,
        count.number().is_some_and(|count| count != 0),
        report,
    );
    let source = field(new, "deprecatedSource");
    let is_set = ["component", "host"].map(|name| !source.at(name).is_empty());
    check_unset(&source, is_set.contains(&true), report);
}

fn check_unset(place: &Place<'_>, is_set: bool, report: &mut Report) {
    if is_set {
        report.invalid_value(place, json!(""), "needs to be unset");
    }
}

/// All but the series stays as it was.
fn check_unchanged(new: &Place<'_>, old: &Place<'_>, report: &mut Report) {
    const FIELDS: [&str; 13] = [
        "regarding",
        "reason",
        "note",
        "deprecatedSource",
        "deprecatedFirstTimestamp",
        "deprecatedLastTimestamp",
        "deprecatedCount",
        "type",
        "eventTime",
        "action",
        "related",
        "reportingController",
        "reportingInstance",
    ];
    for name in FIELDS {
        let (new, old) = (field(new, name), old.at(name));
        if is_same(new.value, old.value) {
            continue;
        }
        // What is not there is as good as nothing of its type.
        let value = match (new.value, old.value) {
            (Value::Null, Value::String(_)) => json!(""),
            (Value::Null, Value::Number(_)) => json!(0),
            (value, _) => value.clone(),
        };
        report.invalid_value(&new, value, IMMUTABLE);
    }
}

/// Fields that the two kinds of events call differently.
struct Parts<'a> {
    about: Place<'a>,
    reporter: Place<'a>,
    note: Place<'a>,
}

/// What holds for events of both kinds.
fn check_any(event: &Place<'_>, parts: &Parts<'_>, report: &mut Report) {
    // An event is in the namespace of what it is about; those about what has none are in one that is always there.
    let namespace = event.at("metadata.namespace").text();
    let is_of_newer_way = event.at("eventTime").is_there();
    let is_good = match (is_of_newer_way, parts.about.text()) {
        (true, "") => ["default", "kube-system"].contains(&namespace),
        (false, "") => ["", "default"].contains(&namespace),
        (true, _) => true,
        (false, about) => about == namespace,
    };
    if !is_good {
        report.invalid_text(&parts.about, "does not match event.namespace");
    }
    if !is_of_newer_way {
        return;
    }
    // Those of the newer way say who reports what.
    let reporter = parts.reporter.called("reportingController");
    report.check_there(&reporter);
    report.invalid_each(&reporter, names::qualified(reporter.text()));
    for name in ["reportingInstance", "action", "reason"] {
        let place = event.at(name);
        report.check_there(&place);
        check_length(&place, SHORT, report);
    }
    check_length(&parts.note, NOTE, report);
}

fn check_length(place: &Place<'_>, most: usize, report: &mut Report) {
    if place.text().len() > most {
        let detail = format!("can have at most {most} characters");
        report.invalid_value(place, json!(""), detail);
    }
}
