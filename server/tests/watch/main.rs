//! The fan-out from the state machine to the bytes of Watch streams, moved step by step in one thread.

#![allow(
    clippy::unwrap_used,
    reason = "a test says by panicking what went wrong"
)]

mod delivery;
mod fault;
mod random;
mod rules;
mod slow;
mod world;
