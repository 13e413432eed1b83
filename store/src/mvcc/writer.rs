//! One batch at work: commands change the working index and the engine batch; nothing is published yet.

use std::sync::Arc;

use proto::command::member_change::Change as MemberChange;
use proto::etcd::etcdserverpb::{AlarmRequest, AlarmResponse, ResponseHeader};

use super::range::Source;
use super::room::Room;
use super::twin::Twin;
use crate::alarm::Alarms;
use crate::answer::{Answer, Refusal};
use crate::engine::{Batch, Family, StateEngine};
use crate::history::{Change, ChangeSet, Previous};
use crate::layout::{self, Op};
use crate::leases::{LeaseChange, Leases};
use crate::members::Members;
use crate::mutant::{self, Mutant};
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
    pub(crate) alarms: &'a mut Arc<Alarms>,
    pub(crate) members: &'a mut Arc<Members>,
    pub(crate) leases: &'a Leases,
    /// What this batch did to leases.
    pub(crate) lease_changes: Vec<LeaseChange>,
    /// Changes of the command at work; they become one revision.
    pub(crate) changes: Vec<Change>,
    /// The former tips of those changes, in their order, while the command may have to be taken back.
    pub(crate) formers: Option<Vec<Option<Tip>>>,
    /// For the answer of the command at work.
    pub(crate) room: Room,
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
            index: if mutant::is_on(Mutant::OverlayForgotten) {
                self.twin.published()
            } else {
                self.twin.working()
            },
            revision: self.revision,
            compact_revision: self.compact_revision,
            engine: self.engine,
            is_written: false,
            missed: None,
            retained: None,
            room: None,
            pace: None,
            tips: None,
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
        if let Some(formers) = &mut self.formers {
            formers.push(former.clone());
        }
        if let Some((record, tags)) = written {
            self.leases
                .moved(key, tags.map_or(0, |tags| tags.lease), record.lease());
            put_version(batch, Op::Put, sub(changes.len()), &record);
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

    /// Carries out a request about alarms.
    pub(crate) fn alarm(&mut self, request: &AlarmRequest) -> AlarmResponse {
        let mut changed = Alarms::clone(self.alarms);
        let (alarms, has_changed) = changed.change(request);
        if has_changed {
            self.batch.put(
                Family::Meta,
                |out| out.extend_from_slice(layout::META_ALARMS),
                |out| layout::put_alarms(out, &changed),
            );
            *self.alarms = Arc::new(changed);
        }
        AlarmResponse {
            header: self.header(),
            alarms,
        }
    }

    /// Carries out a change of the table of members.
    pub(crate) fn member(&mut self, change: &MemberChange) -> Result<Answer, Refusal> {
        let mut changed = Members::clone(self.members);
        if changed.change(change)? {
            self.batch.put(
                Family::Meta,
                |out| out.extend_from_slice(layout::META_MEMBERS),
                |out| layout::put_members(out, &changed),
            );
            *self.members = Arc::new(changed);
        }
        Ok(Answer::Members(self.members.list()))
    }

    /// Deletes a key; answers its former tip.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Option<Tip> {
        let former = self.twin.remove(key)?;
        if let Some(formers) = &mut self.formers {
            formers.push(Some(former.clone()));
        }
        let record = Record::tombstone(self.scratch, key, self.revision + 1);
        if !mutant::is_on(Mutant::IndexDiskDisagree) {
            self.batch
                .delete(Family::Tip, |out| out.extend_from_slice(key));
        }
        self.leases.moved(key, former.tags().lease, 0);
        put_version(self.batch, Op::Delete, sub(self.changes.len()), &record);
        let previous = Some(Previous::new(&former.tags(), former.record().cloned()));
        self.changes.push(Change {
            record,
            is_delete: true,
            previous,
        });
        Some(former)
    }

    /// Takes back all changes of the command at work, for which [`Writer::formers`] were kept. `end` is where the
    /// batch ended before it.
    pub(crate) fn take_back(&mut self, end: (usize, usize)) {
        let formers = self.formers.take().unwrap_or_default();
        let changes = std::mem::take(&mut self.changes);
        for (change, former) in changes.iter().zip(formers).rev() {
            let lease = if change.is_delete {
                0
            } else {
                change.record.lease()
            };
            let before = former.as_ref().map_or(0, |tip| tip.tags().lease);
            self.leases.moved(change.record.key(), lease, before);
            match former {
                Some(tip) => self.twin.insert(tip),
                None => drop(self.twin.remove(change.record.key())),
            }
        }
        self.batch.cut(end);
    }

    /// Completes a transaction, which may have written keys more than once: a version superseded by its last write
    /// gets a `kv` key of its own, and what was before is the state before the revision for all of them.
    pub(crate) fn keep_superseded(&mut self) {
        if !self.may_have_superseded() {
            return;
        }
        let (batch, changes) = (&mut *self.batch, &mut self.changes);
        let mut places: Vec<usize> = (0..changes.len()).collect();
        let key = |place: usize| changes[place].record.key();
        places.sort_unstable_by(|&left, &right| key(left).cmp(key(right)).then(left.cmp(&right)));
        let writes: Vec<_> = places
            .chunk_by(|&left, &right| key(left) == key(right))
            .filter(|writes| writes.len() > 1)
            .collect();
        for write in writes {
            let before = changes[write[0]].previous.clone();
            for pair in write.windows(2) {
                put_superseded(batch, pair[0], &changes[pair[0]]);
                let change = &mut changes[pair[1]];
                change.previous = before.clone().filter(|_| !creates(change));
            }
        }
    }

    /// False only if no key was written more than once; true also of a deletion followed by a put of a new key.
    fn may_have_superseded(&self) -> bool {
        let mut has_deleted = false;
        self.changes.iter().any(|change| {
            let may_have = match &change.previous {
                Some(previous) => previous.mod_revision == change.record.mod_revision(),
                // A put of a new key, unless the command deleted it.
                None => has_deleted,
            };
            has_deleted |= change.is_delete;
            may_have
        })
    }
}

fn creates(change: &Change) -> bool {
    let record = &change.record;
    !change.is_delete && record.create_revision() == record.mod_revision()
}

/// A header that says only the revision; the server fills in the rest.
pub(crate) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

/// The sub-revision of the change at a place of its command.
fn sub(place: usize) -> u32 {
    u32::try_from(place).expect("a request of bounded size does not make 2^32 changes")
}

fn put_superseded(batch: &mut Batch, place: usize, change: &Change) {
    let (record, sub) = (&change.record, sub(place));
    let op = if change.is_delete {
        Op::Delete
    } else {
        Op::Put
    };
    let (key, revision) = (record.key(), record.mod_revision());
    batch.put(
        Family::Kv,
        |out| layout::put_superseded_kv_key(out, key, revision, sub),
        |out| layout::put_kv_value(out, op, sub, record),
    );
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
