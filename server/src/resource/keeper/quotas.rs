//! What is used of a quota, counted anew.

use machinery::status::Status;

use super::graph::Graph;
use crate::resource::registry::Change;
use crate::resource::{Api, hooks, stored};

/// Writes how much of a quota is used, if that is not what stands there. True once that is done.
pub(super) async fn count(api: &Api, graph: &Graph, key: &str) -> Result<bool, Status> {
    let Some(head) = graph.head(key) else {
        return Ok(true);
    };
    let quotas = api.kind("", "v1", "resourcequotas");
    // Of what is created from here on the quota itself hears, which then is not as it is read here.
    let Some(current) = api.registry.look(key)? else {
        return Ok(true);
    };
    let mut quota = current.value(quotas)?;
    let status = hooks::recounted(api, &head.metadata.namespace, &quota)?;
    if quota["status"] == status {
        return Ok(true);
    }
    quota["status"] = status;
    let mut change = Change::default();
    change.only_at(key, current.revision);
    change.put(key, stored::keep(quotas, &quota), 0);
    Ok(api.registry.commit(change).await?.is_some())
}
