//! Namespaces: what each has from its beginning, and what must be gone before it may go.

use machinery::status::{Reason, Status};
use serde_json::{Value, json};

use super::garbage;
use super::graph::{Graph, Head};
use crate::resource::verbs::Deletion;
use crate::resource::{Api, meta};

/// The finalizer that the server itself works on.
const KUBERNETES: &str = "kubernetes";

/// Gives a namespace what it needs, or empties it.
pub(super) async fn look_after(api: &Api, graph: &Graph, key: &str) -> Result<bool, Status> {
    let Some(head) = graph.head(key) else {
        return Ok(true);
    };
    if head.metadata.deletion_timestamp.is_none() {
        return furnish(api, &head.metadata.name).await;
    }
    empty(api, graph, head).await
}

/// The service account that pods have if they name none.
async fn furnish(api: &Api, namespace: &str) -> Result<bool, Status> {
    let accounts = api.kind("", "v1", "serviceaccounts");
    if api
        .registry
        .look(&accounts.key(namespace, "default"))?
        .is_some()
    {
        return Ok(true);
    }
    let account = json!({
        "kind": "ServiceAccount",
        "apiVersion": "v1",
        "metadata": { "name": "default", "namespace": namespace },
    });
    let now = api.registry.now();
    match api
        .create_object(accounts, namespace, account, false, now)
        .await
    {
        Ok(_) => Ok(true),
        Err(error) if error.reason == Reason::AlreadyExists => Ok(true),
        // It is about to go.
        Err(error) if matches!(error.reason, Reason::Forbidden | Reason::NotFound) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Deletes all that is in a namespace, and once nothing is left, lets it go.
async fn empty(api: &Api, graph: &Graph, head: &Head) -> Result<bool, Status> {
    let name = &head.metadata.name;
    let now = api.registry.now();
    let deletion = Deletion {
        policy: Some("Background".to_owned()),
        ..Deletion::default()
    };
    let mut is_empty = true;
    for (_, one) in graph.in_namespace(name) {
        let (group, version) = Head::group_version(&one.api_version);
        let Some(kind) = api.kinds.named(group, version, &one.kind) else {
            continue;
        };
        is_empty = false;
        if one.metadata.deletion_timestamp.is_some() && !one.metadata.finalizers.is_empty() {
            // Somebody else has to do something first.
            continue;
        }
        let deleted = api
            .delete_object(kind, name, &one.metadata.name, &deletion, now)
            .await;
        match deleted {
            Ok(_) => {}
            Err(gone) if gone.reason == Reason::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if !is_empty {
        // Heard of again with each object that is gone.
        return Ok(true);
    }
    let namespaces = api.kind("", "v1", "namespaces");
    garbage::change(api, namespaces, "", name, &|object| {
        if let Some(list) = object["spec"]
            .get_mut("finalizers")
            .and_then(Value::as_array_mut)
        {
            list.retain(|one| one != KUBERNETES);
        }
        let is_last = object["spec"]["finalizers"]
            .as_array()
            .is_none_or(Vec::is_empty);
        if is_last && let Some(spec) = object["spec"].as_object_mut() {
            spec.remove("finalizers");
        }
        meta::of(object);
    })
    .await
}
