//! Clients that keep leases alive, each one after the other on a stream of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use proto::etcd::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest};

use crate::histogram::Histogram;
use crate::load::drive::{self, Place, Schedule, Signals};
use crate::load::unary::nanoseconds;
use crate::load::{Outcome, Plan, measure, outcome, share};
use crate::wire::{Answer, Channel, Method, Stream, framed};

/// Longer than any run, so that no lease expires in it.
const TTL_SECONDS: i64 = 600;

/// A lease, and the request that keeps it alive.
struct Lease {
    id: u64,
    request: Bytes,
}

/// The paths of both calls.
#[derive(Clone)]
struct Methods {
    grant: Method,
    keep_alive: Method,
}

/// Grants the plan's leases, and then keeps them alive for its time.
pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let (clients, leases) = (
        plan.connections * plan.in_flight,
        usize::try_from(plan.keys)?,
    );
    ensure!(
        leases >= clients,
        "{clients} clients need a lease each, there are {leases}"
    );
    let methods = Methods {
        grant: Method::new(plan.endpoints[0], "/etcdserverpb.Lease/LeaseGrant")?,
        keep_alive: Method::new(plan.endpoints[0], "/etcdserverpb.Lease/LeaseKeepAlive")?,
    };
    let granted = Arc::new(AtomicU64::new(0));
    let latencies = Arc::new(Histogram::new());
    let start_worker = |place: Place, mut channel: Channel, signals: Signals| {
        let (methods, granted, latencies) = (methods.clone(), granted.clone(), latencies.clone());
        async move {
            let mut own = Vec::new();
            for _ in share::of(leases, clients, place.worker) {
                own.push(grant(&mut channel, &methods.grant).await?);
                granted.fetch_add(1, Ordering::Relaxed);
            }
            let schedule = signals.schedule().await?;
            keep_alive(channel, &methods.keep_alive, &own, schedule, &latencies).await
        }
    };
    let conduct = |signals: &Signals| {
        signals.wait("leases granted", || {
            let granted = granted.load(Ordering::Relaxed);
            (granted, granted == plan.keys)
        })?;
        measure(plan, signals)
    };
    let samples = drive::drive(&plan.links(), plan.threads, start_worker, conduct)?;
    let operations = latencies.count();
    ensure!(operations > 0, "no answer within {:?}", plan.duration);
    Ok(outcome(
        plan,
        plan.duration,
        operations,
        latencies.latency(),
        samples,
    ))
}

async fn grant(channel: &mut Channel, method: &Method) -> Result<Lease> {
    let request = LeaseGrantRequest {
        ttl: TTL_SECONDS,
        id: 0,
    };
    let answer = channel.call(method, framed(&request)).await?;
    let id = answer.numbers[2];
    ensure!(id > 0 && answer.counts[4] == 0, "a lease was not granted");
    let request = LeaseKeepAliveRequest {
        id: id.cast_signed(),
    };
    Ok(Lease {
        id,
        request: framed(&request),
    })
}

/// Keeps one lease after the other alive until the time is up.
async fn keep_alive(
    mut channel: Channel,
    method: &Method,
    leases: &[Lease],
    Schedule { start, stop }: Schedule,
    latencies: &Histogram,
) -> Result<()> {
    let mut open: Option<Stream> = None;
    for lease in leases.iter().cycle() {
        let begin = Instant::now();
        if begin >= stop {
            return Ok(());
        }
        let stream = match &mut open {
            Some(stream) => {
                stream.send(lease.request.clone())?;
                stream
            }
            None => open.insert(channel.stream(method, lease.request.clone()).await?),
        };
        let mut answers = 0;
        while answers == 0 {
            let check = |answer: &Answer| {
                answers += 1;
                check(lease.id, answer)
            };
            if !stream.receive(None, check).await? {
                bail!("the server ended a stream of keep-alives");
            }
        }
        ensure!(answers == 1, "{answers} answers to one keep-alive");
        let end = Instant::now();
        if end >= start && end <= stop {
            latencies.record(nanoseconds(end - begin));
        }
    }
    bail!("a client without a lease")
}

/// Fails unless the answer says that this lease lives on.
fn check(id: u64, answer: &Answer) -> Result<()> {
    ensure!(
        answer.numbers[2] == id,
        "lease {} was kept alive, not {id}",
        answer.numbers[2]
    );
    ensure!(answer.numbers[3] > 0, "lease {id} is gone");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::wire::Answer;

    #[test]
    fn only_an_answer_with_the_lease_and_time_left_counts() {
        let verdict = |id, ttl| {
            let mut answer = Answer::default();
            (answer.numbers[2], answer.numbers[3]) = (id, ttl);
            check(7, &answer).map_err(|error| error.to_string())
        };
        assert_eq!(verdict(7, 600), Ok(()));
        assert!(verdict(8, 600).unwrap_err().contains("lease 8"));
        assert!(verdict(7, 0).unwrap_err().contains("is gone"));
    }
}
