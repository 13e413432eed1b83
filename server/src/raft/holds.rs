//! Which part of the log must stay because a snapshot is being sent.
//!
//! Who gets a snapshot goes on with the entries behind it. Sending 100 GiB takes long, and the log would be purged far
//! beyond the snapshot meanwhile: the next thing to be sent would be another snapshot, for ever.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The places from which on the log is needed.
#[derive(Clone, Default)]
pub(crate) struct Holds {
    indexes: Arc<Mutex<BTreeMap<u64, usize>>>,
}

/// Keeps the log behind an entry until it is dropped.
pub(crate) struct Hold {
    indexes: Arc<Mutex<BTreeMap<u64, usize>>>,
    index: u64,
}

impl Holds {
    /// Entries behind this one are needed.
    pub(crate) fn hold(&self, index: u64) -> Hold {
        *self.indexes.lock().entry(index).or_default() += 1;
        Hold {
            indexes: self.indexes.clone(),
            index,
        }
    }

    /// The last entry that nobody needs.
    pub(crate) fn oldest(&self) -> u64 {
        let indexes = self.indexes.lock();
        indexes.keys().next().copied().unwrap_or(u64::MAX)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut indexes = self.indexes.lock();
        if let Some(count) = indexes.get_mut(&self.index) {
            *count -= 1;
            if *count == 0 {
                indexes.remove(&self.index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_hold_counts_until_all_of_its_place_are_dropped() {
        let holds = Holds::default();
        assert_eq!(holds.oldest(), u64::MAX);
        let (newer, one, other) = (holds.hold(9), holds.hold(4), holds.hold(4));
        drop(one);
        assert_eq!(holds.oldest(), 4);
        drop(other);
        assert_eq!(holds.oldest(), 9);
        drop(newer);
        assert_eq!(holds.oldest(), u64::MAX);
    }
}
