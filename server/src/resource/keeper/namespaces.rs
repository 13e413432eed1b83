//! Namespaces: what each has from its beginning, and what must be gone before it may go.

use std::collections::BTreeMap;

use machinery::kind::Kind;
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

/// What has to go before a namespace can, and waits for somebody.
#[derive(Default)]
struct Waiting {
    /// Objects, by their kind.
    objects: BTreeMap<String, usize>,
    /// Objects, by the finalizers that they have.
    finalizers: BTreeMap<String, usize>,
}

impl Waiting {
    fn count<'a>(&mut self, kind: &Kind, finalizers: impl Iterator<Item = &'a str>) {
        let name = match kind.group.as_str() {
            "" => format!("{}.", kind.plural),
            group => format!("{}.{group}", kind.plural),
        };
        *self.objects.entry(name).or_default() += 1;
        for finalizer in finalizers {
            *self.finalizers.entry(finalizer.to_owned()).or_default() += 1;
        }
    }

    /// The conditions that say so, in upstream's words; none if nothing waits.
    fn conditions(&self, now: &str) -> Option<Vec<Value>> {
        if self.objects.is_empty() {
            return None;
        }
        let listed = |counts: &BTreeMap<String, usize>, between: &str| {
            let counts = counts.iter();
            let counts =
                counts.map(|(name, count)| format!("{name}{between}{count} resource instances"));
            counts.collect::<Vec<_>>().join(", ")
        };
        let objects = listed(&self.objects, " has ");
        let finalizers = listed(&self.finalizers, " in ");
        let waits = !self.finalizers.is_empty();
        let rows = [
            (
                "NamespaceDeletionDiscoveryFailure",
                false,
                "ResourcesDiscovered",
                "All resources successfully discovered".to_owned(),
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                false,
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed".to_owned(),
            ),
            (
                "NamespaceDeletionContentFailure",
                false,
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization".to_owned(),
            ),
            (
                "NamespaceContentRemaining",
                true,
                "SomeResourcesRemain",
                format!("Some resources are remaining: {objects}"),
            ),
            if waits {
                (
                    "NamespaceFinalizersRemaining",
                    true,
                    "SomeFinalizersRemain",
                    format!("Some content in the namespace has finalizers remaining: {finalizers}"),
                )
            } else {
                (
                    "NamespaceFinalizersRemaining",
                    false,
                    "ContentHasNoFinalizers",
                    "All content-preserving finalizers finished".to_owned(),
                )
            },
        ];
        let conditions = rows.into_iter().map(|(of, is_so, reason, message)| {
            json!({
                "type": of,
                "status": if is_so { "True" } else { "False" },
                "lastTransitionTime": now,
                "reason": reason,
                "message": message,
            })
        });
        Some(conditions.collect())
    }
}

/// Says in a namespace's conditions why it does not go; those that say nothing new stay as they are.
async fn say(api: &Api, name: &str, conditions: &[Value]) -> Result<bool, Status> {
    let namespaces = api.kind("", "v1", "namespaces");
    garbage::change(api, namespaces, "", name, &|object| {
        let held = object["status"]["conditions"].as_array();
        let held = held.cloned().unwrap_or_default();
        let is_said = |condition: &Value| {
            held.iter().any(|one| {
                ["type", "status", "reason", "message"]
                    .iter()
                    .all(|field| one[field] == condition[field])
            })
        };
        if !conditions.iter().all(is_said) {
            object["status"]["conditions"] = json!(conditions);
        }
    })
    .await
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
    let mut waiting = Waiting::default();
    for (_, one) in graph.in_namespace(name) {
        let (group, version) = Head::group_version(&one.api_version);
        let Some(kind) = api.kinds.named(group, version, &one.kind) else {
            continue;
        };
        is_empty = false;
        if one.metadata.deletion_timestamp.is_some() && !one.metadata.finalizers.is_empty() {
            // Somebody else has to do something first.
            waiting.count(kind, one.metadata.finalizers.iter().map(String::as_str));
            continue;
        }
        let deleted = api
            .delete_object(kind, name, &one.metadata.name, &deletion, now)
            .await;
        match deleted {
            Ok(deleted) if deleted.is_gone => {}
            Ok(deleted) => waiting.count(kind, meta::finalizers(&deleted.object).into_iter()),
            Err(gone) if gone.reason == Reason::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if !is_empty {
        // Heard of again with each object that is gone.
        return match waiting.conditions(&meta::timestamp(now)) {
            Some(conditions) => say(api, name, &conditions).await,
            None => Ok(true),
        };
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

#[cfg(test)]
mod tests {
    use machinery::kind::Kinds;

    use super::*;

    #[test]
    fn what_waits_is_counted_by_its_kind_and_its_finalizers() {
        let mut waiting = Waiting::default();
        assert!(waiting.conditions("now").is_none());
        let kinds = Kinds::builtin();
        let config_maps = kinds.at("", "v1", "configmaps").unwrap();
        waiting.count(config_maps, ["a.example/x"].into_iter());
        waiting.count(config_maps, ["a.example/x", "b.example/y"].into_iter());
        let deployments = kinds.at("apps", "v1", "deployments").unwrap();
        waiting.count(deployments, std::iter::empty());
        let told = waiting.conditions("now").unwrap();
        assert_eq!(
            told[3]["message"],
            "Some resources are remaining: configmaps. has 2 resource instances, \
             deployments.apps has 1 resource instances"
        );
        assert_eq!(
            told[4]["message"],
            "Some content in the namespace has finalizers remaining: a.example/x in 2 resource instances, \
             b.example/y in 1 resource instances"
        );
    }
}
