//! Answers on their way out: objects, lists and errors as bytes, in the form that the client asked for.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, RETRY_AFTER, VARY, WARNING,
};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use machinery::kind::Kind;
use machinery::status::Status;
use machinery::table::{self, Include};
use serde_json::{Value, json};

use super::negotiate::Form;
use super::stored;
use crate::etcd::Body;

/// From this length on answers are compressed, for those who take that.
const COMPRESSED_FROM: usize = 128 * 1024;

static AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
static JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How a client wants its objects, and what it is told beside them.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    pub(super) form: Form,
    pub(super) include: Include,
    pub(super) takes_gzip: bool,
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// An answer that is no stream.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) code: StatusCode,
    pub(super) json: Vec<u8>,
    pub(super) warnings: Vec<String>,
}

impl Reply {
    pub(super) fn json(code: StatusCode, json: Vec<u8>) -> Self {
        Self {
            code,
            json,
            warnings: Vec::new(),
        }
    }

    pub(super) fn value(code: StatusCode, value: &Value) -> Self {
        Self::json(code, stored::write(value))
    }

    /// An object, in the form that was asked for.
    pub(super) fn object(code: StatusCode, kind: &Kind, object: &Value, wish: &Wish) -> Self {
        match wish.form {
            Form::Whole => Self::value(code, object),
            Form::Table => {
                let metadata = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
                let table =
                    table::table_of_one(kind, object, wish.include, true, metadata, wish.now);
                Self::value(code, &table)
            }
            Form::Metadata => Self::value(code, &table::partial(object)),
        }
    }

    pub(super) fn into_response(self, wish: &Wish) -> Response<Body> {
        let is_compressed = wish.takes_gzip && self.json.len() >= COMPRESSED_FROM;
        let bytes: Bytes = if is_compressed {
            compress(&self.json).into()
        } else {
            self.json.into()
        };
        let mut response = whole(self.code, JSON.clone(), bytes);
        if is_compressed {
            let headers = response.headers_mut();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        for warning in self.warnings {
            let text = format!("299 - {warning:?}");
            if let Ok(text) = HeaderValue::from_str(&text) {
                response.headers_mut().append(WARNING, text);
            }
        }
        response
    }
}

/// A list at a revision; the parts come from whoever has them.
pub(super) struct List<'a> {
    pub(super) kind: &'a Arc<Kind>,
    pub(super) revision: i64,
    pub(super) token: Option<String>,
    pub(super) remaining: Option<i64>,
}

impl List<'_> {
    fn metadata(&self) -> Value {
        let mut metadata = json!({ "resourceVersion": self.revision.to_string() });
        if let Some(token) = &self.token {
            metadata["continue"] = json!(token);
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
        metadata
    }

    /// Of objects that are JSON already: `write` appends one after the other.
    pub(super) fn of_json(
        &self,
        count: usize,
        bytes: usize,
        mut write: impl FnMut(usize, &mut Vec<u8>) -> Result<(), Status>,
    ) -> Result<Reply, Status> {
        let head = json!({
            "kind": self.kind.list_kind(),
            "apiVersion": self.kind.api_version(),
            "metadata": self.metadata(),
        });
        let mut out = Vec::with_capacity(bytes + 64 * count + 512);
        out.extend_from_slice(&stored::write(&head));
        out.pop();
        out.extend_from_slice(b",\"items\":[");
        for number in 0..count {
            if number > 0 {
                out.push(b',');
            }
            write(number, &mut out)?;
        }
        out.extend_from_slice(b"]}");
        Ok(Reply::json(StatusCode::OK, out))
    }

    /// Of trees, in the form that was asked for.
    pub(super) fn of_values(&self, objects: &[Value], wish: &Wish) -> Result<Reply, Status> {
        match wish.form {
            Form::Whole => {
                let write = |number: usize, out: &mut Vec<u8>| {
                    out.extend_from_slice(&stored::write(&objects[number]));
                    Ok(())
                };
                self.of_json(objects.len(), 0, write)
            }
            Form::Table => {
                let metadata = self.metadata();
                let table =
                    table::table(self.kind, objects, wish.include, true, metadata, wish.now);
                Ok(Reply::value(StatusCode::OK, &table))
            }
            Form::Metadata => {
                let list = table::partial_list(objects, self.metadata());
                Ok(Reply::value(StatusCode::OK, &list))
            }
        }
    }
}

/// An error.
pub(super) fn status(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.reason.code());
    let code = code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = stored::write(&status.to_value());
    let mut response = whole(code, JSON.clone(), json.into());
    if let Some(seconds) = status.details.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// Any whole body.
pub(super) fn whole(code: StatusCode, media: HeaderValue, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Other(Box::pin(Full::new(bytes))));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Names the request, so that its answer and the server's log can be brought together.
pub(super) fn name_request(response: &mut Response<Body>) {
    let id = uuid::Uuid::new_v4().to_string();
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(AUDIT_ID.clone(), id);
    }
}

/// Compresses quickly rather than well.
pub(super) fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("memory takes what is written to it")
}
