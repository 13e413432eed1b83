//! Schemas of kinds as trees, made from upstream's published definitions: which fields an object has, of which type,
//! and how lists and maps merge. Descriptions are left out; whoever asks for documents gets them from the file itself.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::sync::LazyLock;

use serde_json::Value;

/// The definitions as OpenAPI v3 schemas, compressed; `import schemas` makes the file.
pub static DEFINITIONS: &[u8] = include_bytes!("../data/definitions.json.gz");

/// A definition among [`Schemas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Definition(usize);

/// What is known of a value.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// Its type.
    pub shape: Shape,
    /// How a strategic merge patch changes it.
    pub patch: Patch,
    /// How a list's items are told apart.
    pub list: ListKind,
    /// Of a map or object: owned as a whole.
    pub is_atomic: bool,
}

/// The type of a value.
#[derive(Clone, Debug, Default)]
pub enum Shape {
    /// Anything.
    #[default]
    Any,
    /// `true` or `false`.
    Boolean,
    /// A whole number of 32 or of 64 bits.
    Integer {
        /// Of 64.
        is_long: bool,
    },
    /// Any number.
    Number,
    /// Text.
    Text(Format),
    /// A number or text.
    IntOrString,
    /// An amount: text, or a number.
    Quantity,
    /// Items of one schema.
    List(Box<Schema>),
    /// Any names, each with a value of one schema.
    Map(Box<Schema>),
    /// Fields.
    Object(Fields),
    /// As defined elsewhere.
    Defined(Definition),
}

/// The fields of an object.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// By name.
    pub fields: BTreeMap<Box<str>, Schema>,
    /// Those that must be there.
    pub required: Vec<Box<str>>,
}

/// What text may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Anything.
    #[default]
    Plain,
    /// RFC 3339.
    DateTime,
    /// Base64.
    Bytes,
}

/// `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// `merge`.
    pub is_merged: bool,
    /// `retainKeys`.
    pub retains_keys: bool,
    /// What tells items apart.
    pub merge_key: Option<Box<str>>,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// Owned as a whole.
    #[default]
    Atomic,
    /// Each value once.
    Set,
    /// Items told apart by these fields.
    Map(Vec<Box<str>>),
}

type GroupVersionKind = (Box<str>, Box<str>, Box<str>);

/// All definitions.
#[derive(Debug, Default)]
pub struct Schemas {
    names: HashMap<Box<str>, Definition>,
    definitions: Vec<Schema>,
    kinds: HashMap<GroupVersionKind, Definition>,
}

impl Schemas {
    /// Those that ship with the binary.
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Schemas> = LazyLock::new(|| Schemas::read(&documents()));
        &BUILTIN
    }

    /// Reads definitions by their names, as OpenAPI v3 schemas.
    pub fn read(documents: &serde_json::Map<String, Value>) -> Self {
        let names: HashMap<Box<str>, Definition> = documents
            .keys()
            .enumerate()
            .map(|(place, name)| (name.as_str().into(), Definition(place)))
            .collect();
        let mut kinds = HashMap::new();
        let mut definitions = Vec::with_capacity(documents.len());
        for (name, document) in documents {
            definitions.push(schema(document, &names));
            let listed = document["x-kubernetes-group-version-kind"].as_array();
            for known in listed.into_iter().flatten() {
                let text = |name: &str| known[name].as_str().unwrap_or_default().into();
                kinds.insert(
                    (text("group"), text("version"), text("kind")),
                    names[name.as_str()],
                );
            }
        }
        Self {
            names,
            definitions,
            kinds,
        }
    }

    /// A definition by its name, such as `io.k8s.api.core.v1.Pod`.
    pub fn named(&self, name: &str) -> Option<Definition> {
        self.names.get(name).copied()
    }

    /// The name of a definition. Looks at all of them: for errors, not for every request.
    pub fn name(&self, definition: Definition) -> &str {
        let mut names = self.names.iter();
        names
            .find(|(_, one)| **one == definition)
            .map_or("", |(name, _)| name)
    }

    /// The definition of a kind.
    pub fn of_kind(&self, group: &str, version: &str, kind: &str) -> Option<Definition> {
        let key = (group.into(), version.into(), kind.into());
        self.kinds.get(&key).copied()
    }

    /// What is defined.
    pub fn get(&self, definition: Definition) -> &Schema {
        &self.definitions[definition.0]
    }

    /// The type of a schema, wherever it is defined. What the place itself says of patches and lists stays with it.
    pub fn shape<'a>(&'a self, schema: &'a Schema) -> &'a Shape {
        let mut shape = &schema.shape;
        while let Shape::Defined(definition) = shape {
            shape = &self.get(*definition).shape;
        }
        shape
    }

    /// The schema of a field of an object, or of a value of a map.
    pub fn field<'a>(&'a self, schema: &'a Schema, name: &str) -> Option<&'a Schema> {
        match self.shape(schema) {
            Shape::Object(object) => object.fields.get(name),
            Shape::Map(values) => Some(values),
            _ => None,
        }
    }

    /// The schema of the items of a list.
    pub fn items<'a>(&'a self, schema: &'a Schema) -> Option<&'a Schema> {
        match self.shape(schema) {
            Shape::List(items) => Some(items),
            _ => None,
        }
    }
}

/// The definitions in full, with descriptions; read anew each time.
///
/// # Panics
///
/// If the file in the binary is damaged.
pub fn documents() -> serde_json::Map<String, Value> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(DEFINITIONS)
        .read_to_end(&mut text)
        .expect("the file was made by the import");
    serde_json::from_slice(&text).expect("the file was made by the import")
}

fn schema(document: &Value, names: &HashMap<Box<str>, Definition>) -> Schema {
    let text = |name: &str| document[name].as_str().unwrap_or_default();
    let strategies = text("x-kubernetes-patch-strategy");
    let list = match text("x-kubernetes-list-type") {
        "set" => ListKind::Set,
        "map" => {
            let keys = document["x-kubernetes-list-map-keys"].as_array();
            let keys = keys.into_iter().flatten().filter_map(Value::as_str);
            ListKind::Map(keys.map(Into::into).collect())
        }
        _ => ListKind::Atomic,
    };
    Schema {
        shape: shape(document, names),
        patch: Patch {
            is_merged: strategies.split(',').any(|one| one == "merge"),
            retains_keys: strategies.split(',').any(|one| one == "retainKeys"),
            merge_key: document["x-kubernetes-patch-merge-key"]
                .as_str()
                .map(Into::into),
        },
        list,
        is_atomic: text("x-kubernetes-map-type") == "atomic",
    }
}

fn shape(document: &Value, names: &HashMap<Box<str>, Definition>) -> Shape {
    let reference = document["$ref"]
        .as_str()
        .or_else(|| document["allOf"][0]["$ref"].as_str());
    if let Some(reference) = reference {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return match names.get(name) {
            Some(definition) => Shape::Defined(*definition),
            None => Shape::Any,
        };
    }
    let format = document["format"].as_str().unwrap_or_default();
    if format == "int-or-string" {
        return Shape::IntOrString;
    }
    if document.get("oneOf").is_some() {
        return Shape::Quantity;
    }
    match document["type"].as_str() {
        Some("boolean") => Shape::Boolean,
        Some("integer") => Shape::Integer {
            is_long: format == "int64",
        },
        Some("number") => Shape::Number,
        Some("string") => Shape::Text(match format {
            "date-time" => Format::DateTime,
            "byte" => Format::Bytes,
            _ => Format::Plain,
        }),
        Some("array") => Shape::List(Box::new(schema(&document["items"], names))),
        Some("object") => match (&document["properties"], &document["additionalProperties"]) {
            (Value::Object(properties), _) => Shape::Object(Fields {
                fields: properties
                    .iter()
                    .map(|(name, field)| (name.as_str().into(), schema(field, names)))
                    .collect(),
                required: document["required"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(Into::into)
                    .collect(),
            }),
            (_, values @ Value::Object(_)) => Shape::Map(Box::new(schema(values, names))),
            _ => Shape::Any,
        },
        _ => Shape::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_a_pod_is_known() {
        let schemas = Schemas::builtin();
        let pod = schemas.get(schemas.of_kind("", "v1", "Pod").unwrap());
        let spec = schemas.field(pod, "spec").unwrap();
        let containers = schemas.field(spec, "containers").unwrap();
        assert!(containers.patch.is_merged);
        assert_eq!(containers.patch.merge_key.as_deref(), Some("name"));
        assert_eq!(containers.list, ListKind::Map(vec!["name".into()]));
        let ports = schemas
            .field(schemas.items(containers).unwrap(), "ports")
            .unwrap();
        let port = schemas.items(ports).unwrap();
        let number = schemas.field(port, "containerPort").unwrap();
        assert!(matches!(
            schemas.shape(number),
            Shape::Integer { is_long: false }
        ));
        let labels = schemas
            .field(schemas.field(pod, "metadata").unwrap(), "labels")
            .unwrap();
        assert!(matches!(schemas.shape(labels), Shape::Map(_)));
        let meta = schemas.field(pod, "metadata").unwrap();
        let created = schemas.field(meta, "creationTimestamp").unwrap();
        assert!(matches!(
            schemas.shape(created),
            Shape::Text(Format::DateTime)
        ));
    }
}
