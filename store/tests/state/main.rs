//! The state machine as a whole, on both engines.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of tests are small"
)]

mod alarms;
mod apply;
mod check;
mod commands;
mod compaction;
mod counting;
mod dump;
mod engines;
mod etcd_files;
mod faulty;
#[cfg(feature = "rocksdb")]
mod figures;
mod generate;
mod leases;
mod members;
mod model;
mod pages;
mod random;
mod range;
#[cfg(feature = "rocksdb")]
mod read_figures;
mod read_txn;
mod room;
mod transfer;
mod twice;
