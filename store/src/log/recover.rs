//! Reading the log back: what a crash tore is cut, what was synced and is not there any more stops the start.
//!
//! A power cut may keep any subset of what was not synced, so a bad frame alone proves nothing. It is damage if
//! something later proves that these bytes were synced: a batch header that says so, a later segment, or the
//! length the file once had. Otherwise it is the torn end of the log; nothing behind it was ever acknowledged.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::LogOptions;
use super::error::{LogError, TornTail};
use super::frame::{self, Bad, Kind, MAX_INDEX};
use super::index::{Index, Place};
use super::segment::{self, Blank, FORMAT, Header, Standing};
use super::writing::Active;
use crate::entry::Membership;
use crate::fs::{BLOCK, WalFile, WalFs};
use crate::mutant::{self, Mutant};

/// The very first segment is small, so that a fresh node need not wait for 64 MiB of zeros.
const FIRST_SEGMENT: u64 = 4 << 20;

/// What was found.
pub(super) struct Found {
    pub(super) index: Index,
    pub(super) standing: Standing,
    /// All segments that are needed, the active one last, each with where its records end.
    pub(super) segments: Vec<(u32, Arc<dyn WalFile>, u64)>,
    pub(super) active: Active,
    pub(super) blank: Option<Blank>,
    /// Segments that hold nothing that is needed.
    pub(super) leftover: Vec<u32>,
    pub(super) cut: Option<TornTail>,
}

/// Sequence numbers of all segments in a folder, in order.
pub(super) fn sequences(fs: &dyn WalFs) -> Result<Vec<u32>, LogError> {
    let names = fs
        .list()
        .map_err(|source| failed(fs, "list the folder of", 0, source))?;
    let mut sequences: Vec<u32> = names
        .iter()
        .filter_map(|name| segment::parse_name(name))
        .collect();
    sequences.sort_unstable();
    Ok(sequences)
}

/// Reads the log, and leaves it so that the next batch can be appended.
pub(super) fn recover(fs: &dyn WalFs, options: &LogOptions) -> Result<Found, LogError> {
    remove_unfinished(fs)?;
    let sequences = sequences(fs)?;
    if sequences.is_empty() {
        return fresh(fs, options);
    }
    // Removals of purged segments may have reached the disk in any order, so the log is the last run of numbers
    // without a hole. Whether something is missing before it shows when its purged id is known.
    let start = (1..sequences.len())
        .rev()
        .find(|at| sequences[at - 1] + 1 != sequences[*at])
        .unwrap_or(0);
    let recovery = Recovery {
        fs,
        options,
        index: Index::default(),
        standing: Standing::default(),
        knows_start: false,
        segments: Vec::new(),
        bytes: Vec::new(),
        unproven: None,
    };
    recovery.run(&sequences[..start], &sequences[start..])
}

/// What every error needs to know.
fn failed(fs: &dyn WalFs, doing: &'static str, sequence: u32, source: io::Error) -> LogError {
    let file = if sequence == 0 {
        String::new()
    } else {
        segment::name(sequence)
    };
    LogError::Io {
        doing,
        file: fs.describe(&file),
        source,
    }
}

fn damaged(fs: &dyn WalFs, sequence: u32, at: usize, what: String) -> LogError {
    LogError::Damaged {
        file: fs.describe(&segment::name(sequence)),
        offset: at as u64,
        what,
    }
}

fn remove_unfinished(fs: &dyn WalFs) -> Result<(), LogError> {
    let names = fs
        .list()
        .map_err(|source| failed(fs, "list the folder of", 0, source))?;
    for name in names.iter().filter(|name| segment::is_unfinished(name)) {
        let remove = fs.remove(name);
        remove.map_err(|source| LogError::Io {
            doing: "remove",
            file: fs.describe(name),
            source,
        })?;
    }
    Ok(())
}

fn fresh(fs: &dyn WalFs, options: &LogOptions) -> Result<Found, LogError> {
    let size = options.segment_bytes.min(FIRST_SEGMENT);
    let blank = segment::prepare(fs, 1, size, &AtomicBool::new(false));
    let blank = blank.map_err(|source| failed(fs, "make", 1, source))?;
    Ok(Found {
        index: Index::default(),
        standing: Standing::default(),
        segments: vec![(1, Arc::clone(&blank.file), 0)],
        active: blank.into(),
        blank: None,
        leftover: Vec::new(),
        cut: None,
    })
}

struct Recovery<'a> {
    fs: &'a dyn WalFs,
    options: &'a LogOptions,
    index: Index,
    standing: Standing,
    /// Whether the first segment read begins with the very first entry.
    knows_start: bool,
    segments: Vec<(u32, Arc<dyn WalFile>, u64)>,
    /// The segment being read.
    bytes: Vec<u8>,
    /// The last batch of the previous segment, as long as nothing proves that it was synced.
    unproven: Option<Unproven>,
}

/// Bytes that were read, but perhaps only from the page cache: the process may have died before or in their sync.
struct Unproven {
    file: Arc<dyn WalFile>,
    sequence: u32,
    offset: u64,
    bytes: Vec<u8>,
}

/// How the records of a segment end.
struct Ending {
    at: usize,
    /// `None`: with a seal.
    bad: Option<Bad>,
    /// Up to where this segment says it was synced.
    synced: usize,
    size: u64,
}

impl Recovery<'_> {
    fn run(mut self, older: &[u32], run: &[u32]) -> Result<Found, LogError> {
        for (at, &sequence) in run.iter().enumerate() {
            let file = self.load(sequence)?;
            let ending = self.replay(sequence, at == 0)?;
            if ending.at == 0 && at == 0 && !(sequence == 1 && older.is_empty()) {
                // Nothing is known about what came before, and that was a log.
                self.refuse_if_written_later(sequence, 0, &ending, &run[1..])?;
                return Err(self.missing(sequence - 1));
            }
            self.segments
                .push((sequence, Arc::clone(&file), ending.at as u64));
            if ending.bad.is_none() {
                self.unproven = Some(Unproven {
                    file,
                    sequence,
                    offset: ending.synced as u64,
                    bytes: self.bytes[ending.synced..ending.at].to_vec(),
                });
                continue;
            }
            self.refuse_if_written_later(sequence, ending.at, &ending, &run[at + 1..])?;
            return self.finish(sequence, &file, &ending, older, &run[at + 1..]);
        }
        // Every segment is sealed: each says that there is one more.
        Err(self.missing(run[run.len() - 1].saturating_add(1)))
    }

    fn load(&mut self, sequence: u32) -> Result<Arc<dyn WalFile>, LogError> {
        let mut bytes = std::mem::take(&mut self.bytes);
        let loaded = load(self.fs, sequence, &mut bytes);
        self.bytes = bytes;
        loaded
    }

    /// Takes in all records of the loaded segment.
    fn replay(&mut self, sequence: u32, is_first: bool) -> Result<Ending, LogError> {
        let mut ending = Ending {
            at: 0,
            bad: None,
            synced: 0,
            size: self.bytes.len() as u64,
        };
        let bytes = std::mem::take(&mut self.bytes);
        let replayed = self.replay_frames(&bytes, sequence, is_first, &mut ending);
        self.bytes = bytes;
        replayed.map(|()| ending)
    }

    fn replay_frames(
        &mut self,
        bytes: &[u8],
        sequence: u32,
        is_first: bool,
        ending: &mut Ending,
    ) -> Result<(), LogError> {
        let fs = self.fs;
        let damaged = |at: usize, what: String| damaged(fs, sequence, at, what);
        loop {
            let at = ending.at;
            let found = match frame::parse(bytes, at, sequence) {
                // The checksum is right, so nothing was torn: this record was meant to be here.
                Err(bad @ Bad::Kind(_)) => return Err(damaged(at, bad.to_string())),
                Err(bad) => {
                    ending.bad = Some(bad);
                    return Ok(());
                }
                Ok(found) => found,
            };
            let is_misplaced = match found.kind {
                Kind::Segment => at != 0,
                Kind::Batch => at == 0 || found.index != at as u64 || found.term > found.index,
                _ => at <= Header::FRAME,
            };
            if is_misplaced {
                return Err(damaged(
                    at,
                    format!("a {:?} record cannot be there", found.kind),
                ));
            }
            // Of a vote it is a member's id.
            if found.index > MAX_INDEX && found.kind != Kind::Vote {
                return Err(damaged(at, "no log comes to such an index".to_owned()));
            }
            match found.kind {
                Kind::Segment => {
                    let header = match Header::decode(&found) {
                        Ok(Some(header)) if found.index == u64::from(sequence) => header,
                        Ok(_) => {
                            return Err(damaged(
                                at,
                                "the segment header is of another segment".to_owned(),
                            ));
                        }
                        Err(found) => {
                            let file = self.fs.describe(&segment::name(sequence));
                            return Err(LogError::NewerFormat {
                                file,
                                found,
                                known: FORMAT,
                            });
                        }
                    };
                    self.check_header(sequence, &header, bytes.len(), is_first)?;
                    ending.size = header.size;
                    if is_first {
                        self.index =
                            Index::starting_after(header.standing.last, header.standing.purged);
                        self.standing = header.standing;
                        self.knows_start = header.standing.last.is_none();
                    }
                    // Its first frame was written after the previous segment was synced to its end.
                    self.unproven = None;
                }
                Kind::Batch => ending.synced = usize::try_from(found.term).unwrap_or(at).min(at),
                Kind::Blank | Kind::Commands | Kind::Membership => {
                    if found.kind == Kind::Membership && Membership::decode(found.payload).is_err()
                    {
                        return Err(damaged(at, "a membership cannot be decoded".to_owned()));
                    }
                    let offset = u32::try_from(at)
                        .map_err(|_| damaged(at, "the segment is too large".to_owned()))?;
                    let appended = self.index.append(found.id(), Place { sequence, offset });
                    appended.map_err(|error| damaged(at, error.to_string()))?;
                }
                Kind::Vote => {
                    let vote = found.to_vote();
                    self.standing.vote =
                        Some(vote.ok_or_else(|| damaged(at, "a vote cannot be read".to_owned()))?);
                }
                Kind::Truncate => {
                    let truncated = self.index.truncate(found.to_optional_id());
                    truncated.map_err(|error| damaged(at, error.to_string()))?;
                }
                Kind::Purge => {
                    self.index.purge(found.id());
                }
                Kind::Committed => self.standing.committed = found.to_optional_id(),
                Kind::Seal => {
                    ending.at += found.size();
                    return Ok(());
                }
            }
            self.standing.last = self.index.last();
            self.standing.purged = self.index.purged();
            ending.at += found.size();
        }
    }

    fn check_header(
        &self,
        sequence: u32,
        header: &Header,
        size: usize,
        is_first: bool,
    ) -> Result<(), LogError> {
        let LogOptions {
            cluster_id: cluster,
            member_id: member,
            ..
        } = *self.options;
        if (header.cluster, header.member) != (cluster, member) {
            let file = self.fs.describe(&segment::name(sequence));
            let (found_cluster, found_member) = (header.cluster, header.member);
            return Err(LogError::Foreign {
                file,
                found_cluster,
                found_member,
                cluster,
                member,
            });
        }
        if (size as u64) < header.size {
            let what = format!(
                "the file ends here, but it was made {} bytes long",
                header.size
            );
            return Err(damaged(self.fs, sequence, size, what));
        }
        if !is_first && header.standing != self.standing {
            let what = "the segment does not continue the one before it".to_owned();
            return Err(damaged(self.fs, sequence, 0, what));
        }
        Ok(())
    }

    /// A bad frame is damage if anything behind it proves that it was synced.
    fn refuse_if_written_later(
        &mut self,
        sequence: u32,
        at: usize,
        ending: &Ending,
        later: &[u32],
    ) -> Result<(), LogError> {
        let what = ending.bad.map_or_else(String::new, |bad| bad.to_string());
        if let Some(proof) = frame::find_proof(&self.bytes, at, sequence) {
            let what = format!(
                "{what}, though the record at byte {proof} was written after it was synced"
            );
            return Err(damaged(self.fs, sequence, at, what));
        }
        let mut bytes = Vec::new();
        for &later in later {
            load(self.fs, later, &mut bytes)?;
            let begins = frame::parse(&bytes, 0, later).is_ok();
            if begins || frame::find_proof(&bytes, 0, later).is_some() {
                let what = format!("{what}, though the log goes on in {}", segment::name(later));
                return Err(damaged(self.fs, sequence, at, what));
            }
        }
        Ok(())
    }

    /// Cuts the tail, makes everything kept durable, and checks that the log begins where it may.
    fn finish(
        mut self,
        sequence: u32,
        file: &Arc<dyn WalFile>,
        ending: &Ending,
        older: &[u32],
        later: &[u32],
    ) -> Result<Found, LogError> {
        // The log may begin in the middle only if everything before is purged.
        let begins = self.standing.purged.map_or(0, |purged| purged.index + 1);
        if !self.knows_start && self.index.first() > begins {
            return Err(self.missing(self.segments[0].0.saturating_sub(1)));
        }
        let held = self.bytes[ending.at / BLOCK * BLOCK..ending.at].to_vec();
        let wrote = |source| failed(self.fs, "repair the end of", sequence, source);
        let written = frame::written_end(&self.bytes);
        let mut cut = None;
        if written > ending.at && !mutant::is_on(Mutant::TornTailKept) {
            // Left there, its frames could one day be taken for the continuation of a shorter batch.
            zero(&**file, ending.at, written).map_err(wrote)?;
            cut = Some(TornTail {
                file: self.fs.describe(&segment::name(sequence)),
                offset: ending.at as u64,
                bytes: (written - ending.at) as u64,
                what: ending.bad.map_or_else(String::new, |bad| bad.to_string()),
            });
        }
        // The last batch may have been read from the page cache after its sync failed or never came. The kernel
        // may believe such pages to be clean, so they are written again before they are synced.
        if let Some(Unproven {
            file,
            sequence,
            offset,
            bytes,
        }) = self.unproven.take()
        {
            let again = file
                .write_at(offset, &bytes)
                .and_then(|()| file.sync_data());
            again.map_err(|source| failed(self.fs, "write the end of", sequence, source))?;
        }
        file.write_at(ending.synced as u64, &self.bytes[ending.synced..ending.at])
            .map_err(wrote)?;
        file.sync_data().map_err(wrote)?;
        let blank = self.keep_one_blank(later)?;
        self.fs
            .sync_dir()
            .map_err(|source| failed(self.fs, "sync the folder of", 0, source))?;

        let needed = self
            .index
            .first_place()
            .map_or(sequence, |place| place.sequence);
        let unneeded = self
            .segments
            .iter()
            .take_while(|(sequence, ..)| *sequence < needed)
            .count();
        let mut leftover = older.to_vec();
        leftover.extend(
            self.segments
                .drain(..unneeded)
                .map(|(sequence, ..)| sequence),
        );
        let end = ending.at as u64;
        Ok(Found {
            index: self.index,
            standing: self.standing,
            segments: self.segments,
            active: Active {
                sequence,
                file: Arc::clone(file),
                size: ending.size,
                end,
                held,
            },
            blank,
            leftover,
            cut,
        })
    }

    /// Segments behind the active one hold nothing. The next is kept as it is, or made so again.
    fn keep_one_blank(&mut self, later: &[u32]) -> Result<Option<Blank>, LogError> {
        let mut kept = None;
        for (at, &sequence) in later.iter().enumerate() {
            let file = self.load(sequence)?;
            let repair = |source| failed(self.fs, "clear", sequence, source);
            if at > 0 || self.bytes.len() < 2 * Header::FRAME {
                self.fs.remove(&segment::name(sequence)).map_err(repair)?;
                continue;
            }
            let written = frame::written_end(&self.bytes);
            if written > 0 {
                zero(&*file, 0, written)
                    .and_then(|()| file.sync_data())
                    .map_err(repair)?;
            }
            kept = Some(Blank {
                sequence,
                file,
                size: self.bytes.len() as u64,
            });
        }
        Ok(kept)
    }

    fn missing(&self, sequence: u32) -> LogError {
        LogError::Missing {
            file: self.fs.describe(&segment::name(sequence)),
        }
    }
}

/// Reads a whole segment.
pub(super) fn load(
    fs: &dyn WalFs,
    sequence: u32,
    bytes: &mut Vec<u8>,
) -> Result<Arc<dyn WalFile>, LogError> {
    let mut read = || {
        let file = fs.open(&segment::name(sequence))?;
        let size = usize::try_from(file.size()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
        bytes.resize(size, 0);
        let read = file.read_at(0, bytes)?;
        bytes.truncate(read);
        Ok(file)
    };
    read().map_err(|source| failed(fs, "read", sequence, source))
}

fn zero(file: &dyn WalFile, from: usize, to: usize) -> io::Result<()> {
    const STEP: usize = 1 << 20;
    let zeros = vec![0; STEP.min(to - from)];
    let mut at = from;
    while at < to {
        let step = STEP.min(to - at);
        file.write_at(at as u64, &zeros[..step])?;
        at += step;
    }
    Ok(())
}
