//! The client against a server that answers what a test tells it to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{
    Batch, Client, Code, Compare, CompareResult, Error, Event, KeyValue, Keys, List, ListOptions,
    Op, OpAnswer, Options, ResponseHeader, Status, Txn, WatchOptions,
};
use proto::etcd::etcdserverpb::kv_server::{Kv, KvServer};
use proto::etcd::etcdserverpb::request_op::Request as OpRequest;
use proto::etcd::etcdserverpb::response_op::Response as OpResponse;
use proto::etcd::etcdserverpb::watch_request::RequestUnion;
use proto::etcd::etcdserverpb::watch_server::{Watch, WatchServer};
use proto::etcd::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, ResponseOp, TxnRequest,
    TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Streaming};

/// What the server has been asked, and what it is to say to writes.
#[derive(Default)]
struct Script {
    ranges: Vec<RangeRequest>,
    puts: Vec<PutRequest>,
    deletes: Vec<DeleteRangeRequest>,
    txns: Vec<TxnRequest>,
    failure: Option<Status>,
    is_mute: bool,
}

/// The server's side of one watch stream, in a test's hands.
struct WatchEnd {
    has_leader: Option<String>,
    requests: mpsc::Receiver<WatchRequest>,
    answers: mpsc::Sender<Result<WatchResponse, Status>>,
}

impl WatchEnd {
    async fn request(&mut self) -> RequestUnion {
        self.requests.recv().await.unwrap().request_union.unwrap()
    }

    async fn answer(&self, answer: WatchResponse) {
        self.answers.send(Ok(answer)).await.unwrap();
    }
}

struct Fake {
    script: Arc<Mutex<Script>>,
    streams: mpsc::Sender<WatchEnd>,
}

struct Server {
    address: String,
    script: Arc<Mutex<Script>>,
    streams: mpsc::Receiver<WatchEnd>,
}

impl Server {
    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let script = Arc::<Mutex<Script>>::default();
        let (tx, streams) = mpsc::channel(4);
        let kv = KvServer::new(Fake {
            script: script.clone(),
            streams: tx.clone(),
        });
        let watch = WatchServer::new(Fake {
            script: script.clone(),
            streams: tx,
        });
        let service = tonic::transport::Server::builder()
            .add_service(kv)
            .add_service(watch);
        tokio::spawn(service.serve_with_incoming(TcpListenerStream::new(listener)));
        Server {
            address,
            script,
            streams,
        }
    }

    async fn client(&self) -> Client {
        client::connect(&self.address).await.unwrap()
    }

    /// Opens a watch whose creation the server confirms at revision 10.
    async fn watch(
        &mut self,
        options: WatchOptions,
    ) -> (client::Watch, WatchEnd, WatchCreateRequest) {
        let client = self.client().await;
        let (watch, (end, create)) =
            tokio::join!(client.watch(Keys::prefix("a"), options), async {
                let mut end = self.streams.recv().await.unwrap();
                let RequestUnion::CreateRequest(create) = end.request().await else {
                    panic!("no create request")
                };
                end.answer(WatchResponse {
                    created: true,
                    watch_id: 3,
                    ..at(10)
                })
                .await;
                (end, create)
            });
        (watch.unwrap(), end, create)
    }
}

#[tonic::async_trait]
impl Kv for Fake {
    type RangeStreamStream = ReceiverStream<Result<RangeStreamResponse, Status>>;

    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        self.script
            .lock()
            .unwrap()
            .ranges
            .push(request.into_inner());
        Ok(Response::new(RangeResponse {
            header: header(5),
            kvs: vec![kv("a", 4)],
            more: true,
            count: 9,
        }))
    }

    async fn range_stream(
        &self,
        _: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let (failure, is_mute) = {
            let mut script = self.script.lock().unwrap();
            script.puts.push(request.into_inner());
            (script.failure.clone(), script.is_mute)
        };
        if is_mute {
            std::future::pending::<()>().await;
        }
        match failure {
            Some(status) => Err(status),
            None => Ok(Response::new(PutResponse {
                header: header(6),
                prev_kv: None,
            })),
        }
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        self.script
            .lock()
            .unwrap()
            .deletes
            .push(request.into_inner());
        Ok(Response::new(DeleteRangeResponse {
            header: header(7),
            deleted: 2,
            prev_kvs: Vec::new(),
        }))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        self.script.lock().unwrap().txns.push(request.into_inner());
        let range = RangeResponse {
            kvs: vec![kv("a", 4)],
            count: 1,
            ..RangeResponse::default()
        };
        let responses = [
            OpResponse::ResponseRange(range),
            OpResponse::ResponsePut(PutResponse::default()),
        ]
        .map(|response| ResponseOp {
            response: Some(response),
        });
        Ok(Response::new(TxnResponse {
            header: header(8),
            succeeded: true,
            responses: responses.into(),
        }))
    }

    async fn compact(
        &self,
        _: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        Err(Status::out_of_range(
            "etcdserver: mvcc: required revision has been compacted",
        ))
    }
}

#[tonic::async_trait]
impl Watch for Fake {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let has_leader = request.metadata().get("hasleader");
        let has_leader = has_leader.map(|value| value.to_str().unwrap().to_owned());
        let mut stream = request.into_inner();
        let (seen, requests) = mpsc::channel(8);
        let (answers, out) = mpsc::channel(8);
        self.streams
            .send(WatchEnd {
                has_leader,
                requests,
                answers,
            })
            .await
            .unwrap();
        tokio::spawn(async move {
            while let Ok(Some(request)) = stream.message().await {
                if seen.send(request).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(out)))
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

fn kv(key: &'static str, mod_revision: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        mod_revision,
        ..KeyValue::default()
    }
}

fn event(mod_revision: i64) -> Event {
    Event {
        kv: Some(kv("a", mod_revision)),
        ..Event::default()
    }
}

fn at(revision: i64) -> WatchResponse {
    WatchResponse {
        header: header(revision),
        watch_id: 3,
        ..WatchResponse::default()
    }
}

#[tokio::test]
async fn text_that_is_no_address_is_told_apart_from_a_server_that_is_away() {
    let nonsense = client::connect("not an address").await;
    assert!(
        matches!(nonsense, Err(Error::Endpoint { .. })),
        "{nonsense:?}"
    );

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let away = client::connect(address).await;
    assert!(matches!(away, Err(Error::Connect { .. })), "{away:?}");
}

#[tokio::test]
async fn list_sends_its_options_and_returns_the_whole_answer() {
    let server = Server::start().await;
    let options = ListOptions {
        limit: 1,
        revision: 4,
        serializable: true,
        keys_only: true,
        count_only: false,
    };
    let list = server
        .client()
        .await
        .list(Keys::range("a", "c"), options)
        .await
        .unwrap();
    assert_eq!(
        list,
        List {
            revision: 5,
            kvs: vec![kv("a", 4)],
            count: 9,
            more: true
        }
    );
    let expected = RangeRequest {
        key: "a".into(),
        range_end: "c".into(),
        limit: 1,
        revision: 4,
        serializable: true,
        keys_only: true,
        ..RangeRequest::default()
    };
    assert_eq!(server.script.lock().unwrap().ranges, [expected]);
}

#[tokio::test]
async fn get_is_linearizable_and_names_one_key() {
    let server = Server::start().await;
    assert_eq!(
        server.client().await.get("a").await.unwrap(),
        Some(kv("a", 4))
    );
    let expected = RangeRequest {
        key: "a".into(),
        ..RangeRequest::default()
    };
    assert_eq!(server.script.lock().unwrap().ranges, [expected]);
}

#[tokio::test]
async fn put_and_delete_return_the_revision_they_made() {
    let server = Server::start().await;
    let client = server.client().await;
    assert_eq!(client.put("a", "1").await.unwrap(), 6);
    let deleted = client.delete(Keys::prefix("a")).await.unwrap();
    assert_eq!((deleted.revision, deleted.deleted), (7, 2));

    let script = server.script.lock().unwrap();
    assert_eq!(
        script.puts,
        [PutRequest {
            key: "a".into(),
            value: "1".into(),
            ..PutRequest::default()
        }]
    );
    let expected = DeleteRangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        prev_kv: false,
    };
    assert_eq!(script.deletes, [expected]);
}

#[tokio::test]
async fn txn_keeps_branches_and_the_order_of_answers() {
    let server = Server::start().await;
    let txn = Txn::new()
        .when(Compare::mod_revision("a", CompareResult::Equal, 4))
        .then(Op::get("a"))
        .then(Op::put("a", "2"))
        .otherwise(Op::delete("a"));
    let answer = server.client().await.txn(txn).await.unwrap();
    assert!(answer.succeeded);
    assert_eq!(answer.revision, 8);
    let list = List {
        kvs: vec![kv("a", 4)],
        count: 1,
        ..List::default()
    };
    assert_eq!(answer.answers, [OpAnswer::Get(list), OpAnswer::Put]);

    let script = server.script.lock().unwrap();
    let [sent] = &script.txns[..] else {
        panic!("{} transactions", script.txns.len())
    };
    assert_eq!(sent.compare.len(), 1);
    let kinds = |ops: &[proto::etcd::etcdserverpb::RequestOp]| -> Vec<&'static str> {
        let kind = |request: &OpRequest| match request {
            OpRequest::RequestRange(_) => "range",
            OpRequest::RequestPut(_) => "put",
            OpRequest::RequestDeleteRange(_) => "delete",
            OpRequest::RequestTxn(_) => "txn",
        };
        ops.iter()
            .map(|op| kind(op.request.as_ref().unwrap()))
            .collect()
    };
    assert_eq!(kinds(&sent.success), ["range", "put"]);
    assert_eq!(kinds(&sent.failure), ["delete"]);
}

#[tokio::test]
async fn compaction_of_what_is_compacted_is_an_error_of_its_own() {
    let server = Server::start().await;
    let error = server.client().await.compact(3).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Compacted {
                compact_revision: None
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn write_is_sent_once_even_if_its_outcome_is_unknown() {
    let server = Server::start().await;
    server.script.lock().unwrap().failure = Some(Status::unavailable("etcdserver: leader changed"));
    let error = server.client().await.put("a", "1").await.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
    assert_eq!(server.script.lock().unwrap().puts.len(), 1);
}

#[tokio::test]
async fn refusal_carries_the_servers_code_and_words() {
    let server = Server::start().await;
    server.script.lock().unwrap().failure =
        Some(Status::invalid_argument("etcdserver: key is not provided"));
    let error = server.client().await.put("", "1").await.unwrap_err();
    let Error::Refused { code, message } = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (code, message.as_str()),
        (Code::InvalidArgument, "etcdserver: key is not provided")
    );
}

#[tokio::test]
async fn write_without_an_answer_in_time_has_an_unknown_outcome() {
    let server = Server::start().await;
    server.script.lock().unwrap().is_mute = true;
    let options = Options {
        request_timeout: Duration::from_millis(50),
        ..Options::default()
    };
    let client = options.connect(&server.address).await.unwrap();
    let error = client.put("a", "1").await.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
}

#[tokio::test]
async fn write_that_found_no_connection_was_not_done() {
    // A runtime of the server's own: shutting it down closes the connections as well, as a kill would.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.spawn(Server::start()).await.unwrap();
    let client = server.client().await;
    client.put("a", "1").await.unwrap();
    runtime.shutdown_background();

    // The first attempts may still go out on the dying connection.
    for _ in 0..1000 {
        match client.put("a", "1").await.unwrap_err() {
            Error::NotDone { .. } => return,
            Error::Unknown { .. } => tokio::task::yield_now().await,
            error => panic!("{error:?}"),
        }
    }
    panic!("never found out that the server is gone");
}

#[tokio::test]
async fn watch_sends_its_options() {
    let mut server = Server::start().await;
    let options = WatchOptions {
        start_revision: 4,
        prev_kv: true,
        no_put: false,
        no_delete: true,
        progress_notify: true,
        fragment: true,
        require_leader: true,
    };
    let (watch, end, create) = server.watch(options).await;
    let expected = WatchCreateRequest {
        key: "a".into(),
        range_end: "b".into(),
        start_revision: 4,
        progress_notify: true,
        filters: vec![1],
        prev_kv: true,
        watch_id: 0,
        fragment: true,
    };
    assert_eq!(create, expected);
    assert_eq!(end.has_leader.as_deref(), Some("true"));
    assert_eq!((watch.created_revision(), watch.last_revision()), (10, 3));
}

#[tokio::test]
async fn watch_counts_what_it_delivered_and_not_what_the_header_promises() {
    let mut server = Server::start().await;
    let (mut watch, end, _) = server.watch(WatchOptions::from(4)).await;

    end.answer(WatchResponse {
        events: vec![event(4), event(6)],
        ..at(10)
    })
    .await;
    let batch = watch.next().await.unwrap().unwrap();
    assert_eq!(
        batch,
        Batch {
            revision: 6,
            events: vec![event(4), event(6)]
        }
    );

    end.answer(at(10)).await;
    assert_eq!(
        watch.next().await.unwrap().unwrap(),
        Batch {
            revision: 10,
            events: Vec::new()
        }
    );
    assert_eq!(watch.last_revision(), 10);
}

#[tokio::test]
async fn pieces_of_a_batch_are_put_together() {
    let mut server = Server::start().await;
    let (mut watch, end, _) = server
        .watch(WatchOptions {
            fragment: true,
            ..WatchOptions::default()
        })
        .await;
    end.answer(WatchResponse {
        events: vec![event(11)],
        fragment: true,
        ..at(11)
    })
    .await;
    end.answer(WatchResponse {
        events: vec![event(11)],
        fragment: true,
        ..at(11)
    })
    .await;
    end.answer(WatchResponse {
        events: vec![event(11)],
        ..at(11)
    })
    .await;
    let batch = watch.next().await.unwrap().unwrap();
    assert_eq!(
        batch,
        Batch {
            revision: 11,
            events: vec![event(11); 3]
        }
    );
}

#[tokio::test]
async fn broken_watch_says_from_where_to_go_on() {
    let mut server = Server::start().await;
    let (mut watch, end, _) = server.watch(WatchOptions::default()).await;
    end.answer(WatchResponse {
        events: vec![event(12)],
        ..at(12)
    })
    .await;
    // Half of a batch does not count: its other half is lost.
    end.answer(WatchResponse {
        events: vec![event(13)],
        fragment: true,
        ..at(13)
    })
    .await;
    end.answers
        .send(Err(Status::unavailable("etcdserver: no leader")))
        .await
        .unwrap();

    assert_eq!(watch.next().await.unwrap().unwrap().revision, 12);
    let error = watch.next().await.unwrap_err();
    let Error::Interrupted {
        last_revision,
        source,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(
        (last_revision, source.message()),
        (12, "etcdserver: no leader")
    );
    assert_eq!(watch.next().await.unwrap(), None);
}

#[tokio::test]
async fn stream_that_ends_without_a_word_is_an_interruption() {
    let mut server = Server::start().await;
    let (mut watch, end, _) = server.watch(WatchOptions::default()).await;
    drop(end);
    let error = watch.next().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Interrupted {
                last_revision: 10,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn cancelled_watch_delivers_what_was_under_way_and_ends() {
    let mut server = Server::start().await;
    let (mut watch, mut end, _) = server.watch(WatchOptions::default()).await;
    watch.cancel().await;
    let RequestUnion::CancelRequest(cancel) = end.request().await else {
        panic!("no cancel request")
    };
    assert_eq!(cancel.watch_id, 3);
    end.answer(WatchResponse {
        events: vec![event(11)],
        ..at(11)
    })
    .await;
    end.answer(WatchResponse {
        canceled: true,
        ..at(11)
    })
    .await;

    assert_eq!(watch.next().await.unwrap().unwrap().revision, 11);
    assert_eq!(watch.next().await.unwrap(), None);
    assert_eq!(watch.next().await.unwrap(), None);
}

#[tokio::test]
async fn progress_is_asked_for_on_the_same_stream() {
    let mut server = Server::start().await;
    let (mut watch, mut end, _) = server.watch(WatchOptions::default()).await;
    watch.request_progress().await;
    assert!(matches!(
        end.request().await,
        RequestUnion::ProgressRequest(_)
    ));
    end.answer(WatchResponse {
        watch_id: -1,
        ..at(15)
    })
    .await;
    assert_eq!(
        watch.next().await.unwrap().unwrap(),
        Batch {
            revision: 15,
            events: Vec::new()
        }
    );
}

#[tokio::test]
async fn watch_overtaken_by_compaction_names_the_revision() {
    let mut server = Server::start().await;
    let (mut watch, end, _) = server.watch(WatchOptions::from(2)).await;
    end.answer(WatchResponse {
        canceled: true,
        compact_revision: 5,
        ..at(10)
    })
    .await;
    let error = watch.next().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Compacted {
                compact_revision: Some(5)
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn watch_that_the_server_does_not_accept_is_refused_with_its_reason() {
    let mut server = Server::start().await;
    let client = server.client().await;
    let (watch, ()) = tokio::join!(
        client.watch(Keys::range("b", "a"), WatchOptions::default()),
        async {
            let mut end = server.streams.recv().await.unwrap();
            end.request().await;
            let cancel_reason = "mvcc: watcher range is empty".to_owned();
            end.answer(WatchResponse {
                created: true,
                canceled: true,
                watch_id: -1,
                cancel_reason,
                ..at(10)
            })
            .await;
        }
    );
    let error = watch.unwrap_err();
    let Error::Refused { message, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(message, "mvcc: watcher range is empty");
}

#[tokio::test]
async fn dropping_a_watch_ends_its_stream() {
    let mut server = Server::start().await;
    let (watch, mut end, _) = server.watch(WatchOptions::default()).await;
    drop(watch);
    assert!(end.requests.recv().await.is_none());
}
