//! Where each member is reached: as told at the first start, then as the cluster has it.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::RwLock;
use proto::etcd::etcdserverpb::Member;

/// The members and their peer addresses.
#[derive(Default)]
pub struct Addresses {
    members: RwLock<BTreeMap<u64, Member>>,
    removed: RwLock<BTreeSet<u64>>,
}

impl Addresses {
    /// Those of the first start.
    pub fn new(members: impl IntoIterator<Item = Member>) -> Self {
        let addresses = Self::default();
        addresses.set(members, []);
        addresses
    }

    /// Those there are now, and the ids of those that were removed. Of these the addresses are kept: a removed member is
    /// spoken to until raft has dropped it.
    pub fn set(
        &self,
        members: impl IntoIterator<Item = Member>,
        removed: impl IntoIterator<Item = u64>,
    ) {
        let removed: BTreeSet<u64> = removed.into_iter().collect();
        let mut known = self.members.write();
        known.retain(|id, _| removed.contains(id));
        known.extend(members.into_iter().map(|member| (member.id, member)));
        *self.removed.write() = removed;
    }

    /// Whether a member was removed.
    pub fn has_removed(&self, member: u64) -> bool {
        self.removed.read().contains(&member)
    }

    /// The peer addresses of a member; none if it is not known.
    pub fn of(&self, member: u64) -> Vec<String> {
        let members = self.members.read();
        members
            .get(&member)
            .map_or_else(Vec::new, |member| member.peer_urls.clone())
    }

    /// Everybody, by id.
    pub fn all(&self) -> Vec<Member> {
        let members = self.members.read();
        let there = members.values().filter(|one| !self.has_removed(one.id));
        there.cloned().collect()
    }

    /// Whether a member is known.
    pub fn knows(&self, member: u64) -> bool {
        self.members.read().contains_key(&member) && !self.has_removed(member)
    }
}
