//! kill -9, and a start on what is left.

use std::time::{Duration, Instant};

use rand::RngExt;

use super::{Nemesis, Struck, last};
use crate::cluster::node::names;

#[derive(Clone, Copy, Debug)]
pub(super) enum Whom {
    One,
    Leader,
    Majority,
    All,
    Loop,
}

impl Nemesis {
    pub(super) async fn kill(
        &mut self,
        whom: Whom,
        leader: usize,
        duration: Duration,
    ) -> anyhow::Result<Struck> {
        let members = self.world.members();
        let nodes = match whom {
            Whom::Loop => return self.kill_loop(&members, duration).await,
            Whom::One => vec![self.any(&members)?],
            Whom::Leader => vec![leader],
            Whom::Majority => self.some(leader, self.majority()),
            Whom::All => members,
        };
        let survivors = self.others(&nodes);
        let has_majority = survivors.len() >= self.majority();
        let mut proofs = Vec::new();
        for &node in &nodes {
            proofs.push(self.cluster.nodes[node].kill()?);
        }
        let begin = self.begin("killed", &nodes);
        let took_leader = nodes.contains(&leader);
        if took_leader && has_majority {
            self.probe(survivors.clone());
        }
        last(duration).await;
        let end = self.world.now();
        for &node in &nodes {
            self.cluster.start(node)?;
        }
        if took_leader && has_majority {
            proofs.push(self.new_leader(leader));
        }
        proofs.push(format!("{} started again", names(&nodes)));
        Ok(Struck {
            begin,
            end,
            took_leader: took_leader && has_majority,
            minority: if has_majority { Vec::new() } else { survivors },
            // Each kill has seen its process end by the signal.
            happened: true,
            proof: proofs.join("; "),
            nodes,
        })
    }

    /// Whoever is hit may not have served yet since the last time.
    async fn kill_loop(&mut self, members: &[usize], duration: Duration) -> anyhow::Result<Struck> {
        let begin = self.begin("killed in turn:", members);
        let since = Instant::now();
        let mut proofs = Vec::new();
        while since.elapsed() < duration {
            let node = self.any(members)?;
            proofs.push(self.cluster.nodes[node].kill()?);
            last(Duration::from_millis(self.rng.random_range(0..200))).await;
            self.cluster.start(node)?;
            last(Duration::from_millis(self.rng.random_range(50..700))).await;
        }
        Ok(Struck {
            nodes: members.to_vec(),
            begin,
            end: self.world.now(),
            happened: true,
            proof: proofs.join("; "),
            ..Struck::default()
        })
    }
}
