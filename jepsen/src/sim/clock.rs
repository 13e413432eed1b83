//! Virtual time: instants, sleeps and timeouts.

use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::executor::Shared;

/// A point in virtual time. Arithmetic saturates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SimInstant(u64);

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl SimInstant {
    pub(super) fn after(duration: Duration) -> SimInstant {
        SimInstant(nanos(duration))
    }

    /// Virtual time since a point before every start.
    #[must_use]
    pub fn since_epoch(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    pub(super) fn nanos(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for SimInstant {
    type Output = SimInstant;

    fn add(self, duration: Duration) -> SimInstant {
        SimInstant(self.0.saturating_add(nanos(duration)))
    }
}

impl AddAssign<Duration> for SimInstant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for SimInstant {
    type Output = SimInstant;

    fn sub(self, duration: Duration) -> SimInstant {
        SimInstant(self.0.saturating_sub(nanos(duration)))
    }
}

impl SubAssign<Duration> for SimInstant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for SimInstant {
    type Output = Duration;

    fn sub(self, earlier: SimInstant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl openraft_rt::Instant for SimInstant {
    fn now() -> SimInstant {
        Shared::current().now()
    }
}

/// Ends when the virtual clock reaches its deadline.
#[derive(Debug)]
pub struct Sleep {
    shared: Arc<Shared>,
    deadline: SimInstant,
    timer: Option<(SimInstant, u64)>,
}

impl Sleep {
    pub(super) fn until(deadline: SimInstant) -> Sleep {
        Sleep {
            shared: Shared::current(),
            deadline,
            timer: None,
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.now() >= self.deadline {
            return Poll::Ready(());
        }
        match self.timer {
            Some(timer) => self.shared.rearm_timer(timer, cx.waker()),
            None => {
                self.timer = Some(self.shared.set_timer(self.deadline, cx.waker().clone()));
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.shared.clear_timer(timer);
        }
    }
}

/// The time of a [`Timeout`] was up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline has elapsed")
    }
}

impl std::error::Error for Elapsed {}

/// A future with a deadline.
///
/// The future is boxed: pinning it in place would take unsafe code.
#[derive(Debug)]
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

impl<F> Timeout<F> {
    pub(super) fn at(deadline: SimInstant, future: F) -> Timeout<F> {
        Timeout {
            future: Box::pin(future),
            sleep: Sleep::until(deadline),
        }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(value) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        Pin::new(&mut self.sleep).poll(cx).map(|()| Err(Elapsed))
    }
}
