//! The processes of members: started, serving, stopped, crashed, paused.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use rand::{Rng, RngExt};
use server::node::Node;
use server::peer::Inbound;

use super::checks::Seen;
use super::faults::Death;
use super::{CLIENTS, Event, Life, Place, Running, STOP, World, tenants, violation, watcher};
use crate::ledger::Violation;
use crate::sim::Group;
use crate::sim_node::clients::{self, Client};
use crate::sim_node::machinery::{self, Syncs, VirtualClock};
use crate::sim_node::{self, Boot};

impl World {
    /// Ends a life that has come to its end.
    pub(super) fn look_after_end(&mut self, place: usize) -> Result<(), Violation> {
        let Place { disk, life, .. } = &self.places[place];
        let Some(life) = life else { return Ok(()) };
        if life
            .cut_at
            .is_some_and(|cut_at| disk.operations() >= cut_at)
        {
            self.coverage.power_cuts += 1;
            self.crash(place, Death::PowerLoss)?;
            self.start_later(place);
            return Ok(());
        }
        if life.stopped.as_ref().is_some_and(|stopped| *stopped.lock()) {
            self.coverage.stops += 1;
            self.crash(place, Death::Kill)?;
            self.start_later(place);
            return Ok(());
        }
        let Some(node) = &life.node else {
            return Ok(());
        };
        let failed = {
            let _entered = self.simulation.enter();
            node.failed().now_or_never()
        };
        match failed {
            Some(_) if life.has_bad_disk => {
                self.coverage.failed_syncs += 1;
                self.crash(place, Death::PowerLoss)?;
                self.start_later(place);
                Ok(())
            }
            Some(reason) => violation(format!("a member stopped by itself: {reason}")),
            None => Ok(()),
        }
    }

    pub(super) fn start_later(&mut self, place: usize) {
        let delay = self.rng.random_range(0..2_000);
        self.at(Duration::from_millis(delay), Event::Start(place));
    }

    pub(super) fn resume(&mut self, place: usize, group: Group) {
        let Place { id, life, .. } = &mut self.places[place];
        if let Some(life) = life
            && life.group == group
            && life.is_paused
        {
            life.is_paused = false;
            self.network.resume(*id);
            self.simulation.resume(group);
            self.tell("goes on", self.places[place].id);
        }
    }

    /// SIGTERM: it hands over and stops, while its clients go on.
    pub(super) fn stop(&mut self, place: usize) {
        let Some(life) = &mut self.places[place].life else {
            return;
        };
        let Some(node) = life.node.clone() else {
            return;
        };
        if life.is_paused || life.stopped.is_some() {
            return;
        }
        let stopped = Arc::new(Mutex::new(false));
        life.stopped = Some(Arc::clone(&stopped));
        let group = life.group;
        drop(self.simulation.spawn_in(group, async move {
            node.shutdown().await;
            *stopped.lock() = true;
        }));
        self.at(STOP, Event::StopLate(place, group));
    }

    /// Starts a member's next life, unless it lives.
    pub(super) fn start(&mut self, place: usize) {
        let group = Group(self.next_group);
        let known = self.shared.ledger.lock().known();
        let compacted = *self.shared.compacted.lock();
        if self.places[place].life.is_some() {
            return;
        }
        self.next_group += 1;
        self.tell("start", self.places[place].id);
        let place = &mut self.places[place];
        place.boots += 1;
        let boot = Arc::new(Mutex::new(Boot::default()));
        let inbound: Arc<Inbound> = Arc::default();
        let (log_options, store_options, mut settings) =
            sim_node::sizes(&mut self.rng, place.id, place.boots);
        // Who is behind a purged log needs a snapshot.
        settings.keep_log_bytes = u64::MAX;
        let parts = sim_node::Parts {
            member: place.id,
            voters: self.ids.iter().copied().collect::<BTreeSet<u64>>(),
            disk: machinery::disk(place.disk.clone(), None, &Arc::<Syncs>::default()),
            engine: Arc::clone(&place.engine),
            log_options,
            store_options,
            settings,
            transport: self.network.transport(place.id),
            inbound: Arc::clone(&inbound),
            clock: VirtualClock {
                ahead: Arc::clone(&place.ahead),
            },
            exec: place.tasks.clone(),
        };
        place.life = Some(Life {
            group,
            boot: Arc::clone(&boot),
            inside: None,
            node: None,
            seen: Seen::default(),
            floor: (known, compacted),
            cut_at: None,
            has_bad_disk: false,
            is_paused: false,
            stopped: None,
        });
        self.network.up(place.id, group, inbound);
        drop(self.simulation.spawn_in(group, async move {
            let result = sim_node::start(parts, &boot).await;
            boot.lock().result = Some(result);
        }));
    }

    /// A member serves: it shows all that was known when it started, and its clients begin.
    pub(super) fn serves(&mut self, place: usize, node: Node) -> Result<(), Violation> {
        self.tell("serves", self.places[place].id);
        let entered = self.simulation.enter();
        let Place {
            id,
            shown,
            watched,
            engine,
            life: Some(life),
            ..
        } = &mut self.places[place]
        else {
            return Ok(());
        };
        let view = node.reader().view();
        self.simulation.note("serves", view.revision.unsigned_abs());
        let (revision, compacted) = life.floor;
        if view.revision < revision || view.compact_revision.max(0) < compacted {
            return violation(format!(
                "member {id:x} serves at revision {} and compaction {}, but {revision} and {compacted} were known \
                 before it started",
                view.revision, view.compact_revision
            ));
        }
        if let Some(recovered) = &life.boot.lock().recovered {
            self.coverage.torn_tails += u64::from(recovered.cut.is_some());
        }
        let group = life.group;
        life.node = Some(node.clone());
        for _ in 0..CLIENTS {
            let client = Client {
                node: node.clone(),
                shared: Arc::clone(&self.shared),
                shown: Arc::clone(shown),
                timeout: Duration::from_millis(1 << self.rng.random_range(7..13)),
                pause: 13..=18,
                is_patient: false,
            };
            let running = Running::new(&self.clients);
            drop(self.simulation.spawn_in(group, async move {
                client.run().await;
                drop(running);
            }));
        }
        let watching = watcher::watch(node.clone(), Arc::clone(&self.shared), Arc::clone(watched));
        drop(self.simulation.spawn_in(group, watching));
        let hosting = watcher::host(
            node.clone(),
            Arc::clone(&self.shared),
            Arc::clone(&self.wanderer),
        );
        drop(self.simulation.spawn_in(group, hosting));
        let renting = tenants::rent(
            node.clone(),
            Arc::clone(&self.shared),
            Arc::clone(&self.leases),
        );
        drop(self.simulation.spawn_in(group, renting));
        let often = Duration::from_millis(1 << self.rng.random_range(6..14));
        let compactor = clients::compactor(node.clone(), Arc::clone(&self.shared), often);
        drop(self.simulation.spawn_in(group, compactor));
        drop(self.simulation.spawn_in(group, clients::flusher(node)));
        let rewriter = clients::rewriter(Arc::clone(engine));
        drop(self.simulation.spawn_in(group, rewriter));
        drop(entered);
        Ok(())
    }

    /// Ends a life at once, after a last look at what was visible.
    pub(super) fn crash(&mut self, place: usize, death: Death) -> Result<(), Violation> {
        let now = self.simulation.now();
        let seed = self.rng.next_u64();
        self.tell(&format!("{death:?}"), self.places[place].id);
        let place = &mut self.places[place];
        let Some(life) = place.life.take() else {
            return Ok(());
        };
        if let Some((_, reader)) = &life.inside {
            let _entered = self.simulation.enter();
            clients::observe(reader, &self.shared)?;
        }
        self.coverage.unfinished_starts += u64::from(life.node.is_none());
        self.network.down(place.id, death == Death::PowerLoss, now);
        // The disk goes first: destructors of the node must not reach it.
        let survivor = (death == Death::Kill).then(|| place.disk.fork(seed));
        place.disk.crash();
        if let Some(survivor) = survivor {
            place.disk = survivor;
        }
        self.simulation.kill(life.group);
        {
            let _entered = self.simulation.enter();
            drop(life);
        }
        place.engine.crash();
        Ok(())
    }
}
