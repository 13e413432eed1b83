//! What Holdfast promises under faults, and the machinery that checks it.
//!
//! - [`sim`]: a deterministic runtime. Everything that runs on it, runs in one thread, under a
//!   virtual clock and a seeded scheduler, and does the same again for the same seed.
//! - [`ledger`]: what clients were told, compared with what the store says happened.
//! - [`one_node`]: a whole node on that runtime, crashed at any step.
//! - [`many_nodes`]: a whole cluster on it, with a network that fails, too.
//! - [`process`]: a real server process, to be killed.
//! - [`load`]: clients of such a server, and the check after each of its starts.
//! - [`power`]: a disk of its own for such a server, whose power can be cut.
//! - [`cluster`]: whole clusters of such processes under faults, and the command `jepsen`.
//!
//! Each run is named by its seed. A failure prints it, and `SEED=<n>` with the same test replays it.

pub mod cluster;
pub mod ledger;
pub mod load;
pub mod many_nodes;
pub mod one_node;
pub mod power;
pub mod process;
pub mod sim;
mod sim_node;
