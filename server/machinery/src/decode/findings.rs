//! What decoding objects to, and how it names the place, in the words that Go's decoder has.

use crate::schema::{Definition, Format, Schema, Schemas, Shape};

use super::protobuf::Table;

/// Upstream reports no more than these.
pub(super) const FAULTS_LIMIT: usize = 100;

/// A place in what is decoded, as steps from the inside out. Kept on the stack: its name is made for errors only.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// The whole.
    Root,
    /// A field of what a definition says.
    Field(&'a Place<'a>, &'a str, Option<Definition>),
    /// A value of a map.
    Key(&'a Place<'a>, &'a str),
    /// An item of a list.
    Index(&'a Place<'a>, usize),
}

impl<'a> Place<'a> {
    /// `spec.containers[0].name`.
    fn path(&self) -> String {
        let (outer, step) = match self {
            Self::Root => return String::new(),
            Self::Field(outer, name, _) | Self::Key(outer, name) => (outer, *name),
            Self::Index(outer, index) => return format!("{}[{index}]", outer.path()),
        };
        let mut path = outer.path();
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(step);
        path
    }

    /// The innermost field, with the definition that it is of.
    fn field(&self) -> Option<(&'a str, Option<Definition>)> {
        match *self {
            Self::Root => None,
            Self::Field(_, name, owner) => Some((name, owner)),
            Self::Key(outer, _) | Self::Index(outer, _) => outer.field(),
        }
    }

    /// `kind` or `apiVersion` of the whole.
    fn is_type_meta(&self) -> bool {
        matches!(self, Self::Field(Place::Root, "kind" | "apiVersion", _))
    }

    fn is_root(&self) -> bool {
        matches!(self, Self::Root)
    }
}

/// What decoding objects to.
pub(super) struct Findings<'s> {
    /// What only strict decoding minds.
    pub(super) faults: Vec<String>,
    /// The first value that cannot be what it should.
    pub(super) error: Option<String>,
    /// The same of the kind itself, which upstream looks at before anything else.
    pub(super) type_meta_error: Option<String>,
    schemas: &'s Schemas,
}

impl<'s> Findings<'s> {
    pub(super) fn new(schemas: &'s Schemas) -> Self {
        Self {
            faults: Vec::new(),
            error: None,
            type_meta_error: None,
            schemas,
        }
    }

    /// A field that the schema does not have.
    pub(super) fn unknown(&mut self, outer: &Place<'_>, name: &str) {
        self.fault(|| format!("unknown field {:?}", Place::Key(outer, name).path()));
    }

    /// A field that is there twice.
    pub(super) fn duplicate(&mut self, outer: &Place<'_>, name: &str) {
        self.fault(|| format!("duplicate field {:?}", Place::Key(outer, name).path()));
    }

    /// Something that only strict decoding minds. Each is said once.
    pub(super) fn fault(&mut self, fault: impl FnOnce() -> String) {
        if self.faults.len() >= FAULTS_LIMIT {
            return;
        }
        let fault = fault();
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// A value that says itself what is wrong with it. Only the first counts.
    pub(super) fn refuse(&mut self, why: impl FnOnce() -> String) {
        if self.error.is_none() {
            self.error = Some(why());
        }
    }

    /// A value of another type than the schema says. `what` is that which is there: `string`, `number 1.5`.
    pub(super) fn mistyped(&mut self, what: &str, schema: &Schema, place: &Place<'_>) {
        if place.is_root() {
            // What upstream looks for in a body first of all, as Go prints it.
            const TYPE_META: &str = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
            self.type_meta_error = Some(format!(
                "couldn't get version/kind; json parse error: json: cannot unmarshal {what} into Go value of type {TYPE_META}"
            ));
            return;
        }
        if place.is_type_meta() {
            let (name, _) = place.field().unwrap_or_default();
            self.type_meta_error.get_or_insert_with(|| {
                format!(
                    "couldn't get version/kind; json parse error: json: cannot unmarshal {what} into Go struct field .{name} of type string"
                )
            });
            return;
        }
        if self.error.is_none() {
            let (owner, path) = self.go_field(place);
            let go_type = self.go_type(schema, place);
            self.error = Some(format!(
                "json: cannot unmarshal {what} into Go struct field {owner}.{path} of type {go_type}"
            ));
        }
    }

    /// The Go struct that a field is of, and the fields that lead to it, without keys and places in lists. A struct
    /// that is embedded in another counts as a field, though JSON does not show it.
    fn go_field(&self, place: &Place<'_>) -> (&str, String) {
        let mut names = Vec::new();
        let mut at = place;
        loop {
            at = match at {
                Place::Root => break,
                Place::Field(outer, name, owner) => {
                    names.push(*name);
                    let owner = owner.map_or("", |owner| self.schemas.name(owner));
                    names.extend(Table::builtin().embedding(owner, name).into_iter().rev());
                    outer
                }
                Place::Key(outer, _) | Place::Index(outer, _) => outer,
            };
        }
        names.reverse();
        let owner = place.field().and_then(|(_, owner)| owner);
        let owner = owner.map_or("", |owner| last_part(self.schemas.name(owner)));
        (owner, names.join("."))
    }

    /// The type of a value as Go prints it.
    fn go_type(&self, schema: &Schema, place: &Place<'_>) -> String {
        let named = place.field().and_then(|(name, owner)| {
            let (owner, name) = (self.schemas.name(owner?), name);
            Table::builtin().go_type(owner, name)
        });
        if let Some(named) = named {
            // The table names the type of the field, which is that of the value if that is no list or map.
            let is_field = matches!(place, Place::Field(..));
            let is_inside = matches!(place, Place::Index(..));
            match self.schemas.shape(schema) {
                Shape::List(_) if is_field => return format!("[]{named}"),
                Shape::Text(Format::Plain) if is_field || is_inside => return named.to_owned(),
                Shape::Map(_) if is_field => return named.to_owned(),
                _ => {}
            }
        }
        self.plain_go_type(schema)
    }

    fn plain_go_type(&self, schema: &Schema) -> String {
        if let Shape::Defined(definition) = schema.shape
            && let Shape::Object(_) = self.schemas.shape(schema)
        {
            let name = self.schemas.name(definition);
            let mut parts = name.rsplit('.');
            let kind = parts.next().unwrap_or_default();
            return format!("{}.{kind}", parts.next().unwrap_or_default());
        }
        match self.schemas.shape(schema) {
            Shape::Boolean => "bool".to_owned(),
            Shape::Integer { is_long: false } | Shape::IntOrString => "int32".to_owned(),
            Shape::Integer { is_long: true } => "int64".to_owned(),
            Shape::Number => "float64".to_owned(),
            Shape::Text(Format::Bytes) => "[]uint8".to_owned(),
            Shape::Text(_) => "string".to_owned(),
            Shape::Quantity => "resource.Quantity".to_owned(),
            Shape::List(items) => format!("[]{}", self.plain_go_type(items)),
            Shape::Map(values) => format!("map[string]{}", self.plain_go_type(values)),
            Shape::Any | Shape::Object(_) | Shape::Defined(_) => "interface {}".to_owned(),
        }
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}
