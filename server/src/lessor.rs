//! When leases end: the deadlines that the leader keeps, and what is due. Time comes in as a number.
//!
//! Only the leader has deadlines, and only while it leads: nobody else may say that a lease is over, or goes on. A new
//! leader gives each lease what was left of it at its last checkpoint, or all of its time, and an election timeout more:
//! as long as nobody led, nobody could keep one alive. What it then decides is carried out by commands that name its
//! term; of another term they do nothing.
//!
//! While the end of a lease is on its way through the log, the lease is neither kept alive nor over: whoever asks waits.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use store::Leases;
use store::leases::{LeaseChange, Term};

/// Leases that live longer than this have checkpoints, this far apart.
pub(crate) const CHECKPOINT: Duration = Duration::from_secs(300);

/// After this, the end of a lease that had no effect is told again.
const AGAIN: Duration = Duration::from_secs(3);

/// What became of the wish to keep a lease alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// It has all its seconds again. Whether that must be noted in the log first, since a checkpoint may say less.
    Renewed { ttl: i64, is_noted: bool },
    /// There is no such lease, as far as is applied.
    Unknown,
    /// It may be over; to be asked again soon.
    Ending,
    /// This member keeps no deadlines.
    NotLeading,
}

/// The deadlines, while this member leads.
pub(crate) struct Lessor {
    /// How much longer all leases of a new leader live.
    grace: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    leading: Option<Leading>,
    /// The term in which this member kept deadlines last, and what was ending then.
    left: (u64, Vec<i64>),
}

struct Leading {
    term: u64,
    held: HashMap<i64, Held>,
    /// Each lease once, at its deadline or before: a renewal does not look for it here.
    due: BinaryHeap<Reverse<(Duration, i64)>>,
    /// The same of checkpoints, of leases that live long.
    checkpoints: BinaryHeap<Reverse<(Duration, i64)>>,
}

struct Held {
    ttl: i64,
    deadline: Duration,
    /// Its end is on its way through the log.
    is_ending: bool,
    /// The log says, or is about to say, that less is left than its whole time.
    is_noted: bool,
}

impl Leading {
    fn hold(&mut self, id: i64, term: Term, deadline: Duration, now: Duration) {
        let held = Held {
            ttl: term.ttl,
            deadline,
            is_ending: false,
            is_noted: term.remaining > 0,
        };
        self.held.insert(id, held);
        self.due.push(Reverse((deadline, id)));
        if seconds(term.ttl) > CHECKPOINT {
            self.checkpoints.push(Reverse((now + CHECKPOINT, id)));
        }
    }
}

fn seconds(number: i64) -> Duration {
    Duration::from_secs(number.max(0).unsigned_abs())
}

impl Lessor {
    /// No lease ends before the member leads.
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            state: Mutex::default(),
        }
    }

    /// Begins to keep deadlines when this member leads in a term and has applied an entry of it, and with that all that
    /// leaders before it have decided; ends when it does not lead any more.
    pub(crate) fn follow(&self, leads_in: Option<u64>, leases: &Leases, now: Duration) {
        let mut state = self.state.lock();
        if state.leading.as_ref().map(|leading| leading.term) == leads_in {
            return;
        }
        if let Some(old) = state.leading.take() {
            let ending = old.held.into_iter().filter(|(_, held)| held.is_ending);
            state.left = (old.term, ending.map(|(id, _)| id).collect());
        }
        let Some(term) = leads_in else {
            return;
        };
        let all = leases.all();
        let mut new = Leading {
            term,
            held: HashMap::with_capacity(all.len()),
            due: BinaryHeap::with_capacity(all.len()),
            checkpoints: BinaryHeap::new(),
        };
        for (id, term) in all {
            new.hold(id, term, now + seconds(term.left()) + self.grace, now);
        }
        let (before, ending) = std::mem::take(&mut state.left);
        // Of the same term, what was told may be applied yet.
        for id in ending.into_iter().filter(|_| before == term) {
            if let Some(held) = new.held.get_mut(&id) {
                held.is_ending = true;
                held.deadline = now;
                new.due.push(Reverse((now, id)));
            }
        }
        state.leading = Some(new);
    }

    /// The term in which this member keeps deadlines.
    pub(crate) fn term(&self) -> Option<u64> {
        self.state
            .lock()
            .leading
            .as_ref()
            .map(|leading| leading.term)
    }

    /// Hears what was applied.
    pub(crate) fn changed(&self, changes: &[LeaseChange], now: Duration) {
        let mut state = self.state.lock();
        let Some(leading) = &mut state.leading else {
            return;
        };
        for change in changes {
            match *change {
                LeaseChange::Granted { id, term } => {
                    leading.hold(id, term, now + seconds(term.ttl), now)
                }
                LeaseChange::Ended { id } => drop(leading.held.remove(&id)),
                LeaseChange::Noted { id, term } => {
                    if let Some(held) = leading.held.get_mut(&id) {
                        held.is_noted = term.remaining > 0;
                    }
                }
            }
        }
        // Of leases that ended early something is left in the heaps; not more than is alive.
        let limit = 1024 + 2 * leading.held.len();
        let held = &leading.held;
        for heap in [&mut leading.due, &mut leading.checkpoints] {
            if heap.len() > limit {
                heap.retain(|Reverse((_, id))| held.contains_key(id));
            }
        }
    }

    /// Gives a lease all its time again.
    pub(crate) fn renew(&self, id: i64, now: Duration) -> Renewal {
        let mut state = self.state.lock();
        let Some(leading) = &mut state.leading else {
            return Renewal::NotLeading;
        };
        match leading.held.get_mut(&id) {
            None => Renewal::Unknown,
            Some(held) if held.is_ending => Renewal::Ending,
            Some(held) => {
                held.deadline = held.deadline.max(now + seconds(held.ttl));
                Renewal::Renewed {
                    ttl: held.ttl,
                    is_noted: held.is_noted,
                }
            }
        }
    }

    /// What is left of a lease; none if nothing is known of it.
    pub(crate) fn left(&self, id: i64, now: Duration) -> Option<Duration> {
        let state = self.state.lock();
        let held = state.leading.as_ref()?.held.get(&id)?;
        Some(held.deadline.saturating_sub(now))
    }

    /// The ids of leases, soonest over first; none if this member keeps no deadlines.
    pub(crate) fn by_deadline(&self) -> Option<Vec<i64>> {
        let state = self.state.lock();
        let held = state.leading.as_ref()?.held.iter();
        let mut all: Vec<_> = held.map(|(&id, held)| (held.deadline, id)).collect();
        drop(state);
        all.sort_unstable();
        Some(all.into_iter().map(|(_, id)| id).collect())
    }

    /// Leases that are over now, at most so many, and the term to say so in. They are ending from now on.
    pub(crate) fn over(&self, now: Duration, limit: usize) -> Option<(u64, Vec<i64>)> {
        let mut state = self.state.lock();
        let leading = state.leading.as_mut()?;
        let mut over = Vec::new();
        while over.len() < limit
            && let Some(&Reverse((at, id))) = leading.due.peek()
            && at <= now
        {
            leading.due.pop();
            let Some(held) = leading.held.get_mut(&id) else {
                continue;
            };
            if held.deadline > now {
                // It was kept alive.
                leading.due.push(Reverse((held.deadline, id)));
                continue;
            }
            held.is_ending = true;
            over.push(id);
            leading.due.push(Reverse((now + AGAIN, id)));
        }
        Some((leading.term, over))
    }

    /// What is to be noted of leases, at most of so many: the seconds that are left; and the term to say so in.
    pub(crate) fn checkpoints(
        &self,
        now: Duration,
        limit: usize,
    ) -> Option<(u64, Vec<(i64, i64)>)> {
        let mut state = self.state.lock();
        let leading = state.leading.as_mut()?;
        let mut noted = Vec::new();
        while noted.len() < limit
            && let Some(&Reverse((at, id))) = leading.checkpoints.peek()
            && at <= now
        {
            leading.checkpoints.pop();
            let Some(held) = leading.held.get_mut(&id) else {
                continue;
            };
            leading.checkpoints.push(Reverse((now + CHECKPOINT, id)));
            let left = held.deadline.saturating_sub(now);
            // Rounded up: nobody loses anything.
            let left = i64::try_from(left.as_secs())
                .unwrap_or(i64::MAX)
                .saturating_add(1);
            if !held.is_ending && left < held.ttl {
                held.is_noted = true;
                noted.push((id, left));
            }
        }
        Some((leading.term, noted))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost::Message as _;
    use proto::command::command::Op;
    use proto::command::{Batch, Command};
    use proto::etcd::etcdserverpb::LeaseGrantRequest;
    use store::engine::memory::MemoryEngine;
    use store::{BATCH_FORMAT, Entry, FEATURE_LEVEL, LogId, Machine, Options, Payload};

    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn granted(id: i64, ttl: i64) -> LeaseChange {
        let term = Term { ttl, remaining: 0 };
        LeaseChange::Granted { id, term }
    }

    fn leading(leases: &[(i64, i64)]) -> Lessor {
        let lessor = Lessor::new(at(1));
        lessor.follow(Some(7), &Leases::default(), at(0));
        let changes: Vec<_> = leases.iter().map(|&(id, ttl)| granted(id, ttl)).collect();
        lessor.changed(&changes, at(0));
        lessor
    }

    /// Leases of a store.
    fn leased(leases: &[(i64, i64)]) -> Leases {
        let grants = leases.iter().map(|&(id, ttl)| Command {
            op: Some(Op::LeaseGrant(LeaseGrantRequest { ttl, id })),
            ..Command::default()
        });
        let batch = Batch {
            format: BATCH_FORMAT,
            feature_level: FEATURE_LEVEL,
            commands: grants.collect(),
            ..Batch::default()
        };
        let entry = Entry {
            id: LogId { term: 1, index: 1 },
            payload: Payload::Commands(batch.encode_to_vec().into()),
        };
        let engine = Arc::new(MemoryEngine::new());
        let mut machine = Machine::open(engine, Options::default()).unwrap();
        machine.apply(&[entry]).unwrap();
        machine.reader().leases().clone()
    }

    fn renewed(ttl: i64) -> Renewal {
        let is_noted = false;
        Renewal::Renewed { ttl, is_noted }
    }

    fn over(lessor: &Lessor, now: u64) -> Vec<i64> {
        let (term, over) = lessor.over(at(now), 100).unwrap();
        assert_eq!(term, 7);
        over
    }

    #[test]
    fn a_lease_is_over_when_its_time_is_up_and_nobody_kept_it_alive() {
        let lessor = leading(&[(1, 10), (2, 10)]);
        assert_eq!(lessor.renew(2, at(6)), renewed(10));
        assert!(over(&lessor, 9).is_empty());
        assert_eq!(over(&lessor, 10), [1]);
        assert_eq!(over(&lessor, 15), [1], "nothing came of it: told again");
        lessor.changed(&[LeaseChange::Ended { id: 1 }], at(15));
        assert_eq!(lessor.renew(1, at(15)), Renewal::Unknown);
        assert_eq!(over(&lessor, 16), [2]);
    }

    #[test]
    fn what_is_ending_is_not_kept_alive() {
        let lessor = leading(&[(1, 10)]);
        assert_eq!(over(&lessor, 11), [1]);
        assert_eq!(lessor.renew(1, at(11)), Renewal::Ending);
        assert_eq!(lessor.left(1, at(11)), Some(Duration::ZERO));
    }

    #[test]
    fn who_does_not_lead_ends_nothing_and_keeps_nothing_alive() {
        let lessor = leading(&[(1, 10)]);
        lessor.follow(None, &Leases::default(), at(20));
        assert_eq!(lessor.over(at(30), 100), None);
        assert_eq!(lessor.checkpoints(at(30), 100), None);
        assert_eq!(lessor.renew(1, at(30)), Renewal::NotLeading);
    }

    #[test]
    fn who_leads_on_in_the_same_term_does_not_forget_what_is_ending() {
        let lessor = leading(&[]);
        let leases = leased(&[(1, 10), (2, 10)]);
        lessor.follow(None, &leases, at(0));
        lessor.follow(Some(7), &leases, at(0));
        lessor.renew(2, at(5));
        assert_eq!(over(&lessor, 11), [1]);
        lessor.follow(None, &leases, at(11));
        lessor.follow(Some(7), &leases, at(12));
        assert_eq!(lessor.renew(1, at(12)), Renewal::Ending);
        assert_eq!(lessor.renew(2, at(12)), renewed(10));
        lessor.follow(Some(8), &leases, at(13));
        assert_eq!(lessor.renew(1, at(13)), renewed(10), "void in another term");
    }

    #[test]
    fn at_most_so_many_end_at_a_time() {
        let leases: Vec<_> = (1..=10).map(|id| (id, 5)).collect();
        let lessor = leading(&leases);
        assert_eq!(lessor.over(at(6), 4).unwrap().1, [1, 2, 3, 4]);
        assert_eq!(lessor.over(at(6), 100).unwrap().1, [5, 6, 7, 8, 9, 10]);
        assert!(lessor.over(at(6), 100).unwrap().1.is_empty());
    }

    #[test]
    fn long_leases_have_checkpoints_and_a_renewal_takes_them_back() {
        let lessor = leading(&[(1, 1_000), (2, 300)]);
        assert!(lessor.checkpoints(at(299), 9).unwrap().1.is_empty());
        assert_eq!(lessor.checkpoints(at(400), 9).unwrap().1, [(1, 601)]);
        let is_noted = true;
        // From the moment on when it is on its way.
        let ttl = 1_000;
        assert_eq!(lessor.renew(1, at(401)), Renewal::Renewed { ttl, is_noted });
        let term = Term { ttl, remaining: 0 };
        lessor.changed(&[LeaseChange::Noted { id: 1, term }], at(402));
        assert_eq!(lessor.renew(1, at(403)), renewed(1_000));
        assert_eq!(lessor.checkpoints(at(700), 9).unwrap().1, [(1, 704)]);
    }

    #[test]
    fn the_soonest_over_comes_first() {
        let lessor = leading(&[(1, 30), (2, 10), (3, 20)]);
        assert_eq!(lessor.by_deadline(), Some(vec![2, 3, 1]));
        lessor.renew(2, at(25));
        assert_eq!(lessor.by_deadline(), Some(vec![3, 1, 2]));
    }

    #[test]
    fn leases_that_end_early_leave_nothing_behind() {
        let lessor = leading(&[]);
        for id in 0..10_000 {
            lessor.changed(&[granted(id, 1_000)], at(0));
            lessor.changed(&[LeaseChange::Ended { id }], at(0));
        }
        let state = lessor.state.lock();
        let leading = state.leading.as_ref().unwrap();
        assert!(leading.due.len() <= 1025 && leading.checkpoints.len() <= 1025);
    }
}
