//! The Cluster service, as far as a cluster of one member needs it.

use proto::etcd::etcdserverpb::{Member, MemberListRequest, MemberListResponse};

use super::error::Status;
use super::{Context, Outcome, Service};

/// Answers `MemberList`. Headers of this service carry no revision.
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

impl Service {
    /// The members; this one alone while nothing was said about them.
    pub(super) fn members(&self) -> Vec<Member> {
        let members = self.node.reader().view().members.clone();
        if members.is_empty() {
            return vec![self.options.member.clone()];
        }
        members.list()
    }
}
