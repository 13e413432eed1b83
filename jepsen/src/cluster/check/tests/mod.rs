//! The checker itself: good histories pass, and each thing that can be wrong with one is found, under the right rule.

mod lease;
mod watch;

use rand::{RngExt, SeedableRng};

use super::{Verdict, check};
use crate::cluster::conditions::Conditions;
use crate::cluster::history::{Ending, Fault, History, Operation, Outcome, Status};
use crate::cluster::model::{Body, Change, Done, Kv, Op, State};
use crate::cluster::watch::{Asked, Record, Said, Watcher};
use crate::cluster::workload::{Kind, Workload};
use crate::sim::SimRng;

const MS: u64 = 1_000_000;
const NODES: usize = 3;

fn conditions() -> Conditions {
    Conditions {
        seed: 0,
        binary: "etcd".into(),
        version: String::new(),
        nodes: NODES,
        seconds: 0,
        workload: "mixed".into(),
        faults: Vec::new(),
        rate: 1.0,
        clients: 1,
        timeout_ms: 1_000,
        election_timeout_ms: 1_000,
        converge_ms: 5_000,
        has_network: false,
        flags: Vec::new(),
        started: 0,
        kernel: String::new(),
    }
}

fn verdict(history: &History) -> Verdict {
    check(&conditions(), history)
}

/// Asserts that exactly these rules were broken.
fn assert_broken(history: &History, rules: &[&str]) {
    let verdict = verdict(history);
    let broken: Vec<&str> = verdict.broken.keys().map(String::as_str).collect();
    assert_eq!(broken, rules, "{:#?}", verdict.violations);
}

/// A perfect store, and a history of what it told. Time goes on by a second with each call.
struct Scene {
    history: History,
    state: State,
    log: Vec<Change>,
    now: u64,
}

impl Scene {
    fn new() -> Scene {
        Scene {
            history: History::default(),
            state: State::new(),
            log: Vec::new(),
            now: 0,
        }
    }

    /// Done and answered.
    fn ok(&mut self, op: Op) -> usize {
        let (body, revision) = self.apply(&op);
        self.record(op, Outcome::Ok, revision, body)
    }

    /// Done and not answered.
    fn lost(&mut self, op: Op) -> usize {
        self.apply(&op);
        self.record(op, Outcome::Indefinite, 0, None)
    }

    fn apply(&mut self, op: &Op) -> (Option<Body>, i64) {
        let (body, changes) = self.state.evaluate(op);
        if !changes.is_empty() {
            let revision = self.state.revision() + 1;
            self.state.apply(&changes, revision);
            self.log.extend(changes);
        }
        (body, self.state.revision())
    }

    fn record(&mut self, op: Op, outcome: Outcome, revision: i64, body: Option<Body>) -> usize {
        let invoke = self.now;
        self.now += 1_000 * MS;
        self.history.operations.push(Operation {
            process: self.history.operations.len() as u64,
            node: self.history.operations.len() % NODES,
            life: (1, 1),
            invoke,
            returned: invoke + 500 * MS,
            op,
            outcome,
            revision,
            term: 2,
            body,
            error: (outcome != Outcome::Ok).then(|| "no".to_owned()),
        });
        self.history.operations.len() - 1
    }

    /// With the end as it should be: everybody holds the same, every watcher saw everything.
    fn end(mut self) -> History {
        let bare = |change: &Change| Change {
            previous: None,
            ..change.clone()
        };
        let log: Vec<Change> = self.log.iter().map(bare).collect();
        self.history.logs = vec![log; NODES];
        for node in 0..NODES {
            recorder(&mut self.history.watch, node, &self.log, self.now);
        }
        self.history.ending = Ending {
            quiet: self.now,
            revisions: vec![self.state.revision(); NODES],
            hashes: vec![1; NODES],
            alarming: Vec::new(),
        };
        self.history
    }
}

/// One that stays on a member, and is told everything at once.
fn recorder(record: &mut Record, node: usize, log: &[Change], time: u64) {
    let stream = record.open();
    let watcher = Some(record.watch(Watcher {
        stream,
        node,
        asked: Asked::everything(1),
        resumes: None,
        stays: true,
        cancelled: None,
    }));
    record.add(stream, watcher, time, 1, Said::Created, Vec::new());
    for changes in log.chunk_by(|a, b| a.revision == b.revision) {
        let revision = changes[0].revision;
        record.add(
            stream,
            watcher,
            time,
            revision,
            Said::Events,
            changes.to_vec(),
        );
    }
}

fn put(key: &str, value: &str) -> Op {
    Op::Put {
        key: key.into(),
        value: value.into(),
        previous: true,
        lease: 0,
    }
}

fn get(key: &str) -> Op {
    Op::Get {
        key: key.into(),
        serializable: false,
    }
}

fn get_serializable(key: &str) -> Op {
    Op::Get {
        key: key.into(),
        serializable: true,
    }
}

fn delete(key: &str) -> Op {
    Op::Delete {
        key: key.into(),
        previous: true,
    }
}

/// Two writes and a read of a key, which every test begins with.
fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.ok(put("k", "a"));
    scene.ok(put("k", "b"));
    scene.ok(get("k"));
    scene
}

#[test]
fn a_good_history_passes() {
    let mut scene = scene();
    scene.lost(put("k", "c"));
    scene.lost(delete("k"));
    scene.ok(get("k"));
    scene.record(put("k", "d"), Outcome::Indefinite, 0, None);
    scene.record(put("k", "e"), Outcome::Definite, 0, None);
    scene.ok(delete("k"));
    assert_broken(&scene.end(), &[]);
}

#[test]
fn a_lost_write_is_found() {
    let mut scene = scene();
    let revision = scene.state.revision() + 1;
    scene.record(
        put("k", "c"),
        Outcome::Ok,
        revision,
        Some(Body::Put {
            previous: scene.state.get("k").cloned(),
        }),
    );
    assert_broken(&scene.end(), &["write"]);
}

#[test]
fn a_lost_write_whose_revision_another_took_is_found() {
    let mut scene = scene();
    let body = Body::Put {
        previous: scene.state.get("k").cloned(),
    };
    scene.record(put("k", "c"), Outcome::Ok, 4, Some(body));
    scene.ok(put("k", "d"));
    // Both are told revision 4, and one of them is nowhere.
    assert_broken(&scene.end(), &["order", "write"]);
}

#[test]
fn a_stale_read_is_found() {
    let mut scene = scene();
    let old = scene.state.get("k").cloned().unwrap();
    let revision = scene.state.revision();
    scene.ok(put("k", "c"));
    let body = Body::Read {
        kvs: vec![old],
        count: 1,
    };
    scene.record(get("k"), Outcome::Ok, revision, Some(body));
    assert_broken(&scene.end(), &["order"]);
}

#[test]
fn a_stale_read_under_a_new_revision_is_found() {
    let mut scene = scene();
    let old = scene.state.get("k").cloned().unwrap();
    scene.ok(put("k", "c"));
    let body = Body::Read {
        kvs: vec![old],
        count: 1,
    };
    let revision = scene.state.revision();
    scene.record(get("k"), Outcome::Ok, revision, Some(body));
    assert_broken(&scene.end(), &["answer"]);
}

#[test]
fn a_read_older_than_what_a_watcher_saw_is_found() {
    let mut scene = scene();
    let old = scene.state.get("k").cloned().unwrap();
    let revision = scene.state.revision();
    scene.lost(put("k", "c"));
    let at = scene.now;
    let body = Body::Read {
        kvs: vec![old],
        count: 1,
    };
    scene.record(get("k"), Outcome::Ok, revision, Some(body));
    let mut history = scene.end();
    for delivery in &mut history.watch.deliveries {
        delivery.time = at - 1;
    }
    assert_broken(&history, &["order"]);
}

#[test]
fn a_ghost_write_is_found() {
    let mut scene = scene();
    let (_, changes) = scene.state.evaluate(&put("k", "never asked for"));
    scene.state.apply(&changes, scene.state.revision() + 1);
    scene.log.extend(changes);
    assert_broken(&scene.end(), &["write"]);
}

#[test]
fn a_refused_write_that_took_effect_is_found() {
    let mut scene = scene();
    scene.apply(&put("k", "c"));
    scene.record(put("k", "c"), Outcome::Definite, 0, None);
    assert_broken(&scene.end(), &["write"]);
}

#[test]
fn a_write_that_took_effect_twice_is_found() {
    let mut scene = scene();
    scene.lost(put("k", "c"));
    scene.ok(put("k", "d"));
    scene.apply(&put("k", "c"));
    assert_broken(&scene.end(), &["write"]);
}

#[test]
fn a_deletion_that_nobody_asked_for_is_found() {
    let mut scene = scene();
    scene.apply(&delete("k"));
    assert_broken(&scene.end(), &["write"]);
}

#[test]
fn two_writes_of_one_revision_are_found() {
    let mut scene = scene();
    let place = scene.ok(put("k", "c"));
    let mut history = scene.end();
    history.operations[place].revision -= 1;
    assert_broken(&history, &["write"]);
}

#[test]
fn a_hole_in_the_revisions_is_found() {
    let mut scene = scene();
    scene.log.remove(0);
    let verdict = verdict(&scene.end());
    assert!(verdict.broken.contains_key("log"), "{verdict:#?}");
}

#[test]
fn members_with_different_histories_are_found() {
    let mut history = scene().end();
    history.logs[2].pop();
    assert_broken(&history, &["log"]);
}

#[test]
fn a_write_that_came_before_what_was_known_is_found() {
    // Told revision 3 although its answer, and the history, has it before the read that went before it.
    let mut scene = scene();
    scene.ok(put("k", "c"));
    let mut history = scene.end();
    let (early, late) = (history.operations[1].invoke, history.operations[3].invoke);
    history.operations[3].invoke = early - 1;
    history.operations[3].returned = early;
    history.operations[1].invoke = late;
    history.operations[1].returned = late + 1;
    assert!(verdict(&history).broken.contains_key("order"));
}

#[test]
fn an_answer_from_the_future_is_found() {
    let mut scene = scene();
    let place = scene.ok(get("k"));
    scene.lost(put("k", "c"));
    let kv = scene.state.get("k").cloned().unwrap();
    let mut history = scene.end();
    history.operations[place].revision += 1;
    history.operations[place].body = Some(Body::Read {
        kvs: vec![kv],
        count: 1,
    });
    assert_broken(&history, &["order"]);
}

#[test]
fn a_wrong_previous_value_is_found() {
    let mut scene = scene();
    let place = scene.ok(put("k", "c"));
    let mut history = scene.end();
    history.operations[place].body = Some(Body::Put { previous: None });
    assert_broken(&history, &["answer"]);
}

#[test]
fn a_wrong_branch_is_found() {
    let mut scene = scene();
    let op = Op::Txn {
        when: vec![crate::cluster::model::Condition::Value(
            "k".into(),
            "a".into(),
        )],
        then: vec![crate::cluster::model::Step::Put("k".into(), "c".into())],
        otherwise: vec![crate::cluster::model::Step::Get("k".into())],
    };
    let body = Body::Txn {
        succeeded: true,
        steps: vec![Done::Put],
    };
    scene.apply(&put("k", "c"));
    let revision = scene.state.revision();
    scene.record(op, Outcome::Ok, revision, Some(body));
    assert_broken(&scene.end(), &["answer", "write"]);
}

#[test]
fn a_serializable_read_may_be_old_and_may_not_go_back() {
    let mut scene = Scene::new();
    scene.ok(put("k", "a"));
    let old = scene.state.get("k").cloned().unwrap();
    scene.ok(put("k", "b"));
    let read_old = Body::Read {
        kvs: vec![old],
        count: 1,
    };
    let place = scene.record(
        get_serializable("k"),
        Outcome::Ok,
        2,
        Some(read_old.clone()),
    );
    scene.history.operations[place].node = 0;
    let place = scene.ok(get_serializable("k"));
    scene.history.operations[place].node = 0;
    let mut fresh = scene;
    let place = fresh.record(get_serializable("k"), Outcome::Ok, 2, Some(read_old));
    fresh.history.operations[place].node = 1;
    let mut history = fresh.end();
    assert_broken(&history, &[]);
    // After a restart it may.
    history.operations[place].node = 0;
    history.operations[place].life = (2, 2);
    assert_broken(&history, &[]);
    history.operations[place].life = (1, 1);
    assert_broken(&history, &["serializable"]);
}

#[test]
fn two_leaders_of_one_term_and_a_term_that_falls_are_found() {
    let mut history = scene().end();
    let status = |ms: u64, member: u64, term| Status {
        time: ms * MS,
        node: 0,
        life: 1,
        member,
        leader: member,
        term,
        revision: 3,
    };
    // An old leader that does not know of the new one, which names the old term at first.
    history.statuses = vec![
        status(0, 1, 2),
        status(900, 2, 2),
        status(1_000, 2, 3),
        status(5_000, 1, 2),
        status(6_000, 2, 3),
    ];
    assert_broken(&history, &[]);
    history.statuses = vec![
        status(0, 1, 2),
        status(1_000, 2, 2),
        status(4_000, 1, 2),
        status(5_000, 2, 2),
    ];
    assert_broken(&history, &["election"]);
    history.statuses = vec![status(0, 1, 3), status(1, 1, 2)];
    assert_broken(&history, &["election"]);
    history.statuses[1].life = 2;
    assert_broken(&history, &[]);
}

fn fault(begin: u64, end: u64) -> Fault {
    Fault {
        kind: "part-leader".into(),
        nodes: vec![0],
        begin,
        end,
        recovered: Some(end + MS),
        converged: Some(end + 2 * MS),
        damage: None,
        leader: Some(0),
        took_leader: true,
        minority: vec![0],
        happened: true,
        proof: String::new(),
    }
}

#[test]
fn an_answer_out_of_a_minority_is_found() {
    let mut scene = scene();
    let begin = scene.now - 1;
    for _ in 0..3 {
        let place = scene.ok(get("k"));
        scene.history.operations[place].node = 0;
    }
    let end = scene.now;
    let mut history = scene.end();
    history.faults = vec![fault(begin, end)];
    assert_broken(&history, &["minority"]);
    history.faults[0].minority = vec![1];
    assert_broken(&history, &[]);
}

#[test]
fn a_cluster_that_does_not_come_together_is_found() {
    let mut history = scene().end();
    let mut late = fault(0, 1_000 * MS);
    late.converged = Some(7_000 * MS);
    history.faults = vec![late];
    assert_broken(&history, &["converge"]);
    let mut damaged = fault(0, 1_000 * MS);
    damaged.damage = Some("the hashes differ".into());
    history.faults = vec![damaged];
    assert_broken(&history, &["converge"]);
}

#[test]
fn money_that_appears_is_found() {
    let mut scene = Scene::new();
    let workload = Workload::new(Kind::Multi);
    let mut unique = 0;
    let prepared = workload.preparations(|| {
        unique += 1;
        unique
    });
    for op in prepared {
        scene.ok(op);
    }
    scene.ok(put("account/0", "101#x"));
    assert_broken(&scene.end(), &["invariant"]);
}

#[test]
fn the_search_finds_a_stale_register_by_values_alone() {
    let mut scene = Scene::new();
    scene.ok(put("register/0/0", "a"));
    let old = scene.state.get("register/0/0").cloned().unwrap();
    scene.ok(put("register/0/0", "b"));
    let body = Body::Read {
        kvs: vec![old],
        count: 1,
    };
    scene.record(get("register/0/0"), Outcome::Ok, 2, Some(body));
    assert_broken(&scene.end(), &["order", "register"]);
}

#[test]
fn a_process_that_ended_by_itself_and_a_fault_that_did_not_happen_are_no_pass() {
    let mut history = scene().end();
    history.ending.alarming.push("n1 ended".into());
    assert_broken(&history, &["process"]);
    history.ending.alarming.clear();
    let mut skipped = fault(0, MS);
    skipped.happened = false;
    history.faults = vec![skipped];
    let verdict = verdict(&history);
    assert!(verdict.broken.is_empty() && !verdict.is_pass());
    assert_eq!(verdict.word(), "INVALID");
}

/// A run of the mixed workload on a perfect store whose members lag, with operations that overlap, get lost and are
/// refused.
fn random(seed: u64) -> History {
    let mut rng = SimRng::seed_from_u64(seed);
    let workload = Workload::new(Kind::Mixed);
    let mut scene = Scene::new();
    let mut unique = 0;
    let mut number = || {
        unique += 1;
        unique
    };
    for op in workload.preparations(&mut number) {
        scene.ok(op);
    }
    // What each member has applied, for reads that may be old.
    let mut applied: Vec<State> = vec![scene.state.clone(); NODES];
    for _ in 0..400 {
        let op = workload.next(number(), &mut rng);
        let place = match rng.random_range(0..20) {
            0 => scene.lost(op),
            1 => scene.record(op, Outcome::Indefinite, 0, None),
            2 => scene.record(op, Outcome::Definite, 0, None),
            _ if !op.is_linearizable() => {
                let node = scene.history.operations.len() % NODES;
                let (body, _) = applied[node].evaluate(&op);
                scene.record(op, Outcome::Ok, applied[node].revision(), body)
            }
            _ => scene.ok(op),
        };
        let operation = &mut scene.history.operations[place];
        workload.learn(operation);
        // The effect is in the middle of each; neighbours may overlap half way.
        let overlap = rng.random_range(0..400) * MS;
        operation.invoke = operation.invoke.saturating_sub(overlap);
        operation.returned += overlap / 4;
        let node = rng.random_range(0..NODES);
        applied[node] = scene.state.clone();
    }
    scene.end()
}

#[test]
fn random_good_histories_pass() {
    for seed in 0..20 {
        let history = random(seed);
        let verdict = verdict(&history);
        assert!(
            verdict.broken.is_empty(),
            "seed {seed}: {:#?}",
            verdict.violations
        );
        assert!(verdict.measures.registers > 0 && verdict.measures.revisions > 100);
    }
}

/// Changes one thing that a client was told.
fn lie(operation: &mut Operation, rng: &mut SimRng) -> bool {
    let alter = |kv: &mut Kv, rng: &mut SimRng| match rng.random_range(0..5) {
        0 => kv.value.push('x'),
        1 => kv.created -= 1,
        2 => kv.modified -= 1,
        3 => kv.version += 1,
        _ => kv.key.push('x'),
    };
    if rng.random_range(0..4) == 0 {
        operation.revision += 1;
        return operation.op.is_linearizable() || operation.op.may_write();
    }
    match &mut operation.body {
        Some(Body::Put { previous: Some(kv) }) => alter(kv, rng),
        Some(Body::Delete { deleted, .. }) => *deleted = 1 - *deleted,
        Some(Body::Read { kvs, count }) => match kvs.first_mut() {
            Some(kv) if rng.random() => alter(kv, rng),
            _ => *count += 1,
        },
        Some(Body::Txn { succeeded, steps }) => {
            if let Some(Done::Get(Some(kv))) = steps.first_mut() {
                alter(kv, rng);
            } else {
                *succeeded = !*succeeded;
            }
        }
        _ => return false,
    }
    true
}

#[test]
fn a_good_history_with_one_lie_in_it_is_rejected() {
    let mut lies = 0;
    for seed in 0..10 {
        let good = random(seed);
        let mut rng = SimRng::seed_from_u64(seed);
        for _ in 0..40 {
            let mut history = good.clone();
            let place = rng.random_range(0..history.operations.len());
            let operation = &mut history.operations[place];
            if operation.outcome != Outcome::Ok || !lie(operation, &mut rng) {
                continue;
            }
            lies += 1;
            let told = history.operations[place].clone();
            assert!(
                !verdict(&history).broken.is_empty(),
                "seed {seed}: {told:?}"
            );
        }
    }
    assert!(lies > 200, "{lies}");
}

#[test]
fn a_history_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = random(3);
    history.faults = vec![fault(0, MS)];
    history.save(folder.path()).unwrap();
    let read = History::load(folder.path()).unwrap();
    assert_eq!(read.operations, history.operations);
    assert_eq!(read.watch.watchers, history.watch.watchers);
    assert_eq!(read.watch.deliveries, history.watch.deliveries);
    assert_eq!(read.watch.events, history.watch.events);
    assert_eq!(read.faults, history.faults);
    assert_eq!(read.logs, history.logs);
    assert_eq!(read.ending, history.ending);
    assert_eq!(verdict(&read), verdict(&history));
}
