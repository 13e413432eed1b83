//! Faults built in on purpose, so that the tests can be seen to catch them. Only with the feature `mutants`.
//!
//! A mutant stands where the right code stands: `if mutant::is_on(Mutant::SkipFsync) { wrong } else { right }`.
//! Without the feature [`is_on`] is a constant, and nothing of a mutant is left in the binary. With it, the variable
//! `HOLDFAST_MUTANT` names the one that is on. `jepsen/tests/mutants.rs` turns each on and expects a test to fail.

/// Every mutant. The name on the command line is the variant's in lower case, with dashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The log is written but not synced.
    SkipFsync,
    /// A write is answered before it is committed.
    AnswerBeforeCommit,
    /// Compaction drops a tombstone that still hides older versions.
    DropTombstone,
    /// Compaction removes by a horizon that a crash can take back.
    HorizonNotDurable,
    /// A command does not see what the commands before it in its batch wrote.
    OverlayForgotten,
    /// The count of a range stops at its limit.
    CountWithLimit,
    /// A deletion leaves its key in the family that the index is rebuilt from.
    IndexDiskDisagree,
    /// The log is purged although the state is not flushed.
    PurgeBeforeFlush,
    /// A snapshot lacks its newest versions.
    SnapshotWithoutTail,
    /// A received state is put in force without its history.
    HalfSnapshot,
    /// A nested transaction takes the other branch.
    WrongNestedBranch,
    /// A read just below the compacted revision is let through.
    CompactedOffByOne,
    /// A range includes its end.
    RangePastEnd,
    /// A write passes although the space alarm is raised.
    AlarmIgnored,
    /// Compaction drops what a running read still needs.
    PinForgotten,
    /// A block that fails its check is served.
    ChecksumIgnored,
    /// The log's torn tail is not cut.
    TornTailKept,
    /// Of several entries that are written together the last one misses the sync.
    BatchTailLost,
    /// A state says that it has applied less than it has, so that a restart applies it once more.
    AppliedTwice,
    /// A leader keeps leases alive without asking whether it still leads.
    RenewalUnconfirmed,
    /// A lease ends although the leader that found it to be over leads no more.
    LeaseExpiredByAnybody,
    /// The id of a removed member may be used again.
    RemovedMemberForgotten,
    /// A member that led goes on leading after a restart, in its old term.
    LeaderRestored,
    /// A leader takes what it sent to a follower for what the follower has.
    QuorumNotAwaited,
    /// A leader that has lost its quorum keeps those who hear it from electing another.
    QuorumLossUnnoticed,
    /// A follower acknowledges entries that it has not synced.
    AckBeforeSync,
    /// What was left to the apply worker to sync is applied without.
    LeftUnsynced,
    /// A flush is asked for by what consensus takes for applied.
    FlushAhead,
    /// A vote is not written down.
    VoteForgotten,
    /// A leader serves linearizable reads without asking whether it still leads.
    ReadUnconfirmed,
    /// A follower serves linearizable reads without asking the leader.
    ReadLocally,
    /// A linearizable read takes the index that the reads before it were given.
    ReadIndexReused,
    /// A linearizable read does not wait until its index is applied.
    ReadBeforeApply,
    /// A batch whose outcome is unknown is sent to the leader again.
    BatchSentAgain,
    /// A write whose outcome is unknown is answered as one that was not done.
    UnknownSaidRefused,
    /// A put is answered with the revision before its own.
    StaleRevision,
    /// A watcher that catches up misses the first revision behind its cursor.
    RevisionSkipped,
    /// A response may end inside a revision, although fragments were not asked for.
    RevisionSplit,
    /// A watcher whose queue was full gets its last revision once more when it goes on.
    EventsRepeated,
    /// Progress is told although a watcher of the stream is behind.
    ProgressAhead,
    /// What finds no room in a stream's queue is not sent later either.
    OverflowLost,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 41] = [
        Self::SkipFsync,
        Self::AnswerBeforeCommit,
        Self::DropTombstone,
        Self::HorizonNotDurable,
        Self::OverlayForgotten,
        Self::CountWithLimit,
        Self::IndexDiskDisagree,
        Self::PurgeBeforeFlush,
        Self::SnapshotWithoutTail,
        Self::HalfSnapshot,
        Self::WrongNestedBranch,
        Self::CompactedOffByOne,
        Self::RangePastEnd,
        Self::AlarmIgnored,
        Self::PinForgotten,
        Self::ChecksumIgnored,
        Self::TornTailKept,
        Self::BatchTailLost,
        Self::AppliedTwice,
        Self::RenewalUnconfirmed,
        Self::LeaseExpiredByAnybody,
        Self::RemovedMemberForgotten,
        Self::LeaderRestored,
        Self::QuorumNotAwaited,
        Self::QuorumLossUnnoticed,
        Self::AckBeforeSync,
        Self::LeftUnsynced,
        Self::FlushAhead,
        Self::VoteForgotten,
        Self::ReadUnconfirmed,
        Self::ReadLocally,
        Self::ReadIndexReused,
        Self::ReadBeforeApply,
        Self::BatchSentAgain,
        Self::UnknownSaidRefused,
        Self::StaleRevision,
        Self::RevisionSkipped,
        Self::RevisionSplit,
        Self::EventsRepeated,
        Self::ProgressAhead,
        Self::OverflowLost,
    ];

    /// The name in `HOLDFAST_MUTANT`.
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

/// Whether a mutant is on: never, in this build.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn is_on(_: Mutant) -> bool {
    false
}

/// Whether a mutant is on.
#[cfg(feature = "mutants")]
pub fn is_on(mutant: Mutant) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();
    // The one place where the store reads the environment, and only in a build made to be wrong.
    #[allow(clippy::disallowed_methods)]
    let chosen = || {
        let name = std::env::var("HOLDFAST_MUTANT").ok()?;
        let found = Mutant::ALL.into_iter().find(|mutant| mutant.name() == name);
        assert!(found.is_some(), "HOLDFAST_MUTANT names no mutant: {name}");
        found
    };
    *CHOSEN.get_or_init(chosen) == Some(mutant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_with_dashes() {
        assert_eq!(Mutant::SkipFsync.name(), "skip-fsync");
        assert_eq!(Mutant::CompactedOffByOne.name(), "compacted-off-by-one");
    }
}
