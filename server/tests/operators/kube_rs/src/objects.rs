//! Single objects and lists of them.

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, VersionMatch,
};
use kube::core::PartialObjectMeta;
use kube::{Resource, ResourceExt};
use serde_json::json;

use crate::check::{becomes, equal, holds, refused};
use crate::controller::deployment;
use crate::session::{Session, config_map, pairs};

/// Create, read, replace, delete.
pub(crate) async fn objects(session: &Session) -> Result<()> {
    let (maps, post) = (session.maps(), PostParams::default());
    let one = config_map("one", &[("app", "x")], &[("a", "1")]);
    let made = maps.create(&post, &one).await?;
    holds(
        "a new object has uid, resourceVersion, creationTimestamp",
        made.uid().is_some()
            && made.resource_version().is_some()
            && made.creation_timestamp().is_some(),
    )?;
    equal(
        "it is read as it was answered",
        maps.get("one").await?,
        made.clone(),
    )?;
    let status = refused(
        "the same name again",
        maps.create(&post, &one).await,
        409,
        "AlreadyExists",
    )?;
    equal(
        "the message",
        &*status.message,
        "configmaps \"one\" already exists",
    )?;
    refused(
        "a bad name",
        maps.create(&post, &config_map("No", &[], &[])).await,
        422,
        "Invalid",
    )?;
    refused("what is not there", maps.get("two").await, 404, "NotFound")?;
    equal("what may not be there", maps.get_opt("two").await?, None)?;
    let elsewhere: Api<ConfigMap> = Api::namespaced(session.client.clone(), "nowhere");
    refused(
        "a namespace that is not there",
        elsewhere.create(&post, &one).await,
        404,
        "NotFound",
    )?;

    let mut changed = made.clone();
    changed.data = pairs(&[("a", "2")]);
    let replaced = maps.replace("one", &post, &changed).await?;
    holds(
        "what is replaced has another resourceVersion and the same uid",
        replaced.resource_version() != made.resource_version() && replaced.uid() == made.uid(),
    )?;
    let meta: PartialObjectMeta<ConfigMap> = maps.get_metadata("one").await?;
    equal("metadata alone", meta.metadata, replaced.metadata.clone())?;
    let tried = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    maps.create(&tried, &config_map("tried", &[], &[])).await?;
    equal(
        "what was only tried is not there",
        maps.get_opt("tried").await?,
        None,
    )?;

    let other = DeleteParams::default().preconditions(Preconditions {
        uid: Some("other".to_owned()),
        resource_version: None,
    });
    refused(
        "delete another uid",
        maps.delete("one", &other).await,
        409,
        "Conflict",
    )?;
    let deleted = maps.delete("one", &DeleteParams::default()).await?;
    let status = deleted.right().context("no Status for a deletion")?;
    let uid = status.details.map(|details| details.uid);
    equal("the uid in the answer to a deletion", uid, made.uid())?;
    refused("what is deleted", maps.get("one").await, 404, "NotFound")?;
    refused(
        "delete it again",
        maps.delete("one", &DeleteParams::default()).await,
        404,
        "NotFound",
    )?;

    for name in ["a", "b"] {
        maps.create(&post, &config_map(name, &[("many", "yes")], &[]))
            .await?;
    }
    let many = ListParams::default().labels("many=yes");
    maps.delete_collection(&DeleteParams::default(), &many)
        .await?;
    equal(
        "a collection is deleted",
        maps.list(&many).await?.items.len(),
        0,
    )?;
    let spaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(session.client.clone());
    spaces
        .delete(&session.space, &DeleteParams::default())
        .await?;
    becomes("a deleted namespace goes", async || {
        Ok(spaces.get_opt(&session.space).await?.is_none())
    })
    .await
}

/// Merge, JSON and strategic merge patch, status and scale.
pub(crate) async fn patches(session: &Session) -> Result<()> {
    let (maps, params) = (session.maps(), PatchParams::default());
    let made = config_map("one", &[], &[("a", "1"), ("b", "2")]);
    maps.create(&PostParams::default(), &made).await?;
    let merge = Patch::Merge(
        json!({"data": {"a": null, "c": "3"}, "metadata": {"annotations": {"k": "v"}}}),
    );
    let merged = maps.patch("one", &params, &merge).await?;
    equal(
        "data after a merge patch",
        &merged.data,
        &pairs(&[("b", "2"), ("c", "3")]),
    )?;
    let again = maps.patch("one", &params, &merge).await?;
    equal(
        "a patch that changes nothing writes nothing",
        again.resource_version(),
        merged.resource_version(),
    )?;
    let stale = Patch::Merge(json!({"metadata": {"resourceVersion": "1"}, "data": {"d": "4"}}));
    refused(
        "a patch of another resourceVersion",
        maps.patch("one", &params, &stale).await,
        409,
        "Conflict",
    )?;
    let strict = PatchParams::default().validation_strict();
    let unknown = Patch::Merge(json!({"dat": {}}));
    let status = refused(
        "an unknown field",
        maps.patch("one", &strict, &unknown).await,
        422,
        "Invalid",
    )?;
    holds(
        "its message names the field",
        status.message.contains("unknown field \"dat\""),
    )?;
    refused(
        "a patch of what is not there",
        maps.patch("two", &params, &merge).await,
        404,
        "NotFound",
    )?;
    let steps = json!([{"op": "test", "path": "/data/b", "value": "2"}, {"op": "remove", "path": "/data/b"}]);
    let steps: Patch<()> = Patch::Json(serde_json::from_value(steps)?);
    let stepped = maps.patch("one", &params, &steps).await?;
    equal(
        "data after a JSON patch",
        &stepped.data,
        &pairs(&[("c", "3")]),
    )?;
    refused(
        "a JSON patch whose test fails",
        maps.patch("one", &params, &steps).await,
        422,
        "Invalid",
    )?;
    let meta = maps
        .patch_metadata(
            "one",
            &params,
            &Patch::Merge(json!({"metadata": {"labels": {"l": "1"}}})),
        )
        .await?;
    equal(
        "a patch that is answered with metadata",
        meta.metadata.labels,
        pairs(&[("l", "1")]),
    )?;

    let deployments: Api<Deployment> = session.api();
    deployments
        .create(&PostParams::default(), &deployment("web", 2))
        .await?;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "main:2"}]}}}});
    let web = deployments
        .patch("web", &params, &Patch::Strategic(image))
        .await?;
    equal(
        "a change of spec is a new generation",
        web.metadata.generation,
        Some(2),
    )?;
    let containers = web.spec.template.spec.context("no template")?.containers;
    equal(
        "the image after a strategic merge patch",
        containers[0].image.as_deref(),
        Some("main:2"),
    )?;
    equal(
        "what else the container has",
        containers[0].image_pull_policy.as_deref(),
        Some("IfNotPresent"),
    )?;
    let status =
        json!({"status": {"replicas": 2, "observedGeneration": 2}, "spec": {"replicas": 9}});
    let web = deployments
        .patch_status("web", &params, &Patch::Merge(status))
        .await?;
    let replicas = (
        web.spec.replicas,
        web.status.and_then(|status| status.replicas),
    );
    equal(
        "a patch of the status leaves the spec",
        replicas,
        (Some(2), Some(2)),
    )?;
    let scale = deployments.get_scale("web").await?;
    let selector = scale.status.and_then(|status| status.selector);
    equal(
        "the selector of a scale",
        selector.as_deref(),
        Some("app=web"),
    )?;
    let scaled = deployments
        .patch_scale(
            "web",
            &params,
            &Patch::Merge(json!({"spec": {"replicas": 5}})),
        )
        .await?;
    equal(
        "replicas of the scale",
        scaled.spec.and_then(|spec| spec.replicas),
        Some(5),
    )?;
    let web = deployments.get("web").await?;
    equal("replicas of the deployment", web.spec.replicas, Some(5))
}

/// Writes of what others have changed.
pub(crate) async fn conflicts(session: &Session) -> Result<()> {
    let (maps, post) = (session.maps(), PostParams::default());
    let made = maps
        .create(&post, &config_map("one", &[], &[("a", "1")]))
        .await?;
    let mut changed = made.clone();
    changed.data = pairs(&[("a", "2")]);
    maps.replace("one", &post, &changed).await?;
    let status = refused(
        "replace what has changed since",
        maps.replace("one", &post, &changed).await,
        409,
        "Conflict",
    )?;
    equal(
        "the message",
        &*status.message,
        "Operation cannot be fulfilled on configmaps \"one\": the object has been modified; \
         please apply your changes to the latest version and try again",
    )?;
    let mut entry = maps
        .entry("one")
        .await?
        .and_modify(|one| one.data = pairs(&[("a", "3")]))
        .or_insert(ConfigMap::default);
    maps.patch(
        "one",
        &PatchParams::default(),
        &Patch::Merge(json!({"data": {"b": "1"}})),
    )
    .await?;
    match entry.commit(&post).await {
        Err(kube::api::entry::CommitError::Save(error)) => refused(
            "an entry that has changed since",
            Err::<(), _>(error),
            409,
            "Conflict",
        )?,
        other => bail!("an entry that has changed since: {other:?}, should be a conflict"),
    };
    let mut entry = maps
        .entry("two")
        .await?
        .or_insert(|| config_map("two", &[], &[]));
    entry.commit(&post).await?;
    entry.get_mut().data = pairs(&[("a", "1")]);
    entry.commit(&post).await?;
    equal(
        "an entry that is made and changed",
        maps.get("two").await?.data,
        pairs(&[("a", "1")]),
    )?;

    // Many writers: each reads, adds one, writes, and tries again at a conflict.
    const WRITERS: usize = 6;
    const ROUNDS: usize = 8;
    maps.create(&post, &config_map("sum", &[], &[("sum", "0")]))
        .await?;
    let add = async || -> Result<usize> {
        let mut conflicts = 0;
        loop {
            let mut sum = maps.get("sum").await?;
            let data = sum.data.as_mut().context("no data")?;
            let number: usize = data["sum"].parse()?;
            data.insert("sum".to_owned(), (number + 1).to_string());
            match maps.replace("sum", &post, &sum).await {
                Ok(_) => return Ok(conflicts),
                Err(kube::Error::Api(status)) if status.is_conflict() => conflicts += 1,
                Err(error) => return Err(anyhow!(error)),
            }
        }
    };
    let writer = async || -> Result<usize> {
        let mut conflicts = 0;
        for _ in 0..ROUNDS {
            conflicts += add().await?;
        }
        Ok(conflicts)
    };
    let writers = futures::future::try_join_all((0..WRITERS).map(|_| writer())).await?;
    holds(
        "writers of one object meet conflicts",
        writers.iter().sum::<usize>() > 0,
    )?;
    let sum = maps.get("sum").await?.data.context("no data")?;
    equal(
        "no addition is lost",
        &*sum["sum"],
        (WRITERS * ROUNDS).to_string(),
    )
}

/// Lists in pages on one revision.
pub(crate) async fn pages(session: &Session) -> Result<()> {
    let (maps, post) = (session.maps(), PostParams::default());
    for number in 0..7 {
        let parity = if number % 2 == 0 { "even" } else { "odd" };
        maps.create(
            &post,
            &config_map(&format!("m{number}"), &[("parity", parity)], &[]),
        )
        .await?;
    }
    let selected = ListParams::default().labels("parity").limit(3);
    let first = maps.list(&selected).await?;
    equal("how many remain", first.metadata.remaining_item_count, None)?;
    let whole = maps.list(&ListParams::default().limit(3)).await?;
    equal(
        "how many remain where nothing is selected",
        whole.metadata.remaining_item_count,
        Some(4),
    )?;
    maps.delete("m5", &DeleteParams::default()).await?;
    let mut sizes = Vec::new();
    let mut names = Vec::new();
    let mut page = first.clone();
    loop {
        sizes.push(page.items.len());
        names.extend(page.items.iter().map(ResourceExt::name_any));
        let Some(token) = page.metadata.continue_.filter(|token| !token.is_empty()) else {
            break;
        };
        page = maps.list(&selected.clone().continue_token(&token)).await?;
        let version = &page.metadata.resource_version;
        equal(
            "a page is of the first one's revision",
            version,
            &first.metadata.resource_version,
        )?;
    }
    equal("sizes of pages", sizes, [3, 3, 1])?;
    equal(
        "names in pages, one deleted since",
        names,
        ["m0", "m1", "m2", "m3", "m4", "m5", "m6"],
    )?;
    refused(
        "a bad token",
        maps.list(&selected.clone().continue_token("x")).await,
        400,
        "BadRequest",
    )?;
    refused(
        "a bad selector",
        maps.list(&ListParams::default().labels("a in b")).await,
        400,
        "BadRequest",
    )?;
    refused(
        "a field that cannot be selected by",
        maps.list(&ListParams::default().fields("data.a=1")).await,
        400,
        "BadRequest",
    )?;
    let version = first
        .metadata
        .resource_version
        .context("no resourceVersion")?;
    let then = ListParams::default()
        .labels("parity=odd")
        .at(&version)
        .matching(VersionMatch::Exact);
    let then = maps.list(&then).await?;
    equal(
        "a list at an older revision",
        then.iter().map(ResourceExt::name_any).collect::<Vec<_>>(),
        ["m1", "m3", "m5"],
    )?;
    let now = maps
        .list(
            &ListParams::default()
                .labels("parity notin (even),parity")
                .match_any(),
        )
        .await?;
    equal(
        "a list from now",
        now.iter().map(ResourceExt::name_any).collect::<Vec<_>>(),
        ["m1", "m3"],
    )?;
    let meta = maps
        .list_metadata(&ListParams::default().labels("parity=even").limit(10))
        .await?;
    equal("a list of metadata", meta.items.len(), 4)?;
    let everywhere: Api<ConfigMap> = Api::all(session.client.clone());
    let fields = format!("metadata.namespace={},metadata.name=m3", session.space);
    let found = everywhere
        .list(&ListParams::default().fields(&fields))
        .await?;
    equal("one of all namespaces", found.items.len(), 1)?;
    equal(
        "its namespace",
        found.items[0].meta().namespace.as_deref(),
        Some(&*session.space),
    )
}
