//! Events as bytes of a `WatchResponse`, encoded once for all who receive them.
//!
//! Field 11 of the response is repeated, so framed events (`0x5a`, length, `Event`) can be put side by side in any
//! number: a response is a short head of its own followed by shared bytes.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use prost::encoding::{encode_varint, encoded_len_varint};
use smallvec::SmallVec;
use store::mutant::{self, Mutant};
use store::{Change, ChangeSet, Reader, Record, StoreError};

use super::interest::Interest;
use super::room::{Held, Room};

/// A response is closed at the first revision boundary behind this many bytes.
const RESPONSE_BYTES: usize = 64 * 1024;
/// And behind this many revisions.
const RESPONSE_REVISIONS: usize = 1000;
/// From this length on, bytes are handed to the connection as they are; shorter ones are cheaper to copy.
pub(crate) const SHARED_BYTES: usize = 8 * 1024;
/// What the head of a response takes at most, as far as splitting goes.
const HEAD_BYTES: usize = 64;

const EVENTS: u8 = 0x5a;
const EVENT_TYPE: [u8; 2] = [0x08, 0x01];
const EVENT_KV: u8 = 0x12;
const EVENT_PREV_KV: u8 = 0x1a;

/// Framed events, as they follow the head of a response.
#[derive(Debug)]
pub struct Payload {
    parts: SmallVec<[Bytes; 1]>,
    len: usize,
    events: usize,
    _held: Held,
}

impl Payload {
    fn new(events: &[Bytes], room: &Arc<Room>) -> Self {
        let len = events.iter().map(Bytes::len).sum();
        let mut parts = SmallVec::new();
        for run in events.chunk_by(|a, b| a.len() < SHARED_BYTES && b.len() < SHARED_BYTES) {
            if let [event] = run {
                parts.push(event.clone());
            } else {
                let mut joined = Vec::with_capacity(run.iter().map(Bytes::len).sum());
                run.iter().for_each(|event| joined.extend_from_slice(event));
                parts.push(Bytes::from(joined));
            }
        }
        Self {
            parts,
            len,
            events: events.len(),
            _held: Held::new(room, len),
        }
    }

    /// The bytes, in order.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// The only part, if there is one and it is short enough to be copied.
    pub(crate) fn short(&self) -> Option<&Bytes> {
        match &self.parts[..] {
            [part] if part.len() < SHARED_BYTES => Some(part),
            _ => None,
        }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many events they are.
    pub fn events(&self) -> usize {
        self.events
    }
}

/// What watchers of one interest are to be told in one response each.
pub(super) struct Response {
    /// The revision of the last event.
    pub(super) revision: i64,
    /// One, or the fragments.
    pub(super) pieces: SmallVec<[Arc<Payload>; 1]>,
}

impl Response {
    pub(super) fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }
}

/// The changes of some revisions, and their encodings once someone wanted them.
pub(super) struct Batch<'a> {
    events: Vec<Event<'a>>,
    room: Arc<Room>,
}

struct Event<'a> {
    revision: i64,
    change: &'a Change,
    plain: Option<Bytes>,
    with_previous: Option<Bytes>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(sets: &'a [Arc<ChangeSet>], room: &Arc<Room>) -> Self {
        let events = sets.iter().flat_map(|set| {
            let event = |change| Event {
                revision: set.revision,
                change,
                plain: None,
                with_previous: None,
            };
            set.changes.iter().map(event)
        });
        Self {
            events: events.collect(),
            room: room.clone(),
        }
    }

    /// The changed keys in order; the place of a key is the number of its event.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a [u8]> {
        self.events.iter().map(|event| event.change.record.key())
    }

    /// Out of these events, the numbers of those behind a revision. They are in order.
    pub(super) fn behind<'n>(&self, numbers: &'n [usize], revision: i64) -> &'n [usize] {
        let revision = revision + i64::from(mutant::is_on(Mutant::RevisionSkipped));
        &numbers[numbers.partition_point(|number| self.events[*number].revision <= revision)..]
    }

    /// Whether to tell these events to an interest takes reads of the store.
    pub(super) fn must_read(&self, numbers: &[usize], interest: &Interest) -> bool {
        let must = |number: &usize| {
            let event = &self.events[*number];
            event.with_previous.is_none() && is_previous_elsewhere(event.change, event.revision)
        };
        interest.with_previous && numbers.iter().any(must)
    }

    /// The responses that tell those of these events that the interest does not filter out.
    pub(super) fn responses(
        &mut self,
        numbers: &[usize],
        interest: &Interest,
        message_bytes: usize,
        reader: &Reader,
    ) -> Result<Vec<Response>, StoreError> {
        let mut responses = Vec::new();
        let mut open: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        let mut revisions = 0;
        let mut last = 0;
        let room = self.room.clone();
        let mut close = |open: &mut Vec<Bytes>, revision| {
            let pieces = pieces(open, interest.fragment, message_bytes, &room);
            responses.push(Response { revision, pieces });
            open.clear();
        };
        for number in numbers {
            let Event {
                revision, change, ..
            } = self.events[*number];
            let is_filtered = if change.is_delete {
                interest.without_deletes
            } else {
                interest.without_puts
            };
            if is_filtered {
                continue;
            }
            if revision != last {
                // Only here, between two revisions, may a response end.
                if bytes >= RESPONSE_BYTES || revisions >= RESPONSE_REVISIONS {
                    close(&mut open, last);
                    bytes = 0;
                    revisions = 0;
                }
                revisions += 1;
                last = revision;
            } else if mutant::is_on(Mutant::RevisionSplit) && bytes >= message_bytes {
                close(&mut open, last);
                bytes = 0;
            }
            let event = self.encode(*number, interest.with_previous, reader)?;
            bytes += event.len();
            open.push(event);
        }
        if !open.is_empty() {
            close(&mut open, last);
        }
        Ok(responses)
    }

    fn encode(
        &mut self,
        number: usize,
        with_previous: bool,
        reader: &Reader,
    ) -> Result<Bytes, StoreError> {
        let event = &mut self.events[number];
        if !with_previous {
            return Ok(event
                .plain
                .get_or_insert_with(|| encode(event.change, None))
                .clone());
        }
        if let Some(encoded) = &event.with_previous {
            return Ok(encoded.clone());
        }
        let encoded = match previous(event.change, event.revision, reader)? {
            Some(record) => encode(event.change, Some(&record)),
            None => event
                .plain
                .get_or_insert_with(|| encode(event.change, None))
                .clone(),
        };
        event.with_previous = Some(encoded.clone());
        Ok(encoded)
    }
}

/// Splits what is too long at event boundaries, if that was asked for.
fn pieces(
    events: &[Bytes],
    fragment: bool,
    message_bytes: usize,
    room: &Arc<Room>,
) -> SmallVec<[Arc<Payload>; 1]> {
    let longest = message_bytes.saturating_sub(HEAD_BYTES);
    let mut pieces = SmallVec::new();
    let mut start = 0;
    if fragment && events.iter().map(Bytes::len).sum::<usize>() >= longest {
        let mut bytes = 0;
        for (number, event) in events.iter().enumerate() {
            if number > start && bytes + event.len() >= longest {
                pieces.push(Arc::new(Payload::new(&events[start..number], room)));
                start = number;
                bytes = 0;
            }
            bytes += event.len();
        }
    }
    pieces.push(Arc::new(Payload::new(&events[start..], room)));
    pieces
}

/// Whether the key held something before the change.
fn has_previous(change: &Change, revision: i64) -> bool {
    change.is_delete || change.record.create_revision() != revision
}

/// Whether what it held is only in the store: its value was not in memory, or the change was read from history.
pub(super) fn is_previous_elsewhere(change: &Change, revision: i64) -> bool {
    let previous = change.previous.as_ref();
    has_previous(change, revision) && previous.is_none_or(|previous| previous.record.is_none())
}

/// What the key held before the change, unless it held nothing or that is compacted.
fn previous(change: &Change, revision: i64, reader: &Reader) -> Result<Option<Record>, StoreError> {
    if !has_previous(change, revision) {
        return Ok(None);
    }
    if let Some(record) = change
        .previous
        .as_ref()
        .and_then(|previous| previous.record.as_ref())
    {
        return Ok(Some(record.clone()));
    }
    reader.previous(change.record.key(), revision)
}

fn encode(change: &Change, previous: Option<&Record>) -> Bytes {
    let record = change.record.encoded();
    let previous = previous.map(Record::encoded);
    let field = |bytes: &[u8]| 1 + encoded_len_varint(bytes.len() as u64) + bytes.len();
    let type_len = if change.is_delete {
        EVENT_TYPE.len()
    } else {
        0
    };
    let len = type_len + field(record) + previous.map_or(0, field);
    // Exactly as long as needed: the vector becomes the shared bytes without being copied again.
    let mut out = Vec::with_capacity(1 + encoded_len_varint(len as u64) + len);
    out.put_u8(EVENTS);
    encode_varint(len as u64, &mut out);
    if change.is_delete {
        out.put_slice(&EVENT_TYPE);
    }
    let mut put = |tag: u8, bytes: &[u8]| {
        out.put_u8(tag);
        encode_varint(bytes.len() as u64, &mut out);
        out.put_slice(bytes);
    };
    put(EVENT_KV, record);
    if let Some(previous) = previous {
        put(EVENT_PREV_KV, previous);
    }
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use proto::etcd::etcdserverpb::WatchResponse;
    use proto::etcd::mvccpb::Event;
    use store::record::Fields;

    use super::*;

    fn record(value: &[u8]) -> Record {
        Record::new(&Fields {
            key: b"k",
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            value,
            lease: 0,
        })
    }

    #[test]
    fn a_framed_event_is_field_eleven_of_a_response() {
        let change = Change {
            record: record(b"new"),
            is_delete: false,
            previous: None,
        };
        let framed = encode(&change, Some(&record(b"old")));
        let expected = WatchResponse {
            events: vec![Event {
                r#type: 0,
                kv: Some(record(b"new").to_key_value()),
                prev_kv: Some(record(b"old").to_key_value()),
            }],
            ..WatchResponse::default()
        };
        assert_eq!(framed, expected.encode_to_vec());
        let tombstone = Record::new(&Fields {
            key: b"k",
            mod_revision: 4,
            ..Fields::default()
        });
        let framed = encode(
            &Change {
                record: tombstone.clone(),
                is_delete: true,
                previous: None,
            },
            None,
        );
        let expected = WatchResponse {
            events: vec![Event {
                r#type: 1,
                kv: Some(tombstone.to_key_value()),
                prev_kv: None,
            }],
            ..WatchResponse::default()
        };
        assert_eq!(framed, expected.encode_to_vec());
    }

    #[test]
    fn short_events_are_joined_and_long_ones_stay_shared() {
        let short = Bytes::from(vec![1; 10]);
        let long = Bytes::from(vec![2; SHARED_BYTES]);
        let events = [
            short.clone(),
            short.clone(),
            long.clone(),
            long.clone(),
            short,
        ];
        let payload = Payload::new(&events, &Room::new(0, 0));
        let lengths: Vec<usize> = payload.parts().iter().map(Bytes::len).collect();
        assert_eq!(lengths, [20, SHARED_BYTES, SHARED_BYTES, 10]);
        assert_eq!(payload.parts()[1].as_ptr(), long.as_ptr());
        assert_eq!(payload.len(), 30 + 2 * SHARED_BYTES);
        assert_eq!(payload.events(), 5);
    }

    #[test]
    fn fragments_stay_below_the_limit_and_hold_every_event() {
        let events: Vec<Bytes> = (0..20)
            .map(|number| Bytes::from(vec![number; 100]))
            .collect();
        let room = Room::new(0, 0);
        let whole = pieces(&events, false, 500, &room);
        assert_eq!(whole.len(), 1);
        let pieces = pieces(&events, true, 500, &room);
        assert!(pieces.len() > 1);
        assert!(pieces.iter().all(|piece| piece.len() + HEAD_BYTES < 500));
        let joined: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| piece.parts().concat())
            .collect();
        assert_eq!(joined, events.concat());
        let huge = [Bytes::from(vec![1; 1000]), Bytes::from(vec![2; 1000])];
        assert_eq!(super::pieces(&huge, true, 500, &room).len(), 2);
    }
}
