//! Objects whose owners are gone, and owners that wait for what they own.

use machinery::kind::Kind;
use machinery::status::{Reason, Status};
use serde_json::Value;

use super::graph::{FOREGROUND, Graph, Head, ORPHAN, Owner};
use crate::resource::verbs::Deletion;
use crate::resource::{Api, meta};

/// The kind of a head, if it is served.
fn kind_of<'a>(api: &'a Api, api_version: &str, kind: &str) -> Option<&'a Kind> {
    let (group, version) = Head::group_version(api_version);
    api.kinds.named(group, version, kind).map(|kind| &**kind)
}

/// Whether an owner is there, as the store has it now; none if that cannot be known.
fn is_there(api: &Api, owned: &Head, owner: &Owner) -> Result<Option<bool>, Status> {
    let Some(kind) = kind_of(api, &owner.api_version, &owner.kind) else {
        return Ok(None);
    };
    let namespace = if kind.namespaced {
        owned.metadata.namespace.as_str()
    } else {
        ""
    };
    let found = api.registry.look(&kind.key(namespace, &owner.name))?;
    match found {
        Some(found) => {
            let object = found.value(kind)?;
            Ok(Some(meta::text(&object, "uid") == owner.uid))
        }
        None => Ok(Some(false)),
    }
}

/// Whether an owner waits for what it owns before it goes.
fn waits(graph: &Graph, owner: &Owner) -> bool {
    graph.of_uid(&owner.uid).is_some_and(|owner| {
        let metadata = &owner.metadata;
        metadata.deletion_timestamp.is_some()
            && metadata.finalizers.iter().any(|one| one == FOREGROUND)
    })
}

/// Whether an object has an owner that is there, and stays.
fn is_kept(api: &Api, graph: &Graph, owned: &Head) -> Result<bool, Status> {
    for owner in &owned.metadata.owner_references {
        if !waits(graph, owner) && is_there(api, owned, owner)? != Some(false) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Deletes an object none of whose owners is there.
pub(super) async fn check(api: &Api, graph: &Graph, key: &str) -> Result<bool, Status> {
    let Some(head) = graph.head(key) else {
        return Ok(true);
    };
    let mut gone = Vec::new();
    let mut has_owner = false;
    let mut only_waiting = true;
    for owner in &head.metadata.owner_references {
        match is_there(api, head, owner)? {
            Some(false) => gone.push(owner.uid.clone()),
            _ => {
                has_owner = true;
                let blocks = owner.block_owner_deletion == Some(true);
                only_waiting &= blocks && waits(graph, owner);
            }
        }
    }
    let Some(kind) = kind_of(api, &head.api_version, &head.kind) else {
        return Ok(true);
    };
    let policy = if !has_owner && !gone.is_empty() {
        "Background"
    } else if has_owner && only_waiting {
        "Foreground"
    } else {
        return disown(api, kind, head, &gone).await;
    };
    delete(api, kind, head, policy).await
}

async fn delete(api: &Api, kind: &Kind, head: &Head, policy: &str) -> Result<bool, Status> {
    let metadata = &head.metadata;
    let deletion = Deletion {
        policy: Some(policy.to_owned()),
        uid: Some(metadata.uid.clone()),
        ..Deletion::default()
    };
    let now = api.registry.now();
    let deleted = api
        .delete_object(kind, &metadata.namespace, &metadata.name, &deletion, now)
        .await;
    match deleted {
        Ok(_) => Ok(true),
        // Another one of the same name, or none: the graph will hear of it.
        Err(gone) if matches!(gone.reason, Reason::NotFound | Reason::Conflict) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Takes owners out of an object's list.
async fn disown(api: &Api, kind: &Kind, head: &Head, owners: &[String]) -> Result<bool, Status> {
    if owners.is_empty() {
        return Ok(true);
    }
    let metadata = &head.metadata;
    change(api, kind, &metadata.namespace, &metadata.name, &|object| {
        let metadata = meta::of(object);
        if let Some(list) = metadata
            .get_mut("ownerReferences")
            .and_then(Value::as_array_mut)
        {
            list.retain(|owner| !owners.iter().any(|uid| owner["uid"] == uid.as_str()));
            if list.is_empty() {
                metadata.remove("ownerReferences");
            }
        }
    })
    .await
}

/// Changes an object that may change meanwhile; true once that is done, or nothing is left to change.
pub(super) async fn change(
    api: &Api,
    kind: &Kind,
    namespace: &str,
    name: &str,
    edit: &(dyn Fn(&mut Value) + Sync),
) -> Result<bool, Status> {
    let key = kind.key(namespace, name);
    let Some(current) = api.registry.look(&key)? else {
        return Ok(true);
    };
    let old = current.value(kind)?;
    let mut new = old.clone();
    edit(&mut new);
    if new == old {
        return Ok(true);
    }
    let written = api.write(kind, &key, &current, &old, new).await?;
    Ok(written.is_some())
}

/// Lets an owner go that waits for what it owns, once that is gone or does not need it.
pub(super) async fn finish(api: &Api, graph: &Graph, key: &str) -> Result<bool, Status> {
    let Some(head) = graph.head(key) else {
        return Ok(true);
    };
    let metadata = &head.metadata;
    if metadata.deletion_timestamp.is_none() {
        return Ok(true);
    }
    let Some(kind) = kind_of(api, &head.api_version, &head.kind) else {
        return Ok(true);
    };
    let waits_for = |finalizer: &str| metadata.finalizers.iter().any(|one| one == finalizer);
    let finalizer = if waits_for(ORPHAN) {
        let mut all_done = true;
        for (_, owned, _) in graph.owned_by(&metadata.uid) {
            let Some(kind) = kind_of(api, &owned.api_version, &owned.kind) else {
                continue;
            };
            all_done &= disown(api, kind, owned, std::slice::from_ref(&metadata.uid)).await?;
        }
        if !all_done {
            return Ok(false);
        }
        ORPHAN
    } else if waits_for(FOREGROUND) {
        let mut is_blocked = false;
        for (_, owned, owner) in graph.owned_by(&metadata.uid) {
            let Some(kind) = kind_of(api, &owned.api_version, &owned.kind) else {
                continue;
            };
            if is_kept(api, graph, owned)? {
                // Whoever else owns it keeps it; this owner is heard of again once it is no owner any more.
                if !disown(api, kind, owned, std::slice::from_ref(&metadata.uid)).await? {
                    return Ok(false);
                }
                is_blocked = true;
                continue;
            }
            is_blocked |= owner.block_owner_deletion == Some(true);
            if owned.metadata.deletion_timestamp.is_none() {
                delete(api, kind, owned, "Foreground").await?;
            }
        }
        if is_blocked {
            // Heard of when what blocks it is gone.
            return Ok(true);
        }
        FOREGROUND
    } else {
        return Ok(true);
    };
    change(api, kind, &metadata.namespace, &metadata.name, &|object| {
        let metadata = meta::of(object);
        if let Some(list) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) {
            list.retain(|one| one != finalizer);
            if list.is_empty() {
                metadata.remove("finalizers");
            }
        }
    })
    .await
}
