//! The gateway's table of paths, and both directions of its JSON.

use prost_reflect::DescriptorPool;
use proto::etcd::etcdserverpb as pb;
use proto::etcd::mvccpb;

use super::*;

#[path = "../../../../store/tests/fuzz/mod.rs"]
mod fuzz;

fn pool() -> DescriptorPool {
    DescriptorPool::decode(proto::DESCRIPTORS).unwrap()
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
        .filter(|service| service.full_name() != "grpc.health.v1.Health")
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
    fuzz::fuzz("json", 50_000, |input| {
        let end = read::first_value(input).ok().flatten();
        assert!(end.is_none_or(|end| end <= input.len()));
        let mut given = 0;
        for descriptor in &descriptors {
            let Ok(message) = read::message(descriptor, input) else {
                continue;
            };
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
    fuzz::fuzz("request", 50_000, |input| {
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
