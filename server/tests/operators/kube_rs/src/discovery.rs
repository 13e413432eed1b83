//! What the server offers, and objects of kinds that are found by it.

use anyhow::{Context, Result};
use kube::api::{Api, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::discovery::{self, Discovery, Scope, verbs};

use crate::check::{equal, holds};
use crate::session::Session;

pub(crate) async fn discovery(session: &Session) -> Result<()> {
    let client = &session.client;
    let version = client.apiserver_version().await?;
    equal(
        "the version of Kubernetes",
        format!("{}.{}", version.major, version.minor),
        "1.37",
    )?;

    let before = session.sent(&["GET /api"]).len();
    let aggregated = Discovery::new(client.clone()).run_aggregated().await?;
    let requests = session.sent(&["GET /api"]).len() - before;
    equal("aggregated discovery takes two requests", requests, 2)?;
    let plain = Discovery::new(client.clone()).run().await?;
    equal(
        "aggregated and plain discovery offer the same",
        offered(&aggregated),
        offered(&plain),
    )?;

    let kind = GroupVersionKind::gvk("apps", "v1", "Deployment");
    let (resource, can) = discovery::pinned_kind(client, &kind).await?;
    equal("the plural of Deployment", &*resource.plural, "deployments")?;
    equal("the scope of Deployment", can.scope, Scope::Namespaced)?;
    holds(
        "Deployments can be watched",
        can.operations.iter().any(|verb| verb == verbs::WATCH),
    )?;

    let (resource, _) = aggregated
        .resolve_gvk(&GroupVersionKind::gvk("", "v1", "ConfigMap"))
        .context("no ConfigMap")?;
    let maps: Api<DynamicObject> = Api::namespaced_with(client.clone(), &session.space, &resource);
    let mut one = DynamicObject::new("one", &resource);
    one.data = serde_json::json!({"data": {"a": "1"}});
    let made = maps.create(&PostParams::default(), &one).await?;
    let types = made.types.context("no types")?;
    equal(
        "the kind of an object without type",
        &*types.kind,
        "ConfigMap",
    )?;
    let list = maps
        .list(&ListParams::default().fields("metadata.name=one"))
        .await?;
    equal("the kind of a list", &*list.types.kind, "ConfigMapList")?;
    equal("its data", &list.items[0].data["data"]["a"], "1")
}

/// Each kind with its verbs.
fn offered(discovery: &Discovery) -> Vec<String> {
    let mut all = Vec::new();
    for group in discovery.groups() {
        for (resource, can) in group.resources_by_stability() {
            let mut verbs = can.operations;
            verbs.sort();
            let subresources = can.subresources.len();
            let name = format!("{} {}", resource.api_version, resource.plural);
            all.push(format!("{name} {:?} {verbs:?} {subresources}", can.scope));
        }
    }
    all.sort();
    all
}
