//! What a fault does when it happens.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::faults::{Death, Fault, Way};
use super::{CUT_LATEST, Event, Place, World};
use crate::ledger::Violation;

impl World {
    pub(super) fn strike(&mut self, fault: Fault) -> Result<(), Violation> {
        self.tell(&format!("{fault:?}"), 0);
        let now = self.simulation.now();
        match fault {
            Fault::Crash {
                places,
                death,
                downs,
            } => {
                let is_all = places.len() == self.places.len();
                self.coverage.blackouts += u64::from(is_all);
                for (place, down) in places.into_iter().zip(downs) {
                    if self.places[place].life.is_none() {
                        continue;
                    }
                    match death {
                        Death::PowerLoss => self.coverage.power_losses += 1,
                        Death::Kill => self.coverage.kills += 1,
                    }
                    self.crash(place, death)?;
                    self.at(down, Event::Start(place));
                }
            }
            Fault::PowerCut { place, operations } => {
                let Place { disk, life, .. } = &mut self.places[place];
                if let Some(life) = life
                    && life.cut_at.is_none()
                {
                    disk.cut_power_after(operations);
                    life.cut_at = Some(disk.operations() + operations);
                    life.has_bad_disk = true;
                    let group = life.group;
                    self.at(CUT_LATEST, Event::PowerCut(place, group));
                }
            }
            Fault::FailedSync { place, syncs } => {
                let Place { disk, life, .. } = &mut self.places[place];
                if let Some(life) = life {
                    disk.fail_sync_after(syncs);
                    life.has_bad_disk = true;
                }
            }
            Fault::Stop { place } => self.stop(place),
            Fault::Pause { place, time } => {
                let Place { id, life, .. } = &mut self.places[place];
                if let Some(life) = life
                    && !life.is_paused
                    && life.stopped.is_none()
                {
                    self.coverage.pauses += 1;
                    life.is_paused = true;
                    let group = life.group;
                    self.network.pause(*id, now);
                    self.simulation.pause(group);
                    self.at(time, Event::Resume(place, group));
                }
            }
            Fault::SlowDisk {
                place,
                log,
                apply,
                time,
            } => {
                self.coverage.slow_disks += 1;
                self.places[place].tasks.slow_down(log, apply);
                self.at(time, Event::FastDisk(place));
            }
            Fault::Cut { ways, time } => {
                self.coverage.partitions += 1;
                self.cut(&ways);
                self.at(time, Event::Heal(ways));
            }
            Fault::Flap { ways, half, times } => {
                self.coverage.partitions += 1;
                self.flap(ways, half, false, times * 2);
            }
            Fault::Storm {
                ways,
                weather,
                time,
            } => {
                self.coverage.storms += 1;
                for &(from, to) in &ways {
                    self.network.set_weather(from, to, weather.clone());
                }
                self.at(time, Event::Calm(ways));
            }
            Fault::Standstill { time } => self.simulation.advance(time),
            Fault::ClockSet { place, ahead } => {
                self.places[place].ahead.store(ahead, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    pub(super) fn cut(&self, ways: &[Way]) {
        for &(from, to) in ways {
            self.network.cut(from, to, self.simulation.now());
        }
    }

    pub(super) fn flap(&mut self, ways: Vec<Way>, half: Duration, is_cut: bool, left: u32) {
        if is_cut {
            for &(from, to) in &ways {
                self.network.heal(from, to);
            }
        }
        if left == 0 || !self.is_troubled {
            return;
        }
        if !is_cut {
            self.cut(&ways);
        }
        let next = Event::Flap {
            ways,
            half,
            is_cut: !is_cut,
            left: left - 1,
        };
        self.at(half, next);
    }
}
