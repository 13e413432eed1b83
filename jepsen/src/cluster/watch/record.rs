//! What watchers asked for and were told, all of it, in little room: an event that many are told is kept once.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Asked;
use crate::cluster::history::{read_lines, write_lines};
use crate::cluster::model::Change;

/// One watcher on one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watcher {
    pub(crate) stream: usize,
    pub(crate) node: usize,
    pub(crate) asked: Asked,
    /// The watcher whose work it goes on with, by its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resumes: Option<usize>,
    /// Whether somebody goes on with its work until the end of the run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) stays: bool,
    /// When its client asked for its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cancelled: Option<u64>,
}

/// What a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    Created,
    /// That it could not be made.
    Refused,
    Events,
    /// Events, and the rest of the response follows.
    Piece,
    /// Nothing.
    Empty,
    /// Its end; with the compacted revision, if that is why.
    Cancelled(i64),
}

/// One response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) stream: usize,
    /// Whom it is about; nobody for all watchers of the stream.
    pub(crate) watcher: Option<usize>,
    pub(crate) time: u64,
    /// Of its header.
    pub(crate) revision: i64,
    pub(crate) said: Said,
    first: usize,
    count: usize,
}

/// As it is written: a line of a file, of which there are millions.
type Line = (usize, Option<usize>, u64, i64, Said, Vec<u32>);

/// Everything, in the order in which it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) watchers: Vec<Watcher>,
    pub(crate) deliveries: Vec<Delivery>,
    /// Every event as somebody was told it, once.
    pub(crate) events: Vec<Change>,
    /// The events of all deliveries, one after the other, by their numbers.
    told: Vec<u32>,
    numbers: HashMap<Change, u32>,
    streams: usize,
}

const WATCHERS: &str = "watchers.jsonl";
const EVENTS: &str = "events.jsonl";
const DELIVERIES: &str = "watch.jsonl";

impl Record {
    /// A number for a stream.
    pub(crate) fn open(&mut self) -> usize {
        self.streams += 1;
        self.streams - 1
    }

    /// A watcher that was asked for; its number.
    pub(crate) fn watch(&mut self, watcher: Watcher) -> usize {
        self.watchers.push(watcher);
        self.watchers.len() - 1
    }

    /// Adds a response.
    pub(crate) fn add(
        &mut self,
        stream: usize,
        watcher: Option<usize>,
        time: u64,
        revision: i64,
        said: Said,
        events: Vec<Change>,
    ) {
        let (first, count) = (self.told.len(), events.len());
        for event in events {
            let next = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
            let number = *self.numbers.entry(event).or_insert_with_key(|event| {
                self.events.push(event.clone());
                next
            });
            self.told.push(number);
        }
        self.deliveries.push(Delivery {
            stream,
            watcher,
            time,
            revision,
            said,
            first,
            count,
        });
    }

    /// The events of a response, by their numbers.
    pub(crate) fn told(&self, delivery: &Delivery) -> &[u32] {
        &self.told[delivery.first..delivery.first + delivery.count]
    }

    /// The last event of a response.
    pub(crate) fn last(&self, delivery: &Delivery) -> Option<&Change> {
        let number = self.told(delivery).last()?;
        self.events.get(*number as usize)
    }

    /// The history as those tell it who watch everything: each revision as the first of them told it.
    pub(crate) fn everything(&self) -> Vec<Change> {
        let mut by_revision: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
        let mut open: HashMap<usize, Vec<Change>> = HashMap::new();
        for delivery in &self.deliveries {
            let Some(number) = delivery.watcher else {
                continue;
            };
            let watcher = &self.watchers[number];
            let is_recorder = watcher.stays && watcher.asked.is_everything();
            if !is_recorder || !matches!(delivery.said, Said::Events | Said::Piece) {
                continue;
            }
            let told = self.told(delivery).iter().map(|&number| Change {
                previous: None,
                ..self.events[number as usize].clone()
            });
            open.entry(number).or_default().extend(told);
            if delivery.said == Said::Piece {
                continue;
            }
            let told = open.remove(&number).unwrap_or_default();
            for changes in told.chunk_by(|a, b| a.revision == b.revision) {
                by_revision
                    .entry(changes[0].revision)
                    .or_insert_with(|| changes.to_vec());
            }
        }
        by_revision.into_values().flatten().collect()
    }

    /// Events that were told, each counted as often as it was.
    pub(crate) fn count(&self) -> u64 {
        self.told.len() as u64
    }

    pub(crate) fn save(&self, folder: &Path) -> anyhow::Result<()> {
        write_lines(&folder.join(WATCHERS), &self.watchers)?;
        write_lines(&folder.join(EVENTS), &self.events)?;
        let lines = self.deliveries.iter().map(|delivery| -> Line {
            (
                delivery.stream,
                delivery.watcher,
                delivery.time,
                delivery.revision,
                delivery.said,
                self.told(delivery).to_vec(),
            )
        });
        write_lines(&folder.join(DELIVERIES), lines)
    }

    pub(crate) fn load(folder: &Path) -> anyhow::Result<Record> {
        let mut record = Record {
            watchers: read_lines(&folder.join(WATCHERS))?,
            events: read_lines(&folder.join(EVENTS))?,
            ..Record::default()
        };
        let lines: Vec<Line> = read_lines(&folder.join(DELIVERIES))?;
        for (stream, watcher, time, revision, said, told) in lines {
            let (first, count) = (record.told.len(), told.len());
            let is_known = |number: &u32| (*number as usize) < record.events.len();
            anyhow::ensure!(told.iter().all(is_known), "an event that is not there");
            record.told.extend(told);
            record.deliveries.push(Delivery {
                stream,
                watcher,
                time,
                revision,
                said,
                first,
                count,
            });
        }
        Ok(record)
    }
}
