//! Watch: what happens to objects from a revision on, one JSON object a line.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
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
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Sleep, sleep_until};

use super::read;
use crate::etcd::Body;
use crate::resource::asked::Asked;
use crate::resource::feed::{Batch, Subscription};
use crate::resource::negotiate::Form;
use crate::resource::registry::{Registry, end_of_prefix};
use crate::resource::reply::Wish;
use crate::resource::{Api, error, stored};
use crate::watch::{Create, KeyRange, Listener, Silence, Told};

/// Between two bookmarks.
const BOOKMARK: Duration = Duration::from_secs(60);

/// How long before its end a watch is told once more how far it is.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// How long a watch lasts for which nobody said so: as long, and up to as long again.
const LASTS: Duration = Duration::from_secs(30 * 60);

/// Lines go out in frames of this size, where many wait: the largest that every client takes.
const FRAME_BYTES: usize = 16 * 1024;

/// The most batches that are taken at once, and no more once they have as many bytes.
const BATCHES: usize = 64;
const TOGETHER_BYTES: usize = 8 * FRAME_BYTES;

/// Where events come from.
enum Source {
    /// A watcher of one's own, for what is selected or shown in another way.
    Own(Listener),
    /// The same, until it has come to where the kind's feed was joined.
    Joining(Listener, Option<Subscription>),
    /// The kind's feed.
    Shared(Subscription),
}

/// What a watch needs while it goes on.
struct Watch {
    source: Source,
    /// What keys begin with.
    prefix: String,
    /// Told already up to here.
    cursor: i64,
    /// Lines that are to be sent next.
    waiting: VecDeque<Bytes>,
    is_over: bool,
    until: Instant,
    bookmark: Instant,
    /// Sleeps until the earlier of both. Kept, since most that is waited for comes before.
    timer: Pin<Box<Sleep>>,
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
            text => Some(read::revision(text)?),
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
        let range = match selector.name() {
            Some(name) if !kind.namespaced || !asked.target.namespace.is_empty() => {
                let key = kind.key(&asked.target.namespace, name);
                KeyRange::new(key.as_bytes(), &[])
            }
            _ => KeyRange::new(prefix.as_bytes(), &end_of_prefix(&prefix)),
        };
        let is_whole = selector.is_everything() && asked.wish.form == Form::Whole;
        let create = Create {
            with_previous: !selector.is_everything(),
            ..Create::plain(range, start + 1)
        };
        // Whoever tells of changes is there before the list is read, so that nothing falls between them.
        let hub = self.registry.node.hub();
        let source = if is_whole {
            let subscription = self.feeds.subscribe(&self.registry, &kind);
            if start >= subscription.from {
                Source::Shared(subscription)
            } else {
                let listener = Listener::new(hub, create);
                listener.ask_progress();
                Source::Joining(listener, Some(subscription))
            }
        } else {
            Source::Own(Listener::new(hub, create))
        };
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
        let lasts = match query.number("timeoutSeconds") {
            Some(seconds) if seconds > 0 => Duration::from_secs(seconds.unsigned_abs()),
            _ => {
                let part = f64::from(u16::from_be_bytes(crate::resource::random())) / 65_536.0;
                LASTS + LASTS.mul_f64(part)
            }
        };
        let mut watch = Watch {
            source,
            prefix,
            cursor: start,
            waiting: VecDeque::new(),
            is_over: false,
            until: Instant::now() + lasts,
            bookmark: Instant::now(),
            timer: Box::pin(sleep_until(Instant::now())),
            registry: self.registry.clone(),
            kind,
            selector,
            wish: asked.wish.clone(),
            has_columns: true,
            takes_bookmarks: query.is_set("allowWatchBookmarks"),
        };
        watch.next_bookmark();
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
        watch.send(lines);
        let frames = stream::unfold(watch, |mut watch| async move {
            let line = watch.next().await?;
            Some((Ok(http_body::Frame::data(line)), watch))
        });
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
    let says_so = query.has("sendInitialEvents");
    let mut errors = Vec::new();
    let forbidden =
        |detail: &str| FieldError::new("resourceVersionMatch", Fault::Forbidden, detail);
    if says_so && matching != "NotOlderThan" {
        let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(forbidden(detail));
    }
    if !says_so && !matching.is_empty() {
        let detail =
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        errors.push(forbidden(detail));
    }
    if !["", "NotOlderThan"].contains(&matching) {
        let detail = "supported values: \"NotOlderThan\"";
        let error = FieldError::new("resourceVersionMatch", Fault::NotSupported, detail);
        errors.push(error.of(matching));
    }
    if !errors.is_empty() {
        return Err(read::options(&errors));
    }
    if !says_so {
        return Ok(None);
    }
    Ok(Some(query.is_set("sendInitialEvents")))
}

impl Watch {
    /// What goes out next; none when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(lines) = self.next_waiting() {
                return Some(lines);
            }
            if self.is_over {
                return None;
            }
            self.listen().await;
        }
    }

    /// What waits, as long as a frame: to copy a few lines costs less than a frame for each.
    fn next_waiting(&mut self) -> Option<Bytes> {
        let first = self.waiting.pop_front()?;
        let fits = |length: usize, next: &Bytes| length + next.len() <= FRAME_BYTES;
        if self
            .waiting
            .front()
            .is_none_or(|next| !fits(first.len(), next))
        {
            return Some(first);
        }
        let (mut pieces, mut length) = (0, first.len());
        while let Some(next) = self.waiting.get(pieces).filter(|next| fits(length, next)) {
            length += next.len();
            pieces += 1;
        }
        let mut frame = BytesMut::with_capacity(length);
        frame.extend_from_slice(&first);
        for piece in self.waiting.drain(..pieces) {
            frame.extend_from_slice(&piece);
        }
        Some(frame.freeze())
    }

    fn send(&mut self, lines: Vec<u8>) {
        if !lines.is_empty() {
            self.waiting.push_back(lines.into());
        }
    }

    fn fail(&mut self, error: &Status) {
        let mut lines = Vec::new();
        write_line("ERROR", &stored::write(&error.to_value()), &mut lines);
        self.send(lines);
        self.is_over = true;
    }

    /// One comes shortly before the end, so that whoever goes on need not be told anything twice.
    fn next_bookmark(&mut self) {
        let now = Instant::now();
        let last = self.until.checked_sub(LAST_BOOKMARK).unwrap_or(self.until);
        let next = now + BOOKMARK;
        self.bookmark = if now < last { next.min(last) } else { next };
        let first = if self.takes_bookmarks {
            self.until.min(self.bookmark)
        } else {
            self.until
        };
        self.timer.as_mut().reset(first);
    }

    /// Waits for something to happen.
    async fn listen(&mut self) {
        let told = tokio::select! {
            biased;
            () = self.timer.as_mut() => None,
            told = self.source.next() => Some(told),
        };
        match told {
            None if Instant::now() >= self.until => self.is_over = true,
            None => {
                self.next_bookmark();
                match &self.source {
                    Source::Own(listener) | Source::Joining(listener, _) => listener.ask_progress(),
                    Source::Shared(subscription) => {
                        if let Some(revision) = subscription.all_told() {
                            self.cursor = self.cursor.max(revision);
                        }
                        let mut lines = Vec::new();
                        self.bookmark(self.cursor, false, &mut lines);
                        self.send(lines);
                    }
                }
            }
            Some(Heard::Own(Ok(told))) => self.hear(told),
            // Its client goes on from where it was.
            Some(Heard::Own(Err(_))) => self.is_over = true,
            Some(Heard::Shared(told)) => {
                let mut bytes = self.take(told);
                // What waits goes out together.
                for _ in 1..BATCHES {
                    let Source::Shared(subscription) = &mut self.source else {
                        break;
                    };
                    if self.is_over || bytes >= TOGETHER_BYTES {
                        break;
                    }
                    let Some(told) = subscription.more() else {
                        break;
                    };
                    bytes += self.take(told);
                }
            }
        }
    }

    /// Takes what the feed says: how many bytes that adds to what waits.
    fn take(&mut self, told: Result<Arc<Batch>, RecvError>) -> usize {
        match told {
            Ok(batch) => {
                let mut lines = Vec::new();
                batch.select(self.prefix.as_bytes(), self.cursor, &mut lines);
                let bytes = lines.iter().map(Bytes::len).sum();
                self.waiting.extend(lines);
                self.cursor = self.cursor.max(batch.revision());
                return bytes;
            }
            Err(RecvError::Lagged(_)) => self.rejoin(),
            // Its client goes on from where it was, too.
            Err(RecvError::Closed) => self.is_over = true,
        }
        0
    }

    /// Goes on with a watcher of its own where the feed has gone on without it.
    fn rejoin(&mut self) {
        let joined = match &self.source {
            Source::Shared(subscription) => subscription.again(),
            Source::Own(_) | Source::Joining(..) => None,
        };
        let Some(joined) = joined else {
            self.is_over = true;
            return;
        };
        let own = Listener::new(
            self.registry.node.hub(),
            Create::plain(
                KeyRange::new(self.prefix.as_bytes(), &end_of_prefix(&self.prefix)),
                self.cursor + 1,
            ),
        );
        own.ask_progress();
        self.source = Source::Joining(own, Some(joined));
    }

    fn hear(&mut self, told: Told) {
        let mut lines = Vec::new();
        match told {
            Told::Events {
                events, revision, ..
            } => {
                if let Err(error) = self.tell_all(&events, &mut lines) {
                    return self.fail(&error);
                }
                self.cursor = self.cursor.max(revision);
            }
            Told::Progress(revision) => {
                self.cursor = self.cursor.max(revision);
                if self.takes_bookmarks && matches!(self.source, Source::Own(_)) {
                    self.bookmark(revision, false, &mut lines);
                }
            }
            Told::Compacted(revision) => return self.fail(&error::too_old(revision - 1, revision)),
            Told::Ended => self.is_over = true,
        }
        self.send(lines);
        if let Source::Joining(listener, subscription) = &mut self.source {
            match subscription.take_if(|subscription| self.cursor >= subscription.from) {
                Some(subscription) => self.source = Source::Shared(subscription),
                None => listener.ask_progress(),
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
            None => crate::resource::verbs::previous(&self.registry, &kv.key, revision)?,
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

/// What is heard from a source.
enum Heard {
    Own(Result<Told, Silence>),
    Shared(Result<Arc<Batch>, RecvError>),
}

impl Source {
    async fn next(&mut self) -> Heard {
        match self {
            Self::Own(listener) | Self::Joining(listener, _) => Heard::Own(listener.next().await),
            Self::Shared(subscription) => Heard::Shared(subscription.next().await),
        }
    }
}

/// What an object was before a revision; none if that is compacted.
pub(in crate::resource) fn previous(
    registry: &Registry,
    key: &[u8],
    revision: i64,
) -> Result<Option<Bytes>, Status> {
    let found = registry.reader().previous(key, revision);
    let found = found.map_err(|_| error::broken())?;
    Ok(found.map(|record| Bytes::copy_from_slice(record.value())))
}

pub(in crate::resource) fn begin_line(what: &str, lines: &mut Vec<u8>) {
    lines.extend_from_slice(b"{\"type\":\"");
    lines.extend_from_slice(what.as_bytes());
    lines.extend_from_slice(b"\",\"object\":");
}

pub(in crate::resource) fn end_line(lines: &mut Vec<u8>) {
    lines.extend_from_slice(b"}\n");
}

fn write_line(what: &str, json: &[u8], lines: &mut Vec<u8>) {
    begin_line(what, lines);
    lines.extend_from_slice(json);
    end_line(lines);
}
