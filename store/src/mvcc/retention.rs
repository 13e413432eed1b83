//! Which versions compaction gives up: what an engine may drop of a key when it rewrites some of its versions.

use crate::layout::{self, Op};
use crate::mutant::{self, Mutant};

/// Goes over items of family `kv` in their order, newest version of a key first, and decides about each.
///
/// It may be shown any part of the items, as a rewrite of some files does. So it drops only what an item that it was
/// shown proves to be superseded, and never a tombstone for its age: an older version that it must hide may be
/// anywhere. Tombstones are the sweep's.
#[derive(Debug)]
pub(crate) struct Retention {
    horizon: i64,
    /// The escaped key of the item before.
    key: Vec<u8>,
    /// The newest version shown of this key that is not above the horizon.
    in_force: Option<i64>,
}

impl Retention {
    /// Keeps what reads at `horizon` and later need, and the changes from that revision on.
    pub(crate) fn new(horizon: i64) -> Self {
        Self {
            horizon,
            key: Vec::new(),
            in_force: None,
        }
    }

    /// Whether an item stays. One that cannot be understood stays, for whoever reads it to complain.
    pub(crate) fn keeps(&mut self, stored_key: &[u8], stored: &[u8]) -> bool {
        let Ok(found) = layout::split_kv_key(stored_key) else {
            return true;
        };
        let revision = found.mod_revision;
        if found.escaped != self.key {
            self.key.clear();
            self.key.extend_from_slice(found.escaped);
            self.in_force = None;
        }
        if revision > self.horizon {
            return true;
        }
        if self.in_force.is_some_and(|in_force| in_force > revision) {
            return false;
        }
        if found.superseded.is_some() {
            // Only the history of its own revision tells it, which begins at the horizon.
            return revision == self.horizon;
        }
        self.in_force = Some(revision);
        if mutant::is_on(Mutant::DropTombstone) && revision < self.horizon {
            return !matches!(layout::kv_op(stored), Ok(Op::Delete));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Fields, Record};

    type Item = (Vec<u8>, Vec<u8>);

    fn item(key: &[u8], revision: i64, superseded: Option<u32>, op: Op) -> Item {
        let mut stored_key = Vec::new();
        match superseded {
            Some(sub) => layout::put_superseded_kv_key(&mut stored_key, key, revision, sub),
            None => layout::put_kv_key(&mut stored_key, key, revision),
        }
        let record = match op {
            Op::Put => Record::new(&Fields {
                key,
                create_revision: revision,
                mod_revision: revision,
                version: 1,
                value: b"value",
                lease: 0,
            }),
            Op::Delete => Record::tombstone(&mut Vec::new(), key, revision),
        };
        let mut stored = Vec::new();
        layout::put_kv_value(&mut stored, op, 0, &record);
        (stored_key, stored)
    }

    fn put(key: &[u8], revision: i64) -> Item {
        item(key, revision, None, Op::Put)
    }

    fn delete(key: &[u8], revision: i64) -> Item {
        item(key, revision, None, Op::Delete)
    }

    /// The places of the items that stay.
    fn kept(horizon: i64, items: &[Item]) -> Vec<usize> {
        assert!(items.is_sorted_by(|left, right| left.0 < right.0));
        let mut retention = Retention::new(horizon);
        let mut keeps = |place: &usize| retention.keeps(&items[*place].0, &items[*place].1);
        (0..items.len()).filter(|place| keeps(place)).collect()
    }

    #[test]
    fn the_newest_version_at_the_horizon_and_all_above_it_stay() {
        let items = [put(b"a", 9), put(b"a", 7), put(b"a", 5), put(b"a", 3)];
        assert_eq!(kept(-1, &items), [0, 1, 2, 3]);
        assert_eq!(kept(2, &items), [0, 1, 2, 3]);
        assert_eq!(kept(4, &items), [0, 1, 2, 3]);
        assert_eq!(kept(5, &items), [0, 1, 2]);
        assert_eq!(kept(6, &items), [0, 1, 2]);
        assert_eq!(kept(7, &items), [0, 1]);
        assert_eq!(kept(9, &items), [0]);
        assert_eq!(kept(100, &items), [0]);
    }

    #[test]
    fn each_key_is_judged_for_itself_also_one_that_begins_another() {
        let items = [put(b"a", 9), put(b"a\0", 5), put(b"a\0b", 4), put(b"ab", 3)];
        assert_eq!(kept(100, &items), [0, 1, 2, 3]);
    }

    #[test]
    fn a_tombstone_stays_unless_a_newer_version_is_shown() {
        let items = [delete(b"a", 7), put(b"a", 5), put(b"b", 8), delete(b"b", 6)];
        for horizon in [7, 8, 100] {
            let expected: &[usize] = if horizon == 7 { &[0, 2, 3] } else { &[0, 2] };
            assert_eq!(kept(horizon, &items), expected, "{horizon}");
        }
        assert_eq!(kept(100, &items[..1]), [0]);
        assert_eq!(kept(100, &items[3..]), [0]);
    }

    #[test]
    fn what_is_not_shown_proves_nothing() {
        // The newer version is in a file that is not rewritten now.
        let items = [put(b"a", 5), put(b"b", 9), put(b"c", 4)];
        assert_eq!(kept(100, &items), [0, 1, 2]);
    }

    #[test]
    fn a_version_superseded_within_its_revision_goes_when_its_revision_is_below_the_horizon() {
        let items = [
            put(b"a", 7),
            item(b"a", 7, Some(0), Op::Delete),
            item(b"a", 7, Some(1), Op::Put),
            put(b"a", 5),
            item(b"a", 5, Some(0), Op::Put),
        ];
        assert_eq!(kept(4, &items), [0, 1, 2, 3, 4]);
        assert_eq!(kept(5, &items), [0, 1, 2, 3, 4]);
        assert_eq!(kept(6, &items), [0, 1, 2, 3]);
        assert_eq!(kept(7, &items), [0, 1, 2]);
        assert_eq!(kept(8, &items), [0]);
        // Its own last write is elsewhere; that one hides older versions, too, but nothing here proves it.
        assert_eq!(kept(7, &items[1..]), [0, 1, 2]);
        assert_eq!(kept(8, &items[1..]), [2]);
    }

    #[test]
    fn what_cannot_be_understood_stays() {
        let items = [
            (b"\0\0short".to_vec(), Vec::new()),
            (b"a".to_vec(), vec![9]),
        ];
        assert_eq!(kept(100, &items), [0, 1]);
    }
}
