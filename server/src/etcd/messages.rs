//! The messages of a request stream, as they come.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

use super::codec::PREFIX;
use super::error::{self, Status};
use crate::metrics::GrpcMethod;

/// Reads messages of one type from a body, until the client has said all it will say.
pub(super) struct Messages<B> {
    /// None once the client has said all.
    inbound: Option<B>,
    unread: BytesMut,
    limit: usize,
    method: GrpcMethod,
}

impl<B> Messages<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    /// Of a body; a message may be `limit` bytes long.
    pub(super) fn new(inbound: B, limit: usize, method: GrpcMethod) -> Self {
        Self {
            inbound: Some(inbound),
            unread: BytesMut::new(),
            limit,
            method,
        }
    }

    /// The next message; none when there will be no more.
    pub(super) fn poll_next<M: Message + Default>(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<M>, Status>> {
        loop {
            if let Some(message) = self.take()? {
                return Poll::Ready(Ok(Some(message)));
            }
            let Some(inbound) = &mut self.inbound else {
                return Poll::Ready(Ok(None));
            };
            match Pin::new(inbound).poll_frame(context) {
                Poll::Pending => {
                    // Most streams wait for a long time between messages.
                    if self.unread.is_empty() {
                        self.unread = BytesMut::new();
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.unread.extend_from_slice(&data);
                    }
                }
                // An error means that the client is gone: the connection drops the call soon.
                Poll::Ready(Some(Err(_)) | None) => self.inbound = None,
            }
        }
    }

    /// A message that is here as a whole.
    fn take<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        let Some(&[is_compressed, ref length @ ..]) = self.unread.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        if is_compressed != 0 {
            return Err(error::COMPRESSED);
        }
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.limit {
            return Err(error::message_too_long(length, self.limit));
        }
        if self.unread.len() < PREFIX + length {
            return Ok(None);
        }
        self.method.received(length);
        self.unread.advance(PREFIX);
        let message = self.unread.split_to(length).freeze();
        M::decode(message).map(Some).map_err(|_| error::MALFORMED)
    }
}
