//! A face for people: a page at `/` that shows nodes, kinds, changes and histories, and the answers it is made of.
//!
//! What browsers ask for first, HTML, decides; clients that ask for JSON get what a kube-apiserver has at `/`. All that
//! is shown here is shown as this member knows it, also while there is no leader: then it is needed most. Everything
//! below `/holdfast/` only reads, and whoever may not read all objects may see none of it.

mod changes;
mod counts;
mod history;
mod keys;
mod members;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, HeaderName, VARY};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use machinery::kind::Kinds;
use machinery::status::Status;
use serde_json::Value;

use self::keys::Keys;
use self::members::Asked;
use super::path::Query;
use super::who::User;
use super::{Api, reply, unknown};
use crate::etcd::Body;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const REFUSAL: &str = include_str!("refusal.html");

/// Nothing from elsewhere, nothing inline, and no text that becomes HTML.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Beside every answer, so that browsers neither guess what it is nor give it to pages of others.
const PROTECTION: [(HeaderName, &str); 3] = [
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// What the page needs beside the store.
pub(super) struct Face {
    keys: Arc<Keys>,
    asked: Asked,
}

impl Face {
    pub(super) fn new(kinds: &Kinds) -> Self {
        Self {
            keys: Arc::new(Keys::new(kinds)),
            asked: Asked::default(),
        }
    }
}

impl Api {
    /// Answers a request for the page or what is on it; none if it is for something else.
    pub(super) async fn face(
        &self,
        user: &User,
        request: &Request<Incoming>,
    ) -> Option<Result<Response<Body>, Status>> {
        let path = request.uri().path();
        let is_page = path == "/" && wants_html(request.headers());
        let name = if is_page {
            ""
        } else {
            path.strip_prefix("/holdfast/")?
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Some(Err(unknown()));
        }
        let answer = if user.may_all() {
            let query = Query::read(request.uri().query());
            self.face_part(name, &query).await
        } else if is_page {
            let mut response = text("text/html; charset=utf-8", REFUSAL);
            *response.status_mut() = StatusCode::FORBIDDEN;
            Ok(response)
        } else {
            Err(user.refuse("get", path))
        };
        Some(answer.map(protect))
    }

    async fn face_part(&self, name: &str, query: &Query) -> Result<Response<Body>, Status> {
        Ok(match name {
            "" => text("text/html; charset=utf-8", PAGE),
            "page.css" => text("text/css; charset=utf-8", STYLE),
            "page.js" => text("text/javascript; charset=utf-8", SCRIPT),
            "changes" => self.changes(query),
            "members" => {
                let _permit = self.admit(true)?;
                json(&self.members().await)
            }
            "counts" => {
                let _permit = self.admit(true)?;
                json(&self.counts()?)
            }
            "history" => {
                let _permit = self.admit(true)?;
                json(&self.history(query)?)
            }
            _ => return Err(unknown()),
        })
    }
}

/// Whether HTML is what a client asks for first.
fn wants_html(headers: &HeaderMap) -> bool {
    let text = headers.get(ACCEPT).and_then(|text| text.to_str().ok());
    let first = text.and_then(|text| text.split([',', ';']).next());
    first.is_some_and(|media| media.trim().eq_ignore_ascii_case("text/html"))
}

fn text(media: &'static str, text: &'static str) -> Response<Body> {
    let media = HeaderValue::from_static(media);
    reply::whole(StatusCode::OK, media, Bytes::from_static(text.as_bytes()))
}

fn json(value: &Value) -> Response<Body> {
    let media = HeaderValue::from_static("application/json");
    reply::whole(StatusCode::OK, media, value.to_string().into())
}

fn protect(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    for (name, value) in PROTECTION {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_for_html_first_gets_the_page() {
        let asks = |text: &'static str| {
            wants_html(&HeaderMap::from_iter([(ACCEPT, text.parse().unwrap())]))
        };
        assert!(asks("text/html,application/xhtml+xml,*/*;q=0.8"));
        assert!(asks("text/html;q=0.9"));
        assert!(!asks("application/json, text/html"));
        assert!(!asks("*/*"));
        assert!(!wants_html(&HeaderMap::new()));
    }

    #[test]
    fn the_page_has_nothing_that_its_policy_forbids() {
        for forbidden in ["style=", "onclick=", "http://", "https://"] {
            assert!(!PAGE.contains(forbidden), "{forbidden} in the page");
        }
        for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval("] {
            assert!(!SCRIPT.contains(forbidden), "{forbidden} in the script");
        }
        assert_eq!(PAGE.matches("<script").count(), 1);
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}
