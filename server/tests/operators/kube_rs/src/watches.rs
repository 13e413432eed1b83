//! Watchers, reflectors, and waiting for conditions.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher::Config;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::check::{becomes, equal, holds, in_time};
use crate::proxy::Proxy;
use crate::session::{Session, config_map};

/// What a watcher told, and the cache that a reflector filled from it.
struct Followed<K: 'static + Resource<DynamicType = ()>> {
    told: Arc<Mutex<Vec<String>>>,
    store: Store<K>,
    task: tokio::task::JoinHandle<()>,
}

fn follow<K>(api: Api<K>, config: Config) -> Followed<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    K: Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let told = Arc::new(Mutex::new(Vec::new()));
    let lines = told.clone();
    let task = tokio::spawn(async move {
        let stream = watcher(api, config).default_backoff().reflect(writer);
        let mut stream = pin!(stream);
        while let Some(event) = stream.next().await {
            let line =
                event.map_or_else(|error| format!("error: {error}"), |event| event.to_string());
            lines.lock().expect("nobody panics with it").push(line);
        }
    });
    Followed { told, store, task }
}

impl<K: 'static + Resource<DynamicType = ()> + Clone> Followed<K> {
    /// Waits until it was told these lines, errors aside.
    async fn is_told(&self, what: &str, expected: &[&str]) -> Result<()> {
        let told = || {
            let told = self.told.lock().expect("nobody panics with it");
            let told = told.iter().filter(|line| !line.starts_with("error"));
            told.cloned().collect::<Vec<_>>()
        };
        let come = becomes(what, async || Ok(told() == expected)).await;
        come.with_context(|| format!("told was {:?}, expected {expected:?}", self.told))
    }

    /// The names in the cache.
    fn names(&self) -> Vec<String> {
        let names = self.store.state().into_iter();
        let mut names: Vec<String> = names.map(|one| one.name_any()).collect();
        names.sort();
        names
    }
}

impl<K: 'static + Resource<DynamicType = ()>> Drop for Followed<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn patch(session: &Session, name: &str, patch: serde_json::Value) -> Result<()> {
    session
        .maps()
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    Ok(())
}

async fn create(session: &Session, names: &[&str]) -> Result<()> {
    for name in names {
        let one = config_map(name, &[("app", "x")], &[]);
        session.maps().create(&PostParams::default(), &one).await?;
    }
    Ok(())
}

/// Each way to begin, for whole objects and for metadata; each over several connections, as the server ends them.
pub(crate) async fn watchers() -> Result<()> {
    let config = || Config::default().labels("app=x").timeout(1);
    println!(" list, then watch");
    let session = Session::start("list-watch").await?;
    through_life(&session, session.maps(), config().page_size(2)).await?;
    equal(
        "it lists three pages",
        session.sent(&["GET", "limit=2"]).len(),
        3,
    )?;
    println!(" list of any age, then watch");
    let session = Session::start("any-watch").await?;
    // In pages, the library would not ask for any age.
    let at_once = Config {
        page_size: None,
        ..config().any_semantic()
    };
    through_life(&session, session.maps(), at_once).await?;
    equal(
        "it lists from 0",
        session
            .sent(&["GET", "resourceVersion=0&resourceVersionMatch=NotOlderThan"])
            .len(),
        1,
    )?;
    println!(" streaming list");
    let session = Session::start("streaming").await?;
    through_life(&session, session.maps(), config().streaming_lists()).await?;
    equal(
        "it begins once",
        session.sent(&["sendInitialEvents=true"]).len(),
        1,
    )?;
    equal("it never lists", session.sent(&["GET", "limit="]).len(), 0)?;
    println!(" streaming list of metadata");
    let session = Session::start("metadata").await?;
    let api = session.api::<PartialObjectMeta<ConfigMap>>();
    through_life(&session, api, config().streaming_lists()).await?;
    println!(" conditions");
    conditions_hold(&Session::start("conditions").await?).await
}

async fn through_life<K>(session: &Session, api: Api<K>, config: Config) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    K: Send + Sync + 'static,
{
    create(session, &["a", "b", "c", "d", "e"]).await?;
    session
        .maps()
        .create(&PostParams::default(), &config_map("other", &[], &[]))
        .await?;
    let followed = follow(api, config);
    in_time("the cache is ready", followed.store.wait_until_ready()).await??;
    equal(
        "what it holds first",
        followed.names(),
        ["a", "b", "c", "d", "e"],
    )?;
    // A watch lasts for a second: what follows comes by several.
    let pause = || tokio::time::sleep(Duration::from_millis(700));
    patch(session, "a", json!({"data": {"k": "v"}})).await?;
    pause().await;
    session.maps().delete("b", &DeleteParams::default()).await?;
    create(session, &["f"]).await?;
    pause().await;
    // Out of the selector, and in again.
    patch(session, "a", json!({"metadata": {"labels": {"app": "y"}}})).await?;
    pause().await;
    patch(session, "a", json!({"metadata": {"labels": {"app": "x"}}})).await?;
    let first = [
        "Init",
        "InitApply(a)",
        "InitApply(b)",
        "InitApply(c)",
        "InitApply(d)",
        "InitApply(e)",
        "InitDone",
    ];
    let then = ["Apply(a)", "Delete(b)", "Apply(f)", "Delete(a)", "Apply(a)"];
    followed
        .is_told(
            "each change is told once, in order",
            &[&first[..], &then].concat(),
        )
        .await?;
    equal(
        "what the cache holds then",
        followed.names(),
        ["a", "c", "d", "e", "f"],
    )?;
    let version = session.maps().get("a").await?.resource_version();
    let key = ObjectRef::new("a").within(&session.space);
    let cached = followed.store.get(&key).context("no `a` in the cache")?;
    equal(
        "the resourceVersion in the cache",
        cached.resource_version(),
        version,
    )?;
    let watches = session.sent(&["watch=true"]).len();
    holds("the watch was begun several times", watches >= 3)
}

async fn conditions_hold(session: &Session) -> Result<()> {
    let maps = session.maps();
    let later = async {
        let pause = || tokio::time::sleep(Duration::from_millis(200));
        pause().await;
        create(session, &["one"]).await?;
        pause().await;
        patch(session, "one", json!({"data": {"done": "yes"}})).await?;
        pause().await;
        let uid = maps.get("one").await?.uid();
        maps.delete("one", &DeleteParams::default()).await?;
        anyhow::Ok(uid)
    };
    let waited = async {
        let made = await_condition(maps.clone(), "one", conditions::is_created());
        let made = in_time("an object is created", made)
            .await??
            .context("it is none")?;
        let is_done = |one: Option<&ConfigMap>| {
            one.and_then(|one| one.data.as_ref())
                .is_some_and(|data| data.contains_key("done"))
        };
        in_time(
            "it has changed",
            await_condition(maps.clone(), "one", is_done),
        )
        .await??;
        let uid = made.uid().context("no uid")?;
        let gone = await_condition(maps.clone(), "one", conditions::is_deleted(&uid));
        in_time("it is deleted", gone).await??;
        anyhow::Ok(Some(uid))
    };
    let (made, waited) = futures::future::try_join(later, waited).await?;
    equal("it was the one", made, waited)
}

/// Watches that go on after their connection was cut.
pub(crate) async fn cut() -> Result<()> {
    for (name, config) in [
        ("cut-list-watch", Config::default()),
        ("cut-streaming", Config::default().streaming_lists()),
    ] {
        println!(" {name}");
        let (session, proxy) = (Session::start(name).await?, Proxy::start().await?);
        create(&session, &["a", "b"]).await?;
        let distant = session.by_way_of(proxy.address).await?;
        let followed = follow(distant.maps(), config.labels("app=x"));
        in_time("the cache is ready", followed.store.wait_until_ready()).await??;
        patch(&session, "a", json!({"data": {"k": "1"}})).await?;
        let mut lines = vec![
            "Init",
            "InitApply(a)",
            "InitApply(b)",
            "InitDone",
            "Apply(a)",
        ];
        followed.is_told("a change comes", &lines).await?;

        proxy.close();
        patch(&session, "a", json!({"data": {"k": "2"}})).await?;
        create(&session, &["c"]).await?;
        session.maps().delete("b", &DeleteParams::default()).await?;
        becomes("the watcher sees that it is cut off", async || {
            let told = followed.told.lock().expect("nobody panics with it");
            Ok(told.iter().any(|line| line.starts_with("error")))
        })
        .await?;
        proxy.open();
        lines.extend(["Apply(a)", "Apply(c)", "Delete(b)"]);
        followed
            .is_told("what happened meanwhile comes after it", &lines)
            .await?;
        equal("what the cache holds", followed.names(), ["a", "c"])?;
        let begun =
            distant.sent(&["sendInitialEvents=true"]).len() + distant.sent(&["limit="]).len();
        equal("it began anew just once", begun, 1)?;
    }
    Ok(())
}
