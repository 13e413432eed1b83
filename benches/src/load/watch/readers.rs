//! Watch streams: they open their watchers and count what comes.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};

use crate::load::Plan;
use crate::load::drive::Signals;
use crate::load::share;
use crate::load::watch::writers::Writers;
use crate::random::Random;
use crate::wire::{Answer, Channel, Event, Method, Request, Stream};

const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// What every watcher watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// All keys.
    Prefix,
    /// The key of its number.
    OwnKey,
}

/// All streams with the same kind of watchers.
pub(super) struct Readers {
    method: Method,
    create: Request,
    watched: Watched,
    streams: usize,
    watchers: usize,
    open: AtomicU64,
    responses: AtomicU64,
    /// Events by stream.
    events: Vec<AtomicU64>,
}

impl Readers {
    /// Watchers of the plan's keys, as many of them and on as many streams as the plan says.
    pub(super) fn new(plan: &Plan, watched: Watched) -> Result<Readers> {
        let (streams, watchers) = (plan.streams, plan.watchers);
        ensure!(
            watchers >= streams,
            "{streams} streams need a watcher each, there are {watchers}"
        );
        Ok(Readers {
            method: Method::new(plan.endpoints[0], WATCH)?,
            create: match watched {
                Watched::Prefix => Request::watch(&plan.prefix),
                Watched::OwnKey => Request::watch_key(&plan.prefix),
            },
            watched,
            streams,
            watchers,
            open: AtomicU64::new(0),
            responses: AtomicU64::new(0),
            events: (0..streams).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// Opens a stream and asks for its watchers.
    pub(super) async fn open(&self, stream: usize, mut channel: Channel) -> Result<Stream> {
        let (mut create, mut random) = (self.create.clone(), Random::new(0));
        let watchers = share::of(self.watchers, self.streams, stream);
        let mut creates = watchers.map(|watcher| create.fill(watcher as u64, 0, &mut random));
        let first = creates.next().unwrap_or_default();
        let mut stream = channel.stream(&self.method, first).await?;
        for create in creates {
            stream.send(create)?;
        }
        Ok(stream)
    }

    /// One stream: opens it and reads to the end of the run. `on_event`, if there is one, sees every event.
    pub(super) async fn run(
        &self,
        number: usize,
        channel: Channel,
        signals: Signals,
        mut on_event: Option<impl FnMut(&Answer, &Event<'_>) -> Result<()> + Send>,
    ) -> Result<()> {
        let read = async {
            let mut stream = self.open(number, channel).await?;
            loop {
                let on_event = on_event.as_mut().map(|on_event| on_event as _);
                let note = |answer: &Answer| self.note(number, answer);
                ensure!(
                    stream.receive(on_event, note).await?,
                    "the server ended a watch stream"
                );
            }
        };
        tokio::select! {
            ended = read => ended,
            () = signals.finished() => Ok(()),
        }
    }

    /// Counts a message.
    pub(super) fn note(&self, stream: usize, answer: &Answer) -> Result<()> {
        ensure!(answer.numbers[4] == 0, "the server cancelled a watcher");
        self.open.fetch_add(answer.numbers[3], Ordering::Relaxed);
        if answer.counts[11] > 0 {
            self.responses.fetch_add(1, Ordering::Relaxed);
            self.events[stream].fetch_add(u64::from(answer.counts[11]), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Conductor: waits until every watcher is open.
    pub(super) fn wait_until_open(&self, signals: &Signals) -> Result<()> {
        signals.wait("watchers opened", || {
            let open = self.open.load(Ordering::Relaxed);
            (open, open >= self.watchers as u64)
        })
    }

    /// Conductor: waits for the writers' last answers and then for the last event.
    pub(super) fn drain(&self, writers: &Writers, signals: &Signals) -> Result<()> {
        signals.wait("events delivered", || {
            // In this order: the counts stand only when the writers have ended.
            let have_ended = writers.have_ended();
            let delivered = self.delivered();
            (delivered, have_ended && delivered >= self.expected(writers))
        })
    }

    /// Fails if a stream has not exactly the events that it should have.
    pub(super) fn check(&self, writers: &Writers) -> Result<()> {
        for (stream, events) in self.events.iter().enumerate() {
            let (found, expected) = (
                events.load(Ordering::Relaxed),
                self.expected_on(writers, stream),
            );
            ensure!(
                found == expected,
                "stream {stream} got {found} events, not {expected}"
            );
        }
        Ok(())
    }

    fn expected(&self, writers: &Writers) -> u64 {
        let streams = 0..self.streams;
        streams
            .map(|stream| self.expected_on(writers, stream))
            .sum()
    }

    fn expected_on(&self, writers: &Writers, stream: usize) -> u64 {
        match self.watched {
            Watched::Prefix => {
                let watchers = share::of(self.watchers, self.streams, stream).len();
                writers.puts() * watchers as u64
            }
            Watched::OwnKey => writers.puts_of(stream),
        }
    }

    /// Events on all streams.
    pub(super) fn delivered(&self) -> u64 {
        let events = self.events.iter();
        events.map(|events| events.load(Ordering::Relaxed)).sum()
    }

    /// Messages with events.
    pub(super) fn responses(&self) -> u64 {
        self.responses.load(Ordering::Relaxed)
    }
}
