//! Requests encoded once; only key, value and revision are written anew for each call.

use bytes::{Bytes, BytesMut};
use prost::Message;
use proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::request_op::Request as Op;
use proto::etcd::etcdserverpb::watch_request::RequestUnion;
use proto::etcd::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
};

use crate::random::Random;
use crate::wire::event;

/// Every key is a prefix and this many decimal digits.
pub(crate) const KEY_DIGITS: usize = 10;

// What stands in a template where a call writes its own. Nothing else in a template looks like these.
const KEY: [u8; KEY_DIGITS] = *b"##########";
const VALUE_BYTE: u8 = 0xa5;
/// Takes five bytes as a varint. All revisions are written as five bytes (padded, which protobuf allows), so
/// that the lengths around them are fixed; 2^35 revisions are more than any run makes.
const REVISION: i64 = 0x5_5aa5_5aa5;
const REVISION_BYTES: usize = 5;

/// An encoded gRPC message with places that are filled in per call.
#[derive(Clone)]
pub(crate) struct Request {
    template: Bytes,
    keys: Vec<usize>,
    values: Vec<(usize, usize)>,
    revisions: Vec<usize>,
    /// Reused as soon as the transport has let go of the request before.
    buffer: BytesMut,
}

impl Request {
    /// Puts a value of `value_size` random bytes.
    pub(crate) fn put(prefix: &str, value_size: usize) -> Request {
        Request::from_message(&put(prefix, value_size), value_size)
    }

    /// Kubernetes' update: put if the key has the expected modification revision, else get it.
    pub(crate) fn update(prefix: &str, value_size: usize) -> Request {
        let compare = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key(prefix),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::ModRevision(REVISION)),
        };
        let get = RangeRequest {
            key: key(prefix),
            ..RangeRequest::default()
        };
        let txn = TxnRequest {
            compare: vec![compare],
            success: vec![RequestOp {
                request: Some(Op::RequestPut(put(prefix, value_size))),
            }],
            failure: vec![RequestOp {
                request: Some(Op::RequestRange(get)),
            }],
        };
        Request::from_message(&txn, value_size)
    }

    /// Gets one key.
    pub(crate) fn get(prefix: &str, serializable: bool) -> Request {
        let get = RangeRequest {
            key: key(prefix),
            serializable,
            ..RangeRequest::default()
        };
        Request::from_message(&get, 0)
    }

    /// Lists all keys of a prefix, or the first `limit` of them if that is not 0.
    pub(crate) fn list(prefix: &str, limit: i64) -> Request {
        let list = RangeRequest {
            key: Bytes::copy_from_slice(prefix.as_bytes()),
            range_end: prefix_end(prefix),
            limit,
            ..RangeRequest::default()
        };
        Request::from_message(&list, 0)
    }

    /// The next page as Kubernetes asks for it: from behind the last key seen, at the revision of the first page.
    pub(crate) fn next_page(prefix: &str, limit: i64) -> Request {
        let mut start = key(prefix).to_vec();
        start.push(0);
        let list = RangeRequest {
            key: start.into(),
            range_end: prefix_end(prefix),
            limit,
            revision: REVISION,
            ..RangeRequest::default()
        };
        Request::from_message(&list, 0)
    }

    /// Opens a watcher of all keys of a prefix.
    pub(crate) fn watch(prefix: &str) -> Request {
        let create = WatchCreateRequest {
            key: Bytes::copy_from_slice(prefix.as_bytes()),
            range_end: prefix_end(prefix),
            ..WatchCreateRequest::default()
        };
        Request::from_message(
            &WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create)),
            },
            0,
        )
    }

    /// Opens a watcher of one key.
    pub(crate) fn watch_key(prefix: &str) -> Request {
        let create = WatchCreateRequest {
            key: key(prefix),
            ..WatchCreateRequest::default()
        };
        Request::from_message(
            &WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create)),
            },
            0,
        )
    }

    /// Fills a put, and writes a number to the front of the value, where the event of it will have it.
    pub(crate) fn fill_stamped(&mut self, key: u64, number: u64, random: &mut Random) -> Bytes {
        self.write(key, 0, random);
        for (place, length) in &self.values {
            event::stamp(&mut self.buffer[*place..*place + *length], number);
        }
        self.buffer.split().freeze()
    }

    /// Writes the key's number, random bytes and the revision into their places.
    pub(crate) fn fill(&mut self, key: u64, revision: i64, random: &mut Random) -> Bytes {
        self.write(key, revision, random);
        self.buffer.split().freeze()
    }

    fn write(&mut self, key: u64, revision: i64, random: &mut Random) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.template);
        let bytes = &mut self.buffer[..];
        for place in &self.keys {
            let mut left = key;
            for digit in bytes[*place..*place + KEY_DIGITS].iter_mut().rev() {
                *digit = b"0123456789"[(left % 10) as usize];
                left /= 10;
            }
        }
        for (place, length) in &self.values {
            random.fill(&mut bytes[*place..*place + *length]);
        }
        for place in &self.revisions {
            bytes[*place..*place + REVISION_BYTES].copy_from_slice(&five_bytes(revision));
        }
    }

    /// The request as it is, for those without places.
    pub(crate) fn fixed(&self) -> Bytes {
        self.template.clone()
    }

    fn from_message(message: &impl Message, value_size: usize) -> Request {
        let body = message.encode_to_vec();
        let length = u32::try_from(body.len()).expect("a request is far below 4 GiB");
        let mut template = Vec::with_capacity(5 + body.len());
        template.push(0);
        template.extend_from_slice(&length.to_be_bytes());
        template.extend_from_slice(&body);
        let values = if value_size == 0 {
            Vec::new()
        } else {
            places(&template, &vec![VALUE_BYTE; value_size])
        };
        Request {
            keys: places(&template, &KEY),
            values: values
                .into_iter()
                .map(|place| (place, value_size))
                .collect(),
            revisions: places(&template, &five_bytes(REVISION)),
            template: template.into(),
            buffer: BytesMut::new(),
        }
    }
}

fn key(prefix: &str) -> Bytes {
    [prefix.as_bytes(), &KEY].concat().into()
}

fn put(prefix: &str, value_size: usize) -> PutRequest {
    PutRequest {
        key: key(prefix),
        value: vec![VALUE_BYTE; value_size].into(),
        ..PutRequest::default()
    }
}

/// The first key behind all keys with this prefix.
/// The first key of a prefix and the first behind it.
pub(crate) fn range_of(prefix: &str) -> (Bytes, Bytes) {
    (
        Bytes::copy_from_slice(prefix.as_bytes()),
        prefix_end(prefix),
    )
}

fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("prefixes of runs are not empty") += 1;
    end.into()
}

fn five_bytes(revision: i64) -> [u8; REVISION_BYTES] {
    let mut bytes = [0_u8; REVISION_BYTES];
    let mut left = revision.cast_unsigned();
    for byte in &mut bytes {
        *byte = (left & 0x7f) as u8 | 0x80;
        left >>= 7;
    }
    bytes[REVISION_BYTES - 1] &= 0x7f;
    bytes
}

/// Where `pattern` occurs, without overlaps.
fn places(bytes: &[u8], pattern: &[u8]) -> Vec<usize> {
    let mut found: Vec<usize> = Vec::new();
    for (place, window) in bytes.windows(pattern.len()).enumerate() {
        if window == pattern
            && found
                .last()
                .is_none_or(|last| place >= last + pattern.len())
        {
            found.push(place);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use proto::etcd::etcdserverpb::compare::TargetUnion;
    use proto::etcd::etcdserverpb::request_op::Request as Op;
    use proto::etcd::etcdserverpb::{PutRequest, RangeRequest, TxnRequest, WatchRequest};

    use super::{Request, five_bytes};
    use crate::random::Random;

    #[test]
    fn a_filled_update_is_what_kubernetes_sends() {
        let mut request = Request::update("/registry/pods/", 1024);
        let mut random = Random::new(1);
        for (number, revision) in [(42, 1), (9_999_999_999, (1 << 35) - 1)] {
            let bytes = request.fill(number, revision, &mut random);
            let txn = TxnRequest::decode(&bytes[5..]).unwrap();
            let key = format!("/registry/pods/{number:010}");
            assert_eq!(txn.compare[0].key, key);
            assert_eq!(
                txn.compare[0].target_union,
                Some(TargetUnion::ModRevision(revision))
            );
            let Some(Op::RequestPut(put)) = &txn.success[0].request else {
                panic!("no put")
            };
            assert_eq!((&put.key[..], put.value.len()), (key.as_bytes(), 1024));
            assert!(put.value.iter().any(|byte| *byte != put.value[0]));
            let Some(Op::RequestRange(get)) = &txn.failure[0].request else {
                panic!("no get")
            };
            assert_eq!(get.key, key);
        }
    }

    #[test]
    fn pages_start_behind_a_key_at_a_revision() {
        let bytes = Request::next_page("/a/", 500).fill(499, 77, &mut Random::new(1));
        let page = RangeRequest::decode(&bytes[5..]).unwrap();
        assert_eq!(page.key, &b"/a/0000000499\0"[..]);
        assert_eq!(
            (page.range_end, page.limit, page.revision),
            ("/a0".into(), 500, 77)
        );
        let first = RangeRequest::decode(&Request::list("/a/", 500).fixed()[5..]).unwrap();
        assert_eq!(
            (first.key, first.limit, first.revision),
            ("/a/".into(), 500, 0)
        );
    }

    #[test]
    fn a_stamped_put_has_the_number_at_the_front_of_its_value() {
        let bytes = Request::put("/a/", 16).fill_stamped(5, 1 << 33, &mut Random::new(1));
        let put = PutRequest::decode(&bytes[5..]).unwrap();
        assert_eq!(put.key, "/a/0000000005");
        assert_eq!(put.value[..8], (1_u64 << 33).to_le_bytes());
        assert_ne!(put.value[8..], [super::VALUE_BYTE; 8]);
    }

    #[test]
    fn the_buffer_is_used_again_once_the_request_is_gone() {
        let mut request = Request::put("/a/", 256);
        let mut random = Random::new(1);
        let place = request.fill(1, 0, &mut random).as_ptr();
        let again = (0..50)
            .filter(|key| request.fill(*key, 0, &mut random).as_ptr() == place)
            .count();
        assert!(again >= 49, "{again}");
    }

    #[test]
    fn the_prefix_of_the_message_holds_its_length() {
        let bytes = Request::watch("/a/").fixed();
        assert_eq!(
            u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize,
            bytes.len() - 5
        );
        assert!(
            WatchRequest::decode(&bytes[5..])
                .unwrap()
                .request_union
                .is_some()
        );
        assert_eq!(five_bytes(1), [0x81, 0x80, 0x80, 0x80, 0]);
    }
}
