//! What can go wrong, by what the caller does next; the only place that reads a gRPC status.

use std::error::Error as StdError;

use tonic::{Code, ConnectError, Status, transport};

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const TOO_MANY_REQUESTS: &str = "etcdserver: too many requests";
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// That is no address: correct it.
    #[error("{endpoint:?} is no endpoint")]
    Endpoint {
        /// As given.
        endpoint: String,
        /// What is wrong with it.
        source: transport::Error,
    },

    /// Nobody answers there: try later, or elsewhere.
    #[error("no connection to {endpoint}")]
    Connect {
        /// The address tried.
        endpoint: String,
        /// Why it failed.
        source: transport::Error,
    },

    /// The server said no, and would say no again: change the request. Nothing was written.
    #[error("refused: {message} ({code:?})")]
    Refused {
        /// The kind of refusal. Of a watch that the server does not accept: [`Code::Cancelled`].
        code: Code,
        /// The server's words.
        message: String,
    },

    /// That part of the past is gone: read the present state and go on from there.
    #[error("the revision has been compacted")]
    Compacted {
        /// The oldest revision that still exists, where the server tells.
        compact_revision: Option<i64>,
    },

    /// Nothing happened, but it may work later: send the same request again after a pause.
    #[error("not done: {}", source.message())]
    NotDone {
        /// What the server or the connection says.
        source: Status,
    },

    /// No answer, or none that decides: a write may have happened, or may still happen. Find out by reading before
    /// sending it again. A read can simply be sent again.
    #[error("outcome unknown: {}", source.message())]
    Unknown {
        /// What the server or the connection says.
        source: Status,
    },

    /// The stream of a watch broke: watch again from `last_revision + 1`, and nothing is lost or seen twice.
    #[error("watch interrupted after revision {last_revision}: {}", source.message())]
    Interrupted {
        /// Every event up to here has been delivered.
        last_revision: i64,
        /// What the server or the connection says.
        source: Status,
    },

    /// The server's answer makes no sense: this is no etcd v3 server, or one with a defect.
    #[error("not the etcd protocol: {0}")]
    Protocol(&'static str),
}

impl Error {
    /// Decides what the failure of one call means.
    ///
    /// A status with a source was made on this side, from an error of the connection. Its code may look like the
    /// server's word (HTTP/2's ENHANCE_YOUR_CALM becomes ResourceExhausted) but says nothing about the request,
    /// except that a request is certainly not done if there was no connection to send it on.
    pub(crate) fn of_call(source: Status) -> Error {
        if StdError::source(&source).is_some() {
            return if was_never_connected(&source) {
                Error::NotDone { source }
            } else {
                Error::Unknown { source }
            };
        }
        match (source.code(), source.message()) {
            (_, COMPACTED) => Error::Compacted {
                compact_revision: None,
            },
            // etcd sends this with the code Unknown.
            (_, TOO_MANY_REQUESTS) => Error::NotDone { source },
            // etcd carries a write out and gives this answer if space ran out between proposal and apply.
            (_, NO_SPACE) => Error::Unknown { source },
            (
                Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::ResourceExhausted
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::Unimplemented
                | Code::DataLoss
                | Code::Unauthenticated,
                message,
            ) => Error::Refused {
                code: source.code(),
                message: message.to_owned(),
            },
            // Unavailable is here too: a leader can be lost after it took the request on.
            _ => Error::Unknown { source },
        }
    }

    /// No answer in time.
    pub(crate) fn timeout() -> Error {
        Error::Unknown {
            source: Status::deadline_exceeded("no answer in time"),
        }
    }
}

fn was_never_connected(status: &Status) -> bool {
    let mut cause = StdError::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: Code, message: &str) -> Error {
        Error::of_call(Status::new(code, message))
    }

    #[test]
    fn refusal_keeps_code_and_words() {
        let error = of(Code::InvalidArgument, "etcdserver: key is not provided");
        let Error::Refused { code, message } = error else {
            panic!("{error:?}")
        };
        assert_eq!(
            (code, message.as_str()),
            (Code::InvalidArgument, "etcdserver: key is not provided")
        );
    }

    #[test]
    fn compacted_revision_is_told_apart_from_a_future_one() {
        assert!(matches!(
            of(Code::OutOfRange, COMPACTED),
            Error::Compacted {
                compact_revision: None
            }
        ));
        let future = of(
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        );
        assert!(matches!(
            future,
            Error::Refused {
                code: Code::OutOfRange,
                ..
            }
        ));
    }

    #[test]
    fn only_a_request_never_taken_on_may_be_sent_again() {
        assert!(matches!(
            of(Code::Unknown, TOO_MANY_REQUESTS),
            Error::NotDone { .. }
        ));
        assert!(matches!(
            of(Code::ResourceExhausted, TOO_MANY_REQUESTS),
            Error::NotDone { .. }
        ));
        for code in [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::Unknown,
            Code::Internal,
            Code::Cancelled,
        ] {
            assert!(
                matches!(
                    of(code, "etcdserver: request timed out"),
                    Error::Unknown { .. }
                ),
                "{code:?}"
            );
        }
        assert!(matches!(
            of(Code::ResourceExhausted, NO_SPACE),
            Error::Unknown { .. }
        ));
    }

    #[test]
    fn status_made_from_a_broken_connection_is_no_refusal() {
        let mut status = Status::new(Code::ResourceExhausted, "h2 protocol error");
        status.set_source(std::sync::Arc::new(std::io::Error::other("calm down")));
        assert!(matches!(Error::of_call(status), Error::Unknown { .. }));
    }
}
