//! A disk in memory that fails on request, and whose crashes keep what a real one might have kept.
//!
//! Everything it decides comes from its seed and the order of calls. Clones share one disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{WalFile, WalFs};

/// What a power cut keeps or loses as a whole.
const SECTOR: usize = 512;

/// Something that a power cut may keep or lose by itself: [`SimFs::crash_keeping`] asks for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InDoubt {
    /// A creation, renaming or removal of a file: the how manieth since the folder was synced.
    Name(usize),
    /// A sector of 512 bytes.
    Sector {
        /// The file, numbered as it was created.
        file: usize,
        /// The sector's place in the file.
        sector: usize,
    },
}

/// A simulated folder.
#[derive(Clone)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

struct Disk {
    random: u64,
    files: Vec<FileState>,
    /// Names as running code sees them, and as a crash finds them.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<NameChange>,
    /// Raised by each crash: handles of an earlier life are dead.
    life: u64,
    faults: Faults,
    operations: u64,
}

#[derive(Clone, Default)]
struct FileState {
    bytes: Vec<u8>,
    durable_size: usize,
    /// What unsynced sectors held at the last sync.
    unsynced: BTreeMap<usize, Vec<u8>>,
    /// The same of sectors whose sync failed. The kernel takes them for clean: they are read back as written, but
    /// only writing them again gets them to the disk.
    doubtful: BTreeMap<usize, Vec<u8>>,
}

#[derive(Clone)]
enum NameChange {
    Create(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

#[derive(Default)]
struct Faults {
    /// How many more syncs succeed before one fails.
    sync_failure_after: Option<u64>,
    /// How many more changing operations happen before the machine is dead.
    power_cut_after: Option<u64>,
    unreadable: Option<String>,
    capacity: Option<usize>,
}

impl SimFs {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self {
            disk: Arc::new(Mutex::new(Disk {
                random: seed,
                files: Vec::new(),
                names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                unsynced_names: Vec::new(),
                life: 0,
                faults: Faults::default(),
                operations: 0,
            })),
        }
    }

    /// Cuts the power and gives it back: a random subset of unsynced sectors survives, in no order, and so does a
    /// random subset of unsynced names. Open handles fail from now on; faults asked for earlier are gone.
    pub fn crash(&self) {
        let mut random = self.disk.lock().random;
        let mut of_file = (usize::MAX, 0);
        self.crash_keeping(|in_doubt| match in_doubt {
            InDoubt::Name(_) => next_random(&mut random).is_multiple_of(2),
            InDoubt::Sector { file, .. } => {
                // From "nothing reached the disk" to "everything did": one chance for all sectors would hardly
                // ever show the extremes.
                if of_file.0 != file {
                    of_file = (file, next_random(&mut random) % 5);
                }
                next_random(&mut random) % 4 < of_file.1
            }
        });
        self.disk.lock().random = random;
    }

    /// As [`SimFs::crash`], keeping what `is_kept` says. It is asked about everything [`SimFs::in_doubt`] lists,
    /// in that order.
    pub fn crash_keeping(&self, mut is_kept: impl FnMut(InDoubt) -> bool) {
        let mut disk = self.disk.lock();
        let disk = &mut *disk;
        disk.life += 1;
        disk.faults = Faults {
            capacity: disk.faults.capacity,
            ..Faults::default()
        };
        for (nth, change) in std::mem::take(&mut disk.unsynced_names)
            .into_iter()
            .enumerate()
        {
            if is_kept(InDoubt::Name(nth)) {
                apply_name_change(&mut disk.durable_names, change);
            }
        }
        disk.names.clone_from(&disk.durable_names);
        for (nth, file) in disk.files.iter_mut().enumerate() {
            file.lose_unsynced(|sector| is_kept(InDoubt::Sector { file: nth, sector }));
        }
    }

    /// What is not synced: a power cut at this moment keeps any subset of it.
    pub fn in_doubt(&self) -> Vec<InDoubt> {
        let disk = self.disk.lock();
        let mut found: Vec<_> = (0..disk.unsynced_names.len()).map(InDoubt::Name).collect();
        for (nth, file) in disk.files.iter().enumerate() {
            let mut sectors: Vec<_> = file.unsynced.keys().chain(file.doubtful.keys()).collect();
            sectors.sort_unstable();
            sectors.dedup();
            let sectors = sectors.into_iter();
            found.extend(sectors.map(|&sector| InDoubt::Sector { file: nth, sector }));
        }
        found
    }

    /// Kills the process, not the machine: what was written is still read, synced or not. Open handles fail from
    /// now on; faults asked for earlier are gone.
    pub fn restart(&self) {
        let mut disk = self.disk.lock();
        disk.life += 1;
        disk.faults = Faults {
            capacity: disk.faults.capacity,
            ..Faults::default()
        };
    }

    /// Lets `successes` more syncs of files pass, then fails one. What that sync should have made durable stays
    /// in doubt.
    pub fn fail_sync_after(&self, successes: u64) {
        self.disk.lock().faults.sync_failure_after = Some(successes);
    }

    /// Lets `operations` more writes, syncs and changes of names pass; then each fails until
    /// [`SimFs::crash`] or [`SimFs::restart`].
    pub fn cut_power_after(&self, operations: u64) {
        self.disk.lock().faults.power_cut_after = Some(operations);
    }

    /// Makes every read of this file fail, or none.
    pub fn make_unreadable(&self, name: Option<&str>) {
        self.disk.lock().faults.unreadable = name.map(str::to_owned);
    }

    /// Bounds the bytes of all files together; beyond, writes fail with "no space left".
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.disk.lock().faults.capacity = bytes;
    }

    /// Inverts one bit, durably.
    pub fn flip(&self, name: &str, offset: usize, bit: u8) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let id = disk.find(name)?;
        let file = &mut disk.files[id];
        let byte = file
            .bytes
            .get_mut(offset)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        *byte ^= 1 << (bit % 8);
        let sector = offset / SECTOR;
        for old in [
            file.unsynced.get_mut(&sector),
            file.doubtful.get_mut(&sector),
        ]
        .into_iter()
        .flatten()
        {
            if let Some(byte) = old.get_mut(offset % SECTOR) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Ok(())
    }

    /// Shortens a file, durably.
    pub fn truncate(&self, name: &str, size: usize) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let id = disk.find(name)?;
        let file = &mut disk.files[id];
        file.bytes.truncate(size);
        file.durable_size = file.durable_size.min(size);
        file.unsynced.retain(|sector, _| sector * SECTOR < size);
        file.doubtful.retain(|sector, _| sector * SECTOR < size);
        Ok(())
    }

    /// The bytes of a file.
    pub fn contents(&self, name: &str) -> io::Result<Vec<u8>> {
        let disk = self.disk.lock();
        let id = disk.find(name)?;
        Ok(disk.files[id].bytes.clone())
    }

    /// How many writes, syncs and changes of names there were.
    pub fn operations(&self) -> u64 {
        self.disk.lock().operations
    }

    /// A copy that shares nothing with this disk; what is not synced here is not synced there.
    pub fn duplicate(&self) -> Self {
        let disk = self.disk.lock();
        let copy = Self::new(disk.random);
        {
            let mut copied = copy.disk.lock();
            copied.files.clone_from(&disk.files);
            copied.names.clone_from(&disk.names);
            copied.durable_names.clone_from(&disk.durable_names);
            copied.unsynced_names.clone_from(&disk.unsynced_names);
        }
        copy
    }

    /// A copy that shares nothing with this disk, everything on it durable.
    pub fn fork(&self, seed: u64) -> Self {
        let disk = self.disk.lock();
        let files = disk.files.iter().map(|file| FileState {
            bytes: file.bytes.clone(),
            durable_size: file.bytes.len(),
            ..FileState::default()
        });
        let copy = Self::new(seed);
        {
            let mut copied = copy.disk.lock();
            copied.files = files.collect();
            copied.names.clone_from(&disk.names);
            copied.durable_names.clone_from(&disk.names);
        }
        copy
    }
}

impl Disk {
    fn find(&self, name: &str) -> io::Result<usize> {
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Counts an operation that changes something, and refuses it when the machine is dead.
    fn change(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.faults.power_cut_after {
            if *left == 0 {
                return Err(io::Error::other("the power is off (simulated)"));
            }
            *left -= 1;
        }
        self.operations += 1;
        Ok(())
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        self.change()?;
        apply_name_change(&mut self.names, change.clone());
        self.unsynced_names.push(change);
        Ok(())
    }

    fn grow(&mut self, id: usize, size: usize) -> io::Result<()> {
        if size <= self.files[id].bytes.len() {
            return Ok(());
        }
        if let Some(capacity) = self.faults.capacity {
            let others: usize = self
                .names
                .values()
                .filter(|other| **other != id)
                .map(|id| self.files[*id].bytes.len())
                .sum();
            if others + size > capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        self.files[id].bytes.resize(size, 0);
        Ok(())
    }
}

impl FileState {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        for sector in offset / SECTOR..(offset + bytes.len()).div_ceil(SECTOR) {
            let (start, end) = (
                sector * SECTOR,
                ((sector + 1) * SECTOR).min(self.bytes.len()),
            );
            let (from, to) = (start.max(offset), end.min(offset + bytes.len()));
            let is_in_doubt =
                self.unsynced.contains_key(&sector) || self.doubtful.contains_key(&sector);
            if !is_in_doubt
                && end <= self.durable_size
                && self.bytes[from..to] == bytes[from - offset..to - offset]
            {
                // Kept or lost, it holds the same.
                continue;
            }
            let doubtful = self.doubtful.remove(&sector);
            self.unsynced.entry(sector).or_insert_with(|| {
                let mut old = doubtful.unwrap_or_else(|| self.bytes[start..end].to_vec());
                old.resize(SECTOR, 0);
                old
            });
        }
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn sync(&mut self) {
        self.unsynced.clear();
        self.durable_size = self.bytes.len();
    }

    fn fail_sync(&mut self) {
        for (sector, old) in std::mem::take(&mut self.unsynced) {
            self.doubtful.entry(sector).or_insert(old);
        }
    }

    fn lose_unsynced(&mut self, mut is_kept: impl FnMut(usize) -> bool) {
        let mut size = self.durable_size;
        let mut in_doubt = std::mem::take(&mut self.unsynced);
        in_doubt.append(&mut self.doubtful);
        for (sector, old) in in_doubt {
            let (start, end) = (
                sector * SECTOR,
                ((sector + 1) * SECTOR).min(self.bytes.len()),
            );
            if is_kept(sector) {
                size = size.max(end);
            } else {
                self.bytes[start..end].copy_from_slice(&old[..end - start]);
            }
        }
        self.bytes.truncate(size);
        self.durable_size = size;
    }
}

fn apply_name_change(names: &mut BTreeMap<String, usize>, change: NameChange) {
    match change {
        NameChange::Create(name, id) => {
            names.insert(name, id);
        }
        NameChange::Rename(from, to, id) => {
            names.remove(&from);
            names.insert(to, id);
        }
        NameChange::Remove(name) => {
            names.remove(&name);
        }
    }
}

/// SplitMix64: small, and the same on every machine.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn in_memory(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl WalFs for SimFs {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.disk.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn WalFile>> {
        let mut disk = self.disk.lock();
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = disk.files.len();
        disk.change_name(NameChange::Create(name.to_owned(), id))?;
        disk.files.push(FileState::default());
        Ok(Arc::new(SimFile {
            disk: Arc::clone(&self.disk),
            id,
            life: disk.life,
        }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn WalFile>> {
        let disk = self.disk.lock();
        let id = disk.find(name)?;
        Ok(Arc::new(SimFile {
            disk: Arc::clone(&self.disk),
            id,
            life: disk.life,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let id = disk.find(from)?;
        disk.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), id))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.find(name)?;
        disk.change_name(NameChange::Remove(name.to_owned()))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.change()?;
        let names = disk.names.clone();
        disk.durable_names = names;
        disk.unsynced_names.clear();
        Ok(())
    }

    fn describe(&self, name: &str) -> String {
        format!("sim/{name}")
    }
}

struct SimFile {
    disk: Arc<Mutex<Disk>>,
    id: usize,
    life: u64,
}

impl SimFile {
    fn check_alive(&self, disk: &Disk) -> io::Result<()> {
        if disk.life == self.life {
            Ok(())
        } else {
            Err(io::Error::other("the file was open before a crash"))
        }
    }
}

impl WalFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        let disk = self.disk.lock();
        self.check_alive(&disk)?;
        Ok(disk.files[self.id].bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let disk = self.disk.lock();
        self.check_alive(&disk)?;
        if disk
            .faults
            .unreadable
            .as_ref()
            .is_some_and(|name| disk.names.get(name) == Some(&self.id))
        {
            return Err(io::Error::other("unreadable sector (simulated)"));
        }
        let bytes = &disk.files[self.id].bytes;
        let start = in_memory(offset)?.min(bytes.len());
        let count = buffer.len().min(bytes.len() - start);
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.lock();
        self.check_alive(&disk)?;
        disk.change()?;
        let offset = in_memory(offset)?;
        disk.grow(self.id, offset + bytes.len())?;
        disk.files[self.id].write(offset, bytes);
        Ok(())
    }

    fn preallocate(&self, size: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        self.check_alive(&disk)?;
        disk.change()?;
        disk.grow(self.id, in_memory(size)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        self.check_alive(&disk)?;
        disk.change()?;
        match &mut disk.faults.sync_failure_after {
            Some(0) => {
                disk.faults.sync_failure_after = None;
                disk.files[self.id].fail_sync();
                return Err(io::Error::other("sync failed (simulated)"));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        disk.files[self.id].sync();
        Ok(())
    }
}
