//! Lists of resources, and those that a pod as a whole asks for.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::quantity::Quantity;

/// Amounts by the names of resources.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// Reads a list of resources; what is no amount is left out.
pub(super) fn read(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    let amount = |(name, value): (&String, &Value)| Some((name.clone(), Quantity::of(value).ok()?));
    entries.filter_map(amount).collect()
}

/// Writes a list of resources.
pub(super) fn write(list: &Amounts) -> Value {
    let entries = list.iter();
    entries
        .map(|(name, amount)| (name.clone(), Value::String(amount.to_string())))
        .collect()
}

/// Adds one list to another.
pub(super) fn add(list: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let sum = match list.get(name) {
            Some(known) => known.plus(amount),
            None => amount.clone(),
        };
        list.insert(name.clone(), sum);
    }
}

/// Raises each amount to that of another list, if that is more.
pub(super) fn raise(list: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if list.get(name).is_none_or(|known| amount > known) {
            list.insert(name.clone(), amount.clone());
        }
    }
}

/// Which of its amounts a pod is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// Those of its spec, as ranges of limits see them.
    Spec,
    /// What it holds while it is resized, too, and its overhead, as quotas see them.
    Held,
}

/// What a container of a pod asks for: `field` is `requests` or `limits`.
fn of_container(
    pod: &Value,
    statuses: &str,
    container: &Value,
    field: &str,
    view: View,
) -> Amounts {
    let wanted = read(&container["resources"][field]);
    if view == View::Spec {
        return wanted;
    }
    let statuses = pod["status"][statuses].as_array();
    let status = statuses
        .into_iter()
        .flatten()
        .find(|status| status["name"] == container["name"] && status["resources"].is_object());
    let Some(status) = status else {
        return wanted;
    };
    // What cannot be had is not counted, but what is held until then.
    let mut held = match is_resize_infeasible(pod) {
        true => Amounts::new(),
        false => wanted,
    };
    raise(&mut held, &read(&status["resources"][field]));
    if field == "requests" {
        raise(&mut held, &read(&status["allocatedResources"]));
    }
    held
}

fn is_resize_infeasible(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        condition["type"] == "PodResizePending" && condition["reason"] == "Infeasible"
    })
}

/// What a pod as a whole asks for, at any time of its life: `field` is `requests` or `limits`.
pub(super) fn of_pod(pod: &Value, field: &str, view: View) -> Amounts {
    let spec = &pod["spec"];
    let items = |name: &str| spec[name].as_array().into_iter().flatten();
    let mut sum = Amounts::new();
    for container in items("containers") {
        let own = of_container(pod, "containerStatuses", container, field, view);
        add(&mut sum, &own);
    }
    // Init containers run one after the other, but for those that stay; these count for all that follow.
    let (mut staying, mut highest) = (Amounts::new(), Amounts::new());
    for container in items("initContainers") {
        let does_stay = container["restartPolicy"] == "Always";
        let held = if does_stay { view } else { View::Spec };
        let mut own = of_container(pod, "initContainerStatuses", container, field, held);
        if does_stay {
            add(&mut sum, &own);
            add(&mut staying, &own);
            own.clone_from(&staying);
        } else {
            add(&mut own, &staying);
        }
        raise(&mut highest, &own);
    }
    raise(&mut sum, &highest);
    for (name, amount) in read(&spec["resources"][field]) {
        if is_of_whole_pods(&name, view) {
            sum.insert(name, amount);
        }
    }
    if view == View::Held {
        let mut overhead = read(&spec["overhead"]);
        // What has no limit has none with the overhead either.
        overhead.retain(|name, _| field == "requests" || sum.contains_key(name));
        add(&mut sum, &overhead);
    }
    sum
}

/// Whether a pod as a whole may ask for a resource.
pub(super) fn is_of_whole_pods(name: &str, view: View) -> bool {
    matches!(name, "cpu" | "memory") || (view == View::Held && name.starts_with("hugepages-"))
}
