//! Streams that end by themselves: at the client's deadline, and, if they asked for a leader, when there is none for long.
//!
//! To open a stream again costs more than to ask again: so one that is open is not cut at the first sign of trouble,
//! but once this member has found no leader three times in a row, one election timeout apart, as in etcd.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::watch;

use super::error::{self, Status};
use super::{Service, codec};

/// How often in a row no leader is found before streams are cut.
const LOOKS: u32 = 3;

/// Cuts the streams that asked for a leader. One for a service.
pub(super) struct Cuts(watch::Sender<()>);

impl Default for Cuts {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

/// A body that is given up, with all that it holds, for a reason that comes from elsewhere.
pub(super) struct Ending<B> {
    /// None once it was given up.
    body: Option<B>,
    end: Pin<Box<dyn Future<Output = Status> + Send>>,
    is_over: bool,
}

impl<B> Ending<B> {
    /// Ends `body` after `timeout`, and at the next cut if it needs a leader. Called where its connection runs.
    pub(super) fn new(body: B, timeout: Option<Duration>, cuts: &Cuts, needs_leader: bool) -> Self {
        let cut = needs_leader.then(|| cuts.0.subscribe());
        let cut = async move {
            // Without a sender the service is gone, and other ends are near.
            if let Some(mut cut) = cut
                && cut.changed().await.is_ok()
            {
                return error::NO_LEADER;
            }
            std::future::pending().await
        };
        let end = async move {
            match timeout {
                Some(timeout) => tokio::time::timeout(timeout, cut)
                    .await
                    .unwrap_or(error::DEADLINE_EXCEEDED),
                None => cut.await,
            }
        };
        Self {
            body: Some(body),
            end: Box::pin(end),
            is_over: false,
        }
    }
}

impl<B> Body for Ending<B>
where
    B: Body<Data = Bytes, Error = Infallible> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(status) = this.end.as_mut().poll(context) {
            this.is_over = true;
            this.body = None;
            return Poll::Ready(Some(Ok(Frame::trailers(codec::failure(&status)))));
        }
        match &mut this.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }
}

/// Looks after the leader, and cuts streams when there has been none for long. Ends with the service.
pub(super) async fn look_after_leader(service: Weak<Service>, election_timeout: Duration) {
    let mut missing = 0;
    loop {
        tokio::time::sleep(election_timeout).await;
        let Some(service) = service.upgrade() else {
            return;
        };
        if service.node.status().has_leader {
            missing = 0;
            continue;
        }
        missing += 1;
        if missing >= LOOKS {
            service.cuts.0.send_replace(());
        }
        if missing == LOOKS {
            tracing::warn!("no leader for three election timeouts: streams that need one are cut");
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    /// A body that has nothing to say and never ends.
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    /// Code and text of the end; nothing if it does not come.
    async fn end(mut body: Ending<Silent>) -> Option<(String, String)> {
        let frame = tokio::time::timeout(Duration::from_millis(200), body.frame()).await;
        let trailers = frame.ok()?.unwrap().unwrap().into_trailers().unwrap();
        assert!(body.frame().await.is_none());
        let text = |name: &str| trailers[name].to_str().unwrap().to_owned();
        Some((text("grpc-status"), text("grpc-message")))
    }

    #[tokio::test]
    async fn only_who_asked_for_a_leader_is_cut_and_a_deadline_ends_anybody() {
        let cuts = Cuts::default();
        let (soon, late) = (Duration::from_millis(1), Duration::from_secs(600));
        let bodies = [
            Ending::new(Silent, None, &cuts, true),
            Ending::new(Silent, Some(late), &cuts, true),
            Ending::new(Silent, None, &cuts, false),
            Ending::new(Silent, Some(soon), &cuts, false),
        ];
        cuts.0.send_replace(());
        let told = |code: &str, text: &str| Some((code.to_owned(), text.to_owned()));
        let cut = told("14", "etcdserver: no leader");
        let deadline = told("4", "context deadline exceeded");
        for (body, expected) in bodies.into_iter().zip([cut.clone(), cut, None, deadline]) {
            assert_eq!(end(body).await, expected);
        }
        // A cut is for those that are open.
        assert_eq!(end(Ending::new(Silent, None, &cuts, true)).await, None);
    }
}
