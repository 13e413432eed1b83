//! Limits and quotas of a namespace. What a quota has left is counted in the transaction that uses it, so that no two
//! creates get the same last place, whichever members they go through.

use std::collections::BTreeSet;

use machinery::admission::limits;
use machinery::admission::quota::{self, Refusal};
use machinery::kind::Kind;
use machinery::status::Status;
use serde_json::Value;
use store::View;

use crate::resource::registry::Change;
use crate::resource::{Api, meta, stored};

/// All objects of a kind in a namespace, at a view.
fn objects(api: &Api, view: &View, kind: &Kind, namespace: &str) -> Result<Vec<Value>, Status> {
    let records = api.registry.all_at(view, &kind.key(namespace, ""))?;
    let parsed = records
        .iter()
        .map(|record| stored::parse(record.value(), record.mod_revision(), kind));
    parsed.collect()
}

fn ranges(api: &Api, namespace: &str) -> Result<Vec<Value>, Status> {
    let view = api.registry.reader().view();
    objects(api, &view, api.kind("", "v1", "limitranges"), namespace)
}

/// Gives a pod the limits that it does not set itself.
pub(super) fn limit(api: &Api, namespace: &str, pod: &mut Value) -> Result<(), Status> {
    for range in ranges(api, namespace)? {
        limits::apply_limits(&range, pod);
    }
    Ok(())
}

/// Whether an object is within the limits of its namespace.
pub(super) fn check_limits(api: &Api, kind: &Kind, object: &Value) -> Result<(), Status> {
    for range in ranges(api, meta::text(object, "namespace"))? {
        limits::check_limits(&range, kind, object).map_err(|why| forbidden(kind, object, &why))?;
    }
    Ok(())
}

fn forbidden(kind: &Kind, object: &Value, why: &str) -> Status {
    Status::forbidden(meta::about(kind, meta::text(object, "name")), why)
}

/// Takes from every quota of the namespace what an object needs.
pub(super) fn charge(
    api: &Api,
    kind: &Kind,
    old: Option<&Value>,
    object: &Value,
    change: &mut Change,
) -> Result<(), Status> {
    let namespace = meta::text(object, "namespace");
    let quotas = api.kind("", "v1", "resourcequotas");
    for mut held in objects(api, &api.registry.reader().view(), quotas, namespace)? {
        if !quota::counts(&held, kind) {
            continue;
        }
        let revision = meta::text(&held, "resourceVersion").parse().unwrap_or(0);
        let mut admitted = quota::admit(&held, kind, old, object);
        if matches!(admitted, Err(Refusal::Uncounted(_))) {
            held["status"] = recounted(api, namespace, &held)?;
            admitted = quota::admit(&held, kind, old, object);
        }
        match admitted {
            Ok(None) => {}
            Ok(Some(charged)) => {
                let key = quotas.key(namespace, meta::text(&held, "name"));
                change.only_at(&key, revision);
                change.put(&key, stored::keep(quotas, &charged), 0);
            }
            Err(Refusal::Forbidden(why) | Refusal::Uncounted(why)) => {
                return Err(forbidden(kind, object, &why));
            }
        }
    }
    Ok(())
}

/// The status of a quota, made from all that is in its namespace.
pub(in crate::resource) fn recounted(
    api: &Api,
    namespace: &str,
    held: &Value,
) -> Result<Value, Status> {
    let view = api.registry.reader().view();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for kind in api.kinds.all() {
        // Kinds that are served in two versions are kept once.
        if kind.namespaced && quota::counts(held, kind) && seen.insert(kind.key(namespace, "")) {
            for object in objects(api, &view, kind, namespace)? {
                found.push((&**kind, object));
            }
        }
    }
    let each = found.iter().map(|(kind, object)| (*kind, object));
    let mut status = quota::recount(held, each);
    // As the object itself is written.
    if let Some(fields) = status.as_object_mut() {
        fields.retain(|_, amounts| amounts.as_object().is_some_and(|map| !map.is_empty()));
    }
    Ok(status)
}
