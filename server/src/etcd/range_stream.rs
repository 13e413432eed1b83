//! `RangeStream`: a range in pieces, read from one view page by page.
//!
//! Two pages are in memory at most: one on its way out and the next. Header, `more` and `count` come with the last one, so that all pieces,
//! merged, make the answer of the unary call.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::Frame;
use proto::etcd::etcdserverpb::RangeRequest;
use proto::etcd::etcdserverpb::range_request::SortTarget;
use store::{Record, View};

use super::codec::{self, List, RangeFrame};
use super::error::Status;
use super::kv::fault;
use crate::metrics::GrpcMethod;
use crate::node::Node;

/// Keys of the first page. Later ones aim at [`PAGE_BYTES`].
const FIRST_PAGE: i64 = 10;

/// Most keys of a page, for values that are next to nothing.
const MAX_PAGE: i64 = 10_000;

/// About as much as one message carries.
const PAGE_BYTES: usize = 1024 * 1024;

/// The body of one answer.
pub(super) struct RangeStream {
    node: Node,
    method: GrpcMethod,
    view: Arc<View>,
    /// What is left: the key moves on, the limit sinks.
    request: RangeRequest,
    /// The message that is going out.
    message: Option<List>,
    /// The next page, read ahead to know whether it is the last one.
    page: Option<Vec<Record>>,
    page_keys: i64,
    is_last: bool,
    /// The trailers are out.
    is_over: bool,
    frame: RangeFrame,
}

impl RangeStream {
    /// Reads the first page, so that a refusal still is the whole answer.
    pub(super) fn start(
        node: Node,
        method: GrpcMethod,
        view: Arc<View>,
        mut request: RangeRequest,
    ) -> Result<Self, Status> {
        // Without an order a target means nothing here, but would to the store.
        request.sort_target = SortTarget::Key.into();
        let header = Some(node.header(view.revision));
        let mut stream = Self {
            node,
            method,
            view,
            request,
            message: None,
            page: None,
            page_keys: FIRST_PAGE,
            is_last: false,
            is_over: false,
            frame: RangeFrame {
                header,
                more: false,
                count: 0,
            },
        };
        stream.frame.count = stream.read()?;
        Ok(stream)
    }

    /// Reads the next page; returns how many keys were in the range from there on.
    fn read(&mut self) -> Result<i64, Status> {
        let left = self.request.limit;
        let is_limited = left > 0;
        let limit = if is_limited {
            left.min(self.page_keys)
        } else {
            self.page_keys
        };
        let page = RangeRequest {
            limit,
            ..self.request.clone()
        };
        let reader = self.node.reader();
        let answer = reader
            .range(&self.view, &page)
            .map_err(|error| fault(&self.node, &error))?
            .map_err(|refusal| Status::from(&refusal))?;
        self.is_last = !answer.more || (is_limited && limit == left);
        if self.is_last {
            self.frame.more = answer.more;
        } else if let Some(last) = answer.records.last() {
            // The least key after the last one is that one and a zero byte.
            let mut next = BytesMut::with_capacity(last.key().len() + 1);
            next.put_slice(last.key());
            next.put_u8(0);
            self.request.key = next.freeze();
            if is_limited {
                self.request.limit = left - limit;
            }
            let bytes: usize = answer
                .records
                .iter()
                .map(|record| record.encoded().len())
                .sum();
            if bytes * 2 <= PAGE_BYTES {
                self.page_keys = (self.page_keys * 2).min(MAX_PAGE);
            } else if bytes > PAGE_BYTES {
                self.page_keys = (self.page_keys / 2).max(1);
            }
        }
        self.page = Some(answer.records);
        Ok(answer.count)
    }

    /// The next piece of a message; nothing once all are out.
    fn next_piece(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(piece) = self.message.as_mut().and_then(List::next_chunk) {
                return Ok(Some(piece));
            }
            let Some(records) = self.page.take() else {
                return Ok(None);
            };
            let message = if self.is_last {
                List::new(&self.frame, records, true)
            } else {
                let message = List::new(&RangeFrame::default(), records, true);
                self.read()?;
                message
            };
            self.method.sent(message.remaining());
            self.message = Some(message);
        }
    }
}

impl http_body::Body for RangeStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stream = self.get_mut();
        if stream.is_over {
            return Poll::Ready(None);
        }
        let frame = match stream.next_piece() {
            Ok(Some(piece)) => Frame::data(piece),
            Ok(None) => {
                stream.is_over = true;
                Frame::trailers(codec::success())
            }
            Err(status) => {
                stream.is_over = true;
                Frame::trailers(codec::failure(&status))
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }
}
