//! Get and list: objects at a revision.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::StatusCode;
use machinery::status::{About, Fault, FieldError, Reason, Status};
use proto::etcd::etcdserverpb::RangeRequest;
use serde_json::{Value, json};
use store::Record;

use crate::resource::asked::Asked;
use crate::resource::negotiate::Form;
use crate::resource::registry::end_of_prefix;
use crate::resource::reply::{List, Reply};
use crate::resource::{Api, error, stored};

/// Keys that are read at once where a selector leaves some out.
const PAGE: i64 = 500;

impl Api {
    /// Answers a request for one object.
    pub(in crate::resource) async fn get(&self, asked: &Asked) -> Result<Reply, Status> {
        match version(asked)? {
            Version::Newest => self.registry.barrier().await?,
            Version::Any => {}
            Version::At(revision) => self.registry.reach(revision).await?,
        }
        let found = self.registry.look(&asked.key())?;
        let found = found.ok_or_else(|| Status::not_found(asked.about()))?;
        if asked.wish.form == Form::Whole {
            let mut json = Vec::new();
            found.write_json(&asked.kind, &mut json)?;
            return Ok(Reply::json(StatusCode::OK, json));
        }
        let object = found.value(&asked.kind)?;
        Ok(Reply::object(
            StatusCode::OK,
            &asked.kind,
            &object,
            &asked.wish,
        ))
    }

    /// Answers a request for a list.
    pub(in crate::resource) async fn list(&self, asked: &Asked) -> Result<Reply, Status> {
        let kind = &asked.kind;
        let selector = asked.selector()?;
        let limit = asked.query.number("limit").unwrap_or(0).max(0);
        let token = asked.query.text("continue");
        let prefix = kind.key(&asked.target.namespace, "");
        let from = match token {
            "" => Start::of(asked, limit)?,
            token => {
                check_continued(asked)?;
                Start::continued(token, &prefix)?
            }
        };
        match from.wait {
            Version::Newest => self.registry.barrier().await?,
            Version::Any => {}
            Version::At(revision) => self.registry.reach(revision).await?,
        }
        let view = self.registry.reader().view();
        let revision = match from.exactly {
            Some(revision) if revision > view.revision => {
                return Err(error::too_large(revision, view.revision));
            }
            Some(revision) => revision,
            None => view.revision,
        };
        // What the fields say about the name is a key.
        let (key, range_end) = match selector.name() {
            Some(name) if !kind.namespaced || !asked.target.namespace.is_empty() => (
                Bytes::from(kind.key(&asked.target.namespace, name)),
                Bytes::new(),
            ),
            _ => (Bytes::from(from.key.clone()), end_of_prefix(&prefix)),
        };
        let mut request = RangeRequest {
            key,
            range_end,
            revision,
            limit: if selector.is_everything() {
                limit
            } else {
                PAGE.max(limit)
            },
            ..RangeRequest::default()
        };
        let is_expired = |error: Status| match error.reason {
            Reason::Expired if !token.is_empty() => expired_token(&from.key, &prefix),
            Reason::Expired => Status::new(
                Reason::Expired,
                "The resourceVersion for the provided list is too old.",
            ),
            _ => error,
        };
        if selector.is_everything() && asked.wish.form == Form::Whole {
            let found = self.registry.range(&view, &request).map_err(is_expired)?;
            let records = found.records;
            let (token, remaining) = rest(&records, found.has_more, found.count, revision, &prefix);
            let list = List {
                kind,
                revision,
                token,
                remaining,
            };
            return list.of_records(records);
        }
        let mut objects = Vec::new();
        let (mut token, mut remaining) = (None, None);
        loop {
            let found = self.registry.range(&view, &request).map_err(is_expired)?;
            for (place, record) in found.records.iter().enumerate() {
                let object = stored::parse(record.value(), record.mod_revision(), kind)?;
                if !selector.is_everything() && !selector.matches(&object) {
                    continue;
                }
                objects.push(object);
                let is_last = place + 1 == found.records.len() && !found.has_more;
                if limit > 0 && objects.len() as i64 == limit && !is_last {
                    token = Some(continue_token(record.key(), revision, &prefix));
                    break;
                }
            }
            if selector.is_everything() {
                let parts = rest(
                    &found.records,
                    found.has_more,
                    found.count,
                    revision,
                    &prefix,
                );
                (token, remaining) = parts;
                break;
            }
            match found.records.last() {
                Some(last) if found.has_more && token.is_none() => {
                    request.key = [last.key(), b"\0"].concat().into();
                }
                _ => break,
            }
        }
        let list = List {
            kind,
            revision,
            token,
            remaining,
        };
        list.of_values(&objects, &asked.wish)
    }
}

/// What whoever asks for one object, or a list, wants to see at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Newest,
    Any,
    At(i64),
}

fn version(asked: &Asked) -> Result<Version, Status> {
    match asked.query.text("resourceVersion") {
        "" => Ok(Version::Newest),
        "0" => Ok(Version::Any),
        text => revision(text).map(Version::At),
    }
}

/// A revision that a client names.
pub(super) fn revision(text: &str) -> Result<i64, Status> {
    text.parse()
        .ok()
        .filter(|revision| *revision >= 0)
        .ok_or_else(|| {
            // Go's numbers have one bit more, and no revision ever needs it.
            let why = match text.bytes().all(|byte| byte.is_ascii_digit()) {
                true if !text.is_empty() => "value out of range",
                _ => "invalid syntax",
            };
            let error = FieldError::new(
                "resourceVersion",
                Fault::Invalid,
                format!("strconv.ParseUint: parsing {text:?}: {why}"),
            )
            .of(text);
            options(&[error])
        })
}

/// The error of parameters that do not pass.
pub(super) fn options(errors: &[FieldError]) -> Status {
    let about = About {
        group: "meta.k8s.io".to_owned(),
        kind: "ListOptions".to_owned(),
        name: String::new(),
    };
    Status::invalid(about, errors)
}

/// Where a list begins.
struct Start {
    key: String,
    wait: Version,
    exactly: Option<i64>,
}

impl Start {
    fn of(asked: &Asked, limit: i64) -> Result<Self, Status> {
        let kind = &asked.kind;
        let wait = version(asked)?;
        let matching = asked.query.text("resourceVersionMatch");
        check_match(asked)?;
        let exactly = match (matching, wait) {
            ("", Version::At(revision)) if limit > 0 => Some(revision),
            ("Exact", Version::At(revision)) => Some(revision),
            _ => None,
        };
        Ok(Self {
            key: kind.key(&asked.target.namespace, ""),
            wait,
            exactly,
        })
    }

    fn continued(token: &str, prefix: &str) -> Result<Self, Status> {
        let invalid = || {
            Status::bad_request("continue key is not valid: the token was not made by this server")
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(token.trim_end_matches('='))
            .map_err(|_| invalid())?;
        let token: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        let start = token["start"].as_str().ok_or_else(invalid)?;
        let revision = token["rv"].as_i64().ok_or_else(invalid)?;
        let is_odd = |part: &str| matches!(part, "." | "..");
        if token["v"] != "meta.k8s.io/v1"
            || revision == 0
            || start.is_empty()
            || start.split('/').any(is_odd)
        {
            return Err(invalid());
        }
        Ok(Self {
            key: format!("{prefix}{start}"),
            wait: if revision > 0 {
                Version::At(revision)
            } else {
                Version::Newest
            },
            exactly: (revision > 0).then_some(revision),
        })
    }
}

/// Holds the parameters of a list about versions against each other; every error is told.
fn check_match(asked: &Asked) -> Result<(), Status> {
    let query = &asked.query;
    let (matching, version) = (
        query.text("resourceVersionMatch"),
        query.text("resourceVersion"),
    );
    let forbidden =
        |detail: &str| FieldError::new("resourceVersionMatch", Fault::Forbidden, detail);
    let mut errors = Vec::new();
    if !matching.is_empty() {
        if version.is_empty() {
            let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(forbidden(detail));
        }
        if !query.text("continue").is_empty() {
            let detail = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(forbidden(detail));
        }
        if !["Exact", "NotOlderThan"].contains(&matching) {
            let detail = "supported values: \"Exact\", \"NotOlderThan\", \"\"";
            let error = FieldError::new("resourceVersionMatch", Fault::NotSupported, detail);
            errors.push(error.of(matching));
        }
        if (matching, version) == ("Exact", "0") {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(forbidden(detail));
        }
    }
    if query.has("sendInitialEvents") {
        let detail = "sendInitialEvents is forbidden for list";
        errors.push(FieldError::new(
            "sendInitialEvents",
            Fault::Forbidden,
            detail,
        ));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(options(&errors))
}

fn check_continued(asked: &Asked) -> Result<(), Status> {
    check_match(asked)?;
    match asked.query.text("resourceVersion") {
        "" | "0" => Ok(()),
        _ => Err(Status::bad_request(
            "specifying resource version is not allowed when using continue",
        )),
    }
}

/// How a list goes on, and how much is left.
fn rest(
    records: &[Record],
    has_more: bool,
    count: i64,
    revision: i64,
    prefix: &str,
) -> (Option<String>, Option<i64>) {
    match records.last() {
        Some(last) if has_more => (
            Some(continue_token(last.key(), revision, prefix)),
            Some(count - records.len() as i64),
        ),
        _ => (None, None),
    }
}

fn continue_token(last: &[u8], revision: i64, prefix: &str) -> String {
    let last = String::from_utf8_lossy(last.get(prefix.len()..).unwrap_or_default());
    let token = json!({ "v": "meta.k8s.io/v1", "rv": revision, "start": format!("{last}\0") });
    URL_SAFE_NO_PAD.encode(token.to_string())
}

/// The revision of a token is compacted; here is one that goes on at the newest.
fn expired_token(key: &str, prefix: &str) -> Status {
    let start = key.strip_prefix(prefix).unwrap_or_default();
    let token = json!({ "v": "meta.k8s.io/v1", "rv": -1, "start": start });
    let mut status = Status::new(
        Reason::Expired,
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    status.details.continue_token = Some(URL_SAFE_NO_PAD.encode(token.to_string()));
    status
}
