//! Three members on this machine, each a server with ports and a folder of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use proto::etcd::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, StatusRequest, StatusResponse,
};
use tokio::runtime::{Builder, Runtime};

use crate::compare::server::{Kind, PATIENCE, Server};
use crate::wire::{self, Method};

/// How many members a cluster has here.
pub(crate) const MEMBERS: usize = 3;
/// Below the ports that Linux gives to outgoing connections by default: none of those may take the port of a
/// member that is down.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// How long a member may take to tell its status.
const STATUS_PATIENCE: Duration = Duration::from_secs(1);
/// How long any other call may take.
const CALL_PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// A cluster on fresh data; all its members are killed when it is dropped.
pub(crate) struct Cluster {
    kind: Kind,
    binary: PathBuf,
    folder: PathBuf,
    /// Flags of every member.
    flags: Vec<String>,
    /// Where each is found by the others.
    peers: Vec<SocketAddr>,
    members: Vec<Server>,
    runtime: Runtime,
}

/// Whom a member takes for the leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Opinion {
    member: u64,
    leader: u64,
    term: u64,
}

impl Cluster {
    /// Starts all members with these flags, and waits until they agree on a leader and answer.
    pub(crate) fn start(
        kind: Kind,
        binary: &Path,
        folder: &Path,
        flags: &[String],
    ) -> Result<Cluster> {
        let listeners = listeners(2 * MEMBERS)?;
        let addresses = listeners.iter().map(TcpListener::local_addr);
        let addresses = addresses.collect::<std::io::Result<Vec<_>>>()?;
        drop(listeners);
        let (clients, peers) = addresses.split_at(MEMBERS);
        let all = initial_cluster(peers);
        let mut cluster = Cluster {
            kind,
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            flags: flags.to_vec(),
            peers: peers.to_vec(),
            members: Vec::new(),
            runtime: Builder::new_current_thread().enable_all().build()?,
        };
        for (client, peer) in clients.iter().zip(peers) {
            cluster.spawn([*client, *peer], vec![format!("--initial-cluster={all}")])?;
        }
        cluster.wait_until_healthy()?;
        Ok(cluster)
    }

    /// Starts the next member.
    fn spawn(&mut self, [client, peer]: [SocketAddr; 2], more: Vec<String>) -> Result<()> {
        let name = name(self.members.len());
        let mut arguments = vec![
            format!("--name={name}"),
            format!("--initial-advertise-peer-urls=http://{peer}"),
        ];
        arguments.extend(more);
        arguments.extend_from_slice(&self.flags);
        let folder = self.folder.join(name);
        let member = Server::spawn(self.kind, &self.binary, &folder, [client, peer], arguments)?;
        self.members.push(member);
        Ok(())
    }

    /// Adds a learner, starts it, and does not wait for it; answers its id.
    pub(crate) fn grow(&mut self) -> Result<u64> {
        let listeners = listeners(2)?;
        let addresses = listeners.iter().map(TcpListener::local_addr);
        let addresses = addresses.collect::<std::io::Result<Vec<_>>>()?;
        drop(listeners);
        let [client, peer] = [addresses[0], addresses[1]];
        let request = MemberAddRequest {
            peer_urls: vec![format!("http://{peer}")],
            is_learner: true,
        };
        let path = "/etcdserverpb.Cluster/MemberAdd";
        let added: MemberAddResponse = self.call(0, path, &request)?;
        let id = added.member.context("an answer without the member")?.id;
        self.peers.push(peer);
        let more = vec![
            format!("--initial-cluster={}", initial_cluster(&self.peers)),
            "--initial-cluster-state=existing".to_owned(),
        ];
        self.spawn([client, peer], more)?;
        Ok(id)
    }

    /// One call to a member, on a connection of its own.
    pub(crate) fn call<T: Message + Default>(
        &self,
        member: usize,
        path: &str,
        request: &impl Message,
    ) -> Result<T> {
        let endpoint = self.members[member].endpoint();
        self.runtime.block_on(async {
            let call = async {
                let method = Method::new(endpoint, path)?;
                wire::connect(endpoint).await?.fetch(&method, request).await
            };
            tokio::time::timeout(CALL_PATIENCE, call)
                .await
                .with_context(|| format!("no answer to {path}"))?
        })
    }

    /// A member, by its number.
    pub(crate) fn member(&mut self, number: usize) -> &mut Server {
        &mut self.members[number]
    }

    /// The processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.members.iter().map(Server::pid).collect()
    }

    /// Where clients connect: to `first`, then to the others.
    pub(crate) fn endpoints(&self, first: usize) -> Vec<SocketAddr> {
        let mut endpoints: Vec<_> = self.members.iter().map(Server::endpoint).collect();
        endpoints[..=first].rotate_right(1);
        endpoints
    }

    /// Waits until all members agree on a leader and each answers a linearizable get, which one that has not
    /// caught up cannot; gives back the number of the leader.
    pub(crate) fn wait_until_healthy(&mut self) -> Result<usize> {
        let patience = Instant::now() + PATIENCE;
        for member in &mut self.members {
            member.wait_until_serving(None)?;
        }
        loop {
            if let Some(leader) = self.leader() {
                return Ok(leader);
            }
            if Instant::now() > patience {
                bail!(
                    "no leader that all members name after {PATIENCE:?}; their last words:\n{}",
                    self.last_words()
                );
            }
            std::thread::sleep(POLL);
        }
    }

    /// The number of the leader, if all members name the same one now.
    pub(crate) fn leader(&self) -> Option<usize> {
        let opinions = self.members.iter().map(|member| {
            let opinion = async {
                tokio::time::timeout(STATUS_PATIENCE, opinion(member.endpoint()))
                    .await
                    .context("no answer")?
            };
            self.runtime.block_on(opinion).ok()
        });
        agreed(&opinions.collect::<Option<Vec<_>>>()?)
    }

    /// What every member said last, for a run that failed.
    pub(crate) fn last_words(&self) -> String {
        let words = self.members.iter().enumerate();
        let words =
            words.map(|(number, member)| format!("{}: {}", name(number), member.last_words()));
        words.collect::<Vec<_>>().join("\n")
    }
}

fn name(number: usize) -> String {
    format!("m{}", number + 1)
}

fn initial_cluster(peers: &[SocketAddr]) -> String {
    let members = peers.iter().enumerate();
    let members = members.map(|(number, peer)| format!("{}=http://{peer}", name(number)));
    members.collect::<Vec<_>>().join(",")
}

/// Free ports, all held until all are known. Where to begin looking depends on the process, so that two that run
/// side by side seldom want the same.
fn listeners(count: usize) -> Result<Vec<TcpListener>> {
    let span = u32::from(PORTS.end - PORTS.start);
    let begin = std::process::id().wrapping_mul(97) % span;
    let ports = (0..span).map(|step| u32::from(PORTS.start) + (begin + step) % span);
    let ports = ports.filter_map(|port| u16::try_from(port).ok());
    let free = ports.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    let free: Vec<_> = free.take(count).collect();
    ensure!(free.len() == count, "no {count} free ports in {PORTS:?}");
    Ok(free)
}

async fn opinion(endpoint: SocketAddr) -> Result<Opinion> {
    let method = Method::new(endpoint, "/etcdserverpb.Maintenance/Status")?;
    let mut channel = wire::connect(endpoint).await?;
    let status: StatusResponse = channel.fetch(&method, &StatusRequest::default()).await?;
    Ok(Opinion {
        member: status
            .header
            .context("a status without a header")?
            .member_id,
        leader: status.leader,
        term: status.raft_term,
    })
}

/// The number of the member that all name in the same term.
fn agreed(opinions: &[Opinion]) -> Option<usize> {
    let first = opinions.first()?;
    let same = |opinion: &Opinion| (opinion.leader, opinion.term) == (first.leader, first.term);
    if first.leader == 0 || !opinions.iter().all(same) {
        return None;
    }
    opinions
        .iter()
        .position(|opinion| opinion.member == first.leader)
}

#[cfg(test)]
mod tests {
    use super::{Opinion, agreed, initial_cluster, listeners};

    fn opinions(leaders: [(u64, u64); 3]) -> Vec<Opinion> {
        let members = [11, 12, 13].into_iter().zip(leaders);
        let opinion = |(member, (leader, term))| Opinion {
            member,
            leader,
            term,
        };
        members.map(opinion).collect()
    }

    #[test]
    fn a_leader_is_one_that_all_name_in_one_term() {
        assert_eq!(agreed(&opinions([(12, 3), (12, 3), (12, 3)])), Some(1));
        assert_eq!(agreed(&opinions([(12, 3), (12, 3), (13, 3)])), None);
        assert_eq!(agreed(&opinions([(12, 3), (12, 3), (12, 2)])), None);
        assert_eq!(agreed(&opinions([(0, 3), (0, 3), (0, 3)])), None);
        assert_eq!(agreed(&opinions([(14, 3), (14, 3), (14, 3)])), None);
        assert_eq!(agreed(&[]), None);
    }

    #[test]
    fn all_members_are_named_with_their_peer_addresses() {
        let peers = ["127.0.0.1:1", "127.0.0.1:2"].map(|peer| peer.parse().unwrap());
        assert_eq!(
            initial_cluster(&peers),
            "m1=http://127.0.0.1:1,m2=http://127.0.0.1:2"
        );
    }

    #[test]
    fn no_port_is_given_twice() {
        let listeners = listeners(6).unwrap();
        let mut ports: Vec<_> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 6);
    }
}
