//! `RangeStream`: a range in pieces, read from one view page by page.
//!
//! One page is in memory at most. Header, `more` and `count` come with the last one, so that all pieces, merged, make
//! the answer of the unary call.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body::Frame;
use proto::etcd::etcdserverpb::RangeRequest;
use proto::etcd::etcdserverpb::range_request::SortTarget;
use store::{Reader, Record, Refusal, StoreError, View};

use super::codec::{self, List, RangeFrame};
use super::error::{self, Status};
use super::kv::{SHORT_READ, fault};
use super::offload::{Offload, Wanted};
use crate::metrics::GrpcMethod;
use crate::node::Node;

/// Most keys of a page, for values that are next to nothing.
const MAX_PAGE: usize = 10_000;

/// About as much as one message carries, unless a single key is larger: the longest request that etcd takes.
const PAGE_BYTES: u64 = 1536 * 1024;

/// A page that is being read: its records, and the pages again.
type Reading = Pin<Box<dyn Future<Output = Result<(Pages, Vec<Record>), Status>> + Send>>;

/// The body of one answer.
pub(super) struct RangeStream {
    node: Node,
    method: GrpcMethod,
    offload: Arc<Offload>,
    /// None while a page is read, and once all are.
    pages: Option<Pages>,
    reading: Option<Reading>,
    frame: RangeFrame,
    /// The message that is going out.
    message: Option<List>,
    /// The trailers are out.
    is_over: bool,
}

impl RangeStream {
    /// Counts the range first, so that a refusal still is the whole answer. If that is too much for the shard, it waits
    /// for a place elsewhere, no longer than `patience`.
    pub(super) async fn start(
        node: Node,
        method: GrpcMethod,
        offload: Arc<Offload>,
        patience: Duration,
        view: Arc<View>,
        request: RangeRequest,
    ) -> Result<Self, Status> {
        let header = Some(node.header(view.revision));
        let reader = node.reader().clone();
        // A view that is held for the pages of a list shows its revision like the newest one does.
        let view = reader.held(&view, request.revision).unwrap_or(view);
        let here = Pages::new(&reader, view.clone(), request.clone(), SHORT_READ, &|| true);
        let pages = match answered(&node, here)? {
            Some(pages) => pages,
            None => {
                let count = move |wanted: &Wanted| {
                    Pages::new(&reader, view, request, u64::MAX, &|| wanted.holds())
                };
                let counted = offload.run(Some(patience), count).await?;
                answered(&node, counted)?.ok_or(error::CANCELED)?
            }
        };
        let frame = RangeFrame {
            header,
            more: pages.has_more,
            count: pages.count,
        };
        let mut stream = Self {
            node,
            method,
            offload,
            pages: None,
            reading: None,
            frame,
            message: None,
            is_over: false,
        };
        stream.read_first(pages)?;
        Ok(stream)
    }

    /// Whether all of it was read, so that no view is held for it any more.
    pub(super) fn is_read(&self) -> bool {
        self.pages.is_none() && self.reading.is_none()
    }

    /// Many ranges are one page, which is best read at once. What takes longer is left to [`RangeStream::read`].
    fn read_first(&mut self, mut pages: Pages) -> Result<(), Status> {
        let read = pages.read(self.node.reader(), SHORT_READ, &|| true);
        match answered(&self.node, read)? {
            Some(records) => self.send(pages, records)?,
            None => self.pages = Some(pages),
        }
        Ok(())
    }

    /// Begins to read a page on another thread.
    fn read(&self, mut pages: Pages) -> Reading {
        let (node, offload) = (self.node.clone(), self.offload.clone());
        Box::pin(async move {
            let reader = node.reader().clone();
            let read = offload.run(None, move |wanted| {
                let records = pages.read(&reader, u64::MAX, &|| wanted.holds());
                (pages, records)
            });
            let (pages, records) = read.await?;
            let records = answered(&node, records)?.ok_or(error::CANCELED)?;
            Ok((pages, records))
        })
    }

    /// Lays out the message of a page.
    fn send(&mut self, pages: Pages, records: Vec<Record>) -> Result<(), Status> {
        let message = if pages.left == 0 {
            List::new(&self.frame, records, true)?
        } else {
            self.pages = Some(pages);
            List::new(&RangeFrame::default(), records, true)?
        };
        self.method.sent(message.remaining());
        self.message = Some(message);
        Ok(())
    }

    /// The next piece of a message; nothing once all are out.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(piece) = self.message.as_mut().and_then(List::next_chunk) {
                return Poll::Ready(Ok(Some(piece)));
            }
            if let Some(reading) = &mut self.reading {
                let read = ready!(reading.as_mut().poll(context));
                self.reading = None;
                let sent = read.and_then(|(pages, records)| self.send(pages, records));
                if let Err(status) = sent {
                    return Poll::Ready(Err(status));
                }
                continue;
            }
            match self.pages.take() {
                Some(pages) => self.reading = Some(self.read(pages)),
                None => return Poll::Ready(Ok(None)),
            }
        }
    }
}

/// What was read, as the client hears of it. None: it was given up.
fn answered<T>(node: &Node, read: Read<T>) -> Result<Option<T>, Status> {
    read.map_err(|error| fault(node, &error))?
        .map_err(|refusal| Status::from(&refusal))
}

/// What a read finds, if it was not given up.
type Read<T> = Result<Result<Option<T>, Refusal>, StoreError>;

/// A range of one view, cut into pages of bounded size.
struct Pages {
    view: Arc<View>,
    /// Of a past revision, so that the last page is read like the first one, whatever is compacted meanwhile.
    pin: Option<store::Pin>,
    /// What is left: the key moves on.
    request: RangeRequest,
    /// Keys in the range.
    count: i64,
    /// Whether the limit leaves keys out.
    has_more: bool,
    /// Keys yet to be read.
    left: usize,
}

impl Pages {
    /// Counts the range, if that is no more than so much work, in the terms of [`Reader::range_within`].
    fn new(
        reader: &Reader,
        view: Arc<View>,
        mut request: RangeRequest,
        work: u64,
        goes_on: &dyn Fn() -> bool,
    ) -> Read<Self> {
        let is_past = request.revision > 0 && request.revision < view.revision;
        let pin = match is_past.then(|| reader.pin(request.revision)).transpose() {
            Ok(pin) => pin,
            Err(refusal) => return Ok(Err(refusal)),
        };
        // Without an order a target means nothing here, but would to the store.
        request.sort_target = SortTarget::Key.into();
        let whole = RangeRequest {
            count_only: true,
            ..request.clone()
        };
        let count = match reader.range_within(&view, &whole, work, goes_on)? {
            Ok(Some(answer)) => answer.count,
            Ok(None) => return Ok(Ok(None)),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let wanted = if request.count_only {
            0
        } else if request.limit > 0 {
            count.min(request.limit)
        } else {
            count
        };
        Ok(Ok(Some(Self {
            has_more: !request.count_only && wanted < count,
            count,
            left: usize::try_from(wanted).unwrap_or(0),
            view,
            pin,
            request,
        })))
    }

    /// Reads the next page, at least one key if any is left, if that is no more than so much work.
    fn read(
        &mut self,
        reader: &Reader,
        work: u64,
        goes_on: &dyn Fn() -> bool,
    ) -> Read<Vec<Record>> {
        if self.left == 0 {
            return Ok(Ok(Some(Vec::new())));
        }
        self.request.limit = i64::try_from(self.left.min(MAX_PAGE)).unwrap_or(i64::MAX);
        let (view, pin, request) = (&self.view, self.pin.as_ref(), &self.request);
        let records = match reader.page(view, pin, request, PAGE_BYTES, work, goes_on)? {
            Ok(Some(records)) => records,
            other => return Ok(other),
        };
        let Some(last) = records.last() else {
            // There were more when they were counted: a compaction has taken them since.
            return Ok(Err(Refusal::Compacted {
                requested: self.view.revision,
                compacted: reader.view().compact_revision,
            }));
        };
        self.left = self.left.saturating_sub(records.len());
        // The least key after the last one is that one and a zero byte.
        let mut next = BytesMut::with_capacity(last.key().len() + 1);
        next.put_slice(last.key());
        next.put_u8(0);
        self.request.key = next.freeze();
        Ok(Ok(Some(records)))
    }
}

impl http_body::Body for RangeStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stream = self.get_mut();
        if stream.is_over {
            return Poll::Ready(None);
        }
        let frame = match ready!(stream.poll_piece(context)) {
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

#[cfg(test)]
mod tests {
    use prost::Message;
    use proto::command::command::Op;
    use proto::command::{Batch, Command};
    use proto::etcd::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};
    use store::engine::memory::MemoryEngine;
    use store::{BATCH_FORMAT, Entry, FEATURE_LEVEL, LogId, Machine, Payload};

    use super::*;

    /// A store with these values under keys that count up.
    fn machine(values: impl IntoIterator<Item = usize>) -> Machine {
        let engine = Arc::new(MemoryEngine::new());
        let mut machine = Machine::open(engine, store::Options::default()).unwrap();
        let puts = values.into_iter().enumerate().map(|(number, length)| {
            Op::Put(PutRequest {
                key: format!("k{number:05}").into(),
                value: vec![b'v'; length].into(),
                ..PutRequest::default()
            })
        });
        apply(&mut machine, puts.collect());
        machine
    }

    fn apply(machine: &mut Machine, ops: Vec<Op>) {
        let index = machine.applied().map_or(1, |id| id.index + 1);
        let command = |op| Command {
            op: Some(op),
            ..Command::default()
        };
        let batch = Batch {
            format: BATCH_FORMAT,
            feature_level: FEATURE_LEVEL,
            leader_time_ms: 0,
            commands: ops.into_iter().map(command).collect(),
        };
        let entry = Entry {
            id: LogId { term: 1, index },
            payload: Payload::Commands(batch.encode_to_vec().into()),
        };
        machine.apply(&[entry]).unwrap();
    }

    fn all() -> RangeRequest {
        RangeRequest {
            key: "k".into(),
            range_end: "l".into(),
            ..RangeRequest::default()
        }
    }

    /// Every page of a range, which together are what one read finds.
    fn pages(machine: &Machine, request: &RangeRequest) -> Vec<Vec<Record>> {
        let reader = machine.reader();
        let view = reader.view();
        let mut pages = whole(Pages::new(
            &reader,
            view.clone(),
            request.clone(),
            u64::MAX,
            &|| true,
        ));
        let expected = reader.range(&view, request).unwrap().unwrap();
        assert_eq!(
            (pages.count, pages.has_more),
            (expected.count, expected.more)
        );
        let mut read = Vec::new();
        while pages.left > 0 {
            read.push(next(&mut pages, &reader));
        }
        assert!(
            read.concat() == expected.records,
            "pages differ from the range"
        );
        read
    }

    /// What was neither refused nor given up.
    fn whole<T>(read: Read<T>) -> T {
        read.unwrap().unwrap().unwrap()
    }

    fn next(pages: &mut Pages, reader: &Reader) -> Vec<Record> {
        whole(pages.read(reader, u64::MAX, &|| true))
    }

    fn bytes(page: &[Record]) -> u64 {
        page.iter()
            .map(|record| record.encoded().len() as u64)
            .sum()
    }

    #[test]
    fn no_page_exceeds_its_bytes_however_values_grow() {
        let small = std::iter::repeat_n(1, 3000);
        let machine = machine(small.chain(std::iter::repeat_n(700_000, 12)));
        let read = pages(&machine, &all());
        assert!(read.iter().all(|page| bytes(page) <= PAGE_BYTES));
        assert!(read[0].len() > 3000, "short values share a page");
        assert!(read[1..].iter().rev().skip(1).all(|page| page.len() == 2));
    }

    #[test]
    fn a_value_larger_than_a_page_is_a_page_alone() {
        let large = usize::try_from(PAGE_BYTES).unwrap() + 1;
        let machine = machine([1, large, large, 1, 1, large, 1]);
        let lengths: Vec<_> = pages(&machine, &all()).iter().map(Vec::len).collect();
        assert_eq!(lengths, [1, 1, 1, 2, 1, 1]);
    }

    #[test]
    fn pages_of_short_values_are_bounded_by_keys_and_the_limit() {
        let machine = machine(std::iter::repeat_n(0, MAX_PAGE + 500));
        let lengths: Vec<_> = pages(&machine, &all()).iter().map(Vec::len).collect();
        assert_eq!(lengths, [MAX_PAGE, 500]);
        for limit in [1, 9, 10, 11, 700, 10_500, 10_501] {
            pages(&machine, &RangeRequest { limit, ..all() });
        }
        let counted = RangeRequest {
            count_only: true,
            ..all()
        };
        assert_eq!(pages(&machine, &counted), Vec::<Vec<Record>>::new());
    }

    #[test]
    fn a_stream_that_runs_goes_on_over_a_compaction() {
        let mut machine = machine(std::iter::repeat_n(400_000, 9));
        let reader = machine.reader();
        let past = reader.view().revision;
        apply(
            &mut machine,
            vec![Op::DeleteRange(DeleteRangeRequest {
                key: "k00004".into(),
                ..DeleteRangeRequest::default()
            })],
        );
        let request = RangeRequest {
            revision: past,
            ..all()
        };
        let begin = || {
            let (view, request) = (reader.view(), request.clone());
            Pages::new(&reader, view, request, u64::MAX, &|| true)
        };
        let mut pages = whole(begin());
        let mut read = next(&mut pages, &reader);
        apply(
            &mut machine,
            vec![Op::Compact(CompactionRequest {
                revision: past + 1,
                physical: false,
            })],
        );
        reader.engine().flush().unwrap();
        let mut sweep = store::Sweep::new(reader.clone());
        assert_eq!(sweep.raise_horizon().unwrap(), past);
        while !sweep.step(1000).unwrap().is_done {}
        reader.engine().compact_all().unwrap();
        while pages.left > 0 {
            read.extend(next(&mut pages, &reader));
        }
        assert_eq!(read.len(), 9);
        assert!(matches!(begin().unwrap(), Err(Refusal::Compacted { .. })));
        drop(pages);
        assert_eq!(sweep.raise_horizon().unwrap(), past + 1);
    }

    #[test]
    fn a_past_revision_is_paged_whatever_was_put_and_deleted_since() {
        let mut machine = machine(std::iter::repeat_n(40_000, 200));
        let past = machine.reader().view().revision;
        apply(
            &mut machine,
            vec![
                Op::DeleteRange(DeleteRangeRequest {
                    key: "k00003".into(),
                    range_end: "k00170".into(),
                    ..DeleteRangeRequest::default()
                }),
                Op::Put(PutRequest {
                    key: "k00000x".into(),
                    ..PutRequest::default()
                }),
                Op::Put(PutRequest {
                    key: "k99999".into(),
                    ..PutRequest::default()
                }),
            ],
        );
        for limit in [0, 1, 55, 200] {
            let request = RangeRequest {
                revision: past,
                limit,
                ..all()
            };
            let read = pages(&machine, &request);
            assert!(read.iter().all(|page| bytes(page) <= PAGE_BYTES));
        }
        let from_key = RangeRequest {
            range_end: vec![0].into(),
            revision: past,
            ..all()
        };
        assert_eq!(pages(&machine, &from_key).concat().len(), 200);
    }
}
