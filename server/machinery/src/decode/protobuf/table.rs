//! What the fields of Kubernetes' protobuf messages are in JSON: `data/protobuf.txt`, which `import protobuf` makes.
//!
//! The file has a line `package` for what follows, a line `message` for each message, and for each of its fields a
//! line with the number in protobuf, the name in JSON, how it is kept, its type, and the type's name in Go if that
//! says more. A line `items` is a message that is a list in JSON.

use std::collections::HashMap;
use std::sync::LazyLock;

const TEXT: &str = include_str!("../../../data/protobuf.txt");

/// All messages.
#[derive(Debug, Default)]
pub(in crate::decode) struct Table {
    places: HashMap<String, usize>,
    messages: Vec<Message>,
}

/// A message, called as its definition is.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) name: String,
    pub(super) form: Form,
    /// By number.
    fields: Vec<Field>,
}

/// What a message is in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An object of its fields.
    Object,
    /// The list that its only field is.
    Items,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// The JSON that its only field is.
    Raw,
    /// A schema, or whatever else there is instead of one.
    SchemaOr,
}

#[derive(Debug)]
pub(super) struct Field {
    number: u32,
    pub(super) name: &'static str,
    pub(super) kept: Kept,
    pub(super) of: Type,
    /// The type as Go prints it.
    go_type: Option<&'static str>,
}

/// How a field is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is written only if it is set, so that a zero was meant.
    Pointer,
    /// It is written in any case; a zero is nothing.
    Value,
    /// It is written in any case, and JSON has it in any case.
    Always,
    /// Any number of values.
    List,
    /// Any number of values with names.
    Map,
    /// Its fields are those of the message that it is in.
    Inline,
}

/// Of what type a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Boolean,
    Integer {
        is_long: bool,
    },
    Number,
    Text,
    Bytes,
    /// The place of a message.
    Message(usize),
}

impl Table {
    /// That which ships with the binary.
    pub(in crate::decode) fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Table> = LazyLock::new(|| Table::read(TEXT));
        &BUILTIN
    }

    /// Reads the file. Lines that are damaged are left out; a test sees to it that there are none.
    fn read(text: &'static str) -> Self {
        let mut table = Self::default();
        let mut package = "";
        let mut place = 0;
        for line in text.lines() {
            let words: Vec<&'static str> = line.split(' ').collect();
            match words[..] {
                ["package", name] => package = name,
                ["message", name] => place = table.place(package, name),
                ["items", name] => {
                    place = table.place(package, name);
                    table.messages[place].form = Form::Items;
                    let items = Field {
                        number: 1,
                        name: "items",
                        kept: Kept::List,
                        of: Type::Text,
                        go_type: None,
                    };
                    table.messages[place].fields.push(items);
                }
                [number, name, kept, of, ..] => {
                    let (Ok(number), Some(kept)) = (number.parse(), kept_as(kept)) else {
                        continue;
                    };
                    let field = Field {
                        number,
                        name,
                        kept,
                        of: table.type_of(package, of),
                        go_type: words.get(4).copied(),
                    };
                    table.messages[place].fields.push(field);
                }
                _ => {}
            }
        }
        for message in &mut table.messages {
            message.fields.sort_by_key(|field| field.number);
        }
        table
    }

    /// The place of a message. If it is not known yet, it gets one.
    fn place(&mut self, package: &str, name: &str) -> usize {
        let name = match name.contains('.') {
            true => name.to_owned(),
            false => format!("{package}.{name}"),
        };
        if let Some(place) = self.places.get(&name) {
            return *place;
        }
        let form = match name.rsplit('.').next() {
            Some("Time") => Form::Time,
            Some("MicroTime") => Form::MicroTime,
            Some("Quantity") => Form::Quantity,
            Some("IntOrString") => Form::IntOrString,
            Some("RawExtension" | "FieldsV1" | "JSON") => Form::Raw,
            Some(
                "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray",
            ) => Form::SchemaOr,
            _ => Form::Object,
        };
        self.messages.push(Message {
            name: name.clone(),
            form,
            fields: Vec::new(),
        });
        self.places.insert(name, self.messages.len() - 1);
        self.messages.len() - 1
    }

    fn type_of(&mut self, package: &str, name: &str) -> Type {
        match name {
            "bool" => Type::Boolean,
            "int32" => Type::Integer { is_long: false },
            "int64" => Type::Integer { is_long: true },
            "float64" => Type::Number,
            "string" => Type::Text,
            "bytes" => Type::Bytes,
            message => Type::Message(self.place(package, message)),
        }
    }

    /// The message that a definition is.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    pub(super) fn message(&self, place: usize) -> &Message {
        &self.messages[place]
    }

    /// The structs of Go in which a field is embedded, from the outside in; none if it is the message's own.
    pub(in crate::decode) fn embedding(&self, message: &str, field: &str) -> Vec<&str> {
        let place = self.named(message);
        place
            .and_then(|place| self.path(place, field))
            .map(|(path, _)| path)
            .unwrap_or_default()
    }

    /// The type of a field as Go prints it, if that is more than its shape.
    pub(in crate::decode) fn go_type(&self, message: &str, field: &str) -> Option<&'static str> {
        let (_, field) = self.path(self.named(message)?, field)?;
        field.go_type
    }

    /// A field wherever it is embedded. No struct is embedded in itself.
    fn path(&self, place: usize, name: &str) -> Option<(Vec<&str>, &Field)> {
        let fields = &self.messages[place].fields;
        if let Some(own) = fields
            .iter()
            .find(|field| field.name == name && field.kept != Kept::Inline)
        {
            return Some((Vec::new(), own));
        }
        fields.iter().find_map(|field| {
            let (Kept::Inline, Type::Message(inner)) = (field.kept, field.of) else {
                return None;
            };
            let (mut path, found) = self.path(inner, name)?;
            path.insert(0, self.messages[inner].name.rsplit('.').next()?);
            Some((path, found))
        })
    }
}

impl Message {
    /// A field by its number.
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        let place = self
            .fields
            .binary_search_by_key(&number, |field| field.number);
        place.ok().map(|place| &self.fields[place])
    }
}

fn kept_as(word: &str) -> Option<Kept> {
    Some(match word {
        "pointer" => Kept::Pointer,
        "value" => Kept::Value,
        "always" => Kept::Always,
        "list" => Kept::List,
        "map" => Kept::Map,
        "inline" => Kept::Inline,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Schemas, documents};

    /// All names that a message has in JSON.
    fn names(table: &Table, place: usize) -> Vec<&'static str> {
        let fields = table.messages[place].fields.iter();
        let mut names: Vec<&str> = fields
            .flat_map(|field| match (field.kept, field.of) {
                (Kept::Inline, Type::Message(inner)) => names(table, inner),
                _ => vec![field.name],
            })
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_definition_is_a_message_with_the_same_fields() {
        let table = Table::builtin();
        let documents = documents();
        for (definition, document) in &documents {
            let Some(place) = table.named(definition) else {
                // In Go, and so in the table, it is another name of the one in v1.
                assert_eq!(
                    definition,
                    "io.k8s.api.admissionregistration.v1alpha1.MatchCondition"
                );
                continue;
            };
            // Not sent by anybody: what `/version` answers.
            if table.message(place).form != Form::Object || definition.ends_with("version.Info") {
                continue;
            }
            let of_document = document["properties"].as_object();
            let of_document = of_document.into_iter().flat_map(|fields| fields.keys());
            let mut names = names(table, place);
            // The envelope says these two.
            let own: Vec<&str> = of_document
                .map(String::as_str)
                .filter(|name| !matches!(*name, "apiVersion" | "kind") || names.contains(name))
                .collect();
            names.retain(|name| own.contains(name) || !matches!(*name, "apiVersion" | "kind"));
            assert_eq!(names, own, "{definition}");
        }
    }

    #[test]
    fn no_line_of_the_table_is_damaged() {
        let lines = TEXT
            .lines()
            .filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
        let table = Table::builtin();
        let items = table.messages.iter().filter(|one| one.form == Form::Items);
        let fields: usize = table.messages.iter().map(|one| one.fields.len()).sum();
        assert_eq!(lines.count(), fields - items.count());
        for message in &table.messages {
            let numbers = message.fields.windows(2);
            assert!(
                numbers.clone().all(|pair| pair[0].number < pair[1].number),
                "{}",
                message.name
            );
            let is_empty = message.fields.is_empty() && message.form == Form::Object;
            let is_known = Schemas::builtin().named(&message.name).is_some();
            assert!(!is_empty || is_known, "{} is nowhere", message.name);
        }
    }
}
