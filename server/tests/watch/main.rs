//! The fan-out from the state machine to the bytes of Watch streams, moved step by step in one thread.

mod delivery;
mod random;
mod rules;
mod world;
