//! The other members of a node that starts: who they are, how they are reached, and what they are told of it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::etcd::etcdserverpb::Member;
use tokio::runtime::Handle;

use super::{StartError, bind};
use crate::channel::Tcp;
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError, Identity};
use crate::listen::{self, Listeners, Plain};
use crate::node::{Call, CallError, Node};
use crate::peer::addresses::Addresses;
use crate::peer::grpc::{Grpc, Speaker};
use crate::peer::memory::Memory;
use crate::peer::serve::PeerService;
use crate::peer::{self, Inbound, Transport};
use crate::raft::Beginning;
use crate::{identity, logging, members};

/// How long after a failed try this member is published again.
const PUBLISH_AGAIN: Duration = Duration::from_secs(1);

/// Who takes part in a cluster that this node begins with or joins.
pub(crate) struct Founding {
    pub(crate) identity: Identity,
    /// With their ids, names and peer addresses.
    pub(crate) members: Vec<Member>,
}

/// The ids of a new cluster, computed from the settings.
pub(crate) fn bootstrap(config: &Config) -> Result<Founding, StartError> {
    let member = |(name, peer_urls): (String, Vec<String>)| Member {
        id: identity::bootstrap_member_id(&peer_urls, &config.initial_cluster_token),
        name,
        peer_urls,
        ..Member::default()
    };
    let members: Vec<_> = config.initial_members()?.into_iter().map(member).collect();
    let own = members.iter().find(|member| member.name == config.name);
    let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    Ok(Founding {
        identity: Identity {
            cluster_id: identity::cluster_id(&ids),
            // It is checked that there is one.
            member_id: own.map_or(0, |own| own.id),
        },
        members,
    })
}

/// How long a joining member looks for one that knows the cluster.
pub(super) const JOIN_PATIENCE: Duration = Duration::from_secs(30);

/// The ids of a cluster that knows this member already, asked of the others. `is_first`: this member has no data yet.
pub(super) fn join(
    config: &Config,
    is_first: bool,
    patience: Duration,
) -> Result<Founding, StartError> {
    let others = config.initial_cluster.iter();
    let others: Vec<&String> = others
        .filter(|(name, _)| *name != config.name)
        .map(|(_, url)| url)
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let until = Instant::now() + patience;
    let mut reason = "--initial-cluster names no other member".to_owned();
    while !others.is_empty() {
        for url in &others {
            let reply = match runtime.block_on(peer::grpc::members(&Tcp, url)) {
                Ok(reply) => reply,
                Err(error) => {
                    reason = format!("{url}: {error}");
                    continue;
                }
            };
            let urls = &config.initial_advertise_peer_urls;
            match own_id(&reply.members, urls, is_first) {
                Ok(member_id) => {
                    return Ok(Founding {
                        identity: Identity {
                            cluster_id: reply.cluster_id,
                            member_id,
                        },
                        members: reply.members,
                    });
                }
                Err(error) => reason = format!("{url} {error}"),
            }
        }
        if Instant::now() >= until {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(StartError::Join(reason))
}

/// Which member one with these peer addresses is. One that was started before has data somewhere: what has none is
/// another member, and who names it only has not heard yet that the old one was removed and this one added.
fn own_id(members: &[Member], urls: &[String], is_first: bool) -> Result<u64, String> {
    let own = members.iter().find(|member| {
        member.peer_urls.len() == urls.len()
            && member.peer_urls.iter().all(|url| urls.contains(url))
    });
    let Some(own) = own else {
        return Err(format!(
            "knows no member with the peer addresses {}; add it first (etcdctl member add)",
            urls.join(",")
        ));
    };
    if is_first && !own.name.is_empty() {
        return Err(format!(
            "says that member {:x} has these peer addresses and was started before, but the data folder here is empty. If \
             its data is lost, remove it (etcdctl member remove), add it again, and start it again",
            own.id
        ));
    }
    Ok(own.id)
}

/// Binds the peer addresses. A member that is alone and was not told where to listen can do without.
pub(super) fn bind_peers(config: &Config) -> Result<Vec<std::net::TcpListener>, StartError> {
    match bind(&config.listen_peer_urls) {
        Err(error) if !config.must_listen_to_peers => {
            tracing::info!(
                error = logging::chain(&error),
                "does not listen to peers: the default address is taken, and there is no other member"
            );
            Ok(Vec::new())
        }
        bound => bound,
    }
}

/// The way to the other members and theirs to this one.
pub(super) struct Peers {
    pub(super) beginning: Beginning,
    pub(super) addresses: Arc<Addresses>,
    pub(super) memory: Arc<Memory>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) inbound: Arc<Inbound>,
    /// Answers peers on the runtime that it is called on.
    pub(super) listen: Box<dyn FnOnce() -> io::Result<()> + Send>,
}

/// Connections that peers may have at once: a handful for each member, and room for those that break.
const PEER_CONNECTIONS: usize = 1024;

pub(super) fn peers(
    config: &Config,
    data_dir: &DataDir,
    members: Vec<Member>,
    sockets: Vec<std::net::TcpListener>,
) -> Result<Peers, StartError> {
    let Identity {
        cluster_id,
        member_id,
    } = data_dir.identity();
    let beginning = if config.is_joining {
        Beginning::Join
    } else if members.iter().any(|member| member.id == member_id) {
        Beginning::New(members.iter().map(|member| member.id).collect())
    } else if identity::cluster_id(&[member_id]) == cluster_id {
        // The settings are of another start, and this member began alone.
        Beginning::New([member_id].into())
    } else {
        // It is of a larger cluster, whose leader has not reached it yet: never one of its own under that name.
        Beginning::Join
    };
    let addresses = Arc::new(Addresses::new(members));
    let speaker = Speaker {
        cluster_id,
        member_id,
        patience: config.election_timeout,
    };
    let inbound = Arc::<Inbound>::default();
    let service = Arc::new(PeerService::new(
        (cluster_id, member_id),
        inbound.clone(),
        addresses.clone(),
    ));
    let patience = config.election_timeout;
    let memory = data_dir.member().join("peers.json");
    let memory = Memory::open(&memory).map_err(|source| DataDirError::Io {
        path: memory,
        source,
    })?;
    let memory = Arc::new(memory);
    let transport = Grpc::new(speaker, addresses.clone(), memory.clone(), Arc::new(Tcp));
    Ok(Peers {
        beginning,
        transport: Arc::new(transport),
        memory,
        addresses,
        inbound,
        listen: Box::new(move || {
            let options = listen::Options {
                max_connections: PEER_CONNECTIONS,
                keepalive_interval: Some(patience),
                keepalive_timeout: patience,
                ..listen::Options::default()
            };
            let here = [Handle::current()];
            let listeners = Listeners::start(sockets, Plain, service, &here, options)?;
            // They end with the runtime.
            tokio::spawn(async move {
                let _listeners = listeners;
                std::future::pending::<()>().await;
            });
            Ok(())
        }),
    })
}

/// Has the table of members tell of this one. The first try is waited for, so that who connects finds it told; if that
/// fails, others follow while the node serves.
pub(super) fn publish(
    node: &Node,
    founders: Vec<Member>,
    own: &Member,
    timeout: Duration,
    runtime: &Handle,
) {
    let (first, tried) = std::sync::mpsc::channel();
    let (node, own) = (node.clone(), own.clone());
    // The settings may be of another start than the first; then only one that began alone knows who began.
    let is_founder = founders.iter().any(|founder| founder.id == own.id);
    let began_alone = identity::cluster_id(&[own.id]) == node.header(0).cluster_id;
    let founders = match (is_founder, began_alone) {
        (true, _) => founders,
        (false, true) => vec![own.clone()],
        (false, false) => Vec::new(),
    };
    runtime.spawn(async move {
        loop {
            let call = Call::new(timeout);
            let published = members::publish(&node, &call, founders.clone(), own.clone()).await;
            // Nobody waits for the later tries.
            let _ = first.send(());
            match published {
                Ok(()) | Err(CallError::Stopped) => return,
                Err(error @ CallError::Refused(_)) => {
                    tracing::warn!(%error, "the other members do not know this one any more");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot tell the name and addresses of this member; trying again");
                }
            }
            tokio::time::sleep(PUBLISH_AGAIN).await;
        }
    });
    // An error means that the runtime is gone, and with it everything that would serve.
    let _ = tried.recv();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_is_never_a_member_that_was_started_before() {
        let member = |id, name: &str, url: &str| Member {
            id,
            name: name.to_owned(),
            peer_urls: vec![url.to_owned()],
            ..Member::default()
        };
        let urls = ["http://b:1".to_owned()];
        let added = [member(1, "a", "http://a:1"), member(2, "", "http://b:1")];
        assert_eq!(own_id(&added, &urls, true), Ok(2));
        assert_eq!(own_id(&added, &urls, false), Ok(2));
        // A list from before the old member was removed.
        let old = [member(1, "a", "http://a:1"), member(7, "b", "http://b:1")];
        let error = own_id(&old, &urls, true).unwrap_err();
        assert!(
            error.contains("member 7") && error.contains("started before"),
            "{error}"
        );
        assert_eq!(
            own_id(&old, &urls, false),
            Ok(7),
            "its own data says who it is"
        );
        let error = own_id(&old[..1], &urls, true).unwrap_err();
        assert!(error.contains("add it first"), "{error}");
    }
}
