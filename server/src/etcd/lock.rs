//! The Lock service: whoever's key is the oldest under a name holds the lock.
//!
//! A key goes with its lease, so a lock never outlives its holder. That the holder still is one, only the store can say:
//! whoever writes under a lock compares the key's revision of creation in the same transaction, which also fences off
//! an old holder (docs/guarantees.md).

use bytes::Bytes;
use proto::etcd::etcdserverpb::request_op::Request as Operation;
use proto::etcd::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};
use proto::etcd::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

use super::error::{self, Status};
use super::follow::{self, Inside};
use super::{Context, Outcome, Service};

/// Answers `Lock`, once the lock is held.
pub(super) async fn lock(
    service: &Service,
    context: &Context,
    request: LockRequest,
) -> Result<Outcome, Status> {
    let inside = Inside::new(service, context);
    let lease = inside.lease(service, request.lease).await?;
    let key: Bytes = follow::place(&request.name, lease).into();
    let own = || RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    };
    let prefix = follow::prefix(&request.name);
    let oldest = || follow::operation(Operation::RequestRange(follow::oldest(&prefix)));
    let put = PutRequest {
        key: key.clone(),
        lease,
        ..PutRequest::default()
    };
    let entered = inside
        .txn(TxnRequest {
            compare: vec![follow::created_at(&key, 0)],
            success: vec![follow::operation(Operation::RequestPut(put)), oldest()],
            failure: vec![follow::operation(Operation::RequestRange(own())), oldest()],
        })
        .await?;
    let place = Place {
        inside: inside.alone(),
        key: key.clone(),
        is_kept: false,
    };
    let mut header = entered.header;
    let created = match follow::found(&entered, 0).first() {
        Some(before) if !entered.succeeded => before.create_revision,
        _ => header.map_or(0, |header| header.revision),
    };
    let first = follow::found(&entered, 1).first();
    if first.is_some_and(|first| first.create_revision != created) {
        inside.wait_for_turn(&prefix, created).await?;
        // The lease may have ended meanwhile, and with it the key; and somebody may have made it anew.
        let held = inside
            .txn(TxnRequest {
                compare: vec![follow::created_at(&key, created)],
                success: vec![follow::operation(Operation::RequestRange(own()))],
                failure: Vec::new(),
            })
            .await?;
        if !held.succeeded {
            place.keep();
            return Err(error::SESSION_EXPIRED);
        }
        header = held.header;
    }
    place.keep();
    Ok(Outcome::of_message(&LockResponse { header, key }))
}

/// Answers `Unlock`.
pub(super) async fn unlock(
    service: &Service,
    context: &Context,
    request: UnlockRequest,
) -> Result<Outcome, Status> {
    if request.key.is_empty() {
        return Err(error::inner(&error::EMPTY_KEY));
    }
    let answer = Inside::new(service, context)
        .txn(delete(request.key))
        .await?;
    let header = answer.header;
    Ok(Outcome::of_message(&UnlockResponse { header }))
}

fn delete(key: Bytes) -> TxnRequest {
    let delete = DeleteRangeRequest {
        key,
        ..DeleteRangeRequest::default()
    };
    TxnRequest {
        success: vec![follow::operation(Operation::RequestDeleteRange(delete))],
        ..TxnRequest::default()
    }
}

/// A place in the queue for a lock. Whoever stops waiting, also because the client is gone, leaves it.
struct Place {
    inside: Inside,
    key: Bytes,
    is_kept: bool,
}

impl Place {
    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let (inside, key) = (self.inside.alone(), std::mem::take(&mut self.key));
        // The call is over: nobody is left to wait for it. If it fails, the lease ends the key.
        tokio::spawn(async move {
            if let Err(error) = inside.txn(delete(key)).await {
                tracing::debug!(
                    reason = error.text(),
                    "a place in the queue for a lock was not left"
                );
            }
        });
    }
}
