//! Those who watch a cluster while it is being broken, and what they were told.
//!
//! - `asked`: what a watcher asks for, and how that is drawn;
//! - `stream`: one stream with its watchers, and what comes on it;
//! - `users`: who opens streams: recorders, the crowd, and visitors;
//! - `compactor`: who takes the past away from them;
//! - `record`: everything that they were told.

mod asked;
mod compactor;
mod record;
mod stream;
mod users;

pub(crate) use asked::Asked;
pub(crate) use compactor::compactor;
pub(crate) use record::{Delivery, Record, Said, Watcher};
pub(crate) use users::{recorder, start_users};
