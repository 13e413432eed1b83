//! What update and patch share: an object is read, changed, and written if it is still as it was read.

use bytes::Bytes;
use http::StatusCode;
use machinery::admission::warnings;
use machinery::decode::{Media, conform, decode};
use machinery::kind::Kind;
use machinery::patch::{self, PatchType};
use machinery::schema::Schemas;
use machinery::status::{About, Fault, FieldError, Status};
use machinery::{defaults, validate};
use serde_json::{Value, json};

use super::create::AGAIN;
use crate::resource::asked::{Asked, mismatch};
use crate::resource::registry::Change;
use crate::resource::reply::Reply;
use crate::resource::stored::{Stored, Written};
use crate::resource::{Api, hooks, meta, stored};

/// What makes a new object of the one that is there.
pub(super) enum Edit<'a> {
    /// This one, as it came in.
    Whole(Value),
    /// A patch.
    Patch(&'a Patch),
    /// Some other change of the tree.
    Other(&'a (dyn Fn(&mut Value) -> Result<(), Status> + Sync)),
}

/// A patch, as it came in.
pub(super) struct Patch {
    patch_type: PatchType,
    value: Value,
    /// What strict decoding finds in it.
    faults: Vec<String>,
}

impl Patch {
    /// Decodes a body.
    pub(super) fn read(patch_type: PatchType, body: &[u8]) -> Result<Self, Status> {
        let decoded = decode(Media::Json, body, Schemas::builtin(), None).map_err(|error| {
            // The beginning of the body, which follows, says nothing new to whoever sent a patch.
            let why = error.message.rsplit_once(" (").map_or("", |(why, _)| why);
            let why = why.rsplit("json parse error: ").next().unwrap_or(why);
            Status::bad_request(format!("error decoding patch: {why}"))
        })?;
        Ok(Self {
            patch_type,
            value: decoded.value,
            faults: decoded.faults,
        })
    }

    /// What becomes of a tree, which must be of a kind after it as before: group, version and kind.
    pub(super) fn apply(
        &self,
        asked: &Asked,
        old: &Value,
        (group, version, kind): (&str, &str, &str),
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let schemas = Schemas::builtin();
        let definition = schemas.of_kind(group, version, kind);
        let mut new = patch::apply(self.patch_type, old, &self.value, schemas, definition)?;
        let refused = |new: &Value, why: String| {
            let error = FieldError::new("patch", Fault::Invalid, why).of(new.to_string());
            Status::invalid(About::default(), &[error])
        };
        let said = |name: &str| new.get(name).and_then(Value::as_str).unwrap_or_default();
        let old_text = |name: &str| old[name].as_str().unwrap_or_default();
        let or_old = |name| {
            Some(said(name))
                .filter(|said| !said.is_empty())
                .unwrap_or(old_text(name))
        };
        // As upstream: a strategic patch is applied to fields, of which the kind is none.
        if self.patch_type != PatchType::Strategic
            && let Some(why) =
                mismatch(or_old("apiVersion"), or_old("kind"), (group, version, kind))
        {
            return Err(refused(&new, why));
        }
        if let Some(fields) = new.as_object_mut() {
            for name in ["apiVersion", "kind"] {
                fields.insert(name.to_owned(), old[name].clone());
            }
        }
        let Some(definition) = definition else {
            return Ok(new);
        };
        let text = new.clone();
        let decoded = conform(new, schemas, definition).map_err(|error| {
            let (_, why) = error.message.split_once(": ").unwrap_or_default();
            refused(&text, why.to_owned())
        })?;
        let faults = [self.faults.as_slice(), &decoded.faults].concat();
        asked
            .judge(faults, warnings)
            .map_err(|why| refused(&text, why))?;
        Ok(decoded.value)
    }
}

/// An object after a change.
pub(in crate::resource) struct Modified {
    pub(in crate::resource) written: Written,
    pub(in crate::resource) is_new: bool,
}

impl Api {
    /// Answers a request to update.
    pub(in crate::resource) async fn update(
        &self,
        asked: &Asked,
        media: Media,
        body: &Bytes,
    ) -> Result<Reply, Status> {
        let mut warnings = Vec::new();
        let mut object = asked.object(media, body, &mut warnings)?;
        super::create::check_place(&asked.kind, &asked.target.namespace, &mut object)?;
        check_name(asked, &object)?;
        self.modified(asked, Edit::Whole(object), warnings).await
    }

    /// Answers a request to patch.
    pub(in crate::resource) async fn patch(
        &self,
        asked: &Asked,
        patch_type: PatchType,
        body: &Bytes,
    ) -> Result<Reply, Status> {
        let patch = Patch::read(patch_type, body)?;
        self.modified(asked, Edit::Patch(&patch), Vec::new()).await
    }

    async fn modified(
        &self,
        asked: &Asked,
        edit: Edit<'_>,
        mut warnings: Vec<String>,
    ) -> Result<Reply, Status> {
        let Modified { written, is_new } = self.modify(asked, &edit, &mut warnings).await?;
        let code = if is_new {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        let mut reply = Reply::written(code, &asked.kind, &written, &asked.wish)?;
        reply.warnings = warnings;
        Ok(reply)
    }

    /// Changes the object that is asked for, or the part of it.
    pub(super) async fn modify(
        &self,
        asked: &Asked,
        edit: &Edit<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Modified, Status> {
        let (kind, key) = (&asked.kind, asked.key());
        let is_dry = asked.is_dry_run();
        let expected = match edit {
            Edit::Whole(object) => meta::text(object, "resourceVersion"),
            _ => "",
        };
        for again in 0..AGAIN {
            // The first try is from what this member knows; what it says is only told if it is the newest.
            let is_certain = again > 0;
            if is_certain {
                self.registry.barrier().await?;
            }
            let Some(current) = self.registry.look(&key)? else {
                if !is_certain {
                    continue;
                }
                return match edit {
                    Edit::Whole(object)
                        if kind.creates_on_update && asked.target.subresource.is_empty() =>
                    {
                        let mut object = object.clone();
                        meta::of(&mut object).remove("resourceVersion");
                        let namespace = &asked.target.namespace;
                        let created =
                            self.create_object(kind, namespace, object, is_dry, asked.wish.now);
                        Ok(Modified {
                            written: created.await?,
                            is_new: true,
                        })
                    }
                    _ => Err(Status::not_found(asked.about())),
                };
            };
            let old = current.value(kind)?;
            warnings.truncate(warnings.len().min(64));
            let mut found = Vec::new();
            let new = match self.edited(asked, edit, &old, expected, &mut found) {
                Ok(new) => new,
                Err(_) if !is_certain => continue,
                Err(error) => return Err(error),
            };
            found.extend(if asked.target.subresource.is_empty() {
                warnings::warnings(kind, &new, Some(&old))
            } else {
                warnings::status_warnings(kind, &new)
            });
            let is_same = new == old;
            if (is_same || is_dry) && !is_certain {
                continue;
            }
            if is_same || is_dry {
                warnings.extend(found);
                return Ok(Modified {
                    written: Written::unwritten(new),
                    is_new: false,
                });
            }
            if let Some(written) = self.write(kind, &key, &current, &old, new).await? {
                warnings.extend(found);
                return Ok(Modified {
                    written,
                    is_new: false,
                });
            }
        }
        Err(meta::too_busy(kind, &asked.target.name))
    }

    /// Writes what became of an object, or deletes it if nothing holds it any more; none if it changed meanwhile.
    pub(in crate::resource) async fn write(
        &self,
        kind: &Kind,
        key: &str,
        current: &Stored,
        old: &Value,
        mut new: Value,
    ) -> Result<Option<Written>, Status> {
        let mut change = Change::default();
        change.only_at(key, current.revision);
        let is_over = meta::is_being_deleted(&new) && !hooks::is_held(kind, &new);
        if is_over {
            hooks::deleting(kind, &new, &mut change);
            change.delete(key);
            let revision = self.registry.commit(change).await?;
            return Ok(revision.map(|revision| {
                stored::set_revision(&mut new, revision);
                Written::unwritten(new)
            }));
        }
        hooks::updating(self, kind, old, &mut new, &mut change)?;
        let lease = match kind.ttl {
            0 => current.lease,
            ttl => self.registry.grant(ttl).await?,
        };
        let bytes = stored::keep(kind, &new);
        change.put(key, bytes.clone(), lease);
        let revision = self.registry.commit(change).await?;
        Ok(revision.map(|revision| Written::at(new, kind, bytes, revision, lease)))
    }

    /// The object as the edit and the rules make it.
    fn edited(
        &self,
        asked: &Asked,
        edit: &Edit<'_>,
        old: &Value,
        expected: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let kind = &asked.kind;
        let about = asked.about();
        let mut new = match edit {
            Edit::Whole(object) => object.clone(),
            Edit::Patch(patch) => {
                let names = (&*kind.group, &*kind.version, &*kind.kind);
                let new = patch.apply(asked, old, names, warnings)?;
                check_name(asked, &new)?;
                new
            }
            Edit::Other(edit) => {
                let mut new = old.clone();
                edit(&mut new)?;
                new
            }
        };
        let version = match edit {
            Edit::Whole(_) => expected.to_owned(),
            _ => meta::text(&new, "resourceVersion").to_owned(),
        };
        // 0 is no revision of an object, and as good as none.
        let version = Some(version).filter(|version| version != "0");
        let version = version.unwrap_or_default();
        if kind.needs_version && version.is_empty() {
            let detail = "must be specified for an update";
            let error = FieldError::new("metadata.resourceVersion", Fault::Invalid, detail).of(0);
            // Here alone, upstream names the resource where the kind should be.
            return Err(Status::invalid(about, &[error]));
        }
        if !version.is_empty() && version != meta::text(old, "resourceVersion") {
            if version.parse::<u64>().is_err() {
                let detail = "must be a whole number";
                let error = FieldError::new("metadata.resourceVersion", Fault::Invalid, detail);
                let error = error.of(version);
                return Err(meta::invalid(kind, &about.name, &[error]));
            }
            return Err(Status::conflict(
                about,
                "the object has been modified; please apply your changes to the latest version and try again",
            ));
        }
        let uid = meta::text(&new, "uid");
        if !uid.is_empty() && uid != meta::text(old, "uid") {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta::text(old, "uid")
            );
            return Err(Status::conflict(about, &why));
        }
        merge(kind, old, &mut new, &asked.target.subresource);
        hooks::merging(kind, old, &mut new, &asked.target.subresource);
        defaults::fill(kind, &mut new);
        defaults::prepare_update(kind, &mut new, old);
        count(kind, old, &mut new);
        let errors = validate::updated(kind, &new, old, &asked.target.subresource);
        if !errors.is_empty() {
            return Err(meta::invalid(kind, &about.name, &errors));
        }
        Ok(new)
    }
}

/// An object is called as the path says, and is where it says.
pub(super) fn check_name(asked: &Asked, object: &Value) -> Result<(), Status> {
    let (name, namespace) = (&asked.target.name, &asked.target.namespace);
    let (said, place) = (meta::text(object, "name"), meta::text(object, "namespace"));
    Err(Status::bad_request(if said.is_empty() {
        format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )
    } else if said != name {
        format!("the name of the object ({said}) does not match the name on the URL ({name})")
    } else if !namespace.is_empty() && !place.is_empty() && place != namespace {
        format!(
            "the namespace of the object ({place}) does not match the namespace on the request ({namespace})"
        )
    } else {
        return Ok(());
    }))
}

/// What a write of the object, or of a part of it, leaves as it was.
fn merge(kind: &Kind, old: &Value, new: &mut Value, subresource: &str) {
    let metadata = meta::of(new);
    for name in [
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ] {
        match old["metadata"].get(name) {
            Some(value) => metadata.insert(name.to_owned(), value.clone()),
            None => metadata.remove(name),
        };
    }
    metadata.remove("selfLink");
    metadata.remove("managedFields");
    let (Some(fields), Some(before)) = (new.as_object_mut(), old.as_object()) else {
        return;
    };
    if subresource.is_empty() {
        if kind.has_status() {
            match before.get("status") {
                Some(status) => fields.insert("status".to_owned(), status.clone()),
                None => fields.remove("status"),
            };
        }
        return;
    }
    // A part was written: everything else stays.
    let parts = hooks::parts(subresource);
    let is_written = |name: &str| name == "metadata" || parts.contains(&name);
    fields.retain(|name, _| is_written(name));
    for (name, value) in before {
        if !is_written(name) {
            fields.insert(name.clone(), value.clone());
        }
    }
}

/// Counts changes of what is wanted.
fn count(kind: &Kind, old: &Value, new: &mut Value) {
    if !kind.counts_generations {
        return;
    }
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else {
        return;
    };
    let wanted = |name: &&String| !matches!(name.as_str(), "metadata" | "status");
    let is_same = before
        .keys()
        .filter(wanted)
        .all(|name| after.contains_key(name))
        && after
            .iter()
            .filter(|(name, _)| wanted(name))
            .all(|(name, value)| before.get(name) == Some(value))
        && hooks::counts_same(kind, old, new);
    if !is_same {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        meta::of(new).insert("generation".to_owned(), json!(generation));
    }
}
