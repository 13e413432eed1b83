//! What a run is, and what it came to.

use std::time::Duration;

use crate::ledger::Counts;
use crate::sim::Trace;

/// What a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Everything random follows from it.
    pub seed: u64,
    /// Says on stderr what happens when.
    pub is_told: bool,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was scheduled, folded.
    pub trace: Trace,
    /// What clients did.
    pub counts: Counts,
    /// What the machinery went through, to see that the run was not idle.
    pub coverage: Coverage,
    /// How long it took until every member had taken a write again.
    pub recovery: Duration,
}

/// How often something worth testing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Power failures between two steps.
    pub power_losses: u64,
    /// Power failures in the middle of a step.
    pub power_cuts: u64,
    /// Processes killed.
    pub kills: u64,
    /// All members down at once.
    pub blackouts: u64,
    /// Members that stopped because of a failed sync.
    pub failed_syncs: u64,
    /// Clean stops.
    pub stops: u64,
    /// Crashes while the member was starting.
    pub unfinished_starts: u64,
    /// Starts that cut a torn tail off the log.
    pub torn_tails: u64,
    /// Members that paused.
    pub pauses: u64,
    /// Times in which a disk was slow.
    pub slow_disks: u64,
    /// Partitions, flapping ones counted once.
    pub partitions: u64,
    /// Partitions that stayed, with a majority on one side.
    pub lasting_partitions: u64,
    /// Times in which the network was slow or lossy.
    pub storms: u64,
    /// Answers that a lease lives.
    pub leases_kept: u64,
    /// Answers that a lease is over.
    pub leases_over: u64,
    /// Terms that had a leader.
    pub terms: u64,
    /// Different states that were compared.
    pub states: u64,
}

impl Coverage {
    /// The figures with their names.
    #[must_use]
    pub fn figures(&self) -> [(&'static str, u64); 17] {
        [
            ("power losses", self.power_losses),
            ("power cuts", self.power_cuts),
            ("kills", self.kills),
            ("blackouts", self.blackouts),
            ("failed syncs", self.failed_syncs),
            ("stops", self.stops),
            ("unfinished starts", self.unfinished_starts),
            ("torn tails", self.torn_tails),
            ("pauses", self.pauses),
            ("slow disks", self.slow_disks),
            ("partitions", self.partitions),
            ("lasting partitions", self.lasting_partitions),
            ("storms", self.storms),
            ("leases kept alive", self.leases_kept),
            ("leases over", self.leases_over),
            ("terms", self.terms),
            ("states", self.states),
        ]
    }
}
