//! Leases: which there are, how long each was granted for, and which keys go with it.
//!
//! The writer changes them with each batch; anybody may look. When a lease ends is decided elsewhere, by a clock, and
//! told by a command. What is kept of a lease on disk is what etcd keeps, under the name that etcd's own items get; the
//! keys of each are found by the index, which knows the lease of every key.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::engine::{Family, StateEngine, Step};
use crate::error::StoreError;
use crate::layout;

/// Seconds.
type Seconds = i64;

/// The longest time to live that etcd grants.
pub const MAX_TTL: Seconds = 9_000_000_000;

/// How long a lease lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// As granted.
    pub ttl: Seconds,
    /// What was left of it at the last checkpoint; 0 if there was none since it was last kept alive.
    pub remaining: Seconds,
}

impl Term {
    /// What whoever knows no more has to assume to be left.
    pub fn left(&self) -> Seconds {
        if self.remaining > 0 {
            self.remaining
        } else {
            self.ttl
        }
    }
}

/// What a command did to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// There is a new one.
    Granted {
        /// Its id.
        id: i64,
        /// How long it lives.
        term: Term,
    },
    /// There is one less.
    Ended {
        /// Its id.
        id: i64,
    },
    /// What is left of it was noted.
    Noted {
        /// Its id.
        id: i64,
        /// How long it lives.
        term: Term,
    },
}

/// All leases. Cheap to clone: clones are of the same ones.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    table: Arc<RwLock<Table>>,
}

type Table = HashMap<i64, Lease>;

#[derive(Debug)]
struct Lease {
    term: Term,
    keys: BTreeSet<Bytes>,
}

impl Leases {
    /// Those that a database holds, without their keys.
    pub(crate) fn read(engine: &dyn StateEngine) -> Result<Self, StoreError> {
        let mut table = Table::new();
        let mut fault = None;
        let (start, end) = layout::lease_bounds();
        engine.scan(
            Family::Meta,
            &start,
            Some(&end),
            &mut |key, value, _| match layout::lease(key, value) {
                Ok((id, term)) => {
                    let keys = BTreeSet::new();
                    table.insert(id, Lease { term, keys });
                    Step::Next
                }
                Err(error) => {
                    fault = Some(error);
                    Step::Stop
                }
            },
        )?;
        match fault {
            Some(error) => Err(error),
            None => Ok(Self {
                table: Arc::new(RwLock::new(table)),
            }),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.read().is_empty()
    }

    /// How long a lease lives; none if there is no such lease.
    pub fn term(&self, id: i64) -> Option<Term> {
        self.table.read().get(&id).map(|lease| lease.term)
    }

    /// The keys of a lease, in their order; none if there is no such lease.
    pub fn keys(&self, id: i64) -> Option<Vec<Bytes>> {
        let table = self.table.read();
        table
            .get(&id)
            .map(|lease| lease.keys.iter().cloned().collect())
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<(i64, Term)> {
        let table = self.table.read();
        table.iter().map(|(&id, lease)| (id, lease.term)).collect()
    }

    /// Adds a lease; false if there is one of this id.
    pub(crate) fn grant(&self, id: i64, term: Term) -> bool {
        let mut table = self.table.write();
        let is_free = !table.contains_key(&id);
        if is_free {
            let keys = BTreeSet::new();
            table.insert(id, Lease { term, keys });
        }
        is_free
    }

    /// Takes a lease out, and answers its keys, in their order; none if there is no such lease.
    pub(crate) fn end(&self, id: i64) -> Option<BTreeSet<Bytes>> {
        self.table.write().remove(&id).map(|lease| lease.keys)
    }

    /// Notes what is left of a lease; answers how long it lives now, or none if there is no such lease.
    pub(crate) fn note(&self, id: i64, remaining: Seconds) -> Option<Term> {
        let mut table = self.table.write();
        let term = &mut table.get_mut(&id)?.term;
        term.remaining = remaining.clamp(0, term.ttl);
        Some(*term)
    }

    /// A key goes with another lease than before; 0 is none, and a lease that there is not holds nothing.
    pub(crate) fn moved(&self, key: &[u8], from: i64, to: i64) {
        if from == to {
            return;
        }
        let mut table = self.table.write();
        if from != 0
            && let Some(lease) = table.get_mut(&from)
        {
            lease.keys.remove(key);
        }
        if to != 0
            && let Some(lease) = table.get_mut(&to)
        {
            // A slice of the record would keep the value in memory.
            lease.keys.insert(Bytes::copy_from_slice(key));
        }
    }

    /// Shows what another one holds from now on.
    pub(crate) fn become_other(&self, other: &Self) {
        *self.table.write() = std::mem::take(&mut *other.table.write());
    }
}
