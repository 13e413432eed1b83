//! What holds at every moment, whoever leads: looked at between two steps, inside all members at once.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use store::log::Log;
use store::{LogId, Payload, Reader};

use crate::ledger::Violation;
use crate::sim::network::Promise;

/// What any member ever showed.
#[derive(Default)]
pub(super) struct Checks {
    /// Who led in each term.
    leaders: BTreeMap<u64, u64>,
    /// What was applied at each index, and the newest term that had a leader when it first was: it was committed in
    /// that term or before. Its own term says less: what an old leader left may be committed by a later one.
    entries: BTreeMap<u64, (Applied, u64)>,
    /// The state after each entry, as far as it was looked at.
    states: BTreeMap<u64, u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Applied {
    term: u64,
    hash: u64,
}

/// What one life of a member showed so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The next entry to compare.
    next: u64,
    applied: u64,
    committed: Option<LogId>,
    term: u64,
}

macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(Violation(format!($($text)+)));
        }
    };
}

/// FNV-1a: the same in every build.
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

fn hash(payload: &Payload) -> u64 {
    let mut fold = Fold(0xcbf2_9ce4_8422_2325);
    match payload {
        Payload::Blank => 0_u8.hash(&mut fold),
        Payload::Commands(commands) => commands.hash(&mut fold),
        Payload::Membership(membership) => format!("{membership:?}").hash(&mut fold),
    }
    fold.finish()
}

/// What a member told others is on its disk.
pub(super) fn look_at_promise(member: u64, promise: Promise, log: &Log) -> Result<(), Violation> {
    let vote = log.vote().unwrap_or_default();
    if let Some((term, candidate)) = promise.vote {
        // Once the term has a leader, whom it voted for does not matter any more.
        let is_kept = vote.committed || vote.voted_for == Some(candidate);
        ensure!(
            vote.term > term || vote.term == term && is_kept,
            "member {member:x} voted for {candidate:x} in term {term} and started again with {vote:?}"
        );
    }
    let Some(entry) = promise.entry else {
        return Ok(());
    };
    if entry.index < log.range().start || vote.term > entry.leader_term {
        return Ok(());
    }
    let held = log.entries(entry.index..entry.index + 1, usize::MAX);
    let found = held.ok().and_then(|held| Some(held.first()?.id.term));
    ensure!(
        found >= Some(entry.term),
        "member {member:x} acknowledged {entry:?} and started again with {found:?} at that index, and {vote:?}"
    );
    Ok(())
}

impl Checks {
    /// Looks into a member.
    pub(super) fn look(
        &mut self,
        member: u64,
        (log, reader): (&Log, &Reader),
        seen: &mut Seen,
    ) -> Result<(), Violation> {
        if let Some(vote) = log.vote() {
            ensure!(
                vote.term >= seen.term,
                "member {member:x} went back from term {} to {}",
                seen.term,
                vote.term
            );
            seen.term = vote.term;
            if let Some(leader) = vote.voted_for.filter(|_| vote.committed) {
                let known = *self.leaders.entry(vote.term).or_insert(leader);
                ensure!(
                    known == leader,
                    "term {} has two leaders: {known:x}, and for member {member:x} {leader:x}",
                    vote.term
                );
            }
        }
        let committed = log.committed();
        ensure!(
            committed >= seen.committed,
            "what member {member:x} knows as committed went back from {:?} to {committed:?}",
            seen.committed
        );
        seen.committed = committed;
        let applied = reader.view().applied.map_or(0, |id| id.index);
        ensure!(
            applied >= seen.applied,
            "member {member:x} went back from entry {} to {applied}",
            seen.applied
        );
        seen.applied = applied;
        self.compare_entries(member, log, applied, seen)
    }

    /// What is applied at an index is the same everywhere, and stays so.
    fn compare_entries(
        &mut self,
        member: u64,
        log: &Log,
        applied: u64,
        seen: &mut Seen,
    ) -> Result<(), Violation> {
        let from = seen.next.max(log.range().start);
        if from > applied {
            return Ok(());
        }
        // A log whose disk is gone says nothing any more.
        let Ok(entries) = log.entries(from..applied + 1, usize::MAX) else {
            return Ok(());
        };
        let newest = self.leaders.last_key_value().map_or(0, |(term, _)| *term);
        for entry in entries {
            let applied = Applied {
                term: entry.id.term,
                hash: hash(&entry.payload),
            };
            let (known, _) = *self
                .entries
                .entry(entry.id.index)
                .or_insert((applied, newest));
            ensure!(
                known == applied,
                "member {member:x} applied {applied:?} at index {}, and another {known:?}",
                entry.id.index
            );
            seen.next = entry.id.index + 1;
        }
        Ok(())
    }

    /// A leader has all that was committed in earlier terms.
    pub(super) fn look_at_leader(
        &self,
        member: u64,
        term: u64,
        log: &Log,
    ) -> Result<(), Violation> {
        let mut newest_first = self.entries.iter().rev();
        let newest = newest_first.find(|(_, (_, committed))| *committed < term);
        let Some((&index, (applied, _))) = newest else {
            return Ok(());
        };
        if index < log.range().start {
            return Ok(());
        }
        let held = log.entries(index..index + 1, usize::MAX);
        let Ok(held) = held else { return Ok(()) };
        let found = held.first().map(|entry| entry.id.term);
        ensure!(
            found == Some(applied.term),
            "member {member:x} leads term {term} with {found:?} at index {index}, where {applied:?} was applied"
        );
        Ok(())
    }

    /// Equal entries make equal states.
    pub(super) fn look_at_state(&mut self, member: u64, reader: &Reader) -> Result<(), Violation> {
        let view = reader.view();
        let Some(applied) = view.applied else {
            return Ok(());
        };
        let hash = reader
            .hash_whole(&view, &|| true)
            .map_err(|error| Violation(format!("the state cannot be hashed: {error}")))?
            .unwrap_or_default();
        let known = *self.states.entry(applied.index).or_insert(hash);
        ensure!(
            known == hash,
            "the state of member {member:x} after entry {} differs from another's",
            applied.index
        );
        Ok(())
    }

    /// How many terms had a leader.
    pub(super) fn terms(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// How many states were looked at.
    pub(super) fn states(&self) -> u64 {
        self.states.len() as u64
    }
}
