//! Errors as clients of Kubernetes know them: the `Status` object, and the reasons that it may give.

use serde_json::{Value, json};

/// Why a request failed; each has its HTTP code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 400
    BadRequest,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 406
    NotAcceptable,
    /// 409, on create
    AlreadyExists,
    /// 409
    Conflict,
    /// 410, a history that is gone
    Gone,
    /// 410, a list that cannot be continued
    Expired,
    /// 413
    RequestEntityTooLarge,
    /// 415
    UnsupportedMediaType,
    /// 422
    Invalid,
    /// 429
    TooManyRequests,
    /// 500
    InternalError,
    /// 503
    ServiceUnavailable,
    /// 504
    Timeout,
}

impl Reason {
    /// The HTTP code.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }

    /// As clients compare it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Expired => "Expired",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::Invalid => "Invalid",
            Self::TooManyRequests => "TooManyRequests",
            Self::InternalError => "InternalError",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Timeout => "Timeout",
        }
    }
}

/// What is wrong with one field, as `details.causes` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It must be there.
    Required,
    /// It has a value that it may not have.
    Invalid,
    /// Another has the same.
    Duplicate,
    /// None of the values that there are.
    NotSupported,
    /// It may not be there, or may not change.
    Forbidden,
    /// Too many bytes.
    TooLong,
    /// Too many items.
    TooMany,
    /// What it names is not there.
    NotFound,
    /// A value of another type.
    TypeInvalid,
}

impl Fault {
    /// As `details.causes` says it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    /// As the text of the whole error says it.
    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::Duplicate => "Duplicate value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
        }
    }
}

/// One field that does not pass.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Where, such as `spec.containers[0].name`.
    pub field: String,
    /// What is wrong.
    pub fault: Fault,
    /// The value, where the message names it.
    pub value: Option<Value>,
    /// What should be.
    pub detail: String,
}

impl FieldError {
    /// A field that does not pass.
    pub fn new(field: impl Into<String>, fault: Fault, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            fault,
            value: None,
            detail: detail.into(),
        }
    }

    /// The same, with the value that it has.
    #[must_use]
    pub fn of(mut self, value: impl Into<Value>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Its line without the name of the field, as upstream's `ErrorBody` writes it.
    #[must_use]
    pub fn body(&self) -> String {
        let mut text = self.fault.words().to_owned();
        let names_value = !matches!(
            self.fault,
            Fault::Required | Fault::Forbidden | Fault::TooLong | Fault::TooMany
        );
        if names_value && let Some(value) = &self.value {
            text.push_str(": ");
            match value {
                Value::Object(_) | Value::Array(_) => text.push_str(&value.to_string()),
                Value::String(string) => text.push_str(&format!("{string:?}")),
                other => text.push_str(&other.to_string()),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

/// The kind or resource that an error is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// API group; empty for the core.
    pub group: String,
    /// The resource, in the plural; for [`Status::invalid`] the kind.
    pub kind: String,
    /// Name of the object, if it is about one.
    pub name: String,
}

impl About {
    /// `deployments.apps`, or `pods`.
    fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.kind.clone()
        } else {
            format!("{}.{}", self.kind, self.group)
        }
    }
}

/// An error on its way to a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// What else there is to say.
    pub details: Box<Details>,
}

/// What else there is to say of an error.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// What it is about.
    pub about: Option<About>,
    /// The uid of that, if it matters.
    pub uid: String,
    /// `details.causes`.
    pub causes: Vec<Cause>,
    /// Seconds after which to try again.
    pub retry_after: Option<u32>,
    /// A token with which a list that has expired goes on at the newest revision.
    pub continue_token: Option<String>,
}

/// One cause of an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// As clients compare it.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The field that it is about, if any.
    pub field: String,
}

impl Status {
    /// An error about nothing in particular.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            details: Box::default(),
        }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// The same about something.
    #[must_use]
    pub fn about(mut self, about: About) -> Self {
        self.details.about = Some(about);
        self
    }

    /// No object of this name.
    #[must_use]
    pub fn not_found(about: About) -> Self {
        let message = format!("{} {:?} not found", about.qualified(), about.name);
        Self::new(Reason::NotFound, message).about(about)
    }

    /// There is one of this name.
    #[must_use]
    pub fn already_exists(about: About) -> Self {
        let message = format!("{} {:?} already exists", about.qualified(), about.name);
        Self::new(Reason::AlreadyExists, message).about(about)
    }

    /// Somebody else was first, or a precondition does not hold.
    #[must_use]
    pub fn conflict(about: About, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {:?}: {why}",
            about.qualified(),
            about.name
        );
        Self::new(Reason::Conflict, message).about(about)
    }

    /// Nobody may do that.
    #[must_use]
    pub fn forbidden(about: About, why: &str) -> Self {
        let message = format!("{} {:?} is forbidden: {why}", about.qualified(), about.name);
        Self::new(Reason::Forbidden, message).about(about)
    }

    /// Fields that do not pass. `about.kind` is the kind, not the resource.
    #[must_use]
    pub fn invalid(about: About, errors: &[FieldError]) -> Self {
        let lines: Vec<String> = errors
            .iter()
            .map(|error| format!("{}: {}", error.field, error.body()))
            .collect();
        let text = match lines.len() {
            1 => lines[0].clone(),
            _ => format!("[{}]", lines.join(", ")),
        };
        let message = format!("{} {:?} is invalid: {text}", about.qualified(), about.name);
        let cause = |error: &FieldError| Cause {
            reason: error.fault.reason().to_owned(),
            message: error.body(),
            field: error.field.clone(),
        };
        let mut status = Self::new(Reason::Invalid, message).about(about);
        status.details.causes = errors.iter().map(cause).collect();
        status
    }

    /// The same with one more cause.
    #[must_use]
    pub fn because(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        self.details.causes.push(Cause {
            reason: reason.to_owned(),
            message: message.into(),
            field: field.to_owned(),
        });
        self
    }

    /// The same, to be tried again after some seconds.
    #[must_use]
    pub fn again_after(mut self, seconds: u32) -> Self {
        self.details.retry_after = Some(seconds);
        self
    }

    /// The object that goes over the wire.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut details = json!({});
        if let Some(about) = &self.details.about {
            for (name, text) in [
                ("name", &about.name),
                ("group", &about.group),
                ("kind", &about.kind),
            ] {
                if !text.is_empty() {
                    details[name] = json!(text);
                }
            }
        }
        if !self.details.uid.is_empty() {
            details["uid"] = json!(self.details.uid);
        }
        if !self.details.causes.is_empty() {
            let cause = |cause: &Cause| {
                let mut value = json!({ "reason": cause.reason, "message": cause.message });
                if !cause.field.is_empty() {
                    value["field"] = json!(cause.field);
                }
                value
            };
            details["causes"] = self.details.causes.iter().map(cause).collect();
        }
        if let Some(seconds) = self.details.retry_after {
            details["retryAfterSeconds"] = json!(seconds);
        }
        let mut metadata = json!({});
        if let Some(token) = &self.details.continue_token {
            metadata["continue"] = json!(token);
        }
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason.name(),
            "code": self.reason.code(),
        });
        if details
            .as_object()
            .is_some_and(|details| !details.is_empty())
        {
            status["details"] = details;
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_upstream_writes_them() {
        let about = |kind: &str| About {
            group: "apps".into(),
            kind: kind.into(),
            name: "web".into(),
        };
        let status = Status::not_found(about("deployments"));
        assert_eq!(status.message, "deployments.apps \"web\" not found");
        let error = FieldError::new("spec.replicas", Fault::Invalid, "must be >= 0").of(-1);
        let status = Status::invalid(about("Deployment"), &[error]);
        assert_eq!(
            status.message,
            "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be >= 0"
        );
        assert_eq!(
            status.to_value()["details"]["causes"][0]["field"],
            "spec.replicas"
        );
        assert_eq!(status.to_value()["code"], 422);
    }
}
