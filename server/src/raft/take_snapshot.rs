//! Takes in the state of another member: aside, verified, and in force only as a whole.

use std::sync::Arc;

use futures_util::StreamExt as _;
use openraft::AsyncRuntime;
use parking_lot::Mutex;
use proto::peer::snapshot_reply::{Have, Result as Answered};
use proto::peer::snapshot_request::Part;
use proto::peer::{SnapshotReply, SnapshotRequest};
use store::snapshot::{Manifest, ReceiveError, Receiver};
use tokio::sync::mpsc;

use super::state_machine::received;
use super::{Core, RaftOf, wire};
use crate::logging::chain;
use crate::peer::{LinkError, Requests};

/// What has arrived of a snapshot whose connection broke.
#[derive(Clone, Default)]
pub(super) struct Incoming(Arc<Mutex<Option<Receiver>>>);

impl Incoming {
    /// Keeps what arrived, for the sender to go on when it is back; unless another stream is further by now.
    fn keep(&self, receiver: Receiver) {
        let mut kept = self.0.lock();
        let at = |receiver: &Receiver| (receiver.have().file, receiver.have().offset);
        if kept.as_ref().is_none_or(|other| {
            other.manifest() != receiver.manifest() || at(other) < at(&receiver)
        }) {
            *kept = Some(receiver);
        }
    }
}

/// Takes what comes on one connection; says how far it is at the beginning, and when it is in force.
pub(super) async fn take<R: AsyncRuntime>(
    raft: RaftOf<R>,
    core: Arc<Core>,
    incoming: Incoming,
    mut requests: Requests<SnapshotRequest>,
    replies: mpsc::UnboundedSender<Result<SnapshotReply, LinkError>>,
) {
    let taken = take_all::<R>(&raft, &core, &incoming, &mut requests, &replies).await;
    if let Err(error) = taken {
        tracing::warn!(%error, "a snapshot was not taken; what this member has is as it was");
        // Nobody listens if the connection broke.
        let _ = replies.send(Err(error));
    }
}

fn refused(error: &ReceiveError) -> LinkError {
    LinkError::Refused(chain(error))
}

fn reply(result: Answered) -> Result<SnapshotReply, LinkError> {
    Ok(SnapshotReply {
        result: Some(result),
    })
}

async fn take_all<R: AsyncRuntime>(
    raft: &RaftOf<R>,
    core: &Arc<Core>,
    incoming: &Incoming,
    requests: &mut Requests<SnapshotRequest>,
    replies: &mpsc::UnboundedSender<Result<SnapshotReply, LinkError>>,
) -> Result<(), LinkError> {
    let left = || LinkError::Broken("the sender of a snapshot left".to_owned());
    let Some(Part::Begin(begin)) = requests.next().await.and_then(|request| request.part) else {
        return Err(LinkError::Refused(
            "a snapshot without a beginning".to_owned(),
        ));
    };
    let vote = wire::ballot(begin.vote).map_err(|error| LinkError::Refused(error.to_string()))?;
    let manifest = Manifest::decode(&begin.manifest).map_err(|error| refused(&error))?;
    let resumed = incoming.0.lock().take();
    let mut receiver = match resumed.filter(|receiver| *receiver.manifest() == manifest) {
        Some(receiver) => receiver,
        None => {
            tracing::info!(
                bytes = manifest.size(),
                applied_index = manifest.name.applied.index,
                "this member is far behind: taking over the leader's state"
            );
            let core = core.clone();
            blocking::<R, _>(move || core.databases.receive(manifest)).await??
        }
    };
    let have = receiver.have();
    let _ = replies.send(reply(Answered::Have(Have {
        file: u32::try_from(have.file).unwrap_or(u32::MAX),
        offset: have.offset,
    })));
    let files = receiver.manifest().files.len();
    while receiver.have().file < files {
        let Some(part) = requests.next().await.and_then(|request| request.part) else {
            incoming.keep(receiver);
            return Err(left());
        };
        let (back, taken) = blocking::<R, _>(move || {
            let taken = match part {
                Part::Chunk(chunk) => {
                    receiver.write(chunk.file as usize, chunk.offset, &chunk.data)
                }
                Part::EndFile(end) => receiver.end_file(end.file as usize, end.crc32c),
                Part::Begin(_) => Ok(()),
            };
            Ok((receiver, taken))
        })
        .await??;
        receiver = back;
        if let Err(error) = taken {
            return Err(match error {
                // Worth another try: the sender asks how far it is, and goes on from there.
                ReceiveError::Order { .. } | ReceiveError::Checksum { .. } => {
                    incoming.keep(receiver);
                    LinkError::Broken(chain(&error))
                }
                _ => refused(&error),
            });
        }
    }
    let arrived = blocking::<R, _>(move || receiver.finish()).await??;
    let index = arrived.name().applied.index;
    let snapshot = received::<R>(arrived, vote.leader_id.term)
        .ok_or_else(|| LinkError::Refused("it is of a later term than its sender".to_owned()))?;
    let response = raft
        .install_full_snapshot(vote, snapshot)
        .await
        .map_err(|error| LinkError::Broken(error.to_string()))?;
    tracing::info!(applied_index = index, "took over the leader's state");
    let _ = replies.send(reply(Answered::Installed(wire::vote(&response.vote))));
    Ok(())
}

/// What blocks on the disk is done elsewhere: this thread is that of consensus.
async fn blocking<R: AsyncRuntime, T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReceiveError> + Send + 'static,
) -> Result<Result<T, LinkError>, LinkError> {
    let done = R::spawn_blocking(work)
        .await
        .map_err(|error| LinkError::Broken(error.to_string()))?;
    Ok(done.map_err(|error| refused(&error)))
}
