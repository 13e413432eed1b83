//! Put: one key, one new version.

use proto::etcd::etcdserverpb::{PutRequest, PutResponse};

use super::range::full;
use super::writer::Writer;
use crate::answer::Refusal;
use crate::error::StoreError;

impl Writer<'_> {
    /// Checks and carries out a put.
    pub(crate) fn put(
        &mut self,
        request: &PutRequest,
    ) -> Result<Result<PutResponse, Refusal>, StoreError> {
        match self.check_put(request) {
            Ok(()) => self.put_checked(request).map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// What must hold before a put, alone or in a transaction. Of two refusals etcd gives the lease's.
    pub(crate) fn check_put(&self, request: &PutRequest) -> Result<(), Refusal> {
        if request.lease != 0 && self.leases.term(request.lease).is_none() {
            return Err(Refusal::LeaseNotFound(request.lease));
        }
        if (request.ignore_value || request.ignore_lease)
            && self.twin.working().get(&request.key).is_none()
        {
            return Err(Refusal::KeyNotFound);
        }
        Ok(())
    }

    /// Carries out a put that was checked.
    pub(crate) fn put_checked(&mut self, request: &PutRequest) -> Result<PutResponse, StoreError> {
        let former = if request.ignore_value {
            let former = self.twin.working().get(&request.key);
            former.map(|tip| full(self.engine, tip)).transpose()?
        } else {
            None
        };
        let value = former
            .as_ref()
            .map_or(&*request.value, |former| former.value());
        let keep_lease = request.ignore_lease;
        let lease = |former| if keep_lease { former } else { request.lease };
        let replaced = self.set(&request.key, value, lease);
        let prev_kv = match replaced {
            Some(tip)
                if request.prev_kv && self.room.take(tip.encoded_len()) && self.room.is_wanted =>
            {
                Some(full(self.engine, &tip)?.to_key_value())
            }
            _ => None,
        };
        Ok(PutResponse {
            header: self.header(),
            prev_kv,
        })
    }
}
