//! `holdfast snapshot save`: what `etcdctl snapshot save` does, for machines without etcdctl.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use proto::etcd::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use tokio::net::TcpStream;

use super::{Failure, Progress, file, say};
use crate::etcd::codec;
use crate::text::human;

/// How long the connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// A message is a blob of 32 KiB and little more; a server of another kind may send larger ones.
const LONGEST: usize = 4 << 20;

/// Saves a snapshot of the member at `endpoint`. The file appears under its name only when it is whole.
pub(super) fn run(path: &Path, endpoint: &str) -> Result<(), Failure> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600);
    let mut out = options
        .open(&part)
        .map_err(|error| format!("cannot make {}: {error}", part.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let saved = runtime.block_on(fetch(endpoint, &mut out));
    let version = match saved.and_then(|version| check(&part, &out).map(|()| version)) {
        Ok(version) => version,
        Err(error) => {
            // What is there is of no use; that it could not be fetched is what counts.
            let _ = fs::remove_file(&part);
            return Err(error);
        }
    };
    fs::rename(&part, path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    let size = out.metadata()?.len();
    say(&format!(
        "saved {} at {} ({}, storage version {version})",
        endpoint,
        path.display(),
        human(size)
    ));
    Ok(())
}

/// The file is durable and ends in its digest.
fn check(part: &Path, out: &File) -> Result<(), Failure> {
    out.sync_all()?;
    file::check_digest(part, &file::open(part)?)
}

/// Writes all blobs one behind the other; tells the storage version.
async fn fetch(endpoint: &str, out: &mut File) -> Result<String, Failure> {
    let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(endpoint)).await;
    let connected =
        connecting.map_err(|_| format!("cannot connect to {endpoint} in {CONNECT:?}"))?;
    let socket = connected.map_err(|error| format!("cannot connect to {endpoint}: {error}"))?;
    let (mut client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    let request = Request::post(format!(
        "http://{endpoint}/etcdserverpb.Maintenance/Snapshot"
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .body(Full::new(codec::frame(&SnapshotRequest {})))?;
    let response = client.send_request(request).await?;
    refused(endpoint, response.headers())?;
    let mut body = response.into_body();
    let (mut buffer, mut version) = (BytesMut::new(), String::new());
    let (mut progress, mut written) = (Progress::new(), 0);
    let mut is_complete = false;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => buffer.extend_from_slice(&data),
            Err(frame) => {
                if let Some(trailers) = frame.trailers_ref() {
                    refused(endpoint, trailers)?;
                    is_complete = trailers.contains_key("grpc-status");
                }
            }
        }
        while let Some(message) = next_message(&mut buffer)? {
            let SnapshotResponse {
                blob,
                version: told,
                remaining_bytes,
                ..
            } = SnapshotResponse::decode(message)?;
            out.write_all(&blob)?;
            version = told;
            written += blob.len() as u64;
            progress.tell(|| format!("saved {}, {} to go", human(written), human(remaining_bytes)));
        }
    }
    if !is_complete || !buffer.is_empty() {
        return Err(format!("{endpoint} ended in the middle of the snapshot").into());
    }
    Ok(version)
}

/// Takes a whole message off the front of what came in.
fn next_message(buffer: &mut BytesMut) -> Result<Option<Bytes>, Failure> {
    let Some(prefix) = buffer.first_chunk::<{ codec::PREFIX }>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if prefix[0] != 0 || len > LONGEST {
        return Err("the server sends what is no snapshot".into());
    }
    if buffer.len() < codec::PREFIX + len {
        return Ok(None);
    }
    buffer.advance(codec::PREFIX);
    Ok(Some(buffer.split_to(len).freeze()))
}

fn refused(endpoint: &str, headers: &HeaderMap) -> Result<(), Failure> {
    match headers.get("grpc-status").map(|status| status.as_bytes()) {
        None | Some(b"0") => Ok(()),
        Some(status) => {
            let message = headers
                .get("grpc-message")
                .map_or(&b""[..], |message| message.as_bytes());
            Err(format!(
                "{endpoint} refused: {} (gRPC status {})",
                String::from_utf8_lossy(message),
                String::from_utf8_lossy(status)
            )
            .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::fuzz;

    #[test]
    fn messages_come_out_whole_or_not_at_all_whatever_comes_in() {
        // The first byte says how long a piece is.
        fuzz("unary", 50_000, |input| {
            let Some((&size, rest)) = input.split_first() else {
                return 0;
            };
            let (mut buffer, mut taken) = (BytesMut::new(), 0);
            for piece in rest.chunks(usize::from(size).max(1)) {
                buffer.extend_from_slice(piece);
                loop {
                    match next_message(&mut buffer) {
                        Ok(Some(message)) => {
                            let from = taken + codec::PREFIX;
                            assert_eq!(message, rest[from..from + message.len()]);
                            taken = from + message.len();
                            let _ = SnapshotResponse::decode(message);
                        }
                        Ok(None) => break,
                        Err(_) => return taken,
                    }
                }
            }
            assert_eq!(taken + buffer.len(), rest.len());
            taken
        });
    }
}
