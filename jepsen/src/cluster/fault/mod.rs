//! What is broken on purpose. Each fault takes hold, lasts, is healed, and brings the proof that it really happened.
//!
//! A fault counts only with its proof: packets counted as dropped, a process seen as stopped, an end by signal 9. One
//! that could not be brought about is recorded with the reason, and then the run is no pass.

mod clock;
mod disk;
mod kill;
mod membership;
mod partition;
mod power;
mod slow;
mod stop;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::SliceRandom;

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

/// What a fault needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Other members.
    Peers,
    /// Of its own.
    Network,
    /// A file system for each member.
    Disk,
    /// A place for one more member.
    Spare,
    /// System calls that fail when they are told to.
    Trace,
    /// A wall clock that goes as it is told.
    Clock,
}

/// One kind of fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// What it does, for the one who chooses.
    pub(crate) about: &'static str,
    pub(crate) needs: &'static [Need],
    /// Whether it breaks what every store may rely on: then promises must be seen broken, or the harness sees nothing.
    pub(crate) is_control: bool,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Kill(kill::Whom),
    Stop(stop::Whom),
    Cut(partition::Form),
    Slow,
    Power(power::Whom),
    Disk(disk::Trouble),
    Members(membership::Change),
    Clock,
}

const fn kind(name: &'static str, what: What, needs: &'static [Need], about: &'static str) -> Kind {
    Kind {
        name,
        about,
        needs,
        is_control: false,
        what,
    }
}

const fn control(kind: Kind) -> Kind {
    Kind {
        is_control: true,
        ..kind
    }
}

const PEERS: &[Need] = &[Need::Peers];
const NET: &[Need] = &[Need::Peers, Need::Network];
const DISK: &[Need] = &[Need::Disk];
const TRACE: &[Need] = &[Need::Trace];

/// All kinds.
pub(crate) const KINDS: &[Kind] = &[
    kind(
        "kill-one",
        What::Kill(kill::Whom::One),
        &[],
        "kill -9 of any member, started again",
    ),
    kind(
        "kill-leader",
        What::Kill(kill::Whom::Leader),
        &[],
        "kill -9 of the leader, started again",
    ),
    kind(
        "kill-majority",
        What::Kill(kill::Whom::Majority),
        &[],
        "kill -9 of a majority at once, the leader among them",
    ),
    kind(
        "kill-all",
        What::Kill(kill::Whom::All),
        &[],
        "kill -9 of all members at once",
    ),
    kind(
        "kill-loop",
        What::Kill(kill::Whom::Loop),
        &[],
        "kill -9 of one member after the other, each started again at once",
    ),
    kind(
        "stop-leader",
        What::Stop(stop::Whom::Leader),
        PEERS,
        "SIGSTOP of the leader, then SIGCONT",
    ),
    kind(
        "stop-follower",
        What::Stop(stop::Whom::Follower),
        PEERS,
        "SIGSTOP of a follower, then SIGCONT",
    ),
    kind(
        "stop-flap",
        What::Stop(stop::Whom::Flap),
        PEERS,
        "SIGSTOP and SIGCONT of the leader, each for 50 to 1500 ms",
    ),
    kind(
        "part-leader",
        What::Cut(partition::Form::Leader),
        NET,
        "the leader is cut off from all others",
    ),
    kind(
        "part-follower",
        What::Cut(partition::Form::Follower),
        NET,
        "a follower is cut off from all others",
    ),
    kind(
        "part-halves",
        What::Cut(partition::Form::Halves),
        NET,
        "a majority and a minority that do not hear each other",
    ),
    kind(
        "part-bridge",
        What::Cut(partition::Form::Bridge),
        NET,
        "two halves that only one member in between hears",
    ),
    kind(
        "part-oneway",
        What::Cut(partition::Form::OneWay),
        NET,
        "one member can send and not receive, or receive and not send",
    ),
    kind(
        "part-flap",
        What::Cut(partition::Form::Flap),
        NET,
        "the leader is cut off and let in again every 50 to 500 ms",
    ),
    kind(
        "part-kill",
        What::Cut(partition::Form::Kill),
        NET,
        "a minority is cut off, and one of the others is killed and started again",
    ),
    kind(
        "loss",
        What::Cut(partition::Form::Loss),
        NET,
        "between all members 10 to 40 % of the packets are lost",
    ),
    kind(
        "slow",
        What::Slow,
        NET,
        "members send through a narrow or slow link",
    ),
    kind(
        "power-one",
        What::Power(power::Whom::One),
        DISK,
        "a power cut of one member: what it had not synced is gone",
    ),
    kind(
        "power-all",
        What::Power(power::Whom::All),
        DISK,
        "a power cut of all members at once",
    ),
    kind(
        "part-power",
        What::Power(power::Whom::MajorityAtHeal),
        &[Need::Peers, Need::Disk, Need::Network],
        "the leader is cut off; when it is let in, the power of all others fails",
    ),
    kind(
        "disk-full",
        What::Disk(disk::Trouble::Full),
        DISK,
        "not a byte is left on the disk of a member, then there is space again",
    ),
    kind(
        "disk-error",
        What::Disk(disk::Trouble::Error),
        TRACE,
        "every sync of a member fails with EIO",
    ),
    kind(
        "disk-slow",
        What::Disk(disk::Trouble::Slow),
        TRACE,
        "every sync of a member takes 200 ms longer",
    ),
    kind(
        "member-replace",
        What::Members(membership::Change::Replace),
        PEERS,
        "a follower loses its disk and comes back as a new member",
    ),
    kind(
        "member-grow",
        What::Members(membership::Change::Grow),
        &[Need::Peers, Need::Spare],
        "one more member joins and is removed again",
    ),
    kind(
        "move-leader",
        What::Members(membership::Change::MoveLeader),
        PEERS,
        "the leader is asked to hand over, again and again",
    ),
    kind(
        "clock",
        What::Clock,
        &[Need::Clock],
        "the wall clocks of members jump by up to an hour, there and back",
    ),
    control(kind(
        "power-lie",
        What::Power(power::Whom::AllAfterLies),
        &[Need::Disk, Need::Trace],
        "control, never part of `all`: syncs do nothing, then the power fails",
    )),
];

/// The kind of that name.
pub(crate) fn find(wanted: &str) -> Result<&'static Kind, String> {
    let found = KINDS.iter().find(|kind| kind.name == wanted);
    found.ok_or_else(|| {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        format!("no such fault; there are {}", names.join(", "))
    })
}

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
        match convergence::wait(&self.world, &members, recovery.revision).await {
            Ok(_) => recovery.converged = Some(self.world.now()),
            Err(error) => recovery.damage = Some(format!("{error:#}")),
        }
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

/// Where faults are to happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) members: usize,
    pub(crate) has_network: bool,
}

impl Site<'_> {
    /// Why this kind of fault cannot be had here, if it cannot.
    pub(crate) fn lacks(&self, kind: &Kind) -> Option<String> {
        kind.needs.iter().find_map(|need| match need {
            Need::Peers => (self.members < 2).then(|| "there is only one member".to_owned()),
            Need::Network if self.has_network => None,
            Need::Network => {
                let why = super::network::impossible();
                Some(why.unwrap_or_else(|| "members have no network of their own".to_owned()))
            }
            Need::Disk => {
                // It mounts a disk to find out.
                static ANSWER: OnceLock<Option<String>> = OnceLock::new();
                ANSWER.get_or_init(crate::power::impossible).clone()
            }
            Need::Spare => None,
            Need::Trace => disk::impossible(),
            Need::Clock => clock::impossible(self.binary),
        })
    }

    /// The kinds by name, as `a,b,c`; `all` for all that can be had, controls aside.
    pub(crate) fn parse(&self, list: &str) -> anyhow::Result<Vec<&'static Kind>> {
        match list {
            "none" | "" => return Ok(Vec::new()),
            "all" => {
                let can_be_had = |kind: &&Kind| !kind.is_control && self.lacks(kind).is_none();
                return Ok(KINDS.iter().filter(can_be_had).collect());
            }
            _ => {}
        }
        list.split(',')
            .map(|name| {
                let kind = find(name).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
                match self.lacks(kind) {
                    None => Ok(kind),
                    Some(why) => anyhow::bail!("{name} cannot be had: {why}"),
                }
            })
            .collect()
    }
}

/// What the member with this folder must be started with, so that these can be had.
pub(crate) fn environment(kinds: &[&Kind], folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    if kinds.iter().any(|kind| kind.needs.contains(&Need::Clock)) {
        return clock::environment(folder);
    }
    Ok(Vec::new())
}
