//! After the last request: what each member holds when it is left in peace.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::connection::Connection;
use super::convergence;
use super::fault::Nemesis;
use super::history::Outcome;
use super::model::Op;
use super::node::name;
use super::world::World;

/// Nobody asks any more: what each member holds now.
pub(super) async fn finish(nemesis: &mut Nemesis) {
    let world = Arc::clone(&nemesis.world);
    if let Err(error) = conclude(nemesis, &world).await {
        let text = format!("the final state could not be read: {error:#}");
        world.history.lock().ending.alarming.push(text);
    }
}

async fn conclude(nemesis: &mut Nemesis, world: &World) -> anyhow::Result<()> {
    let members = world.members();
    let recovery = nemesis.recover().await?;
    if let Some(damage) = recovery.damage {
        anyhow::bail!(damage);
    }
    end_leases(world).await;
    let quiet = world.now();
    let until = Instant::now() + Duration::from_secs(10);
    // A request without an answer may still take effect for a while.
    let revisions = loop {
        let mut revisions = Vec::new();
        for &node in &members {
            let revision = nemesis.revision(node).await;
            revisions.push(revision.with_context(|| format!("{} does not answer", name(node)))?);
        }
        let is_settled = revisions.windows(2).all(|pair| pair[0] == pair[1]);
        if is_settled || Instant::now() > until {
            break revisions;
        }
    };
    let revision = revisions.iter().copied().max().unwrap_or(1);
    let hashes = convergence::wait(world, &members, revision).await?;
    let mut logs = Vec::new();
    for &node in &members {
        logs.push(convergence::log(world, node, revision).await?);
    }
    await_watchers(world, revision).await;
    let mut history = world.history.lock();
    // What is not kept any more, the recorders have heard.
    let start = logs.iter().map(|(start, _)| *start).max().unwrap_or(1);
    let mut past = history.watch.everything();
    past.retain(|change| change.revision < start);
    let logs = logs.into_iter().map(|(_, log)| {
        let kept = log.into_iter().filter(|change| change.revision >= start);
        past.iter().cloned().chain(kept).collect()
    });
    let logs = logs.collect();
    history.ending.quiet = quiet;
    history.ending.revisions = revisions;
    history.ending.hashes = hashes;
    history.logs = logs;
    Ok(())
}

/// Ends the leases that may be left, since they would change something while all is read.
async fn end_leases(world: &World) {
    let granted: BTreeSet<i64> = {
        let history = world.history.lock();
        let granted = history
            .operations
            .iter()
            .filter_map(|asked| match asked.op {
                Op::Grant { lease, .. } if asked.outcome != Outcome::Definite => Some(lease),
                _ => None,
            });
        granted.collect()
    };
    let node = world.members().first().copied().unwrap_or(0);
    let mut connection = Connection::new(world.endpoints[node].clone(), world.timeout);
    for lease in granted {
        let process = world.new_process();
        let op = Op::Revoke { lease };
        world.ask(&mut connection, process, node, op).await;
    }
}

/// Watchers who stay get so long to be told everything; whether they were is the checker's to say.
async fn await_watchers(world: &World, revision: i64) {
    let until = Instant::now() + Duration::from_secs(5);
    let mut waiting = world.staying.lock().clone();
    waiting.extend(
        world
            .members()
            .into_iter()
            .map(|node| Arc::clone(&world.recorders[node])),
    );
    while !waiting.is_empty() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
        waiting.retain(|reached| reached.load(Ordering::Relaxed) < revision);
    }
}
