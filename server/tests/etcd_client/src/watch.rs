//! Watches: many on one stream, from now and from the past, filters, previous values, progress, cancellation, compaction.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{
    Client, Event, EventType, WatchFilterType, WatchOptions, WatchResponse, WatchStream,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

async fn next(stream: &mut WatchStream) -> Result<WatchResponse> {
    let next = tokio::time::timeout(PATIENCE, stream.message()).await;
    next.context("no response")??.context("the stream ended")
}

/// A watcher more on the stream.
async fn create(stream: &mut WatchStream, key: &str, options: WatchOptions) -> Result<i64> {
    stream.watch(key, Some(options)).await?;
    let created = next(stream).await?;
    ensure!(created.created() && !created.canceled(), "{created:?}");
    Ok(created.watch_id())
}

/// What some events of a watcher are, in short.
async fn told(stream: &mut WatchStream, watch_id: i64, count: usize) -> Result<Vec<String>> {
    let mut told = Vec::new();
    while told.len() < count {
        let response = next(stream).await?;
        ensure!(
            response.watch_id() == watch_id,
            "{response:?} is not for {watch_id}"
        );
        for event in response.events() {
            told.push(short(event)?);
        }
    }
    Ok(told)
}

fn short(event: &Event) -> Result<String> {
    let kv = event.kv().context("an event without a key")?;
    let was = match event.prev_kv() {
        Some(previous) => format!(", was {}", previous.value_str()?),
        None => String::new(),
    };
    Ok(match event.event_type() {
        EventType::Put => format!("{}={}{was}", kv.key_str()?, kv.value_str()?),
        EventType::Delete => format!("{} gone{was}", kv.key_str()?),
    })
}

pub(crate) async fn work(mut client: Client) -> Result<()> {
    let first = client.put("w/a", "1", None).await?;
    let first = first.header().context("no header")?.revision();
    client.put("w/b", "2", None).await?;

    // From the past, with what was there before; its id is the server's choice.
    let options = WatchOptions::new()
        .with_prefix()
        .with_prev_key()
        .with_start_revision(first);
    let mut stream = client.watch("w/", Some(options)).await?;
    let created = next(&mut stream).await?;
    ensure!(created.created() && created.watch_id() == 0, "{created:?}");
    ensure!(told(&mut stream, 0, 2).await? == ["w/a=1", "w/b=2"]);
    client.put("w/a", "3", None).await?;
    client.delete("w/b", None).await?;
    ensure!(told(&mut stream, 0, 2).await? == ["w/a=3, was 1", "w/b gone, was 2"]);

    // A second and a third one: with an id and a filter of their own, and for one key.
    let deletes = WatchOptions::new()
        .with_all_keys()
        .with_watch_id(7)
        .with_filters([WatchFilterType::NoPut]);
    ensure!(create(&mut stream, "", deletes).await? == 7);
    ensure!(create(&mut stream, "x", WatchOptions::new()).await? == 1);
    client.put("x", "4", None).await?;
    ensure!(told(&mut stream, 1, 1).await? == ["x=4"]);
    client.delete("x", None).await?;
    let mut both = Vec::new();
    for _ in 0..2 {
        let response = next(&mut stream).await?;
        ensure!(response.events().len() == 1 && short(&response.events()[0])? == "x gone");
        both.push(response.watch_id());
    }
    both.sort_unstable();
    ensure!(both == [1, 7]);

    // Refused, without harm to the stream.
    let twice = WatchOptions::new().with_watch_id(7);
    stream.watch("x", Some(twice)).await?;
    let refused = next(&mut stream).await?;
    let reason = "mvcc: duplicate watch ID provided on the WatchStream";
    ensure!(refused.created() && refused.canceled() && refused.watch_id() == -1);
    ensure!(refused.cancel_reason() == reason, "{refused:?}");

    // Progress is that of the store, and of all watchers together.
    let newest = client.put("elsewhere", "5", None).await?;
    let newest = newest.header().context("no header")?.revision();
    stream.request_progress().await?;
    let progress = next(&mut stream).await?;
    ensure!(progress.watch_id() == -1 && progress.events().is_empty());
    ensure!(progress.header().context("no header")?.revision() == newest);

    stream.cancel(0).await?;
    let canceled = next(&mut stream).await?;
    ensure!(canceled.watch_id() == 0 && canceled.canceled(), "{canceled:?}");
    client.put("w/a", "6", None).await?;
    client.put("x", "7", None).await?;
    ensure!(
        told(&mut stream, 1, 1).await? == ["x=7"],
        "nothing of what was canceled"
    );

    client.compact(newest, None).await?;
    create(
        &mut stream,
        "w/a",
        WatchOptions::new().with_start_revision(first),
    )
    .await?;
    let ended = next(&mut stream).await?;
    if !ended.canceled() || ended.compact_revision() != newest {
        bail!("{ended:?}");
    }
    Ok(())
}
