//! Version 2 in its binary form, the `openapi_v2.Document` of gnostic: only the patches of kinds with their parameters.
//! kubectl asks for no other thing in it, and the whole of it would be a few megabytes.

use super::operations::{Parameter, parameters};
use crate::kind::{Kind, Kinds};

/// A message of protobuf as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, mut number: usize) {
        while number > 0x7f {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    /// Adds a field of bytes: text, or another message.
    fn with(mut self, field: usize, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.number(field << 3 | 2);
        self.number(value.len());
        self.0.extend_from_slice(value);
        self
    }

    /// Adds a field that is true.
    fn with_true(mut self, field: usize) -> Self {
        self.number(field << 3);
        self.number(1);
        self
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

// The numbers of fields are those of gnostic's OpenAPIv2.proto.

pub(super) fn document(kinds: &Kinds) -> Vec<u8> {
    let info = Message::default()
        .with(1, "Kubernetes")
        .with(2, super::VERSION);
    let patched = kinds.all().iter().filter(|kind| kind.offers("patch"));
    let paths = patched.fold(Message::default(), |paths, kind| paths.with(2, path(kind)));
    let document = Message::default()
        .with(1, "2.0")
        .with(2, info)
        .with(8, paths);
    document.0
}

/// A path with its name.
fn path(kind: &Kind) -> Message {
    let root = match kind.group.as_str() {
        "" => format!("/api/{}/", kind.version),
        group => format!("/apis/{group}/{}/", kind.version),
    };
    let namespace = if kind.namespaced {
        "namespaces/{namespace}/"
    } else {
        ""
    };
    let item = Message::default().with(8, patch(kind));
    Message::default()
        .with(1, format!("{root}{namespace}{}/{{name}}", kind.plural))
        .with(2, item)
}

fn patch(kind: &Kind) -> Message {
    let operation = parameters("patch")
        .into_iter()
        .fold(Message::default(), |operation, one| {
            operation.with(8, parameter(one))
        });
    let about = format!(
        "group: {:?}\nkind: {:?}\nversion: {:?}\n",
        kind.group, kind.kind, kind.version
    );
    let extension = Message::default()
        .with(1, "x-kubernetes-group-version-kind")
        .with(2, Message::default().with(2, about));
    operation.with(13, extension)
}

/// A parameter in the query, within the three messages that say that it is one.
fn parameter(parameter: &Parameter) -> Message {
    let in_query = Message::default()
        .with(2, "query")
        .with(3, parameter.description)
        .with(4, parameter.name)
        .with(6, parameter.shape)
        .with_true(20);
    let no_body = Message::default().with(3, in_query);
    let either = Message::default().with(2, no_body);
    Message::default().with(1, either)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of bytes of a message by their number.
    fn fields(mut message: &[u8], wanted: u64) -> Vec<&[u8]> {
        let mut found = Vec::new();
        while !message.is_empty() {
            let tag = number(&mut message);
            let value = number(&mut message);
            if tag & 7 == 2 {
                let (bytes, rest) = message.split_at(usize::try_from(value).unwrap());
                message = rest;
                if tag >> 3 == wanted {
                    found.push(bytes);
                }
            }
        }
        found
    }

    fn number(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for place in 0.. {
            let (first, rest) = message.split_first().unwrap();
            *message = rest;
            value |= u64::from(first & 0x7f) << (7 * place);
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }

    /// Follows fields, each the only one of its number.
    fn at<'a>(message: &'a [u8], path: &[u64]) -> &'a [u8] {
        path.iter().fold(message, |message, field| {
            let found = fields(message, *field);
            assert_eq!(found.len(), 1, "{path:?}");
            found[0]
        })
    }

    fn text<'a>(message: &'a [u8], path: &[u64]) -> &'a str {
        std::str::from_utf8(at(message, path)).unwrap()
    }

    #[test]
    fn what_is_written_reads_as_what_was_meant() {
        let document = document(Kinds::builtin());
        assert_eq!(text(&document, &[1]), "2.0");
        assert_eq!(text(&document, &[2, 1]), "Kubernetes");
        assert_eq!(text(&document, &[2, 2]), super::super::VERSION);
        let paths = fields(at(&document, &[8]), 2);
        let patched = Kinds::builtin().all().iter();
        let patched = patched.filter(|kind| kind.offers("patch"));
        assert_eq!(paths.len(), patched.count());
        let path = |path: &str| {
            let mut paths = paths.iter();
            *paths.find(|one| text(one, &[1]) == path).unwrap()
        };
        path("/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
        let patch = at(path("/api/v1/namespaces/{name}"), &[2, 8]);
        assert_eq!(text(patch, &[13, 1]), "x-kubernetes-group-version-kind");
        assert_eq!(
            text(patch, &[13, 2, 2]),
            "group: \"\"\nkind: \"Namespace\"\nversion: \"v1\"\n"
        );
        let names: Vec<&str> = fields(patch, 8)
            .into_iter()
            .map(|parameter| text(parameter, &[1, 2, 3, 4]))
            .collect();
        assert_eq!(
            names,
            ["dryRun", "fieldManager", "fieldValidation", "force"]
        );
        for parameter in fields(patch, 8) {
            assert_eq!(text(parameter, &[1, 2, 3, 2]), "query");
        }
    }

    #[test]
    fn long_numbers_have_several_bytes() {
        let message = Message::default().with(20, vec![0; 300]);
        assert_eq!(message.0[..4], [0xa2, 0x01, 0xac, 0x02]);
    }
}
