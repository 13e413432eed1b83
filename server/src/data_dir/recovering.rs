//! A folder that is made one of a new cluster: locked, and no node starts on it between the first step and the last.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::identity::{
    Stored, identity_of, log_cluster_of, read_identity, write_identity_on_full_disk,
};
use super::{
    DataDirError, FORMAT, Identity, existing_database, hold, holds_log, lock, refuse_foreign,
    remove_if_there, sync_folder, system,
};

/// The data folder of a stopped member, to be looked at and, if that is wanted, recovered.
///
/// The segments of the log name the cluster that they were made for, and stay as they are: they can be 64 MiB each, and
/// rewriting several of them cannot be one step. So the folder remembers that name beside its new one.
#[derive(Debug)]
pub struct Recovering {
    data_dir: PathBuf,
    member: PathBuf,
    stored: Stored,
    identity: Identity,
    log_cluster_id: u64,
    /// Held for its lock. Absent only where there is no file to lock, and nothing will be written.
    _lock: Option<File>,
}

impl Recovering {
    /// Opens the folder to look at it. Changes nothing.
    pub fn look(data_dir: &Path) -> Result<Self, DataDirError> {
        let path = data_dir.join("member/lock");
        let lock = match File::open(&path) {
            Ok(mut file) => {
                hold(&mut file, &path, data_dir)?;
                Some(file)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(system(&path, error)),
        };
        Self::read(data_dir, lock)
    }

    /// Opens the folder to recover it. Changes nothing but who is named in the lock.
    pub fn open(data_dir: &Path) -> Result<Self, DataDirError> {
        let member = data_dir.join("member");
        // Nothing is made where there is nothing.
        if !member.is_dir() {
            return Err(DataDirError::Missing(data_dir.to_owned()));
        }
        let lock = lock(&member.join("lock"), data_dir)?;
        Self::read(data_dir, Some(lock))
    }

    fn read(data_dir: &Path, lock: Option<File>) -> Result<Self, DataDirError> {
        let member = data_dir.join("member");
        let path = member.join("identity.json");
        let Some(stored) = read_identity(&path)? else {
            refuse_foreign(&member)?;
            return Err(DataDirError::Missing(data_dir.to_owned()));
        };
        let folder = Self {
            data_dir: data_dir.to_owned(),
            identity: identity_of(&path, &stored)?,
            log_cluster_id: log_cluster_of(&path, &stored)?,
            member,
            stored,
            _lock: lock,
        };
        if !holds_log(&folder.wal())? {
            return Err(if folder.stored.has_log {
                DataDirError::LogMissing(folder.wal())
            } else {
                // A first start that died before it had anything.
                DataDirError::Missing(data_dir.to_owned())
            });
        }
        Ok(folder)
    }

    /// Whose data it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The cluster that the log names as its own.
    pub fn log_cluster_id(&self) -> u64 {
        self.log_cluster_id
    }

    /// How often the folder was opened; a recovery that has begun is one such time.
    pub fn boot(&self) -> u64 {
        self.stored.boot
    }

    /// Whether a recovery has begun and not ended.
    pub fn has_begun(&self) -> bool {
        self.stored.is_recovering
    }

    /// The raft log's folder.
    pub fn wal(&self) -> PathBuf {
        self.member.join(&self.stored.wal_dir)
    }

    /// Whether the log is kept elsewhere than in the data folder, and every start must be told where.
    pub fn has_wal_elsewhere(&self) -> bool {
        self.stored.wal_dir != Path::new("wal")
    }

    /// The database's folder.
    pub fn database(&self) -> Result<PathBuf, DataDirError> {
        existing_database(&self.data_dir)
    }

    /// Makes the folder one of this cluster, durably. No node starts on it before [`Recovering::finish`].
    pub fn begin(&mut self, cluster_id: u64) -> Result<(), DataDirError> {
        let stored = Stored {
            format: FORMAT,
            cluster_id: format!("{cluster_id:x}"),
            log_cluster_id: Some(format!("{:x}", self.log_cluster_id)),
            boot: self.stored.boot.saturating_add(1),
            is_recovering: true,
            ..self.stored.clone()
        };
        self.write(stored)?;
        self.identity.cluster_id = cluster_id;
        Ok(())
    }

    /// Forgets, durably, what other members were seen to have.
    pub fn forget_peers(&self) -> Result<(), DataDirError> {
        remove_if_there(&self.member.join("peers.json"))?;
        sync_folder(&self.member).map_err(|error| system(&self.member, error))
    }

    /// Has nodes start on the folder again.
    pub fn finish(&mut self) -> Result<(), DataDirError> {
        let stored = Stored {
            is_recovering: false,
            ..self.stored.clone()
        };
        self.write(stored)
    }

    fn write(&mut self, stored: Stored) -> Result<(), DataDirError> {
        write_identity_on_full_disk(&self.member, &stored)?;
        self.stored = stored;
        Ok(())
    }
}
