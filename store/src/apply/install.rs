//! Taking over another member's state, whole or not at all.
//!
//! Either the machine goes over to a database that was received ([`Machine::move_to`]), or all items are copied into
//! the engine that it has ([`Machine::install`]), where that keeps no files. Both leave a mark in the new state that it
//! came this way: the raft log of this member may end before it, or hold other entries at its place, until consensus
//! has purged it ([`snapshot::installed`]).

use std::mem;
use std::sync::Arc;

use super::{Machine, Options};
use crate::engine::{Batch, Family, StateEngine, Step};
use crate::entry::LogId;
use crate::error::StoreError;
use crate::layout;
use crate::mutant::{self, Mutant};
use crate::snapshot;

impl Machine {
    /// Replaces everything by what `source` holds, as one engine batch, and makes it durable.
    ///
    /// Readers go over to the new state at once; what they hold of the old one stays as it is.
    pub fn install(&mut self, source: &dyn StateEngine) -> Result<(), StoreError> {
        if mem::replace(&mut self.is_stopped, true) {
            return Err(StoreError::Stopped);
        }
        // A sweep of the old state goes on in the new one, from where that one was swept.
        let pins = self.reader.pins.clone();
        let _exclusive = pins.exclusive();
        let mut batch = Batch::default();
        for family in Family::ALL {
            self.engine.scan(family, &[], None, &mut |key, _, _| {
                batch.delete(family, |out| out.extend_from_slice(key));
                Step::Next
            })?;
            if mutant::is_on(Mutant::HalfSnapshot) && family == Family::Log {
                continue;
            }
            source.scan(family, &[], None, &mut |key, value, _| {
                batch.put(
                    family,
                    |out| out.extend_from_slice(key),
                    |out| out.extend_from_slice(value),
                );
                Step::Next
            })?;
        }
        if let Some(name) = snapshot::current(source)? {
            mark(&mut batch, name.applied);
        }
        self.engine.write(&batch)?;
        self.engine.flush()?;
        let installed = self.open_beside(self.engine.clone())?;
        self.become_installed(installed);
        Ok(())
    }

    /// Goes over to another database, which holds the state at `applied` and which nobody else writes to. `switch` is
    /// called when it is complete and durable, and puts it in force for the next start.
    ///
    /// Until then nothing is changed, and after an error the machine goes on with the old state. After an error of
    /// `switch` itself it goes on with nothing: the next start may find either of the two.
    ///
    /// Readers see the new state at once. Who holds a view of the old one keeps reading it in the old database, which
    /// is closed when the last of them lets go.
    pub fn move_to(
        &mut self,
        engine: Arc<dyn StateEngine>,
        applied: LogId,
        switch: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.is_stopped {
            return Err(StoreError::Stopped);
        }
        // The index is read before anything refers to the database: if it cannot be, the old state stays.
        let installed = self.open_beside(engine.clone())?;
        if installed.applied != Some(applied) {
            return Err(StoreError::damaged(format!(
                "it is to be at log entry {}, and is at {}",
                applied.index,
                installed.applied.map_or(0, |id| id.index)
            )));
        }
        let mut batch = Batch::default();
        mark(&mut batch, applied);
        engine.write(&batch)?;
        engine.flush()?;
        self.is_stopped = true;
        // A step of the sweep belongs to one database.
        let pins = self.reader.pins.clone();
        let _exclusive = pins.exclusive();
        switch()?;
        self.become_installed(installed);
        Ok(())
    }

    fn open_beside(&self, engine: Arc<dyn StateEngine>) -> Result<Self, StoreError> {
        let options = Options {
            value_budget_bytes: self.cache.budget,
        };
        Self::open(engine, options)
    }

    /// Shows the new state to the readers of the old one.
    fn become_installed(&mut self, mut installed: Self) {
        installed.operations = self.operations;
        installed.answers_to = self.answers_to;
        self.leases.become_other(&installed.leases);
        installed.leases = self.leases.clone();
        installed.reader = self.reader.clone();
        installed.twin.begin();
        installed.publish();
        // Lists go on at views of their own, each with its database; but none is kept open for the sake of speed.
        self.reader.retained.clear();
        *self = installed;
    }
}

/// Notes in the new state which entry it came at.
fn mark(batch: &mut Batch, applied: LogId) {
    batch.put(
        Family::Meta,
        |out| out.extend_from_slice(layout::META_INSTALLED),
        |out| layout::put_log_id(out, applied),
    );
}
