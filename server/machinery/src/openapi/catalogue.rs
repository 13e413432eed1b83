//! The definitions that documents refer to, by name and by kind.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use crate::kind::{Kind, Kinds};
use crate::schema;

/// Where a v3 document has its definitions.
pub(super) const PLACE: &str = "#/components/schemas/";

/// All definitions.
pub(super) struct Catalogue {
    documents: Map<String, Value>,
    /// By group, version and kind.
    names: HashMap<(String, String, String), String>,
}

impl Catalogue {
    /// Upstream's, and for kinds that have none there, one that says as little as can be said of every object: without
    /// any, clients would take such a kind for unknown.
    pub(super) fn of(kinds: &Kinds) -> Self {
        let mut catalogue = Self {
            documents: Map::new(),
            names: HashMap::new(),
        };
        for (name, document) in schema::documents() {
            catalogue.add(name, document);
        }
        for kind in kinds.all() {
            if catalogue
                .name(&kind.group, &kind.version, &kind.kind)
                .is_none()
            {
                let name = invented_name(kind);
                catalogue.add(format!("{name}List"), list_of(kind, &name));
                catalogue.add(name, object_of(kind));
            }
        }
        catalogue
    }

    fn add(&mut self, name: String, document: Value) {
        let listed = document["x-kubernetes-group-version-kind"].as_array();
        for known in listed.into_iter().flatten() {
            let text = |field: &str| known[field].as_str().unwrap_or_default().to_owned();
            let key = (text("group"), text("version"), text("kind"));
            self.names.insert(key, name.clone());
        }
        self.documents.insert(name, document);
    }

    /// The name of the definition of a kind.
    pub(super) fn name(&self, group: &str, version: &str, kind: &str) -> Option<&str> {
        let key = (group.to_owned(), version.to_owned(), kind.to_owned());
        self.names.get(&key).map(String::as_str)
    }

    /// What a tree refers to, and what that refers to, and so on.
    pub(super) fn reached_from<'a>(
        &'a self,
        trees: impl Iterator<Item = &'a Value>,
    ) -> Map<String, Value> {
        let mut names = BTreeSet::new();
        let mut open: Vec<&Value> = trees.collect();
        while let Some(value) = open.pop() {
            match value {
                Value::Object(fields) => {
                    let reference = fields.get("$ref").and_then(Value::as_str);
                    let found = reference
                        .and_then(|reference| reference.strip_prefix(PLACE))
                        .and_then(|name| self.documents.get_key_value(name));
                    if let Some((name, document)) = found
                        && names.insert(name)
                    {
                        open.push(document);
                    }
                    open.extend(fields.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        let copy = |name: &String| Some((name.clone(), self.documents.get(name)?.clone()));
        names.into_iter().filter_map(copy).collect()
    }
}

/// The name that upstream gives to the definition of a custom kind: `com.example.stable.v1.CronTab`.
fn invented_name(kind: &Kind) -> String {
    let mut parts: Vec<&str> = kind.group.rsplit('.').collect();
    parts.extend([kind.version.as_str(), kind.kind.as_str()]);
    parts.join(".")
}

fn object_of(kind: &Kind) -> Value {
    json!({
        "type": "object",
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "$ref": format!("{PLACE}io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta") },
        },
        "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-group-version-kind": [named(kind, &kind.kind)],
    })
}

fn list_of(kind: &Kind, name: &str) -> Value {
    json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string" },
            "items": { "type": "array", "items": { "$ref": format!("{PLACE}{name}") } },
            "kind": { "type": "string" },
            "metadata": { "$ref": format!("{PLACE}io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta") },
        },
        "x-kubernetes-group-version-kind": [named(kind, &kind.list_kind())],
    })
}

fn named(kind: &Kind, name: &str) -> Value {
    json!({ "group": kind.group, "version": kind.version, "kind": name })
}
