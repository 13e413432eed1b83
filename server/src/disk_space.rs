//! Free space on the disk: looked at in the background, obeyed by writes, and given back to them when it returns.
//!
//! There are two reserves, derived from what the node itself may need at once:
//! - while two log segments and two times all memtables do not fit, nothing that adds data is accepted; deletions and
//!   compactions are, because they are what makes space;
//! - while the next log segment and all memtables do not fit, nothing is accepted at all.
//!
//! None of it is an alarm that somebody must clear. A *ballast* file is held so that a node that was stopped on a disk
//! without one free byte can start: it is given up then, and made again when there is space.
//!
//! Whatever slips through is waited out where it happens: an engine that finds no space is asked again
//! ([`DiskSpace::meet`]), and the log's worker waits for its next segment.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use store::log::Log;

/// How often the disk is looked at.
const PERIOD: Duration = Duration::from_millis(200);

/// The ballast's name, in the member's folder.
pub const BALLAST: &str = "ballast";
/// Its size: enough for many starts, each of which writes a new manifest and a few small files.
const BALLAST_BYTES: u64 = 8 << 20;

/// What is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    #[default]
    Enough,
    /// What makes space: deletions and compactions.
    Low,
    /// Nothing that writes.
    Exhausted,
}

/// A folder's file system.
#[derive(Clone, Debug)]
struct Volume {
    /// What it is to this node, for metrics: `data`, `wal`, or `data+wal`.
    name: &'static str,
    folder: PathBuf,
    has_log: bool,
    has_database: bool,
}

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is kept there: `data`, `wal`, or both.
    pub name: &'static str,
    /// A folder on it.
    pub folder: PathBuf,
    /// Bytes free for this user.
    pub free: u64,
    /// Bytes that must be free for everything to be accepted.
    pub needed: u64,
    /// What follows.
    pub level: Level,
}

/// Sizes that the reserves are made of.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// A log segment.
    pub segment: u64,
    /// All memtables.
    pub memtables: u64,
}

impl Needs {
    /// What must be free of a volume so that everything, and so that anything, is accepted.
    fn of(self, volume: &Volume, is_next_segment_ready: bool) -> (u64, u64) {
        let (segment, memtables) = (
            if volume.has_log { self.segment } else { 0 },
            if volume.has_database {
                self.memtables
            } else {
                0
            },
        );
        let next = if is_next_segment_ready { 0 } else { segment };
        (2 * segment + 2 * memtables, next + memtables)
    }
}

/// What follows from so many free bytes. To go back up takes an eighth more, so that it does not flap.
fn level(free: u64, (all, any): (u64, u64), before: Level) -> Level {
    let reached = |needed: u64, below: Level| {
        let margin = if before >= below { needed / 8 } else { 0 };
        free >= needed + margin
    };
    if !reached(any, Level::Exhausted) {
        Level::Exhausted
    } else if !reached(all, Level::Low) {
        Level::Low
    } else {
        Level::Enough
    }
}

/// What writes ask.
#[derive(Default)]
pub struct DiskSpace {
    level: AtomicU8,
    /// Writes that met a full disk and are not done yet.
    waiting: AtomicUsize,
    seen: Mutex<Seen>,
    state: Mutex<State>,
    /// For the monitor.
    hurried: Condvar,
    /// For writes that wait: nobody but the end of the node wakes them early, least of all one another.
    waiters: Condvar,
}

#[derive(Default)]
struct Seen {
    findings: Vec<Finding>,
    /// The level that the log tells of.
    told: Level,
}

#[derive(Default)]
struct State {
    /// A write met a full disk; the next look is due at once.
    is_hurried: bool,
    is_stopping: bool,
}

impl DiskSpace {
    /// What is accepted now.
    pub fn level(&self) -> Level {
        match self.level.load(Ordering::Relaxed) {
            0 => Level::Enough,
            1 => Level::Low,
            _ => Level::Exhausted,
        }
    }

    /// What the last look found.
    pub fn findings(&self) -> Vec<Finding> {
        self.seen.lock().findings.clone()
    }

    /// Whether the last look found space for every write that may be under way.
    pub fn has_room(&self) -> bool {
        let seen = self.seen.lock();
        seen.findings
            .iter()
            .all(|finding| finding.level != Level::Exhausted)
    }

    /// In words for people, if not everything is accepted.
    pub fn complaint(&self) -> Option<String> {
        if self.level() == Level::Enough {
            return None;
        }
        let seen = self.seen.lock();
        let scarce = seen
            .findings
            .iter()
            .filter(|finding| finding.level != Level::Enough)
            .map(|finding| scarcity(finding, finding.needed));
        let scarce: Vec<String> = scarce.collect();
        Some(if scarce.is_empty() {
            "holdfast: a write met a full disk and waits".to_owned()
        } else {
            format!("holdfast: the disk is full: {}", scarce.join(", "))
        })
    }

    /// Why the disk has no room for so many more bytes of the database beside what writes need; nothing if it has.
    pub fn lacks_room_for(&self, bytes: u64) -> Option<String> {
        let seen = self.seen.lock();
        // The database is on the first volume. Where nobody looks, nothing is known.
        let finding = seen.findings.first()?;
        let needed = finding.needed.saturating_add(bytes);
        (finding.free < needed).then(|| scarcity(finding, needed))
    }

    /// A write has met a full disk: nothing more is accepted until it is done.
    pub fn meet(&self) -> Met<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.level.store(Level::Exhausted as u8, Ordering::Relaxed);
        Met(self)
    }

    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        state.is_hurried = true;
        self.hurried.notify_all();
        if !state.is_stopping {
            self.waiters.wait_for(&mut state, PERIOD);
        }
        !state.is_stopping
    }

    /// Nobody waits for space any more.
    pub fn stop(&self) {
        self.state.lock().is_stopping = true;
        self.hurried.notify_all();
        self.waiters.notify_all();
    }

    /// Whether that is so.
    pub(crate) fn is_stopping(&self) -> bool {
        self.state.lock().is_stopping
    }

    /// Takes what a look found.
    pub(crate) fn take(&self, findings: Vec<Finding>, is_log_starved: bool) {
        let found = findings.iter().map(|finding| finding.level).max();
        let mut level = found.unwrap_or_default();
        let mut seen = self.seen.lock();
        if is_log_starved || self.waiting.load(Ordering::Relaxed) > 0 {
            level = Level::Exhausted;
        }
        self.level.store(level as u8, Ordering::Relaxed);
        if seen.told != level {
            tell(level, seen.told, &findings);
            if found.unwrap_or_default() == Level::Enough && level == Level::Exhausted {
                tracing::error!(
                    "a write met a full disk and waits; nothing is lost, and no other write is accepted meanwhile"
                );
            }
        }
        seen.told = level;
        seen.findings = findings;
    }
}

/// A write that met a full disk; dropped when it is done.
pub struct Met<'a>(&'a DiskSpace);

impl Met<'_> {
    /// Waits until it is worth another try; false once the node stops.
    pub fn wait(&self) -> bool {
        self.0.wait()
    }
}

impl Drop for Met<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn scarcity(finding: &Finding, needed: u64) -> String {
    format!(
        "{} has {} MiB free of {} MiB needed",
        finding.folder.display(),
        finding.free >> 20,
        needed.div_ceil(1 << 20)
    )
}

fn tell(level: Level, before: Level, findings: &[Finding]) {
    for finding in findings {
        let (volume, folder) = (finding.name, finding.folder.display());
        let (free_bytes, needed_bytes) = (finding.free, finding.needed);
        match level {
            Level::Enough => tracing::info!(
                volume, %folder, free_bytes, needed_bytes,
                "there is space on the disk again; all writes are accepted"
            ),
            _ if finding.level == Level::Enough => {}
            Level::Low if before == Level::Enough => tracing::warn!(
                volume, %folder, free_bytes, needed_bytes,
                "the disk is nearly full: puts are refused until there is space; reads go on, deletions and \
                 compactions are accepted, and writes come back by themselves"
            ),
            Level::Low => tracing::warn!(
                volume, %folder, free_bytes, needed_bytes,
                "there is a little space on the disk again: deletions and compactions are accepted, puts are not yet"
            ),
            Level::Exhausted => tracing::error!(
                volume, %folder, free_bytes, needed_bytes,
                "the disk is full: every write is refused until there is space; reads go on, and writes come back \
                 by themselves"
            ),
        }
    }
}

/// Gives up the ballast of a member's folder; whether there was one.
pub fn give_up_ballast(member: &Path) -> bool {
    fs::remove_file(member.join(BALLAST)).is_ok()
}

/// Gives up the ballast if a start could not do without.
pub fn make_room_for_start(member: &Path) {
    let is_scarce = statvfs(member)
        .is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) < BALLAST_BYTES);
    if is_scarce && give_up_ballast(member) {
        tracing::warn!(
            folder = %member.display(),
            "the disk is full: gave up the ballast file so that the node can start"
        );
    }
}

/// Whether an error says that the disk, or what this user may take of it, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Makes the ballast if it is not there.
fn hold_ballast(member: &Path) -> io::Result<()> {
    let path = member.join(BALLAST);
    if fs::metadata(&path).is_ok_and(|found| found.blocks() * 512 >= BALLAST_BYTES) {
        return Ok(());
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file: File = options.open(&path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES) {
        // Without it there is no ballast, and such a file system would not keep the promise anyway.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        Err(error) => {
            give_up_ballast(member);
            Err(error.into())
        }
        Ok(()) => Ok(()),
    }
}

/// What the monitor looks after.
pub struct Watched {
    /// The member's folder, with the database in it.
    pub member: PathBuf,
    /// The raft log's folder.
    pub wal: PathBuf,
    /// The raft log.
    pub log: Log,
    /// What the reserves are made of.
    pub needs: Needs,
    /// Done at each look, too.
    pub also: Box<dyn Fn() + Send>,
}

/// The thread that looks.
pub struct Monitor {
    space: Arc<DiskSpace>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Looks once, then in the background.
    pub fn start(space: Arc<DiskSpace>, watched: Watched) -> io::Result<Self> {
        let volumes = volumes(&watched)?;
        look(&space, &watched, &volumes);
        let shared = space.clone();
        let thread = std::thread::Builder::new()
            .name("disk-space".to_owned())
            .spawn(move || run(&shared, &watched, &volumes))?;
        Ok(Self {
            space,
            thread: Some(thread),
        })
    }

    /// Ends the thread, and lets nobody wait for space.
    pub fn stop(mut self) {
        self.space.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that looks at the disk panicked");
        }
    }
}

fn volumes(watched: &Watched) -> io::Result<Vec<Volume>> {
    let device = |folder: &Path| fs::metadata(folder).map(|found| found.dev());
    let is_shared = device(&watched.member)? == device(&watched.wal)?;
    let data = Volume {
        name: if is_shared { "data+wal" } else { "data" },
        folder: watched.member.clone(),
        has_log: is_shared,
        has_database: true,
    };
    let wal = (!is_shared).then(|| Volume {
        name: "wal",
        folder: watched.wal.clone(),
        has_log: true,
        has_database: false,
    });
    Ok([data].into_iter().chain(wal).collect())
}

fn run(space: &DiskSpace, watched: &Watched, volumes: &[Volume]) {
    loop {
        {
            let mut state = space.state.lock();
            if !state.is_stopping && !state.is_hurried {
                space.hurried.wait_for(&mut state, PERIOD);
            }
            if state.is_stopping {
                return;
            }
            if std::mem::take(&mut state.is_hurried) {
                // Whoever met the full disk tries again at each period; there is no use in looking more often.
                space.hurried.wait_for(&mut state, PERIOD / 4);
            }
        }
        look(space, watched, volumes);
    }
}

fn look(space: &DiskSpace, watched: &Watched, volumes: &[Volume]) {
    let before = space.level();
    let is_ready = watched.log.is_next_ready();
    let findings = volumes.iter().filter_map(|volume| {
        let needs = watched.needs.of(volume, is_ready);
        match statvfs(&volume.folder) {
            Ok(found) => {
                let free = found.f_bavail.saturating_mul(found.f_frsize);
                Some(Finding {
                    name: volume.name,
                    folder: volume.folder.clone(),
                    free,
                    needed: needs.0,
                    level: level(free, needs, before),
                })
            }
            // What cannot be asked cannot be full for sure; a write finds out.
            Err(error) => {
                tracing::debug!(%error, folder = %volume.folder.display(), "cannot ask for free space");
                None
            }
        }
    });
    space.take(findings.collect(), watched.log.is_starved());
    if space.level() == Level::Enough
        && let Err(error) = hold_ballast(&watched.member)
    {
        tracing::debug!(%error, "cannot make the ballast file");
    }
    (watched.also)();
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs {
        segment: 64,
        memtables: 16,
    };

    fn volume(has_log: bool, has_database: bool) -> Volume {
        Volume {
            name: "data",
            folder: PathBuf::new(),
            has_log,
            has_database,
        }
    }

    #[test]
    fn the_reserves_are_of_what_is_kept_on_a_volume() {
        assert_eq!(NEEDS.of(&volume(true, true), true), (160, 16));
        assert_eq!(NEEDS.of(&volume(true, true), false), (160, 80));
        assert_eq!(NEEDS.of(&volume(true, false), true), (128, 0));
        assert_eq!(NEEDS.of(&volume(true, false), false), (128, 64));
        assert_eq!(NEEDS.of(&volume(false, true), false), (32, 16));
    }

    #[test]
    fn levels_fall_at_the_reserve_and_rise_a_little_above_it() {
        use Level::{Enough, Exhausted, Low};
        let needs = (160, 16);
        for (free, before, expected) in [
            (160, Enough, Enough),
            (159, Enough, Low),
            (160, Low, Low),
            (179, Low, Low),
            (180, Low, Enough),
            (16, Low, Low),
            (15, Low, Exhausted),
            (17, Exhausted, Exhausted),
            (18, Exhausted, Low),
            (170, Exhausted, Low),
            (180, Exhausted, Enough),
            (0, Enough, Exhausted),
        ] {
            assert_eq!(
                level(free, needs, before),
                expected,
                "{free} after {before:?}"
            );
        }
    }

    #[test]
    fn who_met_a_full_disk_waits_and_stops_waiting_with_the_node() {
        let space = DiskSpace::default();
        assert_eq!(space.level(), Level::Enough);
        let met = space.meet();
        assert_eq!(space.level(), Level::Exhausted, "at once, before any look");
        assert!(met.wait());
        space.take(Vec::new(), false);
        assert_eq!(space.level(), Level::Exhausted, "until it is done");
        space.stop();
        assert!(!met.wait());
        drop(met);
        space.take(Vec::new(), false);
        assert_eq!(space.level(), Level::Enough);
        space.take(Vec::new(), true);
        assert_eq!(
            space.level(),
            Level::Exhausted,
            "the log waits for a segment"
        );
    }

    #[test]
    fn who_waits_for_space_does_not_wake_others_who_do() {
        let space = Arc::new(DiskSpace::default());
        let since = std::time::Instant::now();
        let waiters = [(); 2].map(|()| {
            let space = space.clone();
            std::thread::spawn(move || {
                let met = space.meet();
                (0..3).for_each(|_| assert!(met.wait()));
            })
        });
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert!(since.elapsed() >= PERIOD * 3, "{:?}", since.elapsed());
    }

    #[test]
    fn room_for_more_is_what_writes_do_not_need() {
        let space = DiskSpace::default();
        assert_eq!(space.lacks_room_for(u64::MAX), None, "nobody has looked");
        let found = |name, free| Finding {
            name,
            folder: PathBuf::from("/data"),
            free,
            needed: 160 << 20,
            level: Level::Enough,
        };
        let findings = vec![found("data", 200 << 20), found("wal", 160 << 20)];
        space.take(findings, false);
        assert_eq!(space.lacks_room_for(40 << 20), None);
        assert_eq!(
            space.lacks_room_for(41 << 20).unwrap(),
            "/data has 200 MiB free of 201 MiB needed"
        );
    }

    #[test]
    fn the_ballast_takes_space_and_is_given_up_once() {
        let folder = tempfile::tempdir().unwrap();
        hold_ballast(folder.path()).unwrap();
        hold_ballast(folder.path()).unwrap();
        let found = fs::metadata(folder.path().join(BALLAST)).unwrap();
        assert_eq!(found.len(), BALLAST_BYTES);
        assert!(found.blocks() * 512 >= BALLAST_BYTES);
        assert!(give_up_ballast(folder.path()));
        assert!(!give_up_ballast(folder.path()));
    }
}
