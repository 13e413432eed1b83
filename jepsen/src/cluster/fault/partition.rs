//! Packets between members that do not arrive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::SliceRandom;

use super::{Nemesis, Struck, last};
use crate::cluster::network::{Cut, Dropped, Loss};
use crate::cluster::node::{name, names};
use crate::cluster::traffic;

/// What a cut lasts longer than other faults.
const LONGER: Duration = Duration::from_millis(1_500);

#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Leader,
    Follower,
    Halves,
    Bridge,
    OneWay,
    Kill,
    Flap,
    Loss,
}

/// Cuts that belong together.
#[derive(Debug, Default)]
struct Shape {
    cuts: Vec<Cut>,
    /// Members that the fault is about.
    nodes: Vec<usize>,
    about: String,
    /// Less than a majority, that nobody else hears or is heard by.
    minority: Vec<usize>,
}

impl Nemesis {
    pub(super) async fn cut(
        &mut self,
        form: Form,
        leader: usize,
        duration: Duration,
    ) -> anyhow::Result<Struck> {
        let shape = self.shape(form, leader)?;
        // Long enough to see what a minority tells that knows it is one.
        let duration = if shape.minority.is_empty() {
            duration
        } else {
            duration + LONGER
        };
        let took_leader = shape.minority.contains(&leader);
        let survivors = self.others(&shape.minority);
        let mut also = String::new();
        let (begin, end, dropped) = if matches!(form, Form::Flap) {
            self.flap(&shape, duration).await?
        } else {
            self.cluster.network()?.cut(&shape.cuts)?;
            let begin = self.begin(&shape.about, &shape.nodes);
            if took_leader {
                self.probe(survivors.clone());
            }
            if !shape.minority.is_empty() {
                let minority = shape.minority.clone();
                tokio::spawn(traffic::question(
                    Arc::clone(&self.world),
                    minority,
                    duration,
                ));
            }
            if matches!(form, Form::Kill) {
                // Now nobody has a majority, until the killed one is back.
                last(duration / 3).await;
                let target = self.any(&survivors)?;
                also = format!(
                    "; {}, and was started again",
                    self.cluster.nodes[target].kill()?
                );
                last(duration / 3).await;
                self.cluster.start(target)?;
                last(duration / 3).await;
            } else {
                last(duration).await;
            }
            let end = self.world.now();
            (begin, end, self.cluster.network()?.dropped(&shape.cuts)?)
        };
        let mut proof = describe(&shape, &dropped) + &also;
        if took_leader {
            proof = format!("{proof}; {}", self.new_leader(leader));
        }
        self.cluster.network()?.cut(&[])?;
        let is_steady = !matches!(form, Form::Flap);
        Ok(Struck {
            begin,
            end,
            took_leader: took_leader && is_steady,
            minority: if is_steady {
                shape.minority
            } else {
                Vec::new()
            },
            happened: dropped.iter().any(|(_, packets)| *packets > 0),
            proof,
            nodes: shape.nodes,
        })
    }

    fn shape(&mut self, form: Form, leader: usize) -> anyhow::Result<Shape> {
        let members = self.world.members();
        let lesser = members.len() - self.majority();
        Ok(match form {
            Form::Leader | Form::Flap => isolate(&[leader], &members),
            Form::Follower => {
                let followers = self.others(&[leader]);
                isolate(&[self.any(&followers)?], &members)
            }
            Form::Halves | Form::Kill => {
                let first = self.any(&members)?;
                isolate(&self.some(first, lesser.max(1)), &members)
            }
            Form::Bridge => {
                let mut others = self.others(&[]);
                others.shuffle(&mut self.rng);
                // The leader is in one of the halves, or nothing would change for it.
                others.sort_by_key(|&node| node != leader);
                let bridge = others.pop().unwrap_or(leader);
                let (one, other) = others.split_at(others.len() / 2);
                Shape {
                    cuts: both_ways(one, other),
                    nodes: vec![bridge],
                    about: "hears both halves:".to_owned(),
                    minority: Vec::new(),
                }
            }
            Form::OneWay => {
                let target = if self.rng.random() {
                    leader
                } else {
                    self.any(&members)?
                };
                let others = self.others(&[target]);
                let is_deaf = self.rng.random();
                let cuts = others.iter().map(|&other| {
                    let (from, to) = if is_deaf {
                        (other, target)
                    } else {
                        (target, other)
                    };
                    Cut {
                        from,
                        to,
                        loss: Loss::All,
                    }
                });
                Shape {
                    cuts: cuts.collect(),
                    nodes: vec![target],
                    about: if is_deaf { "deaf:" } else { "mute:" }.to_owned(),
                    minority: Vec::new(),
                }
            }
            Form::Loss => {
                let percent = self.rng.random_range(10..=40);
                let mut cuts = both_ways(&members, &members);
                for cut in &mut cuts {
                    cut.loss = Loss::Percent(percent);
                }
                Shape {
                    cuts,
                    nodes: members,
                    about: format!("{percent} % of the packets lost between"),
                    minority: Vec::new(),
                }
            }
        })
    }

    /// Cut and healed in turn.
    async fn flap(
        &mut self,
        shape: &Shape,
        duration: Duration,
    ) -> anyhow::Result<(u64, u64, Vec<Dropped>)> {
        let mut sum: Vec<Dropped> = shape.cuts.iter().map(|&cut| (cut, 0)).collect();
        let begin = self.begin("flapping", &shape.nodes);
        let since = Instant::now();
        while since.elapsed() < duration {
            self.cluster.network()?.cut(&shape.cuts)?;
            let (off, on) = (
                self.rng.random_range(50..500),
                self.rng.random_range(50..500),
            );
            last(Duration::from_millis(off)).await;
            let dropped = self.cluster.network()?.dropped(&shape.cuts)?;
            for (total, (_, more)) in sum.iter_mut().zip(dropped) {
                total.1 += more;
            }
            self.cluster.network()?.cut(&[])?;
            last(Duration::from_millis(on)).await;
        }
        Ok((begin, self.world.now(), sum))
    }
}

fn isolate(nodes: &[usize], members: &[usize]) -> Shape {
    let others: Vec<usize> = members
        .iter()
        .copied()
        .filter(|node| !nodes.contains(node))
        .collect();
    Shape {
        cuts: both_ways(nodes, &others),
        nodes: nodes.to_vec(),
        about: "cut off".to_owned(),
        minority: nodes.to_vec(),
    }
}

fn both_ways(ones: &[usize], others: &[usize]) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for &one in ones {
        for &other in others.iter().filter(|&&other| other != one) {
            for (from, to) in [(one, other), (other, one)] {
                let cut = Cut {
                    from,
                    to,
                    loss: Loss::All,
                };
                if !cuts.contains(&cut) {
                    cuts.push(cut);
                }
            }
        }
    }
    cuts
}

fn describe(shape: &Shape, dropped: &[Dropped]) -> String {
    let counts: Vec<String> = dropped
        .iter()
        .map(|(cut, packets)| format!("{}>{} {packets}", name(cut.from), name(cut.to)))
        .collect();
    format!(
        "{} {}; packets dropped: {}",
        shape.about,
        names(&shape.nodes),
        counts.join(", ")
    )
}
