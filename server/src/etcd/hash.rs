//! `HashKV` and `Hash`: what a member holds, in four bytes.

use proto::etcd::etcdserverpb::{HashKvRequest, HashKvResponse, HashRequest, HashResponse};

use super::error::{self, Status};
use super::kv::fault;
use super::{Context, Outcome, Service, Subject};

/// Answers `HashKV`: etcd's value, of this member.
pub(super) async fn hash_kv(
    service: &Service,
    context: &Context,
    request: HashKvRequest,
) -> Result<Outcome, Status> {
    let reader = service.node.reader().clone();
    let view = reader.view();
    let revision = view.revision;
    let hashed = service
        .hashes
        .run(context.client_left(), move |wanted| {
            reader.hash_kv(&view, request.revision, &|| wanted.holds())
        })
        .await?;
    let hash = hashed
        .map_err(|error| fault(&service.node, &error))?
        .map_err(|refusal| Status::from(&refusal))?
        .ok_or(error::CANCELED)?;
    let answer = HashKvResponse {
        header: Some(service.node.header(revision.max(hash.revision))),
        hash: hash.hash,
        compact_revision: hash.compact_revision,
        hash_revision: hash.revision,
    };
    let outcome = Outcome::of_message(&answer);
    note(service, context, "HashKV", &outcome);
    Ok(outcome)
}

/// Answers `Hash`: of all that members hold alike. The value is no other server's.
pub(super) async fn hash(
    service: &Service,
    context: &Context,
    _request: HashRequest,
) -> Result<Outcome, Status> {
    let reader = service.node.reader().clone();
    let view = reader.view();
    let revision = view.revision;
    let hashed = service
        .hashes
        .run(context.client_left(), move |wanted| {
            reader.hash_whole(&view, &|| wanted.holds())
        })
        .await?;
    let hash = hashed
        .map_err(|error| fault(&service.node, &error))?
        .ok_or(error::CANCELED)?;
    let answer = HashResponse {
        header: Some(service.node.header(revision)),
        hash,
    };
    let outcome = Outcome::of_message(&answer);
    note(service, context, "Hash", &outcome);
    Ok(outcome)
}

fn note(service: &Service, context: &Context, method: &'static str, outcome: &Outcome) {
    context.watch_slow(service, method, None, outcome.sent, || Subject {
        key: &[],
        range_end: &[],
        count: 0,
    });
}
