//! The JSON gateway: etcd's calls as POST requests below `/v3/`, with messages as JSON.
//!
//! A request becomes the gRPC call that it stands for, goes the same way as one from the wire, and its answer becomes
//! JSON: checks, limits, deadlines, errors and counters are those of gRPC. Nothing of it is on the path of gRPC.

mod answer;
mod read;
mod requests;
mod routes;
mod write;

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use prost::Message as _;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use self::requests::{Complaint, Requests};
use crate::etcd::codec::{BrokenOff, PREFIX, put_prefix};
use crate::etcd::{Body, RECEIVE_SLACK, Service, Status, error, parse_timeout, promptly};
use crate::listen::Peer;

/// How much longer than the longest message its JSON may be: base64 takes a third more, names and blanks the rest.
const JSON_FACTOR: usize = 2;

/// HTTP headers that become metadata of the call carry this prefix.
const METADATA: &str = "grpc-metadata-";

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static JSON: HeaderValue = HeaderValue::from_static("application/json");

/// All paths of the gateway.
pub(super) struct Gateway {
    routes: HashMap<&'static str, Route>,
}

/// One path.
struct Route {
    call: Uri,
    request: MessageDescriptor,
    answer: MessageDescriptor,
    takes_many: bool,
    gives_many: bool,
}

impl Gateway {
    /// Reads the descriptions of all messages.
    pub(super) fn new() -> Self {
        let pool = DescriptorPool::decode(proto::DESCRIPTORS)
            .expect("the descriptors are those that the messages were made from");
        let route = |path: &'static str, call: &'static str| {
            let (service, name) = call.strip_prefix('/')?.split_once('/')?;
            let service = pool.get_service_by_name(service)?;
            let method = service.methods().find(|method| method.name() == name)?;
            let route = Route {
                call: Uri::from_static(call),
                request: method.input(),
                answer: method.output(),
                takes_many: method.is_client_streaming(),
                gives_many: method.is_server_streaming(),
            };
            Some((path, route))
        };
        Self {
            routes: routes::ROUTES
                .iter()
                .filter_map(|(path, call)| route(path, call))
                .collect(),
        }
    }

    /// Whether a path belongs to the gateway.
    pub(super) fn serves(path: &str) -> bool {
        below(path).is_some()
    }

    /// Answers a request for one of its paths.
    pub(super) async fn respond(
        &self,
        service: &Service,
        peer: &Peer,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let route = below(request.uri().path()).and_then(|path| self.routes.get(path));
        let response = match route {
            None => Err(error::NO_ROUTE),
            Some(_) if request.method() != Method::POST => Err(error::NOT_POST),
            Some(route) => route.respond(service, peer, request).await,
        };
        response.unwrap_or_else(|status| refuse(&status))
    }
}

/// The path as the table of routes has it.
fn below(path: &str) -> Option<&str> {
    path.strip_prefix("/v3/")
        .or_else(|| path.strip_prefix("/v3beta/"))
}

impl Route {
    async fn respond(
        &self,
        service: &Service,
        peer: &Peer,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Status> {
        let metadata = metadata(request.headers())?;
        let deadline = deadline(&metadata);
        let limit = JSON_FACTOR * (service.options.max_request_bytes + RECEIVE_SLACK);
        let complaint = Complaint::default();
        let begun = if self.takes_many {
            let requests = Requests::new(
                request.into_body(),
                self.request.clone(),
                limit,
                complaint.clone(),
            );
            let call = service.grpc(peer, self.call(metadata, requests));
            within(deadline, begin(call, &complaint)).await
        } else {
            let patience = service.options.request_timeout;
            let json = promptly(read_all(request.into_body(), limit), patience).await??;
            let frame = framed(&self.request, &json)?;
            let call = service.grpc(peer, self.call(metadata, Full::new(frame)));
            within(deadline, begin(call, &complaint)).await
        };
        match begun {
            Ok(begun) => self.answer(begun, deadline, complaint),
            Err(status) if self.gives_many => Ok(refuse_stream(&status)),
            Err(status) => Err(status),
        }
    }

    /// The gRPC call that a request stands for.
    fn call<B>(&self, metadata: HeaderMap, body: B) -> Request<B> {
        let mut call = Request::new(body);
        *call.method_mut() = Method::POST;
        *call.uri_mut() = self.call.clone();
        *call.headers_mut() = metadata;
        call
    }

    /// The answer whose beginning there is. The deadline is that of a stream; what answers once is only to be sent.
    fn answer(
        &self,
        Begun { first, body }: Begun,
        deadline: Option<Instant>,
        complaint: Complaint,
    ) -> Result<Response<Body>, Status> {
        let body: Body = if self.gives_many {
            let lines = answer::Lines::new(body, first, self.answer.clone(), deadline, complaint);
            Body::Other(Box::pin(lines))
        } else {
            answer::whole_or_pieces(body, first, &self.answer)?
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, JSON.clone());
        headers.insert(
            HeaderName::from_static("grpc-metadata-content-type"),
            HeaderValue::from_static("application/grpc"),
        );
        Ok(response)
    }
}

/// A call that has begun to answer.
struct Begun {
    /// What was taken from the body.
    first: Bytes,
    body: Body,
}

/// Waits for the beginning of a call's answer, because it decides on the status.
async fn begin(
    call: impl Future<Output = Response<Body>>,
    complaint: &Complaint,
) -> Result<Begun, Status> {
    let (head, mut body) = call.await.into_parts();
    failure(&head.headers)?;
    let first = std::future::poll_fn(|context| {
        // The body reads the requests, too, and so may find something to complain of.
        match (Pin::new(&mut body).poll_frame(context), complaint.get()) {
            (Poll::Pending, Some(status)) => Poll::Ready(Err(status.clone())),
            (polled, _) => polled.map(Ok),
        }
    });
    let first = first.await?.transpose();
    let first = first.map_err(|BrokenOff| error::STORE_FAULT)?;
    let first = match first.map(Frame::into_data) {
        Some(Ok(data)) => data,
        Some(Err(frame)) => {
            frame.trailers_ref().map_or(Ok(()), failure)?;
            Bytes::new()
        }
        None => Bytes::new(),
    };
    Ok(Begun { first, body })
}

/// What comes before the deadline. Behind it nothing is even begun.
async fn within<T>(
    deadline: Option<Instant>,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let call = pin!(call);
    let outcome = match deadline {
        None => return call.await,
        Some(deadline) if deadline <= Instant::now() => None,
        Some(deadline) => timeout_at(deadline, call).await.ok(),
    };
    outcome.unwrap_or(Err(error::DEADLINE_EXCEEDED))
}

/// Until when the client waits, if it has said so. Not every method looks at it: a client of gRPC leaves by itself.
fn deadline(metadata: &HeaderMap) -> Option<Instant> {
    let text = metadata.get(&GRPC_TIMEOUT)?.to_str().ok()?;
    Some(Instant::now() + parse_timeout(text)?)
}

/// What the call's metadata are: the headers that grpc-gateway passes on, as far as the node reads them.
fn metadata(headers: &HeaderMap) -> Result<HeaderMap, Status> {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        if name == GRPC_TIMEOUT {
            let text = value.to_str().unwrap_or_default();
            if parse_timeout(text).is_none() {
                return Err(error::bad_timeout(text));
            }
            metadata.insert(name.clone(), value.clone());
        } else if name == AUTHORIZATION {
            metadata.append(name.clone(), value.clone());
        } else if let Some(rest) = name.as_str().strip_prefix(METADATA)
            // A timeout has a header of its own.
            && rest != GRPC_TIMEOUT
            && let Ok(name) = HeaderName::from_bytes(rest.as_bytes())
        {
            metadata.append(name, value.clone());
        }
    }
    Ok(metadata)
}

/// All of a body, unless it is longer than `limit`.
async fn read_all(mut body: Incoming, limit: usize) -> Result<Bytes, Status> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // The only fault of a request body is that the client, or the connection, is gone.
        let frame = frame.map_err(|_| error::CANCELED)?;
        if let Ok(data) = frame.into_data() {
            if all.len() + data.len() > limit {
                return Err(error::message_too_long(all.len() + data.len(), limit));
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(all.freeze())
}

/// The first JSON value as a gRPC message with its prefix.
fn framed(descriptor: &MessageDescriptor, json: &[u8]) -> Result<Bytes, Status> {
    let message = read::message(descriptor, json).map_err(|error| error::bad_json(&error))?;
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    put_prefix(&mut frame, length);
    frame.put_slice(&message.encode_to_vec());
    Ok(frame.freeze())
}

/// The failure that headers or trailers of a gRPC response tell, if they do.
fn failure(headers: &HeaderMap) -> Result<(), Status> {
    match tonic::Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => {
            Err(Status::made(status.code(), status.message().to_owned()))
        }
        _ => Ok(()),
    }
}

/// An error as etcd's gateway writes it.
fn refuse(status: &Status) -> Response<Body> {
    let mut json = Vec::new();
    answer::put_error(status, &mut json);
    let mut response = failed(status, json);
    if status.code() == Code::Unauthenticated {
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, status.header());
    }
    response
}

/// The error of a stream that has given nothing yet: its only line.
fn refuse_stream(status: &Status) -> Response<Body> {
    failed(status, answer::error_line(status))
}

fn failed(status: &Status, json: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::Other(Box::pin(Full::from(json))));
    *response.status_mut() = http_status(status.code());
    response.headers_mut().insert(CONTENT_TYPE, JSON.clone());
    response
}

fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // 499, which only a client that is gone would see.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}

#[cfg(test)]
mod tests;
