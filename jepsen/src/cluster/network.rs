//! A network of its own for a cluster: one namespace for each member, all on one bridge, which drops what it is told to.
//!
//! ```text
//! n1 eth0 --- p1 \
//! n2 eth0 --- p2 - br0 (hub namespace; nft decides by port in and port out) - pc --- harness (clients)
//! n3 eth0 --- p3 /
//! ```
//! Members see each other under the same addresses as everybody sees them, whatever is cut. Clients come in by a port
//! of their own, so that a cut between members leaves every member reachable for its clients.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use super::shell::{run, run_with_input, try_run};

/// Networks that may exist on one machine at a time.
const NUMBERS: u8 = 32;

/// What happens to packets from one member to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    All,
    /// That many of a hundred, at random.
    Percent(u8),
}

/// Packets in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) loss: Loss,
}

/// How many packets a cut has dropped.
pub(crate) type Dropped = (Cut, u64);

/// Taken down when dropped.
#[derive(Debug)]
pub(crate) struct Network {
    number: u8,
    nodes: usize,
    /// Says that the number is taken; what an earlier holder left behind may be removed.
    _lock: File,
}

/// Why this machine cannot have one, if it cannot.
pub(crate) fn impossible() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    let needed = [
        ("ip -V", "iproute2"),
        ("nft --version", "nftables"),
        ("nsenter --version", "util-linux"),
    ];
    needed.into_iter().find_map(|(line, package)| {
        run(line)
            .err()
            .map(|_| format!("install the package {package}"))
    })
}

impl Network {
    pub(crate) fn new(nodes: usize) -> anyhow::Result<Network> {
        let (number, lock) = take_number()?;
        let network = Network {
            number,
            nodes,
            _lock: lock,
        };
        network.remove();
        network
            .build()
            .context("cannot make the cluster's network")?;
        Ok(network)
    }

    fn build(&self) -> anyhow::Result<()> {
        let hub = self.hub();
        run(&format!("ip netns add {hub}"))?;
        run(&format!("ip -n {hub} link add br0 type bridge"))?;
        run(&format!("ip -n {hub} link set br0 up"))?;
        for node in 0..self.nodes {
            let (name, port) = (self.namespace(node), port(node));
            run(&format!("ip netns add {name}"))?;
            run(&format!(
                "ip link add {port} netns {hub} type veth peer name eth0 netns {name}"
            ))?;
            run(&format!("ip -n {hub} link set {port} master br0 up"))?;
            run(&format!(
                "ip -n {name} addr add {}/24 dev eth0",
                self.address(node)
            ))?;
            run(&format!("ip -n {name} link set eth0 up"))?;
            run(&format!("ip -n {name} link set lo up"))?;
        }
        let (ours, number) = (self.harness_link(), self.number);
        run(&format!(
            "ip link add pc netns {hub} type veth peer name {ours}"
        ))?;
        run(&format!("ip -n {hub} link set pc master br0 up"))?;
        run(&format!("ip addr add 10.213.{number}.1/24 dev {ours}"))?;
        run(&format!("ip link set {ours} up"))?;
        self.cut(&[])
    }

    /// Where everybody reaches a member.
    pub(crate) fn address(&self, node: usize) -> String {
        format!("10.213.{}.{}", self.number, 11 + node)
    }

    /// The namespace that a member's process must run in.
    pub(crate) fn namespace(&self, node: usize) -> String {
        format!("hfj{}-n{}", self.number, node + 1)
    }

    fn hub(&self) -> String {
        format!("hfj{}-hub", self.number)
    }

    fn harness_link(&self) -> String {
        format!("hfj{}", self.number)
    }

    /// Drops exactly these packets from now on, and counts anew. No cuts: all is healed.
    pub(crate) fn cut(&self, cuts: &[Cut]) -> anyhow::Result<()> {
        // One transaction: no packet meets half of the rules. The table is added first so that it can be deleted.
        let mut rules = String::from(
            "add table bridge jepsen\ndelete table bridge jepsen\ntable bridge jepsen {\n  \
             chain cuts {\n    type filter hook forward priority 0; policy accept;\n",
        );
        for cut in cuts {
            let chance = match cut.loss {
                Loss::All => String::new(),
                Loss::Percent(percent) => format!("numgen random mod 100 < {percent} "),
            };
            writeln!(
                rules,
                "    iifname \"{}\" oifname \"{}\" {chance}counter drop",
                port(cut.from),
                port(cut.to)
            )?;
        }
        rules.push_str("  }\n}\n");
        run_with_input(&format!("ip netns exec {} nft -f -", self.hub()), &rules).map(drop)
    }

    /// What each cut in force has dropped.
    pub(crate) fn dropped(&self, cuts: &[Cut]) -> anyhow::Result<Vec<Dropped>> {
        let line = format!(
            "ip netns exec {} nft list chain bridge jepsen cuts",
            self.hub()
        );
        let rules = run(&line)?;
        let counts = rules.lines().filter_map(|line| {
            let (_, rest) = line.split_once("counter packets ")?;
            rest.split_whitespace().next()?.parse().ok()
        });
        // Rules are listed in the order in which they were added.
        Ok(cuts.iter().copied().zip(counts).collect())
    }

    /// Makes what a member sends slow: late where the kernel can do that, else through a narrow link, before which
    /// packets wait. Returns which.
    pub(crate) fn slow_down(&self, node: usize) -> anyhow::Result<&'static str> {
        let add = format!("tc -n {} qdisc add dev eth0 root", self.namespace(node));
        if run(&format!("{add} netem delay 60ms 30ms limit 5000")).is_ok() {
            return Ok("60 ms later, give or take 30");
        }
        run(&format!("{add} tbf rate 200kbit burst 2000 latency 800ms"))?;
        Ok("at 200 kbit/s")
    }

    /// Ends [`slow_down`](Network::slow_down), and tells how many packets had to wait.
    pub(crate) fn speed_up(&self, node: usize) -> anyhow::Result<u64> {
        let name = self.namespace(node);
        let said = run(&format!("tc -n {name} -s qdisc show dev eth0"))?;
        run(&format!("tc -n {name} qdisc del dev eth0 root"))?;
        // netem delays every packet; the other counts those that it held back.
        let counter = if said.contains("netem") {
            " bytes "
        } else {
            "overlimits "
        };
        let count = said.split_once(counter).and_then(|(_, rest)| {
            rest.split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse()
                .ok()
        });
        count.with_context(|| format!("tc tells no counter `{counter}`"))
    }

    /// Removes whatever exists under this number, processes included.
    fn remove(&self) {
        for node in 0..16 {
            let name = self.namespace(node);
            let Ok(pids) = run(&format!("ip netns pids {name}")) else {
                continue;
            };
            for pid in pids
                .split_whitespace()
                .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            {
                // Whoever is in there belongs to this cluster, and may be gone by now.
                let _ = kill_process(pid, Signal::KILL);
            }
            try_run(&format!("ip netns del {name}"));
        }
        try_run(&format!("ip netns del {}", self.hub()));
        try_run(&format!("ip link del {}", self.harness_link()));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}

fn port(node: usize) -> String {
    format!("p{}", node + 1)
}

fn take_number() -> anyhow::Result<(u8, File)> {
    for number in 1..=NUMBERS {
        let path = std::env::temp_dir().join(format!("holdfast-jepsen-{number}.lock"));
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok((number, file));
        }
    }
    bail!("{NUMBERS} clusters run already: end some first")
}
