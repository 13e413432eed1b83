//! All live keys in memory: a copy-on-write B+tree with subtree counts.
//!
//! - Cloning an index costs one increment and gives a root that never changes again.
//! - A node that only one index holds is changed in place; a shared one is copied first.
//! - Every key is in one leaf; leaves stand in key order, are never empty and all equally deep.
//! - A separator is the shortest key that divides two neighbours: above all keys to its left, not above those to
//!   its right. It is a copy, so that it pins no record.
//! - Counts make the number of keys in a range cost O(log n).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smallvec::SmallVec;

use crate::mutant::{self, Mutant};
use crate::mvcc::heads::{Heads, WIDTH, common_len};
use crate::mvcc::range::Interval;
use crate::record::Tip;

/// How full [`Builder`] leaves nodes, so that the first inserts do not split them all.
const BUILT: usize = 28;
/// Nodes below this look for a neighbour to merge with.
const SPARSE: usize = 8;

/// The live keys of one revision.
#[derive(Clone, Debug, Default)]
pub struct Index {
    root: Option<Node>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Arc<Leaf>),
    Inner(Arc<Inner>),
}

#[derive(Debug)]
struct Leaf {
    tips: SmallVec<[Tip; WIDTH]>,
    heads: Heads,
    /// Read since the clock hand last passed.
    used: AtomicBool,
}

#[derive(Clone, Debug)]
struct Inner {
    /// One less than children.
    separators: SmallVec<[Arc<[u8]>; WIDTH]>,
    heads: Heads,
    children: SmallVec<[Node; WIDTH]>,
    /// Keys below each child.
    counts: SmallVec<[usize; WIDTH]>,
}

/// What an insert did to a node.
enum Inserted {
    Replaced(Tip),
    Added,
    /// The node was full: what stands right of the separator is in a new node.
    Split(Arc<[u8]>, Node),
}

impl Index {
    /// Number of keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Tip> {
        let mut node = self.root.as_ref()?;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.child_of(key)],
                Node::Leaf(leaf) => {
                    leaf.mark_used();
                    return leaf.find(key).ok().map(|place| &leaf.tips[place]);
                }
            }
        }
    }

    /// Sets a key; answers its former tip.
    pub(crate) fn insert(&mut self, tip: Tip) -> Option<Tip> {
        let key = tip.clone();
        self.update(key.key(), |_| tip)
    }

    /// Sets a key to what `make` makes of its former tip, in one descent; answers the former tip.
    pub(crate) fn update(
        &mut self,
        key: &[u8],
        make: impl FnOnce(Option<&Tip>) -> Tip,
    ) -> Option<Tip> {
        let Some(root) = &mut self.root else {
            let tips = SmallVec::from_iter([make(None)]);
            self.root = Some(Node::Leaf(Arc::new(Leaf::of(tips, true))));
            self.len = 1;
            return None;
        };
        match root.update(key, make) {
            Inserted::Replaced(former) => return Some(former),
            Inserted::Added => {}
            Inserted::Split(separator, right) => {
                let left = root.clone();
                let right_count = right.count();
                *root = Node::Inner(Arc::new(Inner::of(
                    SmallVec::from_iter([separator]),
                    SmallVec::from_iter([left, right]),
                    SmallVec::from_iter([self.len + 1 - right_count, right_count]),
                )));
            }
        }
        self.len += 1;
        None
    }

    /// Removes a key; answers its former tip.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Tip> {
        let root = self.root.as_mut()?;
        // A miss must not copy the path.
        let former = if root.contains(key) {
            root.remove(key)?
        } else {
            return None;
        };
        self.len -= 1;
        if root.width() == 0 {
            self.root = None;
        } else {
            while let Some(Node::Inner(inner)) = &self.root
                && inner.children.len() == 1
            {
                self.root = Some(inner.children[0].clone());
            }
        }
        Some(former)
    }

    /// Number of keys in an interval.
    pub fn count(&self, interval: &Interval<'_>) -> usize {
        let past_end = |end| mutant::is_on(Mutant::RangePastEnd) && self.get(end).is_some();
        let end = interval
            .end
            .map_or(self.len, |end| self.rank(end) + usize::from(past_end(end)));
        end.saturating_sub(self.rank(interval.start))
    }

    /// Number of keys below `key`.
    fn rank(&self, key: &[u8]) -> usize {
        let mut rank = 0;
        let mut node = match &self.root {
            Some(root) => root,
            None => return 0,
        };
        loop {
            match node {
                Node::Inner(inner) => {
                    let child = inner.child_of(key);
                    rank += inner.counts[..child].iter().sum::<usize>();
                    node = &inner.children[child];
                }
                Node::Leaf(leaf) => return rank + leaf.find(key).unwrap_or_else(|place| place),
            }
        }
    }

    /// The tips in an interval, in key order.
    pub(crate) fn range(&self, interval: &Interval<'_>) -> Range<'_> {
        // Counting first spares a comparison, and so a cache miss, per item.
        let mut range = Range {
            path: SmallVec::new(),
            tips: [].iter(),
            left: self.count(interval),
            marks: true,
        };
        if let (Some(root), true) = (&self.root, range.left > 0) {
            range.descend(root, interval.start);
        }
        range
    }

    /// The leaf that the clock hand reaches from `key` on: whether it was used since the last time, and its tips.
    pub(crate) fn clock(&self, key: &[u8]) -> Option<(bool, &[Tip])> {
        let interval = Interval {
            start: key,
            end: None,
        };
        let mut range = Range {
            path: SmallVec::new(),
            tips: [].iter(),
            left: self.count(&interval),
            marks: false,
        };
        if range.left == 0 {
            return None;
        }
        let mut leaf = range.descend(self.root.as_ref()?, key);
        if range.tips.as_slice().is_empty() {
            leaf = range.next_leaf();
        }
        leaf.map(|leaf| {
            (
                leaf.used.swap(false, Ordering::Relaxed),
                range.tips.as_slice(),
            )
        })
    }
}

impl Node {
    /// Tips of a leaf, children of an inner node.
    fn width(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.tips.len(),
            Self::Inner(inner) => inner.children.len(),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.tips.len(),
            Self::Inner(inner) => inner.counts.iter().sum(),
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        let mut node = self;
        loop {
            match node {
                Self::Inner(inner) => node = &inner.children[inner.child_of(key)],
                Self::Leaf(leaf) => return leaf.find(key).is_ok(),
            }
        }
    }

    fn update(&mut self, key: &[u8], make: impl FnOnce(Option<&Tip>) -> Tip) -> Inserted {
        match self {
            Self::Leaf(leaf) => Arc::make_mut(leaf).update(key, make),
            Self::Inner(inner) => Arc::make_mut(inner).update(key, make),
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<Tip> {
        match self {
            Self::Leaf(leaf) => {
                let place = leaf.find(key).ok()?;
                let leaf = Arc::make_mut(leaf);
                leaf.heads.remove(place);
                Some(leaf.tips.remove(place))
            }
            Self::Inner(inner) => Arc::make_mut(inner).remove(key),
        }
    }
}

impl Leaf {
    fn of(tips: SmallVec<[Tip; WIDTH]>, used: bool) -> Self {
        let heads = Heads::of(tips.iter().map(Tip::key));
        Self {
            tips,
            heads,
            used: AtomicBool::new(used),
        }
    }

    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        self.heads.search(key, |place| self.tips[place].key())
    }

    fn mark_used(&self) {
        // A store would take the cache line from other readers each time.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    fn update(&mut self, key: &[u8], make: impl FnOnce(Option<&Tip>) -> Tip) -> Inserted {
        *self.used.get_mut() = true;
        let place = match self.find(key) {
            Ok(place) => {
                let tip = make(Some(&self.tips[place]));
                return Inserted::Replaced(std::mem::replace(&mut self.tips[place], tip));
            }
            Err(place) => place,
        };
        let tip = make(None);
        if self.tips.len() < WIDTH {
            self.insert(place, tip);
            return Inserted::Added;
        }
        let right = if place == WIDTH {
            // Keys that arrive in order leave full nodes behind.
            Self::of(SmallVec::from_iter([tip]), true)
        } else {
            let right = self.tips.drain(WIDTH / 2..).collect();
            self.heads = Heads::of(self.tips.iter().map(Tip::key));
            let mut right = Self::of(right, true);
            match place.checked_sub(WIDTH / 2) {
                Some(place @ 1..) => right.insert(place, tip),
                _ => self.insert(place, tip),
            }
            right
        };
        let separator = shortest_between(self.tips[self.tips.len() - 1].key(), right.tips[0].key());
        Inserted::Split(separator, Node::Leaf(Arc::new(right)))
    }

    fn insert(&mut self, place: usize, tip: Tip) {
        let begins_alike = self.heads.insert(place, tip.key(), self.tips[0].key());
        self.tips.insert(place, tip);
        if !begins_alike {
            self.heads = Heads::of(self.tips.iter().map(Tip::key));
        }
    }
}

impl Clone for Leaf {
    fn clone(&self) -> Self {
        let used = AtomicBool::new(self.used.load(Ordering::Relaxed));
        Self {
            tips: self.tips.clone(),
            heads: self.heads.clone(),
            used,
        }
    }
}

impl Inner {
    fn of(
        separators: SmallVec<[Arc<[u8]>; WIDTH]>,
        children: SmallVec<[Node; WIDTH]>,
        counts: SmallVec<[usize; WIDTH]>,
    ) -> Self {
        let heads = Heads::of(separators.iter().map(|separator| &**separator));
        Self {
            separators,
            heads,
            children,
            counts,
        }
    }

    fn read_heads(&mut self) {
        self.heads = Heads::of(self.separators.iter().map(|separator| &**separator));
    }

    /// The child whose keys include `key`, if any do.
    fn child_of(&self, key: &[u8]) -> usize {
        match self.heads.search(key, |place| &self.separators[place]) {
            Ok(equal) => equal + 1,
            Err(place) => place,
        }
    }

    fn update(&mut self, key: &[u8], make: impl FnOnce(Option<&Tip>) -> Tip) -> Inserted {
        let place = self.child_of(key);
        match self.children[place].update(key, make) {
            Inserted::Replaced(former) => Inserted::Replaced(former),
            Inserted::Added => {
                self.counts[place] += 1;
                Inserted::Added
            }
            Inserted::Split(separator, right) => {
                let right_count = right.count();
                self.counts[place] = self.counts[place] + 1 - right_count;
                self.add(place, separator, right, right_count)
            }
        }
    }

    /// Adds a child behind the one at `place`; splits when full.
    fn add(&mut self, place: usize, separator: Arc<[u8]>, child: Node, count: usize) -> Inserted {
        if self.children.len() < WIDTH {
            self.insert(place, separator, child, count);
            return Inserted::Added;
        }
        let cut = if place + 1 == WIDTH {
            WIDTH - 1
        } else {
            WIDTH / 2
        };
        let mut right = Self::of(
            self.separators.drain(cut..).collect(),
            self.children.drain(cut..).collect(),
            self.counts.drain(cut..).collect(),
        );
        let middle = self
            .separators
            .pop()
            .expect("a full node is cut behind its first separator");
        self.read_heads();
        match place.checked_sub(cut) {
            Some(place) => right.insert(place, separator, child, count),
            None => self.insert(place, separator, child, count),
        }
        Inserted::Split(middle, Node::Inner(Arc::new(right)))
    }

    fn insert(&mut self, place: usize, separator: Arc<[u8]>, child: Node, count: usize) {
        let other = self.separators.first();
        let begins_alike = other.is_some_and(|other| self.heads.insert(place, &separator, other));
        self.separators.insert(place, separator);
        self.children.insert(place + 1, child);
        self.counts.insert(place + 1, count);
        if !begins_alike {
            self.read_heads();
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<Tip> {
        let place = self.child_of(key);
        let former = self.children[place].remove(key)?;
        self.counts[place] -= 1;
        let width = self.children[place].width();
        if width == 0 {
            self.children.remove(place);
            self.counts.remove(place);
            if !self.separators.is_empty() {
                self.separators.remove(place.saturating_sub(1));
                self.heads.remove(place.saturating_sub(1));
            }
        } else if width < SPARSE && self.children.len() > 1 {
            // Merge with the right neighbour, or as the right neighbour of the last but one.
            let left = place.min(self.children.len() - 2);
            if self.children[left].width() + self.children[left + 1].width() <= WIDTH / 4 * 3 {
                self.merge(left);
            }
        }
        Some(former)
    }

    fn merge(&mut self, left: usize) {
        let separator = self.separators.remove(left);
        self.heads.remove(left);
        let right = self.children.remove(left + 1);
        self.counts[left] += self.counts.remove(left + 1);
        match (&mut self.children[left], right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                let left = Arc::make_mut(left);
                left.tips.extend(right.tips.iter().cloned());
                left.heads = Heads::of(left.tips.iter().map(Tip::key));
            }
            (Node::Inner(left), Node::Inner(right)) => {
                let left = Arc::make_mut(left);
                left.separators.push(separator);
                left.separators.extend(right.separators.iter().cloned());
                left.children.extend(right.children.iter().cloned());
                left.counts.extend(right.counts.iter().copied());
                left.read_heads();
            }
            _ => unreachable!("neighbours are equally deep"),
        }
    }
}

/// Tips in key order.
pub(crate) struct Range<'a> {
    /// The inner nodes above the current leaf, each with the next child to visit.
    path: SmallVec<[(&'a Inner, usize); 8]>,
    tips: std::slice::Iter<'a, Tip>,
    left: usize,
    /// Whether reading counts as use.
    marks: bool,
}

impl<'a> Range<'a> {
    fn descend(&mut self, mut node: &'a Node, from: &[u8]) -> Option<&'a Leaf> {
        loop {
            match node {
                Node::Inner(inner) => {
                    let child = inner.child_of(from);
                    self.path.push((inner, child + 1));
                    node = &inner.children[child];
                }
                Node::Leaf(leaf) => {
                    let place = leaf.find(from).unwrap_or_else(|place| place);
                    self.enter(leaf, place);
                    return Some(leaf);
                }
            }
        }
    }

    fn next_leaf(&mut self) -> Option<&'a Leaf> {
        loop {
            let (inner, next) = self.path.last_mut()?;
            let Some(child) = inner.children.get(*next) else {
                self.path.pop();
                continue;
            };
            *next += 1;
            match child {
                Node::Inner(inner) => self.path.push((inner, 0)),
                Node::Leaf(leaf) => {
                    self.enter(leaf, 0);
                    return Some(leaf);
                }
            }
        }
    }

    fn enter(&mut self, leaf: &'a Leaf, place: usize) {
        if self.marks {
            leaf.mark_used();
        }
        self.tips = leaf.tips[place..].iter();
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = &'a Tip;

    fn next(&mut self) -> Option<&'a Tip> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        loop {
            match self.tips.next() {
                Some(tip) => return Some(tip),
                None => self.next_leaf()?,
            };
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Range<'_> {}

/// Builds an index from tips in key order, one leaf after the other.
#[derive(Default)]
pub(crate) struct Builder {
    tips: SmallVec<[Tip; WIDTH]>,
    leaves: Vec<(Arc<[u8]>, Node, usize)>,
    last: Option<Tip>,
    len: usize,
}

impl Builder {
    /// Adds a tip behind all others.
    pub(crate) fn push(&mut self, tip: Tip) {
        debug_assert!(
            self.tips
                .last()
                .or(self.last.as_ref())
                .is_none_or(|l| l.key() < tip.key())
        );
        if self.tips.len() == BUILT {
            self.close_leaf();
        }
        self.tips.push(tip);
        self.len += 1;
    }

    /// The index.
    pub(crate) fn finish(mut self) -> Index {
        self.close_leaf();
        let mut level = self.leaves;
        while level.len() > 1 {
            let mut above = Vec::with_capacity(level.len() / BUILT + 1);
            let mut nodes = level.into_iter().peekable();
            while nodes.peek().is_some() {
                above.push(inner_of(nodes.by_ref().take(BUILT)));
            }
            level = above;
        }
        Index {
            root: level.pop().map(|(_, node, _)| node),
            len: self.len,
        }
    }

    fn close_leaf(&mut self) {
        let tips = std::mem::take(&mut self.tips);
        let (Some(first), Some(last)) = (tips.first(), tips.last()) else {
            return;
        };
        let separator = match &self.last {
            Some(before) => shortest_between(before.key(), first.key()),
            None => Arc::from([]),
        };
        self.last = Some(last.clone());
        let count = tips.len();
        self.leaves.push((
            separator,
            Node::Leaf(Arc::new(Leaf::of(tips, false))),
            count,
        ));
    }
}

/// A node above others; what divides it from the node to its left is what divided its first child.
fn inner_of(nodes: impl Iterator<Item = (Arc<[u8]>, Node, usize)>) -> (Arc<[u8]>, Node, usize) {
    let (mut separators, mut children, mut counts) = Default::default();
    let mut left_of = None;
    for (separator, child, count) in nodes {
        match left_of {
            None => left_of = Some(separator),
            Some(_) => SmallVec::push(&mut separators, separator),
        }
        SmallVec::push(&mut children, child);
        SmallVec::push(&mut counts, count);
    }
    let count = counts.iter().sum();
    let inner = Inner::of(separators, children, counts);
    (
        left_of.unwrap_or_default(),
        Node::Inner(Arc::new(inner)),
        count,
    )
}

/// The shortest key above `left` and not above `right`, of which `left` is the smaller.
fn shortest_between(left: &[u8], right: &[u8]) -> Arc<[u8]> {
    Arc::from(&right[..(common_len(left, right) + 1).min(right.len())])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::record::{Fields, Record};

    type Model = BTreeMap<Vec<u8>, i64>;

    fn tip(key: &[u8], mod_revision: i64) -> Tip {
        Tip::from(Record::new(&Fields {
            key,
            mod_revision,
            ..Fields::default()
        }))
    }

    /// Few distinct bytes make long common prefixes; zero bytes and prefixes of other keys are among them.
    fn random_key(random: &mut StdRng) -> Vec<u8> {
        let len = random.random_range(1..8);
        (0..len)
            .map(|_| {
                *[0, 1, b'a', b'b', 0xff]
                    .get(random.random_range(0..5))
                    .unwrap()
            })
            .collect()
    }

    fn check_shape(node: &Node, depth: usize, is_root: bool) -> usize {
        match node {
            Node::Leaf(leaf) => {
                assert!(!leaf.tips.is_empty() && !leaf.tips.spilled());
                assert!(
                    leaf.tips
                        .is_sorted_by(|left, right| left.key() < right.key())
                );
                for (place, tip) in leaf.tips.iter().enumerate() {
                    assert_eq!(leaf.find(tip.key()), Ok(place));
                }
                depth
            }
            Node::Inner(inner) => {
                assert!(inner.children.len() > usize::from(is_root));
                assert!(!inner.children.spilled() && !inner.separators.spilled());
                assert_eq!(inner.separators.len() + 1, inner.children.len());
                let depths: Vec<_> = inner
                    .children
                    .iter()
                    .map(|child| check_shape(child, depth + 1, false))
                    .collect();
                assert!(
                    depths.iter().all(|&other| other == depths[0]),
                    "leaves equally deep"
                );
                for (child, &count) in inner.children.iter().zip(&inner.counts) {
                    assert_eq!(child.count(), count);
                }
                depths[0]
            }
        }
    }

    fn check(index: &Index, model: &Model, random: &mut StdRng) {
        assert_eq!(index.len(), model.len());
        if let Some(root) = &index.root {
            check_shape(root, 0, true);
        }
        let all = Interval {
            start: &[],
            end: None,
        };
        let found: Vec<_> = index
            .range(&all)
            .map(|tip| (tip.key().to_vec(), tip.mod_revision()))
            .collect();
        assert_eq!(found, model.clone().into_iter().collect::<Vec<_>>());
        for _ in 0..20 {
            let (start, end) = (random_key(random), random_key(random));
            let end = random.random_bool(0.8).then_some(end);
            let interval = Interval {
                start: &start,
                end: end.as_deref(),
            };
            let expected: Vec<_> = model
                .range(start.clone()..)
                .take_while(|(key, _)| end.as_ref().is_none_or(|end| *key < end))
                .map(|(key, _)| key.clone())
                .collect();
            let found: Vec<_> = index
                .range(&interval)
                .map(|tip| tip.key().to_vec())
                .collect();
            assert_eq!(found, expected);
            assert_eq!(index.count(&interval), expected.len());
            assert_eq!(
                index.get(&start).map(Tip::mod_revision),
                model.get(&start).copied()
            );
        }
    }

    #[test]
    fn an_index_is_a_sorted_map_whose_old_roots_stay_unchanged() {
        for seed in 0..40 {
            eprintln!("seed {seed}");
            let mut random = StdRng::seed_from_u64(seed);
            let (mut index, mut model) = (Index::default(), Model::new());
            let mut held: Vec<(Index, Model)> = Vec::new();
            for round in 0..8 {
                // Growing and shrinking phases reach splits, merges and the empty tree.
                let grows = if round % 2 == 0 { 0.9 } else { 0.1 };
                for step in 0..600 {
                    let key = random_key(&mut random);
                    if random.random_bool(grows) {
                        let former = index.insert(tip(&key, step));
                        assert_eq!(
                            former.map(|tip| tip.mod_revision()),
                            model.insert(key, step)
                        );
                    } else {
                        let former = index.remove(&key);
                        assert_eq!(former.map(|tip| tip.mod_revision()), model.remove(&key));
                    }
                    if random.random_bool(0.01) {
                        held.push((index.clone(), model.clone()));
                    }
                }
                check(&index, &model, &mut random);
            }
            for (index, model) in &held {
                check(index, model, &mut random);
            }
            for key in model.keys() {
                index.remove(key);
            }
            assert!(index.is_empty() && index.root.is_none());
        }
    }

    #[test]
    fn keys_inserted_in_order_fill_their_nodes() {
        let mut index = Index::default();
        let mut model = Model::new();
        for number in 0..20_000_i64 {
            let key = number.to_be_bytes();
            index.insert(tip(&key, number));
            model.insert(key.to_vec(), number);
        }
        check(&index, &model, &mut StdRng::seed_from_u64(1));
        let Some(Node::Inner(root)) = &index.root else {
            panic!("20,000 keys need inner nodes")
        };
        assert!(
            root.children.len() <= 21,
            "{} children of the root",
            root.children.len()
        );
    }

    #[test]
    fn a_built_index_equals_an_inserted_one() {
        let mut random = StdRng::seed_from_u64(7);
        for len in [0, 1, BUILT, BUILT + 1, 1000, 30_000] {
            let model: Model = (0..len)
                .map(|n| ((n as u64 * 7).to_be_bytes().to_vec(), n as i64))
                .collect();
            let mut builder = Builder::default();
            model
                .iter()
                .for_each(|(key, &revision)| builder.push(tip(key, revision)));
            let mut index = builder.finish();
            check(&index, &model, &mut random);
            index.insert(tip(b"zz", 1));
            assert_eq!(index.len(), len + 1);
        }
    }

    #[test]
    fn the_clock_sees_every_leaf_once_a_round_and_spares_used_ones_once() {
        let mut builder = Builder::default();
        (0..1000_u64).for_each(|number| builder.push(tip(&number.to_be_bytes(), 1)));
        let index = builder.finish();
        index.get(&500_u64.to_be_bytes());
        let round = || {
            let (mut hand, mut used, mut seen) = (Vec::new(), 0, 0);
            while let Some((is_used, tips)) = index.clock(&hand) {
                used += usize::from(is_used);
                seen += tips.len();
                hand = [tips.last().unwrap().key(), &[0]].concat();
            }
            (used, seen)
        };
        assert_eq!(round(), (1, 1000));
        assert_eq!(round(), (0, 1000));
    }
}
