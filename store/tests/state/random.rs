//! Random commands with all options against the model, on both engines, with restarts, and crashes at any write.
//!
//! A second machine, which keeps no value in memory and gets its entries in other portions, must answer the same.
//! Each time the seeds are others. `SEED` replays one run on each engine; `COMMANDS` sets how many commands each engine
//! gets.

use std::sync::Arc;

use proto::etcd::etcdserverpb::RangeRequest;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::engine::StateEngine;
use store::engine::memory::MemoryEngine;
use store::{Entry, LogId, Machine, Options, Outcome, Refusal, StoreError, Sweep, View};

use crate::check::{check_all_revisions, check_changes, check_history, check_range, check_view};
use crate::commands::entry;
use crate::engines::{Bench, Memory};
use crate::faulty::{Death, Faulty};
use crate::generate::{command, range, seed};
use crate::model::Model;

type Answers = Vec<Result<store::Answer, Refusal>>;

/// Commands of one run: all states are kept, and at its end all of them are compared.
const RUN: usize = 2_500;
/// Questions asked of each new state.
const QUESTIONS: usize = 12;
/// Questions remembered with the revision at which they were asked first.
const REMEMBERED: usize = 16;

/// All in memory, nothing in memory, and two budgets that are always overrun.
const BUDGETS: [usize; 4] = [1 << 20, 0, 1500, 400];

struct Run<'a> {
    bench: &'a mut dyn Bench,
    random: StdRng,
    options: Options,
    /// None while it is down.
    up: Option<(Machine, Arc<Faulty>)>,
    /// Holds no value in memory; at or behind the end of the log.
    shadow: Machine,
    model: Model,
    log: Vec<Entry>,
    answers: Vec<Answers>,
    commands: usize,
    /// Views that somebody still reads, each with the compacted revision it shows.
    held: Vec<(Arc<View>, i64)>,
    /// Questions of the past, each with its revision.
    remembered: Vec<RangeRequest>,
    crashes: usize,
}

fn open(bench: &dyn Bench, options: &Options) -> (Machine, Arc<Faulty>) {
    let engine = Faulty::new(bench.engine());
    let machine = Machine::open(engine.clone(), options.clone()).unwrap();
    (machine, engine)
}

fn death(random: &mut StdRng) -> Death {
    [Death::BeforeWrite, Death::AfterWrite][random.random_range(0..2)]
}

/// The index of the last entry applied.
fn applied(machine: &Machine) -> usize {
    machine.applied().map_or(0, |id| id.index as usize)
}

impl<'a> Run<'a> {
    fn new(bench: &'a mut dyn Bench, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let value_budget_bytes = BUDGETS[random.random_range(0..BUDGETS.len())];
        let options = Options { value_budget_bytes };
        let none = Options {
            value_budget_bytes: 0,
        };
        Self {
            up: Some(open(bench, &options)),
            shadow: Machine::open(Arc::new(MemoryEngine::new()), none).unwrap(),
            bench,
            random,
            options,
            model: Model::new(),
            log: Vec::new(),
            answers: Vec::new(),
            commands: 0,
            held: Vec::new(),
            remembered: Vec::new(),
            crashes: 0,
        }
    }

    fn machine(&mut self) -> &mut Machine {
        &mut self.up.as_mut().unwrap().0
    }

    /// Commands of one entry: mostly few, now and then as many as a busy proposer packs.
    fn entry(&mut self) {
        let most = [2, 6, 65][self.random.random_range(0..3)];
        let count = self.random.random_range(0..most);
        let mut ops = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..count {
            let op = command(&mut self.random, &self.model);
            expected.push(self.model.apply(&op));
            ops.push(op);
        }
        self.commands += count;
        self.answers.push(expected);
        self.log.push(entry(self.log.len() as u64 + 1, ops));
    }

    /// New entries, applied together; sometimes the engine dies of them.
    fn step(&mut self) {
        let from = self.log.len();
        for _ in 0..self.random.random_range(1..4) {
            self.entry();
        }
        // Applying again what was applied is nothing.
        let from = from.saturating_sub(2 * usize::from(self.random.random_bool(0.2)));
        let (machine, engine) = self.up.as_mut().unwrap();
        if self.random.random_bool(0.04) {
            engine.die_after(0, death(&mut self.random));
            let died = machine.apply(&self.log[from..]);
            assert!(matches!(died, Err(StoreError::Engine { .. })));
            let stopped = machine.apply(&self.log[from..]);
            assert!(matches!(stopped, Err(StoreError::Stopped)));
            assert!(matches!(machine.flush(), Err(StoreError::Stopped)));
            return self.crash();
        }
        let before = applied(machine);
        let outcome = machine.apply(&self.log[from..]).unwrap();
        check_outcome(&outcome, &self.answers[before..], &self.model);
        self.check();
        self.follow();
        if self.random.random_bool(0.1) {
            let view = self.machine().reader().view();
            self.held.push((view, self.model.compact_revision));
        }
    }

    fn check(&mut self) {
        let revision = self.model.revision();
        let mut questions: Vec<_> = (0..QUESTIONS)
            .map(|_| range(&mut self.random, revision))
            .collect();
        questions.extend(self.remembered.iter().cloned());
        let machine = &self.up.as_ref().unwrap().0;
        check_view(machine, &self.model, &questions);
        let reader = machine.reader();
        check_history(&reader, &reader.view(), &self.model, &mut self.random);
        if applied(&self.shadow) == self.log.len() {
            check_view(&self.shadow, &self.model, &questions);
            let reader = self.shadow.reader();
            check_history(&reader, &reader.view(), &self.model, &mut self.random);
        }
        // What is asked of the present now is asked of the past from now on.
        let place = self.random.random_range(0..REMEMBERED);
        let question = RangeRequest {
            revision,
            ..questions.swap_remove(0)
        };
        match self.remembered.get_mut(place) {
            Some(old) => *old = question,
            None => self.remembered.push(question),
        }
    }

    /// The second machine takes what it lacks, or a part of it.
    fn follow(&mut self) {
        while applied(&self.shadow) < self.log.len() && self.random.random_bool(0.8) {
            let from = applied(&self.shadow);
            let to = (from + self.random.random_range(1..5)).min(self.log.len());
            let outcome = self.shadow.apply(&self.log[from..to]).unwrap();
            check_outcome(&outcome, &self.answers[from..to], &self.model);
        }
    }

    /// The process dies: the state is that of a flush, and the log replays the rest, in portions of any size.
    fn crash(&mut self) {
        self.crashes += 1;
        let durable = self.machine().durable().unwrap();
        self.held.clear();
        self.up = None;
        self.bench.crash();
        self.up = Some(open(self.bench, &self.options));
        assert_eq!(
            self.machine().applied(),
            durable.as_ref().map(|name| name.applied)
        );
        let revision = self.machine().reader().view().revision;
        assert_eq!(revision, durable.map_or(1, |name| name.revision));
        let mut from = applied(self.machine());
        while from < self.log.len() {
            let most = [3, 50, usize::MAX][self.random.random_range(0..3)];
            let to = (from
                + self
                    .random
                    .random_range(1..=most.min(self.log.len() - from)))
            .min(self.log.len());
            let (machine, _) = self.up.as_mut().unwrap();
            let outcome = machine.apply(&self.log[from..to]).unwrap();
            check_outcome(&outcome, &self.answers[from..to], &self.model);
            from = to;
            if self.random.random_bool(0.05) {
                self.machine().flush().unwrap();
            }
        }
        self.check();
    }

    /// What may come between two batches.
    fn between(&mut self) {
        match self.random.random_range(0..40) {
            0 => {
                let name = self.machine().flush().unwrap().unwrap();
                assert_eq!(Some(name.applied), self.machine().applied());
                assert_eq!(name.revision, self.model.revision());
            }
            // The engine flushes when it likes, too.
            1 | 2 => self.up.as_ref().unwrap().1.flush().unwrap(),
            3 => {
                self.held.clear();
                self.up = None;
                self.bench.restart();
                self.up = Some(open(self.bench, &self.options));
                let end = self.log.len();
                assert_eq!(applied(self.machine()), end);
                self.check();
            }
            4 => self.crash(),
            9..15 => {
                let mut sweep = Sweep::new(self.machine().reader());
                sweep.raise_horizon().unwrap();
                let (_, engine) = self.up.as_ref().unwrap();
                if self.random.random_bool(0.1) {
                    engine.die_after(self.random.random_range(0..2), death(&mut self.random));
                }
                // Often not to its end.
                for _ in 0..self.random.random_range(0..4) {
                    let swept = sweep.step(self.random.random_range(1..20));
                    if engine.is_dead() {
                        assert!(matches!(swept, Err(StoreError::Engine { .. })));
                        drop(sweep);
                        return self.crash();
                    }
                    swept.unwrap();
                }
                engine.live_on();
                self.check();
            }
            15..18 => {
                self.bench.rewrite(&mut self.random);
                self.check();
            }
            18 => {
                self.check_held();
                self.held.clear();
            }
            5..9 => {
                let items = self.random.random_range(1..30);
                self.machine().warm(items).unwrap();
                self.check();
            }
            _ => {}
        }
    }

    fn end(mut self) {
        self.random = StdRng::seed_from_u64(0);
        while applied(&self.shadow) < self.log.len() {
            self.follow();
        }
        let machine = &self.up.as_ref().unwrap().0;
        check_all_revisions(machine, &self.model);
        check_all_revisions(&self.shadow, &self.model);
        self.check_held();
    }

    /// A held view still shows its revision.
    fn check_held(&self) {
        let machine = &self.up.as_ref().unwrap().0;
        for (view, compacted) in &self.held {
            let mut model = self.model.clone();
            model.states.truncate(view.revision as usize);
            model.compact_revision = *compacted;
            let request = RangeRequest {
                key: "\0".into(),
                range_end: "\0".into(),
                ..Default::default()
            };
            check_range(&machine.reader(), view, &model, &request);
        }
    }
}

fn check_outcome(outcome: &Outcome, expected: &[Answers], model: &Model) {
    let expected: Vec<_> = expected.iter().flatten().collect();
    assert_eq!(outcome.answers.len(), expected.len());
    for (found, expected) in outcome.answers.iter().zip(expected) {
        assert_eq!(&found.outcome, expected);
    }
    for set in &outcome.changes {
        check_changes(set, &model.changes[set.revision as usize - 1], -1);
    }
    let first = outcome.changes.first().map_or(0, |set| set.revision);
    let revisions = outcome.changes.iter().map(|set| set.revision);
    assert!(revisions.eq(first..first + outcome.changes.len() as i64));
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs until there were `commands` commands.
fn run(commands: usize, mut new_bench: impl FnMut() -> Box<dyn Bench>) {
    let commands = from_env("COMMANDS").map_or(commands, |commands| commands as usize);
    let (mut done, mut crashes, mut revisions) = (0, 0, 0);
    for seed in seed().. {
        // A failed run leaves its seed as the last one.
        eprintln!("SEED={seed}");
        let mut bench = new_bench();
        let mut run = Run::new(&mut *bench, seed);
        while run.commands < RUN {
            run.step();
            run.between();
        }
        done += run.commands;
        crashes += run.crashes;
        revisions += run.model.revision();
        run.end();
        if done >= commands || from_env("SEED").is_some() {
            break;
        }
    }
    eprintln!("{done} commands, {revisions} revisions, {crashes} crashes");
    assert!(crashes > 10 || from_env("SEED").is_some());
}

#[test]
fn the_memory_engine_follows_the_model() {
    run(80_000, || Box::new(Memory(Arc::new(MemoryEngine::new()))));
}

#[cfg(feature = "rocksdb")]
#[test]
fn the_rocksdb_engine_follows_the_model() {
    run(25_000, || Box::new(crate::engines::Rocks::new()));
}

#[test]
fn members_that_batch_differently_agree() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut model = Model::new();
    let log: Vec<Entry> = (1..200)
        .map(|index| {
            let ops: Vec<_> = (0..3).map(|_| command(&mut random, &model)).collect();
            ops.iter().for_each(|op| drop(model.apply(op)));
            entry(index, ops)
        })
        .collect();
    let run = |batch: usize, value_budget_bytes| {
        let engine = Arc::new(MemoryEngine::new());
        let mut machine = Machine::open(engine, Options { value_budget_bytes }).unwrap();
        let outcomes: Vec<_> = log
            .chunks(batch)
            .map(|entries| machine.apply(entries).unwrap())
            .collect();
        let answers: Vec<_> = outcomes
            .iter()
            .flat_map(|outcome| outcome.answers.clone())
            .collect();
        assert_eq!(
            machine.applied(),
            Some(LogId {
                term: 1,
                index: 199
            })
        );
        (answers, machine.reader().view().revision)
    };
    let expected = run(1, 1 << 20);
    for (batch, budget) in [(2, 0), (7, 1000), (199, 1 << 20)] {
        assert_eq!(run(batch, budget), expected);
    }
}
