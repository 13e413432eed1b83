//! Consensus: the only folder that names openraft.
//!
//! - `types`: openraft's type configuration over the runtime, and conversions.
//! - `log_storage`, `state_machine`: the store's log and machine as openraft wants them.
//! - `proposer`, `reads`: batch what waits into entries and read points; `forward`: takes batches to the leader.
//! - `network`, `inbound`: what this member asks of its peers, and what it answers; `wire`: the messages.
//! - `on_its_way`: keeps openraft from taking an old answer for a new one.
//! - `send_snapshot`, `take_snapshot`: the whole state, for a member that is far behind.
//! - `health`: how the leader sees the others. `leases`: keeps leases alive, and ends them.
//! - `membership`: has raft's configuration follow the table of members.
//! - `apply`: the worker that owns the machine. `flush`: the one that makes its state durable.
//! - `agreement`: whether state and log are of the same past. `holds`: log that a snapshot under way needs.
//! - `core`: what these share. `driver`: puts them together and looks after the log's length.

pub(crate) mod agreement;
pub mod apply;
#[cfg(test)]
pub(crate) mod bare;
mod core;
mod driver;
mod flush;
mod forward;
mod health;
mod holds;
mod inbound;
mod leases;
mod log_storage;
mod membership;
mod network;
mod on_its_way;
mod proposer;
mod reads;
mod send_snapshot;
mod state_machine;
#[cfg(test)]
mod suite;
mod take_snapshot;
#[cfg(all(test, feature = "rocksdb"))]
mod transfer;
mod types;
mod wire;

pub use core::Core;
pub use driver::{Beginning, NodeOptions, StartError, run_tokio, start};
pub use log_storage::{LogReader, LogStorage};
pub use state_machine::{SnapshotHandle, StateMachine, received};
pub use types::Types;

/// The runtime interface that consensus runs on; the simulation implements it.
pub use openraft::AsyncRuntime;

type RaftOf<R> = openraft::Raft<Types<R>, StateMachine>;
