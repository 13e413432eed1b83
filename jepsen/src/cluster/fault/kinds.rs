//! All kinds of faults, what each needs, and whether it can be had.

use std::path::Path;
use std::sync::OnceLock;

use super::{clock, disk, kill, membership, partition, power, stop};
use crate::cluster::network;

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
    pub(super) what: What,
}

/// Who carries it out.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
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
                let why = network::impossible();
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
