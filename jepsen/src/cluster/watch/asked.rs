//! What a watcher asks for, and how that is drawn.

use bytes::Bytes;
use proto::etcd::etcdserverpb::WatchCreateRequest;
use proto::etcd::etcdserverpb::watch_create_request::FilterType;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::cluster::model::Change;
use crate::cluster::workload::watched_key;
use crate::sim::SimRng;

/// How far from the present most watchers start, in revisions.
const NEAR: i64 = 100;

/// A watcher as its client asked for it. Keys by etcd's convention: no end is one key, an end of `\0` is all from `key` on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) end: String,
    /// The first revision to report; 0 for the next one.
    pub(crate) start: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) no_put: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) no_delete: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) previous: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) progress: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) fragment: bool,
}

impl Asked {
    /// Every change of every key from a revision on.
    pub(crate) fn everything(start: i64) -> Asked {
        Asked {
            key: "\0".to_owned(),
            end: "\0".to_owned(),
            start,
            no_put: false,
            no_delete: false,
            previous: true,
            progress: true,
            fragment: true,
        }
    }

    /// Whether nothing is left out.
    pub(crate) fn is_everything(&self) -> bool {
        let everything = Asked::everything(self.start);
        (&self.key, &self.end) == (&everything.key, &everything.end)
            && !self.no_put
            && !self.no_delete
    }

    /// The keys that begin with `prefix`, from now on.
    pub(crate) fn prefix(prefix: &str) -> Asked {
        let mut end = prefix.to_owned();
        let last = end.pop().map_or('\0', |last| char::from(last as u8 + 1));
        end.push(last);
        Asked {
            key: prefix.to_owned(),
            end,
            previous: false,
            progress: false,
            fragment: false,
            ..Asked::everything(0)
        }
    }

    /// Anything, near `newest`, the newest revision that anybody was told, or near `compacted`.
    pub(crate) fn draw(newest: i64, compacted: i64, rng: &mut SimRng) -> Asked {
        let mut asked = match rng.random_range(0..20) {
            0..6 => Asked {
                end: String::new(),
                ..Asked::prefix(&watched_key(rng))
            },
            6..11 => Asked::prefix(&watched_key(rng)[..4]),
            11..14 => Asked::prefix("w/"),
            14 => Asked::prefix("big/"),
            15..18 => {
                let (one, other) = (watched_key(rng), watched_key(rng));
                let (key, end) = if one < other {
                    (one, other)
                } else {
                    (other, one)
                };
                // Never an empty range.
                let end = if key == end { format!("{end}0") } else { end };
                Asked {
                    key,
                    end,
                    ..Asked::prefix("w/")
                }
            }
            18 => Asked {
                end: "\0".to_owned(),
                ..Asked::prefix(&watched_key(rng))
            },
            _ => Asked::everything(0),
        };
        asked.start = match rng.random_range(0..20) {
            0..9 => newest + rng.random_range(-NEAR..=NEAR),
            9..14 => 0,
            14..16 => compacted,
            16 => compacted - rng.random_range(0..20),
            17 => newest + rng.random_range(0..10 * NEAR),
            _ => rng.random_range(compacted.min(newest)..=newest),
        };
        asked.start = asked.start.max(0);
        asked.no_put = rng.random_range(0..8) == 0;
        asked.no_delete = !asked.no_put && rng.random_range(0..8) == 0;
        asked.previous = rng.random();
        asked.progress = rng.random();
        asked.fragment = rng.random();
        asked
    }

    /// Whether a change is one that it asked for, its revision aside.
    pub(crate) fn wants(&self, change: &Change) -> bool {
        let is_filtered = match change.after {
            Some(_) => self.no_put,
            None => self.no_delete,
        };
        let key = change.key.as_str();
        let is_in = match self.end.as_str() {
            "" => key == self.key,
            "\0" => key >= self.key.as_str(),
            end => key >= self.key.as_str() && key < end,
        };
        is_in && !is_filtered
    }

    pub(super) fn request(&self) -> WatchCreateRequest {
        let filters = [
            (self.no_put, FilterType::Noput),
            (self.no_delete, FilterType::Nodelete),
        ];
        let filters = filters.into_iter().filter(|(is_on, _)| *is_on);
        WatchCreateRequest {
            key: Bytes::copy_from_slice(self.key.as_bytes()),
            range_end: Bytes::copy_from_slice(self.end.as_bytes()),
            start_revision: self.start,
            progress_notify: self.progress,
            filters: filters.map(|(_, filter)| filter.into()).collect(),
            prev_kv: self.previous,
            watch_id: 0,
            fragment: self.fragment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_filters_are_etcds() {
        let change = |key: &str| Change {
            revision: 2,
            key: key.to_owned(),
            after: None,
            previous: None,
        };
        let one = Asked {
            end: String::new(),
            ..Asked::prefix("w/a/1")
        };
        assert!(one.wants(&change("w/a/1")) && !one.wants(&change("w/a/10")));
        let prefix = Asked::prefix("w/a/");
        assert!(prefix.wants(&change("w/a/1")) && !prefix.wants(&change("w/b/1")));
        assert!(Asked::everything(1).wants(&change("a")));
        let puts = Asked {
            no_delete: true,
            ..prefix
        };
        assert!(!puts.wants(&change("w/a/1")));
    }
}
