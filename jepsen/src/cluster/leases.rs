//! What clients ask for in the workload `lease`, and which leases they know of.
//!
//! Each lease is kept alive for a while, by whoever comes by, and then left alone or revoked; some are never kept alive.
//! What has ended is tried again, too. Keys that are attached are written over, and never deleted: so whatever deletes
//! them is the end of a lease.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::RngExt;

use super::history::{Operation, Outcome};
use super::model::{Body, Op};
use crate::sim::SimRng;

/// Leases at a time.
const LIVING: usize = 14;
/// Of those that have ended, the latest.
const ENDED: usize = 12;
const KEYS: u64 = 24;
/// No lease is ever called so.
const UNKNOWN: i64 = 1 << 40;

#[derive(Clone, Copy, Debug)]
struct Lease {
    id: i64,
    /// Nobody keeps it alive after this.
    kept_until: Instant,
}

/// Shared by all clients.
#[derive(Debug, Default)]
pub(super) struct Leases {
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    living: Vec<Lease>,
    ended: VecDeque<i64>,
    /// Asked for and not yet answered.
    asked: usize,
}

impl Pool {
    fn end(&mut self, id: i64) {
        self.living.retain(|lease| lease.id != id);
        if !self.ended.contains(&id) {
            self.ended.push_back(id);
        }
        if self.ended.len() > ENDED {
            self.ended.pop_front();
        }
    }

    fn any(&self, rng: &mut SimRng) -> Option<Lease> {
        let count = self.living.len();
        (count > 0).then(|| self.living[rng.random_range(0..count)])
    }
}

impl Leases {
    pub(super) fn next(&self, unique: u64, rng: &mut SimRng) -> Op {
        let mut pool = self.pool.lock();
        if pool.living.len() + pool.asked < LIVING {
            pool.asked += 1;
            let short = rng.random_range(0..10) < 8;
            return Op::Grant {
                // A name that no other lease has.
                lease: i64::try_from(unique).unwrap_or(i64::MAX) + 1,
                ttl: if short {
                    rng.random_range(2..=5)
                } else {
                    rng.random_range(60..600)
                },
            };
        }
        let lease = match pool.any(rng) {
            Some(lease) => lease.id,
            None => UNKNOWN,
        };
        let ended = match pool.ended.len() {
            0 => UNKNOWN,
            count => pool.ended[rng.random_range(0..count)],
        };
        let put = |lease: i64, rng: &mut SimRng| Op::Put {
            key: format!("lease/{:02}", rng.random_range(0..KEYS)),
            value: unique.to_string(),
            previous: false,
            lease,
        };
        match rng.random_range(0..100) {
            0..28 => put(lease, rng),
            28..34 => put(0, rng),
            34..38 => put(ended, rng),
            38..40 => put(UNKNOWN + rng.random_range(0..1_000), rng),
            40..70 => {
                let count = pool.living.len();
                let first = rng.random_range(0..count.max(1));
                let now = Instant::now();
                let kept = (0..count).map(|nth| pool.living[(first + nth) % count]);
                let kept = kept.filter(|lease| lease.kept_until > now).map(|l| l.id);
                Op::KeepAlive {
                    lease: kept.chain([ended]).next().unwrap_or(ended),
                }
            }
            70..74 => Op::KeepAlive { lease: ended },
            74..76 => Op::Revoke { lease },
            76 => Op::Revoke { lease: ended },
            77..89 => Op::TimeToLive { lease },
            89..93 => Op::TimeToLive { lease: ended },
            _ => Op::List {
                prefix: "lease/".to_owned(),
                serializable: false,
            },
        }
    }

    pub(super) fn learn(&self, operation: &Operation) {
        let mut pool = self.pool.lock();
        match (&operation.op, &operation.body) {
            (Op::Grant { lease, .. }, body) => {
                pool.asked -= 1;
                if body.is_some() {
                    // Spread by its own name, as this draws nothing.
                    let kept = Duration::from_millis(lease.unsigned_abs() * 7_919 % 12_000);
                    pool.living.push(Lease {
                        id: *lease,
                        kept_until: Instant::now() + kept.saturating_sub(Duration::from_secs(2)),
                    });
                }
            }
            (Op::Revoke { lease }, _) if operation.outcome != Outcome::Definite => pool.end(*lease),
            (Op::KeepAlive { lease }, Some(Body::KeepAlive { ttl: 0 }))
            | (Op::TimeToLive { lease }, Some(Body::TimeToLive { granted: 0, .. })) => {
                pool.end(*lease);
            }
            _ => {}
        }
    }
}
