//! One watcher as something inside the server reads it: its events as messages, not as bytes for a socket.

use std::collections::VecDeque;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use prost::{DecodeError, Message as _};
use proto::etcd::etcdserverpb::WatchResponse;
use proto::etcd::mvccpb::Event;

use super::frame::Payload;
use super::hub::{Create, Hub, Request, Stream};
use super::outbox::{End, Item, NoticeKind, Taken};

/// A watcher on a stream of its own.
pub(crate) struct Listener {
    stream: Stream,
    items: VecDeque<Item>,
}

/// What a watcher is told.
pub(crate) enum Told {
    /// Events, whole revisions in their order.
    Events {
        /// The watcher has now seen everything up to here.
        revision: i64,
        /// The raft term.
        term: u64,
        /// The events.
        events: Vec<Event>,
    },
    /// It has seen everything up to here.
    Progress(i64),
    /// It has ended: history up to here is gone.
    Compacted(i64),
    /// It has ended, or could not be made.
    Ended,
}

/// Why nothing more is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The hub ended the stream.
    End(End),
    /// What the hub said cannot be read.
    Fault,
}

impl Listener {
    pub(crate) fn new(hub: &Hub, create: Create) -> Self {
        let stream = hub.open();
        stream.request(Request::Create(create));
        Self {
            stream,
            items: VecDeque::new(),
        }
    }

    /// Asks to be told how far the watcher has seen.
    pub(crate) fn ask_progress(&self) {
        self.stream.request(Request::Progress);
    }

    /// What is told next.
    pub(crate) async fn next(&mut self) -> Result<Told, Silence> {
        loop {
            while let Some(item) = self.items.pop_front() {
                let told = understand(&item);
                self.stream.sent(&item);
                if let Some(told) = told {
                    return told.map_err(|_| Silence::Fault);
                }
            }
            let taken = std::future::poll_fn(|context| {
                match self.stream.take(&mut self.items, context.waker()) {
                    Taken::Nothing => Poll::Pending,
                    taken => Poll::Ready(taken),
                }
            });
            if let Taken::End(end) = taken.await {
                return Err(Silence::End(end));
            }
        }
    }
}

fn understand(item: &Item) -> Option<Result<Told, DecodeError>> {
    let told = match item {
        Item::Events(events) => {
            // They are the events of a response, and nothing else.
            let response = WatchResponse::decode(joined(&events.payload));
            return Some(response.map(|response| Told::Events {
                revision: events.revision,
                term: events.term,
                events: response.events,
            }));
        }
        Item::Notice(notice) => match notice.kind {
            NoticeKind::Created => return None,
            NoticeKind::Progress => Told::Progress(notice.revision),
            NoticeKind::Compacted(revision) => Told::Compacted(revision),
            NoticeKind::Canceled | NoticeKind::Refused(_) => Told::Ended,
        },
    };
    Some(Ok(told))
}

fn joined(payload: &Payload) -> Bytes {
    let mut encoded = BytesMut::with_capacity(payload.len());
    for part in payload.parts() {
        encoded.extend_from_slice(part);
    }
    encoded.freeze()
}
