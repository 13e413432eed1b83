//! How a run ends: everything is healed, and must recover, grow quiet, and agree.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft_rt::AsyncRuntime;
use rand::RngExt;

use super::faults::{self, Death};
use super::{Event, Life, Place, QUIET, RECOVERY, World, violation};
use crate::ledger::{Operation, Violation};
use crate::sim::Simulation;
use crate::sim_node::clients::{self, Client};

impl World {
    /// Ends all trouble.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.tell("calm", 0);
        self.is_troubled = false;
        for event in std::mem::take(&mut self.events).into_values() {
            match event {
                Event::Heal(_)
                | Event::Calm(_)
                | Event::FastDisk(_)
                | Event::Resume(..)
                | Event::Flap { .. } => {
                    self.happen(event)?;
                }
                // Those that would stop or lose their power are crashed below.
                Event::Trouble | Event::Start(_) | Event::PowerCut(..) | Event::StopLate(..) => {}
            }
        }
        for place in 0..self.places.len() {
            let life = self.places[place].life.as_ref();
            if life.is_some_and(|life| life.has_bad_disk || life.stopped.is_some()) {
                self.crash(place, Death::PowerLoss)?;
            }
            self.start(place);
        }
        Ok(())
    }

    /// Every member serves and takes a write.
    pub(super) fn recover(&mut self) -> Result<Duration, Violation> {
        let since = self.simulation.now();
        let mut asked = BTreeSet::new();
        let written = Arc::new(AtomicUsize::new(0));
        while written.load(Ordering::Relaxed) < self.places.len() {
            self.step()?;
            for place in 0..self.places.len() {
                if !asked.contains(&place) && self.probe(place, &written) {
                    asked.insert(place);
                }
            }
            if self.simulation.now() > since + RECOVERY {
                let lives = self.places.iter().map(|place| place.life.as_ref());
                let serving = lives.map(|life| life.is_some_and(|life| life.node.is_some()));
                let text = format!(
                    "{RECOVERY:?} after everything was healed {} members of {} have taken a write; serving: {:?}",
                    written.load(Ordering::Relaxed),
                    self.places.len(),
                    serving.collect::<Vec<_>>()
                );
                return violation(text);
            }
        }
        Ok(self.simulation.now() - since)
    }

    /// A partition that stays: while a majority reaches each other, some member takes writes.
    pub(super) fn endure(&mut self) -> Result<(), Violation> {
        let leader = self.leader();
        let ways = faults::lasting(&mut self.rng, &self.ids, leader);
        if !faults::has_majority(&self.ids, &ways) {
            return Ok(());
        }
        self.coverage.lasting_partitions += 1;
        self.tell(&format!("lasting {ways:?}"), 0);
        self.cut(&ways);
        let since = self.simulation.now();
        let written = Arc::new(AtomicUsize::new(0));
        for place in 0..self.places.len() {
            self.probe(place, &written);
        }
        while written.load(Ordering::Relaxed) == 0 {
            self.step()?;
            if self.simulation.now() > since + RECOVERY {
                return violation(format!(
                    "a majority reaches each other, and nobody has taken a write in {RECOVERY:?}; cut: {ways:x?}"
                ));
            }
        }
        // Long enough for those that are cut off to find out.
        let more = self.rng.random_range(0..2_000);
        let until = self.simulation.now() + Duration::from_millis(more);
        while self.simulation.now() < until {
            self.step()?;
        }
        for (from, to) in ways {
            self.network.heal(from, to);
        }
        Ok(())
    }

    /// Has a member asked to write until it has; false if it does not serve yet.
    fn probe(&mut self, place: usize, written: &Arc<AtomicUsize>) -> bool {
        let Place {
            shown,
            life:
                Some(Life {
                    node: Some(node),
                    group,
                    ..
                }),
            ..
        } = &self.places[place]
        else {
            return false;
        };
        let client = Client {
            node: node.clone(),
            shared: Arc::clone(&self.shared),
            shown: Arc::clone(shown),
            timeout: Duration::from_millis(500),
            pause: 0..=0,
            is_patient: true,
        };
        let group = *group;
        let written = Arc::clone(written);
        let first = self.probes;
        self.probes += 1_000_000;
        drop(self.simulation.spawn_in(group, async move {
            for probe in first.. {
                let put = Operation::Put {
                    key: Bytes::from_static(b"key/probe"),
                    value: format!("probe {probe}").into(),
                };
                if client.call(put, false).await == Some(true) {
                    break;
                }
                Simulation::sleep(Duration::from_millis(10)).await;
            }
            written.fetch_add(1, Ordering::Relaxed);
        }));
        true
    }

    /// Clients end, and all members and watchers get as far as the farthest.
    pub(super) fn quiet(&mut self) -> Result<(), Violation> {
        *self.shared.is_over.lock() = true;
        let since = self.simulation.now();
        loop {
            for _ in 0..64 {
                self.step()?;
            }
            let running = self.clients.load(Ordering::Relaxed);
            let known = self.shared.ledger.lock().known();
            let standing: Vec<(u64, i64, i64, usize)> = self
                .places
                .iter()
                .filter_map(|place| {
                    let (_, reader) = place.life.as_ref()?.inside.as_ref()?;
                    let view = reader.view();
                    let applied = view.applied.map_or(0, |id| id.index);
                    let watched = place.watched.load(Ordering::Relaxed);
                    let leases = reader.leases().len();
                    Some((applied, view.revision, watched, leases))
                })
                .collect();
            let is_level = standing
                .iter()
                .all(|one| *one == standing[0] && one.1 == one.2 && one.1 >= known && one.3 == 0);
            let wandered = self.wanderer.cursor.load(Ordering::Relaxed);
            let is_level = is_level && standing.iter().all(|one| one.1 == wandered);
            if running == 0 && is_level {
                return Ok(());
            }
            if self.simulation.now() > since + QUIET {
                return violation(format!(
                    "{QUIET:?} after the last call began, {running} calls wait; (entry, revision, watched, leases): {standing:?}, \
                     known: {known}, the wanderer saw {wandered}"
                ));
            }
        }
    }

    /// All that is left is right, and the same everywhere.
    pub(super) fn compare(&mut self) -> Result<(), Violation> {
        self.look()?;
        self.observe()?;
        self.look_at_states()?;
        self.tell("compare", 0);
        let _entered = self.simulation.enter();
        for place in &self.places {
            let inside = place.life.as_ref().and_then(|life| life.inside.as_ref());
            let Some((_, reader)) = inside else {
                return violation(format!("member {:x} is not there", place.id));
            };
            let oldest = reader.view().compact_revision.max(1);
            clients::observe_after(reader, &self.shared, oldest)?;
            clients::compare(reader, &self.shared, &mut self.rng)?;
        }
        Ok(())
    }
}
