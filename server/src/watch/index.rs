//! From a key to the numbers of all ranges that contain it.
//!
//! Exact keys and prefixes, which is what nearly all watchers want, cost a hash look-up (one for each length of prefix
//! in use); other ranges an interval search; ranges over everything a list.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use smallvec::SmallVec;

use super::interest::KeyRange;

type Numbers = SmallVec<[usize; 2]>;

/// Ranges by number.
#[derive(Default)]
pub(super) struct Index {
    exact: HashMap<Bytes, Numbers>,
    prefixes: HashMap<Bytes, Numbers>,
    /// How many distinct prefixes of each length there are.
    lengths: BTreeMap<usize, usize>,
    intervals: Intervals,
    all: Vec<usize>,
}

impl Index {
    /// Adds a range under a number that no other range has.
    pub(super) fn insert(&mut self, range: &KeyRange, number: usize) {
        match range {
            KeyRange::One(key) => self.exact.entry(key.clone()).or_default().push(number),
            KeyRange::Prefix(prefix) => {
                let numbers = self.prefixes.entry(prefix.clone()).or_default();
                if numbers.is_empty() {
                    *self.lengths.entry(prefix.len()).or_default() += 1;
                }
                numbers.push(number);
            }
            KeyRange::Between(from, to) => {
                self.intervals.insert(Interval {
                    from: from.clone(),
                    to: Some(to.clone()),
                    number: Some(number),
                });
            }
            KeyRange::From(from) => {
                self.intervals.insert(Interval {
                    from: from.clone(),
                    to: None,
                    number: Some(number),
                });
            }
            KeyRange::All => self.all.push(number),
        }
    }

    /// Takes a range out again.
    pub(super) fn remove(&mut self, range: &KeyRange, number: usize) {
        match range {
            KeyRange::One(key) => {
                remove_from(&mut self.exact, key, number);
            }
            KeyRange::Prefix(prefix) => {
                if remove_from(&mut self.prefixes, prefix, number)
                    && let Some(count) = self.lengths.get_mut(&prefix.len())
                {
                    *count -= 1;
                    if *count == 0 {
                        self.lengths.remove(&prefix.len());
                    }
                }
            }
            KeyRange::Between(from, _) | KeyRange::From(from) => {
                self.intervals.remove(from, number)
            }
            KeyRange::All => self.all.retain(|known| *known != number),
        }
    }

    /// Calls `found` once for each range that contains the key.
    pub(super) fn for_each(&self, key: &[u8], mut found: impl FnMut(usize)) {
        if !self.exact.is_empty()
            && let Some(numbers) = self.exact.get(key)
        {
            numbers.iter().for_each(|number| found(*number));
        }
        for length in self.lengths.keys() {
            let Some(start) = key.get(..*length) else {
                break;
            };
            if let Some(numbers) = self.prefixes.get(start) {
                numbers.iter().for_each(|number| found(*number));
            }
        }
        self.intervals.for_each(key, &mut found);
        self.all.iter().for_each(|number| found(*number));
    }
}

/// Returns whether the key is gone from the map.
fn remove_from(map: &mut HashMap<Bytes, Numbers>, key: &Bytes, number: usize) -> bool {
    let Some(numbers) = map.get_mut(key) else {
        return false;
    };
    numbers.retain(|known| *known != number);
    let is_gone = numbers.is_empty();
    if is_gone {
        map.remove(key);
    }
    is_gone
}

struct Interval {
    from: Bytes,
    /// Excluded; none for no end.
    to: Option<Bytes>,
    /// None once it was removed.
    number: Option<usize>,
}

impl Interval {
    fn ends_behind(&self, key: &[u8]) -> bool {
        self.to.as_ref().is_none_or(|to| key < &to[..])
    }

    fn reaches_further_than(&self, other: &Self) -> bool {
        other.to.as_ref().is_some_and(|to| self.ends_behind(to))
    }
}

/// An implicit balanced tree over a sorted list, rebuilt when enough has changed; what came since is scanned.
///
/// General ranges are rare, so this favours little code over the best bound for changes.
#[derive(Default)]
struct Intervals {
    sorted: Vec<Interval>,
    /// For the middle of each subtree: which interval of the subtree ends last.
    furthest: Vec<usize>,
    fresh: Vec<Interval>,
    removed: usize,
}

impl Intervals {
    fn insert(&mut self, interval: Interval) {
        self.fresh.push(interval);
        self.rebuild_if_due();
    }

    fn remove(&mut self, from: &Bytes, number: usize) {
        if let Some(place) = self
            .fresh
            .iter()
            .position(|interval| interval.number == Some(number))
        {
            self.fresh.swap_remove(place);
            return;
        }
        let first = self
            .sorted
            .partition_point(|interval| interval.from < *from);
        let same_start = self.sorted[first..]
            .iter_mut()
            .take_while(|interval| interval.from == *from);
        for interval in same_start {
            if interval.number == Some(number) {
                interval.number = None;
                self.removed += 1;
            }
        }
        self.rebuild_if_due();
    }

    fn rebuild_if_due(&mut self) {
        let allowed = 32 + self.sorted.len() / 8;
        if self.fresh.len() <= allowed && self.removed <= allowed {
            return;
        }
        self.sorted.retain(|interval| interval.number.is_some());
        self.sorted.append(&mut self.fresh);
        self.sorted.sort_by(|a, b| a.from.cmp(&b.from));
        self.removed = 0;
        self.furthest = vec![0; self.sorted.len()];
        self.find_furthest(0, self.sorted.len());
    }

    fn find_furthest(&mut self, start: usize, end: usize) -> Option<usize> {
        if start >= end {
            return None;
        }
        let middle = start.midpoint(end);
        let mut furthest = middle;
        let sides = [
            self.find_furthest(start, middle),
            self.find_furthest(middle + 1, end),
        ];
        for side in sides.into_iter().flatten() {
            if self.sorted[side].reaches_further_than(&self.sorted[furthest]) {
                furthest = side;
            }
        }
        self.furthest[middle] = furthest;
        Some(furthest)
    }

    fn for_each(&self, key: &[u8], found: &mut impl FnMut(usize)) {
        self.search(0, self.sorted.len(), key, found);
        for interval in &self.fresh {
            if key >= &interval.from[..] && interval.ends_behind(key) {
                interval.number.into_iter().for_each(&mut *found);
            }
        }
    }

    fn search(&self, start: usize, end: usize, key: &[u8], found: &mut impl FnMut(usize)) {
        if start >= end {
            return;
        }
        let middle = start.midpoint(end);
        if !self.sorted[self.furthest[middle]].ends_behind(key) {
            return;
        }
        self.search(start, middle, key, found);
        let interval = &self.sorted[middle];
        if key >= &interval.from[..] {
            if interval.ends_behind(key) {
                interval.number.into_iter().for_each(&mut *found);
            }
            self.search(middle + 1, end, key, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn random_key(random: &mut StdRng) -> Vec<u8> {
        let length = random.random_range(1..5);
        (0..length)
            .map(|_| b"ab\xff"[random.random_range(0..3)])
            .collect()
    }

    fn random_range(random: &mut StdRng) -> Option<KeyRange> {
        let key = random_key(random);
        let mut end = match random.random_range(0..5) {
            0 => Vec::new(),
            1 => vec![0],
            2 => return Some(KeyRange::Prefix(key.into())),
            3 => return Some(KeyRange::All),
            _ => random_key(random),
        };
        if random.random_bool(0.1) {
            end.push(b'a');
        }
        KeyRange::new(&key, &end)
    }

    #[test]
    fn the_index_finds_exactly_the_ranges_that_contain_a_key() {
        for seed in 0..20 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut index = Index::default();
            let mut model: BTreeMap<usize, KeyRange> = BTreeMap::new();
            for number in 0..1000 {
                if let Some(range) = random_range(&mut random) {
                    index.insert(&range, number);
                    model.insert(number, range);
                }
                if random.random_bool(0.4)
                    && let Some(number) = model
                        .keys()
                        .nth(random.random_range(0..model.len().max(1)))
                        .copied()
                    && let Some(range) = model.remove(&number)
                {
                    index.remove(&range, number);
                }
                let key = random_key(&mut random);
                let mut found = Vec::new();
                index.for_each(&key, |number| found.push(number));
                found.sort_unstable();
                let expected: Vec<usize> = model
                    .iter()
                    .filter(|(_, range)| range.contains(&key))
                    .map(|(number, _)| *number)
                    .collect();
                assert_eq!(found, expected, "seed {seed}, key {key:?}");
            }
            for (number, range) in model {
                index.remove(&range, number);
            }
            assert!(
                index.exact.is_empty() && index.prefixes.is_empty() && index.lengths.is_empty()
            );
        }
    }
}
