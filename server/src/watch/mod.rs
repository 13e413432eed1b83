//! The fan-out of change sets: who wants which keys from which revision on, and how each is told once, in order.
//!
//! - [`Hub`] is the door: the apply thread publishes change sets, services open [`Stream`]s.
//! - One worker, [`HubWorker`], owns all watchers. It encodes an event once, however many receive it.
//! - A watcher is a cursor. Live ones stand at the hub's revision and are found by key; the others are brought there
//!   from the ring of recent revisions, or by [`CatchUpWorker`] from the store's history.
//! - A stream's queue is bounded. What does not fit is not queued: the watcher remembers its cursor instead and
//!   catches up once the queue has drained, so a slow reader costs no memory and loses nothing.
//!
//! Promises to every watcher: events in order of revision, each once, none missing, those of one revision in one
//! response (unless fragments were asked for); if compaction passes the cursor the watcher ends and is told so.

mod catch_up;
mod core;
mod frame;
mod group;
mod hub;
mod index;
mod interest;
mod listener;
mod outbox;
mod ring;
mod room;
mod wake;
mod watcher;

pub use catch_up::CatchUpWorker;
pub use frame::Payload;
pub(crate) use frame::SHARED_BYTES;
pub use hub::{Create, Hub, HubWorker, Identity, Options, Request, Stats, Stream};
pub use interest::{Interest, KeyRange};
pub(crate) use listener::{Listener, Silence, Told};
pub use outbox::{End, Events, Item, Notice, NoticeKind, Refused, Taken};
