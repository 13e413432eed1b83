//! Makes raft's configuration follow the table of members, one step at a time, on the leader.
//!
//! The table says who is to vote. A new voter first learns: it votes once it has nearly the whole log, so that a member
//! that was added and never started takes nobody's quorum away. One that was removed is told first, and dropped then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::impls::EmptyNode;
use openraft::{AsyncRuntime, ChangeMembers, ServerState};
use store::Members;

use super::{Core, RaftOf};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// A learner votes once no more entries than this are missing.
const NEARLY_ALL: u64 = 100;

/// How long one that was removed is given to hear of it.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long to go on sending to one that has the entry, so that it also hears that it is committed.
const FAREWELL_COMMIT: Duration = Duration::from_millis(300);

/// What raft has now.
struct Present {
    voters: BTreeSet<u64>,
    members: BTreeSet<u64>,
    /// How far each member's log goes.
    matched: BTreeMap<u64, u64>,
    last: u64,
}

/// One step towards the table.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    Learn(u64),
    Vote(BTreeSet<u64>),
    Drop(u64),
}

/// What to do next.
fn next(members: &Members, present: &Present, own: u64) -> Next {
    // A table without anybody is of a cluster that was not told yet who it is.
    if members.is_empty() {
        return Next::Nothing;
    }
    if let Some(new) = members
        .iter()
        .find(|one| !present.members.contains(&one.id))
    {
        return Next::Learn(new.id);
    }
    let is_near = |id: &u64| {
        let matched = present.matched.get(id).copied();
        matched.is_some_and(|matched| matched + NEARLY_ALL >= present.last)
    };
    let new: BTreeSet<u64> = members
        .voters()
        .map(|one| one.id)
        .filter(|id| !present.voters.contains(id) && is_near(id))
        .collect();
    if !new.is_empty() {
        return Next::Vote(new);
    }
    // The leader drops the others first, and itself never: who leads next does it.
    let gone = |id: &&u64| members.is_removed(**id) && **id != own;
    match present.members.iter().find(gone) {
        Some(&id) => Next::Drop(id),
        None => Next::Nothing,
    }
}

/// Follows the table until the node stops.
pub(super) async fn run<R: AsyncRuntime>(raft: RaftOf<R>, core: Arc<Core>) {
    while !core.is_stopping() {
        R::sleep(LOOK).await;
        if is_stuck(&raft) {
            // A leader before this one began a change and did not end it.
            let nobody = ChangeMembers::AddVoterIds(BTreeSet::new());
            if let Err(error) = raft.change_membership(nobody, false).await {
                tracing::debug!(%error, "a change of raft's configuration was not ended");
            }
            continue;
        }
        let Some(present) = present(&raft) else {
            continue;
        };
        let members = core.reader.view().members.clone();
        let changed = match next(&members, &present, core.member_id) {
            Next::Nothing => {
                if members.is_removed(core.member_id) && present.voters.len() > 1 {
                    super::driver::hand_over::<R>(&raft, &core).await;
                }
                continue;
            }
            Next::Learn(id) => {
                tracing::info!(
                    member = format!("{id:x}"),
                    "a new member begins to get the log"
                );
                raft.add_learner(id, EmptyNode {}, false).await
            }
            Next::Vote(ids) => {
                for id in &ids {
                    tracing::info!(
                        member = format!("{id:x}"),
                        "a member has the log, and votes from now on"
                    );
                }
                raft.change_membership(ChangeMembers::AddVoterIds(ids), true)
                    .await
            }
            Next::Drop(id) => {
                farewell::<R>(&raft, id).await;
                let one = BTreeSet::from([id]);
                if present.voters.contains(&id) {
                    // It goes on to get the log, so that it learns that its vote is not needed any more.
                    let voters = ChangeMembers::RemoveVoters(one);
                    raft.change_membership(voters, true).await
                } else {
                    tracing::info!(
                        member = format!("{id:x}"),
                        "a removed member gets no more of the log"
                    );
                    let nodes = ChangeMembers::RemoveNodes(one);
                    raft.change_membership(nodes, false).await
                }
            }
        };
        if let Err(error) = changed {
            // Another leader, or a change under way: the next look sees what there is then.
            tracing::debug!(%error, "a change of raft's configuration was not made");
        }
    }
}

/// Whether this member leads with two sets of voters, both of them settled: whoever is to end that change is gone.
fn is_stuck<R: AsyncRuntime>(raft: &RaftOf<R>) -> bool {
    let receiver = raft.metrics();
    let metrics = receiver.borrow_watched();
    let stored = &metrics.membership_config;
    metrics.state == ServerState::Leader
        && stored.membership().get_joint_config().len() > 1
        && stored.log_id().as_ref().map(|id| id.index)
            <= metrics.last_applied.as_ref().map(|id| id.index)
}

/// Whether the cluster can do without this member, which was removed and hears nothing any more (`is_silent`) or still
/// does: raft has settled on voters without it, or the others are a majority in every set that it may still be part of.
pub(super) fn can_be_spared<R: AsyncRuntime>(
    raft: &RaftOf<R>,
    own: u64,
    members: &Members,
    is_silent: bool,
) -> bool {
    let receiver = raft.metrics();
    let metrics = receiver.borrow_watched();
    let stored = &metrics.membership_config;
    let sets = stored.membership().get_joint_config();
    let is_settled = stored.log_id().as_ref().map(|id| id.index)
        <= metrics.last_applied.as_ref().map(|id| id.index);
    is_spared(
        sets,
        own,
        |id| members.is_removed(id),
        is_settled,
        is_silent,
    )
}

fn is_spared(
    sets: &[BTreeSet<u64>],
    own: u64,
    is_removed: impl Fn(u64) -> bool,
    is_settled: bool,
    is_silent: bool,
) -> bool {
    if is_settled && !sets.iter().any(|set| set.contains(&own)) {
        return true;
    }
    let stay = |set: &BTreeSet<u64>| set.iter().filter(|id| !is_removed(**id)).count();
    is_silent && sets.iter().all(|set| stay(set) * 2 > set.len())
}

/// What there is, on a leader whose last change is done.
fn present<R: AsyncRuntime>(raft: &RaftOf<R>) -> Option<Present> {
    let receiver = raft.metrics();
    let metrics = receiver.borrow_watched();
    if metrics.state != ServerState::Leader {
        return None;
    }
    let stored = &metrics.membership_config;
    let is_done = stored.membership().get_joint_config().len() == 1
        && stored.log_id().as_ref().map(|id| id.index)
            <= metrics.last_applied.as_ref().map(|id| id.index);
    is_done.then(|| Present {
        voters: stored.voter_ids().collect(),
        members: stored.nodes().map(|(&id, _)| id).collect(),
        matched: metrics
            .replication
            .iter()
            .flatten()
            .filter_map(|(&id, matched)| Some((id, matched.as_ref()?.index)))
            .collect(),
        last: metrics.last_log_index.unwrap_or(0),
    })
}

/// Waits until a member has heard that it was removed, if it hears anything.
async fn farewell<R: AsyncRuntime>(raft: &RaftOf<R>, id: u64) {
    let Some(told) = present(raft).map(|present| present.last) else {
        return;
    };
    let mut waited = Duration::ZERO;
    while waited < FAREWELL {
        let has_it = present(raft)
            .is_none_or(|now| now.matched.get(&id).is_some_and(|&matched| matched >= told));
        if has_it {
            R::sleep(FAREWELL_COMMIT).await;
            return;
        }
        R::sleep(LOOK).await;
        waited += LOOK;
    }
}

#[cfg(test)]
mod tests {
    use proto::etcd::etcdserverpb::Member;

    use super::*;

    fn table(voters: &[u64], learners: &[u64]) -> Members {
        let member = |(&id, is_learner)| Member {
            id,
            is_learner,
            ..Member::default()
        };
        let voters = voters.iter().zip(std::iter::repeat(false));
        let learners = learners.iter().zip(std::iter::repeat(true));
        voters.chain(learners).map(member).collect()
    }

    fn raft(voters: &[u64], learners: &[u64], matched: &[(u64, u64)]) -> Present {
        Present {
            voters: voters.iter().copied().collect(),
            members: voters.iter().chain(learners).copied().collect(),
            matched: matched.iter().copied().collect(),
            last: 1_000,
        }
    }

    #[test]
    fn steps_lead_from_what_is_to_what_the_table_says() {
        let one = |members: &Members, present: &Present| next(members, present, 1);
        assert_eq!(
            one(&Members::default(), &raft(&[1], &[], &[])),
            Next::Nothing
        );
        assert_eq!(
            one(&table(&[1, 2], &[]), &raft(&[1], &[], &[])),
            Next::Learn(2)
        );
        let slow = raft(&[1], &[2], &[(2, 10)]);
        assert_eq!(one(&table(&[1, 2], &[]), &slow), Next::Nothing);
        let near = raft(&[1], &[2], &[(2, 950)]);
        assert_eq!(one(&table(&[1, 2], &[]), &near), Next::Vote([2].into()));
        assert_eq!(one(&table(&[1], &[2]), &near), Next::Nothing);
        let both = raft(&[1, 2], &[3], &[(2, 1_000)]);
        assert_eq!(
            one(&table(&[1, 2], &[]), &both),
            Next::Nothing,
            "nobody removed it"
        );
        assert_eq!(
            one(&table(&[2], &[]), &raft(&[1, 2], &[], &[])),
            Next::Nothing
        );
    }

    #[test]
    fn a_removed_member_stays_while_its_vote_is_needed() {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
        let spared = |sets: &[&[u64]], staying: &[u64], is_settled, is_silent| {
            let sets: Vec<_> = sets.iter().map(|ids| set(ids)).collect();
            is_spared(&sets, 1, |id| !staying.contains(&id), is_settled, is_silent)
        };
        assert!(spared(&[&[2]], &[2], true, false), "raft has dropped it");
        assert!(!spared(&[&[2]], &[2], false, false), "that may be lost yet");
        assert!(!spared(&[&[1, 2, 3]], &[2, 3], true, false));
        assert!(spared(&[&[1, 2, 3]], &[2, 3], true, true), "two of three");
        assert!(!spared(&[&[1, 2]], &[2], true, true), "one of two");
        assert!(!spared(&[&[1, 2], &[2]], &[2], true, true));
        assert!(
            !spared(&[&[1, 2, 3]], &[3], true, true),
            "one of the others was removed, too"
        );
    }
}
