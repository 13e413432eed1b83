//! Takes a database of etcd over into an engine that is empty: every version, the revisions and the compacted revision.
//!
//! Versions come in the order of their revisions and are written in that order, a few MiB at a time: memory does not
//! grow with the database. The state is named in the last batch; until then the engine holds nothing that opens as
//! a database with content.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use prost::Message as _;
use proto::etcd::etcdserverpb::AlarmMember;
use proto::etcd::mvccpb::KeyValue;

use super::{
    FINISHED_COMPACTION, KEPT, KEY, MAX_REVISION, META, SCHEDULED_COMPACTION, revision,
    storage_version, value_of,
};
use crate::bolt::BoltError;
use crate::bolt::read::{Bucket, Database, Seen};
use crate::engine::{Batch, Family, StateEngine, Step};
use crate::entry::LogId;
use crate::error::StoreError;
use crate::layout::{self, Op};
use crate::record::{Fields, Record, Tags};
use crate::snapshot::StoredMembership;

/// A batch is written when it has this many bytes.
const BATCH_BYTES: usize = 4 << 20;

/// What a database says of itself, before anything is taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The storage version; none before etcd 3.6.
    pub storage_version: Option<String>,
    /// Whether users and roles are enforced.
    pub is_auth_enabled: bool,
    /// The alarms that are on.
    pub alarms: Vec<AlarmMember>,
    /// Items of each bucket in [`KEPT`] that has any.
    pub kept: Vec<(&'static str, u64)>,
}

/// What was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The newest revision.
    pub revision: i64,
    /// The compacted revision; -1 if there is none.
    pub compact_revision: i64,
    /// Versions of keys.
    pub versions: u64,
    /// Bytes of these versions.
    pub bytes: u64,
}

/// What the state that begins here is called.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// The position in the raft log that counts as applied.
    pub applied: LogId,
    /// The membership there.
    pub membership: StoredMembership,
    /// Added to the newest revision, and everything up to there marked as compacted, so that watchers and caches of
    /// a later state notice.
    pub bump_revision: Option<i64>,
}

/// Why a database was not taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error(transparent)]
    Bolt(#[from] BoltError),
    /// The engine cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something in the file is not as etcd writes it.
    #[error("the file holds what etcd does not write: {0}")]
    Foreign(String),
}

/// Looks at the small buckets.
pub fn inspect(database: &Database<'_>) -> Result<Summary, ImportError> {
    let mut kept = Vec::new();
    for name in KEPT {
        let mut items = 0;
        each(database, name, &mut database.seen(), &mut |_, _| {
            items += 1;
            Ok(())
        })?;
        if items > 0 {
            kept.push((name, items));
        }
    }
    let mut alarms = Vec::new();
    each(database, "alarm", &mut database.seen(), &mut |key, _| {
        let alarm = AlarmMember::decode(key);
        alarms.push(
            alarm.map_err(|_| ImportError::Foreign("an alarm that cannot be read".to_owned()))?,
        );
        Ok(())
    })?;
    if database.bucket(KEY.as_bytes())?.is_none() {
        let names = database.names()?;
        let names: Vec<_> = names
            .iter()
            .map(|name| name.escape_ascii().to_string())
            .collect();
        let text = format!(
            "there is no bucket \"key\" (there are: {})",
            names.join(", ")
        );
        return Err(ImportError::Foreign(text));
    }
    Ok(Summary {
        storage_version: storage_version(database)?,
        is_auth_enabled: value_of(database, "auth", "authEnabled")?.as_deref() == Some(&[1]),
        alarms,
        kept,
    })
}

/// Takes everything over and makes it durable. `progress` is told the versions taken so far, from time to time.
pub fn import(
    database: &Database<'_>,
    engine: &dyn StateEngine,
    beginning: &Beginning,
    progress: &mut dyn FnMut(&Imported),
) -> Result<Imported, ImportError> {
    let compaction = |name| -> Result<Option<i64>, ImportError> {
        let Some(stored) = value_of(database, META, name)? else {
            return Ok(None);
        };
        match revision(&stored) {
            Some((main, _, false)) => Ok(Some(main)),
            _ => Err(ImportError::Foreign(format!("{name} is no revision"))),
        }
    };
    let finished = compaction(FINISHED_COMPACTION)?.unwrap_or(-1);
    // One that was under way when the file was made is carried on.
    let compacted = compaction(SCHEDULED_COMPACTION)?
        .unwrap_or(-1)
        .max(finished);
    let mut import = Import {
        engine,
        compacted,
        imported: Imported::default(),
        batch: Batch::default(),
        last: (-1, 0),
        keys_of_revision: HashSet::new(),
    };
    let mut seen = database.seen();
    each(database, KEY, &mut seen, &mut |key, value| {
        import.version(key, value)?;
        if import.write_if_large()? {
            progress(&import.imported);
        }
        Ok(())
    })?;
    for name in KEPT {
        each(database, name, &mut seen, &mut |key, value| {
            let put = |out: &mut Vec<u8>| {
                out.extend_from_slice(&layout::kept_prefix(name));
                out.extend_from_slice(key);
            };
            import
                .batch
                .put(Family::Meta, put, |out| out.extend_from_slice(value));
            import.write_if_large()?;
            Ok(())
        })?;
    }
    import.write()?;
    let Import {
        imported, batch, ..
    } = &mut import;
    imported.revision = imported.revision.max(compacted).max(1);
    imported.compact_revision = compacted;
    if let Some(bump) = beginning.bump_revision {
        let bumped = imported
            .revision
            .checked_add(bump)
            .filter(|&bumped| bumped < MAX_REVISION);
        imported.revision = bumped.ok_or_else(|| {
            ImportError::Foreign(format!(
                "revision {} cannot be raised by {bump}",
                imported.revision
            ))
        })?;
        imported.compact_revision = imported.revision;
    }
    let Imported {
        revision,
        compact_revision,
        ..
    } = *imported;
    if compact_revision > finished {
        prune(engine, compact_revision)?;
    }
    batch.put(
        Family::Meta,
        |out| out.extend_from_slice(layout::META_FORMAT),
        |out| out.extend_from_slice(&layout::format_value()),
    );
    let membership = &beginning.membership;
    let encoded = membership.membership.encode();
    batch.put(
        Family::Meta,
        |out| out.extend_from_slice(layout::META_STATE),
        |out| {
            let membership = (membership.log_id, &*encoded);
            layout::put_state(
                out,
                beginning.applied,
                membership,
                revision,
                compact_revision,
                compact_revision,
            );
        },
    );
    import.write()?;
    engine.flush()?;
    Ok(import.imported)
}

struct Import<'a> {
    engine: &'a dyn StateEngine,
    compacted: i64,
    imported: Imported,
    batch: Batch,
    /// Revision and sub-revision of the last version.
    last: (i64, u32),
    /// Digests of the keys that the last revision has written so far. Whether a key really comes twice is asked of
    /// the engine then.
    keys_of_revision: HashSet<u64>,
}

impl Import<'_> {
    fn version(&mut self, stored_key: &[u8], stored: &[u8]) -> Result<(), ImportError> {
        let place = || stored_key.escape_ascii().to_string();
        let foreign =
            |what: &str| ImportError::Foreign(format!("the version at {} {what}", place()));
        let (main, sub, is_deletion) =
            revision(stored_key).ok_or_else(|| foreign("has no revision"))?;
        let sub = u32::try_from(sub).map_err(|_| foreign("has a sub-revision that is too high"))?;
        let version = KeyValue::decode(stored).map_err(|_| foreign("cannot be decoded"))?;
        // Of two keys that differ in their mark alone, one is not etcd's.
        if (main, sub) <= self.last {
            return Err(foreign("has the place of another one"));
        }
        let is_next_revision = main != self.last.0;
        self.last = (main, sub);
        self.imported.revision = main;
        // etcdutl marks a raised revision by a version without a key.
        if version.key.is_empty() {
            return Ok(());
        }
        if is_next_revision {
            self.keys_of_revision.clear();
        }
        let mut hasher = DefaultHasher::new();
        version.key.hash(&mut hasher);
        if !self.keys_of_revision.insert(hasher.finish()) {
            self.supersede(&version.key, main)?;
        }
        let op = if is_deletion { Op::Delete } else { Op::Put };
        let record = if is_deletion {
            Record::tombstone(&mut Vec::new(), &version.key, main)
        } else {
            if version.mod_revision != main
                || version.version < 1
                || !(1..=main).contains(&version.create_revision)
            {
                return Err(foreign("contradicts itself"));
            }
            Record::new(&Fields {
                key: &version.key,
                create_revision: version.create_revision,
                mod_revision: main,
                version: version.version,
                value: &version.value,
                lease: version.lease,
            })
        };
        let key = &*version.key;
        let batch = &mut self.batch;
        batch.put(
            Family::Kv,
            |out| layout::put_kv_key(out, key, main),
            |out| layout::put_kv_value(out, op, sub, &record),
        );
        // Changes from the compacted revision on can be told.
        if main >= self.compacted {
            batch.put(
                Family::Log,
                |out| layout::put_log_key(out, main, sub),
                |out| layout::put_log_value(out, op, key),
            );
        }
        if is_deletion {
            batch.delete(Family::Tip, |out| out.extend_from_slice(key));
        } else {
            let tags = Tags {
                create_revision: version.create_revision,
                mod_revision: main,
                version: version.version,
                lease: version.lease,
                value_len: version.value.len() as u64,
            };
            batch.put(
                Family::Tip,
                |out| out.extend_from_slice(key),
                |out| layout::put_tip_value(out, &tags),
            );
        }
        self.imported.versions += 1;
        self.imported.bytes += (stored_key.len() + stored.len()) as u64;
        Ok(())
    }

    /// Gives the version of `key` that this revision has written before, if there is one, the name of a superseded one.
    fn supersede(&mut self, key: &[u8], revision: i64) -> Result<(), ImportError> {
        self.write()?;
        let (mut plain, mut stored) = (Vec::new(), Vec::new());
        layout::put_kv_key(&mut plain, key, revision);
        let found = self
            .engine
            .get(Family::Kv, &plain, &mut |value| stored = value.to_vec())?;
        if found {
            let (_, sub, _) = layout::kv_value(&stored)?;
            self.batch.put(
                Family::Kv,
                |out| layout::put_superseded_kv_key(out, key, revision, sub),
                |out| out.extend_from_slice(&stored),
            );
        }
        Ok(())
    }

    /// Writes what has come together once it is much; tells whether it was.
    fn write_if_large(&mut self) -> Result<bool, StoreError> {
        let is_large = self.batch.bytes() >= BATCH_BYTES;
        if is_large {
            self.write()?;
        }
        Ok(is_large)
    }

    fn write(&mut self) -> Result<(), StoreError> {
        if !self.batch.is_empty() {
            self.engine.write(&self.batch)?;
            self.batch.clear();
        }
        Ok(())
    }
}

/// Called with key and value.
type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), ImportError> + 'a;

/// Visits the items of a bucket; one that is not there has none.
fn each(
    database: &Database<'_>,
    name: &str,
    seen: &mut Seen,
    visit: &mut Visit<'_>,
) -> Result<(), ImportError> {
    let bucket: Option<Bucket<'_>> = database.bucket(name.as_bytes())?;
    let Some(bucket) = bucket else {
        return Ok(());
    };
    let mut items = bucket.items(seen);
    while let Some(item) = items.next()? {
        visit(item.key, item.value)?;
    }
    Ok(())
}

/// Removes the versions, and the changes, that a compaction at `compacted` takes away. What remains of a key at or
/// below that revision is its newest version, unless that is a deletion before it.
fn prune(engine: &dyn StateEngine, compacted: i64) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    batch.delete_range(
        Family::Log,
        |_| {},
        |out| out.extend_from_slice(&layout::log_bound(compacted)),
    );
    let (mut from, mut current, mut is_settled) = (Vec::new(), Vec::new(), false);
    loop {
        let (mut fault, mut next, mut gone_changes) = (None, None, Vec::new());
        engine.scan(Family::Kv, &from, None, &mut |key, value, _| {
            if batch.bytes() >= BATCH_BYTES {
                next = Some(key.to_vec());
                return Step::Stop;
            }
            let mut step = || -> Result<bool, StoreError> {
                let found = layout::split_kv_key(key)?;
                if found.escaped != current {
                    current.clear();
                    current.extend_from_slice(found.escaped);
                    is_settled = false;
                }
                if found.mod_revision > compacted {
                    return Ok(false);
                }
                let is_newest = !std::mem::replace(&mut is_settled, true);
                let (op, sub, _) = layout::kv_value(value)?;
                let is_gone = !is_newest || (op == Op::Delete && found.mod_revision < compacted);
                if is_gone && found.mod_revision == compacted {
                    gone_changes.push(sub);
                }
                Ok(is_gone)
            };
            let is_gone = match step() {
                Ok(is_gone) => is_gone,
                Err(error) => {
                    fault = Some(error);
                    return Step::Stop;
                }
            };
            if is_gone {
                batch.delete(Family::Kv, |out| out.extend_from_slice(key));
            }
            Step::Next
        })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        for sub in gone_changes {
            batch.delete(Family::Log, |out| layout::put_log_key(out, compacted, sub));
        }
        engine.write(&batch)?;
        batch.clear();
        match next {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}
