//! The quota: whether a write still fits into the database, decided without asking the database.
//!
//! The size is asked for a few times a second, off the path of a write. What was accepted and was not yet in the size
//! that was found counts on top, so that no burst between two looks runs past the quota.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use store::StateEngine;

/// How large the database may become, and how large it is.
pub struct Quota {
    /// None: as large as it likes.
    limit: Option<i64>,
    size: AtomicU64,
    size_in_use: AtomicU64,
    /// Charges of all writes ever accepted.
    accepted: AtomicI64,
    /// Charges of those among them that have their outcome: they are in the size, if they are anywhere.
    settled: Arc<AtomicI64>,
    /// How far `accepted` may go until the next look.
    threshold: AtomicI64,
    is_raising: AtomicBool,
}

/// A write that was accepted; dropped when it has its outcome, whether or not somebody waits for that.
#[derive(Debug)]
pub struct Accepted {
    settled: Arc<AtomicI64>,
    charge: i64,
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if self.charge > 0 {
            // Its bytes are in the engine before whoever looks next sees this.
            self.settled.fetch_add(self.charge, Ordering::Release);
        }
    }
}

/// Held by the one who raises the alarm.
pub struct Raising<'a>(&'a Quota);

impl Drop for Raising<'_> {
    fn drop(&mut self) {
        self.0.is_raising.store(false, Ordering::Release);
    }
}

impl Quota {
    /// A quota of so many bytes; negative for none.
    pub fn new(bytes: i64) -> Self {
        let limit = (bytes >= 0).then_some(bytes);
        Self {
            limit,
            size: AtomicU64::new(1),
            size_in_use: AtomicU64::new(1),
            accepted: AtomicI64::new(0),
            settled: Arc::default(),
            threshold: AtomicI64::new(limit.unwrap_or(i64::MAX)),
            is_raising: AtomicBool::new(false),
        }
    }

    /// Bytes of the database as of the last look. Never zero: tools divide by it.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// The part of them in use; never more than all.
    pub fn size_in_use(&self) -> u64 {
        self.size_in_use.load(Ordering::Relaxed).min(self.size())
    }

    /// Looks at the size: at regular times, and when it has changed much or much depends on it.
    pub fn look(&self, engine: &dyn StateEngine) {
        // First: what settles while the size is asked for may or may not be in it, so it still counts on top.
        let settled = self.settled.load(Ordering::Acquire);
        let size = engine.size().max(1);
        self.size.store(size, Ordering::Relaxed);
        let in_use = engine.size_in_use().min(size);
        self.size_in_use.store(in_use, Ordering::Relaxed);
        if let Some(limit) = self.limit {
            let left = limit.saturating_sub_unsigned(size);
            self.threshold
                .store(left.saturating_add(settled), Ordering::Relaxed);
        }
    }

    /// Whether a write of this charge fits; if so it is counted. To be kept until the write has its outcome.
    pub fn accept(&self, charge: u64) -> Option<Accepted> {
        let charge = match self.limit {
            Some(_) => i64::try_from(charge).unwrap_or(i64::MAX),
            None => 0,
        };
        if charge > 0 {
            let before = self.accepted.fetch_add(charge, Ordering::Relaxed);
            if before.saturating_add(charge) >= self.threshold.load(Ordering::Relaxed) {
                self.accepted.fetch_sub(charge, Ordering::Relaxed);
                return None;
            }
        }
        Some(Accepted {
            settled: self.settled.clone(),
            charge,
        })
    }

    /// Lets one caller at a time raise the alarm.
    pub fn raise(&self) -> Option<Raising<'_>> {
        let is_free = !self.is_raising.swap(true, Ordering::AcqRel);
        // Not made unless it is free: dropping it lets the next one in.
        is_free.then(|| Raising(self))
    }
}

#[cfg(test)]
mod tests {
    use store::engine::memory::MemoryEngine;
    use store::engine::{Batch, Family};

    use super::*;

    fn engine_of(bytes: usize) -> MemoryEngine {
        let engine = MemoryEngine::new();
        let mut batch = Batch::default();
        batch.put(
            Family::Kv,
            |key| key.push(1),
            |value| value.extend_from_slice(&vec![0; bytes - 1]),
        );
        engine.write(&batch).unwrap();
        engine
    }

    fn fits(quota: &Quota, charge: u64) -> bool {
        quota.accept(charge).is_some()
    }

    #[test]
    fn what_was_accepted_counts_until_the_size_shows_it() {
        let quota = Quota::new(1000);
        quota.look(&engine_of(100));
        assert_eq!((quota.size(), quota.size_in_use()), (100, 100));
        let first = quota.accept(500).unwrap();
        assert!(!fits(&quota, 400), "100 and 500 are taken");
        for _ in 0..3 {
            // Still on its way, however often somebody looks.
            quota.look(&engine_of(100));
            assert!(!fits(&quota, 400));
        }
        drop(first);
        assert!(!fits(&quota, 400), "nobody looked since");
        quota.look(&engine_of(600));
        assert!(!fits(&quota, 400));
        assert!(fits(&quota, 399));
        quota.look(&engine_of(100));
        assert!(fits(&quota, 899));
        assert!(fits(&quota, 0), "what adds nothing always fits");
    }

    #[test]
    fn a_refused_write_costs_nothing() {
        let quota = Quota::new(1000);
        for _ in 0..100 {
            assert!(!fits(&quota, 1000));
        }
        assert!(fits(&quota, 999));
    }

    #[test]
    fn a_negative_quota_is_none() {
        let quota = Quota::new(-1);
        quota.look(&engine_of(100));
        assert!(fits(&quota, u64::MAX) && fits(&quota, u64::MAX));
        assert_eq!(quota.size(), 100);
    }

    #[test]
    fn one_raises_the_alarm_at_a_time() {
        let quota = Quota::new(0);
        let raising = quota.raise();
        assert!(raising.is_some());
        assert!(quota.raise().is_none() && quota.raise().is_none());
        drop(raising);
        assert!(quota.raise().is_some());
    }
}
