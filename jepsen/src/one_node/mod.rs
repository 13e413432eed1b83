//! One whole node in one thread under one seed: raft, log, apply, hub and clients, and crashes at any step.
//!
//! The disk below the raft log loses a random subset of what was not synced; the engine goes back to its last
//! flush; the node starts again on what is left. [`Ledger`](crate::ledger::Ledger) checks what every client was
//! told, across all lives, against the history that the node shows after each restart. Beyond its rules:
//!
//! - a node without a fault in its disk starts, and no task of it panics;
//! - what was visible is on disk: all of it is there again after the crash;
//! - the state on disk is never ahead of the log on disk;
//! - a node whose log could not be synced stops, by itself;
//! - the log of a node that serves does not grow for ever: what is applied is flushed, and what is flushed is purged;
//! - an acknowledged compaction stays done.
//!
//! A run is a function of its [`Plan`]: [`run`] with an equal plan ends with an equal [`Report`], trace included.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng, RngExt};
use server::node::Node;
use store::engine::memory::MemoryEngine;
use store::fs::SimFs;
use store::log::Log;
use store::{Machine, StateEngine, StoreError};

use crate::ledger::{Counts, Violation};
use crate::sim::{Group, SimInstant, SimRng, Simulation, Step, Trace};
use crate::sim_node::clients::{self, Shared};
pub use crate::sim_node::machinery::Mutant;
use crate::sim_node::machinery::{self, Syncs, Tasks, VirtualClock};
use crate::sim_node::{self, Boot, BootError, Settings};

const MEMBER: u64 = 0xa1;
/// Clients that call at the same time.
const CLIENTS: usize = 5;
/// Steps after which a life ends, whatever it waits for. Far more than any start or stop takes.
const PATIENCE_STEPS: u64 = 200_000;

/// In one life of so many apply takes its time, up to this much, as it may when the engine holds up writes.
const SLOW_APPLY: (u32, Duration) = (2, Duration::from_millis(300));
/// The log may be longer than it should be for so long: flushes and purges are asked for every tenth of a second, but
/// only for what is applied.
const TOO_LONG: Duration = Duration::from_secs(2);
/// More than clients write until apply has taken its time and what is asked for every tenth of a second was done.
const NOT_APPLIED: u64 = 16 << 10;
/// How often that is looked at, in steps.
const LOOK_EVERY: u64 = 64;

/// What a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Everything random follows from it.
    pub seed: u64,
    /// How often the node is crashed.
    pub crashes: u32,
    /// A promise of the disk that is broken.
    pub mutant: Option<Mutant>,
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
}

/// How often something worth testing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Crashes of any kind.
    pub crashes: u64,
    /// Power failures between two steps.
    pub power_losses: u64,
    /// Power failures in the middle of a worker's step, between two operations on the disk.
    pub power_cuts: u64,
    /// Processes killed while the machine stayed on.
    pub kills: u64,
    /// Nodes that stopped because of a failed sync.
    pub failed_syncs: u64,
    /// Clean stops.
    pub stops: u64,
    /// Crashes while the node was starting.
    pub unfinished_starts: u64,
    /// Starts that cut a torn tail off the log.
    pub torn_tails: u64,
    /// Starts that found a state older than the log, and applied the rest.
    pub replays: u64,
    /// Starts on a log of which something was purged.
    pub purged: u64,
    /// Starts on a state that was compacted.
    pub compacted: u64,
    /// Lives in which the log was longer than it should be for a while, until it was flushed and purged.
    pub log_cuts: u64,
}

impl Coverage {
    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Coverage) -> Coverage {
        Coverage {
            crashes: self.crashes + other.crashes,
            power_losses: self.power_losses + other.power_losses,
            power_cuts: self.power_cuts + other.power_cuts,
            kills: self.kills + other.kills,
            failed_syncs: self.failed_syncs + other.failed_syncs,
            stops: self.stops + other.stops,
            unfinished_starts: self.unfinished_starts + other.unfinished_starts,
            torn_tails: self.torn_tails + other.torn_tails,
            replays: self.replays + other.replays,
            purged: self.purged + other.purged,
            compacted: self.compacted + other.compacted,
            log_cuts: self.log_cuts + other.log_cuts,
        }
    }
}

/// How a life of the node ends.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The power fails between two steps.
    PowerLoss { steps: u64 },
    /// The power fails after so many operations on the disk, in the middle of a step.
    PowerCut { operations: u64, steps: u64 },
    /// The process is killed; what it wrote is in the page cache and stays.
    Kill { steps: u64 },
    /// A sync fails. What it should have made durable may be there or not. If a write waited for it the node
    /// stops; a segment made ahead is made again, and the life ends some steps later.
    FailedSync { syncs: u64, steps: u64 },
    /// SIGTERM.
    Stop { steps: u64 },
}

impl Fate {
    fn draw(rng: &mut SimRng) -> Fate {
        // From "at once" to "after some hundred milliseconds", each magnitude as likely as the next.
        let magnitude = rng.random_range(4..14);
        let steps = rng.random_range(0..1_u64 << magnitude);
        let magnitude = rng.random_range(1..8);
        let few = rng.random_range(0..1_u64 << magnitude);
        match rng.random_range(0..100) {
            0..35 => Fate::PowerLoss { steps },
            35..75 => Fate::PowerCut {
                operations: few,
                steps: rng.random_range(0..300),
            },
            75..85 => Fate::Kill { steps },
            85..93 => Fate::FailedSync {
                syncs: few,
                steps: rng.random_range(0..20_000),
            },
            _ => Fate::Stop { steps },
        }
    }
}

/// A fate that takes its course.
#[derive(Clone, Copy, Debug)]
struct Armed {
    /// Steps of the simulation when it began.
    steps: u64,
    /// Operations on the disk at which the power goes.
    cut_at: u64,
    /// Steps of the simulation when it was gone.
    cut_steps: Option<u64>,
}

/// Watches that the log of a life does not grow for ever.
struct Growth {
    log: Log,
    /// So many bytes there may always be.
    limit: u64,
    /// Since when there are more.
    since: Option<SimInstant>,
    cuts: u64,
}

impl Growth {
    fn new(log: Log, settings: Settings) -> Self {
        Self {
            log,
            // Less than twice of what is kept is not worth a purge; and some is not applied yet.
            limit: settings.flush_log_bytes + 2 * settings.keep_log_bytes + NOT_APPLIED,
            since: None,
            cuts: 0,
        }
    }

    fn look(&mut self, now: SimInstant) -> Result<(), Violation> {
        let before_first = self.log.range().start.saturating_sub(1);
        let bytes = self.log.bytes_since(before_first);
        if bytes <= self.limit {
            self.cuts += u64::from(self.since.take().is_some());
            return Ok(());
        }
        let since = *self.since.get_or_insert(now);
        if now.since_epoch() - since.since_epoch() > TOO_LONG {
            return Err(Violation(format!(
                "the log has {bytes} bytes where {} are enough, for {TOO_LONG:?}: it is not flushed and purged any more",
                self.limit
            )));
        }
        Ok(())
    }
}

struct World {
    simulation: Simulation,
    rng: SimRng,
    disk: SimFs,
    engine: Arc<MemoryEngine>,
    mutant: Option<Mutant>,
    syncs: Arc<Syncs>,
    shared: Arc<Shared>,
    coverage: Coverage,
    life: u32,
}

/// Runs a plan to its end, or to the first broken rule.
pub fn run(plan: Plan) -> Result<Report, Violation> {
    let simulation = Simulation::with_seed(plan.seed);
    let mut rng = simulation.rng();
    let mut world = World {
        disk: SimFs::new(rng.next_u64()),
        engine: Arc::new(MemoryEngine::new()),
        mutant: plan.mutant,
        syncs: Arc::default(),
        shared: Arc::default(),
        coverage: Coverage::default(),
        life: 0,
        simulation,
        rng,
    };
    for _ in 0..plan.crashes {
        let fate = Fate::draw(&mut world.rng);
        let is_early = world.rng.random_ratio(1, 5);
        world.live(fate, is_early)?;
    }
    // The last life ends without a fault, so that all that is owed is seen.
    world.live(Fate::Stop { steps: 2_000 }, false)?;
    let report = Report {
        trace: world.simulation.trace(),
        counts: world.shared.ledger.lock().counts(),
        coverage: world.coverage,
    };
    Ok(report)
}

impl World {
    /// One life of the node: start, load, end. An early end is counted from the start of the process, a late one
    /// from when the node serves.
    fn live(&mut self, fate: Fate, is_early: bool) -> Result<(), Violation> {
        self.life += 1;
        let group = Group(self.life);
        self.simulation.note("life", u64::from(self.life));
        let (boot, settings) = self.boot(group);
        let mut growth = None;
        let mut armed = is_early.then(|| self.arm(fate));
        let mut node = None;
        let started = self.simulation.trace().steps;
        loop {
            let result = boot.lock().result.take();
            match result {
                Some(Ok(booted)) => {
                    self.after_start(&booted, &boot.lock())?;
                    self.load(group, &booted);
                    growth = boot
                        .lock()
                        .inside
                        .take()
                        .map(|(log, _)| Growth::new(log, settings));
                    node = Some(booted);
                    armed = armed.or_else(|| Some(self.arm(fate)));
                }
                // The disk failed under it, as it was meant to.
                Some(Err(error))
                    if armed.is_some_and(|armed| self.is_excused(&error, fate, armed)) =>
                {
                    break;
                }
                Some(Err(error)) => {
                    return Err(Violation(format!("the node does not start: {error}")));
                }
                None => {}
            }
            if let Some(armed) = &mut armed
                && self.is_over(fate, armed, node.as_ref())
            {
                break;
            }
            if self.simulation.trace().steps > started + PATIENCE_STEPS {
                let text = format!("{fate:?} did not come; serving: {}", node.is_some());
                return Err(Violation(text));
            }
            if self.simulation.step() == Step::Quiet {
                let text = format!("nothing happens any more, waiting for {fate:?}");
                return Err(Violation(text));
            }
            self.check_tasks()?;
            let is_time = self.simulation.trace().steps.is_multiple_of(LOOK_EVERY);
            if let Some(growth) = growth.as_mut().filter(|_| is_time) {
                growth.look(self.simulation.now())?;
            }
        }
        self.coverage.log_cuts += growth.map_or(0, |growth| growth.cuts);
        self.end(group, fate, node)
    }

    /// Has the fate take its course.
    fn arm(&self, fate: Fate) -> Armed {
        let mut armed = Armed {
            steps: self.simulation.trace().steps,
            cut_at: u64::MAX,
            cut_steps: None,
        };
        match fate {
            Fate::PowerCut { operations, .. } => {
                self.disk.cut_power_after(operations);
                armed.cut_at = self.disk.operations() + operations;
            }
            Fate::FailedSync { syncs, .. } => self.disk.fail_sync_after(syncs),
            Fate::PowerLoss { .. } | Fate::Kill { .. } | Fate::Stop { .. } => {}
        }
        armed
    }

    /// Whether it is time for the end.
    fn is_over(&mut self, fate: Fate, armed: &mut Armed, node: Option<&Node>) -> bool {
        let steps = self.simulation.trace().steps;
        let passed = steps - armed.steps;
        match fate {
            Fate::PowerLoss { steps } | Fate::Kill { steps } => passed >= steps,
            Fate::Stop { steps } => passed >= steps && node.is_some(),
            Fate::PowerCut { steps: more, .. } => {
                if self.disk.operations() >= armed.cut_at {
                    armed.cut_steps.get_or_insert(steps);
                }
                armed.cut_steps.is_some_and(|since| steps - since >= more)
            }
            Fate::FailedSync { steps: limit, .. } => {
                let has_stopped = node.is_some_and(|node| self.has_stopped(node));
                self.coverage.failed_syncs += u64::from(has_stopped);
                let must_stop = self.syncs.has_failed.load(Ordering::Relaxed);
                has_stopped || (passed >= limit && !must_stop)
            }
        }
    }

    /// Starts a node as a task of the group.
    fn boot(&mut self, group: Group) -> (Arc<Mutex<Boot>>, Settings) {
        let boot = Arc::new(Mutex::new(Boot::default()));
        self.syncs.has_failed.store(false, Ordering::Relaxed);
        let (log_options, store_options, settings) =
            sim_node::sizes(&mut self.rng, MEMBER, u64::from(self.life));
        let exec = Tasks::default();
        if self.rng.random_ratio(1, SLOW_APPLY.0) {
            let longest = u64::try_from(SLOW_APPLY.1.as_millis()).unwrap_or(u64::MAX);
            exec.slow_down(0, longest);
        }
        let parts = sim_node::Parts {
            member: MEMBER,
            voters: [MEMBER].into(),
            disk: machinery::disk(self.disk.clone(), self.mutant, &self.syncs),
            engine: Arc::clone(&self.engine),
            log_options,
            store_options,
            settings,
            transport: Arc::new(server::peer::Alone),
            inbound: Arc::default(),
            clock: VirtualClock::default(),
            exec,
        };
        let handed = Arc::clone(&boot);
        let task = async move {
            let result = sim_node::start(parts, &handed).await;
            handed.lock().result = Some(result);
        };
        drop(self.simulation.spawn_in(group, task));
        (boot, settings)
    }

    /// Whether a failed start is what the fate wanted.
    fn is_excused(&self, error: &BootError, fate: Fate, armed: Armed) -> bool {
        let is_faulty = match fate {
            Fate::PowerCut { .. } => self.disk.operations() >= armed.cut_at,
            Fate::FailedSync { .. } => true,
            Fate::PowerLoss { .. } | Fate::Kill { .. } | Fate::Stop { .. } => false,
        };
        is_faulty && error.may_be_the_disk()
    }

    /// What the node shows when it has started agrees with all that was told before.
    fn after_start(&mut self, node: &Node, boot: &Boot) -> Result<(), Violation> {
        let _entered = self.simulation.enter();
        let view = node.reader().view();
        self.simulation
            .note("started", view.revision.unsigned_abs());
        if let Some(recovered) = &boot.recovered {
            let last = recovered.last.map_or(0, |id| id.index);
            self.coverage.torn_tails += u64::from(recovered.cut.is_some());
            self.coverage.purged += u64::from(recovered.last_purged.is_some());
            self.coverage.replays += u64::from(boot.flushed < last);
        }
        self.coverage.compacted += u64::from(view.compact_revision > 0);
        // The store says -1 when nothing was ever compacted.
        let now = view.compact_revision.max(0);
        let compacted = std::mem::replace(&mut *self.shared.compacted.lock(), now);
        if now < compacted {
            return Err(Violation(format!(
                "a compaction at {compacted} was acknowledged, but after a restart it is at {now}"
            )));
        }
        self.shared.ledger.lock().restarted(view.revision)?;
        let oldest = view.compact_revision.max(1);
        clients::observe_after(node.reader(), &self.shared, oldest)?;
        clients::compare(node.reader(), &self.shared, &mut self.rng)
    }

    fn load(&self, group: Group, node: &Node) {
        for _ in 0..CLIENTS {
            let client = clients::Client {
                node: node.clone(),
                shared: Arc::clone(&self.shared),
                shown: Arc::default(),
                // Longer than any life: an answer in time is part of what is checked.
                timeout: Duration::from_secs(3600),
                pause: 0..=13,
                is_patient: true,
            };
            let client = client.run();
            drop(self.simulation.spawn_in(group, client));
        }
        let compactor = clients::compactor(
            node.clone(),
            Arc::clone(&self.shared),
            Duration::from_millis(200),
        );
        drop(self.simulation.spawn_in(group, compactor));
        drop(
            self.simulation
                .spawn_in(group, clients::flusher(node.clone())),
        );
        let rewriter = clients::rewriter(Arc::clone(&self.engine));
        drop(self.simulation.spawn_in(group, rewriter));
    }

    fn has_stopped(&self, node: &Node) -> bool {
        use futures_util::FutureExt;
        let _entered = self.simulation.enter();
        node.failed().now_or_never().is_some()
    }

    fn check_tasks(&self) -> Result<(), Violation> {
        if let Some(violation) = self.shared.violation.lock().take() {
            return Err(violation);
        }
        match self.simulation.take_panics().into_iter().next() {
            Some(panicked) => Err(Violation(format!(
                "a task of the node panicked: {}",
                panicked.message
            ))),
            None => Ok(()),
        }
    }

    /// Ends a life as its fate says, after a last look at what was visible.
    fn end(&mut self, group: Group, fate: Fate, node: Option<Node>) -> Result<(), Violation> {
        if let Some(node) = &node {
            let _entered = self.simulation.enter();
            clients::observe(node.reader(), &self.shared)?;
        }
        match (fate, node) {
            (Fate::Stop { .. }, Some(node)) => {
                self.stop(group, &node)?;
                self.coverage.stops += 1;
            }
            (_, node) => {
                self.coverage.unfinished_starts += u64::from(node.is_none());
                self.coverage.crashes += 1;
            }
        }
        match fate {
            Fate::PowerLoss { .. } => self.coverage.power_losses += 1,
            Fate::PowerCut { .. } => self.coverage.power_cuts += 1,
            Fate::Kill { .. } => self.coverage.kills += 1,
            Fate::FailedSync { .. } | Fate::Stop { .. } => {}
        }
        // The disk goes first: destructors of the node must not reach it.
        let survivor = match fate {
            Fate::Kill { .. } | Fate::Stop { .. } => Some(self.disk.fork(self.rng.next_u64())),
            _ => None,
        };
        self.disk.crash();
        if let Some(survivor) = survivor {
            self.disk = survivor;
        }
        self.simulation.kill(group);
        self.engine.crash();
        self.shared.ledger.lock().check()?;
        self.check_tasks()
    }

    /// SIGTERM: the node stops under load, and nothing it did is left to replay.
    fn stop(&mut self, group: Group, node: &Node) -> Result<(), Violation> {
        let stopping = node.clone();
        let is_stopped = Arc::new(Mutex::new(false));
        let told = Arc::clone(&is_stopped);
        drop(self.simulation.spawn_in(group, async move {
            stopping.shutdown().await;
            *told.lock() = true;
        }));
        let since = self.simulation.trace().steps;
        while !*is_stopped.lock() {
            if self.simulation.step() == Step::Quiet
                || self.simulation.trace().steps > since + PATIENCE_STEPS
            {
                return Err(Violation("a stop does not end".to_owned()));
            }
            self.check_tasks()?;
        }
        {
            let _entered = self.simulation.enter();
            clients::observe(node.reader(), &self.shared)?;
        }
        let durable = self
            .simulation
            .block_on(async { node.reader().view().applied });
        let flushed = flushed_index(&self.engine).map_err(|error| Violation(error.to_string()))?;
        if flushed < durable.map_or(0, |id| id.index) {
            return Err(Violation(format!(
                "a clean stop left {durable:?} to replay; flushed is {flushed}"
            )));
        }
        Ok(())
    }
}

/// The newest entry that the state on disk has applied.
fn flushed_index(engine: &Arc<MemoryEngine>) -> Result<u64, StoreError> {
    let engine: Arc<dyn StateEngine> = Arc::clone(engine) as _;
    let machine = Machine::open(engine, store::Options::default())?;
    Ok(machine.durable()?.map_or(0, |name| name.applied.index))
}
