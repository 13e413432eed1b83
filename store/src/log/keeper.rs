//! Makes the next segment ahead of need and removes purged ones, so that no append waits for either.
//!
//! A thread of its own does it where there is one ([`Shared::run_keeper`]); otherwise the worker does it between
//! batches, which is what the simulation wants.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::segment::{self, Blank};
use super::state::Shared;

/// How long to wait on a full disk before making a segment is tried again.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct Keeper {
    work: Mutex<Work>,
    changed: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct Work {
    has_thread: bool,
    /// The segment to make, with its size.
    wanted: Option<(u32, u64)>,
    /// The segment that could not be made for want of space.
    failed: Option<(u32, u64)>,
    /// The segment that is being made.
    making: Option<u32>,
    ready: Option<Blank>,
    /// The worker has no segment to write to, and the disk has no space for one.
    is_starved: bool,
    /// Purged segments to remove, oldest first. One that cannot be removed is left to the next start.
    purged: Vec<u32>,
}

impl Keeper {
    /// Hands in a segment that was found ready at the start.
    pub(super) fn offer(&self, blank: Blank) {
        self.work.lock().ready = Some(blank);
    }

    /// Asks for a segment, unless it is there.
    pub(super) fn want(&self, sequence: u32, size: u64) {
        let mut work = self.work.lock();
        if work
            .ready
            .as_ref()
            .is_none_or(|blank| blank.sequence != sequence)
        {
            work.wanted = Some((sequence, size));
            self.changed.notify_all();
        }
    }

    /// Whether the segment after the one being written is there.
    pub(super) fn is_ready(&self) -> bool {
        self.work.lock().ready.is_some()
    }

    pub(super) fn is_starved(&self) -> bool {
        self.work.lock().is_starved
    }

    pub(super) fn remove(&self, purged: impl Iterator<Item = u32>) {
        self.work.lock().purged.extend(purged);
        self.changed.notify_all();
    }

    pub(super) fn stop(&self) {
        // Under the lock, or the thread could miss it between looking and sleeping.
        let _work = self.work.lock();
        self.stop.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Whoever waits for space looks again.
    pub(super) fn hurry(&self) {
        self.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// The segment, made on the spot if nobody did so yet.
    ///
    /// With `waits`, a full disk is waited out until the log is closed: what is queued has not been written, so
    /// nothing is lost by writing it later, and a log that failed instead would take the node down.
    pub(super) fn take_segment(&self, sequence: u32, size: u64, waits: bool) -> io::Result<Blank> {
        loop {
            match self.try_take_segment(sequence, size) {
                Err(error) if waits && is_full(&error) && !self.state.lock().is_closed => {
                    let mut work = self.keeper.work.lock();
                    work.is_starved = true;
                    self.keeper.changed.wait_for(&mut work, FULL_DISK_PAUSE);
                }
                taken => {
                    self.keeper.work.lock().is_starved = false;
                    return taken;
                }
            }
        }
    }

    fn try_take_segment(&self, sequence: u32, size: u64) -> io::Result<Blank> {
        let mut work = self.keeper.work.lock();
        while work.making == Some(sequence) {
            self.keeper.changed.wait(&mut work);
        }
        work.wanted.take_if(|(wanted, _)| *wanted == sequence);
        work.failed.take_if(|(failed, _)| *failed == sequence);
        if let Some(blank) = work.ready.take_if(|blank| blank.sequence == sequence) {
            return Ok(blank);
        }
        drop(work);
        segment::prepare(&*self.fs, sequence, size, &AtomicBool::new(false))
    }

    /// Does what was asked for, unless a thread does.
    pub(super) fn keep(&self) {
        if !self.keeper.work.lock().has_thread {
            while self.keep_step() {}
        }
    }

    /// Does what is asked for until [`Keeper::stop`].
    pub(super) fn run_keeper(&self) {
        self.keeper.work.lock().has_thread = true;
        loop {
            while self.keep_step() {}
            let mut work = self.keeper.work.lock();
            if work.failed.is_some() {
                // There may be space again soon; the worker must not find out that there is not.
                self.keeper.changed.wait_for(&mut work, FULL_DISK_PAUSE);
                // Unless the worker has made it meanwhile: a segment in use must not be made again.
                work.wanted = work.wanted.or(work.failed);
                work.failed = None;
            }
            while work.wanted.is_none() && work.purged.is_empty() && !self.keeper.is_stopped() {
                self.keeper.changed.wait(&mut work);
            }
            if self.keeper.is_stopped() {
                work.has_thread = false;
                return;
            }
        }
    }

    fn keep_step(&self) -> bool {
        let mut work = self.keeper.work.lock();
        if self.keeper.is_stopped() {
            return false;
        }
        if let Some((sequence, size)) = work.wanted.take() {
            work.making = Some(sequence);
            drop(work);
            let made = segment::prepare(&*self.fs, sequence, size, &self.keeper.stop);
            let mut work = self.keeper.work.lock();
            work.making = None;
            // A failure shows when the segment is needed: the worker then makes it itself, or fails loudly.
            match made {
                Ok(blank) => work.ready = Some(blank),
                Err(error) if is_full(&error) && work.has_thread => {
                    work.failed = Some((sequence, size));
                }
                Err(_) => {}
            }
            self.keeper.changed.notify_all();
            return true;
        }
        let purged = std::mem::take(&mut work.purged);
        drop(work);
        for sequence in &purged {
            // What cannot be removed wastes space only; the next start tries again.
            let _ = self.fs.remove(&segment::name(*sequence));
        }
        !purged.is_empty()
    }
}

/// Whether an error says that the disk, or what this user may take of it, is full.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
