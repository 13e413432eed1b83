//! Watches of whole collections share their work: the hub tells of a kind once, and each event becomes a line once,
//! however many clients watch.
//!
//! Who falls behind by more than is kept is told by a watcher of its own, from where it was, until it has come to the
//! feed again: the store has its history, so nothing is lost, and nobody waits for anybody.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use machinery::kind::Kind;
use machinery::status::Status;
use parking_lot::Mutex;
use proto::etcd::mvccpb::Event;
use proto::etcd::mvccpb::event::EventType;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::registry::{Registry, end_of_prefix};
use super::verbs::{begin_line, end_line, previous};
use super::{error, stored};
use crate::watch::{Create, KeyRange, Listener, Told};

/// Batches that a client may be behind.
const KEPT: usize = 512;

/// What happened to objects of a kind, as lines.
#[derive(Debug)]
pub(super) struct Batch {
    text: Bytes,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    revision: i64,
    key: Bytes,
    place: Range<usize>,
}

impl Batch {
    /// The newest revision in it.
    pub(super) fn revision(&self) -> i64 {
        self.lines.last().map_or(0, |line| line.revision)
    }

    /// The lines about keys with a prefix that are newer than a revision.
    pub(super) fn select(&self, prefix: &[u8], after: i64, out: &mut Vec<Bytes>) {
        let fits = |line: &Line| line.revision > after && line.key.starts_with(prefix);
        let mut run: Option<Range<usize>> = None;
        for line in &self.lines {
            match (&mut run, fits(line)) {
                (Some(run), true) => run.end = line.place.end,
                (None, true) => run = Some(line.place.clone()),
                (_, false) => out.extend(run.take().map(|run| self.text.slice(run))),
            }
        }
        out.extend(run.map(|run| self.text.slice(run)));
    }
}

/// Between two looks whether anybody listens, and how far the store is.
const LOOK: Duration = Duration::from_secs(10);

/// The feeds that somebody listens to, by the prefix of their kind.
#[derive(Default)]
pub(super) struct Feeds {
    feeds: Mutex<HashMap<String, Arc<Mutex<Feed>>>>,
}

struct Feed {
    sender: broadcast::Sender<Arc<Batch>>,
    /// Everything up to here has been sent.
    revision: i64,
    is_over: bool,
}

/// A place in a feed.
pub(super) struct Subscription {
    feed: Arc<Mutex<Feed>>,
    receiver: broadcast::Receiver<Arc<Batch>>,
    /// What comes is newer than this.
    pub(super) from: i64,
}

impl Subscription {
    /// What happens next.
    pub(super) async fn next(&mut self) -> Result<Arc<Batch>, RecvError> {
        self.receiver.recv().await
    }

    /// What has happened already; none if nothing waits.
    pub(super) fn more(&mut self) -> Option<Result<Arc<Batch>, RecvError>> {
        match self.receiver.try_recv() {
            Ok(batch) => Some(Ok(batch)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Lagged(lost)) => Some(Err(RecvError::Lagged(lost))),
            Err(TryRecvError::Closed) => Some(Err(RecvError::Closed)),
        }
    }

    /// A place in the same feed from now on, for whoever has fallen behind; none if it is over.
    pub(super) fn again(&self) -> Option<Self> {
        let feed = self.feed.lock();
        (!feed.is_over).then(|| Self {
            feed: self.feed.clone(),
            receiver: feed.sender.subscribe(),
            from: feed.revision,
        })
    }

    /// The revision up to which everything has been told, if nothing waits.
    pub(super) fn all_told(&self) -> Option<i64> {
        // In this order: what is sent after the look would be newer.
        let revision = self.feed.lock().revision;
        self.receiver.is_empty().then_some(revision)
    }
}

impl Feeds {
    /// Listens to a kind from now on.
    pub(super) fn subscribe(&self, registry: &Registry, kind: &Arc<Kind>) -> Subscription {
        let prefix = kind.key("", "");
        // The two versions of a kind share its keys, and not its lines.
        let name = format!("{}{prefix}", kind.api_version());
        let mut feeds = self.feeds.lock();
        if let Some(known) = feeds.get(&name) {
            let feed = known.lock();
            if !feed.is_over {
                return Subscription {
                    feed: known.clone(),
                    receiver: feed.sender.subscribe(),
                    from: feed.revision,
                };
            }
        }
        let (sender, receiver) = broadcast::channel(KEPT);
        let from = registry.reader().view().revision;
        let feed = Arc::new(Mutex::new(Feed {
            sender,
            revision: from,
            is_over: false,
        }));
        feeds.insert(name, feed.clone());
        let listener = Listener::new(
            registry.node.hub(),
            Create::plain(
                KeyRange::new(prefix.as_bytes(), &end_of_prefix(&prefix)),
                from + 1,
            ),
        );
        tokio::spawn(run(feed.clone(), listener, registry.clone(), kind.clone()));
        Subscription {
            feed,
            receiver,
            from,
        }
    }
}

/// Tells everybody, until nobody listens.
async fn run(feed: Arc<Mutex<Feed>>, mut listener: Listener, registry: Registry, kind: Arc<Kind>) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        let told = tokio::select! {
            told = listener.next() => told,
            _ = look.tick() => {
                let mut feed = feed.lock();
                if feed.sender.receiver_count() == 0 {
                    feed.is_over = true;
                    return;
                }
                listener.ask_progress();
                continue;
            }
        };
        match told {
            Ok(Told::Events { events, .. }) => {
                let Ok(batch) = batch(&registry, &kind, &events) else {
                    break;
                };
                let mut feed = feed.lock();
                feed.revision = feed.revision.max(batch.revision());
                if feed.sender.send(Arc::new(batch)).is_err() {
                    feed.is_over = true;
                    return;
                }
            }
            Ok(Told::Progress(revision)) => {
                let mut feed = feed.lock();
                feed.revision = feed.revision.max(revision);
            }
            Ok(Told::Compacted(_) | Told::Ended) | Err(_) => break,
        }
    }
    // Its listeners end with the sender, and come back to another.
    let mut feed = feed.lock();
    feed.is_over = true;
    feed.sender = broadcast::channel(1).0;
}

fn batch(registry: &Registry, kind: &Kind, events: &[Event]) -> Result<Batch, Status> {
    let mut text = Vec::new();
    let mut lines = Vec::with_capacity(events.len());
    for event in events {
        let Some(kv) = &event.kv else { continue };
        let begin = text.len();
        let revision = kv.mod_revision;
        if event.r#type == EventType::Delete as i32 {
            let old = previous(registry, &kv.key, revision)?;
            let old = old.ok_or_else(|| error::too_old(revision - 1, revision))?;
            begin_line("DELETED", &mut text);
            stored::write_json(&old, revision, kind, &mut text)?;
        } else {
            let is_new = kv.create_revision == revision;
            begin_line(if is_new { "ADDED" } else { "MODIFIED" }, &mut text);
            stored::write_json(&kv.value, revision, kind, &mut text)?;
        }
        end_line(&mut text);
        lines.push(Line {
            revision,
            key: kv.key.clone(),
            place: begin..text.len(),
        });
    }
    Ok(Batch {
        text: text.into(),
        lines,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_key_and_revision_and_those_side_by_side_go_together() {
        let line = |revision, key: &'static str, place| Line {
            revision,
            key: Bytes::from_static(key.as_bytes()),
            place,
        };
        let batch = Batch {
            text: Bytes::from_static(b"aabbccdd"),
            lines: vec![
                line(1, "/a/1", 0..2),
                line(2, "/a/2", 2..4),
                line(3, "/b/1", 4..6),
                line(4, "/a/3", 6..8),
            ],
        };
        let select = |prefix: &str, after| {
            let mut out = Vec::new();
            batch.select(prefix.as_bytes(), after, &mut out);
            out
        };
        assert_eq!(select("/", 0), ["aabbccdd"]);
        assert_eq!(select("/a/", 0), ["aabb", "dd"]);
        assert_eq!(select("/a/", 1), ["bb", "dd"]);
        assert!(select("/", 4).is_empty());
    }
}
