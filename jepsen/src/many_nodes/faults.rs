//! What goes wrong, when, and when it ends.

use std::time::Duration;

use rand::RngExt;

use crate::sim::SimRng;
use crate::sim::network::Weather;

/// How a member dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// The power fails between two steps: what was not synced may be gone.
    PowerLoss,
    /// The process is killed: what it wrote is in the page cache and stays.
    Kill,
}

/// One direction between two members.
pub(super) type Way = (u64, u64);

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fault {
    /// These die at once, and start again after so long.
    Crash {
        places: Vec<usize>,
        death: Death,
        downs: Vec<Duration>,
    },
    /// The power of one fails after so many operations on its disk, in the middle of a worker's step.
    PowerCut { place: usize, operations: u64 },
    /// A sync of one fails: it stops by itself, and is started again.
    FailedSync { place: usize, syncs: u64 },
    /// SIGTERM.
    Stop { place: usize },
    /// Nothing of it runs.
    Pause { place: usize, time: Duration },
    /// Its disk takes up to so long for each write of the log and for what is applied together, in milliseconds.
    SlowDisk {
        place: usize,
        log: u64,
        apply: u64,
        time: Duration,
    },
    /// Nothing gets through these ways.
    Cut { ways: Vec<Way>, time: Duration },
    /// These ways are cut and healed, again and again.
    Flap {
        ways: Vec<Way>,
        half: Duration,
        times: u32,
    },
    /// These ways are slow, and lose messages.
    Storm {
        ways: Vec<Way>,
        weather: Weather,
        time: Duration,
    },
    /// Time goes on, and nobody runs.
    Standstill { time: Duration },
    /// The time of day of one is set.
    ClockSet { place: usize, ahead: u64 },
}

fn millis(rng: &mut SimRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.random_range(from..to))
}

/// From a moment to longer than any election takes, each magnitude as likely as the next.
fn time(rng: &mut SimRng) -> Duration {
    let magnitude = rng.random_range(4..13);
    millis(rng, 1 << (magnitude - 1), 1 << magnitude)
}

fn both(a: u64, b: u64) -> [Way; 2] {
    [(a, b), (b, a)]
}

fn shuffled(rng: &mut SimRng, mut values: Vec<usize>) -> Vec<usize> {
    for at in (1..values.len()).rev() {
        values.swap(at, rng.random_range(0..=at));
    }
    values
}

/// Every way between two sets of members.
fn between(one: &[u64], other: &[u64]) -> Vec<Way> {
    let pairs = one.iter().flat_map(|&a| other.iter().map(move |&b| (a, b)));
    pairs.flat_map(|(a, b)| both(a, b)).collect()
}

/// One that still reaches one other, and that one everybody.
fn all_but_one(rng: &mut SimRng, one: u64, others: &[u64]) -> Vec<Way> {
    let spared = others[rng.random_range(0..others.len())];
    let cut: Vec<u64> = others.iter().copied().filter(|&id| id != spared).collect();
    between(&[one], &cut)
}

/// A partition that may stay: often one in which the leader has lost its quorum and is still heard.
pub(super) fn lasting(rng: &mut SimRng, ids: &[u64], leader: Option<usize>) -> Vec<Way> {
    match leader {
        Some(leader) if rng.random_bool(0.4) => {
            let leader = ids[leader];
            let others: Vec<u64> = ids.iter().copied().filter(|&id| id != leader).collect();
            all_but_one(rng, leader, &others)
        }
        _ => partition(rng, ids, leader),
    }
}

/// A partition of some kind; members are named by their ids.
fn partition(rng: &mut SimRng, ids: &[u64], leader: Option<usize>) -> Vec<Way> {
    let order = shuffled(rng, (0..ids.len()).collect());
    let order: Vec<u64> = order.into_iter().map(|place| ids[place]).collect();
    let one = match leader {
        Some(leader) if rng.random_bool(0.6) => ids[leader],
        _ => order[0],
    };
    let others: Vec<u64> = ids.iter().copied().filter(|&id| id != one).collect();
    match rng.random_range(0..100) {
        // One alone, often the leader.
        0..25 => between(&[one], &others),
        // One that still reaches one other: a leader that does may keep that one from electing another.
        25..35 => all_but_one(rng, one, &others),
        // Two halves.
        35..50 => {
            let at = rng.random_range(1..order.len());
            between(&order[..at], &order[at..])
        }
        // One that still reaches both halves.
        50..65 => {
            let rest = &order[1..];
            let at = rng
                .random_range(1..rest.len().max(2))
                .min(rest.len() - 1)
                .max(1);
            between(&rest[..at], &rest[at..])
        }
        // It is heard and hears nothing, or the other way round.
        65..80 => {
            let is_deaf = rng.random_bool(0.5);
            let way = |&other: &u64| if is_deaf { (other, one) } else { (one, other) };
            others.iter().map(way).collect()
        }
        // Some ways, at random.
        _ => {
            let all = ids.iter().flat_map(|&a| ids.iter().map(move |&b| (a, b)));
            all.filter(|(a, b)| a != b && rng.random_bool(0.3))
                .collect()
        }
    }
}

/// Whether more than half of the members reach each other, each each.
pub(super) fn has_majority(ids: &[u64], cut: &[Way]) -> bool {
    let reach = |a: u64, b: u64| !cut.contains(&(a, b)) && !cut.contains(&(b, a));
    (0..1_u32 << ids.len()).any(|set| {
        let members = ids.iter().enumerate();
        let members = members.filter(|(nth, _)| set & 1 << nth != 0);
        let members: Vec<u64> = members.map(|(_, id)| *id).collect();
        let mut pairs = members
            .iter()
            .flat_map(|a| members.iter().map(move |b| (a, b)));
        members.len() > ids.len() / 2 && pairs.all(|(a, b)| reach(*a, *b))
    })
}

impl Fault {
    /// The next one. `leader` is the place of the member that leads, as far as anybody knows.
    pub(super) fn draw(rng: &mut SimRng, ids: &[u64], leader: Option<usize>) -> Fault {
        let count = ids.len();
        let place = match leader {
            Some(leader) if rng.random_bool(0.4) => leader,
            _ => rng.random_range(0..count),
        };
        let few = {
            let magnitude = rng.random_range(1..8);
            rng.random_range(0..1_u64 << magnitude)
        };
        match rng.random_range(0..100) {
            0..28 => {
                let places = match rng.random_range(0..100) {
                    0..60 => vec![place],
                    60..80 => {
                        let some = rng.random_range(1..=count);
                        shuffled(rng, (0..count).collect())
                            .into_iter()
                            .take(some)
                            .collect()
                    }
                    _ => (0..count).collect(),
                };
                let death = if rng.random_bool(0.7) {
                    Death::PowerLoss
                } else {
                    Death::Kill
                };
                let downs = places.iter().map(|_| time(rng)).collect();
                Fault::Crash {
                    places,
                    death,
                    downs,
                }
            }
            28..38 => Fault::PowerCut {
                place,
                operations: few,
            },
            38..42 => Fault::FailedSync { place, syncs: few },
            42..48 => Fault::Stop { place },
            48..55 => Fault::Pause {
                place,
                time: time(rng),
            },
            55..61 => {
                let slowness = 1 << rng.random_range(3..11);
                let (log, apply) = match rng.random_range(0..4) {
                    0 => (0, slowness),
                    1 => (slowness, slowness),
                    _ => (slowness, 0),
                };
                Fault::SlowDisk {
                    place,
                    log,
                    apply,
                    time: time(rng),
                }
            }
            61..80 => Fault::Cut {
                ways: partition(rng, ids, leader),
                time: time(rng),
            },
            80..86 => Fault::Flap {
                ways: partition(rng, ids, leader),
                half: millis(rng, 20, 1_000),
                times: rng.random_range(2..8),
            },
            86..96 => {
                let slowest = 1 << rng.random_range(10..19);
                let weather = Weather {
                    delay: 50..slowest,
                    loss: [0.0, 0.01, 0.1, 0.3][rng.random_range(0..4)],
                    doubling: [0.0, 0.1, 0.5][rng.random_range(0..3)],
                };
                Fault::Storm {
                    ways: partition(rng, ids, leader),
                    weather,
                    time: time(rng),
                }
            }
            96..98 => Fault::Standstill { time: time(rng) },
            _ => Fault::ClockSet {
                place,
                ahead: rng.random_range(0..10_000_000),
            },
        }
    }
}
