//! The file that says whose data a folder holds: read, checked, and replaced whole.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DataDirError, FIRST_FORMAT, FORMAT, Identity, sync_folder, system};
use crate::disk_space;

/// `identity.json`. Ids are in hexadecimal, as etcd prints them. A change of the format raises [`FORMAT`], so a field
/// that is not known is a damaged name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    pub(super) format: u32,
    pub(super) cluster_id: String,
    pub(super) member_id: String,
    pub(super) boot: u64,
    pub(super) wal_dir: PathBuf,
    /// Whether there has been a log: from then on one that is not there is lost, not new.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) has_log: bool,
    /// The cluster that the segments of the log name, where a recovery has since made the folder one of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) log_cluster_id: Option<String>,
    /// Whether a recovery has begun and not ended: no node starts meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_recovering: bool,
    /// Of the others. Early versions wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checksum: Option<String>,
}

impl Stored {
    /// What the checksum must be: of everything but itself, as it is written.
    pub(super) fn sum(&self) -> Result<String, serde_json::Error> {
        let fields = serde_json::to_vec(&(
            self.format,
            &self.cluster_id,
            &self.member_id,
            self.boot,
            &self.wal_dir,
        ))?;
        // So that files from before there were these fields keep their sum.
        let has_log = if self.has_log { "has_log" } else { "" };
        let recovering = if self.is_recovering {
            "is_recovering"
        } else {
            ""
        };
        let log_cluster = self.log_cluster_id.as_deref().unwrap_or_default();
        let later = [has_log, recovering, log_cluster].concat();
        let fields = [&*fields, later.as_bytes()].concat();
        Ok(format!("{:08x}", crc32c::crc32c(&fields)))
    }

    /// The format of these fields: one that an older version does not know only where it must not start.
    pub(super) fn format(log_cluster_id: Option<&String>) -> u32 {
        if log_cluster_id.is_some() {
            FORMAT
        } else {
            FIRST_FORMAT
        }
    }
}

pub(super) fn read_identity(path: &Path) -> Result<Option<Stored>, DataDirError> {
    #[derive(Deserialize)]
    struct Format {
        format: u64,
    }
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(system(path, error)),
    };
    let damaged = |error: serde_json::Error| DataDirError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    // The format comes first: a newer one may have other fields.
    let Format { format } = serde_json::from_slice(&text).map_err(damaged)?;
    if format > u64::from(FORMAT) {
        return Err(DataDirError::NewerFormat {
            path: path.to_owned(),
            found: format,
        });
    }
    let stored: Stored = serde_json::from_slice(&text).map_err(damaged)?;
    let sum = stored.sum().map_err(damaged)?;
    if stored.checksum.as_ref().is_some_and(|found| *found != sum) {
        return Err(DataDirError::Damaged {
            path: path.to_owned(),
            reason: "its checksum does not match".to_owned(),
        });
    }
    Ok(Some(stored))
}

pub(super) fn identity_of(path: &Path, stored: &Stored) -> Result<Identity, DataDirError> {
    Ok(Identity {
        cluster_id: id(path, &stored.cluster_id)?,
        member_id: id(path, &stored.member_id)?,
    })
}

/// The cluster that the segments of the log name.
pub(super) fn log_cluster_of(path: &Path, stored: &Stored) -> Result<u64, DataDirError> {
    let named = stored.log_cluster_id.as_ref();
    id(path, named.unwrap_or(&stored.cluster_id))
}

fn id(path: &Path, text: &str) -> Result<u64, DataDirError> {
    match u64::from_str_radix(text, 16) {
        Ok(id) if id != 0 => Ok(id),
        _ => Err(DataDirError::Damaged {
            path: path.to_owned(),
            reason: format!("{text:?} is not an id"),
        }),
    }
}

/// Adds the checksum, and replaces the file so that a crash leaves the old one or the new one.
pub(super) fn write_identity(member: &Path, stored: &Stored) -> io::Result<()> {
    let temporary = member.join("identity.json.tmp");
    let stored = Stored {
        checksum: Some(stored.sum()?),
        ..stored.clone()
    };
    let mut text = serde_json::to_vec_pretty(&stored)?;
    text.push(b'\n');
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&temporary, member.join("identity.json"))?;
    sync_folder(member)
}

/// The same where only the ballast has kept room for it.
pub(super) fn write_identity_on_full_disk(
    member: &Path,
    stored: &Stored,
) -> Result<(), DataDirError> {
    let mut written = write_identity(member, stored);
    if let Err(error) = &written
        && disk_space::is_full(error)
        && disk_space::give_up_ballast(member)
    {
        written = write_identity(member, stored);
    }
    written.map_err(|error| system(&member.join("identity.json"), error))
}
