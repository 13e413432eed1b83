//! Leases that somebody on each member grants and keeps alive: one that was promised a time has it, whoever leads
//! meanwhile, and one that was told to be over stays over. Nobody revokes any.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft_rt::{AsyncRuntime, Instant as _};
use parking_lot::Mutex;
use proto::command::command::Op;
use proto::etcd::etcdserverpb::LeaseGrantRequest;
use rand::RngExt;
use server::node::{Call, Node, Renewed};
use store::Answer;

use crate::ledger::Violation;
use crate::sim::{SimInstant, Simulation};
use crate::sim_node::clients::Shared;

/// Seconds that a lease is granted for, at least and at most.
const TTL: std::ops::RangeInclusive<i64> = 1..=3;
/// Leases that are still asked about: the newest.
const ASKED: usize = 16;

/// All leases of a run, as clients know them.
#[derive(Debug, Default)]
pub(super) struct Leases {
    known: Mutex<BTreeMap<i64, Lease>>,
    next: AtomicU64,
    /// Answers that a lease lives, and that one is over.
    pub(super) kept: AtomicU64,
    pub(super) over: AtomicU64,
}

#[derive(Debug, Default)]
struct Lease {
    /// It lives until then at least.
    until: Duration,
    /// When somebody had first been told that it is over.
    over: Option<Duration>,
}

impl Leases {
    /// Somebody who asked at a time was told that a lease lives for so many seconds.
    fn lives(&self, id: i64, asked: Duration, ttl: i64) -> Result<(), Violation> {
        let mut known = self.known.lock();
        let lease = known.entry(id).or_default();
        lease.until = lease
            .until
            .max(asked + Duration::from_secs(ttl.unsigned_abs()));
        match lease.over {
            Some(over) if over < asked.max(lease.until) => Err(Violation(format!(
                "lease {id} was told to live until {:?} at least by an answer to a question of {asked:?}, and to be over \
                 at {over:?}",
                lease.until
            ))),
            _ => Ok(()),
        }
    }

    /// Somebody has just been told that it is over.
    fn is_over(&self, id: i64, now: Duration) -> Result<(), Violation> {
        let mut known = self.known.lock();
        let lease = known.entry(id).or_default();
        if lease.until > now {
            return Err(Violation(format!(
                "lease {id} was told to be over at {now:?}, and before that to live until {:?} at least",
                lease.until
            )));
        }
        lease.over.get_or_insert(now);
        Ok(())
    }

    fn newest(&self) -> Vec<i64> {
        let known = self.known.lock();
        known.keys().rev().take(ASKED).copied().collect()
    }
}

fn now() -> Duration {
    SimInstant::now().since_epoch()
}

/// Grants leases and keeps some alive, until the run or the member's life ends.
pub(super) async fn rent(node: Node, shared: Arc<Shared>, leases: Arc<Leases>) {
    let mut rng = Simulation::thread_rng();
    while !*shared.is_over.lock() {
        Simulation::sleep(Duration::from_millis(rng.random_range(10..600))).await;
        let newest = leases.newest();
        let call = Call::new(Duration::from_millis(1 << rng.random_range(7..13)));
        let done = if newest.is_empty() || rng.random_ratio(1, 6) {
            grant(&node, &call, &leases, rng.random_range(TTL)).await
        } else {
            keep(
                &node,
                &call,
                &leases,
                newest[rng.random_range(0..newest.len())],
            )
            .await
        };
        if let Err(violation) = done {
            shared.fail(violation);
        }
    }
}

async fn grant(node: &Node, call: &Call, leases: &Leases, ttl: i64) -> Result<(), Violation> {
    let id = leases.next.fetch_add(1, Ordering::Relaxed).cast_signed() + 1;
    let asked = now();
    let op = Op::LeaseGrant(LeaseGrantRequest { ttl, id });
    match node.propose(call, op).await {
        Ok(Answer::LeaseGrant(_)) => leases.lives(id, asked, ttl),
        // It may be there: nobody asks for it.
        _ => Ok(()),
    }
}

async fn keep(node: &Node, call: &Call, leases: &Leases, id: i64) -> Result<(), Violation> {
    let asked = now();
    match node.keep_alive(call, vec![id]).await.as_deref() {
        Ok([Renewed::Ttl(0)]) => {
            leases.over.fetch_add(1, Ordering::Relaxed);
            leases.is_over(id, now())
        }
        Ok([Renewed::Ttl(ttl)]) => {
            leases.kept.fetch_add(1, Ordering::Relaxed);
            leases.lives(id, asked, *ttl)
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_promise_that_is_broken_is_found_whichever_answer_comes_first() {
        let leases = Leases::default();
        leases.lives(1, at(10), 3).unwrap();
        leases.is_over(1, at(12)).unwrap_err();
        leases.is_over(1, at(13)).unwrap();
        // An answer that was long on its way.
        leases.lives(1, at(10), 2).unwrap();
        leases.lives(1, at(11), 3).unwrap_err();
        leases.lives(2, at(1), 1).unwrap();
        leases.is_over(2, at(5)).unwrap();
        leases.lives(2, at(6), 1).unwrap_err();
    }
}
