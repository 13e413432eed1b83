//! Checks: each prints what held, or complains.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use kube::core::Status;

/// How long to wait for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn holds(what: &str, statement: bool) -> Result<()> {
    if !statement {
        bail!("this does not hold: {what}");
    }
    println!("  ok: {what}");
    Ok(())
}

pub(crate) fn equal<Found: PartialEq<Expected> + Debug, Expected: Debug>(
    what: &str,
    found: Found,
    expected: Expected,
) -> Result<()> {
    if found != expected {
        bail!("{what}: {found:?}, should be {expected:?}");
    }
    println!("  ok: {what}");
    Ok(())
}

/// Complains unless a call was answered by a Status with that code and reason; gives the Status.
pub(crate) fn refused<T: Debug>(
    what: &str,
    outcome: kube::Result<T>,
    code: u16,
    reason: &str,
) -> Result<Status> {
    match outcome {
        Ok(done) => bail!("{what}: was done ({done:?}), should be refused with {code} {reason}"),
        Err(kube::Error::Api(status)) => {
            if (status.code, &*status.reason) != (code, reason) {
                bail!("{what}: refused with {status:?}, should be with {code} {reason}");
            }
            println!("  ok: {what} is refused with {code} {reason}");
            Ok(*status)
        }
        Err(other) => bail!("{what}: {other:?}, should be refused with {code} {reason}"),
    }
}

/// Waits until there is something; gives it.
pub(crate) async fn eventually<T>(
    what: &str,
    mut find: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(found) = find().await? {
            println!("  ok: {what}");
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("did not come true in {PATIENCE:?}: {what}")
}

/// Waits until a statement is true.
pub(crate) async fn becomes(
    what: &str,
    mut statement: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    eventually(what, async || Ok(statement().await?.then_some(()))).await
}

/// Waits for what a future comes to.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(result) => {
            println!("  ok: {what}");
            Ok(result)
        }
        Err(_) => bail!("did not come in {PATIENCE:?}: {what}"),
    }
}
