//! Every column family, key form and stored value. Nothing outside this file builds or reads one.
//!
//! | family | key | value |
//! | --- | --- | --- |
//! | `kv` | escaped user key, `!mod_revision` (8 bytes BE) | op (1 byte), sub-revision (varint), record |
//! | `kv`, superseded | a key as above, sub-revision (4 bytes BE) | as above |
//! | `tip` | user key | varints: mod, create, version, lease, value length |
//! | `log` | revision (8 bytes BE), sub-revision (4 bytes BE) | op (1 byte), user key |
//! | `meta` | a name | see [`META_FORMAT`], [`META_STATE`], [`META_SWEPT`], [`META_ALARMS`], [`META_MEMBERS`], [`META_INSTALLED`], `put_lease_key` and `kept_prefix` |
//!
//! - `kv` holds each version once, newest first within a key. The escape (0x00 becomes 0x00 0xFF, the end is
//!   0x00 0x00) keeps keys in byte order although revisions follow them.
//! - A transaction may write a key more than once, in one revision. The last of these versions has the plain `kv`
//!   key; the superseded ones stand right behind it. No read at any revision shows them, only the history does.
//! - `tip` holds live keys only; it is what the index is rebuilt from.
//! - `log` gives the changes of a revision in their order.
//! - The sub-revision of a version is kept beside it because hashes and exports need it.

use prost::Message as _;
use proto::command::{Lease, MemberTable};

use crate::alarm::Alarms;
use crate::engine::Family;
use crate::entry::{LogId, Membership};
use crate::error::StoreError;
use crate::leases::Term;
use crate::members::Members;
use crate::record::{Record, Tags, Tip};
use crate::snapshot::{SnapshotName, StoredMembership};

/// The format of the whole database, in [`META_FORMAT`].
pub const FORMAT: u64 = 1;
/// `meta`: a varint, [`FORMAT`].
pub const META_FORMAT: &[u8] = b"format";
/// `meta`: an encoded [`SnapshotName`], written with every batch; one value, so that it is read as one.
pub const META_STATE: &[u8] = b"state";
/// `meta`: how far the sweep of compacted revisions has come, as varints: the revision that `log` begins with, then
/// revision and sub-revision of the first change that is not swept. Each member's own affair.
pub const META_SWEPT: &[u8] = b"swept";
/// `meta`: the alarms that are on, as varints: type and member of each. Absent before the first.
pub const META_ALARMS: &[u8] = b"alarms";
/// `meta`: the members that the cluster is to have, as an encoded [`MemberTable`]. Absent before the first.
pub const META_MEMBERS: &[u8] = b"members";
/// `meta`: term and index of the entry that the state was at when this member took it over from another one, as varints.
/// Absent if it never did. Each member's own affair.
pub const META_INSTALLED: &[u8] = b"installed";

/// `meta`: what the names of items begin with that came in an etcd snapshot's bucket and mean nothing here yet. The
/// item's own key follows; the value is as it was.
pub(crate) fn kept_prefix(bucket: &str) -> Vec<u8> {
    [b"etcd/", bucket.as_bytes(), b"/"].concat()
}

/// Appends the `meta` key of a lease: as of an item of etcd's bucket `lease`.
pub(crate) fn put_lease_key(out: &mut Vec<u8>, id: i64) {
    out.extend_from_slice(LEASE_PREFIX);
    out.extend_from_slice(&id.to_be_bytes());
}

/// What the names of leases begin with: [`kept_prefix`] of `lease`.
const LEASE_PREFIX: &[u8] = b"etcd/lease/";

/// All leases are from the first of these on, and before the second.
pub(crate) fn lease_bounds() -> (Vec<u8>, Vec<u8>) {
    let mut end = LEASE_PREFIX.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    (LEASE_PREFIX.to_vec(), end)
}

/// Appends the `meta` value of a lease: etcd's.
pub(crate) fn put_lease(out: &mut Vec<u8>, id: i64, term: Term) {
    let lease = Lease {
        id,
        ttl: term.ttl,
        remaining_ttl: term.remaining,
    };
    out.extend_from_slice(&lease.encode_to_vec());
}

/// Reads a lease.
pub(crate) fn lease(key: &[u8], stored: &[u8]) -> Result<(i64, Term), StoreError> {
    let damaged = || StoreError::damaged("a lease in family meta cannot be read");
    let id = key
        .strip_prefix(LEASE_PREFIX)
        .and_then(|id| id.try_into().ok());
    let id = i64::from_be_bytes(id.ok_or_else(damaged)?);
    let lease = Lease::decode(stored).map_err(|_| damaged())?;
    if lease.id != id || lease.ttl < 0 || lease.remaining_ttl < 0 {
        return Err(damaged());
    }
    let term = Term {
        ttl: lease.ttl,
        remaining: lease.remaining_ttl,
    };
    Ok((id, term))
}

/// A family's name in the engine.
pub const fn name(family: Family) -> &'static str {
    match family {
        Family::Kv => "kv",
        Family::Tip => "tip",
        Family::Log => "log",
        Family::Meta => "meta",
    }
}

/// What a version does to its key; the number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a value.
    Put = 0,
    /// Removes the key.
    Delete = 1,
}

impl Op {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Put),
            1 => Some(Self::Delete),
            _ => None,
        }
    }
}

/// Numbers as protobuf writes them: seven bits a byte, lowest first.
pub(crate) mod varint {
    /// Appends a number.
    pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
        while number >= 0x80 {
            out.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        out.push((number & 0x7f) as u8);
    }

    /// Takes a number from the front.
    pub(crate) fn take(rest: &mut &[u8]) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, tail) = rest.split_first()?;
            *rest = tail;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // The tenth byte holds one bit.
                return (shift < 63 || byte <= 1).then_some(number);
            }
        }
        None
    }
}

/// Appends the `kv` key of one version of `key`.
pub fn put_kv_key(out: &mut Vec<u8>, key: &[u8], mod_revision: i64) {
    put_kv_prefix(out, key);
    out.extend_from_slice(&(!mod_revision.cast_unsigned()).to_be_bytes());
}

/// Appends the `kv` key of a version that a later write of the same revision superseded.
pub fn put_superseded_kv_key(out: &mut Vec<u8>, key: &[u8], mod_revision: i64, sub: u32) {
    put_kv_key(out, key, mod_revision);
    out.extend_from_slice(&sub.to_be_bytes());
}

/// Appends what all `kv` keys of `key`, and no others, begin with.
pub fn put_kv_prefix(out: &mut Vec<u8>, key: &[u8]) {
    put_kv_bound(out, key);
    out.extend_from_slice(&[0, 0]);
}

/// Appends a bound: below all `kv` keys of user keys at or above `key`, above those of smaller ones.
pub fn put_kv_bound(out: &mut Vec<u8>, key: &[u8]) {
    let mut rest = key;
    while let Some(zero) = rest.iter().position(|&byte| byte == 0) {
        out.extend_from_slice(&rest[..zero]);
        out.extend_from_slice(&[0, 0xff]);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends a bound just above all `kv` keys of `key`.
pub fn put_kv_after(out: &mut Vec<u8>, key: &[u8]) {
    put_kv_bound(out, key);
    out.extend_from_slice(&[0, 1]);
}

/// The parts of a `kv` key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvKey<'a> {
    /// The escaped user key, end included.
    pub escaped: &'a [u8],
    /// The revision of the version.
    pub mod_revision: i64,
    /// The sub-revision, if a later write of the same revision superseded the version.
    pub superseded: Option<u32>,
}

/// Splits a `kv` key.
pub fn split_kv_key(stored: &[u8]) -> Result<KvKey<'_>, StoreError> {
    // The longer form goes first: an escaped key has two zero bytes in a row nowhere but at its end, so in a plain
    // key they cannot stand four bytes before that, while in a superseded one the revision may look like an end.
    let superseded = stored
        .split_last_chunk::<4>()
        .and_then(|(plain, sub)| Some((split_plain(plain)?, Some(u32::from_be_bytes(*sub)))));
    match superseded.or_else(|| Some((split_plain(stored)?, None))) {
        Some(((escaped, mod_revision), superseded)) => Ok(KvKey {
            escaped,
            mod_revision,
            superseded,
        }),
        None => Err(StoreError::damaged(
            "a key in family kv has no end mark or no revision",
        )),
    }
}

fn split_plain(stored: &[u8]) -> Option<(&[u8], i64)> {
    let (escaped, revision) = stored.split_last_chunk::<8>()?;
    let mod_revision = (!u64::from_be_bytes(*revision)).cast_signed();
    escaped
        .ends_with(&[0, 0])
        .then_some((escaped, mod_revision))
}

/// Undoes the escape of [`KvKey::escaped`].
pub fn unescape(escaped: &[u8]) -> Result<Vec<u8>, StoreError> {
    let damaged = || StoreError::damaged("a key in family kv is escaped wrongly");
    let mut rest = escaped.strip_suffix(&[0, 0]).ok_or_else(damaged)?;
    let mut key = Vec::with_capacity(rest.len());
    while let Some(zero) = rest.iter().position(|&byte| byte == 0) {
        if rest.get(zero + 1) != Some(&0xff) {
            return Err(damaged());
        }
        key.extend_from_slice(&rest[..=zero]);
        rest = &rest[zero + 2..];
    }
    key.extend_from_slice(rest);
    Ok(key)
}

/// Appends the `kv` value of a version.
pub fn put_kv_value(out: &mut Vec<u8>, op: Op, sub: u32, record: &Record) {
    out.push(op as u8);
    varint::put(out, u64::from(sub));
    out.extend_from_slice(record.encoded());
}

/// What a `kv` value says before its record.
pub fn kv_op(stored: &[u8]) -> Result<Op, StoreError> {
    let op = stored.first().copied().and_then(Op::from_byte);
    op.ok_or_else(|| StoreError::damaged("a version in family kv does an unknown thing"))
}

/// Reads a `kv` value.
pub fn kv_value(stored: &[u8]) -> Result<(Op, u32, Record), StoreError> {
    let (op, sub, encoded) = kv_parts(stored)?;
    Ok((op, sub, Record::from_encoded(encoded)?))
}

/// What a `kv` value is made of; the record stays encoded, and unread.
pub fn kv_parts(stored: &[u8]) -> Result<(Op, u32, &[u8]), StoreError> {
    let op = kv_op(stored)?;
    let mut rest = &stored[1..];
    let sub = varint::take(&mut rest).and_then(|sub| u32::try_from(sub).ok());
    let sub =
        sub.ok_or_else(|| StoreError::damaged("a version in family kv has no sub-revision"))?;
    Ok((op, sub, rest))
}

/// The part of an encoded record that holds its key, as an encoded message of its own.
pub(crate) fn encoded_key_field(encoded: &[u8]) -> Result<&[u8], StoreError> {
    let mut rest = encoded.get(1..).unwrap_or_default();
    let field = varint::take(&mut rest).and_then(|len| {
        let head = encoded.len() - rest.len();
        encoded.get(..head.checked_add(usize::try_from(len).ok()?)?)
    });
    field.ok_or_else(|| StoreError::damaged("a stored version is not an encoded key-value pair"))
}

/// Appends the `tip` value of a live key.
pub(crate) fn put_tip_value(out: &mut Vec<u8>, tags: &Tags) {
    varint::put(out, tags.mod_revision.cast_unsigned());
    varint::put(out, tags.create_revision.cast_unsigned());
    varint::put(out, tags.version.cast_unsigned());
    varint::put(out, tags.lease.cast_unsigned());
    varint::put(out, tags.value_len);
}

/// Reads an item of the `tip` family, whose key is the user key, as a tip without its value.
pub(crate) fn tip(scratch: &mut Vec<u8>, key: &[u8], stored: &[u8]) -> Result<Tip, StoreError> {
    let mut rest = stored;
    let mut next = || varint::take(&mut rest);
    let tags = (|| {
        Some(Tags {
            mod_revision: next()?.cast_signed(),
            create_revision: next()?.cast_signed(),
            version: next()?.cast_signed(),
            lease: next()?.cast_signed(),
            value_len: next()?,
        })
    })();
    match tags {
        // Lengths are added up without a look at each: none may come near to what a number holds.
        Some(tags) if rest.is_empty() && tags.value_len <= u64::from(u32::MAX) => {
            Ok(Tip::stripped(scratch, key, &tags))
        }
        _ => Err(StoreError::damaged(
            "an item of family tip is not five numbers of a version",
        )),
    }
}

/// Appends the `log` key of a change.
pub fn put_log_key(out: &mut Vec<u8>, revision: i64, sub: u32) {
    out.extend_from_slice(&revision.cast_unsigned().to_be_bytes());
    out.extend_from_slice(&sub.to_be_bytes());
}

/// The `log` key that all changes of `revision` and later ones stand at or behind.
pub fn log_bound(revision: i64) -> [u8; 8] {
    revision.cast_unsigned().to_be_bytes()
}

/// Reads a `log` key.
pub fn log_key(stored: &[u8]) -> Result<(i64, u32), StoreError> {
    let parts = stored.split_first_chunk::<8>().and_then(|(revision, sub)| {
        let sub = u32::from_be_bytes(sub.try_into().ok()?);
        Some((u64::from_be_bytes(*revision).cast_signed(), sub))
    });
    parts.ok_or_else(|| StoreError::damaged("a key in family log is not twelve bytes long"))
}

/// Appends the `log` value of a change.
pub fn put_log_value(out: &mut Vec<u8>, op: Op, key: &[u8]) {
    out.push(op as u8);
    out.extend_from_slice(key);
}

/// Reads a `log` value.
pub fn log_value(stored: &[u8]) -> Result<(Op, &[u8]), StoreError> {
    let parts = stored
        .split_first()
        .and_then(|(&op, key)| Some((Op::from_byte(op)?, key)));
    parts.ok_or_else(|| StoreError::damaged("a change in family log does an unknown thing"))
}

/// The value of [`META_FORMAT`].
pub fn format_value() -> Vec<u8> {
    let mut out = Vec::new();
    varint::put(&mut out, FORMAT);
    out
}

/// Reads [`META_FORMAT`].
pub fn format(stored: &[u8]) -> Result<u64, StoreError> {
    let mut rest = stored;
    varint::take(&mut rest)
        .filter(|_| rest.is_empty())
        .ok_or_else(|| StoreError::damaged("the format in family meta is not a number"))
}

/// Appends the value of [`META_STATE`]; `membership` is [`Membership::encode`]d, since it rarely changes.
pub(crate) fn put_state(
    out: &mut Vec<u8>,
    applied: LogId,
    membership: (Option<LogId>, &[u8]),
    revision: i64,
    compact_revision: i64,
    retained_revision: i64,
) {
    let (membership_id, membership) = membership;
    put_log_id(out, applied);
    varint::put(out, u64::from(membership_id.is_some()));
    put_log_id(out, membership_id.unwrap_or_default());
    varint::put(out, membership.len() as u64);
    out.extend_from_slice(membership);
    for revision in [revision, compact_revision, retained_revision] {
        varint::put(out, revision.cast_unsigned());
    }
}

/// Appends a name as [`META_STATE`] has it.
pub(crate) fn put_name(out: &mut Vec<u8>, name: &SnapshotName) {
    let membership = name.membership.membership.encode();
    put_state(
        out,
        name.applied,
        (name.membership.log_id, &membership),
        name.revision,
        name.compact_revision,
        name.retained_revision,
    );
}

/// Reads [`META_STATE`].
pub fn state(stored: &[u8]) -> Result<SnapshotName, StoreError> {
    let mut rest = stored;
    parse_state(&mut rest)
        .filter(|name| rest.is_empty() && is_possible(name))
        .ok_or_else(|| StoreError::damaged("the state in family meta cannot be read"))
}

/// Reads [`META_INSTALLED`].
pub(crate) fn installed(stored: &[u8]) -> Result<LogId, StoreError> {
    let mut rest = stored;
    take_log_id(&mut rest)
        .filter(|_| rest.is_empty())
        .ok_or_else(|| {
            StoreError::damaged("the mark of an installation in family meta cannot be read")
        })
}

/// Where a sweep stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SweptTo {
    /// The part of `log` below this revision is gone.
    pub(crate) cleared: i64,
    /// The first change not swept yet: its revision and sub-revision.
    pub(crate) next: (i64, u32),
}

/// Appends the value of [`META_SWEPT`].
pub(crate) fn put_swept(out: &mut Vec<u8>, swept: &SweptTo) {
    varint::put(out, swept.cleared.cast_unsigned());
    varint::put(out, swept.next.0.cast_unsigned());
    varint::put(out, u64::from(swept.next.1));
}

/// Reads [`META_SWEPT`].
pub(crate) fn swept(stored: &[u8]) -> Result<SweptTo, StoreError> {
    let mut rest = stored;
    let parsed = (|| {
        Some(SweptTo {
            cleared: varint::take(&mut rest)?.cast_signed(),
            next: (
                varint::take(&mut rest)?.cast_signed(),
                u32::try_from(varint::take(&mut rest)?).ok()?,
            ),
        })
    })();
    parsed.filter(|_| rest.is_empty()).ok_or_else(|| {
        StoreError::damaged("the position of the sweep in family meta cannot be read")
    })
}

/// Whether a state can be meant: nobody checks again that a revision has a successor.
fn is_possible(name: &SnapshotName) -> bool {
    let revisions = -1..=name.revision;
    (1..i64::MAX).contains(&name.revision)
        && revisions.contains(&name.compact_revision)
        && revisions.contains(&name.retained_revision)
        && name.applied.index < u64::MAX
}

fn parse_state(rest: &mut &[u8]) -> Option<SnapshotName> {
    let applied = take_log_id(rest)?;
    let has_membership = varint::take(rest)?;
    let membership_id = take_log_id(rest)?;
    let len = usize::try_from(varint::take(rest)?).ok()?;
    let (membership, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    let mut revision = || varint::take(rest).map(u64::cast_signed);
    Some(SnapshotName {
        applied,
        membership: StoredMembership {
            log_id: (has_membership == 1).then_some(membership_id),
            membership: Membership::decode(membership).ok()?,
        },
        revision: revision()?,
        compact_revision: revision()?,
        retained_revision: revision()?,
    })
}

/// Appends the value of [`META_ALARMS`].
pub(crate) fn put_alarms(out: &mut Vec<u8>, alarms: &Alarms) {
    for (alarm, member) in alarms.iter() {
        // As protobuf has it, a number below zero takes ten bytes.
        varint::put(out, i64::from(alarm).cast_unsigned());
        varint::put(out, member);
    }
}

/// Reads [`META_ALARMS`].
pub fn alarms(stored: &[u8]) -> Result<Alarms, StoreError> {
    let mut rest = stored;
    let mut next = || {
        let alarm = i32::try_from(varint::take(&mut rest)?.cast_signed()).ok()?;
        Some((alarm, varint::take(&mut rest)?))
    };
    let mut active = Vec::new();
    while let Some(alarm) = next() {
        active.push(alarm);
    }
    let alarms = Alarms::from_iter(active);
    let mut again = Vec::with_capacity(stored.len());
    put_alarms(&mut again, &alarms);
    if again != stored {
        return Err(StoreError::damaged(
            "the alarms in family meta cannot be read",
        ));
    }
    Ok(alarms)
}

/// Appends the value of [`META_MEMBERS`].
pub(crate) fn put_members(out: &mut Vec<u8>, members: &Members) {
    out.extend_from_slice(&members.to_table().encode_to_vec());
}

/// Reads [`META_MEMBERS`].
pub fn members(stored: &[u8]) -> Result<Members, StoreError> {
    let members = MemberTable::decode(stored).ok().and_then(|table| {
        let members = Members::from_table(table)?;
        // There is one way to write a table down; what a newer version added would be lost with the next change.
        (members.to_table().encode_to_vec() == stored).then_some(members)
    });
    members.ok_or_else(|| StoreError::damaged("the members in family meta cannot be read"))
}

pub(crate) fn put_log_id(out: &mut Vec<u8>, id: LogId) {
    varint::put(out, id.term);
    varint::put(out, id.index);
}

fn take_log_id(rest: &mut &[u8]) -> Option<LogId> {
    Some(LogId {
        term: varint::take(rest)?,
        index: varint::take(rest)?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use proto::etcd::etcdserverpb::Member;

    use super::*;
    use crate::record::Fields;

    fn random_key(random: &mut StdRng) -> Vec<u8> {
        let len = random.random_range(0..6);
        (0..len)
            .map(|_| {
                *[0, 1, 0x7f, 0xfe, 0xff]
                    .get(random.random_range(0..5))
                    .unwrap()
            })
            .collect()
    }

    fn random_revision(random: &mut StdRng) -> i64 {
        if random.random_bool(0.5) {
            random.random_range(0..5)
        } else {
            random.random_range(0..=i64::MAX)
        }
    }

    /// A plain `kv` key, or that of a version superseded at this sub-revision.
    fn any_kv_key(key: &[u8], revision: i64, superseded: Option<u32>) -> Vec<u8> {
        let mut out = Vec::new();
        match superseded {
            None => put_kv_key(&mut out, key, revision),
            Some(sub) => put_superseded_kv_key(&mut out, key, revision, sub),
        }
        out
    }

    fn random_superseded(random: &mut StdRng) -> Option<u32> {
        let subs = [0, 1, 0xff, 0xffff, u32::MAX];
        random
            .random_bool(0.5)
            .then(|| subs[random.random_range(0..5)])
    }

    /// Also one whose stored bytes hold what looks like the end of a key.
    fn random_kv_revision(random: &mut StdRng) -> i64 {
        if random.random_bool(0.5) {
            return random_revision(random);
        }
        random_revision(random) | 0xffff << (8 * random.random_range(0..6))
    }

    #[test]
    fn kv_keys_round_trip() {
        eprintln!("seed 21");
        let mut random = StdRng::seed_from_u64(21);
        for _ in 0..5000 {
            let (key, revision) = (random_key(&mut random), random_kv_revision(&mut random));
            let superseded = random_superseded(&mut random);
            let stored = any_kv_key(&key, revision, superseded);
            let found = split_kv_key(&stored).unwrap();
            assert_eq!(
                (found.mod_revision, found.superseded),
                (revision, superseded)
            );
            assert_eq!(unescape(found.escaped).unwrap(), key);
        }
        assert!(split_kv_key(b"k\0\0revision-and-more").is_err());
        assert!(split_kv_key(b"\0\0short").is_err());
    }

    #[test]
    fn kv_keys_stand_in_key_order_and_newest_first_and_superseded_ones_behind_their_plain_one() {
        eprintln!("seed 22");
        let mut random = StdRng::seed_from_u64(22);
        for _ in 0..5000 {
            let (left, right) = (random_key(&mut random), random_key(&mut random));
            let (older, newer) = (random_revision(&mut random), random_revision(&mut random));
            let (one, other) = (
                random_superseded(&mut random),
                random_superseded(&mut random),
            );
            // `None`, the plain key, is the least.
            let expected = left
                .cmp(&right)
                .then(newer.cmp(&older))
                .then(one.cmp(&other));
            assert_eq!(
                any_kv_key(&left, older, one).cmp(&any_kv_key(&right, newer, other)),
                expected,
                "{left:?} {right:?}"
            );
        }
    }

    #[test]
    fn kv_bounds_enclose_exactly_the_versions_they_mean() {
        eprintln!("seed 23");
        let mut random = StdRng::seed_from_u64(23);
        for _ in 0..5000 {
            let (key, other) = (random_key(&mut random), random_key(&mut random));
            let superseded = random_superseded(&mut random);
            let stored = any_kv_key(&other, random_revision(&mut random), superseded);
            let (mut bound, mut prefix, mut after) = (Vec::new(), Vec::new(), Vec::new());
            put_kv_bound(&mut bound, &key);
            put_kv_prefix(&mut prefix, &key);
            put_kv_after(&mut after, &key);
            assert_eq!(stored >= bound, other >= key, "{key:?} {other:?}");
            assert_eq!(stored.starts_with(&prefix), other == key);
            assert_eq!(stored >= prefix && stored < after, other == key);
        }
    }

    #[test]
    fn kv_values_round_trip() {
        let put = Record::new(&Fields {
            key: b"k",
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            value: b"v",
            lease: 1,
        });
        let delete = Record::tombstone(&mut Vec::new(), b"k", 4);
        for (op, sub, record) in [(Op::Put, 0, put), (Op::Delete, u32::MAX, delete)] {
            let mut stored = Vec::new();
            put_kv_value(&mut stored, op, sub, &record);
            assert_eq!(kv_op(&stored).unwrap(), op);
            assert_eq!(kv_value(&stored).unwrap(), (op, sub, record));
        }
        assert!(kv_value(&[]).is_err() && kv_value(&[2, 0, 0x0a]).is_err());
    }

    #[test]
    fn tip_items_round_trip() {
        eprintln!("seed 24");
        let mut random = StdRng::seed_from_u64(24);
        for _ in 0..1000 {
            let tags = Tags {
                create_revision: random_revision(&mut random),
                mod_revision: random_revision(&mut random),
                version: random_revision(&mut random),
                lease: random_revision(&mut random),
                value_len: random.random_range(0..3),
            };
            let (key, mut stored) = (random_key(&mut random), Vec::new());
            put_tip_value(&mut stored, &tags);
            let read = tip(&mut Vec::new(), &key, &stored).unwrap();
            assert_eq!((read.key(), read.tags()), (&*key, tags));
            stored.push(0);
            assert!(tip(&mut Vec::new(), &key, &stored).is_err());
        }
    }

    #[test]
    fn log_items_round_trip_in_the_order_of_revision_and_sub_revision() {
        eprintln!("seed 25");
        let mut random = StdRng::seed_from_u64(25);
        let mut items = BTreeSet::new();
        for _ in 0..500 {
            items.insert((random_revision(&mut random), random.random_range(0..3_u32)));
        }
        let stored: Vec<_> = items
            .iter()
            .map(|&(revision, sub)| {
                let mut out = Vec::new();
                put_log_key(&mut out, revision, sub);
                assert_eq!(log_key(&out).unwrap(), (revision, sub));
                assert!(out.as_slice() >= &log_bound(revision)[..]);
                out
            })
            .collect();
        assert!(stored.is_sorted());
        let mut value = Vec::new();
        put_log_value(&mut value, Op::Delete, b"key");
        assert_eq!(log_value(&value).unwrap(), (Op::Delete, &b"key"[..]));
    }

    #[test]
    fn the_state_round_trips() {
        let membership = Membership {
            voters: vec![[1, 2].into(), [2, 3].into()],
            members: [1, 2, 3, 4].into(),
        };
        for log_id in [None, Some(LogId { term: 1, index: 0 })] {
            let name = SnapshotName {
                applied: LogId {
                    term: 3,
                    index: 1 << 40,
                },
                membership: StoredMembership {
                    log_id,
                    membership: membership.clone(),
                },
                revision: 1 << 50,
                compact_revision: -1,
                retained_revision: -1,
            };
            let mut stored = Vec::new();
            put_state(
                &mut stored,
                name.applied,
                (log_id, &membership.encode()),
                name.revision,
                -1,
                -1,
            );
            assert_eq!(state(&stored).unwrap(), name);
            assert!(state(&stored[..stored.len() - 1]).is_err());
        }
        assert_eq!(format(&format_value()).unwrap(), FORMAT);
    }

    #[test]
    fn alarms_round_trip() {
        for active in [
            vec![],
            vec![(1, 7)],
            vec![(-1, 0), (1, 7), (1, u64::MAX), (2, 7), (i32::MAX, 1)],
        ] {
            let active = Alarms::from_iter(active);
            let mut stored = Vec::new();
            put_alarms(&mut stored, &active);
            assert_eq!(alarms(&stored).unwrap(), active);
            if !stored.is_empty() {
                assert!(alarms(&stored[..stored.len() - 1]).is_err());
            }
        }
        assert!(alarms(&[2, 7, 1, 7]).is_err(), "out of order");
    }

    #[test]
    fn members_round_trip() {
        let member = |id| Member {
            id,
            name: "name".to_owned(),
            peer_urls: vec!["http://a:1".to_owned(), "http://b:1".to_owned()],
            client_urls: vec!["http://a:2".to_owned()],
            is_learner: id == 7,
        };
        let stored = |members: Vec<Member>, removed: Vec<u64>| MemberTable {
            members,
            removed,
            version: 9,
        };
        let good = stored(vec![member(3), member(7)], vec![2, 5]).encode_to_vec();
        let read = members(&good).unwrap();
        assert_eq!((read.version(), read.list().len()), (9, 2));
        let mut again = Vec::new();
        put_members(&mut again, &read);
        assert_eq!(again, good);
        assert!(members(&good[..good.len() - 1]).is_err());
        for bad in [
            stored(vec![member(7), member(3)], vec![]),
            stored(vec![member(3), member(3)], vec![]),
            stored(vec![member(3)], vec![5, 2]),
            stored(vec![member(3)], vec![3]),
            stored(vec![member(0)], vec![]),
        ] {
            assert!(members(&bad.encode_to_vec()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_position_of_the_sweep_round_trips() {
        let position = SweptTo {
            cleared: 7,
            next: (1 << 40, u32::MAX),
        };
        let mut stored = Vec::new();
        put_swept(&mut stored, &position);
        assert_eq!(swept(&stored).unwrap(), position);
        assert!(swept(&stored[..stored.len() - 1]).is_err());
        stored.push(0);
        assert!(swept(&stored).is_err());
    }

    #[test]
    fn varints_round_trip_and_overlong_ones_are_refused() {
        for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::MAX >> 1, u64::MAX] {
            let mut out = Vec::new();
            varint::put(&mut out, number);
            assert_eq!(varint::take(&mut out.as_slice()), Some(number));
        }
        assert_eq!(varint::take(&mut &[0xff; 11][..]), None);
        assert_eq!(
            varint::take(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2][..]),
            None
        );
    }
}
