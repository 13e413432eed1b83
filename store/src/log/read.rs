//! Reading entries: the newest from memory, older ones from their segments, each checked again.

use std::ops::Range;
use std::sync::Arc;

use super::error::LogError;
use super::state::{State, payload_size};
use super::{Log, frame, segment};
use crate::entry::{Entry, LogId};
use crate::fs::WalFile;

/// How much is read from a segment at once.
const CHUNK: usize = 1 << 20;
/// How much is read behind the start of the last frame wanted, whose length is not known yet.
const GUESS: usize = 16 << 10;
/// How many places are copied out of the lock at once.
const PLACES: u64 = 4096;

/// Entries of one segment that follow each other.
struct Stretch {
    sequence: u32,
    file: Arc<dyn WalFile>,
    first: u64,
    offsets: Vec<u32>,
}

impl Log {
    /// The entries of `range`, all of them or an error; fewer only if their payloads together would exceed
    /// `max_bytes`, and then at least one.
    pub fn entries(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<Entry>, LogError> {
        let mut found = Found {
            entries: Vec::new(),
            bytes: 0,
            max_bytes,
        };
        let mut truncations = None;
        while range.start + (found.entries.len() as u64) < range.end {
            let next = range.start + found.entries.len() as u64;
            let stretch = {
                let state = self.shared.state.lock();
                // Entries read before and after a truncation may not belong together.
                if *truncations.get_or_insert(state.truncations) != state.truncations {
                    truncations = None;
                    found.clear();
                    continue;
                }
                state.check(next)?;
                state.check(range.end - 1)?;
                if next >= state.tail_first() {
                    let skipped = usize::try_from(next - state.tail_first()).unwrap_or(usize::MAX);
                    let wanted = usize::try_from(range.end - next).unwrap_or(usize::MAX);
                    for entry in state.tail.iter().skip(skipped).take(wanted) {
                        if !found.add(|| payload_size(entry), || entry.clone()) {
                            break;
                        }
                    }
                    return Ok(found.entries);
                }
                state.stretch(next, range.end.min(state.tail_first()).min(next + PLACES))
            };
            // A segment goes only after its entries did, so this does not happen; if it did, a short answer
            // would be worse than an error.
            let stretch = stretch.map_err(|sequence| LogError::Missing {
                file: self.shared.fs.describe(&segment::name(sequence)),
            })?;
            if !self.read_stretch(&stretch, &mut found)? {
                break;
            }
        }
        Ok(found.entries)
    }

    /// The id of an entry, or of the last purged one; `None` if there is no such entry.
    pub fn entry_id(&self, index: u64) -> Result<Option<LogId>, LogError> {
        {
            let state = self.shared.state.lock();
            if let Some(id) = state.index.last().filter(|last| last.index == index) {
                return Ok(Some(id));
            }
            if let Some(id) = state.index.purged().filter(|purged| purged.index == index) {
                return Ok(Some(id));
            }
            if state.index.place(index).is_none() {
                return Ok(None);
            }
        }
        match self.entries(index..index + 1, 0) {
            Ok(entries) => Ok(entries.first().map(|entry| entry.id)),
            // It went in between.
            Err(LogError::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads entries of one segment; `false` when the limit is reached.
    fn read_stretch(&self, stretch: &Stretch, found: &mut Found) -> Result<bool, LogError> {
        let mut buffer = Vec::new();
        let mut buffer_start = 0;
        for (nth, &offset) in stretch.offsets.iter().enumerate() {
            let offset = offset as usize;
            let mut at = offset.saturating_sub(buffer_start);
            let is_there = |buffer: &[u8], at: usize| {
                frame::size_at(buffer, at).is_some_and(|size| at + size <= buffer.len())
            };
            if !is_there(&buffer, at) {
                let last = stretch.offsets[stretch.offsets.len() - 1] as usize;
                self.read(
                    stretch,
                    offset,
                    (last - offset + GUESS).min(CHUNK),
                    &mut buffer,
                )?;
                let size = frame::size_at(&buffer, 0).unwrap_or(0);
                if size > buffer.len() && size <= frame::HEAD + frame::MAX_PAYLOAD {
                    self.read(stretch, offset, size, &mut buffer)?;
                }
                (buffer_start, at) = (offset, 0);
            }
            let index = stretch.first + nth as u64;
            let frame = match frame::parse(&buffer, at, stretch.sequence) {
                Ok(frame) if frame.index == index && frame.is_entry() => frame,
                Ok(_) => {
                    return Err(self.damaged(
                        stretch,
                        offset,
                        format!("entry {index} is not there"),
                    ));
                }
                Err(bad) => {
                    return Err(self.damaged(stretch, offset, format!("entry {index}: {bad}")));
                }
            };
            if found.is_full(frame.payload.len()) {
                return Ok(false);
            }
            let Some(entry) = frame.to_entry() else {
                return Err(self.damaged(
                    stretch,
                    offset,
                    format!("entry {index} cannot be decoded"),
                ));
            };
            found.add(|| frame.payload.len(), || entry);
        }
        Ok(true)
    }

    fn read(
        &self,
        stretch: &Stretch,
        offset: usize,
        size: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<(), LogError> {
        buffer.resize(size, 0);
        let read = stretch
            .file
            .read_at(offset as u64, buffer)
            .map_err(|source| LogError::Io {
                doing: "read",
                file: self.shared.fs.describe(&segment::name(stretch.sequence)),
                source,
            })?;
        buffer.truncate(read);
        Ok(())
    }

    fn damaged(&self, stretch: &Stretch, offset: usize, what: String) -> LogError {
        let file = self.shared.fs.describe(&segment::name(stretch.sequence));
        LogError::Damaged {
            file,
            offset: offset as u64,
            what,
        }
    }
}

impl State {
    fn check(&self, index: u64) -> Result<(), LogError> {
        match self.index.place(index) {
            Some(_) => Ok(()),
            None => Err(LogError::Absent {
                index,
                first: self.index.first(),
                end: self.index.end(),
            }),
        }
    }

    /// The entries from `first` up to `end` that lie in the same segment as the first; `Err` names a segment that
    /// is not there.
    fn stretch(&self, first: u64, end: u64) -> Result<Stretch, u32> {
        let sequence = self.index.place(first).map_or(0, |place| place.sequence);
        let file = Arc::clone(&self.segment(sequence).ok_or(sequence)?.file);
        let places = (first..end).map_while(|index| self.index.place(index));
        let offsets = places
            .take_while(|place| place.sequence == sequence)
            .map(|place| place.offset)
            .collect();
        Ok(Stretch {
            sequence,
            file,
            first,
            offsets,
        })
    }
}

struct Found {
    entries: Vec<Entry>,
    bytes: usize,
    max_bytes: usize,
}

impl Found {
    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    fn is_full(&self, size: usize) -> bool {
        !self.entries.is_empty() && self.bytes + size > self.max_bytes
    }

    /// Takes an entry, unless that would exceed the limit.
    fn add(&mut self, size: impl FnOnce() -> usize, entry: impl FnOnce() -> Entry) -> bool {
        let size = size();
        if self.is_full(size) {
            return false;
        }
        self.bytes += size;
        self.entries.push(entry());
        true
    }
}
