//! Members that come and go, and leaders that hand over, under load.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use client::Client;
use proto::etcd::etcdserverpb::cluster_client::ClusterClient;
use proto::etcd::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberRemoveRequest, MoveLeaderRequest,
};
use std::sync::atomic::Ordering;

use super::{Nemesis, Struck, last};
use crate::cluster::connection::Connection;
use crate::cluster::node::name;
use crate::cluster::traffic;

#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Replace,
    Grow,
    MoveLeader,
}

/// etcd refuses to change members until all have been in touch for five seconds.
const PATIENCE: Duration = Duration::from_secs(15);
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

impl Nemesis {
    pub(super) async fn change_members(
        &mut self,
        change: Change,
        leader: usize,
        duration: Duration,
    ) -> anyhow::Result<Struck> {
        match change {
            Change::Replace => self.replace(leader, duration).await,
            Change::Grow => self.grow(leader, duration).await,
            Change::MoveLeader => self.move_leader(duration).await,
        }
    }

    async fn client(&self, node: usize) -> anyhow::Result<Client> {
        let mut connection = Connection::new(self.world.endpoints[node].clone(), CALL_TIMEOUT);
        let client = connection.client().await;
        client.map_err(|failure| anyhow::anyhow!("{}: {}", name(node), failure.error))
    }

    /// The member with the address of that place.
    async fn member(&self, via: usize, node: usize) -> anyhow::Result<Option<Member>> {
        let mut cluster = ClusterClient::new(self.client(via).await?.channel());
        let call = cluster.member_list(MemberListRequest { linearizable: true });
        let list = tokio::time::timeout(CALL_TIMEOUT, call)
            .await??
            .into_inner();
        let url = &self.cluster.nodes[node].setup.peer_url;
        Ok(list
            .members
            .into_iter()
            .find(|member| member.peer_urls.contains(url)))
    }

    async fn remove(&self, via: usize, node: usize) -> anyhow::Result<u64> {
        let member = self.member(via, node).await?.context("it is no member")?;
        let since = Instant::now();
        loop {
            let mut cluster = ClusterClient::new(self.client(via).await?.channel());
            let request = MemberRemoveRequest { id: member.id };
            let answer = tokio::time::timeout(CALL_TIMEOUT, cluster.member_remove(request)).await?;
            match answer {
                Ok(_) => return Ok(member.id),
                // A first attempt whose answer was lost may have done it.
                Err(_) if self.member(via, node).await?.is_none() => return Ok(member.id),
                Err(error) if since.elapsed() > PATIENCE => {
                    bail!("cannot remove {}: {error}", name(node))
                }
                Err(_) => last(Duration::from_millis(300)).await,
            }
        }
    }

    async fn add(&self, via: usize, node: usize) -> anyhow::Result<u64> {
        let since = Instant::now();
        loop {
            let mut cluster = ClusterClient::new(self.client(via).await?.channel());
            let request = MemberAddRequest {
                peer_urls: vec![self.cluster.nodes[node].setup.peer_url.clone()],
                is_learner: false,
            };
            let answer = tokio::time::timeout(CALL_TIMEOUT, cluster.member_add(request)).await?;
            match answer {
                Ok(answer) => {
                    let member = answer.into_inner().member;
                    return Ok(member.context("an answer without the new member")?.id);
                }
                Err(error) => {
                    if let Some(member) = self.member(via, node).await? {
                        return Ok(member.id);
                    }
                    ensure!(
                        since.elapsed() < PATIENCE,
                        "cannot add {}: {error}",
                        name(node)
                    );
                    last(Duration::from_millis(300)).await;
                }
            }
        }
    }

    /// A follower is lost with its disk. It is removed, and joins as a new member under the same address.
    async fn replace(&mut self, leader: usize, duration: Duration) -> anyhow::Result<Struck> {
        let followers = self.others(&[leader]);
        let target = self.any(&followers)?;
        let members = self.world.members();
        self.cluster.nodes[target].kill()?;
        let begin = self.begin("lost", &[target]);
        last(duration / 2).await;
        let old = self.remove(leader, target).await?;
        self.cluster.nodes[target].wipe()?;
        let new = self.add(leader, target).await?;
        self.cluster.joins(target, &members);
        let end = self.world.now();
        self.cluster.start(target)?;
        ensure!(
            old != new,
            "the new member has the identity {old:x} of the old one"
        );
        Ok(Struck {
            nodes: vec![target],
            begin,
            end,
            happened: true,
            proof: format!(
                "{} was member {old:x}, lost all, and joined as {new:x}",
                name(target)
            ),
            ..Struck::default()
        })
    }

    /// One more member joins, stays for a while, and is removed.
    async fn grow(&mut self, leader: usize, duration: Duration) -> anyhow::Result<Struck> {
        let members = self.world.members();
        let spare = self.cluster.nodes.len() - 1;
        ensure!(!members.contains(&spare), "there is no place for one more");
        self.cluster.nodes[spare].wipe()?;
        let begin = self.begin("joins:", &[spare]);
        let id = self.add(leader, spare).await?;
        let mut more = members.clone();
        more.push(spare);
        self.cluster.joins(spare, &more);
        self.cluster.start(spare)?;
        self.world.members[spare].store(true, Ordering::SeqCst);
        let grown = self.recover().await;
        last(duration).await;
        // Whoever leads now; it may be the one that joined.
        let via = self.leader().await?;
        let removed = self.remove(via, spare).await;
        self.world.members[spare].store(false, Ordering::SeqCst);
        let end = self.world.now();
        removed?;
        // A removed member may end by itself.
        self.cluster.nodes[spare].kill_or_reap()?;
        self.cluster.nodes[spare].wipe()?;
        let grown = grown?;
        if let Some(damage) = grown.damage {
            bail!("with {} as one more member: {damage}", name(spare));
        }
        Ok(Struck {
            nodes: vec![spare],
            begin,
            end,
            happened: grown.converged.is_some(),
            proof: format!(
                "{} joined as member {id:x}, showed the same hash as the others, and was removed",
                name(spare)
            ),
            ..Struck::default()
        })
    }

    /// Asks whoever leads to hand over to another, as long as it lasts.
    async fn move_leader(&mut self, duration: Duration) -> anyhow::Result<Struck> {
        let members = self.world.members();
        let begin = self.begin("moving leaders:", &members);
        let since = Instant::now();
        let (mut moved, mut refused) = (Vec::new(), Vec::new());
        while since.elapsed() < duration {
            let from = self.leader().await?;
            let others = self.others(&[from]);
            let to = self.any(&others)?;
            let Some(member) = self.member(from, to).await? else {
                bail!("{} is no member", name(to));
            };
            let mut maintenance = self.client(from).await?.maintenance();
            let asked = Instant::now();
            let request = MoveLeaderRequest {
                target_id: member.id,
            };
            let answer =
                tokio::time::timeout(CALL_TIMEOUT, maintenance.move_leader(request)).await?;
            let took = asked.elapsed().as_millis();
            match answer {
                Ok(_) if self.leads(to).await => {
                    moved.push(format!("{}>{} {took} ms", name(from), name(to)))
                }
                Ok(_) => refused.push(format!(
                    "{} said yes, but {} does not lead",
                    name(from),
                    name(to)
                )),
                Err(error) => refused.push(error.message().to_owned()),
            }
            last(Duration::from_millis(400)).await;
        }
        refused.dedup();
        Ok(Struck {
            nodes: members,
            begin,
            end: self.world.now(),
            happened: !moved.is_empty(),
            proof: format!(
                "handed over: {}; refused: {}",
                moved.join(", "),
                refused.join(", ")
            ),
            ..Struck::default()
        })
    }

    async fn leads(&self, node: usize) -> bool {
        traffic::leader(&self.world)
            .await
            .is_some_and(|status| status.node == node)
    }
}
