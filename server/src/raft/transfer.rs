//! Snapshots between the state machines of two members, as the network and openraft move them: made, received,
//! installed, and found again after a restart.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use openraft::RaftSnapshotBuilder;
use openraft::impls::TokioRuntime;
use openraft::storage::RaftStateMachine;
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use prost::Message as _;
use proto::command::{Batch, Command, command::Op};
use proto::etcd::etcdserverpb::{PutRequest, RangeRequest};
use store::engine::place::Place;
use store::engine::rocks::{RocksEngine, RocksOptions};
use store::fs::RealFs;
use store::log::{Log, LogOptions};
use store::snapshot::Checkpoint;
use store::{BATCH_FORMAT, Entry, FEATURE_LEVEL, LogId, Machine, Options, Payload};
use tempfile::TempDir;

use super::agreement::{self, Agreement};
use super::apply::{ApplyWorker, Jobs};
use super::core::Parts;
use super::driver::LogWork;
use super::flush::{FlushWorker, Flushes};
use super::types::{raft_entry, raft_id};
use super::{Core, LogStorage, SnapshotHandle, StateMachine, Types, received};
use crate::databases::Databases;
use crate::exec::{Clock, Exec, SystemClock, Threads};
use crate::metrics::{AnyOpen, Closed, Metrics, TimedEngine};
use crate::watch::{self, Hub, Identity};

type Runtime = TokioRuntime;
type Snapshot = SnapshotOf<Types<Runtime>, SnapshotHandle>;

/// A member without consensus.
struct Member {
    core: Arc<Core>,
    machine: StateMachine,
    log: Log,
    jobs: Jobs,
    flushes: Flushes,
    exec: Threads,
    agreement: Agreement,
    closed: Closed,
}

impl Member {
    async fn open(folder: &Path) -> Self {
        let wal = folder.join("wal");
        std::fs::create_dir_all(&wal).unwrap();
        let options = LogOptions {
            segment_bytes: 1 << 16,
            ..LogOptions::new(1, 1)
        };
        let (log, worker, _) = Log::open(Arc::new(RealFs::new(wal)), options).unwrap();
        let place = Arc::new(Place::open(folder).unwrap());
        let current = place.current().unwrap();
        let (any, closed) = AnyOpen::new();
        let metrics = Arc::new(Metrics::new(false));
        let open = move |folder: &Path| {
            let engine = RocksEngine::open(folder, &RocksOptions::default())?;
            let space = Arc::default();
            let (engine, closed) = TimedEngine::new(engine, metrics.clone(), space, any.clone());
            Ok((Arc::new(engine) as Arc<dyn store::StateEngine>, closed))
        };
        let (databases, engine) = Databases::open(place, &current, 0, Box::new(open)).unwrap();
        let machine = Machine::open(engine, Options::default()).unwrap();
        let agreement = agreement::of(&machine, &log).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let (hub, hub_worker, catch_up) = Hub::new(
            machine.reader(),
            Identity::default(),
            watch::Options::default(),
            clock.clone(),
        );
        let core = Core::new(Parts {
            cluster_id: 1,
            member_id: 1,
            boot: 1,
            term: Arc::default(),
            clock,
            reader: machine.reader(),
            hub,
            databases: Arc::new(databases),
            metrics: Arc::new(Metrics::new(false)),
            admission: Arc::default(),
            applied: (machine.applied(), machine.membership().clone()),
            lease_grace: Duration::ZERO,
        });
        let (apply, jobs) = ApplyWorker::new(machine, core.clone());
        let (flush, flushes) = FlushWorker::new(core.clone());
        let exec = Threads::default();
        exec.start("wal", Box::new(LogWork(worker)));
        agreement.establish(&log).await.unwrap();
        exec.start("apply", Box::new(apply));
        exec.start("flush", Box::new(flush));
        exec.start("hub", Box::new(hub_worker));
        exec.start("catch-up", Box::new(catch_up));
        let machine = StateMachine::new(
            core.clone(),
            jobs.clone(),
            flushes.clone(),
            Some(log.clone()),
        );
        Self {
            core,
            machine,
            log,
            jobs,
            flushes,
            exec,
            agreement,
            closed,
        }
    }

    /// As a process ends that is killed: nothing is flushed.
    async fn kill(self) {
        self.jobs.close();
        self.flushes.close();
        self.log.close();
        self.core.hub.close();
        self.exec.join();
        let closed = self.closed;
        drop((self.core, self.machine, self.jobs, self.flushes, self.log));
        let closed = tokio::time::timeout(Duration::from_secs(20), closed).await;
        assert!(closed.expect("nobody holds the database").is_err());
    }

    /// Logs and applies entries of one put each.
    async fn apply(&mut self, indexes: std::ops::RangeInclusive<u64>) {
        let entries: Vec<Entry> = indexes.map(entry).collect();
        let storage = LogStorage::new(self.log.clone(), None);
        let logged = storage.durably(|log, done| log.append(entries.clone(), done));
        logged.await.unwrap();
        let entries = entries
            .into_iter()
            .map(|entry| Ok((raft_entry(entry), None)));
        let entries = stream::iter(entries);
        RaftStateMachine::<Types<Runtime>>::apply(&mut self.machine, entries)
            .await
            .unwrap();
        // Of commands it does not wait for the worker, but what asks where it stands does.
        RaftStateMachine::<Types<Runtime>>::applied_state(&mut self.machine)
            .await
            .unwrap();
    }

    async fn current(&mut self) -> Option<Snapshot> {
        let machine = &mut self.machine;
        RaftStateMachine::<Types<Runtime>>::get_current_snapshot(machine)
            .await
            .unwrap()
    }

    async fn install(
        &mut self,
        meta: &SnapshotMetaOf<Types<Runtime>>,
        snapshot: SnapshotHandle,
    ) -> std::io::Result<()> {
        let machine = &mut self.machine;
        RaftStateMachine::<Types<Runtime>>::install_snapshot(machine, meta, snapshot).await
    }

    fn keys(&self) -> i64 {
        let view = self.core.reader.view();
        let request = RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            ..RangeRequest::default()
        };
        let found = self.core.reader.range(&view, &request).unwrap().unwrap();
        assert_eq!(found.records.len() as i64, found.count);
        found.count
    }
}

fn entry(index: u64) -> Entry {
    let put = PutRequest {
        key: format!("key {index}").into(),
        value: vec![b'v'; 1000].into(),
        ..PutRequest::default()
    };
    let batch = Batch {
        format: BATCH_FORMAT,
        feature_level: FEATURE_LEVEL,
        leader_time_ms: 0,
        commands: vec![Command {
            op: Some(Op::Put(put)),
            ..Command::default()
        }],
    };
    Entry {
        id: LogId { term: 2, index },
        payload: Payload::Commands(batch.encode_to_vec().into()),
    }
}

/// What the network does.
fn send(checkpoint: &Checkpoint, to: &Databases) -> store::snapshot::Received {
    let mut receiver = to.receive(checkpoint.manifest().clone()).unwrap();
    let mut buffer = vec![0; store::snapshot::CHUNK];
    for (number, file) in checkpoint.manifest().files.iter().enumerate() {
        let mut offset = 0;
        while offset < file.size {
            let len = checkpoint.read(number, offset, &mut buffer).unwrap();
            receiver.write(number, offset, &buffer[..len]).unwrap();
            offset += len as u64;
        }
        let sum = checkpoint.checksum(number).unwrap();
        receiver.end_file(number, sum).unwrap();
    }
    receiver.finish().unwrap()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

#[tokio::test]
async fn a_snapshot_is_what_the_other_member_has_at_once_and_after_a_restart() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut sender = Member::open(one.path()).await;
    sender.apply(1..=50).await;
    let mut builder =
        RaftStateMachine::<Types<Runtime>>::get_snapshot_builder(&mut sender.machine).await;
    let built = RaftSnapshotBuilder::<Types<Runtime>>::build_snapshot(&mut builder)
        .await
        .unwrap();
    assert_eq!(built.meta.last_log_id, Some(raft_id(entry(50).id)));
    drop((built, builder));
    assert_eq!(sender.core.holds.oldest(), u64::MAX);
    let named = sender.current().await.unwrap();
    assert_eq!(sender.core.holds.oldest(), 50);
    sender.apply(51..=60).await;

    // The files are of now, and not those of a leader that did not see the entries in them.
    assert!(named.snapshot.checkpoint(1).unwrap().is_none());
    let checkpoint = named.snapshot.checkpoint(2).unwrap().unwrap();
    assert_eq!(checkpoint.name().applied, entry(60).id);

    let mut member = Member::open(two.path()).await;
    member.apply(1..=10).await;
    let too_late = send(&checkpoint, &member.core.databases);
    assert!(received::<Runtime>(too_late, 1).is_none());
    let arrived = send(&checkpoint, &member.core.databases);
    drop((checkpoint, named));
    let snapshot: Snapshot = received::<Runtime>(arrived, 2).unwrap();
    let meta = snapshot.meta.clone();
    assert_eq!(meta.last_log_id, Some(raft_id(entry(60).id)));
    let old = member.core.reader.view();
    member.install(&meta, snapshot.snapshot).await.unwrap();

    assert_eq!(member.keys(), 60);
    assert_eq!(member.core.applied_index(), 60);
    assert_eq!(member.current().await.unwrap().meta, meta);
    let flushed = member.flushes.flush().await.unwrap().unwrap();
    assert_eq!(flushed.applied, entry(60).id);
    // The old database is there as long as somebody reads it.
    assert!(two.path().join("db/CURRENT").exists());
    assert!(store::snapshot::current(&*old.engine).unwrap().is_some());
    drop(old);
    let is_gone = || !two.path().join("db").exists();
    until("the old database is not removed", is_gone).await;
    assert_eq!(member.log.last(), Some(entry(10).id));
    member.kill().await;

    // It was killed before consensus purged the log.
    let mut member = Member::open(two.path()).await;
    let expected = Agreement::LogBeginsBehind(entry(60).id);
    assert_eq!(member.agreement, expected);
    assert_eq!(member.log.last(), Some(entry(60).id));
    assert_eq!(member.keys(), 60);
    assert_eq!(member.current().await.unwrap().meta, meta);
    member.apply(61..=70).await;
    member.flushes.flush().await.unwrap();
    member.kill().await;
    let member = Member::open(two.path()).await;
    assert_eq!(member.agreement, Agreement::Reached);
    assert_eq!(member.keys(), 70);
    member.kill().await;
    sender.kill().await;
}

#[tokio::test]
async fn a_snapshot_other_than_announced_is_not_installed() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut sender = Member::open(one.path()).await;
    sender.apply(1..=20).await;
    let mut member = Member::open(two.path()).await;
    let checkpoint = sender.core.engine.checkpoint().unwrap();
    let arrived = send(&checkpoint, &member.core.databases);
    let snapshot: Snapshot = received::<Runtime>(arrived, 2).unwrap();
    let mut meta = snapshot.meta.clone();
    meta.last_log_id = Some(raft_id(entry(21).id));
    let refused = member.install(&meta, snapshot.snapshot).await;
    refused.unwrap_err();
    assert_eq!(member.keys(), 0);
    member.kill().await;
    sender.kill().await;
}
