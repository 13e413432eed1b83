//! Changes of members: that they stay through replay, restart, crash and installation, and touch nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::command::MemberChange;
use proto::command::command::Op;
use proto::command::member_change::{Add, Bootstrap, Change, Promote, Publish, Remove, Update};
use proto::etcd::etcdserverpb::alarm_request::AlarmAction;
use proto::etcd::etcdserverpb::{AlarmRequest, AlarmType, Member};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::engine::memory::MemoryEngine;
use store::{Answer, Machine, Options, Refusal, dump};

use crate::commands::{apply, apply_one, delete, entry, put};
use crate::engines::{Bench, Memory};
use crate::generate::seed;
use crate::model::Model;

fn member(id: u64) -> Member {
    Member {
        id,
        peer_urls: vec![url(id)],
        ..Member::default()
    }
}

fn url(number: u64) -> String {
    format!("http://m{number}:2380")
}

fn op(change: Change) -> Op {
    Op::MemberChange(MemberChange {
        change: Some(change),
    })
}

fn bootstrap(ids: &[u64]) -> Op {
    let members = ids.iter().map(|&id| member(id)).collect();
    op(Change::Bootstrap(Bootstrap { members }))
}

fn add(member: Member) -> Op {
    op(Change::Add(Add {
        member: Some(member),
        max_learners: 1,
    }))
}

fn remove(id: u64) -> Op {
    op(Change::Remove(Remove { id }))
}

fn memory() -> Machine {
    Machine::open(Arc::new(MemoryEngine::new()), Options::default()).unwrap()
}

#[test]
fn a_change_answers_all_members_and_makes_no_revision() {
    let mut machine = memory();
    apply_one(&mut machine, Op::Put(put("a", "1"))).unwrap();
    let reader = machine.reader();
    let hash = |machine: &Machine| {
        let reader = machine.reader();
        reader.hash_kv(&reader.view(), 0, &|| true).unwrap()
    };
    let before = (reader.view().revision, hash(&machine));
    let outcome = apply(&mut machine, vec![bootstrap(&[2, 1]), add(member(3))]);
    assert_eq!(outcome.changes, [], "no event");
    let answers: Vec<_> = outcome
        .answers
        .into_iter()
        .map(|answered| answered.outcome)
        .collect();
    assert_eq!(
        answers,
        [
            Ok(Answer::Members(vec![member(1), member(2)])),
            Ok(Answer::Members(vec![member(1), member(2), member(3)])),
        ]
    );
    assert_eq!((reader.view().revision, hash(&machine)), before);
    assert_eq!(reader.view().members.version(), 2);
}

#[test]
fn no_alarm_stands_in_the_way_of_a_repair() {
    let mut machine = memory();
    for kind in [AlarmType::Nospace, AlarmType::Corrupt] {
        let alarm = AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: 1,
            alarm: kind as i32,
        };
        apply_one(&mut machine, Op::Alarm(alarm)).unwrap();
    }
    for change in [bootstrap(&[1, 2]), remove(2), add(member(3))] {
        assert!(
            apply_one(&mut machine, change.clone()).is_ok(),
            "{change:?}"
        );
    }
}

#[test]
fn an_installed_state_brings_its_members() {
    let source = Arc::new(MemoryEngine::new());
    let mut other = Machine::open(source.clone(), Options::default()).unwrap();
    apply(&mut other, vec![bootstrap(&[1, 2, 3]), remove(3)]);
    let mut machine = memory();
    apply_one(&mut machine, bootstrap(&[7])).unwrap();
    let reader = machine.reader();
    machine.install(&*source).unwrap();
    let view = reader.view();
    assert_eq!(view.members.list(), [member(1), member(2)]);
    assert_eq!(view.members.version(), 2);
    assert_eq!(dump::summary(&*source).unwrap().members, *view.members);
    let again = apply_one(&mut machine, add(member(3)));
    assert_eq!(again, Err(Refusal::MemberRemoved(3)));
}

/// The rules in the plainest way, on top of the model of what other commands do.
struct Expected {
    model: Model,
    members: Vec<Member>,
    removed: BTreeSet<u64>,
    version: u64,
}

impl Expected {
    fn apply(&mut self, op: &Op) -> Result<Answer, Refusal> {
        let Op::MemberChange(change) = op else {
            return self.model.apply(op);
        };
        let former = self.members.clone();
        self.change(change.change.as_ref().unwrap())?;
        self.members.sort_by_key(|member| member.id);
        self.version += u64::from(self.members != former);
        Ok(Answer::Members(self.members.clone()))
    }

    fn change(&mut self, change: &Change) -> Result<(), Refusal> {
        let id = match change {
            Change::Bootstrap(first) => {
                let votes = first.members.iter().any(|member| !member.is_learner);
                if self.members.is_empty() && votes {
                    self.members.clone_from(&first.members);
                }
                return Ok(());
            }
            Change::Add(add) => add.member.as_ref().unwrap().id,
            Change::Remove(remove) => remove.id,
            Change::Update(update) => update.id,
            Change::Promote(promote) => promote.id,
            Change::Publish(publish) => publish.id,
        };
        if self.removed.contains(&id) {
            return Err(Refusal::MemberRemoved(id));
        }
        let place = self.members.iter().position(|member| member.id == id);
        if let Change::Add(add) = change {
            return self.add(place, add);
        }
        let place = place.ok_or(Refusal::MemberNotFound(id))?;
        match change {
            Change::Remove(_) => {
                let mut left = self.members.clone();
                left.remove(place);
                if left.iter().all(|member| member.is_learner) {
                    return Err(Refusal::NoVoter);
                }
                self.members = left;
                self.removed.insert(id);
            }
            Change::Update(update) => {
                self.check_urls(id, &update.peer_urls)?;
                self.members[place].peer_urls.clone_from(&update.peer_urls);
            }
            Change::Promote(_) if !self.members[place].is_learner => {
                return Err(Refusal::MemberNotLearner(id));
            }
            Change::Promote(_) => self.members[place].is_learner = false,
            Change::Publish(publish) => {
                let member = &mut self.members[place];
                member.name.clone_from(&publish.name);
                member.client_urls.clone_from(&publish.client_urls);
            }
            Change::Bootstrap(_) | Change::Add(_) => unreachable!(),
        }
        Ok(())
    }

    fn add(&mut self, place: Option<usize>, add: &Add) -> Result<(), Refusal> {
        let member = add.member.clone().unwrap();
        if self.members.is_empty() {
            return Err(Refusal::NoVoter);
        }
        if place.is_some() {
            return Err(Refusal::MemberExists(member.id));
        }
        self.check_urls(member.id, &member.peer_urls)?;
        let learners = self.members.iter().filter(|member| member.is_learner);
        if member.is_learner && learners.count() as u64 + 1 > add.max_learners {
            return Err(Refusal::TooManyLearners);
        }
        self.members.push(member);
        Ok(())
    }

    fn check_urls(&self, id: u64, urls: &[String]) -> Result<(), Refusal> {
        for other in self.members.iter().filter(|other| other.id != id) {
            for url in &other.peer_urls {
                if urls.contains(url) {
                    return Err(Refusal::PeerUrlExists(url.clone()));
                }
            }
        }
        Ok(())
    }
}

/// Ids grow slowly, so that some are free, some taken and some gone at any time.
fn random_op(random: &mut StdRng, round: usize) -> Op {
    let highest = 4 + round as u64 / 20;
    let id = random.random_range(highest.saturating_sub(6).max(1)..=highest);
    match random.random_range(0..12) {
        0..3 => Op::Put(put(["a", "b"][random.random_range(0..2)], "value")),
        3 => Op::DeleteRange(delete("a", "c")),
        4 => {
            let mut first = [member(id), member(id + 1)];
            first[0].is_learner = random.random_bool(0.3);
            first[1].is_learner = random.random_bool(0.3);
            let members = first.to_vec();
            op(Change::Bootstrap(Bootstrap { members }))
        }
        5..7 => {
            let urls = [url(id), url(random.random_range(1..=highest))];
            op(Change::Add(Add {
                member: Some(Member {
                    id,
                    peer_urls: urls[..random.random_range(1..=2)].to_vec(),
                    is_learner: random.random_bool(0.5),
                    ..Member::default()
                }),
                max_learners: random.random_range(0..3),
            }))
        }
        7 => remove(id),
        8 => op(Change::Update(Update {
            id,
            peer_urls: vec![url(random.random_range(1..=highest))],
        })),
        9 => op(Change::Promote(Promote { id })),
        _ => op(Change::Publish(Publish {
            id,
            name: ["one", "two"][random.random_range(0..2)].to_owned(),
            client_urls: vec!["http://c:2379".to_owned()],
        })),
    }
}

fn random_run(bench: &mut dyn Bench, seed: u64, rounds: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut expected = Expected {
        model: Model::new(),
        members: Vec::new(),
        removed: BTreeSet::new(),
        version: 0,
    };
    let mut log = Vec::new();
    let mut machine = Machine::open(bench.engine(), Options::default()).unwrap();
    for round in 0..rounds {
        let ops: Vec<Op> = (0..random.random_range(1..5))
            .map(|_| random_op(&mut random, round))
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
        match random.random_range(0..100) {
            0..10 => {
                machine.flush().unwrap();
            }
            10..14 => {
                drop(machine);
                bench.restart();
                machine = Machine::open(bench.engine(), Options::default()).unwrap();
                machine.apply(&log).unwrap();
            }
            14..18 => {
                drop(machine);
                bench.crash();
                machine = Machine::open(bench.engine(), Options::default()).unwrap();
                machine.apply(&log).unwrap();
            }
            _ => {}
        }
        let view = machine.reader().view();
        assert_eq!(view.revision, expected.model.revision());
        let members = &view.members;
        assert_eq!(
            members.list(),
            expected.members,
            "seed {seed}, round {round}"
        );
        assert_eq!(BTreeSet::from_iter(members.removed()), expected.removed);
        assert_eq!(members.version(), expected.version);
        // What a start would read is what is shown.
        let stored = dump::summary(&*bench.engine()).unwrap().members;
        assert_eq!(stored, **members, "seed {seed}, round {round}");
    }
}

#[test]
fn random_changes_of_members_in_memory() {
    let seed = seed();
    for run in 0..10 {
        let mut bench = Memory(Arc::new(MemoryEngine::new()));
        random_run(&mut bench, seed.wrapping_add(run), 200);
    }
}

#[cfg(feature = "rocksdb")]
#[test]
fn random_changes_of_members_on_disk() {
    let mut bench = crate::engines::Rocks::new();
    random_run(&mut bench, seed(), 300);
}
