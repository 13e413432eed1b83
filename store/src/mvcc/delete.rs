//! Delete range: all live keys of a range, in key order, at one revision.

use proto::etcd::etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse};

use super::range::{Selection, full};
use super::writer::Writer;
use crate::error::StoreError;
use crate::record::Tip;

impl Writer<'_> {
    /// Carries out a range delete; nothing of it if there is no room for its answer.
    pub(crate) fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, StoreError> {
        let tips: Vec<Tip> = match Selection::new(&request.key, &request.range_end) {
            Selection::Key(key) => self.twin.working().get(key).cloned().into_iter().collect(),
            Selection::Interval(interval) => {
                self.twin.working().range(&interval).cloned().collect()
            }
        };
        if request.prev_kv && !self.room.fits(tips.iter().map(Tip::encoded_len)) {
            // Refused as a whole by whoever called.
            return Ok(DeleteRangeResponse::default());
        }
        let mut prev_kvs = Vec::new();
        for tip in &tips {
            if request.prev_kv && self.room.take(tip.encoded_len()) && self.room.is_wanted {
                prev_kvs.push(full(self.engine, tip)?.to_key_value());
            }
            self.delete(tip.key());
        }
        let deleted = i64::try_from(tips.len()).unwrap_or(i64::MAX);
        Ok(DeleteRangeResponse {
            header: self.header(),
            deleted,
            prev_kvs,
        })
    }
}
