//! The request body of a call that takes many messages: JSON values, one after the other, as gRPC frames.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame};
use prost_reflect::MessageDescriptor;

use super::framed;
use super::read::End;
use crate::etcd::{Status, error};

/// What was wrong with the requests, for whoever writes the answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Complaint(Arc<OnceLock<Status>>);

impl Complaint {
    fn make(&self, status: Status) {
        // Only the first one counts.
        let _ = self.0.set(status);
    }

    /// The complaint, if there is one.
    pub(super) fn get(&self) -> Option<&Status> {
        self.0.get()
    }
}

/// A body of JSON values as a body of gRPC frames. It ends with the first value that is not understood.
pub(super) struct Requests<B> {
    body: Option<B>,
    unread: BytesMut,
    /// Of the value with which `unread` begins.
    end: End,
    descriptor: MessageDescriptor,
    /// Longest value.
    limit: usize,
    complaint: Complaint,
}

impl<B> Requests<B> {
    pub(super) fn new(
        body: B,
        descriptor: MessageDescriptor,
        limit: usize,
        complaint: Complaint,
    ) -> Self {
        Self {
            body: Some(body),
            unread: BytesMut::new(),
            end: End::default(),
            descriptor,
            limit,
            complaint,
        }
    }

    /// The next value that is fully there.
    fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(end) = self.end.find(&self.unread) else {
            if self.unread.len() > self.limit {
                return Err(error::message_too_long(self.unread.len(), self.limit));
            }
            return Ok(None);
        };
        let frame = framed(&self.descriptor, &self.unread[..end])?;
        self.unread.advance(end);
        Ok(Some(frame))
    }
}

impl<B> Body for Requests<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let requests = self.get_mut();
        loop {
            match requests.next() {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(Frame::data(frame)))),
                Ok(None) => {}
                Err(status) => {
                    requests.complaint.make(status);
                    requests.body = None;
                    requests.unread.clear();
                }
            }
            let Some(body) = &mut requests.body else {
                return Poll::Ready(None);
            };
            match Pin::new(body).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        requests.unread.extend_from_slice(&data);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    requests.body = None;
                    if !requests.unread.trim_ascii().is_empty() {
                        requests
                            .complaint
                            .make(error::bad_json(&"the last request is cut off"));
                    }
                }
            }
        }
    }
}
