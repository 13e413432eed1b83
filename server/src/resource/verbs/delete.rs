//! Delete: at once, or when nothing holds the object any more.

use bytes::Bytes;
use http::StatusCode;
use machinery::decode::{Media, decode};
use machinery::kind::Kind;
use machinery::schema::Schemas;
use machinery::status::{About, Fault, FieldError, Status};
use serde_json::{Value, json};

use super::create::AGAIN;
use crate::resource::asked::{Asked, mismatch};
use crate::resource::path::Query;
use crate::resource::registry::Change;
use crate::resource::reply::{List, Reply, Wish};
use crate::resource::stored::Stored;
use crate::resource::{Api, hooks, meta, options, stored};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// How an object is to be deleted.
#[derive(Clone, Debug, Default)]
pub(in crate::resource) struct Deletion {
    pub(in crate::resource) is_dry: bool,
    pub(in crate::resource) grace: Option<i64>,
    pub(in crate::resource) policy: Option<String>,
    pub(in crate::resource) uid: Option<String>,
    pub(in crate::resource) version: Option<String>,
}

/// What a delete came to.
pub(in crate::resource) struct Deleted {
    pub(in crate::resource) object: Value,
    /// Whether it is gone, and not only on its way.
    pub(in crate::resource) is_gone: bool,
}

impl Deletion {
    /// Of the body, if there is one, and of the query.
    pub(in crate::resource) fn read(
        asked: &Asked,
        media: Media,
        body: &Bytes,
    ) -> Result<Self, Status> {
        let mut options = json!({});
        if !body.is_empty() {
            let schemas = Schemas::builtin();
            let definition = schemas.of_kind("", "v1", "DeleteOptions");
            options = decode(media, body, schemas, definition)?.value;
            // Clients give it the group of what they delete, or any other.
            let said = |name: &str| options[name].as_str().unwrap_or_default();
            if !["", "DeleteOptions"].contains(&said("kind")) {
                let wanted = ("meta.k8s.io", "v1", "DeleteOptions");
                let why = mismatch(said("apiVersion"), said("kind"), wanted);
                return Err(Status::bad_request(why.unwrap_or_default()));
            }
        }
        Self::of(&options, &asked.query)
    }

    pub(super) fn of(said: &Value, query: &Query) -> Result<Self, Status> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let asked = |name: &str| Some(query.text(name)).filter(|text| !text.is_empty());
        let in_body = said["dryRun"].as_array().into_iter().flatten();
        let stages: Vec<&str> = in_body
            .filter_map(Value::as_str)
            .chain(query.all("dryRun"))
            .collect();
        let policy = text(&said["propagationPolicy"])
            .or_else(|| asked("propagationPolicy").map(str::to_owned));
        let orphans = said["orphanDependents"].as_bool().or_else(|| {
            let is_asked = query.has("orphanDependents");
            is_asked.then(|| query.is_set("orphanDependents"))
        });
        let mut errors = Vec::new();
        if let (Some(policy), Some(_)) = (&policy, orphans) {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            let error = FieldError::new("propagationPolicy", Fault::Invalid, detail);
            errors.push(error.of(policy.as_str()));
        }
        if let Some(other) = &policy
            && !["Background", "Foreground", "Orphan"].contains(&other.as_str())
        {
            let detail = "supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"";
            let error = FieldError::new("propagationPolicy", Fault::NotSupported, detail);
            errors.push(error.of(other.as_str()));
        }
        errors.extend(options::check_dry_run(stages.iter().copied()));
        options::refuse("DeleteOptions", &errors)?;
        let orphaning = |orphans| if orphans { "Orphan" } else { "Background" };
        Ok(Self {
            is_dry: stages.contains(&"All"),
            grace: said["gracePeriodSeconds"]
                .as_i64()
                .or_else(|| query.number("gracePeriodSeconds")),
            policy: policy.or_else(|| orphans.map(|orphans| orphaning(orphans).to_owned())),
            uid: text(&said["preconditions"]["uid"]),
            version: text(&said["preconditions"]["resourceVersion"]),
        })
    }
}

impl Api {
    /// Answers a request to delete one object.
    pub(in crate::resource) async fn delete(
        &self,
        asked: &Asked,
        deletion: &Deletion,
    ) -> Result<Reply, Status> {
        let kind = &asked.kind;
        let namespace = &asked.target.namespace;
        let deleted = self
            .delete_object(
                kind,
                namespace,
                &asked.target.name,
                deletion,
                asked.wish.now,
            )
            .await?;
        if !deleted.is_gone || kind.returns_deleted {
            return Ok(Reply::object(
                StatusCode::OK,
                kind,
                &deleted.object,
                &asked.wish,
            ));
        }
        Ok(Reply::value(
            StatusCode::OK,
            &success(kind, &deleted.object),
        ))
    }

    /// Answers a request to delete all that a list would show.
    pub(in crate::resource) async fn delete_collection(
        &self,
        asked: &Asked,
        deletion: &Deletion,
    ) -> Result<Reply, Status> {
        let kind = &asked.kind;
        let selector = asked.selector()?;
        self.registry.barrier().await?;
        let view = self.registry.reader().view();
        let mut deleted = Vec::new();
        for record in self.registry.all(&kind.key(&asked.target.namespace, ""))? {
            let object = stored::parse(record.value(), record.mod_revision(), kind)?;
            if !selector.matches(&object) {
                continue;
            }
            let (namespace, name) = (
                meta::text(&object, "namespace"),
                meta::text(&object, "name"),
            );
            match self
                .delete_object(kind, namespace, name, deletion, asked.wish.now)
                .await
            {
                Ok(done) => deleted.push(done.object),
                // Somebody else was faster.
                Err(gone) if gone.reason == machinery::status::Reason::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let list = List {
            kind,
            revision: view.revision,
            token: None,
            remaining: None,
        };
        list.of_values(&deleted, &Wish::default())
    }

    /// Deletes an object, or begins to.
    pub(in crate::resource) async fn delete_object(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        deletion: &Deletion,
        now: i64,
    ) -> Result<Deleted, Status> {
        let key = kind.key(namespace, name);
        let about = meta::about(kind, name);
        for again in 0..AGAIN {
            let is_certain = again > 0;
            if is_certain {
                self.registry.barrier().await?;
            }
            let Some(current) = self.registry.look(&key)? else {
                if is_certain {
                    return Err(Status::not_found(about));
                }
                continue;
            };
            let object = current.value(kind)?;
            if let Err(error) = check(kind, &object, deletion) {
                if is_certain {
                    return Err(error);
                }
                continue;
            }
            let marked = marked(kind, &object, deletion, now);
            if deletion.is_dry {
                if !is_certain {
                    continue;
                }
                return Ok(match marked {
                    Some(object) => Deleted {
                        object,
                        is_gone: false,
                    },
                    None => Deleted {
                        object,
                        is_gone: true,
                    },
                });
            }
            if let Some(done) = self.carry_out(kind, &key, &current, object, marked).await? {
                return Ok(done);
            }
        }
        Err(meta::too_busy(kind, name))
    }

    async fn carry_out(
        &self,
        kind: &Kind,
        key: &str,
        current: &Stored,
        mut object: Value,
        marked: Option<Value>,
    ) -> Result<Option<Deleted>, Status> {
        match marked {
            Some(marked) if marked == object => Ok(Some(Deleted {
                object,
                is_gone: false,
            })),
            Some(marked) => {
                let written = self.write(kind, key, current, &object, marked).await?;
                Ok(written.map(|written| Deleted {
                    object: written.object,
                    is_gone: false,
                }))
            }
            None => {
                let mut change = Change::default();
                change.only_at(key, current.revision);
                hooks::deleting(kind, &object, &mut change);
                change.delete(key);
                let revision = self.registry.commit(change).await?;
                Ok(revision.map(|revision| {
                    stored::set_revision(&mut object, revision);
                    Deleted {
                        object,
                        is_gone: true,
                    }
                }))
            }
        }
    }
}

fn check(kind: &Kind, object: &Value, deletion: &Deletion) -> Result<(), Status> {
    let preconditions = [
        ("UID", &deletion.uid, "uid", "deleted and then recreated"),
        (
            "ResourceVersion",
            &deletion.version,
            "resourceVersion",
            "modified",
        ),
    ];
    for (what, expected, name, happened) in preconditions {
        let found = meta::text(object, name);
        if let Some(expected) = expected
            && expected != found
        {
            // Here alone, upstream names the kind where the resource should be.
            let about = About {
                kind: kind.kind.clone(),
                ..meta::about(kind, meta::text(object, "name"))
            };
            let why = format!(
                "the {what} in the precondition ({expected}) does not match the {what} in record ({found}). The object \
                 might have been {happened}"
            );
            return Err(Status::conflict(about, &why));
        }
    }
    hooks::may_delete(kind, object)
}

/// The object as it is while something holds it; none if it is to be deleted at once.
fn marked(kind: &Kind, object: &Value, deletion: &Deletion, now: i64) -> Option<Value> {
    let mut new = object.clone();
    let mut finalizers: Vec<String> = meta::finalizers(object)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let policy = deletion.policy.as_deref();
    if policy.is_some() {
        finalizers.retain(|one| one != ORPHAN && one != FOREGROUND);
    }
    match policy {
        Some("Orphan") => finalizers.push(ORPHAN.to_owned()),
        Some("Foreground") => finalizers.push(FOREGROUND.to_owned()),
        _ => {}
    }
    let metadata = meta::of(&mut new);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), json!(finalizers));
    }
    let grace = hooks::grace(kind, object, deletion.grace);
    if grace == 0 && !hooks::is_held(kind, &new) {
        return None;
    }
    let was_marked = meta::is_being_deleted(object);
    let metadata = meta::of(&mut new);
    let left = metadata
        .get("deletionGracePeriodSeconds")
        .and_then(Value::as_i64);
    if !was_marked || left.is_some_and(|left| grace < left) {
        metadata.insert(
            "deletionTimestamp".to_owned(),
            meta::timestamp(now + grace).into(),
        );
        metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
        if kind.counts_generations
            && !was_marked
            && let Some(generation) = metadata.get("generation").and_then(Value::as_i64)
        {
            metadata.insert("generation".to_owned(), json!(generation + 1));
        }
    }
    hooks::marking(kind, &mut new);
    Some(new)
}

/// What a delete is answered with whose object is gone.
fn success(kind: &Kind, object: &Value) -> Value {
    let mut details = json!({
        "name": meta::text(object, "name"),
        "kind": kind.plural,
        "uid": meta::text(object, "uid"),
    });
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    })
}
