//! Links to other members over gRPC: a connection for each link, kept up for as long as somebody holds it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use proto::peer::peer_client::PeerClient;
use proto::peer::{
    AppendReply, AppendRequest, ForwardReply, ForwardRequest, HealthReply, HealthRequest,
    HelloReply, HelloRequest, LeasesReply, LeasesRequest, MembersReply, MembersRequest,
    ReadIndexReply, ReadIndexRequest, SnapshotReply, SnapshotRequest, TransferLeaderReply,
    TransferLeaderRequest, VoteReply, VoteRequest,
};
use tokio::sync::watch;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request, Status, Streaming};

use super::addresses::Addresses;
use super::memory::Memory;
use super::serve::{CLUSTER, FROM, MAX_MESSAGE, TO};
use super::{Answers, LinkError, Peer, Requests, Transport};
use crate::channel::{self, Channel, Connection, Connector};
use crate::node::BoxFuture;

/// Between two tries to connect, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long a call waits for the connection to be up.
const UP: Duration = Duration::from_millis(500);

/// Who speaks, and how patient it is.
#[derive(Clone, Copy, Debug)]
pub struct Speaker {
    /// The cluster.
    pub cluster_id: u64,
    /// This member.
    pub member_id: u64,
    /// A peer that gives no sign of life for so long is taken for gone, and a try to connect may take as long.
    pub patience: Duration,
}

struct Shared {
    speaker: Speaker,
    addresses: Arc<Addresses>,
    memory: Arc<Memory>,
    connector: Arc<dyn Connector>,
}

impl Shared {
    fn request<T>(&self, to: u64, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        let Speaker {
            cluster_id,
            member_id,
            ..
        } = self.speaker;
        for (name, id) in [(CLUSTER, cluster_id), (FROM, member_id), (TO, to)] {
            if let Ok(value) = AsciiMetadataValue::try_from(format!("{id:x}")) {
                headers.insert(name, value);
            }
        }
        request
    }

    /// Makes a connection on which both ends believe each other.
    async fn connect(&self, to: u64, url: &str) -> io::Result<(Channel, Connection)> {
        let patience = self.speaker.patience;
        let (channel, mut connection) = channel::open(&*self.connector, url, patience).await?;
        let request = HelloRequest {
            remembered: Some(self.memory.of(to)),
        };
        let mut client = PeerClient::new(channel.clone());
        let hello = tokio::time::timeout(patience, client.hello(self.request(to, request)));
        let answer = tokio::select! {
            answer = hello => answer.map_err(|_| io::ErrorKind::TimedOut)?,
            () = &mut connection => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        let answer = answer.map_err(|status| io::Error::other(status.message().to_owned()))?;
        let has = answer.into_inner().has.unwrap_or_default();
        if let Err(error) = self.memory.hello(to, &has) {
            return Err(io::Error::other(format!(
                "its data folder was lost or copied back: {error}; remove that member and add it as a new one"
            )));
        }
        // Remembered before it is relied on; not on this thread, which must not wait for a disk. On a full one the
        // cluster must go on all the same.
        let memory = self.memory.clone();
        let saved = tokio::task::spawn_blocking(move || memory.save()).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(
                peer = format!("{to:x}"),
                %error,
                "cannot write down what a peer has; if it loses its data now, this member may not notice"
            );
        }
        Ok((channel, connection))
    }
}

/// Reaches the other members over gRPC. To be used on one tokio runtime.
pub struct Grpc {
    shared: Arc<Shared>,
    controls: Mutex<BTreeMap<u64, Arc<Link>>>,
}

impl Grpc {
    /// The way to the members that `addresses` knows.
    pub fn new(
        speaker: Speaker,
        addresses: Arc<Addresses>,
        memory: Arc<Memory>,
        connector: Arc<dyn Connector>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                speaker,
                addresses,
                memory,
                connector,
            }),
            controls: Mutex::default(),
        }
    }

    fn new_link(&self, to: u64, purpose: &'static str) -> Arc<Link> {
        Arc::new(Link {
            shared: self.shared.clone(),
            to,
            purpose,
            connection: OnceLock::new(),
        })
    }
}

impl Transport for Grpc {
    fn link(&self, to: u64, purpose: &'static str) -> Arc<dyn Peer> {
        self.new_link(to, purpose)
    }

    fn control(&self, to: u64) -> Arc<dyn Peer> {
        let mut controls = self.controls.lock();
        let link = controls
            .entry(to)
            .or_insert_with(|| self.new_link(to, "control"));
        link.clone()
    }
}

/// A link to one member. It connects at its first use.
struct Link {
    shared: Arc<Shared>,
    to: u64,
    purpose: &'static str,
    /// The connection that is up, if one is. Closed with the link, which ends the task behind it.
    connection: OnceLock<watch::Receiver<Option<Channel>>>,
}

type Client = PeerClient<Channel>;

/// [`Requests`] under a name: the compiler cannot tell that a call with the boxed trait itself can move between threads.
struct Sent<T>(Requests<T>);

impl<T> Stream for Sent<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.as_mut().poll_next(context)
    }
}

impl Link {
    /// The connection, once it is up.
    fn client(&self) -> impl Future<Output = Result<Client, LinkError>> + Send + use<> {
        let to = self.to;
        let connection = self.connection.get_or_init(|| {
            let (sender, receiver) = watch::channel(None);
            tokio::spawn(keep_up(self.shared.clone(), to, self.purpose, sender));
            receiver
        });
        let mut connection = connection.clone();
        async move {
            let up = tokio::time::timeout(UP, connection.wait_for(Option::is_some)).await;
            let Ok(Ok(channel)) = up else {
                return Err(LinkError::NotConnected(to));
            };
            let channel = channel.clone().ok_or(LinkError::NotConnected(to))?;
            Ok(PeerClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE))
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        self.shared.request(self.to, message)
    }

    /// One question and its answer, or one stream of them.
    fn call<Q, A, F>(
        &self,
        message: Q,
        call: impl FnOnce(Client, Request<Q>) -> F + Send + 'static,
    ) -> BoxFuture<Result<A, LinkError>>
    where
        Q: Send + 'static,
        F: Future<Output = Result<tonic::Response<A>, Status>> + Send,
    {
        let (client, request) = (self.client(), self.request(message));
        Box::pin(async move {
            let answer = call(client.await?, request).await;
            answer.map(tonic::Response::into_inner).map_err(link_error)
        })
    }

    fn stream<Q, A, F>(
        &self,
        requests: Requests<Q>,
        call: impl FnOnce(Client, Request<Sent<Q>>) -> F + Send + 'static,
    ) -> BoxFuture<Result<Answers<A>, LinkError>>
    where
        Q: Send + 'static,
        A: Send + 'static,
        F: Future<Output = Result<tonic::Response<Streaming<A>>, Status>> + Send,
    {
        let opened = self.call(Sent(requests), call);
        Box::pin(async move {
            let answers = opened.await?;
            Ok(Box::pin(answers.map(|answer| answer.map_err(link_error))) as Answers<A>)
        })
    }
}

impl Peer for Link {
    fn hello(&self, request: HelloRequest) -> BoxFuture<Result<HelloReply, LinkError>> {
        self.call(request, |mut client, request| async move {
            client.hello(request).await
        })
    }

    fn append(
        &self,
        requests: Requests<AppendRequest>,
    ) -> BoxFuture<Result<Answers<AppendReply>, LinkError>> {
        self.stream(requests, |mut client, request| async move {
            client.append(request).await
        })
    }

    fn vote(&self, request: VoteRequest) -> BoxFuture<Result<VoteReply, LinkError>> {
        self.call(request, |mut client, request| async move {
            client.vote(request).await
        })
    }

    fn transfer_leader(
        &self,
        request: TransferLeaderRequest,
    ) -> BoxFuture<Result<TransferLeaderReply, LinkError>> {
        self.call(request, |mut client, request| async move {
            client.transfer_leader(request).await
        })
    }

    fn read_index(
        &self,
        request: ReadIndexRequest,
    ) -> BoxFuture<Result<ReadIndexReply, LinkError>> {
        self.call(request, |mut client, request| async move {
            client.read_index(request).await
        })
    }

    fn health(&self, request: HealthRequest) -> BoxFuture<Result<HealthReply, LinkError>> {
        self.call(request, |mut client, request| async move {
            client.health(request).await
        })
    }

    fn leases(&self, request: LeasesRequest) -> BoxFuture<Result<LeasesReply, LinkError>> {
        self.call(request, |mut client, request| async move {
            client.leases(request).await
        })
    }

    fn forward(
        &self,
        requests: Requests<ForwardRequest>,
    ) -> BoxFuture<Result<Answers<ForwardReply>, LinkError>> {
        self.stream(requests, |mut client, request| async move {
            client.forward(request).await
        })
    }

    fn snapshot(
        &self,
        requests: Requests<SnapshotRequest>,
    ) -> BoxFuture<Result<Answers<SnapshotReply>, LinkError>> {
        self.stream(requests, |mut client, request| async move {
            client.snapshot(request).await
        })
    }
}

/// What a failed call says of what was asked.
fn link_error(status: Status) -> LinkError {
    match status.code() {
        // The codes of `serve`, given before anything is done.
        Code::FailedPrecondition | Code::PermissionDenied | Code::Unimplemented => {
            LinkError::Refused(status.message().to_owned())
        }
        _ => LinkError::Broken(status.message().to_owned()),
    }
}

/// Asks a peer, of which only the address is known, who is a member of its cluster.
pub async fn members(connector: &dyn Connector, url: &str) -> io::Result<MembersReply> {
    let (channel, connection) = channel::open(connector, url, Duration::from_secs(5)).await?;
    let connection = tokio::spawn(connection);
    let answer = PeerClient::new(channel)
        .members(MembersRequest {})
        .await
        .map_err(io::Error::other);
    connection.abort();
    Ok(answer?.into_inner())
}

/// Keeps a connection up until nobody holds the link any more.
async fn keep_up(
    shared: Arc<Shared>,
    to: u64,
    purpose: &'static str,
    sender: watch::Sender<Option<Channel>>,
) {
    let (mut pause, mut turn, mut is_told) = (FIRST_PAUSE, 0, false);
    loop {
        let urls = shared.addresses.of(to);
        let connected = match urls.get(turn % urls.len().max(1)) {
            Some(url) => tokio::select! {
                connected = shared.connect(to, url) => connected,
                () = sender.closed() => return,
            },
            None => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "its address is not known",
            )),
        };
        turn += 1;
        match connected {
            Ok((channel, connection)) => {
                if is_told {
                    tracing::info!(
                        peer = format!("{to:x}"),
                        purpose,
                        "the peer is reached again"
                    );
                }
                (pause, is_told) = (FIRST_PAUSE, false);
                sender.send_replace(Some(channel));
                tokio::select! {
                    () = connection => {}
                    () = sender.closed() => return,
                }
                sender.send_replace(None);
            }
            Err(error) => {
                if !is_told {
                    tracing::warn!(
                        peer = format!("{to:x}"),
                        urls = urls.join(","),
                        purpose,
                        %error,
                        "cannot reach a peer; trying again until it answers"
                    );
                    is_told = true;
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = sender.closed() => return,
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
