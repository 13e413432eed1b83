//! Ranges of any size: one answer whichever way it is asked for, and memory that does not grow by it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;

use client::{Client, Keys};
use node::Node;
use proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{
    DefragmentRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use proto::etcd::mvccpb::KeyValue;

/// A node with so little memory that most values are on disk.
async fn start(folder: &tempfile::TempDir) -> (Node, Client) {
    let data_dir = folder.path().join("data");
    let node = Node::start_with(&data_dir, &["--memory-budget", "64MiB"]);
    let client = client::connect(node.endpoint.clone()).await.unwrap();
    (node, client)
}

/// Puts keys that count up from `key/00000000`, some at once.
async fn load(client: &Client, keys: usize, value: &[u8]) {
    const OPS: usize = 100;
    for numbers in (0..keys).collect::<Vec<_>>().chunks(OPS) {
        let put = |number: &usize| PutRequest {
            key: format!("key/{number:08}").into(),
            value: [number.to_string().as_bytes(), value].concat().into(),
            ..Default::default()
        };
        let success = numbers.iter().map(|number| RequestOp {
            request: Some(Request::RequestPut(put(number))),
        });
        let txn = TxnRequest {
            success: success.collect(),
            ..Default::default()
        };
        client.kv().txn(txn).await.unwrap();
    }
}

fn all() -> RangeRequest {
    let (key, range_end) = Keys::prefix("key/").into_wire();
    RangeRequest {
        key,
        range_end,
        ..Default::default()
    }
}

/// Peak of resident memory since [`forget_peak`], in MiB.
fn peak_mib(node: &Node) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

fn forget_peak(node: &Node) {
    std::fs::write(format!("/proc/{}/clear_refs", node.pid()), "5").unwrap();
}

async fn range(client: &Client, request: RangeRequest) -> (Vec<KeyValue>, i64, bool) {
    let mut kv = client.kv().max_decoding_message_size(usize::MAX);
    let answer = kv.range(request).await.unwrap().into_inner();
    (answer.kvs, answer.count, answer.more)
}

/// The same from `RangeStream`.
async fn stream(client: &Client, request: RangeRequest) -> (Vec<KeyValue>, i64, bool) {
    let mut kv = client.kv().max_decoding_message_size(usize::MAX);
    let mut stream = kv.range_stream(request).await.unwrap().into_inner();
    let (mut kvs, mut count, mut more) = (Vec::new(), 0, false);
    while let Some(answer) = stream.message().await.unwrap() {
        let answer = answer.range_response.unwrap();
        kvs.extend(answer.kvs);
        (count, more) = (answer.count, answer.more);
    }
    (kvs, count, more)
}

#[tokio::test]
async fn a_long_range_is_what_its_pages_are() {
    const KEYS: usize = 12_000;
    let folder = tempfile::tempdir().unwrap();
    let (_node, client) = start(&folder).await;
    load(&client, KEYS, &[b'v'; 100]).await;
    let revision = client.put("other", "").await.unwrap();
    let pages = async |revision| {
        let (mut request, mut kvs) = (all(), Vec::new());
        (request.limit, request.revision) = (2_500, revision);
        loop {
            let (page, count, more) = range(&client, request.clone()).await;
            assert_eq!(usize::try_from(count).unwrap(), KEYS - kvs.len());
            request.key = [page.last().unwrap().key.as_ref(), b"\0"].concat().into();
            kvs.extend(page);
            if !more {
                return kvs;
            }
        }
    };
    let expected = pages(0).await;
    let count = i64::try_from(KEYS).unwrap();
    for limit in [0, count - 1] {
        let request = RangeRequest { limit, ..all() };
        let wanted = KEYS - usize::from(limit > 0);
        let whole = range(&client, request.clone()).await;
        assert_eq!((whole.1, whole.2), (count, limit > 0));
        assert!(whole.0 == expected[..wanted]);
        assert!(stream(&client, request).await == whole);
    }
    // The same when it is past, and nobody holds it.
    load(&client, KEYS / 2, b"new").await;
    let past = RangeRequest { revision, ..all() };
    assert!(range(&client, past.clone()).await == (expected.clone(), count, false));
    assert!(stream(&client, past.clone()).await == (expected.clone(), count, false));
    assert!(pages(revision).await == expected);
    // Sorted, filtered and without values.
    let sorted = RangeRequest {
        sort_order: SortOrder::Descend.into(),
        sort_target: SortTarget::Key.into(),
        ..past.clone()
    };
    let mut reversed = expected.clone();
    reversed.reverse();
    assert!(range(&client, sorted).await.0 == reversed);
    let filtered = RangeRequest {
        min_mod_revision: expected[500].mod_revision,
        ..past.clone()
    };
    let newer = expected
        .iter()
        .filter(|kv| kv.mod_revision >= expected[500].mod_revision);
    assert!(range(&client, filtered).await.0 == newer.cloned().collect::<Vec<_>>());
    let keys_only = RangeRequest {
        keys_only: true,
        ..all()
    };
    let (bare, count, _) = range(&client, keys_only).await;
    assert_eq!((bare.len(), usize::try_from(count).unwrap()), (KEYS, KEYS));
    assert!(bare.iter().all(|kv| kv.value.is_empty()));
}

#[tokio::test]
async fn memory_does_not_grow_by_the_answer() {
    const KEYS: usize = 60_000;
    const VALUE: usize = 2_000;
    /// A tenth of the answers.
    const GROWTH_MIB: usize = 48;
    let folder = tempfile::tempdir().unwrap();
    let (node, client) = start(&folder).await;
    load(&client, KEYS, &[b'v'; VALUE]).await;

    // Else what it still compacts would count.
    let mut maintenance = client.maintenance();
    maintenance.defragment(DefragmentRequest {}).await.unwrap();
    forget_peak(&node);
    let before = peak_mib(&node);
    let mut unread = Vec::new();
    for _ in 0..4 {
        // Streams that nobody reads, each on a connection that it fills.
        let idle = client::connect(node.endpoint.clone()).await.unwrap();
        let mut kv = idle.kv().max_decoding_message_size(usize::MAX);
        unread.push(kv.range_stream(all()).await.unwrap().into_inner());
    }
    // One who reads, by pieces and then at once.
    let mut kv = client.kv();
    let mut stream = kv.range_stream(all()).await.unwrap().into_inner();
    let mut keys = 0;
    while let Some(answer) = stream.message().await.unwrap() {
        keys += answer.range_response.unwrap().kvs.len();
    }
    assert_eq!(keys, KEYS);
    let (kvs, _, _) = range(&client, all()).await;
    assert_eq!(kvs.len(), KEYS);
    let after = peak_mib(&node);
    eprintln!("{before} MiB before, at most {after} MiB");
    assert!(after - before < GROWTH_MIB, "from {before} to {after} MiB");
}
