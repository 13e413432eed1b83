//! What applications do, done with the client library `etcd-client`, which is not ours.
//!
//! `etcd-client-check <endpoint> <work>` ends with 0 if everything was as it should be, and else says what was not.

mod kv;
mod lease;
mod watch;

use anyhow::{Context, Result, bail};
use etcd_client::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().context("no endpoint")?;
    let work = arguments.next().context("no work")?;
    let client = Client::connect([endpoint], None).await?;
    match &*work {
        "kv" => kv::work(client).await,
        "watch" => watch::work(client).await,
        "lease" => lease::leases(client).await,
        "lock" => lease::locks(client).await,
        "election" => lease::elections(client).await,
        other => bail!("{other} is no work"),
    }
}
