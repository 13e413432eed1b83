//! [`Simulation`] as openraft's `AsyncRuntime`.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use openraft_rt::{AsyncRuntime, Instant, OptionalSend};

use super::clock::{Elapsed, SimInstant, Sleep, Timeout};
use super::executor::{Shared, SimRng, Simulation, TaskFuture};
use super::oneshot::{self, OneshotReceiver};
use super::{SimMpsc, SimMutex, SimOneshot, SimWatch};

/// Why a task gave no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// It panicked with this text.
    Panic(String),
    /// Its group was killed.
    Killed,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panic(message) => write!(f, "task panicked: {message}"),
            JoinError::Killed => f.write_str("task was killed"),
        }
    }
}

impl std::error::Error for JoinError {}

/// Waits for the end of a task. Dropping it lets the task run on.
#[derive(Debug)]
pub struct JoinHandle<T>(OneshotReceiver<Result<T, String>>);

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|ended| match ended {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(message)) => Err(JoinError::Panic(message)),
            Err(_) => Err(JoinError::Killed),
        })
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without text".to_owned()
    }
}

/// Splits a future into the task to schedule and the handle that waits for it.
pub(super) fn joined<F>(future: F, shared: Weak<Shared>) -> (JoinHandle<F::Output>, TaskFuture)
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (send, receive) = oneshot::channel();
    let task = async move {
        let ended = AssertUnwindSafe(future).catch_unwind().await;
        let ended = ended.map_err(|panic| {
            let message = text_of(&*panic);
            if let Some(shared) = shared.upgrade() {
                shared.record_panic(message.clone());
            }
            message
        });
        // Nobody waits for a detached task.
        send.put(ended).ok();
    };
    (JoinHandle(receive), Box::pin(task))
}

impl AsyncRuntime for Simulation {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = SimInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = SimRng;
    type Mpsc = SimMpsc;
    type Watch = SimWatch;
    type Oneshot = SimOneshot;
    type Mutex<T: OptionalSend + 'static> = SimMutex<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let shared = Shared::current();
        let (handle, task) = joined(future, Arc::downgrade(&shared));
        shared.spawn(task);
        handle
    }

    fn sleep(duration: Duration) -> Sleep {
        Sleep::until(SimInstant::now() + duration)
    }

    fn sleep_until(deadline: SimInstant) -> Sleep {
        Sleep::until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Timeout<F> {
        Timeout::at(SimInstant::now() + duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: SimInstant,
        future: F,
    ) -> Timeout<F> {
        Timeout::at(deadline, future)
    }

    fn is_panic(error: &JoinError) -> bool {
        matches!(error, JoinError::Panic(_))
    }

    fn thread_rng() -> SimRng {
        Shared::current().fork_rng()
    }

    fn new(_threads: usize) -> Simulation {
        Simulation::with_seed(0)
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        Simulation::block_on(self, future)
    }

    /// As a task of its own: a thread would bring a schedule that no seed knows.
    fn spawn_blocking<F, T>(f: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let handle = Self::spawn(async move { f() });
        async move { handle.await.map_err(io::Error::other) }
    }
}
