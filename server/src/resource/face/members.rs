//! `/holdfast/members`: the members of the cluster, and how each is by its own word, or else by the leader's.

use std::time::Duration;

use futures_util::future::{join, join_all};
use proto::etcd::etcdserverpb::{Member, StatusResponse};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::ETCD_VERSION;
use crate::node::{Node, PeerStatus, SeenByLeader};
use crate::resource::Api;
use crate::status::ask::Endpoint;
use crate::status::role;

/// How long another member may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long an answer serves all who ask: however many pages are open, the others are asked no more often.
const FRESH: Duration = Duration::from_secs(1);

/// The last answer. Whoever asks while the others are being asked waits for that answer.
#[derive(Default)]
pub(super) struct Asked(Mutex<Option<(Instant, Value)>>);

impl Api {
    pub(super) async fn members(&self) -> Value {
        let mut last = self.face.asked.0.lock().await;
        if let Some((at, value)) = &*last
            && at.elapsed() < FRESH
        {
            return value.clone();
        }
        let value = ask_all(&self.registry.node).await;
        *last = Some((Instant::now(), value.clone()));
        value
    }
}

/// How one member is.
struct Row {
    member: Member,
    is_asked: bool,
    answer: Result<StatusResponse, String>,
}

async fn ask_all(node: &Node) -> Value {
    let view = node.reader().view();
    let own = node.status();
    let mut members = view.members.list();
    if members.is_empty() {
        // Nothing was said about them yet.
        members.push(Member {
            id: own.member_id,
            ..Member::default()
        });
    }
    // Members come in the order of their ids, which say nothing to anybody.
    members.sort_by(|one, other| one.name.cmp(&other.name));
    let rows = join_all(members.into_iter().map(|member| ask(node, member)));
    let (rows, seen) = join(rows, node.seen_by_leader()).await;
    // Without a leader nobody sees the others.
    let seen = seen.unwrap_or_default();
    let told: Vec<Value> = rows.iter().map(|row| row.tell(&rows, &seen)).collect();
    json!({
        "cluster": format!("{:x}", own.cluster_id),
        "member": format!("{:x}", own.member_id),
        "leader": own.has_leader.then(|| format!("{:x}", own.leader)),
        "term": own.term,
        "revision": view.revision,
        "compacted": view.compact_revision.max(0),
        "version": crate::config::HOLDFAST_VERSION,
        "members": told,
    })
}

async fn ask(node: &Node, member: Member) -> Row {
    let is_asked = member.id == node.status().member_id;
    let answer = if is_asked {
        Ok(own_status(node))
    } else if member.client_urls.is_empty() {
        Err("has not started yet: its client address is not known".to_owned())
    } else {
        ask_other(&member).await
    };
    Row {
        member,
        is_asked,
        answer,
    }
}

/// By the first of its addresses that answers.
async fn ask_other(member: &Member) -> Result<StatusResponse, String> {
    let mut complaint = String::new();
    for url in &member.client_urls {
        match Endpoint::new(url, PATIENCE).status().await {
            Ok(status) => return Ok(status),
            Err(silence) => complaint = silence.to_string(),
        }
    }
    Err(complaint)
}

/// What this member says of itself, in the words in which the others do.
fn own_status(node: &Node) -> StatusResponse {
    let status = node.status();
    let (quota, space) = (&node.admission().quota, &node.admission().space);
    let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    let view = node.reader().view();
    let alarms = view.alarms.list(0).into_iter().map(|alarm| {
        let what = alarm.alarm().as_str_name();
        format!("alarm {what} of member {:x}", alarm.member_id)
    });
    StatusResponse {
        header: Some(node.header(view.revision)),
        version: ETCD_VERSION.to_owned(),
        db_size: bytes(quota.size()),
        db_size_in_use: bytes(quota.size_in_use()),
        leader: status.leader,
        raft_index: status.committed_index,
        raft_term: status.term,
        raft_applied_index: status.applied_index,
        is_learner: status.is_learner,
        errors: alarms.chain(space.complaint()).collect(),
        ..StatusResponse::default()
    }
}

impl Row {
    fn tell(&self, all: &[Row], seen: &SeenByLeader) -> Value {
        let member = &self.member;
        let mut told = json!({
            "id": format!("{:x}", member.id),
            "name": member.name,
            "clientURLs": member.client_urls,
            "isLearner": member.is_learner,
            "isAsked": self.is_asked,
            "role": role(self.answer.as_ref().ok()),
            "lag": self.lag(all, seen),
        });
        let peer = seen.peers.iter().find(|peer| peer.id == member.id);
        told["isConnected"] = match peer {
            Some(PeerStatus { is_connected, .. }) => (*is_connected).into(),
            None if member.id == seen.leader => true.into(),
            None => Value::Null,
        };
        match &self.answer {
            Ok(status) => {
                told["term"] = status.raft_term.into();
                told["revision"] = status.header.as_ref().map(|header| header.revision).into();
                told["databaseBytes"] = status.db_size.into();
                told["databaseBytesInUse"] = status.db_size_in_use.into();
                told["errors"] = status.errors.clone().into();
            }
            Err(complaint) => told["complaint"] = complaint.as_str().into(),
        }
        told
    }

    /// How many entries the leader has that this one has not applied, by their own words; or else, that it is not known
    /// to have.
    fn lag(&self, all: &[Row], seen: &SeenByLeader) -> Option<u64> {
        let status = |row: &'_ Row| row.answer.as_ref().ok().cloned();
        let leader = status(self).map_or(seen.leader, |status| status.leader);
        let leader = all.iter().find(|row| row.member.id == leader);
        if let (Some(leader), Some(own)) = (leader.and_then(status), status(self)) {
            return Some(leader.raft_index.saturating_sub(own.raft_applied_index));
        }
        let peer = seen.peers.iter().find(|peer| peer.id == self.member.id)?;
        Some(seen.last_index.saturating_sub(peer.matched_index))
    }
}
