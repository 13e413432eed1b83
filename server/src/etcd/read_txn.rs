//! A transaction that only reads, evaluated on one view: it needs no place in the log.
//!
//! Its compares and revision checks follow the rules by which the state machine evaluates those that write.

use std::cmp::Ordering;

use proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::response_op::Response;
use proto::etcd::etcdserverpb::{
    Compare, RangeRequest, RangeResponse, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use store::{Reader, Record, Refusal, StoreError, View};

/// Evaluates a transaction whose operations are ranges; others are left unanswered.
pub(super) fn evaluate(
    reader: &Reader,
    view: &View,
    request: &TxnRequest,
) -> Result<Result<TxnResponse, Refusal>, StoreError> {
    let mut succeeded = true;
    for compare in &request.compare {
        succeeded = holds(reader, view, compare)?;
        if !succeeded {
            break;
        }
    }
    let ops = if succeeded {
        &request.success
    } else {
        &request.failure
    };
    let ranges = || {
        ops.iter().map(|op| match &op.request {
            Some(Request::RequestRange(range)) => Some(range),
            _ => None,
        })
    };
    // All or nothing: the whole path is checked before anything of it is read.
    for range in ranges().flatten() {
        if let Err(refusal) = check_revision(view, range) {
            return Ok(Err(refusal));
        }
    }
    let header = Some(ResponseHeader {
        revision: view.revision,
        ..ResponseHeader::default()
    });
    let mut responses = Vec::with_capacity(ops.len());
    for range in ranges() {
        let response = match range {
            None => None,
            Some(range) => match reader.range(view, range)? {
                Err(refusal) => return Ok(Err(refusal)),
                Ok(answer) => Some(Response::ResponseRange(RangeResponse {
                    header,
                    kvs: answer.records.iter().map(Record::to_key_value).collect(),
                    more: answer.more,
                    count: answer.count,
                })),
            },
        };
        responses.push(ResponseOp { response });
    }
    Ok(Ok(TxnResponse {
        header,
        succeeded,
        responses,
    }))
}

/// Inside a transaction a negative revision counts as one, and so may be compacted.
fn check_revision(view: &View, range: &RangeRequest) -> Result<(), Refusal> {
    let requested = range.revision;
    if requested > view.revision {
        return Err(Refusal::FutureRevision {
            requested,
            current: view.revision,
        });
    }
    if requested != 0 && requested < view.compact_revision {
        return Err(Refusal::Compacted {
            requested,
            compacted: view.compact_revision,
        });
    }
    Ok(())
}

/// Whether every key of a compare satisfies it; no key at all is one missing key.
fn holds(reader: &Reader, view: &View, compare: &Compare) -> Result<bool, StoreError> {
    let range = RangeRequest {
        key: compare.key.clone(),
        range_end: compare.range_end.clone(),
        ..RangeRequest::default()
    };
    let mut found = None;
    let totals = reader.range_visit(view, &range, &mut |record| {
        found = Some(found.unwrap_or(true) && record_holds(compare, Some(record)));
    })?;
    debug_assert!(totals.is_ok(), "the newest revision is never refused");
    Ok(found.unwrap_or_else(|| record_holds(compare, None)))
}

fn record_holds(compare: &Compare, record: Option<&Record>) -> bool {
    let union = compare.target_union.as_ref();
    let number = |field: fn(&Record) -> i64, wanted: Option<i64>| {
        record.map_or(0, field).cmp(&wanted.unwrap_or_default())
    };
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => number(
            Record::version,
            union.and_then(|union| {
                if let TargetUnion::Version(wanted) = union {
                    Some(*wanted)
                } else {
                    None
                }
            }),
        ),
        Ok(CompareTarget::Create) => number(
            Record::create_revision,
            union.and_then(|union| {
                if let TargetUnion::CreateRevision(wanted) = union {
                    Some(*wanted)
                } else {
                    None
                }
            }),
        ),
        Ok(CompareTarget::Mod) => number(
            Record::mod_revision,
            union.and_then(|union| {
                if let TargetUnion::ModRevision(wanted) = union {
                    Some(*wanted)
                } else {
                    None
                }
            }),
        ),
        Ok(CompareTarget::Lease) => number(
            Record::lease,
            union.and_then(|union| {
                if let TargetUnion::Lease(wanted) = union {
                    Some(*wanted)
                } else {
                    None
                }
            }),
        ),
        Ok(CompareTarget::Value) => {
            // A missing key has no value that could equal or differ.
            let Some(record) = record else { return false };
            let wanted: &[u8] = if let Some(TargetUnion::Value(wanted)) = union {
                wanted
            } else {
                &[]
            };
            record.value().cmp(wanted)
        }
        // As etcd does with numbers that it does not know.
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use store::record::Fields;

    use super::*;

    fn compare(
        result: CompareResult,
        target: CompareTarget,
        union: Option<TargetUnion>,
    ) -> Compare {
        Compare {
            result: result.into(),
            target: target.into(),
            target_union: union,
            ..Default::default()
        }
    }

    #[test]
    fn a_missing_key_has_zero_numbers_and_no_value() {
        for target in [
            CompareTarget::Version,
            CompareTarget::Create,
            CompareTarget::Mod,
            CompareTarget::Lease,
        ] {
            assert!(record_holds(
                &compare(CompareResult::Equal, target, None),
                None
            ));
            assert!(!record_holds(
                &compare(CompareResult::NotEqual, target, None),
                None
            ));
        }
        for result in [
            CompareResult::Equal,
            CompareResult::NotEqual,
            CompareResult::Greater,
            CompareResult::Less,
        ] {
            assert!(!record_holds(
                &compare(result, CompareTarget::Value, None),
                None
            ));
        }
    }

    #[test]
    fn every_target_is_compared_with_its_own_field() {
        let fields = Fields {
            key: b"k",
            create_revision: 2,
            mod_revision: 3,
            version: 4,
            value: b"v",
            lease: 5,
        };
        let record = Record::new(&fields);
        let table = [
            (CompareTarget::Create, TargetUnion::CreateRevision(2)),
            (CompareTarget::Mod, TargetUnion::ModRevision(3)),
            (CompareTarget::Version, TargetUnion::Version(4)),
            (CompareTarget::Lease, TargetUnion::Lease(5)),
            (CompareTarget::Value, TargetUnion::Value("v".into())),
        ];
        for (target, union) in table {
            assert!(record_holds(
                &compare(CompareResult::Equal, target, Some(union.clone())),
                Some(&record)
            ));
            assert!(!record_holds(
                &compare(CompareResult::Less, target, Some(union)),
                Some(&record)
            ));
            // A union of another target counts as absent.
            let other = compare(CompareResult::Greater, target, Some(TargetUnion::Lease(0)));
            assert!(record_holds(&other, Some(&record)));
        }
    }
}
