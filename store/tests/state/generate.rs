//! Random commands and questions, with every option there is.

use bytes::Bytes;
use proto::command::command::Op;
use proto::command::{LeaseCheckpoints, LeaseExpiry};
use proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseCheckpoint, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, RangeRequest, TxnRequest,
};
use rand::Rng;
use rand::rngs::StdRng;

use crate::commands::{compact, op};
use crate::model::Model;

/// `SEED`, or another one at each run. It is printed, so that `SEED` repeats what failed. The tests of mutants set
/// `FIRST_SEED`, from which runs of several seeds go on.
pub(crate) fn seed() -> u64 {
    let named = std::env::var("SEED").or_else(|_| std::env::var("FIRST_SEED"));
    let seed = named.map_or_else(
        |_| rand::random::<u32>().into(),
        |seed| seed.parse().unwrap(),
    );
    eprintln!("SEED={seed}");
    seed
}

/// A key; none of the others has a first byte at or above `first + 2`.
fn key_of(random: &mut StdRng, first: u8) -> Bytes {
    let rests: [&[u8]; 5] = [b"", b"\0", b"x", b"x\0", b"\xff"];
    let first = first + random.random_range(0..2);
    [&[first], rests[random.random_range(0..5)]].concat().into()
}

pub(crate) fn key(random: &mut StdRng) -> Bytes {
    let first = if random.random_bool(0.5) { b'a' } else { b'c' };
    key_of(random, first)
}

fn value(random: &mut StdRng) -> Bytes {
    match random.random_range(0..10) {
        0..2 => Bytes::new(),
        // Few enough to be met again by a compare.
        2..5 => [b'a'; 3][..random.random_range(1..4)].to_vec().into(),
        _ => vec![random.random::<u8>(); random.random_range(0..300)].into(),
    }
}

fn range_end(random: &mut StdRng) -> Bytes {
    match random.random_range(0..4) {
        0 => Bytes::new(),
        1 => Bytes::from_static(&[0]),
        _ => key(random),
    }
}

/// Few, so that most are met again.
fn lease(random: &mut StdRng) -> i64 {
    random.random_range(1..5)
}

/// A command about leases.
fn of_leases(random: &mut StdRng) -> Op {
    let id = lease(random);
    // Seldom one of a leader that leads no more.
    let term = if random.random_bool(0.2) { 2 } else { 1 };
    match random.random_range(0..10) {
        0..6 => Op::LeaseGrant(LeaseGrantRequest {
            id,
            ttl: random.random_range(1..100),
        }),
        6 => Op::LeaseRevoke(LeaseRevokeRequest { id }),
        7 => Op::LeaseExpiry(LeaseExpiry { id, term }),
        _ => {
            let checkpoint = |id| LeaseCheckpoint {
                id,
                remaining_ttl: random.random_range(0..120),
            };
            Op::LeaseCheckpoints(LeaseCheckpoints {
                term,
                checkpoints: [id, id % 4 + 1].map(checkpoint).to_vec(),
            })
        }
    }
}

fn put(random: &mut StdRng, key: Bytes) -> PutRequest {
    let ignore_value = random.random_bool(0.1);
    PutRequest {
        key,
        value: if ignore_value {
            Bytes::new()
        } else {
            value(random)
        },
        lease: if random.random_bool(0.15) {
            lease(random)
        } else {
            0
        },
        prev_kv: random.random_bool(0.3),
        ignore_value,
        ignore_lease: random.random_bool(0.05),
    }
}

pub(crate) fn range(random: &mut StdRng, revision: i64) -> RangeRequest {
    let mut some = |odds| {
        if random.random_bool(odds) {
            random.random_range(-1..=revision + 1)
        } else {
            0
        }
    };
    let (min_mod_revision, max_mod_revision) = (some(0.1), some(0.1));
    let (min_create_revision, max_create_revision) = (some(0.1), some(0.1));
    let sort_target = match random.random_range(0..10) {
        0 => SortTarget::Version,
        1 => SortTarget::Create,
        2 => SortTarget::Mod,
        3 => SortTarget::Value,
        _ => SortTarget::Key,
    };
    let sort_order = match random.random_range(0..10) {
        0 => SortOrder::Ascend,
        1 => SortOrder::Descend,
        _ => SortOrder::None,
    };
    RangeRequest {
        key: if random.random_bool(0.3) {
            Bytes::from_static(&[0])
        } else {
            key(random)
        },
        range_end: range_end(random),
        limit: if random.random_bool(0.5) {
            random.random_range(-1..8)
        } else {
            0
        },
        revision: match random.random_range(0..10) {
            0 => -1,
            1 => revision + 1,
            2..5 => revision - random.random_range(0..6),
            5 => random.random_range(0..=revision),
            _ => 0,
        },
        sort_order: sort_order.into(),
        sort_target: sort_target.into(),
        serializable: false,
        keys_only: random.random_bool(0.2),
        count_only: random.random_bool(0.15),
        min_mod_revision,
        max_mod_revision,
        min_create_revision,
        max_create_revision,
    }
}

fn compare(random: &mut StdRng, revision: i64) -> Compare {
    let number = random.random_range(0..=revision);
    let (target, union) = match random.random_range(0..5) {
        0 => (CompareTarget::Version, TargetUnion::Version(number % 4)),
        1 => (CompareTarget::Create, TargetUnion::CreateRevision(number)),
        2 => (CompareTarget::Mod, TargetUnion::ModRevision(number)),
        3 => (CompareTarget::Value, TargetUnion::Value(value(random))),
        _ => (CompareTarget::Lease, TargetUnion::Lease(number % 5)),
    };
    let result = [
        CompareResult::Equal,
        CompareResult::NotEqual,
        CompareResult::Greater,
        CompareResult::Less,
    ][random.random_range(0..4)];
    Compare {
        result: result.into(),
        target: target.into(),
        key: key(random),
        range_end: range_end(random),
        target_union: Some(union),
    }
}

/// No key is put twice, as the server demands; of put and deleted ones it lets some pass, in any order.
fn txn(random: &mut StdRng, revision: i64, depth: usize, free: &mut Vec<Bytes>) -> TxnRequest {
    let mut branch = |random: &mut StdRng| {
        let mut ops = Vec::new();
        for _ in 0..random.random_range(0..4) {
            ops.push(op(match random.random_range(0..10) {
                0..4 => match free.pop() {
                    Some(key) => Request::RequestPut(put(random, key)),
                    None => continue,
                },
                4..6 => {
                    let first = if random.random_bool(0.5) { b'a' } else { b'c' };
                    let key = key_of(random, first);
                    let range_end = match random.random_range(0..6) {
                        0 => Bytes::from_static(&[0]),
                        1..3 => key_of(random, first),
                        _ => Bytes::new(),
                    };
                    let prev_kv = random.random_bool(0.5);
                    Request::RequestDeleteRange(DeleteRangeRequest {
                        key,
                        range_end,
                        prev_kv,
                    })
                }
                6 if depth < 2 => Request::RequestTxn(txn(random, revision, depth + 1, free)),
                _ => {
                    let mut request = range(random, revision);
                    if random.random_bool(0.8) {
                        request.revision = request.revision.clamp(0, revision);
                    }
                    Request::RequestRange(request)
                }
            }));
        }
        ops
    };
    let (success, failure) = (branch(random), branch(random));
    let compares = random.random_range(0..3);
    TxnRequest {
        compare: (0..compares).map(|_| compare(random, revision)).collect(),
        success,
        failure,
    }
}

pub(crate) fn command(random: &mut StdRng, model: &Model) -> Op {
    let revision = model.revision();
    match random.random_range(0..100) {
        0..6 => of_leases(random),
        6..50 => {
            let key = key(random);
            Op::Put(put(random, key))
        }
        50..65 => Op::DeleteRange(DeleteRangeRequest {
            key: key(random),
            range_end: if random.random_bool(0.7) {
                Bytes::new()
            } else {
                range_end(random)
            },
            prev_kv: random.random_bool(0.5),
        }),
        65..97 => {
            let mut free: Vec<_> = (0..6).map(|_| key_of(random, b'a')).collect();
            free.sort();
            free.dedup();
            Op::Txn(txn(random, revision, 0, &mut free))
        }
        _ => compact(
            random.random_range(model.compact_revision.max(revision - 30) - 1..=revision + 1),
        ),
    }
}
