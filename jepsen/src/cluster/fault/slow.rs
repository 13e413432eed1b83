//! A network that is slow but loses nothing.

use std::time::Duration;

use super::{Nemesis, Struck, last};
use crate::cluster::node::name;

impl Nemesis {
    /// The leader, or all, send through a slow link, to each other and to clients. What followers send may well fit a
    /// narrow link when the leader's does not.
    pub(super) async fn slow(&mut self, duration: Duration) -> anyhow::Result<Struck> {
        let members = self.world.members();
        let nodes = if rand::RngExt::random(&mut self.rng) {
            vec![self.leader().await?]
        } else {
            members
        };
        let network = self.cluster.network()?;
        let mut how = "";
        for &node in &nodes {
            how = network.slow_down(node)?;
        }
        let begin = self.begin("slow", &nodes);
        last(duration).await;
        let end = self.world.now();
        let network = self.cluster.network()?;
        let mut waited = Vec::new();
        let mut happened = false;
        for &node in &nodes {
            let packets = network.speed_up(node)?;
            happened |= packets > 0;
            waited.push(format!("{} {packets}", name(node)));
        }
        Ok(Struck {
            begin,
            end,
            happened,
            proof: format!("{how}; packets that had to wait: {}", waited.join(", ")),
            nodes,
            ..Struck::default()
        })
    }
}
