//! etcd's state as etcd keeps it: what its buckets hold, to take it over and to hand it out.
//!
//! | bucket | key | value |
//! | --- | --- | --- |
//! | `key` | main revision (8 bytes BE), `_`, sub-revision (8 bytes BE), `t` if it is a deletion | `mvccpb.KeyValue`; of a deletion, its key alone |
//! | `meta` | `consistent_index`, `term` | 8 bytes BE: the last entry applied |
//! | `meta` | `scheduledCompactRev`, `finishedCompactRev` | a revision as in `key` |
//! | `meta` | `confState`, `storageVersion` | JSON; text, since 3.6 |
//! | `lease`, `auth`, `authUsers`, `authRoles` | see [`KEPT`] | |
//! | `alarm` | `AlarmMember` | nothing |
//! | `cluster`, `members`, `members_removed` | names and member ids | text and JSON |

pub mod export;
pub mod import;
mod sort;
pub mod status;

use crate::bolt::BoltError;
use crate::bolt::read::Database;

/// All buckets of etcd 3.7, in the order of their names.
const BUCKETS: [&str; 10] = [
    "alarm",
    "auth",
    "authRoles",
    "authUsers",
    "cluster",
    KEY,
    "lease",
    "members",
    "members_removed",
    META,
];
const KEY: &str = "key";
const META: &str = "meta";

/// Buckets that mean nothing here yet: taken over and handed out as they are.
pub const KEPT: [&str; 4] = ["auth", "authRoles", "authUsers", "lease"];

const CONSISTENT_INDEX: &str = "consistent_index";
const TERM: &str = "term";
const CONF_STATE: &str = "confState";
const STORAGE_VERSION: &str = "storageVersion";
const SCHEDULED_COMPACTION: &str = "scheduledCompactRev";
const FINISHED_COMPACTION: &str = "finishedCompactRev";

/// A revision that no cluster reaches. A file that names a higher one is damaged, and would leave no room to go on.
const MAX_REVISION: i64 = 1 << 62;

/// Appends a key of the bucket `key`.
fn put_revision(out: &mut Vec<u8>, main: i64, sub: u32, is_deletion: bool) {
    out.extend_from_slice(&main.to_be_bytes());
    out.push(b'_');
    out.extend_from_slice(&u64::from(sub).to_be_bytes());
    if is_deletion {
        out.push(b't');
    }
}

/// Reads a key of the bucket `key`: main and sub-revision, and whether it is a deletion.
fn revision(stored: &[u8]) -> Option<(i64, u64, bool)> {
    let (main, rest) = stored.split_first_chunk::<8>()?;
    let (sub, mark) = rest.strip_prefix(b"_")?.split_first_chunk::<8>()?;
    let (main, sub) = (i64::from_be_bytes(*main), i64::from_be_bytes(*sub));
    let is_deletion = match mark {
        b"" => false,
        // etcd takes any other byte for no mark, and never writes one.
        [mark] => *mark == b't',
        _ => return None,
    };
    (0..MAX_REVISION)
        .contains(&main)
        .then_some((main, u64::try_from(sub).ok()?, is_deletion))
}

/// A value of a small bucket.
fn value_of(
    database: &Database<'_>,
    bucket: &str,
    key: &str,
) -> Result<Option<Vec<u8>>, BoltError> {
    let Some(bucket) = database.bucket(bucket.as_bytes())? else {
        return Ok(None);
    };
    let mut seen = database.seen();
    let mut items = bucket.items(&mut seen);
    while let Some(item) = items.next()? {
        if item.key == key.as_bytes() {
            return Ok(Some(item.value.to_vec()));
        }
    }
    Ok(None)
}

/// The version of etcd whose storage this is; none before 3.6.
fn storage_version(database: &Database<'_>) -> Result<Option<String>, BoltError> {
    let stored = value_of(database, META, STORAGE_VERSION)?;
    Ok(stored
        .and_then(|text| String::from_utf8(text).ok())
        .filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_written_and_read_as_etcd_does() {
        for expected in [
            (1, 0, false),
            (MAX_REVISION - 1, 7, true),
            (258, u32::MAX, false),
        ] {
            let mut stored = Vec::new();
            put_revision(&mut stored, expected.0, expected.1, expected.2);
            let (main, sub, is_deletion) = revision(&stored).unwrap();
            assert_eq!((main, u32::try_from(sub).unwrap(), is_deletion), expected);
        }
        let mut stored = Vec::new();
        put_revision(&mut stored, 258, 3, true);
        assert_eq!(stored, b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03t");
        for wrong in [
            &stored[..16],
            b"",
            b"\0\0\0\0\0\0\x01\x02-\0\0\0\0\0\0\0\x03",
            &[0xff; 17],
        ] {
            assert_eq!(revision(wrong), None);
        }
    }
}
