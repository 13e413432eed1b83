//! A bounded channel with many senders and one receiver; full means that senders wait in turn.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use openraft_rt::{
    MpscReceiver, MpscSender, MpscWeakSender, OptionalSend, SendError, TryRecvError,
};
use parking_lot::Mutex;

/// The bounded channel of the simulated runtime.
#[derive(Debug)]
pub struct SimMpsc;

#[derive(Debug)]
struct Queue<T> {
    values: VecDeque<T>,
    capacity: usize,
    senders: usize,
    is_receiver_gone: bool,
    receiver: Option<Waker>,
    /// Senders that found the queue full, first come first woken.
    waiting: VecDeque<Waker>,
}

impl<T> Queue<T> {
    fn take(&mut self) -> Result<(T, Option<Waker>), TryRecvError> {
        match self.values.pop_front() {
            Some(value) => Ok((value, self.waiting.pop_front())),
            None if self.senders == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A half that sends.
#[derive(Debug)]
pub struct SimSender<T>(Arc<Mutex<Queue<T>>>);

/// A half that sends, and does not keep the channel open.
#[derive(Debug)]
pub struct SimWeakSender<T>(Arc<Mutex<Queue<T>>>);

/// The half that receives.
#[derive(Debug)]
pub struct SimReceiver<T>(Arc<Mutex<Queue<T>>>);

impl<T> Clone for SimSender<T> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        SimSender(Arc::clone(&self.0))
    }
}

impl<T> Clone for SimWeakSender<T> {
    fn clone(&self) -> Self {
        SimWeakSender(Arc::clone(&self.0))
    }
}

impl<T> Drop for SimSender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut queue = self.0.lock();
            queue.senders -= 1;
            if queue.senders == 0 {
                queue.receiver.take()
            } else {
                None
            }
        };
        wake(waker);
    }
}

impl<T> Drop for SimReceiver<T> {
    fn drop(&mut self) {
        let (values, waiting) = {
            let mut queue = self.0.lock();
            queue.is_receiver_gone = true;
            (
                std::mem::take(&mut queue.values),
                std::mem::take(&mut queue.waiting),
            )
        };
        drop(values);
        for waker in waiting {
            waker.wake();
        }
    }
}

impl<T> SimSender<T> {
    /// Puts the value into the queue, or keeps it in `value` and has the sender woken later.
    fn poll_send(&self, value: &mut Option<T>, cx: &Context<'_>) -> Poll<Result<(), SendError<T>>> {
        let mut queue = self.0.lock();
        let Some(held) = value.take() else {
            return Poll::Ready(Ok(()));
        };
        if queue.is_receiver_gone {
            return Poll::Ready(Err(SendError(held)));
        }
        if queue.values.len() >= queue.capacity {
            *value = Some(held);
            queue.waiting.push_back(cx.waker().clone());
            return Poll::Pending;
        }
        queue.values.push_back(held);
        let receiver = queue.receiver.take();
        // A sender that gave up may have been the one woken for a free place: pass it on.
        let next = if queue.values.len() < queue.capacity {
            queue.waiting.pop_front()
        } else {
            None
        };
        drop(queue);
        wake(receiver);
        wake(next);
        Poll::Ready(Ok(()))
    }
}

impl openraft_rt::Mpsc for SimMpsc {
    type Sender<T: OptionalSend> = SimSender<T>;
    type Receiver<T: OptionalSend> = SimReceiver<T>;
    type WeakSender<T: OptionalSend> = SimWeakSender<T>;

    fn channel<T: OptionalSend>(capacity: usize) -> (SimSender<T>, SimReceiver<T>) {
        let queue = Arc::new(Mutex::new(Queue {
            values: VecDeque::new(),
            capacity: capacity.max(1),
            senders: 1,
            is_receiver_gone: false,
            receiver: None,
            waiting: VecDeque::new(),
        }));
        (SimSender(Arc::clone(&queue)), SimReceiver(queue))
    }
}

impl<T: OptionalSend> MpscSender<SimMpsc, T> for SimSender<T> {
    async fn send(&self, value: T) -> Result<(), SendError<T>> {
        let mut value = Some(value);
        poll_fn(|cx| self.poll_send(&mut value, cx)).await
    }

    fn downgrade(&self) -> SimWeakSender<T> {
        SimWeakSender(Arc::clone(&self.0))
    }
}

impl<T: OptionalSend> MpscReceiver<T> for SimReceiver<T> {
    async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| {
            let mut queue = self.0.lock();
            match queue.take() {
                Ok((value, sender)) => {
                    drop(queue);
                    wake(sender);
                    Poll::Ready(Some(value))
                }
                Err(TryRecvError::Disconnected) => Poll::Ready(None),
                Err(TryRecvError::Empty) => {
                    queue.receiver = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let (value, sender) = self.0.lock().take()?;
        wake(sender);
        Ok(value)
    }
}

impl<T: OptionalSend> MpscWeakSender<SimMpsc, T> for SimWeakSender<T> {
    fn upgrade(&self) -> Option<SimSender<T>> {
        let mut queue = self.0.lock();
        if queue.senders == 0 || queue.is_receiver_gone {
            return None;
        }
        queue.senders += 1;
        drop(queue);
        Some(SimSender(Arc::clone(&self.0)))
    }
}
