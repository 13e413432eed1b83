//! Watchers: each is told exactly what it asked for, in order. The names of the first nine rules are those of etcd's own
//! robustness suite.
//!
//! | rule | says |
//! |---|---|
//! | `watch-filter` | no event of another key, or of a kind that was filtered out |
//! | `watch-ordered` | revisions never go back |
//! | `watch-unique` | no event comes twice |
//! | `watch-atomic` | no revision is split over two responses |
//! | `watch-bookmarkable` | progress at a revision comes after every event up to it, and before every later one |
//! | `watch-resumable` | the first event is the first one from the start revision on |
//! | `watch-reliable` | no event is left out, changed or invented; those who stay get to the end |
//! | `watch-is-create` | an event says that its key was created if and only if there was none |
//! | `watch-prev-kv` | what was there before is told as it was, to those who asked, unless it may be compacted |
//! | `watch-start` | nothing below the start revision: no event, and no progress |
//! | `watch-cancelled` | a watcher ends only if its client asks, or if compaction passes it, and is told that revision |
//! | `watch-fragments` | pieces come only to those who asked, follow each other, and make whole responses |
//! | `watch-empty` | a response without events is progress, for one who asked for it |

mod reference;

use std::collections::{BTreeSet, HashMap};

use self::reference::{Judged, Previous, Reference};
use super::{Findings, seconds};
use crate::cluster::history::{History, Outcome};
use crate::cluster::model::{Change, Op};
use crate::cluster::node::name;
use crate::cluster::watch::{Delivery, Said, Watcher};

pub(super) fn check(history: &History, findings: &mut Findings) {
    let Some(log) = history.logs.first() else {
        return;
    };
    let reference = Reference::new(log);
    let record = &history.watch;
    let events = &record.events;
    let scene = Scene {
        judged: events.iter().map(|event| reference.judge(event)).collect(),
        compactions: compactions(history),
        reference,
        events,
    };
    let mut walks: Vec<Walk<'_>> = record.watchers.iter().map(Walk::new).collect();
    // Those who live on each stream, at the delivery at hand.
    let mut living: HashMap<usize, BTreeSet<usize>> = HashMap::new();
    for delivery in &record.deliveries {
        let told = record.told(delivery);
        let on_stream = living.entry(delivery.stream).or_default();
        let Some(number) = delivery.watcher else {
            if delivery.said != Said::Empty {
                let text = format!(
                    "a response for nobody at {:.3} s: {:?}",
                    seconds(delivery.time),
                    delivery.said
                );
                findings.add("watch-empty", text);
            }
            // Confirmations may overtake it: what is no newer than a watcher may be from before it.
            for &number in on_stream.iter() {
                if walks[number].created < delivery.revision {
                    walks[number].progress(&scene, delivery);
                }
            }
            continue;
        };
        match delivery.said {
            Said::Created => drop(on_stream.insert(number)),
            Said::Refused | Said::Cancelled(_) => drop(on_stream.remove(&number)),
            _ => {}
        }
        walks[number].take(&scene, delivery, told);
    }
    let resumed: BTreeSet<usize> = record.watchers.iter().filter_map(|w| w.resumes).collect();
    for (number, mut walk) in walks.into_iter().enumerate() {
        if walk.watcher.stays && !resumed.contains(&number) {
            walk.end(&scene);
        }
        for (rule, text) in walk.broken {
            let node = name(walk.watcher.node);
            findings.add(rule, format!("watcher {number} on {node}: {text}"));
        }
    }
}

/// When each compaction was asked for that may have come about, and its revision.
fn compactions(history: &History) -> Vec<(u64, i64)> {
    let asked = history.operations.iter().filter_map(|operation| {
        let is_refused = operation.outcome == Outcome::Definite;
        match operation.op {
            Op::Compact { revision } if !is_refused => Some((operation.invoke, revision)),
            _ => None,
        }
    });
    asked.collect()
}

/// What all watchers are held to.
struct Scene<'a> {
    reference: Reference<'a>,
    /// By the number of the event.
    judged: Vec<Judged>,
    events: &'a [Change],
    compactions: Vec<(u64, i64)>,
}

impl Scene<'_> {
    /// Whether the state before a revision may be gone by some time.
    fn may_lack(&self, before: i64, time: u64) -> bool {
        let mut asked = self.compactions.iter();
        asked.any(|&(invoke, revision)| invoke <= time && before - 1 < revision)
    }
}

/// One watcher, followed through all that it was told.
struct Walk<'a> {
    watcher: &'a Watcher,
    /// The store's revision when it was made.
    created: i64,
    /// The first revision that it must be told of, once that is known.
    start: Option<i64>,
    /// The next change that it must be told of.
    next: Option<usize>,
    /// Of the last event.
    last: i64,
    /// Of the last progress.
    bookmark: i64,
    has_events: bool,
    pieces: Vec<u32>,
    /// The places of the history that it was told, a bit for each.
    seen: Vec<u64>,
    /// One finding for each rule: others follow from the first.
    broken: Vec<(&'static str, String)>,
}

impl<'a> Walk<'a> {
    fn new(watcher: &'a Watcher) -> Walk<'a> {
        Walk {
            watcher,
            created: 0,
            start: None,
            next: None,
            last: 0,
            bookmark: 0,
            has_events: false,
            pieces: Vec::new(),
            seen: Vec::new(),
            broken: Vec::new(),
        }
    }

    fn find(&mut self, rule: &'static str, delivery: &Delivery, text: impl FnOnce() -> String) {
        if self.broken.iter().all(|(broken, _)| *broken != rule) {
            let text = format!("{} at {:.3} s", text(), seconds(delivery.time));
            self.broken.push((rule, text));
        }
    }

    fn take(&mut self, scene: &Scene<'_>, delivery: &Delivery, told: &[u32]) {
        let asked = &self.watcher.asked;
        if !self.pieces.is_empty() && !matches!(delivery.said, Said::Events | Said::Piece) {
            let said = delivery.said;
            self.find("watch-fragments", delivery, || {
                format!("{said:?} between the pieces of a response")
            });
        }
        match delivery.said {
            Said::Created => {
                let start = match asked.start {
                    0 => delivery.revision + 1,
                    start => start,
                };
                self.created = delivery.revision;
                self.start = Some(start);
                self.next = scene.reference.next(asked, scene.reference.from(start));
            }
            Said::Refused => self.find("watch-cancelled", delivery, || "refused".to_owned()),
            Said::Cancelled(compacted) => self.cancelled(scene, delivery, compacted),
            Said::Empty => {
                if !asked.progress {
                    self.find("watch-empty", delivery, || {
                        "progress that was not asked for".to_owned()
                    });
                }
                self.progress(scene, delivery);
            }
            Said::Piece => {
                if !asked.fragment || told.is_empty() {
                    let count = told.len();
                    self.find("watch-fragments", delivery, || {
                        format!("a piece of {count} events, which was not asked for or is empty")
                    });
                }
                self.pieces.extend(told);
            }
            Said::Events if self.pieces.is_empty() => self.whole(scene, delivery, told),
            Said::Events => {
                let mut whole = std::mem::take(&mut self.pieces);
                whole.extend(told);
                self.whole(scene, delivery, &whole);
            }
        }
    }

    /// A response with all its events.
    fn whole(&mut self, scene: &Scene<'_>, delivery: &Delivery, told: &[u32]) {
        let Some(start) = self.start else {
            self.find("watch-start", delivery, || {
                "events before it was created".to_owned()
            });
            return;
        };
        let first = told.first().map(|number| &scene.events[*number as usize]);
        if let Some(first) = first
            && first.revision == self.last
        {
            let revision = first.revision;
            self.find("watch-atomic", delivery, || {
                format!("revision {revision} came in two responses")
            });
        }
        for &number in told {
            let event = &scene.events[number as usize];
            self.event(scene, delivery, start, event, scene.judged[number as usize]);
        }
        let last = self.last;
        if let Some(next) = self.next
            && scene.reference.log[next].revision == last
        {
            self.find("watch-atomic", delivery, || {
                format!("revision {last} came without all of its events")
            });
        }
        if delivery.revision < last {
            let revision = delivery.revision;
            self.find("watch-bookmarkable", delivery, || {
                format!("revision {last} under a header of {revision}")
            });
        }
    }

    fn event(
        &mut self,
        scene: &Scene<'_>,
        delivery: &Delivery,
        start: i64,
        event: &Change,
        judged: Judged,
    ) {
        let asked = &self.watcher.asked;
        let revision = event.revision;
        if !asked.wants(event) {
            self.find("watch-filter", delivery, || {
                format!("{event:?} was not asked for")
            });
        }
        if revision < start {
            self.find("watch-start", delivery, || {
                format!("revision {revision} below the start {start}")
            });
        }
        if revision < self.last {
            let last = self.last;
            self.find("watch-ordered", delivery, || {
                format!("revision {revision} after {last}")
            });
        }
        if revision <= self.bookmark {
            let bookmark = self.bookmark;
            self.find("watch-bookmarkable", delivery, || {
                format!("revision {revision} after progress at {bookmark}")
            });
        }
        self.last = revision;
        if !judged.is_same {
            self.find("watch-reliable", delivery, || {
                format!("{event:?} is not what happened")
            });
        }
        if !judged.is_created_rightly {
            self.find("watch-is-create", delivery, || {
                format!("{event:?} is wrong about whether there was the key before")
            });
        }
        let is_previous_right = match judged.previous {
            Previous::Right => asked.previous,
            Previous::Wrong => false,
            Previous::Nothing => {
                // etcd forgets what a watcher wants as soon as its end is asked for, and sends what is on its way.
                let is_ending = self.watcher.cancelled.is_some_and(|at| at <= delivery.time);
                !asked.previous
                    || !judged.had_previous
                    || is_ending
                    || scene.may_lack(revision, delivery.time)
            }
        };
        if !is_previous_right {
            self.find("watch-prev-kv", delivery, || {
                format!("{event:?} is wrong about what was there before")
            });
        }
        if let Some(place) = judged.place {
            self.place(scene, delivery, place);
        }
        self.has_events = true;
    }

    /// It was told of a change of the history: whether that was the next one.
    fn place(&mut self, scene: &Scene<'_>, delivery: &Delivery, place: usize) {
        let (word, bit) = (place / 64, 1 << (place % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            let change = &scene.reference.log[place];
            self.find("watch-unique", delivery, || format!("{change:?} again"));
        }
        self.seen[word] |= bit;
        let Some(next) = self.next else { return };
        if place > next {
            let missed = &scene.reference.log[next];
            let rule = match self.has_events {
                false => "watch-resumable",
                true => "watch-reliable",
            };
            self.find(rule, delivery, || format!("{missed:?} was left out"));
        }
        if place >= next {
            self.next = scene.reference.next(&self.watcher.asked, place + 1);
        }
    }

    fn progress(&mut self, scene: &Scene<'_>, delivery: &Delivery) {
        let revision = delivery.revision;
        if !self.pieces.is_empty() {
            self.find("watch-fragments", delivery, || {
                "progress between the pieces of a response".to_owned()
            });
        }
        if self.start.is_some_and(|start| revision + 1 < start)
            || revision < self.watcher.asked.start
        {
            self.find("watch-start", delivery, || {
                format!("progress at {revision}, below the start")
            });
        }
        if revision < self.last {
            let last = self.last;
            self.find("watch-bookmarkable", delivery, || {
                format!("progress at {revision} after an event of {last}")
            });
        }
        if let Some(next) = self.next
            && scene.reference.log[next].revision <= revision
        {
            let missed = &scene.reference.log[next];
            self.find("watch-bookmarkable", delivery, || {
                format!("progress at {revision} before {missed:?}")
            });
        }
        self.bookmark = self.bookmark.max(revision);
    }

    fn cancelled(&mut self, scene: &Scene<'_>, delivery: &Delivery, compacted: i64) {
        if compacted == 0 {
            if self.watcher.cancelled.is_none() {
                self.find("watch-cancelled", delivery, || {
                    "ended without having been asked to, and without a reason".to_owned()
                });
            }
            return;
        }
        let mut asked = scene.compactions.iter();
        let is_known =
            asked.any(|&(invoke, revision)| invoke <= delivery.time && revision == compacted);
        if !is_known {
            self.find("watch-cancelled", delivery, || {
                format!("ended by a compaction at {compacted}, which nobody asked for")
            });
        }
        let has = self
            .start
            .unwrap_or(0)
            .max(self.last + 1)
            .max(self.bookmark + 1);
        if compacted <= has {
            self.find("watch-cancelled", delivery, || {
                format!(
                    "ended by a compaction at {compacted}, although it needed only {has} and above"
                )
            });
        }
    }

    /// One of those who stay until the end.
    fn end(&mut self, scene: &Scene<'_>) {
        let missed = match self.start {
            Some(_) => self.next,
            // Never answered: it needed everything that it asked for.
            None if self.watcher.asked.start > 0 => {
                let from = scene.reference.from(self.watcher.asked.start);
                scene.reference.next(&self.watcher.asked, from)
            }
            None => None,
        };
        if let Some(missed) = missed
            && self
                .broken
                .iter()
                .all(|(rule, _)| *rule != "watch-reliable")
        {
            let text = format!(
                "never got {:?} and what follows",
                scene.reference.log[missed]
            );
            self.broken.push(("watch-reliable", text));
        }
    }
}
