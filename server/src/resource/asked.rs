//! A request for objects, read: what is asked of which kind, with which options.

use std::sync::Arc;

use bytes::Bytes;
use machinery::decode::{Decoded, Media, decode};
use machinery::kind::Kind;
use machinery::schema::{Definition, Schemas};
use machinery::selector::Selector;
use machinery::status::{About, Fault, FieldError, Status};
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

/// What becomes of unknown and doubled fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strictness {
    Ignore,
    Warn,
    Strict,
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
    pub(super) fn is_dry_run(&self) -> Result<bool, Status> {
        let mut is_dry = false;
        for value in self.query.all("dryRun") {
            match value {
                "All" => is_dry = true,
                "" => {}
                other => {
                    let error =
                        FieldError::new("dryRun", Fault::NotSupported, "supported values: \"All\"")
                            .of(other);
                    return Err(options_error("CreateOptions", &error));
                }
            }
        }
        Ok(is_dry)
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

    fn strictness(&self) -> Result<Strictness, Status> {
        match self.query.text("fieldValidation") {
            "Ignore" => Ok(Strictness::Ignore),
            "" | "Warn" => Ok(Strictness::Warn),
            "Strict" => Ok(Strictness::Strict),
            other => {
                let supported = "supported values: \"Ignore\", \"Strict\", \"Warn\"";
                let error =
                    FieldError::new("fieldValidation", Fault::NotSupported, supported).of(other);
                Err(options_error("CreateOptions", &error))
            }
        }
    }

    /// Takes what strict decoding found as the client asked for.
    pub(super) fn judge(
        &self,
        faults: Vec<String>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        if faults.is_empty() {
            return Ok(());
        }
        match self.strictness()? {
            Strictness::Ignore => {}
            Strictness::Warn => warnings.extend(faults),
            Strictness::Strict => {
                let kind = &self.kind;
                return Err(Status::bad_request(format!(
                    "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
                    kind.kind,
                    kind.version,
                    kind.kind,
                    faults.join(", ")
                )));
            }
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
        self.judge(faults, warnings)?;
        self.check_type(
            &mut value,
            &self.kind.group,
            &self.kind.version,
            &self.kind.kind,
        )?;
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
        self.check_type(&mut value, group, version, kind)?;
        Ok(value)
    }

    fn check_type(
        &self,
        value: &mut Value,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Result<(), Status> {
        let api_version = match group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        };
        let Some(fields) = value.as_object_mut() else {
            return Err(Status::bad_request(
                "the body of the request is not an object",
            ));
        };
        let said = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        let (said_version, said_kind) = (said("apiVersion"), said("kind"));
        if !said_kind.is_empty() && said_kind != kind
            || !said_version.is_empty() && said_version != api_version
        {
            return Err(Status::bad_request(format!(
                "the API version in the data ({said_version}, Kind={said_kind}) does not match the expected API version ({api_version}, Kind={kind})"
            )));
        }
        fields.insert("apiVersion".to_owned(), api_version.into());
        fields.insert("kind".to_owned(), kind.into());
        Ok(())
    }
}

fn options_error(kind: &str, error: &FieldError) -> Status {
    let about = About {
        group: "meta.k8s.io".to_owned(),
        kind: kind.to_owned(),
        name: String::new(),
    };
    Status::invalid(about, std::slice::from_ref(error))
}
