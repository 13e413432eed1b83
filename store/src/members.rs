//! The members that the cluster is to have: a table that commands change, and that raft's configuration follows.
//!
//! A change is decided here, by every node alike; what it needs to know of the network was asked before it was proposed.
//!
//! - A table that is not empty has a member that votes.
//! - An id that was removed is never used again: a member that was away must not come back as somebody else.
//! - The version grows with each change, so that who follows the table need not compare it.

use std::collections::{BTreeMap, BTreeSet};

use proto::command::MemberTable;
use proto::command::member_change::{Add, Change, Publish, Update};
use proto::etcd::etcdserverpb::Member;

use crate::answer::Refusal;
use crate::mutant::{self, Mutant};

/// The members, and who was one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
    version: u64,
}

impl Members {
    /// All of them, by id.
    pub fn list(&self) -> Vec<Member> {
        self.iter().cloned().collect()
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Those that vote, by id.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.iter().filter(|member| !member.is_learner)
    }

    /// The one of this id.
    pub fn get(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    /// Whether nothing was said about members yet.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether there was a member of this id.
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// The ids of those that were removed, ascending.
    pub fn removed(&self) -> impl Iterator<Item = u64> {
        self.removed.iter().copied()
    }

    /// Grows with each change; 0 before the first.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Carries out a change; answers whether anything is different now. The table of a node changes by commands alone:
    /// elsewhere this is for who looks ahead.
    pub fn change(&mut self, change: &Change) -> Result<bool, Refusal> {
        let has_changed = match change {
            Change::Bootstrap(bootstrap) => self.bootstrap(&bootstrap.members),
            Change::Add(add) => self.add(add)?,
            Change::Remove(remove) => self.remove(remove.id)?,
            Change::Update(update) => self.update(update)?,
            Change::Promote(promote) => self.promote(promote.id)?,
            Change::Publish(publish) => self.publish(publish)?,
        };
        self.version = self.version.saturating_add(has_changed.into());
        Ok(has_changed)
    }

    fn bootstrap(&mut self, members: &[Member]) -> bool {
        let members = members.iter().map(|member| (member.id, member.clone()));
        let members: BTreeMap<_, _> = members.collect();
        let has_voter = members.values().any(|member| !member.is_learner);
        let is_possible = has_voter && !members.contains_key(&0);
        let is_taken = self.is_empty() && is_possible;
        if is_taken {
            self.members = members;
        }
        is_taken
    }

    fn add(&mut self, add: &Add) -> Result<bool, Refusal> {
        let member = add.member.clone().unwrap_or_default();
        let id = member.id;
        self.refuse_removed(id)?;
        if self.is_empty() {
            // Whoever is in the cluster is not in the table yet, and would be thought removed.
            return Err(Refusal::NoVoter);
        }
        if id == 0 {
            return Err(Refusal::MemberNotFound(id));
        }
        if self.members.contains_key(&id) {
            return Err(Refusal::MemberExists(id));
        }
        self.refuse_used(id, &member.peer_urls)?;
        let learners = self.iter().filter(|member| member.is_learner).count();
        if member.is_learner && learners as u64 >= add.max_learners {
            return Err(Refusal::TooManyLearners);
        }
        self.members.insert(id, member);
        Ok(true)
    }

    fn remove(&mut self, id: u64) -> Result<bool, Refusal> {
        self.refuse_removed(id)?;
        let member = self.get(id).ok_or(Refusal::MemberNotFound(id))?;
        if !member.is_learner && self.voters().count() == 1 {
            return Err(Refusal::NoVoter);
        }
        self.members.remove(&id);
        if !mutant::is_on(Mutant::RemovedMemberForgotten) {
            self.removed.insert(id);
        }
        Ok(true)
    }

    fn update(&mut self, update: &Update) -> Result<bool, Refusal> {
        let member = self.existing(update.id)?;
        let has_changed = member.peer_urls != update.peer_urls;
        self.refuse_used(update.id, &update.peer_urls)?;
        self.existing(update.id)?
            .peer_urls
            .clone_from(&update.peer_urls);
        Ok(has_changed)
    }

    fn promote(&mut self, id: u64) -> Result<bool, Refusal> {
        let member = self.existing(id)?;
        if !member.is_learner {
            return Err(Refusal::MemberNotLearner(id));
        }
        member.is_learner = false;
        Ok(true)
    }

    fn publish(&mut self, publish: &Publish) -> Result<bool, Refusal> {
        let member = self.existing(publish.id)?;
        let has_changed = member.name != publish.name || member.client_urls != publish.client_urls;
        member.name.clone_from(&publish.name);
        member.client_urls.clone_from(&publish.client_urls);
        Ok(has_changed)
    }

    fn existing(&mut self, id: u64) -> Result<&mut Member, Refusal> {
        self.refuse_removed(id)?;
        let member = self.members.get_mut(&id);
        member.ok_or(Refusal::MemberNotFound(id))
    }

    fn refuse_removed(&self, id: u64) -> Result<(), Refusal> {
        if self.is_removed(id) {
            return Err(Refusal::MemberRemoved(id));
        }
        Ok(())
    }

    /// Refuses addresses of others than this member.
    fn refuse_used(&self, id: u64, peer_urls: &[String]) -> Result<(), Refusal> {
        let others = self.iter().filter(|member| member.id != id);
        let used = others
            .flat_map(|member| &member.peer_urls)
            .find(|url| peer_urls.contains(url));
        used.map_or(Ok(()), |url| Err(Refusal::PeerUrlExists(url.clone())))
    }

    /// As it is stored.
    pub(crate) fn to_table(&self) -> MemberTable {
        MemberTable {
            members: self.list(),
            removed: self.removed().collect(),
            version: self.version,
        }
    }

    /// From what is stored; none if that cannot be a table.
    pub(crate) fn from_table(table: MemberTable) -> Option<Self> {
        let members = table.members.into_iter().map(|member| (member.id, member));
        let members: BTreeMap<_, _> = members.collect();
        let removed: BTreeSet<_> = table.removed.into_iter().collect();
        let is_possible =
            !members.contains_key(&0) && removed.iter().all(|id| !members.contains_key(id));
        is_possible.then_some(Self {
            members,
            removed,
            version: table.version,
        })
    }
}

impl FromIterator<Member> for Members {
    fn from_iter<T: IntoIterator<Item = Member>>(members: T) -> Self {
        let members = members.into_iter().map(|member| (member.id, member));
        Self {
            members: members.collect(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::command::member_change::{Bootstrap, Promote, Remove};

    use super::*;

    fn member(id: u64, is_learner: bool) -> Member {
        Member {
            id,
            peer_urls: vec![format!("http://m{id}:2380")],
            is_learner,
            ..Member::default()
        }
    }

    fn add(member: Member) -> Change {
        Change::Add(Add {
            member: Some(member),
            max_learners: 1,
        })
    }

    fn bootstrap(members: Vec<Member>) -> Change {
        Change::Bootstrap(Bootstrap { members })
    }

    fn remove(id: u64) -> Change {
        Change::Remove(Remove { id })
    }

    fn promote(id: u64) -> Change {
        Change::Promote(Promote { id })
    }

    fn update(id: u64, url: &str) -> Change {
        Change::Update(Update {
            id,
            peer_urls: vec![url.to_owned()],
        })
    }

    fn publish(id: u64, name: &str) -> Change {
        Change::Publish(Publish {
            id,
            name: name.to_owned(),
            client_urls: vec![format!("http://{name}:2379")],
        })
    }

    fn ids(members: &Members) -> Vec<u64> {
        members.iter().map(|member| member.id).collect()
    }

    /// A table of two voters, 1 and 2.
    fn two() -> Members {
        let mut members = Members::default();
        let voters = vec![member(2, false), member(1, false)];
        assert_eq!(members.change(&bootstrap(voters)), Ok(true));
        members
    }

    #[test]
    fn the_first_members_are_taken_once_and_only_with_a_voter() {
        let mut members = Members::default();
        for none in [vec![], vec![member(1, true)], vec![member(0, false)]] {
            assert_eq!(members.change(&bootstrap(none)), Ok(false));
        }
        assert_eq!((members.is_empty(), members.version()), (true, 0));
        let mut members = two();
        assert_eq!(
            members.change(&bootstrap(vec![member(3, false)])),
            Ok(false)
        );
        assert_eq!((ids(&members), members.version()), (vec![1, 2], 1));
    }

    #[test]
    fn nobody_is_added_before_the_first_or_twice_or_under_an_address_in_use() {
        let mut members = Members::default();
        let third = member(3, false);
        assert_eq!(members.change(&add(third.clone())), Err(Refusal::NoVoter));
        let mut members = two();
        assert_eq!(members.change(&add(third.clone())), Ok(true));
        assert_eq!(ids(&members), [1, 2, 3]);
        assert_eq!(members.change(&add(third)), Err(Refusal::MemberExists(3)));
        let mut other = member(4, false);
        other.peer_urls.push("http://m1:2380".to_owned());
        let used = Refusal::PeerUrlExists("http://m1:2380".to_owned());
        assert_eq!(members.change(&add(other)), Err(used));
        let nobody = add(Member::default());
        assert_eq!(members.change(&nobody), Err(Refusal::MemberNotFound(0)));
        assert_eq!(members.version(), 2, "refusals change nothing");
    }

    #[test]
    fn learners_are_few_and_vote_once_promoted() {
        let mut members = two();
        assert_eq!(members.change(&add(member(3, true))), Ok(true));
        let fourth = add(member(4, true));
        assert_eq!(members.change(&fourth), Err(Refusal::TooManyLearners));
        assert_eq!(members.voters().count(), 2);
        assert_eq!(members.change(&promote(3)), Ok(true));
        assert_eq!(members.voters().count(), 3);
        let again = members.change(&promote(3));
        assert_eq!(again, Err(Refusal::MemberNotLearner(3)));
        assert_eq!(members.change(&promote(9)), Err(Refusal::MemberNotFound(9)));
        assert_eq!(members.change(&fourth), Ok(true));
    }

    #[test]
    fn who_was_removed_never_comes_back_and_a_voter_stays() {
        let mut members = two();
        assert_eq!(members.change(&remove(1)), Ok(true));
        assert!(members.is_removed(1));
        for refused in [
            remove(1),
            promote(1),
            add(member(1, false)),
            update(1, "http://x:1"),
            publish(1, "one"),
        ] {
            assert_eq!(members.change(&refused), Err(Refusal::MemberRemoved(1)));
        }
        assert_eq!(members.change(&remove(3)), Err(Refusal::MemberNotFound(3)));
        assert_eq!(members.change(&add(member(3, true))), Ok(true));
        assert_eq!(members.change(&remove(2)), Err(Refusal::NoVoter));
        assert_eq!(members.change(&remove(3)), Ok(true));
        assert_eq!((ids(&members), members.version()), (vec![2], 4));
        assert_eq!(Vec::from_iter(members.removed()), [1, 3]);
    }

    #[test]
    fn addresses_and_names_change_without_anything_else() {
        let mut members = two();
        members.change(&add(member(3, true))).unwrap();
        assert_eq!(members.change(&publish(3, "three")), Ok(true));
        assert_eq!(members.change(&update(3, "http://x:1")), Ok(true));
        let expected = Member {
            id: 3,
            name: "three".to_owned(),
            peer_urls: vec!["http://x:1".to_owned()],
            client_urls: vec!["http://three:2379".to_owned()],
            is_learner: true,
        };
        assert_eq!(members.get(3), Some(&expected));
        let version = members.version();
        for same in [publish(3, "three"), update(3, "http://x:1")] {
            assert_eq!(members.change(&same), Ok(false), "nothing is new");
        }
        assert_eq!(members.version(), version);
        let used = members.change(&update(3, "http://m2:2380"));
        assert!(matches!(used, Err(Refusal::PeerUrlExists(_))));
        let unknown = members.change(&publish(9, "nine"));
        assert_eq!(unknown, Err(Refusal::MemberNotFound(9)));
    }
}
