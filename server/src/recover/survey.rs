//! What the folder of a survivor holds, up to the end of its log, and whether it can be recovered. Changes nothing.

use std::collections::BTreeMap;

use store::fs::{RealFs, WalFs};
use store::log::dump::{Content, EntryKind};
use store::{LogId, Members, Membership, SnapshotName, Vote};

use super::Failure;
use crate::data_dir::{Identity, Recovering};
use crate::raft::StartError;
use crate::raft::agreement::{self, Agreement};
use proto::command::member_change::Change;
use proto::etcd::etcdserverpb::Member;

/// What is there.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) identity: Identity,
    /// Whether an earlier recovery was cut short.
    pub(super) has_begun: bool,
    /// The table of members, with all changes that are in the log.
    pub(super) members: Members,
    /// Raft's configuration at the end of the log.
    pub(super) membership: Membership,
    /// The last entry that is in the database.
    pub(super) applied: Option<LogId>,
    /// The last entry that is known to be committed.
    pub(super) committed: Option<LogId>,
    /// The last entry.
    pub(super) last: LogId,
    /// The highest term seen, in votes, too.
    pub(super) term: u64,
    /// The newest revision in the database.
    pub(super) revision: i64,
    /// All that is in the log is to go, and the log begins behind this entry: a crash cut short the taking over of a
    /// leader's state.
    pub(super) log_begins_behind: Option<LogId>,
}

/// Whether there is anything to recover.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The member needs nobody.
    NothingToDo,
    /// This is to be done.
    Recover(Work),
}

/// What has to change in the log.
#[derive(Debug)]
pub(super) struct Work {
    /// Those that are removed from the table.
    pub(super) removed: Vec<Member>,
    /// Whether raft has other voters than this member. False only if a recovery died right before its end.
    pub(super) has_other_voters: bool,
}

impl Survey {
    /// Reads the database as it is on disk, and the log behind it.
    pub(super) fn of(folder: &Recovering) -> Result<Self, Failure> {
        let database = Database::read(folder)?;
        let log = Written::read(&RealFs::new(folder.wal()), database.applied())?;
        Self::from_parts(folder.identity(), folder.has_begun(), database, log)
    }

    fn from_parts(
        identity: Identity,
        has_begun: bool,
        database: Database,
        log: Written,
    ) -> Result<Self, Failure> {
        let applied = database.applied();
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        let state = agreement::State {
            applied,
            installed: database.installed,
        };
        let agreed = agreement::judge(state, index(log.purged), index(log.last), |id| {
            Ok::<_, StartError>(
                log.entries
                    .get(&id.index)
                    .is_some_and(|noted| noted.term == id.term),
            )
        })?;
        let mut members = database.members;
        let (mut membership, revision) = match database.state {
            Some(state) => (state.membership.membership, state.revision),
            None => (Membership::default(), 1),
        };
        let vote = log.vote.map_or(0, |vote| vote.term);
        if let Agreement::LogBeginsBehind(entry) = agreed {
            return Ok(Self {
                identity,
                has_begun,
                members,
                membership,
                applied,
                committed: applied,
                last: entry,
                term: vote.max(entry.term).max(log.last.map_or(0, |id| id.term)),
                revision,
                log_begins_behind: Some(entry),
            });
        }
        let last = log.last.unwrap_or_default();
        // The first entry of a cluster has the index 0.
        let behind = applied.map_or(0, |id| id.index + 1);
        let end = log.last.map_or(0, |id| id.index + 1);
        let count = log.entries.range(behind..).count() as u64;
        if behind + count < end {
            return Err(format!(
                "the raft log ends with entry {}, but {} of those that the database has not applied are missing",
                last.index,
                end - behind - count
            )
            .into());
        }
        for (_, noted) in log.entries.range(behind..) {
            for change in &noted.changes {
                // A refusal changes nothing, here as there.
                let _ = members.change(change);
            }
            if let Some(newer) = &noted.membership {
                membership.clone_from(newer);
            }
        }
        Ok(Self {
            identity,
            has_begun,
            members,
            membership,
            applied,
            // What is applied was committed, whether or not the log came to say so.
            committed: log
                .committed
                .filter(|id| id.index <= last.index)
                .max(applied),
            last,
            term: vote.max(last.term),
            revision,
            log_begins_behind: None,
        })
    }

    /// This member, as its table has it.
    pub(super) fn own(&self) -> Option<&Member> {
        self.members.get(self.identity.member_id)
    }

    /// Entries that nobody knows to be committed.
    pub(super) fn uncommitted(&self) -> u64 {
        let end = self.last.index + 1;
        end - self.committed.map_or(0, |id| id.index + 1)
    }

    /// Whether the member can be recovered, and what that takes.
    pub(super) fn verdict(&self) -> Result<Verdict, Failure> {
        let own = self.identity.member_id;
        let elsewhere = "recover another survivor, or restore a snapshot (holdfast help snapshot)";
        if self.members.is_removed(own) {
            return Err(format!(
                "member {own:x} was removed from its cluster, which went on without it: it is no survivor; {elsewhere}"
            )
            .into());
        }
        if self.membership.voters.is_empty() {
            return Err(format!(
                "there is no data in this folder: the member has never heard from its cluster; {elsewhere}"
            )
            .into());
        }
        if self.members.is_empty() {
            return Err(
                "nothing was ever written into this cluster, not even who its members are: there is nothing to save. \
                 Move the folder away and begin anew (or restore the snapshot again that it came from)"
                    .into(),
            );
        }
        let is_voter = self.membership.voters.iter().any(|set| set.contains(&own));
        if !is_voter || self.own().is_none_or(|member| member.is_learner) {
            return Err(format!(
                "member {own:x} is a learner: it has no vote yet, and may lack much of what the cluster has acknowledged; \
                 {elsewhere}"
            )
            .into());
        }
        let has_other_voters = self.membership.voters.iter().any(|set| set.len() > 1);
        if !has_other_voters && !self.has_begun {
            return Ok(Verdict::NothingToDo);
        }
        let others = self.members.iter().filter(|member| member.id != own);
        Ok(Verdict::Recover(Work {
            removed: others.cloned().collect(),
            has_other_voters,
        }))
    }
}

/// What the database says.
#[derive(Debug, Default)]
struct Database {
    state: Option<SnapshotName>,
    members: Members,
    installed: Option<LogId>,
}

impl Database {
    #[cfg(feature = "rocksdb")]
    fn read(folder: &Recovering) -> Result<Self, Failure> {
        let path = folder.database()?;
        let read = || {
            let engine = store::engine::rocks::RocksEngine::open_to_read(&path)?;
            let summary = store::dump::summary(&engine)?;
            Ok(Self {
                state: summary.state,
                members: summary.members,
                installed: store::snapshot::installed(&engine)?,
            })
        };
        read().map_err(|error: store::StoreError| {
            let error = crate::logging::chain(&error);
            format!("cannot read the database in {}: {error}", path.display()).into()
        })
    }

    #[cfg(not(feature = "rocksdb"))]
    fn read(_: &Recovering) -> Result<Self, Failure> {
        Err(
            "this build keeps its state in memory; to recover needs one with the feature rocksdb"
                .into(),
        )
    }

    fn applied(&self) -> Option<LogId> {
        self.state.as_ref().map(|state| state.applied)
    }
}

/// What is in the log.
#[derive(Debug, Default)]
struct Written {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    entries: BTreeMap<u64, Noted>,
}

/// What matters of an entry.
#[derive(Debug)]
struct Noted {
    term: u64,
    membership: Option<Membership>,
    changes: Vec<Change>,
}

impl Written {
    /// Reads all of a log. Of entries up to `applied` only the ids matter.
    fn read(fs: &dyn WalFs, applied: Option<LogId>) -> Result<Self, Failure> {
        let applied = applied.map_or(0, |id| id.index);
        let mut log: Option<Self> = None;
        let mut damage = None;
        for item in store::log::dump::read(fs)? {
            let place = || format!("{}, byte {}", fs.describe(&item.segment), item.offset);
            match item.content {
                // Purged segments may be gone in any order: what counts is behind the last hole, as for a start.
                Content::Missing => (log, damage) = (None, None),
                Content::Damage { what, .. } => {
                    damage.get_or_insert(format!("the raft log is damaged ({}): {what}", place()));
                }
                Content::Unreadable(error) => {
                    damage
                        .get_or_insert(format!("cannot read the raft log ({}): {error}", place()));
                }
                Content::Segment {
                    last,
                    committed,
                    purged,
                    vote,
                    ..
                } if log.is_none() => {
                    log = Some(Self {
                        vote,
                        committed,
                        purged,
                        last,
                        entries: BTreeMap::new(),
                    });
                }
                content => {
                    if let Some(log) = &mut log {
                        log.take(content, applied)?;
                    }
                }
            }
        }
        if let Some(damage) = damage {
            return Err(format!(
                "{damage}. What lies behind it cannot be trusted; recover another survivor, or restore a snapshot \
                 (holdfast help snapshot)"
            )
            .into());
        }
        Ok(log.unwrap_or_default())
    }

    fn take(&mut self, content: Content, applied: u64) -> Result<(), Failure> {
        match content {
            Content::Entry { id, kind, payload } => {
                let mut noted = Noted {
                    term: id.term,
                    membership: None,
                    changes: Vec::new(),
                };
                match kind {
                    EntryKind::Membership => noted.membership = Some(Membership::decode(&payload)?),
                    EntryKind::Commands if id.index > applied => {
                        noted.changes = store::member_changes(id.index, &payload)?;
                    }
                    EntryKind::Commands | EntryKind::Blank => {}
                }
                self.entries.insert(id.index, noted);
                self.last = Some(id);
            }
            Content::Vote(vote) => self.vote = Some(vote),
            Content::Truncate(after) => {
                self.entries
                    .split_off(&after.map_or(0, |id| id.index + 1));
                self.last = after;
            }
            Content::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = self.purged.max(Some(upto));
                if self.last.is_none_or(|last| last.index < upto.index) {
                    self.last = Some(upto);
                }
            }
            Content::Committed(upto) => self.committed = upto,
            Content::Segment { .. }
            | Content::Batch { .. }
            | Content::Seal
            // A crash left it unfinished: none of it was acknowledged.
            | Content::TornTail { .. }
            | Content::Damage { .. }
            | Content::Missing
            | Content::Unreadable(_) => {}
        }
        Ok(())
    }
}
