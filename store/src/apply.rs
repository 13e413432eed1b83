//! The single writer: entries in, one atomic engine batch, a new view, answers and change sets out.

mod install;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use prost::Message;
use proto::command::member_change::Change;
use proto::command::{Batch as Envelope, Command, MemberChange, command::Op};

use crate::alarm::Alarms;
use crate::answer::{Answer, Answered, Operations, Refusal};
use crate::engine::{Batch, Family, StateEngine, Step};
use crate::entry::{Entry, LogId, Payload};
use crate::error::{Need, StoreError};
use crate::history::ChangeSet;
use crate::layout;
use crate::leases::{LeaseChange, Leases};
use crate::members::Members;
use crate::mutant::{self, Mutant};
use crate::mvcc::index::{Builder, Index};
use crate::mvcc::range::{Interval, Selection, versions};
use crate::mvcc::room::Room;
use crate::mvcc::twin::Twin;
use crate::mvcc::writer::Writer;
use crate::reader::{Reader, View};
use crate::record::{Record, Tip};
use crate::retained::{Edits, Retained};
use crate::snapshot::{self, SnapshotName, StoredMembership};

/// The envelope format that this version writes and reads.
pub const BATCH_FORMAT: u32 = 1;
/// The highest feature level that this version can apply.
pub const FEATURE_LEVEL: u32 = 4;

/// The revision of a store that was never written.
const FIRST_REVISION: i64 = 1;

/// How a machine uses memory.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes for the index and for values. Keys always stay; values get what they leave, but an eighth at least, and
    /// are left to the engine beyond.
    pub value_budget_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            value_budget_bytes: 256 << 20,
        }
    }
}

/// What a call of [`Machine::apply`] did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// One for each command, in their order.
    pub answers: Vec<Answered>,
    /// One for each new revision, in their order.
    pub changes: Vec<Arc<ChangeSet>>,
    /// What happened to leases, in order.
    pub leases: Vec<LeaseChange>,
}

/// The state machine's writing side; one thread owns it.
///
/// - The published view never shows what the engine has not taken.
/// - After a fault it refuses to go on: memory and engine may differ by a batch.
pub struct Machine {
    engine: Arc<dyn StateEngine>,
    reader: Reader,
    twin: Twin,
    applied: Option<LogId>,
    membership: StoredMembership,
    encoded_membership: Bytes,
    revision: i64,
    compact_revision: i64,
    /// Shared with the views: a change makes a new one.
    alarms: Arc<Alarms>,
    /// Shared like those.
    members: Arc<Members>,
    /// Readers look at the same ones.
    leases: Leases,
    batch: Batch,
    scratch: Vec<u8>,
    cache: Cache,
    operations: Operations,
    /// None: everybody.
    answers_to: Option<(u64, u64)>,
    is_stopped: bool,
}

/// Which values stay in memory.
struct Cache {
    budget: usize,
    /// Where the clock hand goes on.
    hand: Vec<u8>,
    /// Where loading values after a start goes on; none when it is done.
    warm_from: Option<Vec<u8>>,
}

impl Machine {
    /// Opens the state that the engine holds, and rebuilds the index; values stay in the engine for now.
    pub fn open(engine: Arc<dyn StateEngine>, options: Options) -> Result<Self, StoreError> {
        check_format(&*engine)?;
        let leases = Leases::read(&*engine)?;
        let (index, index_bytes) = read_index(&*engine, &leases)?;
        let twin = Twin::new(index, index_bytes);
        let state = snapshot::current(&*engine)?;
        let alarms = Arc::new(snapshot::alarms(&*engine)?);
        let members = Arc::new(snapshot::members(&*engine)?);
        let applied = state.as_ref().map(|state| state.applied);
        let revision = state
            .as_ref()
            .map_or(FIRST_REVISION, |state| state.revision);
        let compact_revision = state.as_ref().map_or(-1, |state| state.compact_revision);
        let membership = state.map(|state| state.membership).unwrap_or_default();
        let view = Arc::new(View {
            revision,
            compact_revision,
            applied,
            alarms: alarms.clone(),
            members: members.clone(),
            index: twin.published().clone(),
            engine: engine.clone(),
            cached_bytes: 0,
            index_bytes: twin.index_bytes(),
            edits: Edits::default(),
            operations: Operations::default(),
        });
        let reader = Reader {
            view: Arc::new(ArcSwap::new(view)),
            missed: Arc::default(),
            retained: Arc::new(Retained::new(retained_bytes(&options))),
            pins: Arc::default(),
            leases: leases.clone(),
        };
        reader.pins.published(&reader.view.load());
        let budget = options.value_budget_bytes;
        Ok(Self {
            engine,
            reader,
            encoded_membership: membership.membership.encode(),
            cache: Cache {
                budget,
                hand: Vec::new(),
                warm_from: Some(Vec::new()),
            },
            twin,
            applied,
            membership,
            revision,
            compact_revision,
            alarms,
            members,
            leases,
            batch: Batch::default(),
            scratch: Vec::new(),
            operations: Operations::default(),
            answers_to: None,
            is_stopped: false,
        })
    }

    /// A handle that reads what this machine publishes.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// From now on only the commands of this member and boot get the keys and values of their answers; who else waits
    /// for one does so at another machine. What commands do, and whether they are refused, is the same.
    pub fn answer_only(&mut self, member: u64, boot: u64) {
        self.answers_to = Some((member, boot));
    }

    /// The last entry applied.
    pub fn applied(&self) -> Option<LogId> {
        self.applied
    }

    /// The membership as of that entry.
    pub fn membership(&self) -> &StoredMembership {
        &self.membership
    }

    /// Applies entries: writes all they do as one engine batch, then publishes the new view.
    ///
    /// Entries at or below [`Machine::applied`] are skipped, so a replay may start anywhere.
    pub fn apply(&mut self, entries: &[Entry]) -> Result<Outcome, StoreError> {
        if self.is_stopped {
            return Err(StoreError::Stopped);
        }
        // Nothing is undone on a fault, so whatever ends this call early ends the machine.
        self.is_stopped = true;
        let outcome = self.apply_batch(entries)?;
        self.is_stopped = false;
        Ok(outcome)
    }

    fn apply_batch(&mut self, entries: &[Entry]) -> Result<Outcome, StoreError> {
        self.twin.begin();
        self.batch.clear();
        let mut answers = Vec::new();
        let mut applied = self.applied;
        let answers_to = self.answers_to;
        let mut writer = Writer {
            engine: &*self.engine,
            twin: &mut self.twin,
            batch: &mut self.batch,
            scratch: &mut self.scratch,
            revision: self.revision,
            written_revision: self.revision,
            compact_revision: self.compact_revision,
            alarms: &mut self.alarms,
            members: &mut self.members,
            leases: &self.leases,
            lease_changes: Vec::new(),
            changes: Vec::new(),
            formers: None,
            room: Room::new(true),
            sets: Vec::new(),
        };
        for entry in entries {
            if applied.is_some_and(|applied| entry.id.index <= applied.index) {
                continue;
            }
            match &entry.payload {
                Payload::Blank => {}
                Payload::Membership(membership) => {
                    self.encoded_membership = membership.encode();
                    self.membership = StoredMembership {
                        log_id: Some(entry.id),
                        membership: membership.clone(),
                    };
                }
                Payload::Commands(encoded) => {
                    apply_commands(&mut writer, entry.id, encoded, answers_to, &mut answers)?;
                }
            }
            applied = Some(entry.id);
        }
        let (revision, compact_revision) = (writer.revision, writer.compact_revision);
        let (changes, leases) = (writer.sets, writer.lease_changes);
        if let Some(applied) = applied
            && self.applied != Some(applied)
        {
            let membership = (self.membership.log_id, &*self.encoded_membership);
            self.batch.put(
                Family::Meta,
                |out| out.extend_from_slice(layout::META_STATE),
                |out| {
                    // What is readable is also retained, for now.
                    let retained_revision = compact_revision;
                    let named = if mutant::is_on(Mutant::AppliedTwice) {
                        self.applied.unwrap_or(applied)
                    } else {
                        applied
                    };
                    layout::put_state(
                        out,
                        named,
                        membership,
                        revision,
                        compact_revision,
                        retained_revision,
                    );
                },
            );
            self.engine.write(&self.batch)?;
        }
        (self.applied, self.revision, self.compact_revision) =
            (applied, revision, compact_revision);
        for answer in answers
            .iter()
            .filter_map(|answered| answered.outcome.as_ref().ok())
        {
            self.operations.add(answer);
        }
        self.recall_missed();
        self.strip_beyond_budget();
        self.publish();
        Ok(Outcome {
            answers,
            changes,
            leases,
        })
    }

    /// Makes everything applied so far durable and names it.
    pub fn flush(&mut self) -> Result<Option<SnapshotName>, StoreError> {
        if self.is_stopped {
            return Err(StoreError::Stopped);
        }
        self.engine.flush()?;
        self.durable()
    }

    /// The state that a crash at this moment would leave; none if nothing applied is durable yet.
    pub fn durable(&self) -> Result<Option<SnapshotName>, StoreError> {
        snapshot::durable(&*self.engine)
    }

    /// Loads values back into memory after a start, about `max_items` of them, while the budget lasts.
    ///
    /// Answers how many it loaded; after 0 there is nothing left to do. For the apply thread, when idle.
    pub fn warm(&mut self, max_items: usize) -> Result<usize, StoreError> {
        let Some(from) = self.cache.warm_from.take() else {
            return Ok(0);
        };
        if self.is_stopped || self.twin.cached_bytes() >= self.room_for_values() {
            return Ok(0);
        }
        let mut records = Vec::new();
        let mut room = self.room_for_values() - self.twin.cached_bytes();
        let all = Selection::Interval(Interval {
            start: &from,
            end: None,
        });
        versions(&*self.engine, &all, self.revision, &mut |stored| {
            let (_, _, record) = layout::kv_value(stored)?;
            let len = record.encoded().len();
            let has_room = records.len() < max_items && len <= room;
            if has_room {
                room -= len;
                records.push(record);
            }
            Ok(if has_room { Step::Next } else { Step::Stop })
        })?;
        // Full, or no version is left: warming is over.
        if records.len() == max_items
            && let Some(last) = records.last()
        {
            self.cache.warm_from = Some([last.key(), &[0]].concat());
        }
        self.twin.begin();
        let loaded = records.len();
        for record in records {
            self.recall(record);
        }
        self.publish();
        Ok(loaded)
    }

    /// Takes back into memory what readers had to fetch from the engine.
    fn recall_missed(&mut self) {
        let missed = match self.reader.missed.try_lock() {
            Some(mut missed) if !missed.is_empty() => std::mem::take(&mut *missed),
            _ => return,
        };
        for record in missed {
            self.recall(record);
        }
    }

    /// Puts a record in place of its stripped tip, if that is still the newest version.
    fn recall(&mut self, record: Record) {
        let tip = self.twin.working().get(record.key());
        if tip.is_some_and(|tip| {
            tip.record().is_none() && tip.mod_revision() == record.mod_revision()
        }) {
            self.twin.insert(Tip::from(record));
        }
    }

    /// Bytes that values may take: what the index leaves of the budget, and an eighth of it at least.
    fn room_for_values(&self) -> usize {
        let budget = self.cache.budget;
        let left = budget.saturating_sub(self.twin.index_bytes());
        left.max(budget / 8)
    }

    /// Strips values, leaf by leaf, those not read since the clock hand last came by.
    fn strip_beyond_budget(&mut self) {
        let mut wraps = 0;
        // The first round may only find leaves in use; after the second all that can be is stripped.
        while self.twin.cached_bytes() > self.room_for_values() && wraps < 3 {
            let Some((is_used, tips)) = self.twin.working().clock(&self.cache.hand) else {
                self.cache.hand.clear();
                wraps += 1;
                continue;
            };
            let stripped: Vec<Tip> = if is_used {
                Vec::new()
            } else {
                let tips = tips.iter().filter(|tip| tip.is_strippable());
                tips.map(|tip| tip.strip(&mut self.scratch)).collect()
            };
            self.cache.hand.clear();
            if let Some(last) = tips.last() {
                self.cache.hand.extend_from_slice(last.key());
                self.cache.hand.push(0);
            }
            for tip in stripped {
                self.twin.insert(tip);
            }
        }
    }

    fn publish(&mut self) {
        let index = self.twin.finish();
        self.reader.publish(Arc::new(View {
            revision: self.revision,
            compact_revision: self.compact_revision,
            applied: self.applied,
            alarms: self.alarms.clone(),
            members: self.members.clone(),
            index,
            engine: self.engine.clone(),
            cached_bytes: self.twin.cached_bytes(),
            index_bytes: self.twin.index_bytes(),
            edits: self.twin.total(),
            operations: self.operations,
        }));
    }
}

/// What older views may keep in memory beside the newest one.
fn retained_bytes(options: &Options) -> u64 {
    const LEAST: usize = 16 << 20;
    (options.value_budget_bytes / 4).max(LEAST) as u64
}

/// Refuses a database of a newer version; marks a new one.
fn check_format(engine: &dyn StateEngine) -> Result<(), StoreError> {
    let mut found = None;
    engine.get(Family::Meta, layout::META_FORMAT, &mut |stored| {
        found = Some(layout::format(stored))
    })?;
    match found.transpose()? {
        Some(layout::FORMAT) => Ok(()),
        Some(found) => Err(StoreError::NewerFormat {
            found,
            known: layout::FORMAT,
        }),
        None => {
            let mut batch = Batch::default();
            batch.put(
                Family::Meta,
                |out| out.extend_from_slice(layout::META_FORMAT),
                |out| out.extend_from_slice(&layout::format_value()),
            );
            engine.write(&batch)
        }
    }
}

/// The index without values, and the bytes of its tips. Leases get their keys.
fn read_index(engine: &dyn StateEngine, leases: &Leases) -> Result<(Index, usize), StoreError> {
    let (mut builder, mut bytes) = (Builder::default(), 0);
    let mut scratch = Vec::new();
    let mut fault = None;
    engine.scan(
        Family::Tip,
        &[],
        None,
        &mut |key, stored, _| match layout::tip(&mut scratch, key, stored) {
            Ok(tip) => {
                bytes += tip.fixed_bytes();
                leases.moved(key, 0, tip.tags().lease);
                builder.push(tip);
                Step::Next
            }
            Err(error) => {
                fault = Some(error);
                Step::Stop
            }
        },
    )?;
    fault.map_or_else(|| Ok((builder.finish(), bytes)), Err)
}

/// The commands of an entry, if this version knows their form.
fn envelope(index: u64, encoded: &Bytes) -> Result<Envelope, StoreError> {
    let envelope = Envelope::decode(encoded.clone())
        .map_err(|source| StoreError::Undecodable { index, source })?;
    let needs = |needs| StoreError::UnknownCommand { index, needs };
    if envelope.format != BATCH_FORMAT {
        return Err(needs(Need::Format(envelope.format)));
    }
    if envelope.feature_level > FEATURE_LEVEL {
        return Err(needs(Need::FeatureLevel(envelope.feature_level)));
    }
    Ok(envelope)
}

/// The changes of members that an entry's commands ask for, in their order: for who looks ahead in a log that is not
/// applied yet. What applying the entry would stop at is an error here, too.
pub fn member_changes(index: u64, encoded: &Bytes) -> Result<Vec<Change>, StoreError> {
    let mut changes = Vec::new();
    for (place, command) in envelope(index, encoded)?.commands.into_iter().enumerate() {
        match command.op {
            Some(Op::MemberChange(MemberChange {
                change: Some(change),
            })) => changes.push(change),
            Some(op) if is_known(&op) => {}
            Some(_) | None => {
                let needs = Need::Command(place);
                return Err(StoreError::UnknownCommand { index, needs });
            }
        }
    }
    Ok(changes)
}

fn apply_commands(
    writer: &mut Writer<'_>,
    id: LogId,
    encoded: &Bytes,
    answers_to: Option<(u64, u64)>,
    answers: &mut Vec<Answered>,
) -> Result<(), StoreError> {
    let index = id.index;
    let envelope = envelope(index, encoded)?;
    let needs = |needs| StoreError::UnknownCommand { index, needs };
    answers.reserve(envelope.commands.len());
    for (place, command) in envelope.commands.iter().enumerate() {
        let origin = (command.member, command.boot);
        writer.room = Room::new(answers_to.is_none_or(|here| here == origin));
        let outcome = match &command.op {
            Some(op) if is_known(op) => apply_command(writer, id.term, op)?,
            Some(_) | None => return Err(needs(Need::Command(place))),
        };
        writer.finish_command();
        let &Command {
            member,
            boot,
            sequence,
            ..
        } = command;
        answers.push(Answered {
            member,
            boot,
            sequence,
            outcome,
        });
    }
    Ok(())
}

/// Whether this version knows all of a command: what it does not know is decoded as nothing.
fn is_known(op: &Op) -> bool {
    !matches!(op, Op::MemberChange(MemberChange { change: None }))
}

fn apply_command(
    writer: &mut Writer<'_>,
    term: u64,
    op: &Op,
) -> Result<Result<Answer, Refusal>, StoreError> {
    if let Some(refusal) = writer.alarms.refuses(op) {
        return Ok(Err(refusal));
    }
    Ok(match op {
        Op::Put(request) => writer.put(request)?.map(Answer::Put),
        Op::DeleteRange(request) => {
            let answer = writer.delete_range(request)?;
            if writer.room.is_over() {
                return Ok(Err(Refusal::AnswerTooLong));
            }
            Ok(Answer::DeleteRange(answer))
        }
        Op::Txn(request) => writer.txn(request)?.map(Answer::Txn),
        Op::Compact(request) => writer.compact(request).map(Answer::Compact),
        Op::Alarm(request) => Ok(Answer::Alarm(writer.alarm(request))),
        Op::MemberChange(MemberChange { change }) => {
            let change = change.as_ref();
            writer.member(change.expect("what is not known was told apart before"))
        }
        Op::LeaseGrant(request) => writer.lease_grant(request).map(Answer::LeaseGrant),
        Op::LeaseRevoke(request) => writer.lease_end(request.id).map(Answer::LeaseRevoke),
        Op::LeaseCheckpoints(request) => {
            if request.term != term {
                return Ok(Err(Refusal::LeaderGone));
            }
            writer.lease_checkpoint(&request.checkpoints);
            Ok(Answer::LeaseCheckpoints)
        }
        Op::LeaseExpiry(expiry) => {
            if expiry.term != term && !mutant::is_on(Mutant::LeaseExpiredByAnybody) {
                return Ok(Err(Refusal::LeaderGone));
            }
            writer.lease_end(expiry.id).map(Answer::LeaseRevoke)
        }
    })
}
