//! A watcher on each member, which goes on where it was through all lives of the member, and wanderers, who go on where
//! they were on another member. None of them misses anything.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use openraft_rt::AsyncRuntime;
use prost::Message;
use proto::etcd::etcdserverpb::WatchResponse;
use proto::etcd::mvccpb::event::EventType;
use proto::etcd::mvccpb::{Event, KeyValue};
use rand::RngExt;
use server::node::Node;
use server::watch::{Create, Events, Item, KeyRange, NoticeKind, Request, Stream, Taken};

use crate::ledger::{Change, Version, Violation};
use crate::sim::Simulation;
use crate::sim_node::clients::Shared;

/// Watches everything, from behind the cursor on, until the member's life ends.
pub(super) async fn watch(node: Node, shared: Arc<Shared>, cursor: Arc<AtomicI64>) {
    if let Err(violation) = follow(&node, &shared, &cursor, || true).await {
        shared.fail(violation);
    }
}

/// How long a wanderer stays on a member before another one takes it over, in milliseconds, at least and at most.
const STAY_MS: std::ops::Range<u64> = 20..2_000;

/// A watcher that is on one member at a time.
#[derive(Debug)]
pub(super) struct Wanderer {
    /// The last revision that it saw.
    pub(super) cursor: AtomicI64,
    /// How often it has moved: whoever had it before sees by that that it has gone.
    moves: AtomicU64,
}

impl Wanderer {
    pub(super) fn new() -> Wanderer {
        Wanderer {
            cursor: AtomicI64::new(1),
            moves: AtomicU64::new(0),
        }
    }
}

/// Takes the wanderer over again and again, until the member's life ends: so do all members, each in its own time.
pub(super) async fn host(node: Node, shared: Arc<Shared>, wanderer: Arc<Wanderer>) {
    let mut rng = Simulation::thread_rng();
    loop {
        Simulation::sleep(Duration::from_millis(rng.random_range(STAY_MS))).await;
        let moves = wanderer.moves.fetch_add(1, Ordering::Relaxed) + 1;
        let is_here = || wanderer.moves.load(Ordering::Relaxed) == moves;
        match follow(&node, &shared, &wanderer.cursor, is_here).await {
            Ok(Left::Moved) => {}
            Ok(Left::Ended) => return,
            Err(violation) => {
                shared.fail(violation);
                return;
            }
        }
    }
}

/// Why a member has a watcher no longer.
enum Left {
    /// The hub ended.
    Ended,
    /// It is on another member.
    Moved,
}

fn create(stream: &Stream, cursor: &AtomicI64) {
    stream.request(Request::Create(Create {
        range: KeyRange::new(b"\0", b"\0"),
        start_revision: cursor.load(Ordering::Relaxed) + 1,
        watch_id: 0,
        progress_notify: false,
        without_puts: false,
        without_deletes: false,
        with_previous: false,
        fragment: false,
    }));
}

async fn follow(
    node: &Node,
    shared: &Shared,
    cursor: &AtomicI64,
    is_here: impl Fn() -> bool,
) -> Result<Left, Violation> {
    let mut rng = Simulation::thread_rng();
    let mut stream = node.hub().open();
    create(&stream, cursor);
    let mut items = VecDeque::new();
    loop {
        let taken = poll_fn(|context| match stream.take(&mut items, context.waker()) {
            Taken::Nothing => Poll::Pending,
            taken => Poll::Ready(taken),
        });
        if let Taken::End(_) = taken.await {
            return Ok(Left::Ended);
        }
        // Some readers are slow.
        if rng.random_ratio(1, 20) {
            Simulation::sleep(Duration::from_millis(rng.random_range(0..50))).await;
        }
        if !is_here() {
            return Ok(Left::Moved);
        }
        // Now and then a connection breaks with what was on its way.
        if rng.random_ratio(1, 100) {
            items.clear();
            stream = node.hub().open();
            create(&stream, cursor);
        }
        for item in items.drain(..) {
            match &item {
                Item::Events(events) => take(events, shared, cursor)?,
                Item::Notice(notice) => match notice.kind {
                    NoticeKind::Created | NoticeKind::Progress => {}
                    NoticeKind::Compacted(compacted) => {
                        let seen = cursor.fetch_max(compacted, Ordering::Relaxed);
                        if compacted <= seen {
                            return Err(Violation(format!(
                                "a watcher that had seen {seen} was ended by a compaction at {compacted}"
                            )));
                        }
                        create(&stream, cursor);
                    }
                    NoticeKind::Refused(_) | NoticeKind::Canceled => {
                        return Err(Violation(format!("a watcher was told {notice:?}")));
                    }
                },
            }
            stream.sent(&item);
        }
    }
}

/// Shows the ledger what a watcher was told: each revision whole, the next one after the last.
fn take(events: &Events, shared: &Shared, cursor: &AtomicI64) -> Result<(), Violation> {
    let framed = events.payload.parts().concat();
    let response = WatchResponse::decode(&framed[..]).map_err(|error| {
        Violation(format!(
            "a watcher was told what is not understood: {error}"
        ))
    })?;
    let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
    for set in response.events.chunk_by(|a, b| revision(a) == revision(b)) {
        let revision = revision(&set[0]);
        let seen = cursor.load(Ordering::Relaxed);
        if revision != seen + 1 {
            return Err(Violation(format!(
                "a watcher was told of revision {revision} after {seen}"
            )));
        }
        let mut changes: Vec<Change> = set.iter().filter_map(change).collect();
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        shared.ledger.lock().observe(revision, changes)?;
        cursor.store(revision, Ordering::Relaxed);
    }
    Ok(())
}

fn change(event: &Event) -> Option<Change> {
    let KeyValue {
        key,
        create_revision,
        mod_revision,
        version,
        value,
        ..
    } = event.kv.clone()?;
    let found = Version {
        value,
        create_revision,
        mod_revision,
        version,
    };
    Some(Change {
        key,
        version: (event.r#type() == EventType::Put).then_some(found),
    })
}
