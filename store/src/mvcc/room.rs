//! What the answer of one request may weigh, and whether anybody here wants it.
//!
//! Whether there is room depends on the request and the state alone: every member, and every replay, decides alike.

use std::cell::Cell;

/// Most bytes of keys and values that one transaction or range delete answers.
pub const ANSWER_BYTES: u64 = 256 << 20;

/// What each key costs in memory beside its own bytes.
const KEY_BYTES: u64 = 128;

/// Counts down while answers are built.
#[derive(Debug)]
pub(crate) struct Room {
    left: Cell<u64>,
    is_over: Cell<bool>,
    /// Whether the answer is read by anybody; if not, only its length counts.
    pub(crate) is_wanted: bool,
}

impl Room {
    pub(crate) fn new(is_wanted: bool) -> Self {
        Self {
            left: Cell::new(ANSWER_BYTES),
            is_over: Cell::new(false),
            is_wanted,
        }
    }

    /// Takes the room of one record; false if there is not enough.
    pub(crate) fn take(&self, encoded_len: u64) -> bool {
        let left = self.left.get().checked_sub(encoded_len + KEY_BYTES);
        match left {
            Some(left) if !self.is_over.get() => self.left.set(left),
            _ => self.is_over.set(true),
        }
        !self.is_over.get()
    }

    /// Whether records of these lengths would fit; if not, nothing does any more.
    pub(crate) fn fits(&self, encoded_lens: impl Iterator<Item = u64>) -> bool {
        let mut left = self.left.get();
        for len in encoded_lens {
            match left.checked_sub(len + KEY_BYTES) {
                Some(rest) => left = rest,
                None => {
                    self.is_over.set(true);
                    break;
                }
            }
        }
        !self.is_over.get()
    }

    /// Whether something did not fit.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.get()
    }
}
