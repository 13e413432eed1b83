//! The second opinion: a search for an order of the operations on each register, after Wing, Gong and Lowe.
//!
//! It uses values and real time alone, no revision, so that a mistake in the replay is not made here again. A register is
//! used for some hundred operations only, which keeps the search small; where it is not, it gives up and says so.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Findings, describe};
use crate::cluster::history::{History, Operation, Outcome};
use crate::cluster::model::{Body, Condition, Done, Op, Step};

/// Steps of the search for one key.
const STEPS: u64 = 2_000_000;

/// A value of the register, by number; 0 where there is none.
type Value = u32;

#[derive(Clone, Copy, Debug)]
enum Action {
    Read(Value),
    Write(Value),
    /// Told that it had changed the register.
    Changed(Value, Value),
    /// Told that the register held something else.
    Kept(Value, Value),
    /// Not answered: changes the register if it holds the first.
    Maybe(Value, Value),
}

impl Action {
    /// What the register holds afterwards, if the action fits.
    fn step(self, state: Value) -> Option<Value> {
        match self {
            Action::Read(value) => (state == value).then_some(state),
            Action::Write(value) => Some(value),
            Action::Changed(from, to) => (state == from).then_some(to),
            Action::Kept(from, found) => (state == found && state != from).then_some(state),
            Action::Maybe(from, to) => Some(if state == from { to } else { state }),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Interval {
    begin: u64,
    /// Never, if it was not answered: it may still take effect.
    end: u64,
    action: Action,
    place: usize,
}

/// How the search went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Search {
    pub(super) registers: u64,
    pub(super) operations: u64,
    pub(super) given_up: u64,
}

pub(super) fn check(history: &History, findings: &mut Findings) -> Search {
    let mut by_key: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, operation) in history.operations.iter().enumerate() {
        if let Some(key) = register(&operation.op)
            && operation.outcome != Outcome::Definite
        {
            by_key.entry(key).or_default().push(place);
        }
    }
    let mut search = Search::default();
    for (key, places) in by_key {
        let intervals = intervals(&history.operations, &places);
        search.registers += 1;
        search.operations += intervals.len() as u64;
        match order(&intervals) {
            Found::Order => {}
            Found::None(deepest) => {
                let stuck: Vec<String> = deepest
                    .iter()
                    .take(6)
                    .map(|&at| describe(&history.operations[intervals[at].place]))
                    .collect();
                let text = format!("{key} has no order; stuck before: {}", stuck.join("; "));
                findings.add("register", text);
            }
            Found::GivenUp => search.given_up += 1,
        }
    }
    search
}

/// The register that an operation is on.
fn register(op: &Op) -> Option<&str> {
    let key = match op {
        Op::Put { key, .. }
        | Op::Get {
            key,
            serializable: false,
        } => key,
        Op::Txn { when, .. } => match when.as_slice() {
            [Condition::Value(key, _)] => key,
            _ => return None,
        },
        _ => return None,
    };
    key.starts_with("register/").then_some(key)
}

fn intervals(operations: &[Operation], places: &[usize]) -> Vec<Interval> {
    let mut numbers: HashMap<String, Value> = HashMap::new();
    let mut number = |value: &str| {
        let next = Value::try_from(numbers.len() + 1).unwrap_or(Value::MAX);
        *numbers.entry(value.to_owned()).or_insert(next)
    };
    let mut found = Vec::new();
    for &place in places {
        let operation = &operations[place];
        let is_answered = operation.outcome == Outcome::Ok;
        let action = match (&operation.op, &operation.body) {
            (Op::Put { value, .. }, _) => Action::Write(number(value)),
            (Op::Get { .. }, Some(Body::Read { kvs, .. })) => {
                Action::Read(kvs.first().map_or(0, |kv| number(&kv.value)))
            }
            (Op::Txn { when, then, .. }, body) => {
                let [Condition::Value(_, from)] = when.as_slice() else {
                    continue;
                };
                let [Step::Put(_, to)] = then.as_slice() else {
                    continue;
                };
                let (from, to) = (number(from), number(to));
                match body {
                    None => Action::Maybe(from, to),
                    Some(Body::Txn {
                        succeeded: true, ..
                    }) => Action::Changed(from, to),
                    Some(Body::Txn { steps, .. }) => match steps.as_slice() {
                        [Done::Get(Some(kv))] => Action::Kept(from, number(&kv.value)),
                        _ => Action::Kept(from, 0),
                    },
                    Some(_) => continue,
                }
            }
            // A read without an answer says nothing.
            _ => continue,
        };
        found.push(Interval {
            begin: operation.invoke,
            end: if is_answered {
                operation.returned
            } else {
                u64::MAX
            },
            action,
            place,
        });
    }
    // What was not answered and whose value nobody met can as well come last, and so be left out.
    let met: HashSet<Value> = found
        .iter()
        .flat_map(|interval| match interval.action {
            Action::Read(value) => [value, 0],
            Action::Write(_) => [0, 0],
            Action::Changed(from, _) | Action::Maybe(from, _) => [from, 0],
            Action::Kept(from, value) => [from, value],
        })
        .collect();
    found.retain(|interval| match interval.action {
        Action::Write(value) | Action::Maybe(_, value) => {
            interval.end != u64::MAX || met.contains(&value)
        }
        _ => true,
    });
    found.sort_by_key(|interval| interval.begin);
    found
}

enum Found {
    Order,
    /// With those that could not come next where the search got furthest.
    None(Vec<usize>),
    GivenUp,
}

/// A set of intervals, by number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Set(Vec<u64>);

impl Set {
    fn contains(&self, place: usize) -> bool {
        self.0[place / 64] >> (place % 64) & 1 == 1
    }

    fn flip(&mut self, place: usize) {
        self.0[place / 64] ^= 1 << (place % 64);
    }
}

/// Depth first: the next in order is one that began before the first end among those that are left. What has been tried,
/// as a set with the state after it, is not tried again.
fn order(intervals: &[Interval]) -> Found {
    let mut done = Set(vec![0; intervals.len().div_ceil(64)]);
    let mut tried: HashSet<(Set, Value)> = HashSet::new();
    // What was chosen, the state before it, and where to go on if it was wrong.
    let mut chosen: Vec<(usize, Value)> = Vec::new();
    let (mut state, mut from) = (0, 0);
    let mut deepest = (0, Vec::new());
    for _ in 0..STEPS {
        let left: Vec<usize> = (0..intervals.len())
            .filter(|&at| !done.contains(at))
            .collect();
        let Some(first_end) = left.iter().map(|&at| intervals[at].end).min() else {
            return Found::Order;
        };
        // Those without an answer need not come at all.
        if first_end == u64::MAX {
            return Found::Order;
        }
        let candidates = left
            .into_iter()
            .take_while(|&at| intervals[at].begin <= first_end);
        let mut next = None;
        for at in candidates.clone().skip_while(|&at| at < from) {
            if let Some(after) = intervals[at].action.step(state) {
                done.flip(at);
                if tried.insert((done.clone(), after)) {
                    next = Some((at, after));
                    break;
                }
                done.flip(at);
            }
        }
        if let Some((at, after)) = next {
            chosen.push((at, state));
            (state, from) = (after, 0);
            continue;
        }
        if chosen.len() >= deepest.0 {
            deepest = (chosen.len(), candidates.collect());
        }
        let Some((at, before)) = chosen.pop() else {
            return Found::None(deepest.1);
        };
        done.flip(at);
        (state, from) = (before, at + 1);
    }
    Found::GivenUp
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(begin: u64, end: u64, action: Action) -> Interval {
        Interval {
            begin,
            end,
            action,
            place: 0,
        }
    }

    fn has_order(intervals: &[Interval]) -> bool {
        matches!(order(intervals), Found::Order)
    }

    #[test]
    fn concurrent_writes_may_come_in_any_order() {
        let read = |begin, value| interval(begin, begin + 1, Action::Read(value));
        let writes = [
            interval(0, 10, Action::Write(1)),
            interval(1, 10, Action::Write(2)),
        ];
        assert!(has_order(&[writes[0], writes[1], read(11, 1)]));
        assert!(has_order(&[writes[0], writes[1], read(11, 2)]));
        assert!(!has_order(&[
            writes[0],
            writes[1],
            read(11, 1),
            read(13, 2)
        ]));
    }

    #[test]
    fn a_stale_read_has_no_order() {
        let history = [
            interval(0, 1, Action::Write(1)),
            interval(2, 3, Action::Write(2)),
            interval(4, 5, Action::Read(1)),
        ];
        assert!(!has_order(&history));
    }

    #[test]
    fn a_write_without_an_answer_may_come_late_or_never() {
        let write = interval(0, u64::MAX, Action::Write(1));
        let read = |begin, value| interval(begin, begin + 1, Action::Read(value));
        assert!(has_order(&[write, read(5, 0), read(7, 1)]));
        assert!(has_order(&[write, read(5, 0), read(7, 0)]));
        assert!(!has_order(&[write, read(5, 1), read(7, 0)]));
    }

    #[test]
    fn two_changes_from_one_value_have_no_order() {
        let history = [
            interval(0, 1, Action::Write(1)),
            interval(2, 9, Action::Changed(1, 2)),
            interval(3, 9, Action::Changed(1, 3)),
        ];
        assert!(!has_order(&history));
        assert!(has_order(&history[..2]));
    }
}
