//! What the state machine must do, in the plainest way: all states of all revisions as maps.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::command::command::Op;
use proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::response_op::Response;
use proto::etcd::etcdserverpb::{
    CompactionResponse, Compare, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantResponse,
    LeaseRevokeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader,
    ResponseOp, TxnRequest, TxnResponse,
};
use proto::etcd::mvccpb::KeyValue;
use store::leases::Term;
use store::{Answer, Refusal};

pub(crate) type State = BTreeMap<Bytes, KeyValue>;

/// A change of a key: the key, the new version or none, the old one or none.
pub(crate) type Change = (Bytes, Option<KeyValue>, Option<KeyValue>);

#[derive(Clone)]
pub(crate) struct Model {
    /// States by revision; the first is that of revision 1.
    pub(crate) states: Vec<State>,
    /// Changes by revision.
    pub(crate) changes: Vec<Vec<Change>>,
    pub(crate) compact_revision: i64,
    /// The leases of now. The keys of each are those that name it.
    pub(crate) leases: BTreeMap<i64, Term>,
}

/// A command at work.
struct Work {
    state: State,
    changes: Vec<Change>,
    revision: i64,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            states: vec![State::new()],
            changes: vec![Vec::new()],
            compact_revision: -1,
            leases: BTreeMap::new(),
        }
    }

    /// The keys of a lease.
    pub(crate) fn keys_of(&self, id: i64) -> Vec<Bytes> {
        let state = self.states.last().unwrap();
        let of_lease = state.values().filter(|kv| kv.lease == id);
        of_lease.map(|kv| kv.key.clone()).collect()
    }

    fn end_lease(&mut self, work: &mut Work, id: i64) -> Result<Answer, Refusal> {
        self.leases.remove(&id).ok_or(Refusal::LeaseNotFound(id))?;
        for key in self.keys_of(id) {
            work.delete(&DeleteRangeRequest {
                key,
                ..Default::default()
            });
        }
        let header = work.header();
        Ok(Answer::LeaseRevoke(LeaseRevokeResponse { header }))
    }

    pub(crate) fn revision(&self) -> i64 {
        self.states.len() as i64
    }

    pub(crate) fn state_at(&self, revision: i64) -> &State {
        &self.states[revision as usize - 1]
    }

    pub(crate) fn apply(&mut self, op: &Op) -> Result<Answer, Refusal> {
        let mut work = Work {
            state: self.states.last().unwrap().clone(),
            changes: Vec::new(),
            revision: self.revision(),
        };
        let answer = match op {
            Op::Put(request) => {
                self.check_put(&work.state, request)?;
                Answer::Put(work.put(request))
            }
            Op::DeleteRange(request) => Answer::DeleteRange(work.delete(request)),
            Op::Txn(request) => {
                let before = work.state.clone();
                self.check(&before, request)?;
                let mut response = self.run(&before, &mut work, request);
                response.header = work.header();
                Answer::Txn(response)
            }
            Op::Compact(request) => {
                let (requested, current) = (request.revision, self.revision());
                if requested <= self.compact_revision {
                    return Err(Refusal::Compacted {
                        requested,
                        compacted: self.compact_revision,
                    });
                }
                if requested > current {
                    return Err(Refusal::FutureRevision { requested, current });
                }
                self.compact_revision = requested;
                Answer::Compact(CompactionResponse {
                    header: work.header(),
                })
            }
            Op::LeaseGrant(request) => {
                let (id, ttl) = (request.id, request.ttl);
                if self.leases.contains_key(&id) {
                    return Err(Refusal::LeaseExists(id));
                }
                self.leases.insert(id, Term { ttl, remaining: 0 });
                Answer::LeaseGrant(LeaseGrantResponse {
                    header: work.header(),
                    id,
                    ttl,
                    error: String::new(),
                })
            }
            Op::LeaseRevoke(request) => self.end_lease(&mut work, request.id)?,
            // All entries are of this term.
            Op::LeaseExpiry(expiry) if expiry.term == 1 => self.end_lease(&mut work, expiry.id)?,
            Op::LeaseCheckpoints(noted) if noted.term == 1 => {
                for one in &noted.checkpoints {
                    if let Some(term) = self.leases.get_mut(&one.id) {
                        term.remaining = one.remaining_ttl.min(term.ttl);
                    }
                }
                Answer::LeaseCheckpoints
            }
            Op::LeaseExpiry(_) | Op::LeaseCheckpoints(_) => return Err(Refusal::LeaderGone),
            Op::Alarm(_) => panic!("what alarms do is modelled in alarms.rs"),
            Op::MemberChange(_) => panic!("what becomes of members is modelled in members.rs"),
        };
        if !work.changes.is_empty() {
            // As etcd tells it: what was before a change is what was before its revision.
            let (before, revision) = (self.states.last().unwrap(), work.revision + 1);
            for (key, new, old) in &mut work.changes {
                let creates = new
                    .as_ref()
                    .is_some_and(|new| new.create_revision == revision);
                *old = before.get(key).filter(|_| !creates).cloned();
            }
            self.states.push(work.state);
            self.changes.push(work.changes);
        }
        Ok(answer)
    }

    pub(crate) fn range(
        &self,
        request: &RangeRequest,
    ) -> Result<(Vec<KeyValue>, i64, bool), Refusal> {
        let (requested, current) = (request.revision, self.revision());
        if requested > current {
            return Err(Refusal::FutureRevision { requested, current });
        }
        if requested > 0 && requested < self.compact_revision {
            return Err(Refusal::Compacted {
                requested,
                compacted: self.compact_revision,
            });
        }
        Ok(range(
            self.state_at(if requested <= 0 { current } else { requested }),
            request,
        ))
    }

    fn check(&self, before: &State, request: &TxnRequest) -> Result<(), Refusal> {
        for op in path(before, request).1 {
            match op.request.as_ref().unwrap() {
                Request::RequestPut(put) => self.check_put(before, put)?,
                Request::RequestRange(range) => {
                    let (requested, current) = (range.revision, self.revision());
                    if requested > current {
                        return Err(Refusal::FutureRevision { requested, current });
                    }
                    let compacted = self.compact_revision;
                    if requested != 0 && requested < compacted {
                        return Err(Refusal::Compacted {
                            requested,
                            compacted,
                        });
                    }
                }
                Request::RequestTxn(nested) => self.check(before, nested)?,
                Request::RequestDeleteRange(_) => {}
            }
        }
        Ok(())
    }

    fn check_put(&self, before: &State, request: &PutRequest) -> Result<(), Refusal> {
        if request.lease != 0 && !self.leases.contains_key(&request.lease) {
            return Err(Refusal::LeaseNotFound(request.lease));
        }
        if (request.ignore_value || request.ignore_lease) && !before.contains_key(&request.key) {
            Err(Refusal::KeyNotFound)
        } else {
            Ok(())
        }
    }

    fn run(&self, before: &State, work: &mut Work, request: &TxnRequest) -> TxnResponse {
        let (succeeded, ops) = path(before, request);
        let mut responses = Vec::new();
        for op in ops {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestPut(put) => Response::ResponsePut(work.put(put)),
                Request::RequestDeleteRange(delete) => {
                    Response::ResponseDeleteRange(work.delete(delete))
                }
                Request::RequestTxn(nested) => {
                    Response::ResponseTxn(self.run(before, work, nested))
                }
                Request::RequestRange(request) => {
                    let names_old = request.revision > 0 && request.revision != work.shown();
                    let state = if names_old {
                        self.state_at(request.revision)
                    } else {
                        &work.state
                    };
                    let (kvs, count, more) = range(state, request);
                    Response::ResponseRange(RangeResponse {
                        header: work.header(),
                        kvs,
                        more,
                        count,
                    })
                }
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        TxnResponse {
            header: Some(ResponseHeader::default()),
            succeeded,
            responses,
        }
    }
}

impl Work {
    fn shown(&self) -> i64 {
        self.revision + i64::from(!self.changes.is_empty())
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision: self.shown(),
            ..Default::default()
        })
    }

    fn put(&mut self, request: &PutRequest) -> PutResponse {
        let old = self.state.get(&request.key).cloned();
        let mod_revision = self.revision + 1;
        let new = KeyValue {
            key: request.key.clone(),
            create_revision: old.as_ref().map_or(mod_revision, |old| old.create_revision),
            mod_revision,
            version: old.as_ref().map_or(0, |old| old.version) + 1,
            value: match &old {
                Some(old) if request.ignore_value => old.value.clone(),
                _ => request.value.clone(),
            },
            lease: match &old {
                Some(old) if request.ignore_lease => old.lease,
                // One that the same transaction has deleted.
                None if request.ignore_lease => 0,
                _ => request.lease,
            },
        };
        self.state.insert(request.key.clone(), new.clone());
        self.changes
            .push((request.key.clone(), Some(new), old.clone()));
        PutResponse {
            header: self.header(),
            prev_kv: old.filter(|_| request.prev_kv),
        }
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let gone: Vec<_> = select(&self.state, &request.key, &request.range_end);
        for old in &gone {
            self.state.remove(&old.key);
            self.changes
                .push((old.key.clone(), None, Some(old.clone())));
        }
        let deleted = gone.len() as i64;
        let prev_kvs = if request.prev_kv { gone } else { Vec::new() };
        DeleteRangeResponse {
            header: self.header(),
            deleted,
            prev_kvs,
        }
    }
}

fn select(state: &State, key: &[u8], range_end: &[u8]) -> Vec<KeyValue> {
    let is_meant = |found: &[u8]| match range_end {
        [] => found == key,
        [0] => found >= key,
        end => found >= key && found < end,
    };
    state
        .values()
        .filter(|kv| is_meant(&kv.key))
        .cloned()
        .collect()
}

fn range(state: &State, request: &RangeRequest) -> (Vec<KeyValue>, i64, bool) {
    let mut kvs = select(state, &request.key, &request.range_end);
    let count = kvs.len() as i64;
    if request.count_only {
        return (Vec::new(), count, false);
    }
    let limit = if request.limit > 0 {
        request.limit as usize
    } else {
        usize::MAX
    };
    let has_filters = request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    if request.sort_order() == SortOrder::None && !has_filters {
        kvs.truncate(limit.saturating_add(1));
    }
    let within = |found, min, max| (min == 0 || found >= min) && (max == 0 || found <= max);
    kvs.retain(|kv| {
        within(
            kv.mod_revision,
            request.min_mod_revision,
            request.max_mod_revision,
        ) && within(
            kv.create_revision,
            request.min_create_revision,
            request.max_create_revision,
        )
    });
    let order = |left: &KeyValue, right: &KeyValue| match request.sort_target() {
        SortTarget::Key => left.key.cmp(&right.key),
        SortTarget::Version => left.version.cmp(&right.version),
        SortTarget::Create => left.create_revision.cmp(&right.create_revision),
        SortTarget::Mod => left.mod_revision.cmp(&right.mod_revision),
        SortTarget::Value => left.value.cmp(&right.value),
    };
    match request.sort_order() {
        SortOrder::Descend => kvs.sort_by(|left, right| order(right, left)),
        SortOrder::None | SortOrder::Ascend => kvs.sort_by(order),
    }
    let more = kvs.len() > limit;
    kvs.truncate(limit);
    if request.keys_only {
        for kv in &mut kvs {
            kv.value = Bytes::new();
            if request.sort_target() != SortTarget::Value {
                kv.lease = 0;
            }
        }
    }
    (kvs, count, more)
}

fn path<'a>(
    before: &State,
    request: &'a TxnRequest,
) -> (bool, &'a [proto::etcd::etcdserverpb::RequestOp]) {
    let succeeded = request.compare.iter().all(|compare| {
        let found = select(before, &compare.key, &compare.range_end);
        if found.is_empty() {
            return compare.target() != CompareTarget::Value
                && holds(compare, &KeyValue::default());
        }
        found.iter().all(|kv| holds(compare, kv))
    });
    (
        succeeded,
        if succeeded {
            &request.success
        } else {
            &request.failure
        },
    )
}

fn holds(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match compare.target_union.as_ref().unwrap() {
        TargetUnion::Version(wanted) => kv.version.cmp(wanted),
        TargetUnion::CreateRevision(wanted) => kv.create_revision.cmp(wanted),
        TargetUnion::ModRevision(wanted) => kv.mod_revision.cmp(wanted),
        TargetUnion::Value(wanted) => kv.value.cmp(wanted),
        TargetUnion::Lease(wanted) => kv.lease.cmp(wanted),
    };
    match compare.result() {
        CompareResult::Equal => order.is_eq(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
    }
}
