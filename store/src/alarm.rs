//! Alarms: set by command, kept until a command clears them, and what they refuse meanwhile.
//!
//! They are a part of the state, so every member refuses the same commands. What raises one is decided elsewhere.

use std::collections::BTreeSet;

use proto::command::command::Op;
use proto::etcd::etcdserverpb::alarm_request::AlarmAction;
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, PutRequest, RequestOp, TxnRequest,
};

use crate::answer::Refusal;
use crate::mutant::{self, Mutant};

/// The alarms that are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// Type, then member. The type is the wire's number: one that this version does not know is kept all the same.
    active: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// Those of a type; with [`AlarmType::None`] all of them. By type, then by member.
    pub fn list(&self, alarm: i32) -> Vec<AlarmMember> {
        let all = alarm == AlarmType::None as i32;
        let wanted = self
            .active
            .iter()
            .filter(|(active, _)| all || *active == alarm);
        wanted
            .map(|&(alarm, member_id)| AlarmMember { member_id, alarm })
            .collect()
    }

    /// Whether any member has this alarm on.
    pub fn is_on(&self, alarm: AlarmType) -> bool {
        self.active
            .range((alarm as i32, 0)..=(alarm as i32, u64::MAX))
            .next()
            .is_some()
    }

    /// Whether this member has this alarm on.
    pub fn is_on_of(&self, alarm: AlarmType, member_id: u64) -> bool {
        self.active.contains(&(alarm as i32, member_id))
    }

    /// Why a command is refused while these alarms are on, if it is.
    ///
    /// Damage is stronger than want of space: it refuses everything that writes, also what would free some.
    pub fn refuses(&self, op: &Op) -> Option<Refusal> {
        if self.active.is_empty() || mutant::is_on(Mutant::AlarmIgnored) {
            return None;
        }
        let writes = match op {
            Op::Put(_)
            | Op::DeleteRange(_)
            | Op::Txn(_)
            | Op::Compact(_)
            | Op::LeaseGrant(_)
            | Op::LeaseRevoke(_)
            | Op::LeaseExpiry(_) => true,
            // Whoever repairs a cluster needs the first two; the last says what is so anyway.
            Op::Alarm(_) | Op::MemberChange(_) | Op::LeaseCheckpoints(_) => false,
        };
        if writes && self.is_on(AlarmType::Corrupt) {
            return Some(Refusal::Corrupt);
        }
        (charge(op) > 0 && self.is_on(AlarmType::Nospace)).then_some(Refusal::NoSpace)
    }

    /// Carries out a request; answers the alarms that it is about, and whether any changed.
    pub(crate) fn change(&mut self, request: &AlarmRequest) -> (Vec<AlarmMember>, bool) {
        let named = (request.alarm, request.member_id);
        let entry = AlarmMember {
            member_id: request.member_id,
            alarm: request.alarm,
        };
        match request.action() {
            AlarmAction::Get => (self.list(request.alarm), false),
            AlarmAction::Activate if request.alarm == AlarmType::None as i32 => (Vec::new(), false),
            // One that is on already is answered, too.
            AlarmAction::Activate => (vec![entry], self.active.insert(named)),
            AlarmAction::Deactivate => {
                let was_on = self.active.remove(&named);
                (Vec::from_iter(was_on.then_some(entry)), was_on)
            }
        }
    }

    /// The numbers to store: type and member of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i32, u64)> {
        self.active.iter().copied()
    }
}

impl FromIterator<(i32, u64)> for Alarms {
    fn from_iter<T: IntoIterator<Item = (i32, u64)>>(active: T) -> Self {
        Self {
            active: active.into_iter().collect(),
        }
    }
}

/// What a key costs beside its bytes.
const KEY: u64 = 256;
/// What a lease costs.
const LEASE: u64 = 64;

/// What a command costs of the space that is left: zero for one that adds nothing.
///
/// Of a transaction the dearer branch counts, whichever will be taken.
pub fn charge(op: &Op) -> u64 {
    match op {
        Op::Put(request) => put_charge(request),
        Op::Txn(request) => txn_charge(request),
        Op::LeaseGrant(_) => LEASE,
        Op::DeleteRange(_)
        | Op::Compact(_)
        | Op::Alarm(_)
        | Op::MemberChange(_)
        | Op::LeaseRevoke(_)
        | Op::LeaseCheckpoints(_)
        | Op::LeaseExpiry(_) => 0,
    }
}

/// [`charge`] of a put.
pub fn put_charge(request: &PutRequest) -> u64 {
    KEY + request.key.len() as u64 + request.value.len() as u64
}

/// [`charge`] of a transaction.
pub fn txn_charge(request: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| -> u64 {
        let charges = ops.iter().map(|op| match &op.request {
            Some(Request::RequestPut(request)) => put_charge(request),
            Some(Request::RequestTxn(request)) => txn_charge(request),
            Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => 0,
        });
        charges.sum()
    };
    branch(&request.success).max(branch(&request.failure))
}
