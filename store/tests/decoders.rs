//! Every decoder of bytes from disk, fed with damaged ones: an error, never a panic, a loop or a flood.
//!
//! The corpus in `tests/corpus` was written by
//! `cargo test -p holdfast-store --test decoders -- --ignored write_the_corpus`.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of tests are small"
)]

mod fuzz;
mod log_common;

use std::cell::Cell;
use std::io::Cursor;
use std::sync::Arc;

use fuzz::{fuzz, fuzz_made, write_corpus};
use log_common::{Results, entries, id, must, options};
use prost::Message;
use proto::command::member_change::{Add, Bootstrap, Change, Promote, Publish, Remove, Update};
use proto::command::{Batch as Envelope, Command, MemberChange, command::Op};
use proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, Member, PutRequest, RangeRequest,
    RequestOp, TxnRequest,
};
use rand::Rng;
use rand::rngs::StdRng;
use store::bolt::read::Database;
use store::engine::memory::MemoryEngine;
use store::engine::{Batch, Edit, Family, StateEngine, Step};
use store::etcd::import::{self, Beginning, ImportError, Imported};
use store::etcd::{export, status};
use store::fs::{SimFs, WalFs};
use store::log::{Log, LogError, LogOptions, dump};
use store::record::Fields;
use store::snapshot::{Checkpoint, FileEntry, Kind, Manifest, Receiver};
use store::{
    BATCH_FORMAT, Entry, FEATURE_LEVEL, LogId, Machine, Membership, Options, Payload, Reader,
    Record, StoreError, StoredMembership, Sweep, Swept, Vote, layout,
};

/// Cases of each decoder that is quick.
const CASES: u64 = 50_000;

#[test]
fn kv_keys() {
    fuzz("kv-key", CASES, |input| {
        let Ok(found) = layout::split_kv_key(input) else {
            return 0;
        };
        let Ok(key) = layout::unescape(found.escaped) else {
            return 0;
        };
        // There is one way to write a key down.
        let mut again = Vec::new();
        match found.superseded {
            None => layout::put_kv_key(&mut again, &key, found.mod_revision),
            Some(sub) => layout::put_superseded_kv_key(&mut again, &key, found.mod_revision, sub),
        }
        assert_eq!(again, input);
        key.len()
    });
}

#[test]
fn kv_values() {
    fuzz("kv-value", CASES, |input| {
        let Ok((op, sub, record)) = layout::kv_value(input) else {
            return 0;
        };
        let fields = record.fields();
        assert_eq!(fields.key, record.key());
        assert_eq!(fields.value, record.value());
        let mut again = Vec::new();
        layout::put_kv_value(&mut again, op, sub, &record);
        assert_eq!(layout::kv_value(&again).unwrap(), (op, sub, record.clone()));
        // The bytes go out as they are: what protobuf reads in them is what the store reads.
        let seen = proto::etcd::mvccpb::KeyValue::decode(record.encoded()).unwrap();
        assert_eq!(seen, record.to_key_value());
        record.encoded().len()
    });
}

#[test]
fn log_items_and_the_state_of_the_database() {
    fuzz("layout", CASES, |input| {
        if let Ok((revision, sub)) = layout::log_key(input) {
            let mut again = Vec::new();
            layout::put_log_key(&mut again, revision, sub);
            assert_eq!(again, input);
        }
        if let Ok((op, key)) = layout::log_value(input) {
            let mut again = Vec::new();
            layout::put_log_value(&mut again, op, key);
            assert_eq!(again, input);
        }
        let format = layout::format(input);
        assert!(format.is_err() || input.len() <= 10);
        layout::state(input).map_or(0, |name| name.membership.membership.members.len() * 8)
    });
}

#[test]
fn tables_of_members() {
    fuzz("members", CASES, |input| {
        let Ok(members) = layout::members(input) else {
            return 0;
        };
        assert!(members.iter().all(|member| !members.is_removed(member.id)));
        let list = members.list();
        assert!(list.is_sorted_by_key(|member| member.id));
        list.iter().map(Message::encoded_len).sum()
    });
}

#[test]
fn memberships() {
    fuzz("membership", CASES, |input| {
        let Ok(membership) = Membership::decode(input) else {
            return 0;
        };
        let encoded = membership.encode();
        assert_eq!(Membership::decode(&encoded).unwrap(), membership);
        encoded.len()
    });
}

#[test]
fn manifests_of_snapshots() {
    fuzz("manifest", CASES, |input| {
        let Ok(manifest) = Manifest::decode(input) else {
            return 0;
        };
        assert_eq!(Manifest::decode(&manifest.encode()).unwrap(), manifest);
        let names = manifest.files.iter().map(|file| file.name.len());
        names.sum::<usize>() + manifest.name.membership.membership.members.len() * 8
    });
}

#[test]
fn images_of_states() {
    let mut manifest = None;
    for file in fuzz::files("manifest") {
        let decoded = Manifest::decode(&file).unwrap();
        manifest = Some(decoded)
            .filter(|decoded| decoded.kind == Kind::Image)
            .or(manifest);
    }
    let manifest = manifest.unwrap();
    fuzz("image", CASES / 10, |input| {
        let mut manifest = manifest.clone();
        manifest.files[0].size = input.len() as u64;
        let mut receiver = Receiver::in_memory(manifest, u64::MAX).unwrap();
        receiver.write(0, 0, input).unwrap();
        receiver.end_file(0, crc32c::crc32c(input)).unwrap();
        receiver.finish().map_or(0, |_| input.len())
    });
}

/// A database as one file: for each item its family, lengths, key and value.
fn put_items(out: &mut Vec<u8>, engine: &dyn StateEngine) {
    for family in Family::ALL {
        let mut visit = |key: &[u8], value: &[u8], _: &mut Vec<u8>| {
            out.push(family as u8);
            for part in [key, value] {
                out.extend_from_slice(&(part.len() as u16).to_le_bytes());
                out.extend_from_slice(part);
            }
            Step::Next
        };
        engine.scan(family, &[], None, &mut visit).unwrap();
    }
}

fn database_of(mut input: &[u8]) -> Arc<MemoryEngine> {
    fn part<'a>(input: &mut &'a [u8]) -> &'a [u8] {
        let Some((length, rest)) = input.split_first_chunk::<2>() else {
            return std::mem::take(input);
        };
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (part, rest) = rest.split_at(length);
        *input = rest;
        part
    }
    let mut batch = Batch::default();
    while let Some((&family, rest)) = input.split_first() {
        input = rest;
        let (key, value) = (part(&mut input), part(&mut input));
        batch.put(
            Family::ALL[usize::from(family) % Family::ALL.len()],
            |out| out.extend_from_slice(key),
            |out| out.extend_from_slice(value),
        );
    }
    let engine = MemoryEngine::new();
    engine.write(&batch).unwrap();
    engine.flush().unwrap();
    Arc::new(engine)
}

#[test]
fn databases() {
    fuzz("database", CASES, |input| {
        let engine = database_of(input);
        let options = Options {
            value_budget_bytes: 100,
        };
        let Ok(mut machine) = Machine::open(engine, options) else {
            return 0;
        };
        drop((machine.warm(10), machine.durable()));
        let reader = machine.reader();
        let view = reader.view();
        let mut given = 0;
        for revision in [0, 1, view.revision.wrapping_sub(2), view.revision] {
            for sort_target in 0..5 {
                let request = RangeRequest {
                    key: "\0".into(),
                    range_end: "\0".into(),
                    sort_target,
                    revision,
                    ..Default::default()
                };
                if let Ok(Ok(answer)) = reader.range(&view, &request) {
                    let records = answer.records.iter();
                    given += records
                        .map(|record| record.to_key_value().encoded_len())
                        .sum::<usize>();
                }
            }
        }
        let after = view.revision.saturating_sub(10);
        if let Ok(Ok(history)) = reader.history(&view, after, view.revision, 20, &mut |_| true) {
            let changes = history.sets.iter().flat_map(|set| &set.changes);
            given += changes
                .map(|change| change.record.encoded().len())
                .sum::<usize>();
        }
        let _ = reader.hash_kv(&view, 0, &|| true);
        let _ = reader.hash_whole(&view, &|| true);
        if input.len().is_multiple_of(4) {
            given += snapshot_of(&reader);
        }
        // At last, because it removes something. Each step comes further.
        let mut sweep = Sweep::new(reader);
        if sweep.raise_horizon().is_ok() {
            let mut goes_on = || matches!(sweep.step(2), Ok(Swept { is_done: false, .. }));
            let has_ended = (0..input.len() + 10).any(|_| !goes_on());
            assert!(has_ended, "the sweep does not end");
        }
        // Each question may be answered with all there is.
        given / 25
    });
}

/// Bytes of a snapshot of etcd's, but for what a page for each bucket takes.
fn snapshot_of(reader: &Reader) -> usize {
    let options = export::Options {
        storage_version: "3.7.0".to_owned(),
        cluster_version: "3.7.0".to_owned(),
        members: vec![(0xab, "{}".to_owned()), (0xcd, "{}".to_owned())],
        learners: vec![0xcd],
        removed: vec![0xef],
        sort_bytes: 500,
    };
    let temporary = tempfile::tempfile().unwrap();
    let out = Cursor::new(Vec::new());
    match export::export(reader, out, &temporary, &options, &mut || Ok(())) {
        Ok((out, exported)) => {
            assert_eq!(out.get_ref().len() as u64, exported.size);
            out.get_ref().len().saturating_sub(20 * 4096)
        }
        Err(_) => 0,
    }
}

/// A snapshot that etcd 3.7.3 made.
const OF_ETCD: &[u8] = include_bytes!("files/etcd-3.7.3.snapshot");

#[test]
fn databases_of_etcd() {
    let damaged = |random: &mut StdRng| {
        let mut file = OF_ETCD.to_vec();
        for _ in 0..random.random_range(1..8) {
            // Not the meta pages: their checksums would stop it.
            let at = random.random_range(8192..file.len() - 8);
            match random.random_range(0..3) {
                0 => file[at] ^= 1 << random.random_range(0..8),
                1 => file[at..at + 8].fill(0xff),
                _ => file[at] = random.random_range(0..40),
            }
        }
        file
    };
    let taken_over = |database: &Database<'_>| -> Result<(Machine, Imported), ImportError> {
        import::inspect(database)?;
        let beginning = Beginning {
            applied: LogId { term: 1, index: 1 },
            membership: StoredMembership::default(),
            bump_revision: None,
        };
        let engine = Arc::new(MemoryEngine::new());
        let imported = import::import(database, &*engine, &beginning, &mut |_| {})?;
        Ok((Machine::open(engine, Options::default())?, imported))
    };
    let taken = Cell::new(0);
    let cases = fuzz_made("etcd", 5_000, damaged, |input| {
        let database = Database::open(&input).unwrap();
        let _ = status::status(&database, &mut |_| {});
        let Ok((machine, imported)) = taken_over(&database) else {
            return 0;
        };
        // What was taken over can be read, and handed out.
        taken.set(taken.get() + 1);
        let reader = machine.reader();
        let all = RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            ..Default::default()
        };
        reader.range(&reader.view(), &all).unwrap().unwrap();
        imported.bytes as usize + snapshot_of(&reader)
    });
    eprintln!("{} of {cases} taken over", taken.get());
    let few = cases / 50;
    assert!((few..cases - few).contains(&taken.get()) || cases < 1000);
}

#[test]
fn entries_of_the_log() {
    let machine = std::cell::RefCell::new(None);
    fuzz("envelope", CASES, |input| {
        let mut slot = machine.borrow_mut();
        let machine = slot.get_or_insert_with(|| {
            let engine = Arc::new(MemoryEngine::new());
            Machine::open(engine, Options::default()).unwrap()
        });
        let index = machine.applied().map_or(1, |applied| applied.index + 1);
        let entry = Entry {
            id: LogId { term: 1, index },
            payload: Payload::Commands(input.to_vec().into()),
        };
        let result = machine.apply(&[entry]);
        // Not to drag along what a thousand cases wrote.
        if result.is_err() || index > 200 {
            *slot = None;
        }
        match result {
            Ok(_) => 0,
            Err(StoreError::Undecodable { .. } | StoreError::UnknownCommand { .. }) => 0,
            Err(error) => panic!("{error}"),
        }
    });
}

/// A log as one file: a byte of flags, then for each segment its number, its length and its bytes.
fn put_segments(disk: &SimFs) -> Vec<u8> {
    let mut out = vec![0];
    let mut names = disk.list().unwrap();
    names.sort();
    for name in names {
        let bytes = disk.contents(&name).unwrap();
        let end = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        out.push(name[..10].parse::<u8>().unwrap());
        out.extend_from_slice(&(end as u16).to_le_bytes());
        out.extend_from_slice(&bytes[..end]);
    }
    out
}

const SEGMENT: usize = 4096;

/// With the flag, checksums are made right again: a decoder must stand what a checksum does not catch.
fn disk_of(input: &[u8]) -> SimFs {
    let disk = SimFs::new(1);
    let Some((&flags, mut rest)) = input.split_first() else {
        return disk;
    };
    while let [number, low, high, tail @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high]))
            .min(tail.len())
            .min(2 * SEGMENT);
        let mut bytes = tail[..length].to_vec();
        rest = &tail[length..];
        if flags & 1 == 1 {
            repair(&mut bytes);
        }
        let name = format!("{:010}.wal", number % 16);
        if let Ok(file) = disk.create(&name) {
            file.write_at(0, &bytes).unwrap();
            file.preallocate(SEGMENT as u64).unwrap();
            file.sync_data().unwrap();
        }
    }
    disk.sync_dir().unwrap();
    disk
}

/// Sets the checksum of each frame, as far as lengths lead from one to the next.
fn repair(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
        let Some(frame) = bytes.get_mut(at..at.saturating_add(length).saturating_add(8)) else {
            return;
        };
        if length == 0 {
            return;
        }
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[8..]);
        frame[4..8].copy_from_slice(&checksum.to_le_bytes());
        at += length + 8;
    }
}

fn log_options() -> LogOptions {
    LogOptions {
        tail_bytes: 0,
        ..options(SEGMENT as u64)
    }
}

#[test]
fn logs() {
    // Both flags for each case: nearly all changes fail the checksum, and with it repaired hardly any does.
    fuzz("log", CASES, |input| {
        let disk = disk_of(input);
        let dumped = dump::read(&disk).unwrap().count();
        assert!(dumped <= input.len() + 16);
        let opened = Log::open(Arc::new(disk.clone()), log_options());
        let (log, mut worker, recovered) = match opened {
            Ok(opened) => opened,
            Err(LogError::Io { source, .. }) => panic!("{source}"),
            Err(_) => return dumped,
        };
        let range = log.range();
        assert!(range.end - range.start <= input.len() as u64);
        let read = log.entries(range.clone(), usize::MAX);
        if let Ok(entries) = &read {
            assert_eq!(entries.len() as u64, range.end - range.start);
        }
        // What opens takes more, and opens again with it.
        let last = recovered.last.map_or(LogId::default(), |last| last);
        if last.index > u64::MAX / 2 {
            return dumped;
        }
        let results = Results::default();
        let new = entries(last.term, range.end..range.end + 2, 30);
        log.append(new.clone(), results.done(1));
        worker.run_once();
        assert_eq!(results.taken(), [(1, true)]);
        drop((log, worker));
        disk.restart();
        let (log, ..) = Log::open(Arc::new(disk), log_options()).unwrap();
        assert_eq!(
            log.entries(range.end..range.end + 2, usize::MAX).unwrap(),
            new
        );
        dumped
    });
}

fn number_of(revision: i64) -> Fields<'static> {
    Fields {
        key: b"key\0with\xffall",
        create_revision: revision / 2,
        mod_revision: revision,
        version: revision,
        value: b"a value of some length",
        lease: revision / 3,
    }
}

fn commands() -> Vec<Op> {
    let put = |key: &str| PutRequest {
        key: key.to_owned().into(),
        value: "value".into(),
        prev_kv: true,
        ..Default::default()
    };
    let delete = DeleteRangeRequest {
        key: "a".into(),
        range_end: "c".into(),
        prev_kv: true,
    };
    let range = RangeRequest {
        key: "a".into(),
        range_end: "\0".into(),
        limit: 2,
        sort_order: 2,
        sort_target: 4,
        min_mod_revision: 1,
        max_create_revision: 9,
        ..Default::default()
    };
    let op = |request| RequestOp {
        request: Some(request),
    };
    let compare = |target: CompareTarget, union| Compare {
        result: CompareResult::Greater.into(),
        target: target.into(),
        key: "a".into(),
        range_end: "b".into(),
        target_union: Some(union),
    };
    let nested = TxnRequest {
        compare: vec![compare(
            CompareTarget::Value,
            TargetUnion::Value("v".into()),
        )],
        success: vec![op(Request::RequestDeleteRange(delete.clone()))],
        failure: vec![op(Request::RequestPut(put("a")))],
    };
    let txn = TxnRequest {
        compare: vec![
            compare(CompareTarget::Mod, TargetUnion::ModRevision(1)),
            compare(CompareTarget::Version, TargetUnion::Version(-1)),
            compare(CompareTarget::Create, TargetUnion::CreateRevision(0)),
            compare(CompareTarget::Lease, TargetUnion::Lease(-1)),
        ],
        success: vec![
            op(Request::RequestTxn(nested)),
            op(Request::RequestRange(range)),
        ],
        failure: vec![op(Request::RequestPut(put("b")))],
    };
    let member = |change| {
        let change = Some(change);
        Op::MemberChange(MemberChange { change })
    };
    let number = |id| Member {
        id,
        peer_urls: vec![format!("http://m{id}:2380")],
        ..Member::default()
    };
    let learner = Member {
        is_learner: true,
        ..number(3)
    };
    vec![
        Op::Put(put("a")),
        Op::Put(put("b")),
        Op::Txn(txn),
        Op::DeleteRange(delete),
        Op::Put(put("c")),
        Op::Compact(CompactionRequest {
            revision: 3,
            physical: true,
        }),
        Op::Alarm(AlarmRequest {
            action: 1,
            member_id: 5,
            alarm: 1,
        }),
        member(Change::Bootstrap(Bootstrap {
            members: vec![number(1), number(2)],
        })),
        member(Change::Add(Add {
            member: Some(learner),
            max_learners: 1,
        })),
        member(Change::Promote(Promote { id: 3 })),
        member(Change::Update(Update {
            id: 3,
            peer_urls: vec!["http://x:1".to_owned(), "http://y:1".to_owned()],
        })),
        member(Change::Publish(Publish {
            id: 3,
            name: "three".to_owned(),
            client_urls: vec!["http://x:2".to_owned()],
        })),
        member(Change::Remove(Remove { id: 2 })),
    ]
}

fn envelope(ops: Vec<Op>) -> Vec<u8> {
    let commands = ops.into_iter().enumerate().map(|(sequence, op)| Command {
        member: 0xa1,
        boot: 1,
        sequence: sequence as u64,
        user: "user".to_owned(),
        auth_revision: 1,
        trace_id: 7,
        op: Some(op),
    });
    let batch = Envelope {
        format: BATCH_FORMAT,
        feature_level: FEATURE_LEVEL,
        leader_time_ms: 1_700_000_000_000,
        commands: commands.collect(),
    };
    batch.encode_to_vec()
}

/// Run it after a change of a format, look at the difference, and commit it.
/// That of an image, and what the one of a database looks like.
fn manifests(checkpoint: &Checkpoint) -> [Vec<u8>; 2] {
    let image = checkpoint.manifest().clone();
    let files = ["000011.sst", "CURRENT", "MANIFEST-000005", "OPTIONS-000007"];
    let files = files.iter().zip([1 << 26, 16, 1 << 40, u64::MAX]);
    let database = Manifest {
        kind: Kind::Database,
        files: files
            .map(|(name, size)| FileEntry {
                name: (*name).to_owned(),
                size,
            })
            .collect(),
        ..image.clone()
    };
    [image.encode(), database.encode()]
}

#[test]
#[ignore = "writes into the source tree: cargo test -p holdfast-store --test decoders -- --ignored write_the_corpus"]
fn write_the_corpus() {
    let built = |put: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        put(&mut out);
        out
    };
    write_corpus(
        "kv-key",
        &[
            built(&|out| layout::put_kv_key(out, b"key", 5)),
            built(&|out| layout::put_kv_key(out, b"a\0b\0\0\xff", i64::MAX)),
            built(&|out| layout::put_kv_key(out, b"", 0)),
            built(&|out| layout::put_superseded_kv_key(out, b"a\0", 0xffff, 3)),
        ],
    );
    let value = |op, sub, revision| {
        built(&|out| layout::put_kv_value(out, op, sub, &Record::new(&number_of(revision))))
    };
    write_corpus(
        "kv-value",
        &[
            value(layout::Op::Put, 0, 5),
            value(layout::Op::Put, u32::MAX, i64::MAX),
            value(layout::Op::Delete, 300, 1),
            value(layout::Op::Put, 1, -1),
        ],
    );
    let membership = Membership {
        voters: vec![[1, 2, u64::MAX].into(), [7].into()],
        members: [1, 2, 7, u64::MAX].into(),
    };
    let memberships = [
        membership.encode().to_vec(),
        Membership::default().encode().to_vec(),
    ];
    write_corpus("membership", &memberships);
    write_corpus(
        "envelope",
        &[
            envelope(commands()),
            envelope(commands().split_off(4)),
            envelope(Vec::new()),
        ],
    );

    let engine = Arc::new(MemoryEngine::new());
    let mut machine = Machine::open(engine.clone(), Options::default()).unwrap();
    let apply = |machine: &mut Machine, index, payload| {
        let id = LogId { term: 1, index };
        machine.apply(&[Entry { id, payload }]).unwrap();
    };
    let mut databases = Vec::new();
    let mut tables = Vec::new();
    let mut states = vec![
        built(&|out| layout::put_log_key(out, 77, 3)),
        built(&|out| layout::put_log_value(out, layout::Op::Delete, b"key")),
        layout::format_value(),
    ];
    apply(&mut machine, 1, Payload::Membership(membership));
    let all = commands();
    for (index, ops) in [(2, all[..5].to_vec()), (3, all)] {
        apply(&mut machine, index, Payload::Commands(envelope(ops).into()));
        let found = |state: &[u8]| states.push(state.to_vec());
        let mut found = found;
        engine
            .get(Family::Meta, layout::META_STATE, &mut found)
            .unwrap();
        let mut found = |table: &[u8]| tables.push(table.to_vec());
        engine
            .get(Family::Meta, layout::META_MEMBERS, &mut found)
            .unwrap();
        databases.push(built(&|out| put_items(out, &*engine)));
    }
    write_corpus("members", &tables);
    // Deletions are compacted and half of them swept.
    let compaction = CompactionRequest {
        revision: machine.reader().view().revision,
        physical: true,
    };
    let compaction = envelope(vec![Op::Compact(compaction)]);
    apply(&mut machine, 4, Payload::Commands(compaction.into()));
    engine.flush().unwrap();
    let checkpoint = engine.checkpoint().unwrap();
    write_corpus("manifest", &manifests(&checkpoint));
    let mut image = vec![0; checkpoint.manifest().size() as usize];
    checkpoint.read(0, 0, &mut image).unwrap();
    write_corpus("image", &[image]);
    let mut sweep = Sweep::new(machine.reader());
    sweep.raise_horizon().unwrap();
    assert!(!sweep.step(3).unwrap().is_done);
    databases.push(built(&|out| put_items(out, &*engine)));
    write_corpus("layout", &states);
    write_corpus("database", &databases);

    let disk = SimFs::new(1);
    let (log, mut worker, _) = Log::open(Arc::new(disk.clone()), log_options()).unwrap();
    let mut logs = vec![put_segments(&disk)];
    let vote = Vote {
        term: 1,
        voted_for: Some(3),
        committed: true,
    };
    log.save_vote(vote, must());
    log.append(entries(1, 0..20, 150), must());
    worker.run_once();
    log.truncate_after(Some(id(1, 15)), must());
    log.append(entries(2, 16..24, 300), must());
    log.save_committed(id(1, 7));
    worker.run_once();
    logs.push(put_segments(&disk));
    log.purge(id(2, 17), must());
    log.append(entries(2, 24..26, 10), must());
    worker.run_once();
    worker.mark();
    logs.push(put_segments(&disk));
    // Each once more with the flag for repaired checksums.
    let mut repaired = logs.clone();
    repaired.iter_mut().for_each(|log| log[0] = 1);
    logs.append(&mut repaired);
    write_corpus("log", &logs);
}

/// What a batch that was written says of its items, for the reader of a failed case.
#[test]
fn a_database_is_read_back_as_it_was_written() {
    let mut batch = Batch::default();
    batch.put(Family::Tip, |out| out.push(1), |out| out.push(2));
    assert_eq!(
        batch.iter().collect::<Vec<_>>(),
        [(Family::Tip, Edit::Put(&[1], &[2]))]
    );
    let engine = MemoryEngine::new();
    engine.write(&batch).unwrap();
    let mut out = Vec::new();
    put_items(&mut out, &engine);
    let mut again = Vec::new();
    put_items(&mut again, &*database_of(&out));
    assert_eq!(again, out);
}
