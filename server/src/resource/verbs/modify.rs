//! What update and patch share: an object is read, changed, and written if it is still as it was read.

use bytes::Bytes;
use http::StatusCode;
use machinery::decode::{Media, conform};
use machinery::kind::Kind;
use machinery::patch::{self, PatchType};
use machinery::schema::Schemas;
use machinery::status::Status;
use machinery::{defaults, validate};
use serde_json::{Value, json};

use super::create::AGAIN;
use crate::resource::asked::Asked;
use crate::resource::registry::Change;
use crate::resource::reply::Reply;
use crate::resource::stored::Stored;
use crate::resource::{Api, hooks, meta, stored};

/// What makes a new object of the one that is there.
pub(super) enum Edit<'a> {
    /// This one, as it came in.
    Whole(&'a Value),
    /// A patch.
    Patch(PatchType, &'a Value),
    /// Some other change of the tree.
    Other(&'a (dyn Fn(&mut Value) -> Result<(), Status> + Sync)),
}

/// An object after a change.
pub(in crate::resource) struct Modified {
    pub(in crate::resource) object: Value,
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
        let object = asked.object(media, body, &mut warnings)?;
        let said = meta::text(&object, "name");
        if said != asked.target.name {
            return Err(Status::bad_request(if said.is_empty() {
                "name must be provided".to_owned()
            } else {
                format!(
                    "the name of the object ({said}) does not match the name on the URL ({})",
                    asked.target.name
                )
            }));
        }
        let mut object = object;
        super::create::check_place(&asked.kind, &asked.target.namespace, &mut object)?;
        self.modified(asked, Edit::Whole(&object), warnings).await
    }

    /// Answers a request to patch.
    pub(in crate::resource) async fn patch(
        &self,
        asked: &Asked,
        patch_type: PatchType,
        body: &Bytes,
    ) -> Result<Reply, Status> {
        let patch: Value = serde_json::from_slice(body)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
        self.modified(asked, Edit::Patch(patch_type, &patch), Vec::new())
            .await
    }

    async fn modified(
        &self,
        asked: &Asked,
        edit: Edit<'_>,
        mut warnings: Vec<String>,
    ) -> Result<Reply, Status> {
        let Modified { object, is_new } = self.modify(asked, &edit, &mut warnings).await?;
        let code = if is_new {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        let mut reply = Reply::object(code, &asked.kind, &object, &asked.wish);
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
        let is_dry = asked.is_dry_run()?;
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
                        let mut object = (*object).clone();
                        meta::of(&mut object).remove("resourceVersion");
                        let namespace = &asked.target.namespace;
                        let created =
                            self.create_object(kind, namespace, object, is_dry, asked.wish.now);
                        Ok(Modified {
                            object: created.await?,
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
            let is_same = new == old;
            if (is_same || is_dry) && !is_certain {
                continue;
            }
            if is_same || is_dry {
                warnings.extend(found);
                return Ok(Modified {
                    object: new,
                    is_new: false,
                });
            }
            if let Some(object) = self.write(kind, &key, &current, &old, new).await? {
                warnings.extend(found);
                return Ok(Modified {
                    object,
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
    ) -> Result<Option<Value>, Status> {
        let mut change = Change::default();
        change.only_at(key, current.revision);
        let is_over = meta::is_being_deleted(&new) && !hooks::is_held(kind, &new);
        if is_over {
            hooks::deleting(kind, &new, &mut change);
            change.delete(key);
        } else {
            hooks::updating(self, kind, old, &mut new, &mut change)?;
            let lease = match kind.ttl {
                0 => current.lease,
                ttl => self.registry.grant(ttl).await?,
            };
            change.put(key, stored::keep(kind, &new), lease);
        }
        let revision = self.registry.commit(change).await?;
        Ok(revision.map(|revision| {
            stored::set_revision(&mut new, revision);
            new
        }))
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
            Edit::Whole(object) => (*object).clone(),
            Edit::Patch(patch_type, patch) => {
                let patched =
                    patch::apply(*patch_type, old, patch, Schemas::builtin(), kind.schema)?;
                match kind.schema {
                    None => patched,
                    Some(definition) => {
                        let decoded = conform(patched, Schemas::builtin(), definition)?;
                        asked.judge(decoded.faults, warnings)?;
                        decoded.value
                    }
                }
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
        if kind.needs_version && version.is_empty() {
            let detail = "must be specified for an update";
            let fault = machinery::status::Fault::Invalid;
            let error =
                machinery::status::FieldError::new("metadata.resourceVersion", fault, detail).of(0);
            return Err(meta::invalid(kind, &about.name, &[error]));
        }
        if !version.is_empty() && version != meta::text(old, "resourceVersion") {
            if version.parse::<u64>().is_err() {
                let fault = machinery::status::Fault::Invalid;
                let detail = "must be a whole number";
                let error =
                    machinery::status::FieldError::new("metadata.resourceVersion", fault, detail)
                        .of(version);
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
        let name = meta::text(&new, "name");
        if name != meta::text(old, "name") && !matches!(edit, Edit::Whole(_)) {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                about.name
            )));
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
