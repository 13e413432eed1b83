//! Views kept for the next pages of lists that stopped at their limit.
//!
//! A client that lists page by page names the revision of its first page in all later ones. While the view of that
//! revision is held, such a page is read and counted like one of the newest state; without it the engine has to be
//! scanned to the end of the range for the count. So this is about speed alone: nothing is wrong without a view.
//!
//! A view that is held makes the writer copy what it changes, and keeps replaced records in memory. Both are bounded:
//! by the number of views, by how soon they follow each other, and by an estimate of their bytes. Time is told by
//! whoever calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proto::etcd::etcdserverpb::RangeRequest;
use proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};

use crate::reader::View;

/// How long a view waits for the next page.
const LIFETIME: Duration = Duration::from_secs(60);
/// Views held at most.
const MOST: usize = 16;
/// Views that may follow each other at once; further ones only after [`SPACING`].
const AT_ONCE: usize = 4;
/// The writer copies each node that it changes once for each view, so views must not follow each other too soon.
const SPACING: Duration = Duration::from_millis(50);

/// Bytes of a leaf of the index.
const LEAF_BYTES: u64 = 1024;
/// Keys of a leaf, on average.
const LEAF_KEYS: u64 = 24;
/// Bytes of a record without a value worth speaking of.
const KEY_BYTES: u64 = 96;

/// How much the writer has done to the index since the machine was opened; the difference between two views says
/// what the older one keeps in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Keys set or removed.
    pub count: u64,
    /// Bytes of the records that were replaced or removed.
    pub bytes: u64,
}

/// What is held at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Views.
    pub views: usize,
    /// Estimate of what they keep in memory beside the newest view.
    pub bytes: u64,
}

/// The views that are held.
#[derive(Debug)]
pub(crate) struct Retained {
    roots: Mutex<Vec<Root>>,
    /// How many there are, so that nobody takes the lock for nothing.
    len: AtomicUsize,
    budget_bytes: u64,
}

#[derive(Debug)]
struct Root {
    view: Arc<View>,
    taken: Duration,
    used: Duration,
    /// Lists that began at this view and have not come to their end.
    lists: usize,
}

impl Retained {
    pub(crate) fn new(budget_bytes: u64) -> Self {
        Self {
            roots: Mutex::default(),
            len: AtomicUsize::new(0),
            budget_bytes,
        }
    }

    /// The view of a revision, if it is held.
    pub(crate) fn find(&self, revision: i64) -> Option<Arc<View>> {
        if self.len.load(Ordering::Acquire) == 0 {
            return None;
        }
        let roots = self.roots.lock();
        let root = roots.iter().find(|root| root.view.revision == revision)?;
        Some(root.view.clone())
    }

    /// Told of an answered range: `view` is the newest one when it was read, `more` whether the limit left keys out.
    pub(crate) fn note(&self, view: &Arc<View>, request: &RangeRequest, more: bool, now: Duration) {
        // Who goes on from the last key has asked in key order, and for more than that one key.
        let is_page = request.limit > 1
            && !request.range_end.is_empty()
            && request.sort_order() != SortOrder::Descend
            && request.sort_target() == SortTarget::Key;
        if !is_page || (!more && self.len.load(Ordering::Acquire) == 0) {
            return;
        }
        let is_first = request.revision <= 0;
        let revision = if is_first {
            view.revision
        } else {
            request.revision
        };
        let mut roots = self.roots.lock();
        let found = roots.iter().position(|root| root.view.revision == revision);
        match (found, more) {
            (Some(place), true) => {
                let root = &mut roots[place];
                root.used = now;
                root.lists += usize::from(is_first);
            }
            // An answer without a rest that was a first page, too, has ended nothing.
            (Some(place), false) if !is_first => {
                let root = &mut roots[place];
                root.used = now;
                root.lists = root.lists.saturating_sub(1);
                if root.lists == 0 {
                    roots.remove(place);
                }
            }
            (None, true) if revision == view.revision => {
                hold(&mut roots, view.clone(), usize::from(is_first), now);
                self.shrink(&mut roots, view);
            }
            _ => {}
        }
        self.len.store(roots.len(), Ordering::Release);
    }

    /// Lets go of what waited too long or is compacted, and of the oldest views while all together keep too much in
    /// memory.
    pub(crate) fn expire(&self, newest: &View, now: Duration) {
        if self.len.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut roots = self.roots.lock();
        // No page is read at a compacted revision, but while its view is held nothing of it can be freed.
        let is_readable = |root: &Root| root.view.revision >= newest.compact_revision;
        roots.retain(|root| is_readable(root) && now.saturating_sub(root.used) < LIFETIME);
        self.shrink(&mut roots, newest);
        self.len.store(roots.len(), Ordering::Release);
    }

    /// Lets go of everything: the engine's state was replaced.
    pub(crate) fn clear(&self) {
        self.roots.lock().clear();
        self.len.store(0, Ordering::Release);
    }

    pub(crate) fn holding(&self, newest: &View) -> Holding {
        let roots = self.roots.lock();
        Holding {
            views: roots.len(),
            bytes: bytes(&roots, newest),
        }
    }

    fn shrink(&self, roots: &mut Vec<Root>, newest: &View) {
        while bytes(roots, newest) > self.budget_bytes {
            // By age, not by use: the oldest one keeps the most.
            let Some(oldest) = place_of_least(roots, |root| root.view.revision) else {
                return;
            };
            roots.remove(oldest);
        }
    }
}

fn hold(roots: &mut Vec<Root>, view: Arc<View>, lists: usize, now: Duration) {
    let last = roots.iter().map(|root| root.taken).max();
    let is_soon = last.is_some_and(|last| now.saturating_sub(last) < SPACING);
    if roots.len() >= AT_ONCE && is_soon {
        return;
    }
    if roots.len() >= MOST
        && let Some(idle) = place_of_least(roots, |root| root.used)
    {
        roots.remove(idle);
    }
    roots.push(Root {
        view,
        taken: now,
        used: now,
        lists,
    });
}

fn place_of_least<K: Ord>(roots: &[Root], by: impl Fn(&Root) -> K) -> Option<usize> {
    (0..roots.len()).min_by_key(|&place| by(&roots[place]))
}

/// What views keep in memory that the newest one does not. Each has copied nodes of its own, at most all of both of the
/// writer's indexes; replaced records they share, so those of the oldest view are all.
fn bytes(roots: &[Root], newest: &View) -> u64 {
    let kept = |root: &Root| {
        let (view, since) = (&*root.view, newest.edits.since(root.view.edits));
        let keys = view.index.len() as u64;
        let nodes = since.count.min(2 * keys / LEAF_KEYS + 1) * LEAF_BYTES;
        let records = since.bytes.min(view.cached_bytes as u64 + keys * KEY_BYTES);
        (nodes, records)
    };
    let nodes: u64 = roots.iter().map(|root| kept(root).0).sum();
    let records = roots.iter().map(|root| kept(root).1).max();
    nodes + records.unwrap_or(0)
}

impl Edits {
    fn since(self, older: Self) -> Self {
        Self {
            count: self.count.saturating_sub(older.count),
            bytes: self.bytes.saturating_sub(older.bytes),
        }
    }
}
