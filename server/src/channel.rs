//! A connection to another member, on which the generated clients of gRPC make their calls.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::body::Body;

use crate::node::BoxFuture;

/// Entries of several requests fit, so that a follower is not waited for at each.
const WINDOW: u32 = 16 << 20;

/// A byte stream to a server.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Makes a byte stream to an address; encryption goes here.
pub trait Connector: Send + Sync + 'static {
    /// Connects. The caller limits its time.
    fn connect(&self, url: &str) -> BoxFuture<io::Result<Box<dyn Io>>>;
}

/// Plain TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Connector for Tcp {
    fn connect(&self, url: &str) -> BoxFuture<io::Result<Box<dyn Io>>> {
        let url = url.to_owned();
        Box::pin(async move {
            let uri: Uri = url
                .parse()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let host = uri.host().unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port = uri.port_u16().unwrap_or(2380);
            let socket = TcpStream::connect((host, port)).await?;
            socket.set_nodelay(true)?;
            Ok(Box::new(socket) as Box<dyn Io>)
        })
    }
}

/// What moves a connection's bytes; it is to be run, and ends with the connection.
pub(crate) type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Connects to `url`, and takes the other side for gone if it gives no sign of life for so long.
pub(crate) async fn open(
    connector: &dyn Connector,
    url: &str,
    patience: Duration,
) -> io::Result<(Channel, Connection)> {
    let made = async {
        let stream = connector.connect(url).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_frame_size(1 << 20)
            .keep_alive_interval(patience / 2)
            .keep_alive_timeout(patience)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let connection: Connection = Box::pin(async move {
            // Whoever has a call on it hears of the error there.
            let _ = connection.await;
        });
        Ok((
            Channel {
                sender,
                base: base(url)?,
            },
            connection,
        ))
    };
    tokio::time::timeout(patience, made)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// What HTTP/2 wants with each call.
fn base(url: &str) -> io::Result<(Scheme, Authority)> {
    let uri = url
        .parse::<Uri>()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?
        .into_parts();
    uri.scheme
        .zip(uri.authority)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the address of a host"))
}

/// One connection, shared by clones.
#[derive(Clone)]
pub(crate) struct Channel {
    sender: http2::SendRequest<Body>,
    base: (Scheme, Authority),
}

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        let (scheme, authority) = self.base.clone();
        (parts.scheme, parts.authority) = (Some(scheme), Some(authority));
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        Box::pin(self.sender.send_request(request))
    }
}
