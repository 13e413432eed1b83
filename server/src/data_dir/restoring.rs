//! A folder that a snapshot is restored into: no node starts on it before it is whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::identity::{Stored, write_identity};
use super::{
    DataDirError, FIRST_FORMAT, Identity, RESTORING, lock, make_folder, remove_if_there,
    sync_folder, sync_parent, system,
};

/// A data folder that is being filled from a snapshot. Until [`Restoring::finish`] no node starts on it, and another
/// restore begins anew.
#[derive(Debug)]
pub struct Restoring {
    data_dir: PathBuf,
    member: PathBuf,
    asked_wal: PathBuf,
    identity: Identity,
    /// Held for its lock.
    _lock: File,
}

impl Restoring {
    /// Makes the folder, or empties what an earlier restore left unfinished. Refuses anything else.
    pub fn begin(
        data_dir: &Path,
        wal_dir: Option<&Path>,
        identity: Identity,
    ) -> Result<Self, DataDirError> {
        let member = data_dir.join("member");
        let marker = member.join(RESTORING);
        let is_unfinished = marker.exists() && !member.join("identity.json").exists();
        // A lock alone is what a restore leaves that died before it could say so.
        if !is_unfinished
            && !holds_only(data_dir, "member", |_| {
                holds_only(&member, "lock", |_| true)
            })
        {
            refuse_content(data_dir)?;
        }
        let asked_wal = wal_dir.map_or_else(|| PathBuf::from("wal"), Path::to_owned);
        let wal = member.join(&asked_wal);
        make_folder(data_dir)?;
        make_folder(&member)?;
        let lock = lock(&member.join("lock"), data_dir)?;
        if is_unfinished {
            let known = fs::read_to_string(&marker).map_err(|error| system(&marker, error))?;
            // A log elsewhere is emptied only if the unfinished restore made it.
            if wal_dir.is_some() && Path::new(&known) != wal {
                refuse_content(&wal)?;
            }
            for folder in [&member.join("db"), &wal] {
                empty(folder).map_err(|error| system(folder, error))?;
            }
        } else if wal_dir.is_some() {
            refuse_content(&wal)?;
        }
        let text = wal.as_os_str().as_encoded_bytes();
        let written = File::create(&marker).and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()
        });
        written.map_err(|error| system(&marker, error))?;
        sync_folder(&member).map_err(|error| system(&member, error))?;
        make_folder(&wal)?;
        make_folder(&member.join("db"))?;
        Ok(Self {
            data_dir: data_dir.to_owned(),
            member,
            asked_wal,
            identity,
            _lock: lock,
        })
    }

    /// The raft log's folder, empty.
    pub fn wal(&self) -> PathBuf {
        self.member.join(&self.asked_wal)
    }

    /// The database's folder, empty.
    pub fn database(&self) -> PathBuf {
        self.member.join("db")
    }

    /// Makes the folder one that a node starts on: log and database are complete and durable.
    pub fn finish(self) -> Result<(), DataDirError> {
        for folder in [&self.wal(), &self.database(), &self.member, &self.data_dir] {
            sync_folder(folder).map_err(|error| system(folder, error))?;
        }
        sync_parent(&self.data_dir)?;
        sync_parent(&self.wal())?;
        let stored = Stored {
            format: FIRST_FORMAT,
            cluster_id: format!("{:x}", self.identity.cluster_id),
            member_id: format!("{:x}", self.identity.member_id),
            boot: 0,
            wal_dir: self.asked_wal,
            has_log: true,
            log_cluster_id: None,
            is_recovering: false,
            checksum: None,
        };
        let path = self.member.join("identity.json");
        write_identity(&self.member, &stored).map_err(|error| system(&path, error))?;
        remove_if_there(&self.member.join(RESTORING))?;
        sync_folder(&self.member).map_err(|error| system(&self.member, error))
    }
}

/// Removes all that is in a folder, if it is there. The folder stays: it may be a mount point.
fn empty(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Refuses a folder that is there and not empty.
fn refuse_content(path: &Path) -> Result<(), DataDirError> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(DataDirError::NotEmpty(path.to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(DataDirError::NotEmpty(path.to_owned()))
        }
        Err(error) => Err(system(path, error)),
    }
}

/// Whether a folder holds one thing, of that name, which the test accepts.
fn holds_only(folder: &Path, name: &str, accepts: impl FnOnce(&Path) -> bool) -> bool {
    let Ok(mut entries) = fs::read_dir(folder) else {
        return false;
    };
    let first = entries.next().and_then(Result::ok);
    entries.next().is_none()
        && first.is_some_and(|entry| entry.file_name() == *name && accepts(&entry.path()))
}
