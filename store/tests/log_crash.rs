//! Power cuts at any moment: what was acknowledged is there, what is there was written, in order.

mod log_common;

use std::collections::BTreeMap;

use log_common::{Results, all, entry, id, open, options};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::fs::SimFs;
use store::log::{Log, LogError, LogOptions};
use store::{Entry, LogId, Vote};

/// What the log should amount to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    entries: BTreeMap<u64, Entry>,
    last: Option<LogId>,
    purged: Option<LogId>,
    vote: Option<Vote>,
}

/// The smallest thing that can be lost or kept.
#[derive(Clone, Debug)]
enum Step {
    Entry(Entry),
    Vote(Vote),
    Truncate(Option<LogId>),
    Purge(LogId),
    Nothing,
}

impl Model {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Entry(entry) => {
                self.last = Some(entry.id);
                self.entries.insert(entry.id.index, entry.clone());
            }
            Step::Vote(vote) => self.vote = Some(*vote),
            Step::Truncate(last) => {
                self.entries
                    .retain(|index, _| last.is_some_and(|last| *index <= last.index));
                self.last = *last;
            }
            Step::Purge(to) => {
                self.entries.retain(|index, _| *index > to.index);
                self.purged = Some(*to);
                if self.last.is_none_or(|last| last.index < to.index) {
                    self.last = Some(*to);
                }
            }
            Step::Nothing => {}
        }
    }

    fn read(log: &Log) -> Result<Self, LogError> {
        let entries = all(log)?
            .into_iter()
            .map(|entry| (entry.id.index, entry))
            .collect();
        Ok(Self {
            entries,
            last: log.last(),
            purged: log.last_purged(),
            vote: log.vote(),
        })
    }

    fn next(&self) -> u64 {
        self.last.map_or(0, |last| last.index + 1)
    }

    /// Ids to which the log may be cut: any entry, or what lies before the first.
    fn cut(&self, random: &mut StdRng) -> Option<LogId> {
        let nth = random.random_range(0..=self.entries.len());
        self.entries
            .values()
            .nth(nth)
            .map(|entry| entry.id)
            .or(self.purged)
    }
}

/// One life of the log: random calls until the power goes. Returns the steps and how many were acknowledged.
fn live(
    log: &Log,
    worker: &mut store::log::Worker,
    model: &mut Model,
    random: &mut StdRng,
) -> (Vec<Step>, usize) {
    let results = Results::default();
    let mut steps: Vec<Step> = Vec::new();
    let mut term = model.last.map_or(1, |last| last.term);
    for _ in 0..random.random_range(1..60) {
        let from = steps.len();
        match random.random_range(0..20) {
            0..9 => {
                let size = if random.random_ratio(1, 20) {
                    5000
                } else {
                    random.random_range(0..300)
                };
                let new: Vec<Entry> = (0..random.random_range(0..5))
                    .map(|nth| entry(term, model.next() + nth, size))
                    .collect();
                steps.extend(new.iter().cloned().map(Step::Entry));
                steps.push(Step::Nothing);
                log.append(new, results.done(steps.len()));
            }
            9..11 => {
                let voted_for = random.random_bool(0.5).then_some(random.random_range(0..5));
                let vote = Vote {
                    term,
                    voted_for,
                    committed: random.random_bool(0.5),
                };
                steps.push(Step::Vote(vote));
                log.save_vote(vote, results.done(steps.len()));
            }
            11 => {
                let last = model.cut(random);
                term += 1;
                steps.push(Step::Truncate(last));
                log.truncate_after(last, results.done(steps.len()));
            }
            12 => {
                let beyond = random.random_ratio(1, 5);
                let to = if beyond {
                    Some(id(term, model.next() + 3))
                } else {
                    model.cut(random)
                };
                if let Some(to) =
                    to.filter(|to| model.purged.is_none_or(|purged| purged.index < to.index))
                {
                    steps.push(Step::Purge(to));
                    log.purge(to, results.done(steps.len()));
                }
            }
            13 => log.save_committed(model.last.unwrap_or_default()),
            14 => worker.mark(),
            _ => {
                worker.run_once();
            }
        }
        for step in &steps[from..] {
            model.apply(step);
        }
        if log.failure().is_none() {
            assert_eq!(
                Model::read(log).expect("the log can be read"),
                *model,
                "what was called can be read at once"
            );
        } else {
            break;
        }
    }
    let mut acknowledged = 0;
    for (step, is_ok) in results.taken() {
        assert!(step > acknowledged || !is_ok, "callbacks came out of order");
        acknowledged = if is_ok { step } else { acknowledged };
    }
    (steps, acknowledged)
}

fn run(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let disk = SimFs::new(seed);
    let options = LogOptions {
        tail_bytes: random.random_range(0..3000),
        ..options(4096)
    };
    let mut before = Model::default();
    let mut history: (Vec<Step>, usize) = (Vec::new(), 0);
    let mut synced: Vec<Entry> = Vec::new();
    for life in 0..4 {
        // The power may go while the log is being opened, more than once.
        let (log, mut worker) = loop {
            if random.random_ratio(1, 3) {
                disk.cut_power_after(random.random_range(0..12));
            }
            match open(&disk, &options) {
                Ok((log, worker, _)) => break (log, worker),
                Err(LogError::Io { .. }) if random.random_bool(0.5) => disk.restart(),
                Err(LogError::Io { .. }) => disk.crash(),
                Err(error) => panic!("seed {seed}, life {life}: {error}"),
            }
        };
        let found = Model::read(&log).expect("the log can be read");
        let (steps, acknowledged) = &history;
        let mut expected = before.clone();
        let mut is_found = false;
        for (nth, step) in steps.iter().enumerate() {
            is_found |= nth >= *acknowledged && expected == found;
            expected.apply(step);
        }
        is_found |= expected == found;
        assert!(
            is_found,
            "seed {seed}, life {life}: found last {:?} purged {:?} vote {:?}, after {acknowledged} of {} steps, \
             which end with last {:?} purged {:?} vote {:?}",
            found.last,
            found.purged,
            found.vote,
            steps.len(),
            expected.last,
            expected.purged,
            expected.vote,
        );
        for entry in synced {
            let is_purged = found
                .purged
                .is_some_and(|purged| purged.index >= entry.id.index);
            assert!(
                is_purged || found.entries.get(&entry.id.index) == Some(&entry),
                "seed {seed}: {:?}",
                entry.id
            );
        }
        if let (Some(committed), Some(last)) = (log.committed(), log.last()) {
            assert!(committed.index <= last.index, "seed {seed}");
        }
        before = found.clone();
        let mut model = found;
        if random.random_bool(0.7) {
            disk.cut_power_after(random.random_range(0..120));
        } else if random.random_bool(0.5) {
            disk.fail_sync_after(random.random_range(0..40));
        }
        history = live(&log, &mut worker, &mut model, &mut random);
        let end = log.synced_index().map_or(0, |index| index + 1);
        synced = model
            .entries
            .range(..end)
            .map(|(_, entry)| entry.clone())
            .collect();
        if random.random_ratio(1, 3) {
            disk.restart();
        } else {
            disk.crash();
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut() {
    for seed in 0..2000 {
        run(seed);
    }
}

#[test]
fn the_same_seed_leaves_the_same_disk() {
    let contents = |seed| {
        let disk = SimFs::new(seed);
        let (log, mut worker, _) = open(&disk, &options(4096)).unwrap();
        for index in 0..40 {
            log.append(vec![entry(1, index, 200)], log_common::ignored());
            if index % 3 == 0 {
                worker.run_once();
            }
        }
        disk.cut_power_after(1);
        worker.run_once();
        disk.crash();
        let names = store::fs::WalFs::list(&disk).unwrap();
        names
            .into_iter()
            .map(|name| (disk.contents(&name).unwrap(), name))
            .collect::<Vec<_>>()
    };
    assert_eq!(contents(7), contents(7));
}
