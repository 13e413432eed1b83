//! The engine on disk, and the only file that names RocksDB.
//!
//! RocksDB's own write-ahead log is off: the raft log is the log. All families flush together (`atomic_flush`),
//! so a crash leaves one point between two batches.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rocksdb::checkpoint::Checkpoint as Hardlinks;
use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor,
    CompactOptions, CompactionDecision, DB, DBCompressionType, ErrorKind, FlushOptions, LogLevel,
    MemtableFactory, Options, ReadOptions, ReadTier, WriteBatch, WriteOptions, properties,
};

use super::{Batch, Edit, Family, StateEngine, Step, Verified, VerifyFrom, Visitor, place};
use crate::error::StoreError;
use crate::layout;
use crate::mvcc::retention::Retention;
use crate::snapshot::{self, Checkpoint, SnapshotName};

/// A file is rewritten soon if among so many items in a row ...
const DELETIONS_WINDOW: usize = 4096;
/// ... there are so many deletions.
const DELETIONS: usize = 2048;

/// What is verified of the family `tip` in one go.
const TIP_SLICE: u64 = 16 << 20;

/// Memory that the engine may take, and how it writes.
#[derive(Clone, Debug)]
pub struct RocksOptions {
    /// All memtables together; a flush starts a little below.
    pub memtable_bytes: usize,
    /// Cache of uncompressed blocks, index and filter blocks included.
    pub block_cache_bytes: usize,
    /// Threads for flushes and compactions.
    pub background_jobs: i32,
    /// Files it may keep open; nothing: all, opened and looked at when the database is.
    pub open_files: Option<i32>,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self {
            memtable_bytes: 64 << 20,
            block_cache_bytes: 32 << 20,
            background_jobs: 2,
            open_files: None,
        }
    }
}

/// What a scan of everything reads from a file at once.
const READ_AHEAD: usize = 1 << 20;

/// A RocksDB database in a folder.
pub struct RocksEngine {
    db: DB,
    block_cache: Cache,
    horizon: Arc<AtomicI64>,
}

impl RocksEngine {
    /// Opens or creates the database in `folder`, whose parent exists.
    pub fn open(folder: &Path, options: &RocksOptions) -> Result<Self, StoreError> {
        refuse_lost_current(folder)?;
        let block_cache = Cache::new_lru_cache(options.block_cache_bytes);
        let horizon = Arc::new(AtomicI64::new(0));
        let families = Family::ALL.map(|family| {
            let mut settings = family_options(family, options, &block_cache);
            if family == Family::Kv {
                settings.set_compaction_filter_factory(Filters(horizon.clone()));
            }
            ColumnFamilyDescriptor::new(layout::name(family), settings)
        });
        let db = DB::open_cf_descriptors(&database_options(options), folder, families)
            .map_err(|error| open_error(error, folder))?;
        Ok(Self {
            db,
            block_cache,
            horizon,
        })
    }

    /// Opens the database in `folder` to read what is in its files, and changes nothing: not even a log is written.
    /// No process may have it open to write.
    pub fn open_to_read(folder: &Path) -> Result<Self, StoreError> {
        Self::open_read_only(folder, &RocksOptions::default())
    }

    fn open_read_only(folder: &Path, options: &RocksOptions) -> Result<Self, StoreError> {
        let block_cache = Cache::new_lru_cache(options.block_cache_bytes);
        let families = Family::ALL.map(|family| {
            let settings = family_options(family, options, &block_cache);
            ColumnFamilyDescriptor::new(layout::name(family), settings)
        });
        let mut database = database_options(options);
        database.create_if_missing(false);
        database.create_missing_column_families(false);
        let db = DB::open_cf_descriptors_read_only(&database, folder, families, false)
            .map_err(|error| open_error(error, folder))?;
        Ok(Self {
            db,
            block_cache,
            horizon: Arc::new(AtomicI64::new(0)),
        })
    }

    /// Bytes in files and, estimated, items of a family.
    pub fn size_of(&self, family: Family) -> (u64, u64) {
        let of = |property| {
            let value = self.db.property_int_value_cf(self.family(family), property);
            value.ok().flatten().unwrap_or(0)
        };
        (
            of(properties::TOTAL_SST_FILES_SIZE),
            of(properties::ESTIMATE_NUM_KEYS),
        )
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.db
            .cf_handle(layout::name(family))
            .expect("open() opens every family")
    }

    fn scan_with(
        &self,
        mut read: ReadOptions,
        family: Family,
        (from, to): (&[u8], Option<&[u8]>),
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        if let Some(to) = to {
            if from >= to {
                return Ok(());
            }
            read.set_iterate_upper_bound(to);
        }
        let mut items = self.db.raw_iterator_cf_opt(self.family(family), read);
        let mut target = Vec::new();
        items.seek(from);
        while let Some((key, value)) = items.item() {
            target.clear();
            match visit(key, value, &mut target) {
                Step::Next => items.next(),
                Step::Seek => items.seek(&target),
                Step::Stop => return Ok(()),
            }
        }
        items.status().map_err(|error| engine_error("read", error))
    }

    fn sum(&self, property: &properties::PropName) -> u64 {
        let of = |family| self.db.property_int_value_cf(self.family(family), property);
        Family::ALL
            .into_iter()
            .filter_map(|family| of(family).ok().flatten())
            .sum()
    }
}

impl StateEngine for RocksEngine {
    fn get(
        &self,
        family: Family,
        key: &[u8],
        found: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StoreError> {
        let value = self.db.get_pinned_cf(self.family(family), key);
        let value = value.map_err(|error| engine_error("read", error))?;
        if let Some(value) = &value {
            found(value);
        }
        Ok(value.is_some())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        self.scan_with(ReadOptions::default(), family, (from, to), visit)
    }

    fn scan_once(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        let mut read = ReadOptions::default();
        read.fill_cache(false);
        read.set_readahead_size(READ_AHEAD);
        self.scan_with(read, family, (from, to), visit)
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        // Room for each write's tag, family and lengths beside its bytes.
        let mut writes = WriteBatch::with_capacity_bytes(batch.bytes() + batch.len() * 12 + 12);
        let families = Family::ALL.map(|family| self.family(family));
        for (family, edit) in batch.iter() {
            let family = families[family as usize];
            match edit {
                Edit::Put(key, value) => writes.put_cf(family, key, value),
                Edit::Delete(key) => writes.delete_cf(family, key),
                Edit::DeleteRange(from, to) if from < to => {
                    writes.delete_range_cf(family, from, to);
                }
                // RocksDB would refuse the batch.
                Edit::DeleteRange(..) => {}
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db
            .write_opt(writes, &options)
            .map_err(|error| engine_error("write", error))
    }

    fn flush(&self) -> Result<(), StoreError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let families = Family::ALL.map(|family| self.family(family));
        let families = families.each_ref();
        self.db
            .flush_cfs_opt(&families, &options)
            .map_err(|error| engine_error("flush", error))
    }

    fn durable_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut read = ReadOptions::default();
        // With the write-ahead log off this tier skips memtables: what it finds is in files.
        read.set_read_tier(ReadTier::Persisted);
        self.db
            .get_cf_opt(self.family(Family::Meta), key, &read)
            .map_err(|error| engine_error("read", error))
    }

    fn set_horizon(&self, revision: i64) {
        self.horizon.fetch_max(revision, Ordering::Relaxed);
    }

    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        // First, because while a checkpoint is made no file is removed.
        self.flush()?;
        let folder = place::checkpoint_beside(self.db.path());
        let made = Hardlinks::new(&self.db).and_then(|links| links.create_checkpoint(&folder));
        if let Err(error) = made {
            // What is left of it goes at the next start, or was never made.
            let _ = place::remove_checkpoint(&folder);
            return Err(engine_error("make a checkpoint", error));
        }
        Checkpoint::of_folder(folder, name_in)
    }

    fn compact_all(&self) -> Result<(), StoreError> {
        let errors = || {
            let errors = self.db.property_int_value(properties::BACKGROUND_ERRORS);
            errors.map_err(|error| engine_error("compact", error))
        };
        let before = errors()?;
        let mut options = CompactOptions::default();
        // Else it would wait for the compactions that run, and hold up those that become due.
        options.set_exclusive_manual_compaction(false);
        // The last level, too, or what is superseded within it would stay.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        for family in Family::ALL {
            let family = self.family(family);
            self.db
                .compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
        }
        // The call itself does not say how it went.
        if errors()? != before {
            return Err(StoreError::Engine {
                doing: "compact",
                source: "the file LOG in the database folder says why".into(),
            });
        }
        Ok(())
    }

    fn verify(&self, from: &VerifyFrom, budget: u64) -> Result<Verified, StoreError> {
        let mut read = ReadOptions::default();
        read.set_verify_checksums(true);
        read.fill_cache(false);
        let mut items = self.db.raw_iterator_cf_opt(self.family(from.family), read);
        items.seek(&from.key);
        // Each iterator over its unsorted memtable sorts a copy: few and long ones.
        let budget = match from.family {
            Family::Tip => budget.max(TIP_SLICE),
            _ => budget,
        };
        let mut bytes = 0;
        while let Some((key, value)) = items.item() {
            if bytes >= budget {
                let next = VerifyFrom {
                    family: from.family,
                    key: key.to_vec(),
                };
                return Ok(Verified {
                    bytes,
                    next: Some(next),
                });
            }
            bytes += (key.len() + value.len()) as u64;
            items.next();
        }
        items
            .status()
            .map_err(|error| engine_error("read", error))?;
        let next = Family::ALL.get(from.family as usize + 1);
        let next = next.map(|&family| VerifyFrom {
            family,
            key: Vec::new(),
        });
        Ok(Verified { bytes, next })
    }

    fn size(&self) -> u64 {
        // Of the newest version of the tree alone: files that a compaction has replaced still lie there while a read
        // needs them, and would make the size jump to twice of what is there. Memtables already flushed, too.
        self.sum(properties::LIVE_SST_FILES_SIZE) + self.sum(properties::CUR_SIZE_ALL_MEM_TABLES)
    }

    fn size_in_use(&self) -> u64 {
        let live = self.sum(properties::ESTIMATE_LIVE_DATA_SIZE);
        (live + self.sum(properties::CUR_SIZE_ALL_MEM_TABLES)).min(self.size())
    }

    fn gauges(&self) -> Vec<(&'static str, u64)> {
        let block_cache = self.block_cache.get_usage() as u64;
        let running = |property| {
            self.db
                .property_int_value(property)
                .ok()
                .flatten()
                .unwrap_or(0)
        };
        vec![
            ("memtable_bytes", self.sum(properties::SIZE_ALL_MEM_TABLES)),
            ("block_cache_bytes", block_cache),
            (
                "table_reader_bytes",
                self.sum(properties::ESTIMATE_TABLE_READERS_MEM),
            ),
            (
                "pending_compaction_bytes",
                self.sum(properties::ESTIMATE_PENDING_COMPACTION_BYTES),
            ),
            ("running_flushes", running(properties::NUM_RUNNING_FLUSHES)),
            (
                "running_compactions",
                running(properties::NUM_RUNNING_COMPACTIONS),
            ),
            ("background_errors", running(properties::BACKGROUND_ERRORS)),
        ]
    }
}

/// Which state the database in a folder holds, by its files alone; changes nothing there.
///
/// An error, too, if a table that it names is not there or is not as long as it says: RocksDB itself would find out
/// when it reads from that one.
pub(crate) fn name_in(folder: &Path) -> Result<Option<SnapshotName>, StoreError> {
    let options = RocksOptions {
        block_cache_bytes: 1 << 20,
        // One value is wanted: the tables need not be opened for it.
        open_files: Some(16),
        ..RocksOptions::default()
    };
    let engine = RocksEngine::open_read_only(folder, &options)?;
    let tables = engine.db.live_files();
    for table in tables.map_err(|error| engine_error("list its tables", error))? {
        // RocksDB's names have a separator before them.
        let path = folder.join(table.name.trim_start_matches('/'));
        let found = std::fs::metadata(&path).map(|found| found.len());
        if found.as_ref().ok() != Some(&(table.size as u64)) {
            return Err(StoreError::Corrupt {
                file: Some(path.display().to_string()),
                detail: format!("it is to have {} bytes: found {found:?}", table.size),
            });
        }
    }
    snapshot::current(&engine)
}

/// Makes a filter for each compaction.
struct Filters(Arc<AtomicI64>);

/// Drops the versions that the horizon gave up when the compaction began.
struct Filter(Retention);

const FILTER: &CStr = c"holdfast.retention";

impl CompactionFilterFactory for Filters {
    type Filter = Filter;

    fn create(&mut self, _: CompactionFilterContext) -> Filter {
        Filter(Retention::new(self.0.load(Ordering::Relaxed)))
    }

    fn name(&self) -> &CStr {
        FILTER
    }
}

impl CompactionFilter for Filter {
    fn filter(&mut self, _: u32, key: &[u8], value: &[u8]) -> CompactionDecision {
        if self.0.keeps(key, value) {
            CompactionDecision::Keep
        } else {
            CompactionDecision::Remove
        }
    }

    fn name(&self) -> &CStr {
        FILTER
    }
}

fn database_options(options: &RocksOptions) -> Options {
    let mut database = Options::default();
    database.create_if_missing(true);
    database.create_missing_column_families(true);
    database.set_atomic_flush(true);
    database.set_db_write_buffer_size(options.memtable_bytes);
    database.set_max_background_jobs(options.background_jobs);
    database.set_bytes_per_sync(1 << 20);
    database.set_max_open_files(options.open_files.unwrap_or(-1));
    // One thread writes, seldom two, so what lets writers share the memtable only costs.
    database.set_allow_concurrent_memtable_write(false);
    database.set_enable_write_thread_adaptive_yield(false);
    // No statistics are read; gathering them slows the start and adds timer threads.
    database.set_skip_stats_update_on_db_open(true);
    database.set_stats_dump_period_sec(0);
    database.set_stats_persist_period_sec(0);
    database.set_log_level(LogLevel::Warn);
    database.set_keep_log_file_num(3);
    database.set_max_log_file_size(4 << 20);
    database.set_max_manifest_file_size(16 << 20);
    // Each start makes a new one; on a disk that is nearly full it must not take 4 MiB for it.
    database.set_manifest_preallocation_size(64 << 10);
    database
}

fn family_options(family: Family, options: &RocksOptions, block_cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_format_version(6);
    table.set_block_cache(block_cache);
    // Index and filters count against the cache, or memory would grow with the database.
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    if matches!(family, Family::Kv | Family::Tip) {
        table.set_bloom_filter(10.0, false);
        table.set_optimize_filters_for_memory(true);
    }
    if family == Family::Kv {
        table.set_block_size(16 << 10);
    }
    let mut settings = Options::default();
    settings.set_block_based_table_factory(&table);
    if family == Family::Tip {
        // Written with every put and read only at the start: appending beats a sorted insert, 1 us a put.
        settings.set_memtable_factory(MemtableFactory::Vector);
    }
    if matches!(family, Family::Kv | Family::Tip) {
        // A stretch of deletions slows down whoever scans over it: a file with one is rewritten soon.
        settings.add_compact_on_deletion_collector_factory(DELETIONS_WINDOW, DELETIONS, 0.0);
    }
    settings.set_write_buffer_size(options.memtable_bytes / 2);
    settings.set_max_write_buffer_number(4);
    // Young files are rewritten soon; compressing them would be wasted.
    let mut compression = [DBCompressionType::Lz4; 7];
    compression[..2].fill(DBCompressionType::None);
    settings.set_compression_per_level(&compression);
    // A compaction into the first level rewrites most of it, so fewer and larger ones write less; bloom filters
    // keep point reads of the waiting files cheap.
    settings.set_level_zero_file_num_compaction_trigger(8);
    settings.set_max_bytes_for_level_base(512 << 20);
    settings.set_level_zero_slowdown_writes_trigger(40);
    settings.set_level_zero_stop_writes_trigger(60);
    settings
}

fn engine_error(doing: &'static str, error: rocksdb::Error) -> StoreError {
    match error.kind() {
        ErrorKind::Corruption => {
            let detail = error.into_string();
            StoreError::Corrupt {
                file: file_in(&detail),
                detail,
            }
        }
        // RocksDB refuses writes from when it could not flush until it has, which it tries by itself every few
        // seconds. What it refuses it has not taken, and what it could not flush it keeps in memory. It says
        // "incomplete" where its memtables were all full, too.
        ErrorKind::IOError | ErrorKind::Incomplete if error.as_ref().contains(NO_SPACE) => {
            StoreError::OutOfSpace {
                doing,
                source: Box::new(error),
            }
        }
        _ => StoreError::Engine {
            doing,
            source: Box::new(error),
        },
    }
}

/// How RocksDB's message names the system's ENOSPC; it has no code of its own for it here.
const NO_SPACE: &str = "No space left on device";

fn open_error(error: rocksdb::Error, folder: &Path) -> StoreError {
    let text = error.as_ref();
    if text.contains("lock file") || text.contains("lock hold by current process") {
        return StoreError::Locked {
            folder: PathBuf::from(folder),
        };
    }
    if text.contains("No such file or directory") {
        let detail = error.into_string();
        return StoreError::Corrupt {
            file: file_in(&detail),
            detail,
        };
    }
    engine_error("open the database", error)
}

/// RocksDB makes an empty database where the file is missing that says which one is current, and removes the others'
/// files. Tables are written only after that file is durable, so with tables it was lost.
fn refuse_lost_current(folder: &Path) -> Result<(), StoreError> {
    let current = folder.join("CURRENT");
    let failed = |source: std::io::Error| StoreError::Engine {
        doing: "look into its folder",
        source: Box::new(source),
    };
    if !folder.exists() || current.try_exists().map_err(failed)? {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if Path::new(&name)
            .extension()
            .is_some_and(|kind| kind == "sst")
        {
            return Err(StoreError::Corrupt {
                file: Some(current.display().to_string()),
                detail: format!(
                    "it is missing, though there are tables such as {}",
                    name.display()
                ),
            });
        }
    }
    Ok(())
}

/// The file that RocksDB's message names.
fn file_in(message: &str) -> Option<String> {
    let is_file = |word: &&str| {
        word.ends_with(".sst") || word.contains("MANIFEST-") || word.ends_with("CURRENT")
    };
    message
        .split(|c: char| c.is_whitespace() || matches!(c, ':' | ',' | ';' | '\'' | '"'))
        .find(is_file)
        .map(str::to_owned)
}
