//! Finding a key in a node without looking at each key: the first bytes that differ stand side by side.
//!
//! Keys are in allocations of their own, so each comparison of a binary search is a cache miss. The keys of a node
//! mostly begin alike; the four bytes behind that common beginning nearly always tell them apart.

use smallvec::SmallVec;

/// Beginnings of the keys of one node, in key order.
#[derive(Clone, Debug, Default)]
pub(super) struct Heads {
    /// All keys agree in this many first bytes.
    common: usize,
    /// The four bytes behind, as big-endian numbers; missing ones count as zero.
    heads: SmallVec<[u32; WIDTH]>,
}

/// The most keys that a node holds.
pub(super) const WIDTH: usize = 32;

impl Heads {
    /// Reads the heads of sorted keys.
    pub(super) fn of<'k>(
        keys: impl DoubleEndedIterator<Item = &'k [u8]> + ExactSizeIterator + Clone,
    ) -> Self {
        let mut ends = keys.clone();
        let first = ends.next().unwrap_or_default();
        let common = ends
            .next_back()
            .map_or(first.len(), |last| common_len(first, last));
        Self {
            common,
            heads: keys.map(|key| head(key, common)).collect(),
        }
    }

    /// Where `key` stands, as `binary_search` says it; `key_at` gives the keys that this was made of.
    pub(super) fn search<'k>(
        &self,
        key: &[u8],
        key_at: impl Fn(usize) -> &'k [u8],
    ) -> Result<usize, usize> {
        let len = self.heads.len();
        if len == 0 {
            return Err(0);
        }
        let wanted = head(key, self.common);
        let mut place = self.heads.partition_point(|&head| head < wanted);
        let other = key_at(place.min(len - 1));
        let common = self.common.min(key.len());
        match key[..common].cmp(&other[..common]) {
            std::cmp::Ordering::Less => return Err(0),
            std::cmp::Ordering::Greater => return Err(len),
            std::cmp::Ordering::Equal if key.len() < self.common => return Err(0),
            std::cmp::Ordering::Equal => {}
        }
        while place < len && self.heads[place] == wanted {
            match key_at(place)[common..].cmp(&key[common..]) {
                std::cmp::Ordering::Less => place += 1,
                std::cmp::Ordering::Equal => return Ok(place),
                std::cmp::Ordering::Greater => return Err(place),
            }
        }
        Err(place)
    }

    /// Adds the head of `key` at `place`; false if it does not begin as the others, and all must be read anew.
    #[must_use]
    pub(super) fn insert(&mut self, place: usize, key: &[u8], other: &[u8]) -> bool {
        let begins_alike = key
            .get(..self.common)
            .is_some_and(|begin| begin == &other[..self.common]);
        if begins_alike {
            self.heads.insert(place, head(key, self.common));
        }
        begins_alike
    }

    /// Removes the head at `place`.
    pub(super) fn remove(&mut self, place: usize) {
        self.heads.remove(place);
    }
}

/// In how many first bytes two keys agree.
pub(super) fn common_len(left: &[u8], right: &[u8]) -> usize {
    left.iter()
        .zip(right)
        .take_while(|(left, right)| left == right)
        .count()
}

fn head(key: &[u8], common: usize) -> u32 {
    let rest = key.get(common..).unwrap_or_default();
    match rest.first_chunk() {
        Some(bytes) => u32::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 4];
            bytes[..rest.len()].copy_from_slice(rest);
            u32::from_be_bytes(bytes)
        }
    }
}
