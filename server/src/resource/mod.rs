//! The resource API: Kubernetes' conventions over HTTP, on the same revisions that etcd's clients see.
//!
//! It keeps no state: objects are keys of the store, under kube-apiserver's names, and a resourceVersion is a revision.
//! Any member answers any request. What is the same for every server that keeps such objects is in the crate
//! `machinery`; here is what needs the store and HTTP:
//!
//! - `pages`, `path`, `negotiate`, `asked`: a request, read; `reply`: an answer, written;
//! - `verbs`: what is done; `registry`, `stored`: how objects are kept; `hooks`, `services`: what is special;
//! - `documents`, `health`: discovery and schemas, and whether all is well; `keeper`: what is done without being asked; `face`: a page for people.

mod asked;
mod documents;
mod error;
mod face;
mod feed;
mod health;
mod hooks;
mod keeper;
mod meta;
mod negotiate;
mod options;
mod pages;
mod path;
mod pki;
mod registry;
mod reply;
mod services;
mod stored;
mod verbs;
mod who;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use machinery::decode::Media;
use machinery::kind::{Kind, Kinds};
use machinery::status::{Reason, Status};
use tokio::sync::{Semaphore, SemaphorePermit};

pub(crate) use self::keeper::run as look_after;
pub use self::pki::Pki;

use self::asked::Asked;
use self::documents::Documents;
use self::face::Face;
use self::feed::Feeds;
use self::health::Furnished;
use self::path::{Path, Query, Target};
use self::registry::Registry;
use self::reply::Wish;
use self::verbs::Deletion;
use self::who::User;
use crate::etcd::Body;
use crate::listen::{Peer, Serve};
use crate::node::Node;

/// What kubectl needs, in the data folder.
pub const KUBECONFIG: &str = "admin.kubeconfig";

/// The longest body that is read.
const MAX_BODY: usize = 3 * 1024 * 1024;

/// What discovery names since clients look for it, and what no verb is for where nothing runs. As parts of objects
/// they would be read, written and deleted with them.
const NEEDS_NODE: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Requests that run at the same time, but for watches; more are told to come again.
const READS: usize = 400;
const WRITES: usize = 200;

/// Limits of the API.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long the store may take for a step.
    pub request_timeout: Duration,
    /// The port that others reach the API by.
    pub port: u16,
}

/// The API.
pub struct Api {
    registry: Registry,
    kinds: &'static Kinds,
    documents: Documents,
    face: Face,
    feeds: Feeds,
    furnished: Furnished,
    /// The port that others reach this member's API by.
    port: u16,
    reads: Semaphore,
    writes: Semaphore,
}

/// Random bytes.
fn random<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut random = [0; LENGTH];
    for part in random.chunks_mut(8) {
        let fresh = uuid::Uuid::new_v4();
        // The last half of it has two bits that are always the same; the first has four in one byte.
        part.copy_from_slice(&fresh.as_bytes()[8..][8 - part.len()..]);
    }
    random
}

/// Prints what kubectl needs, of a data folder.
pub fn print_kubeconfig(data_dir: &std::path::Path) -> ExitCode {
    let path = data_dir.join(KUBECONFIG);
    let written = std::fs::read(&path).map_err(|error| {
        format!(
            "cannot read {}: {error}; it is written when a node is started with --listen-api-urls=https://..",
            path.display()
        )
    });
    let printed = written.and_then(|text| {
        let printed = std::io::stdout().write_all(&text);
        printed.map_err(|error| error.to_string())
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "holdfast kubeconfig: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The API as a listener serves it.
pub struct Door {
    /// The API.
    pub api: Arc<Api>,
    /// Whether whoever can connect may do everything, with or without a certificate.
    pub is_open: bool,
}

impl Serve for Door {
    async fn respond(&self, peer: &Peer, request: Request<Incoming>) -> Response<Body> {
        let user = if self.is_open {
            User::of_this_machine()
        } else {
            User::of_certificate(peer.certificate.as_deref())
        };
        let answer = match pages::admit(&request, self.is_open) {
            Ok(()) => self.api.answer(&user, request).await,
            Err(refused) => Err(refused),
        };
        let mut response = answer.unwrap_or_else(|error| reply::status(&error));
        reply::name_request(&mut response);
        response
    }
}

impl Api {
    /// The API of a node.
    pub fn new(node: Node, options: Options) -> Self {
        let kinds = Kinds::builtin();
        Self {
            registry: Registry {
                node,
                timeout: options.request_timeout,
            },
            kinds,
            documents: Documents::new(kinds),
            face: Face::new(kinds),
            feeds: Feeds::default(),
            furnished: Furnished::default(),
            port: options.port,
            reads: Semaphore::new(READS),
            writes: Semaphore::new(WRITES),
        }
    }

    /// A kind that ships with the binary.
    fn kind(&self, group: &str, version: &str, plural: &str) -> &Arc<Kind> {
        self.kinds
            .at(group, version, plural)
            .expect("the table has the kinds that the code names")
    }

    async fn answer(
        &self,
        user: &User,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Status> {
        if let Some(answer) = self.face(user, &request).await {
            return answer;
        }
        let uri = request.uri().clone();
        let headers = request.headers();
        let asked = Path::read(uri.path());
        if !user.may_all() && !matches!(asked, Path::Version | Path::Health(_)) {
            let verb = request.method().as_str().to_lowercase();
            return Err(user.refuse(&verb, uri.path()));
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let target = match asked {
            Path::Objects(target) => target,
            Path::Unknown => return Err(unknown()),
            _ if !is_read => return Err(not_allowed()),
            Path::Root => return Ok(self.documents.paths()),
            Path::Version => return Ok(documents::version()),
            Path::Health(check) => {
                let query = Query::read(uri.query());
                return self.health(&check, &query).ok_or_else(unknown);
            }
            Path::CoreVersions => return Ok(self.documents.core(headers)),
            Path::Groups => return Ok(self.documents.groups(headers)),
            Path::Group(group) => return self.documents.group(&group).ok_or_else(unknown),
            Path::Resources(group, version) => {
                return self
                    .documents
                    .resources(&group, &version)
                    .ok_or_else(unknown);
            }
            Path::OpenApi2 => return self.documents.openapi_2(headers).ok_or_else(unknown),
            Path::OpenApi3 => return Ok(self.documents.openapi_3()),
            Path::OpenApi3Document(name) => {
                let hash = Query::read(uri.query()).text("hash").to_owned();
                let found = self.documents.openapi_3_document(&name, &hash, headers);
                return found.ok_or_else(unknown);
            }
        };
        let query = Query::read(uri.query());
        let (kind, target) = self.find(target)?;
        let has_tables = matches!(target.subresource.as_str(), "" | "status" | "scale");
        let wish = Wish {
            form: negotiate::form(headers, has_tables)?,
            include: Asked::include(&query)?,
            takes_gzip: negotiate::takes_gzip(headers),
            now: self.registry.now(),
        };
        let asked = Asked {
            kind,
            target,
            query,
            wish,
        };
        self.objects(&asked, user, request).await
    }

    fn find(&self, target: Target) -> Result<(Arc<Kind>, Target), Status> {
        let found = self
            .kinds
            .at(&target.group, &target.version, &target.plural);
        let kind = found.cloned().ok_or_else(unknown)?;
        if !kind.namespaced && !target.namespace.is_empty() {
            return Err(unknown());
        }
        if kind.namespaced && target.namespace.is_empty() && !target.name.is_empty() {
            return Err(unknown());
        }
        if !target.subresource.is_empty() && kind.subresource(&target.subresource).is_none() {
            return Err(unknown());
        }
        Ok((kind, target))
    }

    /// Carries out a request for objects.
    async fn objects(
        &self,
        asked: &Asked,
        user: &User,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Status> {
        let (kind, target) = (&asked.kind, &asked.target);
        let is_one = !target.name.is_empty();
        let method = request.method().clone();
        let verb = match (&method, is_one) {
            (&Method::GET | &Method::HEAD, true) => "get",
            (&Method::GET | &Method::HEAD, false) if asked.query.is_set("watch") => "watch",
            (&Method::GET | &Method::HEAD, false) => "list",
            (&Method::POST, false) => "create",
            (&Method::POST, true) if !target.subresource.is_empty() => "create",
            (&Method::PUT, true) => "update",
            (&Method::PATCH, true) => "patch",
            (&Method::DELETE, true) => "delete",
            (&Method::DELETE, false) => "deletecollection",
            _ => return Err(not_allowed()),
        };
        let is_offered = match kind.subresource(&target.subresource) {
            Some(part) => part.verbs.iter().any(|one| one == verb),
            None => kind.offers(verb),
        };
        if !is_offered {
            return Err(not_allowed());
        }
        if kind.namespaced && target.namespace.is_empty() && !matches!(verb, "list" | "watch") {
            return Err(not_allowed());
        }
        if NEEDS_NODE.contains(&target.subresource.as_str()) {
            return Err(not_built(asked));
        }
        options::check(verb, &asked.query)?;
        if verb == "watch" {
            return self.watch(asked).await;
        }
        let (parts, body) = request.into_parts();
        let headers = &parts.headers;
        let is_read = matches!(verb, "get" | "list");
        // Whoever is slow to say what they want keeps nobody else waiting.
        let body = if is_read {
            Bytes::new()
        } else {
            read(body).await?
        };
        let _permit = self.admit(is_read)?;
        let reply = match (verb, target.subresource.as_str()) {
            ("get" | "list", "") if !kind.is_stored() => self.components(asked),
            ("get", "scale") => self.get_scale(asked).await,
            ("get", _) => self.get(asked).await,
            ("list", _) => self.list(asked).await,
            ("create", "") if verbs::is_review(asked) => {
                let media = negotiate::media(headers)?;
                self.review(asked, user, media, &body)
            }
            ("create", "binding") => {
                let media = negotiate::media(headers)?;
                self.bind(asked, media, &body).await
            }
            ("create", "eviction") => {
                let media = negotiate::media(headers)?;
                self.evict(asked, media, &body).await
            }
            ("create", "") => {
                let media = negotiate::media(headers)?;
                self.create(asked, media, &body).await
            }
            ("update", "scale") => {
                let media = negotiate::media(headers)?;
                self.update_scale(asked, media, &body).await
            }
            ("update", _) => {
                let media = negotiate::media(headers)?;
                self.update(asked, media, &body).await
            }
            ("patch", "scale") => {
                let patch_type = negotiate::patch_type(headers)?;
                self.patch_scale(asked, patch_type, &body).await
            }
            ("patch", _) => {
                let patch_type = negotiate::patch_type(headers)?;
                self.patch(asked, patch_type, &body).await
            }
            ("delete", _) => {
                let deletion = deletion(asked, headers, &body)?;
                self.delete(asked, &deletion).await
            }
            ("deletecollection", _) => {
                let deletion = deletion(asked, headers, &body)?;
                self.delete_collection(asked, &deletion).await
            }
            _ => Err(not_built(asked)),
        };
        let mut reply = reply?;
        reply.warnings.extend(kind.deprecated.clone());
        Ok(reply.into_response(&asked.wish))
    }

    fn admit(&self, is_read: bool) -> Result<SemaphorePermit<'_>, Status> {
        let room = if is_read { &self.reads } else { &self.writes };
        room.try_acquire().map_err(|_| {
            let message = "too many requests, please try again later";
            Status::new(Reason::TooManyRequests, message).again_after(1)
        })
    }
}

/// How to delete, by the body if there is one.
fn deletion(asked: &Asked, headers: &http::HeaderMap, body: &Bytes) -> Result<Deletion, Status> {
    let media = if body.is_empty() {
        Media::Json
    } else {
        negotiate::media(headers)?
    };
    Deletion::read(asked, media, body)
}

/// A whole body, unless it is too long or takes too long.
async fn read(body: Incoming) -> Result<Bytes, Status> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect());
    match collected.await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Status::new(
            Reason::RequestEntityTooLarge,
            format!("Request entity too large: limit is {MAX_BODY}"),
        )),
        Ok(Err(error)) => Err(Status::bad_request(format!(
            "the body of the request broke off: {error}"
        ))),
        Err(_) => Err(Status::new(
            Reason::Timeout,
            "the body of the request did not arrive in time",
        )),
    }
}

fn unknown() -> Status {
    Status::new(
        Reason::NotFound,
        "the server could not find the requested resource",
    )
}

fn not_allowed() -> Status {
    Status::new(
        Reason::MethodNotAllowed,
        "the server does not allow this method on the requested resource",
    )
}

fn not_built(asked: &Asked) -> Status {
    Status::new(
        Reason::MethodNotAllowed,
        format!(
            "{}/{} is not served: this server keeps objects, and runs nothing",
            asked.kind.plural, asked.target.subresource
        ),
    )
}

impl Registry {
    /// Seconds since 1970.
    fn now(&self) -> i64 {
        i64::try_from(self.node.wall_ms() / 1000).unwrap_or(i64::MAX)
    }
}
