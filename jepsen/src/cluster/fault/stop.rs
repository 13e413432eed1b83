//! SIGSTOP and SIGCONT: a member that does nothing for a while and then goes on as if no time had passed.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rand::RngExt;

use super::{Nemesis, Struck, last};
use crate::cluster::node::name;

#[derive(Clone, Copy, Debug)]
pub(super) enum Whom {
    Leader,
    Follower,
    Flap,
}

impl Nemesis {
    pub(super) async fn stop(
        &mut self,
        whom: Whom,
        leader: usize,
        duration: Duration,
    ) -> anyhow::Result<Struck> {
        let target = match whom {
            Whom::Flap => return self.stop_and_go(leader, duration).await,
            Whom::Leader => leader,
            Whom::Follower => {
                let followers = self.others(&[leader]);
                self.any(&followers)?
            }
        };
        let survivors = self.others(&[target]);
        let has_majority = survivors.len() >= self.majority();
        let took_leader = target == leader && has_majority;
        self.cluster.nodes[target].stop()?;
        let begin = self.begin("stopped", &[target]);
        if took_leader {
            self.probe(survivors);
        }
        last(duration).await;
        let state = self.cluster.nodes[target].state()?;
        let end = self.world.now();
        // Before it goes on, so that what it says of itself is not yet heard.
        let succession = self.new_leader(leader);
        self.cluster.nodes[target].go_on()?;
        ensure!(
            state == 'T',
            "{} did not stay stopped: its state was {state}",
            name(target)
        );
        let mut proof = format!("{} was in state T from SIGSTOP to SIGCONT", name(target));
        if took_leader {
            proof = format!("{proof}; {succession}");
        }
        Ok(Struck {
            nodes: vec![target],
            begin,
            end,
            took_leader,
            minority: Vec::new(),
            happened: true,
            proof,
        })
    }

    /// The one who led at the beginning, for less and for more than an election takes.
    async fn stop_and_go(&mut self, target: usize, duration: Duration) -> anyhow::Result<Struck> {
        let begin = self.begin("stop and go:", &[target]);
        let since = Instant::now();
        let mut stops = 0;
        while since.elapsed() < duration {
            self.cluster.nodes[target].stop()?;
            last(Duration::from_millis(self.rng.random_range(50..1_500))).await;
            self.cluster.nodes[target].go_on()?;
            stops += 1;
            last(Duration::from_millis(self.rng.random_range(50..700))).await;
        }
        Ok(Struck {
            nodes: vec![target],
            begin,
            end: self.world.now(),
            happened: stops > 0,
            proof: format!("{} was in state T {stops} times", name(target)),
            ..Struck::default()
        })
    }
}
