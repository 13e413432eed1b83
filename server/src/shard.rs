//! Connection shards: single-thread runtimes on which connections live, and how answers reach them.
//!
//! A connection is served by one shard for its whole life. Waking a task of another thread costs a
//! system call, so answers travel in bulk: whoever has many of them collects them in a [`Bulk`] and
//! wakes each shard once; the shard's own delivery task then wakes the callers, which is cheap there.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Mailbox>>> = const { RefCell::new(None) };
}

/// The runtimes that serve connections.
pub struct Shards {
    handles: Vec<Handle>,
    stops: Vec<oneshot::Sender<()>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Shards {
    /// Starts `count` runtimes, each on a thread of its own.
    pub fn start(count: usize) -> io::Result<Self> {
        let mut shards = Self {
            handles: Vec::new(),
            stops: Vec::new(),
            threads: Vec::new(),
        };
        for number in 0..count.max(1) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let (stop, stopped) = oneshot::channel::<()>();
            shards.handles.push(runtime.handle().clone());
            shards.stops.push(stop);
            let thread = thread::Builder::new()
                .name(format!("shard-{number}"))
                .spawn(move || {
                    let mailbox = Arc::new(Mailbox::default());
                    CURRENT.with(|current| *current.borrow_mut() = Some(mailbox.clone()));
                    runtime.block_on(async move {
                        tokio::spawn(deliver(mailbox));
                        // An error means that the `Shards` were dropped: the same as a stop.
                        let _ = stopped.await;
                    });
                    runtime.shutdown_background();
                })?;
            shards.threads.push(thread);
        }
        Ok(shards)
    }

    /// One handle for each shard.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Ends the shards; connections that are still open are cut.
    pub fn stop(self) {
        for stop in self.stops {
            let _ = stop.send(());
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a connection shard panicked");
            }
        }
    }
}

/// What has arrived for the callers on one shard.
#[derive(Default)]
struct Mailbox {
    arrived: Mutex<Vec<Box<dyn Deliver>>>,
    waker: AtomicWaker,
}

/// Answers for callers of one shard.
trait Deliver: Send {
    fn deliver(self: Box<Self>);
}

/// Values and the slots they are for.
type Filled<T> = Vec<(Arc<Slot<T>>, T)>;

struct Answers<T>(Filled<T>);

impl<T: Send> Deliver for Answers<T> {
    fn deliver(self: Box<Self>) {
        for (slot, value) in self.0 {
            slot.fill(value);
        }
    }
}

/// Hands out what arrives, for as long as the shard lives.
async fn deliver(mailbox: Arc<Mailbox>) {
    loop {
        let arrived = std::future::poll_fn(|context| {
            mailbox.waker.register(context.waker());
            let arrived = std::mem::take(&mut *mailbox.arrived.lock());
            if arrived.is_empty() {
                Poll::Pending
            } else {
                Poll::Ready(arrived)
            }
        })
        .await;
        for answers in arrived {
            answers.deliver();
        }
    }
}

/// Where one caller waits for one value.
struct Slot<T> {
    state: Mutex<SlotState<T>>,
}

struct SlotState<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

impl<T> Slot<T> {
    fn fill(&self, value: T) {
        let waker = {
            let mut state = self.state.lock();
            state.value = Some(value);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The side that answers.
pub struct Reply<T> {
    slot: Arc<Slot<T>>,
    mailbox: Option<Arc<Mailbox>>,
}

/// The side that waits.
pub struct Waiting<T> {
    slot: Arc<Slot<T>>,
}

/// A place for one answer to the calling task, on its shard if it runs on one.
pub fn reply<T>() -> (Reply<T>, Waiting<T>) {
    let slot = Arc::new(Slot {
        state: Mutex::new(SlotState {
            value: None,
            waker: None,
        }),
    });
    let mailbox = CURRENT.with(|current| current.borrow().clone());
    (
        Reply {
            slot: slot.clone(),
            mailbox,
        },
        Waiting { slot },
    )
}

impl<T> Reply<T> {
    /// Answers this one caller at once.
    pub fn send(self, value: T) {
        self.slot.fill(value);
    }

    /// Whether the caller has gone away.
    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.slot) == 1
    }
}

impl<T> Future for Waiting<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.slot.state.lock();
        match state.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Collects answers, to wake each shard once for all of them.
pub struct Bulk<T> {
    // A handful of shards: a scan beats hashing.
    shards: Vec<(Arc<Mailbox>, Filled<T>)>,
    elsewhere: Filled<T>,
}

impl<T> Default for Bulk<T> {
    fn default() -> Self {
        Self {
            shards: Vec::new(),
            elsewhere: Vec::new(),
        }
    }
}

impl<T: Send + 'static> Bulk<T> {
    /// Adds an answer; nobody is woken yet.
    pub fn add(&mut self, reply: Reply<T>, value: T) {
        let Some(mailbox) = reply.mailbox else {
            self.elsewhere.push((reply.slot, value));
            return;
        };
        match self
            .shards
            .iter_mut()
            .find(|(known, _)| Arc::ptr_eq(known, &mailbox))
        {
            Some((_, answers)) => answers.push((reply.slot, value)),
            None => self.shards.push((mailbox, vec![(reply.slot, value)])),
        }
    }

    /// Delivers everything.
    pub fn send(self) {
        for (mailbox, answers) in self.shards {
            mailbox.arrived.lock().push(Box::new(Answers(answers)));
            mailbox.waker.wake();
        }
        for (slot, value) in self.elsewhere {
            slot.fill(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bulk_reaches_callers_on_shards_and_elsewhere() {
        let shards = Shards::start(2).unwrap();
        let (replies, received) = std::sync::mpsc::channel();
        let (results, collected) = std::sync::mpsc::channel();
        for handle in shards.handles() {
            for number in 0..10 {
                let (replies, results) = (replies.clone(), results.clone());
                handle.spawn(async move {
                    let (reply, waiting) = reply();
                    replies.send((number, reply)).unwrap();
                    results.send(waiting.await).unwrap();
                });
            }
        }
        let mut bulk = Bulk::default();
        for (number, reply) in received.iter().take(20) {
            bulk.add(reply, number);
        }
        let (here, waiting) = reply();
        bulk.add(here, 42);
        bulk.send();
        let mut seen: Vec<i32> = collected.iter().take(20).collect();
        seen.sort_unstable();
        assert_eq!(
            seen,
            (0..10)
                .flat_map(|number| [number, number])
                .collect::<Vec<_>>()
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        assert_eq!(runtime.block_on(waiting), 42);
        shards.stop();
    }
}
