//! Rules of ranges that clients rely on.

use std::sync::Arc;

use proto::command::command::Op;
use proto::etcd::etcdserverpb::RangeRequest;
use proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use store::engine::memory::MemoryEngine;
use store::{Machine, Options, Refusal};

use crate::commands::{apply, delete, keys, put, range, read};

/// Keys a, b, c, d, then b again, then without c: revisions 2 to 7.
fn machine() -> Machine {
    let mut machine = Machine::open(Arc::new(MemoryEngine::new()), Options::default()).unwrap();
    let mut ops: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|key| Op::Put(put(key, "1")))
        .collect();
    ops.push(Op::Put(put("b", "0")));
    ops.push(Op::DeleteRange(delete("c", "")));
    apply(&mut machine, ops);
    machine
}

#[test]
fn range_end_says_one_key_all_keys_or_an_interval() {
    let machine = machine();
    let found = |key: &str, end: &str| {
        let answer = read(&machine, &range(key, end)).unwrap();
        keys(&answer).concat()
    };
    assert_eq!(found("b", ""), "b");
    assert_eq!(found("b", "\0"), "bd");
    assert_eq!(found("\0", "\0"), "abd");
    assert_eq!(found("a", "b"), "a");
    assert_eq!(found("b", "b"), "");
    assert_eq!(found("d", "a"), "");
    assert_eq!(found("c", ""), "");
}

#[test]
fn count_ignores_the_limit_at_every_revision() {
    let machine = machine();
    for (revision, count) in [(0, 3), (7, 3), (6, 4), (3, 2), (1, 0)] {
        let request = RangeRequest {
            limit: 1,
            revision,
            ..range("a", "z")
        };
        let found = read(&machine, &request).unwrap();
        assert_eq!(
            (found.count, found.more),
            (count, count > 1),
            "at {revision}"
        );
        assert_eq!(found.records.len(), usize::from(count > 0));
        let found = read(
            &machine,
            &RangeRequest {
                count_only: true,
                ..request
            },
        )
        .unwrap();
        assert_eq!(
            (found.count, found.more, found.records.len()),
            (count, false, 0)
        );
    }
}

#[test]
fn a_limit_that_is_just_met_leaves_no_more() {
    let machine = machine();
    for revision in [0, 6] {
        let count = read(
            &machine,
            &RangeRequest {
                revision,
                ..range("a", "z")
            },
        )
        .unwrap()
        .count;
        let request = RangeRequest {
            limit: count,
            revision,
            ..range("a", "z")
        };
        assert!(!read(&machine, &request).unwrap().more);
    }
}

#[test]
fn an_old_revision_shows_old_values_and_deleted_keys() {
    let machine = machine();
    let found = read(
        &machine,
        &RangeRequest {
            revision: 5,
            ..range("b", "d")
        },
    )
    .unwrap();
    assert_eq!(keys(&found), ["b", "c"]);
    assert_eq!(found.records[0].value(), b"1");
}

#[test]
fn a_future_revision_is_refused() {
    let request = RangeRequest {
        revision: 8,
        ..range("a", "")
    };
    let refusal = Refusal::FutureRevision {
        requested: 8,
        current: 7,
    };
    assert_eq!(read(&machine(), &request), Err(refusal));
}

#[test]
fn keys_only_leaves_out_values() {
    let found = read(
        &machine(),
        &RangeRequest {
            keys_only: true,
            ..range("a", "z")
        },
    )
    .unwrap();
    assert_eq!(keys(&found), ["a", "b", "d"]);
    assert!(found.records.iter().all(|record| record.value().is_empty()));
    assert_eq!(found.records[1].version(), 2);
}

#[test]
fn filters_come_before_the_limit_and_sorting_between_them() {
    let request = RangeRequest {
        min_mod_revision: 3,
        sort_target: SortTarget::Mod.into(),
        sort_order: SortOrder::Descend.into(),
        limit: 1,
        ..range("a", "z")
    };
    let found = read(&machine(), &request).unwrap();
    assert_eq!(
        (keys(&found), found.count, found.more),
        (vec!["b"], 3, true)
    );
}

#[test]
fn a_target_without_an_order_sorts_only_the_first_limit_plus_one() {
    let by_mod = SortTarget::Mod.into();
    let request = RangeRequest {
        sort_target: by_mod,
        limit: 1,
        ..range("b", "z")
    };
    let found = read(&machine(), &request).unwrap();
    assert_eq!((keys(&found), found.more), (vec!["d"], true));
    let request = RangeRequest {
        limit: 1,
        ..RangeRequest {
            sort_target: by_mod,
            ..range("a", "z")
        }
    };
    assert_eq!(keys(&read(&machine(), &request).unwrap()), ["a"]);
}
