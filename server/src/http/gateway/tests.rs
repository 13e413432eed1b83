//! The gateway's table of paths, and both directions of its JSON.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::LazyLock;
use std::task::Context;
use std::time::Duration;

use futures_util::FutureExt as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use proto::etcd::etcdserverpb as pb;
use proto::etcd::mvccpb;

use super::*;
use crate::etcd::codec;
use crate::fuzz::fuzz;

fn pool() -> DescriptorPool {
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTORS).unwrap());
    POOL.clone()
}

fn descriptor(name: &str) -> MessageDescriptor {
    let name = format!("etcdserverpb.{name}");
    pool().get_message_by_name(&name).unwrap()
}

fn read<M: prost::Message + Default>(name: &str, json: &str) -> Result<M, String> {
    let message = read::message(&descriptor(name), json.as_bytes());
    let message = message.map_err(|error| error.to_string())?;
    Ok(M::decode(&message.encode_to_vec()[..]).unwrap())
}

fn written(name: &str, message: &impl prost::Message) -> String {
    let mut json = Vec::new();
    write::message(&descriptor(name), &message.encode_to_vec(), &mut json).unwrap();
    String::from_utf8(json).unwrap()
}

#[test]
fn every_call_of_etcd_but_the_newest_has_its_path() {
    let gateway = Gateway::new();
    assert_eq!(gateway.routes.len(), routes::ROUTES.len(), "all are found");
    let routed: Vec<&str> = routes::ROUTES.iter().map(|(_, call)| *call).collect();
    let without: Vec<String> = pool()
        .services()
        .filter(|service| {
            service.full_name().starts_with("etcdserverpb") || service.full_name().starts_with("v3")
        })
        .flat_map(|service| {
            let name = service.full_name().to_owned();
            let calls = service
                .methods()
                .map(move |call| format!("/{name}/{}", call.name()));
            calls.collect::<Vec<_>>()
        })
        .filter(|call| !routed.contains(&call.as_str()))
        .collect();
    assert_eq!(without, ["/etcdserverpb.KV/RangeStream"]);
}

#[test]
fn no_message_has_a_field_that_the_writer_does_not_know() {
    use prost_reflect::Kind;
    for message in pool().all_messages() {
        if message.package_name().starts_with("holdfast") {
            continue;
        }
        for field in message.fields() {
            assert!(!field.is_map(), "{}", field.full_name());
            let is_packed_list = field.is_list() && field.is_packed();
            let is_answer = !message.name().ends_with("Request");
            assert!(!(is_packed_list && is_answer), "{}", field.full_name());
            let is_known = matches!(
                field.kind(),
                Kind::Message(_)
                    | Kind::String
                    | Kind::Bytes
                    | Kind::Bool
                    | Kind::Int32
                    | Kind::Uint32
                    | Kind::Int64
                    | Kind::Uint64
                    | Kind::Enum(_)
            );
            assert!(is_known, "{}", field.full_name());
        }
    }
}

#[test]
fn requests_are_read_in_every_form_that_protojson_takes() {
    let expected = pb::RangeRequest {
        key: "\u{fb}\u{ff}".into(),
        range_end: "foo".into(),
        limit: 7,
        revision: -3,
        sort_order: pb::range_request::SortOrder::Descend as i32,
        serializable: true,
        ..pb::RangeRequest::default()
    };
    let forms = [
        r#"{"key":"w7vDvw==","range_end":"Zm9v","limit":"7","revision":"-3","sort_order":"DESCEND","serializable":true}"#,
        r#"{"key":"w7vDvw","rangeEnd":"Zm9v","limit":7,"revision":-3,"sortOrder":2,"serializable":true}"#,
        r#" {"key":"w7vD\n\nvw==\r\n","rangeEnd":"Zm9v","limit":7.0,"revision":"-3","sortOrder":2,"serializable":true} garbage"#,
        r#"{"what":[{}],"key":"w7vDvw==","range_end":"Zm9v","limit":"0.7e1","revision":-3,"sort_order":2e0,"sort_target":"NO_SUCH","min_mod_revision":null,"serializable":true}"#,
    ];
    for json in forms {
        assert_eq!(read("RangeRequest", json), Ok(expected.clone()), "{json}");
    }
    let url_safe: pb::RangeRequest = read("RangeRequest", r#"{"key":"-_8="}"#).unwrap();
    assert_eq!(url_safe.key, &b"\xfb\xff"[..]);
    for empty in ["", " \n", "{}"] {
        assert_eq!(read("RangeRequest", empty), Ok(pb::RangeRequest::default()));
    }
}

#[test]
fn requests_that_protojson_refuses_are_refused() {
    let cases = [
        "[]",
        "null",
        "5",
        "{",
        r#"{"key":"Zm9"#,
        r#"{"key":5}"#,
        r#"{"key":"!"}"#,
        r#"{"key":"Zg="}"#,
        r#"{"key":"Zg\n=="}"#,
        r#"{"key":"Zg","key":"Zg"}"#,
        r#"{"range_end":"Zg","rangeEnd":"Zg"}"#,
        r#"{"key":null,"key":"Zg"}"#,
        r#"{"limit":"x"}"#,
        r#"{"limit":" 1"}"#,
        r#"{"limit":"+1"}"#,
        r#"{"limit":1.5}"#,
        r#"{"limit":9223372036854775808}"#,
        r#"{"limit":9223372036854775808.0}"#,
        r#"{"limit":true}"#,
        r#"{"sort_order":true}"#,
        r#"{"sort_order":3000000000}"#,
        r#"{"serializable":"true"}"#,
        r#"{"serializable":1}"#,
    ];
    for json in cases {
        let message = read::<pb::RangeRequest>("RangeRequest", json);
        assert!(message.is_err(), "{json}: {message:?}");
    }
    let both = r#"{"success":[{"request_put":{},"request_range":{}}]}"#;
    let error = read::<pb::TxnRequest>("TxnRequest", both).unwrap_err();
    assert!(error.contains("oneof"), "{error}");
    assert!(read::<pb::TxnRequest>("TxnRequest", r#"{"success":[null]}"#).is_err());
    assert!(read::<pb::TxnRequest>("TxnRequest", r#"{"success":{}}"#).is_err());
}

#[test]
fn hostile_nesting_is_refused_and_what_etcd_allows_is_read() {
    let nested = |levels: usize| {
        let (open, close) = (r#"{"success":[{"request_txn":"#, "}]}");
        open.repeat(levels) + "{}" + &close.repeat(levels)
    };
    assert!(read::<pb::TxnRequest>("TxnRequest", &nested(31)).is_ok());
    assert!(read::<pb::TxnRequest>("TxnRequest", &nested(100_000)).is_err());
    let unknown = r#"{"x":"#.to_owned() + &"[".repeat(1_000_000);
    assert!(read::<pb::TxnRequest>("TxnRequest", &unknown).is_err());
}

#[test]
fn answers_are_written_as_protojson_does() {
    let header = Some(pb::ResponseHeader {
        cluster_id: u64::MAX,
        member_id: 0,
        revision: -1,
        raft_term: 2,
    });
    let pair = |key: &'static str| mvccpb::KeyValue {
        key: key.into(),
        version: 1,
        ..mvccpb::KeyValue::default()
    };
    let range = pb::RangeResponse {
        header,
        kvs: vec![pair("a"), pair(""), pair("?>")],
        more: true,
        count: 3,
    };
    let range_json = r#"{"header":{"cluster_id":"18446744073709551615","revision":"-1","raft_term":"2"},"kvs":[{"key":"YQ==","version":"1"},{"version":"1"},{"key":"Pz4=","version":"1"}],"more":true,"count":"3"}"#;
    assert_eq!(written("RangeResponse", &range), range_json);
    assert_eq!(
        written("RangeResponse", &pb::RangeResponse::default()),
        "{}"
    );
    let members = pb::MemberListResponse {
        header: None,
        members: vec![pb::Member {
            id: 7,
            name: "a\"\\\n\u{1}é".to_owned(),
            peer_urls: vec!["x".to_owned(), "y".to_owned()],
            client_urls: Vec::new(),
            is_learner: true,
        }],
    };
    assert_eq!(
        written("MemberListResponse", &members),
        r#"{"members":[{"ID":"7","name":"a\"\\\n\u0001é","peerURLs":["x","y"],"isLearner":true}]}"#
    );
    let alarms = pb::AlarmResponse {
        header: None,
        alarms: [1, 9]
            .map(|alarm| pb::AlarmMember {
                member_id: 1,
                alarm,
            })
            .into(),
    };
    assert_eq!(
        written("AlarmResponse", &alarms),
        r#"{"alarms":[{"memberID":"1","alarm":"NOSPACE"},{"memberID":"1","alarm":9}]}"#
    );
    let hash = pb::HashKvResponse {
        header: None,
        hash: u32::MAX,
        compact_revision: -1,
        hash_revision: 4,
    };
    assert_eq!(
        written("HashKVResponse", &hash),
        r#"{"hash":4294967295,"compact_revision":"-1","hash_revision":"4"}"#
    );
}

#[test]
fn an_answer_in_pieces_is_the_whole_one_wherever_it_is_cut() {
    let pair = |number: usize| mvccpb::KeyValue {
        key: vec![b'k'; number * 7].into(),
        mod_revision: 1 << number,
        ..mvccpb::KeyValue::default()
    };
    let range = pb::RangeResponse {
        header: Some(pb::ResponseHeader::default()),
        kvs: (0..40).map(pair).collect(),
        more: true,
        count: i64::MAX,
    };
    let whole = written("RangeResponse", &range);
    let encoded = prost::Message::encode_to_vec(&range);
    for length in [1, 2, 3, 19, 20, 21, 64, 1000] {
        let mut json = Vec::new();
        let mut unread = Vec::new();
        let mut writer = write::Writer::new(descriptor("RangeResponse"), &mut json);
        for piece in encoded.chunks(length) {
            unread.extend_from_slice(piece);
            let taken = writer.fields(&unread, &mut json).unwrap();
            unread.drain(..taken);
        }
        assert!(unread.is_empty());
        writer.end(&mut json);
        assert_eq!(
            String::from_utf8(json).unwrap(),
            whole,
            "pieces of {length}"
        );
    }
}

/// A body of these frames, with or without an end.
struct Frames {
    frames: VecDeque<Frame<Bytes>>,
    has_end: bool,
}

impl Frames {
    fn body(frames: Vec<Frame<Bytes>>) -> Body {
        Body::Other(Box::pin(Self {
            frames: frames.into(),
            has_end: true,
        }))
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.frames.pop_front() {
            None if !self.has_end => Poll::Pending,
            frame => Poll::Ready(frame.map(Ok)),
        }
    }
}

/// The text of a body as far as it came, and whether it broke off.
async fn text_of(mut body: Body) -> (String, bool) {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            assert!(
                body.frame().await.is_none(),
                "nothing comes behind the break"
            );
            return (String::from_utf8(text).unwrap(), true);
        };
        text.extend_from_slice(&frame.into_data().unwrap());
    }
    (String::from_utf8(text).unwrap(), false)
}

#[tokio::test]
async fn a_long_answer_ends_as_json_only_if_it_came_whole_and_succeeded() {
    let range = pb::RangeResponse {
        kvs: (0..20_u8)
            .map(|number| mvccpb::KeyValue {
                key: vec![number; 10].into(),
                ..mvccpb::KeyValue::default()
            })
            .collect(),
        count: 20,
        ..pb::RangeResponse::default()
    };
    let whole = codec::frame(&range);
    let rest = |from: usize| Frame::data(whole.slice(from..));
    let success = || Frame::trailers(codec::success());
    let failure = || Frame::trailers(codec::failure(&error::STORE_FAULT));
    for cut in [0, 3, PREFIX, 40, PREFIX + 3 * 14, whole.len() - 1] {
        let answered = |frames: Vec<Frame<Bytes>>| {
            let (body, first) = (Frames::body(frames), whole.slice(..cut));
            text_of(answer::whole_or_pieces(body, first, &descriptor("RangeResponse")).unwrap())
        };
        let text = answered(vec![rest(cut), success()]).await;
        assert_eq!(
            text,
            (written("RangeResponse", &range), false),
            "cut at {cut}"
        );
        let cases = [
            ("it failed half way", vec![failure()]),
            ("it failed behind the last byte", vec![rest(cut), failure()]),
            ("it is too short", vec![success()]),
            ("it has no end", vec![rest(cut)]),
            (
                "its end says nothing",
                vec![rest(cut), Frame::trailers(HeaderMap::new())],
            ),
        ];
        for (case, frames) in cases {
            let (text, is_broken) = answered(frames).await;
            assert!(is_broken, "{case}, cut at {cut}: {text}");
            assert!(
                serde_json::from_str::<serde_json::Value>(&text).is_err(),
                "{case}: {text}"
            );
        }
    }
}

/// What becomes of a body of requests in such pieces: the frames, and the complaint.
async fn requests(json: &[u8], piece: usize, has_end: bool) -> (Vec<Bytes>, Option<Status>) {
    let pieces = json.chunks(piece).map(Bytes::copy_from_slice);
    let body = Frames {
        frames: pieces.map(Frame::data).collect(),
        has_end,
    };
    let complaint = Complaint::default();
    let descriptor = descriptor("WatchRequest");
    let mut requests = Requests::new(body, descriptor, 1 << 20, complaint.clone());
    let mut frames = Vec::new();
    // Without an end it waits for more at last.
    while let Some(Some(frame)) = requests.frame().now_or_never() {
        frames.push(frame.unwrap().into_data().unwrap());
    }
    (frames, complaint.get().cloned())
}

#[tokio::test]
async fn a_request_is_passed_on_as_soon_as_it_is_whole_however_it_is_cut() {
    let values = [
        r#"{"create_request":{"key":"YQ==","filters":[1],"x":"}\"{"}}"#,
        r#" {"progress_request":{}}"#,
        "\n{}",
    ];
    let descriptor = descriptor("WatchRequest");
    let expected = values.map(|json| framed(&descriptor, json.as_bytes()).unwrap());
    let json = values.concat();
    for piece in (1..=json.len()).rev() {
        let found = requests(json.as_bytes(), piece, false).await;
        assert_eq!(found, (expected.to_vec(), None), "pieces of {piece}");
        let (frames, complaint) = requests((json.clone() + " {").as_bytes(), piece, true).await;
        assert_eq!(frames, expected, "pieces of {piece}");
        assert_eq!(complaint.unwrap().code(), Code::InvalidArgument);
    }
    for wrong in [
        "[",
        "]",
        "5",
        "\"",
        "nul",
        ",{}",
        "{]",
        r#"{"x"}"#,
        r#"{"create_request":5}"#,
    ] {
        let (frames, complaint) = requests(format!("{{}}{wrong}").as_bytes(), 1, false).await;
        assert_eq!(frames, [framed(&descriptor, b"{}").unwrap()], "{wrong}");
        assert!(complaint.is_some(), "{wrong} is complained of at once");
    }
}

#[tokio::test]
async fn a_long_request_in_short_pieces_is_looked_at_once() {
    // Looked at again with each piece it would be 60 GB.
    let value = "x".repeat(500_000);
    let json = format!(r#"{{"what":"{value}"}}"#);
    let began = Instant::now();
    let (frames, complaint) = requests(json.as_bytes(), 2, true).await;
    assert_eq!((frames.len(), complaint), (1, None));
    let endless = json.repeat(3).replace("\"}", "x");
    let (frames, complaint) = requests(endless.as_bytes(), 2, true).await;
    assert_eq!(frames.len(), 0);
    assert_eq!(complaint.unwrap().code(), Code::ResourceExhausted);
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_stream_ends_with_an_error_when_its_time_is_up() {
    let message = codec::frame(&pb::WatchResponse {
        created: true,
        ..pb::WatchResponse::default()
    });
    let line = r#"{"result":{"created":true}}"#;
    let late = r#"{"error":{"code":4,"message":"context deadline exceeded"}}"#;
    let lines = |frames: Vec<Frame<Bytes>>, has_end, millis| {
        let stream = Frames {
            frames: frames.into(),
            has_end,
        };
        let lines = answer::Lines::new(
            Body::Other(Box::pin(stream)),
            message.clone(),
            descriptor("WatchResponse"),
            Some(Instant::now() + Duration::from_millis(millis)),
            Complaint::default(),
        );
        text_of(Body::Other(Box::pin(lines)))
    };
    let ended = vec![Frame::trailers(codec::success())];
    let text = lines(ended, true, 60_000).await;
    assert_eq!(text, (format!("{line}\n"), false));
    let text = lines(Vec::new(), false, 10).await;
    assert_eq!(text, (format!("{line}\n{late}\n"), false));
}

#[tokio::test]
async fn a_call_has_until_its_deadline() {
    let within = |call, millis: Option<u64>| {
        let deadline = millis.map(|millis| Instant::now() + Duration::from_millis(millis));
        within(deadline, call)
    };
    let ready = || std::future::ready(Ok(1)).boxed();
    let never = || std::future::pending::<Result<u8, Status>>().boxed();
    assert_eq!(within(ready(), None).await, Ok(1));
    assert_eq!(within(ready(), Some(60_000)).await, Ok(1));
    let late = Err(error::DEADLINE_EXCEEDED);
    assert_eq!(within(never(), Some(10)).await, late);
    assert_eq!(within(ready(), Some(0)).await, late, "it is not begun");
}

#[test]
fn bytes_that_are_no_message_are_an_error() {
    let mut json = Vec::new();
    for encoded in [&b"\x0a\x05ab"[..], b"\x0b", b"\x08\x01", &[0xff; 30]] {
        assert!(write::message(&descriptor("RangeResponse"), encoded, &mut json).is_err());
    }
}

#[test]
fn json_of_any_kind_is_read_or_refused() {
    let descriptors = ["RangeRequest", "TxnRequest", "WatchRequest"].map(descriptor);
    fuzz("json", 50_000, |input| {
        let end = read::End::default().find(input);
        assert!(end.is_none_or(|end| end <= input.len()));
        let mut pieces = read::End::default();
        let in_pieces = (0..=input.len()).find_map(|length| pieces.find(&input[..length]));
        assert_eq!(in_pieces, end);
        let mut given = 0;
        for descriptor in &descriptors {
            let Ok(message) = read::message(descriptor, input) else {
                continue;
            };
            // What is read ends where the next one begins.
            if let Some(end) = end {
                assert_eq!(read::message(descriptor, &input[..end]).unwrap(), message);
            } else {
                assert_eq!(message, DynamicMessage::new(descriptor.clone()));
            }
            // What is read can be written, and is then the same.
            let encoded = message.encode_to_vec();
            let mut json = Vec::new();
            if write::message(descriptor, &encoded, &mut json).is_ok() {
                let again = read::message(descriptor, &json).unwrap();
                assert_eq!(again.encode_to_vec(), encoded);
            }
            given += encoded.len() + json.len();
        }
        given / 8
    });
}

#[test]
fn bytes_of_any_kind_are_written_as_json_or_refused() {
    let descriptors = ["RangeRequest", "TxnRequest"].map(descriptor);
    fuzz("request", 50_000, |input| {
        let mut given = 0;
        for descriptor in &descriptors {
            let mut json = Vec::new();
            if write::message(descriptor, input, &mut json).is_ok() {
                serde_json::from_slice::<serde::de::IgnoredAny>(&json).unwrap();
            }
            given += json.len();
        }
        given / 16
    });
}

/// The body of an answer in pieces, of which the first byte says how long they are; what it ends with.
fn answered(input: &[u8], end: Option<HeaderMap>) -> (Bytes, Body) {
    let (&size, rest) = input.split_first().unwrap_or((&0, &[]));
    let mut pieces = rest
        .chunks(usize::from(size).max(1))
        .map(Bytes::copy_from_slice);
    let first = pieces.next().unwrap_or_default();
    let frames = pieces.map(Frame::data).chain(end.map(Frame::trailers));
    (first, Frames::body(frames.collect()))
}

/// What is there of a text must be JSON, up to where it broke off.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

#[test]
fn an_answer_of_any_kind_is_json_or_breaks_off() {
    let descriptors = ["RangeRequest", "TxnRequest"].map(descriptor);
    fuzz("unary", 20_000, |input| {
        let mut given = 0;
        for descriptor in &descriptors {
            for end in [Some(codec::success()), None] {
                let (first, body) = answered(input, end);
                let Ok(body) = answer::whole_or_pieces(body, first, descriptor) else {
                    continue;
                };
                let (text, is_broken) = text_of(body).now_or_never().expect("all is there");
                assert_eq!(is_json(&text), !is_broken, "{text}");
                given += text.len();
            }
        }
        given / 16
    });
}

#[test]
fn a_stream_of_any_kind_is_lines_of_json() {
    let descriptors = ["RangeRequest", "TxnRequest", "WatchRequest"].map(descriptor);
    fuzz("unary", 20_000, |input| {
        let mut given = 0;
        for descriptor in &descriptors {
            let (first, body) = answered(input, Some(codec::failure(&error::STOPPED)));
            let complaint = Complaint::default();
            let lines = answer::Lines::new(body, first, descriptor.clone(), None, complaint);
            let text = text_of(Body::Other(Box::pin(lines))).now_or_never();
            let (text, _) = text.expect("all is there");
            assert!(text.ends_with('\n') && text.lines().all(is_json), "{text}");
            given += text.len();
        }
        given / 24
    });
}

#[test]
fn requests_of_any_kind_are_taken_the_same_in_one_piece_and_in_many() {
    fuzz("json", 20_000, |input| {
        let taken = |piece| {
            requests(input, piece, true)
                .now_or_never()
                .expect("all is there")
        };
        let (frames, complaint) = taken(input.len().max(1));
        let (in_pieces, other_complaint) = taken(1 + input.len() % 7);
        assert_eq!(in_pieces, frames);
        assert_eq!(other_complaint, complaint);
        frames.iter().map(Bytes::len).sum()
    });
}
