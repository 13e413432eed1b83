//! What `recover` does to the folder, in an order in which each crash leaves it as it was or to be recovered again.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message as _;
use proto::command::member_change::{Change, Remove};
use proto::command::{Batch, Command, MemberChange, command::Op};
use store::fs::RealFs;
use store::log::{Log, LogOptions, Worker};
use store::{BATCH_FORMAT, Entry, FEATURE_LEVEL, LogId, Membership, Payload, Vote};

use super::Failure;
use super::survey::{Survey, Work};
use crate::data_dir::Recovering;
use crate::identity;

/// The steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The log is opened once as at a start: what that refuses is refused while nothing is changed yet.
    Check,
    /// The folder gets its new cluster id, and no node starts on it any more.
    Begin,
    /// What was remembered of the other members goes: none of them is one any more.
    ForgetPeers,
    /// The log gets its new end.
    Append,
    /// Nodes start on it again.
    Finish,
}

pub(super) const ORDER: [Step; 5] = [
    Step::Check,
    Step::Begin,
    Step::ForgetPeers,
    Step::Append,
    Step::Finish,
];

/// Does everything. `now` is since 1970.
pub(super) fn all(
    folder: &mut Recovering,
    survey: &Survey,
    work: &Work,
    now: Duration,
) -> Result<(), Failure> {
    ORDER
        .iter()
        .try_for_each(|&step| take(step, folder, survey, work, now))
}

pub(super) fn take(
    step: Step,
    folder: &mut Recovering,
    survey: &Survey,
    work: &Work,
    now: Duration,
) -> Result<(), Failure> {
    match step {
        Step::Check => {
            let (log, worker) = open(folder.wal(), log_options(folder))?;
            closed(&log, worker)?;
        }
        // One that has begun has its id already.
        Step::Begin if folder.has_begun() => {}
        Step::Begin => {
            let former = folder.identity();
            let cluster =
                identity::recovered_cluster_id(former.cluster_id, former.member_id, now.as_nanos());
            folder.begin(cluster)?;
        }
        Step::ForgetPeers => folder.forget_peers()?,
        Step::Append => End::new(folder, survey, work, now).append()?,
        Step::Finish => folder.finish()?,
    }
    Ok(())
}

fn log_options(folder: &Recovering) -> LogOptions {
    LogOptions::new(folder.log_cluster_id(), folder.identity().member_id)
}

/// As at every start: a torn end is cut here, and damage refused.
fn open(wal: PathBuf, options: LogOptions) -> Result<(Log, Worker), Failure> {
    let (log, worker, _) = Log::open(Arc::new(RealFs::new(wal)), options)?;
    Ok((log, worker))
}

/// Writes what is queued and waits for it.
fn closed(log: &Log, worker: Worker) -> Result<(), Failure> {
    log.close();
    worker.run();
    log.failure().map_or(Ok(()), |error| Err(error.into()))
}

/// What is added to the log.
pub(super) struct End {
    wal: PathBuf,
    options: LogOptions,
    begins_behind: Option<LogId>,
    vote: Vote,
    pub(super) entries: Vec<Entry>,
}

impl End {
    pub(super) fn new(folder: &Recovering, survey: &Survey, work: &Work, now: Duration) -> Self {
        let own = survey.identity.member_id;
        let term = survey.term + 1;
        let remove = |(place, member): (usize, &proto::etcd::etcdserverpb::Member)| Command {
            member: own,
            boot: folder.boot(),
            sequence: place as u64 + 1,
            op: Some(Op::MemberChange(MemberChange {
                change: Some(Change::Remove(Remove { id: member.id })),
            })),
            ..Command::default()
        };
        let mut payloads = Vec::new();
        if !work.removed.is_empty() {
            let batch = Batch {
                format: BATCH_FORMAT,
                feature_level: FEATURE_LEVEL,
                leader_time_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
                commands: work.removed.iter().enumerate().map(remove).collect(),
            };
            payloads.push(Payload::Commands(batch.encode_to_vec().into()));
        }
        // Last: without it the member is no leader by itself.
        if work.has_other_voters {
            let alone = BTreeSet::from([own]);
            payloads.push(Payload::Membership(Membership {
                voters: vec![alone.clone()],
                members: alone,
            }));
        }
        let ids = (survey.last.index + 1..).map(|index| LogId { term, index });
        Self {
            wal: folder.wal(),
            options: log_options(folder),
            begins_behind: survey.log_begins_behind,
            vote: Vote {
                term,
                voted_for: Some(own),
                // As if it had led in that term, which nobody else has or will.
                committed: true,
            },
            entries: ids
                .zip(payloads)
                .map(|(id, payload)| Entry { id, payload })
                .collect(),
        }
    }

    /// Adds it in one write, durably.
    pub(super) fn append(self) -> Result<(), Failure> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let (log, worker) = open(self.wal, self.options)?;
        let results = Arc::new(Mutex::new(Vec::new()));
        let done = || {
            let results = results.clone();
            Box::new(move |result: io::Result<()>| results.lock().push(result))
        };
        if let Some(entry) = self.begins_behind {
            log.truncate_after(None, done());
            log.purge(entry, done());
        }
        log.save_vote(self.vote, done());
        let last = self.entries.last().map(|entry| entry.id);
        log.append(self.entries, done());
        if let Some(last) = last {
            // One voter: what it has is committed.
            log.save_committed(last);
        }
        closed(&log, worker)?;
        let results = std::mem::take(&mut *results.lock());
        results.into_iter().collect::<io::Result<Vec<()>>>()?;
        Ok(())
    }
}
