//! Cells of jobs and of what scales workloads.

use serde_json::Value;

use super::expression::Call;
use super::functions::amount;
use super::tree::{has_condition, items, number, text};

/// What a job has come to.
pub(super) fn job_status(call: &Call<'_>) -> Option<Value> {
    let job = call.object();
    let has = |name| has_condition(&job["status"]["conditions"], name);
    let status = if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if !job["metadata"]["deletionTimestamp"].is_null() {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else {
        "Running"
    };
    Some(status.into())
}

/// `1/3`, or `0/1 of 3` where any pod of several may complete the job.
pub(super) fn job_completions(call: &Call<'_>) -> Option<Value> {
    let job = call.object();
    let done = number(&job["status"]["succeeded"]);
    let text = match (
        job["spec"]["completions"].as_i64(),
        number(&job["spec"]["parallelism"]),
    ) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallelism @ 2..) => format!("{done}/1 of {parallelism}"),
        (None, _) => format!("{done}/1"),
    };
    Some(text.into())
}

/// Of each metric of an autoscaler what it is and what it should be: `cpu: <unknown>/80%`; of the first two, and how
/// many there are more.
pub(super) fn scaling_targets(call: &Call<'_>) -> Option<Value> {
    let (spec, status) = (&call.object()["spec"], &call.object()["status"]);
    // Version 1 knows of one metric only.
    if let Some(target) = spec["targetCPUUtilizationPercentage"].as_i64() {
        let current = percent(&status["currentCPUUtilizationPercentage"]);
        let current = current.unwrap_or_else(unknown);
        return Some(format!("cpu: {current}/{target}%").into());
    }
    let metrics = items(&spec["metrics"]);
    if metrics.is_empty() {
        return None;
    }
    let current = |place: usize| &status["currentMetrics"][place];
    let shown = metrics.iter().enumerate().take(2);
    let shown: Vec<String> = shown
        .map(|(place, metric)| scaling_target(metric, current(place)))
        .collect();
    let shown = shown.join(", ");
    Some(match metrics.len() {
        0..=2 => shown.into(),
        all => format!("{shown} + {} more...", all - 2).into(),
    })
}

fn scaling_target(metric: &Value, status: &Value) -> String {
    let source = match text(&metric["type"]) {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return "<unknown type>".to_owned(),
    };
    let (metric, current) = (&metric[source], &status[source]["current"]);
    let target = &metric["target"];
    let now = |name: &str| match &current[name] {
        Value::Null => unknown(),
        value => amount(value),
    };
    let average = || {
        format!(
            "{}/{}",
            now("averageValue"),
            amount(&target["averageValue"])
        )
    };
    let is_average = !target["averageValue"].is_null();
    match source {
        "resource" | "containerResource" => {
            let name = text(&metric["name"]);
            if is_average {
                return format!("{name}: {}", average());
            }
            let current = percent(&current["averageUtilization"]).unwrap_or_else(unknown);
            let target = percent(&target["averageUtilization"]);
            let target = target.unwrap_or_else(|| "<auto>".to_owned());
            format!("{name}: {current}/{target}")
        }
        "pods" => average(),
        _ if is_average => format!("{} (avg)", average()),
        _ => format!("{}/{}", now("value"), amount(&target["value"])),
    }
}

fn percent(value: &Value) -> Option<String> {
    value.as_i64().map(|number| format!("{number}%"))
}

fn unknown() -> String {
    "<unknown>".to_owned()
}
