//! The Maintenance service, as far as it is built: `Status`, and `Alarm` for those who only look.

use proto::etcd::etcdserverpb::alarm_request::AlarmAction;
use proto::etcd::etcdserverpb::{
    AlarmRequest, AlarmResponse, DowngradeInfo, StatusRequest, StatusResponse,
};

use super::error::{self, Status};
use super::{Context, Outcome, Service};
use crate::config::{ETCD_CLUSTER_VERSION, ETCD_VERSION};

/// What a quota of zero stands for.
const DEFAULT_QUOTA: i64 = 2 * 1024 * 1024 * 1024;

/// Answers `Status`, from this member alone.
pub(super) async fn status(
    service: &Service,
    _context: &Context,
    _request: StatusRequest,
) -> Result<Outcome, Status> {
    let node = &service.node;
    let status = node.status();
    let engine = node.engine();
    // Tools divide by the size, so it is never zero.
    let allocated = i64::try_from(engine.size()).unwrap_or(i64::MAX).max(1);
    let in_use = i64::try_from(engine.size_in_use())
        .unwrap_or(i64::MAX)
        .min(allocated);
    let no_leader = (!status.has_leader).then(|| error::NO_LEADER.text().to_owned());
    let answer = StatusResponse {
        header: Some(node.header(node.reader().view().revision)),
        version: ETCD_VERSION.to_owned(),
        db_size: allocated,
        leader: status.leader,
        raft_index: status.committed_index,
        raft_term: status.term,
        raft_applied_index: status.applied_index,
        errors: no_leader.into_iter().collect(),
        db_size_in_use: in_use,
        is_learner: status.is_learner,
        storage_version: ETCD_CLUSTER_VERSION.to_owned(),
        db_size_quota: if service.options.quota_bytes == 0 {
            DEFAULT_QUOTA
        } else {
            service.options.quota_bytes
        },
        downgrade_info: Some(DowngradeInfo::default()),
    };
    Ok(Outcome::of_message(&answer))
}

/// Answers `Alarm`. Nothing raises an alarm yet, so the list is empty.
pub(super) async fn alarm(
    service: &Service,
    _context: &Context,
    request: AlarmRequest,
) -> Result<Outcome, Status> {
    if matches!(
        request.action(),
        AlarmAction::Activate | AlarmAction::Deactivate
    ) {
        return Err(error::not_built("Alarm other than GET"));
    }
    let node = &service.node;
    let answer = AlarmResponse {
        header: Some(node.header(node.reader().view().revision)),
        alarms: Vec::new(),
    };
    Ok(Outcome::of_message(&answer))
}
