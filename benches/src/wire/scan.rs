//! Reads framed protobuf answers as they arrive in pieces, without decoding or keeping them.
//!
//! All answers of etcd have a header in field 1; of the rest a run needs numbers and how often a repeated field
//! occurs. So one scanner serves every call: it skips over contents and allocates nothing.

use anyhow::{Result, bail};

/// Fields up to this number are noted, the rest is skipped: `WatchResponse.events` has the largest one needed.
const FIELDS: usize = 12;
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
}

const BETWEEN_FIELDS: State = State::Tag { value: 0, shift: 0 };

/// Scans a sequence of gRPC messages.
pub(crate) struct Scanner {
    prefix: [u8; 5],
    have: usize,
    left: usize,
    state: State,
    answer: Answer,
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
        }
    }

    /// Takes the next piece and calls `done` for every message that it completes.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
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
            self.scan(body)?;
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

    fn scan(&mut self, mut bytes: &[u8]) -> Result<()> {
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

/// Adds one byte to a number; true if it was the last one.
fn varint(value: &mut u64, shift: &mut u32, byte: u8) -> Result<bool> {
    if *shift > 63 {
        bail!("a number of more than ten bytes");
    }
    *value |= u64::from(byte & 0x7f) << *shift;
    *shift += 7;
    Ok(byte & 0x80 == 0)
}

/// Field 3 of an encoded `ResponseHeader`, whose fields are all numbers.
fn revision(header: &[u8]) -> Result<i64> {
    let mut bytes = header.iter();
    let mut number = || -> Result<Option<u64>> {
        let (mut value, mut shift) = (0, 0);
        for byte in bytes.by_ref() {
            if varint(&mut value, &mut shift, *byte)? {
                return Ok(Some(value));
            }
        }
        if shift == 0 {
            Ok(None)
        } else {
            bail!("a header ends in the middle of a number")
        }
    };
    let mut found = 0;
    while let Some(tag) = number()? {
        let Some(value) = number()? else {
            bail!("a header ends in the middle of a field")
        };
        if tag == 3 << 3 {
            found = value.cast_signed();
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
                .feed(piece, note)
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
