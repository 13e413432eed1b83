//! A range in two steps: first which keys and how long they are, then their values, as they are needed.
//!
//! The first step reads no value that is not in memory, so an answer of any size takes some 16 bytes a key, or for keys
//! at an older revision that is not held, those of the key.

use std::ops::Range;
use std::sync::Arc;

use proto::etcd::etcdserverpb::RangeRequest;
use proto::etcd::etcdserverpb::range_request::SortTarget;

use super::range::{self, Interval, RangeTotals, Selection, Wish, full};
use crate::engine::{StateEngine, Step};
use crate::error::StoreError;
use crate::pins::Pin;
use crate::reader::View;
use crate::record::{Record, Tip};

/// Bytes of a page, unless one record alone is longer.
const PAGE_BYTES: u64 = 1 << 20;
/// Records of a page.
const PAGE_KEYS: usize = 10_000;
/// Values of a page that are read key by key; more are read by one scan.
const POINT_READS: usize = 16;

/// Bytes before those of a shared allocation.
const COUNTERS: usize = 16;

/// The keys of an answer, in its order.
#[derive(Debug)]
pub struct Chosen {
    tips: Vec<Tip>,
    /// Live keys in the range, and whether the limit left any out.
    pub totals: RangeTotals,
    /// Bytes of memory that it takes beside the index that it was chosen from.
    pub held_bytes: usize,
    revision: i64,
    is_in_key_order: bool,
    keys_only: bool,
    keep_lease: bool,
    /// Where it is read, and what keeps its revision readable there.
    kept: (Arc<View>, Option<Pin>),
}

impl Chosen {
    pub(crate) fn new(
        request: &RangeRequest,
        mut tips: Vec<Tip>,
        totals: RangeTotals,
        kept: (Arc<View>, Option<Pin>),
    ) -> Self {
        let wish = Wish::new(request);
        let revision = if request.revision <= 0 {
            kept.0.revision
        } else {
            request.revision
        };
        tips.shrink_to_fit();
        let own = tips.iter().filter(|tip| !tip.is_shared());
        let own: usize = own.map(|tip| tip.held_bytes() + COUNTERS).sum();
        Self {
            held_bytes: tips.len() * size_of::<Tip>() + own,
            tips,
            totals,
            revision,
            is_in_key_order: wish.is_in_key_order(),
            keys_only: wish.keys_only,
            keep_lease: wish.target == SortTarget::Value,
            kept,
        }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.tips.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tips.is_empty()
    }

    /// The lengths of the encoded records, in their order.
    pub fn encoded_lens(&self) -> impl Iterator<Item = usize> {
        let mut scratch = Vec::new();
        self.tips.iter().map(move |tip| {
            let len = if self.keys_only {
                let record = tip.without_value(&mut scratch, self.keep_lease);
                record.encoded().len() as u64
            } else {
                tip.encoded_len()
            };
            usize::try_from(len).unwrap_or(usize::MAX)
        })
    }

    /// The next page from a place on, and whether all of its values are in memory.
    pub fn page(&self, from: usize) -> (Range<usize>, bool) {
        let (mut end, mut bytes, mut is_here) = (from, 0, true);
        for tip in self.tips.iter().skip(from).take(PAGE_KEYS) {
            bytes += tip.encoded_len();
            if end > from && bytes > PAGE_BYTES {
                break;
            }
            is_here &= self.keys_only || tip.record().is_some();
            end += 1;
        }
        (from..end, is_here)
    }

    /// The records of a page.
    pub(crate) fn read(&self, page: Range<usize>) -> Result<Vec<Record>, StoreError> {
        let engine = &*self.kept.0.engine;
        let tips = self.tips.get(page).unwrap_or_default();
        let mut scratch = Vec::new();
        if self.keys_only {
            let bare = |tip: &Tip| tip.without_value(&mut scratch, self.keep_lease);
            return Ok(tips.iter().map(bare).collect());
        }
        let missing = tips.iter().filter(|tip| tip.record().is_none()).count();
        if self.is_in_key_order && missing > POINT_READS {
            self.scan(engine, tips)
        } else {
            tips.iter().map(|tip| full(engine, tip)).collect()
        }
    }

    fn scan(&self, engine: &dyn StateEngine, tips: &[Tip]) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::with_capacity(tips.len());
        let Some(first) = tips.first() else {
            return Ok(records);
        };
        let all = Selection::Interval(Interval {
            start: first.key(),
            end: None,
        });
        range::versions(engine, &all, self.revision, &mut |stored| {
            let Some(tip) = tips.get(records.len()) else {
                return Ok(Step::Stop);
            };
            let (_, _, record) = crate::layout::kv_value(stored)?;
            // A filter may have left keys out.
            if record.key() == tip.key() {
                records.push(record);
            }
            let is_done = records.len() == tips.len();
            Ok(if is_done { Step::Stop } else { Step::Next })
        })?;
        if records.len() < tips.len() {
            return Err(StoreError::damaged(
                "a key of the index has no version in family kv",
            ));
        }
        Ok(records)
    }
}
