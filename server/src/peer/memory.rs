//! What this member remembers of the others, so that one whose data folder was lost or copied back is recognised.
//!
//! A vote given twice in a term, or an entry acknowledged and then not there, could undo what a quorum has decided. So
//! each member keeps, for every other one, how often that one was started, the newest term it voted in, and the newest
//! entry it acknowledged. Before anything else is said on a connection, one is told what the other remembers: if it has
//! less than that, it ends, and it can come back only as a new member.
//!
//! Limits: entries are remembered by the leader, a second later at the latest, and votes by the candidate that got them.
//! What was acknowledged in the last second to a leader that is gone for good, nobody remembers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use proto::peer::{LogId, Remembered};
use serde::{Deserialize, Serialize};

use crate::exec::{Queue, Work};

/// Of one member. Everything only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Of {
    /// How often it was started.
    boot: u64,
    /// The newest term that it gave a vote in.
    term: u64,
    /// The newest entry that it acknowledged.
    last_term: u64,
    last_index: u64,
}

/// The file. Ids are in hexadecimal.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// Of the rest: a changed figure could have a sound member refused.
    checksum: String,
    members: BTreeMap<String, Of>,
}

fn sum(members: &BTreeMap<String, Of>) -> io::Result<String> {
    Ok(format!(
        "{:08x}",
        crc32c::crc32c(&serde_json::to_vec(members)?)
    ))
}

/// What is remembered of all others.
pub struct Memory {
    /// None: kept in memory alone.
    path: Option<PathBuf>,
    others: Mutex<BTreeMap<u64, Of>>,
    is_changed: AtomicBool,
    /// One at a time.
    saving: Mutex<()>,
    queue: Arc<Queue<()>>,
}

/// Why one that says hello is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RolledBack(String);

impl Memory {
    /// What was remembered at the last start, kept in a file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let stored: Stored = match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Stored::default(),
            Err(error) => return Err(error),
        };
        if !stored.members.is_empty() && stored.checksum != sum(&stored.members)? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its checksum does not match; without the file the node starts, and does not remember what other \
                 members had: remove it if all of them are sound",
            ));
        }
        let others = stored
            .members
            .into_iter()
            .map(|(id, of)| Ok((u64::from_str_radix(&id, 16).map_err(io::Error::other)?, of)))
            .collect::<io::Result<_>>()?;
        Ok(Self::with(Some(path.to_owned()), others))
    }

    /// One that ends with the process.
    pub fn brief() -> Self {
        Self::with(None, BTreeMap::new())
    }

    fn with(path: Option<PathBuf>, others: BTreeMap<u64, Of>) -> Self {
        Self {
            path,
            others: Mutex::new(others),
            is_changed: AtomicBool::new(false),
            saving: Mutex::default(),
            queue: Queue::new(),
        }
    }

    /// What is remembered of one, to be told to it.
    pub fn of(&self, member: u64) -> Remembered {
        let of = self.others.lock().get(&member).copied().unwrap_or_default();
        Remembered {
            boot: of.boot,
            term: of.term,
            last: (of.last_index > 0).then_some(LogId {
                term: of.last_term,
                index: of.last_index,
            }),
        }
    }

    /// One says what it has; believed, and remembered, if that is not less than before.
    pub fn hello(&self, member: u64, has: &Remembered) -> Result<(), RolledBack> {
        let remembered = self.of(member);
        compare(&remembered, has)?;
        // What it says of its term may not be on its disk yet; a vote that it gives is.
        self.change(member, |of| of.boot = of.boot.max(has.boot));
        Ok(())
    }

    /// One has acknowledged an entry.
    pub fn acknowledged(&self, member: u64, term: u64, index: u64) {
        self.change(member, |of| {
            if (term, index) > (of.last_term, of.last_index) {
                (of.last_term, of.last_index) = (term, index);
            }
        });
    }

    /// One has voted.
    pub fn voted(&self, member: u64, term: u64) {
        self.change(member, |of| of.term = of.term.max(term));
    }

    fn change(&self, member: u64, change: impl FnOnce(&mut Of)) {
        let mut others = self.others.lock();
        let of = others.entry(member).or_default();
        let before = *of;
        change(of);
        if *of != before {
            self.is_changed.store(true, Ordering::Release);
        }
    }

    /// Has what changed written down soon, by the worker.
    pub fn save_soon(&self) {
        if self.is_changed.load(Ordering::Acquire) && self.queue.is_empty() {
            // A closed queue means that the node ends.
            let _ = self.queue.push(());
        }
    }

    /// Writes down what changed. Blocks.
    pub fn save(&self) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let _one_at_a_time = self.saving.lock();
        if !self.is_changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let members: BTreeMap<String, Of> = {
            let others = self.others.lock();
            others
                .iter()
                .map(|(id, of)| (format!("{id:x}"), *of))
                .collect()
        };
        let written = (|| {
            let aside = path.with_extension("new");
            let mut file = File::create(&aside)?;
            let checksum = sum(&members)?;
            file.write_all(&serde_json::to_vec(&Stored { checksum, members })?)?;
            file.sync_data()?;
            fs::rename(&aside, path)?;
            path.parent()
                .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        })();
        if written.is_err() {
            self.is_changed.store(true, Ordering::Release);
        }
        written
    }

    /// No more is written.
    pub fn close(&self) {
        self.queue.close();
    }
}

/// Whether somebody who has `has` can be the one of whom this is remembered.
pub fn compare(remembered: &Remembered, has: &Remembered) -> Result<(), RolledBack> {
    let id = |id: Option<LogId>| id.map_or((0, 0), |id| (id.term, id.index));
    let (acknowledged, last) = (id(remembered.last), id(has.last));
    let missing = if has.boot < remembered.boot {
        format!(
            "it was started {} times, and has been started {} times already",
            has.boot, remembered.boot
        )
    } else if has.term < remembered.term {
        format!(
            "it is in term {}, and has voted in term {} already",
            has.term, remembered.term
        )
    } else if last < acknowledged && has.term <= acknowledged.0 {
        // In a later term its leader may have had it drop entries that were never committed.
        format!(
            "its log ends with entry {} of term {}, and it has acknowledged entry {} of term {} already",
            last.1, last.0, acknowledged.1, acknowledged.0
        )
    } else {
        return Ok(());
    };
    Err(RolledBack(missing))
}

/// Writes down what is remembered.
pub struct MemoryWorker(pub Arc<Memory>);

impl Work for MemoryWorker {
    fn step(&mut self) -> bool {
        let any = !self.0.queue.take().is_empty();
        if any && let Err(error) = self.0.save() {
            tracing::warn!(
                %error,
                "cannot write down what other members have acknowledged; if one of them loses its data now, it may not \
                 be noticed"
            );
        }
        any
    }

    fn wait(&mut self) -> bool {
        self.0.queue.wait()
    }

    fn has_work(&self) -> bool {
        !self.0.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(boot: u64, term: u64, last: (u64, u64)) -> Remembered {
        Remembered {
            boot,
            term,
            last: (last.1 > 0).then_some(LogId {
                term: last.0,
                index: last.1,
            }),
        }
    }

    #[test]
    fn one_that_has_less_than_is_remembered_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.json");
        let memory = Memory::open(&path).unwrap();
        memory.hello(7, &has(3, 5, (5, 90))).unwrap();
        memory.voted(7, 5);
        memory.acknowledged(7, 5, 100);
        memory.save().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("100", "900")).unwrap();
        assert!(Memory::open(&path).is_err(), "a changed figure");
        fs::write(&path, text).unwrap();
        let memory = Memory::open(&path).unwrap();
        assert_eq!(memory.of(7), has(3, 5, (5, 100)));
        assert_eq!(memory.of(8), Remembered::default());
        // Wiped, copied back from an earlier start, from an earlier term, and from this one.
        for lost in [
            has(1, 0, (0, 0)),
            has(2, 5, (5, 100)),
            has(4, 4, (4, 80)),
            has(4, 5, (5, 99)),
        ] {
            memory.hello(7, &lost).unwrap_err();
        }
        for fine in [has(4, 5, (5, 100)), has(5, 6, (5, 60)), has(5, 6, (6, 61))] {
            memory.hello(7, &fine).unwrap();
        }
        memory.voted(7, 9);
        memory.hello(7, &has(6, 8, (6, 200))).unwrap_err();
    }
}
