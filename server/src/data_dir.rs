//! The data folder: its lock, its format, whose data it holds, and how often it was opened.
//!
//! ```text
//! <data-dir>/member/lock            held while a node runs; names its process
//! <data-dir>/member/identity.json   format, cluster, member, boot counter
//! <data-dir>/member/wal/            the raft log (or elsewhere: --wal-dir)
//! <data-dir>/member/db/             the database, or another one that db.current names: see `store::engine::place`
//! <data-dir>/member/peers.json      what other members were seen to have
//! <data-dir>/member/ballast         space given up by a start on a full disk
//! <data-dir>/member/restoring       while a snapshot is restored into the folder
//! ```
//!
//! A folder is refused rather than guessed about: each refusal names the path and what to do.

mod identity;
mod recovering;
mod restoring;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::disk_space;
use store::engine::place::{self, Place};

use self::identity::{
    Stored, identity_of, log_cluster_of, read_identity, write_identity_on_full_disk,
};
pub use self::recovering::Recovering;
pub use self::restoring::Restoring;

/// Marks a folder whose restore is under way; holds the path of its log.
const RESTORING: &str = "restoring";

/// The newest format of the folder that this program knows: one that was recovered (see [`Recovering`]).
pub const FORMAT: u32 = 2;

/// The format of any other folder.
const FIRST_FORMAT: u32 = 1;

/// Who a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u64,
    /// The member.
    pub member_id: u64,
}

/// An open data folder, locked until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    member: PathBuf,
    wal: PathBuf,
    place: Arc<Place>,
    database: PathBuf,
    identity: Identity,
    log_cluster_id: u64,
    boot: u64,
    is_new: bool,
    /// As it was written at this start.
    stored: Stored,
    warning: Option<String>,
    /// Held for its lock.
    _lock: File,
}

/// Why a data folder cannot be used. The text names the path and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error("{} is in use by {holder}; stop that one first, or give this node a data folder of its own (--data-dir)", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who holds the lock.
        holder: String,
    },
    /// The process may not write there.
    #[error("{} is not writable for this user: {source}; make it belong to the user that runs holdfast, or choose another folder (--data-dir)", path.display())]
    NotWritable {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody may write there.
    #[error("{} is on a file system that is mounted read-only; mount it writable, or choose another folder (--data-dir). A file system that became read-only by itself has met an error: look into the kernel's log first", .0.display())]
    ReadOnly(PathBuf),
    /// Other users may change the data.
    #[error("{} may be written by other users (mode {mode:04o}); run: chmod 700 {}", path.display(), path.display())]
    TooOpen {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A later version wrote it.
    #[error("{} was written by a newer Holdfast (format {found}, this one knows {FORMAT}); start it with that version", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The format it names.
        found: u64,
    },
    /// Not a folder of ours.
    #[error("{} holds something else than Holdfast data ({found}); choose another folder (--data-dir)", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// What was found in it.
        found: String,
    },
    /// What says whose data this is cannot be read.
    #[error("{} is damaged: {reason}; restore it from a backup, or move the whole folder away to start empty", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The log is elsewhere than this start says.
    #[error("the log of {} is kept in {}, but this start says {}; give the former as --wal-dir", path.display(), kept.display(), asked.display())]
    OtherWal {
        /// The data folder.
        path: PathBuf,
        /// Where the log is.
        kept: PathBuf,
        /// Where this start looks for it.
        asked: PathBuf,
    },
    /// The log that was there is gone.
    #[error("there is no log in {}, where this member has kept one; what it acknowledged may be nowhere else. Is the disk mounted? If the log is lost, restore data folder and log from the same backup, or move the data folder away to start empty", .0.display())]
    LogMissing(PathBuf),
    /// No data there.
    #[error("no data folder at {}; name the folder of a node that has run (--data-dir)", .0.display())]
    Missing(PathBuf),
    /// A restore was cut short.
    #[error("a restore of a snapshot into {} was not finished; run it again, or remove the folder", .0.display())]
    Unfinished(PathBuf),
    /// A recovery was cut short.
    #[error("a recovery of {} was not finished; run it again: holdfast recover --data-dir {}", .0.display(), .0.display())]
    Recovering(PathBuf),
    /// A restore makes its folders itself.
    #[error("{} is not empty, and a restore does not write over anything; choose another folder, or move this one away", .0.display())]
    NotEmpty(PathBuf),
    /// The disk failed.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Where a stopped node's log is, for tools that only read. Takes no lock.
pub fn existing_wal(data_dir: &Path, wal_dir: Option<&Path>) -> Result<PathBuf, DataDirError> {
    let member = data_dir.join("member");
    let path = member.join("identity.json");
    match read_identity(&path)? {
        Some(stored) => Ok(wal_dir.map_or_else(|| member.join(stored.wal_dir), Path::to_owned)),
        None => Err(DataDirError::Missing(data_dir.to_owned())),
    }
}

/// Where a stopped node's database is, for tools that only read. Takes no lock.
pub fn existing_database(data_dir: &Path) -> Result<PathBuf, DataDirError> {
    let member = data_dir.join("member");
    place::look(&member).map_err(|error| in_place(&member, error))
}

/// Whether a running node holds the folder's lock, and which.
pub fn holder(data_dir: &Path) -> Option<String> {
    let mut lock = File::open(data_dir.join("member/lock")).ok()?;
    match lock.try_lock_shared() {
        Ok(()) => None,
        Err(_) => Some(name_of_holder(&mut lock)),
    }
}

impl DataDir {
    /// Opens a folder and counts the start; makes it, for the member that `bootstrap` names, if there is none.
    ///
    /// The raised boot counter is durable on return: two starts never share one.
    pub fn open<E: From<DataDirError>>(
        data_dir: &Path,
        wal_dir: Option<&Path>,
        bootstrap: impl FnOnce() -> Result<Identity, E>,
    ) -> Result<Self, E> {
        let member = data_dir.join("member");
        let path = member.join("identity.json");
        // Before anything is made: a start that is refused leaves no trace.
        let found = if member.exists() {
            read_identity(&path)?
        } else {
            None
        };
        if found.is_none() {
            refuse_foreign(&member)?;
        }
        refuse_recovering(data_dir, found.as_ref())?;
        let identity = match &found {
            Some(stored) => identity_of(&path, stored)?,
            None => bootstrap()?,
        };
        let warning = make_folder(data_dir)?;
        make_folder(&member)?;
        let lock = lock(&member.join("lock"), data_dir)?;

        // Between the first look and the lock another process may have come and gone.
        let found = read_identity(&path)?;
        refuse_recovering(data_dir, found.as_ref())?;
        let asked = wal_dir.map_or_else(|| PathBuf::from("wal"), Path::to_owned);
        let (identity, boot) = match &found {
            Some(stored) => {
                if member.join(&stored.wal_dir) != member.join(&asked) {
                    let (kept, asked) = (member.join(&stored.wal_dir), member.join(&asked));
                    return Err(DataDirError::OtherWal {
                        path: data_dir.to_owned(),
                        kept,
                        asked,
                    }
                    .into());
                }
                let wal = member.join(&asked);
                if stored.has_log && !holds_log(&wal)? {
                    return Err(DataDirError::LogMissing(wal).into());
                }
                let boot = stored
                    .boot
                    .checked_add(1)
                    .ok_or_else(|| DataDirError::Damaged {
                        path: path.clone(),
                        reason: "no member was started so often".to_owned(),
                    })?;
                (identity_of(&path, stored)?, boot)
            }
            None => (identity, 1),
        };
        let wal = member.join(&asked);
        make_folder(&wal)?;
        let place = Place::open(&member).map_err(|error| in_place(&member, error))?;
        let database = place.current().map_err(|error| in_place(&member, error))?;
        make_folder(&database)?;
        // The identity was the last thing that a restore wrote.
        remove_if_there(&member.join(RESTORING))?;
        let log_cluster_id = found
            .as_ref()
            .and_then(|found| found.log_cluster_id.clone());
        let stored = Stored {
            format: Stored::format(log_cluster_id.as_ref()),
            cluster_id: format!("{:x}", identity.cluster_id),
            member_id: format!("{:x}", identity.member_id),
            boot,
            wal_dir: asked,
            has_log: found.as_ref().is_some_and(|found| found.has_log),
            log_cluster_id,
            is_recovering: false,
            checksum: None,
        };
        let log_cluster_id = log_cluster_of(&path, &stored)?;
        write_identity_on_full_disk(&member, &stored)?;
        sync_folder(data_dir).map_err(|error| system(data_dir, error))?;
        if found.is_none() {
            sync_parent(data_dir)?;
            sync_parent(&wal)?;
        }
        Ok(Self {
            member,
            wal,
            place: Arc::new(place),
            database,
            identity,
            log_cluster_id,
            boot,
            is_new: found.is_none(),
            stored,
            warning,
            _lock: lock,
        })
    }

    /// Remembers, durably, that there is a log. To be called before anything in it is acknowledged.
    pub fn note_log(&self) -> Result<(), DataDirError> {
        if self.stored.has_log {
            return Ok(());
        }
        let stored = Stored {
            has_log: true,
            ..self.stored.clone()
        };
        write_identity_on_full_disk(&self.member, &stored)
    }

    /// Whose data it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The cluster that the log names as its own: another one after a recovery, which leaves the segments as they are.
    pub fn log_cluster_id(&self) -> u64 {
        self.log_cluster_id
    }

    /// How often the folder was opened, this time included.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Whether this start made it.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The raft log's folder.
    pub fn wal(&self) -> &Path {
        &self.wal
    }

    /// The member's folder, with everything but a log that is kept elsewhere.
    pub fn member(&self) -> &Path {
        &self.member
    }

    /// The database's folder, as of the start.
    pub fn database(&self) -> &Path {
        &self.database
    }

    /// Which folder holds the database, and how another one takes its place.
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Something the operator should mend, though the node starts.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

fn remove_if_there(path: &Path) -> Result<(), DataDirError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(system(path, error)),
        _ => Ok(()),
    }
}

/// Makes a folder that only its owner can use; refuses one that others can write, warns of one that others can read.
fn make_folder(path: &Path) -> Result<Option<String>, DataDirError> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = "a file of that name".to_owned();
            return Err(DataDirError::Foreign {
                path: path.to_owned(),
                found,
            });
        }
        Err(error) => return Err(system(path, error)),
    }
    let metadata = fs::metadata(path).map_err(|error| system(path, error))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(DataDirError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    let path = path.display();
    Ok((mode & 0o055 != 0).then(|| {
        format!("{path} may be read by other users (mode {mode:04o}); run: chmod 700 {path}")
    }))
}

fn refuse_recovering(data_dir: &Path, found: Option<&Stored>) -> Result<(), DataDirError> {
    if found.is_some_and(|found| found.is_recovering) {
        return Err(DataDirError::Recovering(data_dir.to_owned()));
    }
    Ok(())
}

/// Takes the folder's lock and writes this process into it.
fn lock(path: &Path, data_dir: &Path) -> Result<File, DataDirError> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let mut file = options.open(path).map_err(|error| system(path, error))?;
    hold(&mut file, path, data_dir)?;
    // The number is for people; the lock is what counts.
    let written = file
        .set_len(0)
        .and_then(|()| write!(file, "{}", std::process::id()));
    match written {
        // Also on a full disk the lock holds.
        Err(error) if !disk_space::is_full(&error) => Err(system(path, error)),
        _ => Ok(file),
    }
}

/// Takes the lock of an open file.
fn hold(file: &mut File, path: &Path, data_dir: &Path) -> Result<(), DataDirError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(fs::TryLockError::WouldBlock) => {
            let holder = name_of_holder(file);
            Err(DataDirError::InUse {
                path: data_dir.to_owned(),
                holder,
            })
        }
        Err(fs::TryLockError::Error(error)) => Err(system(path, error)),
    }
}

fn name_of_holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.take(32).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}

/// Refuses a folder with content that no Holdfast made. A start that died before it wrote the identity leaves a lock,
/// empty folders and half a file; those are ours.
fn refuse_foreign(member: &Path) -> Result<(), DataDirError> {
    let entries = match fs::read_dir(member) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(member, error)),
    };
    let mut names: Vec<_> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    // Ours first: what is told is the same each time, and helps the most.
    names.sort_unstable_by_key(|name| (!place::is_database(name), name.clone()));
    let path = member.to_owned();
    if names.iter().any(|name| name == "snap") {
        let found = "etcd's database and log, which Holdfast does not read".to_owned();
        return Err(DataDirError::Foreign { path, found });
    }
    for name in names.iter().filter(|name| *name == RESTORING).chain(&names) {
        let has_content =
            || fs::read_dir(member.join(name)).map_or(true, |mut content| content.next().is_some());
        match name.as_str() {
            "lock" | "identity.json.tmp" => {}
            RESTORING => return Err(DataDirError::Unfinished(path)),
            "wal" | "db" if !has_content() => {}
            name if name == "wal" || place::is_database(name) => {
                let reason = format!("it is missing, but {name}/ beside it has data");
                return Err(DataDirError::Damaged {
                    path: member.join("identity.json"),
                    reason,
                });
            }
            _ => {
                return Err(DataDirError::Foreign {
                    path,
                    found: name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Whether a folder is there and holds a segment of the log.
fn holds_log(wal: &Path) -> Result<bool, DataDirError> {
    let entries = match fs::read_dir(wal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(|error| system(wal, error))?,
    };
    for entry in entries {
        let name = entry.map_err(|error| system(wal, error))?.file_name();
        if Path::new(&name)
            .extension()
            .is_some_and(|ending| ending == "wal")
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes a new folder's name durable.
fn sync_parent(path: &Path) -> Result<(), DataDirError> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    match sync_folder(parent) {
        // Who may not open it has no way to make sure.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced.map_err(|error| system(parent, error)),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// What the folder of databases complains about.
fn in_place(member: &Path, error: io::Error) -> DataDirError {
    match error.kind() {
        io::ErrorKind::InvalidData => DataDirError::Damaged {
            path: member.to_owned(),
            reason: error.to_string(),
        },
        _ => system(member, error),
    }
}

fn system(path: &Path, source: io::Error) -> DataDirError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied => DataDirError::NotWritable { path, source },
        io::ErrorKind::ReadOnlyFilesystem => DataDirError::ReadOnly(path),
        _ => DataDirError::Io { path, source },
    }
}

#[cfg(test)]
mod tests;
