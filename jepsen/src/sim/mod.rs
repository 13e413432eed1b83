//! A deterministic single-threaded runtime: virtual clock, seeded scheduler, reproducible trace.
//!
//! What is random in a real process (which thread runs next, how long a step takes, when a timer
//! fires between two steps) is drawn from one seed here. A run is therefore a function of its seed:
//!
//! - the next task is picked at random among those that are ready;
//! - each step costs a random few microseconds of virtual time, so that timers also fire between
//!   the steps of a busy system; when nothing is ready, the clock jumps to the next timer;
//! - the ready tasks are kept in the order of their ids, so the order in which a channel wakes its
//!   waiters does not show in the trace;
//! - every decision, and every event named with [`Simulation::note`], is folded into a hash
//!   ([`Simulation::trace`]): two runs of one seed must end with the same hash, and a test says so.
//!
//! What the runtime cannot hide: real clocks, real threads, and iteration over a `HashMap` with
//! random keys. Code under simulation avoids all three.
//!
//! The runtime is found through a thread-local that [`Simulation::enter`] sets, because openraft's
//! [`AsyncRuntime`](openraft_rt::AsyncRuntime) has no `self`. All types are `Send`, as openraft is
//! built with threads in mind, but nothing here ever crosses one.
//!
//! Tasks belong to a [`Group`], inherited by what they spawn. [`Simulation::kill`] drops a whole
//! group between two steps: this is the crash of a process. [`Simulation::pause`] stops one for a while.
//!
//! [`network`] carries what members of a cluster say to each other.

mod clock;
mod executor;
mod mpsc;
mod mutex;
pub mod network;
mod oneshot;
mod runtime;
mod watch;

pub use clock::{Elapsed, SimInstant, Sleep, Timeout};
pub use executor::{Entered, Group, Panicked, SimRng, Simulation, Step, Trace, Until};
pub use mpsc::{SimMpsc, SimReceiver, SimSender, SimWeakSender};
pub use mutex::SimMutex;
pub use oneshot::{OneshotClosed, OneshotReceiver, OneshotSend, SimOneshot};
pub use runtime::{JoinError, JoinHandle};
pub use watch::{SimWatch, SimWatchReceiver, SimWatchSender, WatchRef};
