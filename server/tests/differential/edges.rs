//! Limits, hit from both sides, and requests that no client library sends.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use prost::Message;
use prost::encoding::encoded_len_varint;
use proto::etcd::etcdserverpb::request_op::Request as TxnOp;
use proto::etcd::etcdserverpb::{
    Compare, DeleteRangeRequest, HashKvRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest,
};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::{Code, Request, Status};

use crate::command::{Answer, Command};
use crate::compare::{Verdict, compare};
use crate::servers::Servers;
use crate::side::Side;

fn op(request: TxnOp) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn get(key: &'static str) -> RequestOp {
    op(TxnOp::RequestRange(RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    }))
}

/// So many transactions in each other.
fn tower(levels: usize) -> TxnRequest {
    let mut txn = TxnRequest::default();
    for _ in 1..levels {
        txn = TxnRequest {
            success: vec![op(TxnOp::RequestTxn(txn))],
            ..TxnRequest::default()
        };
    }
    txn
}

/// A transaction with so many operations before a nested one.
fn nested(outer: usize, compares: usize, success: usize, failure: usize) -> TxnRequest {
    let compare = Compare {
        key: "a".into(),
        ..Compare::default()
    };
    let inner = TxnRequest {
        compare: vec![compare; compares],
        success: vec![get("b"); success],
        failure: vec![get("c"); failure],
    };
    let mut ops = vec![get("a"); outer];
    ops.push(op(TxnOp::RequestTxn(inner)));
    TxnRequest {
        success: ops,
        ..TxnRequest::default()
    }
}

#[tokio::test]
async fn what_nests_gets_what_is_left_of_the_operations() {
    let mut servers = Servers::start(&["--max-txn-ops", "5"]);
    let (mut etcd, mut holdfast) = servers.connect().await;
    let mut refused = 0;
    for outer in 0..6 {
        for inner in 0..6 {
            for [compares, success, failure] in [[inner, 0, 0], [0, inner, 1], [1, 0, inner]] {
                let txn = Command::Txn(nested(outer, compares, success, failure));
                let (left, right) = (
                    etcd.send(txn.clone()).await,
                    holdfast.send(txn.clone()).await,
                );
                refused += usize::from(matches!(left, Answer::Refused(..)));
                assert!(
                    matches!(compare(&txn, &left, &right), Verdict::Same),
                    "{txn:?}\n{left:?}\n{right:?}"
                );
            }
        }
    }
    assert!((10..98).contains(&refused), "{refused}");
}

#[tokio::test]
async fn transactions_nest_thirty_two_levels_at_most() {
    let mut servers = Servers::start(&[]);
    let (mut etcd, mut holdfast) = servers.connect().await;
    let deepest = Command::Txn(tower(32));
    let (left, right) = (
        etcd.send(deepest.clone()).await,
        holdfast.send(deepest.clone()).await,
    );
    assert!(matches!(left, Answer::Txn(_)), "{left:?}");
    assert!(matches!(compare(&deepest, &left, &right), Verdict::Same));
    // A limit of Holdfast's own.
    let deeper = Command::Txn(tower(33));
    assert!(matches!(etcd.send(deeper.clone()).await, Answer::Txn(_)));
    assert_eq!(
        holdfast.send(deeper).await,
        Answer::Refused(
            Code::InvalidArgument,
            "etcdserver: too many operations in txn request".to_owned()
        )
    );
}

#[tokio::test]
async fn a_delete_without_an_end_does_not_hinder_a_put_of_what_it_deletes() {
    let mut servers = Servers::start(&[]);
    let (mut etcd, mut holdfast) = servers.connect().await;
    let delete = |key: &'static str, range_end: &'static str| DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: true,
    };
    let txn = |delete| {
        Command::Txn(TxnRequest {
            success: vec![
                op(TxnOp::RequestDeleteRange(delete)),
                op(TxnOp::RequestPut(put(3))),
                get("k"),
            ],
            ..TxnRequest::default()
        })
    };
    let all = RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..RangeRequest::default()
    };
    let commands = [
        Command::Put(put(1)),
        txn(delete("k", "\0")),
        Command::Put(put(2)),
        // With an end it does.
        txn(delete("k", "z")),
        txn(delete("a", "\0")),
        Command::Range(all),
        Command::Watch(WatchCreateRequest {
            key: "k".into(),
            start_revision: 2,
            prev_kv: true,
            ..WatchCreateRequest::default()
        }),
        Command::HashKv(HashKvRequest::default()),
    ];
    let mut refused = 0;
    for command in commands {
        let (left, right) = (
            etcd.send(command.clone()).await,
            holdfast.send(command.clone()).await,
        );
        refused += usize::from(matches!(left, Answer::Refused(..)));
        assert!(
            matches!(compare(&command, &left, &right), Verdict::Same),
            "{command:?}\n{left:?}\n{right:?}"
        );
    }
    assert_eq!(refused, 1);
}

/// The length of the first request that is too large, among those that `make` makes.
async fn first_too_large(
    side: &mut Side,
    lengths: Range<usize>,
    make: fn(usize) -> (usize, Command),
) -> usize {
    for length in lengths {
        let (encoded, command) = make(length);
        match side.send(command).await {
            Answer::Refused(code, text) => {
                assert_eq!(code, Code::InvalidArgument, "{text}");
                assert_eq!(text, "etcdserver: request is too large");
                return encoded;
            }
            _ => continue,
        }
    }
    panic!("nothing was too large")
}

fn put(length: usize) -> PutRequest {
    PutRequest {
        key: "k".into(),
        value: vec![b'v'; length].into(),
        ..PutRequest::default()
    }
}

#[tokio::test]
async fn a_write_is_too_large_from_the_same_byte_on() {
    const LIMIT: usize = 4096;
    let mut servers = Servers::start(&["--max-request-bytes", "4096"]);
    let (etcd, holdfast) = servers.connect().await;
    let makers: [fn(usize) -> (usize, Command); 3] = [
        |length| (put(length).encoded_len(), Command::Put(put(length))),
        |length| {
            let request = DeleteRangeRequest {
                key: vec![b'k'; length].into(),
                ..DeleteRangeRequest::default()
            };
            (request.encoded_len(), Command::DeleteRange(request))
        },
        |length| {
            let request = TxnRequest {
                success: vec![op(TxnOp::RequestPut(put(length)))],
                ..TxnRequest::default()
            };
            (request.encoded_len(), Command::Txn(request))
        },
    ];
    for mut side in [etcd, holdfast] {
        let Answer::Put(answer) = side.send(Command::Put(put(0))).await else {
            panic!("a put of nothing is refused")
        };
        // Around the request, in etcd's log: tag and length; tag, length and tag of the header; the id within, which
        // begins with the last two bytes of the member's.
        let id = answer.header.unwrap().member_id << 48 | 1 << 40;
        let around = 1 + 2 + 2 + 1 + 1 + encoded_len_varint(id);
        for make in makers {
            assert_eq!(
                first_too_large(&mut side, LIMIT - 60..LIMIT, make).await,
                LIMIT - around + 1
            );
        }
        // What only reads never comes into the log.
        let long_range = Command::Range(RangeRequest {
            key: vec![b'k'; LIMIT].into(),
            ..RangeRequest::default()
        });
        assert!(matches!(side.send(long_range).await, Answer::Range(_)));
    }
}

/// Messages as bytes.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// How a call ends.
async fn call(
    side: &Side,
    path: &'static str,
    header: Option<(&'static str, &'static [u8])>,
    message: &Bytes,
) -> (Code, String) {
    let mut grpc = Grpc::new(side.channel());
    grpc.ready().await.unwrap();
    let mut request = Request::new(message.clone());
    if let Some((name, value)) = header {
        let name = AsciiMetadataKey::from_static(name);
        let value = AsciiMetadataValue::try_from(value).unwrap();
        request.metadata_mut().insert(name, value);
    }
    let path = PathAndQuery::from_static(path);
    match grpc.unary(request, path, Raw).await {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => (status.code(), status.message().to_owned()),
    }
}

#[tokio::test]
async fn what_is_refused_before_it_is_understood() {
    let mut servers = Servers::start(&["--max-request-bytes", "4096"]);
    let (etcd, holdfast) = servers.connect().await;
    let receive_limit = 4096 + 512 * 1024;
    let range = |length: usize| {
        let request = RangeRequest {
            key: vec![b'k'; length].into(),
            ..RangeRequest::default()
        };
        Bytes::from(request.encode_to_vec())
    };
    let short = range(1);
    let fits = range(receive_limit - 4);
    assert_eq!(fits.len(), receive_limit);
    let beyond = range(receive_limit - 3);
    let kv_range = "/etcdserverpb.KV/Range";
    let table: [(_, Option<(_, &'static [u8])>, _, _); 13] = [
        (kv_range, None, &short, Code::Ok),
        (kv_range, None, &fits, Code::Ok),
        (kv_range, None, &beyond, Code::ResourceExhausted),
        (kv_range, Some(("hasleader", b"true")), &short, Code::Ok),
        (kv_range, Some(("hasleader", b"perhaps")), &short, Code::Ok),
        (
            kv_range,
            Some(("client-api-version", b"3.7")),
            &short,
            Code::Ok,
        ),
        (
            kv_range,
            Some(("client-api-version", b"3.\xff")),
            &short,
            Code::InvalidArgument,
        ),
        (
            "/etcdserverpb.KV/Nothing",
            None,
            &short,
            Code::Unimplemented,
        ),
        (
            "/etcdserverpb.Nothing/Range",
            None,
            &short,
            Code::Unimplemented,
        ),
        ("/nothing", None, &short, Code::Unimplemented),
        ("/", None, &short, Code::Unimplemented),
        ("/a/b/c", None, &short, Code::Unimplemented),
        // It comes before the message is looked at.
        ("/nothing/", None, &beyond, Code::Unimplemented),
    ];
    for (path, header, message, code) in table {
        let left = call(&etcd, path, header, message).await;
        let right = call(&holdfast, path, header, message).await;
        assert_eq!(left.0, code, "{path} {header:?}: {}", left.1);
        assert_eq!(left, right, "{path} {header:?}");
    }
    // Go's words for what is wrong with a message change from build to build; the code does not.
    for message in [&b"\xff"[..], b"\x0a\x05ab", b"\x07"] {
        let message = Bytes::from_static(message);
        let left = call(&etcd, kv_range, None, &message).await;
        let right = call(&holdfast, kv_range, None, &message).await;
        assert_eq!(left.0, Code::Internal, "{}", left.1);
        assert_eq!(left.0, right.0, "{}", right.1);
    }
}
