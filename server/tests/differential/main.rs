//! The same requests to Holdfast and to the real etcd: every field of every answer is compared, refusals included.
//!
//! `SEED=` repeats a run, `COMMANDS=` makes it longer, `PAIRS=` says how many pairs of servers run side by side,
//! `ETCD=` names another etcd than the one that `make etcd` builds.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says by panicking what went wrong, and prints what it saw"
)]

mod checklist;
mod command;
mod compare;
mod edges;
mod generate;
#[path = "../node/mod.rs"]
mod node;
mod run;
mod servers;
mod side;
mod streams;
mod transaction;
