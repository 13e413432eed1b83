//! The frame: how one record lies in a segment, and how to tell it from anything else.
//!
//! ```text
//! len u32 | crc32c u32 | kind u8 | epoch u32 | index u64 | term u64 | payload
//! ```
//! All numbers are little-endian. `len` counts what follows the checksum; the checksum covers `len` and all that
//! follows it. The epoch is the sequence number of the segment: a stale frame left in a reused file does not
//! verify. A zero `len` is where nothing was written yet.

use bytes::Bytes;

use crate::entry::{Entry, LogId, Membership, Payload, Vote};
use crate::fs::{BLOCK, Blocks};
use crate::mutant::{self, Mutant};

/// Length and checksum.
const PREFIX: usize = 8;
/// A frame without its payload.
pub(super) const HEAD: usize = PREFIX + 1 + 4 + 8 + 8;
/// What an entry may carry at most: far above any request, and safely inside a `u32`.
pub(super) const MAX_PAYLOAD: usize = 1 << 30;
/// No log gets that far. Whatever is counted from an index below fits into 64 bits.
pub(super) const MAX_INDEX: u64 = u64::MAX >> 1;

/// What a frame is. The numbers are on disk: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// First in each segment: identity, and the state before it.
    Segment = 1,
    /// Before each batch. Index: its own offset. Term: up to where this segment is known to be synced.
    Batch = 2,
    /// An entry that does nothing.
    Blank = 3,
    /// An entry of commands.
    Commands = 4,
    /// An entry that changes the membership.
    Membership = 5,
    /// A vote. Term: voted in. Index: for whom.
    Vote = 6,
    /// Entries above this id are gone; with an empty payload, all are.
    Truncate = 7,
    /// Entries up to this id are no longer needed.
    Purge = 8,
    /// Entries up to this id are committed; with an empty payload, none is known to be.
    Committed = 9,
    /// Last in a segment that has a successor.
    Seal = 10,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Segment,
            2 => Self::Batch,
            3 => Self::Blank,
            4 => Self::Commands,
            5 => Self::Membership,
            6 => Self::Vote,
            7 => Self::Truncate,
            8 => Self::Purge,
            9 => Self::Committed,
            10 => Self::Seal,
            _ => return None,
        })
    }
}

/// A frame whose checksum and epoch are right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) payload: &'a [u8],
}

/// Why there is no frame at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Bad {
    #[error("nothing is written there")]
    Unwritten,
    #[error("a frame of {0} bytes does not fit into the file")]
    Length(u32),
    #[error("the checksum does not match")]
    Checksum,
    #[error("the frame belongs to segment {0}")]
    Epoch(u32),
    #[error("a record of the unknown kind {0}, perhaps of a newer version")]
    Kind(u8),
}

impl Frame<'_> {
    /// Its size on disk.
    pub(super) fn size(&self) -> usize {
        HEAD + self.payload.len()
    }

    pub(super) fn id(&self) -> LogId {
        LogId {
            term: self.term,
            index: self.index,
        }
    }

    pub(super) fn is_entry(&self) -> bool {
        matches!(self.kind, Kind::Blank | Kind::Commands | Kind::Membership)
    }

    /// The entry, its payload copied. `None`: the frame is no entry, or its membership cannot be read.
    pub(super) fn to_entry(self) -> Option<Entry> {
        let payload = match self.kind {
            Kind::Blank => Payload::Blank,
            Kind::Commands => Payload::Commands(Bytes::copy_from_slice(self.payload)),
            Kind::Membership => Payload::Membership(Membership::decode(self.payload).ok()?),
            _ => return None,
        };
        Some(Entry {
            id: self.id(),
            payload,
        })
    }

    /// The vote of a vote frame.
    pub(super) fn to_vote(self) -> Option<Vote> {
        let &[flags] = self.payload else { return None };
        Some(Vote {
            term: self.term,
            voted_for: (flags & VOTED != 0).then_some(self.index),
            committed: flags & GRANTED != 0,
        })
    }

    /// The id of a frame that may also say "none".
    pub(super) fn to_optional_id(self) -> Option<LogId> {
        (!self.payload.is_empty()).then(|| self.id())
    }
}

/// A buffer that grew beyond this is given back.
const BUFFER_KEPT: usize = 8 << 20;

const VOTED: u8 = 1;
const GRANTED: u8 = 2;

/// Frames, appended to the buffer of one write. It begins with what the block already holds that they begin in: blocks
/// are written whole.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Blocks,
    /// How much of it the block already holds.
    held: usize,
    pub(super) epoch: u32,
}

impl Writer {
    /// Goes on in a block that already holds these bytes, and forgets everything else.
    pub(super) fn begin_behind(&mut self, held: &[u8]) {
        debug_assert!(held.len() < BLOCK, "a whole block is not begun");
        self.bytes.truncate(0);
        self.bytes.extend_from_slice(held);
        self.held = held.len();
    }

    /// Forgets the frames that were not written.
    pub(super) fn rewind(&mut self) {
        self.bytes.truncate(self.held);
    }

    /// The size of all frames to write.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.held
    }

    /// The blocks to write, the first bytes of which are there already; tells how many those are.
    pub(super) fn blocks(&mut self) -> (usize, &[u8]) {
        self.bytes.pad();
        (self.held, &self.bytes)
    }

    /// Goes on behind so many bytes of frames, which [`Writer::blocks`] gave out and which are there now.
    pub(super) fn written(&mut self, len: usize) {
        let end = self.held + len;
        self.bytes.truncate(end);
        self.held = end % BLOCK;
        self.bytes.keep_from(end - self.held, BUFFER_KEPT);
    }

    pub(super) fn frame(&mut self, kind: Kind, index: u64, term: u64, payload: &[u8]) {
        let start = self.bytes.len();
        let len = u32::try_from(HEAD - PREFIX + payload.len())
            .expect("payloads are bounded by MAX_PAYLOAD");
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&len.to_le_bytes());
        head[8] = kind as u8;
        head[9..13].copy_from_slice(&self.epoch.to_le_bytes());
        head[13..21].copy_from_slice(&index.to_le_bytes());
        head[21..29].copy_from_slice(&term.to_le_bytes());
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(payload);
        let checksum = checksum(&self.bytes[start..]);
        self.bytes[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
    }

    pub(super) fn id(&mut self, kind: Kind, id: LogId) {
        self.frame(kind, id.index, id.term, &[]);
    }

    pub(super) fn vote(&mut self, vote: Vote) {
        let voted = if vote.voted_for.is_some() { VOTED } else { 0 };
        let granted = if vote.committed { GRANTED } else { 0 };
        self.frame(
            Kind::Vote,
            vote.voted_for.unwrap_or(0),
            vote.term,
            &[voted | granted],
        );
    }

    pub(super) fn optional_id(&mut self, kind: Kind, id: Option<LogId>) {
        let payload: &[u8] = if id.is_some() { &[1] } else { &[] };
        let LogId { term, index } = id.unwrap_or_default();
        self.frame(kind, index, term, payload);
    }
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[PREFIX..])
}

/// The size of the frame at `at`, as far as its length can be believed.
pub(super) fn size_at(bytes: &[u8], at: usize) -> Option<usize> {
    let len = u32_at(bytes, at)?;
    usize::try_from(len).ok()?.checked_add(PREFIX)
}

/// Reads the frame at `at`.
pub(super) fn parse(bytes: &[u8], at: usize, epoch: u32) -> Result<Frame<'_>, Bad> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(size) = size_at(rest, 0) else {
        return Err(if is_zero(rest) {
            Bad::Unwritten
        } else {
            Bad::Length(0)
        });
    };
    if size == PREFIX {
        return Err(Bad::Unwritten);
    }
    if size < HEAD || size > rest.len() {
        return Err(Bad::Length(u32_at(rest, 0).unwrap_or(0)));
    }
    let frame = &rest[..size];
    if u32_at(frame, 4) != Some(checksum(frame)) && !mutant::is_on(Mutant::ChecksumIgnored) {
        return Err(Bad::Checksum);
    }
    let found = u32_at(frame, 9).unwrap_or(0);
    if found != epoch {
        return Err(Bad::Epoch(found));
    }
    let kind = Kind::from_byte(frame[8]).ok_or(Bad::Kind(frame[8]))?;
    Ok(Frame {
        kind,
        index: u64_at(frame, 13),
        term: u64_at(frame, 21),
        payload: &frame[HEAD..],
    })
}

/// Finds the first batch header behind `from` that proves that bytes above `from` were synced. It states its own
/// offset, so bytes that merely look like one (a copy inside some value) do not count.
pub(super) fn find_proof(bytes: &[u8], from: usize, epoch: u32) -> Option<usize> {
    // A header may end in zeros of its own, so only its start is bound to lie among what was written.
    let end = written_end(bytes).min((bytes.len() + 1).saturating_sub(HEAD));
    for at in from..end {
        if bytes[at + 8] == Kind::Batch as u8
            && let Ok(frame) = parse(bytes, at, epoch)
            && frame.kind == Kind::Batch
            && frame.index == at as u64
            && frame.term > from as u64
        {
            return Some(at);
        }
    }
    None
}

/// Finds the next frame of any kind from `from` on: how the dump gets past damage.
pub(super) fn find_frame(bytes: &[u8], from: usize, epoch: u32) -> Option<usize> {
    let epoch_bytes = epoch.to_le_bytes();
    let end = written_end(bytes).min((bytes.len() + 1).saturating_sub(HEAD));
    (from..end).find(|&at| bytes[at + 9..at + 13] == epoch_bytes && parse(bytes, at, epoch).is_ok())
}

/// Where written bytes end: one behind the last that is not zero.
pub(super) fn written_end(bytes: &[u8]) -> usize {
    const PAGE: usize = 4096;
    let mut end = bytes.len();
    // Page by page first: the tail of a segment is 64 MiB of zeros, and this runs at every start.
    while end >= PAGE && is_zero(&bytes[end - PAGE..end]) {
        end -= PAGE;
    }
    bytes[..end]
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(4096)
        .all(|chunk| chunk.iter().fold(0, |seen, byte| seen | byte) == 0)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(payload: &[u8]) -> Vec<u8> {
        let mut writer = Writer {
            epoch: 7,
            ..Writer::default()
        };
        writer.frame(Kind::Commands, 11, 3, payload);
        writer.bytes.to_vec()
    }

    #[test]
    fn what_a_block_holds_is_written_with_what_follows() {
        let mut writer = Writer::default();
        let mut file = Vec::new();
        let mut frames = Vec::new();
        for (fill, size) in (1..).zip([10, 4000, 9000, 0, 123]) {
            let start = writer.len();
            writer.frame(Kind::Commands, 1, 1, &vec![77; size]);
            writer.rewind();
            assert_eq!(writer.len(), 0, "{start} bytes were not written");
            writer.frame(Kind::Commands, 1, 1, &vec![fill; size]);
            frames.extend_from_slice(&writer.bytes[writer.held..]);
            let len = writer.len();
            let (held, blocks) = writer.blocks();
            assert_eq!(blocks.len() % BLOCK, 0);
            file.truncate((frames.len() - len - held) / BLOCK * BLOCK);
            file.extend_from_slice(blocks);
            assert_eq!(file[..frames.len()], frames);
            assert!(file[frames.len()..].iter().all(|&byte| byte == 0));
            writer.written(len);
        }
    }

    #[test]
    fn a_frame_is_read_back_as_written() {
        let bytes = written(b"payload");
        let frame = parse(&bytes, 0, 7).unwrap();
        assert_eq!(
            (frame.kind, frame.index, frame.term, frame.payload),
            (Kind::Commands, 11, 3, &b"payload"[..])
        );
        assert_eq!(frame.size(), bytes.len());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = written(b"payload");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped.resize(4096, 0);
            assert!(parse(&flipped, 0, 7).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_of_another_epoch_does_not_verify() {
        assert_eq!(parse(&written(b""), 0, 8).unwrap_err(), Bad::Epoch(7));
    }

    #[test]
    fn votes_are_read_back_as_written() {
        for vote in [
            Vote {
                term: 5,
                voted_for: None,
                committed: false,
            },
            Vote {
                term: 5,
                voted_for: Some(0),
                committed: false,
            },
            Vote {
                term: 6,
                voted_for: Some(u64::MAX),
                committed: true,
            },
        ] {
            let mut writer = Writer::default();
            writer.vote(vote);
            assert_eq!(parse(&writer.bytes, 0, 0).unwrap().to_vote(), Some(vote));
        }
    }

    #[test]
    fn a_copy_of_a_batch_header_at_another_offset_proves_nothing() {
        let mut writer = Writer::default();
        writer.frame(Kind::Batch, 100, 100, &[]);
        let mut bytes = vec![0; 100];
        bytes.extend_from_slice(&writer.bytes);
        assert_eq!(find_proof(&bytes, 10, 0), Some(100));
        bytes.insert(50, 1);
        assert_eq!(find_proof(&bytes, 10, 0), None);
    }

    #[test]
    fn written_bytes_end_at_the_last_that_is_not_zero() {
        let mut bytes = vec![0; 10_000];
        assert_eq!(written_end(&bytes), 0);
        bytes[5000] = 1;
        assert_eq!(written_end(&bytes), 5001);
        bytes[9999] = 1;
        assert_eq!(written_end(&bytes), 10_000);
    }
}
