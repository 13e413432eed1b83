//! A network between simulated members: it delays, loses, doubles, and is cut in one direction or in both.
//!
//! It stands where gRPC over TCP stands, and so keeps what that keeps and breaks what that breaks:
//!
//! - What goes through one stream arrives in order, each once, or the stream breaks for both sides. Between streams and
//!   calls there is no order.
//! - A cut holds messages up. If it ends soon they arrive late, as after retransmissions; a link that is cut, or whose
//!   peer is silent, for longer than the keep-alive time breaks.
//! - A call may lose its request or its answer. Whoever asked cannot tell which. Votes and read indexes may be asked
//!   twice: a duplicate of them must do no harm.
//! - A member whose process died answers "no such connection" as soon as it is asked; one without power says nothing.
//!
//! What a member is asked runs in its own group: it dies and pauses with it.

mod promises;

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{AbortHandle, Abortable, Either, select};
use futures_util::{StreamExt, stream};
use openraft_rt::{AsyncRuntime, Instant, Watch, WatchReceiver, WatchSender};
use parking_lot::Mutex;
use proto::peer::{
    AppendReply, AppendRequest, ForwardReply, ForwardRequest, HelloReply, HelloRequest,
    LeasesReply, LeasesRequest, ReadIndexReply, ReadIndexRequest, SnapshotReply, SnapshotRequest,
    TransferLeaderReply, TransferLeaderRequest, VoteReply, VoteRequest,
};
use rand::RngExt;
use server::node::BoxFuture;
use server::peer::{Answers, Inbound, LinkError, Peer, Requests, Transport};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use self::promises::{Acknowledged, Promise};
use self::promises::{Overheard, Promises};
use super::executor::Shared;
use super::runtime::joined;
use super::{Group, SimInstant, SimRng, SimWatch, SimWatchReceiver, SimWatchSender, Simulation};

/// How the way from one member to another is.
#[derive(Clone, Debug, PartialEq)]
pub struct Weather {
    /// How long a message takes, in microseconds.
    pub delay: Range<u64>,
    /// How likely a message is lost.
    pub loss: f64,
    /// How likely a question that may be asked twice is.
    pub doubling: f64,
}

impl Default for Weather {
    fn default() -> Self {
        Weather {
            delay: 100..1_000,
            loss: 0.0,
            doubling: 0.01,
        }
    }
}

/// A member as the network sees it.
struct Host {
    group: Group,
    inbound: Arc<Inbound>,
    state: HostState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostState {
    Up,
    /// It is there, and says nothing.
    Paused(SimInstant),
    /// The process is gone; the machine says so.
    Gone,
    /// The machine is gone.
    Dark(SimInstant),
}

#[derive(Default)]
struct Direction {
    weather: Weather,
    /// Partitions overlap.
    cuts: u32,
    since: Option<SimInstant>,
}

struct State {
    rng: SimRng,
    directions: BTreeMap<(u64, u64), Direction>,
    hosts: BTreeMap<u64, Host>,
}

/// What there is of a way at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    Silent { since: SimInstant },
    Closed,
}

/// The network. Clones are the same one.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
    changes: SimWatchSender<u64>,
    keep_alive: Duration,
    promises: Promises,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

/// How long a call waits for a connection.
const CONNECT: Duration = Duration::from_millis(500);

impl Network {
    /// A network without members, on which a link breaks after `keep_alive` of silence.
    #[must_use]
    pub fn new(rng: SimRng, keep_alive: Duration) -> Network {
        Network {
            state: Arc::new(Mutex::new(State {
                rng,
                directions: BTreeMap::new(),
                hosts: BTreeMap::new(),
            })),
            changes: SimWatch::channel(0).0,
            keep_alive,
            promises: Promises::default(),
        }
    }

    /// What a member told others to have on its disk.
    #[must_use]
    pub fn promise(&self, member: u64) -> Promise {
        self.promises.of(member)
    }

    /// A member's way to the others.
    #[must_use]
    pub fn transport(&self, from: u64) -> Arc<dyn Transport> {
        Arc::new(Port {
            network: self.clone(),
            from,
        })
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changes.send_if_modified(|version| {
            *version += 1;
            true
        });
    }

    /// A member starts, and will answer from `inbound` in its group.
    pub fn up(&self, member: u64, group: Group, inbound: Arc<Inbound>) {
        let state = HostState::Up;
        self.change(|network| {
            let host = Host {
                group,
                inbound,
                state,
            };
            network.hosts.insert(member, host);
        });
    }

    /// A member is killed; its machine stays on or goes off.
    pub fn down(&self, member: u64, is_dark: bool, now: SimInstant) {
        let state = if is_dark {
            HostState::Dark(now)
        } else {
            HostState::Gone
        };
        self.set_host(member, state);
    }

    /// A member stops running, and goes on later.
    pub fn pause(&self, member: u64, now: SimInstant) {
        self.set_host(member, HostState::Paused(now));
    }

    /// A paused member goes on.
    pub fn resume(&self, member: u64) {
        self.set_host(member, HostState::Up);
    }

    fn set_host(&self, member: u64, state: HostState) {
        self.change(|network| {
            if let Some(host) = network.hosts.get_mut(&member) {
                host.state = state;
            }
        });
    }

    /// Cuts the way from one member to another. Each cut is to be healed once.
    pub fn cut(&self, from: u64, to: u64, now: SimInstant) {
        self.change(|network| {
            let direction = network.directions.entry((from, to)).or_default();
            direction.cuts += 1;
            direction.since.get_or_insert(now);
        });
    }

    /// Takes one cut back.
    pub fn heal(&self, from: u64, to: u64) {
        self.change(|network| {
            let direction = network.directions.entry((from, to)).or_default();
            direction.cuts = direction.cuts.saturating_sub(1);
            if direction.cuts == 0 {
                direction.since = None;
            }
        });
    }

    /// Changes how a way is.
    pub fn set_weather(&self, from: u64, to: u64, weather: Weather) {
        self.change(|network| {
            network.directions.entry((from, to)).or_default().weather = weather;
        });
    }

    /// When a message sent now arrives; none if it is lost.
    fn draw(&self, from: u64, to: u64) -> Option<SimInstant> {
        let now = SimInstant::now();
        let mut state = self.state.lock();
        let State {
            rng, directions, ..
        } = &mut *state;
        let weather = &directions.entry((from, to)).or_default().weather;
        let micros = rng.random_range(weather.delay.clone());
        let is_lost = rng.random_bool(weather.loss);
        (!is_lost).then_some(now + Duration::from_micros(micros))
    }

    fn is_doubled(&self, from: u64, to: u64) -> bool {
        let mut state = self.state.lock();
        let State {
            rng, directions, ..
        } = &mut *state;
        let doubling = directions.entry((from, to)).or_default().weather.doubling;
        rng.random_bool(doubling)
    }

    fn random(&self, range: Range<u64>) -> u64 {
        self.state.lock().rng.random_range(range)
    }
}

/// The two ends of a call: a member, and one life of another.
#[derive(Clone)]
struct Ends {
    network: Network,
    from: u64,
    to: u64,
    life: Group,
}

impl Ends {
    fn back(&self) -> Ends {
        Ends {
            network: self.network.clone(),
            from: self.to,
            to: self.from,
            life: self.life,
        }
    }

    /// The member that was called, if it answers. Its life is the only one there is while this runs.
    fn overheard(&self, inbound: &Inbound) -> Option<Arc<dyn Peer>> {
        let local = inbound.local()?;
        let member = {
            let state = self.network.state.lock();
            let mut ends = [self.from, self.to].into_iter();
            ends.find(|member| state.hosts[member].group == self.life)?
        };
        Some(Arc::new(Overheard {
            member,
            local,
            promises: self.network.promises.clone(),
        }))
    }

    /// Whether anything is heard from the other end.
    fn way(&self) -> Way {
        let state = self.network.state.lock();
        let cut = |from, to| {
            let direction: Option<&Direction> = state.directions.get(&(from, to));
            direction.and_then(|direction| direction.since)
        };
        let silent = [cut(self.from, self.to), cut(self.to, self.from)];
        let mut since = silent.into_iter().flatten().min();
        // Which of the two ends is the one that was called does not matter: both must be there.
        for member in [self.from, self.to] {
            let Some(host) = state.hosts.get(&member) else {
                return Way::Closed;
            };
            match host.state {
                HostState::Up => {}
                HostState::Paused(at) | HostState::Dark(at) => {
                    since = Some(since.map_or(at, |since| since.min(at)));
                }
                HostState::Gone if since.is_none() => return Way::Closed,
                HostState::Gone => {}
            }
        }
        let is_same = [self.from, self.to]
            .iter()
            .any(|member| state.hosts[member].group == self.life);
        match since {
            Some(since) => Way::Silent { since },
            // A machine that came back knows nothing of the connection.
            None if !is_same => Way::Closed,
            None => Way::Open,
        }
    }

    /// Whether what was sent this way can arrive.
    fn is_cut(&self) -> bool {
        let state = self.network.state.lock();
        let direction = state.directions.get(&(self.from, self.to));
        direction.is_some_and(|direction| direction.cuts > 0)
    }

    fn changes(&self) -> SimWatchReceiver<u64> {
        self.network.changes.subscribe()
    }

    /// Ends when this end takes the connection for broken.
    async fn broken(&self) {
        loop {
            let mut changes = self.changes();
            match self.way() {
                Way::Open => {
                    changes.changed().await.ok();
                }
                Way::Silent { since } => {
                    let until = since + self.network.keep_alive;
                    if SimInstant::now() >= until {
                        return;
                    }
                    Simulation::timeout_at(until, changes.changed()).await.ok();
                }
                Way::Closed => {
                    let micros = self.network.random(50..1_000);
                    return Simulation::sleep(Duration::from_micros(micros)).await;
                }
            }
        }
    }

    /// Ends when a message that arrives at this time gets through; false if the connection breaks before.
    async fn arrival(&self, at: SimInstant) -> bool {
        Simulation::sleep_until(at).await;
        loop {
            let mut changes = self.changes();
            if !self.is_cut() {
                return true;
            }
            let broken = std::pin::pin!(self.broken());
            let changed = std::pin::pin!(changes.changed());
            if let Either::Left(_) = select(broken, changed).await {
                return false;
            }
        }
    }

    /// What this gives, or nothing if the connection breaks before.
    async fn unless_broken<T>(&self, wanted: impl Future<Output = T>) -> Option<T> {
        let wanted = std::pin::pin!(wanted);
        let broken = std::pin::pin!(self.broken());
        match select(wanted, broken).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(_) => None,
        }
    }
}

/// Runs something in the member that is called.
fn spawn_there(group: Group, future: impl Future<Output = ()> + Send + 'static) {
    let shared = Shared::current();
    let (handle, task) = joined(future, Arc::downgrade(&shared));
    drop(handle);
    shared.spawn_in(group, task);
}

fn broken() -> LinkError {
    LinkError::Broken("the connection broke (simulated)".to_owned())
}

struct Port {
    network: Network,
    from: u64,
}

impl Transport for Port {
    fn link(&self, to: u64, _: &'static str) -> Arc<dyn Peer> {
        Arc::new(Link {
            network: self.network.clone(),
            from: self.from,
            to,
        })
    }

    fn control(&self, to: u64) -> Arc<dyn Peer> {
        self.link(to, "control")
    }
}

#[derive(Clone)]
struct Link {
    network: Network,
    from: u64,
    to: u64,
}

impl Link {
    /// The connection, as far as this end knows; nothing is sent before.
    async fn connect(&self) -> Result<(Ends, Arc<Inbound>), LinkError> {
        let until = SimInstant::now() + CONNECT;
        loop {
            let mut changes = self.network.changes.subscribe();
            let found = {
                let state = self.network.state.lock();
                let host = state.hosts.get(&self.to);
                host.map(|host| (host.group, Arc::clone(&host.inbound)))
            };
            if let Some((life, inbound)) = found {
                let ends = Ends {
                    network: self.network.clone(),
                    from: self.from,
                    to: self.to,
                    life,
                };
                let is_up = match ends.way() {
                    Way::Open => true,
                    // The connection from before the silence is not known to be broken yet.
                    Way::Silent { since } => SimInstant::now() < since + self.network.keep_alive,
                    Way::Closed => false,
                };
                if is_up {
                    return Ok((ends, inbound));
                }
            }
            let changed = Simulation::timeout_at(until, changes.changed()).await;
            if changed.is_err() {
                return Err(LinkError::NotConnected(self.to));
            }
        }
    }

    /// One question and its answer.
    fn ask<Q, A, F>(&self, question: Q, may_double: bool, put: F) -> BoxFuture<Result<A, LinkError>>
    where
        Q: Clone + Send + 'static,
        A: Send + 'static,
        F: Fn(Arc<dyn Peer>, Q) -> BoxFuture<Result<A, LinkError>> + Send + Sync + 'static,
    {
        let link = self.clone();
        Box::pin(async move {
            let (ends, inbound) = link.connect().await?;
            let is_doubled = may_double && link.network.is_doubled(link.from, link.to);
            let put = Arc::new(put);
            let (sender, mut answers) = unbounded_channel();
            for _ in 0..1 + u8::from(is_doubled) {
                let Some(arrival) = link.network.draw(link.from, link.to) else {
                    continue;
                };
                let (ends, inbound) = (ends.clone(), Arc::clone(&inbound));
                let (question, put, sender) = (question.clone(), Arc::clone(&put), sender.clone());
                spawn_there(ends.life, async move {
                    if !ends.arrival(arrival).await {
                        return;
                    }
                    let answer = match ends.overheard(&inbound) {
                        Some(local) => put(local, question).await,
                        None => Err(starting()),
                    };
                    if let Some(arrival) = ends.network.draw(ends.to, ends.from) {
                        sender.send((arrival, over_the_wire(answer))).ok();
                    }
                });
            }
            drop(sender);
            let answered = ends.unless_broken(async {
                let (arrival, answer) = answers.recv().await?;
                ends.back().arrival(arrival).await.then_some(answer)
            });
            match answered.await.flatten() {
                Some(answer) => answer,
                None => {
                    // Lost somewhere: that takes time to find out.
                    let longest = u64::try_from(link.network.keep_alive.as_micros());
                    let micros = link.network.random(0..longest.unwrap_or(u64::MAX));
                    Simulation::sleep(Duration::from_micros(micros)).await;
                    Err(broken())
                }
            }
        })
    }

    /// A stream of questions and one of answers.
    fn open<Q, A, F>(
        &self,
        requests: Requests<Q>,
        open: F,
    ) -> BoxFuture<Result<Answers<A>, LinkError>>
    where
        Q: Send + 'static,
        A: Send + 'static,
        F: FnOnce(Arc<dyn Peer>, Requests<Q>) -> BoxFuture<Result<Answers<A>, LinkError>>
            + Send
            + 'static,
    {
        let link = self.clone();
        Box::pin(async move {
            let (ends, inbound) = link.connect().await?;
            let (request_sender, request_receiver) = unbounded_channel();
            let (answer_sender, answer_receiver) = unbounded_channel();
            let (stop, stopped) = AbortHandle::new_pair();
            let sending = send_all(ends.clone(), requests, request_sender);
            drop(Simulation::spawn(Abortable::new(sending, stopped)));
            let guard = Guard(stop);

            let (breaks, broken_off) = AbortHandle::new_pair();
            let arriving = arriving(ends.clone(), request_receiver, breaks);
            let back = ends.back();
            let opening = link.network.draw(link.from, link.to);
            let serving = async move {
                let Some(opening) = opening else { return };
                if !back.back().arrival(opening).await {
                    return;
                }
                let opened = match back.overheard(&inbound) {
                    Some(local) => open(local, arriving).await,
                    None => Err(starting()),
                };
                answer_all(back, opened, answer_sender).await;
            };
            // Nothing is answered on a connection that broke.
            let serving = Abortable::new(serving, broken_off);
            spawn_there(ends.life, async move {
                serving.await.ok();
            });

            let mut answers = Arriving {
                ends: ends.back(),
                receiver: answer_receiver,
            };
            match answers.next().await {
                Some(Answer::Opened) => {}
                Some(Answer::Failed(error)) => return Err(error),
                Some(Answer::Ended | Answer::Item(_)) | None => return Err(broken()),
            }
            let answers = stream::unfold(Some((answers, guard)), |state| async move {
                let (mut answers, guard) = state?;
                match answers.next().await {
                    Some(Answer::Item(item)) => Some((Ok(item), Some((answers, guard)))),
                    Some(Answer::Failed(error)) => Some((Err(error), None)),
                    Some(Answer::Ended) => None,
                    Some(Answer::Opened) | None => Some((Err(broken()), None)),
                }
            });
            Ok(Box::pin(answers) as Answers<A>)
        })
    }
}

/// Ends a task with its holder.
struct Guard(AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a server says on a stream.
enum Answer<T> {
    Opened,
    Item(T),
    Failed(LinkError),
    Ended,
}

fn starting() -> LinkError {
    LinkError::Refused("the member is starting".to_owned())
}

/// What an error becomes for the one who asked.
fn over_the_wire<T>(answer: Result<T, LinkError>) -> Result<T, LinkError> {
    answer.map_err(|error| match error {
        LinkError::Refused(reason) => LinkError::Refused(reason),
        other => LinkError::Broken(other.to_string()),
    })
}

/// When each message of a stream arrives; none: it is lost, and the stream breaks there.
type Sent<T> = Option<(SimInstant, T)>;

/// Sends in order. False if the other end is gone.
fn send<T>(ends: &Ends, last: &mut SimInstant, sender: &UnboundedSender<Sent<T>>, item: T) -> bool {
    let sent = ends.network.draw(ends.from, ends.to).map(|arrival| {
        *last = arrival.max(*last);
        (*last, item)
    });
    let is_lost = sent.is_none();
    sender.send(sent).is_ok() && !is_lost
}

async fn send_all<T>(ends: Ends, mut requests: Requests<T>, sender: UnboundedSender<Sent<T>>) {
    let mut last = SimInstant::now();
    while let Some(request) = requests.next().await {
        if !send(&ends, &mut last, &sender, request) {
            return;
        }
    }
}

async fn answer_all<T: Send + 'static>(
    ends: Ends,
    opened: Result<Answers<T>, LinkError>,
    sender: UnboundedSender<Sent<Answer<T>>>,
) {
    let mut last = SimInstant::now();
    let mut answers = match opened {
        Ok(answers) => answers,
        Err(error) => {
            let Err(error) = over_the_wire::<()>(Err(error)) else {
                return;
            };
            send(&ends, &mut last, &sender, Answer::Failed(error));
            return;
        }
    };
    if !send(&ends, &mut last, &sender, Answer::Opened) {
        return;
    }
    while let Some(answer) = ends.unless_broken(answers.next()).await {
        let answer = match answer.map(over_the_wire) {
            Some(Ok(item)) => Answer::Item(item),
            Some(Err(error)) => Answer::Failed(error),
            None => Answer::Ended,
        };
        let is_last = !matches!(answer, Answer::Item(_));
        if !send(&ends, &mut last, &sender, answer) || is_last {
            return;
        }
    }
}

/// The end of a stream that receives.
struct Arriving<T> {
    ends: Ends,
    receiver: UnboundedReceiver<Sent<T>>,
}

impl<T> Arriving<T> {
    /// The next message; none when the sender is gone or the connection broke.
    async fn next(&mut self) -> Option<T> {
        let Self { ends, receiver } = self;
        let sent = ends.unless_broken(receiver.recv()).await??;
        let (arrival, item) = sent?;
        ends.arrival(arrival).await.then_some(item)
    }
}

/// What arrives of a stream's requests. What breaks it ends the answers, too.
fn arriving<T: Send + 'static>(
    ends: Ends,
    receiver: UnboundedReceiver<Sent<T>>,
    breaks: AbortHandle,
) -> Requests<T> {
    let arriving = Arriving { ends, receiver };
    Box::pin(stream::unfold(
        (arriving, breaks),
        |(mut arriving, breaks)| async move {
            let Arriving { ends, receiver } = &mut arriving;
            let item = match ends.unless_broken(receiver.recv()).await {
                // The sender has sent all it will.
                Some(None) => return None,
                Some(Some(Some((arrival, item)))) => ends.arrival(arrival).await.then_some(item),
                Some(Some(None)) | None => None,
            };
            let Some(item) = item else {
                breaks.abort();
                return None;
            };
            Some((item, (arriving, breaks)))
        },
    ))
}

impl Peer for Link {
    fn hello(&self, request: HelloRequest) -> BoxFuture<Result<HelloReply, LinkError>> {
        self.ask(request, true, |local, request| local.hello(request))
    }

    fn append(
        &self,
        requests: Requests<AppendRequest>,
    ) -> BoxFuture<Result<Answers<AppendReply>, LinkError>> {
        self.open(requests, |local, requests| local.append(requests))
    }

    fn vote(&self, request: VoteRequest) -> BoxFuture<Result<VoteReply, LinkError>> {
        self.ask(request, true, |local, request| local.vote(request))
    }

    fn transfer_leader(
        &self,
        request: TransferLeaderRequest,
    ) -> BoxFuture<Result<TransferLeaderReply, LinkError>> {
        self.ask(request, false, |local, request| {
            local.transfer_leader(request)
        })
    }

    fn read_index(
        &self,
        request: ReadIndexRequest,
    ) -> BoxFuture<Result<ReadIndexReply, LinkError>> {
        self.ask(request, true, |local, request| local.read_index(request))
    }

    fn leases(&self, request: LeasesRequest) -> BoxFuture<Result<LeasesReply, LinkError>> {
        self.ask(request, true, |local, request| local.leases(request))
    }

    fn forward(
        &self,
        requests: Requests<ForwardRequest>,
    ) -> BoxFuture<Result<Answers<ForwardReply>, LinkError>> {
        self.open(requests, |local, requests| local.forward(requests))
    }

    fn snapshot(
        &self,
        requests: Requests<SnapshotRequest>,
    ) -> BoxFuture<Result<Answers<SnapshotReply>, LinkError>> {
        self.open(requests, |local, requests| local.snapshot(requests))
    }
}
