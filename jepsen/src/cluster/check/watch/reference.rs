//! The history as watchers must see it, and what each event that somebody was told is by it.

use std::collections::HashMap;

use crate::cluster::model::{Change, Kv};
use crate::cluster::watch::Asked;

/// Every change in order, with what each key was before it.
pub(super) struct Reference<'a> {
    pub(super) log: &'a [Change],
    previous: Vec<Option<&'a Kv>>,
    places: HashMap<(i64, &'a str), usize>,
}

/// What is told of the key before the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Previous {
    Nothing,
    Right,
    Wrong,
}

/// What an event is by the history, whoever was told it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    /// Its place in the history, if that key changed at that revision.
    pub(super) place: Option<usize>,
    /// Whether it is the change that happened there.
    pub(super) is_same: bool,
    /// Whether it says rightly that the key was created by it.
    pub(super) is_created_rightly: bool,
    pub(super) previous: Previous,
    /// Whether there was something before it.
    pub(super) had_previous: bool,
}

impl<'a> Reference<'a> {
    pub(super) fn new(log: &'a [Change]) -> Reference<'a> {
        let mut newest: HashMap<&str, &Kv> = HashMap::new();
        let mut previous = Vec::with_capacity(log.len());
        let mut places = HashMap::with_capacity(log.len());
        for (place, change) in log.iter().enumerate() {
            previous.push(match &change.after {
                Some(kv) => newest.insert(&change.key, kv),
                None => newest.remove(change.key.as_str()),
            });
            places.insert((change.revision, change.key.as_str()), place);
        }
        Reference {
            log,
            previous,
            places,
        }
    }

    pub(super) fn judge(&self, event: &Change) -> Judged {
        let place = self
            .places
            .get(&(event.revision, event.key.as_str()))
            .copied();
        let before = place.and_then(|place| self.previous[place]);
        let says_created = |kv: &Kv| kv.created == kv.modified;
        Judged {
            place,
            is_same: place.is_some_and(|place| self.log[place].after == event.after),
            is_created_rightly: place.is_none()
                || event
                    .after
                    .as_ref()
                    .is_none_or(|kv| says_created(kv) == before.is_none()),
            previous: match (&event.previous, before) {
                (None, _) => Previous::Nothing,
                (Some(told), Some(before)) if told == before => Previous::Right,
                _ => Previous::Wrong,
            },
            had_previous: before.is_some(),
        }
    }

    /// The place of the first change at or above a revision.
    pub(super) fn from(&self, revision: i64) -> usize {
        self.log
            .partition_point(|change| change.revision < revision)
    }

    /// The first place, from one on, that a watcher must be told of.
    pub(super) fn next(&self, asked: &Asked, from: usize) -> Option<usize> {
        let rest = self.log.get(from..)?;
        let wanted = rest.iter().position(|change| asked.wants(change))?;
        Some(from + wanted)
    }
}
