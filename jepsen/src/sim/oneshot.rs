//! A channel for one value.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use openraft_rt::{OneshotSender, OptionalSend};
use parking_lot::Mutex;

/// The oneshot channel of the simulated runtime.
#[derive(Debug)]
pub struct SimOneshot;

#[derive(Debug)]
struct Slot<T> {
    value: Option<T>,
    /// One half is gone.
    is_closed: bool,
    waker: Option<Waker>,
}

/// The half that sends.
#[derive(Debug)]
pub struct OneshotSend<T>(Arc<Mutex<Slot<T>>>);

/// The half that waits.
#[derive(Debug)]
pub struct OneshotReceiver<T>(Arc<Mutex<Slot<T>>>);

/// The sender was dropped without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneshotClosed;

impl fmt::Display for OneshotClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("channel closed")
    }
}

impl std::error::Error for OneshotClosed {}

pub(super) fn channel<T>() -> (OneshotSend<T>, OneshotReceiver<T>) {
    let slot = Arc::new(Mutex::new(Slot {
        value: None,
        is_closed: false,
        waker: None,
    }));
    (OneshotSend(Arc::clone(&slot)), OneshotReceiver(slot))
}

impl<T> OneshotSend<T> {
    pub(super) fn put(self, value: T) -> Result<(), T> {
        let mut slot = self.0.lock();
        if slot.is_closed {
            return Err(value);
        }
        slot.value = Some(value);
        Ok(())
    }
}

impl<T> Drop for OneshotSend<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.0.lock();
            slot.is_closed = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for OneshotReceiver<T> {
    fn drop(&mut self) {
        let (value, waker) = {
            let mut slot = self.0.lock();
            slot.is_closed = true;
            (slot.value.take(), slot.waker.take())
        };
        drop((value, waker));
    }
}

impl<T> Future for OneshotReceiver<T> {
    type Output = Result<T, OneshotClosed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.0.lock();
        if let Some(value) = slot.value.take() {
            return Poll::Ready(Ok(value));
        }
        if slot.is_closed {
            return Poll::Ready(Err(OneshotClosed));
        }
        slot.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl openraft_rt::Oneshot for SimOneshot {
    type Sender<T: OptionalSend> = OneshotSend<T>;
    type Receiver<T: OptionalSend> = OneshotReceiver<T>;
    type ReceiverError = OneshotClosed;

    fn channel<T: OptionalSend>() -> (OneshotSend<T>, OneshotReceiver<T>) {
        channel()
    }
}

impl<T: OptionalSend> OneshotSender<T> for OneshotSend<T> {
    fn send(self, value: T) -> Result<(), T> {
        self.put(value)
    }
}
