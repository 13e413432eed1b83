//! The replay: every revision is one operation's whole effect, and every answer is what the replay gives at its revision.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::order::Floors;
use super::{Findings, describe, invariant};
use crate::cluster::history::{History, Operation, Outcome};
use crate::cluster::model::{Body, Change, Done, Op, State};
use crate::cluster::node::name;

/// What the replay found out about each operation.
pub(super) struct Replay {
    /// The revision that an operation made, by its place, if it made one.
    pub(super) effects: Vec<Option<i64>>,
    /// When the last of the operations up to a revision began; the first entry is of revision 1.
    causes: Vec<u64>,
    /// The revision at which a lease that had keys ended.
    pub(super) ends: BTreeMap<i64, i64>,
    /// What was attached to each lease, from which revision on.
    attached: BTreeMap<i64, Vec<(i64, BTreeSet<String>)>>,
}

impl Replay {
    /// What was attached to a lease at a revision.
    pub(super) fn attached(&self, lease: i64, revision: i64) -> Option<&BTreeSet<String>> {
        let sets = self.attached.get(&lease)?;
        let next = sets.partition_point(|(from, _)| *from <= revision);
        Some(&sets[next.checked_sub(1)?].1)
    }

    /// Whether just these keys were attached to a lease at one of some revisions.
    pub(super) fn was_attached(
        &self,
        lease: i64,
        from: i64,
        until: i64,
        keys: &BTreeSet<&str>,
    ) -> bool {
        let is_it =
            |set: &BTreeSet<String>| set.iter().map(String::as_str).eq(keys.iter().copied());
        let at_first = match self.attached(lease, from) {
            Some(set) => is_it(set),
            None => keys.is_empty(),
        };
        let later = self.attached.get(&lease).into_iter().flatten();
        at_first
            || later
                .filter(|(since, _)| *since > from && *since <= until)
                .any(|(_, set)| is_it(set))
    }

    /// The newest revision that can have existed at a time.
    pub(super) fn newest(&self, time: u64) -> i64 {
        i64::try_from(self.causes.partition_point(|cause| *cause <= time)).unwrap_or(i64::MAX)
    }

    /// Notes what a revision changed about leases.
    fn follow(&mut self, state: &State, changes: &[Change], revision: i64) {
        for change in changes {
            let before = state.get(&change.key).map_or(0, |kv| kv.lease);
            let after = change.after.as_ref().map_or(0, |kv| kv.lease);
            if before == after {
                continue;
            }
            for (lease, is_in) in [(before, false), (after, true)] {
                if lease == 0 {
                    continue;
                }
                let sets = self.attached.entry(lease).or_default();
                let mut set = sets.last().map(|(_, set)| set.clone()).unwrap_or_default();
                match is_in {
                    true => set.insert(change.key.clone()),
                    false => set.remove(&change.key),
                };
                // Within a revision only its end counts.
                sets.retain(|(since, _)| *since != revision);
                sets.push((revision, set));
            }
        }
    }

    /// No state of that revision could exist earlier.
    pub(super) fn cause(&self, revision: i64) -> u64 {
        let Some(last) = self.causes.len().checked_sub(1) else {
            return 0;
        };
        let place = usize::try_from(revision - 1).unwrap_or(0).min(last);
        self.causes[place]
    }
}

/// Whether an answered operation changed something, by its own answer.
fn says_changed(operation: &Operation) -> bool {
    match &operation.body {
        Some(Body::Put { .. }) => true,
        Some(Body::Delete { deleted, .. }) => *deleted > 0,
        Some(Body::Txn { steps, .. }) => steps
            .iter()
            .any(|step| matches!(step, Done::Put | Done::Delete(1..))),
        // A revocation is not told the revision that it made.
        Some(_) | None => false,
    }
}

struct Operations<'a> {
    all: &'a [Operation],
    floors: &'a Floors,
    /// By the values that they write.
    by_value: HashMap<&'a str, usize>,
    /// Those that were told that they had made a revision.
    acknowledged: HashMap<i64, usize>,
    /// Those that were told that they had changed nothing, by revision; in falling order, to be taken from the end.
    unchanged: Vec<(i64, usize)>,
    /// Deletions without an answer, by key.
    open_deletions: HashMap<&'a str, Vec<usize>>,
    /// Revocations that may have been carried out, by lease.
    revocations: HashMap<i64, Vec<usize>>,
    effects: Vec<Option<i64>>,
}

impl<'a> Operations<'a> {
    fn new(history: &'a History, floors: &'a Floors, findings: &mut Findings) -> Operations<'a> {
        let all = &history.operations;
        let mut found = Operations {
            all,
            floors,
            by_value: HashMap::new(),
            acknowledged: HashMap::new(),
            unchanged: Vec::new(),
            open_deletions: HashMap::new(),
            revocations: HashMap::new(),
            effects: vec![None; all.len()],
        };
        for (place, operation) in all.iter().enumerate() {
            for value in operation.op.values() {
                found.by_value.insert(value, place);
            }
            if let Op::Revoke { lease } = operation.op {
                if operation.outcome != Outcome::Definite {
                    found.revocations.entry(lease).or_default().push(place);
                }
                continue;
            }
            match operation.outcome {
                Outcome::Ok if says_changed(operation) => {
                    let other = found.acknowledged.insert(operation.revision, place);
                    if let Some(other) = other {
                        findings.add(
                            "write",
                            format!(
                                "revision {} was given to two writes: {}; {}",
                                operation.revision,
                                describe(&all[other]),
                                describe(operation)
                            ),
                        );
                    }
                }
                Outcome::Ok => found.unchanged.push((operation.revision, place)),
                Outcome::Indefinite => {
                    if let Op::Delete { key, .. } = &operation.op {
                        found.open_deletions.entry(key).or_default().push(place);
                    }
                }
                Outcome::Definite => {}
            }
        }
        found.unchanged.sort_unstable_by(|a, b| b.cmp(a));
        found
    }

    /// Who made that revision.
    fn author(&mut self, state: &State, revision: i64, changes: &[Change]) -> Author {
        let value = changes.iter().find_map(|change| change.after.as_ref());
        let client = |place: Option<usize>| place.map_or(Author::Nobody, Author::Client);
        if let Some(kv) = value {
            return client(self.by_value.get(kv.value.as_str()).copied());
        }
        if let Some(&place) = self.acknowledged.get(&revision) {
            return Author::Client(place);
        }
        if let Some(lease) = lease_of(state, changes) {
            return Author::Lease(lease, self.revocation(lease, revision));
        }
        client(self.deletion(revision, changes))
    }

    /// A revocation of that lease that can have made that revision.
    fn revocation(&self, lease: i64, revision: i64) -> Option<usize> {
        let asked = self.revocations.get(&lease)?;
        let fits = asked.iter().find(|&&place| {
            let operation = &self.all[place];
            let is_before = operation.outcome == Outcome::Ok && operation.revision < revision;
            self.floors.anyone[place] < revision && !is_before
        });
        fits.copied()
    }

    fn deletion(&mut self, revision: i64, changes: &[Change]) -> Option<usize> {
        // Any deletion of the key that is open will do: one that could come here could also come later.
        let [change] = changes else { return None };
        let open = self.open_deletions.get_mut(change.key.as_str())?;
        let floors = &self.floors.anyone;
        let fits = open.iter().position(|&place| floors[place] < revision)?;
        Some(open.swap_remove(fits))
    }

    /// Compares one revision of the history with the operation that made it.
    fn check_write(
        &mut self,
        state: &State,
        revision: i64,
        changes: &[Change],
        findings: &mut Findings,
    ) -> Option<usize> {
        let place = match self.author(state, revision, changes) {
            Author::Client(place) => place,
            Author::Lease(lease, place) => {
                let expected = state.end_of(lease);
                if !is_same(&expected, changes) {
                    let text = format!(
                        "revision {revision} is {changes:?}, not the end {expected:?} of lease {lease}"
                    );
                    findings.add("lease-whole", text);
                }
                if let Some(place) = place {
                    self.effects[place] = Some(revision);
                }
                return place;
            }
            Author::Nobody => {
                let text = format!("revision {revision} was asked for by nobody: {changes:?}");
                findings.add("write", text);
                return None;
            }
        };
        let operation = &self.all[place];
        let what = describe(operation);
        if let Some(first) = self.effects[place] {
            findings.add(
                "write",
                format!("took effect twice, at revisions {first} and {revision}: {what}"),
            );
            return None;
        }
        self.effects[place] = Some(revision);
        match operation.outcome {
            Outcome::Definite => findings.add(
                "write",
                format!(
                    "took effect at revision {revision} although it was refused with `{}`: {what}",
                    operation.error.as_deref().unwrap_or_default()
                ),
            ),
            Outcome::Ok if !says_changed(operation) || operation.revision != revision => findings
                .add(
                    "write",
                    format!(
                        "is at revision {revision}, but its answer told {}{}: {what}",
                        operation.revision,
                        if says_changed(operation) {
                            ""
                        } else {
                            " without a change"
                        }
                    ),
                ),
            Outcome::Ok | Outcome::Indefinite => {}
        }
        let (body, expected) = state.evaluate(&operation.op);
        if !is_same(&expected, changes) {
            findings.add(
                "write",
                format!(
                    "revision {revision} is {changes:?}, not the effect {expected:?} of {what}"
                ),
            );
        }
        if let (Some(told), Some(body)) = (&operation.body, &body)
            && told != body
        {
            let text =
                format!("told {told:?}, by the history {body:?} at revision {revision}: {what}");
            findings.add("answer", text);
        }
        Some(place)
    }

    /// Compares the answers that were given in this state without changing it.
    fn check_answers(&mut self, state: &State, findings: &mut Findings) {
        while let Some(&(revision, place)) = self.unchanged.last() {
            if revision > state.revision() {
                break;
            }
            self.unchanged.pop();
            let operation = &self.all[place];
            let (body, changes) = state.evaluate(&operation.op);
            let told = operation.body.as_ref();
            // What is told of a lease by itself, the rules about leases look at.
            let is_right = body.is_none() || told == body.as_ref();
            if revision < state.revision() || !is_right || !changes.is_empty() {
                findings.add(
                    "answer",
                    format!(
                        "told {told:?} at revision {revision}, by the history {body:?}: {}",
                        describe(operation)
                    ),
                );
            }
        }
    }
}

/// Who made a revision.
enum Author {
    Client(usize),
    /// The end of that lease, by its time, or by an operation that asked for it.
    Lease(i64, Option<usize>),
    Nobody,
}

/// The lease that all deleted keys were attached to.
fn lease_of(state: &State, changes: &[Change]) -> Option<i64> {
    let mut leases = changes
        .iter()
        .map(|change| state.get(&change.key).map_or(0, |kv| kv.lease));
    let first = leases.next().filter(|lease| *lease != 0)?;
    leases.all(|lease| lease == first).then_some(first)
}

/// What was there before is not part of the history as it is read in the end.
fn is_same(expected: &[Change], found: &[Change]) -> bool {
    expected.len() == found.len()
        && expected.iter().zip(found).all(|(expected, found)| {
            (expected.revision, &expected.key, &expected.after)
                == (found.revision, &found.key, &found.after)
        })
}

pub(super) fn replay(history: &History, floors: &Floors, findings: &mut Findings) -> Replay {
    let mut operations = Operations::new(history, floors, findings);
    let mut replay = Replay {
        effects: Vec::new(),
        causes: vec![0],
        ends: BTreeMap::new(),
        attached: BTreeMap::new(),
    };
    let Some(log) = history.logs.first() else {
        findings.add("log", "the history could not be read in the end".to_owned());
        replay.effects = operations.effects;
        return replay;
    };
    for (node, other) in history.logs.iter().enumerate().skip(1) {
        if let Some(place) =
            (0..log.len().max(other.len())).find(|&at| log.get(at) != other.get(at))
        {
            findings.add(
                "log",
                format!(
                    "members show different histories: {:?} on {}, {:?} on {}",
                    log.get(place),
                    name(0),
                    other.get(place),
                    name(node)
                ),
            );
        }
    }
    let mut state = State::new();
    let mut invariants = invariant::Invariants::default();
    operations.check_answers(&state, findings);
    for changes in log.chunk_by(|a, b| a.revision == b.revision) {
        let revision = changes[0].revision;
        if revision != state.revision() + 1 {
            findings.add(
                "log",
                format!("revision {revision} follows on {}", state.revision()),
            );
            // The replay cannot go on across a hole.
            if revision <= state.revision() {
                break;
            }
        }
        let author = operations.check_write(&state, revision, changes, findings);
        if changes.iter().all(|change| change.after.is_none())
            && let Some(lease) = lease_of(&state, changes)
        {
            replay.ends.entry(lease).or_insert(revision);
        }
        for lease in changes
            .iter()
            .filter_map(|change| Some(change.after.as_ref()?.lease))
        {
            if let Some(end) = replay.ends.get(&lease) {
                let text =
                    format!("revision {revision} writes with lease {lease}, which ended at {end}");
                findings.add("lease-ended", text);
            }
        }
        replay.follow(&state, changes, revision);
        state.apply(changes, revision);
        let began = author.map_or(0, |place| operations.all[place].invoke);
        let causes = &mut replay.causes;
        causes.push(began.max(causes.last().copied().unwrap_or(0)));
        invariants.check(&state, changes, findings);
        operations.check_answers(&state, findings);
    }
    for (revision, place) in std::mem::take(&mut operations.unchanged) {
        findings.add(
            "answer",
            format!(
                "answered at revision {revision}, but the history ends at {}: {}",
                state.revision(),
                describe(&operations.all[place])
            ),
        );
    }
    for (place, operation) in operations.all.iter().enumerate() {
        let is_acknowledged = operation.outcome == Outcome::Ok && says_changed(operation);
        if is_acknowledged && operations.effects[place].is_none() {
            findings.add(
                "write",
                format!(
                    "lost: acknowledged at revision {}, and nowhere in the history: {}",
                    operation.revision,
                    describe(operation)
                ),
            );
        }
    }
    replay.effects = operations.effects;
    replay
}
