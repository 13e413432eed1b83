//! The Cluster service: who the members are, and changes of that. Headers of this service carry no revision.
//!
//! What a change needs to know of the network is asked here; everything else is judged where the command is applied.

use proto::command::MemberChange;
use proto::command::command::Op;
use proto::command::member_change::{Add, Change, Promote, Remove, Update};
use proto::etcd::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};
use store::Answer;

use super::error::{self, Status};
use super::kv;
use super::reconfigure::{self, Seen};
use super::{Context, Outcome, Service};
use crate::config::check_peer;
use crate::identity;

/// Answers `MemberList`.
pub(super) async fn member_list(
    service: &Service,
    context: &Context,
    request: MemberListRequest,
) -> Result<Outcome, Status> {
    if request.linearizable {
        service.node.read_barrier(&context.call).await?;
    }
    let answer = MemberListResponse {
        header: Some(service.node.header(0)),
        members: service.members(),
    };
    Ok(Outcome::of_message(&answer))
}

/// Answers `MemberAdd`. The new member is started afterwards, and publishes its name then.
pub(super) async fn member_add(
    service: &Service,
    context: &Context,
    request: MemberAddRequest,
) -> Result<Outcome, Status> {
    let mut peer_urls = checked(&request.peer_urls)?;
    peer_urls.sort_unstable();
    let is_learner = request.is_learner;
    if service.options.is_reconfig_strict {
        service
            .judge(|seen| reconfigure::may_add(seen, is_learner))
            .await?;
    }
    let seconds = i64::try_from(service.node.wall_ms() / 1000).unwrap_or(i64::MAX);
    let member = Member {
        // As in etcd, without the cluster's token.
        id: identity::added_member_id(&peer_urls, "", seconds),
        peer_urls,
        is_learner,
        ..Member::default()
    };
    let add = Add {
        member: Some(member.clone()),
        max_learners: service.options.max_learners,
    };
    let answer = MemberAddResponse {
        members: service.change_members(context, Change::Add(add)).await?,
        member: Some(member),
        header: Some(service.node.header(0)),
    };
    Ok(Outcome::of_message(&answer))
}

/// Answers `MemberRemove`.
pub(super) async fn member_remove(
    service: &Service,
    context: &Context,
    request: MemberRemoveRequest,
) -> Result<Outcome, Status> {
    let id = request.id;
    if service.options.is_reconfig_strict {
        service
            .judge(|seen| reconfigure::may_remove(seen, id))
            .await?;
    }
    let remove = Change::Remove(Remove { id });
    let answer = MemberRemoveResponse {
        members: service.change_members(context, remove).await?,
        header: Some(service.node.header(0)),
    };
    Ok(Outcome::of_message(&answer))
}

/// Answers `MemberUpdate`. Addresses that are none are refused as in `MemberAdd`: etcd takes them, and ends.
pub(super) async fn member_update(
    service: &Service,
    context: &Context,
    request: MemberUpdateRequest,
) -> Result<Outcome, Status> {
    let update = Change::Update(Update {
        id: request.id,
        peer_urls: checked(&request.peer_urls)?,
    });
    let answer = MemberUpdateResponse {
        members: service.change_members(context, update).await?,
        header: Some(service.node.header(0)),
    };
    Ok(Outcome::of_message(&answer))
}

/// Answers `MemberPromote`. The leader says how far the learner is.
pub(super) async fn member_promote(
    service: &Service,
    context: &Context,
    request: MemberPromoteRequest,
) -> Result<Outcome, Status> {
    let id = request.id;
    let judged = service.judge(|seen| {
        reconfigure::is_learner_ready(seen, id)?;
        if service.options.is_reconfig_strict {
            reconfigure::may_promote(seen)?;
        }
        Ok(())
    });
    judged.await?;
    let promote = Change::Promote(Promote { id });
    let answer = MemberPromoteResponse {
        members: service.change_members(context, promote).await?,
        header: Some(service.node.header(0)),
    };
    Ok(Outcome::of_message(&answer))
}

/// The addresses, without white space around them, if they are such.
fn checked(peer_urls: &[String]) -> Result<Vec<String>, Status> {
    let peer_urls: Vec<_> = peer_urls.iter().map(|url| url.trim()).collect();
    if peer_urls.is_empty() || peer_urls.iter().any(|url| check_peer(url).is_err()) {
        return Err(error::BAD_MEMBER_URLS);
    }
    Ok(peer_urls.into_iter().map(str::to_owned).collect())
}

impl Service {
    /// The members; this one alone while nothing was said about them.
    pub(super) fn members(&self) -> Vec<Member> {
        let members = self.node.reader().view().members.clone();
        if members.is_empty() {
            return vec![self.options.member.clone()];
        }
        members.list()
    }

    /// Judges a change of members by what the leader sees of the cluster now: who is asked may be one that others cannot
    /// reach, and knows nothing of them.
    async fn judge(
        &self,
        may_change: impl FnOnce(&Seen<'_>) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let cluster = self.node.seen_by_leader().await?;
        let view = self.node.reader().view();
        let seen = Seen {
            members: &view.members,
            cluster: &cluster,
        };
        may_change(&seen).inspect_err(|refusal| {
            tracing::warn!(
                reason = refusal.text(),
                members = ?view.members.list(),
                ?cluster,
                "refused a change of members"
            );
        })
    }

    /// Carries out a change of members; answers all of them.
    async fn change_members(
        &self,
        context: &Context,
        change: Change,
    ) -> Result<Vec<Member>, Status> {
        let said = format!("{change:?}");
        let op = Op::MemberChange(MemberChange {
            change: Some(change),
        });
        match self.node.propose(&context.call, op).await? {
            Answer::Members(members) => {
                tracing::info!(change = said, "changed the members");
                Ok(members)
            }
            _ => Err(kv::mismatch()),
        }
    }
}
