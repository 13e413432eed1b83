//! `/holdfast/counts`: the kinds, and how many objects there are of each.

use bytes::Bytes;
use machinery::status::Status;
use proto::etcd::etcdserverpb::RangeRequest;
use serde_json::{Value, json};
use store::View;

use super::keys::ALL;
use crate::resource::Api;
use crate::resource::registry::end_of_prefix;

impl Api {
    /// Counts in the index: no object is read.
    pub(super) fn counts(&self) -> Result<Value, Status> {
        let view = self.registry.reader().view();
        let mut known = 0;
        let mut kinds = Vec::new();
        for kind in self.face.keys.kinds() {
            let prefix = format!("{ALL}{}/", kind.prefix);
            let count = self.count(&view, &prefix)?;
            known += count;
            let place = if kind.group.is_empty() { "api" } else { "apis" };
            kinds.push(json!({
                "kind": kind.kind,
                "apiVersion": kind.api_version(),
                "namespaced": kind.namespaced,
                "path": format!("/{place}/{}/{}", kind.api_version(), kind.plural),
                "prefix": prefix,
                "count": count,
            }));
        }
        Ok(json!({
            "revision": view.revision,
            "compacted": view.compact_revision.max(0),
            "kinds": kinds,
            // Of kinds that are not known here.
            "others": self.count(&view, ALL)? - known,
        }))
    }

    fn count(&self, view: &View, prefix: &str) -> Result<i64, Status> {
        let request = RangeRequest {
            key: Bytes::copy_from_slice(prefix.as_bytes()),
            range_end: end_of_prefix(prefix),
            count_only: true,
            ..RangeRequest::default()
        };
        Ok(self.registry.range(view, &request)?.count)
    }
}
