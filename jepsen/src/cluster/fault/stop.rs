//! SIGSTOP and SIGCONT: a member that does nothing for a while and then goes on as if no time had passed.

use std::time::Duration;

use anyhow::ensure;

use super::{Nemesis, Struck, last};
use crate::cluster::node::name;

#[derive(Clone, Copy, Debug)]
pub(super) enum Whom {
    Leader,
    Follower,
}

impl Nemesis {
    pub(super) async fn stop(
        &mut self,
        whom: Whom,
        leader: usize,
        duration: Duration,
    ) -> anyhow::Result<Struck> {
        let target = match whom {
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
}
