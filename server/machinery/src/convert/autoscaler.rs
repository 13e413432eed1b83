//! Horizontal pod autoscalers: `autoscaling/v1` has a field for the load of CPUs only. What else a v2 object says is in
//! annotations of the v1 object, as JSON in v1's own words, so that nothing is lost on the way there and back.

use serde_json::{Map, Value, json};

use super::rename;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

const CURRENT_REPLICAS: &str = "currentReplicas";

pub(super) fn to_version_2(autoscaler: &mut Value) {
    let metrics = take_annotation(autoscaler, METRICS);
    let current_metrics = take_annotation(autoscaler, CURRENT_METRICS);
    let conditions = take_annotation(autoscaler, CONDITIONS);
    let behavior = take_annotation(autoscaler, BEHAVIOR);

    if let Some(spec) = fields_of(autoscaler, "spec") {
        let mut all = list(metrics);
        all.iter_mut().for_each(metric_to_version_2);
        if let Some(target) = spec.remove("targetCPUUtilizationPercentage") {
            let target = json!({ "type": "Utilization", "averageUtilization": target });
            let resource = json!({ "name": "cpu", "target": target });
            all.push(json!({ "type": "Resource", "resource": resource }));
        }
        if !all.is_empty() {
            spec.insert("metrics".to_owned(), Value::Array(all));
        }
        if let Some(mut behavior) = behavior {
            rename_all(&mut behavior, uncapitalised);
            spec.insert("behavior".to_owned(), behavior);
        }
    }
    if let Some(status) = fields_of(autoscaler, "status") {
        let current = status.remove("currentCPUUtilizationPercentage");
        // The annotation holds all metrics, that of the CPU too.
        let mut all = list(current_metrics);
        all.iter_mut().for_each(current_to_version_2);
        if let (true, Some(load)) = (all.is_empty(), current) {
            let current = json!({ "averageUtilization": load });
            let resource = json!({ "name": "cpu", "current": current });
            all.push(json!({ "type": "Resource", "resource": resource }));
        }
        if !all.is_empty() {
            status.insert("currentMetrics".to_owned(), Value::Array(all));
        }
        if let Some(conditions) = conditions {
            status.insert("conditions".to_owned(), conditions);
        }
        // Written even where it is 0 by version 1 alone.
        if status.get(CURRENT_REPLICAS) == Some(&json!(0)) {
            status.remove(CURRENT_REPLICAS);
        }
    }
}

/// Whether a v1 object says in its annotation what it looks at.
pub(crate) fn has_other_metrics(autoscaler: &Map<String, Value>) -> bool {
    let annotation = autoscaler
        .get("metadata")
        .and_then(|metadata| metadata.get("annotations")?.get(METRICS)?.as_str());
    let metrics: Option<Vec<Value>> = annotation.and_then(|text| serde_json::from_str(text).ok());
    metrics.is_some_and(|metrics| !metrics.is_empty())
}

pub(super) fn to_version_1(autoscaler: &mut Value) {
    if let Some(spec) = fields_of(autoscaler, "spec") {
        let mut others = list(spec.remove("metrics"));
        // The last one is what becomes the field, for this is where the way back puts it.
        if let Some(place) = others.iter().rposition(is_load_of_cpu) {
            let metric = others.remove(place);
            let target = metric["resource"]["target"]["averageUtilization"].clone();
            spec.insert("targetCPUUtilizationPercentage".to_owned(), target);
        }
        others.iter_mut().for_each(metric_to_version_1);
        let mut behavior = spec.remove("behavior");
        if let Some(behavior) = &mut behavior {
            rename_all(behavior, capitalised);
        }
        if !others.is_empty() {
            put_annotation(autoscaler, METRICS, &Value::Array(others));
        }
        if let Some(behavior) = behavior {
            put_annotation(autoscaler, BEHAVIOR, &behavior);
        }
    }
    if let Some(status) = fields_of(autoscaler, "status") {
        let mut all = list(status.remove("currentMetrics"));
        let loads = all.iter().rev().filter(|metric| is_of_cpu(metric));
        let mut loads = loads.filter_map(|metric| {
            metric["resource"]["current"]
                .get("averageUtilization")
                .cloned()
        });
        if let Some(load) = loads.next() {
            status.insert("currentCPUUtilizationPercentage".to_owned(), load);
        }
        all.iter_mut().for_each(current_to_version_1);
        status.entry(CURRENT_REPLICAS).or_insert(json!(0));
        let conditions = list(status.remove("conditions"));
        if !all.is_empty() {
            put_annotation(autoscaler, CURRENT_METRICS, &Value::Array(all));
        }
        if !conditions.is_empty() {
            put_annotation(autoscaler, CONDITIONS, &Value::Array(conditions));
        }
    }
}

fn is_of_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

/// Whether a v2 metric can be the one that v1 has a field for.
fn is_load_of_cpu(metric: &Value) -> bool {
    is_of_cpu(metric) && metric["resource"]["target"]["averageUtilization"].is_number()
}

/// The source of a metric of each type: its field, and what v1 calls the selector of v2's `metric`.
const SOURCES: [(&str, &str); 5] = [
    ("object", "selector"),
    ("pods", "selector"),
    ("external", "metricSelector"),
    ("resource", ""),
    ("containerResource", ""),
];

/// The amount in `spec` by its names in v2's `target` and in v1.
fn target_names(source: &str) -> &'static [(&'static str, &'static str)] {
    match source {
        "object" => &[("value", "targetValue"), ("averageValue", "averageValue")],
        _ => &[
            ("value", "targetValue"),
            ("averageValue", "targetAverageValue"),
            ("averageUtilization", "targetAverageUtilization"),
        ],
    }
}

/// The amount in `status` by its names in v2's `current` and in v1.
fn current_names(source: &str) -> &'static [(&'static str, &'static str)] {
    match source {
        "object" => &[("value", "currentValue"), ("averageValue", "averageValue")],
        _ => &[
            ("value", "currentValue"),
            ("averageValue", "currentAverageValue"),
            ("averageUtilization", "currentAverageUtilization"),
        ],
    }
}

fn metric_to_version_1(metric: &mut Value) {
    for (name, selector) in SOURCES {
        if let Some(source) = fields_of(metric, name) {
            // The type of the target follows from which of its values there is.
            flatten(source, "target", target_names(name));
            identity_to_version_1(source, selector);
        }
    }
}

fn current_to_version_1(metric: &mut Value) {
    for (name, selector) in SOURCES {
        if let Some(source) = fields_of(metric, name) {
            flatten(source, "current", current_names(name));
            identity_to_version_1(source, selector);
        }
    }
}

fn metric_to_version_2(metric: &mut Value) {
    for (name, selector) in SOURCES {
        if let Some(source) = fields_of(metric, name) {
            let mut target = gather(source, target_names(name));
            let kind = if target.contains_key("averageUtilization") {
                "Utilization"
            } else if target.contains_key("averageValue") {
                "AverageValue"
            } else {
                "Value"
            };
            target.insert("type".to_owned(), kind.into());
            // V1 always has the value of an object's metric, and of an average it is zero.
            if kind == "AverageValue" && target.get("value").is_some_and(is_zero) {
                target.remove("value");
            }
            identity_to_version_2(source, selector);
            source.insert("target".to_owned(), Value::Object(target));
        }
    }
    drop_nulls(metric);
}

fn current_to_version_2(metric: &mut Value) {
    for (name, selector) in SOURCES {
        if let Some(source) = fields_of(metric, name) {
            let current = gather(source, current_names(name));
            identity_to_version_2(source, selector);
            source.insert("current".to_owned(), Value::Object(current));
        }
    }
    drop_nulls(metric);
}

/// Takes the amount out of its object.
fn flatten(source: &mut Map<String, Value>, amount: &str, names: &[(&str, &str)]) {
    let amount = source.remove(amount).unwrap_or_default();
    for (from, to) in names {
        if let Some(value) = amount.get(from) {
            source.insert((*to).to_owned(), value.clone());
        }
    }
}

/// Puts the amount into an object of its own.
fn gather(source: &mut Map<String, Value>, names: &[(&str, &str)]) -> Map<String, Value> {
    let mut amount = Map::new();
    for (to, from) in names {
        if let Some(value) = source.remove(*from).filter(|value| !value.is_null()) {
            amount.insert((*to).to_owned(), value);
        }
    }
    amount
}

fn identity_to_version_1(source: &mut Map<String, Value>, selector: &str) {
    if let Some(metric) = source.remove("metric") {
        for (from, to) in [("name", "metricName"), ("selector", selector)] {
            if let Some(value) = metric.get(from) {
                source.insert(to.to_owned(), value.clone());
            }
        }
    }
    if let Some(object) = source.remove("describedObject") {
        source.insert("target".to_owned(), object);
    }
}

fn identity_to_version_2(source: &mut Map<String, Value>, selector: &str) {
    let mut metric = Map::new();
    for (to, from) in [("name", "metricName"), ("selector", selector)] {
        if let Some(value) = source.remove(from).filter(|value| !value.is_null()) {
            metric.insert(to.to_owned(), value);
        }
    }
    if !metric.is_empty() {
        source.insert("metric".to_owned(), Value::Object(metric));
    }
    if let Some(object) = source.remove("target") {
        source.insert("describedObject".to_owned(), object);
    }
}

fn is_zero(amount: &Value) -> bool {
    amount == "0" || *amount == 0
}

/// Of an object, the fields that are null, and of the sources of a metric, too.
fn drop_nulls(metric: &mut Value) {
    if let Some(fields) = metric.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
        for source in fields.values_mut().filter_map(Value::as_object_mut) {
            source.retain(|_, value| !value.is_null());
        }
    }
}

fn fields_of<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    value.get_mut(name).and_then(Value::as_object_mut)
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// Annotations that cannot be read are as good as none; upstream drops them, too.
fn take_annotation(autoscaler: &mut Value, name: &str) -> Option<Value> {
    let metadata = fields_of(autoscaler, "metadata")?;
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    let text = annotations.remove(name)?;
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

fn put_annotation(autoscaler: &mut Value, name: &str, value: &Value) {
    let Some(object) = autoscaler.as_object_mut() else {
        return;
    };
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else {
        return;
    };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(name.to_owned(), value.to_string().into());
    }
}

/// How deep the fields of a behaviour are.
const DEPTH: usize = 4;

/// Renames the fields of a behaviour. Upstream writes that annotation with the names of its Go fields, `ScaleUp`.
fn rename_all(behavior: &mut Value, name: fn(&str) -> String) {
    fn walk(value: &mut Value, name: fn(&str) -> String, depth: usize) {
        if depth == 0 {
            return;
        }
        match value {
            Value::Object(fields) => {
                let names: Vec<String> = fields.keys().cloned().collect();
                fields.retain(|_, value| !value.is_null());
                let renamed = names.iter().map(|old| (old.as_str(), name(old)));
                let renamed: Vec<(&str, String)> = renamed.collect();
                rename(value, renamed.iter().map(|(old, new)| (*old, new.as_str())));
                let fields = value.as_object_mut().into_iter().flatten();
                fields.for_each(|(_, value)| walk(value, name, depth - 1));
            }
            Value::Array(items) => {
                for item in items {
                    walk(item, name, depth - 1);
                }
            }
            _ => {}
        }
    }
    walk(behavior, name, DEPTH);
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_ascii_uppercase().to_string() + letters.as_str()
    })
}

fn uncapitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_ascii_lowercase().to_string() + letters.as_str()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version_2() -> Value {
        let condition = json!({ "type": "AbleToScale", "status": "True" });
        json!({
            "kind": "HorizontalPodAutoscaler",
            "metadata": { "name": "web", "annotations": { "a": "b" } },
            "spec": {
                "maxReplicas": 5,
                "scaleTargetRef": { "kind": "Deployment", "name": "web" },
                "metrics": [
                    { "type": "Pods", "pods": {
                        "metric": { "name": "hits", "selector": { "matchLabels": { "x": "y" } } },
                        "target": { "type": "AverageValue", "averageValue": "10" },
                    } },
                    { "type": "Object", "object": {
                        "describedObject": { "kind": "Ingress", "name": "i" },
                        "metric": { "name": "calls" },
                        "target": { "type": "Value", "value": "2k" },
                    } },
                    { "type": "External", "external": {
                        "metric": { "name": "queue", "selector": {} },
                        "target": { "type": "AverageValue", "averageValue": "30" },
                    } },
                    { "type": "ContainerResource", "containerResource": {
                        "name": "memory",
                        "container": "main",
                        "target": { "type": "Utilization", "averageUtilization": 60 },
                    } },
                    { "type": "Resource", "resource": {
                        "name": "cpu",
                        "target": { "type": "Utilization", "averageUtilization": 80 },
                    } },
                ],
                "behavior": { "scaleUp": { "policies": [{ "type": "Pods", "value": 4, "periodSeconds": 15 }] } },
            },
            "status": {
                "currentReplicas": 1,
                "currentMetrics": [
                    { "type": "Resource", "resource": {
                        "name": "cpu",
                        "current": { "averageUtilization": 7, "averageValue": "70m" },
                    } },
                ],
                "conditions": [condition],
            },
        })
    }

    #[test]
    fn version_1_has_a_field_for_the_load_of_cpus_and_annotations_for_the_rest() {
        let mut object = version_2();
        to_version_1(&mut object);
        assert_eq!(
            object["spec"],
            json!({
                "maxReplicas": 5,
                "scaleTargetRef": { "kind": "Deployment", "name": "web" },
                "targetCPUUtilizationPercentage": 80,
            })
        );
        assert_eq!(
            object["status"],
            json!({ "currentReplicas": 1, "currentCPUUtilizationPercentage": 7 })
        );
        let annotations = &object["metadata"]["annotations"];
        let read = |name: &str| -> Value {
            serde_json::from_str(annotations[name].as_str().unwrap()).unwrap()
        };
        let metrics = read(METRICS);
        assert_eq!(
            metrics[0]["pods"],
            json!({ "metricName": "hits", "selector": { "matchLabels": { "x": "y" } }, "targetAverageValue": "10" })
        );
        assert_eq!(
            metrics[1]["object"],
            json!({ "target": { "kind": "Ingress", "name": "i" }, "metricName": "calls", "targetValue": "2k" })
        );
        assert_eq!(
            metrics[2]["external"],
            json!({ "metricName": "queue", "metricSelector": {}, "targetAverageValue": "30" })
        );
        assert_eq!(
            metrics[3]["containerResource"],
            json!({ "name": "memory", "container": "main", "targetAverageUtilization": 60 })
        );
        assert_eq!(metrics.as_array().unwrap().len(), 4);
        assert_eq!(
            read(CURRENT_METRICS)[0]["resource"],
            json!({ "name": "cpu", "currentAverageUtilization": 7, "currentAverageValue": "70m" })
        );
        assert_eq!(
            read(BEHAVIOR),
            json!({ "ScaleUp": { "Policies": [{ "Type": "Pods", "Value": 4, "PeriodSeconds": 15 }] } })
        );
        assert_eq!(read(CONDITIONS)[0]["type"], "AbleToScale");
        assert_eq!(annotations["a"], "b");
    }

    #[test]
    fn nothing_is_lost_on_the_way_there_and_back() {
        let mut object = version_2();
        to_version_1(&mut object);
        to_version_2(&mut object);
        assert_eq!(object, version_2());
    }

    #[test]
    fn a_plain_version_1_object_is_one_metric() {
        let mut object =
            json!({ "spec": { "maxReplicas": 2, "targetCPUUtilizationPercentage": 50 } });
        to_version_2(&mut object);
        let target = json!({ "type": "Utilization", "averageUtilization": 50 });
        let metrics =
            json!([{ "type": "Resource", "resource": { "name": "cpu", "target": target } }]);
        assert_eq!(
            object["spec"],
            json!({ "maxReplicas": 2, "metrics": metrics })
        );
        to_version_1(&mut object);
        assert_eq!(
            object["spec"],
            json!({ "maxReplicas": 2, "targetCPUUtilizationPercentage": 50 })
        );
        assert!(object["metadata"].get("annotations").is_none());
    }

    #[test]
    fn no_replicas_are_a_0_in_version_1_and_nothing_in_version_2() {
        let mut object = json!({ "spec": {}, "status": { "desiredReplicas": 0 } });
        to_version_1(&mut object);
        let with_0 = json!({ "currentReplicas": 0, "desiredReplicas": 0 });
        assert_eq!(object["status"], with_0);
        to_version_2(&mut object);
        assert_eq!(object["status"], json!({ "desiredReplicas": 0 }));
    }

    #[test]
    fn an_annotation_that_cannot_be_read_is_dropped() {
        let annotations = json!({ METRICS: "{", BEHAVIOR: 3 });
        let mut object =
            json!({ "metadata": { "annotations": annotations }, "spec": { "maxReplicas": 2 } });
        to_version_2(&mut object);
        assert_eq!(object["spec"], json!({ "maxReplicas": 2 }));
        assert_eq!(object["metadata"], json!({}));
    }
}
