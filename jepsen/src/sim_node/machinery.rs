//! What the node runs on in the simulation: its workers as tasks, its clock, and disks that lie.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openraft_rt::{AsyncRuntime, Instant};
use parking_lot::Mutex;
use rand::RngExt;
use server::exec::{Clock, Exec, Work};
use store::fs::{SimFs, WalFs};

use crate::sim::{SimInstant, SimRng, Simulation};

/// The node's workers, each a task that wakes some time after there is work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    log_slowness: Arc<AtomicU64>,
    apply_slowness: Arc<AtomicU64>,
}

impl Tasks {
    /// How long the log's writer and apply take beyond what is usual, at most, in milliseconds.
    pub(crate) fn slow_down(&self, log: u64, apply: u64) {
        self.log_slowness.store(log, Ordering::Relaxed);
        self.apply_slowness.store(apply, Ordering::Relaxed);
    }
}

impl Exec for Tasks {
    fn start(&self, name: &'static str, worker: Box<dyn Work>) {
        let slowness = match name {
            "wal" => Arc::clone(&self.log_slowness),
            "apply" => Arc::clone(&self.apply_slowness),
            _ => Arc::default(),
        };
        drop(Simulation::spawn(run(name, worker, slowness)));
    }

    /// A task cannot block on another. Whoever stops a node lets the simulation run until it is quiet.
    fn join(&self) {}
}

async fn run(name: &'static str, worker: Box<dyn Work>, slowness: Arc<AtomicU64>) {
    let mut rng = Simulation::thread_rng();
    let worker = Arc::new(Mutex::new(worker));
    loop {
        let waiting = Arc::clone(&worker);
        Simulation::until(move || waiting.lock().has_work()).await;
        let slower = rng.random_range(0..=slowness.load(Ordering::Relaxed));
        Simulation::sleep(latency(name, &mut rng) + Duration::from_millis(slower)).await;
        worker.lock().step();
    }
}

/// How long a worker takes to get to its work: mostly what a good machine does, now and then what
/// a bad one does.
fn latency(name: &str, rng: &mut SimRng) -> Duration {
    let micros = match (name, rng.random_range(0..100)) {
        ("wal", 0..80) => rng.random_range(20..200),
        ("wal", 80..97) => rng.random_range(200..3_000),
        ("wal", _) => rng.random_range(3_000..40_000),
        (_, 0..95) => rng.random_range(0..20),
        (_, _) => rng.random_range(20..5_000),
    };
    Duration::from_micros(micros)
}

/// The virtual clock as the node reads it.
#[derive(Clone, Debug, Default)]
pub(crate) struct VirtualClock {
    /// How far the time of day is ahead, in milliseconds. It can be set.
    pub(crate) ahead: Arc<AtomicU64>,
}

impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        SimInstant::now().since_epoch()
    }

    fn wall_ms(&self) -> u64 {
        let now = u64::try_from(SimInstant::now().since_epoch().as_millis()).unwrap_or(u64::MAX);
        now.saturating_add(self.ahead.load(Ordering::Relaxed))
    }
}

/// A promise that the disk breaks, to see whether the checks notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Syncs of files succeed, and nothing is synced.
    SyncsNothing,
    /// Only every n-th sync of a file is left out.
    SkipsSyncs(u64),
}

/// The disk as the log sees it: counts the syncs that writes wait for, and lies about them.
pub(crate) fn disk(inner: SimFs, mutant: Option<Mutant>, syncs: &Arc<Syncs>) -> Arc<dyn WalFs> {
    let syncs = Arc::clone(syncs);
    let around = move |sync: &mut dyn FnMut() -> io::Result<()>| {
        let nth = syncs.count.fetch_add(1, Ordering::Relaxed) + 1;
        let is_lie = match mutant {
            None => false,
            Some(Mutant::SyncsNothing) => true,
            Some(Mutant::SkipsSyncs(every)) => nth.is_multiple_of(every),
        };
        if is_lie {
            return Ok(());
        }
        let result = sync();
        if result.is_err() {
            syncs.has_failed.store(true, Ordering::Relaxed);
        }
        result
    };
    store::fs::observed(Arc::new(inner), Arc::new(around))
}

/// The syncs that writes wait for. Those of segments made ahead are not among them: when one fails, the segment
/// is made again.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    count: AtomicU64,
    pub(crate) has_failed: AtomicBool,
}
