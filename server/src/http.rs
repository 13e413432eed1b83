//! HTTP other than gRPC, on the client port and on ports of its own: health, version, metrics, the JSON gateway.

mod access;
mod gateway;
mod health;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use proto::etcd::etcdserverpb::{AlarmType, RangeRequest};

use ::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use ::http::{Method, Request, Response, StatusCode};

use crate::config::{ETCD_CLUSTER_VERSION, ETCD_VERSION, HOLDFAST_VERSION};
use crate::etcd::{Body, Service, Status};
use crate::listen::{Peer, Serve};
use crate::metrics::{self, Metrics};
use crate::node::{Call, CallError, Node};

pub use self::access::Access;
use self::gateway::Gateway;
use self::health::{Check, Findings};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Answers HTTP requests that are not gRPC.
pub struct Endpoints {
    node: Node,
    metrics: Arc<Metrics>,
    request_timeout: Duration,
}

/// Endpoints for listeners that serve metrics and health alone.
pub struct Monitoring(pub Arc<Endpoints>);

/// The service for listeners that serve HTTP alone.
pub struct HttpOnly(pub Arc<Service>);

/// Everything that clients are told over HTTP other than gRPC.
pub struct Web {
    endpoints: Arc<Endpoints>,
    gateway: Option<Gateway>,
    access: Access,
}

impl Serve for Monitoring {
    async fn respond(&self, _: &Peer, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let is_served = path == "/metrics" || Probe::of(path).is_some();
        boxed(if is_served {
            self.0.respond(request).await
        } else {
            not_found()
        })
    }
}

impl Serve for HttpOnly {
    async fn respond(&self, peer: &Peer, request: Request<Incoming>) -> Response<Body> {
        self.0.http(peer, request).await
    }
}

impl Web {
    /// Endpoints, with the gateway or without it, for whoever has access.
    pub fn new(endpoints: Arc<Endpoints>, access: Access, has_gateway: bool) -> Self {
        Self {
            endpoints,
            gateway: has_gateway.then(Gateway::new),
            access,
        }
    }

    /// Answers a request; those of the gateway through `service`, as if they had come by gRPC.
    pub(crate) async fn respond(
        &self,
        service: &Service,
        peer: &Peer,
        request: Request<Incoming>,
    ) -> Response<Body> {
        if let Some(host) = self.access.foreign_host(&request) {
            tracing::warn!(
                host,
                "refused an HTTP request for a host that --host-whitelist does not name"
            );
            return boxed(misdirected(host));
        }
        let asked = request.headers().clone();
        let mut response = if request.method() == Method::OPTIONS {
            Response::new(Body::Empty)
        } else {
            match &self.gateway {
                Some(gateway) if Gateway::serves(request.uri().path()) => {
                    gateway.respond(service, peer, request).await
                }
                _ => boxed(self.endpoints.respond(request).await),
            }
        };
        self.access.tell_browsers(&asked, &mut response);
        response
    }
}

/// A health endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// `/health`.
    Health,
    /// `/livez`, `/readyz`: all checks of a group.
    Group(health::Group),
    /// `/livez/<check>`, `/readyz/<check>`.
    Single(health::Group, Check),
}

impl Probe {
    fn of(path: &str) -> Option<Self> {
        if path == "/health" {
            return Some(Self::Health);
        }
        let (group, check) = match path.strip_prefix('/')?.split_once('/') {
            Some((group, check)) => (group, Some(check)),
            None => (path.strip_prefix('/')?, None),
        };
        let group = health::Group::named(group)?;
        match check {
            None => Some(Self::Group(group)),
            Some(check) => group.check(check).map(|check| Self::Single(group, check)),
        }
    }
}

impl Endpoints {
    /// Endpoints of a node. A health check gives up after the request timeout.
    pub fn new(node: Node, request_timeout: Duration) -> Self {
        let metrics = node.metrics().clone();
        Self {
            node,
            metrics,
            request_timeout,
        }
    }

    /// Answers one request. None of them reads a body.
    pub async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let uri = request.uri();
        self.answer(
            request.method(),
            uri.path(),
            uri.query().unwrap_or_default(),
        )
        .await
    }

    async fn answer(&self, method: &Method, path: &str, query: &str) -> Response<Full<Bytes>> {
        let probe = Probe::of(path);
        if probe.is_none() && !matches!(path, "/version" | "/metrics" | "/debug/vars") {
            return not_found();
        }
        if method != Method::GET {
            let mut response = error(
                StatusCode::METHOD_NOT_ALLOWED,
                "Method Not Allowed".to_owned(),
            );
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET"));
            return response;
        }
        match (probe, path) {
            (Some(Probe::Health), _) => self.health(query).await,
            (Some(Probe::Group(group)), _) => {
                let excluded = health::parameters(query, "exclude");
                let included = |check: &&Check| !excluded.contains(&check.name());
                let checks: Vec<_> = group.checks().iter().filter(included).copied().collect();
                self.checks(group, &checks, query).await
            }
            (Some(Probe::Single(group, check)), _) => self.checks(group, &[check], query).await,
            (None, "/version") => plain(JSON, version()),
            (None, "/metrics") => plain(
                HeaderValue::from_static(metrics::CONTENT_TYPE),
                self.metrics.render(),
            ),
            (None, _) => plain(JSON, self.variables()),
        }
    }

    async fn health(&self, query: &str) -> Response<Full<Bytes>> {
        let is_serializable = health::parameters(query, "serializable")
            .first()
            .is_some_and(|value| *value == "true");
        let findings = self.find(!is_serializable, is_serializable).await;
        let verdict = health::verdict(
            &findings,
            &health::parameters(query, "exclude"),
            is_serializable,
        );
        match verdict {
            Ok(body) => {
                self.metrics.health_success.inc();
                plain(TEXT, body)
            }
            Err(body) => {
                self.metrics.health_failures.inc();
                tracing::warn!(output = body, "/health error");
                error(StatusCode::SERVICE_UNAVAILABLE, body)
            }
        }
    }

    async fn checks(
        &self,
        group: health::Group,
        checks: &[Check],
        query: &str,
    ) -> Response<Full<Bytes>> {
        let needs = |check| checks.contains(&check);
        let findings = self
            .find(
                needs(Check::LinearizableRead),
                needs(Check::SerializableRead),
            )
            .await;
        let mut lines = String::new();
        let mut is_healthy = true;
        for check in checks {
            let outcome = check.judge(&findings);
            let (labels, status) = (
                [group.name(), check.name()],
                if outcome.is_ok() { "success" } else { "error" },
            );
            self.metrics
                .health_check
                .with_label_values(&labels)
                .set(outcome.is_ok().into());
            self.metrics
                .health_checks
                .with_label_values(&[labels[0], labels[1], status])
                .inc();
            is_healthy &= outcome.is_ok();
            lines.push_str(&match outcome {
                Ok(()) => format!("[+]{} ok\n", check.name()),
                Err(reason) => format!("[-]{} failed: {reason}\n", check.name()),
            });
        }
        if !is_healthy {
            tracing::warn!(output = lines, "/{} error", group.name());
            return error(StatusCode::SERVICE_UNAVAILABLE, lines);
        }
        if !health::has_parameter(query, "verbose") {
            lines.clear();
        }
        let mut response = plain(TEXT, lines + "ok\n");
        let nosniff = HeaderValue::from_static("nosniff");
        response
            .headers_mut()
            .insert(X_CONTENT_TYPE_OPTIONS, nosniff);
        response
    }

    /// Looks at the node; the reads only where they are asked for.
    async fn find(&self, linearizable: bool, serializable: bool) -> Findings {
        let status = self.node.status();
        let alarms = self
            .node
            .reader()
            .view()
            .alarms
            .list(AlarmType::None as i32);
        let text = |error: CallError| Status::from(error).text().to_owned();
        let mut findings = Findings {
            alarms: alarms
                .iter()
                .map(|active| health::alarm_name(active.alarm))
                .collect(),
            has_leader: status.has_leader,
            is_learner: status.is_learner,
            linearizable_read: Ok(()),
            serializable_read: Ok(()),
        };
        if linearizable {
            let confirmed = self
                .node
                .read_barrier(&Call::new(self.request_timeout))
                .await;
            findings.linearizable_read = confirmed.and_then(|()| self.read()).map_err(text);
        }
        if serializable {
            findings.serializable_read = self.read().map_err(text);
        }
        findings
    }

    /// Reads at most one key, as a client would.
    fn read(&self) -> Result<(), CallError> {
        let reader = self.node.reader();
        let request = RangeRequest {
            key: Bytes::from_static(b"\0"),
            limit: 1,
            keys_only: true,
            ..RangeRequest::default()
        };
        match reader.range(&reader.view(), &request) {
            Ok(answer) => answer.map(drop).map_err(CallError::Refused),
            Err(fault) => Err(CallError::Store(fault.to_string().into())),
        }
    }

    /// What Go's `expvar` shows of a process, as far as it means something here.
    fn variables(&self) -> String {
        let status = self.node.status();
        let variables = serde_json::json!({
            "cmdline": std::env::args().collect::<Vec<_>>(),
            "holdfast": {
                "version": HOLDFAST_VERSION,
                "cluster_id": format!("{:x}", status.cluster_id),
                "member_id": format!("{:x}", status.member_id),
                "leader": format!("{:x}", status.leader),
                "term": status.term,
                "committed_index": status.committed_index,
                "applied_index": status.applied_index,
                "pending_proposals": status.pending_proposals,
            },
        });
        format!("{variables:#}\n")
    }
}

fn version() -> String {
    format!(
        r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{ETCD_CLUSTER_VERSION}","storage":"{ETCD_CLUSTER_VERSION}"}}"#
    )
}

fn plain(content_type: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn boxed(response: Response<Full<Bytes>>) -> Response<Body> {
    response.map(|body| Body::Other(Box::pin(body)))
}

/// Against pages that had their own name point to this node.
fn misdirected(host: &str) -> Response<Full<Bytes>> {
    error(
        StatusCode::MISDIRECTED_REQUEST,
        format!(
            "This node does not answer to the host name {host:?}. If it should, start it with \
             --host-whitelist={host}; requests over TLS are not restricted."
        ),
    )
}

fn not_found() -> Response<Full<Bytes>> {
    error(StatusCode::NOT_FOUND, "404 page not found".to_owned())
}

/// An error as Go's `http.Error` writes it, with a line end behind the text.
fn error(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = plain(TEXT, text + "\n");
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_paths_name_a_group_or_one_of_its_checks() {
        use health::Group;
        let cases = [
            ("/health", Some(Probe::Health)),
            ("/livez", Some(Probe::Group(Group::Livez))),
            ("/readyz", Some(Probe::Group(Group::Readyz))),
            (
                "/readyz/non_learner",
                Some(Probe::Single(Group::Readyz, Check::NonLearner)),
            ),
            (
                "/livez/serializable_read",
                Some(Probe::Single(Group::Livez, Check::SerializableRead)),
            ),
            ("/livez/non_learner", None),
            ("/readyz/", None),
            ("/health/", None),
            ("/", None),
            ("", None),
        ];
        for (path, probe) in cases {
            assert_eq!(Probe::of(path), probe, "{path:?}");
        }
    }

    #[test]
    fn the_version_has_etcds_body() {
        assert_eq!(
            version(),
            r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#
        );
    }
}
