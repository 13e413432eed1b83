//! A bare tonic server with fixed answers and no store: what a gRPC round trip costs before any work is done.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use proto::etcd::etcdserverpb::kv_server::{Kv, KvServer};
use proto::etcd::etcdserverpb::response_op::Response as Op;
use proto::etcd::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader, ResponseOp,
    TxnRequest, TxnResponse,
};
use proto::etcd::mvccpb::KeyValue;
use tokio::runtime::Builder;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::args::Args;
use crate::random::Random;

/// Keys of an answer to a list without a limit.
const ALL_KEYS: usize = 10_000;
const GET_BYTES: usize = 256;
const LIST_BYTES: usize = 1024;

/// `bench echo`: serves until it is killed.
pub(crate) fn main(args: &Args) -> Result<()> {
    let address: SocketAddr = args
        .value("listen")?
        .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    // One thread, as one connection shard of a node.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    runtime.block_on(async {
        let incoming =
            TcpIncoming::bind(address).with_context(|| format!("listening on {address}"))?;
        let incoming = incoming.with_nodelay(Some(true));
        println!("listening on {}", incoming.local_addr()?);
        Server::builder()
            .initial_stream_window_size(4 * 1024 * 1024)
            .initial_connection_window_size(16 * 1024 * 1024)
            .add_service(KvServer::new(Echo::new()))
            .serve_with_incoming(incoming)
            .await
            .context("serving")
    })
}

/// The fixed answers.
struct Echo {
    header: ResponseHeader,
    get: KeyValue,
    list: Vec<KeyValue>,
}

impl Echo {
    fn new() -> Echo {
        let mut random = Random::new(1);
        let mut entry = |number: usize, size: usize| {
            let mut value = vec![0; size];
            random.fill(&mut value);
            KeyValue {
                key: Bytes::from(format!("/bench/echo/{number:010}")),
                create_revision: 1 << 20,
                mod_revision: 1 << 20,
                version: 1,
                value: value.into(),
                lease: 0,
            }
        };
        Echo {
            header: ResponseHeader {
                cluster_id: u64::MAX,
                member_id: u64::MAX,
                revision: 1 << 20,
                raft_term: 2,
            },
            get: entry(0, GET_BYTES),
            list: (0..ALL_KEYS)
                .map(|number| entry(number, LIST_BYTES))
                .collect(),
        }
    }
}

#[tonic::async_trait]
impl Kv for Echo {
    type RangeStreamStream = tokio_stream::Empty<Result<RangeStreamResponse, Status>>;

    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let request = request.get_ref();
        let kvs = if request.range_end.is_empty() {
            vec![self.get.clone()]
        } else {
            let limit = usize::try_from(request.limit).unwrap_or(0);
            self.list[..if limit == 0 {
                ALL_KEYS
            } else {
                limit.min(ALL_KEYS)
            }]
                .to_vec()
        };
        let count = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
        Ok(Response::new(RangeResponse {
            header: Some(self.header),
            kvs,
            more: false,
            count,
        }))
    }

    async fn range_stream(
        &self,
        _request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(no_echo())
    }

    async fn put(&self, _request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        Ok(Response::new(PutResponse {
            header: Some(self.header),
            prev_kv: None,
        }))
    }

    async fn delete_range(
        &self,
        _request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        Err(no_echo())
    }

    async fn txn(&self, _request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let put = PutResponse {
            header: Some(self.header),
            prev_kv: None,
        };
        Ok(Response::new(TxnResponse {
            header: Some(self.header),
            succeeded: true,
            responses: vec![ResponseOp {
                response: Some(Op::ResponsePut(put)),
            }],
        }))
    }

    async fn compact(
        &self,
        _request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        Err(no_echo())
    }
}

fn no_echo() -> Status {
    Status::unimplemented("the echo server answers Range, Put and Txn")
}
