//! Who takes the past away while others watch it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;

use crate::cluster::connection::Connection;
use crate::cluster::history::Outcome;
use crate::cluster::model::Op;
use crate::cluster::world::World;
use crate::sim::SimRng;

/// Revisions below the newest one that are left, at most.
const LEFT: i64 = 400;

/// Compacts now and then until the run is over: never above what one of the recorders has, so that they keep the whole
/// history together, which the checker needs.
pub(crate) async fn compactor(world: Arc<World>, mut rng: SimRng) {
    let mut process = world.new_process();
    while !world.is_over() {
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..2_000))).await;
        let recorded = world.recorders.iter();
        let recorded = recorded.map(|reached| reached.load(Ordering::Relaxed));
        let newest = recorded.max().unwrap_or(0);
        let left = if rng.random() {
            0
        } else {
            rng.random_range(0..LEFT)
        };
        let revision = newest - left;
        if revision <= world.compacted() {
            continue;
        }
        let members = world.members();
        let node = members[rng.random_range(0..members.len())];
        let _guard = world.compaction.lock().await;
        world.compacting(revision);
        let mut connection = Connection::new(world.endpoints[node].clone(), world.timeout);
        let op = Op::Compact { revision };
        let operation = world.ask(&mut connection, process, node, op).await;
        if operation.outcome == Outcome::Indefinite {
            process = world.new_process();
        }
    }
}
