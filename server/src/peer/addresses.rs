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
        addresses.set(members);
        addresses
    }

    /// Forgets what it knew.
    pub fn set(&self, members: impl IntoIterator<Item = Member>) {
        *self.members.write() = members
            .into_iter()
            .map(|member| (member.id, member))
            .collect();
    }

    /// Remembers those that were removed.
    pub fn set_removed(&self, removed: impl IntoIterator<Item = u64>) {
        *self.removed.write() = removed.into_iter().collect();
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
        self.members.read().values().cloned().collect()
    }

    /// Whether a member is known.
    pub fn knows(&self, member: u64) -> bool {
        self.members.read().contains_key(&member)
    }
}
