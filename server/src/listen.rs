//! Listeners: from a socket to requests, whatever is spoken on it.
//!
//! One task accepts and hands the connections round-robin to the shards; a connection lives on its shard until it
//! ends. Clients speak HTTP/2 or HTTP/1.1 on the same port: the first bytes, or TLS, tell which.
//!
//! Limits, and what happens at each:
//! - connections: at the limit none is accepted until one ends; new ones wait in the kernel's backlog;
//! - time until a connection has shown what it speaks, and between two HTTP/1.1 requests: closed;
//! - concurrent streams of a connection: the client is told, and waits or is refused that stream;
//! - bytes waiting to be sent on a stream: its body is not asked for more.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::etcd::Body;

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A put of the largest size fits a stream's window, several fit the connection's.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
const MAX_FRAME: u32 = 1024 * 1024;

/// How much of a stream is encoded ahead of what the client takes.
const SEND_BUFFER: usize = 1024 * 1024;

/// Room for tokens in the headers.
const MAX_HEADERS: u32 = 64 * 1024;

/// How long an HTTP/1.1 connection may be idle, or take to send the headers of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait after `accept` failed for lack of something, such as descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often to look again at a connection that has sent only a part of the preface.
const SNIFF_PAUSE: Duration = Duration::from_millis(5);

/// Limits of a listener.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections of all sockets together.
    pub max_connections: usize,
    /// Streams that a client may have open on one connection.
    pub max_concurrent_streams: u32,
    /// How often an idle client is asked for a sign of life; nothing for never.
    pub keepalive_interval: Option<Duration>,
    /// How long it may take to give one.
    pub keepalive_timeout: Duration,
    /// Until when a new connection has shown what it speaks.
    pub handshake_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 65_536,
            max_concurrent_streams: u32::MAX,
            keepalive_interval: Some(Duration::from_secs(2 * 60 * 60)),
            keepalive_timeout: Duration::from_secs(20),
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it connects from.
    pub address: SocketAddr,
    /// The certificate that it has shown to be its own, if it was asked for one.
    pub certificate: Option<Bytes>,
}

/// A connection that has shaken hands.
pub struct Accepted<S> {
    /// What HTTP runs on.
    pub stream: S,
    /// Which.
    pub protocol: Protocol,
    /// The client's certificate, in DER, if it has one that was checked.
    pub certificate: Option<Bytes>,
}

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 from its first byte on.
    Http2,
}

/// Makes a connection of what a socket accepted; encryption goes here.
pub trait Acceptor: Send + Sync + 'static {
    /// What HTTP then runs on.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Shakes hands and finds out what is spoken. The listener limits its time.
    fn accept(
        &self,
        stream: TcpStream,
    ) -> impl Future<Output = io::Result<Accepted<Self::Stream>>> + Send;
}

/// Plain TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Acceptor for Plain {
    type Stream = TcpStream;

    async fn accept(&self, stream: TcpStream) -> io::Result<Accepted<TcpStream>> {
        let mut first = [0; PREFACE.len()];
        loop {
            let length = stream.peek(&mut first).await?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(protocol) = sniff(&first[..length]) {
                return Ok(Accepted {
                    stream,
                    protocol,
                    certificate: None,
                });
            }
            // The bytes stay unread, so the socket stays readable: nothing wakes us when more come.
            tokio::time::sleep(SNIFF_PAUSE).await;
        }
    }
}

/// What the first bytes of a connection say; nothing if they are too few.
fn sniff(first: &[u8]) -> Option<Protocol> {
    let length = first.len().min(PREFACE.len());
    if first[..length] != PREFACE[..length] {
        Some(Protocol::Http1)
    } else if length == PREFACE.len() {
        Some(Protocol::Http2)
    } else {
        None
    }
}

/// Answers requests.
pub trait Serve: Send + Sync + 'static {
    /// Answers one request of a peer.
    fn respond(
        &self,
        peer: &Peer,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// Sockets that are being served.
pub struct Listeners {
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    slots: Arc<Semaphore>,
    max_connections: u32,
}

/// What all connections of a listener share.
struct Shared<A, S> {
    acceptor: A,
    service: Arc<S>,
    options: Options,
    stop: watch::Receiver<bool>,
}

/// Binds an address, for [`Listeners::start`].
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = std::net::TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Listeners {
    /// Serves the connections of `sockets` on `shards`, of which there must be one.
    pub fn start<A: Acceptor, S: Serve>(
        sockets: Vec<std::net::TcpListener>,
        acceptor: A,
        service: Arc<S>,
        shards: &[Handle],
        options: Options,
    ) -> io::Result<Self> {
        let first = shards.first().ok_or(io::ErrorKind::InvalidInput)?;
        let max_connections = u32::try_from(options.max_connections)
            .unwrap_or(u32::MAX)
            .clamp(1, u32::MAX >> 3);
        let slots = Arc::new(Semaphore::new(max_connections as usize));
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            acceptor,
            service,
            options,
            stop: stopped,
        });
        let mut addresses = Vec::with_capacity(sockets.len());
        for (number, socket) in sockets.into_iter().enumerate() {
            addresses.push(socket.local_addr()?);
            let accept = {
                let _on_shard = first.enter();
                let socket = TcpListener::from_std(socket)?;
                accept(
                    socket,
                    shared.clone(),
                    slots.clone(),
                    shards.to_vec(),
                    number,
                )
            };
            first.spawn(accept);
        }
        Ok(Self {
            addresses,
            stop,
            slots,
            max_connections,
        })
    }

    /// Where the sockets are bound, in the order given.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Accepts nothing more, asks every connection to finish, and waits for that, though not longer than
    /// `patience`. Connections that remain end with their shards.
    pub async fn stop(self, patience: Duration) {
        self.stop.send_replace(true);
        let all_ended = self.slots.acquire_many(self.max_connections);
        if tokio::time::timeout(patience, all_ended).await.is_err() {
            let open = self.max_connections as usize - self.slots.available_permits();
            tracing::info!(open, "cutting the connections that did not end in time");
        }
    }
}

async fn accept<A: Acceptor, S: Serve>(
    socket: TcpListener,
    shared: Arc<Shared<A, S>>,
    slots: Arc<Semaphore>,
    shards: Vec<Handle>,
    mut turn: usize,
) {
    let mut stop = shared.stop.clone();
    loop {
        let accepted = async {
            let slot = match slots.clone().try_acquire_owned() {
                Ok(slot) => slot,
                Err(_) => {
                    tracing::warn!(
                        max_connections = shared.options.max_connections,
                        "too many connections; new ones wait until one ends"
                    );
                    // The semaphore is never closed.
                    slots
                        .clone()
                        .acquire_owned()
                        .await
                        .map_err(io::Error::other)?
                }
            };
            let (stream, address) = socket.accept().await?;
            io::Result::Ok((slot, stream, address))
        };
        let accepted = tokio::select! {
            biased;
            // A dropped sender is a stop, too.
            _ = stop.wait_for(|is_stopping| *is_stopping) => return,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((slot, stream, address)) => {
                let shard = &shards[turn % shards.len()];
                turn = turn.wrapping_add(1);
                if let Err(error) = hand_over(&shared, slot, stream, address, shard) {
                    tracing::debug!(%error, %address, "a connection ended before it was served");
                }
            }
            Err(error) => {
                // One that was reset while it waited is its client's affair; the rest needs a pause, or the loop
                // would spin.
                let is_transient = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                );
                if !is_transient {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Moves a connection to its shard. A socket belongs to the reactor that registered it, so it is registered anew.
fn hand_over<A: Acceptor, S: Serve>(
    shared: &Arc<Shared<A, S>>,
    slot: OwnedSemaphorePermit,
    stream: TcpStream,
    address: SocketAddr,
    shard: &Handle,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let shared = shared.clone();
    shard.spawn(async move {
        if let Err(error) = serve(&shared, stream, address).await {
            tracing::debug!(%error, %address, "a connection ended with an error");
        }
        drop(slot);
    });
    Ok(())
}

async fn serve<A: Acceptor, S: Serve>(
    shared: &Arc<Shared<A, S>>,
    stream: std::net::TcpStream,
    address: SocketAddr,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let options = &shared.options;
    let mut stop = shared.stop.clone();
    let accept = shared.acceptor.accept(TcpStream::from_std(stream)?);
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(options.handshake_timeout, accept) => accepted??,
        _ = stop.wait_for(|is_stopping| *is_stopping) => return Ok(()),
    };
    let Accepted {
        stream,
        protocol,
        certificate,
    } = accepted;
    let peer = Peer {
        address,
        certificate,
    };
    let connection = Arc::new((shared.service.clone(), peer));
    let service = service_fn(move |request| {
        let connection = connection.clone();
        async move {
            let (service, peer) = &*connection;
            Ok::<_, Infallible>(service.respond(peer, request).await)
        }
    });
    let stopping = async move {
        let _ = stop.wait_for(|is_stopping| *is_stopping).await;
    };
    match protocol {
        Protocol::Http2 => {
            let served = hyper::server::conn::http2::Builder::new(OnShard)
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_frame_size(MAX_FRAME)
                .max_concurrent_streams(options.max_concurrent_streams)
                .max_header_list_size(MAX_HEADERS)
                .max_send_buf_size(SEND_BUFFER)
                .keep_alive_interval(options.keepalive_interval)
                .keep_alive_timeout(options.keepalive_timeout)
                .auto_date_header(false)
                .serve_connection(TokioIo::new(stream), service);
            let mut served = pin!(served);
            tokio::select! {
                biased;
                ended = served.as_mut() => return Ok(ended?),
                () = stopping => served.as_mut().graceful_shutdown(),
            }
            Ok(served.await?)
        }
        Protocol::Http1 => {
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let mut served = pin!(served);
            tokio::select! {
                biased;
                ended = served.as_mut() => return Ok(ended?),
                () = stopping => served.as_mut().graceful_shutdown(),
            }
            Ok(served.await?)
        }
    }
}

/// Runs the streams of a connection where the connection runs.
#[derive(Clone, Copy)]
struct OnShard;

impl<F> Executor<F> for OnShard
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol_as_soon_as_they_can() {
        assert_eq!(sniff(PREFACE), Some(Protocol::Http2));
        for length in 1..PREFACE.len() {
            assert_eq!(sniff(&PREFACE[..length]), None);
        }
        assert_eq!(sniff(b"G"), Some(Protocol::Http1));
        assert_eq!(sniff(b"PUT / HTTP/1.1\r\n"), Some(Protocol::Http1));
        assert_eq!(sniff(b"PRI * HTTP/1.1\r\n"), Some(Protocol::Http1));
        assert_eq!(sniff(b"\x16\x03\x01"), Some(Protocol::Http1));
    }
}
