//! Has the crate `kube` do the work of an operator: `kube-rs-check [WORK]`, all works if none is named.
//!
//! KUBECONFIG, in the environment, is a path. Prints a line for each check that held, and exits with 0 if all did;
//! else explains what was not as expected.

mod check;
mod controller;
mod discovery;
mod objects;
mod proxy;
mod session;
mod watches;

use anyhow::{Context, Result, bail};
use session::Session;

const WORKS: [&str; 8] = [
    "objects",
    "patches",
    "conflicts",
    "pages",
    "discovery",
    "watchers",
    "cut",
    "controller",
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let mut works: Vec<&str> = asked.iter().map(String::as_str).collect();
    if works.is_empty() {
        works.extend(WORKS);
    }
    for name in works {
        println!("{name}");
        work(name).await.with_context(|| name.to_owned())?;
    }
    Ok(())
}

async fn work(name: &str) -> Result<()> {
    match name {
        "objects" => objects::objects(&Session::start(name).await?).await,
        "patches" => objects::patches(&Session::start(name).await?).await,
        "conflicts" => objects::conflicts(&Session::start(name).await?).await,
        "pages" => objects::pages(&Session::start(name).await?).await,
        "discovery" => discovery::discovery(&Session::start(name).await?).await,
        "watchers" => watches::watchers().await,
        "cut" => watches::cut().await,
        "controller" => controller::controller().await,
        other => bail!("there is no work {other}; there are {WORKS:?}"),
    }
}
