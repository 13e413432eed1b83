//! Commands about leases.

use proto::etcd::etcdserverpb::{
    LeaseCheckpoint, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeResponse,
};

use super::writer::Writer;
use crate::answer::Refusal;
use crate::engine::Family;
use crate::layout;
use crate::leases::{LeaseChange, Term};

impl Writer<'_> {
    /// Adds a lease.
    pub(crate) fn lease_grant(
        &mut self,
        request: &LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, Refusal> {
        let (id, ttl) = (request.id, request.ttl);
        let term = Term { ttl, remaining: 0 };
        if !self.leases.grant(id, term) {
            return Err(Refusal::LeaseExists(id));
        }
        self.put_lease(id, term);
        self.lease_changes.push(LeaseChange::Granted { id, term });
        Ok(LeaseGrantResponse {
            header: self.header(),
            id,
            ttl,
            error: String::new(),
        })
    }

    /// Ends a lease: its keys are deleted, in their order, in one revision.
    pub(crate) fn lease_end(&mut self, id: i64) -> Result<LeaseRevokeResponse, Refusal> {
        let keys = self.leases.end(id).ok_or(Refusal::LeaseNotFound(id))?;
        for key in &keys {
            self.delete(key);
        }
        self.batch
            .delete(Family::Meta, |out| layout::put_lease_key(out, id));
        self.lease_changes.push(LeaseChange::Ended { id });
        Ok(LeaseRevokeResponse {
            header: self.header(),
        })
    }

    /// Notes what is left of leases; of one that has ended meanwhile nothing is.
    pub(crate) fn lease_checkpoint(&mut self, checkpoints: &[LeaseCheckpoint]) {
        for checkpoint in checkpoints {
            let id = checkpoint.id;
            if let Some(term) = self.leases.note(id, checkpoint.remaining_ttl) {
                self.put_lease(id, term);
                self.lease_changes.push(LeaseChange::Noted { id, term });
            }
        }
    }

    fn put_lease(&mut self, id: i64, term: Term) {
        self.batch.put(
            Family::Meta,
            |out| layout::put_lease_key(out, id),
            |out| layout::put_lease(out, id, term),
        );
    }
}
