//! What the hub knows of a watcher and of the stream that it is on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::interest::Interest;
use super::outbox::{Item, Outbox};

/// A cursor in the history of some keys.
pub(super) struct Watcher {
    /// The hub's place for the stream.
    pub(super) stream: usize,
    /// Its name on the stream.
    pub(super) watch_id: i64,
    pub(super) interest: Arc<Interest>,
    pub(super) state: State,
    /// The start revision that was asked for, or 0: before it nothing is sent, not even progress.
    pub(super) not_before: i64,
    pub(super) wants_progress: bool,
    /// Whether catching up sent it anything since the stream's last progress tick.
    pub(super) was_sent: bool,
}

impl Watcher {
    /// What it takes at most, with its places in the lists that it is in. Those that want the same share a part of it.
    pub(super) fn bytes(&self) -> usize {
        const LISTS: usize = 512;
        LISTS + self.interest.range.bytes()
    }
}

/// Where a watcher's cursor is and who moves it. The cursor is the last revision that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// At the hub's revision; in a group.
    Live,
    /// It starts at this revision, which the hub has not reached.
    Waiting(i64),
    /// Behind, and to be brought forward.
    Behind(i64),
    /// Part of a running read of history.
    Scanning(i64),
    /// Behind, and the stream has no room.
    Stuck(i64),
}

/// One stream.
pub(super) struct StreamState {
    /// Its number for life; places are reused.
    pub(super) serial: u64,
    pub(super) outbox: Arc<Outbox>,
    /// The hub's place for the shard that it is on; none if it is woken by itself.
    pub(super) shard: Option<usize>,
    /// Watchers by id: the hub's keys.
    pub(super) watchers: HashMap<i64, u64>,
    /// The next id that the server tries.
    pub(super) next_id: i64,
    /// What this step says on it.
    pub(super) staged: Vec<Item>,
    /// Whether it is in the list of streams to flush.
    pub(super) is_dirty: bool,
    /// Watchers in the state `Stuck`; some may have gone.
    pub(super) stuck: Vec<u64>,
    /// Whether room was asked for.
    pub(super) awaits_room: bool,
    /// Requests seen in this step.
    pub(super) requests: usize,
    /// When the next progress notices are due, if any watcher wants them.
    pub(super) progress_at: Option<Duration>,
    /// Found when progress was asked for: there are watchers, and all are live and have begun.
    pub(super) is_complete: bool,
}

impl StreamState {
    pub(super) fn new(serial: u64, outbox: Arc<Outbox>, shard: Option<usize>) -> Self {
        Self {
            serial,
            outbox,
            shard,
            watchers: HashMap::new(),
            next_id: 0,
            staged: Vec::new(),
            is_dirty: false,
            stuck: Vec::new(),
            awaits_room: false,
            requests: 0,
            progress_at: None,
            is_complete: false,
        }
    }

    /// A watcher came, went, or is live no more.
    pub(super) fn set_incomplete(&mut self) {
        if self.is_complete {
            self.is_complete = false;
            self.outbox.set_complete(false);
        }
    }

    /// Queues an item; it leaves with the next flush.
    pub(super) fn stage(&mut self, item: Item) {
        self.outbox.reserve(&item);
        self.staged.push(item);
    }
}
