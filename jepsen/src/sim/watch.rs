//! A channel that keeps the newest value only, for many receivers.

use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Poll, Waker};

use openraft_rt::watch::{RecvError, SendError};
use openraft_rt::{OptionalSend, OptionalSync, WatchReceiver, WatchSender};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

/// The watch channel of the simulated runtime.
#[derive(Debug)]
pub struct SimWatch;

#[derive(Debug)]
struct Ends {
    version: u64,
    senders: usize,
    receivers: usize,
    waiting: Vec<Waker>,
}

#[derive(Debug)]
struct Channel<T> {
    value: RwLock<T>,
    ends: Mutex<Ends>,
}

impl<T> Channel<T> {
    /// Counts a change and wakes the receivers in the order in which they began to wait.
    fn changed(&self) {
        let waiting = {
            let mut ends = self.ends.lock();
            ends.version += 1;
            std::mem::take(&mut ends.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }

    /// Two borrows may be held at once on one thread, so reading never waits for a writer that
    /// waits itself.
    fn borrow(&self) -> WatchRef<'_, T> {
        WatchRef(self.value.read_recursive())
    }
}

/// The value of a watch channel, borrowed.
#[derive(Debug)]
pub struct WatchRef<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for WatchRef<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A half that sends.
#[derive(Debug)]
pub struct SimWatchSender<T>(Arc<Channel<T>>);

/// A half that sees the newest value, and which it has seen.
#[derive(Debug)]
pub struct SimWatchReceiver<T> {
    channel: Arc<Channel<T>>,
    seen: u64,
}

impl<T> Clone for SimWatchSender<T> {
    fn clone(&self) -> Self {
        self.0.ends.lock().senders += 1;
        SimWatchSender(Arc::clone(&self.0))
    }
}

impl<T> Drop for SimWatchSender<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut ends = self.0.ends.lock();
            ends.senders -= 1;
            if ends.senders > 0 {
                return;
            }
            std::mem::take(&mut ends.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }
}

impl<T> Clone for SimWatchReceiver<T> {
    fn clone(&self) -> Self {
        self.channel.ends.lock().receivers += 1;
        SimWatchReceiver {
            channel: Arc::clone(&self.channel),
            seen: self.seen,
        }
    }
}

impl<T> Drop for SimWatchReceiver<T> {
    fn drop(&mut self) {
        self.channel.ends.lock().receivers -= 1;
    }
}

impl openraft_rt::Watch for SimWatch {
    type Sender<T: OptionalSend + OptionalSync> = SimWatchSender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = SimWatchReceiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = WatchRef<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(
        value: T,
    ) -> (SimWatchSender<T>, SimWatchReceiver<T>) {
        let channel = Arc::new(Channel {
            value: RwLock::new(value),
            ends: Mutex::new(Ends {
                version: 0,
                senders: 1,
                receivers: 1,
                waiting: Vec::new(),
            }),
        });
        let receiver = SimWatchReceiver {
            channel: Arc::clone(&channel),
            seen: 0,
        };
        (SimWatchSender(channel), receiver)
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<SimWatch, T> for SimWatchSender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.0.ends.lock().receivers == 0 {
            return Err(SendError(value));
        }
        let before = std::mem::replace(&mut *self.0.value.write(), value);
        self.0.changed();
        drop(before);
        Ok(())
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        let is_modified = modify(&mut self.0.value.write());
        if is_modified {
            self.0.changed();
        }
        is_modified
    }

    fn borrow_watched(&self) -> WatchRef<'_, T> {
        self.0.borrow()
    }

    fn subscribe(&self) -> SimWatchReceiver<T> {
        let mut ends = self.0.ends.lock();
        ends.receivers += 1;
        SimWatchReceiver {
            channel: Arc::clone(&self.0),
            seen: ends.version,
        }
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<SimWatch, T> for SimWatchReceiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        let channel = &self.channel;
        let seen = &mut self.seen;
        poll_fn(|cx| {
            let mut ends = channel.ends.lock();
            if ends.version != *seen {
                *seen = ends.version;
                return Poll::Ready(Ok(()));
            }
            if ends.senders == 0 {
                return Poll::Ready(Err(RecvError(())));
            }
            // A receiver polled again by a select must not be kept twice.
            if !ends.waiting.iter().any(|held| held.will_wake(cx.waker())) {
                ends.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    fn borrow_watched(&self) -> WatchRef<'_, T> {
        self.channel.borrow()
    }

    fn borrow_and_update(&mut self) -> WatchRef<'_, T> {
        self.seen = self.channel.ends.lock().version;
        self.channel.borrow()
    }
}
