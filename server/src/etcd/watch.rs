//! The Watch call: requests in, responses out, in the one body that the connection polls.
//!
//! There is no task for a stream. The connection asks this body for data; it then reads what the client asks, and
//! writes what the hub has queued. Many short responses share one data frame; long events go out as the bytes that all
//! streams share.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::Frame;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use proto::etcd::etcdserverpb::watch_create_request::FilterType;
use proto::etcd::etcdserverpb::watch_request::RequestUnion;
use proto::etcd::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};

use super::codec;
use super::error::{self, Status};
use super::messages::Messages;
use crate::metrics::GrpcMethod;
use crate::watch::{Create, End, Events, Hub, Identity, Item, KeyRange, NoticeKind, Stream, Taken};

/// A data frame is closed once it is this long.
const FRAME_BYTES: usize = 64 * 1024;
/// What the head of a response takes at most: prefix, header, id, flag.
const HEAD_BYTES: usize = 72;

const HEADER: u8 = 0x0a;
const WATCH_ID: u8 = 0x10;
const FRAGMENT: [u8; 2] = [0x38, 0x01];

/// One stream: the request body that it reads and the response body that it is.
pub struct Call<B> {
    /// Its watchers live on when there are no more.
    requests: Messages<B>,
    stream: Stream,
    /// Taken from the stream's queue; the first may be half written.
    items: VecDeque<Item>,
    /// How many watchers of the first item have their response.
    done: usize,
    /// Shared bytes that belong right behind what was last given out.
    shared: VecDeque<Bytes>,
    /// How the call ends once everything is written.
    failure: Option<Status>,
    has_ended: bool,
    method: GrpcMethod,
}

impl<B> Call<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    /// Opens a stream of the hub for a request body. `method` counts messages, not the call.
    pub fn new(inbound: B, hub: &Hub, method: GrpcMethod) -> Self {
        let stream = hub.open();
        let limit = stream.options().message_bytes;
        Self {
            requests: Messages::new(inbound, limit, method.clone()),
            stream,
            items: VecDeque::new(),
            done: 0,
            shared: VecDeque::new(),
            failure: None,
            has_ended: false,
            method,
        }
    }

    /// Reads requests for as long as there are any and the hub keeps up.
    fn read(&mut self, context: &mut Context<'_>) -> Result<(), Status> {
        while self.stream.takes_requests() {
            match self.requests.poll_next::<WatchRequest>(context)? {
                // One that says nothing is ignored.
                Poll::Ready(Some(request)) => match request.request_union.map(understand) {
                    Some(crate::watch::Request::Progress)
                        if self.stream.tell_progress(&mut self.items) => {}
                    Some(request) => self.stream.request(request),
                    None => {}
                },
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// The next data frame of what was taken from the queue.
    fn next_data(&mut self) -> Option<Bytes> {
        if let Some(bytes) = self.shared.pop_front() {
            return Some(bytes);
        }
        if self.items.is_empty() {
            return None;
        }
        let mut buffer = BytesMut::with_capacity(self.planned());
        let mut responses = 0;
        while buffer.len() < FRAME_BYTES && self.shared.is_empty() {
            let Some(item) = self.items.front() else {
                break;
            };
            let is_written = match item {
                Item::Notice(notice) => {
                    let message = response(self.stream.identity(), notice);
                    codec::put_prefix(&mut buffer, message.encoded_len());
                    message.encode_raw(&mut buffer);
                    responses += 1;
                    true
                }
                Item::Events(events) => {
                    let head = Head::new(self.stream.identity(), events);
                    let ids = &events.watch_ids[self.done..];
                    if let Some(body) = events.payload.short() {
                        for watch_id in ids {
                            head.put(&mut buffer, *watch_id, body.len());
                            buffer.put_slice(body);
                            self.done += 1;
                            responses += 1;
                            if buffer.len() >= FRAME_BYTES {
                                break;
                            }
                        }
                    } else if let Some(watch_id) = ids.first() {
                        head.put(&mut buffer, *watch_id, events.payload.len());
                        self.shared.extend(events.payload.parts().iter().cloned());
                        self.done += 1;
                        responses += 1;
                    }
                    self.done == events.watch_ids.len()
                }
            };
            if is_written {
                self.done = 0;
                if let Some(item) = self.items.pop_front() {
                    self.stream.sent(&item);
                }
            }
        }
        if self.items.is_empty() && self.items.capacity() > 16 {
            self.items = VecDeque::new();
        }
        let shared: usize = self.shared.iter().map(Bytes::len).sum();
        self.method.sent_many(responses, buffer.len() + shared);
        Some(buffer.freeze())
    }

    /// How long the next frame will be, so that its buffer is allocated once.
    fn planned(&self) -> usize {
        let mut bytes = 0;
        let mut done = self.done;
        for item in &self.items {
            bytes += match item {
                // Rare, and the buffer grows if the text is longer.
                Item::Notice(_) => HEAD_BYTES,
                Item::Events(events) => match events.payload.short() {
                    Some(body) => (HEAD_BYTES + body.len()) * (events.watch_ids.len() - done),
                    None => return (bytes + HEAD_BYTES).min(FRAME_BYTES + HEAD_BYTES),
                },
            };
            done = 0;
            if bytes >= FRAME_BYTES {
                return FRAME_BYTES + crate::watch::SHARED_BYTES;
            }
        }
        bytes
    }
}

impl<B> http_body::Body for Call<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let call = self.get_mut();
        if call.has_ended {
            return Poll::Ready(None);
        }
        if call.failure.is_none()
            && let Err(status) = call.read(context)
        {
            call.failure = Some(status);
        }
        loop {
            if let Some(data) = call.next_data() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            let status = match (
                call.stream.take(&mut call.items, context.waker()),
                &call.failure,
            ) {
                (Taken::Items, _) => continue,
                (_, Some(status)) => status.clone(),
                (Taken::Nothing, None) => return Poll::Pending,
                (Taken::End(End::Stopped), None) => error::STOPPED,
                (Taken::End(End::Fault), None) => error::STORE_FAULT,
            };
            call.has_ended = true;
            return Poll::Ready(Some(Ok(Frame::trailers(codec::failure(&status)))));
        }
    }
}

/// Everything of an events response up to the watcher's id, which is all that differs between its receivers.
struct Head {
    bytes: [u8; HEAD_BYTES],
    len: usize,
    has_more: bool,
}

impl Head {
    fn new(identity: &Identity, events: &Events) -> Self {
        let header = header(identity, events.revision, events.term);
        let mut bytes = [0; HEAD_BYTES];
        let mut rest = &mut bytes[..];
        rest.put_u8(HEADER);
        // Four numbers of at most eleven bytes each: it fits, and its length takes one byte.
        encode_varint(header.encoded_len() as u64, &mut rest);
        header.encode_raw(&mut rest);
        let left = rest.len();
        Self {
            bytes,
            len: HEAD_BYTES - left,
            has_more: events.has_more,
        }
    }

    /// Writes the prefix and head of a response with this many bytes of events.
    fn put(&self, buffer: &mut BytesMut, watch_id: i64, events: usize) {
        let id = watch_id.cast_unsigned();
        let id_len = if id == 0 {
            0
        } else {
            1 + encoded_len_varint(id)
        };
        let flag_len = if self.has_more { FRAGMENT.len() } else { 0 };
        codec::put_prefix(buffer, self.len + id_len + flag_len + events);
        buffer.put_slice(&self.bytes[..self.len]);
        if id != 0 {
            buffer.put_u8(WATCH_ID);
            encode_varint(id, buffer);
        }
        if self.has_more {
            buffer.put_slice(&FRAGMENT);
        }
    }
}

fn header(identity: &Identity, revision: i64, raft_term: u64) -> ResponseHeader {
    ResponseHeader {
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        revision,
        raft_term,
    }
}

/// A response without events.
fn response(identity: &Identity, notice: &crate::watch::Notice) -> WatchResponse {
    let mut response = WatchResponse {
        header: Some(header(identity, notice.revision, notice.term)),
        watch_id: notice.watch_id,
        ..WatchResponse::default()
    };
    match notice.kind {
        NoticeKind::Created => response.created = true,
        NoticeKind::Refused(why) => {
            response.created = true;
            response.canceled = true;
            response.cancel_reason = error::watch_refusal(why).to_owned();
        }
        NoticeKind::Canceled => response.canceled = true,
        NoticeKind::Compacted(revision) => {
            response.canceled = true;
            response.compact_revision = revision;
        }
        NoticeKind::Progress => {}
    }
    response
}

fn understand(request: RequestUnion) -> crate::watch::Request {
    use crate::watch::Request;
    match request {
        RequestUnion::CreateRequest(create) => Request::Create(understand_create(&create)),
        RequestUnion::CancelRequest(cancel) => Request::Cancel(cancel.watch_id),
        RequestUnion::ProgressRequest(_) => Request::Progress,
    }
}

fn understand_create(create: &WatchCreateRequest) -> Create {
    let leaves_out = |filter: FilterType| create.filters.contains(&(filter as i32));
    Create {
        range: KeyRange::new(&create.key, &create.range_end),
        start_revision: create.start_revision,
        watch_id: create.watch_id,
        progress_notify: create.progress_notify,
        without_puts: leaves_out(FilterType::Noput),
        without_deletes: leaves_out(FilterType::Nodelete),
        with_previous: create.prev_kv,
        fragment: create.fragment,
    }
}
