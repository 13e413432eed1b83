//! Watch: what happens to objects from a revision on, one JSON object a line.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body_util::StreamBody;
use machinery::kind::Kind;
use machinery::selector::Selector;
use machinery::status::{Fault, FieldError, Status};
use machinery::table::{self, Include};
use proto::etcd::mvccpb::event::EventType;
use proto::etcd::mvccpb::{Event, KeyValue};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::read;
use crate::etcd::Body;
use crate::resource::asked::Asked;
use crate::resource::negotiate::Form;
use crate::resource::registry::{Registry, end_of_prefix};
use crate::resource::reply::Wish;
use crate::resource::{Api, error, stored};
use crate::watch::{Create, KeyRange, Listener, Silence, Told};

/// Lines that wait for a slow client before the watcher waits, and with it what the hub holds for it, which is bounded.
const WAITING: usize = 64;

/// Between two bookmarks.
const BOOKMARK: Duration = Duration::from_secs(60);

/// How long before its end a watch is told once more how far it is.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// How long a watch lasts for which nobody said so: as long, and up to as long again.
const LASTS: Duration = Duration::from_secs(30 * 60);

/// What a watch needs while it goes on.
struct Watch {
    registry: Registry,
    kind: Arc<Kind>,
    selector: Selector,
    wish: Wish,
    has_columns: bool,
    takes_bookmarks: bool,
}

impl Api {
    /// Answers a request to watch.
    pub(in crate::resource) async fn watch(&self, asked: &Asked) -> Result<Response<Body>, Status> {
        let kind = asked.kind.clone();
        let selector = asked.selector()?;
        let query = &asked.query;
        let sends_initial = check_initial(asked)?;
        let version = query.text("resourceVersion");
        let begins = match version {
            "" | "0" => None,
            text => Some(read::revision(&kind, text)?),
        };
        let begins_with_all = sends_initial.unwrap_or(begins.is_none());
        match begins {
            Some(revision) if begins_with_all => self.registry.reach(revision).await?,
            None if version != "0" => self.registry.barrier().await?,
            _ => {}
        }
        let prefix = kind.key(&asked.target.namespace, "");
        let view = self.registry.reader().view();
        let start = match begins {
            Some(revision) if !begins_with_all => {
                if revision < view.compact_revision {
                    return Err(error::too_old(revision, view.compact_revision));
                }
                revision
            }
            _ => view.revision,
        };
        let range = match selector
            .name()
            .or_else(|| Some(asked.target.name.as_str()).filter(|name| !name.is_empty()))
        {
            Some(name) if !kind.namespaced || !asked.target.namespace.is_empty() => {
                let key = kind.key(&asked.target.namespace, name);
                KeyRange::new(key.as_bytes(), &[])
            }
            _ => KeyRange::new(prefix.as_bytes(), &end_of_prefix(&prefix)),
        };
        // The watcher is there before the list is read, so that nothing falls between them.
        let listener = Listener::new(
            self.registry.node.hub(),
            Create {
                range,
                start_revision: start + 1,
                watch_id: 0,
                progress_notify: false,
                without_puts: false,
                without_deletes: false,
                with_previous: !selector.is_everything(),
                fragment: false,
            },
        );
        let initial = if begins_with_all {
            let request = proto::etcd::etcdserverpb::RangeRequest {
                key: prefix.clone().into(),
                range_end: end_of_prefix(&prefix),
                ..Default::default()
            };
            self.registry.range(&view, &request)?.records
        } else {
            Vec::new()
        };
        let mut watch = Watch {
            registry: self.registry.clone(),
            kind,
            selector,
            wish: asked.wish.clone(),
            has_columns: true,
            takes_bookmarks: query.is_set("allowWatchBookmarks"),
        };
        let mut lines = Vec::new();
        for record in &initial {
            watch.tell_put(
                record.value(),
                record.mod_revision(),
                None,
                true,
                &mut lines,
            )?;
        }
        if sends_initial == Some(true) && watch.takes_bookmarks {
            watch.bookmark(view.revision, true, &mut lines);
        }
        let lasts = match query.number("timeoutSeconds") {
            Some(seconds) if seconds > 0 => Duration::from_secs(seconds.unsigned_abs()),
            _ => {
                LASTS
                    + LASTS.mul_f64(
                        f64::from(u16::from_be_bytes(crate::resource::random())) / 65_536.0,
                    )
            }
        };
        let (tx, rx) = mpsc::channel(WAITING);
        if !lines.is_empty() {
            // There is room: nothing else was sent.
            let _ = tx.try_send(Bytes::from(lines));
        }
        let until = Instant::now() + lasts;
        tokio::spawn(async move { watch.run(listener, tx, until).await });
        let frames = ReceiverStream::new(rx).map(|bytes| Ok(http_body::Frame::data(bytes)));
        let mut response = Response::new(Body::Other(Box::pin(StreamBody::new(frames))));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        Ok(response)
    }
}

/// Whether a watch begins with all that is there, if it says so.
fn check_initial(asked: &Asked) -> Result<Option<bool>, Status> {
    let query = &asked.query;
    let matching = query.text("resourceVersionMatch");
    let error = |field: &str, detail: &str| {
        let about = machinery::status::About {
            group: "meta.k8s.io".to_owned(),
            kind: "ListOptions".to_owned(),
            name: String::new(),
        };
        Status::invalid(about, &[FieldError::new(field, Fault::Forbidden, detail)])
    };
    if query.text("sendInitialEvents").is_empty() {
        return match matching {
            "" => Ok(None),
            _ => Err(error(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )),
        };
    }
    if matching != "NotOlderThan" {
        return Err(error(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    Ok(Some(query.is_set("sendInitialEvents")))
}

impl Watch {
    async fn run(mut self, mut listener: Listener, tx: mpsc::Sender<Bytes>, until: Instant) {
        // One comes shortly before the end, so that whoever goes on need not be told anything twice.
        let last = until.checked_sub(LAST_BOOKMARK).unwrap_or(until);
        let mut bookmark = last.min(Instant::now() + BOOKMARK);
        loop {
            let mut lines = Vec::new();
            let mut is_over = false;
            tokio::select! {
                biased;
                () = tx.closed() => return,
                () = sleep_until(until) => return,
                () = sleep_until(bookmark), if self.takes_bookmarks => {
                    listener.ask_progress();
                    let next = Instant::now() + BOOKMARK;
                    bookmark = if Instant::now() < last { next.min(last) } else { next };
                }
                told = listener.next() => match told {
                    Ok(Told::Events { events, .. }) => {
                        if let Err(error) = self.tell_all(&events, &mut lines) {
                            write_line("ERROR", &stored::write(&error.to_value()), &mut lines);
                            is_over = true;
                        }
                    }
                    Ok(Told::Progress(revision)) => self.bookmark(revision, false, &mut lines),
                    Ok(Told::Compacted(revision)) => {
                        let status = error::too_old(revision - 1, revision).to_value();
                        write_line("ERROR", &stored::write(&status), &mut lines);
                        is_over = true;
                    }
                    Ok(Told::Ended) | Err(Silence::End(_) | Silence::Fault) => return,
                },
            }
            if !lines.is_empty() && tx.send(Bytes::from(lines)).await.is_err() || is_over {
                return;
            }
        }
    }

    fn tell_all(&mut self, events: &[Event], lines: &mut Vec<u8>) -> Result<(), Status> {
        for event in events {
            let Some(kv) = &event.kv else { continue };
            if event.r#type == EventType::Delete as i32 {
                self.tell_delete(kv, event.prev_kv.as_ref(), lines)?;
            } else {
                let is_new = kv.create_revision == kv.mod_revision;
                self.tell_put(
                    &kv.value,
                    kv.mod_revision,
                    event.prev_kv.as_ref(),
                    is_new,
                    lines,
                )?;
            }
        }
        Ok(())
    }

    fn tell_put(
        &mut self,
        value: &[u8],
        revision: i64,
        previous: Option<&KeyValue>,
        is_new: bool,
        lines: &mut Vec<u8>,
    ) -> Result<(), Status> {
        let kind = self.kind.clone();
        if self.selector.is_everything() {
            let what = if is_new { "ADDED" } else { "MODIFIED" };
            if self.wish.form == Form::Whole {
                begin_line(what, lines);
                stored::write_json(value, revision, &kind, lines)?;
                end_line(lines);
                return Ok(());
            }
            let object = stored::parse(value, revision, &kind)?;
            self.write(what, &object, lines);
            return Ok(());
        }
        let object = stored::parse(value, revision, &kind)?;
        let matches = self.selector.matches(&object);
        let matched = match previous {
            Some(previous) if !is_new => {
                let before = stored::parse(&previous.value, previous.mod_revision, &kind)?;
                self.selector.matches(&before).then_some(before)
            }
            _ => None,
        };
        match (matched, matches) {
            (None, true) => self.write("ADDED", &object, lines),
            (Some(_), true) => self.write("MODIFIED", &object, lines),
            (Some(mut before), false) => {
                stored::set_revision(&mut before, revision);
                self.write("DELETED", &before, lines);
            }
            (None, false) => {}
        }
        Ok(())
    }

    fn tell_delete(
        &mut self,
        kv: &KeyValue,
        previous: Option<&KeyValue>,
        lines: &mut Vec<u8>,
    ) -> Result<(), Status> {
        let revision = kv.mod_revision;
        let bytes = match previous {
            Some(previous) => Some(previous.value.clone()),
            None => {
                let found = self.registry.reader().previous(&kv.key, revision);
                let found = found.map_err(|_| error::broken())?;
                found.map(|record| Bytes::copy_from_slice(record.value()))
            }
        };
        // Compacted already: the client lists again.
        let bytes = bytes.ok_or_else(|| error::too_old(revision, revision))?;
        let object = stored::parse(&bytes, revision, &self.kind)?;
        if self.selector.is_everything() || self.selector.matches(&object) {
            self.write("DELETED", &object, lines);
        }
        Ok(())
    }

    fn write(&mut self, what: &str, object: &Value, lines: &mut Vec<u8>) {
        let json = match self.wish.form {
            Form::Whole => stored::write(object),
            Form::Metadata => stored::write(&table::partial(object)),
            Form::Table => self.table(object, &object["metadata"]["resourceVersion"]),
        };
        write_line(what, &json, lines);
    }

    fn table(&mut self, object: &Value, version: &Value) -> Vec<u8> {
        let metadata = json!({ "resourceVersion": version });
        let now = self.registry.now();
        let include: Include = self.wish.include;
        let table =
            table::table_of_one(&self.kind, object, include, self.has_columns, metadata, now);
        self.has_columns = false;
        stored::write(&table)
    }

    fn bookmark(&mut self, revision: i64, ends_initial: bool, lines: &mut Vec<u8>) {
        let mut metadata = json!({ "resourceVersion": revision.to_string() });
        if ends_initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let (kind, api_version) = match self.wish.form {
            Form::Metadata => (
                "PartialObjectMetadata".to_owned(),
                "meta.k8s.io/v1".to_owned(),
            ),
            _ => (self.kind.kind.clone(), self.kind.api_version()),
        };
        let object = json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata });
        let json = match self.wish.form {
            Form::Table => {
                let columns = self.has_columns;
                let include = self.wish.include;
                let mut table = table::table_of_one(
                    &self.kind,
                    &object,
                    include,
                    columns,
                    json!({ "resourceVersion": revision.to_string() }),
                    self.registry.now(),
                );
                self.has_columns = false;
                // What a bookmark says is in its object: its cells say nothing.
                if let Some(row) = table["rows"].get_mut(0) {
                    row["object"] = table::partial(&object);
                }
                stored::write(&table)
            }
            _ => stored::write(&object),
        };
        write_line("BOOKMARK", &json, lines);
    }
}

fn begin_line(what: &str, lines: &mut Vec<u8>) {
    lines.extend_from_slice(b"{\"type\":\"");
    lines.extend_from_slice(what.as_bytes());
    lines.extend_from_slice(b"\",\"object\":");
}

fn end_line(lines: &mut Vec<u8>) {
    lines.extend_from_slice(b"}\n");
}

fn write_line(what: &str, json: &[u8], lines: &mut Vec<u8>) {
    begin_line(what, lines);
    lines.extend_from_slice(json);
    end_line(lines);
}
