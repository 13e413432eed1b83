//! The writing: everything queued becomes one buffer, one write and one sync, then the callbacks in order.
//!
//! Whoever holds its lock writes: the worker, or who waits for the sync and would only have slept meanwhile.

use std::io;
use std::sync::Arc;

use super::frame::{HEAD, Kind, MAX_PAYLOAD, Writer};
use super::index::Place;
use super::segment::{self, Blank, FORMAT, Header, Standing};
use super::state::{Failure, Op, Segment, Shared};
use super::{LITTLE, LogError, LogOptions};
use crate::entry::{Entry, LogId, Payload};
use crate::fs::WalFile;
use crate::mutant::{self, Mutant};

/// Bytes of a segment that only votes, marks and entries without commands may take: those of some ten starts.
const RESERVE: usize = 4 << 10;

/// Writes what the [`Log`](super::Log) handles queue.
pub(super) struct Writing {
    shared: Arc<Shared>,
    options: LogOptions,
    segment: Active,
    writer: Writer,
    /// What the log amounts to after everything in `writer`.
    standing: Standing,
    ops: Vec<Op>,
    /// Where this batch's entries lie, in the order of writing: a later place of the same index rules.
    placed: Vec<(u64, Place)>,
    /// A full disk is waited out, and does not end the log.
    waits_for_space: bool,
}

/// The segment being written.
pub(super) struct Active {
    pub(super) sequence: u32,
    pub(super) file: Arc<dyn WalFile>,
    pub(super) size: u64,
    /// One behind the last durable byte.
    pub(super) end: u64,
    /// What the block holds that the next byte goes into.
    pub(super) held: Vec<u8>,
}

impl From<Blank> for Active {
    fn from(
        Blank {
            sequence,
            file,
            size,
        }: Blank,
    ) -> Self {
        Self {
            sequence,
            file,
            size,
            end: 0,
            held: Vec::new(),
        }
    }
}

impl Writing {
    pub(super) fn new(
        shared: Arc<Shared>,
        options: LogOptions,
        segment: Active,
        standing: Standing,
    ) -> Self {
        let mut writer = Writer::default();
        writer.begin_behind(&segment.held);
        Self {
            shared,
            options,
            segment,
            writer,
            standing,
            ops: Vec::new(),
            placed: Vec::new(),
            waits_for_space: false,
        }
    }

    /// The first mark: also gives a fresh segment its header. Then has the next segment made.
    pub(super) fn mark_opened(&mut self) -> Result<(), LogError> {
        self.want_next();
        // The next segment is left to the keeper: a start does not wait for 64 MiB of zeros.
        self.write_mark();
        match &self.shared.state.lock().failure {
            None => Ok(()),
            Some(failure) => {
                let file = self
                    .shared
                    .fs
                    .describe(&segment::name(self.segment.sequence));
                Err(LogError::Io {
                    doing: "write to",
                    file,
                    source: failure.to_error(),
                })
            }
        }
    }

    /// From now on what is queued waits when the disk has no space for the next segment.
    pub(super) fn wait_for_space(&mut self) {
        self.waits_for_space = true;
    }

    /// Whether a little can be written without another segment.
    pub(super) fn has_room_for_little(&self) -> bool {
        // Its entry, what the node keeps free for itself, and the frames around it.
        let little = (LITTLE + 2 * RESERVE) as u64;
        self.segment.end > 0 && self.segment.end + little <= self.segment.size
    }

    /// Writes and syncs everything queued, runs the callbacks, and returns how many there were; 0 if nothing was
    /// queued. After a failure every callback gets the error.
    pub(super) fn run_once(&mut self) -> usize {
        self.run_up_to(u64::MAX)
    }

    /// As [`Writing::run_once`], but takes nothing that is queued behind the entry `index`.
    pub(super) fn run_up_to(&mut self, index: u64) -> usize {
        let committed = {
            let mut state = self.shared.state.lock();
            let holds = |op: &Op| match op {
                Op::Append(entries, _) => entries.last().is_some_and(|last| last.id.index >= index),
                _ => false,
            };
            match state.queue.iter().position(holds) {
                Some(last) if last + 1 < state.queue.len() => {
                    // The rest may hold a truncation, which still counts, and what the committed id is about.
                    self.ops.extend(state.queue.drain(..=last));
                    None
                }
                _ => {
                    std::mem::swap(&mut state.queue, &mut self.ops);
                    state.queued_cut = u64::MAX;
                    if self.ops.is_empty() {
                        return 0;
                    }
                    std::mem::take(&mut state.is_committed_queued).then_some(state.committed)
                }
            }
        };
        let count = self.ops.len();
        let ops = std::mem::take(&mut self.ops);
        match self.write(&ops, committed) {
            Ok(()) => {
                self.publish(&ops);
                self.ops = ops;
                for op in self.ops.drain(..) {
                    op.into_done()(Ok(()));
                }
            }
            Err(error) => self.fail(&error, ops),
        }
        self.shared.keep();
        count
    }

    /// Writes what has no sync of its own: the committed id, and a header that names everything before it as
    /// synced. From then on damage to it is told from a torn tail. Does nothing when there is nothing to say, when
    /// something is queued, with which it is said, or after a failure.
    pub(super) fn mark(&mut self) {
        self.write_mark();
        self.shared.keep();
    }

    fn write_mark(&mut self) {
        let committed = {
            let mut state = self.shared.state.lock();
            let is_needed = state.is_unmarked || state.is_committed_queued;
            if state.failure.is_some() || !state.queue.is_empty() || !is_needed {
                return;
            }
            std::mem::take(&mut state.is_committed_queued).then_some(state.committed)
        };
        match self.write(&[], committed) {
            Ok(()) => {
                self.publish(&[]);
            }
            Err(error) => self.fail(&error, Vec::new()),
        }
    }

    fn write(&mut self, ops: &[Op], committed: Option<Option<LogId>>) -> io::Result<()> {
        self.placed.clear();
        self.begin()?;
        for op in ops {
            match op {
                Op::Append(entries, _) => {
                    for entry in entries {
                        self.entry(entry)?;
                    }
                }
                Op::Vote(vote, _) => {
                    self.make_room(HEAD + 1)?;
                    self.writer.vote(*vote);
                    self.standing.vote = Some(*vote);
                }
                Op::Truncate(last, _) => {
                    self.make_room(HEAD + 1)?;
                    self.writer.optional_id(Kind::Truncate, *last);
                    self.standing.last = *last;
                }
                Op::Purge(id, _) => {
                    self.make_room(HEAD)?;
                    self.writer.id(Kind::Purge, *id);
                    self.standing.purged = Some(*id);
                    if self.standing.last.is_none_or(|last| last.index < id.index) {
                        self.standing.last = Some(*id);
                    }
                }
            }
        }
        if let Some(id) = committed {
            self.make_room(HEAD + 1)?;
            self.writer.optional_id(Kind::Committed, id);
            self.standing.committed = id;
        }
        self.flush()
    }

    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let membership;
        let (kind, payload) = match &entry.payload {
            Payload::Blank => (Kind::Blank, &[][..]),
            Payload::Commands(bytes) => (Kind::Commands, &bytes[..]),
            Payload::Membership(value) => {
                membership = value.encode();
                (Kind::Membership, &membership[..])
            }
        };
        if payload.len() > MAX_PAYLOAD {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "an entry is larger than 1 GiB",
            ));
        }
        // Commands leave some room at the end: on a full disk, where no segment can follow, the node still starts.
        let kept = match entry.payload {
            Payload::Commands(_) => {
                usize::try_from(self.segment.size / 16).map_or(RESERVE, |part| RESERVE.min(part))
            }
            Payload::Blank | Payload::Membership(_) => 0,
        };
        self.make_room(HEAD + payload.len() + kept)?;
        let offset = u32::try_from(self.position()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.placed.push((
            entry.id.index,
            Place {
                sequence: self.segment.sequence,
                offset,
            },
        ));
        self.writer
            .frame(kind, entry.id.index, entry.id.term, payload);
        self.standing.last = Some(entry.id);
        Ok(())
    }

    /// Where the next frame will begin.
    fn position(&self) -> u64 {
        self.segment.end + self.writer.len() as u64
    }

    /// Begins a batch with its header, and before it the segment's if this is its first.
    fn begin(&mut self) -> io::Result<()> {
        self.writer.rewind();
        self.writer.epoch = self.segment.sequence;
        if self.segment.end == 0 {
            self.first_frame();
            self.batch_frame();
        } else if !self.make_room(HEAD)? {
            self.batch_frame();
        }
        Ok(())
    }

    fn first_frame(&mut self) {
        let LogOptions {
            cluster_id: cluster,
            member_id: member,
            ..
        } = self.options;
        let header = Header {
            format: FORMAT,
            cluster,
            member,
            size: self.segment.size,
            standing: self.standing,
        };
        self.writer.frame(
            Kind::Segment,
            u64::from(self.segment.sequence),
            0,
            &header.encode(),
        );
    }

    fn batch_frame(&mut self) {
        // `segment.end` is synced, always: one batch is under way at a time.
        self.writer
            .frame(Kind::Batch, self.position(), self.segment.end, &[]);
    }

    /// Goes on in the next segment if a frame of this size and the seal do not fit any more. A frame that fits
    /// into no segment gets one of its own, which grows beyond its size: slower, but right. Returns whether a new
    /// segment was begun, batch header included.
    fn make_room(&mut self, size: usize) -> io::Result<bool> {
        let is_fresh = self.position() <= (Header::FRAME + HEAD) as u64;
        if is_fresh || self.position() + (size + HEAD) as u64 <= self.segment.size {
            return Ok(false);
        }
        self.roll()?;
        Ok(true)
    }

    /// Seals the segment and begins the next. The next one's name is durable before the seal says that there is
    /// one, and the seal is durable before anything is written there.
    fn roll(&mut self) -> io::Result<()> {
        let sequence = self
            .segment
            .sequence
            .checked_add(1)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        let blank =
            self.shared
                .take_segment(sequence, self.options.segment_bytes, self.waits_for_space)?;
        self.writer.frame(Kind::Seal, 0, 0, &[]);
        self.flush()?;
        self.segment = blank.into();
        self.writer.begin_behind(&self.segment.held);
        {
            let mut state = self.shared.state.lock();
            let (file, base) = (Arc::clone(&self.segment.file), state.end);
            state.segments.push_back(Segment {
                sequence,
                file,
                base,
            });
        }
        self.writer.epoch = sequence;
        self.first_frame();
        self.batch_frame();
        self.want_next();
        Ok(())
    }

    /// Has the segment after this one made.
    fn want_next(&self) {
        if let Some(next) = self.segment.sequence.checked_add(1) {
            self.shared.keeper.want(next, self.options.segment_bytes);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let len = self.writer.len();
        let (held, blocks) = self.writer.blocks();
        let at = self.segment.end - held as u64;
        let file = &*self.segment.file;
        if mutant::is_on(Mutant::BatchTailLost)
            && let [.., _, (_, last)] = self.placed[..]
            && last.sequence == self.segment.sequence
        {
            // The last of several entries is written behind the sync.
            let mut synced = blocks.to_vec();
            synced[usize::try_from(u64::from(last.offset) - at).unwrap_or(0)..].fill(0);
            file.write_synced(at, &synced)?;
            file.write_at(at, blocks)?;
        } else if mutant::is_on(Mutant::SkipFsync) {
            file.write_at(at, blocks)?;
        } else {
            file.write_synced(at, blocks)?;
        }
        self.writer.written(len);
        self.segment.end += len as u64;
        self.shared.state.lock().end += len as u64;
        Ok(())
    }

    /// Tells the handles what is durable now.
    fn publish(&mut self, ops: &[Op]) {
        let mut state = self.shared.state.lock();
        let durable = self.standing.last.map_or(0, |last| last.index + 1);
        let cut = state.queued_cut.min(durable);
        for (index, place) in self.placed.drain(..) {
            if index < cut {
                state.index.set_place(index, place);
            }
        }
        let purged = state.index.purged();
        state.synced_end = cut.max(purged.map_or(0, |purged| purged.index + 1));
        // A batch of nothing but a header, and the committed id perhaps, is the mark.
        state.is_unmarked = !ops.is_empty();
        state.batches += 1;
        state.evict();
        // A purge that is still queued must not cost a segment that the durable log needs.
        if ops.iter().any(|op| matches!(op, Op::Purge(..))) && self.standing.purged == purged {
            let needed = state
                .index
                .first_place()
                .map_or(self.segment.sequence, |place| place.sequence);
            let count = state
                .segments
                .iter()
                .take_while(|segment| segment.sequence < needed)
                .count();
            self.shared.keeper.remove(
                state
                    .segments
                    .drain(..count)
                    .map(|segment| segment.sequence),
            );
        }
        drop(state);
        self.shared.synced.notify_all();
    }

    /// Nothing is known about the bytes of a failed write or sync, so nothing is tried again: the callbacks get
    /// the error, and the log takes no more.
    fn fail(&mut self, error: &io::Error, ops: Vec<Op>) {
        let failure = Failure::new(error);
        let queue = {
            let mut state = self.shared.state.lock();
            state.failure = Some(failure.clone());
            std::mem::take(&mut state.queue)
        };
        self.shared.synced.notify_all();
        for op in ops.into_iter().chain(queue) {
            op.into_done()(Err(failure.to_error()));
        }
    }
}
