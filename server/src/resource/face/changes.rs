//! `/holdfast/changes`: what happens to all objects, one JSON object a line, from a revision on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body_util::StreamBody;
use proto::etcd::mvccpb::Event;
use proto::etcd::mvccpb::event::EventType;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::keys::{ALL, Keys};
use crate::etcd::Body;
use crate::resource::path::Query;
use crate::resource::registry::{Registry, end_of_prefix};
use crate::resource::{Api, meta};
use crate::watch::{Create, KeyRange, Listener, Told};

/// Pieces that wait for a slow client before the watcher waits, and with it what the hub holds for it, which is bounded.
const WAITING: usize = 16;

/// Between two lines that only say how far it is: whoever hears nothing for longer has lost the connection.
const BOOKMARK: Duration = Duration::from_secs(10);

/// How long it goes on; clients then go on from where they are.
const LASTS: Duration = Duration::from_secs(30 * 60);

/// What is needed while it goes on.
struct Tail {
    registry: Registry,
    keys: Arc<Keys>,
    /// Up to here nobody here has seen when it happened.
    past: i64,
}

impl Api {
    /// With `since`, what happened after that revision comes first, as far as history is kept.
    pub(super) fn changes(&self, query: &Query) -> Response<Body> {
        let view = self.registry.reader().view();
        let oldest = (view.compact_revision - 1).max(0);
        let since = query.number("since").unwrap_or(view.revision);
        let since = since.clamp(oldest, view.revision.max(oldest));
        let listener = Listener::new(
            self.registry.node.hub(),
            Create::plain(
                KeyRange::new(ALL.as_bytes(), &end_of_prefix(ALL)),
                since + 1,
            ),
        );
        let tail = Tail {
            registry: self.registry.clone(),
            keys: self.face.keys.clone(),
            past: view.revision,
        };
        let (tx, rx) = mpsc::channel(WAITING);
        // There is room: nothing else was sent.
        let _ = tx.try_send(line(&bookmark(since)));
        tokio::spawn(tail.run(listener, tx));
        let frames = ReceiverStream::new(rx).map(|bytes| Ok(http_body::Frame::data(bytes)));
        let mut response = Response::new(Body::Other(Box::pin(StreamBody::new(frames))));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        response
    }
}

impl Tail {
    async fn run(self, mut listener: Listener, tx: mpsc::Sender<Bytes>) {
        let until = Instant::now() + LASTS;
        let mut next_bookmark = Instant::now() + BOOKMARK;
        loop {
            let lines = tokio::select! {
                biased;
                () = tx.closed() => return,
                () = sleep_until(until) => return,
                () = sleep_until(next_bookmark) => {
                    next_bookmark = Instant::now() + BOOKMARK;
                    listener.ask_progress();
                    continue;
                }
                told = listener.next() => match told {
                    Ok(Told::Events { events, .. }) => self.tell(&events),
                    Ok(Told::Progress(revision)) => line(&bookmark(revision)),
                    // Its history went away meanwhile, or the node does: the client comes again.
                    Ok(Told::Compacted(_) | Told::Ended) | Err(_) => return,
                },
            };
            if tx.send(lines).await.is_err() {
                return;
            }
        }
    }

    fn tell(&self, events: &[Event]) -> Bytes {
        let now = meta::timestamp(self.registry.now());
        let mut lines = Vec::new();
        for event in events {
            let Some(kv) = &event.kv else { continue };
            let what = if event.r#type == EventType::Delete as i32 {
                "DELETED"
            } else if kv.create_revision == kv.mod_revision {
                "ADDED"
            } else {
                "MODIFIED"
            };
            let key = String::from_utf8_lossy(&kv.key);
            let mut told = self.keys.owner(&key).fields();
            let time = if kv.mod_revision > self.past {
                Some(now.clone())
            } else if what == "ADDED" {
                created(&kv.value)
            } else {
                None
            };
            told.insert("type".to_owned(), what.into());
            told.insert("revision".to_owned(), kv.mod_revision.into());
            told.insert("key".to_owned(), key.as_ref().into());
            if let Some(time) = time {
                told.insert("time".to_owned(), time.into());
            }
            lines.extend_from_slice(&line(&told.into()));
        }
        lines.into()
    }
}

/// When an object was made, as it says itself.
fn created(value: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        creation_timestamp: Option<String>,
    }
    let object: Object = serde_json::from_slice(value).ok()?;
    object.metadata.creation_timestamp
}

fn bookmark(revision: i64) -> Value {
    json!({ "type": "BOOKMARK", "revision": revision })
}

fn line(value: &Value) -> Bytes {
    let mut line = value.to_string();
    line.push('\n');
    line.into()
}
