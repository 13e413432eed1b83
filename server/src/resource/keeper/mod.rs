//! What an API server does without being asked: the objects that must be there, namespaces that go, objects whose
//! owners are gone, and what is used of quotas. The member that leads does it; whoever leads next begins anew from what is stored.

mod bootstrap;
mod garbage;
mod graph;
mod namespaces;
mod quotas;
mod reached;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use machinery::status::Status;
use proto::etcd::mvccpb::Event;
use proto::etcd::mvccpb::event::EventType;
use tokio::time::Instant;

use self::graph::{Graph, Head, Task};
use super::Api;
use super::registry::end_of_prefix;
use crate::watch::{Create, KeyRange, Listener, Told};

/// Where all objects are.
const OBJECTS: &str = "/registry/";

/// Between two looks whether this member leads.
const LOOK: Duration = Duration::from_millis(50);

/// Before what could not be done is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Looks after the objects for as long as the node runs.
pub(crate) async fn run(api: Arc<Api>) {
    loop {
        if api.registry.node.status().is_leader
            && let Err(error) = lead(&api).await
        {
            tracing::warn!(
                error = error.message,
                "looking after the objects begins anew"
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Looks after the objects for as long as this member leads.
async fn lead(api: &Arc<Api>) -> Result<(), Status> {
    bootstrap::run(api).await?;
    tell_where(api).await;
    let registry = &api.registry;
    registry.barrier().await?;
    let view = registry.reader().view();
    let mut listener = Listener::new(
        registry.node.hub(),
        Create::plain(
            KeyRange::new(OBJECTS.as_bytes(), &end_of_prefix(OBJECTS)),
            view.revision + 1,
        ),
    );
    let (mut graph, mut tasks) = (Graph::default(), BTreeSet::new());
    for record in registry.all(OBJECTS)? {
        if let Some(head) = Head::read(record.value()) {
            graph.put(&String::from_utf8_lossy(record.key()), head, &mut tasks);
        }
    }
    let mut later = BTreeSet::new();
    let mut again = Instant::now() + AGAIN;
    let mut is_while = true;
    loop {
        if !registry.node.status().is_leader {
            return Ok(());
        }
        while let Some(task) = tasks.pop_first() {
            // Counting is long: but for the first time, once in a while for all that has happened.
            if let Task::Quota(key) = &task
                && !is_while
                && !graph.head(key).is_some_and(|head| head.is_uncounted)
            {
                later.insert(task);
                continue;
            }
            if !done(api, &graph, &task).await {
                later.insert(task);
            }
            // What the work itself changes is heard of first.
            if let Ok(told) = tokio::time::timeout(Duration::ZERO, listener.next()).await {
                match told {
                    Ok(told) => hear(&mut graph, told, &mut tasks)?,
                    Err(_) => return Ok(()),
                }
            }
        }
        is_while = false;
        tokio::select! {
            told = listener.next() => match told {
                Ok(told) => hear(&mut graph, told, &mut tasks)?,
                Err(_) => return Ok(()),
            },
            () = tokio::time::sleep_until(again) => {
                again = Instant::now() + AGAIN;
                tasks.append(&mut later);
                is_while = true;
                // Members come, go and move.
                tell_where(api).await;
            }
        }
    }
}

/// Writes where the members are. What fails is tried again a moment later, and keeps nothing else waiting.
async fn tell_where(api: &Api) {
    if let Err(error) = reached::run(api).await {
        tracing::warn!(
            error = error.message,
            "where default/kubernetes leads to could not be written; it is tried again"
        );
    }
}

fn hear(graph: &mut Graph, told: Told, tasks: &mut BTreeSet<Task>) -> Result<(), Status> {
    match told {
        Told::Events { events, .. } => {
            for event in &events {
                take(graph, event, tasks);
            }
            Ok(())
        }
        Told::Progress(_) => Ok(()),
        Told::Compacted(revision) => Err(super::error::too_old(revision - 1, revision)),
        Told::Ended => Err(super::error::broken()),
    }
}

fn take(graph: &mut Graph, event: &Event, tasks: &mut BTreeSet<Task>) {
    let Some(kv) = &event.kv else { return };
    let key = String::from_utf8_lossy(&kv.key);
    if event.r#type == EventType::Delete as i32 {
        graph.remove(&key, tasks);
    } else if let Some(head) = Head::read(&kv.value) {
        graph.put(&key, head, tasks);
    }
}

/// Does a task; false if it is to be done again.
async fn done(api: &Api, graph: &Graph, task: &Task) -> bool {
    let done = match task {
        Task::Namespace(key) => namespaces::look_after(api, graph, key).await,
        Task::Owned(key) => garbage::check(api, graph, key).await,
        Task::Owner(key) => garbage::finish(api, graph, key).await,
        Task::Quota(key) => quotas::count(api, graph, key).await,
    };
    match done {
        Ok(is_done) => is_done,
        Err(error) => {
            tracing::debug!(error = error.message, ?task, "to be tried again");
            false
        }
    }
}
