//! The state machine as a whole, on both engines.

mod apply;
mod commands;
mod engines;
#[cfg(feature = "rocksdb")]
mod figures;
mod model;
mod random;
mod range;
