//! One event of a watch, as far as a run looks into it.

use anyhow::Result;

use crate::wire::fields::{Content, Fields};

/// Number of `Event.kv`, of `KeyValue.mod_revision` and of `KeyValue.value`.
const KV: u64 = 2;
const MOD_REVISION: u64 = 3;
const VALUE: u64 = 5;
/// Bytes of a stamp.
const STAMP_BYTES: usize = 8;

/// A put as a watcher sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    /// Its revision.
    pub(crate) revision: u64,
    /// What was put.
    value: &'a [u8],
}

impl<'a> Event<'a> {
    /// Reads an encoded event.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Event<'a>> {
        let (mut event, mut fields) = (Event::default(), Fields::of(bytes));
        while let Some(field) = fields.next()? {
            let (KV, Content::Bytes(kv)) = field else {
                continue;
            };
            let mut fields = Fields::of(kv);
            while let Some(field) = fields.next()? {
                match field {
                    (MOD_REVISION, Content::Number(revision)) => event.revision = revision,
                    (VALUE, Content::Bytes(value)) => event.value = value,
                    _ => {}
                }
            }
        }
        Ok(event)
    }

    /// The number that [`stamp`] wrote into the value; none if the value is too short.
    pub(crate) fn stamp(&self) -> Option<u64> {
        self.value.first_chunk().copied().map(u64::from_le_bytes)
    }
}

/// Writes a number to the front of a value, if there is room.
pub(super) fn stamp(value: &mut [u8], number: u64) {
    if let Some(front) = value.first_chunk_mut::<STAMP_BYTES>() {
        *front = number.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use proto::etcd::mvccpb;

    use super::{Event, stamp};

    #[test]
    fn revision_and_stamp_are_found_among_the_other_fields() {
        let mut value = vec![0xa5; 20];
        stamp(&mut value, 1 << 40);
        let kv = mvccpb::KeyValue {
            key: "/a/1".into(),
            create_revision: 3,
            mod_revision: 300,
            version: 2,
            value: value.into(),
            lease: 7,
        };
        let event = mvccpb::Event {
            kv: Some(kv.clone()),
            prev_kv: Some(mvccpb::KeyValue {
                mod_revision: 200,
                ..kv
            }),
            ..mvccpb::Event::default()
        };
        let bytes = event.encode_to_vec();
        let event = Event::read(&bytes).unwrap();
        assert_eq!((event.revision, event.stamp()), (300, Some(1 << 40)));
    }

    #[test]
    fn a_short_value_has_no_stamp() {
        let mut value = [1, 2, 3];
        stamp(&mut value, u64::MAX);
        assert_eq!(value, [1, 2, 3]);
        assert_eq!(Event::default().stamp(), None);
    }
}
