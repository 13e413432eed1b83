//! Reading closed segments again, so that damage is found before their entries are needed.

use std::sync::Arc;

use super::error::LogError;
use super::frame::{self, Bad, Kind};
use super::{Log, segment};
use crate::fs::WalFile;

/// A place in the log's files; the default is the start of the oldest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPlace {
    sequence: u32,
    offset: u64,
}

/// What [`Log::verify`] has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogVerified {
    /// Bytes of records.
    pub bytes: u64,
    /// Where to go on; nothing: all closed segments were read.
    pub next: Option<LogPlace>,
}

impl Log {
    /// Reads on from a place, from the files, and checks every record, until about `budget` bytes were read. Only
    /// closed segments are read: they do not change, so whatever is not whole in them is damage.
    pub fn verify(&self, from: LogPlace, budget: usize) -> Result<LogVerified, LogError> {
        let Some((sequence, file)) = self.closed(from.sequence) else {
            return Ok(LogVerified::default());
        };
        // The one asked for may be purged by now.
        let offset = if sequence == from.sequence {
            from.offset
        } else {
            0
        };
        let next = |sequence, offset| Some(LogPlace { sequence, offset });
        let mut bytes = Vec::new();
        let mut wanted = budget.max(frame::HEAD);
        loop {
            self.read_piece(sequence, &*file, offset, wanted, &mut bytes)?;
            let is_whole_file = bytes.len() < wanted;
            let mut at = 0;
            let missing = loop {
                let place = offset + at as u64;
                match frame::parse(&bytes, at, sequence) {
                    Ok(found) if found.kind == Kind::Batch && found.index != place => {
                        let what = format!("the batch of byte {} lies there", found.index);
                        return Err(self.damage(sequence, place, what));
                    }
                    Ok(found) => {
                        at += found.size();
                        if found.kind == Kind::Seal {
                            return Ok(LogVerified {
                                bytes: at as u64,
                                next: next(sequence.saturating_add(1), 0),
                            });
                        }
                    }
                    Err(_) if at + 4 > bytes.len() && !is_whole_file => break frame::HEAD,
                    Err(Bad::Length(_)) if !is_whole_file => {
                        break frame::size_at(&bytes, at).unwrap_or(0);
                    }
                    Err(bad) => return Err(self.damage(sequence, place, bad.to_string())),
                }
            };
            if at > 0 {
                return Ok(LogVerified {
                    bytes: at as u64,
                    next: next(sequence, offset + at as u64),
                });
            }
            // One record is larger than the budget, or its length is damaged and the file ends before it does.
            if missing <= wanted || missing > frame::HEAD + frame::MAX_PAYLOAD {
                return Err(self.damage(sequence, offset, "its length is wrong".to_owned()));
            }
            wanted = missing;
        }
    }

    /// The first closed segment from `sequence` on.
    fn closed(&self, sequence: u32) -> Option<(u32, Arc<dyn WalFile>)> {
        let state = self.shared.state.lock();
        let closed = state.segments.len().saturating_sub(1);
        let mut segments = state.segments.iter().take(closed);
        let found = segments.find(|segment| segment.sequence >= sequence)?;
        Some((found.sequence, Arc::clone(&found.file)))
    }

    fn read_piece(
        &self,
        sequence: u32,
        file: &dyn WalFile,
        offset: u64,
        size: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<(), LogError> {
        bytes.resize(size, 0);
        let read = file.read_at(offset, bytes);
        let read = read.map_err(|source| LogError::Io {
            doing: "read",
            file: self.shared.fs.describe(&segment::name(sequence)),
            source,
        })?;
        bytes.truncate(read);
        Ok(())
    }

    fn damage(&self, sequence: u32, offset: u64, what: String) -> LogError {
        LogError::Damaged {
            file: self.shared.fs.describe(&segment::name(sequence)),
            offset,
            what,
        }
    }
}
