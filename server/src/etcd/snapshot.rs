//! `Snapshot`: the state as a database file of etcd, which `etcdctl` saves and `etcdutl` restores.
//!
//! The file is made on a thread of its own, without a name in the data folder, so that a crash leaves nothing behind.
//! From there it goes out in messages of etcd's size, as fast as the client takes them; with the client gone, the work
//! ends.

use std::convert::Infallible;
use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _};
use std::path::Path;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::Frame;
use proto::etcd::etcdserverpb::{Member, SnapshotRequest, SnapshotResponse};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use store::StoreError;
use store::etcd::export::{self, ExportError};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::codec::{self, Body};
use super::error::{self, Status};
use super::kv::fault;
use super::{Context, Outcome, Service};
use crate::config::ETCD_CLUSTER_VERSION;
use crate::metrics::GrpcMethod;
use crate::node::Node;

/// Bytes of the file in one message, as in etcd.
const BLOB: usize = 32 * 1024;

/// Messages that wait for the client.
const WAITING: usize = 16;

/// Memory for sorting the state; the rest is sorted on disk.
const SORT_BYTES: usize = 64 << 20;

/// Disk space that a snapshot leaves to the node: more than writes need to be accepted (`disk_space.rs`).
const RESERVE: u64 = 512 << 20;

/// What the thread says: a message, or how it ended.
enum Piece {
    Message(Bytes),
    End(Result<(), Status>),
}

/// Answers `Snapshot`.
pub(super) async fn snapshot(
    service: &Service,
    _context: &Context,
    _request: SnapshotRequest,
) -> Result<Outcome, Status> {
    // Refused rather than left waiting: whoever saves a snapshot waits for the first byte.
    let place = service.snapshots.clone().try_acquire_owned();
    let place = place.map_err(|_| error::TOO_MANY_REQUESTS)?;
    let (pieces, received) = channel(WAITING);
    let node = service.node.clone();
    let folder = service.options.temporary_dir.clone();
    let members = service.members();
    let removed = node.reader().view().members.removed().collect();
    let options = export::Options {
        storage_version: ETCD_CLUSTER_VERSION.to_owned(),
        cluster_version: ETCD_CLUSTER_VERSION.to_owned(),
        members: members.iter().map(attributes).collect(),
        learners: members
            .iter()
            .filter(|member| member.is_learner)
            .map(|member| member.id)
            .collect(),
        removed,
        sort_bytes: SORT_BYTES,
    };
    tokio::task::spawn_blocking(move || {
        let done = make_and_send(&node, &folder, &options, &pieces);
        if let Err(status) = &done {
            tracing::warn!(reason = status.text(), "a snapshot was not sent to its end");
        }
        // Nobody may listen any more.
        let _ = pieces.blocking_send(Piece::End(done));
        drop(place);
    });
    Ok(Outcome::of(Body::Other(Box::pin(SnapshotBody {
        received,
        method: service.methods.snapshot.clone(),
        is_over: false,
    }))))
}

/// A member as etcd stores it.
fn attributes(member: &Member) -> (u64, String) {
    let mut attributes = json!({
        "id": member.id,
        "peerURLs": member.peer_urls,
    });
    // What is empty is left out.
    if member.is_learner {
        attributes["isLearner"] = true.into();
    }
    if !member.name.is_empty() {
        attributes["name"] = member.name.clone().into();
    }
    if !member.client_urls.is_empty() {
        attributes["clientURLs"] = member.client_urls.clone().into();
    }
    (member.id, attributes.to_string())
}

fn make_and_send(
    node: &Node,
    folder: &Path,
    options: &export::Options,
    pieces: &Sender<Piece>,
) -> Result<(), Status> {
    let began = Instant::now();
    let failed = |error: std::io::Error| {
        error::snapshot_failed(&format!(
            "cannot use a file in {}: {error}",
            folder.display()
        ))
    };
    let out = tempfile::tempfile_in(folder).map_err(failed)?;
    let temporary = tempfile::tempfile_in(folder).map_err(failed)?;
    let mut go_on = || {
        if pieces.is_closed() {
            return Err("its client is gone".to_owned());
        }
        let space = rustix::fs::statvfs(folder).map_err(|error| error.to_string())?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < RESERVE {
            return Err(format!(
                "{} has {free} bytes of free disk space left, and the node needs them; make room, as much again as \
                 the database takes",
                folder.display()
            ));
        }
        Ok(())
    };
    go_on().map_err(|reason| error::snapshot_failed(&reason))?;
    let out = BufWriter::with_capacity(1 << 20, out);
    let exported = export::export(node.reader(), out, &temporary, options, &mut go_on);
    let (out, exported) = exported.map_err(|error| export_failed(node, error))?;
    drop(temporary);
    let mut file = out
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    tracing::info!(
        bytes = exported.size,
        revision = exported.revision,
        versions = exported.versions,
        took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "made a snapshot; sending it"
    );
    file.rewind().map_err(failed)?;
    send(&mut file, exported.size, &options.storage_version, pieces).map_err(failed)?;
    tracing::info!(
        bytes = exported.size,
        took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "sent a snapshot"
    );
    Ok(())
}

/// Sends the file, then its digest. Ends early, and without a word, if nobody listens.
fn send(file: &mut File, size: u64, version: &str, pieces: &Sender<Piece>) -> std::io::Result<()> {
    let mut digest = Sha256::new();
    let mut left = size;
    let message = |left, blob: &[u8]| {
        let response = SnapshotResponse {
            header: None,
            remaining_bytes: left,
            blob: Bytes::copy_from_slice(blob),
            version: version.to_owned(),
        };
        pieces
            .blocking_send(Piece::Message(codec::frame(&response)))
            .is_ok()
    };
    let mut buffer = vec![0; BLOB];
    while left > 0 {
        let len = usize::try_from(left).map_or(BLOB, |left| left.min(BLOB));
        let blob = &mut buffer[..len];
        file.read_exact(blob)?;
        digest.update(&*blob);
        left -= len as u64;
        if !message(left, blob) {
            return Ok(());
        }
    }
    message(0, &digest.finalize());
    Ok(())
}

fn export_failed(node: &Node, error: ExportError) -> Status {
    match error {
        ExportError::Store(error @ (StoreError::Corrupt { .. } | StoreError::Engine { .. })) => {
            fault(node, &error)
        }
        error => error::snapshot_failed(&error.to_string()),
    }
}

/// The body of the answer: what the thread makes, as it comes.
struct SnapshotBody {
    received: Receiver<Piece>,
    method: GrpcMethod,
    is_over: bool,
}

impl http_body::Body for SnapshotBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = self.get_mut();
        if body.is_over {
            return Poll::Ready(None);
        }
        let frame = match ready!(body.received.poll_recv(context)) {
            Some(Piece::Message(message)) => {
                body.method.sent(message.len());
                Frame::data(message)
            }
            end => {
                body.is_over = true;
                match end {
                    Some(Piece::End(Ok(()))) => Frame::trailers(codec::success()),
                    Some(Piece::End(Err(status))) => Frame::trailers(codec::failure(&status)),
                    // The thread ended without a word: it panicked, and the log says so.
                    _ => Frame::trailers(codec::failure(&error::STORE_FAULT)),
                }
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }
}
