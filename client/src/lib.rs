//! A client of Holdfast and of every other server that speaks etcd v3.
//!
//! ```no_run
//! # async fn example() -> Result<(), client::Error> {
//! let client = client::connect("127.0.0.1:2379").await?;
//! let revision = client.put("greeting", "hello").await?;
//! let mut watch = client.watch("greeting", client::WatchOptions::from(revision)).await?;
//! while let Some(batch) = watch.next().await? {
//!     println!("{} changes up to revision {}", batch.events.len(), batch.revision);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] talks to one endpoint over one connection, which is made again when it is lost. Clones share it.
//!
//! Two things are left to the caller on purpose. No request is ever repeated by the client: after
//! [`Error::Unknown`] only the caller knows whether repeating the write is harmless. And a [`Watch`] ends with its
//! stream: [`Error::Interrupted`] says from which revision to go on.

mod channel;
mod error;
mod keys;
mod kv;
mod txn;
mod watch;

pub use channel::{Client, Options, connect};
pub use error::Error;
pub use keys::Keys;
pub use kv::{Deleted, List, ListOptions};
pub use txn::{Compare, Op, OpAnswer, Txn, TxnAnswer};
pub use watch::{Batch, Watch, WatchOptions};

pub use proto::etcd::etcdserverpb::compare::CompareResult;
pub use proto::etcd::etcdserverpb::{ResponseHeader, StatusResponse};
pub use proto::etcd::mvccpb::event::EventType;
pub use proto::etcd::mvccpb::{Event, KeyValue};
pub use tonic::{Code, Status};
