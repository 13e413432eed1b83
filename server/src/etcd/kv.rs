//! The KV service: shape checks, then the node, then the answer as bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use proto::command::command::Op;
use proto::etcd::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, ResponseHeader, TxnRequest,
    TxnResponse,
};
use store::mvcc::range::Selection;
use store::{Answer, Chosen, View};
use tokio::sync::OwnedSemaphorePermit;

use super::big_list::BigList;
use super::codec::{self, Body, OtherBody, RangeFrame};
use super::error::{self, Status};
use super::range_stream::RangeStream;
use super::unread::Impatient;
use super::{Context, Outcome, Service, Subject, check};
use crate::logging;
use crate::node::{CallError, Node};

/// What a shard reads at most for one request, in the terms of [`store::Reader::range_within`]: a few milliseconds.
pub(super) const SHORT_READ: u64 = 10_000;

/// Answers `Range`.
pub(super) async fn range(
    service: &Service,
    context: &Context,
    request: RangeRequest,
) -> Result<Outcome, Status> {
    check::range(&request)?;
    let view = read_point(service, context, request.serializable).await?;
    let read_from = context.elapsed();
    let reader = service.node.reader();
    let answer = reader
        .range_within(&view, &request, SHORT_READ, &|| true)
        .map_err(|error| fault(&service.node, &error))?
        .map_err(|refusal| Status::from(&refusal))?;
    let Some(answer) = answer else {
        return Box::pin(long_range(service, context, view, request, read_from)).await;
    };
    if answer.more || request.revision > 0 {
        service.node.note_page(&view, &request, answer.more);
    }
    let frame = RangeFrame {
        header: Some(service.node.header(view.revision)),
        more: answer.more,
        count: answer.count,
    };
    let outcome = Outcome::of(codec::range_response(&frame, answer.records, false)?);
    context.watch_slow(service, "Range", Some(read_from), outcome.sent, || {
        Subject {
            key: &request.key,
            range_end: &request.range_end,
            count: answer.count,
        }
    });
    Ok(outcome)
}

/// Answers a `Range` that is too much for the shard.
async fn long_range(
    service: &Service,
    context: &Context,
    view: Arc<View>,
    request: RangeRequest,
    read_from: Duration,
) -> Result<Outcome, Status> {
    let (chosen, memory) = choose(service, context, &view, &request).await?;
    let totals = chosen.totals;
    if totals.more || request.revision > 0 {
        service.node.note_page(&view, &request, totals.more);
    }
    let frame = RangeFrame {
        header: Some(service.node.header(view.revision)),
        more: totals.more,
        count: totals.count,
    };
    let (node, offload) = (service.node.clone(), service.long_reads.clone());
    let list = BigList::new(node, offload, chosen, &frame, memory)?;
    let sent = list.remaining();
    service.methods.range.sent(sent);
    context.watch_slow(service, "Range", Some(read_from), sent, || Subject {
        key: &request.key,
        range_end: &request.range_end,
        count: totals.count,
    });
    let list = Impatient::new(list, service.options.unread_timeout, context.peer);
    Ok(Outcome::of(Body::Other(Box::pin(list))))
}

/// Chooses the keys of a long answer, and takes what they need of the memory of all such answers: what is kept of each
/// key, and a page of values.
async fn choose(
    service: &Service,
    context: &Context,
    view: &Arc<View>,
    request: &RangeRequest,
) -> Result<(Chosen, OwnedSemaphorePermit), Status> {
    let reader = service.node.reader();
    let live = match Selection::new(&request.key, &request.range_end) {
        Selection::Key(_) => 1,
        Selection::Interval(interval) => view.index.count(&interval),
    };
    // Of an older revision both the number of keys and their length are guessed.
    let is_stored = request.revision > 0
        && request.revision < view.revision
        && reader.held(view, request.revision).is_none();
    let mut kib = list_kib(live * if is_stored { 128 } else { 16 });
    loop {
        let mut memory = list_memory(service, context, kib).await?;
        let (reader, from, asked) = (reader.clone(), view.clone(), request.clone());
        let chosen = service
            .long_reads
            .run(Some(context.left()), move |wanted| {
                reader.choose(&from, &asked, &|| wanted.holds())
            })
            .await?
            .map_err(|error| fault(&service.node, &error))?
            .map_err(|refusal| Status::from(&refusal))?
            .ok_or(error::CANCELED)?;
        let needed = list_kib(chosen.held_bytes);
        if needed <= kib {
            drop(memory.split((kib - needed) as usize));
            return Ok((chosen, memory));
        }
        let pool = service.list_memory.clone();
        if let Ok(more) = pool.try_acquire_many_owned(needed - kib) {
            memory.merge(more);
            return Ok((chosen, memory));
        }
        // Not waited for with a part in hand: others may do so, too. They are chosen again once there is room for all.
        kib = needed;
    }
}

/// What a long answer takes whose keys take so many bytes. One that needs more than all there is has all of it alone.
fn list_kib(bytes: usize) -> u32 {
    const PAGE_KIB: usize = 2048;
    let kib = u32::try_from(PAGE_KIB + bytes / 1024).unwrap_or(u32::MAX);
    kib.min(super::LIST_MEMORY_KIB)
}

/// Waits for the memory of a long answer, first come, first served.
async fn list_memory(
    service: &Service,
    context: &Context,
    kib: u32,
) -> Result<OwnedSemaphorePermit, Status> {
    let acquired = service.list_memory.clone().acquire_many_owned(kib);
    let acquired = tokio::time::timeout(context.left(), acquired).await;
    // The semaphore is never closed.
    acquired
        .map_err(|_| error::TIMEOUT)?
        .map_err(|_| error::STOPPED)
}

/// Answers `RangeStream`.
pub(super) async fn range_stream(
    service: &Service,
    context: &Context,
    request: RangeRequest,
) -> Result<Outcome, Status> {
    check::range_stream(&request)?;
    let view = read_point(service, context, request.serializable).await?;
    let method = service.methods.range_stream.clone();
    let (node, offload) = (service.node.clone(), service.long_reads.clone());
    let stream = RangeStream::start(node, method, offload, context.left(), view, request).await?;
    // What is read to its end holds nothing that others wait for.
    let body: OtherBody = if stream.is_read() {
        Box::pin(stream)
    } else {
        let patience = service.options.unread_timeout;
        Box::pin(Impatient::new(stream, patience, context.peer))
    };
    Ok(Outcome::of(Body::Other(body)))
}

/// Answers `Put`.
pub(super) async fn put(
    service: &Service,
    context: &Context,
    request: PutRequest,
) -> Result<Outcome, Status> {
    check::put(&request)?;
    service.guard().put(&request.key)?;
    check_size(service, context)?;
    let key = request.key.clone();
    let Answer::Put(mut answer) = service
        .node
        .propose(&context.call, Op::Put(request))
        .await?
    else {
        return Err(mismatch());
    };
    complete(service, &mut answer.header);
    let outcome = answered(&answer)?;
    context.watch_slow(service, "Put", None, outcome.sent, || Subject {
        key: &key,
        range_end: &[],
        count: 1,
    });
    Ok(outcome)
}

/// Answers `DeleteRange`.
pub(super) async fn delete_range(
    service: &Service,
    context: &Context,
    request: DeleteRangeRequest,
) -> Result<Outcome, Status> {
    check::delete_range(&request)?;
    service.guard().delete(&request)?;
    check_size(service, context)?;
    let (key, range_end) = (request.key.clone(), request.range_end.clone());
    let Answer::DeleteRange(mut answer) = service
        .node
        .propose(&context.call, Op::DeleteRange(request))
        .await?
    else {
        return Err(mismatch());
    };
    complete(service, &mut answer.header);
    let outcome = answered(&answer)?;
    context.watch_slow(service, "DeleteRange", None, outcome.sent, || Subject {
        key: &key,
        range_end: &range_end,
        count: answer.deleted,
    });
    Ok(outcome)
}

/// Answers `Txn`.
pub(super) async fn txn(
    service: &Service,
    context: &Context,
    request: TxnRequest,
) -> Result<Outcome, Status> {
    check::txn(&request, service.options.max_txn_ops)?;
    service.guard().txn(&request)?;
    let key = first_key(&request);
    let operations = request.success.len().max(request.failure.len());
    let mut read_from = None;
    let mut answer = if check::is_read_only(&request) {
        let view = read_point(service, context, check::is_serializable(&request)).await?;
        read_from = Some(context.elapsed());
        let reader = service.node.reader();
        let short = reader
            .txn_within(&view, &request, SHORT_READ, &|| true)
            .map_err(|error| fault(&service.node, &error))?
            .map_err(|refusal| Status::from(&refusal))?;
        let answer = match short {
            Some(answer) => answer,
            None => Box::pin(long_txn(service, context, view, request)).await?,
        };
        service.node.metrics().reads.lock().add_txn(&answer);
        answer
    } else {
        check_size(service, context)?;
        match service
            .node
            .propose(&context.call, Op::Txn(request))
            .await?
        {
            Answer::Txn(answer) => answer,
            _ => return Err(mismatch()),
        }
    };
    complete(service, &mut answer.header);
    let outcome = answered(&answer)?;
    context.watch_slow(service, "Txn", read_from, outcome.sent, || Subject {
        key: &key,
        range_end: &[],
        count: i64::try_from(operations).unwrap_or(i64::MAX),
    });
    Ok(outcome)
}

/// Evaluates a `Txn` that reads too much for the shard.
async fn long_txn(
    service: &Service,
    context: &Context,
    view: Arc<View>,
    request: TxnRequest,
) -> Result<TxnResponse, Status> {
    let reader = service.node.reader().clone();
    service
        .long_reads
        .run(Some(context.left()), move |wanted| {
            reader.txn_within(&view, &request, u64::MAX, &|| wanted.holds())
        })
        .await?
        .map_err(|error| fault(&service.node, &error))?
        .map_err(|refusal| Status::from(&refusal))?
        .ok_or(error::CANCELED)
}

/// Answers `Compact`. What is compacted can no longer be read from then on; with `physical` it is off this member's
/// disk, too, for which the client may wait as long as it likes.
pub(super) async fn compact(
    service: &Service,
    context: &Context,
    request: CompactionRequest,
) -> Result<Outcome, Status> {
    let CompactionRequest { revision, physical } = request;
    let Answer::Compact(mut answer) = service
        .node
        .propose(&context.call, Op::Compact(request))
        .await?
    else {
        return Err(mismatch());
    };
    complete(service, &mut answer.header);
    if physical {
        let swept = service.node.swept(revision, context.client_left());
        swept.await.map_err(|error| match error {
            CallError::Timeout => error::DEADLINE_EXCEEDED,
            other => other.into(),
        })?;
    }
    let outcome = Outcome::of_message(&answer);
    context.watch_slow(service, "Compact", None, outcome.sent, || Subject {
        key: &[],
        range_end: &[],
        count: 0,
    });
    Ok(outcome)
}

/// The state that a read is served from: the newest one that a quorum stands for, or simply the local one.
async fn read_point(
    service: &Service,
    context: &Context,
    is_serializable: bool,
) -> Result<Arc<View>, Status> {
    if !is_serializable {
        if service.node.is_learner() {
            return Err(error::NOT_FOR_LEARNER);
        }
        service.node.read_barrier(&context.call).await?;
    }
    Ok(service.node.reader().view())
}

/// The one message of an answer that may carry any number of keys.
fn answered(answer: &impl Message) -> Result<Outcome, Status> {
    Ok(Outcome::of(Body::Message(codec::frame_of_data(answer)?)))
}

fn check_size(service: &Service, context: &Context) -> Result<(), Status> {
    let options = &service.options;
    check::size(
        context.received,
        options.member.id,
        options.max_request_bytes,
    )
}

/// The store knows the revision of an answer, the node everything else.
pub(super) fn complete(service: &Service, header: &mut Option<ResponseHeader>) {
    let revision = header.as_ref().map_or(0, |header| header.revision);
    *header = Some(service.node.header(revision));
}

/// For the slow-request log: what the transaction is about.
fn first_key(request: &TxnRequest) -> Bytes {
    use proto::etcd::etcdserverpb::request_op::Request;
    if let Some(compare) = request.compare.first() {
        return compare.key.clone();
    }
    match request.success.first().and_then(|op| op.request.as_ref()) {
        Some(Request::RequestRange(request)) => request.key.clone(),
        Some(Request::RequestPut(request)) => request.key.clone(),
        Some(Request::RequestDeleteRange(request)) => request.key.clone(),
        Some(Request::RequestTxn(_)) | None => Bytes::new(),
    }
}

/// A store that cannot be read stops the node; this is what its last readers see.
pub(super) fn fault(node: &Node, error: &store::StoreError) -> Status {
    node.stop_for(format!(
        "the store cannot be read: {}",
        logging::chain(error)
    ));
    error::STORE_FAULT
}

/// The state machine answers a command in kind; anything else is a bug in it.
pub(super) fn mismatch() -> Status {
    tracing::error!("a command was answered with an answer of another kind");
    error::STORE_FAULT
}
