//! Reads a database item by item, for people, whatever its condition, and changes nothing.

use crate::alarm::Alarms;
use crate::engine::{Family, StateEngine, Step};
use crate::error::StoreError;
use crate::layout::{self, Op};
use crate::members::Members;
use crate::record::Fields;
use crate::snapshot::{self, SnapshotName};

/// What the database says of itself.
#[derive(Debug)]
pub struct Summary {
    /// The format it was written in; none in a database that nothing was written to.
    pub format: Option<u64>,
    /// Which state it holds; none before the first entry.
    pub state: Option<SnapshotName>,
    /// The alarms that are on.
    pub alarms: Alarms,
    /// The members that the cluster is to have; empty if nothing was ever said about them.
    pub members: Members,
}

/// Which items are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Only of keys that begin with this. What describes the database belongs to no key.
    pub prefix: &'a [u8],
    /// Only of this revision and later ones.
    pub from_revision: i64,
}

/// One item.
#[derive(Debug)]
pub enum Item<'a> {
    /// Family `kv`: one version of a key.
    Version {
        /// What it does to the key.
        op: Op,
        /// Its place within its revision.
        sub: u32,
        /// Whether a later write of the same revision superseded it.
        superseded: bool,
        /// The version.
        fields: Fields<'a>,
    },
    /// Family `tip`: a live key. The value is not there.
    Live {
        /// The key and everything about it but the value.
        fields: Fields<'a>,
        /// The length of the value.
        value_len: u64,
    },
    /// Family `log`: a change.
    Change {
        /// Its revision.
        revision: i64,
        /// Its place within the revision.
        sub: u32,
        /// What it does.
        op: Op,
        /// To which key.
        key: &'a [u8],
    },
    /// Family `meta`: something about the database, as it is stored.
    Meta {
        /// Its name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// An item that cannot be understood, as it is stored.
    Damaged {
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
        /// What is wrong with it.
        error: StoreError,
    },
}

/// Reads what a database says of itself.
pub fn summary(engine: &dyn StateEngine) -> Result<Summary, StoreError> {
    let mut format = Ok(None);
    engine.get(Family::Meta, layout::META_FORMAT, &mut |stored| {
        format = layout::format(stored).map(Some);
    })?;
    Ok(Summary {
        format: format?,
        state: snapshot::current(engine)?,
        alarms: snapshot::alarms(engine)?,
        members: snapshot::members(engine)?,
    })
}

/// Counts the live keys.
pub fn live_keys(engine: &dyn StateEngine) -> Result<u64, StoreError> {
    let mut count = 0;
    engine.scan_once(Family::Tip, b"", None, &mut |_, _, _| {
        count += 1;
        Step::Next
    })?;
    Ok(count)
}

/// Visits the wanted items of a family in their order, until the visitor answers false. An error means that the
/// engine cannot read on; an item that it can read and nobody can understand is visited as what it is.
pub fn items(
    engine: &dyn StateEngine,
    family: Family,
    wanted: &Wanted<'_>,
    visit: &mut dyn FnMut(Item<'_>) -> bool,
) -> Result<(), StoreError> {
    let mut from = Vec::new();
    match family {
        Family::Kv => layout::put_kv_bound(&mut from, wanted.prefix),
        Family::Tip => from.extend_from_slice(wanted.prefix),
        Family::Log => from.extend_from_slice(&layout::log_bound(wanted.from_revision.max(0))),
        Family::Meta => {}
    }
    let is_sorted_by_key = matches!(family, Family::Kv | Family::Tip);
    let start = from.clone();
    let mut scratch = Vec::new();
    engine.scan_once(family, &from, None, &mut |key, value, _| {
        // Keys are escaped byte by byte, so what begins with a prefix does so in both forms.
        if is_sorted_by_key && !key.starts_with(&start) {
            return Step::Stop;
        }
        let goes_on = match family {
            Family::Kv => version(key, value, wanted, visit),
            Family::Tip => live(&mut scratch, key, value, wanted, visit),
            Family::Log => change(key, value, wanted, visit),
            Family::Meta => Ok(visit(Item::Meta { name: key, value })),
        };
        let goes_on = goes_on.unwrap_or_else(|error| visit(Item::Damaged { key, value, error }));
        if goes_on { Step::Next } else { Step::Stop }
    })
}

fn version(
    key: &[u8],
    value: &[u8],
    wanted: &Wanted<'_>,
    visit: &mut dyn FnMut(Item<'_>) -> bool,
) -> Result<bool, StoreError> {
    let place = layout::split_kv_key(key)?;
    let user_key = layout::unescape(place.escaped)?;
    let (op, sub, record) = layout::kv_value(value)?;
    if record.key() != user_key || record.mod_revision() != place.mod_revision {
        return Err(StoreError::damaged(format!(
            "the version of another key or revision: \"{}\" at {}",
            record.key().escape_ascii(),
            record.mod_revision()
        )));
    }
    Ok(place.mod_revision < wanted.from_revision
        || visit(Item::Version {
            op,
            sub,
            superseded: place.superseded.is_some(),
            fields: record.fields(),
        }))
}

fn live(
    scratch: &mut Vec<u8>,
    key: &[u8],
    value: &[u8],
    wanted: &Wanted<'_>,
    visit: &mut dyn FnMut(Item<'_>) -> bool,
) -> Result<bool, StoreError> {
    let tags = layout::tip(scratch, key, value)?.tags();
    let fields = Fields {
        key,
        create_revision: tags.create_revision,
        mod_revision: tags.mod_revision,
        version: tags.version,
        value: b"",
        lease: tags.lease,
    };
    Ok(tags.mod_revision < wanted.from_revision
        || visit(Item::Live {
            fields,
            value_len: tags.value_len,
        }))
}

fn change(
    key: &[u8],
    value: &[u8],
    wanted: &Wanted<'_>,
    visit: &mut dyn FnMut(Item<'_>) -> bool,
) -> Result<bool, StoreError> {
    let (revision, sub) = layout::log_key(key)?;
    let (op, user_key) = layout::log_value(value)?;
    Ok(!user_key.starts_with(wanted.prefix)
        || visit(Item::Change {
            revision,
            sub,
            op,
            key: user_key,
        }))
}
