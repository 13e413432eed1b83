//! A node whose database came from another member, and that was killed before its log had caught up with that.

#![cfg(feature = "rocksdb")]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod node;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use client::{Client, Keys, ListOptions};
use node::{Node, Signal};
use store::engine::StateEngine;
use store::engine::place::Place;
use store::engine::rocks::{RocksEngine, RocksOptions};
use store::snapshot::{Arrived, CHUNK, Received};
use store::{Machine, Options};

async fn connect(node: &Node) -> Client {
    client::connect(format!("http://{}", node.endpoint))
        .await
        .unwrap()
}

fn engine(folder: &Path) -> Arc<dyn StateEngine> {
    Arc::new(RocksEngine::open(folder, &RocksOptions::default()).unwrap())
}

/// The state of a stopped node, as another one received it.
fn send(from: &Path, to: &Place) -> Received {
    let source = engine(&from.join("member/db"));
    let checkpoint = source.checkpoint().unwrap();
    let manifest = checkpoint.manifest().clone();
    let mut receiver = store::snapshot::Receiver::begin(&to.fresh(), manifest, 0).unwrap();
    let mut buffer = vec![0; CHUNK];
    for (number, file) in checkpoint.manifest().files.iter().enumerate() {
        let mut offset = 0;
        while offset < file.size {
            let len = checkpoint.read(number, offset, &mut buffer).unwrap();
            receiver.write(number, offset, &buffer[..len]).unwrap();
            offset += len as u64;
        }
        let sum = checkpoint.checksum(number).unwrap();
        receiver.end_file(number, sum).unwrap();
    }
    receiver.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_behind_the_switch_starts_with_the_new_state_and_a_log_that_follows_it() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    // Of the same name and addresses, so of the same ids.
    let sender = Node::start(&one);
    let client = connect(&sender).await;
    for number in 0..50 {
        client.put(format!("k{number:02}"), "new").await.unwrap();
    }
    assert!(sender.terminate().success());
    let receiver = Node::start(&two);
    let client = connect(&receiver).await;
    client.put("k00", "old").await.unwrap();
    client.put("unknown elsewhere", "old").await.unwrap();
    assert!(receiver.terminate().success());

    let member = two.join("member");
    let place = Place::open(&member).unwrap();
    let mut received = send(&one, &place);
    let applied = received.name().applied;
    {
        let current = engine(&place.current().unwrap());
        let mut machine = Machine::open(current, Options::default()).unwrap();
        let Arrived::Database(arrived) = received.arrived() else {
            panic!("it is a database");
        };
        let arrived = arrived.to_owned();
        let switch = || {
            received.keep();
            place.switch(&arrived).unwrap();
            Ok(())
        };
        machine.move_to(engine(&arrived), applied, switch).unwrap();
    }
    drop(place);
    // Its log knows of three entries or so.
    fs::create_dir(member.join("checkpoint-3.tmp")).unwrap();

    let mut node = Node::start(&two);
    node.wait_for_log("begins anew behind it");
    assert!(!member.join("db").exists() && member.join("db-1").exists());
    assert!(!member.join("checkpoint-3.tmp").exists());
    let client = connect(&node).await;
    let all = client
        .list(Keys::all(), ListOptions::default())
        .await
        .unwrap();
    assert_eq!(all.kvs.len(), 50);
    assert!(all.kvs.iter().all(|kv| kv.value == "new"));
    let revision = client.put("k50", "after").await.unwrap();
    assert_eq!(revision, 52);
    node.signal(Signal::KILL);
    drop(node);

    let mut node = Node::start(&two);
    assert!(node.logged("begins anew behind it").is_empty());
    let client = connect(&node).await;
    let all = client
        .list(Keys::all(), ListOptions::default())
        .await
        .unwrap();
    assert_eq!(all.kvs.len(), 51);
    assert!(node.terminate().success());
    let dumped = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(["dump", "state", "--data-dir"])
        .arg(&two)
        .output()
        .unwrap();
    assert!(dumped.status.success(), "{dumped:?}");
    let text = String::from_utf8(dumped.stdout).unwrap();
    assert!(text.contains("k50"), "{text}");
}
