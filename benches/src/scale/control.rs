//! Single calls beside a load: sizes, compactions, hashes, counts, and one streamed range.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::BytesMut;
use prost::Message;
use proto::etcd::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseLeasesRequest,
    RangeRequest, RangeStreamResponse, StatusRequest,
};
use tokio::runtime::{Builder, Runtime};

use crate::wire::{self, Answer, Channel, Method, framed, take_message};

/// A connection of its own, used from a thread that may wait.
pub(crate) struct Control {
    runtime: Runtime,
    channel: Channel,
    endpoint: SocketAddr,
}

/// What a streamed range brought.
pub(crate) struct Streamed {
    /// Keys in all messages.
    pub(crate) keys: u64,
    /// Messages.
    pub(crate) messages: u64,
    /// Until the last byte.
    pub(crate) took: Duration,
}

/// The size of the database as the server tells it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Size {
    /// Bytes on disk.
    pub(crate) total: u64,
    /// Those in use.
    pub(crate) in_use: u64,
    /// The newest revision.
    pub(crate) revision: i64,
}

impl Control {
    /// Connects.
    pub(crate) fn new(endpoint: SocketAddr) -> Result<Control> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let channel = runtime.block_on(wire::connect(endpoint))?;
        Ok(Control {
            runtime,
            channel,
            endpoint,
        })
    }

    /// One unary call and how long it took.
    fn call(&mut self, path: &str, request: &impl Message) -> Result<(Answer, Duration)> {
        let method = Method::new(self.endpoint, path)?;
        let begin = Instant::now();
        let answer = self
            .runtime
            .block_on(self.channel.call(&method, framed(request)))
            .with_context(|| format!("calling {path}"))?;
        Ok((answer, begin.elapsed()))
    }

    /// Asks for the size of the database.
    pub(crate) fn size(&mut self) -> Result<Size> {
        let (answer, _) = self.call(
            "/etcdserverpb.Maintenance/Status",
            &StatusRequest::default(),
        )?;
        Ok(Size {
            total: answer.numbers[3],
            in_use: answer.numbers[9],
            revision: answer.revision,
        })
    }

    /// Compacts; with `physical`, until it is done on disk.
    pub(crate) fn compact(&mut self, revision: i64, physical: bool) -> Result<Duration> {
        let request = CompactionRequest { revision, physical };
        Ok(self.call("/etcdserverpb.KV/Compact", &request)?.1)
    }

    /// Deletes a prefix; gives back the number of keys.
    pub(crate) fn delete(&mut self, prefix: &str) -> Result<u64> {
        let (key, range_end) = wire::range_of(prefix);
        let request = DeleteRangeRequest {
            key,
            range_end,
            ..DeleteRangeRequest::default()
        };
        Ok(self
            .call("/etcdserverpb.KV/DeleteRange", &request)?
            .0
            .numbers[2])
    }

    /// Hashes all keys at the newest revision.
    pub(crate) fn hash(&mut self) -> Result<(u64, Duration)> {
        let (answer, took) = self.call(
            "/etcdserverpb.Maintenance/HashKV",
            &HashKvRequest::default(),
        )?;
        Ok((answer.numbers[2], took))
    }

    /// Counts a prefix.
    pub(crate) fn count(&mut self, prefix: &str, serializable: bool) -> Result<(u64, Duration)> {
        let (key, range_end) = wire::range_of(prefix);
        let request = RangeRequest {
            key,
            range_end,
            count_only: true,
            serializable,
            ..RangeRequest::default()
        };
        let (answer, took) = self.call("/etcdserverpb.KV/Range", &request)?;
        Ok((answer.numbers[4], took))
    }

    /// Counts the leases by asking for all of them.
    pub(crate) fn leases(&mut self) -> Result<(u64, Duration)> {
        let (answer, took) = self.call(
            "/etcdserverpb.Lease/LeaseLeases",
            &LeaseLeasesRequest::default(),
        )?;
        Ok((u64::from(answer.counts[2]), took))
    }

    /// The shortest call that there is, for comparison.
    pub(crate) fn nothing(&mut self) -> Result<Duration> {
        Ok(self
            .call("/etcdserverpb.Maintenance/Alarm", &AlarmRequest::default())?
            .1)
    }

    /// Streams all keys of a prefix and throws them away.
    pub(crate) fn stream(&mut self, prefix: &str) -> Result<Streamed> {
        let (key, range_end) = wire::range_of(prefix);
        let request = RangeRequest {
            key,
            range_end,
            ..RangeRequest::default()
        };
        let method = Method::new(self.endpoint, "/etcdserverpb.KV/RangeStream")?;
        let begin = Instant::now();
        let (mut keys, mut messages) = (0, 0);
        let mut bytes = BytesMut::new();
        let take = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            while let Some(message) = take_message(&mut bytes) {
                let answer = RangeStreamResponse::decode(message)?;
                messages += 1;
                keys += answer
                    .range_response
                    .map_or(0, |part| part.kvs.len() as u64);
            }
            Ok(())
        };
        self.runtime
            .block_on(self.channel.download(&method, framed(&request), take))?;
        Ok(Streamed {
            keys,
            messages,
            took: begin.elapsed(),
        })
    }
}
