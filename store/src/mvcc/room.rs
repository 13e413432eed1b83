//! What the answer of one request may weigh, and whether anybody here wants it.
//!
//! Whether there is room depends on the request and the state alone: every member, and every replay, decides alike.

use std::cell::Cell;

/// Most bytes of keys and values that one transaction or range delete answers, and that a sort by value holds.
pub const ANSWER_BYTES: u64 = 256 << 20;

/// What each key costs in memory beside its own bytes.
pub(crate) const KEY_BYTES: u64 = 128;

/// Counts down while answers are built.
#[derive(Debug)]
pub(crate) struct Room {
    left: Cell<u64>,
    is_over: Cell<bool>,
    is_empty: Cell<bool>,
    /// Of one page of an answer: it ends where its room does, with one record at least, and counts nothing.
    pub(crate) is_page: bool,
    /// Whether the answer is read by anybody; if not, only its length counts.
    pub(crate) is_wanted: bool,
}

impl Room {
    pub(crate) fn new(is_wanted: bool) -> Self {
        Self {
            left: Cell::new(ANSWER_BYTES),
            is_over: Cell::new(false),
            is_empty: Cell::new(true),
            is_page: false,
            is_wanted,
        }
    }

    /// Of a page of so many bytes of records.
    pub(crate) fn of_page(bytes: u64) -> Self {
        Self {
            left: Cell::new(bytes),
            is_page: true,
            ..Self::new(true)
        }
    }

    /// Takes the room of one record; false if there is not enough.
    pub(crate) fn take(&self, encoded_len: u64) -> bool {
        let is_first = self.is_empty.replace(false);
        let beside = if self.is_page { 0 } else { KEY_BYTES };
        let left = self.left.get().checked_sub(encoded_len + beside);
        match left {
            Some(left) if !self.is_over.get() => self.left.set(left),
            None if self.is_page && is_first => self.left.set(0),
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
