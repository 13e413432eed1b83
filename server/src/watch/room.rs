//! The memory that all streams share for what waits to be sent.
//!
//! What is counted is what is really held: events that many streams wait to send are there once, and counted once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The least that a stream may queue is this part of the most: a stream that reads goes on, however many others do not.
const LEAST: usize = 32;

/// How much waits on all streams together, and how much of it one of them may queue.
///
/// In use is never more than `all`, and for each stream its least and one response.
#[derive(Debug)]
pub(super) struct Room {
    used: AtomicUsize,
    all: usize,
    stream: usize,
}

impl Room {
    pub(super) fn new(all: usize, stream: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            all,
            stream,
        })
    }

    /// What one stream may queue now: less when others hold much.
    pub(super) fn of_stream(&self) -> usize {
        let free = self.all.saturating_sub(self.used());
        self.stream.min(free.max(self.stream / LEAST))
    }

    /// What is held.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes that are held for as long as this lives.
#[derive(Debug)]
pub(super) struct Held {
    room: Arc<Room>,
    bytes: usize,
}

impl Held {
    pub(super) fn new(room: &Arc<Room>, bytes: usize) -> Self {
        room.take(bytes);
        Self {
            room: room.clone(),
            bytes,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_may_queue_less_when_much_is_held_and_never_nothing() {
        let room = Room::new(1000, 640);
        assert_eq!(room.of_stream(), 640);
        let half = Held::new(&room, 500);
        assert_eq!(room.of_stream(), 500);
        let more = Held::new(&room, 900);
        assert_eq!((room.of_stream(), room.used()), (20, 1400));
        drop((half, more));
        assert_eq!((room.of_stream(), room.used()), (640, 0));
    }
}
