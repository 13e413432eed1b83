//! Compaction without being asked: which revision to compact to, and when, by etcd's rules. The leader does it.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proto::command::command::Op;
use proto::etcd::etcdserverpb::CompactionRequest;
use store::Refusal;

use crate::exec::Clock;
use crate::node::{Call, CallError, Node};

const HOUR: Duration = Duration::from_secs(3600);
/// Looks at the revision in one interval between compactions.
const LOOKS: u32 = 10;
/// How often history is cut to a number of revisions.
const REVISIONS_INTERVAL: Duration = Duration::from_secs(300);
/// How long one compaction may take to be agreed on.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Of the last hours, or less.
    Time(Duration),
    /// So many revisions.
    Revisions(i64),
}

/// Says when to look, and what to compact to then.
pub(crate) struct Schedule {
    mode: Mode,
    next: Duration,
    /// The revision of the last compaction.
    done: i64,
}

enum Mode {
    Periodic(Periodic),
    Revisions(i64),
}

struct Periodic {
    /// How old what is given up is at least.
    period: Duration,
    /// Between two compactions; an hour at most.
    interval: Duration,
    /// Since the last compaction at least so much time must have passed: the whole period before the first one.
    wanted: Duration,
    last: Duration,
    /// The revisions seen at the last looks, back to a period ago.
    seen: VecDeque<i64>,
}

impl Schedule {
    /// A schedule that begins now.
    pub(crate) fn new(retention: Retention, now: Duration, revision: i64) -> Self {
        let (mode, step) = match retention {
            Retention::Time(period) => {
                let interval = period.min(HOUR);
                let periodic = Periodic {
                    period,
                    interval,
                    wanted: period,
                    last: now,
                    seen: [revision].into(),
                };
                (Mode::Periodic(periodic), interval / LOOKS)
            }
            Retention::Revisions(kept) => (Mode::Revisions(kept), REVISIONS_INTERVAL),
        };
        Self {
            mode,
            next: now + step,
            done: 0,
        }
    }

    /// When to look next.
    pub(crate) fn next(&self) -> Duration {
        self.next
    }

    /// A look at the newest revision; answers what to compact to now.
    pub(crate) fn look(&mut self, now: Duration, revision: i64, is_leader: bool) -> Option<i64> {
        let due = match &mut self.mode {
            Mode::Periodic(periodic) => {
                self.next = now + periodic.interval / LOOKS;
                periodic.look(now, revision, is_leader)
            }
            Mode::Revisions(kept) => {
                self.next = now + REVISIONS_INTERVAL;
                Some(revision - *kept).filter(|&due| is_leader && due > 0)
            }
        };
        due.filter(|&due| due != self.done)
    }

    /// A compaction was carried out.
    pub(crate) fn compacted(&mut self, now: Duration, revision: i64) {
        self.done = revision;
        if let Mode::Periodic(periodic) = &mut self.mode {
            periodic.last = now;
            periodic.wanted = periodic.interval;
        }
    }
}

impl Periodic {
    fn look(&mut self, now: Duration, revision: i64, is_leader: bool) -> Option<i64> {
        let is_due = is_leader && now.saturating_sub(self.last) >= self.wanted;
        let oldest = self.seen.front().copied();
        self.seen.push_back(revision);
        let step = (self.interval / LOOKS).max(Duration::from_nanos(1));
        let most = self.period.as_nanos() / step.as_nanos() + 1;
        while self.seen.len() as u128 > most {
            self.seen.pop_front();
        }
        oldest.filter(|_| is_due)
    }
}

/// Follows a schedule for as long as the node lives.
pub(crate) async fn run<S, F>(node: Node, clock: Arc<dyn Clock>, retention: Retention, sleep: S)
where
    S: Fn(Duration) -> F,
    F: Future<Output = ()>,
{
    let revision = || node.reader().view().revision;
    let mut schedule = Schedule::new(retention, clock.now(), revision());
    loop {
        sleep(schedule.next().saturating_sub(clock.now())).await;
        let is_leader = node.status().is_leader;
        let Some(due) = schedule.look(clock.now(), revision(), is_leader) else {
            continue;
        };
        let request = CompactionRequest {
            revision: due,
            physical: false,
        };
        match node
            .propose(&Call::new(TIMEOUT), Op::Compact(request))
            .await
        {
            Ok(_) | Err(CallError::Refused(Refusal::Compacted { .. })) => {
                tracing::info!(
                    revision = due,
                    "compacted the history that is not to be kept"
                );
                schedule.compacted(clock.now(), due);
            }
            Err(CallError::Stopped) => return,
            Err(error) => {
                tracing::warn!(%error, revision = due, "automatic compaction failed; it is tried again later");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Follows a schedule over some time; the revision counts the seconds. Answers when what was compacted.
    fn follow(
        retention: Retention,
        time: Duration,
        is_leader: impl Fn(Duration) -> bool,
        succeeds: impl Fn(Duration) -> bool,
    ) -> Vec<(u64, i64)> {
        let revision = |now: Duration| i64::try_from(now.as_secs()).unwrap();
        let mut schedule = Schedule::new(retention, Duration::ZERO, 0);
        let mut compacted = Vec::new();
        while schedule.next() <= time {
            let now = schedule.next();
            if let Some(due) = schedule.look(now, revision(now), is_leader(now))
                && succeeds(now)
            {
                schedule.compacted(now, due);
                compacted.push((now.as_secs(), due));
            }
        }
        compacted
    }

    fn always(_: Duration) -> bool {
        true
    }

    fn minutes(compacted: &[(u64, i64)]) -> Vec<(u64, i64)> {
        let exact = |&(at, revision): &(u64, i64)| {
            assert_eq!((at % 60, revision % 60), (0, 0));
            (at / 60, revision / 60)
        };
        compacted.iter().map(exact).collect()
    }

    #[test]
    fn less_than_an_hour_is_compacted_after_each_such_time() {
        let retention = Retention::Time(10 * MINUTE);
        // What is compacted first is what was seen at the start, which is nothing.
        let compacted = follow(retention, 45 * MINUTE, always, always);
        assert_eq!(minutes(&compacted), [(12, 1), (22, 11), (32, 21), (42, 31)]);
    }

    #[test]
    fn an_hour_or_more_is_compacted_hourly_to_what_was_seen_so_long_ago() {
        let compacted = follow(Retention::Time(HOUR), 4 * HOUR, always, always);
        assert_eq!(minutes(&compacted), [(72, 6), (132, 66), (192, 126)]);
        let compacted = follow(Retention::Time(3 * HOUR), 6 * HOUR, always, always);
        assert_eq!(minutes(&compacted), [(192, 6), (252, 66), (312, 126)]);
    }

    #[test]
    fn a_failure_is_followed_by_another_try_at_the_next_look() {
        let fails = |now: Duration| now >= 15 * MINUTE;
        let compacted = follow(Retention::Time(10 * MINUTE), 30 * MINUTE, always, fails);
        assert_eq!(minutes(&compacted), [(15, 4), (25, 14)]);
    }

    #[test]
    fn who_does_not_lead_looks_and_does_nothing() {
        let leads = |now: Duration| now >= 30 * MINUTE;
        let compacted = follow(Retention::Time(10 * MINUTE), 41 * MINUTE, leads, always);
        assert_eq!(minutes(&compacted), [(30, 19), (40, 29)]);
        assert!(follow(Retention::Revisions(1), HOUR, |_| false, always).is_empty());
    }

    #[test]
    fn a_number_of_revisions_is_kept_every_five_minutes() {
        let compacted = follow(Retention::Revisions(500), 16 * MINUTE, always, always);
        assert_eq!(compacted, [(600, 100), (900, 400)]);
    }

    #[test]
    fn nothing_new_is_not_compacted_again() {
        let mut schedule = Schedule::new(Retention::Revisions(5), Duration::ZERO, 9);
        assert_eq!(schedule.look(schedule.next(), 9, true), Some(4));
        schedule.compacted(schedule.next(), 4);
        assert_eq!(schedule.look(schedule.next(), 9, true), None);
        let mut schedule = Schedule::new(Retention::Time(MINUTE), Duration::ZERO, 7);
        let mut compacted = Vec::new();
        for _ in 0..50 {
            let now = schedule.next();
            if let Some(due) = schedule.look(now, 7, true) {
                schedule.compacted(now, due);
                compacted.push(due);
            }
        }
        assert_eq!(compacted, [7]);
    }
}
