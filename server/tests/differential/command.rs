//! What is sent to both servers, and what comes back, in a form that can be compared and printed.

use proto::etcd::etcdserverpb::{
    AlarmRequest, AlarmResponse, CompactionRequest, CompactionResponse, DeleteRangeRequest,
    DeleteRangeResponse, HashKvRequest, HashKvResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, TxnRequest, TxnResponse, WatchCreateRequest,
};
use proto::etcd::mvccpb::Event;
use tonic::{Code, Status};

/// One step of a run.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Range(RangeRequest),
    RangeStream(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    HashKv(HashKvRequest),
    Alarm(AlarmRequest),
    /// Watch from some revision on until everything so far is told.
    Watch(WatchCreateRequest),
    /// Begin to watch. What happens from here on is compared at the next [`Command::Unfollow`].
    Follow(WatchCreateRequest),
    Unfollow,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Range(RangeResponse),
    RangeStream(Streamed),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactionResponse),
    HashKv(HashKvResponse),
    Alarm(AlarmResponse),
    Watched(Watched),
    Refused(Code, String),
    /// Nothing to compare.
    Nothing,
}

/// A `RangeStream`, put together. How it is cut is each server's own affair.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Streamed {
    pub(crate) whole: RangeResponse,
    /// Rules that the pieces break.
    pub(crate) faults: Vec<&'static str>,
    /// The refusal that ended it.
    pub(crate) refused: Option<(Code, String)>,
}

/// What a watcher was told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Watched {
    pub(crate) created_at: i64,
    pub(crate) watch_id: i64,
    pub(crate) refusal: Option<String>,
    pub(crate) events: Vec<Event>,
    /// Compact revision and reason, if the watcher was ended.
    pub(crate) canceled: Option<(i64, String)>,
    /// Rules that the responses break.
    pub(crate) faults: Vec<&'static str>,
}

impl Command {
    /// For the table of what was sent.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Range(_) => "Range",
            Self::RangeStream(_) => "RangeStream",
            Self::Put(_) => "Put",
            Self::DeleteRange(_) => "DeleteRange",
            Self::Txn(_) => "Txn",
            Self::Compact(_) => "Compact",
            Self::HashKv(_) => "HashKV",
            Self::Alarm(_) => "Alarm",
            Self::Watch(_) => "Watch",
            Self::Follow(_) => "Follow",
            Self::Unfollow => "Unfollow",
        }
    }
}

impl Answer {
    /// A refusal, or what `make` makes of the message.
    pub(crate) fn of<T>(
        result: Result<tonic::Response<T>, Status>,
        make: impl FnOnce(T) -> Self,
    ) -> Self {
        match result {
            Ok(response) => make(response.into_inner()),
            Err(status) => Self::Refused(status.code(), status.message().to_owned()),
        }
    }

    /// The store's revision when it was made, if it tells.
    pub(crate) fn revision(&self) -> Option<i64> {
        let header = match self {
            Self::Range(answer) => &answer.header,
            Self::RangeStream(answer) => &answer.whole.header,
            Self::Put(answer) => &answer.header,
            Self::DeleteRange(answer) => &answer.header,
            Self::Txn(answer) => &answer.header,
            Self::Compact(answer) => &answer.header,
            Self::HashKv(answer) => &answer.header,
            Self::Alarm(answer) => &answer.header,
            Self::Watched(_) | Self::Refused(..) | Self::Nothing => return None,
        };
        header.as_ref().map(|header| header.revision)
    }

    /// For the table of what came back: the refusal's text, or that there was none.
    pub(crate) fn outcome(&self) -> &str {
        match self {
            Self::Refused(_, text) => text,
            Self::RangeStream(streamed) => streamed.refused.as_ref().map_or("ok", |(_, text)| text),
            Self::Watched(watched) => match (&watched.refusal, &watched.canceled) {
                (Some(reason), _) => reason,
                (None, Some(_)) => "canceled",
                (None, None) => "ok",
            },
            _ => "ok",
        }
    }
}
