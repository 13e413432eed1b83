//! Prints every change under a prefix, and carries on where it was when the connection breaks.
//!
//! `cargo run -p holdfast-client --example follow -- 127.0.0.1:2379 config/`
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::env;
use std::time::Duration;

use client::{Error, EventType, Keys, WatchOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = env::args().skip(1);
    let endpoint = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:2379".to_owned());
    let prefix = arguments.next().unwrap_or_default();
    let client = client::connect(endpoint).await?;

    let present = client.get_prefix(prefix.clone()).await?;
    println!("{} keys at revision {}", present.count, present.revision);
    let mut start_revision = present.revision + 1;
    loop {
        match follow(&client, &prefix, start_revision).await {
            Err(Error::Interrupted {
                last_revision,
                source,
            }) => {
                eprintln!("interrupted: {}", source.message());
                start_revision = last_revision + 1;
            }
            Err(Error::NotDone { source } | Error::Unknown { source }) => {
                eprintln!("{}", source.message())
            }
            end => return end,
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn follow(client: &client::Client, prefix: &str, start_revision: i64) -> Result<(), Error> {
    let keys = Keys::prefix(prefix.to_owned());
    let mut watch = client
        .watch(keys, WatchOptions::from(start_revision))
        .await?;
    while let Some(batch) = watch.next().await? {
        for event in &batch.events {
            let kv = event
                .kv
                .as_ref()
                .ok_or(Error::Protocol("an event without a key"))?;
            let key = String::from_utf8_lossy(&kv.key);
            match event.r#type() {
                EventType::Put => {
                    println!("{} {key} = {}", kv.mod_revision, kv.value.escape_ascii())
                }
                EventType::Delete => println!("{} {key} deleted", kv.mod_revision),
            }
        }
    }
    Ok(())
}
