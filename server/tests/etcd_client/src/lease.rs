//! Leases, locks and elections, as applications hold them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{
    Client, Error, LeaseGrantOptions, LeaseTimeToLiveOptions, LockOptions, ProclaimOptions,
    PutOptions, ResignOptions,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn is_refused<T: std::fmt::Debug>(answer: Result<T, Error>, text: &str) -> Result<()> {
    match answer {
        Err(Error::GRpcStatus(status)) => ensure!(status.message() == text, "{status}"),
        other => anyhow::bail!("{other:?}"),
    }
    Ok(())
}

/// A lease: granted, attached, kept alive, looked at, listed, revoked, and one that runs out.
pub(crate) async fn leases(mut client: Client) -> Result<()> {
    let options = LeaseGrantOptions::new().with_id(77);
    let granted = client.lease_grant(60, Some(options.clone())).await?;
    ensure!(granted.id() == 77 && granted.ttl() == 60, "{granted:?}");
    is_refused(
        client.lease_grant(60, Some(options)).await,
        "etcdserver: lease already exists",
    )?;
    let chosen = client.lease_grant(30, None).await?;
    ensure!(chosen.id() > 0);
    for key in ["l/a", "l/b"] {
        client
            .put(key, "1", Some(PutOptions::new().with_lease(77)))
            .await?;
    }
    let looked = client
        .lease_time_to_live(77, Some(LeaseTimeToLiveOptions::new().with_keys()))
        .await?;
    ensure!(looked.granted_ttl() == 60 && (1..=60).contains(&looked.ttl()));
    let mut keys = looked.keys().to_vec();
    keys.sort_unstable();
    ensure!(keys == [b"l/a".to_vec(), b"l/b".to_vec()]);
    let all = client.leases().await?;
    ensure!(all.leases().iter().any(|lease| lease.id() == 77));

    let (mut keeper, mut kept) = client.lease_keep_alive(77).await?;
    for _ in 0..3 {
        keeper.keep_alive().await?;
        let answer = tokio::time::timeout(PATIENCE, kept.message()).await??;
        ensure!(answer.context("the stream ended")?.ttl() == 60);
    }
    client.lease_revoke(77).await?;
    ensure!(client.get("l/a", None).await?.kvs().is_empty());
    // A lease that is gone is no error: its time is 0 where it should be kept, and -1 where it is looked at.
    keeper.keep_alive().await?;
    let answer = tokio::time::timeout(PATIENCE, kept.message()).await??;
    ensure!(answer.context("the stream ended")?.ttl() == 0);
    ensure!(client.lease_time_to_live(77, None).await?.ttl() == -1);
    is_refused(
        client.lease_revoke(77).await,
        "etcdserver: requested lease not found",
    )?;
    is_refused(
        client
            .put("l/c", "1", Some(PutOptions::new().with_lease(77)))
            .await,
        "etcdserver: requested lease not found",
    )?;

    // The shortest there is: it takes its key along, and a watch tells.
    let short = client.lease_grant(1, None).await?;
    ensure!(short.ttl() >= 1);
    let mut watch = client.watch("l/short", None).await?;
    watch.message().await?.context("no watcher")?;
    let options = PutOptions::new().with_lease(short.id());
    client.put("l/short", "1", Some(options)).await?;
    let mut events = Vec::new();
    while events.len() < 2 {
        let response = tokio::time::timeout(PATIENCE, watch.message()).await??;
        events.extend(response.context("the stream ended")?.events().to_vec());
    }
    ensure!(events[1].event_type() == etcd_client::EventType::Delete);
    Ok(())
}

/// Two who want the same lock: one waits for the other.
pub(crate) async fn locks(mut client: Client) -> Result<()> {
    let lease = client.lease_grant(60, None).await?.id();
    let held = client
        .lock("lock", Some(LockOptions::new().with_lease(lease)))
        .await?;
    ensure!(held.key() == format!("lock/{lease:x}").as_bytes());
    // Who has it gets it again.
    let again = client
        .lock("lock", Some(LockOptions::new().with_lease(lease)))
        .await?;
    ensure!(again.key() == held.key());
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.lock("lock", None).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    ensure!(!waiting.is_finished(), "it is not free");
    client.unlock(held.key()).await?;
    let second = tokio::time::timeout(PATIENCE, waiting).await???;
    ensure!(second.key() != held.key());
    client.unlock(second.key()).await?;
    ensure!(client.get(second.key(), None).await?.kvs().is_empty());
    Ok(())
}

/// Two who want to lead: the second does when the first resigns.
pub(crate) async fn elections(mut client: Client) -> Result<()> {
    is_refused(client.leader("office").await, "election: no leader")?;
    let lease = client.lease_grant(60, None).await?.id();
    let first = client.campaign("office", "one", lease).await?;
    let first = first.leader().context("no key")?.clone();
    ensure!(first.name() == b"office" && first.lease() == lease);
    let mut observed = client.observe("office").await?;
    let mut value = async |expected: &str| -> Result<()> {
        let seen = tokio::time::timeout(PATIENCE, observed.message()).await??;
        let seen = seen.context("the stream ended")?;
        let seen = seen.kv().context("no key")?.value_str()?.to_owned();
        ensure!(seen == expected, "{seen}");
        Ok(())
    };
    value("one").await?;
    let options = ProclaimOptions::new().with_leader(first.clone());
    client.proclaim("uno", Some(options.clone())).await?;
    value("uno").await?;

    let mut other = client.clone();
    let waiting = tokio::spawn(async move {
        let lease = other.lease_grant(60, None).await?.id();
        other.campaign("office", "two", lease).await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    ensure!(!waiting.is_finished(), "there is one who leads");
    let resign = ResignOptions::new().with_leader(first);
    client.resign(Some(resign)).await?;
    let second = tokio::time::timeout(PATIENCE, waiting).await???;
    value("two").await?;
    is_refused(
        client.proclaim("late", Some(options)).await,
        "election: not leader",
    )?;
    let leads = client.leader("office").await?;
    ensure!(leads.kv().context("no key")?.value() == b"two");
    let second = second.leader().context("no key")?.clone();
    let resign = ResignOptions::new().with_leader(second);
    client.resign(Some(resign)).await?;
    Ok(())
}
