//! Whether all members hold the same: hashes at one revision, and the history as each of them shows it.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use client::{Client, Error, Keys, WatchOptions};
use proto::etcd::etcdserverpb::HashKvRequest;
use tokio::time::Instant;

use super::connection::Connection;
use super::model::Change;
use super::node::{name, names};
use super::traffic::change;
use super::world::World;

/// How long members may take to hold a revision that one of them has answered with. What is promised is checked by the
/// checker; this only ends the wait.
const PATIENCE: Duration = Duration::from_secs(20);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

async fn connect(world: &World, node: usize) -> anyhow::Result<Client> {
    let mut connection = Connection::new(world.endpoints[node].clone(), CALL_TIMEOUT);
    let client = connection.client().await;
    client.map_err(|failure| anyhow::anyhow!("{}: {}", name(node), failure.error))
}

/// Waits until all hold that revision, and returns their hashes if they are equal.
pub(crate) async fn wait(
    world: &World,
    members: &[usize],
    revision: i64,
) -> anyhow::Result<Vec<u32>> {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut hashes = Vec::new();
        let mut pasts = Vec::new();
        for &node in members {
            loop {
                match hash(world, node, revision).await {
                    Ok((hash, compacted)) => {
                        hashes.push(hash);
                        pasts.push(compacted);
                        break;
                    }
                    Err(error) if Instant::now() > until => {
                        bail!(
                            "{} does not reach revision {revision}: {error:#}",
                            name(node)
                        );
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        }
        if hashes.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(hashes);
        }
        // A hash is over what is kept, so it can only be compared where the past ends at one place. A compaction without
        // an answer may still be on its way.
        let is_one_past = pasts.windows(2).all(|pair| pair[0] == pair[1]);
        ensure!(
            !is_one_past && Instant::now() < until,
            "the hashes of {} at revision {revision} differ: {hashes:?}, compacted at {pasts:?}",
            names(members)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The hash, and the revision below which it leaves the past out.
async fn hash(world: &World, node: usize, revision: i64) -> anyhow::Result<(u32, i64)> {
    let client = connect(world, node).await?;
    let mut maintenance = client.maintenance();
    let call = maintenance.hash_kv(HashKvRequest { revision });
    let answer = tokio::time::timeout(CALL_TIMEOUT, call).await??;
    let answer = answer.into_inner();
    Ok((answer.hash, answer.compact_revision))
}

/// All changes that are kept, up to `revision`, as a watch from the oldest of them on shows them; and where they begin.
pub(crate) async fn log(
    world: &World,
    node: usize,
    revision: i64,
) -> anyhow::Result<(i64, Vec<Change>)> {
    let client = connect(world, node).await?;
    let mut start = 1;
    let mut watch = client.watch(Keys::all(), WatchOptions::from(start)).await?;
    let mut log: Vec<Change> = Vec::new();
    while log.last().map_or(1, |change| change.revision) < revision {
        let batch = tokio::time::timeout(PATIENCE, watch.next()).await;
        if let Ok(Err(Error::Compacted {
            compact_revision: Some(compacted),
        })) = batch
        {
            ensure!(compacted > start, "{} is compacted", name(node));
            start = compacted;
            watch = client.watch(Keys::all(), WatchOptions::from(start)).await?;
            continue;
        }
        let batch = batch.with_context(|| {
            format!(
                "a watch on {} stands still before revision {revision}",
                name(node)
            )
        })??;
        let batch = batch.with_context(|| format!("a watch on {} ended", name(node)))?;
        log.extend(batch.events.into_iter().filter_map(change));
    }
    Ok((start, log))
}
