//! Waking many tasks of one connection shard for the price of one.
//!
//! A task that is woken from another thread costs a system call. So the hub hands a shard all wakers of a batch, and a
//! task of that shard wakes them there, where it is a push to a local queue.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::runtime::Handle;

thread_local! {
    static HERE: RefCell<Option<Arc<Wakers>>> = const { RefCell::new(None) };
}

/// Tasks of one shard that are to be woken.
pub(super) struct Wakers {
    state: Mutex<State>,
}

struct State {
    waiting: Vec<Waker>,
    /// The task that wakes the others.
    task: Option<Waker>,
    /// The runtime is gone, and that task with it.
    is_closed: bool,
}

impl Wakers {
    /// Those of this thread's runtime; none outside of one.
    pub(super) fn here() -> Option<Arc<Self>> {
        let runtime = Handle::try_current().ok()?;
        HERE.with(|here| {
            let mut here = here.borrow_mut();
            if let Some(wakers) = here.as_ref()
                && !wakers.state.lock().is_closed
            {
                return Some(wakers.clone());
            }
            let wakers = Arc::new(Self {
                state: Mutex::new(State {
                    waiting: Vec::new(),
                    task: None,
                    is_closed: false,
                }),
            });
            runtime.spawn(WakeAll {
                wakers: wakers.clone(),
                batch: Vec::new(),
            });
            *here = Some(wakers.clone());
            Some(wakers)
        })
    }

    /// Wakes all of them, and leaves the list empty for reuse.
    pub(super) fn wake(&self, batch: &mut Vec<Waker>) {
        if batch.is_empty() {
            return;
        }
        let task = {
            let mut state = self.state.lock();
            if state.is_closed {
                None
            } else {
                state.waiting.append(batch);
                state.task.take()
            }
        };
        batch.drain(..).for_each(Waker::wake);
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// The shard's task; it lives as long as the runtime.
struct WakeAll {
    wakers: Arc<Wakers>,
    batch: Vec<Waker>,
}

impl Future for WakeAll {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        {
            let mut state = this.wakers.state.lock();
            std::mem::swap(&mut state.waiting, &mut this.batch);
            state.task = Some(context.waker().clone());
        }
        this.batch.drain(..).for_each(Waker::wake);
        Poll::Pending
    }
}

impl Drop for WakeAll {
    fn drop(&mut self) {
        let left = {
            let mut state = self.wakers.state.lock();
            state.is_closed = true;
            std::mem::take(&mut state.waiting)
        };
        left.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_batch_wakes_every_task_and_outlives_the_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        let mut batch = vec![Waker::from(counter.clone()), Waker::from(counter.clone())];
        let wakers = runtime.block_on(async { Wakers::here() }).unwrap();
        wakers.wake(&mut batch);
        runtime.block_on(async {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        });
        assert_eq!(counter.0.load(Ordering::SeqCst), 2);

        drop(runtime);
        batch.push(Waker::from(counter.clone()));
        wakers.wake(&mut batch);
        assert_eq!(counter.0.load(Ordering::SeqCst), 3);

        let other = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let fresh = other.block_on(async { Wakers::here() }).unwrap();
        assert!(!Arc::ptr_eq(&wakers, &fresh));
    }
}
