//! What is broken on purpose. Each fault takes hold, lasts, is healed, and brings the proof that it really happened.
//!
//! A fault counts only with its proof: packets counted as dropped, a process seen as stopped, an end by signal 9. One
//! that could not be brought about is recorded with the reason, and then the run is no pass.

mod clock;
mod disk;
mod kill;
mod kinds;
mod membership;
mod partition;
mod power;
mod slow;
mod stop;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::SliceRandom;

use self::kinds::What;
pub(crate) use self::kinds::{KINDS, Kind, Need, Site, environment};
use super::connection::Connection;
use super::convergence;
use super::history::{Fault, Outcome};
use super::members::Cluster;
use super::model::Op;
use super::node::{name, names};
use super::traffic;
use super::world::World;
use crate::sim::SimRng;

/// How long a cluster that is whole may be without a leader before a fault is called off.
const LEADER_PATIENCE: Duration = Duration::from_secs(10);
/// How long after a fault each member must answer a linearizable read.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(40);
/// How long the next acknowledged write is waited for after the leader was taken.
const PROBE_PATIENCE: Duration = Duration::from_secs(12);

/// What a fault came to while it lasted.
#[derive(Debug, Default)]
struct Struck {
    nodes: Vec<usize>,
    begin: u64,
    end: u64,
    took_leader: bool,
    minority: Vec<usize>,
    happened: bool,
    proof: String,
}

/// What came after a fault.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    pub(crate) recovered: Option<u64>,
    pub(crate) converged: Option<u64>,
    pub(crate) damage: Option<String>,
    /// The newest that a member answered with.
    revision: i64,
}

/// The one who breaks things.
#[derive(Debug)]
pub(crate) struct Nemesis {
    pub(crate) cluster: Cluster,
    pub(crate) world: Arc<World>,
    pub(crate) rng: SimRng,
}

impl Nemesis {
    /// Breaks something for about that long, heals it, and waits until all members serve again.
    pub(crate) async fn strike(&mut self, kind: &Kind, duration: Duration) -> anyhow::Result<()> {
        let began = self.world.now();
        let leader = self.leader().await;
        *self.world.broken.lock() = kind.name.to_owned();
        let struck = match &leader {
            Ok(leader) => self.dispatch(kind.what, *leader, duration).await,
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        let struck = struck.unwrap_or_else(|error| Struck {
            begin: began,
            end: self.world.now(),
            proof: format!("{error:#}"),
            ..Struck::default()
        });
        *self.world.broken.lock() = format!("healed {}", kind.name);
        let recovery = self.recover().await?;
        self.world.broken.lock().clear();
        self.world.history.lock().faults.push(Fault {
            kind: kind.name.to_owned(),
            nodes: struck.nodes,
            begin: struck.begin,
            end: struck.end,
            recovered: recovery.recovered,
            converged: recovery.converged,
            damage: recovery.damage,
            leader: leader.ok(),
            took_leader: struck.took_leader,
            minority: struck.minority,
            happened: struck.happened,
            proof: struck.proof,
        });
        Ok(())
    }

    async fn dispatch(
        &mut self,
        what: What,
        leader: usize,
        duration: Duration,
    ) -> anyhow::Result<Struck> {
        match what {
            What::Kill(whom) => self.kill(whom, leader, duration).await,
            What::Stop(whom) => self.stop(whom, leader, duration).await,
            What::Cut(form) => self.cut(form, leader, duration).await,
            What::Slow => self.slow(duration).await,
            What::Power(whom) => self.power(whom, leader, duration).await,
            What::Disk(trouble) => self.disk(trouble, leader, duration).await,
            What::Members(change) => self.change_members(change, leader, duration).await,
            What::Clock => self.clock(duration).await,
        }
    }

    /// Who leads now.
    async fn leader(&self) -> anyhow::Result<usize> {
        let since = Instant::now();
        while since.elapsed() < LEADER_PATIENCE {
            if let Some(status) = traffic::leader(&self.world).await {
                return Ok(status.node);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("no member says that it leads, {LEADER_PATIENCE:?} long")
    }

    /// Whether the fault leaves a majority of which nobody was the leader, one that must elect: then it is asked for its
    /// first write.
    fn probe(&self, survivors: Vec<usize>) {
        let world = Arc::clone(&self.world);
        tokio::spawn(traffic::probe(world, survivors, PROBE_PATIENCE));
    }

    /// Everything heals and runs; returns when every member has answered a linearizable read and shows the same hash.
    pub(crate) async fn recover(&mut self) -> anyhow::Result<Recovery> {
        if let Ok(network) = self.cluster.network() {
            network.cut(&[])?;
        }
        let mut recovery = Recovery::default();
        let since = Instant::now();
        let members = self.world.members();
        let mut waiting = members.clone();
        while !waiting.is_empty() {
            self.cluster.restart(&waiting)?;
            let mut still = Vec::new();
            for node in waiting {
                match self.revision(node).await {
                    Some(revision) => recovery.revision = recovery.revision.max(revision),
                    None => still.push(node),
                }
            }
            waiting = still;
            if since.elapsed() > RECOVERY_PATIENCE {
                recovery.damage = Some(format!(
                    "{} did not answer a read within {RECOVERY_PATIENCE:?} after the fault",
                    names(&waiting)
                ));
                return Ok(recovery);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        recovery.recovered = Some(self.world.now());
        // Hashes of a revision that is taken away meanwhile cannot be had.
        let world = Arc::clone(&self.world);
        let _guard = world.compaction.lock().await;
        for &node in &members {
            let revision = self.revision(node).await.unwrap_or(0);
            recovery.revision = recovery.revision.max(revision);
        }
        match convergence::wait(&self.world, &members, recovery.revision).await {
            Ok(_) => recovery.converged = Some(self.world.now()),
            Err(error) => recovery.damage = Some(format!("{error:#}")),
        }
        self.cluster.forgive_no_more();
        Ok(recovery)
    }

    /// Asks for a linearizable read, which is recorded as all others are.
    pub(crate) async fn revision(&self, node: usize) -> Option<i64> {
        let endpoint = self.world.endpoints[node].clone();
        let mut connection = Connection::new(endpoint, Duration::from_secs(1));
        let op = Op::Get {
            key: "ready".to_owned(),
            serializable: false,
        };
        let process = self.world.new_process();
        let operation = self.world.ask(&mut connection, process, node, op).await;
        (operation.outcome == Outcome::Ok).then_some(operation.revision)
    }

    /// Any of these.
    fn any(&mut self, nodes: &[usize]) -> anyhow::Result<usize> {
        anyhow::ensure!(!nodes.is_empty(), "there is no member for that");
        Ok(nodes[self.rng.random_range(0..nodes.len())])
    }

    /// All members but these.
    fn others(&self, nodes: &[usize]) -> Vec<usize> {
        let members = self.world.members();
        let others = members.into_iter().filter(|node| !nodes.contains(node));
        others.collect()
    }

    /// That many members, `first` among them.
    fn some(&mut self, first: usize, count: usize) -> Vec<usize> {
        let mut others = self.others(&[first]);
        others.shuffle(&mut self.rng);
        let mut some = vec![first];
        some.extend(others.into_iter().take(count - 1));
        some.sort_unstable();
        some
    }

    /// How many make a majority.
    fn majority(&self) -> usize {
        self.world.members().len() / 2 + 1
    }

    fn begin(&self, what: &str, nodes: &[usize]) -> u64 {
        *self.world.broken.lock() = format!("{what} {}", names(nodes));
        self.world.now()
    }

    /// Who leads in a newer term than at the beginning of a fault, for its proof.
    fn new_leader(&self, before: usize) -> String {
        match self.world.rumoured_leader() {
            Some((leader, term)) if leader != before => {
                format!("then {} led in term {term}", name(leader))
            }
            _ => "nobody else came to lead".to_owned(),
        }
    }
}

/// Sleeps for the time that a fault lasts.
async fn last(duration: Duration) {
    tokio::time::sleep(duration).await;
}
