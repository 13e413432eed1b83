//! One of the two servers: sends it commands and gathers what it answers.

use std::time::Duration;

use client::Client;
use proto::etcd::etcdserverpb::kv_client::KvClient;
use proto::etcd::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcd::etcdserverpb::watch_request::RequestUnion;
use proto::etcd::etcdserverpb::{
    RangeRequest, RangeResponse, RangeStreamResponse, WatchCreateRequest, WatchProgressRequest,
    WatchRequest, WatchResponse,
};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use crate::command::{Answer, Command, Streamed, Watched};

/// How long a watcher may take to be caught up.
const PATIENCE: Duration = Duration::from_secs(20);
/// etcd drops a request for progress while a watcher lags, so it is repeated.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// A connection.
pub(crate) struct Side {
    client: Client,
    kv: KvClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    followed: Option<Open>,
}

/// A watch stream with one watcher.
struct Open {
    start_revision: i64,
    requests: Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
    watched: Watched,
    last_told: Option<i64>,
    is_fragment: bool,
}

impl Side {
    pub(crate) fn new(client: Client) -> Self {
        let (kv, maintenance) = (client.kv(), client.maintenance());
        Self {
            client,
            kv,
            maintenance,
            followed: None,
        }
    }

    /// The connection, for calls that are no commands.
    pub(crate) fn channel(&self) -> Channel {
        self.client.channel()
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn send(&mut self, command: Command) -> Answer {
        match command {
            Command::Range(request) => Answer::of(self.kv.range(request).await, Answer::Range),
            Command::Put(request) => Answer::of(self.kv.put(request).await, Answer::Put),
            Command::DeleteRange(request) => {
                Answer::of(self.kv.delete_range(request).await, Answer::DeleteRange)
            }
            Command::Txn(request) => Answer::of(self.kv.txn(request).await, Answer::Txn),
            Command::Compact(request) => {
                Answer::of(self.kv.compact(request).await, Answer::Compact)
            }
            Command::HashKv(request) => {
                Answer::of(self.maintenance.hash_kv(request).await, Answer::HashKv)
            }
            Command::Alarm(request) => {
                Answer::of(self.maintenance.alarm(request).await, Answer::Alarm)
            }
            Command::RangeStream(request) => self.range_stream(request).await,
            Command::Watch(request) => {
                let open = self.open(request).await;
                self.close(open).await
            }
            Command::Follow(request) => {
                self.followed = Some(self.open(request).await);
                Answer::Nothing
            }
            Command::Unfollow => match self.followed.take() {
                Some(open) => self.close(open).await,
                None => Answer::Nothing,
            },
        }
    }

    async fn range_stream(&mut self, request: RangeRequest) -> Answer {
        let mut streamed = Streamed::default();
        let mut pieces = match self.kv.range_stream(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Answer::Refused(status.code(), status.message().to_owned()),
        };
        let mut is_last = false;
        loop {
            match pieces.message().await {
                Ok(Some(RangeStreamResponse { range_response })) => {
                    if is_last {
                        streamed.faults.push("a piece behind the last one");
                    }
                    let Some(piece) = range_response else {
                        streamed.faults.push("an empty piece");
                        continue;
                    };
                    is_last = piece.header.is_some();
                    if !is_last && (piece.more || piece.count != 0 || piece.kvs.is_empty()) {
                        streamed
                            .faults
                            .push("a piece without keys, or an early count");
                    }
                    let kvs = std::mem::take(&mut streamed.whole.kvs);
                    streamed.whole = RangeResponse {
                        kvs: [kvs, piece.kvs].concat(),
                        ..piece
                    };
                }
                Ok(None) => break,
                Err(status) => {
                    streamed.refused = Some((status.code(), status.message().to_owned()));
                    break;
                }
            }
        }
        // A refusal before the first piece looks the same however the server ended the call.
        match streamed.refused {
            Some((code, text)) if streamed.whole.kvs.is_empty() => Answer::Refused(code, text),
            _ => Answer::RangeStream(streamed),
        }
    }

    /// Opens a stream, creates a watcher, and waits until that is confirmed.
    async fn open(&mut self, create: WatchCreateRequest) -> Open {
        let start_revision = create.start_revision;
        let (requests, outgoing) = channel(4);
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        requests.send(create).await.unwrap();
        let outgoing = Outgoing(outgoing);
        let response = self.client.watches().watch(Request::new(outgoing)).await;
        let mut open = Open {
            start_revision,
            requests,
            responses: response.unwrap().into_inner(),
            watched: Watched::default(),
            last_told: None,
            is_fragment: false,
        };
        let created = timeout(PATIENCE, open.responses.message()).await.unwrap();
        let created = created.unwrap().unwrap();
        if !created.created || !created.events.is_empty() {
            open.watched.faults.push("not confirmed first");
        }
        open.watched.created_at = created.header.unwrap_or_default().revision;
        open.watched.watch_id = created.watch_id;
        open.watched.refusal = created.canceled.then_some(created.cancel_reason);
        open
    }

    /// Reads on until everything up to the newest revision was told.
    async fn close(&mut self, mut open: Open) -> Answer {
        let newest = self.kv.range(RangeRequest {
            key: "newest".into(),
            ..RangeRequest::default()
        });
        let newest = newest.await.unwrap().into_inner().header.unwrap().revision;
        if open.watched.refusal.is_some() || open.start_revision > newest {
            return Answer::Watched(open.watched);
        }
        let everything = async {
            while open.watched.canceled.is_none() {
                let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
                let progress = WatchRequest {
                    request_union: Some(progress),
                };
                open.requests.send(progress).await.unwrap();
                let mut is_done = false;
                while let Ok(response) = timeout(ASK_AGAIN, open.responses.message()).await {
                    let response = response.unwrap().unwrap();
                    let revision = response.header.unwrap_or_default().revision;
                    is_done = response.watch_id == -1 && revision >= newest;
                    if is_done {
                        break;
                    }
                    open.take(response);
                }
                if is_done {
                    break;
                }
            }
        };
        if timeout(PATIENCE, everything).await.is_err() {
            open.watched.faults.push("never caught up");
        }
        Answer::Watched(open.watched)
    }
}

impl Open {
    fn take(&mut self, response: WatchResponse) {
        let revision = response.header.unwrap_or_default().revision;
        if response.canceled {
            self.watched.canceled = Some((response.compact_revision, response.cancel_reason));
        } else if response.events.is_empty() && response.watch_id != -1 {
            self.watched.faults.push("a response without events");
        }
        let mut told = response.events.iter().filter_map(|event| {
            let kv = event.kv.as_ref()?;
            Some(kv.mod_revision)
        });
        let first = told.next();
        let last = told.next_back().or(first);
        if first.is_some() && first == self.last_told && !self.is_fragment {
            self.watched.faults.push("a revision in two responses");
        }
        if last > Some(revision) {
            self.watched
                .faults
                .push("an event above the header's revision");
        }
        self.last_told = last.or(self.last_told);
        self.is_fragment = response.fragment;
        self.watched.events.extend(response.events);
    }
}

/// The requests of a stream.
pub(crate) struct Outgoing(pub(crate) Receiver<WatchRequest>);

impl futures_util::Stream for Outgoing {
    type Item = WatchRequest;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<WatchRequest>> {
        self.0.poll_recv(context)
    }
}
