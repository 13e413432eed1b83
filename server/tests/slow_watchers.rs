//! A thousand watchers of a real node that stop reading: its memory, the others, and what they find when they read again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;

use std::time::Duration;

use client::{Client, Keys, Watch};
use node::Node;

const CONNECTIONS: usize = 10;
const WATCHERS: usize = 100;
const PUTS: usize = 1_000;
const VALUE: usize = 1_000;

/// What the node may take more with a thousand streams that wait: 64 MiB for all, and for each a few small responses
/// here and in its connection. Everything that they have to get is a gigabyte.
const BOUND: usize = 400 << 20;

fn resident(node: &Node) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<usize>().unwrap() << 10
}

/// Reads until all puts were seen, each once and in order.
async fn read_all(watch: &mut Watch) {
    let mut next = 0;
    while next < PUTS {
        let batch = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
        let batch = batch.unwrap_or_else(|_| panic!("nothing after {next}"));
        for event in batch.unwrap().unwrap().events {
            let kv = event.kv.unwrap();
            assert_eq!(&*kv.key, format!("w/{next:04}").as_bytes());
            assert_eq!(kv.value.len(), VALUE);
            next += 1;
        }
    }
    assert_eq!(next, PUTS);
}

#[tokio::test]
async fn a_thousand_watchers_that_do_not_read_cost_little_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    let connect = async || -> Client { client::connect(node.endpoint.clone()).await.unwrap() };
    let writer = connect().await;
    let mut reader = connect()
        .await
        .watch(Keys::prefix("w/"), 0.into())
        .await
        .unwrap();
    let mut silent = Vec::new();
    for connection in 0..CONNECTIONS {
        let client = connect().await;
        for number in 0..WATCHERS {
            // No two want the same, so no two share what waits for them.
            let keys = Keys::range("w/", format!("w0{connection}/{number}"));
            silent.push(client.watch(keys, 0.into()).await.unwrap());
        }
    }
    let before = resident(&node);
    let reading = tokio::spawn(async move { read_all(&mut reader).await });
    for number in 0..PUTS {
        let value = vec![b'v'; VALUE];
        writer.put(format!("w/{number:04}"), value).await.unwrap();
    }
    reading.await.unwrap();
    let more = resident(&node).saturating_sub(before);
    eprintln!("{} MiB more while a thousand watchers wait", more >> 20);
    assert!(more < BOUND, "{} MiB more", more >> 20);
    // All at once, because those of a connection share its window.
    let mut reading = tokio::task::JoinSet::new();
    for mut watch in silent {
        reading.spawn(async move { read_all(&mut watch).await });
    }
    while let Some(read) = reading.join_next().await {
        read.unwrap();
    }
}
