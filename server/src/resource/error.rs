//! What the node says, in Kubernetes' words: the only place where one becomes the other.

use machinery::status::{Reason, Status};
use store::Refusal;

use crate::node::CallError;

/// The same for a read, which may simply be tried again.
pub(super) fn of_read(error: CallError) -> Status {
    match error {
        CallError::Timeout | CallError::LeaderChanged | CallError::NoLeader => Status::new(
            Reason::ServiceUnavailable,
            format!("the read was not answered: {error}"),
        )
        .again_after(1),
        other => of_call(other),
    }
}

/// Why a call has no answer. Of a write that may have happened nobody says that it did not.
pub(super) fn of_call(error: CallError) -> Status {
    let text = error.to_string();
    match error {
        CallError::Refused(refusal) => of_refusal(&refusal),
        CallError::TooManyRequests => Status::new(
            Reason::TooManyRequests,
            "too many requests are waiting; please try again later",
        )
        .again_after(1),
        CallError::NoSpace => Status::new(
            Reason::ServiceUnavailable,
            "there is no space for more data: see the alarms of the store (etcdctl alarm list), or the disk",
        )
        .again_after(10),
        CallError::TooLarge => Status::new(
            Reason::RequestEntityTooLarge,
            "etcdserver: request is too large",
        ),
        CallError::NoLeader => Status::new(
            Reason::ServiceUnavailable,
            "the cluster has no leader; nothing was written",
        )
        .again_after(1),
        CallError::LeaderChanged | CallError::Stopped | CallError::Timeout => Status::new(
            Reason::Timeout,
            format!("{text}: the change may or may not have happened"),
        )
        .again_after(1),
        CallError::Store(_) => Status::new(Reason::InternalError, text),
    }
}

/// Why the store refused a read.
pub(super) fn of_refusal(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Compacted {
            requested,
            compacted,
        } => too_old(*requested, *compacted),
        Refusal::FutureRevision { requested, current } => too_large(*requested, *current),
        other => Status::new(Reason::InternalError, other.to_string()),
    }
}

/// History that is gone.
pub(super) fn too_old(requested: i64, compacted: i64) -> Status {
    Status::new(
        Reason::Expired,
        format!("too old resource version: {requested} ({compacted})"),
    )
}

/// A revision that is not there yet.
pub(super) fn too_large(requested: i64, current: i64) -> Status {
    Status::new(
        Reason::Timeout,
        format!("Timeout: Too large resource version: {requested}, current: {current}"),
    )
    .because("ResourceVersionTooLarge", "Too large resource version", "")
    .again_after(1)
}

/// The database cannot be read; the node says why and stops.
pub(super) fn broken() -> Status {
    Status::new(
        Reason::InternalError,
        "the database cannot be read; the server's log says why",
    )
}

/// Nothing is left of what is given out.
pub(super) fn exhausted(what: &str) -> Status {
    Status::new(Reason::InternalError, what)
}
