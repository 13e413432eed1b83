//! A Holdfast node: everything with a socket, a timer or a task.
//!
//! The only door from the services inward is [`node::Node`]. openraft is named in `raft/` alone,
//! RocksDB in `store` alone, etcd's error texts in `etcd/error.rs` alone.

pub mod admission;
pub mod auto_compact;
pub mod channel;
mod clock_pace;
pub mod config;
pub mod data_dir;
pub mod databases;
pub mod dev;
pub mod disk_space;
pub mod dump;
pub mod etcd;
pub mod exec;
#[cfg(test)]
#[path = "../../store/tests/fuzz/mod.rs"]
mod fuzz;
pub mod http;
pub mod identity;
pub(crate) mod lessor;
pub mod limits;
pub mod listen;
pub mod logging;
pub mod members;
pub mod metrics;
pub mod node;
pub mod peer;
pub mod quota;
pub mod raft;
pub mod recover;
pub mod resource;
pub mod scrub;
pub mod shard;
mod signals;
pub mod snapshot;
pub mod start;
pub mod status;
pub mod sweep;
mod text;
pub mod tls;
pub mod watch;

pub use config::Config;
pub use start::{Running, start};
