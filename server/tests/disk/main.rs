//! Disks that change, lose or refuse what a node wrote, and limits of its process: never a wrong answer, never an
//! acknowledged write that is silently gone, and a message that says what to do.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod errors;
mod files;
mod flips;
mod limits;
#[path = "../node/mod.rs"]
mod node;
#[cfg(feature = "rocksdb")]
mod scrub;
mod template;
