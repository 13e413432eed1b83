//! Taking over another member's state, whole or not at all.

use std::mem;

use super::{Machine, Options};
use crate::engine::{Batch, Family, StateEngine, Step};
use crate::error::StoreError;

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
            source.scan(family, &[], None, &mut |key, value, _| {
                batch.put(
                    family,
                    |out| out.extend_from_slice(key),
                    |out| out.extend_from_slice(value),
                );
                Step::Next
            })?;
        }
        self.engine.write(&batch)?;
        self.engine.flush()?;
        let mut installed = Self::open(
            self.engine.clone(),
            Options {
                value_budget_bytes: self.cache.budget,
            },
        )?;
        self.reader.publish(installed.reader.view());
        self.reader.retained.clear();
        installed.reader = self.reader.clone();
        installed.answers_to = self.answers_to;
        *self = installed;
        Ok(())
    }
}
