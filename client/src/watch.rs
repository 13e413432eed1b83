//! Watching keys: changes in order of revision, from a point in the past or from now on.

use proto::etcd::etcdserverpb::watch_create_request::FilterType;
use proto::etcd::etcdserverpb::watch_request::RequestUnion;
use proto::etcd::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use proto::etcd::mvccpb::Event;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status, Streaming};

use crate::kv::revision;
use crate::{Client, Error, Keys};

/// Requests that wait to be sent on a watch's stream. When it is full, whoever asks waits: nothing is lost, and a
/// server that does not read is noticed by the caller.
const REQUESTS: usize = 8;

/// What to report. The default is every change from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// First revision to report; 0 for the next one. It may lie in the future.
    pub start_revision: i64,
    /// Report with each change what was there before.
    pub prev_kv: bool,
    /// Leave writes out.
    pub no_put: bool,
    /// Leave deletions out.
    pub no_delete: bool,
    /// Have the server report progress by itself now and then.
    pub progress_notify: bool,
    /// Let the server send a large batch in pieces. They are put together again here.
    pub fragment: bool,
    /// End the watch when the server loses its leader, instead of waiting.
    pub require_leader: bool,
}

impl From<i64> for WatchOptions {
    /// Every change from that revision on.
    fn from(start_revision: i64) -> WatchOptions {
        WatchOptions {
            start_revision,
            ..WatchOptions::default()
        }
    }
}

/// Changes of one or more whole revisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Every change up to this revision has been delivered.
    pub revision: i64,
    /// In order of revision, and within a revision in the order they were made. Empty if the batch only reports
    /// progress.
    pub events: Vec<Event>,
}

/// One watcher on a stream of its own. Dropping it ends both.
///
/// - Every change arrives once, in order, and no revision is split over two batches.
/// - The server sends no faster than [`next`](Watch::next) is called, apart from what fits the stream's window.
/// - After an error, or after a cancellation was confirmed, `next` answers `None`.
#[derive(Debug)]
pub struct Watch {
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
    watch_id: i64,
    created_revision: i64,
    last_revision: i64,
    /// The pieces of a batch that has not arrived in full.
    pieces: Vec<Event>,
    has_ended: bool,
}

impl Client {
    /// Begins to watch keys. When this returns the server has accepted the watcher: no later change is missed.
    ///
    /// # Errors
    /// [`Error::Refused`] if the server does not accept it. That the start lies before the oldest revision kept is
    /// reported by [`Watch::next`].
    pub async fn watch(
        &self,
        keys: impl Into<Keys>,
        options: WatchOptions,
    ) -> Result<Watch, Error> {
        let open = self.open_watch(keys.into(), options);
        match tokio::time::timeout(self.request_timeout, open).await {
            Ok(watch) => watch,
            Err(_) => Err(Error::timeout()),
        }
    }

    async fn open_watch(&self, keys: Keys, options: WatchOptions) -> Result<Watch, Error> {
        let (requests, queue) = mpsc::channel(REQUESTS);
        let create = RequestUnion::CreateRequest(create_request(keys, &options));
        // Sent before the call is made: some servers send no headers before they have read a request.
        requests
            .try_send(wrap(create))
            .expect("the queue is new and its receiver lives");
        let mut call = Request::new(ReceiverStream::new(queue));
        if options.require_leader {
            call.metadata_mut()
                .insert("hasleader", MetadataValue::from_static("true"));
        }
        let mut answers = self
            .watches()
            .watch(call)
            .await
            .map_err(Error::of_call)?
            .into_inner();
        let created = answers
            .message()
            .await
            .map_err(Error::of_call)?
            .ok_or(Error::Protocol(
                "a stream that ends before the watcher exists",
            ))?;
        if !created.created {
            return Err(Error::Protocol("a watcher that was never created"));
        }
        if created.canceled {
            return Err(Error::Refused {
                code: Code::Cancelled,
                message: created.cancel_reason,
            });
        }
        let created_revision = revision(&created.header);
        let last_revision = if options.start_revision > 0 {
            options.start_revision - 1
        } else {
            created_revision
        };
        Ok(Watch {
            requests,
            answers,
            watch_id: created.watch_id,
            created_revision,
            last_revision,
            pieces: Vec::new(),
            has_ended: false,
        })
    }
}

impl Watch {
    /// Waits for the next batch: changes, or a report of progress. `None` when the watch has ended.
    ///
    /// May be dropped and called again without losing anything, so it can stand in a `select!`.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the stream broke, [`Error::Compacted`] if the past that was asked for is gone,
    /// [`Error::Refused`] if the server ended the watch for another reason.
    pub async fn next(&mut self) -> Result<Option<Batch>, Error> {
        while !self.has_ended {
            let answer = match self.answers.message().await {
                Ok(Some(answer)) => answer,
                Ok(None) => {
                    return self.interrupted(Status::unavailable("the server ended the stream"));
                }
                Err(status) => return self.interrupted(status),
            };
            if answer.canceled {
                return self.canceled(answer);
            }
            if let Some(batch) = self.batch(answer) {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Asks the server to report progress. The report is an empty [`Batch`], and does not come if the watch is not
    /// caught up: ask again then.
    pub async fn request_progress(&self) {
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}))
            .await;
    }

    /// Asks the server to end the watch. What it sent before still arrives, then `None`.
    pub async fn cancel(&self) {
        self.send(RequestUnion::CancelRequest(WatchCancelRequest {
            watch_id: self.watch_id,
        }))
        .await;
    }

    /// The store's revision when the watch began.
    pub fn created_revision(&self) -> i64 {
        self.created_revision
    }

    /// Every change up to this revision has been delivered: a watch from the next one on carries on from here.
    pub fn last_revision(&self) -> i64 {
        self.last_revision
    }

    /// Queues a request. One that cannot be sent because the stream is gone needs no report: `next` makes it.
    async fn send(&self, request: RequestUnion) {
        let _ = self.requests.send(wrap(request)).await;
    }

    /// Takes an answer in. `None` if the batch goes on in the next one.
    fn batch(&mut self, mut answer: WatchResponse) -> Option<Batch> {
        if self.pieces.is_empty() {
            self.pieces = answer.events;
        } else {
            self.pieces.append(&mut answer.events);
        }
        if answer.fragment {
            return None;
        }
        let events = std::mem::take(&mut self.pieces);
        // The header of a batch may run ahead of the events that come with it while a watcher catches up, so only
        // a report of progress is taken by its header.
        let reached = match events.last() {
            Some(event) => event.kv.as_ref().map_or(0, |kv| kv.mod_revision),
            None => revision(&answer.header),
        };
        self.last_revision = self.last_revision.max(reached);
        Some(Batch {
            revision: self.last_revision,
            events,
        })
    }

    fn canceled(&mut self, answer: WatchResponse) -> Result<Option<Batch>, Error> {
        self.has_ended = true;
        if answer.compact_revision > 0 {
            Err(Error::Compacted {
                compact_revision: Some(answer.compact_revision),
            })
        } else if answer.cancel_reason.is_empty() {
            Ok(None)
        } else {
            Err(Error::Refused {
                code: Code::Cancelled,
                message: answer.cancel_reason,
            })
        }
    }

    fn interrupted(&mut self, source: Status) -> Result<Option<Batch>, Error> {
        self.has_ended = true;
        Err(Error::Interrupted {
            last_revision: self.last_revision,
            source,
        })
    }
}

fn create_request(keys: Keys, options: &WatchOptions) -> WatchCreateRequest {
    let (key, range_end) = keys.into_wire();
    let filters = [
        (options.no_put, FilterType::Noput),
        (options.no_delete, FilterType::Nodelete),
    ];
    WatchCreateRequest {
        key,
        range_end,
        start_revision: options.start_revision,
        progress_notify: options.progress_notify,
        filters: filters
            .into_iter()
            .filter(|(is_on, _)| *is_on)
            .map(|(_, filter)| filter.into())
            .collect(),
        prev_kv: options.prev_kv,
        watch_id: 0,
        fragment: options.fragment,
    }
}

fn wrap(request: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(request),
    }
}
