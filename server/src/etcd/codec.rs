//! gRPC on the wire: messages out of request bodies, and answers as bodies of as few frames as possible.
//!
//! A unary answer is one data frame that was encoded in one piece, then the trailers. Only answers beyond
//! [`CHUNK`] come in pieces, made when the connection asks for them, so that a list of any size holds a few
//! pieces in memory and reuses the same warm buffers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use prost::Message;
use proto::etcd::etcdserverpb::ResponseHeader;
use store::Record;
use tonic::Code;

use super::error::{self, Status};
use crate::metrics::{GrpcCall, GrpcMethod};

/// An answer longer than this leaves in pieces of about this size.
pub const CHUNK: usize = 128 * 1024;

/// Flag byte and length before each message.
pub const PREFIX: usize = 5;

/// The longest message that is sent, as in etcd. Client libraries take no longer one.
pub const MAX_MESSAGE: usize = 0x7fff_ffff;

static APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
static STATUS_OK: HeaderValue = HeaderValue::from_static("0");

/// A body of some other maker: a watch stream, an HTTP endpoint.
pub type OtherBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = Infallible> + Send>>;

/// A body that has no trailers to say that it failed, and breaks off instead.
pub type FragileBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BrokenOff> + Send>>;

/// An answer that ends before its time: its stream is reset, so that nobody takes it for a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer broke off")]
pub struct BrokenOff;

/// The body of every response that the client port gives.
pub enum Body {
    /// Nothing: the headers say it all.
    Empty,
    /// One whole gRPC message, then the trailers of success.
    Message(Bytes),
    /// Only the trailers of success are left.
    Trailers,
    /// One gRPC message in pieces, then the trailers of success.
    List(Box<List>),
    /// Anything that is not worth a case of its own on the hot path.
    Other(OtherBody),
    /// The same, of what may break off.
    Fragile(FragileBody),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let body = self.get_mut();
        let frame = match body {
            Self::Empty => None,
            Self::Message(message) => {
                let message = std::mem::take(message);
                *body = Self::Trailers;
                Some(Frame::data(message))
            }
            Self::Trailers => {
                *body = Self::Empty;
                Some(Frame::trailers(success()))
            }
            Self::List(list) => match list.next_chunk() {
                Some(chunk) => Some(Frame::data(chunk)),
                None => {
                    *body = Self::Empty;
                    Some(Frame::trailers(success()))
                }
            },
            Self::Other(other) => {
                let polled = other.as_mut().poll_frame(context);
                return polled.map_err(|never| match never {});
            }
            Self::Fragile(fragile) => return fragile.as_mut().poll_frame(context),
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Other(other) => other.is_end_stream(),
            Self::Fragile(fragile) => fragile.is_end_stream(),
            Self::Message(_) | Self::Trailers | Self::List(_) => false,
        }
    }

    /// Of gRPC bodies none: an exact one would cost a `content-length` header.
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Other(other) => other.size_hint(),
            Self::Fragile(fragile) => fragile.size_hint(),
            Self::Empty | Self::Message(_) | Self::Trailers | Self::List(_) => SizeHint::default(),
        }
    }
}

/// The body of a call that streams its answer: says to the counters how the call ended.
pub struct Counted<B> {
    body: B,
    call: GrpcCall<GrpcMethod>,
}

impl<B> Counted<B> {
    /// Counts the end of `body` as that of `call`.
    pub fn new(body: B, call: GrpcCall<GrpcMethod>) -> Self {
        Self { body, call }
    }
}

impl<B> http_body::Body for Counted<B>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self { body, call } = self.get_mut();
        let polled = Pin::new(body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(status) = frame
                .trailers_ref()
                .and_then(|trailers| trailers.get(&GRPC_STATUS))
        {
            call.ended(Code::from_bytes(status.as_bytes()));
        }
        polled
    }
}

/// The trailers of a call that succeeded.
pub fn success() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS.clone(), STATUS_OK.clone());
    trailers
}

/// The trailers of a call that failed after it had begun to answer.
pub fn failure(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(GRPC_STATUS.clone(), HeaderValue::from(status.code() as i32));
    trailers.insert(GRPC_MESSAGE.clone(), status.header());
    trailers
}

/// A gRPC response that begins to succeed.
pub fn respond(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, APPLICATION_GRPC.clone());
    response
}

/// A gRPC response that is nothing but a refusal: one frame of headers.
pub fn refuse(status: &Status) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    *headers = failure(status);
    headers.insert(CONTENT_TYPE, APPLICATION_GRPC.clone());
    response
}

/// A message with its prefix, in one allocation of the exact size. For messages that are short by nature; what may
/// hold any number of keys is for [`frame_of_data`].
pub fn frame(message: &impl Message) -> Bytes {
    framed(message, message.encoded_len())
}

/// As [`frame`], of a message that may be too long to be sent. Nothing is allocated before that is known.
pub fn frame_of_data(message: &impl Message) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    check_length(length)?;
    Ok(framed(message, length))
}

fn framed(message: &impl Message, length: usize) -> Bytes {
    let mut buffer = BytesMut::with_capacity(PREFIX + length);
    put_prefix(&mut buffer, length);
    message
        .encode(&mut buffer)
        .expect("the buffer has room for the message");
    buffer.freeze()
}

/// Refuses a message that is too long to be sent.
pub fn check_length(length: usize) -> Result<(), Status> {
    if length > MAX_MESSAGE {
        return Err(error::answer_too_long(length, MAX_MESSAGE));
    }
    Ok(())
}

/// Writes the prefix of an uncompressed message. A length that the prefix cannot hold becomes the largest one, which
/// every client refuses: its call ends, and the node goes on. [`check_length`] tells earlier and better.
pub fn put_prefix(buffer: &mut BytesMut, length: usize) {
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// Reads the one message of a unary call. `limit` bounds its length; nothing is allocated before that is known.
pub async fn read<B>(mut body: B, limit: usize) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut head = next_data(&mut body).await?.ok_or(error::NO_MESSAGE)?;
    while head.len() < PREFIX {
        let mut longer = BytesMut::from(&head[..]);
        longer.extend_from_slice(&next_data(&mut body).await?.ok_or(error::NO_MESSAGE)?);
        head = longer.freeze();
    }
    if head[0] != 0 {
        return Err(error::COMPRESSED);
    }
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > limit {
        return Err(error::message_too_long(length, limit));
    }
    let rest = head.split_off(PREFIX);
    let message = if rest.len() >= length {
        rest
    } else {
        let mut message = BytesMut::with_capacity(length);
        message.extend_from_slice(&rest);
        while message.len() < length {
            message.extend_from_slice(&next_data(&mut body).await?.ok_or(error::NO_MESSAGE)?);
        }
        message.freeze()
    };
    // Waiting for the client's end of the stream keeps an early answer from becoming a reset of the stream.
    let has_excess =
        message.len() > length || (!body.is_end_stream() && next_data(&mut body).await?.is_some());
    if has_excess {
        Err(error::TWO_MESSAGES)
    } else {
        Ok(message)
    }
}

/// The next data that is not empty; `None` at the end of the stream.
async fn next_data<B>(body: &mut B) -> Result<Option<Bytes>, Status>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    while let Some(frame) = body.frame().await {
        // The only fault of a request body is that the client, or the connection, is gone.
        let frame = frame.map_err(|_| error::CANCELED)?;
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// What surrounds the records of a `RangeResponse`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RangeFrame {
    /// Missing in all but the last message of a stream.
    pub header: Option<ResponseHeader>,
    /// Whether the limit left keys out.
    pub more: bool,
    /// Keys in the range.
    pub count: i64,
}

/// Encodes a `RangeResponse` whose key-value pairs are records that are encoded already.
/// `wrapped` puts it into a `RangeStreamResponse`.
pub fn range_response(
    frame: &RangeFrame,
    records: Vec<Record>,
    wrapped: bool,
) -> Result<Body, Status> {
    let list = List::new(frame, records, wrapped)?;
    Ok(if list.remaining <= CHUNK {
        Body::Message(list.whole())
    } else {
        Body::List(Box::new(list))
    })
}

/// One gRPC message with a `RangeResponse`, encoded piece by piece.
pub struct List {
    /// Prefix and header; empty once written.
    head: BytesMut,
    records: std::vec::IntoIter<Record>,
    /// `more` and `count`; empty once written.
    tail: Tail,
    /// Bytes yet to be written.
    remaining: usize,
}

/// The few bytes after the records.
#[derive(Clone, Copy, Default)]
struct Tail {
    more: bool,
    count: u64,
}

/// Tags of `RangeResponse` and `RangeStreamResponse`: number and wire type.
mod tag {
    pub(super) const HEADER: u8 = 0x0a;
    pub(super) const KVS: u8 = 0x12;
    pub(super) const MORE: u8 = 0x18;
    pub(super) const COUNT: u8 = 0x20;
    pub(super) const RANGE_RESPONSE: u8 = 0x0a;
}

impl List {
    /// Lays the message out; no record is touched beyond its length. Fails if it is too long to be sent.
    pub fn new(frame: &RangeFrame, records: Vec<Record>, wrapped: bool) -> Result<Self, Status> {
        let lens = records.iter().map(|record| record.encoded().len());
        let mut list = Self::laid_out(frame, lens, wrapped)?;
        list.feed(records);
        Ok(list)
    }

    /// Lays out the message of records of these lengths, which come with [`List::feed`].
    pub fn to_be_fed(
        frame: &RangeFrame,
        lens: impl Iterator<Item = usize>,
    ) -> Result<Self, Status> {
        Self::laid_out(frame, lens, false)
    }

    fn laid_out(
        frame: &RangeFrame,
        lens: impl Iterator<Item = usize>,
        wrapped: bool,
    ) -> Result<Self, Status> {
        let tail = Tail {
            more: frame.more,
            count: u64::try_from(frame.count).unwrap_or(0),
        };
        let header_length = frame.header.as_ref().map_or(0, |header| {
            let length = header.encoded_len();
            1 + prost::length_delimiter_len(length) + length
        });
        let pairs: usize = lens.map(field_length).fold(0, usize::saturating_add);
        let inner = pairs.saturating_add(header_length + tail.length());
        check_length(inner)?;
        let outer = if wrapped { field_length(inner) } else { inner };
        check_length(outer)?;

        let mut head = BytesMut::with_capacity(PREFIX + (outer - inner) + header_length);
        put_prefix(&mut head, outer);
        if wrapped {
            head.put_u8(tag::RANGE_RESPONSE);
            put_varint(&mut head, inner as u64);
        }
        if let Some(header) = &frame.header {
            head.put_u8(tag::HEADER);
            header
                .encode_length_delimited(&mut head)
                .expect("the buffer has room for the header");
        }
        Ok(Self {
            head,
            records: Vec::new().into_iter(),
            tail,
            remaining: PREFIX + outer,
        })
    }

    /// Adds the next records, once those before are out.
    pub fn feed(&mut self, records: Vec<Record>) {
        self.records = records.into_iter();
    }

    /// Whether the next piece needs records that are not there yet.
    pub fn is_hungry(&self) -> bool {
        self.records.len() == 0 && self.remaining > self.head.len() + self.tail.length()
    }

    /// Bytes that are yet to be given out; of a new one, all of the message with its prefix.
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// All of it in one piece.
    pub fn whole(mut self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(self.remaining);
        buffer.put_slice(&self.head);
        for record in self.records.by_ref() {
            put_record(&mut buffer, &record);
        }
        self.tail.put(&mut buffer);
        debug_assert_eq!(
            buffer.len(),
            self.remaining,
            "the length that the prefix promised"
        );
        buffer.freeze()
    }

    /// The next piece: as many records as fit, at least one; nothing once all are out.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        if self.remaining == 0 {
            return None;
        }
        let mut length = self.head.len();
        let mut taken = 0;
        for record in self.records.as_slice() {
            let next = field_length(record.encoded().len());
            if taken > 0 && length + next > CHUNK {
                break;
            }
            length += next;
            taken += 1;
        }
        let is_last = self.remaining == length + self.tail.length();
        let mut buffer =
            BytesMut::with_capacity(length + if is_last { self.tail.length() } else { 0 });
        buffer.put_slice(&self.head);
        self.head.clear();
        for record in self.records.by_ref().take(taken) {
            put_record(&mut buffer, &record);
        }
        if is_last {
            self.tail.put(&mut buffer);
            self.tail = Tail::default();
        }
        self.remaining -= buffer.len();
        Some(buffer.freeze())
    }
}

impl Tail {
    fn length(self) -> usize {
        let more = if self.more { 2 } else { 0 };
        let count = if self.count == 0 {
            0
        } else {
            1 + varint_length(self.count)
        };
        more + count
    }

    fn put(self, buffer: &mut BytesMut) {
        if self.more {
            buffer.put_slice(&[tag::MORE, 1]);
        }
        if self.count != 0 {
            buffer.put_u8(tag::COUNT);
            put_varint(buffer, self.count);
        }
    }
}

/// The length of a length-delimited field with a tag of one byte.
fn field_length(length: usize) -> usize {
    1 + varint_length(length as u64) + length
}

fn put_record(buffer: &mut BytesMut, record: &Record) {
    let encoded = record.encoded();
    buffer.put_u8(tag::KVS);
    put_varint(buffer, encoded.len() as u64);
    buffer.put_slice(encoded);
}

fn varint_length(value: u64) -> usize {
    // Seven bits a byte; zero takes one byte, too.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

fn put_varint(buffer: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        buffer.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    buffer.put_u8((value & 0x7f) as u8);
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proto::etcd::etcdserverpb::{RangeResponse, RangeStreamResponse};
    use store::record::Fields;
    use tonic::Code;

    use http_body::Body as _;

    use super::*;

    /// A request body of these data frames.
    struct Frames(VecDeque<Result<Bytes, &'static str>>);

    impl Frames {
        fn new(frames: impl IntoIterator<Item = Vec<u8>>) -> Self {
            Self(frames.into_iter().map(|frame| Ok(frame.into())).collect())
        }
    }

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            Poll::Ready(self.0.pop_front().map(|frame| frame.map(Frame::data)))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    async fn read_frames(
        frames: impl IntoIterator<Item = Vec<u8>>,
        limit: usize,
    ) -> Result<Bytes, Status> {
        read(Frames::new(frames), limit).await
    }

    /// A framed message of `length` bytes of `x`.
    fn framed(length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, length];
        bytes.resize(PREFIX + usize::from(length), b'x');
        bytes
    }

    #[tokio::test]
    async fn a_message_is_read_however_it_is_split() {
        let whole = framed(9);
        for cut in 0..whole.len() {
            let frames = [whole[..cut].to_vec(), vec![], whole[cut..].to_vec()];
            assert_eq!(
                read_frames(frames, 9).await,
                Ok(Bytes::from("xxxxxxxxx")),
                "cut at {cut}"
            );
        }
        let bytes = whole.iter().map(|&byte| vec![byte]);
        assert_eq!(read_frames(bytes, 9).await, Ok(Bytes::from("xxxxxxxxx")));
        assert_eq!(read_frames([framed(0)], 9).await, Ok(Bytes::new()));
    }

    #[tokio::test]
    async fn a_message_in_one_frame_is_not_copied() {
        let frame = Bytes::from(framed(9));
        let address = frame[PREFIX..].as_ptr();
        let message = read(Frames([Ok(frame)].into()), 9).await.unwrap();
        assert_eq!(message.as_ptr(), address);
    }

    #[tokio::test]
    async fn a_message_beyond_the_limit_is_refused_by_its_prefix() {
        let status = read_frames([vec![0, 0, 0, 1, 0]], 255).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(
            status.text(),
            "grpc: received message larger than max (256 vs. 255)"
        );
    }

    #[tokio::test]
    async fn anything_but_one_plain_message_is_refused() {
        assert_eq!(read_frames([], 9).await, Err(error::NO_MESSAGE));
        assert_eq!(read_frames([vec![0, 0]], 9).await, Err(error::NO_MESSAGE));
        assert_eq!(
            read_frames([framed(9)[..8].to_vec()], 9).await,
            Err(error::NO_MESSAGE)
        );
        assert_eq!(
            read_frames([vec![1, 0, 0, 0, 0]], 9).await,
            Err(error::COMPRESSED)
        );
        assert_eq!(
            read_frames([framed(2), framed(2)], 9).await,
            Err(error::TWO_MESSAGES)
        );
        assert_eq!(
            read_frames([[framed(2), framed(2)].concat()], 9).await,
            Err(error::TWO_MESSAGES)
        );
        let broken = Frames([Ok(framed(9)[..6].to_vec().into()), Err("reset")].into());
        assert_eq!(read(broken, 9).await, Err(error::CANCELED));
    }

    /// What a body puts on the wire: its data frames, then its trailers.
    async fn collect(mut body: Body) -> (Vec<Bytes>, HeaderMap) {
        let mut data = Vec::new();
        let mut trailers = HeaderMap::new();
        while let Some(Ok(frame)) = body.frame().await {
            match frame.into_data() {
                Ok(chunk) => data.push(chunk),
                Err(frame) => trailers = frame.into_trailers().unwrap(),
            }
        }
        assert!(body.is_end_stream());
        (data, trailers)
    }

    fn message_of(frames: &[Bytes]) -> Bytes {
        let bytes = frames.concat();
        let length = u32::from_be_bytes(bytes[1..PREFIX].try_into().unwrap()) as usize;
        assert_eq!((bytes[0], bytes.len()), (0, PREFIX + length));
        Bytes::from(bytes).slice(PREFIX..)
    }

    fn records(count: i64, value: &[u8]) -> Vec<Record> {
        let record = |number: i64| {
            let key = format!("key/{number:05}");
            Record::new(&Fields {
                key: key.as_bytes(),
                create_revision: 2,
                mod_revision: number + 2,
                version: 1,
                value,
                lease: 0,
            })
        };
        (0..count).map(record).collect()
    }

    fn frame_of(count: i64, more: bool) -> RangeFrame {
        let header = ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 1,
            revision: 1 << 40,
            raft_term: 0,
        };
        RangeFrame {
            header: Some(header),
            more,
            count,
        }
    }

    fn body_of(frame: &RangeFrame, records: Vec<Record>, wrapped: bool) -> Body {
        range_response(frame, records, wrapped).expect("it is short enough")
    }

    /// A message that says to be of this length, and must never be encoded.
    #[derive(Debug)]
    struct Claimed(usize);

    impl Message for Claimed {
        fn encode_raw(&self, _buffer: &mut impl BufMut) {
            panic!("a message of {} bytes was encoded", self.0);
        }

        fn merge_field(
            &mut self,
            _tag: u32,
            _wire_type: prost::encoding::WireType,
            _buffer: &mut impl bytes::Buf,
            _context: prost::encoding::DecodeContext,
        ) -> Result<(), prost::DecodeError> {
            Ok(())
        }

        fn encoded_len(&self) -> usize {
            self.0
        }

        fn clear(&mut self) {}
    }

    #[test]
    fn an_answer_too_long_to_be_sent_is_refused_before_it_is_encoded() {
        for length in [MAX_MESSAGE + 1, 1 << 32, 128 << 32] {
            let status = frame_of_data(&Claimed(length)).unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert_eq!(
                status.text(),
                format!("grpc: trying to send message larger than max ({length} vs. 2147483647)")
            );
        }
        assert_eq!(check_length(MAX_MESSAGE), Ok(()));
    }

    #[test]
    fn a_list_too_long_to_be_sent_is_refused() {
        // All clones of one record, so that the test needs next to no memory.
        let record = records(1, &vec![7; 1 << 20]).remove(0);
        let refused = |count| {
            let list = List::new(&RangeFrame::default(), vec![record.clone(); count], true);
            list.err().map(|status| status.code())
        };
        assert_eq!(refused(2047), None);
        assert_eq!(refused(2048), Some(Code::ResourceExhausted));
        assert_eq!(refused(4097), Some(Code::ResourceExhausted));
    }

    #[test]
    fn a_length_that_no_prefix_holds_becomes_one_that_no_client_takes() {
        let mut buffer = BytesMut::new();
        put_prefix(&mut buffer, 1 << 32);
        assert_eq!(buffer[..], [0, 255, 255, 255, 255]);
    }

    #[tokio::test]
    async fn a_range_answer_is_what_prost_would_have_encoded() {
        for (count, value, more) in [
            (0, 0, false),
            (1, 0, true),
            (3, 127, false),
            (40, 128, true),
            (300, 3000, true),
        ] {
            let records = records(count, &vec![b'v'; value]);
            let frame = frame_of(count * 1000, more);
            let expected = RangeResponse {
                header: frame.header,
                kvs: records.iter().map(Record::to_key_value).collect(),
                more,
                count: count * 1000,
            };
            let (data, trailers) = collect(body_of(&frame, records.clone(), false)).await;
            assert_eq!(message_of(&data), expected.encode_to_vec());
            assert_eq!(trailers, success());

            let (data, _) = collect(body_of(&frame, records, true)).await;
            let wrapped = RangeStreamResponse {
                range_response: Some(expected),
            };
            assert_eq!(message_of(&data), wrapped.encode_to_vec());
        }
    }

    #[tokio::test]
    async fn a_long_answer_leaves_in_pieces_of_bounded_size() {
        let (data, _) = collect(body_of(
            &frame_of(1000, false),
            records(1000, &[7; 1024]),
            false,
        ))
        .await;
        assert!(data.len() > 4, "{} pieces", data.len());
        assert!(data.iter().all(|piece| piece.len() <= CHUNK + 64));
        let huge = records(3, &vec![7; 2 * CHUNK]);
        let (data, _) = collect(body_of(&frame_of(3, false), huge, false)).await;
        assert_eq!(data.len(), 3, "a record is never split");
    }

    #[tokio::test]
    async fn a_message_without_fields_still_is_a_message() {
        let (data, _) = collect(body_of(&RangeFrame::default(), Vec::new(), false)).await;
        assert_eq!(data, [Bytes::from_static(&[0; PREFIX])]);
    }

    #[test]
    fn a_refusal_is_headers_alone() {
        let response = refuse(&error::EMPTY_KEY);
        assert!(response.body().is_end_stream());
        let headers = response.headers();
        assert_eq!(headers["content-type"], "application/grpc");
        assert_eq!(headers["grpc-status"], "3");
        assert_eq!(headers["grpc-message"], "etcdserver: key is not provided");
    }

    #[test]
    fn varints_take_the_bytes_that_they_are_said_to() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) - 1, (1 << shift) | 1] {
                let mut buffer = BytesMut::new();
                put_varint(&mut buffer, value);
                assert_eq!(buffer.len(), varint_length(value), "{value}");
                assert_eq!(
                    prost::decode_length_delimiter(buffer).unwrap() as u64,
                    value
                );
            }
        }
    }
}
