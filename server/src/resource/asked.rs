//! A request for objects, read: what is asked of which kind, with which options.

use std::sync::Arc;

use bytes::Bytes;
use machinery::decode::{Decoded, Media, decode};
use machinery::kind::Kind;
use machinery::schema::{Definition, Schemas};
use machinery::selector::Selector;
use machinery::status::{About, Status};
use machinery::table::Include;
use serde_json::Value;

use super::path::{Query, Target};
use super::reply::Wish;

/// A request for objects.
pub(super) struct Asked {
    pub(super) kind: Arc<Kind>,
    pub(super) target: Target,
    pub(super) query: Query,
    pub(super) wish: Wish,
}

impl Asked {
    /// The key of the object, or what those of the collection begin with.
    pub(super) fn key(&self) -> String {
        self.kind.key(&self.target.namespace, &self.target.name)
    }

    /// What errors are about.
    pub(super) fn about(&self) -> About {
        super::meta::about(&self.kind, &self.target.name)
    }

    /// Whether nothing is to be written.
    pub(super) fn is_dry_run(&self) -> bool {
        self.query.all("dryRun").any(|stage| stage == "All")
    }

    pub(super) fn selector(&self) -> Result<Selector, Status> {
        Selector::read(
            &self.kind,
            self.query.text("labelSelector"),
            self.query.text("fieldSelector"),
        )
    }

    /// What goes beside each row of a table.
    pub(super) fn include(query: &Query) -> Result<Include, Status> {
        match query.text("includeObject") {
            "" | "Metadata" => Ok(Include::Metadata),
            "Object" => Ok(Include::Object),
            "None" => Ok(Include::None),
            other => Err(Status::bad_request(format!(
                "unknown includeObject: {other:?}"
            ))),
        }
    }

    /// Takes what strict decoding found as the client asked for. Fails with what is wrong.
    pub(super) fn judge(
        &self,
        faults: Vec<String>,
        warnings: &mut Vec<String>,
    ) -> Result<(), String> {
        match self.query.text("fieldValidation") {
            "Strict" if !faults.is_empty() => {
                return Err(format!("strict decoding error: {}", faults.join(", ")));
            }
            "Strict" | "Ignore" => {}
            _ => warnings.extend(faults),
        }
        Ok(())
    }

    /// Decodes a body that is an object of the kind.
    pub(super) fn object(
        &self,
        media: Media,
        body: &Bytes,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let Decoded { mut value, faults } =
            decode(media, body, Schemas::builtin(), self.kind.schema)?;
        let kind = &self.kind;
        check_type(&mut value, (&kind.group, &kind.version, &kind.kind))?;
        self.judge(faults, warnings).map_err(|why| {
            let (kind, version) = (&kind.kind, &kind.version);
            Status::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
            ))
        })?;
        Ok(value)
    }

    /// Decodes a body of another kind.
    pub(super) fn other(
        &self,
        media: Media,
        body: &Bytes,
        (group, version, kind): (&str, &str, &str),
    ) -> Result<Value, Status> {
        let definition: Option<Definition> = Schemas::builtin().of_kind(group, version, kind);
        let mut value = decode(media, body, Schemas::builtin(), definition)?.value;
        check_type(&mut value, (group, version, kind))?;
        Ok(value)
    }
}

/// A body is of the kind that it should be: group, version and kind. What it does not say of that, it is taken to be.
fn check_type(value: &mut Value, wanted: (&str, &str, &str)) -> Result<(), Status> {
    let Some(fields) = value.as_object_mut() else {
        return Err(Status::bad_request(
            "the body of the request is not an object",
        ));
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let api_version = api_version(wanted.0, wanted.1);
    let said_version = Some(text("apiVersion")).filter(|said| !said.is_empty());
    let said_kind = Some(text("kind")).filter(|said| !said.is_empty());
    let said_version = said_version.unwrap_or(&api_version);
    if let Some(why) = mismatch(said_version, said_kind.unwrap_or(wanted.2), wanted) {
        return Err(Status::bad_request(why));
    }
    fields.insert("apiVersion".to_owned(), api_version.into());
    fields.insert("kind".to_owned(), wanted.2.into());
    Ok(())
}

fn api_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    }
}

/// Why a body that says to be of a kind is not of the wanted one, in upstream's words; none if it is.
pub(super) fn mismatch(
    said_version: &str,
    said_kind: &str,
    (group, version, kind): (&str, &str, &str),
) -> Option<String> {
    let (said_group, short) = said_version.rsplit_once('/').unwrap_or(("", said_version));
    if (said_group, short, said_kind) == (group, version, kind) {
        return None;
    }
    let head = format!("{said_kind} in version {short:?} cannot be handled as a {kind}: ");
    if Schemas::builtin()
        .of_kind(said_group, short, said_kind)
        .is_none()
    {
        return Some(format!(
            "{head}no kind {said_kind:?} is registered for version {said_version:?} in scheme \
             \"pkg/api/legacyscheme/scheme.go:30\""
        ));
    }
    if (said_group, said_kind) == (group, kind) {
        let expected = api_version(group, version);
        return Some(format!(
            "the API version in the data ({said_version}) does not match the expected API version ({expected})"
        ));
    }
    // Upstream's packages of kinds without a version are called by the first part of the group.
    let package = match group.split('.').next() {
        None | Some("") => "core",
        Some(first) => first,
    };
    Some(format!(
        "{head}converting ({short}.{said_kind}) to ({package}.{kind}): unknown conversion"
    ))
}
