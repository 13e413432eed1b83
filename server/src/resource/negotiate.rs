//! What a client wants to get, and what it sends: `Accept` and `Content-Type`.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};
use machinery::decode::Media;
use machinery::patch::PatchType;
use machinery::status::{Reason, Status};

/// What an object or a list is turned into on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    #[default]
    Whole,
    /// `as=Table`.
    Table,
    /// `as=PartialObjectMetadata`, or of a list `as=PartialObjectMetadataList`.
    Metadata,
}

/// One of the things that a client takes.
struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    fn all(headers: &'a HeaderMap) -> impl Iterator<Item = Clause<'a>> {
        let texts = headers.get_all(ACCEPT).into_iter();
        let texts = texts.filter_map(|text| text.to_str().ok());
        texts.flat_map(|text| text.split(',')).map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let parameters = parts.filter_map(|part| part.split_once('=')).collect();
            Clause { media, parameters }
        })
    }

    fn parameter(&self, name: &str) -> &'a str {
        let found = self.parameters.iter().find(|(one, _)| *one == name);
        found.map_or("", |(_, value)| value)
    }

    fn is_json(&self) -> bool {
        matches!(
            self.media,
            "application/json" | "application/*" | "*/*" | ""
        )
    }

    fn is_meta_v1(&self) -> bool {
        self.parameter("g") == "meta.k8s.io" && matches!(self.parameter("v"), "v1")
    }
}

fn not_acceptable() -> Status {
    Status::new(
        Reason::NotAcceptable,
        "only the following media types are accepted: application/json",
    )
}

/// How objects go out to whoever sent these headers. A table may not be what a part of an object is shown as.
pub(super) fn form(headers: &HeaderMap, has_tables: bool) -> Result<Form, Status> {
    if !headers.contains_key(ACCEPT) {
        return Ok(Form::Whole);
    }
    for clause in Clause::all(headers).filter(Clause::is_json) {
        let form = match clause.parameter("as") {
            "" => Form::Whole,
            "Table" if clause.is_meta_v1() && has_tables => Form::Table,
            "PartialObjectMetadata" | "PartialObjectMetadataList"
                if clause.is_meta_v1() && has_tables =>
            {
                Form::Metadata
            }
            _ => continue,
        };
        return Ok(form);
    }
    Err(not_acceptable())
}

/// Whether whoever sent these headers wants OpenAPI's version 2 in its binary form, which is what kubectl asks for.
pub(super) fn takes_binary_openapi(headers: &HeaderMap) -> bool {
    let known = [
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    ];
    let first =
        Clause::all(headers).find(|clause| clause.is_json() || known.contains(&clause.media));
    first.is_some_and(|clause| !clause.is_json())
}

/// Whether whoever sent these headers knows discovery in one document.
pub(super) fn takes_aggregated(headers: &HeaderMap) -> bool {
    let mut clauses = Clause::all(headers);
    let first = clauses.find(|clause| {
        clause.is_json() && matches!(clause.parameter("as"), "" | "APIGroupDiscoveryList")
    });
    first.is_some_and(|clause| {
        clause.parameter("as") == "APIGroupDiscoveryList"
            && clause.parameter("g") == "apidiscovery.k8s.io"
            && clause.parameter("v") == "v2"
    })
}

/// Whether answers may be compressed.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let text = headers
        .get(ACCEPT_ENCODING)
        .and_then(|text| text.to_str().ok());
    text.is_some_and(|text| {
        let mut codings = text.split(',').map(str::trim);
        codings.any(|coding| {
            coding == "gzip" || coding.starts_with("gzip;") && !coding.ends_with("q=0")
        })
    })
}

fn content_type(headers: &HeaderMap) -> &str {
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|text| text.to_str().ok());
    text.and_then(|text| text.split(';').next())
        .unwrap_or_default()
        .trim()
}

/// What a body is written in.
pub(super) fn media(headers: &HeaderMap) -> Result<Media, Status> {
    match content_type(headers) {
        "application/json" | "" => Ok(Media::Json),
        "application/yaml" => Ok(Media::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Media::Protobuf),
        _ => Err(Status::new(
            Reason::UnsupportedMediaType,
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// What kind of patch a body is.
pub(super) fn patch_type(headers: &HeaderMap) -> Result<PatchType, Status> {
    match content_type(headers) {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchType::Strategic),
        _ => Err(Status::new(
            Reason::UnsupportedMediaType,
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, text.parse().unwrap())])
    }

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        let table = accepting(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
        );
        assert_eq!(form(&table, true), Ok(Form::Table));
        assert_eq!(form(&table, false), Ok(Form::Whole));
        let typed = accepting("application/vnd.kubernetes.protobuf,application/json");
        assert_eq!(form(&typed, true), Ok(Form::Whole));
        let metadata = accepting(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
        );
        assert_eq!(form(&metadata, true), Ok(Form::Metadata));
        assert_eq!(form(&accepting("*/*"), true), Ok(Form::Whole));
        let none = form(&accepting("text/html"), true).unwrap_err();
        assert_eq!(none.reason, Reason::NotAcceptable);
        assert!(takes_aggregated(&accepting(
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
        )));
        assert!(!takes_aggregated(&accepting("application/json")));
    }
}
