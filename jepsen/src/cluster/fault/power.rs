//! Power cuts: the disk ends in the middle of whatever it does, and what was not synced is gone.
//!
//! Each cut has a witness, a file that is written and not synced just before. If it is still there afterwards, the cut was
//! a mere kill, and does not count.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::{Nemesis, Struck, disk, last};
use crate::cluster::network::{Cut as NetworkCut, Loss};
use crate::cluster::node::{name, names};
use crate::power::Cut;

#[derive(Clone, Copy, Debug)]
pub(super) enum Whom {
    One,
    All,
    /// All but the leader, which was cut off before, at the moment it is let in again.
    MajorityAtHeal,
    /// All, after a while in which their syncs did nothing and said that they had succeeded.
    AllAfterLies,
}

const WITNESS: &[u8; 4096] = &[7; 4096];

impl Nemesis {
    pub(super) async fn power(
        &mut self,
        whom: Whom,
        leader: usize,
        duration: Duration,
    ) -> anyhow::Result<Struck> {
        let members = self.world.members();
        let nodes = match whom {
            Whom::One => vec![self.any(&members)?],
            Whom::All | Whom::AllAfterLies => members,
            Whom::MajorityAtHeal => self.others(&[leader]),
        };
        let mut dropped = String::new();
        if matches!(whom, Whom::MajorityAtHeal) {
            dropped = self.cut_off_for_a_while(leader, duration).await?;
        }
        let mut liars = Vec::new();
        if matches!(whom, Whom::AllAfterLies) {
            for &node in &nodes {
                let server = &self.cluster.nodes[node];
                let trace = server.setup.folder.join("strace-lies.log");
                liars.push(disk::attach(server.pid()?, "retval=0", &trace)?);
            }
            self.begin("lying disks:", &nodes);
            last(duration).await;
        }
        for &node in &nodes {
            // A server under trouble may end by itself when its disk is gone, with whatever last words.
            self.cluster.forgive(node);
            fs::write(self.witness(node), WITNESS)?;
        }
        for &node in &nodes {
            self.cluster.disk(node)?.cut(Cut::Hard)?;
        }
        let begin = self.begin("no power:", &nodes);
        let is_dead = nodes
            .iter()
            .all(|&node| fs::write(self.witness(node).with_extension("2"), WITNESS).is_err());
        // It meets the dead disk for a moment; what it still answers must be true.
        last(Duration::from_millis(30)).await;
        for &node in &nodes {
            self.cluster.nodes[node].kill_or_reap()?;
        }
        for liar in &mut liars {
            disk::detach(liar)?;
        }
        last(duration / 2).await;
        let mut lost = Vec::new();
        for &node in &nodes {
            self.cluster
                .disk(node)?
                .restore()
                .context("the disk did not come back")?;
            if fs::read(self.witness(node)).unwrap_or_default() != WITNESS {
                lost.push(node);
            }
        }
        let end = self.world.now();
        for &node in &nodes {
            self.cluster.start(node)?;
        }
        let survivors = self.others(&nodes);
        let has_majority = survivors.len() >= self.majority();
        Ok(Struck {
            begin,
            end,
            took_leader: nodes.contains(&leader) && has_majority,
            minority: if has_majority { Vec::new() } else { survivors },
            happened: is_dead && lost.len() == nodes.len(),
            proof: format!(
                "{dropped}every write to the disks of {} failed after the cut; what had not been synced was gone afterwards on {}",
                names(&nodes),
                names(&lost)
            ),
            nodes,
        })
    }

    fn witness(&self, node: usize) -> PathBuf {
        self.cluster.nodes[node].setup.folder.join("disk/witness")
    }

    async fn cut_off_for_a_while(
        &mut self,
        leader: usize,
        duration: Duration,
    ) -> anyhow::Result<String> {
        let others = self.others(&[leader]);
        let both = |&other: &usize| [(leader, other), (other, leader)];
        let cuts: Vec<NetworkCut> = others
            .iter()
            .flat_map(both)
            .map(|(from, to)| NetworkCut {
                from,
                to,
                loss: Loss::All,
            })
            .collect();
        self.cluster.network()?.cut(&cuts)?;
        self.begin("cut off", &[leader]);
        last(duration).await;
        let dropped = self.cluster.network()?.dropped(&cuts)?;
        self.cluster.network()?.cut(&[])?;
        let packets: u64 = dropped.iter().map(|(_, packets)| packets).sum();
        anyhow::ensure!(packets > 0, "no packet met the cut around {}", name(leader));
        Ok(format!(
            "{} was cut off, {packets} packets dropped; then ",
            name(leader)
        ))
    }
}
