//! Cells of pods: how many containers are ready, what the pod is doing, and how often it was started again.

use serde_json::Value;

use super::age;
use super::expression::Call;
use super::tree::{condition, has_condition, is_true, items, number, text};

/// What the states of a pod's containers come to.
struct Summary {
    status: String,
    ready: usize,
    total: usize,
    restarts: i64,
    /// When the last container that was started again had ended, in seconds since 1970.
    last_restart: Option<i64>,
}

/// `1/2`: containers that are ready, and all.
pub(super) fn ready(call: &Call<'_>) -> Option<Value> {
    let summary = Summary::of(call.object());
    Some(format!("{}/{}", summary.ready, summary.total).into())
}

/// `Running`, `CrashLoopBackOff`, `Init:0/1` and the like.
pub(super) fn status(call: &Call<'_>) -> Option<Value> {
    Some(Summary::of(call.object()).status.into())
}

/// `0`, or `3 (5m ago)`.
pub(super) fn restarts(call: &Call<'_>) -> Option<Value> {
    let summary = Summary::of(call.object());
    let restarts = summary.restarts;
    Some(match summary.last_restart {
        Some(last) if restarts != 0 => {
            let ago = age::human(call.context.now.saturating_sub(last));
            format!("{restarts} ({ago} ago)").into()
        }
        _ => restarts.to_string().into(),
    })
}

/// `1/2`: readiness gates that are open, and all.
pub(super) fn gates(call: &Call<'_>) -> Option<Value> {
    let pod = call.object();
    let gates = items(&pod["spec"]["readinessGates"]);
    if gates.is_empty() {
        return None;
    }
    let is_open =
        |gate: &&Value| has_condition(&pod["status"]["conditions"], text(&gate["conditionType"]));
    let open = gates.iter().filter(is_open).count();
    Some(format!("{open}/{}", gates.len()).into())
}

/// How the pods of a group are scheduled.
pub(super) fn group_policy(call: &Call<'_>) -> Option<Value> {
    let is_gang = call.tree(0).get("gang").is_some_and(|gang| !gang.is_null());
    Some(if is_gang { "Gang" } else { "Basic" }.into())
}

/// Whether the pods of a group are scheduled.
pub(super) fn group_status(call: &Call<'_>) -> Option<Value> {
    let conditions = call.tree(0);
    if let Some(target) = condition(conditions, "DisruptionTarget") {
        return Some(target["reason"].clone());
    }
    let status = match condition(conditions, "PodGroupInitiallyScheduled") {
        None => "Pending",
        Some(condition) if text(&condition["status"]) == "True" => "Scheduled",
        Some(_) => "Unschedulable",
    };
    Some(status.into())
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let sidecars: Vec<&str> = items(&spec["initContainers"])
            .iter()
            .filter(|container| text(&container["restartPolicy"]) == "Always")
            .map(|container| text(&container["name"]))
            .collect();
        let mut summary = Self {
            status: text(&status["phase"]).to_owned(),
            ready: 0,
            total: items(&spec["containers"]).len() + sidecars.len(),
            restarts: 0,
            last_restart: None,
        };
        if !text(&status["reason"]).is_empty() {
            text(&status["reason"]).clone_into(&mut summary.status);
        }
        let is_gated = |condition: &Value| {
            text(&condition["type"]) == "PodScheduled"
                && text(&condition["reason"]) == "SchedulingGated"
        };
        if items(&status["conditions"]).iter().any(is_gated) {
            "SchedulingGated".clone_into(&mut summary.status);
        }
        let is_initializing = summary.count_init_containers(pod, &sidecars);
        if !is_initializing || has_condition(&status["conditions"], "Initialized") {
            summary.count_containers(status, &sidecars);
        }
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            if text(&status["reason"]) == "NodeLost" {
                "Unknown".clone_into(&mut summary.status);
            } else if !matches!(text(&status["phase"]), "Succeeded" | "Failed") {
                "Terminating".clone_into(&mut summary.status);
            }
        }
        summary
    }

    /// Goes through the init containers up to the first that is not done; whether there is one is the answer.
    fn count_init_containers(&mut self, pod: &Value, sidecars: &[&str]) -> bool {
        let all = items(&pod["spec"]["initContainers"]).len();
        let statuses = items(&pod["status"]["initContainerStatuses"]);
        for (place, container) in statuses.iter().enumerate() {
            self.count_restarts(container);
            let state = &container["state"];
            let (ended, waiting) = (&state["terminated"], text(&state["waiting"]["reason"]));
            if ended.is_object() && number(&ended["exitCode"]) == 0 {
                continue;
            }
            let is_sidecar = sidecars.contains(&text(&container["name"]));
            if is_sidecar && is_true(&container["started"]) {
                self.ready += usize::from(is_true(&container["ready"]));
                continue;
            }
            self.status = if ended.is_object() {
                format!("Init:{}", why_ended(ended))
            } else if !matches!(waiting, "" | "PodInitializing") {
                format!("Init:{waiting}")
            } else {
                format!("Init:{place}/{all}")
            };
            return true;
        }
        false
    }

    /// Goes through the containers. Restarts of init containers no longer count then, but for those that go on beside
    /// the containers.
    fn count_containers(&mut self, status: &Value, sidecars: &[&str]) {
        (self.restarts, self.last_restart) = (0, None);
        for container in items(&status["initContainerStatuses"]) {
            if sidecars.contains(&text(&container["name"])) {
                self.count_restarts(container);
            }
        }
        let mut is_any_running = false;
        let mut failure = None;
        // The first container that has something to say has the last word.
        for container in items(&status["containerStatuses"]).iter().rev() {
            self.count_restarts(container);
            let state = &container["state"];
            let (ended, waiting) = (&state["terminated"], text(&state["waiting"]["reason"]));
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.status);
            } else if ended.is_object() {
                self.status = why_ended(ended);
                if number(&ended["exitCode"]) != 0 {
                    failure = Some(self.status.clone());
                }
            } else if is_true(&container["ready"]) && state["running"].is_object() {
                is_any_running = true;
                self.ready += 1;
            }
        }
        // One container that is done does not make a pod that is done.
        if self.status == "Completed" {
            if is_any_running && has_condition(&status["conditions"], "Ready") {
                "Running".clone_into(&mut self.status);
            } else if let Some(failure) = failure {
                self.status = failure;
            } else if is_any_running {
                "NotReady".clone_into(&mut self.status);
            }
        }
    }

    fn count_restarts(&mut self, container: &Value) {
        self.restarts = self
            .restarts
            .saturating_add(number(&container["restartCount"]));
        let ended = &container["lastState"]["terminated"]["finishedAt"];
        self.last_restart = self.last_restart.max(age::seconds(text(ended)));
    }
}

/// The reason for which a container ended, or else its signal or exit code.
fn why_ended(ended: &Value) -> String {
    match (text(&ended["reason"]), number(&ended["signal"])) {
        ("", 0) => format!("ExitCode:{}", number(&ended["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}
