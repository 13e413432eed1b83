//! How much work a read may do before it is given up.

use std::cell::Cell;

/// Work of reading one item from the engine, where an item in memory counts one.
const ENGINE_ITEM: u64 = 8;
/// Bytes read from the engine that count one.
const ENGINE_BYTES: u64 = 256;

/// Counts the work of one read.
pub(crate) struct Pace<'a> {
    left: Cell<u64>,
    is_over: Cell<bool>,
    goes_on: &'a dyn Fn() -> bool,
}

impl<'a> Pace<'a> {
    /// So much work, as long as `goes_on` says so, which is asked at each item read from the engine.
    pub(crate) fn new(work: u64, goes_on: &'a dyn Fn() -> bool) -> Self {
        Self {
            left: Cell::new(work),
            is_over: Cell::new(false),
            goes_on,
        }
    }

    /// Takes so many items in memory into account; false if that is too much.
    pub(crate) fn spend(&self, work: u64) -> bool {
        match self.left.get().checked_sub(work) {
            Some(left) => self.left.set(left),
            None => self.is_over.set(true),
        }
        !self.is_over.get()
    }

    /// Takes one item of this length, read from the engine, into account; false if that is too much.
    pub(crate) fn read(&self, len: u64) -> bool {
        if !(self.goes_on)() {
            self.is_over.set(true);
        }
        self.spend(ENGINE_ITEM + len / ENGINE_BYTES)
    }

    /// Whether the read was given up: what it found is worth nothing then.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.get()
    }
}
