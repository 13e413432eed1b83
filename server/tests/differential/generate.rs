//! Random commands: few keys, so that they meet, and every option with the values at which behaviour turns.

use std::collections::BTreeSet;

use bytes::Bytes;
use proto::etcd::etcdserverpb::alarm_request::AlarmAction;
use proto::etcd::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest, PutRequest, RangeRequest,
    WatchCreateRequest,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::command::{Answer, Command};

/// Prefixes and the rests that follow them: binary ones, ones that are prefixes of others, ones without a successor.
const PREFIXES: [&[u8]; 8] = [
    b"\0",
    b"a",
    b"a\0",
    b"a/",
    b"b",
    b"k/long/prefix/",
    b"\xff",
    b"\xff\xff",
];
const RESTS: [&[u8]; 7] = [b"", b"\0", b"\0\0", b"1", b"2", b"x", b"\xff"];

/// Makes commands that suit what the answers so far tell of the store.
pub(crate) struct Generator {
    pub(crate) random: StdRng,
    /// The newest revision.
    pub(crate) revision: i64,
    /// The oldest one that can be read.
    pub(crate) compacted: i64,
    is_following: bool,
    /// Alarms that are raised, by member and kind.
    alarms: BTreeSet<(u64, i32)>,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            revision: 1,
            compacted: 0,
            is_following: false,
            alarms: BTreeSet::new(),
        }
    }

    /// Learns from an answer.
    pub(crate) fn learn(&mut self, command: &Command, answer: &Answer) {
        self.revision = self.revision.max(answer.revision().unwrap_or(0));
        if let (Command::Compact(request), Answer::Compact(_)) = (command, answer) {
            self.compacted = request.revision;
        }
        match command {
            Command::Follow(_) => self.is_following = true,
            Command::Unfollow => self.is_following = false,
            Command::Alarm(request) => {
                let alarm = (request.member_id, request.alarm);
                match request.action() {
                    AlarmAction::Activate if request.alarm != 0 => {
                        self.alarms.insert(alarm);
                    }
                    AlarmAction::Deactivate => {
                        self.alarms.remove(&alarm);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    pub(crate) fn command(&mut self) -> Command {
        // Under an alarm nearly everything is refused, so none lasts long.
        if !self.alarms.is_empty() && self.chance(10) {
            return Command::Alarm(self.disarm());
        }
        match self.random.random_range(0..1000) {
            0..330 => Command::Range(self.range()),
            330..410 => Command::RangeStream(self.range_stream()),
            410..620 => Command::Put(self.put()),
            620..700 => Command::DeleteRange(self.delete_range()),
            700..960 => Command::Txn(self.txn()),
            960..970 => Command::Compact(self.compact()),
            970..980 => Command::HashKv(HashKvRequest {
                revision: self.revision(),
            }),
            980..989 => Command::Alarm(self.alarm()),
            989..994 => Command::Watch(self.watch()),
            _ if self.is_following => Command::Unfollow,
            _ => Command::Follow(self.follow()),
        }
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    pub(crate) fn key(&mut self) -> Bytes {
        if self.chance(1) {
            return Bytes::new();
        }
        let prefix = *PREFIXES.choose(&mut self.random).unwrap();
        let rest = *RESTS.choose(&mut self.random).unwrap();
        [prefix, rest].concat().into()
    }

    /// An end for ranges that begin at `key`.
    pub(crate) fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.random.random_range(0..100) {
            0..30 => Bytes::new(),
            30..40 => Bytes::from_static(b"\0"),
            40..65 => end_of_prefix(key),
            65..70 => key.clone(),
            70..75 => [key, &b"\0"[..]].concat().into(),
            // Often inverted.
            _ => self.key(),
        }
    }

    /// Keys of a range, and at times all.
    fn key_range(&mut self) -> (Bytes, Bytes) {
        if self.chance(10) {
            return (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
        }
        if self.chance(25) {
            let prefix = Bytes::from_static(PREFIXES.choose(&mut self.random).unwrap());
            let end = end_of_prefix(&prefix);
            return (prefix, end);
        }
        let key = self.key();
        let end = self.range_end(&key);
        (key, end)
    }

    pub(crate) fn value(&mut self) -> Bytes {
        match self.random.random_range(0..1000) {
            0..150 => Bytes::new(),
            // Values that are equal, for sorts.
            150..600 => vec![b'v', self.random.random_range(b'0'..b'4')].into(),
            600..990 => {
                let length = self.random.random_range(1..40);
                let bytes: Vec<u8> = (0..length).map(|_| self.random.random()).collect();
                bytes.into()
            }
            990..998 => vec![b'm'; self.random.random_range(200..3000)].into(),
            _ => vec![b'l'; self.random.random_range(10_000..100_000)].into(),
        }
    }

    /// A revision somewhere.
    pub(crate) fn revision(&mut self) -> i64 {
        let (current, compacted) = (self.revision, self.compacted);
        match self.random.random_range(0..100) {
            0..45 => 0,
            45..52 => current,
            52..55 => current + 1,
            55..57 => current + self.random.random_range(2..100),
            57..61 => compacted,
            61..64 => compacted - 1,
            64..66 => compacted + 1,
            66..70 => self.random.random_range(1..=current),
            70..72 => -self.random.random_range(1..100),
            72 => i64::MIN,
            73 => i64::MAX,
            // Most of all what can be read.
            74..87 => self.random.random_range(compacted.max(1)..=current),
            _ => (current - self.random.random_range(0..20)).max(compacted),
        }
    }

    /// A bound on revisions; mostly none.
    fn bound(&mut self) -> i64 {
        match self.random.random_range(0..100) {
            0..85 => 0,
            85..87 => -1,
            87 => i64::MAX,
            _ => (self.revision - self.random.random_range(0..200)).max(1),
        }
    }

    fn limit(&mut self) -> i64 {
        match self.random.random_range(0..100) {
            0..50 => 0,
            50..75 => self.random.random_range(1..5),
            75..94 => self.random.random_range(5..60),
            94..97 => -1,
            97 => i64::MIN,
            98 => i64::MAX,
            _ => i64::MAX - 1,
        }
    }

    fn sort_order(&mut self) -> i32 {
        match self.random.random_range(0..100) {
            0..45 => 0,
            45..70 => 1,
            70..98 => 2,
            98 => 3,
            _ => -1,
        }
    }

    fn sort_target(&mut self) -> i32 {
        match self.random.random_range(0..100) {
            0..40 => 0,
            40..98 => self.random.random_range(1..5),
            98 => 5,
            _ => i32::MIN,
        }
    }

    pub(crate) fn range(&mut self) -> RangeRequest {
        let (key, range_end) = self.key_range();
        let is_filtered = self.chance(25);
        let mut bound = || if is_filtered { self.bound() } else { 0 };
        let (min_mod_revision, max_mod_revision) = (bound(), bound());
        let (min_create_revision, max_create_revision) = (bound(), bound());
        let is_sorted = self.chance(45);
        RangeRequest {
            key,
            range_end,
            limit: self.limit(),
            revision: self.revision(),
            sort_order: if is_sorted { self.sort_order() } else { 0 },
            sort_target: if is_sorted { self.sort_target() } else { 0 },
            serializable: self.chance(30),
            keys_only: self.chance(20),
            count_only: self.chance(10),
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
        }
    }

    /// Mostly without what a stream refuses.
    fn range_stream(&mut self) -> RangeRequest {
        let request = self.range();
        if self.chance(20) {
            return request;
        }
        RangeRequest {
            sort_order: i32::from(self.chance(20)),
            sort_target: 0,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
            ..request
        }
    }

    pub(crate) fn put(&mut self) -> PutRequest {
        let (ignore_value, ignore_lease) = (self.chance(12), self.chance(12));
        let is_misuse = self.chance(10);
        PutRequest {
            key: self.key(),
            value: if ignore_value && !is_misuse {
                Bytes::new()
            } else {
                self.value()
            },
            lease: if self.chance(if ignore_lease && !is_misuse { 1 } else { 4 }) {
                *[1, -1, 77, i64::MAX].choose(&mut self.random).unwrap()
            } else {
                0
            },
            prev_kv: self.chance(40),
            ignore_value,
            ignore_lease,
        }
    }

    pub(crate) fn delete_range(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = if self.chance(70) {
            (self.key(), Bytes::new())
        } else {
            self.key_range()
        };
        DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.chance(50),
        }
    }

    fn compact(&mut self) -> CompactionRequest {
        let (current, compacted) = (self.revision, self.compacted);
        let revision = match self.random.random_range(0..100) {
            0..45 => (current - self.random.random_range(0..100)).max(compacted + 1),
            45..55 => current,
            55..65 => compacted + 1,
            65..75 => compacted,
            75..84 => compacted - 1,
            84 => 0,
            85..90 => -1,
            90..95 => current + 1,
            95..98 => i64::MAX,
            _ => i64::MIN,
        };
        CompactionRequest {
            revision,
            physical: self.chance(30),
        }
    }

    /// To ask for, to raise or to clear an alarm. Raising one of an unknown kind would end etcd.
    fn alarm(&mut self) -> AlarmRequest {
        let action = self.random.random_range(0..3);
        let kinds = if action == AlarmAction::Activate as i32 {
            i32::from(self.chance(80))..3
        } else {
            0..4
        };
        AlarmRequest {
            action,
            member_id: self.random.random_range(0..3),
            alarm: self.random.random_range(kinds),
        }
    }

    fn disarm(&mut self) -> AlarmRequest {
        let (member_id, alarm) = *self.alarms.first().unwrap();
        AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id,
            alarm,
        }
    }

    fn watch_of(&mut self, start_revision: i64) -> WatchCreateRequest {
        let (key, range_end) = if self.chance(40) {
            (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"))
        } else {
            self.key_range()
        };
        let filters = match self.random.random_range(0..10) {
            0 => vec![0],
            1 => vec![1],
            2 => vec![0, 1],
            3 => vec![0, 0, 7],
            _ => vec![],
        };
        WatchCreateRequest {
            key,
            range_end,
            start_revision,
            progress_notify: self.chance(20),
            filters,
            prev_kv: self.chance(50),
            watch_id: if self.chance(20) { 7 } else { 0 },
            fragment: self.chance(20),
        }
    }

    fn watch(&mut self) -> WatchCreateRequest {
        let start = if self.chance(60) {
            let oldest = self.compacted.max(1);
            self.random.random_range(oldest..=self.revision)
        } else {
            self.revision()
        };
        self.watch_of(start)
    }

    /// A watcher of any kind.
    pub(crate) fn watch_or_follow(&mut self) -> WatchCreateRequest {
        if self.chance(40) {
            self.watch()
        } else {
            self.follow()
        }
    }

    /// From now on, or from a revision that is yet to come.
    fn follow(&mut self) -> WatchCreateRequest {
        let start = match self.random.random_range(0..4) {
            0 => self.revision + self.random.random_range(1..20),
            _ => 0,
        };
        self.watch_of(start)
    }
}

/// The first key behind all that begin with `prefix`.
fn end_of_prefix(prefix: &[u8]) -> Bytes {
    let Some(last) = prefix.iter().rposition(|&byte| byte < 0xff) else {
        return Bytes::from_static(b"\0");
    };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}
