//! Range: which keys, at which revision, how many, in which order.

use std::cell::RefCell;
use std::cmp::Ordering;

use proto::etcd::etcdserverpb::RangeRequest;
use proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};

use super::by_value::First;
use super::index::Index;
use super::pace::Pace;
use super::room::Room;
use crate::answer::Refusal;
use crate::engine::{Family, StateEngine, Step};
use crate::error::StoreError;
use crate::layout::{self, Op};
use crate::mutant::{self, Mutant};
use crate::record::{Record, Tip};
use crate::retained::Retained;

/// Stripped values that one range, or one compare, reads key by key before it goes over to scanning.
pub(super) const POINT_READS: usize = 16;
/// Values that a range of an older revision holds while it gathers; beyond, they are read again.
const KEPT_BYTES: usize = 32 << 20;
/// Unneeded versions that a scan steps over before it seeks.
const STEPS: usize = 4;

/// What a range found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RangeAnswer {
    /// The records, in the order asked for.
    pub records: Vec<Record>,
    /// Live keys in the range, whatever limit and filters.
    pub count: i64,
    /// Whether the limit left any out.
    pub more: bool,
}

/// What a range found beside its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeTotals {
    /// Live keys in the range, whatever limit and filters.
    pub count: i64,
    /// Whether the limit left any out.
    pub more: bool,
}

/// What a range found, or why it is refused. If it was given up for room or pace, what it says is worth nothing.
pub(crate) type Found = Result<Result<RangeTotals, Refusal>, StoreError>;

/// Of a range that was given up: whoever limited its room or pace asks there.
const GIVEN_UP: Found = Ok(Ok(RangeTotals {
    count: 0,
    more: false,
}));

/// Keys from `start` on, below `end` if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval<'a> {
    /// The first key.
    pub start: &'a [u8],
    /// The first key behind.
    pub end: Option<&'a [u8]>,
}

/// The keys that a request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection<'a> {
    /// One.
    Key(&'a [u8]),
    /// All of an interval.
    Interval(Interval<'a>),
}

/// Where a range reads.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) index: &'a Index,
    /// The revision that `index` shows.
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
    pub(crate) engine: &'a dyn StateEngine,
    /// Whether the engine already holds all that `index` shows.
    pub(crate) is_written: bool,
    /// Told of records whose values were not in memory.
    pub(crate) missed: Option<&'a dyn Fn(&Record)>,
    /// What the answer may weigh, if that is limited.
    pub(crate) room: Option<&'a Room>,
    /// What the read may cost, if that is limited.
    pub(crate) pace: Option<&'a Pace<'a>>,
    /// Takes the tips of the answer; values that are not in memory are not read then.
    pub(crate) tips: Option<&'a RefCell<Vec<Tip>>>,
    /// Views that show older revisions.
    pub(crate) retained: Option<&'a Retained>,
}

impl<'a> Selection<'a> {
    /// By etcd's convention: no end is one key, an end of one zero byte is no end.
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Self::Key(key),
            [0] => Self::Interval(Interval {
                start: key,
                end: None,
            }),
            end => Self::Interval(Interval {
                start: key,
                end: Some(end),
            }),
        }
    }

    /// Whether a key is meant.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(only) => key == *only,
            Self::Interval(Interval { start, end }) => {
                key >= *start && end.is_none_or(|end| key < end)
            }
        }
    }

    /// The bounds in family `kv`.
    fn bounds(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        match *self {
            Self::Key(key) => {
                layout::put_kv_prefix(&mut from, key);
                layout::put_kv_after(&mut to, key);
                (from, Some(to))
            }
            Self::Interval(Interval { start, end }) => {
                layout::put_kv_bound(&mut from, start);
                let to = end.map(|end| {
                    layout::put_kv_bound(&mut to, end);
                    to
                });
                (from, to)
            }
        }
    }
}

impl Source<'_> {
    /// Takes so many items in memory into account; false if that is too much.
    pub(super) fn spend(&self, items: usize) -> bool {
        self.pace.is_none_or(|pace| pace.spend(items as u64))
    }

    /// The same for one item read from the engine.
    pub(super) fn reads(&self, len: u64) -> bool {
        self.pace.is_none_or(|pace| pace.read(len))
    }

    /// Whether what is read is one page, which may end anywhere and counts nothing.
    fn is_page(&self) -> bool {
        self.room.is_some_and(|room| room.is_page)
    }
}

/// The options of a request, in the terms of the evaluation.
pub(super) struct Wish<'a> {
    selection: Selection<'a>,
    limit: usize,
    order: SortOrder,
    pub(super) target: SortTarget,
    pub(super) keys_only: bool,
    request: &'a RangeRequest,
}

impl<'a> Wish<'a> {
    pub(super) fn new(request: &'a RangeRequest) -> Self {
        let limit = usize::try_from(request.limit).unwrap_or(0);
        Self {
            selection: Selection::new(&request.key, &request.range_end),
            limit: if limit == 0 { usize::MAX } else { limit },
            order: request.sort_order(),
            target: request.sort_target(),
            keys_only: request.keys_only,
            request,
        }
    }

    fn has_filters(&self) -> bool {
        let request = self.request;
        request.min_mod_revision != 0
            || request.max_mod_revision != 0
            || request.min_create_revision != 0
            || request.max_create_revision != 0
    }

    /// Whether the answer is the first keys in key order: nothing has to be gathered first.
    fn is_plain(&self) -> bool {
        self.is_in_key_order() && !self.has_filters()
    }

    pub(super) fn is_in_key_order(&self) -> bool {
        self.target == SortTarget::Key && self.order != SortOrder::Descend
    }

    /// How many keys, in key order, are gathered before sorting.
    ///
    /// Without an order but with a target other than the key, etcd sorts only the first `limit + 1`.
    fn gathered(&self) -> usize {
        if self.order == SortOrder::None && !self.has_filters() {
            self.limit.saturating_add(1)
        } else {
            usize::MAX
        }
    }

    fn passes_filters(&self, tip: &Tip) -> bool {
        let tags = tip.tags();
        let within =
            |revision, min, max| (min == 0 || revision >= min) && (max == 0 || revision <= max);
        let request = self.request;
        within(
            tags.mod_revision,
            request.min_mod_revision,
            request.max_mod_revision,
        ) && within(
            tags.create_revision,
            request.min_create_revision,
            request.max_create_revision,
        )
    }
}

/// Evaluates a range; the records go to `visit` in the order asked for.
pub(crate) fn range(
    source: &Source<'_>,
    request: &RangeRequest,
    visit: &mut dyn FnMut(&Record),
) -> Found {
    let asked = request.revision;
    if asked > source.revision {
        return Ok(Err(Refusal::FutureRevision {
            requested: asked,
            current: source.revision,
        }));
    }
    let oldest = source.compact_revision - i64::from(mutant::is_on(Mutant::CompactedOffByOne));
    if asked > 0 && asked < oldest {
        let compacted = source.compact_revision;
        return Ok(Err(Refusal::Compacted {
            requested: asked,
            compacted,
        }));
    }
    let wish = Wish::new(request);
    if asked <= 0 || asked == source.revision {
        newest(source, &wish, visit)
    } else if let Some(held) = source.retained.and_then(|retained| retained.find(asked)) {
        let held = Source {
            index: &held.index,
            revision: asked,
            missed: None,
            ..*source
        };
        newest(&held, &wish, visit)
    } else {
        past(source, &wish, asked, visit)
    }
}

/// Evaluates a range over tips gathered by the caller: all of the selection, in key order.
pub(crate) fn range_of(
    source: &Source<'_>,
    request: &RangeRequest,
    tips: Vec<Tip>,
    visit: &mut dyn FnMut(&Record),
) -> Found {
    let wish = Wish::new(request);
    let count = tips.len();
    if request.count_only {
        return totals(count, false);
    }
    arrange(
        source,
        &wish,
        tips.into_iter().take(wish.gathered()).collect(),
        count,
        visit,
    )
}

/// At the index's revision.
fn newest(source: &Source<'_>, wish: &Wish<'_>, visit: &mut dyn FnMut(&Record)) -> Found {
    let interval = match wish.selection {
        Selection::Key(key) => {
            let tip = source.index.get(key);
            let count = usize::from(tip.is_some());
            return match tip {
                Some(tip) if !wish.request.count_only => {
                    if wish.passes_filters(tip) {
                        Emitter::new(source, wish).emit(tip, visit)?;
                    }
                    totals(count, false)
                }
                _ => totals(count, false),
            };
        }
        Selection::Interval(interval) => interval,
    };
    if wish.request.count_only {
        return totals(source.index.count(&interval), false);
    }
    let tips = source.index.range(&interval);
    let count = tips.len();
    if !wish.is_plain() {
        // Gathering and sorting cost more than handing out.
        if !source.spend(4 * count.min(wish.gathered())) {
            return GIVEN_UP;
        }
        return arrange(
            source,
            wish,
            tips.take(wish.gathered()).cloned().collect(),
            count,
            visit,
        );
    }
    if !source.is_page() && !source.spend(count.min(wish.limit)) {
        return GIVEN_UP;
    }
    let mut emitter = Emitter::new(source, wish);
    for (place, tip) in tips.take(wish.limit).enumerate() {
        if source.is_page() && !source.spend(1) {
            return GIVEN_UP;
        }
        if emitter.point_reads == POINT_READS && source.is_written && !wish.keys_only {
            let rest = Selection::Interval(Interval {
                start: tip.key(),
                ..interval
            });
            let mut left = count.min(wish.limit) - place;
            let pace = source.pace;
            paced_versions(source.engine, &rest, source.revision, pace, &mut |stored| {
                emitter.emit_stored(stored, visit)?;
                left -= 1;
                let is_done = left == 0 || emitter.is_full();
                Ok(if is_done { Step::Stop } else { Step::Next })
            })?;
            break;
        }
        emitter.emit(tip, visit)?;
        if emitter.is_full() {
            break;
        }
    }
    let counted = if mutant::is_on(Mutant::CountWithLimit) {
        count.min(wish.limit)
    } else {
        count
    };
    totals(counted, count > wish.limit)
}

/// At a revision that only the engine shows.
fn past(
    source: &Source<'_>,
    wish: &Wish<'_>,
    revision: i64,
    visit: &mut dyn FnMut(&Record),
) -> Found {
    let is_counting = wish.request.count_only;
    if wish.is_plain() && !is_counting {
        return past_in_order(source, wish, revision, visit);
    }
    let mut tips = Vec::new();
    let mut count = 0;
    let wanted = if is_counting { 0 } else { wish.gathered() };
    // In a transaction only what is emitted takes of its room, as in `newest`: which of the two evaluates a range depends
    // on where a batch ends, and that may change nothing. So what is gathered is bounded by leaving values out.
    let is_bare = source.tips.is_some() || (wish.keys_only && wish.target != SortTarget::Value);
    let mut kept = 0;
    let (selection, pace) = (&wish.selection, source.pace);
    let mut scratch = Vec::new();
    paced_versions(source.engine, selection, revision, pace, &mut |stored| {
        count += 1;
        if tips.len() < wanted {
            let record = layout::kv_value(stored)?.2;
            kept += record.encoded().len();
            let tip = Tip::from(record);
            tips.push(if is_bare || kept > KEPT_BYTES {
                tip.strip(&mut scratch)
            } else {
                tip
            });
        }
        Ok(Step::Next)
    })?;
    if is_counting {
        return totals(count, false);
    }
    arrange(source, wish, tips, count, visit)
}

/// The same of a plain range: what it answers stands in the order in which it is read.
fn past_in_order(
    source: &Source<'_>,
    wish: &Wish<'_>,
    revision: i64,
    visit: &mut dyn FnMut(&Record),
) -> Found {
    let mut emitter = Emitter::new(source, wish);
    let mut count = 0;
    let (selection, pace) = (&wish.selection, source.pace);
    paced_versions(source.engine, selection, revision, pace, &mut |stored| {
        count += 1;
        if count <= wish.limit {
            emitter.emit_stored(stored, visit)?;
        }
        // All others are read on for the count.
        let is_done = emitter.is_full() || (source.is_page() && count >= wish.limit);
        Ok(if is_done { Step::Stop } else { Step::Next })
    })?;
    totals(count, count > wish.limit)
}

/// Filters, sorts, cuts and emits what was gathered.
fn arrange(
    source: &Source<'_>,
    wish: &Wish<'_>,
    mut tips: Vec<Tip>,
    count: usize,
    visit: &mut dyn FnMut(&Record),
) -> Found {
    if wish.has_filters() {
        tips.retain(|tip| wish.passes_filters(tip));
    }
    if wish.target == SortTarget::Value {
        return arrange_by_value(source, wish, tips, count, visit);
    }
    if wish.target != SortTarget::Key || wish.order == SortOrder::Descend {
        let compare = |left: &Tip, right: &Tip| compare(wish.target, left, right);
        match wish.order {
            SortOrder::Descend => tips.sort_by(|left, right| compare(right, left)),
            SortOrder::None | SortOrder::Ascend => tips.sort_by(compare),
        }
    }
    let mut emitter = Emitter::new(source, wish);
    for tip in tips.iter().take(wish.limit) {
        emitter.emit(tip, visit)?;
        if emitter.is_full() {
            break;
        }
    }
    totals(count, tips.len() > wish.limit)
}

/// Sorts what was gathered by its values, which are read for that, cuts and emits it.
fn arrange_by_value(
    source: &Source<'_>,
    wish: &Wish<'_>,
    tips: Vec<Tip>,
    count: usize,
    visit: &mut dyn FnMut(&Record),
) -> Found {
    let found = tips.len();
    // In a transaction all of them count, also those that the limit leaves out: so it stands in the log.
    let lens = tips.iter().map(Tip::encoded_len);
    if source.room.is_some_and(|room| !room.fits(lens)) {
        return GIVEN_UP;
    }
    let mut first = First::new(wish.limit, wish.order == SortOrder::Descend);
    for tip in tips {
        if tip.record().is_none() && !source.reads(tip.encoded_len()) {
            return GIVEN_UP;
        }
        let record = full(source.engine, &tip)?;
        if !first.add(tip, record) {
            return Ok(Err(Refusal::AnswerTooLong));
        }
    }
    let mut emitter = Emitter::new(source, wish);
    for (tip, record) in first.into_sorted() {
        // Whoever takes tips reads the values once more, page by page.
        let tip = if source.tips.is_some() {
            tip
        } else {
            Tip::from(record)
        };
        emitter.emit(&tip, visit)?;
        if emitter.is_full() {
            break;
        }
    }
    totals(count, found > wish.limit)
}

fn compare(target: SortTarget, left: &Tip, right: &Tip) -> Ordering {
    match target {
        SortTarget::Key => left.key().cmp(right.key()),
        SortTarget::Version => left.tags().version.cmp(&right.tags().version),
        SortTarget::Create => left
            .tags()
            .create_revision
            .cmp(&right.tags().create_revision),
        SortTarget::Mod => left.tags().mod_revision.cmp(&right.tags().mod_revision),
        // Sorted by whoever has the values.
        SortTarget::Value => Ordering::Equal,
    }
}

/// Turns tips into the records of an answer.
struct Emitter<'a> {
    source: Source<'a>,
    keys_only: bool,
    keep_lease: bool,
    scratch: Vec<u8>,
    /// Values that were not in memory.
    point_reads: usize,
}

impl<'a> Emitter<'a> {
    fn new(source: &Source<'a>, wish: &Wish<'_>) -> Self {
        Self {
            source: *source,
            keys_only: wish.keys_only,
            // Sorting by value reads versions whole; then etcd strips the value only.
            keep_lease: wish.target == SortTarget::Value,
            scratch: Vec::new(),
            point_reads: 0,
        }
    }

    /// Whether a record of this length goes into the answer.
    fn admits(&self, encoded_len: u64) -> bool {
        let room = self.source.room;
        room.is_none_or(|room| room.take(encoded_len) && room.is_wanted)
    }

    /// Whether nothing more goes into the answer.
    fn is_full(&self) -> bool {
        let source = &self.source;
        source.room.is_some_and(Room::is_over) || source.pace.is_some_and(Pace::is_over)
    }

    fn emit(&mut self, tip: &Tip, visit: &mut dyn FnMut(&Record)) -> Result<(), StoreError> {
        if let Some(tips) = self.source.tips {
            tips.borrow_mut().push(tip.clone());
            return Ok(());
        }
        if self.keys_only {
            let record = tip.without_value(&mut self.scratch, self.keep_lease);
            if self.admits(record.encoded().len() as u64) {
                visit(&record);
            }
        } else if !self.admits(tip.encoded_len()) {
            // Too much, or nobody reads it.
        } else if let Some(record) = tip.record() {
            visit(record);
        } else {
            self.point_reads += 1;
            if !self.source.reads(tip.encoded_len()) {
                return Ok(());
            }
            let record = full(self.source.engine, tip)?;
            if let Some(missed) = self.source.missed {
                missed(&record);
            }
            visit(&record);
        }
        Ok(())
    }

    /// The same of a version that a scan has come to.
    fn emit_stored(
        &mut self,
        stored: &[u8],
        visit: &mut dyn FnMut(&Record),
    ) -> Result<(), StoreError> {
        let (_, _, encoded) = layout::kv_parts(stored)?;
        if self.source.tips.is_some() || self.keys_only {
            let tip = Tip::from(Record::from_encoded(encoded)?);
            let bare = tip.strip(&mut self.scratch);
            return self.emit(&bare, visit);
        }
        if self.admits(encoded.len() as u64) {
            visit(&Record::from_encoded(encoded)?);
        }
        Ok(())
    }
}

/// The whole record of a tip, read from the engine if its value is not in memory.
pub(crate) fn full(engine: &dyn StateEngine, tip: &Tip) -> Result<Record, StoreError> {
    if let Some(record) = tip.record() {
        return Ok(record.clone());
    }
    let mut stored_key = Vec::with_capacity(tip.key().len() + 16);
    layout::put_kv_key(&mut stored_key, tip.key(), tip.mod_revision());
    let mut found = None;
    engine.get(Family::Kv, &stored_key, &mut |stored| {
        found = Some(layout::kv_value(stored))
    })?;
    match found.transpose()? {
        Some((Op::Put, _, record)) => Ok(record),
        _ => Err(StoreError::damaged(
            "a key of family tip has no version in family kv",
        )),
    }
}

/// Visits the stored version, in force at `revision`, of each live key of a selection, in key order.
pub(crate) fn versions(
    engine: &dyn StateEngine,
    selection: &Selection<'_>,
    revision: i64,
    visit: &mut dyn FnMut(&[u8]) -> Result<Step, StoreError>,
) -> Result<(), StoreError> {
    paced_versions(engine, selection, revision, None, visit)
}

/// The same, as long as the pace allows: if it is over, there may be more.
pub(super) fn paced_versions(
    engine: &dyn StateEngine,
    selection: &Selection<'_>,
    revision: i64,
    pace: Option<&Pace<'_>>,
    visit: &mut dyn FnMut(&[u8]) -> Result<Step, StoreError>,
) -> Result<(), StoreError> {
    let (from, to) = selection.bounds();
    // The escaped key whose version in force has been seen.
    let mut done = Vec::new();
    let mut steps = 0;
    let mut fault = None;
    engine.scan(
        Family::Kv,
        &from,
        to.as_deref(),
        &mut |stored_key, stored, target| {
            if pace.is_some_and(|pace| !pace.read(stored.len() as u64)) {
                return Step::Stop;
            }
            let step = (|| {
                let found = layout::split_kv_key(stored_key)?;
                let key = found.escaped;
                if key == done {
                    steps += 1;
                    if steps <= STEPS {
                        return Ok(Step::Next);
                    }
                    target.extend_from_slice(key);
                    // Behind all versions of this key: its end mark, one up.
                    *target.last_mut().expect("an end mark has two bytes") = 1;
                    return Ok(Step::Seek);
                }
                if found.mod_revision > revision {
                    steps += 1;
                    if steps <= STEPS {
                        return Ok(Step::Next);
                    }
                    steps = 0;
                    target.extend_from_slice(key);
                    target.extend_from_slice(&(!revision.cast_unsigned()).to_be_bytes());
                    return Ok(Step::Seek);
                }
                if found.superseded.is_some() {
                    return Ok(Step::Next);
                }
                steps = 0;
                done.clear();
                done.extend_from_slice(key);
                match layout::kv_op(stored)? {
                    Op::Put => visit(stored),
                    Op::Delete => Ok(Step::Next),
                }
            })();
            step.unwrap_or_else(|error| {
                fault = Some(error);
                Step::Stop
            })
        },
    )?;
    fault.map_or(Ok(()), Err)
}

fn totals(count: usize, more: bool) -> Found {
    Ok(Ok(RangeTotals {
        count: i64::try_from(count).unwrap_or(i64::MAX),
        more,
    }))
}
