//! Whether a write is let in: room in the database, room on the disk.

use std::sync::Arc;

use proto::command::command::Op;
use store::StateEngine;
use store::alarm::charge;

use crate::disk_space::{DiskSpace, Level};
use crate::quota::{Accepted, Quota};

/// Decides over writes before they are proposed.
pub struct Admission {
    /// Room in the database.
    pub quota: Quota,
    /// Room on the disk.
    pub space: Arc<DiskSpace>,
}

/// Whether a write is let in.
#[derive(Debug)]
pub enum Verdict {
    /// It is; the count of it is kept until the write has its outcome.
    Welcome(Accepted),
    /// The disk has no room; it comes back by itself.
    DiskFull,
    /// The database has no room: the alarm is due.
    OverQuota,
}

impl Default for Admission {
    /// Lets everything in.
    fn default() -> Self {
        Self {
            quota: Quota::new(-1),
            space: Arc::default(),
        }
    }
}

impl Admission {
    /// Judges a write. `is_alarm_on` says that this member has raised the alarm already; then nothing new depends on
    /// the size, and it is not asked for.
    pub fn judge(
        &self,
        op: &Op,
        engine: &dyn StateEngine,
        is_alarm_on: impl FnOnce() -> bool,
    ) -> Verdict {
        let charge = charge(op);
        let is_refused = match self.space.level() {
            Level::Enough => false,
            Level::Low => charge > 0,
            Level::Exhausted => match op {
                Op::Put(_)
                | Op::DeleteRange(_)
                | Op::Txn(_)
                | Op::Compact(_)
                | Op::LeaseGrant(_)
                | Op::LeaseRevoke(_)
                | Op::LeaseCheckpoints(_)
                | Op::LeaseExpiry(_) => true,
                // A few bytes, and a way out.
                Op::Alarm(_) | Op::MemberChange(_) => false,
            },
        };
        if is_refused {
            return Verdict::DiskFull;
        }
        if let Some(accepted) = self.quota.accept(charge) {
            return Verdict::Welcome(accepted);
        }
        if !is_alarm_on() {
            // The alarm stays until somebody clears it: it is raised on fresh figures only.
            self.quota.look(engine);
            if let Some(accepted) = self.quota.accept(charge) {
                return Verdict::Welcome(accepted);
            }
        }
        Verdict::OverQuota
    }
}

#[cfg(test)]
mod tests {
    use proto::command::MemberChange;
    use proto::etcd::etcdserverpb::{
        AlarmRequest, CompactionRequest, DeleteRangeRequest, PutRequest,
    };
    use store::engine::memory::MemoryEngine;
    use store::engine::{Batch, Family};

    use super::*;

    fn put(bytes: usize) -> Op {
        Op::Put(PutRequest {
            value: vec![0; bytes].into(),
            ..PutRequest::default()
        })
    }

    #[test]
    fn the_size_is_asked_for_again_before_the_alarm_is_raised() {
        let engine = MemoryEngine::new();
        let mut batch = Batch::default();
        batch.put(
            Family::Kv,
            |key| key.push(1),
            |value| value.resize(9_000, 0),
        );
        engine.write(&batch).unwrap();
        let admission = Admission {
            quota: Quota::new(10_000),
            space: Arc::default(),
        };
        admission.quota.look(&engine);
        let judge = |is_on| admission.judge(&put(2_000), &engine, || is_on);
        assert!(matches!(judge(false), Verdict::OverQuota));
        let mut batch = Batch::default();
        batch.delete(Family::Kv, |key| key.push(1));
        engine.write(&batch).unwrap();
        assert!(
            matches!(judge(true), Verdict::OverQuota),
            "nobody looked since"
        );
        assert!(matches!(judge(false), Verdict::Welcome(_)));
    }

    #[test]
    fn a_full_disk_refuses_what_the_quota_would_take() {
        let engine = MemoryEngine::new();
        let admission = Admission::default();
        let judge = |op: &Op| admission.judge(op, &engine, || false);
        let ops = [
            put(1),
            Op::DeleteRange(DeleteRangeRequest::default()),
            Op::Compact(CompactionRequest::default()),
            Op::Alarm(AlarmRequest::default()),
            Op::MemberChange(MemberChange::default()),
        ];
        assert!(
            ops.iter()
                .all(|op| matches!(judge(op), Verdict::Welcome(_)))
        );
        let met = admission.space.meet();
        let refused = ops
            .each_ref()
            .map(|op| matches!(judge(op), Verdict::DiskFull));
        assert_eq!(refused, [true, true, true, false, false]);
        drop(met);
    }
}
