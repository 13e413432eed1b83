//! The rules of etcd's KV service as a client meets them on the wire.

mod node;

use client::{Client, Code, Keys, ListOptions, Status};
use node::Node;
use prost::Message;
use proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::response_op::Response;
use proto::etcd::etcdserverpb::{
    AlarmRequest, AuthStatusRequest, CompactionRequest, Compare, DeleteRangeRequest,
    MemberListRequest, PutRequest, RangeRequest, RangeStreamResponse, RequestOp, StatusRequest,
    TxnRequest,
};
use proto::health::HealthCheckRequest;
use proto::health::health_check_response::ServingStatus;

/// A fresh node and a client of it; the folder goes when it is dropped.
async fn start() -> (tempfile::TempDir, Node, Client) {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(&folder.path().join("data"));
    let client = client::connect(node.endpoint.clone())
        .await
        .expect("the node serves");
    (folder, node, client)
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn prefix(prefix: &'static str) -> RangeRequest {
    let (key, range_end) = Keys::prefix(prefix).into_wire();
    RangeRequest {
        key,
        range_end,
        ..Default::default()
    }
}

fn assert_status<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, text: &str) {
    let status = result.expect_err(text);
    assert_eq!((status.code(), status.message()), (code, text));
}

#[tokio::test]
async fn bad_requests_get_etcds_code_and_text_and_the_node_lives_on() {
    let (_folder, _node, client) = start().await;
    let mut kv = client.kv();
    let no_key = "etcdserver: key is not provided";
    assert_status(
        kv.range(RangeRequest::default()).await,
        Code::InvalidArgument,
        no_key,
    );
    assert_status(
        kv.put(PutRequest::default()).await,
        Code::InvalidArgument,
        no_key,
    );
    assert_status(
        kv.delete_range(DeleteRangeRequest::default()).await,
        Code::InvalidArgument,
        no_key,
    );
    let unknown_order = RangeRequest {
        sort_order: 7,
        ..prefix("a")
    };
    assert_status(
        kv.range(unknown_order).await,
        Code::InvalidArgument,
        "etcdserver: invalid sort option",
    );
    let twice = TxnRequest {
        success: vec![
            op(Request::RequestPut(put("a", "1"))),
            op(Request::RequestPut(put("a", "2"))),
        ],
        ..Default::default()
    };
    assert_status(
        kv.txn(twice).await,
        Code::InvalidArgument,
        "etcdserver: duplicate key given in txn request",
    );
    let too_many = TxnRequest {
        success: (0..129)
            .map(|number| op(Request::RequestPut(put(&number.to_string(), ""))))
            .collect(),
        ..Default::default()
    };
    assert_status(
        kv.txn(too_many).await,
        Code::InvalidArgument,
        "etcdserver: too many operations in txn request",
    );
    let ignoring = PutRequest {
        ignore_value: true,
        ..put("missing", "")
    };
    assert_status(
        kv.put(ignoring).await,
        Code::InvalidArgument,
        "etcdserver: key not found",
    );
    let leased = PutRequest {
        lease: 7,
        ..put("a", "")
    };
    assert_status(
        kv.put(leased).await,
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
    let future = RangeRequest {
        revision: 99,
        ..prefix("a")
    };
    let no_such_revision = "etcdserver: mvcc: required revision is a future revision";
    assert_status(kv.range(future).await, Code::OutOfRange, no_such_revision);
    let compaction = CompactionRequest {
        revision: 99,
        physical: false,
    };
    assert_status(
        kv.compact(compaction).await,
        Code::OutOfRange,
        no_such_revision,
    );

    let alive = kv.put(put("a", "1")).await.unwrap().into_inner();
    assert_eq!(
        alive.header.unwrap().revision,
        2,
        "nothing of all that was written"
    );
}

#[tokio::test]
async fn a_put_beyond_the_limits_is_refused_at_both_of_them() {
    let (_folder, _node, client) = start().await;
    let mut kv = client.kv();
    let fits = PutRequest {
        value: vec![b'x'; 1_572_864 - 128].into(),
        ..put("big", "")
    };
    assert_eq!(
        kv.put(fits)
            .await
            .unwrap()
            .into_inner()
            .header
            .unwrap()
            .revision,
        2
    );
    let too_large = PutRequest {
        value: vec![b'x'; 1_572_864].into(),
        ..put("big", "")
    };
    assert_status(
        kv.put(too_large).await,
        Code::InvalidArgument,
        "etcdserver: request is too large",
    );
    let unread = PutRequest {
        value: vec![b'x'; 3_000_000].into(),
        ..put("big", "")
    };
    let text = format!(
        "grpc: received message larger than max ({} vs. 2097152)",
        unread.encoded_len()
    );
    assert_status(kv.put(unread).await, Code::ResourceExhausted, &text);
    assert_eq!(
        client.get("big").await.unwrap().unwrap().value.len(),
        1_572_864 - 128
    );
}

#[tokio::test]
async fn headers_name_cluster_and_member_and_the_newest_revision() {
    let (_folder, _node, client) = start().await;
    let mut kv = client.kv();
    kv.put(put("a", "1")).await.unwrap();
    let written = kv
        .put(put("a", "2"))
        .await
        .unwrap()
        .into_inner()
        .header
        .unwrap();
    assert!(written.cluster_id != 0 && written.member_id != 0 && written.raft_term > 0);
    let old = RangeRequest {
        revision: 2,
        ..prefix("a")
    };
    let answer = kv.range(old).await.unwrap().into_inner();
    assert_eq!(
        answer.header,
        Some(written),
        "also when an older revision was asked for"
    );
    assert_eq!(&answer.kvs[0].value[..], b"1");
}

#[tokio::test]
async fn count_ignores_the_limit_and_more_tells_of_it() {
    let (_folder, _node, client) = start().await;
    for number in 0..10 {
        client.put(format!("k{number}"), "v").await.unwrap();
    }
    let mut kv = client.kv();
    let page = kv
        .range(RangeRequest {
            limit: 3,
            ..prefix("k")
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((page.kvs.len(), page.more, page.count), (3, true, 10));
    let all = kv
        .range(RangeRequest {
            limit: 10,
            ..prefix("k")
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((all.kvs.len(), all.more, all.count), (10, false, 10));
    let counted = kv
        .range(RangeRequest {
            count_only: true,
            ..prefix("k")
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (counted.kvs.len(), counted.more, counted.count),
        (0, false, 10)
    );
}

#[tokio::test]
async fn a_range_stream_merges_to_the_unary_answer() {
    let (_folder, _node, client) = start().await;
    let value = "v".repeat(2000);
    for number in 0..1200 {
        client
            .put(format!("k{number:04}"), value.clone())
            .await
            .unwrap();
    }
    let mut kv = client.kv();
    for limit in [0, 1, 10, 11, 700, 1200, 5000] {
        let request = RangeRequest {
            limit,
            ..prefix("k")
        };
        let unary = kv.range(request.clone()).await.unwrap().into_inner();
        let mut pieces = kv.range_stream(request).await.unwrap().into_inner();
        let mut merged = RangeStreamResponse::default();
        let mut headers = 0;
        while let Some(piece) = pieces.message().await.unwrap() {
            let response = piece.range_response.as_ref().unwrap();
            let is_bare = response.header.is_none() && !response.more && response.count == 0;
            headers += usize::from(!is_bare);
            merged.merge(&piece.encode_to_vec()[..]).unwrap();
        }
        assert_eq!(headers, 1, "header, more and count are on one piece");
        assert_eq!(merged.range_response, Some(unary), "limit {limit}");
    }
    // Ascending by key is the order that it has.
    let sorted = RangeRequest {
        sort_order: 2,
        ..prefix("k")
    };
    assert_status(
        kv.range_stream(sorted).await,
        Code::Unimplemented,
        "RangeStream does not support custom sort orders",
    );
}

#[tokio::test]
async fn a_range_stream_shows_one_revision_whatever_is_written_meanwhile() {
    let (_folder, _node, client) = start().await;
    for number in 0..300 {
        client
            .put(format!("k{number:04}"), "v".repeat(100_000))
            .await
            .unwrap();
    }
    let mut pieces = client
        .kv()
        .range_stream(prefix("k"))
        .await
        .unwrap()
        .into_inner();
    let first = pieces
        .message()
        .await
        .unwrap()
        .unwrap()
        .range_response
        .unwrap();
    let mut keys = first.kvs.len();
    client.put("k9999", "late").await.unwrap();
    client.delete("k0299").await.unwrap();
    let mut last = first;
    while let Some(piece) = pieces.message().await.unwrap() {
        last = piece.range_response.unwrap();
        keys += last.kvs.len();
    }
    assert_eq!(
        (keys, last.count, last.header.unwrap().revision),
        (300, 300, 301)
    );
}

#[tokio::test]
async fn the_compacted_revision_is_readable_and_the_one_before_is_not() {
    let (_folder, _node, client) = start().await;
    for value in ["1", "2", "3"] {
        client.put("a", value).await.unwrap();
    }
    client.compact(3).await.unwrap();
    let at = |revision| ListOptions {
        revision,
        ..ListOptions::default()
    };
    assert_eq!(
        &client.list("a", at(3)).await.unwrap().kvs[0].value[..],
        b"2"
    );
    let gone = "etcdserver: mvcc: required revision has been compacted";
    let mut kv = client.kv();
    assert_status(
        kv.range(RangeRequest {
            revision: 2,
            ..prefix("a")
        })
        .await,
        Code::OutOfRange,
        gone,
    );
    assert_status(
        kv.range_stream(RangeRequest {
            revision: 2,
            ..prefix("a")
        })
        .await,
        Code::OutOfRange,
        gone,
    );
    assert_status(
        kv.compact(CompactionRequest {
            revision: 3,
            physical: true,
        })
        .await,
        Code::OutOfRange,
        gone,
    );
}

#[tokio::test]
async fn a_txn_that_only_reads_answers_like_one_that_writes_but_takes_no_place_in_the_log() {
    let (_folder, _node, client) = start().await;
    client.put("a", "1").await.unwrap();
    let reads = |value: &'static str, is_serializable: bool| TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Value.into(),
            key: "a".into(),
            target_union: Some(TargetUnion::Value(value.into())),
            ..Default::default()
        }],
        success: vec![op(Request::RequestRange(RangeRequest {
            serializable: is_serializable,
            ..prefix("a")
        }))],
        failure: vec![],
    };
    let index = async || client.status().await.unwrap().raft_index;
    let before = index().await;
    for is_serializable in [false, true] {
        let answer = client
            .kv()
            .txn(reads("1", is_serializable))
            .await
            .unwrap()
            .into_inner();
        assert!(answer.succeeded);
        assert_eq!(answer.header.unwrap().revision, 2);
        let Some(Response::ResponseRange(range)) = &answer.responses[0].response else {
            panic!("{:?}", answer.responses);
        };
        assert_eq!((&range.kvs[0].value[..], range.count), (&b"1"[..], 1));
        assert_eq!(range.header.as_ref().unwrap().revision, 2);
        let other = client
            .kv()
            .txn(reads("2", is_serializable))
            .await
            .unwrap()
            .into_inner();
        assert!(!other.succeeded && other.responses.is_empty());
    }
    assert_eq!(index().await, before);
}

#[tokio::test]
async fn status_members_alarms_and_health_tell_of_a_working_node() {
    let (_folder, node, client) = start().await;
    let revision = client.put("a", "1").await.unwrap();
    let status = client
        .maintenance()
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    let header = status.header.unwrap();
    assert_eq!(
        (header.revision, status.leader),
        (revision, header.member_id)
    );
    assert_eq!(
        (status.version.as_str(), status.storage_version.as_str()),
        ("3.7.1", "3.7.0")
    );
    assert!(status.db_size > 0 && status.db_size_in_use <= status.db_size);
    assert!(status.raft_index >= status.raft_applied_index && status.raft_applied_index > 0);
    assert_eq!(status.db_size_quota, 2 << 30);
    assert_eq!(status.errors, Vec::<String>::new());
    assert!(status.downgrade_info.is_some());

    let alarms = client
        .maintenance()
        .alarm(AlarmRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(alarms.alarms, []);

    let mut cluster =
        proto::etcd::etcdserverpb::cluster_client::ClusterClient::new(client.channel());
    let list = cluster
        .member_list(MemberListRequest { linearizable: true })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.header.unwrap().revision, 0);
    assert_eq!(list.members.len(), 1);
    assert_eq!(list.members[0].id, header.member_id);
    assert_eq!(
        list.members[0].client_urls,
        [format!("http://{}", node.endpoint)]
    );

    let mut health = proto::health::health_client::HealthClient::new(client.channel());
    let check = health
        .check(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(check.status(), ServingStatus::Serving);
    let other = HealthCheckRequest {
        service: "other".to_owned(),
    };
    assert_status(health.check(other).await, Code::NotFound, "unknown service");
}

#[tokio::test]
async fn a_health_watch_tells_that_the_server_stops() {
    let (_folder, node, client) = start().await;
    let mut health = proto::health::health_client::HealthClient::new(client.channel());
    let mut changes = health
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        changes.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    let stopped = tokio::task::spawn_blocking(move || node.terminate());
    assert_eq!(
        changes.message().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
    assert_status(
        changes.message().await,
        Code::Unavailable,
        "etcdserver: server stopped",
    );
    stopped.await.unwrap();
}

#[tokio::test]
async fn what_is_not_built_says_so() {
    let (_folder, _node, client) = start().await;
    let mut auth = proto::etcd::etcdserverpb::auth_client::AuthClient::new(client.channel());
    assert_status(
        auth.auth_status(AuthStatusRequest::default()).await,
        Code::Unimplemented,
        "holdfast: AuthStatus is not built yet",
    );
}

#[tokio::test]
async fn metadata_is_checked_before_the_request() {
    let (_folder, _node, client) = start().await;
    let mut request = tonic::Request::new(prefix("a"));
    request
        .metadata_mut()
        .insert("hasleader", "true".parse().unwrap());
    client.kv().range(request).await.unwrap();

    let mut request = tonic::Request::new(prefix("a"));
    let version = tonic::metadata::MetadataValue::try_from(&b"3.\xff"[..]).unwrap();
    request.metadata_mut().insert("client-api-version", version);
    assert_status(
        client.kv().range(request).await,
        Code::InvalidArgument,
        "etcdserver: invalid client api version",
    );
}
