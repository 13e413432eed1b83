//! Who owns whom: what is known of all objects, and what is to be done when one changes. Pure.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;
use serde_json::Value;

/// Finalizers whose work is done here.
pub(super) const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// What is known of an object.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Head {
    pub(super) kind: String,
    pub(super) api_version: String,
    pub(super) metadata: Metadata,
    /// Whether it is a quota that does not say what is used of all that it limits.
    #[serde(skip)]
    pub(super) is_uncounted: bool,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) deletion_timestamp: Option<String>,
    pub(super) finalizers: Vec<String>,
    pub(super) owner_references: Vec<Owner>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Owner {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) block_owner_deletion: Option<bool>,
}

impl Head {
    /// What is kept under a key; none if that is no object.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let mut head: Self = serde_json::from_slice(value).ok()?;
        if head.is_quota() {
            let quota: Value = serde_json::from_slice(value).ok()?;
            let hard = &quota["spec"]["hard"];
            head.is_uncounted = *hard != quota["status"]["hard"]
                || hard.is_object() && quota["status"]["used"].is_null();
        }
        (!head.kind.is_empty()).then_some(head)
    }

    /// Group and version.
    pub(super) fn group_version(api_version: &str) -> (&str, &str) {
        api_version.split_once('/').unwrap_or(("", api_version))
    }

    fn is_being_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn has_work(&self) -> bool {
        let finalizers = &self.metadata.finalizers;
        self.is_being_deleted()
            && finalizers
                .iter()
                .any(|one| one == ORPHAN || one == FOREGROUND)
    }

    fn is_quota(&self) -> bool {
        self.kind == "ResourceQuota" && self.api_version == "v1"
    }

    fn is_namespace(&self) -> bool {
        self.kind == "Namespace" && self.api_version == "v1"
    }
}

/// Something to look at. By the key of what it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    /// A namespace that is there, or that is to go.
    Namespace(String),
    /// An object that has owners: is one of them there?
    Owned(String),
    /// An object that waits for what it owns.
    Owner(String),
    /// A quota of whose namespace something is gone, or does not count any more.
    Quota(String),
}

/// All objects.
#[derive(Debug, Default)]
pub(super) struct Graph {
    heads: HashMap<String, Head>,
    /// Keys by uid.
    keys: HashMap<String, String>,
    /// Keys of what an owner has, by its uid.
    owned: HashMap<String, BTreeSet<String>>,
    /// Keys of the quotas of a namespace.
    quotas: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(super) fn head(&self, key: &str) -> Option<&Head> {
        self.heads.get(key)
    }

    /// The object of a uid.
    pub(super) fn of_uid(&self, uid: &str) -> Option<&Head> {
        self.heads.get(self.keys.get(uid)?)
    }

    /// What an owner has, and how each of those names it.
    pub(super) fn owned_by<'a>(
        &'a self,
        uid: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Head, &'a Owner)> {
        let keys = self.owned.get(uid).into_iter().flatten();
        keys.filter_map(move |key| {
            let head = self.heads.get(key)?;
            let owners = &head.metadata.owner_references;
            let owner = owners.iter().find(|owner| owner.uid == uid)?;
            Some((key.as_str(), head, owner))
        })
    }

    /// Keys of what is in a namespace.
    pub(super) fn in_namespace<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Head)> {
        let heads = self.heads.iter();
        heads
            .filter(move |(_, head)| head.metadata.namespace == namespace)
            .map(|(key, head)| (key.as_str(), head))
    }

    /// An object is there, or has changed.
    pub(super) fn put(&mut self, key: &str, head: Head, tasks: &mut BTreeSet<Task>) {
        // Pods that are over count no more, which their metadata does not say.
        if head.kind == "Pod" && self.heads.contains_key(key) {
            self.look_at_quotas(&head.metadata.namespace, tasks);
        }
        if self.heads.get(key) == Some(&head) {
            return;
        }
        let metadata = &head.metadata;
        if self
            .heads
            .get(key)
            .is_some_and(|old| old.metadata.uid != metadata.uid)
        {
            self.remove(key, tasks);
        }
        let new: BTreeSet<&str> = metadata
            .owner_references
            .iter()
            .map(|owner| owner.uid.as_str())
            .collect();
        if let Some(old) = self.heads.get(key) {
            for owner in &old.metadata.owner_references {
                if !new.contains(owner.uid.as_str()) {
                    forget(&mut self.owned, &owner.uid, key);
                    if let Some(key) = self.keys.get(&owner.uid) {
                        tasks.insert(Task::Owner(key.clone()));
                    }
                }
            }
        }
        for uid in &new {
            let owned = self.owned.entry((*uid).to_owned()).or_default();
            owned.insert(key.to_owned());
        }
        if !new.is_empty() && !head.is_being_deleted() {
            tasks.insert(Task::Owned(key.to_owned()));
        }
        if head.has_work() {
            tasks.insert(Task::Owner(key.to_owned()));
        }
        if head.is_namespace() {
            tasks.insert(Task::Namespace(key.to_owned()));
        }
        if head.is_quota() {
            let quotas = self.quotas.entry(metadata.namespace.clone());
            if quotas.or_default().insert(key.to_owned()) || head.is_uncounted {
                tasks.insert(Task::Quota(key.to_owned()));
            }
        }
        self.keys.insert(metadata.uid.clone(), key.to_owned());
        self.heads.insert(key.to_owned(), head);
    }

    fn look_at_quotas(&self, namespace: &str, tasks: &mut BTreeSet<Task>) {
        let quotas = self.quotas.get(namespace).into_iter().flatten();
        tasks.extend(quotas.map(|key| Task::Quota(key.clone())));
    }

    /// An object is gone.
    pub(super) fn remove(&mut self, key: &str, tasks: &mut BTreeSet<Task>) {
        let Some(head) = self.heads.remove(key) else {
            return;
        };
        if head.is_quota() {
            forget(&mut self.quotas, &head.metadata.namespace, key);
        }
        let metadata = head.metadata;
        self.look_at_quotas(&metadata.namespace, tasks);
        self.keys.remove(&metadata.uid);
        for owner in &metadata.owner_references {
            forget(&mut self.owned, &owner.uid, key);
            if let Some(key) = self.keys.get(&owner.uid) {
                tasks.insert(Task::Owner(key.clone()));
            }
        }
        for owned in self.owned.get(&metadata.uid).into_iter().flatten() {
            tasks.insert(Task::Owned(owned.clone()));
        }
        if !metadata.namespace.is_empty() {
            let namespace = format!("/registry/namespaces/{}", metadata.namespace);
            if self
                .heads
                .get(&namespace)
                .is_some_and(Head::is_being_deleted)
            {
                tasks.insert(Task::Namespace(namespace));
            }
        }
    }
}

/// Takes a key from a set, and the set from where it is once it is empty.
fn forget(sets: &mut HashMap<String, BTreeSet<String>>, of: &str, key: &str) {
    if let Some(keys) = sets.get_mut(of) {
        keys.remove(key);
        if keys.is_empty() {
            sets.remove(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn head(uid: &str, owners: &[&str]) -> Head {
        let owners: Vec<_> = owners
            .iter()
            .map(|uid| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": uid, "uid": uid}))
            .collect();
        let object = json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"name": uid, "namespace": "a", "uid": uid, "ownerReferences": owners},
        });
        Head::read(object.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_is_owned_is_looked_at_when_its_owner_goes() {
        let (mut graph, mut tasks) = (Graph::default(), BTreeSet::new());
        graph.put("o", head("o", &[]), &mut tasks);
        assert!(tasks.is_empty());
        graph.put("d", head("d", &["o"]), &mut tasks);
        assert_eq!(tasks, BTreeSet::from([Task::Owned("d".into())]));
        tasks.clear();
        graph.put("d", head("d", &["o"]), &mut tasks);
        assert!(tasks.is_empty(), "nothing changed");
        assert_eq!(graph.owned_by("o").count(), 1);
        graph.remove("o", &mut tasks);
        assert_eq!(tasks, BTreeSet::from([Task::Owned("d".into())]));
        assert!(graph.of_uid("o").is_none());
    }

    #[test]
    fn an_owner_is_looked_at_when_what_it_owns_goes() {
        let (mut graph, mut tasks) = (Graph::default(), BTreeSet::new());
        graph.put("o", head("o", &[]), &mut tasks);
        graph.put("d", head("d", &["o"]), &mut tasks);
        tasks.clear();
        graph.remove("d", &mut tasks);
        assert_eq!(tasks, BTreeSet::from([Task::Owner("o".into())]));
        assert_eq!(graph.owned_by("o").count(), 0);
    }

    #[test]
    fn a_quota_is_counted_anew_when_it_changes_and_when_something_of_its_namespace_goes() {
        let quota = |status: Value| {
            let object = json!({
                "kind": "ResourceQuota", "apiVersion": "v1",
                "metadata": {"name": "q", "namespace": "a", "uid": "q"},
                "spec": {"hard": {"configmaps": "1"}}, "status": status,
            });
            Head::read(object.to_string().as_bytes()).unwrap()
        };
        let counted = || quota(json!({"hard": {"configmaps": "1"}, "used": {"configmaps": "1"}}));
        let task = BTreeSet::from([Task::Quota("q".into())]);
        let (mut graph, mut tasks) = (Graph::default(), BTreeSet::new());
        graph.put("q", quota(json!({})), &mut tasks);
        assert_eq!(std::mem::take(&mut tasks), task);
        graph.put("q", counted(), &mut tasks);
        graph.put("o", head("o", &[]), &mut tasks);
        assert!(tasks.is_empty());
        graph.remove("o", &mut tasks);
        assert_eq!(std::mem::take(&mut tasks), task);
        graph.remove("q", &mut tasks);
        assert!(tasks.is_empty() && graph.quotas.is_empty());
    }
}
