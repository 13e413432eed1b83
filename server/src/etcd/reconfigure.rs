//! Whether the members may be changed now, by etcd's rules: what a command cannot judge at apply, because it depends on
//! who runs and who is connected.
//!
//! What is not known is not held against a change: without any peer's status only the table counts.

use std::time::Duration;

use store::Members;

use super::error::{self, Status};
use crate::node::{PeerStatus, SeenByLeader};

/// How long a connection must have lasted to be trusted.
const HEALTHY: Duration = Duration::from_secs(5);

/// The table of members, and the cluster as its leader sees it.
pub(super) struct Seen<'a> {
    pub(super) members: &'a Members,
    pub(super) cluster: &'a SeenByLeader,
}

/// Whether a member may be added. A new voter counts as one that is down.
pub(super) fn may_add(seen: &Seen<'_>, is_learner: bool) -> Result<(), Status> {
    let voters = seen.members.voters().count();
    // One member alone may always grow, or it could never.
    if voters == 1 && started(seen.members, None) == 1 {
        return Ok(());
    }
    if !is_learner && started(seen.members, None) < quorum(voters + 1) {
        return Err(error::NOT_ENOUGH_STARTED);
    }
    if !seen.cluster.peers.is_empty() && voters > 1 && connected(seen) < quorum(voters + 1) {
        return Err(error::UNHEALTHY);
    }
    Ok(())
}

/// Whether a member may be removed.
pub(super) fn may_remove(seen: &Seen<'_>, id: u64) -> Result<(), Status> {
    if seen.members.get(id).is_some_and(|member| member.is_learner) {
        return Ok(());
    }
    let voters = seen.members.voters().count();
    let others = seen.members.voters().filter(|member| member.id != id);
    if started(seen.members, Some(id)) < quorum(others.count()) {
        return Err(error::NOT_ENOUGH_STARTED);
    }
    // One that is down is no part of the quorum that works.
    let is_connected = |peer: &PeerStatus| peer.id == id && peer.is_connected;
    if seen.cluster.peers.is_empty()
        || id != seen.cluster.leader && !seen.cluster.peers.iter().any(is_connected)
    {
        return Ok(());
    }
    // As etcd counts: the others that are connected are more than half of them, and one more.
    if connected(seen) < 2 + voters.saturating_sub(1) / 2 {
        return Err(error::UNHEALTHY);
    }
    Ok(())
}

/// Whether a learner may vote: it must have nearly all that the leader has.
pub(super) fn is_learner_ready(seen: &Seen<'_>, id: u64) -> Result<(), Status> {
    let Some(member) = seen.members.get(id) else {
        return Err(error::MEMBER_NOT_FOUND);
    };
    // Of one that votes the command says what is wrong.
    if !member.is_learner {
        return Ok(());
    }
    let peer = seen.cluster.peers.iter().find(|peer| peer.id == id);
    let matched = peer.map_or(0, |peer| peer.matched_index);
    // At least nine tenths.
    if u128::from(matched) * 10 < u128::from(seen.cluster.last_index) * 9 {
        return Err(error::LEARNER_NOT_READY);
    }
    Ok(())
}

/// Whether one more voter, which runs, leaves a quorum that runs.
pub(super) fn may_promote(seen: &Seen<'_>) -> Result<(), Status> {
    let voters = seen.members.voters().count();
    if started(seen.members, None) + 1 < quorum(voters + 1) {
        return Err(error::NOT_ENOUGH_STARTED);
    }
    Ok(())
}

/// Voters that have been started once, but for one of them.
fn started(members: &Members, except: Option<u64>) -> usize {
    let others = members.voters().filter(|member| Some(member.id) != except);
    others.filter(|member| !member.name.is_empty()).count()
}

/// Voters that the leader has been connected to for a while, and itself.
fn connected(seen: &Seen<'_>) -> usize {
    let is_healthy = |peer: &&PeerStatus| peer.is_connected && peer.connected_for > HEALTHY;
    let healthy = seen.cluster.peers.iter().filter(is_healthy);
    let healthy: Vec<u64> = healthy.map(|peer| peer.id).collect();
    let voters = seen.members.voters();
    voters
        .filter(|member| member.id == seen.cluster.leader || healthy.contains(&member.id))
        .count()
}

fn quorum(members: usize) -> usize {
    members / 2 + 1
}

#[cfg(test)]
mod tests {
    use proto::etcd::etcdserverpb::Member;

    use super::*;

    /// Started voters as `V`, others as `v`, learners as `L`; numbered from 1, and 1 leads.
    fn members(kinds: &str) -> Members {
        let kinds = kinds.chars().zip(1..);
        kinds
            .map(|(kind, id)| Member {
                id,
                name: if kind == 'v' { "" } else { "name" }.to_owned(),
                is_learner: kind == 'L',
                ..Member::default()
            })
            .collect()
    }

    /// The peers from 2 on: for how many seconds each is connected; a negative number if it is not.
    fn peers(seconds: &[i64]) -> Vec<PeerStatus> {
        let peers = seconds.iter().zip(2..);
        peers
            .map(|(&seconds, id)| PeerStatus {
                id,
                is_connected: seconds >= 0,
                connected_for: Duration::from_secs(seconds.unsigned_abs()),
                matched_index: 0,
            })
            .collect()
    }

    fn judge<T>(kinds: &str, seconds: &[i64], judge: impl FnOnce(&Seen<'_>) -> T) -> T {
        judge(&Seen {
            members: &members(kinds),
            cluster: &SeenByLeader {
                leader: 1,
                last_index: 0,
                peers: peers(seconds),
            },
        })
    }

    const STARTED: Result<(), Status> = Err(error::NOT_ENOUGH_STARTED);
    const UNHEALTHY: Result<(), Status> = Err(error::UNHEALTHY);

    #[test]
    fn a_voter_is_added_only_if_those_that_run_are_a_quorum_with_it() {
        let table = [
            ("", STARTED),
            ("V", Ok(())),
            ("v", STARTED),
            ("VL", Ok(())),
            ("VV", Ok(())),
            ("Vv", STARTED),
            ("VVv", STARTED),
            ("VVV", Ok(())),
            ("VVVv", Ok(())),
            ("VVVvv", STARTED),
        ];
        for (kinds, expected) in table {
            let answer = judge(kinds, &[], |seen| may_add(seen, false));
            assert_eq!(answer, expected, "{kinds}");
        }
        for kinds in ["V", "v", "Vv", "VVv"] {
            let answer = judge(kinds, &[], |seen| may_add(seen, true));
            assert_eq!(answer, Ok(()), "a learner beside {kinds}");
        }
    }

    #[test]
    fn a_member_is_added_only_if_a_quorum_with_it_is_connected_for_five_seconds() {
        let table: [(&str, &[i64], _); 9] = [
            ("VV", &[6], Ok(())),
            ("VV", &[5], UNHEALTHY),
            ("VV", &[-1], UNHEALTHY),
            ("VVV", &[6, 6], Ok(())),
            // Two of three work, but they would be no quorum of four.
            ("VVV", &[6, -9], UNHEALTHY),
            ("VVVV", &[6, 6, -9], Ok(())),
            ("VVVV", &[6, -9, -9], UNHEALTHY),
            ("VVL", &[-9, 6], UNHEALTHY),
            ("VL", &[-9], Ok(())),
        ];
        for (kinds, seconds, expected) in table {
            for is_learner in [false, true] {
                let answer = judge(kinds, seconds, |seen| may_add(seen, is_learner));
                assert_eq!(answer, expected, "{kinds} {seconds:?}");
            }
        }
    }

    #[test]
    fn a_member_is_removed_only_if_the_others_that_run_are_a_quorum() {
        let table = [
            ("V", 1, STARTED),
            ("V", 9, Ok(())),
            ("VL", 1, STARTED),
            ("VL", 2, Ok(())),
            ("VV", 2, Ok(())),
            ("Vv", 2, Ok(())),
            ("Vv", 1, STARTED),
            ("VVv", 2, STARTED),
            ("VVv", 3, Ok(())),
            ("VVVv", 1, Ok(())),
        ];
        for (kinds, id, expected) in table {
            let answer = judge(kinds, &[], |seen| may_remove(seen, id));
            assert_eq!(answer, expected, "{kinds} without {id}");
        }
    }

    #[test]
    fn one_that_is_down_may_go_and_one_that_works_only_if_the_rest_does() {
        let table: [(&str, &[i64], u64, _); 7] = [
            ("VVV", &[6, 6], 1, Ok(())),
            ("VVV", &[6, 6], 3, Ok(())),
            ("VVV", &[6, -9], 3, Ok(())),
            ("VVV", &[6, -9], 2, UNHEALTHY),
            ("VVV", &[6, -9], 1, UNHEALTHY),
            ("VVV", &[1, 1], 2, UNHEALTHY),
            ("VVL", &[-9, -9], 3, Ok(())),
        ];
        for (kinds, seconds, id, expected) in table {
            let answer = judge(kinds, seconds, |seen| may_remove(seen, id));
            assert_eq!(answer, expected, "{kinds} {seconds:?} without {id}");
        }
    }

    #[test]
    fn a_learner_is_promoted_if_those_that_run_are_a_quorum_with_it() {
        for (kinds, expected) in [
            ("VL", Ok(())),
            ("VvL", Ok(())),
            ("VvvL", STARTED),
            ("VVvL", Ok(())),
        ] {
            assert_eq!(judge(kinds, &[], may_promote), expected, "{kinds}");
        }
    }

    #[test]
    fn a_learner_is_ready_with_nine_tenths_of_what_the_leader_has() {
        let ready = |peers: &[PeerStatus], id, last_index| {
            let cluster = SeenByLeader {
                leader: 1,
                last_index,
                peers: peers.to_vec(),
            };
            let seen = Seen {
                members: &members("VL"),
                cluster: &cluster,
            };
            is_learner_ready(&seen, id)
        };
        let at = |id, matched_index| PeerStatus {
            id,
            matched_index,
            ..PeerStatus::default()
        };
        let lags = Err(error::LEARNER_NOT_READY);
        assert_eq!(ready(&[at(2, 90)], 2, 100), Ok(()));
        assert_eq!(ready(&[at(2, 89)], 2, 100), lags);
        assert_eq!(ready(&[at(2, u64::MAX)], 2, u64::MAX), Ok(()));
        assert_eq!(ready(&[at(7, 100)], 2, 100), lags, "not connected");
        assert_eq!(ready(&[], 2, 100), lags, "it was never heard of");
        assert_eq!(ready(&[], 9, 100), Err(error::MEMBER_NOT_FOUND));
        assert_eq!(ready(&[at(2, 0)], 1, 100), Ok(()), "it votes already");
    }
}
