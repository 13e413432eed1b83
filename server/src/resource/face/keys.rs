//! Which object a key of the store belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use machinery::kind::{Kind, Kinds};
use serde_json::{Map, Value};

/// What the keys of all objects begin with.
pub(super) const ALL: &str = "/registry/";

/// The longest that the prefix of a kind may be, in parts.
const PREFIX_PARTS: usize = 2;

/// The kinds that are kept, by what their keys begin with.
pub(super) struct Keys {
    /// In discovery's order, each by the first version that it is served in.
    kinds: Vec<Arc<Kind>>,
    by_prefix: HashMap<String, Arc<Kind>>,
}

/// Whose key it is.
pub(super) struct Owner<'a> {
    /// None of a kind that is not known here.
    pub(super) kind: Option<&'a Arc<Kind>>,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

impl Keys {
    pub(super) fn new(kinds: &Kinds) -> Self {
        let mut listed = Vec::new();
        let mut by_prefix = HashMap::new();
        // The same objects may be served in several groups and versions.
        for kind in kinds.all().iter().filter(|kind| kind.is_stored()) {
            by_prefix.entry(kind.prefix.clone()).or_insert_with(|| {
                listed.push(kind.clone());
                kind.clone()
            });
        }
        Self {
            kinds: listed,
            by_prefix,
        }
    }

    pub(super) fn kinds(&self) -> &[Arc<Kind>] {
        &self.kinds
    }

    /// Whose key it is, as far as that can be said.
    pub(super) fn owner<'a>(&'a self, key: &'a str) -> Owner<'a> {
        let rest = key.strip_prefix(ALL).unwrap_or(key);
        let ends = rest.match_indices('/').map(|(at, _)| at);
        let ends: Vec<usize> = ends.take(PREFIX_PARTS).collect();
        let found = ends.iter().rev().find_map(|&end| {
            let kind = self.by_prefix.get(&rest[..end])?;
            Some((kind, &rest[end + 1..]))
        });
        match found {
            Some((kind, rest)) if kind.namespaced => {
                let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
                Owner {
                    kind: Some(kind),
                    namespace,
                    name,
                }
            }
            Some((kind, name)) => Owner {
                kind: Some(kind),
                namespace: "",
                name,
            },
            None => Owner {
                kind: None,
                namespace: "",
                name: rest,
            },
        }
    }
}

impl Owner<'_> {
    /// As the fields that all answers name an object by.
    pub(super) fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        if let Some(kind) = self.kind {
            fields.insert("apiVersion".to_owned(), kind.api_version().into());
            fields.insert("kind".to_owned(), kind.kind.as_str().into());
        }
        if !self.namespace.is_empty() {
            fields.insert("namespace".to_owned(), self.namespace.into());
        }
        fields.insert("name".to_owned(), self.name.into());
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_objects() {
        let keys = Keys::new(Kinds::builtin());
        let read = |key: &str| {
            let owner = keys.owner(key);
            let kind = owner.kind.map_or("?", |kind| kind.kind.as_str());
            format!("{kind}|{}|{}", owner.namespace, owner.name)
        };
        assert_eq!(read("/registry/configmaps/a/b"), "ConfigMap|a|b");
        assert_eq!(read("/registry/services/specs/a/b"), "Service|a|b");
        assert_eq!(read("/registry/services/endpoints/a/b"), "Endpoints|a|b");
        assert_eq!(read("/registry/minions/n"), "Node||n");
        assert_eq!(
            read("/registry/clusterroles/system:x"),
            "ClusterRole||system:x"
        );
        assert_eq!(
            read("/registry/example.com/widgets/a/b"),
            "?||example.com/widgets/a/b"
        );
        assert_eq!(read("/registry/"), "?||");
    }

    #[test]
    fn no_prefix_has_more_parts_than_are_looked_at() {
        for kind in Kinds::builtin().all() {
            assert!(
                kind.prefix.split('/').count() <= PREFIX_PARTS,
                "{}",
                kind.prefix
            );
        }
    }
}
