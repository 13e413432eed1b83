//! Asks one endpoint, and says in words why it does not answer.

use std::future::Future;
use std::io;
use std::time::Duration;

use proto::etcd::etcdserverpb::cluster_client::ClusterClient;
use proto::etcd::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcd::etcdserverpb::{Member, MemberListRequest, StatusRequest, StatusResponse};
use tokio::task::JoinHandle;
use tonic::{Code, Response, Status};

use crate::channel::{self, Channel, Tcp};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Silence {
    /// The port is closed.
    #[error("nobody listens there (connection refused)")]
    Refused,
    /// No connection.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// A node accepts connections before it serves.
    #[error("takes connections, but did not answer within {0:?}; it may wait for other members")]
    Mute(Duration),
    /// An answer, but not the one.
    #[error("answered with an error: {0}")]
    Failed(String),
    /// Something that speaks gRPC, but is no client port of a member.
    #[error("answers, but not to this; is it a peer port? Ask the client port, such as 2379")]
    OtherService,
    /// TLS or a socket of another kind.
    #[error("an address of this kind is not built yet")]
    NotBuilt,
}

/// One endpoint, with a connection that is kept from one question to the next.
pub(crate) struct Endpoint {
    address: String,
    patience: Duration,
    connected: Option<Connected>,
}

struct Connected {
    channel: Channel,
    connection: JoinHandle<()>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Endpoint {
    /// The endpoint at an address, `host:port`. Nothing is asked yet.
    pub(crate) fn new(address: &str, patience: Duration) -> Self {
        Self {
            address: address.to_owned(),
            patience,
            connected: None,
        }
    }

    /// Its address, as it was given.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// How it is.
    pub(crate) async fn status(&mut self) -> Result<StatusResponse, Silence> {
        let ask = |channel| async move {
            MaintenanceClient::new(channel)
                .status(StatusRequest {})
                .await
        };
        self.call(ask).await
    }

    /// Who the members are, as far as it knows: also without a leader.
    pub(crate) async fn members(&mut self) -> Result<Vec<Member>, Silence> {
        let request = MemberListRequest {
            linearizable: false,
        };
        let ask = |channel| async move { ClusterClient::new(channel).member_list(request).await };
        self.call(ask).await.map(|list| list.members)
    }

    async fn call<A, F>(&mut self, ask: impl FnOnce(Channel) -> F) -> Result<A, Silence>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let channel = self.connect().await?;
        let answer = match tokio::time::timeout(self.patience, ask(channel)).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => match (status.code(), status.message()) {
                (Code::Unimplemented, _) => Silence::OtherService,
                (code, "") => Silence::Failed(code.to_string()),
                (_, message) => Silence::Failed(message.to_owned()),
            },
            Err(_) => Silence::Mute(self.patience),
        };
        // The next question is not to meet the same trouble.
        self.connected = None;
        Err(answer)
    }

    async fn connect(&mut self) -> Result<Channel, Silence> {
        if let Some(connected) = &self.connected
            && !connected.connection.is_finished()
        {
            return Ok(connected.channel.clone());
        }
        let url = match self.address.split_once("://") {
            None => format!("http://{}", self.address),
            Some(("http", _)) => self.address.clone(),
            Some(_) => return Err(Silence::NotBuilt),
        };
        let opened = channel::open(&Tcp, &url, self.patience).await;
        let (channel, connection) = opened.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => Silence::Refused,
            io::ErrorKind::TimedOut => {
                Silence::Unreachable(format!("no answer within {:?}", self.patience))
            }
            _ => Silence::Unreachable(error.to_string()),
        })?;
        self.connected = Some(Connected {
            channel: channel.clone(),
            connection: tokio::spawn(connection),
        });
        Ok(channel)
    }
}
