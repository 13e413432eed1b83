//! Sends the state to a member that needs entries which are gone: files, chunk by chunk, from where it left off.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, Either};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use openraft::AsyncRuntime;
use proto::peer::snapshot_reply::{Have, Result as Answered};
use proto::peer::snapshot_request::{Begin, Chunk, EndFile, Part};
use proto::peer::{SnapshotRequest, Vote};
use store::snapshot::{CHUNK, Checkpoint};
use tokio::sync::mpsc;

use super::state_machine::SnapshotHandle;
use crate::clock_pace::Pace;
use crate::logging::chain;
use crate::peer::{Answers, LinkError, Peer};

/// Bytes a second that are sent at most: the members serve others meanwhile.
const RATE: u64 = 64 << 20;

/// Chunks on their way from the disk to the connection.
const AHEAD: usize = 4;

/// How often a broken connection is made again before openraft is told.
const TRIES: usize = 20;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// How long without any answer is too long. Installing a large state takes its time.
const PATIENCE: Duration = Duration::from_secs(300);

/// Makes the files and sends them; the receiver's vote when it has them in force. None if this leader is deposed.
pub(super) async fn send<R: AsyncRuntime>(
    link: &dyn Peer,
    to: u64,
    vote: Vote,
    snapshot: SnapshotHandle,
) -> Result<Option<Vote>, LinkError> {
    let term = vote.term;
    // It keeps the log behind it until the end of this.
    let (snapshot, made) = R::spawn_blocking(move || {
        let made = snapshot.checkpoint(term);
        (snapshot, made)
    })
    .await
    .map_err(|error| LinkError::Refused(error.to_string()))?;
    let made = made.map_err(|error| {
        LinkError::Refused(format!("the snapshot cannot be made: {}", chain(&error)))
    })?;
    let Some(checkpoint) = made.map(Arc::new) else {
        return Ok(None);
    };
    let bytes = checkpoint.manifest().size();
    tracing::info!(
        member = format!("{to:x}"),
        bytes,
        applied_index = checkpoint.name().applied.index,
        "sending the whole state to a member that is far behind"
    );
    let mut failed = LinkError::NotConnected(to);
    for _ in 0..TRIES {
        match attempt::<R>(link, vote, &checkpoint).await {
            Ok(installed) => {
                tracing::info!(
                    member = format!("{to:x}"),
                    bytes,
                    "the member has taken over the state"
                );
                drop(snapshot);
                return Ok(Some(installed));
            }
            Err(error @ LinkError::Refused(_)) => return Err(error),
            Err(error) => failed = error,
        }
        R::sleep(PAUSE).await;
    }
    Err(failed)
}

async fn attempt<R: AsyncRuntime>(
    link: &dyn Peer,
    vote: Vote,
    checkpoint: &Arc<Checkpoint>,
) -> Result<Vote, LinkError> {
    let (sender, mut receiver) = mpsc::channel(AHEAD);
    let requests = stream::poll_fn(move |context| receiver.poll_recv(context));
    let opened = link.snapshot(Box::pin(requests));
    let begin = Part::Begin(Begin {
        vote: Some(vote),
        manifest: checkpoint.manifest().encode().into(),
    });
    // There is room for one.
    let _ = sender.try_send(request(begin));
    let mut answers = within::<R, _>(opened).await??;
    let have = match within::<R, _>(answers.next()).await? {
        Some(answer) => answer?.result,
        None => None,
    };
    match have {
        Some(Answered::Have(have)) => {
            let sending = Box::pin(chunks::<R>(sender, checkpoint.clone(), have));
            let ended = Box::pin(installed(&mut answers));
            match future::select(sending, ended).await {
                Either::Left((Ok(()), ended)) => ended.await,
                // A receiver that has left may have said why.
                Either::Left((Err(error), ended)) => ended.now_or_never().unwrap_or(Err(error)),
                // It knows better than what is still being sent.
                Either::Right((ended, _)) => ended,
            }
        }
        Some(Answered::Installed(vote)) => Ok(vote),
        None => Err(LinkError::Broken("no answer to a snapshot".to_owned())),
    }
}

fn request(part: Part) -> SnapshotRequest {
    SnapshotRequest { part: Some(part) }
}

async fn within<R: AsyncRuntime, F: Future + Send>(wanted: F) -> Result<F::Output, LinkError>
where
    F::Output: Send,
{
    R::timeout(PATIENCE, wanted)
        .await
        .map_err(|_| LinkError::Broken("no answer to a snapshot in time".to_owned()))
}

async fn installed(answers: &mut Answers<proto::peer::SnapshotReply>) -> Result<Vote, LinkError> {
    loop {
        // Nothing comes while chunks go; a receiver that is gone breaks the connection.
        match answers.next().await {
            Some(answer) => {
                if let Some(Answered::Installed(vote)) = answer?.result {
                    return Ok(vote);
                }
            }
            None => {
                return Err(LinkError::Broken(
                    "the receiver of a snapshot left".to_owned(),
                ));
            }
        }
    }
}

/// Everything from a place on.
async fn chunks<R: AsyncRuntime>(
    sender: mpsc::Sender<SnapshotRequest>,
    checkpoint: Arc<Checkpoint>,
    have: Have,
) -> Result<(), LinkError> {
    let broken = |error: &dyn std::fmt::Display| LinkError::Broken(error.to_string());
    let files = checkpoint.manifest().files.len();
    let mut offset = have.offset;
    let mut pace = Pace::new(RATE);
    for file in have.file as usize..files {
        let number = u32::try_from(file).unwrap_or(u32::MAX);
        loop {
            let reading = checkpoint.clone();
            let read = R::spawn_blocking(move || {
                let mut buffer = vec![0; CHUNK];
                let length = reading.read(file, offset, &mut buffer)?;
                buffer.truncate(length);
                Ok::<_, store::StoreError>(Bytes::from(buffer))
            })
            .await
            .map_err(|error| broken(&error))?;
            let data = read.map_err(|error| LinkError::Refused(chain(&error)))?;
            let length = data.len();
            if length == 0 {
                break;
            }
            let chunk = Part::Chunk(Chunk {
                file: number,
                offset,
                data,
            });
            within::<R, _>(sender.send(request(chunk)).boxed())
                .await?
                .map_err(|error| broken(&error))?;
            offset += length as u64;
            if let Some(pause) = pace.pause(length as u64) {
                R::sleep(pause).await;
            }
        }
        let reading = checkpoint.clone();
        let crc = R::spawn_blocking(move || reading.checksum(file))
            .await
            .map_err(|error| broken(&error))?
            .map_err(|error| LinkError::Refused(chain(&error)))?;
        let end = Part::EndFile(EndFile {
            file: number,
            crc32c: crc,
        });
        within::<R, _>(sender.send(request(end)).boxed())
            .await?
            .map_err(|error| broken(&error))?;
        offset = 0;
    }
    // The receiver goes on: it has all, and this half of the stream stays open until it has said so.
    sender.closed().await;
    Ok(())
}
