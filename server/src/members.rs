//! What a member tells the cluster of itself: its line in the table of members, at the start and when it has changed.

use proto::command::MemberChange;
use proto::command::command::Op;
use proto::command::member_change::{Bootstrap, Change, Publish};
use proto::etcd::etcdserverpb::Member;
use store::Members;

use crate::node::{Call, CallError, Node};

/// Makes sure that the table tells of this member as it is. Proposes nothing if it does; else one command, and a second
/// one if the first members were told without the attributes of this one.
///
/// An error may be tried again, but for a refusal: then this member was removed.
pub async fn publish(
    node: &Node,
    call: &Call,
    initial_members: Vec<Member>,
    own: Member,
) -> Result<(), CallError> {
    if let Some(change) = first(&node.reader().view().members, initial_members) {
        propose(node, call, change).await?;
    }
    let change = attributes(&node.reader().view().members, own);
    match change {
        Some(change) => propose(node, call, change).await,
        None => Ok(()),
    }
}

/// The first members, if there are none.
fn first(members: &Members, initial: Vec<Member>) -> Option<Change> {
    let members = Some(initial).filter(|initial| members.is_empty() && !initial.is_empty())?;
    Some(Change::Bootstrap(Bootstrap { members }))
}

/// What a member says of itself, if the table says something else.
fn attributes(members: &Members, own: Member) -> Option<Change> {
    let is_told = |told: &Member| told.name == own.name && told.client_urls == own.client_urls;
    if members.get(own.id).is_some_and(is_told) {
        return None;
    }
    Some(Change::Publish(Publish {
        id: own.id,
        name: own.name,
        client_urls: own.client_urls,
    }))
}

async fn propose(node: &Node, call: &Call, change: Change) -> Result<(), CallError> {
    let change = MemberChange {
        change: Some(change),
    };
    node.propose(call, Op::MemberChange(change)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str) -> Member {
        Member {
            id,
            name: name.to_owned(),
            client_urls: vec![format!("http://{name}:2379")],
            ..Member::default()
        }
    }

    #[test]
    fn the_first_members_are_told_only_where_there_are_none() {
        let initial = vec![member(1, "one"), member(2, "two")];
        let change = first(&Members::default(), initial.clone());
        let told = Bootstrap {
            members: initial.clone(),
        };
        assert_eq!(change, Some(Change::Bootstrap(told)));
        let members = Members::from_iter([member(7, "seven")]);
        assert_eq!(first(&members, initial), None);
    }

    #[test]
    fn a_member_tells_its_attributes_when_they_differ() {
        let members = Members::from_iter([member(1, "one"), member(2, "two")]);
        assert_eq!(attributes(&members, member(1, "one")), None);
        let mut moved = member(1, "one");
        moved.client_urls.push("http://other:2379".to_owned());
        let mut known = member(2, "two");
        // Not its own to tell.
        known.is_learner = true;
        assert_eq!(attributes(&members, known), None);
        for changed in [moved, member(1, "other"), member(9, "nine")] {
            let publish = Publish {
                id: changed.id,
                name: changed.name.clone(),
                client_urls: changed.client_urls.clone(),
            };
            let change = attributes(&members, changed);
            assert_eq!(change, Some(Change::Publish(publish)));
        }
    }
}
