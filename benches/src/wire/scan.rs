//! Reads framed protobuf answers as they arrive in pieces, without decoding or keeping them.
//!
//! All answers of etcd have a header in field 1; of the rest a run needs numbers and how often a repeated field
//! occurs. So one scanner serves every call: it skips over contents and allocates nothing. Only who asks for the events
//! of a watch gets to see them, and only those that come in more than one piece are copied.

use anyhow::{Result, bail};

use crate::wire::event::Event;
use crate::wire::fields::{Content, Fields, varint};

/// Fields up to this number are noted, the rest is skipped: `WatchResponse.events` has the largest one needed.
const FIELDS: usize = 12;
/// `WatchResponse.events`.
const EVENTS: usize = 11;
/// `ResponseHeader.revision`.
const REVISION: u64 = 3;
/// A `ResponseHeader` is at most four fields of eleven bytes.
const HEADER_BYTES: usize = 64;

/// What the scanner notes of one message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer {
    /// `header.revision`.
    pub(crate) revision: i64,
    /// Value of each number field, by field number.
    pub(crate) numbers: [u64; FIELDS],
    /// How often each field with a length occurred, by field number.
    pub(crate) counts: [u32; FIELDS],
}

/// Who looks at every event of a watch, and at what came before it in its message.
pub(crate) type OnEvent<'a> = &'a mut (dyn FnMut(&Answer, &Event<'_>) -> Result<()> + Send);

/// Where in a message the next byte belongs.
enum State {
    Tag {
        value: u64,
        shift: u32,
    },
    Number {
        field: usize,
        value: u64,
        shift: u32,
    },
    Length {
        field: usize,
        value: u64,
        shift: u32,
    },
    Skip {
        left: u64,
    },
    Header {
        have: usize,
        length: usize,
        bytes: [u8; HEADER_BYTES],
    },
    Event {
        length: usize,
    },
}

const BETWEEN_FIELDS: State = State::Tag { value: 0, shift: 0 };

/// Scans a sequence of gRPC messages.
pub(crate) struct Scanner {
    prefix: [u8; 5],
    have: usize,
    left: usize,
    state: State,
    answer: Answer,
    /// The first pieces of an event.
    event: Vec<u8>,
}

impl Scanner {
    /// Expects the first byte of a message.
    pub(crate) fn new() -> Scanner {
        Scanner {
            prefix: [0; 5],
            have: 0,
            left: 0,
            state: BETWEEN_FIELDS,
            answer: Answer::default(),
            event: Vec::new(),
        }
    }

    /// Takes the next piece and calls `on_event` for every event and `done` for every message that it completes.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut on_event: Option<OnEvent<'_>>,
        mut done: impl FnMut(&Answer) -> Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            if self.have < self.prefix.len() {
                self.prefix[self.have] = bytes[0];
                self.have += 1;
                bytes = &bytes[1..];
                if self.have < self.prefix.len() {
                    continue;
                }
                let [compressed, length @ ..] = self.prefix;
                if compressed != 0 {
                    bail!("a compressed message, which was not asked for");
                }
                self.left = usize::try_from(u32::from_be_bytes(length))?;
                self.answer = Answer::default();
            }
            let (body, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.scan(body, &mut on_event)?;
            self.left -= body.len();
            bytes = rest;
            if self.left == 0 {
                if !matches!(self.state, State::Tag { shift: 0, .. }) {
                    bail!("a message ends in the middle of a field");
                }
                self.have = 0;
                done(&self.answer)?;
            }
        }
        Ok(())
    }

    /// Whether everything fed so far was complete messages.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.have == 0
    }

    fn scan(&mut self, mut bytes: &[u8], on_event: &mut Option<OnEvent<'_>>) -> Result<()> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Skip { left } => {
                    let step = usize::try_from(*left)?.min(bytes.len());
                    bytes = &bytes[step..];
                    *left -= step as u64;
                    if *left == 0 {
                        self.state = BETWEEN_FIELDS;
                    }
                    continue;
                }
                State::Header {
                    have,
                    length,
                    bytes: header,
                } => {
                    let step = (*length - *have).min(bytes.len());
                    header[*have..*have + step].copy_from_slice(&bytes[..step]);
                    bytes = &bytes[step..];
                    *have += step;
                    if have == length {
                        self.answer.revision = revision(&header[..*length])?;
                        self.state = BETWEEN_FIELDS;
                    }
                    continue;
                }
                State::Event { length } => {
                    let step = (*length - self.event.len()).min(bytes.len());
                    let (piece, rest) = bytes.split_at(step);
                    bytes = rest;
                    let whole = if step == *length {
                        piece
                    } else {
                        self.event.extend_from_slice(piece);
                        &self.event
                    };
                    if whole.len() == *length {
                        if let Some(on_event) = on_event {
                            on_event(&self.answer, &Event::read(whole)?)?;
                        }
                        self.event.clear();
                        self.state = BETWEEN_FIELDS;
                    }
                    continue;
                }
                State::Tag { value, shift } => {
                    if varint(value, shift, byte)? {
                        let field = usize::try_from(*value >> 3)?;
                        self.state = match *value & 7 {
                            0 => State::Number {
                                field,
                                value: 0,
                                shift: 0,
                            },
                            2 => State::Length {
                                field,
                                value: 0,
                                shift: 0,
                            },
                            kind => bail!(
                                "field {field} has the wire type {kind}, which etcd does not use"
                            ),
                        };
                    }
                }
                State::Number {
                    field,
                    value,
                    shift,
                } => {
                    if varint(value, shift, byte)? {
                        if let Some(number) = self.answer.numbers.get_mut(*field) {
                            *number = *value;
                        }
                        self.state = BETWEEN_FIELDS;
                    }
                }
                State::Length {
                    field,
                    value,
                    shift,
                } => {
                    if varint(value, shift, byte)? {
                        if let Some(count) = self.answer.counts.get_mut(*field) {
                            *count += 1;
                        }
                        self.state = match (*field, *value) {
                            (_, 0) => BETWEEN_FIELDS,
                            (1, length) if length <= HEADER_BYTES as u64 => State::Header {
                                have: 0,
                                length: usize::try_from(length)?,
                                bytes: [0; HEADER_BYTES],
                            },
                            (1, length) => bail!("a header of {length} bytes"),
                            (EVENTS, length) if on_event.is_some() => State::Event {
                                length: usize::try_from(length)?,
                            },
                            (_, left) => State::Skip { left },
                        };
                    }
                }
            }
            bytes = rest;
        }
        Ok(())
    }
}

/// The revision of an encoded `ResponseHeader`.
fn revision(header: &[u8]) -> Result<i64> {
    let (mut found, mut fields) = (0, Fields::of(header));
    while let Some(field) = fields.next()? {
        if let (REVISION, Content::Number(revision)) = field {
            found = revision.cast_signed();
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proto::etcd::etcdserverpb::{RangeResponse, ResponseHeader, WatchResponse};
    use proto::etcd::mvccpb::{Event, KeyValue};

    use super::{Answer, Scanner};

    fn framed(message: &impl prost::Message) -> Vec<u8> {
        let body = message.encode_to_vec();
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    fn header() -> Option<ResponseHeader> {
        Some(ResponseHeader {
            cluster_id: u64::MAX,
            member_id: u64::MAX,
            revision: 1 << 40,
            raft_term: 3,
        })
    }

    fn key_value(size: usize) -> KeyValue {
        KeyValue {
            key: vec![0x0a; 20].into(),
            value: vec![0x12; size].into(),
            mod_revision: 7,
            ..KeyValue::default()
        }
    }

    fn scan(bytes: &[u8], piece: usize) -> Result<Vec<Answer>, String> {
        let (mut scanner, mut answers) = (Scanner::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            let note = |answer: &Answer| {
                answers.push(*answer);
                Ok(())
            };
            scanner
                .feed(piece, None, note)
                .map_err(|error| error.to_string())?;
        }
        if scanner.is_between_messages() {
            Ok(answers)
        } else {
            Err("cut".to_owned())
        }
    }

    #[test]
    fn answers_read_the_same_however_they_are_cut_into_pieces() {
        let kvs = vec![key_value(300), key_value(0), key_value(5)];
        let range = RangeResponse {
            header: header(),
            kvs,
            more: true,
            count: 900,
        };
        let watch = WatchResponse {
            header: header(),
            watch_id: 5,
            events: vec![
                Event {
                    kv: Some(key_value(256)),
                    ..Event::default()
                };
                27
            ],
            ..WatchResponse::default()
        };
        let bytes = [
            framed(&range),
            framed(&RangeResponse::default()),
            framed(&watch),
        ]
        .concat();
        for piece in [1, 2, 3, 7, 100, bytes.len()] {
            let answers = scan(&bytes, piece).unwrap();
            let [range, empty, watch] = answers.as_slice() else {
                panic!("{} answers", answers.len())
            };
            assert_eq!(
                (
                    range.revision,
                    range.counts[2],
                    range.numbers[3],
                    range.numbers[4]
                ),
                (1 << 40, 3, 1, 900)
            );
            assert_eq!((empty.revision, empty.counts[2]), (0, 0));
            assert_eq!((watch.numbers[2], watch.counts[11]), (5, 27));
        }
    }

    #[test]
    fn events_are_seen_whole_however_they_are_cut_into_pieces() {
        let event = |revision| Event {
            kv: Some(KeyValue {
                mod_revision: revision,
                ..key_value(256)
            }),
            ..Event::default()
        };
        let watch = |watch_id, revisions: [i64; 2]| WatchResponse {
            header: header(),
            watch_id,
            events: revisions.map(event).to_vec(),
            ..WatchResponse::default()
        };
        let bytes = [framed(&watch(5, [7, 8])), framed(&watch(6, [8, 9]))].concat();
        for piece in [1, 2, 3, 7, 100, 300, bytes.len()] {
            let (mut scanner, mut seen, mut messages) = (Scanner::new(), Vec::new(), 0);
            for piece in bytes.chunks(piece) {
                let mut note = |answer: &Answer, event: &super::Event<'_>| {
                    seen.push((answer.numbers[2], event.revision));
                    Ok(())
                };
                let count = |answer: &Answer| {
                    messages += answer.counts[11];
                    Ok(())
                };
                scanner.feed(piece, Some(&mut note), count).unwrap();
            }
            assert_eq!((seen, messages), (vec![(5, 7), (5, 8), (6, 8), (6, 9)], 4));
        }
    }

    #[test]
    fn damaged_answers_are_errors_and_cut_ones_are_noticed() {
        assert!(
            scan(&[0, 0, 0, 0, 2, 0x12, 9], 9)
                .unwrap_err()
                .contains("middle of a field")
        );
        assert!(
            scan(&[1, 0, 0, 0, 0], 9)
                .unwrap_err()
                .contains("compressed")
        );
        assert!(
            scan(&[0, 0, 0, 0, 1, 0x0d], 9)
                .unwrap_err()
                .contains("wire type 5")
        );
        assert!(scan(&[0, 0, 0, 0, 3, 0x12], 9).unwrap_err().contains("cut"));
    }
}
