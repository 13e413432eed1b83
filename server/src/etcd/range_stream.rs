//! `RangeStream`: a range in pieces, read from one view page by page.
//!
//! One page is in memory at most. Header, `more` and `count` come with the last one, so that all pieces, merged, make
//! the answer of the unary call.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::Frame;
use proto::etcd::etcdserverpb::RangeRequest;
use proto::etcd::etcdserverpb::range_request::SortTarget;
use store::{Reader, Record, Refusal, StoreError, View};

use super::codec::{self, List, RangeFrame};
use super::error::Status;
use super::kv::fault;
use super::offload::Offload;
use crate::metrics::GrpcMethod;
use crate::node::Node;

/// Keys of the first batch. Later ones aim at [`PAGE_BYTES`].
const FIRST_BATCH: usize = 10;

/// Most keys of a batch: what may be read in vain when values grow from one key to the next.
const MAX_BATCH: usize = 256;

/// Most keys of a page, for values that are next to nothing.
const MAX_PAGE: usize = 10_000;

/// About as much as one message carries, unless a single key is larger: the longest request that etcd takes.
const PAGE_BYTES: usize = 1536 * 1024;

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
    /// Counts the range first, so that a refusal still is the whole answer.
    pub(super) async fn start(
        node: Node,
        method: GrpcMethod,
        offload: Arc<Offload>,
        view: Arc<View>,
        request: RangeRequest,
    ) -> Result<Self, Status> {
        let header = Some(node.header(view.revision));
        let reader = node.reader().clone();
        // A view that is held for the pages of a list shows its revision like the newest one does.
        let view = reader.held(&view, request.revision).unwrap_or(view);
        let pages = if request.revision > 0 && request.revision < view.revision {
            let counted = offload.run(move |_| Pages::new(&reader, view, request));
            counted.await?
        } else {
            Pages::new(&reader, view, request)
        };
        let pages = pages
            .map_err(|error| fault(&node, &error))?
            .map_err(|refusal| Status::from(&refusal))?;
        let frame = RangeFrame {
            header,
            more: pages.has_more,
            count: pages.count,
        };
        let mut stream = Self {
            node,
            method,
            offload,
            pages: Some(pages),
            reading: None,
            frame,
            message: None,
            is_over: false,
        };
        stream.read_first()?;
        Ok(stream)
    }

    /// Many ranges are one page, which is best read at once. What may take longer is left to [`RangeStream::read`].
    fn read_first(&mut self) -> Result<(), Status> {
        if let Some(mut pages) = self.pages.take_if(|pages| pages.pin.is_none()) {
            let records = pages.read(self.node.reader());
            let records = records
                .map_err(|error| fault(&self.node, &error))?
                .map_err(|refusal| Status::from(&refusal))?;
            self.send(pages, records)?;
        }
        Ok(())
    }

    /// Begins to read a page on another thread.
    fn read(&self, mut pages: Pages) -> Reading {
        let (node, offload) = (self.node.clone(), self.offload.clone());
        Box::pin(async move {
            let reader = node.reader().clone();
            let read = offload.run(move |_| {
                let records = pages.read(&reader);
                (pages, records)
            });
            let (pages, records) = read.await?;
            let records = records
                .map_err(|error| fault(&node, &error))?
                .map_err(|refusal| Status::from(&refusal))?;
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
    /// Keys to read at once.
    batch: usize,
}

/// The records of a page, as far as it is read.
#[derive(Default)]
struct Page {
    records: Vec<Record>,
    bytes: usize,
    /// A record did not fit.
    is_full: bool,
}

impl Page {
    fn take(&mut self, record: &Record) {
        let bytes = self.bytes + record.encoded().len();
        // What follows a record that did not fit must not be taken either, however short it is.
        self.is_full |= bytes > PAGE_BYTES && !self.records.is_empty();
        if !self.is_full {
            self.records.push(record.clone());
            self.bytes = bytes;
        }
    }

    /// How many more keys of the size seen so far fit.
    fn room(&self) -> usize {
        let average = self.bytes / self.records.len().max(1);
        let by_bytes = PAGE_BYTES.saturating_sub(self.bytes) / average.max(1);
        by_bytes.min(MAX_PAGE - self.records.len().min(MAX_PAGE))
    }
}

impl Pages {
    fn new(
        reader: &Reader,
        view: Arc<View>,
        mut request: RangeRequest,
    ) -> Result<Result<Self, Refusal>, StoreError> {
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
        let count = match reader.range(&view, &whole)? {
            Ok(answer) => answer.count,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let wanted = if request.count_only {
            0
        } else if request.limit > 0 {
            count.min(request.limit)
        } else {
            count
        };
        Ok(Ok(Self {
            has_more: !request.count_only && wanted < count,
            count,
            left: usize::try_from(wanted).unwrap_or(0),
            view,
            pin,
            request,
            batch: FIRST_BATCH,
        }))
    }

    /// Reads the next page: at least one key if any is left.
    fn read(&mut self, reader: &Reader) -> Result<Result<Vec<Record>, Refusal>, StoreError> {
        let mut page = Page::default();
        while self.left > 0 {
            let before = page.records.len();
            let limit = self.batch.min(self.left);
            let end = self.window(reader, limit)?;
            let request = RangeRequest {
                limit: i64::try_from(limit).unwrap_or(i64::MAX),
                range_end: end.clone(),
                ..self.request.clone()
            };
            let visit = &mut |record: &Record| page.take(record);
            let visited = match &self.pin {
                Some(pin) => reader.range_pinned(&self.view, pin, &request, visit),
                None => reader.range_visit(&self.view, &request, visit),
            };
            if let Err(refusal) = visited? {
                return Ok(Err(refusal));
            }
            let taken = page.records.len() - before;
            self.left = self.left.saturating_sub(taken);
            if !page.is_full && taken < limit {
                if end == self.request.range_end {
                    // There were more when they were counted: a compaction has taken them since.
                    let compacted = reader.view().compact_revision;
                    let requested = self.view.revision;
                    return Ok(Err(Refusal::Compacted {
                        requested,
                        compacted,
                    }));
                }
                self.request.key = end;
            } else if let Some(last) = page.records.last() {
                // The least key after the last one is that one and a zero byte.
                let mut next = BytesMut::with_capacity(last.key().len() + 1);
                next.put_slice(last.key());
                next.put_u8(0);
                self.request.key = next.freeze();
            }
            if page.is_full {
                self.batch = (self.batch / 2).max(1);
                break;
            }
            let room = page.room();
            if room == 0 {
                break;
            }
            self.batch = (self.batch * 2).min(room).min(MAX_BATCH);
        }
        Ok(Ok(page.records))
    }

    /// Where a batch of so many keys may end at the latest. A range at a past revision is read to its end whatever
    /// its limit, so it is given a nearer one: as many keys on as are live now.
    fn window(&self, reader: &Reader, keys: usize) -> Result<Bytes, StoreError> {
        let request = &self.request;
        if request.revision <= 0 || request.revision == self.view.revision {
            return Ok(request.range_end.clone());
        }
        let live = RangeRequest {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            limit: i64::try_from(keys).map_or(i64::MAX, |keys| keys.saturating_add(1)),
            keys_only: true,
            ..RangeRequest::default()
        };
        let end = match reader.range(&self.view, &live)? {
            Ok(answer) => answer
                .records
                .get(keys)
                .map(Record::key)
                .map(Bytes::copy_from_slice),
            Err(_) => None,
        };
        Ok(end.unwrap_or_else(|| request.range_end.clone()))
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
        let mut pages = Pages::new(&reader, view.clone(), request.clone())
            .unwrap()
            .unwrap();
        let whole = reader.range(&view, request).unwrap().unwrap();
        assert_eq!((pages.count, pages.has_more), (whole.count, whole.more));
        let mut read = Vec::new();
        while pages.left > 0 {
            read.push(pages.read(&reader).unwrap().unwrap());
        }
        assert!(
            read.concat() == whole.records,
            "pages differ from the range"
        );
        read
    }

    fn bytes(page: &[Record]) -> usize {
        page.iter().map(|record| record.encoded().len()).sum()
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
        let large = PAGE_BYTES + 1;
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
        let mut pages = Pages::new(&reader, reader.view(), request.clone())
            .unwrap()
            .unwrap();
        let mut read = pages.read(&reader).unwrap().unwrap();
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
            read.extend(pages.read(&reader).unwrap().unwrap());
        }
        assert_eq!(read.len(), 9);
        assert!(matches!(
            Pages::new(&reader, reader.view(), request).unwrap(),
            Err(Refusal::Compacted { .. })
        ));
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
