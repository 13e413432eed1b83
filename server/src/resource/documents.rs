//! Documents that say what is served: made once, and answered with what clients need to keep them.

use std::collections::HashMap;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, IF_NONE_MATCH, LOCATION, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use machinery::kind::Kinds;
use machinery::{discovery, openapi};
use serde_json::{Value, json};

use super::{negotiate, reply, stored};
use crate::config::HOLDFAST_VERSION;
use crate::etcd::Body;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

const BINARY_OPENAPI: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Kept for a year: the hash in the address changes with the document.
const FAR: &str = "Fri, 31 Dec 2100 00:00:00 GMT";

/// All documents, each made when it is first asked for.
pub(super) struct Documents {
    kinds: &'static Kinds,
    core: OnceLock<Document>,
    groups: OnceLock<Document>,
    openapi_3: OnceLock<OpenApi>,
}

#[derive(Clone)]
struct Document {
    bytes: Bytes,
    hash: String,
}

struct OpenApi {
    index: Bytes,
    documents: HashMap<String, Document>,
}

impl Document {
    fn of(value: &Value) -> Self {
        let bytes = Bytes::from(stored::write(value));
        let hash = discovery::hash(&bytes);
        Self { bytes, hash }
    }

    fn tag(&self) -> String {
        format!("\"{}\"", self.hash)
    }

    /// The document, or that it is the one that the client has. Without a media type then: clients would take that
    /// for the one of what they keep.
    fn answer(&self, headers: &HeaderMap, media: &'static str) -> Response<Body> {
        let tag = self.tag();
        let is_known = headers
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|text| text.to_str().ok())
            .any(|text| text.split(',').any(|one| one.trim() == tag));
        let mut response = if is_known {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            reply::whole(
                StatusCode::OK,
                HeaderValue::from_static(media),
                self.bytes.clone(),
            )
        };
        let headers = response.headers_mut();
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(ETAG, tag);
        }
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
        response
    }
}

fn json_document(value: &Value) -> Response<Body> {
    reply::whole(
        StatusCode::OK,
        HeaderValue::from_static("application/json"),
        stored::write(value).into(),
    )
}

/// What clients take for the version of Kubernetes.
pub(super) fn version() -> Response<Body> {
    json_document(&json!({
        "major": "1",
        "minor": "37",
        "emulationMajor": "1",
        "emulationMinor": "37",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "36",
        "gitVersion": format!("v1.37.1+holdfast-{HOLDFAST_VERSION}"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }),
    }))
}

impl Documents {
    pub(super) fn new(kinds: &'static Kinds) -> Self {
        Self {
            kinds,
            core: OnceLock::new(),
            groups: OnceLock::new(),
            openapi_3: OnceLock::new(),
        }
    }

    /// `/`: where to look.
    pub(super) fn paths(&self) -> Response<Body> {
        let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
        for kind in self
            .kinds
            .all()
            .iter()
            .filter(|kind| !kind.group.is_empty())
        {
            for path in [
                format!("/apis/{}", kind.group),
                format!("/apis/{}/{}", kind.group, kind.version),
            ] {
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        }
        paths.extend(
            [
                "/healthz",
                "/livez",
                "/openapi/v2",
                "/openapi/v3",
                "/readyz",
                "/version",
            ]
            .map(str::to_owned),
        );
        json_document(&json!({ "paths": paths }))
    }

    /// `/api`.
    pub(super) fn core(&self, headers: &HeaderMap) -> Response<Body> {
        if !negotiate::takes_aggregated(headers) {
            return json_document(&discovery::versions(""));
        }
        let made = || Document::of(&discovery::aggregated(self.kinds, true));
        self.core.get_or_init(made).answer(headers, AGGREGATED)
    }

    /// `/apis`.
    pub(super) fn groups(&self, headers: &HeaderMap) -> Response<Body> {
        if !negotiate::takes_aggregated(headers) {
            return json_document(&discovery::groups(self.kinds));
        }
        let made = || Document::of(&discovery::aggregated(self.kinds, false));
        self.groups.get_or_init(made).answer(headers, AGGREGATED)
    }

    /// `/apis/<group>`.
    pub(super) fn group(&self, group: &str) -> Option<Response<Body>> {
        discovery::group(self.kinds, group).map(|group| json_document(&group))
    }

    /// `/api/v1`, `/apis/<group>/<version>`.
    pub(super) fn resources(&self, group: &str, version: &str) -> Option<Response<Body>> {
        let found = discovery::resources(self.kinds, group, version);
        found.map(|resources| json_document(&resources))
    }

    /// `/openapi/v2`: whole as JSON; in the binary form what kubectl looks for there.
    pub(super) fn openapi_2(&self, headers: &HeaderMap) -> Option<Response<Body>> {
        if negotiate::takes_binary_openapi(headers) {
            let bytes = Bytes::from(openapi::version_2_protobuf(self.kinds));
            let hash = discovery::hash(&bytes);
            return Some(Document { bytes, hash }.answer(headers, BINARY_OPENAPI));
        }
        negotiate::form(headers, false).ok()?;
        let document = Document::of(&openapi::version_2(self.kinds));
        Some(document.answer(headers, "application/json"))
    }

    fn openapi(&self) -> &OpenApi {
        self.openapi_3.get_or_init(|| {
            let documents: HashMap<String, Document> = openapi::documents(self.kinds)
                .into_iter()
                .map(|(name, document)| (name, Document::of(&document)))
                .collect();
            let mut listed: Vec<(String, String)> = documents
                .iter()
                .map(|(name, document)| (name.clone(), document.hash.clone()))
                .collect();
            listed.sort();
            OpenApi {
                index: Bytes::from(stored::write(&openapi::index(&listed))),
                documents,
            }
        })
    }

    /// `/openapi/v3`.
    pub(super) fn openapi_3(&self) -> Response<Body> {
        let media = HeaderValue::from_static("application/json");
        reply::whole(StatusCode::OK, media, self.openapi().index.clone())
    }

    /// `/openapi/v3/<name>`.
    pub(super) fn openapi_3_document(
        &self,
        name: &str,
        hash: &str,
        headers: &HeaderMap,
    ) -> Option<Response<Body>> {
        let document = self.openapi().documents.get(name)?;
        if !hash.is_empty() && hash != document.hash {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
            let right = format!("/openapi/v3/{name}?hash={}", document.hash);
            let right = HeaderValue::from_str(&right).ok()?;
            response.headers_mut().insert(LOCATION, right);
            return Some(response);
        }
        let mut response = document.answer(headers, "application/json");
        let out = response.headers_mut();
        if hash.is_empty() {
            out.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        } else {
            let immutable = "public, immutable";
            out.insert(CACHE_CONTROL, HeaderValue::from_static(immutable));
            out.insert(EXPIRES, HeaderValue::from_static(FAR));
        }
        if response.status() == StatusCode::NOT_MODIFIED {
            response.headers_mut().remove(CONTENT_TYPE);
        }
        Some(response)
    }
}
