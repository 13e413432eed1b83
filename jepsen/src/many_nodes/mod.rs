//! A whole cluster in one thread under one seed: three to five members, each on a disk of its own, a network that
//! fails between them, and clients on every member.
//!
//! For some simulated seconds faults happen on top of each other: members lose their power or are
//! killed, one, some or all of them; their disks fail; they pause; the network is cut, slow, lossy. Then everything is
//! healed. Meanwhile, between steps (`checks`):
//!
//! - a term has one leader, and it has all that was committed in earlier terms;
//! - what is applied at an index is the same on all members, and equal entries make equal states;
//! - what is committed and what is applied does not go back;
//! - what a member told another to be on its disk is there when it starts again: votes and entries;
//! - a member stops by itself only if its disk failed, and no task of it panics;
//! - [`Ledger`](crate::ledger::Ledger): each revision is the whole effect of one write, in real-time order; reads that
//!   are linearizable see all that anybody knew when they began, the others never less than their member showed before;
//! - the watcher of each member sees each revision once, whole, and in order, through all lives of the member; so does
//!   one that wanders from member to member;
//! - a lease lives as long as anybody was told, and is not there again after anybody was told that it is over.
//!
//! Then, in half of the runs, a partition stays: while a majority reaches each other, somebody takes writes. And in the
//! end: every member serves and takes a write within some seconds; what was acknowledged is there, once;
//! what had no answer happened once or not at all; all members hold the same, and leases that nobody keeps alive are gone.
//!
//! `faults` chooses what goes wrong, `striking` does it, `lives` has the members' processes, `ending` the end.
//!
//! A run is a function of its [`Plan`]: [`run`] with an equal plan ends with an equal [`Report`], trace included.
//! `jepsen/tests/many_nodes.rs` says how it is run.

mod checks;
mod ending;
mod faults;
mod lives;
mod report;
mod striking;
mod tenants;
mod watcher;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng, RngExt};
use server::node::Node;
use store::Reader;
use store::engine::memory::MemoryEngine;
use store::fs::SimFs;
use store::log::Log;

use self::checks::{Checks, Seen};
use self::faults::{Death, Fault, Way};
pub use self::report::{Coverage, Plan, Report};
use crate::ledger::Violation;
use crate::sim::network::{Network, Weather};
use crate::sim::{Group, SimInstant, SimRng, Simulation, Step, Trace};
use crate::sim_node::clients::{self, Shared};
use crate::sim_node::machinery::Tasks;
use crate::sim_node::{Boot, ELECTION};

/// Clients of each member.
const CLIENTS: usize = 2;
/// A link breaks after so much silence: as the server has it.
const KEEP_ALIVE: Duration = ELECTION;
/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(6);
/// After that, every member must have taken a write within this time.
const RECOVERY: Duration = Duration::from_secs(5);
/// And be quiet within this time.
const QUIET: Duration = Duration::from_secs(15);
/// A stop hands leadership over first, and then must end.
const STOP: Duration = Duration::from_secs(10);
/// A power cut that finds nothing to cut comes anyway.
const CUT_LATEST: Duration = Duration::from_millis(500);

/// What happens at a time of its own.
#[derive(Clone, Debug)]
enum Event {
    Trouble,
    Start(usize),
    Resume(usize, Group),
    Heal(Vec<Way>),
    Flap {
        ways: Vec<Way>,
        half: Duration,
        is_cut: bool,
        left: u32,
    },
    Calm(Vec<Way>),
    FastDisk(usize),
    PowerCut(usize, Group),
    StopLate(usize, Group),
}

/// One member: what outlives its process, and the process if there is one.
struct Place {
    id: u64,
    disk: SimFs,
    engine: Arc<MemoryEngine>,
    /// How far its clock is ahead.
    ahead: Arc<AtomicU64>,
    /// Its workers, which know how slow its disk is.
    tasks: Tasks,
    boots: u64,
    /// The newest revision that it showed.
    shown: Arc<AtomicI64>,
    /// The last revision that its watcher saw.
    watched: Arc<AtomicI64>,
    life: Option<Life>,
}

struct Life {
    group: Group,
    boot: Arc<Mutex<Boot>>,
    inside: Option<(Log, Reader)>,
    node: Option<Node>,
    seen: Seen,
    /// What it must know when it serves: revision and compaction.
    floor: (i64, i64),
    /// The power goes with this operation on the disk.
    cut_at: Option<u64>,
    has_bad_disk: bool,
    is_paused: bool,
    /// Set when a stop has ended.
    stopped: Option<Arc<Mutex<bool>>>,
}

struct World {
    simulation: Simulation,
    rng: SimRng,
    network: Network,
    places: Vec<Place>,
    ids: Vec<u64>,
    shared: Arc<Shared>,
    wanderer: Arc<watcher::Wanderer>,
    leases: Arc<tenants::Leases>,
    checks: Checks,
    coverage: Coverage,
    events: BTreeMap<(SimInstant, u64), Event>,
    next_event: u64,
    /// Numbers what they write.
    probes: u64,
    next_group: u32,
    clients: Arc<AtomicUsize>,
    /// Things go wrong.
    is_troubled: bool,
    /// Longest time between two faults, in milliseconds.
    calm: u64,
    is_told: bool,
}

/// Runs a plan to its end, or to the first broken rule.
pub fn run(plan: Plan) -> Result<Report, Violation> {
    World::new(plan).run()
}

/// Nothing fails, but every message between members takes about `delay`, for `time`: nobody stands for election.
pub fn run_slow(plan: Plan, delay: Duration, time: Duration) -> Result<Report, Violation> {
    World::new(plan).run_slow(delay, time)
}

fn violation<T>(text: String) -> Result<T, Violation> {
    Err(Violation(text))
}

impl World {
    fn new(plan: Plan) -> World {
        let simulation = Simulation::with_seed(plan.seed);
        let mut rng = simulation.rng();
        let count = match rng.random_range(0..100) {
            0..65 => 3,
            65..75 => 4,
            _ => 5,
        };
        let ids: Vec<u64> = (0..count).map(|nth| 0xa1 + nth).collect();
        let place = |&id: &u64| Place {
            id,
            disk: SimFs::new(rng.next_u64()),
            engine: Arc::new(MemoryEngine::new()),
            ahead: Arc::default(),
            tasks: Tasks::default(),
            boots: 0,
            shown: Arc::new(AtomicI64::new(1)),
            watched: Arc::new(AtomicI64::new(1)),
            life: None,
        };
        let places = ids.iter().map(place).collect();
        World {
            network: Network::new(simulation.rng(), KEEP_ALIVE),
            calm: 1 << rng.random_range(8..12),
            simulation,
            rng,
            places,
            ids,
            shared: Arc::default(),
            wanderer: Arc::new(watcher::Wanderer::new()),
            leases: Arc::default(),
            checks: Checks::default(),
            coverage: Coverage::default(),
            events: BTreeMap::new(),
            next_event: 0,
            probes: 0,
            next_group: 1,
            clients: Arc::default(),
            is_troubled: true,
            is_told: plan.is_told,
        }
    }

    fn run(&mut self) -> Result<Report, Violation> {
        for place in 0..self.places.len() {
            let delay = self.rng.random_range(0..300);
            self.at(Duration::from_millis(delay), Event::Start(place));
        }
        let first = self.rng.random_range(0..3_000);
        self.at(Duration::from_millis(first), Event::Trouble);
        let end = self.simulation.now() + TROUBLE;
        while self.simulation.now() < end {
            self.step()?;
        }
        self.heal()?;
        let mut recovery = self.recover()?;
        if self.rng.random_bool(0.5) {
            self.endure()?;
            recovery = recovery.max(self.recover()?);
        }
        self.end(recovery)
    }

    fn run_slow(&mut self, delay: Duration, time: Duration) -> Result<Report, Violation> {
        self.heal()?;
        let recovery = self.recover()?;
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        for &from in &self.ids {
            for &to in self.ids.iter().filter(|&&to| to != from) {
                let weather = Weather {
                    delay: micros * 9 / 10..micros * 11 / 10,
                    ..Weather::default()
                };
                self.network.set_weather(from, to, weather);
            }
        }
        let (terms, since) = (self.checks.terms(), self.simulation.now());
        while self.simulation.now() < since + time {
            self.step()?;
            if self.checks.terms() != terms {
                return violation(format!(
                    "an election after {:?} of {delay:?} delay, though nothing failed",
                    self.simulation.now() - since
                ));
            }
        }
        self.end(recovery)
    }

    /// Lets everything end, and looks at what is left.
    fn end(&mut self, recovery: Duration) -> Result<Report, Violation> {
        self.quiet()?;
        self.compare()?;
        self.coverage.terms = self.checks.terms();
        self.coverage.states = self.checks.states();
        self.coverage.leases_kept = self.leases.kept.load(Ordering::Relaxed);
        self.coverage.leases_over = self.leases.over.load(Ordering::Relaxed);
        Ok(Report {
            trace: self.simulation.trace(),
            counts: self.shared.ledger.lock().counts(),
            coverage: self.coverage,
            recovery,
        })
    }

    /// Folds an event into the trace, and shows it to who replays a run.
    fn tell(&self, name: &str, value: u64) {
        self.simulation.note(name, value);
        if self.is_told {
            let Trace { steps, elapsed, .. } = self.simulation.trace();
            eprintln!(
                "{:>10.6} {steps:>8} {name} {value:x}",
                elapsed.as_secs_f64()
            );
        }
    }

    fn at(&mut self, delay: Duration, event: Event) {
        self.next_event += 1;
        let key = (self.simulation.now() + delay, self.next_event);
        self.events.insert(key, event);
    }

    /// One step of the world, and what is due after it.
    fn step(&mut self) -> Result<(), Violation> {
        if self.simulation.step() == Step::Quiet {
            // All are down.
            let Some((&(at, _), _)) = self.events.first_key_value() else {
                return violation("nothing happens any more".to_owned());
            };
            self.simulation.advance(at - self.simulation.now());
        }
        if let Some(violation) = self.shared.violation.lock().take() {
            return Err(violation);
        }
        if let Some(panicked) = self.simulation.take_panics().into_iter().next() {
            return violation(format!("a task of a member panicked: {}", panicked.message));
        }
        while let Some(entry) = self.events.first_entry()
            && entry.key().0 <= self.simulation.now()
        {
            let event = entry.remove();
            self.happen(event)?;
        }
        let steps = self.simulation.trace().steps;
        if steps.is_multiple_of(8) {
            self.look_after()?;
        }
        if steps.is_multiple_of(32) {
            self.look()?;
        }
        if steps.is_multiple_of(128) {
            self.observe()?;
        }
        if steps.is_multiple_of(2048) {
            self.look_at_states()?;
        }
        Ok(())
    }

    /// Notes what became of starts, stops and disks.
    fn look_after(&mut self) -> Result<(), Violation> {
        for place in 0..self.places.len() {
            let Place {
                id,
                life: Some(life),
                ..
            } = &mut self.places[place]
            else {
                continue;
            };
            let (result, inside) = {
                let mut boot = life.boot.lock();
                (boot.result.take(), boot.inside.take())
            };
            if let Some(inside) = inside {
                checks::look_at_promise(*id, self.network.promise(*id), &inside.0)?;
                life.inside = Some(inside);
            }
            match result {
                Some(Ok(node)) => self.serves(place, node)?,
                Some(Err(error)) if life.has_bad_disk && error.may_be_the_disk() => {
                    self.crash(place, Death::PowerLoss)?;
                    self.start_later(place);
                    continue;
                }
                Some(Err(error)) => {
                    return violation(format!("a member does not start: {error}"));
                }
                None => {}
            }
            self.look_after_end(place)?;
        }
        Ok(())
    }

    /// The rules that hold at every moment.
    fn look(&mut self) -> Result<(), Violation> {
        for Place { id, life, .. } in &mut self.places {
            if let Some(Life {
                inside: Some((log, reader)),
                seen,
                ..
            }) = life
            {
                self.checks.look(*id, (log, reader), seen)?;
            }
        }
        Ok(())
    }

    /// Shows the ledger what became visible anywhere, and looks at leaders.
    fn observe(&mut self) -> Result<(), Violation> {
        let _entered = self.simulation.enter();
        for Place { id, life, .. } in &self.places {
            let Some(Life {
                inside: Some((log, reader)),
                node: Some(node),
                ..
            }) = life
            else {
                continue;
            };
            clients::observe(reader, &self.shared)?;
            let status = node.status();
            if status.is_leader {
                self.checks.look_at_leader(*id, status.term, log)?;
            }
        }
        Ok(())
    }

    fn look_at_states(&mut self) -> Result<(), Violation> {
        for Place { id, life, .. } in &self.places {
            if let Some(Life {
                inside: Some((_, reader)),
                ..
            }) = life
            {
                self.checks.look_at_state(*id, reader)?;
            }
        }
        Ok(())
    }

    /// The place of the member that leads, if one says so.
    fn leader(&self) -> Option<usize> {
        let _entered = self.simulation.enter();
        let leading = |place: &Place| {
            let node = place.life.as_ref()?.node.as_ref()?;
            let status = node.status();
            status.is_leader.then_some(status.term)
        };
        let terms = self.places.iter().map(leading);
        let newest = terms.enumerate().max_by_key(|(_, term)| *term)?;
        newest.1.map(|_| newest.0)
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Trouble if !self.is_troubled => {}
            Event::Trouble => {
                let leader = self.leader();
                let fault = Fault::draw(&mut self.rng, &self.ids, leader);
                self.strike(fault)?;
                let pause = self.rng.random_range(0..self.calm);
                self.at(Duration::from_millis(pause), Event::Trouble);
            }
            Event::Start(place) => self.start(place),
            Event::Resume(place, group) => self.resume(place, group),
            Event::Heal(ways) => {
                self.tell(&format!("heal {ways:?}"), 0);
                for (from, to) in ways {
                    self.network.heal(from, to);
                }
            }
            Event::Flap {
                ways,
                half,
                is_cut,
                left,
            } => self.flap(ways, half, is_cut, left),
            Event::Calm(ways) => {
                for (from, to) in ways {
                    self.network.set_weather(from, to, Weather::default());
                }
            }
            Event::FastDisk(place) => {
                self.places[place].tasks.slow_down(0, 0);
            }
            Event::PowerCut(place, group) => {
                if self.is_life(place, group) {
                    self.coverage.power_losses += 1;
                    self.crash(place, Death::PowerLoss)?;
                    self.start_later(place);
                }
            }
            Event::StopLate(place, group) => {
                if self.is_life(place, group) {
                    return violation("a stop does not end".to_owned());
                }
            }
        }
        Ok(())
    }

    fn is_life(&self, place: usize, group: Group) -> bool {
        let life = self.places[place].life.as_ref();
        life.is_some_and(|life| life.group == group)
    }
}

/// Counts a client for as long as it lives.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Running {
        count.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
