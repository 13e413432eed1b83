//! Reading and writing keys, compaction and status: one request, one answer.

use bytes::Bytes;
use proto::etcd::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, PutRequest, RangeRequest,
    RangeResponse, ResponseHeader, StatusRequest, StatusResponse,
};
use proto::etcd::mvccpb::KeyValue;

use crate::{Client, Error, Keys};

/// How to read. The default reads everything that was ever acknowledged, at the newest revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Most keys to answer with; 0 for all.
    pub limit: i64,
    /// Revision to read at; 0 for the newest.
    pub revision: i64,
    /// Take what this server knows without asking the others: quicker, possibly old.
    pub serializable: bool,
    /// Leave the values out.
    pub keys_only: bool,
    /// Leave the keys out too.
    pub count_only: bool,
}

/// Keys in order, as they were at one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List {
    /// The newest revision of the store when it was read, also if an older one was asked for.
    pub revision: i64,
    /// The keys.
    pub kvs: Vec<KeyValue>,
    /// How many there are, whatever a limit left out.
    pub count: i64,
    /// Whether a limit left some out.
    pub more: bool,
}

/// What a deletion did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// The revision it made; the current one if there was nothing to delete.
    pub revision: i64,
    /// How many keys went.
    pub deleted: i64,
}

impl Client {
    /// Reads one key, as it is now.
    ///
    /// # Errors
    /// [`Error::Refused`] for an empty key; see [`Error`] for the rest.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<KeyValue>, Error> {
        let list = self.list(key.into(), ListOptions::default()).await?;
        Ok(list.kvs.into_iter().next())
    }

    /// Reads all keys that begin with `prefix`, as they are now, in order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_prefix(&self, prefix: impl Into<Bytes>) -> Result<List, Error> {
        self.list(Keys::prefix(prefix), ListOptions::default())
            .await
    }

    /// Reads keys in order.
    ///
    /// # Errors
    /// [`Error::Compacted`] or [`Error::Refused`] if `options` name a revision too old or too new.
    pub async fn list(&self, keys: impl Into<Keys>, options: ListOptions) -> Result<List, Error> {
        let request = range_request(keys.into(), options);
        Ok(self.answer(self.kv().range(request)).await?.into())
    }

    /// Writes a key and answers with the revision that this made.
    ///
    /// # Errors
    /// After [`Error::Unknown`] the value may have been written.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<i64, Error> {
        let request = PutRequest {
            key: key.into(),
            value: value.into(),
            ..PutRequest::default()
        };
        Ok(revision(&self.answer(self.kv().put(request)).await?.header))
    }

    /// Deletes keys, all at one revision.
    ///
    /// # Errors
    /// After [`Error::Unknown`] they may be gone.
    pub async fn delete(&self, keys: impl Into<Keys>) -> Result<Deleted, Error> {
        let (key, range_end) = keys.into().into_wire();
        let request = DeleteRangeRequest {
            key,
            range_end,
            prev_kv: false,
        };
        Ok(self.answer(self.kv().delete_range(request)).await?.into())
    }

    /// Gives up the history before `at`. What is current at that revision stays readable.
    ///
    /// # Errors
    /// [`Error::Compacted`] if that has been done already, [`Error::Refused`] if `at` is in the future.
    pub async fn compact(&self, at: i64) -> Result<(), Error> {
        let request = CompactionRequest {
            revision: at,
            physical: false,
        };
        self.answer(self.kv().compact(request)).await.map(drop)
    }

    /// Asks the server how it is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        self.answer(self.maintenance().status(StatusRequest {}))
            .await
    }
}

pub(crate) fn range_request(keys: Keys, options: ListOptions) -> RangeRequest {
    let (key, range_end) = keys.into_wire();
    RangeRequest {
        key,
        range_end,
        limit: options.limit,
        revision: options.revision,
        serializable: options.serializable,
        keys_only: options.keys_only,
        count_only: options.count_only,
        ..RangeRequest::default()
    }
}

/// The revision of an answer. Only an answer from inside a transaction may come without a header.
pub(crate) fn revision(header: &Option<ResponseHeader>) -> i64 {
    header.as_ref().map_or(0, |header| header.revision)
}

impl From<RangeResponse> for List {
    fn from(answer: RangeResponse) -> List {
        List {
            revision: revision(&answer.header),
            kvs: answer.kvs,
            count: answer.count,
            more: answer.more,
        }
    }
}

impl From<DeleteRangeResponse> for Deleted {
    fn from(answer: DeleteRangeResponse) -> Deleted {
        Deleted {
            revision: revision(&answer.header),
            deleted: answer.deleted,
        }
    }
}
