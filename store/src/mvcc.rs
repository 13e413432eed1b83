//! Multi-version keys: the index of live keys, and one file per verb.

pub(crate) mod by_value;
pub mod chosen;
pub(crate) mod compact;
pub(crate) mod delete;
pub(crate) mod heads;
pub mod index;
pub(crate) mod lease;
pub(crate) mod pace;
pub(crate) mod put;
pub mod range;
pub(crate) mod read_txn;
pub(crate) mod retention;
pub mod room;
pub(crate) mod twin;
pub(crate) mod txn;
pub(crate) mod writer;
