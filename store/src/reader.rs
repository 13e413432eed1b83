//! Reading without locks: a view is one revision, whatever is applied meanwhile.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use proto::etcd::etcdserverpb::{RangeRequest, TxnRequest, TxnResponse};

use crate::alarm::Alarms;
use crate::answer::{Operations, Refusal};
use crate::engine::StateEngine;
use crate::engine::swap::SwapEngine;
use crate::entry::LogId;
use crate::error::StoreError;
use crate::hash::{self, KvHash};
use crate::history::{self, History, Version};
use crate::leases::Leases;
use crate::members::Members;
use crate::mutant::{self, Mutant};
use crate::mvcc::chosen::Chosen;
use crate::mvcc::index::Index;
use crate::mvcc::pace::Pace;
use crate::mvcc::range::{self, RangeAnswer, RangeTotals, Source};
use crate::mvcc::read_txn::{self, read_txn};
use crate::mvcc::room::Room;
use crate::pins::{Pin, Pins};
use crate::record::Record;
use crate::retained::{Edits, Holding, Retained};

/// The state after one batch.
#[derive(Debug)]
pub struct View {
    /// The newest revision.
    pub revision: i64,
    /// The oldest revision that can be read; -1 when nothing was compacted yet.
    pub compact_revision: i64,
    /// The last entry applied.
    pub applied: Option<LogId>,
    /// The alarms that are on.
    pub alarms: Arc<Alarms>,
    /// The members that the cluster is to have.
    pub members: Arc<Members>,
    /// The live keys.
    pub index: Index,
    /// Where everything else is read: of the same database as the index, also when the machine has gone over to
    /// another one since. Whoever holds the view keeps its database open.
    pub engine: Arc<dyn StateEngine>,
    /// Bytes of values held in memory.
    pub cached_bytes: usize,
    /// Bytes that the index takes beside them, about.
    pub index_bytes: usize,
    /// What was done to the index since the machine was opened.
    pub edits: Edits,
    /// What was carried out since the machine was opened.
    pub operations: Operations,
}

/// Reads the newest and older states. Cheap to clone; any thread may use it.
#[derive(Clone)]
pub struct Reader {
    pub(crate) view: Arc<ArcSwap<View>>,
    /// Records that had to be fetched from the engine, for the writer to take back into memory.
    pub(crate) missed: Arc<Mutex<VecDeque<Record>>>,
    /// Older views, for the next pages of lists.
    pub(crate) retained: Arc<Retained>,
    pub(crate) pins: Arc<Pins>,
    pub(crate) leases: Leases,
}

/// Fetched records that may wait for the writer; more are dropped, which only costs later reads.
const MISSED: usize = 256;

impl Reader {
    /// The newest state. It stays readable at its own revision for as long as it is held.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The leases as of the last command.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Shows a view from now on.
    pub(crate) fn publish(&self, view: Arc<View>) {
        self.pins.published(&view);
        self.view.store(view);
    }

    /// Keeps an older revision readable for [`Reader::page`], unless it is compacted already.
    ///
    /// Everything that compaction gives up meanwhile stays on disk, so a pin is for as long as a read takes.
    pub fn pin(&self, revision: i64) -> Result<Pin, Refusal> {
        self.pin_in_view(revision).map(|(pin, _)| pin)
    }

    /// As [`Reader::pin`], with the view in whose database the revision is readable.
    fn pin_in_view(&self, revision: i64) -> Result<(Pin, Arc<View>), Refusal> {
        let (pin, view) = self.pin_from(revision);
        let compacted = view.compact_revision;
        if revision < compacted - i64::from(mutant::is_on(Mutant::CompactedOffByOne)) {
            return Err(Refusal::Compacted {
                requested: revision,
                compacted,
            });
        }
        Ok((pin, view))
    }

    /// Pins the revision of a range, unless it is the view's: that one the view itself keeps.
    fn pin_past(&self, view: &View, request: &RangeRequest) -> Result<Option<Pin>, Refusal> {
        let is_past = request.revision > 0 && request.revision < view.revision;
        is_past.then(|| self.pin(request.revision)).transpose()
    }

    /// Pins a revision, and answers the newest view, whose compaction says what is readable now: what is at or above
    /// both stays so in the database of that view. In one of an older view it stays anyway: nothing is swept there.
    ///
    /// In this order: whoever computed the horizon without seeing this pin has done so before the answer was read,
    /// from a compaction that was published.
    fn pin_from(&self, revision: i64) -> (Pin, Arc<View>) {
        let pin = self.pins.pin(revision);
        (pin, self.view())
    }

    /// The oldest revision that a read which runs now, or one of the newest view, needs.
    pub fn oldest_needed(&self) -> i64 {
        self.pins.oldest()
    }

    /// Evaluates a range. Every option is honoured; `serializable` is the caller's matter.
    pub fn range(
        &self,
        view: &View,
        request: &RangeRequest,
    ) -> Result<Result<RangeAnswer, Refusal>, StoreError> {
        let mut records = Vec::new();
        let totals = self.range_visit(view, request, &mut |record| records.push(record.clone()))?;
        Ok(totals.map(|RangeTotals { count, more }| RangeAnswer {
            records,
            count,
            more,
        }))
    }

    /// Evaluates a range; the records go to `visit`, so that they can be encoded without being gathered.
    ///
    /// `visit` does not read the store.
    pub fn range_visit(
        &self,
        view: &View,
        request: &RangeRequest,
        visit: &mut dyn FnMut(&Record),
    ) -> Result<Result<RangeTotals, Refusal>, StoreError> {
        let _pin = match self.pin_past(view, request) {
            Ok(pin) => pin,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.with_source(view, |source| range::range(source, request, visit))
    }

    /// The first records of a range in key order: as many as have these bytes, but one if there is any, and no more than
    /// its limit. With a pin at its revision, also if that has been compacted since. Costs no more than what it answers.
    ///
    /// None: it would be more than so much work, as in [`Reader::range_within`].
    pub fn page(
        &self,
        view: &View,
        pin: Option<&Pin>,
        request: &RangeRequest,
        bytes: u64,
        work: u64,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Result<Option<Vec<Record>>, Refusal>, StoreError> {
        let request = RangeRequest {
            revision: pin.map_or(view.revision, Pin::revision),
            ..request.clone()
        };
        let (room, pace) = (Room::of_page(bytes), Pace::new(work, goes_on));
        let mut records = Vec::new();
        let totals = self.with_source(view, |source| {
            let source = Source {
                compact_revision: source.compact_revision.min(request.revision),
                room: Some(&room),
                pace: Some(&pace),
                ..*source
            };
            let visit = &mut |record: &Record| records.push(record.clone());
            range::range(&source, &request, visit)
        })?;
        Ok(totals.map(|_| (!pace.is_over()).then_some(records)))
    }

    /// Evaluates a range, unless that is more than so much work: about the number of keys, each that is not in memory
    /// counted eight times, and once more for each 256 bytes.
    ///
    /// None: it would be more, or `goes_on` says no meanwhile. For a thread that others wait for, little work is right.
    pub fn range_within(
        &self,
        view: &View,
        request: &RangeRequest,
        work: u64,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Result<Option<RangeAnswer>, Refusal>, StoreError> {
        let _pin = match self.pin_past(view, request) {
            Ok(pin) => pin,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let pace = Pace::new(work, goes_on);
        let mut records = Vec::new();
        let totals = self.with_source(view, |source| {
            let pace = Some(&pace);
            let visit = &mut |record: &Record| records.push(record.clone());
            range::range(&Source { pace, ..*source }, request, visit)
        })?;
        Ok(totals.map(|RangeTotals { count, more }| {
            (!pace.is_over()).then_some(RangeAnswer {
                records,
                count,
                more,
            })
        }))
    }

    /// Chooses the keys of a range, whose values [`Reader::read_page`] reads. None if `goes_on` says no meanwhile.
    pub fn choose(
        &self,
        view: &Arc<View>,
        request: &RangeRequest,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Result<Option<Chosen>, Refusal>, StoreError> {
        let pin = match self.pin_past(view, request) {
            Ok(pin) => pin,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let pace = Pace::new(u64::MAX, goes_on);
        let tips = RefCell::default();
        let totals = self.with_source(view, |source| {
            let (pace, tips) = (Some(&pace), Some(&tips));
            let source = Source {
                pace,
                tips,
                ..*source
            };
            range::range(&source, request, &mut |_| {})
        })?;
        Ok(totals.map(|totals| {
            let kept = (view.clone(), pin);
            let chosen = Chosen::new(request, tips.into_inner(), totals, kept);
            (!pace.is_over()).then_some(chosen)
        }))
    }

    /// The records of a page of what was chosen.
    pub fn read_page(
        &self,
        chosen: &Chosen,
        page: Range<usize>,
    ) -> Result<Vec<Record>, StoreError> {
        chosen.read(page)
    }

    /// As [`Reader::txn`], unless that is more work than [`Reader::range_within`] may do, or `goes_on` says no meanwhile.
    pub fn txn_within(
        &self,
        view: &View,
        request: &TxnRequest,
        work: u64,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Result<Option<TxnResponse>, Refusal>, StoreError> {
        let pace = Pace::new(work, goes_on);
        let answer = self.paced_txn(view, request, Some(&pace))?;
        Ok(if pace.is_over() {
            Ok(None)
        } else {
            answer.map(Some)
        })
    }

    /// Evaluates a transaction of which every operation is a range, or a transaction of such; others are left
    /// unanswered. Header and answers are those that it would have got from the machine.
    pub fn txn(
        &self,
        view: &View,
        request: &TxnRequest,
    ) -> Result<Result<TxnResponse, Refusal>, StoreError> {
        self.paced_txn(view, request, None)
    }

    fn paced_txn(
        &self,
        view: &View,
        request: &TxnRequest,
        pace: Option<&Pace<'_>>,
    ) -> Result<Result<TxnResponse, Refusal>, StoreError> {
        let lowest = read_txn::lowest_revision(request).filter(|&lowest| lowest < view.revision);
        let pinned = lowest.map(|lowest| self.pin_from(lowest));
        let compacted = pinned
            .as_ref()
            .map_or(-1, |(_, newest)| newest.compact_revision);
        let room = Room::new(true);
        let answer = self.with_source(view, |source| {
            let source = Source {
                compact_revision: source.compact_revision.max(compacted),
                room: Some(&room),
                pace,
                ..*source
            };
            read_txn(&source, request)
        });
        if room.is_over() {
            return Ok(Err(Refusal::AnswerTooLong));
        }
        answer
    }

    fn with_source<T>(&self, view: &View, read: impl FnOnce(&Source<'_>) -> T) -> T {
        read(&Source {
            index: &view.index,
            revision: view.revision,
            compact_revision: view.compact_revision,
            engine: &*view.engine,
            is_written: true,
            missed: Some(&|record| self.note_missed(record)),
            retained: Some(&self.retained),
            room: None,
            pace: None,
            tips: None,
        })
    }

    /// Told of an answered range, so that its next pages are read and counted like this one: `view` is what it was
    /// read from, `more` whether its limit left keys out. `now` is any clock that does not go back.
    pub fn note_page(&self, view: &Arc<View>, request: &RangeRequest, more: bool, now: Duration) {
        self.retained.note(view, request, more, now);
    }

    /// The view of an older revision, if it is held for the pages of a list and is not compacted.
    pub fn held(&self, view: &View, revision: i64) -> Option<Arc<View>> {
        let is_readable = revision >= view.compact_revision && revision < view.revision;
        is_readable.then(|| self.retained.find(revision)).flatten()
    }

    /// Lets go of older views that nobody asked for in a while. To be called from time to time.
    pub fn expire_pages(&self, now: Duration) {
        self.retained.expire(&self.view.load(), now);
    }

    /// The older views that are held.
    pub fn holding(&self) -> Holding {
        self.retained.holding(&self.view.load())
    }

    /// Never waits for a lock.
    fn note_missed(&self, record: &Record) {
        if let Some(mut missed) = self.missed.try_lock()
            && missed.len() < MISSED
        {
            missed.push_back(record.clone());
        }
    }

    /// The change sets of the revisions after `after`, up to `up_to`, of keys that are wanted.
    ///
    /// At most `limit_revisions` sets; a revision is never split. The answer says how far it came, which may be
    /// short of `up_to` also when few revisions hold a wanted key. `wants` does not read the store.
    pub fn history(
        &self,
        view: &View,
        after: i64,
        up_to: i64,
        limit_revisions: usize,
        wants: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<Result<History, Refusal>, StoreError> {
        // The versions in force at `after` are what the first changes replaced.
        let (_pin, newest) = self.pin_from(after);
        let revisions = (after, up_to.min(view.revision));
        let compacted = newest.compact_revision;
        history::read(&*view.engine, compacted, revisions, limit_revisions, wants)
    }

    /// The version of `key` that was in force just before `before_revision`; none if there was none or it is
    /// compacted.
    pub fn previous(&self, key: &[u8], before_revision: i64) -> Result<Option<Record>, StoreError> {
        match self.pin_in_view(before_revision - 1) {
            Ok((pin, view)) => history::version_at(&*view.engine, key, pin.revision()),
            Err(_) => Ok(None),
        }
    }

    /// Visits what became of `key` up to a revision, the newest first, until `visit` says no or history ends. Costs no
    /// more than what it visits, whatever else is stored. `visit` does not read the store.
    pub fn versions(
        &self,
        key: &[u8],
        up_to: i64,
        visit: &mut dyn FnMut(Version) -> bool,
    ) -> Result<(), StoreError> {
        // The version in force at the compacted revision is the last one that is visited.
        let (_pin, newest) = self.pin_from(self.view().compact_revision);
        let compacted = newest.compact_revision;
        let up_to = up_to.min(newest.revision);
        if up_to < compacted {
            return Ok(());
        }
        history::versions(&*newest.engine, compacted, key, up_to, visit)
    }

    /// etcd's hash of the history up to a revision, 0 for the newest; none if `goes_on` says no meanwhile. A compaction
    /// since the view has it read a newer one.
    ///
    /// Reads everything that is stored, so this is not for a thread that others wait for.
    pub fn hash_kv(
        &self,
        view: &View,
        revision: i64,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Result<Option<KvHash>, Refusal>, StoreError> {
        let (_pin, newest) = self.pin_from(view.compact_revision);
        if newest.compact_revision > view.compact_revision {
            return self.hash_kv(&newest, revision, goes_on);
        }
        let compacted = view.compact_revision;
        hash::kv(&*view.engine, view, compacted, revision, goes_on)
    }

    /// A hash of all that members hold alike; none if `goes_on` says no meanwhile. Reads everything, too.
    pub fn hash_whole(
        &self,
        view: &View,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Option<u32>, StoreError> {
        let (_pin, newest) = self.pin_from(view.compact_revision);
        if newest.compact_revision > view.compact_revision {
            return self.hash_whole(&newest, goes_on);
        }
        hash::whole(&*view.engine, view, view.compact_revision, goes_on)
    }

    /// The engine of the newest view. Not to be kept: see [`Reader::swap_engine`].
    pub fn engine(&self) -> Arc<dyn StateEngine> {
        self.view.load().engine.clone()
    }

    /// An engine that is always that of the newest view.
    pub fn swap_engine(&self) -> SwapEngine {
        SwapEngine::new(self.view.clone())
    }
}
