//! The replicated state machine and everything that touches disk, as a plain synchronous library.
//!
//! A store decides purely: it reads no clock, no random number, no network and no environment, so every
//! member that applies the same entries holds the same state and gives the same answers. It knows neither
//! the consensus library nor the transport.
//!
//! - [`Machine`] is the single writer. It applies entries in batches: evaluates them over the working index,
//!   writes one atomic engine batch, publishes a [`View`], and returns answers and change sets.
//! - [`Reader`] reads without locks: from a view's index at its revision, from the engine at older ones.
//! - [`StateEngine`] keeps bytes: [`engine::memory::MemoryEngine`] or, with the feature `rocksdb`,
//!   `engine::rocks::RocksEngine`. Neither has a write-ahead log: after a crash the state is the last flush, and
//!   the raft [`log`] replays the rest.
//! - Nothing outside [`layout`] builds a key or a stored value.
//!
//! ```
//! use std::sync::Arc;
//! use proto::etcd::etcdserverpb::RangeRequest;
//! use store::{Machine, Options, engine::memory::MemoryEngine};
//!
//! let machine = Machine::open(Arc::new(MemoryEngine::new()), Options::default())?;
//! let reader = machine.reader();
//! let view = reader.view();
//! let request = RangeRequest { key: "key".into(), ..Default::default() };
//! let found = reader.range(&view, &request)?.expect("the newest revision is never refused");
//! assert_eq!((view.revision, found.count), (1, 0));
//! # Ok::<(), store::StoreError>(())
//! ```

pub mod alarm;
pub mod answer;
pub mod apply;
pub mod bolt;
pub mod dump;
pub mod engine;
pub mod entry;
pub mod error;
pub mod etcd;
pub mod fs;
pub mod hash;
pub mod history;
pub mod layout;
pub mod leases;
pub mod log;
pub mod members;
pub mod mutant;
pub mod mvcc;
pub mod pins;
pub mod reader;
pub mod record;
pub mod retained;
pub mod snapshot;
pub mod sweep;

pub use alarm::Alarms;
pub use answer::{Answer, Answered, Operations, Refusal};
pub use apply::{BATCH_FORMAT, FEATURE_LEVEL, Machine, Options, Outcome, member_changes};
pub use engine::StateEngine;
pub use entry::{Entry, LogId, Membership, Payload, Vote};
pub use error::StoreError;
pub use hash::KvHash;
pub use history::{Change, ChangeSet, History, Previous, Version};
pub use leases::{LeaseChange, Leases};
pub use members::Members;
pub use mvcc::chosen::Chosen;
pub use mvcc::range::{RangeAnswer, RangeTotals};
pub use pins::Pin;
pub use reader::{Reader, View};
pub use record::Record;
pub use retained::{Edits, Holding};
pub use snapshot::{SnapshotName, StoredMembership};
pub use sweep::{Sweep, Swept};
