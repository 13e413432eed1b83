//! Answers of gRPC calls as JSON: one object, or one a line of a call that answers more than once.

use std::convert::Infallible;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Frame;
use http_body_util::Full;
use prost_reflect::MessageDescriptor;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Code;

use super::failure;
use super::requests::Complaint;
use super::write::{self, Malformed, Writer};
use crate::etcd::codec::{BrokenOff, PREFIX};
use crate::etcd::{Body, Status, error};

/// Writes an error as etcd's gateway does; it never has details.
pub(super) fn put_error(status: &Status, json: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(json, r#"{{"code":{},"message":"#, status.code() as i32);
    write::text(status.text(), json);
    json.push(b'}');
}

/// The length that a gRPC message says it has.
fn promised(frame: &[u8]) -> Option<usize> {
    let [_, length @ ..] = *frame.first_chunk::<PREFIX>()?;
    Some(u32::from_be_bytes(length) as usize)
}

/// The answer of a call that answers once. `first` is what was taken from its body.
pub(super) fn whole_or_pieces(
    body: Body,
    first: Bytes,
    descriptor: &MessageDescriptor,
) -> Result<Body, Status> {
    if promised(&first) == Some(first.len().saturating_sub(PREFIX)) {
        let mut json = Vec::new();
        write::message(descriptor, &first[PREFIX..], &mut json).map_err(|error| bug(&error))?;
        return Ok(Body::Other(Box::pin(Full::from(json))));
    }
    let mut json = Vec::new();
    let pieces = Pieces {
        body,
        unread: first.into(),
        left: None,
        writer: Some(Writer::new(descriptor.clone(), &mut json)),
        json,
    };
    Ok(Body::Fragile(Box::pin(pieces)))
}

fn bug(error: &Malformed) -> Status {
    tracing::error!(%error, "the JSON gateway cannot write an answer; please report this");
    error::STORE_FAULT
}

/// A long answer, written as its pieces come. It ends with the JSON only if all of the answer has come; else it breaks
/// off, because its status is out already.
struct Pieces {
    body: Body,
    /// The prefix at first, then the part of a field that is not complete.
    unread: BytesMut,
    /// How much of the message is not written yet; unknown before its prefix.
    left: Option<usize>,
    /// None at the end.
    writer: Option<Writer>,
    json: Vec<u8>,
}

impl Pieces {
    fn write(&mut self) -> Result<(), Malformed> {
        if let (None, Some(length)) = (self.left, promised(&self.unread)) {
            self.unread.advance(PREFIX);
            self.left = Some(length);
        }
        if let (Some(left), Some(writer)) = (&mut self.left, &mut self.writer) {
            let written = writer.fields(&self.unread, &mut self.json)?;
            self.unread.advance(written);
            *left = left.saturating_sub(written);
        }
        Ok(())
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let pieces = self.get_mut();
        loop {
            if let Err(error) = pieces.write() {
                let _ = bug(&error);
                pieces.writer = None;
                pieces.json.clear();
                return Poll::Ready(Some(Err(BrokenOff)));
            }
            if !pieces.json.is_empty() {
                let json = std::mem::take(&mut pieces.json);
                return Poll::Ready(Some(Ok(Frame::data(json.into()))));
            }
            if pieces.writer.is_none() {
                return Poll::Ready(None);
            }
            let frame = ready!(Pin::new(&mut pieces.body).poll_frame(context)).transpose()?;
            let has_succeeded = match frame.map(Frame::into_data) {
                Some(Ok(data)) => {
                    pieces.unread.extend_from_slice(&data);
                    continue;
                }
                Some(Err(trailers)) => is_success(&trailers),
                None => false,
            };
            let is_whole = pieces.left == Some(0) && pieces.unread.is_empty();
            match pieces.writer.take() {
                Some(writer) if has_succeeded && is_whole => writer.end(&mut pieces.json),
                _ => return Poll::Ready(Some(Err(BrokenOff))),
            }
        }
    }
}

/// Whether a frame of trailers says that the call succeeded.
fn is_success(end: &Frame<Bytes>) -> bool {
    let status = end.trailers_ref().and_then(tonic::Status::from_header_map);
    status.is_some_and(|status| status.code() == Code::Ok)
}

/// The answers of a call that answers more than once, one object a line.
pub(super) struct Lines {
    body: Body,
    unread: BytesMut,
    descriptor: MessageDescriptor,
    /// Until when the client waits.
    deadline: Option<Pin<Box<Sleep>>>,
    complaint: Complaint,
    has_ended: bool,
}

impl Lines {
    /// `first` is what was taken from the body.
    pub(super) fn new(
        body: Body,
        first: Bytes,
        descriptor: MessageDescriptor,
        deadline: Option<Instant>,
        complaint: Complaint,
    ) -> Self {
        Self {
            body,
            unread: first.into(),
            descriptor,
            deadline: deadline.map(|deadline| Box::pin(sleep_until(deadline))),
            complaint,
            has_ended: false,
        }
    }

    /// The lines of all messages that are fully there.
    fn lines(&mut self) -> Result<Vec<u8>, Malformed> {
        let mut json = Vec::new();
        while let Some(length) = promised(&self.unread) {
            if self.unread.len() < PREFIX + length {
                break;
            }
            let message = &self.unread[PREFIX..PREFIX + length];
            json.extend_from_slice(br#"{"result":"#);
            write::message(&self.descriptor, message, &mut json)?;
            json.extend_from_slice(b"}\n");
            self.unread.advance(PREFIX + length);
        }
        Ok(json)
    }
}

/// The last line of a stream that failed.
pub(super) fn error_line(status: &Status) -> Vec<u8> {
    let mut json = br#"{"error":"#.to_vec();
    put_error(status, &mut json);
    json.extend_from_slice(b"}\n");
    json
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let lines = self.get_mut();
        let line = |json: Vec<u8>| Poll::Ready(Some(Ok(Frame::data(json.into()))));
        loop {
            if lines.has_ended {
                return Poll::Ready(None);
            }
            match lines.lines() {
                Ok(json) if json.is_empty() => {}
                Ok(json) => return line(json),
                Err(error) => {
                    lines.has_ended = true;
                    return line(error_line(&bug(&error)));
                }
            }
            if let Some(deadline) = &mut lines.deadline
                && deadline.as_mut().poll(context).is_ready()
            {
                lines.has_ended = true;
                return line(error_line(&error::DEADLINE_EXCEEDED));
            }
            // It reads the requests, too, and so may find something to complain of.
            let polled = Pin::new(&mut lines.body).poll_frame(context);
            if let (true, Some(status)) = (polled.is_pending(), lines.complaint.get()) {
                lines.has_ended = true;
                return line(error_line(status));
            }
            match ready!(polled) {
                None => lines.has_ended = true,
                Some(Err(BrokenOff)) => {
                    lines.has_ended = true;
                    return line(error_line(&error::STORE_FAULT));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => lines.unread.extend_from_slice(&data),
                    Err(frame) => {
                        lines.has_ended = true;
                        let outcome = frame.trailers_ref().map_or(Ok(()), failure);
                        if let Err(status) = outcome {
                            return line(error_line(&status));
                        }
                    }
                },
            }
        }
    }
}
