//! What running reads still need, so that compaction does not take it from under them.
//!
//! A view that anybody holds needs its own revision: values that are not in memory are read from the engine. Whoever
//! reads at an older revision holds a [`Pin`] for it. To hold a view costs nothing beyond the `Arc`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use crate::mutant::{self, Mutant};
use crate::reader::View;

/// Views that are remembered before the ones that nobody holds any more are looked for.
const FEW: usize = 64;

/// All reads of one machine's state that run.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    views: Mutex<Views>,
    /// How many pins each revision has.
    revisions: Mutex<BTreeMap<i64, usize>>,
    /// Held by whoever changes the engine's state beside the entries that are applied: one step of a sweep, or the
    /// installation of another state.
    exclusive: Mutex<()>,
}

/// Published views in their order. All but the last are kept alive by their readers alone.
#[derive(Debug, Default)]
struct Views {
    queue: VecDeque<(i64, Weak<View>)>,
    /// How long the queue may get before it is cleaned: a long read must not keep all the views after its own.
    clean_at: usize,
}

/// Keeps one revision readable until it is dropped.
#[derive(Debug)]
pub struct Pin {
    pins: Arc<Pins>,
    revision: i64,
}

impl Pins {
    /// Remembers a view that is about to be published.
    ///
    /// The place where it is published counts as a holder, and when it holds another view then whoever had taken the
    /// former one has been counted.
    pub(crate) fn published(&self, view: &Arc<View>) {
        let mut views = self.views.lock();
        views.trim();
        views.queue.push_back((view.revision, Arc::downgrade(view)));
    }

    /// Pins a revision, readable or not: whoever does checks that afterwards.
    pub(crate) fn pin(self: &Arc<Self>, revision: i64) -> Pin {
        *self.revisions.lock().entry(revision).or_default() += 1;
        Pin {
            pins: self.clone(),
            revision,
        }
    }

    /// The oldest revision that a read needs; the newest one there is if none runs.
    pub(crate) fn oldest(&self) -> i64 {
        if mutant::is_on(Mutant::PinForgotten) {
            return i64::MAX;
        }
        let pinned = self.revisions.lock().keys().next().copied();
        let mut views = self.views.lock();
        views.trim();
        let held = views.queue.front().map(|&(revision, _)| revision);
        let oldest = [pinned, held].into_iter().flatten().min();
        oldest.unwrap_or(i64::MAX)
    }

    /// See [`Pins::exclusive`].
    pub(crate) fn exclusive(&self) -> MutexGuard<'_, ()> {
        self.exclusive.lock()
    }
}

impl Views {
    fn trim(&mut self) {
        let is_held = |(_, view): &(i64, Weak<View>)| view.strong_count() > 0;
        while self.queue.front().is_some_and(|view| !is_held(view)) {
            self.queue.pop_front();
        }
        if self.queue.len() >= self.clean_at.max(FEW) {
            self.queue.retain(is_held);
            self.clean_at = self.queue.len() * 2;
        }
    }
}

impl Pin {
    /// The revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut revisions = self.pins.revisions.lock();
        if let Some(count) = revisions.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                revisions.remove(&self.revision);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arc_swap::ArcSwap;

    use super::*;
    use crate::answer::Operations;
    use crate::engine::memory::MemoryEngine;
    use crate::mvcc::index::Index;
    use crate::retained::Edits;

    fn view(revision: i64) -> Arc<View> {
        Arc::new(View {
            revision,
            compact_revision: -1,
            applied: None,
            index: Index::default(),
            engine: Arc::new(MemoryEngine::new()),
            cached_bytes: 0,
            index_bytes: 0,
            edits: Edits::default(),
            operations: Operations::default(),
            alarms: Arc::default(),
            members: Arc::default(),
        })
    }

    fn publish(pins: &Pins, place: &ArcSwap<View>, revision: i64) {
        let view = view(revision);
        pins.published(&view);
        place.store(view);
    }

    #[test]
    fn the_oldest_view_that_is_held_counts_and_the_newest_is_always_held() {
        let (pins, place) = (Pins::default(), ArcSwap::new(view(0)));
        assert_eq!(pins.oldest(), i64::MAX);
        publish(&pins, &place, 1);
        assert_eq!(pins.oldest(), 1);
        let first = place.load_full();
        publish(&pins, &place, 2);
        // Without a count of its own, as short reads are made.
        let second = place.load();
        publish(&pins, &place, 3);
        assert_eq!(pins.oldest(), 1);
        drop(first);
        assert_eq!(pins.oldest(), 2);
        drop(second);
        assert_eq!(pins.oldest(), 3);
    }

    #[test]
    fn pins_count_for_each_revision_and_end_when_dropped() {
        let (pins, place) = (Arc::new(Pins::default()), ArcSwap::new(view(0)));
        publish(&pins, &place, 9);
        let (one, other, newer) = (pins.pin(4), pins.pin(4), pins.pin(7));
        assert_eq!((one.revision(), pins.oldest()), (4, 4));
        drop(one);
        assert_eq!(pins.oldest(), 4);
        drop(other);
        assert_eq!(pins.oldest(), 7);
        drop(newer);
        assert_eq!(pins.oldest(), 9);
        assert!(pins.revisions.lock().is_empty());
    }

    #[test]
    fn a_long_read_does_not_keep_the_views_after_its_own() {
        let (pins, place) = (Pins::default(), ArcSwap::new(view(0)));
        publish(&pins, &place, 1);
        let long = place.load_full();
        for revision in 2..10_000 {
            publish(&pins, &place, revision);
        }
        assert!(pins.views.lock().queue.len() <= FEW);
        assert_eq!(pins.oldest(), long.revision);
    }
}
