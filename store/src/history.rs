//! What changed: the change sets of live revisions, and those of past ones read back for watchers that lag.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::answer::Refusal;
use crate::engine::{Family, StateEngine, Step};
use crate::error::StoreError;
use crate::layout::{self, Op};
use crate::record::{Record, Tags};

/// All changes of one revision, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeSet {
    /// The revision.
    pub revision: i64,
    /// What changed; of a past revision only the changes asked for.
    pub changes: Vec<Change>,
}

/// One change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The new version; of a deletion only key and mod revision.
    pub record: Record,
    /// Whether the key was deleted.
    pub is_delete: bool,
    /// The version in force before the revision, unless this is a put that creates the key, or that version is
    /// compacted. An earlier change of the same revision does not count.
    pub previous: Option<Previous>,
}

/// The version in force before the revision of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Revision of the put that created the key.
    pub create_revision: i64,
    /// Revision of the version.
    pub mod_revision: i64,
    /// Number of puts since creation.
    pub version: i64,
    /// The lease, or 0.
    pub lease: i64,
    /// The version itself, if it was in memory; else [`crate::Reader::previous`] reads it.
    pub record: Option<Record>,
}

/// Past change sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The revisions that hold a change asked for, in their order.
    pub sets: Vec<Arc<ChangeSet>>,
    /// How far the search came: all changes up to this revision are in `sets`.
    pub up_to: i64,
}

/// What became of a key at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The version; of a deletion only key and mod revision.
    pub record: Record,
    /// Whether the key was deleted.
    pub is_delete: bool,
}

/// Revisions without a wanted change that one call looks at per wanted one, so that a call stays short.
const SKIPPED_PER_SET: usize = 64;

impl Previous {
    pub(crate) fn new(tags: &Tags, record: Option<Record>) -> Self {
        Self {
            create_revision: tags.create_revision,
            mod_revision: tags.mod_revision,
            version: tags.version,
            lease: tags.lease,
            record,
        }
    }
}

/// Reads the change sets of the revisions `after + 1 ..= up_to`, at most `limit` of them, of keys that are wanted.
///
/// A revision is read whole or not at all. Revisions from `compacted` on can be read, and whoever calls sees to it
/// that those from `after` on stay so meanwhile.
pub(crate) fn read(
    engine: &dyn StateEngine,
    compacted: i64,
    (after, up_to): (i64, i64),
    limit: usize,
    wants: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<Result<History, Refusal>, StoreError> {
    // A tombstone at the compacted revision is kept, so changes from that revision on can be told.
    if after + 1 < compacted {
        return Ok(Err(Refusal::Compacted {
            requested: after + 1,
            compacted,
        }));
    }
    if after >= up_to {
        return Ok(Ok(History {
            sets: Vec::new(),
            up_to: after,
        }));
    }
    let (found, up_to) = wanted(engine, after + 1..=up_to, limit.max(1), wants)?;
    let mut sets: Vec<Arc<ChangeSet>> = Vec::new();
    let mut current = ChangeSet {
        revision: 0,
        changes: Vec::new(),
    };
    for (revision, sub, op, key) in found {
        if revision != current.revision && !current.changes.is_empty() {
            let next = ChangeSet {
                revision,
                changes: Vec::new(),
            };
            sets.push(Arc::new(std::mem::replace(&mut current, next)));
        }
        current.revision = revision;
        current
            .changes
            .push(change(engine, compacted, (revision, sub), op, &key)?);
    }
    if !current.changes.is_empty() {
        sets.push(Arc::new(current));
    }
    Ok(Ok(History { sets, up_to }))
}

type Wanted = Vec<(i64, u32, Op, Box<[u8]>)>;

/// The wanted changes in a range of revisions, and how far the search came.
fn wanted(
    engine: &dyn StateEngine,
    revisions: RangeInclusive<i64>,
    limit: usize,
    wants: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(Wanted, i64), StoreError> {
    let (first, last) = revisions.into_inner();
    let mut found: Wanted = Vec::new();
    let (mut sets, mut seen) = (0, 0);
    let (mut reading, mut up_to) = (first - 1, last);
    let mut fault = None;
    let from = layout::log_bound(first);
    let to = layout::log_bound(last + 1);
    engine.scan(Family::Log, &from, Some(&to), &mut |key, value, _| {
        let parsed = layout::log_key(key).and_then(|key| Ok((key, layout::log_value(value)?)));
        let ((revision, sub), (op, key)) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                fault = Some(error);
                return Step::Stop;
            }
        };
        if revision != reading {
            if sets >= limit || seen >= limit.saturating_mul(SKIPPED_PER_SET) {
                up_to = reading;
                return Step::Stop;
            }
            reading = revision;
            seen += 1;
        }
        if wants(key) {
            if found.last().is_none_or(|&(last, ..)| last != revision) {
                sets += 1;
            }
            found.push((revision, sub, op, key.into()));
        }
        Step::Next
    })?;
    match fault {
        Some(fault) => Err(fault),
        None => Ok((found, up_to)),
    }
}

/// A change, and the version in force before its revision: the next older plain item of `kv`.
fn change(
    engine: &dyn StateEngine,
    compacted: i64,
    (revision, sub): (i64, u32),
    op: Op,
    key: &[u8],
) -> Result<Change, StoreError> {
    let (mut from, mut to) = (
        Vec::with_capacity(key.len() + 16),
        Vec::with_capacity(key.len() + 2),
    );
    layout::put_kv_key(&mut from, key, revision);
    layout::put_kv_after(&mut to, key);
    let (mut record, mut previous) = (None, None);
    let mut fault = None;
    engine.scan(Family::Kv, &from, Some(&to), &mut |key, value, _| {
        let step = (|| {
            let found = layout::split_kv_key(key)?;
            let (found_op, found_sub, version) = layout::kv_value(value)?;
            if found.mod_revision == revision {
                // The last write of the key in this revision; behind it those that it superseded.
                if (found_op, found_sub) == (op, sub) {
                    record = Some(version);
                }
                return Ok(Step::Next);
            }
            if found_op == Op::Put {
                previous = Some(version);
            }
            Ok(Step::Stop)
        })();
        step.unwrap_or_else(|error| {
            fault = Some(error);
            Step::Stop
        })
    })?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    let record = record
        .ok_or_else(|| StoreError::damaged("a change in family log has no version in family kv"))?;
    let creates = op == Op::Put && record.create_revision() == revision;
    let previous = previous
        .filter(|_| !creates && revision > compacted)
        .map(|record| {
            let fields = record.fields();
            Previous {
                create_revision: fields.create_revision,
                mod_revision: fields.mod_revision,
                version: fields.version,
                lease: fields.lease,
                record: Some(record),
            }
        });
    Ok(Change {
        record,
        is_delete: op == Op::Delete,
        previous,
    })
}

/// Visits what became of `key` up to a revision, the newest first, until `visit` says no. Ends with the version in force
/// at the compacted revision: what is older is gone, or about to be.
pub(crate) fn versions(
    engine: &dyn StateEngine,
    compacted: i64,
    key: &[u8],
    up_to: i64,
    visit: &mut dyn FnMut(Version) -> bool,
) -> Result<(), StoreError> {
    let (mut from, mut to) = (
        Vec::with_capacity(key.len() + 16),
        Vec::with_capacity(key.len() + 2),
    );
    layout::put_kv_key(&mut from, key, up_to);
    layout::put_kv_after(&mut to, key);
    let mut fault = None;
    engine.scan(Family::Kv, &from, Some(&to), &mut |key, value, _| {
        let step = (|| {
            let found = layout::split_kv_key(key)?;
            if found.superseded.is_some() {
                return Ok(Step::Next);
            }
            let (op, _, record) = layout::kv_value(value)?;
            let is_delete = op == Op::Delete;
            // A tombstone below the compacted revision says nothing that can still be read.
            if is_delete && found.mod_revision < compacted {
                return Ok(Step::Stop);
            }
            let goes_on = visit(Version { record, is_delete });
            Ok(if goes_on && found.mod_revision > compacted {
                Step::Next
            } else {
                Step::Stop
            })
        })();
        step.unwrap_or_else(|error| {
            fault = Some(error);
            Step::Stop
        })
    })?;
    fault.map_or(Ok(()), Err)
}

/// The version of `key` that is in force at `revision`.
pub(crate) fn version_at(
    engine: &dyn StateEngine,
    key: &[u8],
    revision: i64,
) -> Result<Option<Record>, StoreError> {
    let (mut from, mut to) = (
        Vec::with_capacity(key.len() + 16),
        Vec::with_capacity(key.len() + 2),
    );
    layout::put_kv_key(&mut from, key, revision);
    layout::put_kv_after(&mut to, key);
    let mut found = Ok(None);
    engine.scan(Family::Kv, &from, Some(&to), &mut |_, value, _| {
        found = layout::kv_value(value).map(|(op, _, record)| (op == Op::Put).then_some(record));
        Step::Stop
    })?;
    found
}
