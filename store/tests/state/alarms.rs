//! Alarms: what they refuse, and that they stay until they are cleared, through replay, restart and installation.

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::command::command::Op;
use proto::etcd::etcdserverpb::alarm_request::AlarmAction;
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, ResponseHeader, TxnRequest,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::alarm::charge;
use store::engine::memory::MemoryEngine;
use store::{Answer, Machine, Options, Refusal};

use crate::commands::{apply_one, compact, delete, entry, keys, op, put, range, read, txn};
use crate::engines::{Bench, Memory};
use crate::generate::seed;
use crate::model::Model;

const NOSPACE: i32 = AlarmType::Nospace as i32;
const CORRUPT: i32 = AlarmType::Corrupt as i32;

fn alarm(action: AlarmAction, member_id: u64, alarm: i32) -> Op {
    Op::Alarm(AlarmRequest {
        action: action as i32,
        member_id,
        alarm,
    })
}

fn memory() -> Machine {
    Machine::open(Arc::new(MemoryEngine::new()), Options::default()).unwrap()
}

/// The alarms that a request answers, as type and member.
fn ask(machine: &mut Machine, action: AlarmAction, member: u64, kind: i32) -> Vec<(i32, u64)> {
    let Ok(Answer::Alarm(answer)) = apply_one(machine, alarm(action, member, kind)) else {
        panic!("requests about alarms are never refused");
    };
    let pair = |entry: AlarmMember| (entry.alarm, entry.member_id);
    answer.alarms.into_iter().map(pair).collect()
}

#[test]
fn requests_answer_the_alarms_that_they_are_about() {
    use AlarmAction::{Activate, Deactivate, Get};
    let mut machine = memory();
    assert_eq!(ask(&mut machine, Get, 0, 0), []);
    assert_eq!(ask(&mut machine, Activate, 7, NOSPACE), [(NOSPACE, 7)]);
    assert_eq!(
        ask(&mut machine, Activate, 7, NOSPACE),
        [(NOSPACE, 7)],
        "one that is on is answered again"
    );
    assert_eq!(ask(&mut machine, Activate, 9, CORRUPT), [(CORRUPT, 9)]);
    assert_eq!(ask(&mut machine, Activate, 8, NOSPACE), [(NOSPACE, 8)]);
    assert_eq!(ask(&mut machine, Activate, 8, 0), [], "none is no alarm");
    assert_eq!(
        ask(&mut machine, Get, 123, 0),
        [(NOSPACE, 7), (NOSPACE, 8), (CORRUPT, 9)],
        "a list is of all members"
    );
    assert_eq!(ask(&mut machine, Get, 0, CORRUPT), [(CORRUPT, 9)]);
    assert_eq!(ask(&mut machine, Deactivate, 7, 0), [], "none is not all");
    assert_eq!(ask(&mut machine, Deactivate, 7, CORRUPT), []);
    assert_eq!(ask(&mut machine, Deactivate, 7, NOSPACE), [(NOSPACE, 7)]);
    assert_eq!(ask(&mut machine, Deactivate, 7, NOSPACE), []);
    assert_eq!(
        ask(&mut machine, Get, 0, 0),
        [(NOSPACE, 8), (CORRUPT, 9)],
        "others stay"
    );
}

#[test]
fn want_of_space_refuses_what_adds_and_nothing_else() {
    let mut machine = memory();
    apply_one(&mut machine, Op::Put(put("a", "1"))).unwrap();
    apply_one(&mut machine, Op::Put(put("b", "1"))).unwrap();
    ask(&mut machine, AlarmAction::Activate, 1, NOSPACE);
    let no_space = Err(Refusal::NoSpace);
    let read_only = || Request::RequestRange(range("a", ""));
    let frees = || Request::RequestDeleteRange(delete("b", ""));
    let adds = || Request::RequestPut(put("c", "1"));
    let nested = |branch: Vec<Request>| {
        let Op::Txn(inner) = txn(branch) else {
            unreachable!()
        };
        Request::RequestTxn(inner)
    };
    let not_taken = Op::Txn(TxnRequest {
        failure: vec![op(adds())],
        ..Default::default()
    });
    for refused in [
        Op::Put(put("a", "2")),
        Op::Put(put("", "")),
        txn(vec![frees(), adds()]),
        txn(vec![nested(vec![nested(vec![adds()])])]),
        not_taken,
    ] {
        assert_eq!(
            apply_one(&mut machine, refused.clone()),
            no_space,
            "{refused:?}"
        );
    }
    for allowed in [
        txn(vec![read_only(), nested(vec![frees()])]),
        Op::DeleteRange(delete("a", "")),
        compact(2),
    ] {
        assert!(
            apply_one(&mut machine, allowed.clone()).is_ok(),
            "{allowed:?}"
        );
    }
    assert_eq!(keys(&read(&machine, &range("\0", "\0")).unwrap()), [""; 0]);
    ask(&mut machine, AlarmAction::Deactivate, 1, NOSPACE);
    assert!(apply_one(&mut machine, Op::Put(put("a", "3"))).is_ok());
}

#[test]
fn damage_refuses_every_write_and_goes_before_want_of_space() {
    let mut machine = memory();
    apply_one(&mut machine, Op::Put(put("a", "1"))).unwrap();
    ask(&mut machine, AlarmAction::Activate, 2, CORRUPT);
    ask(&mut machine, AlarmAction::Activate, 1, NOSPACE);
    for refused in [
        Op::Put(put("a", "2")),
        Op::DeleteRange(delete("a", "")),
        txn(vec![Request::RequestDeleteRange(delete("a", ""))]),
        compact(2),
    ] {
        let answer = apply_one(&mut machine, refused.clone());
        assert_eq!(answer, Err(Refusal::Corrupt), "{refused:?}");
    }
    assert_eq!(read(&machine, &range("a", "")).unwrap().count, 1);
    ask(&mut machine, AlarmAction::Deactivate, 2, CORRUPT);
    assert!(apply_one(&mut machine, Op::DeleteRange(delete("a", ""))).is_ok());
}

#[test]
fn an_alarm_counts_from_its_own_place_within_an_entry() {
    let mut machine = memory();
    let ops = vec![
        Op::Put(put("a", "1")),
        alarm(AlarmAction::Activate, 1, NOSPACE),
        Op::Put(put("a", "2")),
        alarm(AlarmAction::Deactivate, 1, NOSPACE),
        Op::Put(put("a", "3")),
    ];
    let outcome = machine.apply(&[entry(1, ops)]).unwrap();
    let is_ok: Vec<bool> = outcome
        .answers
        .iter()
        .map(|answered| answered.outcome.is_ok())
        .collect();
    assert_eq!(is_ok, [true, true, false, true, true]);
    assert_eq!(machine.reader().view().revision, 3);
}

#[test]
fn an_installed_state_brings_its_alarms() {
    let source = Arc::new(MemoryEngine::new());
    let mut other = Machine::open(source.clone(), Options::default()).unwrap();
    ask(&mut other, AlarmAction::Activate, 3, NOSPACE);
    let mut machine = memory();
    ask(&mut machine, AlarmAction::Activate, 1, CORRUPT);
    let reader = machine.reader();
    machine.install(&*source).unwrap();
    assert!(reader.view().alarms.is_on_of(AlarmType::Nospace, 3));
    assert!(!reader.view().alarms.is_on(AlarmType::Corrupt));
    assert_eq!(
        apply_one(&mut machine, Op::Put(put("a", "1"))),
        Err(Refusal::NoSpace)
    );
}

#[test]
fn the_charge_is_that_of_the_dearer_branch() {
    assert_eq!(charge(&Op::Put(put("key", "value"))), 256 + 3 + 5);
    assert_eq!(charge(&Op::DeleteRange(delete("a", "b"))), 0);
    assert_eq!(charge(&compact(1)), 0);
    let put = |value| Request::RequestPut(put("k", value));
    let inner = TxnRequest {
        success: vec![op(put("1234567890"))],
        failure: vec![op(put("1")), op(put("2"))],
        ..Default::default()
    };
    let outer = TxnRequest {
        success: vec![op(put("12"))],
        failure: vec![
            op(Request::RequestTxn(inner)),
            op(Request::RequestDeleteRange(delete("a", ""))),
            op(Request::RequestRange(range("a", ""))),
        ],
        ..Default::default()
    };
    assert_eq!(charge(&Op::Txn(outer)), 2 * (256 + 1 + 1));
}

/// The rules in the plainest way, on top of the model of what commands do.
struct Expected {
    model: Model,
    active: BTreeSet<(i32, u64)>,
}

impl Expected {
    fn adds(op: &Op) -> bool {
        // Every branch counts, taken or not; only puts add.
        fn any_put(request: &TxnRequest) -> bool {
            let ops = request.success.iter().chain(&request.failure);
            ops.filter_map(|op| op.request.as_ref())
                .any(|request| match request {
                    Request::RequestPut(_) => true,
                    Request::RequestTxn(request) => any_put(request),
                    _ => false,
                })
        }
        match op {
            Op::Put(_) => true,
            Op::Txn(request) => any_put(request),
            _ => false,
        }
    }

    fn apply(&mut self, op: &Op) -> Result<Answer, Refusal> {
        let is_on = |kind| self.active.iter().any(|(active, _)| *active == kind);
        let Op::Alarm(request) = op else {
            if is_on(CORRUPT) {
                return Err(Refusal::Corrupt);
            }
            if is_on(NOSPACE) && Self::adds(op) {
                return Err(Refusal::NoSpace);
            }
            return self.model.apply(op);
        };
        let named = (request.alarm, request.member_id);
        let answered: Vec<_> = match request.action {
            0 => {
                let all = self.active.iter().copied();
                all.filter(|(kind, _)| request.alarm == 0 || *kind == request.alarm)
                    .collect()
            }
            1 if request.alarm == 0 => Vec::new(),
            1 => {
                self.active.insert(named);
                vec![named]
            }
            _ if self.active.remove(&named) => vec![named],
            _ => Vec::new(),
        };
        let entry = |(alarm, member_id)| AlarmMember { member_id, alarm };
        Ok(Answer::Alarm(AlarmResponse {
            header: Some(ResponseHeader {
                revision: self.model.revision(),
                ..Default::default()
            }),
            alarms: answered.into_iter().map(entry).collect(),
        }))
    }
}

fn random_op(random: &mut StdRng, revision: i64) -> Op {
    let key = |random: &mut StdRng| ["a", "b", "c", "d"][random.random_range(0..4)];
    let request = |random: &mut StdRng| match random.random_range(0..3) {
        0 => Request::RequestPut(put(key(random), "value")),
        1 => Request::RequestDeleteRange(delete(key(random), "")),
        _ => Request::RequestRange(range(key(random), "")),
    };
    match random.random_range(0..10) {
        0..3 => Op::Put(put(key(random), "value")),
        3 => Op::DeleteRange(delete(key(random), key(random))),
        4 | 5 => {
            let inner = TxnRequest {
                failure: vec![op(request(random))],
                ..Default::default()
            };
            // One write at most, so that no key is written twice.
            let mut success = vec![op(Request::RequestRange(range(key(random), "")))];
            success.push(op(if random.random_bool(0.5) {
                Request::RequestTxn(inner)
            } else {
                request(random)
            }));
            Op::Txn(TxnRequest {
                success,
                ..Default::default()
            })
        }
        6 => compact(random.random_range(1..=revision + 1)),
        _ => {
            let action = random.random_range(0..3);
            // Cleared more often than raised, or hardly any command would pass.
            let action = if random.random_bool(0.4) { 2 } else { action };
            Op::Alarm(AlarmRequest {
                action,
                member_id: random.random_range(1..3),
                alarm: random.random_range(0..3),
            })
        }
    }
}

fn random_run(bench: &mut dyn Bench, seed: u64, rounds: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut expected = Expected {
        model: Model::new(),
        active: BTreeSet::new(),
    };
    let mut log = Vec::new();
    let mut machine = Machine::open(bench.engine(), Options::default()).unwrap();
    for round in 0..rounds {
        let ops: Vec<Op> = (0..random.random_range(1..5))
            .map(|_| random_op(&mut random, expected.model.revision()))
            .collect();
        let answers: Vec<_> = ops.iter().map(|op| expected.apply(op)).collect();
        log.push(entry(log.len() as u64 + 1, ops.clone()));
        let outcome = machine.apply(&log[log.len() - 1..]).unwrap();
        let got: Vec<_> = outcome
            .answers
            .into_iter()
            .map(|answered| answered.outcome)
            .collect();
        assert_eq!(got, answers, "seed {seed}, round {round}: {ops:?}");
        let view = machine.reader().view();
        let listed: Vec<_> = view
            .alarms
            .list(0)
            .iter()
            .map(|entry| (entry.alarm, entry.member_id))
            .collect();
        assert_eq!(
            listed,
            Vec::from_iter(expected.active.iter().copied()),
            "seed {seed}, round {round}"
        );
        drop(view);
        match random.random_range(0..100) {
            0..10 => {
                machine.flush().unwrap();
            }
            10..13 => {
                drop(machine);
                bench.restart();
                machine = Machine::open(bench.engine(), Options::default()).unwrap();
                machine.apply(&log).unwrap();
            }
            13..16 => {
                drop(machine);
                bench.crash();
                machine = Machine::open(bench.engine(), Options::default()).unwrap();
                machine.apply(&log).unwrap();
            }
            _ => {}
        }
    }
}

#[test]
fn random_commands_with_alarms_in_memory() {
    let seed = seed();
    for run in 0..10 {
        let mut bench = Memory(Arc::new(MemoryEngine::new()));
        random_run(&mut bench, seed.wrapping_add(run), 200);
    }
}

#[cfg(feature = "rocksdb")]
#[test]
fn random_commands_with_alarms_on_disk() {
    let mut bench = crate::engines::Rocks::new();
    random_run(&mut bench, seed(), 300);
}
