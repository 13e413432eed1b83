//! One version of a key, kept encoded: index, engine, list answers and watch events share the same bytes.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use proto::etcd::mvccpb::KeyValue;

use crate::error::StoreError;
use crate::layout::varint;

const KEY: u8 = 0x0a;
const CREATE: u8 = 0x10;
const MOD: u8 = 0x18;
const VERSION: u8 = 0x20;
const VALUE: u8 = 0x2a;
const LEASE: u8 = 0x30;

/// In place of [`KEY`]: the value was left out. Never leaves the store.
const STRIPPED_KEY: u8 = 0x00;
/// In place of [`VALUE`]: the length of the value that was left out.
const STRIPPED_VALUE: u8 = 0x28;

/// Values below this length are never stripped.
const STRIP_FROM: usize = 64;

/// An encoded `mvccpb.KeyValue` in one allocation of its own.
///
/// - Fields stand in the order of their numbers, those with default values are left out: the bytes are those
///   that a protobuf encoder writes, so they go into answers as they are.
/// - A record of a deletion has only key and mod revision.
/// - Cloning costs one atomic increment.
#[derive(Clone, PartialEq, Eq)]
pub struct Record(Arc<[u8]>);

/// What the index holds of a live key: its record, or the record without the value, which then is in the engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tip(Record);

/// The fields of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Revision of the put that created the key.
    pub create_revision: i64,
    /// Revision of this version.
    pub mod_revision: i64,
    /// Number of puts since creation.
    pub version: i64,
    /// The value.
    pub value: &'a [u8],
    /// The lease, or 0.
    pub lease: i64,
}

/// Everything of a version but key and value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tags {
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
    pub(crate) value_len: u64,
}

/// What parsing a record's bytes finds; works for stripped ones too.
#[derive(Clone, Copy, Default)]
struct Parts<'a> {
    key: &'a [u8],
    value: &'a [u8],
    tags: Tags,
}

impl Record {
    /// Encodes a record; `scratch` is reused between calls, so that the record's own is the only allocation.
    pub(crate) fn encode(scratch: &mut Vec<u8>, fields: &Fields<'_>) -> Self {
        scratch.clear();
        put_bytes(scratch, KEY, fields.key);
        put_number(scratch, CREATE, fields.create_revision);
        put_number(scratch, MOD, fields.mod_revision);
        put_number(scratch, VERSION, fields.version);
        put_bytes(scratch, VALUE, fields.value);
        put_number(scratch, LEASE, fields.lease);
        Self(Arc::from(scratch.as_slice()))
    }

    /// Encodes a record of these fields.
    pub fn new(fields: &Fields<'_>) -> Self {
        Self::encode(
            &mut Vec::with_capacity(fields.key.len() + fields.value.len() + 48),
            fields,
        )
    }

    /// The record of a deletion.
    pub(crate) fn tombstone(scratch: &mut Vec<u8>, key: &[u8], mod_revision: i64) -> Self {
        Self::encode(
            scratch,
            &Fields {
                key,
                mod_revision,
                ..Fields::default()
            },
        )
    }

    /// Takes over bytes that [`Record::encoded`] gave; anything else is damage.
    pub(crate) fn from_encoded(encoded: &[u8]) -> Result<Self, StoreError> {
        match Parts::parse(encoded) {
            Some(_) if encoded.first() == Some(&KEY) => Ok(Self(Arc::from(encoded))),
            _ => Err(StoreError::damaged(
                "a stored version is not an encoded key-value pair",
            )),
        }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        let bytes = &*self.0;
        match bytes.get(1) {
            Some(&len) if len < 0x80 => bytes.get(2..2 + usize::from(len)).unwrap_or_default(),
            _ => self.parts().key,
        }
    }

    /// Revision of the put that created the key; 0 in a deletion.
    pub fn create_revision(&self) -> i64 {
        self.parts().tags.create_revision
    }

    /// Revision of this version.
    pub fn mod_revision(&self) -> i64 {
        self.parts().tags.mod_revision
    }

    /// Number of puts since creation; 0 in a deletion.
    pub fn version(&self) -> i64 {
        self.parts().tags.version
    }

    /// The lease, or 0.
    pub fn lease(&self) -> i64 {
        self.parts().tags.lease
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        self.parts().value
    }

    /// The record as an encoded `mvccpb.KeyValue`.
    pub fn encoded(&self) -> &[u8] {
        debug_assert!(
            self.0.first() == Some(&KEY),
            "a stripped record stays in the index"
        );
        &self.0
    }

    /// All fields, parsed once.
    pub fn fields(&self) -> Fields<'_> {
        let Parts { key, value, tags } = self.parts();
        Fields {
            key,
            create_revision: tags.create_revision,
            mod_revision: tags.mod_revision,
            version: tags.version,
            value,
            lease: tags.lease,
        }
    }

    /// The message; key and value share the record's allocation.
    pub fn to_key_value(&self) -> KeyValue {
        let whole = Bytes::from_owner(Shared(self.0.clone()));
        let fields = self.fields();
        KeyValue {
            key: whole.slice_ref(part_of(&whole, fields.key)),
            create_revision: fields.create_revision,
            mod_revision: fields.mod_revision,
            version: fields.version,
            value: whole.slice_ref(part_of(&whole, fields.value)),
            lease: fields.lease,
        }
    }

    /// The same version as `keys_only` shows it: no value and, unless `keep_lease`, no lease.
    pub(crate) fn without_value(&self, scratch: &mut Vec<u8>, keep_lease: bool) -> Self {
        let fields = self.fields();
        let lease = if keep_lease { fields.lease } else { 0 };
        Self::encode(
            scratch,
            &Fields {
                value: &[],
                lease,
                ..fields
            },
        )
    }

    fn parts(&self) -> Parts<'_> {
        Parts::parse(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { key, value, tags } = self.parts();
        formatter
            .debug_struct("Record")
            .field("key", &key.escape_ascii().to_string())
            .field("tags", &tags)
            .field("value", &value.escape_ascii().to_string())
            .finish()
    }
}

/// Owner of the bytes of a message made from a record.
struct Shared(Arc<[u8]>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// An absent field's empty slice does not point into the record; every other part does.
fn part_of<'a>(whole: &'a Bytes, part: &'a [u8]) -> &'a [u8] {
    if part.is_empty() { &whole[..0] } else { part }
}

impl Tip {
    /// A tip without its value, as read back from the `tip` family.
    pub(crate) fn stripped(scratch: &mut Vec<u8>, key: &[u8], tags: &Tags) -> Self {
        scratch.clear();
        scratch.push(STRIPPED_KEY);
        varint::put(scratch, key.len() as u64);
        scratch.extend_from_slice(key);
        put_number(scratch, CREATE, tags.create_revision);
        put_number(scratch, MOD, tags.mod_revision);
        put_number(scratch, VERSION, tags.version);
        if tags.value_len != 0 {
            scratch.push(STRIPPED_VALUE);
            varint::put(scratch, tags.value_len);
        }
        put_number(scratch, LEASE, tags.lease);
        if tags.value_len == 0 {
            // Nothing is missing, so it may be handed out as it is.
            scratch[0] = KEY;
        }
        Self(Record(Arc::from(scratch.as_slice())))
    }

    /// The same tip without its value.
    pub(crate) fn strip(&self, scratch: &mut Vec<u8>) -> Self {
        Self::stripped(scratch, self.key(), &self.tags())
    }

    /// The record, unless its value was left out.
    pub(crate) fn record(&self) -> Option<&Record> {
        (self.0.0.first() == Some(&KEY)).then_some(&self.0)
    }

    /// The record as `keys_only` shows it, which needs no value.
    pub(crate) fn without_value(&self, scratch: &mut Vec<u8>, keep_lease: bool) -> Record {
        self.0.without_value(scratch, keep_lease)
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.0.key()
    }

    pub(crate) fn mod_revision(&self) -> i64 {
        self.0.mod_revision()
    }

    pub(crate) fn tags(&self) -> Tags {
        self.0.parts().tags
    }

    /// Whether stripping frees enough memory to be worth a read later.
    pub(crate) fn is_strippable(&self) -> bool {
        self.record()
            .is_some_and(|record| record.0.len() > STRIP_FROM)
            && self.tags().value_len >= STRIP_FROM as u64
    }

    /// Bytes of memory.
    pub(crate) fn held_bytes(&self) -> usize {
        self.0.0.len()
    }

    /// Whether somebody else has the same, such as an index.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0.0) > 1
    }

    /// Length of the whole record, also if its value was left out: its length is as long as the tag says.
    pub(crate) fn encoded_len(&self) -> u64 {
        let missing = match self.record() {
            Some(_) => 0,
            None => self.tags().value_len,
        };
        self.0.0.len() as u64 + missing
    }

    /// Bytes of memory that count against the budget; small values stay with their keys and do not.
    pub(crate) fn cached_bytes(&self) -> usize {
        if self.is_strippable() {
            self.0.0.len()
        } else {
            0
        }
    }

    /// Bytes of memory that no stripping frees.
    pub(crate) fn fixed_bytes(&self) -> usize {
        self.held_bytes() - self.cached_bytes()
    }
}

impl From<Record> for Tip {
    fn from(record: Record) -> Self {
        Self(record)
    }
}

impl<'a> Parts<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut parts = Self::default();
        let (&first, mut rest) = bytes.split_first()?;
        if first != KEY && first != STRIPPED_KEY {
            return None;
        }
        parts.key = take_bytes(&mut rest)?;
        while let Some((&tag, tail)) = rest.split_first() {
            rest = tail;
            match tag {
                VALUE => {
                    parts.value = take_bytes(&mut rest)?;
                    parts.tags.value_len = parts.value.len() as u64;
                }
                // Among the fields of a whole record no client could read it.
                STRIPPED_VALUE if first == STRIPPED_KEY => {
                    parts.tags.value_len = varint::take(&mut rest)?
                }
                CREATE => parts.tags.create_revision = varint::take(&mut rest)?.cast_signed(),
                MOD => parts.tags.mod_revision = varint::take(&mut rest)?.cast_signed(),
                VERSION => parts.tags.version = varint::take(&mut rest)?.cast_signed(),
                LEASE => parts.tags.lease = varint::take(&mut rest)?.cast_signed(),
                _ => return None,
            }
        }
        Some(parts)
    }
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() || tag == KEY {
        out.push(tag);
        varint::put(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

fn put_number(out: &mut Vec<u8>, tag: u8, number: i64) {
    if number != 0 {
        out.push(tag);
        varint::put(out, number.cast_unsigned());
    }
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(varint::take(rest)?).ok()?;
    let (bytes, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn random_message(random: &mut StdRng) -> KeyValue {
        let mut number = || match random.random_range(0..4) {
            0 => 0,
            1 => random.random_range(1..200),
            2 => random.random_range(1..i64::MAX),
            _ => i64::MAX,
        };
        let (create_revision, mod_revision, version, lease) =
            (number(), number(), number(), number());
        let mut bytes = |from| {
            let len = random.random_range(from..300);
            (0..len)
                .map(|_| random.random())
                .collect::<Vec<u8>>()
                .into()
        };
        let (key, value) = (bytes(1), bytes(0));
        let value = if random.random_bool(0.2) {
            Bytes::new()
        } else {
            value
        };
        KeyValue {
            key,
            create_revision,
            mod_revision,
            version,
            value,
            lease,
        }
    }

    fn fields(message: &KeyValue) -> Fields<'_> {
        Fields {
            key: &message.key,
            create_revision: message.create_revision,
            mod_revision: message.mod_revision,
            version: message.version,
            value: &message.value,
            lease: message.lease,
        }
    }

    #[test]
    fn a_record_is_what_a_protobuf_encoder_writes() {
        eprintln!("seed 11");
        let mut random = StdRng::seed_from_u64(11);
        for _ in 0..2000 {
            let message = random_message(&mut random);
            let record = Record::new(&fields(&message));
            assert_eq!(record.encoded(), message.encode_to_vec());
            assert_eq!(record.fields(), fields(&message));
            assert_eq!(record.key(), message.key);
            assert_eq!(record.to_key_value(), message);
            assert_eq!(Record::from_encoded(record.encoded()).unwrap(), record);
        }
    }

    #[test]
    fn a_stripped_tip_has_all_but_the_value_and_never_passes_for_a_record() {
        eprintln!("seed 12");
        let mut random = StdRng::seed_from_u64(12);
        for _ in 0..2000 {
            let message = random_message(&mut random);
            let tip = Tip::from(Record::new(&fields(&message)));
            let stripped = tip.strip(&mut Vec::new());
            assert_eq!((stripped.key(), stripped.tags()), (tip.key(), tip.tags()));
            assert_eq!(stripped.tags().value_len, message.value.len() as u64);
            assert_eq!(stripped.record().is_none(), !message.value.is_empty());
            let shown = KeyValue {
                value: Bytes::new(),
                lease: 0,
                ..message
            };
            assert_eq!(
                stripped
                    .without_value(&mut Vec::new(), false)
                    .to_key_value(),
                shown
            );
        }
    }

    #[test]
    fn damaged_records_are_refused() {
        let record = Record::new(&Fields {
            key: b"key",
            mod_revision: 3,
            value: b"value",
            ..Fields::default()
        });
        for cut in 0..record.encoded().len() {
            let whole_fields = [5, 7].contains(&cut);
            assert_eq!(
                Record::from_encoded(&record.encoded()[..cut]).is_ok(),
                whole_fields,
                "cut at {cut}"
            );
        }
        assert!(Record::from_encoded(&Tip::from(record).strip(&mut Vec::new()).0.0).is_err());
    }
}
