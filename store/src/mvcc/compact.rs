//! Compaction: moves the oldest readable revision, at once and on every member alike.
//!
//! What becomes unreadable is removed later, in the background, and on each member at its own pace.

use proto::etcd::etcdserverpb::{CompactionRequest, CompactionResponse};

use super::writer::{Writer, header};
use crate::answer::Refusal;

impl Writer<'_> {
    /// Checks and carries out a compaction.
    pub(crate) fn compact(
        &mut self,
        request: &CompactionRequest,
    ) -> Result<CompactionResponse, Refusal> {
        let requested = request.revision;
        if requested <= self.compact_revision {
            return Err(Refusal::Compacted {
                requested,
                compacted: self.compact_revision,
            });
        }
        if requested > self.revision {
            return Err(Refusal::FutureRevision {
                requested,
                current: self.revision,
            });
        }
        self.compact_revision = requested;
        Ok(CompactionResponse {
            header: header(self.revision),
        })
    }
}
