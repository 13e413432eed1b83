//! `holdfast snapshot restore`: a new data folder from a snapshot file.
//!
//! The folder's identity is written last. Until then no node starts on it, and another restore begins anew, so a
//! crash at any moment leaves no half of a database that serves.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use store::bolt::read::Database;
use store::etcd::import::{self, Beginning, Imported, Summary};
use store::fs::RealFs;
use store::log::{Log, LogOptions};
use store::{LogId, Membership, StateEngine, StoredMembership, Vote};

use super::{Failure, Progress, file, say};
use crate::config::{ETCD_CLUSTER_VERSION, RestoreOptions};
use crate::data_dir::{Identity, Restoring};
use crate::start::{Founding, bootstrap};
use crate::text::human;

/// The raft log begins behind this: what the file held counts as the first entry.
const APPLIED: LogId = LogId { term: 1, index: 1 };

/// Makes the folder.
pub(super) fn run(options: &RestoreOptions) -> Result<(), Failure> {
    let path = &options.file;
    let file = file::open(path)?;
    if !options.skips_hash_check {
        file::check_digest(path, &file)?;
    }
    let in_file =
        |error: &dyn std::fmt::Display| Failure::from(format!("{}: {error}", path.display()));
    let database = Database::open(&file).map_err(|error| in_file(&error))?;
    let summary = import::inspect(&database).map_err(|error| in_file(&error))?;
    check(path, &summary, options)?;

    let Founding { identity, members } = bootstrap(&options.config)?;
    let config = &options.config;
    let folder = Restoring::begin(&config.data_dir, config.wal_dir.as_deref(), identity)?;
    let members: BTreeSet<u64> = members.iter().map(|member| member.id).collect();
    let is_alone = members.len() == 1;
    let beginning = Beginning {
        applied: APPLIED,
        membership: StoredMembership {
            log_id: Some(APPLIED),
            membership: Membership {
                voters: vec![members.clone()],
                members,
            },
        },
        bump_revision: options.bump_revision,
    };
    let imported = {
        let engine = engine(&folder)?;
        let (mut progress, size) = (Progress::new(), database.size());
        let imported = import::import(&database, &*engine, &beginning, &mut |imported| {
            let Imported {
                bytes, versions, ..
            } = *imported;
            progress.tell(|| {
                format!(
                    "took over {versions} versions, {} of {}",
                    human(bytes),
                    human(size)
                )
            });
        });
        // Closed here, with all of its files complete.
        imported.map_err(|error| in_file(&error))?
    };
    begin_log(&folder, identity, is_alone)?;
    folder.finish()?;
    let Imported {
        revision,
        compact_revision,
        versions,
        ..
    } = imported;
    say(&format!(
        "restored {versions} versions at revision {revision}, compacted at {compact_revision}, into {}; \
         cluster {:x}, member {:x} ({:?})",
        config.data_dir.display(),
        identity.cluster_id,
        identity.member_id,
        config.name
    ));
    Ok(())
}

/// Refuses what cannot be honoured, and tells what will not be as it was.
fn check(path: &Path, summary: &Summary, options: &RestoreOptions) -> Result<(), Failure> {
    let shown = path.display();
    if let Some(version) = &summary.storage_version
        && minor(version).is_none_or(|found| Some(found) > minor(ETCD_CLUSTER_VERSION))
    {
        return Err(format!(
            "{shown} has etcd's storage version {version}, and this version of Holdfast knows up to {ETCD_CLUSTER_VERSION}"
        )
        .into());
    }
    if summary.is_auth_enabled && !options.is_without_auth {
        return Err(format!(
            "{shown} comes from a cluster in which users and roles are enforced. Holdfast does not enforce them yet: \
             everybody who can connect could read and write everything. To restore it all the same, give --without-auth"
        )
        .into());
    }
    for (bucket, items) in &summary.kept {
        if *bucket != "auth" {
            say(&format!(
                "{items} items of {bucket} are kept for snapshots of the new node, but have no effect yet"
            ));
        }
    }
    for alarm in &summary.alarms {
        say(&format!(
            "the alarm {} of member {:x} is not taken over: it was about that member's disk",
            alarm.alarm().as_str_name(),
            alarm.member_id
        ));
    }
    Ok(())
}

/// Major and minor version.
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A log with nothing in it, whose past ends where the state begins.
fn begin_log(folder: &Restoring, identity: Identity, is_alone: bool) -> Result<(), Failure> {
    let options = LogOptions::new(identity.cluster_id, identity.member_id);
    let (log, worker, _) = Log::open(Arc::new(RealFs::new(folder.wal())), options)?;
    let results = Arc::new(Mutex::new(Vec::new()));
    let done = || {
        let results = results.clone();
        Box::new(move |result: io::Result<()>| results.lock().push(result))
    };
    log.save_vote(
        Vote {
            term: APPLIED.term,
            voted_for: Some(identity.member_id),
            // Alone it leads; of several nobody does yet.
            committed: is_alone,
        },
        done(),
    );
    log.purge(APPLIED, done());
    log.save_committed(APPLIED);
    log.close();
    worker.run();
    let results = std::mem::take(&mut *results.lock());
    results.into_iter().collect::<io::Result<Vec<()>>>()?;
    match log.failure() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

#[cfg(feature = "rocksdb")]
fn engine(folder: &Restoring) -> Result<Box<dyn StateEngine>, Failure> {
    use store::engine::rocks::{RocksEngine, RocksOptions};
    let engine = RocksEngine::open(&folder.database(), &RocksOptions::default())?;
    Ok(Box::new(engine))
}

#[cfg(not(feature = "rocksdb"))]
fn engine(_: &Restoring) -> Result<Box<dyn StateEngine>, Failure> {
    Err("this build keeps its state in memory; a restore needs one with the feature rocksdb".into())
}
