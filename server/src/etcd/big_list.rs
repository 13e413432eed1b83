//! The answer to a range that is too much for a connection's shard: read page by page, on other threads, while it is
//! sent.
//!
//! Its length goes first, so which keys it has is found out before; one page of values is in memory at most.

use std::convert::Infallible;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use store::{Chosen, Record, StoreError};
use tokio::sync::OwnedSemaphorePermit;

use super::codec::{self, List, RangeFrame};
use super::error::Status;
use super::kv::fault;
use super::offload::Offload;
use crate::node::Node;

/// What is being read.
type Reading =
    Pin<Box<dyn Future<Output = Result<Result<Vec<Record>, StoreError>, Status>> + Send>>;

/// The body of one answer.
pub(super) struct BigList {
    node: Node,
    offload: Arc<Offload>,
    chosen: Arc<Chosen>,
    /// Where the next page begins.
    next: usize,
    list: List,
    reading: Option<Reading>,
    is_over: bool,
    /// Its share of the memory of all such answers.
    _memory: OwnedSemaphorePermit,
}

impl BigList {
    /// Lays the answer out. Fails if it is too long to be sent.
    pub(super) fn new(
        node: Node,
        offload: Arc<Offload>,
        chosen: Chosen,
        frame: &RangeFrame,
        memory: OwnedSemaphorePermit,
    ) -> Result<Self, Status> {
        let list = List::to_be_fed(frame, chosen.encoded_lens())?;
        Ok(Self {
            node,
            offload,
            chosen: Arc::new(chosen),
            next: 0,
            list,
            reading: None,
            is_over: false,
            _memory: memory,
        })
    }

    /// Bytes that are yet to be sent.
    pub(super) fn remaining(&self) -> usize {
        self.list.remaining()
    }

    /// Begins to read the next page.
    fn read(&mut self) -> Reading {
        let (page, is_in_memory) = self.chosen.page(self.next);
        self.next = page.end;
        let (reader, chosen) = (self.node.reader().clone(), self.chosen.clone());
        let read = move |page: Range<usize>| reader.read_page(&chosen, page);
        if is_in_memory {
            // Sharing a page of records is quick, but the shard has others to serve, too.
            return Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(read(page))
            });
        }
        let offload = self.offload.clone();
        Box::pin(async move { offload.run(None, move |_| read(page)).await })
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let records = ready!(reading.as_mut().poll(context));
                self.reading = None;
                match records? {
                    Ok(records) => self.list.feed(records),
                    Err(error) => return Poll::Ready(Err(fault(&self.node, &error))),
                }
            }
            if !self.list.is_hungry() {
                return Poll::Ready(Ok(self.list.next_chunk()));
            }
            self.reading = Some(self.read());
        }
    }
}

impl http_body::Body for BigList {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let list = self.get_mut();
        if list.is_over {
            return Poll::Ready(None);
        }
        let frame = match ready!(list.poll_piece(context)) {
            Ok(Some(piece)) => Frame::data(piece),
            Ok(None) => {
                list.is_over = true;
                Frame::trailers(codec::success())
            }
            Err(status) => {
                list.is_over = true;
                Frame::trailers(codec::failure(&status))
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }
}
