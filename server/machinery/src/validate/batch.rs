//! Jobs and CronJobs.

use serde_json::Value;

use super::place::Place;
use super::report::{IMMUTABLE, Report};
use super::{cron, labels, pod, workload};
use crate::validate::place::is_same;

/// The longest name of a CronJob: its jobs get eleven characters more.
const CRON_NAME: usize = 52;

/// What of a template may change while a job waits to start.
const WHILE_SUSPENDED: [&str; 4] = ["affinity", "nodeSelector", "schedulingGates", "tolerations"];

/// Rules for Jobs. The server makes a selector for a job without one, so that none is asked for here.
pub(super) fn check_job(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    check_spec(&spec, report);
    let (selector, made) = (spec.at("selector"), spec.at("template.metadata.labels"));
    labels::check_selector(&selector, report);
    if selector.is_there() && !labels::does_match(&selector, &made) {
        report.invalid(&made, labels::NO_MATCH);
    }
    if let Some(old) = old {
        check_change(new, old, report);
    }
}

fn check_spec(spec: &Place<'_>, report: &mut Report) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        report.check_not_negative(&spec.at(field));
    }
    let (mode, completions) = (spec.at("completionMode"), spec.at("completions"));
    report.check_choice(&mode, &["NonIndexed", "Indexed"]);
    if mode.text() == "Indexed" {
        if !completions.is_there() {
            report.required(&completions, "when completion mode is Indexed");
        }
        let parallelism = spec.at("parallelism");
        if parallelism.number().is_some_and(|number| number > 100_000) {
            let detail = "must be less than or equal to 100000 when completion mode is Indexed";
            report.invalid(&parallelism, detail);
        }
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if spec.at(field).is_there() {
                let detail = "requires indexed completion mode";
                report.invalid(&spec.at(field), detail);
            }
        }
    }
    let template = spec.at("template");
    pod::check_template(&template, report);
    let policy = template.at("spec.restartPolicy");
    if !["OnFailure", "Never"].contains(&policy.text()) {
        report.required(&policy, "valid values: \"OnFailure\", \"Never\"");
    } else if spec.at("podFailurePolicy").is_there() && policy.text() != "Never" {
        report.invalid(
            &policy,
            "only \"Never\" is supported when podFailurePolicy is specified",
        );
    }
    report.check_choice(
        &spec.at("podReplacementPolicy"),
        &["Failed", "TerminatingOrFailed"],
    );
}

fn check_change(new: &Place<'_>, old: &Place<'_>, report: &mut Report) {
    let (spec, before) = (new.at("spec"), old.at("spec"));
    let (completions, parallelism) = (spec.at("completions"), spec.at("parallelism"));
    if !is_same(completions.value, before.at("completions").value) {
        // An indexed job can grow and shrink, if both numbers go together.
        let is_elastic =
            spec.at("completionMode").text() == "Indexed" && before.at("completions").is_there();
        if !is_elastic {
            report.invalid(&completions, IMMUTABLE);
        } else if completions.number() != parallelism.number() {
            let detail = format!("can only be modified in tandem with {}", parallelism.path);
            report.invalid(&completions, detail);
        }
    }
    let is_waiting = before.at("suspend").is_true() && !old.at("status.startTime").is_there();
    let fixed = |spec: &Place<'_>| {
        let mut template = spec.at("template").value.clone();
        if is_waiting {
            loosen(&mut template);
        }
        template
    };
    if !is_same(&fixed(&spec), &fixed(&before)) {
        report.invalid(&spec.at("template"), IMMUTABLE);
    }
}

/// Leaves out of a template what may change while a job waits to start.
fn loosen(template: &mut Value) {
    let Some(template) = template.as_object_mut() else {
        return;
    };
    if let Some(Value::Object(metadata)) = template.get_mut("metadata") {
        metadata.remove("labels");
        metadata.remove("annotations");
    }
    let Some(Value::Object(spec)) = template.get_mut("spec") else {
        return;
    };
    for field in WHILE_SUSPENDED {
        spec.remove(field);
    }
    for kind in ["containers", "initContainers"] {
        let containers = spec
            .get_mut(kind)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten();
        for container in containers.filter_map(Value::as_object_mut) {
            container.remove("resources");
        }
    }
}

/// Rules for CronJobs.
pub(super) fn check_cron_job(new: &Place<'_>, old: Option<&Place<'_>>, report: &mut Report) {
    let spec = new.at("spec");
    let (schedule, zone) = (spec.at("schedule"), spec.at("timeZone"));
    if schedule.is_empty() {
        report.required(&schedule, "");
    } else {
        if cron::has_zone(schedule.text()) {
            // What has been stored so may stay so.
            let was_so = old.is_some_and(|old| cron::has_zone(old.at("spec.schedule").text()));
            if zone.is_there() {
                let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
                report.invalid(&schedule, detail);
            } else if !was_so {
                let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
                report.invalid(&schedule, detail);
            }
        }
        if let Err(detail) = cron::check(schedule.text()) {
            report.invalid(&schedule, detail);
        }
    }
    if zone.is_there() {
        check_zone(&zone, report);
    }
    let template = spec.at("jobTemplate");
    check_spec(&template.at("spec"), report);
    let selector = template.at("spec.selector");
    if selector.is_there() {
        report.invalid(&selector, "`selector` will be auto-generated");
    }
    let is_manual = template.at("spec.manualSelector");
    if is_manual.is_true() {
        report.unsupported(&is_manual, &["nil", "false"]);
    }
    if old.is_none() {
        workload::check_short_name(&new.at("metadata.name"), CRON_NAME, report);
    }
}

/// Zones are not looked up: which there are depends on who runs the jobs.
fn check_zone(zone: &Place<'_>, report: &mut Report) {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-/".contains(&byte);
    if zone.is_empty() {
        report.invalid_text(zone, "timeZone must be nil or non-empty string");
    } else if zone.text().eq_ignore_ascii_case("local") {
        let detail =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        report.invalid_text(zone, detail);
    } else if !zone.text().bytes().all(is_inner) || zone.text().starts_with('/') {
        report.invalid_text(zone, format!("unknown time zone {}", zone.text()));
    }
}
