//! Reading a log folder record by record, whatever its state, and changing nothing.

use std::io;

use bytes::Bytes;

use super::LogError;
use super::frame::{self, Bad, Frame, Kind};
use super::recover;
use super::segment::{self, Header};
use crate::entry::{LogId, Vote};
use crate::fs::WalFs;

/// One thing found in a log.
#[derive(Debug)]
pub struct Item {
    /// The name of the segment.
    pub segment: String,
    /// Where in it.
    pub offset: u64,
    /// What is there.
    pub content: Content,
}

/// What lies at some place of a log.
#[derive(Debug)]
pub enum Content {
    /// The head of a segment: whose log it is, and what came before.
    Segment {
        /// The log format.
        format: u32,
        /// The cluster.
        cluster_id: u64,
        /// The member.
        member_id: u64,
        /// The last entry before this segment.
        last: Option<LogId>,
        /// Committed up to here before this segment.
        committed: Option<LogId>,
        /// Purged up to here before this segment.
        purged: Option<LogId>,
        /// The vote before this segment.
        vote: Option<Vote>,
    },
    /// The head of a batch.
    Batch {
        /// This segment was durable up to here when the batch was written.
        synced: u64,
    },
    /// An entry.
    Entry {
        /// Its position.
        id: LogId,
        /// What its payload is.
        kind: EntryKind,
        /// Its payload, encoded.
        payload: Bytes,
    },
    /// A vote.
    Vote(Vote),
    /// Entries behind this one are gone.
    Truncate(Option<LogId>),
    /// Entries up to this one are no longer needed.
    Purge(LogId),
    /// Entries up to this one are committed.
    Committed(Option<LogId>),
    /// The end of a segment that has a successor.
    Seal,
    /// Bytes that are not what was synced.
    Damage {
        /// How many, as far as can be told.
        bytes: u64,
        /// What is wrong.
        what: String,
    },
    /// What a crash left unfinished; the next start cuts it.
    TornTail {
        /// How many bytes.
        bytes: u64,
        /// Why the first of them is no record.
        what: String,
    },
    /// This segment is not there, though earlier and later ones are.
    Missing,
    /// This segment cannot be read at all.
    Unreadable(io::Error),
}

/// What an entry's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Empty.
    Blank,
    /// An encoded `proto::command::Batch`.
    Commands,
    /// An encoded [`Membership`](crate::Membership).
    Membership,
}

/// An iterator over everything in a log folder, in order.
pub struct Dump<'a> {
    fs: &'a dyn WalFs,
    sequences: Vec<u32>,
    /// The segment being read, as a place in `sequences`, and where in it; `None` before it is loaded.
    current: usize,
    at: Option<usize>,
    bytes: Vec<u8>,
    /// The next number expected.
    expected: Option<u32>,
}

/// Starts reading.
pub fn read(fs: &dyn WalFs) -> Result<Dump<'_>, LogError> {
    let sequences = recover::sequences(fs)?;
    Ok(Dump {
        fs,
        sequences,
        current: 0,
        at: None,
        bytes: Vec::new(),
        expected: None,
    })
}

impl Iterator for Dump<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            let &sequence = self.sequences.get(self.current)?;
            let Some(at) = self.at else {
                if let Some(item) = self.load(sequence) {
                    return Some(item);
                }
                continue;
            };
            match frame::parse(&self.bytes, at, sequence) {
                Ok(found) => {
                    let content = content(&found);
                    let is_last = found.kind == Kind::Seal;
                    let size = found.size();
                    self.at = Some(at + size);
                    if is_last {
                        self.advance();
                    }
                    return Some(Item {
                        segment: segment::name(sequence),
                        offset: at as u64,
                        content,
                    });
                }
                Err(bad) => {
                    if let Some(item) = self.pass(sequence, at, bad) {
                        return Some(item);
                    }
                }
            }
        }
    }
}

impl Dump<'_> {
    /// Loads the current segment; `Some` when there is something to say about it.
    fn load(&mut self, sequence: u32) -> Option<Item> {
        if let Some(expected) = self.expected
            && expected < sequence
        {
            self.expected = expected.checked_add(1);
            return Some(Item {
                segment: segment::name(expected),
                offset: 0,
                content: Content::Missing,
            });
        }
        self.expected = sequence.checked_add(1);
        match recover::load(self.fs, sequence, &mut self.bytes) {
            Ok(_) => {
                self.at = Some(0);
                None
            }
            Err(error) => {
                self.advance();
                let error = match error {
                    LogError::Io { source, .. } => source,
                    other => io::Error::other(other),
                };
                Some(Item {
                    segment: segment::name(sequence),
                    offset: 0,
                    content: Content::Unreadable(error),
                })
            }
        }
    }

    /// Gets past a place without a frame: to the next frame, or to the next segment.
    fn pass(&mut self, sequence: u32, at: usize, bad: Bad) -> Option<Item> {
        let written = frame::written_end(&self.bytes);
        let is_proven =
            frame::find_proof(&self.bytes, at, sequence).is_some() || self.is_followed();
        let next = frame::find_frame(&self.bytes, at + 1, sequence);
        if written <= at && !is_proven {
            self.advance();
            return None;
        }
        let bytes = (next.unwrap_or(written).max(at) - at) as u64;
        let what = bad.to_string();
        let content = if is_proven {
            Content::Damage { bytes, what }
        } else {
            Content::TornTail { bytes, what }
        };
        match next {
            Some(next) => self.at = Some(next),
            None => self.advance(),
        }
        Some(Item {
            segment: segment::name(sequence),
            offset: at as u64,
            content,
        })
    }

    /// Whether a later segment was begun, which happens only after this one was synced to its end.
    fn is_followed(&self) -> bool {
        let mut bytes = Vec::new();
        self.sequences[self.current + 1..].iter().any(|&later| {
            let loaded = recover::load(self.fs, later, &mut bytes);
            loaded.is_ok()
                && (frame::parse(&bytes, 0, later).is_ok()
                    || frame::find_proof(&bytes, 0, later).is_some())
        })
    }

    fn advance(&mut self) {
        self.current += 1;
        self.at = None;
    }
}

fn content(found: &Frame<'_>) -> Content {
    let entry = |kind| Content::Entry {
        id: found.id(),
        kind,
        payload: Bytes::copy_from_slice(found.payload),
    };
    let unreadable = || Content::Damage {
        bytes: found.size() as u64,
        what: "a record cannot be decoded".to_owned(),
    };
    match found.kind {
        Kind::Segment => match Header::decode(found) {
            Ok(Some(Header {
                format,
                cluster: cluster_id,
                member: member_id,
                standing,
                ..
            })) => Content::Segment {
                format,
                cluster_id,
                member_id,
                last: standing.last,
                committed: standing.committed,
                purged: standing.purged,
                vote: standing.vote,
            },
            Ok(None) => unreadable(),
            Err(format) => Content::Damage {
                bytes: found.size() as u64,
                what: format!("log format {format} is not known"),
            },
        },
        Kind::Batch => Content::Batch { synced: found.term },
        Kind::Blank => entry(EntryKind::Blank),
        Kind::Commands => entry(EntryKind::Commands),
        Kind::Membership => entry(EntryKind::Membership),
        Kind::Vote => found.to_vote().map_or_else(unreadable, Content::Vote),
        Kind::Truncate => Content::Truncate(found.to_optional_id()),
        Kind::Purge => Content::Purge(found.id()),
        Kind::Committed => Content::Committed(found.to_optional_id()),
        Kind::Seal => Content::Seal,
    }
}
