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
//! - the watcher of each member sees each revision once, whole, and in order, through all lives of the member.
//!
//! And in the end: every member serves and takes a write within some seconds; what was acknowledged is there, once;
//! what had no answer happened once or not at all; all members hold the same.
//!
//! A run is a function of its [`Plan`]: [`run`] with an equal plan ends with an equal [`Report`], trace included.
//! `jepsen/tests/many_nodes.rs` says how it is run.

mod checks;
mod faults;
mod watcher;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use openraft_rt::AsyncRuntime;
use parking_lot::Mutex;
use rand::{Rng, RngExt};
use server::node::Node;
use server::peer::Inbound;
use store::Reader;
use store::engine::memory::MemoryEngine;
use store::fs::SimFs;
use store::log::Log;

use self::checks::{Checks, Seen};
use self::faults::{Death, Fault, Way};
use crate::ledger::{Counts, Operation, Violation};
use crate::sim::network::{Network, Weather};
use crate::sim::{Group, SimInstant, SimRng, Simulation, Step, Trace};
use crate::sim_node::clients::{self, Client, Shared};
use crate::sim_node::machinery::{self, Syncs, Tasks, VirtualClock};
use crate::sim_node::{self, Boot, ELECTION};

/// A link breaks after so much silence: as the server has it.
const KEEP_ALIVE: Duration = ELECTION;
/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(8);
/// After that, every member must have taken a write within this time.
const RECOVERY: Duration = Duration::from_secs(5);
/// And be quiet within this time.
const QUIET: Duration = Duration::from_secs(15);
/// A stop hands leadership over first, and then must end.
const STOP: Duration = Duration::from_secs(10);
/// A power cut that finds nothing to cut comes anyway.
const CUT_LATEST: Duration = Duration::from_millis(500);

/// What a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Everything random follows from it.
    pub seed: u64,
    /// Says on stderr what happens when.
    pub is_told: bool,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was scheduled, folded.
    pub trace: Trace,
    /// What clients did.
    pub counts: Counts,
    /// What the machinery went through, to see that the run was not idle.
    pub coverage: Coverage,
    /// How long it took until every member had taken a write again.
    pub recovery: Duration,
}

/// How often something worth testing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Power failures between two steps.
    pub power_losses: u64,
    /// Power failures in the middle of a step.
    pub power_cuts: u64,
    /// Processes killed.
    pub kills: u64,
    /// All members down at once.
    pub blackouts: u64,
    /// Members that stopped because of a failed sync.
    pub failed_syncs: u64,
    /// Clean stops.
    pub stops: u64,
    /// Crashes while the member was starting.
    pub unfinished_starts: u64,
    /// Starts that cut a torn tail off the log.
    pub torn_tails: u64,
    /// Members that paused.
    pub pauses: u64,
    /// Times in which a disk was slow.
    pub slow_disks: u64,
    /// Partitions, flapping ones counted once.
    pub partitions: u64,
    /// Times in which the network was slow or lossy.
    pub storms: u64,
    /// Terms that had a leader.
    pub terms: u64,
    /// Different states that were compared.
    pub states: u64,
}

impl Coverage {
    /// The figures with their names.
    #[must_use]
    pub fn figures(&self) -> [(&'static str, u64); 14] {
        [
            ("power losses", self.power_losses),
            ("power cuts", self.power_cuts),
            ("kills", self.kills),
            ("blackouts", self.blackouts),
            ("failed syncs", self.failed_syncs),
            ("stops", self.stops),
            ("unfinished starts", self.unfinished_starts),
            ("torn tails", self.torn_tails),
            ("pauses", self.pauses),
            ("slow disks", self.slow_disks),
            ("partitions", self.partitions),
            ("storms", self.storms),
            ("terms", self.terms),
            ("states", self.states),
        ]
    }
}

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
    /// How slow its disk is.
    slowness: Arc<AtomicU64>,
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
    checks: Checks,
    coverage: Coverage,
    events: BTreeMap<(SimInstant, u64), Event>,
    next_event: u64,
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
        slowness: Arc::default(),
        boots: 0,
        shown: Arc::new(AtomicI64::new(1)),
        watched: Arc::new(AtomicI64::new(1)),
        life: None,
    };
    let places = ids.iter().map(place).collect();
    let mut world = World {
        network: Network::new(simulation.rng(), KEEP_ALIVE),
        calm: 1 << rng.random_range(8..12),
        simulation,
        rng,
        places,
        ids,
        shared: Arc::default(),
        checks: Checks::default(),
        coverage: Coverage::default(),
        events: BTreeMap::new(),
        next_event: 0,
        next_group: 1,
        clients: Arc::default(),
        is_troubled: true,
        is_told: plan.is_told,
    };
    world.run()
}

fn violation<T>(text: String) -> Result<T, Violation> {
    Err(Violation(text))
}

impl World {
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
        let recovery = self.recover()?;
        self.quiet()?;
        self.compare()?;
        self.coverage.terms = self.checks.terms();
        self.coverage.states = self.checks.states();
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
        if steps.is_multiple_of(16) {
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

    /// Ends a life that has come to its end.
    fn look_after_end(&mut self, place: usize) -> Result<(), Violation> {
        let Place { disk, life, .. } = &self.places[place];
        let Some(life) = life else { return Ok(()) };
        if life
            .cut_at
            .is_some_and(|cut_at| disk.operations() >= cut_at)
        {
            self.coverage.power_cuts += 1;
            self.crash(place, Death::PowerLoss)?;
            self.start_later(place);
            return Ok(());
        }
        if life.stopped.as_ref().is_some_and(|stopped| *stopped.lock()) {
            self.coverage.stops += 1;
            self.crash(place, Death::Kill)?;
            self.start_later(place);
            return Ok(());
        }
        let Some(node) = &life.node else {
            return Ok(());
        };
        let failed = {
            let _entered = self.simulation.enter();
            node.failed().now_or_never()
        };
        match failed {
            Some(_) if life.has_bad_disk => {
                self.coverage.failed_syncs += 1;
                self.crash(place, Death::PowerLoss)?;
                self.start_later(place);
                Ok(())
            }
            Some(reason) => violation(format!("a member stopped by itself: {reason}")),
            None => Ok(()),
        }
    }

    fn start_later(&mut self, place: usize) {
        let delay = self.rng.random_range(0..2_000);
        self.at(Duration::from_millis(delay), Event::Start(place));
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
                self.places[place].slowness.store(0, Ordering::Relaxed);
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

    fn strike(&mut self, fault: Fault) -> Result<(), Violation> {
        self.tell(&format!("{fault:?}"), 0);
        let now = self.simulation.now();
        match fault {
            Fault::Crash {
                places,
                death,
                downs,
            } => {
                let is_all = places.len() == self.places.len();
                self.coverage.blackouts += u64::from(is_all);
                for (place, down) in places.into_iter().zip(downs) {
                    if self.places[place].life.is_none() {
                        continue;
                    }
                    match death {
                        Death::PowerLoss => self.coverage.power_losses += 1,
                        Death::Kill => self.coverage.kills += 1,
                    }
                    self.crash(place, death)?;
                    self.at(down, Event::Start(place));
                }
            }
            Fault::PowerCut { place, operations } => {
                let Place { disk, life, .. } = &mut self.places[place];
                if let Some(life) = life
                    && life.cut_at.is_none()
                {
                    disk.cut_power_after(operations);
                    life.cut_at = Some(disk.operations() + operations);
                    life.has_bad_disk = true;
                    let group = life.group;
                    self.at(CUT_LATEST, Event::PowerCut(place, group));
                }
            }
            Fault::FailedSync { place, syncs } => {
                let Place { disk, life, .. } = &mut self.places[place];
                if let Some(life) = life {
                    disk.fail_sync_after(syncs);
                    life.has_bad_disk = true;
                }
            }
            Fault::Stop { place } => self.stop(place),
            Fault::Pause { place, time } => {
                let Place { id, life, .. } = &mut self.places[place];
                if let Some(life) = life
                    && !life.is_paused
                    && life.stopped.is_none()
                {
                    self.coverage.pauses += 1;
                    life.is_paused = true;
                    let group = life.group;
                    self.network.pause(*id, now);
                    self.simulation.pause(group);
                    self.at(time, Event::Resume(place, group));
                }
            }
            Fault::SlowDisk {
                place,
                slowness,
                time,
            } => {
                self.coverage.slow_disks += 1;
                let place_slowness = &self.places[place].slowness;
                place_slowness.store(slowness, Ordering::Relaxed);
                self.at(time, Event::FastDisk(place));
            }
            Fault::Cut { ways, time } => {
                self.coverage.partitions += 1;
                self.cut(&ways);
                self.at(time, Event::Heal(ways));
            }
            Fault::Flap { ways, half, times } => {
                self.coverage.partitions += 1;
                self.flap(ways, half, false, times * 2);
            }
            Fault::Storm {
                ways,
                weather,
                time,
            } => {
                self.coverage.storms += 1;
                for &(from, to) in &ways {
                    self.network.set_weather(from, to, weather.clone());
                }
                self.at(time, Event::Calm(ways));
            }
            Fault::Standstill { time } => self.simulation.advance(time),
            Fault::ClockSet { place, ahead } => {
                self.places[place].ahead.store(ahead, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn cut(&self, ways: &[Way]) {
        for &(from, to) in ways {
            self.network.cut(from, to, self.simulation.now());
        }
    }

    fn flap(&mut self, ways: Vec<Way>, half: Duration, is_cut: bool, left: u32) {
        if is_cut {
            for &(from, to) in &ways {
                self.network.heal(from, to);
            }
        }
        if left == 0 || !self.is_troubled {
            return;
        }
        if !is_cut {
            self.cut(&ways);
        }
        let next = Event::Flap {
            ways,
            half,
            is_cut: !is_cut,
            left: left - 1,
        };
        self.at(half, next);
    }

    fn resume(&mut self, place: usize, group: Group) {
        let Place { id, life, .. } = &mut self.places[place];
        if let Some(life) = life
            && life.group == group
            && life.is_paused
        {
            life.is_paused = false;
            self.network.resume(*id);
            self.simulation.resume(group);
            self.tell("goes on", self.places[place].id);
        }
    }

    /// SIGTERM: it hands over and stops, while its clients go on.
    fn stop(&mut self, place: usize) {
        let Some(life) = &mut self.places[place].life else {
            return;
        };
        let Some(node) = life.node.clone() else {
            return;
        };
        if life.is_paused || life.stopped.is_some() {
            return;
        }
        let stopped = Arc::new(Mutex::new(false));
        life.stopped = Some(Arc::clone(&stopped));
        let group = life.group;
        drop(self.simulation.spawn_in(group, async move {
            node.shutdown().await;
            *stopped.lock() = true;
        }));
        self.at(STOP, Event::StopLate(place, group));
    }

    /// Starts a member's next life, unless it lives.
    fn start(&mut self, place: usize) {
        let group = Group(self.next_group);
        let known = self.shared.ledger.lock().known();
        let compacted = *self.shared.compacted.lock();
        if self.places[place].life.is_some() {
            return;
        }
        self.next_group += 1;
        self.tell("start", self.places[place].id);
        let place = &mut self.places[place];
        place.boots += 1;
        let boot = Arc::new(Mutex::new(Boot::default()));
        let inbound: Arc<Inbound> = Arc::default();
        let (log_options, store_options, mut settings) =
            sim_node::sizes(&mut self.rng, place.id, place.boots);
        // Who is behind a purged log needs a snapshot.
        settings.keep_log_bytes = u64::MAX;
        let parts = sim_node::Parts {
            member: place.id,
            voters: self.ids.iter().copied().collect::<BTreeSet<u64>>(),
            disk: machinery::disk(place.disk.clone(), None, &Arc::<Syncs>::default()),
            engine: Arc::clone(&place.engine),
            log_options,
            store_options,
            settings,
            transport: self.network.transport(place.id),
            inbound: Arc::clone(&inbound),
            clock: VirtualClock {
                ahead: Arc::clone(&place.ahead),
            },
            exec: Tasks {
                slowness: Arc::clone(&place.slowness),
            },
        };
        place.life = Some(Life {
            group,
            boot: Arc::clone(&boot),
            inside: None,
            node: None,
            seen: Seen::default(),
            floor: (known, compacted),
            cut_at: None,
            has_bad_disk: false,
            is_paused: false,
            stopped: None,
        });
        self.network.up(place.id, group, inbound);
        drop(self.simulation.spawn_in(group, async move {
            let result = sim_node::start(parts, &boot).await;
            boot.lock().result = Some(result);
        }));
    }

    /// A member serves: it shows all that was known when it started, and its clients begin.
    fn serves(&mut self, place: usize, node: Node) -> Result<(), Violation> {
        self.tell("serves", self.places[place].id);
        let entered = self.simulation.enter();
        let Place {
            id,
            shown,
            watched,
            engine,
            life: Some(life),
            ..
        } = &mut self.places[place]
        else {
            return Ok(());
        };
        let view = node.reader().view();
        self.simulation.note("serves", view.revision.unsigned_abs());
        let (revision, compacted) = life.floor;
        if view.revision < revision || view.compact_revision.max(0) < compacted {
            return violation(format!(
                "member {id:x} serves at revision {} and compaction {}, but {revision} and {compacted} were known \
                 before it started",
                view.revision, view.compact_revision
            ));
        }
        if let Some(recovered) = &life.boot.lock().recovered {
            self.coverage.torn_tails += u64::from(recovered.cut.is_some());
        }
        let group = life.group;
        life.node = Some(node.clone());
        for _ in 0..if self.ids.len() > 3 { 2 } else { 3 } {
            let client = Client {
                node: node.clone(),
                shared: Arc::clone(&self.shared),
                shown: Arc::clone(shown),
                timeout: Duration::from_millis(1 << self.rng.random_range(7..13)),
                pause: 13..=18,
                is_patient: false,
            };
            let running = Running::new(&self.clients);
            drop(self.simulation.spawn_in(group, async move {
                client.run().await;
                drop(running);
            }));
        }
        let watching = watcher::watch(node.clone(), Arc::clone(&self.shared), Arc::clone(watched));
        drop(self.simulation.spawn_in(group, watching));
        let often = Duration::from_millis(1 << self.rng.random_range(6..14));
        let compactor = clients::compactor(node.clone(), Arc::clone(&self.shared), often);
        drop(self.simulation.spawn_in(group, compactor));
        drop(self.simulation.spawn_in(group, clients::flusher(node)));
        let rewriter = clients::rewriter(Arc::clone(engine));
        drop(self.simulation.spawn_in(group, rewriter));
        drop(entered);
        Ok(())
    }

    /// Ends a life at once, after a last look at what was visible.
    fn crash(&mut self, place: usize, death: Death) -> Result<(), Violation> {
        let now = self.simulation.now();
        let seed = self.rng.next_u64();
        self.tell(&format!("{death:?}"), self.places[place].id);
        let place = &mut self.places[place];
        let Some(life) = place.life.take() else {
            return Ok(());
        };
        if let Some((_, reader)) = &life.inside {
            let _entered = self.simulation.enter();
            clients::observe(reader, &self.shared)?;
        }
        self.coverage.unfinished_starts += u64::from(life.node.is_none());
        self.network.down(place.id, death == Death::PowerLoss, now);
        // The disk goes first: destructors of the node must not reach it.
        let survivor = (death == Death::Kill).then(|| place.disk.fork(seed));
        place.disk.crash();
        if let Some(survivor) = survivor {
            place.disk = survivor;
        }
        self.simulation.kill(life.group);
        {
            let _entered = self.simulation.enter();
            drop(life);
        }
        place.engine.crash();
        Ok(())
    }

    /// Ends all trouble.
    fn heal(&mut self) -> Result<(), Violation> {
        self.tell("calm", 0);
        self.is_troubled = false;
        for event in std::mem::take(&mut self.events).into_values() {
            match event {
                Event::Heal(_)
                | Event::Calm(_)
                | Event::FastDisk(_)
                | Event::Resume(..)
                | Event::Flap { .. } => {
                    self.happen(event)?;
                }
                // Those that would stop or lose their power are crashed below.
                Event::Trouble | Event::Start(_) | Event::PowerCut(..) | Event::StopLate(..) => {}
            }
        }
        for place in 0..self.places.len() {
            let life = self.places[place].life.as_ref();
            if life.is_some_and(|life| life.has_bad_disk || life.stopped.is_some()) {
                self.crash(place, Death::PowerLoss)?;
            }
            self.start(place);
        }
        Ok(())
    }

    /// Every member serves and takes a write.
    fn recover(&mut self) -> Result<Duration, Violation> {
        let since = self.simulation.now();
        let mut asked = BTreeSet::new();
        let written = Arc::new(AtomicUsize::new(0));
        while written.load(Ordering::Relaxed) < self.places.len() {
            self.step()?;
            for (nth, place) in self.places.iter().enumerate() {
                let Some(Life {
                    node: Some(node),
                    group,
                    ..
                }) = &place.life
                else {
                    continue;
                };
                if !asked.insert(nth) {
                    continue;
                }
                let client = Client {
                    node: node.clone(),
                    shared: Arc::clone(&self.shared),
                    shown: Arc::clone(&place.shown),
                    timeout: Duration::from_secs(1),
                    pause: 0..=0,
                    is_patient: true,
                };
                let written = Arc::clone(&written);
                drop(self.simulation.spawn_in(*group, async move {
                    for attempt in 0_u64.. {
                        let put = Operation::Put {
                            key: Bytes::from_static(b"key/probe"),
                            value: format!("probe {nth} {attempt}").into(),
                        };
                        if client.call(put, false).await == Some(true) {
                            break;
                        }
                        Simulation::sleep(Duration::from_millis(10)).await;
                    }
                    written.fetch_add(1, Ordering::Relaxed);
                }));
            }
            if self.simulation.now() > since + RECOVERY {
                let lives = self.places.iter().map(|place| place.life.as_ref());
                let serving = lives.map(|life| life.is_some_and(|life| life.node.is_some()));
                let text = format!(
                    "{RECOVERY:?} after everything was healed {} members of {} have taken a write; serving: {:?}",
                    written.load(Ordering::Relaxed),
                    self.places.len(),
                    serving.collect::<Vec<_>>()
                );
                return violation(text);
            }
        }
        Ok(self.simulation.now() - since)
    }

    /// Clients end, and all members and watchers get as far as the farthest.
    fn quiet(&mut self) -> Result<(), Violation> {
        *self.shared.is_over.lock() = true;
        let since = self.simulation.now();
        loop {
            for _ in 0..64 {
                self.step()?;
            }
            let running = self.clients.load(Ordering::Relaxed);
            let known = self.shared.ledger.lock().known();
            let standing: Vec<(u64, i64, i64)> = self
                .places
                .iter()
                .filter_map(|place| {
                    let (_, reader) = place.life.as_ref()?.inside.as_ref()?;
                    let view = reader.view();
                    let applied = view.applied.map_or(0, |id| id.index);
                    let watched = place.watched.load(Ordering::Relaxed);
                    Some((applied, view.revision, watched))
                })
                .collect();
            let is_level = standing
                .iter()
                .all(|one| *one == standing[0] && one.1 == one.2 && one.1 >= known);
            if running == 0 && is_level {
                return Ok(());
            }
            if self.simulation.now() > since + QUIET {
                return violation(format!(
                    "{QUIET:?} after the last call began, {running} calls wait; (entry, revision, watched): {standing:?}, \
                     known: {known}"
                ));
            }
        }
    }

    /// All that is left is right, and the same everywhere.
    fn compare(&mut self) -> Result<(), Violation> {
        self.look()?;
        self.observe()?;
        self.look_at_states()?;
        self.tell("compare", 0);
        let _entered = self.simulation.enter();
        for place in &self.places {
            let inside = place.life.as_ref().and_then(|life| life.inside.as_ref());
            let Some((_, reader)) = inside else {
                return violation(format!("member {:x} is not there", place.id));
            };
            let oldest = reader.view().compact_revision.max(1);
            clients::observe_after(reader, &self.shared, oldest)?;
            clients::compare(reader, &self.shared, &mut self.rng)?;
        }
        Ok(())
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
