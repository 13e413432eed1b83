//! Refusals and faults as etcd's codes and texts; no other file writes an etcd message.
//!
//! Client libraries look errors up by their text, so every text here is byte-exact. `Unavailable` is kept for
//! outcomes that the caller may retry; a definite rejection never uses it.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::HeaderValue;
use store::answer::Refusal;
use tonic::Code;

use crate::node::CallError;
use crate::watch::Refused;

/// How a call ended if it did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    code: Code,
    text: Cow<'static, str>,
}

impl Status {
    /// A status whose text never changes; made without an allocation.
    pub const fn fixed(code: Code, text: &'static str) -> Self {
        Self {
            code,
            text: Cow::Borrowed(text),
        }
    }

    /// A status whose text carries values; not for the hot path.
    pub fn made(code: Code, text: String) -> Self {
        Self {
            code,
            text: Cow::Owned(text),
        }
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What the client reads.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text as the `grpc-message` header carries it: bytes outside of printable ASCII, and `%`, as `%XX`.
    pub fn header(&self) -> HeaderValue {
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
        let encoded = if self.text.bytes().all(is_plain) {
            match &self.text {
                Cow::Borrowed(text) => return HeaderValue::from_static(text),
                Cow::Owned(text) => text.clone(),
            }
        } else {
            let mut encoded = String::with_capacity(self.text.len() * 3);
            for byte in self.text.bytes() {
                if is_plain(byte) {
                    encoded.push(char::from(byte));
                } else {
                    // Writing to a string cannot fail.
                    let _ = write!(encoded, "%{byte:02X}");
                }
            }
            encoded
        };
        HeaderValue::try_from(encoded)
            .unwrap_or_else(|_| HeaderValue::from_static("unprintable message"))
    }
}

/// A key is required and was empty.
pub const EMPTY_KEY: Status =
    Status::fixed(Code::InvalidArgument, "etcdserver: key is not provided");
/// `ignore_value` or `ignore_lease` without a key; also an operation of a transaction that is none.
pub const KEY_NOT_FOUND: Status = Status::fixed(Code::InvalidArgument, "etcdserver: key not found");
/// `ignore_value` with a value.
pub const VALUE_PROVIDED: Status =
    Status::fixed(Code::InvalidArgument, "etcdserver: value is provided");
/// `ignore_lease` with a lease.
pub const LEASE_PROVIDED: Status =
    Status::fixed(Code::InvalidArgument, "etcdserver: lease is provided");
/// A write where the resource API keeps its objects. None of etcd's.
pub const GUARDED: Status = Status::fixed(
    Code::PermissionDenied,
    "etcdserver: permission denied: keys under /registry/ belong to the resource API here; write them through it \
     (kubectl), or start holdfast with --guard-registry=false",
);
/// More operations than `--max-txn-ops`.
pub const TOO_MANY_OPS: Status = Status::fixed(
    Code::InvalidArgument,
    "etcdserver: too many operations in txn request",
);
/// One path of a transaction writes a key twice.
pub const DUPLICATE_KEY: Status = Status::fixed(
    Code::InvalidArgument,
    "etcdserver: duplicate key given in txn request",
);
/// The `client-api-version` metadata is not UTF-8.
pub const INVALID_CLIENT_API_VERSION: Status = Status::fixed(
    Code::InvalidArgument,
    "etcdserver: invalid client api version",
);
/// A sort order or target that does not exist.
pub const INVALID_SORT_OPTION: Status =
    Status::fixed(Code::InvalidArgument, "etcdserver: invalid sort option");
/// Larger than `--max-request-bytes`.
pub const TOO_LARGE: Status =
    Status::fixed(Code::InvalidArgument, "etcdserver: request is too large");
/// The revision is compacted.
pub const COMPACTED: Status = Status::fixed(
    Code::OutOfRange,
    "etcdserver: mvcc: required revision has been compacted",
);
/// The revision does not exist yet.
pub const FUTURE_REVISION: Status = Status::fixed(
    Code::OutOfRange,
    "etcdserver: mvcc: required revision is a future revision",
);
/// No room for more data.
pub const NO_SPACE: Status = Status::fixed(
    Code::ResourceExhausted,
    "etcdserver: mvcc: database space exceeded",
);
/// The alarm `CORRUPT` is on.
pub const CORRUPT: Status = Status::fixed(Code::DataLoss, "etcdserver: corrupt cluster");
/// The backlog of proposals is full.
pub const TOO_MANY_REQUESTS: Status =
    Status::fixed(Code::ResourceExhausted, "etcdserver: too many requests");
/// The lease does not exist.
pub const LEASE_NOT_FOUND: Status =
    Status::fixed(Code::NotFound, "etcdserver: requested lease not found");
/// A lease has the id of another one.
pub const LEASE_EXISTS: Status =
    Status::fixed(Code::FailedPrecondition, "etcdserver: lease already exists");
/// A lease is to live longer than any may.
pub const LEASE_TTL_TOO_LARGE: Status =
    Status::fixed(Code::OutOfRange, "etcdserver: too large lease TTL");
/// The lease of whoever waits for a lock has ended.
pub const SESSION_EXPIRED: Status = Status::fixed(Code::Unknown, "mutex: session is expired");
/// The lease of a candidate has ended; etcd does not look.
pub const SESSION_EXPIRED_IN_ELECTION: Status =
    Status::fixed(Code::Unknown, "election: session expired");
/// A leader is to say who it is.
pub const MISSING_LEADER_KEY: Status =
    Status::fixed(Code::Unknown, "\"leader\" field must be provided");
/// Who says something leads no more.
pub const NOT_ELECTED: Status = Status::fixed(Code::Unknown, "election: not leader");
/// Nobody leads.
pub const NOBODY_ELECTED: Status = Status::fixed(Code::Unknown, "election: no leader");
/// A member that only learns answers nothing that must be new.
pub const NOT_FOR_LEARNER: Status = Status::fixed(
    Code::FailedPrecondition,
    "etcdserver: rpc not supported for learner",
);
/// Only the leader gives leadership away.
pub const NOT_LEADER: Status = Status::fixed(Code::FailedPrecondition, "etcdserver: not leader");
/// Only a voter takes it.
pub const BAD_TRANSFEREE: Status = Status::fixed(
    Code::FailedPrecondition,
    "etcdserver: bad leader transferee",
);
/// The other one did not take over.
pub const TRANSFER_TOO_SLOW: Status = Status::fixed(
    Code::Unknown,
    "etcdserver: request timed out, leader transfer took too long",
);
/// A new member has the id of another one.
pub const MEMBER_EXISTS: Status = Status::fixed(
    Code::FailedPrecondition,
    "etcdserver: member ID already exist",
);
/// An address belongs to another member.
pub const PEER_URL_EXISTS: Status = Status::fixed(
    Code::FailedPrecondition,
    "etcdserver: Peer URLs already exists",
);
/// No member has the id, or it was removed.
pub const MEMBER_NOT_FOUND: Status = Status::fixed(Code::NotFound, "etcdserver: member not found");
/// Promoted was a member that votes already.
pub const MEMBER_NOT_LEARNER: Status = Status::fixed(
    Code::FailedPrecondition,
    "etcdserver: can only promote a learner member",
);
/// More learners than `--max-learners`.
pub const TOO_MANY_LEARNERS: Status = Status::fixed(
    Code::FailedPrecondition,
    "etcdserver: too many learner members in cluster",
);
/// After the change, those that run would be no quorum. etcd sends code Unknown here, by a slip: its clients go by the
/// text and make this code of it.
pub const NOT_ENOUGH_STARTED: Status = Status::fixed(
    Code::FailedPrecondition,
    "etcdserver: re-configuration failed due to not enough started members",
);
/// Promoted was a learner that lags behind.
pub const LEARNER_NOT_READY: Status = Status::fixed(
    Code::FailedPrecondition,
    "etcdserver: can only promote a learner member which is in sync with leader",
);
/// Addresses of a member that are none.
pub const BAD_MEMBER_URLS: Status = Status::fixed(
    Code::InvalidArgument,
    "etcdserver: given member URLs are invalid",
);
/// Too few members have been connected for long enough to change who they are.
pub const UNHEALTHY: Status = Status::fixed(Code::Unavailable, "etcdserver: unhealthy cluster");
/// This member knows of no leader.
pub const NO_LEADER: Status = Status::fixed(Code::Unavailable, "etcdserver: no leader");
/// Leadership moved while the request ran.
pub const LEADER_CHANGED: Status = Status::fixed(Code::Unavailable, "etcdserver: leader changed");
/// The node is going down.
pub const STOPPED: Status = Status::fixed(Code::Unavailable, "etcdserver: server stopped");
/// The server's own limit of time.
pub const TIMEOUT: Status = Status::fixed(Code::Unavailable, "etcdserver: request timed out");
/// The client's limit of time; no prefix, because it comes from the context.
pub const DEADLINE_EXCEEDED: Status =
    Status::fixed(Code::DeadlineExceeded, "context deadline exceeded");
/// The client went away.
pub const CANCELED: Status = Status::fixed(Code::Cancelled, "context canceled");
/// An enum value of the maintenance service that does not exist.
pub const UNKNOWN_METHOD: Status = Status::fixed(Code::Unknown, "etcdserver: unknown method");
/// `RangeStream` keeps the order of keys.
pub const STREAM_SORT: Status = Status::fixed(
    Code::Unimplemented,
    "RangeStream does not support custom sort orders",
);
/// `RangeStream` does not filter.
pub const STREAM_FILTER: Status = Status::fixed(
    Code::Unimplemented,
    "RangeStream does not support revision filters",
);
/// The health service knows one service, the empty name.
pub const UNKNOWN_SERVICE: Status = Status::fixed(Code::NotFound, "unknown service");
/// The bytes are not a message of the type that the method takes.
pub const MALFORMED: Status = Status::fixed(
    Code::Internal,
    "grpc: failed to unmarshal the received message",
);
/// The stream ended without the one message, or within it.
pub const NO_MESSAGE: Status = Status::fixed(
    Code::Internal,
    "grpc: the request carries no complete message",
);
/// More than one message to a method that takes one.
pub const TWO_MESSAGES: Status = Status::fixed(
    Code::Internal,
    "grpc: the request carries more than one message",
);
/// A compressed message.
pub const COMPRESSED: Status =
    Status::fixed(Code::Unimplemented, "grpc: compression not supported");
/// What a transaction or a range delete is to answer does not fit into one answer.
pub const ANSWER_TOO_LONG: Status = Status::fixed(
    Code::ResourceExhausted,
    "holdfast: the keys and values to answer are more than 256 MiB; ask for less in one request",
);
/// Nobody took the rest of a long answer. To ask again is harmless, so clients may do it by themselves.
pub const UNREAD: Status = Status::fixed(
    Code::Unavailable,
    "holdfast: the client took nothing of this answer for 60 s, so the rest of it was given up",
);
/// The store could not be read; the cause is in the log of the node.
pub const STORE_FAULT: Status =
    Status::fixed(Code::Internal, "holdfast: the store could not be read");

/// A path below the gateway's that stands for no call.
pub const NO_ROUTE: Status = Status::fixed(Code::NotFound, "Not Found");
/// A call through the gateway that is not a POST.
pub const NOT_POST: Status = Status::fixed(Code::Unimplemented, "Method Not Allowed");

/// What a service on top of others answers if one of these refuses: etcd's are clients of themselves, and clients lose
/// the code.
pub fn inner(status: &Status) -> Status {
    Status {
        code: Code::Unknown,
        text: status.text.clone(),
    }
}

/// JSON that is none, or does not fit the request's type.
pub fn bad_json(error: &impl std::fmt::Display) -> Status {
    Status::made(Code::InvalidArgument, format!("proto: {error}"))
}

/// A `Grpc-Timeout` header that is none.
pub fn bad_timeout(header: &str) -> Status {
    Status::made(
        Code::InvalidArgument,
        format!("invalid grpc-timeout: {header}"),
    )
}

/// A watch stream that would be one too many.
pub const TOO_MANY_STREAMS: Status = Status::fixed(
    Code::ResourceExhausted,
    "holdfast: too many watch streams are open",
);

/// What client libraries look for in `cancel_reason` of a watcher that was not made.
pub const fn watch_refusal(why: Refused) -> &'static str {
    match why {
        Refused::Revision => "etcdserver: mvcc: required revision has been compacted",
        Refused::EmptyRange => "mvcc: watcher range is empty",
        Refused::DuplicateId => "mvcc: duplicate watch ID provided on the WatchStream",
        Refused::TooMany => "holdfast: there is no memory for another watcher",
    }
}

/// The message is longer than the receive limit; in the words of etcd's gRPC library.
pub fn message_too_long(length: usize, limit: usize) -> Status {
    Status::made(
        Code::ResourceExhausted,
        format!("grpc: received message larger than max ({length} vs. {limit})"),
    )
}

/// The answer is longer than a message may be; in the words of etcd's gRPC library.
pub fn answer_too_long(length: usize, limit: usize) -> Status {
    Status::made(
        Code::ResourceExhausted,
        format!("grpc: trying to send message larger than max ({length} vs. {limit})"),
    )
}

/// The database could not be rewritten; it is as it was.
pub fn defragment_failed(why: &str) -> Status {
    Status::made(Code::Internal, not_defragmented(why))
}

/// There is no room to rewrite the database.
pub fn no_room_to_defragment(why: &str) -> Status {
    Status::made(Code::ResourceExhausted, not_defragmented(why))
}

fn not_defragmented(why: &str) -> String {
    format!("holdfast: the database was not defragmented: {why}")
}

/// A snapshot could not be made or sent to its end; the reason is for people.
pub fn snapshot_failed(reason: &str) -> Status {
    Status::made(
        Code::ResourceExhausted,
        format!("holdfast: the snapshot was not made: {reason}"),
    )
}

/// The method exists in etcd but not here, yet.
pub fn not_built(method: &str) -> Status {
    Status::made(
        Code::Unimplemented,
        format!("holdfast: {method} is not built yet"),
    )
}

/// No such service, or no such method in one of `services`.
pub fn unknown_method(path: &str, services: &[&str]) -> Status {
    let text = match path.trim_start_matches('/').rsplit_once('/') {
        Some((service, method)) if services.contains(&service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
        None => format!("malformed method name: \"{path}\""),
    };
    Status::made(Code::Unimplemented, text)
}

impl From<&Refusal> for Status {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::KeyNotFound => KEY_NOT_FOUND,
            Refusal::LeaseNotFound(_) => LEASE_NOT_FOUND,
            Refusal::LeaseExists(_) => LEASE_EXISTS,
            Refusal::LeaderGone => LEADER_CHANGED,
            Refusal::Compacted { .. } => COMPACTED,
            Refusal::FutureRevision { .. } => FUTURE_REVISION,
            Refusal::AnswerTooLong => ANSWER_TOO_LONG,
            Refusal::NoSpace => NO_SPACE,
            Refusal::Corrupt => CORRUPT,
            Refusal::MemberExists(_) => MEMBER_EXISTS,
            Refusal::PeerUrlExists(_) => PEER_URL_EXISTS,
            // Nobody can tell from etcd's answer that there was such a member.
            Refusal::MemberNotFound(_) | Refusal::MemberRemoved(_) => MEMBER_NOT_FOUND,
            Refusal::MemberNotLearner(_) => MEMBER_NOT_LEARNER,
            Refusal::TooManyLearners => TOO_MANY_LEARNERS,
            Refusal::NoVoter => NOT_ENOUGH_STARTED,
        }
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(refusal) => Self::from(&refusal),
            CallError::TooManyRequests => TOO_MANY_REQUESTS,
            CallError::TooLarge => TOO_LARGE,
            CallError::NoSpace => NO_SPACE,
            CallError::NoLeader => NO_LEADER,
            CallError::LeaderChanged => LEADER_CHANGED,
            CallError::Stopped => STOPPED,
            CallError::Timeout => TIMEOUT,
            CallError::Store(_) => STORE_FAULT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_and_fault_has_etcds_code_and_text() {
        let gone = Refusal::Compacted {
            requested: 1,
            compacted: 2,
        };
        let future = Refusal::FutureRevision {
            requested: 9,
            current: 2,
        };
        let table = [
            (
                CallError::Refused(Refusal::KeyNotFound),
                3,
                "etcdserver: key not found",
            ),
            (
                CallError::Refused(Refusal::LeaseNotFound(7)),
                5,
                "etcdserver: requested lease not found",
            ),
            (
                CallError::Refused(gone),
                11,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (
                CallError::Refused(future),
                11,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            (
                CallError::Refused(Refusal::NoSpace),
                8,
                "etcdserver: mvcc: database space exceeded",
            ),
            (
                CallError::Refused(Refusal::Corrupt),
                15,
                "etcdserver: corrupt cluster",
            ),
            (
                CallError::Refused(Refusal::MemberExists(7)),
                9,
                "etcdserver: member ID already exist",
            ),
            (
                CallError::Refused(Refusal::PeerUrlExists("http://a:1".to_owned())),
                9,
                "etcdserver: Peer URLs already exists",
            ),
            (
                CallError::Refused(Refusal::MemberNotFound(7)),
                5,
                "etcdserver: member not found",
            ),
            (
                CallError::Refused(Refusal::MemberRemoved(7)),
                5,
                "etcdserver: member not found",
            ),
            (
                CallError::Refused(Refusal::MemberNotLearner(7)),
                9,
                "etcdserver: can only promote a learner member",
            ),
            (
                CallError::Refused(Refusal::TooManyLearners),
                9,
                "etcdserver: too many learner members in cluster",
            ),
            (
                CallError::Refused(Refusal::NoVoter),
                9,
                "etcdserver: re-configuration failed due to not enough started members",
            ),
            (
                CallError::TooManyRequests,
                8,
                "etcdserver: too many requests",
            ),
            (CallError::TooLarge, 3, "etcdserver: request is too large"),
            (
                CallError::NoSpace,
                8,
                "etcdserver: mvcc: database space exceeded",
            ),
            (CallError::NoLeader, 14, "etcdserver: no leader"),
            (CallError::LeaderChanged, 14, "etcdserver: leader changed"),
            (CallError::Stopped, 14, "etcdserver: server stopped"),
            (CallError::Timeout, 14, "etcdserver: request timed out"),
            (
                CallError::Store("disk".into()),
                13,
                "holdfast: the store could not be read",
            ),
        ];
        for (error, code, text) in table {
            let status = Status::from(error);
            assert_eq!((status.code() as i32, status.text()), (code, text));
            assert_eq!(status.header(), text, "etcd's texts travel as they are");
        }
    }

    #[test]
    fn refused_requests_have_etcds_code_and_text() {
        let table = [
            (EMPTY_KEY, 3, "etcdserver: key is not provided"),
            (VALUE_PROVIDED, 3, "etcdserver: value is provided"),
            (LEASE_PROVIDED, 3, "etcdserver: lease is provided"),
            (
                TOO_MANY_OPS,
                3,
                "etcdserver: too many operations in txn request",
            ),
            (
                DUPLICATE_KEY,
                3,
                "etcdserver: duplicate key given in txn request",
            ),
            (
                INVALID_CLIENT_API_VERSION,
                3,
                "etcdserver: invalid client api version",
            ),
            (INVALID_SORT_OPTION, 3, "etcdserver: invalid sort option"),
            (NO_SPACE, 8, "etcdserver: mvcc: database space exceeded"),
            (
                LEARNER_NOT_READY,
                9,
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
            (
                BAD_MEMBER_URLS,
                3,
                "etcdserver: given member URLs are invalid",
            ),
            (UNHEALTHY, 14, "etcdserver: unhealthy cluster"),
            (NOT_LEADER, 9, "etcdserver: not leader"),
            (DEADLINE_EXCEEDED, 4, "context deadline exceeded"),
            (CANCELED, 1, "context canceled"),
            (UNKNOWN_METHOD, 2, "etcdserver: unknown method"),
            (
                STREAM_SORT,
                12,
                "RangeStream does not support custom sort orders",
            ),
            (
                STREAM_FILTER,
                12,
                "RangeStream does not support revision filters",
            ),
        ];
        for (status, code, text) in table {
            assert_eq!((status.code() as i32, status.text()), (code, text));
        }
    }

    #[test]
    fn refused_watchers_have_etcds_reasons() {
        let table = [
            (
                Refused::Revision,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (Refused::EmptyRange, "mvcc: watcher range is empty"),
            (
                Refused::DuplicateId,
                "mvcc: duplicate watch ID provided on the WatchStream",
            ),
        ];
        for (why, text) in table {
            assert_eq!(watch_refusal(why), text);
        }
    }

    #[test]
    fn texts_beyond_printable_ascii_are_percent_encoded() {
        let status = Status::made(Code::Unknown, "100% \"ä\"\n".to_owned());
        assert_eq!(status.header(), "100%25 \"%C3%A4\"%0A");
    }

    #[test]
    fn a_message_beyond_the_limit_is_named_with_both_lengths() {
        let status = message_too_long(2_097_153, 2_097_152);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(
            status.text(),
            "grpc: received message larger than max (2097153 vs. 2097152)"
        );
    }
}
