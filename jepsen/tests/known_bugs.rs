//! The bugs that etcd's robustness suite keeps reproducible, each as a test of what is promised instead.
//!
//! The names are those of the table in `docs/jepsen.md`, which tells what happened in etcd. Each is the shortest run that
//! would show the bug here: the fan-out step by step, the state machine on both engines' rules, or a simulated node or
//! cluster with seeds that meet it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(
    dead_code,
    reason = "made for the tests of the fan-out, which need more of it"
)]
#[path = "../../server/tests/watch/world.rs"]
mod world;

use std::sync::Arc;

use jepsen::many_nodes;
use jepsen::one_node;
use prost::Message;
use proto::command::{Batch, Command, command::Op};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest, WatchResponse,
};
use server::watch::Options;
use store::engine::memory::MemoryEngine;
use store::{
    Answered, BATCH_FORMAT, Entry, FEATURE_LEVEL, LogId, Machine, Payload, StateEngine, Sweep,
};
use world::{Client, Edit, World};

fn put(key: &str, value: &str) -> Edit {
    (key.into(), Some(value.into()))
}

fn delete(key: &str) -> Edit {
    (key.into(), None)
}

/// Everything from a revision on.
fn everything(start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision,
        progress_notify: true,
        ..WatchCreateRequest::default()
    }
}

/// The revisions of all events, in the order in which they came.
fn revisions(responses: &[WatchResponse]) -> Vec<i64> {
    let events = responses.iter().flat_map(|response| &response.events);
    events
        .map(|event| event.kv.as_ref().unwrap().mod_revision)
        .collect()
}

/// What is no event and no confirmation.
fn progress(responses: &[WatchResponse]) -> Vec<i64> {
    let empty = responses
        .iter()
        .filter(|response| response.events.is_empty() && !response.created && !response.canceled);
    empty
        .map(|response| response.header.unwrap().revision)
        .collect()
}

/// So little memory that whoever is behind reads history, and whoever does not read is soon behind.
fn tight() -> World {
    World::new(Options {
        ring_bytes: 1,
        stream_bytes: 500,
        ..Options::default()
    })
}

/// A node alone, crashed at any step under these seeds.
fn crash(seeds: std::ops::Range<u64>) -> one_node::Coverage {
    let mut met = one_node::Coverage::default();
    for seed in seeds {
        let plan = one_node::Plan {
            seed,
            crashes: 12,
            mutant: None,
        };
        let report = one_node::run(plan).unwrap_or_else(|violation| {
            panic!("SEED={seed}: {violation}");
        });
        met = met.plus(report.coverage);
    }
    met
}

/// #13766, #14685: after a crash at high load members stood at different revisions.
#[test]
fn apply_batch_atomicity() {
    let met = crash(0..12);
    // What was applied and what it was applied to are one, wherever the power went.
    assert!(met.power_cuts > 0 && met.replays > 0, "{met:?}");
}

/// #14370: a single node acknowledged a write before it was on disk, and a crash lost it.
#[test]
fn ack_after_fsync_1node() {
    let met = crash(100..112);
    assert!(met.power_losses > 0 && met.failed_syncs > 0, "{met:?}");
    // The control: with syncs that do nothing the same runs do lose writes.
    let lies = one_node::Plan {
        seed: 100,
        crashes: 12,
        mutant: Some(one_node::Mutant::SyncsNothing),
    };
    let found = (100..112).any(|seed| one_node::run(one_node::Plan { seed, ..lies }).is_err());
    assert!(found, "nobody notices a disk that lies");
}

/// #15220: progress came before events that it covers.
#[test]
fn bookmark_after_events() {
    let mut world = World::new(Options::default());
    let mut client = Client::new(&world);
    client.create(everything(0));
    client.exchange(&mut world);
    // The store has them, the fan-out does not yet.
    world.write(vec![vec![put("a", "1")], vec![put("b", "1")]]);
    client.progress();
    let early = client.exchange(&mut world);
    assert_eq!(progress(&early), [0; 0]);
    world.settle();
    let responses = client.exchange(&mut world);
    assert_eq!(revisions(&responses), [2, 3]);
    assert_eq!(progress(&responses), [3]);
    assert!(
        responses.last().unwrap().events.is_empty(),
        "progress comes last"
    );
}

/// #15271: a watch on a member that had got a snapshot went back in time.
#[test]
fn watch_monotone_over_snapshot_install() {
    let mut world = World::new(Options::default());
    let mut client = Client::new(&world);
    client.create(everything(1));
    world.write(vec![vec![put("a", "1")]]);
    world.settle();
    world.write(vec![vec![put("a", "2")], vec![delete("a")]]);
    world.jump();
    world.write(vec![vec![put("a", "3")]]);
    world.settle();
    assert_eq!(revisions(&client.exchange(&mut world)), [2, 3, 4, 5]);
}

/// #17247: events came twice, from a transaction that was looked up before it was committed.
#[test]
fn watch_unique() {
    let mut world = World::new(Options::default());
    let mut client = Client::new(&world);
    client.create(everything(1));
    client.create(WatchCreateRequest {
        key: "a".into(),
        range_end: "".into(),
        ..everything(1)
    });
    client.exchange(&mut world);
    // Many transactions that share keys, applied together.
    let transactions = (0..50).map(|n| vec![put("a", &n.to_string()), put("b", "1")]);
    world.write(transactions.collect());
    world.settle();
    let responses = client.exchange(&mut world);
    let of = |watch_id| {
        let mine = responses.iter().filter(|r| r.watch_id == watch_id);
        revisions(&mine.cloned().collect::<Vec<_>>())
    };
    let both: Vec<i64> = (2..52).flat_map(|revision| [revision, revision]).collect();
    assert_eq!(of(0), both);
    let one: Vec<i64> = (2..52).collect();
    assert_eq!(of(1), one);
}

/// #17529: a watcher whose stream had no room lost events.
#[test]
fn slow_watcher_no_loss() {
    let mut world = tight();
    let mut client = Client::new(&world);
    client.create(everything(1));
    client.exchange(&mut world);
    for n in 0..300 {
        world.put("a", &n.to_string());
    }
    let all: Vec<i64> = (2..302).collect();
    assert_eq!(revisions(&client.exchange(&mut world)), all);
}

/// The state machine by itself.
struct Store {
    engine: Arc<MemoryEngine>,
    machine: Machine,
    index: u64,
}

impl Store {
    fn new() -> Store {
        let engine = Arc::new(MemoryEngine::new());
        let machine = open(&engine);
        Store {
            engine,
            machine,
            index: 0,
        }
    }

    fn apply(&mut self, op: Op) -> Answered {
        self.index += 1;
        let batch = Batch {
            format: BATCH_FORMAT,
            feature_level: FEATURE_LEVEL,
            leader_time_ms: 0,
            commands: vec![Command {
                op: Some(op),
                ..Command::default()
            }],
        };
        let entry = Entry {
            id: LogId {
                term: 1,
                index: self.index,
            },
            payload: Payload::Commands(batch.encode_to_vec().into()),
        };
        self.machine.apply(&[entry]).unwrap().answers.remove(0)
    }

    fn put(&mut self, key: &'static str) {
        self.apply(Op::Put(PutRequest {
            key: key.into(),
            ..PutRequest::default()
        }));
    }

    fn delete(&mut self, key: &'static str) {
        self.apply(Op::DeleteRange(DeleteRangeRequest {
            key: key.into(),
            ..DeleteRangeRequest::default()
        }));
    }

    fn compact(&mut self, revision: i64) {
        self.apply(Op::Compact(CompactionRequest {
            revision,
            physical: false,
        }));
    }

    fn revision(&self) -> i64 {
        self.machine.reader().view().revision
    }
}

fn open(engine: &Arc<MemoryEngine>) -> Machine {
    Machine::open(engine.clone(), store::Options::default()).unwrap()
}

/// #17780: a crash in a compaction that removed the newest revision took the revision back.
#[test]
fn compact_crash_revision() {
    // Removal goes in steps; the crash comes after each number of them, with what was flushed before or after.
    for steps in 0..6 {
        for is_flushed in [false, true] {
            let mut store = Store::new();
            for key in ["a", "b", "c"] {
                store.put(key);
            }
            for key in ["a", "b", "c"] {
                store.delete(key);
            }
            let revision = store.revision();
            store.compact(revision);
            store.engine.flush().unwrap();
            let mut sweep = Sweep::new(store.machine.reader());
            sweep.raise_horizon().unwrap();
            for _ in 0..steps {
                sweep.step(1).unwrap();
            }
            if is_flushed {
                store.engine.flush().unwrap();
            }
            drop(sweep);
            store.engine.crash();
            let machine = open(&store.engine);
            assert_eq!(machine.reader().view().revision, revision, "{steps} steps");
        }
    }
}

/// A key that is deleted at revision 3, and a watcher that is told of it from history alone.
fn watched_deletion(compacts_first: bool) -> Vec<i64> {
    let mut world = tight();
    let mut client = Client::new(&world);
    world.write(vec![vec![put("a", "1")]]);
    world.write(vec![vec![delete("a")]]);
    if compacts_first {
        world.compact(3);
        world.settle();
        client.create(everything(3));
    } else {
        client.create(everything(3));
        world.settle();
        world.compact(3);
    }
    world.put("b", "1");
    let responses = client.exchange(&mut world);
    assert!(responses.iter().all(|response| !response.canceled));
    revisions(&responses)
}

/// #18089: a compaction at the revision of a deletion took the event from a watcher that had not got it yet.
#[test]
fn compact_on_tombstone_behind_a_watcher() {
    assert_eq!(watched_deletion(false), [3, 4]);
}

/// #19179: a watch that began at the compacted revision missed the deletion there.
#[test]
fn compact_on_tombstone_before_a_watcher() {
    assert_eq!(watched_deletion(true), [3, 4]);
}

/// #18055: two snapshots in quick succession ended the process.
#[test]
fn snapshot_burst() {
    let mut world = World::new(Options::default());
    let mut client = Client::new(&world);
    client.create(everything(1));
    client.exchange(&mut world);
    for _ in 0..20 {
        world.write(vec![vec![put("a", "1")]]);
        world.jump();
        world.write(vec![vec![put("a", "2")]]);
        world.jump();
        world.jump();
    }
    let all: Vec<i64> = (2..42).collect();
    assert_eq!(revisions(&client.exchange(&mut world)), all);
}

/// #18667: a transaction that read a compacted revision was done on members that had removed it, and on others not.
#[test]
fn txn_compacted_deterministic() {
    let read_and_write = |revision| {
        let range = Request::RequestRange(RangeRequest {
            key: "a".into(),
            revision,
            ..RangeRequest::default()
        });
        let put = Request::RequestPut(PutRequest {
            key: "b".into(),
            ..PutRequest::default()
        });
        let op = |request| RequestOp {
            request: Some(request),
        };
        Op::Txn(TxnRequest {
            success: vec![op(put), op(range)],
            ..TxnRequest::default()
        })
    };
    for revision in 1..6 {
        let mut members = [Store::new(), Store::new()];
        let mut answers = Vec::new();
        for (nth, store) in members.iter_mut().enumerate() {
            for _ in 0..4 {
                store.put("a");
            }
            store.compact(4);
            if nth == 1 {
                store.engine.flush().unwrap();
                let mut sweep = Sweep::new(store.machine.reader());
                sweep.raise_horizon().unwrap();
                while !sweep.step(1).unwrap().is_done {}
            }
            let answer = store.apply(read_and_write(revision));
            answers.push((format!("{:?}", answer.outcome), store.revision()));
        }
        assert_eq!(answers[0], answers[1], "at revision {revision}");
    }
}

/// A watcher of revision 10, of a store that is at revision 4, on a stream that falls behind.
fn watch_the_future() -> (World, Client) {
    let mut world = tight();
    let mut client = Client::new(&world);
    for n in 0..3 {
        world.put("a", &n.to_string());
    }
    client.create(everything(10));
    client.create(everything(1));
    client.exchange(&mut world);
    (world, client)
}

/// #20221: a watch of a future revision got events below it.
#[test]
fn future_watch_gets_no_old_events() {
    let (mut world, mut client) = watch_the_future();
    for n in 0..10 {
        world.put("a", &n.to_string());
    }
    let responses = client.exchange(&mut world);
    let its = responses.iter().filter(|response| response.watch_id == 0);
    let its: Vec<WatchResponse> = its.cloned().collect();
    assert_eq!(revisions(&its), [10, 11, 12, 13, 14]);
}

/// #20221, the other half: it was told progress below its start.
#[test]
fn future_watch_gets_no_old_progress() {
    let (mut world, mut client) = watch_the_future();
    for n in 0..8 {
        client.progress();
        world
            .clock
            .advance(Options::default().progress_interval * 2);
        let responses = client.exchange(&mut world);
        let whole = responses.iter().filter(|response| response.watch_id <= 0);
        let told = progress(&whole.cloned().collect::<Vec<_>>());
        let revision = world.revision;
        match revision < 10 {
            true => assert_eq!(told, [0; 0], "at revision {revision}"),
            false => assert!(told.iter().all(|told| *told >= 10), "{told:?}"),
        }
        world.put("a", &n.to_string());
    }
}

/// #20271: a read met a page that a write had just given free, and the process ended.
#[test]
fn storage_panic_scan() {
    let mut store = Store::new();
    for _ in 0..200 {
        for key in ["a", "b", "c", "d"] {
            store.put(key);
        }
    }
    let reader = store.machine.reader();
    let view = reader.view();
    let read = || {
        let everything = RangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            ..RangeRequest::default()
        };
        for _ in 0..500 {
            let found = reader.range(&view, &everything).unwrap().unwrap();
            let revisions: Vec<i64> = found
                .records
                .iter()
                .map(|record| record.mod_revision())
                .collect();
            assert_eq!(revisions, [798, 799, 800, 801]);
        }
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(read)).collect();
        while readers.iter().any(|reader| !reader.is_finished()) {
            store.put("a");
            store.delete("b");
            let revision = store.revision();
            store.compact(revision);
            store.engine.flush().unwrap();
            let mut sweep = Sweep::new(store.machine.reader());
            sweep.raise_horizon().unwrap();
            while !sweep.step(10).unwrap().is_done {}
            store.engine.compact(&mut |_| true);
        }
    });
}

/// #20418: a linearizable read was answered by an index that had been asked for before the leader changed.
#[test]
fn readindex_unique_per_attempt() {
    let mut pauses = 0;
    let mut terms = 0;
    // The mutant `read-index-reused` falls by one of the first two.
    for seed in 0..8 {
        let plan = many_nodes::Plan {
            seed,
            is_told: false,
        };
        let report = many_nodes::run(plan).unwrap_or_else(|violation| {
            panic!("SEED={seed}: {violation}");
        });
        pauses += report.coverage.pauses;
        terms += report.coverage.terms;
    }
    assert!(pauses > 0 && terms > 8, "{pauses} pauses, {terms} terms");
}
