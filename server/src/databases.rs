//! A node's databases: the one in force, one that is on its way in, and the old one until its last reader is gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use store::engine::place::Place;
use store::snapshot::{Arrived, Kind, Manifest, ReceiveError, Received, Receiver};
use store::{Machine, StateEngine, StoreError};

use crate::metrics::Closed;

/// What an image may take, of an engine that keeps no files.
const IMAGE_BYTES: u64 = 4 << 30;

/// Opens the database in a folder, and says when it is closed.
pub type Open =
    dyn Fn(&Path) -> Result<(Arc<dyn StateEngine>, Closed), StoreError> + Send + Sync + 'static;

/// How a node comes by another state than the one it has.
#[derive(Default)]
pub struct Databases {
    /// None: the state is kept in memory, and copied.
    on_disk: Option<OnDisk>,
}

struct OnDisk {
    place: Arc<Place>,
    open: Box<Open>,
    /// Bytes that a snapshot leaves free.
    reserve: u64,
    /// The database in force.
    current: Mutex<Current>,
}

struct Current {
    folder: PathBuf,
    closed: Closed,
}

impl Databases {
    /// Opens the database in force. Others will be opened alike, and leave `reserve` bytes of the disk free.
    pub fn open(
        place: Arc<Place>,
        folder: &Path,
        reserve: u64,
        open: Box<Open>,
    ) -> Result<(Self, Arc<dyn StateEngine>), StoreError> {
        let (engine, closed) = open(folder)?;
        let current = Current {
            folder: folder.to_owned(),
            closed,
        };
        let on_disk = OnDisk {
            place,
            open,
            reserve,
            current: Mutex::new(current),
        };
        let databases = Self {
            on_disk: Some(on_disk),
        };
        Ok((databases, engine))
    }

    /// Begins to take in a snapshot. What has arrived goes when the receiver is dropped, and at the next start.
    pub fn receive(&self, manifest: Manifest) -> Result<Receiver, ReceiveError> {
        match (&self.on_disk, manifest.kind) {
            (Some(on_disk), Kind::Database) => {
                Receiver::begin(&on_disk.place.fresh(), manifest, on_disk.reserve)
            }
            // Its items can be copied into any engine.
            _ => Receiver::in_memory(manifest, IMAGE_BYTES),
        }
    }

    /// Has the machine go over to a state that arrived, durably. Without an error or a fault of the disk, all of it is
    /// done; else the machine has the old state, or is stopped.
    pub fn install(&self, machine: &mut Machine, mut received: Received) -> Result<(), StoreError> {
        let applied = received.name().applied;
        let folder = match received.arrived() {
            Arrived::Items(source) => return machine.install(source),
            Arrived::Database(folder) => folder.to_owned(),
        };
        let on_disk = self.on_disk.as_ref().ok_or_else(|| StoreError::Engine {
            doing: "go over to a received database",
            source: "this node keeps its state in memory".into(),
        })?;
        let (engine, closed) = (on_disk.open)(&folder)?;
        machine.move_to(engine, applied, || {
            // From here on it may be the one that the next start opens.
            received.keep();
            let switched = on_disk.place.switch(&folder);
            switched.map_err(|error| StoreError::Engine {
                doing: "put a received database in force",
                source: Box::new(error),
            })
        })?;
        let new = Current { folder, closed };
        let old = std::mem::replace(&mut *on_disk.current.lock(), new);
        on_disk.remove_when_closed(old);
        Ok(())
    }
}

impl OnDisk {
    /// Removes a database that is no longer in force. Reads of it may take long, and so may removing 100 GiB: no other
    /// thread is to wait for either. If it comes to nothing, the next start removes it.
    fn remove_when_closed(&self, old: Current) {
        let place = self.place.clone();
        let Current { folder, closed } = old;
        let shown = folder.display().to_string();
        let remover = thread::Builder::new().name("db-remove".to_owned());
        let spawned = remover.spawn(move || {
            // An error is how it is told that the engine is closed.
            let _ = closed.blocking_recv();
            match place.remove(&folder) {
                Ok(()) => tracing::info!(folder = %folder.display(), "removed the old database"),
                Err(error) => tracing::warn!(
                    folder = %folder.display(),
                    %error,
                    "the old database cannot be removed; the next start tries again"
                ),
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(folder = shown, %error, "the old database stays until the next start");
        }
    }
}
