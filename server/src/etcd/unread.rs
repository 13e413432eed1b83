//! Long answers that nobody takes: given up after a while, so that others get what they hold.
//!
//! A connection asks a body for its next piece when its client has taken those before. Of a client that reads no more
//! nothing is heard, so a timer finds it, one for each long answer. Short ones are ready when they begin, and have none.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::{codec, error};

/// A body that is dropped, with all that it holds, when nothing of it was taken for too long. Its client then finds an
/// error in place of the rest.
pub(super) struct Impatient<B> {
    state: Arc<Mutex<State<B>>>,
    timer: AbortHandle,
}

struct State<B> {
    /// None once it has come to its end, or was given up.
    body: Option<B>,
    /// Since when the next piece may be asked for; none while one is made, for which nobody but the node is to blame.
    waits_since: Option<Instant>,
    /// The trailers are out.
    is_over: bool,
}

impl<B: Send + 'static> Impatient<B> {
    /// Gives `body` so much time between two pieces. Called where the connection of `peer` runs.
    pub(super) fn new(body: B, patience: Duration, peer: SocketAddr) -> Self {
        let state = Arc::new(Mutex::new(State {
            body: Some(body),
            waits_since: Some(Instant::now()),
            is_over: false,
        }));
        let watching = watch(Arc::downgrade(&state), patience, peer);
        let timer = tokio::spawn(watching).abort_handle();
        Self { state, timer }
    }
}

impl<B> Drop for Impatient<B> {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

/// Gives a body up once it has waited for too long.
async fn watch<B>(state: Weak<Mutex<State<B>>>, patience: Duration, peer: SocketAddr) {
    let mut until = Instant::now() + patience;
    loop {
        sleep_until(until).await;
        let Some(state) = state.upgrade() else {
            return;
        };
        let given_up = {
            let mut state = state.lock();
            let now = Instant::now();
            until = state.waits_since.unwrap_or(now) + patience;
            if until > now {
                continue;
            }
            state.body.take()
        };
        if given_up.is_some() {
            tracing::info!(%peer, "a client took nothing of a long answer; the rest of it was given up");
        }
        return;
    }
}

impl<B> Body for Impatient<B>
where
    B: Body<Data = Bytes, Error = Infallible> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut state = self.state.lock();
        if state.is_over {
            return Poll::Ready(None);
        }
        let Some(body) = &mut state.body else {
            state.is_over = true;
            let trailers = codec::failure(&error::UNREAD);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        };
        let polled = Pin::new(body).poll_frame(context);
        state.waits_since = polled.is_ready().then(Instant::now);
        state.is_over = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers(),
            Poll::Ready(Some(Err(_)) | None) => true,
            Poll::Pending => false,
        };
        if state.is_over {
            state.body = None;
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::sync::{OwnedSemaphorePermit, Semaphore};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(30);
    const PEER: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    /// Pieces without an end, or one that never comes.
    struct Endless {
        is_ready: bool,
        _holds: OwnedSemaphorePermit,
    }

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.is_ready {
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece")))))
            } else {
                Poll::Pending
            }
        }
    }

    async fn holding(places: &Arc<Semaphore>, is_ready: bool) -> Impatient<Endless> {
        let body = Endless {
            is_ready,
            _holds: places.clone().acquire_owned().await.unwrap(),
        };
        Impatient::new(body, PATIENCE, PEER)
    }

    #[tokio::test]
    async fn what_nobody_takes_holds_nothing_for_long_and_ends_with_an_error() {
        let places = Arc::new(Semaphore::new(3));
        let mut untouched = holding(&places, true).await;
        let mut begun = holding(&places, true).await;
        assert!(begun.frame().await.unwrap().unwrap().is_data());
        let gone = holding(&places, true).await;
        drop(gone);
        // None of them is asked for anything any more.
        let all = tokio::time::timeout(Duration::from_secs(20), places.acquire_many(3));
        drop(all.await.expect("their places come free").unwrap());
        for body in [&mut untouched, &mut begun] {
            let trailers = body.frame().await.unwrap().unwrap().into_trailers();
            let trailers = trailers.unwrap();
            assert_eq!(trailers["grpc-status"], "14");
            let text = trailers["grpc-message"].to_str().unwrap();
            assert!(text.starts_with("holdfast: "), "{text}");
            assert!(body.frame().await.is_none());
        }
    }

    #[tokio::test]
    async fn a_body_that_is_at_work_is_waited_for() {
        let places = Arc::new(Semaphore::new(1));
        let mut working = holding(&places, false).await;
        let first = tokio::time::timeout(4 * PATIENCE, working.frame()).await;
        assert!(first.is_err(), "there is no piece yet");
        assert_eq!(places.available_permits(), 0);
    }
}
