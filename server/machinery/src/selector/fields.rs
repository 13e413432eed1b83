//! Field selectors: `metadata.name=a,status.phase!=Running`.

use std::fmt::{self, Write as _};

use serde_json::Value;

use crate::kind::Kind;
use crate::schema::{Schemas, Shape};
use crate::status::Status;

/// Fields that are selected by another name than their path: kind, name, paths. The first path whose value is not empty
/// counts.
const RENAMED: &[(&str, &str, &[&str])] = &[
    (
        "Event",
        "source",
        &["source.component", "reportingComponent"],
    ),
    ("Job", "status.successful", &["status.succeeded"]),
];

/// A field selector: terms that must all hold. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    /// As the request names it.
    field: Box<str>,
    /// Where the value is; the first that is not empty counts.
    paths: Vec<Path>,
    value: Box<str>,
    /// `=` or `==`, not `!=`.
    is_equal: bool,
    /// What a value that is not there counts as: upstream compares fields of Go, which are then false or 0.
    absent: &'static str,
}

type Path = Vec<Box<str>>;

impl Fields {
    /// Reads the `fieldSelector` of a request for objects of a kind.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or names a field that objects of the kind are not selected by: 400.
    pub fn read(kind: &Kind, text: &str) -> Result<Self, Status> {
        let mut written: Vec<&str> = split(text)
            .into_iter()
            .filter(|term| !term.is_empty())
            .collect();
        // So does upstream; it shows in which of several faults is told.
        written.sort_unstable();
        let mut terms = Vec::with_capacity(written.len());
        for term in written {
            terms.push(read_term(text, term).map_err(Status::bad_request)?);
        }
        let terms = terms.into_iter().map(|(field, is_equal, value)| {
            check_selectable(kind, field).map_err(Status::bad_request)?;
            Ok(Term {
                field: field.into(),
                paths: paths(kind, field),
                value: value.into(),
                is_equal,
                absent: absent(kind, field),
            })
        });
        Ok(Self {
            terms: terms.collect::<Result<_, Status>>()?,
        })
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The only value, if there is one and it is not empty, that a field may have.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|term| term.is_equal && &*term.field == field && !term.value.is_empty())
            .map(|term| &*term.value)
    }

    /// Whether an object matches.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| term.holds(object))
    }
}

impl Term {
    fn holds(&self, object: &Value) -> bool {
        let values = self.paths.iter().filter_map(|path| at(object, path));
        let mut values = values.filter(|value| !value.is_null() && value.as_str() != Some(""));
        let is_same = match values.next() {
            Some(value) => reads_as(value, &self.value),
            None => *self.absent == *self.value,
        };
        is_same == self.is_equal
    }
}

fn at<'a>(object: &'a Value, path: &Path) -> Option<&'a Value> {
    path.iter()
        .try_fold(object, |value, name| value.get(&**name))
}

/// Whether a value, printed, is this text.
fn reads_as(value: &Value, text: &str) -> bool {
    match value {
        Value::String(string) => string == text,
        Value::Bool(true) => text == "true",
        Value::Bool(false) => text == "false",
        Value::Number(number) => {
            let mut expected = Expected { rest: text };
            write!(expected, "{number}").is_ok() && expected.rest.is_empty()
        }
        _ => false,
    }
}

/// Takes only what is expected, so that a number is compared as text without writing it anywhere.
struct Expected<'a> {
    rest: &'a str,
}

impl fmt::Write for Expected<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.rest = self.rest.strip_prefix(text).ok_or(fmt::Error)?;
        Ok(())
    }
}

/// Splits at commas that no backslash is before.
fn split(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut start = 0;
    let mut is_escaped = false;
    for (place, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ',' => {
                terms.push(&text[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// The field of a term, whether it must be equal, and the value.
fn read_term<'a>(selector: &str, term: &'a str) -> Result<(&'a str, bool, String), String> {
    let incomprehensible = || format!("invalid selector: '{selector}'; can't understand '{term}'");
    let place = term
        .find('=')
        .map(|place| {
            if term[..place].ends_with('!') {
                place - 1
            } else {
                place
            }
        })
        .ok_or_else(incomprehensible)?;
    let (field, rest) = term.split_at(place);
    let (is_equal, value) = if let Some(value) = rest.strip_prefix("!=") {
        (false, value)
    } else {
        (true, rest.strip_prefix("==").unwrap_or(&rest[1..]))
    };
    Ok((field, is_equal, unescape(value)?))
}

fn unescape(value: &str) -> Result<String, String> {
    let mut text = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => text.push(escaped),
                other => {
                    let sequence: String = ['\\'].into_iter().chain(other).collect();
                    return Err(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    ));
                }
            },
            // Upstream prints the number of the letter.
            ',' | '=' => {
                let number = u32::from(letter);
                return Err(format!(
                    "invalid field selector: unescaped character in value: {number}"
                ));
            }
            _ => text.push(letter),
        }
    }
    Ok(text)
}

fn check_selectable(kind: &Kind, field: &str) -> Result<(), String> {
    // To kinds of upstream that name no fields a rule applies that is the same for all, even for those without
    // namespaces, and that has words of its own.
    let is_plain = kind.selectable.is_empty()
        && Schemas::builtin()
            .of_kind(&kind.group, &kind.version, &kind.kind)
            .is_some();
    let is_selectable = match field {
        "metadata.name" => true,
        "metadata.namespace" => kind.namespaced || is_plain,
        _ => kind.selectable.iter().any(|one| one == field),
    };
    if is_selectable {
        Ok(())
    } else if is_plain {
        Err(format!(
            "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        ))
    } else {
        Err(format!("field label not supported: {field}"))
    }
}

fn paths(kind: &Kind, field: &str) -> Vec<Path> {
    let path = |text: &str| text.split('.').map(Into::into).collect();
    RENAMED
        .iter()
        .find(|(of, name, _)| *of == kind.kind && *name == field)
        .map_or_else(
            || vec![path(field)],
            |(_, _, paths)| paths.iter().map(|text| path(text)).collect(),
        )
}

/// What a field that is not there counts as.
fn absent(kind: &Kind, field: &str) -> &'static str {
    let schemas = Schemas::builtin();
    let Some(definition) = schemas.of_kind(&kind.group, &kind.version, &kind.kind) else {
        return "";
    };
    let paths = paths(kind, field);
    let mut path = paths.iter().flat_map(|path| path.iter());
    let shape = path
        .try_fold(schemas.get(definition), |schema, name| {
            schemas.field(schema, name)
        })
        .map(|schema| schemas.shape(schema));
    match shape {
        Some(Shape::Boolean) => "false",
        Some(Shape::Integer { .. } | Shape::Number) => "0",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind::Kinds;

    /// A kind as served, that can be selected by other fields than it is now.
    fn kind(group: &str, plural: &str, selectable: &[&str]) -> Kind {
        let mut kind = Kind::clone(Kinds::builtin().at(group, "v1", plural).unwrap());
        kind.selectable = selectable.iter().map(|&field| field.to_owned()).collect();
        kind
    }

    fn pods() -> Kind {
        kind(
            "",
            "pods",
            &["spec.nodeName", "status.phase", "spec.hostNetwork"],
        )
    }

    /// A kind that upstream may have and this crate does not serve yet.
    fn other(group: &str, kind_name: &str, selectable: &[&str]) -> Kind {
        let mut kind = kind("", "configmaps", selectable);
        kind.group = group.to_owned();
        kind.kind = kind_name.to_owned();
        kind
    }

    #[track_caller]
    fn matches(kind: &Kind, selector: &str, object: &Value) -> bool {
        Fields::read(kind, selector).unwrap().matches(object)
    }

    #[test]
    fn fields_are_compared() {
        let pod =
            json!({"metadata": {"name": "a", "namespace": "n"}, "status": {"phase": "Running"}});
        for selector in [
            "metadata.name=a",
            "metadata.name==a",
            "metadata.name!=b",
            "metadata.namespace=n,status.phase=Running",
            "status.phase!=Pending,status.phase!=Failed",
            "spec.nodeName=",
            "spec.nodeName==",
            "spec.nodeName!=x",
            ",metadata.name=a,",
        ] {
            assert!(matches(&pods(), selector, &pod), "{selector}");
        }
        for selector in [
            "metadata.name=b",
            "metadata.name!=a",
            "metadata.name=",
            "spec.nodeName!=",
            "spec.nodeName=x",
            "metadata.name=a,status.phase=Pending",
        ] {
            assert!(!matches(&pods(), selector, &pod), "{selector}");
        }
    }

    #[test]
    fn booleans_and_numbers_are_compared_as_text() {
        let pod = json!({"spec": {"hostNetwork": true}});
        assert!(matches(&pods(), "spec.hostNetwork=true", &pod));
        assert!(!matches(&pods(), "spec.hostNetwork=false", &pod));
        let replicas = other("example.com", "Web", &["spec.replicas"]);
        let web = json!({"spec": {"replicas": 12}});
        assert!(matches(&replicas, "spec.replicas=12", &web));
        for number in ["1", "123", "012", ""] {
            assert!(
                !matches(&replicas, &format!("spec.replicas={number}"), &web),
                "{number}"
            );
        }
    }

    #[test]
    fn what_is_not_there_counts_as_go_has_it() {
        let nodes = kind("", "nodes", &["spec.unschedulable"]);
        assert!(matches(&nodes, "spec.unschedulable=false", &json!({})));
        assert!(!matches(&nodes, "spec.unschedulable=true", &json!({})));
        let controllers = other("", "ReplicationController", &["status.replicas"]);
        assert!(matches(&controllers, "status.replicas=0", &json!({})));
        let custom = other("example.com", "Web", &["spec.replicas"]);
        assert!(matches(&custom, "spec.replicas=", &json!({})));
    }

    #[test]
    fn some_fields_are_elsewhere_than_their_names_say() {
        let events = other("", "Event", &["source", "involvedObject.uid"]);
        assert!(matches(
            &events,
            "source=kubelet",
            &json!({"source": {"component": "kubelet"}})
        ));
        assert!(matches(
            &events,
            "source=me",
            &json!({"source": {}, "reportingComponent": "me"})
        ));
        assert!(matches(
            &events,
            "source=me",
            &json!({"source": {"component": ""}, "reportingComponent": "me"})
        ));
        assert!(!matches(
            &events,
            "source=me",
            &json!({"source": {"component": "a"}, "reportingComponent": "me"})
        ));
        assert!(matches(&events, "source=", &json!({})));
        assert!(matches(
            &events,
            "involvedObject.uid=1",
            &json!({"involvedObject": {"uid": "1"}})
        ));
        let jobs = other("batch", "Job", &["status.successful"]);
        assert!(matches(
            &jobs,
            "status.successful=1",
            &json!({"status": {"succeeded": 1}})
        ));
        assert!(matches(&jobs, "status.successful=0", &json!({})));
    }

    #[test]
    fn values_are_unescaped() {
        let object = |name: &str| json!({"metadata": {"name": name}});
        assert!(matches(
            &pods(),
            r"metadata.name=a\,b\=c\\",
            &object(r"a,b=c\")
        ));
        for (selector, message) in [
            (
                r"metadata.name=a\b",
                r"invalid field selector: invalid escape sequence: \b",
            ),
            (
                r"metadata.name=a\",
                r"invalid field selector: invalid escape sequence: \",
            ),
            (
                "metadata.name=a=b",
                "invalid field selector: unescaped character in value: 61",
            ),
            (
                "metadata.name===b",
                "invalid field selector: unescaped character in value: 61",
            ),
        ] {
            let status = Fields::read(&pods(), selector).unwrap_err();
            assert_eq!(status.reason.code(), 400);
            assert_eq!(status.message, message, "{selector}");
        }
    }

    #[test]
    fn selectors_that_cannot_be_read_are_refused() {
        let status = Fields::read(&pods(), "spec.foo=a,metadata.name").unwrap_err();
        assert_eq!(status.reason.code(), 400);
        assert_eq!(
            status.message,
            "invalid selector: 'spec.foo=a,metadata.name'; can't understand 'metadata.name'"
        );
    }

    #[test]
    fn only_selectable_fields_may_be_named() {
        let message = |kind: &Kind, selector: &str| {
            let status = Fields::read(kind, selector).unwrap_err();
            assert_eq!(status.reason.code(), 400);
            status.message
        };
        assert_eq!(
            message(&pods(), "spec.foo=a"),
            "field label not supported: spec.foo"
        );
        assert_eq!(message(&pods(), "=a"), "field label not supported: ");
        let nodes = kind("", "nodes", &["spec.unschedulable"]);
        assert_eq!(
            message(&nodes, "metadata.namespace=a"),
            "field label not supported: metadata.namespace"
        );
        let plain = kind("", "configmaps", &[]);
        assert!(Fields::read(&plain, "metadata.namespace=a").is_ok());
        assert_eq!(
            message(&plain, "spec.foo=a"),
            "\"spec.foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
        let custom = other("example.com", "Web", &[]);
        assert_eq!(
            message(&custom, "spec.foo=a"),
            "field label not supported: spec.foo"
        );
    }

    #[test]
    fn a_field_that_must_have_one_value_is_known() {
        let required = |selector: &str, field: &str| {
            let fields = Fields::read(&pods(), selector).unwrap();
            fields.required(field).map(str::to_owned)
        };
        assert_eq!(
            required("status.phase=x,metadata.name=a", "metadata.name"),
            Some("a".into())
        );
        assert_eq!(required("metadata.name!=a", "metadata.name"), None);
        // No name is empty: nothing must take this for a prefix of names.
        assert_eq!(required("metadata.name=", "metadata.name"), None);
    }
}
