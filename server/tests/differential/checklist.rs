//! Rules that are easy to get wrong, each asked of both servers and with the answer written down.

use bytes::Bytes;
use proto::etcd::etcdserverpb::compare::{CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::request_op::Request as TxnOp;
use proto::etcd::etcdserverpb::response_op::Response;
use proto::etcd::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest, WatchCreateRequest,
};
use proto::etcd::mvccpb::event::EventType;
use proto::etcd::mvccpb::{Event, KeyValue};
use tonic::Code;

use crate::command::{Answer, Command, Watched};
use crate::compare::{Verdict, compare};
use crate::servers::Servers;
use crate::side::Side;

struct Both {
    etcd: Side,
    holdfast: Side,
    _servers: Servers,
}

impl Both {
    async fn start() -> Self {
        let mut servers = Servers::start(&[]);
        let (etcd, holdfast) = servers.connect().await;
        Self {
            etcd,
            holdfast,
            _servers: servers,
        }
    }

    /// The answer that both give.
    async fn ask(&mut self, command: Command) -> Answer {
        let (left, right) = (
            self.etcd.send(command.clone()).await,
            self.holdfast.send(command.clone()).await,
        );
        assert!(
            matches!(compare(&command, &left, &right), Verdict::Same),
            "{command:?}\n{left:?}\n{right:?}"
        );
        right
    }

    async fn put(&mut self, key: &'static str, value: &'static str) -> i64 {
        let put = self.ask(Command::Put(put(key, value))).await;
        put.revision().unwrap()
    }

    async fn watch(&mut self, start_revision: i64) -> Watched {
        let create = WatchCreateRequest {
            start_revision,
            prev_kv: true,
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            ..WatchCreateRequest::default()
        };
        match self.ask(Command::Watch(create)).await {
            Answer::Watched(watched) => watched,
            other => panic!("{other:?}"),
        }
    }
}

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

fn all() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..RangeRequest::default()
    }
}

fn txn(compare: Vec<Compare>, success: Vec<TxnOp>) -> Command {
    let success = success.into_iter().map(|request| RequestOp {
        request: Some(request),
    });
    Command::Txn(TxnRequest {
        compare,
        success: success.collect(),
        failure: vec![],
    })
}

#[tokio::test]
async fn revisions_begin_at_one_and_move_only_with_a_change() {
    let mut both = Both::start().await;
    let empty = both.ask(Command::Range(all())).await;
    assert_eq!(empty.revision(), Some(1));
    assert_eq!(both.put("a", "1").await, 2);
    assert_eq!(both.put("a", "1").await, 3, "the same value is a change");
    let delete = |key: &'static str, range_end: &'static str| DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: false,
    };
    for (command, revision) in [
        (Command::DeleteRange(delete("x", "z")), 3),
        (
            txn(vec![], vec![TxnOp::RequestDeleteRange(delete("x", ""))]),
            3,
        ),
        (
            txn(
                vec![],
                vec![
                    TxnOp::RequestPut(put("b", "1")),
                    TxnOp::RequestPut(put("c", "1")),
                ],
            ),
            4,
        ),
        (Command::DeleteRange(delete("a", "d")), 5),
    ] {
        assert_eq!(both.ask(command).await.revision(), Some(revision));
    }
    let deletions = both.watch(5).await.events;
    assert_eq!(deletions.len(), 3);
    for (event, key) in deletions.iter().zip(["a", "b", "c"]) {
        let without_value = KeyValue {
            key: key.into(),
            mod_revision: 5,
            ..KeyValue::default()
        };
        assert_eq!(event.kv, Some(without_value), "key and revision are all");
        assert_eq!(event.r#type(), EventType::Delete);
    }
}

#[tokio::test]
async fn the_value_of_a_missing_key_compares_to_nothing() {
    let mut both = Both::start().await;
    both.put("empty", "").await;
    for (key, result, holds) in [
        ("missing", 0, false),
        ("missing", 1, false),
        ("missing", 2, false),
        ("missing", 3, false),
        ("empty", 0, true),
        ("empty", 3, false),
    ] {
        let compare = Compare {
            result,
            target: CompareTarget::Value.into(),
            key: key.into(),
            target_union: Some(TargetUnion::Value(Bytes::new())),
            ..Compare::default()
        };
        let Answer::Txn(answer) = both.ask(txn(vec![compare], vec![])).await else {
            panic!("{key}: refused")
        };
        assert_eq!(answer.succeeded, holds, "{key} {result}");
    }
}

#[tokio::test]
async fn a_range_in_a_transaction_sees_what_it_wrote_and_its_compares_do_not() {
    let mut both = Both::start().await;
    let is_new = Compare {
        target: CompareTarget::Version.into(),
        key: "a".into(),
        ..Compare::default()
    };
    let nested = TxnRequest {
        compare: vec![is_new.clone()],
        ..TxnRequest::default()
    };
    let writes = txn(
        vec![is_new],
        vec![
            TxnOp::RequestPut(put("a", "1")),
            TxnOp::RequestRange(all()),
            TxnOp::RequestTxn(nested),
        ],
    );
    let Answer::Txn(answer) = both.ask(writes).await else {
        panic!("refused")
    };
    let responses: Vec<_> = answer
        .responses
        .into_iter()
        .map(|op| op.response.unwrap())
        .collect();
    assert!(matches!(&responses[1], Response::ResponseRange(range) if range.count == 1));
    assert!(matches!(&responses[2], Response::ResponseTxn(nested) if nested.succeeded));
}

#[tokio::test]
async fn counts_ignore_limits_and_a_stream_tells_them_at_its_end() {
    let mut both = Both::start().await;
    for key in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"] {
        both.put(key, "1").await;
    }
    let limited = RangeRequest {
        limit: 11,
        max_create_revision: 13,
        ..all()
    };
    let Answer::Range(answer) = both.ask(Command::Range(limited)).await else {
        panic!("refused")
    };
    assert_eq!(
        (answer.count, answer.kvs.len(), answer.more),
        (12, 11, true)
    );
    for limit in [0, 10, 11, 12, 13] {
        let limited = RangeRequest { limit, ..all() };
        let Answer::RangeStream(answer) = both.ask(Command::RangeStream(limited)).await else {
            panic!("refused")
        };
        assert_eq!(answer.faults, Vec::<&str>::new());
        assert_eq!(
            (answer.whole.count, answer.whole.more),
            (12, [10, 11].contains(&limit))
        );
    }
    let counted = RangeRequest {
        count_only: true,
        limit: 3,
        ..all()
    };
    let Answer::RangeStream(answer) = both.ask(Command::RangeStream(counted)).await else {
        panic!("refused")
    };
    assert_eq!((answer.whole.count, answer.whole.more), (12, false));
}

#[tokio::test]
async fn the_compacted_revision_can_be_read_and_watched_and_none_before_it() {
    let mut both = Both::start().await;
    for value in ["1", "2", "3", "4"] {
        both.put("a", value).await;
    }
    let compaction = CompactionRequest {
        revision: 4,
        physical: true,
    };
    both.ask(Command::Compact(compaction)).await;
    let at = |revision| Command::Range(RangeRequest { revision, ..all() });
    let Answer::Range(answer) = both.ask(at(4)).await else {
        panic!("refused")
    };
    assert_eq!(answer.kvs[0].value, "3");
    let gone = "etcdserver: mvcc: required revision has been compacted".to_owned();
    assert_eq!(
        both.ask(at(3)).await,
        Answer::Refused(Code::OutOfRange, gone)
    );
    let future = "etcdserver: mvcc: required revision is a future revision".to_owned();
    assert_eq!(
        both.ask(at(6)).await,
        Answer::Refused(Code::OutOfRange, future)
    );
    let watched = both.watch(3).await;
    assert_eq!(
        watched.canceled,
        Some((4, String::new())),
        "no reason: the revision is one"
    );
    let of_key = |event: &Event| event.kv.as_ref().map(|kv| kv.mod_revision);
    // What the first one replaced may be gone.
    let newer = both.watch(5).await.events;
    assert_eq!(newer.iter().map(of_key).collect::<Vec<_>>(), [Some(5)]);
    assert_eq!(newer[0].prev_kv.as_ref().unwrap().value, "3");
    assert_eq!(both.watch(0).await.watch_id, 0, "ids begin at zero");
}
