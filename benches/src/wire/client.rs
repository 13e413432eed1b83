//! Unary calls and watch streams on an `h2` connection, with the settings of a Go client.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use tokio::net::TcpStream;

use crate::wire::scan::{Answer, OnEvent, Scanner};

// grpc-go as Kubernetes and etcdctl set it up leaves the frame size alone; its windows grow with the measured
// bandwidth, and these stand for the grown ones, so that a list never waits for the client.
const FRAME_BYTES: u32 = 16 * 1024;
/// Bytes that a stream may be ahead of its reader.
pub(crate) const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// One connection, shared by clones.
#[derive(Clone)]
pub(crate) struct Channel {
    sender: SendRequest<Bytes>,
}

/// The head of the requests of one RPC, made once.
#[derive(Clone)]
pub(crate) struct Method {
    head: Request<()>,
}

impl Method {
    /// `path` is `/package.Service/Method`. The authority is one for all members: no server looks at it.
    pub(crate) fn new(endpoint: SocketAddr, path: &str) -> Result<Method> {
        let head = Request::post(format!("http://{endpoint}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "holdfast-bench")
            .body(())
            .context("building a request head")?;
        Ok(Method { head })
    }
}

/// Connects, and drives the connection on the current runtime until all its clones are gone.
pub(crate) async fn connect(endpoint: SocketAddr) -> Result<Channel> {
    connect_with(endpoint, STREAM_WINDOW).await
}

/// The same with another window of each stream.
pub(crate) async fn connect_with(endpoint: SocketAddr, stream_window: u32) -> Result<Channel> {
    let socket = TcpStream::connect(endpoint)
        .await
        .with_context(|| format!("connecting to {endpoint}"))?;
    socket.set_nodelay(true)?;
    let (sender, connection) = Builder::new()
        .enable_push(false)
        .max_frame_size(FRAME_BYTES)
        .initial_window_size(stream_window)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(socket)
        .await
        .context("HTTP/2 handshake")?;
    // An error of the connection also reaches every call on it, and is reported there.
    tokio::spawn(connection);
    Ok(Channel { sender })
}

impl Channel {
    /// One unary call.
    pub(crate) async fn call(&mut self, method: &Method, request: Bytes) -> Result<Answer> {
        let (response, mut body) = self.begin(method.head.clone(), false).await?;
        body.send_data(request, true).context("sending a request")?;
        let mut answers = Answers::open(response).await?;
        let mut found = None;
        while answers
            .receive(None, |answer| note(&mut found, answer))
            .await?
        {}
        found.context("an answer without a message")
    }

    /// One call with many answers; `take` gets the bytes as they come, frames and all.
    pub(crate) async fn download(
        &mut self,
        method: &Method,
        request: Bytes,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let (response, mut body) = self.begin(method.head.clone(), false).await?;
        body.send_data(request, true).context("sending a request")?;
        let mut answers = Answers::open(response).await?;
        while let Some(data) = answers.body.data().await {
            let data = data.context("receiving an answer")?;
            take(&data)?;
            let flow = answers.body.flow_control();
            flow.release_capacity(data.len())
                .context("releasing window")?;
        }
        let trailers = answers.body.trailers().await;
        let trailers = trailers.context("receiving trailers")?;
        check_status(&trailers.context("an answer without a status")?)
    }

    /// Opens a stream that stays open for requests.
    pub(crate) async fn stream(&mut self, method: &Method, first: Bytes) -> Result<Stream> {
        let (response, mut body) = self.begin(method.head.clone(), false).await?;
        body.send_data(first, false).context("sending a request")?;
        Ok(Stream {
            body,
            answers: Answers::open(response).await?,
        })
    }

    /// Sends the head of a request as soon as the connection has room for one more; `is_whole` if nothing follows.
    pub(super) async fn begin(
        &mut self,
        head: Request<()>,
        is_whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>)> {
        std::future::poll_fn(|context| self.sender.poll_ready(context))
            .await
            .context("waiting for the connection")?;
        self.sender
            .send_request(head, is_whole)
            .context("sending a request head")
    }
}

fn note(found: &mut Option<Answer>, answer: &Answer) -> Result<()> {
    if found.replace(*answer).is_some() {
        bail!("more than one message in a unary answer");
    }
    Ok(())
}

/// A stream with requests in one direction and any number of answers in the other.
pub(crate) struct Stream {
    body: SendStream<Bytes>,
    answers: Answers,
}

impl Stream {
    /// Sends one more request.
    pub(crate) fn send(&mut self, request: Bytes) -> Result<()> {
        self.body
            .send_data(request, false)
            .context("sending on a stream")
    }

    /// Waits for bytes and calls `done` for each message that they complete, and `on_event` for each event of a watch
    /// before; false after the last one. Nothing is lost if it is dropped while it waits.
    pub(crate) async fn receive(
        &mut self,
        on_event: Option<OnEvent<'_>>,
        done: impl FnMut(&Answer) -> Result<()>,
    ) -> Result<bool> {
        self.answers.receive(on_event, done).await
    }
}

/// The receiving half of a call.
struct Answers {
    body: RecvStream,
    scanner: Scanner,
}

impl Answers {
    async fn open(response: ResponseFuture) -> Result<Answers> {
        let response = response.await.context("waiting for an answer")?;
        if response.status() != StatusCode::OK {
            bail!("HTTP status {}", response.status());
        }
        // An error may come as headers alone.
        if response.headers().contains_key("grpc-status") {
            check_status(response.headers())?;
        }
        Ok(Answers {
            body: response.into_body(),
            scanner: Scanner::new(),
        })
    }

    async fn receive(
        &mut self,
        on_event: Option<OnEvent<'_>>,
        done: impl FnMut(&Answer) -> Result<()>,
    ) -> Result<bool> {
        if let Some(data) = self.body.data().await {
            let data = data.context("receiving an answer")?;
            self.scanner.feed(&data, on_event, done)?;
            self.body
                .flow_control()
                .release_capacity(data.len())
                .context("releasing window")?;
            return Ok(true);
        }
        let trailers = self.body.trailers().await.context("receiving trailers")?;
        check_status(&trailers.context("an answer without a status")?)?;
        if !self.scanner.is_between_messages() {
            bail!("an answer ends in the middle of a message");
        }
        Ok(false)
    }
}

fn check_status(headers: &HeaderMap) -> Result<()> {
    let text = |name| {
        headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap_or("?"))
    };
    match text("grpc-status") {
        "0" => Ok(()),
        status => bail!("gRPC status {status}: {}", text("grpc-message")),
    }
}
