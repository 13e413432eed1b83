//! A controller of Deployments, which own ConfigMaps: for each it makes one, keeps it as it should be, says so in the
//! status and by an event, and leaves a trace when the Deployment goes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event as Reported;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Config as Concurrency};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::finalizer::{self, Event as Wanted, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{Controller, watcher};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::oneshot;

use crate::check::{becomes, equal, eventually, holds, in_time};
use crate::proxy::Proxy;
use crate::session::{Session, config_map, pairs};

const FINALIZER: &str = "example.com/leave-a-trace";
const CHILD: &str = "example.com/child";
const FAIL_ONCE: &str = "example.com/fail-once";

pub(crate) fn deployment(name: &str, replicas: i32) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "main:1"}]},
            },
        },
    }))
    .expect("it is a deployment")
}

/// Why a reconciliation failed.
#[derive(Debug)]
enum Trouble {
    Server(kube::Error),
    OnPurpose,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server(error) => write!(out, "{error}"),
            Self::OnPurpose => write!(out, "on purpose"),
        }
    }
}

impl std::error::Error for Trouble {}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Self {
        Self::Server(error)
    }
}

struct Operator {
    client: Client,
    recorder: Recorder,
    /// What was done, and what failed, as "verb name".
    done: Mutex<Vec<String>>,
}

impl Operator {
    fn note(&self, verb: &str, name: &str) {
        let mut done = self.done.lock().expect("nobody panics with it");
        done.push(format!("{verb} {name}"));
    }

    fn count(&self, line: &str) -> usize {
        let done = self.done.lock().expect("nobody panics with it");
        done.iter().filter(|one| *one == line).count()
    }
}

async fn reconcile(
    web: Arc<Deployment>,
    operator: Arc<Operator>,
) -> Result<Action, finalizer::Error<Trouble>> {
    let space = web.namespace().unwrap_or_default();
    let api: Api<Deployment> = Api::namespaced(operator.client.clone(), &space);
    finalizer(&api, FINALIZER, web, |wanted| async {
        match wanted {
            Wanted::Apply(web) => apply(&web, &api, &operator).await,
            Wanted::Cleanup(web) => clean_up(&web, &space, &operator).await,
        }
    })
    .await
}

/// What its ConfigMap should say.
fn wanted(web: &Deployment) -> Option<BTreeMap<String, String>> {
    let replicas = web.spec.replicas.unwrap_or_default();
    pairs(&[("replicas", &replicas.to_string())])
}

async fn apply(
    web: &Deployment,
    api: &Api<Deployment>,
    operator: &Operator,
) -> Result<Action, Trouble> {
    let name = web.name_any();
    operator.note("apply", &name);
    if web.annotations().contains_key(FAIL_ONCE) && operator.count(&format!("apply {name}")) == 1 {
        return Err(Trouble::OnPurpose);
    }
    let space = web.namespace().unwrap_or_default();
    let maps: Api<ConfigMap> = Api::namespaced(operator.client.clone(), &space);
    let data = wanted(web);
    match maps.get_opt(&name).await? {
        None => {
            let mut child = config_map(&name, &[], &[]);
            child.data = data;
            child.metadata.owner_references =
                web.controller_owner_ref(&()).map(|owner| vec![owner]);
            maps.create(&PostParams::default(), &child).await?;
            let event = Event {
                type_: EventType::Normal,
                reason: "Made".to_owned(),
                note: Some(format!("made ConfigMap {name}")),
                action: "Make".to_owned(),
                secondary: None,
            };
            operator
                .recorder
                .publish(&event, &web.object_ref(&()))
                .await?;
        }
        Some(child) if child.data != data => {
            let patch = Patch::Merge(json!({"data": data}));
            maps.patch(&name, &PatchParams::default(), &patch).await?;
        }
        Some(_) => {}
    }
    let generation = web.metadata.generation;
    // Of Deployments, changed annotations are a new generation: this one changes once.
    let annotation = json!({"metadata": {"annotations": {CHILD: name}}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(annotation))
        .await?;
    let replicas = web.spec.replicas;
    let status = json!({"status": {
        "observedGeneration": generation,
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": replicas,
        "availableReplicas": replicas,
        "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}],
    }});
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await?;
    Ok(Action::await_change())
}

async fn clean_up(web: &Deployment, space: &str, operator: &Operator) -> Result<Action, Trouble> {
    let name = web.name_any();
    operator.note("clean up", &name);
    let maps: Api<ConfigMap> = Api::namespaced(operator.client.clone(), space);
    let trace = config_map(&format!("{name}-was-here"), &[], &[]);
    match maps.create(&PostParams::default(), &trace).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        made => drop(made?),
    }
    Ok(Action::await_change())
}

fn after_trouble(
    web: Arc<Deployment>,
    error: &finalizer::Error<Trouble>,
    operator: Arc<Operator>,
) -> Action {
    match error {
        finalizer::Error::ApplyFailed(Trouble::OnPurpose) => {
            operator.note("fail on purpose", &web.name_any())
        }
        other => operator.note("fail", &format!("{}: {other}", web.name_any())),
    }
    Action::requeue(Duration::from_millis(100))
}

pub(crate) async fn controller() -> Result<()> {
    for (name, config) in [
        ("controller", watcher::Config::default()),
        ("streamed", watcher::Config::default().streaming_lists()),
    ] {
        println!(" {name}");
        let (session, proxy) = (Session::start(name).await?, Proxy::start().await?);
        let client = session.by_way_of(proxy.address).await?.client;
        let reporter = Reporter {
            controller: "example.com/maps-of-deployments".to_owned(),
            instance: Some("one".to_owned()),
        };
        let operator = Arc::new(Operator {
            recorder: Recorder::new(client.clone(), reporter),
            client: client.clone(),
            done: Mutex::default(),
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let run = Controller::new(
            Api::namespaced(client.clone(), &session.space),
            config.clone(),
        )
        .owns(Api::<ConfigMap>::namespaced(client, &session.space), config)
        .with_config(Concurrency::default().concurrency(2))
        .graceful_shutdown_on(async { drop(stopped.await) })
        .run(reconcile, after_trouble, operator.clone())
        .for_each(|_| async {});
        let run = tokio::spawn(run);
        works(&session, &proxy, &operator).await.with_context(|| {
            let done = operator.done.lock().expect("nobody panics with it");
            format!("the operator has done: {done:?}")
        })?;
        drop(stop);
        in_time("the controller ends when it is asked to", run).await??;
    }
    Ok(())
}

async fn works(session: &Session, proxy: &Proxy, operator: &Operator) -> Result<()> {
    let (webs, maps) = (session.api::<Deployment>(), session.maps());
    for (name, replicas) in [("a", 1), ("b", 2), ("c", 3)] {
        webs.create(&PostParams::default(), &deployment(name, replicas))
            .await?;
    }
    for name in ["a", "b", "c"] {
        let done = await_condition(webs.clone(), name, conditions::is_deployment_completed());
        let web = in_time("a deployment is said to be complete", done)
            .await??
            .context("none")?;
        equal("its finalizers", web.finalizers(), [FINALIZER])?;
        equal(
            "its annotation",
            web.annotations().get(CHILD).map(String::as_str),
            Some(name),
        )?;
        let status = web.status.clone().context("no status")?;
        holds(
            "its observed generation is not of the future",
            status.observed_generation <= web.metadata.generation,
        )?;
        equal(
            "its ready replicas",
            status.ready_replicas,
            web.spec.replicas,
        )?;
        let child = maps.get(name).await?;
        equal("what its child says", &child.data, &wanted(&web))?;
        equal(
            "the owner of its child",
            child.owner_references(),
            [web.controller_owner_ref(&()).context("no owner")?],
        )?;
    }

    let old = maps.get("a").await?;
    maps.delete("a", &DeleteParams::default()).await?;
    becomes("a deleted child comes again", async || {
        Ok(maps
            .get_opt("a")
            .await?
            .is_some_and(|new| new.uid() != old.uid()))
    })
    .await?;
    let wrong = Patch::Merge(json!({"data": {"replicas": "wrong"}}));
    maps.patch("b", &PatchParams::default(), &wrong).await?;
    becomes("a changed child is put right", async || {
        Ok(maps.get("b").await?.data == pairs(&[("replicas", "2")]))
    })
    .await?;

    reported(session).await?;

    proxy.close();
    let more = Patch::Merge(json!({"spec": {"replicas": 5}}));
    webs.patch_scale("c", &PatchParams::default(), &more)
        .await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    equal(
        "nothing is done while it is cut off",
        maps.get("c").await?.data,
        pairs(&[("replicas", "3")]),
    )?;
    proxy.open();
    becomes("what changed meanwhile is done after it", async || {
        let web = webs.get("c").await?;
        let ready = web.status.and_then(|status| status.ready_replicas);
        Ok(ready == Some(5) && maps.get("c").await?.data == pairs(&[("replicas", "5")]))
    })
    .await?;

    let mut unlucky = deployment("unlucky", 1);
    unlucky.metadata.annotations = pairs(&[(FAIL_ONCE, "yes")]);
    webs.create(&PostParams::default(), &unlucky).await?;
    becomes("what failed is tried again", async || {
        Ok(maps.get_opt("unlucky").await?.is_some())
    })
    .await?;
    equal(
        "failures on purpose",
        operator.count("fail on purpose unlucky"),
        1,
    )?;

    // Where it was cut off, other things failed.
    let refused = |line: &String| line.contains("failed to apply object: ApiError");
    holds("the server refused nothing", {
        let done = operator.done.lock().expect("nobody panics with it");
        !done.iter().any(refused)
    })?;
    deleted(session, operator).await
}

async fn reported(session: &Session) -> Result<()> {
    let events: Api<Reported> = session.api();
    let made = ListParams::default()
        .fields("reason=Made,reportingController=example.com/maps-of-deployments");
    // Of `a` it is a series: its child was made twice.
    let of_a = eventually("a series of equal events is one event", async || {
        let all = events.list(&made).await?.items;
        let is_of_a = |event: &Reported| {
            event.regarding.as_ref().and_then(|it| it.name.as_deref()) == Some("a")
                && event.series.is_some()
        };
        Ok(all.into_iter().find(is_of_a))
    })
    .await?;
    equal("its count", of_a.series.map(|series| series.count), Some(2))?;
    equal("its note", of_a.note.as_deref(), Some("made ConfigMap a"))?;
    let kind = of_a.regarding.and_then(|it| it.kind);
    equal(
        "the kind that it is about",
        kind.as_deref(),
        Some("Deployment"),
    )?;
    let all = events.list(&made).await?.items.len();
    equal("events, one for each deployment", all, 3)
}

async fn deleted(session: &Session, operator: &Operator) -> Result<()> {
    let (webs, maps) = (session.api::<Deployment>(), session.maps());
    for (name, how) in [
        ("a", DeleteParams::background()),
        ("b", DeleteParams::foreground()),
    ] {
        let going = webs.delete(name, &how).await?;
        let going = going.left().context("a Status, though it has finalizers")?;
        holds(
            "what has finalizers is answered with its deletionTimestamp",
            going.metadata.deletion_timestamp.is_some(),
        )?;
        let uid = going.uid().context("no uid")?;
        let gone = await_condition(webs.clone(), name, conditions::is_deleted(&uid));
        in_time("it is gone after the clean-up", gone).await??;
        holds(
            "it was cleaned up",
            operator.count(&format!("clean up {name}")) >= 1,
        )?;
        maps.get(&format!("{name}-was-here")).await?;
        becomes("its child goes, too", async || {
            Ok(maps.get_opt(name).await?.is_none())
        })
        .await?;
    }
    let orphan = webs
        .delete("c", &DeleteParams::orphan())
        .await?
        .left()
        .context("a Status")?;
    let uid = orphan.uid().context("no uid")?;
    let gone = await_condition(webs.clone(), "c", conditions::is_deleted(&uid));
    in_time("one that orphans its child is gone", gone).await??;
    equal(
        "owners of the orphan",
        maps.get("c").await?.owner_references().len(),
        0,
    )
}
