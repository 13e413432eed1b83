//! One stream with its watchers: asks, and records what comes.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use proto::etcd::etcdserverpb::watch_client::WatchClient;
use proto::etcd::etcdserverpb::watch_request::RequestUnion;
use proto::etcd::etcdserverpb::{
    WatchCancelRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use tokio::sync::mpsc;
use tonic::transport::Endpoint;
use tonic::{Response, Status, Streaming};

use super::{Asked, Said, Watcher};
use crate::cluster::model::Change;
use crate::cluster::traffic::change;
use crate::cluster::world::World;

/// Requests that wait to be sent. A server that reads none stops the one who asks.
const REQUESTS: usize = 64;
/// A dead peer ends a stream after this.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// A response is as long as the server makes it.
const RESPONSE_BYTES: usize = 64 << 20;

/// A watcher that another one is to go on for.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    /// What the other one has to ask for.
    pub(super) asked: Asked,
    /// The number of the one that it goes on for.
    pub(super) number: usize,
}

/// A watcher that lives.
#[derive(Clone, Debug)]
struct Living {
    number: usize,
    asked: Asked,
    /// Everything up to here was told; nothing is known yet where the server chooses the start and has not answered.
    reached: Option<i64>,
    in_pieces: bool,
}

impl Living {
    fn rest(self) -> Rest {
        let start = self.reached.map_or(self.asked.start, |reached| reached + 1);
        Rest {
            asked: Asked {
                // One that waits for the future goes on waiting for it.
                start: start.max(self.asked.start),
                ..self.asked
            },
            number: self.number,
        }
    }
}

/// A call that is answered, if only with headers.
type Call =
    Pin<Box<dyn Future<Output = Result<Response<Streaming<WatchResponse>>, Status>> + Send>>;

/// Some servers send nothing, not even headers, before the first watcher is there: so a call is waited for like a response.
enum Answers {
    Called(Call),
    Coming(Box<Streaming<WatchResponse>>),
}

pub(super) struct Stream {
    world: Arc<World>,
    number: usize,
    node: usize,
    requests: mpsc::Sender<WatchRequest>,
    answers: Answers,
    /// Asked for and not yet answered.
    asked: VecDeque<Living>,
    /// By the server's id.
    living: BTreeMap<i64, Living>,
    /// Ended by compaction, to be gone on with.
    compacted: Vec<Rest>,
}

impl Stream {
    /// Opens a stream on a connection of its own, with a window of so many bytes.
    pub(super) async fn open(
        world: &Arc<World>,
        node: usize,
        window: u32,
    ) -> anyhow::Result<Stream> {
        let endpoint = Endpoint::from_shared(world.endpoints[node].clone())?
            .connect_timeout(world.timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(window)
            .initial_connection_window_size(window)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL);
        let channel = endpoint.connect().await?;
        let mut client = WatchClient::new(channel).max_decoding_message_size(RESPONSE_BYTES);
        let (requests, queue) = mpsc::channel(REQUESTS);
        let queue = futures_util::stream::unfold(queue, async |mut queue| {
            queue.recv().await.map(|request| (request, queue))
        });
        Ok(Stream {
            world: Arc::clone(world),
            number: world.history.lock().watch.open(),
            node,
            requests,
            answers: Answers::Called(Box::pin(async move { client.watch(queue).await })),
            asked: VecDeque::new(),
            living: BTreeMap::new(),
            compacted: Vec::new(),
        })
    }

    pub(super) fn watchers(&self) -> usize {
        self.asked.len() + self.living.len()
    }

    /// Asks for one more watcher.
    pub(super) fn watch(
        &mut self,
        asked: Asked,
        resumes: Option<usize>,
        stays: bool,
    ) -> anyhow::Result<()> {
        let create = RequestUnion::CreateRequest(asked.request());
        self.requests.try_send(request(create))?;
        let number = self.world.history.lock().watch.watch(Watcher {
            stream: self.number,
            node: self.node,
            asked: asked.clone(),
            resumes,
            stays,
            cancelled: None,
        });
        self.asked.push_back(Living {
            number,
            asked,
            reached: None,
            in_pieces: false,
        });
        Ok(())
    }

    /// Asks for the end of the watcher that is `nth` among them.
    pub(super) fn cancel(&mut self, nth: usize) -> anyhow::Result<()> {
        let Some((&watch_id, living)) = self.living.iter().nth(nth) else {
            return Ok(());
        };
        let now = self.world.now();
        self.world.history.lock().watch.watchers[living.number].cancelled = Some(now);
        let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id });
        Ok(self.requests.try_send(request(cancel))?)
    }

    /// Asks how far all watchers are.
    pub(super) fn ask_progress(&self) -> anyhow::Result<()> {
        let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
        Ok(self.requests.try_send(request(progress))?)
    }

    /// Waits for the next response and records it. May be dropped and called again.
    pub(super) async fn next(&mut self) -> anyhow::Result<()> {
        if let Answers::Called(call) = &mut self.answers {
            let answers = call.await?.into_inner();
            self.answers = Answers::Coming(Box::new(answers));
        }
        let Answers::Coming(answers) = &mut self.answers else {
            bail!("a call that was answered is one that is coming");
        };
        let response = answers.message().await?.context("the stream ended")?;
        self.take(response)
    }

    fn take(&mut self, response: WatchResponse) -> anyhow::Result<()> {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let said = match &response {
            WatchResponse {
                created: true,
                canceled: true,
                ..
            } => Said::Refused,
            WatchResponse { created: true, .. } => Said::Created,
            WatchResponse { canceled: true, .. } => Said::Cancelled(response.compact_revision),
            WatchResponse { fragment: true, .. } => Said::Piece,
            WatchResponse { events, .. } if events.is_empty() => Said::Empty,
            _ => Said::Events,
        };
        if let Said::Created | Said::Refused = said {
            let living = self.asked.pop_front().context("nobody asked for that")?;
            self.record(Some(living.number), revision, said, Vec::new());
            if said == Said::Refused {
                bail!("{}", response.cancel_reason);
            }
            let start = living.asked.start;
            let reached = if start > 0 { start - 1 } else { revision };
            self.living.insert(
                response.watch_id,
                Living {
                    reached: Some(reached),
                    ..living
                },
            );
            return Ok(());
        }
        let number = self
            .living
            .get(&response.watch_id)
            .map(|living| living.number);
        let events: Vec<_> = response.events.into_iter().filter_map(change).collect();
        let last = events.last().map_or(revision, |event| event.revision);
        self.record(number, revision, said, events);
        match said {
            Said::Cancelled(compacted) => {
                let living = self.living.remove(&response.watch_id);
                let Some(living) = living.filter(|_| compacted > 0) else {
                    return Ok(());
                };
                let mut rest = living.rest();
                rest.asked.start = rest.asked.start.max(compacted);
                self.compacted.push(rest);
            }
            Said::Piece => {
                if let Some(living) = self.living.get_mut(&response.watch_id) {
                    living.in_pieces = true;
                }
            }
            Said::Empty if response.watch_id == -1 => {
                self.living
                    .values_mut()
                    .for_each(|living| living.reach(last));
            }
            _ => {
                if let Some(living) = self.living.get_mut(&response.watch_id) {
                    living.in_pieces = false;
                    living.reach(last);
                }
            }
        }
        Ok(())
    }

    fn record(&self, watcher: Option<usize>, revision: i64, said: Said, events: Vec<Change>) {
        if let Some(last) = events.last() {
            self.world.heard(last.revision);
        }
        let mut history = self.world.history.lock();
        // Under the lock, so that the record is in the order of time.
        let time = self.world.now();
        let watch = &mut history.watch;
        watch.add(self.number, watcher, time, revision, said, events);
    }

    /// Up to where all of its watchers were told everything; nothing if one has not begun.
    pub(super) fn reached(&self) -> Option<i64> {
        if !self.asked.is_empty() {
            return None;
        }
        let reached = self.living.values().map(|living| living.reached);
        reached.min().flatten()
    }

    /// Watchers that compaction ended since this was asked last.
    pub(super) fn take_compacted(&mut self) -> Vec<Rest> {
        std::mem::take(&mut self.compacted)
    }

    /// Ends the stream; what others are to go on with.
    pub(super) fn end(self) -> Vec<Rest> {
        let left = self.asked.into_iter().chain(self.living.into_values());
        left.map(Living::rest).chain(self.compacted).collect()
    }
}

impl Living {
    fn reach(&mut self, revision: i64) {
        // A response that is not whole was not told.
        if !self.in_pieces {
            self.reached = self.reached.max(Some(revision));
        }
    }
}

fn request(request: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(request),
    }
}
