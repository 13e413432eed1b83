//! The Maintenance service: how this member is, and alarms.

use proto::command::command::Op;
use proto::etcd::etcdserverpb::alarm_request::AlarmAction;
use proto::etcd::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DowngradeInfo, MoveLeaderRequest,
    MoveLeaderResponse, StatusRequest, StatusResponse,
};
use store::Answer;

use super::error::{self, Status};
use super::{Context, Outcome, Service, kv};
use crate::config::{ETCD_CLUSTER_VERSION, ETCD_VERSION};
use crate::node::MoveError;

/// Answers `Status`, from this member alone.
pub(super) async fn status(
    service: &Service,
    _context: &Context,
    _request: StatusRequest,
) -> Result<Outcome, Status> {
    let node = &service.node;
    let status = node.status();
    let (quota, space) = (&node.admission().quota, &node.admission().space);
    let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    let view = node.reader().view();
    let no_leader = (!status.has_leader).then(|| error::NO_LEADER.text().to_owned());
    let alarms = view.alarms.list(AlarmType::None as i32);
    let errors = no_leader
        .into_iter()
        .chain(alarms.iter().map(alarm_text))
        .chain(space.complaint());
    let answer = StatusResponse {
        header: Some(node.header(view.revision)),
        version: ETCD_VERSION.to_owned(),
        db_size: bytes(quota.size()),
        leader: status.leader,
        raft_index: status.committed_index,
        raft_term: status.term,
        raft_applied_index: status.applied_index,
        errors: errors.collect(),
        db_size_in_use: bytes(quota.size_in_use()),
        is_learner: status.is_learner,
        storage_version: ETCD_CLUSTER_VERSION.to_owned(),
        db_size_quota: service.options.quota_bytes,
        downgrade_info: Some(DowngradeInfo::default()),
    };
    Ok(Outcome::of_message(&answer))
}

/// Answers `Alarm`. A list is as fresh as a linearizable read; a change goes through the log.
pub(super) async fn alarm(
    service: &Service,
    context: &Context,
    request: AlarmRequest,
) -> Result<Outcome, Status> {
    let node = &service.node;
    let mut answer = match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => {
            node.read_barrier(&context.call).await?;
            let view = node.reader().view();
            AlarmResponse {
                header: Some(node.header(view.revision)),
                alarms: view.alarms.list(request.alarm),
            }
        }
        Ok(AlarmAction::Activate | AlarmAction::Deactivate) => {
            // Whoever clears the alarm has made room just now, and writes at once.
            node.admission().quota.look(&**node.engine());
            match node.propose(&context.call, Op::Alarm(request)).await? {
                Answer::Alarm(answer) => answer,
                _ => return Err(kv::mismatch()),
            }
        }
        // In etcd such a request ends the server.
        Err(_) => return Err(error::UNKNOWN_METHOD),
    };
    kv::complete(service, &mut answer.header);
    Ok(Outcome::of_message(&answer))
}

/// Answers `MoveLeader`, without a header, as etcd does.
pub(super) async fn move_leader(
    service: &Service,
    _context: &Context,
    request: MoveLeaderRequest,
) -> Result<Outcome, Status> {
    let moved = service.node.move_leader(request.target_id).await;
    moved.map_err(|error| match error {
        MoveError::NotLeader => error::NOT_LEADER,
        MoveError::BadTarget => error::BAD_TRANSFEREE,
        MoveError::TooSlow => error::TRANSFER_TOO_SLOW,
    })?;
    Ok(Outcome::of_message(&MoveLeaderResponse::default()))
}

/// An alarm as etcd prints it among the errors of a status.
fn alarm_text(alarm: &AlarmMember) -> String {
    let mut parts = Vec::new();
    if alarm.member_id != 0 {
        parts.push(format!("memberID:{}", alarm.member_id));
    }
    match AlarmType::try_from(alarm.alarm) {
        Ok(AlarmType::None) => {}
        Ok(kind) => parts.push(format!("alarm:{}", kind.as_str_name())),
        Err(_) => parts.push(format!("alarm:{}", alarm.alarm)),
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_printed_as_go_prints_messages() {
        let text = |member_id, alarm| alarm_text(&AlarmMember { member_id, alarm });
        assert_eq!(text(7, 1), "memberID:7 alarm:NOSPACE");
        assert_eq!(
            text(u64::MAX, 2),
            "memberID:18446744073709551615 alarm:CORRUPT"
        );
        assert_eq!(text(0, 9), "alarm:9");
    }
}
