//! Bytes for a disk that takes them straight from memory: aligned, and padded to whole blocks.

use std::ops::{Deref, DerefMut};

/// What offset, length and place in memory of a direct write are multiples of. No disk in use asks for more.
pub const BLOCK: usize = 4096;

/// A growing buffer whose first byte stands at a multiple of [`BLOCK`] in memory.
#[derive(Debug, Default)]
pub struct Blocks {
    /// The content, behind what aligns it.
    bytes: Vec<u8>,
    start: usize,
}

impl Blocks {
    /// So many zeros.
    pub fn zeros(len: usize) -> Self {
        let mut blocks = Self::with_capacity(len);
        blocks.bytes.resize(blocks.start + len, 0);
        blocks
    }

    fn with_capacity(len: usize) -> Self {
        let mut bytes = Vec::<u8>::with_capacity(len + BLOCK);
        let start = bytes.as_ptr().align_offset(BLOCK);
        bytes.resize(start, 0);
        Self { bytes, start }
    }

    /// Appends bytes.
    pub fn extend_from_slice(&mut self, more: &[u8]) {
        self.make_room(more.len());
        self.bytes.extend_from_slice(more);
    }

    /// Appends zeros up to the end of the block.
    pub fn pad(&mut self) {
        let padded = self.len().next_multiple_of(BLOCK);
        self.make_room(padded - self.len());
        self.bytes.resize(self.start + padded, 0);
    }

    /// Forgets what follows the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start + len);
    }

    /// Moves the bytes from `from` on, a multiple of a block, to the front, and gives back memory beyond `kept` bytes.
    pub fn keep_from(&mut self, from: usize, kept: usize) {
        if self.bytes.capacity() > kept + 2 * BLOCK {
            let mut smaller = Self::with_capacity(self.len() - from);
            smaller.extend_from_slice(&self[from..]);
            *self = smaller;
        } else {
            let len = self.len() - from;
            self.copy_within(from.., 0);
            self.truncate(len);
        }
    }

    /// The allocator may move a vector that grows to another alignment, so it never does.
    fn make_room(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let mut larger = Self::with_capacity(needed.max(2 * self.bytes.capacity()));
            larger.bytes.extend_from_slice(self);
            *self = larger;
        }
    }
}

impl Deref for Blocks {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl DerefMut for Blocks {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

/// Whether a direct write may do this.
pub(super) fn is_whole(offset: u64, bytes: &[u8]) -> bool {
    offset.is_multiple_of(BLOCK as u64)
        && bytes.len().is_multiple_of(BLOCK)
        && bytes.as_ptr().align_offset(BLOCK) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_stays_aligned_however_it_grows_and_shrinks() {
        let mut blocks = Blocks::default();
        let mut expected = Vec::new();
        for round in 0..200_u8 {
            let more = vec![round; usize::from(round) * 37 % 9000];
            blocks.extend_from_slice(&more);
            expected.extend_from_slice(&more);
            if round % 3 == 0 {
                blocks.pad();
                expected.resize(expected.len().next_multiple_of(BLOCK), 0);
                assert!(blocks.is_empty() || is_whole(0, &blocks));
            }
            if round % 7 == 0 {
                let from = expected.len() / 2 / BLOCK * BLOCK;
                blocks.keep_from(from, if round % 2 == 0 { 0 } else { 1 << 20 });
                expected.drain(..from);
            }
            if round % 11 == 0 {
                let len = expected.len() / 2;
                blocks.truncate(len);
                expected.truncate(len);
            }
            assert_eq!(*blocks, *expected, "in round {round}");
        }
    }

    #[test]
    fn a_write_that_is_not_whole_is_told_apart() {
        let blocks = Blocks::zeros(3 * BLOCK);
        assert!(is_whole(8192, &blocks[BLOCK..]));
        assert!(!is_whole(8191, &blocks));
        assert!(!is_whole(0, &blocks[..BLOCK - 1]));
        assert!(!is_whole(0, &blocks[1..=BLOCK]));
    }
}
