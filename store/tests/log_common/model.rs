//! What the log should amount to, and random calls that both the log and its model take.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;
use store::log::{Log, LogError, Worker};
use store::{Entry, LogId, Vote};

use super::{Results, all, entry, id};

/// What the log should amount to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) entries: BTreeMap<u64, Entry>,
    pub(crate) last: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) vote: Option<Vote>,
}

/// The smallest thing that can be lost or kept.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Entry(Entry),
    Vote(Vote),
    Truncate(Option<LogId>),
    Purge(LogId),
    Nothing,
}

impl Model {
    pub(crate) fn apply(&mut self, step: &Step) {
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

    pub(crate) fn read(log: &Log) -> Result<Self, LogError> {
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

    pub(crate) fn next(&self) -> u64 {
        self.last.map_or(0, |last| last.index + 1)
    }

    /// Ids to which the log may be cut: any entry, or what lies before the first.
    pub(crate) fn cut(&self, random: &mut StdRng) -> Option<LogId> {
        let nth = random.random_range(0..=self.entries.len());
        self.entries
            .values()
            .nth(nth)
            .map(|entry| entry.id)
            .or(self.purged)
    }
}

/// One life of the log: random calls until the power goes. Returns the steps and how many were acknowledged.
pub(crate) fn live(
    log: &Log,
    worker: &mut Worker,
    model: &mut Model,
    random: &mut StdRng,
) -> (Vec<Step>, usize) {
    let results = Results::default();
    let mut steps: Vec<Step> = Vec::new();
    let mut term = model.last.map_or(1, |last| last.term);
    // The last entry that was left to who waits for it.
    let mut left = None;
    for _ in 0..random.random_range(1..60) {
        let from = steps.len();
        match random.random_range(0..23) {
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
                let (index, number) = (model.next(), steps.len());
                match log.append_left(new, results.done(number)) {
                    Ok(()) => left = Some(index),
                    Err(new) => log.append(new, results.done(number)),
                }
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
                left = None;
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
            15..18 => {
                if let Some(index) = left.take() {
                    let is_failed = log.make_durable(index).is_err();
                    assert_eq!(is_failed, log.failure().is_some());
                    assert!(is_failed || log.synced_index() >= Some(index));
                }
            }
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
