//! One batch at work: commands change the working index and the engine batch; nothing is published yet.

use std::sync::Arc;

use proto::etcd::etcdserverpb::ResponseHeader;

use super::range::Source;
use super::twin::Twin;
use crate::engine::{Batch, Family, StateEngine};
use crate::history::{Change, ChangeSet, Previous};
use crate::layout::{self, Op};
use crate::record::{Fields, Record, Tags, Tip};

/// Evaluates commands one after the other; each sees what those before it did.
pub(crate) struct Writer<'a> {
    pub(crate) engine: &'a dyn StateEngine,
    pub(crate) twin: &'a mut Twin,
    pub(crate) batch: &'a mut Batch,
    pub(crate) scratch: &'a mut Vec<u8>,
    /// The newest finished revision.
    pub(crate) revision: i64,
    /// The revision that the published index and the engine show.
    pub(crate) written_revision: i64,
    pub(crate) compact_revision: i64,
    /// Changes of the command at work; they become one revision.
    pub(crate) changes: Vec<Change>,
    /// Finished revisions of this batch.
    pub(crate) sets: Vec<Arc<ChangeSet>>,
}

impl Writer<'_> {
    /// Ends a command: its changes, if any, become a revision.
    pub(crate) fn finish_command(&mut self) {
        if !self.changes.is_empty() {
            self.revision += 1;
            let changes = std::mem::take(&mut self.changes);
            self.sets.push(Arc::new(ChangeSet {
                revision: self.revision,
                changes,
            }));
        }
    }

    /// The revision that the command at work shows at this point.
    pub(crate) fn shown_revision(&self) -> i64 {
        self.revision + i64::from(!self.changes.is_empty())
    }

    /// A header as of this point of the command at work.
    pub(crate) fn header(&self) -> Option<ResponseHeader> {
        header(self.shown_revision())
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source {
            index: self.twin.working(),
            revision: self.revision,
            compact_revision: self.compact_revision,
            engine: self.engine,
            is_written: false,
            missed: None,
        }
    }

    /// Sets a key; answers its former tip.
    pub(crate) fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        lease: impl FnOnce(i64) -> i64,
    ) -> Option<Tip> {
        let mod_revision = self.revision + 1;
        let mut written = None;
        let (scratch, batch, changes) = (&mut *self.scratch, &mut *self.batch, &mut self.changes);
        let former = self.twin.update(key, |former| {
            let former = former.map(Tip::tags);
            let (create_revision, version) = former.map_or((mod_revision, 1), |tags| {
                (tags.create_revision, tags.version + 1)
            });
            let lease = lease(former.map_or(0, |tags| tags.lease));
            let fields = Fields {
                key,
                create_revision,
                mod_revision,
                version,
                value,
                lease,
            };
            let record = Record::encode(scratch, &fields);
            written = Some((record.clone(), former));
            let value_len = value.len() as u64;
            let tags = Tags {
                create_revision,
                mod_revision,
                version,
                lease,
                value_len,
            };
            batch.put(
                Family::Tip,
                |out| out.extend_from_slice(key),
                |out| layout::put_tip_value(out, &tags),
            );
            Tip::from(record)
        });
        if let Some((record, tags)) = written {
            put_version(batch, Op::Put, sub(changes), &record);
            let previous = tags
                .map(|tags| Previous::new(&tags, former.as_ref().and_then(Tip::record).cloned()));
            changes.push(Change {
                record,
                is_delete: false,
                previous,
            });
        }
        former
    }

    /// Deletes a key; answers its former tip.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Option<Tip> {
        let former = self.twin.remove(key)?;
        let record = Record::tombstone(self.scratch, key, self.revision + 1);
        self.batch
            .delete(Family::Tip, |out| out.extend_from_slice(key));
        put_version(self.batch, Op::Delete, sub(&self.changes), &record);
        let previous = Some(Previous::new(&former.tags(), former.record().cloned()));
        self.changes.push(Change {
            record,
            is_delete: true,
            previous,
        });
        Some(former)
    }
}

/// A header that says only the revision; the server fills in the rest.
pub(crate) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

fn sub(changes: &[Change]) -> u32 {
    u32::try_from(changes.len()).expect("a request of bounded size does not make 2^32 changes")
}

fn put_version(batch: &mut Batch, op: Op, sub: u32, record: &Record) {
    let (key, revision) = (record.key(), record.mod_revision());
    batch.put(
        Family::Kv,
        |out| layout::put_kv_key(out, key, revision),
        |out| layout::put_kv_value(out, op, sub, record),
    );
    batch.put(
        Family::Log,
        |out| layout::put_log_key(out, revision, sub),
        |out| layout::put_log_value(out, op, key),
    );
}
