//! What an etcd snapshot holds, in the words of `etcdutl snapshot status`, with the whole file checked on the way.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use prost::Message as _;
use proto::etcd::mvccpb::KeyValue;

use super::{KEY, revision, storage_version};
use crate::bolt::BoltError;
use crate::bolt::read::Database;

/// A summary of a database file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C over all buckets, their names, keys and values.
    pub hash: u32,
    /// The newest revision in it.
    pub revision: i64,
    /// Live keys.
    pub total_keys: u64,
    /// Bytes of the database, without the digest.
    pub total_size: u64,
    /// The storage version; empty before 3.6.
    pub version: String,
}

/// Reads a whole file. `progress` is told the bytes of the items read so far, from time to time.
pub fn status(database: &Database<'_>, progress: &mut dyn FnMut(u64)) -> Result<Status, BoltError> {
    let mut status = Status {
        hash: 0,
        revision: 0,
        total_keys: 0,
        total_size: database.size(),
        version: storage_version(database)?.unwrap_or_default(),
    };
    let mut seen = database.seen();
    let mut live = HashSet::new();
    let mut read: u64 = 0;
    for (name, bucket) in database.buckets(&mut seen)? {
        status.hash = crc32c::crc32c_append(status.hash, &name);
        let mut items = bucket.items(&mut seen);
        let mut count: u64 = 0;
        while let Some(item) = items.next()? {
            status.hash = crc32c::crc32c_append(status.hash, item.key);
            status.hash = crc32c::crc32c_append(status.hash, item.value);
            read += (item.key.len() + item.value.len()) as u64;
            count += 1;
            if count.is_multiple_of(4096) {
                progress(read);
            }
            if name == KEY.as_bytes() {
                let version =
                    (|| Some((revision(item.key)?, KeyValue::decode(item.value).ok()?)))();
                let Some(((main, _, is_deletion), version)) = version else {
                    return Err(BoltError::Damaged {
                        page: items.page(),
                        what: "a version in bucket key cannot be read".to_owned(),
                    });
                };
                status.revision = main;
                let digest = digest(&version.key);
                if is_deletion {
                    live.remove(&digest);
                } else {
                    live.insert(digest);
                }
            }
        }
    }
    database.check_free(&mut seen)?;
    status.total_keys = live.len() as u64;
    Ok(status)
}

/// Stands for a key of any length; two are as good as never alike.
fn digest(key: &[u8]) -> (u64, u64) {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, key).hash(&mut hasher);
        hasher.finish()
    };
    (half(0), half(1))
}
