//! gRPC's standard health check. The server as a whole, the empty name, is the only service it knows.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use http_body::Frame;
use proto::health::health_check_response::ServingStatus;
use proto::health::{HealthCheckRequest, HealthCheckResponse};
use tokio::sync::watch;

use super::codec::{self, Body};
use super::error::{self, Status};
use super::{Context, Outcome, Service};
use crate::metrics::GrpcMethod;

/// Answers `Check`.
pub(super) async fn check(
    service: &Service,
    _context: &Context,
    request: HealthCheckRequest,
) -> Result<Outcome, Status> {
    if !request.service.is_empty() {
        return Err(error::UNKNOWN_SERVICE);
    }
    let is_stopping = *service.stopping.borrow();
    Ok(Outcome::of_message(&message(if is_stopping {
        ServingStatus::NotServing
    } else {
        ServingStatus::Serving
    })))
}

/// Answers `Watch`: at once, and when the server begins to stop.
pub(super) async fn watch(
    service: &Service,
    _context: &Context,
    request: HealthCheckRequest,
) -> Result<Outcome, Status> {
    let method = service.methods.health_watch.clone();
    let stream = if request.service.is_empty() {
        HealthWatch::new(service.stopping.clone(), method)
    } else {
        HealthWatch::of_unknown_service(method)
    };
    Ok(Outcome::of(Body::Other(Box::pin(stream))))
}

fn message(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

type Change = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body of a health watch.
struct HealthWatch {
    next: Option<ServingStatus>,
    /// Resolves when the server begins to stop.
    change: Change,
    phase: Phase,
    method: GrpcMethod,
}

/// How far a health watch has come.
enum Phase {
    Waiting,
    /// The last status is out, the trailers are not.
    Ending,
    Over,
}

impl HealthWatch {
    fn new(mut stopping: watch::Receiver<bool>, method: GrpcMethod) -> Self {
        let change = async move {
            // A dropped sender is the end of the server, too.
            let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
        };
        Self {
            next: Some(ServingStatus::Serving),
            change: Box::pin(change),
            phase: Phase::Waiting,
            method,
        }
    }

    /// A service that may still be registered one day, says the protocol; here none ever is.
    fn of_unknown_service(method: GrpcMethod) -> Self {
        let change = Box::pin(std::future::pending());
        Self {
            next: Some(ServingStatus::ServiceUnknown),
            change,
            phase: Phase::Waiting,
            method,
        }
    }

    fn say(&self, status: ServingStatus) -> Frame<Bytes> {
        let frame = codec::frame(&message(status));
        self.method.sent(frame.len());
        Frame::data(frame)
    }
}

impl http_body::Body for HealthWatch {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stream = self.get_mut();
        if let Some(status) = stream.next.take() {
            return Poll::Ready(Some(Ok(stream.say(status))));
        }
        match stream.phase {
            Phase::Waiting => match stream.change.as_mut().poll(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => {
                    stream.phase = Phase::Ending;
                    Poll::Ready(Some(Ok(stream.say(ServingStatus::NotServing))))
                }
            },
            Phase::Ending => {
                stream.phase = Phase::Over;
                Poll::Ready(Some(Ok(Frame::trailers(codec::failure(&error::STOPPED)))))
            }
            Phase::Over => Poll::Ready(None),
        }
    }
}
