//! Create: a new object, with what the server adds to it.

use http::StatusCode;
use machinery::decode::Media;
use machinery::kind::Kind;
use machinery::status::Status;
use machinery::{admission, defaults, validate};
use serde_json::{Value, json};

use bytes::Bytes;

use crate::resource::asked::Asked;
use crate::resource::registry::Change;
use crate::resource::reply::Reply;
use crate::resource::stored::Written;
use crate::resource::{Api, hooks, meta, stored};

/// Names that are generated before it is said that there is no free one.
const TRIES: usize = 8;

/// Times that a change is tried anew because something it was made from had changed.
pub(super) const AGAIN: usize = 32;

impl Api {
    /// Answers a request to create.
    pub(in crate::resource) async fn create(
        &self,
        asked: &Asked,
        media: Media,
        body: &Bytes,
    ) -> Result<Reply, Status> {
        let mut warnings = Vec::new();
        let object = asked.object(media, body, &mut warnings)?;
        let is_dry = asked.is_dry_run();
        let kind = &asked.kind;
        let written = self
            .create_object(
                kind,
                &asked.target.namespace,
                object,
                is_dry,
                asked.wish.now,
            )
            .await?;
        warnings.extend(admission::warnings::warnings(kind, &written.object, None));
        let mut reply = Reply::written(StatusCode::CREATED, kind, &written, &asked.wish)?;
        reply.warnings = warnings;
        Ok(reply)
    }

    /// Creates an object; answers it as it is kept.
    pub(in crate::resource) async fn create_object(
        &self,
        kind: &Kind,
        namespace: &str,
        mut object: Value,
        is_dry: bool,
        now: i64,
    ) -> Result<Written, Status> {
        check_place(kind, namespace, &mut object)?;
        if !meta::text(&object, "resourceVersion").is_empty() {
            return Err(Status::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let base = meta::text(&object, "generateName").to_owned();
        let is_generated = meta::text(&object, "name").is_empty() && !base.is_empty();
        if !is_generated {
            return self
                .create_named(kind, namespace, object, is_dry, now)
                .await;
        }
        for again in 1.. {
            let mut object = object.clone();
            let name = meta::generate_name(&base);
            meta::of(&mut object).insert("name".to_owned(), name.into());
            match self
                .create_named(kind, namespace, object, is_dry, now)
                .await
            {
                Err(taken) if again < TRIES && is_taken(&taken) => {}
                done => return done,
            }
        }
        unreachable!("the last try is answered")
    }

    async fn create_named(
        &self,
        kind: &Kind,
        namespace: &str,
        mut object: Value,
        is_dry: bool,
        now: i64,
    ) -> Result<Written, Status> {
        prepare(kind, &mut object, now);
        defaults::fill(kind, &mut object);
        let name = meta::text(&object, "name").to_owned();
        let key = kind.key(namespace, &name);
        for again in 0..AGAIN {
            if again > 0 {
                self.registry.barrier().await?;
            }
            let mut object = object.clone();
            let mut change = Change::default();
            // What it depends on is looked up here, and compared where it is carried out.
            let allowed = hooks::creating(self, kind, namespace, &mut object, &mut change);
            if let Err(refused) = allowed {
                // This member may not have seen yet what is missing.
                if again > 0 {
                    return Err(refused);
                }
                continue;
            }
            let errors = validate::created(kind, &object);
            if !errors.is_empty() {
                return Err(meta::invalid(kind, &name, &errors));
            }
            if let Err(refused) = hooks::charging(self, kind, &object, &mut change) {
                // What is free may not have been seen yet either.
                if again > 0 {
                    return Err(refused);
                }
                continue;
            }
            if is_dry {
                self.registry.barrier().await?;
                if self.registry.look(&key)?.is_some() {
                    return Err(Status::already_exists(meta::about(kind, &name)));
                }
                return Ok(Written::unwritten(object));
            }
            let lease = match kind.ttl {
                0 => 0,
                ttl => self.registry.grant(ttl).await?,
            };
            change.only_at(&key, 0);
            let bytes = stored::keep(kind, &object);
            change.put(&key, bytes.clone(), lease);
            if let Some(revision) = self.registry.commit(change).await? {
                return Ok(Written::at(object, kind, bytes, revision, lease));
            }
            self.registry.barrier().await?;
            if self.registry.look(&key)?.is_some() {
                return Err(Status::already_exists(meta::about(kind, &name)));
            }
        }
        Err(meta::too_busy(kind, &name))
    }
}

fn is_taken(status: &Status) -> bool {
    status.reason == machinery::status::Reason::AlreadyExists
}

/// The namespace of the path is that of the object.
pub(super) fn check_place(kind: &Kind, namespace: &str, object: &mut Value) -> Result<(), Status> {
    let said = meta::text(object, "namespace").to_owned();
    if !kind.namespaced {
        meta::of(object).remove("namespace");
        return Ok(());
    }
    if namespace.is_empty() {
        return Err(Status::bad_request(
            "an empty namespace may not be set during creation",
        ));
    }
    if !said.is_empty() && said != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    meta::of(object).insert("namespace".to_owned(), namespace.into());
    Ok(())
}

/// What the server writes into a new object, and what nobody else may.
fn prepare(kind: &Kind, object: &mut Value, now: i64) {
    let metadata = meta::of(object);
    for name in [
        "selfLink",
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "generation",
    ] {
        metadata.remove(name);
    }
    metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".to_owned(), meta::timestamp(now).into());
    if kind.counts_generations {
        metadata.insert("generation".to_owned(), json!(1));
    }
}
