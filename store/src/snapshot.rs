//! Snapshots as names: what the engine has durably flushed. Their files are made when one must be sent.
//!
//! - A [`Checkpoint`] is the state at one moment, to be read in chunks by whoever sends it; its [`Manifest`] says what
//!   it consists of.
//! - A [`Receiver`] takes one aside, and [`Received`] is one that is complete. [`crate::Machine`] goes over to it.

mod checkpoint;
pub(crate) mod image;
mod manifest;
mod receiver;

pub use checkpoint::{CHUNK, Checkpoint};
pub use manifest::{FileEntry, Kind, MAX_ENCODED, MAX_FILES, Manifest};
pub use receiver::{Arrived, Have, ReceiveError, Received, Receiver};

use crate::alarm::Alarms;
use crate::engine::{Family, StateEngine};
use crate::entry::{LogId, Membership};
use crate::error::StoreError;
use crate::layout;
use crate::members::Members;

/// The membership in force, and the entry that set it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredMembership {
    /// The entry; none before the first.
    pub log_id: Option<LogId>,
    /// Who takes part.
    pub membership: Membership,
}

/// Which state a database holds. Stored as one value with every batch, so it is never half old, half new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotName {
    /// The last entry applied.
    pub applied: LogId,
    /// The membership as of that entry.
    pub membership: StoredMembership,
    /// The newest revision.
    pub revision: i64,
    /// The oldest revision that clients may read; -1 when nothing was compacted yet.
    pub compact_revision: i64,
    /// The oldest revision that is still complete; never above `compact_revision`.
    pub retained_revision: i64,
}

/// The state that survives a crash, read past everything that is only in memory; none if nothing was ever
/// applied and flushed.
pub fn durable(engine: &dyn StateEngine) -> Result<Option<SnapshotName>, StoreError> {
    engine
        .durable_meta(layout::META_STATE)?
        .as_deref()
        .map(layout::state)
        .transpose()
}

/// The alarms as of the last write.
pub(crate) fn alarms(engine: &dyn StateEngine) -> Result<Alarms, StoreError> {
    let mut found = Ok(Alarms::default());
    engine.get(Family::Meta, layout::META_ALARMS, &mut |stored| {
        found = layout::alarms(stored);
    })?;
    found
}

/// The table of members as of the last write.
pub(crate) fn members(engine: &dyn StateEngine) -> Result<Members, StoreError> {
    let mut found = Ok(Members::default());
    engine.get(Family::Meta, layout::META_MEMBERS, &mut |stored| {
        found = layout::members(stored);
    })?;
    found
}

/// The entry that the state was at when it was taken over from another member, if it ever was.
///
/// As long as nothing was applied since, the raft log beside it may know nothing of that entry: it may end before it,
/// or hold another one in its place that was never committed.
pub fn installed(engine: &dyn StateEngine) -> Result<Option<LogId>, StoreError> {
    let mut found = Ok(None);
    engine.get(Family::Meta, layout::META_INSTALLED, &mut |stored| {
        found = layout::installed(stored).map(Some);
    })?;
    found
}

/// The state as of the last write.
pub fn current(engine: &dyn StateEngine) -> Result<Option<SnapshotName>, StoreError> {
    let mut found = Ok(None);
    engine.get(Family::Meta, layout::META_STATE, &mut |stored| {
        found = layout::state(stored).map(Some);
    })?;
    found
}
