//! Leases: what commands about them do, and that they outlive restarts, crashes and changes of the database.

use std::sync::Arc;

use proto::command::command::Op;
use proto::command::{LeaseCheckpoints, LeaseExpiry};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{
    LeaseCheckpoint, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
};
use store::engine::memory::MemoryEngine;
use store::leases::{LeaseChange, Term};
use store::{Answer, Machine, Options, Refusal};

use crate::commands::{apply, apply_one, delete, keys, put, range, read, txn};

fn machine() -> (Machine, Arc<MemoryEngine>) {
    let engine = Arc::new(MemoryEngine::new());
    let machine = Machine::open(engine.clone(), Options::default()).unwrap();
    (machine, engine)
}

fn grant(id: i64, ttl: i64) -> Op {
    Op::LeaseGrant(LeaseGrantRequest { ttl, id })
}

fn revoke(id: i64) -> Op {
    Op::LeaseRevoke(LeaseRevokeRequest { id })
}

fn note(term: u64, id: i64, remaining_ttl: i64) -> Op {
    Op::LeaseCheckpoints(LeaseCheckpoints {
        term,
        checkpoints: vec![LeaseCheckpoint { id, remaining_ttl }],
    })
}

fn with(key: &str, lease: i64) -> PutRequest {
    PutRequest {
        lease,
        ..put(key, "value")
    }
}

fn keys_of(machine: &Machine, id: i64) -> Vec<String> {
    let keys = machine.reader().leases().keys(id).unwrap();
    keys.iter()
        .map(|key| String::from_utf8(key.to_vec()).unwrap())
        .collect()
}

#[test]
fn the_end_of_a_lease_deletes_its_keys_in_order_in_one_revision() {
    let (mut machine, _) = machine();
    let outcome = apply(
        &mut machine,
        vec![
            grant(7, 30),
            Op::Put(with("c", 7)),
            Op::Put(with("a", 7)),
            Op::Put(put("b", "other")),
        ],
    );
    let term = Term {
        ttl: 30,
        remaining: 0,
    };
    assert_eq!(outcome.leases, [LeaseChange::Granted { id: 7, term }]);
    let outcome = apply(&mut machine, vec![revoke(7)]);
    assert_eq!(outcome.leases, [LeaseChange::Ended { id: 7 }]);
    assert_eq!(outcome.changes.len(), 1);
    let gone = outcome.changes[0].changes.iter();
    let gone: Vec<_> = gone.map(|change| change.record.key()).collect();
    assert_eq!(gone, [b"a", b"c"]);
    let Ok(Answer::LeaseRevoke(answer)) = &outcome.answers[0].outcome else {
        panic!("not revoked");
    };
    assert_eq!(answer.header.unwrap().revision, 5);
    assert_eq!(keys(&read(&machine, &range("a", "z")).unwrap()), ["b"]);
    assert_eq!(
        apply_one(&mut machine, revoke(7)),
        Err(Refusal::LeaseNotFound(7))
    );
}

#[test]
fn a_lease_without_keys_ends_without_a_revision() {
    let (mut machine, _) = machine();
    let outcome = apply(&mut machine, vec![grant(7, 30), revoke(7), grant(7, 40)]);
    assert!(outcome.changes.is_empty());
    assert_eq!(machine.reader().leases().term(7).unwrap().ttl, 40);
    assert_eq!(
        apply_one(&mut machine, grant(7, 50)),
        Err(Refusal::LeaseExists(7))
    );
}

#[test]
fn a_key_goes_with_the_lease_of_its_last_put() {
    let (mut machine, _) = machine();
    let keep = PutRequest {
        ignore_lease: true,
        ..put("d", "new")
    };
    apply(
        &mut machine,
        vec![
            grant(1, 30),
            grant(2, 30),
            Op::Put(with("a", 1)),
            Op::Put(with("b", 1)),
            Op::Put(with("c", 1)),
            Op::Put(with("d", 1)),
            Op::Put(with("a", 2)),
            Op::Put(put("b", "none")),
            Op::DeleteRange(delete("c", "")),
            Op::Put(keep),
        ],
    );
    assert_eq!(keys_of(&machine, 1), ["d"]);
    assert_eq!(keys_of(&machine, 2), ["a"]);
    assert_eq!(
        apply_one(&mut machine, Op::Put(with("e", 9))),
        Err(Refusal::LeaseNotFound(9))
    );
}

#[test]
fn a_transaction_that_is_taken_back_leaves_leases_as_they_were() {
    let (mut machine, _) = machine();
    apply(
        &mut machine,
        vec![grant(1, 30), grant(2, 30), Op::Put(with("a", 1))],
    );
    // More than an answer may hold: found out only after the put was done.
    let large = PutRequest {
        value: vec![0; 100 << 20].into(),
        ..put("large", "")
    };
    apply(&mut machine, vec![Op::Put(large)]);
    let read = || Request::RequestRange(range("large", ""));
    let refused = apply_one(
        &mut machine,
        txn(vec![
            Request::RequestPut(with("a", 2)),
            Request::RequestPut(with("b", 2)),
            read(),
            read(),
            read(),
        ]),
    );
    assert_eq!(refused, Err(Refusal::AnswerTooLong));
    assert_eq!(keys_of(&machine, 1), ["a"]);
    assert!(keys_of(&machine, 2).is_empty());
}

#[test]
fn what_a_leader_tells_that_leads_no_more_does_nothing() {
    let (mut machine, _) = machine();
    apply(&mut machine, vec![grant(7, 1_000), Op::Put(with("a", 7))]);
    // Entries of this test are of term 1.
    let expiry = |term| Op::LeaseExpiry(LeaseExpiry { id: 7, term });
    for op in [expiry(0), expiry(2), note(2, 7, 10)] {
        assert_eq!(apply_one(&mut machine, op), Err(Refusal::LeaderGone));
    }
    assert_eq!(machine.reader().leases().term(7).unwrap().left(), 1_000);
    assert_eq!(keys_of(&machine, 7), ["a"]);
    assert!(apply_one(&mut machine, expiry(1)).is_ok());
    assert!(machine.reader().leases().is_empty());
}

#[test]
fn leases_are_there_again_after_a_restart() {
    let (mut machine, engine) = machine();
    apply(
        &mut machine,
        vec![
            grant(-8, 30),
            grant(7, 1_000),
            grant(9, 5),
            Op::Put(with("b", 7)),
            Op::Put(with("a", 7)),
            note(1, 7, 400),
            revoke(9),
        ],
    );
    drop(machine);
    let machine = Machine::open(engine, Options::default()).unwrap();
    let leases = machine.reader().leases().clone();
    assert_eq!(leases.len(), 2);
    let remaining = 400;
    assert_eq!(
        leases.term(7),
        Some(Term {
            ttl: 1_000,
            remaining
        })
    );
    assert_eq!(leases.term(-8).unwrap().left(), 30);
    assert_eq!(keys_of(&machine, 7), ["a", "b"]);
}

#[test]
fn who_takes_over_a_state_takes_over_its_leases() {
    let (mut source, engine) = machine();
    apply(&mut source, vec![grant(7, 30), Op::Put(with("a", 7))]);
    let (mut machine, _) = machine();
    apply(&mut machine, vec![grant(1, 30), Op::Put(with("z", 1))]);
    let leases = machine.reader().leases().clone();
    machine.install(&*engine).unwrap();
    assert_eq!(leases.term(1), None);
    assert_eq!(leases.keys(7).unwrap(), ["a"]);
    // The writer goes on with the same ones.
    apply(&mut machine, vec![Op::Put(with("b", 7))]);
    assert_eq!(leases.keys(7).unwrap(), ["a", "b"]);
}
