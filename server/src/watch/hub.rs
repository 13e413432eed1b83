//! The door to the fan-out: change sets and requests go in, the worker takes both and moves the core.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use store::{ChangeSet, Reader};

use super::catch_up::{CatchUpWorker, Scanned};
use super::core::Core;
use super::interest::{Interest, KeyRange};
use super::outbox::{End, Item, Notice, NoticeKind, Outbox, Taken};
use super::ring;
use super::room::Room;
use super::wake::Wakers;
use crate::exec::{Clock, Queue, Work};
use crate::logging;

/// With no stream open the worker sleeps on until this much has been published.
const IDLE_BYTES: usize = 1024 * 1024;
const IDLE_SETS: usize = 1024;

/// Who speaks, as response headers say it.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u64,
    /// This member.
    pub member_id: u64,
    /// The raft term, kept up to date by its owner.
    pub term: Arc<AtomicU64>,
}

/// Limits and intervals.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for recent revisions.
    pub ring_bytes: usize,
    /// What may wait on one stream before its watchers fall behind.
    pub stream_bytes: usize,
    /// What may wait on all streams together before each of them may have less. Events that wait on many are there once.
    pub queued_bytes: usize,
    /// Memory for change sets that the hub has not come to. If that is not enough it reads the store's history instead.
    pub inbox_bytes: usize,
    /// Memory for watchers; no more are made beyond it.
    pub watcher_bytes: usize,
    /// How many streams there may be.
    pub streams: usize,
    /// No request may be longer; and from this length on a response comes in fragments, for those who asked for them.
    pub message_bytes: usize,
    /// How often an idle watcher that wants it is told the revision.
    pub progress_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ring_bytes: 16 * 1024 * 1024,
            stream_bytes: 1024 * 1024,
            queued_bytes: 64 * 1024 * 1024,
            inbox_bytes: 32 * 1024 * 1024,
            watcher_bytes: 1024 * 1024 * 1024,
            streams: 262_144,
            message_bytes: 2 * 1024 * 1024,
            progress_interval: Duration::from_secs(600),
        }
    }
}

/// Figures for metrics.
#[derive(Debug, Default)]
pub struct Stats {
    /// Open streams.
    pub streams: AtomicUsize,
    /// Watchers of all streams.
    pub watchers: AtomicUsize,
    /// Those that are behind.
    pub slow_watchers: AtomicUsize,
    /// Events put into queues, counted for each watcher.
    pub events: AtomicU64,
    /// Memory that recent revisions take.
    pub ring_bytes: AtomicUsize,
}

/// What a client asks on a stream.
#[derive(Clone, Debug)]
pub enum Request {
    /// A new watcher.
    Create(Create),
    /// The end of one.
    Cancel(i64),
    /// To be told the revision that all watchers of the stream have reached.
    Progress,
}

/// A new watcher.
#[derive(Clone, Debug)]
pub struct Create {
    /// Which keys; none if the range that was asked for is empty.
    pub range: Option<KeyRange>,
    /// The first revision to report; 0 for the next one.
    pub start_revision: i64,
    /// Its id; 0 lets the hub choose.
    pub watch_id: i64,
    /// Report progress now and then.
    pub progress_notify: bool,
    /// Leave puts out.
    pub without_puts: bool,
    /// Leave deletes out.
    pub without_deletes: bool,
    /// Report with each event what was there before.
    pub with_previous: bool,
    /// Responses may come in fragments.
    pub fragment: bool,
}

impl Create {
    /// All events of a range from a revision on, and nothing else.
    pub fn plain(range: Option<KeyRange>, start_revision: i64) -> Self {
        Self {
            range,
            start_revision,
            watch_id: 0,
            progress_notify: false,
            without_puts: false,
            without_deletes: false,
            with_previous: false,
            fragment: false,
        }
    }

    pub(super) fn interest(&self) -> Option<Interest> {
        Some(Interest {
            range: self.range.clone()?,
            without_puts: self.without_puts,
            without_deletes: self.without_deletes,
            with_previous: self.with_previous,
            fragment: self.fragment,
        })
    }
}

/// What the worker is told besides change sets. Streams are named by their serial numbers.
pub(super) enum Command {
    Open {
        stream: u64,
        outbox: Arc<Outbox>,
        wakers: Option<Arc<Wakers>>,
    },
    Request {
        stream: u64,
        request: Request,
    },
    Drained {
        stream: u64,
    },
    Close {
        stream: u64,
    },
    Scanned(Scanned),
}

pub(super) struct Shared {
    pub(super) reader: Reader,
    pub(super) options: Options,
    pub(super) identity: Identity,
    pub(super) stats: Stats,
    pub(super) room: Arc<Room>,
    inbox: Mutex<Inbox>,
    fault: Mutex<Fault>,
    ready: Condvar,
    next_stream: AtomicU64,
    /// Live watchers have everything up to this revision in the queues of their streams.
    pub(super) told: AtomicI64,
}

#[derive(Default)]
struct Inbox {
    published: Vec<Arc<ChangeSet>>,
    /// The revision that the store went on to without change sets; 0 if it did not. What is published follows it.
    jumped: i64,
    /// What `published` holds.
    bytes: usize,
    commands: Vec<Command>,
    is_closed: bool,
}

impl Inbox {
    /// What was not handed out yet is in the history, too. Left here, it would have a gap behind it.
    fn jump(&mut self, revision: i64) {
        self.published = Vec::new();
        self.bytes = 0;
        self.jumped = revision;
    }
}

/// A fault of the store and who is told of it; whichever is there first waits for the other.
#[derive(Default)]
struct Fault {
    reason: Option<String>,
    told: Option<Tell>,
}

type Tell = Box<dyn FnOnce(String) + Send>;

impl Fault {
    /// What is to be called now, without the lock.
    fn take(&mut self) -> Option<(Tell, String)> {
        self.reason.as_ref()?;
        self.told.take().zip(self.reason.clone())
    }
}

impl Shared {
    /// Notes that the store cannot be read.
    fn fail(&self, reason: String) {
        let told = {
            let mut fault = self.fault.lock();
            fault.reason = Some(reason);
            fault.take()
        };
        if let Some((tell, reason)) = told {
            tell(reason);
        }
    }

    pub(super) fn command(&self, command: Command) {
        let mut inbox = self.inbox.lock();
        if inbox.is_closed {
            return;
        }
        inbox.commands.push(command);
        if inbox.commands.len() == 1 {
            self.ready.notify_one();
        }
    }
}

/// The fan-out as others see it. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
    jobs: Arc<Queue<super::catch_up::Job>>,
}

impl Hub {
    /// A hub that stands at the store's present revision, and its two workers, to be run by the caller.
    pub fn new(
        reader: Reader,
        identity: Identity,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> (Self, HubWorker, CatchUpWorker) {
        let shared = Arc::new(Shared {
            reader,
            room: Room::new(options.queued_bytes, options.stream_bytes),
            options,
            identity,
            stats: Stats::default(),
            inbox: Mutex::default(),
            fault: Mutex::default(),
            ready: Condvar::new(),
            next_stream: AtomicU64::new(1),
            told: AtomicI64::new(0),
        });
        let jobs = Queue::new();
        let hub = Self {
            shared: shared.clone(),
            jobs: jobs.clone(),
        };
        let core = Core::new(shared.clone(), jobs.clone());
        let catch_up = CatchUpWorker::new(jobs, shared.clone());
        (
            hub,
            HubWorker {
                shared,
                core,
                clock,
                has_ended: false,
            },
            catch_up,
        )
    }

    /// Takes the next revisions, in order. Called by the apply thread, after it has published their view.
    pub fn publish(&self, sets: Vec<Arc<ChangeSet>>) {
        if sets.is_empty() {
            return;
        }
        let has_listeners = self.shared.stats.streams.load(Ordering::Relaxed) > 0;
        let mut inbox = self.shared.inbox.lock();
        if inbox.is_closed {
            return;
        }
        let was_empty = inbox.published.is_empty();
        inbox.bytes += sets.iter().map(|set| ring::weight(set)).sum::<usize>();
        // If nobody hears of it, the ring may be filled later: a put costs no wake-up.
        let wakes = if has_listeners {
            was_empty
        } else {
            inbox.bytes > IDLE_BYTES || inbox.published.len() + sets.len() > IDLE_SETS
        };
        if was_empty {
            inbox.published = sets;
        } else {
            inbox.published.extend(sets);
        }
        if inbox.bytes > self.shared.options.inbox_bytes
            && let Some(last) = inbox.published.last().map(|set| set.revision)
        {
            // The hub does not keep up, and apply does not wait for it.
            inbox.jump(last);
        }
        if wakes {
            self.shared.ready.notify_one();
        }
    }

    /// Told that the store was replaced by one at this revision: what lies between is to be read from its history.
    /// Called by the apply thread, after it has published the view.
    pub fn jumped(&self, revision: i64) {
        self.shared.inbox.lock().jump(revision);
        self.shared.ready.notify_one();
    }

    /// Whether there are as many streams as there may be.
    pub fn is_full(&self) -> bool {
        self.shared.stats.streams.load(Ordering::Relaxed) >= self.shared.options.streams
    }

    /// Opens a stream for the calling task; on a shard's runtime it will be woken there.
    pub fn open(&self) -> Stream {
        let number = self.shared.next_stream.fetch_add(1, Ordering::Relaxed);
        let outbox = Arc::new(Outbox::new(self.shared.room.clone()));
        self.shared.stats.streams.fetch_add(1, Ordering::Relaxed);
        let stream = Stream {
            number,
            outbox: outbox.clone(),
            shared: self.shared.clone(),
        };
        if self.shared.inbox.lock().is_closed {
            outbox.end(End::Stopped);
        } else {
            self.shared.command(Command::Open {
                stream: number,
                outbox,
                wakers: Wakers::here(),
            });
        }
        stream
    }

    /// Has `tell` called, once, when the store's history cannot be read. All streams have ended then, and a node
    /// that cannot serve watches must not go on.
    pub fn on_fault(&self, tell: impl FnOnce(String) + Send + 'static) {
        let told = {
            let mut fault = self.shared.fault.lock();
            fault.told = Some(Box::new(tell));
            fault.take()
        };
        if let Some((tell, reason)) = told {
            tell(reason);
        }
    }

    /// Ends all streams and then the workers.
    pub fn close(&self) {
        self.shared.inbox.lock().is_closed = true;
        self.shared.ready.notify_all();
        self.jobs.close();
    }

    /// Memory that is taken by what waits: on all streams, and for the hub.
    pub fn queued_bytes(&self) -> usize {
        self.shared.room.used() + self.shared.inbox.lock().bytes
    }

    /// Figures for metrics.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Who speaks.
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }
}

/// A stream as its reader holds it. Dropping it ends its watchers.
pub struct Stream {
    number: u64,
    outbox: Arc<Outbox>,
    shared: Arc<Shared>,
}

impl Stream {
    /// Asks something; the answer comes in order with events.
    pub fn request(&self, request: Request) {
        self.outbox.request_made();
        self.shared.command(Command::Request {
            stream: self.number,
            request,
        });
    }

    /// Whether more requests may be made now. If not, wait for the waker of [`Stream::take`].
    pub fn takes_requests(&self) -> bool {
        self.outbox.takes_requests()
    }

    /// Takes what waits. Every item taken must be given back to [`Stream::sent`] once it is out.
    pub fn take(&self, into: &mut VecDeque<Item>, waker: &Waker) -> Taken {
        self.outbox.take(into, waker)
    }

    /// Answers a request for progress here and now, behind everything that waits, if the hub would say the same; else it
    /// is to be asked. That costs no thread its turn, and an answer no wait for one.
    pub fn tell_progress(&self, into: &mut VecDeque<Item>) -> bool {
        // In this order: whatever else the hub tells meanwhile is of a later revision than this one, and so is the
        // store, whose revision is looked at last.
        let revision = self.shared.told.load(Ordering::SeqCst);
        if !self.outbox.take_if_complete(into) || self.shared.reader.view().revision > revision {
            return false;
        }
        let item = Item::Notice(Notice {
            watch_id: -1,
            revision,
            term: self.shared.identity.term.load(Ordering::Relaxed),
            kind: NoticeKind::Progress,
        });
        self.outbox.reserve(&item);
        into.push_back(item);
        true
    }

    /// Makes room in the queue again.
    pub fn sent(&self, item: &Item) {
        if self.outbox.sent(item) {
            self.shared.command(Command::Drained {
                stream: self.number,
            });
        }
    }

    /// Who speaks.
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// Limits and intervals.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.stats.streams.fetch_sub(1, Ordering::Relaxed);
        self.shared.command(Command::Close {
            stream: self.number,
        });
    }
}

/// Owns all watchers and moves them.
pub struct HubWorker {
    shared: Arc<Shared>,
    core: Core,
    clock: Arc<dyn Clock>,
    has_ended: bool,
}

impl HubWorker {
    fn end(&mut self, end: End) {
        self.has_ended = true;
        let late = {
            let mut inbox = self.shared.inbox.lock();
            inbox.is_closed = true;
            inbox.published = Vec::new();
            std::mem::take(&mut inbox.commands)
        };
        self.core.end(late, end);
    }
}

impl Work for HubWorker {
    fn step(&mut self) -> bool {
        if self.has_ended {
            return false;
        }
        let (sets, jumped, commands, is_closed) = {
            let mut inbox = self.shared.inbox.lock();
            inbox.bytes = 0;
            (
                std::mem::take(&mut inbox.published),
                std::mem::take(&mut inbox.jumped),
                std::mem::take(&mut inbox.commands),
                inbox.is_closed,
            )
        };
        let has_input = !sets.is_empty() || !commands.is_empty() || jumped > 0;
        match self.core.step(sets, jumped, commands, self.clock.now()) {
            Ok(_) if is_closed => {
                self.end(End::Stopped);
                true
            }
            Ok(has_worked) => has_worked || has_input,
            Err(error) => {
                self.end(End::Fault);
                self.shared.fail(format!(
                    "watches ended, because the store's history cannot be read: {}",
                    logging::chain(&error)
                ));
                true
            }
        }
    }

    fn wait(&mut self) -> bool {
        if self.has_ended {
            return false;
        }
        // A reader that made room while the last step queued more leaves work without a command.
        if self.core.has_work(self.clock.now()) {
            return true;
        }
        let due = self.core.next_tick();
        let mut inbox = self.shared.inbox.lock();
        loop {
            let has_listeners = self.shared.stats.streams.load(Ordering::Relaxed) > 0;
            let is_idle =
                !has_listeners && inbox.published.len() <= IDLE_SETS && inbox.bytes <= IDLE_BYTES;
            if inbox.is_closed
                || !inbox.commands.is_empty()
                || inbox.jumped > 0
                || !(inbox.published.is_empty() || is_idle)
            {
                return true;
            }
            let Some(due) = due else {
                self.shared.ready.wait(&mut inbox);
                continue;
            };
            let left = due.saturating_sub(self.clock.now());
            if left.is_zero() {
                return true;
            }
            self.shared.ready.wait_for(&mut inbox, left);
        }
    }

    fn has_work(&self) -> bool {
        if self.has_ended {
            return false;
        }
        let inbox = self.shared.inbox.lock();
        inbox.is_closed
            || !inbox.commands.is_empty()
            || inbox.jumped > 0
            || !inbox.published.is_empty()
            || self.core.has_work(self.clock.now())
    }
}
