//! Ranges of limits: the amounts that containers get where they ask for none, and the bounds of what may be asked for.

use serde_json::{Map, Value};

use super::amounts::{self, Amounts, View};
use crate::kind::Kind;
use crate::quantity::Quantity;

/// Says which amounts nobody asked for.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The most units that upstream counts in thousandths.
const MOST_IN_MILLIS: i128 = i64::MAX as i128 / 1000;

/// Puts the defaults of a range into the containers and init containers of a pod that is created, and says so in an
/// annotation. Both have been through [`crate::defaults::fill`]. Of several ranges, the first gives an amount.
pub fn apply_limits(range: &Value, pod: &mut Value) {
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    for limit in of_type(range, "Container") {
        requests.extend(amounts::read(&limit["defaultRequest"]));
        limits.extend(amounts::read(&limit["default"]));
    }
    let mut notes = Vec::new();
    for (list, word) in [
        ("containers", "container"),
        ("initContainers", "init container"),
    ] {
        let containers = pod.pointer_mut(&format!("/spec/{list}"));
        let containers = containers.and_then(Value::as_array_mut);
        for container in containers
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            let name = container.get("name").and_then(Value::as_str);
            let name = name.unwrap_or_default().to_owned();
            for (field, words, defaults) in [
                ("requests", "request", &requests),
                ("limits", "limit", &limits),
            ] {
                let set = complete(container, field, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {words} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    let metadata = pod.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(metadata) = metadata.filter(|_| !notes.is_empty())
        && let Some(annotations) = object_of(metadata, "annotations")
    {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        annotations.insert(ANNOTATION.to_owned(), Value::String(note));
    }
}

/// Sets what a container does not ask for; answers with what that was.
fn complete<'a>(
    container: &mut Map<String, Value>,
    field: &str,
    defaults: &'a Amounts,
) -> Vec<&'a str> {
    let known = |container: &Map<String, Value>, name: &str| {
        let list = container.get("resources").and_then(|all| all.get(field));
        list.is_some_and(|list| list.get(name).is_some())
    };
    let mut set = Vec::new();
    for (name, amount) in defaults {
        if known(container, name) {
            continue;
        }
        let list = object_of(container, "resources").and_then(|all| object_of(all, field));
        if let Some(list) = list {
            list.insert(name.clone(), Value::String(amount.to_string()));
            set.push(name.as_str());
        }
    }
    set
}

/// An object by the name of its field, made if it is not there; none if something else is.
fn object_of<'a>(
    object: &'a mut Map<String, Value>,
    name: &str,
) -> Option<&'a mut Map<String, Value>> {
    let value = object.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

fn of_type<'a>(range: &'a Value, kind: &'static str) -> impl Iterator<Item = &'a Value> {
    let limits = range["spec"]["limits"].as_array();
    let limits = limits.into_iter().flatten();
    limits.filter(move |limit| limit["type"] == kind)
}

/// Holds a pod or claim against a range: a pod when it is created or resized, a claim when it is created or changed,
/// neither once it is being deleted. Any other kind is within every range.
///
/// # Errors
///
/// What is asked for that may not be, in the words that follow `is forbidden: `.
pub fn check_limits(range: &Value, kind: &Kind, object: &Value) -> Result<(), String> {
    let mut errors = Vec::new();
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => check_pod(range, object, &mut errors),
        ("", "PersistentVolumeClaim") => {
            for limit in of_type(range, "PersistentVolumeClaim") {
                let asked = Asked {
                    of: "PersistentVolumeClaim",
                    requests: amounts::read(&object["spec"]["resources"]["requests"]),
                    limits: Amounts::new(),
                };
                for (name, least) in amounts::read(&limit["min"]) {
                    errors.extend(asked.below(&name, &least));
                }
                for (name, most) in amounts::read(&limit["max"]) {
                    errors.extend(asked.request_above(&name, &most));
                }
            }
        }
        _ => {}
    }
    match joined(errors) {
        None => Ok(()),
        Some(text) => Err(text),
    }
}

/// Several errors as upstream writes them, each once; none if there are none.
fn joined(errors: Vec<String>) -> Option<String> {
    let mut known: Vec<String> = Vec::new();
    for error in errors {
        if !known.contains(&error) {
            known.push(error);
        }
    }
    match known.len() {
        0 | 1 => known.pop(),
        _ => Some(format!("[{}]", known.join(", "))),
    }
}

fn check_pod(range: &Value, pod: &Value, errors: &mut Vec<String>) {
    let limits = range["spec"]["limits"].as_array();
    for limit in limits.into_iter().flatten() {
        match limit["type"].as_str() {
            Some("Container") => {
                let lists = ["containers", "initContainers"];
                let lists = lists.iter().map(|list| pod["spec"][*list].as_array());
                for container in lists.flatten().flatten() {
                    let resources = &container["resources"];
                    let asked = Asked {
                        of: "Container",
                        requests: amounts::read(&resources["requests"]),
                        limits: amounts::read(&resources["limits"]),
                    };
                    asked.check(limit, errors);
                }
            }
            Some("Pod") => {
                let asked = Asked {
                    of: "Pod",
                    requests: amounts::of_pod(pod, "requests", View::Spec),
                    limits: amounts::of_pod(pod, "limits", View::Spec),
                };
                asked.check(limit, errors);
            }
            _ => {}
        }
    }
}

/// What a container, pod or claim asks for.
struct Asked {
    /// The type of limit that it is held against.
    of: &'static str,
    requests: Amounts,
    limits: Amounts,
}

impl Asked {
    fn check(&self, limit: &Value, errors: &mut Vec<String>) {
        for (name, least) in amounts::read(&limit["min"]) {
            errors.extend(self.below(&name, &least));
        }
        for (name, most) in amounts::read(&limit["max"]) {
            errors.extend(self.above(&name, &most));
        }
        for (name, ratio) in amounts::read(&limit["maxLimitRequestRatio"]) {
            errors.extend(self.too_far_apart(&name, &ratio));
        }
    }

    /// Request, limit and bound as whole numbers that compare as upstream compares them.
    fn numbers(&self, name: &str, bound: &Quantity) -> (i128, i128, i128) {
        let zero = Quantity::ZERO;
        let request = self.requests.get(name).unwrap_or(&zero);
        let limit = self.limits.get(name).unwrap_or(&zero);
        let all = [request, limit, bound];
        match all.iter().all(|amount| amount.units() <= MOST_IN_MILLIS) {
            true => (request.millis(), limit.millis(), bound.millis()),
            false => (request.units(), limit.units(), bound.units()),
        }
    }

    fn below(&self, name: &str, least: &Quantity) -> Option<String> {
        let (request, limit, bound) = self.numbers(name, least);
        let start = format!("minimum {name} usage per {} is {least}", self.of);
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => Some(format!("{start}.  No request is specified")),
            (Some(asked), _) if request < bound => Some(format!("{start}, but request is {asked}")),
            (_, Some(asked)) if limit < bound => Some(format!("{start}, but limit is {asked}")),
            _ => None,
        }
    }

    fn above(&self, name: &str, most: &Quantity) -> Option<String> {
        let (request, limit, bound) = self.numbers(name, most);
        let start = format!("maximum {name} usage per {} is {most}", self.of);
        match (self.requests.get(name), self.limits.get(name)) {
            (_, None) => Some(format!("{start}.  No limit is specified")),
            (_, Some(asked)) if limit > bound => Some(format!("{start}, but limit is {asked}")),
            (Some(asked), _) if request > bound => Some(format!("{start}, but request is {asked}")),
            _ => None,
        }
    }

    /// The same of what has no limits.
    fn request_above(&self, name: &str, most: &Quantity) -> Option<String> {
        let (request, _, bound) = self.numbers(name, most);
        let start = format!("maximum {name} usage per {} is {most}", self.of);
        match self.requests.get(name) {
            None => Some(format!("{start}.  No request is specified")),
            Some(asked) if request > bound => Some(format!("{start}, but request is {asked}")),
            _ => None,
        }
    }

    fn too_far_apart(&self, name: &str, most: &Quantity) -> Option<String> {
        let (request, limit, _) = self.numbers(name, most);
        let start = format!(
            "{name} max limit to request ratio per {} is {most}",
            self.of
        );
        if request == 0 {
            return Some(format!(
                "{start}, but no request is specified or request is 0"
            ));
        }
        if limit == 0 {
            return Some(format!("{start}, but no limit is specified or limit is 0"));
        }
        let ratio = limit as f64 / request as f64;
        let is_above = match most.units() <= MOST_IN_MILLIS {
            true => ratio * 1000.0 > most.millis() as f64,
            false => ratio > most.units() as f64,
        };
        is_above.then(|| format!("{start}, but provided ratio is {ratio:.6}"))
    }
}

#[cfg(test)]
mod tests;
