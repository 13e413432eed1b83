//! A node without consensus, for tests of what is around it: what is proposed stays where it is.

use std::sync::Arc;

use store::Machine;
use store::engine::memory::MemoryEngine;

use super::Core;
use super::core::Parts;
use crate::admission::Admission;
use crate::exec::{Clock, SystemClock};
use crate::metrics::Metrics;
use crate::node::{BoxFuture, CallError, Control, LeaseLeft, MoveError, Node, NodeStatus};
use crate::watch::{self, Hub, Identity};

struct Nobody;

impl Control for Nobody {
    fn status(&self) -> NodeStatus {
        NodeStatus::default()
    }

    fn lease_left(&self, _: i64) -> BoxFuture<Result<Option<LeaseLeft>, CallError>> {
        Box::pin(std::future::ready(Err(CallError::NoLeader)))
    }

    fn move_leader(&self, _: u64) -> BoxFuture<Result<(), MoveError>> {
        Box::pin(std::future::ready(Err(MoveError::NotLeader)))
    }

    fn shutdown(&self) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }
}

/// A node with nothing in it, and what is behind it.
pub(crate) fn node(admission: Admission) -> (Node, Arc<Core>) {
    let engine = Arc::new(MemoryEngine::new());
    let machine = Machine::open(engine, store::Options::default()).expect("an empty engine opens");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (hub, _, _) = Hub::new(
        machine.reader(),
        Identity::default(),
        watch::Options::default(),
        clock.clone(),
    );
    let core = Core::new(Parts {
        cluster_id: 1,
        member_id: 1,
        boot: 1,
        term: Arc::default(),
        clock,
        reader: machine.reader(),
        hub,
        databases: Arc::default(),
        metrics: Arc::new(Metrics::new(false)),
        admission: Arc::new(admission),
        applied: (machine.applied(), machine.membership().clone()),
        lease_grace: std::time::Duration::ZERO,
    });
    (Node::new(core.clone(), Arc::new(Nobody)), core)
}
