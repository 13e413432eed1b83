//! Makes the next segment ahead of need and removes purged ones, so that no append waits for either.
//!
//! A thread of its own does it where there is one ([`Shared::run_keeper`]); otherwise the worker does it between
//! batches, which is what the simulation wants.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

use super::segment::{self, Blank};
use super::state::Shared;

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
    /// The segment that is being made.
    making: Option<u32>,
    ready: Option<Blank>,
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

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// The segment, made on the spot if nobody did so yet.
    pub(super) fn take_segment(&self, sequence: u32, size: u64) -> io::Result<Blank> {
        let mut work = self.keeper.work.lock();
        while work.making == Some(sequence) {
            self.keeper.changed.wait(&mut work);
        }
        if work.wanted.is_some_and(|(wanted, _)| wanted == sequence) {
            work.wanted = None;
        }
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
            work.ready = made.ok();
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
