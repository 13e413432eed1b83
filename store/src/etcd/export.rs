//! Hands the state out as etcd keeps it: the file that etcd would have after a compaction at our compacted revision.
//!
//! Of versions at or below that revision, each key has the newest, unless it is a deletion before it; above it, all.
//! Versions stand here in the order of their keys, and in etcd in that of their revisions: they are sorted with
//! bounded memory, the rest in a file. Nothing is locked: one scan of the engine sees one state, whatever is written
//! or compacted meanwhile.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::sync::Arc;

use prost::Message as _;
use proto::etcd::etcdserverpb::{AlarmMember, AlarmType};

use super::sort::{Sorter, Version};
use super::{
    BUCKETS, CONF_STATE, CONSISTENT_INDEX, FINISHED_COMPACTION, KEPT, KEY, META,
    SCHEDULED_COMPACTION, STORAGE_VERSION, TERM, put_revision,
};
use crate::alarm::Alarms;
use crate::bolt::BoltError;
use crate::bolt::write::{PAGE_SIZE, Writer};
use crate::engine::{Family, StateEngine, Step};
use crate::entry::LogId;
use crate::error::StoreError;
use crate::layout::{self, Op};
use crate::mutant::{self, Mutant};
use crate::reader::{Reader, View};
use crate::record::{Fields, Record};

/// Versions between two questions whether to go on: tens of MiB at most.
const ASK_EVERY: u64 = 32;

/// What the store does not know of the cluster, and how to work.
#[derive(Clone, Debug)]
pub struct Options {
    /// The storage version to claim.
    pub storage_version: String,
    /// The cluster version.
    pub cluster_version: String,
    /// The members: ids and etcd's JSON of their attributes.
    pub members: Vec<(u64, String)>,
    /// Those of them that do not vote.
    pub learners: Vec<u64>,
    /// Who was a member.
    pub removed: Vec<u64>,
    /// Memory for sorting.
    pub sort_bytes: usize,
}

/// What was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Bytes of the file.
    pub size: u64,
    /// The newest revision in it.
    pub revision: i64,
    /// Versions in it.
    pub versions: u64,
}

/// Why nothing was handed out.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The state cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be written.
    #[error(transparent)]
    Bolt(#[from] BoltError),
    /// The temporary file cannot be used.
    #[error("cannot use a temporary file: {0}")]
    Temporary(#[from] io::Error),
    /// Whoever asked wants it no more, or may not have it; the text says why.
    #[error("{0}")]
    Stopped(String),
}

/// Asked from time to time: an answer of `Err` ends the work.
pub type GoOn<'a> = dyn FnMut() -> Result<(), String> + 'a;

/// Writes the newest state into `out`, which is empty, as is `temporary`. Takes as long as it takes; any thread but
/// those that others wait for may do it.
pub fn export<W: Write + Seek>(
    reader: &Reader,
    out: W,
    temporary: &File,
    options: &Options,
    go_on: &mut GoOn<'_>,
) -> Result<(W, Exported), ExportError> {
    let (state, sorter) = loop {
        let state = State::of(&reader.view());
        let sorter = Sorter::new(temporary, options.sort_bytes);
        if let Some(sorter) = gather(reader, &state, sorter, go_on)? {
            break (state, sorter);
        }
    };
    let mut writer = Writer::new(out, PAGE_SIZE)?;
    for bucket in BUCKETS.into_iter().filter(|&bucket| bucket != KEY) {
        writer.begin_bucket(bucket.as_bytes())?;
        if KEPT.contains(&bucket) {
            put_kept(&*state.engine, bucket, &mut writer, go_on)?;
        }
        for (key, value) in own_items(&state, options, bucket) {
            writer.put(&key, &value)?;
        }
    }
    writer.begin_bucket(KEY.as_bytes())?;
    let (mut versions, mut key) = (0_u64, Vec::new());
    sorter.finish::<ExportError>(|version| {
        if versions.is_multiple_of(ASK_EVERY) {
            go_on().map_err(ExportError::Stopped)?;
        }
        versions += 1;
        key.clear();
        put_revision(&mut key, version.revision, version.sub, version.is_deletion);
        Ok(writer.put(&key, version.encoded)?)
    })?;
    let (out, size) = writer.finish()?;
    let exported = Exported {
        size,
        revision: state.revision,
        versions,
    };
    Ok((out, exported))
}

/// What matters of a view. The view itself is not held: as long as it is, nothing behind it is freed.
struct State {
    revision: i64,
    compact_revision: i64,
    applied: Option<LogId>,
    alarms: Arc<Alarms>,
    /// The machine may go over to another database meanwhile.
    engine: Arc<dyn StateEngine>,
}

impl State {
    fn of(view: &View) -> Self {
        Self {
            revision: view.revision,
            compact_revision: view.compact_revision,
            applied: view.applied,
            alarms: view.alarms.clone(),
            engine: view.engine.clone(),
        }
    }
}

/// Gathers the versions of a state. None if a compaction came before the scan began, so that some may be missing: then
/// a newer state is needed. Once the scan runs, it sees what it needs whatever happens.
fn gather<'f>(
    reader: &Reader,
    state: &State,
    mut sorter: Sorter<'f>,
    go_on: &mut GoOn<'_>,
) -> Result<Option<Sorter<'f>>, ExportError> {
    let mut chosen = Chosen {
        revision: state.revision - i64::from(mutant::is_on(Mutant::SnapshotWithoutTail)),
        compacted: state.compact_revision,
        key: Vec::new(),
        is_settled: false,
    };
    let (mut visited, mut is_late, mut fault) = (0_u64, false, None);
    state
        .engine
        .scan_once(Family::Kv, &[], None, &mut |key, value, _| {
            is_late = visited == 0 && reader.view().compact_revision != state.compact_revision;
            if is_late {
                return Step::Stop;
            }
            let mut step = || {
                if visited.is_multiple_of(ASK_EVERY) {
                    go_on().map_err(ExportError::Stopped)?;
                }
                chosen.visit(key, value, &mut sorter)
            };
            let done = step();
            visited += 1;
            match done {
                Ok(()) => Step::Next,
                Err(error) => {
                    fault = Some(error);
                    Step::Stop
                }
            }
        })?;
    match fault {
        Some(fault) => Err(fault),
        None => Ok((!is_late).then_some(sorter)),
    }
}

/// Chooses the versions that etcd would have, while they pass by: key by key, the newest first.
struct Chosen {
    revision: i64,
    compacted: i64,
    /// The escaped key at hand.
    key: Vec<u8>,
    /// Its version in force at the compacted revision has come by: what follows is compacted.
    is_settled: bool,
}

impl Chosen {
    fn visit(
        &mut self,
        key: &[u8],
        value: &[u8],
        sorter: &mut Sorter<'_>,
    ) -> Result<(), ExportError> {
        let found = layout::split_kv_key(key)?;
        if found.escaped != self.key {
            self.key.clear();
            self.key.extend_from_slice(found.escaped);
            self.is_settled = false;
        }
        let revision = found.mod_revision;
        if revision > self.revision || self.is_settled {
            return Ok(());
        }
        let (op, sub, record) = layout::kv_value(value)?;
        if revision <= self.compacted {
            self.is_settled = true;
            if op == Op::Delete && revision < self.compacted {
                return Ok(());
            }
        }
        let version = |encoded| Version {
            revision,
            sub,
            is_deletion: op == Op::Delete,
            encoded,
        };
        match op {
            Op::Put => sorter.push(version(record.encoded()))?,
            Op::Delete => {
                let key_alone = Record::new(&Fields {
                    key: record.key(),
                    ..Fields::default()
                });
                sorter.push(version(key_alone.encoded()))?;
            }
        }
        Ok(())
    }
}

/// Hands out a bucket as it was taken over.
fn put_kept<W: Write + Seek>(
    engine: &dyn StateEngine,
    bucket: &str,
    writer: &mut Writer<W>,
    go_on: &mut GoOn<'_>,
) -> Result<(), ExportError> {
    let prefix = layout::kept_prefix(bucket);
    let (mut visited, mut outcome) = (0_u64, Ok(()));
    engine.scan_once(Family::Meta, &prefix, None, &mut |key, value, _| {
        let Some(key) = key.strip_prefix(&*prefix) else {
            return Step::Stop;
        };
        let mut step = || {
            if visited.is_multiple_of(ASK_EVERY) {
                go_on().map_err(ExportError::Stopped)?;
            }
            Ok(writer.put(key, value)?)
        };
        let done = step();
        visited += 1;
        match done {
            Ok(()) => Step::Next,
            Err(error) => {
                outcome = Err(error);
                Step::Stop
            }
        }
    })?;
    outcome
}

/// The items of the buckets that are made here: a few, in their order.
fn own_items(state: &State, options: &Options, bucket: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut items = BTreeMap::new();
    let mut put = |key: &str, value: &[u8]| {
        items.insert(key.as_bytes().to_vec(), value.to_vec());
    };
    match bucket {
        META => {
            if let Some(applied) = state.applied.filter(|applied| applied.index > 0) {
                put(CONSISTENT_INDEX, &applied.index.to_be_bytes());
                put(TERM, &applied.term.to_be_bytes());
            }
            if state.compact_revision >= 0 {
                let mut revision = Vec::new();
                put_revision(&mut revision, state.compact_revision, 0, false);
                put(SCHEDULED_COMPACTION, &revision);
                put(FINISHED_COMPACTION, &revision);
            }
            put(STORAGE_VERSION, options.storage_version.as_bytes());
            let (learners, voters): (Vec<_>, Vec<_>) = options
                .members
                .iter()
                .map(|(id, _)| *id)
                .partition(|id| options.learners.contains(id));
            let list = |ids: Vec<u64>| Vec::from_iter(ids.iter().map(u64::to_string)).join(",");
            let learners = match learners.is_empty() {
                true => String::new(),
                false => format!(r#""learners":[{}],"#, list(learners)),
            };
            let voters = list(voters);
            let conf_state = format!(r#"{{"voters":[{voters}],{learners}"auto_leave":false}}"#);
            put(CONF_STATE, conf_state.as_bytes());
        }
        "cluster" => put("clusterVersion", options.cluster_version.as_bytes()),
        "members" => {
            for (id, attributes) in &options.members {
                put(&format!("{id:x}"), attributes.as_bytes());
            }
        }
        "members_removed" => {
            for id in &options.removed {
                put(&format!("{id:x}"), b"removed");
            }
        }
        "alarm" => {
            for alarm in state.alarms.list(AlarmType::None as i32) {
                items.insert(AlarmMember::encode_to_vec(&alarm), Vec::new());
            }
        }
        _ => {}
    }
    items
}
