//! Answers on their way out: objects, lists and errors as bytes, in the form that the client asked for.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{StreamExt as _, stream};
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, RETRY_AFTER, VARY, WARNING,
};
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use machinery::kind::Kind;
use machinery::status::Status;
use machinery::table::{self, Include};
use serde_json::{Value, json};
use store::Record;

use super::negotiate::Form;
use super::stored::{self, Written};
use crate::etcd::Body;
use crate::etcd::codec::BrokenOff;

/// A long list leaves in pieces of about this size.
const PIECE: usize = 128 * 1024;

/// Bytes of warnings that an answer takes along; clients refuse headers that are too long.
const MAX_WARNINGS: usize = 4096;

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

/// An answer that is no watch.
pub(super) struct Reply {
    code: StatusCode,
    content: Content,
    pub(super) warnings: Vec<String>,
}

enum Content {
    Whole(Vec<u8>),
    /// Made piece by piece, as the client takes it.
    Items(Items),
}

/// A list of stored objects on its way out.
struct Items {
    kind: Arc<Kind>,
    /// What comes before the first, until that is made.
    head: Vec<u8>,
    records: std::vec::IntoIter<Record>,
    is_first: bool,
    is_over: bool,
}

impl Iterator for Items {
    type Item = Result<Vec<u8>, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let mut piece = std::mem::take(&mut self.head);
        piece.reserve(PIECE + PIECE / 8);
        while piece.len() < PIECE {
            let Some(record) = self.records.next() else {
                self.is_over = true;
                piece.extend_from_slice(b"]}");
                break;
            };
            if !std::mem::take(&mut self.is_first) {
                piece.push(b',');
            }
            let fields = record.fields();
            let written =
                stored::write_item(fields.value, fields.mod_revision, &self.kind, &mut piece);
            if let Err(error) = written {
                self.is_over = true;
                return Some(Err(error));
            }
        }
        Some(Ok(piece))
    }
}

impl Reply {
    fn new(code: StatusCode, content: Content) -> Self {
        Self {
            code,
            content,
            warnings: Vec::new(),
        }
    }

    pub(super) fn json(code: StatusCode, json: Vec<u8>) -> Self {
        Self::new(code, Content::Whole(json))
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

    /// An object that was written, in the form that was asked for.
    pub(super) fn written(
        code: StatusCode,
        kind: &Kind,
        written: &Written,
        wish: &Wish,
    ) -> Result<Self, Status> {
        match (&written.kept, wish.form) {
            (Some(kept), Form::Whole) => {
                let mut json = Vec::new();
                kept.write_json(kind, &mut json)?;
                Ok(Self::json(code, json))
            }
            _ => Ok(Self::object(code, kind, &written.object, wish)),
        }
    }

    /// A scale, whatever kind it is of.
    pub(super) fn scale(scale: &Value, wish: &Wish) -> Self {
        let code = StatusCode::OK;
        match wish.form {
            Form::Whole => Self::value(code, scale),
            Form::Table => {
                let metadata = json!({ "resourceVersion": scale["metadata"]["resourceVersion"] });
                let table = table::table_of_scale(scale, wish.include, true, metadata, wish.now);
                Self::value(code, &table)
            }
            Form::Metadata => Self::value(code, &table::partial(scale)),
        }
    }

    pub(super) fn into_response(self, wish: &Wish) -> Response<Body> {
        let mut response = match self.content {
            Content::Whole(json) => one_piece(self.code, json, wish),
            Content::Items(items) if wish.takes_gzip => {
                match items.collect::<Result<Vec<Vec<u8>>, Status>>() {
                    Ok(pieces) => one_piece(self.code, pieces.concat(), wish),
                    Err(error) => status(&error),
                }
            }
            Content::Items(items) => {
                let frames = stream::iter(items).map(|piece| match piece {
                    Ok(piece) => Ok(Frame::data(Bytes::from(piece))),
                    // The rest of the answer cannot say so any more.
                    Err(_) => Err(BrokenOff),
                });
                let mut response = Response::new(Body::Fragile(Box::pin(StreamBody::new(frames))));
                *response.status_mut() = self.code;
                head(&mut response, JSON.clone());
                response
            }
        };
        let mut told = Vec::new();
        let mut length = 0;
        for warning in self.warnings {
            length += warning.len();
            if length > MAX_WARNINGS {
                break;
            }
            if told.contains(&warning) {
                continue;
            }
            if let Ok(text) = HeaderValue::from_str(&format!("299 - {warning:?}")) {
                response.headers_mut().append(WARNING, text);
            }
            told.push(warning);
        }
        response
    }
}

fn one_piece(code: StatusCode, json: Vec<u8>, wish: &Wish) -> Response<Body> {
    if !wish.takes_gzip || json.len() < COMPRESSED_FROM {
        return whole(code, JSON.clone(), json.into());
    }
    let mut response = whole(code, JSON.clone(), compress(&json).into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
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

    fn head(&self) -> Vec<u8> {
        let head = json!({
            "kind": self.kind.list_kind(),
            "apiVersion": self.kind.api_version(),
            "metadata": self.metadata(),
        });
        let mut head = stored::write(&head);
        head.pop();
        head.extend_from_slice(b",\"items\":[");
        head
    }

    /// Of stored objects, as they are.
    pub(super) fn of_records(&self, records: Vec<Record>) -> Result<Reply, Status> {
        let mut items = Items {
            kind: self.kind.clone(),
            head: self.head(),
            records: records.into_iter(),
            is_first: true,
            is_over: false,
        };
        let first = items.next().unwrap_or_else(|| Ok(Vec::new()))?;
        if items.is_over {
            return Ok(Reply::json(StatusCode::OK, first));
        }
        items.head = first;
        Ok(Reply::new(StatusCode::OK, Content::Items(items)))
    }

    /// Of trees, in the form that was asked for.
    pub(super) fn of_values(&self, objects: &[Value], wish: &Wish) -> Result<Reply, Status> {
        match wish.form {
            Form::Whole => {
                let mut out = self.head();
                for (number, object) in objects.iter().enumerate() {
                    if number > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(&stored::write_typed(object));
                }
                out.extend_from_slice(b"]}");
                Ok(Reply::json(StatusCode::OK, out))
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
    head(&mut response, media);
    response
}

fn head(response: &mut Response<Body>, media: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
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
