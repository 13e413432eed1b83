//! Whole clusters of real processes under faults: Holdfast's, or any that takes etcd's flags.
//!
//! A run starts members, lets clients and watchers use them, breaks something again and again, and checks everything that
//! anybody was told against the history that the members show in the end. `docs/jepsen.md` says how to use it.
//!
//! - [`run`], `conditions`, `finish`: one run from its conditions to its verdict;
//! - `members`, `node`, `network`: the processes and what they run on;
//! - `workload`, `leases`, `traffic`, `watch`, `connection`: who uses the cluster, and how;
//! - `fault`: what is broken, and the proof that it was;
//! - `history`, `model`: what is recorded, and what a store must do;
//! - `check`: whether it did;
//! - `report`, `suite`, `command`: pages, many runs, the command line.

mod check;
pub mod command;
mod conditions;
mod connection;
mod convergence;
mod fault;
mod finish;
mod history;
mod leases;
mod members;
mod model;
mod network;
mod node;
mod report;
mod run;
mod shell;
mod suite;
mod traffic;
mod watch;
mod workload;
mod world;

pub use check::{Gap, Measures, Verdict, Violation};
pub use conditions::Conditions;
pub use run::{check_again, run};
