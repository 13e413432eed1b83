//! Manifests in the style of public examples, and where their objects go.

use machinery::decode::{Media, decode};
use machinery::kind::{Kind, Kinds};
use machinery::schema::Schemas;
use serde_json::Value;

const FILES: [&str; 6] = [
    include_str!("manifests/config.yaml"),
    include_str!("manifests/network.yaml"),
    include_str!("manifests/pods.yaml"),
    include_str!("manifests/policy.yaml"),
    include_str!("manifests/storage.yaml"),
    include_str!("manifests/workloads.yaml"),
];

/// One of them.
pub(crate) struct Manifest {
    pub(crate) yaml: String,
    pub(crate) object: Value,
    pub(crate) kind: &'static Kind,
}

impl Manifest {
    /// All of them, in order. A few name the namespace that they will be in.
    pub(crate) fn all(namespace: &str) -> Vec<Self> {
        let documents = FILES.iter().flat_map(|file| file.split("\n---\n"));
        documents
            .map(|yaml| {
                let yaml = yaml.replace("NAMESPACE", namespace);
                // Numbers that begin with 0 are octal, which only the server's own reader knows.
                let object = decode(Media::Yaml, yaml.as_bytes(), Schemas::builtin(), None);
                let object = object.unwrap().value;
                let (group, version) = Self::group_version(&object);
                let kind = object["kind"].as_str().unwrap();
                let kind = Kinds::builtin().named(group, version, kind);
                Self {
                    kind: kind.unwrap_or_else(|| panic!("{yaml}")),
                    yaml,
                    object,
                }
            })
            .collect()
    }

    fn group_version(object: &Value) -> (&str, &str) {
        let text = object["apiVersion"].as_str().unwrap();
        text.rsplit_once('/').unwrap_or(("", text))
    }

    pub(crate) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap()
    }

    /// Where objects of the kind are created.
    pub(crate) fn collection(&self, namespace: &str) -> String {
        let root = match self.kind.group.as_str() {
            "" => format!("/api/{}", self.kind.version),
            group => format!("/apis/{group}/{}", self.kind.version),
        };
        if self.kind.namespaced {
            format!("{root}/namespaces/{namespace}/{}", self.kind.plural)
        } else {
            format!("{root}/{}", self.kind.plural)
        }
    }
}
