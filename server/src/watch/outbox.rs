//! What waits to be sent on one stream, handed from the hub's thread to the connection's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;
use store::mutant::{self, Mutant};

use super::frame::Payload;
use super::room::Room;

/// Bookkeeping of one item, on top of its payload.
const ITEM_BYTES: usize = 96;
/// Requests that the hub has not seen yet; more are not read from the connection.
const REQUESTS_MAX: usize = 256;

/// One thing to say on a stream. The order of items is part of the contract.
#[derive(Debug)]
pub enum Item {
    /// The same events for several watchers: one response each.
    Events(Events),
    /// Something about one watcher, or all.
    Notice(Notice),
}

/// Events for the watchers of one interest on one stream.
#[derive(Debug)]
pub struct Events {
    /// Which watchers.
    pub watch_ids: Arc<Vec<i64>>,
    /// They have now seen everything up to here.
    pub revision: i64,
    /// The raft term.
    pub term: u64,
    /// More of the same response follows.
    pub has_more: bool,
    /// The events.
    pub payload: Arc<Payload>,
}

/// A response without events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whom it is about; -1 for the whole stream.
    pub watch_id: i64,
    /// The store's revision.
    pub revision: i64,
    /// The raft term.
    pub term: u64,
    /// What it says.
    pub kind: NoticeKind,
}

/// What a notice says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// The watcher exists.
    Created,
    /// The watcher could not be made.
    Refused(Refused),
    /// The watcher ended, as was asked.
    Canceled,
    /// The watcher ended because history up to here is gone.
    Compacted(i64),
    /// Everything up to the notice's revision was sent.
    Progress,
}

/// Why a watcher was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A negative start revision.
    Revision,
    /// The range holds no key.
    EmptyRange,
    /// The id is in use on this stream.
    DuplicateId,
    /// The watchers there are take all memory that they may.
    TooMany,
}

/// Why the hub ended a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The node is going down.
    Stopped,
    /// The store could not be read.
    Fault,
}

/// What [`super::Stream::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Items were handed over.
    Items,
    /// Nothing yet; the waker will be called.
    Nothing,
    /// Nothing, and nothing will come.
    End(End),
}

impl Item {
    /// What it counts for in its queue. Payloads are shared, so this is more than it really costs.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Events(events) => ITEM_BYTES + events.payload.len(),
            Self::Notice(_) => ITEM_BYTES,
        }
    }
}

/// The queue of a stream, bounded by bytes.
pub(super) struct Outbox {
    state: Mutex<State>,
    room: Arc<Room>,
    /// Of everything that was queued, or is about to be, and not yet sent.
    bytes: AtomicUsize,
    items: AtomicUsize,
    /// Something was not queued for lack of room: the hub wants to hear when there is some.
    is_awaited: AtomicBool,
    requests: AtomicUsize,
    /// Every watcher of the stream was told all that the hub has told anybody, and there is one.
    is_complete: AtomicBool,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    waker: Option<Waker>,
    end: Option<End>,
}

impl Outbox {
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self {
            state: Mutex::new(State::default()),
            room,
            bytes: AtomicUsize::new(0),
            items: AtomicUsize::new(0),
            is_awaited: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            is_complete: AtomicBool::new(false),
        }
    }

    /// Hub: whether another response may be queued.
    pub(super) fn has_room(&self) -> bool {
        self.bytes() < self.room.of_stream()
    }

    /// Hub: counts an item that [`Outbox::extend`] will add.
    pub(super) fn reserve(&self, item: &Item) {
        self.bytes.fetch_add(item.bytes(), Ordering::SeqCst);
        self.items.fetch_add(1, Ordering::Relaxed);
        self.room.take(ITEM_BYTES);
    }

    /// Hub: adds items, each of which was counted, says how many requests it has seen, whose answers are among them, and
    /// gives the waker of the reader, if it sleeps.
    pub(super) fn extend(&self, items: &mut Vec<Item>, requests: usize) -> Option<Waker> {
        let mut state = self.state.lock();
        state.items.extend(items.drain(..));
        self.requests.fetch_sub(requests, Ordering::SeqCst);
        state.waker.take()
    }

    /// Hub: nothing comes any more.
    pub(super) fn end(&self, end: End) -> Option<Waker> {
        let mut state = self.state.lock();
        state.end.get_or_insert(end);
        state.waker.take()
    }

    /// Hub: asks to be told when there is room; false if there is some already.
    pub(super) fn await_room(&self) -> bool {
        // Flag first, then bytes; the reader does it the other way round. So one of the two sees the other.
        self.is_awaited.store(true, Ordering::SeqCst);
        if self.has_drained() {
            !self.is_awaited.swap(false, Ordering::SeqCst)
        } else {
            true
        }
    }

    /// Hub: whether every watcher of the stream is told everything. True only once what it was told is in the queue, and
    /// false before the request that made it so counts as seen, and before the hub says that it has told others more.
    pub(super) fn set_complete(&self, is_complete: bool) {
        self.is_complete.store(is_complete, Ordering::SeqCst);
    }

    /// Reader: takes everything, or registers the waker if there is nothing.
    pub(super) fn take(&self, into: &mut VecDeque<Item>, waker: &Waker) -> Taken {
        let mut state = self.state.lock();
        if !state.items.is_empty() {
            into.append(&mut state.items);
            return Taken::Items;
        }
        // An idle stream holds no memory for what once waited.
        if state.items.capacity() > 16 {
            state.items = VecDeque::new();
        }
        if let Some(end) = state.end {
            return Taken::End(end);
        }
        match &mut state.waker {
            Some(known) => known.clone_from(waker),
            None => state.waker = Some(waker.clone()),
        }
        Taken::Nothing
    }

    /// Reader: takes everything, if nothing that was asked is open and every watcher is told everything.
    pub(super) fn take_if_complete(&self, into: &mut VecDeque<Item>) -> bool {
        let mut state = self.state.lock();
        // Requests first: a watcher that one of them made is known to the hub before it counts as seen.
        let is_open = self.requests.load(Ordering::SeqCst) > 0;
        let is_complete =
            self.is_complete.load(Ordering::SeqCst) || mutant::is_on(Mutant::ProgressAhead);
        if is_open || !is_complete || state.end.is_some() || into.len() >= REQUESTS_MAX {
            return false;
        }
        into.append(&mut state.items);
        true
    }

    /// Reader: an item has gone out. True if the hub waits for room and there is some now.
    pub(super) fn sent(&self, item: &Item) -> bool {
        self.bytes.fetch_sub(item.bytes(), Ordering::SeqCst);
        self.items.fetch_sub(1, Ordering::Relaxed);
        self.room.give_back(ITEM_BYTES);
        self.is_awaited.load(Ordering::SeqCst)
            && self.has_drained()
            && self.is_awaited.swap(false, Ordering::SeqCst)
    }

    /// Reader: counts a request, which the hub will count down.
    pub(super) fn request_made(&self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
    }

    /// Reader: whether more requests may be read.
    pub(super) fn takes_requests(&self) -> bool {
        self.requests.load(Ordering::SeqCst) < REQUESTS_MAX && self.has_room()
    }

    fn has_drained(&self) -> bool {
        self.bytes() <= self.room.of_stream() / 2
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Outbox {
    /// What was never sent is held no more.
    fn drop(&mut self) {
        self.room.give_back(*self.items.get_mut() * ITEM_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Item {
        Item::Notice(Notice {
            watch_id: -1,
            revision: 1,
            term: 1,
            kind: NoticeKind::Progress,
        })
    }

    fn outbox() -> Outbox {
        Outbox::new(Room::new(usize::MAX, ITEM_BYTES))
    }

    fn queue(outbox: &Outbox) {
        outbox.reserve(&progress());
        outbox.extend(&mut vec![progress()], 0);
    }

    #[test]
    fn a_reader_that_makes_room_is_noticed_whoever_comes_first() {
        let outbox = outbox();
        queue(&outbox);
        queue(&outbox);
        assert!(
            outbox.await_room(),
            "the queue is full, so the reader will tell"
        );
        assert!(!outbox.sent(&progress()), "one is too many still");
        assert!(outbox.sent(&progress()));
        queue(&outbox);
        assert!(!outbox.sent(&progress()), "it tells once");
        assert!(
            !outbox.await_room(),
            "the reader was first, so it will not tell"
        );
        queue(&outbox);
        assert!(!outbox.sent(&progress()));
    }

    #[test]
    fn requests_are_read_only_while_hub_and_reader_keep_up() {
        let outbox = outbox();
        (0..REQUESTS_MAX).for_each(|_| outbox.request_made());
        assert!(!outbox.takes_requests());
        outbox.extend(&mut Vec::new(), 1);
        assert!(outbox.takes_requests());
        queue(&outbox);
        assert!(!outbox.takes_requests());
    }

    #[test]
    fn a_stream_is_complete_while_nothing_is_asked_and_it_has_not_ended() {
        let outbox = Outbox::new(Room::new(1 << 20, 1 << 20));
        let mut taken = VecDeque::new();
        assert!(!outbox.take_if_complete(&mut taken), "not yet");
        outbox.set_complete(true);
        assert!(outbox.take_if_complete(&mut taken));
        outbox.request_made();
        outbox.reserve(&progress());
        assert!(!outbox.take_if_complete(&mut taken), "something is asked");
        outbox.extend(&mut vec![progress()], 1);
        assert!(outbox.take_if_complete(&mut taken));
        assert_eq!(taken.len(), 1, "the answer to that comes first");
        outbox.set_complete(false);
        assert!(!outbox.take_if_complete(&mut taken), "a watcher came");
        outbox.set_complete(true);
        outbox.end(End::Stopped);
        assert!(!outbox.take_if_complete(&mut taken), "it is over");
    }

    #[test]
    fn what_a_stream_held_is_free_when_it_is_gone() {
        let room = Room::new(10 * ITEM_BYTES, 5 * ITEM_BYTES);
        let outbox = Outbox::new(room.clone());
        (0..3).for_each(|_| queue(&outbox));
        outbox.sent(&progress());
        assert_eq!(room.used(), 2 * ITEM_BYTES);
        drop(outbox);
        assert_eq!(room.used(), 0);
    }
}
