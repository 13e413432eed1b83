//! What there is to know of each kind but for its schema: names, scope, verbs, where it is kept, special rules. One
//! table, `data/kinds.yaml`; custom kinds add rows to it at run time.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use crate::schema::{Definition, Schemas};

/// The table that ships with the binary.
const KINDS: &str = include_str!("../data/kinds.yaml");

/// A resource: a kind as it is served.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kind {
    /// API group; empty for the core.
    #[serde(default)]
    pub group: String,
    /// API version.
    #[serde(default = "v1")]
    pub version: String,
    /// As in `kind:`.
    pub kind: String,
    /// As in paths: `deployments`.
    pub plural: String,
    /// As people type it; lower-case kind if not given.
    #[serde(default)]
    pub singular: String,
    /// As people type it, shorter.
    #[serde(default)]
    pub short_names: Vec<String>,
    /// Such as `all`.
    #[serde(default)]
    pub categories: Vec<String>,
    /// Whether objects are in namespaces.
    #[serde(default = "yes")]
    pub namespaced: bool,
    /// In discovery's order of letters.
    #[serde(default = "all_verbs")]
    pub verbs: Vec<String>,
    /// `status`, `scale` and the like.
    #[serde(default)]
    pub subresources: Vec<Subresource>,
    /// Below `/registry/`; the plural if not given.
    #[serde(default)]
    pub prefix: String,
    /// How its objects may be called.
    #[serde(default)]
    pub names: NameRule,
    /// Fields other than `metadata.name` and `metadata.namespace` that lists may be selected by.
    #[serde(default)]
    pub selectable: Vec<String>,
    /// A put to a name that is not there creates.
    #[serde(default)]
    pub creates_on_update: bool,
    /// A put needs a resourceVersion.
    #[serde(default)]
    pub needs_version: bool,
    /// `metadata.generation` counts changes: of the spec, or where there is none of all but metadata and status.
    #[serde(default)]
    pub counts_generations: bool,
    /// A delete answers with what was deleted, not with a Status.
    #[serde(default)]
    pub returns_deleted: bool,
    /// Objects are deleted in two steps, with a grace period.
    #[serde(default)]
    pub graceful: bool,
    /// Seconds after which its objects are deleted, each counted from its last change; 0 for never.
    #[serde(default)]
    pub ttl: i64,
    /// The group and version that its objects are stored in, if another row of the same prefix has it; [`convert`]
    /// goes between the two.
    ///
    /// [`convert`]: crate::convert
    #[serde(default)]
    pub stored_as: Option<GroupVersion>,
    /// What whoever uses it is warned with, if it has another in its place.
    #[serde(default)]
    pub deprecated: Option<String>,
    /// The schema; filled in when the table is read.
    #[serde(skip)]
    pub schema: Option<Definition>,
}

/// A group and one of its versions.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct GroupVersion {
    /// API group; empty for the core.
    pub group: String,
    /// API version.
    pub version: String,
}

/// A part or view of an object that has a path of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subresource {
    /// Last part of its path.
    pub name: String,
    /// Group of what goes in and out, if it is another kind.
    #[serde(default)]
    pub group: Option<String>,
    /// Version of that.
    #[serde(default)]
    pub version: Option<String>,
    /// That kind.
    #[serde(default)]
    pub kind: Option<String>,
    /// In discovery's order of letters; those of `status` if not given.
    #[serde(default = "status_verbs")]
    pub verbs: Vec<String>,
}

/// How objects may be called.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum NameRule {
    /// DNS-1123 subdomain.
    #[default]
    Subdomain,
    /// DNS-1123 label.
    Label,
    /// DNS-1035 label.
    ServiceLabel,
    /// Anything that is one part of a path.
    Path,
}

fn v1() -> String {
    "v1".to_owned()
}

fn yes() -> bool {
    true
}

fn all_verbs() -> Vec<String> {
    [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn status_verbs() -> Vec<String> {
    ["get", "patch", "update"].map(str::to_owned).to_vec()
}

impl Kind {
    /// `apps/v1`, or `v1`.
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The group and version that its objects are stored in.
    pub fn stored(&self) -> (&str, &str) {
        match &self.stored_as {
            Some(stored) => (&stored.group, &stored.version),
            None => (&self.group, &self.version),
        }
    }

    /// `DeploymentList`.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// The key of an object, or with an empty name what the keys of all in a namespace begin with, or with an empty
    /// namespace, too, those of all.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        let prefix = &self.prefix;
        match (self.namespaced, namespace) {
            (true, "") => format!("/registry/{prefix}/"),
            (true, _) => format!("/registry/{prefix}/{namespace}/{name}"),
            (false, _) => format!("/registry/{prefix}/{name}"),
        }
    }

    /// Whether a verb is offered.
    pub fn offers(&self, verb: &str) -> bool {
        self.verbs.iter().any(|one| one == verb)
    }

    /// Whether its objects are kept: what cannot be watched is made when it is asked for.
    pub fn is_stored(&self) -> bool {
        self.offers("watch")
    }

    /// A part or view of its objects.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|one| one.name == name)
    }

    /// Whether the status of its objects is written by a path of its own only.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}

/// All kinds that are served.
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    all: Vec<Arc<Kind>>,
    by_path: HashMap<(String, String, String), Arc<Kind>>,
}

impl Kinds {
    /// Those that ship with the binary, in discovery's order.
    ///
    /// # Panics
    ///
    /// If the table in the binary is damaged.
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Kinds> = LazyLock::new(|| {
            let mut rows: Vec<Kind> =
                serde_saphyr::from_str(KINDS).expect("the table of kinds is part of the binary");
            for row in &mut rows {
                if row.singular.is_empty() {
                    row.singular = row.kind.to_lowercase();
                }
                if row.prefix.is_empty() {
                    row.prefix.clone_from(&row.plural);
                }
                row.schema = Schemas::builtin().of_kind(&row.group, &row.version, &row.kind);
            }
            Kinds::of(rows)
        });
        &BUILTIN
    }

    /// Of rows that are complete, in discovery's order.
    pub fn of(rows: Vec<Kind>) -> Self {
        let all: Vec<Arc<Kind>> = rows.into_iter().map(Arc::new).collect();
        let by_path = all
            .iter()
            .map(|kind| {
                let path = (
                    kind.group.clone(),
                    kind.version.clone(),
                    kind.plural.clone(),
                );
                (path, Arc::clone(kind))
            })
            .collect();
        Self { all, by_path }
    }

    /// In discovery's order.
    pub fn all(&self) -> &[Arc<Kind>] {
        &self.all
    }

    /// By group, version and plural.
    pub fn at(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        let path = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.by_path.get(&path)
    }

    /// By group, version and kind.
    pub fn named(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.all
            .iter()
            .find(|one| one.group == group && one.version == version && one.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_kube_apiserver() {
        let kinds = Kinds::builtin();
        let key = |group, plural, namespace, name| {
            kinds.at(group, "v1", plural).unwrap().key(namespace, name)
        };
        assert_eq!(key("", "pods", "default", "a"), "/registry/pods/default/a");
        assert_eq!(key("", "pods", "default", ""), "/registry/pods/default/");
        assert_eq!(key("", "pods", "", ""), "/registry/pods/");
        assert_eq!(key("", "nodes", "", "n1"), "/registry/minions/n1");
        assert_eq!(
            key("", "services", "default", "a"),
            "/registry/services/specs/default/a"
        );
        assert_eq!(
            key("apps", "deployments", "default", "web"),
            "/registry/deployments/default/web"
        );
    }

    #[test]
    fn every_general_kind_of_upstream_is_served() {
        // These come in and go out through subresources, or are parts of the protocol.
        let unserved = [
            "APIGroup",
            "APIResourceList",
            "APIVersions",
            "DeleteOptions",
            "Eviction",
            "Scale",
            "Status",
            "TokenRequest",
            "WatchEvent",
        ];
        let mut count = 0;
        for (name, document) in crate::schema::documents() {
            let listed = document["x-kubernetes-group-version-kind"].as_array();
            for known in listed.into_iter().flatten() {
                let text = |name: &str| known[name].as_str().unwrap();
                let (group, version, kind) = (text("group"), text("version"), text("kind"));
                let is_general = version == "v1" || version == "v2";
                if is_general && !kind.ends_with("List") && !unserved.contains(&kind) {
                    assert!(
                        Kinds::builtin().named(group, version, kind).is_some(),
                        "{name}"
                    );
                    count += 1;
                }
            }
        }
        assert_eq!(count, Kinds::builtin().all().len());
    }

    #[test]
    fn what_is_stored_as_another_version_shares_its_prefix_and_scope() {
        let kinds = Kinds::builtin();
        let mut prefixes: HashMap<&str, &Kind> = HashMap::new();
        for kind in kinds.all().iter().filter(|kind| kind.is_stored()) {
            if let Some(other) = prefixes.insert(&kind.prefix, kind) {
                assert_eq!(kind.stored(), other.stored(), "{}", kind.prefix);
            }
            let (group, version) = kind.stored();
            let stored = kinds.at(group, version, &kind.plural).unwrap();
            assert!(stored.stored_as.is_none(), "{}", kind.plural);
            assert_eq!(stored.prefix, kind.prefix);
            assert_eq!(stored.namespaced, kind.namespaced);
            assert_eq!(stored.ttl, kind.ttl);
        }
    }

    #[test]
    fn what_is_listed_is_stored_but_for_the_state_of_components() {
        for kind in Kinds::builtin().all() {
            let is_stored = kind.offers("list") && kind.kind != "ComponentStatus";
            assert_eq!(kind.is_stored(), is_stored, "{}", kind.plural);
        }
    }

    #[test]
    fn deprecated_kinds_say_so() {
        let kinds = Kinds::builtin().all().iter();
        let deprecated: Vec<_> = kinds
            .filter_map(|kind| kind.deprecated.as_deref())
            .collect();
        assert_eq!(
            deprecated,
            [
                "v1 ComponentStatus is deprecated in v1.19+",
                "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
            ]
        );
    }

    #[test]
    fn rows_are_in_order_and_plurals_are_those_of_english() {
        let kinds = Kinds::builtin().all();
        for pair in kinds.windows(2) {
            let place = |kind: &Kind| (kind.group.clone(), kind.version.clone());
            if place(&pair[0]) == place(&pair[1]) {
                assert!(pair[0].plural < pair[1].plural, "{}", pair[1].plural);
            }
        }
        for kind in kinds {
            let singular = kind.kind.to_lowercase();
            let plural = match singular.as_str() {
                "endpoints" => singular.clone(),
                text if text.ends_with("ss") || text.ends_with("us") => format!("{singular}es"),
                text if text.ends_with("cy") || text.ends_with("ty") => {
                    format!("{}ies", &singular[..singular.len() - 1])
                }
                _ => format!("{singular}s"),
            };
            assert_eq!(kind.plural, plural);
            let mut sorted = kind.verbs.clone();
            sorted.sort();
            assert_eq!(kind.verbs, sorted, "{}", kind.plural);
            let names: Vec<&str> = kind.subresources.iter().map(|one| &*one.name).collect();
            assert!(names.is_sorted(), "{}", kind.plural);
        }
    }

    #[test]
    fn every_kind_has_a_schema() {
        for kind in Kinds::builtin().all() {
            assert!(kind.schema.is_some(), "{} {}", kind.group, kind.kind);
        }
    }
}
