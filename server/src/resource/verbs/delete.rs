//! Delete: at once, or when nothing holds the object any more.

use bytes::Bytes;
use http::StatusCode;
use machinery::decode::Media;
use machinery::kind::Kind;
use machinery::status::Status;
use serde_json::{Value, json};

use super::create::AGAIN;
use crate::resource::asked::Asked;
use crate::resource::path::Query;
use crate::resource::registry::Change;
use crate::resource::reply::{List, Reply, Wish};
use crate::resource::stored::Stored;
use crate::resource::{Api, hooks, meta, stored};

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
        let options = if body.is_empty() {
            json!({})
        } else {
            let mut options = json!({});
            // Clients name it by the group of what they delete, or by none.
            let known = [("", "v1", "DeleteOptions")];
            for kind in known {
                let decoded = machinery::decode::decode(
                    media,
                    body,
                    machinery::schema::Schemas::builtin(),
                    machinery::schema::Schemas::builtin().of_kind(kind.0, kind.1, kind.2),
                )?;
                options = decoded.value;
            }
            options
        };
        Self::of(&options, &asked.query)
    }

    pub(super) fn of(options: &Value, query: &Query) -> Result<Self, Status> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut deletion = Self {
            is_dry: options["dryRun"]
                .as_array()
                .is_some_and(|list| list.iter().any(|one| one == "All"))
                || query.all("dryRun").any(|one| one == "All"),
            grace: options["gracePeriodSeconds"]
                .as_i64()
                .or_else(|| query.number("gracePeriodSeconds")),
            policy: text(&options["propagationPolicy"]),
            uid: text(&options["preconditions"]["uid"]),
            version: text(&options["preconditions"]["resourceVersion"]),
        };
        if deletion.policy.is_none() && !query.text("propagationPolicy").is_empty() {
            deletion.policy = Some(query.text("propagationPolicy").to_owned());
        }
        let orphans = options["orphanDependents"].as_bool();
        if let (None, Some(orphans)) = (&deletion.policy, orphans) {
            deletion.policy = Some(if orphans { "Orphan" } else { "Background" }.to_owned());
        }
        match deletion.policy.as_deref() {
            None | Some("Orphan" | "Background" | "Foreground") => Ok(deletion),
            Some(other) => {
                let about = machinery::status::About {
                    group: "meta.k8s.io".to_owned(),
                    kind: "DeleteOptions".to_owned(),
                    name: String::new(),
                };
                let error = machinery::status::FieldError::new(
                    "propagationPolicy",
                    machinery::status::Fault::NotSupported,
                    "supported values: \"Background\", \"Foreground\", \"Orphan\"",
                )
                .of(other);
                Err(Status::invalid(about, &[error]))
            }
        }
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
                Ok(written.map(|object| Deleted {
                    object,
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
    let about = meta::about(kind, meta::text(object, "name"));
    let preconditions = [
        ("UID", &deletion.uid, "uid"),
        ("ResourceVersion", &deletion.version, "resourceVersion"),
    ];
    for (what, expected, name) in preconditions {
        if let Some(expected) = expected
            && expected != meta::text(object, name)
        {
            let why = format!(
                "Precondition failed: {what} in precondition: {expected}, {what} in object meta: {}",
                meta::text(object, name)
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
