//! Random work on a watch stream of many watchers: each of them is told the same by both servers.
//!
//! What is asked is confirmed before anything else is sent, so that both servers do the same in the same order. When
//! a server tells, and in how many responses, is its own affair: so events are gathered for each watcher, and compared
//! whenever both have told all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proto::etcd::etcdserverpb::kv_client::KvClient;
use proto::etcd::etcdserverpb::watch_request::RequestUnion;
use proto::etcd::etcdserverpb::{
    CompactionRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
    WatchResponse,
};
use proto::etcd::mvccpb::Event;
use rand::Rng;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use crate::command::Command;
use crate::generate::Generator;
use crate::run::{number, runtime};
use crate::servers::Servers;
use crate::side::{Outgoing, Side};

/// How long a server may take for what must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// etcd looks for watchers that lag every 100 ms.
const QUIET: Duration = Duration::from_millis(130);
/// Steps on one pair of streams, and between two comparisons.
const STREAM: usize = 250;
const ROUND: usize = 25;

/// What a watcher, or the stream itself, was told since the last comparison.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    events: Vec<Event>,
    /// Header revision, compact revision and reason.
    canceled: Option<(i64, i64, String)>,
}

/// One server's end of a stream.
struct End {
    requests: Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
    told: BTreeMap<i64, Told>,
    /// Of watchers, and of `-1`: what has not gone on is a piece of a response.
    pieces: Option<i64>,
    faults: Vec<String>,
}

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq)]
struct Confirmed {
    watch_id: i64,
    revision: i64,
    created: bool,
    canceled: bool,
    compact_revision: i64,
    reason: String,
}

impl End {
    async fn open(side: &Side) -> Self {
        let (requests, outgoing) = channel(4);
        let mut watches = proto::etcd::etcdserverpb::watch_client::WatchClient::new(side.channel());
        // etcd sends no headers before it has something to say: an unknown id is not answered, but read.
        let first = union(RequestUnion::CreateRequest(WatchCreateRequest {
            key: "first".into(),
            watch_id: FIRST,
            ..WatchCreateRequest::default()
        }));
        requests.send(first).await.unwrap();
        let responses = watches.watch(Request::new(Outgoing(outgoing)));
        let mut end = Self {
            requests,
            responses: responses.await.unwrap().into_inner(),
            told: BTreeMap::new(),
            pieces: None,
            faults: Vec::new(),
        };
        end.confirmed().await;
        end
    }

    async fn ask(&mut self, request: RequestUnion) {
        self.requests.send(union(request)).await.unwrap();
    }

    /// The next response within `patience`.
    async fn next(&mut self, patience: Duration) -> Option<WatchResponse> {
        let next = timeout(patience, self.responses.message()).await.ok()?;
        Some(next.unwrap().expect("a watch does not end"))
    }

    /// Reads on to the answer to a request; what comes before it is gathered.
    async fn confirmed(&mut self) -> Confirmed {
        loop {
            let Some(response) = self.next(PATIENCE).await else {
                panic!("a request is not answered")
            };
            if response.created || (response.canceled && response.compact_revision == 0) {
                return Confirmed {
                    watch_id: response.watch_id,
                    revision: response.header.unwrap_or_default().revision,
                    created: response.created,
                    canceled: response.canceled,
                    compact_revision: response.compact_revision,
                    reason: response.cancel_reason,
                };
            }
            self.gather(response);
        }
    }

    fn gather(&mut self, response: WatchResponse) {
        let revision = response.header.unwrap_or_default().revision;
        let told = self.told.entry(response.watch_id).or_default();
        let newest = response.events.iter().filter_map(|event| event.kv.as_ref());
        let newest = newest.map(|kv| kv.mod_revision).max().unwrap_or(0);
        if response.canceled {
            let reason = response.cancel_reason;
            told.canceled = Some((revision, response.compact_revision, reason));
        } else if response.events.is_empty() {
            self.faults
                .push(format!("nothing for {}", response.watch_id));
        } else if newest > revision {
            self.faults
                .push(format!("{newest} in a response at {revision}"));
        }
        if self.pieces.is_some_and(|id| id != response.watch_id) {
            self.faults.push("a response between two pieces".to_owned());
        }
        self.pieces = response.fragment.then_some(response.watch_id);
        told.events.extend(response.events);
    }

    /// Asks for progress: of what, at which revision, and with how many events it is told.
    async fn progress(&mut self) -> Option<(i64, i64, usize)> {
        self.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}))
            .await;
        let response = self.next(QUIET).await?;
        let revision = response.header.unwrap_or_default().revision;
        Some((response.watch_id, revision, response.events.len()))
    }

    /// Gathers until nothing comes for a while.
    async fn settle(&mut self) {
        while let Some(response) = self.next(QUIET).await {
            self.gather(response);
        }
    }
}

/// The id of a watcher that each stream begins with.
const FIRST: i64 = i64::MAX;

fn union(request: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(request),
    }
}

/// Leaves out of Holdfast's events what etcd no longer tells of what was there before a compacted revision. See
/// `docs/compatibility.md`.
fn without_compacted(etcd: &Told, holdfast: &Told, compacted: i64) -> Told {
    let mut told = holdfast.clone();
    for (event, other) in told.events.iter_mut().zip(&etcd.events) {
        let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        if other.prev_kv.is_none() && revision <= compacted {
            event.prev_kv = None;
        }
    }
    told
}

/// How often something happened.
type Tally = BTreeMap<&'static str, usize>;

/// Two servers, a stream to each, and what was done.
struct Run {
    generator: Generator,
    sides: [Side; 2],
    kvs: [KvClient<Channel>; 2],
    ends: [End; 2],
    /// Watchers that there are.
    watchers: BTreeSet<i64>,
    /// Ids of watchers that a compaction has ended.
    compacted: BTreeSet<i64>,
    /// What was done on these streams, for who looks for a difference.
    done: Vec<String>,
    tally: Tally,
}

impl Run {
    async fn start(seed: u64, servers: &mut Servers) -> Self {
        let (etcd, holdfast) = servers.connect().await;
        let sides = [etcd, holdfast];
        let kvs = [&sides[0], &sides[1]].map(|side| KvClient::new(side.channel()));
        let ends = [End::open(&sides[0]).await, End::open(&sides[1]).await];
        Self {
            generator: Generator::new(seed),
            sides,
            kvs,
            ends,
            watchers: BTreeSet::new(),
            compacted: BTreeSet::new(),
            done: Vec::new(),
            tally: Tally::new(),
        }
    }

    fn count(&mut self, what: &'static str, by: usize) {
        *self.tally.entry(what).or_default() += by;
    }

    /// Fails with all that was done on the streams.
    fn same<T: PartialEq + std::fmt::Debug>(&self, what: &str, etcd: &T, holdfast: &T) {
        assert!(
            etcd == holdfast,
            "{}\n{what} differs\netcd: {etcd:?}\nholdfast: {holdfast:?}",
            self.done.join("\n")
        );
    }

    async fn step(&mut self) {
        match self.generator.random.random_range(0..100) {
            0..25 => self.create().await,
            25..29 => self.cancel().await,
            _ => self.write().await,
        }
    }

    /// Sends the same to both and compares how it is confirmed.
    async fn confirm(&mut self, request: RequestUnion) -> Confirmed {
        let mut answers = Vec::new();
        for end in &mut self.ends {
            end.ask(request.clone()).await;
            answers.push(end.confirmed().await);
        }
        self.same("the answer", &answers[0], &answers[1]);
        answers.remove(0)
    }

    async fn create(&mut self) {
        let mut create = self.generator.watch_or_follow();
        create.watch_id = match self.generator.random.random_range(0..20) {
            0 => -1,
            1 => i64::MIN,
            2..5 => self.generator.random.random_range(1..30),
            _ => 0,
        };
        if self.generator.compacted > 1 && self.generator.chance(4) {
            create.start_revision = self.generator.compacted - 1;
        }
        // The id of one that a compaction ends is not taken again. See `docs/compatibility.md`.
        let ends_at_once = (1..self.generator.compacted).contains(&create.start_revision);
        if ends_at_once || self.compacted.contains(&create.watch_id) {
            create.watch_id = 0;
        }
        self.done.push(format!("{create:?}"));
        let answer = self.confirm(RequestUnion::CreateRequest(create)).await;
        if answer.canceled {
            self.count("refused", 1);
        } else {
            self.count("created", 1);
            self.watchers.insert(answer.watch_id);
            if ends_at_once {
                self.compacted.insert(answer.watch_id);
            }
        }
    }

    async fn cancel(&mut self) {
        // What one is told that lags when it is cancelled, is up to the server.
        self.compare().await;
        let ids: Vec<i64> = self.watchers.iter().copied().collect();
        let place = self.generator.random.random_range(0..ids.len() + 1);
        let watch_id = ids.get(place).copied().unwrap_or(999);
        self.done.push(format!("cancel {watch_id}"));
        let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id });
        if self.watchers.remove(&watch_id) {
            self.confirm(cancel).await;
            self.count("canceled", 1);
        } else {
            for end in &mut self.ends {
                end.ask(cancel.clone()).await;
            }
        }
    }

    async fn write(&mut self) {
        let command = match self.generator.random.random_range(0..10) {
            0..5 => Command::Put(self.generator.put()),
            5..7 => Command::DeleteRange(self.generator.delete_range()),
            _ => Command::Txn(self.generator.txn()),
        };
        self.done.push(format!("{command:?}"));
        let mut answers = Vec::new();
        for side in &mut self.sides {
            answers.push(side.send(command.clone()).await);
        }
        self.same(
            "the revision",
            &answers[0].revision(),
            &answers[1].revision(),
        );
        self.generator.learn(&command, &answers[0]);
        self.count("writes", 1);
    }

    /// Both have told the same once nothing more comes.
    async fn compare(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let [etcd, holdfast] = &mut self.ends;
            tokio::join!(etcd.settle(), holdfast.settle());
            let compacted = self.generator.compacted;
            let mut told = self.ends[1].told.clone();
            for (id, etcd) in &self.ends[0].told {
                if let Some(holdfast) = told.get_mut(id) {
                    *holdfast = without_compacted(etcd, holdfast, compacted);
                }
            }
            if self.ends[0].told == told {
                break;
            }
            if Instant::now() > deadline {
                // Only what is not the same, or it would not be found.
                let etcd = self.ends[0].told.clone();
                let is_same = |id: &i64| etcd.get(id) == told.get(id);
                let id = etcd.keys().chain(told.keys()).find(|id| !is_same(id));
                let id = id.unwrap();
                let [etcd, holdfast] = [&etcd, &told].map(|told| told.get(id).cloned());
                self.same(&format!("what {id} was told"), &etcd, &holdfast);
            }
        }
        for end in &self.ends {
            assert_eq!(end.faults, Vec::<String>::new(), "{}", self.done.join("\n"));
        }
        let told = std::mem::take(&mut self.ends[0].told);
        self.ends[1].told.clear();
        for (id, told) in told {
            self.count("events", told.events.len());
            if told.canceled.is_some() {
                self.count("compacted", 1);
                self.watchers.remove(&id);
                self.compacted.insert(id);
            }
        }
    }

    /// Progress is told for the whole stream or not at all. A watcher without events may lag for a while in etcd without
    /// anybody seeing it, so who is silent alone is asked again.
    async fn progress(&mut self) {
        // Of one that a compaction has ended etcd thinks that it lags for ever. See `docs/compatibility.md`.
        if !self.compacted.is_empty() {
            return;
        }
        self.done.push("progress".to_owned());
        let mut answers = [None, None];
        for _ in 0..20 {
            for (end, answer) in self.ends.iter_mut().zip(&mut answers) {
                if answer.is_none() {
                    *answer = end.progress().await;
                }
            }
            if answers[0].is_some() == answers[1].is_some() {
                break;
            }
        }
        let [etcd, holdfast] = answers;
        self.same("the progress", &etcd, &holdfast);
        let what = match etcd {
            Some(_) => "progress",
            None => "no progress",
        };
        self.count(what, 1);
    }

    /// Only when all is told: how far a watcher is that lags, is each server's own affair.
    async fn compact(&mut self) {
        let oldest = self.generator.compacted.max(1);
        if oldest >= self.generator.revision {
            return;
        }
        let revision = self
            .generator
            .random
            .random_range(oldest + 1..=self.generator.revision);
        self.done.push(format!("compact {revision}"));
        for kv in &mut self.kvs {
            let compaction = CompactionRequest {
                revision,
                physical: true,
            };
            kv.compact(compaction).await.unwrap();
        }
        self.generator.compacted = revision;
    }

    /// New streams.
    async fn reopen(&mut self) {
        self.ends = [
            End::open(&self.sides[0]).await,
            End::open(&self.sides[1]).await,
        ];
        self.watchers.clear();
        self.compacted.clear();
        self.done.clear();
    }
}

fn episode(seed: u64, steps: usize) -> Tally {
    let mut servers = Servers::start(&[]);
    runtime().block_on(async {
        let mut run = Run::start(seed, &mut servers).await;
        for step in 1..=steps {
            run.step().await;
            if step % ROUND == 0 {
                run.compare().await;
                match run.generator.random.random_range(0..4) {
                    0 => run.compact().await,
                    1 => run.progress().await,
                    _ => {}
                }
            }
            if step % STREAM == 0 {
                run.reopen().await;
            }
        }
        run.compare().await;
        run.tally
    })
}

#[test]
fn watchers_are_told_alike() {
    let seed = number("SEED", u64::from(std::process::id()));
    let steps = usize::try_from(number("WATCH_STEPS", 4_000)).unwrap();
    let pairs = usize::try_from(number("PAIRS", 4)).unwrap();
    println!("SEED={seed} WATCH_STEPS={steps}");
    let started = Instant::now();
    let threads: Vec<_> = (0..pairs)
        .map(|pair| {
            let seed = seed.wrapping_mul(1_000_003).wrapping_add(pair as u64);
            std::thread::spawn(move || episode(seed, steps / pairs))
        })
        .collect();
    let mut tally = Tally::new();
    let parts: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
    for part in parts {
        let part = part.unwrap_or_else(|_| {
            panic!("watches differ, see above; SEED={seed} WATCH_STEPS={steps} PAIRS={pairs}")
        });
        for (what, count) in part {
            *tally.entry(what).or_default() += count;
        }
    }
    println!("{tally:?} in {:?}: no difference", started.elapsed());
    if steps >= 4_000 {
        for (what, least) in [
            ("events", 4_000),
            ("created", 400),
            ("refused", 50),
            ("canceled", 50),
            ("compacted", 5),
            ("progress", 1),
            ("no progress", 1),
        ] {
            let found = tally.get(what).copied().unwrap_or(0);
            assert!(found >= least, "only {found} of {what}: {tally:?}");
        }
    }
}
