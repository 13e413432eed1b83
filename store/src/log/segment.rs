//! The segment: a file of zeros with a sequence number, its first frame, and how it comes into being.
//!
//! A segment exists under its name only once its zeros are durable, so that appending to it never changes
//! metadata. The first frame repeats what all earlier segments established (last id, vote, committed, purged):
//! earlier ones can go as soon as their entries are purged, and a missing one breaks the chain.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::frame::{Frame, HEAD, MAX_INDEX};
use crate::entry::{LogId, Vote};
use crate::fs::{Blocks, WalFile, WalFs};

/// The version of everything in a segment.
pub(super) const FORMAT: u32 = 1;
const SUFFIX: &str = ".wal";
const UNFINISHED: &str = ".wal.new";
/// Zeros are written and synced in steps, so that a sync of the log beside it waits for one step at most.
const STEP: usize = 1 << 20;

/// The file name of a segment.
pub(super) fn name(sequence: u32) -> String {
    format!("{sequence:010}{SUFFIX}")
}

/// Reads a file name back; `None` is no segment. Segments are numbered from 1.
pub(super) fn parse_name(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 10 && digits.bytes().all(|digit| digit.is_ascii_digit()))
        .then(|| digits.parse().ok())?
        .filter(|sequence| *sequence > 0)
}

/// Whether a file is a segment that was still being filled.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.ends_with(UNFINISHED)
}

/// What the log amounts to at some point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) last: Option<LogId>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) vote: Option<Vote>,
}

/// The payload of a segment's first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) format: u32,
    pub(super) cluster: u64,
    pub(super) member: u64,
    /// How long the file was made. It never shrinks; a shorter one was cut by somebody else.
    pub(super) size: u64,
    /// Before the first record of this segment.
    pub(super) standing: Standing,
}

impl Header {
    /// The encoded size: all fields have a fixed width.
    const SIZE: usize = 4 + 8 + 8 + 8 + 3 * 17 + 18;
    /// The size of the whole frame.
    pub(super) const FRAME: usize = HEAD + Self::SIZE;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::SIZE);
        bytes.extend_from_slice(&self.format.to_le_bytes());
        for number in [self.cluster, self.member, self.size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for id in [
            self.standing.last,
            self.standing.committed,
            self.standing.purged,
        ] {
            bytes.push(u8::from(id.is_some()));
            let LogId { term, index } = id.unwrap_or_default();
            bytes.extend_from_slice(&term.to_le_bytes());
            bytes.extend_from_slice(&index.to_le_bytes());
        }
        let vote = self.standing.vote;
        let Vote {
            term,
            voted_for,
            committed,
        } = vote.unwrap_or_default();
        bytes.push(
            u8::from(vote.is_some())
                | u8::from(voted_for.is_some()) << 1
                | u8::from(committed) << 2,
        );
        bytes.push(0);
        bytes.extend_from_slice(&term.to_le_bytes());
        bytes.extend_from_slice(&voted_for.unwrap_or(0).to_le_bytes());
        bytes
    }

    /// `Err` carries the format of a newer version, whose fields mean nothing here.
    pub(super) fn decode(frame: &Frame<'_>) -> Result<Option<Self>, u32> {
        let mut reader = Reader(frame.payload);
        let Some(format) = reader.u32() else {
            return Ok(None);
        };
        if format > FORMAT {
            return Err(format);
        }
        let mut read = || {
            let (cluster, member, size) = (reader.u64()?, reader.u64()?, reader.u64()?);
            let (last, committed, purged) = (reader.id()?, reader.id()?, reader.id()?);
            let vote = reader.vote()?;
            Some(Self {
                format,
                cluster,
                member,
                size,
                standing: Standing {
                    last,
                    committed,
                    purged,
                    vote,
                },
            })
        };
        Ok(read())
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn id(&mut self) -> Option<Option<LogId>> {
        let [is_some] = self.array()?;
        let id = LogId {
            term: self.u64()?,
            index: self.u64()?,
        };
        (id.index <= MAX_INDEX).then_some((is_some != 0).then_some(id))
    }

    fn vote(&mut self) -> Option<Option<Vote>> {
        let [flags, _] = self.array()?;
        let (term, voted_for) = (self.u64()?, self.u64()?);
        let vote = Vote {
            term,
            voted_for: (flags & 2 != 0).then_some(voted_for),
            committed: flags & 4 != 0,
        };
        Some((flags & 1 != 0).then_some(vote))
    }
}

/// A segment that holds nothing but durable zeros.
pub(super) struct Blank {
    pub(super) sequence: u32,
    pub(super) file: Arc<dyn WalFile>,
    pub(super) size: u64,
}

/// Makes a segment. Gives up in between when `stop` is set; what it leaves is removed by the next start.
pub(super) fn prepare(
    fs: &dyn WalFs,
    sequence: u32,
    size: u64,
    stop: &AtomicBool,
) -> io::Result<Blank> {
    let name = name(sequence);
    let unfinished = format!("{sequence:010}{UNFINISHED}");
    match fs.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let filled = fill(&*fs.create(&unfinished)?, size, stop);
    if let Err(error) = filled {
        // The space is worth more than the reason why it cannot be given back: the next start tries again.
        let _ = fs.remove(&unfinished);
        return Err(error);
    }
    fs.rename(&unfinished, &name)?;
    fs.sync_dir()?;
    Ok(Blank {
        sequence,
        file: fs.open(&name)?,
        size,
    })
}

fn fill(file: &dyn WalFile, size: u64, stop: &AtomicBool) -> io::Result<()> {
    file.preallocate(size)?;
    let zeros = Blocks::zeros(usize::try_from(size).unwrap_or(STEP).min(STEP));
    let mut at = 0;
    while at < size {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let step = usize::try_from(size - at).unwrap_or(STEP).min(STEP);
        file.write_at(at, &zeros[..step])?;
        file.sync_data()?;
        at += step as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::frame::Kind;
    use super::*;

    fn header() -> Header {
        Header {
            format: FORMAT,
            cluster: 1,
            member: u64::MAX,
            size: 64 << 20,
            standing: Standing {
                last: Some(LogId { term: 2, index: 9 }),
                committed: Some(LogId { term: 2, index: 8 }),
                purged: None,
                vote: Some(Vote {
                    term: 3,
                    voted_for: Some(4),
                    committed: true,
                }),
            },
        }
    }

    #[test]
    fn headers_are_read_back_as_written() {
        for standing in [Standing::default(), header().standing] {
            let header = Header {
                standing,
                ..header()
            };
            let payload = header.encode();
            assert_eq!(payload.len(), Header::SIZE);
            let frame = Frame {
                kind: Kind::Segment,
                index: 1,
                term: 0,
                payload: &payload,
            };
            assert_eq!(Header::decode(&frame), Ok(Some(header)));
        }
    }

    #[test]
    fn a_newer_format_is_told_apart_from_damage() {
        let payload = Header {
            format: FORMAT + 1,
            ..header()
        }
        .encode();
        let frame = Frame {
            kind: Kind::Segment,
            index: 1,
            term: 0,
            payload: &payload,
        };
        assert_eq!(Header::decode(&frame), Err(FORMAT + 1));
    }

    #[test]
    fn names_are_read_back_as_written() {
        for sequence in [1, u32::MAX] {
            assert_eq!(parse_name(&name(sequence)), Some(sequence));
        }
        for other in [
            "1.wal",
            "0000000000.wal",
            "0000000001.wal.new",
            "000000000x.wal",
            "LOCK",
            "99999999999.wal",
            "9999999999.wal",
        ] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
