//! The connection to one endpoint, and the rule for calls that are answered once.

use std::future::Future;
use std::time::Duration;

use proto::etcd::etcdserverpb::kv_client::KvClient;
use proto::etcd::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcd::etcdserverpb::watch_client::WatchClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::Error;

/// What a server may send at most. A list has no other bound, and cutting an answer off helps nobody.
const MESSAGE_BYTES: usize = i32::MAX as usize;
/// A window of one stream: a long list arrives without waiting for permission to go on.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// The window that all streams of the connection share.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// How often a connection with a call open is probed, so that a watch on a dead peer ends.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a probe may stay unanswered.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to `endpoint` (`host:port`, or `http://host:port`) with the default [`Options`].
///
/// # Errors
/// [`Error::Endpoint`] if that is no address, [`Error::Connect`] if nobody answers there.
pub async fn connect(endpoint: impl Into<String>) -> Result<Client, Error> {
    Options::default().connect(endpoint).await
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// For a connection to be made, at first and after a loss.
    pub connect_timeout: Duration,
    /// For an answer, or for a watch to be confirmed. The default is longer than servers take to give up on a
    /// write (7 s), so that one hears the reason from the server.
    pub request_timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
        }
    }
}

impl Options {
    /// Connects to `endpoint`; see [`connect`].
    ///
    /// # Errors
    /// [`Error::Endpoint`] if that is no address, [`Error::Connect`] if nobody answers there.
    pub async fn connect(self, endpoint: impl Into<String>) -> Result<Client, Error> {
        let mut endpoint = endpoint.into();
        if !endpoint.contains("://") {
            endpoint.insert_str(0, "http://");
        }
        let transport = match Endpoint::from_shared(endpoint.clone()) {
            Ok(transport) => transport,
            Err(source) => return Err(Error::Endpoint { endpoint, source }),
        };
        let channel = transport
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .connect()
            .await
            .map_err(|source| Error::Connect { endpoint, source })?;
        Ok(Client {
            channel,
            request_timeout: self.request_timeout,
        })
    }
}

/// One connection to one server. Cheap to clone; clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    pub(crate) request_timeout: Duration,
}

impl Client {
    /// The KV service itself, for requests that have no method here.
    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES)
    }

    /// The Watch service itself, for many watchers on one stream.
    pub fn watches(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES)
    }

    /// The Maintenance service itself, for requests that have no method here.
    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES)
    }

    /// The connection itself, for other services.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Waits for an answer, at most as long as a request may take, the message itself included.
    pub(crate) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.request_timeout, call).await {
            Ok(answer) => Ok(answer.map_err(Error::of_call)?.into_inner()),
            Err(_) => Err(Error::timeout()),
        }
    }
}
