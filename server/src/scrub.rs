//! The scrub: reads everything on disk again and again, slowly, so that damage is found before it is needed.
//!
//! It reads every block of the database's tables and every record of the log's closed segments, and checks each
//! against its checksum. On damage the node stops: what it would answer could be wrong, and another copy is needed.
//! What it does not see: blocks and files that are cached in memory are not read from the disk, filters and properties
//! of tables are checked when they are used, and what lies below a deleted range waits for a compaction to meet it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use store::StateEngine;
use store::engine::VerifyFrom;
use store::log::{Log, LogPlace};

use crate::exec::{Clock, Work};
use crate::logging::chain;
use crate::metrics::Metrics;
use crate::node::Node;

/// How long it rests when it has read everything.
const PAUSE: Duration = Duration::from_secs(60 * 60);
/// What is read in one go: little enough that nothing waits behind it for long.
const SLICE: usize = 1 << 20;

/// Ends the scrub.
#[derive(Clone, Default)]
pub struct Closer(Arc<Closing>);

#[derive(Default)]
struct Closing {
    is_closed: Mutex<bool>,
    closed: Condvar,
}

impl Closer {
    /// The scrub ends after the slice it is at.
    pub fn close(&self) {
        *self.0.is_closed.lock() = true;
        self.0.closed.notify_all();
    }
}

/// Where it is.
enum Place {
    Engine(VerifyFrom),
    Log(LogPlace),
}

/// The worker.
pub struct Scrub {
    node: Node,
    engine: Arc<dyn StateEngine>,
    log: Log,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    /// Bytes a second.
    rate: u64,
    place: Place,
    /// When the next slice may be read.
    due: Duration,
    closing: Closer,
}

impl Scrub {
    /// A worker that begins at once, and what ends it.
    pub fn new(node: Node, log: Log, clock: Arc<dyn Clock>, rate: u64) -> (Self, Closer) {
        let closing = Closer::default();
        let scrub = Self {
            engine: node.engine().clone(),
            metrics: node.metrics().clone(),
            node,
            log,
            due: clock.now(),
            clock,
            rate: rate.max(1),
            place: Place::Engine(VerifyFrom::default()),
            closing: closing.clone(),
        };
        (scrub, closing)
    }

    /// Reads a slice and moves on; gives how much it read and whether that was the last one.
    fn slice(&mut self) -> Result<(u64, bool), String> {
        Ok(match &self.place {
            Place::Engine(from) => {
                let verified = self.engine.verify(from, SLICE as u64);
                let verified = verified.map_err(|error| chain(&error))?;
                self.place = match verified.next {
                    Some(next) => Place::Engine(next),
                    None => Place::Log(LogPlace::default()),
                };
                (verified.bytes, false)
            }
            Place::Log(from) => {
                let verified = self.log.verify(*from, SLICE);
                let verified = verified.map_err(|error| chain(&error))?;
                self.place = match verified.next {
                    Some(next) => Place::Log(next),
                    None => Place::Engine(VerifyFrom::default()),
                };
                (verified.bytes, verified.next.is_none())
            }
        })
    }

    fn is_due(&self) -> bool {
        self.clock.now() >= self.due
    }

    fn is_closed(&self) -> bool {
        *self.closing.0.is_closed.lock()
    }
}

impl Work for Scrub {
    fn step(&mut self) -> bool {
        if self.is_closed() || !self.is_due() {
            return false;
        }
        match self.slice() {
            Ok((bytes, is_last)) => {
                self.metrics.scrub_bytes.inc_by(bytes);
                let mut rest = Duration::from_micros(bytes.saturating_mul(1_000_000) / self.rate);
                if is_last {
                    self.metrics.scrub_passes.inc();
                    let seconds = self.clock.wall_ms() / 1000;
                    crate::metrics::set(&self.metrics.scrub_last_pass, seconds);
                    rest = PAUSE;
                }
                self.due = self.clock.now() + rest;
            }
            Err(reason) => {
                self.node.stop_for(format!("the scrub: {reason}"));
                self.closing.close();
            }
        }
        true
    }

    fn wait(&mut self) -> bool {
        let mut is_closed = self.closing.0.is_closed.lock();
        while !*is_closed {
            let left = self.due.saturating_sub(self.clock.now());
            if left.is_zero() {
                return true;
            }
            self.closing.0.closed.wait_for(&mut is_closed, left);
        }
        false
    }

    fn has_work(&self) -> bool {
        !self.is_closed() && self.is_due()
    }
}
