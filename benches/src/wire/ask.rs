//! Plain HTTP on a connection: one request, an answer that must be a success, and its body piece by piece.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use h2::RecvStream;
use http::{Request, StatusCode};

use crate::wire::client::Channel;

/// What of an error's body is shown.
const SHOWN_BYTES: usize = 1_000;

impl Channel {
    /// Sends a request, with a body unless it is empty, and waits for the head of the answer, which must be 200 or 201.
    pub(crate) async fn ask(&mut self, head: Request<()>, body: Bytes) -> Result<Body> {
        let is_whole = body.is_empty();
        let (response, mut sending) = self.begin(head, is_whole).await?;
        if !is_whole {
            sending.send_data(body, true).context("sending a request")?;
        }
        let response = response.await.context("waiting for an answer")?;
        let status = response.status();
        let mut body = Body(response.into_body());
        if ![StatusCode::OK, StatusCode::CREATED].contains(&status) {
            let mut words = Vec::new();
            while let Some(piece) = body.next().await? {
                words.extend_from_slice(&piece);
                if words.len() >= SHOWN_BYTES {
                    words.truncate(SHOWN_BYTES);
                    break;
                }
            }
            bail!("HTTP status {status}: {}", String::from_utf8_lossy(&words));
        }
        Ok(body)
    }
}

/// The body of an answer.
pub(crate) struct Body(RecvStream);

impl Body {
    /// The next piece as it came; none after the last one. Nothing is lost if it is dropped while it waits.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(piece) = self.0.data().await else {
            return Ok(None);
        };
        let piece = piece.context("receiving an answer")?;
        let flow = self.0.flow_control();
        flow.release_capacity(piece.len())
            .context("releasing window")?;
        Ok(Some(piece))
    }

    /// All of it, if it is not longer than `most` bytes; `whole` has room for it and is overwritten.
    pub(crate) async fn read_into(mut self, whole: &mut Vec<u8>, most: usize) -> Result<()> {
        whole.clear();
        while let Some(piece) = self.next().await? {
            whole.extend_from_slice(&piece);
            ensure!(whole.len() <= most, "an answer of more than {most} bytes");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use anyhow::Result;
    use bytes::Bytes;
    use http::{Request, Response, StatusCode};
    use tokio::net::TcpListener;

    use crate::wire::connect;

    /// Serves one connection, and answers every request with its own body after a word.
    async fn echo(status: StatusCode) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(socket).await.unwrap();
            while let Some(Ok((mut request, mut respond))) = connection.accept().await {
                tokio::spawn(async move {
                    let head = Response::builder().status(status).body(()).unwrap();
                    let mut answer = respond.send_response(head, false).unwrap();
                    answer.send_data(Bytes::from("you said "), false).unwrap();
                    while let Some(piece) = request.body_mut().data().await {
                        answer.send_data(piece.unwrap(), false).unwrap();
                    }
                    answer.send_data(Bytes::new(), true).unwrap();
                });
            }
        });
        address
    }

    async fn say(status: StatusCode, words: &'static str, most: usize) -> Result<String> {
        let address = echo(status).await;
        let head = Request::post(format!("http://{address}/echo")).body(())?;
        let body = connect(address).await?.ask(head, words.into()).await?;
        let mut whole = b"something else".to_vec();
        body.read_into(&mut whole, most).await?;
        Ok(String::from_utf8(whole)?)
    }

    #[tokio::test]
    async fn a_success_has_its_whole_body() {
        let said = say(StatusCode::CREATED, "a b", 100).await.unwrap();
        assert_eq!(said, "you said a b");
        assert_eq!(say(StatusCode::OK, "", 100).await.unwrap(), "you said ");
    }

    #[tokio::test]
    async fn anything_else_is_an_error_with_the_words_of_the_server() {
        let error = say(StatusCode::CONFLICT, "no", 100).await.unwrap_err();
        assert_eq!(error.to_string(), "HTTP status 409 Conflict: you said no");
        let error = say(StatusCode::OK, "much", 4).await.unwrap_err();
        assert_eq!(error.to_string(), "an answer of more than 4 bytes");
    }
}
