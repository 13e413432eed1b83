//! Those who use the cluster while it is being broken: clients, and who asks members how they are.

use std::sync::Arc;
use std::time::Duration;

use client::EventType;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::Connection;
use super::history::{Outcome, Status};
use super::model::{Change, Kv, Op};
use super::watch;
use super::workload::Workload;
use super::world::World;
use crate::sim::SimRng;

/// How often members are asked who leads.
const STATUS_INTERVAL: Duration = Duration::from_millis(200);
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

/// A client that stays with one member and asks at a steady pace, one request at a time.
pub(crate) async fn client(
    world: Arc<World>,
    workload: Arc<Workload>,
    node: usize,
    interval: Duration,
    mut rng: SimRng,
) {
    let mut connection = Connection::new(world.endpoints[node].clone(), world.timeout);
    let mut process = world.new_process();
    // Not all at once.
    let mut next = Instant::now() + interval.mul_f64(rng.random());
    while !world.is_over() {
        tokio::time::sleep_until(next).await;
        // What a slow answer kept it from asking is not made up for.
        next = (next + interval).max(Instant::now());
        let op = workload.next(world.unique(), &mut rng);
        let operation = world.ask(&mut connection, process, node, op).await;
        workload.learn(&operation);
        if operation.outcome == Outcome::Indefinite {
            process = world.new_process();
        }
    }
}

/// Asks members, again and again and without waiting for answers, until one write is acknowledged: how long a cluster
/// does not serve is not to be hidden by clients that wait for a request that was lost.
pub(crate) async fn probe(world: Arc<World>, nodes: Vec<usize>, patience: Duration) {
    const INTERVAL: Duration = Duration::from_millis(20);
    const WAITING: usize = 150;
    let until = Instant::now() + patience;
    let mut asked: JoinSet<bool> = JoinSet::new();
    while Instant::now() < until && !world.is_over() {
        for &node in &nodes {
            if asked.len() >= WAITING {
                break;
            }
            let world = Arc::clone(&world);
            asked.spawn(async move {
                let process = world.new_process();
                let mut connection = Connection::new(world.endpoints[node].clone(), world.timeout);
                let op = Op::Put {
                    key: format!("probe/{node}"),
                    value: world.unique().to_string(),
                    previous: false,
                    lease: 0,
                };
                let operation = world.ask(&mut connection, process, node, op).await;
                operation.outcome == Outcome::Ok
            });
        }
        tokio::time::sleep(INTERVAL).await;
        while let Some(answer) = asked.try_join_next() {
            if matches!(answer, Ok(true)) {
                // What is on its way is still recorded.
                asked.detach_all();
                return;
            }
        }
    }
    asked.detach_all();
}

/// Asks for linearizable reads, again and again and without waiting for answers, until a moment: what members tell that
/// cannot know.
pub(crate) async fn question(world: Arc<World>, nodes: Vec<usize>, duration: Duration) {
    const INTERVAL: Duration = Duration::from_millis(150);
    let until = Instant::now() + duration;
    while Instant::now() < until && !world.is_over() {
        for &node in &nodes {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let process = world.new_process();
                let mut connection = Connection::new(world.endpoints[node].clone(), world.timeout);
                let op = Op::Get {
                    key: format!("probe/{node}"),
                    serializable: false,
                };
                world.ask(&mut connection, process, node, op).await;
            });
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// An event as the checker sees it.
pub(crate) fn change(event: client::Event) -> Option<Change> {
    let is_put = event.r#type() == EventType::Put;
    let kv = event.kv?;
    Some(Change {
        revision: kv.mod_revision,
        key: String::from_utf8_lossy(&kv.key).into_owned(),
        after: is_put.then(|| Kv::from(kv)),
        previous: event.prev_kv.map(Kv::from),
    })
}

/// Asks one member again and again how it is and whom it follows.
pub(crate) async fn observer(world: Arc<World>, node: usize) {
    let mut connection = Connection::new(world.endpoints[node].clone(), STATUS_TIMEOUT);
    loop {
        if let Some(status) = status(&world, &mut connection, node).await {
            world.observe(status);
        }
        tokio::time::sleep(STATUS_INTERVAL).await;
    }
}

async fn status(world: &World, connection: &mut Connection, node: usize) -> Option<Status> {
    let client = connection.client().await.ok()?;
    let life = world.life(node);
    let answer = client.status().await.ok()?;
    let header = answer.header?;
    if world.life(node) != life {
        return None;
    }
    Some(Status {
        life,
        time: world.now(),
        node,
        member: header.member_id,
        leader: answer.leader,
        term: answer.raft_term,
        revision: header.revision,
    })
}

/// Asks all members now; who says that it leads, in the newest term.
pub(crate) async fn leader(world: &Arc<World>) -> Option<Status> {
    let mut asked = JoinSet::new();
    for node in world.members() {
        let world = Arc::clone(world);
        asked.spawn(async move {
            let mut connection = Connection::new(world.endpoints[node].clone(), STATUS_TIMEOUT);
            let status = status(&world, &mut connection, node).await?;
            world.observe(status);
            Some(status)
        });
    }
    let mut newest: Option<Status> = None;
    while let Some(answer) = asked.join_next().await {
        let Ok(Some(status)) = answer else { continue };
        if status.leads() && newest.is_none_or(|newest| newest.term < status.term) {
            newest = Some(status);
        }
    }
    newest
}

/// Starts `clients` for each member, which together ask `rate` times a second until [`World::end`].
pub(crate) fn start_clients(
    world: &Arc<World>,
    workload: &Arc<Workload>,
    clients: usize,
    rate: f64,
    rng: &mut SimRng,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let members = world.members();
    let count = u32::try_from(members.len() * clients).unwrap_or(u32::MAX);
    let interval = Duration::from_secs_f64(f64::from(count) / rate);
    for &node in members.iter().cycle().take(members.len() * clients) {
        let rng = SimRng::seed_from_u64(rng.random());
        let (world, workload) = (Arc::clone(world), Arc::clone(workload));
        tasks.spawn(client(world, workload, node, interval, rng));
    }
    tasks
}

/// Starts a recorder and an observer for each member. They go on until the set is dropped.
pub(crate) fn start_observers(world: &Arc<World>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for node in world.members() {
        tasks.spawn(observer(Arc::clone(world), node));
        tasks.spawn(watch::recorder(Arc::clone(world), node));
    }
    tasks
}
