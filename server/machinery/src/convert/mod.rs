//! Between the version that an object is served in and the one that it is stored in, where these are different kinds of
//! tree: rows of the table of kinds with `storedAs`.

mod autoscaler;
mod event;

use serde_json::Value;

pub(crate) use autoscaler::has_other_metrics;
pub(crate) use event::NAMES as EVENT_NAMES;

use crate::kind::Kind;

/// An object as clients send it becomes one as it is stored. Where the kind is stored as it is served, nothing changes.
pub fn to_stored(kind: &Kind, object: &mut Value) {
    let Some(stored) = kind.stored_as.as_ref().filter(|_| object.is_object()) else {
        return;
    };
    match converter(kind) {
        Some(Converter::Event) => event::to_core(object),
        Some(Converter::Autoscaler) => autoscaler::to_version_2(object),
        None => {}
    }
    object["apiVersion"] = match stored.group.as_str() {
        "" => stored.version.clone().into(),
        group => format!("{group}/{}", stored.version).into(),
    };
}

/// The other way. An object that is not of the stored version is taken as one of the served version, for then it was
/// stored by somebody else, and stays as it is.
pub fn to_served(kind: &Kind, object: &mut Value) {
    let api_version = kind.api_version();
    if kind.stored_as.is_none() || !object.is_object() || object["apiVersion"] == api_version {
        return;
    }
    match converter(kind) {
        Some(Converter::Event) => event::from_core(object),
        Some(Converter::Autoscaler) => autoscaler::to_version_1(object),
        None => {}
    }
    object["apiVersion"] = api_version.into();
}

enum Converter {
    Event,
    Autoscaler,
}

/// How versions of a kind become each other; none if only `apiVersion` tells them apart.
fn converter(kind: &Kind) -> Option<Converter> {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("events.k8s.io", "Event") => Some(Converter::Event),
        ("autoscaling", "HorizontalPodAutoscaler") => Some(Converter::Autoscaler),
        _ => None,
    }
}

/// Moves fields to their names in another version: `(from, to)`.
fn rename<'a>(object: &mut Value, names: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    for (from, to) in names {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind::Kinds;

    #[test]
    fn an_event_is_one_object_in_both_groups() {
        let kind = Kinds::builtin()
            .at("events.k8s.io", "v1", "events")
            .unwrap();
        let served = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": { "name": "a" },
            "regarding": { "kind": "Pod", "name": "p" },
            "note": "started",
            "reportingController": "c",
            "deprecatedCount": 2,
            "type": "Normal",
        });
        let mut object = served.clone();
        to_stored(kind, &mut object);
        assert_eq!(
            object,
            json!({
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": { "name": "a" },
                "involvedObject": { "kind": "Pod", "name": "p" },
                "message": "started",
                "reportingComponent": "c",
                "reportingInstance": "",
                "count": 2,
                "type": "Normal",
            })
        );
        to_served(kind, &mut object);
        assert_eq!(object, served);
    }

    #[test]
    fn what_is_stored_as_it_is_served_does_not_change() {
        let kind = Kinds::builtin().at("", "v1", "events").unwrap();
        let event = json!({ "apiVersion": "v1", "kind": "Event", "note": 1 });
        let mut object = event.clone();
        to_stored(kind, &mut object);
        to_served(kind, &mut object);
        assert_eq!(object, event);
    }

    #[test]
    fn what_was_stored_in_the_served_version_stays() {
        let kind = Kinds::builtin()
            .at("events.k8s.io", "v1", "events")
            .unwrap();
        let event = json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "note": "n" });
        let mut object = event.clone();
        to_served(kind, &mut object);
        assert_eq!(object, event);
    }

    #[test]
    fn every_field_of_an_event_has_its_place_in_both_groups() {
        let documents = crate::schema::documents();
        let fields = |name: &str| {
            let fields = documents[name]["properties"].as_object().unwrap();
            fields
                .keys()
                .filter(|name| *name != "apiVersion")
                .map(|name| (name.clone(), json!(1)))
                .collect::<Value>()
        };
        let mut object = fields("io.k8s.api.events.v1.Event");
        event::to_core(&mut object);
        assert_eq!(object, fields("io.k8s.api.core.v1.Event"));
        event::from_core(&mut object);
        assert_eq!(object, fields("io.k8s.api.events.v1.Event"));
    }

    #[test]
    fn a_tree_that_is_no_object_does_no_harm() {
        for kind in Kinds::builtin().all() {
            for body in [
                json!({ "spec": 1, "status": [], "metadata": { "annotations": 2 } }),
                json!([1]),
                json!({ "spec": { "metrics": 1 }, "status": { "currentMetrics": [1] } }),
                json!({ "spec": { "metrics": [{ "type": "Resource", "resource": 3 }] } }),
            ] {
                let mut object = body.clone();
                to_stored(kind, &mut object);
                let mut object = body;
                to_served(kind, &mut object);
            }
        }
    }
}
