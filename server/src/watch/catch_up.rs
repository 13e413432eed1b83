//! Bringing watchers forward that are behind: one read of changes serves all of them together.
//!
//! What the ring no longer holds is read from the store's history by a worker of its own, off the paths of apply and
//! hub; and so is what was before a change, if a watcher wants it and it is not in memory. The worker also matches and encodes, so that the hub only hands out the result.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use store::{ChangeSet, StoreError};

use super::frame::{self, Batch, Response};
use super::hub::{Command, Shared};
use super::index::Index;
use super::interest::Interest;
use super::ring;
use crate::exec::{Queue, Work};

/// Revisions that one scan delivers at most, so that live watchers never wait long behind it.
pub(super) const SCAN_REVISIONS: i64 = 1000;
/// Revisions that one scan of history walks over at most; most of them match nothing.
pub(super) const HISTORY_WINDOW: i64 = 10_000;
/// A scan that came out longer than this makes the next one stop earlier.
const SCAN_BYTES: usize = 4 * 1024 * 1024;
/// A scan that has made so many bytes of responses tells no further watchers: they are for the next one.
const TOLD_BYTES: usize = 8 * 1024 * 1024;
const LIMIT_MAX: usize = 1000;

/// Watchers that are brought forward together, grouped by what they want.
#[derive(Default)]
pub(super) struct Scan {
    index: Index,
    groups: Vec<ScanGroup>,
    by_interest: HashMap<Arc<Interest>, usize>,
}

struct ScanGroup {
    interest: Arc<Interest>,
    /// Watchers by their cursor.
    cursors: BTreeMap<i64, Vec<u64>>,
    hits: Vec<usize>,
}

/// What some watchers with the same interest and cursor are to be told.
pub(super) struct Told {
    pub(super) after: i64,
    pub(super) watchers: Vec<u64>,
    pub(super) responses: Vec<Response>,
}

impl Scan {
    pub(super) fn add(&mut self, interest: &Arc<Interest>, cursor: i64, watcher: u64) {
        let number = *self.by_interest.entry(interest.clone()).or_insert_with(|| {
            let number = self.groups.len();
            self.index.insert(&interest.range, number);
            self.groups.push(ScanGroup {
                interest: interest.clone(),
                cursors: BTreeMap::new(),
                hits: Vec::new(),
            });
            number
        });
        self.groups[number]
            .cursors
            .entry(cursor)
            .or_default()
            .push(watcher);
    }

    /// Whether to tell these changes takes reads of the store.
    pub(super) fn must_read(&self, sets: &[Arc<ChangeSet>]) -> bool {
        let wants_previous = |group: &ScanGroup| group.interest.with_previous;
        if !self.groups.iter().any(wants_previous) {
            return false;
        }
        let changes = sets
            .iter()
            .flat_map(|set| set.changes.iter().map(|change| (set.revision, change)));
        changes
            .filter(|(revision, change)| frame::is_previous_elsewhere(change, *revision))
            .any(|(_, change)| {
                let mut must = false;
                self.index.for_each(change.record.key(), |number| {
                    must |= wants_previous(&self.groups[number]);
                });
                must
            })
    }

    /// Matches and encodes. Every watcher of the scan is in the result, also without responses: told, or left for
    /// the next scan.
    pub(super) fn run(
        mut self,
        sets: &[Arc<ChangeSet>],
        shared: &Shared,
    ) -> Result<(Vec<Told>, Vec<u64>), StoreError> {
        let mut batch = Batch::new(sets, &shared.room);
        for (event, key) in batch.keys().enumerate() {
            self.index
                .for_each(key, |number| self.groups[number].hits.push(event));
        }
        let mut told = Vec::new();
        let mut left = Vec::new();
        let mut bytes = 0;
        for group in self.groups {
            for (after, watchers) in group.cursors {
                if bytes > TOLD_BYTES {
                    left.extend(watchers);
                    continue;
                }
                let events = batch.behind(&group.hits, after);
                let responses = batch.responses(
                    events,
                    &group.interest,
                    shared.options.message_bytes,
                    &shared.reader,
                )?;
                bytes += responses.iter().map(Response::bytes).sum::<usize>();
                told.push(Told {
                    after,
                    watchers,
                    responses,
                });
            }
        }
        Ok((told, left))
    }

    fn wants(&self, key: &[u8]) -> bool {
        let mut is_wanted = false;
        self.index.for_each(key, |_| is_wanted = true);
        is_wanted
    }

    fn into_watchers(self) -> Vec<u64> {
        self.groups
            .into_iter()
            .flat_map(|group| group.cursors.into_values().flatten())
            .collect()
    }
}

/// A scan to be made of the revisions `(after, up_to]`.
pub(super) struct Job {
    pub(super) scan: Scan,
    pub(super) after: i64,
    pub(super) up_to: i64,
    pub(super) of: Of,
}

/// What a scan is made of.
pub(super) enum Of {
    History,
    /// These changes; only what was before them is to be read.
    Changes(Vec<Arc<ChangeSet>>),
}

/// How it went.
pub(super) enum Scanned {
    /// All changes up to a revision, and the watchers that are to be scanned for again.
    Told {
        is_of_history: bool,
        up_to: i64,
        told: Vec<Told>,
        left: Vec<u64>,
    },
    /// Compaction was faster, for some of these watchers.
    Compacted(Vec<u64>),
    /// The store could not be read.
    Fault(StoreError),
}

/// Reads history for the hub.
pub struct CatchUpWorker {
    jobs: Arc<Queue<Job>>,
    shared: Arc<Shared>,
    limit: usize,
}

impl CatchUpWorker {
    pub(super) fn new(jobs: Arc<Queue<Job>>, shared: Arc<Shared>) -> Self {
        Self {
            jobs,
            shared,
            limit: LIMIT_MAX / 8,
        }
    }

    fn read(&mut self, job: Job) -> Result<Scanned, StoreError> {
        let Job {
            scan,
            after,
            up_to,
            of,
        } = job;
        if let Of::Changes(sets) = of {
            let (told, left) = scan.run(&sets, &self.shared)?;
            return Ok(Scanned::Told {
                is_of_history: false,
                up_to,
                told,
                left,
            });
        }
        let reader = &self.shared.reader;
        let mut wants = |key: &[u8]| scan.wants(key);
        let history = match reader.history(&reader.view(), after, up_to, self.limit, &mut wants)? {
            Ok(history) => history,
            // The revisions exist, so it can only be that compaction was faster.
            Err(_) => return Ok(Scanned::Compacted(scan.into_watchers())),
        };
        let bytes: usize = history.sets.iter().map(|set| ring::weight(set)).sum();
        if bytes > SCAN_BYTES {
            self.limit = (self.limit / 2).max(1);
        } else if bytes < SCAN_BYTES / 4 {
            self.limit = (self.limit * 2).min(LIMIT_MAX);
        }
        let (told, left) = scan.run(&history.sets, &self.shared)?;
        Ok(Scanned::Told {
            is_of_history: true,
            up_to: history.up_to,
            told,
            left,
        })
    }
}

impl Work for CatchUpWorker {
    fn step(&mut self) -> bool {
        let jobs = self.jobs.take();
        let has_worked = !jobs.is_empty();
        for job in jobs {
            let scanned = self.read(job).unwrap_or_else(Scanned::Fault);
            self.shared.command(Command::Scanned(scanned));
        }
        has_worked
    }

    fn wait(&mut self) -> bool {
        self.jobs.wait()
    }

    fn has_work(&self) -> bool {
        !self.jobs.is_empty()
    }
}
