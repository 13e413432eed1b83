//! The sweep: removes what only history before the horizon needed, and what an engine's own rewriting must not drop.
//!
//! An engine drops superseded versions when it rewrites them, but no tombstone: it never sees all that one hides. The
//! sweep does, by walking over the changes below the horizon. Of each deletion it removes what it hides and then the
//! tombstone; at the end that part of the `log` goes. A deletion at the horizon itself is left for the next time: a
//! watch from there still tells it.
//!
//! It writes beside the machine, and only removes what no read can reach any more; so it makes no difference at which
//! point between two batches either of them stands after a crash.

use std::sync::Arc;

use crate::engine::{Batch, Family, StateEngine, Step};
use crate::error::StoreError;
use crate::layout::{self, Op, SweptTo};
use crate::mutant::{self, Mutant};
use crate::reader::Reader;
use crate::snapshot;

/// Versions of one key that are removed together at most.
const VERSIONS: usize = 10_000;

/// Sweeps the state behind a reader, a few changes at a time.
pub struct Sweep {
    reader: Reader,
    horizon: i64,
    batch: Batch,
}

/// What one step came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Changes that it looked at.
    pub changes: usize,
    /// Versions that it removed.
    pub removed: usize,
    /// Whether everything below the horizon is swept.
    pub is_done: bool,
}

impl Sweep {
    /// Goes on where an earlier one ended.
    pub fn new(reader: Reader) -> Self {
        Self {
            reader,
            horizon: 0,
            batch: Batch::default(),
        }
    }

    /// The engine's horizon, as far as this sweep has set it.
    pub fn horizon(&self) -> i64 {
        self.horizon
    }

    /// The revision that the state, as a crash would leave it, has given up history before; -1 if none.
    pub fn durable_revision(&self) -> Result<i64, StoreError> {
        if mutant::is_on(Mutant::HorizonNotDurable) {
            return Ok(self.reader.view().compact_revision);
        }
        let durable = snapshot::durable(&*self.reader.engine())?;
        Ok(durable.map_or(-1, |name| name.retained_revision))
    }

    /// Moves the horizon as far as it can go now, and tells the engine; answers where it is.
    ///
    /// It stays at or below what is durably given up, or a crash would bring back revisions with holes, and what any
    /// read needs.
    pub fn raise_horizon(&mut self) -> Result<i64, StoreError> {
        // Before the pins are asked: a read that they do not know of yet will see this compaction, or a later one.
        let published = self.reader.view().compact_revision;
        let durable = self.durable_revision()?;
        let horizon = published.min(durable).min(self.reader.oldest_needed());
        self.horizon = self.horizon.max(horizon);
        // Also one that is known: the machine may have gone over to a database that was not told yet.
        self.reader.engine().set_horizon(self.horizon);
        Ok(self.horizon)
    }

    /// Sweeps about so many changes, as one engine batch.
    pub fn step(&mut self, max_changes: usize) -> Result<Swept, StoreError> {
        let pins = self.reader.pins.clone();
        let _exclusive = pins.exclusive();
        let engine = self.reader.engine();
        let mut position = position(&*engine)?;
        if position.cleared >= self.horizon {
            return Ok(Swept {
                is_done: true,
                ..Swept::default()
            });
        }
        let mut swept = Swept::default();
        let Found {
            deletions,
            changes,
            next,
        } = changes(&*engine, position.next, self.horizon, max_changes)?;
        (swept.changes, swept.is_done) = (changes, next.is_none());
        position.next = next.unwrap_or((self.horizon, 0));
        self.batch.clear();
        for (at, key) in deletions {
            if swept.removed >= max_changes.max(1) {
                (position.next, swept.is_done) = (at, false);
                break;
            }
            let (removed, is_whole) = hidden(&*engine, &mut self.batch, at.0, &key)?;
            swept.removed += removed;
            if !is_whole {
                (position.next, swept.is_done) = (at, false);
                break;
            }
        }
        if swept.is_done {
            let (from, to) = (position.cleared, self.horizon);
            self.batch.delete_range(
                Family::Log,
                |out| out.extend_from_slice(&layout::log_bound(from)),
                |out| out.extend_from_slice(&layout::log_bound(to)),
            );
            position.cleared = to;
        }
        self.batch.put(
            Family::Meta,
            |out| out.extend_from_slice(layout::META_SWEPT),
            |out| layout::put_swept(out, &position),
        );
        engine.write(&self.batch)?;
        Ok(swept)
    }

    /// The revision that the `log` begins with: everything before it is swept.
    pub fn cleared(&self) -> Result<i64, StoreError> {
        Ok(position(&*self.reader.engine())?.cleared)
    }

    /// The state that is swept.
    pub fn engine(&self) -> Arc<dyn StateEngine> {
        self.reader.engine()
    }
}

/// Where the last step ended. It is read each time, because another state may have been installed in between.
fn position(engine: &dyn StateEngine) -> Result<SweptTo, StoreError> {
    let mut found = Ok(SweptTo::default());
    engine.get(Family::Meta, layout::META_SWEPT, &mut |stored| {
        found = layout::swept(stored);
    })?;
    found
}

/// Revision and sub-revision of a deletion, and its key.
type Deletion = ((i64, u32), Box<[u8]>);

/// What a stretch of changes holds.
struct Found {
    deletions: Vec<Deletion>,
    changes: usize,
    /// The first change behind the stretch; none if there is none below the horizon.
    next: Option<(i64, u32)>,
}

fn changes(
    engine: &dyn StateEngine,
    (revision, sub): (i64, u32),
    horizon: i64,
    max_changes: usize,
) -> Result<Found, StoreError> {
    let mut found = Found {
        deletions: Vec::new(),
        changes: 0,
        next: None,
    };
    let mut from = Vec::new();
    layout::put_log_key(&mut from, revision, sub);
    let to = layout::log_bound(horizon);
    let mut fault = None;
    engine.scan(Family::Log, &from, Some(&to), &mut |key, value, _| {
        let parsed = layout::log_key(key).and_then(|at| Ok((at, layout::log_value(value)?)));
        match parsed {
            Ok((at, _)) if found.changes == max_changes.max(1) => {
                found.next = Some(at);
                return Step::Stop;
            }
            Ok((at, (Op::Delete, key))) => found.deletions.push((at, key.into())),
            Ok((_, (Op::Put, _))) => {}
            Err(error) => {
                fault = Some(error);
                return Step::Stop;
            }
        }
        found.changes += 1;
        Step::Next
    })?;
    fault.map_or(Ok(found), Err)
}

/// Removes a tombstone and the versions that it hides. Answers how many those are, and whether that is all: if there
/// are too many, the tombstone goes with the last of them.
fn hidden(
    engine: &dyn StateEngine,
    batch: &mut Batch,
    revision: i64,
    key: &[u8],
) -> Result<(usize, bool), StoreError> {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    layout::put_kv_key(&mut from, key, revision);
    layout::put_kv_after(&mut to, key);
    let mut tombstone = None;
    let (mut removed, mut is_whole) = (0, true);
    let mut fault = None;
    engine.scan(
        Family::Kv,
        &from,
        Some(&to),
        &mut |stored_key, stored, _| {
            if stored_key == from {
                match layout::kv_op(stored) {
                    // Put again in the same revision. That version hides the older ones, for the engine to see.
                    Ok(Op::Put) => return Step::Stop,
                    Ok(Op::Delete) => {
                        tombstone = Some(stored_key.to_vec());
                        return Step::Next;
                    }
                    Err(error) => {
                        fault = Some(error);
                        return Step::Stop;
                    }
                }
            }
            if removed == VERSIONS {
                is_whole = false;
                return Step::Stop;
            }
            removed += 1;
            batch.delete(Family::Kv, |out| out.extend_from_slice(stored_key));
            Step::Next
        },
    )?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    if let Some(tombstone) = tombstone.filter(|_| is_whole) {
        removed += 1;
        batch.delete(Family::Kv, |out| out.extend(tombstone));
    }
    Ok((removed, is_whole))
}
