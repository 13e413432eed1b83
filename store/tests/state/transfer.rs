//! Snapshots on their way from one member to another: made, sent in pieces over a bad line, verified, installed.
//!
//! `SEED` replays a run.

use std::sync::Arc;

use proto::command::command::Op;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::engine::memory::MemoryEngine;
use store::engine::{Family, StateEngine, Step};
use store::snapshot::{Arrived, CHUNK, Checkpoint, Manifest, ReceiveError, Received, Receiver};
use store::{Entry, Machine, Options, snapshot};

use crate::check::{check_all_revisions, check_view};
use crate::commands::{entry, put};
use crate::generate::{command, range, seed};
use crate::model::Model;

/// Values that are not in memory come from the engine, where a mistake would show.
pub(crate) const NOTHING_CACHED: Options = Options {
    value_budget_bytes: 0,
};

/// All items but those that are each member's own affair.
pub(crate) fn items(engine: &dyn StateEngine) -> Vec<(Family, Vec<u8>, Vec<u8>)> {
    let mut items = Vec::new();
    for family in Family::ALL {
        engine
            .scan(family, &[], None, &mut |key, value, _| {
                if family != Family::Meta || key != b"installed" {
                    items.push((family, key.to_vec(), value.to_vec()));
                }
                Step::Next
            })
            .unwrap();
    }
    items
}

fn hash(machine: &Machine) -> u32 {
    let reader = machine.reader();
    reader
        .hash_whole(&reader.view(), &|| true)
        .unwrap()
        .unwrap()
}

/// A history and the model of it.
pub(crate) struct History {
    pub(crate) model: Model,
    pub(crate) entries: Vec<Entry>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self {
            model: Model::new(),
            entries: Vec::new(),
        }
    }

    /// So many more entries of random commands.
    pub(crate) fn grow(&mut self, random: &mut StdRng, entries: usize) {
        for _ in 0..entries {
            let mut ops: Vec<Op> = Vec::new();
            for _ in 0..random.random_range(1..5) {
                let op = command(random, &self.model);
                let _ = self.model.apply(&op);
                ops.push(op);
            }
            self.entries.push(entry(self.entries.len() as u64 + 1, ops));
        }
    }

    /// Applies what the machine does not have.
    pub(crate) fn feed(&self, machine: &mut Machine) {
        machine.apply(&self.entries).unwrap();
    }
}

/// Sends everything in order, in chunks of random sizes. Now and then the line breaks, so that some of what was sent is
/// lost and the sender has to ask; some chunks arrive damaged. Gives the breaks.
fn send(checkpoint: &Checkpoint, receiver: &mut Receiver, random: &mut StdRng) -> usize {
    let files = checkpoint.manifest().files.clone();
    let most = [100, 5_000, CHUNK][random.random_range(0..3)];
    let odds = [0.0, 0.02, 0.2][random.random_range(0..3)];
    let mut buffer = vec![0; most];
    let mut breaks = 0;
    // Each costs its whole file once more.
    let mut corruptions = random.random_range(0..4);
    'line: loop {
        let have = receiver.have();
        let (mut file, mut offset) = (have.file, have.offset);
        let mut is_lost = false;
        while file < files.len() {
            while offset < files[file].size {
                let len = random.random_range(1..=most);
                let read = checkpoint.read(file, offset, &mut buffer[..len]).unwrap();
                assert!(read > 0);
                is_lost |= random.random_bool(odds);
                if !is_lost {
                    if corruptions > 0 && random.random_bool(odds) {
                        corruptions -= 1;
                        buffer[random.random_range(0..read)] ^= 1 << random.random_range(0..8);
                    }
                    receiver.write(file, offset, &buffer[..read]).unwrap();
                } else if random.random_bool(0.5) {
                    // What comes behind a gap is refused and changes nothing.
                    let refused = receiver.write(file, offset + 1, &buffer[..read]);
                    assert!(matches!(refused, Err(ReceiveError::Order(_))));
                    breaks += 1;
                    continue 'line;
                }
                offset += read as u64;
            }
            let sum = checkpoint.checksum(file).unwrap();
            match receiver.end_file(file, sum) {
                Ok(()) => {}
                Err(ReceiveError::Order(have)) if is_lost => {
                    assert!(have == receiver.have());
                    breaks += 1;
                    continue 'line;
                }
                Err(ReceiveError::Checksum { file: name }) => {
                    assert_eq!(name, files[file].name);
                    assert_eq!((receiver.have().file, receiver.have().offset), (file, 0));
                    breaks += 1;
                    continue 'line;
                }
                Err(other) => panic!("{other}"),
            }
            (file, offset) = (file + 1, 0);
        }
        return breaks;
    }
}

/// What one kind of engine makes of the pieces.
trait Kind {
    fn engine(&mut self) -> Arc<dyn StateEngine>;
    fn receiver(&mut self, manifest: Manifest) -> Receiver;
    fn install(&mut self, machine: &mut Machine, received: Received);
    /// Whether the old state is still there for those who read it.
    fn keeps_old(&self) -> bool;
}

struct InMemory;

impl Kind for InMemory {
    fn engine(&mut self) -> Arc<dyn StateEngine> {
        Arc::new(MemoryEngine::new())
    }

    fn receiver(&mut self, manifest: Manifest) -> Receiver {
        Receiver::in_memory(manifest, 1 << 30).unwrap()
    }

    fn install(&mut self, machine: &mut Machine, received: Received) {
        let Arrived::Items(source) = received.arrived() else {
            panic!("another kind arrived");
        };
        machine.install(source).unwrap();
    }

    fn keeps_old(&self) -> bool {
        false
    }
}

fn transfers(kind: &mut dyn Kind, random: &mut StdRng) -> usize {
    let mut history = History::new();
    // The receiver has a part of it, and views of that are held over the installation.
    let shared = random.random_range(0..60);
    history.grow(random, shared);
    let mut receiving = Machine::open(kind.engine(), NOTHING_CACHED).unwrap();
    history.feed(&mut receiving);
    let (reader, old) = (receiving.reader(), receiving.reader().view());
    let old_model = history.model.clone();

    let grown = random.random_range(1..150);
    history.grow(random, grown);
    let mut sending = Machine::open(kind.engine(), NOTHING_CACHED).unwrap();
    history.feed(&mut sending);
    let (sent_items, sent_hash) = (items(&*sending.reader().engine()), hash(&sending));
    let checkpoint = sending.reader().engine().checkpoint().unwrap();
    let name = sending.durable().unwrap().unwrap();
    assert_eq!(checkpoint.name(), &name);
    let then = history.model.clone();

    // The sender goes on, and the checkpoint does not.
    let later = random.random_range(0..30);
    history.grow(random, later);
    history.feed(&mut sending);
    sending.reader().engine().flush().unwrap();
    sending.reader().engine().compact_all().unwrap();
    let manifest = Manifest::decode(&checkpoint.manifest().encode()).unwrap();
    assert_eq!(&manifest, checkpoint.manifest());
    let mut receiver = kind.receiver(manifest);
    let breaks = send(&checkpoint, &mut receiver, random);
    drop(checkpoint);
    let received = receiver.finish().unwrap();
    assert_eq!(received.name(), &name);
    kind.install(&mut receiving, received);

    assert_eq!(receiving.applied(), Some(name.applied));
    assert_eq!(receiving.membership(), &name.membership);
    assert_eq!(receiving.durable().unwrap(), Some(name.clone()));
    assert_eq!(
        snapshot::installed(&*reader.engine()).unwrap(),
        Some(name.applied)
    );
    assert!(items(&*reader.engine()) == sent_items);
    assert_eq!(hash(&receiving), sent_hash);
    let questions: Vec<_> = (0..20).map(|_| range(random, then.revision())).collect();
    check_view(&receiving, &then, &questions);
    check_all_revisions(&receiving, &then);
    // What somebody held of the old state is still that.
    if kind.keeps_old() || then.compact_revision <= old_model.revision() {
        let all = proto::etcd::etcdserverpb::RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            ..Default::default()
        };
        crate::check::check_range(&reader, &old, &old_model, &all);
    }
    drop(old);
    // It takes the entries that follow.
    history.feed(&mut receiving);
    assert_eq!(hash(&receiving), hash(&sending));
    check_view(&receiving, &history.model, &questions);
    breaks
}

#[test]
fn a_state_arrives_as_it_was_over_a_line_that_breaks_and_corrupts() {
    let mut random = StdRng::seed_from_u64(seed());
    let breaks: usize = (0..8).map(|_| transfers(&mut InMemory, &mut random)).sum();
    eprintln!("{breaks} breaks");
}

#[test]
fn an_engine_in_which_nothing_was_applied_has_no_checkpoint() {
    let engine = MemoryEngine::new();
    assert!(engine.checkpoint().is_err());
}

#[test]
fn a_snapshot_of_the_wrong_kind_or_too_large_is_refused() {
    let engine: Arc<dyn StateEngine> = Arc::new(MemoryEngine::new());
    let mut machine = Machine::open(engine.clone(), Options::default()).unwrap();
    machine
        .apply(&[entry(1, vec![Op::Put(put("a", "1"))])])
        .unwrap();
    let manifest = engine.checkpoint().unwrap().manifest().clone();
    let folder = tempfile::TempDir::new().unwrap();
    let refused = Receiver::begin(&folder.path().join("db-1"), manifest.clone(), 0);
    assert!(matches!(refused, Err(ReceiveError::Kind)));
    let size = manifest.size();
    let refused = Receiver::in_memory(manifest, size - 1);
    assert!(matches!(refused, Err(ReceiveError::NoRoom { .. })));
}

#[cfg(feature = "rocksdb")]
mod rocks {
    use std::fs;
    use std::path::{Path, PathBuf};

    use store::engine::place::Place;
    use store::engine::rocks::{RocksEngine, RocksOptions};
    use store::{SnapshotName, StoreError};
    use tempfile::TempDir;

    use super::*;

    fn open(folder: &Path) -> Arc<dyn StateEngine> {
        Arc::new(RocksEngine::open(folder, &RocksOptions::default()).unwrap())
    }

    /// As a node installs it.
    fn install(
        place: &Place,
        machine: &mut Machine,
        mut received: Received,
    ) -> Result<(), StoreError> {
        let applied = received.name().applied;
        let Arrived::Database(folder) = received.arrived() else {
            panic!("another kind arrived");
        };
        let folder = folder.to_owned();
        let engine = open(&folder);
        machine.move_to(engine, applied, || {
            received.keep();
            place.switch(&folder).unwrap();
            Ok(())
        })
    }

    /// A folder for each member, as the server lays it out.
    #[derive(Default)]
    struct OnDisk(Vec<(TempDir, Arc<Place>)>);

    impl Kind for OnDisk {
        fn engine(&mut self) -> Arc<dyn StateEngine> {
            let folder = TempDir::new().unwrap();
            let place = Place::open(folder.path()).unwrap();
            let engine = open(&place.current().unwrap());
            self.0.push((folder, Arc::new(place)));
            engine
        }

        fn receiver(&mut self, manifest: Manifest) -> Receiver {
            // The receiver was opened first.
            Receiver::begin(&self.0[0].1.fresh(), manifest, 0).unwrap()
        }

        fn install(&mut self, machine: &mut Machine, received: Received) {
            install(&self.0[0].1, machine, received).unwrap();
        }

        fn keeps_old(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_database_arrives_as_it_was_over_a_line_that_breaks_and_corrupts() {
        let mut random = StdRng::seed_from_u64(seed());
        for _ in 0..4 {
            let mut disk = OnDisk::default();
            transfers(&mut disk, &mut random);
            for (folder, _) in disk.0 {
                let names = names(folder.path());
                assert!(
                    names.iter().all(|name| !name.starts_with("checkpoint")),
                    "{names:?}"
                );
            }
        }
    }

    /// A name of another entry.
    fn renamed(name: &SnapshotName) -> SnapshotName {
        let mut other = name.clone();
        other.applied.index += 1;
        other
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Two members, the second with another, older state of its own, and a checkpoint of the first.
    struct Two {
        sending: TempDir,
        receiving: TempDir,
        place: Place,
        machine: Machine,
        checkpoint: Checkpoint,
        old: Vec<(Family, Vec<u8>, Vec<u8>)>,
        new: Vec<(Family, Vec<u8>, Vec<u8>)>,
    }

    impl Two {
        fn new() -> Self {
            let (sending, receiving) = (TempDir::new().unwrap(), TempDir::new().unwrap());
            let mut random = StdRng::seed_from_u64(seed());
            let mut history = History::new();
            history.grow(&mut random, 30);
            let place = Place::open(receiving.path()).unwrap();
            let engine = open(&place.current().unwrap());
            let mut machine = Machine::open(engine.clone(), NOTHING_CACHED).unwrap();
            history.feed(&mut machine);
            machine.flush().unwrap();
            history.grow(&mut random, 50);
            let source = open(&sending.path().join("db"));
            let mut first = Machine::open(source.clone(), NOTHING_CACHED).unwrap();
            // Several tables.
            first.apply(&history.entries[..40]).unwrap();
            first.flush().unwrap();
            history.feed(&mut first);
            Self {
                checkpoint: source.checkpoint().unwrap(),
                old: items(&*engine),
                new: items(&*source),
                sending,
                receiving,
                place,
                machine,
            }
        }

        fn begin(&self, manifest: Manifest) -> Receiver {
            Receiver::begin(&self.place.fresh(), manifest, 0).unwrap()
        }

        fn send(&self, receiver: &mut Receiver) {
            let mut random = StdRng::seed_from_u64(1);
            send(&self.checkpoint, receiver, &mut random);
        }

        /// A refused snapshot has changed nothing and left nothing.
        fn check_old(&mut self) {
            assert!(items(&*self.machine.reader().engine()) == self.old);
            assert_eq!(names(self.receiving.path()), ["db"]);
            let next = self.machine.applied().unwrap().index + 1;
            let outcome = self.machine.apply(&[entry(next, vec![])]);
            outcome.expect("the machine goes on");
        }
    }

    #[test]
    fn the_files_of_a_checkpoint_go_with_it() {
        let two = Two::new();
        let kept = names(two.sending.path());
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert!(kept[0].starts_with("checkpoint-"), "{kept:?}");
        drop(two.checkpoint);
        assert_eq!(names(two.sending.path()), ["db"]);
    }

    #[test]
    fn a_database_that_is_another_state_than_announced_is_refused() {
        let mut two = Two::new();
        let mut manifest = two.checkpoint.manifest().clone();
        manifest.name = renamed(&manifest.name);
        let mut receiver = two.begin(manifest);
        two.send(&mut receiver);
        let refused = receiver.finish().unwrap_err();
        assert!(
            matches!(
                refused,
                ReceiveError::OtherState {
                    expected: 81,
                    found: 80
                }
            ),
            "{refused}"
        );
        two.check_old();
    }

    #[test]
    fn a_database_without_one_of_its_tables_is_refused() {
        let mut two = Two::new();
        let whole = two.checkpoint.manifest().clone();
        let table = whole
            .files
            .iter()
            .position(|file| file.name.ends_with(".sst"));
        let table = table.unwrap();
        let mut manifest = whole.clone();
        manifest.files.remove(table);
        let mut receiver = two.begin(manifest.clone());
        for (number, file) in manifest.files.iter().enumerate() {
            let at = whole.files.iter().position(|known| known.name == file.name);
            let mut bytes = vec![0; file.size as usize];
            two.checkpoint.read(at.unwrap(), 0, &mut bytes).unwrap();
            receiver.write(number, 0, &bytes).unwrap();
            receiver.end_file(number, crc32c::crc32c(&bytes)).unwrap();
        }
        let refused = receiver.finish().unwrap_err();
        assert!(
            matches!(refused, ReceiveError::Store(StoreError::Corrupt { .. })),
            "{refused}"
        );
        two.check_old();
    }

    #[test]
    fn a_table_of_another_size_is_refused() {
        let mut two = Two::new();
        let mut manifest = two.checkpoint.manifest().clone();
        let table = manifest
            .files
            .iter()
            .position(|file| file.name.ends_with(".sst"));
        manifest.files[table.unwrap()].size += 1;
        let files = manifest.files.clone();
        let mut receiver = two.begin(manifest);
        for (number, file) in files.iter().enumerate() {
            let mut bytes = vec![0; file.size as usize];
            two.checkpoint.read(number, 0, &mut bytes).unwrap();
            receiver.write(number, 0, &bytes).unwrap();
            // More than was announced is refused at once.
            let more = receiver.write(number, file.size, b"x");
            assert!(matches!(more, Err(ReceiveError::TooLong { .. })));
            receiver.end_file(number, crc32c::crc32c(&bytes)).unwrap();
        }
        let refused = receiver.finish().unwrap_err();
        assert!(matches!(refused, ReceiveError::Store(_)), "{refused}");
        two.check_old();
    }

    #[test]
    fn a_snapshot_that_is_not_complete_is_refused() {
        let mut two = Two::new();
        let mut receiver = two.begin(two.checkpoint.manifest().clone());
        // One that has a content: the log that RocksDB is not to use is there, and empty.
        while receiver.end_file(receiver.have().file, 0).is_ok() {}
        let early = receiver.end_file(receiver.have().file, 0);
        assert!(matches!(early, Err(ReceiveError::Order(_))));
        let refused = receiver.finish().unwrap_err();
        assert!(matches!(refused, ReceiveError::Incomplete(_)), "{refused}");
        two.check_old();
    }

    #[test]
    fn what_does_not_fit_on_the_disk_is_refused_before_it_is_sent() {
        let mut two = Two::new();
        let manifest = two.checkpoint.manifest().clone();
        let refused = Receiver::begin(&two.place.fresh(), manifest, u64::MAX / 2);
        assert!(matches!(refused, Err(ReceiveError::NoRoom { .. })));
        two.check_old();
    }

    #[test]
    fn a_database_that_is_not_at_the_entry_it_is_installed_for_leaves_the_old_state() {
        let mut two = Two::new();
        let mut receiver = two.begin(two.checkpoint.manifest().clone());
        two.send(&mut receiver);
        let received = receiver.finish().unwrap();
        let Arrived::Database(folder) = received.arrived() else {
            panic!("another kind arrived");
        };
        let engine = open(folder);
        let wrong = renamed(received.name()).applied;
        let refused = two
            .machine
            .move_to(engine, wrong, || panic!("it is not to be put in force"));
        assert!(matches!(refused, Err(StoreError::Corrupt { .. })));
        drop(received);
        two.check_old();
    }

    #[test]
    fn the_old_database_stays_open_while_somebody_reads_it() {
        let mut two = Two::new();
        let weak = Arc::downgrade(&two.machine.reader().engine());
        let view = two.machine.reader().view();
        let mut receiver = two.begin(two.checkpoint.manifest().clone());
        two.send(&mut receiver);
        let received = receiver.finish().unwrap();
        install(&two.place, &mut two.machine, received).unwrap();
        assert!(weak.upgrade().is_some());
        let swapped = two.machine.reader().swap_engine();
        assert!(items(&swapped) == two.new);
        assert!(items(&*view.engine) == two.old);
        drop(view);
        assert!(weak.upgrade().is_none());
        two.place.remove(&two.receiving.path().join("db")).unwrap();
        assert!(items(&swapped) == two.new);
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }

    /// The folder as a killed process leaves it at this step.
    struct Crashes {
        of: PathBuf,
        copies: TempDir,
        steps: Vec<&'static str>,
    }

    impl Crashes {
        fn at(&mut self, step: &'static str) {
            copy(
                &self.of,
                &self.copies.path().join(self.steps.len().to_string()),
            );
            self.steps.push(step);
        }
    }

    #[test]
    fn a_crash_at_any_step_of_an_installation_leaves_the_old_state_or_the_new_one() {
        let mut two = Two::new();
        let mut crashes = Crashes {
            of: two.receiving.path().to_owned(),
            copies: TempDir::new().unwrap(),
            steps: Vec::new(),
        };
        let mut receiver = two.begin(two.checkpoint.manifest().clone());
        crashes.at("begun");
        let files = two.checkpoint.manifest().files.clone();
        for (number, file) in files.iter().enumerate() {
            let mut bytes = vec![0; file.size as usize];
            two.checkpoint.read(number, 0, &mut bytes).unwrap();
            let (first, second) = bytes.split_at(bytes.len() / 2);
            receiver.write(number, 0, first).unwrap();
            crashes.at("half a file");
            receiver.write(number, first.len() as u64, second).unwrap();
            receiver.end_file(number, crc32c::crc32c(&bytes)).unwrap();
        }
        crashes.at("all files");
        let mut received = receiver.finish().unwrap();
        crashes.at("finished");
        let Arrived::Database(folder) = received.arrived() else {
            panic!("another kind arrived");
        };
        let folder = folder.to_owned();
        let engine = open(&folder);
        crashes.at("opened");
        let applied = received.name().applied;
        let (place, crashes) = (&two.place, &mut crashes);
        let mut new_from = 0;
        two.machine
            .move_to(engine, applied, || {
                received.keep();
                crashes.at("marked");
                // What the switch does first.
                let pointer = two.receiving.path().join("db.current.tmp");
                fs::write(&pointer, "db-").unwrap();
                crashes.at("half a pointer");
                fs::write(&pointer, "db-1").unwrap();
                crashes.at("a pointer not in force");
                new_from = crashes.steps.len();
                place.switch(&folder).unwrap();
                crashes.at("switched");
                Ok(())
            })
            .unwrap();
        crashes.at("installed");
        drop(received);
        assert!(items(&*two.machine.reader().engine()) == two.new);
        let next = entry(applied.index + 1, vec![Op::Put(put("z", "1"))]);
        two.machine.apply(&[next]).unwrap();
        crashes.at("gone on");

        for (number, step) in crashes.steps.iter().enumerate() {
            let folder = crashes.copies.path().join(number.to_string());
            let place = Place::open(&folder).unwrap();
            let engine = open(&place.current().unwrap());
            let is_new = number >= new_from;
            let expected = if is_new { &two.new } else { &two.old };
            assert!(items(&*engine) == *expected, "{step}");
            let mark = snapshot::installed(&*engine).unwrap();
            assert_eq!(mark, is_new.then_some(applied), "{step}");
            let left = names(&folder);
            let expected: &[&str] = if is_new {
                &["db-1", "db.current"]
            } else {
                &["db"]
            };
            assert_eq!(left, expected, "{step}");
            let machine = Machine::open(engine, Options::default()).unwrap();
            assert_eq!(machine.applied() == Some(applied), is_new, "{step}");
        }
    }
}
