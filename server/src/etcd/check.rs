//! What is wrong with a request by itself: the rules that etcd checks before consensus.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use prost::encoding::encoded_len_varint;
use proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use super::error::{self, Status};

/// Checks a range, alone or within a transaction.
pub fn range(request: &RangeRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(error::EMPTY_KEY);
    }
    sort_order(request)?;
    Ok(())
}

/// Checks a range that is answered as a stream: in the order of keys, also if that is asked for in so many words.
/// Without an order the target means nothing there.
pub fn range_stream(request: &RangeRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(error::EMPTY_KEY);
    }
    let is_by_key = match sort_order(request)? {
        SortOrder::None => true,
        SortOrder::Ascend => request.sort_target() == SortTarget::Key,
        SortOrder::Descend => false,
    };
    if !is_by_key {
        return Err(error::STREAM_SORT);
    }
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if bounds.iter().any(|&bound| bound != 0) {
        Err(error::STREAM_FILTER)
    } else {
        Ok(())
    }
}

/// The order that is asked for, if it and its target exist.
fn sort_order(request: &RangeRequest) -> Result<SortOrder, Status> {
    SortTarget::try_from(request.sort_target).map_err(|_| error::INVALID_SORT_OPTION)?;
    SortOrder::try_from(request.sort_order).map_err(|_| error::INVALID_SORT_OPTION)
}

/// Checks a put.
pub fn put(request: &PutRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(error::EMPTY_KEY);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(error::VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(error::LEASE_PROVIDED);
    }
    Ok(())
}

/// Checks a range delete.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        Err(error::EMPTY_KEY)
    } else {
        Ok(())
    }
}

/// Checks how long a write becomes in etcd's log, to the byte: the request and its length under a tag of one byte,
/// and, under a tag of two, a header with the request's id, which begins with the end of the member's.
pub fn size(request: usize, member_id: u64, limit: usize) -> Result<(), Status> {
    let id = member_id << 48 | 1 << 47;
    let header = 1 + encoded_len_varint(id);
    let logged = 1 + encoded_len_varint(request as u64) + request + 2 + 1 + header;
    if logged > limit {
        Err(error::TOO_LARGE)
    } else {
        Ok(())
    }
}

/// Checks a transaction: its size, each operation, and that no path writes a key twice.
pub fn txn(request: &TxnRequest, max_ops: usize) -> Result<(), Status> {
    operations(request, max_ops, MAX_DEPTH)?;
    writes(&request.success)?;
    writes(&request.failure)?;
    Ok(())
}

/// Whether a transaction reads only, so that it needs no place in the log. A nested one never does.
pub fn is_read_only(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether all ranges of a read-only transaction are serializable; also if there is none.
pub fn is_serializable(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

/// How deep transactions may be nested. The decoder reads 100 levels of messages, a transaction takes two, and
/// the log wraps it in two more: what gets into the log must be readable there on every member, for ever.
const MAX_DEPTH: usize = 32;

/// A nested transaction has what the outer one leaves as its own budget, so nesting ends.
fn operations(request: &TxnRequest, max_ops: usize, depth: usize) -> Result<(), Status> {
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(error::TOO_MANY_OPS);
    };
    let longest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let Some(left) = max_ops.checked_sub(longest) else {
        return Err(error::TOO_MANY_OPS);
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(error::EMPTY_KEY);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => operations(request, left, deeper)?,
            None => return Err(error::KEY_NOT_FOUND),
        }
    }
    Ok(())
}

/// What one branch may write.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a [u8]>,
    deletes: Deletes<'a>,
}

/// Keys that are deleted: single ones, and disjoint half-open intervals by their start. A binary search keeps
/// the check of a hostile transaction from taking quadratic time.
#[derive(Default)]
struct Deletes<'a> {
    keys: HashSet<&'a [u8]>,
    ranges: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Deletes<'a> {
    /// An end of one zero byte counts as that plain end, so such a delete covers nothing here. etcd does the same.
    fn add(&mut self, request: &'a DeleteRangeRequest) {
        if request.range_end.is_empty() {
            self.keys.insert(&request.key);
        } else {
            self.add_range(&request.key, &request.range_end);
        }
    }

    fn add_range(&mut self, mut start: &'a [u8], mut end: &'a [u8]) {
        if end <= start {
            return;
        }
        while let Some((&known_start, &known_end)) = self.ranges.range(..=end).next_back() {
            if known_end < start {
                break;
            }
            self.ranges.remove(known_start);
            start = start.min(known_start);
            end = end.max(known_end);
        }
        self.ranges.insert(start, end);
    }

    fn covers(&self, key: &[u8]) -> bool {
        if self.keys.contains(key) {
            return true;
        }
        let up_to_key = (Bound::Unbounded, Bound::Included(key));
        self.ranges
            .range::<[u8], _>(up_to_key)
            .next_back()
            .is_some_and(|(_, &end)| key < end)
    }

    fn append(&mut self, other: Self) {
        self.keys.extend(other.keys);
        for (start, end) in other.ranges {
            self.add_range(start, end);
        }
    }
}

/// Collects the writes of one branch, nested ones included. A key may be put once on every path and must not be
/// deleted on it as well; the two branches of one transaction are never on the same path.
fn writes(ops: &[RequestOp]) -> Result<Writes<'_>, Status> {
    let mut writes = Writes::default();
    // The usual transaction has one write in a branch: nothing can collide.
    if let [op] = ops
        && !matches!(op.request, Some(Request::RequestTxn(_)))
    {
        match &op.request {
            Some(Request::RequestPut(put)) => {
                writes.puts.insert(&put.key);
            }
            Some(Request::RequestDeleteRange(delete)) => writes.deletes.add(delete),
            _ => {}
        }
        return Ok(writes);
    }
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            writes.deletes.add(delete);
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            let success = self::writes(&nested.success)?;
            let failure = self::writes(&nested.failure)?;
            for key in &success.puts {
                if writes.puts.contains(key) || writes.deletes.covers(key) {
                    return Err(error::DUPLICATE_KEY);
                }
            }
            for key in &failure.puts {
                if writes.puts.contains(key) || writes.deletes.covers(key) {
                    return Err(error::DUPLICATE_KEY);
                }
            }
            writes.puts.extend(success.puts);
            writes.puts.extend(failure.puts);
            writes.deletes.append(success.deletes);
            writes.deletes.append(failure.deletes);
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request
            && (writes.deletes.covers(&put.key) || !writes.puts.insert(&put.key))
        {
            return Err(error::DUPLICATE_KEY);
        }
    }
    Ok(writes)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::etcd::etcdserverpb::Compare;

    use super::*;

    fn put_of(key: &'static str) -> RequestOp {
        let request = PutRequest {
            key: Bytes::from(key),
            ..Default::default()
        };
        RequestOp {
            request: Some(Request::RequestPut(request)),
        }
    }

    fn delete_of(key: &'static str, range_end: &'static str) -> RequestOp {
        let request = DeleteRangeRequest {
            key: Bytes::from(key),
            range_end: Bytes::from(range_end),
            prev_kv: false,
        };
        RequestOp {
            request: Some(Request::RequestDeleteRange(request)),
        }
    }

    fn range_of(key: &'static str) -> RequestOp {
        let request = RangeRequest {
            key: Bytes::from(key),
            ..Default::default()
        };
        RequestOp {
            request: Some(Request::RequestRange(request)),
        }
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestTxn(TxnRequest {
                compare: vec![],
                success,
                failure,
            })),
        }
    }

    fn check(success: Vec<RequestOp>) -> Result<(), Status> {
        txn(
            &TxnRequest {
                compare: vec![],
                success,
                failure: vec![],
            },
            128,
        )
    }

    #[test]
    fn empty_keys_are_refused_everywhere() {
        assert_eq!(range(&RangeRequest::default()), Err(error::EMPTY_KEY));
        assert_eq!(
            range_stream(&RangeRequest::default()),
            Err(error::EMPTY_KEY)
        );
        assert_eq!(put(&PutRequest::default()), Err(error::EMPTY_KEY));
        assert_eq!(
            delete_range(&DeleteRangeRequest::default()),
            Err(error::EMPTY_KEY)
        );
        for op in [put_of(""), delete_of("", "z"), range_of("")] {
            assert_eq!(check(vec![nested(vec![], vec![op])]), Err(error::EMPTY_KEY));
        }
        let compare = TxnRequest {
            compare: vec![Compare::default()],
            ..Default::default()
        };
        assert_eq!(txn(&compare, 128), Err(error::EMPTY_KEY));
    }

    #[test]
    fn unknown_enum_values_are_an_invalid_sort_option() {
        let key = Bytes::from("a");
        for request in [
            RangeRequest {
                key: key.clone(),
                sort_order: 3,
                ..Default::default()
            },
            RangeRequest {
                key: key.clone(),
                sort_target: 5,
                ..Default::default()
            },
            RangeRequest {
                key,
                sort_target: -1,
                ..Default::default()
            },
        ] {
            assert_eq!(range(&request), Err(error::INVALID_SORT_OPTION));
            assert_eq!(range_stream(&request), Err(error::INVALID_SORT_OPTION));
        }
    }

    #[test]
    fn a_range_stream_ignores_the_target_but_takes_no_order_but_that_of_keys_and_no_filter() {
        let key = Bytes::from("a");
        let target = RangeRequest {
            key: key.clone(),
            sort_target: 4,
            ..Default::default()
        };
        assert_eq!(range_stream(&target), Ok(()));
        for (sort_order, sort_target, expected) in [
            (1, 0, Ok(())),
            (1, 1, Err(error::STREAM_SORT)),
            (2, 0, Err(error::STREAM_SORT)),
        ] {
            let order = RangeRequest {
                key: key.clone(),
                sort_order,
                sort_target,
                ..Default::default()
            };
            assert_eq!(range_stream(&order), expected);
        }
        let filter = RangeRequest {
            key,
            min_create_revision: 1,
            ..Default::default()
        };
        assert_eq!(range_stream(&filter), Err(error::STREAM_FILTER));
    }

    #[test]
    fn what_a_put_ignores_must_not_be_given() {
        let key = Bytes::from("a");
        let value = PutRequest {
            key: key.clone(),
            value: "v".into(),
            ignore_value: true,
            ..Default::default()
        };
        assert_eq!(put(&value), Err(error::VALUE_PROVIDED));
        let lease = PutRequest {
            key,
            lease: 1,
            ignore_lease: true,
            ..Default::default()
        };
        assert_eq!(put(&lease), Err(error::LEASE_PROVIDED));
    }

    #[test]
    fn an_operation_that_is_none_is_a_missing_key() {
        assert_eq!(
            check(vec![RequestOp { request: None }]),
            Err(error::KEY_NOT_FOUND)
        );
    }

    #[test]
    fn the_longest_list_counts_and_nested_ones_get_the_rest() {
        let of_three = |op: fn() -> RequestOp| vec![op(), op(), op()];
        let request = TxnRequest {
            success: of_three(|| range_of("a")),
            ..Default::default()
        };
        assert_eq!(txn(&request, 3), Ok(()));
        assert_eq!(txn(&request, 2), Err(error::TOO_MANY_OPS));
        let outer = TxnRequest {
            success: vec![nested(of_three(|| range_of("a")), vec![])],
            ..Default::default()
        };
        assert_eq!(txn(&outer, 4), Ok(()));
        assert_eq!(txn(&outer, 3), Err(error::TOO_MANY_OPS));
    }

    #[test]
    fn a_write_is_as_long_as_in_etcds_log() {
        // Ids of ten, nine and seven bytes.
        for (member_id, beside) in [(0xffff, 18), (0x7fff, 17), (0x10000, 15)] {
            let limit = 1_572_864;
            assert_eq!(size(limit - beside, member_id, limit), Ok(()));
            let beyond = limit - beside + 1;
            assert_eq!(size(beyond, member_id, limit), Err(error::TOO_LARGE));
        }
    }

    #[test]
    fn a_key_is_put_once_on_a_path() {
        assert_eq!(check(vec![put_of("a"), put_of("b")]), Ok(()));
        assert_eq!(
            check(vec![put_of("a"), put_of("a")]),
            Err(error::DUPLICATE_KEY)
        );
        let both_branches = TxnRequest {
            compare: vec![],
            success: vec![put_of("a")],
            failure: vec![put_of("a")],
        };
        assert_eq!(txn(&both_branches, 128), Ok(()));
    }

    #[test]
    fn a_put_must_not_meet_a_delete_in_any_order() {
        assert_eq!(
            check(vec![delete_of("a", ""), put_of("a")]),
            Err(error::DUPLICATE_KEY)
        );
        assert_eq!(
            check(vec![put_of("a"), delete_of("a", "")]),
            Err(error::DUPLICATE_KEY)
        );
        assert_eq!(
            check(vec![put_of("b"), delete_of("a", "c")]),
            Err(error::DUPLICATE_KEY)
        );
        assert_eq!(check(vec![put_of("c"), delete_of("a", "c")]), Ok(()));
        assert_eq!(check(vec![put_of("Z"), delete_of("a", "c")]), Ok(()));
    }

    #[test]
    fn deletes_may_overlap_and_still_cover_what_lies_between() {
        let deletes = || {
            vec![
                delete_of("c", "e"),
                delete_of("a", "d"),
                delete_of("b", ""),
                delete_of("g", "h"),
            ]
        };
        assert_eq!(check(deletes()), Ok(()));
        for (key, is_covered) in [
            ("a", true),
            ("dz", true),
            ("e", false),
            ("f", false),
            ("gg", true),
            ("h", false),
        ] {
            let mut ops = deletes();
            ops.push(put_of(key));
            assert_eq!(check(ops).is_err(), is_covered, "{key}");
        }
    }

    #[test]
    fn an_open_ended_delete_does_not_count() {
        assert_eq!(check(vec![delete_of("a", "\0"), put_of("b")]), Ok(()));
    }

    #[test]
    fn branches_of_a_nested_txn_exclude_each_other_but_not_the_outer_one() {
        assert_eq!(
            check(vec![nested(vec![put_of("a")], vec![put_of("a")])]),
            Ok(())
        );
        assert_eq!(
            check(vec![
                nested(vec![put_of("a")], vec![put_of("a")]),
                put_of("a")
            ]),
            Err(error::DUPLICATE_KEY)
        );
        assert_eq!(
            check(vec![
                nested(vec![put_of("a")], vec![]),
                nested(vec![], vec![put_of("a")])
            ]),
            Err(error::DUPLICATE_KEY)
        );
        assert_eq!(
            check(vec![nested(vec![delete_of("a", "c")], vec![]), put_of("b")]),
            Err(error::DUPLICATE_KEY)
        );
        assert_eq!(
            check(vec![delete_of("a", "c"), nested(vec![], vec![put_of("b")])]),
            Err(error::DUPLICATE_KEY)
        );
    }

    #[test]
    fn only_ranges_at_the_top_level_make_a_txn_read_only() {
        let reads = TxnRequest {
            success: vec![range_of("a")],
            ..Default::default()
        };
        assert!(is_read_only(&reads) && !is_serializable(&reads));
        let deep = TxnRequest {
            success: vec![nested(vec![range_of("a")], vec![])],
            ..Default::default()
        };
        assert!(!is_read_only(&deep));
        let writes = TxnRequest {
            failure: vec![put_of("a")],
            ..Default::default()
        };
        assert!(!is_read_only(&writes));
        let empty = TxnRequest::default();
        assert!(is_read_only(&empty) && is_serializable(&empty));
    }
}
